//! Publishing: messages take their positions, one barrier a call, and are ready when it is stored.
//!
//! Leaves out the bytes, which the host of the effects appends.

use std::collections::VecDeque;
use std::ops::Range;

use crate::batch::{Accepted, Blocked, Keys, LaneId, Message, Publishes, Token};
use crate::completion::{Failure, Outcome, Refusal, Status};
use crate::contract::Order;
use crate::headers::{Headers, names};
use crate::machine::{Effects, Write};
use crate::queue::QueueModel;
use crate::queue::backlog::Told;
use crate::queue::clients::Part;
use crate::queue::dispatch::done;
use crate::queue::options::Overflow;
use crate::queue::said::Said;
use crate::routing::{choose, key_hash};
use crate::slots::NOBODY;
use crate::time::Time;

/// What stands before one barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// This many messages of the pending ones.
    Messages(u32),
    /// This many dead letters among them, which are nobody's.
    Letters(u32),
    /// A record of the administrator's; its outcome.
    Record(Outcome),
}

/// One barrier that is not stored yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unstored {
    ticket: u64,
    client: u32,
    work: Work,
}

/// In place of a lane: the message repeats one that is there.
const REPEAT: u32 = u32::MAX;

/// What becomes of a message that is published.
enum Admitted {
    /// It goes to this lane.
    New(u32, Option<Said>),
    /// It repeats the one at this place.
    Repeat(u32, u64),
}

/// Everything that waits to be stored, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    barriers: VecDeque<Unstored>,
    /// Token and lane of each message; its position is its lane's next to be stored. [`REPEAT`] stands for one that is not stored.
    messages: VecDeque<(Token, u32)>,
    /// Of the repeats among them: where the first is, and whether it was lost.
    repeats: VecDeque<(u32, u64, bool)>,
    /// Of those that say something: where they are, when they came, and what they say.
    said: VecDeque<(u32, u64, Time, Said)>,
    next_ticket: u64,
}

impl Pending {
    fn barrier(&mut self, client: u32, work: Work, out: &mut Effects) {
        out.writes.push(Write::Barrier(self.next_ticket));
        self.barriers.push_back(Unstored { ticket: self.next_ticket, client, work });
        self.next_ticket += 1;
    }

    /// A dead letter is written.
    pub(super) fn letter(&mut self, now: Time, lane: u32, position: u64, said: Option<Said>) {
        self.messages.push_back((Token(0), lane));
        if let Some(said) = said {
            self.said.push_back((lane, position, now, said));
        }
    }

    /// So many dead letters are to be stored.
    pub(super) fn letters_end(&mut self, count: u32, out: &mut Effects) {
        self.barrier(NOBODY, Work::Letters(count), out);
    }
}

impl QueueModel {
    pub(super) fn publish_all(&mut self, now: Time, client: u32, batch: &Publishes, out: &mut Effects) -> Accepted {
        let refusal = match self.clients.slot(client) {
            Some(slot) if self.clients.get(slot).closing => Some(Refusal::Closed),
            Some(slot) => (self.clients.get(slot).part != Part::Producer).then_some(Refusal::WrongRole),
            None => Some(Refusal::Closed),
        };
        if let Some(refusal) = refusal {
            for message in batch.iter() {
                out.outcomes.push((client, refused(message.token, refusal)));
            }
            return Accepted { taken: batch.len(), blocked: None };
        }
        let slot = self.clients.slot(client).unwrap_or_default();
        let room = u64::from(self.options.window).saturating_sub(self.clients.get(slot).unstored());
        let (mut taken, mut stored) = (0, 0u32);
        let plain = self.takes_runs() && !batch.has_headers_from(batch.len(), 1);
        while taken < batch.len() && u64::from(stored) < room {
            let upto = batch.len().min(taken.saturating_add((room - u64::from(stored)) as usize));
            if plain && let Some(count) = self.append_plain(batch, taken..upto, out) {
                (taken, stored) = (taken + count as usize, stored + count);
                continue;
            }
            let message = batch.get(taken);
            match self.admit(&message) {
                Ok(Admitted::New(lane, said)) => {
                    let position = self.lanes[lane as usize].end;
                    self.lanes[lane as usize].end += 1;
                    stored += 1;
                    out.append(LaneId(lane), position, taken as u32, 1);
                    self.pending.messages.push_back((message.token, lane));
                    if self.ageing {
                        self.came(lane, now);
                    }
                    if self.options.deduplication.is_some() {
                        self.remember(now, &message, lane, position);
                    }
                    if let Some(said) = said {
                        self.await_told(now, lane, position, said);
                    }
                }
                Ok(Admitted::Repeat(lane, position)) if position < self.lanes[lane as usize].stored => {
                    let outcome = Outcome { token: message.token, status: Status::Done, lane: LaneId(lane), position };
                    out.outcomes.push((client, outcome));
                }
                Ok(Admitted::Repeat(lane, position)) => {
                    stored += 1;
                    self.pending.messages.push_back((message.token, REPEAT));
                    self.pending.repeats.push_back((lane, position, false));
                }
                Err(outcome) => out.outcomes.push((client, outcome)),
            }
            taken += 1;
        }
        if stored > 0 {
            self.clients.get_mut(slot).submit(u64::from(stored));
            self.pending.barrier(slot, Work::Messages(stored), out);
        }
        Accepted { taken, blocked: (taken < batch.len()).then_some(Blocked::Window) }
    }

