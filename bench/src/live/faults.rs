//! Rows in which something goes wrong: a broker paused, killed, asked for too much, a cluster that loses its leader. Each is taken once.
//!
//! The reference is arithmetic: what was due is known, and what a pause must show is computed (`oracle`). Leaves out rates.

use anyhow::Context as _;
use brokerlab_workloads::measurement::{CheckRecord, Counts, Measurement};
use brokerlab_workloads::record::Quantile;

use super::Lab;
use super::oracle::{WINDOW_S, drain_rate, response_s};
use super::ours::{Load, Outcome};
use super::parse::{kafka_leader, rabbitmq_leader_port};
use super::process::Look;
use super::segments::{Appended, appended};
use super::theirs::Java;
use crate::table::Row;

const RATE_PER_S: f64 = 20_000.0;
const BIN_MS: u64 = 100;

fn fault(at_s: u32, action: &str, for_s: Option<u32>) -> String {
    let length = for_s.map_or_else(String::new, |s| format!("for = \"{s}s\"\n"));
    format!("\n[[faults]]\nat = \"{at_s}s\"\naction = \"{action}\"\n{length}")
}

fn publish_s(cell: &Measurement, q: f64) -> anyhow::Result<f64> {
    let quantile = cell.publish.response.quantile(cell.publish.unfinished, q)?;
    Ok(quantile.or(u64::MAX) as f64 / 1e9)
}

fn check(cell: &Measurement) -> CheckRecord {
    cell.groups.first().map(|group| group.check.clone()).unwrap_or_default()
}

/// A pause of 5 s in 60 s at 20,000/s, with a client buffer of `buffer` MiB.
pub(super) fn stall(lab: &mut Lab, buffer: u32) -> anyhow::Result<Row> {
    let url = lab.server("kafka")?;
    let mut load = Load::new("20k/s", 1_024);
    load.window_s = 60;
    load.drain = "10s";
    load.more = fault(20, "pause", Some(5));
    let data = lab.brokers.folder().join("kafka/1/data");
    let url = format!("{url}?topic.message.timestamp.type=LogAppendTime&producer.buffer.memory={}", buffer << 20);
    // The time stamps are read while the run goes on, for its topic goes with it; long after the pause, which they can't disturb then.
    let read_at_s = f64::from(load.warmup_s) + 47.0;
    let mut log = None;
    let outcome = lab.program.run(&load, &url, |at_s| {
        if at_s >= read_at_s && log.is_none() {
            log = Some(appended(&data, "brokerlab-")?);
        }
        Ok(())
    })?;
    let log = log.context("the run ended before its time")?;
    let drain = drain_of(&log, RATE_PER_S).context("the broker's time stamps show no pause and drain")?;
    let cell = outcome.cell()?;
    let (p95, p99, most) = (publish_s(cell, 0.95)?, publish_s(cell, 0.99)?, publish_s(cell, 1.0)?);
    let x = RATE_PER_S / drain;
    let ratios = [p95 / response_s(0.95, x), p99 / response_s(0.99, x), most / response_s(1.0, x)];
    let stamped = [0.95, 0.99, 1.0].map(|q| stamped_s(&log, RATE_PER_S, q));
    let by_stamps = [p95 / stamped[0], p99 / stamped[1], most / stamped[2]];
    Ok(Row {
        what: format!(
            "Kafka paused 5.0 s in 60 s at 20,000/s, client buffer {buffer} MiB: publish response from the intended start"
        ),
        found: format!("p95 {p95:.3} s, p99 {p99:.3} s, max {most:.3} s"),
        reference: format!(
            "{:.3}, {:.3}, {:.3} s, computed; drained at {:.0} k/s by the broker's time stamps, x = {x:.3}; message by message by these stamps \
             {:.3}, {:.3}, {:.3} s",
            response_s(0.95, x),
            response_s(0.99, x),
            response_s(1.0, x),
            drain / 1_000.0,
            stamped[0],
            stamped[1],
            stamped[2],
        ),
        ratio: format!(
            "{}; by the stamps {}",
            ratios.map(|ratio| format!("{ratio:.3}")).join(", "),
            by_stamps.map(|ratio| format!("{ratio:.3}")).join(", ")
        ),
        goal: "within 3 % of what is computed".into(),
        met: Some(ratios.iter().all(|ratio| (ratio - 1.0).abs() <= 0.03)),
    })
}

