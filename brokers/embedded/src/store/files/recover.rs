//! Makes a folder fit to go on in, once its journal was read: what was torn or never begun is removed, what was read is made durable.
//!
//! Everything that was read counts as stored from now on, so a power cut must not take it. Reading does not prove that: a process
//! may have been killed before its flush, or the flush may have failed, after which memory keeps what the device lacks and the next
//! flush finds nothing to do. So the frames of which no later frame says that they were stored are written once more.

use std::io::IoSlice;
use std::sync::Arc;

use brokerlab_model::WorkCounts;

use super::{Files, LOCK, Listing, Segment, list_folder, write_all};
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::format::{read_frame, segment_header};
use crate::store::scan::{Found, Scanned, Visit, scan};

impl Files {
    /// Takes a folder, empty or with a journal in it: reads it to `visit`, and makes it fit to go on in behind what was read. An
    /// empty one has its first segment begun.
    pub(in crate::store) fn open(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        flushes: bool,
        counts: &mut WorkCounts,
        visit: &mut impl Visit,
    ) -> Result<(Self, Scanned), StoreError> {
        let lock = disk.lock(LOCK)?;
        let listing = list_folder(&*disk)?;
        let scanned = scan(&*disk, &listing.segments, counts, visit)?;
        let files = Self::locked(disk, segment_bytes, flushes, lock);
        files.remove_leftovers(&listing, &scanned, counts)?;
        files.take_over(&listing, &scanned)?;
        if flushes {
            files.make_durable(&scanned, counts)?;
        }
        if scanned.end.is_none() {
            files.begin(0, segment_bytes, counts)?;
        }
        Ok((files, scanned))
    }

    /// Removes the segments after the last whole frame, the latest first, and retired ones: what is in them must never be taken for
    /// a part of the journal that goes on here.
    fn remove_leftovers(
        &self,
        listing: &Listing,
        scanned: &Scanned,
        counts: &mut WorkCounts,
    ) -> Result<(), StoreError> {
        let kept = scanned.end.map(|(segment, _)| segment);
        let later = listing.segments.iter().rev().take_while(|(segment, _)| Some(**segment) > kept);
        for (&segment, name) in later {
            self.disk.remove(name).map_err(self.failed(segment, "removing a segment after the last whole frame"))?;
        }
        for name in &listing.spares {
            self.disk.remove(name).map_err(self.failed(kept.unwrap_or(0), "removing a retired segment"))?;
        }
        self.flush_names(&mut self.segments(), kept.unwrap_or(0), counts)
    }

    /// Opens what is left, the last one cut behind its last whole frame.
    fn take_over(&self, listing: &Listing, scanned: &Scanned) -> Result<(), StoreError> {
        let Some((last, end)) = scanned.end else { return Ok(()) };
        let mut segments = self.segments();
        for (&segment, name) in listing.segments.range(..=last) {
            let file = self.disk.open(name).map_err(self.failed(segment, "opening the segment"))?;
            if segment == last {
                let cut = file.len().and_then(|len| if len > end { file.truncate(end) } else { Ok(()) });
                cut.map_err(self.failed(segment, "cutting the torn tail"))?;
            }
            let salt = scanned.salts.get(&segment).copied().unwrap_or(self.salt);
            segments.open.insert(segment, Segment { file, salt });
        }
        Ok(())
    }

    fn make_durable(&self, scanned: &Scanned, counts: &mut WorkCounts) -> Result<(), StoreError> {
        let mut last = None;
        for &Found { segment, at, len, number } in &scanned.unproven {
            let mut bytes = vec![0; len as usize];
            self.read(segment, at, &mut bytes, counts)?;
            let place = self.place_in(segment, at);
            if read_frame(&bytes, place).is_none_or(|head| head.number != number) {
                return Err(self.corrupt(segment, at, number));
            }
            let file = self.get(segment).expect("a segment with whole frames was opened");
            let header = segment_header(segment, place.salt);
            let mut write = |bytes: &[u8], at| {
                write_all(&*file, &mut [IoSlice::new(bytes)], at, counts)
                    .map_err(self.failed(segment, "writing what was read once more"))
            };
            if last.replace(segment) != Some(segment) {
                write(&header, 0)?;
            }
            write(&bytes, at)?;
        }
        let open = self.segments().open.clone();
        for (segment, Segment { file, .. }) in open {
            file.flush().map_err(self.failed(segment, "flushing"))?;
            counts.fsyncs += 1;
        }
        Ok(())
    }
}
