//! Bad input and hard times: a clock that goes back, a hundred thousand lanes, messages of 64 MiB, a consumer that never settles, a
//! folder that another process uses.
//!
//! Leaves out what a disk does (`crash`), what lies in a folder (`recovery`, `damaged`), and the binary's own words for it all.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use brokerlab_embedded::{BackendUrl, OpenError, Place, Store, StoreError, open};
use brokerlab_model::{
    Answer, Blocked, ChannelId, ChannelSpec, Control, Failure, LaneId, Publishes, Refusal, Role, SeekTo, Span, Status,
    Storage, Time,
};

use crate::world::{World, contract, folder, numbered};

fn steps(world: &mut World, count: usize) {
    for _ in 0..count {
        world.step();
    }
}

/// A world with one channel, a producer and a member with so much credit.
fn pair(url: &str, words: &str, lanes: u32, credit: u32) -> (World, ChannelId, usize, usize) {
    let mut world = World::open_anywhere(url, contract(words));
    let administrator = world.connect(Role::Administrator);
    let channel = world.create(administrator, lanes, &["g"]);
    let producer = world.connect(Role::Producer);
    let member = world.connect(Role::Member { group: "g".into(), channels: vec![channel] });
    world.control(member, Control::Grant(credit));
    steps(&mut world, 5);
    (world, channel, producer, member)
}

fn publish(world: &mut World, producer: usize, channel: ChannelId, numbers: std::ops::Range<u64>, keys: u64) -> usize {
    let batch = numbered(world, channel, numbers, keys);
    world.publish(producer, batch).0
}

/// What a member was given since it was last asked: each message's number, and how often it was delivered before.
fn taken(world: &mut World, member: usize) -> Vec<(u64, u16)> {
    let seen = std::mem::take(&mut world.seen[member]);
    let number = |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().expect("8 bytes"));
    seen.deliveries.iter().map(|delivery| (number(delivery.payload), delivery.redeliveries)).collect()
}

#[test]
fn a_clock_that_goes_back_stops_the_models_time_and_nothing_else() {
    let at = |seconds| Time(0) + Span::from_secs(seconds);
    let (mut world, channel, producer, member) = pair("queue?visibility_timeout=1s", "page-cache", 1, 100);
    world.now = at(100);
    assert_eq!(publish(&mut world, producer, channel, 0..3, 1), 3);
    steps(&mut world, 3);
    assert_eq!(taken(&mut world, member), [(0, 0), (1, 0), (2, 0)]);
    world.now = at(40);
    assert_eq!(publish(&mut world, producer, channel, 3..5, 1), 2);
    steps(&mut world, 3);
    assert_eq!(taken(&mut world, member), [(3, 0), (4, 0)], "messages go on while time stands still");
    world.now = at(100) + Span::from_millis(900);
    steps(&mut world, 3);
    assert_eq!(taken(&mut world, member), [], "no lease ended early");
    world.now = at(102);
    steps(&mut world, 3);
    let again = taken(&mut world, member);
    assert_eq!(again, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)], "and each ended once");

    let (mut world, channel, producer, member) = pair("log", "page-cache", 1, 0);
    for (seconds, number) in [(50, 0), (20, 1), (60, 2)] {
        world.now = at(seconds);
        assert_eq!(publish(&mut world, producer, channel, number..number + 1, 1), 1);
        steps(&mut world, 3);
    }
    for (seconds, position) in [(50, 0), (55, 2), (20, 0)] {
        let token = world.control(member, Control::Seek { lane: LaneId(0), to: SeekTo::Time(at(seconds)) });
        assert_eq!(world.done(member, token).position, position, "what came at 20 s counts as of 50 s");
    }
}

#[test]
fn a_hundred_thousand_lanes_take_and_hand_out_a_message_each() {
    const LANES: u32 = 100_000;
    for url in ["log", "queue", "direct"] {
        let (mut world, channel, producer, member) = pair(url, "page-cache", LANES, 2 * LANES);
        let mut seen = BTreeSet::new();
        let mut lanes = BTreeSet::new();
        for thousand in 0..u64::from(LANES) / 1_000 {
            let numbers = thousand * 1_000..(thousand + 1) * 1_000;
            assert_eq!(publish(&mut world, producer, channel, numbers, u64::MAX), 1_000, "{url}");
            steps(&mut world, 2);
            let got = std::mem::take(&mut world.seen[member]);
            for delivery in &got.deliveries {
                let number = u64::from_le_bytes(delivery.payload[..8].try_into().expect("8 bytes"));
                assert!(seen.insert(number), "{url}: {number} came twice");
                lanes.insert(delivery.receipt.lane);
            }
            world.ack(member, got.deliveries.iter().map(|delivery| delivery.receipt));
        }
        steps(&mut world, 5);
        assert_eq!(seen.len(), LANES as usize, "{url}");
        // By key, 63 of 100 lanes get one or more of as many messages as there are lanes.
        assert!(lanes.len() > 60_000, "{url}: {} lanes", lanes.len());
        let failed = world.seen[producer].outcomes.iter().filter(|outcome| outcome.status != Status::Done).count();
        assert_eq!((failed, world.seen[producer].outcomes.len()), (0, LANES as usize), "{url}");
        let token = world.control(0, Control::Describe(channel));
        steps(&mut world, 2);
        let answer = world.seen[0].answers.iter().find(|(asked, _)| *asked == token).expect("it is described");
        let Answer::Description(description) = &answer.1 else { panic!("{answer:?}") };
        assert_eq!(description.lanes.len(), LANES as usize);
        assert!(description.lanes.iter().all(|lane| lane.ready == 0 && lane.in_flight == 0), "{url}");

        let mut world = world.reopened(url, contract("page-cache"));
        let member = world.connect(Role::Member { group: "g".into(), channels: vec![channel] });
        world.control(member, Control::Grant(10));
        steps(&mut world, 5);
        // The last thousand were settled after the last write.
        let again = taken(&mut world, member);
        assert!(again.iter().all(|&(number, before)| number >= 99_000 && before == 1), "{url}: {again:?}");
    }
}

