//! The naive reference that the log and the shard stream are compared with, step by step.
//!
//! It keeps every message in a plain list and every place in a map, looks everything up anew each time and shares no state with
//! the models. What a step must answer it predicts exactly; where a model is free (which of several lanes is served first,
//! which member gets which lane) it judges what the model did. Leaves out the read limit, whose counting is a model's own, and
//! retention, of which it only checks that nothing young goes.

mod compaction;
mod idempotence;
mod observe;
mod reshape;
#[cfg(test)]
mod restart;
mod route;
mod sessions;
mod transactions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::compaction::Said;
use self::idempotence::Producers;
pub use self::route::Rules;
use self::transactions::Transaction;
use crate::batch::{
    Accepted, Blocked, ChannelId, ChannelSpec, Control, LaneId, Publishes, SeekTo, Settlement, Token, Verdict,
};
use crate::broker::Role;
use crate::completion::{Answer, Description, Failure, LaneState, Outcome, Refusal, Status};
use crate::contract::{Contract, Delivery, Order};
use crate::identity::Identity;
use crate::machine::{ChannelRecord, Effects, GROUPS_MAX, NAME_BYTES_MAX, Record, Write};
use crate::shard::hash_range::HashRanges;
use crate::time::Time;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pending,
    Stored,
    Failed,
    /// A compaction has left it out.
    LeftOut,
}

#[derive(Clone, Debug)]
struct Lane {
    channel: usize,
    messages: Vec<(Time, Fate)>,
    start: u64,
    /// The first and the last hash of the keys that it takes.
    hashes: (u128, u128),
    /// The lanes that took them before.
    parents: Vec<u32>,
    /// It was split or merged.
    closed: bool,
    /// Positions of transactions that are not to be read yet, and those that never are.
    held: BTreeSet<u64>,
    taken_back: BTreeSet<u64>,
    /// Positions of transactions that were taken back, whether or not they are read.
    aborted: BTreeSet<u64>,
    /// Each message's key.
    said: Vec<Said>,
    /// Bytes that were appended.
    appended: u64,
}

impl Lane {
    fn new(channel: usize, hashes: (u128, u128), parents: Vec<u32>) -> Self {
        Self {
            channel,
            messages: Vec::new(),
            start: 0,
            hashes,
            parents,
            closed: false,
            held: BTreeSet::new(),
            taken_back: BTreeSet::new(),
            aborted: BTreeSet::new(),
            said: Vec::new(),
            appended: 0,
        }
    }

    /// Everything below is stored, or failed to be.
    fn answered(&self) -> u64 {
        let answered = self.messages.iter().position(|&(_, fate)| fate == Fate::Pending);
        answered.unwrap_or(self.messages.len()) as u64
    }

    /// How far may be read: to the first message that is not answered, or that may still be taken back.
    fn stable(&self) -> u64 {
        let answered = self.answered();
        self.held.first().map_or(answered, |&held| held.min(answered))
    }

    fn visible(&self, position: u64) -> bool {
        let stored = position < self.stable() && self.messages[position as usize].1 == Fate::Stored;
        position >= self.start && stored && !self.taken_back.contains(&position)
    }

    /// The next position from `position` on that is not a hole, at most the high watermark.
    fn readable(&self, position: u64) -> u64 {
        let from = position.max(self.start);
        (from..self.stable()).find(|&position| self.visible(position)).unwrap_or(self.stable().max(from))
    }

    fn count(&self, from: u64, to: u64) -> u64 {
        (from..to).filter(|&position| self.visible(position)).count() as u64
    }
}

#[derive(Clone, Debug)]
struct Channel {
    name: String,
    groups: Vec<String>,
    gone: bool,
    /// The ticket that its record waits for, and whether it was said that the channel is there.
    made_by: u64,
    acknowledged: bool,
}

