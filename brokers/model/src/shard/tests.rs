//! The shard stream against its naive reference, and its limits at their exact times.
//!
//! Leaves out the parts that have their own tests: the hash ranges, the buckets, the assignment of leases.

use proptest::prelude::*;

use super::reference::reference;
use super::{FULL_CREDIT, Readers, ShardModel, ShardOptions};
use crate::batch::{Accepted, Blocked, ChannelId, ChannelSpec, Control, LaneId, Publishes, Token};
use crate::broker::{ClientSpec, Role};
use crate::completion::{Event, Refusal, Status};
use crate::contract::{Contract, Delivery, Order};
use crate::machine::{Effects, Model, Write};
use crate::stream::trial::{Command, Trial, any_command, calm_command, reshape};
use crate::time::{Span, Time};
use crate::trial::crash::{Crash, crash};

/// Restarts of a sequence of commands: one after each.
const RESTARTS: usize = 40;

fn trial(options: &ShardOptions, contract: Contract) -> Trial<ShardModel> {
    let lanes = if contract.order == Order::Total { [1, 1] } else { [3, 2] };
    let model = ShardModel::new(options.clone(), contract).expect("the contract is kept");
    let mut trial = Trial::new(model, reference(options.clone(), contract), lanes);
    if let Some(session) = options.failover_time {
        // Reading may have to wait for longer than somebody may be silent.
        (trial.round, trial.idle_rounds) = (session.0 / 3, 60);
    }
    trial
}

fn contracts() -> impl Strategy<Value = Contract> {
    let delivery = prop_oneof![Just(Delivery::AtLeastOnce), Just(Delivery::AtMostOnce)];
    let order = prop_oneof![Just(Order::None), Just(Order::PerKey), Just(Order::Total)];
    (delivery, order).prop_map(|(delivery, order)| Contract { delivery, order, ..Contract::default() })
}

/// Limits that are reached and some that are not, readers of both kinds, shards that are split by load, and sessions that commands outlive
/// and some that they don't.
fn options() -> impl Strategy<Value = ShardOptions> {
    let read_call = || prop_oneof![Just((10 << 20, 10_000)), Just((250, 10_000)), Just((10 << 20, 2))];
    let slow = (prop_oneof![Just(2 << 20), Just(300)], Just(5), read_call(), Just(None));
    let session = prop_oneof![Just(Some(Span(300))), Just(Some(Span(3_000)))];
    let fast = (Just(u32::MAX), Just(100_000_000), read_call(), session);
    let reads = (prop_oneof![Just(Readers::FanOut), Just(Readers::Polling)], prop_oneof![slow, fast]);
    let on_demand = prop_oneof![2 => Just(None), 1 => Just(Some(Span(40)))];
    let retention = prop_oneof![Just(None), Just(Some(Span(90)))];
    let credit = prop_oneof![2 => Just(FULL_CREDIT), 1 => Just(Span(300_000_000)), 1 => Just(Span::ZERO)];
    // The trials begin with two or five.
    let quota = prop_oneof![3 => Just(20_000), 1 => Just(7)];
    let seldom = (on_demand, retention, credit, quota);
    (limits(), reads, seldom).prop_map(|(writes, reads, (on_demand, retention, initial_credit, max_shards))| {
        let (write_records_per_s, write_bytes_per_s) = writes;
        let (readers, (read_bytes_per_s, read_calls_per_s, read_call, failover_time)) = reads;
        ShardOptions {
            write_records_per_s,
            write_bytes_per_s,
            initial_credit,
            readers,
            read_bytes_per_s,
            read_calls_per_s,
            read_call,
            on_demand,
            failover_time,
            retention,
            max_shards,
            ..ShardOptions::default()
        }
    })
}

