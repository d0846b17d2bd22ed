//! Which key a message carries: a pure function of the message's own random draws and of its number.
//!
//! Leaves out the key's bytes: `Workload::write_key` makes them.

use super::alias::Alias;
use super::stream::{Draws, below, unit};
use crate::profile::Keys;

/// Up to here a Zipf distribution is a table (8 bytes a key, so 1 MiB); above, rejection–inversion.
const TABLE_MAX: u64 = 1 << 17;

/// A compiled distribution of keys.
#[derive(Clone, Debug)]
pub(crate) enum KeyPicker {
    Uniform { count: u64 },
    Table(Alias),
    Zipf(Zipf),
    HotSet { count: u64, hot: u64, share: f64 },
    Sequential { count: u64 },
    Trace,
}

impl KeyPicker {
    pub(crate) fn new(keys: Keys) -> Self {
        match keys {
            Keys::Uniform { count } => Self::Uniform { count },
            Keys::Zipf { count, exponent } if count <= TABLE_MAX => {
                let weights: Vec<f64> = (1..=count).map(|r| libm::pow(r as f64, -exponent)).collect();
                Self::Table(Alias::new(&weights))
            }
            Keys::Zipf { count, exponent } => Self::Zipf(Zipf::new(count, exponent)),
            Keys::HotSet { count, hot, share } => Self::HotSet { count, hot, share },
            Keys::Sequential { count } => Self::Sequential { count },
            Keys::Trace => Self::Trace,
        }
    }

    /// The key of the message that is `position` in the order over all producers; from a trace `None`.
    #[inline]
    pub(crate) fn pick(&self, draws: Draws, position: u64) -> Option<u64> {
        Some(match self {
            Self::Uniform { count } => below(draws.draw(0), *count),
            Self::Table(alias) => u64::from(alias.pick(draws.draw(0))),
            Self::Zipf(zipf) => zipf.pick(draws),
            Self::HotSet { count, hot, share } => {
                // The coin is in (0, 1], so that a share of 1 takes every message and a share of 0 none.
                if unit(draws.draw(1)) <= *share {
                    below(draws.draw(0), *hot)
                } else {
                    hot + below(draws.draw(0), count - hot)
                }
            }
            Self::Sequential { count } => position % count,
            Self::Trace => return None,
        })
    }
}

/// Zipf by rejection–inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
/// distributions", 1996): a bounded expected number of draws for any count of keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zipf {
    count: f64,
    exponent: f64,
    /// H(3/2) - 1, the upper end of the inverted area.
    first: f64,
    /// H(count + 1/2), its lower end.
    last: f64,
    /// Below this distance a rank is accepted without a look at the exact bound.
    sure: f64,
}

impl Zipf {
    pub(crate) fn new(count: u64, exponent: f64) -> Self {
        let mut zipf = Self { count: count as f64, exponent, first: 0.0, last: 0.0, sure: 0.0 };
        zipf.first = zipf.area(1.5) - 1.0;
        zipf.last = zipf.area(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.area(2.5) - zipf.weight(2.0));
        zipf
    }

    fn weight(&self, x: f64) -> f64 {
        libm::exp(-self.exponent * libm::log(x))
    }

    /// The integral of x^-exponent from 1.
    fn area(&self, x: f64) -> f64 {
        let log = libm::log(x);
        expm1_over(log * (1.0 - self.exponent)) * log
    }

    fn inverse(&self, area: f64) -> f64 {
        // Below -1 only by rounding; there the logarithm ends.
        let t = (area * (1.0 - self.exponent)).max(-1.0);
        libm::exp(log1p_over(t) * area)
    }

    /// A key from 0, the most frequent first.
    pub(crate) fn pick(&self, draws: Draws) -> u64 {
        // Draws 0 and 1 first; a rejected pair goes on far beyond the draws that sizes and payloads take.
        let mut draw = 0;
        loop {
            let u = self.last + unit(draws.draw(draw)) * (self.first - self.last);
            let x = self.inverse(u);
            let rank = libm::floor(x + 0.5).clamp(1.0, self.count);
            if rank - x <= self.sure || u >= self.area(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
            draw = if draw == 0 { 1 << 40 } else { draw + 1 };
        }
    }
}

/// (e^x - 1) / x, also at 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { libm::expm1(x) / x } else { 1.0 + x * 0.5 * (1.0 + x / 3.0) }
}

/// ln(1 + x) / x, also at 0.
fn log1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { libm::log1p(x) / x } else { 1.0 - x * (0.5 - x / 3.0) }
}
