//! A compacted log over several lives of its folder: of each key the latest message is there, and segments are used again.
//!
//! Leaves out crashes in the middle of a compaction, which the store's own trials do, and what may go, which the model's do.

use std::collections::BTreeMap;

use brokerlab_embedded::{BackendUrl, reopen};
use brokerlab_model::{Batch, ChannelId, Control, Role, Status};

use crate::world::{World, contract, numbered};

const URL: &str = "log?segment=64KiB&cleanup=compact&active_bytes=4KiB";
const KEYS: u64 = 50;
/// What a life publishes.
const ROUNDS: u64 = 20;
const ROUND: u64 = 200;

fn segments(world: &World) -> u64 {
    let files = std::fs::read_dir(world.data()).expect("its folder").flatten();
    files.filter(|file| file.file_name().to_string_lossy().starts_with("segment-")).count() as u64
}

fn publish(world: &mut World, channel: ChannelId, from: u64) {
    let producer = world.connect(Role::Producer);
    for round in 0..ROUNDS {
        let first = from + round * ROUND;
        let batch = numbered(world, channel, first..first + ROUND, KEYS);
        assert_eq!(world.publish(producer, batch).0, ROUND as usize);
        for _ in 0..5 {
            world.step();
        }
    }
    let seen = std::mem::take(&mut world.seen[producer]);
    let done = seen.outcomes.iter().filter(|outcome| outcome.status == Status::Done).count() as u64;
    assert_eq!(done, ROUNDS * ROUND);
}

/// The latest number of each key as a group reads it from the beginning on, and how many messages it was given.
fn read(world: &mut World, channel: ChannelId, group: String) -> (BTreeMap<u64, u64>, usize) {
    let member = world.connect(Role::Member { group, channels: vec![channel] });
    world.control(member, Control::Grant(100_000));
    for _ in 0..20 {
        world.step();
    }
    let deliveries = std::mem::take(&mut world.seen[member]).deliveries;
    let mut latest = BTreeMap::new();
    let mut last = BTreeMap::new();
    for delivery in &deliveries {
        let number = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().expect("a number"));
        latest.insert(number(delivery.key), number(delivery.payload));
        let before = last.insert(delivery.receipt.lane, delivery.receipt.position);
        assert!(before.is_none_or(|before| before < delivery.receipt.position), "offsets rise in a partition");
    }
    (latest, deliveries.len())
}

#[test]
fn the_latest_of_each_key_is_there_in_every_life_and_segments_are_used_again() {
    for kept in ["page-cache", "fsync"] {
        let kept = contract(kept);
        let mut world = World::open_anywhere(URL, kept);
        let administrator = world.connect(Role::Administrator);
        let groups: Vec<String> = (0..4).map(|life| format!("life-{life}")).collect();
        let names: Vec<&str> = groups.iter().map(String::as_str).collect();
        let channel = world.create(administrator, 2, &names);
        let lives = groups.len() as u64;
        for (life, group) in (0..).zip(groups) {
            publish(&mut world, channel, life * ROUNDS * ROUND);
            let (latest, count) = read(&mut world, channel, group);
            let end = (life + 1) * ROUNDS * ROUND;
            let due: BTreeMap<u64, u64> = (end - KEYS..end).map(|number| (number % KEYS, number)).collect();
            assert_eq!(latest, due, "life {life}");
            assert!(count < 1_000, "{count} of {end} are left");
            let used = segments(&world);
            assert!(used < 12, "{used} segments of 64 KiB; {} KiB were published", end * 150 / 1_024);
            if life + 1 < lives {
                world = world.reopened(URL, kept);
            }
        }
        let (data, url) = (world.data(), BackendUrl::parse("log?segment=64KiB").unwrap());
        let World { broker, clients, workers, folder: _folder, .. } = world;
        drop((clients, workers, broker));
        let error = reopen(&url, &kept, &data).map(|_| ()).expect_err("a log that deletes can't read it").to_string();
        assert!(error.contains("cleanup=compact"), "{error}");
    }
}

#[test]
fn a_log_whose_keys_fit_goes_on_when_its_segments_are_full() {
    // No ratio is ever reached, and 16,000 messages of some 130 bytes are published where 512 KiB may be held, or 256 KiB of memory.
    for (kept, bound) in [("page-cache", "max_data=512KiB"), ("memory", "max_memory=256KiB")] {
        let segment = if kept == "memory" { "" } else { "segment=64KiB&" };
        let url = format!("log?{segment}cleanup=compact&active_bytes=4KiB&min_dirty_ratio=1&{bound}");
        let mut world = World::open_anywhere(&url, contract(kept));
        let administrator = world.connect(Role::Administrator);
        let channel = world.create(administrator, 2, &["g"]);
        let producer = world.connect(Role::Producer);
        let mut blocked = 0;
        for round in 0..4 * ROUNDS {
            let first = round * ROUND;
            let mut batch = Batch::Publish(numbered(&mut world, channel, first..first + ROUND, KEYS));
            let mut steps = 0;
            while !batch.is_empty() {
                let taken = world.clients[producer].submit(world.now, &mut batch);
                blocked += u64::from(taken.blocked.is_some());
                world.step();
                steps += 1;
                assert!(steps < 1_000, "round {round} never got room");
            }
        }
        assert!(blocked > 0, "it is never full");
        let (latest, _) = read(&mut world, channel, "g".to_owned());
        let end = 4 * ROUNDS * ROUND;
        let due: BTreeMap<u64, u64> = (end - KEYS..end).map(|number| (number % KEYS, number)).collect();
        assert_eq!(latest, due);
    }
}