/// Limits that 100-byte records reach, or not; per second, where the commands' times are nanoseconds.
fn limits() -> impl Strategy<Value = (u32, u32)> {
    prop_oneof![Just((1_000, 1 << 20)), Just((8, 1 << 20)), Just((1_000, 700)), Just((2_000_000_000, 1_000))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_shard_stream_does_what_the_reference_says(
        contract in contracts(),
        options in options(),
        commands in prop::collection::vec(any_command(), 0..120),
    ) {
        trial(&options, contract).judge(&commands, contract.delivery);
    }

    #[test]
    fn throttled_or_held_back_every_message_that_was_taken_comes_once_in_the_order_of_its_key(
        contract in contracts(),
        options in options(),
        commands in prop::collection::vec(prop_oneof![15 => calm_command(), 1 => reshape()], 0..120),
    ) {
        let options = ShardOptions { failover_time: None, retention: None, ..options };
        trial(&options, contract).judge_calm(&commands, contract.order);
    }
}

proptest! {
    // As many as PROPTEST_CASES says, 256 else: 10,240 restarts.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_crash_at_any_moment_it_goes_on_where_its_journal_ends(
        contract in contracts(),
        options in options(),
        steps in prop::collection::vec((any_command(), crash()), RESTARTS),
    ) {
        prop_assert_eq!(trial(&options, contract).judge_with_crashes(&steps, contract.delivery), RESTARTS);
    }
}

#[test]
fn a_record_that_failed_and_is_there_after_a_crash_holds_no_shard_back_that_was_read_past_it() {
    let options = ShardOptions { on_demand: Some(Span(40)), failover_time: None, ..full() };
    let contract = Contract { delivery: Delivery::AtMostOnce, order: Order::None, ..Contract::default() };
    let publish = || Command::Publish { client: 1, channel: 0, keys: vec![2] };
    // A record fails, its shard is split, the group reads and commits one of the child, which is split too: then the first record is back.
    let steps = [
        (publish(), 1),
        (Command::Pass(40), 1),
        (publish(), 1),
        (Command::Stored { calls: 1, fails: true }, 81),
        (Command::Connect(5), 1),
        (Command::Grant(5, 1), 1),
        (Command::Pass(40), 1),
        (Command::Stored { calls: 1, fails: false }, 8),
        (Command::Connect(3), 0),
    ];
    let steps: Vec<_> = steps.into_iter().map(|(command, keep)| (command, Crash::keeping(keep))).collect();
    assert_eq!(trial(&options, contract).judge_with_crashes(&steps, contract.delivery), steps.len());
}

#[test]
fn a_shard_that_changes_hands_because_another_was_read_to_its_end_is_revoked_after_what_it_handed_out() {
    let options = ShardOptions { failover_time: None, ..full() };
    let contract = Contract { delivery: Delivery::AtMostOnce, order: Order::None, ..Contract::default() };
    let publish = |key| Command::Publish { client: 1, channel: 0, keys: vec![key] };
    // What is handed out is committed, so reading one shard to its end gives out its children, and these again, all at once.
    let commands = [
        publish(3),
        publish(0),
        Command::Split { lane: 1, at: None },
        publish(0),
        Command::Connect(3),
        Command::Merge { lane: 2, with: 6 },
        publish(0),
    ];
    trial(&options, contract).judge(&commands, contract.delivery);
}

#[test]
fn shards_that_are_split_and_merged_while_they_are_empty_are_looked_at_once_each() {
    let options = ShardOptions { failover_time: None, ..full() };
    let mut model = ShardModel::new(options, Contract::default()).expect("the contract is kept");
    let mut out = Effects::default();
    let admin = ClientSpec { number: 0, role: Role::Administrator, placement: 0 };
    model.connect(Time(0), &admin, &mut out).expect("a new number");
    let spec = ChannelSpec { name: "s".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
    let mut ticket = 0;
    let mut ask = |model: &mut ShardModel, control: Control, out: &mut Effects| {
        model.control(Time(0), 0, Token(ticket), &control, out);
        model.stored(Time(0), ticket, Ok(()), out);
        ticket += 1;
    };
    ask(&mut model, Control::Create(spec), &mut out);
    // By every path that there is, the last one has 2^100 ancestors.
    for turn in 0..100 {
        ask(&mut model, Control::Split { lane: LaneId(3 * turn), at: None }, &mut out);
        ask(&mut model, Control::Merge { lane: LaneId(3 * turn + 1), with: LaneId(3 * turn + 2) }, &mut out);
    }
    assert!(out.outcomes.iter().all(|(_, outcome)| outcome.status == Status::Done), "{:?}", out.outcomes);
    out.clear();
    let role = Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] };
    model.connect(Time(0), &ClientSpec { number: 1, role, placement: 0 }, &mut out).expect("a new number");
    assert_eq!(out.events, [(1, Event::LaneAssigned { lane: LaneId(300), position: 0 })]);
}

