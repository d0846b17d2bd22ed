//! What can go wrong with a Kafka URL before anything is sent: each ends with one clear trouble, and nothing hangs or stays behind.
//!
//! The servers here are this test's own, but where `BROKERLAB_TEST_KAFKA` is named. Leaves out outages during a run.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a test that can not go on fails there")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread::JoinHandle;

use brokerlab_live::{LiveUrl, OpenError, Trouble, UrlError, examine, open};
use brokerlab_model::{
    Batch, Broker, ChannelSpec, Client, ClientSpec, Completions, Contract, Control, Delivery, Outcome, Refusal, Role,
    Status, Time, Token,
};

#[path = "rig/mod.rs"]
#[allow(dead_code, reason = "the suite's rig is not used here, its place and server are")]
mod rig;

/// A server that reads what comes first, answers with these bytes and ends the connection.
fn answering(bytes: &'static [u8]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("kafka://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        assert!(read > 8, "a request came");
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
    (url, server)
}

fn trouble(url: &str) -> Trouble {
    match examine(&LiveUrl::parse(url).unwrap(), Contract::default()) {
        Err(OpenError::Trouble { trouble, .. }) => trouble,
        other => panic!("{url}: {other:?}"),
    }
}

#[test]
fn nobody_listening_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(trouble(&format!("kafka://{free}")), Trouble::Unreachable(_)));
}

#[test]
fn a_name_without_an_address_is_named() {
    let trouble = trouble("kafka://no-such-host.invalid:9092");
    assert!(matches!(trouble, Trouble::NoAddress(_)), "{trouble:?}");
}

#[test]
fn silence_ends_within_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Nobody accepts, but the system does: connected, and never an answer, as from a server that was stopped.
    let trouble = trouble(&format!("kafka://{}", listener.local_addr().unwrap()));
    assert!(matches!(trouble, Trouble::Silent { asked: "ApiVersions", seconds: 10 }), "{trouble:?}");
}

#[test]
fn a_server_of_another_protocol_is_named_by_what_it_says() {
    let others: [(&[u8], &str); 3] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1 400"),
        (b"AMQP\0\0\x09\x01", "AMQP"),
        (b"", "ends the connection"),
    ];
    for (answer, shown) in others {
        let (url, server) = answering(answer);
        let trouble = trouble(&url);
        let Trouble::OtherProtocol { protocol: "Kafka", found } = &trouble else { panic!("{shown}: {trouble:?}") };
        assert!(found.contains(shown), "{found}");
        server.join().unwrap();
    }
}

#[test]
fn the_second_host_answers_for_the_first() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, server) = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let both = url.replace("kafka://", &format!("kafka://{free},"));
    assert!(matches!(trouble(&both), Trouble::OtherProtocol { .. }), "the last host's trouble is told");
    server.join().unwrap();
}

