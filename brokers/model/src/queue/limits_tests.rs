//! Limits of a queue against the naive ledger: random commands, all short interleavings, and each limit by itself.

use proptest::prelude::*;

use super::{DeadLetter, Overflow, Preset, QueueModel, QueueOptions};
use crate::capabilities::Feature;
use crate::completion::{Failure, GivenUp, Status};
use crate::contract::{Contract, Delivery, Order};
use crate::machine::Model;
use crate::time::Span;
use crate::trial::{Command, Limits, Rules, Trial, command, exhaust};

const LEASE: Span = Span::from_millis(300);

pub(super) fn options(limits: Limits) -> QueueOptions {
    QueueOptions {
        visibility_timeout: LEASE,
        window: 12,
        max_length: limits.max_length,
        overflow: if limits.rejects { Overflow::RejectPublish } else { Overflow::DropHead },
        message_ttl: limits.ttl,
        delay: limits.delay,
        max_deliveries: limits.max_deliveries,
        max_in_flight: limits.max_in_flight as u32,
        dead_letter: DeadLetter::Keep,
        priorities: limits.levels,
        message_groups: limits.group_batch.is_some(),
        deduplication: limits.window,
        ..QueueOptions::default()
    }
}

pub(super) fn trial(
    contract: Contract,
    limits: Limits,
    (lanes, groups, members): (u32, u32, u32),
) -> Trial<QueueModel> {
    let automatic = contract.delivery == Delivery::AtMostOnce;
    let rules = Rules {
        lease: Some(LEASE),
        requeue: !automatic,
        automatic,
        in_order: true,
        work_conserving: (contract.order == Order::None || limits.group_batch.is_some()) && limits.max_in_flight == 0,
        counts_unstored: false,
        limits,
    };
    Trial::new(QueueModel::new(options(limits), &contract).unwrap(), rules, lanes, groups, members)
}

/// One queue with one member under the default contract.
fn single(limits: Limits) -> Trial<QueueModel> {
    trial(Contract::default(), limits, (1, 1, 1))
}

pub(super) fn any_limits() -> impl Strategy<Value = Limits> {
    let delay = prop::sample::select(vec![0, 0, 30, 250]);
    let ttl = prop::sample::select(vec![None, Some(1), Some(200), Some(700)]);
    let max_length = prop::sample::select(vec![0, 0, 1, 4, 9]);
    let most = (0..4_u32, prop::sample::select(vec![0, 0, 1, 5]));
    (delay, ttl, max_length, any::<bool>(), most).prop_map(
        |(delay, ttl, max_length, rejects, (max_deliveries, max_in_flight))| Limits {
            delay: Span::from_millis(delay),
            ttl: ttl.map(Span::from_millis),
            max_deliveries,
            max_length,
            rejects: rejects && max_length > 0,
            max_in_flight,
            ..Limits::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(600),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_agrees_with_the_ledger_whatever_is_limited(
        limits in any_limits(),
        delivery in prop::sample::select(vec![Delivery::AtLeastOnce, Delivery::AtLeastOnce, Delivery::AtMostOnce]),
        order in prop::sample::select(Order::ALL),
        world in (1..4_u32, 1..3_u32, 0..4_u32),
        commands in prop::collection::vec(command(), 1..120),
    ) {
        let mut trial = trial(Contract { delivery, order, ..Contract::default() }, limits, world);
        for command in commands {
            trial.run(command);
        }
        trial.drain();
    }
}

#[test]
fn every_interleaving_of_five_commands_where_everything_is_limited() {
    let limits = Limits {
        delay: Span::from_millis(100),
        ttl: Some(Span::from_millis(400)),
        max_deliveries: 2,
        max_length: 1,
        ..Limits::default()
    };
    let mut sequences = 0;
    for (rejects, max_in_flight) in [(false, 0), (true, 1)] {
        let mut trial = trial(Contract::default(), Limits { rejects, max_in_flight, ..limits }, (1, 1, 2));
        trial.run(Command::Grant { member: 0, count: 7 });
        let alphabet = [
            Command::Publish { producer: 0, count: 2, keys: 0 },
            Command::Store { barriers: 9, fails: false },
            Command::Grant { member: 1, count: 1 },
            Command::Settle { member: 0, back: 0, count: 1, verdict: 5 },
            Command::Settle { member: 0, back: 0, count: 1, verdict: 0 },
            Command::Close { member: 0 },
            Command::Pass { ms: 100 },
        ];
        sequences += exhaust(&trial, &alphabet, 5);
    }
    assert_eq!(sequences, 2 * (0..=5).map(|n| 7_u64.pow(n)).sum::<u64>());
}

/// Publishes so many messages and stores them.
fn put(trial: &mut Trial<QueueModel>, count: u8) {
    trial.run(Command::Publish { producer: 0, count, keys: 0 });
    trial.run(Command::Store { barriers: 9, fails: false });
}

fn positions(trial: &Trial<QueueModel>) -> Vec<u64> {
    trial.delivered.iter().map(|(_, receipt)| receipt.position).collect()
}

#[test]
fn a_full_queue_hands_out_what_it_can_and_gives_up_its_oldest() {
    let mut trial = single(Limits { max_length: 3, ..Limits::default() });
    trial.run(Command::Grant { member: 0, count: 2 });
    put(&mut trial, 5);
    put(&mut trial, 2);
    assert_eq!(positions(&trial), [0, 1], "a member that waits comes before the limit");
    assert_eq!(trial.ledger.state(0, 0), (3, 2, Some(0)));
    let expected = GivenUp { overflowed: 2, overflowed_unseen: 2, ..GivenUp::default() };
    assert_eq!(trial.ledger.given_up(0, 0), expected);
    trial.run(Command::Grant { member: 0, count: 9 });
    assert_eq!(positions(&trial), [0, 1, 4, 5, 6]);
    trial.drain();
}

#[test]
fn what_comes_back_to_a_full_queue_goes_first() {
    let mut trial = single(Limits { max_length: 2, ..Limits::default() });
    trial.run(Command::Grant { member: 0, count: 1 });
    put(&mut trial, 3);
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 5 });
    let expected = GivenUp { overflowed: 1, ..GivenUp::default() };
    assert_eq!(trial.ledger.given_up(0, 0), expected, "it had been delivered");
    trial.drain();
}

