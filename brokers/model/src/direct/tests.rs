//! Request and response against the naive ledger: random commands, all short interleavings, and what only it has.

use proptest::prelude::*;

use super::breaker::BreakerOptions;
use super::{DirectModel, DirectOptions};
use crate::completion::{Failure, Status};
use crate::contract::{Availability, Contract, Delivery, Order};
use crate::machine::Model;
use crate::time::Span;
use crate::trial::crash::{Crash, crash};
use crate::trial::{Command, Limits, Rules, Trial, command, exhaust};

/// Restarts of a sequence of commands: one after each.
const RESTARTS: usize = 40;

fn trial(contract: Contract, options: DirectOptions, lanes: u32, groups: u32, members: u32) -> Trial<DirectModel> {
    let rules = Rules {
        lease: None,
        requeue: false,
        automatic: contract.delivery == Delivery::AtMostOnce,
        in_order: contract.order != Order::None,
        work_conserving: false,
        counts_unstored: true,
        limits: Limits::default(),
    };
    Trial::new(DirectModel::new(options, &contract).unwrap(), rules, lanes, groups, members)
}

fn contract() -> impl Strategy<Value = Contract> {
    let delivery = prop::sample::select(vec![Delivery::AtLeastOnce, Delivery::AtLeastOnce, Delivery::AtMostOnce]);
    let order = prop::sample::select(vec![Order::None, Order::PerKey]);
    (delivery, order).prop_map(|(delivery, order)| Contract { delivery, order, ..Contract::default() })
}

fn options() -> impl Strategy<Value = DirectOptions> {
    (1..8u32, 0..4u32, prop::sample::select(vec![0, 3, 50])).prop_map(|(service_queue, retries, failures)| {
        let breaker = BreakerOptions { calls: 10, failures, open_for: Span::from_millis(100), probes: 2 };
        let window = 12;
        let connections = service_queue % 3;
        DirectOptions { service_queue, window, connections, retries, breaker, ..DirectOptions::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_the_ledger(
        contract in contract(),
        options in options(),
        (lanes, groups, members) in (1..4u32, 1..3u32, 0..4u32),
        commands in prop::collection::vec(command(), 1..120),
    ) {
        let mut trial = trial(contract, options, lanes, groups, members);
        for command in commands {
            trial.run(command);
        }
        let (open, idle) = trial.drain().model.connections.open();
        prop_assert_eq!(open, idle, "no request holds a connection");
    }
}

proptest! {
    // As many as PROPTEST_CASES says, 256 else: 10,240 restarts.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_crash_at_any_moment_it_goes_on_where_its_journal_ends(
        contract in contract(),
        options in options(),
        (lanes, groups, members) in (1..4u32, 1..3u32, 0..4u32),
        steps in prop::collection::vec((command(), crash()), RESTARTS),
    ) {
        let mut trial = trial(contract, options, lanes, groups, members);
        prop_assert_eq!(trial.run_with_crashes(steps), RESTARTS);
        trial.drain();
    }
}

#[test]
fn every_interleaving_of_six_commands_of_two_consumers() {
    let options = DirectOptions { service_queue: 1, retries: 1, ..DirectOptions::default() };
    let mut trial = trial(Contract::default(), options, 1, 1, 2);
    trial.run(Command::Publish { producer: 0, count: 3, keys: 0 });
    let alphabet = [
        Command::Store { barriers: 1, fails: false },
        Command::Grant { member: 0, count: 2 },
        Command::Grant { member: 1, count: 1 },
        Command::Settle { member: 0, back: 0, count: 1, verdict: 0 },
        Command::Settle { member: 1, back: 0, count: 1, verdict: 0 },
        Command::Close { member: 1 },
        Command::Pass { ms: 30 },
    ];
    assert_eq!(exhaust(&trial, &alphabet, 6), (0..=6).map(|n| 7u64.pow(n)).sum::<u64>());
}

fn put(trial: &mut Trial<DirectModel>, count: u8, keys: u8) {
    trial.run(Command::Publish { producer: 0, count, keys });
}

fn store(trial: &mut Trial<DirectModel>) {
    trial.run(Command::Store { barriers: u8::MAX, fails: false });
}

const fn failed(failure: Failure) -> Status {
    Status::Failed(failure)
}

#[test]
fn receivers_take_turns_and_a_full_one_is_passed_over() {
    let options = DirectOptions { service_queue: 2, retries: 0, ..DirectOptions::default() };
    let mut trial = trial(Contract::default(), options, 1, 1, 2);
    put(&mut trial, 5, 0);
    store(&mut trial);
    assert_eq!(trial.published, [failed(Failure::Overloaded), Status::Done, Status::Done, Status::Done, Status::Done]);
    trial.run(Command::Grant { member: 0, count: 9 });
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 0 });
    put(&mut trial, 2, 0);
    store(&mut trial);
    assert_eq!(trial.published[5..], [failed(Failure::Overloaded), Status::Done], "one place was freed");
    let to: Vec<(u32, u64)> = trial.delivered.iter().map(|(to, receipt)| (*to, receipt.position)).collect();
    assert_eq!(to, [(10, 0), (10, 2), (10, 5)]);
}

