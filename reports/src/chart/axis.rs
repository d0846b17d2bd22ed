//! Axes: linear, logarithmic, and *nines*, the logarithm of 1 ÷ (1 − quantile), each with ticks that people read.
//!
//! plotters' own logarithmic axis chooses ticks by itself and has none for quantiles, so values are mapped here. Leaves out
//! drawing.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::figures;

/// Values outside these ends stretch no axis; only a changed file holds such.
const SMALLEST: f64 = 1e-12;
const LARGEST: f64 = 1e24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
    Nines,
}

/// Characters of names that stand beside each other below a figure without touching.
const PLACES_CHARS: usize = 64;

/// One axis: how values map to it and where its ticks are.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A logarithmic axis around every value, its ends at 1, 2 or 5 times a power of ten.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>, name: fn(f64) -> String) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.into_iter().filter(|v| *v > SMALLEST && *v < LARGEST) {
            low = low.min(value);
            high = high.max(value);
        }
        if high <= 0.0 {
            (low, high) = (1.0, 10.0);
        }
        let (low, mut high) = (nice_below(low * 0.95), nice_above(high * 1.05));
        if high / low < 4.0 {
            high = nice_above(low * 4.0);
        }
        let mut ticks = log_ticks(low, high, &[1.0, 2.0, 5.0]);
        if ticks.len() > 7 {
            ticks = log_ticks(low, high, &[1.0]);
        }
        let ticks = ticks.into_iter().map(|v| (v, figures::trimmed(&name(v)))).collect();
        Self { scale: Scale::Log, low, high, ticks }
    }

    /// A linear axis from zero (or from the lowest value, if that is below) to a round number.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>, name: fn(f64) -> String) -> Self {
        let (low, high) = values
            .into_iter()
            .filter(|v| v.abs() < LARGEST)
            .fold((0.0_f64, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        let high = if high <= low { low + 1.0 } else { high };
        let step = nice_above((high - low) / 5.0);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let count = (last - first) as i32;
        let ticks =
            (0..=count).map(|n| (first + f64::from(n)) * step).map(|v| (v, figures::trimmed(&name(v)))).collect();
        Self { scale: Scale::Linear, low: first * step, high: last * step, ticks }
    }

    /// Quantiles from 0 to the largest, spaced by their nines.
    pub(crate) fn nines(largest: f64) -> Self {
        let all = [0.0, 0.5, 0.9, 0.99, 0.999, 0.999_9, 0.999_99, 0.999_999];
        let high = largest.clamp(0.9, 0.999_999_9);
        let ticks = all.into_iter().filter(|q| *q <= high).map(|q| (q, figures::quantile_name(q))).collect();
        Self { scale: Scale::Nines, low: 0.0, high, ticks }
    }

    /// One place for each name, at 0, 1, 2 …
    pub(crate) fn places(names: &[String]) -> Self {
        let room = (PLACES_CHARS / names.len().max(1)).max(5);
        let ticks = names.iter().enumerate().map(|(n, name)| (n as f64, shortened(name, room))).collect();
        Self { scale: Scale::Linear, low: -0.5, high: names.len() as f64 - 0.5, ticks }
    }

    /// Where a value lies, 0 to 1 along the axis; beyond its ends it stays at them.
    fn position(&self, value: f64) -> f64 {
        let (value, low, high) = (self.flat(value), self.flat(self.low), self.flat(self.high));
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn flat(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(self.low * 1e-3).log10(),
            Scale::Nines => -(1.0 - value.min(0.999_999_9)).log10(),
        }
    }

    /// The axis' ends.
    pub(crate) fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// How many characters its longest tick takes.
    pub(crate) fn widest(&self) -> usize {
        self.ticks.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0)
    }
}

fn power_below(value: f64) -> f64 {
    10_f64.powi(value.log10().floor() as i32)
}

fn nice_above(value: f64) -> f64 {
    let power = power_below(value);
    [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|v| *v >= value * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

fn nice_below(value: f64) -> f64 {
    let power = power_below(value);
    [5.0, 2.0].into_iter().map(|m| m * power).find(|v| *v <= value * (1.0 + 1e-9)).unwrap_or(power)
}

/// A name in so many characters: its middle left out, because rows of one backend begin alike and differ at their ends.
fn shortened(name: &str, room: usize) -> String {
    let chars = name.chars().count();
    if chars <= room {
        return name.to_owned();
    }
    let front = (room - 1) / 2;
    let back = name.chars().skip(chars - (room - 1 - front));
    name.chars().take(front).chain(['…']).chain(back).collect()
}

fn log_ticks(low: f64, high: f64, multiples: &[f64]) -> Vec<f64> {
    let mut ticks = Vec::new();
    let mut power = power_below(low);
    while power <= high * (1.0 + 1e-9) {
        let inside = |v: &f64| *v >= low * (1.0 - 1e-9) && *v <= high * (1.0 + 1e-9);
        ticks.extend(multiples.iter().map(|m| m * power).filter(inside));
        power *= 10.0;
    }
    ticks
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (f64::from(limit.1 - limit.0) * self.position(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let same = |tick: &&(f64, String)| (tick.0 - value).abs() <= 1e-12 * value.abs();
        self.ticks.iter().find(same).map_or_else(String::new, |(_, name)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_each_other_keep_their_ends_and_have_room() {
        let names = ["log", "direct?answer=served", "direct?answer=stored", "log (again)", "ä"].map(str::to_owned);
        let axis = Axis::places(&names);
        let shown: Vec<&str> = axis.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(shown, ["log", "direc…served", "direc…stored", "log (again)", "ä"]);
        assert!(axis.widest() * names.len() <= PLACES_CHARS + names.len());
    }

    fn ticks(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn a_log_axis_spans_its_values_and_maps_decades_evenly() {
        let axis = Axis::log([1.2e6, 4.0e8], figures::duration_f64);
        assert_eq!(axis.ends(), (1e6, 5e8));
        let narrow = Axis::log([1.2e6, 9e6], figures::duration_f64);
        assert_eq!(ticks(&narrow), ["1 ms", "2 ms", "5 ms", "10 ms"]);
        assert_eq!([1e6, 1e7].map(|v| narrow.map(&v, (0, 1_000))), [0, 1_000]);
        assert_eq!(narrow.map(&3.162_277e6, (0, 1_000)), 500);
    }

    #[test]
    fn nines_are_evenly_apart() {
        let axis = Axis::nines(0.999_9);
        assert_eq!(ticks(&axis), ["p0", "p50", "p90", "p99", "p99.9", "p99.99"]);
        assert_eq!([0.0, 0.9, 0.99, 0.999].map(|q| axis.map(&q, (0, 400))), [0, 100, 200, 300]);
    }

    #[test]
    fn a_linear_axis_ends_at_a_round_number() {
        assert_eq!(Axis::linear([3.0, 17.0], figures::rate).ends(), (0.0, 20.0));
        assert_eq!(Axis::linear([], figures::rate).ends(), (0.0, 1.0));
    }
}
