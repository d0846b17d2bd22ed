//! *Does each meet my requirements?* Contract and objectives at the profile's rate, visit by visit.
//!
//! Leaves out loads other than the profile's (`reach`).

use maud::{Markup, html};

use super::parts::{Cell, Panel, Shown, Table, View, figure, legend};
use crate::chart::{Axis, Line, Mark, Plot, Rule};
use crate::compare::Outcome;
use crate::figures::{self, and_list};
use crate::given_up;
use crate::sample::{Followed, Operation, Shown as Quantile};
use crate::verdict::median_text;

pub(super) fn panel(view: &View) -> Panel {
    let rows = view.rows();
    let body = html! {
        @if view.compares() {
            (legend(&view.without_again()))
            div.charts { (strip(view, &rows)) }
        }
        (requirements(view, &rows))
        (checked(view, &rows))
        (groups(view))
        (pairs(view))
        (notes(view))
    };
    Panel { id: "meets", question: "Does each meet my requirements?", sentence: sentence(view), body }
}

fn sentence(view: &View) -> String {
    let rows = view.candidates();
    let all = view.rows();
    if !all.is_empty() && all.iter().all(|r| r.judged.row.counts.due == 0) {
        return "Nothing measured, so not judged.".to_owned();
    }
    if let Some(text) = view.not_judged() {
        return text;
    }
    if rows.is_empty() && !all.is_empty() {
        return "Not judged: this is the harness's own ceiling, not a backend.".to_owned();
    }
    let (met, not): (Vec<&Shown>, Vec<&Shown>) =
        rows.iter().partition(|r| r.judged.excluded.is_empty() && r.judged.missed.is_empty());
    let names = |rows: &[&Shown]| and_list(&rows.iter().map(|r| r.label().to_owned()).collect::<Vec<_>>());
    let asked = view.objectives().end_to_end_p99_max_ns().map_or_else(String::new, |ns| {
        format!(" End-to-end p99 ≤ {} is asked.", figures::trimmed(&figures::duration(ns)))
    });
    let not: Vec<String> = not
        .iter()
        .map(|r| {
            let why = if r.judged.excluded.is_empty() { &r.judged.missed } else { &r.judged.excluded };
            format!("{} ({})", r.label(), and_list(why))
        })
        .collect();
    if view.objectives().0.is_empty() && not.is_empty() && !met.is_empty() {
        return format!("No objective asked; {} kept the contract and carried the load.", names(&met));
    }
    match (met.is_empty(), not.is_empty()) {
        (true, true) => "No row was measured at the profile's rate.".to_owned(),
        (false, true) if met.len() == 1 => format!("{} does.{asked}", names(&met)),
        (false, true) => format!("{} all do.{asked}", names(&met)),
        (true, false) => format!("No: {}.{asked}", and_list(&not)),
        (false, false) => format!("{} do; not so {}.{asked}", names(&met), and_list(&not)),
    }
}

/// One mark a visit, and the median as a line.
fn strip(view: &View, rows: &[Shown]) -> Markup {
    let rows: Vec<&Shown> = rows.iter().filter(|r| !r.judged.row.figures().is_empty()).collect();
    let names: Vec<String> = rows.iter().map(|r| r.label().to_owned()).collect();
    let mut lines = Vec::new();
    for (place, r) in rows.iter().enumerate() {
        let figures = r.judged.row.figures();
        let spread = figures.len().max(2) as f64 - 1.0;
        let marks = figures.iter().filter(|f| f.ns.is_finite()).enumerate().map(|(n, f)| Mark {
            x: place as f64 + (n as f64 / spread - 0.5) * 0.5,
            y: f.ns,
            title: format!("{}, round {}: {}", r.label(), f.round + 1, figures::duration_f64(f.ns)),
            hollow: false,
        });
        if let Some(ns) = r.judged.median_p99_ns.filter(|ns| ns.is_finite()) {
            let end = |x: f64| Mark { x: place as f64 + x, y: ns, title: String::new(), hollow: false };
            let title = format!("{}: median {}", r.label(), figures::duration_f64(ns));
            lines.push(Line { ident: r.ident, title, dashed: false, joined: true, marks: vec![end(-0.38), end(0.38)] });
        }
        lines.push(Line {
            ident: r.ident,
            title: r.label().to_owned(),
            dashed: false,
            joined: false,
            marks: marks.collect(),
        });
    }
    let limit = view.objectives().end_to_end_p99_max_ns().map(|ns| ns as f64);
    let values = rows.iter().flat_map(|r| r.judged.row.figures()).map(|f| f.ns).chain(limit);
    let plot = Plot {
        id: view.id("visits"),
        title: "End-to-end response p99 of each visit".to_owned(),
        description:
            "One mark a visit at the profile's rate, a line at the median of each row; the figures are in the table."
                .to_owned(),
        x: Axis::places(&names),
        y: Axis::log(values, figures::duration_f64),
        x_title: String::new(),
        lines,
        bars: Vec::new(),
        bands: Vec::new(),
        rules: limit
            .map(|at| Rule {
                upright: false,
                at,
                label: format!("objective {}", figures::trimmed(&figures::duration_f64(at))),
            })
            .into_iter()
            .collect(),
    };
    figure(&plot, "a line at the median")
}

