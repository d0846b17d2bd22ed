//! Hard times of a Kafka during a run: what is not permitted, a disk that is full, a server that has stopped, messages over its limit.
//! Each ends as a named refusal or failure within the stated timeout, and leaves no topic behind.
//!
//! A proxy in front of the server that `BROKERLAB_TEST_KAFKA` names changes what it is told to. Leaves out lost connections and dead
//! servers, on which faults act in runs.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a test that can not go on fails there")]

mod proxy;
#[path = "../rig/mod.rs"]
#[allow(dead_code, reason = "every rig here stands before a proxy or is in a place of its own")]
mod rig;

use std::net::ToSocketAddrs;

use brokerlab_live::{LiveUrl, OpenError, Place, Trouble, examine, open};
use brokerlab_model::conformance::{Item, Session, numbered};
use brokerlab_model::{Contract, Control, Event, Failure, Refusal, Span, Status};

use self::proxy::{CREATE_TOPICS, FETCH, HEARTBEAT, PRODUCE, Proxy};
use self::rig::LiveRig;

const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const KAFKA_STORAGE_ERROR: i16 = 56;

/// The server under test and a proxy in front of it, when there is one.
fn proxy() -> Option<(String, Proxy)> {
    let server = rig::server("kafka", "BROKERLAB_TEST_KAFKA")?;
    let host = LiveUrl::parse(&server).unwrap().hosts[0].clone();
    let address = (host.name.as_str(), host.port).to_socket_addrs().unwrap().next().unwrap();
    Some((server, Proxy::before(address)))
}

fn rig(server: &str, usual: &'static str) -> LiveRig {
    LiveRig::at(server, usual, "", Span::from_millis(1_300))
}

