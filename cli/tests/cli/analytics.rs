//! Windows over what a group consumes: every embedded backend's are those of the batch computation over the schedule, and a
//! message that is lost or comes twice is a difference.

use crate::lab::{Lab, count};
use serde_json::Value;

const WINDOWS: [&str; 3] = [
    r#"{ window = { kind = "tumbling", size = "50ms" }, lateness = "1s" }"#,
    r#"{ window = { kind = "sliding", size = "60ms", slide = "20ms" } }"#,
    r#"{ window = { kind = "session", gap = "2ms" } }"#,
];

/// Runs a backend with windows; gives what they found, and the line about it on the console.
fn analytics(lab: &Lab, backend: &str, window: &str, more: &[&str]) -> (Value, String) {
    let set = format!("groups.0.analytics={window}");
    let mut args = vec!["--set", "keys.count=20", "--set", &set, "--work", "1us"];
    args.extend(more);
    let ended = lab.run(backend, &args);
    let line = ended.out.lines().find(|line| line.starts_with("analytics")).unwrap_or_default().to_owned();
    (lab.cell()["groups"][0]["analytics"].clone(), line)
}

#[test]
fn every_backend_s_windows_are_the_batch_s() {
    for backend in ["shard", "log", "queue", "direct"] {
        for window in WINDOWS {
            let lab = Lab::new();
            let (found, line) = analytics(&lab, backend, window, &[]);
            let delivered = count(&lab.cell()["groups"][0]["check"], "delivered");
            assert_eq!(
                (&found["difference"], &found["not_compared"]),
                (&Value::Null, &Value::Null),
                "{backend}: {found}"
            );
            assert_eq!(count(&found, "events"), delivered, "{backend}: {found}");
            assert!(count(&found, "results") > 20, "{backend}: {found}");
            assert!(line.ends_with("equal to the batch computation"), "{line}");
            let page = lab.text("out/report.html");
            assert!(page.contains("Windowed analytics") && page.contains("equal to the batch computation"));
        }
    }
}

#[test]
fn what_is_lost_or_comes_twice_is_a_difference() {
    for fault in ["drop", "duplicate"] {
        let lab = Lab::new();
        let backend = format!("faulty?{fault}=500&inner=log");
        let (found, line) = analytics(&lab, &backend, WINDOWS[0], &["--set", "drain_limit=1500ms"]);
        let difference = found["difference"].as_str().expect("it differs");
        assert!(difference.starts_with("the window [") && difference.contains(" instead of count "), "{difference}");
        assert!(line.contains("differs from the batch computation"), "{line}");
    }
}

#[test]
fn windows_that_can_not_be_are_refused_with_their_line() {
    let lab = Lab::new();
    let set = r#"groups.0.analytics={ window = { kind = "sliding", size = "1s", slide = "2s" } }"#;
    lab.run("log", &["--set", set]).fails(2, &["leaves events out of every window", "no longer than the size"]);
    let set = r#"groups.0.analytics={ window = { kind = "tumbling", size = "1s" } }"#;
    let closed = r#"arrivals={ kind = "closed-loop", think = "10ms" }"#;
    lab.run("log", &["--set", set, "--set", closed]).fails(2, &["closed loop"]);
}
