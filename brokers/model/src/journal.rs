//! What a journal says after a restart, gathered entry by entry; every model restores itself from it.
//!
//! Entries are told in the order in which they were written. A journal whose oldest segments were used again begins in the middle: a
//! message may come before the channel that it belongs to, a channel and a committed position come again in each segment, and of
//! what was trimmed only numbers are left. Positions that are missing in between were lost in a write that failed; they are
//! holes. Leaves out the messages' bytes, which stay with the storage, and what a model makes of it all.

mod keyed;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::keyed::Keyed;
use self::keyed::KeyedLane;
use crate::batch::{ChannelId, LaneId};
use crate::identity::{Identity, NamedMessage, NamedMessages};
use crate::machine::{ChannelRecord, Effects, Record, ReshapeRecord, Write};
use crate::time::Time;

/// The most channels and the most lanes that a journal is believed to have: a number beyond is damage, not data.
const NUMBERS_MAX: u32 = 1 << 24;
/// Positions end here, likewise.
const POSITIONS_MAX: u64 = 1 << 62;

/// Why a model can't be restored from a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A lane's positions do not rise.
    #[error(
        "lane {lane} has position {position} where at least {end} is due: the journal contradicts itself; restore the folder from a copy"
    )]
    Position {
        /// The lane.
        lane: u32,
        /// The position that was read.
        position: u64,
        /// The least that could follow.
        end: u64,
    },
    /// Two records say different things of a channel, or of whose a lane is.
    #[error("channel {0} does not fit what else the journal says of it and its lanes; restore the folder from a copy")]
    Channel(u32),
    /// Lanes were split or merged, and the model has no such thing.
    #[error(
        "lanes of channel {0} were split or merged, which this backend can't: open the folder with the backend that wrote it"
    )]
    Reshaped(u32),
    /// A lane was compacted, and the model has no such thing.
    #[error(
        "lane {0} was compacted, which this backend does not do: open the folder with `cleanup=compact`, as it was written"
    )]
    Compacted(u32),
    /// A number that no run gives out.
    #[error("number {0} of a channel or lane is beyond what any run gives out; restore the folder from a copy")]
    Number(u32),
    /// The contract asks for one order of all messages, and a channel has several lanes.
    #[error(
        "channel `{name}` has {lanes} lanes, and a total order needs one; open the folder under the contract that it was written under"
    )]
    TotalOrder {
        /// The channel's name.
        name: String,
        /// How many lanes it has.
        lanes: u32,
    },
}

/// A stretch of a lane that was written at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// When.
    pub(crate) time: Time,
    /// Its first position.
    pub(crate) position: u64,
    /// The bytes of the lane's messages before it, as far as the journal holds them.
    pub(crate) bytes: u64,
}

/// What a group is done with in a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Everything below.
    pub(crate) committed: u64,
    /// And these above.
    pub(crate) settled: BTreeSet<u64>,
}

/// A lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaneJournal {
    /// The first position that is held, `end` when none is.
    first: u64,
    /// The next position to be given out.
    end: u64,
    /// Whether a message was read.
    begun: bool,
    /// Whether messages of it are gone that nobody needed.
    cut: bool,
    /// Positions that were given out and are not held, in order, as half-open ranges. Those below `first` do not count.
    holes: Vec<(u64, u64)>,
    /// One for each time at which it was written, in order.
    pub(crate) written: Vec<Written>,
    /// Bytes of all its messages, keys and headers included.
    pub(crate) bytes: u64,
    groups: BTreeMap<u32, Done>,
    /// Messages of transactions that did not end, as half-open ranges in order.
    provisional: Vec<(u64, u64)>,
    /// Of messages with a key or headers, where those are kept: the position, when it was written, where in `bytes_said` they stand, and how
    /// long the key and the headers are.
    said: Vec<(u64, Time, usize, u16, u16)>,
    bytes_said: Vec<u8>,
    /// Every message by itself, where keys are kept.
    keyed: KeyedLane,
}

