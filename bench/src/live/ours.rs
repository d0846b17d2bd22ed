//! This program's side: a profile, run by `brokerlab run` as a user would, and what its result file says.
//!
//! Leaves out what is concluded. CPU is that of the whole process — generator, recorder and checker included — over the window.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use brokerlab_host::{Clock as _, WallClock};
use brokerlab_reports::result::ResultFile;
use brokerlab_workloads::measurement::{IntervalRecord, Measurement};

use super::Sample;
use super::process::{Look, look};

/// How often a process is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A load, from which a profile is written.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Seconds before the window.
    pub(super) warmup_s: u32,
    /// Seconds of the window.
    pub(super) window_s: u32,
    /// How long unfinished messages are followed.
    pub(super) drain: &'static str,
    /// `arrivals = …`
    pub(super) arrivals: String,
    /// Bytes of a message.
    pub(super) bytes: u32,
    /// Deliveries that the consumer holds.
    pub(super) prefetch: u32,
    /// How long the consumer stands still from the window's start; nothing for not at all.
    pub(super) consumer_pause_s: u32,
    /// Copies that the contract asks.
    pub(super) copies: u32,
    /// `[[faults]]` and other tables, as they stand in a profile.
    pub(super) more: String,
}

impl Load {
    /// One producer, one lane, one consumer; 3 s of warm-up and 10 s of window, then whatever is left does not matter.
    pub(super) fn new(rate: &str, bytes: u32) -> Self {
        Self {
            warmup_s: 3,
            window_s: 10,
            drain: "100ms",
            arrivals: format!("{{ kind = \"constant\", rate = \"{rate}\" }}"),
            bytes,
            prefetch: 500,
            consumer_pause_s: 0,
            copies: 1,
            more: String::new(),
        }
    }

    /// The profile's text.
    pub(super) fn profile(&self) -> String {
        let mut text = format!(
            "name = \"figure\"\nabout = \"One producer, one lane, one consumer. For a figure only.\"\n\
             contract = \"at-least-once, per-key, page-cache, copies={}, decoupled\"\n\
             duration = \"{}s\"\nwarmup = \"{}s\"\ndrain_limit = \"{}\"\narrivals = {}\nproducers = 1\nlanes = 1\n\
             keys = {{ kind = \"uniform\", count = 1 }}\nsizes = \"{}B\"\n\n\
             [[groups]]\nname = \"consumers\"\nmembers = 1\nprefetch = {}\n",
            self.copies, self.window_s, self.warmup_s, self.drain, self.arrivals, self.bytes, self.prefetch
        );
        if self.consumer_pause_s > 0 {
            let _ = write!(
                text,
                "\n[[pauses]]\ngroup = \"consumers\"\nat = \"0s\"\nfor = \"{}s\"\n",
                self.consumer_pause_s
            );
        }
        text + &self.more
    }
}

/// What one run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The result file.
    pub(super) result: ResultFile,
    /// Exit status; none when a signal ended it.
    pub(super) exit: Option<i32>,
    /// How long the process lived.
    pub(super) elapsed_s: f64,
    /// Looks at the process: UTC in nanoseconds, what was seen.
    pub(super) looks: Vec<(u64, Look)>,
}

impl Outcome {
    /// The run's only cell.
    pub(super) fn cell(&self) -> anyhow::Result<&Measurement> {
        self.result.cells.first().context("the result has no cell")
    }
}

/// The program and where it works.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    brokers: PathBuf,
}

impl Program {
    /// The `brokerlab` beside this program; faults find their servers in `brokers`.
    pub(super) fn beside(brokers: &Path) -> anyhow::Result<Self> {
        let here = std::env::current_exe().context("can't find the path of this program")?;
        let path = here.parent().context("this program lies in no folder")?.join("brokerlab");
        anyhow::ensure!(path.exists(), "{} is not built; run scripts/figures, which builds it", path.display());
        Ok(Self { path, brokers: brokers.to_path_buf() })
    }

