//! The verdict in words: one headline, a reason for each step of the order, and the assumptions that would change it.
//!
//! Leaves out the deciding itself, which is in `verdict`.

use brokerlab_model::{Availability, Contract, Delivery, Order, Storage};
use brokerlab_workloads::validity::Evidence;

use crate::apart;
use crate::compare::Outcome;
use crate::figures::{self, and_list};
use crate::given_up;
use crate::headroom::Class;
use crate::live::{self, Strength};
use crate::outages;
use crate::result::{Command, LadderRow};
use crate::rows::Role;
use crate::verdict::{Analysis, Conclusion, DECIDING_SHARE, Decision, ExitInputs, Judged, Step};

/// The subject under which a run that is not valid says why.
pub(crate) const WHY_NOT_VALID: &str = "Why not valid";

/// What stands in place of a conclusion on a run that can't be believed.
pub(crate) const NOT_JUDGED: &str = "Not judged: the run is not valid.";

/// Everything that is concluded from an analysis.
pub(crate) fn conclusion(a: &Analysis) -> Conclusion {
    let (decision, headline) = match a.file.command {
        Command::Compare => compared(a),
        Command::Run => single(a),
        Command::Capacity | Command::Sweep => apart::decided(a),
    };
    let headline = std::iter::once(headline).chain(given_up::sentences(a)).collect::<Vec<_>>().join(" ");
    Conclusion {
        valid: a.valid(),
        headline,
        reasons: if a.stands_apart() { apart::reasons(a) } else { reasons(a) },
        flips: flips(a, &decision),
        caveat: live::caveat(a),
        exit: exit_inputs(a),
        decision,
    }
}

fn labels(rows: &[&Judged]) -> Vec<String> {
    rows.iter().map(|j| j.row.label.clone()).collect()
}

fn single(a: &Analysis) -> (Decision, String) {
    let Some(j) = a.rows.first() else { return (Decision::NotValid, "Nothing was measured.".to_owned()) };
    let label = &j.row.label;
    // A broker that is gone is the news, whatever else was going on before.
    if let Some(text) = outages::not_back(j).filter(|_| j.row.kept()) {
        return (Decision::Single { met: false }, text);
    }
    if let Some(visit) = j.row.visits.iter().find(|v| v.validity.saturated.is_some()) {
        let figures = format!(
            "asked {}, achieved {}, {} in the backlog at the end",
            figures::rate(visit.offered_per_s),
            figures::rate(visit.achieved_per_s),
            figures::plural(visit.cell.counts.backlog_end, "message"),
        );
        let why = match j.row.limited_by_setting() {
            Some(setting) => format!("{setting} ({figures})"),
            None => j.row.consumers_behind().unwrap_or(figures),
        };
        let besides = if a.valid() { "" } else { "; nor is the run valid" };
        return (Decision::Single { met: false }, format!("{label} is saturated: {why}{besides}."));
    }
    if !j.row.kept() {
        return (
            Decision::Single { met: false },
            format!("{label} broke its contract: {}.", and_list(&j.row.broken())),
        );
    }
    if !a.valid() {
        return (Decision::NotValid, format!("{label} was measured, but the run is not valid."));
    }
    if j.row.role == Role::Ceiling {
        let rate = figures::rate(j.row.achieved_per_s());
        let text = format!("{label} carries {rate}: this is the harness's own ceiling, not a backend.");
        return (Decision::Ceiling, text);
    }
    if !j.missed.is_empty() {
        let text = format!("{label} misses an objective: {}.{}", and_list(&j.missed), outages::headline(j));
        return (Decision::Single { met: false }, text);
    }
    let p99 = j.row.end_to_end.response.shown(0.99).text(j.row.followed());
    let judged = if a.file.objectives.0.is_empty() { "; no objective is asked" } else { " and meets every objective" };
    let rate = figures::rate(j.row.achieved_per_s());
    let text = format!("{label} carries {rate}{judged}: end-to-end p99 {p99}.{}", outages::headline(j));
    (Decision::Single { met: true }, text)
}

