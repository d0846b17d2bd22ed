//! *Is it stable?* Rates, backlog and response over the time of a visit.
//!
//! Leaves out single visits: those of a row are laid over each other.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::outages;
use super::parts::{Cell, Panel, Shown, Table, View, figure, legend};
use crate::chart::{Axis, Line, Mark, Plot, Rule};
use crate::figures;
use crate::rows::Tick;
use crate::sample::Shown as Quantile;

/// Lines of the table for one row, at most.
const MOMENTS: usize = 12;

pub(super) fn panel(view: &View) -> Option<Panel> {
    let rows: Vec<Shown> = view.without_again().into_iter().filter(|r| !r.judged.row.timeline.is_empty()).collect();
    if rows.is_empty() {
        return None;
    }
    let body = html! {
        (legend(&rows))
        div.charts {
            (chart(view, &rows, "rates", "Acknowledged rate", "mean over visits", figures::rate, |t| Some(t.acknowledged_per_s)))
            (chart(view, &rows, "backlog", "Backlog", "due and not acknowledged, largest of any visit", messages, |t| Some(t.backlog as f64)))
            (chart(view, &rows, "over-time", "End-to-end response p99", "by the moment a message was due", figures::duration_f64, p99))
            (chart(view, &rows, "delivered", "Delivered rate", "mean over visits", figures::rate, |t| Some(t.delivered_per_s)))
        }
        (outages::table(view, &rows))
        (table(view, &rows))
    };
    Some(Panel { id: "stable", question: "Is it stable?", sentence: sentence(view, &rows), body })
}

fn messages(n: f64) -> String {
    if n < 10_000.0 { figures::count(n as u64) } else { figures::trimmed(&figures::rate(n)).replace("/s", "") }
}

fn p99(tick: &Tick) -> Option<f64> {
    match tick.response.shown(0.99) {
        Quantile::At(ns) => Some(ns as f64),
        Quantile::Never | Quantile::BelowZero | Quantile::TooFew | Quantile::Empty => None,
    }
}

fn sentence(view: &View, rows: &[Shown]) -> String {
    if let Some(text) = view.not_judged() {
        return text;
    }
    // A run of the harness's own ceiling has no other row to speak of.
    let alone = rows.iter().all(Shown::is_control);
    let (told, left_out): (Vec<&Shown>, Vec<&Shown>) = rows.iter().partition(|r| alone || !r.is_control());
    let saturated: Vec<String> = told
        .iter()
        .filter(|r| r.judged.row.saturated())
        .map(|r| match r.judged.row.why_saturated() {
            Some(why) => format!("{} ({why})", r.label()),
            None => r.label().to_owned(),
        })
        .collect();
    let largest = told.iter().filter(|r| !r.judged.row.saturated()).max_by_key(|r| r.judged.row.counts.backlog_max);
    let mut text = match saturated.as_slice() {
        [] if told.iter().any(|r| outage_of(r)) => {
            "Beside its outages, yes: no backlog grew over the last half of a visit.".to_owned()
        }
        [] => "Yes: no backlog grew over the last half of a visit.".to_owned(),
        names => format!("No: {} could not take what was offered.", figures::and_list(names)),
    };
    if let Some(r) = largest {
        let most = r.judged.row.counts.backlog_max;
        let rate = r.judged.row.offered_per_s().max(1.0);
        let _ = write!(
            text,
            " The largest backlog was {} ({}), {} of load.",
            figures::plural(most, "message"),
            r.label(),
            figures::duration_f64(most as f64 / rate * 1e9)
        );
    }
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(|r| r.label().to_owned()).collect();
        let _ = write!(text, " Left out of this sentence, as a control: {}.", figures::and_list(&names));
    }
    text
}

fn outage_of(row: &Shown) -> bool {
    row.judged.row.visits.iter().any(|visit| !visit.cell.outages.is_empty())
}

fn seconds(s: f64) -> String {
    format!("{s:.2} s")
}

fn chart(
    view: &View,
    rows: &[Shown],
    id: &str,
    title: &str,
    aside: &str,
    name: fn(f64) -> String,
    value: fn(&Tick) -> Option<f64>,
) -> Markup {
    let lines: Vec<Line> = rows
        .iter()
        .map(|r| Line {
            ident: r.ident,
            title: r.label().to_owned(),
            dashed: false,
            joined: true,
            marks: r
                .judged
                .row
                .timeline
                .iter()
                .filter_map(|tick| value(tick).map(|y| (tick.at_ns as f64 / 1e9, y)))
                .map(|(x, y)| Mark { x, y, title: mark_title(rows, r, x, &name(y)), hollow: false })
                .collect(),
        })
        .collect();
    let all = || lines.iter().flat_map(|l| &l.marks);
    if all().next().is_none() {
        return html! { figure { figcaption { (title) " " span { "not drawn: no interval has messages enough" } } } };
    }
    let rules = if all().any(|m| m.x < 0.0) {
        vec![Rule { upright: true, at: 0.0, label: "window".to_owned() }]
    } else {
        Vec::new()
    };
    let y =
        if id == "over-time" { Axis::log(all().map(|m| m.y), name) } else { Axis::linear(all().map(|m| m.y), name) };
    let plot = Plot {
        id: view.id(id),
        title: title.to_owned(),
        description: format!("{title} over the time of a visit, {aside}; the figures are in the table."),
        x: Axis::linear(all().map(|m| m.x), seconds),
        y,
        x_title: "time since the warm-up".to_owned(),
        lines,
        bars: Vec::new(),
        rules,
        bands: outages::bands(rows),
    };
    figure(&plot, aside)
}

/// Marks of their own only where they would not crowd.
fn mark_title(rows: &[Shown], r: &Shown, at: f64, value: &str) -> String {
    let moments = rows.iter().map(|r| r.judged.row.timeline.len()).max().unwrap_or(0);
    if moments > 24 { String::new() } else { format!("{} at {}: {value}", r.label(), seconds(at)) }
}

fn table(view: &View, rows: &[Shown]) -> Markup {
    let longest = rows.iter().map(|r| r.judged.row.timeline.len()).max().unwrap_or(0);
    let every = longest.div_ceil(MOMENTS).max(1);
    let aside = if every == 1 { String::new() } else { format!("one interval in {every}; all are in the result file") };
    let went_on = rows.iter().any(|r| outage_of(r));
    let mut head = vec!["Row", "Time", "Acknowledged", "Delivered", "Backlog", "End-to-end p99"];
    head.extend(went_on.then_some("Meanwhile"));
    let mut table = Table::new("Over time", &aside, &head);
    for r in rows {
        for tick in r.judged.row.timeline.iter().step_by(every) {
            let limit = r.judged.row.followed();
            let at = tick.at_ns as f64 / 1e9;
            let mut cells = vec![
                Cell::Figure(seconds(at)),
                Cell::Figure(figures::rate(tick.acknowledged_per_s)),
                Cell::Figure(figures::rate(tick.delivered_per_s)),
                Cell::Figure(figures::count(tick.backlog)),
                Cell::Figure(tick.response.shown(0.99).text(limit)),
            ];
            cells.extend(went_on.then(|| Cell::Words(outages::at(r, at))));
            table.row(r.label(), r.is_control(), cells);
        }
    }
    table.markup(view)
}
