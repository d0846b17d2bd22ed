//! *How do I repeat it?* Command, seed, digest, versions, machine and the whole profile.
//!
//! Leaves out nothing that would be needed.

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
        figures::count(digests(view.first()).first().map_or(0, |d| d.1))
    );
    let body = html! { @for a in &view.analyses { (one(a)) } };
    Panel { id: "repeat", question: "How do I repeat it?", sentence, body }
}

/// Every digest of the file with its number of messages, each once.
fn digests(a: &Analysis) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = Vec::new();
    for cell in a.rows.iter().flat_map(|j| &j.row.visits).map(|v| v.cell) {
        let digest = (cell.digest.sha256.clone(), cell.digest.messages);
        if !all.contains(&digest) {
            all.push(digest);
        }
    }
    all
}

fn one(a: &Analysis) -> Markup {
    let (file, mark) = (a.file, a.mark.as_str());
    html! {
        @if !mark.is_empty() { h3 { (mark.trim_start_matches(" · ")) ": " (file.profile.name) ", " (figures::utc(file.started_utc_ns)) } }
        pre tabindex="0" role="region" aria-label=(format!("Command{mark}")) { code { (file.command_line) } }
        dl.facts {
            @for (name, value) in facts(file) { dt { (name) } dd { (value) } }
            @for (sha256, messages) in digests(a) {
                dt { "Digest" } dd { code { (sha256) } " over " (figures::plural(messages, "message")) }
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
            "{}, {}, waiting by {}, {}",
            figures::plural(u64::from(c.loops.loops), "loop"),
            figures::plural(u64::from(c.loops.clients), "client"),
            c.loops.waiting,
            c.loops.transport
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
