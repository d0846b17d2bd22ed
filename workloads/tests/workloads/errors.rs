//! What a user reads when a profile is wrong: each message as it is printed.

use brokerlab_model::Span;
use brokerlab_workloads::profile::{Fault, FaultAction, FaultNode};
use brokerlab_workloads::{Profile, ProfileError};

const GOOD: &str = r#"name = "mine"
about = "For tests. Only for them."
duration = "1s"
arrivals = { kind = "poisson", rate = "1k/s" }
sizes = "100B"
keys = { kind = "uniform", count = 10 }

[[groups]]
name = "all"
members = 2
"#;

fn fault(text: &str) -> ProfileError {
    Profile::parse(text, "mine.toml").expect_err("this profile is wrong")
}

fn changed(from: &str, to: &str) -> ProfileError {
    assert!(GOOD.contains(from), "{from}");
    fault(&GOOD.replace(from, to))
}

fn set(path: &str, value: &str) -> ProfileError {
    Profile::parse_with(GOOD, "mine.toml", None, &[(path, value)]).expect_err("this override is wrong")
}

#[test]
fn the_profile_that_the_others_are_made_of_is_right() {
    Profile::parse(GOOD, "mine.toml").unwrap();
}

#[test]
fn an_unknown_key_is_shown_with_the_nearest_known_one() {
    let expected = "\
mine.toml:10:1: groups.0.membres: unknown key `membres`
   |
10 | membres = 2
   | ^^^^^^^
   = remedy: did you mean `members`? Known here: name, members, work, prefetch, analytics, bindings";
    assert_eq!(changed("members = 2", "membres = 2").to_string(), expected);
}

