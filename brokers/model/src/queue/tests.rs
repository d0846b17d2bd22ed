//! The queue against the naive ledger: random commands, all short interleavings, and what only a queue has.

use proptest::prelude::*;

use super::{QueueModel, QueueOptions};
use crate::batch::{LaneId, Receipt, Settlement, Token, Verdict};
use crate::completion::{Refusal, Status};
use crate::contract::{Contract, Delivery, Order};
use crate::machine::{Effects, Model};
use crate::time::Span;
use crate::trial::crash::{Crash, crash};
use crate::trial::{Command, Limits, Rules, Trial, command, exhaust};

/// Restarts of a sequence of commands: one after each.
const RESTARTS: usize = 40;

const LEASE: Span = Span::from_millis(300);

fn trial(contract: Contract, prefetch: u32, lanes: u32, groups: u32, members: u32) -> Trial<QueueModel> {
    let options = QueueOptions { visibility_timeout: LEASE, prefetch, window: 12, ..QueueOptions::default() };
    let automatic = contract.delivery == Delivery::AtMostOnce;
    let rules = Rules {
        lease: Some(LEASE),
        requeue: !automatic,
        automatic,
        in_order: true,
        work_conserving: contract.order == Order::None && prefetch == 0,
        counts_unstored: false,
        limits: Limits::default(),
    };
    Trial::new(QueueModel::new(options, &contract).unwrap(), rules, lanes, groups, members)
}

fn contract() -> impl Strategy<Value = Contract> {
    let delivery = prop::sample::select(vec![Delivery::AtLeastOnce, Delivery::AtLeastOnce, Delivery::AtMostOnce]);
    let order = prop::sample::select(Order::ALL);
    (delivery, order).prop_map(|(delivery, order)| Contract { delivery, order, ..Contract::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_the_ledger(
        contract in contract(),
        (lanes, groups, members) in (1..4u32, 1..3u32, 0..4u32),
        prefetch in prop::sample::select(vec![0, 0, 1, 3]),
        commands in prop::collection::vec(command(), 1..120),
    ) {
        let mut trial = trial(contract, prefetch, lanes, groups, members);
        for command in commands {
            trial.run(command);
            if prefetch > 0 {
                prop_assert!(trial.most_in_flight() <= u64::from(prefetch));
            }
        }
        trial.drain();
    }
}

proptest! {
    // As many as PROPTEST_CASES says, 256 else: 10,240 restarts.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_crash_at_any_moment_it_goes_on_where_its_journal_ends(
        contract in contract(),
        prefetch in prop::sample::select(vec![0, 0, 1, 3]),
        (lanes, groups, members) in (1..4u32, 1..3u32, 0..4u32),
        steps in prop::collection::vec((command(), crash()), RESTARTS),
    ) {
        let mut trial = trial(contract, prefetch, lanes, groups, members);
        prop_assert_eq!(trial.run_with_crashes(steps), RESTARTS);
        trial.drain();
    }
}

#[test]
fn every_interleaving_of_six_commands_of_two_consumers() {
    let mut trial = trial(Contract::default(), 0, 1, 1, 2);
    trial.run(Command::Publish { producer: 0, count: 2, keys: 0 });
    trial.run(Command::Store { barriers: 1, fails: false });
    let alphabet = [
        Command::Grant { member: 0, count: 1 },
        Command::Grant { member: 1, count: 2 },
        Command::Settle { member: 0, back: 0, count: 1, verdict: 0 },
        Command::Settle { member: 1, back: 0, count: 1, verdict: 0 },
        Command::Settle { member: 0, back: 0, count: 1, verdict: 5 },
        Command::Close { member: 1 },
        Command::Pass { ms: 300 },
    ];
    assert_eq!(exhaust(&trial, &alphabet, 6), (0..=6).map(|n| 7u64.pow(n)).sum::<u64>());
}

/// Publishes so many messages and stores them.
fn put(trial: &mut Trial<QueueModel>, count: u8, keys: u8) {
    trial.run(Command::Publish { producer: 0, count, keys });
    trial.run(Command::Store { barriers: 1, fails: false });
}

fn taken_by(trial: &Trial<QueueModel>, member: u32) -> Vec<u64> {
    let own = trial.delivered.iter().filter(|(to, _)| *to == member);
    own.map(|(_, receipt)| receipt.position).collect()
}

#[test]
fn members_with_credit_share_a_batch_evenly() {
    let mut trial = trial(Contract::default(), 0, 1, 1, 3);
    for member in 0..3 {
        trial.run(Command::Grant { member, count: 100 });
    }
    put(&mut trial, 10, 0);
    let counts = [10, 11, 12].map(|member| taken_by(&trial, member).len());
    assert_eq!(counts, [4, 3, 3]);
    assert_eq!(taken_by(&trial, 10), [0, 1, 2, 3], "a share is a run");
}

#[test]
fn a_receipt_of_a_delivery_that_was_never_made_is_stale() {
    let mut trial = trial(Contract::default(), 0, 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 9 });
    put(&mut trial, 1, 0);
    let (member, given) = trial.delivered[0];
    let forged =
        [Receipt { epoch: 1, ..given }, Receipt { position: 1, ..given }, Receipt { lane: LaneId(7), ..given }];
    let settlements = forged.map(|receipt| Settlement { token: Token(0), receipt, verdict: Verdict::Ack });
    let mut out = Effects::default();
    trial.model.settle(trial.now, member, &settlements, &mut out);
    let statuses: Vec<Status> = out.outcomes.iter().map(|(_, outcome)| outcome.status).collect();
    let stale = Status::Refused(Refusal::StaleReceipt);
    assert_eq!(statuses, [stale, stale, Status::Refused(Refusal::NoSuchLane)]);
    assert!(out.writes.is_empty());
    trial.drain();
}

