//! Rows that hold a rate and its CPU against the vendor's own tool: Kafka publish and consume, RabbitMQ publish and consume, a fixed rate.
//!
//! Both sides take turns on the same broker; medians of the repetitions with their range. Leaves out faults.

use anyhow::Context as _;

use super::ours::{Load, broken, consumed, published};
use super::parse::{Tool, latency};
use super::theirs::{Java, Tick, warm};
use super::{Lab, Sample};
use crate::table::{Row, Spread};

/// Seconds that a Java tool has to warm up before its seconds count.
const WARM_S: f64 = 4.0;
/// Seconds that count.
const WINDOW_S: f64 = 10.0;
/// Above what any broker takes here, so that the client is the limit or the broker is.
pub(super) const FLAT_OUT: &str = "5M/s";
const TOOLS: &str = "org.apache.kafka.tools";

/// What both sides found.
#[derive(Clone, Debug, Default)]
struct Pair {
    ours: Vec<Sample>,
    theirs: Vec<Sample>,
}

/// The least ratio of rates and the greatest of CPU; none for a row that is only shown.
#[derive(Clone, Copy, Debug)]
struct Goal {
    rate: f64,
    cpu: f64,
}

impl Pair {
    fn row(&self, what: String, goal: Option<Goal>) -> anyhow::Result<Row> {
        anyhow::ensure!(!self.ours.is_empty() && self.ours.len() == self.theirs.len(), "{what}: no samples");
        let spread =
            |samples: &[Sample], of: fn(&Sample) -> f64| Spread::of(&samples.iter().map(of).collect::<Vec<_>>());
        let rate = |samples: &[Sample]| spread(samples, |sample| sample.rate / 1_000.0);
        let cpu = |samples: &[Sample]| spread(samples, |sample| sample.cpu_us);
        let side = |samples: &[Sample]| format!("{} k/s at {} µs", rate(samples).show(1), cpu(samples).show(2));
        let ratio = rate(&self.ours).median / rate(&self.theirs).median;
        let cost = cpu(&self.ours).median / cpu(&self.theirs).median;
        Ok(Row {
            what,
            found: side(&self.ours),
            reference: side(&self.theirs),
            ratio: format!("{ratio:.2} at {cost:.2}"),
            goal: goal.map_or_else(|| "–".to_owned(), |goal| format!("≥ {:.1} at ≤ {:.2}", goal.rate, goal.cpu)),
            met: goal.map(|goal| ratio >= goal.rate && cost <= goal.cpu),
        })
    }
}

/// Kafka, publish only: `batch` bytes or both sides' own defaults.
pub(super) fn kafka_publish(lab: &mut Lab, bytes: u32, batch: Option<u32>) -> anyhow::Result<Row> {
    let url = lab.server("kafka")?;
    let java = Java::new(&lab.tools("kafka")?);
    let settings = batch.map(|batch| format!("linger.ms=5 batch.size={batch}"));
    let ours = match batch {
        Some(batch) => format!("{url}?producer.linger.ms=5&producer.batch.size={batch}"),
        None => url.clone(),
    };
    let mut load = Load::new(FLAT_OUT, bytes);
    load.consumer_pause_s = load.window_s;
    let mut pair = Pair::default();
    for _ in 0..if batch.is_some() { lab.repetitions } else { lab.repetitions.min(3) } {
        let outcome = lab.program.run(&load, &ours, |_| Ok(()))?;
        let cell = outcome.cell()?;
        anyhow::ensure!(broken(cell).is_empty(), "the run broke its contract: {}", broken(cell).join("; "));
        pair.ours.push(published(cell).context("nothing was acknowledged")?);
        let topic = Topic::create(&java, &url)?;
        let mut arguments = topic.producer(bytes, 2_000_000_000, "-1");
        arguments.extend(["--command-property", "acks=all"].map(str::to_owned));
        arguments.extend(settings.iter().flat_map(|text| text.split(' ')).map(str::to_owned));
        let ticks = java.watch(&format!("{TOOLS}.ProducerPerformance"), &arguments, lasted(Tool::Producer))?;
        pair.theirs
            .push(warm(Tool::Producer, &ticks, WARM_S, WINDOW_S).context("ProducerPerformance printed too little")?);
        topic.delete()?;
    }
    let what = match batch {
        Some(batch) => format!("Kafka publish, {bytes} B, batch {} KiB", batch / 1_024),
        None => format!("Kafka publish, {bytes} B, each at its own defaults"),
    };
    let goal = batch.map(|_| Goal { rate: 1.0, cpu: 0.7 });
    pair.row(format!("{what}; against ProducerPerformance"), goal)
}

