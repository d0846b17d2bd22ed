//! When each producer's messages are due: a compiled schedule, and one producer's position in it.
//!
//! A schedule is shared and constant; a position is all that a backlog needs. Leaves out what messages carry.

use std::sync::Arc;

use brokerlab_model::{Span, Time};

use super::exponential::exponential;
use super::intensity::{Course, Piece, Pieces};
use super::stream::{Purpose, Stream};
use super::trace::Trace;
use crate::profile::{Arrivals, Profile, Spacing, Stage, Think};

/// Straight pieces that a day is made of: the rate's largest error is 0.06 % of the swing.
const DAY_PIECES: u64 = 96;
/// The path of states that all producers share belongs to no producer.
const EVERYBODY: u64 = u64::MAX;

/// When messages are due, for all producers.
#[derive(Clone, Debug)]
pub(crate) enum Schedule {
    /// Message i of all is due at i ÷ rate, to the nanosecond; the rate in millionths of a message per second.
    Even { micro_rate: u64 },
    /// Steps over the area beneath a rate.
    Course { pieces: Pieces, spacing: Spacing },
    /// Think, send, wait.
    Closed { think: Think, factor: f64 },
    /// Rows of a trace; nanoseconds are multiplied by the factor.
    Trace { trace: Arc<Trace>, factor: f64 },
}

impl Schedule {
    pub(crate) fn new(profile: &Profile) -> Self {
        let scale = profile.rate_scale();
        let course = |pieces, spacing| Self::Course { pieces, spacing };
        let per_ns = |rate: f64| rate * scale / 1e9;
        let flat = |rate: f64| Piece { from: per_ns(rate), to: per_ns(rate), length: None };
        let stage = |s: &Stage| Piece { length: Some(s.length.0), ..flat(s.rate.0) };
        match &profile.arrivals {
            Arrivals::Constant { .. } => {
                Self::Even { micro_rate: (libm::round(profile.mean_rate() * 1e6) as u64).max(1) }
            }
            Arrivals::Poisson { rate } => course(Pieces::Listed(vec![flat(rate.0)]), Spacing::Random),
            Arrivals::Mmpp { states, .. } => {
                let states = states.iter().map(|s| (per_ns(s.rate.0), s.length.0 as f64)).collect();
                course(Pieces::States { states, apart: false }, Spacing::Random)
            }
            Arrivals::OnOff { rate, on, off } => {
                let (on, off) = (on.0 as f64, off.0 as f64);
                let states = vec![(per_ns(rate.0) * (on + off) / on, on), (0.0, off)];
                course(Pieces::States { states, apart: true }, Spacing::Random)
            }
            Arrivals::Steps { steps, spacing, .. } => {
                course(Pieces::Listed(steps.iter().map(stage).collect()), *spacing)
            }
            Arrivals::Ramp { from, to, over, spacing, .. } => {
                let over = over.unwrap_or_else(|| profile.horizon());
                let rise = Piece { from: per_ns(from.0), to: per_ns(to.0), length: Some(over.0) };
                course(Pieces::Listed(vec![rise, flat(to.0)]), *spacing)
            }
            Arrivals::Diurnal { rate, period, swing, spacing } => {
                course(Pieces::Listed(day(per_ns(rate.0), *period, *swing)), *spacing)
            }
            Arrivals::Spike { base, peak, at, length, spacing, .. } => {
                let mut pieces = vec![
                    Piece { length: Some(at.0), ..flat(base.0) },
                    Piece { length: Some(length.0), ..flat(peak.0) },
                    flat(base.0),
                ];
                pieces.retain(|p| p.length != Some(0));
                course(Pieces::Listed(pieces), *spacing)
            }
            Arrivals::ClosedLoop { think, .. } => {
                let factor = if think.mean() == Span::ZERO { 0.0 } else { 1.0 / scale };
                Self::Closed { think: *think, factor }
            }
            Arrivals::Trace { speed_up, .. } => {
                let trace = profile.trace.clone().unwrap_or_default();
                Self::Trace { trace, factor: 1.0 / (scale * speed_up.unwrap_or(1.0)) }
            }
        }
    }

    /// How many messages there are at all; `None` when the schedule goes on for ever.
    pub(crate) fn total(&self) -> Option<u64> {
        match self {
            Self::Trace { trace, .. } => Some(trace.times.len() as u64),
            Self::Even { .. } | Self::Course { .. } | Self::Closed { .. } => None,
        }
    }
}

/// A cosine in straight pieces, lowest at the start; the mean over a period is exact.
fn day(mean: f64, period: Span, swing: f64) -> Vec<Piece> {
    let count = DAY_PIECES.min(period.0);
    let edge = |i: u64| (u128::from(period.0) * u128::from(i) / u128::from(count)) as u64;
    let level =
        |i: u64| mean * (1.0 - swing * libm::cos(2.0 * std::f64::consts::PI * (i % count) as f64 / count as f64));
    (0..count).map(|i| Piece { from: level(i), to: level(i + 1), length: Some(edge(i + 1) - edge(i)) }).collect()
}

