//! How large a message is: a pure function of the message's own random draws.
//!
//! Leaves out what fills it.

use super::alias::Alias;
use super::normal::normal;
use super::stream::{Draws, below};
use crate::profile::Sizes;

/// Which of a message's draws a size takes.
const DRAW: u64 = 2;

/// Up to so many sizes a log-normal distribution is a table of its exact shares; above, a normal variate is drawn.
const TABLE_MAX: u32 = 1 << 14;

/// A compiled distribution of sizes.
#[derive(Clone, Debug)]
pub(crate) enum SizePicker {
    Fixed(u32),
    Uniform { min: u32, span: u64 },
    LogNormal { mu: f64, sigma: f64, min: f64, max: f64 },
    Empirical { sizes: Vec<u32>, alias: Alias },
    Trace,
}

impl SizePicker {
    pub(crate) fn new(sizes: &Sizes) -> Self {
        match sizes {
            Sizes::Fixed { size } => Self::Fixed(size.0),
            Sizes::Uniform { min, max } => Self::Uniform { min: min.0, span: u64::from(max.0 - min.0) + 1 },
            Sizes::LogNormal { median, sigma, min, max } if max.0 - min.0 < TABLE_MAX && *sigma > 0.0 => {
                let mu = libm::log(f64::from(median.0));
                let weights = (min.0..=max.0).map(|size| log_normal_share(mu, *sigma, size, min.0, max.0));
                let alias = Alias::new(&weights.collect::<Vec<_>>());
                Self::Empirical { sizes: (min.0..=max.0).collect(), alias }
            }
            Sizes::LogNormal { median, sigma, min, max } => Self::LogNormal {
                mu: libm::log(f64::from(median.0)),
                sigma: *sigma,
                min: f64::from(min.0),
                max: f64::from(max.0),
            },
            Sizes::Empirical { values } => {
                let weights: Vec<f64> = values.iter().map(|v| v.weight).collect();
                Self::Empirical { sizes: values.iter().map(|v| v.size.0).collect(), alias: Alias::new(&weights) }
            }
            Sizes::Trace { .. } => Self::Trace,
        }
    }

    /// The size in bytes; from a trace `None`.
    #[inline]
    pub(crate) fn pick(&self, draws: Draws) -> Option<u32> {
        Some(match self {
            Self::Fixed(size) => *size,
            Self::Uniform { min, span } => min + below(draws.draw(DRAW), *span) as u32,
            Self::LogNormal { mu, sigma, min, max } => {
                let size = libm::exp(mu + sigma * normal(draws.draw(DRAW)));
                libm::round(size.clamp(*min, *max)) as u32
            }
            Self::Empirical { sizes, alias } => sizes[alias.pick(draws.draw(DRAW)) as usize],
            Self::Trace => return None,
        })
    }
}

/// The share of messages whose log-normal size rounds to `size`; at a bound, of all beyond it too.
fn log_normal_share(mu: f64, sigma: f64, size: u32, min: u32, max: u32) -> f64 {
    let below = |x: f64| 0.5 * libm::erfc(-(libm::log(x) - mu) / (sigma * std::f64::consts::SQRT_2));
    let from = if size == min { 0.0 } else { below(f64::from(size) - 0.5) };
    let to = if size == max { 1.0 } else { below(f64::from(size) + 0.5) };
    (to - from).max(0.0)
}
