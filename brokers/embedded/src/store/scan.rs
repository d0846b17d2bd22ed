//! Reads a folder of segments from the beginning: every checksum, every record; tells a torn tail from lost data.
//!
//! A frame that is damaged is a *torn tail* when nothing that was written later says that it had been stored: the machine went
//! down in the middle of a write that nobody had been promised. It is *corruption* when a later frame says so. The same holds for a
//! segment that is missing between others; the oldest one that was still needed must be there. Leaves out what is made of what is read.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use brokerlab_model::WorkCounts;

use super::disk::{Disk, SystemDisk};
use super::error::StoreError;
use super::files::{FIRST_FRAME, LOCK, list_folder, read_up_to, segment_name};
use super::format::{
    Entry, FRAME_HEADER, FrameHead, Place, SEGMENT_HEADER, SegmentHead, VERSION, frame_begins, read_entries,
    read_frame, read_segment_header,
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
    let report = scan(&disk, &segments, &mut WorkCounts::default(), &mut Unseen)?.report;
    if cut && let Some((path, at)) = &report.torn {
        cut_tail(&disk, &segments, path, *at)?;
    }
    Ok(report)
}

/// Takes what is read, in order.
pub(super) trait Visit {
    /// A whole frame, which is the next one. False when it can't be.
    fn frame(&mut self, found: &Found) -> bool;
    /// What a record says. False when it contradicts what came before.
    fn entry(&mut self, entry: Entry<'_>) -> bool;
    /// The frame's records have all come.
    fn end(&mut self);
}

/// Nobody looks.
struct Unseen;

impl Visit for Unseen {
    fn frame(&mut self, _: &Found) -> bool {
        true
    }

    fn entry(&mut self, _: Entry<'_>) -> bool {
        true
    }

    fn end(&mut self) {}
}

/// Where a whole frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its segment.
    pub(super) segment: u64,
    /// Where in the segment it begins.
    pub(super) at: u64,
    /// Its length in bytes.
    pub(super) len: u32,
    /// Its number.
    pub(super) number: u64,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Scanned {
    /// What the folder holds.
    pub(super) report: ScanReport,
    /// Segment and byte where the last whole frame of the journal ends; none without a whole frame.
    pub(super) end: Option<(u64, u64)>,
    /// Of each segment that has begun.
    pub(super) salts: BTreeMap<u64, u64>,
    /// The last frames, as far as no frame says that they were stored.
    pub(super) unproven: VecDeque<Found>,
}

/// Reads a folder's segments in order.
pub(super) fn scan(
    disk: &dyn Disk,
    segments: &BTreeMap<u64, String>,
    counts: &mut WorkCounts,
    visit: &mut impl Visit,
) -> Result<Scanned, StoreError> {
    let mut scan = Scan {
        disk,
        counts,
        report: ScanReport::default(),
        last: None,
        stop: None,
        begun: None,
        missing: None,
        end: None,
        salt: 0,
        salts: BTreeMap::new(),
        unproven: VecDeque::new(),
        retired: 0,
    };
    for (&segment, name) in segments {
        scan.segment(segment, name, visit)?;
    }
    if segments.keys().next().is_some_and(|&first| first > scan.retired) {
        return Err(StoreError::Missing(disk.dir().join(segment_name(scan.retired))));
    }
    let torn = scan.report.torn.or(scan.begun);
    let Scan { end, salts, unproven, .. } = scan;
    Ok(Scanned { report: ScanReport { torn, ..scan.report }, end, salts, unproven })
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

struct Scan<'a> {
    disk: &'a dyn Disk,
    counts: &'a mut WorkCounts,
    report: ScanReport,
    last: Option<u64>,
    stop: Option<Stop>,
    /// Where a frame seems to have begun behind the last whole one.
    begun: Option<(PathBuf, u64)>,
    /// The first segment that should be there and is not.
    missing: Option<u64>,
    end: Option<(u64, u64)>,
    /// Of the last segment that has begun: one of which the beginning is lost was most likely written in the same run.
    salt: u64,
    salts: BTreeMap<u64, u64>,
    unproven: VecDeque<Found>,
    /// Segments below may be gone.
    retired: u64,
}

impl Scan<'_> {
    fn segment(&mut self, segment: u64, name: &str, visit: &mut impl Visit) -> Result<(), StoreError> {
        if let Some(last) = self.last.replace(segment)
            && segment != last + 1
        {
            self.missing.get_or_insert(last + 1);
        }
        self.report.segments += 1;
        let path = &self.disk.dir().join(name);
        let bytes = read_whole(self.disk, name, path, self.counts)?;
        let salt = check_header(&bytes, segment, path)?;
        let headed = salt.is_some();
        if let Some(salt) = salt {
            self.salt = salt;
            self.salts.insert(segment, salt);
        }
        let salt = self.salt;
        let mut at = FIRST_FRAME as usize;
        while headed && self.missing.is_none() && self.report.torn.is_none() {
            let place = Place { segment, at: at as u64, salt };
            let Some(head) = bytes.get(at..).and_then(|rest| read_frame(rest, place)) else { break };
            if !self.continues(&head)? {
                break;
            }
            let found = Found { segment, at: at as u64, len: head.len, number: head.number };
            self.frame(&bytes[at..at + head.len as usize], &head, &found, visit)
                .ok_or_else(|| StoreError::Corrupt { path: path.clone(), at: at as u64, frame: head.number })?;
            at += head.len as usize;
            self.stop = Some(Stop { path: path.clone(), at: at as u64, expected: head.number.saturating_add(1) });
            self.end = Some((segment, at as u64));
            self.begun = None;
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
            let missing = self.missing.map(|segment| StoreError::Missing(self.disk.dir().join(segment_name(segment))));
            let corrupt = || StoreError::Corrupt { path: stop.path.clone(), at: stop.at, frame: stop.expected };
            return Err(missing.unwrap_or_else(corrupt));
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
            if let Some(head) = read_frame(&bytes[at..], Place { segment, at: at as u64, salt: self.salt }) {
                self.judge(&head)?;
            }
        }
        if bytes.get(from..).is_some_and(|rest| frame_begins(rest, segment)) {
            // What an earlier life left may look like this. It is a torn frame only if the journal does not go on behind it.
            self.begun.get_or_insert_with(|| (path.to_owned(), from as u64));
        }
        Ok(())
    }

