//! Sessions: a member that is not heard of for too long loses its lanes, one that only polls does not, and who was away joins anew.
//!
//! These cases need a clock that moves only when nothing else can: on a machine's own, a slow machine would end a session early.

use super::lanes::all_lanes;
use super::publish::{keyed, sorted_numbers};
use super::session::{Session, Who};
use super::settle::receipts;
use super::{Got, Rig, Tuning};
use crate::batch::{Control, Verdict};
use crate::capabilities::Feature;
use crate::completion::{Event, Refusal, Status};
use crate::time::Span;

const SESSION: Span = Span::from_millis(90);

fn lost(session: &Session<'_>, who: Who) -> usize {
    session.events(who).iter().filter(|event| matches!(event, Event::LaneLost(_))).count()
}

/// Without sessions, time takes nothing from a member that is silent for long and then goes on.
fn without_sessions(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    session.place(1);
    let member = session.serving("g", channel);
    session.place(0);
    session.idle();
    session.silence(member, true);
    session.pass(Span(SESSION.0 * 5));
    session.silence(member, false);
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..10, 10));
    session.deliveries(member, 10);
    assert_eq!(lost(&session, member), 0);
    session.end();
}

/// A silent member's lanes go to the other one, with what it had not settled; what it settles late is refused.
pub fn a_silent_member_loses_its_lanes_or_keeps_what_it_holds(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Sessions) {
        return without_sessions(rig);
    }
    let mut session = Session::tuned(rig, Tuning::Session(SESSION));
    let channel = session.create("channel", 2, &["g"]);
    session.place(1);
    let silent = session.member("g", channel);
    session.place(0);
    session.until("two lanes", |s| s.lanes(silent).len() == 2);
    session.ask(silent, Control::Grant(20));
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..20, 10));
    let got = session.deliveries(silent, 20);
    let settled: Vec<_> = receipts(&got).into_iter().filter(|receipt| receipt.position < 4).collect();
    assert!(session.settled(silent, &settled, Verdict::Ack).iter().all(|status| *status == Status::Done));
    session.silence(silent, true);
    let quiet_since = session.now();
    let other = session.serving("g", channel);
    let left: Vec<&Got> = got.iter().filter(|got| got.receipt.position >= 4).collect();
    let again = session.deliveries(other, left.len());
    for got in &again {
        assert!(got.at >= quiet_since + SESSION, "at {:?}, silent since {quiet_since:?}", got.at);
        assert_eq!(got.redeliveries, 1);
    }
    let mut due: Vec<u64> = left.iter().map(|got| got.number()).collect();
    due.sort_unstable();
    assert_eq!(sorted_numbers(&session, other), due);
    session.silence(silent, false);
    let late: Vec<_> = left.iter().map(|got| got.receipt).collect();
    for status in session.settled(silent, &late, Verdict::Ack) {
        assert_eq!(status, Status::Refused(Refusal::StaleReceipt));
    }
    assert_eq!(lost(&session, silent), 2, "both lanes");
    session.end();
}

/// A member that has nothing to do and is polled whenever it asks to be keeps its lanes for as long as it likes.
pub fn a_member_that_only_polls_keeps_its_lanes(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Sessions) {
        return without_sessions(rig);
    }
    let mut session = Session::tuned(rig, Tuning::Session(SESSION));
    let channel = session.create("channel", 2, &["g"]);
    let idle = session.member("g", channel);
    session.until("two lanes", |s| s.lanes(idle).len() == 2);
    session.pass(Span(SESSION.0 * 6));
    assert_eq!((session.lanes(idle), lost(&session, idle)), (all_lanes(channel), 0));
    session.end();
}

/// Who was silent for too long and is polled again has its share of the lanes again, and goes on where the group stands.
pub fn a_member_whose_session_is_over_joins_anew_when_it_speaks(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Sessions) {
        return without_sessions(rig);
    }
    let mut session = Session::tuned(rig, Tuning::Session(SESSION));
    let channel = session.create("channel", 2, &["g"]);
    session.place(1);
    let away = session.serving("g", channel);
    session.place(0);
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..10, 10));
    session.deliveries(away, 10);
    session.idle();
    session.silence(away, true);
    session.pass(Span(SESSION.0 * 2));
    session.published(producer, &keyed(channel, 10..20, 10));
    session.silence(away, false);
    session.until("both lanes to be lost", |s| lost(s, away) == 2);
    session.until("both lanes again", |s| s.lanes(away) == all_lanes(channel));
    session.deliveries(away, 20);
    session.idle();
    assert_eq!(sorted_numbers(&session, away), (0..20).collect::<Vec<_>>(), "its grant was still open");
    session.end();
}
