//! Trials of the models that settle message by message: commands go in, and every effect is held against the ledger.
//!
//! After each step: each token ends once and at its own client, deliveries keep within credit, receipts count deliveries, the
//! journal knows what is settled and nothing else, nothing is trimmed that is needed, and a description adds up. Leaves out
//! what only one model has; its own tests know that.

pub(crate) mod crash;
pub(crate) mod interleavings;
mod ledger;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use crash::{Crash, Log};
pub(crate) use ledger::{Ledger, Limits, Rules, Standing, Words};

use crate::batch::{ChannelId, ChannelSpec, Control, LaneId, Publishes, Receipt, Settlement, Token, Verdict};
use crate::binding::{Binding, Pattern};
use crate::broker::{ClientSpec, Role};
use crate::completion::{Answer, Failure, GivenUp, Outcome, Status};
use crate::machine::{Effects, Model, Record, Write};
use crate::time::{Span, Time};

const ADMIN: u32 = 0;
const PRODUCERS: [u32; 2] = [1, 2];
/// The first member's number.
const MEMBERS: u32 = 10;

/// One command, in small numbers that a trial maps to what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A producer publishes so many messages; with so many keys, none if 0.
    Publish { producer: u8, count: u8, keys: u8 },
    /// A producer publishes so many messages that say the same of themselves.
    Say { producer: u8, count: u8, words: Words },
    /// The storage answers so many barriers.
    Store { barriers: u8, fails: bool },
    /// A member is granted so much.
    Grant { member: u8, count: u8 },
    /// A member settles some of the receipts that it was ever given, in one call, from one on that is counted from the newest; or tries
    /// another member's.
    Settle { member: u8, back: u8, count: u8, verdict: u8 },
    /// Another member connects.
    Join { group: u8 },
    /// A member leaves.
    Close { member: u8 },
    /// A producer flushes.
    Flush { producer: u8 },
    /// Time passes, in milliseconds.
    Pass { ms: u16 },
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => (0..2u8, 1..6u8, 0..4u8).prop_map(|(producer, count, keys)| Command::Publish { producer, count, keys }),
        4 => (1..4u8, prop::bool::weighted(0.05)).prop_map(|(barriers, fails)| Command::Store { barriers, fails }),
        4 => (any::<u8>(), 0..8u8).prop_map(|(member, count)| Command::Grant { member, count }),
        8 => (any::<u8>(), 0..12u8, prop_oneof![2 => Just(1u8), 1 => 2..12u8], 0..9u8)
            .prop_map(|(member, back, count, verdict)| Command::Settle { member, back, count, verdict }),
        1 => (0..4u8).prop_map(|group| Command::Join { group }),
        1 => any::<u8>().prop_map(|member| Command::Close { member }),
        1 => (0..2u8).prop_map(|producer| Command::Flush { producer }),
        3 => prop_oneof![0..20u16, 0..400u16, 900..1_200u16].prop_map(|ms| Command::Pass { ms }),
    ]
}

/// As [`command`], and producers publish messages that say something of themselves.
pub(crate) fn command_or_words() -> impl Strategy<Value = Command> {
    let span = || prop_oneof![3 => Just(None), 2 => (0..600u64).prop_map(|ms| Some(Span::from_millis(ms)))];
    let small = |most: u8| prop_oneof![1 => Just(0), 2 => 0..=most];
    let words = (small(2), small(4), span(), span(), small(2), small(3), 0..5u8)
        .prop_map(|(key, level, delay, ttl, group, id, route)| Words { key, level, delay, ttl, group, id, route });
    prop_oneof![
        2 => (0..2u8, 1..4u8, words).prop_map(|(producer, count, words)| Command::Say { producer, count, words }),
        5 => command(),
    ]
}

#[derive(Clone, Debug)]
struct Member {
    group: u32,
    grants: VecDeque<(Token, u32)>,
    receipts: Vec<Receipt>,
    in_flight_most: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Publish,
    Grant,
    Other,
}

