//! The naive reference: for each message and group one entry in a map, looked up by search and changed one by one.
//!
//! It knows what a queue and a service queue have in common: a message waits, is held by one member, is settled. It judges
//! what a model did and predicts what a settlement must answer. Leaves out which member a message goes to.

use std::collections::BTreeMap;

use crate::batch::{LaneId, Receipt, Token, Verdict};
use crate::completion::{GivenUp, Refusal, Status};
use crate::headers::{HeaderBlock, names};
use crate::time::{Span, Time};
use crate::trial::crash::Known;

/// What the model under test promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is something that a model promises or not")]
pub(crate) struct Rules {
    /// How long a member may hold a message; for ever without.
    pub(crate) lease: Option<Span>,
    /// Whether a message can be given back, and a lease extended.
    pub(crate) requeue: bool,
    /// Whether a delivery settles.
    pub(crate) automatic: bool,
    /// Whether first deliveries of a lane come in order, and what comes again before them.
    pub(crate) in_order: bool,
    /// Whether a member with credit never waits while its group has something.
    pub(crate) work_conserving: bool,
    /// Whether what is not stored yet counts as ready.
    pub(crate) counts_unstored: bool,
    /// What else happens to messages.
    pub(crate) limits: Limits,
}

/// What happens to messages besides being handed out; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is something that a model does or not")]
pub(crate) struct Limits {
    /// How long after its publish a message is held back.
    pub(crate) delay: Span,
    /// How long after its publish a message may wait.
    pub(crate) ttl: Option<Span>,
    /// How often a message is delivered; 0 for any number.
    pub(crate) max_deliveries: u32,
    /// How many messages of one queue may wait; 0 for any number.
    pub(crate) max_length: u64,
    /// Whether a full queue refuses a message; otherwise it gives up the one at its head.
    pub(crate) rejects: bool,
    /// How many messages of one queue may be held; 0 for any number.
    pub(crate) max_in_flight: u64,
    /// The highest priority.
    pub(crate) levels: u8,
    /// Where messages of a group are delivered in order: so many at a time.
    pub(crate) group_batch: Option<u32>,
    /// How long ids of messages are known.
    pub(crate) window: Option<Span>,
    /// Whether groups are bound to routing keys, as [`Words::routes`] says.
    pub(crate) routed: bool,
    /// Whether a message's key is its group before what it says.
    pub(crate) key_first: bool,
    /// Whether a message that says its own delay is refused.
    pub(crate) no_delay: bool,
}

/// What a message says of itself, in small numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// Its key, none if 0.
    pub(crate) key: u8,
    pub(crate) level: u8,
    pub(crate) delay: Option<Span>,
    pub(crate) ttl: Option<Span>,
    /// Its message group, none if 0.
    pub(crate) group: u8,
    /// Its id, none if 0.
    pub(crate) id: u8,
    /// Its routing key, where groups are bound to some.
    pub(crate) route: u8,
}

impl Words {
    pub(crate) fn key_bytes(self) -> Vec<u8> {
        if self.key == 0 { Vec::new() } else { vec![b'k', self.key] }
    }

    pub(crate) fn header_bytes(self) -> Vec<u8> {
        let mut block = HeaderBlock::new();
        let mut set = |name: &str, value: &[u8]| block.set(name.as_bytes(), value).expect("it is short");
        if self.level > 0 {
            set(names::PRIORITY, &[self.level]);
        }
        if let Some(span) = self.delay {
            set(names::DELAY, &span.0.to_le_bytes());
        }
        if let Some(span) = self.ttl {
            set(names::TIME_TO_LIVE, &span.0.to_le_bytes());
        }
        if self.group > 0 {
            set(names::MESSAGE_GROUP, &[b'g', self.group]);
        }
        if self.id > 0 {
            set(names::DEDUPLICATION_ID, &[self.id]);
        }
        if self.route > 0 {
            set(names::ROUTING_KEY, &[b'r', b'0' + self.route]);
        }
        block.to_bytes()
    }