impl LaneJournal {
    /// What messages that are held said of themselves: position, when it was written, key and headers. Those with neither are among them
    /// when `all` says so.
    pub(crate) fn said(&self, all: bool) -> impl Iterator<Item = (u64, Time, &[u8], &[u8])> + '_ {
        let said = self.said.iter().filter(|said| said.0 >= self.first);
        let mut said = said
            .map(|&(position, written, at, key, headers)| {
                let headers_at = at + usize::from(key);
                let end = headers_at + usize::from(headers);
                (position, written, &self.bytes_said[at..headers_at], &self.bytes_said[headers_at..end])
            })
            .peekable();
        // No group has this place: nobody is done with anything.
        let mut held = self.open(u32::MAX, 0, self.end);
        std::iter::from_fn(move || {
            if !all {
                return said.next();
            }
            let position = held.next()?;
            said.next_if(|said| said.0 == position).or_else(|| Some((position, self.written_at(position), &[], &[])))
        })
    }

    fn written_at(&self, position: u64) -> Time {
        let after = self.written.partition_point(|written| written.position <= position);
        after.checked_sub(1).map_or(Time::ZERO, |at| self.written[at].time)
    }

    /// Positions below `to` were given out.
    fn reach(&mut self, to: u64) {
        if to <= self.end {
            return;
        }
        if self.begun {
            self.holes.push((self.end, to));
        } else {
            self.first = to;
        }
        self.end = to;
    }

    fn message(&mut self, position: u64, bytes: u32, written: Time) {
        self.reach(position);
        self.begun = true;
        self.end = position + 1;
        if self.written.last().is_none_or(|last| last.time != written) {
            self.written.push(Written { time: written, position, bytes: self.bytes });
        }
        self.bytes += u64::from(bytes);
    }

    fn trim(&mut self, below: u64) {
        self.reach(below);
        self.cut |= below > 0;
        self.first = self.first.max(below);
    }

    fn release(&mut self, from: u64, to: u64) {
        let kept = |&(first, end): &(u64, u64)| [(first, end.min(from)), (first.max(to), end)];
        self.provisional = self.provisional.iter().flat_map(kept).filter(|(first, end)| first < end).collect();
    }

    fn moved(&mut self, group: u32, position: u64) {
        self.reach(position);
        let done = self.groups.entry(group).or_default();
        if position > done.committed {
            done.committed = position;
            done.settled = done.settled.split_off(&position);
        }
    }

    /// Messages of transactions of which no end was read, in order, as half-open ranges.
    pub(crate) fn provisional(&self) -> &[(u64, u64)] {
        &self.provisional
    }

    /// Whether every message that was ever stored is told.
    pub(crate) fn is_whole(&self) -> bool {
        !self.cut
    }

    /// Whether a message is one of those.
    pub(crate) fn is_provisional(&self, position: u64) -> bool {
        let after = self.provisional.partition_point(|&(_, to)| to <= position);
        self.provisional.get(after).is_some_and(|&(from, _)| from <= position)
    }

    /// The first position that is held, [`end`](Self::end) when none is.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The next position to be given out.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Positions from the first one held on that were given out and are not held, in order, as half-open ranges.
    pub(crate) fn holes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let above = self.holes.iter().filter(|&&(_, to)| to > self.first);
        above.map(|&(from, to)| (from.max(self.first), to))
    }

    /// What the group of that place is done with; nothing, if the journal does not say.
    pub(crate) fn done(&self, group: u32) -> Option<&Done> {
        self.groups.get(&group)
    }

    /// Whether a position that is held is one that the group is not done with.
    pub(crate) fn is_open(&self, group: u32, position: u64) -> bool {
        self.groups.get(&group).is_none_or(|done| position >= done.committed && !done.settled.contains(&position))
    }

    /// The positions from `from` on that are held and that the group is not done with, in order.
    pub(crate) fn open(&self, group: u32, from: u64, to: u64) -> impl Iterator<Item = u64> + '_ {
        let from = from.max(self.first).max(self.groups.get(&group).map_or(0, |done| done.committed));
        let mut holes = self.holes().peekable();
        (from..to.min(self.end)).filter(move |position| {
            while holes.peek().is_some_and(|&(_, end)| end <= *position) {
                holes.next();
            }
            let missing = holes.peek().is_some_and(|&(start, _)| start <= *position);
            !missing && self.is_open(group, *position)
        })
    }
}