#[test]
fn parameters_are_checked_before_anybody_is_asked() {
    for (query, key) in [("producer.linger=5", "producer.linger"), ("queue=quorum", "queue")] {
        let url = LiveUrl::parse(&format!("kafka://127.0.0.1:1?{query}")).unwrap();
        let error = examine(&url, Contract::default()).unwrap_err();
        assert!(matches!(&error, OpenError::Url(UrlError::Unknown { key: unknown, .. }) if unknown == key), "{error}");
        assert!(error.to_string().contains("producer.linger.ms"), "what there is is listed: {error}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn encryption_that_is_not_built_in_names_its_feature() {
    let error = examine(&LiveUrl::parse("kafka+tls://127.0.0.1:1").unwrap(), Contract::default()).unwrap_err();
    assert!(error.to_string().contains("--features tls"), "{error}");
}

#[test]
fn what_one_node_can_not_keep_is_refused_or_named() {
    let Some(server) = rig::server("kafka", "BROKERLAB_TEST_KAFKA") else { return };
    let url = LiveUrl::parse(&server).unwrap();
    let place = rig::place();
    let three = Contract { copies: 3, ..Contract::default() };
    let once = Contract { delivery: Delivery::ExactlyOnce, ..Contract::default() };
    for (contract, axis) in [(three, "copies"), (once, "delivery")] {
        match open(&url, contract, &place) {
            Err(OpenError::Unsupported(refusal)) => assert!(refusal.missing.iter().any(|gap| gap.axis == axis)),
            other => panic!("{contract}: {other:?}"),
        }
        let examined = examine(&url, contract).unwrap();
        assert_eq!(examined.mapping.missing.iter().filter(|gap| gap.axis == axis).count(), 1);
        let kept = examined.mapping.kept;
        assert!(kept.copies == 1 && kept.delivery < Delivery::ExactlyOnce);
        let less = Contract { copies: 1, delivery: contract.delivery.min(kept.delivery), ..contract };
        let broker = open(&url, less, &place).unwrap();
        assert_eq!(broker.mapping().missing, []);
        assert!(broker.server().starts_with("Apache Kafka"), "{}", broker.server());
    }
}

/// One operation of an administrator, waited for by polling until it ended or ten thousand polls brought nothing.
fn ended(broker: &mut dyn Broker, control: Control) -> Outcome {
    told(broker, control).0
}

/// The same with what the client says to it.
fn told(broker: &mut dyn Broker, control: Control) -> (Outcome, String) {
    let spec = ClientSpec { number: 0, role: Role::Administrator, placement: 0 };
    let mut client: Box<dyn Client> = broker.connect(Time::ZERO, &spec).unwrap();
    let accepted = client.submit(Time::ZERO, &mut Batch::Control(vec![(Token(1), control)]));
    assert_eq!(accepted.taken, 1);
    let mut completions = Completions::default();
    for turn in 0..10_000 {
        client.poll(Time(turn * 1_000_000), &mut completions);
        if let Some(outcome) = completions.outcomes.first() {
            return (*outcome, client.reasons().join("; "));
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("an administrator got no answer");
}

#[test]
fn an_existing_topic_is_used_as_it_is_or_refused() {
    let Some(server) = rig::server("kafka", "BROKERLAB_TEST_KAFKA") else { return };
    let url = LiveUrl::parse(&server).unwrap();
    let place = rig::place();
    let spec =
        |name: String, lanes| ChannelSpec { name, lanes, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
    let mut own = open(&url, Contract::default(), &place).unwrap();
    let made = spec("made".to_owned(), 2);
    assert_eq!(ended(&mut *own, Control::Create(made.clone())).status, Status::Done);
    let mut again = open(&url, Contract::default(), &place).unwrap();
    let (exists, why) = told(&mut *again, Control::Create(spec("made".to_owned(), 5)));
    assert!(why.contains("found partitions=2, replication=1") && why.contains("wanted partitions=5"), "{why}");
    assert!(why.contains("made`") && why.contains("--existing"), "{why}");
    assert_eq!(exists.status, Status::Refused(Refusal::Exists), "the topic of another run is not taken over");

    let existing = brokerlab_live::Place { existing: true, ..place.clone() };
    let mut broker = open(&url, Contract::default(), &existing).unwrap();
    let name = format!("{}made", place.prefix);
    let cases = [
        (spec(format!("{name}-not"), 2), Status::Refused(Refusal::NoSuchLane), "there is no topic"),
        (spec(name.clone(), 3), Status::Refused(Refusal::OutOfRange), "found partitions=2; wanted partitions=3"),
        (spec(name.clone(), 2), Status::Done, ""),
    ];
    for (spec, status, why) in cases {
        let (outcome, told) = told(&mut *broker, Control::Create(spec));
        assert_eq!(outcome.status, status);
        assert!(told.contains(why), "{told}");
    }
    let server = format!("{server}?topic.replication.factor=3&topic.retention.ms=7");
    let mut other = open(&LiveUrl::parse(&server).unwrap(), Contract::default(), &existing).unwrap();
    let (outcome, why) = told(&mut *other, Control::Create(spec(name.clone(), 2)));
    assert_eq!(outcome.status, Status::Refused(Refusal::OutOfRange));
    assert!(
        why.contains("found replication=1, retention.ms=") && why.contains("wanted replication=3, retention.ms=7"),
        "{why}"
    );
    brokerlab_live::remove(&url, &existing, &[spec(name, 2)]).unwrap();
    let still = ended(&mut *again, Control::Create(made.clone()));
    assert_eq!(still.status, Status::Refused(Refusal::Exists), "what exists is not removed");
    brokerlab_live::remove(&url, &place, std::slice::from_ref(&made)).unwrap();
    assert_eq!(ended(&mut *again, Control::Create(made.clone())).status, Status::Done, "what was made is");
    brokerlab_live::remove(&url, &place, &[made]).unwrap();
}
