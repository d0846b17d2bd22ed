//! Reads a folder of segments from the beginning: every checksum, every record; tells a torn tail from lost data.
//!
//! A frame that is damaged is a *torn tail* when nothing that was written later says that it had been stored: the machine went
//! down in the middle of a write that nobody had been promised. It is *corruption* when a later frame says so. Leaves out
//! rebuilding a model's state from what is read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use brokerlab_model::WorkCounts;

use super::disk::{Disk, SystemDisk};
use super::error::StoreError;
use super::files::{FIRST_FRAME, LOCK, list_folder, read_up_to, segment_name};
use super::format::{
    Entry, FRAME_HEADER, FrameHead, SEGMENT_HEADER, SegmentHead, VERSION, frame_begins, read_entry, read_frame,
    read_segment_header,
};

/// What a folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Segments looked at.
    pub segments: u64,
    /// Whole frames.
    pub frames: u64,
    /// Messages in them.
    pub messages: u64,
    /// Other records in them.
    pub records: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
    /// Where the journal's tail is torn, if it is: file and byte.
    pub torn: Option<(PathBuf, u64)>,
}

/// Reads a folder that no run uses and reports what it holds; a torn tail is cut off at the last whole frame when `cut` says so.
/// Every other damage is an error that names file and byte.
pub fn verify(dir: &Path, cut: bool) -> Result<ScanReport, StoreError> {
    let disk = SystemDisk::new(dir);
    let _lock = disk.lock(LOCK)?;
    let segments = list_folder(&disk)?.segments;
    let mut scan = Scan::default();
    for (&segment, name) in &segments {
        scan.segment(&disk, segment, name, |_| {})?;
    }
    if cut && let Some((path, at)) = &scan.report.torn {
        cut_tail(&disk, &segments, path, *at)?;
    }
    Ok(scan.report)
}

fn cut_tail(disk: &dyn Disk, segments: &BTreeMap<u64, String>, torn: &Path, at: u64) -> Result<(), StoreError> {
    let failed = |path: &Path, what| {
        let path = path.to_owned();
        move |cause| StoreError::Write { path, what, cause: Arc::new(cause) }
    };
    let mut from_torn = segments.values().skip_while(|name| disk.dir().join(name) != torn);
    let Some(name) = from_torn.next() else { return Ok(()) };
    let file = disk.open(name).map_err(failed(torn, "opening the torn segment"))?;
    // A segment that never began may be shorter than where its first frame would stand: cutting must not lengthen it.
    let cut = file.len().and_then(|len| file.truncate(at.min(len)));
    cut.map_err(failed(torn, "cutting the torn tail"))?;
    for later in from_torn {
        disk.remove(later).map_err(failed(&disk.dir().join(later), "removing a segment after the torn one"))?;
    }
    Ok(())
}

/// Where reading stopped: what comes later may show that it was no end.
#[derive(Debug)]
struct Stop {
    path: PathBuf,
    at: u64,
    /// The number of the frame that should be there.
    expected: u64,
}

#[derive(Debug, Default)]
struct Scan {
    report: ScanReport,
    last: Option<u64>,
    stop: Option<Stop>,
}

