//! Requests come in, are stored, are answered or fail.
//!
//! Leaves out which receiver takes them (`route`) and how they are served (`settle`).

use std::cmp::Reverse;

use crate::batch::{Accepted, Blocked, LaneId, Message, Publishes};
use crate::completion::{Failure, Outcome, Refusal, Status};
use crate::direct::callers::{Part, Queued};
use crate::direct::options::Overflow;
use crate::direct::requests::{LegStage, NONE, Request, Stage};
use crate::direct::{Barrier, DirectModel, Registration, done, ended, refused};
use crate::give_back;
use crate::machine::{Effects, Write};
use crate::routing::{choose, key_hash, mix};
use crate::slots::NOBODY;
use crate::time::{Span, Time};

impl DirectModel {
    pub(super) fn publish_all(&mut self, now: Time, client: u32, batch: &Publishes, out: &mut Effects) -> Accepted {
        let caller = match self.peers.slot(client) {
            Some(slot) if self.peers.get(slot).closing => Err(Refusal::Closed),
            Some(slot) if self.peers.get(slot).part == Part::Caller => Ok(slot),
            Some(_) => Err(Refusal::WrongRole),
            None => Err(Refusal::Closed),
        };
        let slot = match caller {
            Ok(slot) => slot,
            Err(refusal) => {
                out.outcomes.extend(batch.iter().map(|message| (client, refused(message.token, refusal))));
                return Accepted { taken: batch.len(), blocked: None };
            }
        };
        let window = u64::from(self.options.window.max(1));
        let waits = self.options.overflow == Overflow::Block;
        let mut taken = 0;
        while taken < batch.len() && self.peers.get(slot).open() < window {
            let message = batch.get(taken);
            match self.admit(now, &message) {
                Ok(lane) if waits && !self.all_have_room(lane) => {
                    self.hold_back(client, out);
                    return Accepted { taken, blocked: Some(Blocked::Receivers) };
                }
                Ok(lane) => self.send(now, slot, lane, &message, taken as u32, out),
                Err(status) => out.outcomes.push((client, ended(message.token, status))),
            }
            taken += 1;
        }
        self.let_go(client, out);
        Accepted { taken, blocked: (taken < batch.len()).then_some(Blocked::Window) }
    }

    /// The endpoint that a request goes to, if its service may be called at all.
    fn admit(&mut self, now: Time, message: &Message<'_>) -> Result<u32, Status> {
        let channel = self.channels.get_mut(message.channel.0 as usize).filter(|channel| !channel.gone);
        let channel = channel.ok_or(Status::Refused(Refusal::NoSuchLane))?;
        let bytes = message.key.len() as u64 + message.headers.len() as u64 + u64::from(message.payload_len);
        if bytes > u64::from(self.options.max_message_bytes) {
            return Err(Status::Refused(Refusal::TooLarge));
        }
        if channel.groups.is_empty() {
            return Err(Status::Failed(Failure::NoReceiver));
        }
        if !channel.groups.iter().all(|&group| self.groups[group as usize].breaker.would_pass(now)) {
            self.tries.refused_by_breaker += 1;
            return Err(Status::Failed(Failure::CircuitOpen));
        }
        let lane = if channel.lanes == 1 {
            0
        } else if message.key.is_empty() {
            let lane = channel.turn;
            channel.turn = if lane + 1 == channel.lanes { 0 } else { lane + 1 };
            lane
        } else {
            choose(key_hash(message.key), channel.lanes)
        };
        Ok(channel.first_lane + lane)
    }

    /// Writes a request down and offers it to receivers.
    fn send(&mut self, now: Time, client: u32, lane: u32, message: &Message<'_>, index: u32, out: &mut Effects) {
        let entry = &mut self.lanes[lane as usize];
        let channel = entry.channel;
        let position = entry.end;
        entry.end += 1;
        let serial = self.next_serial;
        self.next_serial += 1;
        let groups = self.channels[channel as usize].groups.len() as u32;
        let deadline = now + self.options.timeout;
        let id = self.channels[channel as usize].requests.add(Request {
            token: message.token,
            serial,
            position,
            lane,
            client,
            segment: self.peers.get_mut(client).begin(),
            unplaced: groups,
            open: groups,
            strays: 0,
            retries: 0,
            deadline,
            wake: deadline,
            stored: false,
            stage: Stage::Waiting,
        });
        self.lanes[lane as usize].index.push_back(id);
        for place in 0..groups {
            let group = self.channels[channel as usize].groups[place as usize];
            // `admit` has seen that every breaker lets it through.
            let pass = self.groups[group as usize].breaker.pass(now).unwrap_or_default();
            self.channels[channel as usize].requests.leg_mut(id, place).pass = pass;
        }
        out.append(LaneId(lane), position, index, 1);
        if self.ordered {
            let behind = !self.lanes[lane as usize].line.is_empty();
            self.lanes[lane as usize].line.push_back((id, serial));
            if behind {
                self.timers.push(Reverse((deadline, (channel, id, serial))));
            } else {
                self.advance_line(now, lane, out);
            }
        } else {
            self.attempt(now, channel, id, out);
        }
    }

