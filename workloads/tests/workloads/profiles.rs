//! The built-in profiles, overrides, figures that follow from a profile, and the schema against the reader.

use brokerlab_model::Span;
use brokerlab_workloads::Profile;
use brokerlab_workloads::profile::{DEFAULT_PROFILE, LanesError, Work, builtin, schema, set_paths};
use serde_json::Value;

fn with(sets: &[(&str, &str)]) -> Profile {
    Profile::load_with(DEFAULT_PROFILE, sets).unwrap()
}

#[test]
fn every_built_in_profile_is_right_and_says_in_two_sentences_whom_it_is_for() {
    let names: Vec<&str> = builtin().iter().map(|(name, _)| *name).collect();
    let expected = [
        "order-processing",
        "iot-telemetry",
        "fraud-detection",
        "pub-sub-fanout",
        "flight-replay",
        "web-clickstream",
        "rule-alerting",
        "event-sourcing-ledger",
    ];
    assert_eq!(names, expected);
    for (name, text) in builtin() {
        let profile = Profile::load(name).unwrap();
        assert_eq!(&profile.name, name);
        assert_eq!(profile.text(), *text);
        let ends = profile.about.trim().split_inclusive(['.']).filter(|s| s.trim().len() > 12).count();
        assert_eq!(ends, 2, "{}", profile.about);
        for group in 0..profile.groups.len() {
            let utilisation = profile.utilisation(group);
            assert!(utilisation > 0.0 && utilisation < 0.8, "{name}: group {group} is {utilisation} busy");
        }
    }
}

#[test]
fn no_built_in_profile_is_another_with_one_number_changed() {
    for (i, (a, _)) in builtin().iter().enumerate() {
        for (b, _) in &builtin()[..i] {
            let (a, b) = (Profile::load(a).unwrap(), Profile::load(b).unwrap());
            let differ = [
                std::mem::discriminant(&a.arrivals) != std::mem::discriminant(&b.arrivals),
                std::mem::discriminant(&a.keys) != std::mem::discriminant(&b.keys),
                std::mem::discriminant(&a.sizes) != std::mem::discriminant(&b.sizes),
                std::mem::discriminant(&a.payload) != std::mem::discriminant(&b.payload),
                a.groups.len() != b.groups.len(),
                a.contract != b.contract,
            ];
            assert!(differ.iter().filter(|d| **d).count() >= 3, "{} and {}", a.name, b.name);
        }
    }
}

#[test]
fn the_default_profile_is_the_work_queue_that_the_comparison_promises() {
    let profile = with(&[]);
    assert_eq!(profile.contract.to_string(), "at-least-once, order none, page-cache, 1 copy, coupled");
    assert!((profile.mean_rate() - 20_000.0).abs() < 1e-9);
    assert!(profile.mean_rate() * profile.duration.as_secs_f64() >= 10_000.0);
    assert!((profile.utilisation(0) - 0.4).abs() < 1e-12);
    assert_eq!(profile.lanes(false), Ok(4));
    assert_eq!(profile.lanes(true), Ok(20));
}

#[test]
fn every_short_form_sets_its_field_in_every_built_in_profile() {
    for (name, _) in builtin() {
        for (short, path) in set_paths() {
            let value = match *short {
                "rate" => "12345/s",
                "size" => "777B",
                "work" => "33us",
                "contract" => "at-most-once, memory",
                "duration" => "60s",
                _ => "7",
            };
            // Fewer producers than connections, and a lane count, are faults of the override's own.
            if (*name, *short) == ("iot-telemetry", "producers") {
                assert!(Profile::load_with(name, &[(*path, value)]).is_err());
                continue;
            }
            let profile = Profile::load_with(name, &[(*path, value)]).unwrap();
            match *short {
                "rate" => assert!((profile.mean_rate() - 12_345.0).abs() < 1e-6),
                "size" => assert!((profile.mean_size() - 777.0).abs() < 1e-9),
                "producers" => assert_eq!(profile.producers, 7),
                "consumers" => assert!(profile.groups.iter().all(|g| g.members == 7)),
                "lanes" => assert_eq!(profile.lanes(true), Ok(7)),
                "work" => assert!(profile.groups.iter().all(|g| g.work.mean().0 == 33_000)),
                "contract" => {
                    assert_eq!(profile.contract.to_string(), "at-most-once, order none, memory, 1 copy, coupled");
                }
                "duration" => assert_eq!(profile.duration.0, 60_000_000_000),
                "seed" => assert_eq!(profile.seed, 7),
                other => panic!("no test of {other}"),
            }
        }
    }
}

#[test]
fn overrides_reach_by_name_and_number_and_make_what_was_not_written() {
    let profile = with(&[("groups.workers.members", "9"), ("groups.0.prefetch", "5"), ("lanes", "3")]);
    assert_eq!((profile.groups[0].members, profile.groups[0].prefetch, profile.lanes), (9, 5, Some(3)));
    let profile = with(&[("arrivals", "{ kind = \"constant\", rate = \"5/s\" }"), ("arrivals.rate", "6/s")]);
    assert!((profile.mean_rate() - 6.0).abs() < 1e-12);
    let profile = with(&[("groups.0", "{ name = \"g\", members = 1 }"), ("groups.*.work.time", "7us")]);
    assert_eq!(profile.groups[0].work, Work::Constant { time: Span(7_000), cpu: false });
    let profile = with(&[("sizes", "90B"), ("sizes.size", "91B")]);
    assert!((profile.mean_size() - 91.0).abs() < 1e-12);
    let profile = with(&[("contract.order", "per-key"), ("contract.copies", "3")]);
    assert_eq!(profile.contract.to_string(), "at-least-once, order per-key, page-cache, 3 copies, coupled");
}

