//! The Kafka driver under the conformance suite, against the server that `BROKERLAB_TEST_KAFKA` names by a URL.
//!
//! Without a server each case says so and passes; `BROKERLAB_TEST_REQUIRE=kafka` turns that into a failure. Every case works under a
//! prefix of its own and removes what it made.
#![cfg(feature = "kafka")]

#[path = "rig/mod.rs"]
mod rig;

mod conformance {
    use brokerlab_model::Span;

    use super::rig::LiveRig;

    fn rig() -> Option<LiveRig> {
        LiveRig::new(
            "kafka",
            "BROKERLAB_TEST_KAFKA",
            "consumer.heartbeat.interval.ms=50&producer.linger.ms=1",
            "producer.buffer.memory=65536",
            Span::from_millis(1_300),
        )
    }

    brokerlab_model::conformance_suite!(if rig());
}
