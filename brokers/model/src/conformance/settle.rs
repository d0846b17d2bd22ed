//! Settling: acknowledgements one by one or up to a position, requeues, what is stale.

use super::groups::finish_by_serving;
use super::publish::sorted_numbers;
use super::session::{Session, Who, numbered};
use super::{Channel, Got, Rig};
use crate::batch::{Control, Receipt, Verdict};
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};

const STALE: Status = Status::Refused(Refusal::StaleReceipt);

/// A channel of one lane with `count` messages delivered to one member, none of them settled.
pub(super) fn delivered(session: &mut Session<'_>, count: u64) -> (Channel, Who, Vec<Got>) {
    let channel = session.create("channel", 1, &["g"]);
    let member = session.member("g", channel);
    session.ask(member, Control::Grant(count as u32));
    let producer = session.producer();
    session.publish(producer, &numbered(channel, 0..count));
    let got = session.deliveries(member, count as usize);
    (channel, member, got)
}

pub(super) fn receipts(got: &[Got]) -> Vec<Receipt> {
    got.iter().map(|got| got.receipt).collect()
}

/// Where each message is settled by itself, the others stay in flight; where a commit covers what is before it, they don't.
pub fn an_acknowledgement_covers_its_message_or_all_before_it(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, got) = delivered(&mut session, 10);
    session.depth(channel, [10, 0, 0, 10]);
    assert_eq!(session.settled(member, &[got[6].receipt], Verdict::Ack), [Status::Done]);
    if session.has(Feature::SettleEach) {
        session.depth(channel, [10, 0, 0, 9]);
        let rest: Vec<Receipt> = receipts(&got).into_iter().filter(|r| *r != got[6].receipt).collect();
        assert_eq!(session.settled(member, &rest, Verdict::Ack), [Status::Done; 9]);
    } else {
        session.depth(channel, [10, 7, 0, 3]);
        assert_eq!(session.settled(member, &[got[9].receipt], Verdict::Ack), [Status::Done]);
    }
    session.depth(channel, [10, 10, 0, 0]);
    session.end();
}

/// A receipt is good for one settlement where messages are settled one by one; where a commit covers what is before it, an
/// older one never moves the committed position back.
pub fn a_receipt_that_was_settled_is_stale(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, got) = delivered(&mut session, 4);
    assert_eq!(session.settled(member, &[got[2].receipt], Verdict::Ack), [Status::Done]);
    if session.has(Feature::SettleEach) {
        assert_eq!(session.settled(member, &[got[2].receipt], Verdict::Ack), [STALE]);
        assert_eq!(session.settled(member, &[got[2].receipt], Verdict::Nack { requeue: false }), [STALE]);
    } else {
        session.settled(member, &[got[0].receipt], Verdict::Ack);
        assert_eq!(session.describe(channel).lanes[0].committed, 3, "a commit does not go back");
    }
    finish_by_serving(&mut session, member, 4);
    session.end();
}

/// Receipts that nobody was given are refused: of a later delivery, of another lane, of a lane that does not exist.
pub fn a_receipt_that_was_never_given_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, got) = delivered(&mut session, 3);
    let real = got[1].receipt;
    let forged = [
        Receipt { epoch: real.epoch + 1, ..real },
        Receipt { position: 50, ..real },
        Receipt { lane: crate::batch::LaneId(77), ..real },
    ];
    for receipt in forged {
        for status in session.settled(member, &[receipt], Verdict::Ack) {
            assert!(matches!(status, Status::Refused(_)), "{receipt:?}: {status:?}");
        }
    }
    assert_eq!(session.describe(channel).lanes[0].committed, 0, "a forged receipt settles nothing");
    assert_eq!(session.settled(member, &receipts(&got), Verdict::Ack), [Status::Done; 3]);
    session.end();
}

/// Another member's receipt is refused.
pub fn a_receipt_of_another_member_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, got) = delivered(&mut session, 3);
    let other = session.member("g", channel);
    for status in session.settled(other, &receipts(&got), Verdict::Ack) {
        assert!(matches!(status, Status::Refused(_)), "{status:?}");
    }
    assert_eq!(session.describe(channel).lanes[0].committed, 0);
    session.serve(other);
    finish_by_serving(&mut session, member, 3);
    session.end();
}

/// What is given back comes again, counted, until somebody acknowledges it; without requeue, giving back is refused.
pub fn what_is_given_back_comes_again_or_giving_back_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (channel, member, got) = delivered(&mut session, 5);
    let back = Verdict::Nack { requeue: true };
    let statuses = session.settled(member, &[got[1].receipt, got[3].receipt], back);
    if !session.has(Feature::Requeue) {
        assert_eq!(statuses, [Status::Refused(Refusal::Unsupported); 2]);
        assert_eq!(session.settled(member, &receipts(&got), Verdict::Ack), [Status::Done; 5]);
        session.end();
        return;
    }
    assert_eq!(statuses, [Status::Done; 2]);
    for round in 1..=2 {
        session.ask(member, Control::Grant(2));
        let again = session.deliveries(member, 5 + 2 * round)[3 + 2 * round..].to_vec();
        let mut numbers: Vec<u64> = again.iter().map(Got::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 3]);
        let count = if session.has(Feature::RedeliveryCount) { round } else { 1 };
        assert!(again.iter().all(|got| usize::from(got.redeliveries) == count), "{again:?}");
        assert_eq!(session.settled(member, &[got[1].receipt], Verdict::Ack), [STALE], "that delivery is over");
        let verdict = if round == 1 { back } else { Verdict::Ack };
        assert_eq!(session.settled(member, &receipts(&again), verdict), [Status::Done; 2]);
    }
    let rest = [got[0].receipt, got[2].receipt, got[4].receipt];
    assert_eq!(session.settled(member, &rest, Verdict::Ack), [Status::Done; 3]);
    session.ask(member, Control::Grant(10));
    session.idle();
    assert_eq!(session.got(member).len(), 9, "five first deliveries, twice two again, and no more");
    let state = &session.describe(channel).lanes[0];
    assert_eq!((state.ready, state.in_flight), (0, 0), "{state:?}");
    session.end();
}

/// What is dropped without requeue does not come again.
pub fn what_is_dropped_does_not_come_again(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (_, member, got) = delivered(&mut session, 4);
    let statuses = session.settled(member, &receipts(&got), Verdict::Nack { requeue: false });
    if session.has(Feature::Requeue) {
        assert_eq!(statuses, [Status::Done; 4]);
        session.ask(member, Control::Grant(10));
        session.idle();
        assert_eq!(sorted_numbers(&session, member), [0, 1, 2, 3]);
    } else {
        let unsupported = Status::Refused(Refusal::Unsupported);
        assert!(statuses.iter().all(|status| [Status::Done, unsupported].contains(status)), "{statuses:?}");
    }
    session.end();
}