#[test]
fn under_an_order_one_member_reads_a_queue_until_it_leaves() {
    let contract = Contract { order: Order::PerKey, ..Contract::default() };
    let mut trial = trial(contract, 0, 1, 1, 2);
    for member in 0..2 {
        trial.run(Command::Grant { member, count: 100 });
    }
    put(&mut trial, 5, 2);
    assert_eq!((taken_by(&trial, 10).len(), taken_by(&trial, 11).len()), (5, 0));
    trial.run(Command::Close { member: 0 });
    assert_eq!(taken_by(&trial, 11), [0, 1, 2, 3, 4]);
    put(&mut trial, 2, 2);
    assert_eq!(taken_by(&trial, 11), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_total_order_uses_one_queue_however_many_lanes_there_are() {
    let contract = Contract { order: Order::Total, ..Contract::default() };
    let mut trial = trial(contract, 0, 4, 2, 1);
    put(&mut trial, 6, 3);
    assert_eq!(trial.ledger.ends.get(&0), Some(&6));
    assert_eq!(trial.ledger.ends.len(), 1);
    trial.drain();
}

#[test]
fn what_the_storage_lost_is_delivered_to_nobody_and_holds_nothing_up() {
    let mut trial = trial(Contract::default(), 0, 1, 2, 1);
    put(&mut trial, 3, 0);
    trial.run(Command::Publish { producer: 0, count: 3, keys: 0 });
    trial.run(Command::Store { barriers: 1, fails: true });
    put(&mut trial, 3, 0);
    let trial = trial.drain();
    assert_eq!(trial.ledger.failed.len(), 3);
    let mut positions: Vec<u64> = trial.delivered.iter().map(|(_, receipt)| receipt.position).collect();
    positions.sort_unstable();
    assert_eq!(positions, [0, 0, 1, 1, 2, 2, 6, 6, 7, 7, 8, 8]);
}

#[test]
fn a_lease_ends_at_its_time_even_when_nobody_called_in_between() {
    let mut trial = trial(Contract::default(), 0, 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 100 });
    put(&mut trial, 1, 0);
    let due = trial.model.next_deadline();
    assert_eq!(due, Some(trial.now + LEASE));
    trial.now += LEASE;
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 0 });
    let epochs: Vec<u32> = trial.delivered.iter().map(|(_, receipt)| receipt.epoch).collect();
    assert_eq!(epochs, [0, 1], "the receipt was stale, and the message is delivered again");
}

#[test]
fn a_message_that_stays_unsettled_does_not_keep_what_is_settled_after_it() {
    let mut trial = trial(Contract::default(), 0, 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 255 });
    put(&mut trial, 1, 0);
    trial.run(Command::Settle { member: 0, back: 1, count: 1, verdict: 7 });
    for _ in 0..40 {
        put(&mut trial, 5, 0);
        for back in 0..5 {
            trial.run(Command::Settle { member: 0, back, count: 1, verdict: 0 });
        }
    }
    assert_eq!(trial.ledger.state(0, 0), (0, 1, Some(0)));
    trial.drain();
}

#[test]
fn after_a_restart_what_is_not_settled_comes_again_in_order_and_before_anything_newer() {
    let mut trial = trial(Contract::default(), 0, 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 3 });
    put(&mut trial, 5, 0);
    trial.run(Command::Settle { member: 0, back: 1, count: 1, verdict: 0 });
    trial.crash(Crash::GENTLE);
    trial.run(Command::Join { group: 0 });
    put(&mut trial, 1, 0);
    trial.run(Command::Grant { member: 0, count: 9 });
    let got = |trial: &Trial<QueueModel>| -> Vec<(u64, u32)> {
        trial.delivered[3..].iter().map(|(_, receipt)| (receipt.position, receipt.epoch)).collect()
    };
    assert_eq!(got(&trial), [(0, 1), (2, 1), (3, 1), (4, 1), (5, 0)], "1 was settled, 5 is new");
    trial.run(Command::Settle { member: 0, back: 2, count: 1, verdict: 5 });
    trial.run(Command::Settle { member: 0, back: 1, count: 1, verdict: 5 });
    assert_eq!(got(&trial)[5..], [(3, 2), (5, 1)]);
    trial.drain();
}

#[test]
fn a_settlement_that_no_barrier_followed_may_be_lost_and_the_message_comes_again() {
    let mut trial = trial(Contract::default(), 0, 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 9 });
    put(&mut trial, 2, 0);
    trial.run(Command::Settle { member: 0, back: 1, count: 1, verdict: 0 });
    put(&mut trial, 1, 0);
    trial.run(Command::Settle { member: 0, back: 1, count: 1, verdict: 0 });
    let mut kept = trial.clone();
    kept.crash(Crash::GENTLE);
    assert_eq!(kept.ledger.state(0, 0), (1, 0, Some(2)));
    trial.crash(Crash::HARSH);
    assert_eq!(trial.ledger.state(0, 0), (2, 0, Some(1)), "0 was settled before the last barrier");
    trial.drain();
}
