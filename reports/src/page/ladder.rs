//! *Promise ladder*: every contract against every backend, kept by which settings or refused for what.
//!
//! Leaves out whether a kept promise was kept in fact (`meets`).

use std::collections::BTreeMap;

use brokerlab_model::{Availability, Contract, Delivery, Order, Storage};
use maud::{Markup, html};

use super::parts::{Cell, Panel, Table, View};
use crate::figures::{self, and_list};
use crate::result::{LadderRow, ResultFile};

pub(super) fn panel(view: &View) -> Option<Panel> {
    let file = view.first().file;
    let names = backends(file);
    if names.is_empty() {
        return None;
    }
    let body = html! {
        (matrix(view, file, &names))
        p.note {
            (pip("all")) " kept, coupled and decoupled · " (pip("half")) " kept only while the receiver is up (coupled) · "
            (pip("out")) " refused. A frame marks the contract of this run."
        }
        (settings(view))
        (tallies(view))
        (refusals(file))
    };
    Some(Panel { id: "ladder", question: "Which promises can each keep?", sentence: sentence(file, &names), body })
}

fn backends(file: &ResultFile) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for answer in file.promise_ladder.iter().flat_map(|row| &row.answers) {
        if !names.contains(&answer.backend) {
            names.push(answer.backend.clone());
        }
    }
    names
}

fn keeps(row: &LadderRow, backend: &str) -> bool {
    row.answers.iter().any(|answer| answer.backend == backend && answer.answer.is_ok())
}

fn sentence(file: &ResultFile, names: &[String]) -> String {
    let texts: Vec<String> = names
        .iter()
        .map(|name| format!("{name} keeps {}", file.promise_ladder.iter().filter(|row| keeps(row, name)).count()))
        .collect();
    format!(
        "Of {} contracts, {}. The rest is refused, with what is missing, and never kept in part.",
        file.promise_ladder.len(),
        and_list(&texts)
    )
}

/// The line of a contract in the matrix: all but storage and availability.
type Line = (Delivery, Order, u8);

fn lines(file: &ResultFile) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in &file.promise_ladder {
        let line = (row.contract.delivery, row.contract.order, row.contract.copies);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.sort_by_key(|&(delivery, order, copies)| (copies, delivery, order));
    lines
}

fn pip(class: &str) -> Markup {
    html! { span class=(format!("pip {class}")) aria-hidden="true" {} }
}

/// Class and words of one field: which availabilities are kept.
fn field(
    file: &ResultFile,
    (delivery, order, copies): Line,
    storage: Storage,
    backend: &str,
) -> (&'static str, &'static str) {
    let kept = |availability| {
        let contract = Contract { delivery, order, storage, copies, availability };
        file.promise_ladder.iter().find(|row| row.contract == contract).map(|row| keeps(row, backend))
    };
    match (kept(Availability::Coupled), kept(Availability::Decoupled)) {
        (None, None) => ("", "not asked"),
        (_, Some(true)) => ("all", "kept"),
        (Some(true), _) => ("half", "kept while coupled"),
        (Some(false) | None, _) => ("out", "refused"),
    }
}

fn matrix(view: &View, file: &ResultFile, names: &[String]) -> Markup {
    let asked = file.contract;
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("Promise ladder{}", view.suffix())) {
            table.matrix {
                caption { "Promise ladder" span { " · delivery and order down, backend and storage across" } }
                thead {
                    tr {
                        th scope="col" rowspan="2" { "Delivery, order" }
                        @for name in names { th.first scope="colgroup" colspan="3" { (name) } }
                    }
                    tr {
                        @for _ in names {
                            @for (n, storage) in Storage::ALL.iter().enumerate() { th scope="col" .first[n == 0] { (storage_word(*storage)) } }
                        }
                    }
                }
                tbody {
                    @for line in lines(file) {
                        tr {
                            th scope="row" { (line.0.name()) ", " (order_word(line.1)) @if line.2 > 1 { ", " (line.2) " copies" } }
                            @for name in names {
                                @for (n, &storage) in Storage::ALL.iter().enumerate() {
                                    @let (class, words) = field(file, line, storage, name);
                                    td .first[n == 0] .asked[line == (asked.delivery, asked.order, asked.copies) && storage == asked.storage] {
                                        @if !class.is_empty() { (pip(class)) }
                                        span.vh { (words) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn storage_word(storage: Storage) -> &'static str {
    match storage {
        Storage::Memory => "memory",
        Storage::PageCache => "cache",
        Storage::Fsync => "fsync",
    }
}

fn order_word(order: Order) -> &'static str {
    match order {
        Order::None => "no order",
        Order::PerKey => "per key",
        Order::Total => "total order",
    }
}

/// By which settings the contract of this run was kept.
fn settings(view: &View) -> Markup {
    let mut table = Table::new(
        "How this contract was kept",
        "settings in force, bounds included",
        &["Row", "Setting", "Value", "What for"],
    );
    for r in view.candidates() {
        let Some(cell) = r.judged.row.example() else { continue };
        for setting in &cell.settings.0 {
            table.row(
                r.label(),
                false,
                vec![
                    Cell::Words(setting.name.clone()),
                    Cell::Words(setting.value.clone()),
                    Cell::Words(setting.why.clone()),
                ],
            );
        }
    }
    if table.rows.is_empty() {
        html! {}
    } else {
        table.markup(view)
    }
}

/// What backends counted themselves: how tries ended, which connections they went over.
fn tallies(view: &View) -> Markup {
    let mut table = Table::new(
        "What the backends counted themselves",
        "over one visit, warm-up and drain included",
        &["Row", "What", "How often"],
    );
    for r in view.candidates() {
        let Some(cell) = r.judged.row.example() else { continue };
        for tally in &cell.tallies {
            let cells = vec![Cell::Words(tally.name.clone()), Cell::Figure(figures::count(tally.count))];
            table.row(r.label(), false, cells);
        }
    }
    if table.rows.is_empty() {
        html! {}
    } else {
        table.markup(view)
    }
}

/// Every reason of a refusal once, with how many contracts it closes.
fn refusals(file: &ResultFile) -> Markup {
    let mut reasons: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for answer in file.promise_ladder.iter().flat_map(|row| &row.answers) {
        for missing in answer.answer.as_ref().err().into_iter().flat_map(|refusal| &refusal.missing) {
            let key = (answer.backend.clone(), format!("{} {}", missing.axis, missing.asked), missing.reason.clone());
            *reasons.entry(key).or_insert(0) += 1;
        }
    }
    html! {
        @if !file.refusals.is_empty() {
            h3 { "Refused in this run" }
            ul.note { @for refusal in &file.refusals { li { (refusal.to_string()) } } }
        }
        @if !reasons.is_empty() {
            h3 { "Why contracts are refused" }
            ul.note {
                @for ((backend, asked, reason), n) in &reasons {
                    li { b { (backend) } ", " (asked) ": " (reason) " (" (figures::plural(*n, "contract")) ")" }
                }
            }
        }
    }
}
