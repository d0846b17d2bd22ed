//! What only a network does: writes cut to single bytes, answers that come late or never, buffers that fill, connections that
//! end and come back.

use std::cell::RefCell;
use std::rc::Rc;

use brokerlab_model::conformance::{Channel, Got, Item, Rig, Session, Who, numbered};
use brokerlab_model::{
    Batch, Blocked, ClientSpec, Completions, Control, Event, Failure, LaneId, Publishes, Receipt, Refusal, Role, Span,
    Status, Time, Token, Verdict, WaitOn,
};

use crate::broker::{NetRig, TIMEOUT};
use crate::client::BACKOFF;
use crate::server::{Faults, Server};

fn large(channel: Channel, numbers: std::ops::Range<u64>, bytes: usize) -> Vec<Item> {
    let mut items = numbered(channel, numbers);
    for item in &mut items {
        item.payload.resize(bytes, 0x5a);
    }
    items
}

fn numbers(got: &[Got]) -> Vec<u64> {
    got.iter().map(Got::number).collect()
}

/// A rig and a handle on its server, by which a test makes it misbehave.
fn rig() -> (NetRig, Rc<RefCell<Server>>) {
    let rig = NetRig::new();
    let server = Rc::clone(&rig.server);
    (rig, server)
}

#[test]
fn frames_cut_to_single_bytes_arrive_whole() {
    let (mut rig, server) = rig();
    server.borrow_mut().faults.byte_by_byte = true;
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 2, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    let items = large(channel, 0..8, 150);
    session.published(producer, &items);
    let got = session.deliveries(member, 8);
    assert_eq!(numbers(&got), (0..8).collect::<Vec<_>>());
    assert!(got.iter().zip(&items).all(|(got, item)| got.payload == item.payload));
    session.end();
}

#[test]
fn a_full_send_buffer_cuts_the_prefix_and_the_rest_goes_later_in_order() {
    let (mut rig, server) = rig();
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.idle();
    server.borrow_mut().faults.deaf = true;
    let tokens = session.publish(producer, &large(channel, 0..100, 4096));
    session.idle();
    assert_eq!(session.blocked(producer), [Blocked::Window], "400 KiB are more than buffer and socket hold");
    assert!(tokens.iter().all(|&token| !session.is_ended(producer, token)), "nobody has heard of it");
    assert_eq!(server.borrow().published, 0);
    server.borrow_mut().faults.deaf = false;
    let positions: Vec<u64> = session.outcomes(producer, &tokens).iter().map(|outcome| outcome.position).collect();
    assert_eq!(positions, (0..100).collect::<Vec<_>>());
    session.end();
}

#[test]
fn a_slow_answer_is_awaited_and_ends_its_operation_once() {
    let (mut rig, server) = rig();
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.idle();
    server.borrow_mut().faults.slow = Span::from_secs(1);
    let asked = session.now();
    session.published(producer, &numbered(channel, 0..3));
    assert_eq!(session.now(), asked + Span::from_secs(1), "the clock went straight to the answer");
    session.end();
}

#[test]
fn an_answer_after_the_deadline_is_an_answer_to_nobody() {
    let (mut rig, server) = rig();
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.idle();
    server.borrow_mut().faults.slow = Span(TIMEOUT.0 * 2);
    let asked = session.now();
    let tokens = session.publish(producer, &numbered(channel, 0..3));
    for outcome in session.outcomes(producer, &tokens) {
        assert_eq!(outcome.status, Status::Unknown, "asked and not answered in time");
    }
    assert_eq!(session.now(), asked + TIMEOUT, "given up at the deadline, neither before nor after");
    // The late answers arrive; the session fails if a token ends twice.
    session.pass(Span(TIMEOUT.0 * 2));
    server.borrow_mut().faults.slow = Span::ZERO;
    assert_eq!(server.borrow().published, 3, "unknown was the truth: they did happen");
    let member = session.serving("g", channel);
    assert_eq!(numbers(&session.deliveries(member, 3)), [0, 1, 2]);
    session.end();
}

#[test]
fn a_lost_connection_ends_what_was_in_flight_as_unknown_or_failed() {
    let (mut rig, server) = rig();
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.idle();
    server.borrow_mut().faults.deaf = true;
    let tokens = session.publish(producer, &large(channel, 0..100, 2048));
    session.idle();
    let due = session.withdraw(producer).len();
    let taken = &tokens[..tokens.len() - due];
    server.borrow_mut().cut();
    let statuses: Vec<Status> = session.outcomes(producer, taken).iter().map(|outcome| outcome.status).collect();
    let unknown = statuses.iter().take_while(|status| **status == Status::Unknown).count();
    assert!(unknown > 0, "what the socket took may have been read: {statuses:?}");
    assert!(unknown < statuses.len(), "what the socket did not take was not: {statuses:?}");
    assert!(statuses[unknown..].iter().all(|status| *status == Status::Failed(Failure::Disconnected)), "{statuses:?}");
    let lost = session.now();
    assert_eq!(session.events(producer), [Event::Disconnected]);
    server.borrow_mut().faults = Faults::default();
    session.until("the connection to be back", |s| s.is_connected(producer));
    assert_eq!(session.now(), lost + BACKOFF);
    assert_eq!(session.events(producer), [Event::Disconnected, Event::Reconnected]);
    let again = session.published(producer, &numbered(channel, 0..5));
    assert_eq!(again.last().map(|outcome| outcome.position), Some(4), "nothing of the lost connection was stored");
    session.end();
}

