//! Quantities as people write them: `"20k/s"`, `"512B"`, `"250ms"`. A bare number is refused where a unit is needed.
//!
//! Leaves out where a bad quantity stands: the reader adds file, line and column.

use std::borrow::Cow;
use std::fmt;

use brokerlab_model::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// Messages per second; written `"20k/s"`, `"0.5/s"`, `"600/min"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

/// A number of bytes; written `"512B"`, `"4kB"`, `"1MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u32);

/// What the schema says of a length of time; the profile itself holds a [`Span`].
#[derive(Debug)]
pub(crate) struct DurationText;

/// Why a quantity was not understood: what it is, and how to write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}{SEPARATOR}{remedy}")]
pub struct UnitError {
    /// What is wrong.
    pub what: String,
    /// How it is written.
    pub remedy: &'static str,
}

/// Splits an error's text into message and remedy on its way through serde.
pub(crate) const SEPARATOR: char = '\u{1f}';

const RATE: &str = "write messages per second as \"20k/s\", \"1.5M/s\" or \"600/min\"";
const BYTES: &str = "write bytes as \"512B\", \"4kB\", \"64KiB\" or \"1MiB\"";
const DURATION: &str = "write a length of time as \"250ms\", \"1.5s\", \"40us\", \"2min\" or \"1h\"";

/// Reads `"20k/s"`: messages per second.
pub fn parse_rate(text: &str) -> Result<Rate, UnitError> {
    let bad = || wrong(text, "a rate", RATE);
    let (amount, per) = text.split_once('/').ok_or_else(bad)?;
    let seconds = match per.trim() {
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    let (number, suffix) = split(amount).ok_or_else(bad)?;
    let factor = match suffix {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return Err(bad()),
    };
    Ok(Rate(number * factor / seconds))
}

/// Reads `"512B"`: bytes, at most 4 GiB.
pub fn parse_bytes(text: &str) -> Result<Bytes, UnitError> {
    let bad = || wrong(text, "a size", BYTES);
    let (number, suffix) = split(text).ok_or_else(bad)?;
    let factor = match suffix {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" | "kiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(bad()),
    };
    let bytes = number * factor;
    if bytes > f64::from(u32::MAX) {
        return Err(UnitError { what: format!("`{text}` is more than a message can hold"), remedy: "stay below 4GiB" });
    }
    if bytes.fract() != 0.0 {
        return Err(UnitError { what: format!("`{text}` is not a whole number of bytes"), remedy: BYTES });
    }
    Ok(Bytes(bytes as u32))
}

/// Reads `"250ms"`: a length of time.
pub fn parse_span(text: &str) -> Result<Span, UnitError> {
    let bad = || wrong(text, "a length of time", DURATION);
    let (number, suffix) = split(text).ok_or_else(bad)?;
    let nanoseconds = match suffix {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "min" => 60e9,
        "h" => 3600e9,
        "d" => 86_400e9,
        _ => return Err(bad()),
    };
    let ns = number * nanoseconds;
    // A century: far above any run, far below the end of a u64 of nanoseconds.
    if ns > 100.0 * 365.0 * 86_400e9 {
        return Err(UnitError { what: format!("`{text}` is longer than a century"), remedy: DURATION });
    }
    Ok(Span(ns.round() as u64))
}

fn wrong(text: &str, kind: &str, remedy: &'static str) -> UnitError {
    UnitError { what: format!("`{text}` is not {kind}"), remedy }
}

/// A non-negative decimal number and the letters after it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number: f64 = digits.replace('_', "").parse().ok()?;
    number.is_finite().then_some((number, suffix.trim()))
}

/// Visits a string with a parser of this module; a bare number is refused with its remedy.
struct Quantity<T> {
    kind: &'static str,
    remedy: &'static str,
    parse: fn(&str) -> Result<T, UnitError>,
}

impl<T> Quantity<T> {
    fn bare<E: de::Error>(&self, number: impl fmt::Display) -> Result<T, E> {
        Err(E::custom(UnitError {
            what: format!("`{number}` has no unit; {} needs one", self.kind),
            remedy: self.remedy,
        }))
    }
}