#[test]
fn a_full_queue_may_refuse_instead_and_takes_messages_again_when_it_has_room() {
    let mut trial = single(Limits { max_length: 3, rejects: true, ..Limits::default() });
    put(&mut trial, 5);
    let overloaded = Status::Failed(Failure::Overloaded);
    assert_eq!(trial.published, [overloaded, overloaded, Status::Done, Status::Done, Status::Done]);
    trial.run(Command::Grant { member: 0, count: 2 });
    put(&mut trial, 3);
    assert_eq!(trial.published[5..], [overloaded, Status::Done, Status::Done]);
    let trial = trial.drain();
    assert_eq!(trial.ledger.given_up(0, 0), GivenUp::default());
}

#[test]
fn what_waits_too_long_is_given_up_and_what_is_held_is_not() {
    let mut trial = single(Limits { ttl: Some(Span::from_millis(200)), ..Limits::default() });
    trial.run(Command::Grant { member: 0, count: 1 });
    put(&mut trial, 2);
    trial.run(Command::Pass { ms: 199 });
    assert_eq!(trial.ledger.state(0, 0), (1, 1, Some(0)));
    trial.run(Command::Pass { ms: 1 });
    assert_eq!(trial.ledger.state(0, 0), (0, 1, Some(0)));
    trial.run(Command::Grant { member: 0, count: 9 });
    assert_eq!(positions(&trial), [0], "what expired is delivered to nobody");
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 5 });
    assert_eq!(positions(&trial), [0], "nor is what comes back too old");
    let expected = GivenUp { expired: 2, expired_unseen: 1, ..GivenUp::default() };
    assert_eq!(trial.ledger.given_up(0, 0), expected);
    trial.drain();
}

#[test]
fn what_is_stored_after_its_time_is_never_delivered() {
    let mut trial = single(Limits { ttl: Some(Span::from_millis(50)), ..Limits::default() });
    trial.run(Command::Grant { member: 0, count: 9 });
    trial.run(Command::Publish { producer: 0, count: 3, keys: 0 });
    trial.run(Command::Pass { ms: 60 });
    trial.run(Command::Store { barriers: 1, fails: false });
    assert_eq!((positions(&trial).len(), trial.ledger.given_up(0, 0).expired_unseen), (0, 3));
    trial.drain();
}

