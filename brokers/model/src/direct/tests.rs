//! Request and response against the naive ledger: random commands, all short interleavings, and what only it has.

use proptest::prelude::*;

use super::breaker::BreakerOptions;
use super::{DirectModel, DirectOptions};
use crate::contract::{Contract, Delivery, Order};
use crate::time::Span;
use crate::trial::{Command, Rules, Trial, command, exhaust};

fn trial(contract: Contract, options: DirectOptions, lanes: u32, groups: u32, members: u32) -> Trial<DirectModel> {
    let rules = Rules {
        lease: None,
        requeue: false,
        automatic: contract.delivery == Delivery::AtMostOnce,
        in_order: contract.order != Order::None,
        work_conserving: false,
        counts_unstored: true,
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
        DirectOptions { service_queue, window, retries, breaker, ..DirectOptions::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

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
        Command::Settle { member: 0, back: 0, verdict: 0 },
        Command::Settle { member: 1, back: 0, verdict: 0 },
        Command::Close { member: 1 },
        Command::Pass { ms: 30 },
    ];
    assert_eq!(exhaust(&trial, &alphabet, 6), (0..=6).map(|n| 7u64.pow(n)).sum::<u64>());
}
