//! The journal's layout on disk: segment headers, frames with CRC-32C, and the records inside them. Little-endian throughout.
//!
//! Leaves out files and memory: this module only turns values into bytes and back.
//!
//! A segment is a header of 64 bytes and frames back to back. A frame is a header of 40 bytes and records, padded to 8 bytes; its mark and
//! checksum are mixed with where it stands and with the segment's salt, so that what a producer publishes is never taken for one. A
//! record is 24 bytes, followed for a message by its key, headers and payload, and for a channel by its name and its groups' names.
//! Successive messages of a lane are one record: 8 bytes of lengths for each, then the bytes of all of them as they stood in the batch.

use std::ops::Range;

use brokerlab_model::binding::BINDINGS_MAX;
use brokerlab_model::{
    Binding, ChannelId, ChannelRecord, Columns, GROUPS_MAX, Journal, LaneId, NAME_BYTES_MAX, Pattern, Record, Reshape,
    ReshapeRecord, Slice, Time,
};

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 64;
/// Bytes of a frame's header.
pub(super) const FRAME_HEADER: usize = 40;
/// Frames begin and end at multiples of this.
pub(super) const FRAME_ALIGN: usize = 8;
/// Bytes of a record before a message's own bytes.
pub(super) const RECORD: usize = 24;
/// The layout's version. A folder of another version is refused.
pub(super) const VERSION: u32 = 5;

const MAGIC: [u8; 8] = *b"BROKLAB\n";
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"blf2");

const MESSAGE: u16 = 1;
const MESSAGE_LENGTH: u16 = 2;
const CHANNEL: u16 = 3;
const CHANNEL_GONE: u16 = 4;
const COMMITTED: u16 = 5;
const SETTLED: u16 = 6;
const TRIMMED: u16 = 7;
const GIVEN_OUT: u16 = 8;
/// A channel with bindings, or with another channel's dead letters.
const ARRANGED_CHANNEL: u16 = 16;
/// No channel.
const NO_CHANNEL: u32 = u32::MAX;
const SPLIT: u16 = 9;
const MERGED: u16 = 10;
const TOGETHER: u16 = 24;
const RELEASED: u16 = 25;
const MOVED: u16 = 26;
/// A message that a compaction has copied: the time when it was written, and the message's own record behind.
const COPIED: u16 = 40;
const COMPACTED: u16 = 41;
const ENDED: u16 = 42;
const RETIRED: u16 = 43;
/// Successive messages of a lane.
const RUN: u16 = 48;
/// The same, of which only the payloads' lengths are stored.
const RUN_OF_LENGTHS: u16 = 49;
/// What stands beside the lengths of a message of a transaction.
const PROVISIONAL: u16 = 1;
/// What stands there of a message that was copied.
const COPY: u16 = 2;

/// Bytes of each message of a run before the bytes of all of them.
pub(super) const LENGTHS: usize = 8;
/// Bytes of a copied message's records before its own bytes.
pub(super) const COPY_RECORD: usize = 2 * RECORD;
/// Bytes of what ends a compaction: the range's beginning stands after its record.
pub(super) const COMPACTED_RECORD: usize = RECORD + 8;

/// Bytes of a split's point after its record.
const SPLIT_AT: usize = 16;

/// CRC-32C (Castagnoli), as Kafka's record batches and ext4 use it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// What a segment's first 64 bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentHead {
    /// A segment of this version.
    Segment {
        /// Its number.
        number: u64,
        /// What its frames are mixed with.
        salt: u64,
    },
    /// A segment of another version.
    OtherVersion(u32),
    /// Nothing that this crate has written: only zeros.
    Unwritten,
    /// Neither.
    Damaged,
}

/// A segment's header.
pub(super) fn segment_header(segment: u64, salt: u64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&segment.to_le_bytes());
    header[24..32].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Reads a segment's header.
pub(super) fn read_segment_header(bytes: &[u8; SEGMENT_HEADER]) -> SegmentHead {
    if bytes.iter().all(|&byte| byte == 0) {
        return SegmentHead::Unwritten;
    }
    if bytes[..8] != MAGIC {
        return SegmentHead::Damaged;
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return SegmentHead::OtherVersion(version);
    }
    if crc32c(&bytes[..60]) == u32_at(bytes, 60) {
        SegmentHead::Segment { number: u64_at(bytes, 16), salt: u64_at(bytes, 24) }
    } else {
        SegmentHead::Damaged
    }
}

/// Where a frame stands. The same bytes at another place are no frame, be they in a message's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    /// Where in the segment it begins.
    pub(super) at: u64,
    /// The segment's salt, which nobody knows who publishes.
    pub(super) salt: u64,
}

impl Place {
    /// What the frame's mark and its checksum are mixed with: others at any two places of a segment. A checksum is linear, so that this is
    /// as good as one that begins with another value.
    fn keys(self) -> (u32, u32) {
        let key = self.salt ^ self.at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (key as u32, (key >> 32) as u32)
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Bytes of the frame, header and padding included; a multiple of 8.
    pub(super) len: u32,
    /// The segment that it was written to. A frame of an earlier life of a recycled file names another one.
    pub(super) segment: u64,
    /// The frame's place in the journal, counted from 0.
    pub(super) number: u64,
    /// How many frames were stored as the contract says when this one was sealed: damage below that is loss of promised data.
    pub(super) stored: u64,
    /// The engine's time when the first of its messages was taken; the others were taken until it was sealed.
    pub(super) written: Time,
    /// How many records it holds.
    pub(super) records: u32,
}

/// Bytes of a frame whose records end after `len`.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(FRAME_ALIGN)
}

