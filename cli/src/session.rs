//! One `run` or `compare` on its way: what was asked, the visits made so far, and the result that grows with each of them.
//!
//! Leaves out the order of visits (`plan`) and the end (`finish`).

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use brokerlab_embedded::{Transport, honour};
use brokerlab_host::visit::{VisitError, VisitSpec, spawn, wait_for_write_back};
use brokerlab_host::{Server, Waiting};
use brokerlab_live::LiveUrl;
use brokerlab_model::{Contract, Span, Unsupported};
use brokerlab_reports::figures::and_list;
use brokerlab_reports::result::{Command, Objectives, ProfileRecord, ResultFile, SCHEMA_VERSION};
use brokerlab_workloads::measurement::{ABORTED, Measurement, Point};
use brokerlab_workloads::profile::Profile;

use crate::args::{DriveArgs, OutputArgs, ProfileArgs, RowsArgs, TransportArg};
use crate::backend::{self, Backend, Met};
use crate::drive::{self, Sets};
use crate::exit::BadInput;
use crate::fixed::Case;
use crate::plan::{Depth, Row};
use crate::progress::Progress;
use crate::task::Task;
use crate::{backends, control_row, facts, fits, fixed, folder, interrupt};

/// How long write-back of an earlier visit is waited for.
const WRITE_BACK_WAIT: Span = Span::from_millis(100);
/// Dirty bytes that need no mention: less than a visit of any backend leaves.
const DIRTY_WORTH_A_NOTE: u64 = 1 << 20;

/// What is asked of real brokers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveAsked {
    /// Run one that can't keep the contract too.
    accept_weaker: bool,
    /// Use channels that are there.
    existing: bool,
    /// It is warm already.
    pub(crate) warm: bool,
}

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Session {
    /// Raised by Ctrl-C.
    pub(crate) stopped: Arc<AtomicBool>,
    pub(crate) profile: Profile,
    pub(crate) sets: Sets,
    profile_name: String,
    waiting: Waiting,
    transport: TransportArg,
    threads: u32,
    folder: tempfile::TempDir,
    quiet: bool,
    progress: Progress,
    started: u64,
    visits: u32,
    left_dirty: u64,
    pub(crate) live: LiveAsked,
    met: Vec<Met>,
    servers: Vec<Server>,
    /// A result of an earlier command is there, and is not gone on with.
    pub(crate) replaces: bool,
    /// What was found so far.
    pub(crate) result: ResultFile,
}

impl Session {
    /// Checks everything that can be checked before anything runs.
    pub(crate) fn begin(
        command: Command,
        profile: &ProfileArgs,
        drive: &DriveArgs,
        output: &OutputArgs,
        backends: &[String],
    ) -> anyhow::Result<Self> {
        for text in backends {
            Backend::parse(text)?;
        }
        let live = backends.iter().any(|text| LiveUrl::is_meant(text));
        drive::check_built(drive, live)?;
        let sets = drive::sets(profile)?;
        let loaded = drive::load(profile, &sets)?;
        let threads = drive::threads(drive)?;
        let hops = backends.iter().map(|text| Ok(Backend::parse(text)?.transport(drive.transport)));
        let hops = hops.collect::<anyhow::Result<Vec<_>>>()?;
        let waiting = drive::waiting(drive, hops.iter().any(|hop| *hop != Transport::InProcess.name()))?;
        std::fs::create_dir_all(&output.out).and_then(|()| tempfile::tempfile_in(&output.out).map(drop)).map_err(
            |error| {
                let told = format!("can't write into {}; name another folder with --out", output.out.display());
                folder::trouble(error, told)
            },
        )?;
        let folder = folder::for_data(drive.data.as_deref())?;
        let quiet = output.quiet || output.json;
        let started = facts::utc_ns();
        let result = ResultFile {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_revision: facts::revision(),
            command,
            command_line: facts::command_line(),
            started_utc_ns: started,
            elapsed_ns: 0,
            profile: record(&loaded, &sets),
            objectives: Objectives(loaded.objectives.clone()),
            contract: loaded.contract,
            seed: loaded.seed,
            host: facts::host(folder.path(), loaded.contract.storage),
            waiting: waiting.name().to_owned(),
            judgement: None,
            search: None,
            cells: Vec::new(),
            promise_ladder: backends::ladder(),
            fixed_cases: Vec::new(),
            refusals: Vec::new(),
            notes: Vec::new(),
            cut_short: None,
        };
        let session = Self {
            stopped: interrupt::flag()?,
            profile: loaded,
            sets,
            profile_name: profile.profile.clone(),
            waiting,
            transport: drive.transport,
            threads,
            folder,
            quiet,
            progress: Progress::new(0, quiet),
            started,
            visits: 0,
            left_dirty: 0,
            live: LiveAsked { accept_weaker: drive.accept_weaker, existing: drive.existing, warm: drive.no_warm_up },
            met: Vec::new(),
            servers: Vec::new(),
            replaces: output.out.join("results.json").exists(),
            result,
        };
        session.say_what_was_left();
        Ok(session)
    }

