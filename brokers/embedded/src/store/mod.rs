//! One store per engine: a journal of frames in segments that all lanes share, and an index per lane in memory.
//!
//! A message's bytes are copied once, from the batch into the frame being built. A frame is sealed when somebody wants to read or
//! write it, or when it is full, so that what waits together is one frame; one that is mostly empty then moves to a buffer of its size.
//! A sealed frame becomes a `Bytes` and is what deliveries point into. Frames stay in memory up to `max_memory`; then the oldest written
//! ones are dropped and read back when they are wanted. Leaves out when to write: the engine takes a [`Job`] and runs it where
//! blocking is allowed.

mod about;
mod building;
mod compact;
pub mod disk;
mod error;
mod facts;
mod files;
mod format;
mod frames;
mod lane;
mod open;
mod scan;
pub mod trial;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use brokerlab_model::{Blocked, Death, LaneId, Message, Publishes, Record, Slice, Span, Storage, Time, WorkCounts};
use bytes::{Bytes, BytesMut};

pub(crate) use about::About;
pub use disk::{Disk, DiskFile, SimulatedDisk, SystemDisk};
pub use error::StoreError;
pub use facts::StorageFacts;
pub use files::Job;
pub use format::Entry;
pub use scan::{ScanReport, verify};

use building::{Buffer, Building, Places};
use compact::Leaving;
use files::{FIRST_FRAME, Files, Frame};
pub(crate) use format::crc32c;
use format::{FRAME_ALIGN, FRAME_HEADER, Head, LENGTHS, RECORD};
use frames::{Frames, Read};
use lane::{Lane, RUN_BYTES};

/// A frame is sealed before it passes this, unless one message alone does: reading one message back never reads more, and what is
/// being built stays in a core's own cache.
const FRAME_BYTES_MAX: usize = 256 << 10;
/// Bytes of a frame's table for each message.
const PLACE_BYTES: u64 = size_of::<Slice>() as u64;
/// Buffers of frames that are no longer held, to be filled again; larger ones are given back.
const SPARE_BUFFERS: usize = 8;
/// Frames that were read back and may still be read.
const LENT_BUFFERS: usize = 4;
/// For how long a record waits that nobody waits for, such as a settlement's, before it is written all the same.
const LINGER: Span = Span::from_millis(100);
/// Bytes that wait to be written before the engine writes them without being asked.
pub const INLINE_WRITE_BYTES: u64 = 256 << 10;

/// How much a store may hold, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What is looked at before a batch is taken is the batch as it will be framed; bookkeeping records may pass the bound.
    pub max_memory: u64,
    /// Bytes stored in segments, likewise.
    pub max_data: u64,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
}

impl Default for Limits {
    /// 256 MiB, 4 GiB, and segments of 64 MiB.
    fn default() -> Self {
        Self { max_memory: 256 << 20, max_data: 4 << 30, segment_bytes: 64 << 20 }
    }
}

/// The store below one engine.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    storage: Storage,
    files: Option<Arc<Files>>,
    lanes: Vec<Lane>,
    /// Messages that are kept.
    kept: u64,
    /// Runs in all lanes' indexes.
    runs: u64,
    frames: Frames,
    building: Building,
    /// A frame is sealed before it passes this.
    frame_bytes: usize,
    spare: Vec<Vec<u8>>,
    /// The last ticket that waits, sealed or not.
    ticket: Option<u64>,
    /// Somebody waits without a ticket.
    pressed: bool,
    /// Since when something waits to be written, whoever waits for it.
    waiting_since: Option<Time>,
    /// The segment to which the next frame goes, and where.
    segment: u64,
    segment_at: u64,
    unwritten: Vec<Frame>,
    unwritten_bytes: u64,
    /// Frames up to here are stored as the contract says.
    stored: u64,
    writing: bool,
    counts: WorkCounts,
    /// The engine's time, as far as it was told.
    clock: Time,
    error: Option<StoreError>,
    /// The last frame read back.
    read_back: Option<(u64, Read)>,
    /// Buffers of the last few, used again once nobody reads them.
    lent: VecDeque<Bytes>,
    /// For tables of frames that are read.
    reading: Places,
    /// What compactions have copied and not given back, oldest first.
    leaving: VecDeque<Leaving>,
}

