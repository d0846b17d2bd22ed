//! Producers with names over the end of a process: what one has no answer for it publishes again in the next life, and each message is
//! there once.
//!
//! Leaves out storage that fails and journals that break off in the middle, which the models' own trials do.

use std::collections::BTreeMap;

use brokerlab_model::{ChannelId, Control, HeaderBlock, Identity, LaneId, Outcome, Publishes, Refusal, Role, Status};

use crate::world::{World, contract};

const URL: &str = "log?segment=64KiB&retention=forever";

/// Messages of the producer `orders`, by its sequences, half of them with keys.
fn offer(
    world: &mut World,
    producer: usize,
    channel: ChannelId,
    epoch: u32,
    sequences: std::ops::Range<u64>,
) -> Vec<Outcome> {
    let mut batch = Publishes::new();
    let mut tokens = Vec::new();
    for sequence in sequences {
        let mut block = HeaderBlock::new();
        Identity { producer: b"orders", epoch, sequence }.put(&mut block).expect("it is short");
        let (token, key) = (world.token(), sequence.to_le_bytes());
        let key = if sequence % 2 == 0 { &key[..] } else { b"" };
        batch.push(token, channel, key, &block.to_bytes(), &[&sequence.to_le_bytes()[..], &[7; 92]].concat());
        tokens.push(token);
    }
    let count = tokens.len();
    assert_eq!(world.publish(producer, batch).0, count);
    for _ in 0..4 {
        world.step();
    }
    let seen = std::mem::take(&mut world.seen[producer]).outcomes;
    let by_token: BTreeMap<_, _> = seen.iter().map(|outcome| (outcome.token, *outcome)).collect();
    tokens.iter().map(|token| by_token[token]).collect()
}

#[test]
fn what_is_published_again_in_the_next_life_is_acknowledged_where_it_was_in_the_one_before() {
    const LIVES: u64 = 6;
    let kept = contract("at-least-once, page-cache");
    let mut world = World::open_anywhere(URL, kept);
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, 2, &["g"]);
    let mut places: Vec<(LaneId, u64)> = Vec::new();
    for life in 0..LIVES {
        let (producer, other) = (world.connect(Role::Producer), world.connect(Role::Producer));
        let known = places.len() as u64;
        // All that was ever published, as if nothing had been answered, and then more.
        let outcomes = offer(&mut world, producer, channel, 0, 0..known + 200);
        assert!(outcomes.iter().all(|outcome| outcome.status == Status::Done), "life {life}");
        let found: Vec<(LaneId, u64)> = outcomes.iter().map(|outcome| (outcome.lane, outcome.position)).collect();
        assert_eq!(found[..places.len()], places, "life {life}");
        places = found;
        let gap = offer(&mut world, other, channel, 0, known + 201..known + 203);
        assert!(gap.iter().all(|outcome| outcome.status == Status::Refused(Refusal::OutOfSequence)));
        world = world.reopened(URL, kept);
    }
    let member = world.connect(Role::Member { group: "g".into(), channels: vec![channel] });
    world.control(member, Control::Grant(10_000));
    for _ in 0..20 {
        world.step();
    }
    let deliveries = std::mem::take(&mut world.seen[member]).deliveries;
    let mut numbers: Vec<u64> =
        deliveries.iter().map(|got| u64::from_le_bytes(got.payload[..8].try_into().expect("8 bytes"))).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..LIVES * 200).collect::<Vec<_>>());
}

#[test]
fn a_fenced_instance_is_so_in_the_next_life_too() {
    let kept = contract("at-least-once, page-cache");
    let mut world = World::open_anywhere(URL, kept);
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, 1, &["g"]);
    let producer = world.connect(Role::Producer);
    offer(&mut world, producer, channel, 3, 0..5);
    offer(&mut world, producer, channel, 4, 0..1);
    let mut world = world.reopened(URL, kept);
    let producer = world.connect(Role::Producer);
    let statuses = |outcomes: Vec<Outcome>| outcomes.iter().map(|outcome| outcome.status).collect::<Vec<_>>();
    assert_eq!(statuses(offer(&mut world, producer, channel, 3, 5..6)), [Status::Refused(Refusal::Fenced)]);
    assert_eq!(statuses(offer(&mut world, producer, channel, 4, 0..2)), [Status::Done; 2]);
}
