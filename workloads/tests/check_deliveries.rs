//! The delivery checker from outside: each planted fault is named exactly, each contract judged by its own clauses, and memory
//! stays within its bound.
//!
//! Leaves out random runs, which are compared with a naive model beside the checker's source.

use brokerlab_model::{Contract, Delivery, GivenUp, Order};
use brokerlab_workloads::check::{Arrived, CheckPlan, Checker, MessageId};
use brokerlab_workloads::measurement::CheckRecord;

const MESSAGES: u64 = 10_000;

fn contract(delivery: Delivery, order: Order) -> Contract {
    Contract { delivery, order, ..Contract::default() }
}

fn id(sequence: u64) -> MessageId {
    MessageId { producer: 0, sequence }
}

fn arrived(sequence: u64) -> Arrived {
    Arrived { id: id(sequence), key_hash: Some(sequence % 7), ..Arrived::default() }
}

fn plan(groups: usize, order: Order) -> CheckPlan {
    CheckPlan { producers: 1, groups, order, keys: 0 }
}

/// All messages acknowledged, and delivered as `deliver` says.
fn run(contract: Contract, mut deliver: impl FnMut(&mut Checker, u64)) -> CheckRecord {
    let mut checker = Checker::new(plan(1, contract.order));
    for sequence in 0..MESSAGES {
        checker.acknowledged(id(sequence));
        deliver(&mut checker, sequence);
    }
    checker.finish(&[0], &[MESSAGES], &contract).remove(0)
}

fn strictest() -> Contract {
    contract(Delivery::ExactlyOnce, Order::PerKey)
}

#[test]
fn a_flawless_run_breaks_nothing() {
    for delivery in Delivery::ALL {
        for order in Order::ALL {
            let record = run(contract(*delivery, *order), |checker, n| {
                assert!(checker.delivered(0, &arrived(n)));
            });
            let expected = CheckRecord { acknowledged: MESSAGES, delivered: MESSAGES, ..CheckRecord::default() };
            assert_eq!(record, expected);
        }
    }
}

#[test]
fn a_dropped_message_is_lost_and_nothing_else() {
    let drop = |checker: &mut Checker, n| {
        if n != 7_321 {
            checker.delivered(0, &arrived(n));
        }
    };
    let record = run(strictest(), drop);
    assert_eq!((record.lost, record.delivered, record.undelivered), (1, MESSAGES - 1, 0));
    assert_eq!(
        record.broken,
        ["exactly-once: 1 acknowledged message was lost (for example message 7321 of producer 0)"]
    );
    assert_eq!(run(contract(Delivery::AtMostOnce, Order::PerKey), drop).broken, [""; 0]);
}

#[test]
fn a_duplicate_is_a_duplicate_and_at_least_once_allows_it() {
    let duplicate = |checker: &mut Checker, n| {
        checker.delivered(0, &arrived(n));
        if n % 1_000 == 500 {
            assert!(!checker.delivered(0, &arrived(n)));
        }
    };
    let record = run(strictest(), duplicate);
    assert_eq!((record.duplicated, record.redelivered, record.reordered, record.delivered), (10, 0, 0, MESSAGES));
    assert_eq!(record.broken, ["exactly-once: 10 deliveries were duplicates (for example message 500 of producer 0)"]);
    let record = run(contract(Delivery::AtLeastOnce, Order::PerKey), duplicate);
    assert_eq!((record.duplicated, record.broken.len()), (10, 0));
}

#[test]
fn a_mark_excuses_a_redelivery_only_where_duplicates_are_allowed() {
    let marked = |n| Arrived { redelivered: true, ..arrived(n) };
    let redeliver = |checker: &mut Checker, n| {
        checker.delivered(0, &arrived(n));
        if n == 9 {
            checker.delivered(0, &marked(n));
        }
    };
    let record = run(contract(Delivery::AtMostOnce, Order::None), redeliver);
    assert_eq!((record.duplicated, record.redelivered), (0, 1));
    let expected =
        "at-most-once: 1 message was delivered again, marked as redelivered (for example message 9 of producer 0)";
    assert_eq!(record.broken, [expected]);
    assert_eq!(run(contract(Delivery::AtLeastOnce, Order::None), redeliver).broken, [""; 0]);
    // The first that the host saw of it: the broker lost an earlier one on its way.
    let record = run(strictest(), |checker, n| {
        checker.delivered(0, &if n == 9 { marked(n) } else { arrived(n) });
    });
    assert_eq!((record.redelivered, record.delivered, record.broken.len()), (1, MESSAGES, 0));
}

