//! What a journal says of a lane that is compacted: every message by itself, with a hash of its key.
//!
//! A compaction writes what it keeps of a range once more and then says so: from there on nothing else of the range counts. Copies of which
//! that was not said before a crash are none; what they were made of is still there. Leaves out which messages are kept: the model decides.

use std::collections::BTreeMap;

use super::{Journal, JournalError};
use crate::batch::LaneId;
use crate::shard::hash_range::hash_of;
use crate::time::Time;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keyed {
    /// Its key's hash; none, if it has no key.
    pub(crate) key: Option<u128>,
    /// Its bytes, key and headers included.
    pub(crate) bytes: u32,
    /// When it was written first.
    pub(crate) written: Time,
    /// It has no payload: what has its key is to go.
    pub(crate) is_tombstone: bool,
    /// A compaction has kept it.
    pub(crate) is_copy: bool,
}

/// A lane that is compacted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyedLane {
    messages: BTreeMap<u64, Keyed>,
    /// What was copied since the last compaction that counts.
    copies: Vec<(u64, Keyed)>,
}

impl super::LaneJournal {
    /// Its messages one by one, in order; nothing, where keys are not kept.
    pub(crate) fn keyed(&self) -> &BTreeMap<u64, Keyed> {
        &self.keyed.messages
    }
}

impl KeyedLane {
    pub(super) fn message(&mut self, position: u64, bytes: u32, written: Time) {
        let message = Keyed { key: None, bytes, written, is_tombstone: false, is_copy: false };
        self.messages.insert(position, message);
    }

    /// The message at `position` has this key and so many bytes of headers.
    pub(super) fn said(&mut self, position: u64, key: &[u8], headers: usize) {
        if let Some(message) = self.messages.get_mut(&position).filter(|_| !key.is_empty()) {
            message.key = Some(hash_of(key));
            message.is_tombstone = message.bytes as usize == key.len() + headers;
        }
    }
}

impl Journal {
    /// From now on every message is kept with its key's hash, for a model that compacts its lanes.
    pub fn keep_keys(&mut self) {
        self.keeps_keys = true;
    }

    /// The message at `position` of `lane`, first written at `written`, was stored once more by a compaction. It has `bytes` bytes in all;
    /// `is_empty` says that it has no payload.
    pub fn copied(&mut self, lane: LaneId, position: u64, bytes: u32, written: Time, key: &[u8], is_empty: bool) {
        if !self.may_compact(lane) {
            return;
        }
        self.latest = self.latest.max(written);
        let has_key = !key.is_empty();
        let message = Keyed {
            key: has_key.then(|| hash_of(key)),
            bytes,
            written,
            is_tombstone: has_key && is_empty,
            is_copy: true,
        };
        self.lanes.entry(lane.0).or_default().keyed.copies.push((position, message));
    }

    /// Of `from..to` of `lane` only the last `copies` messages count that were told by [`copied`](Self::copied), or as many of them as are left.
    pub fn compacted(&mut self, lane: LaneId, from: u64, to: u64, copies: u32) {
        if !self.may_compact(lane) {
            return;
        }
        let entry = self.lanes.entry(lane.0).or_default();
        entry.reach(to);
        entry.first = entry.first.min(from);
        entry.release(from, to);
        let mut told = std::mem::take(&mut entry.keyed.copies);
        let kept = told.split_off(told.len().saturating_sub(copies as usize));
        let within = kept.iter().all(|(position, _)| (from..to).contains(position));
        if !within || !kept.is_sorted_by(|a, b| a.0 < b.0) {
            self.error.get_or_insert(JournalError::Position { lane: lane.0, position: from, end: to });
            return;
        }
        let messages = &mut entry.keyed.messages;
        let mut above = messages.split_off(&from);
        let mut beyond = above.split_off(&to);
        messages.extend(kept);
        messages.append(&mut beyond);
    }

    /// Positions of a compacted `lane` below `end` were given out, whatever is left of them.
    pub fn ended(&mut self, lane: LaneId, end: u64) {
        if self.may_compact(lane) {
            let entry = self.lanes.entry(lane.0).or_default();
            entry.reach(end);
        }
    }

    fn may_compact(&mut self, lane: LaneId) -> bool {
        if !self.keeps_keys {
            self.error.get_or_insert(JournalError::Compacted(lane.0));
        }
        self.keeps_keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(journal: &Journal) -> Vec<(u64, bool)> {
        let lane = journal.lane(0).expect("the journal says something of it");
        lane.keyed().iter().map(|(&position, message)| (position, message.is_copy)).collect()
    }

    fn told() -> Journal {
        let mut journal = Journal::default();
        journal.keep_keys();
        for position in 0..6 {
            journal.message(LaneId(0), position, 10, Time(position));
            journal.said(LaneId(0), position, Time(position), &[b'k', position as u8 % 2], &[]);
        }
        journal
    }

    #[test]
    fn copies_count_once_the_compaction_is_whole() {
        let mut journal = told();
        journal.copied(LaneId(0), 0, 10, Time(0), b"k0", false);
        assert_eq!(held(&journal).len(), 6, "a crash broke it off");
        for position in [2, 3] {
            journal.copied(LaneId(0), position, 10, Time(position), b"k", false);
        }
        journal.compacted(LaneId(0), 0, 4, 2);
        assert_eq!(held(&journal), [(2, true), (3, true), (4, false), (5, false)]);
        journal.compacted(LaneId(0), 0, 4, 0);
        journal.copied(LaneId(0), 5, 2, Time(5), b"k1", true);
        journal.compacted(LaneId(0), 4, 6, 1);
        assert_eq!(held(&journal), [(5, true)]);
        let kept = journal.lane(0).and_then(|lane| lane.keyed().get(&5).copied());
        assert!(kept.is_some_and(|kept| kept.is_tombstone && kept.written == Time(5)));
        assert_eq!((journal.error.clone(), journal.lane(0).map(super::super::LaneJournal::end)), (None, Some(6)));
    }

    #[test]
    fn a_journal_may_begin_with_copies_that_are_left_of_a_compaction() {
        let mut journal = Journal::default();
        journal.keep_keys();
        journal.message(LaneId(0), 9, 10, Time(9));
        journal.copied(LaneId(0), 3, 10, Time(3), b"k", false);
        journal.compacted(LaneId(0), 0, 7, 5);
        assert_eq!(held(&journal), [(3, true), (9, false)]);
        journal.ended(LaneId(0), 20);
        assert_eq!(journal.lane(0).map(super::super::LaneJournal::end), Some(20));
    }

    #[test]
    fn a_model_that_does_not_compact_refuses_what_was_compacted() {
        let mut journal = Journal::default();
        journal.compacted(LaneId(0), 0, 7, 0);
        assert_eq!(journal.check(), Err(JournalError::Compacted(0)));
        let mut journal = told();
        journal.copied(LaneId(0), 5, 10, Time(0), b"k", false);
        journal.compacted(LaneId(0), 0, 4, 1);
        assert_eq!(journal.error, Some(JournalError::Position { lane: 0, position: 0, end: 4 }), "5 is not of it");
    }
}
