//! Visits: one run in a child process of the same binary, with a fresh folder for its data.
//!
//! The parent writes a [`VisitSpec`] to the child's standard input as one line of JSON and keeps it open; closing it ends the run
//! early. The child answers with lines of JSON: how far it is, then the measurement. Leaves out which backend the child opens, which
//! its caller says.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use brokerlab_model::{Broker, Contract, Span};
use brokerlab_workloads::measurement::{LiveRecord, Measurement, Point, World};
use brokerlab_workloads::{Profile, ProfileError, Workload, profile};
use serde::{Deserialize, Serialize};

use crate::clock::{Clock as _, WallClock};
use crate::faults::Servers;
use crate::fitness::dirty_bytes;
use crate::run::{Around, run_around};
use crate::served::Served;
use crate::shared::locked;
use crate::spec::{Progress, RunSpec, Server};
use crate::started::{Leader, Started};
use crate::wait::Waiting;

/// Beside schedule and drain, a child may take this long before it counts as hung.
const HUNG_AFTER: Duration = Duration::from_secs(60);
/// After it was asked to stop, a child may take this long for its answer.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How often the stop flag is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Of what a child wrote to standard error, this much of the end is kept.
const STDERR_KEPT: usize = 8 << 10;
/// The priority of loops beside a real broker, where the system grants it.
const PREFERRED: i32 = -10;
/// Less than this in the page cache counts as written back.
const WRITTEN_BACK: u64 = 1 << 20;

/// What one visit is to do: everything that a child needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisitSpec {
    /// The profile's text, before overrides.
    pub profile: String,
    /// Where the text came from: a built-in profile's name, or a path.
    pub profile_name: String,
    /// Overrides, in order.
    pub sets: Vec<(String, String)>,
    /// Factor on the profile's load: its rate is multiplied by it, its consumers' work divided.
    pub load_factor: f64,
    /// The row's label.
    pub row: String,
    /// The backend as it was asked for.
    pub backend_url: String,
    /// The promise asked of it.
    pub contract: Contract,
    /// Its world.
    pub world: World,
    /// Which part of a comparison this is.
    pub point: Point,
    /// Lanes per channel.
    pub lanes: u32,
    /// `in-process` or `loopback`.
    pub transport: String,
    /// How many loops.
    pub threads: usize,
    /// How they wait.
    pub waiting: Waiting,
    /// The seed in use.
    pub seed: u64,
    /// Which replication of it.
    pub replication: u32,
    /// The number in every stamp.
    pub run: u32,
    /// The folder in which a fresh one is made for the visit and removed afterwards; none when nothing is stored.
    pub data: Option<PathBuf>,
    /// Begins the name of everything that the visit makes on a real broker.
    pub prefix: String,
    /// Whether channels are there already, under their own names.
    pub existing: bool,
    /// Servers under test on this machine.
    pub servers: Vec<Server>,
}

impl VisitSpec {
    /// The profile with its overrides and its factor.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        let name = &self.profile_name;
        let built_in = profile::builtin().iter().any(|(built_in, _)| built_in == name);
        let folder = if built_in { None } else { Some(Path::new(name).parent().unwrap_or(Path::new(""))) };
        let parsed = Profile::parse_with(&self.profile, name, folder, &self.sets)?;
        Ok(parsed.with_load_factor(self.load_factor))
    }

    /// What [`run`](crate::run) is asked for.
    pub fn run_spec(&self) -> Result<RunSpec, ProfileError> {
        Ok(RunSpec {
            workload: Workload::new(&self.profile()?, self.seed, self.replication),
            contract: self.contract,
            row: self.row.clone(),
            backend_url: self.backend_url.clone(),
            world: self.world,
            point: self.point.clone(),
            lanes: self.lanes,
            transport: self.transport.clone(),
            threads: self.threads,
            waiting: self.waiting,
            run: self.run,
            servers: self.servers.clone(),
        })
    }
}

/// One line of a child's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Progress(Progress),
    Measurement(Box<Measurement>),
    Error(String),
}