    /// Under an order: tries the requests that wait for an endpoint's receivers, first come first served, until one has to wait.
    pub(super) fn advance_line(&mut self, now: Time, lane: u32, out: &mut Effects) {
        let channel = self.lanes[lane as usize].channel;
        while let Some(&(id, serial)) = self.lanes[lane as usize].line.front() {
            let waits = self.channels[channel as usize].requests.is(id, serial, Stage::Waiting);
            if waits {
                self.attempt(now, channel, id, out);
                if self.channels[channel as usize].requests.is(id, serial, Stage::Waiting) {
                    return;
                }
            }
            self.lanes[lane as usize].line.pop_front();
        }
    }

    /// Offers a waiting request to a receiver of each group that has not taken it. It is then stored, or worked on if it was
    /// stored before, waits for a retry, or has failed.
    pub(super) fn attempt(&mut self, now: Time, channel: u32, id: u32, out: &mut Effects) {
        let Request { lane, client, .. } = *self.channels[channel as usize].requests.get(id);
        let mut nobody = false;
        for place in 0..self.channels[channel as usize].groups.len() as u32 {
            if self.channels[channel as usize].requests.leg(id, place).stage != LegStage::Unplaced {
                continue;
            }
            let group = self.channels[channel as usize].groups[place as usize];
            let Some(member) = self.pick(group, lane) else {
                nobody |= self.groups[group as usize].members.is_empty();
                continue;
            };
            if !self.connections.take(client, member, self.options.connections) {
                continue;
            }
            self.peers.get_mut(member).held += 1;
            let requests = &mut self.channels[channel as usize].requests;
            requests.get_mut(id).unplaced -= 1;
            let leg = requests.leg_mut(id, place);
            (leg.member, leg.stage, leg.connected) = (member, LegStage::Placed, true);
            let queued = Queued { group, id, epoch: leg.epoch };
            if requests.get(id).stored {
                self.enqueue(member, queued);
            }
        }
        let Request { unplaced, retries, stored, .. } = *self.channels[channel as usize].requests.get(id);
        if unplaced == 0 {
            self.placed(now, channel, id);
        } else if retries < self.options.retries {
            self.try_later(now, channel, id);
        } else if stored {
            self.end_unanswered(now, channel, id, out);
        } else {
            let failure = if nobody { Failure::NoReceiver } else { Failure::Overloaded };
            self.fail(now, channel, id, failure, out);
        }
    }

    /// All receivers took a try: they store it, unless an earlier one was stored. Its caller waits for no longer than what is left
    /// of the request's time.
    fn placed(&mut self, now: Time, channel: u32, id: u32) {
        let usual = now + self.options.timeout;
        let patience = self.patience();
        let request = self.channels[channel as usize].requests.get_mut(id);
        let handle = (channel, id, request.serial);
        let stored = request.stored;
        request.stage = if stored { Stage::Serving } else { Stage::Storing };
        // One that is stored at once ends with its barrier: only what has waited has less time left, or what is sent again.
        if let Some(patience) = patience {
            request.wake = (now + patience).min(request.deadline);
            self.timers.push(Reverse((request.wake, handle)));
        } else if request.deadline < usual {
            request.wake = request.deadline;
            self.timers.push(Reverse((request.wake, handle)));
        }
        if stored {
            self.tries.sent_again += 1;
        } else {
            self.storing.push_back(handle);
            self.unsealed += 1;
        }
    }

