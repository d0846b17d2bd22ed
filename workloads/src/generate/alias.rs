//! Drawing from a table of weights in constant time (Walker's alias method, built after Vose, 1991).
//!
//! Leaves out weights that change.

/// A table of weights: one draw is one multiplication and one look-up.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    /// For each cell: below this (of 2^32) the cell itself, else its alias.
    cells: Vec<(u32, u32)>,
}

impl Alias {
    /// Builds the table in time proportional to its length. Weights are non-negative, their sum above zero, and there
    /// are at most 2^32 of them.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let scale = weights.len() as f64 / weights.iter().sum::<f64>();
        let mut scaled: Vec<f64> = weights.iter().map(|w| w * scale).collect();
        let mut cells: Vec<(u32, u32)> = (0..weights.len()).map(|i| (u32::MAX, i as u32)).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|&i| scaled[i as usize] < 1.0);
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            cells[low as usize] = ((scaled[low as usize] * 4_294_967_296.0) as u32, high);
            scaled[high as usize] -= 1.0 - scaled[low as usize];
            if scaled[high as usize] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        Self { cells }
    }

    /// The index that 64 uniform bits stand for.
    #[inline]
    pub(crate) fn pick(&self, bits: u64) -> u32 {
        let cell = ((bits >> 32) * self.cells.len() as u64) >> 32;
        let (threshold, alias) = self.cells[cell as usize];
        // Chosen by a mask: a branch would be mispredicted half of the time and wait for the table's cache line.
        let keep = u32::from((bits as u32) < threshold).wrapping_neg();
        alias ^ ((alias ^ cell as u32) & keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::stream::{Purpose, Stream};

    #[test]
    fn indices_come_as_often_as_their_weights() {
        let weights = [1.0, 0.0, 3.0, 6.0, 0.5];
        let alias = Alias::new(&weights);
        let stream = Stream::new(1, 0, 0, Purpose::Contents);
        let mut counts = [0u32; 5];
        for i in 0..105_000 {
            counts[alias.pick(stream.at(i)) as usize] += 1;
        }
        let expected = [10_000.0, 0.0, 30_000.0, 60_000.0, 5_000.0];
        for (count, expected) in counts.iter().zip(expected) {
            // Five standard deviations of a binomial count.
            assert!((f64::from(*count) - expected).abs() <= 5.0 * f64::sqrt(expected), "{counts:?}");
        }
    }
}
