//! What keeps a server from being used, and what it does not take: one clear answer each, and nothing left behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use brokerlab_live::{LiveUrl, OpenError, Trouble, UrlError, examine, open};
use brokerlab_model::conformance::{Session, numbered};
use brokerlab_model::{ChannelSpec, Contract, Failure, Refusal, Status, Verdict};

use crate::{at, server};

fn trouble(url: &str) -> Trouble {
    match examine(&LiveUrl::parse(url).expect("a URL"), Contract::default()) {
        Err(OpenError::Trouble { trouble, .. }) => trouble,
        other => panic!("trouble was due and {other:?} came"),
    }
}

/// A server of another kind, for one connection.
fn imposter(answer: Option<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        let mut greeting = [0; 8];
        stream.read_exact(&mut greeting).expect("a protocol header comes");
        match answer {
            Some(answer) => stream.write_all(answer).expect("it listens"),
            // Silence, for as long as the other side waits.
            None => drop(stream.read(&mut greeting)),
        }
    });
    address
}

#[test]
fn nobody_listening_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
    assert!(matches!(trouble(&format!("amqp://{free}")), Trouble::Unreachable(_)));
    assert!(matches!(trouble("amqp://no-such-host.invalid"), Trouble::NoAddress(_)));
}

#[test]
fn another_protocol_is_named() {
    let of = |answer: &'static [u8]| {
        let found = trouble(&format!("amqp://{}", imposter(Some(answer))));
        let Trouble::OtherProtocol { found, .. } = found else { panic!("{found:?}") };
        found
    };
    assert!(of(b"HTTP/1.1 400 Bad Request\r\n\r\n").contains("HTTP/1.1 400"));
    assert!(of(b"").contains("without a word"));
    assert!(of(b"AMQP\0\x01\0\0").contains("AMQP 1.0.0"));
}

#[test]
fn silence_ends_within_the_timeout() {
    let found = trouble(&format!("amqp://{}", imposter(None)));
    assert!(matches!(found, Trouble::Silent { seconds: 10, .. }), "{found:?}");
}

#[test]
fn an_unknown_parameter_is_refused_before_anything_is_connected() {
    let url = LiveUrl::parse("amqp://no-such-host.invalid?confirm=5").expect("a URL");
    let refused = examine(&url, Contract::default()).expect_err("refused");
    assert!(matches!(refused, OpenError::Url(UrlError::Unknown { .. })), "{refused}");
}

#[test]
fn a_wrong_login_and_a_missing_virtual_host_are_told_apart() {
    let Some(server) = server() else { return };
    assert!(matches!(trouble(&server.replace("amqp://", "amqp://nobody@")), Trouble::Login(_)));
    assert!(matches!(trouble(&format!("{server}/no-such-host")), Trouble::Permission(_)));
}

#[test]
fn a_queue_with_other_settings_is_named_and_left_alone() {
    let Some(server) = server() else { return };
    let spec =
        ChannelSpec { name: "try".to_owned(), lanes: 1, groups: vec!["out".to_owned()], ..ChannelSpec::default() };
    let mut rig = at(&server, "queue=classic");
    let place = rig.places[0].1.clone();
    let mut session = Session::open(&mut rig);
    let channel = session.create("try", 1, &["out"]);
    let url = LiveUrl::parse(&format!("{server}?queue=quorum")).expect("a URL");
    match open(&url, Contract::default(), &place) {
        Err(OpenError::Trouble { trouble: Trouble::Differs { name, .. }, .. }) => {
            assert_eq!(name, format!("{}try.out.0", place.prefix));
        }
        other => panic!("{other:?}"),
    }
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..3));
    session.depth(channel, [3, 0, 3, 0]);
    session.end();
    brokerlab_live::remove(&rig.places[0].0, &place, &[spec]).expect("it is removed");
}

