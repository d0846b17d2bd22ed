//! Where a position's entry stands: a table with open addressing, for the few messages that left the fast path.
//!
//! Its order depends on nothing but the positions, and nothing iterates over it. Leaves out what the entries are.

/// An empty cell.
const EMPTY: u32 = u32::MAX;

/// Positions and the index of each one's entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    /// Position and entry; a power of two of them, at most half in use.
    cells: Vec<(u64, u32)>,
    used: usize,
}

impl Positions {
    /// Where the search for a position begins.
    fn home(&self, position: u64) -> usize {
        (position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & (self.cells.len() - 1)
    }

    /// The cell that holds a position.
    fn find(&self, position: u64) -> Option<usize> {
        if self.cells.is_empty() {
            return None;
        }
        let mut at = self.home(position);
        while self.cells[at].1 != EMPTY {
            if self.cells[at].0 == position {
                return Some(at);
            }
            at = (at + 1) & (self.cells.len() - 1);
        }
        None
    }

    /// The entry of a position.
    pub(super) fn get(&self, position: u64) -> Option<u32> {
        self.find(position).map(|at| self.cells[at].1)
    }

    /// Notes the entry of a position that is not in the table.
    pub(super) fn insert(&mut self, position: u64, entry: u32) {
        debug_assert!(self.get(position).is_none(), "a position has one entry");
        if self.cells.len() < 2 * (self.used + 1) {
            let size = (self.cells.len() * 2).max(16);
            let old = std::mem::replace(&mut self.cells, vec![(0, EMPTY); size]);
            for (position, entry) in old.into_iter().filter(|cell| cell.1 != EMPTY) {
                self.place(position, entry);
            }
        }
        self.place(position, entry);
        self.used += 1;
    }

    fn place(&mut self, position: u64, entry: u32) {
        let mut at = self.home(position);
        while self.cells[at].1 != EMPTY {
            at = (at + 1) & (self.cells.len() - 1);
        }
        self.cells[at] = (position, entry);
    }

    /// Forgets a position and returns its entry. Later cells of the same run move up, so that no mark is left behind.
    pub(super) fn remove(&mut self, position: u64) -> Option<u32> {
        let mut hole = self.find(position)?;
        let entry = self.cells[hole].1;
        let last = self.cells.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & last;
            if self.cells[at].1 == EMPTY {
                break;
            }
            let first = self.home(self.cells[at].0);
            // The cell may move into the hole when its home is not between the hole and itself.
            if (at.wrapping_sub(first) & last) >= (at.wrapping_sub(hole) & last) {
                self.cells[hole] = self.cells[at];
                hole = at;
            }
        }
        self.cells[hole].1 = EMPTY;
        self.used -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u64..64, any::<bool>()), 1..400)) {
            let (mut table, mut map) = (Positions::default(), BTreeMap::new());
            for (n, (position, remove)) in steps.into_iter().enumerate() {
                // Positions that share a home make long runs.
                let position = position << 40;
                if remove {
                    prop_assert_eq!(table.remove(position), map.remove(&position));
                } else if let std::collections::btree_map::Entry::Vacant(free) = map.entry(position) {
                    free.insert(n as u32);
                    table.insert(position, n as u32);
                }
                for known in 0..64u64 {
                    prop_assert_eq!(table.get(known << 40), map.get(&(known << 40)).copied());
                }
            }
        }
    }
}
