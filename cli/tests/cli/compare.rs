//! A comparison of two backends: both controls, every visit, one page and one result, and the same page from that result.

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
