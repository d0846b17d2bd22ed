//! The folder of segment files: its lock, segments that begin and retire, and the job that writes frames and flushes them.
//!
//! Leaves out what is in memory, and the calls to the file system, which are the [`Disk`]'s; a job runs without the engine's lock.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use brokerlab_model::{Storage, WorkCounts};
use bytes::Bytes;

use super::disk::{Disk, DiskFile, Lock};
use super::error::StoreError;
use super::facts::StorageFacts;
use super::format::{Place, SEGMENT_HEADER, segment_header};

mod recover;

/// Slices in one call; the kernel's own bound (IOV_MAX).
const SLICES_MAX: usize = 1024;
/// A new segment is filled with zeroes in pieces of this, at multiples of it, before anything else is written there: the page cache then
/// holds it in large pieces for as long as it is used again (a page at a time costs a sixth more for each write), and a flush finds blocks
/// that were written before.
const FILL: u64 = 256 << 10;
/// Retired segments that are kept to be used again.
const SPARES_MAX: usize = 2;
/// The name of the file by which a folder is locked.
pub(super) const LOCK: &str = "lock";

/// The name of a segment's file.
pub(super) fn segment_name(segment: u64) -> String {
    format!("segment-{segment:08}.log")
}

/// The number in a segment's file name. A name that is only like one, of a copy say, is none.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

fn is_spare(name: &str) -> bool {
    name.strip_prefix("spare-").is_some_and(|rest| rest.strip_suffix(".log").is_some())
}

/// The segments of one run.
#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    flushes: bool,
    /// Of the segments that begin in this run.
    salt: u64,
    open: Mutex<Segments>,
    /// Held until the run ends.
    _lock: Lock,
}

#[derive(Clone, Debug)]
struct Segment {
    file: Arc<dyn DiskFile>,
    salt: u64,
}

#[derive(Debug, Default)]
struct Segments {
    open: BTreeMap<u64, Segment>,
    spares: Vec<(String, Arc<dyn DiskFile>)>,
    /// The new segment that is being filled, and what of it is left.
    filling: Option<(u64, Range<u64>)>,
    /// Whether the last retirement may be undone by a power cut.
    retirement_unflushed: bool,
    retired: u64,
    fresh: u64,
    recycled: u64,
}

/// The names in a folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Of segments, by number.
    pub(super) segments: BTreeMap<u64, String>,
    /// Of retired segments.
    pub(super) spares: Vec<String>,
    /// One that is none of these, nor the lock.
    pub(super) other: Option<String>,
}

/// What a folder holds.
pub(super) fn list_folder(disk: &dyn Disk) -> Result<Listing, StoreError> {
    let failed = |cause| StoreError::Folder { path: disk.dir().to_owned(), what: "listing it", cause: Arc::new(cause) };
    let mut listing = Listing::default();
    for name in disk.list().map_err(failed)? {
        match segment_number(&name) {
            Some(number) => {
                listing.segments.insert(number, name);
            }
            None if name == LOCK => {}
            None if is_spare(&name) => listing.spares.push(name),
            None => listing.other = Some(name),
        }
    }
    Ok(listing)
}