    /// Which of so many groups get it, where they are bound: 1 goes to the first, 2 to the last, 3 to all, anything else to nobody.
    pub(crate) fn routes(self, groups: u32) -> Vec<u32> {
        match self.route {
            1 => vec![0],
            2 => vec![groups - 1],
            3 => (0..groups).collect(),
            _ => Vec::new(),
        }
    }
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Rejected,
    Exhausted,
    Expired,
    Overflowed,
}

/// How a message stands with one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Held { member: u32, until: Time },
    Settled,
}

/// A message as one group sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) standing: Standing,
    pub(crate) deliveries: u32,
    /// How many of those count from before the restart.
    pub(crate) before: u32,
    /// When it was published.
    pub(crate) came: Time,
    /// Why it is settled, if nobody has dealt with it.
    pub(crate) fate: Option<Fate>,
    pub(crate) level: u8,
    /// Its message group, as a number.
    pub(crate) group: u16,
    /// When it may be delivered at the earliest, and wait at the latest.
    pub(crate) appears: Time,
    pub(crate) expires: Time,
    /// Whether it was held back when the model was restored.
    pub(crate) held_over: bool,
}

impl Entry {
    fn new(limits: Limits, words: Words, came: Time) -> Self {
        let group = match (words.key, words.group) {
            (key, 0) => u16::from(key),
            (key, _) if limits.key_first && key > 0 => u16::from(key),
            (_, group) => 1_000 + u16::from(group),
        };
        let lives = [limits.ttl, words.ttl.map(|ttl| ttl.max(Span(1)))];
        Self {
            standing: Standing::Waiting,
            deliveries: 0,
            before: 0,
            came,
            fate: None,
            level: words.level.min(limits.levels),
            group,
            appears: came + words.delay.unwrap_or(limits.delay),
            expires: lives.into_iter().flatten().map(|ttl| came + ttl).min().unwrap_or(Time::NEVER),
            held_over: false,
        }
    }

    /// Whether it waits for its first delivery in this life.
    fn is_fresh(&self) -> bool {
        self.deliveries == self.before
    }

    /// Whether it certainly goes before `other`, both waiting, at these positions.
    fn precedes(&self, position: u64, other: &Self, other_position: u64) -> bool {
        if self.level != other.level || !other.is_fresh() {
            return self.level > other.level;
        }
        if other.before > 0 {
            // What a restart found comes in order; what comes again since then stands in line with it.
            return self.is_fresh() && position < other_position && !self.held_over && !other.held_over;
        }
        // What a restart found delayed joins the line at its time, without a promise of where.
        !self.is_fresh() || (position < other_position && !self.held_over && !other.held_over)
    }

    pub(crate) fn give_up(&mut self, fate: Fate) {
        (self.standing, self.fate) = (Standing::Settled, Some(fate));
    }

    fn come_back(&mut self, limits: Limits) {
        if limits.max_deliveries > 0 && self.deliveries >= limits.max_deliveries {
            self.give_up(Fate::Exhausted);
        } else {
            self.standing = Standing::Waiting;
        }
    }
}

/// A message's place for a group: lane, group, position.
type Key = (u32, u32, u64);

#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) rules: Rules,
    pub(crate) groups: u32,
    pub(crate) entries: BTreeMap<Key, Entry>,
    /// Written and neither stored nor failed, by lane and position.
    pub(crate) unstored: BTreeMap<(u32, u64), (Token, Time)>,
    pub(crate) failed: BTreeMap<(u32, u64), Token>,
    /// The next position of each lane.
    pub(crate) ends: BTreeMap<u32, u64>,
    /// Whether a restart found positions missing.
    pub(crate) gaps: bool,
    /// What messages say that say anything, by token, and by place.
    pub(crate) words: BTreeMap<Token, Words>,
    said: BTreeMap<(u32, u64), Words>,
    /// Ids, and where the first message of each is and since when.
    ids: Vec<(u8, (u32, u64), Time)>,
    /// Repeats whose publish has not ended, and where the first is.
    repeats: BTreeMap<Token, (u32, u64)>,
}

