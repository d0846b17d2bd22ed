//! The frame being built: its bytes, and whose its messages are; and the table of where a frame's messages stand, lane by lane.
//!
//! The table is 16 bytes a message. It is made from the frame when somebody reads there first, shared by all who do, and kept for as long as
//! the frame is in memory. Leaves out what a frame's header says.

use std::collections::BTreeMap;
use std::sync::Arc;

use brokerlab_model::{LaneId, Slice, Time};
use bytes::Bytes;

use super::format::{self, FRAME_ALIGN, FRAME_HEADER};

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Whose a frame's messages are: each lane that has some, in the order of their first ones, and how many.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<(LaneId, u32)>,
    messages: u32,
}

impl Groups {
    /// How many messages there are.
    pub(super) fn messages(&self) -> u32 {
        self.messages
    }

    /// A group for a lane that has none yet.
    pub(super) fn begin(&mut self, lane: LaneId) -> u32 {
        self.groups.push((lane, 0));
        self.groups.len() as u32 - 1
    }

    /// The next messages are all of the group.
    pub(super) fn add(&mut self, group: u32, count: u32) {
        self.groups[group as usize].1 += count;
        self.messages += count;
    }

    /// Each lane, and with which place of the frame's table its messages begin.
    pub(super) fn starts(&self) -> impl Iterator<Item = (LaneId, u32)> + '_ {
        self.groups.iter().scan(0, |next, &(lane, count)| {
            let start = *next;
            *next += count;
            Some((lane, start))
        })
    }

    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.groups.clear();
        self.messages = 0;
    }
}

/// Makes the tables of frames: where each message stands, lane by lane.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// In the order in which they were appended.
    slices: Vec<Slice>,
    /// The group of each; empty while there is one group only.
    group_of: Vec<u32>,
    groups: Groups,
}

impl Places {
    fn begin(&mut self, lane: LaneId) -> u32 {
        if self.groups.groups.len() == 1 {
            self.group_of.resize(self.slices.len(), 0);
        }
        self.groups.begin(lane)
    }

    fn push(&mut self, group: u32, slices: impl ExactSizeIterator<Item = Slice>) {
        self.groups.add(group, slices.len() as u32);
        self.slices.extend(slices);
        if self.groups.groups.len() > 1 {
            self.group_of.resize(self.slices.len(), group);
        }
    }

    fn table(&self) -> Arc<[Slice]> {
        if self.groups.groups.len() < 2 {
            return Arc::from(&self.slices[..]);
        }
        let mut next: Vec<u32> = self.groups.starts().map(|(_, start)| start).collect();
        let mut table = self.slices.clone();
        for (&slice, &group) in self.slices.iter().zip(&self.group_of) {
            let place = &mut next[group as usize];
            table[*place as usize] = slice;
            *place += 1;
        }
        Arc::from(table)
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.group_of.clear();
        self.groups.clear();
    }

    /// The table of a frame of so many records; nothing when its bytes are none.
    pub(super) fn of_frame(&mut self, frame: &[u8], records: u32) -> Option<Arc<[Slice]>> {
        self.clear();
        // Of all lanes but the first: most frames have no other.
        let mut others: BTreeMap<LaneId, u32> = BTreeMap::new();
        let mut last = None;
        let mut at = FRAME_HEADER;
        for _ in 0..records {
            let mut group = |places: &mut Self, lane| match last {
                Some((known, group)) if known == lane => group,
                Some(_) | None => {
                    let group = match places.groups.groups.first() {
                        None => places.begin(lane),
                        Some((first, _)) if *first == lane => 0,
                        Some(_) => *others.entry(lane).or_insert_with(|| places.begin(lane)),
                    };
                    last = Some((lane, group));
                    group
                }
            };
            if let Some((lane, slice, next)) = format::place_at(frame, at) {
                let group = group(self, lane);
                self.push(group, std::iter::once(slice));
                at = next;
            } else if let Some(run) = format::Run::read(frame, at) {
                let group = group(self, run.lane);
                self.push(group, run.slices());
                at = run.bodies.1;
            } else {
                at = format::read_entry(frame, at)?.1;
            }
        }
        Some(self.table())
    }
}

/// A frame's bytes in a buffer, which has a few bytes before it so that the frame stands as far off a cache line as it will in its
/// segment: a copy into the page cache from elsewhere runs at 3 GB/s instead of 12.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    lead: usize,
}

