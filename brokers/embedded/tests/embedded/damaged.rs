//! Folders of segments with anything done to them: read, or refused with the file at fault; never a panic, never a message too many.
//!
//! Damage is done twice: to bytes as they are, which checksums catch, and to bytes whose checksums are made to fit again, which only
//! the reader's own care catches. Leaves out the kinds of damage by name, which are in `recovery`.

use std::path::Path;

use brokerlab_embedded::{Limits, Store, StoreError, verify};
use brokerlab_model::{ChannelId, ChannelRecord, LaneId, Message, Record, Storage, Token};
use crc_fast::{CrcAlgorithm, checksum};
use proptest::prelude::*;

use crate::world::folder;

const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 40;
const RECORD: u64 = 24;
/// Bytes of a message in a run before its own.
const LENGTHS: u64 = 8;
const MESSAGES: u64 = 60;
const SMALL: Limits = Limits { max_memory: 1 << 20, max_data: 1 << 30, segment_bytes: 64 << 10 };

/// The segments of a small journal, as bytes without the space that was only reserved.
fn journal() -> Vec<Vec<u8>> {
    let folder = folder();
    let mut store = Store::create(Storage::PageCache, SMALL, Some(folder.path())).expect("it opens");
    store.record(&Record::Channel(Box::new(ChannelRecord {
        channel: ChannelId(0),
        first: LaneId(0),
        lanes: 2,
        name: "orders".to_owned(),
        groups: vec!["workers".to_owned()],
        ..ChannelRecord::default()
    })));
    for position in 0..MESSAGES {
        let (token, channel, payload) = (Token(0), ChannelId(0), &[position as u8; 3000]);
        let message = Message { token, channel, key: b"key", headers: b"", payload_len: 3000, payload };
        store.append(LaneId(position as u32 % 2), position / 2, &message, true);
        store.barrier(position);
        // A frame each.
        store.press();
        if position % 3 == 2 {
            let mut job = store.take_job().expect("something waits");
            job.perform();
            store.finish(job);
        }
    }
    drop(store);
    let report = verify(folder.path(), false).expect("it is whole");
    // Each segment begins with the channel.
    assert_eq!((report.segments, report.messages, report.records), (3, MESSAGES, 3));
    (0..3).map(|n| std::fs::read(folder.path().join(name(n))).expect("a segment")).collect()
}

fn name(segment: usize) -> String {
    format!("segment-{segment:08}.log")
}

fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Makes the checksums fit again: of the header, and of each frame as far as the lengths go.
fn mend(bytes: &mut [u8], segment: u64) {
    if let Some(header) = bytes.first_chunk_mut::<SEGMENT_HEADER>() {
        header[..12].copy_from_slice(b"BROKLAB\n\x05\0\0\0");
        header[16..24].copy_from_slice(&segment.to_le_bytes());
        let crc = crc32c(&header[..60]).to_le_bytes();
        header[60..].copy_from_slice(&crc);
    }
    let salt = bytes.get(24..32).map_or(0, |salt| u64::from_le_bytes(salt.try_into().expect("eight bytes")));
    let mut at = SEGMENT_HEADER as u64;
    let mut rest = bytes.get_mut(SEGMENT_HEADER..).unwrap_or_default();
    while rest.len() >= FRAME_HEADER {
        let len = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if len < FRAME_HEADER || len > rest.len() {
            return;
        }
        let (frame, after) = rest.split_at_mut(len);
        let key = salt ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        frame[36..40].copy_from_slice(&(u32::from_le_bytes(*b"blf2") ^ key as u32).to_le_bytes());
        let crc = crc32c(&frame[8..]) ^ (key >> 32) as u32;
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        (rest, at) = (after, at + len as u64);
    }
}

/// One thing that is done to a folder.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte is another one, preferably in a header of a frame or record.
    Byte { segment: usize, at: usize, to: u8 },
    /// Eight bytes are the largest number.
    Largest { segment: usize, at: usize },
    /// A segment ends early.
    Cut { segment: usize, at: usize },
    /// A segment is anything.
    Anything { segment: usize, bytes: Vec<u8> },
    /// Two segments change places.
    Swap,
}

fn damage() -> impl Strategy<Value = Damage> {
    // The frames after the first begin at 3,176 and every 3,072 bytes.
    let at = prop_oneof![
        0..200_usize,
        (0..20_usize, 0..72_usize).prop_map(|(frame, byte)| 104 + frame * 3072 + byte),
        0..66_000_usize
    ];
    let place = || (0..3_usize, at.clone());
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|((segment, at), to)| Damage::Byte { segment, at, to }),
        2 => place().prop_map(|(segment, at)| Damage::Largest { segment, at: at & !7 }),
        2 => place().prop_map(|(segment, at)| Damage::Cut { segment, at }),
        1 => (0..3_usize, prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(segment, bytes)| Damage::Anything { segment, bytes }),
        1 => Just(Damage::Swap),
    ]
}

