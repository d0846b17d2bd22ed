//! *How far does each go?*, of a search: the load–response curve of its probes, the answers, and every probe.
//!
//! Leaves out the search itself and who wins: a higher capacity decides nothing here.

use maud::{Markup, html};

use super::meets::notes;
use super::parts::{Cell, Panel, Shown, Table, View, figure, legend};
use crate::apart::short_names;
use crate::capacity::{Answer, passed, probes};
use crate::chart::{Axis, Line, Mark, Plot, Rule};
use crate::compare::median;
use crate::figures;
use crate::rows::Stair;
use crate::sample::Shown as Quantile;

pub(super) fn panel(view: &View) -> Option<Panel> {
    let rows: Vec<Shown> = view.rows().into_iter().filter(|r| probes(&r.judged.row).next().is_some()).collect();
    if rows.is_empty() {
        return None;
    }
    let body = html! {
        (legend(&rows))
        div.charts { (response(view, &rows)) (achieved(view, &rows)) }
        (answers(view, &rows))
        (every_probe(view, &rows))
        (notes(view))
    };
    Some(Panel { id: "capacity", question: "How far does each go?", sentence: sentence(view), body })
}

fn sentence(view: &View) -> String {
    if let Some(text) = view.not_judged() {
        return text;
    }
    let precision = view.first().file.search.map_or(0.0, |limits| limits.precision);
    format!(
        "{} A rate passes when two of three probes meet the objectives, keep the contract and are not saturated; the search ends within \
         {} of the edge.",
        view.first().conclusion.headline,
        figures::percent(precision).replace(".0 %", " %")
    )
}

/// The row's answer; its labels are the same.
fn answer<'v>(r: &Shown<'v, '_>) -> Option<&'v Answer> {
    r.analysis.answers.iter().find(|answer| answer.row == r.judged.row.label)
}

fn known_ns(probe: &Stair) -> Option<f64> {
    match probe.p99 {
        Quantile::At(ns) => Some(ns as f64),
        Quantile::Never | Quantile::BelowZero | Quantile::TooFew | Quantile::Empty => None,
    }
}

fn title(r: &Shown, rate_per_s: f64, probe: &Stair) -> String {
    let state = probe.why_not().unwrap_or_else(|| "passed".to_owned());
    format!("{} at {}: achieved {}, {state}", r.label(), figures::rate(rate_per_s), figures::rate(probe.achieved_per_s))
}

