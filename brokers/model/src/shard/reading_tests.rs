//! Polling, on-demand capacity and leases that time out, at their exact times.
//!
//! Leaves out what is right at any time, which the trials against the reference show.

use super::{FULL_CREDIT, Readers, ShardModel, ShardOptions};
use crate::batch::{ChannelId, ChannelSpec, Control, LaneId, Publishes, Token};
use crate::broker::{ClientSpec, Role};
use crate::completion::{Answer, Event};
use crate::contract::Contract;
use crate::machine::{Effects, Model, Record, Write};
use crate::time::{Span, Time};

const PRODUCER: u32 = 1;
/// The first worker's number: one of each application.
const WORKER: u32 = 10;

/// A stream with a producer and a worker of each application, with much credit.
struct Rig {
    model: ShardModel,
    out: Effects,
    now: Time,
    tickets: u64,
    /// What came: when, to whom, how many.
    got: Vec<(u64, u32, u32)>,
    /// When shards were split, in milliseconds.
    split: Vec<u64>,
    /// Who lost a shard.
    lost: Vec<u32>,
}

fn ms(ms: u64) -> Time {
    Time(ms * 1_000_000)
}

impl Rig {
    fn new(options: ShardOptions, shards: u32, applications: u32) -> Self {
        let model = ShardModel::new(options, Contract::default()).expect("the default contract is kept");
        let mut rig = Self {
            model,
            out: Effects::default(),
            now: Time(0),
            tickets: 0,
            got: Vec::new(),
            split: Vec::new(),
            lost: Vec::new(),
        };
        rig.connect(0, Role::Administrator);
        let groups: Vec<String> = (0..applications).map(|n| format!("application-{n}")).collect();
        let spec =
            ChannelSpec { name: "s".to_owned(), lanes: shards, groups: groups.clone(), ..ChannelSpec::default() };
        rig.ask(0, &Control::Create(spec));
        rig.connect(PRODUCER, Role::Producer);
        for (group, number) in groups.into_iter().zip(WORKER..) {
            rig.connect(number, Role::Member { group, channels: vec![ChannelId(0)] });
            rig.ask(number, &Control::Grant(1_000_000));
        }
        rig
    }

    fn connect(&mut self, number: u32, role: Role) {
        let spec = ClientSpec { number, role, placement: 0 };
        self.model.connect(self.now, &spec, &mut self.out).expect("a new number");
    }

    fn ask(&mut self, client: u32, control: &Control) {
        self.out.clear();
        self.model.control(self.now, client, Token(9_999_999), control, &mut self.out);
        self.store();
        self.note();
    }

    fn note(&mut self) {
        let now = self.now.0 / 1_000_000;
        self.got.extend(self.out.deliveries.iter().map(|run| (now, run.client, run.count)));
        let splits = self.out.writes.iter().filter(|write| matches!(write, Write::Record(Record::Reshaped(_))));
        self.split.extend(splits.map(|_| now));
        let lost = self.out.events.iter().filter(|(_, event)| matches!(event, Event::LaneLost(_)));
        self.lost.extend(lost.map(|&(client, _)| client));
    }

    /// Publishes records of so many bytes, key included, and has them stored.
    fn publish(&mut self, count: u64, bytes: u32) {
        let mut batch = Publishes::of_lengths();
        for n in 0..count {
            batch.push_length(Token(n), ChannelId(0), b"k", b"", bytes - 1);
        }
        self.out.clear();
        let took = self.model.publish(self.now, PRODUCER, &batch, &mut self.out);
        assert_eq!(took.taken as u64, count);
        self.store();
        self.note();
    }

    /// Everything so far is stored.
    fn store(&mut self) {
        let tickets = self.out.writes.iter().filter(|write| matches!(write, Write::Barrier(_))).count();
        if tickets > 0 {
            self.tickets += tickets as u64;
            self.model.stored(self.now, self.tickets - 1, Ok(()), &mut self.out);
        }
    }

    /// Lets time pass until then.
    fn pass(&mut self, until: Time) {
        while let Some(due) = self.model.next_deadline().filter(|&due| due <= until) {
            assert!(due > self.now, "a deadline that stays due");
            self.now = due;
            self.wake();
        }
        self.now = until;
        self.wake();
    }

    fn wake(&mut self) {
        self.out.clear();
        self.model.on_deadline(self.now, &mut self.out);
        self.note();
    }
}

/// Polling, and as much writing as one likes.
fn polling() -> ShardOptions {
    ShardOptions {
        write_records_per_s: 1 << 20,
        write_bytes_per_s: 1 << 30,
        initial_credit: FULL_CREDIT,
        readers: Readers::Polling,
        failover_time: None,
        ..ShardOptions::default()
    }
}

#[test]
fn a_polling_application_reads_every_200_ms_and_two_in_turn_every_400() {
    let mut one = Rig::new(polling(), 1, 1);
    for at in [0, 50, 60, 200, 399] {
        one.pass(ms(at));
        one.publish(1, 100);
    }
    one.pass(ms(2_000));
    assert_eq!(one.got, [(0, 10, 1), (200, 10, 2), (400, 10, 2)], "what came meanwhile waits for the next call");
    let mut two = Rig::new(polling(), 1, 2);
    two.pass(ms(1));
    two.publish(1, 100);
    two.pass(ms(3_001));
    two.publish(1, 100);
    two.pass(ms(9_000));
    assert_eq!(two.got, [(200, 11, 1), (400, 10, 1), (3_200, 10, 1), (3_400, 11, 1)]);
}

