//! Dead letters by themselves, and random commands and crashes with a channel of them: nothing is lost, and without a crash nothing comes
//! twice.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{DeadLetter, QueueModel, QueueOptions};
use crate::batch::{ChannelId, ChannelSpec, Control, LaneId, Publishes, Receipt, Settlement, Token, Verdict};
use crate::broker::{ClientSpec, Role};
use crate::completion::{Answer, Description, Refusal, Status};
use crate::contract::{Contract, Storage};
use crate::death::DeathReason;
use crate::headers::{HeaderBlock, Headers, names};
use crate::journal::Journal;
use crate::machine::{Effects, Model, Record, Write};
use crate::time::{Span, Time};

const LEASE: Span = Span::from_millis(300);
const ADMIN: u32 = 0;
const PRODUCER: u32 = 1;
/// Of the channel, and of its dead letters.
const MEMBERS: [u32; 2] = [2, 3];

/// What was written, in order.
#[derive(Clone, Debug)]
enum Entry {
    /// Lane, position, the message's headers, and when.
    Message(u32, u64, Vec<u8>, Time),
    Record(Record),
}

/// A queue, its channel and that of its dead letters, and a journal in memory.
#[derive(Clone)]
struct World {
    options: QueueOptions,
    model: QueueModel,
    now: Time,
    journal: Vec<Entry>,
    /// How many entries are stored for certain.
    safe: usize,
    tickets: Vec<(u64, usize)>,
    places: BTreeMap<(u32, u64), u8>,
    next: u8,
    acknowledged: BTreeSet<u8>,
    /// By token, which message was published.
    publishes: BTreeMap<u64, u8>,
    tokens: u64,
    held: [Vec<Receipt>; 2],
    /// Messages that a member of the channel has done.
    done: BTreeSet<u8>,
    /// Dead letters that were delivered for the first time: which message, and its headers.
    letters: Vec<(u8, Vec<u8>)>,
    answers: Vec<Description>,
    statuses: Vec<Status>,
    crashed: bool,
}

impl World {
    fn new(options: QueueOptions) -> Self {
        let options = QueueOptions { dead_letter: DeadLetter::Channel, visibility_timeout: LEASE, ..options };
        let contract = Contract { storage: Storage::PageCache, ..Contract::default() };
        let mut world = Self {
            options,
            model: QueueModel::new(options, &contract).unwrap(),
            now: Time(1_000),
            journal: Vec::new(),
            safe: 0,
            tickets: Vec::new(),
            places: BTreeMap::new(),
            next: 0,
            acknowledged: BTreeSet::new(),
            publishes: BTreeMap::new(),
            tokens: 0,
            held: [Vec::new(), Vec::new()],
            done: BTreeSet::new(),
            letters: Vec::new(),
            answers: Vec::new(),
            statuses: Vec::new(),
            crashed: false,
        };
        world.connect(ADMIN, Role::Administrator);
        let groups = vec!["g".to_owned()];
        let made = ChannelSpec { name: "c".to_owned(), lanes: 2, groups: groups.clone(), ..ChannelSpec::default() };
        world.control(ADMIN, &Control::Create(made));
        let dead_letters_of = Some(ChannelId(0));
        let dead =
            ChannelSpec { name: "c.dead".to_owned(), lanes: 1, groups, dead_letters_of, ..ChannelSpec::default() };
        world.control(ADMIN, &Control::Create(dead));
        world.store();
        world.join();
        world
    }

    fn join(&mut self) {
        self.connect(PRODUCER, Role::Producer);
        for (member, channel) in MEMBERS.into_iter().zip(0..) {
            self.connect(member, Role::Member { group: "g".to_owned(), channels: vec![ChannelId(channel)] });
        }
    }

