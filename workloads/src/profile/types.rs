//! What a profile's parts are: arrivals, sizes, keys, payload, channels, groups, work, objectives, pauses.
//!
//! These types are the profile's schema: the reader and the JSON Schema both come from them. Leaves out whether the
//! parts fit together (`check`) and what they generate (`generate`).

use brokerlab_model::Span;
use brokerlab_model::windows::{WindowKind, WindowOptions};
use schemars::JsonSchema;
use serde::Deserialize;

use super::headers::Bound;
use super::schema;
use super::units::{self, Bytes, DurationText, Rate};

/// When messages are due. Rates are totals over all producers; `rate` is the mean rate in every kind, and where it is
/// given beside other rates those are scaled to it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Arrivals {
    /// Evenly spaced, exact to the nanosecond.
    Constant {
        /// Messages per second.
        rate: Rate,
    },
    /// Independent of each other: exponential gaps.
    Poisson {
        /// Mean messages per second.
        rate: Rate,
    },
    /// Markov-modulated Poisson: all producers together change between states of different rates.
    Mmpp {
        /// Each state is left after an exponential time; the next is drawn evenly from the others.
        states: Vec<Stage>,
        /// Mean rate to which the states' rates are scaled.
        rate: Option<Rate>,
    },
    /// Each producer for itself sends in bursts: exponential times on (Poisson) and off (nothing).
    OnOff {
        /// Mean messages per second over on and off.
        rate: Rate,
        /// Mean time on.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        on: Span,
        /// Mean time off.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        off: Span,
    },
    /// One rate after the other, then again from the first.
    Steps {
        /// The rates and how long each lasts.
        steps: Vec<Stage>,
        /// Mean rate to which the steps' rates are scaled.
        rate: Option<Rate>,
        /// How messages are spaced at a given rate.
        #[serde(default)]
        spacing: Spacing,
    },
    /// From one rate to another in a straight line, then that one.
    Ramp {
        /// Rate at the start.
        from: Rate,
        /// Rate at the end and from then on.
        to: Rate,
        /// How long the change takes; by default the whole schedule.
        #[serde(default, deserialize_with = "units::span_option")]
        #[schemars(with = "Option<DurationText>")]
        over: Option<Span>,
        /// Mean rate of the schedule to which both rates are scaled.
        rate: Option<Rate>,
        /// How messages are spaced at a given rate.
        #[serde(default)]
        spacing: Spacing,
    },
    /// A day: lowest at the start, highest half a period later.
    Diurnal {
        /// Mean rate over a period.
        rate: Rate,
        /// Length of the day.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        period: Span,
        /// How far the rate swings about its mean: 0 not at all, 1 down to nothing.
        #[serde(default = "most_of_it")]
        swing: f64,
        /// How messages are spaced at a given rate.
        #[serde(default)]
        spacing: Spacing,
    },
    /// One rate, and for a while another.
    Spike {
        /// Rate before and after.
        base: Rate,
        /// Rate within the spike.
        peak: Rate,
        /// When it begins, from the schedule's start.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        at: Span,
        /// How long it lasts.
        #[serde(rename = "for", deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        length: Span,
        /// Mean rate of the schedule to which both rates are scaled.
        rate: Option<Rate>,
        /// How messages are spaced at a given rate.
        #[serde(default)]
        spacing: Spacing,
    },
    /// Each producer is one user: it thinks, sends, waits for the completion, thinks again.
    ClosedLoop {
        /// The time between a completion and the next message.
        #[schemars(schema_with = "schema::think")]
        think: Think,
        /// What producers ÷ mean think time is scaled to: the rate if every response took no time.
        rate: Option<Rate>,
    },
    /// A recorded trace, replayed once.
    Trace {
        /// The trace, beside the profile's file; `*.csv`, or `*.parquet` in a build with that feature.
        file: String,
        /// The column of times: numbers, or dates such as `2001-01-01T06:55:00Z`.
        #[serde(default = "time_column")]
        time: String,
        /// What a number in the column of times counts.
        #[serde(default = "one_second", deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        unit: Span,
        /// The column of keys.
        key: Option<String>,
        /// The column of sizes in bytes.
        size: Option<String>,
        /// How many times faster than recorded.
        speed_up: Option<f64>,
        /// Mean rate, instead of `speed_up`.
        rate: Option<Rate>,
    },
}

/// A rate that lasts for a time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Messages per second.
    pub rate: Rate,
    /// How long it lasts; in a state of `mmpp` the mean time.
    #[serde(rename = "for", deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub length: Span,
}

