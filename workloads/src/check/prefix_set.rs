//! A set of sequence numbers that is, but for a little disorder, everything from 0 up to a point.
//!
//! Three zones: below the window everything is in the set but for the *holes*, kept as sparse words; the window is a bitmap that
//! slides forward; above it nothing is in the set. In order, a set of 10^9 numbers is one word. The window reaches 2^20
//! numbers; what stays behind longer becomes a hole. Windows and holes of all sets draw on one [`Budget`]; when it is spent the
//! oldest holes are *forgotten*, and asking for a number there says so instead of guessing.
//!
//! Leaves out what membership means.

use std::collections::VecDeque;

/// Words of one window: 2^20 sequence numbers.
const WINDOW_WORDS: usize = 1 << 14;
/// Words of all windows together (16 MiB).
const ALL_WINDOW_WORDS: usize = 1 << 21;
/// Words with holes of all sets together (32 MiB).
const ALL_HOLE_WORDS: usize = 1 << 21;
/// A number further above the window than this is not taken: it would turn everything between into holes.
const JUMP_WORDS: u64 = ALL_HOLE_WORDS as u64;
/// A ring that has grown beyond this many words gives memory back once it is mostly empty.
const KEPT_WORDS: usize = 64;

/// What all sets together have taken, and may take.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    window_words: usize,
    window_words_max: usize,
    hole_words: usize,
    hole_words_max: usize,
    /// Words of one window.
    window: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(WINDOW_WORDS, ALL_WINDOW_WORDS, ALL_HOLE_WORDS)
    }
}

impl Budget {
    /// One of other bounds: words of one window, of all windows, and with holes.
    pub(super) const fn of(window: usize, window_words_max: usize, hole_words_max: usize) -> Self {
        Self { window_words: 0, window_words_max, hole_words: 0, hole_words_max, window }
    }

    /// Words of windows and words with holes taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.window_words, self.hole_words)
    }
}

/// Whether a number is in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Not known any more: beyond the bounds.
    Forgotten,
}

/// Sixty-four neighbouring numbers that left the window, with those that are missing.
#[derive(Clone, Copy, Debug)]
struct HoleWord {
    word: u64,
    missing: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct PrefixSet {
    /// The window's first word.
    base: u64,
    window: VecDeque<u64>,
    /// Words below the window with numbers missing, ascending. Filled ones stay, as zeros, until they are many.
    holes: Option<Box<Holes>>,
}

#[derive(Clone, Debug, Default)]
struct Holes {
    words: VecDeque<HoleWord>,
    filled: usize,
    /// Nothing is known of words below this.
    forgotten_below: u64,
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

impl PrefixSet {
    /// Whether `number` is in the set.
    #[inline]
    pub(super) fn find(&self, number: u64) -> Found {
        let word = number / 64;
        let found = if word >= self.base {
            let word = usize::try_from(word - self.base).ok().and_then(|at| self.window.get(at));
            word.is_some_and(|word| word & bit(number) != 0)
        } else {
            match &self.holes {
                None => true,
                Some(holes) if word < holes.forgotten_below => return Found::Forgotten,
                Some(holes) => holes.missing(word) & bit(number) == 0,
            }
        };
        if found { Found::Yes } else { Found::No }
    }

    /// Puts `number` in and says what was known of it before. [`Found::Forgotten`] means that it was not put in: it lies where
    /// the oldest holes were forgotten to stay within the budget, or too far ahead.
    #[inline]
    pub(super) fn insert(&mut self, number: u64, budget: &mut Budget) -> Found {
        let word = number / 64;
        let Some(at) = word.checked_sub(self.base) else {
            return self.fill(word, bit(number), budget);
        };
        if let Some(bits) = self.window.get_mut(at as usize) {
            if *bits & bit(number) != 0 {
                return Found::Yes;
            }
            *bits |= bit(number);
        } else {
            if !self.extend(word, budget) {
                return Found::Forgotten;
            }
            let at = (word - self.base) as usize;
            self.window[at] |= bit(number);
        }
        if self.window[0] == u64::MAX {
            self.slide(budget);
        }
        Found::No
    }

