//! What follows from a profile as written: mean rate and size, offered bytes, utilisation, lanes.
//!
//! Leaves out anything that a run would have to measure.

use super::Profile;
use super::types::{Arrivals, Keys, Sizes, Stage, Think};
use crate::generate::turns::Turns;
use brokerlab_model::Span;

/// Lanes above this, over all channels, must be given.
pub const LANES_MAX: u32 = 1_024;

/// Messages a second and bytes a second that one shard takes: the limits of the service that the model follows.
const SHARD_MESSAGES: f64 = 1_000.0;
const SHARD_BYTES: f64 = 1e6;

/// Why lanes must be written into the profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LanesError {
    /// Consumers, rate and bytes ask for more than [`LANES_MAX`].
    #[error(
        "consumers, rate and bytes of `{profile}` ask for {needed} lanes, more than are created unasked ({LANES_MAX}); \
         write `lanes = …` (lanes per channel) or --lanes N"
    )]
    MustBeGiven {
        /// The profile's name.
        profile: String,
        /// Lanes over all channels.
        needed: u64,
    },
}

/// A recording as it is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recording {
    /// How many messages it holds.
    pub rows: u64,
    /// From its first message to its last, as recorded.
    pub span: Span,
    /// How many times faster than recorded it is replayed.
    pub speed_up: f64,
}

impl Recording {
    /// How long the replay takes.
    pub fn replayed(&self) -> Span {
        Span((self.span.0 as f64 / self.speed_up) as u64)
    }
}

impl Think {
    /// The mean think time.
    pub fn mean(self) -> Span {
        match self {
            Self::Constant { time } | Self::Exponential { time } => time,
        }
    }
}

impl Profile {
    /// Length of the schedule: warm-up and measured window.
    pub fn horizon(&self) -> Span {
        self.warmup + self.duration
    }

    /// Mean messages per second over all producers, the rate factor included. In a closed loop it is the rate if every
    /// response took no time: infinite without think time.
    pub fn mean_rate(&self) -> f64 {
        self.written_rate() * self.rate_factor
    }

    /// Whether producers wait for completions.
    pub fn is_closed_loop(&self) -> bool {
        matches!(self.arrivals, Arrivals::ClosedLoop { .. })
    }

    /// Mean bytes of a message, its stamp included.
    pub fn mean_size(&self) -> f64 {
        match &self.sizes {
            Sizes::Fixed { size } => f64::from(size.0),
            Sizes::Uniform { min, max } => f64::midpoint(f64::from(min.0), f64::from(max.0)),
            Sizes::LogNormal { median, sigma, min, max } => {
                clamped_mean(libm::log(f64::from(median.0)), *sigma, f64::from(min.0), f64::from(max.0))
            }
            Sizes::Empirical { values } => {
                let total: f64 = values.iter().map(|v| v.weight).sum();
                values.iter().map(|v| f64::from(v.size.0) * v.weight).sum::<f64>() / total
            }
            Sizes::Trace { .. } => self.trace.as_ref().map_or(0.0, |t| t.mean_size()),
        }
    }

    /// The largest message that there can be, its stamp included, without key.
    pub fn max_size(&self) -> u32 {
        match &self.sizes {
            Sizes::Fixed { size } => size.0,
            Sizes::Uniform { max, .. } | Sizes::LogNormal { max, .. } => max.0,
            Sizes::Empirical { values } => {
                values.iter().filter(|v| v.weight > 0.0).map(|v| v.size.0).max().unwrap_or(0)
            }
            Sizes::Trace { .. } => self.trace.as_ref().and_then(|t| t.sizes.iter().copied().max()).unwrap_or(0),
        }
    }

    /// Bytes of the longest key: sixteen hexadecimal digits, or the longest text of the trace.
    pub fn max_key(&self) -> u32 {
        match self.keys {
            Keys::Trace => self.trace.as_ref().and_then(|t| t.names.iter().map(String::len).max()).unwrap_or(0) as u32,
            Keys::Uniform { .. } | Keys::Sequential { .. } | Keys::Zipf { .. } | Keys::HotSet { .. } => 16,
        }
    }

