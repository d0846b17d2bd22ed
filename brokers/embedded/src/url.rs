//! How a backend is named: `log`, `queue?visibility_timeout=5s`, `log?partitions=8&max_memory=64MiB`.
//!
//! Every parameter is known by name and type before anything is opened; a word that is none is refused with the nearest that is.
//! `as=…` takes a [preset](crate::presets), and everything else that is written wins over it. Leaves out opening, which is in
//! [`backends`](crate::backends).

use std::fmt;
use std::str::FromStr;

use brokerlab_model::direct::{Answer, DirectOptions, Overflow};
use brokerlab_model::log::{Assignment, Cleanup, Isolation, LogOptions};
use brokerlab_model::queue::{DeadLetter, OutOfBounds, Overflow as FullQueue, QueueOptions};
use brokerlab_model::shard::{FULL_CREDIT, KeyHash, ON_DEMAND_SHARDS, Readers, SCALES_WITHIN, ShardOptions};
use brokerlab_model::{LANES_MAX, Span};

use crate::faulty::Faults;
use crate::presets::{self, Preset};
use crate::store::Limits;

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

const COUNT: &str = "write a whole number of at least 0, for example 8";
const BYTES: &str = "write a size with its unit, for example 64MiB, 512KiB, 100kB or 4096B";
const SPAN: &str = "write a time with its unit, for example 30s, 250ms or 24h";

fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| COUNT)
}

fn positive(number: u64) -> Result<u64, &'static str> {
    if number == 0 { Err("write a number above zero") } else { Ok(number) }
}

fn count_u32(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| COUNT)
}

fn count_u8(text: &str) -> Result<u8, &'static str> {
    text.parse().map_err(|_| "write a number from 0 to 255")
}

fn span_or_none(text: &str) -> Result<Option<Span>, &'static str> {
    match text {
        "none" => Ok(None),
        _ => span(text).map(Some),
    }
}

fn some_u32(text: &str) -> Result<Option<u32>, &'static str> {
    count_u32(text).map(Some)
}

fn with_unit(text: &str, units: &[(&str, u64)], remedy: &'static str) -> Result<u64, &'static str> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit).ok_or(remedy)?.1;
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or(remedy)
}

fn bytes(text: &str) -> Result<u64, &'static str> {
    const UNITS: &[(&str, u64)] = &[
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    with_unit(text, UNITS, BYTES).and_then(positive)
}

fn bytes_u32(text: &str) -> Result<u32, &'static str> {
    bytes(text)?.try_into().map_err(|_| "write a size below 4 GiB")
}

fn span(text: &str) -> Result<Span, &'static str> {
    const UNITS: &[(&str, u64)] = &[
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("min", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    with_unit(text, UNITS, SPAN).map(Span)
}

fn positive_span_or_forever(text: &str) -> Result<Option<Span>, &'static str> {
    match span_or_forever(text)? {
        Some(Span::ZERO) => Err("write a time above zero, or forever"),
        span => Ok(span),
    }
}

fn full_queue(text: &str) -> Result<FullQueue, &'static str> {
    match text {
        "drop-head" => Ok(FullQueue::DropHead),
        "reject-publish" => Ok(FullQueue::RejectPublish),
        _ => Err("write drop-head or reject-publish"),
    }
}

fn dead_letter(text: &str) -> Result<DeadLetter, &'static str> {
    match text {
        "discard" => Ok(DeadLetter::Discard),
        "keep" => Ok(DeadLetter::Keep),
        "channel" => Ok(DeadLetter::Channel),
        _ => Err("write discard, keep or channel"),
    }
}

fn span_or_forever(text: &str) -> Result<Option<Span>, &'static str> {
    if text == "forever" { Ok(None) } else { span(text).map(Some) }
}

/// One line for each parameter: its name, what it says, the field, how it is read.
macro_rules! parameters {
    ($($name:literal, $what:literal => $($field:ident).+ = $read:expr;)*) => {
        &[$(Parameter {
            name: $name,
            what: $what,
            set: |options, text| { options.$($field).+ = $read(text)?; Ok(()) },
        }),*]
    };
}

