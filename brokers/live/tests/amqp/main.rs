//! The RabbitMQ driver under the conformance suite, for quorum and classic queues, and in bad times, against the server that
//! `BROKERLAB_TEST_AMQP` names by a URL.
//!
//! The suite runs over TLS too, for quorum queues, against `BROKERLAB_TEST_AMQP_TLS`. Without a server each case says so and passes;
//! `BROKERLAB_TEST_REQUIRE=amqp,amqp-tls` turns that into a failure. Every case works under a prefix of its own and removes what it
//! made.
#![cfg(feature = "amqp")]

mod cluster;
mod outage;
mod proxy;
#[path = "../rig/mod.rs"]
mod rig;
mod trouble;

use brokerlab_model::Span;

use rig::LiveRig;

/// How long nothing must happen until nothing more will: what a closed member held comes back within it.
const QUIET: Span = Span::from_millis(150);

/// The server under test, when there is one.
fn server() -> Option<String> {
    rig::server("amqp", "BROKERLAB_TEST_AMQP")
}

/// On this server, or on what stands in front of it.
fn at(server: &str, parameters: &'static str) -> LiveRig {
    LiveRig::at(server, parameters, "confirms=4", QUIET)
}

/// One for each case of the suite. The limit is far below the server's, so that the message beyond it costs a case no gigabytes.
fn of_kind(parameters: &'static str) -> Option<LiveRig> {
    LiveRig::new("amqp", "BROKERLAB_TEST_AMQP", parameters, "confirms=4", QUIET)
}

/// The same over TLS.
#[cfg(feature = "tls")]
fn secured(parameters: &'static str) -> Option<LiveRig> {
    LiveRig::new("amqp-tls", "BROKERLAB_TEST_AMQP_TLS", parameters, "confirms=4", QUIET)
}

mod quorum {
    use super::of_kind;

    brokerlab_model::conformance_suite!(if of_kind("queue=quorum&max_message_size=1048576"));
}

mod classic {
    use super::of_kind;

    brokerlab_model::conformance_suite!(if of_kind("queue=classic&max_message_size=1048576"));
}

#[cfg(feature = "tls")]
mod tls {
    use super::secured;

    brokerlab_model::conformance_suite!(if secured("queue=quorum&max_message_size=1048576"));
}
