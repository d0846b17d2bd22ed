//! What an engine holds beside what it is given, by a counting allocator: per un-acknowledged message, and per lane in which nothing
//! happens.
//!
//! Counted to the byte and the same in every run. Leaves out what a client keeps of its deliveries, and what a system's allocator adds.

#![allow(clippy::print_stdout, reason = "the figures that stand in the documentation are these")]

#[allow(dead_code, reason = "this test needs a part of it")]
#[path = "embedded/world.rs"]
mod world;

use std::alloc::System;
use std::sync::Mutex;

use brokerlab_model::{Batch, ChannelId, Completions, Control, Publishes, Receipt, Role, Settlement, Status, Verdict};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::world::{World, contract};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One measurement at a time: the allocator counts for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes that are allocated now.
fn live() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.bytes_allocated - stats.bytes_deallocated) as u64
}

const PAYLOAD: usize = 100;
const KEY: usize = 8;
const BATCH: u64 = 64;

/// A world with one channel and a producer; what it holds itself is there before anything is measured.
fn world(url: &str, words: &str, lanes: u32, groups: &[&str]) -> (World, ChannelId, usize) {
    let mut world = World::open_anywhere(url, contract(words));
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, lanes, groups);
    let producer = world.connect(Role::Producer);
    rest(&mut world);
    (world, channel, producer)
}

/// Lets everything come to rest and forgets what clients were told.
fn rest(world: &mut World) {
    for _ in 0..3 {
        world.step();
    }
    for seen in &mut world.seen {
        assert!(seen.outcomes.iter().all(|outcome| outcome.status == Status::Done), "{:?}", seen.outcomes);
        *seen = Completions::default();
    }
}

/// Publishes so many messages of 108 bytes, each with another key.
fn publish(world: &mut World, producer: usize, channel: ChannelId, count: u64) {
    let mut sent = 0;
    while sent < count {
        let mut batch = Publishes::new();
        for number in sent..(sent + BATCH).min(count) {
            let token = world.token();
            batch.push(token, channel, &number.to_le_bytes(), b"", &[7; PAYLOAD]);
        }
        let (taken, _) = world.publish(producer, batch);
        assert!(taken > 0, "the bounds of this test are far above what it holds");
        sent += taken as u64;
        rest(world);
    }
}

/// Grants a member so much and returns what it was given.
fn receive(world: &mut World, member: usize, count: u64) -> Vec<Receipt> {
    let mut receipts = Vec::with_capacity(count as usize);
    while (receipts.len() as u64) < count {
        world.control(member, Control::Grant(1_000));
        let before = receipts.len();
        for _ in 0..3 {
            world.step();
            let seen = std::mem::take(&mut world.seen[member]);
            receipts.extend(seen.deliveries.iter().map(|delivery| delivery.receipt));
        }
        assert!(receipts.len() > before, "{} of {count} came", receipts.len());
    }
    receipts
}

fn settle(world: &mut World, member: usize, receipts: &[Receipt]) {
    for some in receipts.chunks(1_000) {
        let settlements =
            some.iter().map(|&receipt| Settlement { token: world.token(), receipt, verdict: Verdict::Ack }).collect();
        let _ = world.clients[member].submit(world.now, &mut Batch::Settle(settlements));
        rest(world);
    }
}

/// Bytes for each of `count` since `before`.
fn each(before: u64, count: u64) -> f64 {
    live().saturating_sub(before) as f64 / count as f64
}