/// One stream of one shard, a producer (1) and a worker of application `g` (2) with much credit.
fn one_shard(options: &ShardOptions, contract: Contract) -> (ShardModel, Effects) {
    let options = ShardOptions { failover_time: None, ..options.clone() };
    let mut model = ShardModel::new(options, contract).expect("the contract is kept");
    let mut out = Effects::default();
    let member = Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] };
    for (number, role) in [(0, Role::Administrator), (1, Role::Producer), (2, member)] {
        if number == 1 {
            let spec =
                ChannelSpec { name: "s".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
            model.control(Time(0), 0, Token(900), &Control::Create(spec), &mut out);
            model.stored(Time(0), 0, Ok(()), &mut out);
        }
        model.connect(Time(0), &ClientSpec { number, role, placement: 0 }, &mut out).expect("a new number");
    }
    model.control(Time(0), 2, Token(901), &Control::Grant(1_000_000), &mut out);
    out.clear();
    (model, out)
}

fn records(count: u64, bytes: u32) -> Publishes {
    let mut batch = Publishes::of_lengths();
    for n in 0..count {
        batch.push_length(Token(n), ChannelId(0), b"k", b"", bytes - 1);
    }
    batch
}

/// As after a pause.
fn full() -> ShardOptions {
    ShardOptions { initial_credit: FULL_CREDIT, ..ShardOptions::default() }
}

/// How many of as many small records as that are written at `now`.
fn written(model: &mut ShardModel, now: Time, count: u64, out: &mut Effects) -> u64 {
    out.clear();
    let _ = model.publish(now, 1, &records(count, 100), out);
    let throttled = out.outcomes.iter().filter(|(_, outcome)| outcome.status == Status::Throttled).count();
    count - throttled as u64
}

#[test]
fn a_shard_begins_with_little_credit_and_so_a_short_window_shows_its_limit() {
    let (mut model, mut out) = one_shard(&ShardOptions::default(), Contract::default());
    let mut over = |model: &mut ShardModel, from: u64, steps: u64| {
        (from..from + steps).map(|ms| written(model, Time(ms * 1_000_000), 40, &mut out)).sum::<u64>()
    };
    assert_eq!(over(&mut model, 0, 1), 20, "what comes at once when it begins is not throttled, a second's worth is");
    assert_eq!(over(&mut model, 1, 200), 200, "then a record each millisecond, whoever looks for how long");
    assert_eq!(written(&mut model, Time(5_000_000_000), 2_000, &mut out), 1_000, "after a pause it has its burst");
}

#[test]
fn the_shards_of_a_split_begin_with_little_credit_too() {
    let (mut model, mut out) = one_shard(&ShardOptions::default(), Contract::default());
    let later = Time(5_000_000_000);
    model.control(later, 0, Token(1), &Control::Split { lane: LaneId(0), at: None }, &mut out);
    assert_eq!(written(&mut model, later, 2_000, &mut out), 20, "all records have one key");
}

