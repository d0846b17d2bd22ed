//! A search for capacity: probes as cells, an answer a row, the same page from the file; structure, not speed.

use serde_json::Value;

use crate::lab::{Ended, Lab, assert_every_due_message_is_accounted_for};

fn search(lab: &Lab, more: &[&str]) -> Ended {
    let mut args = vec!["capacity", "--out", "out"];
    if !more.contains(&"--probe") && !more.contains(&"--duration") {
        args.extend(["--probe", "100ms"]);
    }
    args.extend(more);
    lab.brokerlab(&args)
}

/// Rates and whether the cell's objectives were held against them, of one row's probes.
fn rates(result: &Value, row: &str) -> Vec<(f64, u64)> {
    let cells = result["cells"].as_array().expect("cells");
    let probes = cells.iter().filter(|cell| cell["row"] == row && cell["point"]["kind"] == "probe");
    probes
        .map(|cell| {
            let point = &cell["point"];
            let factor = point["rate_per_s"].as_f64().expect("a rate")
                / result["profile"]["rate_per_s"].as_f64().expect("a rate");
            assert!((factor - point["factor"].as_f64().expect("a factor")).abs() < 1e-9);
            (point["rate_per_s"].as_f64().expect("a rate"), point["attempt"].as_u64().expect("an attempt"))
        })
        .collect()
}

#[test]
fn each_backend_gets_an_answer_and_the_harness_is_measured_too() {
    let lab = Lab::new();
    // Nothing loses a message, and no answer takes a minute: every rate up to where the backlog grows passes.
    let more = [
        "--backend",
        "log",
        "--rate",
        "2k/s",
        "--precision",
        "50%",
        "--set",
        "objectives=[\"end-to-end p99 <= 1min\"]",
    ];
    let ended = search(&lab, &more);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("Highest rate within the objectives: log "), "{}", ended.out);
    assert_eq!(lab.names("out"), ["report.html", "results.json"]);
    let result = lab.json("out/results.json");
    assert_eq!((result["command"].as_str(), result["schema_version"].as_u64()), (Some("capacity"), Some(1)));
    let answers = result["judgement"]["capacity"].as_array().expect("answers");
    let rows: Vec<_> = answers.iter().map(|answer| answer["row"].as_str().expect("a row")).collect();
    assert_eq!(rows, ["log", "null"]);
    for answer in answers {
        let probes = rates(&result, answer["row"].as_str().expect("a row"));
        assert_eq!(answer["probes"].as_u64(), Some(probes.len() as u64));
        assert!(probes.len() >= 4, "{probes:?}");
        assert!((probes[0].0 - 2_000.0).abs() < 1e-9, "the first rate is the profile's: {probes:?}");
        let (passed, failed) = (answer["highest_passed_per_s"].as_f64(), answer["lowest_failed_per_s"].as_f64());
        if let (Some(passed), Some(failed)) = (passed, failed) {
            assert!(passed < failed, "{answer}");
            assert!(failed / passed <= 1.5 + 1e-9 || answer["end"] == "unfinished", "{answer}");
        }
        assert!(!answer["held_by"].as_str().expect("words").is_empty());
    }
    for cell in result["cells"].as_array().expect("cells") {
        assert_every_due_message_is_accounted_for(cell);
        assert_eq!(cell["window"]["duration_ns"].as_u64(), Some(100_000_000));
    }
    assert!(result["notes"].to_string().contains("consumers' work is divided by the load"), "{}", result["notes"]);
    assert!(result["notes"].to_string().contains("lanes are held at every rate"), "{}", result["notes"]);
    let again = lab.brokerlab(&["report", "out/results.json", "--out", "again", "--quiet"]);
    assert_eq!((again.code, again.out.as_str()), (0, ""), "{again:?}");
    assert_eq!(lab.text("again/report.html"), lab.text("out/report.html"));
    assert!(lab.text("out/report.html").contains("id=\"capacity\""));
}