impl Store {
    /// An empty store: in memory, or in the empty folder `dir`.
    ///
    /// # Panics
    /// When storage on files is asked for without a folder; the factory always gives one.
    pub fn create(storage: Storage, limits: Limits, dir: Option<&Path>) -> Result<Self, StoreError> {
        if storage == Storage::Memory {
            return Ok(Self::new(storage, limits, None, WorkCounts::default()));
        }
        let dir = dir.expect("storage on files comes with a folder");
        Self::create_on(storage, limits, Arc::new(SystemDisk::new(dir)))
    }

    /// An empty store on the empty folder of a disk; in memory, the disk is left alone.
    pub fn create_on(storage: Storage, limits: Limits, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let mut counts = WorkCounts::default();
        let flushes = match storage {
            Storage::Memory => return Ok(Self::new(storage, limits, None, counts)),
            Storage::PageCache => false,
            Storage::Fsync => true,
        };
        if flushes {
            disk.check_flush()?;
        }
        let files = Files::create(disk, limits.segment_bytes, flushes, &mut counts)?;
        Ok(Self::new(storage, limits, Some(Arc::new(files)), counts))
    }

    fn new(storage: Storage, limits: Limits, files: Option<Arc<Files>>, counts: WorkCounts) -> Self {
        Self {
            limits,
            storage,
            files,
            lanes: Vec::new(),
            kept: 0,
            runs: 0,
            frames: Frames::default(),
            building: Building::default(),
            frame_bytes: frame_bytes(&limits),
            spare: Vec::new(),
            ticket: None,
            pressed: false,
            waiting_since: None,
            segment: 0,
            segment_at: FIRST_FRAME,
            unwritten: Vec::new(),
            unwritten_bytes: 0,
            stored: 0,
            writing: false,
            counts,
            clock: Time::ZERO,
            error: None,
            read_back: None,
            lent: VecDeque::new(),
            reading: Places::default(),
            leaving: VecDeque::new(),
        }
    }

    /// What is below the store.
    pub fn facts(&self) -> StorageFacts {
        match &self.files {
            Some(files) => StorageFacts::of(files, self.storage),
            None => StorageFacts::memory(),
        }
    }

    /// Exact counts of its work so far.
    pub fn counts(&self) -> WorkCounts {
        self.counts
    }

    /// The error after which nothing more is taken.
    pub fn error(&self) -> Option<&StoreError> {
        self.error.as_ref()
    }

    /// How many messages of a batch may be taken now, and why not all. Reserves memory for those. An empty store takes one
    /// message of any size.
    pub fn room(&mut self, batch: &Publishes) -> (usize, Option<Blocked>) {
        if self.error.is_some() {
            return (0, Some(Blocked::Storage));
        }
        let bytes = batch.bytes();
        let frame = |messages: usize, bytes: usize| (FRAME_HEADER + FRAME_ALIGN + messages * RECORD + bytes) as u64;
        let lanes = self.lanes.len();
        let memory = |messages: usize, bytes: usize| {
            // At worst each message is a lane's first in the frame; of new lanes at least one is expected.
            let runs = messages.min(lanes + 1) as u64;
            frame(messages, bytes) + frames::SLOT_BYTES + messages as u64 * PLACE_BYTES + runs * RUN_BYTES
        };
        self.evict(memory(batch.len(), bytes));
        let memory_left = self.limits.max_memory.saturating_sub(self.held_bytes());
        let data_used = self.frames.data_bytes() + self.building.len() as u64;
        let data_left = if self.files.is_some() { self.limits.max_data.saturating_sub(data_used) } else { u64::MAX };
        let fits = |messages, bytes| memory(messages, bytes) <= memory_left && frame(messages, bytes) <= data_left;
        let (mut messages, mut taken) = (batch.len(), bytes);
        if !fits(messages, taken) {
            (messages, taken) = (0, 0);
            for size in batch.iter().map(|m| m.key.len() + m.headers.len() + m.payload.len()) {
                if !fits(messages + 1, taken + size) {
                    break;
                }
                messages += 1;
                taken += size;
            }
            if messages == 0 && self.kept == 0 {
                (messages, taken) =
                    (1, batch.iter().next().map_or(0, |m| m.key.len() + m.headers.len() + m.payload.len()));
            }
        }
        if messages > 0 {
            self.reserve(messages, taken);
        }
        let blocked = if frame(batch.len(), bytes) > data_left { Blocked::Data } else { Blocked::Memory };
        (messages, (messages < batch.len()).then_some(blocked))
    }

