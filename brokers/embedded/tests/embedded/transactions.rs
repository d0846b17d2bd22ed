//! Transactions over the end of a process: what was committed is there as a whole, what was open never was, whatever segments have been
//! used again meanwhile.
//!
//! Leaves out crashes between the records of one commit, which the models' own trials do.

use std::collections::BTreeSet;

use brokerlab_model::{ChannelId, Control, Role, Status, Transaction};

use crate::world::{World, contract, numbered};

const URL: &str = "log?segment=64KiB&retention_bytes=40kB&retention=forever";

fn steps(world: &mut World, count: usize) {
    for _ in 0..count {
        world.step();
    }
}

fn step(world: &mut World, producer: usize, step: Transaction) {
    let token = world.control(producer, Control::Transaction(step));
    steps(world, 4);
    assert_eq!(world.done(producer, token).status, Status::Done);
    world.seen[producer].outcomes.clear();
}

fn publish(world: &mut World, producer: usize, channel: ChannelId, numbers: std::ops::Range<u64>) {
    let count = (numbers.end - numbers.start) as usize;
    let batch = numbered(world, channel, numbers, 10);
    assert_eq!(world.publish(producer, batch).0, count);
    steps(world, 4);
    let seen = std::mem::take(&mut world.seen[producer]);
    assert_eq!(seen.outcomes.iter().filter(|outcome| outcome.status == Status::Done).count(), count);
}

#[test]
fn what_was_committed_is_there_and_what_was_open_never_was() {
    let kept = contract("exactly-once, page-cache");
    let mut world = World::open_anywhere(URL, kept);
    let administrator = world.connect(Role::Administrator);
    let (source, target) = (world.create(administrator, 2, &["g"]), world.create(administrator, 2, &["h"]));
    let mut due: BTreeSet<u64> = BTreeSet::new();
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    for life in 0..6_u64 {
        let reader = world.connect(Role::Member { group: "g".into(), channels: vec![source] });
        let result = world.connect(Role::Member { group: "h".into(), channels: vec![target] });
        let [feeder, worker, other] = [(); 3].map(|()| world.connect(Role::Producer));
        world.control(reader, Control::Grant(1_000));
        world.control(result, Control::Grant(10_000));
        steps(&mut world, 4);
        let again = std::mem::take(&mut world.seen[reader]).deliveries;
        let open_before = if life == 0 { 0 } else { 20 };
        assert_eq!(again.len(), open_before, "life {life}: what an open transaction had settled is read again");

        // A large transaction of which nothing counts, so that segments end and are used again.
        let base = life * 1_000;
        step(&mut world, other, Transaction::Begin { group: None, name: None });
        publish(&mut world, other, target, base + 500..base + 900);
        step(&mut world, other, Transaction::Abort);

        publish(&mut world, feeder, source, base..base + 30);
        let got = std::mem::take(&mut world.seen[reader]).deliveries;
        let receipts: Vec<_> = again.iter().chain(got.iter()).map(|delivery| delivery.receipt).collect();
        assert_eq!(receipts.len(), 30 + open_before);
        let (first, rest) = receipts.split_at(10 + open_before);
        step(&mut world, worker, Transaction::Begin { group: Some("g".into()), name: None });
        publish(&mut world, worker, target, base + 100..base + 110);
        // By the lanes' own order the last of each lane covers those before it.
        world.ack(worker, first.iter().copied());
        step(&mut world, worker, Transaction::Commit);
        due.extend(base + 100..base + 110);
        step(&mut world, worker, Transaction::Begin { group: Some("g".into()), name: None });
        publish(&mut world, worker, target, base + 200..base + 220);
        world.ack(worker, rest.iter().copied());
        steps(&mut world, 4);
        let deliveries = std::mem::take(&mut world.seen[result]).deliveries;
        let numbers = deliveries.iter().map(|d| u64::from_le_bytes(d.payload[..8].try_into().expect("8 bytes")));
        seen.extend(numbers);
        world = world.reopened(URL, kept);
    }
    assert_eq!(seen, due);
}
