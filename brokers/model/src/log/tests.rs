//! The log against its naive reference, under random commands and under every short sequence of them.
//!
//! Leaves out the parts that have their own tests: the partitioner, the sparse index, the assignment.

use proptest::prelude::*;

use super::reference::reference;
use super::{Assignment, Cleanup, LogModel, LogOptions};
use crate::batch::{ChannelId, ChannelSpec, Control, LaneId, Publishes, Token, Transaction};
use crate::broker::{ClientSpec, Role};
use crate::contract::{Contract, Delivery, Order, Storage};
use crate::journal::{Journal, JournalError};
use crate::lane_room::LANES_MAX;
use crate::machine::{ChannelRecord, Effects, Model, Record, Write};
use crate::stream::trial::{Command, MEMBERS, Trial, any_command, calm_command};
use crate::time::{Span, Time};
use crate::trial::crash::{Crash, crash};

/// Restarts of a sequence of commands: one after each.
const RESTARTS: usize = 40;

fn trial(options: &LogOptions, contract: Contract) -> Trial<LogModel> {
    let lanes = if contract.order == Order::Total { [1, 1] } else { [3, 2] };
    let model = LogModel::new(options.clone(), contract).expect("the contract is kept");
    let mut trial = Trial::new(model, reference(options.clone(), contract), lanes);
    trial.round = options.session_timeout.map_or(trial.round, |session| session.0 / 3);
    trial
}

/// Sessions that commands outlive and some that they don't, and both kinds of assignment.
fn options() -> impl Strategy<Value = LogOptions> {
    let retention = prop_oneof![Just(None), Just(Some(Span(90)))];
    let session = prop_oneof![Just(None), Just(Some(Span(60))), Just(Some(Span(300)))];
    let assignment = prop_oneof![Just(Assignment::Cooperative), Just(Assignment::Eager)];
    let transaction = prop_oneof![Just(Span(40)), Just(Span(1_000_000))];
    let producers = (prop::bool::weighted(0.9), prop_oneof![Just(Span(70)), Just(Span(1_000_000))]);
    // The trials begin with two or five.
    let quota = prop_oneof![3 => Just(LANES_MAX), 1 => Just(6)];
    (retention, session, assignment, transaction, producers, quota).prop_map(
        |(
            retention,
            session_timeout,
            assignment,
            transaction_timeout,
            (idempotence, producer_expiration),
            max_partitions,
        )| {
            LogOptions {
                retention,
                session_timeout,
                assignment,
                transaction_timeout,
                idempotence,
                producer_expiration,
                max_partitions,
                ..LogOptions::default()
            }
        },
    )
}

