//! Who may do what: each role its own operations, and a closed client nothing.

use super::Rig;
use super::session::{Session, Who, numbered};
use crate::batch::{ChannelSpec, Control, LaneId, Receipt, Verdict};
use crate::completion::{Refusal, Status};

const WRONG: Status = Status::Refused(Refusal::WrongRole);

/// Only producers publish, only members are granted and settle, only the administrator creates, deletes and describes.
pub fn an_operation_of_another_role_is_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let (admin, producer, member) = (session.admin(), session.producer(), session.member("g", channel));
    for who in [admin, member] {
        let tokens = session.publish(who, &numbered(channel, 0..2));
        assert!(session.outcomes(who, &tokens).iter().all(|outcome| outcome.status == WRONG), "{who:?} published");
    }
    let receipt = Receipt { lane: channel.first, position: 0, epoch: 0 };
    for who in [admin, producer] {
        session.refused(who, Control::Grant(1), Refusal::WrongRole);
        assert_eq!(session.settled(who, &[receipt], Verdict::Ack), [WRONG], "{who:?} settled");
    }
    for who in [producer, member] {
        let spec =
            ChannelSpec { name: "mine".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
        session.refused(who, Control::Create(spec), Refusal::WrongRole);
        session.refused(who, Control::Delete(channel.id), Refusal::WrongRole);
        session.refused(who, Control::Describe(channel.id), Refusal::WrongRole);
    }
    let lanes = session.describe(channel).lanes;
    assert!(lanes.iter().all(|lane| lane.end == 0), "what was refused was not done: {lanes:?}");
    session.end();
}

/// After its close a client's operations are refused, whatever they are.
pub fn a_closed_client_is_refused_everything(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let staying = session.serving("g", channel);
    let (producer, member) = (session.producer(), session.member("g", channel));
    session.close(producer);
    session.close(member);
    let tokens = session.publish(producer, &numbered(channel, 0..3));
    for outcome in session.outcomes(producer, &tokens) {
        assert_eq!(outcome.status, Status::Refused(Refusal::Closed));
    }
    session.refused(producer, Control::Flush, Refusal::Closed);
    session.refused(member, Control::Grant(5), Refusal::Closed);
    session.refused(member, Control::Position(LaneId(channel.first.0)), Refusal::Closed);
    let receipt = Receipt { lane: channel.first, position: 0, epoch: 0 };
    assert_eq!(session.settled(member, &[receipt], Verdict::Ack), [Status::Refused(Refusal::Closed)]);
    session.refused(member, Control::Close, Refusal::Closed);
    session.idle();
    assert_eq!(session.got(staying).len(), 0, "what was refused was not published");
    session.end();
}

/// A close ends the grants that are open and stops deliveries; the group's other member goes on.
pub fn a_close_ends_grants_and_deliveries(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    let leaving = session.member("g", channel);
    let grant = session.ask(leaving, Control::Grant(100));
    session.idle();
    session.close(leaving);
    assert!(session.is_ended(leaving, grant), "a grant ends with its client");
    let staying: Who = session.serving("g", channel);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..20));
    session.deliveries(staying, 20);
    session.idle();
    assert_eq!(session.got(leaving).len(), 0);
    session.end();
}
