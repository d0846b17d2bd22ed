//! What the engine does beside the models: it commits in groups, wakes other loops once, blocks at its bounds, and stops at an
//! error of its storage.

use std::sync::Arc;

use brokerlab_embedded::store::Entry;
use brokerlab_embedded::{Limits, Store, SystemDisk};
use brokerlab_model::{
    Batch, Blocked, ChannelId, Client, ClientSpec, ConnectError, Control, Failure, LaneId, Record, Role, SeekTo, Span,
    Status, Storage, Time, Token, WaitOn, WorkCounts,
};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::world::{World, contract, numbered};

/// A producer on loop 0 and a member on loop 1, which is granted plenty and has all lanes.
fn pair(url: &str, words: &str) -> (World, ChannelId, usize, usize) {
    let mut world = World::open_anywhere(url, contract(words));
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, 1, &["g"]);
    let producer = world.connect(Role::Producer);
    let member = world.connect_at(Role::Member { group: "g".into(), channels: vec![channel] }, 1);
    world.control(member, Control::Grant(1_000_000));
    for _ in 0..10 {
        world.step();
    }
    for seen in &mut world.seen {
        seen.clear();
    }
    (world, channel, producer, member)
}

fn readable(client: &dyn Client) -> bool {
    let WaitOn::Read(fd) = client.wait_on() else { panic!("an engine's client names its descriptor") };
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&now)).expect("poll") == 1
}

fn publish(world: &mut World, producer: usize, channel: ChannelId, numbers: std::ops::Range<u64>) -> usize {
    let batch = numbered(world, channel, numbers, 10);
    world.publish(producer, batch).0
}

#[test]
fn everything_that_waits_is_committed_by_one_write_and_one_flush() {
    let (mut world, channel, producer, _) = pair("log", "fsync");
    let before = world.broker.work();
    for batch in 0..3 {
        assert_eq!(publish(&mut world, producer, channel, batch * 10..(batch + 1) * 10), 10);
    }
    assert!(world.seen[producer].outcomes.is_empty());
    for worker in &mut world.workers {
        worker.run(world.now);
    }
    // One frame: 40 bytes and 3 runs of 24, with 30 messages of 8 + 8 + 1 + 100 bytes, padded to 8.
    let expected = WorkCounts {
        bytes_written: 3624,
        write_calls: 1,
        fsyncs: 1,
        payload_copies: 30,
        round_trips: 3,
        ..WorkCounts::default()
    };
    assert_eq!(world.broker.work().since(&before), expected);
    world.step();
    let done = world.seen[producer].outcomes.iter().filter(|o| o.status == Status::Done).count();
    assert_eq!(done, 30, "acknowledged after the flush");
}

#[test]
fn nothing_is_acknowledged_or_delivered_before_it_is_stored() {
    for words in ["page-cache", "fsync"] {
        let (mut world, channel, producer, member) = pair("log", words);
        publish(&mut world, producer, channel, 0..10);
        for client in [producer, member] {
            world.clients[client].poll(world.now, &mut world.seen[client]);
            assert!(world.seen[client].is_empty(), "{words}: before any worker ran");
        }
        world.step();
        assert_eq!((world.seen[producer].outcomes.len(), world.seen[member].deliveries.len()), (10, 10), "{words}");
    }
}

/// Nothing is left to be stored before what was settled long ago comes again: it comes without another step of anybody's.
#[test]
fn at_most_once_a_replay_comes_though_nothing_waits_to_be_stored() {
    for words in ["at-most-once, page-cache", "at-most-once, fsync"] {
        let (mut world, channel, producer, member) = pair("log", words);
        publish(&mut world, producer, channel, 0..20);
        for _ in 0..10 {
            world.step();
        }
        assert_eq!(world.seen[member].deliveries.len(), 20, "{words}");
        world.seen[member].clear();
        world.control(member, Control::Seek { lane: LaneId(0), to: SeekTo::Earliest });
        for _ in 0..10 {
            world.step();
        }
        assert_eq!(world.seen[member].deliveries.len(), 20, "{words}: once more");
    }
}

#[test]
fn only_the_worker_that_flushes_may_block() {
    let workers = |words| -> Vec<bool> {
        let mut world = World::open_anywhere("queue", contract(words));
        world.workers = world.broker.workers();
        world.workers.iter().map(|worker| worker.blocks()).collect()
    };
    assert_eq!(workers("memory"), [false]);
    assert_eq!(workers("page-cache"), [false]);
    assert_eq!(workers("fsync"), [false, true]);
}