/// Why a run can't be believed, in one clause.
pub(crate) fn why_not_valid(a: &Analysis) -> String {
    let mut worst: Vec<(&str, f64, String)> = Vec::new();
    for j in a.rows.iter().filter(|j| a.checks_count(&j.row) && !j.row.valid()) {
        for check in j.row.checks().filter(|c| !c.ok) {
            let by = excess(&j.row.evidence, &check.name);
            let text = if check.name == COMPLETE {
                format!("{} was {}", j.row.label, check.found)
            } else {
                format!("{} {} (allowed {})", check.name, check.found, check.limit)
            };
            match worst.iter_mut().find(|(name, ..)| *name == check.name) {
                Some(known) if by > known.1 => *known = (&check.name, by, text),
                Some(_) => {}
                None => worst.push((&check.name, by, text)),
            }
        }
    }
    let cut = a.file.cut_short.as_ref().map(|why| format!("the run was cut short ({why})"));
    let failed = worst.into_iter().filter(|(name, ..)| cut.is_none() || *name != COMPLETE).map(|(.., text)| text);
    let why: Vec<String> = cut.iter().cloned().chain(failed).collect();
    if why.is_empty() { "nothing was measured".to_owned() } else { and_list(&why) }
}

/// The check that a visit ran to its end.
pub(crate) const COMPLETE: &str = "complete";

/// By how much a check is failed, to find the worst of several rows; of one check only.
pub(crate) fn excess(evidence: &Evidence, check: &str) -> f64 {
    match check {
        name if name.starts_with("generator lateness") => evidence.late_p999_ns as f64,
        name if name.starts_with("samples beyond") => -(evidence.fewest_samples as f64),
        name if name.starts_with("core time taken") => evidence.steal_share.unwrap_or(0.0),
        name if name.starts_with("held back") => evidence.cgroup_throttled_ns.unwrap_or(0) as f64,
        name if name.starts_with("CPU of other") => evidence.other_processes_cores.unwrap_or(0.0),
        _ => 0.0,
    }
}

fn compared(a: &Analysis) -> (Decision, String) {
    if let Some(why) = a.not_comparable() {
        return (Decision::NotComparable, format!("Not comparable: {why}; no winner is named."));
    }
    if !a.valid() {
        return (Decision::NotValid, "Not valid, so no winner is named.".to_owned());
    }
    let (best, step) = a.decide();
    if best.is_empty() {
        return (Decision::None, none_meets(a));
    }
    if let Some(control) = a.control.filter(|c| c.disagrees) {
        let text = format!(
            "Inconclusive: two identical rows differed by {} in every round, so no winner is named.",
            figures::factor(control.median_ratio.max(1.0 / control.median_ratio))
        );
        return (Decision::Inconclusive, text);
    }
    if let (Some(j), 1) = (best.first(), a.candidates().count()) {
        let text = format!("{} meets what you ask; nothing else was compared.", j.row.label);
        return (Decision::Single { met: true }, text);
    }
    let [winner] = best.as_slice() else {
        let names = labels(&best);
        return (Decision::Tie(names.clone()), tie(a, &names, step));
    };
    (Decision::Winner(winner.row.label.clone()), win(winner, step))
}

fn none_meets(a: &Analysis) -> String {
    let all = a.candidates().count();
    if all == 0 {
        return "No backend that was asked can keep this contract.".to_owned();
    }
    let why: Vec<String> = a
        .candidates()
        .map(|j| {
            let reasons = if j.excluded.is_empty() { &j.missed } else { &j.excluded };
            format!("{} ({})", j.row.label, and_list(reasons))
        })
        .collect();
    format!("None of these meets what you ask: {}.", and_list(&why))
}

fn tie(a: &Analysis, names: &[String], step: Step) -> String {
    let all = a.candidates().count();
    let who = and_list(names);
    if names.len() == all {
        return format!("A tie: {who} serve this workload equally well. Choose by what else you need.");
    }
    let mut others: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for j in a.candidates().filter(|j| !names.contains(&j.row.label)) {
        let (one, many) = falls_behind(j, step);
        match others.iter_mut().find(|(known, ..)| *known == one) {
            Some((.., labels)) => labels.push(j.row.label.clone()),
            None => others.push((one, many, vec![j.row.label.clone()])),
        }
    }
    let others: Vec<String> = others
        .iter()
        .map(|(one, many, labels)| format!("{} {}", and_list(labels), if labels.len() == 1 { one } else { many }))
        .collect();
    format!("A tie between {who}; {}.", and_list(&others))
}

/// Why a row is not among the best, for one row and for several.
fn falls_behind(j: &Judged, step: Step) -> (&'static str, &'static str) {
    if !j.row.kept() {
        ("broke the contract", "broke the contract")
    } else if j.row.saturated() {
        ("is saturated", "are saturated")
    } else if !j.excluded.is_empty() {
        ("is not ranked", "are not ranked")
    } else if !j.missed.is_empty() {
        ("misses an objective", "miss an objective")
    } else if step == Step::Response && j.headroom.as_ref().is_none_or(|h| h.class == Class::Above10) {
        ("answers later, by enough to matter", "answer later, by enough to matter")
    } else if step == Step::Response {
        ("answers later or has less headroom", "answer later or have less headroom")
    } else {
        ("has less headroom", "have less headroom")
    }
}

