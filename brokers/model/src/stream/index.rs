//! A lane's sparse index: where it stood when. It answers "which position was written at this time" and "how many bytes stand
//! before this position" from a bounded number of entries.
//!
//! Leaves out the bytes themselves and their exact places, which the storage below knows.

use std::collections::VecDeque;

use crate::time::Time;

/// A point that is known exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    time: Time,
    position: u64,
    bytes: u64,
}

/// The points that are kept, oldest first. One is added for each distinct time at which the lane was written; when there are
/// more than `limit`, every second one is dropped and from then on only every second time is noted, and so on. Memory is
/// bounded and the grain is even.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SparseIndex {
    entries: VecDeque<Entry>,
    limit: usize,
    /// Every `grain`-th distinct time is kept.
    grain: u32,
    skipped: u32,
    last: Option<Time>,
}

impl SparseIndex {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), limit: limit.max(2), grain: 1, skipped: 0, last: None }
    }

    /// The lane, `position` long and `bytes` large so far, is about to be written at `now`.
    pub(crate) fn note(&mut self, now: Time, position: u64, bytes: u64) {
        if self.last == Some(now) {
            return;
        }
        self.last = Some(now);
        self.skipped += 1;
        if self.skipped < self.grain && !self.entries.is_empty() {
            return;
        }
        self.skipped = 0;
        self.entries.push_back(Entry { time: now, position, bytes });
        if self.entries.len() > self.limit {
            let mut keep = false;
            self.entries.retain(|_| {
                keep = !keep;
                keep
            });
            self.grain = self.grain.saturating_mul(2);
        }
    }

    /// The first position written at or after `time`, or `None` when nothing was. Once the grain is coarser than one time per
    /// entry it may be an earlier position, by at most one entry, and is never a later one.
    pub(crate) fn at_time(&self, time: Time) -> Option<u64> {
        if self.last.is_none_or(|last| last < time) {
            return None;
        }
        let after = self.entries.partition_point(|entry| entry.time < time);
        let exact = self.grain == 1 && after < self.entries.len();
        let at = if exact { after } else { after.saturating_sub(1) };
        self.entries.get(at).map(|entry| entry.position)
    }

    /// The bytes before `position` in a lane that ends at `end` with `total` bytes: exact at an entry, and spread evenly over
    /// the messages between two.
    pub(crate) fn bytes_before(&self, position: u64, end: u64, total: u64) -> u64 {
        // Readers are mostly near the end.
        let at_end = self.entries.back().is_none_or(|newest| newest.position <= position);
        let after = if at_end { self.entries.len() } else { self.entries.partition_point(|e| e.position <= position) };
        let (next, next_bytes) = self.entries.get(after).map_or((end, total), |entry| (entry.position, entry.bytes));
        let Some(entry) = after.checked_sub(1).map(|at| self.entries[at]) else {
            return next_bytes;
        };
        if position >= next || next <= entry.position {
            return if next <= entry.position { entry.bytes } else { next_bytes };
        }
        let share = u128::from(next_bytes - entry.bytes) * u128::from(position - entry.position);
        entry.bytes + (share / u128::from(next - entry.position)) as u64
    }

    /// When the newest message before [`SparseIndex::second`] was written at the latest, or the newest of all if there is no
    /// second entry.
    pub(crate) fn oldest_span_ends(&self) -> Option<Time> {
        self.entries.get(1).map(|entry| entry.time).or(self.last)
    }

    /// The second entry's position and the bytes before it: where a lane is cut when its oldest span goes.
    pub(crate) fn second(&self) -> Option<(u64, u64)> {
        self.entries.get(1).map(|entry| (entry.position, entry.bytes))
    }

    /// Forgets the points that only served positions below `start`.
    pub(crate) fn trim(&mut self, start: u64) {
        while self.second().is_some_and(|(position, _)| position <= start) {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(limit: usize, times: u64) -> SparseIndex {
        let mut index = SparseIndex::new(limit);
        for n in 0..times {
            index.note(Time(10 * n), 4 * n, 400 * n);
        }
        index
    }

    #[test]
    fn a_time_is_found_exactly_while_every_time_has_its_entry() {
        let index = filled(8, 5);
        assert_eq!(index.at_time(Time(0)), Some(0));
        assert_eq!(index.at_time(Time(10)), Some(4));
        assert_eq!(index.at_time(Time(11)), Some(8));
        assert_eq!(index.at_time(Time(41)), None);
    }

    #[test]
    fn a_coarser_grain_answers_earlier_and_never_later() {
        for times in 1..200 {
            let index = filled(8, times);
            assert!(index.entries.len() <= 8);
            for n in 0..times {
                let found = index.at_time(Time(10 * n)).unwrap();
                assert!(found <= 4 * n, "{times} times, {n}: {found}");
                assert!(4 * n - found <= 8 * u64::from(index.grain), "{times} times, {n}: {found}");
            }
        }
    }

    #[test]
    fn bytes_are_exact_at_entries_and_even_between() {
        let index = filled(8, 5);
        assert_eq!(index.bytes_before(4, 20, 2_000), 400);
        assert_eq!(index.bytes_before(6, 20, 2_000), 600);
        assert_eq!(index.bytes_before(18, 20, 2_000), 1_800);
        assert_eq!(index.bytes_before(20, 20, 2_000), 2_000);
    }

    #[test]
    fn a_trim_keeps_the_point_before_the_start() {
        let mut index = filled(8, 5);
        index.trim(9);
        assert_eq!(index.second(), Some((12, 1_200)));
        assert_eq!(index.bytes_before(9, 20, 2_000), 900);
    }
}
