//! The checker against a model that keeps every message in a set, on random runs with loss, duplicates, disorder and redelivery.
//!
//! Leaves out scale: memory and long runs are the integration tests' part.

use std::collections::{BTreeMap, BTreeSet};

use brokerlab_model::{Contract, Delivery, Order, Storage};
use proptest::prelude::*;

use super::key_table::{KeyTable, MAX_SLOTS};
use super::prefix_set::{Budget, PrefixSet};
use super::{Arrived, CheckPlan, Checker, MessageId};
use crate::measurement::CheckRecord;

const PRODUCERS: u32 = 3;
const GROUPS: usize = 2;

/// What happens to the checker.
#[derive(Clone, Debug)]
enum Step {
    Acknowledged(MessageId),
    Delivered(usize, Arrived),
    Corrupted(usize),
    Foreign(usize),
}

/// One group, the obvious way.
#[derive(Clone, Debug, Default)]
struct NaiveGroup {
    delivered: BTreeSet<MessageId>,
    last_of_key: BTreeMap<(u32, u64), u64>,
    record: CheckRecord,
    repeated: u64,
}

#[derive(Clone, Debug, Default)]
struct Naive {
    acknowledged: BTreeSet<MessageId>,
    groups: [NaiveGroup; GROUPS],
}

impl Naive {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Acknowledged(id) => {
                self.acknowledged.insert(*id);
            }
            Step::Corrupted(group) => self.groups[*group].record.corrupted += 1,
            Step::Foreign(group) => self.groups[*group].record.foreign += 1,
            Step::Delivered(group, arrived) => self.groups[*group].deliver(arrived),
        }
    }

    fn finish(mut self, held: u64, published: u64) -> Vec<(CheckRecord, u64)> {
        let acknowledged = self.acknowledged;
        let close = |group: &mut NaiveGroup| {
            let record = &mut group.record;
            record.acknowledged = acknowledged.len() as u64;
            record.delivered = acknowledged.intersection(&group.delivered).count() as u64;
            let others: Vec<_> = group.delivered.difference(&acknowledged).collect();
            let beyond = group.delivered.iter().filter(|id| id.sequence >= published).count() as u64;
            record.foreign += beyond;
            record.delivered_unacknowledged = (others.len() as u64).saturating_sub(beyond);
            let missing = record.acknowledged - record.delivered;
            record.not_checked = record.corrupted.min(missing);
            record.undelivered = held.min(missing - record.not_checked);
            record.lost = missing - record.not_checked - record.undelivered;
            (record.clone(), group.repeated)
        };
        self.groups.iter_mut().map(close).collect()
    }
}

impl NaiveGroup {
    fn deliver(&mut self, arrived: &Arrived) {
        let record = &mut self.record;
        record.redelivered += u64::from(arrived.redelivered);
        record.early += u64::from(arrived.early);
        if !self.delivered.insert(arrived.id) {
            record.duplicated += u64::from(!arrived.redelivered);
            self.repeated += u64::from(arrived.redelivered);
            return;
        }
        if let Some(key) = arrived.key_hash {
            let last = self.last_of_key.entry((arrived.id.producer, key)).or_insert(arrived.id.sequence);
            record.reordered += u64::from(arrived.id.sequence < *last);
            *last = arrived.id.sequence.max(*last);
        }
    }
}

/// Messages around a front that moves on, now and then far behind it or ahead of it.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_u32..100, 0..PRODUCERS, 0..GROUPS, 0_u64..1_000, any::<bool>(), any::<bool>());
    prop::collection::vec(step, 0..900).prop_map(|drawn| {
        let mut front = 0_u64;
        let mut acknowledged = BTreeSet::new();
        let mut of_drawn = |(kind, producer, group, near, redelivered, early): (u32, u32, usize, u64, bool, bool)| {
            front += u64::from(kind % 4);
            let sequence = match near {
                0..=30 => near,
                31..=60 => front + near * 11,
                _ => (front + near % 50).saturating_sub(near / 20),
            };
            let id = MessageId { producer, sequence };
            let early = early && kind % 7 == 0;
            let redelivered = redelivered && kind % 3 == 0;
            let key_hash = (sequence % 11 > 0).then_some(sequence % 5);
            let arrived = Arrived { id, key_hash, channel: 0, redelivered, early };
            match kind {
                0 => Some(Step::Corrupted(group)),
                1 => Some(Step::Foreign(group)),
                2..=45 => acknowledged.insert(id).then_some(Step::Acknowledged(id)),
                _ => Some(Step::Delivered(group, arrived)),
            }
        };
        drawn.into_iter().filter_map(&mut of_drawn).collect()
    })
}

fn contract(delivery: Delivery) -> Contract {
    Contract { delivery, order: Order::None, storage: Storage::Memory, ..Contract::default() }
}

