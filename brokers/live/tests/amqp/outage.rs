//! Lost connections: what was under way ends, the clients come back, old receipts are worth nothing, and nothing acknowledged is lost.

use std::net::ToSocketAddrs;

use brokerlab_live::LiveUrl;
use brokerlab_model::conformance::{Got, Session, numbered};
use brokerlab_model::{Control, Event, Failure, Refusal, Status, Verdict};

use crate::proxy::Proxy;
use crate::{at, server};

/// A proxy in front of the server under test, when there is one.
fn proxy() -> Option<Proxy> {
    let url = LiveUrl::parse(&server()?).expect("BROKERLAB_TEST_AMQP is a URL");
    let host = (url.hosts[0].name.as_str(), url.hosts[0].port);
    let address = host.to_socket_addrs().expect("the host has an address").next().expect("at least one");
    Some(Proxy::before(address))
}

#[test]
fn members_come_back_and_what_they_held_comes_again() {
    let Some(proxy) = proxy() else { return };
    let mut rig = at(&proxy.url(), "queue=quorum");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.member("g", channel);
    let grant = session.ask(member, Control::Grant(10));
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..5));
    let held: Vec<_> = session.deliveries(member, 5).iter().map(|got| got.receipt).collect();
    proxy.cut();
    for who in [member, producer] {
        session.until("the connection to be back", |s| s.events(who).contains(&Event::Reconnected));
        let events: Vec<Event> = session.events(who).to_vec();
        assert_eq!(events, [Event::Disconnected, Event::Reconnected], "{who:?}");
    }
    assert_eq!(session.outcomes(member, &[grant])[0].status, Status::Failed(Failure::Disconnected));
    let stale = Status::Refused(Refusal::StaleReceipt);
    assert_eq!(session.settled(member, &held, Verdict::Ack), [stale; 5]);
    session.serve(member);
    session.published(producer, &numbered(channel, 5..8));
    let again = session.deliveries(member, 13)[5..].to_vec();
    let mut numbers: Vec<u64> = again.iter().map(Got::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    assert!(again.iter().all(|got| (got.redeliveries > 0) == (got.number() < 5)), "{again:?}");
    session.end();
}

#[test]
fn publishes_without_an_answer_end_unknown_and_what_is_acknowledged_stays() {
    let Some(proxy) = proxy() else { return };
    let mut rig = at(&proxy.url(), "queue=quorum");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..10));
    proxy.hold();
    let tokens = session.publish(producer, &numbered(channel, 10..30));
    let flush = session.ask(producer, Control::Flush);
    session.idle();
    assert!(!session.is_ended(producer, tokens[0]) && !session.is_ended(producer, flush), "nobody has answered");
    proxy.cut();
    for outcome in session.outcomes(producer, &tokens) {
        assert_eq!(outcome.status, Status::Unknown, "{:?} was written and never answered", outcome.token);
    }
    assert_eq!(session.outcomes(producer, &[flush])[0].status, Status::Done);
    session.until("the connection to be back", |s| s.events(producer).contains(&Event::Reconnected));
    session.published(producer, &numbered(channel, 30..33));
    let member = session.serving("g", channel);
    session.until("everything acknowledged to come", |s| {
        let got: Vec<u64> = s.got(member).iter().map(Got::number).collect();
        (0..10).chain(30..33).all(|number| got.contains(&number))
    });
    session.end();
}

#[test]
fn a_host_that_is_down_is_passed_over() {
    let Some(url) = server() else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
    let hosts = url.replace("amqp://", &format!("amqp://{free},"));
    let mut rig = at(&hosts, "queue=classic");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..5));
    session.deliveries(member, 5);
    session.end();
}
