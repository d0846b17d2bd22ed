//! The result file: one versioned JSON document that carries everything the page and the table show.
//!
//! Leaves out how a cell is measured (`workloads::measurement` is its plain data) and what is concluded from it (`compare`).

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use brokerlab_model::{Contract, Settings, Unsupported, WorkCounts};
use brokerlab_workloads::measurement::Measurement;
use brokerlab_workloads::profile::{Metric, Objective};
use serde::{Deserialize, Serialize};

use crate::capacity::Limits;
use crate::judgement::Judgement;

/// The schema version that this program writes, and the newest that it reads. Cells of a newer kind (`point.kind` of `probe`,
/// `soak` and `sweep`) were added within version 1: every older file is read as before, and a program that does not know a kind
/// refuses the file with its name.
pub const SCHEMA_VERSION: u32 = 1;

/// The file's name in an output folder.
pub const RESULT_FILE_NAME: &str = "results.json";

/// What one command measured, complete.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResultFile {
    /// [`SCHEMA_VERSION`] when it was written.
    pub schema_version: u32,
    /// Version of brokerlab that wrote it.
    pub tool_version: String,
    /// Its git revision; none when it was built outside a work tree.
    pub git_revision: Option<String>,
    /// What was asked.
    pub command: Command,
    /// As it was typed, passwords removed.
    pub command_line: String,
    /// UTC of the start, nanoseconds since 1970.
    pub started_utc_ns: u64,
    /// How long the whole command took.
    pub elapsed_ns: u64,
    /// The workload.
    pub profile: ProfileRecord,
    /// What the workload must meet.
    pub objectives: Objectives,
    /// The contract asked of every row.
    pub contract: Contract,
    /// The profile's seed, which also orders the visits.
    pub seed: u64,
    /// The machine.
    pub host: HostFacts,
    /// How the loops waited: `spin`, `yield` or `park`. One for all rows.
    pub waiting: String,
    /// What it comes to, as data: before any figure. Derived from the cells when it was written; the page derives it anew.
    #[serde(default)]
    pub judgement: Option<Judgement>,
    /// How a search for capacity was bounded; none in a result of another command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Limits>,
    /// Every visit, staircase step, probe or run, in the order in which they were made.
    pub cells: Vec<Measurement>,
    /// Every contract × backend: kept by which settings, or refused for what.
    pub promise_ladder: Vec<LadderRow>,
    /// The fixed case of each backend: exact counts that do not depend on the machine.
    pub fixed_cases: Vec<FixedCase>,
    /// Backends that can't keep the contract asked, with what is missing.
    pub refusals: Vec<Unsupported>,
    /// What a reader should know besides: write-back left over, lanes chosen.
    pub notes: Vec<String>,
    /// Why the command ended before its time, if it did.
    pub cut_short: Option<String>,
}

/// Which command wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// One backend.
    Run,
    /// Rounds of visits over several rows, then staircases.
    Compare,
    /// A search for the highest rate that meets the objectives, of each backend.
    Capacity,
    /// A grid or list of settings, each visited with each backend.
    Sweep,
}

/// The workload, as far as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// Its name.
    pub name: String,
    /// The whole profile in force, overrides applied, as TOML.
    pub toml: String,
    /// Mean rate of all producers together, messages per second.
    pub rate_per_s: f64,
    /// Mean size of a message, stamp included.
    pub message_bytes_mean: f64,
    /// Whether users wait for an answer before they send again; such rows never share a table with an open loop.
    pub closed_loop: bool,
    /// How many producers.
    pub producers: u32,
    /// How many members over all consumer groups.
    pub consumers: u32,
}

/// What a row must meet: every upper bound that the profile asks, in its order and as it is written there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Objectives(pub Vec<Objective>);

impl Objectives {
    /// The bound on the figure that rows are compared by: end-to-end response p99.
    pub fn end_to_end_p99_max_ns(&self) -> Option<u64> {
        self.end_to_end().find(|(quantile, _)| (quantile - 0.99).abs() < 1e-9).map(|(_, ns)| ns)
    }

    /// What a difference in response time is measured by: the bound on end-to-end p99, or else the lowest of another quantile's.
    pub fn yardstick_ns(&self) -> Option<u64> {
        self.end_to_end_p99_max_ns().or_else(|| self.end_to_end().map(|(_, ns)| ns).min())
    }

    /// The bounds on counts alone.
    pub fn counts(&self) -> Self {
        Self(self.0.iter().copied().filter(|objective| matches!(objective, Objective::Count { .. })).collect())
    }

    fn end_to_end(&self) -> impl Iterator<Item = (f64, u64)> {
        self.0.iter().filter_map(|objective| match *objective {
            Objective::Quantile { metric: Metric::EndToEnd, quantile, at_most } => Some((quantile, at_most.0)),
            Objective::Quantile { metric: Metric::Publish | Metric::Settle, .. } | Objective::Count { .. } => None,
        })
    }
}

