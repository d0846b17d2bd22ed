//! Samples of several cells merged exactly, and the quantiles that may be shown of them.
//!
//! Leaves out decoding and ranking, which are `workloads::record`'s.

use brokerlab_workloads::measurement::{Distributions, HistogramRecord, Measurement};
use brokerlab_workloads::record::{DecodeError, Quantile, quantile};
use brokerlab_workloads::validity::may_show;
use hdrhistogram::Histogram;

use crate::figures;

/// Merged samples of one measure, with the operations that never finished.
#[derive(Clone, Debug)]
pub struct Sample {
    histogram: Histogram<u64>,
    negative: u64,
    lowest_negative_ns: i64,
    unfinished: u64,
}

impl Default for Sample {
    fn default() -> Self {
        let histogram = Histogram::new(3).expect("three significant digits are allowed");
        Self { histogram, negative: 0, lowest_negative_ns: 0, unfinished: 0 }
    }
}

/// A quantile as it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nanoseconds.
    At(u64),
    /// Among the operations that did not finish.
    Never,
    /// Below zero.
    BelowZero,
    /// Too few samples lie beyond it, so it is not shown.
    TooFew,
    /// Nothing was recorded.
    Empty,
}

/// How long operations were followed that did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// To the drain limit, in nanoseconds.
    For(u64),
    /// Until their run was cut short: how long they would have taken is not known.
    CutShort,
}

impl Followed {
    /// Of one cell.
    pub fn of(cell: &Measurement) -> Self {
        if cell.cut_short.is_some() { Self::CutShort } else { Self::For(cell.window.drain_limit_ns) }
    }

    /// How a time is written that was not seen to end: `never (> 500 ms)`, `unfinished`.
    pub fn text(self) -> String {
        match self {
            Self::For(ns) => format!("never (> {})", figures::duration(ns)),
            Self::CutShort => "unfinished".to_owned(),
        }
    }
}

impl Sample {
    /// Adds one cell's record and its unfinished operations.
    pub fn add(&mut self, record: &HistogramRecord, unfinished: u64) -> Result<(), DecodeError> {
        let other = record.to_histogram()?;
        self.histogram.add(&other).map_err(|e| DecodeError::Hdr(e.to_string()))?;
        self.negative = self.negative.saturating_add(record.negative);
        self.lowest_negative_ns = self.lowest_negative_ns.min(record.lowest_negative_ns);
        self.unfinished = self.unfinished.saturating_add(unfinished);
        Ok(())
    }

    /// Everything that was counted, unfinished included.
    pub fn total(&self) -> u64 {
        self.histogram.len().saturating_add(self.negative).saturating_add(self.unfinished)
    }

    /// Operations that never finished.
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// Samples below zero, and the lowest of them.
    pub fn negative(&self) -> (u64, i64) {
        (self.negative, self.lowest_negative_ns)
    }

    /// Where the `q` quantile lies, however few samples lie beyond it.
    pub fn quantile(&self, q: f64) -> Quantile {
        if self.negative == 0 {
            return quantile(&self.histogram, self.unfinished, q);
        }
        // Samples below zero stand below all others: the rank moves down by their number.
        let (total, rank) = (self.total(), rank(q, self.total()));
        if rank <= self.negative {
            return Quantile::BelowZero;
        }
        let rest = total - self.negative;
        quantile(&self.histogram, self.unfinished, (rank - self.negative) as f64 / rest as f64)
    }

    /// The `q` quantile, if enough samples lie beyond it.
    pub fn shown(&self, q: f64) -> Shown {
        let total = self.total();
        if total == 0 {
            return Shown::Empty;
        }
        if !may_show(total, q) {
            return Shown::TooFew;
        }
        match self.quantile(q) {
            Quantile::Empty => Shown::Empty,
            Quantile::BelowZero => Shown::BelowZero,
            Quantile::At(ns) => Shown::At(ns),
            Quantile::Never => Shown::Never,
        }
    }
}

/// The rank, from 1, of a quantile; a product just above a whole number by rounding counts as it.
fn rank(q: f64, total: u64) -> u64 {
    let exact = q.clamp(0.0, 1.0) * total as f64;
    ((exact - exact * 4.0 * f64::EPSILON).ceil() as u64).clamp(1, total.max(1))
}

impl Shown {
    /// As text: `1.23 ms`, `never (> 500 ms)`, `–`.
    pub fn text(self, followed: Followed) -> String {
        match self {
            Self::At(ns) => figures::duration(ns),
            Self::Never => followed.text(),
            Self::BelowZero => "below zero".to_owned(),
            Self::TooFew | Self::Empty => "–".to_owned(),
        }
    }
}

/// The four distributions of one operation, merged over cells.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// Completed − intended start.
    pub response: Sample,
    /// Completed − actual start.
    pub service: Sample,
    /// What the backend held back.
    pub blocked: Sample,
    /// What the generator came late.
    pub late: Sample,
}

impl Operation {
    /// Adds one cell.
    pub fn add(&mut self, cell: &Distributions) -> Result<(), DecodeError> {
        self.response.add(&cell.response, cell.unfinished)?;
        self.service.add(&cell.service, cell.unfinished)?;
        self.blocked.add(&cell.blocked, 0)?;
        self.late.add(&cell.late, 0)
    }
}
