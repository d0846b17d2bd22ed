//! A member leaves and another goes on: after the committed position, with what was not settled, or without what at-most-once
//! gave away.

use super::contracts::check_refusal;
use super::publish::sorted_numbers;
use super::session::{Session, numbered};
use super::settle::{delivered, receipts};
use super::{Got, Rig, Tuning};
use crate::batch::{Control, Verdict};
use crate::capabilities::Feature;
use crate::completion::Status;
use crate::contract::{Contract, Delivery};

/// At least once: what a member took and did not settle comes to the next one, and what it settled does not.
pub fn what_was_not_settled_comes_to_the_next_member(rig: &mut dyn Rig) {
    let contract = Contract { delivery: Delivery::AtLeastOnce, ..rig.contract() };
    if let Err(refusal) = rig.renew(&contract, Tuning::Usual) {
        check_refusal(rig.broker(), contract, &refusal);
        assert!(refusal.missing.iter().any(|missing| missing.axis == "delivery"), "{refusal}");
        return;
    }
    let mut session = Session::open(rig);
    let (channel, leaving, got) = delivered(&mut session, 10);
    assert_eq!(session.settled(leaving, &receipts(&got[..4]), Verdict::Ack), [Status::Done; 4]);
    session.close(leaving);
    let next = session.serving("g", channel);
    session.idle();
    let numbers = sorted_numbers(&session, next);
    if session.has(Feature::Decoupled) {
        assert_eq!(numbers, (4..10).collect::<Vec<_>>());
        session.depth(channel, [10, 10, 0, 0]);
    } else {
        // Coupled: what its receiver did not answer is sent to another one or has failed; it is never answered for.
        assert!(numbers.iter().all(|number| (4..10).contains(number)), "{numbers:?}");
    }
    session.end();
}

/// At most once: nothing is delivered twice, whoever leaves; or the contract is refused.
pub fn at_most_once_delivers_nothing_twice_or_is_refused(rig: &mut dyn Rig) {
    let contract = Contract { delivery: Delivery::AtMostOnce, ..rig.contract() };
    if let Err(refusal) = rig.renew(&contract, Tuning::Usual) {
        check_refusal(rig.broker(), contract, &refusal);
        assert!(refusal.missing.iter().any(|missing| missing.axis == "delivery"), "{refusal}");
        return;
    }
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let leaving = session.member("g", channel);
    session.ask(leaving, Control::Grant(10));
    session.idle();
    let producer = session.producer();
    let tokens = session.publish(producer, &numbered(channel, 0..20));
    session.deliveries(leaving, 10);
    session.close(leaving);
    let next = session.serving("g", channel);
    session.outcomes(producer, &tokens);
    session.idle();
    let mut numbers = sorted_numbers(&session, leaving);
    numbers.extend(sorted_numbers(&session, next));
    let delivered = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), delivered, "something was delivered twice");
    if session.has(Feature::Decoupled) && session.has(Feature::ExactCredit) {
        assert_eq!(delivered, 20, "and nobody crashed, so nothing was lost");
    }
    assert!(delivered >= 10, "what was granted came");
    session.end();
}

/// Each group keeps its own place: what one settled, the other still gets.
pub fn groups_keep_their_own_place(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    if !(session.has(Feature::FanOut) && session.has(Feature::Decoupled)) {
        // One group only, or nothing kept for those who are away: the refusals of both are cases of their own.
        let groups = session.try_create("two", 1, &["g", "h"]).status;
        assert_eq!(groups == Status::Done, session.has(Feature::FanOut), "{groups:?}");
        return session.end();
    }
    let channel = session.create("channel", 1, &["g", "h"]);
    let early = session.serving("g", channel);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..15));
    session.deliveries(early, 15);
    session.idle();
    let late = session.serving("h", channel);
    let numbers: Vec<u64> = session.deliveries(late, 15).iter().map(Got::number).collect();
    assert_eq!(numbers.len(), 15);
    assert_eq!(session.got(early).len(), 15, "the other group's reading is its own");
    session.end();
}
