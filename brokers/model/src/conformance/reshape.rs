//! Lanes that are split and merged: the old ones take nothing more and are read to their end before the new ones; or it is refused.

use std::collections::BTreeMap;

use super::publish::{keyed, sorted_numbers};
use super::session::{Channel, Session, Who};
use super::settle::receipts;
use super::{Got, Rig};
use crate::batch::{Control, LaneId, Verdict};
use crate::capabilities::Feature;
use crate::completion::{Outcome, Refusal, Status};

/// Without the feature both are refused, and the lanes stay what they are.
fn refused(session: &mut Session<'_>, channel: Channel) {
    let admin = session.admin();
    session.refused(admin, Control::Split { lane: channel.first, at: None }, Refusal::Unsupported);
    let with = LaneId(channel.first.0 + 1);
    session.refused(admin, Control::Merge { lane: channel.first, with }, Refusal::Unsupported);
    let member = session.serving("g", channel);
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..20, 5));
    session.deliveries(member, 20);
    assert_eq!(sorted_numbers(session, member), (0..20).collect::<Vec<_>>());
}

/// Everything landed in these lanes, in each of them something.
fn landed(outcomes: &[Outcome], lanes: &[LaneId]) {
    assert!(outcomes.iter().all(|outcome| lanes.contains(&outcome.lane)), "{outcomes:?}");
    assert!(lanes.iter().all(|&lane| outcomes.iter().any(|outcome| outcome.lane == lane)), "{outcomes:?}");
}

/// The messages of each key rise.
fn in_order_of_keys(got: &[Got]) {
    let mut last: BTreeMap<&[u8], u64> = BTreeMap::new();
    for got in got {
        let before = last.insert(&got.key, got.number());
        assert!(before.is_none_or(|before| before < got.number()), "{} after {before:?}", got.number());
    }
}

/// A lane that is split takes nothing more, two new lanes take its keys, and a group reads them once it has settled all of the old
/// one; or splitting is refused.
pub fn a_split_lane_is_read_to_its_end_before_the_new_ones_or_splitting_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    if !session.has(Feature::Reshape) {
        refused(&mut session, channel);
        return session.end();
    }
    let (admin, producer) = (session.admin(), session.producer());
    let before = session.published(producer, &keyed(channel, 0..40, 8));
    landed(&before, &[channel.first]);
    let split = Control::Split { lane: channel.first, at: None };
    let made = session.ended(admin, split.clone());
    assert_eq!(made.status, Status::Done);
    let new = [made.lane, LaneId(made.lane.0 + 1)];
    landed(&session.published(producer, &keyed(channel, 40..80, 8)), &new);
    session.refused(admin, split, Refusal::OutOfRange);

    let member = session.member("g", channel);
    session.ask(member, Control::Grant(1_000));
    let old = session.deliveries(member, 40);
    session.idle();
    assert_eq!((session.got(member).len(), session.lanes(member)), (40, vec![channel.first]), "the old lane alone");
    let old = receipts(&old);
    session.settled(member, &old[..39], Verdict::Ack);
    session.idle();
    assert_eq!(session.got(member).len(), 40, "one is not settled yet");
    assert_eq!(session.settled(member, &old[39..], Verdict::Ack), [Status::Done]);
    session.deliveries(member, 80);
    assert!(new.iter().all(|lane| session.lanes(member).contains(lane)), "{:?}", session.lanes(member));
    in_order_of_keys(session.got(member));
    session.end();
}

/// Two lanes whose keys are neighbours become one that takes the keys of both, read once both were settled; or merging is refused.
pub fn merged_lanes_are_read_to_their_end_before_the_new_one_or_merging_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    if !session.has(Feature::Reshape) {
        let channel = session.create("channel", 3, &["g"]);
        refused(&mut session, channel);
        return session.end();
    }
    let channel = session.create("channel", 3, &["g", "h"]);
    let (admin, producer) = (session.admin(), session.producer());
    let lanes: Vec<LaneId> = channel.lanes().collect();
    landed(&session.published(producer, &keyed(channel, 0..90, 30)), &lanes);
    let merge = |lane: LaneId, with: LaneId| Control::Merge { lane, with };
    session.refused(admin, merge(lanes[0], lanes[2]), Refusal::OutOfRange);
    session.refused(admin, merge(lanes[1], lanes[1]), Refusal::OutOfRange);
    session.refused(admin, merge(lanes[0], LaneId(lanes[2].0 + 9)), Refusal::NoSuchLane);
    let made = session.ended(admin, merge(lanes[1], lanes[0]));
    assert_eq!(made.status, Status::Done);
    landed(&session.published(producer, &keyed(channel, 90..180, 30)), &[lanes[2], made.lane]);
    session.refused(admin, merge(lanes[0], lanes[2]), Refusal::OutOfRange);

    let behind = session.serving("g", channel);
    session.deliveries(behind, 180);
    in_order_of_keys(session.got(behind));
    session.idle();
    let rows = session.describe(channel).lanes;
    assert!(rows.iter().filter(|row| row.group == 0).all(|row| row.ready + row.in_flight == 0), "{rows:?}");
    let other = session.serving("h", channel);
    session.deliveries(other, 180);
    in_order_of_keys(session.got(other));
    assert_eq!(sorted_numbers(&session, other), (0..180).collect::<Vec<_>>());
    session.end();
}

/// Only the administrator splits and merges, and only lanes that are there; or it is refused.
pub fn a_split_by_another_or_of_what_is_not_there_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    if !session.has(Feature::Reshape) {
        refused(&mut session, channel);
        return session.end();
    }
    let others: [Who; 2] = [session.producer(), session.member("g", channel)];
    let with = LaneId(channel.first.0 + 1);
    for who in others {
        session.refused(who, Control::Split { lane: channel.first, at: None }, Refusal::WrongRole);
        session.refused(who, Control::Merge { lane: channel.first, with }, Refusal::WrongRole);
    }
    let admin = session.admin();
    session.refused(admin, Control::Split { lane: LaneId(99), at: None }, Refusal::NoSuchLane);
    session.refused(admin, Control::Split { lane: channel.first, at: Some(0) }, Refusal::OutOfRange);
    session.ended(admin, Control::Delete(channel.id));
    session.refused(admin, Control::Split { lane: channel.first, at: None }, Refusal::NoSuchLane);
    session.end();
}