impl Files {
    /// Takes an empty folder and begins its first segment.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        flushes: bool,
        counts: &mut WorkCounts,
    ) -> Result<Self, StoreError> {
        let lock = disk.lock(LOCK)?;
        let Listing { segments, spares, other } = list_folder(&*disk)?;
        if let Some(found) = segments.into_values().chain(spares).next().or(other) {
            return Err(StoreError::NotEmpty { path: disk.dir().to_owned(), found });
        }
        let files = Self::locked(disk, segment_bytes, flushes, lock);
        files.begin(0, segment_bytes, counts)?;
        Ok(files)
    }

    /// A folder that this run has for itself.
    fn locked(disk: Arc<dyn Disk>, segment_bytes: u64, flushes: bool, lock: Lock) -> Self {
        let salt = disk.salt();
        Self { disk, segment_bytes, flushes, salt, open: Mutex::new(Segments::default()), _lock: lock }
    }

    /// What is below the folder.
    pub(super) fn facts(&self, storage: Storage) -> StorageFacts {
        self.disk.facts(storage)
    }

    /// How many segments were made new, and how many were made from retired ones.
    pub(super) fn made(&self) -> (u64, u64) {
        let segments = self.segments();
        (segments.fresh, segments.recycled)
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.open.lock().expect("no thread panics while it holds the list of segments")
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.disk.dir().join(segment_name(segment))
    }

    /// The file of a segment that has begun.
    fn get(&self, segment: u64) -> Option<Arc<dyn DiskFile>> {
        self.segments().open.get(&segment).map(|segment| Arc::clone(&segment.file))
    }

    /// Of a segment that is to begin in this run.
    pub(super) fn place(&self, segment: u64, at: u64) -> Place {
        Place { segment, at, salt: self.salt }
    }

    /// Of a segment that has begun, in this run or an earlier one.
    pub(super) fn place_in(&self, segment: u64, at: u64) -> Place {
        let salt = self.segments().open.get(&segment).map_or(self.salt, |segment| segment.salt);
        Place { segment, at, salt }
    }

    fn failed(&self, segment: u64, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.path(segment);
        move |cause| StoreError::Write { path, what, cause: Arc::new(cause) }
    }

    /// Begins a segment of `len` bytes, from a retired one when there is one. Its header comes after its name is durable: a retired
    /// segment whose old name comes back at a power cut must still be that segment.
    fn begin(&self, segment: u64, len: u64, counts: &mut WorkCounts) -> Result<Arc<dyn DiskFile>, StoreError> {
        let mut segments = self.segments();
        let name = segment_name(segment);
        let spare = if len == self.segment_bytes { segments.spares.pop() } else { None };
        let file = if let Some((old, file)) = spare {
            self.disk.rename(&old, &name).map_err(self.failed(segment, "renaming a retired segment"))?;
            segments.recycled += 1;
            segments.filling = None;
            file
        } else {
            let file = self.disk.create(&name).map_err(self.failed(segment, "making the segment"))?;
            if let Err(cause) = file.reserve(len) {
                let failed = self.failed(segment, "reserving the segment's space")(cause);
                let _ = self.disk.remove(&name);
                return Err(failed);
            }
            segments.fresh += 1;
            segments.filling = Some((segment, 0..len));
            file
        };
        self.flush_names(&mut segments, segment, counts)?;
        let failed = self.failed(segment, "writing the segment's header");
        let header = segment_header(segment, self.salt);
        let filled = fill(&mut segments, segment, &*file, header.len() as u64, counts);
        filled.and_then(|()| write_all(&*file, &mut [IoSlice::new(&header)], 0, counts)).map_err(failed)?;
        segments.open.insert(segment, Segment { file: Arc::clone(&file), salt: self.salt });
        Ok(file)
    }

    /// Makes the names durable where a power cut must not harm.
    fn flush_names(&self, segments: &mut Segments, segment: u64, counts: &mut WorkCounts) -> Result<(), StoreError> {
        if self.flushes {
            self.disk.flush_names().map_err(self.failed(segment, "flushing the folder"))?;
            counts.fsyncs += 1;
            segments.retirement_unflushed = false;
        }
        Ok(())
    }

    /// Puts a segment aside, to be used again, or removes it when enough are aside. Each is gone for good before the next one goes:
    /// a power cut never leaves an older one without a younger.
    fn retire(&self, segment: u64, counts: &mut WorkCounts) -> Result<(), StoreError> {
        let mut segments = self.segments();
        let Some(Segment { file, .. }) = segments.open.remove(&segment) else { return Ok(()) };
        if segments.retirement_unflushed {
            self.flush_names(&mut segments, segment, counts)?;
        }
        segments.retirement_unflushed = true;
        let name = segment_name(segment);
        let standard = file.len().is_ok_and(|len| len == self.segment_bytes);
        if standard && segments.spares.len() < SPARES_MAX {
            let aside = format!("spare-{:08}.log", segments.retired);
            segments.retired += 1;
            self.disk.rename(&name, &aside).map_err(self.failed(segment, "putting the segment aside"))?;
            segments.spares.push((aside, file));
            return Ok(());
        }
        self.disk.remove(&name).map_err(self.failed(segment, "removing the segment"))
    }

    /// Reads `len` bytes at `at` of a segment.
    pub(super) fn read(
        &self,
        segment: u64,
        at: u64,
        bytes: &mut [u8],
        counts: &mut WorkCounts,
    ) -> Result<(), StoreError> {
        let len = bytes.len();
        let failed = |cause| StoreError::Read { path: self.path(segment), at, len: len as u64, cause: Arc::new(cause) };
        let file = self.get(segment).ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))?;
        match read_up_to(&*file, bytes, at, counts) {
            Ok(done) if done == len => Ok(()),
            Ok(_) => Err(failed(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Err(cause) => Err(failed(cause)),
        }
    }

    /// The error for a frame that was read back damaged.
    pub(super) fn corrupt(&self, segment: u64, at: u64, frame: u64) -> StoreError {
        StoreError::Corrupt { path: self.path(segment), at, frame }
    }
}