/// The `q` quantile in seconds of the run's window by the broker's time stamps alone: the n-th record of the log was due n ÷ `rate` after the
/// first, and nothing takes less than no time. Records that the log lacks were quick.
fn stamped_s(log: &[Appended], rate: f64, q: f64) -> f64 {
    let mut count = 0.0;
    let mut spans: Vec<(f64, u32)> = Vec::with_capacity(log.len());
    let begin = log.first().map_or(0, |batch| batch.at_ms);
    for batch in log {
        spans.push((batch.at_ms.saturating_sub(begin) as f64 / 1_000.0 - count / rate, batch.records));
        count += f64::from(batch.records);
    }
    // The last record of the quickest batch took nothing.
    let least = spans
        .iter()
        .map(|&(first, records)| first - f64::from(records.saturating_sub(1)) / rate)
        .fold(f64::MAX, f64::min);
    let each = |&(first, records): &(f64, u32)| (0..records).map(move |n| first - f64::from(n) / rate - least);
    let mut responses: Vec<f64> = spans.iter().flat_map(each).collect();
    responses.sort_by(|a, b| b.total_cmp(a));
    let above = ((1.0 - q) * WINDOW_S * rate).round() as usize;
    responses.get(above).copied().unwrap_or(0.0)
}

/// The drain rate after the longest gap in a log's append times, where `rate` messages a second were due all along.
fn drain_of(log: &[Appended], rate: f64) -> Option<f64> {
    let (first, last) = (log.first()?.at_ms, log.last()?.at_ms);
    let gap = log.windows(2).max_by_key(|pair| pair[1].at_ms.saturating_sub(pair[0].at_ms))?;
    // Bins begin where the broker came back, so that the first is wholly drain.
    let back = gap[1].at_ms;
    let bins = |ms: u64| (ms / BIN_MS) as usize;
    let offset = BIN_MS - (back - first) % BIN_MS;
    let mut counts = vec![(rate * BIN_MS as f64 / 1_000.0, 0.0); bins(last - first + offset) + 1];
    for batch in log {
        counts[bins(batch.at_ms.saturating_sub(first) + offset)].1 += f64::from(batch.records);
    }
    // The first bin is shorter than the others.
    counts[0].0 = rate * (BIN_MS - offset) as f64 / 1_000.0;
    // That bin is wholly drain, so the drain's first interval is taken as the one before.
    drain_rate(&counts, bins(back - first + offset).checked_sub(1)?, BIN_MS as f64 / 1_000.0)
}

/// SIGKILL half-way through 60 s at 20,000/s; nobody restarts the broker.
pub(super) fn kill(lab: &mut Lab) -> anyhow::Result<Row> {
    let url = lab.server("kafka")?;
    let mut load = Load::new("20k/s", 1_024);
    load.window_s = 60;
    load.drain = "10s";
    load.more = fault(30, "kill", None);
    let outcome = lab.program.run(&load, &url, |_| Ok(()))?;
    lab.stop("kafka")?;
    let cell = outcome.cell()?;
    let counts = &cell.counts;
    let dead = 30.0 * RATE_PER_S;
    let missing = counts.due.saturating_sub(counts.acknowledged);
    let never = cell.publish.response.quantile(cell.publish.unfinished, 0.99)? == Quantile::Never;
    let limit_s = f64::from(load.warmup_s + load.window_s) + 10.0 + 10.0;
    let all = missing == unacknowledged(counts) && missing as f64 >= 0.99 * dead;
    let by_itself = outcome.elapsed_s <= limit_s;
    Ok(Row {
        what: "Kafka killed (SIGKILL) half-way through 60 s at 20,000/s, not restarted".into(),
        found: format!(
            "{missing} of {} due not acknowledged: {} due, not sent; {} sent, unacknowledged; {} failed or unknown; p99 {}; ended after \
             {:.1} s with exit code {}",
            counts.due,
            counts.not_sent,
            counts.unacknowledged,
            counts.failed + counts.unknown + counts.refused,
            if never { "never" } else { "a number" },
            outcome.elapsed_s,
            exit(&outcome)
        ),
        reference: format!("{dead:.0} were due while it was dead"),
        ratio: format!("{:.3}", missing as f64 / dead),
        goal: "all counted, p99 never, ends within its drain limit, exit code 1".into(),
        met: Some(all && never && by_itself && outcome.exit == Some(1)),
    })
}