/// How far into a buffer a frame begins that stands at `at` of its segment.
pub(super) fn lead(buffer: &[u8], at: u64) -> usize {
    (buffer.as_ptr().align_offset(LINE) + at as usize % LINE) % LINE
}

impl Buffer {
    /// The smallest frame worth a place.
    const ALIGNED_FROM: usize = 4 << 10;

    /// A frame of nothing but room for its header, which will stand at `at` of its segment. It keeps its place as long as it fits into
    /// what `bytes` has reserved.
    pub(super) fn begin(mut bytes: Vec<u8>, at: Option<u64>) -> Self {
        bytes.clear();
        let lead = at.map_or(0, |at| lead(&bytes, at));
        bytes.resize(lead + FRAME_HEADER, 0);
        Self { bytes, lead }
    }

    /// A full-size one.
    pub(super) fn with_capacity(frame: usize) -> Vec<u8> {
        Vec::with_capacity(frame + LINE + FRAME_ALIGN)
    }

    /// Bytes of the frame so far; 0 when none was begun.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.lead
    }

    /// Whether it takes three quarters of what is reserved.
    pub(super) fn is_filled(&self) -> bool {
        self.len() * 4 >= self.bytes.capacity() * 3
    }

    /// Gives memory back that it does not fill, wherever it stands afterwards.
    pub(super) fn give_back(&mut self) {
        if !self.is_filled() {
            self.bytes.shrink_to_fit();
        }
    }

    /// A copy that is as large as it has to be, to stand at `at` of its segment; this one is empty afterwards.
    pub(super) fn move_out(&mut self, at: u64) -> Self {
        let len = self.len();
        let mut own = Self::begin(Self::with_capacity(len), (len >= Self::ALIGNED_FROM).then_some(at));
        own.bytes.extend_from_slice(&self.bytes[self.lead + FRAME_HEADER..]);
        self.bytes.clear();
        self.lead = 0;
        own
    }

    /// Pads the frame and hands it out to be sealed.
    pub(super) fn pad(&mut self) -> &mut [u8] {
        let len = self.lead + format::padded(self.len());
        self.bytes.resize(len, 0);
        &mut self.bytes[self.lead..]
    }

    /// The frame.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from(self.bytes).slice(self.lead..)
    }
}

/// A frame without its header's contents.
#[derive(Debug, Default)]
pub(super) struct Building {
    /// Its bytes. Empty when no frame was begun.
    pub(super) buffer: Buffer,
    pub(super) records: u32,
    pub(super) groups: Groups,
    /// When the first of its messages was taken, or of its records while it has none.
    pub(super) begun: Time,
}

impl Building {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the frame.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_stands_off_a_line_as_its_place_in_the_segment_whichever_buffer_it_has() {
        for (capacity, at) in [(100, 8_u64), (5_000, 64), (5_000, 72), (300_000, 1_048_632)] {
            let mut buffer = Buffer::begin(Buffer::with_capacity(capacity), Some(at));
            let body: Vec<u8> = (0..capacity - FRAME_HEADER).map(|n| n as u8).collect();
            buffer.bytes.extend_from_slice(&body);
            assert_eq!(buffer.len(), capacity);
            let mut own = buffer.move_out(at);
            assert_eq!((buffer.len(), own.len()), (0, capacity));
            let padded = own.pad().len();
            let frame = own.freeze();
            assert_eq!((frame.len(), &frame[FRAME_HEADER..capacity]), (padded, &body[..]));
            let off = frame.as_ptr().addr() % LINE;
            assert!(padded == capacity.next_multiple_of(8) && (capacity < 4_096 || off == at as usize % LINE));
        }
    }

    #[test]
    fn a_table_holds_each_lanes_messages_together_and_in_order() {
        let at = |at| std::iter::once(Slice { at, key_len: 1, header_len: 2, payload_len: 3, has_payload: true });
        let ats = |places: &Places| places.table().iter().map(|slice| slice.at).collect::<Vec<_>>();
        let mut places = Places::default();
        let first = places.begin(LaneId(7));
        places.push(first, at(64));
        places.push(first, at(100));
        assert_eq!(ats(&places), [64, 100]);
        let second = places.begin(LaneId(3));
        places.push(second, at(200));
        places.push(first, at(300));
        places.push(second, at(400));
        assert_eq!(ats(&places), [64, 100, 300, 200, 400]);
        assert_eq!(places.groups.starts().collect::<Vec<_>>(), [(LaneId(7), 0), (LaneId(3), 3)]);
        places.clear();
        assert_eq!((places.groups.messages(), places.table().len()), (0, 0));
    }
}
