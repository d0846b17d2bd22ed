//! An engine ends without a word, and another takes over its folder: what was acknowledged and is not settled is there, byte for byte,
//! what was settled before the last write is not, and everything goes on.
//!
//! Leaves out crashes in the middle of a write, which the store's and the models' own trials do.

use std::collections::BTreeSet;

use brokerlab_model::{ChannelId, Control, LaneId, Refusal, Role, SeekTo, Span, Status, Time};

use crate::world::{World, contract, numbered};

/// One delivery: lane, position, how often it was delivered before, and its number.
type Got = (u32, u64, u16, u64);

/// Takes what a member was given, and looks at every byte.
fn take(world: &mut World, member: usize) -> Vec<Got> {
    let seen = std::mem::take(&mut world.seen[member]);
    let got = seen.deliveries.iter().map(|delivery| {
        let number = u64::from_le_bytes(delivery.payload[..8].try_into().expect("8 bytes"));
        assert_eq!((delivery.headers, &delivery.payload[8..]), (&b"h"[..], &[7; 92][..]));
        (delivery.receipt.lane.0, delivery.receipt.position, delivery.redeliveries, number)
    });
    got.collect()
}

fn steps(world: &mut World, count: usize) {
    for _ in 0..count {
        world.step();
    }
}

fn member(world: &mut World, channel: ChannelId, credit: u32) -> usize {
    let member = world.connect(Role::Member { group: "g".into(), channels: vec![channel] });
    world.control(member, Control::Grant(credit));
    member
}

fn publish(world: &mut World, producer: usize, channel: ChannelId, numbers: std::ops::Range<u64>) {
    let count = numbers.end - numbers.start;
    let batch = numbered(world, channel, numbers, 10);
    assert_eq!(world.publish(producer, batch).0 as u64, count);
    steps(world, 5);
    let seen = std::mem::take(&mut world.seen[producer]);
    assert_eq!(seen.outcomes.iter().filter(|outcome| outcome.status == Status::Done).count() as u64, count);
}

#[test]
fn every_backend_goes_on_with_what_it_finds() {
    for (url, words) in [
        ("log", "page-cache"),
        ("log", "fsync"),
        ("queue", "page-cache"),
        ("queue", "fsync"),
        ("shard", "page-cache"),
        ("direct", "page-cache"),
        ("direct", "fsync"),
    ] {
        let mut world = World::open_anywhere(url, contract(words));
        let administrator = world.connect(Role::Administrator);
        let channel = world.create(administrator, 2, &["g"]);
        let reader = member(&mut world, channel, 40);
        let producer = world.connect(Role::Producer);
        publish(&mut world, producer, channel, 0..100);
        let seen = std::mem::take(&mut world.seen[reader]);
        let receipts: Vec<_> = seen.deliveries.iter().map(|delivery| delivery.receipt).collect();
        assert_eq!(receipts.len(), 40, "{url}");
        let half = &receipts[..20];
        let settled: BTreeSet<(u32, u64)> = half.iter().map(|receipt| (receipt.lane.0, receipt.position)).collect();
        world.ack(reader, half.iter().copied());
        // The settlements are written with the next publish.
        publish(&mut world, producer, channel, 100..110);

        for life in 1..4_u64 {
            let mut next = world.reopened(url, contract(words));
            let reader = member(&mut next, channel, 1_000);
            let producer = next.connect(Role::Producer);
            steps(&mut next, 5);
            let got = take(&mut next, reader);
            let numbers: BTreeSet<u64> = got.iter().map(|got| got.3).collect();
            assert_eq!(numbers.len(), got.len(), "{url} {words}: each once in a life");
            assert!(got.iter().all(|got| got.2 == 1), "{url} {words}: each may have been delivered before");
            let all = 100 + 10 * life as usize;
            let gone = got.iter().filter(|got| settled.contains(&(got.0, got.1))).count();
            assert_eq!((got.len(), gone), (all - settled.len(), 0), "{url} {words}, life {life}");
            let first = 100 + 10 * life;
            publish(&mut next, producer, channel, first..first + 10);
            let new = take(&mut next, reader);
            assert_eq!(new.iter().map(|got| got.3).collect::<BTreeSet<_>>().len(), 10);
            assert!(new.iter().all(|got| got.2 == 0), "{url} {words}: {new:?}");
            world = next;
        }
    }
}