fn contracts() -> impl Strategy<Value = Contract> {
    let delivery = prop_oneof![Just(Delivery::AtLeastOnce), Just(Delivery::AtMostOnce), Just(Delivery::ExactlyOnce)];
    let order = prop_oneof![Just(Order::PerKey), Just(Order::Total)];
    (delivery, order).prop_map(|(delivery, order)| Contract { delivery, order, ..Contract::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_the_reference_says(
        contract in contracts(),
        window in prop_oneof![Just(5u32), Just(65_536)],
        options in options(),
        commands in prop::collection::vec(any_command(), 0..120),
    ) {
        let options = LogOptions { max_in_flight: window, ..options };
        trial(&options, contract).judge(&commands, contract.delivery);
    }

    #[test]
    fn nobody_leaves_nothing_fails_and_every_message_comes_once_in_the_order_of_its_key(
        contract in contracts(),
        commands in prop::collection::vec(calm_command(), 0..120),
    ) {
        trial(&LogOptions { session_timeout: None, ..LogOptions::default() }, contract).judge_calm(&commands, contract.order);
    }
}

/// Newest parts of a few messages, chunks of two messages and more, and tombstones that go soon.
fn compacted() -> impl Strategy<Value = LogOptions> {
    let active = prop_oneof![Just(1u64), Just(250), Just(1_000)];
    let dirty = prop_oneof![Just(0u32), Just(500)];
    let keys = prop_oneof![3 => Just(1_000usize), 1 => Just(4)];
    let chunk = prop_oneof![Just((250, 1_024)), Just((1 << 20, 2)), Just((1 << 20, 1_024))];
    (options(), active, dirty, keys, chunk, 0u64..200).prop_map(
        |(options, active_bytes, dirty, max_keys, chunk, stays)| LogOptions {
            cleanup: Cleanup::Compact,
            active_bytes,
            min_dirty_permille: dirty,
            max_keys,
            compaction_chunk: (chunk.0, chunk.1, Span(3)),
            delete_retention: Span(stays),
            ..options
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_compacted_log_leaves_out_what_may_go_and_nothing_else(
        contract in contracts(),
        options in compacted(),
        commands in prop::collection::vec(any_command(), 0..200),
    ) {
        trial(&options, contract).judge(&commands, contract.delivery);
    }

    #[test]
    fn of_a_compacted_log_every_message_that_is_left_comes_once_in_the_order_of_its_key(
        contract in contracts(),
        options in compacted(),
        commands in prop::collection::vec(calm_command(), 0..200),
    ) {
        trial(&LogOptions { session_timeout: None, ..options }, contract).judge_calm(&commands, contract.order);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_compacted_log_goes_on_after_a_crash_at_any_moment(
        contract in contracts(),
        options in compacted(),
        steps in prop::collection::vec((any_command(), crash()), RESTARTS),
    ) {
        prop_assert_eq!(trial(&options, contract).judge_with_crashes(&steps, contract.delivery), RESTARTS);
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

/// Every sequence of up to six commands of a producer and two members, one after another on clones of what went before.
#[test]
fn a_receipt_that_nobody_was_given_settles_nothing_in_the_life_after_a_crash() {
    let contract = Contract { delivery: Delivery::AtLeastOnce, order: Order::PerKey, ..Contract::default() };
    let options = LogOptions { retention: None, session_timeout: None, ..LogOptions::default() };
    let steps = [
        (Command::Publish { client: 1, channel: 0, keys: vec![0] }, 1),
        (Command::Stored { calls: 1, fails: false }, 8),
        (Command::Connect(4), 1),
        (Command::Wrong { client: 4, receipt: 0, what: 5 }, 1),
    ];
    let steps: Vec<_> = steps.into_iter().map(|(command, keep)| (command, Crash::keeping(keep))).collect();
    assert_eq!(trial(&options, contract).judge_with_crashes(&steps, contract.delivery), steps.len());
}

#[test]
fn every_short_sequence_with_two_consumers_is_right() {
    fn explore(trial: &Trial<LogModel>, commands: &[Command], depth: usize) -> u64 {
        if depth == 0 {
            let mut leaf = trial.clone();
            leaf.drain(&[3, 4, 7]);
            leaf.assert_all_delivered();
            leaf.end();
            return 1;
        }
        let deeper = commands.iter().map(|command| {
            let mut next = trial.clone();
            next.run(command);
            explore(&next, commands, depth - 1)
        });
        deeper.sum()
    }
    let commands = [
        Command::Publish { client: 1, channel: 0, keys: vec![1, 2] },
        Command::Stored { calls: 1, fails: false },
        Command::Connect(4),
        Command::Grant(4, 1),
        Command::Ack { client: 3, count: 1 },
        Command::Release(3),
        Command::Close(3),
    ];
    let mut start = trial(&LogOptions { retention: None, ..LogOptions::default() }, Contract::default());
    start.run(&Command::Connect(3));
    start.run(&Command::Grant(3, 3));
    assert_eq!(explore(&start, &commands, 6), 7u64.pow(6));
}

#[test]
fn what_could_not_be_stored_leaves_a_hole_that_is_never_delivered() {
    let mut trial = trial(&LogOptions::default(), Contract { order: Order::Total, ..Contract::default() });
    for fails in [false, true, false] {
        trial.run(&Command::Publish { client: 1, channel: 0, keys: vec![1, 2] });
        trial.run(&Command::Stored { calls: 1, fails });
    }
    trial.run(&Command::Connect(7));
    assert_eq!(trial.lags(0), [(4, 0), (4, 0)], "of two groups");
    trial.run(&Command::Grant(7, 9));
    let positions: Vec<u64> = trial.delivered.iter().map(|&(.., position)| position).collect();
    assert_eq!(positions, [0, 1, 4, 5]);
    assert_eq!(trial.lags(0), [(4, 0), (0, 4)]);
    trial.run(&Command::Ack { client: 7, count: 3 });
    assert_eq!(trial.lags(0)[1], (0, 1));
    trial.run(&Command::Ack { client: 7, count: 1 });
    trial.drain(&MEMBERS);
    trial.end();
}

#[test]
fn age_and_size_trim_the_oldest_whether_or_not_they_were_read() {
    let options = LogOptions { retention: Some(Span(1_000)), retention_bytes: Some(500), ..LogOptions::default() };
    let mut model = LogModel::new(options, Contract { order: Order::Total, ..Contract::default() }).expect("kept");
    let mut out = Effects::default();
    let mut connect = |number, role| {
        let spec = ClientSpec { number, role, placement: 0 };
        model.connect(Time(0), &spec, &mut out).expect("a new number");
    };
    connect(0, Role::Administrator);
    connect(1, Role::Producer);
    let spec = ChannelSpec { name: "c".to_owned(), lanes: 1, groups: Vec::new(), ..ChannelSpec::default() };
    model.control(Time(0), 0, Token(0), &Control::Create(spec), &mut out);
    let mut trims = Vec::new();
    for n in 0..10u64 {
        let mut batch = Publishes::of_lengths();
        batch.push_length(Token(n), ChannelId(0), b"", b"", 100);
        out.clear();
        let took = model.publish(Time(100 * n), 1, &batch, &mut out);
        assert_eq!(took.taken, 1);
        // The channel's record had the first ticket.
        model.stored(Time(100 * n), n + 1, Ok(()), &mut out);
        trims.extend(out.writes.iter().filter_map(|write| match write {
            Write::Trim { below, .. } => Some(*below),
            Write::Messages { .. }
            | Write::Provisional { .. }
            | Write::DeadLetter { .. }
            | Write::Compact { .. }
            | Write::Record(_)
            | Write::Barrier(_) => None,
        }));
    }
    assert_eq!(trims, [1, 2, 3, 4, 5], "500 bytes stay");
    let mut by_age = Vec::new();
    while let Some(due) = model.next_deadline() {
        out.clear();
        model.on_deadline(due, &mut out);
        by_age.push((due.0, out.writes.clone()));
        assert!(by_age.len() < 20, "a deadline that stays due: {by_age:?}");
    }
    let below: Vec<(u64, u64)> = by_age
        .iter()
        .flat_map(|(due, writes)| {
            writes.iter().map(move |write| match write {
                Write::Trim { below, .. } => (*due, *below),
                other @ (Write::Messages { .. }
                | Write::Provisional { .. }
                | Write::DeadLetter { .. }
                | Write::Compact { .. }
                | Write::Record(_)
                | Write::Barrier(_)) => {
                    panic!("{other:?}")
                }
            })
        })
        .collect();
    assert_eq!(below.last(), Some(&(1_900, 10)), "the newest goes when it is old: {below:?}");
    assert!(below.iter().all(|&(due, below)| due >= 100 * (below - 1) + 1_000), "none goes early: {below:?}");
}

#[test]
fn a_restart_keeps_ages_places_and_committed_positions() {
    let options = LogOptions { retention: Some(Span(1_000)), ..LogOptions::default() };
    let mut trial = trial(&options, Contract { order: Order::Total, ..Contract::default() });
    trial.run(&Command::Connect(7));
    trial.run(&Command::Grant(7, 6));
    for _ in 0..5 {
        trial.run(&Command::Publish { client: 1, channel: 0, keys: vec![1, 2] });
        trial.run(&Command::Stored { calls: 1, fails: false });
        trial.run(&Command::Pass(100));
    }
    trial.run(&Command::Ack { client: 7, count: 4 });
    assert_eq!(trial.lags(0), [(10, 0), (4, 2)]);
    trial.crash(Crash::GENTLE);
    assert_eq!(trial.lags(0), [(10, 0), (6, 0)], "what was read and not committed is read again");
    assert_eq!(
        trial.model.next_deadline(),
        Some(Time(2_100)),
        "the first two go when the next two are as old as is kept"
    );
    trial.run(&Command::Connect(7));
    // To what was published at 1,400: the last two.
    trial.run(&Command::Seek { client: 7, lane: 0, to: 400, how: 3 });
    trial.run(&Command::Grant(7, 9));
    let positions: Vec<u64> = trial.delivered.iter().map(|&(.., position)| position).collect();
    assert_eq!(positions, [0, 1, 2, 3, 4, 5, 8, 9]);
    trial.pass(10_000);
    assert!(trial.reference.kept().is_empty(), "all are too old");
    trial.drain(&MEMBERS);
    trial.end();
}

#[test]
fn a_journal_of_several_partitions_can_t_keep_a_total_order() {
    let made = ChannelRecord {
        channel: ChannelId(0),
        first: LaneId(0),
        lanes: 3,
        name: "orders".to_owned(),
        groups: vec!["g".to_owned()],
        ..ChannelRecord::default()
    };
    let mut journal = Journal::default();
    journal.record(&Record::Channel(Box::new(made)));
    let restore = |order| {
        let contract = Contract { order, ..Contract::default() };
        let mut model = LogModel::new(LogOptions::default(), contract).expect("kept");
        model.restore(Time(0), &journal, &mut Effects::default())
    };
    assert_eq!(restore(Order::PerKey), Ok(()));
    let error = restore(Order::Total).expect_err("refused");
    assert_eq!(error, JournalError::TotalOrder { name: "orders".to_owned(), lanes: 3 });
    assert!(error.to_string().contains("; open the folder under the contract"), "{error}");
}

#[test]
fn what_is_not_kept_is_refused_with_its_reason() {
    let options = LogOptions::default();
    for contract in Contract::ladder() {
        let kept = contract.copies == 1;
        match options.honour(&contract) {
            Ok(settings) => {
                assert!(kept, "{contract}");
                let single = settings.0.iter().any(|setting| setting.name == "partitions" && setting.value == "1");
                assert_eq!(single, contract.order == Order::Total);
                let flush = settings.0.iter().find(|setting| setting.name == "flush").expect("said for every storage");
                assert_eq!(flush.value == "before acknowledging", contract.storage == Storage::Fsync);
            }
            Err(refusal) => assert!(!kept && !refusal.missing.is_empty(), "{contract}: {refusal}"),
        }
    }
}

#[test]
fn a_preset_is_named_among_the_settings_and_its_limits_have_their_sources() {
    let preset = LogOptions::kafka();
    let settings = preset.honour(&Contract::default()).expect("the default contract is kept");
    assert_eq!((settings.0[0].name.as_str(), settings.0[0].value.as_str()), ("as", "Apache Kafka 4"));
    let limits: Vec<(&str, String)> =
        preset.capabilities().limits.into_iter().map(|limit| (limit.name, limit.value)).collect();
    let expected = [
        ("largest record", "1048588 B"),
        ("records in flight per producer", "65536"),
        ("a record is kept for", "168 h"),
        ("bytes that a partition keeps", "no limit"),
        ("a transaction may be open for", "60 s"),
        ("a producer is remembered for", "24 h"),
        ("a member may be silent for", "45 s"),
    ];
    assert_eq!(limits, expected.map(|(name, value)| (name, value.to_owned())));
    assert!(preset.capabilities().limits.iter().all(|limit| limit.source.contains("Kafka")));
    let changed = LogOptions { retention: Some(Span::from_secs(90)), retention_bytes: Some(5), ..preset };
    let values: Vec<String> = changed.capabilities().limits.into_iter().map(|limit| limit.value).collect();
    assert_eq!(values[2..4], ["90 s", "5 B"], "what is in force, not what the preset said");
    let unnamed = LogOptions::default();
    assert_eq!(unnamed.capabilities().limits.len(), 2);
    assert!(unnamed.honour(&Contract::default()).is_ok_and(|settings| settings.0.iter().all(|s| s.name != "as")));
}

#[test]
fn a_transaction_that_takes_too_long_is_taken_back_and_its_producer_has_to_end_it() {
    let contract = Contract { order: Order::Total, delivery: Delivery::ExactlyOnce, ..Contract::default() };
    let mut trial = trial(&LogOptions { transaction_timeout: Span(500), ..LogOptions::default() }, contract);
    let step = |client, step| Command::Transact { client, step };
    let publish = |client| Command::Publish { client, channel: 0, keys: vec![1, 2] };
    let stored = Command::Stored { calls: 9, fails: false };
    trial.run(&Command::Connect(7));
    trial.run(&Command::Grant(7, 100));
    for command in [step(1, Transaction::Begin { group: None, name: None }), publish(1), publish(2), stored.clone()] {
        trial.run(&command);
    }
    assert_eq!((trial.lags(0)[1], trial.delivered.len()), ((0, 0), 0), "nothing may be read before it ends");
    assert_eq!(trial.model.next_deadline(), Some(Time(1_500)));
    trial.pass(500);
    let positions =
        |trial: &Trial<LogModel>| trial.delivered.iter().map(|&(.., position)| position).collect::<Vec<_>>();
    assert_eq!(positions(&trial), [2, 3], "what came after it");
    // Refused, and that ends it.
    for command in [publish(1), step(1, Transaction::Commit), publish(1), stored.clone()] {
        trial.run(&command);
    }
    assert_eq!(positions(&trial), [2, 3, 4, 5]);
    for command in
        [step(1, Transaction::Begin { group: None, name: None }), publish(1), step(1, Transaction::Commit), stored]
    {
        trial.run(&command);
    }
    assert_eq!(positions(&trial), [2, 3, 4, 5, 6, 7]);
    trial.crash(Crash::GENTLE);
    assert_eq!(trial.lags(0)[1], (6, 0), "what was taken back stays so");
    trial.drain(&MEMBERS);
    trial.end();
}
