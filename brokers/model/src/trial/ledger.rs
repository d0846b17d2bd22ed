//! The naive reference: for each message and group one entry in a map, looked up by search and changed one by one.
//!
//! It knows what a queue and a service queue have in common: a message waits, is held by one member, is settled. It judges
//! what a model did and predicts what a settlement must answer. Leaves out which member a message goes to.

use std::collections::BTreeMap;

use crate::batch::{LaneId, Receipt, Token, Verdict};
use crate::completion::{GivenUp, Refusal, Status};
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
}

impl Entry {
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
}

impl Ledger {
    pub(crate) fn new(rules: Rules, groups: u32) -> Self {
        let (entries, unstored) = (BTreeMap::new(), BTreeMap::new());
        Self { rules, groups, entries, unstored, failed: BTreeMap::new(), ends: BTreeMap::new(), gaps: false }
    }

    /// What a restart must make of what a journal says. Whatever is there counts as stored, and may have been delivered unless a
    /// delivery settles; what was acknowledged and is not settled is there.
    pub(crate) fn restarted(&self, known: &Known) -> Self {
        let mut next = Self::new(self.rules, self.groups);
        let before = u32::from(!self.rules.automatic);
        for (&(lane, position), &came) in &known.messages {
            for group in 0..self.groups {
                let done = known.is_done(lane, group, position);
                let standing = if done { Standing::Settled } else { Standing::Waiting };
                let deliveries = if done { 1 } else { before };
                next.entries.insert((lane, group, position), Entry { standing, deliveries, before, came, fate: None });
            }
        }
        for (key, entry) in self.entries.iter().filter(|(_, entry)| entry.standing != Standing::Settled) {
            let after = next.entries.get(key).map(|entry| entry.standing);
            assert_eq!(after, Some(Standing::Waiting), "{key:?} was acknowledged: {entry:?}");
        }
        next.gaps = known.ends.keys().any(|&lane| known.has_gaps(lane));
        next.ends.clone_from(&known.ends);
        next
    }

    pub(crate) fn written(&mut self, now: Time, lane: u32, position: u64, token: Token) {
        let end = self.ends.entry(lane).or_default();
        assert_eq!(position, *end, "positions of lane {lane} are dense");
        *end += 1;
        self.unstored.insert((lane, position), (token, now));
    }

    pub(crate) fn published(&mut self, lane: LaneId, position: u64, token: Token, status: Status) {
        let key = (lane.0, position);
        match status {
            Status::Done => {
                let (of, came) = self.unstored.remove(&key).expect("what is stored was written");
                assert_eq!(of, token, "lane {}, position {position}", lane.0);
                for group in 0..self.groups {
                    let entry = Entry { standing: Standing::Waiting, deliveries: 0, before: 0, came, fate: None };
                    self.entries.insert((lane.0, group, position), entry);
                }
            }
            Status::Failed(_) => {
                if self.unstored.get(&key).is_some_and(|(of, _)| *of == token) {
                    self.unstored.remove(&key);
                    self.failed.insert(key, token);
                }
            }
            Status::Refused(_) | Status::Throttled | Status::Unknown => {}
        }
    }

    /// Ends the leases that are over at `now`, and then the lives of those that wait.
    pub(crate) fn expire(&mut self, now: Time) {
        let limits = self.rules.limits;
        for entry in self.entries.values_mut() {
            if matches!(entry.standing, Standing::Held { until, .. } if until <= now) {
                entry.come_back(limits);
            }
            let over = limits.ttl.is_some_and(|ttl| entry.came + ttl <= now);
            if over && entry.standing == Standing::Waiting {
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
        let Some(entry) = self.entries.get_mut(&(receipt.lane.0, group, receipt.position)) else { return stale };
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
        let entry = self.entries.get(&(lane, group, receipt.position)).expect("what is delivered was acknowledged");
        if rules.in_order && receipt.epoch == entry.before {
            let restored = entry.before > 0;
            let first = self.entries.range((lane, group, 0)..(lane, group + 1, 0));
            let waiting = first.filter(|(_, entry)| entry.standing == Standing::Waiting);
            for (&(_, _, position), entry) in waiting {
                // What a restart found comes in order; what comes again since then stands in line with it.
                let before = if restored {
                    position < receipt.position && entry.deliveries == entry.before
                } else {
                    position < receipt.position || entry.deliveries > 0
                };
                assert!(!before, "{receipt:?} was delivered before position {position}: {entry:?}");
            }
        }
        let entry = self.entries.get_mut(&(lane, group, receipt.position)).expect("what is delivered was acknowledged");
        assert_eq!(entry.standing, Standing::Waiting, "{receipt:?} was delivered to {member}");
        assert_eq!(receipt.epoch, entry.deliveries, "{receipt:?} counts its deliveries");
        assert!(entry.came + rules.limits.delay <= now, "{receipt:?} was delivered at {now:?}: {entry:?}");
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

    /// Whether a group has something that could be delivered.
    pub(crate) fn has_waiting(&self, now: Time, group: u32) -> bool {
        let due = |entry: &Entry| entry.standing == Standing::Waiting && entry.came + self.rules.limits.delay <= now;
        self.entries.iter().any(|(key, entry)| key.1 == group && due(entry))
    }

    /// What of a queue was given up, without what became of it.
    pub(crate) fn given_up(&self, lane: u32, group: u32) -> GivenUp {
        let mut sum = GivenUp::default();
        for (_, entry) in self.entries.range((lane, group, 0)..(lane, group + 1, 0)) {
            let unseen = u64::from(entry.deliveries == 0);
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
        (waiting + self.unstored.range((lane, 0)..(lane + 1, 0)).count()) as u64
    }

    /// A queue is too long: those that `gone` tells were given up, and they have to be the ones at its head.
    pub(crate) fn overflow(&mut self, lane: u32, group: u32, gone: impl Fn(u64) -> bool) {
        let most = self.rules.limits.max_length;
        let entries = self.entries.range_mut((lane, group, 0)..(lane, group + 1, 0));
        let waiting = entries.filter(|(_, entry)| entry.standing == Standing::Waiting);
        let (removed, kept): (Vec<_>, Vec<_>) = waiting.partition(|(key, _)| gone(key.2));
        let over = ((removed.len() + kept.len()) as u64).saturating_sub(most);
        assert_eq!(removed.len() as u64, over, "lane {lane}, group {group}: {removed:?} were given up, not {kept:?}");
        let first = |fresh: bool, of: &[(&Key, &mut Entry)]| {
            of.iter().filter(|(_, entry)| (entry.deliveries == 0) == fresh).map(|(key, _)| key.2).collect::<Vec<_>>()
        };
        if let Some(last) = first(true, &removed).last() {
            assert!(first(false, &kept).is_empty(), "what came back stands before what is new: {kept:?}");
            assert!(first(true, &kept).first().is_none_or(|kept| kept > last), "{last} was given up before {kept:?}");
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