fn lanes(text: &str) -> Result<Option<u32>, &'static str> {
    match count_u32(text)? {
        0 => Err("write a number above zero"),
        lanes => Ok(Some(lanes)),
    }
}

fn answer(text: &str) -> Result<Answer, &'static str> {
    match text {
        "stored" => Ok(Answer::Stored),
        "served" => Ok(Answer::Served),
        _ => Err("write stored or served"),
    }
}

fn overflow(text: &str) -> Result<Overflow, &'static str> {
    match text {
        "refuse" => Ok(Overflow::Refuse),
        "block" => Ok(Overflow::Block),
        _ => Err("write refuse or block"),
    }
}

fn assignment(text: &str) -> Result<Assignment, &'static str> {
    match text {
        "cooperative" => Ok(Assignment::Cooperative),
        "eager" => Ok(Assignment::Eager),
        _ => Err("write cooperative or eager"),
    }
}

fn cleanup(text: &str) -> Result<Cleanup, &'static str> {
    match text {
        "delete" => Ok(Cleanup::Delete),
        "compact" => Ok(Cleanup::Compact),
        _ => Err("write delete or compact"),
    }
}

/// A ratio in thousandths.
fn permille(text: &str) -> Result<u32, &'static str> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok((ratio * 1_000.0).round() as u32),
        Ok(_) | Err(_) => Err("write a number from 0 to 1, in thousandths at the finest"),
    }
}

fn transport(text: &str) -> Result<Option<Transport>, &'static str> {
    match text {
        "in-process" => Ok(Some(Transport::InProcess)),
        "loopback" => Ok(Some(Transport::Loopback)),
        _ => Err("write in-process or loopback"),
    }
}

fn readers(text: &str) -> Result<Readers, &'static str> {
    match text {
        "fan-out" => Ok(Readers::FanOut),
        "polling" => Ok(Readers::Polling),
        _ => Err("write fan-out or polling"),
    }
}

fn key_hash(text: &str) -> Result<KeyHash, &'static str> {
    match text {
        "md5" => Ok(KeyHash::Md5),
        "xxh3" => Ok(KeyHash::Xxh3),
        _ => Err("write md5 or xxh3"),
    }
}

fn on_demand(text: &str) -> Result<bool, &'static str> {
    match text {
        "on-demand" => Ok(true),
        "provisioned" => Ok(false),
        _ => Err("write provisioned or on-demand"),
    }
}

/// A time of at most a second, or a full second.
fn credit(text: &str) -> Result<Span, &'static str> {
    const REMEDY: &str = "write a time of at most 1s, for example 20ms, or full";
    if text == "full" {
        return Ok(FULL_CREDIT);
    }
    span(text).map_err(|_| REMEDY).and_then(|span| if span <= FULL_CREDIT { Ok(span) } else { Err(REMEDY) })
}

fn positive_span(text: &str) -> Result<Span, &'static str> {
    match span(text)? {
        Span::ZERO => Err("write a time above zero"),
        span => Ok(span),
    }
}

fn isolation(text: &str) -> Result<Option<Isolation>, &'static str> {
    match text {
        "read-uncommitted" => Ok(Some(Isolation::ReadUncommitted)),
        "read-committed" => Ok(Some(Isolation::ReadCommitted)),
        _ => Err("write read-uncommitted or read-committed"),
    }
}

fn on_or_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off"),
    }
}

fn segment(text: &str) -> Result<u64, &'static str> {
    match bytes(text)? {
        size @ 0x1_0000..=0x4000_0000 => Ok(size),
        _ => Err("write a size from 64KiB to 1GiB"),
    }
}

/// What sets a channel's lanes, by each backend's own word too.
const LANES: &[&str] = &["lanes", "partitions", "queues", "shards", "endpoints"];

/// The parameter that names a preset.
const AS: &str = "as";

/// That parameter: by the time that it is its turn, the preset was taken.
const fn preset_of(what: &'static str) -> Parameter {
    Parameter { name: AS, what, set: |_, _| Ok(()) }
}

const LOG_AS: &[Parameter] =
    &[preset_of("a documented system's limits and defaults, under what else is written: kafka")];

const QUEUE_AS: &[Parameter] =
    &[preset_of("a documented system's limits and defaults, under what else is written: rabbitmq, sqs or sqs-fifo")];

