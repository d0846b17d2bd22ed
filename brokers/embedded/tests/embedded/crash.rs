//! A store that is opened again after a power cut, a kill or a failed call: nothing acknowledged is lost, nothing wrong is served.
//!
//! First at random on a simulated disk, then one named case after another. Leaves out models, and damage to folders that nobody
//! opens again, which is in `damaged` and `recovery`.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use brokerlab_embedded::store::disk::Fault;
use brokerlab_embedded::store::trial::{Tally, run, run_with_more};
use brokerlab_embedded::store::{Entry, SimulatedDisk};
use brokerlab_embedded::{Disk, Limits, Store, StoreError, SystemDisk, verify};
use brokerlab_model::{ChannelId, LaneId, Message, Record, Storage, Token, WorkCounts};

use crate::world::folder;

const SMALL: Limits = Limits { max_memory: 1 << 20, max_data: 1 << 30, segment_bytes: 4 << 10 };
/// Bytes of a frame with one message of 100 bytes: 40 + 24 + 100, padded to 8.
const FRAME: u64 = 168;

fn trials(seeds: std::ops::Range<u64>, storage: Storage) -> Tally {
    let mut all = Tally::default();
    for seed in seeds {
        all.add(&run(seed, storage).unwrap_or_else(|broken| panic!("{broken}")));
    }
    all
}

#[test]
fn nothing_acknowledged_is_lost_at_a_power_cut_and_nothing_wrong_is_served() {
    let tally = trials(0..1_500, Storage::Fsync);
    assert!(tally.cuts >= 2_000 && tally.kills >= 500, "{tally:?}");
    // A test that never gets far, or never breaks off in the middle, would prove nothing.
    assert!(tally.acknowledged > 10_000 && tally.within_a_call > 1_500 && tally.faults > 200, "{tally:?}");
    assert!(tally.rotten > 1_000 && tally.refused > 100, "{tally:?}");
}

#[test]
fn nothing_acknowledged_is_lost_at_a_kill_where_nothing_is_flushed() {
    let tally = trials(0..500, Storage::PageCache);
    assert!(tally.kills >= 1_000 && tally.cuts == 0, "{tally:?}");
    assert!(tally.acknowledged > 3_000 && tally.within_a_call > 500, "{tally:?}");
}

#[test]
fn a_crash_in_the_middle_of_a_compaction_loses_nothing_and_brings_nothing_back() {
    let mut all = Tally::default();
    for (seeds, storage) in [(0..1_500, Storage::Fsync), (0..500, Storage::PageCache)] {
        for seed in seeds {
            all.add(&run_with_more(seed, storage).unwrap_or_else(|broken| panic!("with more: {broken}")));
        }
    }
    assert!(all.cuts >= 2_000 && all.kills >= 1_500 && all.compactions > 10_000, "{all:?}");
    assert!(all.acknowledged > 10_000 && all.recovered > 10_000 && all.within_a_call > 1_500, "{all:?}");
}

#[test]
fn what_an_earlier_life_left_in_a_segment_is_no_torn_frame() {
    // In these, bytes behind the last frame of a segment that was used again look like the beginning of one.
    for seed in [15_657, 35_228, 44_790, 56_608, 68_405, 98_952, 108_654, 153_878] {
        trials(seed..seed + 1, Storage::Fsync);
    }
    trials(107_715..107_716, Storage::PageCache);
    trials(112_455..112_456, Storage::PageCache);
}

#[test]
fn a_trial_is_the_same_each_time() {
    assert_eq!(run(7, Storage::Fsync).unwrap(), run(7, Storage::Fsync).unwrap());
}

fn append(store: &mut Store, lane: u32, position: u64) {
    let (token, channel, payload) = (Token(0), ChannelId(0), &[position as u8; 100]);
    let message = Message { token, channel, key: b"", headers: b"", payload_len: 100, payload };
    store.append(LaneId(lane), position, &message, true);
}

/// Appends positions, one frame each, and stores them; whether that went well.
fn store_all(store: &mut Store, lane: u32, positions: std::ops::Range<u64>) -> bool {
    let mut stored = true;
    for position in positions {
        append(store, lane, position);
        store.barrier(position);
        stored &= write_all(store);
    }
    stored
}