/// Whether a tool has been warm for a whole window.
fn lasted(tool: Tool) -> impl Fn(&[Tick]) -> bool {
    move |ticks| {
        let mut times = ticks.iter().filter(|tick| tool.progress(&tick.line).is_some()).map(|tick| tick.at_s);
        let first = times.next();
        first.zip(times.next_back()).is_some_and(|(first, last)| last - first >= WARM_S + WINDOW_S)
    }
}

/// A topic of the vendor's tools.
struct Topic<'a> {
    java: &'a Java,
    server: String,
}

const TOPIC: &str = "brokerlab-reference";

impl<'a> Topic<'a> {
    fn create(java: &'a Java, url: &str) -> anyhow::Result<Self> {
        let topic = Self { java, server: url.trim_start_matches("kafka://").to_owned() };
        topic.admin(&["--create", "--topic", TOPIC, "--partitions", "1", "--replication-factor", "1"])?;
        Ok(topic)
    }

    fn admin(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let all = [&["--bootstrap-server", &self.server], arguments].concat();
        self.java.run(&format!("{TOOLS}.TopicCommand"), &all).map(drop)
    }

    fn delete(self) -> anyhow::Result<()> {
        self.admin(&["--delete", "--topic", TOPIC])
    }

    /// Arguments of `ProducerPerformance`, but `--command-property`, which takes all that follow.
    fn producer(&self, bytes: u32, records: u64, throughput: &str) -> Vec<String> {
        let (bytes, records) = (bytes.to_string(), records.to_string());
        ["--bootstrap-server", &self.server, "--topic", TOPIC, "--num-records", &records, "--record-size", &bytes]
            .into_iter()
            .chain(["--throughput", throughput, "--reporting-interval", "1000"])
            .map(str::to_owned)
            .collect()
    }
}

/// Kafka, consume only. Ours publishes a backlog while its consumer stands still, then drains it; theirs drains a topic.
pub(super) fn kafka_consume(lab: &mut Lab, bytes: u32) -> anyhow::Result<Row> {
    let url = lab.server("kafka")?;
    let java = Java::new(&lab.tools("kafka")?);
    // Enough for eight seconds of the reference, and some seconds for us: there is no virtual machine to warm.
    let (records, rate, goal) = match bytes {
        100 => (24_000_000, 1_000_000, Goal { rate: 1.0, cpu: 1.0 }),
        _ => (6_000_000, 200_000, Goal { rate: 1.5, cpu: 0.35 }),
    };
    // Both read what was written in batches of this size.
    let batches = ["linger.ms=5", "batch.size=262144"];
    let ours = format!("{url}?producer.{}", batches.join("&producer."));
    let (publish_s, quiet_s) = (12, 3);
    let mut load = Load::new(FLAT_OUT, bytes);
    load.arrivals = format!(
        "{{ kind = \"steps\", spacing = \"even\", steps = [{{ rate = \"{rate}/s\", for = \"{}s\" }}, {{ rate = \"1/s\", for = \"1h\" }}] }}",
        load.warmup_s + publish_s
    );
    load.consumer_pause_s = publish_s + quiet_s;
    load.window_s = load.consumer_pause_s + 6;
    let resumed_ns = u64::from(load.warmup_s + load.consumer_pause_s) * 1_000_000_000;
    let topic = Topic::create(&java, &url)?;
    let mut preload = topic.producer(bytes, records, "-1");
    preload.extend(["--command-property", "acks=all"].into_iter().chain(batches).map(str::to_owned));
    java.watch(&format!("{TOOLS}.ProducerPerformance"), &preload, |_| false)?;
    let server = url.trim_start_matches("kafka://");
    let consume: Vec<String> = ["--bootstrap-server", server, "--topic", TOPIC, "--num-records", &records.to_string()]
        .into_iter()
        .chain(["--show-detailed-stats", "--reporting-interval", "500", "--hide-header"])
        .map(str::to_owned)
        .collect();
    let mut pair = Pair::default();
    for _ in 0..lab.repetitions {
        let outcome = lab.program.run(&load, &ours, |_| Ok(()))?;
        let cell = outcome.cell()?;
        anyhow::ensure!(broken(cell).is_empty(), "the run broke its contract: {}", broken(cell).join("; "));
        pair.ours.push(consumed(&outcome, resumed_ns)?.context("nothing was consumed after the pause")?);
        let ticks = java.watch(&format!("{TOOLS}.ConsumerPerformance"), &consume, |_| false)?;
        pair.theirs
            .push(warm(Tool::Consumer, &ticks, 2.0, WINDOW_S).context("ConsumerPerformance printed too little")?);
    }
    topic.delete()?;
    pair.row(format!("Kafka consume, {bytes} B; against ConsumerPerformance"), Some(goal))
}