#[test]
fn an_unknown_key_inside_a_kind_is_shown_where_it_stands() {
    let expected = "\
mine.toml:4:32: arrivals.rat: unknown key `rat`
  |
4 | arrivals = { kind = \"poisson\", rat = \"1k/s\" }
  |                                ^^^
  = remedy: did you mean `rate`?";
    assert_eq!(changed("rate = \"1k/s\"", "rat = \"1k/s\"").to_string(), expected);
}

#[test]
fn an_unknown_kind_is_shown_with_the_nearest_known_one() {
    let error = changed("poisson", "poison");
    assert_eq!((error.line, error.column, error.excerpt.width), (4, 21, 8));
    assert_eq!(error.message, "`poison` is none of the known values");
    assert!(
        error.remedy.starts_with("did you mean `poisson`? Known here: constant, poisson, mmpp, on-off,"),
        "{error}"
    );
}

#[test]
fn a_bare_number_needs_its_unit() {
    let expected = "\
mine.toml:3:12: duration: `10` has no unit; a length of time needs one
  |
3 | duration = 10
  |            ^^
  = remedy: write a length of time as \"250ms\", \"1.5s\", \"40us\", \"2min\" or \"1h\"";
    assert_eq!(changed("\"1s\"", "10").to_string(), expected);
}

#[test]
fn a_unit_that_does_not_fit_is_shown() {
    let expected = "\
mine.toml:5:9: sizes: `100ms` is not a size
  |
5 | sizes = \"100ms\"
  |         ^^^^^^^
  = remedy: write bytes as \"512B\", \"4kB\", \"64KiB\" or \"1MiB\"";
    assert_eq!(changed("100B", "100ms").to_string(), expected);
}

#[test]
fn a_missing_key_names_the_table_that_lacks_it() {
    let error = changed("members = 2\n", "");
    assert_eq!(error.message, "the key `members` is missing");
    assert_eq!((error.line, error.key.as_str()), (8, "groups.0"));
    let error = changed("duration = \"1s\"\n", "");
    assert_eq!((error.line, error.message.as_str()), (1, "the key `duration` is missing"));
    let error = changed("kind = \"poisson\", ", "");
    assert_eq!((error.line, error.message.as_str()), (4, "the key `kind` is missing"));
}

#[test]
fn a_fault_of_toml_itself_is_shown_where_it_stands() {
    let error = changed("members = 2", "members = = 2");
    assert_eq!((error.line, error.file.as_str()), (10, "mine.toml"));
    let error = changed("members = 2", "members = 2\nmembers = 3");
    assert_eq!(error.line, 11);
    assert!(error.message.contains("duplicate"), "{error}");
}

/// What is replaced, by what, the line of the fault, and its message.
const IMPOSSIBLE: &[(&str, &str, usize, &str)] = &[
    ("rate = \"1k/s\"", "rate = \"0/s\"", 4, "the mean rate is zero: no message would ever be due"),
    ("sizes = \"100B\"", "sizes = \"31B\"", 5, "31B is below the 32-byte stamp with which each message begins"),
    ("\"1s\"", "\"0s\"", 3, "this length of time is zero"),
    ("count = 10", "count = 0", 6, "the number of keys is not between 1 and 2^40"),
    ("members = 2", "members = 0", 10, "0 is not between 1 and 1048576"),
    (
        "members = 2",
        "members = 2\nwork = { kind = \"log-normal\", time = \"1ms\", sigma = 9 }",
        11,
        "this sigma is not between 0 and 5",
    ),
    (
        "sizes = \"100B\"",
        "sizes = { kind = \"trace\" }",
        5,
        "sizes come from the trace, but the arrivals name no column of sizes",
    ),
    (
        "kind = \"uniform\", count = 10",
        "kind = \"trace\"",
        6,
        "keys come from the trace, but the arrivals name no column of keys",
    ),
    (
        "kind = \"uniform\", count = 10",
        "kind = \"hot-set\", count = 10, hot = 10, share = 0.5",
        6,
        "the hot keys are none or all of the keys",
    ),
    (
        "kind = \"uniform\", count = 10",
        "kind = \"hot-set\", count = 10, hot = 1, share = 80",
        6,
        "this share is not between 0 and 1",
    ),
    (
        "sizes = \"100B\"",
        "sizes = { kind = \"uniform\", min = \"100B\", max = \"99B\" }",
        5,
        "the smallest size is above the largest",
    ),
    ("sizes = \"100B\"", "sizes = { kind = \"empirical\", values = [] }", 5, "no size has a weight above zero"),
    ("duration = \"1s\"", "duration = \"1s\"\ncontract = { copies = 0 }", 4, "no copy at all would be acknowledged"),
    ("duration = \"1s\"", "duration = \"1s\"\nconnections = 2", 4, "2 is not between 1 and 1"),
    (
        "duration = \"1s\"",
        "duration = \"1s\"\npayload = { kind = \"compressible\", ratio = 0.5 }",
        4,
        "this ratio is not between 1 and 100",
    ),
    ("duration = \"1s\"", "duration = \"1s\"\nchannels = { name = \"a-{}\" }", 4, "a pattern needs a count"),
    ("duration = \"1s\"", "duration = \"1s\"\nchannels = { name = \"a\", count = 3 }", 4, "a count needs a pattern"),
    ("duration = \"1s\"", "duration = \"1s\"\nchannels = { names = [\"a\", \"a\"] }", 4, "two channels have one name"),
    (
        "duration = \"1s\"",
        "duration = \"1s\"\nobjectives = [\"lost = 0\", \"lost <= 2\"]",
        4,
        "an earlier objective bounds the same figure",
    ),
    ("members = 2", "members = 2\n[[groups]]\nname = \"all\"\nmembers = 1", 12, "two groups have one name"),
    ("members = 2", "members = 2\n[[pauses]]\ngroup = \"al\"\nat = \"0s\"\nfor = \"1s\"", 12, "there is no group `al`"),
    (
        "members = 2",
        "members = 2\n[[pauses]]\ngroup = \"all\"\nat = \"500ms\"\nfor = \"1s\"",
        14,
        "the pause ends after the measured window: its backlog could not be seen to drain",
    ),
    (
        "members = 2",
        "members = 2\n[[faults]]\nat = \"1s\"\naction = \"kill\"",
        12,
        "the fault begins after the measured window",
    ),
    (
        "members = 2",
        "members = 2\n[[faults]]\nat = \"100ms\"\naction = \"pause\"",
        11,
        "a pause needs its length: nobody else would resume the server",
    ),
    (
        "members = 2",
        "members = 2\n[[faults]]\nat = \"500ms\"\nfor = \"600ms\"\naction = \"pause\"",
        13,
        "the fault ends after the measured window: its backlog could not be seen to drain",
    ),
    (
        "members = 2",
        "members = 2\n[[faults]]\nat = \"1ms\"\naction = \"kill\"\n[[faults]]\nat = \"9ms\"\naction = \"kill\"\nnode = 2",
        15,
        "two faults of one node overlap",
    ),
    (
        "kind = \"poisson\", rate = \"1k/s\"",
        "kind = \"mmpp\", states = [{ rate = \"1/s\", for = \"1s\" }]",
        4,
        "one state never changes",
    ),
    (
        "kind = \"poisson\", rate = \"1k/s\"",
        "kind = \"steps\", steps = [{ rate = \"0/s\", for = \"1s\" }]",
        4,
        "the mean rate is zero: no message would ever be due",
    ),
    (
        "kind = \"poisson\", rate = \"1k/s\"",
        "kind = \"closed-loop\", think = \"0s\", rate = \"1/s\"",
        4,
        "a rate cannot scale a think time of zero",
    ),
];

#[test]
fn impossible_combinations_name_their_line() {
    for (from, to, line, message) in IMPOSSIBLE {
        let error = changed(from, to);
        assert_eq!((error.line, error.message.as_str()), (*line, *message), "{error}");
        assert!(!error.remedy.is_empty() && !error.key.is_empty() && !error.excerpt.text.is_empty(), "{error}");
    }
}

#[test]
fn a_wrong_contract_is_refused_as_a_table_and_as_words() {
    let error = changed("duration = \"1s\"", "duration = \"1s\"\ncontract = { delivry = \"at-least-once\" }");
    assert_eq!((error.line, error.message.as_str()), (4, "unknown key `delivry`"));
    assert!(error.remedy.starts_with("did you mean `delivery`?"), "{error}");
    let error = changed("duration = \"1s\"", "duration = \"1s\"\ncontract = \"at-least-one\"");
    assert_eq!((error.line, error.message.as_str()), (4, "`at-least-one` is no part of a contract"));
    let error = changed("duration = \"1s\"", "duration = \"1s\"\ncontract = { delivery = \"at-least-one\" }");
    assert_eq!((error.line, error.key.as_str()), (4, "contract.delivery"));
}

#[test]
fn reserved_tables_are_refused_with_the_reason() {
    let error = fault(&format!("{GOOD}\n[[process]]\nat = \"1s\"\n"));
    assert_eq!((error.line, error.key.as_str()), (12, "process"), "{error}");
    assert!(error.message.starts_with("`process` is reserved: ") && error.message.contains("live drivers"), "{error}");
}

#[test]
fn a_fault_is_read_with_its_units_and_every_slip_is_shown_where_it_stands() {
    let with = |fields: &str| format!("{GOOD}\n[[faults]]\n{fields}\n");
    let good = |fields: &str| Profile::parse(&with(fields), "mine.toml").unwrap().faults;
    let (ms, kill, pause) = (Span::from_millis, FaultAction::Kill, FaultAction::Pause);
    let expected = Fault { at: ms(500), action: pause, node: FaultNode::Number(2), length: Some(ms(250)) };
    assert_eq!(good("at = \"0.5s\"\naction = \"pause\"\nnode = 2\nfor = \"250ms\""), [expected]);
    let expected = Fault { at: ms(0), action: kill, node: FaultNode::All, length: None };
    for node in ["", "node = \"all\""] {
        assert_eq!(good(&format!("at = \"0s\"\naction = \"kill\"\n{node}")), [expected]);
    }
    let leader = good("at = \"0s\"\naction = \"kill\"\nnode = \"leader\"");
    assert_eq!(leader[0].node, FaultNode::Leader);
    // One after the other, and at once on two nodes.
    let kill = |at: &str, node: u32| format!("at = \"{at}\"\naction = \"kill\"\nnode = {node}\nfor = \"100ms\"\n");
    let three = format!("{}[[faults]]\n{}[[faults]]\n{}", kill("0s", 1), kill("100ms", 1), kill("50ms", 2));
    assert_eq!(good(&three).len(), 3);
    for (fields, line, message) in [
        ("at = 1\naction = \"kill\"", 13, "`1` has no unit; a length of time needs one"),
        ("at = \"0s\"\naction = \"kil\"", 14, "`kil` is none of the known values"),
        ("action = \"kill\"", 12, "the key `at` is missing"),
        ("at = \"0s\"\naction = \"kill\"\nlength = \"1s\"", 15, "unknown key `length`"),
        ("at = \"0s\"\naction = \"kill\"\nfor = \"0s\"", 15, "this length of time is zero"),
        ("at = \"0s\"\naction = \"kill\"\nnode = -1", 15, "no node has this number"),
        ("at = \"0s\"\naction = \"kill\"\nnode = \"first\"", 15, "`first` is no node"),
        ("at = \"0s\"\naction = \"kill\"\nnode = true", 15, "true stands where a node is needed"),
    ] {
        let error = fault(&with(fields));
        assert_eq!((error.line, error.message.as_str()), (line, message), "{error}");
        assert!(!error.remedy.is_empty(), "{error}");
    }
    let expected = "\
mine.toml:15:8: faults.0.node: `ledaer` is no node
   |
15 | node = \"ledaer\"
   |        ^^^^^^^^
   = remedy: write the node's number, such as 1, \"leader\" or \"all\"";
    assert_eq!(fault(&with("at = \"0s\"\naction = \"kill\"\nnode = \"ledaer\"")).to_string(), expected);
}

#[test]
fn a_missing_file_names_the_nearest_built_in_profile() {
    let error = Profile::load("order-procesing").unwrap_err();
    assert_eq!((error.line, error.file.as_str()), (0, "order-procesing"));
    assert!(error.remedy.starts_with("did you mean `order-processing`?"), "{error}");
    assert!(error.to_string().starts_with("order-procesing: this profile cannot be read: "), "{error}");
}

#[test]
fn an_override_is_checked_as_the_file_is_and_is_named() {
    let expected = "\
--set arrivals.rate:1:15: arrivals.rate: `20k` is not a rate
  |
1 | arrivals.rate=20k
  |               ^^^
  = remedy: write messages per second as \"20k/s\", \"1.5M/s\" or \"600/min\"";
    assert_eq!(set("arrivals.rate", "20k").to_string(), expected);
    let error = set("arivals.rate", "20k/s");
    assert_eq!((error.file.as_str(), error.column), ("--set arivals.rate", 1));
    assert!(error.remedy.starts_with("did you mean `arrivals`?"), "{error}");
    let error = set("groups.0.membres", "3");
    assert_eq!((error.column, error.excerpt.width, error.message.as_str()), (10, 7, "unknown key `membres`"));
    let error = set("groups.7.members", "3");
    assert_eq!((error.column, error.message.as_str()), (8, "`7` names no element of this list of 1"));
    let error = set("sizes.max", "3B");
    assert_eq!(error.message, "`sizes` is one value, it has no field `max`");
    let error = set("groups.*.work", "{ kind = \"constant\", time = 5 }");
    assert_eq!((error.message.as_str(), error.column), ("`5` has no unit; a length of time needs one", 43));
    assert_eq!(set("a..b", "1").message, "a part of this path is empty");
    assert_eq!(set("process", "[]").key, "process");
}

mod traces {
    use super::*;
    use std::path::Path;

    /// Writes a trace beside a profile that replays it, and reads the profile.
    fn replay(test: &str, csv: &str, columns: &str) -> Result<Profile, ProfileError> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("t.csv"), csv).unwrap();
        let arrivals = format!("kind = \"trace\", file = \"t.csv\"{columns}");
        let mut profile = GOOD.replace("kind = \"poisson\", rate = \"1k/s\"", &arrivals);
        // A column of sizes is read where sizes come from it.
        if columns.contains("size") {
            profile = profile.replace("sizes = \"100B\"", "sizes = \"trace\"");
        }
        std::fs::write(folder.join("p.toml"), profile).unwrap();
        Profile::load(folder.join("p.toml").to_str().unwrap())
    }

    #[test]
    fn a_trace_beside_the_profile_is_read() {
        let profile = replay("good", "time,k\n10,a\n10,b\n11.5,a\n", ", key = \"k\", speed_up = 3").unwrap();
        // Three messages, two gaps, 1.5 s, three times as fast.
        assert!((profile.mean_rate() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn an_unordered_time_is_shown_with_its_line() {
        let error = replay("unordered", "time,k\n10,a\n12,b\n11,a\n", "").unwrap_err();
        assert!(error.file.ends_with("t.csv"), "{}", error.file);
        assert_eq!((error.line, error.column, error.excerpt.width), (4, 1, 2));
        assert_eq!(
            (error.message.as_str(), error.excerpt.text.as_str()),
            ("this time is before the one above it", "11,a")
        );
        assert_eq!(error.remedy, "sort the trace by time");
        let error = replay("unordered-2", "time\n10\n9\n", "").unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (3, "this time is before the one above it"));
    }

    #[test]
    fn an_unparsable_time_and_size_are_shown_with_their_column() {
        let error = replay("time", "k,time\na,10\nb,tomorrow\n", "").unwrap_err();
        assert_eq!((error.line, error.column, error.excerpt.width, error.key.as_str()), (3, 3, 8, "time"));
        assert_eq!(error.message, "`tomorrow` is not a time");
        let error = replay("size", "time,n\n1,40\n2,big\n", ", size = \"n\"").unwrap_err();
        assert_eq!((error.line, error.column, error.message.as_str()), (3, 3, "`big` is not a number of bytes"));
        let error = replay("small", "time,n\n1,40\n2,8\n", ", size = \"n\"").unwrap_err();
        assert_eq!((error.line, error.column), (3, 3));
        assert!(error.remedy.contains("min = \"32B\""), "{error}");
    }

    #[test]
    fn a_missing_column_names_those_that_are_there() {
        let error = replay("column", "when,k\n10,a\n", "").unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (1, "there is no column `time`"));
        assert_eq!(error.remedy, "name one of its columns in `arrivals`: when, k");
    }

    #[test]
    fn a_trace_without_two_times_a_ragged_and_a_missing_one_are_refused() {
        assert_eq!(replay("empty", "time\n", "").unwrap_err().message, "the trace holds no row");
        assert_eq!(replay("one", "time\n5\n5\n", "").unwrap_err().message, "all rows of the trace are at one time");
        let error = replay("ragged", "time,k\n10,a\n11\n", "").unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (3, "this row has 1 cells, the header has 2"));
        let error = replay("absent", "time\n1\n2\n", ", speed_up = 0").unwrap_err();
        assert_eq!((error.line, error.key.as_str()), (4, "arrivals.speed_up"));
        let error = changed("kind = \"poisson\", rate = \"1k/s\"", "kind = \"trace\", file = \"nowhere.csv\"");
        assert_eq!((error.line, error.key.as_str()), (4, "arrivals.file"));
        assert!(error.message.starts_with("nowhere.csv cannot be read: "), "{error}");
    }
}

