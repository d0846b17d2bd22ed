//! A broker that is paused or killed in the middle of a run, and a comparison that is interrupted: a finished report, every message
//! accounted for, and what was made is removed.
//!
//! Faults need a server that `scripts/brokers` started, in the folder that `BROKERLAB_BROKERS_DIR` names.

use std::process::Command;

use super::{Servers, server};
use crate::interrupt::interrupted;
use crate::lab::{Lab, assert_every_due_message_is_accounted_for, count};

/// Runs against Kafka with a fault declared, for at most two minutes.
fn with_fault(lab: &Lab, servers: &Servers, fault: &str) -> crate::lab::Ended {
    let fault = format!("faults=[{fault}]");
    let args =
        ["run", "--backend", &servers.kafka, "--rate", "500/s", "--duration", "8s", "--no-warm-up", "--out", "out"];
    lab.within(120, &[&args[..], &["--set", &fault]].concat(), &[])
}

/// Asserts that the page tells the outage and shows it on the timeline.
fn is_drawn(lab: &Lab) {
    let html = lab.text("out/report.html");
    assert!(html.contains("<g class=\"b\">"), "no band on the timeline");
    assert!(html.contains("<dt>Outage</dt>"), "no word of it in the verdict");
}

/// The servers, where faults may act on them.
fn may_be_hurt() -> Option<Servers> {
    server::server("faults", "BROKERLAB_BROKERS_DIR")?;
    Servers::find()
}

#[test]
fn a_paused_broker_ends_in_a_finished_report() {
    let Some(servers) = may_be_hurt() else { return };
    let lab = Lab::new();
    let ended = with_fault(&lab, &servers, "{ at = \"1s\", action = \"pause\", for = \"5s\" }");
    // What waited for five seconds misses the objectives, on a machine where they are judged.
    assert!([3, 4].contains(&ended.code), "{ended:?}");
    let cell = lab.cell();
    assert_every_due_message_is_accounted_for(&cell);
    assert_eq!(count(&cell["counts"], "due"), count(&cell["counts"], "acknowledged"), "{}", cell["counts"]);
    assert_eq!(count(&cell["groups"][0]["check"], "lost"), 0);
    let outage = &cell["outages"][0];
    assert_eq!(outage["fault"]["action"], "pause");
    let silent_ns = count(outage, "first_acknowledged_ns") - count(outage, "last_acknowledged_ns");
    assert!(silent_ns >= 4_000_000_000, "{outage}");
    assert!(ended.out.contains("kafka paused for 5"), "{}", ended.out);
    is_drawn(&lab);
    servers.are_clean();
}

#[test]
fn a_killed_broker_ends_in_a_finished_report_that_says_what_is_missing() {
    let Some(servers) = may_be_hurt() else { return };
    let lab = Lab::new();
    let ended = with_fault(&lab, &servers, "{ at = \"4s\", action = \"kill\" }");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/brokers");
    let up = Command::new(script).args(["up", "kafka"]).output().expect("the script starts");
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    assert_eq!(ended.code, 1, "{ended:?}");
    let cell = lab.cell();
    assert_every_due_message_is_accounted_for(&cell);
    let counts = &cell["counts"];
    let missing: u64 = ["unacknowledged", "unknown", "not_sent", "failed"].iter().map(|end| count(counts, end)).sum();
    assert!(missing > 0 && count(counts, "acknowledged") > 0, "{counts}");
    assert!(cell["not_back"].is_string(), "{}", cell["not_back"]);
    assert!(ended.out.contains("kafka was killed, not restarted and is not back"), "{}", ended.out);
    assert!(count(&cell["publish"], "unfinished") > 0, "what is missing counts above every sample");
    assert!(ended.err.contains("may still be there") && ended.err.contains("prefix brokerlab-"), "{}", ended.err);
    is_drawn(&lab);
}

#[test]
fn a_comparison_of_real_brokers_that_is_interrupted_removes_what_it_made() {
    let Some(servers) = Servers::find() else { return };
    let lab = Lab::new();
    let quorum = format!("{}?queue=quorum", servers.amqp);
    let args = ["compare", "--backend", &servers.kafka, "--backend", &quorum, "--rate", "500/s", "--no-warm-up"];
    let (code, out) = interrupted(&lab, &[&args[..], &["--duration", "4s", "--out", "out"]].concat(), "round 1");
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("CUT SHORT"), "{out}");
    let result = lab.json("out/results.json");
    assert!(result["cut_short"].is_string());
    let cells = result["cells"].as_array().expect("cells").len();
    assert!((1..=2).contains(&cells), "{cells} where one was on its way");
    assert_eq!(lab.names("out"), ["report.html", "results.json"]);
    servers.are_clean();
}