#[derive(Clone, Debug, Default)]
struct Cursor {
    owner: Option<u32>,
    revoked: bool,
    epoch: u32,
    position: u64,
    committed: u64,
    highest: u64,
}

#[derive(Clone, Debug)]
struct Client {
    role: Role,
    open: bool,
    grants: VecDeque<(Token, u32)>,
    /// When it was heard of last, and whether its session is over.
    heard: Time,
    away: bool,
}

/// A publish that waits for the storage.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: u64,
    client: u32,
    token: Token,
    lane: u32,
    position: u64,
    /// It waits for another's message.
    repeats: bool,
}

/// What a step must answer.
#[derive(Debug, Default)]
struct Expected {
    outcomes: Vec<(u32, Outcome)>,
    answers: Vec<(u32, Token, Answer)>,
    writes: Vec<Write>,
}

/// The reference, and the judge of a model beside it.
#[derive(Clone, Debug)]
pub struct Reference {
    rules: Rules,
    contract: Contract,
    max_in_flight: usize,
    clients: BTreeMap<u32, Client>,
    channels: Vec<Channel>,
    lanes: Vec<Lane>,
    /// By lane and the group's place in the channel's list.
    cursors: BTreeMap<(u32, u32), Cursor>,
    waiting: Vec<Waiting>,
    /// The administrator's records that wait for the storage, with their tickets.
    records: Vec<(u64, u32, Outcome)>,
    /// Each with the publishes that were outstanding when it was asked.
    flushes: Vec<(u32, Token, Vec<Token>)>,
    next_ticket: u64,
    /// Lanes of groups whose members change in the step in hand, as they were held before: by which assignment.
    disturbed: Vec<((u32, u32), u32)>,
    transactions: BTreeMap<u32, Transaction>,
    producers: Producers,
    /// Whose each transactional name is, and those whose name was taken.
    names: BTreeMap<String, u32>,
    fenced: BTreeSet<u32>,
    /// Something was compacted, or everything was taken over from a journal.
    compacts: bool,
}

/// What a model did that it may not do, or did not do that it must, in words.
pub type Verdicts = Result<(), String>;

impl Reference {
    /// A reference for a model that routes by `rules`, made for `contract`, with this window per client.
    pub fn new(rules: Rules, contract: Contract, max_in_flight: u32) -> Self {
        Self {
            rules,
            contract,
            max_in_flight: max_in_flight as usize,
            clients: BTreeMap::new(),
            channels: Vec::new(),
            lanes: Vec::new(),
            cursors: BTreeMap::new(),
            waiting: Vec::new(),
            records: Vec::new(),
            flushes: Vec::new(),
            next_ticket: 0,
            disturbed: Vec::new(),
            transactions: BTreeMap::new(),
            producers: Producers::default(),
            names: BTreeMap::new(),
            fenced: BTreeSet::new(),
            compacts: false,
        }
    }

    /// The publish calls that the storage has not answered, oldest first.
    pub fn tickets(&self) -> Vec<u64> {
        let mut tickets: Vec<u64> = self.waiting.iter().map(|waiting| waiting.ticket).collect();
        tickets.extend(self.commits().map(|(_, ticket, _)| ticket));
        tickets.extend(self.records.iter().map(|&(ticket, ..)| ticket));
        tickets.sort_unstable();
        tickets.dedup();
        tickets
    }

    /// Whether the storage still owes `client` an answer.
    pub fn is_outstanding(&self, client: u32) -> bool {
        let commits = self.commits().any(|(committing, ..)| committing == client);
        let records = self.records.iter().any(|&(_, whose, _)| whose == client);
        commits || records || self.waiting.iter().any(|waiting| waiting.client == client)
    }

    /// Whether the storage failed to store a message.
    #[cfg(test)]
    pub(crate) fn has_failed(&self, lane: u32, position: u64) -> bool {
        self.lanes[lane as usize].messages[position as usize].1 == Fate::Failed
    }