#[test]
fn put_records_fails_in_part_and_the_rest_is_written() {
    let (mut model, mut out) = one_shard(&full(), Contract::default());
    let took = model.publish(Time(0), 1, &records(1_300, 100), &mut out);
    assert_eq!(took, Accepted { taken: 1_300, blocked: None });
    let written = |write: &Write| if let Write::Messages { count, .. } = write { *count } else { 0 };
    let written: u32 = out.writes.iter().map(written).sum();
    let throttled: Vec<u64> = out.outcomes.iter().map(|(_, outcome)| outcome.token.0).collect();
    assert_eq!((written, throttled), (1_000, (1_000..1_300).collect()), "a second's worth at once");
    assert!(out.outcomes.iter().all(|(client, outcome)| client == 1 && outcome.status == Status::Throttled));
    out.clear();
    let _ = model.publish(Time(250_000_000), 1, &records(300, 100), &mut out);
    assert_eq!(out.outcomes.len(), 50, "a quarter of a second brings 250 records");
    assert_eq!(model.next_deadline().map(|time| time.0), None, "nobody waits");
}

#[test]
fn where_order_is_asked_the_batch_is_cut_and_the_producer_is_told_when_to_go_on() {
    let contract = Contract { order: Order::PerKey, ..Contract::default() };
    let (mut model, mut out) = one_shard(&full(), contract);
    let mut batch = records(1_002, 100);
    let took = model.publish(Time(0), 1, &batch, &mut out);
    assert_eq!(took, Accepted { taken: 1_000, blocked: Some(Blocked::RateLimit) });
    assert_eq!((out.outcomes.len(), &out.events[..]), (0, &[(1, Event::Blocked)][..]));
    assert_eq!(model.next_deadline(), Some(Time(1_000_000)), "a thousandth of a second for one record");
    batch.advance(took.taken);
    out.clear();
    model.on_deadline(Time(999_999), &mut out);
    assert!(out.is_empty(), "early is harmless");
    model.on_deadline(Time(1_000_000), &mut out);
    assert_eq!((&out.events[..], model.next_deadline()), (&[(1, Event::Unblocked)][..], None));
    let took = model.publish(Time(1_000_000), 1, &batch, &mut out);
    assert_eq!(took, Accepted { taken: 1, blocked: Some(Blocked::RateLimit) });
}

#[test]
fn a_large_record_waits_for_bytes_and_one_above_a_seconds_worth_is_too_large() {
    let contract = Contract { order: Order::Total, ..Contract::default() };
    let (mut model, mut out) = one_shard(&full(), contract);
    let megabyte = 1 << 20;
    let took = model.publish(Time(0), 1, &records(2, megabyte), &mut out);
    assert_eq!(took, Accepted { taken: 1, blocked: Some(Blocked::RateLimit) });
    assert_eq!(model.next_deadline(), Some(Time(1_000_000_000)));
    out.clear();
    let took = model.publish(Time(0), 1, &records(1, megabyte + 1), &mut out);
    assert_eq!((took.taken, out.outcomes.len()), (1, 1));
    assert!(matches!(
        out.outcomes.iter().next().expect("it ended").1.status,
        Status::Refused(crate::completion::Refusal::TooLarge)
    ));
}

#[test]
fn an_application_reads_two_megabytes_per_second_and_shard_and_never_more() {
    let options = ShardOptions { write_records_per_s: 1 << 20, write_bytes_per_s: 1 << 30, ..full() };
    let (mut model, mut out) = one_shard(&options, Contract::default());
    let (count, bytes) = (10_000u64, 1_024);
    let took = model.publish(Time(0), 1, &records(count, bytes), &mut out);
    assert_eq!(took.taken as u64, count);
    out.clear();
    model.stored(Time(0), 1, Ok(()), &mut out);
    let mut got = Vec::new();
    let mut now = Time(0);
    loop {
        got.extend(out.deliveries.iter().map(|run| (now, run.receipt.position, u64::from(run.count))));
        let Some(due) = model.next_deadline().filter(|&due| due < Time(3_600_000_000_000)) else { break };
        assert!(due > now, "a deadline that stays due");
        now = due;
        out.clear();
        model.on_deadline(now, &mut out);
    }
    let mut total = 0;
    for &(at, position, run) in &got {
        assert_eq!(position, total, "in order and without a gap");
        total += run;
        let allowed = (2 << 20) + u128::from(at.0) * (2 << 20) / 1_000_000_000 + 1_024;
        assert!(u128::from(total) * 1_024 <= allowed, "{total} records at {at:?}");
    }
    assert_eq!((got[0].2, total), (2_048, count), "a second's worth at once, all in the end");
    // 10,000 KiB less the burst of 2,048 KiB, at 2,048 KiB/s.
    let seconds = 7_952.0 / 2_048.0;
    assert!((now.0 as f64 / 1e9 - seconds).abs() < 0.001, "{now:?}");
}