/// Reads until `bytes` is full or the file ends; returns how many.
pub(super) fn read_up_to(file: &dyn DiskFile, bytes: &mut [u8], at: u64, counts: &mut WorkCounts) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read(&mut bytes[done..], at + done as u64) {
            Ok(0) => break,
            Ok(n) => {
                counts.read_calls += 1;
                counts.bytes_read += n as u64;
                done += n;
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(done)
}

fn write_all(
    file: &dyn DiskFile,
    mut slices: &mut [IoSlice<'_>],
    mut at: u64,
    counts: &mut WorkCounts,
) -> io::Result<()> {
    while !slices.is_empty() {
        let now = slices.len().min(SLICES_MAX);
        match file.write(&slices[..now], at) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(n) => {
                counts.write_calls += 1;
                counts.bytes_written += n as u64;
                at += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

/// Fills a new segment as far as it is about to be written.
fn fill(
    segments: &mut Segments,
    segment: u64,
    file: &dyn DiskFile,
    end: u64,
    counts: &mut WorkCounts,
) -> io::Result<()> {
    static ZEROES: [u8; FILL as usize] = [0; FILL as usize];
    while let Some((filling, left)) = &mut segments.filling
        && *filling == segment
        && left.start < end.min(left.end)
    {
        let piece = FILL.min(left.end - left.start);
        // Of these only the bytes are counted, and by themselves: they are no part of the journal.
        write_all(file, &mut [IoSlice::new(&ZEROES[..piece as usize])], left.start, &mut WorkCounts::default())?;
        counts.bytes_filled += piece;
        left.start += piece;
    }
    Ok(())
}

/// A sealed frame on its way to a file.
#[derive(Debug)]
pub(super) struct Frame {
    /// The segment it goes to.
    pub(super) segment: u64,
    /// Where in the segment it begins.
    pub(super) at: u64,
    /// The segment's length, for when it must begin.
    pub(super) segment_len: u64,
    /// The frame.
    pub(super) bytes: Bytes,
}

/// Frames to be written, and flushed when the store flushes. Run without the engine's lock.
#[derive(Debug)]
pub struct Job {
    pub(super) files: Arc<Files>,
    pub(super) frames: Vec<Frame>,
    pub(super) retire: Vec<u64>,
    pub(super) flush: bool,
    pub(super) ticket: Option<u64>,
    pub(super) counts: WorkCounts,
    pub(super) result: Result<(), StoreError>,
}

impl Job {
    /// Writes the frames, one call per run of adjacent ones, and flushes every segment that was touched. An error is kept for
    /// [`Store::finish`](super::Store::finish), never tried again.
    pub fn perform(&mut self) {
        if self.result.is_ok() {
            self.result = self.write();
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let mut from = 0;
        while from < self.frames.len() {
            let first = &self.frames[from];
            let segment = first.segment;
            let until =
                self.frames[from..].iter().position(|f| f.segment != segment).map_or(self.frames.len(), |n| from + n);
            let file = match self.files.get(segment) {
                Some(file) => file,
                None => self.files.begin(segment, first.segment_len, &mut self.counts)?,
            };
            let mut slices: Vec<_> = self.frames[from..until].iter().map(|f| IoSlice::new(&f.bytes)).collect();
            let end = first.at + slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
            let filled = fill(&mut self.files.segments(), segment, &*file, end, &mut self.counts);
            filled
                .and_then(|()| write_all(&*file, &mut slices, first.at, &mut self.counts))
                .map_err(self.files.failed(segment, "writing"))?;
            if self.flush {
                file.flush().map_err(self.files.failed(segment, "flushing"))?;
                self.counts.fsyncs += 1;
            }
            from = until;
        }
        // Last: what has to outlive these segments was written above.
        for &segment in &self.retire {
            self.files.retire(segment, &mut self.counts)?;
        }
        Ok(())
    }
}

/// Where a segment's first frame begins.
pub(super) const FIRST_FRAME: u64 = SEGMENT_HEADER as u64;