/// Fills in the header of a padded frame whose first 40 bytes were left free: length, checksum of all that follows it, the low half of
/// the segment's number, how far the stored frames are behind, number, time, records, mark.
pub(super) fn seal_frame(frame: &mut [u8], place: Place, number: u64, stored: u64, written: Time, records: u32) {
    debug_assert!(frame.len() == padded(frame.len()), "a frame is padded before it is sealed");
    let len = u32::try_from(frame.len()).expect("a frame is cut long before 4 GiB");
    // Further behind than this it says nothing of what is stored.
    let behind = u32::try_from(number - stored).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[8..12].copy_from_slice(&(place.segment as u32).to_le_bytes());
    frame[12..16].copy_from_slice(&behind.to_le_bytes());
    frame[16..24].copy_from_slice(&number.to_le_bytes());
    frame[24..32].copy_from_slice(&written.0.to_le_bytes());
    frame[32..36].copy_from_slice(&records.to_le_bytes());
    let (mark, mix) = place.keys();
    frame[36..40].copy_from_slice(&(FRAME_MAGIC ^ mark).to_le_bytes());
    let crc = crc32c(&frame[8..]) ^ mix;
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Whether a frame of `segment` was begun at the front of `bytes`, whole or not.
pub(super) fn frame_begins(bytes: &[u8], segment: u64) -> bool {
    bytes.get(..12).is_some_and(|head| head[..8] != [0; 8] && u32_at(head, 8) == segment as u32)
}

/// The frame at the front of `bytes`, when it is whole, undamaged and was written to `place`.
pub(super) fn read_frame(bytes: &[u8], place: Place) -> Option<FrameHead> {
    let Place { segment, .. } = place;
    let (mark, mix) = place.keys();
    if bytes.len() < FRAME_HEADER || u32_at(bytes, 36) != FRAME_MAGIC ^ mark || u32_at(bytes, 8) != segment as u32 {
        return None;
    }
    let len = u32_at(bytes, 0);
    let body = bytes.get(8..len as usize)?;
    let whole =
        len as usize >= FRAME_HEADER && len as usize == padded(len as usize) && crc32c(body) ^ mix == u32_at(bytes, 4);
    let number = u64_at(bytes, 16);
    let behind = u32_at(bytes, 12);
    whole.then(|| FrameHead {
        len,
        segment,
        number,
        stored: if behind == u32::MAX { 0 } else { number.saturating_sub(u64::from(behind)) },
        written: Time(u64_at(bytes, 24)),
        records: u32_at(bytes, 32),
    })
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A message.
    Message {
        /// Its lane.
        lane: LaneId,
        /// Its position in the lane.
        position: u64,
        /// Its key.
        key: &'a [u8],
        /// Its headers.
        headers: &'a [u8],
        /// Its payload's length.
        payload_len: u32,
        /// Its payload, unless only the length was stored.
        payload: Option<&'a [u8]>,
        /// When it was written.
        written: Time,
        /// It belongs to a transaction, and counts once that has ended.
        provisional: bool,
        /// A compaction has copied it. It counts once that is whole.
        copied: bool,
    },
    /// Of `from..to` of `lane` only the last `copies` messages count that were copied.
    Compacted {
        /// The lane.
        lane: LaneId,
        /// The first position of the range.
        from: u64,
        /// The first position behind it.
        to: u64,
        /// How many were copied.
        copies: u32,
    },
    /// Positions of `lane` below `end` were given out; written for lanes that are compacted.
    Ended {
        /// The lane.
        lane: LaneId,
        /// The next position.
        end: u64,
    },
    /// Bookkeeping of the model's.
    Record(Record),
    /// Nothing of `lane` below `below` was needed any longer; written when a segment begins.
    Trimmed {
        /// The lane.
        lane: LaneId,
        /// The first position that was still needed.
        below: u64,
    },
    /// Segments below `below` are needed no longer; written before they go.
    Retired {
        /// The first segment that is still needed.
        below: u64,
    },
    /// So many channels and lanes were made, whatever became of them; written when a segment begins and some are gone.
    GivenOut {
        /// Channels.
        channels: u32,
        /// Lanes of all of them.
        lanes: u32,
    },
}

impl Entry<'_> {
    /// Tells a journal what the entry says.
    pub fn tell(&self, journal: &mut Journal) {
        match self {
            Self::Message { lane, position, key, headers, payload_len, written, copied: true, .. } => {
                let bytes = payload_len.saturating_add((key.len() + headers.len()) as u32);
                journal.copied(*lane, *position, bytes, *written, key, *payload_len == 0);
            }
            Self::Compacted { lane, from, to, copies } => journal.compacted(*lane, *from, *to, *copies),
            Self::Ended { lane, end } => journal.ended(*lane, *end),
            Self::Message { lane, position, key, headers, payload_len, written, provisional, .. } => {
                let bytes = (key.len() + headers.len()) as u32;
                journal.message(*lane, *position, payload_len.saturating_add(bytes), *written);
                if *provisional {
                    journal.provisional(*lane, *position);
                }
                journal.said(*lane, *position, *written, key, headers);
            }
            Self::Record(record) => journal.record(record),
            Self::Trimmed { lane, below } => journal.trimmed(*lane, *below),
            Self::GivenOut { channels, lanes } => journal.given_out(*channels, *lanes),
            // What is left of them is of use for as long as it is there.
            Self::Retired { .. } => {}
        }
    }
}

/// What a message's record says beside its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The key's length in bytes.
    pub(super) key_len: u16,
    /// The headers' length in bytes.
    pub(super) header_len: u16,
    /// The payload's length in bytes.
    pub(super) payload_len: u32,
    /// Whether the payload's bytes are stored too.
    pub(super) has_payload: bool,
}