fn unacknowledged(counts: &Counts) -> u64 {
    counts.refused + counts.failed + counts.unknown + counts.unacknowledged + counts.not_sent
}

fn exit(outcome: &Outcome) -> String {
    outcome.exit.map_or_else(|| "none".to_owned(), |code| code.to_string())
}

/// 1,000,000/s of 1 KiB asked.
pub(super) fn overload(lab: &mut Lab) -> anyhow::Result<Row> {
    let url = lab.server("kafka")?;
    let mut load = Load::new("1M/s", 1_024);
    load.window_s = 20;
    let outcome = lab.program.run(&load, &url, |_| Ok(()))?;
    let cell = outcome.cell()?;
    let achieved = super::ours::published(cell).map_or(0.0, |sample| sample.rate);
    let (early, late) = memory(&outcome.looks);
    let growth = late as f64 / early.max(1) as f64;
    Ok(Row {
        what: "Kafka, 1,000,000/s of 1 KiB asked".into(),
        found: format!(
            "{:.0} k/s achieved, backlog {} at the end; memory {} MiB in the second quarter, {} MiB in the last; exit code {}",
            achieved / 1_000.0,
            cell.counts.backlog_end,
            early >> 20,
            late >> 20,
            exit(&outcome)
        ),
        reference: "1,000 k/s asked".into(),
        ratio: format!("{:.2} of the rate; memory × {growth:.2}", achieved / 1e6),
        goal: "saturated (exit code 4), memory × ≤ 1.10".into(),
        met: Some(outcome.exit == Some(4) && growth <= 1.1),
    })
}

/// The largest resident set of the second and of the last quarter.
fn memory(looks: &[(u64, Look)]) -> (u64, u64) {
    let quarter = |n: usize| {
        let part = looks.get(looks.len() * n / 4..looks.len() * (n + 1) / 4).unwrap_or_default();
        part.iter().map(|(_, look)| look.rss_bytes).max().unwrap_or(0)
    };
    (quarter(1), quarter(3))
}

/// The node that leads the run's only lane is killed, in a cluster of three, at 1,000/s.
pub(super) fn leader(lab: &mut Lab, name: &'static str) -> anyhow::Result<Row> {
    let url = lab.server(name)?;
    let kafka = name == "kafka3";
    let mut load = Load::new("1k/s", 1_024);
    // What is kept when any one node dies: min ISR 2 of three, the majority of a quorum queue of three.
    load.copies = 2;
    load.window_s = 60;
    load.drain = "20s";
    let kill_at_s = f64::from(load.warmup_s) + 20.0;
    let mut killed = None;
    let program = lab.program.clone();
    let settings = if kafka { "topic.replication.factor=3&topic.min.insync.replicas=2" } else { "queue=quorum" };
    let backend = format!("{url}?{settings}");
    let outcome = program.run(&load, &backend, |at_s| {
        if at_s >= kill_at_s && killed.is_none() {
            let node = if kafka { kafka_node(lab, &url)? } else { rabbitmq_node(lab, name)? };
            lab.brokers.kill(name, node)?;
            killed = Some(node);
        }
        Ok(())
    })?;
    let node = killed.context("the run ended before its leader was killed")?;
    lab.stop(name)?;
    let cell = outcome.cell()?;
    let (check, counts) = (check(cell), &cell.counts);
    // Of those that came; the others are counted.
    let outage = cell.publish.response.to_histogram()?.max() as f64 / 1e9;
    let broken = check.lost > 0 || (kafka && check.duplicated > 0);
    Ok(Row {
        what: format!(
            "{name}, leader (node {node}) killed at 1,000/s, three members{}",
            if kafka { ", min ISR 2, idempotent" } else { ", quorum queue" }
        ),
        found: format!(
            "{} lost, {} duplicated, {} reordered of {} acknowledged; {} not acknowledged; longest publish {outage:.2} s; exit code {}",
            check.lost,
            check.duplicated,
            check.reordered,
            check.acknowledged,
            unacknowledged(counts),
            exit(&outcome)
        ),
        reference: "–".into(),
        ratio: "–".into(),
        goal: if kafka { "0 lost, 0 duplicated, all acknowledged" } else { "0 lost, all acknowledged" }.into(),
        met: Some(!broken && check.acknowledged > 0 && unacknowledged(counts) == 0),
    })
}