    /// The lanes that `client` was asked to release.
    pub fn revoked(&self, client: u32) -> Vec<LaneId> {
        let held = self.cursors.iter().filter(|(_, cursor)| cursor.owner == Some(client) && cursor.revoked);
        held.map(|(&(lane, _), _)| LaneId(lane)).collect()
    }

    /// Every message that was stored and is kept, for each group of its channel: lane, group, position.
    pub fn kept(&self) -> Vec<(u32, u32, u64)> {
        let mut kept = Vec::new();
        for &(number, group) in self.cursors.keys() {
            let lane = &self.lanes[number as usize];
            if !self.channels[lane.channel].gone {
                let positions = (0..lane.stable()).filter(|&position| lane.visible(position));
                kept.extend(positions.map(|position| (number, group, position)));
            }
        }
        kept
    }

    /// A client was connected.
    pub fn connected(&mut self, now: Time, number: u32, role: Role, did: &Effects) -> Verdicts {
        if let Role::Member { group, .. } = &role {
            self.disturb(&group.clone());
        }
        let client = Client { role, open: true, grants: VecDeque::new(), heard: now, away: false };
        self.clients.insert(number, client);
        self.fenced.remove(&number);
        self.observe(now, Expected::default(), did)
    }

    /// `client` published `batch`.
    pub fn published(&mut self, now: Time, client: u32, batch: &Publishes, took: Accepted, did: &Effects) -> Verdicts {
        let mut expected = Expected::default();
        let refusal = match self.clients.get(&client) {
            Some(known) if known.open && known.role == Role::Producer => self.refuses_publish(client),
            Some(known) if known.open => Some(Refusal::WrongRole),
            Some(_) | None => Some(Refusal::Closed),
        };
        let outstanding = self.waiting.iter().filter(|waiting| waiting.client == client).count();
        let room = if refusal.is_some() { batch.len() } else { self.max_in_flight - outstanding };
        let mut due = Accepted { taken: batch.len().min(room), blocked: None };
        due.blocked = (due.taken < batch.len()).then_some(Blocked::Window);
        let ticket = self.next_ticket;
        let mut waiting: Vec<Waiting> = Vec::new();
        for (index, message) in batch.iter().take(due.taken).enumerate() {
            let route = match refusal {
                Some(refusal) => Err(Status::Refused(refusal)),
                None => self.place(now, ticket, client, &message),
            };
            let mut waits = |lane, position, repeats| {
                waiting.push(Waiting { ticket, client, token: message.token, lane, position, repeats });
            };
            match route {
                Ok((number, Some(position))) => {
                    if position < self.lanes[number as usize].answered() {
                        expected.placed(client, message.token, Status::Done, LaneId(number), position);
                    } else {
                        waits(number, position, true);
                    }
                }
                Ok((number, None)) => {
                    let lane = &mut self.lanes[number as usize];
                    let position = lane.messages.len() as u64;
                    lane.messages.push((now, Fate::Pending));
                    let said = Said { key: message.key.to_vec(), is_tombstone: message.payload_len == 0 };
                    let bytes = message.key.len() + message.headers.len() + message.payload_len as usize;
                    lane.note(said, bytes as u64);
                    waits(number, position, false);
                    self.note_identity(now, client, number, position, Identity::of(message.headers));
                    self.enlist(client, number, position, index as u32, &mut expected);
                }
                Err(Status::Throttled) if self.contract.order != Order::None => {
                    due = Accepted { taken: index, blocked: Some(Blocked::RateLimit) };
                    break;
                }
                Err(status) => expected.ended(client, message.token, status),
            }
        }
        if !waiting.is_empty() {
            self.waiting.extend(waiting);
            expected.writes.push(Write::Barrier(ticket));
            self.next_ticket += 1;
        }
        if took != due {
            return Err(format!("took {took:?}, due {due:?}"));
        }
        self.observe(now, expected, did)
    }