    /// What is known of the recording that the arrivals replay; `None` for arrivals that are drawn.
    pub fn recording(&self) -> Option<Recording> {
        let trace = self.trace.as_ref()?;
        let span = Span(trace.times.last().copied().unwrap_or(0));
        Some(Recording { rows: trace.times.len() as u64, span, speed_up: self.rate_scale_of_trace() })
    }

    /// By how much a trace is replayed faster than it was recorded.
    fn rate_scale_of_trace(&self) -> f64 {
        self.mean_rate() / self.trace.as_ref().map_or(1.0, |t| t.mean_rate())
    }

    /// Mean bytes per second over all producers.
    pub fn offered_bytes(&self) -> f64 {
        self.mean_rate() * self.mean_size()
    }

    /// Mean share of time for which a member of group number `group` is busy; above 1 the group cannot keep up. Zero for
    /// a group that does not exist.
    pub fn utilisation(&self, group: usize) -> f64 {
        self.groups.get(group).map_or(0.0, |g| {
            let work = g.work.mean();
            if work == Span::ZERO {
                return 0.0;
            }
            self.mean_rate() * self.share(group) * work.as_secs_f64() / f64::from(g.members)
        })
    }

    /// Which share of the messages group number `group` gets: all, unless groups have bindings.
    pub fn share(&self, group: usize) -> f64 {
        let turns = Turns::of(self).ok();
        turns.as_ref().and_then(Turns::routes).map_or(1.0, |routes| routes.share(group))
    }

    /// Bytes of the longest headers.
    pub fn max_headers(&self) -> u32 {
        Turns::of(self).map_or(0, |turns| turns.longest())
    }

    /// Connections that the producers share.
    pub fn connections(&self) -> u32 {
        self.connections.unwrap_or(self.producers)
    }

    /// Lanes per channel: as given, or enough that every member of the largest group has one and, where a lane's rate is
    /// limited (`shard_limited`), that the profile's mean rate and bytes fit. A rate factor does not change it.
    pub fn lanes(&self, shard_limited: bool) -> Result<u32, LanesError> {
        if let Some(lanes) = self.lanes {
            return Ok(lanes);
        }
        let channels = f64::from(self.channels.len());
        let members = self.groups.iter().map(|g| g.members).max().unwrap_or(1);
        let mut needed = f64::from(members) / channels;
        if shard_limited {
            let rate = self.written_rate();
            needed = needed.max(rate / SHARD_MESSAGES / channels);
            needed = needed.max(rate * self.mean_size() / SHARD_BYTES / channels);
        }
        let total = needed.ceil().max(1.0) * channels;
        if total > f64::from(LANES_MAX) {
            return Err(LanesError::MustBeGiven { profile: self.name.clone(), needed: total as u64 });
        }
        Ok(needed.ceil().max(1.0) as u32)
    }

    /// How much of their documented limits a shard stream's shards have to take at the mean rate, `lanes` of each channel: all of them
    /// together, and the one of the most frequent key, where keys are drawn; 1 is all that they take.
    pub fn shard_use(&self, lanes: u32) -> (f64, Option<f64>) {
        let channels = f64::from(self.channels.len());
        let rate = self.mean_rate() / channels;
        let of_one = (rate / SHARD_MESSAGES).max(rate * self.mean_size() / SHARD_BYTES);
        (of_one / f64::from(lanes), self.most_frequent_key().map(|share| of_one * share))
    }

    /// Which share of the messages has the most frequent key; unknown of a trace's.
    fn most_frequent_key(&self) -> Option<f64> {
        // Beyond so many keys a sum is an integral as well.
        const SUMMED: u64 = 100_000;
        match self.keys {
            Keys::Uniform { count } | Keys::Sequential { count } => Some(1.0 / count as f64),
            Keys::Zipf { count, exponent } => {
                let summed: f64 = (1..=count.min(SUMMED)).map(|r| (r as f64).powf(-exponent)).sum();
                let (from, to) = (SUMMED.min(count) as f64, count as f64);
                let rest = if (exponent - 1.0).abs() < 1e-9 {
                    (to / from).ln()
                } else {
                    (to.powf(1.0 - exponent) - from.powf(1.0 - exponent)) / (1.0 - exponent)
                };
                Some(1.0 / (summed + rest))
            }
            Keys::HotSet { count, hot, share } => {
                let cold = (1.0 - share) / count.saturating_sub(hot).max(1) as f64;
                Some((share / hot.max(1) as f64).max(cold))
            }
            Keys::Trace => None,
        }
    }