#[test]
fn a_wrong_password_and_a_listener_without_logins_are_refused_logins() {
    let Some((server, proxy)) = proxy() else { return };
    let folder = std::env::temp_dir().join(format!("brokerlab-password-{}", std::process::id()));
    std::fs::write(&folder, "not-it").unwrap();
    for (server, said) in [(proxy.url(), "wrong password"), (server, "is this listener one with SASL")] {
        let host = server.trim_start_matches("kafka://");
        let url = format!("kafka://me@{host}?sasl=plain&password-file={}", folder.display());
        match examine(&LiveUrl::parse(&url).unwrap(), Contract::default()) {
            Err(OpenError::Trouble { trouble: Trouble::Login(why), .. }) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    std::fs::remove_file(folder).unwrap();
}

#[test]
fn a_topic_that_may_not_be_made_is_a_permission_that_is_missing() {
    let Some((_, proxy)) = proxy() else { return };
    let mut rig = rig(&proxy.url(), "");
    let mut session = Session::open(&mut rig);
    proxy.fail(CREATE_TOPICS, TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(session.try_create("channel", 1, &["g"]).status, Status::Refused(Refusal::WrongRole));
    let why = session.reasons(session.admin()).join("; ");
    assert!(why.starts_with("permission denied: creating topic ") && why.contains("-channel"), "{why}");
    session.end();
}

#[test]
fn what_may_not_be_published_is_refused_with_the_reason() {
    let Some((_, proxy)) = proxy() else { return };
    let mut rig = rig(&proxy.url(), "");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    proxy.fail(PRODUCE, TOPIC_AUTHORIZATION_FAILED);
    let tokens = session.publish(producer, &numbered(channel, 0..20));
    let refused = Status::Refused(Refusal::WrongRole);
    assert!(session.outcomes(producer, &tokens).iter().all(|outcome| outcome.status == refused));
    let why = session.reasons(producer).join("; ");
    assert!(why.starts_with("permission denied: publishing to topic "), "{why}");
    session.end();
}

#[test]
fn a_lane_that_may_not_be_read_is_lost_with_the_reason() {
    let Some((_, proxy)) = proxy() else { return };
    let mut rig = rig(&proxy.url(), "consumer.heartbeat.interval.ms=50");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    proxy.fail(FETCH, TOPIC_AUTHORIZATION_FAILED);
    let member = session.serving("g", channel);
    session.until("the lane to be lost", |s| s.events(member).contains(&Event::LaneLost(channel.first)));
    let why = session.reasons(member).join("; ");
    assert!(why.contains("permission denied: reading topic "), "{why}");
    session.end();
}

#[test]
fn a_group_that_may_not_be_joined_refuses_credit() {
    let Some((_, proxy)) = proxy() else { return };
    let mut rig = rig(&proxy.url(), "consumer.heartbeat.interval.ms=50");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    proxy.fail(HEARTBEAT, GROUP_AUTHORIZATION_FAILED);
    let member = session.member("g", channel);
    let grant = session.ask(member, Control::Grant(5));
    assert_eq!(session.outcomes(member, &[grant])[0].status, Status::Refused(Refusal::WrongRole));
    let why = session.reasons(member).join("; ");
    assert!(why.starts_with("permission denied: joining consumer group "), "{why}");
    proxy.fail(HEARTBEAT, 0);
    session.end();
}

#[test]
fn a_full_log_folder_is_tried_again_until_the_delivery_timeout_and_named() {
    let Some((_, proxy)) = proxy() else { return };
    let mut rig = rig(&proxy.url(), "producer.delivery.timeout.ms=400&producer.retry.backoff.ms=20");
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    proxy.fail(PRODUCE, KAFKA_STORAGE_ERROR);
    let tokens = session.publish(producer, &numbered(channel, 0..20));
    assert!(session.outcomes(producer, &tokens).iter().all(|outcome| outcome.status == Status::Unknown));
    let why = session.reasons(producer).join("; ");
    assert!(why.contains("KafkaStorageError (56)"), "{why}");
    proxy.fail(PRODUCE, 0);
    session.published(producer, &numbered(channel, 20..30));
    session.end();
}

#[test]
fn a_server_that_stops_answering_ends_everything_within_the_timeouts() {
    let Some((_, proxy)) = proxy() else { return };
    let timeouts = "producer.request.timeout.ms=300&producer.delivery.timeout.ms=600";
    let mut rig = rig(&proxy.url(), timeouts);
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..5));
    proxy.hold(true);
    let tokens = session.publish(producer, &numbered(channel, 5..20));
    assert!(session.outcomes(producer, &tokens).iter().all(|outcome| outcome.status == Status::Unknown));
    let made = session.try_create("other", 1, &["g"]).status;
    assert!(matches!(made, Status::Failed(Failure::Timeout | Failure::Disconnected)), "{made:?}");
    proxy.hold(false);
    session.published(producer, &numbered(channel, 20..25));
    session.end();
}

#[test]
fn a_message_over_the_topics_own_limit_is_refused_alone() {
    let Some(server) = rig::server("kafka", "BROKERLAB_TEST_KAFKA") else { return };
    let place = rig::place();
    let limited = "topic.max.message.bytes=2000";
    let mut own = LiveRig::within(&server, limited, "", Span::from_millis(1_300), place.clone());
    let mut making = Session::open(&mut own);
    making.create("channel", 1, &["g"]);
    let existing = Place { existing: true, ..place.clone() };
    let mut rig = LiveRig::within(&server, "", "", Span::from_millis(1_300), existing);
    let mut session = Session::open(&mut rig);
    let channel = session.create(&format!("{}channel", place.prefix), 1, &["g"]);
    let producer = session.producer();
    let item = |length| Item { channel: channel.id, key: Vec::new(), headers: Vec::new(), payload: vec![1; length] };
    let items: Vec<Item> = (0..30).map(|n| item(if n == 15 { 3_000 } else { 900 })).collect();
    let tokens = session.publish(producer, &items);
    let statuses: Vec<Status> = session.outcomes(producer, &tokens).iter().map(|outcome| outcome.status).collect();
    let mut expected = [Status::Done; 30];
    expected[15] = Status::Refused(Refusal::TooLarge);
    assert_eq!(statuses, expected);
    session.end();
    making.end();
}

#[test]
fn more_replicas_than_brokers_are_refused_before_anything_is_made() {
    let Some(server) = rig::server("kafka", "BROKERLAB_TEST_KAFKA") else { return };
    let url = LiveUrl::parse(&format!("{server}?topic.replication.factor=9")).unwrap();
    match open(&url, Contract::default(), &rig::place()) {
        Err(OpenError::Unsupported(refused)) => {
            let gap = refused.missing.iter().find(|gap| gap.axis == "copies").unwrap();
            assert!(gap.reason.contains("topic.replication.factor is 9"), "{}", gap.reason);
        }
        other => panic!("{other:?}"),
    }
}