/// A model under trial.
#[derive(Clone, Debug)]
pub(crate) struct Trial<M> {
    pub(crate) model: M,
    /// The model before anything was done, for a restart.
    blank: M,
    log: Log,
    pub(crate) ledger: Ledger,
    pub(crate) now: Time,
    out: Effects,
    lanes: u32,
    members: BTreeMap<u32, Member>,
    next_member: u32,
    next_token: u64,
    open: BTreeMap<Token, (u32, Asked)>,
    tickets: VecDeque<u64>,
    next_ticket: u64,
    /// What a restart would know: everything below, and single ones, by lane and group.
    committed: BTreeMap<(u32, u32), u64>,
    settled: BTreeSet<(u32, u32, u64)>,
    trimmed: BTreeMap<u32, u64>,
    restoring: bool,
    /// How publishes ended.
    pub(crate) published: Vec<Status>,
    /// Deliveries in order: member, receipt.
    pub(crate) delivered: Vec<(u32, Receipt)>,
}

impl<M: Model + Clone> Trial<M> {
    /// A model with one channel, two producers and `members` members of each group.
    pub(crate) fn new(model: M, rules: Rules, lanes: u32, groups: u32, members: u32) -> Self {
        let mut trial = Self {
            blank: model.clone(),
            log: Log::default(),
            model,
            ledger: Ledger::new(rules, groups),
            now: Time(1_000),
            out: Effects::default(),
            lanes,
            members: BTreeMap::new(),
            next_member: MEMBERS,
            next_token: 0,
            open: BTreeMap::new(),
            tickets: VecDeque::new(),
            next_ticket: 0,
            committed: BTreeMap::new(),
            settled: BTreeSet::new(),
            trimmed: BTreeMap::new(),
            restoring: false,
            published: Vec::new(),
            delivered: Vec::new(),
        };
        trial.connect(ADMIN, Role::Administrator);
        let groups: Vec<String> = (0..groups).map(|group| format!("g{group}")).collect();
        let mut bindings = Vec::new();
        if rules.limits.routed {
            let first = groups.first().into_iter().map(|group| (group, &b"r1"[..]));
            let last = groups.last().into_iter().map(|group| (group, &b"r2"[..]));
            let all = groups.iter().map(|group| (group, &b"r3"[..]));
            let bind =
                |(group, key): (&String, &[u8])| Binding { group: group.clone(), pattern: Pattern::Key(key.to_vec()) };
            bindings.extend(first.chain(last).chain(all).map(bind));
        }
        let name = "c".to_owned();
        let spec = ChannelSpec { name, lanes, groups: groups.clone(), bindings, ..ChannelSpec::default() };
        trial.control(ADMIN, Asked::Other, &Control::Create(spec));
        trial.store(1, false);
        assert!(trial.open.is_empty(), "the channel is made");
        trial.log.all_stored();
        for producer in PRODUCERS {
            trial.connect(producer, Role::Producer);
        }
        for _ in 0..members {
            for group in 0..groups.len() {
                trial.run(Command::Join { group: group as u8 });
            }
        }
        trial
    }

    fn connect(&mut self, number: u32, role: Role) {
        let spec = ClientSpec { number, role, placement: 0 };
        self.model.connect(self.now, &spec, &mut self.out).expect("the client connects");
        self.judge(&[]);
    }