    /// Which lane a message goes to, or where it is already.
    fn place(
        &mut self,
        now: Time,
        ticket: u64,
        client: u32,
        message: &crate::batch::Message<'_>,
    ) -> Result<(u32, Option<u64>), Status> {
        let channel = message.channel.0 as usize;
        let known = self.channels.get(channel).filter(|channel| !channel.gone);
        known.ok_or(Status::Refused(Refusal::NoSuchLane))?;
        if let Some(identity) = Identity::of(message.headers).filter(|_| !self.rules.is_too_large(message))
            && let Some((lane, position)) = self.is_repeat(now, client, channel, identity).map_err(Status::Refused)?
        {
            return Ok((lane, Some(position)));
        }
        self.route(now, ticket, message).map(|lane| (lane, None))
    }

    fn route(&mut self, now: Time, ticket: u64, message: &crate::batch::Message<'_>) -> Result<u32, Status> {
        let channel = message.channel.0 as usize;
        let lanes = (0u32..).zip(&self.lanes).filter(|(_, lane)| lane.channel == channel && !lane.closed);
        let lanes: Vec<(u32, (u128, u128))> = lanes.map(|(number, lane)| (number, lane.hashes)).collect();
        self.rules.route(now, ticket, message, &lanes, self.contract.order != Order::None)
    }

    /// The storage answered.
    pub fn stored(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, did: &Effects) -> Verdicts {
        let mut expected = Expected::default();
        let status = result.map_or_else(Status::Failed, |()| Status::Done);
        for answered in self.tickets().into_iter().filter(|&waiting| waiting <= ticket) {
            let (now_answered, rest) = self.waiting.iter().partition(|waiting| waiting.ticket == answered);
            self.waiting = rest;
            let now_answered: Vec<Waiting> = now_answered;
            self.answered_transaction(answered, &now_answered, status, &mut expected);
            for (_, client, outcome) in self.records.extract_if(.., |record| record.0 == answered) {
                expected.outcomes.push((client, Outcome { status, ..outcome }));
                self.flushes.iter_mut().for_each(|(.., open)| open.retain(|&open| open != outcome.token));
            }
            for channel in self.channels.iter_mut().filter(|channel| channel.made_by == answered) {
                channel.acknowledged = result.is_ok();
            }
            for Waiting { client, token, lane, position, repeats, .. } in now_answered {
                let fate = &mut self.lanes[lane as usize].messages[position as usize].1;
                let mut status = status;
                if repeats {
                    let failed = Status::Failed(Failure::Storage);
                    status = if *fate == Fate::Stored { Status::Done } else { failed };
                } else if result.is_ok() {
                    *fate = Fate::Stored;
                } else {
                    *fate = Fate::Failed;
                    self.lost(lane, position);
                }
                expected.outcomes.push((client, Outcome { token, status, lane: LaneId(lane), position }));
                self.flushes.iter_mut().for_each(|(.., open)| open.retain(|&open| open != token));
            }
            self.flushes.retain(|(client, token, open)| {
                if open.is_empty() {
                    expected.ended(*client, *token, Status::Done);
                }
                !open.is_empty()
            });
        }
        self.observe(now, expected, did)
    }

