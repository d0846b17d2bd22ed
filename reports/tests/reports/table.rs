//! The console table, as it is printed.

use brokerlab_reports::{Style, table};

use crate::synthetic::{self, ROWS};

#[test]
fn a_comparison_prints_validity_then_rows_then_the_verdict() {
    insta::assert_snapshot!(table(&synthetic::comparison(), Style::Plain).unwrap());
}

#[test]
fn a_saturated_run_prints_asked_achieved_backlog_and_no_quantile() {
    let text = table(&synthetic::run(ROWS[1], 40.0), Style::Plain).unwrap();
    let row = text.lines().find(|line| line.starts_with(" queue")).unwrap();
    assert!(row.contains("saturated") && row.contains("of 800 k/s") && row.contains("backlog"), "{row}");
    assert!(!row.contains(" ms") && !row.contains(" µs"), "{row}");
}

#[test]
fn colour_only_adds_escapes() {
    let file = synthetic::run(ROWS[0], 1.0);
    let (plain, color) = (table(&file, Style::Plain).unwrap(), table(&file, Style::Color).unwrap());
    assert!(!plain.contains('\u{1b}') && color.contains("\u{1b}[1m"));
    let mut stripped = String::new();
    let mut rest = color.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain);
}
