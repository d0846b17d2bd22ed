//! `profiles` and `backends`: what they print is what the crates below hold, byte for byte where it is to be copied.

use brokerlab_workloads::profile::builtin;
use serde_json::Value;

use crate::lab::Lab;

#[test]
fn each_built_in_profile_is_listed_shown_byte_for_byte_and_good() {
    let lab = Lab::new();
    let list = lab.brokerlab(&["profiles", "list"]);
    assert_eq!(list.code, 0);
    assert!(list.out.contains("order-processing (the default)"), "{}", list.out);
    assert_eq!(builtin().len(), 8);
    for (name, text) in builtin() {
        assert!(list.out.lines().any(|line| line.split(' ').next() == Some(name)), "{name}");
        let shown = lab.brokerlab(&["profiles", "show", name]);
        assert_eq!((shown.code, shown.out.as_str()), (0, *text), "{name}");
        let checked = lab.brokerlab(&["profiles", "check", name]);
        assert_eq!(checked.code, 0, "{checked:?}");
        for word in ["good", "contract", "mean rate", "offered", "lanes", "utilisation", "digest"] {
            assert!(checked.out.contains(word), "{name}: {word}: {}", checked.out);
        }
    }
}

#[test]
fn a_shown_profile_is_a_file_to_start_from() {
    let lab = Lab::new();
    lab.write("mine.toml", &lab.brokerlab(&["profiles", "show", "iot-telemetry"]).out);
    let digest = |profile| lab.brokerlab(&["profiles", "digest", profile, "--messages", "5000"]).out;
    assert_eq!(digest("mine.toml"), digest("iot-telemetry"));
}

#[test]
fn the_schema_is_json_and_names_the_fields() {
    let lab = Lab::new();
    let printed = lab.brokerlab(&["profiles", "schema"]);
    assert_eq!(printed.code, 0);
    let schema: Value = serde_json::from_str(&printed.out).unwrap();
    for field in ["contract", "arrivals", "groups", "drain_limit"] {
        assert!(schema["properties"][field].is_object(), "{field}");
    }
}

#[test]
fn a_digest_depends_on_seed_and_messages_and_not_on_threads() {
    let lab = Lab::new();
    let digest = |more: &[&str]| {
        let ended = lab.brokerlab(&[&["profiles", "digest", "fraud-detection", "--messages", "20000"], more].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out
    };
    let one = digest(&["--threads", "1"]);
    assert_eq!(one, digest(&["--threads", "8"]));
    assert_eq!((one.trim().len(), one.lines().count()), (64, 1));
    assert!(one.trim().bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
    assert_ne!(one, digest(&["--seed", "99"]));
}

#[test]
fn an_override_is_checked_as_the_file_is() {
    let lab = Lab::new();
    let faster = lab.brokerlab(&["profiles", "check", "order-processing", "--set", "arrivals.rate=75k/s"]);
    assert_eq!(faster.code, 0, "{faster:?}");
    assert!(faster.out.contains("75000 messages/s"), "{}", faster.out);
    assert!(faster.out.contains("the backlog will grow"), "{}", faster.out);
    let usual = lab.brokerlab(&["profiles", "check", "order-processing"]);
    assert!(usual.out.contains("the mean rate takes 100 % of what they take: no room"), "{}", usual.out);
    assert!(usual.out.contains("the most frequent key alone takes 12"), "{}", usual.out);
    let slower =
        lab.brokerlab(&["profiles", "check", "order-processing", "--set", "arrivals.rate=10k/s", "--set", "lanes=20"]);
    assert!(slower.out.contains("takes 50 % of what they take\n"), "{}", slower.out);
}

#[test]
fn backends_say_what_they_are_and_which_contracts_they_keep() {
    let lab = Lab::new();
    let overview = lab.brokerlab(&["backends"]);
    assert_eq!(overview.code, 0);
    for name in ["log", "queue", "shard", "direct", "?as=sqs-fifo", "?max_length", "Promise ladder"] {
        assert!(overview.out.contains(name), "{name}");
    }
    let row = |name: &str| overview.out.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    let marks =
        |name: &str| row(name).trim_start()[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(marks("one order for all")[..4], ["yes", "yes", "yes", "-"], "log, queue, shard, direct");
    assert_eq!(marks("seek to a position")[..4], ["yes", "-", "yes", "-"]);
    assert_eq!(marks("lease with timeout")[..4], ["-", "yes", "-", "-"]);
    for name in ["priorities", "message_groups", "deduplication", "max_length", "dead_letter"] {
        assert!(
            overview.out.lines().any(|line| line.contains(&format!("-         ?{name} "))),
            "{name}: {}",
            overview.out
        );
    }
    assert!(overview.out.lines().any(|line| line.contains("  ?cleanup  -  ")), "{}", overview.out);
    let ladder = lab.brokerlab(&["backends", "--ladder"]);
    assert!(ladder.out.contains("  direct: refused") && ladder.out.contains("  log: kept by"), "{}", ladder.out);
    let one = lab.brokerlab(&["backends", "--contract", "at-least-once,per-key,fsync,decoupled"]);
    assert_eq!(one.code, 0);
    assert!(one.out.starts_with("at-least-once, order per-key, fsync, 1 copy, decoupled"), "{}", one.out);
}

#[test]
fn backends_as_json_hold_every_backend_in_every_row_of_the_ladder() {
    let lab = Lab::new();
    let printed = lab.brokerlab(&["backends", "--json"]);
    assert_eq!(printed.code, 0);
    let document: Value = serde_json::from_str(&printed.out).unwrap();
    let names: Vec<_> = document["backends"].as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap()).collect();
    for name in ["log", "queue", "shard", "direct"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for backend in document["backends"].as_array().unwrap() {
        let count = |name: &str| backend[name].as_array().unwrap().len();
        assert_eq!(count("features") + count("absent"), brokerlab_model::Feature::ALL.len(), "{backend}");
        assert!(backend["max_message_bytes"].as_u64() > Some(0) && count("orders") > 0, "{backend}");
        for limit in backend["limits"].as_array().unwrap() {
            assert!(
                ["name", "value", "source"]
                    .iter()
                    .all(|part| limit[*part].as_str().is_some_and(|text| !text.is_empty()))
            );
        }
    }
    let presets = document["backends"][names.iter().position(|name| *name == "queue").unwrap()]["presets"].clone();
    assert_eq!(presets.as_array().unwrap().len(), 3, "{presets}");
    assert!(presets[0]["limits"][0]["source"].as_str().is_some_and(|source| source.contains("RabbitMQ 4.0.1")));
    for row in document["promise_ladder"].as_array().unwrap() {
        assert_eq!(row["answers"].as_array().unwrap().len(), 4, "{row}");
    }
}
