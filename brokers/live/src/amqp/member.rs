//! A member's books: its consumers and their prefetch, its credit, what it holds, and the arena that messages are read into.
//!
//! RabbitMQ bounds what a consumer holds unacknowledged, and nothing else. Here a consumer's prefetch follows the credit that the
//! member has: together the consumers of a member may hold what was granted, split evenly, and a queue that has used up its part
//! while credit is left gets a consumer with more. What comes beyond the credit all the same is held back here until it is granted.
//! With one active consumer or automatic acknowledgement the prefetch is fixed, for changing it would hand the queue to another
//! member, or means nothing. Leaves out the socket and settling, which is in `settle`.

use std::collections::VecDeque;

use brokerlab_model::credit::Credit;
use brokerlab_model::{ChannelId, Completions, LaneId, Outcome, Receipt, Slice, Span, Status, Time, Token};
use bytes::Bytes;

use super::codec::{Malformed, Properties};
use super::method::{basic_cancel, basic_consume, basic_qos};
use super::topology::Topology;

/// How long a queue must have used up its part, with credit left, before it gets more.
const STARVED: Span = Span::from_millis(10);
/// How long a queue whose consumer the server ended is left alone.
const ENDED: Span = Span::from_secs(1);
/// Prefetch where it does not follow the credit.
const FIXED: u16 = 500;
/// After so many consumers on one queue the next one's part covers what is held already too, so that changing comes to an end.
const EXACT_TIMES: u32 = 3;
/// With automatic acknowledgement nothing bounds what the server sends but this: reading stops while more is held back.
const HELD_MAX: usize = 16 << 20;

/// How a member consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) auto_ack: bool,
    pub(super) single_active: bool,
    /// The most that one consumer may hold.
    pub(super) prefetch: Option<u16>,
}

/// One queue that a member reads.
#[derive(Clone, Debug)]
struct Consumer {
    channel: ChannelId,
    lane: LaneId,
    queue: String,
    /// Counts the consumers that were started on it, over all connections; it is part of the tag.
    generation: u32,
    on: bool,
    prefetch: u32,
    /// Unacknowledged messages of this generation, and of all.
    held: u32,
    held_all: u32,
    exact: u32,
    /// When it may be tried again after the server ended it.
    retry: Time,
}

impl Consumer {
    /// How much the server may still send.
    fn room(&self) -> u32 {
        if self.on { self.prefetch.saturating_sub(self.held) } else { 0 }
    }
}

/// A delivery that is not settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    consumer: u32,
    generation: u32,
    pub(super) state: State,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It came beyond the credit.
    HeldBack,
    /// The host has it.
    Given,
    /// It is over.
    Settled,
}

/// A message that is being read, or was read, with where it stands in the arena.
#[derive(Clone, Copy, Debug)]
struct Row {
    tag: u64,
    consumer: u32,
    redeliveries: u16,
    slice: Slice,
}

/// A message whose body has not come as a whole.
#[derive(Clone, Copy, Debug)]
struct Partial {
    row: Row,
    missing: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Member {
    group: String,
    channels: Vec<ChannelId>,
    manner: Manner,
    consumers: Vec<Consumer>,
    pub(super) credit: Credit,
    /// This connection's number in every receipt.
    pub(super) epoch: u32,
    /// By delivery tag; the first is `first`.
    entries: VecDeque<Entry>,
    first: u64,
    /// With automatic acknowledgement: the highest tag that was given to the host.
    pub(super) given: u64,
    held_back: VecDeque<(Row, Bytes)>,
    held_bytes: usize,
    arena: Vec<u8>,
    rows: Vec<Row>,
    /// A delivery whose header has not come.
    announced: Option<(u64, u32, bool)>,
    partial: Option<Partial>,
    /// Whose turn it is first when credit is split unevenly.
    turn: usize,
    /// Since when a queue has used up its part with credit left.
    starved: Option<Time>,
}

impl Member {
    pub(super) fn new(group: String, channels: Vec<ChannelId>, manner: Manner) -> Self {
        Self {
            group,
            channels,
            manner,
            consumers: Vec::new(),
            credit: Credit::default(),
            epoch: 0,
            entries: VecDeque::new(),
            first: 1,
            given: 0,
            held_back: VecDeque::new(),
            held_bytes: 0,
            arena: Vec::new(),
            rows: Vec::new(),
            announced: None,
            partial: None,
            turn: 0,
            starved: None,
        }
    }