#[test]
fn another_loop_is_woken_once_until_it_has_polled() {
    let (mut world, channel, producer, member) = pair("log", "memory");
    assert!(!readable(&*world.clients[producer]) && !readable(&*world.clients[member]), "nothing has happened");
    publish(&mut world, producer, channel, 0..10);
    publish(&mut world, producer, channel, 10..20);
    assert!(readable(&*world.clients[member]), "the other loop is woken");
    assert!(!readable(&*world.clients[producer]), "the own loop is awake");
    assert_eq!(world.clients[producer].next_deadline(), Some(Time::ZERO), "and is told to poll at once");
    let WaitOn::Read(fd) = world.clients[member].wait_on() else { panic!("a descriptor") };
    let mut count = [0; 8];
    rustix::io::read(fd, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1, "one write for two publishes");

    world.step();
    assert_eq!(world.seen[member].deliveries.len(), 20);
    assert!(!readable(&*world.clients[member]), "polled, so drained");
    let due = world.clients[member].next_deadline();
    assert!(due.is_none_or(|due| due > world.now), "nothing is due but to be heard of: {due:?}");
    publish(&mut world, producer, channel, 20..21);
    assert!(readable(&*world.clients[member]), "woken again");
}

#[test]
fn a_loop_stays_woken_until_its_last_client_has_polled() {
    let (mut world, channel, producer, first) = pair("queue", "memory");
    let role = Role::Member { group: "g".into(), channels: vec![channel] };
    let second = world.connect_at(role, 1);
    world.control(second, Control::Grant(1000));
    world.step();
    publish(&mut world, producer, channel, 0..20);
    assert!(readable(&*world.clients[first]));
    world.clients[first].poll(world.now, &mut world.seen[first]);
    assert!(readable(&*world.clients[second]), "the second has not polled");
    world.clients[second].poll(world.now, &mut world.seen[second]);
    assert!(!readable(&*world.clients[second]));
    assert_eq!(world.seen[first].deliveries.len() + world.seen[second].deliveries.len(), 20);
}

#[test]
fn a_worker_is_rung_by_what_it_has_to_write_and_names_the_models_deadlines() {
    let (mut world, channel, producer, member) = pair("queue?visibility_timeout=5s", "page-cache");
    let asleep = |world: &World| {
        let WaitOn::Read(fd) = world.workers[0].wait_on() else { panic!("a descriptor") };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&now)).expect("poll") == 0
    };
    assert!(asleep(&world));
    publish(&mut world, producer, channel, 0..1);
    assert_eq!(world.workers[0].next_deadline(), Some(Time::ZERO), "there is something to write");
    assert!(world.workers[0].run(world.now));
    world.clients[member].poll(world.now, &mut world.seen[member]);
    assert_eq!(world.seen[member].deliveries.len(), 1);
    let lease = world.now + Span::from_secs(5);
    assert_eq!(world.workers[0].next_deadline(), Some(lease), "when the lease ends");
    assert!(asleep(&world));
    world.workers[0].run(lease);
    world.clients[member].poll(lease, &mut world.seen[member]);
    let redeliveries: Vec<_> = world.seen[member].deliveries.iter().map(|d| d.redeliveries).collect();
    assert_eq!(redeliveries, [0, 1], "delivered again when its lease was over");
}

#[test]
fn at_its_bound_in_memory_a_shorter_prefix_is_taken_and_room_wakes_the_producer() {
    let (mut world, channel, producer, member) = pair("queue?max_memory=64KiB", "memory");
    let batch = numbered(&mut world, channel, 0..1000, 10);
    let (first, mut rest) = world.publish(producer, batch);
    // A message holds its 109 bytes, 8 of lengths and a table's entry of 16; before it is taken it is reckoned with a record of its own.
    assert!(first > 350 && first < 1000, "{first}");
    let mut taken = first;
    for _ in 0..10 {
        let again = world.clients[producer].submit(world.now, &mut rest);
        assert_eq!(again.blocked, Some(Blocked::Memory));
        taken += again.taken;
    }
    assert_eq!(
        world.clients[producer].submit(world.now, &mut rest).taken,
        0,
        "what is reckoned comes close to what it takes"
    );
    assert_eq!(rest.len(), 1000 - taken);
    world.step();
    assert_eq!(world.clients[producer].next_deadline(), None);
    let seen = std::mem::take(&mut world.seen[member]);
    assert_eq!(seen.deliveries.len(), taken, "what was taken is delivered");
    world.ack(member, seen.deliveries.iter().map(|d| d.receipt));
    assert!(readable(&*world.clients[producer]), "the member on the other loop has made room");
    world.clients[producer].poll(world.now, &mut world.seen[producer]);
    assert!(!readable(&*world.clients[producer]));
    assert_eq!(world.clients[producer].submit(world.now, &mut rest).taken, first.min(1000 - taken));
}