fn requirements(view: &View, rows: &[Shown]) -> Markup {
    let coverage = rows.iter().find_map(|r| r.judged.interval).map_or_else(String::new, |i| {
        format!(", with the exact binomial interval that covers the median in {:.1} %", i.coverage * 100.0)
    });
    let mut table = Table::new(
        "At the profile's rate",
        &format!("median of visits{coverage}"),
        &[
            "Row",
            "Contract",
            "Objectives",
            "Asked",
            "Achieved",
            "End-to-end p99",
            "Interval",
            "Publish p99",
            "Settle p99",
        ],
    );
    for r in rows {
        let (j, row) = (r.judged, &r.judged.row);
        let limit = row.followed();
        let kept = if row.kept() && row.counts.due == 0 {
            Cell::Open("–".to_owned())
        } else if row.kept() {
            Cell::Yes(format!("kept{}", given_up::short(row)))
        } else {
            Cell::No(format!("broken: {}", and_list(&row.broken())))
        };
        let saturated = row.saturated();
        let objectives = if saturated {
            let backlog = || format!("backlog {}", figures::count(row.counts.backlog_end));
            Cell::No(format!("saturated, {}", row.why_saturated().unwrap_or_else(backlog)))
        } else if row.counts.due == 0 {
            Cell::Open("nothing measured".to_owned())
        } else if !row.valid() || !r.analysis.valid() {
            Cell::Open("not valid".to_owned())
        } else if r.analysis.file.objectives.0.is_empty() {
            Cell::Open("none asked".to_owned())
        } else if j.missed.is_empty() {
            Cell::Yes("met".to_owned())
        } else {
            Cell::No(and_list(&j.missed))
        };
        let unless = |text: String| Cell::Figure(if saturated { "saturated".to_owned() } else { text });
        let interval = j.interval.map_or_else(
            || "–".to_owned(),
            |i| {
                let (low, high) = (median_text(Some(i.low), limit), median_text(Some(i.high), limit));
                format!("{low} – {high}")
            },
        );
        let cells = vec![
            kept,
            objectives,
            Cell::Figure(figures::rate(row.offered_per_s())),
            Cell::Figure(figures::rate(row.achieved_per_s())),
            unless(median_text(j.median_p99_ns, limit)),
            unless(interval),
            unless(median_of(&row.publish, row.median_ns(|v| v.publish_p99), limit)),
            unless(median_of(&row.settle, row.median_ns(|v| v.settle_p99), limit)),
        ];
        table.row(r.label(), r.is_control(), cells);
    }
    table.markup(view)
}

/// A median over visits, where there are samples enough to show that quantile at all.
fn median_of(operation: &Operation, ns: Option<f64>, limit: Followed) -> String {
    match operation.response.shown(0.99) {
        Quantile::TooFew | Quantile::Empty => "–".to_owned(),
        Quantile::At(_) | Quantile::Never | Quantile::BelowZero => median_text(ns, limit),
    }
}

/// One count of a row by its name.
type Count = (&'static str, fn(&Shown) -> u64);

/// Counts that break a contract stand always, others where they are not zero everywhere; the rest is named below.
fn checked(view: &View, rows: &[Shown]) -> Markup {
    let all: [Count; 20] = [
        ("Lost", |r| r.judged.row.check.lost),
        ("Duplicated", |r| r.judged.row.check.duplicated),
        ("Reordered", |r| r.judged.row.check.reordered),
        ("Corrupted", |r| r.judged.row.check.corrupted),
        ("Early", |r| r.judged.row.check.early),
        ("Foreign", |r| r.judged.row.check.foreign),
        ("Undelivered", |r| r.judged.row.check.undelivered),
        ("Expired", |r| r.judged.row.check.expired),
        ("Overflowed", |r| r.judged.row.check.overflowed),
        ("Dropped", |r| r.judged.row.check.dropped),
        ("Dead-lettered", |r| r.judged.row.check.dead_lettered),
        ("Redelivered", |r| r.judged.row.check.redelivered),
        ("Unfinished", |r| r.judged.row.end_to_end.response.unfinished()),
        ("Not sent", |r| r.judged.row.counts.not_sent),
        ("Refused", |r| r.judged.row.counts.refused),
        ("Failed", |r| r.judged.row.counts.failed),
        ("Unknown", |r| r.judged.row.counts.unknown),
        ("Throttled", |r| r.judged.row.counts.throttled),
        ("Not checked", |r| r.judged.row.check.not_checked),
        ("Order not checked", |r| r.judged.row.check.order_not_checked),
    ];
    let (shown, zero): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(n, (_, of))| *n < 3 || rows.iter().any(|r| of(r) > 0));
    let mut head = vec!["Row", "Acknowledged", "Delivered"];
    head.extend(shown.iter().map(|(_, (name, _))| *name));
    let mut table = Table::new("What became of every message", "all visits and groups, warm-up included", &head);
    for r in rows {
        let mut cells = vec![
            Cell::Figure(figures::count(r.judged.row.check.acknowledged)),
            Cell::Figure(figures::count(r.judged.row.check.delivered)),
        ];
        cells.extend(shown.iter().map(|(_, (_, of))| Cell::Figure(figures::count(of(r)))));
        table.row(r.label(), r.is_control(), cells);
    }
    let zero: Vec<String> = zero.iter().map(|(_, (name, _))| name.to_lowercase()).collect();
    html! {
        (table.markup(view))
        @if !zero.is_empty() { p.note { "None in any row: " (and_list(&zero)) "." } }
    }
}