const SHARD_AS: &[Parameter] =
    &[preset_of("a documented system's limits and defaults, under what else is written: kinesis")];

const COMMON: &[Parameter] = parameters! {
    "lanes", "lanes of each channel, for every backend; 8" => lanes = lanes;
    "transport", "what lies before it: in-process or loopback; as --transport says" => transport = transport;
    "max_memory", "what it holds in memory before submit is blocked; 256MiB" => limits.max_memory = bytes;
};

const FILES: &[Parameter] = parameters! {
    "max_data", "what its segments hold before submit is blocked; 4GiB" => limits.max_data = bytes;
    "segment", "size of a segment file; 64MiB" => limits.segment_bytes = segment;
};

const LOG: &[Parameter] = parameters! {
    "partitions", "partitions of each topic; 8" => lanes = lanes;
    "retention", "how long a record is kept; 168h, or forever" => log.retention = span_or_forever;
    "retention_bytes", "how much a partition keeps; 1GiB" => log.retention_bytes = |text| bytes(text).map(Some);
    "session_timeout", "how long a member may be silent before it loses its partitions; 45s, or forever"
        => log.session_timeout = positive_span_or_forever;
    "isolation", "what members are handed of transactions: read-uncommitted, or read-committed; by the contract"
        => log.isolation = isolation;
    "transaction_timeout", "how long a transaction may be open before it is taken back; 60s"
        => log.transaction_timeout = positive_span;
    "idempotence", "whether what a producer with a name publishes again is known: on or off; on" => log.idempotence = on_or_off;
    "producer_expiration", "how long after its last record a producer is remembered; 24h"
        => log.producer_expiration = positive_span;
    "cleanup", "what becomes of old records: delete by age and size, or compact, which keeps the latest of each key" => log.cleanup = cleanup;
    "min_dirty_ratio", "compact: how much of the log is dirty before a pass begins; 0.5" => log.min_dirty_permille = permille;
    "delete_retention", "compact: how long a record without a payload stays once it was found; 24h" => log.delete_retention = span;
    "active_bytes", "compact: a partition's newest part, which is left alone; 1MiB" => log.active_bytes = bytes;
    "max_keys", "compact: keys that are known, beyond which all records of a key stay; 5033164" => log.max_keys = |text| count(text).map(|keys| usize::try_from(keys).unwrap_or(usize::MAX));
    "assignment", "when members change, take back only partitions that move, or all: cooperative or eager"
        => log.assignment = assignment;
    "max_in_flight", "records of one producer that may wait to be stored; 65536" => log.max_in_flight = count_u32;
    "max_message", "the largest record, its key and headers included; 1048588B" => log.max_message_bytes = bytes_u32;
};

const QUEUE: &[Parameter] = parameters! {
    "queues", "queues of each channel; 8" => lanes = lanes;
    "visibility_timeout", "how long a member may hold a message; 30s" => queue.visibility_timeout = positive_span;
    "prefetch", "unsettled messages a member may hold; 0 for as many as granted" => queue.prefetch = count_u32;
    "window", "unacknowledged publishes of one client; 65536" => queue.window = count_u32;
    "max_message", "the largest message; 16MiB" => queue.max_message_bytes = bytes_u32;
    "max_length", "messages that may wait in a queue; 0 for any number" => queue.max_length = count;
    "overflow", "what a full queue does: drop-head or reject-publish" => queue.overflow = full_queue;
    "message_ttl", "how long a message may wait; forever, or 60s" => queue.message_ttl = positive_span_or_forever;
    "delay", "how long a message is held back at first; 0s" => queue.delay = span;
    "max_deliveries", "deliveries after which a message does not come again; 0 for any number"
        => queue.max_deliveries = count_u32;
    "max_in_flight", "unsettled messages of a queue; 0 for any number" => queue.max_in_flight = count_u32;
    "priorities", "the highest priority of a message, up to 255; 0 for none" => queue.priorities = count_u8;
    "deduplication", "how long repeats of an id are not stored; none, or 5min" => queue.deduplication = span_or_none;
    "message_groups", "a group's messages in order, one member at a time: on or off; off" => queue.message_groups = on_or_off;
    "dead_letter", "what is given up: discard, keep the count as dead letters, or to the channel made for it" => queue.dead_letter = dead_letter;
};

