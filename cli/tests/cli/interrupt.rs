//! Ctrl-C: the run ends early, says so, and what was measured is written.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::{BINARY, Lab, assert_every_due_message_is_accounted_for, count};

/// Starts a command, sends SIGINT after its first line of progress that holds `after`, gives its exit code and what it printed.
pub(crate) fn interrupted(lab: &Lab, args: &[&str], after: &str) -> (i32, String) {
    let mut child = Command::new(BINARY)
        .args(args)
        .current_dir(lab.path("."))
        .env("TMPDIR", lab.path("."))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut text = lines.by_ref().map(|line| line.expect("text"));
    let first = text.find(|line| line.contains(after)).expect("a line of progress");
    // The shell's own `kill`, which is wherever a shell is.
    let sent = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().expect("a shell");
    assert!(sent.success(), "{first}");
    for line in lines {
        let line = line.expect("text");
        assert!(!line.contains("NaN"), "{line}");
    }
    let mut out = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    (child.wait().expect("an exit code").code().unwrap_or(-1), out)
}

#[test]
fn a_run_that_is_interrupted_writes_what_was_measured() {
    let lab = Lab::new();
    let (code, out) = interrupted(
        &lab,
        &["run", "--backend", "log", "--duration", "10min", "--set", "warmup=10ms", "--out", "out"],
        "",
    );
    assert_eq!(code, 1, "{out}");
    let cell = lab.cell();
    assert!(count(&cell["counts"], "acknowledged") > 0, "{}", cell["counts"]);
    assert_every_due_message_is_accounted_for(&cell);
    assert!(cell["cut_short"].is_string(), "{}", cell["cut_short"]);
    assert!(lab.json("out/results.json")["cut_short"].is_string());
    assert!(out.to_lowercase().contains("cut short"), "{out}");
    assert_eq!(lab.names("out"), ["report.html", "results.json"]);
    assert_eq!(lab.names("."), ["out"], "data were left");
}

#[test]
fn a_run_that_is_interrupted_before_its_window_claims_nothing() {
    let lab = Lab::new();
    let (code, out) = interrupted(
        &lab,
        &["run", "--backend", "log", "--duration", "10min", "--set", "warmup=10min", "--out", "out"],
        "",
    );
    assert_eq!(code, 1, "{out}");
    assert_eq!(count(&lab.cell()["counts"], "due"), 0);
    assert!(!out.contains("kept") && !out.contains("NaN") && !out.contains("0 /s"), "{out}");
}

#[test]
fn a_comparison_that_is_interrupted_keeps_the_visits_that_were_made() {
    let lab = Lab::new();
    let (code, out) = interrupted(&lab, &["compare", "--duration", "200ms", "--out", "out"], "");
    assert_eq!(code, 1, "{out}");
    let result: Value = lab.json("out/results.json");
    assert!(result["cut_short"].is_string());
    let cells = result["cells"].as_array().unwrap();
    assert!((1..20).contains(&cells.len()), "{} visits", cells.len());
    assert!(count(&cells[0]["counts"], "acknowledged") > 0);
    assert_eq!(lab.names("."), ["out"], "data were left");
}

#[test]
fn a_search_and_a_sweep_that_are_interrupted_keep_what_was_measured() {
    for args in [
        &["capacity", "--backend", "log", "--probe", "300ms", "--out", "out"][..],
        &["sweep", "--backend", "log", "--vary", "lanes=1,2,3,4,5,6,7,8", "--duration", "300ms", "--out", "out"][..],
    ] {
        let lab = Lab::new();
        let (code, out) = interrupted(&lab, args, "");
        assert_eq!(code, 1, "{out}");
        assert!(out.to_lowercase().contains("cut short"), "{out}");
        let result = lab.json("out/results.json");
        assert!(result["cut_short"].is_string());
        let cells = result["cells"].as_array().unwrap();
        assert!((1..20).contains(&cells.len()), "{} cells", cells.len());
        assert!(cells.iter().all(|cell| cell["cut_short"].is_null()), "half a cell says nothing of its point");
        assert_eq!(lab.names("out"), ["report.html", "results.json"]);
        assert_eq!(lab.names("."), ["out"], "data were left");
    }
}
