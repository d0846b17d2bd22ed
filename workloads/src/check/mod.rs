//! The delivery checker: did every consumer group get what was acknowledged, once, in order, unchanged, and not too early?
//!
//! It is told of every acknowledgement and every delivery, over the whole run and in the order in which a loop saw them. Host
//! loops share one [`Checker`] and feed it batches. It is exact while disorder stays within 2^20 messages of a producer and
//! holes within two million words of 64 messages in all; beyond that a message that arrives is counted as *not checked*, and
//! nothing is guessed: what is called lost is lost. Memory stays below 256 MiB for 10^9 messages and a million keys.
//!
//! How deliveries count:
//!
//! - The first delivery of a message to a group is the first that the host sees, marked as redelivered or not: the broker may
//!   have lost an earlier one on its way, which a contract does not forbid.
//! - A further delivery is *duplicated* when it is not marked and *redelivered* when it is. Both break at-most-once and
//!   exactly-once; at-least-once allows both. A mark on a first delivery breaks nothing.
//! - *Lost* is acknowledged, not delivered, and not held. What the backend says it holds counts for undelivered messages first,
//!   so that the checker errs by accusing too little. It breaks at-least-once and exactly-once.
//! - What a backend says it gave up before it delivered it, because a time to live or a length limit was set, is *expired* or
//!   *overflowed* and not lost.
//! - A delivery whose bytes do not fit its checksum is nobody's: it is *corrupted*, and stands for one message that is then
//!   neither lost nor checked.
//! - *Reordered* is counted under every contract and breaks those that ask for order per key or more. Total order further asks
//!   that all groups see each channel's messages in one order; that is compared where no message is missing.
//! - Where groups have bindings, each is due only what they let through; what comes to a group beside that is *foreign* to it. Orders of
//!   such groups are not held against each other.
//! - Early, corrupted and foreign deliveries break every contract.
//!
//! A publish that failed or whose outcome is unknown is not told: a message that is delivered all the same is counted as
//! delivered without acknowledgement. Leaves out hashing keys and verifying checksums, which [`stamp`](crate::stamp) does.

mod key_table;
#[cfg(test)]
mod naive;
mod order_trace;
mod prefix_set;
mod verdict;

use std::sync::Arc;

use brokerlab_model::{Contract, GivenUp, Order};

use self::key_table::{Arrival, KeyTable};
use self::order_trace::OrderTrace;
use self::prefix_set::{Budget, Found, PrefixSet};
use crate::generate::Routes;
use crate::measurement::CheckRecord;

/// A message: its producer's number, and its number among that producer's messages, dense from 0 and below 2^40.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId {
    /// The producer's number in the profile.
    pub producer: u32,
    /// The message's number.
    pub sequence: u64,
}

/// One delivery whose checksum fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Which message.
    pub id: MessageId,
    /// The hash of its key; none for a message without a key, which has no order to keep.
    pub key_hash: Option<u64>,
    /// Its channel's number.
    pub channel: u32,
    /// Whether the backend marked it as delivered before.
    pub redelivered: bool,
    /// Whether it came before the message's actual start.
    pub early: bool,
}

/// What is to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckPlan {
    /// How many producers there are.
    pub producers: u32,
    /// How many consumer groups there are; each should see every message.
    pub groups: usize,
    /// The order that was asked for.
    pub order: Order,
    /// About how many pairs of producer and key will be seen; 0 when nobody knows. A guess that is too low costs a pause when
    /// the table grows.
    pub keys: u64,
}

/// How many, and the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tallied {
    count: u64,
    first: Option<MessageId>,
}

impl Tallied {
    #[cold]
    fn add(&mut self, id: Option<MessageId>) {
        self.count += 1;
        self.first = self.first.or(id);
    }
}

