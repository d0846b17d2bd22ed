//! A producer: messages into batches, batches into requests, answers into outcomes.
//!
//! Order is kept in each partition: sequence numbers are given when a batch is first sent, what is sent again goes before what was
//! never sent, and only after everything in flight there is answered. A lost connection costs nothing but time: batches go out
//! again, and an idempotent producer's broker drops those that had arrived. Leaves out transactions.

use std::collections::VecDeque;

use brokerlab_model::log::partitioner::partition_of;
use brokerlab_model::{
    Accepted, Batch, Blocked, Client, Completions, Control, Failure, LaneId, Outcome, Publishes, Refusal, Status, Time,
    Token, WaitOn,
};
use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};

use super::base::Base;
use super::batches::{Body, Lane, Open, Sealed};
use super::compression::{Codec, Compressor};
use super::error;
use super::kind::Kind;
use super::links::{Came, LinkId, Purpose};
use super::produce;
use super::reasons::Reasons;
use super::records::{self, Builder, Producer as Number};
use super::shared::{Channel, Shared};
use super::wire;
use crate::open::Trouble;

/// So many messages of one producer may be on their way, whatever their size.
const MESSAGES: usize = 1 << 20;
/// Buffers that are kept to be used again.
const SPARE: usize = 64;

/// What a producer keeps of one channel.
#[derive(Clone, Copy, Debug)]
struct Sticky {
    /// Where messages without a key go.
    partition: u32,
    /// What compression is expected to leave of a batch.
    ratio: f64,
    /// At this size a batch is full, before it is compressed.
    full_at: usize,
    /// The largest batch that the topic takes.
    max_batch: u32,
}

impl Sticky {
    fn new(shared: &Shared, channel: &Channel) -> Self {
        let mut sticky = Self { partition: 0, ratio: 1.0, full_at: 0, max_batch: channel.max_batch };
        sticky.expect(1.0, shared);
        sticky
    }

    /// Follows what compression left of a batch as the Java client does, slowly down and faster up. A batch may hold more than
    /// `batch.size` for it, but never more than fits in a request, or than a server takes, if it can't be compressed at all.
    fn expect(&mut self, left: f64, shared: &Shared) {
        const DOWN: f64 = 0.005;
        const UP: f64 = 0.05;
        const CAUTION: f64 = 1.05;
        self.ratio = if left > self.ratio { (self.ratio + UP).max(left) } else { (self.ratio - DOWN).max(left) };
        let caution = if shared.options.compression.0 == Codec::None { 1.0 } else { CAUTION };
        let size = shared.options.batch_size as f64 / (self.ratio * caution);
        self.full_at = (size as usize).min(self.max_batch as usize);
    }
}

/// A producer.
#[derive(Debug)]
pub(super) struct Producer {
    base: Base,
    number: u32,
    lanes: Vec<Lane>,
    sticky: Vec<Sticky>,
    /// Lanes with something to fill or send.
    active: Vec<u32>,
    /// Bytes and messages that were taken and have not ended.
    bytes: usize,
    messages: usize,
    identity: Number,
    asked_identity: bool,
    identity_after: Time,
    /// Sent under an identity that is given up.
    flushes: VecDeque<(Token, u64)>,
    closing: Option<Token>,
    close_by: Time,
    closed: bool,
    taken: u64,
    ended: u64,
    buffers: Vec<Vec<u8>>,
    tokens: Vec<Vec<Token>>,
    compressor: Option<Compressor>,
    reasons: Reasons,
    done: Vec<Outcome>,
    /// When something is to be sent or has to end.
    due: Time,
    restless: bool,
}

impl Producer {
    pub(super) fn new(shared: std::sync::Arc<Shared>, number: u32) -> std::io::Result<Self> {
        let (codec, level) = shared.options.compression;
        let compressor = (codec != Codec::None).then(|| Compressor::new(codec, level)).transpose()?;
        Ok(Self {
            base: Base::new(shared)?,
            number,
            lanes: Vec::new(),
            sticky: Vec::new(),
            active: Vec::new(),
            bytes: 0,
            messages: 0,
            identity: Number::NONE,
            asked_identity: false,
            identity_after: Time::ZERO,
            flushes: VecDeque::new(),
            closing: None,
            close_by: Time::NEVER,
            closed: false,
            taken: 0,
            ended: 0,
            buffers: Vec::new(),
            tokens: Vec::new(),
            compressor,
            reasons: Reasons::default(),
            done: Vec::new(),
            due: Time::ZERO,
            restless: true,
        })
    }

