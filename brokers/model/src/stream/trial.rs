//! Drives a model and the reference side by side through a sequence of commands, for the tests of both models.
//!
//! Leaves out what to expect: the reference judges each step, the trial counts tokens and deliveries over all steps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::reference::Reference;
use crate::batch::{
    ChannelId, ChannelSpec, Control, LaneId, Publishes, Receipt, SeekTo, Settlement, Token, Transaction, Verdict,
};
use crate::broker::{ClientSpec, ConnectError, Role};
use crate::completion::{Answer, Failure};
use crate::contract::{Delivery, Order};
use crate::headers::HeaderBlock;
use crate::identity::Identity;
use crate::machine::{Effects, Model, Write};
use crate::time::{Span, Time};
use crate::trial::crash::{Crash, Log};

pub(crate) const ADMIN: u32 = 0;
pub(crate) const PRODUCERS: [u32; 2] = [1, 2];
/// Three members of one group read both channels, one reads the second alone, and one is of another group.
pub(crate) const MEMBERS: [u32; 5] = [3, 4, 5, 6, 7];

/// What a test may do. Numbers beyond what there is are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Connect(u32),
    Close(u32),
    /// A key of 0 is none.
    Publish {
        client: u32,
        channel: u32,
        keys: Vec<u8>,
    },
    /// Messages of a producer with a name: so many sequences before or after the one that is due.
    PublishNamed {
        client: u32,
        channel: u32,
        keys: Vec<u8>,
        name: u8,
        /// Counted from the epoch that is known.
        epoch: i8,
        from: i8,
    },
    /// The storage answers this many calls.
    Stored {
        calls: usize,
        fails: bool,
    },
    Grant(u32, u32),
    /// Acknowledges from the oldest delivery on which the member has not settled.
    Ack {
        client: u32,
        count: usize,
    },
    /// Something that is to be refused.
    Wrong {
        client: u32,
        receipt: usize,
        what: u8,
    },
    Seek {
        client: u32,
        lane: u32,
        to: u64,
        how: u8,
    },
    Release(u32),
    /// A sign of life.
    Heard(u32),
    /// Of a producer: begins, commits or aborts a transaction.
    Transact {
        client: u32,
        step: Transaction,
    },
    /// A producer acknowledges in its transaction what a member has, from the oldest on.
    Within {
        client: u32,
        member: u32,
        count: usize,
    },
    Ask {
        client: u32,
        what: u8,
        number: u32,
    },
    Pass(u64),
    Create(u32),
    Delete(u32),
    /// Splits a lane in the middle, or at a hash of which the upper half is given.
    Split {
        lane: u32,
        at: Option<u64>,
    },
    Merge {
        lane: u32,
        with: u32,
    },
}

