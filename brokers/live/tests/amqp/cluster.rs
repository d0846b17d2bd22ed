//! A cluster of three nodes, which `BROKERLAB_TEST_AMQP3` names by a URL with every host: the conformance suite, and that its nodes
//! are known as one cluster while another server is not.
//!
//! Skipped by name without it; `BROKERLAB_TEST_REQUIRE=amqp3` turns that into a failure.

use brokerlab_live::{LiveUrl, examine};
use brokerlab_model::Contract;

use crate::rig::{self, LiveRig};
use crate::{QUIET, server};

const VARIABLE: &str = "BROKERLAB_TEST_AMQP3";

/// Copies that a contract of two would keep, and how many axes would be missed.
fn copies(url: &str) -> (u8, usize) {
    let contract: Contract = "at-least-once,copies=2".parse().expect("a contract");
    let mapping = examine(&LiveUrl::parse(url).expect("a URL"), contract).expect("servers answer").mapping;
    (mapping.kept.copies, mapping.missing.len())
}

#[test]
fn nodes_of_one_cluster_keep_two_copies_though_each_names_it_otherwise() {
    let Some(url) = rig::server("amqp3", VARIABLE) else { return };
    assert_eq!(copies(&url), (2, 0));
    // The same node named thrice has one copy.
    let first = url.split(',').next().expect("a host");
    let thrice = format!("{first},{0},{0}", first.trim_start_matches("amqp://"));
    assert_eq!(copies(&thrice), (1, 1));
    if let Some(stranger) = server() {
        let mixed = format!("{first},{}", stranger.trim_start_matches("amqp://"));
        assert_eq!(copies(&mixed), (1, 1));
    }
}

fn of_cluster() -> Option<LiveRig> {
    LiveRig::new("amqp3", VARIABLE, "queue=quorum&max_message_size=1048576", "confirms=4", QUIET)
}

mod quorum {
    use super::of_cluster;

    brokerlab_model::conformance_suite!(if of_cluster());
}
