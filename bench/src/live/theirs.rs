//! The vendors' own load tools as the reference: run by `java` from their jars, their warm seconds timed from outside.
//!
//! Rate and CPU are those of the lines after the warm-up: messages by the tool's own count, time and CPU as they were when each line
//! arrived. So a virtual machine that is still compiling is not held against them. Leaves out which rows there are.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context as _;
use brokerlab_host::{Clock as _, WallClock};

use super::Sample;
use super::parse::{Progress, Tool};
use super::process::look;

/// How long a tool may be silent before it counts as hung.
const SILENCE: Duration = Duration::from_secs(60);

/// A line of a tool's output, with when it came and what the tool had used by then.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    /// Seconds since the tool was started.
    pub(super) at_s: f64,
    /// Its CPU in nanoseconds.
    pub(super) cpu_ns: u64,
    /// The text.
    pub(super) line: String,
}

/// Java with a class path.
#[derive(Clone, Debug)]
pub(super) struct Java {
    jars: PathBuf,
}

impl Java {
    /// Of a folder of jars.
    pub(super) fn new(jars: &Path) -> Self {
        Self { jars: jars.to_path_buf() }
    }

    fn command(&self, class: &str, arguments: &[String]) -> Command {
        let mut command = Command::new("java");
        command
            .arg("-Dlog4j2.configurationFile=scripts/brokers.d/kafka-log4j2.properties")
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg(class)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a short tool to its end and gives what it printed.
    pub(super) fn run(&self, class: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let output = self.command(class, &arguments).output().context("can't run java")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(
            output.status.success(),
            "{class} {} failed: {text}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()
        );
        Ok(text)
    }

    /// Runs a load tool until it ends, or until `enough` says so of the lines so far.
    pub(super) fn watch(
        &self,
        class: &str,
        arguments: &[String],
        enough: impl Fn(&[Tick]) -> bool,
    ) -> anyhow::Result<Vec<Tick>> {
        let child = self.command(class, arguments).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = Ended(child.context("can't run java")?);
        let lines = lines(&mut child.0)?;
        let mut ticks: Vec<Tick> = Vec::new();
        loop {
            match lines.recv_timeout(SILENCE) {
                Ok(tick) => ticks.push(tick),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(ticks),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    anyhow::bail!("{class} has printed nothing for {} s", SILENCE.as_secs())
                }
            }
            if enough(&ticks) {
                return Ok(ticks);
            }
        }
    }
}

/// A process that does not outlive this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(child: &mut Child) -> anyhow::Result<Receiver<Tick>> {
    let out = BufReader::new(child.stdout.take().context("standard output is piped")?);
    let pid = child.id();
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let clock = WallClock::new();
        for line in out.lines().map_while(Result::ok) {
            let cpu_ns = look(pid).map_or(0, |look| look.cpu_ns);
            if send.send(Tick { at_s: clock.now().0 as f64 / 1e9, cpu_ns, line }).is_err() {
                return;
            }
        }
    });
    Ok(receive)
}

/// Rate and CPU per message of the progress lines later than `warm_s` after the first one, over at most `window_s`. None if there
/// are fewer than two.
pub(super) fn warm(tool: Tool, ticks: &[Tick], warm_s: f64, window_s: f64) -> Option<Sample> {
    let mut first = None;
    let mut begin: Option<&Tick> = None;
    let mut last_total = 0.0;
    let mut last_at = 0.0;
    let mut messages = 0.0;
    let mut sample = None;
    for tick in ticks {
        let Some(progress) = tool.progress(&tick.line) else { continue };
        let more = match progress {
            Progress::More(more) => more,
            Progress::Total(total) => total - std::mem::replace(&mut last_total, total),
            Progress::PerSecond { at_s, rate } => rate * (at_s - std::mem::replace(&mut last_at, at_s)),
        };
        let warm_at = *first.get_or_insert(tick.at_s) + warm_s;
        let Some(from) = begin else {
            if tick.at_s >= warm_at {
                begin = Some(tick);
            }
            continue;
        };
        if tick.at_s - from.at_s > window_s + 0.5 {
            break;
        }
        messages += more;
        let (seconds, cpu_ns) = (tick.at_s - from.at_s, tick.cpu_ns.saturating_sub(from.cpu_ns));
        // A process that has ended has no CPU to be read.
        if tick.cpu_ns > 0 && messages > 0.0 && seconds > 0.0 {
            sample = Some(Sample { rate: messages / seconds, cpu_us: cpu_ns as f64 / 1_000.0 / messages });
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(lines: &[&str]) -> Vec<Tick> {
        let tick = |(i, line): (usize, &&str)| Tick {
            at_s: 3.0 + i as f64,
            cpu_ns: 1_000_000_000 + 500_000_000 * i as u64,
            line: (*line).to_owned(),
        };
        lines.iter().enumerate().map(tick).collect()
    }

    #[test]
    fn only_the_warm_lines_count() {
        let line =
            |n: u32| format!("{n} records sent, 1.0 records/sec (1 MB/sec), 1 ms avg latency, 2 ms max latency.");
        let text = [line(7), line(9), line(1_000), line(3_000), line(5)];
        let text: Vec<&str> = text.iter().map(String::as_str).collect();
        // Warm from the second line on, and the last lies beyond the window.
        let sample = warm(Tool::Producer, &ticks(&text), 1.0, 2.0).unwrap();
        assert_eq!((sample.rate, sample.cpu_us), (2_000.0, 250.0));
        assert_eq!(warm(Tool::Producer, &ticks(&text[..1]), 1.0, 2.0), None);
    }

    #[test]
    fn totals_and_rates_become_messages() {
        let line = |total: u32| format!("2026-11-23 04:51:54:666, 0, 7.5, 5.3, {total}, 1.0, 0, 1000, 5.3, 5.0");
        let text = [line(10), line(110), line(310)];
        let sample = warm(Tool::Consumer, &ticks(&text.each_ref().map(String::as_str)), 0.0, 9.0).unwrap();
        assert!((sample.rate - 150.0).abs() < 1e-9);
        let line = |at: u32, rate: u32| format!("id: a, time {at}.000 s, sent: 1 msg/s, received: {rate} msg/s, x");
        let text = [line(1, 10), line(3, 200), line(5, 100)];
        let sample = warm(Tool::PerfTest, &ticks(&text.each_ref().map(String::as_str)), 0.0, 9.0).unwrap();
        assert!(
            (sample.rate - 300.0).abs() < 1e-9,
            "by the tool's own time: 600 messages in the two seconds between the lines"
        );
    }
}