/// Lanes that were made at once.
struct MadeLanes {
    numbers: std::ops::Range<u32>,
    channel: u32,
    /// What made them, if not the channel's own making.
    reshape: Option<ReshapeRecord>,
}

/// Gathers the records of a transaction's end, of which all count or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Together {
    parts: Vec<Record>,
    due: u32,
}

impl Together {
    /// Takes the next record of a journal; returns the parts with the last of them, and nothing before. A part whose beginning is not there
    /// belongs to nothing, and a beginning ends what was broken off before it.
    pub fn add(&mut self, record: &Record) -> Vec<Record> {
        if let Record::Together { parts } = record {
            self.parts.clear();
            self.due = *parts;
        } else if self.due > 0 && matches!(record, Record::Released { .. } | Record::Moved { .. }) {
            self.parts.push(record.clone());
            if self.parts.len() == self.due as usize {
                self.due = 0;
                return std::mem::take(&mut self.parts);
            }
        }
        Vec::new()
    }
}

/// What a journal holds. See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// None where a channel is gone.
    channels: BTreeMap<u32, Option<ChannelRecord>>,
    lanes: BTreeMap<u32, LaneJournal>,
    /// Splits and merges, by the first new lane.
    reshapes: BTreeMap<u32, ReshapeRecord>,
    /// How many channels and lanes were given out at least.
    given_out: (u32, u32),
    latest: Time,
    together: Together,
    /// Whether keys and headers are kept.
    keeps_said: bool,
    /// Messages with an identity, where those are kept.
    named: Option<NamedMessages>,
    /// Whether each message is kept by itself, with its key's hash.
    keeps_keys: bool,
    /// The first contradiction that was read.
    error: Option<JournalError>,
}

impl Journal {
    /// A message of `bytes` bytes, key and headers included, stands at `position` of `lane`; it was written at `written`.
    pub fn message(&mut self, lane: LaneId, position: u64, bytes: u32, written: Time) {
        self.latest = self.latest.max(written);
        let entry = self.lanes.entry(lane.0).or_default();
        if position < entry.end || position >= POSITIONS_MAX {
            let error = JournalError::Position { lane: lane.0, position, end: entry.end };
            self.error.get_or_insert(error);
            return;
        }
        entry.message(position, bytes, written);
        if self.keeps_keys {
            entry.keyed.message(position, bytes, written);
        }
    }

    /// The message that was told last is one of a transaction.
    pub fn provisional(&mut self, lane: LaneId, position: u64) {
        let entry = self.lanes.entry(lane.0).or_default();
        match entry.provisional.last_mut() {
            Some((_, end)) if *end == position => *end += 1,
            Some(_) | None => entry.provisional.push((position, position + 1)),
        }
    }

    /// With the last part of what belongs together, all of them count.
    fn parts(&mut self, record: &Record) {
        for part in self.together.add(record) {
            if let Record::Released { lane, position, count } = part {
                self.lanes.entry(lane.0).or_default().release(position, position.saturating_add(count.into()));
            } else if let Record::Moved { lane, group, position } = part {
                self.lanes.entry(lane.0).or_default().moved(group, position);
            }
        }
    }

    /// From now on the keys and headers of messages are kept.
    pub fn keep_said(&mut self) {
        self.keeps_said = true;
    }

    /// From now on it is kept which messages have an [`Identity`]: of each producer and lane at least those that are less than `window`
    /// sequences behind the newest.
    pub fn keep_named(&mut self, window: u64) {
        self.named = Some(NamedMessages::new(window));
    }

