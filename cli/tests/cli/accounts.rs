//! Every message accounted for: equal messages in every backend, ten thousand clients, and far more load than can be carried.

use crate::lab::{
    Lab, assert_every_acknowledged_message_is_accounted_for, assert_every_due_message_is_accounted_for, count,
};

#[test]
fn the_same_profile_and_seed_give_the_same_messages_in_every_backend() {
    let mut digests = Vec::new();
    for backend in ["log", "queue", "shard", "direct", "null"] {
        let lab = Lab::new();
        lab.run(backend, &["--seed", "7"]).measured();
        let cell = lab.cell();
        assert_eq!(cell["digest"]["matches_published"], true, "{backend}");
        assert!(count(&cell["digest"], "messages") > 2_000, "{backend}: {}", cell["digest"]);
        assert_every_due_message_is_accounted_for(&cell);
        digests.push((backend, cell["digest"]["sha256"].clone()));
    }
    for (backend, digest) in &digests {
        assert_eq!(*digest, digests[0].1, "{backend}");
    }
    let lab = Lab::new();
    lab.run("log", &["--seed", "8"]).measured();
    assert_ne!(lab.cell()["digest"]["sha256"], digests[0].1);
}

#[test]
fn ten_thousand_clients_on_two_loops_and_every_message_accounted_for() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(2).to_string();
    let lab = Lab::new();
    let args = ["--threads", &threads, "--producers", "5000", "--consumers", "5000", "--lanes", "4"];
    lab.run("queue", &[&args[..], &["--rate", "20k/s", "--duration", "200ms"]].concat()).measured();
    let cell = lab.cell();
    assert_eq!(count(&cell["loops"], "loops"), cores.min(2) as u64);
    assert_eq!(count(&cell["loops"], "clients"), 10_000);
    assert_eq!(count(&cell["groups"][0], "members"), 5_000);
    assert!(count(&cell["counts"], "acknowledged") > 0, "{}", cell["counts"]);
    assert_every_due_message_is_accounted_for(&cell);
    assert_every_acknowledged_message_is_accounted_for(&cell);
    let check = &cell["groups"][0]["check"];
    assert_eq!((count(check, "lost"), count(check, "not_checked")), (0, 0), "{check}");
    assert_eq!(cell["digest"]["matches_published"], true);
}

#[test]
fn far_too_much_load_is_called_saturated_and_memory_stays_flat() {
    let lab = Lab::new();
    let args = ["--rate", "100M/s", "--duration", "200ms", "--set", "drain_limit=500ms"];
    let ended = lab.run("log", &args);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.out.contains("log is saturated: asked 100 M/s, achieved "), "{}", ended.out);
    let cell = lab.cell();
    assert!(count(&cell["counts"], "due") > 15_000_000, "{}", cell["counts"]);
    assert!(count(&cell["counts"], "backlog_end") > 0, "{}", cell["counts"]);
    assert_every_due_message_is_accounted_for(&cell);
    assert_every_acknowledged_message_is_accounted_for(&cell);
    assert!(count(&cell["resources"], "peak_rss_bytes") < 600 << 20, "{}", cell["resources"]);
    assert_eq!(count(&cell["groups"][0]["check"], "lost"), 0);
}

#[test]
fn members_beyond_the_lanes_are_a_finding_and_no_error() {
    let lab = Lab::new();
    lab.run("log", &["--lanes", "4", "--consumers", "16"]).measured();
    let cell = lab.cell();
    assert_eq!(count(&cell["groups"][0], "idle_members"), 12);
    assert!(cell["notes"].to_string().contains("12 of 16 consumers idle"), "{}", cell["notes"]);
}
