//! The page from made-up results: complete, self-contained, the same bytes from the same file.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use brokerlab_reports::{ResultFile, render, write_page};
use brokerlab_workloads::measurement::{HistogramRecord, Point};
use brokerlab_workloads::record::Tally;
use sha2::{Digest as _, Sha256};

use crate::synthetic::{self, ROWS};

fn page(file: &ResultFile) -> String {
    render(std::slice::from_ref(file)).unwrap()
}

/// Leaves the page where a browser can be pointed at it.
pub(crate) fn keep(name: &str, html: &str) {
    write_page(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), html).unwrap();
}

pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).map(|rest| rest.split_once(end).unwrap().0).collect()
}

#[test]
fn the_same_file_gives_the_same_bytes() {
    let file = synthetic::comparison();
    let folder = tempfile::tempdir().unwrap();
    let path = file.write(folder.path()).unwrap();
    let (first, again) = (page(&file), page(&ResultFile::read(&path).unwrap()));
    assert!(first == again, "a page differs after its file was written and read");
    keep("compare.html", &first);
}

#[test]
fn the_page_asks_for_nothing_and_its_policy_knows_its_style() {
    let html = page(&synthetic::comparison());
    assert!(html.len() <= 600_000, "{} bytes", html.len());
    for word in ["http:", "https:", "<script", " src=", "url(", "@import", " style=", "<link"] {
        assert!(!html.contains(word), "{word}");
    }
    let style = between(&html, "<style>", "</style>");
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style[0].as_bytes()));
    assert!(html.contains(&format!("default-src 'none'; style-src 'sha256-{hash}'")));
}

#[test]
fn every_panel_has_its_question_a_sentence_and_figures_in_a_table() {
    let html = page(&synthetic::comparison());
    let panels = between(&html, "<section class=\"panel\"", "</section>");
    assert_eq!(panels.len(), 8);
    let questions: Vec<&str> =
        panels.iter().map(|p| between(p, "<h2", "</h2>")[0].split_once('>').unwrap().1).collect();
    assert_eq!(
        questions,
        [
            "Can I trust this run?",
            "How far does each go?",
            "Does each meet my requirements?",
            "Which promises can each keep?",
            "What do the unluckiest messages see?",
            "Is it stable?",
            "What does a message cost in work?",
            "How do I repeat it?"
        ]
    );
    for (panel, question) in panels.iter().zip(&questions) {
        assert!(panel.contains("class=\"lede\""), "{question}");
        let charts = panel.matches("<svg class=\"chart\"").count();
        assert!(charts == 0 || panel.contains("<table"), "{question}: a chart without its figures");
        assert_eq!(panel.matches("<table").count(), panel.matches("<caption").count(), "{question}");
    }
    assert!(
        html.find("Can I trust").unwrap() < html.find("<svg class=\"chart\"").unwrap(),
        "validity before any figure"
    );
}

#[test]
fn ids_are_unique_also_with_several_files() {
    let mut closed = synthetic::run(ROWS[3], 1.0);
    closed.profile.closed_loop = true;
    let html = render(&[synthetic::comparison(), synthetic::run(ROWS[1], 1.0), closed]).unwrap();
    let ids = between(&html, " id=\"", "\"");
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
    assert!(html.contains("queue · B") && html.contains("direct · C"));
    let open_panels = html.split_once("id=\"trust-2\"").unwrap().0;
    assert!(!open_panels.contains("<th scope=\"row\">direct · C"), "closed and open loops share no table");
    keep("several.html", &html);
}

#[test]
fn results_that_differ_in_contract_are_not_comparable() {
    let mut other = synthetic::run(ROWS[1], 1.0);
    other.contract.storage = brokerlab_model::Storage::Fsync;
    let html = render(&[synthetic::run(ROWS[0], 1.0), other]).unwrap();
    assert!(html.contains("Not comparable: they differ in contracts."));
}

#[test]
fn a_red_light_greys_the_verdict() {
    let mut file = synthetic::comparison();
    assert!(!page(&file).contains("verdict grey"));
    for cell in &mut file.cells {
        synthetic::make_late(cell, 50_000_000);
    }
    let html = page(&file);
    assert!(html.contains("class=\"verdict grey\"") && html.contains("class=\"no\">generator lateness, p99.9"));
    keep("not-valid.html", &html);
}

#[test]
fn a_run_has_no_panels_of_a_comparison() {
    let html = page(&synthetic::run(ROWS[1], 1.0));
    assert!(!html.contains("How far does each go?") && !html.contains("Two identical rows"));
    assert!(html.contains("queue carries"));
    keep("run.html", &html);
}

#[test]
fn a_saturated_run_is_headed_by_what_was_asked_and_achieved() {
    let html = page(&synthetic::run(ROWS[1], 40.0));
    let head = between(&html, "<h1>", "</h1>")[0].replace('\u{a0}', " ");
    assert!(head.starts_with("queue is saturated: asked 800 k/s, achieved 18"), "{head}");
    assert!(!head.contains("p99") && !html.contains("What do the unluckiest"));
    keep("saturated.html", &html);
}