/// The model, the reference, and what was counted.
#[derive(Clone)]
pub(crate) struct Trial<M> {
    pub(crate) model: M,
    /// The model before anything was done, for a restart.
    blank: M,
    log: Log,
    pub(crate) reference: Reference,
    pub(crate) now: Time,
    pub(crate) out: Effects,
    next_token: u64,
    /// Asked, by whom, and how often answered.
    tokens: BTreeMap<Token, (u32, u32)>,
    open: Vec<u32>,
    deleted: Vec<ChannelId>,
    /// What each member got and has not settled.
    unsettled: BTreeMap<u32, Vec<Receipt>>,
    /// Each stored message's key and number.
    written: BTreeMap<(LaneId, u64), (u8, u64)>,
    numbers: u64,
    /// Sizes, headers and keys of the messages of the batch in hand.
    sizes: Vec<u32>,
    headers: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
    /// Deliveries in order: lane, group, position.
    pub(crate) delivered: Vec<(LaneId, &'static str, u64)>,
    credit: BTreeMap<u32, u64>,
    /// How long a round of draining takes.
    pub(crate) round: u64,
    /// How many rounds without a delivery end it.
    pub(crate) idle_rounds: u32,
}

/// The group and channels of a member.
fn reads(client: u32) -> (&'static str, Vec<ChannelId>) {
    match client {
        3..=5 => ("g", vec![ChannelId(0), ChannelId(1)]),
        6 => ("g", vec![ChannelId(1)]),
        _ => ("h", vec![ChannelId(0)]),
    }
}

fn role(client: u32) -> Role {
    let (group, channels) = reads(client);
    match client {
        ADMIN => Role::Administrator,
        1 | 2 => Role::Producer,
        _ => Role::Member { group: group.to_owned(), channels },
    }
}

impl<M: Model + Clone> Trial<M> {
    /// Two channels of so many lanes, an administrator and two producers.
    pub(crate) fn new(model: M, reference: Reference, lanes: [u32; 2]) -> Self {
        let mut trial = Self {
            blank: model.clone(),
            log: Log::default(),
            model,
            reference,
            now: Time(1_000),
            out: Effects::default(),
            next_token: 0,
            tokens: BTreeMap::new(),
            open: Vec::new(),
            deleted: Vec::new(),
            unsettled: BTreeMap::new(),
            written: BTreeMap::new(),
            numbers: 0,
            sizes: Vec::new(),
            headers: Vec::new(),
            keys: Vec::new(),
            delivered: Vec::new(),
            credit: BTreeMap::new(),
            round: 100_000_000_000,
            idle_rounds: 3,
        };
        trial.log.keep_named(trial.model.reads_identities());
        trial.connect(ADMIN);
        for (n, lanes) in lanes.into_iter().enumerate() {
            trial.create(&format!("channel-{n}"), lanes);
        }
        trial.stored(usize::MAX, false);
        for producer in PRODUCERS {
            trial.connect(producer);
        }
        trial
    }

    fn token(&mut self, client: u32) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.tokens.insert(token, (client, 0));
        token
    }

    /// Counts what came back, and lets the reference judge.
    fn judged(&mut self, what: &str, verdict: Result<(), String>) {
        if let Err(why) = verdict {
            panic!("{what} at {:?}: {why}\ndid {:#?}", self.now, self.out);
        }
        let outcomes = self.out.outcomes.iter().map(|(client, outcome)| (client, outcome.token));
        let answers = self.out.answers.iter().map(|(client, token, _)| (*client, *token));
        for (client, token) in outcomes.chain(answers) {
            let (asked_by, times) = self.tokens.get_mut(&token).expect("nothing ends that was not asked");
            *times += 1;
            assert_eq!((*asked_by, *times), (client, 1), "{token:?} ended for client {client}");
        }
        for deliver in &self.out.deliveries {
            let credit = self.credit.entry(deliver.client).or_default();
            *credit -= u64::from(deliver.count);
            for n in 0..u64::from(deliver.count) {
                let receipt = Receipt { position: deliver.receipt.position + n, ..deliver.receipt };
                self.unsettled.entry(deliver.client).or_default().push(receipt);
                self.delivered.push((receipt.lane, reads(deliver.client).0, receipt.position));
            }
        }
        for write in &self.out.writes {
            let of = |known: &[Vec<u8>], index: u32| known.get(index as usize).cloned().unwrap_or_default();
            let said = |index| (of(&self.keys, index), of(&self.headers, index));
            let size = |index| self.sizes.get(index as usize).copied().unwrap_or_default();
            self.log.write_said(self.now, write, size, said);
        }
        if self.reference.commits_first() && !self.out.deliveries.is_empty() {
            // Who is handed a message can't be handed it again: that it was committed is stored before.
            self.log.all_stored();
        }
        self.out.clear();
        if self.model.next_deadline() == Some(Time::ZERO) {
            // A host goes on at once.
            self.wake();
        }
    }

    fn connect(&mut self, client: u32) {
        let spec = ClientSpec { number: client, role: role(client), placement: 0 };
        let taken = self.open.contains(&client) || self.reference.is_outstanding(client);
        let gone = client >= MEMBERS[0] && reads(client).1.iter().any(|channel| self.deleted.contains(channel));
        match self.model.connect(self.now, &spec, &mut self.out) {
            Ok(()) => {
                assert!(!taken && !gone, "client {client} was connected");
                self.open.push(client);
                self.credit.insert(client, 0);
                self.unsettled.remove(&client);
                let verdict = self.reference.connected(self.now, client, spec.role, &self.out);
                self.judged("connect", verdict);
            }
            Err(ConnectError::NumberTaken(number)) => assert!(taken && number == client),
            Err(ConnectError::NoSuchChannel(channel)) => assert!(!taken && self.deleted.contains(&channel)),
            Err(error @ (ConnectError::NoSuchGroup(_) | ConnectError::System(_))) => panic!("{error}"),
        }
    }