impl Ledger {
    pub(crate) fn new(rules: Rules, groups: u32) -> Self {
        Self {
            rules,
            groups,
            entries: BTreeMap::new(),
            unstored: BTreeMap::new(),
            failed: BTreeMap::new(),
            ends: BTreeMap::new(),
            gaps: false,
            words: BTreeMap::new(),
            said: BTreeMap::new(),
            ids: Vec::new(),
            repeats: BTreeMap::new(),
        }
    }

    pub(crate) fn words_of(&self, token: Token) -> Words {
        self.words.get(&token).copied().unwrap_or_default()
    }

    /// The groups that get a message.
    fn routes(&self, words: Words) -> Vec<u32> {
        if self.rules.limits.routed { words.routes(self.groups) } else { (0..self.groups).collect() }
    }

    /// Why a message has to be refused.
    pub(crate) fn refusal(&self, token: Token) -> Option<Refusal> {
        let words = self.words_of(token);
        if self.rules.limits.no_delay && words.delay.is_some() {
            return Some(Refusal::Unsupported);
        }
        self.routes(words).is_empty().then_some(Refusal::Unroutable)
    }

    /// Where the first message with an id is, if one came not long ago.
    fn first(&self, now: Time, id: u8) -> Option<(u32, u64)> {
        let window = self.rules.limits.window?;
        self.ids.iter().find(|&&(known, _, at)| known == id && at + window > now).map(|&(_, place, _)| place)
    }

    /// A publish with an id neither was written nor has ended: it repeats a message that is known.
    pub(crate) fn repeats(&mut self, now: Time, token: Token) {
        let first = self.first(now, self.words_of(token).id);
        self.repeats.insert(token, first.expect("a message that is not written repeats one"));
    }

    /// What a restart must make of what a journal says. Whatever is there counts as stored, and may have been delivered unless a
    /// delivery settles; what was acknowledged and is not settled is there.
    pub(crate) fn restarted(&self, now: Time, known: &Known) -> Self {
        let mut next = Self::new(self.rules, self.groups);
        next.said.clone_from(&self.said);
        let before = u32::from(!self.rules.automatic);
        for (&(lane, position), said) in &known.messages {
            let words = self.said.get(&(lane, position)).copied().unwrap_or_default();
            for group in self.routes(words) {
                let done = known.is_done(lane, group, position);
                let standing = if done { Standing::Settled } else { Standing::Waiting };
                let deliveries = if done { 1 } else { before };
                let entry = Entry::new(self.rules.limits, words, said.written);
                let held_over = entry.appears > now;
                let entry = Entry { standing, deliveries, before, held_over, ..entry };
                next.entries.insert((lane, group, position), entry);
            }
        }
        for &(_, place, at) in &self.ids {
            let counts = self.rules.limits.window.is_some_and(|window| at + window > now);
            let is_known = known.messages.contains_key(&place);
            assert!(
                is_known || !counts || !self.is_acknowledged(place),
                "the id of {place:?} is known after a restart"
            );
        }
        next.ids = self.known_ids(known);
        for (key, entry) in self.entries.iter().filter(|(_, entry)| entry.standing != Standing::Settled) {
            let after = next.entries.get(key).map(|entry| entry.standing);
            assert_eq!(after, Some(Standing::Waiting), "{key:?} was acknowledged: {entry:?}");
        }
        next.gaps = known.ends.keys().any(|&lane| known.has_gaps(lane));
        next.ends.clone_from(&known.ends);
        next
    }

    /// The ids that a restart finds: of each the latest message, also one of which nobody knew that it was stored.
    fn known_ids(&self, known: &Known) -> Vec<(u8, (u32, u64), Time)> {
        let mut ids: Vec<(u8, (u32, u64), Time)> = Vec::new();
        let mut found: Vec<(Time, (u32, u64))> =
            known.messages.iter().map(|(&place, said)| (said.written, place)).collect();
        found.sort_unstable();
        for (came, place) in found.into_iter().filter(|(_, place)| place.1 >= known.start(place.0)) {
            let id = self.said.get(&place).map_or(0, |words| words.id);
            if id > 0 && self.rules.limits.window.is_some() {
                ids.retain(|&(known, ..)| known != id);
                ids.push((id, place, came));
            }
        }
        ids
    }