fn groups(view: &View) -> Markup {
    let mut table =
        Table::new("Consumer groups", "first visit", &["Row", "Group", "Members", "Idle", "Utilisation", "Lanes"]);
    for r in view.candidates() {
        let Some(cell) = r.judged.row.example() else { continue };
        for group in &cell.groups {
            table.row(
                r.label(),
                false,
                vec![
                    Cell::Words(group.name.clone()),
                    Cell::Figure(group.members.to_string()),
                    Cell::Figure(group.idle_members.to_string()),
                    Cell::Figure(figures::percent(group.utilisation)),
                    Cell::Figure(cell.lanes.to_string()),
                ],
            );
        }
    }
    table.markup(view)
}

/// The row that was faster in the median, and by how much.
fn by(label: &str, ratio: f64) -> String {
    format!("{label} by {}", figures::factor(ratio))
}

fn pairs(view: &View) -> Markup {
    let shown: Vec<String> =
        view.analyses.iter().filter_map(|a| a.control).map(|c| figures::factor(c.largest_ratio)).collect();
    let control = if shown.is_empty() { String::new() } else { format!(" (here {})", and_list(&shown)) };
    let mut table = Table::new(
        "Held against each other",
        &format!(
            "a row is faster only if every round agrees and the median ratio exceeds 1.25× and what A/A showed{control}"
        ),
        &["Pair", "Outcome", "Faster in the median", "Does it matter?"],
    );
    for a in &view.analyses {
        for pair in &a.pairs {
            let (first, second) = (&a.rows[pair.first].row.label, &a.rows[pair.second].row.label);
            let matters = if pair.matters { "yes" } else { "no: less than a tenth of the objective" };
            let (outcome, ratio, matters) = match pair.outcome {
                Outcome::First { ratio } => (format!("{first} is faster"), by(first, ratio), matters),
                Outcome::Second { ratio } => (format!("{second} is faster"), by(second, ratio), matters),
                Outcome::TooClose { ratio, first_faster, rounds } => (
                    format!("too close to call ({first} faster in {first_faster} of {rounds})"),
                    if ratio >= 1.0 { by(first, ratio) } else { by(second, 1.0 / ratio) },
                    "–",
                ),
                Outcome::TooFewRounds { rounds } => (format!("too few rounds ({rounds} of 6)"), "–".to_owned(), "–"),
            };
            let cells = vec![Cell::Words(outcome), Cell::Figure(ratio), Cell::Words(matters.to_owned())];
            table.row(&format!("{first} and {second}"), false, cells);
        }
    }
    if table.rows.is_empty() {
        html! {}
    } else {
        table.markup(view)
    }
}

/// Findings that are no failures, each once.
pub(super) fn notes(view: &View) -> Markup {
    let mut notes: Vec<String> = Vec::new();
    for r in view.rows() {
        let row = &r.judged.row;
        let alone = row.stairs.iter().chain(&row.apart).map(|s| s.cell);
        for note in row.visits.iter().map(|v| v.cell).chain(alone).flat_map(|cell| &cell.notes) {
            let text = format!("{}: {note}", r.label());
            if !notes.contains(&text) {
                notes.push(text);
            }
        }
    }
    for a in &view.analyses {
        notes.extend(a.file.notes.iter().cloned());
    }
    html! {
        @if !notes.is_empty() {
            h3 { "Noted" }
            ul.note {
                @for note in notes.iter().take(40) { li { (note) } }
                @if notes.len() > 40 { li { (notes.len() - 40) " more in the result file" } }
            }
        }
    }
}