#[test]
fn what_may_come_at_most_once_is_not_handed_out_before_that_is_stored() {
    for url in ["log", "queue", "shard", "direct"] {
        for storage in ["page-cache", "fsync"] {
            let words = format!("at-most-once, {storage}");
            let mut world = World::open_anywhere(url, contract(&words));
            let administrator = world.connect(Role::Administrator);
            let channel = world.create(administrator, 2, &["g"]);
            let producer = world.connect(Role::Producer);
            let reader = member(&mut world, channel, 0);
            publish(&mut world, producer, channel, 0..100);
            let mut seen: Vec<u64> = Vec::new();
            for life in 0..3 {
                let reader = if life == 0 { reader } else { member(&mut world, channel, 0) };
                steps(&mut world, 5);
                world.control(reader, Control::Grant(20));
                world.clients[reader].poll(world.now, &mut world.seen[reader]);
                assert!(world.seen[reader].deliveries.is_empty(), "{url} {words}: before any worker has written");
                steps(&mut world, 5);
                let got = take(&mut world, reader);
                assert_eq!(got.len(), 20, "{url} {words}");
                assert!(got.iter().all(|got| got.2 == 0), "{url} {words}: {got:?}");
                seen.extend(got.iter().map(|got| got.3));
                // These are settled in the model and never handed out: lost in the crash, and not twice.
                world.control(reader, Control::Grant(5));
                world = world.reopened(url, contract(&words));
            }
            let distinct: BTreeSet<u64> = seen.iter().copied().collect();
            assert_eq!((seen.len(), distinct.len()), (60, 60), "{url} {words}: none twice");
        }
    }
}

#[test]
fn a_shard_that_was_split_is_read_to_its_end_first_in_another_life() {
    let (url, kept) = ("shard", contract("page-cache, per-key"));
    let mut world = World::open_anywhere(url, kept);
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, 1, &["g"]);
    let producer = world.connect(Role::Producer);
    publish(&mut world, producer, channel, 0..50);
    let token = world.control(administrator, Control::Split { lane: LaneId(0), at: None });
    assert_eq!(world.done(administrator, token).lane, LaneId(1));
    publish(&mut world, producer, channel, 50..100);

    let mut world = world.reopened(url, kept);
    let administrator = world.connect(Role::Administrator);
    let token = world.control(administrator, Control::Merge { lane: LaneId(1), with: LaneId(2) });
    assert_eq!(world.done(administrator, token).lane, LaneId(3));
    let producer = world.connect(Role::Producer);
    publish(&mut world, producer, channel, 100..150);

    let mut world = world.reopened(url, kept);
    let reader = member(&mut world, channel, 1_000);
    let mut lanes: Vec<u32> = Vec::new();
    let mut last = [None; 10];
    for turn in [50, 50, 50] {
        steps(&mut world, 5);
        let receipts: Vec<_> = world.seen[reader].deliveries.iter().map(|delivery| delivery.receipt).collect();
        assert_eq!(receipts.len(), turn, "all of the lanes before, and nothing else");
        for (lane, _, _, number) in take(&mut world, reader) {
            lanes.push(lane);
            assert!(last[number as usize % 10].replace(number) < Some(number), "{number} is out of order");
        }
        world.ack(reader, receipts.into_iter());
    }
    lanes.dedup();
    assert!(matches!(lanes[..], [0, 1 | 2, .., 3]), "{lanes:?}");
}

