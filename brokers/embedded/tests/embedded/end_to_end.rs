//! Every backend delivers every message once through the engine, on every kind of storage.

use brokerlab_model::{Contract, Control, Delivered, Event, Role, Span, Status, Storage};

use crate::world::{World, contract, numbered};

const MESSAGES: u64 = 10_000;
const BATCH: u64 = 64;

fn number(delivery: &Delivered<'_>) -> u64 {
    assert_eq!((delivery.headers, delivery.payload_len, delivery.payload.len()), (&b"h"[..], 100, 100));
    let number = u64::from_le_bytes(delivery.payload[..8].try_into().unwrap());
    assert_eq!(delivery.key, (number % 50).to_le_bytes());
    number
}

/// One producer, two members of one group on two loops, 10,000 messages; returns what each member received, in order.
fn run(url: &str, words: &str) -> (World, [Vec<u64>; 2], Option<tempfile::TempDir>) {
    let wanted: Contract = contract(words);
    let folder =
        (wanted.storage != Storage::Memory).then(|| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let data = folder.as_ref().map(|folder| folder.path().join("data"));
    let mut world = World::open(url, words, data.as_deref());
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, 4, &["g"]);
    let member = || Role::Member { group: "g".into(), channels: vec![channel] };
    let members = [world.connect_at(member(), 0), world.connect_at(member(), 1)];
    let producer = world.connect(Role::Producer);
    for member in members {
        world.control(member, Control::Grant(256));
    }
    let mut received = [Vec::new(), Vec::new()];
    let mut offered = 0;
    for _ in 0..200_000 {
        if offered < MESSAGES {
            let batch = numbered(&mut world, channel, offered..(offered + BATCH).min(MESSAGES), 50);
            offered += world.publish(producer, batch).0 as u64;
        }
        world.step();
        for (&member, received) in members.iter().zip(&mut received) {
            let seen = std::mem::take(&mut world.seen[member]);
            received.extend(seen.deliveries.iter().map(|delivery| number(&delivery)));
            for event in seen.events {
                if let Event::LaneRevoked(lane) = event {
                    world.control(member, Control::Release(lane));
                }
            }
            if !seen.deliveries.is_empty() {
                world.ack(member, seen.deliveries.iter().map(|d| d.receipt));
                world.control(member, Control::Grant(seen.deliveries.len() as u32));
            }
        }
        if received[0].len() + received[1].len() >= MESSAGES as usize {
            break;
        }
    }
    for _ in 0..100 {
        world.step();
    }
    (world, received, folder)
}

fn check(url: &str, words: &str) {
    let (world, received, _folder) = run(url, words);
    let mut all: Vec<u64> = received.concat();
    all.sort_unstable();
    assert_eq!(all.len() as u64, MESSAGES, "{url} {words}: as many deliveries as messages");
    assert!(all.iter().copied().eq(0..MESSAGES), "{url} {words}: every message once");
    let producer = world.clients.len() - 1;
    let done = world.seen[producer].outcomes.iter().filter(|o| o.status == Status::Done).count();
    assert_eq!(done as u64, MESSAGES, "{url} {words}: every publish ended well");
    if contract(words).order == brokerlab_model::Order::PerKey {
        for numbers in &received {
            for key in 0..50 {
                assert!(numbers.iter().filter(|n| *n % 50 == key).is_sorted(), "{url}: key {key} in order");
            }
        }
    }
    let work = world.broker.work();
    assert_eq!(work.payload_copies, MESSAGES, "one copy a message");
    match contract(words).storage {
        Storage::Memory => assert_eq!((work.bytes_written, work.write_calls, work.fsyncs), (0, 0, 0)),
        Storage::PageCache => assert!(work.bytes_written > MESSAGES * 100 && work.fsyncs == 0),
        Storage::Fsync => assert!(work.fsyncs > 0 && work.fsyncs < MESSAGES),
    }
    assert!(world.broker.storage_error().is_none());
    assert!(world.now.since(brokerlab_model::Time::ZERO) < Span::from_secs(200));
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
}

#[test]
fn null_delivers_everything_and_stores_nothing() {
    check("null", "memory");
    check("null", "memory,per-key");
}
