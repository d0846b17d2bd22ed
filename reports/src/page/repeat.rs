//! *How do I repeat it?* Command, seed, digest, versions, machine and the whole profile.
//!
//! Leaves out nothing that would be needed.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::parts::{Panel, View};
use crate::figures;
use crate::result::ResultFile;
use crate::verdict::Analysis;

pub(super) fn panel(view: &View) -> Panel {
    let file = view.first().file;
    let sentence = format!(
        "The same profile and seed {} give the same messages on every machine; {} were digested here.",
        file.seed,
        figures::count(
            // Cells that stand apart have a digest each, in the result file; the first is told.
            digests(view.first())
                .first()
                .map_or_else(|| file.cells.first().map_or(0, |c| c.digest.messages), |d| d.messages)
        )
    );
    let body = html! { @for a in &view.analyses { (one(a)) } };
    Panel { id: "repeat", question: "How do I repeat it?", sentence, body }
}

/// A digest of messages, and the rounds whose messages it is of.
struct Digested<'a> {
    sha256: &'a str,
    messages: u64,
    rounds: BTreeSet<u32>,
}

impl Digested<'_> {
    /// `Digest`, or `Digest, round 3` where there are others.
    fn name(&self, of: usize) -> String {
        let rounds: Vec<String> = self.rounds.iter().map(|round| (round + 1).to_string()).collect();
        match rounds.as_slice() {
            _ if of == 1 => "Digest".to_owned(),
            [round] => format!("Digest, round {round}"),
            rounds => format!("Digest, rounds {}", figures::and_list(rounds)),
        }
    }
}

/// Every digest of the file, each once, by its first round.
fn digests<'a>(a: &Analysis<'a>) -> Vec<Digested<'a>> {
    let mut all: Vec<Digested> = Vec::new();
    for (cell, round) in a.rows.iter().flat_map(|j| &j.row.visits).map(|v| (v.cell, v.round)) {
        let (sha256, messages) = (cell.digest.sha256.as_str(), cell.digest.messages);
        if let Some(known) = all.iter_mut().find(|d| d.sha256 == sha256 && d.messages == messages) {
            known.rounds.insert(round);
        } else {
            all.push(Digested { sha256, messages, rounds: BTreeSet::from([round]) });
        }
    }
    all.sort_by_key(|digest| digest.rounds.first().copied());
    all
}

fn one(a: &Analysis) -> Markup {
    let (file, mark) = (a.file, a.mark.as_str());
    html! {
        @if !mark.is_empty() { h3 { (mark.trim_start_matches(" · ")) ": " (file.profile.name) ", " (figures::utc(file.started_utc_ns)) } }
        pre tabindex="0" role="region" aria-label=(format!("Command{mark}")) { code { (file.command_line) } }
        dl.facts {
            @for (name, value) in facts(file) { dt { (name) } dd { (value) } }
            @let digests = digests(a);
            @for digest in &digests {
                dt { (digest.name(digests.len())) }
                dd { code { (digest.sha256) } " over " (figures::plural(digest.messages, "message")) }
            }
        }
        h3 { "Profile in force" }
        pre tabindex="0" role="region" aria-label=(format!("Profile in force{mark}")) { code { (file.profile.toml) } }
    }
}

fn facts(file: &ResultFile) -> Vec<(&'static str, String)> {
    let host = &file.host;
    let cell = file.cells.first();
    let loops = cell.map_or_else(String::new, |c| {
        format!(
            "{}, {}, waiting by {}, {}{}",
            figures::plural(u64::from(c.loops.loops), "loop"),
            figures::plural(u64::from(c.loops.clients), "client"),
            c.loops.waiting,
            c.loops.transport,
            if c.loops.nice == 0 { String::new() } else { format!(", priority {}", c.loops.nice) }
        )
    });
    let window = cell.map_or_else(String::new, |c| {
        format!(
            "{} after {} of warm-up, drain limit {}",
            figures::duration(c.window.duration_ns),
            figures::duration(c.window.warmup_ns),
            figures::duration(c.window.drain_limit_ns)
        )
    });
    let revision = file.git_revision.as_deref().unwrap_or("unknown");
    let profile = format!(
        "{}: {}, {} on average, {}, {}",
        file.profile.name,
        figures::rate(file.profile.rate_per_s),
        figures::bytes(file.profile.message_bytes_mean.round()),
        figures::plural(u64::from(file.profile.producers), "producer"),
        figures::plural(u64::from(file.profile.consumers), "consumer")
    );
    vec![
        (
            "Version",
            format!("brokerlab {}, revision {revision}, result schema {}", file.tool_version, file.schema_version),
        ),
        ("Started", format!("{}, took {}", figures::utc(file.started_utc_ns), figures::duration(file.elapsed_ns))),
        ("Profile", profile),
        ("Contract", file.contract.to_string()),
        ("Seed", file.seed.to_string()),
        ("Window", window),
        ("Loops", loops),
        (
            "Machine",
            format!(
                "{}, {}, {}",
                host.cpu_model,
                figures::plural(u64::from(host.cores), "core"),
                figures::bytes(host.memory_bytes as f64)
            ),
        ),
        ("System", host.kernel.clone()),
        ("Storage", format!("{} on {}; {}", host.file_system, host.device, host.write_cache)),
    ]
}