    fn connect(&mut self, number: u32, role: Role) {
        let mut out = Effects::default();
        self.model.connect(self.now, &ClientSpec { number, role, placement: 0 }, &mut out).unwrap();
        self.perform(out, &[]);
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn control(&mut self, client: u32, control: &Control) {
        let (token, mut out) = (self.token(), Effects::default());
        self.model.control(self.now, client, token, control, &mut out);
        self.perform(out, &[]);
    }

    fn publish(&mut self, headers: &[u8]) {
        let (token, mut out) = (self.token(), Effects::default());
        let mut batch = Publishes::of_lengths();
        batch.push_length(token, ChannelId(0), b"", headers, 100);
        self.publishes.insert(token.0, self.next);
        let message = (self.next, headers.to_vec());
        self.next += 1;
        let accepted = self.model.publish(self.now, PRODUCER, &batch, &mut out);
        assert_eq!(accepted.taken, 1);
        self.perform(out, &[message]);
    }

    fn settle(&mut self, member: usize, verdict: Verdict) {
        let Some(receipt) = self.held[member].pop() else { return };
        let (token, mut out) = (self.token(), Effects::default());
        self.model.settle(self.now, MEMBERS[member], &[Settlement { token, receipt, verdict }], &mut out);
        if verdict == Verdict::Ack
            && member == 0
            && out.outcomes.iter().any(|(_, outcome)| outcome.status == Status::Done)
        {
            self.done.insert(self.places[&(receipt.lane.0, receipt.position)]);
        }
        self.perform(out, &[]);
    }

    /// Everything that was written is stored.
    fn store(&mut self) {
        while let Some(&(ticket, upto)) = self.tickets.last() {
            self.tickets.clear();
            self.safe = self.safe.max(upto);
            let mut out = Effects::default();
            self.model.stored(self.now, ticket, Ok(()), &mut out);
            self.perform(out, &[]);
        }
    }

    fn pass(&mut self, span: Span) {
        let end = self.now + span;
        while let Some(due) = self.model.next_deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            let mut out = Effects::default();
            self.model.on_deadline(self.now, &mut out);
            self.perform(out, &[]);
        }
        self.now = end;
    }

    fn perform(&mut self, out: Effects, published: &[(u8, Vec<u8>)]) {
        for write in out.writes {
            match write {
                Write::Messages { lane, position, index, count } => {
                    for (position, (number, headers)) in
                        (position..).zip(&published[index as usize..][..count as usize])
                    {
                        self.append(lane.0, position, *number, headers.clone());
                    }
                }
                Write::Compact { .. } => unreachable!("a queue compacts nothing"),
                Write::DeadLetter { from, at, lane, position, death } => {
                    assert_eq!((death.lane, death.position, death.group.as_str()), (from, at, "g"));
                    let number = self.places[&(from.0, at)];
                    let of = self.journal.iter().rev().find_map(|entry| match entry {
                        Entry::Message(of, found, headers, _) if (*of, *found) == (from.0, at) => Some(headers.clone()),
                        Entry::Message(..) | Entry::Record(_) => None,
                    });
                    self.append(lane.0, position, number, death.headers(&of.expect("what dies is there")));
                }
                Write::Record(record) => self.journal.push(Entry::Record(record)),
                Write::Barrier(ticket) => self.tickets.push((ticket, self.journal.len())),
                Write::Provisional { .. } => unreachable!("nobody begins a transaction"),
                Write::Trim { .. } => {}
            }
        }
        for (_, outcome) in out.outcomes.iter() {
            self.statuses.push(outcome.status);
            if let Some(number) = self.publishes.remove(&outcome.token.0).filter(|_| outcome.status == Status::Done) {
                self.acknowledged.insert(number);
            }
        }
        for run in out.deliveries {
            let member = MEMBERS.iter().position(|&member| member == run.client).unwrap();
            for position in run.receipt.position..run.receipt.position + u64::from(run.count) {
                self.held[member].push(Receipt { position, ..run.receipt });
                // What a restart found counts as delivered before.
                if member == 1 && (run.redeliveries == 0 || self.crashed) {
                    let place = (run.receipt.lane.0, position);
                    let headers = self.journal.iter().rev().find_map(|entry| match entry {
                        Entry::Message(of, found, headers, _) if (*of, *found) == place => Some(headers.clone()),
                        Entry::Message(..) | Entry::Record(_) => None,
                    });
                    self.letters.push((self.places[&place], headers.unwrap()));
                }
            }
        }
        self.answers.extend(out.answers.into_iter().filter_map(|(.., answer)| match answer {
            Answer::Description(description) => Some(description),
            Answer::Position { .. } => None,
        }));
    }

