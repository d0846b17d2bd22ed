//! The folder of segment files: its lock, segments that begin and retire, and the job that writes frames and flushes them.
//!
//! Leaves out what is in memory; a job runs without the engine's lock.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use brokerlab_model::WorkCounts;
use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::error::StoreError;
use super::format::{SEGMENT_HEADER, segment_header};

/// Slices in one call; the kernel's own bound (IOV_MAX).
const SLICES_MAX: usize = 1024;
/// Retired segments that are kept to be used again.
const SPARES_MAX: usize = 2;
const LOCK: &str = "lock";

/// The name of a segment's file.
pub(super) fn segment_name(segment: u64) -> String {
    format!("segment-{segment:08}.log")
}

/// The number in a segment's file name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    name.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok()
}

/// The segments of one run.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    segment_bytes: u64,
    flushes: bool,
    open: Mutex<Segments>,
    /// Held until the run ends; the lock goes with it.
    lock: File,
}

#[derive(Debug, Default)]
struct Segments {
    open: BTreeMap<u64, Arc<File>>,
    spares: Vec<(PathBuf, Arc<File>)>,
    retired: u64,
    fresh: u64,
    recycled: u64,
}

/// Makes the folder and locks it against other runs.
pub(super) fn lock_folder(dir: &Path) -> Result<File, StoreError> {
    let failed = |what| move |cause| StoreError::Folder { path: dir.to_owned(), what, cause: Arc::new(cause) };
    std::fs::create_dir_all(dir).map_err(failed("making the folder"))?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK))
        .map_err(failed("making its lock file"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(dir.to_owned())),
        Err(TryLockError::Error(cause)) => Err(failed("locking it")(cause)),
    }
}

/// The segments in a folder by number, and the first name that is neither a segment nor the lock.
pub(super) fn list_folder(dir: &Path) -> Result<(BTreeMap<u64, PathBuf>, Option<String>), StoreError> {
    let failed = |cause| StoreError::Folder { path: dir.to_owned(), what: "listing it", cause: Arc::new(cause) };
    let (mut segments, mut other) = (BTreeMap::new(), None);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        match segment_number(&name) {
            Some(number) => {
                segments.insert(number, dir.join(name));
            }
            None if name == LOCK => {}
            None => other = Some(name),
        }
    }
    Ok((segments, other))
}

impl Files {
    /// Takes an empty folder and begins its first segment.
    pub(super) fn create(
        dir: &Path,
        segment_bytes: u64,
        flushes: bool,
        counts: &mut WorkCounts,
    ) -> Result<Self, StoreError> {
        let lock = lock_folder(dir)?;
        let (segments, other) = list_folder(dir)?;
        let found = segments.keys().next().map(|&number| segment_name(number)).or(other);
        if let Some(found) = found {
            return Err(StoreError::NotEmpty { path: dir.to_owned(), found });
        }
        let files = Self { dir: dir.to_owned(), segment_bytes, flushes, open: Mutex::new(Segments::default()), lock };
        files.begin(0, segment_bytes, counts)?;
        Ok(files)
    }

    /// The folder's lock file, by which the file system below is asked.
    pub(super) fn probe(&self) -> &File {
        &self.lock
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
        self.dir.join(segment_name(segment))
    }

    /// The file of a segment that has begun.
    fn get(&self, segment: u64) -> Option<Arc<File>> {
        self.segments().open.get(&segment).cloned()
    }

    fn failed(&self, segment: u64, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.path(segment);
        move |cause| StoreError::Write { path, what, cause: Arc::new(cause) }
    }

