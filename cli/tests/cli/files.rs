//! Result files in and out: read again, held against a baseline, refused when they are newer, cut or something else; one JSON
//! document on standard output; folders that can't be written.

use crate::lab::{Ended, Lab};
use serde_json::Value;

/// A folder with the result of one short run, as `out`.
fn with_result() -> Lab {
    let lab = Lab::new();
    lab.run("log", &[]).measured();
    lab
}

/// Reports on `name`, with a page of before in place.
fn report(lab: &Lab, name: &str) -> Ended {
    std::fs::create_dir_all(lab.path("again")).expect("a folder");
    lab.write("again/report.html", "a good page of before");
    lab.brokerlab(&["report", name, "--out", "again"])
}

#[test]
fn a_result_file_that_is_newer_cut_or_none_is_refused_and_the_old_page_stays() {
    let lab = with_result();
    let text = lab.text("out/results.json");
    lab.write("newer.json", &text.replacen("\"schema_version\": 1", "\"schema_version\": 2", 1));
    lab.write("cut.json", &text[..text.len() / 2]);
    lab.write("words.json", "not JSON at all\n");
    lab.write("other.json", "{ \"name\": \"something else\" }\n");
    lab.write("empty.json", "");
    let cases: [(&str, &[&str]); 6] = [
        ("newer.json", &["newer.json", "`schema_version` is 2", "reads up to 1", "or a newer one"]),
        ("cut.json", &["cut.json:", "cut off", "copy it again"]),
        ("words.json", &["words.json:1:", "cut off or was edited"]),
        ("other.json", &["other.json:1:1", "`schema_version` is missing", "name a results.json"]),
        ("empty.json", &["empty.json:", "cut off"]),
        ("missing.json", &["can't read `missing.json`", "name a results.json"]),
    ];
    for (name, words) in cases {
        report(&lab, name).fails(2, words);
        assert_eq!(lab.text("again/report.html"), "a good page of before", "{name}");
        assert_eq!(lab.names("again"), ["report.html"], "{name}");
        let against = ["report", "out/results.json", "--against", name, "--out", "again"];
        lab.brokerlab(&against).fails(2, words);
        assert_eq!(lab.text("again/report.html"), "a good page of before", "{name}");
    }
}

#[test]
fn a_page_is_rebuilt_from_its_result_byte_for_byte() {
    let lab = with_result();
    let ended = report(&lab, "out/results.json");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(lab.text("again/report.html"), lab.text("out/report.html"));
}

/// Holds the run's result against one that `edit` changed.
fn against(lab: &Lab, edit: impl FnOnce(&mut Value)) -> Ended {
    let mut base = lab.json("out/results.json");
    edit(&mut base["fixed_cases"][0]);
    lab.write("base.json", &base.to_string());
    lab.brokerlab(&["report", "out/results.json", "--against", "base.json", "--out", "again"])
}

#[test]
fn exact_counts_are_held_against_a_baseline() {
    let lab = with_result();
    let equal = against(&lab, |_| {});
    assert_eq!(equal.code, 0, "{equal:?}");
    assert!(equal.out.contains("exact counts, all equal to the base"), "{}", equal.out);

    let lower =
        |case: &mut Value| case["counts"]["write_calls"] = (case["counts"]["write_calls"].as_u64().unwrap() - 1).into();
    let rose = against(&lab, lower);
    assert_eq!(rose.code, 3, "{rose:?}");
    assert!(rose.out.contains("log: write_calls ") && rose.out.contains("more than the base"), "{}", rose.out);

    let fell = against(&lab, |case| case["counts"]["fsyncs"] = 1_000_000.into());
    assert_eq!(fell.code, 0, "{fell:?}");
    assert!(fell.out.contains("improved"), "{}", fell.out);

    for (key, value) in [("case", "fixed-0"), ("digest_sha256", "00"), ("backend", "elsewhere")] {
        let other = against(&lab, |case| case[key] = value.into());
        assert_eq!(other.code, 2, "{key}: {other:?}");
    }
}

#[test]
fn the_fixed_case_has_the_same_exact_counts_in_every_run() {
    let (one, other) = (with_result(), Lab::new());
    other.run("log", &["--seed", "9", "--rate", "5k/s"]).measured();
    let case = |lab: &Lab| lab.json("out/results.json")["fixed_cases"].clone();
    assert_eq!(case(&one), case(&other));
    assert_eq!(case(&one)[0]["messages"], 10_000);
}

#[test]
fn json_is_one_document_and_the_file_s_equal_and_standard_error_is_for_progress() {
    let lab = Lab::new();
    let args = ["run", "--backend", "queue", "--duration", "100ms", "--out", "out", "--json"];
    let ended = lab.brokerlab(&args);
    ended.measured();
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(document, lab.json("out/results.json"));
    assert_eq!(document["command"], "run");
}

#[test]
fn quiet_says_the_table_and_nothing_on_standard_error() {
    let lab = Lab::new();
    let quiet = lab.run("log", &[]);
    quiet.measured();
    assert_eq!(quiet.err, "");
    for word in ["order-processing at 20 k/s", " log ", "page:   out/report.html", "result: out/results.json"] {
        assert!(quiet.out.contains(word), "{word}: {}", quiet.out);
    }
    let loud = lab.brokerlab(&["run", "--backend", "log", "--duration", "50ms", "--out", "out"]);
    loud.measured();
    assert!(loud.err.contains("messages/s acknowledged of "), "{}", loud.err);
}

#[test]
fn a_folder_that_can_t_be_written_is_named_with_the_flag_that_chooses_another() {
    let lab = Lab::new();
    lab.write("file", "mine");
    let run = ["run", "--backend", "log", "--duration", "50ms"];
    let failed = lab.brokerlab(&[&run[..], &["--out", "file/below"]].concat());
    failed.fails(2, &["can't write into file/below", "--out"]);
    let failed = lab.brokerlab(&[&run[..], &["--out", "out", "--data", "file/below"]].concat());
    failed.fails(2, &["can't store in file/below", "--data"]);
    assert_eq!(lab.text("file"), "mine");
    let lab = with_result();
    lab.write("file", "mine");
    let failed = lab.brokerlab(&["report", "out/results.json", "--out", "file/below"]);
    failed.fails(1, &["file/below", "--out"]);
}

#[test]
fn a_data_folder_that_is_not_there_is_not_made() {
    let lab = Lab::new();
    let failed = lab.run("log", &["--data", "slip"]);
    failed.fails(2, &["can't store in slip", "make that folder", "--data"]);
    lab.brokerlab(&["doctor", "--data", "slip"]).fails(2, &["can't write to slip", "--data"]);
    assert!(!lab.path("slip").exists());
}

#[test]
fn data_are_removed_and_the_folder_stays() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("data")).unwrap();
    lab.write("data/mine", "x");
    lab.run("log", &["--data", "data"]).measured();
    assert_eq!(lab.names("data"), ["mine"]);
}