#[test]
fn what_is_not_kept_is_refused_with_its_reason() {
    let options = ShardOptions::default();
    for contract in Contract::ladder() {
        let kept = contract.delivery != Delivery::ExactlyOnce && contract.copies == 1;
        match options.honour(&contract) {
            Ok(settings) => {
                assert!(kept, "{contract}");
                let put = settings.0.iter().find(|setting| setting.name == "put").expect("said for every order");
                assert_eq!(put.value == "PutRecords", contract.order == Order::None);
            }
            Err(refusal) => assert!(!kept && !refusal.missing.is_empty(), "{contract}: {refusal}"),
        }
    }
}

/// How making a stream with this many applications ends.
fn created(options: ShardOptions, applications: u32) -> Status {
    let mut model = ShardModel::new(options, Contract::default()).expect("the default contract is kept");
    let mut out = Effects::default();
    let administrator = ClientSpec { number: 0, role: Role::Administrator, placement: 0 };
    model.connect(Time(0), &administrator, &mut out).expect("nobody else has the number");
    let groups = (0..applications).map(|n| format!("application-{n}")).collect();
    let spec = ChannelSpec { name: "s".to_owned(), lanes: 1, groups, ..ChannelSpec::default() };
    model.control(Time(0), 0, Token(1), &Control::Create(spec), &mut out);
    model.stored(Time(0), 0, Ok(()), &mut out);
    let [(0, outcome)] = out.outcomes.iter().collect::<Vec<_>>()[..] else { panic!("{:?}", out.outcomes) };
    outcome.status
}

#[test]
fn the_preset_refuses_a_stream_with_more_applications_than_the_service_registers() {
    assert_eq!(created(ShardOptions::kinesis(), 20), Status::Done);
    assert_eq!(created(ShardOptions::kinesis(), 21), Status::Refused(Refusal::OutOfRange));
    assert_eq!(created(ShardOptions { max_consumers: Some(21), ..ShardOptions::kinesis() }, 21), Status::Done);
    assert_eq!(created(ShardOptions::default(), 21), Status::Done);
}

#[test]
fn the_preset_is_named_among_the_settings_and_its_limits_have_their_sources() {
    let preset = ShardOptions::kinesis();
    let settings = preset.honour(&Contract::default()).expect("the default contract is kept").0;
    let value = |name: &str| settings.iter().find(|setting| setting.name == name).map(|setting| setting.value.as_str());
    assert_eq!(value("as"), Some("Amazon Kinesis Data Streams"));
    assert_eq!((value("write_records_per_s"), value("max_consumers")), (Some("1000"), Some("20")));
    let limits = preset.capabilities().limits;
    assert!(limits.iter().all(|limit| limit.source.contains("Kinesis")), "{limits:?}");
    let values: Vec<&str> = limits.iter().map(|limit| limit.value.as_str()).collect();
    let expected = [
        "1000/s",
        "1048576 B/s",
        "2097152 B/s",
        "1048576 B (the service takes up to 10 MiB on request)",
        "10 s",
        "20",
        "24 h (the service: 24 h to 8,760 h)",
        "20000",
        "500 records, 10 MiB; a larger batch is several calls",
    ];
    assert_eq!(values, expected);
    assert_eq!(ShardOptions::default().capabilities().limits.len(), 5, "the limits that the model has by itself");
}
