//! *How far does each go?* Achieved rate and p99 response time against offered load, up to saturation.
//!
//! Leaves out who wins: a staircase never decides more than a class.

use maud::{Markup, html};

use super::parts::{Cell, Panel, Shown, Table, View, figure, legend};
use crate::chart::{Axis, Line, Mark, Plot, Rule};
use crate::figures::{self, and_list};
use crate::rows::Stair;
use crate::sample::Shown as Quantile;

pub(super) fn panel(view: &View) -> Option<Panel> {
    let rows: Vec<Shown> = view.rows().into_iter().filter(|r| !r.judged.row.stairs.is_empty()).collect();
    if rows.is_empty() {
        return None;
    }
    let body = html! {
        (legend(&rows))
        div.charts { (achieved(view, &rows)) (response(view, &rows)) }
        (headroom(view, &rows))
        (steps(view, &rows))
    };
    Some(Panel { id: "reach", question: "How far does each go?", sentence: sentence(view), body })
}

fn sentence(view: &View) -> String {
    if let Some(text) = view.not_judged() {
        return text;
    }
    let rate = view.first().file.profile.rate_per_s;
    let texts: Vec<String> = view
        .candidates()
        .iter()
        .filter_map(|r| r.judged.headroom.as_ref().map(|h| format!("{} {}", r.label(), h.text())))
        .collect();
    let ceiling = view.first().ceiling_per_s.map_or_else(String::new, |rate| {
        format!(" The harness itself reached {}; what comes near that is a floor.", figures::rate(rate))
    });
    format!("In multiples of the profile's {}: {}.{ceiling}", figures::trimmed(&figures::rate(rate)), and_list(&texts))
}

fn title(r: &Shown, stair: &Stair) -> String {
    let state = if stair.sustained {
        "carried"
    } else if stair.validity.saturated.is_some() {
        "saturated"
    } else {
        "objective missed"
    };
    format!(
        "{}: offered {}, achieved {}, p99 {} ({state})",
        r.label(),
        figures::rate(stair.offered_per_s),
        figures::rate(stair.achieved_per_s),
        stair.p99_text()
    )
}

fn lines(rows: &[Shown], y: fn(&Stair) -> Option<f64>) -> Vec<Line> {
    rows.iter()
        .map(|r| Line {
            ident: r.ident,
            title: r.label().to_owned(),
            dashed: false,
            joined: true,
            marks: r
                .judged
                .row
                .stairs
                .iter()
                .filter_map(|s| y(s).map(|y| Mark { x: s.offered_per_s, y, title: title(r, s), hollow: !s.sustained }))
                .collect(),
        })
        .collect()
}

fn offered<'r>(rows: &'r [Shown<'_, '_>]) -> impl Iterator<Item = f64> + 'r {
    rows.iter().flat_map(|r| r.judged.row.stairs.iter().map(|s| s.offered_per_s))
}

fn rate_rule(view: &View) -> Rule {
    Rule { upright: true, at: view.first().file.profile.rate_per_s, label: "your load".to_owned() }
}

fn achieved(view: &View, rows: &[Shown]) -> Markup {
    let rate = view.first().file.profile.rate_per_s;
    let reached = rows.iter().flat_map(|r| r.judged.row.stairs.iter().map(|s| s.achieved_per_s));
    let plot = Plot {
        id: view.id("achieved"),
        title: "Achieved rate".to_owned(),
        description:
            "Messages acknowledged per second against messages offered per second; the figures are in the table."
                .to_owned(),
        x: Axis::log(offered(rows).chain([rate]), figures::rate),
        y: Axis::log(reached.chain([rate]), figures::rate),
        x_title: "offered".to_owned(),
        lines: lines(rows, |s| Some(s.achieved_per_s)),
        bars: Vec::new(),
        rules: vec![rate_rule(view)],
        bands: Vec::new(),
    };
    figure(&plot, "against offered rate; hollow marks were not carried")
}

fn response(view: &View, rows: &[Shown]) -> Markup {
    let known = |s: &Stair| match s.p99 {
        Quantile::At(ns) => Some(ns as f64),
        Quantile::Never | Quantile::BelowZero | Quantile::TooFew | Quantile::Empty => None,
    };
    let limit = view.objectives().end_to_end_p99_max_ns().map(|ns| ns as f64);
    let values = rows.iter().flat_map(|r| r.judged.row.stairs.iter().filter_map(known)).chain(limit);
    let mut rules = vec![rate_rule(view)];
    rules.extend(limit.map(|at| Rule {
        upright: false,
        at,
        label: format!("objective {}", figures::trimmed(&figures::duration_f64(at))),
    }));
    let plot = Plot {
        id: view.id("reach-response"),
        title: "End-to-end response p99".to_owned(),
        description: "End-to-end response time at the 99 % quantile against messages offered per second; the figures are in the table."
            .to_owned(),
        x: Axis::log(offered(rows).chain([view.first().file.profile.rate_per_s]), figures::rate),
        y: Axis::log(values, figures::duration_f64),
        x_title: "offered".to_owned(),
        lines: lines(rows, |s| match s.p99 {
            Quantile::At(ns) => Some(ns as f64),
            Quantile::Never | Quantile::BelowZero | Quantile::TooFew | Quantile::Empty => None,
        }),
        bars: Vec::new(),
        bands: Vec::new(),
        rules,
    };
    figure(&plot, "against offered rate")
}

fn headroom(view: &View, rows: &[Shown]) -> Markup {
    let mut table = Table::new(
        "Headroom",
        "multiples of the profile's rate",
        &["Row", "Class", "Carried", "Best achieved", "What held it"],
    );
    for r in rows {
        let Some(h) = &r.judged.headroom else { continue };
        table.row(
            r.label(),
            r.is_control(),
            vec![
                Cell::Figure(h.class.name().to_owned()),
                Cell::Figure(if h.factor < 1.0 { "less than once".to_owned() } else { figures::factor(h.factor) }),
                Cell::Figure(figures::rate(h.best_per_s)),
                Cell::Words(h.held_by.clone()),
            ],
        );
    }
    table.markup(view)
}

fn steps(view: &View, rows: &[Shown]) -> Markup {
    let mut table = Table::new(
        "Staircases",
        "one step a line",
        &["Row", "Load", "Offered", "Achieved", "Backlog at end", "End-to-end p99", "Outcome"],
    );
    for r in rows {
        for s in &r.judged.row.stairs {
            let (p99, outcome) = match (&s.validity.saturated, s.sustained) {
                (Some(saturated), _) => ("saturated".to_owned(), Cell::No(saturated.reason.clone())),
                (None, true) => (s.p99_text(), Cell::Yes("carried".to_owned())),
                (None, false) => (
                    s.p99_text(),
                    Cell::No(if s.missed.is_empty() { "contract broken".to_owned() } else { and_list(&s.missed) }),
                ),
            };
            table.row(
                r.label(),
                r.is_control(),
                vec![
                    Cell::Figure(figures::factor(s.factor)),
                    Cell::Figure(figures::rate(s.offered_per_s)),
                    Cell::Figure(figures::rate(s.achieved_per_s)),
                    Cell::Figure(figures::count(s.cell.counts.backlog_end)),
                    Cell::Figure(p99),
                    outcome,
                ],
            );
        }
    }
    table.markup(view)
}