#[test]
fn a_burst_is_absorbed_by_a_retry() {
    let options = DirectOptions { service_queue: 2, ..DirectOptions::default() };
    let mut trial = trial(Contract::default(), options, 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 99 });
    put(&mut trial, 4, 0);
    store(&mut trial);
    assert_eq!(trial.published, [Status::Done; 2]);
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 0 });
    trial.run(Command::Settle { member: 0, back: 1, count: 1, verdict: 0 });
    trial.run(Command::Pass { ms: 20 });
    store(&mut trial);
    assert_eq!(trial.published, [Status::Done; 4]);
    assert_eq!(trial.delivered.len(), 4);
}

#[test]
fn without_a_receiver_requests_fail_after_their_retries_and_the_breaker_opens() {
    let breaker = BreakerOptions { calls: 10, failures: 3, open_for: Span::from_secs(5), probes: 1 };
    let options = DirectOptions { breaker, ..DirectOptions::default() };
    let mut trial = trial(Contract::default(), options, 1, 1, 0);
    put(&mut trial, 3, 0);
    trial.run(Command::Pass { ms: 30 });
    assert_eq!(trial.published, [], "they are tried again");
    trial.run(Command::Pass { ms: 200 });
    assert_eq!(trial.published, [failed(Failure::NoReceiver); 3]);
    put(&mut trial, 2, 0);
    assert_eq!(trial.published[3..], [failed(Failure::CircuitOpen); 2], "nothing is sent");
    assert_eq!(trial.ledger.ends.get(&0), Some(&3), "and nothing is written");
    trial.run(Command::Join { group: 0 });
    for _ in 0..5 {
        trial.run(Command::Pass { ms: 1_000 });
    }
    put(&mut trial, 2, 0);
    assert_eq!(trial.published[5..], [failed(Failure::CircuitOpen)], "one probe at a time");
    store(&mut trial);
    put(&mut trial, 1, 0);
    store(&mut trial);
    assert_eq!(trial.published[6..], [Status::Done; 2], "the probe closed it");
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_failure_and_is_never_served() {
    let mut trial = trial(Contract::default(), DirectOptions::default(), 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 9 });
    put(&mut trial, 2, 0);
    for _ in 0..5 {
        trial.run(Command::Pass { ms: 200 });
    }
    assert_eq!(trial.published, [failed(Failure::Timeout); 2]);
    store(&mut trial);
    assert_eq!(trial.delivered, []);
    trial.drain();
}

#[test]
fn every_group_takes_a_request_or_none_serves_it() {
    let options = DirectOptions { retries: 0, service_queue: 1, ..DirectOptions::default() };
    let mut trial = trial(Contract::default(), options, 1, 2, 0);
    trial.run(Command::Join { group: 0 });
    trial.run(Command::Grant { member: 0, count: 9 });
    put(&mut trial, 1, 0);
    store(&mut trial);
    assert_eq!((trial.published.as_slice(), trial.delivered.len()), (&[failed(Failure::NoReceiver)][..], 0));
    trial.run(Command::Join { group: 1 });
    put(&mut trial, 1, 0);
    store(&mut trial);
    assert_eq!(trial.published[1..], [Status::Done], "the one that failed left its place");
    trial.drain();
}

