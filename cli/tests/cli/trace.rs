//! A user's own recording through a copy of `flight-replay`: a good one is replayed to the last row, a bad one is refused by line.

use std::fmt::Write as _;

use crate::lab::{Lab, count};

/// A copy of the profile that reads `mine.csv`.
fn lab(csv: &str) -> Lab {
    let lab = Lab::new();
    let copied = lab.brokerlab(&["profiles", "show", "flight-replay"]).out;
    assert!(copied.contains("\"builtin:flights.csv\""), "{copied}");
    lab.write("mine.toml", &copied.replace("\"builtin:flights.csv\"", "\"mine.csv\""));
    lab.write("mine.csv", csv);
    lab
}

/// A recording of `rows` departures, a minute apart.
fn recording(rows: usize) -> String {
    let mut csv = "time,origin,distance\n".to_owned();
    for row in 0..rows {
        let _ = writeln!(csv, "2024-03-01T{:02}:{:02},HAM,{}", row / 60, row % 60, 100 + row);
    }
    csv
}

#[test]
fn one_s_own_recording_is_replayed_whole() {
    let lab = lab(&recording(900));
    let checked = lab.brokerlab(&["profiles", "check", "mine.toml"]);
    assert_eq!(checked.code, 0);
    for words in ["900 rows over", "times as fast", "of warm-up and window", "(first 900 messages)"] {
        assert!(checked.out.contains(words), "{words}: {}", checked.out);
    }
    let digest = lab.brokerlab(&["profiles", "digest", "mine.toml", "--messages", "1000000"]);
    assert_eq!(digest.code, 0, "{digest:?}");
    lab.run("log", &["--profile", "mine.toml", "--duration", "600ms"]).measured();
    let cell = lab.cell();
    assert_eq!(count(&cell["digest"], "messages"), 900);
    assert_eq!(cell["digest"]["sha256"].as_str().unwrap(), digest.out.trim());
    assert_eq!(count(&cell["groups"][0]["check"], "delivered"), 900);
}

#[test]
fn a_recording_in_another_folder_is_found_beside_its_profile() {
    let lab = lab(&recording(90));
    std::fs::create_dir(lab.path("profiles")).unwrap();
    for file in ["mine.toml", "mine.csv"] {
        std::fs::rename(lab.path(file), lab.path("profiles").join(file)).unwrap();
    }
    lab.run("log", &["--profile", "profiles/mine.toml"]).measured();
    assert!(count(&lab.cell()["digest"], "messages") > 0);
}

/// Refused by `profiles check` and by `run`, with nothing written.
fn refused(csv: &str, words: &[&str]) {
    let lab = lab(csv);
    lab.brokerlab(&["profiles", "check", "mine.toml"]).fails(2, words);
    lab.run("log", &["--profile", "mine.toml"]).fails(2, words);
    assert_eq!(lab.names("."), ["mine.csv", "mine.toml"]);
}

#[test]
fn times_out_of_order_are_refused_by_line() {
    let swapped = recording(9).replace("T00:05", "T00:01");
    refused(&swapped, &["mine.csv:7", "time"]);
}

#[test]
fn times_that_are_none_are_refused_by_line() {
    refused(&recording(9).replace("2024-03-01T00:05", "yesterday"), &["mine.csv:7", "time", "yesterday"]);
}

#[test]
fn a_column_or_file_that_is_missing_is_named() {
    refused(&recording(9).replace("distance", "miles"), &["distance"]);
    let lab = lab("");
    std::fs::remove_file(lab.path("mine.csv")).unwrap();
    lab.brokerlab(&["profiles", "check", "mine.toml"]).fails(2, &["mine.csv"]);
}

#[test]
fn a_recording_without_rows_is_refused() {
    refused("time,origin,distance\n", &["mine.csv"]);
}