    fn append(&mut self, lane: u32, position: u64, number: u8, headers: Vec<u8>) {
        self.places.insert((lane, position), number);
        self.journal.push(Entry::Message(lane, position, headers, self.now));
    }

    /// The process ends, and so much of what was not stored for certain is left.
    fn crash(&mut self, keep: u8) {
        let left = self.safe + (self.journal.len() - self.safe) * usize::from(keep) / 255;
        self.journal.truncate(left);
        self.safe = left;
        let mut journal = Journal::default();
        journal.keep_said();
        for entry in &self.journal {
            match entry {
                Entry::Message(lane, position, headers, written) => {
                    journal.message(LaneId(*lane), *position, 100, *written);
                    journal.said(LaneId(*lane), *position, *written, b"", headers);
                }
                Entry::Record(record) => journal.record(record),
            }
        }
        let contract = Contract { storage: Storage::PageCache, ..Contract::default() };
        self.model = QueueModel::new(self.options, &contract).unwrap();
        let mut out = Effects::default();
        self.model.restore(self.now, &journal, &mut out).unwrap();
        (self.tickets, self.held) = (Vec::new(), [Vec::new(), Vec::new()]);
        self.publishes.clear();
        self.crashed = true;
        self.connect(ADMIN, Role::Administrator);
        self.join();
    }

    /// Serves both channels until nothing moves; every acknowledged message was done, or is a dead letter.
    fn drain(&mut self) {
        for _ in 0..40 {
            self.store();
            for (member, client) in MEMBERS.into_iter().enumerate() {
                self.control(client, &Control::Grant(100));
                while !self.held[member].is_empty() {
                    self.settle(member, Verdict::Ack);
                }
            }
            self.pass(LEASE);
        }
        let letters: BTreeSet<u8> = self.letters.iter().map(|(number, _)| *number).collect();
        for number in &self.acknowledged {
            assert!(self.done.contains(number) || letters.contains(number), "message {number} is lost");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish { level: u8, ttl_ms: u16 },
    Store,
    Grant { member: usize, count: u8 },
    Settle { member: usize, verdict: u8 },
    Pass(u16),
    Crash(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, prop::sample::select(vec![0, 50, 400])).prop_map(|(level, ttl_ms)| Step::Publish { level, ttl_ms }),
        3 => Just(Step::Store),
        3 => (0..2usize, 1..4u8).prop_map(|(member, count)| Step::Grant { member, count }),
        4 => (0..2usize, 0..3u8).prop_map(|(member, verdict)| Step::Settle { member, verdict }),
        2 => (0..400u16).prop_map(Step::Pass),
        1 => any::<u8>().prop_map(Step::Crash),
    ]
}

fn headers(level: u8, ttl_ms: u16) -> Vec<u8> {
    let mut block = HeaderBlock::new();
    if level > 0 {
        block = block.with(names::PRIORITY, &[level]).unwrap();
    }
    if ttl_ms > 0 {
        block = block.with_span(names::TIME_TO_LIVE, Span::from_millis(ttl_ms.into())).unwrap();
    }
    block.to_bytes()
}

proptest! {
    // As many as PROPTEST_CASES says, 256 else.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_dies_is_a_dead_letter_and_a_crash_loses_none(
        max_length in prop::sample::select(vec![0, 1, 3]),
        max_deliveries in 0..3u32,
        message_ttl in prop::sample::select(vec![None, Some(200)]),
        priorities in 0..3u8,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let message_ttl = message_ttl.map(Span::from_millis);
        let options = QueueOptions { max_length, message_ttl, max_deliveries, priorities, ..QueueOptions::default() };
        let mut world = World::new(options);
        let mut crashes = 0;
        for step in steps {
            match step {
                Step::Publish { level, ttl_ms } => world.publish(&headers(level, ttl_ms)),
                Step::Store => world.store(),
                Step::Grant { member, count } => world.control(MEMBERS[member], &Control::Grant(count.into())),
                Step::Settle { member: 1, .. } => world.settle(1, Verdict::Ack),
                Step::Settle { member, verdict: 0 } => world.settle(member, Verdict::Ack),
                Step::Settle { member, verdict } => world.settle(member, Verdict::Nack { requeue: verdict == 1 }),
                Step::Pass(ms) => world.pass(Span::from_millis(ms.into())),
                Step::Crash(keep) => {
                    crashes += 1;
                    world.crash(keep);
                }
            }
        }
        world.drain();
        let letters: BTreeSet<u8> = world.letters.iter().map(|(number, _)| *number).collect();
        prop_assert!(crashes > 0 || letters.len() == world.letters.len(), "one came twice: {:?}", world.letters);
        prop_assert!(crashes > 0 || letters.is_disjoint(&world.done), "it was done and died");
    }
}