/// One producer's position in the schedule.
#[derive(Clone, Debug)]
pub(crate) enum Position {
    /// The time, its fraction in 1/rate units, and what each message adds to both.
    Even {
        at: u64,
        rest: u64,
        step: u64,
        step_rest: u64,
        rate: u64,
    },
    Course {
        course: Box<Course>,
        gaps: Stream,
    },
    Closed {
        think: Stream,
    },
    Trace,
}

/// Whose position it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) seed: u64,
    pub(crate) replication: u32,
    pub(crate) producer: u32,
    pub(crate) producers: u32,
    /// Nothing is due at or after this time.
    pub(crate) horizon: u64,
}

impl Position {
    /// The position before the producer's first message, and when that is due.
    pub(crate) fn start(schedule: &Schedule, owner: Owner) -> (Self, Option<Time>) {
        let stream = |entity, purpose| Stream::new(owner.seed, owner.replication, entity, purpose);
        let producer = u64::from(owner.producer);
        match schedule {
            Schedule::Even { micro_rate } => {
                let whole = |n: u64| u128::from(n) * 1_000_000_000_000_000;
                let split = |n: u128| ((n / u128::from(*micro_rate)) as u64, (n % u128::from(*micro_rate)) as u64);
                let (at, rest) = split(whole(producer));
                let (step, step_rest) = split(whole(u64::from(owner.producers)));
                let due = (at < owner.horizon).then_some(Time(at));
                (Self::Even { at, rest, step, step_rest, rate: *micro_rate }, due)
            }
            Schedule::Course { pieces, spacing } => {
                let apart = matches!(pieces, Pieces::States { apart: true, .. });
                let path = stream(if apart { producer } else { EVERYBODY }, Purpose::State);
                let course = Box::new(Course::start(pieces, path, 1.0 / f64::from(owner.producers)));
                let mut position = Self::Course { course, gaps: stream(producer, Purpose::Arrivals) };
                let due = match spacing {
                    Spacing::Random => position.next(schedule, owner, 0),
                    // Producer p begins p steps of the whole schedule later than the first, so that they interleave.
                    Spacing::Even => position.first_even(pieces, owner),
                };
                (position, due)
            }
            Schedule::Closed { think, factor } => {
                let stream = stream(producer, Purpose::Think);
                let first = think_time(*think, *factor, stream, 0).0;
                (Self::Closed { think: stream }, (first < owner.horizon).then_some(Time(first)))
            }
            Schedule::Trace { trace, factor } => (Self::Trace, trace_due(trace, *factor, producer, owner.horizon)),
        }
    }

    fn first_even(&mut self, pieces: &Pieces, owner: Owner) -> Option<Time> {
        let Self::Course { course, .. } = self else { return None };
        let amount = f64::from(owner.producer) / f64::from(owner.producers);
        course.advance(pieces, amount, owner.horizon).map(Time)
    }

    /// When message `sequence` is due, after all before it; `None` when the schedule is over. In a closed loop it is due
    /// never, until the completion of the one before is known.
    #[inline]
    pub(crate) fn next(&mut self, schedule: &Schedule, owner: Owner, sequence: u64) -> Option<Time> {
        match (self, schedule) {
            (Self::Even { at, rest, step, step_rest, rate }, _) => {
                *at = at.checked_add(*step)?;
                *rest += *step_rest;
                if *rest >= *rate {
                    *rest -= *rate;
                    *at += 1;
                }
                (*at < owner.horizon).then_some(Time(*at))
            }
            (Self::Course { course, gaps }, Schedule::Course { pieces, spacing }) => {
                let amount = match spacing {
                    Spacing::Random => exponential(gaps.at(sequence)),
                    Spacing::Even => 1.0,
                };
                course.advance(pieces, amount, owner.horizon).map(Time)
            }
            (Self::Closed { .. }, _) => Some(Time::NEVER),
            (Self::Trace, Schedule::Trace { trace, factor }) => {
                let row = u64::from(owner.producer) + sequence * u64::from(owner.producers);
                trace_due(trace, *factor, row, owner.horizon)
            }
            (Self::Course { .. } | Self::Trace, _) => None,
        }
    }

    /// In a closed loop, when message `sequence` is due after a completion at `now`.
    pub(crate) fn after(&self, schedule: &Schedule, owner: Owner, sequence: u64, now: Time) -> Option<Time> {
        let (Self::Closed { think: stream }, Schedule::Closed { think, factor }) = (self, schedule) else {
            return None;
        };
        let due = now + think_time(*think, *factor, *stream, sequence);
        (due.0 < owner.horizon).then_some(due)
    }
}

/// The think time before message `sequence`.
pub(crate) fn think_time(think: Think, factor: f64, stream: Stream, sequence: u64) -> Span {
    let scaled = |time: Span, by: f64| Span(libm::round(time.0 as f64 * by) as u64);
    match think {
        Think::Constant { time } => scaled(time, factor),
        Think::Exponential { time } => scaled(time, factor * exponential(stream.at(sequence))),
    }
}

#[inline]
fn trace_due(trace: &Trace, factor: f64, row: u64, horizon: u64) -> Option<Time> {
    let recorded = *trace.times.get(usize::try_from(row).ok()?)?;
    let due = (recorded as f64 * factor) as u64;
    (due < horizon).then_some(Time(due))
}