    /// `client` settled.
    pub fn settled(&mut self, now: Time, client: u32, settlements: &[Settlement], did: &Effects) -> Verdicts {
        let mut expected = Expected::default();
        self.spoke(now, client);
        if self.settled_within(client, settlements, &mut expected) {
            return self.observe(now, expected, did);
        }
        let mut moved: Vec<(u32, u32)> = Vec::new();
        for &Settlement { token, receipt, verdict } in settlements {
            let held = self.held(client, receipt.lane);
            let known = !matches!(held, Err(Refusal::Closed | Refusal::WrongRole));
            let result = match (verdict, held) {
                (Verdict::Nack { .. } | Verdict::Extend(_), _) if known => Err(Refusal::Unsupported),
                (_, Err(Refusal::NotAssigned)) => Err(Refusal::StaleReceipt),
                (_, Err(refusal)) => Err(refusal),
                (_, Ok(at)) => {
                    let cursor = self.cursors.get_mut(&at).expect("a held lane has a cursor");
                    if receipt.epoch != cursor.epoch {
                        Err(Refusal::StaleReceipt)
                    } else if receipt.position >= cursor.highest {
                        Err(Refusal::OutOfRange)
                    } else {
                        if receipt.position >= cursor.committed {
                            cursor.committed = receipt.position + 1;
                            if !moved.contains(&at) {
                                moved.push(at);
                            }
                        }
                        Ok(())
                    }
                }
            };
            let status = result.map_or_else(Status::Refused, |()| Status::Done);
            expected.placed(client, token, status, receipt.lane, receipt.position);
        }
        for (lane, group) in moved {
            let position = self.cursors[&(lane, group)].committed;
            expected.writes.push(Write::Record(Record::Committed { lane: LaneId(lane), group, position }));
        }
        self.observe(now, expected, did)
    }

    /// Time went by.
    pub fn woken(&mut self, now: Time, did: &Effects) -> Verdicts {
        self.end_sessions(now);
        self.end_overdue(now);
        let mut expected = Expected::default();
        self.scale(now, &mut expected);
        self.observe(now, expected, did)
    }

    /// The cursor of the lane that `client` holds.
    fn held(&self, client: u32, lane: LaneId) -> Result<(u32, u32), Refusal> {
        let known = self.clients.get(&client).filter(|known| known.open).ok_or(Refusal::Closed)?;
        let Role::Member { group, channels } = &known.role else { return Err(Refusal::WrongRole) };
        let at = self.lanes.get(lane.0 as usize).ok_or(Refusal::NoSuchLane)?;
        let channel = &self.channels[at.channel];
        if channel.gone {
            return Err(Refusal::NoSuchLane);
        }
        let reads = channels.contains(&ChannelId(at.channel as u32));
        let slot =
            channel.groups.iter().position(|name| name == group).filter(|_| reads).ok_or(Refusal::NotAssigned)?;
        let at = (lane.0, slot as u32);
        if self.cursors[&at].owner == Some(client) { Ok(at) } else { Err(Refusal::NotAssigned) }
    }

    /// `client` asked for one operation that is not done in bulk.
    pub fn controlled(&mut self, now: Time, client: u32, token: Token, control: &Control, did: &Effects) -> Verdicts {
        let mut expected = Expected::default();
        let open = self.clients.get(&client).is_some_and(|known| known.open);
        if *control != Control::Close {
            self.spoke(now, client);
        }
        let result = if open { self.control(now, client, token, control, &mut expected) } else { Err(Refusal::Closed) };
        if let Err(refusal) = result {
            expected.ended(client, token, Status::Refused(refusal));
        }
        self.observe(now, expected, did)
    }