    pub(crate) fn control(&mut self, client: u32, control: &Control) {
        let token = self.token(client);
        self.model.control(self.now, client, token, control, &mut self.out);
        let verdict = self.reference.controlled(self.now, client, token, control, &self.out);
        if self.open.contains(&client)
            && let Control::Grant(count) = control
        {
            *self.credit.entry(client).or_default() += u64::from(*count);
        }
        if *control == Control::Close {
            self.open.retain(|&open| open != client);
        }
        self.judged("control", verdict);
    }

    fn create(&mut self, name: &str, lanes: u32) {
        let groups = if name == "channel-0" { vec!["g".to_owned(), "h".to_owned()] } else { vec!["g".to_owned()] };
        self.control(
            ADMIN,
            &Control::Create(ChannelSpec { name: name.to_owned(), lanes, groups, ..ChannelSpec::default() }),
        );
    }

    fn publish(&mut self, client: u32, channel: u32, keys: &[u8]) {
        self.publish_saying(client, channel, keys, &[]);
    }

    /// Messages of a producer: from which sequence on, seen from the one that is due, and as which instance, seen from the one that is
    /// known.
    fn publish_named(&mut self, client: u32, channel: u32, keys: &[u8], name: u8, (epoch, from): (i8, i8)) {
        let producer = [b'p', name];
        let (known, next) = self.reference.due(channel, &producer).unwrap_or_default();
        let known_epoch = known.saturating_add_signed(epoch.into());
        let next = if known_epoch > known { 0 } else { next };
        let first = next.saturating_add_signed(from.into());
        let headers: Vec<Vec<u8>> =
            (first..).take(keys.len()).map(|sequence| identified(&producer, known_epoch, sequence)).collect();
        self.publish_saying(client, channel, keys, &headers);
    }

    /// Publishes messages with these headers; without where there are none.
    pub(crate) fn publish_saying(&mut self, client: u32, channel: u32, keys: &[u8], headers: &[Vec<u8>]) {
        let mut batch = Publishes::of_lengths();
        self.sizes.clear();
        self.headers = headers.to_vec();
        self.keys.clear();
        for (n, &key) in keys.iter().enumerate() {
            let token = self.token(client);
            let name = [b'k', key];
            // Now and then one is too large.
            let len = if key == 255 { 3_000_000 } else { 100 + n as u32 };
            // Of a log that is compacted every fifth of these is a tombstone.
            let len = if self.model.compacts() && (self.numbers + n as u64) % 5 == 4 { 0 } else { len };
            let says = headers.get(n).map_or(&[][..], Vec::as_slice);
            batch.push_length(token, ChannelId(channel), if key == 0 { &[] } else { &name }, says, len);
            self.sizes.push(len + says.len() as u32 + if key == 0 { 0 } else { 2 });
            self.keys.push(if key == 0 { Vec::new() } else { name.to_vec() });
        }
        let took = self.model.publish(self.now, client, &batch, &mut self.out);
        for index in took.taken..batch.len() {
            self.tokens.remove(&batch.get(index).token);
        }
        for write in &self.out.writes {
            if let Write::Messages { lane, position, index, count }
            | Write::Provisional { lane, position, index, count } = *write
            {
                for (position, index) in (position..).zip(index..index + count) {
                    self.written.insert((lane, position), (keys[index as usize], self.numbers + u64::from(index)));
                }
            }
        }
        self.numbers += keys.len() as u64;
        let verdict = self.reference.published(self.now, client, &batch, took, &self.out);
        self.judged("publish", verdict);
    }

    fn stored(&mut self, calls: usize, fails: bool) {
        let tickets = self.reference.tickets();
        let Some(&ticket) = tickets.get(calls.min(tickets.len()).wrapping_sub(1)) else { return };
        let result = if fails { Err(Failure::Storage) } else { Ok(()) };
        if !fails {
            self.log.stored(ticket);
        }
        self.model.stored(self.now, ticket, result, &mut self.out);
        let verdict = self.reference.stored(self.now, ticket, result, &self.out);
        self.judged("stored", verdict);
    }