fn win(winner: &Judged, step: Step) -> String {
    let label = &winner.row.label;
    let why = match step {
        Step::Nothing | Step::Contract => "it alone carried the load and kept the contract".to_owned(),
        Step::Objectives => "it alone meets every objective".to_owned(),
        Step::Headroom => {
            let text = winner.headroom.as_ref().map_or_else(String::new, crate::headroom::Headroom::text);
            format!("it carries the load furthest, {text}")
        }
        Step::Response => "it answers first in every round, by enough to matter".to_owned(),
    };
    format!("Choose {label}: {why}.")
}

/// A reason for each step of the order, whether it decided or not.
fn reasons(a: &Analysis) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if !a.valid() {
        all.push((WHY_NOT_VALID.to_owned(), format!("{}.", why_not_valid(a))));
    }
    all.push(("Contract".to_owned(), contract_reason(a)));
    if outages::any(a) {
        all.push(("Outage".to_owned(), outages::reason(a)));
    }
    let judged = |reason: fn(&Analysis) -> String| if a.valid() { reason(a) } else { NOT_JUDGED.to_owned() };
    all.push(("Objectives".to_owned(), judged(objectives_reason)));
    if a.candidates().any(|j| j.headroom.is_some()) {
        all.push(("Headroom".to_owned(), judged(headroom_reason)));
    }
    if a.is_comparison() && a.candidates().count() > 1 {
        all.push(("Response time".to_owned(), judged(response_reason)));
    }
    all
}

fn contract_reason(a: &Analysis) -> String {
    let broken: Vec<String> = a
        .candidates()
        .filter(|j| !j.row.kept())
        .map(|j| format!("{} broke it: {}", j.row.label, and_list(&j.row.broken())))
        .collect();
    let refused: Vec<String> = a.file.refusals.iter().map(|r| r.backend.clone()).collect();
    // What was checked of a warm-up alone is no measurement.
    let measured = a.candidates().filter(|j| j.row.kept() && j.row.counts.due > 0);
    let (weaker, kept): (Vec<&Judged>, Vec<&Judged>) =
        measured.partition(|j| matches!(Strength::of(&j.row), Strength::Weaker(_)));
    let mut parts: Vec<String> = broken.iter().map(|text| format!("{text}.")).collect();
    parts.extend(weaker.iter().map(|j| {
        let checked = figures::plural(j.row.check.acknowledged, "checked message");
        let (lost, duplicated) = (j.row.check.lost, j.row.check.duplicated);
        format!(
            "{} keeps less than was asked ({}), and kept that over {checked}: {lost} lost, {duplicated} duplicated.",
            j.row.label,
            Strength::of(&j.row).text()
        )
    }));
    if !kept.is_empty() {
        let messages: u64 = kept.iter().fold(0, |sum: u64, j| sum.saturating_add(j.row.check.acknowledged));
        let lost: u64 = kept.iter().fold(0, |sum: u64, j| sum.saturating_add(j.row.check.lost));
        let duplicated: u64 = kept.iter().fold(0, |sum: u64, j| sum.saturating_add(j.row.check.duplicated));
        let all = kept.len() == a.candidates().count() && kept.len() > 1;
        let who = if all { "All".to_owned() } else { and_list(&labels(&kept)) };
        let checked = figures::plural(messages, "checked message");
        parts.push(format!("{who} kept it over {checked}: {lost} lost, {duplicated} duplicated."));
    }
    parts.extend(given_up::sentences(a));
    if !refused.is_empty() {
        parts.push(format!("{} refused it.", and_list(&refused)));
    }
    if parts.is_empty() {
        parts.push("Not judged: no backend was measured.".to_owned());
    }
    parts.join(" ")
}