    /// Says which data were left by commands that were killed.
    fn say_what_was_left(&self) {
        let left = folder::left_behind(self.folder.path());
        if !left.is_empty() {
            let names: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
            self.say(&format!("left by commands that were killed, remove what you don't need: {}", names.join(", ")));
        }
    }

    /// The same for a command over several backends.
    pub(crate) fn begin_rows(command: Command, args: &RowsArgs, urls: &[String]) -> anyhow::Result<Self> {
        Self::begin(command, &args.profile, &args.drive, &args.output, urls)
    }

    /// The seed that orders the visits.
    pub(crate) fn seed(&self) -> u64 {
        self.profile.seed
    }

    /// The backends among `urls` that keep the contract. The others are recorded as refusals, and said.
    pub(crate) fn keepers(&mut self, urls: &[String]) -> anyhow::Result<Vec<String>> {
        let profile = self.profile.clone();
        let mut kept = Vec::new();
        for text in urls {
            if self.keeps(text, &profile)? {
                kept.push(text.clone());
            }
        }
        if kept.is_empty() {
            return Err(self.nobody_keeps(&[profile.contract]));
        }
        Ok(kept)
    }

    /// Whether a backend keeps the contract of a profile. What is refused is recorded, and said once.
    pub(crate) fn keeps(&mut self, text: &str, profile: &Profile) -> anyhow::Result<bool> {
        let backend = Backend::parse(text)?;
        let lanes = backend.lanes(profile)?;
        let answer = match &backend {
            Backend::Embedded(url) => {
                fits::check(url, lanes, profile)?;
                fits::check_storage(url, self.folder.path(), profile)?;
                honour(url, &profile.contract).map(drop)
            }
            Backend::Live(url) => self.meet(text, url, profile)?,
        };
        match answer {
            Ok(()) => {
                for pid in backend.local_processes() {
                    if !self.servers.iter().any(|server| server.pid == pid && server.name == backend.name()) {
                        self.servers.push(Server { name: backend.name().to_owned(), pid, own: false });
                    }
                }
                Ok(true)
            }
            Err(unsupported) => {
                if !self.result.refusals.contains(&unsupported) {
                    self.progress.note(&format!("left out: {unsupported}"));
                    self.result.refusals.push(unsupported);
                }
                Ok(false)
            }
        }
    }

    /// What is wrong when no backend is left that keeps one of the contracts: who else does.
    pub(crate) fn nobody_keeps(&self, contracts: &[Contract]) -> anyhow::Error {
        let reasons: Vec<_> = self.result.refusals.iter().map(ToString::to_string).collect();
        let mut asked: Vec<String> = contracts.iter().map(ToString::to_string).collect();
        asked.dedup();
        let mut refusing: Vec<&str> = self.result.refusals.iter().map(|refusal| refusal.backend.as_str()).collect();
        refusing.dedup();
        let able: Vec<String> =
            backends::keeping(contracts).into_iter().filter(|name| !refusing.contains(&name.as_str())).collect();
        let (who, able) = if able.is_empty() {
            ("no backend keeps".to_owned(), String::new())
        } else {
            (format!("{} can't keep", and_list(&refusing)), format!(", {} can", and_list(&able)))
        };
        BadInput::error(format!(
            "{who} the contract {}{able}: {}; `brokerlab backends` shows who keeps what",
            asked.join(" or "),
            reasons.join("; ")
        ))
    }

