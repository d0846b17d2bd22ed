//! The deduplication window: ids of messages that came not long ago, so that repeats are known (SQS: `MessageDeduplicationId`).
//!
//! A channel's ids are its own. A repeat is acknowledged with the place of the first, once that is stored, and not stored itself. So that
//! a restart knows the ids, a lane's messages stay in the journal while their ids are in the window, whoever has settled them;
//! storage in memory, which no restart reads, is given back at once. Leaves out ids made from bodies, which a model does not see.

use std::collections::{BTreeMap, VecDeque};

use crate::time::{Span, Time};

/// Ids that a queue remembers at most, of all its channels; a publish with one more is throttled.
pub(super) const IDS_MAX: usize = 1 << 20;

/// Ids, and lane and position of the first message with each.
type Ids = BTreeMap<Box<[u8]>, (u32, u64)>;

/// An id in the window.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recent {
    until: Time,
    channel: u32,
    lane: u32,
    position: u64,
    id: Box<[u8]>,
}

/// The ids of all channels.
#[derive(Clone, Debug, Default)]
pub(super) struct Repeats {
    /// By channel and id: where the message is.
    known: BTreeMap<u32, Ids>,
    /// In the order in which they are forgotten.
    recent: VecDeque<Recent>,
    /// By lane, the positions of those, in order.
    lanes: BTreeMap<u32, VecDeque<u64>>,
}

impl Repeats {
    /// Where the message with this id is, if one came not long ago.
    pub(super) fn find(&self, channel: u32, id: &[u8]) -> Option<(u32, u64)> {
        self.known.get(&channel)?.get(id).copied()
    }

    /// Whether no further id can be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.recent.len() >= IDS_MAX
    }

    /// A message came with a new id. Times don't go back.
    pub(super) fn note(&mut self, until: Time, channel: u32, lane: u32, position: u64, id: &[u8]) {
        let until = self.recent.back().map_or(until, |last| until.max(last.until));
        self.known.entry(channel).or_default().insert(id.into(), (lane, position));
        self.recent.push_back(Recent { until, channel, lane, position, id: id.into() });
        self.lanes.entry(lane).or_default().push_back(position);
    }

    /// A message was not stored: the next one with its id is the first.
    pub(super) fn lost(&mut self, lane: u32, position: u64) {
        let at = |recent: &&Recent| recent.lane == lane && recent.position == position;
        if let Some(recent) = self.recent.iter().rev().find(at)
            && let Some(known) = self.known.get_mut(&recent.channel)
        {
            known.remove(&recent.id);
        }
    }

    /// The oldest position of a lane whose id is in the window.
    pub(super) fn oldest(&self, lane: u32) -> Option<u64> {
        self.lanes.get(&lane)?.front().copied()
    }

    /// When the next id is forgotten.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.recent.front().map(|recent| recent.until)
    }

    /// Forgets one id whose time is over by `now`, and returns its lane.
    pub(super) fn forget(&mut self, now: Time) -> Option<u32> {
        self.recent.front().filter(|recent| recent.until <= now)?;
        let Recent { channel, lane, position, id, .. } = self.recent.pop_front()?;
        if let Some(known) = self.known.get_mut(&channel) {
            if known.get(&id) == Some(&(lane, position)) {
                known.remove(&id);
            }
            if known.is_empty() {
                self.known.remove(&channel);
            }
        }
        if let Some(positions) = self.lanes.get_mut(&lane) {
            positions.pop_front();
            if positions.is_empty() {
                self.lanes.remove(&lane);
            }
        }
        Some(lane)
    }

    /// The ids that came at `came` and later, as a journal has them, in any order.
    pub(super) fn restore(&mut self, now: Time, window: Span, mut ids: Vec<(Time, u32, u32, u64, &[u8])>) {
        ids.sort_unstable();
        for (came, channel, lane, position, id) in ids {
            if came + window > now {
                self.note(came + window, channel, lane, position, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_for_its_time_and_forgotten_without_a_trace() {
        let mut repeats = Repeats::default();
        repeats.note(Time(10), 0, 0, 5, b"a");
        repeats.note(Time(20), 1, 3, 0, b"a");
        repeats.note(Time(15), 0, 0, 6, b"b");
        assert_eq!((repeats.find(0, b"a"), repeats.find(1, b"a")), (Some((0, 5)), Some((3, 0))));
        assert_eq!((repeats.oldest(0), repeats.oldest(3), repeats.oldest(1)), (Some(5), Some(0), None));
        repeats.lost(0, 6);
        assert_eq!(repeats.find(0, b"b"), None);
        repeats.note(Time(30), 0, 0, 7, b"b");
        assert_eq!(
            (repeats.forget(Time(9)), repeats.forget(Time(10)), repeats.forget(Time(10))),
            (None, Some(0), None)
        );
        assert_eq!((repeats.find(0, b"a"), repeats.oldest(0)), (None, Some(6)));
        assert_eq!((repeats.forget(Time(20)), repeats.forget(Time(20))), (Some(3), Some(0)), "a clock went back");
        assert_eq!(repeats.find(0, b"b"), Some((0, 7)), "the first was lost, and this is another");
        assert_eq!(repeats.forget(Time(30)), Some(0));
        assert!(repeats.known.is_empty() && repeats.lanes.is_empty() && repeats.next_deadline().is_none());
    }
}
