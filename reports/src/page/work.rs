//! *Work per message*: what each row wrote, flushed, asked, copied and burned for one message.
//!
//! CPU is not shown where the loops spin: it would be the loop's, not the message's. Leaves out rates.

use maud::{Markup, html};

use super::parts::{Cell, Panel, Shown, Table, View, figure};
use crate::against::{counts, short};
use crate::chart::{Axis, Bar, Plot};
use crate::figures;

pub(super) fn panel(view: &View) -> Option<Panel> {
    let rows: Vec<Shown> = view.without_again().into_iter().filter(|r| messages(r) > 0.0).collect();
    if rows.is_empty() {
        return None;
    }
    let spins = view.analyses.iter().any(|a| a.file.waiting != "park");
    let body = html! {
        div.charts {
            (bars(view, &rows, "bytes", "Bytes written", figures::bytes, &|r| Some(r.judged.row.work.bytes_written as f64 / messages(r))))
            @if !spins { (bars(view, &rows, "cpu", "CPU time", figures::duration_f64, &cpu)) }
        }
        (table(view, &rows, spins))
        (fixed(view))
    };
    Some(Panel { id: "work", question: "What does a message cost in work?", sentence: sentence(&rows, spins), body })
}

/// Messages handed to the backend, which its work is divided by.
fn messages(r: &Shown) -> f64 {
    r.judged.row.counts.published_in_all as f64
}

/// CPU covers the window and its drain, so it is divided by what was due there.
fn cpu(r: &Shown) -> Option<f64> {
    let row = &r.judged.row;
    (row.counts.due > 0)
        .then(|| row.resources.cpu_user_ns.saturating_add(row.resources.cpu_system_ns) as f64 / row.counts.due as f64)
}

fn sentence(rows: &[Shown], spins: bool) -> String {
    let candidates: Vec<&Shown> = rows.iter().filter(|r| !r.is_control()).collect();
    let written = |r: &Shown| r.judged.row.work.bytes_written as f64 / messages(r);
    let least = candidates.iter().min_by(|a, b| written(a).total_cmp(&written(b)));
    let most = candidates.iter().max_by(|a, b| written(a).total_cmp(&written(b)));
    let bytes = match (least, most) {
        (Some(least), Some(most)) if candidates.len() > 1 => format!(
            "A message writes {} with {} and {} with {}.",
            figures::bytes(written(least).round()),
            least.label(),
            figures::bytes(written(most).round()),
            most.label()
        ),
        (Some(one), _) => format!("A message writes {}.", figures::bytes(written(one).round())),
        (None, _) => String::new(),
    };
    let cpu = if spins { " CPU is not shown: the loops spin, and would be billed to the messages." } else { "" };
    format!(
        "{bytes} Engine counts are exact and carry over to other machines; context switches, CPU and memory depend on timing.{cpu}"
    )
}

fn bars(
    view: &View,
    rows: &[Shown],
    id: &str,
    title: &str,
    name: fn(f64) -> String,
    value: &dyn Fn(&Shown) -> Option<f64>,
) -> Markup {
    let names: Vec<String> = rows.iter().map(|r| r.label().to_owned()).collect();
    let bars: Vec<Bar> = rows
        .iter()
        .enumerate()
        .filter_map(|(place, r)| {
            let v = value(r)?;
            let label = figures::trimmed(&name(v.round()));
            Some(Bar { ident: r.ident, place, value: v, title: format!("{}: {label} per message", r.label()), label })
        })
        .collect();
    let plot = Plot {
        id: view.id(id),
        title: format!("{title} per message"),
        description: format!("{title} per message, one bar a row; the figures are in the table."),
        x: Axis::places(&names),
        y: Axis::linear(bars.iter().map(|b| b.value * 1.08), name),
        x_title: String::new(),
        lines: Vec::new(),
        bars,
        rules: Vec::new(),
        bands: Vec::new(),
    };
    figure(&plot, "")
}

fn table(view: &View, rows: &[Shown], spins: bool) -> Markup {
    let mut table = Table::new(
        "Per message",
        "engine counts over all messages published; process figures over the window and its drain",
        &[
            "Row",
            "Bytes written",
            "Writes",
            "Flushes",
            "Bytes read",
            "Round trips",
            "Copies",
            "Context switches",
            "CPU",
            "Peak memory",
            "Bytes to storage",
        ],
    );
    for r in rows {
        let (work, resources, n) = (&r.judged.row.work, &r.judged.row.resources, messages(r));
        let each = |count: u64| Cell::Figure(figures::per_message(count as f64 / n));
        let due = r.judged.row.counts.due.max(1) as f64;
        let switches = resources.voluntary_context_switches.saturating_add(resources.involuntary_context_switches);
        let cpu =
            if spins { "not shown".to_owned() } else { cpu(r).map_or_else(|| "–".to_owned(), figures::duration_f64) };
        table.row(
            r.label(),
            r.is_control(),
            vec![
                Cell::Figure(figures::bytes(work.bytes_written as f64 / n)),
                each(work.write_calls),
                each(work.fsyncs),
                Cell::Figure(figures::bytes(work.bytes_read as f64 / n)),
                each(work.round_trips),
                each(work.payload_copies),
                Cell::Figure(figures::per_message(switches as f64 / due)),
                Cell::Figure(cpu),
                Cell::Figure(figures::bytes(resources.peak_rss_bytes as f64)),
                Cell::Figure(figures::bytes(resources.storage_write_bytes as f64 / due)),
            ],
        );
    }
    table.markup(view)
}

/// The fixed cases, whose counts are compared by `report --against`.
fn fixed(view: &View) -> Markup {
    let cases = || view.analyses.iter().flat_map(|a| &a.file.fixed_cases);
    // Known only to a build that counts allocations; a column of dashes says nothing.
    let allocations = cases().any(|c| c.allocations.is_some());
    let mut head = vec![
        "Row",
        "Case",
        "Messages",
        "Digest",
        "Bytes written",
        "Bytes filled",
        "Writes",
        "Bytes read",
        "Reads",
        "Flushes",
        "Copies",
        "Round trips",
    ];
    head.extend(allocations.then_some("Allocations"));
    let mut table =
        Table::new("Fixed case, exact counts", "the same on every machine; compared by `report --against`", &head);
    for a in &view.analyses {
        for case in &a.file.fixed_cases {
            let mut cells = vec![
                Cell::Words(case.case.clone()),
                Cell::Figure(figures::count(case.messages)),
                Cell::Figure(short(&case.digest_sha256).to_owned()),
            ];
            cells.extend(
                counts(case)
                    .iter()
                    .filter(|(name, _)| allocations || *name != "allocations")
                    .map(|(_, count)| Cell::Figure(count.map_or_else(|| "–".to_owned(), figures::count))),
            );
            table.row(&format!("{}{}", case.backend, a.mark), false, cells);
        }
    }
    if table.rows.is_empty() {
        html! {}
    } else {
        table.markup(view)
    }
}
