//! What the administrator asks for: channels made, removed and described.

use super::Rig;
use super::session::{Channel, Item, Session, numbered};
use crate::batch::{ChannelId, Control, LaneId};
use crate::broker::{ConnectError, Role};
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};

/// Channels are numbered from 0 in the order of their making; lanes follow one another across channels and are never shared.
pub fn channels_are_numbered_in_order_and_their_lanes_are_their_own(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let first = session.create("first", 3, &["g"]);
    let second = session.create("second", 1, &["g"]);
    let third = session.create("third", 2, &["h"]);
    assert_eq!([first.id, second.id, third.id], [ChannelId(0), ChannelId(1), ChannelId(2)]);
    let mut lanes: Vec<LaneId> = [first, second, third].into_iter().flat_map(Channel::lanes).collect();
    lanes.sort_unstable();
    lanes.dedup();
    assert_eq!(lanes.len(), 6, "six lanes, each of one channel: {lanes:?}");
    session.end();
}

/// A second channel of a name is refused, and the first one is none the worse.
pub fn a_name_that_exists_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("orders", 2, &["g"]);
    assert_eq!(session.try_create("orders", 1, &["g"]).status, Status::Refused(Refusal::Exists));
    let member = session.serving("g", channel);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..4));
    assert_eq!(session.deliveries(member, 4).len(), 4);
    session.end();
}

/// After a delete nothing of the channel can be used, its messages are gone, and its name is free for a new number.
pub fn a_deleted_channel_is_gone(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let gone = session.create("gone", 1, &["g"]);
    let kept = session.create("kept", 1, &["g"]);
    let (producer, admin) = (session.producer(), session.admin());
    let member = session.serving("g", kept);
    assert_eq!(session.ended(admin, Control::Delete(gone.id)).status, Status::Done);
    session.refused(admin, Control::Delete(gone.id), Refusal::NoSuchLane);
    session.refused(admin, Control::Describe(gone.id), Refusal::NoSuchLane);
    let tokens = session.publish(producer, &numbered(gone, 0..2));
    for outcome in session.outcomes(producer, &tokens) {
        assert_eq!(outcome.status, Status::Refused(Refusal::NoSuchLane));
    }
    session.published(producer, &numbered(kept, 0..3));
    assert_eq!(session.deliveries(member, 3).len(), 3);
    let again = session.create("gone", 1, &["g"]);
    assert_eq!(again.id, ChannelId(2), "a number is not used twice");
    assert!(session.describe(again).lanes.iter().all(|lane| lane.end == 0), "a new channel is empty");
    session.end();
}

/// A channel has a lane at least.
pub fn a_channel_without_lanes_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let status = session.try_create("none", 0, &["g"]).status;
    assert!(matches!(status, Status::Refused(_)), "{status:?}");
    assert_eq!(session.create("one", 1, &["g"]).id, ChannelId(0), "what was refused has no number");
    session.end();
}

/// A channel or group that does not exist is refused: at the connect by a backend that knows it then, with the first grant by
/// one that learns it from an answer. A number is connected once.
pub fn what_does_not_exist_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("real", 1, &["g"]);
    let (producer, admin) = (session.producer(), session.admin());
    let unreal = ChannelId(99);
    session.refused(admin, Control::Describe(unreal), Refusal::NoSuchLane);
    session.refused(admin, Control::Delete(unreal), Refusal::NoSuchLane);
    let item = Item { channel: unreal, ..numbered(channel, 0..1).remove(0) };
    let tokens = session.publish(producer, &[item]);
    assert_eq!(session.outcomes(producer, &tokens)[0].status, Status::Refused(Refusal::NoSuchLane));

    let member = |group: &str, channel| Role::Member { group: group.to_owned(), channels: vec![channel] };
    let wrong = [
        (member("g", unreal), ConnectError::NoSuchChannel(unreal)),
        (member("nobody", channel.id), ConnectError::NoSuchGroup("nobody".to_owned())),
    ];
    for (role, at_once) in wrong {
        match session.connect(role) {
            Ok(who) => session.refused(who, Control::Grant(1), Refusal::NoSuchLane),
            Err(error) => assert_eq!(error, at_once),
        }
    }
    let taken = session.connect_as(0, Role::Producer).expect_err("the administrator has number 0");
    assert_eq!(taken, ConnectError::NumberTaken(0));
    session.end();
}

/// Ends, depths and what is in flight add up, per lane and group. Several groups are refused where there is no fan-out.
pub fn a_description_counts_what_was_published_and_taken(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let groups: &[&str] = if session.has(Feature::FanOut) { &["g", "h"] } else { &["g"] };
    if groups.len() == 1 {
        assert_eq!(session.try_create("two", 1, &["g", "h"]).status, Status::Refused(Refusal::Unsupported));
    }
    let channel = session.create("counted", 2, groups);
    let members: Vec<_> = groups.iter().map(|group| session.serving(group, channel)).collect();
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..30));
    for &member in &members {
        session.deliveries(member, 30);
    }
    session.idle();
    let description = session.describe(channel);
    assert!(!description.settings.is_empty(), "the settings in force are part of the description");
    assert_eq!(description.lanes.len(), 2 * groups.len(), "each lane × group");
    for (row, state) in description.lanes.iter().enumerate() {
        assert_eq!(state.group as usize, row % groups.len(), "the groups of a lane stand together, in order");
        assert_eq!(state.lane.0, channel.first.0 + (row / groups.len()) as u32);
        assert_eq!((state.ready, state.in_flight), (0, 0), "all is delivered and settled: {state:?}");
        assert_eq!(state.committed, state.end, "{state:?}");
    }
    let published: u64 = description.lanes.iter().filter(|state| state.group == 0).map(|state| state.end).sum();
    assert_eq!(published, if session.has(Feature::FullDepth) { 30 } else { 0 });
    session.end();
}

/// What waits for credit is `ready`, what was delivered and not settled is `in_flight`; together they are what is not settled.
pub fn a_description_tells_what_waits_and_what_is_in_flight(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("deep", 1, &["g"]);
    let member = session.member("g", channel);
    let producer = session.producer();
    session.publish(producer, &numbered(channel, 0..12));
    session.idle();
    session.depth(channel, [12, 0, 12, 0]);
    session.ask(member, Control::Grant(5));
    session.deliveries(member, 5);
    session.depth(channel, [12, 0, 7, 5]);
    session.serve(member);
    let held: Vec<_> = session.got(member).iter().map(|got| got.receipt).collect();
    session.settle(member, &held, crate::batch::Verdict::Ack);
    session.deliveries(member, 12);
    session.idle();
    session.depth(channel, [12, 12, 0, 0]);
    session.end();
}
