//! How a backend is named: `log`, `queue?visibility_timeout=5s`, `log?partitions=8&max_memory=64MiB`.
//!
//! Every parameter is known by name and type before anything is opened; a word that is none is refused with the nearest that is.
//! `as=…` takes a [preset](crate::presets), and everything else that is written wins over it. Leaves out opening, which is in
//! [`backends`](crate::backends).

mod parameters;
mod values;

use std::fmt;
use std::str::FromStr;

use brokerlab_model::direct::{Answer, DirectOptions};
use brokerlab_model::log::{Cleanup, LogOptions};
use brokerlab_model::queue::{OutOfBounds, QueueOptions};
use brokerlab_model::shard::{FULL_CREDIT, KeyHash, ON_DEMAND_SHARDS, SCALES_WITHIN, ShardOptions};
use brokerlab_model::{LANES_MAX, Span};

use crate::faulty::Faults;
use crate::presets::{self, Preset};
use crate::store::Limits;
use parameters::{AS, COMMON, DIRECT, FILES, LANES, LOG, LOG_AS, QUEUE, QUEUE_AS, SHARD, SHARD_AS};
use values::{count, positive};

/// The backends of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A log-based stream.
    Log,
    /// A queue.
    Queue,
    /// A shard stream.
    Shard,
    /// Request and response, without a broker.
    Direct,
    /// No broker: the harness's ceiling.
    Null,
}

impl Kind {
    /// All that are listed.
    pub const ALL: &'static [Self] = &[Self::Log, Self::Queue, Self::Shard, Self::Direct, Self::Null];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Queue => "queue",
            Self::Shard => "shard",
            Self::Direct => "direct",
            Self::Null => "null",
        }
    }

    /// The parameters that it takes.
    pub fn parameters(self) -> impl Iterator<Item = &'static Parameter> {
        let own: &[Parameter] = match self {
            Self::Log => LOG,
            Self::Queue => QUEUE,
            Self::Shard => SHARD,
            Self::Direct => DIRECT,
            Self::Null => &[],
        };
        let preset: &[Parameter] = match self {
            Self::Log => LOG_AS,
            Self::Queue => QUEUE_AS,
            Self::Shard => SHARD_AS,
            Self::Direct | Self::Null => &[],
        };
        let files: &[Parameter] = if self == Self::Null { &[] } else { FILES };
        own.iter().chain(preset).chain(COMMON).chain(files)
    }

    /// The systems whose documented limits and defaults it can take with `as=`.
    pub const fn presets(self) -> &'static [Preset] {
        presets::of(self)
    }
}

/// What a backend's name and parameters say.
#[derive(Clone, Debug)]
pub struct BackendUrl {
    text: String,
    kind: Kind,
    pub(crate) faults: Option<Faults>,
    pub(crate) options: Options,
}

/// What lies between clients and the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A hand-over in one process.
    InProcess,
    /// Loopback sockets, and a process of its own for the engine.
    Loopback,
}

impl Transport {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InProcess => "in-process",
            Self::Loopback => "loopback",
        }
    }
}

/// Everything that a parameter can set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) limits: Limits,
    pub(crate) lanes: Option<u32>,
    pub(crate) transport: Option<Transport>,
    pub(crate) log: LogOptions,
    pub(crate) queue: QueueOptions,
    pub(crate) shard: ShardOptions,
    /// Shards are split by load.
    on_demand: bool,
    /// After how long.
    scale_after: Option<Span>,
    pub(crate) direct: DirectOptions,
}

impl Options {
    /// Takes over how a shard stream scales, and with how many shards it begins.
    fn scale(&mut self) -> Result<(), UrlError> {
        if let (Some(span), false) = (self.scale_after, self.on_demand) {
            return Err(bad("scale_after", &span.to_string(), "write mode=on-demand beside it, or leave it out"));
        }
        if self.on_demand {
            self.shard.on_demand = Some(self.scale_after.unwrap_or(SCALES_WITHIN));
            self.lanes.get_or_insert(ON_DEMAND_SHARDS);
        }
        Ok(())
    }
}