    /// Mean rate without the rate factor.
    fn written_rate(&self) -> f64 {
        match &self.arrivals {
            Arrivals::Constant { rate }
            | Arrivals::Poisson { rate }
            | Arrivals::OnOff { rate, .. }
            | Arrivals::Diurnal { rate, .. }
            | Arrivals::Mmpp { rate: Some(rate), .. }
            | Arrivals::Steps { rate: Some(rate), .. }
            | Arrivals::Ramp { rate: Some(rate), .. }
            | Arrivals::Spike { rate: Some(rate), .. }
            | Arrivals::ClosedLoop { rate: Some(rate), .. }
            | Arrivals::Trace { rate: Some(rate), .. } => rate.0,
            Arrivals::Mmpp { .. }
            | Arrivals::Steps { .. }
            | Arrivals::Ramp { .. }
            | Arrivals::Spike { .. }
            | Arrivals::ClosedLoop { .. }
            | Arrivals::Trace { .. } => self.unscaled_rate(),
        }
    }

    /// Mean rate of the numbers as they stand, before `rate` scales them.
    pub(crate) fn unscaled_rate(&self) -> f64 {
        let horizon = self.horizon().as_secs_f64();
        match &self.arrivals {
            Arrivals::Constant { rate }
            | Arrivals::Poisson { rate }
            | Arrivals::OnOff { rate, .. }
            | Arrivals::Diurnal { rate, .. } => rate.0,
            Arrivals::Mmpp { states, .. } => stage_mean(states),
            Arrivals::Steps { steps, .. } => stage_mean(steps),
            Arrivals::Ramp { from, to, over, .. } => {
                let over = over.map_or(horizon, Span::as_secs_f64);
                let within = over.min(horizon);
                let reached = from.0 + (to.0 - from.0) * within / over;
                (f64::midpoint(from.0, reached) * within + to.0 * (horizon - within)) / horizon
            }
            Arrivals::Spike { base, peak, at, length, .. } => {
                let end = (*at + *length).0.min(self.horizon().0);
                let within = Span(end.saturating_sub(at.0)).as_secs_f64();
                (base.0 * (horizon - within) + peak.0 * within) / horizon
            }
            Arrivals::ClosedLoop { think, .. } => f64::from(self.producers) / think.mean().as_secs_f64(),
            Arrivals::Trace { speed_up, .. } => {
                let recorded = self.trace.as_ref().map_or(0.0, |t| t.mean_rate());
                recorded * speed_up.unwrap_or(1.0)
            }
        }
    }

    /// By how much every written rate is multiplied: to reach `rate` where that is given, and by the rate factor.
    pub(crate) fn rate_scale(&self) -> f64 {
        self.mean_rate() / self.unscaled_rate()
    }
}

fn stage_mean(stages: &[Stage]) -> f64 {
    let total: f64 = stages.iter().map(|s| s.length.as_secs_f64()).sum();
    stages.iter().map(|s| s.rate.0 * s.length.as_secs_f64()).sum::<f64>() / total
}

/// The mean of a log-normal draw clamped to [min, max], in closed form.
fn clamped_mean(mu: f64, sigma: f64, min: f64, max: f64) -> f64 {
    if sigma <= 0.0 {
        return libm::exp(mu).clamp(min, max);
    }
    let normal = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    let low = (libm::log(min) - mu) / sigma;
    let high = (libm::log(max) - mu) / sigma;
    let inside = libm::exp(mu + sigma * sigma / 2.0) * (normal(high - sigma) - normal(low - sigma));
    min * normal(low) + inside + max * (1.0 - normal(high))
}
