//! Folders that are damaged, foreign, in use or in the way: each is told apart, by file and byte.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use brokerlab_embedded::store::Entry;
use brokerlab_embedded::{BackendUrl, Limits, OpenError, Place, Store, StoreError, SystemDisk, open, verify};
use brokerlab_model::{ChannelId, LaneId, Message, Record, Storage, Time, Token};
use crc_fast::{CrcAlgorithm, checksum};

use crate::world::{contract, folder};

/// Bytes of a frame with one message of 100 bytes: 40 + 24 + 100, padded to 8.
const FRAME: u64 = 168;
const HEADER: u64 = 64;
const SMALL: Limits = Limits { max_memory: 1 << 20, max_data: 1 << 30, segment_bytes: 64 << 10 };

/// `frames` frames; the last `together` were written by one job, so nothing says of any of them that it is stored.
fn journal(dir: &Path, frames: u64, together: u64) {
    let mut store = Store::create(Storage::PageCache, SMALL, Some(dir)).expect("it opens");
    for position in 0..frames {
        let (token, channel, payload) = (Token(0), ChannelId(0), &[7; 100]);
        let message = Message { token, channel, key: b"", headers: b"", payload_len: 100, payload };
        store.append(LaneId(0), position, &message, true);
        store.barrier(position);
        store.press();
        if position < frames - together || position + 1 == frames {
            let mut job = store.take_job().expect("something waits");
            job.perform();
            assert_eq!(store.finish(job), Some((position, true)));
        }
    }
}

fn segment(dir: &Path, number: u64) -> std::path::PathBuf {
    dir.join(format!("segment-{number:08}.log"))
}

fn damage(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("the byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("the byte");
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_frame() {
    let folder = folder();
    journal(folder.path(), 10, 3);
    let path = segment(folder.path(), 0);
    damage(&path, HEADER + 7 * FRAME + 100);
    let report = verify(folder.path(), true).unwrap();
    assert_eq!((report.frames, report.messages), (7, 7));
    assert_eq!(report.torn, Some((path.clone(), HEADER + 7 * FRAME)));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), HEADER + 7 * FRAME);
    let again = verify(folder.path(), false).unwrap();
    assert_eq!((again.frames, again.torn), (7, None), "what was cut is whole");
}

#[test]
fn a_frame_that_ends_in_the_middle_is_a_torn_tail() {
    let folder = folder();
    journal(folder.path(), 5, 1);
    let path = segment(folder.path(), 0);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(HEADER + 4 * FRAME + 50).unwrap();
    let report = verify(folder.path(), false).unwrap();
    assert_eq!((report.frames, report.torn), (4, Some((path, HEADER + 4 * FRAME))));
}

/// A whole frame without records that claims that a thousand frames are stored, its mark and checksum mixed with `key`.
fn claim(key: u64) -> Vec<u8> {
    let mut frame = vec![0; 40];
    frame[0] = 40;
    frame[16..24].copy_from_slice(&1_000_u64.to_le_bytes());
    frame[36..].copy_from_slice(&(u32::from_le_bytes(*b"blf2") ^ key as u32).to_le_bytes());
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, &frame[8..]) as u32 ^ (key >> 32) as u32;
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

#[test]
fn a_payload_that_is_a_whole_frame_says_nothing_of_what_was_stored() {
    let folder = folder();
    journal(folder.path(), 4, 1);
    let path = segment(folder.path(), 0);
    let bytes = std::fs::read(&path).unwrap();
    // The fifth frame's payload begins behind the frame's header and a record.
    let (torn, payload_at) = (HEADER + 4 * FRAME, HEADER + 4 * FRAME + 40 + 24);
    let salt = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
    let place = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let known_elsewhere = salt ^ place(torn);
    for key in [0, place(payload_at), salt, known_elsewhere, salt ^ place(payload_at)] {
        let mut claimed = bytes.clone();
        // Only the beginning of a fifth frame got there, with the message's payload.
        claimed[torn as usize + 8..torn as usize + 16].fill(1);
        claimed[payload_at as usize..payload_at as usize + 40].copy_from_slice(&claim(key));
        std::fs::write(&path, claimed).unwrap();
        let found = verify(folder.path(), false);
        if key == salt ^ place(payload_at) {
            // Whoever knows salt and place could have written it.
            assert!(matches!(found, Err(StoreError::Corrupt { at, frame: 4, .. }) if at == torn), "{found:?}");
        } else {
            assert_eq!(found.map(|report| report.frames).unwrap(), 4, "{key:x}");
        }
    }
}

