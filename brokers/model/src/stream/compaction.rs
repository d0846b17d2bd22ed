//! Compaction by key: of the messages of one key the latest stays, and a tombstone goes some time after what it has made obsolete.
//!
//! A message is *gone over* once it is stored, no open transaction stands before it and it is no longer in its lane's newest part: then what
//! had its key before is due to go. A pass begins when enough of the log is dirty, goes through all lanes in order and has the storage write
//! what stays once more, a chunk at a time; what is left out becomes a hole. Lanes share the storage's segments, so a pass leaves none out,
//! and a newest part that stands still is closed after a pass or two. Keys are known by their MD5, as Kafka's cleaner knows them. Leaves
//! out the bytes: sizes, keys' hashes and positions are all that is looked at.

use std::collections::{BTreeMap, VecDeque};

use super::Stream;
use super::lane::Lane;
use crate::batch::{LaneId, Token};
use crate::journal::{Keyed, LaneJournal};
use crate::machine::{Effects, Write};
use crate::shard::hash_range::hash_of;
use crate::time::{Span, Time};

/// When and what is compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompactionRules {
    /// A pass begins when more than so many thousandths of the log's bytes are dirty.
    pub(crate) min_dirty_permille: u32,
    /// How long a tombstone stays after the first pass that finds it.
    pub(crate) delete_retention: Span,
    /// A lane's newest part is closed when it has so many bytes; at least 1.
    pub(crate) active_bytes: u64,
    /// How many keys are known, all lanes together.
    pub(crate) max_keys: usize,
    /// About how many bytes a chunk copies at most, save that one message is always copied.
    pub(crate) chunk_bytes: u64,
    /// How many messages a chunk copies at most; at least 1.
    pub(crate) chunk_messages: u64,
    /// How long after a chunk the next one comes: others have the storage in between. Not zero.
    pub(crate) pace: Span,
}

/// A message that was appended and not gone over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    position: u64,
    /// None without a key: from before the log was compacted.
    key: Option<u128>,
    bytes: u32,
    is_tombstone: bool,
    /// Its storage failed, or it was taken back.
    is_gone: bool,
}

/// A lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Keys {
    fresh: VecDeque<Note>,
    /// Positions below are not in the newest part.
    closed: u64,
    active_bytes: u64,
    /// How many passes had begun when the newest part did.
    active_since: u64,
    /// Positions below were gone over.
    over: u64,
    /// Where a key's latest message stands, and its bytes.
    latest: BTreeMap<u128, (u64, u32)>,
    /// Tombstones among them: the key, and when it may go, once a pass has found it.
    tombstones: BTreeMap<u64, (u128, Option<Time>)>,
    /// What the next pass leaves out.
    dead: Vec<u64>,
    /// Bytes of what was gone over and stays.
    live: u64,
    /// A key was not taken up, so that an older message of it may stand anywhere: no tombstone may go.
    overflowed: bool,
}

/// A lane that a pass has still to go through.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    lane: u32,
    from: u64,
    to: u64,
    /// What is left out, in order.
    dead: Vec<u64>,
}

/// What a stream knows of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compaction {
    rules: CompactionRules,
    lanes: Vec<Keys>,
    /// Keys in all lanes.
    known: usize,
    /// Bytes that the last pass has left, and those gone over since.
    clean: u64,
    dirty: u64,
    /// Messages that the next pass leaves out.
    dead: usize,
    passes: u64,
    /// The storage has no room: the next pass ends all newest parts.
    pressed: bool,
    /// The pass that is under way: lanes, the first one in hand.
    pass: VecDeque<Due>,
    /// When the next chunk is due.
    due: Time,
}

impl Compaction {
    pub(crate) fn new(rules: CompactionRules) -> Self {
        let (lanes, pass) = (Vec::new(), VecDeque::new());
        Self { rules, lanes, known: 0, clean: 0, dirty: 0, dead: 0, passes: 0, pressed: false, pass, due: Time::NEVER }
    }

    pub(super) fn due(&self) -> Time {
        self.due
    }

    fn lane(&mut self, lane: u32) -> &mut Keys {
        let at = lane as usize;
        if at >= self.lanes.len() {
            self.lanes.resize_with(at + 1, Keys::default);
        }
        &mut self.lanes[at]
    }

    fn note(&mut self, lane: u32, note: Note) {
        let (passes, active_bytes) = (self.passes, self.rules.active_bytes);
        let keys = self.lane(lane);
        if keys.active_bytes == 0 {
            keys.active_since = passes;
        }
        keys.active_bytes += u64::from(note.bytes);
        if keys.active_bytes >= active_bytes {
            (keys.closed, keys.active_bytes) = (note.position + 1, 0);
        }
        keys.fresh.push_back(note);
    }

    /// What stands at these positions counts for nothing: its storage failed, or it was taken back.
    pub(super) fn gone(&mut self, lane: u32, from: u64, to: u64) {
        let fresh = &mut self.lane(lane).fresh;
        let at = fresh.partition_point(|note| note.position < from);
        fresh.iter_mut().skip(at).take_while(|note| note.position < to).for_each(|note| note.is_gone = true);
    }

