//! Reading again: from the earliest and latest position, from a given one, from a time; or refused.

use super::publish::keyed;
use super::session::{Channel, Session, Who, numbered};
use super::{Got, Rig};
use crate::batch::{Control, LaneId, SeekTo, Verdict};
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};
use crate::time::{Span, Time};

/// A channel of one lane with a member that was delivered 20 messages and settled them; and its producer.
fn read_to_the_end(session: &mut Session<'_>) -> (Channel, Who, Who) {
    let channel = session.create("channel", 1, &["g"]);
    let member = session.member("g", channel);
    session.ask(member, Control::Grant(20));
    let producer = session.producer();
    session.publish(producer, &numbered(channel, 0..20));
    let all: Vec<_> = session.deliveries(member, 20).iter().map(|got| got.receipt).collect();
    assert_eq!(session.settled(member, &all, Verdict::Ack), [Status::Done; 20]);
    session.until("the grant to end", |s| s.got(member).len() == 20);
    (channel, member, producer)
}

fn seek(session: &mut Session<'_>, member: Who, lane: LaneId, to: SeekTo) -> Status {
    session.ended(member, Control::Seek { lane, to }).status
}

/// Grants `count` more and returns the numbers that come.
fn read(session: &mut Session<'_>, member: Who, count: usize) -> Vec<u64> {
    let before = session.got(member).len();
    session.ask(member, Control::Grant(count as u32));
    session.deliveries(member, before + count)[before..].iter().map(Got::number).collect()
}

/// Seeks to a position, the earliest and the latest move what is read next, count as replays and settle nothing; or all of
/// them are refused.
pub fn a_position_can_be_sought_or_seeking_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, producer) = read_to_the_end(&mut session);
    let lane = channel.first;
    if !session.has(Feature::SeekPosition) {
        for to in [SeekTo::Earliest, SeekTo::Latest, SeekTo::Position(3)] {
            assert_eq!(seek(&mut session, member, lane, to), Status::Refused(Refusal::Unsupported), "{to:?}");
        }
        return session.end();
    }
    assert_eq!(seek(&mut session, member, lane, SeekTo::Position(12)), Status::Done);
    assert_eq!(session.position(member, lane), 12);
    assert_eq!(read(&mut session, member, 3), [12, 13, 14]);
    let replayed = session.got(member)[20..].iter().all(|got| got.redeliveries == 1);
    assert!(replayed, "what was delivered before says so");
    assert_eq!(seek(&mut session, member, lane, SeekTo::Earliest), Status::Done);
    assert_eq!(read(&mut session, member, 20), (0..20).collect::<Vec<_>>());
    assert_eq!(seek(&mut session, member, lane, SeekTo::Position(5)), Status::Done);
    assert_eq!(seek(&mut session, member, lane, SeekTo::Latest), Status::Done);
    assert_eq!(session.position(member, lane), 20);
    session.published(producer, &numbered(channel, 20..22));
    assert_eq!(read(&mut session, member, 2), [20, 21]);
    session.end();
}

/// A seek to a time reads from the first message published then or later; or it is refused.
pub fn a_time_can_be_sought_or_seeking_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, producer) = read_to_the_end(&mut session);
    let lane = channel.first;
    if !session.has(Feature::SeekTime) {
        let status = seek(&mut session, member, lane, SeekTo::Time(Time::ZERO));
        assert_eq!(status, Status::Refused(Refusal::Unsupported));
        return session.end();
    }
    session.pass(Span::from_millis(5));
    let between = session.now();
    session.pass(Span::from_millis(5));
    session.published(producer, &numbered(channel, 20..25));
    assert_eq!(read(&mut session, member, 5), [20, 21, 22, 23, 24]);
    session.pass(Span::from_millis(1));
    let after = session.now();
    assert_eq!(seek(&mut session, member, lane, SeekTo::Time(between)), Status::Done);
    assert_eq!(read(&mut session, member, 5), [20, 21, 22, 23, 24]);
    assert_eq!(seek(&mut session, member, lane, SeekTo::Time(Time::ZERO)), Status::Done);
    assert_eq!(read(&mut session, member, 2), [0, 1]);
    assert_eq!(seek(&mut session, member, lane, SeekTo::Time(after)), Status::Done);
    assert_eq!(session.position(member, lane), 25, "nothing is that young: the end");
    session.end();
}

/// Beyond the end, in a lane of another member or in none, a seek is refused and moves nothing.
pub fn a_seek_out_of_range_or_of_another_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, producer) = read_to_the_end(&mut session);
    let to = SeekTo::Position(21);
    if !session.has(Feature::SeekPosition) {
        assert_eq!(seek(&mut session, member, channel.first, to), Status::Refused(Refusal::Unsupported));
        return session.end();
    }
    assert_eq!(seek(&mut session, member, channel.first, to), Status::Refused(Refusal::OutOfRange));
    assert_eq!(seek(&mut session, member, LaneId(55), to), Status::Refused(Refusal::NoSuchLane));
    assert_eq!(seek(&mut session, producer, channel.first, SeekTo::Earliest), Status::Refused(Refusal::WrongRole));
    assert_eq!(session.position(member, channel.first), 20, "nothing moved");
    assert_eq!(seek(&mut session, member, channel.first, SeekTo::Position(20)), Status::Done, "the end is in range");
    if session.has(Feature::LaneAssignment) {
        let idle = session.member("g", channel);
        session.idle();
        let other = if session.lanes(member).is_empty() { member } else { idle };
        let status = seek(&mut session, other, channel.first, SeekTo::Earliest);
        assert_eq!(status, Status::Refused(Refusal::NotAssigned));
    }
    session.end();
}

/// A seek back and an acknowledgement there do not make the group forget what it had committed later on: the next member
/// starts where this one's last acknowledgement stood.
pub fn a_replay_ends_where_it_was_acknowledged_last(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, producer) = read_to_the_end(&mut session);
    if !session.has(Feature::SeekPosition) {
        let status = seek(&mut session, member, channel.first, SeekTo::Earliest);
        assert_eq!(status, Status::Refused(Refusal::Unsupported));
        return session.end();
    }
    assert_eq!(seek(&mut session, member, channel.first, SeekTo::Position(10)), Status::Done);
    let numbers = read(&mut session, member, 10);
    assert_eq!(numbers, (10..20).collect::<Vec<_>>());
    let last = session.got(member).last().expect("ten were read").receipt;
    assert_eq!(session.settled(member, &[last], Verdict::Ack), [Status::Done]);
    assert_eq!(session.describe(channel).lanes[0].committed, 20);
    session.close(member);
    session.published(producer, &keyed(channel, 20..23, 1));
    let next = session.serving("g", channel);
    let numbers: Vec<u64> = session.deliveries(next, 3).iter().map(Got::number).collect();
    assert_eq!(numbers, [20, 21, 22]);
    session.end();
}
