//! Any bytes as a folder of segments: read without a panic, or refused with the file at fault; a torn tail that is cut off is gone.
//!
//! The first byte chooses how many segments, and whether their headers and checksums are made to fit first: mutated bytes that fail
//! their checksum would never get as far as the records. Leaves out stores that are open.

#![no_main]

use std::cell::RefCell;
use std::path::Path;

use brokerlab_embedded::{ScanReport, StoreError, verify};
use crc_fast::{CrcAlgorithm, checksum};
use libfuzzer_sys::fuzz_target;

const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 40;
const RECORD: u64 = 24;
/// Bytes of a message in a run before its own.
const LENGTHS: u64 = 8;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().expect("a folder"));
}

fuzz_target!(|input: (u8, &[u8])| FOLDER.with_borrow(|folder| {
    let (how, bytes) = input;
    let dir = folder.path();
    for old in std::fs::read_dir(dir).expect("the folder") {
        std::fs::remove_file(old.expect("a file").path()).expect("it is removed");
    }
    let segments = usize::from(how & 3) + 1;
    for (n, part) in bytes.chunks(bytes.len().div_ceil(segments).max(1)).enumerate() {
        let mut part = part.to_vec();
        if how & 4 != 0 {
            mend(&mut part, n as u64);
        }
        std::fs::write(dir.join(format!("segment-{n:08}.log")), part).expect("a segment");
    }
    check(dir, bytes.len() as u64 + (segments * SEGMENT_HEADER) as u64);
}));

fn check(dir: &Path, held: u64) {
    let report = match verify(dir, false) {
        Ok(report) => report,
        Err(error) => return refused(dir, &error),
    };
    bounded(&report, held);
    let cut = verify(dir, true).expect("what is read once is read twice");
    assert_eq!(cut, report);
    let whole = verify(dir, false).expect("what was cut is whole");
    assert_eq!(whole.torn, None, "nothing is torn any longer");
    assert_eq!((whole.frames, whole.messages, whole.records), (report.frames, report.messages, report.records));
}

/// No more messages than the frames have bytes for, and no more frames than the files.
fn bounded(report: &ScanReport, held: u64) {
    let least = report.frames * FRAME_HEADER as u64 + report.messages * LENGTHS + report.records * RECORD;
    assert!(least <= report.bytes && report.bytes <= held, "{report:?} in {held} bytes");
}

fn refused(dir: &Path, error: &StoreError) {
    let printed = error.to_string();
    assert!(printed.contains(&dir.join("segment-").display().to_string()), "{printed}");
    assert!(printed.contains("; "), "no remedy: {printed}");
}

/// Puts a header in front, and gives each frame, as far as its length goes, the mark, segment and checksum that it needs.
fn mend(bytes: &mut Vec<u8>, segment: u64) {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(b"BROKLAB\n");
    header[8] = 5;
    header[16..24].copy_from_slice(&segment.to_le_bytes());
    let crc = crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    bytes.splice(..0, header);
    // Without a salt.
    let mut at = SEGMENT_HEADER as u64;
    let mut rest = &mut bytes[SEGMENT_HEADER..];
    while let Some(head) = rest.first_chunk::<FRAME_HEADER>() {
        // Two bytes of length are enough here, and leave room for several frames.
        let len = usize::from(u16::from_le_bytes([head[0], head[1]]) & !7).clamp(FRAME_HEADER, rest.len() & !7);
        let (frame, after) = rest.split_at_mut(len);
        frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
        frame[8..12].copy_from_slice(&(segment as u32).to_le_bytes());
        let key = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        frame[36..40].copy_from_slice(&(u32::from_le_bytes(*b"blf2") ^ key as u32).to_le_bytes());
        let crc = crc32c(&frame[8..]) ^ (key >> 32) as u32;
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        (rest, at) = (after, at + len as u64);
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