    fn refresh(&mut self) {
        if self.base.refresh() {
            let lanes = self.base.channels.last().map_or(0, |last| last.first + last.lanes) as usize;
            self.lanes.resize_with(lanes, Lane::default);
            let new = self.base.channels.iter().skip(self.sticky.len());
            self.sticky.extend(new.map(|channel| Sticky::new(&self.base.shared, channel)));
            self.restless = true;
        }
    }

    fn publish(&mut self, now: Time, batch: &mut Publishes) -> Accepted {
        let refused = if self.closed || self.closing.is_some() {
            Some(Refusal::Closed)
        } else {
            batch.is_lengths_only().then_some(Refusal::Unsupported)
        };
        if let Some(refusal) = refused {
            let taken = batch.len();
            self.done.extend(batch.iter().map(|message| ended(message.token, Status::Refused(refusal))));
            batch.advance(taken);
            return Accepted { taken, blocked: None };
        }
        self.refresh();
        let utc_ms = self.base.shared.utc_ms(now);
        let mut taken = 0;
        let all = batch.len();
        while taken < all && self.append(now, utc_ms, batch, taken) {
            taken += 1;
        }
        batch.advance(taken);
        Accepted { taken, blocked: (taken < all).then_some(Blocked::Window) }
    }

    /// Takes one message; false when the window is full.
    #[inline]
    fn append(&mut self, now: Time, utc_ms: i64, batch: &Publishes, index: usize) -> bool {
        let message = batch.get(index);
        let options = &self.base.shared.options;
        let size = message.key.len() + message.headers.len() + message.payload.len();
        let Some(channel) = self.base.channels.get(message.channel.0 as usize).filter(|channel| !channel.gone) else {
            self.done.push(ended(message.token, Status::Refused(Refusal::NoSuchLane)));
            return true;
        };
        let sticky = &mut self.sticky[message.channel.0 as usize];
        if size + records::OVERHEAD + records::PER_RECORD > sticky.max_batch as usize {
            self.done.push(ended(message.token, Status::Refused(Refusal::TooLarge)));
            return true;
        }
        let bound = Builder::bound(&message);
        if self.bytes + bound > options.buffer_memory.max(bound) && self.messages > 0 || self.messages >= MESSAGES {
            return false;
        }
        let keyed = (!message.key.is_empty()).then(|| partition_of(message.key, channel.lanes));
        let mut number = channel.first + keyed.unwrap_or(sticky.partition);
        let full_at = sticky.full_at;
        let is_full = |lane: &Lane| lane.open.as_ref().is_some_and(|open| open.builder.len() + bound > full_at);
        if is_full(&self.lanes[number as usize]) {
            self.lanes[number as usize].seal();
            self.restless = true;
            if keyed.is_none() {
                sticky.partition = (sticky.partition + 1) % channel.lanes;
                number = channel.first + sticky.partition;
                if is_full(&self.lanes[number as usize]) {
                    self.lanes[number as usize].seal();
                }
            }
        }
        let lane = &mut self.lanes[number as usize];
        if lane.open.is_none() {
            let builder = Builder::in_buffer(self.buffers.pop().unwrap_or_default());
            self.bytes += builder.len();
            lane.open = Some(Open { builder, tokens: self.tokens.pop().unwrap_or_default(), since: now });
            self.due = self.due.min(now + options.linger);
        }
        let open = lane.open.as_mut().expect("it was opened above");
        let before = open.builder.len();
        open.builder.push(&message, utc_ms);
        open.tokens.push(message.token);
        self.bytes += open.builder.len() - before;
        if open.builder.len() >= full_at {
            lane.seal();
            self.restless = true;
            if keyed.is_none() {
                sticky.partition = (sticky.partition + 1) % channel.lanes;
            }
        }
        if !lane.listed {
            lane.listed = true;
            self.active.push(number);
        }
        self.messages += 1;
        self.taken += 1;
        true
    }

    fn control(&mut self, now: Time, token: Token, control: &Control) {
        let refusal = match control {
            Control::Flush | Control::Close if self.closed || self.closing.is_some() => Refusal::Closed,
            Control::Flush => {
                self.flushes.push_back((token, self.taken));
                self.restless = true;
                return;
            }
            Control::Close => {
                self.closing = Some(token);
                self.close_by = now + self.base.shared.options.request_timeout;
                self.restless = true;
                return;
            }
            Control::Transaction(_) if !self.closed => Refusal::Unsupported,
            Control::Grant(_)
            | Control::Seek { .. }
            | Control::Position(_)
            | Control::Release(_)
            | Control::Create(_)
            | Control::Delete(_)
            | Control::Describe(_)
            | Control::Split { .. }
            | Control::Merge { .. }
            | Control::Transaction(_) => {
                if self.closed {
                    Refusal::Closed
                } else {
                    Refusal::WrongRole
                }
            }
        };
        self.done.push(ended(token, Status::Refused(refusal)));
    }