impl<T> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SEPARATOR}{}", self.kind, self.remedy)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.bare(number)
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.bare(number)
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.bare(number)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Quantity { kind: "a rate", remedy: RATE, parse: parse_rate })
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Quantity { kind: "a size", remedy: BYTES, parse: parse_bytes })
    }
}

/// For `#[serde(deserialize_with)]`: a [`Span`] written with its unit.
pub(crate) fn span<'de, D: Deserializer<'de>>(d: D) -> Result<Span, D::Error> {
    d.deserialize_str(Quantity { kind: "a length of time", remedy: DURATION, parse: parse_span })
}

/// For `#[serde(deserialize_with)]`: an optional [`Span`] written with its unit.
pub(crate) fn span_option<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Span>, D::Error> {
    span(d).map(Some)
}

impl fmt::Display for Rate {
    /// `20k/s`, `1.5M/s`, `0.5/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, suffix) = match self.0 {
            r if r >= 1e6 => (r / 1e6, "M"),
            r if r >= 1e3 => (r / 1e3, "k"),
            r => (r, ""),
        };
        let text = format!("{value:.3}");
        write!(f, "{}{suffix}/s", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B", self.0)
    }
}

fn text_schema(description: &str, pattern: &str, example: &str) -> Schema {
    json_schema!({ "type": "string", "description": description, "pattern": pattern, "examples": [example] })
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("Messages per second.", r"^[0-9][0-9_.]* ?[kMG]?/(s|min|h)$", "20k/s")
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("A number of bytes.", r"^[0-9][0-9_.]* ?(B|kB|MB|GB|KiB|kiB|MiB|GiB)$", "512B")
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("A length of time.", r"^[0-9][0-9_.]* ?(ns|us|µs|μs|ms|s|min|h|d)$", "250ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        assert_eq!(parse_rate("20k/s"), Ok(Rate(20_000.0)));
        assert_eq!(parse_rate("1.5M/s"), Ok(Rate(1.5e6)));
        assert_eq!(parse_rate("600/min"), Ok(Rate(10.0)));
        assert_eq!(parse_bytes("512B"), Ok(Bytes(512)));
        assert_eq!(parse_bytes("1MiB"), Ok(Bytes(1 << 20)));
        assert_eq!(parse_bytes("1.5kB"), Ok(Bytes(1500)));
        assert_eq!(parse_bytes("1GiB"), Ok(Bytes(1 << 30)));
        assert_eq!(parse_bytes("1.5GB"), Ok(Bytes(1_500_000_000)));
        assert_eq!(parse_span("250ms"), Ok(Span::from_millis(250)));
        assert_eq!(parse_span("0.5 s"), Ok(Span::from_millis(500)));
        assert_eq!(parse_span("2min"), Ok(Span::from_secs(120)));
    }

    #[test]
    fn a_quantity_without_its_unit_is_refused_with_the_way_to_write_it() {
        for text in ["20k", "20", "/s", "20kk/s", "-5/s", "1e3/s", "", "k/s", "1..2/s"] {
            assert_eq!(parse_rate(text).unwrap_err().remedy, RATE, "{text}");
        }
        for text in ["512", "512 bytes", "0.3B", "-1B", "B"] {
            assert_eq!(parse_bytes(text).unwrap_err().remedy, BYTES, "{text}");
        }
        for text in ["250", "5m", "ms", "1e9s", "-1s", "200000d"] {
            assert_eq!(parse_span(text).unwrap_err().remedy, DURATION, "{text}");
        }
        for text in ["5000MiB", "4GiB", "4.3GB"] {
            assert_eq!(parse_bytes(text).unwrap_err().remedy, "stay below 4GiB", "{text}");
        }
    }

    #[test]
    fn rates_print_as_they_are_written() {
        for text in ["20k/s", "1.5M/s", "0.5/s", "750/s"] {
            assert_eq!(parse_rate(text).unwrap().to_string(), text);
        }
    }
}
