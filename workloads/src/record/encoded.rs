//! Histograms as text without loss, and quantiles that count unfinished operations above every sample.
//!
//! Leaves out counting, which is [`Tally`]'s.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use super::tally::{DIGITS, Tally};
use crate::measurement::{Distributions, HistogramRecord};

/// Why a stored histogram can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The text is not base64.
    #[error(
        "a stored histogram is not base64 ({0}); the result file was changed or cut, take it from its source again"
    )]
    Base64(#[from] base64::DecodeError),
    /// The bytes are not an HdrHistogram in V2 encoding.
    #[error(
        "a stored histogram is no HdrHistogram V2 ({0}); the result file was changed or cut, take it from its source again"
    )]
    Hdr(String),
    /// The histogram does not hold as many samples as its record says.
    #[error(
        "a stored histogram holds {found} samples and its record says {recorded}; the result file was changed, take it from its source again"
    )]
    Count {
        /// Samples in the histogram.
        found: u64,
        /// Samples by the record.
        recorded: u64,
    },
}

/// Where a quantile lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantile {
    /// There is nothing to take a quantile of.
    Empty,
    /// Among the samples below zero.
    BelowZero,
    /// At this many nanoseconds: the highest value of the sample's bucket, at most 0.1 % above the sample.
    At(u64),
    /// Among the operations that did not finish within the drain limit.
    Never,
}

impl Quantile {
    /// Nanoseconds; `never` where it was never reached, and zero where there is nothing or less than nothing.
    pub fn or(self, never: u64) -> u64 {
        match self {
            Self::At(ns) => ns,
            Self::Never => never,
            Self::Empty | Self::BelowZero => 0,
        }
    }
}

/// A histogram as every record of this project holds it: nanoseconds, three significant digits, no upper bound.
pub(super) fn empty_histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("three significant digits are allowed")
}

/// The `q` quantile (0 to 1) of the samples in `histogram` and of `unfinished` operations above all of them.
///
/// It is the smallest value that at least the share `q` of all of them does not exceed.
pub fn quantile(histogram: &Histogram<u64>, unfinished: u64, q: f64) -> Quantile {
    quantile_of(0, histogram, unfinished, q)
}

fn quantile_of(negative: u64, histogram: &Histogram<u64>, unfinished: u64, q: f64) -> Quantile {
    let finished = negative.saturating_add(histogram.len());
    let total = finished.saturating_add(unfinished);
    if total == 0 {
        return Quantile::Empty;
    }
    let rank = rank_of(q, total);
    if rank > finished {
        return Quantile::Never;
    }
    if rank <= negative {
        return Quantile::BelowZero;
    }
    let mut below = negative;
    for step in histogram.iter_recorded() {
        below = below.saturating_add(step.count_at_value());
        if below >= rank {
            return Quantile::At(histogram.highest_equivalent(step.value_iterated_to()));
        }
    }
    Quantile::Never
}

/// The rank, from 1, at which the quantile lies; a product that a rounding error put just above a whole number counts as it.
fn rank_of(q: f64, total: u64) -> u64 {
    let exact = q.clamp(0.0, 1.0) * total as f64;
    let rank = (exact - exact * 4.0 * f64::EPSILON).ceil() as u64;
    rank.clamp(1, total)
}

impl HistogramRecord {
    /// Encodes a histogram; one without samples has an empty text. Equal samples give equal texts.
    pub fn from_histogram(histogram: &Histogram<u64>) -> Self {
        let mut text = String::new();
        if !histogram.is_empty() {
            // The encoding names the highest value that could be held, which depends on how the histogram grew.
            let mut tight = Histogram::<u64>::new_with_bounds(1, histogram.max().max(2), DIGITS)
                .expect("three significant digits and an upper bound of at least 2 are allowed");
            tight.add(histogram).expect("the bound is the highest sample's");
            let mut bytes = Vec::new();
            V2DeflateSerializer::new()
                .serialize(&tight, &mut bytes)
                .expect("writing to memory does not fail and no bucket holds 2^63 samples");
            text = STANDARD.encode(bytes);
        }
        Self { hdr_v2_deflate_base64: text, count: histogram.len(), negative: 0, lowest_negative_ns: 0 }
    }

    /// Encodes a tally, samples below zero included.
    pub fn from_tally(tally: &Tally) -> Self {
        Self {
            negative: tally.negative(),
            lowest_negative_ns: tally.lowest_negative(),
            ..Self::from_histogram(&tally.histogram())
        }
    }