fn apply(damage: &Damage, segments: &mut [Vec<u8>]) {
    match damage {
        Damage::Byte { segment, at, to } => {
            if let Some(byte) = segments[*segment].get_mut(*at) {
                *byte = *to;
            }
        }
        Damage::Largest { segment, at } => {
            if let Some(bytes) = segments[*segment].get_mut(*at..at + 8) {
                bytes.fill(0xff);
            }
        }
        Damage::Cut { segment, at } => segments[*segment].truncate(*at),
        Damage::Anything { segment, bytes } => segments[*segment].clone_from(bytes),
        Damage::Swap => segments.swap(0, 1),
    }
}

/// Whatever `verify` answers holds together; its first answer is returned.
fn check(segments: &[Vec<u8>]) -> Result<u64, StoreError> {
    let folder = folder();
    for (n, bytes) in segments.iter().enumerate() {
        std::fs::write(folder.path().join(name(n)), bytes).expect("a segment");
    }
    let held: usize = segments.iter().map(Vec::len).sum();
    let report = verify(folder.path(), false).inspect_err(|error| refused(folder.path(), error))?;
    let least = report.frames * FRAME_HEADER as u64 + report.messages * LENGTHS + report.records * RECORD;
    assert!(least <= report.bytes && report.bytes <= held as u64, "{report:?} in {held} bytes");
    assert_eq!(verify(folder.path(), true).expect("what is read once is read twice"), report);
    let whole = verify(folder.path(), false).expect("what was cut is whole");
    let counts = (whole.frames, whole.messages, whole.records, whole.torn);
    assert_eq!(counts, (report.frames, report.messages, report.records, None));
    Ok(report.messages)
}

fn refused(folder: &Path, error: &StoreError) {
    let printed = error.to_string();
    assert!(printed.contains(&folder.join("segment-").display().to_string()), "{printed}");
    assert!(printed.contains("; "), "no remedy: {printed}");
}

thread_local! {
    static JOURNAL: Vec<Vec<u8>> = journal();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_folder_is_read_as_far_as_it_is_whole_or_refused(damages in prop::collection::vec(damage(), 1..4)) {
        let mut segments = JOURNAL.with(Clone::clone);
        for damage in &damages {
            apply(damage, &mut segments);
        }
        if let Ok(messages) = check(&segments) {
            prop_assert!(messages <= MESSAGES, "{} messages", messages);
        }
    }

    #[test]
    fn a_folder_that_is_wrong_with_checksums_that_fit_is_read_or_refused(damages in prop::collection::vec(damage(), 1..4)) {
        let mut segments = JOURNAL.with(Clone::clone);
        for damage in &damages {
            apply(damage, &mut segments);
        }
        for (n, bytes) in segments.iter_mut().enumerate() {
            mend(bytes, n as u64);
        }
        // Any outcome will do, as long as it holds together.
        let _ = check(&segments);
    }
}

#[test]
fn the_journal_is_whole_before_anything_is_done_to_it() {
    let segments = JOURNAL.with(Clone::clone);
    assert_eq!(check(&segments).unwrap(), MESSAGES);
    let mut mended = segments.clone();
    mended.iter_mut().enumerate().for_each(|(n, bytes)| mend(bytes, n as u64));
    assert!(mended == segments, "checksums that fit are left as they are");
}

#[test]
fn cutting_never_lengthens_a_segment_that_has_not_begun() {
    let mut segments = JOURNAL.with(Clone::clone);
    segments[0] = b"ten bytes.".to_vec();
    // Nothing says that the first segment had been stored: the second's frames are too far ahead of what was stored to say so.
    let mut at = SEGMENT_HEADER;
    while let Some(head) = segments[1].get(at..at + FRAME_HEADER) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if len == 0 {
            break;
        }
        segments[1][at + 12..at + 16].fill(0xff);
        at += len;
    }
    segments.truncate(2);
    mend(&mut segments[1], 1);
    assert_eq!(check(&segments).unwrap(), 0);
}

#[test]
fn a_frame_with_the_last_number_of_all_has_no_next_one() {
    let mut segments = JOURNAL.with(Clone::clone);
    segments.truncate(1);
    segments[0][SEGMENT_HEADER + 16..SEGMENT_HEADER + 24].fill(0xff);
    mend(&mut segments[0], 0);
    // No other frame can follow it, so the journal ends with its one message.
    assert_eq!(check(&segments).unwrap(), 1);
}