    pub(super) fn manner(&self) -> Manner {
        self.manner
    }

    /// Takes up queues of its channels that it does not read yet, and forgets those that are gone.
    pub(super) fn bind(&mut self, topology: &Topology) {
        let gone = |consumer: &Consumer| topology.get(consumer.channel).is_none();
        for consumer in self.consumers.iter_mut().filter(|consumer| gone(consumer)) {
            consumer.on = false;
            consumer.retry = Time::NEVER;
        }
        for &id in &self.channels {
            let Some(channel) = topology.get(id).filter(|_| !self.consumers.iter().any(|c| c.channel == id)) else {
                continue;
            };
            let groups = channel.groups.len();
            let Some(place) = channel.groups.iter().position(|group| *group == self.group) else { continue };
            for lane in 0..channel.lanes {
                self.consumers.push(Consumer {
                    channel: id,
                    lane: LaneId(channel.first_lane + lane),
                    queue: channel.queues[lane as usize * groups + place].clone(),
                    generation: 0,
                    on: false,
                    prefetch: 0,
                    held: 0,
                    held_all: 0,
                    exact: 0,
                    retry: Time::ZERO,
                });
            }
        }
    }

    /// Starts afresh on a new connection.
    pub(super) fn connected(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.entries.clear();
        self.first = 1;
        self.given = 0;
        for consumer in &mut self.consumers {
            (consumer.on, consumer.held, consumer.held_all, consumer.exact) = (false, 0, 0, 0);
        }
    }

    /// Forgets what was held back: the server delivers it again.
    pub(super) fn disconnected(&mut self) {
        self.entries.clear();
        self.held_back.clear();
        self.held_bytes = 0;
        self.arena.clear();
        self.rows.clear();
        (self.announced, self.partial, self.starved) = (None, None, None);
    }

    /// Lets go what it may not hand on any more; the server has it as long as it is not settled.
    pub(super) fn let_go(&mut self) {
        self.held_back.clear();
        self.held_bytes = 0;
        self.rows.clear();
        if self.partial.is_none() {
            self.arena.clear();
        }
    }

    /// Ends the open grants.
    pub(super) fn end_grants(&mut self, status: Status, out: &mut Completions) {
        let end = |token: Token| out.outcomes.push(Outcome { token, status, lane: LaneId(0), position: 0 });
        self.credit.end(end);
    }

    /// Begins a delivery.
    pub(super) fn announce(&mut self, tag: &[u8], delivery: u64, redelivered: bool) -> Result<(), Malformed> {
        let (consumer, generation) = read_tag(tag).ok_or(Malformed::Short)?;
        let of = self.consumers.get_mut(consumer as usize).ok_or(Malformed::Short)?;
        if !self.manner.auto_ack {
            of.held_all += 1;
            if of.generation == generation {
                of.held += 1;
            }
            if delivery != self.first + self.entries.len() as u64 {
                return Err(Malformed::Short);
            }
            self.entries.push_back(Entry { consumer, generation, state: State::HeldBack });
        }
        self.announced = Some((delivery, consumer, redelivered));
        Ok(())
    }

    /// Reads a delivery's header.
    pub(super) fn header(&mut self, body: u64, properties: &[u8]) -> Result<(), Malformed> {
        let (tag, consumer, redelivered) = self.announced.take().ok_or(Malformed::Short)?;
        let read = Properties::read(properties)?;
        let too_long = |_| Malformed::Length(usize::MAX);
        let slice = Slice {
            at: u32::try_from(self.arena.len()).map_err(too_long)?,
            key_len: u16::try_from(read.key.len()).map_err(too_long)?,
            header_len: u16::try_from(read.headers.len()).map_err(too_long)?,
            payload_len: u32::try_from(body).map_err(too_long)?,
            has_payload: true,
        };
        self.arena.extend_from_slice(read.key);
        self.arena.extend_from_slice(read.headers);
        let count = u16::try_from(read.delivery_count).unwrap_or(u16::MAX).max(u16::from(redelivered));
        let row = Row { tag, consumer, redeliveries: count, slice };
        if body == 0 {
            self.rows.push(row);
        } else {
            self.partial = Some(Partial { row, missing: body });
        }
        Ok(())
    }

