//! Outages on the page: bands over the time of a visit, and a table of what each cost.
//!
//! Leaves out the words for them, which the verdict uses too.

use brokerlab_workloads::measurement::{Measurement, OutageRecord};
use maud::{Markup, html};

use super::parts::{Cell, Shown, Table, View};
use crate::chart::Band;
use crate::figures;
use crate::outages::{happened, of, recovery};

/// Lines of the table for one row, at most.
const LINES: usize = 12;

/// Seconds since the end of the warm-up.
fn since_warm_up(cell: &Measurement, ns: u64) -> f64 {
    (ns as f64 - cell.window.warmup_ns as f64) / 1e9
}

/// From the beginning until nothing was left of it, or the last interval.
fn span(cell: &Measurement, outage: &OutageRecord) -> (f64, f64) {
    let last = cell.intervals.last().map_or(0, |interval| interval.start_ns + interval.length_ns);
    let to = outage.over_ns().unwrap_or(last).max(outage.begins_ns);
    (since_warm_up(cell, outage.begins_ns), since_warm_up(cell, to))
}

/// One band for each outage; those of a row's visits that lie over each other are one.
pub(super) fn bands(rows: &[Shown]) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    for row in rows {
        for (cell, outage) in of(&row.judged.row) {
            let ((from, to), label) = (span(cell, outage), outage.fault.map_or("outage", |fault| fault.action.name()));
            match bands.iter_mut().find(|band| band.label == label && from <= band.to && to >= band.from) {
                Some(band) => (band.from, band.to) = (band.from.min(from), band.to.max(to)),
                None => bands.push(Band { from, to, label: label.to_owned() }),
            }
        }
    }
    bands
}

/// What is going on at a moment of a row's visits.
pub(super) fn at(row: &Shown, seconds: f64) -> String {
    let during = of(&row.judged.row).find(|(cell, outage)| {
        let (from, to) = span(cell, outage);
        (from..=to).contains(&seconds)
    });
    during.map_or_else(String::new, |(_, outage)| happened(outage))
}

/// What each outage cost; nothing when there was none.
pub(super) fn table(view: &View, rows: &[Shown]) -> Markup {
    let head = [
        "Row",
        "What happened",
        "At",
        "First error after",
        "Nothing acknowledged for",
        "Backlog back after",
        "Backlog, largest",
        "Drained at",
        "Load ÷ that",
        "Unknown",
        "Failed",
        "Not sent",
        "Unacknowledged",
        "Lost",
        "Duplicated",
        "Redelivered",
    ];
    let aside = "times from its beginning; lost where it is the only one, since a loss shows no time";
    let mut table = Table::new("Outages", aside, &head);
    for row in rows {
        for (cell, outage) in of(&row.judged.row).take(LINES) {
            table.row(row.label(), row.is_control(), cells(cell, outage));
        }
    }
    html! { @if !table.rows.is_empty() { (table.markup(view)) } }
}

fn cells(cell: &Measurement, outage: &OutageRecord) -> Vec<Cell> {
    let figure = |text: String| Cell::Figure(text);
    let none = || "–".to_owned();
    let since = |ns: Option<u64>| ns.map(|ns| figures::duration(ns.saturating_sub(outage.begins_ns)));
    let count = |n: u64| Cell::Figure(figures::count(n));
    let lost = outage.lost.map_or_else(none, figures::count);
    vec![
        Cell::Words(happened(outage)),
        figure(format!("{:.2} s", since_warm_up(cell, outage.begins_ns))),
        figure(since(outage.first_error_ns).unwrap_or_else(none)),
        figure(outage.silent_ns().map_or_else(|| "the rest".to_owned(), figures::duration)),
        figure(recovery(outage)),
        count(outage.backlog_max),
        figure(outage.drain_per_s.map_or_else(none, figures::rate)),
        figure(outage.load_while_draining().map_or_else(none, |x| format!("{x:.2}"))),
        count(outage.unknown),
        count(outage.failed),
        count(outage.not_sent),
        count(outage.unacknowledged),
        figure(lost),
        count(outage.duplicated),
        count(outage.redelivered),
    ]
}