#[test]
fn at_its_bound_on_files_it_is_blocked_by_data_and_memory_stays_small() {
    let (mut world, channel, producer, member) =
        pair("log?max_memory=64KiB&max_data=256KiB&segment=64KiB", "page-cache");
    let batch = numbered(&mut world, channel, 0..4000, 10);
    let mut rest = Batch::Publish(batch);
    let mut blocked = None;
    for _ in 0..200 {
        let accepted = world.clients[producer].submit(world.now, &mut rest);
        blocked = accepted.blocked;
        world.step();
    }
    assert_eq!(blocked, Some(Blocked::Data));
    let taken = 4000 - rest.len();
    assert!(taken * 117 < 256 << 10, "{taken} messages of 117 bytes are within the bound");
    // Each of 32 frames has a header of 40 bytes and a run or two, and is padded to 8.
    assert!((taken + 60) * 117 > 256 << 10, "{taken} messages come close to it");
    assert_eq!(world.seen[member].deliveries.len(), taken);
    assert!(world.seen[producer].outcomes.iter().all(|o| o.status == Status::Done));
}

#[test]
fn an_error_of_the_storage_fails_what_waits_and_stops_the_engine() {
    let (mut world, channel, producer, _) = pair("log?segment=64KiB", "page-cache");
    std::fs::remove_dir_all(world.data()).unwrap();
    // The open segment is still there for who holds it; the next one can't begin.
    for batch in 0..20 {
        assert_eq!(publish(&mut world, producer, channel, batch * 50..(batch + 1) * 50), 50);
    }
    world.step();
    let failed = world.seen[producer].outcomes.iter().filter(|o| o.status == Status::Failed(Failure::Storage));
    assert_eq!(failed.count(), 1000);
    let error = world.broker.storage_error().expect("the error is kept");
    assert!(error.to_string().contains("nothing more is taken"), "{error}");
    let before = world.broker.work();
    let batch = numbered(&mut world, channel, 0..10, 10);
    let mut batch = Batch::Publish(batch);
    let accepted = world.clients[producer].submit(world.now, &mut batch);
    assert_eq!((accepted.taken, accepted.blocked), (0, Some(Blocked::Storage)));
    assert_eq!(world.broker.stopped(), Some(error.to_string()));
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(world.broker.work().since(&before), WorkCounts::default(), "nothing is tried again");
}

#[test]
fn a_number_is_free_again_once_its_client_was_closed_and_is_gone() {
    for url in ["log", "queue", "shard", "direct", "null"] {
        let mut world = World::open_anywhere(url, contract("memory"));
        let spec = ClientSpec { number: 7, role: Role::Producer, placement: 0 };
        let taken = |world: &mut World| match world.broker.connect(world.now, &spec) {
            Ok(_) => panic!("{url}: it was free"),
            Err(error) => assert_eq!(error, ConnectError::NumberTaken(7), "{url}"),
        };
        for _ in 0..3 {
            let mut client = world.broker.connect(world.now, &spec).unwrap();
            taken(&mut world);
            let close = Batch::Control(vec![(Token(1), Control::Close)]);
            assert_eq!(client.submit(world.now, &mut { close }).taken, 1);
            taken(&mut world);
        }
        drop(world.broker.connect(world.now, &spec).unwrap());
        taken(&mut world);
    }
}