#[test]
fn what_no_rate_meets_is_answered_with_the_lowest_and_why() {
    let lab = Lab::new();
    let objective = "objectives=[\"end-to-end p99 <= 1ns\"]";
    let more = ["--backend", "log", "--duration", "500ms", "--rate", "8k/s", "--set", objective, "--quiet"];
    let ended = search(&lab, &more);
    assert_eq!(ended.err, "", "{}", ended.out);
    // Below 2,000/s half a second has fewer than the thousand messages that a p99 needs.
    assert!(ended.out.contains("log below 2.00 k/s"), "{}", ended.out);
    assert!(ended.out.contains("asked ≤ 1 ns"), "{}", ended.out);
    let result = lab.json("out/results.json");
    let answer = &result["judgement"]["capacity"][0];
    assert_eq!((answer["end"].as_str(), &answer["highest_passed_per_s"]), (Some("below"), &Value::Null), "{answer}");
    let limit = answer["limit"].as_str().expect("what held it");
    assert_eq!(ended.code, if limit == "backend" { 3 } else { 4 }, "{answer}");
    assert_eq!(result["judgement"]["exit_code"].as_i64(), Some(ended.code.into()));
    // 8k, 4k and 2k, two probes each, and one more at the last.
    assert!(answer["probes"].as_u64().is_some_and(|probes| (5..=7).contains(&probes)), "{answer}");
}

#[test]
fn a_soak_runs_at_a_share_of_the_answer_and_says_whether_it_held() {
    let lab = Lab::new();
    let more = [
        "--backend",
        "direct",
        "--rate",
        "1k/s",
        "--precision",
        "50%",
        "--confirm-for",
        "150ms",
        "--json",
        "--set",
        "objectives=[\"end-to-end p99 <= 1min\"]",
    ];
    let ended = search(&lab, &more);
    let result: Value = serde_json::from_str(&ended.out).expect("one document");
    let answer = &result["judgement"]["capacity"][0];
    let found = answer["highest_passed_per_s"].as_f64().expect("a rate that passed");
    let cells = result["cells"].as_array().expect("cells");
    let soaks: Vec<_> = cells.iter().filter(|cell| cell["point"]["kind"] == "soak").collect();
    assert_eq!(soaks.len(), 1, "the harness is not soaked");
    let rate = soaks[0]["point"]["rate_per_s"].as_f64().expect("a rate");
    assert!((rate / found - 0.8).abs() < 0.01, "{rate} of {found}");
    assert_eq!(soaks[0]["window"]["duration_ns"].as_u64(), Some(150_000_000));
    let code = match (answer["soak"]["held"].as_bool(), answer["soak"]["valid"].as_bool()) {
        (Some(true), _) => 0,
        (Some(false), Some(true)) => 3,
        (Some(false), _) => 4,
        (None, _) => panic!("{answer}"),
    };
    assert_eq!(ended.code, code, "{answer}");
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let lab = Lab::new();
    let refused = |more: &[&str], words: &[&str]| {
        let ended = search(&lab, more);
        ended.fails(2, words);
        assert!(!lab.path("out/results.json").exists(), "{more:?}");
    };
    refused(&["--backend", "log", "--precision", "0"], &["--precision 0", "between 1% and 50%"]);
    refused(&["--backend", "log", "--probe", "1ms"], &["--probe 1ms", "50ms or more"]);
    refused(&["--backend", "log", "--probe", "5x"], &["--probe 5x", "250ms"]);
    refused(&["--backend", "log", "--confirm-for", "no"], &["--confirm-for no"]);
    refused(&["--backend", "log", "--backend", "log"], &["log is given twice"]);
    refused(&["--backend", "lag"], &["lag"]);
    refused(&["--backend", "log", "--contract", "copies=3"], &["no backend keeps the contract"]);
    let faults = "faults=[{ at = \"0s\", action = \"kill\" }]";
    refused(&["--backend", "log", "--set", faults], &["[[faults]]", "--set 'faults=[]'"]);
    let closed = "arrivals={ kind = \"closed-loop\", think = { kind = \"constant\", time = \"1ms\" } }";
    refused(&["--backend", "log", "--set", closed], &["closed loop", "poisson"]);
}
