//! The binary against a real RabbitMQ, which `BROKERLAB_TEST_AMQP` names by a URL: what is not lost is not called lost, and what is
//! lost is found.
//!
//! Without a server each test says so and passes; `BROKERLAB_TEST_REQUIRE=amqp` turns that into a failure.

use crate::lab::{Lab, count};

/// The server, when there is one.
#[allow(clippy::print_stdout, reason = "a test says by name that it was skipped")]
fn server() -> Option<String> {
    let url = std::env::var("BROKERLAB_TEST_AMQP").ok();
    let required = std::env::var("BROKERLAB_TEST_REQUIRE").unwrap_or_default();
    assert!(url.is_some() || !required.split(',').any(|of| of == "amqp"), "no broker at BROKERLAB_TEST_AMQP");
    if url.is_none() {
        println!("skipped: no broker at BROKERLAB_TEST_AMQP");
    }
    url
}

/// Members that do far less than is published, so that the run ends with messages on their way to them.
const TOO_SLOW: [&str; 15] = [
    "--contract",
    "at-least-once",
    "--rate",
    "5k/s",
    "--work",
    "3ms",
    "--consumers",
    "4",
    "--set",
    "drain_limit=500ms",
    "--set",
    "groups.*.prefetch=64",
    "--no-warm-up",
    "--duration",
    "1s",
];

#[test]
fn messages_on_their_way_to_members_are_undelivered_and_not_lost() {
    let Some(server) = server() else { return };
    for queue in ["quorum", "classic"] {
        let lab = Lab::new();
        lab.run(&format!("{server}?queue={queue}"), &TOO_SLOW).measured();
        let check = lab.cell()["groups"][0]["check"].clone();
        assert!(count(&check, "undelivered") > 0, "{check}");
        assert_eq!((count(&check, "lost"), check["broken"].as_array().unwrap().len()), (0, 0), "{check}");
    }
}

#[test]
fn messages_that_a_short_queue_drops_are_lost() {
    let Some(server) = server() else { return };
    let lab = Lab::new();
    let ended = lab.run(&format!("{server}?queue=classic&x-max-length=20&x-overflow=drop-head"), &TOO_SLOW);
    assert_eq!(ended.code, 3, "{ended:?}");
    let check = lab.cell()["groups"][0]["check"].clone();
    // Beyond the 20 and what the members had, everything.
    let kept = count(&check, "delivered") + count(&check, "undelivered");
    assert!(count(&check, "undelivered") <= 20 + 4 * 64 && kept < count(&check, "acknowledged"), "{check}");
    assert_eq!(count(&check, "lost"), count(&check, "acknowledged") - kept, "{check}");
}
