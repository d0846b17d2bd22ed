//! Opens a folder in which a journal may be: what it holds is told in order, and the store goes on behind it.
//!
//! Leaves out what the entries mean: the caller makes a model's state of them.

use std::ops::Range;
use std::sync::Arc;

use brokerlab_model::{LaneId, Storage, WorkCounts};

use super::compact::Unsaid;
use super::disk::Disk;
use super::error::StoreError;
use super::files::{FIRST_FRAME, Files};
use super::format::Entry;
use super::scan::{Found, ScanReport, Visit};
use super::{Limits, Store};

/// Numbers of lanes, positions, frames and segments beyond these are damage, not data.
const LANES_MAX: u32 = 1 << 24;
const NUMBER_MAX: u64 = 1 << 62;

impl Store {
    /// Opens a folder with or without a journal in it. Each entry of the journal is handed to `each` in the order in which it was
    /// written; what was torn by a crash is cut off, and the store goes on behind the rest in a segment of its own. Whatever was
    /// handed out counts as stored. In memory the disk is left alone.
    ///
    /// A journal whose oldest segments were used again begins in the middle: a message may come before the record of its channel,
    /// and what outlives its segment comes again whenever a segment begins. What was trimmed comes again too, as far as it is
    /// still in a segment.
    ///
    /// After an error what was handed out is worth nothing: the folder is damaged, or could not be read to its end.
    pub fn open(
        storage: Storage,
        limits: Limits,
        disk: Arc<dyn Disk>,
        each: impl FnMut(Entry<'_>),
    ) -> Result<(Self, ScanReport), StoreError> {
        let mut counts = WorkCounts::default();
        let mut store = Self::new(storage, limits, None, counts);
        let flushes = match storage {
            Storage::Memory => return Ok((store, ScanReport::default())),
            Storage::PageCache => false,
            Storage::Fsync => true,
        };
        if flushes {
            disk.check_flush()?;
        }
        let mut replay = Replay { store: &mut store, each, frame: None, unsaid: Unsaid::default(), copies: 0 };
        let (files, scanned) = Files::open(disk, limits.segment_bytes, flushes, &mut counts, &mut replay)?;
        let unsaid = replay.unsaid;
        if let Some((segment, _)) = scanned.end {
            store.segment = segment;
            // Full, so that the next frame begins a segment.
            store.segment_at = limits.segment_bytes.max(FIRST_FRAME + 1);
        }
        store.files = Some(Arc::new(files));
        store.counts = counts;
        store.stored = store.frames.next();
        unsaid.end(&mut store);
        Ok((store, scanned.report))
    }
}

/// Rebuilds the tables of lanes and frames. While it does, the frame in hand is the one being built.
struct Replay<'a, E> {
    store: &'a mut Store,
    each: E,
    frame: Option<Found>,
    unsaid: Unsaid,
    /// How many copies the frame in hand has; other messages it has none then.
    copies: u32,
}

impl<E: FnMut(Entry<'_>)> Visit for Replay<'_, E> {
    fn frame(&mut self, found: &Found) -> bool {
        if self.frame.is_none() {
            self.store.frames.begin(found.number, found.segment);
        }
        self.frame = Some(*found);
        found.number < NUMBER_MAX && found.segment < NUMBER_MAX && found.number == self.store.frames.next()
    }

    fn entry(&mut self, entry: Entry<'_>) -> bool {
        let fits = match &entry {
            Entry::Message { lane, position, copied: true, .. } => self.copied(*lane, *position),
            Entry::Message { lane, position, .. } => self.message(*lane, *position),
            &Entry::Compacted { lane, from, to, copies } => self.compacted(lane, from..to, copies),
            &Entry::Ended { lane, end } => self.ended(lane, end),
            Entry::Record(record) => {
                self.store.frames.remember(record);
                true
            }
            Entry::Trimmed { lane, below } => self.trimmed(*lane, *below),
            Entry::Retired { .. } => true,
            Entry::GivenOut { channels, lanes } => {
                self.store.frames.give_out(*channels, *lanes);
                true
            }
        };
        if fits {
            (self.each)(entry);
        }
        fits
    }

    fn end(&mut self) {
        let Some(Found { segment, at, len, .. }) = self.frame else { return };
        let Store { frames, lanes, building, .. } = &mut *self.store;
        // Copies were found by their places already.
        for (lane, start) in building.groups.starts().filter(|_| self.copies == 0) {
            lanes[lane.0 as usize].seal(frames.next(), start);
        }
        frames.push_stored(segment, at, len, building.groups.messages());
        building.groups.clear();
        building.records = 0;
        self.copies = 0;
    }
}

impl<E> Replay<'_, E> {
    /// A lane's positions are dense from the first one that is left.
    fn message(&mut self, lane: LaneId, position: u64) -> bool {
        if lane.0 >= LANES_MAX || position >= NUMBER_MAX {
            return false;
        }
        let index = self.store.lane(lane);
        let fits = self.copies == 0 && (index.end() == position || index.may_skip_to(position));
        if fits {
            let group = self.store.open_run(lane, position);
            self.store.close_run(lane, group, 1, 1);
        }
        fits
    }

    /// A copy is found by its place in a frame of copies.
    fn copied(&mut self, lane: LaneId, position: u64) -> bool {
        let groups = &mut self.store.building.groups;
        let place = groups.messages();
        if lane.0 >= LANES_MAX || position >= NUMBER_MAX || self.copies != place {
            return false;
        }
        let group = if place == 0 { groups.begin(lane) } else { 0 };
        groups.add(group, 1);
        self.copies += 1;
        self.unsaid.copy(lane, position, self.store.frames.next(), place);
        true
    }

    fn compacted(&mut self, lane: LaneId, range: Range<u64>, copies: u32) -> bool {
        let possible = lane.0 < LANES_MAX && range.start <= range.end && range.end < NUMBER_MAX;
        possible && self.unsaid.compacted(self.store, lane, range, copies)
    }

    fn ended(&mut self, lane: LaneId, end: u64) -> bool {
        if lane.0 >= LANES_MAX || end >= NUMBER_MAX {
            return false;
        }
        self.store.lane(lane).reach(end);
        true
    }

    fn trimmed(&mut self, lane: LaneId, below: u64) -> bool {
        if lane.0 >= LANES_MAX || below >= NUMBER_MAX {
            return false;
        }
        let frame = self.store.frames.next();
        let known = self.store.lane(lane);
        if known.may_skip_to(below) {
            known.skip(below);
        }
        // What is trimmed stands in frames before.
        let fits = below <= known.end() && known.last_in(frame).is_none();
        if fits {
            self.store.trim(lane, below);
        }
        fits
    }
}