    /// A try's connection is idle again once its response has come, or else closed.
    pub(super) fn let_connection_go(&mut self, channel: u32, id: u32, place: u32, answered: bool) {
        let requests = &mut self.channels[channel as usize].requests;
        let caller = requests.get(id).client;
        let leg = requests.leg_mut(id, place);
        if std::mem::take(&mut leg.connected) {
            if answered {
                self.connections.give_back(caller, leg.member);
            } else {
                self.connections.close(caller, leg.member);
            }
        }
    }

    /// Lets a request wait for its next try.
    pub(super) fn try_later(&mut self, now: Time, channel: u32, id: u32) {
        let request = self.channels[channel as usize].requests.get_mut(id);
        let wait = backoff(self.options.backoff, self.options.max_backoff, request.retries, request.serial);
        request.retries += 1;
        self.tries.put_off += 1;
        request.stage = Stage::Waiting;
        request.wake = (now + wait).min(request.deadline);
        self.timers.push(Reverse((request.wake, (channel, id, request.serial))));
    }

    /// Puts a barrier after what was placed in this step.
    pub(super) fn seal(&mut self, now: Time, out: &mut Effects) {
        if self.unsealed == 0 {
            return;
        }
        let deadline = now + self.options.timeout;
        let deadline = self.barriers.back().map_or(deadline, |last| deadline.max(last.deadline));
        out.writes.push(Write::Barrier(self.next_ticket));
        self.barriers.push_back(Barrier { ticket: self.next_ticket, count: self.unsealed, deadline });
        self.next_ticket += 1;
        self.unsealed = 0;
    }

    /// Everything up to `ticket` is stored or lost.
    pub(super) fn stored_upto(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, out: &mut Effects) {
        while self.records.front().is_some_and(|record| record.ticket <= ticket) {
            let Some(Registration { slot, segment, outcome, .. }) = self.records.pop_front() else { break };
            let status = result.map_or_else(Status::Failed, |()| outcome.status);
            self.end(slot, segment, Outcome { status, ..outcome }, out);
        }
        while let Some(barrier) = self.barriers.front().copied().filter(|barrier| barrier.ticket <= ticket) {
            self.barriers.pop_front();
            for _ in 0..barrier.count {
                let Some((channel, id, serial)) = self.storing.pop_front() else { break };
                if !self.channels[channel as usize].requests.is(id, serial, Stage::Storing) {
                    continue;
                }
                match result {
                    Ok(()) if self.waits_for_work() => self.start_serving(channel, id),
                    Ok(()) => self.answer(channel, id, out),
                    Err(failure) => self.fail(now, channel, id, failure, out),
                }
            }
        }
        give_back::from_deque(&mut self.storing);
    }

    /// All receivers have stored a request: the caller hears of it, and it may be served.
    fn answer(&mut self, channel: u32, id: u32, out: &mut Effects) {
        let request = self.channels[channel as usize].requests.get_mut(id);
        request.stage = Stage::Answered;
        let Request { token, lane, position, client, segment, .. } = *request;
        let outcome = Outcome { token, status: Status::Done, lane: LaneId(lane), position };
        self.end(client, segment, outcome, out);
        for place in 0..self.channels[channel as usize].groups.len() as u32 {
            let group = self.channels[channel as usize].groups[place as usize];
            let pass = self.channels[channel as usize].requests.leg(id, place).pass;
            self.groups[group as usize].breaker.succeeded(pass);
            self.let_connection_go(channel, id, place, true);
        }
        self.enqueue_all(channel, id);
    }

    /// A request that was stored stands in the service queue of each group's receiver.
    pub(super) fn enqueue_all(&mut self, channel: u32, id: u32) {
        for place in 0..self.channels[channel as usize].groups.len() as u32 {
            let group = self.channels[channel as usize].groups[place as usize];
            let leg = *self.channels[channel as usize].requests.leg(id, place);
            if leg.member == NOBODY {
                self.hand_on(group, id);
            } else {
                self.enqueue(leg.member, Queued { group, id, epoch: leg.epoch });
            }
        }
    }

    /// Ends a caller's operation.
    pub(super) fn end(&mut self, client: u32, segment: u32, outcome: Outcome, out: &mut Effects) {
        let peer = self.peers.get_mut(client);
        let number = peer.number;
        out.outcomes.push((number, outcome));
        peer.end(segment, |token| out.outcomes.push((number, done(token))));
        if peer.closing && peer.open() == 0 {
            self.forget(client);
        }
    }