#[test]
fn more_lanes_than_a_model_can_have_are_refused() {
    for (url, most) in [("log", 1 << 17), ("queue", 1 << 17), ("shard", 20_000), ("direct", 1 << 17)] {
        let mut world = World::open_anywhere(url, contract("memory"));
        let administrator = world.connect(Role::Administrator);
        let mut refused = |lanes, groups| {
            let groups = (0..groups).map(|number| format!("g{number}")).collect();
            let spec = ChannelSpec { name: "c".into(), lanes, groups, ..ChannelSpec::default() };
            let token = world.control(administrator, Control::Create(spec));
            steps(&mut world, 2);
            let outcome = world.seen[administrator].outcomes.iter().find(|outcome| outcome.token == token);
            assert_eq!(outcome.map(|o| o.status), Some(Status::Refused(Refusal::TooManyLanes)), "{url}");
        };
        refused(most + 1, 1);
        // Groups times lanes are at most 1,048,576.
        refused(most, 60);
        world.create(administrator, 2, &["g"]);
        let mut refused = |lanes| {
            let spec = ChannelSpec { name: "d".into(), lanes, groups: vec!["g".into()], ..ChannelSpec::default() };
            let token = world.control(administrator, Control::Create(spec));
            steps(&mut world, 2);
            let outcome = world.seen[administrator].outcomes.iter().find(|outcome| outcome.token == token);
            outcome.map(|o| o.status) == Some(Status::Refused(Refusal::TooManyLanes))
        };
        assert!(refused(most - 1) && !refused(most - 2), "{url}: the lanes of all channels count");
    }
}

/// Names under which each model takes a message of 64 MiB.
const LARGE: [&str; 4] = [
    "log?max_message=65MiB",
    "queue?max_message=65MiB",
    "shard?max_message=65MiB&write_bytes=65MiB&read_bytes=65MiB",
    "direct?max_message=65MiB",
];

