//! The flags that mean the same in every subcommand, and what they set in a profile.
//!
//! Leaves out flags of one subcommand only; they stand with it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The four embedded models.
const ALL: [&str; 4] = ["log", "queue", "shard", "direct"];

/// How loops wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitingArg {
    /// Sleep in poll(2) until something is due: kind to the other processes.
    #[default]
    Park,
    /// Give the core away and look again.
    Yield,
    /// Look again at once: the lowest response times, a whole core for each loop.
    Spin,
}

/// Which hop lies between a client and an embedded backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportArg {
    /// A hand-over in this process.
    #[default]
    InProcess,
    /// A loopback socket, and a process of its own for the engine.
    Loopback,
}

/// What the workload is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProfileArgs {
    /// A built-in profile's name or a TOML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "order-processing")]
    pub profile: String,
    /// Seed of every random stream; the profile's own when it is not given.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// The measured window of a run or of one visit, for example 10s. The warm-up before it becomes a quarter of it where the profile's is
    /// longer.
    #[arg(long, value_name = "D")]
    pub duration: Option<String>,
    /// Overrides any field of the profile; checked as the file is. Repeatable.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Mean rate of all producers together, for example 20k/s.
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,
    /// Message size, for example 512B (a fixed size).
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Number of producers.
    #[arg(long, value_name = "N")]
    pub producers: Option<u32>,
    /// Number of members of every consumer group.
    #[arg(long, value_name = "N")]
    pub consumers: Option<u32>,
    /// Lanes of every channel: partitions, queues, shards, endpoints.
    #[arg(long, value_name = "N")]
    pub lanes: Option<u32>,
    /// Work per message of every consumer group, for example 200us (constant).
    #[arg(long, value_name = "D")]
    pub work: Option<String>,
    /// The promise: words such as at-least-once,per-key,fsync,copies=1,decoupled; an axis not named takes its default.
    #[arg(long, value_name = "WORDS")]
    pub contract: Option<String>,
}

/// What several backends are asked at once: `compare`, `capacity` and `sweep`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RowsArgs {
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// A backend: log, queue, shard, direct, with parameters as in log?partitions=8, or a real broker's URL as in
    /// kafka://127.0.0.1:9092 and 'amqp://127.0.0.1:5672?queue=quorum'. Repeatable; the four in this process when none is given.
    #[arg(long = "backend", value_name = "NAME|URL")]
    pub backends: Vec<String>,
    #[command(flatten)]
    pub drive: DriveArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl RowsArgs {
    /// The backends that were asked for, or the four embedded models.
    pub(crate) fn urls(&self) -> Vec<String> {
        if self.backends.is_empty() { ALL.map(str::to_owned).to_vec() } else { self.backends.clone() }
    }
}

/// How it is driven.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DriveArgs {
    /// Where backends store; a folder is made in it for each visit and removed afterwards.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Loops that drive clients; at most one per core. One core is left for storage when it is not given.
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// How loops wait when nothing is due. When it is not given they spin where a core is left beside them, and park otherwise.
    #[arg(long, value_enum)]
    pub waiting: Option<WaitingArg>,
    /// The hop between clients and embedded backends; one row has its own with log?transport=loopback.
    #[arg(long, value_enum, default_value_t)]
    pub transport: TransportArg,
    /// Also run real brokers that can't keep the contract, with what they can keep: named weaker, and not comparable.
    #[arg(long)]
    pub accept_weaker: bool,
    /// Use topics and queues that are there already, by the profile's names: nothing is made or removed on a real broker.
    #[arg(long)]
    pub existing: bool,
    /// Real brokers are warm already: measure at once, after the profile's own warm-up.
    #[arg(long)]
    pub no_warm_up: bool,
}

/// What is written and said.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Folder for report.html and results.json; those of an earlier command in it are replaced.
    #[arg(long, value_name = "DIR", default_value = "brokerlab-out")]
    pub out: PathBuf,
    /// One JSON document on standard output; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Only the table, the verdict and errors.
    #[arg(long)]
    pub quiet: bool,
    /// Open the page after the run.
    #[arg(long)]
    pub view: bool,
}