    /// Goes over what may be, below `settled`: everything there is stored, and no open transaction stands before it.
    fn go_over(&mut self, lane: u32, settled: u64) {
        self.lane(lane);
        let (room, keys) = (self.rules.max_keys.saturating_sub(self.known), &mut self.lanes[lane as usize]);
        let (mut new, upto, dead) = (0, keys.closed.min(settled), keys.dead.len());
        while let Some(note) = keys.fresh.front().copied().filter(|note| note.position < upto) {
            keys.fresh.pop_front();
            self.dirty += u64::from(note.bytes);
            match note.key.filter(|_| !note.is_gone) {
                Some(key) => new += usize::from(keys.take(key, note, new < room)),
                None => keys.dead.push(note.position),
            }
        }
        keys.over = keys.over.max(upto);
        self.dead += keys.dead.len() - dead;
        self.known += new;
    }

    /// Whether enough is dirty, or as much is due to go as keys may be known.
    fn is_dirty(&self) -> bool {
        let share = u128::from(self.dirty) * 1_000;
        let least = u128::from(self.rules.min_dirty_permille) * u128::from(self.clean + self.dirty);
        self.dirty > 0 && (share > least || self.dead >= self.rules.max_keys)
    }

    /// Says when to go on: soon, where a pass is under way or enough is dirty.
    fn plan(&mut self, now: Time) {
        if self.due == Time::NEVER && (!self.pass.is_empty() || self.is_dirty()) {
            self.due = now + self.rules.pace;
        }
    }

    /// Has a pass begin soon where there is anything that none has looked at, whatever the ratio.
    fn press(&mut self, now: Time) {
        let is_idle = self.due == Time::NEVER && self.pass.is_empty();
        if is_idle && (self.dirty > 0 || self.lanes.iter().any(|keys| keys.active_bytes > 0)) {
            self.pressed = true;
            self.due = now + self.rules.pace;
        }
    }

    fn begin(&mut self, now: Time, settled: impl Fn(u32) -> u64) {
        let (passes, pressed) = (self.passes + 1, std::mem::take(&mut self.pressed));
        for lane in 0..self.lanes.len() as u32 {
            let keys = &mut self.lanes[lane as usize];
            if keys.active_bytes > 0 && (pressed || keys.active_since + 2 <= passes) {
                (keys.closed, keys.active_bytes) = (keys.fresh.back().map_or(0, |note| note.position + 1), 0);
            }
            self.go_over(lane, settled(lane));
            let keys = &mut self.lanes[lane as usize];
            self.known -= keys.let_tombstones_go(now, self.rules.delete_retention);
            let mut dead = std::mem::take(&mut keys.dead);
            dead.sort_unstable();
            if keys.over > 0 {
                self.pass.push_back(Due { lane, from: 0, to: keys.over, dead });
            }
        }
        if !self.pass.is_empty() {
            // Where all that was dirty is gone with its channel, there was no pass, and nobody's newest part stood still in it.
            self.passes = passes;
        }
        self.clean = self.lanes.iter().map(|keys| keys.live).sum();
        (self.dirty, self.dead) = (0, 0);
    }

    /// Does the next chunk.
    fn chunk(&mut self, lanes: &mut [Lane], out: &mut Effects) {
        let (mut messages, mut bytes) = (self.rules.chunk_messages, self.rules.chunk_bytes);
        while messages > 0
            && bytes > 0
            && let Some(due) = self.pass.front_mut()
        {
            let lane = &mut lanes[due.lane as usize];
            if due.from < due.to && lane.start < due.to {
                let (upto, kept) = due.chunk(lane, &mut messages, &mut bytes);
                lane.keep_only(due.from, upto, &kept);
                out.writes.push(Write::Compact { lane: LaneId(due.lane), from: due.from, to: upto, kept });
                due.from = upto;
            } else {
                self.pass.pop_front();
            }
        }
    }

    /// Nothing of the lane is needed any longer.
    pub(super) fn forget(&mut self, lane: u32) {
        let gone = std::mem::take(self.lane(lane));
        self.known -= gone.latest.len();
        self.dead -= gone.dead.len();
        self.clean = self.clean.saturating_sub(gone.live);
    }

    /// A lane that a restart found: all of it is gone over, up to `end`. What is provisional was taken back.
    pub(super) fn restore(&mut self, lane: u32, journal: &LaneJournal, now: Time) {
        let mut copied = 0;
        let provisional = |position| {
            let at = journal.provisional().partition_point(|&(_, to)| to <= position);
            journal.provisional().get(at).is_some_and(|&(from, _)| from <= position)
        };
        for (&position, &Keyed { key, bytes, is_tombstone, is_copy, .. }) in journal.keyed() {
            copied += if is_copy { u64::from(bytes) } else { 0 };
            self.note(lane, Note { position, key, bytes, is_tombstone, is_gone: provisional(position) });
        }
        let keys = self.lane(lane);
        (keys.closed, keys.active_bytes) = (journal.end(), 0);
        self.go_over(lane, journal.end());
        self.dirty = self.dirty.saturating_sub(copied);
        self.clean += copied;
        self.plan(now);
    }
}