    /// Hands a whole frame on; none when it is not what it says.
    fn frame(&mut self, frame: &[u8], head: &FrameHead, found: &Found, visit: &mut impl Visit) -> Option<()> {
        visit.frame(found).then_some(())?;
        let Self { report, retired, .. } = self;
        read_entries(frame, head.records, |entry| {
            if let Entry::Retired { below } = entry {
                *retired = below.max(*retired);
            }
            match entry {
                Entry::Message { .. } => report.messages += 1,
                Entry::Record(_)
                | Entry::Trimmed { .. }
                | Entry::GivenOut { .. }
                | Entry::Retired { .. }
                | Entry::Compacted { .. }
                | Entry::Ended { .. } => report.records += 1,
            }
            visit.entry(entry)
        })?;
        visit.end();
        self.report.frames += 1;
        self.report.bytes += u64::from(head.len);
        self.unproven.push_back(*found);
        while self.unproven.front().is_some_and(|first| first.number < head.stored) {
            self.unproven.pop_front();
        }
        Some(())
    }
}

fn read_whole(disk: &dyn Disk, name: &str, path: &Path, counts: &mut WorkCounts) -> Result<Vec<u8>, StoreError> {
    let mut read = || -> io::Result<Vec<u8>> {
        let file = disk.open(name)?;
        let mut bytes = vec![0; file.len()? as usize];
        let done = read_up_to(&*file, &mut bytes, 0, counts)?;
        bytes.truncate(done);
        Ok(bytes)
    };
    read().map_err(|cause| StoreError::Read { path: path.to_owned(), at: 0, len: 0, cause: Arc::new(cause) })
}

/// The segment's salt, if it has begun. A header that was never written, or is still that of an earlier life, means that it has not.
fn check_header(bytes: &[u8], segment: u64, path: &Path) -> Result<Option<u64>, StoreError> {
    let Some(header) = bytes.first_chunk::<SEGMENT_HEADER>() else { return Ok(None) };
    match read_segment_header(header) {
        SegmentHead::Segment { number, salt } => Ok((number == segment).then_some(salt)),
        SegmentHead::Unwritten => Ok(None),
        SegmentHead::OtherVersion(found) => {
            Err(StoreError::Version { path: path.to_owned(), found, expected: VERSION })
        }
        SegmentHead::Damaged => Err(StoreError::Header(path.to_owned())),
    }
}