#[test]
fn a_dead_letter_says_how_it_died_and_nothing_happens_to_it_any_more() {
    let ttl = Some(Span::from_millis(200));
    let mut world =
        World::new(QueueOptions { message_ttl: ttl, max_length: 3, max_deliveries: 2, ..QueueOptions::default() });
    world.control(MEMBERS[1], &Control::Grant(100));
    for _ in 0..2 {
        world.publish(&headers(0, 0));
    }
    world.store();
    world.control(MEMBERS[0], &Control::Grant(1));
    world.settle(0, Verdict::Nack { requeue: false });
    world.control(MEMBERS[0], &Control::Grant(2));
    world.settle(0, Verdict::Nack { requeue: true });
    world.settle(0, Verdict::Nack { requeue: true });
    world.store();
    let died = |world: &World| -> Vec<(String, u32)> {
        let read = |(_, headers): &(u8, Vec<u8>)| {
            let headers = Headers::parse(headers).unwrap();
            let reason = String::from_utf8(headers.get(names::DEATH_REASON).unwrap().to_vec()).unwrap();
            let deliveries = headers.get(names::DEATH_DELIVERIES).unwrap().try_into().unwrap();
            (reason, u32::from_le_bytes(deliveries))
        };
        world.letters.iter().map(read).collect()
    };
    let of = |reason: DeathReason, deliveries| (reason.name().to_owned(), deliveries);
    assert_eq!(died(&world), [of(DeathReason::Rejected, 1), of(DeathReason::Exhausted, 2)]);
    for _ in 0..9 {
        world.publish(&headers(0, 0));
    }
    world.store();
    world.pass(Span::from_millis(250));
    world.store();
    let reasons: Vec<String> = died(&world).into_iter().skip(2).map(|(reason, _)| reason).collect();
    assert_eq!(
        reasons.iter().filter(|reason| *reason == "maxlen").count(),
        3,
        "three each of two lanes wait: {reasons:?}"
    );
    assert_eq!(reasons.iter().filter(|reason| *reason == "expired").count(), 6);
    world.control(ADMIN, &Control::Describe(ChannelId(0)));
    world.control(ADMIN, &Control::Describe(ChannelId(1)));
    let given_up = |at: usize| world.answers[at].lanes.iter().map(|lane| lane.given_up.total()).sum::<u64>();
    let lettered = world.answers[0].lanes.iter().map(|lane| lane.given_up.dead_lettered).sum::<u64>();
    assert_eq!((given_up(0), lettered, given_up(1)), (11, 11, 0));
    world.drain();
}

#[test]
fn a_channel_of_dead_letters_is_made_for_one_that_is_there_and_has_none() {
    let mut world = World::new(QueueOptions::default());
    let ask = |world: &mut World, name: &str, of: u32| {
        let (name, groups, dead_letters_of) = (name.to_owned(), vec!["g".to_owned()], Some(ChannelId(of)));
        world.control(
            ADMIN,
            &Control::Create(ChannelSpec { name, lanes: 1, groups, dead_letters_of, ..ChannelSpec::default() }),
        );
        *world.statuses.last().unwrap()
    };
    assert_eq!(ask(&mut world, "again", 0), Status::Refused(Refusal::Exists));
    assert_eq!(ask(&mut world, "of-nothing", 7), Status::Refused(Refusal::NoSuchLane));
    assert_eq!(ask(&mut world, "of-letters", 1), Status::Refused(Refusal::Unsupported));
    world.control(ADMIN, &Control::Delete(ChannelId(1)));
    world.store();
    assert_eq!(world.statuses.last(), Some(&Status::Done));
    world.publish(&headers(0, 10));
    world.store();
    world.pass(Span::from_secs(1));
    assert!(world.tickets.is_empty(), "nobody takes it");
}
