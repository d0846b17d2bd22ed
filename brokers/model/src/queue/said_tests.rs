//! What messages say of themselves against the naive ledger: random commands, restarts, all short interleavings, and each by itself.

use proptest::prelude::*;

use super::limits_tests::{any_limits, trial};
use super::{Preset, QueueModel, QueueOptions};
use crate::completion::{Failure, GivenUp, Refusal, Status};
use crate::contract::{Availability, Contract, Delivery, Order, Storage};
use crate::time::Span;
use crate::trial::crash::{Crash, crash};
use crate::trial::{Command, Limits, Trial, Words, command_or_words, exhaust};

/// Restarts of a sequence of commands: one after each.
const RESTARTS: usize = 40;

const DURABLE: Contract = Contract {
    delivery: Delivery::AtLeastOnce,
    order: Order::None,
    storage: Storage::PageCache,
    copies: 1,
    availability: Availability::Decoupled,
};

/// Limits of every kind, and messages that say something.
fn any_rules() -> impl Strategy<Value = (Contract, Limits)> {
    let delivery = prop::sample::select(vec![Delivery::AtLeastOnce, Delivery::AtLeastOnce, Delivery::AtMostOnce]);
    let kind = (0..3u8, prop::sample::select(Order::ALL), any::<bool>());
    let window = prop::sample::select(vec![None, Some(1), Some(300), Some(900)]);
    (any_limits(), delivery, kind, window).prop_map(|(limits, delivery, (kind, order, routed), window)| {
        let window = window.map(Span::from_millis);
        // Priorities go with no order; a group's messages are in order, and a locked one is no head.
        let (order, levels, groups) = match kind {
            0 => (order, 0, false),
            1 => (Order::None, 3, false),
            _ => (if order == Order::Total { Order::None } else { order }, 0, true),
        };
        let limits = Limits {
            levels,
            group_batch: groups.then_some(10),
            window,
            routed,
            key_first: order == Order::PerKey,
            no_delay: order != Order::None || groups,
            rejects: limits.rejects || (groups && limits.max_length > 0),
            ..limits
        };
        (Contract { delivery, order, ..DURABLE }, limits)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(600),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_agrees_with_the_ledger_whatever_messages_say(
        (contract, limits) in any_rules(),
        world in (1..4_u32, 1..4_u32, 0..4_u32),
        commands in prop::collection::vec(command_or_words(), 1..120),
    ) {
        let mut trial = trial(contract, limits, world);
        for command in commands {
            trial.run(command);
        }
        trial.drain();
    }
}

proptest! {
    // As many as PROPTEST_CASES says, 256 else: 10,240 restarts.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_crash_it_knows_again_what_messages_said(
        (contract, limits) in any_rules(),
        world in (1..4_u32, 1..3_u32, 0..4_u32),
        steps in prop::collection::vec((command_or_words(), crash()), RESTARTS),
    ) {
        let mut trial = trial(contract, limits, world);
        prop_assert_eq!(trial.run_with_crashes(steps), RESTARTS);
        trial.drain();
    }
}

fn single(limits: Limits) -> Trial<QueueModel> {
    trial(DURABLE, limits, (1, 1, 1))
}

/// Publishes so many messages that say this, and stores them.
fn say(trial: &mut Trial<QueueModel>, count: u8, words: Words) {
    trial.run(Command::Say { producer: 0, count, words });
    trial.run(Command::Store { barriers: 9, fails: false });
}

fn positions(trial: &Trial<QueueModel>) -> Vec<u64> {
    trial.delivered.iter().map(|(_, receipt)| receipt.position).collect()
}

fn level(level: u8) -> Words {
    Words { level, ..Words::default() }
}

#[test]
fn every_interleaving_of_five_commands_with_two_priorities_or_two_groups() {
    let alphabet = [
        Command::Say { producer: 0, count: 2, words: Words { level: 1, key: 1, ..Words::default() } },
        Command::Say { producer: 0, count: 1, words: Words { key: 2, ..Words::default() } },
        Command::Store { barriers: 9, fails: false },
        Command::Grant { member: 1, count: 1 },
        Command::Settle { member: 0, back: 0, count: 1, verdict: 5 },
        Command::Settle { member: 0, back: 0, count: 1, verdict: 0 },
        Command::Pass { ms: 300 },
    ];
    let mut sequences = 0;
    let priorities = Limits { levels: 1, ..Limits::default() };
    let groups = Limits { group_batch: Some(10), no_delay: true, ..Limits::default() };
    for limits in [priorities, groups] {
        let mut trial = trial(DURABLE, limits, (1, 1, 2));
        trial.run(Command::Grant { member: 0, count: 2 });
        sequences += exhaust(&trial, &alphabet, 5);
    }
    assert_eq!(sequences, 2 * (0..=5).map(|n| 7_u64.pow(n)).sum::<u64>());
}

#[test]
fn a_higher_priority_goes_first_and_the_highest_is_the_queues() {
    let mut trial = single(Limits { levels: 5, ..Limits::default() });
    for words in [level(0), level(3), level(9), level(5), level(3)] {
        say(&mut trial, 1, words);
    }
    trial.run(Command::Grant { member: 0, count: 3 });
    assert_eq!(positions(&trial), [2, 3, 1], "9 counts as 5");
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 5 });
    trial.run(Command::Grant { member: 0, count: 9 });
    assert_eq!(positions(&trial)[3..], [1, 4, 0], "of one priority, what came back goes first");
    trial.drain();
}