fn large() -> Vec<u8> {
    (0..64_u32 << 18).flat_map(|word| word.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect()
}

#[test]
fn a_message_of_64_mib_is_stored_and_delivered_where_the_limit_allows_it() {
    let payload = large();
    for url in LARGE {
        for words in ["memory", "page-cache", "fsync"] {
            let (mut world, channel, producer, member) = pair(url, words, 1, 4);
            let mut batch = Publishes::new();
            let token = world.token();
            batch.push(token, channel, b"key", b"", &payload);
            assert_eq!(world.publish(producer, batch).0, 1, "{url} {words}");
            assert_eq!(world.done(producer, token).token, token);
            steps(&mut world, 5);
            let seen = std::mem::take(&mut world.seen[member]);
            assert_eq!(seen.deliveries.len(), 1, "{url} {words}");
            let delivery = seen.deliveries.get(0);
            assert!(delivery.key == b"key" && delivery.payload == payload, "{url} {words}: every byte");
            world.ack(member, std::iter::once(delivery.receipt));
            assert_eq!(publish(&mut world, producer, channel, 0..1, 1), 1, "{url} {words}: and it goes on");
            steps(&mut world, 5);
            assert_eq!(taken(&mut world, member), [(0, 0)], "{url} {words}");
        }
    }
}

#[test]
fn a_message_above_the_limit_is_refused_by_itself_whatever_its_size() {
    let payload = large();
    for url in ["log", "queue", "shard", "direct"] {
        let (mut world, channel, producer, member) = pair(url, "page-cache", 1, 10);
        let small: Vec<u64> = vec![1, 2];
        let mut batch = Publishes::new();
        let tokens: Vec<_> = (0..3).map(|_| world.token()).collect();
        batch.push(tokens[0], channel, b"", b"", &small[0].to_le_bytes());
        batch.push(tokens[1], channel, b"", b"", &payload);
        batch.push(tokens[2], channel, b"", b"", &small[1].to_le_bytes());
        assert_eq!(world.publish(producer, batch).0, 3, "{url}");
        steps(&mut world, 5);
        let status = |token| world.seen[producer].outcomes.iter().find(|o| o.token == token).map(|o| o.status);
        let statuses: Vec<_> = tokens.iter().map(|token| status(*token)).collect();
        let expected = [Status::Done, Status::Refused(Refusal::TooLarge), Status::Done].map(Some);
        assert_eq!(statuses, expected, "{url}");
        assert_eq!(taken(&mut world, member), [(1, 0), (2, 0)], "{url}");
    }
}

#[test]
fn a_consumer_that_never_settles_gets_its_credit_and_holds_nothing_up_but_its_own() {
    const CREDIT: usize = 10;
    for url in ["log", "queue", "shard?write_records=1000000&write_bytes=1GiB", "direct"] {
        let url =
            &format!("{url}{}max_memory=1MiB&max_data=1MiB&segment=64KiB", if url.contains('?') { '&' } else { '?' });
        let (mut world, channel, producer, member) = pair(url, "page-cache", 1, CREDIT as u32);
        let mut sent = 0;
        let mut blocked = None;
        while blocked.is_none() && sent < 1_000_000 {
            let batch = numbered(&mut world, channel, sent..sent + 100, 1);
            let mut batch = brokerlab_model::Batch::Publish(batch);
            let accepted = world.clients[producer].submit(world.now, &mut batch);
            sent += accepted.taken as u64;
            blocked = accepted.blocked;
            world.step();
        }
        // Callers of a service give up after a second.
        let over = world.now + Span::from_secs(2);
        while world.now < over {
            world.step();
        }
        let outcomes = &world.seen[producer].outcomes;
        let overloaded = outcomes.iter().filter(|o| o.status == Status::Failed(Failure::Overloaded)).count();
        let done = outcomes.iter().filter(|o| o.status == Status::Done).count();
        if url.starts_with("direct") {
            assert!(overloaded > 0, "{url}: a service queue that is full says so");
        } else {
            assert_eq!((blocked, overloaded), (Some(Blocked::Data), 0), "{url}");
        }
        assert_eq!(done + overloaded, outcomes.len(), "{url}");
        let got = std::mem::take(&mut world.seen[member]);
        assert_eq!(got.deliveries.len(), CREDIT, "{url}");
        // Another world: whoever settles late gets every one that was taken.
        world.ack(member, got.deliveries.iter().map(|delivery| delivery.receipt));
        world.control(member, Control::Grant(done as u32));
        let mut all = got.deliveries.len();
        for _ in 0..50 {
            world.step();
            let got = std::mem::take(&mut world.seen[member]);
            all += got.deliveries.len();
            world.ack(member, got.deliveries.iter().map(|delivery| delivery.receipt));
        }
        assert_eq!(all, done, "{url}: nothing that was acknowledged is lost, nothing comes twice");
    }
}

/// The folder that the other process of the next test is to hold.
const HELD: &str = "BROKERLAB_TEST_HOLDS";

#[test]
fn a_folder_that_another_process_uses_is_refused_until_that_has_ended() {
    let test = "hard_times::a_folder_that_another_process_uses_is_refused_until_that_has_ended";
    let create =
        |dir: &std::path::Path| Store::create(Storage::PageCache, brokerlab_embedded::Limits::default(), Some(dir));
    if let Some(dir) = std::env::var_os(HELD) {
        let _held = create(dir.as_ref()).expect("nobody else uses it");
        writeln!(std::io::stderr(), "held").expect("it is piped");
        let _ended_with_the_pipe = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    }
    let folder = folder();
    let data = folder.path().join("data");
    let program = std::env::current_exe().expect("this program");
    let mut other = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env(HELD, &data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(other.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.ends_with("held\n") {
        line.clear();
        assert!(said.read_line(&mut line).expect("a line") > 0, "the other process ended");
    }
    let opening = || open(&BackendUrl::parse("log").unwrap(), &contract("page-cache"), &Place { data: Some(&data) });
    let Err(error) = opening() else { panic!("two processes store in one folder") };
    assert!(matches!(error, OpenError::Store(StoreError::Locked(_))), "{error}");
    let words = error.to_string();
    assert!(words.contains(data.to_str().unwrap()) && words.contains("--data DIR"), "{words}");
    drop(other.stdin.take());
    assert!(other.wait().expect("it ends").success());
    let Err(error) = opening() else { panic!("the other's segments are not overwritten") };
    assert!(matches!(error, OpenError::Store(StoreError::NotEmpty { .. })), "{error}");
    brokerlab_embedded::reopen(&BackendUrl::parse("log").unwrap(), &contract("page-cache"), &data)
        .expect("its lock is gone");
}
