//! What a run is asked for, what it tells while it goes on, and why it may not begin or end.
//!
//! Leaves out what it measured, which is [`Measurement`](brokerlab_workloads::measurement::Measurement).

use brokerlab_model::{ConnectError, Contract, Failure, Refusal, Span, Status, Unsupported};
use brokerlab_workloads::Workload;
use brokerlab_workloads::measurement::{Point, World};
use serde::{Deserialize, Serialize};

use crate::wait::Waiting;

/// Most messages of one batch.
pub const BATCH_MAX: usize = 64;

/// One run of one backend.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The messages, with profile, seed and replication.
    pub workload: Workload,
    /// The promise asked of the backend; the profile's, unless the command line says otherwise.
    pub contract: Contract,
    /// The row's label: `log`, `log (again)`.
    pub row: String,
    /// The backend as it was asked for: `log?partitions=8`.
    pub backend_url: String,
    /// Which world the backend belongs to.
    pub world: World,
    /// Which part of a comparison this is.
    pub point: Point,
    /// Lanes per channel.
    pub lanes: u32,
    /// `in-process` or `loopback`.
    pub transport: String,
    /// How many loops; at least 1. Always 1 on a manual clock.
    pub threads: usize,
    /// How they wait.
    pub waiting: Waiting,
    /// The run's number in every stamp, by which a leftover of another run is told apart.
    pub run: u32,
    /// Servers under test on this machine: what they use is theirs, and no disturbance.
    pub servers: Vec<Server>,
}

/// The process of a server under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The backend's plain name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Whether this run talks to it; another row's server is to be idle.
    pub own: bool,
}

impl RunSpec {
    /// A run by itself of `workload` against the backend `url`, with the defaults of everything else.
    pub fn new(workload: Workload, url: &str) -> Self {
        Self {
            contract: workload.profile().contract,
            row: url.split('?').next().unwrap_or(url).to_owned(),
            backend_url: url.to_owned(),
            world: World::Embedded,
            point: Point::Run,
            lanes: 1,
            transport: "in-process".to_owned(),
            threads: default_threads(),
            waiting: Waiting::default(),
            run: 1,
            servers: Vec::new(),
            workload,
        }
    }
}

/// One loop per core less one, so that a core is left for storage and the operating system; at least one.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

/// How far a run is. Told about ten times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What goes on.
    pub phase: Phase,
    /// Time since the schedule's start.
    pub elapsed: Span,
    /// Length of warm-up and window together.
    pub schedule: Span,
    /// Publishes acknowledged so far.
    pub acknowledged: u64,
    /// First deliveries so far, over all groups.
    pub delivered: u64,
    /// Publishes acknowledged per second since the last time.
    pub rate_per_s: f64,
    /// Mean end-to-end response time of what was delivered since the last time.
    pub response_mean: Span,
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Clients connect, lanes are handed out.
    #[default]
    Starting,
    /// Load before the window.
    WarmingUp,
    /// The window.
    Measuring,
    /// The schedule is over; what is unfinished is followed.
    Draining,
}

impl Phase {
    /// The phase's name where people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::WarmingUp => "warming up",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
        }
    }
}

/// Why a run has no measurement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The backend can't keep the contract.
    #[error("{0}; ask for a weaker contract or take another backend (`brokerlab backends` shows who keeps what)")]
    Unsupported(#[from] Unsupported),
    /// A client could not be had.
    #[error("can't connect client {number}: {reason}")]
    Connect {
        /// The client's number.
        number: u32,
        /// Why.
        reason: ConnectError,
    },
    /// The administrator was refused.
    #[error("the backend did not {what}: {why}")]
    Administration {
        /// What was asked.
        what: &'static str,
        /// How it ended.
        why: String,
    },
    /// The backend takes nothing more and never will.
    #[error("the backend stopped: {0}")]
    Stopped(String),
    /// The profile has bindings and the backend no routing.
    #[error(
        "group {group} has bindings, and {backend} has no routing: every group gets everything there; take a backend with \"routing by bindings\" \
         (`brokerlab backends` shows who has it: queue), or remove `bindings` from the profile's groups"
    )]
    NoRouting {
        /// The backend's plain name.
        backend: &'static str,
        /// The first group with bindings.
        group: String,
    },
    /// The backend broke the trait's rules.
    #[error(
        "the backend broke the rules of its clients: {0}; this is a fault of the backend, no figure of this run can be believed"
    )]
    Protocol(String),
    /// The fixed case did not go through: with settings of one's own they are the reason.
    #[error(
        "the fixed case did not go through: {0}; of a backend without settings this is a fault, no figure of it can be believed"
    )]
    NotThrough(String),
    /// The run was asked for in a way that can't work.
    #[error("{0}")]
    Spec(String),
}

/// How an operation ended that was not done, in words.
pub(crate) fn ended_in_words(status: Status) -> String {
    match status {
        Status::Done => "done".to_owned(),
        Status::Refused(refusal) => Refusal::to_string(&refusal),
        Status::Throttled => "a rate limit is reached; lower the rate or give it more lanes".to_owned(),
        Status::Failed(failure) => Failure::to_string(&failure),
        Status::Unknown => "it never answered".to_owned(),
    }
}