    /// Whether anything may be taken now; what a batch needs is asked with [`room`](Self::room).
    pub fn has_room(&self) -> bool {
        let data = self.files.is_none() || self.frames.data_bytes() < self.limits.max_data;
        self.error.is_none() && data && self.held_bytes() < self.limits.max_memory
    }

    /// Counts payload copies that were made above the store.
    pub fn count_copies(&mut self, copies: u64) {
        self.counts.payload_copies += copies;
    }

    /// Bytes held in memory: frames, their table, the index and the frame being built.
    pub fn held_bytes(&self) -> u64 {
        let building = self.building.len() as u64 + u64::from(self.building.groups.messages()) * PLACE_BYTES;
        self.frames.held_bytes() + building + self.runs * RUN_BYTES
    }

    /// Asks for memory for a run of messages of `bytes` bytes in all, keys and headers included, as far as one frame takes them. With
    /// files a frame has a buffer of full size from the beginning.
    fn reserve(&mut self, messages: usize, bytes: usize) {
        if self.files.is_none() {
            let more = (messages * RECORD + bytes).min(FRAME_BYTES_MAX);
            let buffer = &mut self.building.buffer.bytes;
            // A batch that is read before the next one comes needs no more; what waits together grows.
            if buffer.is_empty() {
                buffer.reserve_exact(FRAME_HEADER + more);
            } else {
                buffer.reserve(more);
            }
        }
    }

    /// What is appended from now on was taken at `now`.
    pub fn at(&mut self, now: Time) {
        self.clock = now;
    }

    /// Appends message `position` of `lane`. A frame that would grow too large is sealed first.
    pub fn append(&mut self, lane: LaneId, position: u64, message: &Message<'_>, has_payload: bool) {
        let body = [message.key, message.headers, message.payload];
        self.open_frame(RECORD + body.iter().map(|part| part.len()).sum::<usize>());
        let group = self.open_run(lane, position);
        let head = Head {
            key_len: message.key.len() as u16,
            header_len: message.headers.len() as u16,
            payload_len: message.payload_len,
            has_payload,
        };
        format::put_message(&mut self.building.buffer.bytes, lane, position, head, &body);
        self.close_run(lane, group, 1, 1);
        self.counts.payload_copies += 1;
    }

    /// Appends messages `run` of a batch to `lane`, the first as number `position`. What stands together in the batch and goes into one frame
    /// is copied as one stretch.
    pub fn append_run(&mut self, lane: LaneId, position: u64, batch: &Publishes, run: Range<u32>) {
        let mut index = run.start as usize;
        if run.len() == 1 {
            return self.append(lane, position, &batch.get(index), !batch.is_lengths_only());
        }
        let mut left = batch.columns(index..run.end as usize);
        while !left.is_empty() {
            let position = position + (index - run.start as usize) as u64;
            self.open_frame(RECORD + left.bytes_of(1));
            let room = self.frame_bytes.saturating_sub(self.building.len() + RECORD);
            let count = left.fitting(room, LENGTHS);
            if count < 2 {
                self.append(lane, position, &batch.get(index), left.has_payloads());
                (_, left) = left.split_at(1);
                index += 1;
                continue;
            }
            let (messages, rest) = left.split_at(count);
            let group = self.open_run(lane, position);
            format::put_run(&mut self.building.buffer.bytes, lane, position, &messages);
            self.close_run(lane, group, count as u32, 1);
            self.counts.payload_copies += count as u64;
            (left, index) = (rest, index + count);
        }
    }

    /// The group of `lane` in the frame being built, where `position` is appended next.
    fn open_run(&mut self, lane: LaneId, position: u64) -> u32 {
        let frame = self.frames.next();
        let index = self.lane(lane);
        if index.may_skip_to(position) {
            // A restored model can know of positions of which no message is left here.
            index.skip(position);
        }
        assert_eq!(index.end(), position, "a model appends positions densely and in order");
        let known = index.last_in(frame).map(|run| run.first);
        known.unwrap_or_else(|| self.building.groups.begin(lane))
    }