    /// Whether what is being filled is to go out without waiting for more.
    fn hurries(&self) -> bool {
        !self.flushes.is_empty() || self.closing.is_some()
    }

    /// Sends everything that is due and may be sent.
    fn drive(&mut self, now: Time) {
        self.restless = false;
        self.base.drive_metadata(now, |_| true);
        if self.base.shared.options.idempotence && self.identity == Number::NONE {
            self.ask_identity(now);
            let again = if self.asked_identity || self.active.is_empty() { Time::NEVER } else { self.identity_after };
            self.due = self.expire(now).min(again);
            return;
        }
        let mut due = Time::NEVER;
        if !self.active.is_empty() {
            due = self.send_batches(now);
        }
        self.due = due;
    }

    fn ask_identity(&mut self, now: Time) {
        if self.asked_identity || self.active.is_empty() || self.identity_after > now {
            return;
        }
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        if let Some(id) = self.base.links.any(now) {
            self.asked_identity = self.base.links.ask(now, id, &request, Kind::InitProducer);
        }
    }

    /// Ends what waited too long; returns when the next of it will have.
    fn expire(&mut self, now: Time) -> Time {
        let timeout = self.base.shared.options.delivery_timeout;
        let mut due = Time::NEVER;
        let mut expired: Vec<(u32, Sealed)> = Vec::new();
        for &number in &self.active {
            let lane = &mut self.lanes[number as usize];
            if lane.open.as_ref().is_some_and(|open| open.since + timeout <= now) {
                lane.seal();
            }
            let over = lane.ready.iter().take_while(|batch| batch.since + timeout <= now).count();
            expired.extend(lane.ready.drain(..over).map(|batch| (number, batch)));
            let first = lane.ready.front().map(|batch| batch.since);
            let first = first.or_else(|| lane.open.as_ref().map(|open| open.since));
            due = due.min(first.map_or(Time::NEVER, |since| since + timeout));
        }
        for (number, batch) in expired {
            let sent = matches!(batch.body, Body::Sent { .. });
            let status = if sent { Status::Unknown } else { Status::Failed(Failure::Timeout) };
            self.end(number, batch, status, None);
            if sent {
                self.give_up_identity();
            }
        }
        due
    }

    /// One round over the lanes that have something; returns when the next one is due.
    fn send_batches(&mut self, now: Time) -> Time {
        let mut due = self.expire(now);
        let hurries = self.hurries();
        let mut blocked: Vec<i32> = Vec::new();
        loop {
            // One request takes at most one batch of each lane of one leader.
            let mut target: Option<LinkId> = None;
            let mut batches: Vec<(u32, Sealed)> = Vec::new();
            let mut room = self.base.shared.options.max_request_size;
            for at in 0..self.active.len() {
                let number = self.active[at];
                if let Err(later) = self.sendable(now, number, hurries) {
                    due = due.min(later);
                    continue;
                }
                let leader = self.base.leader(number);
                if blocked.contains(&leader) || target.is_some_and(|target| target.node != leader) {
                    continue;
                }
                let Some(link) = self.base.link_to(now, number, Purpose::Usual) else {
                    self.base.doubt_if_unled(number);
                    continue;
                };
                if self.base.links.in_flight(link) >= self.base.shared.options.in_flight {
                    blocked.push(leader);
                    continue;
                }
                let lane = &mut self.lanes[number as usize];
                if lane.ready.is_empty() {
                    lane.seal();
                    self.next_sticky(number);
                }
                let lane = &mut self.lanes[number as usize];
                let bytes = lane.ready.front().map_or(0, |batch| batch.bytes);
                if bytes > room && !batches.is_empty() {
                    continue;
                }
                room = room.saturating_sub(bytes);
                if let Some(batch) = lane.ready.pop_front() {
                    lane.flying += 1;
                    target = Some(link);
                    batches.push((number, batch));
                }
            }
            let Some(link) = target else { break };
            self.send(now, link, batches);
        }
        let lanes = &mut self.lanes;
        self.active.retain(|&number| {
            let lane = &mut lanes[number as usize];
            lane.listed = !lane.is_empty();
            lane.listed
        });
        due
    }

