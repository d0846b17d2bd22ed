//! The Kafka driver under the conformance suite, against the server that `BROKERLAB_TEST_KAFKA` names by a URL.
//!
//! The whole suite runs over TLS too, against `BROKERLAB_TEST_KAFKA_TLS`. Without a server each case says so and passes;
//! `BROKERLAB_TEST_REQUIRE=kafka,kafka-tls` turns that into a failure. Every case works under a
//! prefix of its own and removes what it made.
#![cfg(feature = "kafka")]

#[path = "rig/mod.rs"]
mod rig;

use brokerlab_model::Span;

use rig::LiveRig;

fn at(name: &str, variable: &str) -> Option<LiveRig> {
    let usual = "consumer.heartbeat.interval.ms=50&producer.linger.ms=1";
    LiveRig::new(name, variable, usual, "producer.buffer.memory=65536", Span::from_millis(1_300))
}

mod conformance {
    brokerlab_model::conformance_suite!(if crate::at("kafka", "BROKERLAB_TEST_KAFKA"));
}

#[cfg(feature = "tls")]
mod tls {
    brokerlab_model::conformance_suite!(if crate::at("kafka-tls", "BROKERLAB_TEST_KAFKA_TLS"));
}