    /// Whether messages that say nothing of themselves can be appended many at a time.
    fn takes_runs(&self) -> bool {
        let rejects = self.options.max_length > 0 && self.options.overflow == Overflow::RejectPublish;
        self.options.deduplication.is_none() && !self.groups_in_order && !self.ageing && !rejects
    }

    /// Appends those of `range` that go to the first one's channel, where that is one lane and every message is its every group's; none,
    /// where the first is to be looked at by itself.
    fn append_plain(&mut self, batch: &Publishes, range: Range<usize>, out: &mut Effects) -> Option<u32> {
        let channel = self.channels.get(batch.channel(range.start).0 as usize).filter(|channel| !channel.gone)?;
        let one_lane = channel.lanes == 1 || self.contract.order == Order::Total;
        if !one_lane || !channel.bindings.is_empty() {
            return None;
        }
        let lane = channel.first_lane;
        let run = batch.run(range.clone(), self.options.max_message_bytes, Keys::Any)?;
        let count = run.tokens.len() as u32;
        let entry = &mut self.lanes[lane as usize];
        out.append(LaneId(lane), entry.end, range.start as u32, count);
        entry.end += u64::from(count);
        self.pending.messages.extend(run.tokens.iter().map(|&token| (token, lane)));
        Some(count)
    }

    /// What becomes of a message, or how its publish ends at once.
    fn admit(&mut self, message: &Message<'_>) -> Result<Admitted, Outcome> {
        let refuse = |refusal| refused(message.token, refusal);
        let number = message.channel;
        let (first, lanes) = self.takes(message).map_err(refuse)?;
        let said = self.said(number, message.key, message.headers).map_err(refuse)?;
        let routes = said.as_ref().and_then(|said| said.routes.as_deref());
        if routes.is_some_and(<[u32]>::is_empty) {
            self.channels[number.0 as usize].unroutable += 1;
            return Err(refuse(Refusal::Unroutable));
        }
        if self.options.deduplication.is_some()
            && let Some(id) = id_of(message)
        {
            if let Some((lane, position)) = self.repeats.find(number.0, id) {
                self.channels[number.0 as usize].repeated += 1;
                return Ok(Admitted::Repeat(lane, position));
            }
            if self.repeats.is_full() {
                return Err(Outcome { status: Status::Throttled, ..refuse(Refusal::TooLarge) });
            }
        }
        let lane = self.place(message, first, lanes);
        if self.is_full(lane, routes) {
            let status = Status::Failed(Failure::Overloaded);
            return Err(Outcome { token: message.token, status, lane: LaneId(lane), position: 0 });
        }
        Ok(Admitted::New(lane, said))
    }

    /// Notes an id that was not known.
    fn remember(&mut self, now: Time, message: &Message<'_>, lane: u32, position: u64) {
        if let (Some(window), Some(id)) = (self.options.deduplication, id_of(message)) {
            self.repeats.note(now + window, message.channel.0, lane, position, id);
        }
    }

