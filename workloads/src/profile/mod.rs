//! Profiles: what a workload is, as a TOML file with units, checked before anything runs.
//!
//! Leaves out what a profile generates (`generate`) and every file but the profile's own: a trace or a file of lines is
//! opened when the workload is compiled.

mod check;
mod contract;
mod document;
mod error;
mod faults;
mod figures;
mod headers;
mod objective;
mod read;
mod schema;
mod types;
mod units;

use std::path::Path;
use std::sync::Arc;

use brokerlab_model::{Contract, Span};
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::error::{Excerpt, ProfileError};
pub use self::faults::{Fault, FaultAction, FaultNode};
pub use self::figures::{LANES_MAX, LanesError, Recording};
pub use self::headers::{Bound, Headers, Lasting, Turn};
pub use self::objective::{Count, Metric, Objective};
pub use self::schema::schema;
pub use self::types::{
    Analytics, Arrivals, Channels, Group, Keys, Pause, Payload, Sizes, Spacing, Spread, Stage, Think, Weighted,
    Windowing, Work,
};
pub use self::units::{Bytes, Rate, UnitError, parse_bytes, parse_rate, parse_span};

use self::document::Document;
use self::units::DurationText;
use crate::generate::{FileFault, Trace, load};

/// The profile that runs when none is named.
pub const DEFAULT_PROFILE: &str = "order-processing";

const BUILTIN: &[(&str, &str)] = &[
    ("order-processing", include_str!("../../profiles/order-processing.toml")),
    ("iot-telemetry", include_str!("../../profiles/iot-telemetry.toml")),
    ("fraud-detection", include_str!("../../profiles/fraud-detection.toml")),
    ("pub-sub-fanout", include_str!("../../profiles/pub-sub-fanout.toml")),
    ("flight-replay", include_str!("../../profiles/flight-replay.toml")),
    ("web-clickstream", include_str!("../../profiles/web-clickstream.toml")),
    ("rule-alerting", include_str!("../../profiles/rule-alerting.toml")),
    ("event-sourcing-ledger", include_str!("../../profiles/event-sourcing-ledger.toml")),
];

/// The profiles that are part of the program: name and text, byte for byte as their files.
pub const fn builtin() -> &'static [(&'static str, &'static str)] {
    BUILTIN
}

/// The short forms of the command line and the field that each sets (`--rate 20k/s` is `--set arrivals.rate=20k/s`).
pub const fn set_paths() -> &'static [(&'static str, &'static str)] {
    &[
        ("rate", "arrivals.rate"),
        ("size", "sizes"),
        ("producers", "producers"),
        ("consumers", "groups.*.members"),
        ("lanes", "lanes"),
        ("work", "groups.*.work.time"),
        ("contract", "contract"),
        ("duration", "duration"),
        ("seed", "seed"),
    ]
}

/// A workload, as its file says, checked.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Whom it is for, in two sentences.
    pub about: String,
    /// The promise asked of a backend.
    #[serde(default, deserialize_with = "contract::contract")]
    #[schemars(schema_with = "contract::contract_schema")]
    pub contract: Contract,
    /// Length of the measured window.
    #[serde(deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub duration: Span,
    /// Load before the measured window, not measured.
    #[serde(default, deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub warmup: Span,
    /// How long unfinished messages are followed after the schedule's end.
    #[serde(default = "usual_drain_limit", deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub drain_limit: Span,
    /// Every random choice comes from it.
    #[serde(default = "usual_seed")]
    pub seed: u64,
    /// How many producers share the arrivals.
    #[serde(default = "one")]
    pub producers: u32,
    /// How many connections the producers share; by default one each.
    pub connections: Option<u32>,
    /// Lanes (partitions, queues, shards) per channel; by default as many as consumers and rate need.
    pub lanes: Option<u32>,
    /// The channels.
    #[serde(default = "one_channel")]
    pub channels: Channels,
    /// When messages are due.
    pub arrivals: Arrivals,
    /// How large they are.
    #[schemars(schema_with = "schema::sizes")]
    pub sizes: Sizes,
    /// Which keys they carry.
    pub keys: Keys,
    /// What stands in them.
    #[serde(default = "random_bytes")]
    #[schemars(schema_with = "schema::payload")]
    pub payload: Payload,
    /// What they say of themselves: priorities, times to live, delays, routing keys and whatever else.
    #[serde(default)]
    pub headers: Headers,
    /// Who consumes them.
    pub groups: Vec<Group>,
    /// What a run must achieve.
    #[serde(default)]
    pub objectives: Vec<Objective>,
    /// A run ends early as soon as one of these is missed.
    #[serde(default)]
    pub abort_on: Vec<Objective>,
    /// Times at which consumers stop.
    #[serde(default)]
    pub pauses: Vec<Pause>,
    /// What is done to the servers meanwhile.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// The trace, read with the profile.
    #[serde(skip)]
    pub(crate) trace: Option<Arc<Trace>>,
    /// The text of lines, read with the profile.
    #[serde(skip)]
    pub(crate) lines: Option<Arc<Vec<u8>>>,
    /// The text as written, before overrides.
    #[serde(skip)]
    pub(crate) text: String,
    /// Where the profile came from, for messages about its trace.
    #[serde(skip)]
    pub(crate) file: String,
    /// Factor on the rate of arrivals, for a staircase of load.
    #[serde(skip, default = "unscaled")]
    pub(crate) rate_factor: f64,
}