    /// The longest of the queues that a message is routed to.
    pub(crate) fn longest(&self, lane: u32, words: Words) -> u64 {
        self.routes(words).into_iter().map(|group| self.length(lane, group)).max().unwrap_or(0)
    }

    /// What the message at a place says.
    pub(crate) fn said_at(&self, place: (u32, u64)) -> Words {
        self.said.get(&place).copied().unwrap_or_default()
    }

    fn is_acknowledged(&self, (lane, position): (u32, u64)) -> bool {
        (0..self.groups).any(|group| self.entries.contains_key(&(lane, group, position)))
    }

    pub(crate) fn written(&mut self, now: Time, lane: u32, position: u64, token: Token) {
        let words = self.words_of(token);
        assert_eq!(self.refusal(token), None, "{words:?} is written");
        self.said.insert((lane, position), words);
        if words.id > 0 && self.rules.limits.window.is_some() {
            assert_eq!(self.first(now, words.id), None, "{words:?} repeats one, and is written");
            self.ids.retain(|&(id, ..)| id != words.id);
            self.ids.push((words.id, (lane, position), now));
        }
        let end = self.ends.entry(lane).or_default();
        assert_eq!(position, *end, "positions of lane {lane} are dense");
        *end += 1;
        self.unstored.insert((lane, position), (token, now));
    }

    pub(crate) fn published(&mut self, lane: LaneId, position: u64, token: Token, status: Status) {
        let key = (lane.0, position);
        if let Some(first) = self.repeats.remove(&token) {
            assert_eq!(key, first, "a repeat is where the first is");
            match status {
                Status::Done => assert!(!self.failed.contains_key(&first)),
                Status::Failed(_) => assert!(self.failed.contains_key(&first)),
                Status::Refused(_) | Status::Throttled | Status::Unknown => panic!("{status:?}"),
            }
            return;
        }
        match status {
            Status::Done => {
                let (of, came) = self.unstored.remove(&key).expect("what is stored was written");
                assert_eq!(of, token, "lane {}, position {position}", lane.0);
                let words = self.words_of(token);
                for group in self.routes(words) {
                    let entry = Entry::new(self.rules.limits, words, came);
                    self.entries.insert((lane.0, group, position), entry);
                }
            }
            Status::Failed(_) => {
                if self.unstored.get(&key).is_some_and(|(of, _)| *of == token) {
                    self.unstored.remove(&key);
                    self.failed.insert(key, token);
                    self.ids.retain(|&(_, place, _)| place != key);
                }
            }
            Status::Refused(refusal) => assert_eq!(Some(refusal), self.refusal(token), "{:?}", self.words_of(token)),
            Status::Throttled | Status::Unknown => {}
        }
    }

    /// Ends the leases that are over at `now`, and then the lives of those that wait.
    pub(crate) fn expire(&mut self, now: Time) {
        let limits = self.rules.limits;
        for entry in self.entries.values_mut() {
            if matches!(entry.standing, Standing::Held { until, .. } if until <= now) {
                entry.come_back(limits);
            }
            if entry.expires <= now && entry.standing == Standing::Waiting {
                entry.give_up(Fate::Expired);
            }
        }
    }

    /// Ends everything that a member holds.
    pub(crate) fn leave(&mut self, leaving: u32) {
        for entry in self.entries.values_mut() {
            if matches!(entry.standing, Standing::Held { member, .. } if member == leaving) {
                entry.come_back(self.rules.limits);
            }
        }
    }