impl Keys {
    /// The next message of a key; what had the key before is to go. A new one is taken up if there is `room`; returns whether it was.
    fn take(&mut self, key: u128, note: Note, room: bool) -> bool {
        let Note { position, bytes, is_tombstone, .. } = note;
        self.live += u64::from(bytes);
        let known = self.latest.get_mut(&key);
        let is_new = known.is_none();
        if let Some(latest) = known {
            let (old, old_bytes) = std::mem::replace(latest, (position, bytes));
            self.live -= u64::from(old_bytes);
            self.tombstones.remove(&old);
            self.dead.push(old);
        } else if room {
            self.latest.insert(key, (position, bytes));
        } else {
            self.overflowed = true;
            return false;
        }
        if is_tombstone {
            self.tombstones.insert(position, (key, None));
        }
        is_new
    }

    /// Tombstones that a pass has found long ago go, and of others it is noted; returns how many keys are not known any longer.
    fn let_tombstones_go(&mut self, now: Time, retention: Span) -> usize {
        let before = self.latest.len();
        let Self { tombstones, latest, dead, live, overflowed, .. } = self;
        tombstones.retain(|&position, (key, goes)| match *goes {
            Some(at) if at <= now && !*overflowed => {
                let gone = latest.remove(key);
                *live -= gone.map_or(0, |(_, bytes)| u64::from(bytes));
                dead.push(position);
                false
            }
            Some(_) => true,
            None => {
                *goes = Some(now + retention);
                true
            }
        });
        before - latest.len()
    }
}

impl Due {
    /// What is kept from its beginning on, and how far that goes.
    fn chunk(&self, lane: &Lane, messages: &mut u64, bytes: &mut u64) -> (u64, Vec<(u64, u32)>) {
        let mut kept: Vec<(u64, u32)> = Vec::new();
        let mut dead = &self.dead[self.dead.partition_point(|&position| position < self.from)..];
        let mut next = self.from;
        loop {
            let (from, end) = lane.run(next);
            let end = end.min(self.to);
            if from >= end {
                return (self.to, kept);
            }
            for position in from..end {
                // What stands in a hole is passed over with it.
                dead = &dead[dead.iter().take_while(|&&at| at < position).count()..];
                if dead.first() == Some(&position) {
                    continue;
                }
                if *messages == 0 || *bytes == 0 {
                    return (position, kept);
                }
                *messages -= 1;
                *bytes = bytes.saturating_sub(lane.bytes_before(position + 1) - lane.bytes_before(position));
                match kept.last_mut() {
                    Some((first, count)) if *first + u64::from(*count) == position => *count += 1,
                    Some(_) | None => kept.push((position, 1)),
                }
            }
            next = end;
        }
    }
}

impl Stream {
    /// Appends message `index` of the batch in hand, `bytes` long, to a lane that may be compacted.
    #[expect(clippy::too_many_arguments, reason = "as `append`, and what its key is")]
    pub(crate) fn append_keyed(
        &mut self,
        now: Time,
        lane: u32,
        index: u32,
        token: Token,
        bytes: u32,
        (key, is_tombstone): (&[u8], bool),
        out: &mut Effects,
    ) {
        let position = self.lanes[lane as usize].end;
        self.append(now, lane, index, token, bytes, out);
        if let Some(compaction) = &mut self.compaction {
            let note = Note { position, key: Some(hash_of(key)), bytes, is_tombstone, is_gone: false };
            compaction.note(lane, note);
        }
    }

    /// Up to where everything of a lane is stored and no transaction is open.
    fn settled(&self, lane: u32) -> u64 {
        let open = self.transactions.values().filter_map(|open| open.begins_in(lane));
        open.min().map_or(self.lanes[lane as usize].readable, |first| first.min(self.lanes[lane as usize].readable))
    }

    /// More of these lanes may be gone over.
    pub(super) fn note_settled(&mut self, now: Time, touched: &[u32]) {
        let Some(mut compaction) = self.compaction.take() else { return };
        for &lane in touched {
            compaction.go_over(lane, self.settled(lane));
        }
        compaction.plan(now);
        self.compaction = Some(compaction);
    }

    /// The storage has no room for what is published.
    pub(crate) fn press(&mut self, now: Time) {
        if let Some(compaction) = &mut self.compaction {
            compaction.press(now);
        }
    }

    /// Does what is due of a pass.
    pub(super) fn compact(&mut self, now: Time, out: &mut Effects) {
        let Some(mut compaction) = self.compaction.take_if(|compaction| compaction.due <= now) else { return };
        if compaction.pass.is_empty() {
            compaction.begin(now, |lane| self.settled(lane));
        }
        compaction.chunk(&mut self.lanes, out);
        compaction.due = Time::NEVER;
        compaction.plan(now);
        self.compaction = Some(compaction);
    }
}