    fn control(
        &mut self,
        now: Time,
        client: u32,
        token: Token,
        control: &Control,
        expected: &mut Expected,
    ) -> Result<(), Refusal> {
        let role = self.clients[&client].role.clone();
        let administers = if role == Role::Administrator { Ok(()) } else { Err(Refusal::WrongRole) };
        match control {
            Control::Grant(count) => {
                if !matches!(role, Role::Member { .. }) {
                    return Err(Refusal::WrongRole);
                }
                if *count == 0 {
                    expected.ended(client, token, Status::Done);
                } else {
                    self.clients.get_mut(&client).expect("it is open").grants.push_back((token, *count));
                }
            }
            Control::Seek { lane, to } => self.seek(client, token, *lane, *to, expected)?,
            Control::Position(lane) => {
                let at = self.held(client, *lane)?;
                let position = self.lanes[lane.0 as usize].readable(self.cursors[&at].position);
                expected.answers.push((client, token, Answer::Position { lane: *lane, position }));
            }
            Control::Flush => {
                let mut open: Vec<Token> =
                    self.waiting.iter().filter(|waiting| waiting.client == client).map(|w| w.token).collect();
                open.extend(self.commits().filter(|&(whose, ..)| whose == client).map(|(.., token)| token));
                open.extend(self.records.iter().filter(|record| record.1 == client).map(|record| record.2.token));
                if open.is_empty() {
                    expected.ended(client, token, Status::Done);
                } else {
                    self.flushes.push((client, token, open));
                }
            }
            Control::Release(lane) => {
                let at = self.held(client, *lane)?;
                let cursor = self.cursors.get_mut(&at).expect("a held lane has a cursor");
                if !cursor.revoked {
                    return Err(Refusal::Unsupported);
                }
                free(cursor);
                expected.placed(client, token, Status::Done, *lane, 0);
            }
            Control::Transaction(step) => self.transact(now, client, token, step, expected)?,
            Control::Close => self.close(client, token, expected),
            Control::Create(spec) => administers.and_then(|()| self.create(client, token, spec, expected))?,
            Control::Delete(channel) => administers.and_then(|()| self.delete(client, token, *channel, expected))?,
            Control::Describe(channel) => {
                administers?;
                self.channels.get(channel.0 as usize).filter(|c| !c.gone).ok_or(Refusal::NoSuchLane)?;
                let description = Description { lanes: self.describe(*channel), settings: Vec::new() };
                expected.answers.push((client, token, Answer::Description(description)));
            }
            Control::Split { lane, at } => {
                administers.and_then(|()| self.split(client, token, *lane, *at, expected))?;
            }
            Control::Merge { lane, with } => {
                administers.and_then(|()| self.merge(client, token, *lane, *with, expected))?;
            }
        }
        Ok(())
    }

    fn seek(
        &mut self,
        client: u32,
        token: Token,
        lane: LaneId,
        to: SeekTo,
        expected: &mut Expected,
    ) -> Result<(), Refusal> {
        let at = self.held(client, lane)?;
        if self.cursors[&at].revoked {
            return Err(Refusal::NotAssigned);
        }
        let kept = &self.lanes[lane.0 as usize];
        let (start, stable) = (kept.start, kept.stable());
        let position = match to {
            SeekTo::Earliest => start,
            SeekTo::Latest => stable,
            SeekTo::Position(position) if position < start || position > stable => return Err(Refusal::OutOfRange),
            SeekTo::Position(position) => position,
            SeekTo::Time(time) => {
                let first = kept.messages.iter().position(|&(written, _)| written >= time);
                first.map_or(stable, |first| first as u64).clamp(start, stable)
            }
        };
        self.cursors.get_mut(&at).expect("a held lane has a cursor").position = position;
        expected.placed(client, token, Status::Done, lane, position);
        Ok(())
    }

    fn close(&mut self, client: u32, token: Token, expected: &mut Expected) {
        if let Role::Member { group, .. } = self.clients[&client].role.clone()
            && !self.clients[&client].away
        {
            self.disturb(&group);
        }
        self.left(client);
        self.names.retain(|_, holder| *holder != client);
        let leaving = self.clients.get_mut(&client).expect("it is open");
        leaving.open = false;
        for (grant, _) in leaving.grants.drain(..) {
            expected.ended(client, grant, Status::Done);
        }
        for cursor in self.cursors.values_mut().filter(|cursor| cursor.owner == Some(client)) {
            free(cursor);
        }
        expected.ended(client, token, Status::Done);
    }

