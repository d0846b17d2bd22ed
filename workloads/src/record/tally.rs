//! Counting samples in the buckets of an HdrHistogram with three significant digits, at the cost of one increment.
//!
//! The buckets are those of `hdrhistogram` with a lowest value of 1, so that turning a tally into a `Histogram` moves counts and
//! changes none. What it leaves out is everything that is not counting: quantiles, iteration and encoding are the library's.
//!
//! Buckets come in pages of 1,024, one page for each power of two; a page exists once a sample fell into it, so a tally costs
//! memory for the range that its samples span and not for the range that they might.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Buckets of a page; also the number of buckets for one power of two at three significant digits.
const PAGE: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 10;
/// Pages that reach `u64::MAX`: values below 2,048 take two, then one for each further bit.
const PAGES: usize = 55;
/// Significant decimal digits.
pub(super) const DIGITS: u8 = 3;

/// Counts of samples in nanoseconds: any `u64`, and below zero apart.
#[derive(Clone, Debug)]
pub struct Tally {
    pages: [Option<Box<[u32; PAGE]>>; PAGES],
    /// Whole multiples of 2^32 that a bucket's counter has passed, by bucket.
    carried: BTreeMap<u32, u64>,
    negative: u64,
    lowest_negative: i64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { pages: [const { None }; PAGES], carried: BTreeMap::new(), negative: 0, lowest_negative: 0 }
    }
}

/// The bucket that holds `value`. Below 2,048 each value has its own.
#[inline]
const fn bucket_of(value: u64) -> usize {
    let shift = 53 - (value | 2047).leading_zeros();
    // A value below 2,048 has shift 0; any other is left with its 11 highest bits, the first of which the page stands for.
    ((shift as usize) << PAGE_BITS) + (value >> shift) as usize
}

/// The lowest value that bucket holds.
const fn lowest_value(bucket: usize) -> u64 {
    if bucket < 2 * PAGE {
        return bucket as u64;
    }
    let shift = (bucket >> PAGE_BITS) - 1;
    ((bucket - (shift << PAGE_BITS)) as u64) << shift
}

impl Tally {
    /// Counts one sample. A sample below zero is counted apart, and the lowest of them kept.
    #[inline]
    pub fn record(&mut self, ns: i64) {
        let Ok(value) = u64::try_from(ns) else {
            return self.record_negative(ns);
        };
        let bucket = bucket_of(value);
        if let Some(page) = &mut self.pages[bucket >> PAGE_BITS] {
            let count = &mut page[bucket & (PAGE - 1)];
            *count = count.wrapping_add(1);
            if *count == 0 {
                self.carry(bucket, 1);
            }
        } else {
            self.add(bucket, 1);
        }
    }

    /// Counts `n` samples of one value.
    pub fn record_n(&mut self, ns: u64, n: u64) {
        self.add(bucket_of(ns), n);
    }

    #[cold]
    fn record_negative(&mut self, ns: i64) {
        self.negative += 1;
        self.lowest_negative = self.lowest_negative.min(ns);
    }

    #[cold]
    fn carry(&mut self, bucket: usize, times: u64) {
        *self.carried.entry(bucket as u32).or_default() += times;
    }

    #[cold]
    fn add(&mut self, bucket: usize, n: u64) {
        let page = self.pages[bucket >> PAGE_BITS].get_or_insert_with(|| Box::new([0; PAGE]));
        let count = &mut page[bucket & (PAGE - 1)];
        let sum = u64::from(*count) + n;
        *count = sum as u32;
        if sum >> 32 > 0 {
            self.carry(bucket, sum >> 32);
        }
    }

