//! Every interleaving of two producers, two consumers, the storage and a lease that ends, against the naive ledger.
//!
//! Leaves out longer programs: random sequences of commands stand in `tests`.

use super::{QueueModel, QueueOptions};
use crate::contract::{Contract, Delivery, Order};
use crate::time::Span;
use crate::trial::interleavings::{every, number};
use crate::trial::{Command, Limits, Rules, Trial};

const LEASE: Span = Span::from_millis(300);
/// Of so many interleavings one is drained to its end, which takes longer than all its steps.
const DRAINED: u64 = 16;

fn trial(contract: Contract) -> Trial<QueueModel> {
    let options = QueueOptions { visibility_timeout: LEASE, ..QueueOptions::default() };
    let automatic = contract.delivery == Delivery::AtMostOnce;
    let rules = Rules {
        lease: Some(LEASE),
        requeue: !automatic,
        automatic,
        in_order: true,
        work_conserving: contract.order == Order::None,
        counts_unstored: false,
        limits: Limits::default(),
    };
    Trial::new(QueueModel::new(options, &contract).expect("kept"), rules, 1, 1, 2)
}

#[test]
fn two_producers_two_consumers_and_a_lease_that_ends() {
    let publish = |producer, count| Command::Publish { producer, count, keys: 1 };
    let store = Command::Store { barriers: 1, fails: false };
    let settle = |member, verdict| Command::Settle { member, back: 0, count: 1, verdict };
    let grant = |member, count| Command::Grant { member, count };
    let programs: [&[Command]; 6] = [
        &[publish(0, 1), publish(0, 1)],
        &[publish(1, 2)],
        &[store, Command::Store { barriers: 9, fails: false }],
        &[grant(0, 2), settle(0, 0)],
        &[grant(1, 1), settle(1, 5)],
        &[Command::Pass { ms: 300 }],
    ];
    let step = |trial: &mut Trial<QueueModel>, command: &Command| trial.run(*command);
    let count = every(&trial(Contract::default()), &programs, &step, &mut |trial, number| {
        if number % DRAINED == 0 {
            trial.drain();
        }
    });
    assert_eq!((count, number(&[2, 1, 2, 2, 2, 1])), (226_800, 226_800));
}

#[test]
fn a_consumer_that_leaves_and_a_storage_that_fails_under_an_order() {
    let publish = |producer, count| Command::Publish { producer, count, keys: 1 };
    let programs: [&[Command]; 6] = [
        &[publish(0, 2)],
        &[publish(1, 1)],
        &[Command::Store { barriers: 1, fails: true }, Command::Store { barriers: 9, fails: false }],
        &[Command::Grant { member: 0, count: 2 }, Command::Close { member: 0 }],
        &[Command::Join { group: 0 }, Command::Grant { member: 1, count: 3 }],
        &[Command::Pass { ms: 300 }],
    ];
    let contract = Contract { order: Order::PerKey, ..Contract::default() };
    let step = |trial: &mut Trial<QueueModel>, command: &Command| trial.run(*command);
    let count = every(&trial(contract), &programs, &step, &mut |trial, number| {
        if number % DRAINED == 0 {
            trial.drain();
        }
    });
    assert_eq!((count, number(&[1, 1, 2, 2, 2, 1])), (45_360, 45_360));
}
