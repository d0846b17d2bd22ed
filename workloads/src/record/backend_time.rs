//! Whose doing it was that a message began after it was due.
//!
//! A loop tells when it was inside backend calls; a producer tells while the backend held it back (window full, submit
//! refused). What of a message's delay lies in either is *blocked*; the rest is *late*: the generator was not running.
//!
//! Memory is bounded: once there are too many intervals, the oldest are merged in pairs, which keep their sum and are
//! prorated where a message came due inside one. Leaves out measuring calls, which the loop does.

use std::cell::Cell;

use brokerlab_model::{Span, Time};

/// Below this a delay is not split: it is less than a clock reads exactly, and all of it counts as late.
const NOT_SPLIT: u64 = 1_000;
/// Intervals kept for a loop.
const LOOP_INTERVALS: usize = 4_096;
/// Intervals kept for a producer.
const PRODUCER_INTERVALS: usize = 64;
/// How many of the newest intervals are tried one by one before a search among the others.
const NEAR: usize = 8;

/// How `actual − intended` splits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// The backend's part: its window was full, it took no more, or the loop was inside its calls.
    pub blocked: Span,
    /// The generator's part.
    pub late: Span,
}

/// A stretch of time of which `busy` nanoseconds count.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: u64,
    end: u64,
    /// Busy time of all stretches before this one.
    before: u64,
    busy: u64,
    /// Whether stretches with gaps between them were merged into this one.
    merged: bool,
}

/// Disjoint stretches in order of time, their number bounded.
#[derive(Clone, Debug, Default)]
struct Stretches {
    list: Vec<Stretch>,
    /// What the last search found: a backlog is consumed in the order in which it was published, so the next is there or beside it.
    found: Cell<usize>,
}

impl Stretches {
    /// Appends `[start, end)`, or lengthens the last stretch when nothing lies between.
    #[inline]
    fn push(&mut self, start: u64, end: u64, busy: u64, capacity: usize) {
        let before = match self.list.last_mut() {
            Some(last) if last.end == start && !last.merged => {
                last.end = end;
                last.busy += busy;
                return;
            }
            Some(last) => last.before + last.busy,
            None => 0,
        };
        if self.list.len() >= capacity {
            self.thin();
        }
        self.list.push(Stretch { start, end, before, busy, merged: false });
    }

    /// Merges the older half in pairs: the further back, the coarser.
    #[cold]
    fn thin(&mut self) {
        let half = self.list.len() / 2;
        let mut kept = 0;
        for at in (0..half).step_by(2) {
            let mut stretch = self.list[at];
            if at + 1 < half {
                let next = self.list[at + 1];
                stretch = Stretch { end: next.end, busy: stretch.busy + next.busy, merged: true, ..stretch };
            }
            self.list[kept] = stretch;
            kept += 1;
        }
        self.list.drain(kept..half);
    }

    fn end(&self) -> u64 {
        self.list.last().map_or(0, |last| last.end)
    }

    /// How many stretches begin before `t`.
    #[inline]
    fn begun_before(&self, t: u64) -> usize {
        let len = self.list.len();
        let old = len.saturating_sub(NEAR);
        if old == 0 || self.list[old].start < t {
            return (old..len).rev().find(|&at| self.list[at].start < t).map_or(0, |at| at + 1);
        }
        let last = self.found.get();
        let found = [last, last + 1, last.wrapping_sub(1)]
            .into_iter()
            .find(|&n| n <= old && (n == 0 || self.list[n - 1].start < t) && self.list[n].start >= t);
        let found = found.unwrap_or_else(|| self.list[..old].partition_point(|stretch| stretch.start < t));
        self.found.set(found);
        found
    }

    /// Busy time before `t`; `part` says how much of a stretch that `t` falls into lies before `t`.
    #[inline]
    fn busy_before(&self, t: u64, part: impl FnOnce(&Stretch) -> u64) -> u64 {
        match self.begun_before(t) {
            0 => 0,
            n => {
                let stretch = &self.list[n - 1];
                stretch.before + if t >= stretch.end { stretch.busy } else { part(stretch) }
            }
        }
    }
}

/// The share of a stretch before `t`, as if its busy time were spread evenly. Of a stretch of more than four seconds to 32 bits, which
/// is nanoseconds: dividing 128 bits is dear, and a backlog asks for every message.
#[inline]
fn prorated(stretch: &Stretch, t: u64) -> u64 {
    let (part, whole) = (t - stretch.start, stretch.end - stretch.start);
    let beyond = 32_u32.saturating_sub(whole.leading_zeros());
    let share = (stretch.busy >> beyond) * (part >> beyond) / (whole >> beyond);
    (share << beyond).min(stretch.busy)
}