    /// Drops full words from the window's front.
    fn slide(&mut self, budget: &mut Budget) {
        while self.window.front() == Some(&u64::MAX) {
            self.window.pop_front();
            self.base += 1;
            budget.window_words -= 1;
        }
        if self.window.capacity() > KEPT_WORDS && self.window.len() < self.window.capacity() / 8 {
            self.window.shrink_to(self.window.len() * 2);
        }
    }

    /// Makes the window reach `word`. What does not fit any more becomes holes. False when that is too far to go.
    #[cold]
    fn extend(&mut self, word: u64, budget: &mut Budget) -> bool {
        if word - self.end_word() > JUMP_WORDS {
            return false;
        }
        while self.end_word() <= word {
            let full = self.window.len() >= budget.window || budget.window_words >= budget.window_words_max;
            // A set can't work without a word: the first may exceed the budget.
            if full && let Some(left) = self.window.pop_front() {
                budget.window_words -= 1;
                if left != u64::MAX {
                    self.leave_hole(!left, budget);
                }
                self.base += 1;
            }
            budget.window_words += 1;
            self.window.push_back(0);
        }
        true
    }

    /// Remembers that of the word at `base` these are missing.
    fn leave_hole(&mut self, missing: u64, budget: &mut Budget) {
        let holes = self.holes.get_or_insert_default();
        // Compacting walks all holes: worth it only where it frees many.
        if budget.hole_words >= budget.hole_words_max && holes.filled * 8 > holes.words.len() {
            holes.compact(budget);
        }
        if budget.hole_words >= budget.hole_words_max {
            let Some(oldest) = holes.words.pop_front() else {
                holes.forgotten_below = self.base + 1;
                return;
            };
            holes.forgotten_below = oldest.word + 1;
            holes.filled -= usize::from(oldest.missing == 0);
            budget.hole_words -= 1;
        }
        budget.hole_words += 1;
        holes.words.push_back(HoleWord { word: self.base, missing });
    }

    #[cold]
    fn fill(&mut self, word: u64, bit: u64, budget: &mut Budget) -> Found {
        let Some(holes) = &mut self.holes else { return Found::Yes };
        if word < holes.forgotten_below {
            return Found::Forgotten;
        }
        let Ok(at) = holes.words.binary_search_by_key(&word, |hole| hole.word) else { return Found::Yes };
        let missing = &mut holes.words[at].missing;
        if *missing & bit == 0 {
            return Found::Yes;
        }
        *missing &= !bit;
        if *missing == 0 {
            holes.filled += 1;
            if holes.filled > 32 && holes.filled * 2 > holes.words.len() {
                holes.compact(budget);
            }
        }
        Found::No
    }

    /// Of the 64 numbers of `word`, those that are in the set; none of those forgotten.
    pub(super) fn word(&self, word: u64) -> u64 {
        if word >= self.base {
            return usize::try_from(word - self.base).ok().and_then(|at| self.window.get(at)).copied().unwrap_or(0);
        }
        match &self.holes {
            None => u64::MAX,
            Some(holes) if word < holes.forgotten_below => 0,
            Some(holes) => !holes.missing(word),
        }
    }

    /// One more than the last word with a number in it.
    pub(super) fn end_word(&self) -> u64 {
        self.base + self.window.len() as u64
    }

    /// The words in which a number is known to be missing, ascending, up to `end`.
    pub(super) fn words_with_missing(&self, end: u64) -> impl Iterator<Item = u64> {
        let holes =
            self.holes.iter().flat_map(|holes| &holes.words).filter(|hole| hole.missing != 0).map(|hole| hole.word);
        holes.chain(self.base..end.max(self.base))
    }

    /// How many numbers of `first` and above are in the set.
    pub(super) fn count_from(&self, first: u64) -> u64 {
        let above = |word: u64| self.word(word) & (u64::MAX << if word == first / 64 { first % 64 } else { 0 });
        (first / 64..self.end_word()).map(|word| u64::from(above(word).count_ones())).sum()
    }