/// A parameter of a backend.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it sets, with an example.
    pub what: &'static str,
    set: fn(&mut Options, &str) -> Result<(), &'static str>,
}

/// Why a backend's name was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No such backend.
    #[error("there is no embedded backend `{name}`; write {known}{}", did_you_mean(.nearest.as_ref()))]
    Backend {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
        /// The nearest name, when one is near.
        nearest: Option<String>,
    },
    /// No such parameter.
    #[error("`{backend}` has no parameter `{name}`; it has {known}{}", did_you_mean(.nearest.as_ref()))]
    Parameter {
        /// The backend.
        backend: String,
        /// What was given.
        name: String,
        /// All names.
        known: String,
        /// The nearest name, when one is near.
        nearest: Option<String>,
    },
    /// A parameter without a value.
    #[error("`{0}` needs a value; write {0}=…")]
    NoValue(String),
    /// A parameter was given twice.
    #[error("`{0}` is given twice; keep one")]
    Twice(String),
    /// Two parameters for one thing.
    #[error("`{0}` and `{1}` set the same; keep one")]
    Same(String, String),
    /// A value of another type.
    #[error("`{name}={value}`: {remedy}")]
    Value {
        /// The parameter.
        name: String,
        /// What was given.
        value: String,
        /// What to write.
        remedy: &'static str,
    },
    /// No such preset.
    #[error("`{backend}` has no preset `{name}`; write as={known}{}", did_you_mean(.nearest.as_ref()))]
    Preset {
        /// The backend.
        backend: String,
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
        /// The nearest name, when one is near.
        nearest: Option<String>,
    },
    /// A faulty backend without a fault.
    #[error(
        "`faulty` needs a fault; write for example faulty?drop=10000&inner=log, or duplicate=, reorder=, corrupt=, early="
    )]
    NoFault,
    /// A value that the system of `as=` does not take.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
}

fn did_you_mean(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl BackendUrl {
    /// Reads a name with its parameters.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        text.parse()
    }

    /// Which backend it is; behind `faulty`, the inner one.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether deliveries are damaged on purpose.
    pub fn is_faulty(&self) -> bool {
        self.faults.is_some()
    }

    /// The backend's plain name: `log`, `queue` …, or `faulty`.
    pub fn name(&self) -> &'static str {
        if self.is_faulty() { "faulty" } else { self.kind.name() }
    }

    /// How many lanes each channel is to have, when the name says so (`log?partitions=8`). The host creates the channels, so
    /// the host has to ask for this.
    pub fn lanes(&self) -> Option<u32> {
        self.options.lanes
    }

    /// What lies between clients and the engine, when the name says so (`log?transport=loopback`). Whoever opens it has to see to that.
    pub fn transport(&self) -> Option<Transport> {
        self.options.transport
    }

    /// The options that decide where a message belongs and whether it stays, by name: what a journal means depends on them. Lanes are among them
    /// when the name says how many.
    pub(crate) fn deciding(&self) -> Vec<(&'static str, String)> {
        let Options { log, queue, shard, direct, lanes, .. } = &self.options;
        let own = match self.kind {
            Kind::Log => Some(("cleanup", if log.cleanup == Cleanup::Compact { "compact" } else { "delete" })),
            Kind::Queue => Some(("message_groups", if queue.message_groups { "on" } else { "off" })),
            Kind::Shard => Some(("hash", if shard.hash == KeyHash::Xxh3 { "xxh3" } else { "md5" })),
            Kind::Direct => Some(("answer", if direct.answer == Answer::Served { "served" } else { "stored" })),
            Kind::Null => None,
        };
        let own = own.map(|(name, value)| (name, value.to_owned()));
        own.into_iter().chain(lanes.map(|lanes| ("lanes", lanes.to_string()))).collect()
    }

    /// How many lanes it can have over all channels.
    pub fn max_lanes(&self) -> u32 {
        match self.kind {
            Kind::Log => self.options.log.max_partitions,
            Kind::Shard => self.options.shard.max_shards,
            Kind::Queue | Kind::Direct | Kind::Null => LANES_MAX,
        }
    }

    /// The same backend with token buckets that are full when they begin: for a case of a second whose counts are looked at, and not
    /// how much gets through.
    #[must_use]
    pub fn with_full_buckets(mut self) -> Self {
        self.options.shard.initial_credit = FULL_CREDIT;
        self
    }

    /// How much it may hold.
    pub fn limits(&self) -> Limits {
        self.options.limits
    }
}