#[test]
fn a_swap_within_a_key_is_reordered_and_a_swap_between_keys_is_not() {
    let swap = |distance: u64| {
        move |checker: &mut Checker, n: u64| match n {
            100 => {}
            n if n == 100 + distance => {
                checker.delivered(0, &arrived(n));
                checker.delivered(0, &arrived(100));
            }
            n => {
                checker.delivered(0, &arrived(n));
            }
        }
    };
    let record = run(strictest(), swap(7));
    assert_eq!(record.reordered, 1);
    let text = "message was reordered: it came after a later one of the same producer and key";
    assert_eq!(record.broken, [format!("order per key: 1 {text} (for example message 100 of producer 0)")]);
    let record = run(contract(Delivery::AtLeastOnce, Order::None), swap(7));
    assert_eq!((record.reordered, record.broken.len()), (1, 0));
    assert_eq!(run(strictest(), swap(6)).reordered, 0);
    let keyless = run(strictest(), |checker, n| {
        let message = if n < 2 { 1 - n } else { n };
        checker.delivered(0, &Arrived { key_hash: None, ..arrived(message) });
    });
    assert_eq!((keyless.reordered, keyless.delivered), (0, MESSAGES));
}

#[test]
fn a_corrupted_message_is_corrupted_and_not_lost() {
    let record = run(contract(Delivery::AtMostOnce, Order::None), |checker, n| {
        if n == 5 {
            checker.corrupted(0, Some(id(5)));
        } else {
            checker.delivered(0, &arrived(n));
        }
    });
    assert_eq!((record.corrupted, record.lost, record.not_checked), (1, 0, 1));
    assert_eq!(record.broken, ["integrity: 1 message was corrupted (for example message 5 of producer 0)"]);
}

#[test]
fn an_early_and_a_foreign_delivery_break_every_contract() {
    let weakest = contract(Delivery::AtMostOnce, Order::None);
    let record = run(weakest, |checker, n| {
        checker.delivered(0, &Arrived { early: n == 3, ..arrived(n) });
    });
    assert_eq!(record.early, 1);
    assert_eq!(
        record.broken,
        ["causality: 1 message was delivered before it was sent (for example message 3 of producer 0)"]
    );
    let record = run(weakest, |checker, n| {
        checker.delivered(0, &arrived(n));
        if n == 0 {
            checker.foreign(0, None);
            checker.delivered(0, &Arrived { id: MessageId { producer: 1, sequence: 0 }, ..Arrived::default() });
            checker.delivered(0, &Arrived { key_hash: None, ..arrived(MESSAGES + 5) });
        }
    });
    assert_eq!((record.foreign, record.delivered, record.delivered_unacknowledged), (3, MESSAGES, 0));
    assert_eq!(
        record.broken,
        ["origin: 3 messages were delivered that this run never published (for example message 0 of producer 1)"]
    );
}

#[test]
fn what_the_backend_holds_is_undelivered_and_unacknowledged_deliveries_are_counted_apart() {
    let contract = contract(Delivery::AtLeastOnce, Order::None);
    let mut checker = Checker::new(plan(2, Order::None));
    checker.acknowledged_many((0..100).filter(|n| n % 10 != 9).map(id));
    let first: Vec<Arrived> = (0..60).map(arrived).collect();
    checker.delivered_many(0, &first);
    let records = checker.finish(&[30, 100], &[100], &contract);
    // Of 90 acknowledged, 54 of the first 60 numbers; 6 more were delivered without acknowledgement.
    let found = |r: &CheckRecord| (r.delivered, r.delivered_unacknowledged, r.undelivered, r.lost);
    assert_eq!(found(&records[0]), (54, 6, 30, 6));
    assert_eq!(found(&records[1]), (0, 0, 90, 0));
    assert_eq!((records[0].broken.len(), records[1].broken.len()), (1, 0));
}

#[test]
fn what_the_backend_gave_up_by_its_settings_is_not_lost() {
    let contract = contract(Delivery::AtLeastOnce, Order::None);
    let mut checker = Checker::new(plan(2, Order::None));
    checker.acknowledged_many((0..100).map(id));
    let first: Vec<Arrived> = (0..60).map(arrived).collect();
    checker.delivered_many(0, &first);
    // Of 15 that expired and 14 that overflowed, 5 and 4 had been delivered.
    let said = GivenUp {
        expired: 15,
        overflowed: 14,
        expired_unseen: 10,
        overflowed_unseen: 10,
        rejected: 3,
        exhausted: 2,
        dead_lettered: 0,
    };
    checker.gave_up(0, GivenUp { expired_unseen: 99, ..said });
    checker.gave_up(0, said);
    checker.gave_up(1, GivenUp { expired: 500, expired_unseen: 500, dead_lettered: 500, ..GivenUp::default() });
    assert_eq!(checker.lost(&[15, 10]), 5);
    let records = checker.finish(&[15, 10], &[100], &contract);
    let found = |r: &CheckRecord| (r.delivered, r.undelivered, r.expired, r.overflowed, r.lost);
    assert_eq!(found(&records[0]), (60, 15, 10, 10, 5));
    assert_eq!(found(&records[1]), (0, 10, 90, 0, 0), "no more than is missing");
    assert_eq!([0, 1].map(|n: usize| (records[n].dropped, records[n].dead_lettered)), [(34, 0), (0, 500)]);
    assert_eq!((records[0].broken.len(), records[1].broken.len()), (1, 0));
}