    /// A batch without keys was closed before it was full: the next one goes to the next partition.
    fn next_sticky(&mut self, number: u32) {
        if let Some(channel) = self.base.channel_of(LaneId(number)) {
            let sticky = &mut self.sticky[channel.id.0 as usize];
            if channel.first + sticky.partition == number {
                sticky.partition = (sticky.partition + 1) % channel.lanes;
            }
        }
    }

    /// Whether a lane has something to send now, or when it will have.
    fn sendable(&self, now: Time, number: u32, hurries: bool) -> Result<(), Time> {
        let lane = &self.lanes[number as usize];
        if lane.held && lane.flying > 0 {
            return Err(Time::NEVER);
        }
        if lane.not_before > now {
            return Err(lane.not_before);
        }
        if !lane.ready.is_empty() || hurries && lane.open.is_some() {
            return Ok(());
        }
        let since = lane.open.as_ref().map(|open| open.since + self.base.shared.options.linger);
        match since {
            Some(due) if due <= now => Ok(()),
            Some(due) => Err(due),
            None => Err(Time::NEVER),
        }
    }

    fn send(&mut self, now: Time, link: LinkId, mut batches: Vec<(u32, Sealed)>) {
        batches.sort_unstable_by_key(|(number, _)| *number);
        for (number, batch) in &mut batches {
            let lane = &mut self.lanes[*number as usize];
            lane.held = false;
            let body = std::mem::replace(&mut batch.body, Body::Fresh(Builder::default()));
            batch.body = match body {
                Body::Fresh(mut builder) => {
                    if let Some(compressor) = &mut self.compressor {
                        let (free, left) = builder.compress(compressor, self.buffers.pop().unwrap_or_default());
                        self.buffers.push(free);
                        if let Some(channel) = self.base.channel_of(LaneId(*number)) {
                            self.sticky[channel.id.0 as usize].expect(left, &self.base.shared);
                        }
                    }
                    let (producer, count) = (self.identity, builder.count());
                    let sequence = if producer == Number::NONE { -1 } else { lane.sequence };
                    // The number after the largest is 0, as with all of Kafka's clients.
                    lane.sequence = (i64::from(lane.sequence) + i64::from(count)).rem_euclid(1 << 31) as i32;
                    Body::Sent { bytes: builder.finish(producer, sequence), producer, sequence }
                }
                sent @ Body::Sent { .. } => sent,
            };
        }
        let options = &self.base.shared.options;
        let timeout = options.request_timeout;
        let correlation = self.base.links.next_correlation();
        let pieces = produce::request(&self.base, correlation, &options.client_id, options.acks, timeout, &batches);
        self.base.links.ask_pieces(now, link, correlation, pieces, timeout, Kind::Produce(batches));
    }

    fn came(&mut self, now: Time, came: Came) {
        match came {
            Came::Answer(Kind::Metadata, frame) => {
                if self.base.metadata(now, &frame).is_err() {
                    self.base.doubt_leaders();
                }
            }
            Came::Lost { kind: Kind::Metadata, .. } => self.base.metadata_lost(now),
            Came::Answer(Kind::InitProducer, frame) => self.identified(now, &frame),
            Came::Lost { kind: Kind::InitProducer, .. } => self.asked_identity = false,
            Came::Answer(Kind::Produce(batches), frame) => self.produced(now, batches, &frame),
            Came::Lost { kind: Kind::Produce(batches), .. } => {
                self.base.doubt_leaders();
                for (number, batch) in batches {
                    self.retry(now, number, batch);
                }
            }
            // No other question is a producer's.
            Came::Answer(..) | Came::Lost { .. } => {}
        }
        self.restless = true;
    }

    fn identified(&mut self, now: Time, frame: &Bytes) {
        self.asked_identity = false;
        self.identity_after = now + self.base.shared.options.retry_backoff;
        let Ok(answer) = wire::answer::<InitProducerIdRequest>(frame) else { return };
        if answer.error_code == error::NONE {
            self.identity = Number { id: answer.producer_id.0, epoch: answer.producer_epoch };
        } else {
            let code = error::name(answer.error_code);
            self.reasons.note(format!("an idempotent producer can't begin: the broker answered {code}"));
        }
    }