fn objectives_reason(a: &Analysis) -> String {
    if a.candidates().count() == 0 {
        return "Not judged: no backend was measured.".to_owned();
    }
    if a.candidates().all(|j| j.row.counts.due == 0) {
        return "Nothing measured, so not judged.".to_owned();
    }
    if a.file.objectives.0.is_empty() {
        return "No objective asked.".to_owned();
    }
    let saturated: Vec<String> = a.candidates().filter(|j| j.row.saturated()).map(|j| j.row.label.clone()).collect();
    let missed: Vec<String> = a
        .candidates()
        .filter(|j| !j.missed.is_empty() && !j.row.saturated())
        .map(|j| format!("{} ({})", j.row.label, and_list(&j.missed)))
        .collect();
    let limit = a.file.objectives.end_to_end_p99_max_ns();
    let p99s: Vec<String> = a
        .candidates()
        .filter(|j| j.missed.is_empty() && !j.row.saturated() && j.row.counts.due > 0)
        .map(|j| format!("{} {}", j.row.label, j.row.end_to_end.response.shown(0.99).text(j.row.followed())))
        .collect();
    let mut parts = Vec::new();
    if !p99s.is_empty() {
        let asked = limit.map_or_else(
            || "no response time asked".to_owned(),
            |ns| format!("asked ≤ {}", figures::trimmed(&figures::duration(ns))),
        );
        let merged = if a.is_comparison() { ", all visits merged," } else { "" };
        parts.push(format!("Met{merged} at end-to-end p99 {} ({asked}).", and_list(&p99s)));
    }
    if !missed.is_empty() {
        parts.push(format!("Missed by {}.", and_list(&missed)));
    }
    if !saturated.is_empty() {
        parts.push(format!("Saturated, so not judged: {}.", and_list(&saturated)));
    }
    parts.join(" ")
}

fn headroom_reason(a: &Analysis) -> String {
    let mut by_text: Vec<(String, Vec<String>)> = Vec::new();
    for j in a.candidates() {
        let Some(headroom) = &j.headroom else { continue };
        let text = headroom.text();
        match by_text.iter_mut().find(|(known, _)| *known == text) {
            Some((_, who)) => who.push(j.row.label.clone()),
            None => by_text.push((text, vec![j.row.label.clone()])),
        }
    }
    let parts: Vec<String> = by_text.iter().map(|(text, who)| format!("{} {text}", and_list(who))).collect();
    format!("In multiples of your load: {}.", parts.join("; "))
}

fn response_reason(a: &Analysis) -> String {
    let mut parts = vec![a.control.map_or_else(
        || "No A/A control was run.".to_owned(),
        |c| format!("Identical rows differed by up to {}.", figures::factor(c.largest_ratio)),
    )];
    let (mut decisive, mut small, mut close) = (Vec::new(), Vec::new(), 0_u64);
    for pair in &a.pairs {
        let (first, second) = (&a.rows[pair.first].row.label, &a.rows[pair.second].row.label);
        let (quick, slow, ratio) = match pair.outcome {
            Outcome::First { ratio } => (first, second, ratio),
            Outcome::Second { ratio } => (second, first, ratio),
            Outcome::TooClose { .. } | Outcome::TooFewRounds { .. } => {
                close += 1;
                continue;
            }
        };
        if pair.matters {
            decisive.push(format!("{quick} before {slow} ({})", figures::factor(ratio)));
        } else {
            small.push(ratio);
        }
    }
    if !decisive.is_empty() {
        parts.push(format!("In every round {}.", and_list(&decisive)));
    }
    let limit =
        a.file.objectives.end_to_end_p99_max_ns().map(|limit| figures::duration_f64(limit as f64 * DECIDING_SHARE));
    if let (Some(limit), false) = (limit, small.is_empty()) {
        parts.push(format!(
            "{} in every round, by up to {}, but by less than {}, a tenth of the objective: that never decides.",
            if small.len() == 1 { "One pair differs".to_owned() } else { format!("{} pairs differ", small.len()) },
            figures::factor(small.iter().copied().fold(1.0, f64::max)),
            figures::trimmed(&limit)
        ));
    }
    if close > 0 && close == a.pairs.len() as u64 && close > 1 {
        parts.push("All pairs are too close to call.".to_owned());
    } else if close > 0 {
        parts.push(format!(
            "{} too close to call.",
            if close == 1 { "1 pair is".to_owned() } else { format!("{close} pairs are") }
        ));
    }
    parts.join(" ")
}

/// The assumptions that would change the verdict.
fn flips(a: &Analysis, decision: &Decision) -> Vec<String> {
    let best = match decision {
        Decision::Winner(label) => vec![label.clone()],
        Decision::Tie(labels) => labels.clone(),
        Decision::None
        | Decision::Ceiling
        | Decision::NotValid
        | Decision::Inconclusive
        | Decision::NotComparable
        | Decision::Capacity
        | Decision::Swept
        | Decision::Single { .. } => return Vec::new(),
    };
    let best: Vec<&Judged> = a.candidates().filter(|j| best.contains(&j.row.label)).collect();
    let mut flips = contract_flips(a, &best);
    flips.extend(load_flip(&best));
    flips.extend(objective_flip(&best));
    flips
}