    /// Begins a segment of `len` bytes, from a retired one when there is one.
    fn begin(&self, segment: u64, len: u64, counts: &mut WorkCounts) -> Result<Arc<File>, StoreError> {
        let mut segments = self.segments();
        let path = self.path(segment);
        let spare = if len == self.segment_bytes { segments.spares.pop() } else { None };
        let file = if let Some((old, file)) = spare {
            std::fs::rename(&old, &path).map_err(self.failed(segment, "renaming a retired segment"))?;
            segments.recycled += 1;
            file
        } else {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
            let file = file.map_err(self.failed(segment, "making the segment"))?;
            if let Err(cause) = preallocate(&file, len) {
                let failed = self.failed(segment, "reserving the segment's space")(cause);
                let _ = std::fs::remove_file(&path);
                return Err(failed);
            }
            segments.fresh += 1;
            Arc::new(file)
        };
        let header = segment_header(segment);
        write_all(&file, &mut [IoSlice::new(&header)], 0, counts)
            .map_err(self.failed(segment, "writing the segment's header"))?;
        if self.flushes {
            // The name must survive a power cut too.
            let flushed = File::open(&self.dir).and_then(|dir| dir.sync_all());
            flushed.map_err(self.failed(segment, "flushing the folder"))?;
            counts.fsyncs += 1;
        }
        segments.open.insert(segment, Arc::clone(&file));
        Ok(file)
    }

    /// Puts a segment aside, to be used again, or removes it when enough are aside.
    fn retire(&self, segment: u64) -> Result<(), StoreError> {
        let mut segments = self.segments();
        let Some(file) = segments.open.remove(&segment) else { return Ok(()) };
        let standard = file.metadata().is_ok_and(|meta| meta.len() == self.segment_bytes);
        if standard && segments.spares.len() < SPARES_MAX {
            let aside = self.dir.join(format!("spare-{:08}.log", segments.retired));
            segments.retired += 1;
            std::fs::rename(self.path(segment), &aside).map_err(self.failed(segment, "putting the segment aside"))?;
            segments.spares.push((aside, file));
            return Ok(());
        }
        std::fs::remove_file(self.path(segment)).map_err(self.failed(segment, "removing the segment"))
    }

    /// Reads `len` bytes at `at` of a segment.
    pub(super) fn read(
        &self,
        segment: u64,
        at: u64,
        len: usize,
        counts: &mut WorkCounts,
    ) -> Result<Vec<u8>, StoreError> {
        let failed = |cause| StoreError::Read { path: self.path(segment), at, len: len as u64, cause: Arc::new(cause) };
        let file = self.get(segment).ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))?;
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match rustix::io::pread(&file, &mut bytes[done..], at + done as u64) {
                Ok(0) => return Err(failed(io::Error::from(io::ErrorKind::UnexpectedEof))),
                Ok(n) => {
                    counts.read_calls += 1;
                    counts.bytes_read += n as u64;
                    done += n;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        Ok(bytes)
    }

    /// The error for a frame that was read back damaged.
    pub(super) fn corrupt(&self, segment: u64, at: u64, frame: u64) -> StoreError {
        StoreError::Corrupt { path: self.path(segment), at, frame }
    }
}

/// Reserves a file's space, so that a full disk shows when a segment begins and not in the middle of it.
fn preallocate(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => file.set_len(len),
        Err(errno) => Err(errno.into()),
    }
}

fn write_all(file: &File, mut slices: &mut [IoSlice<'_>], mut at: u64, counts: &mut WorkCounts) -> io::Result<()> {
    while !slices.is_empty() {
        let now = slices.len().min(SLICES_MAX);
        match rustix::io::pwritev(file, &slices[..now], at) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(n) => {
                counts.write_calls += 1;
                counts.bytes_written += n as u64;
                at += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
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
            write_all(&file, &mut slices, first.at, &mut self.counts).map_err(self.files.failed(segment, "writing"))?;
            if self.flush {
                rustix::fs::fdatasync(&file)
                    .map_err(io::Error::from)
                    .map_err(self.files.failed(segment, "flushing"))?;
                self.counts.fsyncs += 1;
            }
            from = until;
        }
        // Last: what has to outlive these segments was written above.
        for &segment in &self.retire {
            self.files.retire(segment)?;
        }
        Ok(())
    }
}

/// Where a segment's first frame begins.
pub(super) const FIRST_FRAME: u64 = SEGMENT_HEADER as u64;
