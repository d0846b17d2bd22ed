//! The table of sealed frames: which are in memory, where they stand in the segments, which are still needed.
//!
//! Also remembers the bookkeeping that must be written again when a segment that held it is used again. Leaves out writing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use brokerlab_model::{ChannelId, ChannelRecord, LaneId, Record, ReshapeRecord, Slice, Together};
use bytes::Bytes;

use super::building::Places;
use super::{PLACE_BYTES, format};

/// A sealed frame in memory.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Its bytes.
    pub(super) bytes: Bytes,
    /// Where its messages stand, lane by lane, once somebody has asked.
    table: Option<Arc<[Slice]>>,
    /// Records of which its messages are a part.
    records: u32,
    messages: u32,
}

impl Held {
    /// With its table, whether or not somebody has asked for it yet.
    fn len(&self) -> u64 {
        self.bytes.len() as u64 + u64::from(self.messages) * PLACE_BYTES
    }

    /// Its bytes and its table.
    pub(super) fn read(&mut self, places: &mut Places) -> Read {
        let Self { bytes, table, records, .. } = self;
        let make = || places.of_frame(bytes, *records).expect("a frame in memory is as it was built");
        Read { bytes: bytes.clone(), table: Arc::clone(table.get_or_insert_with(make)) }
    }

    /// Its buffer, if nobody else points into it.
    fn into_buffer(self) -> Option<Vec<u8>> {
        let mut bytes = self.bytes.try_into_mut().ok()?;
        bytes.clear();
        Some(Vec::from(bytes))
    }
}

/// A frame that is read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    /// Its bytes.
    pub(super) bytes: Bytes,
    /// Where its messages stand, lane by lane.
    pub(super) table: Arc<[Slice]>,
}

/// A sealed frame.
#[derive(Debug)]
pub(super) struct Slot {
    /// Itself, while it is in memory.
    pub(super) held: Option<Box<Held>>,
    /// Its segment.
    pub(super) segment: u64,
    /// Where in the segment it begins.
    pub(super) at: u64,
    /// Its length in bytes.
    pub(super) len: u32,
    /// Messages in it that are still needed.
    pub(super) live: u32,
}

/// Bytes of the table for each frame.
pub(super) const SLOT_BYTES: u64 = (size_of::<Slot>() + size_of::<Held>()) as u64;

/// Frames from the oldest that is needed to the newest, numbered through the run.
#[derive(Debug, Default)]
pub(super) struct Frames {
    first: u64,
    slots: VecDeque<Slot>,
    /// Bytes of frames in memory and of their tables.
    resident: u64,
    /// Bytes of frames in segments that are in use.
    data: u64,
    /// The next frame to be looked at when memory runs short.
    evict_at: u64,
    /// The oldest segment in use.
    oldest_segment: u64,
    retired: Vec<u64>,
    channels: BTreeMap<ChannelId, ChannelRecord>,
    /// Splits and merges of those channels' lanes, by the first new lane.
    reshapes: BTreeMap<LaneId, ReshapeRecord>,
    /// How many channels and lanes were made.
    given_out: (u32, u32),
    committed: BTreeMap<(LaneId, u32), u64>,
    together: Together,
}

impl Frames {
    /// The number of the next frame.
    pub(super) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Appends a frame of so many records and messages, of which all are needed.
    pub(super) fn push(&mut self, bytes: Bytes, (records, messages): (u32, u32), segment: u64, at: u64) {
        let len = bytes.len() as u32;
        self.data += u64::from(len);
        let held = (messages > 0).then(|| Box::new(Held { bytes, table: None, records, messages }));
        self.resident += held.as_ref().map_or(0, |held| held.len());
        self.slots.push_back(Slot { held, segment, at, len, live: messages });
    }

    /// The first frame of an empty table is number `first`, and its segment is the oldest one.
    pub(super) fn begin(&mut self, first: u64, segment: u64) {
        debug_assert!(self.slots.is_empty(), "frames are numbered from the first one on");
        (self.first, self.oldest_segment) = (first, segment);
    }

    /// Appends a frame that is in its segment and not in memory.
    pub(super) fn push_stored(&mut self, segment: u64, at: u64, len: u32, live: u32) {
        self.data += u64::from(len);
        self.slots.push_back(Slot { held: None, segment, at, len, live });
    }

    /// A frame that is still needed.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Bytes in memory, the table included.
    pub(super) fn held_bytes(&self) -> u64 {
        self.resident + self.slots.len() as u64 * SLOT_BYTES
    }

    /// Bytes in segments, from the oldest frame that is needed to the newest.
    pub(super) fn data_bytes(&self) -> u64 {
        self.data
    }