/// Appends a message's record and its bytes, which are key, headers and payload in any number of parts; returns where its key begins.
#[inline]
pub(super) fn put_message(frame: &mut Vec<u8>, lane: LaneId, position: u64, head: Head, body: &[&[u8]]) -> usize {
    let mut record = [0; RECORD];
    record[..2].copy_from_slice(&if head.has_payload { MESSAGE } else { MESSAGE_LENGTH }.to_le_bytes());
    record[2..4].copy_from_slice(&head.key_len.to_le_bytes());
    record[4..6].copy_from_slice(&head.header_len.to_le_bytes());
    record[8..12].copy_from_slice(&head.payload_len.to_le_bytes());
    record[12..16].copy_from_slice(&lane.0.to_le_bytes());
    record[16..].copy_from_slice(&position.to_le_bytes());
    frame.reserve(RECORD + body.iter().map(|part| part.len()).sum::<usize>());
    frame.extend_from_slice(&record);
    let at = frame.len();
    for part in body.iter().filter(|part| !part.is_empty()) {
        frame.extend_from_slice(part);
    }
    at
}

/// Appends successive messages of a lane, the first of which is number `position`; returns where its key begins.
pub(super) fn put_run(frame: &mut Vec<u8>, lane: LaneId, position: u64, messages: &Columns<'_>) -> usize {
    let mut record = [0; RECORD];
    record[..2].copy_from_slice(&if messages.has_payloads() { RUN } else { RUN_OF_LENGTHS }.to_le_bytes());
    record[4..8].copy_from_slice(&(messages.bytes().len() as u32).to_le_bytes());
    record[8..12].copy_from_slice(&(messages.len() as u32).to_le_bytes());
    record[12..16].copy_from_slice(&lane.0.to_le_bytes());
    record[16..].copy_from_slice(&position.to_le_bytes());
    frame.extend_from_slice(&record);
    let lens_at = frame.len();
    frame.resize(lens_at + messages.len() * LENGTHS, 0);
    for (lens, slice) in frame[lens_at..].as_chunks_mut::<LENGTHS>().0.iter_mut().zip(messages.slices(0)) {
        let Slice { key_len, header_len, payload_len, .. } = slice;
        *lens = (u64::from(key_len) | u64::from(header_len) << 16 | u64::from(payload_len) << 32).to_le_bytes();
    }
    let at = frame.len();
    frame.extend_from_slice(messages.bytes());
    at
}

/// Marks the message whose key begins at `at` as one of a transaction.
pub(super) fn mark_provisional(frame: &mut [u8], at: usize) {
    frame[at - RECORD + 6..at - RECORD + 8].copy_from_slice(&PROVISIONAL.to_le_bytes());
}

/// Appends a message that was written at `written`, as the copy that a compaction makes; returns where its key begins.
pub(super) fn put_copy(
    frame: &mut Vec<u8>,
    written: Time,
    lane: LaneId,
    position: u64,
    head: Head,
    body: &[u8],
) -> usize {
    put_numbers(frame, COPIED, [0; 3], written.0);
    let at = put_message(frame, lane, position, head, &[body]);
    frame[at - RECORD + 6..at - RECORD + 8].copy_from_slice(&COPY.to_le_bytes());
    at
}

/// When the message was written whose key begins at `at` of a sealed frame. Copies stand in frames of their own.
pub(super) fn written(frame: &[u8], at: usize) -> Time {
    let is_copy = u16_at(frame, FRAME_HEADER) == COPIED;
    Time(u64_at(frame, if is_copy { at - RECORD - 8 } else { 24 }))
}

/// Appends the end of a compaction that has copied so many messages.
pub(super) fn put_compacted(frame: &mut Vec<u8>, lane: LaneId, range: &Range<u64>, copies: u32) {
    put_numbers(frame, COMPACTED, [lane.0, copies, 0], range.end);
    frame.extend_from_slice(&range.start.to_le_bytes());
}

/// Appends where a lane ends.
pub(super) fn put_ended(frame: &mut Vec<u8>, lane: LaneId, end: u64) {
    put_numbers(frame, ENDED, [lane.0, 0, 0], end);
}

fn put_numbers(frame: &mut Vec<u8>, kind: u16, numbers: [u32; 3], position: u64) {
    let mut head = [0; RECORD];
    head[..2].copy_from_slice(&kind.to_le_bytes());
    for (n, number) in numbers.into_iter().enumerate() {
        head[4 + 4 * n..8 + 4 * n].copy_from_slice(&number.to_le_bytes());
    }
    head[16..].copy_from_slice(&position.to_le_bytes());
    frame.extend_from_slice(&head);
}

/// Appends a bookkeeping record.
pub(super) fn put_record(frame: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Channel(made) => put_channel(frame, made),
        Record::ChannelGone(channel) => put_numbers(frame, CHANNEL_GONE, [channel.0, 0, 0], 0),
        Record::Reshaped(made) => put_reshape(frame, made),
        &Record::Committed { lane, group, position } => put_numbers(frame, COMMITTED, [lane.0, group, 0], position),
        &Record::Settled { lane, group, position } => put_numbers(frame, SETTLED, [lane.0, group, 0], position),
        &Record::Together { parts } => put_numbers(frame, TOGETHER, [parts, 0, 0], 0),
        &Record::Released { lane, position, count } => put_numbers(frame, RELEASED, [lane.0, count, 0], position),
        &Record::Moved { lane, group, position } => put_numbers(frame, MOVED, [lane.0, group, 0], position),
    }
}

/// Bytes of a bookkeeping record in a frame.
pub(super) fn record_bytes(record: &Record) -> usize {
    match record {
        Record::Channel(made) => RECORD + name_bytes(made),
        Record::Reshaped(made) => match made.change {
            Reshape::Split { .. } => RECORD + SPLIT_AT,
            Reshape::Merge { .. } => RECORD,
        },
        Record::ChannelGone(_)
        | Record::Committed { .. }
        | Record::Settled { .. }
        | Record::Together { .. }
        | Record::Released { .. }
        | Record::Moved { .. } => RECORD,
    }
}

/// The name, and each group's after its length in two bytes; then what is asked for beyond.
fn name_bytes(made: &ChannelRecord) -> usize {
    let names = made.name.len() + made.groups.iter().map(|group| 2 + group.len()).sum::<usize>();
    names + arrangement(made).len()
}

