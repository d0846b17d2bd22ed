//! *Can I trust this run?* Every check over all visits, and what two identical rows showed.
//!
//! Leaves out the thresholds, which are `workloads::validity`'s.

use maud::{Markup, html};

use super::parts::{Cell, Panel, Shown, Table, View, figure, legend};
use crate::apart;
use crate::chart::{Axis, Line, Mark, Plot};
use crate::figures;
use crate::reasons::{COMPLETE, excess, why_not_valid};
use crate::rows::{Role, Stair};
use crate::verdict::Analysis;

/// One check over all rows that count.
struct Light {
    name: String,
    passed: usize,
    of: usize,
    /// What was found where it failed, or where it is only told.
    detail: String,
    advice: String,
    /// What is counted: rows, or cells that stand apart.
    unit: &'static str,
    /// By how much the worst failing row failed.
    excess: f64,
    /// Whether it stays red whatever the rows say.
    red: bool,
}

/// Checks of the rows whose validity counts: in a comparison saturated rows are judged as saturated, the ceiling by nobody.
fn lights(a: &Analysis) -> Vec<Light> {
    let mut lights: Vec<Light> = Vec::new();
    for j in a.rows.iter().filter(|j| a.checks_count(&j.row)) {
        for check in j.row.checks() {
            let at = lights.iter().position(|l| l.name == check.name).unwrap_or_else(|| {
                let detail = format!("allowed {}", check.limit);
                lights.push(Light::new(&check.name, detail));
                lights.len() - 1
            });
            let light = &mut lights[at];
            light.of += 1;
            light.passed += usize::from(check.ok);
            let by = excess(&j.row.evidence, &check.name);
            if !check.ok && (light.advice.is_empty() || by > light.excess) {
                light.excess = by;
                light.detail = format!("{}: {}, allowed {}", j.row.label, check.found, check.limit);
                light.advice.clone_from(&check.advice);
            } else if check.limit == "printed" || check.found == check.limit && light.advice.is_empty() {
                light.detail.clone_from(&check.found);
            }
        }
    }
    for stair in a.candidates().flat_map(|j| &j.row.apart) {
        add_cell(&mut lights, stair);
    }
    if let Some(why) = &a.file.cut_short {
        let at = lights.iter().position(|l| l.name == COMPLETE).unwrap_or_else(|| {
            lights.insert(0, Light::new(COMPLETE, String::new()));
            0
        });
        lights[at].detail = format!("cut short: {why}");
        "let it run to its end".clone_into(&mut lights[at].advice);
        lights[at].red = true;
    }
    lights
}

/// Counts the checks of a cell that stands apart; what it misses is told of the first such cell.
fn add_cell(lights: &mut Vec<Light>, stair: &Stair) {
    let missed = stair.missed_checks();
    for check in &stair.validity.checks {
        let at = lights.iter().position(|l| l.name == check.name).unwrap_or_else(|| {
            let detail = format!("allowed {}", check.limit);
            lights.push(Light { unit: "cell", ..Light::new(&check.name, detail) });
            lights.len() - 1
        });
        let light = &mut lights[at];
        light.of += 1;
        let ok = !missed.contains(&check.name.as_str());
        light.passed += usize::from(ok);
        if !ok && light.advice.is_empty() {
            light.detail = format!("{}: {}, allowed {}", stair.cell.row, check.found, check.limit);
            light.advice.clone_from(&check.advice);
        } else if light.advice.is_empty() && (check.limit == "printed" || check.found == check.limit) {
            light.detail.clone_from(&check.found);
        }
    }
}

impl Light {
    fn new(name: &str, detail: String) -> Self {
        let name = name.to_owned();
        Self { name, passed: 0, of: 0, detail, advice: String::new(), unit: "row", excess: 0.0, red: false }
    }

    /// `complete` is a state; as a heading it is said as what happened.
    fn heading(&self) -> &str {
        if self.name == COMPLETE { "ran to its end" } else { &self.name }
    }

    fn text(&self) -> String {
        let rows = if self.of > 1 && !self.red {
            format!("{} of {} {}s", self.passed, self.of, self.unit)
        } else {
            String::new()
        };
        let detail = if self.name == COMPLETE && !self.red && self.passed == self.of { "" } else { &self.detail };
        match (rows.is_empty(), detail.is_empty()) {
            (true, true) => "yes".to_owned(),
            (true, false) => detail.to_owned(),
            (false, true) => rows,
            (false, false) => format!("{rows}; {detail}"),
        }
    }
}

pub(super) fn panel(view: &View) -> Panel {
    let sentence = view.analyses.iter().map(|a| sentence(a)).collect::<Vec<_>>().join(" ");
    let body = html! {
        @for a in &view.analyses {
            @if view.analyses.len() > 1 { h3 { (a.file.profile.name) ", " (figures::utc(a.file.started_utc_ns)) } }
            ul.lights { @for light in lights(a) { (light_markup(&light)) } }
        }
        @if view.analyses.iter().any(|a| !a.stands_apart()) {
            (control(view))
            (table(view))
        }
    };
    Panel { id: "trust", question: "Can I trust this run?", sentence, body }
}

fn light_markup(light: &Light) -> Markup {
    let all = light.passed == light.of && !light.red;
    html! {
        li {
            b class=(if all { "ok" } else { "no" }) { (light.heading()) }
            span {
                (light.text())
                @if !light.advice.is_empty() { ". To do: " (light.advice) "." }
            }
        }
    }
}