fn run(steps: &[Step], budget: Budget, held: u64, published: u64) -> (Vec<CheckRecord>, usize) {
    let plan = CheckPlan { producers: PRODUCERS, groups: GROUPS, order: Order::None, keys: 0 };
    let mut checker = Checker::bounded(plan, budget, KeyTable::new(0, MAX_SLOTS));
    for step in steps {
        match step {
            Step::Acknowledged(id) => checker.acknowledged(*id),
            Step::Delivered(group, arrived) => {
                checker.delivered(*group, arrived);
            }
            Step::Corrupted(group) => checker.corrupted(*group, None),
            Step::Foreign(group) => checker.foreign(*group, None),
        }
    }
    let groups = checker.groups.iter().flat_map(|group| &group.delivered);
    let taken = checker.acknowledged.iter().chain(groups).map(PrefixSet::taken);
    let taken = taken.fold((0, 0), |sum, set| (sum.0 + set.0, sum.1 + set.1));
    assert_eq!(checker.budget.taken(), taken, "the budget's books");
    let bytes = checker.bytes();
    let contract = contract(Delivery::AtLeastOnce);
    (checker.finish(&[held; GROUPS], &[published; PRODUCERS as usize], &contract), bytes)
}

fn naive(steps: &[Step], held: u64, published: u64) -> Vec<(CheckRecord, u64)> {
    let mut naive = Naive::default();
    for step in steps {
        naive.step(step);
    }
    naive.finish(held, published)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Windows of one word and of many, with room for every hole: exact.
    #[test]
    fn every_count_is_that_of_the_sets(
        steps in steps(), window in 1_usize..40, all_windows in 1_usize..80, held in 0_u64..40, cut in any::<bool>(),
    ) {
        let published = if cut { 700 } else { 1 << 39 };
        let expected = naive(&steps, held, published);
        let (found, _) = run(&steps, Budget::of(window, all_windows, 1 << 20), held, published);
        for (found, (expected, _)) in found.iter().zip(&expected) {
            let counts = CheckRecord { broken: Vec::new(), ..found.clone() };
            prop_assert_eq!(&counts, expected);
            prop_assert_eq!(found.broken.iter().any(|text| text.contains("lost")), expected.lost > 0);
        }
    }

    /// Without room: nobody is accused wrongly, and what is not known is said.
    #[test]
    fn beyond_its_bounds_it_never_accuses_wrongly(steps in steps(), window in 1_usize..4, holes in 0_usize..6) {
        let expected = naive(&steps, 0, 1 << 39);
        let (found, _) = run(&steps, Budget::of(window, 6, holes), 0, 1 << 39);
        for (found, (expected, _)) in found.iter().zip(&expected) {
            prop_assert_eq!(found.acknowledged, expected.acknowledged);
            prop_assert_eq!(
                found.acknowledged, found.delivered + found.undelivered + found.lost + found.not_checked
            );
            prop_assert!(found.lost <= expected.lost, "{found:?} {expected:?}");
            prop_assert!(found.duplicated <= expected.duplicated);
            prop_assert!(found.delivered <= expected.delivered);
            prop_assert!(found.reordered <= expected.reordered);
            prop_assert!(found.delivered == expected.delivered || found.not_checked > 0);
        }
    }
}

/// Every acknowledged message, delivered to every group at last, in an order of its own.
fn deliveries_of_all(steps: &[Step]) -> Vec<Step> {
    let mut ids: Vec<MessageId> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Acknowledged(id) => Some(*id),
            Step::Delivered(..) | Step::Corrupted(_) | Step::Foreign(_) => None,
        })
        .collect();
    ids.sort_by_key(|id| id.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let deliver = |group| move |&id: &MessageId| Step::Delivered(group, Arrived { id, ..Arrived::default() });
    (0..GROUPS).flat_map(|group| ids.iter().map(deliver(group)).collect::<Vec<_>>()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However little is remembered, what arrived at last, acknowledged before or after, is never called lost.
    #[test]
    fn what_arrived_late_is_never_called_lost(
        steps in steps(), window in 1_usize..4, holes in 0_usize..6, acknowledged_last in any::<bool>(),
    ) {
        let steps: Vec<Step> = steps.into_iter().filter(|step| !matches!(step, Step::Corrupted(_))).collect();
        let deliveries = deliveries_of_all(&steps);
        let all = if acknowledged_last { [deliveries, steps].concat() } else { [steps, deliveries].concat() };
        let (found, _) = run(&all, Budget::of(window, 6, holes), 0, 1 << 39);
        for found in found {
            prop_assert_eq!(found.lost, 0, "{:?}", found);
        }
    }
}

#[test]
fn a_number_too_far_ahead_is_not_checked_and_not_lost() {
    let id = MessageId { producer: 0, sequence: 1 << 39 };
    let arrived = Arrived { id, ..Arrived::default() };
    let steps = [Step::Acknowledged(id), Step::Delivered(0, arrived)];
    let (found, bytes) = run(&steps, Budget::default(), 0, 1 << 40);
    assert_eq!((found[0].acknowledged, found[0].lost, found[0].not_checked), (1, 0, 1));
    assert!(bytes < 100_000, "{bytes}");
}