impl Profile {
    /// Reads a built-in profile by its name, or a file.
    pub fn load(name_or_path: &str) -> Result<Self, ProfileError> {
        Self::load_with::<&str>(name_or_path, &[])
    }

    /// Reads a built-in profile or a file and lays overrides over it: `("arrivals.rate", "20k/s")`. Each is checked
    /// exactly as the file is. A `duration` that is shorter than the file's also cuts `warmup` to a quarter of it, unless
    /// that is set too.
    pub fn load_with<S: AsRef<str>>(name_or_path: &str, sets: &[(S, S)]) -> Result<Self, ProfileError> {
        if let Some((name, text)) = BUILTIN.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse_with(text, &format!("{name}.toml"), None, sets);
        }
        let path = Path::new(name_or_path);
        let text = std::fs::read_to_string(path).map_err(|error| missing(name_or_path, &error))?;
        Self::parse_with(&text, name_or_path, path.parent(), sets)
    }

    /// Reads a profile's text; `file_name` is how errors call it. Names of other files in it are relative to the
    /// working directory.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ProfileError> {
        Self::parse_with::<&str>(text, file_name, Some(Path::new("")), &[])
    }

    /// Reads a profile's text with overrides; `folder` is what names of other files are relative to, none for a
    /// built-in profile.
    pub fn parse_with<S: AsRef<str>>(
        text: &str,
        file_name: &str,
        folder: Option<&Path>,
        sets: &[(S, S)],
    ) -> Result<Self, ProfileError> {
        let mut document = Document::parse(text, file_name)?;
        check::reserved(&document)?;
        if sets.is_empty() {
            return read::read::<Self>(&document)?.complete(&document, text, folder);
        }
        // The file is read first by itself: a fault of the file is not blamed on an override.
        let written = read::read::<Self>(&document)?;
        check::check(&written, &document)?;
        for (path, value) in sets {
            document.set(path.as_ref(), value.as_ref())?;
        }
        check::reserved(&document)?;
        let is_set = |key: &str| sets.iter().any(|(path, _)| path.as_ref() == key);
        let mut profile = read::read::<Self>(&document)?;
        if is_set("duration") && !is_set("warmup") && profile.duration < written.duration {
            profile.warmup = profile.warmup.min(Span(profile.duration.0 / 4));
        }
        profile.complete(&document, text, folder)
    }

    /// The same workload with its mean rate multiplied by `factor`, for a staircase of load: a trace is replayed that
    /// much faster, the think times of a closed loop are divided by it. Lanes stay those of the profile as written.
    pub fn with_rate_factor(&self, factor: f64) -> Self {
        Self { rate_factor: self.rate_factor * factor, ..self.clone() }
    }

    /// The same workload at `factor` times the load with its consumers as busy as before: as if consumers had been added, so
    /// that a staircase looks at the backend and not at them.
    pub fn with_load_factor(&self, factor: f64) -> Self {
        let mut scaled = self.with_rate_factor(factor);
        for group in &mut scaled.groups {
            group.work = group.work.scaled(1.0 / factor);
        }
        scaled
    }

    /// The factor on the rate as written; 1 unless [`Self::with_rate_factor`] was used.
    pub fn rate_factor(&self) -> f64 {
        self.rate_factor
    }

    /// The profile's text as written, before overrides.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file that it came from, as errors call it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Checks what was read and reads the files that it names.
    fn complete(mut self, document: &Document, text: &str, folder: Option<&Path>) -> Result<Self, ProfileError> {
        check::check(&self, document)?;
        text.clone_into(&mut self.text);
        document.file().clone_into(&mut self.file);
        let files = load(&self, folder).map_err(|fault| match fault {
            FileFault::Named { key, message, remedy } => document.error_at(key, message, remedy),
            FileFault::Inside(error) => error,
        })?;
        self.trace = files.trace;
        self.lines = files.lines;
        Ok(self)
    }
}

fn missing(path: &str, error: &std::io::Error) -> ProfileError {
    let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
    let near = names.iter().map(|n| (strsim::jaro_winkler(path, n), n)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = near.filter(|(score, _)| *score > 0.7).map(|(_, n)| format!("did you mean `{n}`? ")).unwrap_or_default();
    let remedy = format!("{hint}Name a readable TOML file or a built-in profile: {}", names.join(", "));
    ProfileError::whole(path, format!("this profile cannot be read: {error}"), remedy)
}

const fn usual_drain_limit() -> Span {
    Span::from_secs(5)
}

const fn usual_seed() -> u64 {
    1
}

const fn one() -> u32 {
    1
}

const fn unscaled() -> f64 {
    1.0
}

const fn random_bytes() -> Payload {
    Payload::Random
}

fn one_channel() -> Channels {
    Channels { name: Some("messages".to_owned()), ..Channels::default() }
}
