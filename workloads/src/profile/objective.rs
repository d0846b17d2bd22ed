//! What a run must achieve, written as one line each: `"end-to-end p99 <= 50ms"`, `"lost = 0"`.
//!
//! Leaves out the judging: whoever holds the measurements does that.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use brokerlab_model::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use super::units::{UnitError, parse_span};

/// Which of a message's response times is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// From the intended start until a consumer holds the message the first time.
    EndToEnd,
    /// From the intended start until the publish is acknowledged.
    Publish,
    /// From the end of the consumer's work until its settlement is confirmed.
    Settle,
}

/// Which count of the delivery checker is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// Acknowledged and not delivered.
    Lost,
    /// Delivered again without a redelivery mark.
    Duplicated,
    /// Delivered out of order within a key.
    Reordered,
    /// Changed on its way.
    Corrupted,
    /// Still held by the backend at the drain limit.
    Undelivered,
    /// Acknowledged, and given up because its time to live was over.
    Expired,
    /// Acknowledged, and given up because a queue was full.
    Overflowed,
}

/// One objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// A quantile of a response time stays at or below a bound.
    Quantile {
        /// Which response time.
        metric: Metric,
        /// Which quantile, above 0 and below 1.
        quantile: f64,
        /// The bound.
        at_most: Span,
    },
    /// A count stays at or below a bound.
    Count {
        /// Which count.
        count: Count,
        /// The bound.
        at_most: u64,
    },
}

const REMEDY: &str = "write \"end-to-end p99 <= 50ms\" (or publish, settle) or \"lost = 0\" (or duplicated, reordered, \
                      corrupted, undelivered, expired, overflowed)";

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 3] = [Self::EndToEnd, Self::Publish, Self::Settle];

    /// As it is written in a profile.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndToEnd => "end-to-end",
            Self::Publish => "publish",
            Self::Settle => "settle",
        }
    }
}

impl Count {
    /// Every count.
    pub const ALL: [Self; 7] = [
        Self::Lost,
        Self::Duplicated,
        Self::Reordered,
        Self::Corrupted,
        Self::Undelivered,
        Self::Expired,
        Self::Overflowed,
    ];

    /// As it is written in a profile.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Corrupted => "corrupted",
            Self::Undelivered => "undelivered",
            Self::Expired => "expired",
            Self::Overflowed => "overflowed",
        }
    }
}

impl Objective {
    /// Whether both bound the same figure.
    pub(crate) fn same_subject(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantile { metric: a, quantile: p, .. }, Self::Quantile { metric: b, quantile: q, .. }) => {
                a == b && (p - q).abs() < 1e-12
            }
            (Self::Count { count: a, .. }, Self::Count { count: b, .. }) => a == b,
            (Self::Quantile { .. }, Self::Count { .. }) | (Self::Count { .. }, Self::Quantile { .. }) => false,
        }
    }
}

impl FromStr for Objective {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = |what: String| UnitError { what, remedy: REMEDY };
        let (subject, bound, exact) = match (text.split_once("<="), text.split_once('=')) {
            (Some((subject, bound)), _) => (subject.trim(), bound.trim(), false),
            (None, Some((subject, bound))) => (subject.trim(), bound.trim(), true),
            (None, None) => return Err(bad(format!("`{text}` compares nothing"))),
        };
        if let Some(&count) = Count::ALL.iter().find(|c| c.name() == subject) {
            let at_most = bound.parse().map_err(|_| bad(format!("`{bound}` is not a count")))?;
            if exact && at_most != 0 {
                return Err(bad(format!("`{text}` asks for exactly {at_most}; more than zero is bounded with <=")));
            }
            return Ok(Self::Count { count, at_most });
        }
        let mut words = subject.split_whitespace();
        let (Some(metric), Some(quantile), None) = (words.next(), words.next(), words.next()) else {
            return Err(bad(format!("`{subject}` is no figure of a run")));
        };
        let metric = Metric::ALL.into_iter().find(|m| m.name() == metric);
        let metric = metric.ok_or_else(|| bad(format!("`{subject}` is no figure of a run")))?;
        if exact {
            return Err(bad(format!("`{text}` asks for exactly that time; a time is bounded with <=")));
        }
        let percent: Option<f64> = quantile.strip_prefix('p').and_then(|q| q.parse().ok());
        let percent = percent.filter(|p| *p > 0.0 && *p < 100.0);
        let percent = percent.ok_or_else(|| bad(format!("`{quantile}` is no quantile between p0 and p100")))?;
        Ok(Self::Quantile { metric, quantile: percent / 100.0, at_most: parse_span(bound)? })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile { metric, quantile, at_most } => {
                // Twelve digits take back what the division by 100 added: 0.999 prints as 99.9.
                let percent = format!("{:.9}", quantile * 100.0);
                let percent = percent.trim_end_matches('0').trim_end_matches('.');
                // In one word, as a profile is usually written.
                let bound = at_most.to_string().replace(' ', "");
                write!(f, "{} p{percent} <= {bound}", metric.name())
            }
            Self::Count { count, at_most: 0 } => write!(f, "{} = 0", count.name()),
            Self::Count { count, at_most } => write!(f, "{} <= {at_most}", count.name()),
        }
    }
}

impl Serialize for Objective {
    /// As it is written in a profile; a bound that three decimals don't hold is written in nanoseconds.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        match *self {
            Self::Quantile { at_most, .. } if text.parse() != Ok(*self) => {
                let subject = text.split(" <= ").next().unwrap_or_default();
                s.collect_str(&format_args!("{subject} <= {}ns", at_most.0))
            }
            Self::Quantile { .. } | Self::Count { .. } => s.serialize_str(&text),
        }
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Objective;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an objective{}{REMEDY}", super::units::SEPARATOR)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Objective, E> {
                text.parse().map_err(E::custom)
            }
        }
        d.deserialize_str(Text)
    }
}

impl JsonSchema for Objective {
    fn schema_name() -> Cow<'static, str> {
        "Objective".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A bound on a quantile of a response time, or on a count of the delivery checker.",
            "pattern": r"^((end-to-end|publish|settle) p[0-9.]+ *<= *[0-9][0-9_.]* ?(ns|us|µs|μs|ms|s|min|h|d)|(lost|duplicated|reordered|corrupted|undelivered|expired|overflowed) *(=|<=) *[0-9]+)$",
            "examples": ["end-to-end p99 <= 50ms", "lost = 0"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_print_as_they_are_written() {
        for text in [
            "end-to-end p99 <= 50ms",
            "publish p99.9 <= 1.5s",
            "settle p50 <= 40µs",
            "lost <= 3",
            "overflowed = 0",
            "expired <= 9",
        ] {
            assert_eq!(text.parse::<Objective>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_objective_is_refused_with_the_way_to_write_one() {
        for text in
            ["", "lost", "lost = 3", "p99 <= 5ms", "end-to-end p99 = 5ms", "end-to-end p100 <= 5ms", "lost <= x"]
        {
            assert_eq!(text.parse::<Objective>().unwrap_err().remedy, REMEDY, "{text}");
        }
        assert!("publish p99 <= 5".parse::<Objective>().is_err());
    }
}