    fn settle(&mut self, client: u32, receipts: &[Receipt], verdict: Verdict) {
        let settlements: Vec<Settlement> =
            receipts.iter().map(|&receipt| Settlement { token: self.token(client), receipt, verdict }).collect();
        self.model.settle(self.now, client, &settlements, &mut self.out);
        let verdict = self.reference.settled(self.now, client, &settlements, &self.out);
        self.judged("settle", verdict);
    }

    fn heard(&mut self, client: u32) {
        self.model.heard(self.now, client, &mut self.out);
        let verdict = self.reference.heard(self.now, client, &self.out);
        self.judged("heard", verdict);
    }

    fn ack(&mut self, client: u32, count: usize) {
        let got = self.unsettled.entry(client).or_default();
        let receipts: Vec<Receipt> = got.drain(..count.min(got.len())).collect();
        self.settle(client, &receipts, Verdict::Ack);
    }

    fn wrong(&mut self, client: u32, receipt: usize, what: u8) {
        let got = self.unsettled.get(&client).map_or(&[][..], Vec::as_slice);
        let real = got.get(receipt % got.len().max(1)).copied().unwrap_or_default();
        let (receipt, verdict) = match what % 5 {
            // Who has got nothing could guess an epoch that is to come, and settle what nobody was handed: one before it is nobody's.
            0 => (Receipt { epoch: real.epoch.wrapping_sub(1), ..real }, Verdict::Ack),
            1 => (Receipt { position: real.position + 1_000, ..real }, Verdict::Ack),
            2 => (Receipt { lane: LaneId(99), ..real }, Verdict::Ack),
            3 => (real, Verdict::Nack { requeue: true }),
            _ => (real, Verdict::Extend(Span(5))),
        };
        self.settle(client, &[receipt], verdict);
    }