    /// Runs a load to its end and reads its result. `meanwhile` is called between looks, with the seconds since the start.
    pub(super) fn run(
        &self,
        load: &Load,
        url: &str,
        mut meanwhile: impl FnMut(f64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let folder = tempfile::tempdir()?;
        let (profile, out) = (folder.path().join("figure.toml"), folder.path().join("out"));
        std::fs::write(&profile, load.profile())?;
        let messages = std::fs::File::create(folder.path().join("messages"))?;
        // A loop that spins would show a core's worth of CPU for any number of messages.
        let mut child = Command::new(&self.path)
            .args(["run", "--quiet", "--waiting", "park", "--no-warm-up", "--backend", url, "--profile"])
            .arg(&profile)
            .arg("--out")
            .arg(&out)
            .env("BROKERLAB_BROKERS_DIR", &self.brokers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()
            .context("can't run brokerlab")?;
        let clock = WallClock::new();
        let mut looks = Vec::new();
        let limit_s = f64::from(load.warmup_s + load.window_s) + 180.0;
        let (status, elapsed_s) = loop {
            let at_s = clock.now().0 as f64 / 1e9;
            if let Some(status) = child.try_wait()? {
                break (status, at_s);
            }
            looks.extend(look(child.id()).map(|look| (clock.origin_utc_ns() + clock.now().0, look)));
            let kept_on = meanwhile(at_s);
            if at_s > limit_s || kept_on.is_err() {
                child.kill()?;
                child.wait()?;
                kept_on?;
                anyhow::bail!("brokerlab did not end within {limit_s} s on {url}");
            }
            std::thread::sleep(BETWEEN_LOOKS);
        };
        let result = ResultFile::read(&out.join("results.json")).with_context(|| {
            let said = std::fs::read_to_string(folder.path().join("messages")).unwrap_or_default();
            format!("brokerlab on {url} ended with {status}: {}", said.trim())
        })?;
        Ok(Outcome { result, exit: status.code(), elapsed_s, looks })
    }
}

/// The intervals that lie in the window.
fn window(cell: &Measurement) -> impl Iterator<Item = &IntervalRecord> {
    let (begin, end) = (cell.window.warmup_ns, cell.window.warmup_ns + cell.window.duration_ns);
    cell.intervals.iter().filter(move |i| i.start_ns >= begin && i.start_ns + i.length_ns <= end)
}

/// What broke the contract, of all groups; a rate of messages that went wrong is none.
pub(super) fn broken(cell: &Measurement) -> Vec<String> {
    cell.groups.iter().flat_map(|group| group.check.broken.iter().cloned()).collect()
}

/// Rate of acknowledged publishes in the window, and the process's CPU per message of window and drain.
pub(super) fn published(cell: &Measurement) -> Option<Sample> {
    let (mut messages, mut ns) = (0, 0);
    for interval in window(cell) {
        messages += interval.acknowledged;
        ns += interval.length_ns;
    }
    let before: u64 =
        cell.intervals.iter().filter(|i| i.start_ns < cell.window.warmup_ns).map(|i| i.acknowledged).sum();
    let in_all = cell.counts.published_in_all.saturating_sub(before);
    (messages > 0 && in_all > 0).then(|| Sample {
        rate: messages as f64 / (ns as f64 / 1e9),
        cpu_us: (cell.resources.cpu_user_ns + cell.resources.cpu_system_ns) as f64 / 1_000.0 / in_all as f64,
    })
}

/// Rate and CPU per message of consuming alone: over the intervals of the schedule from `from_ns` on that are full of deliveries.
pub(super) fn consumed(outcome: &Outcome, from_ns: u64) -> anyhow::Result<Option<Sample>> {
    let cell = outcome.cell()?;
    let Some(full) = full_of_deliveries(&cell.intervals, from_ns) else { return Ok(None) };
    let messages: u64 = full.iter().map(|i| i.delivered).sum();
    let (begin, end) = (full[0].start_ns, full[full.len() - 1].start_ns + full[full.len() - 1].length_ns);
    let at = |ns: u64| cpu_at(&outcome.looks, cell.window.origin_utc_ns + ns);
    let Some(cpu) = at(begin).zip(at(end)).map(|(from, to)| to - from) else { return Ok(None) };
    Ok(Some(Sample { rate: messages as f64 / ((end - begin) as f64 / 1e9), cpu_us: cpu / 1_000.0 / messages as f64 }))
}

/// The intervals between the first and the last in which a backlog was drained: these two are begun or ended in their midst. The few messages
/// that are published meanwhile drain no backlog.
fn full_of_deliveries(intervals: &[IntervalRecord], from_ns: u64) -> Option<&[IntervalRecord]> {
    let from = intervals.iter().position(|interval| interval.start_ns >= from_ns)?;
    let after = &intervals[from..];
    let most = after.iter().map(|interval| interval.delivered).max().unwrap_or(0);
    let drains = |interval: &IntervalRecord| interval.delivered > most / 100;
    let first = after.iter().position(drains)?;
    let count = after[first..].iter().take_while(|interval| drains(interval)).count();
    after.get(first + 1..(first + count).saturating_sub(1)).filter(|full| !full.is_empty())
}

/// CPU in nanoseconds at a moment between two looks, in a straight line.
fn cpu_at(looks: &[(u64, Look)], utc_ns: u64) -> Option<f64> {
    let after = looks.iter().position(|(at, _)| *at >= utc_ns)?;
    let ((from, low), (to, high)) = (looks.get(after.checked_sub(1)?)?, looks.get(after)?);
    let share = (utc_ns - from) as f64 / (to - from).max(1) as f64;
    Some(low.cpu_ns as f64 + share * (high.cpu_ns.saturating_sub(low.cpu_ns)) as f64)
}

#[cfg(test)]
mod tests {
    use brokerlab_workloads::profile::Profile;

    use super::*;

    #[test]
    fn every_load_is_a_profile() {
        let mut load = Load::new("5M/s", 1_024);
        assert!(Profile::parse(&load.profile(), "figure.toml").is_ok());
        load.consumer_pause_s = 10;
        load.more = "\n[[faults]]\nat = \"2s\"\naction = \"pause\"\nfor = \"5s\"\n".into();
        let profile = Profile::parse(&load.profile(), "figure.toml").unwrap();
        assert_eq!((profile.pauses.len(), profile.faults.len(), profile.groups[0].prefetch), (1, 1, 500));
    }

    #[test]
    fn intervals_are_full_between_the_first_and_the_last_that_drain() {
        let intervals = |delivered: &[u64]| -> Vec<IntervalRecord> {
            let record = |(at, &delivered)| IntervalRecord {
                start_ns: at as u64 * 10,
                length_ns: 10,
                delivered,
                ..IntervalRecord::default()
            };
            delivered.iter().enumerate().map(record).collect()
        };
        let counts = |delivered: &[u64]| {
            let intervals = intervals(delivered);
            full_of_deliveries(&intervals, 20).map(|full| full.iter().map(|i| i.delivered).collect::<Vec<_>>())
        };
        assert_eq!(counts(&[900, 900, 0, 400, 1_000, 990, 30, 1, 0, 1]), Some(vec![1_000, 990]));
        assert_eq!(counts(&[900, 900, 0, 400, 1_000, 1]), None, "no interval lies between");
        assert_eq!(counts(&[900, 900, 0, 0]), None);
    }

    #[test]
    fn cpu_between_two_looks_is_in_proportion() {
        let look = |at, cpu_ns| (at, Look { cpu_ns, rss_bytes: 0 });
        let looks = [look(100, 1_000), look(200, 3_000)];
        assert_eq!(cpu_at(&looks, 150), Some(2_000.0));
        assert_eq!((cpu_at(&looks, 50), cpu_at(&looks, 250)), (None, None));
    }
}
