//! Rate limits: part of a batch is throttled or waits, and offered again it gets through; or there is no limit.

use super::contracts::check_refusal;
use super::publish::{keyed, sorted_numbers};
use super::session::{Session, numbered};
use super::{Got, Rig, Tuning};
use crate::batch::Blocked;
use crate::capabilities::Feature;
use crate::completion::Status;
use crate::contract::{Contract, Order};

/// More than any lane takes at once: 1,500 messages into one lane. With a rate limit some are throttled (or the prefix is
/// shorter, where order forbids to go on), the others are done, and what is offered again gets through. Without, all are done.
pub fn a_rate_limit_fails_in_part_or_nothing_is_throttled(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    let mut due: Vec<u64> = (0..1_500).collect();
    let (mut throttled, mut positions) = (0, Vec::new());
    let mut first_round = None;
    for _ in 0..200 {
        let items: Vec<_> = due.iter().flat_map(|&n| numbered(channel, n..n + 1)).collect();
        let tokens = session.publish(producer, &items);
        let outcomes = session.outcomes(producer, &tokens);
        let mut again = Vec::new();
        for (number, outcome) in due.iter().zip(outcomes) {
            match outcome.status {
                Status::Done => positions.push(outcome.position),
                Status::Throttled => again.push(*number),
                other @ (Status::Refused(_) | Status::Failed(_) | Status::Unknown) => panic!("{number}: {other:?}"),
            }
        }
        throttled += again.len();
        first_round.get_or_insert(positions.len());
        due = again;
        if due.is_empty() {
            break;
        }
        session.pass(crate::time::Span::from_millis(50));
    }
    assert!(due.is_empty(), "{} messages never got through", due.len());
    let waited = session.blocked(producer).contains(&Blocked::RateLimit);
    assert_eq!(throttled > 0 || waited, session.has(Feature::RateLimit), "throttled {throttled}, waited {waited}");
    assert!(first_round > Some(0), "a limit fails a part of a batch, not all of it");
    session.deliveries(member, 1_500);
    session.idle();
    assert_eq!(sorted_numbers(&session, member), (0..1_500).collect::<Vec<_>>());
    positions.sort_unstable();
    let told = session.has(Feature::PublishPosition);
    let due: Vec<u64> = (0..1_500).map(|n| if told { n } else { 0 }).collect();
    assert_eq!(positions, due, "what is throttled takes no position");
    session.end();
}

/// Under an order of keys nothing may overtake: over the limit the prefix is shorter, and what was throttled is never followed
/// by what was not. Or the contract is refused.
pub fn a_rate_limit_keeps_the_order_of_a_key(rig: &mut dyn Rig) {
    let contract = Contract { order: Order::PerKey, ..rig.contract() };
    if let Err(refusal) = rig.renew(&contract, Tuning::Usual) {
        check_refusal(rig.broker(), contract, &refusal);
        return;
    }
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    let tokens = session.publish(producer, &keyed(channel, 0..1_300, 1));
    let outcomes = session.outcomes(producer, &tokens);
    assert!(outcomes.iter().all(|outcome| outcome.status == Status::Done), "it waits instead of being throttled");
    let positions: Vec<u64> = outcomes.iter().map(|outcome| outcome.position).collect();
    let told = session.has(Feature::PublishPosition);
    assert_eq!(positions, (0..1_300).map(|n| if told { n } else { 0 }).collect::<Vec<_>>());
    let waited = session.blocked(producer).contains(&Blocked::RateLimit);
    assert_eq!(waited, session.has(Feature::RateLimit));
    let numbers: Vec<u64> = session.deliveries(member, 1_300).iter().map(Got::number).collect();
    assert!(numbers.is_sorted(), "the key's messages came in another order");
    session.end();
}
