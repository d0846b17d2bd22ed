//! The store alone: what is appended is read back, whatever was written, dropped from memory, trimmed or recycled in between;
//! and its work is counted to the byte.

use std::path::Path;

use brokerlab_embedded::{Limits, Store, StoreError, verify};
use brokerlab_model::{
    ChannelId, ChannelRecord, LaneId, Message, Record, Reshape, ReshapeRecord, Storage, Token, WorkCounts,
};
use proptest::prelude::*;

use crate::world::folder;

fn message<'a>(key: &'a [u8], payload: &'a [u8]) -> Message<'a> {
    let (token, channel) = (Token(0), ChannelId(0));
    Message { token, channel, key, headers: b"hd", payload_len: payload.len() as u32, payload }
}

fn write_all(store: &mut Store) -> Option<(u64, bool)> {
    let mut job = store.take_job()?;
    job.perform();
    store.finish(job)
}

const SMALL: Limits = Limits { max_memory: 32 << 10, max_data: 1 << 20, segment_bytes: 64 << 10 };

/// The naive twin: every lane's payloads by position, nothing below what was trimmed.
#[derive(Default)]
struct Naive {
    lanes: Vec<(u64, Vec<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
enum Op {
    Append { lane: u8, size: u16, count: u8 },
    Write,
    Record,
    Trim { lane: u8, part: u8 },
    Read { lane: u8, part: u8, count: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3u8, 0..4_000u16, 1..20u8).prop_map(|(lane, size, count)| Op::Append { lane, size, count }),
        2 => Just(Op::Write),
        1 => Just(Op::Record),
        2 => (0..3u8, any::<u8>()).prop_map(|(lane, part)| Op::Trim { lane, part }),
        4 => (0..3u8, any::<u8>(), 1..30u8).prop_map(|(lane, part, count)| Op::Read { lane, part, count }),
    ]
}

fn step(store: &mut Store, naive: &mut Naive, ticket: &mut u64, op: &Op) {
    let place = |(first, kept): &(u64, Vec<Vec<u8>>), part: u8| first + kept.len() as u64 * u64::from(part) / 256;
    match *op {
        Op::Append { lane, size, count } => {
            for n in 0..count {
                let (first, kept) = &mut naive.lanes[usize::from(lane)];
                let position = *first + kept.len() as u64;
                let payload = vec![position as u8 ^ lane ^ n; usize::from(size) + usize::from(n)];
                store.append(LaneId(lane.into()), position, &message(&position.to_le_bytes(), &payload), true);
                kept.push(payload);
            }
        }
        Op::Write => {
            *ticket += 1;
            if !store.barrier(*ticket) {
                assert_eq!(write_all(store), Some((*ticket, true)));
            }
        }
        Op::Record => store.record(&Record::Committed { lane: LaneId(0), group: 0, position: *ticket }),
        Op::Trim { lane, part } => {
            let of = &mut naive.lanes[usize::from(lane)];
            let below = place(of, part);
            store.trim(LaneId(lane.into()), below);
            of.1.drain(..(below - of.0) as usize);
            of.0 = below;
        }
        Op::Read { lane, part, count } => {
            let of = &naive.lanes[usize::from(lane)];
            let position = place(of, part);
            let count = u32::from(count).min((of.0 + of.1.len() as u64 - position) as u32);
            let mut next = position;
            let read = store.read(LaneId(lane.into()), position, count, |at, bytes, slice| {
                assert_eq!(at, next);
                let key_at = slice.at as usize;
                let payload_at = key_at + usize::from(slice.key_len) + usize::from(slice.header_len);
                assert_eq!(bytes[key_at..key_at + 8], at.to_le_bytes());
                assert_eq!(&bytes[key_at + 8..payload_at], b"hd");
                let payload = &bytes[payload_at..payload_at + slice.payload_len as usize];
                assert_eq!(payload, of.1[(at - of.0) as usize], "lane {lane}, position {at}");
                next += 1;
            });
            read.expect("it is read back");
            assert_eq!(next, position + u64::from(count));
        }
    }
}

fn check_ops(storage: Storage, dir: Option<&Path>, ops: &[Op]) {
    let mut store = Store::create(storage, SMALL, dir).expect("it opens");
    let mut naive = Naive { lanes: vec![Default::default(); 3] };
    let mut ticket = 0;
    for op in ops {
        step(&mut store, &mut naive, &mut ticket, op);
    }
    for op in [Op::Write, Op::Read { lane: 0, part: 0, count: 255 }, Op::Read { lane: 1, part: 0, count: 255 }] {
        step(&mut store, &mut naive, &mut ticket, &op);
    }
    assert!(store.error().is_none());
    drop(store);
    if let Some(dir) = dir {
        let report = verify(dir, false).expect("what was written is whole");
        let live: usize = naive.lanes.iter().map(|(_, kept)| kept.len()).sum();
        assert!(report.messages >= live as u64, "{report:?} holds {live} live messages");
        assert_eq!(report.torn, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_on_files_reads_back_what_a_naive_one_keeps(ops in prop::collection::vec(op(), 1..60)) {
        let folder = folder();
        check_ops(Storage::PageCache, Some(folder.path()), &ops);
    }

    #[test]
    fn a_store_in_memory_reads_back_what_a_naive_one_keeps(ops in prop::collection::vec(op(), 1..60)) {
        check_ops(Storage::Memory, None, &ops);
    }
}

#[test]
fn a_new_segment_is_filled_ahead_of_what_is_written_and_no_farther_than_it_goes() {
    let folder = folder();
    let limits = Limits { segment_bytes: 300 << 10, ..Limits::default() };
    let mut store = Store::create(Storage::PageCache, limits, Some(folder.path())).unwrap();
    let written = |store: &Store| (store.counts().bytes_written, store.counts().bytes_filled);
    assert_eq!(written(&store), (64, 256 << 10));
    let payload = vec![1; 29_931];
    let mut framed = 0;
    for position in 0..10 {
        // A frame of 40 bytes and a message of 24 + 3 + 2 + 29,931.
        store.append(LaneId(0), position, &message(b"key", &payload), true);
        store.barrier(position);
        assert_eq!(write_all(&mut store), Some((position, true)));
        framed += 30_000;
        let filled = if 64 + framed > 256 << 10 { 300 << 10 } else { 256 << 10 };
        assert_eq!(written(&store), (64 + framed, filled), "position {position}");
    }
    let segment = std::fs::metadata(folder.path().join("segment-00000000.log")).expect("it is there");
    assert_eq!(segment.len(), 300 << 10);
    // The eleventh goes to a segment of its own.
    store.append(LaneId(0), 10, &message(b"key", &payload), true);
    store.barrier(10);
    assert_eq!(write_all(&mut store), Some((10, true)));
    assert_eq!(written(&store), (2 * 64 + 11 * 30_000, (300 << 10) + (256 << 10)));
}

#[test]
fn the_work_is_counted_to_the_byte() {
    let folder = folder();
    let mut store = Store::create(Storage::Fsync, Limits::default(), Some(folder.path())).unwrap();
    // The first segment's first piece of zeroes and its header, and the folder flushed so that its name is there after a power cut.
    let begun =
        WorkCounts { bytes_written: 64, bytes_filled: 256 << 10, write_calls: 1, fsyncs: 1, ..WorkCounts::default() };
    assert_eq!(store.counts(), begun);
    for position in 0..3 {
        store.append(LaneId(0), position, &message(b"key", &[1; 100]), true);
        store.barrier(position);
    }
    store.record(&Record::Settled { lane: LaneId(0), group: 0, position: 0 });
    assert_eq!(write_all(&mut store), Some((2, true)), "the last ticket covers the earlier ones");
    // A frame of 40 bytes, three messages of 24 + 3 + 2 + 100 and a record of 24, padded to 8: one call, one flush.
    let expected =
        WorkCounts { bytes_written: 456, write_calls: 1, fsyncs: 1, payload_copies: 3, ..WorkCounts::default() };
    assert_eq!(store.counts().since(&begun), expected);
    assert!(store.take_job().is_none(), "nothing waits");
    drop(store);
    let report = verify(folder.path(), false).unwrap();
    assert_eq!((report.segments, report.frames, report.messages, report.records), (1, 1, 3, 1));
    assert_eq!(report.bytes, 456);
}

#[test]
fn what_left_memory_is_read_back_frame_by_frame() {
    let folder = folder();
    let mut store = Store::create(Storage::PageCache, SMALL, Some(folder.path())).unwrap();
    for position in 0..40 {
        store.append(LaneId(0), position, &message(b"", &[position as u8; 4096]), true);
        store.barrier(position);
        write_all(&mut store);
    }
    assert!(store.held_bytes() <= SMALL.max_memory, "{} bytes are held", store.held_bytes());
    assert_eq!(store.counts().read_calls, 0);
    let mut seen = 0;
    store.read(LaneId(0), 0, 40, |_, _, _| seen += 1).unwrap();
    assert_eq!(seen, 40);
    let frame = (40 + 24 + 2 + 4096_u64).next_multiple_of(8);
    let counts = store.counts();
    assert!(counts.read_calls >= 33 && counts.read_calls < 40, "the newest are in memory: {counts:?}");
    assert_eq!(counts.bytes_read, counts.read_calls * frame);
}

#[test]
fn a_trimmed_segment_is_used_again_and_bookkeeping_outlives_it() {
    let folder = folder();
    let mut store = Store::create(Storage::PageCache, SMALL, Some(folder.path())).unwrap();
    let (channel, name, groups) = (ChannelId(0), "orders".to_owned(), vec!["workers".to_owned()]);
    store.record(&Record::Channel(Box::new(ChannelRecord {
        channel,
        first: LaneId(0),
        lanes: 1,
        name,
        groups,
        ..ChannelRecord::default()
    })));
    store.record(&Record::Committed { lane: LaneId(0), group: 0, position: 7 });
    for position in 0..200 {
        store.append(LaneId(0), position, &message(b"", &[0; 4096]), true);
        store.barrier(position);
        write_all(&mut store);
        store.trim(LaneId(0), position.saturating_sub(3));
    }
    let facts = store.facts();
    assert_eq!(facts.fresh_or_recycled, "2 fresh, 12 recycled", "15 frames of 4,168 bytes a segment");
    drop(store);
    let report = verify(folder.path(), false).unwrap();
    assert_eq!((report.segments, report.messages), (1, 5), "the last segment alone");
    assert_eq!(
        report.records, 4,
        "the channel, the committed position, what was trimmed and which segments went were written again"
    );
}

#[test]
fn of_a_channel_that_is_gone_only_its_number_outlives_its_segment() {
    let folder = folder();
    let mut store = Store::create(Storage::PageCache, SMALL, Some(folder.path())).unwrap();
    for number in 0..2 {
        let (channel, first, name) = (ChannelId(number), LaneId(number), format!("orders-{number}"));
        let made = ChannelRecord {
            channel,
            first,
            lanes: 1,
            name,
            groups: vec!["workers".to_owned()],
            ..ChannelRecord::default()
        };
        store.record(&Record::Channel(Box::new(made)));
        store.record(&Record::Committed { lane: first, group: 0, position: 0 });
    }
    for number in 0..2 {
        let (channel, first) = (ChannelId(number), LaneId(2 + 2 * number));
        let change = Reshape::Split { lane: LaneId(number), at: 1 << 127 };
        store.record(&Record::Reshaped(Box::new(ReshapeRecord { channel, first, change })));
        store.record(&Record::Committed { lane: first, group: 0, position: 0 });
    }
    store.record(&Record::ChannelGone(ChannelId(1)));
    for position in 0..40 {
        store.append(LaneId(0), position, &message(b"", &[0; 4096]), true);
        store.barrier(position);
        write_all(&mut store);
        store.trim(LaneId(0), position.saturating_sub(3));
    }
    drop(store);
    let report = verify(folder.path(), false).unwrap();
    assert_eq!((report.segments, report.messages), (1, 10), "the last segment alone");
    let why = "a channel and its split with their committed positions, how many channels there were, what was trimmed, and which segments went";
    assert_eq!(report.records, 7, "{why}");
}

#[test]
fn a_message_larger_than_a_segment_has_a_segment_of_its_own() {
    let folder = folder();
    let limits = Limits { max_memory: 1 << 20, ..SMALL };
    let mut store = Store::create(Storage::PageCache, limits, Some(folder.path())).unwrap();
    for (position, size) in [10, 200_000, 10, 100_000].into_iter().enumerate() {
        store.append(LaneId(0), position as u64, &message(b"", &vec![3; size]), true);
        store.barrier(position as u64);
    }
    assert_eq!(write_all(&mut store), Some((3, true)));
    drop(store);
    let report = verify(folder.path(), false).unwrap();
    assert_eq!((report.segments, report.messages), (4, 4));
}

#[test]
fn space_that_is_not_there_is_an_error_when_the_segment_begins() {
    let folder = folder();
    let limits = Limits { segment_bytes: 1 << 60, ..Limits::default() };
    let error = Store::create(Storage::PageCache, limits, Some(folder.path())).unwrap_err();
    assert!(matches!(error, StoreError::Write { what: "reserving the segment's space", .. }), "{error}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "nothing half-made is left");
}