    fn produced(&mut self, now: Time, batches: Vec<(u32, Sealed)>, frame: &Bytes) {
        let answers = produce::answer(frame, &self.base, &batches).unwrap_or_default();
        for ((number, batch), at) in batches.into_iter().zip(0..) {
            // A batch that the answer leaves out was not understood: it may have happened.
            let Some(&(code, offset)) = answers.get(at).and_then(Option::as_ref) else {
                self.landed(number);
                self.end(number, batch, Status::Unknown, None);
                self.give_up_identity();
                continue;
            };
            if code != error::NONE {
                self.note_reason(number, code);
            }
            match code {
                error::NONE => {
                    self.landed(number);
                    self.end(number, batch, Status::Done, Some(offset));
                }
                error::DUPLICATE_SEQUENCE => {
                    self.landed(number);
                    self.end(number, batch, Status::Done, (offset < 1 << 62).then_some(offset));
                }
                error::MESSAGE_TOO_LARGE | error::RECORD_LIST_TOO_LARGE => {
                    self.refuse(number, batch, Refusal::TooLarge);
                }
                error::TOPIC_AUTHORIZATION_FAILED | error::CLUSTER_AUTHORIZATION_FAILED => {
                    self.refuse(number, batch, Refusal::WrongRole);
                }
                error::UNKNOWN_TOPIC if self.is_gone(number) => self.refuse(number, batch, Refusal::NoSuchLane),
                error::OUT_OF_ORDER_SEQUENCE if self.lanes[number as usize].held => self.retry(now, number, batch),
                error::OUT_OF_ORDER_SEQUENCE | error::INVALID_PRODUCER_EPOCH | error::UNKNOWN_PRODUCER_ID => {
                    self.landed(number);
                    self.end(number, batch, Status::Failed(Failure::Storage), None);
                    self.give_up_identity();
                }
                retriable if error::is_retriable(retriable) => {
                    self.base.doubt_leaders();
                    self.retry(now, number, batch);
                }
                _other => {
                    self.landed(number);
                    self.end(number, batch, Status::Failed(Failure::Storage), None);
                    self.give_up_identity();
                }
            }
        }
    }

    fn note_reason(&mut self, number: u32, code: i16) {
        let Some(channel) = self.base.channel_of(LaneId(number)) else { return };
        let topic = &channel.topic;
        self.reasons.note(match code {
            error::TOPIC_AUTHORIZATION_FAILED | error::CLUSTER_AUTHORIZATION_FAILED => {
                Trouble::Permission(format!("publishing to topic {topic}")).to_string()
            }
            other => format!("publishing to topic {topic}: the broker answered {}", error::name(other)),
        });
    }

    fn is_gone(&self, number: u32) -> bool {
        self.base.shared.version();
        let channels = self.base.shared.channels();
        self.base.channel_of(LaneId(number)).is_none_or(|channel| channels[channel.id.0 as usize].gone)
    }

    fn landed(&mut self, number: u32) {
        self.lanes[number as usize].flying -= 1;
    }

    /// A batch that the broker will not have: the sequence has a gap then, which only a new identity closes.
    fn refuse(&mut self, number: u32, batch: Sealed, refusal: Refusal) {
        self.landed(number);
        self.end(number, batch, Status::Refused(refusal), None);
        self.give_up_identity();
    }

    fn retry(&mut self, now: Time, number: u32, batch: Sealed) {
        let backoff = self.base.shared.options.retry_backoff;
        let stale = matches!(batch.body, Body::Sent { producer, .. } if producer != self.identity);
        let lane = &mut self.lanes[number as usize];
        lane.flying -= 1;
        if stale {
            return self.end(number, batch, Status::Unknown, None);
        }
        lane.held = true;
        lane.not_before = now + backoff;
        lane.put_back(batch);
        if !lane.listed {
            lane.listed = true;
            self.active.push(number);
        }
    }

    /// The broker no longer follows the sequence numbers: everything that was sent under them and is not answered may have happened
    /// or not, and what was never sent goes out under a new identity.
    fn give_up_identity(&mut self) {
        if self.identity == Number::NONE {
            return;
        }
        self.identity = Number::NONE;
        for number in 0..self.lanes.len() {
            let lane = &mut self.lanes[number];
            lane.sequence = 0;
            let ready = std::mem::take(&mut lane.ready);
            for batch in ready {
                match batch.body {
                    Body::Fresh(_) => self.lanes[number].ready.push_back(batch),
                    Body::Sent { .. } => self.end(number as u32, batch, Status::Unknown, None),
                }
            }
        }
    }