/// What one group was given.
#[derive(Clone, Debug, Default)]
struct Group {
    delivered: Vec<PrefixSet>,
    delivered_acknowledged: u64,
    delivered_unacknowledged: u64,
    not_checked: u64,
    order_not_checked: u64,
    redelivered: u64,
    duplicated: Tallied,
    repeated: Tallied,
    reordered: Tallied,
    early: Tallied,
    corrupted: Tallied,
    foreign: Tallied,
    given_up: GivenUp,
    /// Acknowledged messages that its bindings don't let through.
    not_for: u64,
    /// Deliveries of such.
    misrouted: Tallied,
    /// By channel; only where total order is asked.
    traces: Vec<OrderTrace>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Checker {
    plan: CheckPlan,
    acknowledged: Vec<PrefixSet>,
    acknowledged_count: u64,
    groups: Vec<Group>,
    keys: KeyTable,
    budget: Budget,
    /// Only where groups have bindings.
    routes: Option<Arc<Routes>>,
}

impl Checker {
    /// Nothing seen yet.
    pub fn new(plan: CheckPlan) -> Self {
        let keys = plan.keys.saturating_mul(plan.groups as u64);
        Self::bounded(plan, Budget::default(), KeyTable::new(keys, key_table::MAX_SLOTS))
    }

    fn bounded(plan: CheckPlan, budget: Budget, keys: KeyTable) -> Self {
        let sets = vec![PrefixSet::default(); plan.producers as usize];
        let group = Group { delivered: sets.clone(), ..Group::default() };
        let groups = vec![group; plan.groups];
        Self { plan, acknowledged: sets, acknowledged_count: 0, groups, keys, budget, routes: None }
    }

    /// Each group is due only what is for it. Told before anything else.
    #[must_use]
    pub fn routed(mut self, routes: Option<Arc<Routes>>) -> Self {
        self.routes = routes;
        self
    }