fn write_all(store: &mut Store) -> bool {
    let mut job = store.take_job().expect("a ticket waits");
    job.perform();
    store.finish(job).is_some_and(|(_, stored)| stored)
}

fn simulated() -> Arc<SimulatedDisk> {
    Arc::new(SimulatedDisk::new(1))
}

fn on(disk: &Arc<SimulatedDisk>) -> Arc<dyn Disk> {
    Arc::clone(disk) as Arc<dyn Disk>
}

fn reopen(disk: &Arc<SimulatedDisk>) -> Result<Store, StoreError> {
    Ok(Store::open(Storage::Fsync, SMALL, on(disk), |_| {})?.0)
}

fn check(store: &mut Store, lane: u32, positions: std::ops::Range<u64>) {
    assert_eq!(store.positions(LaneId(lane)), positions, "lane {lane}");
    let (mut next, count) = (positions.start, (positions.end - positions.start) as u32);
    let read = store.read(LaneId(lane), positions.start, count, |position, bytes, slice| {
        assert_eq!(position, next);
        let at = slice.at as usize;
        assert_eq!(bytes[at..at + slice.payload_len as usize], [position as u8; 100]);
        next += 1;
    });
    read.expect("it is read back");
    assert_eq!(next, positions.end);
}

fn segment(dir: &Path, number: u64) -> std::path::PathBuf {
    dir.join(format!("segment-{number:08}.log"))
}

#[test]
fn a_store_goes_on_where_it_ended() {
    let folder = folder();
    let disk = || Arc::new(SystemDisk::new(folder.path()));
    let mut store = Store::create(Storage::Fsync, SMALL, Some(folder.path())).unwrap();
    store.record(&Record::Committed { lane: LaneId(0), group: 0, position: 3 });
    assert!(store_all(&mut store, 0, 0..10));
    drop(store);

    let mut seen = Vec::new();
    let (mut store, report) = Store::open(Storage::Fsync, SMALL, disk(), |entry| match entry {
        Entry::Message { position, payload, .. } => seen.push((position, payload.unwrap().len())),
        Entry::Record(record) => assert_eq!(record, Record::Committed { lane: LaneId(0), group: 0, position: 3 }),
        Entry::Trimmed { .. }
        | Entry::GivenOut { .. }
        | Entry::Retired { .. }
        | Entry::Compacted { .. }
        | Entry::Ended { .. } => {
            panic!("nothing was trimmed or compacted, no channel made")
        }
    })
    .unwrap();
    assert_eq!(seen, (0..10).map(|position| (position, 100)).collect::<Vec<_>>());
    assert_eq!((report.segments, report.frames, report.messages, report.torn), (1, 10, 10, None));
    // The folder, and the one segment, in which the last frame is written once more below its header.
    let WorkCounts { fsyncs, write_calls, bytes_written, .. } = store.counts();
    assert_eq!((fsyncs, write_calls, bytes_written), (2, 2, 64 + FRAME));
    check(&mut store, 0, 0..10);
    assert!(store_all(&mut store, 0, 10..30));
    check(&mut store, 0, 0..30);
    drop(store);

    // The second segment was begun by the second run; what outlives the first one stands in it again.
    let report = verify(folder.path(), false).unwrap();
    assert_eq!((report.segments, report.messages, report.records, report.torn), (2, 30, 2, None));
    let (mut store, _) = Store::open(Storage::PageCache, SMALL, disk(), |_| {}).unwrap();
    check(&mut store, 0, 0..30);
}

#[test]
fn an_empty_folder_is_opened_like_a_new_one_and_memory_opens_nothing() {
    let disk = simulated();
    let mut store = reopen(&disk).unwrap();
    assert!(store_all(&mut store, 0, 0..3));
    drop(store);
    check(&mut reopen(&disk).unwrap(), 0, 0..3);

    let untouched = simulated();
    let (store, report) = Store::open(Storage::Memory, SMALL, on(&untouched), |_| {}).unwrap();
    assert_eq!((report.segments, store.positions(LaneId(0))), (0, 0..0));
    assert_eq!(untouched.operations(), 0);
}