/// When a loop was inside backend calls.
#[derive(Clone, Debug, Default)]
pub struct BackendTime {
    inside: Stretches,
    /// The last end that was asked for and the busy time before it: messages that were sent together share it.
    asked: Cell<(u64, u64)>,
}

/// When the backend held one producer back. Takes no memory of its own until that happens.
#[derive(Clone, Debug, Default)]
pub struct HeldBack {
    since: Option<Time>,
    /// Net of the time that the loop was inside backend calls: that is counted already.
    held: Stretches,
}

impl BackendTime {
    /// Nothing told yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The loop was inside a backend call from `start` to `end`. To be told in order of time; what overlaps an earlier call
    /// counts once.
    #[inline]
    pub fn inside(&mut self, start: Time, end: Time) {
        let start = start.0.max(self.inside.end());
        if start < end.0 {
            self.inside.push(start, end.0, end.0 - start, LOOP_INTERVALS);
            self.asked.set((0, 0));
        }
    }

    #[inline]
    fn before(&self, t: u64) -> u64 {
        self.inside.busy_before(t, |stretch| if stretch.merged { prorated(stretch, t) } else { t - stretch.start })
    }

    #[inline]
    fn between(&self, from: u64, to: u64) -> u64 {
        let (asked, before) = self.asked.get();
        let until = if asked == to {
            before
        } else {
            let before = self.before(to);
            self.asked.set((to, before));
            before
        };
        until.saturating_sub(self.before(from))
    }

    /// Splits the delay of a message that was due at `intended` and begun at `actual`.
    #[inline]
    pub fn delay(&self, held: &HeldBack, intended: Time, actual: Time) -> Delay {
        let delay = actual.since(intended).0;
        if delay < NOT_SPLIT {
            return Delay { blocked: Span::ZERO, late: Span(delay) };
        }
        let mut blocked = self.between(intended.0, actual.0);
        if held.has_been() {
            blocked += held.net_between(intended.0, actual.0, self);
        }
        let blocked = blocked.min(delay);
        Delay { blocked: Span(blocked), late: Span(delay - blocked) }
    }
}

impl HeldBack {
    /// Never held back yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From `at` on the backend takes no more from this producer. Harmless when it is held back already.
    pub fn begin(&mut self, at: Time) {
        let at = at.max(Time(self.held.end()));
        self.since.get_or_insert(at);
    }

    /// At `at` the backend takes messages again. Harmless when the producer was not held back. The loop's calls up to `at` are
    /// to be told to `backend` before.
    pub fn end(&mut self, at: Time, backend: &BackendTime) {
        let Some(since) = self.since.take() else { return };
        if since < at {
            let net = (at.0 - since.0).saturating_sub(backend.between(since.0, at.0));
            self.held.push(since.0, at.0, net, PRODUCER_INTERVALS);
        }
    }

    /// Whether the producer is held back now.
    pub fn is_held(&self) -> bool {
        self.since.is_some()
    }

    #[inline]
    fn has_been(&self) -> bool {
        self.since.is_some() || !self.held.list.is_empty()
    }

