//! Consumer groups and credit: each group gets every message once, members share the work, grants bound deliveries exactly.

use super::publish::{keyed, sorted_numbers};
use super::session::{Session, Who, numbered};
use super::{Got, Rig};
use crate::batch::Control;
use crate::broker::Role;
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};

/// Two groups get every message once each, or a second group is refused.
pub fn each_group_gets_every_message_or_a_second_group_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    if !session.has(Feature::FanOut) {
        assert_eq!(session.try_create("two", 1, &["g", "h"]).status, Status::Refused(Refusal::Unsupported));
        session.end();
        return;
    }
    let channel = session.create("channel", 3, &["g", "h"]);
    let members = [session.serving("g", channel), session.serving("h", channel)];
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..200, 20));
    for member in members {
        session.deliveries(member, 200);
    }
    session.idle();
    for member in members {
        assert_eq!(sorted_numbers(&session, member), (0..200).collect::<Vec<_>>());
    }
    session.end();
}

/// Members of one group share its messages: each message goes to one of them, and each member gets some.
pub fn members_of_a_group_share_its_messages(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 4, &["g"]);
    let members = [session.serving("g", channel), session.serving("g", channel)];
    session.idle();
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..400, 100));
    session.until("400 deliveries", |s| members.iter().map(|&m| s.got(m).len()).sum::<usize>() >= 400);
    session.idle();
    let mut numbers: Vec<u64> = members.iter().flat_map(|&member| sorted_numbers(&session, member)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
    for member in members {
        assert!(!session.got(member).is_empty(), "{member:?} of two got nothing of 400 messages on 4 lanes");
    }
    session.end();
}

/// Five members, two lanes: all get work where consumers compete; where lanes are assigned, as many members as there are lanes.
pub fn members_beyond_the_lanes_compete_or_stay_idle(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    let members: Vec<Who> = (0..5).map(|_| session.member("g", channel)).collect();
    for &member in &members {
        session.ask(member, Control::Grant(4));
    }
    session.idle();
    for &member in &members {
        for lane in session.revoked(member) {
            assert_eq!(session.ended(member, Control::Release(lane)).status, Status::Done);
        }
    }
    session.idle();
    let producer = session.producer();
    let compete = session.has(Feature::CompetingConsumers);
    let due = if compete { 20 } else { 8 };
    let tokens = session.publish(producer, &keyed(channel, 0..20, 20));
    session.until("every member with work to have used its credit", |s| {
        members.iter().map(|&m| s.got(m).len()).sum::<usize>() >= due
    });
    session.idle();
    let busy = members.iter().filter(|&&member| !session.got(member).is_empty()).count();
    assert_eq!(busy, if compete { 5 } else { 2 }, "of five members on two lanes");
    for &member in &members {
        session.serve(member);
        let receipts: Vec<_> = session.got(member).iter().map(|got| got.receipt).collect();
        session.settle(member, &receipts, crate::batch::Verdict::Ack);
    }
    session.until("everything to be delivered", |s| members.iter().map(|&m| s.got(m).len()).sum::<usize>() >= 20);
    session.outcomes(producer, &tokens);
    session.end();
}

/// Exactly as many deliveries as were granted; a grant ends once, with the last of its deliveries, and not before.
pub fn grants_bound_deliveries_exactly(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    let member = session.member("g", channel);
    let producer = session.producer();
    let grants: Vec<_> = [3, 1, 6].map(|n| session.ask(member, Control::Grant(n))).into();
    session.idle();
    assert!(grants.iter().all(|&grant| !session.is_ended(member, grant)), "nothing was there to be delivered");
    session.publish(producer, &keyed(channel, 0..4, 24));
    session.deliveries(member, 4);
    session.idle();
    let ended: Vec<bool> = grants.iter().map(|&grant| session.is_ended(member, grant)).collect();
    assert_eq!(ended, [true, true, false], "4 of 3 + 1 + 6 were delivered");
    session.publish(producer, &keyed(channel, 4..24, 24));
    session.deliveries(member, 10);
    session.idle();
    assert_eq!(session.got(member).len(), 10, "no more than was granted");
    assert_eq!(session.outcomes(member, &grants).iter().filter(|o| o.status == Status::Done).count(), 3);
    finish_by_serving(&mut session, member, 24);
    session.end();
}

