//! Lanes: assigned to members, revoked and held until they are released, and handed on when a member leaves.

use super::publish::{keyed, sorted_numbers};
use super::session::{Channel, Session, Who};
use super::settle::receipts;
use super::{Got, Rig};
use crate::batch::{Control, LaneId, Verdict};
use crate::capabilities::Feature;
use crate::completion::{Event, Refusal, Status};

/// Without lane assignment nobody is told of lanes, and there is none to be released.
fn without_assignment(session: &mut Session<'_>, channel: Channel, member: Who) {
    let refused = session.ended(member, Control::Release(channel.first)).status;
    assert_eq!(refused, Status::Refused(Refusal::Unsupported));
    session.idle();
    let lanes = session
        .events(member)
        .iter()
        .filter(|event| matches!(event, Event::LaneAssigned { .. } | Event::LaneRevoked(_) | Event::LaneLost(_)));
    assert_eq!(lanes.count(), 0);
}

pub(super) fn all_lanes(channel: Channel) -> Vec<LaneId> {
    channel.lanes().collect()
}

/// The first member of a group is assigned all lanes, each from where the group stands.
pub fn a_first_member_is_assigned_every_lane(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 3, &["g"]);
    let member = session.serving("g", channel);
    if session.has(Feature::LaneAssignment) {
        session.until("three lanes", |s| s.lanes(member) == all_lanes(channel));
        for event in session.events(member) {
            assert!(matches!(event, Event::LaneAssigned { position: 0, .. }), "{event:?}");
        }
    } else {
        without_assignment(&mut session, channel, member);
    }
    session.end();
}

/// A lane that is to move is revoked, stays with its member until that releases it, and only then goes to the other one.
pub fn a_revoked_lane_is_held_until_it_is_released(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    let first = session.member("g", channel);
    if !session.has(Feature::LaneAssignment) {
        without_assignment(&mut session, channel, first);
        return session.end();
    }
    session.until("two lanes", |s| s.lanes(first).len() == 2);
    session.ask(first, Control::Grant(10));
    let producer = session.producer();
    session.publish(producer, &keyed(channel, 0..10, 10));
    let got = session.deliveries(first, 10);

    let second = session.serving("g", channel);
    session.until("a lane to be revoked", |s| s.revoked(first).len() == 1);
    let moving = session.revoked(first)[0];
    let held = hold(&mut session, first, producer, channel, moving);
    assert_eq!(session.lanes(second), [], "it is held");
    assert_eq!(held, 0, "a lane that is being taken away brings nothing new");
    let theirs: Vec<_> = receipts(&got).into_iter().filter(|receipt| receipt.lane == moving).collect();
    assert!(!theirs.is_empty(), "ten keys reach both of two lanes");
    for status in session.settled(first, &theirs, Verdict::Ack) {
        assert_eq!(status, Status::Done, "what was delivered before may be settled while the lane is held");
    }
    assert_eq!(session.ended(first, Control::Release(moving)).status, Status::Done);
    session.until("the lane to move", |s| s.lanes(second) == [moving]);
    let position = theirs.iter().map(|receipt| receipt.position + 1).max().expect("not empty");
    assert!(
        session.events(second).contains(&Event::LaneAssigned { lane: moving, position }),
        "from the committed position"
    );
    let stale = session.settled(first, &theirs[..1], Verdict::Ack)[0];
    assert!(matches!(stale, Status::Refused(_)), "{stale:?} for a receipt of a lane that is gone");
    session.serve(first);
    let more = keyed(channel, 30..50, 20);
    session.publish(producer, &more);
    session.until("50 deliveries", |s| s.got(first).len() + s.got(second).len() >= 50);
    session.idle();
    let moved = session.got(second).iter().filter(|got| got.receipt.lane != moving).count();
    assert_eq!(
        (moved, session.got(second).is_empty()),
        (0, false),
        "the second member reads what moved, and only that"
    );
    session.end();
}

/// Publishes 20 messages to both lanes and grants as many to the member from which `moving` is revoked; returns how many of
/// them came from that lane.
fn hold(session: &mut Session<'_>, member: Who, producer: Who, channel: Channel, moving: LaneId) -> usize {
    let before = session.got(member).len();
    session.ask(member, Control::Grant(20));
    session.publish(producer, &keyed(channel, 10..30, 10));
    session.until("the other lane to go on", |s| s.got(member).len() > before);
    session.idle();
    session.got(member)[before..].iter().filter(|got| got.receipt.lane == moving).count()
}

/// A lane that is not revoked can't be released, nor one of somebody else's.
pub fn a_lane_that_is_not_revoked_is_not_released(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let first = session.member("g", channel);
    if !session.has(Feature::LaneAssignment) {
        without_assignment(&mut session, channel, first);
        return session.end();
    }
    session.until("the lane", |s| s.lanes(first).len() == 1);
    let idle = session.member("g", channel);
    session.refused(idle, Control::Release(channel.first), Refusal::NotAssigned);
    let producer = session.producer();
    session.refused(producer, Control::Release(channel.first), Refusal::WrongRole);
    session.refused(first, Control::Release(LaneId(55)), Refusal::NoSuchLane);
    session.end();
}

/// When a member closes, its lanes go to those who stay, from the committed positions; nothing is lost.
pub fn lanes_of_a_member_that_closes_go_to_the_others(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 4, &["g"]);
    let leaving = session.serving("g", channel);
    let staying = session.serving("g", channel);
    let assigned = session.has(Feature::LaneAssignment);
    if assigned {
        session.until("two lanes each", |s| s.lanes(leaving).len() == 2 && s.lanes(staying).len() == 2);
    }
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..100, 50));
    session.until("100 deliveries", |s| s.got(leaving).len() + s.got(staying).len() >= 100);
    session.idle();
    session.close(leaving);
    session.published(producer, &keyed(channel, 100..200, 50));
    session.until("200 deliveries", |s| s.got(leaving).len() + s.got(staying).len() >= 200);
    session.idle();
    let mut numbers = sorted_numbers(&session, leaving);
    numbers.extend(sorted_numbers(&session, staying));
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    if assigned {
        assert_eq!(session.lanes(staying), all_lanes(channel));
    }
    session.end();
}

/// The next position follows what was delivered; where lanes are not assigned, the question is refused.
pub fn a_member_knows_its_next_position(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.member("g", channel);
    if !session.has(Feature::LaneAssignment) {
        session.refused(member, Control::Position(channel.first), Refusal::Unsupported);
        return session.end();
    }
    session.until("the lane", |s| s.lanes(member).len() == 1);
    assert_eq!(session.position(member, channel.first), 0);
    session.ask(member, Control::Grant(4));
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..9, 1));
    let last = session.deliveries(member, 4).iter().map(|got: &Got| got.receipt.position).max();
    assert_eq!(last, Some(3));
    assert_eq!(session.position(member, channel.first), 4);
    let idle = session.member("g", channel);
    session.refused(idle, Control::Position(channel.first), Refusal::NotAssigned);
    session.refused(member, Control::Position(LaneId(55)), Refusal::NoSuchLane);
    session.end();
}
