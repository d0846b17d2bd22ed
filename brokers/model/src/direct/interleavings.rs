//! Every interleaving of two callers, two receivers, the storage and a retry's wait, against the naive ledger.
//!
//! Leaves out callers that wait for the work (`storm`), and longer programs: random sequences of commands stand in `tests`.

use super::{DirectModel, DirectOptions};
use crate::contract::{Contract, Order};
use crate::time::Span;
use crate::trial::interleavings::{every, number};
use crate::trial::{Command, Limits, Rules, Trial};

/// Of so many interleavings one is drained to its end, which takes longer than all its steps.
const DRAINED: u64 = 16;

fn trial(contract: Contract) -> Trial<DirectModel> {
    let rules = Rules {
        lease: None,
        requeue: false,
        automatic: false,
        in_order: contract.order != Order::None,
        work_conserving: false,
        counts_unstored: true,
        limits: Limits::default(),
    };
    let options = DirectOptions { service_queue: 2, retries: 1, ..DirectOptions::default() };
    assert!(options.backoff <= Span::from_millis(30), "the wait of the programs is longer than a retry's");
    Trial::new(DirectModel::new(options, &contract).expect("kept"), rules, 1, 1, 2)
}

#[test]
fn two_callers_two_receivers_and_a_retry() {
    let publish = |producer, count| Command::Publish { producer, count, keys: 1 };
    let grant = |member, count| Command::Grant { member, count };
    let settle = |member| Command::Settle { member, back: 0, count: 1, verdict: 0 };
    let store = Command::Store { barriers: 9, fails: false };
    let programs: [&[Command]; 6] = [
        &[publish(0, 2), publish(0, 1)],
        &[publish(1, 2)],
        &[store, store],
        &[grant(0, 2), settle(0)],
        &[grant(1, 1), settle(1)],
        &[Command::Pass { ms: 30 }],
    ];
    let step = |trial: &mut Trial<DirectModel>, command: &Command| trial.run(*command);
    let count = every(&trial(Contract::default()), &programs, &step, &mut |trial, number| {
        if number % DRAINED == 0 {
            trial.drain();
        }
    });
    assert_eq!((count, number(&[2, 1, 2, 2, 2, 1])), (226_800, 226_800));
}

#[test]
fn a_receiver_that_leaves_and_a_storage_that_fails_under_an_order() {
    let programs: [&[Command]; 6] = [
        &[Command::Publish { producer: 0, count: 2, keys: 1 }],
        &[Command::Publish { producer: 1, count: 1, keys: 1 }],
        &[Command::Store { barriers: 1, fails: true }, Command::Store { barriers: 9, fails: false }],
        &[Command::Grant { member: 0, count: 2 }, Command::Close { member: 0 }],
        &[Command::Join { group: 0 }, Command::Grant { member: 1, count: 3 }],
        &[Command::Pass { ms: 30 }],
    ];
    let contract = Contract { order: Order::PerKey, ..Contract::default() };
    let step = |trial: &mut Trial<DirectModel>, command: &Command| trial.run(*command);
    let count = every(&trial(contract), &programs, &step, &mut |trial, number| {
        if number % DRAINED == 0 {
            trial.drain();
        }
    });
    assert_eq!((count, number(&[1, 1, 2, 2, 2, 1])), (45_360, 45_360));
}