    /// So many messages were appended to it, in so many records.
    fn close_run(&mut self, lane: LaneId, group: u32, count: u32, records: u32) {
        self.building.groups.add(group, count);
        if self.building.groups.messages() == count {
            // Records before the first message may have waited for long; a restart takes the frame's time for the messages'.
            self.building.begun = self.clock;
        }
        let frame = self.frames.next();
        let index = &mut self.lanes[lane.0 as usize];
        self.runs += u64::from(index.last_in(frame).is_none());
        index.push(frame, group, count);
        self.kept += u64::from(count);
        self.building.records += records;
    }

    /// The same for messages of a transaction: a restart is told that they are provisional.
    pub fn append_provisional(&mut self, lane: LaneId, position: u64, batch: &Publishes, run: Range<u32>) {
        for (position, index) in (position..).zip(run) {
            let message = batch.get(index as usize);
            self.append(lane, position, &message, !batch.is_lengths_only());
            let bytes = &mut self.building.buffer.bytes;
            let at = bytes.len() - message.key.len() - message.headers.len() - message.payload.len();
            format::mark_provisional(bytes, at);
        }
    }

    /// Appends the message at `at` of `from` once more, as message `position` of `lane`, with what its headers say of its death. After an
    /// error nothing is appended: the engine takes nothing more.
    pub fn append_letter(&mut self, (from, at): (LaneId, u64), lane: LaneId, position: u64, death: &Death) {
        if self.error.is_some() {
            return;
        }
        let mut found = None;
        let read = self.read(from, at, 1, |_, bytes, slice| found = Some((bytes.clone(), slice)));
        if let (Ok(()), Some((bytes, slice))) = (read, found) {
            let mut headers = Vec::new();
            self.append(lane, position, &death.letter(&bytes, slice, &mut headers), slice.has_payload);
        }
    }

    fn lane(&mut self, lane: LaneId) -> &mut Lane {
        let at = lane.0 as usize;
        if at >= self.lanes.len() {
            self.lanes.resize_with(at + 1, Lane::default);
        }
        &mut self.lanes[at]
    }

    /// The positions of a lane that are kept; its end is the next one to be appended.
    pub fn positions(&self, lane: LaneId) -> Range<u64> {
        self.lanes.get(lane.0 as usize).map_or(0..0, |lane| lane.first()..lane.end())
    }

    /// The positions of a lane that are kept, as ranges in order; what a compaction left out is missing.
    pub fn kept(&self, lane: LaneId) -> Vec<Range<u64>> {
        self.lanes.get(lane.0 as usize).map_or_else(Vec::new, |lane| lane.kept().collect())
    }

    /// Appends a bookkeeping record; in memory there is no restart that could read it.
    pub fn record(&mut self, record: &Record) {
        if self.files.is_some() {
            self.frames.remember(record);
            self.open_frame(format::record_bytes(record));
            format::put_record(&mut self.building.buffer.bytes, record);
            self.building.records += 1;
        }
    }

    /// Everything so far is to be stored; `ticket` waits for it. True when it is stored already (in memory).
    pub fn barrier(&mut self, ticket: u64) -> bool {
        if self.files.is_none() {
            return true;
        }
        self.ticket = Some(ticket);
        false
    }

    /// Nothing of `lane` below `below` is needed any longer.
    pub fn trim(&mut self, lane: LaneId, below: u64) {
        let next = self.frames.next();
        let Some(index) = self.lanes.get(lane.0 as usize) else { return };
        if index.last_in(next).is_some_and(|run| run.position < below) {
            self.seal();
        }
        let Self { frames, spare, lanes, files, .. } = self;
        let trimmed = lanes[lane.0 as usize].trim(below, |frame, messages| {
            // In memory a frame is as large as it has to be, and its buffer too.
            if let Some(buffer) = frames.release(frame, messages).filter(|_| files.is_some()) {
                keep_buffer(spare, buffer);
            }
        });
        self.kept -= trimmed.messages;
        self.runs -= trimmed.runs;
        self.drop_dead();
    }