fn kafka_node(lab: &Lab, url: &str) -> anyhow::Result<u32> {
    let server = url.trim_start_matches("kafka://");
    let text = Java::new(&lab.tools("kafka")?)
        .run("org.apache.kafka.tools.TopicCommand", &["--bootstrap-server", server, "--describe"])?;
    kafka_leader(&text).context("the run's topic has no leader")
}

fn rabbitmq_node(lab: &Lab, name: &str) -> anyhow::Result<u32> {
    let json = lab.management(name, "GET", "queues?columns=name,leader")?;
    let port = rabbitmq_leader_port(&json).context("the run's queue has no leader")?;
    for node in 1..=3 {
        if lab.brokers.state(name, &format!("node.{node}.address"))?.ends_with(&format!(":{port}")) {
            return Ok(node);
        }
    }
    anyhow::bail!("no node of {name} has port {port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drain_rate_comes_from_the_log_alone() {
        // 20 a millisecond until 1,037 ms; nothing for 5 s; then 80 a millisecond until 20 a millisecond have caught up; then 20.
        let mut log = Vec::new();
        let (mut due, mut done) = (0_u64, 0);
        for ms in 0..12_000_u64 {
            due += 20;
            let paused = (1_037..6_037).contains(&ms);
            let now = if paused { 0 } else { (due - done).min(80) };
            done += now;
            log.extend((now > 0).then_some(Appended { at_ms: 1_000_000 + ms, records: now as u32 }));
        }
        let drain = drain_of(&log, 20_000.0).unwrap();
        assert!((drain / 80_000.0 - 1.0).abs() < 0.01, "{drain}");
        assert_eq!(drain_of(&log[..50], 20_000.0), None);
    }

    #[test]
    fn stamps_of_an_even_drain_give_the_closed_form() {
        // 20 a millisecond; nothing from 20 s to 25 s, then 80 a millisecond until caught up.
        let mut log = Vec::new();
        let (mut due, mut done) = (0_u64, 0);
        for ms in 0..60_000_u64 {
            due += 20;
            let now = if (20_000..25_000).contains(&ms) { 0 } else { (due - done).min(80) };
            done += now;
            log.extend((now > 0).then_some(Appended { at_ms: 7_000_000 + ms, records: now as u32 }));
        }
        for q in [0.95, 0.99, 1.0] {
            let (found, computed) = (stamped_s(&log, 20_000.0, q), response_s(q, 0.25));
            assert!((found / computed - 1.0).abs() < 0.001, "{q}: {found}, {computed}");
        }
        let quick: Vec<_> = log.iter().take(20_000).copied().collect();
        assert!(stamped_s(&quick, 20_000.0, 0.95) < 0.002);
    }

    #[test]
    fn memory_is_the_largest_of_a_quarter() {
        let looks: Vec<(u64, Look)> = (0..8).map(|i| (i, Look { cpu_ns: 0, rss_bytes: i * 10 })).collect();
        assert_eq!(memory(&looks), (30, 70));
        assert_eq!(memory(&[]), (0, 0));
    }

    #[test]
    fn every_way_to_stay_unacknowledged_counts() {
        let counts = Counts { refused: 1, failed: 2, unknown: 4, unacknowledged: 8, not_sent: 16, ..Counts::default() };
        assert_eq!(unacknowledged(&counts), 31);
    }
}
