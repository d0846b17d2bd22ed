//! Compaction of a lane's range: what is kept is copied behind everything else, and the old places are given back once that is stored.
//!
//! Segments are shared by all lanes and are used again from the oldest on, so that a message that stays must not stay where it is. Copies
//! stand in frames of their own, with their positions and the time when they were written first; the last record of a compaction says that
//! it is whole. A crash before leaves copies that count for nothing, beside what they were made of. Leaves out what is kept: the model
//! decides.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use brokerlab_model::{LaneId, Slice};
use bytes::Bytes;

use super::building::Buffer;
use super::format::{self, COMPACTED_RECORD, FRAME_HEADER, Head};
use super::lane::Run;
use super::{Store, keep_buffer};

/// Messages of frames that are no longer needed once so many frames are stored.
#[derive(Debug)]
pub(super) struct Leaving {
    stored: u64,
    messages: Vec<(u64, u32)>,
}

/// Copies on their way into frames.
#[derive(Debug, Default)]
struct Copies {
    /// The frame in hand.
    buffer: Option<Buffer>,
    messages: u32,
    records: u32,
    /// The frame's number.
    frame: u64,
    /// Where all copies so far stand, in order.
    runs: Vec<Run>,
    count: u32,
}

impl Copies {
    fn note(&mut self, position: u64) {
        let place = self.messages;
        self.messages += 1;
        self.records += 1;
        self.count += 1;
        match self.runs.last_mut() {
            Some(run) if run.frame == self.frame && run.position + u64::from(run.count) == position => run.count += 1,
            Some(_) | None => self.runs.push(Run { position, frame: self.frame, first: place, count: 1 }),
        }
    }
}

impl Store {
    /// Of the messages at `range` of `lane` only those of `kept` stay: the first position of each run, in order, and how many it has. After an
    /// error everything stays as it is: the engine takes nothing more.
    pub fn compact(&mut self, lane: LaneId, range: Range<u64>, kept: &[(u64, u32)]) {
        if self.error.is_some() {
            return;
        }
        self.seal();
        let mut copies = Copies::default();
        let mut found: Vec<(u64, Bytes, Slice)> = Vec::new();
        for &(position, count) in kept {
            let read = self.read(lane, position, count, |position, bytes, slice| {
                found.push((position, bytes.clone(), slice));
            });
            if read.is_err() {
                return;
            }
            for (position, bytes, slice) in found.drain(..) {
                self.copy(lane, position, &bytes, slice, &mut copies);
            }
        }
        let count = copies.count;
        let bytes = self.copies_frame(&mut copies, COMPACTED_RECORD);
        format::put_compacted(bytes, lane, &range, count);
        copies.records += 1;
        self.end_copies(&mut copies);
        self.counts.payload_copies += u64::from(count);
        self.replace(lane, range, copies.runs);
        self.pressed |= self.files.is_some();
    }