#[test]
fn a_server_that_is_down_blocks_and_what_is_due_goes_when_it_is_up() {
    let (mut rig, server) = rig();
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.idle();
    server.borrow_mut().set_down(true);
    session.until("the producer to notice", |s| !s.is_connected(producer));
    let tokens = session.publish(producer, &numbered(channel, 0..10));
    session.pass(Span(BACKOFF.0 * 20));
    assert_eq!(session.blocked(producer), [Blocked::Disconnected]);
    assert!(!session.is_ended(producer, tokens[0]), "what was not taken has no outcome");
    let leaving = session.producer();
    session.close(leaving);
    server.borrow_mut().set_down(false);
    for outcome in session.outcomes(producer, &tokens) {
        assert_eq!(outcome.status, Status::Done);
    }
    assert_eq!(server.borrow().published, 10);
    assert_eq!(session.events(producer), [Event::Disconnected, Event::Reconnected], "twenty tries, said once");
    session.end();
}

/// A member that was delivered ten messages and had acknowledged four when its connection was cut.
fn cut_off(session: &mut Session<'_>, server: &RefCell<Server>) -> (LaneId, Who, Vec<Receipt>, Token) {
    let channel = session.create("channel", 1, &["g"]);
    let member = session.member("g", channel);
    let grant = session.ask(member, Control::Grant(20));
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..10));
    let receipts: Vec<Receipt> = session.deliveries(member, 10).iter().map(|got| got.receipt).collect();
    assert_eq!(session.settled(member, &receipts[..4], Verdict::Ack), [Status::Done; 4]);
    session.idle();
    server.borrow_mut().cut();
    session.until("the member to be cut off", |s| !s.is_connected(member));
    (channel.first, member, receipts, grant)
}

#[test]
fn a_member_loses_its_lanes_with_the_connection_and_resumes_from_what_it_committed() {
    let (mut rig, server) = rig();
    let mut session = Session::open(&mut rig);
    let (lane, member, receipts, grant) = cut_off(&mut session, &server);
    let expected = [Event::LaneAssigned { lane, position: 0 }, Event::LaneLost(lane), Event::Disconnected];
    assert_eq!(session.events(member), expected);
    assert_eq!(session.outcomes(member, &[grant])[0].status, Status::Unknown, "the credit went with the connection");
    session.until("the lane to be back", |s| s.lanes(member) == [lane]);
    assert_eq!(session.events(member)[3..], [Event::Reconnected, Event::LaneAssigned { lane, position: 4 }]);
    let stale = session.settled(member, &receipts[4..], Verdict::Ack);
    assert_eq!(stale, [Status::Refused(Refusal::StaleReceipt); 6], "receipts end with the assignment of their lane");
    session.serve(member);
    let got = session.deliveries(member, 16);
    assert_eq!(numbers(&got[10..]), [4, 5, 6, 7, 8, 9]);
    assert!(got[10..].iter().all(|got| got.redeliveries == 1), "the group has seen them before");
    session.end();
}

#[test]
fn what_a_lost_member_had_goes_to_the_member_that_stays() {
    let (mut rig, server) = rig();
    let mut session = Session::open(&mut rig);
    let (_, member, _, _) = cut_off(&mut session, &server);
    session.close(member);
    let channel = Channel { id: brokerlab_model::ChannelId(0), first: LaneId(0), lanes: 1 };
    let next = session.serving("g", channel);
    assert_eq!(numbers(&session.deliveries(next, 6)), [4, 5, 6, 7, 8, 9]);
    session.end();
}

#[test]
fn a_client_with_nothing_to_do_is_not_woken() {
    let (mut rig, _) = rig();
    let wakes = Rc::clone(&rig.wakes);
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 4, &["g"]);
    let members: Vec<Who> = (0..4).map(|_| session.serving("g", channel)).collect();
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..20));
    session.until("20 deliveries", |s| members.iter().map(|&m| s.got(m).len()).sum::<usize>() == 20);
    session.idle();
    let before = wakes.get();
    session.pass(Span::from_secs(1));
    assert_eq!(wakes.get(), before, "a second of nothing, in steps of a millisecond");
    session.end();
}

#[test]
fn a_client_listens_for_room_to_write_only_while_it_has_something_to_write() {
    let (mut rig, server) = rig();
    let spec = ClientSpec { number: 1, role: Role::Producer, placement: 0 };
    let mut client = rig.broker().connect(Time::ZERO, &spec).unwrap();
    let mut completions = Completions::default();
    for _ in 0..4 {
        server.borrow_mut().step(Time::ZERO);
        client.poll(Time::ZERO, &mut completions);
    }
    assert!(matches!(client.wait_on(), WaitOn::Read(_)), "nothing to write");
    let mut publishes = Publishes::new();
    publishes.push(Token(1), brokerlab_model::ChannelId(0), b"", b"", &vec![1; 100_000]);
    let mut batch = Batch::Publish(publishes);
    assert_eq!(client.submit(Time::ZERO, &mut batch).taken, 1, "one operation may be larger than the buffer");
    assert!(matches!(client.wait_on(), WaitOn::ReadWrite(_)), "the socket did not take it all");
    while completions.outcomes.is_empty() {
        server.borrow_mut().step(Time::ZERO);
        client.poll(Time::ZERO, &mut completions);
    }
    assert_eq!(completions.outcomes[0].status, Status::Refused(Refusal::NoSuchLane));
    assert!(matches!(client.wait_on(), WaitOn::Read(_)));
    assert_eq!(client.next_deadline(), None, "what has ended has no deadline");
    server.borrow_mut().set_down(true);
    client.poll(Time(5), &mut completions);
    assert!(matches!(client.wait_on(), WaitOn::Nothing), "there is no descriptor");
    assert_eq!(client.next_deadline(), Some(Time(5) + BACKOFF), "but a time to dial again");
}