/// Why a visit has no measurement.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// The profile can't be read again.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// No folder for its data could be made.
    #[error("can't make a folder for the visit's data in {}: {source}; name another with --data DIR", folder.display())]
    Folder {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The child could not be started.
    #[error("can't start {}: {source}", exe.display())]
    Spawn {
        /// Which program.
        exe: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The child says that it can't.
    #[error("{0}")]
    Refused(String),
    /// The child ended without an answer.
    #[error("the visit of {row} ended without a measurement ({status}){}", last_words(stderr))]
    Died {
        /// Which row.
        row: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The child did not end in time and was killed.
    #[error("the visit of {row} did not end within {limit_s} s and was killed; is the backend hung?")]
    Hung {
        /// Which row.
        row: String,
        /// After how many seconds.
        limit_s: u64,
    },
    /// The child could not be waited for.
    #[error("lost the visit's process: {0}")]
    Lost(#[source] io::Error),
}

fn last_words(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() { String::new() } else { format!("; it wrote:\n{text}") }
}

/// Runs one visit in a child process: `exe` with `args`, which is to call [`serve`].
///
/// When `stop` is raised the child is asked to end early, and its measurement is returned marked as cut short.
pub fn spawn(
    exe: &Path,
    args: &[&OsStr],
    spec: &VisitSpec,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Measurement, VisitError> {
    let profile = spec.profile()?;
    let schedule = profile.warmup + profile.duration + profile.drain_limit;
    let limit = Duration::from_nanos(schedule.0) + HUNG_AFTER;
    let folder = spec.data.as_deref().map(FreshFolder::new).transpose()?;
    let spec = VisitSpec { data: folder.as_ref().map(|folder| folder.path.clone()), ..spec.clone() };
    let mut child = Command::new(exe)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| VisitError::Spawn { exe: exe.to_owned(), source })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let child = Mutex::new(child);
    let (ended, hung) = (AtomicBool::new(false), AtomicBool::new(false));
    let (answer, stderr) = std::thread::scope(|scope| {
        let words = scope.spawn(move || stderr.map(tail).unwrap_or_default());
        let spec = &spec;
        let (child, ended, hung) = (&child, &ended, &hung);
        let watch = scope.spawn(move || watch(stdin, spec, child, stop, ended, hung, limit));
        let answer = stdout.and_then(|stdout| read_answer(stdout, progress));
        ended.store(true, Ordering::Release);
        watch.thread().unpark();
        (answer, words.join().unwrap_or_default())
    });
    let status = locked(&child).wait().map_err(VisitError::Lost)?;
    if !matches!(answer, Some(Ok(_))) {
        bring_back(&profile, &spec.backend_url);
    }
    match answer {
        Some(Ok(measurement)) => Ok(*measurement),
        Some(Err(refused)) => Err(VisitError::Refused(refused)),
        None if hung.load(Ordering::Acquire) => Err(VisitError::Hung { row: spec.row, limit_s: limit.as_secs() }),
        None => Err(VisitError::Died { row: spec.row, status, stderr }),
    }
}

/// A visit that died or was killed may have left a server paused or killed.
fn bring_back(profile: &Profile, url: &str) {
    if let Some(server) = Started::find_any(url, &profile.faults) {
        // What can't be brought back shows in the next visit, or in `scripts/brokers status`.
        let _ = server.restore(&profile.faults);
    }
}

/// Hands the child its task, and closes its standard input when the run is to stop. Kills it when it hangs.
fn watch(
    stdin: Option<ChildStdin>,
    spec: &VisitSpec,
    child: &Mutex<Child>,
    stop: &AtomicBool,
    ended: &AtomicBool,
    hung: &AtomicBool,
    limit: Duration,
) {
    let mut stdin = stdin;
    if let (Some(pipe), Ok(mut line)) = (&mut stdin, serde_json::to_string(spec)) {
        line.push('\n');
        // A child that does not read any more has died, which its missing answer tells.
        let _ = pipe.write_all(line.as_bytes());
    }
    let mut until = Instant::now() + limit;
    while !ended.load(Ordering::Acquire) {
        if stop.load(Ordering::Acquire) && stdin.take().is_some() {
            until = until.min(Instant::now() + STOP_LIMIT);
        }
        if Instant::now() >= until && !hung.swap(true, Ordering::AcqRel) {
            let _ = locked(child).kill();
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Reads the child's lines up to its answer; none when they end before.
fn read_answer(stdout: impl Read, progress: &mut dyn FnMut(&Progress)) -> Option<Result<Box<Measurement>, String>> {
    for line in BufReader::new(stdout).lines() {
        match serde_json::from_str(&line.ok()?).ok()? {
            Line::Progress(told) => progress(&told),
            Line::Measurement(measurement) => return Some(Ok(measurement)),
            Line::Error(error) => return Some(Err(error)),
        }
    }
    None
}

/// The last of what is read.
fn tail(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        let surplus = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A backend that a child opened.
#[allow(missing_debug_implementations, reason = "it holds a function")]
pub struct Opened {
    /// The backend.
    pub broker: Box<dyn Broker>,
    /// What a real one told of itself.
    pub live: Option<LiveRecord>,
    /// How to ask it which node leads, for faults that act on that one.
    pub leader: Option<Leader>,
    /// The process of its own that it runs in; lives as long as the visit.
    pub served: Option<Served>,
}

/// How a child opens the backend that its task names, told the UTC of the run's origin; an error is told to the parent as it is.
pub type Open<'a> = dyn FnMut(&VisitSpec, u64) -> Result<Opened, String> + 'a;

/// The child's side: reads a task from standard input, opens the backend, runs it, and answers on standard output.
///
/// `stop` is raised when standard input ends; whoever else raises it ends the run early too. Returns whether there was a measurement.
pub fn serve(open: &mut Open<'_>, stop: &Arc<AtomicBool>) -> io::Result<bool> {
    let mut task = String::new();
    io::stdin().lock().read_line(&mut task)?;
    let asked = Arc::clone(stop);
    // Not joined: it sleeps in a read until the parent lets go.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        asked.store(true, Ordering::Release);
    });
    let answer = answer(&task, open, stop);
    let measured = matches!(answer, Line::Measurement(_));
    say(&answer)?;
    Ok(measured)
}

fn answer(task: &str, open: &mut Open<'_>, stop: &AtomicBool) -> Line {
    let spec: VisitSpec = match serde_json::from_str(task) {
        Ok(spec) => spec,
        Err(error) => return Line::Error(format!("the visit's task can't be read: {error}")),
    };
    let mut run_spec = match spec.run_spec() {
        Ok(run_spec) => run_spec,
        Err(error) => return Line::Error(error.to_string()),
    };
    let clock = WallClock::new();
    let mut opened = match open(&spec, clock.origin_utc_ns()) {
        Ok(opened) => opened,
        Err(error) => return Line::Error(error),
    };
    if let Some(served) = &opened.served {
        let name = opened.broker.capabilities().name.to_owned();
        run_spec.servers.push(Server { name, pid: served.pid(), own: true });
    }
    if spec.world == World::Live || opened.served.is_some() {
        prefer_loops();
    }
    // A parent that reads no more has gone: its end of standard input is closed too, and that ends the run.
    let mut tell = |progress: &Progress| drop(say(&Line::Progress(*progress)));
    let faults = &run_spec.workload.profile().faults;
    let server = match (!faults.is_empty()).then(|| Started::find(&spec.backend_url, faults)).transpose() {
        Ok(server) => server,
        Err(error) => return Line::Error(error.to_string()),
    };
    let server = server.map(|server| server.led_by(opened.leader.take()));
    let mut around = Around { servers: server.as_ref().map(|server| server as &dyn Servers), ..Around::default() };
    match run_around(&mut *opened.broker, &run_spec, &clock, stop, &mut tell, &mut around) {
        Ok(measurement) => Line::Measurement(Box::new(Measurement { live: opened.live, ..measurement })),
        Err(error) => Line::Error(error.to_string()),
    }
}

/// Puts the generator before a broker that shares its cores: it needs little, and has to be on time; on a machine of its own it would
/// have them for itself. Where the system does not allow it the loops stay as they are, and the result says so.
fn prefer_loops() {
    let _ = rustix::process::setpriority_process(None, PREFERRED);
}

fn say(line: &Line) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A folder that did not exist before; removed with everything in it when it is dropped.
#[derive(Debug)]
pub struct FreshFolder {
    path: PathBuf,
}

impl FreshFolder {
    /// Makes a folder in `parent`, which is made too if it is missing (and then stays).
    pub fn new(parent: &Path) -> Result<Self, VisitError> {
        let failed = |source| VisitError::Folder { folder: parent.to_owned(), source };
        std::fs::create_dir_all(parent).map_err(failed)?;
        for number in 0..10_000 {
            let path = parent.join(format!("brokerlab-visit-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::Error::from(io::ErrorKind::AlreadyExists)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FreshFolder {
    fn drop(&mut self) {
        // What can't be removed is left: it holds nothing but generated messages.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Waits until the page cache has been written back, at most for `limit`. Returns what is left in bytes; none where the system does
/// not tell.
pub fn wait_for_write_back(limit: Span) -> Option<u64> {
    let until = Instant::now() + Duration::from_nanos(limit.0);
    loop {
        let left = dirty_bytes()?;
        if left <= WRITTEN_BACK || Instant::now() >= until {
            return Some(left);
        }
        std::thread::park_timeout(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_fresh_and_only_they_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("mine"), b"x").unwrap();
        let (first, second) = (FreshFolder::new(parent.path()).unwrap(), FreshFolder::new(parent.path()).unwrap());
        assert_ne!(first.path(), second.path());
        std::fs::write(first.path().join("segment"), b"x").unwrap();
        drop((first, second));
        let left: Vec<_> = std::fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["mine"]);
    }

    #[test]
    fn the_end_of_what_was_written_is_kept() {
        let mut text = "x".repeat(20_000);
        text.push_str("the end");
        let kept = tail(text.as_bytes());
        assert_eq!(kept.len(), STDERR_KEPT);
        assert!(kept.ends_with("the end"));
    }

    #[test]
    fn an_answer_ends_with_a_measurement_or_with_the_reason_why_there_is_none() {
        let mut told = 0;
        let progress = serde_json::to_string(&Line::Progress(Progress::default())).unwrap();
        let error = serde_json::to_string(&Line::Error("no".to_owned())).unwrap();
        let text = format!("{progress}\n{progress}\n{error}\n");
        let answer = read_answer(text.as_bytes(), &mut |_| told += 1);
        assert_eq!((answer.unwrap().unwrap_err(), told), ("no".to_owned(), 2));
        assert!(read_answer(progress.as_bytes(), &mut |_| {}).is_none());
        assert!(read_answer(&b"garbage\n"[..], &mut |_| {}).is_none());
    }
}