/// How messages are spaced at a given rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Spacing {
    /// Independent of each other (Poisson).
    #[default]
    Random,
    /// Evenly.
    Even,
}

/// Time between a completion and the user's next message.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Think {
    /// Always the same.
    Constant {
        /// The time.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        time: Span,
    },
    /// Exponential.
    Exponential {
        /// The mean time.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        time: Span,
    },
}

/// How large messages are; a size counts the whole payload with its 32-byte stamp. A text such as `"512B"` is a fixed
/// size.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Sizes {
    /// All the same.
    Fixed {
        /// The size.
        size: Bytes,
    },
    /// Every size between two equally often.
    Uniform {
        /// The smallest.
        min: Bytes,
        /// The largest.
        max: Bytes,
    },
    /// Log-normal, clamped: a smaller or larger draw counts as the bound.
    LogNormal {
        /// Half of the messages are smaller.
        median: Bytes,
        /// Standard deviation of the size's natural logarithm.
        sigma: f64,
        /// The smallest.
        min: Bytes,
        /// The largest.
        max: Bytes,
    },
    /// As observed: sizes with weights.
    Empirical {
        /// The sizes seen and how often each was.
        values: Vec<Weighted>,
    },
    /// From the trace's column of sizes.
    Trace {
        /// Smaller sizes are raised to this; without it, one below the 32-byte stamp is an error.
        min: Option<Bytes>,
    },
}

/// A size and how often it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The size.
    pub size: Bytes,
    /// Its weight; only ratios of weights matter.
    pub weight: f64,
}

/// Which keys messages carry.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Keys {
    /// Each equally often.
    Uniform {
        /// How many keys.
        count: u64,
    },
    /// Key r (from 1) with weight r^-exponent.
    Zipf {
        /// How many keys.
        count: u64,
        /// The exponent; 0 is uniform, about 1 is usual.
        exponent: f64,
    },
    /// A few keys take most of the messages; the rest share what is left.
    HotSet {
        /// How many keys.
        count: u64,
        /// How many of them are hot.
        hot: u64,
        /// Share of the messages that the hot keys take, 0 to 1.
        share: f64,
    },
    /// One after the other, over all producers, then again from the first.
    Sequential {
        /// How many keys.
        count: u64,
    },
    /// From the trace's column of keys.
    Trace,
}

/// What stands in a message after its stamp.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Payload {
    /// Random bytes: not compressible.
    Random,
    /// Bytes that a usual compressor makes about `ratio` times smaller.
    Compressible {
        /// The ratio, at least 1.
        ratio: f64,
    },
    /// An event as JSON, filled up to the message's size.
    Json,
    /// Consecutive lines of a text file, cut or continued to the message's size.
    Lines {
        /// The file, beside the profile's file.
        file: String,
    },
}

/// The channels that messages go to: `name = "orders"`, or `name = "orders-{}"` with `count`, or `names = […]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// One channel, or a pattern in which `{}` stands for a number from 0.
    pub name: Option<String>,
    /// How many channels the pattern stands for.
    pub count: Option<u32>,
    /// Channels by name, instead of `name`.
    #[serde(default)]
    pub names: Vec<String>,
    /// Which channel a message takes.
    #[serde(default)]
    pub spread: Spread,
}

impl Channels {
    /// How many channels there are.
    pub fn len(&self) -> u32 {
        if self.names.is_empty() { self.count.unwrap_or(1) } else { self.names.len() as u32 }
    }

    /// Whether there is none; no checked profile has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every channel's name, in the order of their numbers.
    pub fn resolved(&self) -> Vec<String> {
        match &self.name {
            Some(pattern) if self.names.is_empty() => {
                (0..self.len()).map(|i| pattern.replace("{}", &i.to_string())).collect()
            }
            Some(_) | None => self.names.clone(),
        }
    }
}

/// Which channel a message takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// One channel per key.
    #[default]
    ByKey,
    /// One after the other.
    RoundRobin,
    /// One channel per producer.
    ByProducer,
}

/// A consumer group: it gets every message of every channel, or those that its bindings let through; its members share them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many consumers share its messages.
    pub members: u32,
    /// How long a member is busy with a message; by default not at all.
    #[serde(default)]
    #[schemars(schema_with = "schema::work")]
    pub work: Work,
    /// How many deliveries a member may hold unsettled.
    #[serde(default = "usual_prefetch")]
    pub prefetch: u32,
    /// Windows over what the group consumes.
    pub analytics: Option<Analytics>,
    /// Which messages it gets: those that one of these lets through. Without any it gets everything. Needs a backend with routing.
    #[serde(default)]
    pub bindings: Vec<Bound>,
}