    fn net_between(&self, from: u64, to: u64, backend: &BackendTime) -> u64 {
        let open = self.since.map_or(0, |since| {
            let from = from.max(since.0);
            to.saturating_sub(from).saturating_sub(if to > from { backend.between(from, to) } else { 0 })
        });
        let before = |t: u64| {
            self.held.busy_before(t, |stretch| {
                if stretch.merged {
                    prorated(stretch, t)
                } else {
                    (t - stretch.start).saturating_sub(backend.between(stretch.start, t))
                }
            })
        };
        open + before(to).saturating_sub(before(from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn split(blocked: u64, late: u64) -> Delay {
        Delay { blocked: Span(blocked), late: Span(late) }
    }

    #[test]
    fn time_inside_calls_is_blocked_and_the_rest_is_late() {
        let mut backend = BackendTime::new();
        backend.inside(Time(10 * MS), Time(11 * MS));
        backend.inside(Time(13 * MS), Time(15 * MS));
        let free = HeldBack::new();
        assert_eq!(backend.delay(&free, Time(9 * MS), Time(16 * MS)), split(3 * MS, 4 * MS));
        assert_eq!(backend.delay(&free, Time(14 * MS), Time(15 * MS)), split(MS, 0));
        assert_eq!(backend.delay(&free, Time(16 * MS), Time(20 * MS)), split(0, 4 * MS));
        assert_eq!(backend.delay(&free, Time(20 * MS), Time(16 * MS)), split(0, 0));
        assert_eq!(backend.delay(&free, Time(14 * MS), Time(14 * MS + 999)), split(0, 999));
    }

    #[test]
    fn a_producer_that_is_held_back_is_blocked_once() {
        let mut backend = BackendTime::new();
        let mut held = HeldBack::new();
        held.begin(Time(2 * MS));
        held.begin(Time(3 * MS));
        backend.inside(Time(4 * MS), Time(5 * MS));
        assert_eq!(backend.delay(&held, Time(MS), Time(6 * MS)), split(4 * MS, MS));
        held.end(Time(6 * MS), &backend);
        assert!(!held.is_held());
        assert_eq!(backend.delay(&held, Time(MS), Time(8 * MS)), split(4 * MS, 3 * MS));
    }

    #[test]
    fn memory_is_bounded_and_old_intervals_keep_their_sum() {
        let mut backend = BackendTime::new();
        // A call of 1 µs in every 4 µs, far more often than intervals are kept.
        for n in 0..1_000_000_u64 {
            backend.inside(Time(4_000 * n), Time(4_000 * n + 1_000));
        }
        assert!(backend.inside.list.len() <= LOOP_INTERVALS);
        let end = 4_000_000_000;
        let whole = backend.delay(&HeldBack::new(), Time(0), Time(end));
        assert_eq!(whole, split(1_000_000_000, 3_000_000_000));
        let half = backend.delay(&HeldBack::new(), Time(end / 2 + 77), Time(end));
        assert!(half.blocked.0.abs_diff(500_000_000) < 5_000_000, "{half:?}");
    }

    /// Alternating pauses and busy stretches, from 0.
    fn stretches(most: usize) -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0_u64..9, 1_u64..9), 0..most).prop_map(|steps| {
            let mut at = 0;
            let step = |(pause, busy)| {
                let start = at + pause;
                at = start + busy;
                (start, at)
            };
            steps.into_iter().map(step).collect()
        })
    }

    proptest! {
        #[test]
        fn a_search_is_not_misled_by_the_one_before(
            calls in stretches(60), asked in prop::collection::vec(0_u64..600, 1..60), more in 1_u64..90,
        ) {
            let mut list = Stretches::default();
            for &(from, to) in &calls {
                list.push(from, to, to - from, 1_000);
            }
            let mut from = list.end() + 1;
            for t in asked {
                let naive = list.list.iter().filter(|stretch| stretch.start < t).count();
                prop_assert_eq!(list.begun_before(t), naive);
                // Now and then it grows, or is thinned, between two questions.
                let capacity = if t % 7 == 0 { list.list.len().max(2) } else { 1_000 };
                list.push(from, from + 1, 1, capacity);
                from += more;
            }
        }

        #[test]
        fn the_share_of_any_stretch_is_exact_to_its_32nd_bit(whole in 1_u64..1 << 50, busy in 0.0..1.0, part in 0.0..1.0) {
            let of = |share: f64| ((whole as f64 * share) as u64).min(whole);
            let stretch = Stretch { start: 7, end: 7 + whole, before: 0, busy: of(busy), merged: true };
            let exact = u128::from(stretch.busy) * u128::from(of(part)) / u128::from(whole);
            let found = u128::from(prorated(&stretch, 7 + of(part)));
            prop_assert!(found <= u128::from(stretch.busy));
            prop_assert!(found.abs_diff(exact) <= u128::from(whole >> 31) * 3, "{} for {}", found, exact);
        }

        #[test]
        fn the_split_is_the_naive_overlap(
            calls in stretches(60), held_back in stretches(30), at in 0_u64..300, length in 1_u64..300, open in any::<bool>(),
        ) {
            const UNIT: u64 = 1_000;
            let mut backend = BackendTime::new();
            for &(from, to) in &calls {
                backend.inside(Time(from * UNIT), Time(to * UNIT));
            }
            let mut held = HeldBack::new();
            for (n, &(from, to)) in held_back.iter().enumerate() {
                held.begin(Time(from * UNIT));
                if n + 1 < held_back.len() || !open {
                    held.end(Time(to * UNIT), &backend);
                }
            }
            let still = held_back.last().filter(|_| open).map_or(u64::MAX, |last| last.0);
            let covers = |list: &[(u64, u64)], t: u64| list.iter().any(|&(from, to)| from <= t && t < to);
            let blocked = (at..at + length).filter(|&t| t >= still || covers(&calls, t) || covers(&held_back, t)).count();
            let expected = split(blocked as u64 * UNIT, (length - blocked as u64) * UNIT);
            prop_assert_eq!(backend.delay(&held, Time(at * UNIT), Time((at + length) * UNIT)), expected);
        }
    }
}