    /// In memory every sealed frame counts as stored.
    fn drop_dead(&mut self) {
        let stored = if self.files.is_some() { self.stored } else { u64::MAX };
        self.frames.drop_dead(stored);
    }

    fn open_frame(&mut self, more: usize) {
        if !self.building.is_empty() && self.building.len() + more > self.frame_bytes {
            self.seal();
        }
        if self.building.is_empty() {
            let mut bytes = std::mem::take(&mut self.building.buffer.bytes);
            if self.files.is_some() && bytes.capacity() == 0 {
                bytes = self.spare.pop().unwrap_or_else(|| Buffer::with_capacity(FRAME_BYTES_MAX));
            }
            self.building.buffer = Buffer::begin(bytes, self.files.is_some().then_some(self.segment_at));
            self.building.begun = self.clock;
            self.waiting_since.get_or_insert(self.clock);
        }
    }

    /// Ends the frame being built, so that its messages can be delivered and written.
    fn seal(&mut self) {
        if self.building.is_empty() {
            return;
        }
        let frame = self.frames.next();
        for (lane, start) in self.building.groups.starts() {
            self.lanes[lane.0 as usize].seal(frame, start);
        }
        let contents = (std::mem::take(&mut self.building.records), self.building.groups.messages());
        self.building.groups.clear();
        let begun = self.building.begun;
        let buffer = &mut self.building.buffer;
        if self.files.is_none() {
            let mut own = std::mem::take(buffer);
            own.give_back();
            self.frames.push(own.freeze(), contents, 0, 0);
            return;
        }
        let filled = buffer.is_filled() || buffer.bytes.capacity() > 2 * FRAME_BYTES_MAX;
        let buffer = if filled { std::mem::take(buffer) } else { buffer.move_out(self.segment_at) };
        self.end_frame(buffer, contents, begun);
    }

    /// Numbers a frame of so many records and messages and puts it at the journal's end, which may be a segment of its own.
    fn end_frame(&mut self, mut buffer: Buffer, contents: (u32, u32), begun: Time) {
        let len = format::padded(buffer.len()) as u64;
        let rolls = self.segment_at + len > self.limits.segment_bytes && self.segment_at > FIRST_FRAME;
        if rolls {
            self.segment += 1;
            self.segment_at = FIRST_FRAME;
        }
        let here = self.here();
        format::seal_frame(buffer.pad(), here, self.frames.next(), self.stored, begun, contents.0);
        self.place(buffer.freeze(), contents);
        if rolls {
            self.remember();
        }
        self.evict(0);
    }

    /// The journal's end.
    fn here(&self) -> format::Place {
        let (segment, at) = (self.segment, self.segment_at);
        self.files.as_ref().map_or(format::Place { segment, at, salt: 0 }, |files| files.place(segment, at))
    }

    /// Puts a sealed frame at the journal's end.
    fn place(&mut self, bytes: Bytes, contents: (u32, u32)) {
        let (at, len) = (self.segment_at, bytes.len() as u64);
        let segment_len = self.limits.segment_bytes.max(FIRST_FRAME + len);
        self.frames.push(bytes.clone(), contents, self.segment, at);
        self.unwritten.push(Frame { segment: self.segment, at, segment_len, bytes });
        self.unwritten_bytes += len;
        self.waiting_since.get_or_insert(self.clock);
        self.segment_at = at + len;
    }

    /// Writes into a segment that has just begun what must not be lost when earlier ones are used again. It comes second, because
    /// the frame that began the segment had its number before.
    fn remember(&mut self) {
        let mut frame = Buffer::begin(Vec::new(), None);
        let mut records = self.frames.write_remembered(&mut frame.bytes);
        for (number, lane) in self.lanes.iter().enumerate().filter(|(_, lane)| lane.first() > 0) {
            format::put_trimmed(&mut frame.bytes, LaneId(number as u32), lane.first());
            records += 1;
        }
        records += self.put_ends(&mut frame.bytes);
        if records > 0 {
            let here = self.here();
            format::seal_frame(frame.pad(), here, self.frames.next(), self.stored, self.clock, records);
            self.place(frame.freeze(), (records, 0));
        }
    }