#[test]
fn a_folder_in_use_is_not_opened() {
    let disk = simulated();
    let running = reopen(&disk).unwrap();
    assert!(matches!(reopen(&disk), Err(StoreError::Locked(_))));
    drop(running);
    reopen(&disk).unwrap();
}

#[test]
fn a_lane_goes_on_at_its_end_when_all_its_messages_are_gone() {
    let disk = simulated();
    let mut store = Store::create_on(Storage::Fsync, SMALL, on(&disk)).unwrap();
    assert!(store_all(&mut store, 1, 0..5));
    // Lane 0 fills segments; lane 1 is trimmed only after the second one began.
    assert!(store_all(&mut store, 0, 0..30));
    store.trim(LaneId(1), 5);
    store.trim(LaneId(0), 28);
    assert!(store_all(&mut store, 0, 30..31));
    drop(store);
    let names: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["lock", "segment-00000001.log", "spare-00000000.log"]);

    let disk = Arc::new(disk.cut(1));
    let mut store = reopen(&disk).unwrap();
    assert_eq!(store.positions(LaneId(1)), 5..5);
    assert!(store_all(&mut store, 1, 5..6));
    check(&mut store, 1, 5..6);
}

/// Stores on while the first segment is retired and then used again; says up to where it went well, until the machine ends.
fn retire_and_begin(disk: &Arc<SimulatedDisk>, ends_after: u64) -> u64 {
    let mut store = Store::create_on(Storage::Fsync, SMALL, on(disk)).expect("it opens");
    assert!(store_all(&mut store, 0, 0..47));
    store.trim(LaneId(0), 30);
    disk.end_after(ends_after);
    (47..80).find(|&position| !store_all(&mut store, 0, position..position + 1)).unwrap_or(80)
}

#[test]
fn the_machine_may_end_in_any_call_that_retires_a_segment_or_begins_one_again() {
    let mut ends_after = 0;
    loop {
        let mut ended = false;
        for seed in 0..40 {
            let disk = Arc::new(SimulatedDisk::new(seed));
            let stored = retire_and_begin(&disk, ends_after);
            ended |= disk.has_ended();
            let disk = Arc::new(disk.cut(seed));
            let mut store = reopen(&disk).unwrap_or_else(|error| panic!("call {ends_after}, seed {seed}: {error}"));
            let Range { start, end } = store.positions(LaneId(0));
            assert!(
                start <= 30 && end >= stored,
                "call {ends_after}, seed {seed}: {start}..{end}, {stored} were stored"
            );
            check(&mut store, 0, start..end);
        }
        if !ended {
            break;
        }
        ends_after += 1;
    }
    assert!(ends_after > 66, "a write and a flush for each of 33 frames, and more: {ends_after}");
}

#[test]
fn a_failed_flush_is_not_tried_again_and_what_it_covered_is_not_acknowledged() {
    let mut recovered = [0; 6];
    for seed in 0..100 {
        let disk = Arc::new(SimulatedDisk::new(seed));
        let mut store = Store::create_on(Storage::Fsync, SMALL, on(&disk)).unwrap();
        assert!(store_all(&mut store, 0, 0..3));
        disk.plan(Fault::Flush, 0);
        assert!(!store_all(&mut store, 0, 3..4));
        let error = store.error().expect("it is kept").to_string();
        assert!(error.contains("flushing failed") && error.contains("nothing more is taken"), "{error}");
        let operations = disk.operations();
        assert!(!store_all(&mut store, 0, 4..5), "nothing after it is stored either");
        assert_eq!(disk.operations(), operations, "nor even tried");
        drop(store);

        // The process starts again on the same machine: what memory shows may not be on the device. What is served now stays.
        let disk = Arc::new(disk.kill());
        let mut store = reopen(&disk).unwrap();
        let end = store.positions(LaneId(0)).end;
        recovered[end as usize] += 1;
        assert!(store_all(&mut store, 0, end..end + 2));
        let disk = Arc::new(disk.cut(seed));
        check(&mut reopen(&disk).unwrap(), 0, 0..end + 2);
    }
    assert!(recovered[3] > 10 && recovered[4] > 10, "with and without the message in doubt: {recovered:?}");
}