#[test]
fn a_call_returns_ten_thousand_records_or_ten_megabytes_which_are_then_paid_back() {
    let mut many = Rig::new(polling(), 1, 1);
    many.publish(25_000, 100);
    many.pass(ms(10_000));
    // 1,000,000 bytes of 2,097,152 a second are 477 ms.
    assert_eq!(many.got, [(0, 10, 10_000), (600, 10, 10_000), (1_200, 10, 5_000)]);
    let mut large = Rig::new(ShardOptions { max_message_bytes: 1 << 20, ..polling() }, 1, 2);
    large.publish(12, 1 << 20);
    large.pass(ms(60_000));
    // Ten of 12 MiB, then five seconds for everybody.
    assert_eq!(large.got, [(0, 10, 10), (5_000, 11, 10), (10_000, 10, 2), (11_000, 11, 2)]);
}

#[test]
fn what_was_fetched_is_handed_out_without_another_call() {
    let mut rig = Rig::new(polling(), 1, 1);
    rig.ask(WORKER, &Control::Close);
    rig.connect(20, Role::Member { group: "application-0".to_owned(), channels: vec![ChannelId(0)] });
    rig.publish(100, 100);
    for credit in [10, 20, 30] {
        rig.ask(20, &Control::Grant(credit));
    }
    assert_eq!(rig.got, [(0, 20, 10), (0, 20, 20), (0, 20, 30)], "one call of a hundred");
    rig.publish(5, 100);
    rig.ask(20, &Control::Grant(1_000));
    rig.pass(ms(1_000));
    assert_eq!(rig.got[3..], [(0, 20, 40), (200, 20, 5)], "the rest, and by the next call what came since");
    rig.ask(20, &Control::Seek { lane: LaneId(0), to: crate::batch::SeekTo::Earliest });
    rig.pass(ms(2_000));
    assert_eq!(rig.got[5..].iter().map(|got| got.2).sum::<u32>(), 105, "from elsewhere it is fetched anew");
}

#[test]
fn a_shard_over_half_of_its_limits_is_split_and_has_twice_the_room() {
    let minutes = |n: u64| Time(n * 60_000_000_000);
    let options =
        ShardOptions { on_demand: Some(Span::from_secs(900)), failover_time: None, ..ShardOptions::kinesis() };
    let mut rig = Rig::new(options, 1, 1);
    // 600 records a second for 20 minutes, all of one key's shard.
    for second in 0..1_200 {
        rig.pass(Time(second * 1_000_000_000));
        rig.publish(600, 100);
    }
    assert_eq!(rig.split, [900_000], "15 minutes after the first record");
    let range = |shard| rig.model.hashes_of(LaneId(shard));
    assert_eq!((range(0), range(1), range(2)), (None, Some((0, u128::MAX / 2)), Some((u128::MAX / 2 + 1, u128::MAX))));
    rig.pass(minutes(30));
    assert_eq!(rig.model.hashes_of(LaneId(3)), None, "over the second interval the key's shard took less than half");
    rig.pass(minutes(600));
    assert_eq!(
        rig.model.next_deadline().filter(|&due| due < minutes(1_000)),
        None,
        "who takes nothing is not looked at"
    );
    rig.ask(0, &Control::Split { lane: LaneId(1), at: None });
    let refused = crate::completion::Status::Refused(crate::completion::Refusal::Unsupported);
    let statuses: Vec<_> = rig.out.outcomes.iter().map(|(_, outcome)| outcome.status).collect();
    assert_eq!(statuses, [refused], "the stream does it by itself");
}

#[test]
fn a_worker_that_is_silent_for_ten_seconds_loses_its_leases_to_another() {
    let mut rig = Rig::new(ShardOptions::kinesis(), 2, 1);
    let other = Role::Member { group: "application-0".to_owned(), channels: vec![ChannelId(0)] };
    rig.publish(10, 100);
    let lane = rig.out.deliveries[0].receipt.lane;
    rig.pass(ms(9_000));
    rig.model.heard(rig.now, WORKER, &mut rig.out);
    rig.connect(20, other);
    rig.pass(ms(14_000));
    rig.model.heard(rig.now, 20, &mut rig.out);
    rig.pass(ms(18_999));
    assert_eq!(rig.lost, []);
    rig.pass(ms(19_000));
    assert_eq!(rig.lost, [WORKER; 2], "ten seconds after it was heard of last");
    rig.ask(20, &Control::Position(lane));
    let told = rig.out.answers.iter().any(|(_, _, answer)| matches!(answer, Answer::Position { .. }));
    assert!(told, "the other has the leases: {:?}", rig.out);
    rig.ask(20, &Control::Grant(100));
    let run = rig.out.deliveries.iter().find(|run| run.client == 20).expect("and what was not checkpointed");
    assert_eq!((run.count, run.redeliveries), (10, 1));
}