    /// Writes which segments are about to be retired, and where lanes end of which no message is left: those segments were the last to say
    /// so.
    fn remember_ends(&mut self) {
        let mut frame = Buffer::begin(Vec::new(), None);
        let mut records = 1;
        format::put_retired(&mut frame.bytes, self.frames.oldest_segment());
        for (number, lane) in (0..).zip(&self.lanes).filter(|(_, lane)| lane.first() > 0 && lane.is_empty()) {
            format::put_trimmed(&mut frame.bytes, LaneId(number), lane.first());
            records += 1;
        }
        records += self.put_ends(&mut frame.bytes);
        self.end_frame(frame, (records, 0), self.clock);
    }

    /// Lets stored frames go until `more` bytes fit; in memory there is nowhere to read them back from.
    fn evict(&mut self, more: u64) {
        while self.held_bytes() + more > self.limits.max_memory
            && let Some(buffer) = self.frames.evict_oldest(self.stored)
        {
            keep_buffer(&mut self.spare, buffer);
        }
    }

    /// Has everything so far stored, though no ticket waits for it; returns how many frames that are.
    pub fn press(&mut self) -> u64 {
        self.seal();
        let frames = self.frames.next();
        self.pressed |= self.files.is_some() && self.stored < frames;
        frames
    }

    /// How many frames are stored as the contract says.
    pub fn stored_frames(&self) -> u64 {
        self.stored
    }

    /// Whether a job would have work that a barrier waits for, or that has grown large.
    pub fn wants_writing(&self) -> bool {
        self.ticket.is_some() || self.pressed || self.waiting_bytes() >= INLINE_WRITE_BYTES
    }

    /// When what waits is to be written although nobody asks for it.
    pub fn lingers_until(&self) -> Option<Time> {
        let alone = self.files.is_some() && self.error.is_none() && !self.wants_writing();
        self.waiting_since.filter(|_| alone).map(|since| since + LINGER)
    }

    /// Writes and flushes everything, as far as nothing has failed: nobody comes after this.
    pub fn end(&mut self) {
        self.press();
        if let Some(mut job) = self.take_job() {
            job.perform();
            self.finish(job);
        }
    }

    /// Whether so much waits that it is written without being asked.
    pub fn wants_writing_now(&self) -> bool {
        self.waiting_bytes() >= INLINE_WRITE_BYTES && !self.writing
    }

    /// Bytes that wait to be written, sealed or not.
    fn waiting_bytes(&self) -> u64 {
        self.unwritten_bytes + self.building.len() as u64
    }

    /// Everything that waits to be written. Nothing while another job is out, so that tickets come back in order.
    pub fn take_job(&mut self) -> Option<Job> {
        let files = self.files.as_ref()?;
        if self.writing || !self.wants_writing() {
            return None;
        }
        let files = Arc::clone(files);
        self.seal();
        let retire = self.frames.take_retired();
        if !retire.is_empty() {
            self.remember_ends();
        }
        self.writing = true;
        self.unwritten_bytes = 0;
        self.waiting_since = None;
        let ticket = self.ticket.take();
        self.pressed = false;
        Some(Job {
            files,
            frames: std::mem::take(&mut self.unwritten),
            retire,
            flush: self.storage == Storage::Fsync,
            ticket,
            counts: WorkCounts::default(),
            result: self.error.clone().map_or(Ok(()), Err),
        })
    }