#[test]
fn a_shortened_duration_takes_the_warm_up_with_it() {
    assert_eq!(with(&[("duration", "400ms")]).warmup.0, 100_000_000);
    assert_eq!(with(&[("duration", "2s")]).warmup.0, 200_000_000);
    assert_eq!(with(&[("duration", "400ms"), ("warmup", "300ms")]).warmup.0, 300_000_000);
}

#[test]
fn lanes_follow_consumers_rate_and_bytes_and_stay_through_a_staircase() {
    assert_eq!(with(&[("groups.0.members", "16")]).lanes(false), Ok(16));
    assert_eq!(with(&[("groups.0.members", "32")]).lanes(true), Ok(32));
    assert_eq!(with(&[("sizes", "2kB")]).lanes(true), Ok(40));
    assert_eq!(with(&[]).with_rate_factor(50.0).lanes(true), Ok(20));
    assert_eq!(with(&[("channels", "{ name = \"a-{}\", count = 10 }")]).lanes(true), Ok(2));
    let many = with(&[("arrivals.rate", "2M/s")]);
    assert_eq!(many.lanes(true), Err(LanesError::MustBeGiven { profile: "order-processing".to_owned(), needed: 2000 }));
    assert!(many.lanes(true).unwrap_err().to_string().contains("2000 lanes"));
    assert_eq!(many.lanes(false), Ok(4));
}

#[test]
fn a_rate_factor_scales_every_kind_of_arrivals() {
    for (name, _) in builtin() {
        let profile = Profile::load(name).unwrap();
        let doubled = profile.with_rate_factor(2.0);
        assert!((doubled.mean_rate() / profile.mean_rate() - 2.0).abs() < 1e-12);
        assert!((doubled.utilisation(0) / profile.utilisation(0) - 2.0).abs() < 1e-12);
    }
}

/// As much of JSON Schema as the generated schema uses.
fn fits(schema: &Value, root: &Value, value: &Value) -> bool {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        if !fits(&root["$defs"][name], root, value) {
            return false;
        }
    }
    let any = |key: &str| schema.get(key).and_then(Value::as_array);
    for key in ["anyOf", "oneOf"] {
        if any(key).is_some_and(|all| !all.iter().any(|s| fits(s, root, value))) {
            return false;
        }
    }
    if any("enum").is_some_and(|all| !all.contains(value)) || schema.get("const").is_some_and(|c| c != value) {
        return false;
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    let typed = match schema.get("type") {
        Some(Value::String(kind)) => is(kind),
        Some(Value::Array(kinds)) => kinds.iter().any(|k| is(k.as_str().unwrap())),
        _ => true,
    };
    let required = any("required").is_none_or(|all| all.iter().all(|k| value.get(k.as_str().unwrap()).is_some()));
    let items = match (schema.get("items"), value.as_array()) {
        (Some(schema), Some(items)) => items.iter().all(|i| fits(schema, root, i)),
        _ => true,
    };
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let properties = match (schema.get("properties"), value.as_object()) {
        (Some(known), Some(fields)) => {
            fields.iter().all(|(k, v)| known.get(k).map_or(!closed, |schema| fits(schema, root, v)))
        }
        _ => true,
    };
    let least = schema.get("minimum").and_then(Value::as_f64).zip(value.as_f64()).is_none_or(|(least, n)| n >= least);
    typed && required && items && properties && least
}

#[test]
fn the_schema_takes_what_the_reader_takes_and_refuses_unknown_keys() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    for (name, text) in builtin() {
        let value: Value = toml::from_str(text).unwrap();
        assert!(fits(&schema, &schema, &value), "{name}");
        for table in ["", "/arrivals", "/groups/0", "/channels", "/keys", "/contract"] {
            let mut wrong = value.clone();
            wrong.pointer_mut(table).unwrap()["zzz"] = Value::Bool(true);
            assert!(!fits(&schema, &schema, &wrong), "{name}: {table} takes an unknown key");
            let wrong = toml::to_string(&wrong).unwrap();
            assert!(Profile::parse(&wrong, "p").unwrap_err().message.contains("unknown key `zzz`"));
        }
    }
}

#[test]
fn the_schema_names_every_kind_with_its_words() {
    let schema = schema();
    for kind in ["constant", "poisson", "mmpp", "on-off", "steps", "ramp", "diurnal", "spike", "closed-loop", "trace"] {
        assert!(schema.contains(&format!("\"const\": \"{kind}\"")), "{kind}");
    }
    for description in ["How long unfinished messages are followed", "Messages per second.", "A number of bytes."] {
        assert!(schema.contains(description), "{description}");
    }
    assert!(schema.ends_with("}\n"));
}

#[test]
fn the_schema_takes_faults_as_the_reader_does() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let text = |faults: &str| format!("{}\n{faults}", builtin()[0].1);
    let at = "[[faults]]\nat = \"0s\"\n";
    for (fields, takes) in [
        ("action = \"kill\"", true),
        ("action = \"pause\"\nfor = \"100ms\"\nnode = 3", true),
        ("action = \"kill\"\nnode = \"all\"", true),
        ("action = \"stop\"", false),
        ("action = \"kill\"\nnode = \"one\"", false),
        ("action = \"kill\"\nnode = -1", false),
        ("action = \"kill\"\nlength = \"1s\"", false),
        ("node = 1", false),
    ] {
        let text = text(&format!("{at}{fields}\n"));
        let value: Value = toml::from_str(&text).unwrap();
        assert_eq!(fits(&schema, &schema, &value), takes, "schema: {fields}");
        assert_eq!(Profile::parse(&text, "p").is_ok(), takes, "reader: {fields}");
    }
}