    /// Lets time pass, and the model do what is due, at its time.
    pub(crate) fn pass(&mut self, span: u64) {
        let end = self.now + Span(span);
        while let Some(due) = self.model.next_deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.wake();
            let next = self.model.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "what was due is done: {next:?} at {:?}", self.now);
        }
        self.now = end;
        self.wake();
    }

    fn wake(&mut self) {
        self.model.on_deadline(self.now, &mut self.out);
        let verdict = self.reference.woken(self.now, &self.out);
        self.judged("deadline", verdict);
    }

    pub(crate) fn run(&mut self, command: &Command) {
        match *command {
            Command::Connect(client) => self.connect(client),
            Command::Close(client) => self.control(client, &Control::Close),
            Command::Publish { client, channel, ref keys } => self.publish(client, channel, keys),
            Command::PublishNamed { client, channel, ref keys, name, epoch, from } => {
                self.publish_named(client, channel, keys, name, (epoch, from));
            }
            Command::Stored { calls, fails } => self.stored(calls, fails),
            Command::Grant(client, count) => self.control(client, &Control::Grant(count)),
            Command::Ack { client, count } => self.ack(client, count),
            Command::Wrong { client, receipt, what } => self.wrong(client, receipt, what),
            Command::Seek { client, lane, to, how } => {
                let to = match how % 4 {
                    0 => SeekTo::Earliest,
                    1 => SeekTo::Latest,
                    2 => SeekTo::Position(to % 20),
                    _ => SeekTo::Time(Time(1_000 + to)),
                };
                self.control(client, &Control::Seek { lane: LaneId(lane), to });
            }
            Command::Release(client) => {
                let lane = self.reference.revoked(client).first().copied().unwrap_or_default();
                self.control(client, &Control::Release(lane));
            }
            Command::Heard(client) => self.heard(client),
            Command::Transact { client, ref step } => self.control(client, &Control::Transaction(step.clone())),
            Command::Within { client, member, count } => {
                let got = self.unsettled.get(&member).map_or(&[][..], Vec::as_slice);
                let receipts: Vec<Receipt> = got.iter().copied().take(count).collect();
                self.settle(client, &receipts, Verdict::Ack);
            }
            Command::Ask { client, what, number } => {
                let control = match what % 3 {
                    0 => Control::Flush,
                    1 => Control::Position(LaneId(number)),
                    _ => Control::Describe(ChannelId(number)),
                };
                self.control(client, &control);
            }
            Command::Pass(span) => self.pass(span),
            Command::Create(number) => self.create(&format!("channel-{}", number % 3), 1),
            Command::Delete(number) => {
                self.control(ADMIN, &Control::Delete(ChannelId(number)));
                self.deleted.push(ChannelId(number));
            }
            Command::Split { lane, at } => {
                let at = at.map(|at| u128::from(at) << 64);
                self.control(ADMIN, &Control::Split { lane: LaneId(lane), at });
            }
            Command::Merge { lane, with } => {
                self.control(ADMIN, &Control::Merge { lane: LaneId(lane), with: LaneId(with) });
            }
        }
    }

    /// The process ends, and another takes over what is left of the journal. All clients are gone, and what they had asked.
    pub(crate) fn crash(&mut self, crash: Crash) {
        let reference = &self.reference;
        let lost = |lane, position| reference.has_failed(lane, position) && crash.loses(position);
        let log = self.log.crash(crash, lost);
        let known = log.known();
        self.reference.restarted(self.now, &known);
        self.model = self.blank.clone();
        self.model
            .restore(self.now, &log.journal_for(self.model.compacts()), &mut self.out)
            .expect("the journal holds together");
        self.log = log;
        self.tokens.retain(|_, (_, times)| *times == 1);
        self.open.clear();
        self.unsettled.clear();
        self.credit.clear();
        let gone = |channel: &u32| !matches!(known.channels.get(channel), Some(Some(_)));
        self.deleted = (0..known.given_out.0).filter(gone).map(ChannelId).collect();
        let verdict = self.reference.woken(self.now, &self.out);
        self.judged("restore", verdict);
        self.connect(ADMIN);
        for producer in PRODUCERS {
            self.connect(producer);
        }
        for channel in 0..known.given_out.0 {
            self.control(ADMIN, &Control::Describe(ChannelId(channel)));
        }
    }

    /// Has everything stored, delivered and settled, with these members, of every group.
    pub(crate) fn drain(&mut self, members: &[u32]) {
        for producer in PRODUCERS {
            self.control(producer, &Control::Transaction(Transaction::Commit));
        }
        self.stored(usize::MAX, false);
        for &member in members {
            if !self.open.contains(&member) {
                self.connect(member);
            }
        }
        let mut quiet = 0;
        for _ in 0..2_000 {
            let before = self.delivered.len();
            for &member in members {
                self.ack(member, usize::MAX);
                for _ in 0..self.reference.revoked(member).len() {
                    self.run(&Command::Release(member));
                }
                if self.credit.get(&member).is_none_or(|&credit| credit < 100) {
                    self.control(member, &Control::Grant(1_000));
                }
            }
            self.pass(self.round);
            // A lane may take a round to change hands.
            quiet = if self.delivered.len() == before { quiet + 1 } else { 0 };
            if quiet == self.idle_rounds {
                return;
            }
        }
        panic!("deliveries never end");
    }

    /// Does all commands, and has everything delivered.
    pub(crate) fn judge(mut self, commands: &[Command], delivery: Delivery) {
        for command in commands {
            self.run(command);
        }
        let skipped = commands.iter().any(|command| matches!(command, Command::Seek { .. } | Command::Delete(0 | 1)));
        self.judge_deliveries(skipped, delivery);
    }

    /// Has every member join, does commands that lose and repeat nothing, and has every message come once and in the order of its key.
    pub(crate) fn judge_calm(mut self, commands: &[Command], order: Order) {
        for member in MEMBERS {
            self.run(&Command::Connect(member));
            for holder in MEMBERS.iter().flat_map(|&holder| [holder; 5]) {
                self.run(&Command::Release(holder));
            }
        }
        for command in commands {
            self.run(command);
        }
        self.drain(&MEMBERS);
        let most = self.assert_all_delivered();
        assert!(most <= 1, "a message came {most} times");
        if order == Order::PerKey {
            self.assert_key_order();
        }
        self.end();
    }

    /// Does each command, after which a twin crashes and is judged; now and then it goes on as that twin. Returns how many restarts
    /// those were.
    pub(crate) fn judge_with_crashes(mut self, steps: &[(Command, Crash)], delivery: Delivery) -> usize {
        for (command, crash) in steps {
            self.run(command);
            let mut other = self.clone();
            other.crash(*crash);
            if crash.stays() {
                self = other;
            }
        }
        let skips = |(command, _): &(Command, Crash)| {
            matches!(command, Command::Seek { .. } | Command::Delete(0 | 1) | Command::Stored { fails: true, .. })
        };
        self.judge_deliveries(steps.iter().any(skips), delivery);
        steps.len()
    }

    fn judge_deliveries(mut self, skipped: bool, delivery: Delivery) {
        self.drain(&MEMBERS);
        if !skipped && delivery != Delivery::AtMostOnce {
            self.assert_all_delivered();
        }
        self.end();
    }

    /// Closes everybody; every token has ended by then.
    pub(crate) fn end(mut self) {
        for client in self.open.clone() {
            self.control(client, &Control::Close);
        }
        let open: Vec<_> = self.tokens.iter().filter(|(_, (_, times))| *times != 1).collect();
        assert!(open.is_empty(), "never ended: {open:?}");
    }

    /// Every message that is kept was delivered to each group; returns how often at most.
    pub(crate) fn assert_all_delivered(&self) -> usize {
        let mut times: BTreeMap<(LaneId, &str, u64), usize> = BTreeMap::new();
        for &delivery in &self.delivered {
            *times.entry(delivery).or_default() += 1;
        }
        // Nobody reads the channels that came later.
        let read = |&(lane, ..): &(u32, u32, u64)| self.reference.channel_of(LaneId(lane)) < 2;
        let read = self.reference.kept().into_iter().filter(read);
        for (lane, group, position) in read {
            let group = if group == 0 { "g" } else { "h" };
            assert!(
                times.contains_key(&(LaneId(lane), group, position)),
                "{position} of lane {lane} never came to {group}"
            );
        }
        times.values().copied().max().unwrap_or(0)
    }

    /// First deliveries of a key come to each group in the order in which they were published.
    pub(crate) fn assert_key_order(&self) {
        let mut last: BTreeMap<(&str, u8, bool), u64> = BTreeMap::new();
        for &(lane, group, position) in &self.delivered {
            let (key, number) = self.written[&(lane, position)];
            if key > 0 {
                let first_channel = self.reference.channel_of(lane) == 0;
                let before = last.insert((group, key, first_channel), number);
                assert!(before.is_none_or(|before| before < number), "{number} of key {key} came after {before:?}");
            }
        }
    }

    /// The lags and numbers in flight that the administrator is told.
    pub(crate) fn lags(&mut self, channel: u32) -> Vec<(u64, u64)> {
        let token = self.token(ADMIN);
        let ask = Control::Describe(ChannelId(channel));
        self.model.control(self.now, ADMIN, token, &ask, &mut self.out);
        let Some((_, _, Answer::Description(told))) = self.out.answers.first() else { panic!("no description") };
        let lags = told.lanes.iter().map(|lane| (lane.ready, lane.in_flight)).collect();
        let verdict = self.reference.controlled(self.now, ADMIN, token, &ask, &self.out);
        self.judged("describe", verdict);
        lags
    }
}

