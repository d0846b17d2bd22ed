//! *What do the unluckiest messages see?* Response and service time by the logarithm of nines.
//!
//! Leaves out averages, which no message sees.

use brokerlab_workloads::validity::{QUANTILES, may_show};
use maud::{Markup, html};

use super::parts::{Cell, Panel, Shown, Table, View, figure, legend};
use crate::chart::{Axis, Line, Mark, Plot};
use crate::figures::{self, and_list};
use crate::sample::{Followed, Operation, Sample, Shown as Quantile};

pub(super) fn panel(view: &View) -> Option<Panel> {
    let rows: Vec<Shown> = view.rows().into_iter().filter(|r| !r.judged.row.saturated()).collect();
    if rows.is_empty() {
        return None;
    }
    let drawn: Vec<Shown> = view.without_again().into_iter().filter(|r| !r.judged.row.saturated()).collect();
    let body = html! {
        (legend(&drawn))
        p.note { "Solid: response time, from the moment a message was due. Dashed: service time, from the moment it was sent." }
        div.charts {
            (nines(view, &drawn, "end-to-end", "End-to-end", |r| &r.judged.row.end_to_end))
            (nines(view, &drawn, "publish", "Publish", |r| &r.judged.row.publish))
        }
        (table(view, &rows))
    };
    Some(Panel { id: "tail", question: "What do the unluckiest messages see?", sentence: sentence(&drawn), body })
}

/// The highest quantile that every row may show.
fn deepest(rows: &[Shown]) -> Option<f64> {
    QUANTILES.into_iter().rev().find(|&q| rows.iter().all(|r| may_show(r.judged.row.end_to_end.response.total(), q)))
}

fn sentence(rows: &[Shown]) -> String {
    let rows: Vec<Shown> = rows.iter().copied().filter(|r| !r.is_control()).collect();
    let Some(q) = deepest(&rows) else {
        return "Too few messages were measured to show any quantile.".to_owned();
    };
    let one_in = (1.0 / (1.0 - q)).round() as u64;
    let one_in = figures::count(one_in);
    let ends = |r: &&Shown| r.judged.row.end_to_end.response.shown(q) != Quantile::Never;
    let (ended, never): (Vec<&Shown>, Vec<&Shown>) = rows.iter().partition(ends);
    let timed: Vec<String> = ended
        .iter()
        .map(|r| {
            let row = &r.judged.row;
            format!("{} with {}", row.end_to_end.response.shown(q).text(row.followed()), r.label())
        })
        .collect();
    let mut sentences = Vec::new();
    if !timed.is_empty() {
        sentences.push(format!("One message in {one_in} takes longer, end to end, than {}.", and_list(&timed)));
    }
    sentences.extend(never.iter().map(|r| {
        let what = match r.judged.row.followed() {
            Followed::For(ns) => format!("was not delivered within {}", figures::duration(ns)),
            Followed::CutShort => "was unfinished when the run was cut short".to_owned(),
        };
        format!("With {} one message in {one_in} {what}.", r.label())
    }));
    sentences.join(" ")
}

/// A curve through quantiles that are evenly apart in nines, as far as samples lie beyond them.
fn curve(sample: &Sample) -> Vec<(f64, f64)> {
    (0..=60)
        .map(|n| 1.0 - 10_f64.powf(-f64::from(n) / 10.0))
        .filter_map(|q| match sample.shown(q) {
            Quantile::At(ns) => Some((q, (ns as f64).max(1.0))),
            Quantile::Never | Quantile::BelowZero | Quantile::TooFew | Quantile::Empty => None,
        })
        .collect()
}

fn nines(view: &View, rows: &[Shown], id: &str, name: &str, of: for<'r> fn(&'r Shown) -> &'r Operation) -> Markup {
    let mut lines = Vec::new();
    for r in rows {
        for (sample, dashed, what) in [(&of(r).response, false, "response"), (&of(r).service, true, "service")] {
            let points = curve(sample);
            // A mark at p90, p99, p99.9 …, so that rows are told apart by shape too.
            let mark = |(n, &(x, y)): (usize, &(f64, f64))| {
                let marked = !dashed && n % 10 == 0 && n > 0;
                let read =
                    || format!("{}, {} {what}: {}", r.label(), figures::quantile_name(x), figures::duration_f64(y));
                Mark { x, y, title: if marked { read() } else { String::new() }, hollow: false }
            };
            lines.push(Line {
                ident: r.ident,
                title: format!("{}: {name} {what} time", r.label()),
                dashed,
                joined: true,
                marks: points.iter().enumerate().map(mark).collect(),
            });
        }
    }
    let all = || lines.iter().flat_map(|l| &l.marks);
    let largest = all().map(|m| m.x).fold(0.9, f64::max);
    let plot = Plot {
        id: view.id(&format!("nines-{id}")),
        title: format!("{name} time by quantile"),
        description: "Response time solid and service time dashed, against quantiles spaced by their nines; the figures are in the table."
            .to_owned(),
        x: Axis::nines(largest),
        y: Axis::log(all().map(|m| m.y), figures::duration_f64),
        x_title: String::new(),
        lines,
        bars: Vec::new(),
        rules: Vec::new(),
        bands: Vec::new(),
    };
    figure(&plot, "log of nines")
}

fn table(view: &View, rows: &[Shown]) -> Markup {
    let mut table = Table::new(
        "Quantiles",
        "all visits merged; shown where at least 10 samples lie beyond",
        &["Row", "Time", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "Samples", "Unfinished", "Below zero"],
    );
    for r in rows {
        let row = &r.judged.row;
        let all = [
            ("publish response", &row.publish.response),
            ("publish service", &row.publish.service),
            ("publish blocked", &row.publish.blocked),
            ("publish late", &row.publish.late),
            ("end-to-end response", &row.end_to_end.response),
            ("end-to-end service", &row.end_to_end.service),
            ("settle response", &row.settle.response),
        ];
        for (name, sample) in all.into_iter().filter(|(_, sample)| sample.total() > 0) {
            let mut cells = vec![Cell::Words(name.to_owned())];
            cells.extend(QUANTILES.iter().map(|&q| Cell::Figure(sample.shown(q).text(row.followed()))));
            let (negative, lowest) = sample.negative();
            cells.push(Cell::Figure(figures::count(sample.total())));
            cells.push(Cell::Figure(figures::count(sample.unfinished())));
            cells.push(Cell::Figure(match negative {
                0 => "0".to_owned(),
                n => format!("{} (lowest {})", figures::count(n), figures::duration_f64(lowest as f64)),
            }));
            table.row(r.label(), r.is_control(), cells);
        }
    }
    table.markup(view)
}