#[test]
fn a_message_without_a_queue_comes_back_when_it_is_mandatory() {
    let Some(server) = server() else { return };
    for (parameters, due) in
        [("queue=classic&mandatory=true", Status::Refused(Refusal::NoSuchLane)), ("queue=classic", Status::Done)]
    {
        let mut rig = at(&server, parameters);
        let mut session = Session::open(&mut rig);
        let channel = session.create("channel", 1, &[]);
        let producer = session.producer();
        let tokens = session.publish(producer, &numbered(channel, 0..20));
        let statuses: Vec<Status> = session.outcomes(producer, &tokens).iter().map(|outcome| outcome.status).collect();
        assert_eq!(statuses, [due; 20], "{parameters}");
        session.end();
    }
}

#[test]
fn a_queue_that_is_full_and_rejects_overloads() {
    let Some(server) = server() else { return };
    let mut rig = at(&server, "queue=classic&x-max-length=5&x-overflow=reject-publish");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    let tokens = session.publish(producer, &numbered(channel, 0..200));
    let outcomes = session.outcomes(producer, &tokens);
    let of = |status| outcomes.iter().filter(|outcome| outcome.status == status).count();
    let (done, overloaded) = (of(Status::Done), of(Status::Failed(Failure::Overloaded)));
    assert_eq!(done + overloaded, 200);
    assert!(done >= 5 && overloaded > 0, "{done} done, {overloaded} overloaded");
    let member = session.serving("g", channel);
    session.deliveries(member, done);
    session.end();
}

#[test]
fn what_is_given_back_too_often_goes_to_the_dead_letters() {
    let Some(server) = server() else { return };
    let mut rig = at(&server, "queue=quorum&x-delivery-limit=2");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.member("g", channel);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..1));
    for count in 0..3 {
        session.ask(member, brokerlab_model::Control::Grant(1));
        let got = session.deliveries(member, count + 1)[count].clone();
        assert_eq!(usize::from(got.redeliveries), count);
        assert_eq!(session.settled(member, &[got.receipt], Verdict::Nack { requeue: true }), [Status::Done]);
    }
    session.ask(member, brokerlab_model::Control::Grant(1));
    session.idle();
    assert_eq!(session.got(member).len(), 3, "delivered three times, and no more");
    session.depth(channel, [1, 1, 0, 0]);
    session.end();
}

#[test]
fn acknowledgements_of_several_messages_cover_what_was_settled() {
    let Some(server) = server() else { return };
    let mut rig = at(&server, "queue=quorum&ack-multiple=true");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let leaving = session.member("g", channel);
    session.ask(leaving, brokerlab_model::Control::Grant(20));
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..20));
    let got = session.deliveries(leaving, 20);
    // 3 and 7 stay open, so that only 0 to 2 may be covered by one frame.
    let settled: Vec<_> = got.iter().filter(|got| ![3, 7].contains(&got.number())).map(|got| got.receipt).collect();
    assert_eq!(session.settled(leaving, &settled, Verdict::Ack), [Status::Done; 18]);
    session.close(leaving);
    let next = session.serving("g", channel);
    session.deliveries(next, 2);
    session.idle();
    let mut numbers: Vec<u64> = session.got(next).iter().map(brokerlab_model::conformance::Got::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 7]);
    session.end();
}

#[test]
fn channels_that_exist_are_used_and_stay() {
    let Some(server) = server() else { return };
    let mut rig = at(&server, "queue=classic");
    let mut session = Session::open(&mut rig);
    session.create("orders", 1, &["g"]);
    session.end();
    let (url, place) = rig.places[0].clone();
    let queue = format!("{}orders.g.0", place.prefix);
    let existing = brokerlab_live::Place { existing: true, ..place };
    rig.broker = open(&url, Contract::default(), &existing).expect("it opens");
    let mut session = Session::open(&mut rig);
    let channel = session.create(&queue, 1, &["readers"]);
    assert_eq!(session.try_create("not-there", 1, &["readers"]).status, Status::Refused(Refusal::NoSuchLane));
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..4));
    let admin = session.admin();
    assert_eq!(session.ended(admin, brokerlab_model::Control::Delete(channel.id)).status, Status::Done);
    let again = session.create(&queue, 1, &["readers"]);
    session.depth(again, [4, 0, 4, 0]);
    session.end();
}