/// Whose dead letters the channel takes, and its bindings, each the group's place in two bytes and a pattern; nothing for a plain
/// channel.
fn arrangement(made: &ChannelRecord) -> Vec<u8> {
    let mut out = Vec::new();
    if made.is_plain() {
        return out;
    }
    out.extend_from_slice(&made.dead_letters_of.map_or(NO_CHANNEL, |of| of.0).to_le_bytes());
    for binding in &made.bindings {
        let group = made.groups.iter().position(|group| *group == binding.group);
        let group = u16::try_from(group.expect("models refuse a binding of no group")).expect("groups are bounded");
        out.extend_from_slice(&group.to_le_bytes());
        binding.pattern.put(&mut out);
    }
    out
}

/// What `arrangement` wrote: all of `bytes`.
fn take_arrangement(mut bytes: &[u8], groups: &[String]) -> Option<(Option<ChannelId>, Vec<Binding>)> {
    let (of, rest) = bytes.split_first_chunk::<4>()?;
    bytes = rest;
    let of = Some(u32::from_le_bytes(*of)).filter(|&of| of != NO_CHANNEL).map(ChannelId);
    let mut bindings = Vec::new();
    while let Some((group, rest)) = bytes.split_first_chunk::<2>() {
        bytes = rest;
        let group = groups.get(usize::from(u16::from_le_bytes(*group)))?.clone();
        bindings.push(Binding { group, pattern: Pattern::take(&mut bytes)? });
    }
    (bytes.is_empty() && bindings.len() <= BINDINGS_MAX).then_some((of, bindings))
}

fn put_channel(frame: &mut Vec<u8>, made: &ChannelRecord) {
    let ChannelRecord { channel, first, lanes, name, groups, .. } = made;
    let kind = if made.is_plain() { CHANNEL } else { ARRANGED_CHANNEL };
    let in_bounds = name.len() <= NAME_BYTES_MAX && groups.len() <= GROUPS_MAX;
    assert!(in_bounds && groups.iter().all(|group| group.len() <= NAME_BYTES_MAX), "models refuse longer names");
    let mut head = [0; RECORD];
    head[..2].copy_from_slice(&kind.to_le_bytes());
    head[2..4].copy_from_slice(&(name.len() as u16).to_le_bytes());
    head[4..6].copy_from_slice(&(groups.len() as u16).to_le_bytes());
    head[8..12].copy_from_slice(&channel.0.to_le_bytes());
    head[12..16].copy_from_slice(&first.0.to_le_bytes());
    head[16..20].copy_from_slice(&lanes.to_le_bytes());
    head[20..].copy_from_slice(&(name_bytes(made) as u32).to_le_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(name.as_bytes());
    for group in groups {
        frame.extend_from_slice(&(group.len() as u16).to_le_bytes());
        frame.extend_from_slice(group.as_bytes());
    }
    frame.extend_from_slice(&arrangement(made));
}

fn put_reshape(frame: &mut Vec<u8>, made: &ReshapeRecord) {
    let ReshapeRecord { channel, first, change } = made;
    match change {
        Reshape::Split { lane, at } => {
            put_numbers(frame, SPLIT, [channel.0, first.0, lane.0], 0);
            frame.extend_from_slice(&at.to_le_bytes());
        }
        Reshape::Merge { lane, with } => put_numbers(frame, MERGED, [channel.0, first.0, lane.0], with.0.into()),
    }
}

/// Appends what a lane no longer needs.
pub(super) fn put_trimmed(frame: &mut Vec<u8>, lane: LaneId, below: u64) {
    put_numbers(frame, TRIMMED, [lane.0, 0, 0], below);
}

/// Appends which segments go.
pub(super) fn put_retired(frame: &mut Vec<u8>, below: u64) {
    put_numbers(frame, RETIRED, [0; 3], below);
}

/// Appends how many channels and lanes were made.
pub(super) fn put_given_out(frame: &mut Vec<u8>, channels: u32, lanes: u32) {
    put_numbers(frame, GIVEN_OUT, [channels, lanes, 0], 0);
}

/// A run's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub(super) lane: LaneId,
    /// The first message's.
    position: u64,
    has_payloads: bool,
    lens: &'a [[u8; LENGTHS]],
    /// Where the first message's key begins, and where the last one ends.
    pub(super) bodies: (usize, usize),
}

impl<'a> Run<'a> {
    /// The run whose record is at `at` of a whole frame; nothing when the bytes are another record or none.
    #[inline]
    pub(super) fn read(frame: &'a [u8], at: usize) -> Option<Self> {
        let head = frame.get(at..)?.first_chunk::<RECORD>()?;
        let has_payloads = match u16_at(head, 0) {
            RUN => true,
            RUN_OF_LENGTHS => false,
            _ => return None,
        };
        let lens_at = at + RECORD;
        let at = lens_at.checked_add((u32_at(head, 8) as usize).checked_mul(LENGTHS)?)?;
        let (lens, _) = frame.get(lens_at..at)?.as_chunks::<LENGTHS>();
        let run =
            Self { lane: LaneId(u32_at(head, 12)), position: u64_at(head, 16), has_payloads, lens, bodies: (at, at) };
        // In 64 bits: four billion messages of four gigabytes each stay below.
        let bytes = run.slices().map(|slice| run.stored_len(slice)).sum::<u64>();
        let end = at as u64 + bytes;
        let whole = !lens.is_empty() && bytes == u64::from(u32_at(head, 4)) && end <= frame.len() as u64;
        whole.then_some(Self { bodies: (at, end as usize), ..run })
    }

    fn stored_len(&self, slice: Slice) -> u64 {
        let payload = if self.has_payloads { slice.payload_len } else { 0 };
        u64::from(slice.key_len) + u64::from(slice.header_len) + u64::from(payload)
    }

