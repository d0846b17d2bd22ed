//! How large a message is: a pure function of the message's own random draws.
//!
//! Leaves out what fills it.

use super::alias::Alias;
use super::normal::normal;
use super::stream::{Draws, below};
use crate::profile::Sizes;

/// Which of a message's draws a size takes.
const DRAW: u64 = 2;

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
