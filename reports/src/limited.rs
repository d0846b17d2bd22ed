//! Which of a backend's own settings holds it back: a limit on writing, by what was throttled, or one on reading, by what was asked.
//!
//! Leaves out limits that nobody set: a backend that can't go faster is held by itself.

use brokerlab_workloads::measurement::Measurement;

use crate::figures;

/// The setting that holds a cell back, in words; none if none does.
pub(crate) fn by_setting(backend: &str, cell: &Measurement, offered_per_s: f64) -> Option<String> {
    if throttled_enough(cell) {
        Some(writing(backend, cell, offered_per_s))
    } else {
        refused_when_full(cell).or_else(|| reading(backend, cell))
    }
}

/// Whether so many messages were throttled that the 99 % quantile is of them: fewer are no cause of a load that was not carried.
fn throttled_enough(cell: &Measurement) -> bool {
    let counts = &cell.counts;
    counts.throttled > 0 && counts.throttled.saturating_mul(100) >= counts.due
}

/// A full queue that is set to refuse publishes instead of making room, where it is what kept the load from being carried.
fn refused_when_full(cell: &Measurement) -> Option<String> {
    let counts = &cell.counts;
    let refused = counts.failed.saturating_add(counts.refused);
    let name = ["overflow", "x-overflow"].into_iter().find(|name| words(cell, name).is_some())?;
    let value = words(cell, name).filter(|value| value.starts_with("reject-publish"))?;
    let enough = refused > 0 && refused.saturating_mul(100) >= counts.due;
    let publishes = if refused == 1 { "publish" } else { "publishes" };
    enough.then(|| format!("{} {publishes} failed, queue full ({name}={value})", figures::count(refused)))
}

fn lanes(backend: &str, cell: &Measurement) -> String {
    let lanes = figures::plural(u64::from(cell.lanes), if backend == "shard" { "shard" } else { "lane" });
    if is_scaled(cell) { format!("{lanes} at first") } else { lanes }
}

/// Whether the backend makes more lanes by itself.
fn is_scaled(cell: &Measurement) -> bool {
    words(cell, "mode") == Some("on-demand")
}

/// A setting's value as it is printed.
fn words<'a>(cell: &'a Measurement, name: &str) -> Option<&'a str> {
    cell.settings.0.iter().find(|s| s.name == name).map(|s| s.value.as_str())
}

/// A setting's value, if it is a number above zero.
fn value(cell: &Measurement, name: &str) -> Option<f64> {
    words(cell, name).and_then(|text| text.parse::<f64>().ok()).filter(|value| *value > 0.0)
}

/// Bytes that were due, per second.
fn bytes_per_s(cell: &Measurement) -> f64 {
    cell.counts.due_bytes as f64 / (cell.window.duration_ns.max(1) as f64 / 1e9)
}

/// The limit on writing that binds: lanes × what each takes. Where all of them together would take more than was asked, some
/// were asked for more than others.
fn writing(backend: &str, cell: &Measurement, offered_per_s: f64) -> String {
    let lanes = lanes(backend, cell);
    let bytes = value(cell, "write_bytes_per_s").map(|limit| (bytes_per_s(cell) / limit, limit));
    let records = value(cell, "write_records_per_s").map(|limit| (offered_per_s / limit, limit));
    let (used, text) = match (bytes, records) {
        (Some((used, limit)), other) if other.is_none_or(|(records, _)| used >= records) => {
            (used, format!("{lanes} × {}/s", figures::bytes_short(limit)))
        }
        (_, Some((used, limit))) => (used, format!("{lanes} × {} records/s", figures::count(limit as u64))),
        (_, None) => return format!("{lanes} × their rate limit"),
    };
    if used < f64::from(cell.lanes) && !is_scaled(cell) { format!("{text}, not evenly asked for") } else { text }
}

/// The limit on reading that binds: as many bytes were due as each lane may give to one group, or to all that share it. With lanes
/// that become more it is not known.
fn reading(backend: &str, cell: &Measurement) -> Option<String> {
    if is_scaled(cell) {
        return None;
    }
    let limit = value(cell, "read_bytes_per_s")?;
    let groups = cell.groups.len();
    let shared = words(cell, "readers") == Some("polling");
    let readers = if shared { groups as f64 } else { 1.0 };
    let asked = bytes_per_s(cell) * readers / f64::from(cell.lanes.max(1));
    let among = if shared && groups > 1 { format!(", shared by {groups} groups") } else { String::new() };
    let text = || format!("{} × {}/s of reading{among}", lanes(backend, cell), figures::bytes_short(limit));
    (groups > 0 && asked >= limit).then(text)
}