    /// By producer: its messages, as far as they are kept.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&[u8], impl Iterator<Item = NamedMessage> + '_)> {
        self.named.iter().flat_map(NamedMessages::iter)
    }

    /// The message that was told last, at `position` of `lane`, has this key and these headers.
    pub fn said(&mut self, lane: LaneId, position: u64, written: Time, key: &[u8], headers: &[u8]) {
        if self.keeps_keys
            && let Some(entry) = self.lanes.get_mut(&lane.0)
        {
            entry.keyed.said(position, key, headers.len());
        }
        let keeps = self.keeps_said || (self.named.is_some() && !headers.is_empty());
        if !keeps || (key.is_empty() && headers.is_empty()) {
            return;
        }
        let Some(entry) = self.lanes.get_mut(&lane.0).filter(|entry| entry.end == position + 1) else { return };
        if let Some(named) = &mut self.named
            && let Some(identity) = Identity::of(headers)
        {
            named.note(lane.0, position, written, identity);
        }
        if !self.keeps_said {
            return;
        }
        let lens = (u16::try_from(key.len()), u16::try_from(headers.len()));
        if let (Ok(key_len), Ok(header_len)) = lens {
            entry.said.push((position, written, entry.bytes_said.len(), key_len, header_len));
            entry.bytes_said.extend_from_slice(key);
            entry.bytes_said.extend_from_slice(headers);
        }
    }

    /// Bookkeeping. The same may be told again.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Channel(made) => self.made(made),
            Record::ChannelGone(channel) => {
                self.channels.insert(channel.0, None);
                self.given_out(channel.0.saturating_add(1), 0);
            }
            Record::Reshaped(made) => self.reshaped(made),
            Record::Committed { lane, group, position } => {
                self.lanes.entry(lane.0).or_default().moved(*group, *position);
            }
            Record::Together { .. } | Record::Released { .. } | Record::Moved { .. } => self.parts(record),
            Record::Settled { lane, group, position } => {
                let lane = self.lanes.entry(lane.0).or_default();
                lane.reach(position.saturating_add(1));
                let done = lane.groups.entry(*group).or_default();
                if *position >= done.committed {
                    done.settled.insert(*position);
                }
            }
        }
    }

    fn made(&mut self, made: &ChannelRecord) {
        let ChannelRecord { channel, first, lanes, .. } = made;
        self.given_out(channel.0.saturating_add(1), first.0.saturating_add(*lanes));
        match self.channels.get(&channel.0) {
            Some(Some(known)) if known != made => {
                self.error.get_or_insert(JournalError::Channel(channel.0));
            }
            Some(_) => {}
            None => {
                self.channels.insert(channel.0, Some(made.clone()));
            }
        }
    }

    fn reshaped(&mut self, made: &ReshapeRecord) {
        let ReshapeRecord { channel, first, .. } = made;
        self.given_out(channel.0.saturating_add(1), made.children().end);
        match self.reshapes.get(&first.0) {
            Some(known) if known != made => {
                self.error.get_or_insert(JournalError::Channel(channel.0));
            }
            Some(_) => {}
            None => {
                self.reshapes.insert(first.0, *made);
            }
        }
    }

    /// Positions of `lane` below `below` were given out, and nothing of them is needed.
    pub fn trimmed(&mut self, lane: LaneId, below: u64) {
        self.lanes.entry(lane.0).or_default().trim(below);
    }

    /// So many channels and lanes were made at least, whatever became of them.
    pub fn given_out(&mut self, channels: u32, lanes: u32) {
        let (known_channels, known_lanes) = self.given_out;
        self.given_out = (known_channels.max(channels), known_lanes.max(lanes));
    }

    /// The latest time at which a message was written; [`Time::ZERO`] when none was.
    pub fn latest(&self) -> Time {
        self.latest
    }

    /// How many lanes were ever made.
    pub(crate) fn lane_count(&self) -> u32 {
        self.given_out.1
    }

    /// Every channel that was ever made, by number; none where it is gone.
    pub(crate) fn channels(&self) -> impl Iterator<Item = Option<&ChannelRecord>> + '_ {
        (0..self.given_out.0).map(|number| self.channels.get(&number)?.as_ref())
    }

    /// A lane, if the journal says anything of it.
    pub(crate) fn lane(&self, lane: u32) -> Option<&LaneJournal> {
        self.lanes.get(&lane)
    }

    /// Whether it holds together: numbers that can be, positions that rise, channels with lanes of their own in the order of their
    /// numbers, and a channel that is gone before lanes that are nobody's.
    pub(crate) fn check(&self) -> Result<(), JournalError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let (channels, lanes) = self.given_out;
        let last = self.lanes.last_key_value().map_or(0, |(&lane, _)| lane.saturating_add(1));
        if channels.max(lanes) > NUMBERS_MAX || last > lanes {
            return Err(JournalError::Number(channels.max(lanes).max(last)));
        }
        if let Some((&lane, LaneJournal { end, .. })) = self.lanes.iter().find(|(_, lane)| lane.end > POSITIONS_MAX) {
            return Err(JournalError::Position { lane, position: *end, end: POSITIONS_MAX });
        }
        self.check_lanes()
    }

    /// Whether every lane is one channel's, made when its number was due; and whether only lanes that took messages were split and merged.
    fn check_lanes(&self) -> Result<(), JournalError> {
        let made = self.made_lanes();
        let mut before = self.given_out.0;
        let mut made_by: Vec<u32> = vec![0; made.len()];
        // What was made before a channel was made after those with lower numbers.
        for (by, lanes) in made_by.iter_mut().zip(&made).rev() {
            before = if lanes.reshape.is_none() { lanes.channel } else { before };
            *by = before;
        }
        let first_gone = self.channels().position(|channel| channel.is_none()).map_or(u32::MAX, |gone| gone as u32);
        let reshaped: BTreeSet<u32> = self.reshapes().map(|made| made.channel.0).collect();
        let (mut next, mut last) = (0, None);
        let mut open: BTreeMap<u32, u32> = BTreeMap::new();
        for (lanes, by) in made.into_iter().zip(made_by) {
            let MadeLanes { numbers, channel, reshape } = lanes;
            let begins = if first_gone < by { numbers.start >= next } else { numbers.start == next };
            let in_order = reshape.is_some() || last.replace(channel).is_none_or(|last| last < channel);
            let mut parents = reshape.iter().flat_map(ReshapeRecord::parents);
            if !begins || !in_order || numbers.is_empty() || !parents.all(|lane| open.remove(&lane.0) == Some(channel))
            {
                return Err(JournalError::Channel(channel));
            }
            next = numbers.end;
            if reshaped.contains(&channel) {
                open.extend(numbers.map(|lane| (lane, channel)));
            }
        }
        let (_, lanes) = self.given_out;
        if lanes > next && first_gone == u32::MAX { Err(JournalError::Number(lanes)) } else { Ok(()) }
    }

    /// The lanes of channels that are there, in order, by what made them.
    fn made_lanes(&self) -> Vec<MadeLanes> {
        let channels = self.channels().flatten().map(|made| MadeLanes {
            numbers: made.first.0..made.first.0.saturating_add(made.lanes),
            channel: made.channel.0,
            reshape: None,
        });
        let reshapes = self.reshapes().map(|made| MadeLanes {
            numbers: made.children(),
            channel: made.channel.0,
            reshape: Some(*made),
        });
        let mut made: Vec<MadeLanes> = channels.chain(reshapes).collect();
        made.sort_by_key(|lanes| lanes.numbers.start);
        made
    }

    /// The splits and merges of channels that are there, in the order in which they were done.
    pub(crate) fn reshapes(&self) -> impl Iterator<Item = &ReshapeRecord> + '_ {
        self.reshapes.values().filter(|made| matches!(self.channels.get(&made.channel.0), Some(Some(_))))
    }

    /// For a model that splits and merges nothing.
    pub(crate) fn check_whole(&self) -> Result<(), JournalError> {
        let first = self.reshapes().next();
        first.map_or(Ok(()), |made| Err(JournalError::Reshaped(made.channel.0)))
    }

    /// Asks for what the storage holds of lanes whose channel is gone to be given back.
    pub(crate) fn trim_gone(&self, out: &mut Effects) {
        let mut next = 0;
        let mut gone = |from: u32, to: u32| {
            let held = self.lanes.range(from..to).filter(|(_, lane)| lane.end > lane.first);
            out.writes.extend(held.map(|(&lane, journal)| Write::Trim { lane: LaneId(lane), below: journal.end }));
        };
        for MadeLanes { numbers, .. } in self.made_lanes() {
            gone(next, numbers.start);
            next = numbers.end;
        }
        gone(next, self.lane_count().max(next));
    }

    /// The number of a channel that is gone, to which lanes that are nobody's are counted; any number when there is none.
    pub(crate) fn gone_channel(&self) -> ChannelId {
        ChannelId(self.channels().position(|channel| channel.is_none()).unwrap_or_default() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(channel: u32, first: u32, lanes: u32) -> Record {
        let (channel, first, name) = (ChannelId(channel), LaneId(first), format!("c{channel}"));
        Record::Channel(Box::new(ChannelRecord {
            channel,
            first,
            lanes,
            name,
            groups: vec!["g".to_owned()],
            ..ChannelRecord::default()
        }))
    }

    fn committed(lane: u32, position: u64) -> Record {
        Record::Committed { lane: LaneId(lane), group: 0, position }
    }

    fn settled(lane: u32, position: u64) -> Record {
        Record::Settled { lane: LaneId(lane), group: 0, position }
    }

    fn held(journal: &Journal, lane: u32) -> (u64, u64, Vec<(u64, u64)>, Vec<u64>) {
        let lane = journal.lane(lane).expect("the journal says something of it");
        (lane.first(), lane.end(), lane.holes().collect(), lane.open(0, 0, u64::MAX).collect())
    }

    #[test]
    fn what_is_open_is_what_is_neither_missing_nor_done_with() {
        let mut journal = Journal::default();
        journal.record(&made(0, 0, 1));
        for position in [0, 1, 2, 5, 6, 7, 9] {
            journal.message(LaneId(0), position, 10, Time(position));
        }
        assert_eq!(held(&journal, 0), (0, 10, vec![(3, 5), (8, 9)], vec![0, 1, 2, 5, 6, 7, 9]));
        journal.record(&settled(0, 6));
        journal.record(&settled(0, 1));
        journal.record(&committed(0, 1));
        assert_eq!(held(&journal, 0).3, [2, 5, 7, 9]);
        journal.trimmed(LaneId(0), 4);
        assert_eq!(held(&journal, 0), (4, 10, vec![(4, 5), (8, 9)], vec![5, 7, 9]));
        journal.record(&committed(0, 12));
        assert_eq!(held(&journal, 0), (4, 12, vec![(4, 5), (8, 9), (10, 12)], vec![]), "those were given out");
        assert_eq!((journal.check(), journal.latest()), (Ok(()), Time(9)));
    }

    #[test]
    fn a_journal_may_begin_in_the_middle() {
        let mut journal = Journal::default();
        journal.message(LaneId(4), 70, 10, Time(5));
        journal.record(&made(3, 4, 2));
        journal.given_out(5, 9);
        journal.record(&committed(4, 60));
        journal.trimmed(LaneId(4), 65);
        journal.trimmed(LaneId(5), 8);
        journal.message(LaneId(4), 71, 10, Time(6));
        assert_eq!(held(&journal, 4), (70, 72, vec![], vec![70, 71]));
        assert_eq!(held(&journal, 5), (8, 8, vec![], vec![]));
        assert_eq!((journal.check(), journal.lane_count(), journal.gone_channel()), (Ok(()), 9, ChannelId(0)));
        let alive: Vec<bool> = journal.channels().map(|channel| channel.is_some()).collect();
        assert_eq!(alive, [false, false, false, true, false]);
    }

    #[test]
    fn of_a_channel_that_is_gone_everything_is_given_back() {
        let mut journal = Journal::default();
        for channel in 0..3 {
            journal.record(&made(channel, channel, 1));
            journal.message(LaneId(channel), 0, 10, Time(5));
        }
        journal.record(&Record::ChannelGone(ChannelId(1)));
        // It comes again when a segment begins, and that revives nothing.
        journal.record(&made(1, 1, 1));
        let mut out = Effects::default();
        journal.trim_gone(&mut out);
        assert_eq!(out.writes, [Write::Trim { lane: LaneId(1), below: 1 }]);
        assert_eq!((journal.check(), journal.gone_channel()), (Ok(()), ChannelId(1)));
    }

    #[test]
    fn what_belongs_together_counts_once_all_of_it_is_there() {
        let released = |lane, position, count| Record::Released { lane: LaneId(lane), position, count };
        let moved = |lane, position| Record::Moved { lane: LaneId(lane), group: 0, position };
        let mut journal = Journal::default();
        journal.record(&made(0, 0, 2));
        for (lane, position) in [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)] {
            journal.message(LaneId(lane), position, 10, Time(1));
            journal.provisional(LaneId(lane), position);
        }
        let open = |journal: &Journal| [0, 1].map(|lane| journal.lane(lane).expect("told").provisional().to_vec());
        // A commit that a crash broke off, and one that is whole.
        journal.record(&Record::Together { parts: 2 });
        journal.record(&released(0, 0, 3));
        assert_eq!(open(&journal), [vec![(0, 3)], vec![(0, 2)]]);
        journal.record(&Record::Together { parts: 3 });
        journal.record(&released(0, 1, 1));
        journal.record(&committed(0, 0));
        journal.record(&released(1, 1, 1));
        assert_eq!(open(&journal), [vec![(0, 3)], vec![(0, 2)]], "one part is missing");
        journal.record(&moved(1, 1));
        assert_eq!(open(&journal), [vec![(0, 1), (2, 3)], vec![(0, 1)]]);
        assert_eq!(journal.lane(1).and_then(|lane| lane.done(0)).map(|done| done.committed), Some(1));
        journal.record(&moved(1, 2));
        assert_eq!(journal.lane(1).and_then(|lane| lane.done(0)).map(|done| done.committed), Some(1), "of nothing");
    }

    #[test]
    fn contradictions_are_told_apart() {
        let after = |tell: &dyn Fn(&mut Journal)| {
            let mut journal = Journal::default();
            journal.record(&made(0, 0, 2));
            journal.message(LaneId(1), 7, 10, Time(1));
            tell(&mut journal);
            journal.check().expect_err("it contradicts itself")
        };
        let position = |position, end| JournalError::Position { lane: 1, position, end };
        assert_eq!(after(&|journal| journal.message(LaneId(1), 7, 1, Time(1))), position(7, 8));
        assert_eq!(after(&|journal| journal.message(LaneId(1), u64::MAX, 1, Time(1))), position(u64::MAX, 8));
        assert_eq!(after(&|journal| journal.record(&committed(1, u64::MAX))), position(u64::MAX, POSITIONS_MAX));
        assert_eq!(after(&|journal| journal.record(&made(0, 0, 3))), JournalError::Channel(0));
        assert_eq!(after(&|journal| journal.record(&made(1, 1, 2))), JournalError::Channel(1), "whose is lane 1");
        assert_eq!(after(&|journal| journal.record(&made(1, 3, 1))), JournalError::Channel(1), "whose is lane 2");
        assert_eq!(after(&|journal| journal.given_out(1, 3)), JournalError::Number(3), "whose is lane 2");
        assert_eq!(after(&|journal| journal.given_out(1 << 30, 2)), JournalError::Number(1 << 30));
        assert_eq!(after(&|journal| journal.message(LaneId(2), 0, 1, Time(1))), JournalError::Number(3));
    }
}