    fn create(
        &mut self,
        client: u32,
        token: Token,
        spec: &ChannelSpec,
        expected: &mut Expected,
    ) -> Result<(), Refusal> {
        if self.channels.iter().any(|channel| !channel.gone && channel.name == spec.name) {
            return Err(Refusal::Exists);
        }
        let long = |name: &String| name.len() > NAME_BYTES_MAX;
        let unnamed = long(&spec.name) || spec.groups.iter().any(long) || spec.groups.len() > GROUPS_MAX;
        if spec.lanes == 0 || unnamed || (self.contract.order == Order::Total && spec.lanes > 1) {
            return Err(Refusal::OutOfRange);
        }
        self.has_room(spec.lanes)?;
        let (channel, first) = (self.channels.len(), self.lanes.len() as u32);
        let (name, groups) = (spec.name.clone(), spec.groups.clone());
        self.channels.push(Channel { name, groups, gone: false, made_by: self.next_ticket, acknowledged: false });
        let ranges = HashRanges::even(spec.lanes);
        for lane in 0..spec.lanes {
            self.add_lane(Lane::new(channel, ranges.bounds(lane), Vec::new()));
        }
        let made = ChannelRecord {
            channel: ChannelId(channel as u32),
            first: LaneId(first),
            lanes: spec.lanes,
            name: spec.name.clone(),
            groups: spec.groups.clone(),
            ..ChannelRecord::default()
        };
        expected.writes.push(Write::Record(Record::Channel(Box::new(made))));
        self.wait_for_record(client, token, (LaneId(first), channel as u64), expected);
        Ok(())
    }

    /// What the administrator asked ends once its record is stored.
    fn wait_for_record(&mut self, client: u32, token: Token, (lane, position): (LaneId, u64), expected: &mut Expected) {
        expected.writes.push(Write::Barrier(self.next_ticket));
        self.records.push((self.next_ticket, client, Outcome { token, status: Status::Done, lane, position }));
        self.next_ticket += 1;
    }

    fn delete(
        &mut self,
        client: u32,
        token: Token,
        channel: ChannelId,
        expected: &mut Expected,
    ) -> Result<(), Refusal> {
        let gone = self.channels.get_mut(channel.0 as usize).filter(|c| !c.gone).ok_or(Refusal::NoSuchLane)?;
        gone.gone = true;
        for group in gone.groups.clone() {
            self.disturb(&group);
        }
        self.forget_channel(channel.0 as usize);
        expected.writes.push(Write::Record(Record::ChannelGone(channel)));
        self.wait_for_record(client, token, (LaneId(0), 0), expected);
        Ok(())
    }

    fn describe(&self, channel: ChannelId) -> Vec<LaneState> {
        let told = |lane: &Lane| !lane.closed || lane.start < lane.messages.len() as u64;
        let described = self.cursors.iter().filter(|((lane, _), _)| {
            let lane = &self.lanes[*lane as usize];
            lane.channel == channel.0 as usize && told(lane)
        });
        let state = |(&(number, group), cursor): (&(u32, u32), &Cursor)| {
            let lane = &self.lanes[number as usize];
            LaneState {
                lane: LaneId(number),
                group,
                end: lane.messages.len() as u64,
                committed: cursor.committed,
                ready: lane.count(cursor.position, lane.stable()),
                in_flight: lane.count(cursor.committed, cursor.position),
                ..LaneState::default()
            }
        };
        described.map(state).collect()
    }

    pub(crate) fn commits_first(&self) -> bool {
        self.contract.delivery == Delivery::AtMostOnce
    }
}

/// Nobody holds the lane any more; the next to hold it starts at the committed position.
fn free(cursor: &mut Cursor) {
    cursor.owner = None;
    cursor.revoked = false;
    cursor.position = cursor.committed;
}

impl Expected {
    fn ended(&mut self, client: u32, token: Token, status: Status) {
        self.placed(client, token, status, LaneId(0), 0);
    }

    fn placed(&mut self, client: u32, token: Token, status: Status, lane: LaneId, position: u64) {
        self.outcomes.push((client, Outcome { token, status, lane, position }));
    }
}
