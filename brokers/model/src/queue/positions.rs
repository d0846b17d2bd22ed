//! Where a position's entry stands: a table with open addressing, for the messages that left the fast path.
//!
//! Its cells are pages of successive positions: messages leave the fast path side by side more often than not, and ten million of them
//! then take a few bytes each and stay in a processor's cache. Its order depends on nothing but the positions, and nothing iterates over
//! it. Leaves out what the entries are.

/// No entry.
const NONE: u32 = u32::MAX;
/// No page.
const EMPTY: u64 = u64::MAX;
/// Positions of a page; a power of two.
const PAGE: u64 = 8;

/// Successive positions and the index of each one's entry.
#[derive(Clone, Copy, Debug)]
struct Page {
    number: u64,
    entries: [u32; PAGE as usize],
}

const NO_PAGE: Page = Page { number: EMPTY, entries: [NONE; PAGE as usize] };

/// Positions and the index of each one's entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    /// A power of two of them, at most three quarters in use.
    pages: Vec<Page>,
    used: usize,
}

impl Positions {
    /// Where the search for a page begins.
    fn home(&self, page: u64) -> usize {
        (page.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & (self.pages.len() - 1)
    }

    /// Where a page is, or the empty cell where it would be. There is at least one cell.
    fn seek(&self, page: u64) -> usize {
        let mut at = self.home(page);
        while self.pages[at].number != page && self.pages[at].number != EMPTY {
            at = (at + 1) & (self.pages.len() - 1);
        }
        at
    }

    /// The entry of a position.
    pub(super) fn get(&self, position: u64) -> Option<u32> {
        if self.pages.is_empty() {
            return None;
        }
        let page = &self.pages[self.seek(position / PAGE)];
        Some(page.entries[(position % PAGE) as usize]).filter(|&entry| entry != NONE)
    }

    /// Notes the entry of a position that is not in the table.
    pub(super) fn insert(&mut self, position: u64, entry: u32) {
        debug_assert!(self.get(position).is_none(), "a position has one entry");
        if self.pages.len() * 3 < 4 * (self.used + 1) {
            let size = (self.pages.len() * 2).max(4);
            let old = std::mem::replace(&mut self.pages, vec![NO_PAGE; size]);
            for page in old.into_iter().filter(|page| page.number != EMPTY) {
                let at = self.seek(page.number);
                self.pages[at] = page;
            }
        }
        let number = position / PAGE;
        let at = self.seek(number);
        let page = &mut self.pages[at];
        self.used += usize::from(page.number == EMPTY);
        page.number = number;
        page.entries[(position % PAGE) as usize] = entry;
    }

    /// Forgets a position and returns its entry.
    pub(super) fn remove(&mut self, position: u64) -> Option<u32> {
        if self.pages.is_empty() {
            return None;
        }
        let at = self.seek(position / PAGE);
        let page = &mut self.pages[at];
        let entry = std::mem::replace(&mut page.entries[(position % PAGE) as usize], NONE);
        if entry == NONE {
            return None;
        }
        if page.entries == NO_PAGE.entries {
            self.take_away(at);
        }
        Some(entry)
    }

    /// Empties a cell. Later cells of the same run move up, so that no mark is left behind.
    fn take_away(&mut self, mut hole: usize) {
        let last = self.pages.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & last;
            if self.pages[at].number == EMPTY {
                break;
            }
            let first = self.home(self.pages[at].number);
            // The cell may move into the hole when its home is not between the hole and itself.
            if (at.wrapping_sub(first) & last) >= (at.wrapping_sub(hole) & last) {
                self.pages[hole] = self.pages[at];
                hole = at;
            }
        }
        self.pages[hole] = NO_PAGE;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_side_by_side_takes_few_bytes_and_what_is_removed_none() {
        let mut table = Positions::default();
        for position in 0..100_000 {
            table.insert(position, position as u32);
        }
        assert!(table.pages.len() * size_of::<Page>() <= 100_000 * 14, "{} pages", table.pages.len());
        for position in 0..100_000 {
            assert_eq!(table.remove(position), Some(position as u32));
        }
        assert_eq!((table.used, table.get(5), table.remove(5)), (0, None, None));
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u64..64, any::<bool>()), 1..400)) {
            // Pages that share a home make long runs, and some share a page.
            let spread = |n: u64| ((n / 2) << 43) + n % 2;
            let (mut table, mut map) = (Positions::default(), BTreeMap::new());
            for (n, (position, remove)) in steps.into_iter().enumerate() {
                let position = spread(position);
                if remove {
                    prop_assert_eq!(table.remove(position), map.remove(&position));
                } else if let std::collections::btree_map::Entry::Vacant(free) = map.entry(position) {
                    free.insert(n as u32);
                    table.insert(position, n as u32);
                }
                for known in 0..64u64 {
                    prop_assert_eq!(table.get(spread(known)), map.get(&spread(known)).copied());
                }
            }
        }
    }
}