    /// Reads a part of a delivery's body.
    pub(super) fn body(&mut self, part: &[u8]) -> Result<(), Malformed> {
        let partial = self.partial.as_mut().ok_or(Malformed::Short)?;
        partial.missing = partial.missing.checked_sub(part.len() as u64).ok_or(Malformed::Short)?;
        self.arena.extend_from_slice(part);
        if partial.missing == 0 {
            self.rows.push(partial.row);
            self.partial = None;
        }
        Ok(())
    }

    /// Hands on what was read as far as credit goes, and holds back the rest.
    pub(super) fn hand_on(&mut self, out: &mut Completions) {
        if self.rows.is_empty() {
            return;
        }
        let next = Vec::with_capacity(self.arena.capacity().min(1 << 20));
        let mut arena = std::mem::replace(&mut self.arena, next);
        if let Some(partial) = &mut self.partial {
            // The message that goes on in the next read begins the next arena.
            self.arena.extend_from_slice(&arena[partial.row.slice.at as usize..]);
            arena.truncate(partial.row.slice.at as usize);
            partial.row.slice.at = 0;
        }
        let arena = Bytes::from(arena);
        let rows = std::mem::take(&mut self.rows);
        let credit = if self.held_back.is_empty() { self.credit.available() } else { 0 };
        let (now, later) = rows.split_at(rows.len().min(usize::try_from(credit).unwrap_or(usize::MAX)));
        for row in now {
            self.give(row, &arena, out);
        }
        self.held_back.extend(later.iter().map(|row| (*row, arena.clone())));
        self.held_bytes += later.iter().map(|row| row.slice.payload_len as usize).sum::<usize>();
        self.take_credit(now.len() as u64, out);
        self.rows = rows;
        self.rows.clear();
    }

    /// Hands on what was held back, as far as credit goes now.
    pub(super) fn hand_on_held(&mut self, out: &mut Completions) {
        let mut count = 0;
        while count < self.credit.available()
            && let Some((row, arena)) = self.held_back.pop_front()
        {
            self.held_bytes -= row.slice.payload_len as usize;
            self.give(&row, &arena, out);
            count += 1;
        }
        self.take_credit(count, out);
    }

    fn give(&mut self, row: &Row, arena: &Bytes, out: &mut Completions) {
        let of = &self.consumers[row.consumer as usize];
        let receipt = Receipt { lane: of.lane, position: row.tag, epoch: self.epoch };
        out.deliveries.push(receipt, of.channel, row.redeliveries, arena, row.slice);
        if self.manner.auto_ack {
            self.given = self.given.max(row.tag);
        } else if let Some(entry) = self.entry_mut(row.tag) {
            entry.state = State::Given;
        }
    }

    fn take_credit(&mut self, count: u64, out: &mut Completions) {
        let end = |token| out.outcomes.push(Outcome { token, status: Status::Done, lane: LaneId(0), position: 0 });
        self.credit.take(count, end);
    }

    fn entry_mut(&mut self, tag: u64) -> Option<&mut Entry> {
        let at = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(at)
    }

    /// The lane of a delivery that the host has and has not settled.
    pub(super) fn lane_given(&self, tag: u64) -> Option<LaneId> {
        let at = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get(at).filter(|entry| entry.state == State::Given)?;
        Some(self.consumers[entry.consumer as usize].lane)
    }

    /// Whether it reads this lane.
    pub(super) fn reads(&self, lane: LaneId) -> bool {
        self.consumers.iter().any(|consumer| consumer.lane == lane)
    }

    /// Notes that a delivery is settled.
    pub(super) fn settled(&mut self, tag: u64) {
        let Some(entry) = self.entry_mut(tag) else { return };
        entry.state = State::Settled;
        let (consumer, generation) = (entry.consumer, entry.generation);
        let of = &mut self.consumers[consumer as usize];
        of.held_all -= 1;
        if of.generation == generation {
            of.held -= 1;
        }
    }

    /// Forgets what is settled from the front on.
    pub(super) fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.state == State::Settled) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The oldest delivery tag that is not settled, or the next one.
    pub(super) fn first_open(&self) -> u64 {
        self.first + self.entries.iter().take_while(|entry| entry.state == State::Settled).count() as u64
    }

    /// Whether more is held back than is good: nothing more is read then.
    pub(super) fn is_full(&self) -> bool {
        self.held_bytes > HELD_MAX
    }

