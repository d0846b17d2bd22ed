//! What the vendors' own load tools print: progress lines, final quantiles, a topic's leader.
//!
//! Pure text in, figures out; held against recorded output in `samples`. Leaves out running the tools.

/// One of the vendors' load tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// Kafka's `ProducerPerformance`.
    Producer,
    /// Kafka's `ConsumerPerformance` with `--show-detailed-stats`.
    Consumer,
    /// RabbitMQ's `PerfTest`.
    PerfTest,
}

/// What a progress line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Progress {
    /// So many messages since the line before.
    More(f64),
    /// So many since the start.
    Total(f64),
    /// So many in each second, at this second since the start.
    PerSecond {
        /// Seconds since the start.
        at_s: f64,
        /// Messages each second since the line before: received, so sent and confirmed too.
        rate: f64,
    },
}

impl Tool {
    /// A progress line's content; none for any other line, summaries included.
    pub(super) fn progress(self, line: &str) -> Option<Progress> {
        match self {
            Self::Producer => producer(line),
            Self::Consumer => consumer(line),
            Self::PerfTest => perf_test(line),
        }
    }
}

/// `38275 records sent, 38236.8 records/sec (37.34 MB/sec), 171.1 ms avg latency, 430.0 ms max latency.`; the summary has quantiles.
fn producer(line: &str) -> Option<Progress> {
    let (count, rest) = line.split_once(" records sent, ")?;
    if rest.contains("50th") {
        return None;
    }
    count.trim().parse().ok().map(Progress::More)
}

/// `2026-11-23 04:51:54:666, 0, 74.5146, 57.3203, 76303, 58696.0000, …`: the fifth column counts from the start.
fn consumer(line: &str) -> Option<Progress> {
    let columns: Vec<&str> = line.split(", ").collect();
    if columns.len() < 10 || !columns[0].starts_with("20") {
        return None;
    }
    columns[4].trim().parse().ok().map(Progress::Total)
}

/// `id: …, time 2.001 s, sent: 8055 msg/s, confirmed: …, received: 8303 msg/s, min/median/…`.
fn perf_test(line: &str) -> Option<Progress> {
    let at_s = between(line, ", time ", " s")?.parse().ok()?;
    let rate = between(line, "received: ", " msg/s")?.parse().ok()?;
    Some(Progress::PerSecond { at_s, rate })
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inner, _)| inner)
}

/// Quantiles that `ProducerPerformance` prints at its end, in milliseconds. It knows whole milliseconds only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latency {
    /// Half took no longer.
    pub(super) p50_ms: f64,
    /// 99 % took no longer.
    pub(super) p99_ms: f64,
}

/// The quantiles of the steady state if a warm-up was cut, else of the whole run.
pub(super) fn latency(output: &str) -> Option<Latency> {
    let summaries = || output.lines().filter(|line| line.contains(" 50th, "));
    let line = summaries().find(|line| line.contains("steady state")).or_else(|| summaries().next())?;
    let of = |name: &str| {
        let (before, _) = line.split_once(name)?;
        before.rsplit(", ").next()?.trim().strip_suffix(" ms")?.parse().ok()
    };
    Some(Latency { p50_ms: of(" 50th")?, p99_ms: of(" 99th")? })
}

/// The leader of the first user topic that `TopicCommand --describe` prints, columns parted by tabs: `Topic: t`, `Partition: 0`, `Leader: 2`.
pub(super) fn kafka_leader(output: &str) -> Option<u32> {
    output
        .lines()
        .filter(|line| line.contains("Partition: ") && !line.contains("Topic: __"))
        .find_map(|line| between(line, "Leader: ", "\t")?.trim().parse().ok())
}

/// The port in the leader's node name of the first queue in `rabbitmqctl`'s or the management's listing: `"leader":"brokerlab36672@localhost"`.
pub(super) fn rabbitmq_leader_port(json: &str) -> Option<u16> {
    let name = between(json, "\"leader\":\"", "@")?;
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: &str = include_str!("samples/producer.txt");
    const FIXED: &str = include_str!("samples/fixed.txt");
    const CONSUMER: &str = include_str!("samples/consumer.txt");
    const PERF_TEST: &str = include_str!("samples/perf-test.txt");

    fn progress(tool: Tool, text: &str) -> Vec<Progress> {
        text.lines().filter_map(|line| tool.progress(line)).collect()
    }

    #[test]
    fn producer_lines_count_and_the_summary_does_not() {
        let lines = progress(Tool::Producer, PRODUCER);
        assert_eq!((lines.len(), lines[1]), (13, Progress::More(38_275.0)));
        // Two summaries, a heading and a line about the warm-up are no progress.
        assert_eq!(progress(Tool::Producer, FIXED).len(), 5);
    }

    #[test]
    fn consumer_lines_are_totals() {
        let lines = progress(Tool::Consumer, CONSUMER);
        assert_eq!((lines.len(), lines[5]), (6, Progress::Total(807_543.0)));
    }

    #[test]
    fn perf_test_lines_are_rates_and_averages_are_no_progress() {
        let lines = progress(Tool::PerfTest, PERF_TEST);
        assert_eq!((lines.len(), lines[1]), (6, Progress::PerSecond { at_s: 2.001, rate: 8_303.0 }));
    }

    #[test]
    fn the_steady_state_goes_before_the_whole_run() {
        assert_eq!(latency(FIXED), Some(Latency { p50_ms: 1_549.0, p99_ms: 2_351.0 }));
        assert_eq!(latency(PRODUCER), Some(Latency { p50_ms: 301.0, p99_ms: 804.0 }));
        assert_eq!(latency("1 records sent"), None);
    }

    #[test]
    fn a_tool_reads_no_other_tools_lines() {
        for (tool, text) in [(Tool::Producer, CONSUMER), (Tool::Consumer, PERF_TEST), (Tool::PerfTest, PRODUCER)] {
            assert_eq!(progress(tool, text), []);
        }
    }

    #[test]
    fn leaders_are_found_and_internal_topics_are_not_asked() {
        let text = "Topic: __consumer_offsets\tTopicId: x\tPartitionCount: 1\n\
                    \tTopic: __consumer_offsets\tPartition: 0\tLeader: 3\tReplicas: 3,1,2\tIsr: 3,1,2\n\
                    Topic: bl-1\tTopicId: y\tPartitionCount: 1\tReplicationFactor: 3\tConfigs: \n\
                    \tTopic: bl-1\tPartition: 0\tLeader: 2\tReplicas: 2,3,1\tIsr: 2,3,1\tElr: \n";
        assert_eq!(kafka_leader(text), Some(2));
        assert_eq!(kafka_leader("Topic: t\tPartition: 0\tLeader: none\tReplicas: 1\n"), None);
        let queues = r#"[{"leader":"brokerlab36672@localhost","name":"q"}]"#;
        assert_eq!(rabbitmq_leader_port(queues), Some(36_672));
        assert_eq!(rabbitmq_leader_port("[]"), None);
    }
}