    /// Where its messages stand.
    #[inline]
    pub(super) fn slices(self) -> impl ExactSizeIterator<Item = Slice> + use<'a> {
        let mut at = self.bodies.0 as u32;
        self.lens.iter().map(move |&lens| {
            let lens = u64::from_le_bytes(lens);
            let (key_len, header_len, payload_len) = (lens as u16, (lens >> 16) as u16, (lens >> 32) as u32);
            let slice = Slice { at, key_len, header_len, payload_len, has_payload: self.has_payloads };
            at = at.wrapping_add(self.stored_len(slice) as u32);
            slice
        })
    }

    /// Message `index`, which stands at `slice`.
    fn message(&self, frame: &'a [u8], index: usize, slice: Slice) -> Option<Entry<'a>> {
        let headers_at = slice.at as usize + usize::from(slice.key_len);
        let payload_at = headers_at + usize::from(slice.header_len);
        let payload = slice.has_payload.then(|| &frame[payload_at..payload_at + slice.payload_len as usize]);
        Some(Entry::Message {
            lane: self.lane,
            position: self.position.checked_add(index as u64)?,
            key: &frame[slice.at as usize..headers_at],
            headers: &frame[headers_at..payload_at],
            payload_len: slice.payload_len,
            payload,
            written: Time(u64_at(frame, 24)),
            provisional: false,
            copied: false,
        })
    }
}

/// Hands what the records of a whole frame say to `each`, in order; nothing when the bytes are no records, or when `each` says that they can't
/// be.
pub(super) fn read_entries<'a>(frame: &'a [u8], records: u32, mut each: impl FnMut(Entry<'a>) -> bool) -> Option<()> {
    let mut at = FRAME_HEADER;
    for _ in 0..records {
        if let Some(run) = Run::read(frame, at) {
            for (index, slice) in run.slices().enumerate() {
                each(run.message(frame, index, slice)?).then_some(())?;
            }
            at = run.bodies.1;
            continue;
        }
        let (entry, next) = read_entry(frame, at)?;
        each(entry).then_some(())?;
        at = next;
    }
    Some(())
}

/// The record at `at` of a whole frame, and where the next one begins; nothing when the bytes are no record, or are a run.
pub(super) fn read_entry(frame: &[u8], at: usize) -> Option<(Entry<'_>, usize)> {
    let head = frame.get(at..at + RECORD)?;
    let kind = u16_at(head, 0);
    let [a, b, c] = [u32_at(head, 4), u32_at(head, 8), u32_at(head, 12)];
    let position = u64_at(head, 16);
    let next = at + RECORD;
    let entry = match kind {
        MESSAGE | MESSAGE_LENGTH => return read_message(frame, at, None),
        COPIED => return read_message(frame, next, Some(Time(position))),
        COMPACTED => {
            let from = u64::from_le_bytes(*frame.get(next..next + 8)?.first_chunk()?);
            return Some((Entry::Compacted { lane: LaneId(a), from, to: position, copies: b }, next + 8));
        }
        RETIRED => Entry::Retired { below: position },
        ENDED => Entry::Ended { lane: LaneId(a), end: position },
        CHANNEL | ARRANGED_CHANNEL => return read_channel(frame, at),
        CHANNEL_GONE => Entry::Record(Record::ChannelGone(ChannelId(a))),
        COMMITTED => Entry::Record(Record::Committed { lane: LaneId(a), group: b, position }),
        SETTLED => Entry::Record(Record::Settled { lane: LaneId(a), group: b, position }),
        TOGETHER => Entry::Record(Record::Together { parts: a }),
        RELEASED => Entry::Record(Record::Released { lane: LaneId(a), position, count: b }),
        MOVED => Entry::Record(Record::Moved { lane: LaneId(a), group: b, position }),
        TRIMMED => Entry::Trimmed { lane: LaneId(a), below: position },
        GIVEN_OUT => Entry::GivenOut { channels: a, lanes: b },
        SPLIT => return read_split(frame, at),
        MERGED => {
            let change = Reshape::Merge { lane: LaneId(c), with: LaneId(u32::try_from(position).ok()?) };
            reshaped(a, b, change)
        }
        _ => return None,
    };
    Some((entry, next))
}

/// Where the message stands whose record is at `at` of a whole frame, whose it is, and where the next record begins; nothing when the bytes
/// are another record or none.
#[inline]
pub(super) fn place_at(frame: &[u8], at: usize) -> Option<(LaneId, Slice, usize)> {
    let record = |at| frame.get(at..)?.first_chunk::<RECORD>();
    let head = record(at)?;
    let (at, head) = if u16_at(head, 0) == COPIED { (at + RECORD, record(at + RECORD)?) } else { (at, head) };
    let has_payload = match u16_at(head, 0) {
        MESSAGE => true,
        MESSAGE_LENGTH => false,
        _ => return None,
    };
    let (key_len, header_len, payload_len) = (u16_at(head, 2), u16_at(head, 4), u32_at(head, 8));
    let payload = if has_payload { payload_len as usize } else { 0 };
    let next = at + RECORD + usize::from(key_len) + usize::from(header_len) + payload;
    let slice = Slice { at: (at + RECORD) as u32, key_len, header_len, payload_len, has_payload };
    (next <= frame.len()).then_some((LaneId(u32_at(head, 12)), slice, next))
}

fn reshaped(channel: u32, first: u32, change: Reshape) -> Entry<'static> {
    let made = ReshapeRecord { channel: ChannelId(channel), first: LaneId(first), change };
    Entry::Record(Record::Reshaped(Box::new(made)))
}

fn read_split(frame: &[u8], at: usize) -> Option<(Entry<'_>, usize)> {
    let (head, next) = (&frame[at..at + RECORD], at + RECORD + SPLIT_AT);
    let point = u128::from_le_bytes(*frame.get(at + RECORD..next)?.first_chunk()?);
    let change = Reshape::Split { lane: LaneId(u32_at(head, 12)), at: point };
    Some((reshaped(u32_at(head, 4), u32_at(head, 8), change), next))
}