    /// A batch's messages end.
    fn end(&mut self, number: u32, batch: Sealed, status: Status, offset: Option<u64>) {
        let lane = LaneId(number);
        self.bytes -= batch.bytes;
        self.messages -= batch.tokens.len();
        self.ended += batch.tokens.len() as u64;
        let base = offset.unwrap_or(0);
        let outcomes = batch.tokens.iter().zip(base..);
        self.done.extend(outcomes.map(|(&token, position)| Outcome { token, status, lane, position }));
        if self.tokens.len() < SPARE {
            let mut tokens = batch.tokens;
            tokens.clear();
            self.tokens.push(tokens);
        }
        if let Body::Sent { mut bytes, .. } = batch.body
            && self.buffers.len() < SPARE
            && bytes.is_unique()
        {
            bytes.clear();
            self.buffers.push(Vec::from(bytes));
        }
    }

    /// A producer that leaves and can't reach its broker, or waits too long, ends what is left.
    fn abandon(&mut self) {
        for number in 0..self.lanes.len() {
            self.lanes[number].seal();
            for batch in std::mem::take(&mut self.lanes[number].ready) {
                let status = match batch.body {
                    Body::Fresh(_) => Status::Failed(Failure::Disconnected),
                    Body::Sent { .. } => Status::Unknown,
                };
                self.end(number as u32, batch, status, None);
            }
        }
    }

    fn finish(&mut self, now: Time) {
        while let Some(&(token, upto)) = self.flushes.front()
            && self.ended >= upto
        {
            self.flushes.pop_front();
            self.done.push(ended(token, Status::Done));
        }
        if self.closing.is_some() && self.messages > 0 && (self.base.links.is_broken() || now >= self.close_by) {
            self.abandon();
        }
        if self.messages == 0
            && let Some(token) = self.closing.take()
        {
            self.done.push(ended(token, Status::Done));
            self.closed = true;
            self.base.shared.free_number(self.number);
        }
    }

    /// Handles what came and sends what may be sent, until nothing more follows.
    fn go_on(&mut self, now: Time) {
        self.base.looks(now);
        if self.restless || self.due <= now || self.base.metadata_due() <= now {
            self.drive(now);
        }
        let mut came = std::mem::take(&mut self.base.came);
        self.base.links.flush(now, &mut came);
        self.base.came = came;
    }
}

impl Client for Producer {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let accepted = match batch {
            Batch::Publish(publishes) => self.publish(now, publishes),
            Batch::Settle(settlements) => {
                let refusal = if self.closed { Refusal::Closed } else { Refusal::WrongRole };
                let refused =
                    |settlement: &brokerlab_model::Settlement| ended(settlement.token, Status::Refused(refusal));
                self.done.extend(settlements.iter().map(refused));
                let taken = settlements.len();
                settlements.clear();
                Accepted { taken, blocked: None }
            }
            Batch::Control(controls) => {
                let taken = controls.len();
                for (token, control) in controls.drain(..) {
                    self.control(now, token, &control);
                }
                Accepted { taken, blocked: None }
            }
        };
        self.go_on(now);
        accepted
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        self.refresh();
        let mut came = std::mem::take(&mut self.base.came);
        self.base.links.poll(now, &mut came);
        while !came.is_empty() {
            for one in came.drain(..) {
                self.came(now, one);
            }
            self.base.came = came;
            self.go_on(now);
            came = std::mem::take(&mut self.base.came);
        }
        self.base.came = came;
        self.go_on(now);
        self.base.links.events(&mut completions.events);
        self.finish(now);
        completions.outcomes.append(&mut self.done);
    }

    fn next_deadline(&self) -> Option<Time> {
        if !self.done.is_empty() || !self.base.came.is_empty() || self.restless && !self.closed {
            return Some(Time::ZERO);
        }
        if self.closing.is_some() && self.messages == 0 || self.flushes.front().is_some_and(|f| f.1 <= self.ended) {
            return Some(Time::ZERO);
        }
        let close = if self.closing.is_some() { self.close_by } else { Time::NEVER };
        self.base.look_again(self.due.min(close).min(self.base.metadata_due()))
    }

    fn reasons(&self) -> Vec<String> {
        self.reasons.texts()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        self.base.links.wait_on()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.base.shared.free_number(self.number);
    }
}

/// An outcome without a place.
pub(super) fn ended(token: Token, status: Status) -> Outcome {
    Outcome { token, status, lane: LaneId(0), position: 0 }
}

const _: () = assert!(records::OVERHEAD < 1 << 14, "a batch's own bytes are few");