    /// The samples of zero or more.
    pub fn to_histogram(&self) -> Result<Histogram<u64>, DecodeError> {
        let mut histogram = empty_histogram();
        if !self.hdr_v2_deflate_base64.is_empty() {
            let bytes = STANDARD.decode(&self.hdr_v2_deflate_base64)?;
            let stored: Histogram<u64> =
                Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|e| DecodeError::Hdr(e.to_string()))?;
            histogram.add(&stored).map_err(|e| DecodeError::Hdr(e.to_string()))?;
        }
        if histogram.len() == self.count {
            Ok(histogram)
        } else {
            Err(DecodeError::Count { found: histogram.len(), recorded: self.count })
        }
    }

    /// Adds every sample of `other`, exactly.
    pub fn merge(&mut self, other: &Self) -> Result<(), DecodeError> {
        let mut histogram = self.to_histogram()?;
        histogram.add(&other.to_histogram()?).map_err(|e| DecodeError::Hdr(e.to_string()))?;
        let negative = self.negative + other.negative;
        let lowest_negative_ns = self.lowest_negative_ns.min(other.lowest_negative_ns);
        *self = Self { negative, lowest_negative_ns, ..Self::from_histogram(&histogram) };
        Ok(())
    }

    /// All samples, those below zero included.
    pub fn samples(&self) -> u64 {
        self.count.saturating_add(self.negative)
    }

    /// The `q` quantile of the samples and of `unfinished` operations above all of them.
    pub fn quantile(&self, unfinished: u64, q: f64) -> Result<Quantile, DecodeError> {
        Ok(self.quantiles(unfinished, &[q])?.first().copied().unwrap_or(Quantile::Empty))
    }

    /// Several quantiles with one decoding.
    pub fn quantiles(&self, unfinished: u64, qs: &[f64]) -> Result<Vec<Quantile>, DecodeError> {
        let histogram = self.to_histogram()?;
        Ok(qs.iter().map(|&q| quantile_of(self.negative, &histogram, unfinished, q)).collect())
    }
}

impl Distributions {
    /// Adds every sample of `other`, exactly.
    pub fn merge(&mut self, other: &Self) -> Result<(), DecodeError> {
        self.response.merge(&other.response)?;
        self.service.merge(&other.service)?;
        self.blocked.merge(&other.blocked)?;
        self.late.merge(&other.late)?;
        self.unfinished += other.unfinished;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(samples: &[i64]) -> HistogramRecord {
        let mut tally = Tally::default();
        for &ns in samples {
            tally.record(ns);
        }
        HistogramRecord::from_tally(&tally)
    }

    #[test]
    fn a_quantile_among_the_unfinished_is_never() {
        let record = of(&[10, 20, 30]);
        let found = record.quantiles(1, &[0.0, 0.25, 0.5, 0.75, 0.76, 1.0]).unwrap();
        assert_eq!(
            found,
            [Quantile::At(10), Quantile::At(10), Quantile::At(20), Quantile::At(30), Quantile::Never, Quantile::Never]
        );
    }

    #[test]
    fn samples_below_zero_stand_below_all_others() {
        let record = of(&[-5, 10, 20, 30]);
        assert_eq!(record.quantiles(0, &[0.25, 0.5]).unwrap(), [Quantile::BelowZero, Quantile::At(10)]);
        assert_eq!((record.samples(), record.lowest_negative_ns), (4, -5));
        assert_eq!(of(&[]).quantile(0, 0.5).unwrap(), Quantile::Empty);
        assert_eq!(of(&[]).quantile(2, 0.5).unwrap(), Quantile::Never);
    }

    #[test]
    fn a_quantile_at_a_whole_rank_does_not_slip_to_the_next() {
        // 0.07 × 100 is 7.000000000000001 in binary.
        assert_eq!(rank_of(0.07, 100), 7);
        assert_eq!(rank_of(0.999, 1_000), 999);
        assert_eq!(rank_of(0.999_9, 1_000_000_000), 999_900_000);
        assert_eq!(rank_of(0.0, 5), 1);
        assert_eq!(rank_of(1.0, 5), 5);
    }

    #[test]
    fn a_changed_text_is_refused_with_the_remedy() {
        let mut record = of(&[1, 2, 3]);
        record.count = 4;
        assert!(matches!(record.to_histogram(), Err(DecodeError::Count { found: 3, recorded: 4 })));
        record.hdr_v2_deflate_base64 = "not base64!".into();
        assert!(matches!(record.to_histogram(), Err(DecodeError::Base64(_))));
        record.hdr_v2_deflate_base64 = "AAAA".into();
        assert!(matches!(record.to_histogram(), Err(DecodeError::Hdr(_))));
    }

    #[test]
    fn an_empty_histogram_is_an_empty_text() {
        assert_eq!(of(&[]), HistogramRecord::default());
        assert!(HistogramRecord::default().to_histogram().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn text_and_back_loses_nothing(samples in prop::collection::vec(any::<i64>(), 0..300), shift in 0_u32..63) {
            let samples: Vec<i64> = samples.into_iter().map(|ns| ns >> shift).collect();
            let mut tally = Tally::default();
            for &ns in &samples {
                tally.record(ns);
            }
            let record = HistogramRecord::from_tally(&tally);
            prop_assert!(record.to_histogram().unwrap() == tally.histogram());
            prop_assert_eq!(record.samples(), samples.len() as u64);
            let (first, second) = samples.split_at(samples.len() / 2);
            let mut merged = of(first);
            merged.merge(&of(second)).unwrap();
            prop_assert_eq!(merged, record);
        }

        #[test]
        fn a_quantile_is_that_of_the_sorted_samples(
            samples in prop::collection::vec(0_i64..2_000, 1..80), unfinished in 0_u64..20, q in 0.0..=1.0_f64,
        ) {
            let mut sorted = samples.clone();
            sorted.sort_unstable();
            let total = sorted.len() as u64 + unfinished;
            let rank = ((q * total as f64).ceil() as usize).max(1);
            let expected = sorted.get(rank - 1).map_or(Quantile::Never, |&ns| Quantile::At(ns as u64));
            prop_assert_eq!(of(&samples).quantile(unfinished, q).unwrap(), expected);
        }
    }
}