/// RabbitMQ, publish and consume at once; `queue` is `quorum` or `classic`.
pub(super) fn rabbitmq(lab: &mut Lab, queue: &str, bytes: u32) -> anyhow::Result<Row> {
    const QUEUE: &str = "brokerlab-reference";
    let url = lab.server("rabbitmq")?;
    let java = Java::new(&lab.tools("rabbitmq")?);
    let server = format!("amqp://guest:guest@{}", url.trim_start_matches("amqp://"));
    let (size, kind) = (bytes.to_string(), format!("x-queue-type={queue}"));
    let arguments: Vec<String> = ["-h", &server, "-x", "1", "-y", "1", "-u", QUEUE, "--queue-args", &kind]
        .into_iter()
        .chain(["-f", "persistent", "-ad", "false", "-c", "1000", "-q", "500", "-s", &size, "-z", "30"])
        .map(str::to_owned)
        .collect();
    let load = Load::new("500k/s", bytes);
    let mut pair = Pair::default();
    for _ in 0..lab.repetitions {
        let outcome = lab.program.run(&load, &format!("{url}?queue={queue}&confirms=1000&prefetch=500"), |_| Ok(()))?;
        let cell = outcome.cell()?;
        anyhow::ensure!(broken(cell).is_empty(), "the run broke its contract: {}", broken(cell).join("; "));
        pair.ours.push(published(cell).context("nothing was acknowledged")?);
        let ticks = java.watch("com.rabbitmq.perf.PerfTest", &arguments, |_| false)?;
        pair.theirs.push(warm(Tool::PerfTest, &ticks, 10.0, 20.0).context("PerfTest printed too little")?);
        lab.delete_queue("rabbitmq", QUEUE)?;
    }
    pair.row(
        format!("RabbitMQ publish + consume, {queue}, {bytes} B; against PerfTest"),
        Some(Goal { rate: 1.0, cpu: 0.35 }),
    )
}