    /// Looks at a real broker, and says what the contract becomes there.
    fn meet(&mut self, text: &str, url: &LiveUrl, profile: &Profile) -> anyhow::Result<Result<(), Unsupported>> {
        fits::check_live_faults(text, profile)?;
        let asked = profile.contract;
        let examined = brokerlab_live::examine(url, asked).map_err(backend::told)?;
        fits::check_live(text, &examined.capabilities, profile)?;
        let missing = examined.mapping.missing.clone();
        if let Err(unsupported) = examined.mapping.honoured(url.scheme.name()) {
            if !self.live.accept_weaker {
                return Ok(Err(unsupported));
            }
            self.progress.note(&format!("weaker than asked, not comparable: {unsupported}"));
        }
        let contract = backend::lowered(asked, examined.mapping.kept);
        if self.met(text, asked).is_none() {
            let server = examined.server;
            self.met.push(Met { text: text.to_owned(), asked, contract, missing, server });
        }
        Ok(Ok(()))
    }

    /// What was found of a real broker under a contract; none for an embedded backend.
    fn met(&self, text: &str, asked: Contract) -> Option<&Met> {
        self.met.iter().find(|met| met.text == text && met.asked == asked)
    }

    /// The product and version that answered at a real broker's URL.
    pub(crate) fn server_at(&self, url: &str) -> Option<&str> {
        self.met.iter().find(|met| met.text == url).map(|met| met.server.as_str())
    }

    /// What is asked of a backend: the profile's contract, unless the user accepted less of a real broker or the control row keeps less.
    fn contract(&self, url: &str, profile: &Profile) -> Contract {
        let asked = profile.contract;
        match self.met(url, asked) {
            Some(met) => met.contract,
            None if url == control_row::CONTROL => control_row::kept(asked).unwrap_or(asked),
            None => asked,
        }
    }

    /// Whether real brokers are among the rows.
    pub(crate) fn is_live(&self) -> bool {
        !self.met.is_empty()
    }

    /// The fixed case of each backend in this process: exact counts that do not depend on the machine.
    pub(crate) fn fixed_cases(&mut self, urls: &[String]) -> anyhow::Result<()> {
        for text in urls {
            let Backend::Embedded(url) = Backend::parse(text)? else { continue };
            match fixed::case(&url, self.folder.path())? {
                Case::Counted(case) => self.result.fixed_cases.push(case),
                Case::NotThrough(why) => self.note(why),
                Case::Without => {}
            }
        }
        Ok(())
    }

    /// Says that a profile makes a comparison of more than about a minute, before it begins.
    pub(crate) fn note_if_longer_than_a_minute(&mut self, rows: &[Row], depth: &Depth) {
        let visits = rows.len() as u64 * (u64::from(depth.rounds) + depth.factors.len() as u64);
        let all = Span(self.profile.horizon().0.saturating_mul(visits));
        if all > Span::from_secs(90) {
            self.progress.note(&format!(
                "{} visits of {} each take about {all}; --duration shortens them",
                visits,
                self.profile.horizon()
            ));
        }
    }

    /// Says what `steps` of load (staircases, probes) assume of the consumers, and how much load they carry as configured.
    pub(crate) fn note_consumers_of(&mut self, steps: &str) {
        let groups = self.profile.groups.iter().enumerate();
        let busy: Vec<String> = groups
            .map(|(n, group)| (&group.name, self.profile.utilisation(n)))
            .filter(|(_, utilisation)| *utilisation > 0.0)
            .map(|(name, utilisation)| format!("`{name}` can do {:.1} times the load", 1.0 / utilisation))
            .collect();
        if !busy.is_empty() {
            self.result.notes.push(format!(
                "{steps} look at the backend: consumers' work is divided by the load, as if consumers were added; as configured {}",
                busy.join(", ")
            ));
        }
    }

    /// How many visits there will be.
    pub(crate) fn expect(&mut self, visits: u64) {
        self.progress = Progress::new(visits, self.quiet);
    }

    /// How many there will be after all, where that shows on the way.
    pub(crate) fn expect_in_all(&self, visits: u64) {
        self.progress.expect(visits);
    }

