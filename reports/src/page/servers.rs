//! *What stands behind these rows?* Real brokers: product, what the contract became there, settings in force, and what their
//! processes used on this machine.
//!
//! Of embedded backends only the processes that they had behind loopback sockets; their settings stand with the promise ladder.

use maud::html;

use super::parts::{Cell, Panel, Table, View};
use crate::figures;
use crate::live::{Strength, record, servers};

pub(super) fn panel(view: &View) -> Option<Panel> {
    let live: Vec<_> = view.candidates().into_iter().filter(|r| record(&r.judged.row).is_some()).collect();
    if live.is_empty() {
        return behind_sockets(view);
    }
    let body = html! {
        (mapping(view))
        (in_force(view))
        @if let Some(used) = used(view) { (used) }
    };
    let weaker = live.iter().filter(|r| matches!(Strength::of(&r.judged.row), Strength::Weaker(_))).count();
    let sentence = match weaker {
        0 => "Every real broker keeps the contract asked; what it keeps beyond it is named.".to_owned(),
        n => format!(
            "{} less than asked and {} not comparable.",
            if n == 1 { "One real broker keeps".to_owned() } else { format!("{n} real brokers keep") },
            if n == 1 { "is" } else { "are" }
        ),
    };
    Some(Panel { id: "servers", question: "What stands behind these rows?", sentence, body })
}

/// The same where only embedded backends had processes of their own.
fn behind_sockets(view: &View) -> Option<Panel> {
    let body = used(view)?;
    let sentence = "Each engine ran behind a loopback socket in a process of its own, one a visit; the loops' own CPU and memory stand \
                    with the work."
        .to_owned();
    Some(Panel { id: "servers", question: "What stands behind these rows?", sentence, body })
}

fn mapping(view: &View) -> maud::Markup {
    let mut table =
        Table::new("What the contract became", "", &["Row", "Server", "Promise kept", "Against what was asked"]);
    for r in view.candidates() {
        let Some((_, live)) = record(&r.judged.row) else { continue };
        let strength = Strength::of(&r.judged.row);
        let text = strength.text();
        let against = match strength {
            Strength::Weaker(_) => Cell::No(text),
            Strength::AsAsked | Strength::Stronger(_) => Cell::Yes(text),
        };
        table.row(
            r.label(),
            false,
            vec![Cell::Words(live.server.clone()), Cell::Words(live.kept.to_string()), against],
        );
    }
    table.markup(view)
}

fn in_force(view: &View) -> maud::Markup {
    let mut table = Table::new(
        "Client and server settings in force",
        "read back from the server where it tells",
        &["Row", "Setting", "Value", "Whose"],
    );
    for r in view.candidates() {
        let Some((_, live)) = record(&r.judged.row) else { continue };
        for setting in &live.in_force.0 {
            let words = [&setting.name, &setting.value, &setting.why].map(|text| Cell::Words(text.clone()));
            table.row(r.label(), false, words.into_iter().collect());
        }
    }
    if table.rows.is_empty() {
        html! {}
    } else {
        table.markup(view)
    }
}

fn used(view: &View) -> Option<maud::Markup> {
    let mut table = Table::new(
        "Servers on this machine",
        "over the windows of all visits",
        &[
            "Server",
            "Process",
            "CPU per message",
            "CPU of one core, measured",
            "CPU of one core, idle",
            "Peak memory",
            "Bytes to storage",
        ],
    );
    let cores = |cpu: u64, over: u64| {
        Cell::Figure(if over == 0 { "–".to_owned() } else { figures::percent(cpu as f64 / over as f64) })
    };
    for used in view.analyses.iter().flat_map(|a| servers(a)) {
        let each = if used.own_messages == 0 {
            "–".to_owned()
        } else {
            figures::duration_f64(used.own_cpu_ns as f64 / used.own_messages as f64)
        };
        let cells = vec![
            Cell::Figure(used.pid.map_or_else(|| "one a visit".to_owned(), |pid| pid.to_string())),
            Cell::Figure(each),
            cores(used.own_cpu_ns, used.own_ns),
            cores(used.idle_cpu_ns, used.idle_ns),
            Cell::Figure(figures::bytes(used.peak_rss_bytes as f64)),
            Cell::Figure(figures::bytes(used.storage_write_bytes as f64)),
        ];
        table.row(&used.name, false, cells);
    }
    (!table.rows.is_empty()).then(|| table.markup(view))
}