    /// Notes that the server has ended a consumer.
    pub(super) fn cancelled(&mut self, now: Time, tag: &[u8]) {
        let Some((consumer, generation)) = read_tag(tag) else { return };
        if let Some(of) = self.consumers.get_mut(consumer as usize).filter(|of| of.generation == generation) {
            of.on = false;
            of.retry = of.retry.max(now + ENDED);
        }
    }

    /// Starts consumers as credit and queues need it.
    pub(super) fn plan(&mut self, now: Time, out: &mut Vec<u8>) {
        let credit = self.credit.available().saturating_sub(self.held_back.len() as u64);
        let credit = u32::try_from(credit).unwrap_or(u32::MAX);
        self.starved = self.starved.filter(|_| credit > 0);
        let startable = |consumer: &Consumer| !consumer.on && consumer.retry <= now;
        if credit == 0 || self.consumers.is_empty() {
            return;
        }
        if self.manner.auto_ack || self.manner.single_active {
            for at in 0..self.consumers.len() {
                if startable(&self.consumers[at]) {
                    self.start(at, u32::from(self.manner.prefetch.unwrap_or(FIXED)), out);
                }
            }
            return;
        }
        let room: u64 = self.consumers.iter().map(|consumer| u64::from(consumer.room())).sum();
        if room < u64::from(credit) || self.consumers.iter().any(startable) {
            self.spread(now, credit, out);
        }
        self.feed_starved(now, credit, out);
    }

    /// Splits the credit over all queues, and starts a consumer where the room is less than its part.
    fn spread(&mut self, now: Time, credit: u32, out: &mut Vec<u8>) {
        let count = self.consumers.len() as u32;
        let (part, rest) = (credit / count, credit % count);
        for n in 0..count {
            let at = (self.turn + n as usize) % count as usize;
            let part = (part + u32::from(n < rest)).max(1);
            let of = &self.consumers[at];
            if of.room() < part && of.retry <= now {
                let covering = if of.exact < EXACT_TIMES { part } else { of.held_all.saturating_add(part) };
                self.start(at, covering, out);
            }
        }
        self.turn = (self.turn + rest as usize) % count as usize;
    }

    /// Gives more to queues that have used up their part for a while, though credit is left.
    fn feed_starved(&mut self, now: Time, credit: u32, out: &mut Vec<u8>) {
        let limit = self.manner.prefetch.map_or(u32::MAX, u32::from);
        let is_starved = |of: &Consumer| of.on && of.room() == 0 && of.held < limit;
        let count = self.consumers.iter().filter(|of| is_starved(of)).count() as u32;
        if count == 0 {
            self.starved = None;
            return;
        }
        let since = *self.starved.get_or_insert(now);
        if now < since + STARVED {
            return;
        }
        self.starved = None;
        let part = (credit / count).max(1);
        for at in 0..self.consumers.len() {
            if is_starved(&self.consumers[at]) {
                let of = &self.consumers[at];
                let covering = if of.exact < EXACT_TIMES { part } else { of.held_all.saturating_add(part) };
                self.start(at, covering, out);
            }
        }
    }

    fn start(&mut self, at: usize, prefetch: u32, out: &mut Vec<u8>) {
        let limit = self.manner.prefetch.map_or(u32::from(u16::MAX), u32::from);
        let prefetch = prefetch.min(limit);
        let of = &mut self.consumers[at];
        if of.on && of.prefetch >= limit {
            return;
        }
        if of.on {
            basic_cancel(out, &tag(at, of.generation));
        }
        of.generation += 1;
        of.exact += 1;
        (of.on, of.prefetch, of.held) = (true, prefetch, 0);
        basic_qos(out, prefetch as u16);
        basic_consume(out, &of.queue, &tag(at, of.generation), self.manner.auto_ack);
    }

    /// When [`plan`](Self::plan) wants to be called at the latest.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        if self.credit.is_empty() {
            return None;
        }
        let retry = self.consumers.iter().filter(|of| !of.on && of.retry < Time::NEVER).map(|of| of.retry).min();
        retry.into_iter().chain(self.starved.map(|since| since + STARVED)).min()
    }
}

fn tag(consumer: usize, generation: u32) -> String {
    format!("{consumer}.{generation}")
}

fn read_tag(tag: &[u8]) -> Option<(u32, u32)> {
    let (consumer, generation) = std::str::from_utf8(tag).ok()?.split_once('.')?;
    Some((consumer.parse().ok()?, generation.parse().ok()?))
}