/// A channel's record: its names are UTF-8 and in their bounds, its groups distinct, and its lanes can be.
fn read_channel(frame: &[u8], at: usize) -> Option<(Entry<'_>, usize)> {
    let head = &frame[at..at + RECORD];
    let (name_len, count) = (usize::from(u16_at(head, 2)), usize::from(u16_at(head, 4)));
    let (channel, first, lanes) = (ChannelId(u32_at(head, 8)), LaneId(u32_at(head, 12)), u32_at(head, 16));
    let next = (at + RECORD).checked_add(u32_at(head, 20) as usize)?;
    let mut names = frame.get(at + RECORD..next)?;
    if count > GROUPS_MAX || lanes == 0 || first.0.checked_add(lanes).is_none() {
        return None;
    }
    let name = take_name(&mut names, name_len)?;
    let mut groups: Vec<String> = Vec::with_capacity(count);
    for _ in 0..count {
        let (len, rest) = names.split_first_chunk::<2>()?;
        names = rest;
        groups.push(take_name(&mut names, usize::from(u16::from_le_bytes(*len)))?);
    }
    let distinct = groups.iter().collect::<std::collections::BTreeSet<_>>().len() == count;
    let (dead_letters_of, bindings) = if u16_at(head, 0) == CHANNEL {
        (None, Vec::new())
    } else {
        take_arrangement(std::mem::take(&mut names), &groups)?
    };
    let made = ChannelRecord { channel, first, lanes, name, groups, bindings, dead_letters_of };
    (distinct && names.is_empty()).then(|| (Entry::Record(Record::Channel(Box::new(made))), next))
}

/// Takes a name of `len` bytes from the front.
fn take_name(bytes: &mut &[u8], len: usize) -> Option<String> {
    let (name, rest) = bytes.split_at_checked(len).filter(|_| len <= NAME_BYTES_MAX)?;
    *bytes = rest;
    Some(std::str::from_utf8(name).ok()?.to_owned())
}