#[test]
fn a_late_group_reads_back_what_left_memory() {
    let mut world = World::open_anywhere("log?max_memory=128KiB&segment=256KiB", contract("page-cache"));
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, 1, &["g"]);
    let producer = world.connect(Role::Producer);
    for batch in 0..50 {
        assert_eq!(publish(&mut world, producer, channel, batch * 50..(batch + 1) * 50), 50);
        world.step();
    }
    assert_eq!(world.broker.work().read_calls, 0);
    let member = world.connect(Role::Member { group: "g".into(), channels: vec![channel] });
    world.control(member, Control::Grant(2500));
    for _ in 0..10 {
        world.step();
    }
    let numbers: Vec<u64> =
        world.seen[member].deliveries.iter().map(|d| u64::from_le_bytes(d.payload[..8].try_into().unwrap())).collect();
    assert!(numbers.iter().copied().eq(0..2500), "all of them, in order");
    assert!(world.broker.work().read_calls >= 25, "{:?}", world.broker.work());
}

#[test]
fn facts_name_what_is_below() {
    let facts = |words| World::open_anywhere("log", contract(words)).broker.storage_facts();
    let memory = facts("memory");
    assert_eq!((memory.file_system.as_str(), memory.device.as_str()), ("none", "none"));
    let files = facts("fsync");
    assert!(files.file_system != "none" && !files.device.is_empty() && !files.write_cache.is_empty(), "{files:?}");
    assert_eq!(files.fresh_or_recycled, "1 fresh, 0 recycled");
    assert!(files.fsync_note.starts_with("flushed"), "{files:?}");
    assert!(facts("page-cache").fsync_note.starts_with("not flushed"));
}

#[test]
fn what_honour_says_before_opening_is_what_it_says_after() {
    for listed in brokerlab_embedded::catalogue() {
        let url = brokerlab_embedded::BackendUrl::parse(listed.kind.name()).unwrap();
        let broker =
            brokerlab_embedded::open(&url, &contract("memory"), &brokerlab_embedded::Place::default()).unwrap();
        assert_eq!(listed.capabilities.name, url.name());
        for asked in brokerlab_model::Contract::ladder() {
            let before = brokerlab_embedded::honour(&url, &asked);
            assert_eq!(before, broker.honour(&asked), "{} under {asked}", url.name());
            if let Ok(settings) = before {
                let kept = settings.0.iter().any(|setting| setting.name == "max_memory" && setting.value == "256 MiB");
                assert!(kept, "{}: the bound is printed", url.name());
                let on_files = asked.storage != Storage::Memory && url.name() != "null";
                assert_eq!(settings.0.iter().any(|setting| setting.name == "max_data"), on_files);
            }
        }
    }
}

#[test]
fn settlements_are_written_soon_and_at_the_end_though_nobody_waits_for_them() {
    for words in ["page-cache", "fsync"] {
        let (mut world, channel, producer, member) = pair("log", words);
        publish(&mut world, producer, channel, 0..10);
        for _ in 0..3 {
            world.step();
        }
        let seen = std::mem::take(&mut world.seen[member]);
        assert_eq!(seen.deliveries.len(), 10);
        let written = |world: &World| world.broker.work().bytes_written;
        let before = written(&world);
        let run = |world: &mut World, at: Time| {
            for worker in &mut world.workers {
                worker.run(at);
            }
        };
        world.ack(member, seen.deliveries.iter().take(5).map(|d| d.receipt));
        let (now, soon) = (world.now, world.now + Span::from_millis(200));
        run(&mut world, now);
        assert_eq!(written(&world), before, "it waits for others");
        let due = world.workers[0].next_deadline().expect("a deadline");
        assert!(due > now && due <= soon, "{due:?}");
        run(&mut world, soon);
        let lingered = written(&world);
        assert!(lingered > before, "{words}");
        run(&mut world, soon + Span::from_secs(1));
        assert_eq!(written(&world), lingered, "once is enough");
        world.ack(member, seen.deliveries.iter().skip(5).map(|d| d.receipt));
        let (data, folder) = (world.data(), world.folder.take());
        drop(world);
        let mut committed = 0;
        let each = |entry: Entry<'_>| {
            if let Entry::Record(Record::Committed { position, .. }) = entry {
                committed = position;
            }
        };
        let disk = Arc::new(SystemDisk::new(&data));
        Store::open(Storage::PageCache, Limits::default(), disk, each).expect("it opens");
        assert_eq!(committed, 10, "{words}: at the end everything is written, in {folder:?}");
    }
}