/// Windows over what a group consumes, by key and by event time, which is when a message was due. Messages and their sizes are
/// counted. In the end they are held against a batch computation over the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Analytics {
    /// How event time is cut.
    pub window: Windowing,
    /// How long after its end a window still takes messages; by default not at all.
    #[serde(default, deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub lateness: Span,
    /// How far behind the latest message of its lane one may be without being late.
    #[serde(default = "usual_disorder", deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub disorder: Span,
    /// A lane without messages holds windows back for this long, in event time of the others.
    #[serde(default = "one_second", deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub idle: Span,
}

/// How event time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Windowing {
    /// One window after another.
    Tumbling {
        /// How long each is.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        size: Span,
    },
    /// Windows that overlap.
    Sliding {
        /// How long each is.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        size: Span,
        /// From one's start to the next one's; at most the size.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        slide: Span,
    },
    /// Per key: until nothing came for the gap.
    Session {
        /// How long a key must be silent.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        gap: Span,
    },
}

impl Analytics {
    /// The windows over so many lanes.
    pub fn options(self, lanes: u32) -> WindowOptions {
        let kind = match self.window {
            Windowing::Tumbling { size } => WindowKind::Tumbling { size },
            Windowing::Sliding { size, slide } => WindowKind::Sliding { size, slide },
            Windowing::Session { gap } => WindowKind::Session { gap },
        };
        WindowOptions {
            lateness: self.lateness,
            disorder: self.disorder,
            idle_after: Some(self.idle),
            lanes,
            ..WindowOptions::new(kind)
        }
    }
}

/// How long a member is busy with a message. It occupies the member, not a core, unless `cpu = true`. A text such as
/// `"80us"` is a constant time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Work {
    /// Always the same.
    Constant {
        /// The time.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        time: Span,
        /// Whether it occupies a core.
        #[serde(default)]
        cpu: bool,
    },
    /// Exponential.
    Exponential {
        /// The mean time.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        time: Span,
        /// Whether it occupies a core.
        #[serde(default)]
        cpu: bool,
    },
    /// Log-normal.
    LogNormal {
        /// The mean time.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        time: Span,
        /// Standard deviation of the time's natural logarithm.
        sigma: f64,
        /// Whether it occupies a core.
        #[serde(default)]
        cpu: bool,
    },
    /// Each key has a time of its own, exponential over the keys.
    ByKey {
        /// The mean time over the keys.
        #[serde(deserialize_with = "units::span")]
        #[schemars(with = "DurationText")]
        time: Span,
        /// Whether it occupies a core.
        #[serde(default)]
        cpu: bool,
    },
}

impl Default for Work {
    fn default() -> Self {
        Self::Constant { time: Span::ZERO, cpu: false }
    }
}

impl Work {
    /// The mean time.
    pub fn mean(self) -> Span {
        match self {
            Self::Constant { time, .. }
            | Self::Exponential { time, .. }
            | Self::LogNormal { time, .. }
            | Self::ByKey { time, .. } => time,
        }
    }

    /// The same kind of work, its mean time multiplied by `factor`.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        match &mut self {
            Self::Constant { time, .. }
            | Self::Exponential { time, .. }
            | Self::LogNormal { time, .. }
            | Self::ByKey { time, .. } => *time = Span((time.0 as f64 * factor).round() as u64),
        }
        self
    }

    /// Whether it occupies a core, not only the member.
    pub fn occupies_core(self) -> bool {
        match self {
            Self::Constant { cpu, .. }
            | Self::Exponential { cpu, .. }
            | Self::LogNormal { cpu, .. }
            | Self::ByKey { cpu, .. } => cpu,
        }
    }
}

/// A group's consumers stop, a backlog builds, they return and drain it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// The group's name.
    pub group: String,
    /// When they stop, from the start of the measured window.
    #[serde(deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub at: Span,
    /// For how long.
    #[serde(rename = "for", deserialize_with = "units::span")]
    #[schemars(with = "DurationText")]
    pub length: Span,
}

const fn most_of_it() -> f64 {
    0.8
}

const fn usual_prefetch() -> u32 {
    64
}

const fn usual_disorder() -> Span {
    Span::from_millis(100)
}

const fn one_second() -> Span {
    Span::from_secs(1)
}

fn time_column() -> String {
    "time".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_work_keeps_its_kind_and_changes_its_mean() {
        let work = Work::LogNormal { time: Span::from_micros(80), sigma: 0.5, cpu: true };
        let expected = Work::LogNormal { time: Span::from_micros(4), sigma: 0.5, cpu: true };
        assert_eq!(work.scaled(0.05), expected);
    }
}
