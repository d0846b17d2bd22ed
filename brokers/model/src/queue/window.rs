//! The fast path of one queue: a bitmap of messages that are delivered and not settled, and one lease record per run.
//!
//! First deliveries take successive positions, so a lease is a start and a length, and leases of one visibility timeout end in
//! the order in which they began: no timer structure. A message that leaves this path (requeued, extended, expired) is
//! *moved*: it stays unsettled here, so that the oldest unsettled position is exact, and is described in `exceptions`.
//! Leaves out who may settle what and when a lease is looked at; that is the queue's.

use std::collections::VecDeque;

use crate::give_back;
use crate::time::Time;

/// Positions in one word of the bitmap.
const WORD: u64 = 64;

/// 64 successive positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    /// Delivered and not settled.
    open: u64,
    /// Of the open ones, those that left the fast path.
    moved: u64,
    /// Where the search for a lease of this word's positions starts.
    first_lease: u64,
}

/// Successive positions that were handed to one member at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// The first position.
    pub(super) start: u64,
    /// How many positions.
    pub(super) len: u32,
    /// How many of them are neither settled nor moved.
    pub(super) left: u32,
    /// The member's slot.
    pub(super) member: u32,
    /// When the lease ends.
    pub(super) deadline: Time,
}

/// What `Window::find` knows of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not delivered, or settled.
    Absent,
    /// On the fast path, under the lease of this index.
    Leased(usize),
    /// Left the fast path and is not settled.
    Moved,
}

/// The delivered part of one queue that is not settled as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    words: VecDeque<Word>,
    /// The first word's first position; a multiple of 64.
    base: u64,
    leases: VecDeque<Lease>,
    /// The number of the first lease that is kept.
    lease_base: u64,
    /// Open positions, moved ones included.
    open: u64,
}

/// Bits `from .. to` of a word.
const fn mask(from: u64, to: u64) -> u64 {
    let upto = if to >= WORD { u64::MAX } else { (1 << to) - 1 };
    upto & (u64::MAX << from)
}

impl Window {
    /// How many positions are delivered and not settled, moved ones included.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// How many lease records are held.
    pub(super) fn leases(&self) -> usize {
        self.leases.len()
    }

    /// Hands out `len` positions from `start`, which is after everything handed out before.
    pub(super) fn lease(&mut self, start: u64, len: u32, member: u32, deadline: Time) {
        // Leases stay in order of their ends, whatever a caller's clock does.
        let deadline = self.leases.back().map_or(deadline, |last| deadline.max(last.deadline));
        let number = self.lease_base + self.leases.len() as u64;
        let end = start + u64::from(len);
        if self.words.is_empty() {
            self.base = start - start % WORD;
        }
        while self.base + self.words.len() as u64 * WORD < end {
            self.words.push_back(Word { open: 0, moved: 0, first_lease: number });
        }
        let mut at = start;
        while at < end {
            let index = (at - self.base) / WORD;
            let word_start = self.base + index * WORD;
            let to = (end - word_start).min(WORD);
            self.words[index as usize].open |= mask(at - word_start, to);
            at = word_start + to;
        }
        self.leases.push_back(Lease { start, len, left: len, member, deadline });
        self.open += u64::from(len);
    }

    /// Marks a position as unsettled and moved though it was not handed out. It is not before `from`, and everything handed out from now
    /// on isn't either.
    pub(super) fn set_aside(&mut self, position: u64, from: u64) {
        if self.words.is_empty() {
            self.base = from - from % WORD;
        }
        let number = self.lease_base + self.leases.len() as u64;
        while self.base + self.words.len() as u64 * WORD <= position {
            self.words.push_back(Word { open: 0, moved: 0, first_lease: number });
        }
        if let Some((index, bit)) = self.bit(position) {
            let word = &mut self.words[index];
            word.open |= bit;
            word.moved |= bit;
            self.open += 1;
        }
    }

    /// The word and bit of a position, if the word is held.
    fn bit(&self, position: u64) -> Option<(usize, u64)> {
        let offset = position.checked_sub(self.base)?;
        let index = (offset / WORD) as usize;
        (index < self.words.len()).then_some((index, 1 << (offset % WORD)))
    }

