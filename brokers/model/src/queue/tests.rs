//! The queue against the naive ledger: random commands, all short interleavings, and what only a queue has.

use proptest::prelude::*;

use super::{QueueModel, QueueOptions};
use crate::contract::{Contract, Delivery, Order};
use crate::time::Span;
use crate::trial::{Command, Rules, Trial, command, exhaust};

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
    };
    Trial::new(QueueModel::new(options, &contract).unwrap(), rules, lanes, groups, members)
}

fn contract() -> impl Strategy<Value = Contract> {
    let delivery = prop::sample::select(vec![Delivery::AtLeastOnce, Delivery::AtLeastOnce, Delivery::AtMostOnce]);
    let order = prop::sample::select(Order::ALL);
    (delivery, order).prop_map(|(delivery, order)| Contract { delivery, order, ..Contract::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

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

#[test]
fn every_interleaving_of_six_commands_of_two_consumers() {
    let mut trial = trial(Contract::default(), 0, 1, 1, 2);
    trial.run(Command::Publish { producer: 0, count: 2, keys: 0 });
    trial.run(Command::Store { barriers: 1, fails: false });
    let alphabet = [
        Command::Grant { member: 0, count: 1 },
        Command::Grant { member: 1, count: 2 },
        Command::Settle { member: 0, back: 0, verdict: 0 },
        Command::Settle { member: 1, back: 0, verdict: 0 },
        Command::Settle { member: 0, back: 0, verdict: 5 },
        Command::Close { member: 1 },
        Command::Pass { ms: 300 },
    ];
    assert_eq!(exhaust(&trial, &alphabet, 6), (0..=6).map(|n| 7u64.pow(n)).sum::<u64>());
}