    /// Ends a request that was not answered: it is served nowhere.
    pub(super) fn fail(&mut self, now: Time, channel: u32, id: u32, failure: Failure, out: &mut Effects) {
        let request = *self.channels[channel as usize].requests.get(id);
        let Request { token, lane, position, client, segment, stage, .. } = request;
        let outcome = Outcome { token, status: Status::Failed(failure), lane: LaneId(lane), position };
        self.end(client, segment, outcome, out);
        for place in 0..self.channels[channel as usize].groups.len() as u32 {
            let group = self.channels[channel as usize].groups[place as usize];
            let leg = *self.channels[channel as usize].requests.leg(id, place);
            let breaker = &mut self.groups[group as usize].breaker;
            if stage == Stage::Storing || leg.stage == LegStage::Unplaced {
                breaker.failed(now, leg.pass);
            } else {
                breaker.forgotten(leg.pass);
            }
            self.let_connection_go(channel, id, place, false);
            if leg.member != NOBODY {
                self.free_place(leg.member);
            }
            self.settled.push((lane, place, position));
        }
        self.drop_request(channel, id);
    }

    /// Forgets a request that every group is done with.
    pub(super) fn drop_request(&mut self, channel: u32, id: u32) {
        let requests = &mut self.channels[channel as usize].requests;
        let Request { lane, position, .. } = *requests.get(id);
        requests.remove(id);
        let entry = &mut self.lanes[lane as usize];
        entry.index[(position - entry.base) as usize] = NONE;
        self.touch(lane);
    }

    /// Does what is due: answers that did not come in time, retries, callers that give up.
    pub(super) fn expire(&mut self, now: Time, out: &mut Effects) {
        while let Some(barrier) = self.barriers.front().copied().filter(|barrier| barrier.deadline <= now) {
            self.barriers.pop_front();
            for _ in 0..barrier.count {
                let Some((channel, id, serial)) = self.storing.pop_front() else { break };
                if self.channels[channel as usize].requests.is(id, serial, Stage::Storing) {
                    self.fail(now, channel, id, Failure::Timeout, out);
                }
            }
        }
        while let Some(&Reverse((at, (channel, id, serial)))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            let request = *self.channels[channel as usize].requests.get(id);
            if request.serial != serial || request.wake != at {
                continue;
            }
            match request.stage {
                Stage::Waiting => self.wake(now, channel, id, out),
                Stage::Storing if request.deadline <= now => self.fail(now, channel, id, Failure::Timeout, out),
                Stage::Storing => self.wait_until_the_deadline(channel, id),
                Stage::Serving => self.give_up_try(now, channel, id, out),
                Stage::Free | Stage::Answered | Stage::Ended => {}
            }
        }
        give_back::from_heap(&mut self.timers);
    }

    fn wake(&mut self, now: Time, channel: u32, id: u32, out: &mut Effects) {
        let Request { wake, deadline, lane, serial, stored, .. } = *self.channels[channel as usize].requests.get(id);
        let first = self.lanes[lane as usize].line.front() == Some(&(id, serial));
        if stored && (wake >= deadline || !self.may_send_again(now, channel, id)) {
            self.end_unanswered(now, channel, id, out);
        } else if wake >= deadline {
            self.fail(now, channel, id, Failure::Timeout, out);
        } else if !self.ordered {
            self.attempt(now, channel, id, out);
        }
        if first {
            self.advance_line(now, lane, out);
        }
    }
}

/// The wait before a retry: doubled each time, less up to a half of jitter that is a hash of the request and the retry.
fn backoff(first: Span, most: Span, retries: u32, serial: u64) -> Span {
    let full = first.0.saturating_mul(1 << retries.min(32)).min(most.0).max(1);
    let jitter = mix(serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(retries)) % (full / 2 + 1);
    Span(full - jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound_and_jitter_takes_at_most_half() {
        for (retries, full) in [(0, 100), (1, 200), (2, 400), (3, 500), (40, 500)] {
            let waits: Vec<u64> = (0..1_000).map(|n| backoff(Span(100), Span(500), retries, n).0).collect();
            assert!(waits.iter().all(|wait| (full / 2..=full).contains(wait)));
            let mean = waits.iter().sum::<u64>() / 1_000;
            assert!((full * 7 / 10..full * 8 / 10).contains(&mean), "{mean} of {full}");
        }
        assert_eq!(backoff(Span(0), Span(0), 0, 7), Span(1));
    }
}