    /// Where a position stands.
    pub(super) fn find(&self, position: u64) -> Place {
        let Some((index, bit)) = self.bit(position) else { return Place::Absent };
        let word = self.words[index];
        if word.open & bit == 0 {
            return Place::Absent;
        }
        if word.moved & bit != 0 {
            return Place::Moved;
        }
        let low = word.first_lease.saturating_sub(self.lease_base) as usize;
        let high = (low + (position - self.leases[low].start) as usize).min(self.leases.len() - 1);
        // Where nothing was set aside ahead of what is handed out, the next word's first lease is the last that can hold this position.
        if let Some(next) = self.words.get(index + 1) {
            let near = (next.first_lease.saturating_sub(self.lease_base) as usize).clamp(low, high);
            let found = self.covering(position, low, near);
            let lease = &self.leases[found];
            if position < lease.start + u64::from(lease.len) {
                return Place::Leased(found);
            }
        }
        Place::Leased(self.covering(position, low, high))
    }

    /// The lease of `low ..= high` with the last start that is not after `position`.
    fn covering(&self, position: u64, mut low: usize, mut high: usize) -> usize {
        if self.leases[high].start <= position {
            return high;
        }
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if self.leases[middle].start <= position {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The lease of this index.
    pub(super) fn at(&self, index: usize) -> &Lease {
        &self.leases[index]
    }

    /// Settles a position that `find` placed under the lease `index`.
    pub(super) fn settle(&mut self, position: u64, index: usize) {
        self.leases[index].left -= 1;
        self.clear(position);
    }

    /// Settles positions from `position` on, before `end`, that `find` would place under the lease `index` too; returns how many.
    pub(super) fn settle_run(&mut self, position: u64, end: u64, index: usize) -> u64 {
        let lease = &mut self.leases[index];
        let end = end.min(lease.start + u64::from(lease.len));
        let mut at = position;
        while at < end {
            let offset = at - self.base;
            let Some(word) = self.words.get_mut((offset / WORD) as usize) else { break };
            let (from, wanted) = (offset % WORD, (end - at).min(WORD - offset % WORD));
            let held = u64::from(((word.open & !word.moved) >> from).trailing_ones()).min(wanted);
            word.open &= !mask(from, from + held);
            at += held;
            if held < wanted {
                break;
            }
        }
        let settled = at - position;
        lease.left -= settled as u32;
        self.open -= settled;
        settled
    }

    /// Settles a moved position.
    pub(super) fn settle_moved(&mut self, position: u64) {
        self.clear(position);
    }

    fn clear(&mut self, position: u64) {
        if let Some((index, bit)) = self.bit(position) {
            let word = &mut self.words[index];
            debug_assert!(word.open & bit != 0, "a position is settled once");
            word.open &= !bit;
            word.moved &= !bit;
            self.open -= 1;
        }
    }

    /// Moves a position that `find` placed under the lease `index` off the fast path.
    pub(super) fn shift(&mut self, position: u64, index: usize) {
        self.leases[index].left -= 1;
        if let Some((index, bit)) = self.bit(position) {
            self.words[index].moved |= bit;
        }
    }

    /// Drops what is settled as a whole from the front. `cursor` is the next position that will be handed out.
    pub(super) fn advance(&mut self, cursor: u64) {
        while self.leases.front().is_some_and(|lease| lease.left == 0) {
            self.leases.pop_front();
            self.lease_base += 1;
        }
        while self.base + WORD <= cursor && self.words.front().is_some_and(|word| word.open == 0) {
            self.words.pop_front();
            self.base += WORD;
        }
        give_back::from_deque(&mut self.leases);
        give_back::from_deque(&mut self.words);
    }

    /// The oldest position that is not settled, `cursor` when there is none before it. Exact after `advance`.
    pub(super) fn head(&self, cursor: u64) -> u64 {
        match self.words.iter().position(|word| word.open != 0) {
            Some(index) => {
                let first = self.base + index as u64 * WORD + u64::from(self.words[index].open.trailing_zeros());
                first.min(cursor)
            }
            None => cursor,
        }
    }

    /// When the oldest lease that still holds something ends. Exact after `advance`.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.leases.front().map(|lease| lease.deadline)
    }

    /// Ends the oldest lease: appends its unsettled positions to `into`, marks them moved, and returns it.
    pub(super) fn take_oldest(&mut self, into: &mut Vec<u64>) -> Option<Lease> {
        let lease = self.leases.pop_front()?;
        self.lease_base += 1;
        self.move_rest(lease, into);
        Some(lease)
    }

    /// Ends every lease of a member: appends the unsettled positions to `into`, oldest first, and marks them moved.
    pub(super) fn take_member(&mut self, member: u32, into: &mut Vec<u64>) {
        for index in 0..self.leases.len() {
            let lease = self.leases[index];
            if lease.member == member && lease.left > 0 {
                self.move_rest(lease, into);
                self.leases[index].left = 0;
            }
        }
    }

    fn move_rest(&mut self, lease: Lease, into: &mut Vec<u64>) {
        let end = lease.start + u64::from(lease.len);
        let mut at = lease.start.max(self.base);
        while lease.left > 0 && at < end {
            let index = (at - self.base) / WORD;
            let word_start = self.base + index * WORD;
            let to = (end - word_start).min(WORD);
            let word = &mut self.words[index as usize];
            let mut bits = word.open & !word.moved & mask(at - word_start, to);
            word.moved |= bits;
            while bits != 0 {
                into.push(word_start + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
            }
            at = word_start + to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_found_by_any_of_its_positions() {
        let mut window = Window::default();
        let lens = [1u32, 1, 70, 1, 200, 3];
        let mut start = 10;
        for (member, len) in lens.into_iter().enumerate() {
            window.lease(start, len, member as u32, Time(member as u64));
            start += u64::from(len);
        }
        let mut position = 10;
        for (member, len) in lens.into_iter().enumerate() {
            for _ in 0..len {
                assert_eq!(window.find(position), Place::Leased(member), "position {position}");
                position += 1;
            }
        }
        assert_eq!(window.find(position), Place::Absent);
        assert_eq!(window.find(9), Place::Absent);
        assert_eq!(window.open(), 276);
    }

    #[test]
    fn the_head_is_the_oldest_unsettled_position_and_memory_follows_it() {
        let mut window = Window::default();
        for n in 0..300u64 {
            window.lease(n, 1, 0, Time(n));
        }
        for position in (1..300).rev() {
            let Place::Leased(index) = window.find(position) else { panic!("{position} is leased") };
            window.settle(position, index);
        }
        window.advance(300);
        assert_eq!((window.head(300), window.leases(), window.words.len()), (0, 300, 5));
        let Place::Leased(index) = window.find(0) else { panic!("0 is leased") };
        window.settle(0, index);
        window.advance(300);
        assert_eq!((window.head(300), window.leases(), window.words.len()), (300, 0, 1));
        window.lease(300, 30, 1, Time(0));
        assert_eq!(window.find(329), Place::Leased(0));
        assert_eq!(window.head(330), 300);
    }

    #[test]
    fn what_is_left_of_a_lease_is_moved_and_still_counts_as_unsettled() {
        let mut window = Window::default();
        window.lease(60, 10, 7, Time(5));
        window.lease(70, 2, 8, Time(5));
        for position in [61, 64] {
            let Place::Leased(index) = window.find(position) else { panic!("leased") };
            window.settle(position, index);
        }
        let mut rest = Vec::new();
        window.take_member(8, &mut rest);
        assert_eq!(rest, [70, 71]);
        rest.clear();
        let lease = window.take_oldest(&mut rest).unwrap();
        assert_eq!((lease.member, rest.as_slice()), (7, &[60, 62, 63, 65, 66, 67, 68, 69][..]));
        assert_eq!(window.find(62), Place::Moved);
        assert_eq!((window.open(), window.head(72)), (10, 60));
        window.settle_moved(60);
        window.advance(72);
        assert_eq!(window.head(72), 62);
    }

    #[test]
    fn leases_end_in_order_even_when_a_clock_steps_back() {
        let mut window = Window::default();
        window.lease(0, 1, 0, Time(100));
        window.lease(1, 1, 0, Time(90));
        assert_eq!(window.at(1).deadline, Time(100));
    }
}
