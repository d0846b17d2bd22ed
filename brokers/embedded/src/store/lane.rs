//! A lane's index: where each message that is still needed stands, 24 bytes a message.

use std::collections::VecDeque;

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the frame that holds it.
    pub(super) frame: u64,
    /// Where in the frame its key begins.
    pub(super) at: u32,
    /// The payload's length in bytes.
    pub(super) payload_len: u32,
    /// The key's length in bytes.
    pub(super) key_len: u16,
    /// The headers' length in bytes.
    pub(super) header_len: u16,
    /// Whether the payload's bytes are stored too.
    pub(super) has_payload: bool,
}

const _: () = assert!(size_of::<Place>() <= 24, "the index is bounded at 24 bytes a message");

/// Entries for which a lane keeps its memory whatever happens: 1.5 KiB.
const PLACES_KEPT: usize = 64;

/// A lane's messages from the oldest that is needed to the newest.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The position of the first entry.
    first: u64,
    places: VecDeque<Place>,
}

impl Lane {
    /// The next position to be written.
    pub(super) fn end(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// The first position that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Whether no message is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The next position to be written is `end`; positions below were given out and nothing of them is kept.
    pub(super) fn skip_to(&mut self, end: u64) {
        debug_assert!(self.places.is_empty() && end >= self.first, "only an empty lane skips, and only forward");
        self.first = end;
    }

    /// Appends the message at `end`.
    pub(super) fn push(&mut self, place: Place) {
        self.places.push_back(place);
    }

    /// Where the message at `position` stands, if it is kept.
    pub(super) fn get(&self, position: u64) -> Option<&Place> {
        self.places.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    /// Forgets everything below `below` and hands each forgotten message's frame to `each`.
    pub(super) fn trim(&mut self, below: u64, mut each: impl FnMut(u64)) -> u64 {
        let gone = below.saturating_sub(self.first).min(self.places.len() as u64);
        for place in self.places.drain(..gone as usize) {
            each(place.frame);
        }
        self.first += gone;
        self.give_back();
        gone
    }

    /// Gives memory back once an eighth of it is enough, so that what a burst took is not kept, and what goes up and down costs little.
    fn give_back(&mut self) {
        let (len, capacity) = (self.places.len(), self.places.capacity());
        if capacity > PLACES_KEPT && len < capacity / 8 {
            self.places.shrink_to((2 * len).max(PLACES_KEPT));
        }
    }
}
