//! The order in which a group saw a channel's messages, condensed so that two groups can be compared.
//!
//! A running hash over the first deliveries, kept at up to 1,024 evenly spaced counts; when they are full, every other one goes
//! and the spacing doubles. Two groups that saw the same messages in the same order have equal hashes at equal counts, and two
//! that did not differ from there on (by chance, in one case of 2^64, not). Leaves out which of two orders is the right one:
//! there is none.

use super::key_table::spread;

/// Kept counts.
const POINTS: usize = 1_024;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct OrderTrace {
    count: u64,
    hash: u64,
    /// A power of two; `points[i]` is the hash after `(i + 1) × every` deliveries.
    every: u64,
    points: Vec<u64>,
}

impl Default for OrderTrace {
    fn default() -> Self {
        Self { count: 0, hash: 0, every: 1, points: Vec::new() }
    }
}

impl OrderTrace {
    /// The next first delivery.
    pub(super) fn next(&mut self, producer: u32, sequence: u64) {
        let id = u64::from(producer) << 40 ^ sequence;
        self.hash = spread(self.hash.rotate_left(23).wrapping_add(id).wrapping_add(1));
        self.count += 1;
        if self.count.is_multiple_of(self.every) {
            self.points.push(self.hash);
            if self.points.len() == POINTS {
                let mut at = 0;
                self.points.retain(|_| {
                    at += 1;
                    at % 2 == 0
                });
                self.every *= 2;
            }
        }
    }

    fn at(&self, count: u64) -> Option<u64> {
        if count == self.count {
            return Some(self.hash);
        }
        if !count.is_multiple_of(self.every) {
            return None;
        }
        self.points.get(usize::try_from(count / self.every).ok()?.checked_sub(1)?).copied()
    }

    /// The first count, as far as counts are kept, at which the two had seen different messages or another order.
    pub(super) fn parts_from(&self, other: &Self) -> Option<u64> {
        let every = self.every.max(other.every);
        let common = self.count.min(other.count);
        let kept = (1..=common / every).map(|n| n * every).chain([common]);
        kept.filter(|&count| count > 0)
            .find(|&count| matches!((self.at(count), other.at(count)), (Some(mine), Some(theirs)) if mine != theirs))
    }

    /// First deliveries so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Memory in bytes beyond the struct itself.
    pub(super) fn bytes(&self) -> usize {
        self.points.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(ids: impl IntoIterator<Item = u64>) -> OrderTrace {
        let mut trace = OrderTrace::default();
        ids.into_iter().for_each(|id| trace.next((id % 3) as u32, id));
        trace
    }

    #[test]
    fn equal_orders_are_equal_at_every_length() {
        let whole = trace(0..10_000);
        for shorter in [0, 1, 1_023, 1_024, 1_025, 4_096, 9_999, 10_000] {
            assert_eq!(whole.parts_from(&trace(0..shorter)), None, "{shorter}");
        }
        assert!(whole.points.len() < POINTS);
    }

    #[test]
    fn a_swap_is_found_just_after_it_happened() {
        let whole = trace(0..10_000);
        let swapped = trace((0..10_000).map(|id| {
            if id == 5_000 {
                5_001
            } else if id == 5_001 {
                5_000
            } else {
                id
            }
        }));
        let found = whole.parts_from(&swapped).unwrap();
        assert!((5_001..5_001 + whole.every).contains(&found), "{found}");
        assert_eq!(swapped.parts_from(&whole), Some(found));
        assert_eq!(trace([1, 2]).parts_from(&trace([2, 1])), Some(1));
    }
}