/// Whether the run can be believed, in a sentence or two.
pub(crate) fn sentence(a: &Analysis) -> String {
    if a.stands_apart() {
        return apart::trust_sentence(a);
    }
    let believed = believed(a);
    match (a.saturated_run(), believed.split_at_checked(1)) {
        (Some(_), Some((first, rest))) => format!("Saturated; validity: {}{rest}", first.to_lowercase()),
        (Some(_) | None, _) => believed,
    }
}

fn believed(a: &Analysis) -> String {
    if !a.valid() {
        return format!("No: {}. The figures below are shown, and nothing is concluded from them.", why_not_valid(a));
    }
    let counted = || a.rows.iter().map(|j| &j.row).filter(|row| a.checks_count(row));
    let (disturbed, visits) = counted().fold((0, 0), |(d, n), row| (d + row.visits_disturbed(), n + row.visits.len()));
    let exempt = if a.saturated_run().is_some() {
        " (without those of quantiles, as none is shown)".to_owned()
    } else if disturbed > 0 {
        format!(" in every row ({disturbed} of {visits} visits taken alone miss one)")
    } else if a.is_comparison() {
        " in every visit".to_owned()
    } else {
        String::new()
    };
    let checks = format!("Yes: every check passed{exempt}");
    match &a.control {
        None => format!("{checks}."),
        Some(c) if c.disagrees => format!(
            "{checks}; but two identical rows differed by {} in every round, so differences in response time mean nothing here.",
            figures::factor(c.median_ratio.max(1.0 / c.median_ratio))
        ),
        Some(c) => format!(
            "{checks}, and two identical rows differed by {} at most, so differences up to that mean nothing.",
            figures::factor(c.largest_ratio)
        ),
    }
}

/// The two identical rows, round by round.
fn control(view: &View) -> Markup {
    let rows = view.rows();
    let pairs: Vec<Shown> = rows
        .iter()
        .copied()
        .filter(|r| {
            rows.iter().any(|again| {
                again.judged.row.role == Role::Again
                    && std::ptr::eq(again.analysis, r.analysis)
                    && again.judged.row.same_as(&r.judged.row)
            })
        })
        .collect();
    if pairs.is_empty() {
        return html! {};
    }
    let values = pairs.iter().flat_map(|r| r.judged.row.figures()).map(|f| f.ns);
    let rounds = pairs.iter().flat_map(|r| r.judged.row.visits.iter().map(|v| v.round)).max().unwrap_or(0);
    let names: Vec<String> = (1..=rounds + 1).map(|n| n.to_string()).collect();
    let lines = pairs
        .iter()
        .map(|r| Line {
            ident: r.ident,
            title: r.label().to_owned(),
            dashed: false,
            joined: true,
            marks: r
                .judged
                .row
                .figures()
                .iter()
                .filter(|f| f.ns.is_finite())
                .map(|f| Mark {
                    x: f64::from(f.round),
                    y: f.ns,
                    title: format!("{}, round {}: {}", r.label(), f.round + 1, figures::duration_f64(f.ns)),
                    hollow: false,
                })
                .collect(),
        })
        .collect();
    let plot = Plot {
        id: view.id("control"),
        title: "Two identical rows".to_owned(),
        description:
            "End-to-end response p99 of the same backend visited twice in each round; the figures are in the table."
                .to_owned(),
        x: Axis::places(&names),
        y: Axis::log(values, figures::duration_f64),
        x_title: "round".to_owned(),
        lines,
        bars: Vec::new(),
        rules: Vec::new(),
        bands: Vec::new(),
    };
    html! { (legend(&pairs)) div.charts { (figure(&plot, "end-to-end response p99 by round")) } }
}

fn table(view: &View) -> Markup {
    let mut table = Table::new(
        "Fitness by row",
        "all visits of a row are judged together; the figures after them are the worst visit's",
        &[
            "Row",
            "Valid",
            "Undisturbed visits",
            "Late p99.9, together",
            "Late p99.9",
            "Steal",
            "Other processes",
            "Harness per message",
            "Dirty at start",
        ],
    );
    for r in view.rows() {
        let row = &r.judged.row;
        let worst = |get: &dyn Fn(&brokerlab_workloads::measurement::FitnessRecord) -> Option<f64>| {
            row.visits.iter().filter_map(|v| get(&v.cell.fitness)).max_by(f64::total_cmp)
        };
        let told = |value: Option<f64>, text: &dyn Fn(f64) -> String| value.map_or_else(|| "not told".to_owned(), text);
        let undisturbed = format!("{} of {}", row.visits.len() - row.visits_disturbed(), row.visits.len());
        let together = figures::duration(row.evidence.late_p999_ns);
        let cells = vec![
            if row.valid() { Cell::Yes("yes".to_owned()) } else { Cell::No("no".to_owned()) },
            Cell::Figure(undisturbed),
            Cell::Figure(together),
            Cell::Figure(told(worst(&|f| Some(f.late_p999_ns as f64)), &figures::duration_f64)),
            Cell::Figure(told(worst(&|f| f.steal_share), &figures::percent)),
            Cell::Figure(told(worst(&|f| f.other_processes_cores), &|c| format!("{:.1} % of a core", c * 100.0))),
            Cell::Figure(told(worst(&|f| Some(f.harness_ns_per_message)), &figures::duration_f64)),
            Cell::Figure(told(worst(&|f| f.dirty_bytes_at_start.map(|b| b as f64)), &figures::bytes)),
        ];
        table.row(r.label(), r.is_control(), cells);
    }
    table.markup(view)
}