impl FromStr for BackendUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let mut pairs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| UrlError::NoValue(part.to_owned()))?;
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(UrlError::Twice(name.to_owned()));
            }
            pairs.push((name, value));
        }
        let mut lanes = pairs.iter().map(|(name, _)| *name).filter(|name| LANES.contains(name));
        if let (Some(one), Some(other)) = (lanes.next(), lanes.next()) {
            return Err(UrlError::Same(one.to_owned(), other.to_owned()));
        }
        let mut faults = None;
        let kind = if name == "faulty" {
            let mut read = Faults::default();
            let inner = pairs.iter().find(|(name, _)| *name == "inner").map_or("log", |(_, value)| *value);
            for (name, value) in &pairs {
                if let Some(every) = read.every_mut(name) {
                    *every = Some(count(value).and_then(positive).map_err(|remedy| bad(name, value, remedy))?);
                }
            }
            pairs.retain(|(name, _)| *name != "inner" && Faults::NAMES.iter().all(|fault| fault != name));
            faults = Some(read);
            kind(inner)?
        } else {
            kind(name)?
        };
        if faults.as_ref().is_some_and(Faults::is_empty) {
            return Err(UrlError::NoFault);
        }
        let mut options = Options::default();
        if let Some((_, name)) = pairs.iter().find(|(name, _)| *name == AS && !kind.presets().is_empty()) {
            (preset(kind, name)?.set)(&mut options);
        }
        for (name, value) in pairs {
            let parameter = kind.parameters().find(|known| known.name == name);
            let parameter = parameter.ok_or_else(|| unknown(kind, faults.is_some(), name))?;
            (parameter.set)(&mut options, value).map_err(|remedy| bad(name, value, remedy))?;
        }
        options.queue.check()?;
        options.scale()?;
        Ok(Self { text: text.to_owned(), kind, faults, options })
    }
}

fn bad(name: &str, value: &str, remedy: &'static str) -> UrlError {
    UrlError::Value { name: name.to_owned(), value: value.to_owned(), remedy }
}

fn kind(name: &str) -> Result<Kind, UrlError> {
    let names = || Kind::ALL.iter().map(|kind| kind.name());
    Kind::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| UrlError::Backend {
        name: name.to_owned(),
        known: names().collect::<Vec<_>>().join(", "),
        nearest: nearest(name, names()),
    })
}

fn preset(kind: Kind, name: &str) -> Result<&'static Preset, UrlError> {
    let names = || kind.presets().iter().map(|preset| preset.name);
    kind.presets().iter().find(|preset| preset.name == name).ok_or_else(|| UrlError::Preset {
        backend: kind.name().to_owned(),
        name: name.to_owned(),
        known: names().collect::<Vec<_>>().join(", "),
        nearest: nearest(name, names()),
    })
}

fn unknown(kind: Kind, faulty: bool, name: &str) -> UrlError {
    let planted: &[&str] = if faulty { Faults::NAMES } else { &[] };
    let names = || kind.parameters().map(|known| known.name).chain(planted.iter().copied());
    UrlError::Parameter {
        backend: kind.name().to_owned(),
        name: name.to_owned(),
        known: names().collect::<Vec<_>>().join(", "),
        nearest: nearest(name, names()),
    }
}

/// The known word with the smallest edit distance, if it is near: two letters, or a third of them.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let (distance, best) = known.map(|candidate| (edits(word, candidate), candidate)).min()?;
    (distance <= best.len().div_ceil(3).max(2)).then(|| best.to_owned())
}

/// Levenshtein's distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