#[test]
fn without_priorities_a_message_that_has_one_waits_in_line() {
    let mut trial = single(Limits::default());
    say(&mut trial, 2, level(0));
    say(&mut trial, 1, level(9));
    trial.run(Command::Grant { member: 0, count: 9 });
    assert_eq!(positions(&trial), [0, 1, 2]);
    trial.drain();
}

#[test]
fn the_shorter_of_two_lives_counts_and_one_held_too_long_is_given_up_when_it_comes_back() {
    let mut trial = single(Limits { ttl: Some(Span::from_millis(200)), ..Limits::default() });
    let lives = |ms| Words { ttl: Some(Span::from_millis(ms)), ..Words::default() };
    for words in [lives(50), lives(500), level(0), lives(100)] {
        say(&mut trial, 1, words);
    }
    trial.run(Command::Grant { member: 0, count: 1 });
    assert_eq!(positions(&trial), [0]);
    trial.run(Command::Pass { ms: 100 });
    assert_eq!(trial.ledger.state(0, 0), (2, 1, Some(0)), "the last one's life is over");
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 5 });
    trial.run(Command::Pass { ms: 100 });
    let expected = GivenUp { expired: 4, expired_unseen: 3, ..GivenUp::default() };
    assert_eq!(trial.ledger.given_up(0, 0), expected);
    trial.drain();
}

#[test]
fn a_message_may_say_its_own_delay_shorter_or_longer_than_the_queues() {
    let mut trial = single(Limits { delay: Span::from_millis(100), ..Limits::default() });
    let held = |ms| Words { delay: Some(Span::from_millis(ms)), ..Words::default() };
    trial.run(Command::Grant { member: 0, count: 9 });
    for words in [level(0), held(0), held(250), held(100)] {
        say(&mut trial, 1, words);
    }
    assert_eq!(positions(&trial), [1]);
    trial.run(Command::Pass { ms: 100 });
    assert_eq!(positions(&trial), [1, 0, 3]);
    trial.run(Command::Pass { ms: 150 });
    assert_eq!(positions(&trial), [1, 0, 3, 2]);
    trial.drain();
    let contract = Contract { order: Order::PerKey, ..DURABLE };
    let mut ordered = super::limits_tests::trial(contract, Limits { no_delay: true, ..Limits::default() }, (1, 1, 1));
    say(&mut ordered, 1, held(5));
    assert_eq!(ordered.published, [Status::Refused(Refusal::Unsupported)], "it would break the order");
}

#[test]
fn a_repeat_is_acknowledged_where_the_first_is_and_stored_once() {
    let mut trial = single(Limits { window: Some(Span::from_millis(500)), ..Limits::default() });
    let id = |id| Words { id, ..Words::default() };
    trial.run(Command::Grant { member: 0, count: 99 });
    trial.run(Command::Say { producer: 0, count: 2, words: id(1) });
    assert_eq!(trial.published, [], "nor is a repeat, before the first is stored");
    trial.run(Command::Store { barriers: 9, fails: false });
    say(&mut trial, 1, id(2));
    for back in 0..2 {
        trial.run(Command::Settle { member: 0, back, count: 1, verdict: 0 });
    }
    trial.run(Command::Pass { ms: 499 });
    say(&mut trial, 1, id(1));
    assert_eq!((trial.published.clone(), positions(&trial)), (vec![Status::Done; 4], vec![0, 1]));
    trial.crash(Crash::HARSH);
    say(&mut trial, 1, id(1));
    trial.run(Command::Pass { ms: 1 });
    say(&mut trial, 1, id(1));
    assert_eq!(trial.ledger.ends.get(&0), Some(&3), "it was known after the restart, and for half a second in all");
    trial.drain();
}