    /// What a settlement must answer; it is done here too.
    pub(crate) fn settle(&mut self, now: Time, member: u32, group: u32, receipt: Receipt, verdict: Verdict) -> Status {
        let stale = Status::Refused(Refusal::StaleReceipt);
        let gives_back = matches!(verdict, Verdict::Nack { requeue: true } | Verdict::Extend(_));
        if !self.rules.requeue && gives_back {
            return Status::Refused(Refusal::Unsupported);
        }
        let elsewhere = self.rules.automatic && self.is_acknowledged((receipt.lane.0, receipt.position));
        let Some(entry) = self.entries.get_mut(&(receipt.lane.0, group, receipt.position)) else {
            // Nor is it kept which messages were another group's.
            return if elsewhere { Status::Done } else { stale };
        };
        if self.rules.automatic {
            // Nothing is kept of what was delivered, nor of what was given up instead.
            return if entry.deliveries == 0 && entry.fate.is_none() { stale } else { Status::Done };
        }
        let held = matches!(entry.standing, Standing::Held { member: holder, .. } if holder == member);
        if !held || receipt.epoch + 1 != entry.deliveries {
            return stale;
        }
        match verdict {
            Verdict::Ack => entry.standing = Standing::Settled,
            Verdict::Nack { requeue: false } => entry.give_up(Fate::Rejected),
            Verdict::Nack { requeue: true } => entry.come_back(self.rules.limits),
            Verdict::Extend(span) => entry.standing = Standing::Held { member, until: now + span },
        }
        Status::Done
    }

    /// Judges one delivery.
    pub(crate) fn deliver(&mut self, now: Time, member: u32, group: u32, receipt: Receipt) {
        let lane = receipt.lane.0;
        let rules = self.rules;
        self.judge_turn(now, member, group, receipt);
        let entry = self.entries.get_mut(&(lane, group, receipt.position)).expect("what is delivered was acknowledged");
        assert_eq!(entry.standing, Standing::Waiting, "{receipt:?} was delivered to {member}");
        assert_eq!(receipt.epoch, entry.deliveries, "{receipt:?} counts its deliveries");
        assert!(entry.appears <= now, "{receipt:?} was delivered at {now:?}: {entry:?}");
        entry.deliveries += 1;
        entry.standing = if rules.automatic {
            Standing::Settled
        } else {
            Standing::Held { member, until: rules.lease.map_or(Time::NEVER, |lease| now + lease) }
        };
        let held = self.state(lane, group).1;
        let most = rules.limits.max_in_flight;
        assert!(most == 0 || held <= most, "{held} messages of lane {lane} are in flight for group {group}");
    }

    /// A message is delivered in its turn.
    fn judge_turn(&self, now: Time, member: u32, group: u32, receipt: Receipt) {
        let Receipt { lane: LaneId(lane), position, .. } = receipt;
        let entry = &self.entries[&(lane, group, position)];
        let queue = || self.entries.range((lane, group, 0)..(lane, group + 1, 0));
        let waiting = queue().filter(|(_, other)| other.standing == Standing::Waiting && other.appears <= now);
        if let Some(most) = self.rules.limits.group_batch {
            if entry.group == 0 {
                // It is in no group.
                return;
            }
            for (&(_, _, at), other) in waiting.filter(|(_, other)| other.group == entry.group) {
                assert!(at >= position, "{receipt:?} was delivered before position {at} of its group: {other:?}");
            }
            let until = self.rules.lease.map_or(Time::NEVER, |lease| now + lease);
            let held = queue().filter(|(_, other)| other.group == entry.group);
            let held = held.filter(|(_, other)| matches!(other.standing, Standing::Held { .. }));
            let mut count = 1;
            for (key, other) in held {
                assert_eq!(other.standing, Standing::Held { member, until }, "{receipt:?} is of the group of {key:?}");
                count += 1;
            }
            assert!(count <= most, "{count} messages of one group at a time");
        } else if self.rules.in_order {
            for (&(_, _, at), other) in waiting {
                let before = other.precedes(at, entry, position);
                assert!(!before, "{receipt:?} was delivered before position {at}: {other:?}, not {entry:?}");
            }
        }
    }