/// A mark for each probe, and a line through the medians of each rate.
fn lines(rows: &[Shown], y: fn(&Stair) -> Option<f64>) -> Vec<Line> {
    let mut lines = Vec::new();
    for r in rows {
        let known: Vec<(f64, f64, &Stair)> =
            probes(&r.judged.row).filter_map(|(rate, probe)| y(probe).map(|y| (rate, y, probe))).collect();
        let mut rates: Vec<f64> = known.iter().map(|(rate, ..)| *rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let middles = rates.into_iter().filter_map(|x| {
            let of_rate: Vec<f64> =
                known.iter().filter(|(rate, ..)| (rate - x).abs() < f64::EPSILON * x).map(|(_, y, _)| *y).collect();
            median(&of_rate).map(|y| Mark { x, y, title: String::new(), hollow: false })
        });
        let line = |joined, marks| Line { ident: r.ident, title: r.label().to_owned(), dashed: false, joined, marks };
        lines.push(line(true, middles.collect()));
        let marks = known.iter().map(|&(x, y, probe)| {
            let hollow = passed(probe) != Some(true);
            Mark { x, y, title: title(r, x, probe), hollow }
        });
        lines.push(line(false, marks.collect()));
    }
    lines
}

fn rates(view: &View, rows: &[Shown]) -> Axis {
    let tried = rows.iter().flat_map(|r| probes(&r.judged.row).map(|(rate, _)| rate));
    Axis::log(tried.chain([view.first().file.profile.rate_per_s]), figures::rate)
}

fn load(view: &View) -> Rule {
    Rule { upright: true, at: view.first().file.profile.rate_per_s, label: "your load".to_owned() }
}

fn response(view: &View, rows: &[Shown]) -> Markup {
    let limit = view.objectives().end_to_end_p99_max_ns().map(|ns| ns as f64);
    let seen = rows.iter().flat_map(|r| probes(&r.judged.row).filter_map(|(_, probe)| known_ns(probe)));
    let mut rules = vec![load(view)];
    rules.extend(limit.map(|at| Rule {
        upright: false,
        at,
        label: format!("objective {}", figures::trimmed(&figures::duration_f64(at))),
    }));
    let plot = Plot {
        id: view.id("load-response"),
        title: "End-to-end response p99".to_owned(),
        description: "End-to-end response time at the 99 % quantile against messages offered per second, a mark for each probe; the \
                      figures are in the table."
            .to_owned(),
        x: rates(view, rows),
        y: Axis::log(seen.chain(limit), figures::duration_f64),
        x_title: "offered".to_owned(),
        bands: Vec::new(),
        lines: lines(rows, known_ns),
        bars: Vec::new(),
        rules,
    };
    figure(&plot, "a mark each probe, a line through the medians; hollow marks failed")
}

fn achieved(view: &View, rows: &[Shown]) -> Markup {
    let seen = rows.iter().flat_map(|r| probes(&r.judged.row).map(|(_, probe)| probe.achieved_per_s));
    let plot = Plot {
        id: view.id("load-achieved"),
        title: "Achieved rate".to_owned(),
        description: "Messages acknowledged per second against messages offered per second, a mark for each probe; the figures are in \
                      the table."
            .to_owned(),
        x: rates(view, rows),
        y: Axis::log(seen.chain([view.first().file.profile.rate_per_s]), figures::rate),
        x_title: "offered".to_owned(),
        bands: Vec::new(),
        lines: lines(rows, |probe| Some(probe.achieved_per_s)),
        bars: Vec::new(),
        rules: vec![load(view)],
    };
    figure(&plot, "against offered rate")
}

fn answers(view: &View, rows: &[Shown]) -> Markup {
    let soaked = rows.iter().filter_map(answer).any(|answer| answer.soak.is_some());
    let mut head = vec!["Row", "Highest rate", "Interval", "× profile", "Probes", "Disturbed", "Held by", "Besides"];
    if soaked {
        head.push("Soak");
    }
    let mut table = Table::new(
        "Highest rate that passed",
        "the interval runs from the highest rate that passed in every probe to the lowest that failed in every probe",
        &head,
    );
    for r in rows {
        let Some(answer) = answer(r) else { continue };
        let caveats = answer.caveats().join("; ");
        let mut cells = vec![
            Cell::Figure(answer.text()),
            Cell::Figure(answer.interval()),
            Cell::Figure(answer.factor.map_or_else(|| "–".to_owned(), figures::factor)),
            Cell::Figure(answer.probes.to_string()),
            Cell::Figure(answer.probes_not_valid.to_string()),
            Cell::Words(answer.held_by.clone()),
            Cell::Words(if caveats.is_empty() { "–".to_owned() } else { caveats }),
        ];
        if soaked {
            cells.push(match &answer.soak {
                None => Cell::Open("none".to_owned()),
                Some(soak) if soak.held == Some(true) => Cell::Yes(soak.length_and_rate()),
                Some(soak) => Cell::No(soak.length_and_rate()),
            });
        }
        table.row(r.label(), r.is_control(), cells);
    }
    table.markup(view)
}

fn every_probe(view: &View, rows: &[Shown]) -> Markup {
    let mut table = Table::new(
        "Probes",
        "by rate, in the order in which they were made",
        &["Row", "Rate", "Achieved", "Backlog at end", "End-to-end p99", "Valid", "Outcome"],
    );
    for r in rows {
        let mut all: Vec<(f64, &Stair)> = probes(&r.judged.row).collect();
        all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        for (rate_per_s, probe) in all {
            let saturated = probe.validity.saturated.is_some();
            let p99 = if saturated { "saturated".to_owned() } else { probe.p99_text() };
            let missed = probe.missed_checks();
            let cells = vec![
                Cell::Figure(figures::rate(rate_per_s)),
                Cell::Figure(figures::rate(probe.achieved_per_s)),
                Cell::Figure(figures::count(probe.cell.counts.backlog_end)),
                Cell::Figure(p99),
                if missed.is_empty() { Cell::Yes("yes".to_owned()) } else { Cell::Open(short_names(&missed)) },
                match probe.why_not() {
                    None => Cell::Yes("passed".to_owned()),
                    Some(why) => Cell::No(why),
                },
            ];
            table.row(r.label(), r.is_control(), cells);
        }
    }
    table.markup(view)
}