/// The machine and where it stores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Cores that this process may use.
    pub cores: u32,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Operating system and its version.
    pub kernel: String,
    /// The processor's own name.
    pub cpu_model: String,
    /// File system of the data folder.
    pub file_system: String,
    /// Device under it.
    pub device: String,
    /// What its write cache does to a flush, in words: `write back`, `flushed to the hypervisor; power loss not proven`.
    pub write_cache: String,
}

/// One contract of the promise ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LadderRow {
    /// The contract.
    pub contract: Contract,
    /// Each backend's answer, in one order for all rows.
    pub answers: Vec<LadderAnswer>,
}

/// One backend's answer to one contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LadderAnswer {
    /// The backend's plain name.
    pub backend: String,
    /// The settings by which it keeps the contract, or what is missing.
    pub answer: Result<Settings, Unsupported>,
}

/// A fixed case on the manual clock: the same counts on every machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedCase {
    /// The backend's plain name.
    pub backend: String,
    /// Names what was done; another name is another case and is not compared.
    pub case: String,
    /// SHA-256 in hex over the messages published.
    pub digest_sha256: String,
    /// How many messages.
    pub messages: u64,
    /// What the engine did.
    pub counts: WorkCounts,
    /// Heap allocations of the whole case; none when the program was built without the counting allocator.
    pub allocations: Option<u64>,
}

/// Why a result file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such file, or no right to read it.
    #[error("can't read `{}`: {source}; name a results.json that brokerlab wrote", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Not JSON, or cut off.
    #[error(
        "{}:{line}:{column}: {reason}; the file is cut off or was edited: copy it again from where it was written, or repeat the \
         command that wrote it",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// JSON, and something else.
    #[error(
        "{}:1:1: key `schema_version` is missing, so this is no result file of brokerlab; name a results.json that it \
         wrote",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error(
        "{}: key `schema_version` is {found}, and this brokerlab reads up to {SCHEMA_VERSION}; use the brokerlab that wrote the file, \
         or a newer one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Why a file could not be written. Nothing is left behind, and an older file of that name is as it was.
#[derive(Debug, thiserror::Error)]
#[error("can't write `{}`: {source}; {}", path.display(), remedy(source))]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// The system's reason.
    pub source: std::io::Error,
}

fn remedy(error: &std::io::Error) -> &'static str {
    if error.kind() == std::io::ErrorKind::StorageFull {
        "free some space, or choose another folder with --out"
    } else {
        "choose a folder that you may write to with --out"
    }
}

/// Only the version, to be read before anything else is believed.
#[derive(Deserialize)]
struct Version {
    schema_version: Option<u32>,
}

impl ResultFile {
    /// Reads a result file of any schema version since 1; a newer one, a cut one and something else are refused.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ReadError::Io { path: path.to_path_buf(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a result file's text; `path` is how errors call it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ReadError> {
        let malformed = |error: &serde_json::Error| ReadError::Malformed {
            path: path.to_path_buf(),
            line: error.line(),
            // At the beginning of a line serde_json counts from 0.
            column: error.column().max(1),
            reason: plain(error),
        };
        let version: Version = serde_json::from_str(text).map_err(|e| malformed(&e))?;
        match version.schema_version {
            None => Err(ReadError::Foreign { path: path.to_path_buf() }),
            Some(found) if found > SCHEMA_VERSION => Err(ReadError::Newer { path: path.to_path_buf(), found }),
            Some(_) => serde_json::from_str(text).map_err(|e| malformed(&e)),
        }
    }

    /// Writes `results.json` into `folder`, which is made if it is missing, and gives the file's path. The file appears whole or
    /// not at all.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, WriteError> {
        let path = folder.join(RESULT_FILE_NAME);
        write_whole(&path, |out| {
            serde_json::to_writer_pretty(&mut *out, self).map_err(std::io::Error::from)?;
            out.write_all(b"\n")
        })?;
        Ok(path)
    }
}

/// serde_json's message without the position that stands before it.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Writes a page beside the result, whole or not at all.
pub fn write_page(path: &Path, html: &str) -> Result<(), WriteError> {
    write_whole(path, |out| out.write_all(html.as_bytes()))
}

/// Writes into a temporary file of the same folder and renames it, so that a reader never meets half a file.
fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&std::fs::File>) -> std::io::Result<()>,
) -> Result<(), WriteError> {
    let attempt = || -> std::io::Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".brokerlab-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder)?;
        let mut out = BufWriter::new(file.as_file());
        write(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    attempt().map_err(|source| WriteError { path: path.to_path_buf(), source })
}
