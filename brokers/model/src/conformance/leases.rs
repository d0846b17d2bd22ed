//! Leases: what is not settled in time comes again, an extension holds it, and the old receipt is worth nothing.
//!
//! These cases need a clock that moves only when nothing else can: on a machine's own, a slow machine would end a lease early.

use super::session::Session;
use super::settle::{delivered, receipts};
use super::{Rig, Tuning};
use crate::batch::{Control, Verdict};
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};
use crate::time::Span;

const LEASE: Span = Span::from_millis(200);

/// An unsettled message comes again after its lease and not before; then its old receipt is stale. Without leases, an extension
/// is refused and time alone brings nothing back.
pub fn an_unsettled_message_comes_again_after_its_lease(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Lease) {
        return without_leases(rig);
    }
    let mut session = Session::tuned(rig, Tuning::Lease(LEASE));
    let asked = session.now();
    let (_, member, first) = delivered(&mut session, 3);
    session.ask(member, Control::Grant(10));
    assert_eq!(session.settled(member, &[first[0].receipt], Verdict::Ack), [Status::Done]);
    let all = session.deliveries(member, 5);
    for again in &all[3..] {
        assert_eq!(again.redeliveries, 1);
        assert!([1, 2].contains(&again.number()), "message {} was settled or never sent", again.number());
        assert!(again.at >= asked + LEASE, "at {:?}, asked at {asked:?}", again.at);
    }
    let stale = Status::Refused(Refusal::StaleReceipt);
    let old = receipts(&first[1..]);
    assert_eq!(session.settled(member, &old, Verdict::Ack), [stale; 2]);
    assert_eq!(session.settled(member, &old, Verdict::Extend(LEASE)), [stale; 2]);
    assert_eq!(session.settled(member, &receipts(&all[3..]), Verdict::Ack), [Status::Done; 2]);
    session.pass(Span(LEASE.0 * 3));
    assert_eq!(session.got(member).len(), 5, "what is settled does not come again");
    session.end();
}

fn without_leases(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let (_, member, got) = delivered(&mut session, 2);
    let statuses = session.settled(member, &receipts(&got), Verdict::Extend(LEASE));
    assert_eq!(statuses, [Status::Refused(Refusal::Unsupported); 2]);
    session.ask(member, Control::Grant(10));
    session.pass(Span(LEASE.0 * 3));
    assert_eq!(session.got(member).len(), 2, "nothing comes again by itself");
    session.end();
}

/// An extension counts from the moment of asking; extended again and again, a message never comes back.
pub fn an_extension_holds_the_lease(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Lease) {
        return without_leases(rig);
    }
    let mut session = Session::tuned(rig, Tuning::Lease(LEASE));
    let (_, member, got) = delivered(&mut session, 2);
    session.ask(member, Control::Grant(10));
    let held = [got[0].receipt];
    let half = Span(LEASE.0 / 2);
    for _ in 0..6 {
        assert_eq!(session.settled(member, &held, Verdict::Extend(LEASE)), [Status::Done]);
        session.pass(half);
    }
    let numbers: Vec<u64> = session.got(member)[2..].iter().map(super::Got::number).collect();
    assert!(!numbers.is_empty() && numbers.iter().all(|&n| n == 1), "only the other lease ended: {numbers:?}");
    assert_eq!(session.settled(member, &held, Verdict::Ack), [Status::Done], "the receipt was good all the time");
    session.end();
}

/// When a lease ends, the message may go to another member, and the first one's receipt is stale. Where one member at a time reads a
/// queue, another gets it once that one has left.
pub fn an_ended_lease_lets_another_member_have_the_message(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Lease) {
        return without_leases(rig);
    }
    let compete = rig.broker().capabilities().has(Feature::CompetingConsumers);
    let mut session = Session::tuned(rig, Tuning::Lease(LEASE));
    let (channel, slow, got) = delivered(&mut session, 4);
    let quick = session.serving("g", channel);
    let stale = [Status::Refused(Refusal::StaleReceipt); 4];
    if !compete {
        session.pass(Span(LEASE.0 * 2));
        assert!(session.got(quick).is_empty(), "the other member is still there");
        assert_eq!(session.settled(slow, &receipts(&got), Verdict::Ack), stale);
        session.close(slow);
    }
    let again = session.deliveries(quick, 4);
    assert!(again.iter().all(|got| got.redeliveries == 1), "{again:?}");
    if compete {
        assert_eq!(session.settled(slow, &receipts(&got), Verdict::Ack), stale);
    }
    session.pass(Span(LEASE.0 * 3));
    assert_eq!(session.got(quick).len(), 4);
    session.end();
}
