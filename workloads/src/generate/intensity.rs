//! A rate that changes in time, as straight pieces, and the point at which a given number of messages is due under it.
//!
//! Every open-loop arrival but the exact constant one is this: the schedule's pieces and unit steps (evenly spaced) or
//! exponential steps (random) over the area beneath them. Leaves out what the pieces mean; `arrivals` builds them.

use super::exponential::exponential;
use super::stream::{Stream, below, unit};

/// One straight piece of a rate. Rates are messages per nanosecond over all producers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Nanoseconds; `None` lasts for ever.
    pub(crate) length: Option<u64>,
}

/// Where pieces come from.
#[derive(Clone, Debug)]
pub(crate) enum Pieces {
    /// A list, again from its start after its end; a piece without end is the last.
    Listed(Vec<Piece>),
    /// States with mean times; each is left after an exponential time, for another one drawn evenly.
    States {
        /// Rate and mean time in nanoseconds.
        states: Vec<(f64, f64)>,
        /// Whether each producer has a path of its own.
        apart: bool,
    },
}

/// A position on a rate: one producer's.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    piece: Piece,
    /// Which piece this is, counted from 0.
    number: u64,
    /// The state, where pieces are states.
    state: usize,
    /// Where the piece begins (for an endless flat piece: where `position` counts from).
    base: u64,
    /// Nanoseconds from `base`.
    position: f64,
    /// The producer's part of the whole rate.
    share: f64,
    /// Nanoseconds between its messages, where the piece is flat.
    gap: f64,
    /// Random draws of the path of states.
    path: Stream,
}

impl Course {
    /// The start of a producer that has `share` of the rate.
    pub(crate) fn start(pieces: &Pieces, path: Stream, share: f64) -> Self {
        let mut course = Self {
            piece: Piece { from: 0.0, to: 0.0, length: Some(0) },
            number: 0,
            state: 0,
            base: 0,
            position: 0.0,
            share,
            gap: 0.0,
            path,
        };
        course.enter(pieces, true);
        course
    }

    /// Moves on by `amount` messages of this producer; `None` when that is past `horizon` or never happens.
    #[inline]
    pub(crate) fn advance(&mut self, pieces: &Pieces, amount: f64, horizon: u64) -> Option<u64> {
        if self.piece.length.is_some() {
            return self.advance_through(pieces, amount, horizon);
        }
        if self.piece.from <= 0.0 {
            return None;
        }
        // The whole nanoseconds go to the base: the position stays small and keeps its fraction.
        self.position += amount * self.gap;
        let whole = self.position as u64;
        self.base = self.base.checked_add(whole)?;
        self.position -= whole as f64;
        (self.base < horizon).then_some(self.base)
    }

    /// The same over pieces that end.
    fn advance_through(&mut self, pieces: &Pieces, mut amount: f64, horizon: u64) -> Option<u64> {
        while let Some(length) = self.piece.length {
            let Piece { from, to, .. } = self.piece;
            let length_ns = length as f64;
            let flat = (to - from).abs() <= 0.0;
            let slope = if flat { 0.0 } else { (to - from) / length_ns };
            let here = from + slope * self.position;
            let area = (here + to) * 0.5 * (length_ns - self.position);
            if amount < area {
                let step = if flat { amount * self.gap } else { root(here, slope, amount) };
                self.position = (self.position + step).min(length_ns);
                let at = self.base + self.position as u64;
                return (at < horizon).then_some(at);
            }
            amount -= area;
            self.base = self.base.checked_add(length)?;
            if self.base >= horizon {
                return None;
            }
            self.number += 1;
            self.enter(pieces, false);
        }
        self.advance(pieces, amount, horizon)
    }

    fn enter(&mut self, pieces: &Pieces, first: bool) {
        self.position = 0.0;
        match pieces {
            Pieces::Listed(list) => self.piece = list[(self.number % list.len() as u64) as usize],
            Pieces::States { states, .. } => {
                let choice = self.path.at(2 * self.number);
                self.state = if first { stationary(states, choice) } else { other(states.len(), self.state, choice) };
                let (rate, mean) = states[self.state];
                let length = exponential(self.path.at(2 * self.number + 1)) * mean;
                // At least a nanosecond, so that a path always gets on.
                self.piece = Piece { from: rate, to: rate, length: Some((libm::round(length) as u64).max(1)) };
            }
        }
        self.piece.from *= self.share;
        self.piece.to *= self.share;
        self.gap = 1.0 / self.piece.from;
    }
}

/// The positive root of slope/2 x² + rate x = amount, in the form that cancels nothing.
fn root(rate: f64, slope: f64, amount: f64) -> f64 {
    let under = rate + libm::sqrt((rate * rate + 2.0 * slope * amount).max(0.0));
    if under > 0.0 { 2.0 * amount / under } else { 0.0 }
}

/// A first state, each as likely as its share of time: the path is in its steady state from the start.
fn stationary(states: &[(f64, f64)], bits: u64) -> usize {
    let total: f64 = states.iter().map(|s| s.1).sum();
    let mut left = unit(bits) * total;
    for (i, state) in states.iter().enumerate() {
        left -= state.1;
        if left <= 0.0 {
            return i;
        }
    }
    states.len() - 1
}

/// One of the states that are not `current`.
fn other(count: usize, current: usize, bits: u64) -> usize {
    let pick = below(bits, count as u64 - 1) as usize;
    if pick < current { pick } else { pick + 1 }
}