#[test]
fn a_full_disk_stops_the_store_and_says_so() {
    let disk = simulated();
    let mut store = Store::create_on(Storage::Fsync, SMALL, on(&disk)).unwrap();
    disk.plan(Fault::Space, 0);
    assert!(store_all(&mut store, 0, 0..24), "the first segment was reserved");
    assert!(!store_all(&mut store, 0, 24..25), "the second one was not");
    let error = store.error().expect("it is kept").to_string();
    assert!(error.contains("reserving the segment's space failed") && error.contains("free space"), "{error}");
    drop(store);
    let disk = Arc::new(disk.cut(1));
    check(&mut reopen(&disk).unwrap(), 0, 0..24);
}

#[test]
fn a_device_that_cannot_be_read_is_an_error_and_nothing_is_cut() {
    let disk = simulated();
    let mut store = Store::create_on(Storage::Fsync, SMALL, on(&disk)).unwrap();
    assert!(store_all(&mut store, 0, 0..30));
    drop(store);
    let disk = Arc::new(disk.kill());
    let before = disk.files();
    disk.plan(Fault::Read, 1);
    let error = reopen(&disk).unwrap_err();
    assert!(matches!(error, StoreError::Read { .. }), "{error}");
    assert_eq!(disk.files(), before);
    check(&mut reopen(&disk).unwrap(), 0, 0..30);
}

#[test]
fn damage_in_the_middle_is_refused_with_file_and_position_and_left_alone() {
    let disk = simulated();
    let mut store = Store::create_on(Storage::Fsync, SMALL, on(&disk)).unwrap();
    assert!(store_all(&mut store, 0, 0..30));
    drop(store);
    let before = disk.files();
    assert!(disk.rot("segment-00000000.log", 64 + 5 * FRAME + 90, 4));
    let error = reopen(&disk).unwrap_err().to_string();
    assert!(error.contains("segment-00000000.log: the frame at byte 904 (number 5) is damaged"), "{error}");
    assert_eq!(disk.files(), before);
}

#[test]
fn segments_that_are_empty_or_twice_there_are_no_part_of_the_journal() {
    let folder = folder();
    let open = |each: &mut dyn FnMut()| {
        let disk = Arc::new(SystemDisk::new(folder.path()));
        Store::open(Storage::PageCache, SMALL, disk, |_| each())
    };
    let mut store = Store::create(Storage::PageCache, SMALL, Some(folder.path())).unwrap();
    assert!(store_all(&mut store, 0, 0..30));
    drop(store);
    std::fs::copy(segment(folder.path(), 1), segment(folder.path(), 2)).unwrap();
    std::fs::write(segment(folder.path(), 3), "").unwrap();
    let mut entries = 0;
    let (mut store, _) = open(&mut || entries += 1).unwrap();
    assert_eq!(entries, 30);
    check(&mut store, 0, 0..30);
    drop(store);
    assert!(!segment(folder.path(), 2).exists() && !segment(folder.path(), 3).exists());

    std::fs::write(segment(folder.path(), 0), "").unwrap();
    let error = open(&mut || {}).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { at: 64, frame: 0, .. }), "{error}");
}

#[test]
fn a_segment_that_was_written_but_never_promised_may_be_missing() {
    let disk = simulated();
    let mut store = Store::create_on(Storage::Fsync, SMALL, on(&disk)).unwrap();
    assert!(store_all(&mut store, 0, 0..3));
    for position in 3..80 {
        append(&mut store, 0, position);
        store.barrier(position);
        store.press();
    }
    assert!(write_all(&mut store));
    drop(store);
    // One job wrote three segments and nothing says that any of them was stored.
    disk.remove("segment-00000002.log").unwrap();
    let mut store = reopen(&disk).unwrap();
    let end = store.positions(LaneId(0)).end;
    assert!((24..80).contains(&end), "{end}");
    check(&mut store, 0, 0..end);
    assert!(store_all(&mut store, 0, end..90));
    drop(store);
    check(&mut reopen(&disk).unwrap(), 0, 0..90);
}