    /// Words of the window and words with holes, as the budget should have counted them.
    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, usize) {
        let holes = self.holes.as_deref().map_or(&[][..], |holes| {
            let filled = holes.words.iter().filter(|hole| hole.missing == 0).count();
            assert_eq!(filled, holes.filled, "words that were filled");
            std::slice::from_ref(holes)
        });
        (self.window.len(), holes.iter().map(|holes| holes.words.len()).sum())
    }

    /// Memory in bytes beyond the struct itself.
    pub(super) fn bytes(&self) -> usize {
        let hole = |holes: &Holes| size_of::<Holes>() + holes.words.capacity() * size_of::<HoleWord>();
        self.window.capacity() * size_of::<u64>() + self.holes.as_deref().map_or(0, hole)
    }
}

impl Holes {
    fn missing(&self, word: u64) -> u64 {
        self.words.binary_search_by_key(&word, |hole| hole.word).map_or(0, |at| self.words[at].missing)
    }

    /// Drops the words that were filled since.
    fn compact(&mut self, budget: &mut Budget) {
        budget.hole_words -= self.filled;
        self.filled = 0;
        self.words.retain(|hole| hole.missing != 0);
        if self.words.capacity() > KEPT_WORDS && self.words.len() < self.words.capacity() / 8 {
            self.words.shrink_to(self.words.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set that holds the last number of each of `words`, and the books of its budget.
    fn gaps(words: u64, holes_max: usize) -> (PrefixSet, Budget) {
        let mut budget = Budget::of(1, 1, holes_max);
        let mut set = PrefixSet::default();
        for word in 0..words {
            assert_eq!(set.insert(word * 64 + 63, &mut budget), Found::No);
        }
        (set, budget)
    }

    #[test]
    fn in_order_it_is_one_word() {
        let (mut set, mut budget) = (PrefixSet::default(), Budget::default());
        for number in 0..1_000_000 {
            assert_eq!(set.insert(number, &mut budget), Found::No);
        }
        assert_eq!((set.find(999_999), set.find(1_000_000), set.end_word()), (Found::Yes, Found::No, 15_625));
        assert!(set.bytes() < 1_024 && budget.taken() == (0, 0), "{} {budget:?}", set.bytes());
    }

    #[test]
    fn holes_that_are_filled_leave_their_words() {
        let (mut set, mut budget) = gaps(201, 1_000);
        assert_eq!(budget.taken(), (1, 200));
        for number in (0..200 * 64).rev().filter(|number| number % 64 != 63) {
            assert_eq!(set.insert(number, &mut budget), Found::No);
            assert_eq!(set.insert(number, &mut budget), Found::Yes);
        }
        assert_eq!(set.taken(), budget.taken());
        assert!(budget.taken().1 <= 32, "{budget:?}");
        assert_eq!((set.find(0), set.word(7), set.count_from(64)), (Found::Yes, u64::MAX, 199 * 64 + 1));
    }

    #[test]
    fn a_filled_word_that_is_forgotten_stays_in_the_books() {
        let (mut set, mut budget) = gaps(3, 2);
        for number in 0..63 {
            assert_eq!(set.insert(number, &mut budget), Found::No);
        }
        // Half of the words are filled: room is made by dropping those, and word 1 is still known.
        assert_eq!(set.insert(3 * 64, &mut budget), Found::No);
        assert_eq!((set.taken(), set.find(0), set.find(64)), (budget.taken(), Found::Yes, Found::No));
        // None is filled: the oldest is forgotten.
        assert_eq!(set.insert(4 * 64, &mut budget), Found::No);
        assert_eq!((set.taken(), set.find(0), set.find(64)), (budget.taken(), Found::Forgotten, Found::Forgotten));
        assert_eq!((set.find(2 * 64), set.find(2 * 64 + 63)), (Found::No, Found::Yes));
        // One in ten is filled: too few to walk all holes for, so the filled one is forgotten as the oldest.
        let (mut set, mut budget) = gaps(11, 10);
        for number in 0..63 {
            assert_eq!(set.insert(number, &mut budget), Found::No);
        }
        assert_eq!(set.insert(11 * 64, &mut budget), Found::No);
        assert_eq!((set.taken(), set.find(0), set.find(64)), (budget.taken(), Found::Forgotten, Found::No));
    }
}
