//! A client across a socket passes the same suite as an engine in the process: the trait fits a network before a real broker
//! comes.
//!
//! The protocol, server and client are made up and small; what is real is the socket pair between them, with short writes, a
//! bounded send buffer, answers that come late, and connections that end.

mod balance;
mod broker;
mod client;
mod disturbances;
mod mischief;
mod replies;
mod requests;
mod server;
mod store;
mod wire;

mod suite {
    use crate::broker::NetRig;

    brokerlab_model::conformance_suite!(NetRig::new());
    brokerlab_model::conformance_timing_suite!(NetRig::new());
    brokerlab_model::conformance_session_suite!(NetRig::new());
}