/// Commands of every kind, clients of every role.
pub(crate) fn any_command() -> impl Strategy<Value = Command> {
    let client = 0u32..8;
    prop_oneof![
        4 => (3u32..8).prop_map(Command::Connect),
        1 => client.clone().prop_filter("the administrator stays", |c| *c != ADMIN).prop_map(Command::Close),
        1 => (1u32..3).prop_map(Command::Connect),
        1 => (client.clone(), 0u32..4, keys()).prop_map(|(client, channel, keys)| Command::Publish { client, channel, keys }),
        6 => calm_publish(),
        5 => named_publish(),
        6 => (1usize..4, prop::bool::weighted(0.1)).prop_map(|(calls, fails)| Command::Stored { calls, fails }),
        5 => (client.clone(), 0u32..9).prop_map(|(client, count)| Command::Grant(client, count)),
        4 => (client.clone(), 0usize..6).prop_map(|(client, count)| Command::Ack { client, count }),
        1 => (client.clone(), 0usize..6, any::<u8>())
            .prop_map(|(client, receipt, what)| Command::Wrong { client, receipt, what }),
        3 => (client.clone(), 0u32..12, 0u64..400, any::<u8>())
            .prop_map(|(client, lane, to, how)| Command::Seek { client, lane, to, how }),
        3 => (3u32..8).prop_map(Command::Release),
        1 => (3u32..8).prop_map(Command::Heard),
        4 => (0u32..4, step()).prop_map(|(client, step)| Command::Transact { client, step }),
        2 => (1u32..3, 3u32..8, 1usize..5).prop_map(|(client, member, count)| Command::Within { client, member, count }),
        2 => (client, any::<u8>(), 0u32..12).prop_map(|(client, what, number)| Command::Ask { client, what, number }),
        3 => (1u64..60).prop_map(Command::Pass),
        1 => (0u32..3).prop_map(Command::Create),
        1 => reshape(),
        1 => prop::bool::weighted(0.2).prop_flat_map(|rare| if rare { 0u32..4 } else { 2u32..4 }).prop_map(Command::Delete),
    ]
}