#[test]
fn each_life_of_a_folder_mixes_its_frames_with_another_salt() {
    let folder = folder();
    journal(folder.path(), 3, 1);
    let disk = || Arc::new(SystemDisk::new(folder.path()));
    let (mut store, _) = Store::open(Storage::PageCache, SMALL, disk(), |_| {}).expect("it opens");
    let message =
        Message { token: Token(0), channel: ChannelId(0), key: b"", headers: b"", payload_len: 1, payload: b"m" };
    store.append(LaneId(0), 3, &message, true);
    store.end();
    drop(store);
    let salt = |number| std::fs::read(segment(folder.path(), number)).unwrap()[24..32].to_vec();
    assert_ne!(salt(0), salt(1));
    let mut lens = Vec::new();
    let (mut store, report) = Store::open(Storage::PageCache, SMALL, disk(), |_| {}).expect("it opens");
    store.read(LaneId(0), 0, 4, |_, _, slice| lens.push(slice.payload_len)).expect("both are read back");
    assert_eq!((report.messages, lens), (4, vec![100, 100, 100, 1]));
}

#[test]
fn damage_below_what_was_stored_is_corruption_with_file_and_byte() {
    let folder = folder();
    journal(folder.path(), 10, 1);
    damage(&segment(folder.path(), 0), HEADER + 4 * FRAME + 60);
    let error = verify(folder.path(), true).unwrap_err();
    let StoreError::Corrupt { path, at, frame } = &error else { panic!("{error}") };
    assert_eq!((path, *at, *frame), (&segment(folder.path(), 0), HEADER + 4 * FRAME, 4));
    assert!(error.to_string().contains("segment-00000000.log: the frame at byte 736 (number 4) is damaged"), "{error}");
}

#[test]
fn damage_in_an_earlier_segment_is_corruption_too_and_a_missing_one_is_named() {
    let folder = folder();
    journal(folder.path(), 1000, 1);
    let before = verify(folder.path(), false).unwrap();
    assert_eq!((before.segments, before.frames, before.torn), (3, 1000, None));
    let last_of_first = HEADER + (SMALL.segment_bytes - HEADER) / FRAME * FRAME - FRAME;
    damage(&segment(folder.path(), 0), last_of_first + 50);
    let error = verify(folder.path(), false).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { at, .. } if at == last_of_first), "{error}");

    std::fs::remove_file(segment(folder.path(), 1)).unwrap();
    let error = verify(folder.path(), false).unwrap_err();
    assert!(error.to_string().contains("segment-00000001.log"), "{error}");
}

#[test]
fn the_oldest_segment_that_is_needed_must_be_there() {
    let folder = folder();
    journal(folder.path(), 1000, 1);
    std::fs::remove_file(segment(folder.path(), 0)).unwrap();
    let named = |number| move |error: StoreError| error.to_string().contains(&format!("segment-{number:08}.log"));
    assert!(verify(folder.path(), false).is_err_and(named(0)), "nothing says that it went");
    std::fs::remove_file(segment(folder.path(), 1)).unwrap();
    assert!(verify(folder.path(), false).is_err_and(named(0)), "whatever else is missing");

    let folder = crate::world::folder();
    journal(folder.path(), 1000, 1);
    let open = || Store::open(Storage::PageCache, SMALL, Arc::new(SystemDisk::new(folder.path())), |_| {});
    let (mut store, report) = open().expect("it opens");
    assert_eq!(report.segments, 3);
    store.trim(LaneId(0), 500);
    let message =
        Message { token: Token(0), channel: ChannelId(0), key: b"", headers: b"", payload_len: 1, payload: b"m" };
    store.append(LaneId(0), 1000, &message, true);
    store.end();
    drop(store);
    assert!(!segment(folder.path(), 0).exists(), "it is needed no longer");
    let report = verify(folder.path(), false).expect("what went was said before");
    assert_eq!(report.messages, 1001 - 389);
    std::fs::remove_file(segment(folder.path(), 1)).unwrap();
    assert!(verify(folder.path(), false).is_err_and(named(1)), "this one did not go");
}

