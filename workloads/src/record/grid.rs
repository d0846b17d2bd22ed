//! The run divided into intervals: warm-up first, then the window, so that no interval straddles the two.
//!
//! Leaves out what is counted in an interval.

use brokerlab_model::{Span, Time};

/// No interval is shorter.
const SHORTEST: u64 = 100_000_000;
/// About how many intervals a run is divided into; bounds the recorder's memory.
const INTERVALS: u64 = 60;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long the schedule runs before the window.
    pub warmup: Span,
    /// Length of the window.
    pub duration: Span,
    /// How many consumer groups there are.
    pub groups: usize,
}

/// The intervals of a run, and which of them a time belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    start: u64,
    warmup: u64,
    end: u64,
    step: u64,
    warmup_intervals: usize,
    intervals: usize,
}

/// The interval that was asked for last: most times belong to the same one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    start: u64,
    length: u64,
    index: usize,
}

impl Grid {
    pub(super) fn new(plan: &Plan, start: Time) -> Self {
        let (warmup, duration) = (plan.warmup.0, plan.duration.0);
        let step = (warmup.saturating_add(duration)).div_ceil(INTERVALS).max(SHORTEST);
        let warmup_intervals = warmup.div_ceil(step) as usize;
        Self {
            start: start.0,
            warmup,
            end: start.0.saturating_add(warmup).saturating_add(duration),
            step,
            warmup_intervals,
            intervals: warmup_intervals + duration.div_ceil(step) as usize,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.intervals
    }

    /// Whether interval `index` belongs to the window.
    #[inline]
    pub(super) fn in_window(&self, index: usize) -> bool {
        index >= self.warmup_intervals
    }

    /// The interval of `time`; none before the schedule's start and from its end on.
    #[inline]
    pub(super) fn interval(&self, cursor: &mut Cursor, time: Time) -> Option<usize> {
        if time.0.wrapping_sub(cursor.start) < cursor.length {
            return Some(cursor.index);
        }
        self.seek(cursor, time)
    }

    #[cold]
    fn seek(&self, cursor: &mut Cursor, time: Time) -> Option<usize> {
        if time.0 < self.start || time.0 >= self.end {
            return None;
        }
        let since = time.0 - self.start;
        let index = if since < self.warmup {
            since / self.step
        } else {
            self.warmup_intervals as u64 + (since - self.warmup) / self.step
        };
        let (start, length) = self.bounds(index as usize);
        *cursor = Cursor { start: self.start + start, length, index: index as usize };
        Some(cursor.index)
    }

    /// Start of interval `index` since the schedule's start, and its length.
    pub(super) fn bounds(&self, index: usize) -> (u64, u64) {
        let (from, to, within) = if self.in_window(index) {
            (self.warmup, self.end - self.start, index - self.warmup_intervals)
        } else {
            (0, self.warmup, index)
        };
        let start = from + within as u64 * self.step;
        (start, self.step.min(to - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(warmup_ms: u64, duration_ms: u64) -> Grid {
        let plan = Plan { warmup: Span::from_millis(warmup_ms), duration: Span::from_millis(duration_ms), groups: 1 };
        Grid::new(&plan, Time(5_000))
    }

    #[test]
    fn intervals_cover_the_run_once_and_part_at_the_windows_start() {
        for (warmup, duration) in [(0, 1), (0, 600), (200, 600), (250, 1_050), (7_000, 53_123), (1, 600_000)] {
            let grid = grid(warmup, duration);
            let mut at = 0;
            for index in 0..grid.len() {
                let (start, length) = grid.bounds(index);
                assert_eq!(start, at, "interval {index} of {grid:?}");
                assert!(length > 0 && length <= grid.step);
                assert_eq!(grid.in_window(index), start >= warmup * 1_000_000);
                at += length;
            }
            assert_eq!(at, (warmup + duration) * 1_000_000);
            assert!(grid.len() <= 62);
        }
    }

    #[test]
    fn a_time_belongs_to_the_interval_that_holds_it() {
        let grid = grid(250, 600);
        let mut cursor = Cursor::default();
        let ms = |n: u64| Time(5_000 + n * 1_000_000);
        let asked = [0, 99, 100, 249, 250, 349, 350, 849, 120].map(|n| grid.interval(&mut cursor, ms(n)));
        assert_eq!(asked, [0, 0, 1, 2, 3, 3, 4, 8, 1].map(Some));
        assert_eq!(grid.interval(&mut cursor, Time(4_999)), None);
        assert_eq!(grid.interval(&mut cursor, ms(850)), None);
        assert_eq!(grid.interval(&mut cursor, Time(ms(850).0 - 1)), Some(8));
    }
}