#[test]
fn total_order_asks_that_groups_agree() {
    let total = contract(Delivery::AtLeastOnce, Order::Total);
    let keyless = |n: u64| Arrived { key_hash: None, ..arrived(n) };
    let run = |second: &[u64], held: u64| {
        let mut checker = Checker::new(plan(2, Order::Total));
        checker.acknowledged_many((0..2_000).map(id));
        let first: Vec<Arrived> = (0..2_000).map(keyless).collect();
        checker.delivered_many(0, &first);
        let second: Vec<Arrived> = second.iter().map(|&n| keyless(n)).collect();
        checker.delivered_many(1, &second);
        checker.finish(&[0, held], &[2_000], &total).remove(1)
    };
    let all: Vec<u64> = (0..2_000).collect();
    assert_eq!(run(&all, 0).broken, [""; 0]);
    // A group that lags has seen a prefix: that agrees.
    let lagging = run(&all[..1_500], 500);
    assert_eq!((lagging.broken.len(), lagging.order_not_checked, lagging.undelivered), (0, 0, 500));
    let mut swapped = all.clone();
    swapped.swap(1_000, 1_001);
    let broken = run(&swapped, 0).broken;
    assert_eq!(broken.len(), 1);
    assert!(broken[0].starts_with("total order: this group saw channel 0 in another order"), "{broken:?}");
    // A message missing in the middle: from there on the orders can't be compared, and nobody is accused of another order.
    let gap: Vec<u64> = all.iter().copied().filter(|&n| n != 1_000).collect();
    let gap = run(&gap, 1);
    assert_eq!(gap.broken, [""; 0]);
    assert!(gap.order_not_checked >= 997, "{}", gap.order_not_checked);
}

/// Ten million messages of a hundred producers with a loss in every 4,096 and a backlog of half a million: what is kept is the
/// holes and the keys, not the messages.
#[test]
fn memory_follows_disorder_and_keys_and_not_messages() {
    const MEMORY: usize = 8 << 20;
    let plan = CheckPlan { producers: 100, groups: 1, order: Order::PerKey, keys: 100_000 };
    let mut checker = Checker::new(plan);
    let message = |n: u64| MessageId { producer: (n % 100) as u32, sequence: n / 100 };
    let lost = |n: u64| n % 4_096 == 77;
    let (messages, backlog) = (10_000_000_u64, 500_000);
    let mut most = 0;
    for n in 0..messages + backlog {
        if n < messages {
            checker.acknowledged(message(n));
        }
        if let Some(n) = n.checked_sub(backlog).filter(|&n| !lost(n)) {
            let key_hash = Some(n / 100 % 1_000);
            checker.delivered(0, &Arrived { id: message(n), key_hash, ..Arrived::default() });
        }
        if n % 1_000_000 == 0 {
            most = most.max(checker.bytes());
        }
    }
    assert!(most < MEMORY, "{most} bytes");
    let record =
        checker.finish(&[0], &[messages / 100; 100], &contract(Delivery::AtLeastOnce, Order::PerKey)).remove(0);
    let expected = (0..messages).filter(|&n| lost(n)).count() as u64;
    assert_eq!((record.lost, record.reordered, record.not_checked), (expected, 0, 0));
}

/// The bound itself: as many keys, windows and holes as the checker ever keeps.
#[test]
fn memory_stays_within_its_bound_when_everything_goes_wrong() {
    const BOUND: usize = 256 << 20;
    let producers = 10_000_u32;
    let plan = CheckPlan { producers, groups: 1, order: Order::None, keys: u64::MAX };
    let mut checker = Checker::new(plan);
    let mut most = 0;
    // Every producer's messages arrive with a gap in every word and leaps between: windows and holes fill up.
    for round in 0..100_u64 {
        for producer in 0..producers {
            let id = MessageId { producer, sequence: round * 2_000 + u64::from(producer) };
            checker.acknowledged(id);
            checker.delivered(0, &Arrived { id, key_hash: Some(round), ..Arrived::default() });
        }
        most = most.max(checker.bytes());
    }
    assert!((96 << 20..BOUND).contains(&most), "{most} bytes");
    let record = checker.finish(&[0], &vec![u64::MAX; 10_000], &Contract::default()).remove(0);
    assert_eq!(record.acknowledged, 100 * u64::from(producers));
    assert_eq!(record.lost, 0);
}