const SHARD: &[Parameter] = parameters! {
    "shards", "shards of each stream; 8" => lanes = lanes;
    "write_records", "records per second that a shard takes; 1000" => shard.write_records_per_s = count_u32;
    "write_bytes", "bytes per second that a shard takes; 1MiB" => shard.write_bytes_per_s = bytes_u32;
    "initial_credit", "of each limit, what is there when a shard begins: so long a time's worth, or full; 20ms" => shard.initial_credit = credit;
    "read_bytes", "bytes per second that an application reads from a shard; 2MiB" => shard.read_bytes_per_s = bytes_u32;
    "hash", "what finds a key's shard: md5, as the service, or xxh3, which costs less; md5" => shard.hash = key_hash;
    "readers", "how applications read: fan-out (each its own limit) or polling (calls and bytes shared); fan-out"
        => shard.readers = readers;
    "mode", "who splits shards: provisioned (nobody unasked) or on-demand (the stream, by load; 4 shards at first)"
        => on_demand = on_demand;
    "scale_after", "with mode=on-demand, how long a shard is over half of its limits before it is split; 15min"
        => scale_after = |text| positive_span(text).map(Some);
    "failover_time", "how long a worker may be silent before it loses its shards; 10s, or forever"
        => shard.failover_time = positive_span_or_forever;
    "retention", "how long a record is kept; 24h, or forever" => shard.retention = span_or_forever;
    "max_in_flight", "records of one producer that may wait to be stored; 65536" => shard.max_in_flight = count_u32;
    "max_message", "the largest record; 1MiB" => shard.max_message_bytes = bytes_u32;
    "max_consumers", "applications that read a stream; any number, with as=kinesis 20" => shard.max_consumers = some_u32;
};