    /// Keeps what a message says until it is stored.
    fn await_told(&mut self, now: Time, lane: u32, position: u64, said: Said) {
        if let Some(routes) = &said.routes {
            let first = self.lanes[lane as usize].first_queue;
            for place in routes {
                self.backlogs[(first + place) as usize].coming += 1;
            }
        }
        self.pending.said.push_back((lane, position, now, said));
    }

    /// The first lane of a message's channel, and how many it has.
    fn takes(&self, message: &Message<'_>) -> Result<(u32, u32), Refusal> {
        let channel = self.channels.get(message.channel.0 as usize).filter(|channel| !channel.gone);
        let channel = channel.ok_or(Refusal::NoSuchLane)?;
        let bytes = message.key.len() as u64 + message.headers.len() as u64 + u64::from(message.payload_len);
        if bytes > u64::from(self.options.max_message_bytes) {
            return Err(Refusal::TooLarge);
        }
        Ok((channel.first_lane, channel.lanes))
    }

    /// The lane that a message goes to, of so many from the first one on.
    fn place(&mut self, message: &Message<'_>, first: u32, lanes: u32) -> u32 {
        if lanes == 1 || self.contract.order == Order::Total {
            return first;
        }
        let key = if self.groups_in_order {
            self.message_group(message.key, Headers::parse(message.headers))
        } else {
            message.key
        };
        if !key.is_empty() {
            return first + choose(key_hash(key), lanes);
        }
        let turn = &mut self.channels[message.channel.0 as usize].turn;
        let lane = *turn;
        *turn = if lane + 1 == lanes { 0 } else { lane + 1 };
        first + lane
    }

    /// A record of the administrator's that is done when it is stored.
    pub(super) fn store_record(&mut self, slot: u32, outcome: Outcome, out: &mut Effects) {
        self.clients.get_mut(slot).submit(1);
        self.pending.barrier(slot, Work::Record(outcome), out);
    }

    /// Everything up to `ticket` is stored or lost.
    pub(super) fn stored_upto(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, out: &mut Effects) {
        while let Some(barrier) = self.pending.barriers.front().copied().filter(|barrier| barrier.ticket <= ticket) {
            self.pending.barriers.pop_front();
            if let Work::Letters(count) = barrier.work {
                self.messages_stored(now, None, count, result, out);
                continue;
            }
            let number = self.clients.get(barrier.client).number;
            let ended = match barrier.work {
                Work::Messages(count) => {
                    self.messages_stored(now, Some(number), count, result, out);
                    u64::from(count)
                }
                Work::Letters(count) => u64::from(count),
                Work::Record(outcome) => {
                    let status = result.map_or_else(Status::Failed, |()| outcome.status);
                    out.outcomes.push((number, Outcome { status, ..outcome }));
                    1
                }
            };
            let client = self.clients.get_mut(barrier.client);
            client.end(ended, |token| out.outcomes.push((number, done(token))));
            if client.closing && client.unstored() == 0 {
                self.clients.remove(number);
            }
        }
        while let Some(lane) = self.grown.pop() {
            self.lanes[lane as usize].grown = false;
            let channel = self.lanes[lane as usize].channel as usize;
            if self.channels[channel].groups.is_empty() {
                self.trim(lane, out);
            }
            for index in 0..self.channels[channel].groups.len() {
                let group = self.channels[channel].groups[index];
                self.expire_waiting(lane, group);
                self.list(lane, group);
                let queue = self.queue_of(lane, group);
                if self.backlogs[queue].next_deadline().is_some_and(|due| due <= now) {
                    self.wake(now, lane, group);
                }
                self.arm(lane, group);
            }
        }
        self.record_settled(now, out);
    }