/// Splits and merges, of lanes that are there and of others.
pub(crate) fn reshape() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => (0u32..12, prop::option::weighted(0.3, any::<u64>())).prop_map(|(lane, at)| Command::Split { lane, at }),
        2 => (0u32..12, 0u32..12).prop_map(|(lane, with)| Command::Merge { lane, with }),
        1 => (0u32..12).prop_map(|lane| Command::Merge { lane, with: lane + 1 }),
    ]
}

fn step() -> impl Strategy<Value = Transaction> {
    let group = prop_oneof![2 => Just(None), 4 => Just(Some("g".to_owned())), 1 => Just(Some("nobody".to_owned()))];
    let name = prop_oneof![8 => Just(""), 2 => Just("one"), 1 => Just("two")];
    let name = name.prop_map(|name| (!name.is_empty()).then(|| name.to_owned()));
    prop_oneof![
        3 => (group, name).prop_map(|(group, name)| Transaction::Begin { group, name }),
        2 => Just(Transaction::Commit),
        1 => Just(Transaction::Abort),
    ]
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![2 => Just(0u8), 6 => 1u8..12, 1 => Just(255u8)], 0..7)
}

fn calm_publish() -> impl Strategy<Value = Command> {
    (1u32..3, 0u32..2, prop::collection::vec(0u8..12, 1..7)).prop_map(|(client, channel, keys)| Command::Publish {
        client,
        channel,
        keys,
    })
}

/// Mostly the next messages of a producer or a few of the last ones again; now and then a gap, another instance or an old one.
pub(crate) fn named_publish() -> impl Strategy<Value = Command> {
    let keys = prop_oneof![6 => prop::collection::vec(0u8..12, 1..7), 1 => keys()];
    let epoch = prop_oneof![12 => Just(0i8), 1 => Just(1), 1 => Just(-1)];
    let from = prop_oneof![6 => Just(0i8), 5 => -7i8..0, 1 => 1i8..3];
    (1u32..3, 0u32..3, keys, 0u8..2, epoch, from).prop_map(|(client, channel, keys, name, epoch, from)| {
        Command::PublishNamed { client, channel, keys, name, epoch, from }
    })
}

/// The headers of a producer's message.
pub(crate) fn identified(producer: &[u8], epoch: u32, sequence: u64) -> Vec<u8> {
    let mut block = HeaderBlock::new();
    Identity { producer, epoch, sequence }.put(&mut block).expect("it is short");
    block.to_bytes()
}

/// Commands after which every message is to have come once: nobody leaves or seeks, and nothing fails.
pub(crate) fn calm_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => calm_publish(),
        4 => (1usize..4).prop_map(|calls| Command::Stored { calls, fails: false }),
        3 => (3u32..8, 0u32..9).prop_map(|(client, count)| Command::Grant(client, count)),
        3 => (3u32..8, 0usize..6).prop_map(|(client, count)| Command::Ack { client, count }),
        1 => (1u64..60).prop_map(Command::Pass),
    ]
}