    /// Takes a performed job back; returns the last ticket it covers and whether its data is stored.
    pub fn finish(&mut self, job: Job) -> Option<(u64, bool)> {
        self.writing = false;
        add(&mut self.counts, &job.counts);
        match job.result {
            Ok(()) => self.stored += job.frames.len() as u64,
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
        self.let_go();
        self.evict(0);
        job.ticket.map(|ticket| (ticket, self.error.is_none()))
    }

    /// Hands `count` successive messages of `lane` to `each`, from `position` on: by frame, each with the first position, the frame's
    /// bytes and table, and which of the table they are.
    pub fn read_runs(
        &mut self,
        lane: LaneId,
        position: u64,
        count: u32,
        mut each: impl FnMut(u64, &Bytes, &Arc<[Slice]>, Range<u32>),
    ) -> Result<(), StoreError> {
        let (mut next, end) = (position, position + u64::from(count));
        while next < end {
            let run = |lanes: &[Lane]| lanes.get(lane.0 as usize).and_then(|lane| lane.run_from(next));
            let kept = "a model delivers only what it has appended and not trimmed";
            let mut found = run(&self.lanes).expect(kept);
            if found.frame == self.frames.next() {
                self.seal();
                found = run(&self.lanes).expect(kept);
            }
            let Read { bytes, table } = self.frame(found.frame)?;
            let most = u64::from(found.count).min(end - next) as u32;
            each(next, &bytes, &table, found.first..found.first + most);
            next += u64::from(most);
        }
        Ok(())
    }

    /// Hands the bytes of `count` successive messages of `lane` to `each` one by one, from `position` on.
    pub fn read(
        &mut self,
        lane: LaneId,
        position: u64,
        count: u32,
        mut each: impl FnMut(u64, &Bytes, Slice),
    ) -> Result<(), StoreError> {
        self.read_runs(lane, position, count, |first, bytes, table, messages| {
            for (position, index) in (first..).zip(messages) {
                each(position, bytes, table[index as usize]);
            }
        })
    }

    /// A sealed frame, from memory or read back.
    fn frame(&mut self, number: u64) -> Result<Read, StoreError> {
        let frame = self.frames.get_mut(number).expect("a message that is kept keeps its frame");
        if let Some(held) = &mut frame.held {
            return Ok(held.read(&mut self.reading));
        }
        if let Some((kept, held)) = &self.read_back
            && *kept == number
        {
            return Ok(held.clone());
        }
        let (segment, at, len) = (frame.segment, frame.at, frame.len as usize);
        let files = self.files.as_ref().expect("only a frame in a file leaves memory");
        let (mut buffer, lead) = used_again(&mut self.lent, len, at);
        let read = files.read(segment, at, &mut buffer[lead..lead + len], &mut self.counts).and_then(|()| {
            let buffer = buffer.freeze();
            let bytes = buffer.slice(lead..lead + len);
            self.lent.truncate(LENT_BUFFERS - 1);
            self.lent.push_front(buffer);
            let head = format::read_frame(&bytes, files.place_in(segment, at)).filter(|head| head.number == number);
            let table = head.and_then(|head| self.reading.of_frame(&bytes, head.records));
            let corrupt = || files.corrupt(segment, at, number);
            Ok(Read { table: table.ok_or_else(corrupt)?, bytes })
        });
        let held = read.inspect_err(|error| {
            self.error.get_or_insert_with(|| error.clone());
        })?;
        self.read_back = Some((number, held.clone()));
        Ok(held)
    }
}

/// Room for a frame that stands at `at` of its segment, and where in it: the buffer of one that nobody reads any longer, which needs no
/// zeroes, or a new one.
fn used_again(lent: &mut VecDeque<Bytes>, len: usize, at: u64) -> (BytesMut, usize) {
    let free = lent.iter().position(Bytes::is_unique).and_then(|at| lent.remove(at));
    let free = free.and_then(|bytes| bytes.try_into_mut().ok()).filter(|free| free.len() >= len + building::LINE);
    let buffer = free.unwrap_or_else(|| BytesMut::zeroed(len + building::LINE));
    let lead = building::lead(&buffer, at);
    (buffer, lead)
}

/// What a frame is to stay below: several fit into a segment.
fn frame_bytes(limits: &Limits) -> usize {
    let part = usize::try_from(limits.segment_bytes / 8).unwrap_or(FRAME_BYTES_MAX);
    part.clamp(4 << 10, FRAME_BYTES_MAX)
}

/// Keeps a buffer to be filled again.
fn keep_buffer(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if spare.len() < SPARE_BUFFERS && (FRAME_BYTES_MAX..=2 * FRAME_BYTES_MAX).contains(&buffer.capacity()) {
        buffer.clear();
        spare.push(buffer);
    }
}

fn add(to: &mut WorkCounts, more: &WorkCounts) {
    to.bytes_written += more.bytes_written;
    to.bytes_filled += more.bytes_filled;
    to.write_calls += more.write_calls;
    to.bytes_read += more.bytes_read;
    to.read_calls += more.read_calls;
    to.fsyncs += more.fsyncs;
    to.payload_copies += more.payload_copies;
    to.round_trips += more.round_trips;
}