#[test]
fn a_quantile_among_the_unfinished_is_never() {
    let mut file = synthetic::run(ROWS[1], 1.0);
    file.cells[0].end_to_end.unfinished = 600;
    let html = page(&file);
    assert!(html.contains("never (&gt; 250 ms)"), "p99 lies among 600 unfinished of 12,600");
    assert!(html.contains("<td>600</td>"), "the count stands beside it");
}

#[test]
fn cpu_is_not_shown_where_the_loops_spin() {
    let mut file = synthetic::comparison();
    file.waiting = "spin".to_owned();
    let html = page(&file);
    assert!(!html.contains("CPU time per message") && html.contains("the loops spin"));
}

#[test]
fn a_small_page_is_as_it_was() {
    let mut file = synthetic::run(ROWS[0], 0.25);
    file.promise_ladder.truncate(3);
    file.fixed_cases.truncate(1);
    let html = page(&file);
    let (head, rest) = html.split_once("<style>").unwrap();
    let body = rest.split_once("</style>").unwrap().1;
    let head = head.split_once("sha256-").map_or(head, |(before, _)| before);
    let lines = format!("{head}…{body}").replace("><", ">\n<");
    insta::assert_snapshot!(lines);
}

/// What the page says of outages: the verdict, the timeline's bands, and both tables.
fn outage_parts(file: &ResultFile) -> String {
    let html = page(file);
    let verdict = between(&html, "<div id=\"verdict\"", "</section>")[0];
    let stable = between(&html, "<section class=\"panel\" id=\"stable\"", "</section>")[0];
    let bands = between(stable, "<g class=\"b\">", "</g>");
    assert_eq!(bands.len(), 3, "one in each chart over time that has marks");
    let tables = between(stable, "<table>", "</table>");
    format!("{verdict}\n{}\n{}", bands[0], tables.join("\n")).replace("><", ">\n<")
}

#[test]
fn a_pause_is_told_drawn_and_tabled() {
    let file = synthetic::run_with_a_pause(ROWS[0]);
    keep("pause.html", &page(&file));
    insta::assert_snapshot!(outage_parts(&file));
}

#[test]
fn a_broker_that_is_not_back_is_the_headline() {
    let file = synthetic::run_with_a_kill(ROWS[0]);
    keep("kill.html", &page(&file));
    insta::assert_snapshot!(outage_parts(&file));
}

#[test]
fn a_broker_that_is_gone_is_the_headline_also_of_a_saturated_run() {
    let mut file = synthetic::run_with_a_kill(ROWS[0]);
    // Nothing excuses what is missing then.
    file.cells[0].outages[0].fault = None;
    let text = brokerlab_reports::table(&file, brokerlab_reports::Style::Plain).unwrap();
    assert!(text.contains("SATURATED"), "{text}");
    assert!(brokerlab_reports::conclude(&file).unwrap().headline.contains("is not back"), "{text}");
}

#[test]
fn a_chart_over_time_without_a_mark_is_not_drawn() {
    let drawn = |file: &ResultFile| {
        let html = page(file);
        let stable = between(&html, "<section class=\"panel\" id=\"stable\"", "</section>")[0];
        (stable.matches("<svg class=\"chart\"").count(), stable.matches("not drawn").count())
    };
    let mut file = synthetic::run(ROWS[0], 1.0);
    assert_eq!(drawn(&file), (3, 1), "400 samples an interval have no p99");
    let mut tally = Tally::default();
    tally.record_n(300_000, 2_000);
    file.cells[0].intervals[3].end_to_end_response = HistogramRecord::from_tally(&tally);
    assert_eq!(drawn(&file), (4, 0));
}

#[test]
fn sections_of_a_page_that_is_not_valid_conclude_nothing() {
    let mut file = synthetic::comparison();
    file.cells.iter_mut().for_each(|cell| cell.fitness.other_processes_cores = Some(0.9));
    let html = page(&file).replace('\u{a0}', " ");
    for id in ["reach", "meets", "stable"] {
        let panel = between(&html, &format!("<section class=\"panel\" id=\"{id}\""), "</section>")[0];
        assert_eq!(between(panel, "<p class=\"lede\">", "</p>")[0], "Not judged: the run is not valid.", "{id}");
    }
}

#[test]
fn the_light_of_a_run_cut_short_is_red() {
    let mut file = synthetic::run(ROWS[1], 1.0);
    assert!(page(&file).contains("class=\"ok\">ran to its end"));
    file.cut_short = Some("Ctrl-C".to_owned());
    assert!(page(&file).contains("class=\"no\">ran to its end"));
}

#[test]
fn digests_carry_their_round_and_an_empty_column_is_left_out() {
    let mut file = synthetic::comparison();
    assert!(page(&file).contains("<dt>Digest</dt>") && page(&file).contains(">Allocations</th>"));
    for cell in &mut file.cells {
        if let Point::Visit { round } = cell.point {
            cell.digest.sha256 = format!("{round}b1c").repeat(16);
        }
    }
    file.fixed_cases.iter_mut().for_each(|case| case.allocations = None);
    let html = page(&file);
    assert!(html.contains("<dt>Digest, round 6</dt>") && !html.contains("<dt>Digest</dt>"));
    assert!(!html.contains(">Allocations</th>"));
}