    /// Says something that stays.
    pub(crate) fn say(&self, line: &str) {
        self.progress.note(line);
    }

    /// Writes what there is so far, marked as not finished; the file appears whole or stays as it was.
    pub(crate) fn checkpoint(&mut self, out: &Path) -> anyhow::Result<()> {
        let why = self.result.cut_short.clone();
        self.cut_short("not finished");
        let written = self.result.write(out).context("the result was not written");
        self.result.cut_short = why;
        written.map(drop)
    }

    /// Marks the result as ended early.
    pub(crate) fn cut_short(&mut self, why: &str) {
        self.result.cut_short.get_or_insert_with(|| why.to_owned());
    }

    /// Makes one visit in a process of its own and keeps what it measured.
    pub(crate) fn visit(&mut self, row: &Row, point: Point, depth: &Depth) -> anyhow::Result<()> {
        let task = Task::of(row, point, depth, &self.profile);
        self.measure(row, &task)
    }

    /// Does one task of several. Not made, and the command is at its end: it was interrupted, or this one failed after others were
    /// made, which are worth more than a clean end and are kept.
    pub(crate) fn made(&mut self, row: &Row, task: &Task) -> anyhow::Result<bool> {
        if self.stopped.load(Ordering::Relaxed) {
            self.cut_short("interrupted");
            return Ok(false);
        }
        match self.measure(row, task) {
            Ok(()) if self.stopped.load(Ordering::Relaxed) => {
                self.cut_short("interrupted");
                Ok(false)
            }
            Ok(()) => Ok(true),
            Err(error) if self.result.cells.is_empty() => Err(error),
            Err(error) => {
                self.cut_short(&format!("{error:#}"));
                Ok(false)
            }
        }
    }

    /// Does one task in a process of its own and keeps what it measured.
    pub(crate) fn measure(&mut self, row: &Row, task: &Task) -> anyhow::Result<()> {
        let measured = self.measured(row, task)?;
        let interrupted = measured.cut_short.is_some() && self.stopped.load(Ordering::Relaxed);
        // A backend that stopped is none: nobody knows how far it would have gone.
        let finding = |why: &&String| task.may_go_too_far() && !interrupted && why.starts_with(ABORTED);
        if let Some(why) = measured.cut_short.as_ref().filter(|why| !finding(why)) {
            self.result.cut_short.get_or_insert_with(|| why.clone());
        }
        // A cell that stands for a load by itself says nothing of that load when it was broken off: half of it is no median's business.
        if !(interrupted && task.may_go_too_far()) {
            self.result.cells.push(measured);
        }
        Ok(())
    }

    /// Runs one visit in a process of its own, and removes what it made on a real broker, however it ended.
    pub(crate) fn measured(&mut self, row: &Row, task: &Task) -> anyhow::Result<Measurement> {
        let what = &task.what;
        let spec = self.spec(row, task)?;
        self.progress.now(what.clone());
        self.left_dirty = self.left_dirty.max(wait_for_write_back(WRITE_BACK_WAIT).unwrap_or(0));
        let exe = std::env::current_exe().context("can't find the path of this program")?;
        let bar = &self.progress;
        let measured = spawn(&exe, &["visit".as_ref()], &spec, &self.stopped, &mut |told| {
            // Nothing is known yet of the first moments.
            if told.rate_per_s > 0.0 {
                bar.now(format!("{what} · {:.0}/s · mean response {}", told.rate_per_s, told.response_mean));
            }
        });
        let profile = task.profile.as_ref().unwrap_or(&self.profile);
        if let Backend::Live(url) = Backend::parse(&row.url)?
            && !spec.existing
            && let Err(error) = backend::clean(&url, &spec.prefix, profile, spec.lanes)
        {
            self.progress.note(&format!("{error:#}"));
            self.result.notes.push(format!("{error:#}"));
        }
        let mut measured = measured.map_err(|error| visit_failed(what, error, &self.must_be_there()))?;
        if let (Some(live), Some(met)) = (&mut measured.live, self.met(&row.url, profile.contract)) {
            live.missing.clone_from(&met.missing);
        }
        self.progress.step(&format!("{what}: {}", said(&measured)));
        Ok(measured)
    }