    fn token(&mut self, client: u32, asked: Asked) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.open.insert(token, (client, asked));
        token
    }

    fn control(&mut self, client: u32, asked: Asked, control: &Control) -> Token {
        let token = self.token(client, asked);
        self.model.control(self.now, client, token, control, &mut self.out);
        self.judge(&[]);
        token
    }

    fn member(&self, pick: u8) -> Option<u32> {
        self.members.keys().nth(usize::from(pick) % self.members.len().max(1)).copied()
    }

    /// Does one command and judges what came of it.
    pub(crate) fn run(&mut self, command: Command) {
        match command {
            Command::Publish { producer, count, keys } => {
                let key = |n: u8| if keys == 0 { 0 } else { 1 + n % keys };
                let words = (0..count).map(|n| Words { key: key(n), ..Words::default() }).collect();
                self.publish(producer, words);
            }
            Command::Say { producer, count, words } => self.publish(producer, vec![words; count.into()]),
            Command::Store { barriers, fails } => self.store(barriers, fails),
            Command::Grant { member, count } => {
                let Some(member) = self.member(member) else { return };
                let token = self.token(member, if count == 0 { Asked::Other } else { Asked::Grant });
                if count > 0 {
                    self.members.get_mut(&member).unwrap().grants.push_back((token, count.into()));
                }
                self.model.control(self.now, member, token, &Control::Grant(count.into()), &mut self.out);
                self.judge(&[]);
            }
            Command::Settle { member, back, count, verdict } => self.settle(member, back, count, verdict),
            Command::Join { group } => {
                let group = u32::from(group) % self.ledger.groups;
                let number = self.next_member;
                self.next_member += 1;
                let (grants, receipts) = (VecDeque::new(), Vec::new());
                self.members.insert(number, Member { group, grants, receipts, in_flight_most: 0 });
                self.connect(number, Role::Member { group: format!("g{group}"), channels: vec![ChannelId(0)] });
            }
            Command::Close { member } => {
                let Some(member) = self.member(member) else { return };
                self.ledger.leave(member);
                self.members.remove(&member);
                self.control(member, Asked::Other, &Control::Close);
                let left = self.open.values().filter(|(client, _)| *client == member).count();
                assert_eq!(left, 0, "a member's operations end with its close");
            }
            Command::Flush { producer } => {
                self.control(PRODUCERS[usize::from(producer)], Asked::Other, &Control::Flush);
            }
            Command::Pass { ms } => self.pass(Span::from_millis(ms.into())),
        }
        self.compare();
    }

    fn publish(&mut self, producer: u8, words: Vec<Words>) {
        let producer = PRODUCERS[usize::from(producer)];
        let mut batch = Publishes::of_lengths();
        for words in words {
            let token = self.token(producer, Asked::Publish);
            self.ledger.words.insert(token, words);
            batch.push_length(token, ChannelId(0), &words.key_bytes(), &words.header_bytes(), 100);
        }
        let accepted = self.model.publish(self.now, producer, &batch, &mut self.out);
        let tokens: Vec<Token> = batch.iter().map(|message| message.token).collect();
        for token in &tokens[accepted.taken..] {
            assert!(accepted.blocked.is_some(), "a prefix is shorter for a reason");
            self.open.remove(token);
        }
        self.judge(&tokens[..accepted.taken]);
    }

    fn store(&mut self, barriers: u8, fails: bool) {
        let count = usize::from(barriers).min(self.tickets.len());
        if let Some(&ticket) = count.checked_sub(1).and_then(|last| self.tickets.get(last)) {
            self.tickets.drain(..count);
            if !fails {
                self.log.stored(ticket);
            }
            let result = if fails { Err(Failure::Storage) } else { Ok(()) };
            self.model.stored(self.now, ticket, result, &mut self.out);
            self.judge(&[]);
        }
    }

    fn settle(&mut self, member: u8, back: u8, count: u8, verdict: u8) {
        let foreign = verdict == 8;
        let verdict = match verdict {
            0..=4 | 8 => Verdict::Ack,
            5 => Verdict::Nack { requeue: true },
            6 => Verdict::Nack { requeue: false },
            _ => Verdict::Extend(Span::from_millis(u64::from(back) * 40)),
        };
        let Some(number) = self.member(member) else { return };
        let Some(holder) = self.member(if foreign { member.wrapping_add(1) } else { member }) else { return };
        let receipts = &self.members[&holder].receipts;
        let (group, back) = (self.members[&number].group, usize::from(back));
        let Some(first) = receipts.len().checked_sub(1 + back) else { return };
        let receipts: Vec<Receipt> = receipts[first..].iter().copied().take(count.into()).collect();
        self.ledger.expire(self.now);
        let settle = |receipt| self.ledger.settle(self.now, number, group, receipt, verdict);
        let expected: Vec<Status> = receipts.iter().copied().map(settle).collect();
        let settlement = |receipt| Settlement { token: self.token(number, Asked::Other), receipt, verdict };
        let settlements: Vec<Settlement> = receipts.into_iter().map(settlement).collect();
        self.model.settle(self.now, number, &settlements, &mut self.out);
        for (Settlement { token, receipt, .. }, expected) in settlements.into_iter().zip(expected) {
            let outcome = self.out.outcomes.iter().find(|(_, outcome)| outcome.token == token);
            let Some((_, Outcome { status, lane, position, .. })) = outcome else {
                panic!("{receipt:?} is settled at once")
            };
            assert_eq!((lane, position), (receipt.lane, receipt.position));
            assert_eq!(status, expected, "{verdict:?} of {receipt:?} by {number} at {:?}", self.now);
        }
        self.judge(&[]);
    }

    fn pass(&mut self, span: Span) {
        let end = self.now + span;
        while let Some(due) = self.model.next_deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.model.on_deadline(self.now, &mut self.out);
            self.judge(&[]);
            let again = self.model.next_deadline();
            assert!(again.is_none_or(|again| again > self.now), "what was due at {due:?} is done, and yet {again:?}");
        }
        self.now = end;
        self.model.on_deadline(self.now, &mut self.out);
        self.judge(&[]);
    }

    /// Holds the effects of one step against the ledger. `batch` is what was published in it.
    fn judge(&mut self, batch: &[Token]) {
        let out = std::mem::take(&mut self.out);
        self.ledger.expire(self.now);
        for write in &out.writes {
            self.judge_write(write, batch);
        }
        if self.ledger.rules.automatic && !out.deliveries.is_empty() {
            // Who is handed a message can't be handed it again: that it was settled is stored before.
            self.log.all_stored();
        }
        self.judge_lengths(&out);
        for &token in batch {
            let written = self.ledger.unstored.values().any(|(of, _)| *of == token);
            let over = out.outcomes.iter().any(|(_, outcome)| {
                outcome.token == token && matches!(outcome.status, Status::Refused(_) | Status::Failed(_))
            });
            if !written && !over {
                self.ledger.repeats(self.now, token);
            }
        }
        let mut grants = Vec::new();
        for (client, outcome) in out.outcomes.iter() {
            let operation = self.open.remove(&outcome.token);
            let Some((owner, asked)) = operation else { panic!("{outcome:?} ended twice or was never asked") };
            assert_eq!(owner, client, "{outcome:?}");
            match asked {
                Asked::Publish => {
                    self.published.push(outcome.status);
                    self.ledger.published(outcome.lane, outcome.position, outcome.token, outcome.status);
                }
                Asked::Grant => grants.push((client, outcome.token)),
                Asked::Other => {}
            }
        }
        self.ledger.expire(self.now);
        for &(client, token, _) in &out.answers {
            assert_eq!(self.open.remove(&token).map(|(owner, _)| owner), Some(client));
        }
        for run in &out.deliveries {
            assert_eq!(u32::from(run.redeliveries), run.receipt.epoch);
            for n in 0..u64::from(run.count) {
                self.judge_delivery(run.client, Receipt { position: run.receipt.position + n, ..run.receipt });
            }
        }
        for (client, token) in grants {
            let Some(member) = self.members.get_mut(&client) else { continue };
            let front = member.grants.pop_front();
            assert_eq!(front, Some((token, 0)), "grants end in order, with their last delivery");
        }
        for (number, member) in &self.members {
            assert!(member.grants.front().is_none_or(|grant| grant.1 > 0), "{number}: {:?} is used up", member.grants);
        }
        assert!(out.events.is_empty(), "nobody is assigned anything");
        // What a restart finds too much is given up by the first step after it.
        if !self.restoring {
            self.judge_overflow();
        }
        self.out = out;
        self.out.clear();
    }

    /// Where full queues refuse: no message was written to one, and none was refused without reason.
    fn judge_lengths(&self, out: &Effects) {
        let Limits { max_length, rejects: true, .. } = self.ledger.rules.limits else { return };
        for write in &out.writes {
            let Write::Messages { lane, position, count, .. } = *write else { continue };
            for position in position..position + u64::from(count) {
                let longest = self.ledger.longest(lane.0, self.ledger.said_at((lane.0, position)));
                assert!(longest <= max_length, "position {position} of lane {} was taken", lane.0);
            }
        }
        for (_, outcome) in out.outcomes.iter() {
            if outcome.status == Status::Failed(Failure::Overloaded) {
                let longest = self.ledger.longest(outcome.lane.0, self.ledger.words_of(outcome.token));
                assert!(longest >= max_length, "{outcome:?}");
            }
        }
    }

    /// Where full queues give up their head: exactly what is too much, and in order.
    fn judge_overflow(&mut self) {
        let Limits { max_length: 1.., rejects: false, .. } = self.ledger.rules.limits else { return };
        for lane in 0..self.lanes {
            for group in 0..self.ledger.groups {
                let below = self.committed.get(&(lane, group)).copied().unwrap_or(0);
                let gone = |position| position < below || self.settled.contains(&(lane, group, position));
                self.ledger.overflow(self.now, lane, group, gone);
            }
        }
    }

    fn judge_delivery(&mut self, client: u32, receipt: Receipt) {
        let member = self.members.get_mut(&client).expect("deliveries go to members that are there");
        let group = member.group;
        let grant = member.grants.iter_mut().find(|grant| grant.1 > 0).expect("deliveries keep within credit");
        grant.1 -= 1;
        member.receipts.push(receipt);
        self.ledger.deliver(self.now, client, group, receipt);
        self.delivered.push((client, receipt));
        let held = |standing| matches!(standing, Standing::Held { member, .. } if member == client);
        let in_flight = self.ledger.entries.values().filter(|entry| held(entry.standing)).count() as u64;
        let member = self.members.get_mut(&client).expect("it was there");
        member.in_flight_most = member.in_flight_most.max(in_flight);
    }

    /// The most that any member that is still there held at a time.
    pub(crate) fn most_in_flight(&self) -> u64 {
        self.members.values().map(|member| member.in_flight_most).max().unwrap_or(0)
    }

    fn judge_write(&mut self, write: &Write, batch: &[Token]) {
        let words = |index: u32| self.ledger.words[&batch[index as usize]];
        let said = |index| (words(index).key_bytes(), words(index).header_bytes());
        self.log.write_said(self.now, write, |_| 100, said);
        match *write {
            Write::Messages { lane, position, index, count } => {
                for (position, token) in (position..).zip(&batch[index as usize..(index + count) as usize]) {
                    self.ledger.written(self.now, lane.0, position, *token);
                }
            }
            Write::Barrier(ticket) => {
                assert_eq!(ticket, self.next_ticket, "tickets rise by one");
                self.next_ticket += 1;
                self.tickets.push_back(ticket);
            }
            Write::Record(Record::Committed { lane, group, position }) => {
                let before = self.committed.insert((lane.0, group), position).unwrap_or(0);
                assert!(position >= before, "what is settled stays so");
            }
            Write::Record(Record::Settled { lane, group, position }) => {
                self.settled.insert((lane.0, group, position));
            }
            Write::Provisional { .. }
            | Write::Record(Record::Together { .. } | Record::Released { .. } | Record::Moved { .. }) => {
                panic!("there are no transactions here: {write:?}")
            }
            Write::Record(Record::Channel(_) | Record::ChannelGone(_) | Record::Reshaped(_)) => {}
            Write::DeadLetter { .. } => unreachable!("nobody asked for a channel of dead letters"),
            Write::Compact { .. } => panic!("what is settled goes, and nothing else: {write:?}"),
            Write::Trim { lane, below } => {
                let before = self.trimmed.insert(lane.0, below).unwrap_or(0);
                assert!(below > before, "a trim gives something back");
            }
        }
    }

    /// Compares what the model says of itself, and what a restart would know, with the ledger.
    fn compare(&mut self) {
        let token = self.token(ADMIN, Asked::Other);
        self.model.control(self.now, ADMIN, token, &Control::Describe(ChannelId(0)), &mut self.out);
        let [(ADMIN, _, Answer::Description(description))] = &self.out.answers[..] else { panic!("{:?}", self.out) };
        let mut rows = description.lanes.clone().into_iter();
        for lane in 0..self.lanes {
            for group in 0..self.ledger.groups {
                let row = rows.next().expect("a row for each lane and group");
                assert_eq!((row.lane, row.group), (LaneId(lane), group));
                assert_eq!(row.end, self.ledger.ends.get(&lane).copied().unwrap_or(0));
                let (ready, in_flight, oldest) = self.ledger.state(lane, group);
                assert_eq!((row.ready, row.in_flight), (ready, in_flight), "{row:?}");
                let given_up = self.ledger.given_up(lane, group);
                let dead_lettered = row.given_up.dead_lettered;
                assert!(dead_lettered == 0 || dead_lettered == given_up.total(), "{row:?}");
                let given_up = GivenUp { dead_lettered, ..given_up };
                assert!(self.ledger.rules.lease.is_none() || row.given_up == given_up, "{row:?}, not {given_up:?}");
                if let Some(oldest) = oldest.filter(|_| self.ledger.failed.is_empty() && !self.ledger.gaps) {
                    assert_eq!(row.committed, oldest, "{row:?}");
                }
            }
        }
        self.judge(&[]);
        for (&(lane, group, position), entry) in &self.ledger.entries {
            let below = self.committed.get(&(lane, group)).copied().unwrap_or(0);
            let known = position < below || self.settled.contains(&(lane, group, position));
            assert_eq!(known, entry.standing == Standing::Settled, "lane {lane}, group {group}, position {position}");
            if entry.standing != Standing::Settled {
                let trimmed = self.trimmed.get(&lane).copied().unwrap_or(0);
                assert!(trimmed <= position, "lane {lane}: {position} is needed and {trimmed} was trimmed");
            }
        }
        // What was written and not answered is known as done with, so that a restart serves it to nobody.
        for &(lane, position) in self.ledger.failed.keys().filter(|_| self.ledger.rules.counts_unstored) {
            for group in 0..self.ledger.groups {
                let below = self.committed.get(&(lane, group)).copied().unwrap_or(0);
                assert!(position < below || self.settled.contains(&(lane, group, position)), "{lane} {position}");
            }
        }
        for (number, member) in &self.members {
            let credit: u32 = member.grants.iter().map(|grant| grant.1).sum();
            let waits = self.ledger.rules.work_conserving && credit > 0;
            assert!(
                !waits || !self.ledger.has_waiting(self.now, member.group),
                "{number} could have been given something"
            );
        }
    }

    /// Does each command, after which a twin crashes and is judged; now and then the trial goes on as that twin, with one member of each
    /// group. Returns how many restarts those were.
    pub(crate) fn run_with_crashes(&mut self, steps: Vec<(Command, Crash)>) -> usize
    where
        M: Clone,
    {
        let mut restarts = 0;
        for (command, crash) in steps {
            self.run(command);
            let mut other = self.clone();
            other.crash(crash);
            restarts += 1;
            if crash.stays() {
                *self = other;
                for group in 0..self.ledger.groups {
                    self.run(Command::Join { group: group as u8 });
                }
            }
        }
        restarts
    }

    /// The process ends, and another takes over what is left of the journal. All clients are gone.
    pub(crate) fn crash(&mut self, crash: Crash) {
        let failed = &self.ledger.failed;
        let log =
            self.log.crash(crash, |lane, position| failed.contains_key(&(lane, position)) && crash.loses(position));
        let known = log.known();
        self.ledger = self.ledger.restarted(self.now, &known);
        self.model = self.blank.clone();
        self.model.restore(self.now, &log.journal(), &mut self.out).expect("the journal holds together");
        let only_trims = self.out.writes.iter().all(|write| matches!(write, Write::Trim { .. }));
        assert!(only_trims && self.out.deliveries.is_empty() && self.out.outcomes.is_empty(), "{:?}", self.out);
        (self.log, self.committed, self.settled) = (log, known.committed, known.settled);
        self.members.clear();
        self.open.clear();
        self.trimmed.clear();
        self.tickets.clear();
        self.next_ticket = 0;
        self.restoring = true;
        self.judge(&[]);
        self.restoring = false;
        self.connect(ADMIN, Role::Administrator);
        for producer in PRODUCERS {
            self.connect(producer, Role::Producer);
        }
        self.compare();
    }

    /// Stores everything, serves everything, and asserts that each token ended and each acknowledged message arrived.
    pub(crate) fn drain(mut self) -> Self {
        for group in 0..self.ledger.groups {
            self.run(Command::Join { group: group as u8 });
        }
        for _ in 0..400 {
            let unsettled = self.ledger.entries.values().any(|entry| entry.standing != Standing::Settled);
            if !unsettled && self.open.values().all(|(_, asked)| *asked == Asked::Grant) {
                break;
            }
            self.store(u8::MAX, false);
            for member in self.members.keys().copied().collect::<Vec<_>>() {
                let at = self.members.keys().position(|&other| other == member).expect("it is there") as u8;
                self.run(Command::Grant { member: at, count: 100 });
                for back in 0..self.members[&member].receipts.len() {
                    self.settle(at, back as u8, 1, 0);
                }
            }
            self.run(Command::Pass { ms: 500 });
            self.store(u8::MAX, false);
        }
        let open: Vec<_> = self.open.values().filter(|(_, asked)| *asked != Asked::Grant).collect();
        assert!(open.is_empty(), "never ended: {open:?}");
        for (key, entry) in &self.ledger.entries {
            assert_eq!(entry.standing, Standing::Settled, "{key:?}");
            let given_up = entry.fate.is_some();
            assert!(entry.deliveries > 0 || given_up, "{key:?} was acknowledged and never delivered");
        }
        self.compare();
        self
    }
}

/// Tries every sequence of up to `length` commands of `alphabet`, and returns how many there were.
pub(crate) fn exhaust<M: Model + Clone>(trial: &Trial<M>, alphabet: &[Command], length: u32) -> u64 {
    if length == 0 {
        return 1;
    }
    let mut count = 1;
    for &command in alphabet {
        let mut next = trial.clone();
        next.run(command);
        count += exhaust(&next, alphabet, length - 1);
    }
    count
}