#[test]
fn when_the_first_is_lost_its_repeats_fail_and_the_next_is_the_first() {
    let mut trial = single(Limits { window: Some(Span::from_millis(500)), ..Limits::default() });
    trial.run(Command::Say { producer: 0, count: 2, words: Words { id: 1, ..Words::default() } });
    trial.run(Command::Store { barriers: 9, fails: true });
    assert_eq!(trial.published, [Status::Failed(Failure::Storage); 2]);
    say(&mut trial, 2, Words { id: 1, ..Words::default() });
    assert_eq!((trial.published[2..].to_vec(), trial.ledger.ends[&0]), (vec![Status::Done; 2], 2));
    trial.drain();
}

#[test]
fn members_compete_for_groups_and_a_group_is_read_by_one() {
    let limits = Limits { group_batch: Some(10), no_delay: true, ..Limits::default() };
    let mut trial = trial(DURABLE, limits, (1, 1, 2));
    let group = |group| Words { group, ..Words::default() };
    for (count, words) in [(3, group(1)), (1, group(2)), (1, group(1))] {
        say(&mut trial, count, words);
    }
    trial.run(Command::Grant { member: 0, count: 2 });
    trial.run(Command::Grant { member: 1, count: 9 });
    let to = |trial: &Trial<QueueModel>| trial.delivered.iter().map(|(to, at)| (*to, at.position)).collect::<Vec<_>>();
    assert_eq!(to(&trial), [(10, 0), (10, 1), (11, 3)]);
    trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 5 });
    assert_eq!(trial.delivered.len(), 3, "the other is still held");
    trial.run(Command::Settle { member: 0, back: 1, count: 1, verdict: 0 });
    assert_eq!(positions(&trial)[3..], [1, 2, 4], "what came back goes first, to whoever reads the group now");
    trial.drain();
}

#[test]
fn a_group_gets_what_it_is_bound_to_and_a_publisher_hears_of_what_nobody_gets() {
    let mut trial = trial(DURABLE, Limits { routed: true, ..Limits::default() }, (1, 2, 1));
    for route in 0..4 {
        say(&mut trial, 1, Words { route, ..Words::default() });
    }
    assert_eq!(
        trial.published,
        [Status::Refused(Refusal::Unroutable), Status::Done, Status::Done, Status::Done],
        "it is neither stored nor forgotten"
    );
    assert_eq!([trial.ledger.state(0, 0), trial.ledger.state(0, 1)], [(2, 0, Some(0)), (2, 0, Some(1))]);
    trial.crash(Crash::GENTLE);
    assert_eq!([trial.ledger.state(0, 0), trial.ledger.state(0, 1)], [(2, 0, Some(0)), (2, 0, Some(1))]);
    trial.drain();
}

#[test]
fn what_messages_said_leaves_nothing_behind() {
    let limits = Limits { levels: 9, window: Some(Span::from_millis(50)), ..Limits::default() };
    let mut trial = single(limits);
    let day = Some(Span::from_secs(86_400));
    trial.run(Command::Grant { member: 0, count: 255 });
    for n in 0..200_u8 {
        let words = Words { level: n % 10, ttl: day, delay: Some(Span::from_millis(1)), id: n, ..Words::default() };
        say(&mut trial, 1, words);
        trial.run(Command::Pass { ms: 1 });
        trial.run(Command::Settle { member: 0, back: 0, count: 1, verdict: 0 });
    }
    trial.run(Command::Pass { ms: 50 });
    assert_eq!(trial.model.repeats.next_deadline(), None);
    let backlog = format!("{:?}", trial.model.backlogs[0]);
    assert!(backlog.len() < 12_000, "{} {backlog}", backlog.len());
    trial.drain();
}

#[test]
fn what_contradicts_an_order_is_refused() {
    let priorities = QueueOptions { priorities: 3, ..QueueOptions::default() };
    let per_key = Contract { order: Order::PerKey, ..Contract::default() };
    assert!(priorities.honour(&per_key).unwrap_err().to_string().contains("overtakes"));
    let both = QueueOptions { message_groups: true, ..priorities };
    assert!(both.honour(&Contract::default()).unwrap_err().to_string().contains("priorities"));
    let head = QueueOptions { message_groups: true, max_length: 5, ..QueueOptions::default() };
    assert!(head.honour(&Contract::default()).unwrap_err().to_string().contains("reject-publish"));
    let fifo = QueueOptions { priorities: 3, ..Preset::SqsFifo.options() };
    assert!(fifo.check().unwrap_err().to_string().contains("priorities"));
}
