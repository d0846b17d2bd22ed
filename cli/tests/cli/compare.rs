//! A comparison of two backends: both controls, every visit, one page and one result, and the same page from that result.

use serde_json::Value;

use crate::lab::{Lab, assert_every_due_message_is_accounted_for};

#[test]
fn two_backends_are_compared_and_the_page_is_rebuilt_byte_for_byte() {
    let lab = Lab::new();
    let ended = lab.brokerlab(&[
        "compare",
        "--backend",
        "log",
        "--backend",
        "direct",
        "--duration",
        "50ms",
        "--rate",
        "4k/s",
        "--quiet",
        "--out",
        "out",
    ]);
    // A machine that is not quiet, and a row that is saturated, are findings of a comparison.
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    assert_eq!(lab.names("out"), ["report.html", "results.json"]);
    let result = lab.json("out/results.json");
    assert!(result["cut_short"].is_null());
    let cells = result["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4 * 6 + 3 * 5);
    for row in ["log", "direct", "log (again)", "null"] {
        let visits = cells.iter().filter(|cell| cell["row"] == row && cell["point"]["kind"] == "visit").count();
        assert_eq!(visits, 6, "{row}");
    }
    for cell in cells {
        assert_every_due_message_is_accounted_for(cell);
        assert_eq!(cell["digest"]["matches_published"], true, "{}", cell["row"]);
    }
    let digests = |round: u64| {
        let mut of_round: Vec<_> = cells.iter().filter(|cell| cell["point"]["round"] == round).collect();
        of_round.dedup_by_key(|cell| cell["digest"]["sha256"].clone());
        of_round.len()
    };
    assert!((0..6).all(|round| digests(round) == 1), "rows of one round got different messages");
    assert_eq!(result["fixed_cases"].as_array().unwrap().len(), 2);
    let again = lab.brokerlab(&["report", "out/results.json", "--out", "again", "--quiet"]);
    assert_eq!((again.code, again.out.as_str()), (0, ""), "{again:?}");
    assert_eq!(lab.text("again/report.html"), lab.text("out/report.html"));
}

#[test]
fn a_backend_that_can_t_keep_the_contract_is_left_out_and_said() {
    let lab = Lab::new();
    let ended = lab.brokerlab(&[
        "compare",
        "--backend",
        "log",
        "--backend",
        "direct",
        "--contract",
        "decoupled",
        "--duration",
        "50ms",
        "--alone",
        "--out",
        "out",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("left out: direct can't keep the contract: availability decoupled"), "{}", ended.err);
    let result = lab.json("out/results.json");
    assert_eq!(result["refusals"].as_array().unwrap().len(), 1);
    assert_eq!(result["cells"].as_array().unwrap().len(), 6);
}

/// A short comparison of one backend with its controls: how it ended, its result and the rows that it visited.
fn compared(lab: &Lab, flags: &[&str]) -> (String, Value, Vec<String>) {
    let usual = ["compare", "--duration", "50ms", "--rate", "2k/s", "--out", "out"];
    let ended = lab.brokerlab(&[&usual[..], flags].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    let result = lab.json("out/results.json");
    assert!(result["cut_short"].is_null(), "{}", result["cut_short"]);
    let mut rows: Vec<String> = result["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|cell| cell["row"].as_str().expect("a row").to_owned())
        .collect();
    rows.sort_unstable();
    rows.dedup();
    (result["notes"].to_string(), result, rows)
}

#[test]
fn the_control_row_runs_under_what_it_keeps_where_that_is_less_and_this_is_said() {
    let lab = Lab::new();
    let (notes, result, rows) = compared(&lab, &["--backend", "log", "--contract", "exactly-once"]);
    assert_eq!(rows, ["log", "log (again)", "null"]);
    assert!(notes.contains("the control row null runs under at-least-once"), "{notes}");
    assert_eq!(result["contract"]["delivery"], "exactly-once");
}

#[test]
fn a_control_row_that_has_no_routing_is_left_out_of_a_profile_with_bindings() {
    let lab = Lab::new();
    let bindings = "groups.0.bindings=[{ kind = \"everything\" }]";
    let (notes, _, rows) = compared(&lab, &["--backend", "queue", "--set", bindings]);
    assert_eq!(rows, ["queue", "queue (again)"]);
    assert!(notes.contains("no control row") && notes.contains("null has no routing"), "{notes}");
}

#[test]
fn a_setting_that_the_fixed_case_does_not_go_through_is_no_fault_of_the_backend() {
    let lab = Lab::new();
    let ended = lab.run("queue?delay=20s", &["--duration", "50ms", "--rate", "100/s", "--set", "drain_limit=100ms"]);
    assert!(!ended.err.contains("fault of the backend") && ![1, 2].contains(&ended.code), "{ended:?}");
    let result = lab.json("out/results.json");
    assert_eq!(result["fixed_cases"].as_array().unwrap().len(), 0);
    assert!(result["notes"].to_string().contains("no exact counts of queue?delay=20s"), "{}", result["notes"]);
}
