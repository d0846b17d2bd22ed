//! Outages in words: what was done, what it cost, when it was over.
//!
//! Leaves out finding them, which is done where the run is recorded, and drawing them.

use brokerlab_workloads::measurement::{Act, FaultRecord, Measurement, OutageRecord};
use brokerlab_workloads::profile::{FaultAction, FaultNode};

use crate::figures::{self, and_list};
use crate::rows::Row;
use crate::verdict::{Analysis, Judged};

/// What happened, in a few words: `paused for 5.00 s`.
pub(crate) fn happened(outage: &OutageRecord) -> String {
    match outage.fault {
        None => figures::plural(outage.disconnects, "connection") + " lost, undeclared",
        Some(fault) => declared(&fault, outage),
    }
}

fn declared(fault: &FaultRecord, outage: &OutageRecord) -> String {
    let did = |act: Act| outage.acts.iter().find(|of| of.act == act && of.error.is_none()).map(|of| of.at_ns);
    let (act, undo) = match fault.action {
        FaultAction::Kill => (Act::Kill, Act::Restart),
        FaultAction::Pause => (Act::Pause, Act::Resume),
    };
    let node = match fault.node {
        FaultNode::All => String::new(),
        FaultNode::Number(number) => format!("node {number} "),
        // Which one it was stands in what was done.
        FaultNode::Leader => match outage.acts.first().map(|of| of.node) {
            Some(FaultNode::Number(number)) => format!("leader (node {number}) "),
            Some(FaultNode::All | FaultNode::Leader) | None => "leader ".to_owned(),
        },
    };
    let length = match (did(act), did(undo)) {
        (Some(from), Some(to)) if fault.action == FaultAction::Kill => {
            format!(", {} after {}", undo.done(), figures::duration(to.saturating_sub(from)))
        }
        (Some(from), Some(to)) => format!(" for {}", figures::duration(to.saturating_sub(from))),
        (Some(_), None) => format!(", not {}", undo.done()),
        (None, _) => String::new(),
    };
    format!("{node}{}{length}", act.done())
}

/// When the backlog was back, from the outage's beginning.
pub(crate) fn recovery(outage: &OutageRecord) -> String {
    match outage.recovered_ns {
        Some(ns) if ns <= outage.begins_ns => "at once".to_owned(),
        Some(ns) => figures::duration(ns - outage.begins_ns),
        None => "never".to_owned(),
    }
}

/// What it cost, in one clause.
fn cost(outage: &OutageRecord) -> String {
    if outage.recovered_ns.is_some() && !outage.was_felt() {
        return "nobody felt it".to_owned();
    }
    let mut parts = vec![match outage.silent_ns() {
        Some(silent) => format!("nothing was acknowledged for {}", figures::duration(silent)),
        None => "nothing was acknowledged any more".to_owned(),
    }];
    let rose = outage.recovered_ns.is_none_or(|ns| ns > outage.begins_ns);
    if rose && outage.first_acknowledged_ns.is_some() {
        parts.push(format!("the backlog {}", back(outage)));
    }
    // What is open when the backlog is back ends as it always does.
    let open = if outage.recovered_ns.is_none() { outage.unacknowledged } else { 0 };
    for (count, what) in [
        (open, "sent and unacknowledged"),
        (outage.unknown, "unknown"),
        (outage.failed, "failed"),
        (outage.not_sent, "due and not sent"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", figures::count(count)));
        }
    }
    parts.extend(outage.lost.filter(|&lost| lost > 0).map(|lost| format!("{} lost", figures::count(lost))));
    and_list(&parts)
}

/// The outages of a row's visits, in order.
pub(crate) fn of<'a>(row: &Row<'a>) -> impl Iterator<Item = (&'a Measurement, &'a OutageRecord)> {
    let cells: Vec<&'a Measurement> = row.visits.iter().map(|visit| visit.cell).collect();
    cells.into_iter().flat_map(|cell| cell.outages.iter().map(move |outage| (cell, outage)))
}

/// Whether any row has one.
pub(crate) fn any(a: &Analysis) -> bool {
    a.rows.iter().any(|j| of(&j.row).next().is_some())
}

/// What the verdict says of them, by row.
pub(crate) fn reason(a: &Analysis) -> String {
    let rows = a.rows.iter().filter_map(|j| {
        let told: Vec<String> = of(&j.row).take(3).map(|(_, o)| format!("{}: {}", happened(o), cost(o))).collect();
        let more = of(&j.row).count().saturating_sub(told.len());
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        (!told.is_empty()).then(|| format!("{} {}{more}.", j.row.label, told.join("; ")))
    });
    rows.collect::<Vec<_>>().join(" ")
}

/// What is added to the headline of a run that went through outages; empty when there were none.
pub(crate) fn headline(j: &Judged) -> String {
    let all: Vec<&OutageRecord> = of(&j.row).map(|(_, outage)| outage).collect();
    match all.as_slice() {
        [] => String::new(),
        [one] => format!(" {}; its backlog {}.", began(one), back(one)),
        several => format!(" {} are in it.", figures::plural(several.len() as u64, "outage")),
    }
}

fn began(outage: &OutageRecord) -> String {
    let was = if outage.fault.is_some() { "It was" } else { "It saw" };
    format!("{was} {}", happened(outage))
}

fn back(outage: &OutageRecord) -> String {
    match outage.recovered_ns {
        Some(ns) if ns > outage.begins_ns => format!("was back after {}", figures::duration(ns - outage.begins_ns)),
        Some(_) => "did not grow".to_owned(),
        None => "never came back".to_owned(),
    }
}

/// The headline of a run whose broker did not answer any more; none when it did.
pub(crate) fn not_back(j: &Judged) -> Option<String> {
    let cell = j.row.visits.iter().map(|visit| visit.cell).find(|cell| cell.not_back.is_some())?;
    let counts = &cell.counts;
    let missing = counts.due.saturating_sub(counts.acknowledged);
    let what = cell.outages.last().map_or_else(
        || "did not answer any more".to_owned(),
        |o| format!("{} {}", if o.fault.is_some() { "was" } else { "saw" }, happened(o)),
    );
    Some(format!(
        "{} {what} and is not back: {} of {} messages due were never acknowledged ({} not sent, {} unacknowledged, {} failed or unknown).",
        j.row.label,
        figures::count(missing),
        figures::count(counts.due),
        figures::count(counts.not_sent),
        figures::count(counts.unacknowledged),
        figures::count(counts.failed + counts.refused + counts.unknown),
    ))
}