    /// What `--existing` takes for granted, as the end of a message; empty without it.
    fn must_be_there(&self) -> String {
        if !self.live.existing {
            return String::new();
        }
        let names = self.profile.channels.resolved().join(", ");
        format!(
            ": --existing uses channels that are there by the profile's names ({names}); make them, or leave it out"
        )
    }

    /// Adds a note to the result.
    pub(crate) fn note(&mut self, text: String) {
        self.progress.note(&text);
        self.result.notes.push(text);
    }

    /// Length of the profile's window.
    pub(crate) fn window(&self) -> Span {
        self.profile.duration
    }

    fn spec(&mut self, row: &Row, task: &Task) -> anyhow::Result<VisitSpec> {
        self.visits += 1;
        let backend = Backend::parse(&row.url)?;
        let profile = task.profile.as_ref().unwrap_or(&self.profile);
        Ok(VisitSpec {
            profile: self.profile.text().to_owned(),
            profile_name: self.profile_name.clone(),
            sets: self.sets.iter().chain(&task.sets).cloned().collect(),
            load_factor: task.load_factor,
            row: row.label.clone(),
            backend_url: row.url.clone(),
            contract: self.contract(&row.url, profile),
            world: backend.world(),
            point: task.point.clone(),
            lanes: backend.lanes(profile)?,
            transport: backend.transport(self.transport).to_owned(),
            threads: self.threads as usize,
            waiting: self.waiting,
            seed: profile.seed,
            replication: task.replication,
            run: self.visits,
            data: Some(self.folder.path().to_owned()),
            prefix: format!("brokerlab-{:x}-{}-{}-", self.started, std::process::id(), self.visits),
            existing: self.live.existing,
            servers: self
                .servers
                .iter()
                .map(|server| Server { own: server.name == backend.name(), ..server.clone() })
                .collect(),
        })
    }

    /// The result so far. Takes the bar away.
    pub(crate) fn into_result(mut self) -> ResultFile {
        self.progress.finish();
        if self.stopped.load(Ordering::Relaxed) {
            self.cut_short("interrupted");
        }
        if self.replaces {
            self.progress.note("this takes the place of an earlier result; --out DIR keeps both");
        }
        if self.left_dirty > DIRTY_WORTH_A_NOTE {
            self.result.notes.push(format!(
                "write-back of earlier visits was not done after {WRITE_BACK_WAIT}: up to {:.1} MB were left when a visit began",
                self.left_dirty as f64 / 1e6
            ));
        }
        self.result.elapsed_ns = facts::utc_ns().saturating_sub(self.started);
        self.result
    }
}

/// `must_be_there` says which channels a user promised.
fn visit_failed(what: &str, error: VisitError, must_be_there: &str) -> anyhow::Error {
    let text = error.to_string();
    let full = ["No space left on device", "quota exceeded"].iter().any(|words| text.contains(words));
    let remedy = if full && !text.contains("--data") {
        ": its data do not fit; free some space, or name a folder on another disk with --data"
    } else {
        must_be_there
    };
    anyhow::Error::new(error).context(format!("{what} failed{remedy}"))
}

/// One line on a visit, where there is no bar.
fn said(measured: &Measurement) -> String {
    let Some(rates) = measured.rates() else {
        let why = measured.cut_short.as_deref().unwrap_or("it ended early");
        return format!("nothing measured, {why}");
    };
    let cut = measured.cut_short.as_ref().map_or_else(String::new, |why| format!(", then {why}"));
    format!("{:.0} messages/s acknowledged of {:.0} due{cut}", rates.achieved_per_s, rates.offered_per_s)
}

fn record(profile: &Profile, sets: &Sets) -> ProfileRecord {
    let mut toml = profile.text().to_owned();
    for (path, value) in sets {
        let _ = write!(toml, "\n# overridden on the command line: {path} = {value}");
    }
    ProfileRecord {
        name: profile.name.clone(),
        toml,
        rate_per_s: profile.mean_rate(),
        message_bytes_mean: profile.mean_size(),
        closed_loop: profile.is_closed_loop(),
        producers: profile.producers,
        consumers: profile.groups.iter().map(|group| group.members).sum(),
    }
}