/// The good profile with these lines between its keys and its groups, and the groups in place of its own.
fn routed(headers: &str, groups: &str) -> String {
    let (top, _) = GOOD.split_once("\n[[groups]]").unwrap();
    format!("{top}\n{headers}\n{groups}")
}

#[test]
fn a_header_that_can_t_be_is_shown_where_it_stands() {
    let group = "[[groups]]\nname = \"all\"\nmembers = 1";
    let of = |line: &str| fault(&routed(&format!("[headers]\n{line}"), group));
    let told = |error: &ProfileError| (error.line, error.column, error.key.clone());
    let error = of("priority = [1, 300]");
    assert_eq!(told(&error), (9, 16, "headers.priority.1".to_owned()), "{error}");
    assert!(error.message.contains("the number 300 stands where a whole number from 0 to 255 is needed"), "{error}");
    let error = of("time_to_live = \"5\"");
    assert_eq!(told(&error), (9, 16, "headers.time_to_live".to_owned()), "{error}");
    let error = of("ttl = \"5s\"");
    assert_eq!(told(&error), (9, 1, "headers.ttl".to_owned()), "{error}");
    let error = of("other = { deduplication-id = \"x\" }");
    assert_eq!((error.line, error.key.as_str()), (9, "headers.other.deduplication-id"), "{error}");
    let error = of("message_group = \"\"");
    assert_eq!(told(&error), (9, 17, "headers.message_group".to_owned()), "{error}");
    let long: Vec<String> = [64, 63, 61].iter().map(|n| format!("{:?}", vec!["x"; *n])).collect();
    let error = of(&format!("routing_key = {}\nmessage_group = {}\nother.a = {}", long[0], long[1], long[2]));
    assert!(error.message.contains("after 245952 messages") && error.key == "headers", "{error}");
}