/// A message, or a copy that says when it was written.
fn read_message(frame: &[u8], at: usize, copied: Option<Time>) -> Option<(Entry<'_>, usize)> {
    let head = frame.get(at..at + RECORD)?;
    let flag = u16_at(head, 6);
    if copied.is_some() != (flag == COPY) || !matches!(u16_at(head, 0), MESSAGE | MESSAGE_LENGTH) {
        return None;
    }
    let has_payload = u16_at(head, 0) == MESSAGE;
    let key_at = at + RECORD;
    let headers_at = key_at + usize::from(u16_at(head, 2));
    let payload_at = headers_at + usize::from(u16_at(head, 4));
    let payload_len = u32_at(head, 8);
    let next = payload_at + if has_payload { payload_len as usize } else { 0 };
    let payload = frame.get(payload_at..next)?;
    let entry = Entry::Message {
        lane: LaneId(u32_at(head, 12)),
        position: u64_at(head, 16),
        key: &frame[key_at..headers_at],
        headers: &frame[headers_at..payload_at],
        payload_len,
        payload: has_payload.then_some(payload),
        written: copied.unwrap_or(Time(u64_at(frame, 24))),
        provisional: flag == PROVISIONAL,
        copied: copied.is_some(),
    };
    Some((entry, next))
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Publishes, Token};

    use super::*;
    use crate::store::building::Places;

    /// What is done to a frame.
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

    const HERE: Place = Place { segment: 2, at: 64, salt: 0x0123_4567_89ab_cdef };
    const HEAD: Head = Head { key_len: 3, header_len: 2, payload_len: 7, has_payload: true };

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_frame_is_read_back_record_by_record() {
        let mut frame = vec![0; FRAME_HEADER];
        let records = [
            channel(&["workers", "", "żółw"]),
            arranged(),
            Record::ChannelGone(ChannelId(4)),
            Record::Committed { lane: LaneId(5), group: 6, position: 1 << 40 },
            Record::Settled { lane: LaneId(7), group: 8, position: 9 },
            Record::Together { parts: 2 },
            Record::Released { lane: LaneId(3), position: 1 << 41, count: 7 },
            Record::Moved { lane: LaneId(3), group: 1, position: 12 },
            reshape(Reshape::Split { lane: LaneId(11), at: 1 << 127 | 5 }),
            reshape(Reshape::Merge { lane: LaneId(12), with: LaneId(13) }),
        ];
        for record in &records {
            put_record(&mut frame, record);
        }
        let at = put_message(&mut frame, LaneId(3), 11, HEAD, &[b"key", b"hdpayload"]);
        assert_eq!(at, FRAME_HEADER + RECORD + records.iter().map(record_bytes).sum::<usize>());
        put_trimmed(&mut frame, LaneId(1), 12);
        put_given_out(&mut frame, 5, 1 << 20);
        put_retired(&mut frame, 1 << 33);
        frame.resize(padded(frame.len()), 0);
        seal_frame(&mut frame, HERE, 5, 4, Time(77), 14);
        let head = read_frame(&frame, HERE).unwrap();
        let len = frame.len() as u32;
        assert_eq!(head, FrameHead { len, segment: 2, number: 5, stored: 4, written: Time(77), records: 14 });

        let mut at = FRAME_HEADER;
        let mut seen = Vec::new();
        for _ in 0..head.records {
            let (entry, next) = read_entry(&frame, at).unwrap();
            seen.push(entry);
            at = next;
        }
        assert_eq!(&seen[..10], &records.map(Entry::Record));
        let (key, headers, payload) = (&b"key"[..], &b"hd"[..], &b"payload"[..]);
        let (lane, payload, written) = (LaneId(3), Some(payload), Time(77));
        let (provisional, copied) = (false, false);
        let expected =
            Entry::Message { lane, position: 11, key, headers, payload_len: 7, payload, written, provisional, copied };
        assert_eq!(seen[10], expected);
        assert_eq!(seen[11], Entry::Trimmed { lane: LaneId(1), below: 12 });
        assert_eq!(seen[12], Entry::GivenOut { channels: 5, lanes: 1 << 20 });
        assert_eq!(seen[13], Entry::Retired { below: 1 << 33 });
    }

    #[test]
    fn a_copy_says_when_it_was_written_and_its_compaction_what_it_covers() {
        let mut frame = vec![0; FRAME_HEADER];
        let at = put_copy(&mut frame, Time(33), LaneId(3), 11, HEAD, b"keyhdpayload");
        put_compacted(&mut frame, LaneId(3), &((1 << 40)..(1 << 41)), 1);
        put_ended(&mut frame, LaneId(3), 1 << 42);
        frame.resize(padded(frame.len()), 0);
        seal_frame(&mut frame, HERE, 5, 4, Time(77), 3);
        assert_eq!((at, written(&frame, at)), (FRAME_HEADER + COPY_RECORD, Time(33)));
        let mut originals = vec![0; FRAME_HEADER];
        let original = put_message(&mut originals, LaneId(3), 12, HEAD, &[b"keyhdpayload"]);
        originals.resize(padded(originals.len()), 0);
        seal_frame(&mut originals, HERE, 5, 4, Time(77), 1);
        assert_eq!(written(&originals, original), Time(77));
        let (entry, next) = read_entry(&frame, FRAME_HEADER).unwrap();
        let Entry::Message { position: 11, written: Time(33), copied: true, provisional: false, key: b"key", .. } =
            entry
        else {
            panic!("{entry:?}")
        };
        let (entry, next) = read_entry(&frame, next).unwrap();
        assert_eq!(entry, Entry::Compacted { lane: LaneId(3), from: 1 << 40, to: 1 << 41, copies: 1 });
        assert_eq!(read_entry(&frame, next).unwrap().0, Entry::Ended { lane: LaneId(3), end: 1 << 42 });
        // The copy's own record alone is none: it does not say when it was written.
        assert_eq!(read_entry(&frame, FRAME_HEADER + RECORD), None);
    }

    fn batch() -> Publishes {
        let mut batch = Publishes::new();
        for (key, payload) in [("k", "one"), ("", "two!"), ("key", "")] {
            batch.push(Token(0), ChannelId(0), key.as_bytes(), b"h", payload.as_bytes());
        }
        batch
    }

    #[test]
    fn a_run_is_read_back_message_by_message() {
        let mut frame = vec![0; FRAME_HEADER];
        let batch = batch();
        put_trimmed(&mut frame, LaneId(1), 12);
        let at = put_run(&mut frame, LaneId(3), 1 << 40, &batch.columns(0..3));
        assert_eq!(at, FRAME_HEADER + 2 * RECORD + 3 * LENGTHS);
        put_message(&mut frame, LaneId(4), 7, HEAD, &[b"keyhdpayload"]);
        let end = frame.len();
        frame.resize(padded(frame.len()), 0);
        seal_frame(&mut frame, HERE, 5, 4, Time(77), 3);
        let mut seen = Vec::new();
        let whole = read_entries(&frame, 3, |entry| {
            if let Entry::Message { lane, position, key, headers, payload, written: Time(77), .. } = entry {
                seen.push((lane.0, position, [key, headers, payload.unwrap()].concat()));
            }
            true
        });
        assert_eq!(whole, Some(()));
        let first = 1_u64 << 40;
        let expected: [(u32, u64, &[u8]); 4] =
            [(3, first, b"khone"), (3, first + 1, b"htwo!"), (3, first + 2, b"keyh"), (4, 7, b"keyhdpayload")];
        assert_eq!(seen, expected.map(|(lane, position, bytes)| (lane, position, bytes.to_vec())));
        let table = Places::default().of_frame(&frame, 3).expect("they are records");
        assert_eq!(table.iter().map(|slice| slice.at as usize).collect::<Vec<_>>(), [at, at + 5, at + 10, end - 12]);
        let second = |entry: Entry<'_>| matches!(entry, Entry::Message { position, .. } if position == first + 1);
        assert_eq!(read_entries(&frame, 3, |entry| !second(entry)), None);
        assert_eq!(read_entries(&frame, 4, |_| true), None);
    }

    #[test]
    fn a_run_whose_lengths_do_not_add_up_is_none() {
        let mut frame = vec![0; FRAME_HEADER];
        let batch = batch();
        put_run(&mut frame, LaneId(3), 9, &batch.columns(0..3));
        let read = |change: Change<'_>| {
            let mut changed = frame.clone();
            change(&mut changed);
            Run::read(&changed, FRAME_HEADER).map(|run| run.slices().len())
        };
        assert_eq!(read(&|_| {}), Some(3));
        let (head, lens) = (FRAME_HEADER, FRAME_HEADER + RECORD);
        let wrong: [Change<'_>; 9] = [
            &|frame| frame[head] = 0,
            &|frame| frame[head] = RUN_OF_LENGTHS as u8,
            &|frame| frame[head + 4] += 1,
            &|frame| frame[head + 8] -= 1,
            &|frame| frame[head + 8..head + 12].fill(0),
            &|frame| frame[head + 8..head + 12].fill(0xff),
            &|frame| frame[lens + 4] += 1,
            &|frame| frame[lens + 4..lens + 8].fill(0xff),
            &|frame| frame.truncate(frame.len() - 1),
        ];
        for (n, change) in wrong.into_iter().enumerate() {
            assert_eq!(read(change), None, "change {n}");
        }
        // A position beyond all numbers is none either.
        let mut last = frame.clone();
        last[head + 16..head + 24].fill(0xff);
        assert!(Run::read(&last, head).is_some() && read_entries(&last, 1, |_| true).is_none());
    }

    #[test]
    fn a_run_of_lengths_holds_keys_and_headers_only() {
        let mut frame = vec![0; FRAME_HEADER];
        let mut batch = Publishes::of_lengths();
        for len in [u32::MAX, 3] {
            batch.push_length(Token(0), ChannelId(0), b"key", b"h", len);
        }
        let at = put_run(&mut frame, LaneId(3), 9, &batch.columns(0..2));
        assert_eq!(frame.len(), at + 8);
        let run = Run::read(&frame, FRAME_HEADER).unwrap();
        let slices: Vec<_> =
            run.slices().map(|slice| (slice.at as usize, slice.payload_len, slice.has_payload)).collect();
        assert_eq!(slices, [(at, u32::MAX, false), (at + 4, 3, false)]);
    }

    fn reshape(change: Reshape) -> Record {
        Record::Reshaped(Box::new(ReshapeRecord { channel: ChannelId(9), first: LaneId(10), change }))
    }

    fn channel(groups: &[&str]) -> Record {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let (channel, first, name) = (ChannelId(1), LaneId(2), "orders".to_owned());
        Record::Channel(Box::new(ChannelRecord { channel, first, lanes: 3, name, groups, ..ChannelRecord::default() }))
    }

    fn arranged() -> Record {
        let Record::Channel(mut made) = channel(&["eu", "us"]) else { unreachable!() };
        let binding = |group: &str, pattern| Binding { group: group.to_owned(), pattern };
        let pairs = vec![(b"type".to_vec(), b"report".to_vec())];
        made.dead_letters_of = Some(ChannelId(0));
        made.bindings = vec![
            binding("us", Pattern::Topic(b"us.#".to_vec())),
            binding("eu", Pattern::Headers { all: true, pairs }),
            binding("eu", Pattern::Everything),
        ];
        Record::Channel(made)
    }

    #[test]
    fn a_channel_whose_names_do_not_fit_is_no_record() {
        let mut frame = vec![0; FRAME_HEADER];
        put_record(&mut frame, &channel(&["ab", "cd"]));
        let read = |change: Change<'_>| {
            let mut changed = frame.clone();
            change(&mut changed);
            let Some((Entry::Record(record), next)) = read_entry(&changed, FRAME_HEADER) else { return None };
            Some((record, next == frame.len()))
        };
        assert_eq!(read(&|_| {}), Some((channel(&["ab", "cd"]), true)));
        let (head, names) = (FRAME_HEADER, FRAME_HEADER + RECORD);
        let wrong: [Change<'_>; 9] = [
            &|frame| frame[head + 2] = 7,
            &|frame| frame[head + 3] = 0xff,
            &|frame| frame[head + 4] = 1,
            &|frame| frame[head + 4] = 3,
            &|frame| frame[head + 16] = 0,
            &|frame| frame[head + 12..head + 16].fill(0xff),
            &|frame| frame[names] = 0xff,
            &|frame| frame[names + 12..names + 14].copy_from_slice(b"ab"),
            &|frame| frame.truncate(names + 13),
        ];
        for (n, change) in wrong.into_iter().enumerate() {
            assert_eq!(read(change), None, "change {n}");
        }
    }

    #[test]
    fn a_frame_far_behind_says_nothing_of_what_is_stored() {
        let stored = |number, stored| {
            let mut frame = vec![0; padded(FRAME_HEADER)];
            let place = Place { segment: (1 << 32) + 3, ..HERE };
            seal_frame(&mut frame, place, number, stored, Time(1), 0);
            read_frame(&frame, place).map(|head| (head.number, head.stored, head.segment))
        };
        assert_eq!(stored(1 << 40, (1 << 40) - 9), Some((1 << 40, (1 << 40) - 9, (1 << 32) + 3)));
        assert_eq!(stored(1 << 40, 5), Some((1 << 40, 0, (1 << 32) + 3)));
    }

    #[test]
    fn a_frame_with_any_byte_changed_is_not_read() {
        let mut frame = vec![0; FRAME_HEADER];
        put_message(&mut frame, LaneId(0), 0, HEAD, &[b"0123456789ab"]);
        frame.resize(padded(frame.len()), 0);
        seal_frame(&mut frame, HERE, 0, 0, Time(9), 1);
        assert!(read_frame(&frame, HERE).is_some());
        for at in 0..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 0x10;
            assert!(read_frame(&damaged, HERE).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_frame_is_none_at_another_place_or_under_another_salt() {
        let mut frame = vec![0; FRAME_HEADER];
        put_message(&mut frame, LaneId(0), 0, HEAD, &[b"0123456789ab"]);
        frame.resize(padded(frame.len()), 0);
        seal_frame(&mut frame, HERE, 0, 0, Time(9), 1);
        assert!(read_frame(&frame, HERE).is_some());
        assert_eq!(read_frame(&frame, Place { segment: 3, ..HERE }), None);
        for bit in 0..64 {
            assert_eq!(read_frame(&frame, Place { salt: HERE.salt ^ 1 << bit, ..HERE }), None, "bit {bit}");
        }
        for at in (0..1 << 16).step_by(FRAME_ALIGN).filter(|&at| at != HERE.at) {
            assert_eq!(read_frame(&frame, Place { at, ..HERE }), None, "byte {at}");
        }
    }

    #[test]
    fn a_segment_header_is_known_by_version_number_and_checksum() {
        let header = segment_header(7, 1 << 40);
        assert_eq!(read_segment_header(&header), SegmentHead::Segment { number: 7, salt: 1 << 40 });
        assert_eq!(read_segment_header(&[0; SEGMENT_HEADER]), SegmentHead::Unwritten);
        let mut other = header;
        other[8] = 9;
        assert_eq!(read_segment_header(&other), SegmentHead::OtherVersion(9));
        let mut damaged = header;
        for at in [16, 24, 31] {
            damaged[at] ^= 1;
            assert_eq!(read_segment_header(&damaged), SegmentHead::Damaged, "byte {at}");
            damaged[at] ^= 1;
        }
    }
}