/// 20,000/s of 1 KiB on Kafka: publish p50 and p99, service time.
pub(super) fn kafka_fixed(lab: &mut Lab) -> anyhow::Result<Row> {
    let url = lab.server("kafka")?;
    let java = Java::new(&lab.tools("kafka")?);
    let mut load = Load::new("20k/s", 1_024);
    // As the tool does: five seconds that do not count, and nobody who consumes while it is measured.
    load.warmup_s = 5;
    load.consumer_pause_s = load.window_s;
    load.drain = "10s";
    let mut ours: [Vec<f64>; 2] = Default::default();
    let mut theirs: [Vec<f64>; 2] = Default::default();
    for _ in 0..lab.repetitions {
        let outcome =
            lab.program.run(&load, &format!("{url}?producer.linger.ms=5&producer.batch.size=16384"), |_| Ok(()))?;
        let publish = &outcome.cell()?.publish;
        for (into, quantile) in ours.iter_mut().zip(publish.service.quantiles(publish.unfinished, &[0.5, 0.99])?) {
            // What never came within the drain limit took longer than that.
            into.push(quantile.or(10_000_000_000) as f64 / 1e6);
        }
        let topic = Topic::create(&java, &url)?;
        let mut arguments = topic.producer(1_024, 300_000, "20000");
        arguments.extend(["--warmup-records", "100000", "--command-property", "acks=all"].map(str::to_owned));
        arguments.extend(["linger.ms=5", "batch.size=16384"].map(str::to_owned));
        let ticks = java.watch(&format!("{TOOLS}.ProducerPerformance"), &arguments, |_| false)?;
        topic.delete()?;
        let text: Vec<&str> = ticks.iter().map(|tick| tick.line.as_str()).collect();
        let found = latency(&text.join("\n")).context("ProducerPerformance printed no quantiles")?;
        theirs[0].push(found.p50_ms);
        theirs[1].push(found.p99_ms);
    }
    let spread = |of: &[Vec<f64>; 2]| of.each_ref().map(|samples| Spread::of(samples));
    let (ours, theirs) = (spread(&ours), spread(&theirs));
    let below = |at: usize| ours[at].median <= theirs[at].median * 1.1 + 0.5;
    let show = |of: &[Spread; 2], decimals| format!("p50 {} ms, p99 {} ms", of[0].show(decimals), of[1].show(decimals));
    Ok(Row {
        what: "Kafka, 20,000/s of 1 KiB, publish only, service time; against ProducerPerformance --throughput".into(),
        found: show(&ours, 2),
        // The tool knows whole milliseconds only.
        reference: show(&theirs, 0),
        ratio: format!("{:.2}, {:.2}", ours[0].median / theirs[0].median, ours[1].median / theirs[1].median),
        goal: "each ≤ 1.1 × + 0.5 ms".into(),
        met: Some(below(0) && below(1)),
    })
}

/// Generator lateness at 50,000/s with the broker on the same cores.
pub(super) fn lateness(lab: &mut Lab) -> anyhow::Result<Row> {
    let url = lab.server("kafka")?;
    let load = Load::new("50k/s", 1_024);
    let mut late = Vec::new();
    for _ in 0..lab.repetitions {
        let outcome = lab.program.run(&load, &url, |_| Ok(()))?;
        late.push(outcome.cell()?.fitness.late_p999_ns as f64 / 1e6);
    }
    let late = Spread::of(&late);
    Ok(Row {
        what: "Kafka, 50,000/s of 1 KiB: generator lateness p99.9, counted in the response time".into(),
        found: format!("{} ms", late.show(2)),
        reference: "the schedule".into(),
        ratio: "–".into(),
        goal: "median ≤ 8 ms".into(),
        met: Some(late.median <= 8.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ours: &[(f64, f64)], theirs: &[(f64, f64)]) -> Pair {
        let samples = |of: &[(f64, f64)]| of.iter().map(|&(rate, cpu_us)| Sample { rate, cpu_us }).collect();
        Pair { ours: samples(ours), theirs: samples(theirs) }
    }

    #[test]
    fn a_goal_wants_rate_and_cpu() {
        let goal = Some(Goal { rate: 1.0, cpu: 0.7 });
        let met = |ours: (f64, f64)| pair(&[ours], &[(100_000.0, 4.0)]).row("x".into(), goal).unwrap().met;
        assert_eq!(met((100_000.0, 2.8)), Some(true));
        assert_eq!(met((99_000.0, 2.0)), Some(false), "too slow");
        assert_eq!(met((200_000.0, 3.0)), Some(false), "too dear");
        assert_eq!(pair(&[(1.0, 1.0)], &[(1.0, 1.0)]).row("x".into(), None).unwrap().met, None);
    }

    #[test]
    fn medians_are_compared_and_ranges_shown() {
        let row = pair(&[(1_000.0, 1.0), (3_000.0, 9.0), (2_000.0, 2.0)], &[(1_000.0, 4.0); 3]).row("x".into(), None);
        let row = row.unwrap();
        assert_eq!(
            (row.found.as_str(), row.ratio.as_str()),
            ("2.0 (1.0–3.0) k/s at 2.00 (1.00–9.00) µs", "2.00 at 0.50")
        );
        assert!(pair(&[], &[]).row("x".into(), None).is_err());
    }
}
