//! Every backend delivers every message once through the engine, on every kind of storage.

use brokerlab_model::{Contract, Control, Event, Order, Role, Status, Storage};

use crate::world::{World, contract, numbered};

pub(crate) const MESSAGES: u64 = 10_000;
const BATCH: u64 = 64;
pub(crate) const KEYS: u64 = 50;

/// One delivery, as a member saw it.
pub(crate) struct Seen {
    pub(crate) redeliveries: u16,
    pub(crate) key: u64,
    pub(crate) payload: Vec<u8>,
    /// How many messages the producer had handed over when the delivery was polled.
    pub(crate) sent: u64,
}

impl Seen {
    pub(crate) fn number(&self) -> u64 {
        u64::from_le_bytes(self.payload[..8].try_into().expect("8 bytes"))
    }

    /// Every byte is as it was published.
    pub(crate) fn is_whole(&self) -> bool {
        self.payload.len() == 100 && self.payload[8..].iter().all(|&byte| byte == 7) && self.number() % KEYS == self.key
    }
}

/// One producer on the first loop, two members of one group on two loops, 10,000 messages; until nothing moves any more.
pub(crate) fn run(url: &str, words: &str) -> (World, Vec<Seen>) {
    let wanted: Contract = contract(words);
    let mut world = World::open_anywhere(url, wanted);
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, 4, &["g"]);
    let member = || Role::Member { group: "g".into(), channels: vec![channel] };
    let members = [world.connect_at(member(), 0), world.connect_at(member(), 1)];
    let producer = world.connect(Role::Producer);
    for member in members {
        world.control(member, Control::Grant(256));
    }
    let mut all = Vec::new();
    let (mut sent, mut idle) = (0, 0);
    while idle < 2_000 {
        idle += 1;
        if sent < MESSAGES {
            let batch = numbered(&mut world, channel, sent..(sent + BATCH).min(MESSAGES), KEYS);
            sent += world.publish(producer, batch).0 as u64;
        }
        world.step();
        for member in members {
            let seen = std::mem::take(&mut world.seen[member]);
            for event in seen.events {
                if let Event::LaneRevoked(lane) = event {
                    world.control(member, Control::Release(lane));
                }
            }
            for delivery in &seen.deliveries {
                assert_eq!((delivery.headers, delivery.payload_len), (&b"h"[..], 100));
                let key = u64::from_le_bytes(delivery.key.try_into().expect("8 bytes"));
                let (redeliveries, payload) = (delivery.redeliveries, delivery.payload.to_vec());
                all.push(Seen { redeliveries, key, payload, sent });
            }
            if !seen.deliveries.is_empty() {
                world.ack(member, seen.deliveries.iter().map(|d| d.receipt));
                world.control(member, Control::Grant(seen.deliveries.len() as u32));
                idle = 0;
            }
        }
    }
    assert_eq!(sent, MESSAGES, "{url} {words}: everything was taken");
    let done = world.seen[producer].outcomes.iter().filter(|o| o.status == Status::Done).count();
    assert_eq!(done as u64, MESSAGES, "{url} {words}: every publish ended well");
    (world, all)
}

/// Pairs of deliveries that came to the group in another order than they were published in, within a key.
pub(crate) fn reordered(all: &[Seen]) -> usize {
    let of_key = |key| all.iter().filter(move |seen| seen.key == key).map(Seen::number);
    (0..KEYS).map(|key| of_key(key).zip(of_key(key).skip(1)).filter(|(a, b)| a > b).count()).sum()
}

fn check(url: &str, words: &str) {
    let (world, all) = run(url, words);
    assert_eq!(all.len() as u64, MESSAGES, "{url} {words}: as many deliveries as messages");
    let mut numbers: Vec<u64> = all.iter().map(Seen::number).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..MESSAGES), "{url} {words}: every message once");
    assert!(all.iter().all(|seen| seen.is_whole() && seen.redeliveries == 0), "{url} {words}: every byte, first time");
    if contract(words).order == Order::PerKey {
        assert_eq!(reordered(&all), 0, "{url} {words}: in order within a key");
    }
    let work = world.broker.work();
    assert_eq!(work.payload_copies, MESSAGES, "one copy a message");
    match contract(words).storage {
        Storage::Memory => assert_eq!((work.bytes_written, work.write_calls, work.fsyncs), (0, 0, 0)),
        Storage::PageCache => assert!(work.bytes_written > MESSAGES * 100 && work.fsyncs == 0),
        Storage::Fsync => assert!(work.fsyncs > 0 && work.fsyncs < MESSAGES),
    }
    assert!(world.broker.storage_error().is_none());
}

macro_rules! everywhere {
    ($($backend:ident: $url:literal;)*) => {$(
        mod $backend {
            #[test]
            fn in_memory() {
                super::check($url, "memory");
            }

            #[test]
            fn on_the_page_cache_in_order_within_a_key() {
                super::check($url, "page-cache,per-key");
            }

            #[test]
            fn flushed() {
                super::check($url, "fsync");
            }
        }
    )*};
}

everywhere! {
    log: "log";
    queue: "queue";
    shard: "shard?write_records=100000&write_bytes=100MiB&read_bytes=100MiB";
    direct: "direct";
}

#[test]
fn null_delivers_everything_and_stores_nothing() {
    check("null", "memory");
    check("null", "memory,per-key");
}