#[test]
fn a_queue_holds_at_most_64_bytes_beyond_each_message_that_is_not_acknowledged() {
    const MESSAGES: u64 = 1_000_000;
    const GROUPS: [&str; 3] = ["a", "b", "c"];
    let _alone = ALONE.lock();
    for groups in [&GROUPS[..1], &GROUPS] {
        let (mut world, channel, producer) = world("queue?max_memory=1GiB&window=1000000", "memory", 8, groups);
        let members: Vec<usize> = groups
            .iter()
            .map(|&group| world.connect(Role::Member { group: group.to_owned(), channels: vec![channel] }))
            .collect();
        rest(&mut world);
        let before = live();
        publish(&mut world, producer, channel, MESSAGES);
        let beyond = |what: &str, before| {
            let beyond = each(before, MESSAGES) - (PAYLOAD + KEY) as f64;
            println!("{} groups, {what}: {beyond:.1} bytes beyond each message", groups.len());
            beyond
        };
        let waiting = beyond("waiting", before);
        assert!(waiting > 0.0 && waiting <= 64.0, "{waiting} bytes of a message that waits");
        let mut receipts: Vec<Vec<Receipt>> = Vec::new();
        for &member in &members {
            receipts.push(receive(&mut world, member, MESSAGES));
            rest(&mut world);
        }
        let held: usize = receipts.iter().map(|of| of.capacity() * size_of::<Receipt>()).sum();
        let delivered = beyond("delivered and not acknowledged", before + held as u64);
        assert!(delivered <= 64.0, "{delivered} bytes of a message in {} queues", groups.len());
        for (&member, receipts) in members.iter().zip(&receipts) {
            settle(&mut world, member, receipts);
        }
        drop(receipts);
        let left = live().saturating_sub(before);
        println!("{} groups, acknowledged: {left} bytes are left", groups.len());
        // The table of frames keeps the size that it had: 64 bytes for each batch.
        assert!(left <= MESSAGES / BATCH * 64 + 32_768, "{left} bytes are left of what was acknowledged");
    }
}

#[test]
fn messages_that_come_alone_or_in_small_batches_stay_within_the_bound() {
    const MESSAGES: u64 = 96_000;
    let _alone = ALONE.lock();
    for batch in [1, 8, 16, 32] {
        let (mut world, channel, producer) = world("queue?max_memory=1GiB&window=1000000", "memory", 8, &["a"]);
        let before = live();
        for _ in 0..MESSAGES / batch {
            publish(&mut world, producer, channel, batch);
        }
        let beyond = each(before, MESSAGES) - (PAYLOAD + KEY) as f64;
        println!("in batches of {batch}: {beyond:.1} bytes beyond each message");
        assert!(beyond > 0.0 && beyond <= 64.0, "{beyond} bytes of a message that came with {batch}");
    }
}

#[test]
fn a_lane_in_which_nothing_happens_takes_at_most_4_kib() {
    const LANES: u32 = 10_000;
    let _alone = ALONE.lock();
    for url in ["log", "queue", "shard", "direct"] {
        for words in ["memory", "page-cache"] {
            let (mut world, _, _) = world(url, words, 1, &["g"]);
            let before = live();
            let channel = world.create(0, LANES, &["g", "h"]);
            let members = ["g", "h"]
                .map(|group| world.connect(Role::Member { group: group.to_owned(), channels: vec![channel] }));
            for member in members {
                world.control(member, Control::Grant(1));
            }
            for _ in 0..3 {
                rest(&mut world);
            }
            let idle = each(before, u64::from(LANES));
            println!("{url}, {words}: {idle:.0} bytes a lane that two groups read");
            assert!(idle <= 4_096.0, "{url}, {words}: {idle} bytes a lane");
        }
    }
}

#[test]
fn a_lane_whose_messages_are_all_acknowledged_takes_no_more_than_one_that_had_none() {
    const LANES: u32 = 500;
    const MESSAGES: u64 = 500_000;
    let _alone = ALONE.lock();
    // A service keeps a row for as many requests as ever waited in it at once, which window and service queue bound.
    let url = "queue?window=1000000";
    let (mut world, channel, producer) = world(url, "memory", LANES, &["g"]);
    let member = world.connect(Role::Member { group: "g".to_owned(), channels: vec![channel] });
    rest(&mut world);
    let before = live();
    publish(&mut world, producer, channel, MESSAGES);
    let receipts = receive(&mut world, member, MESSAGES);
    settle(&mut world, member, &receipts);
    drop(receipts);
    rest(&mut world);
    let after = each(before, u64::from(LANES));
    println!("{url}: {after:.0} bytes a lane after 1,000 messages in each");
    assert!(after <= 4_096.0, "{url}: {after} bytes a lane");
}