#[test]
fn time_goes_on_after_the_latest_in_the_journal() {
    let url = "log?retention=10s";
    let mut world = World::open_anywhere(url, contract("page-cache"));
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, 1, &["g"]);
    let producer = world.connect(Role::Producer);
    world.now = Time(0) + Span::from_secs(100);
    publish(&mut world, producer, channel, 0..5);
    world.now = Time(0) + Span::from_secs(106);
    publish(&mut world, producer, channel, 5..10);

    let mut world = world.reopened(url, contract("page-cache"));
    let reader = member(&mut world, channel, 0);
    // This life's origin is 106 s of the last one's.
    let (lane, to) = (LaneId(0), SeekTo::Time(Time(0)));
    let token = world.control(reader, Control::Seek { lane, to });
    assert_eq!(world.done(reader, token).position, 5, "what was written at the end of the last life");
    for (seconds, first) in [(9, 0), (10, 10)] {
        world.now = Time(0) + Span::from_secs(seconds);
        steps(&mut world, 3);
        let token = world.control(reader, Control::Seek { lane, to: SeekTo::Earliest });
        assert_eq!(
            world.done(reader, token).position,
            first,
            "they go when the newest are ten seconds old, over both lives"
        );
    }
}

#[test]
fn receipts_of_an_earlier_life_are_stale_in_every_later_one() {
    for url in ["log", "queue", "shard", "direct"] {
        for words in ["page-cache", "at-most-once, page-cache"] {
            let mut world = World::open_anywhere(url, contract(words));
            let administrator = world.connect(Role::Administrator);
            let channel = world.create(administrator, 1, &["g"]);
            let mut old = Vec::new();
            for life in 0..4_u64 {
                let reader = member(&mut world, channel, 10);
                let producer = world.connect(Role::Producer);
                publish(&mut world, producer, channel, life * 10..life * 10 + 10);
                let seen = std::mem::take(&mut world.seen[reader]);
                let receipts: Vec<_> = seen.deliveries.iter().map(|delivery| delivery.receipt).collect();
                assert_eq!(receipts.len(), 10, "{url} {words}");
                world.ack(reader, old.iter().copied());
                steps(&mut world, 3);
                let refused = std::mem::take(&mut world.seen[reader]);
                let stale =
                    |outcome: &&brokerlab_model::Outcome| outcome.status == Status::Refused(Refusal::StaleReceipt);
                assert_eq!(refused.outcomes.iter().filter(stale).count(), old.len(), "{url} {words}: {refused:?}");
                world.ack(reader, receipts.iter().take(1).copied());
                steps(&mut world, 3);
                assert_eq!(world.seen[reader].outcomes.last().map(|outcome| outcome.status), Some(Status::Done));
                old.extend(receipts);
                world = world.reopened(url, contract(words));
            }
        }
    }
}

#[test]
fn a_folder_of_another_model_or_contract_is_refused_and_left_as_it_is() {
    let world = World::open_anywhere("queue", contract("page-cache"));
    let data = world.data();
    let World { folder, broker, workers, .. } = world;
    drop((broker, workers));
    let reopen = |url: &str, words: &str| {
        let url = brokerlab_embedded::BackendUrl::parse(url).expect("a backend");
        brokerlab_embedded::reopen(&url, &contract(words), &data).map(drop).map_err(|error| error.to_string())
    };
    for (url, words) in [
        ("log", "page-cache"),
        ("queue", "at-most-once, page-cache"),
        ("queue", "fsync"),
        ("queue?message_groups=on", "page-cache"),
    ] {
        let refused = reopen(url, words).expect_err("it is a queue's");
        assert!(refused.contains("about: written by `queue` under `at-least-once"), "{refused}");
    }
    assert_eq!(reopen("queue?prefetch=5", "page-cache"), Ok(()), "what may change from run to run");
    assert_eq!(reopen("queue?queues=3", "page-cache"), Ok(()), "nobody had said how many");
    assert_eq!(reopen("queue", "page-cache"), Ok(()));
    let refused = reopen("queue?queues=4", "page-cache").expect_err("there are three");
    assert!(refused.contains("with lanes=3, and") && refused.contains("with lanes=4 was asked for"), "{refused}");
    drop(folder);
}