impl Scan {
    fn segment(
        &mut self,
        disk: &dyn Disk,
        segment: u64,
        name: &str,
        mut each: impl FnMut(Entry<'_>),
    ) -> Result<(), StoreError> {
        if let Some(last) = self.last
            && segment != last + 1
        {
            return Err(StoreError::Missing(disk.dir().join(segment_name(last + 1))));
        }
        self.last = Some(segment);
        self.report.segments += 1;
        let path = &disk.dir().join(name);
        let bytes = read_whole(disk, name, path)?;
        let headed = check_header(&bytes, segment, path)?;
        let mut at = FIRST_FRAME as usize;
        while headed && self.report.torn.is_none() {
            let Some(head) = bytes.get(at..).and_then(|rest| read_frame(rest, segment)) else { break };
            if !self.continues(&head)? {
                break;
            }
            self.records(&bytes[at..at + head.len as usize], &head, &mut each)
                .ok_or_else(|| corrupt(path, at, &head))?;
            at += head.len as usize;
            self.stop = Some(Stop { path: path.to_owned(), at: at as u64, expected: head.number.saturating_add(1) });
        }
        self.rest(segment, path, &bytes, at)
    }

    /// Whether a whole frame is the next one. If it is a later one, frames are missing before it.
    fn continues(&mut self, head: &FrameHead) -> Result<bool, StoreError> {
        let Some(stop) = &self.stop else { return Ok(true) };
        if head.number == stop.expected {
            return Ok(true);
        }
        self.judge(head)?;
        Ok(false)
    }

    /// A whole frame after the place where reading stopped: loss if it says that what is missing had been stored, else a torn tail.
    fn judge(&mut self, head: &FrameHead) -> Result<(), StoreError> {
        let Some(stop) = &self.stop else { return Ok(()) };
        if head.stored > stop.expected {
            return Err(StoreError::Corrupt { path: stop.path.clone(), at: stop.at, frame: stop.expected });
        }
        self.report.torn.get_or_insert_with(|| (stop.path.clone(), stop.at));
        Ok(())
    }

    /// What follows the last whole frame of a segment: nothing, the remains of an earlier life, or a torn frame.
    fn rest(&mut self, segment: u64, path: &Path, bytes: &[u8], from: usize) -> Result<(), StoreError> {
        if self.stop.is_none() {
            self.stop = Some(Stop { path: path.to_owned(), at: from as u64, expected: 0 });
        }
        for at in (from..bytes.len().saturating_sub(FRAME_HEADER)).step_by(8) {
            if let Some(head) = read_frame(&bytes[at..], segment) {
                self.judge(&head)?;
            }
        }
        if bytes.get(from..).is_some_and(|rest| frame_begins(rest, segment)) {
            self.report.torn.get_or_insert_with(|| (path.to_owned(), from as u64));
        }
        Ok(())
    }

    fn records(&mut self, frame: &[u8], head: &FrameHead, each: &mut impl FnMut(Entry<'_>)) -> Option<()> {
        let mut at = FRAME_HEADER;
        for _ in 0..head.records {
            let (entry, next) = read_entry(frame, at)?;
            match entry {
                Entry::Message { .. } => self.report.messages += 1,
                Entry::Record(_) | Entry::Trimmed { .. } | Entry::GivenOut { .. } => self.report.records += 1,
            }
            each(entry);
            at = next;
        }
        self.report.frames += 1;
        self.report.bytes += u64::from(head.len);
        Some(())
    }
}

fn corrupt(path: &Path, at: usize, head: &FrameHead) -> StoreError {
    StoreError::Corrupt { path: path.to_owned(), at: at as u64, frame: head.number }
}

fn read_whole(disk: &dyn Disk, name: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = disk.open(name)?;
        let mut bytes = vec![0; file.len()? as usize];
        let done = read_up_to(&*file, &mut bytes, 0, &mut WorkCounts::default())?;
        bytes.truncate(done);
        Ok(bytes)
    };
    read().map_err(|cause| StoreError::Read { path: path.to_owned(), at: 0, len: 0, cause: Arc::new(cause) })
}

/// Whether the segment has begun. A header that was never written, or is still that of an earlier life, means that it has not.
fn check_header(bytes: &[u8], segment: u64, path: &Path) -> Result<bool, StoreError> {
    let Some(header) = bytes.first_chunk::<SEGMENT_HEADER>() else { return Ok(false) };
    match read_segment_header(header) {
        SegmentHead::Segment(number) => Ok(number == segment),
        SegmentHead::Unwritten => Ok(false),
        SegmentHead::OtherVersion(found) => {
            Err(StoreError::Version { path: path.to_owned(), found, expected: VERSION })
        }
        SegmentHead::Damaged => Err(StoreError::Header(path.to_owned())),
    }
}
