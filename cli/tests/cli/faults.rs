//! A backend with a planted fault: the checker says exactly that fault, as often as it was planted, and the command exits 3
//! also on a machine on which nothing may be concluded from the figures.

use crate::lab::{Lab, count};
use serde_json::Value;

/// What is wrong with deliveries.
const WRONG: [&str; 7] = ["lost", "duplicated", "redelivered", "reordered", "early", "corrupted", "foreign"];

/// Runs a faulty backend with few keys and enough messages; gives the check of its only group.
fn check(lab: &Lab, backend: &str, contract: &str, more: &[&str]) -> Value {
    let mut args =
        vec!["--contract", contract, "--set", "keys.count=20", "--set", "drain_limit=1500ms", "--work", "1us"];
    args.extend(more);
    let ended = lab.run(backend, &args);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.out.contains(&format!("{backend} broke its contract: workers: ")), "{}", ended.out);
    lab.cell()["groups"][0]["check"].clone()
}

/// Asserts that nothing but `fault` was found, and that the sentences about it hold `words`.
fn assert_only(check: &Value, fault: &str, words: &str) {
    for wrong in WRONG {
        assert_eq!(count(check, wrong) > 0, wrong == fault, "{wrong}: {check}");
    }
    let broken = check["broken"].as_array().expect("a list");
    assert_eq!(broken.len(), 1, "{check}");
    assert!(broken[0].as_str().expect("a sentence").contains(words), "{check}");
}

#[test]
fn one_message_dropped_in_500() {
    let lab = Lab::new();
    let check = check(&lab, "faulty?drop=500&inner=log", "per-key", &[]);
    assert_only(&check, "lost", "acknowledged messages were lost");
    assert_eq!(count(&check, "lost"), (count(&check, "delivered") + count(&check, "lost")) / 500);
}

#[test]
fn one_message_dropped_in_10_000() {
    let lab = Lab::new();
    let check = check(&lab, "faulty?drop=10000&inner=log", "per-key", &["--rate", "100k/s", "--duration", "200ms"]);
    assert_only(&check, "lost", "acknowledged messages were lost");
    let delivered = count(&check, "delivered") + count(&check, "lost");
    assert!(delivered >= 20_000, "{check}");
    assert_eq!(count(&check, "lost"), delivered / 10_000);
}

#[test]
fn a_duplicate_where_at_most_one_was_promised() {
    let lab = Lab::new();
    let check = check(&lab, "faulty?duplicate=500&inner=log", "at-most-once,per-key", &[]);
    assert_only(&check, "duplicated", "duplicate");
    assert_eq!(count(&check, "duplicated"), count(&check, "delivered") / 500);
}

#[test]
fn a_duplicate_where_it_is_allowed_is_counted_and_breaks_nothing() {
    let lab = Lab::new();
    lab.run("faulty?duplicate=500&inner=log", &[]).measured();
    let check = lab.cell()["groups"][0]["check"].clone();
    assert_eq!(count(&check, "duplicated"), count(&check, "delivered") / 500);
    assert_eq!(check["broken"].as_array().unwrap().len(), 0);
}

#[test]
fn two_messages_of_a_key_in_each_other_s_place() {
    let lab = Lab::new();
    let check = check(&lab, "faulty?reorder=500&inner=log", "per-key", &[]);
    assert_only(&check, "reordered", "order per key");
    assert!(count(&check, "reordered") <= count(&check, "delivered") / 500, "{check}");
}

#[test]
fn a_byte_that_was_flipped() {
    let lab = Lab::new();
    let check = check(&lab, "faulty?corrupt=500&inner=log", "per-key", &[]);
    assert_only(&check, "corrupted", "integrity");
    assert_eq!(count(&check, "corrupted"), (count(&check, "delivered") + count(&check, "corrupted")) / 500);
}

#[test]
fn a_message_that_came_before_it_was_sent() {
    let lab = Lab::new();
    // Whoever comes too early also overtakes, which is asked of nobody here.
    let check = check(&lab, "faulty?early=500&inner=log", "at-least-once", &["--threads", "1"]);
    let broken = check["broken"].as_array().expect("a list");
    assert_eq!(broken.len(), 1, "{check}");
    assert!(broken[0].as_str().expect("a sentence").contains("delivered before they were sent"), "{check}");
    assert_eq!(count(&check, "early"), count(&check, "delivered") / 500);
    assert_eq!((count(&check, "lost"), count(&check, "duplicated"), count(&check, "foreign")), (0, 0, 0), "{check}");
}

#[test]
fn a_planted_fault_is_found_behind_every_backend() {
    for inner in ["queue", "direct", "null"] {
        let lab = Lab::new();
        let check = check(&lab, &format!("faulty?drop=500&inner={inner}"), "memory,per-key", &[]);
        assert_only(&check, "lost", "acknowledged messages were lost");
    }
}

#[test]
fn a_faulty_backend_is_not_listed_and_needs_a_fault() {
    let lab = Lab::new();
    assert!(!lab.brokerlab(&["backends"]).out.contains("faulty"));
    lab.run("faulty?inner=log", &[]).fails(2, &["`faulty` needs a fault", "drop=10000"]);
    lab.run("faulty?drop=0&inner=log", &[]).fails(2, &["drop=0", "above zero"]);
}