    fn messages_stored(
        &mut self,
        now: Time,
        number: Option<u32>,
        count: u32,
        result: Result<(), Failure>,
        out: &mut Effects,
    ) {
        let mut left = count;
        while left > 0 {
            if result.is_ok() && self.pending.said.is_empty() {
                let run = self.run_stored(number, left, out);
                left -= run;
                if run > 0 {
                    continue;
                }
            }
            left -= 1;
            let Some((token, lane)) = self.pending.messages.pop_front() else { break };
            if lane == REPEAT {
                let outcome = self.repeated(token);
                out.outcomes.extend(number.map(|number| (number, outcome)));
                continue;
            }
            let position = self.grow(lane, 1);
            let entry = &mut self.lanes[lane as usize];
            let status = match result {
                Ok(()) => Status::Done,
                Err(failure) => {
                    match entry.holes.last_mut() {
                        Some(last) if last.1 == position => last.1 += 1,
                        Some(_) | None => entry.holes.push((position, position + 1)),
                    }
                    Status::Failed(failure)
                }
            };
            let outcome = Outcome { token, status, lane: LaneId(lane), position };
            out.outcomes.extend(number.map(|number| (number, outcome)));
            let says = self.pending.said.front().is_some_and(|&(of, at, ..)| (of, at) == (lane, position));
            if says && let Some((_, _, came, said)) = self.pending.said.pop_front() {
                self.tell(now, lane, position, came, &said, result.is_ok());
            }
            if result.is_err() && self.options.deduplication.is_some() {
                self.repeats.lost(lane, position);
                let repeats = self.pending.repeats.iter_mut().filter(|(of, at, _)| (*of, *at) == (lane, position));
                repeats.for_each(|(.., lost)| *lost = true);
            }
        }
    }

    /// Messages at the front that go to one lane and say nothing are stored, at most so many; returns how many those were.
    fn run_stored(&mut self, number: Option<u32>, most: u32, out: &mut Effects) -> u32 {
        let Some(&(_, lane)) = self.pending.messages.front().filter(|(_, lane)| *lane != REPEAT) else { return 0 };
        let count = self.pending.messages.iter().take(most as usize).take_while(|(_, of)| *of == lane).count();
        let position = self.grow(lane, count as u64);
        let stored = self.pending.messages.drain(..count).zip(position..);
        if let Some(number) = number {
            let outcome =
                |((token, _), position)| Outcome { token, status: Status::Done, lane: LaneId(lane), position };
            out.outcomes.extend_of(number, stored.map(outcome));
        }
        count as u32
    }

    /// So many more messages of a lane are stored, or lost; returns the first one's position.
    fn grow(&mut self, lane: u32, count: u64) -> u64 {
        let entry = &mut self.lanes[lane as usize];
        let position = entry.stored;
        entry.stored += count;
        if !entry.grown && !entry.gone {
            entry.grown = true;
            self.grown.push(lane);
        }
        position
    }

    /// How the publish of a repeat ends, when the first has been stored or lost.
    fn repeated(&mut self, token: Token) -> Outcome {
        let (lane, position, lost) = self.pending.repeats.pop_front().unwrap_or_default();
        let status = if lost { Status::Failed(Failure::Storage) } else { Status::Done };
        Outcome { token, status, lane: LaneId(lane), position }
    }

    /// Tells a lane's queues what a message says that was stored, or is not coming.
    fn tell(&mut self, now: Time, lane: u32, position: u64, came: Time, said: &Said, is_stored: bool) {
        let entry = &self.lanes[lane as usize];
        if entry.gone {
            return;
        }
        let (first, channel) = (entry.first_queue, entry.channel as usize);
        let delay = self.delay_of(lane);
        for place in 0..self.channels[channel].groups.len() as u32 {
            let told = said.told(place, came, delay);
            let backlog = &mut self.backlogs[(first + place) as usize];
            if said.routes.is_some() && told != Some(Told::Elsewhere) {
                backlog.coming -= 1;
            }
            if let Some(told) = told.filter(|_| is_stored) {
                backlog.tell(now, position, told);
                if told == Told::Elsewhere {
                    self.touch(lane, self.channels[channel].groups[place as usize]);
                }
            }
        }
    }
}

/// The id by which a message's repeats are known.
fn id_of<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    Headers::parse(message.headers)?.text(names::DEDUPLICATION_ID)
}

/// An operation that is refused.
pub(super) fn refused(token: Token, refusal: Refusal) -> Outcome {
    Outcome { token, status: Status::Refused(refusal), lane: LaneId::default(), position: 0 }
}
