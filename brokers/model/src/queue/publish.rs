//! Publishing: messages take their positions, one barrier a call, and are ready when it is stored.
//!
//! Leaves out the bytes, which the host of the effects appends.

use std::collections::VecDeque;

use crate::batch::{Accepted, Blocked, LaneId, Message, Publishes, Token};
use crate::completion::{Failure, Outcome, Refusal, Status};
use crate::contract::Order;
use crate::machine::{Effects, Write};
use crate::queue::QueueModel;
use crate::queue::clients::Part;
use crate::queue::dispatch::done;
use crate::routing::{choose, key_hash};
use crate::time::Time;

/// What stands before one barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// This many messages of the pending ones.
    Messages(u32),
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

/// Everything that waits to be stored, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    barriers: VecDeque<Unstored>,
    /// Token and lane of each message; its position is its lane's next to be stored.
    messages: VecDeque<(Token, u32)>,
    next_ticket: u64,
}

impl Pending {
    fn barrier(&mut self, client: u32, work: Work, out: &mut Effects) {
        out.writes.push(Write::Barrier(self.next_ticket));
        self.barriers.push_back(Unstored { ticket: self.next_ticket, client, work });
        self.next_ticket += 1;
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
        while taken < batch.len() && u64::from(stored) < room {
            let message = batch.get(taken);
            match self.place(&message) {
                Ok(lane) if self.is_full(lane) => {
                    let status = Status::Failed(Failure::Overloaded);
                    let outcome = Outcome { token: message.token, status, lane: LaneId(lane), position: 0 };
                    out.outcomes.push((client, outcome));
                }
                Ok(lane) => {
                    let entry = &mut self.lanes[lane as usize];
                    let position = entry.end;
                    entry.end += 1;
                    stored += 1;
                    out.append(LaneId(lane), position, taken as u32);
                    self.pending.messages.push_back((message.token, lane));
                    if self.ageing {
                        self.came(lane, now);
                    }
                }
                Err(refusal) => out.outcomes.push((client, refused(message.token, refusal))),
            }
            taken += 1;
        }
        if stored > 0 {
            self.clients.get_mut(slot).submit(u64::from(stored));
            self.pending.barrier(slot, Work::Messages(stored), out);
        }
        Accepted { taken, blocked: (taken < batch.len()).then_some(Blocked::Window) }
    }

    /// The lane that a message goes to.
    fn place(&mut self, message: &Message<'_>) -> Result<u32, Refusal> {
        let channel = self.channels.get_mut(message.channel.0 as usize).filter(|channel| !channel.gone);
        let channel = channel.ok_or(Refusal::NoSuchLane)?;
        let bytes = message.key.len() as u64 + message.headers.len() as u64 + u64::from(message.payload_len);
        if bytes > u64::from(self.options.max_message_bytes) {
            return Err(Refusal::TooLarge);
        }
        if channel.lanes == 1 || self.contract.order == Order::Total {
            return Ok(channel.first_lane);
        }
        if !message.key.is_empty() {
            return Ok(channel.first_lane + choose(key_hash(message.key), channel.lanes));
        }
        let lane = channel.turn;
        channel.turn = if lane + 1 == channel.lanes { 0 } else { lane + 1 };
        Ok(channel.first_lane + lane)
    }

    /// A record of the administrator's that is done when it is stored.
    pub(super) fn store_record(&mut self, slot: u32, outcome: Outcome, out: &mut Effects) {
        self.clients.get_mut(slot).submit(1);
        self.pending.barrier(slot, Work::Record(outcome), out);
    }

    /// Everything up to `ticket` is stored or lost.
    pub(super) fn stored_upto(&mut self, ticket: u64, result: Result<(), Failure>, out: &mut Effects) {
        while let Some(barrier) = self.pending.barriers.front().copied().filter(|barrier| barrier.ticket <= ticket) {
            self.pending.barriers.pop_front();
            let number = self.clients.get(barrier.client).number;
            let ended = match barrier.work {
                Work::Messages(count) => {
                    self.messages_stored(number, count, result, out);
                    u64::from(count)
                }
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
            }
        }
        self.record_settled(out);
    }

    fn messages_stored(&mut self, number: u32, count: u32, result: Result<(), Failure>, out: &mut Effects) {
        for (token, lane) in self.pending.messages.drain(..count as usize) {
            let entry = &mut self.lanes[lane as usize];
            let position = entry.stored;
            entry.stored += 1;
            if !entry.grown && !entry.gone {
                entry.grown = true;
                self.grown.push(lane);
            }
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
            out.outcomes.push((number, Outcome { token, status, lane: LaneId(lane), position }));
        }
    }
}

/// An operation that is refused.
pub(super) fn refused(token: Token, refusal: Refusal) -> Outcome {
    Outcome { token, status: Status::Refused(refusal), lane: LaneId::default(), position: 0 }
}
