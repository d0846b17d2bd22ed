//! The naive reference: for each message and group one entry in a map, looked up by search and changed one by one.
//!
//! It knows what a queue and a service queue have in common: a message waits, is held by one member, is settled. It judges
//! what a model did and predicts what a settlement must answer. Leaves out which member a message goes to.

use std::collections::BTreeMap;

use crate::batch::{LaneId, Receipt, Token, Verdict};
use crate::completion::{Refusal, Status};
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
}

/// A message's place for a group: lane, group, position.
type Key = (u32, u32, u64);

#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) rules: Rules,
    pub(crate) groups: u32,
    pub(crate) entries: BTreeMap<Key, Entry>,
    /// Written and neither stored nor failed, by lane and position.
    pub(crate) unstored: BTreeMap<(u32, u64), Token>,
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
        for &(lane, position) in known.messages.keys() {
            for group in 0..self.groups {
                let done = known.is_done(lane, group, position);
                let standing = if done { Standing::Settled } else { Standing::Waiting };
                let deliveries = if done { 1 } else { before };
                next.entries.insert((lane, group, position), Entry { standing, deliveries, before });
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

    pub(crate) fn written(&mut self, lane: u32, position: u64, token: Token) {
        let end = self.ends.entry(lane).or_default();
        assert_eq!(position, *end, "positions of lane {lane} are dense");
        *end += 1;
        self.unstored.insert((lane, position), token);
    }

    pub(crate) fn published(&mut self, lane: LaneId, position: u64, token: Token, status: Status) {
        let key = (lane.0, position);
        match status {
            Status::Done => {
                assert_eq!(self.unstored.remove(&key), Some(token), "lane {}, position {position}", lane.0);
                for group in 0..self.groups {
                    let entry = Entry { standing: Standing::Waiting, deliveries: 0, before: 0 };
                    self.entries.insert((lane.0, group, position), entry);
                }
            }
            Status::Failed(_) => {
                if self.unstored.get(&key) == Some(&token) {
                    self.unstored.remove(&key);
                    self.failed.insert(key, token);
                }
            }
            Status::Refused(_) | Status::Throttled | Status::Unknown => {}
        }
    }

    /// Ends the leases that are over at `now`.
    pub(crate) fn expire(&mut self, now: Time) {
        for entry in self.entries.values_mut() {
            if matches!(entry.standing, Standing::Held { until, .. } if until <= now) {
                entry.standing = Standing::Waiting;
            }
        }
    }

    /// Ends everything that a member holds.
    pub(crate) fn leave(&mut self, leaving: u32) {
        for entry in self.entries.values_mut() {
            if matches!(entry.standing, Standing::Held { member, .. } if member == leaving) {
                entry.standing = Standing::Waiting;
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
            return if entry.deliveries == 0 { stale } else { Status::Done };
        }
        let held = matches!(entry.standing, Standing::Held { member: holder, .. } if holder == member);
        if !held || receipt.epoch + 1 != entry.deliveries {
            return stale;
        }
        entry.standing = match verdict {
            Verdict::Ack | Verdict::Nack { requeue: false } => Standing::Settled,
            Verdict::Nack { requeue: true } => Standing::Waiting,
            Verdict::Extend(span) => Standing::Held { member, until: now + span },
        };
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
        entry.deliveries += 1;
        entry.standing = if rules.automatic {
            Standing::Settled
        } else {
            Standing::Held { member, until: rules.lease.map_or(Time::NEVER, |lease| now + lease) }
        };
    }

    /// Whether a group has something that could be delivered.
    pub(crate) fn has_waiting(&self, group: u32) -> bool {
        self.entries.iter().any(|(key, entry)| key.1 == group && entry.standing == Standing::Waiting)
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