    /// Adds every sample of `other`, exactly.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, n) in other.buckets() {
            self.add(bucket, n);
        }
        self.negative += other.negative;
        self.lowest_negative = self.lowest_negative.min(other.lowest_negative);
    }

    /// Each bucket with samples in it and their number, lowest first.
    fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        let pages = self.pages.iter().enumerate().filter_map(|(at, page)| page.as_ref().map(|page| (at, page)));
        pages.flat_map(move |(at, page)| {
            page.iter().enumerate().filter_map(move |(slot, &low)| {
                let bucket = (at << PAGE_BITS) + slot;
                let high =
                    if self.carried.is_empty() { 0 } else { self.carried.get(&(bucket as u32)).copied().unwrap_or(0) };
                let n = (high << 32) + u64::from(low);
                (n > 0).then_some((bucket, n))
            })
        })
    }

    /// Samples of zero or more.
    pub fn count(&self) -> u64 {
        self.buckets().map(|(_, n)| n).sum()
    }

    /// Samples below zero.
    pub fn negative(&self) -> u64 {
        self.negative
    }

    /// The lowest sample below zero in nanoseconds; 0 when there is none.
    pub fn lowest_negative(&self) -> i64 {
        self.lowest_negative
    }

    /// The samples of zero or more as a histogram of the library, bucket by bucket.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = super::encoded::empty_histogram();
        for (bucket, n) in self.buckets() {
            histogram.record_n(lowest_value(bucket), n).expect("an automatically resized histogram takes every u64");
        }
        histogram
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.pages.iter().flatten().count() * size_of::<[u32; PAGE]>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn library(samples: impl IntoIterator<Item = (u64, u64)>) -> Histogram<u64> {
        let mut histogram = Histogram::<u64>::new(DIGITS).unwrap();
        for (value, n) in samples {
            histogram.record_n(value, n).unwrap();
        }
        histogram
    }

    /// Each value with samples and their number: two histograms may differ in the range that they could hold.
    fn counts(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
        histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    #[test]
    fn the_ends_of_every_power_of_two_fall_where_the_library_puts_them() {
        let mut tally = Tally::default();
        let edges: Vec<u64> = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]).collect();
        for &value in &edges {
            tally.record_n(value, 3);
        }
        tally.record_n(u64::MAX, 1);
        let expected = library(edges.into_iter().map(|v| (v, 3)).chain([(u64::MAX, 1)]));
        assert_eq!(counts(&tally.histogram()), counts(&expected));
        assert_eq!(tally.count(), 64 * 9 + 1);
    }

    #[test]
    fn a_bucket_counts_past_32_bits() {
        let mut tally = Tally::default();
        tally.record_n(7, u64::from(u32::MAX));
        tally.record(7);
        tally.record(7);
        assert_eq!(tally.count(), (1 << 32) + 1);
        let mut twice = tally.clone();
        twice.merge(&tally);
        assert_eq!(twice.histogram().count_at(7), (1 << 33) + 2);
    }

    #[test]
    fn a_sample_below_zero_is_counted_and_the_lowest_is_kept() {
        let mut tally = Tally::default();
        for ns in [-3, 5, -9, i64::MIN, -1] {
            tally.record(ns);
        }
        assert_eq!((tally.count(), tally.negative(), tally.lowest_negative()), (1, 4, i64::MIN));
    }

    #[test]
    fn memory_follows_the_range_of_the_samples() {
        let mut tally = Tally::default();
        for ns in 0..100_000 {
            tally.record(1_000_000 + ns);
        }
        assert!(tally.bytes() < 2 * 4096 + 1024, "{}", tally.bytes());
    }

    proptest! {
        #[test]
        fn samples_and_merged_samples_are_those_of_the_library(
            first in prop::collection::vec((any::<u64>(), 0_u32..64), 0..200),
            second in prop::collection::vec((any::<u64>(), 0_u32..64), 0..200),
        ) {
            let spread = |part: &[(u64, u32)]| part.iter().map(|(v, shift)| v >> shift).collect::<Vec<_>>();
            let (first, second) = (spread(&first), spread(&second));
            let tally_of = |part: &[u64]| {
                let mut tally = Tally::default();
                for &value in part {
                    match i64::try_from(value) {
                        Ok(ns) => tally.record(ns),
                        Err(_) => tally.record_n(value, 1),
                    }
                }
                tally
            };
            let mut merged = tally_of(&first);
            merged.merge(&tally_of(&second));
            let expected = library(first.iter().chain(&second).map(|&v| (v, 1)));
            prop_assert_eq!(counts(&merged.histogram()), counts(&expected));
        }
    }
}