#[test]
fn answered_requests_of_a_receiver_that_leaves_wait_for_another() {
    let mut trial = trial(Contract::default(), DirectOptions::default(), 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 1 });
    put(&mut trial, 3, 0);
    store(&mut trial);
    trial.run(Command::Close { member: 0 });
    assert_eq!(trial.ledger.state(0, 0), (3, 0, Some(0)));
    trial.run(Command::Join { group: 0 });
    trial.run(Command::Grant { member: 0, count: 9 });
    let got: Vec<(u32, u64, u32)> =
        trial.delivered.iter().map(|(to, receipt)| (*to, receipt.position, receipt.epoch)).collect();
    assert_eq!(got, [(10, 0, 0), (11, 0, 1), (11, 1, 0), (11, 2, 0)], "the one in work counts as delivered before");
}

#[test]
fn what_it_cannot_keep_is_refused_with_a_reason() {
    let refused = |contract: Contract| {
        let refusal = DirectModel::new(DirectOptions::default(), &contract).expect_err("refused");
        refusal.missing.into_iter().map(|missing| missing.axis).collect::<Vec<_>>()
    };
    let base = Contract::default();
    assert_eq!(refused(Contract { availability: Availability::Decoupled, ..base }), ["availability"]);
    assert_eq!(refused(Contract { order: Order::Total, copies: 2, ..base }), ["order", "copies"]);
    assert_eq!(refused(Contract { delivery: Delivery::ExactlyOnce, ..base }), ["delivery"]);
}

#[test]
fn after_a_restart_requests_that_were_written_down_are_served_even_if_nobody_waits_for_the_answer() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        let contract = Contract { delivery, ..Contract::default() };
        let mut trial = trial(contract, DirectOptions::default(), 1, 1, 1);
        trial.run(Command::Grant { member: 0, count: 2 });
        put(&mut trial, 3, 0);
        store(&mut trial);
        trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 0 });
        put(&mut trial, 1, 0);
        trial.crash(Crash::GENTLE);
        assert_eq!(trial.published, [Status::Done; 3], "the last one's caller never hears of it");
        trial.run(Command::Join { group: 0 });
        trial.run(Command::Grant { member: 0, count: 9 });
        let got: Vec<(u64, u32)> =
            trial.delivered[2..].iter().map(|(_, receipt)| (receipt.position, receipt.epoch)).collect();
        match delivery {
            Delivery::AtMostOnce => assert_eq!(got, [(2, 0), (3, 0)], "what a worker took is not handed over again"),
            Delivery::AtLeastOnce | Delivery::ExactlyOnce => assert_eq!(got, [(0, 1), (2, 1), (3, 1)]),
        }
        trial.drain();
    }
}

#[test]
fn with_one_connection_requests_go_over_it_one_after_another() {
    let options = DirectOptions { connections: 1, ..DirectOptions::default() };
    let mut trial = trial(Contract::default(), options, 1, 1, 1);
    trial.run(Command::Grant { member: 0, count: 9 });
    put(&mut trial, 3, 0);
    assert_eq!(trial.model.connections.open(), (1, 0));
    for _ in 0..8 {
        store(&mut trial);
        trial.run(Command::Pass { ms: 20 });
    }
    assert_eq!(trial.published, [Status::Done; 3]);
    let counts = trial.model.connections.counts();
    assert_eq!((counts.opened, counts.reused, counts.broken), (1, 2, 0));
    assert!(counts.exhausted >= 2, "{counts:?}");
    let told = |name: &str| trial.model.tallies().into_iter().find(|tally| tally.name == name).map(|tally| tally.count);
    assert_eq!(told("connections opened (handshakes)"), Some(1));
    assert_eq!(told("tries put off and made again"), Some(counts.exhausted));
    assert_eq!(trial.model.connections.open(), (1, 1));
    trial.run(Command::Close { member: 0 });
    assert_eq!(trial.model.connections.open(), (0, 0));
    trial.drain();
}