    /// Whether a message is for a group.
    #[inline]
    fn is_for(&self, group: usize, sequence: u64) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.is_for(group, sequence))
    }

    /// A publish was acknowledged. Telling it twice counts once. Panics when the producer is not one of the plan's.
    #[inline]
    pub fn acknowledged(&mut self, id: MessageId) {
        let set = &mut self.acknowledged[id.producer as usize];
        let known = set.insert(id.sequence, &mut self.budget);
        if known == Found::Yes {
            return;
        }
        self.acknowledged_count += 1;
        for (index, group) in self.groups.iter_mut().enumerate() {
            if self.routes.as_ref().is_some_and(|routes| !routes.is_for(index, id.sequence)) {
                group.not_for += 1;
                continue;
            }
            let delivered = group.delivered[id.producer as usize].find(id.sequence);
            if known == Found::Forgotten || delivered == Found::Forgotten {
                group.not_checked += 1;
            } else if delivered == Found::Yes {
                group.delivered_acknowledged += 1;
                group.delivered_unacknowledged -= 1;
            }
        }
    }

    /// Publishes were acknowledged.
    pub fn acknowledged_many(&mut self, ids: impl IntoIterator<Item = MessageId>) {
        ids.into_iter().for_each(|id| self.acknowledged(id));
    }

    /// A member of `group` was given a message; the return value says whether the group saw it for the first time. A producer
    /// that is not one of the plan's makes it foreign.
    #[inline]
    pub fn delivered(&mut self, group: usize, arrived: &Arrived) -> bool {
        let Arrived { id, .. } = *arrived;
        let is_for = self.is_for(group, id.sequence);
        let of = &mut self.groups[group];
        let Some(set) = of.delivered.get_mut(id.producer as usize) else {
            of.foreign.add(Some(id));
            return false;
        };
        if !is_for {
            of.misrouted.add(Some(id));
            return false;
        }
        if arrived.redelivered {
            of.redelivered += 1;
        }
        if arrived.early {
            of.early.add(Some(id));
        }
        let known = set.insert(id.sequence, &mut self.budget);
        match known {
            Found::Yes if arrived.redelivered => of.repeated.add(Some(id)),
            Found::Yes => of.duplicated.add(Some(id)),
            // It may be the first delivery of a message that is or will be acknowledged, which must not pass for lost.
            Found::Forgotten => of.not_checked += 1,
            Found::No => {
                match self.acknowledged[id.producer as usize].find(id.sequence) {
                    Found::Yes => of.delivered_acknowledged += 1,
                    Found::No => of.delivered_unacknowledged += 1,
                    Found::Forgotten => of.not_checked += 1,
                }
                self.check_order(group, arrived);
            }
        }
        known == Found::No
    }

    /// Members of `group` were given messages, in this order.
    pub fn delivered_many<'a>(&mut self, group: usize, arrived: impl IntoIterator<Item = &'a Arrived>) {
        for arrived in arrived {
            self.delivered(group, arrived);
        }
    }

    #[inline]
    fn check_order(&mut self, group: usize, arrived: &Arrived) {
        let MessageId { producer, sequence } = arrived.id;
        let of = &mut self.groups[group];
        if let Some(key_hash) = arrived.key_hash {
            let whose = (group as u64) << 24 | u64::from(producer);
            let hash = key_hash ^ whose.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            match self.keys.arrive(hash, sequence) {
                Arrival::InOrder => {}
                Arrival::AfterALater => of.reordered.add(Some(arrived.id)),
                Arrival::NotChecked => of.order_not_checked += 1,
            }
        }
        if self.plan.order == Order::Total {
            let channel = arrived.channel as usize;
            if of.traces.len() <= channel {
                of.traces.resize_with(channel + 1, OrderTrace::default);
            }
            of.traces[channel].next(producer, sequence);
        }
    }

    /// A member of `group` was given a message whose checksum does not fit. `claimed` is what its stamp says, if it has one; it
    /// serves as an example and is not believed.
    pub fn corrupted(&mut self, group: usize, claimed: Option<MessageId>) {
        self.groups[group].corrupted.add(claimed);
    }

    /// A member of `group` was given a message of another run, or of none.
    pub fn foreign(&mut self, group: usize, claimed: Option<MessageId>) {
        self.groups[group].foreign.add(claimed);
    }

    /// What the backend says it gave up for `group` in all; a later answer replaces an earlier one. Panics when the group is not one
    /// of the plan's.
    pub fn gave_up(&mut self, group: usize, given_up: GivenUp) {
        self.groups[group].given_up = given_up;
    }

    /// Closes the books. `held` says of each group how many messages the backend still holds for it that the host was not given:
    /// lag, depth, leases of members that are gone. `published` says of each producer how many messages were handed to the
    /// backend; deliveries of later ones are foreign.
    pub fn finish(self, held: &[u64], published: &[u64], contract: &Contract) -> Vec<CheckRecord> {
        let parted = self.orders_that_part();
        let groups = self.groups.iter().enumerate();
        groups
            .map(|(index, group)| {
                let held = held.get(index).copied().unwrap_or(0);
                let count = self.close(index, held, published);
                verdict::record(&count, group, parted.get(index).copied().flatten(), *contract)
            })
            .collect()
    }

    /// How many acknowledged messages [`finish`](Self::finish) would call lost, over all groups, if the backend held these.
    pub fn lost(&self, held: &[u64]) -> u64 {
        let held = held.iter().copied().chain(std::iter::repeat(0));
        self.groups.iter().zip(held).map(|(group, held)| self.missing(group, held).lost).sum()
    }

    /// Deliveries to a group beyond the first of a message, marked as such or not. Panics when it is not one of the plan's.
    pub fn repeats(&self, group: usize) -> u64 {
        self.groups[group].duplicated.count + self.groups[group].repeated.count
    }

    /// Whether every group was given every acknowledged message, as far as the bounds let it be known.
    pub fn is_complete(&self) -> bool {
        let seen = |group: &Group| group.delivered_acknowledged + group.not_checked;
        self.groups.iter().all(|group| seen(group) + group.not_for >= self.acknowledged_count)
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        let sets = |sets: &[PrefixSet]| size_of_val(sets) + sets.iter().map(PrefixSet::bytes).sum::<usize>();
        let traces = |traces: &[OrderTrace]| size_of_val(traces) + traces.iter().map(OrderTrace::bytes).sum::<usize>();
        let group = |group: &Group| size_of::<Group>() + sets(&group.delivered) + traces(&group.traces);
        size_of::<Self>() + sets(&self.acknowledged) + self.groups.iter().map(group).sum::<usize>() + self.keys.bytes()
    }
}