    /// Whether a group has something that could be delivered.
    pub(crate) fn has_waiting(&self, now: Time, group: u32) -> bool {
        let limits = self.rules.limits;
        let is_locked = |lane: u32, of: u16| {
            let mut queue = self.entries.range((lane, group, 0)..(lane, group + 1, 0));
            of > 0 && queue.any(|(_, other)| other.group == of && matches!(other.standing, Standing::Held { .. }))
        };
        self.entries.iter().any(|(key, entry)| {
            key.1 == group
                && entry.standing == Standing::Waiting
                && entry.appears <= now
                && (limits.group_batch.is_none() || !is_locked(key.0, entry.group))
        })
    }

    /// What of a queue was given up, without what became of it.
    pub(crate) fn given_up(&self, lane: u32, group: u32) -> GivenUp {
        let mut sum = GivenUp::default();
        for (_, entry) in self.entries.range((lane, group, 0)..(lane, group + 1, 0)) {
            let unseen = u64::from(entry.is_fresh());
            match entry.fate {
                Some(Fate::Rejected) => sum.rejected += 1,
                Some(Fate::Exhausted) => sum.exhausted += 1,
                Some(Fate::Expired) => {
                    (sum.expired, sum.expired_unseen) = (sum.expired + 1, sum.expired_unseen + unseen);
                }
                Some(Fate::Overflowed) => {
                    (sum.overflowed, sum.overflowed_unseen) = (sum.overflowed + 1, sum.overflowed_unseen + unseen);
                }
                None => {}
            }
        }
        sum
    }

    /// How many messages wait in a queue or come into it when they are stored.
    pub(crate) fn length(&self, lane: u32, group: u32) -> u64 {
        let entries = self.entries.range((lane, group, 0)..(lane, group + 1, 0));
        let waiting = entries.filter(|(_, entry)| entry.standing == Standing::Waiting).count();
        let coming = self.unstored.range((lane, 0)..(lane + 1, 0));
        let coming = coming.filter(|(_, (token, _))| self.routes(self.words_of(*token)).contains(&group)).count();
        (waiting + coming) as u64
    }

    /// A queue is too long: those that `gone` tells were given up, and they have to be the ones at its head.
    pub(crate) fn overflow(&mut self, now: Time, lane: u32, group: u32, gone: impl Fn(u64) -> bool) {
        let most = self.rules.limits.max_length;
        let entries = self.entries.range_mut((lane, group, 0)..(lane, group + 1, 0));
        let waiting = entries.filter(|(_, entry)| entry.standing == Standing::Waiting);
        let (removed, kept): (Vec<_>, Vec<_>) = waiting.partition(|(key, _)| gone(key.2));
        let over = ((removed.len() + kept.len()) as u64).saturating_sub(most);
        assert_eq!(removed.len() as u64, over, "lane {lane}, group {group}: {removed:?} were given up, not {kept:?}");
        for (key, one) in &kept {
            for (other_key, other) in &removed {
                let before = match (one.appears <= now, other.appears <= now) {
                    (true, true) => one.precedes(key.2, other, other_key.2),
                    (visible, other_visible) => visible && !other_visible,
                };
                assert!(!before, "{other_key:?} was given up before {key:?}: {other:?}, {one:?}");
            }
        }
        for (_, entry) in removed {
            entry.give_up(Fate::Overflowed);
        }
    }

    /// Ready, in flight, and the oldest that is not settled, of one queue.
    pub(crate) fn state(&self, lane: u32, group: u32) -> (u64, u64, Option<u64>) {
        let (mut ready, mut in_flight, mut oldest) = (0, 0, None);
        for (&(_, _, position), entry) in self.entries.range((lane, group, 0)..(lane, group + 1, 0)) {
            match entry.standing {
                Standing::Waiting => ready += 1,
                Standing::Held { .. } => in_flight += 1,
                Standing::Settled => continue,
            }
            oldest = oldest.or(Some(position));
        }
        if self.rules.counts_unstored {
            let mut unstored = self.unstored.range((lane, 0)..(lane + 1, 0)).map(|(&(_, position), _)| position);
            if let Some(first) = unstored.next() {
                ready += 1 + unstored.count() as u64;
                oldest = Some(oldest.map_or(first, |oldest| oldest.min(first)));
            }
        }
        (ready, in_flight, oldest)
    }
}
