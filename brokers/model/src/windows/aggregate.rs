//! What is kept of the values in a window: count, sum, least and greatest.
//!
//! Leaves out means and quantiles: a mean is sum ÷ count, quantiles need the values.

use serde::{Deserialize, Serialize};

/// Count, sum, least and greatest of some values. The order in which they came makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// How many values. At least one wherever an aggregate is shown.
    pub count: u64,
    /// Their sum, which can't overflow.
    pub sum: i128,
    /// The least.
    pub min: i64,
    /// The greatest.
    pub max: i64,
}

impl Aggregate {
    /// Of one value.
    pub fn of(value: i64) -> Self {
        Self { count: 1, sum: value.into(), min: value, max: value }
    }

    /// One value more.
    #[inline]
    pub fn add(&mut self, value: i64) {
        self.count += 1;
        self.sum += i128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// All of another's values more.
    #[inline]
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}
