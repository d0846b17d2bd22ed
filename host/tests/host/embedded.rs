//! The four embedded models and the ceiling, driven by the whole host.

use std::sync::atomic::AtomicBool;

use brokerlab_embedded::{BackendUrl, Place, open};
use brokerlab_host::{Clock, ManualClock, RunError, RunSpec, WallClock, run};
use brokerlab_workloads::Workload;
use brokerlab_workloads::measurement::Measurement;

use crate::{assert_accounted, at, profile};

const BACKENDS: [&str; 5] = ["log", "queue", "shard", "direct", "null"];

fn on(url: &str, clock: &dyn Clock, threads: usize, lanes: u32, more: &[(&str, &str)]) -> Measurement {
    let folder = tempfile::tempdir().unwrap();
    let profile = profile(more);
    let mut broker =
        open(&BackendUrl::parse(url).unwrap(), &profile.contract, &Place { data: Some(folder.path()) }).unwrap();
    let spec = RunSpec { threads, lanes, ..RunSpec::new(Workload::new(&profile, 1, 0), url) };
    run(&mut *broker, &spec, clock, &AtomicBool::new(false), &mut |_| {})
        .unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn every_model_is_driven_in_virtual_time_and_publishes_the_same_messages() {
    let mut digests = Vec::new();
    for url in BACKENDS {
        let more = [("producers", "3"), ("groups.*.members", "4"), ("drain_limit", "1s")];
        let measurement = on(url, &ManualClock::new(), 1, 4, &more);
        assert_accounted(&measurement);
        let c = measurement.counts;
        assert_eq!((c.due, c.acknowledged, c.settled_in_all), (1_000, 1_000, 1_000), "{url}");
        assert_eq!(measurement.groups[0].check.delivered, 1_000, "{url}");
        assert_eq!(measurement.groups[0].check.broken, Vec::<String>::new(), "{url}");
        assert_eq!(measurement.notes, Vec::<String>::new(), "{url}");
        assert!(measurement.digest.matches_published);
        digests.push(measurement.digest);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

/// A queue whose only member takes 5 ms for each of a thousand messages a second.
fn overrun(url: &str) -> Measurement {
    let more = [("groups.*.work", "{ kind = \"constant\", time = \"5ms\" }"), ("drain_limit", "1s")];
    let measurement = on(url, &ManualClock::new(), 1, 1, &more);
    assert_accounted(&measurement);
    let check = &measurement.groups[0].check;
    assert_eq!((check.lost, check.duplicated, check.broken.len()), (0, 0, 0), "{url}: {check:?}");
    measurement
}

#[test]
fn what_a_queue_gives_up_by_its_settings_is_counted_by_reason_and_not_lost() {
    let check = overrun("queue").groups[0].check.clone();
    assert_eq!((check.expired, check.overflowed, check.dropped, check.dead_lettered), (0, 0, 0, 0));
    let kept = check.undelivered;
    let check = overrun("queue?max_length=50").groups[0].check.clone();
    assert!(check.overflowed > 0 && check.undelivered <= 50 && kept > 50, "{check:?}");
    assert_eq!((check.expired, check.dropped, check.dead_lettered), (0, check.overflowed, 0));
    let check = overrun("queue?message_ttl=100ms&dead_letter=keep").groups[0].check.clone();
    assert!(check.expired > 0, "{check:?}");
    assert_eq!((check.undelivered, check.overflowed, check.dropped), (0, 0, 0), "nothing outlives the drain");
    assert_eq!(check.dead_lettered, check.expired);
    let measurement = overrun("queue?max_length=50&overflow=reject-publish");
    let (counts, check) = (&measurement.counts, &measurement.groups[0].check);
    assert!(counts.failed > 0 && check.undelivered <= 50, "{counts:?} {check:?}");
    assert_eq!((check.expired, check.overflowed, check.dropped), (0, 0, 0));
}

#[test]
fn a_run_ends_when_what_is_missing_was_given_up_and_not_at_its_drain_limit() {
    for (url, groups) in [
        ("queue?message_ttl=100ms", 1),
        ("queue?max_length=50", 1),
        ("queue?message_ttl=100ms&max_length=60", 1),
        ("queue?message_ttl=100ms", 2),
    ] {
        let second = r#"[{ name = "g", members = 1 }, { name = "h", members = 1 }]"#;
        let mut more = vec![("drain_limit", "1h")];
        if groups == 2 {
            more.push(("groups", second));
        }
        more.push(("groups.*.work", "{ kind = \"constant\", time = \"5ms\" }"));
        let measurement = on(url, &ManualClock::new(), 1, 2, &more);
        assert_accounted(&measurement);
        for group in &measurement.groups {
            let check = &group.check;
            assert_eq!((check.lost, check.undelivered, check.broken.len()), (0, 0, 0), "{url}: {check:?}");
            assert!(check.expired + check.overflowed > 500, "{url}: {check:?}");
        }
        // What the member holds and what still waits is worked through, at 5 ms each; a look and a tenth of a second later it ends.
        let drained = measurement.window.drained_ns;
        assert!(drained < 1_200_000_000, "{url}: {drained}");
    }
}

/// Orders of two regions and of two importances, with a topic exchange's bindings.
const REGIONS: &str = r##"
name = "regions"
about = "Orders of two regions. Each region's consumers get theirs, auditors the important ones."
duration = "1s"
drain_limit = "1h"
producers = 3
sizes = "64B"
keys = { kind = "uniform", count = 16 }
arrivals = { kind = "constant", rate = "1000/s" }

[headers]
routing_key = ["orders.eu.low", "orders.us.low", "orders.eu.high", "orders.us.high"]
priority = [0, 0, 9, 9]

[[groups]]
name = "eu"
members = 2
bindings = [{ kind = "topic", pattern = "orders.eu.*" }]

[[groups]]
name = "us"
members = 2
bindings = [{ kind = "topic", pattern = "*.us.#" }, { kind = "key", key = "orders.us.high" }]

[[groups]]
name = "audit"
members = 1
bindings = [{ kind = "topic", pattern = "#.high" }]

[[groups]]
name = "archive"
members = 1
"##;

fn regions(url: &str) -> Result<Measurement, RunError> {
    let profile = brokerlab_workloads::Profile::parse(REGIONS, "regions.toml").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = Place { data: Some(folder.path()) };
    let mut broker = open(&BackendUrl::parse(url).unwrap(), &profile.contract, &place).unwrap();
    let spec = RunSpec { lanes: 2, ..RunSpec::new(Workload::new(&profile, 1, 0), url) };
    run(&mut *broker, &spec, &ManualClock::new(), &AtomicBool::new(false), &mut |_| {})
}

#[test]
fn a_topic_exchange_reaches_the_groups_that_are_bound_to_it() {
    let measurement = regions("queue").unwrap_or_else(|error| panic!("{error}"));
    assert_accounted(&measurement);
    let c = measurement.counts;
    assert_eq!((c.due, c.acknowledged, c.refused), (1_000, 1_000, 0));
    let of = |name: &str| measurement.groups.iter().find(|group| group.name == name).unwrap();
    // Each producer's messages take the four routing keys in turn; 334 messages of the first, 333 of the others.
    let routes = |turns: &[u64]| {
        [334, 333, 333].iter().map(|&n| (0..n).filter(|n| turns.contains(&(n % 4))).count() as u64).sum()
    };
    for (name, turns) in [("eu", &[0, 2][..]), ("us", &[1, 3]), ("audit", &[2, 3]), ("archive", &[0, 1, 2, 3])] {
        let (group, due): (_, u64) = (of(name), routes(turns));
        let check = &group.check;
        assert_eq!((check.acknowledged, check.delivered, check.lost, check.foreign), (due, due, 0, 0), "{name}");
        assert_eq!((group.end_to_end.response.count, group.end_to_end.unfinished), (due, 0), "{name}");
        assert_eq!(check.broken, Vec::<String>::new(), "{name}");
    }
    assert_eq!(c.delivered_in_all, 1_000 + 501 + 499 + 498, "about every second message is for each of the three");
    assert_eq!(measurement.window.drained_ns, 0, "nobody waits for what is for somebody else");
    assert!(measurement.digest.matches_published);
    let saturated = brokerlab_workloads::validity::judge(&measurement).unwrap().saturated;
    assert!(saturated.is_none(), "{saturated:?}");
}

#[test]
fn bindings_are_refused_by_a_backend_without_routing() {
    for url in ["log", "shard", "direct", "null"] {
        let told = regions(url).unwrap_err().to_string();
        assert!(told.starts_with(&format!("group eu has bindings, and {url} has no routing")), "{told}");
        assert!(told.contains("remove `bindings`"), "{told}");
    }
}

#[test]
fn priorities_go_first_and_what_has_a_short_life_expires() {
    let headers = r#"{ priority = [0, 9], time_to_live = ["1h", "1h", "1h", "20ms"] }"#;
    let more = [("headers", headers), ("groups.*.work", "2ms"), ("groups.*.prefetch", "1"), ("drain_limit", "1h")];
    let measurement = on("queue?priorities=10", &ManualClock::new(), 1, 1, &more);
    assert_accounted(&measurement);
    let check = &measurement.groups[0].check;
    // The important half keeps up with its consumer: all of it that lives long comes, and next to nothing of it has time to expire.
    assert_eq!((check.lost, check.undelivered, check.overflowed), (0, 0, 0), "{check:?}");
    assert!(check.delivered >= 750, "{check:?}");
    let ignored = on("log", &ManualClock::new(), 1, 1, &more);
    let check = &ignored.groups[0].check;
    assert_eq!((check.delivered, check.expired), (1_000, 0), "a log carries what it does not know");
    assert_ne!(
        ignored.digest.sha256,
        on("log", &ManualClock::new(), 1, 1, &more[1..]).digest.sha256,
        "headers are digested"
    );
}

#[test]
fn a_delay_holds_every_message_back_and_loses_none() {
    let measurement = on("queue?delay=100ms", &ManualClock::new(), 1, 4, &[("drain_limit", "1s")]);
    assert_accounted(&measurement);
    assert_eq!((measurement.counts.acknowledged, measurement.groups[0].check.delivered), (1_000, 1_000));
    let least = at(&measurement.end_to_end.response, 0, 0.01);
    assert!((100_000_000..101_000_000).contains(&least), "{least}");
}

#[test]
fn every_model_keeps_fsync_on_the_wall_clock() {
    for url in ["log", "queue", "shard", "direct"] {
        let more =
            [("contract.storage", "fsync"), ("duration", "200ms"), ("producers", "3"), ("groups.*.members", "4")];
        let measurement = on(url, &WallClock::new(), 2, 4, &more);
        assert_accounted(&measurement);
        assert_eq!(measurement.counts.due, 200);
        assert_eq!(measurement.counts.acknowledged + measurement.counts.failed, 200, "{url}: {:?}", measurement.counts);
        assert!(measurement.work.fsyncs > 0, "{url}: {:?}", measurement.work);
        assert_eq!(measurement.groups[0].check.lost, 0, "{url}");
    }
}

#[test]
fn ten_thousand_clients_run_on_two_loops_and_every_message_is_accounted_for() {
    let more = [
        ("producers", "5000"),
        ("groups.*.members", "5000"),
        ("groups.*.prefetch", "4"),
        ("arrivals", "{ kind = \"poisson\", rate = \"10k/s\" }"),
        ("duration", "500ms"),
        ("drain_limit", "20s"),
    ];
    let measurement = on("queue", &WallClock::new(), 2, 16, &more);
    assert_accounted(&measurement);
    assert_eq!((measurement.loops.clients, measurement.loops.loops), (10_000, 2));
    let (c, check) = (measurement.counts, &measurement.groups[0].check);
    assert!(c.due > 4_000 && c.due < 6_000, "{c:?}");
    assert_eq!(
        (c.acknowledged, c.delivered_in_all, c.settled_in_all),
        (c.due, c.due, c.due),
        "{:?}",
        measurement.notes
    );
    assert_eq!((check.delivered, check.lost, check.duplicated), (c.due, 0, 0));
    assert!(measurement.digest.matches_published);
}

#[test]
fn the_fixed_case_counts_the_same_work_every_time() {
    for url in ["log", "queue", "shard", "direct", "null"] {
        let [first, second] = [0, 1].map(|_| {
            let folder = tempfile::tempdir().unwrap();
            let contract = brokerlab_model::Contract::default();
            let place = Place { data: Some(folder.path()) };
            let mut broker = open(&BackendUrl::parse(url).unwrap(), &contract, &place).unwrap();
            let mut looks = 0;
            brokerlab_host::fixed_case(&mut *broker, contract, &mut || {
                looks += 5;
                Some(looks)
            })
            .unwrap_or_else(|error| panic!("{url}: {error}"))
        });
        assert_eq!(first, second);
        assert_eq!((first.messages, first.allocations), (10_000, Some(5)));
        assert!(first.work.round_trips > 0, "{url}");
    }
}