#[test]
fn a_binding_that_can_t_be_is_shown_where_it_stands() {
    let bound = |binding: &str| format!("[[groups]]\nname = \"all\"\nmembers = 1\nbindings = [{binding}]");
    let keys = "[headers]\nrouting_key = [\"orders.eu\", \"orders.us\"]";
    let error = fault(&routed("", &bound("{ kind = \"topic\", pattern = \"orders.#\" }")));
    assert_eq!((error.line, error.key.as_str()), (12, "groups.0.bindings.0"), "{error}");
    assert!(error.remedy.contains("write routing_key"), "{error}");
    let error = fault(&routed(keys, &bound("{ kind = \"topics\", pattern = \"orders.#\" }")));
    assert_eq!((error.line, error.column), (13, 22), "{error}");
    assert!(error.remedy.contains("did you mean `topic`"), "{error}");
    let error = fault(&routed(keys, &bound("{ kind = \"topic\", pattern = \"*.eu\" }")));
    assert_eq!(error.line, 10, "{error}");
    assert!(
        error.message.contains("message 1 of each producer (routing key \"orders.us\") is for no group"),
        "{error}"
    );
    let long = format!("{{ kind = \"key\", key = \"{}\" }}", "k".repeat(256));
    let error = fault(&routed(keys, &bound(&long)));
    assert_eq!((error.line, error.key.as_str()), (13, "groups.0.bindings.0"), "{error}");
    let analytics = "\nanalytics = { window = { kind = \"tumbling\", size = \"1s\" } }";
    let error = fault(&routed(keys, &(bound("{ kind = \"everything\" }") + analytics)));
    assert_eq!((error.line, error.key.as_str()), (14, "groups.0.analytics"), "{error}");
}
