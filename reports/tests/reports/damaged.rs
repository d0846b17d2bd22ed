//! Result files with anything done to them: read and drawn, or refused with their line; never a panic.
//!
//! Leaves out the refusals by name, which are in `result`.

use std::path::Path;
use std::sync::LazyLock;

use brokerlab_reports::{ReadError, ResultFile, Style, against, render, table};
use proptest::prelude::*;

use crate::synthetic::{self, ROWS};

static WHOLE: LazyLock<String> =
    LazyLock::new(|| serde_json::to_string_pretty(&synthetic::comparison_of(&ROWS[..2], 2)).unwrap());

/// A value of the file replaced by another, or any piece of it by any other.
fn damaged() -> impl Strategy<Value = String> {
    let values: Vec<&'static str> =
        vec!["0", "1", "-1", "18446744073709551615", "1e308", "-0.0", "null", "\"\"", "[]", "{}", "true"];
    let value = (any::<prop::sample::Index>(), prop::sample::select(values)).prop_map(|(line, value)| {
        let lines: Vec<&str> = WHOLE.lines().collect();
        let line = line.index(lines.len());
        let replaced = lines[line].split_once(": ").map(|(key, old)| {
            let comma = if old.ends_with(',') { "," } else { "" };
            format!("{key}: {value}{comma}")
        });
        let replaced = replaced.unwrap_or_else(|| lines[line].to_owned());
        [&lines[..line], &[replaced.as_str()], &lines[line + 1..]].concat().join("\n")
    });
    let piece = (any::<prop::sample::Index>(), 0..60_usize, "[0-9a-z\\[\\]{}\",:. -]{0,8}|\\PC{0,4}").prop_map(
        |(at, cut, piece)| {
            let at = (at.index(WHOLE.len())..=WHOLE.len()).find(|&at| WHOLE.is_char_boundary(at)).unwrap();
            let end = ((at + cut).min(WHOLE.len())..=WHOLE.len()).find(|&end| WHOLE.is_char_boundary(end)).unwrap();
            format!("{}{piece}{}", &WHOLE[..at], &WHOLE[end..])
        },
    );
    prop_oneof![3 => value, 1 => piece, 1 => "\\PC{0,80}"]
}

fn check(text: &str) {
    match ResultFile::parse(text, Path::new("results.json")) {
        Ok(file) => {
            let written = serde_json::to_string(&file).unwrap();
            let again = ResultFile::parse(&written, Path::new("again.json")).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), written);
            let drawn = render(std::slice::from_ref(&file)).is_ok();
            assert_eq!(table(&file, Style::Plain).is_ok(), drawn, "page and table read the same histograms");
            assert_eq!(against(&file, &again).increases, []);
        }
        Err(error) => {
            let printed = error.to_string();
            assert!(printed.starts_with("results.json:") && printed.contains("; "), "{printed}");
            if let ReadError::Malformed { line, column, reason, .. } = &error {
                assert!((1..=text.split('\n').count()).contains(line), "{printed}");
                assert!(*column >= 1 && !reason.is_empty(), "{printed}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_result_file_is_drawn_or_refused_with_its_line(text in damaged()) {
        check(&text);
    }
}

#[test]
fn the_end_of_the_text_has_a_place_too() {
    for (text, place) in [("", (1, 1)), ("{\n", (2, 1))] {
        let error = ResultFile::parse(text, Path::new("results.json")).unwrap_err();
        assert!(matches!(error, ReadError::Malformed { line, column, .. } if (line, column) == place), "{error}");
    }
    check(&WHOLE);
}