/// A member that reads two channels gets both, by one credit; one batch may publish to both.
pub fn a_member_reads_several_channels_by_one_credit(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let first = session.create("first", 2, &["g"]);
    let second = session.create("second", 1, &["g"]);
    let other = session.create("other", 1, &["g"]);
    let role = Role::Member { group: "g".to_owned(), channels: vec![first.id, second.id] };
    let member = session.connect(role).expect("both channels name the group");
    let elsewhere = session.serving("g", other);
    session.ask(member, Control::Grant(10));
    let producer = session.producer();
    let mut items = Vec::new();
    for n in 0..30 {
        items.extend(numbered([first, second, other][n as usize % 3], n..n + 1));
    }
    let tokens = session.publish(producer, &items);
    session.deliveries(member, 10);
    session.idle();
    assert_eq!(session.got(member).len(), 10, "ten were granted, for both channels together");
    finish_by_serving(&mut session, member, 20);
    session.deliveries(elsewhere, 10);
    assert!(session.outcomes(producer, &tokens).iter().all(|outcome| outcome.status == Status::Done));
    for got in session.got(member) {
        let due = [first, second][got.number() as usize % 3];
        assert_eq!(got.channel, due.id, "message {}", got.number());
        assert!(due.lanes().any(|lane| lane == got.receipt.lane));
    }
    let expected: Vec<u64> = (0..30).filter(|n| n % 3 != 2).collect();
    assert_eq!(sorted_numbers(&session, member), expected);
    session.end();
}

/// A grant of nothing is done at once and delivers nothing.
pub fn a_grant_of_nothing_is_done_at_once(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.member("g", channel);
    assert_eq!(session.ended(member, Control::Grant(0)).status, Status::Done);
    assert_eq!(session.got(member).len(), 0);
    session.end();
}

/// Acknowledges what a member holds and serves on until it has `count` in all, so that a coupled producer gets its answers.
pub(super) fn finish_by_serving(session: &mut Session<'_>, member: Who, count: usize) {
    session.serve(member);
    let held: Vec<_> = session.got(member).iter().map(|got| got.receipt).collect();
    session.settle(member, &held, crate::batch::Verdict::Ack);
    session.deliveries(member, count);
    session.idle();
}

/// A slow member without credit does not hold up another group.
pub fn a_member_without_credit_gets_nothing_and_holds_nobody_up(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let fan_out = session.has(Feature::FanOut);
    let channel = session.create("channel", 1, if fan_out { &["g", "slow"] } else { &["g"] });
    let fast = session.serving("g", channel);
    session.idle();
    let slow = session.member(if fan_out { "slow" } else { "g" }, channel);
    if session.has(Feature::LaneAssignment) {
        // In one group the lane may move to the newcomer; then the fast member has none, and that is all there is to see.
        session.idle();
    }
    let fast_reads = fan_out || session.has(Feature::CompetingConsumers) || !session.lanes(fast).is_empty();
    let producer = session.producer();
    let tokens = session.publish(producer, &numbered(channel, 0..30));
    if fast_reads {
        session.deliveries(fast, 30);
        session.outcomes(producer, &tokens);
    }
    session.idle();
    assert_eq!(session.got(slow).len(), 0, "nothing was granted to it");
    if fan_out {
        session.ask(slow, Control::Grant(30));
        let numbers: Vec<u64> = session.deliveries(slow, 30).iter().map(Got::number).collect();
        assert_eq!(numbers.len(), 30);
    }
    session.end();
}