    /// The frame of copies in hand, with room for `more` bytes.
    fn copies_frame<'a>(&mut self, copies: &'a mut Copies, more: usize) -> &'a mut Vec<u8> {
        if copies.buffer.as_ref().is_some_and(|buffer| copies.records > 0 && buffer.len() + more > self.frame_bytes) {
            self.end_copies(copies);
        }
        copies.frame = self.frames.next();
        &mut copies.buffer.get_or_insert_with(|| Buffer::begin(Vec::new(), None)).bytes
    }

    fn copy(&mut self, lane: LaneId, position: u64, bytes: &Bytes, slice: Slice, copies: &mut Copies) {
        let Slice { at, key_len, header_len, payload_len, has_payload } = slice;
        let payload = if has_payload { payload_len as usize } else { 0 };
        let body = &bytes[at as usize..at as usize + usize::from(key_len) + usize::from(header_len) + payload];
        let head = Head { key_len, header_len, payload_len, has_payload };
        let written = format::written(bytes, at as usize);
        let frame = self.copies_frame(copies, format::COPY_RECORD + body.len());
        format::put_copy(frame, written, lane, position, head, body);
        copies.note(position);
    }

    fn end_copies(&mut self, copies: &mut Copies) {
        let Some(mut buffer) = copies.buffer.take() else { return };
        let contents = (std::mem::take(&mut copies.records), std::mem::take(&mut copies.messages));
        if self.files.is_none() {
            buffer.give_back();
            self.frames.push(buffer.freeze(), contents, 0, 0);
        } else {
            self.end_frame(buffer, contents, self.clock);
        }
    }

    /// From now on the lane's messages of the range stand where the copies do.
    fn replace(&mut self, lane: LaneId, range: Range<u64>, runs: Vec<Run>) {
        let messages = self.exchange(lane, range, runs);
        // In memory nothing is ever stored, and nothing waits for it.
        let stored = if self.files.is_some() { self.frames.next() } else { 0 };
        self.leaving.push_back(Leaving { stored, messages });
        self.let_go();
    }

    /// Returns how many messages each frame held of the range.
    fn exchange(&mut self, lane: LaneId, range: Range<u64>, runs: Vec<Run>) -> Vec<(u64, u32)> {
        let copied = runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        let mut held = Vec::new();
        let index = self.lane(lane);
        let before = index.run_count();
        let messages = index.replace(range, runs, |frame, count| held.push((frame, count)));
        let after = index.run_count();
        self.kept = self.kept + copied - messages;
        self.runs = self.runs + after - before;
        held
    }

    /// Gives the places back of which the copies are stored.
    pub(super) fn let_go(&mut self) {
        let Self { leaving, frames, spare, files, stored, .. } = self;
        while leaving.front().is_some_and(|first| first.stored <= *stored)
            && let Some(Leaving { messages, .. }) = leaving.pop_front()
        {
            for (frame, count) in messages {
                if let Some(buffer) = frames.release(frame, count).filter(|_| files.is_some()) {
                    keep_buffer(spare, buffer);
                }
            }
        }
        self.drop_dead();
    }

    /// Writes where the compacted lanes end: nothing that is left need say it.
    pub(super) fn put_ends(&self, frame: &mut Vec<u8>) -> u32 {
        let mut records = 0;
        for (number, lane) in (0..).zip(&self.lanes).filter(|(_, lane)| lane.is_compacted()) {
            format::put_ended(frame, LaneId(number), lane.end());
            records += 1;
        }
        records
    }
}

/// A copy that was read: its position, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Read {
    position: u64,
    frame: u64,
    place: u32,
}

/// The copies of a journal of which it was not said yet that they count.
#[derive(Debug, Default)]
pub(super) struct Unsaid(BTreeMap<LaneId, VecDeque<Read>>);

impl Unsaid {
    /// A copy stands at `place` of `frame`'s table.
    pub(super) fn copy(&mut self, lane: LaneId, position: u64, frame: u64, place: u32) {
        self.0.entry(lane).or_default().push_back(Read { position, frame, place });
    }

    /// The last `copies` of them count, as many as are left; the others count for nothing. False when they can't be of that range.
    pub(super) fn compacted(&mut self, store: &mut Store, lane: LaneId, range: Range<u64>, copies: u32) -> bool {
        let mut read = self.0.remove(&lane).unwrap_or_default();
        while read.len() > copies as usize
            && let Some(Read { frame, .. }) = read.pop_front()
        {
            store.leaving.push_back(Leaving { stored: 0, messages: vec![(frame, 1)] });
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut next = range.start;
        for Read { position, frame, place } in read {
            if position < next || position >= range.end {
                return false;
            }
            next = position + 1;
            match runs.last_mut() {
                Some(run) if run.frame == frame && run.position + u64::from(run.count) == position => run.count += 1,
                Some(_) | None => runs.push(Run { position, frame, first: place, count: 1 }),
            }
        }
        let messages = store.exchange(lane, range, runs);
        store.leaving.push_back(Leaving { stored: 0, messages });
        true
    }

    /// The journal has ended: what is left counts for nothing.
    pub(super) fn end(self, store: &mut Store) {
        let messages: Vec<(u64, u32)> = self.0.into_values().flatten().map(|read| (read.frame, 1)).collect();
        store.leaving.push_back(Leaving { stored: 0, messages });
        store.let_go();
    }
}

const _: () = assert!(format::COPY_RECORD == 2 * format::RECORD && FRAME_HEADER > 32, "where a time stands");