#[test]
fn a_message_is_held_back_from_its_publish_on_and_needs_no_call_to_appear() {
    let mut trial = single(Limits { delay: Span::from_millis(100), ..Limits::default() });
    trial.run(Command::Grant { member: 0, count: 9 });
    let published = trial.now;
    put(&mut trial, 2);
    assert_eq!(trial.model.next_deadline(), Some(published + Span::from_millis(100)));
    trial.run(Command::Pass { ms: 60 });
    put(&mut trial, 1);
    trial.run(Command::Pass { ms: 39 });
    assert_eq!((positions(&trial).len(), trial.ledger.state(0, 0)), (0, (3, 0, Some(0))));
    trial.run(Command::Pass { ms: 1 });
    assert_eq!(positions(&trial), [0, 1]);
    trial.run(Command::Pass { ms: 60 });
    assert_eq!(positions(&trial), [0, 1, 2]);
    trial.drain();
}

#[test]
fn after_its_last_delivery_a_message_does_not_come_again_however_it_comes_back() {
    for back in [
        Command::Settle { member: 0, back: 0, count: 1, verdict: 5 },
        Command::Pass { ms: 300 },
        Command::Close { member: 0 },
    ] {
        let mut trial = trial(Contract::default(), Limits { max_deliveries: 2, ..Limits::default() }, (1, 1, 3));
        put(&mut trial, 1);
        for _ in 0..3 {
            trial.run(Command::Grant { member: 0, count: 1 });
            trial.run(back);
        }
        let epochs: Vec<u32> = trial.delivered.iter().map(|(_, receipt)| receipt.epoch).collect();
        assert_eq!(epochs, [0, 1], "{back:?}");
        assert_eq!(trial.ledger.given_up(0, 0), GivenUp { exhausted: 1, ..GivenUp::default() }, "{back:?}");
        trial.drain();
    }
}

#[test]
fn no_more_is_in_flight_than_is_allowed_and_a_settlement_makes_room() {
    let mut trial = single(Limits { max_in_flight: 2, ..Limits::default() });
    trial.run(Command::Grant { member: 0, count: 200 });
    put(&mut trial, 5);
    assert_eq!(positions(&trial), [0, 1]);
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 0 });
    assert_eq!(positions(&trial), [0, 1, 2]);
    trial.run(Command::Pass { ms: 300 });
    assert_eq!(positions(&trial), [0, 1, 2, 0, 2], "what came back goes first");
    trial.drain();
}

#[test]
fn ages_are_kept_for_what_is_there_and_not_for_what_was() {
    let ttl = Some(Span::from_secs(86_400));
    let mut trial = single(Limits { ttl, delay: Span::from_millis(1), ..Limits::default() });
    trial.run(Command::Grant { member: 0, count: 255 });
    for _ in 0..50 {
        put(&mut trial, 2);
        trial.run(Command::Pass { ms: 1 });
        for back in 0..2 {
            trial.run(Command::Settle { member: 0, back, count: 1, verdict: 0 });
        }
    }
    assert_eq!(trial.model.lanes[0].ages, super::Ages::default());
    assert!(trial.model.lane_timers.len() <= 2, "{:?}", trial.model.lane_timers);
    trial.drain();
}

#[test]
fn presets_say_what_they_limit_and_where_the_number_is_from() {
    for &preset in Preset::ALL {
        let options = preset.options();
        assert_eq!(options.check(), Ok(()));
        let limits = options.capabilities(Contract::default()).limits;
        assert!(limits.iter().all(|limit| !limit.value.is_empty() && !limit.source.is_empty()), "{limits:?}");
        assert!(limits.len() >= 4, "{limits:?}");
        let settings = options.honour(&Contract::default()).unwrap();
        assert_eq!((settings.0[0].name.as_str(), settings.0[0].value.as_str()), ("as", preset.name()));
    }
    let per_key = Contract { order: Order::PerKey, ..Contract::default() };
    assert!(Preset::Sqs.options().honour(&per_key).unwrap_err().to_string().contains("sqs-fifo"));
    assert!(Preset::SqsFifo.options().honour(&per_key).is_ok() && Preset::RabbitMq.options().honour(&per_key).is_ok());
    let competing = |preset: Preset| {
        preset.options().capabilities(Contract::default()).features.contains(&Feature::CompetingConsumers)
    };
    assert_eq!(Preset::ALL.iter().map(|&preset| competing(preset)).collect::<Vec<_>>(), [true, true, true]);
    let late = QueueOptions { delay: Span::from_secs(901), ..Preset::Sqs.options() };
    assert!(late.check().unwrap_err().to_string().contains("at most 15 min"));
}