/// For each axis, the least stronger promise that some of the best rows refuse.
fn contract_flips(a: &Analysis, best: &[&Judged]) -> Vec<String> {
    let asked = a.file.contract;
    let mut stronger: Vec<(Contract, String)> = Vec::new();
    if asked.availability == Availability::Coupled {
        let contract = Contract { availability: Availability::Decoupled, ..asked };
        stronger.push((contract, "receivers may be down when a message is sent (decoupled)".to_owned()));
    }
    for &order in Order::ALL.iter().filter(|o| **o > asked.order) {
        stronger.push((Contract { order, ..asked }, format!("you need order {order}")));
    }
    for &storage in Storage::ALL.iter().filter(|s| **s > asked.storage) {
        stronger.push((Contract { storage, ..asked }, format!("an acknowledged message must survive as {storage}")));
    }
    for &delivery in Delivery::ALL.iter().filter(|d| **d > asked.delivery) {
        stronger.push((Contract { delivery, ..asked }, format!("you need {delivery}")));
    }
    let mut flips = Vec::new();
    for (contract, condition) in stronger {
        let Some(row) = a.file.promise_ladder.iter().find(|row| row.contract == contract) else { continue };
        let out: Vec<String> =
            best.iter().filter(|j| refuses(row, j.row.backend)).map(|j| j.row.label.clone()).collect();
        if out.is_empty() {
            continue;
        }
        let left: Vec<String> =
            best.iter().filter(|j| !refuses(row, j.row.backend)).map(|j| j.row.label.clone()).collect();
        flips.push(match left.as_slice() {
            [] => format!("If {condition}: none of them can, all refuse that contract."),
            left => format!("If {condition}: {} can't; {} can.", and_list(&out), and_list(left)),
        });
    }
    flips
}

fn refuses(row: &LadderRow, backend: &str) -> bool {
    row.answers.iter().any(|answer| answer.backend == backend && answer.answer.is_err())
}

/// The load at which the first of the best rows stops.
fn load_flip(best: &[&Judged]) -> Option<String> {
    let known: Vec<(&str, Class, Class, f64)> = best
        .iter()
        .filter_map(|j| j.headroom.as_ref().map(|h| (j.row.label.as_str(), h.class, h.at_most(), h.factor)))
        .collect();
    let lowest = known
        .iter()
        .filter(|(_, class, most, _)| class == most && *class < Class::Above10)
        .min_by(|a, b| a.3.total_cmp(&b.3))?;
    let beyond: Vec<&str> = known.iter().filter(|(.., factor)| *factor > lowest.3).map(|(label, ..)| *label).collect();
    let times = figures::factor(lowest.3);
    Some(if beyond.is_empty() {
        format!("If the load grows: {} was last seen to carry {times} of it.", lowest.0)
    } else {
        format!("If the load grows beyond {times}: {} stops first; {} went further.", lowest.0, and_list(&beyond))
    })
}

/// The objective below which the best rows would no longer be level.
fn objective_flip(best: &[&Judged]) -> Option<String> {
    let mut p99s: Vec<(&str, f64)> = best
        .iter()
        .filter_map(|j| j.median_p99_ns.filter(|ns| ns.is_finite()).map(|ns| (j.row.label.as_str(), ns)))
        .collect();
    p99s.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (slowest, rest) = p99s.split_first()?;
    // Only rows that have one are held here.
    let text = figures::duration_f64(slowest.1);
    Some(if rest.is_empty() {
        format!("If end-to-end p99 must stay below {text}: {} no longer meets it.", slowest.0)
    } else {
        format!("If end-to-end p99 must stay below {text}: {} is the first to miss it.", slowest.0)
    })
}

fn exit_inputs(a: &Analysis) -> ExitInputs {
    if a.file.command == Command::Capacity {
        return apart::exit_inputs(a);
    }
    let named = |test: fn(&Judged) -> bool| a.rows.iter().filter(|j| test(j)).map(|j| j.row.label.clone()).collect();
    let single = a.is_single();
    let judged = |j: &&Judged| j.row.valid() && !j.row.saturated() && j.comparable;
    let objectives_missed = if a.stands_apart() {
        false
    } else if single {
        a.candidates().filter(judged).any(|j| !j.missed.is_empty())
    } else {
        let mut comparable = a.candidates().filter(judged).peekable();
        a.not_comparable().is_none() && comparable.peek().is_some() && comparable.all(|j| !j.missed.is_empty())
    };
    ExitInputs {
        cut_short: a.file.cut_short.clone(),
        not_back: named(|j| j.row.visits.iter().any(|visit| visit.cell.not_back.is_some())),
        contract_broken: named(|j| !j.row.kept()),
        objectives_missed,
        not_valid: named(|j| !j.row.valid()),
        saturated: named(|j| j.row.saturated()),
        each_decides: single,
    }
}