    /// `messages` messages of a frame are no longer needed; the last one lets go of it, and its buffer can be used again.
    pub(super) fn release(&mut self, number: u64, messages: u32) -> Option<Vec<u8>> {
        let at = (number - self.first) as usize;
        let slot = &mut self.slots[at];
        slot.live -= messages;
        let held = if slot.live == 0 { slot.held.take()? } else { return None };
        self.resident -= held.len();
        held.into_buffer()
    }

    /// Drops frames that nobody needs from the front, as far as they are stored, and retires the segments before the first one
    /// that stays.
    pub(super) fn drop_dead(&mut self, stored: u64) {
        while self.first < stored && self.slots.front().is_some_and(|slot| slot.live == 0) {
            let Some(slot) = self.slots.pop_front() else { return };
            self.first += 1;
            self.data -= u64::from(slot.len);
            // The segment of the last frame ever dropped stays: the next frame may go there too.
            let needed = self.slots.front().map_or(slot.segment, |next| next.segment);
            self.retired.extend(self.oldest_segment..needed);
            self.oldest_segment = self.oldest_segment.max(needed);
        }
    }

    /// Lets the oldest frame in memory that is stored go, and gives back its buffer, empty where others use it still; none when there
    /// is no such frame.
    pub(super) fn evict_oldest(&mut self, stored: u64) -> Option<Vec<u8>> {
        self.evict_at = self.evict_at.max(self.first);
        while self.evict_at < stored {
            let slot = &mut self.slots[(self.evict_at - self.first) as usize];
            self.evict_at += 1;
            if let Some(held) = slot.held.take() {
                self.resident -= held.len();
                return Some(held.into_buffer().unwrap_or_default());
            }
        }
        None
    }

    /// The oldest segment in use.
    pub(super) fn oldest_segment(&self) -> u64 {
        self.oldest_segment
    }

    /// Segments that nobody needs any longer, once each.
    pub(super) fn take_retired(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.retired)
    }

    /// Keeps bookkeeping that has to outlive its segment. What is settled need not: it is of use only beside its message.
    pub(super) fn remember(&mut self, record: &Record) {
        match record {
            Record::Channel(made) => {
                self.give_out(made.channel.0.saturating_add(1), made.first.0.saturating_add(made.lanes));
                self.channels.insert(made.channel, (**made).clone());
            }
            Record::ChannelGone(channel) => {
                if let Some(ChannelRecord { first, lanes, .. }) = self.channels.remove(channel) {
                    self.forget_committed(first.0..first.0 + lanes);
                }
                let gone: Vec<_> = self.reshapes.values().filter(|made| made.channel == *channel).copied().collect();
                for made in gone {
                    self.reshapes.remove(&made.first);
                    self.forget_committed(made.children());
                }
            }
            Record::Reshaped(made) => {
                self.give_out(made.channel.0.saturating_add(1), made.children().end);
                self.reshapes.insert(made.first, **made);
            }
            Record::Committed { lane, group, position } => {
                let known = self.committed.entry((*lane, *group)).or_default();
                *known = (*position).max(*known);
            }
            Record::Together { .. } | Record::Released { .. } | Record::Moved { .. } => {
                for part in self.together.add(record) {
                    if let Record::Moved { lane, group, position } = part {
                        let known = self.committed.entry((lane, group)).or_default();
                        *known = position.max(*known);
                    }
                }
            }
            Record::Settled { .. } => {}
        }
    }

    fn forget_committed(&mut self, lanes: std::ops::Range<u32>) {
        self.committed.retain(|(lane, _), _| !lanes.contains(&lane.0));
    }

    /// So many channels and lanes were made, whatever became of them: their numbers are never used again.
    pub(super) fn give_out(&mut self, channels: u32, lanes: u32) {
        self.given_out = (self.given_out.0.max(channels), self.given_out.1.max(lanes));
    }

    /// Writes what was remembered; returns how many records.
    pub(super) fn write_remembered(&self, frame: &mut Vec<u8>) -> u32 {
        for made in self.channels.values() {
            format::put_record(frame, &Record::Channel(Box::new(made.clone())));
        }
        for &made in self.reshapes.values() {
            format::put_record(frame, &Record::Reshaped(Box::new(made)));
        }
        let (channels, lanes) = self.given_out;
        let some_gone = self.channels.len() < channels as usize;
        if some_gone {
            format::put_given_out(frame, channels, lanes);
        }
        for (&(lane, group), &position) in &self.committed {
            format::put_record(frame, &Record::Committed { lane, group, position });
        }
        (self.channels.len() + self.reshapes.len() + self.committed.len()) as u32 + u32::from(some_gone)
    }
}