const DIRECT: &[Parameter] = parameters! {
    "endpoints", "endpoints of each service; 8" => lanes = lanes;
    "answer", "when a caller has its answer: stored (the request), or served (its work); stored" => direct.answer = answer;
    "try_timeout", "with served, when a request is sent again; the timeout" => direct.try_timeout = |text| positive_span(text).map(Some);
    "deadlines", "with served, refuse what nobody waits for any more: on or off; on" => direct.deadlines = on_or_off;
    "overflow", "when no receiver has room: refuse the request, or block the caller; refuse" => direct.overflow = overflow;
    "breaker_failures", "failures of 100 calls that open a circuit breaker, 0 for never; 50" => direct.breaker.failures = count_u32;
    "service_queue", "requests a receiver holds, those in work included; 1024" => direct.service_queue = count_u32;
    "window", "unanswered requests of one client; 1024" => direct.window = count_u32;
    "connections", "connections of a caller to each receiver, used again; 0 for any number" => direct.connections = count_u32;
    "retries", "how often a request that was not taken, or not answered in time, is tried again; 3" => direct.retries = count_u32;
    "backoff", "the wait before the first retry; 20ms" => direct.backoff = span;
    "max_backoff", "the longest wait before a retry; 500ms" => direct.max_backoff = span;
    "timeout", "when a caller gives up; 1s" => direct.timeout = positive_span;
    "max_message", "the largest request; 1MiB" => direct.max_message_bytes = bytes_u32;
};

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        BackendUrl::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn parameters_are_typed_and_set_what_they_name() {
        let url = BackendUrl::parse("log?partitions=8&max_memory=64MiB&retention=24h&segment=1MiB").unwrap();
        assert_eq!((url.kind(), url.name(), url.lanes()), (Kind::Log, "log", Some(8)));
        let expected = Limits { max_memory: 64 << 20, segment_bytes: 1 << 20, ..Limits::default() };
        assert_eq!(url.limits(), expected);
        assert_eq!(url.options.log.retention, Some(Span::from_secs(86_400)));
        assert_eq!(url.to_string(), "log?partitions=8&max_memory=64MiB&retention=24h&segment=1MiB");
        let log = BackendUrl::parse("log?isolation=read-committed&transaction_timeout=5s").unwrap().options.log;
        assert_eq!(log.isolation, Some(Isolation::ReadCommitted));
        assert_eq!(log.transaction_timeout, Span::from_secs(5));
        let log = BackendUrl::parse("log?idempotence=off&producer_expiration=90s").unwrap().options.log;
        assert_eq!((log.idempotence, log.producer_expiration), (false, Span::from_secs(90)));
        assert_eq!(error("log?idempotence=yes"), "`idempotence=yes`: write on or off");
        assert_eq!(error("log?isolation=none"), "`isolation=none`: write read-uncommitted or read-committed");
        let log = BackendUrl::parse("log?session_timeout=6s&assignment=eager").unwrap().options.log;
        assert_eq!((log.session_timeout, log.assignment), (Some(Span::from_secs(6)), Assignment::Eager));
        assert_eq!(error("log?session_timeout=0s"), "`session_timeout=0s`: write a time above zero, or forever");
        assert_eq!(error("log?assignment=lazy"), "`assignment=lazy`: write cooperative or eager");
        let url = BackendUrl::parse("queue?visibility_timeout=250ms&prefetch=3").unwrap();
        assert_eq!((url.options.queue.visibility_timeout, url.options.queue.prefetch), (Span::from_millis(250), 3));
        let shard = BackendUrl::parse("shard?scale_after=5s&mode=on-demand&readers=polling&failover_time=3s").unwrap();
        assert_eq!((shard.lanes(), shard.options.shard.on_demand), (Some(4), Some(Span::from_secs(5))));
        let expected = (Readers::Polling, Some(Span::from_secs(3)));
        assert_eq!((shard.options.shard.readers, shard.options.shard.failover_time), expected);
        let shard = BackendUrl::parse("shard?mode=on-demand&shards=2").unwrap();
        assert_eq!((shard.lanes(), shard.options.shard.on_demand), (Some(2), Some(Span::from_secs(900))));
        assert!(error("shard?scale_after=5s").contains("write mode=on-demand beside it"));
        assert_eq!(BackendUrl::parse("shard?hash=xxh3").unwrap().options.shard.hash, KeyHash::Xxh3);
        let credit = |text| BackendUrl::parse(text).unwrap().options.shard.initial_credit;
        assert_eq!(credit("shard?as=kinesis"), Span::from_millis(20));
        assert_eq!((credit("shard?initial_credit=0s"), credit("shard?initial_credit=full")), (Span::ZERO, FULL_CREDIT));
        assert_eq!(BackendUrl::parse("shard").unwrap().with_full_buckets().options.shard.initial_credit, FULL_CREDIT);
        let remedy = "write a time of at most 1s, for example 20ms, or full";
        assert_eq!(error("shard?initial_credit=2s"), format!("`initial_credit=2s`: {remedy}"));
        assert_eq!(error("shard?initial_credit=none"), format!("`initial_credit=none`: {remedy}"));
        assert_eq!(error("shard?hash=sha1"), "`hash=sha1`: write md5 or xxh3");
        assert_eq!(error("shard?readers=push"), "`readers=push`: write fan-out or polling");
        let url = BackendUrl::parse("shard?write_records=10&retention=forever").unwrap();
        assert_eq!((url.options.shard.write_records_per_s, url.options.shard.retention), (10, None));
        let url = "direct?answer=served&try_timeout=50ms&deadlines=off&overflow=block&breaker_failures=0";
        let direct = BackendUrl::parse(url).unwrap().options.direct;
        assert_eq!((direct.answer, direct.overflow, direct.deadlines), (Answer::Served, Overflow::Block, false));
        assert_eq!((direct.try_timeout, direct.breaker.failures), (Some(Span::from_millis(50)), 0));
        assert_eq!(error("direct?overflow=drop"), "`overflow=drop`: write refuse or block");
    }

    #[test]
    fn a_queues_presets_and_limits_are_read_and_bounds_are_kept() {
        use brokerlab_model::queue::{Overflow, Preset};
        let queue = |text: &str| BackendUrl::parse(text).unwrap().options.queue;
        let sqs = queue("queue?as=sqs");
        assert_eq!(sqs, Preset::Sqs.options());
        assert_eq!(
            (sqs.message_ttl, sqs.max_in_flight, sqs.max_message_bytes),
            (Some(Span::from_secs(345_600)), 120_000, 1 << 20)
        );
        let expected = QueueOptions { visibility_timeout: Span::from_secs(5), ..sqs };
        assert_eq!(queue("queue?as=sqs&visibility_timeout=5s"), expected);
        assert_eq!(queue("queue?visibility_timeout=5s&as=sqs"), expected);
        let rabbitmq = queue("queue?as=rabbitmq&max_length=10&overflow=reject-publish&dead_letter=keep");
        assert_eq!((rabbitmq.visibility_timeout, rabbitmq.max_deliveries), (Span::from_secs(1_800), 21));
        assert_eq!((rabbitmq.max_length, rabbitmq.overflow), (10, Overflow::RejectPublish));
        assert_eq!(rabbitmq.dead_letter, DeadLetter::Keep);
        let plain = queue("queue?message_ttl=60s&delay=5s&max_deliveries=3&max_in_flight=9");
        assert_eq!((plain.message_ttl, plain.delay), (Some(Span::from_secs(60)), Span::from_secs(5)));
        assert_eq!((plain.max_deliveries, plain.max_in_flight, plain.preset), (3, 9, None));
        let said = queue("queue?priorities=9&deduplication=5min&message_groups=on");
        assert_eq!((said.priorities, said.deduplication, said.message_groups), (9, Some(Span::from_secs(300)), true));
        assert_eq!(queue("queue?as=sqs-fifo").deduplication, Some(Span::from_secs(300)));
        assert_eq!(error("queue?priorities=256"), "`priorities=256`: write a number from 0 to 255");
        assert_eq!(error("queue?as=kafka"), "`queue` has no preset `kafka`; write as=rabbitmq, sqs, sqs-fifo");
        assert_eq!(
            error("queue?delay=20min&as=sqs"),
            "sqs takes delay of at most 15 min; give another value, or leave `as=sqs` out"
        );
        for (preset, refused) in [
            (
                "rabbitmq",
                "max_message=513MiB prefetch=65536 delay=1s max_in_flight=9 priorities=2 message_groups=on deduplication=1s",
            ),
            (
                "sqs",
                "max_message=2MiB message_ttl=59s max_in_flight=0 max_deliveries=1001 prefetch=10 max_length=9 priorities=2",
            ),
            (
                "sqs-fifo",
                "visibility_timeout=13h message_ttl=15d max_in_flight=120001 message_groups=off deduplication=1min",
            ),
        ] {
            for parameter in refused.split(' ') {
                let (name, told) =
                    (parameter.split('=').next().unwrap(), error(&format!("queue?as={preset}&{parameter}")));
                assert!(told.starts_with(&format!("{preset} takes {name} ")), "{told}");
                assert!(told.ends_with(&format!("give another value, or leave `as={preset}` out")), "{told}");
            }
        }
        for taken in [
            "rabbitmq&max_message=512MiB&prefetch=65535&message_ttl=1s&max_length=9",
            "sqs&max_deliveries=1000&delay=15min",
        ] {
            assert!(queue(&format!("queue?as={taken}")).preset.is_some());
        }
        assert_eq!(error("queue?message_ttl=0s"), "`message_ttl=0s`: write a time above zero, or forever");
        assert_eq!(error("queue?overflow=drop"), "`overflow=drop`: write drop-head or reject-publish");
        assert_eq!(error("queue?dead_letter=drop"), "`dead_letter=drop`: write discard, keep or channel");
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_nearest_known_one() {
        assert!(error("lgo").contains("did you mean `log`?"), "{}", error("lgo"));
        assert!(error("kafka://localhost").contains("write log, queue, shard, direct, null"));
        assert!(error("log?partition=8").contains("did you mean `partitions`?"));
        assert!(error("queue?partitions=8").contains("`queue` has no parameter `partitions`"));
        assert!(error("null?max_data=1GiB").contains("`null` has no parameter `max_data`"));
    }

    #[test]
    fn a_bad_value_names_the_parameter_and_the_remedy() {
        assert_eq!(error("log?partitions=0"), "`partitions=0`: write a number above zero");
        assert_eq!(error("log?max_memory=64"), format!("`max_memory=64`: {BYTES}"));
        assert_eq!(error("log?segment=1KiB"), "`segment=1KiB`: write a size from 64KiB to 1GiB");
        assert_eq!(error("queue?visibility_timeout=soon"), format!("`visibility_timeout=soon`: {SPAN}"));
        assert_eq!(error("log?partitions"), "`partitions` needs a value; write partitions=…");
        assert_eq!(error("log?lanes=1&lanes=2"), "`lanes` is given twice; keep one");
        assert_eq!(error("shard?lanes=4&shards=8"), "`lanes` and `shards` set the same; keep one");
        assert_eq!(error("direct?retries=-1"), "`retries=-1`: write a whole number of at least 0, for example 8");
        for zero in ["direct?timeout=0s", "direct?try_timeout=0s", "queue?visibility_timeout=0s"] {
            assert!(error(zero).ends_with("=0s`: write a time above zero"), "{}", error(zero));
        }
    }

    #[test]
    fn faults_are_read_beside_the_inner_backends_own_parameters() {
        let url = BackendUrl::parse("faulty?drop=10000&inner=queue&prefetch=5").unwrap();
        assert_eq!((url.kind(), url.name()), (Kind::Queue, "faulty"));
        assert_eq!(url.faults, Some(Faults { drop: Some(10_000), ..Faults::default() }));
        assert_eq!(url.options.queue.prefetch, 5);
        assert!(error("faulty?inner=log").contains("needs a fault"));
        assert_eq!(error("faulty?drop=0"), "`drop=0`: write a number above zero");
        assert!(error("faulty?dorp=3&drop=1").contains("did you mean `drop`?"));
    }

    #[test]
    fn a_preset_sets_a_documented_systems_limits_and_what_is_written_beside_it_wins_wherever_it_stands() {
        let log = |text: &str| BackendUrl::parse(text).unwrap().options.log;
        assert_eq!(log("log?as=kafka"), LogOptions::kafka());
        let raised = LogOptions { retention: None, max_message_bytes: 4 << 20, ..LogOptions::kafka() };
        assert_eq!(log("log?as=kafka&retention=forever&max_message=4MiB"), raised);
        assert_eq!(log("log?max_message=4MiB&retention=forever&as=kafka"), raised);
        let shard = |text: &str| BackendUrl::parse(text).unwrap().options.shard;
        assert_eq!(shard("shard?as=kinesis"), ShardOptions::kinesis());
        let other = ShardOptions { write_records_per_s: 5, max_consumers: Some(3), ..ShardOptions::kinesis() };
        assert_eq!(shard("shard?write_records=5&as=kinesis&max_consumers=3"), other);
        assert_eq!(BackendUrl::parse("shard?as=kinesis").unwrap().name(), "shard");
        let faulty = BackendUrl::parse("faulty?drop=9&as=kafka&inner=log").unwrap();
        assert_eq!((faulty.kind(), faulty.options.log), (Kind::Log, LogOptions::kafka()));
    }

    #[test]
    fn an_unknown_preset_is_refused_with_those_that_there_are() {
        assert_eq!(error("log?as=kafak"), "`log` has no preset `kafak`; write as=kafka; did you mean `kafka`?");
        assert_eq!(error("shard?as=sqs"), "`shard` has no preset `sqs`; write as=kinesis");
        assert_eq!(error("log?as=kafka&as=kafka"), "`as` is given twice; keep one");
        assert!(error("direct?as=rest").contains("`direct` has no parameter `as`"), "{}", error("direct?as=rest"));
        for kind in Kind::ALL {
            let parameter = kind.parameters().find(|known| known.name == AS);
            assert_eq!(parameter.is_some(), !kind.presets().is_empty(), "{}", kind.name());
            for preset in kind.presets() {
                let url = format!("{}?as={}", kind.name(), preset.name);
                assert!(BackendUrl::parse(&url).is_ok(), "{url}");
                assert!(parameter.is_some_and(|known| known.what.contains(preset.name)), "{url} is not in the help");
            }
        }
    }

    #[test]
    fn every_parameter_is_named_once_for_each_backend() {
        for kind in Kind::ALL {
            let mut names: Vec<_> = kind.parameters().map(|p| p.name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{}", kind.name());
        }
    }
}