#[test]
fn a_restart_is_told_when_a_message_was_taken_whatever_was_recorded_before_it() {
    let folder = folder();
    let mut store = Store::create(Storage::PageCache, SMALL, Some(folder.path())).expect("it opens");
    let message =
        Message { token: Token(0), channel: ChannelId(0), key: b"", headers: b"", payload_len: 1, payload: b"m" };
    let settled = |position| Record::Settled { lane: LaneId(0), group: 0, position };
    for n in 0..3 {
        store.at(Time(1_000 * n));
        store.append(LaneId(0), n, &message, true);
        store.press();
        // It waits for the next frame.
        store.at(Time(1_000 * n + 1));
        store.record(&settled(n));
    }
    store.end();
    drop(store);
    let mut written = Vec::new();
    let each = |entry: Entry<'_>| {
        written.extend(if let Entry::Message { written, .. } = entry { Some(written.0) } else { None });
    };
    Store::open(Storage::PageCache, SMALL, Arc::new(SystemDisk::new(folder.path())), each).expect("it opens");
    assert_eq!(written, [0, 1_000, 2_000]);
}

#[test]
fn a_foreign_version_and_a_damaged_header_are_told_apart() {
    let folder = folder();
    journal(folder.path(), 2, 1);
    let path = segment(folder.path(), 0);
    for version in [4_u32, 9] {
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&version.to_le_bytes(), 8).unwrap();
        let error = verify(folder.path(), false).unwrap_err();
        assert!(matches!(error, StoreError::Version { found, expected: 5, .. } if found == version), "{error}");
    }
    damage(&path, 3);
    assert!(matches!(verify(folder.path(), false).unwrap_err(), StoreError::Header(_)));
}

fn opening(dir: &Path, words: &str) -> Result<(), OpenError> {
    let url = BackendUrl::parse("log").expect("a backend");
    open(&url, &contract(words), &Place { data: Some(dir) }).map(|_| ())
}

#[test]
fn a_folder_in_use_is_refused_to_everybody_else() {
    let folder = folder();
    let _running = Store::create(Storage::PageCache, SMALL, Some(folder.path())).unwrap();
    assert!(matches!(opening(folder.path(), "page-cache"), Err(OpenError::Store(StoreError::Locked(_)))));
    assert!(matches!(verify(folder.path(), false), Err(StoreError::Locked(_))));
}

#[test]
fn a_folder_that_is_not_empty_is_refused_and_left_alone() {
    let folder = folder();
    journal(folder.path(), 2, 1);
    let error = opening(folder.path(), "page-cache").unwrap_err();
    assert!(error.to_string().contains("is not empty (it holds `segment-00000000.log`)"), "{error}");
    assert_eq!(verify(folder.path(), false).unwrap().messages, 2);

    let other = self::folder();
    std::fs::write(other.path().join("notes.txt"), "mine").unwrap();
    let error = opening(other.path(), "page-cache").unwrap_err();
    assert!(error.to_string().contains("`notes.txt`") && error.to_string().contains("--data DIR"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_remedy() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = opening(&file.join("data"), "page-cache").unwrap_err();
    assert!(matches!(error, OpenError::Store(StoreError::Folder { what: "making the folder", .. })), "{error}");
    assert!(error.to_string().contains("--data DIR"), "{error}");
    let url = BackendUrl::parse("log").unwrap();
    let error = open(&url, &contract("page-cache"), &Place::default()).unwrap_err();
    assert!(matches!(error, OpenError::NoFolder(Storage::PageCache)), "{error}");
}

#[test]
fn a_flush_is_refused_on_a_file_system_in_memory() {
    let shared = Path::new("/dev/shm");
    let folder = tempfile::tempdir_in(shared).expect("Linux has /dev/shm");
    match opening(&folder.path().join("data"), "fsync") {
        Err(OpenError::Store(error @ StoreError::NoDevice { .. })) => {
            assert!(error.to_string().contains("lives in memory"), "{error}");
        }
        other => assert!(!is_tmpfs(shared), "{other:?}"),
    }
    opening(&folder.path().join("data"), "page-cache").unwrap();
}

fn is_tmpfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 == 0x0102_1994)
}
