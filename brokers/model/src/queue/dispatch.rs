//! Who gets what: ready messages meet members with credit.
//!
//! Members that compete share what is ready evenly, in turn. Under an order, one member at a time reads a queue (single active
//! consumer). Leaves out when a lease ends.

use std::cmp::Reverse;

use crate::batch::{ChannelId, LaneId, Receipt, Token};
use crate::completion::{Outcome, Status};
use crate::contract::Delivery;
use crate::machine::{Deliver, Effects};
use crate::queue::QueueModel;
use crate::queue::backlog::{Backlog, Run};
use crate::queue::clients::Subscription;
use crate::slots::NOBODY;
use crate::time::Time;

/// An operation that is done and has no place.
pub(super) fn done(token: Token) -> Outcome {
    Outcome { token, status: Status::Done, lane: LaneId::default(), position: 0 }
}

impl QueueModel {
    /// Notes that a group may have something to hand out.
    pub(super) fn mark(&mut self, group: u32) {
        let entry = &mut self.groups[group as usize];
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(group);
        }
    }

    /// Puts a queue into its group's line of queues with something ready.
    pub(super) fn list(&mut self, lane: u32, group: u32) {
        let queue = self.queue_of(lane, group);
        let backlog = &mut self.backlogs[queue];
        if !backlog.listed {
            backlog.listed = true;
            self.groups[group as usize].ready.push_back(lane);
        }
        if self.shortens {
            self.grown_queues.push((lane, group));
        }
        self.mark(group);
    }

    /// How many messages a member may be handed now.
    fn capacity(&self, member: u32) -> u64 {
        let client = self.clients.get(member);
        if client.closing {
            return 0;
        }
        let room = match self.options.prefetch {
            0 => u64::MAX,
            prefetch => u64::from(prefetch.saturating_sub(client.in_flight)),
        };
        client.credit.available().min(room)
    }

    /// Puts a member with capacity into the line of each group that it reads.
    pub(super) fn wait(&mut self, member: u32) {
        if self.capacity(member) == 0 {
            return;
        }
        for index in 0..self.clients.get(member).bindings.len() {
            let binding = &mut self.clients.get_mut(member).bindings[index];
            let group = binding.group;
            if !binding.waiting {
                binding.waiting = true;
                self.groups[group as usize].waiting.push_back((member, index as u32));
            }
            self.mark(group);
        }
    }

    /// Hands out what can be handed out, in every group that was marked.
    pub(super) fn dispatch(&mut self, now: Time, out: &mut Effects) {
        while let Some(group) = self.dirty.pop() {
            self.groups[group as usize].dirty = false;
            if self.exclusive {
                self.dispatch_exclusively(now, group, out);
            } else {
                self.dispatch_evenly(now, group, out);
            }
        }
        if !self.grown_queues.is_empty() {
            self.shorten(now, out);
        }
    }

    /// In rounds: of what is ready, each member in line gets its part of what the round has left.
    fn dispatch_evenly(&mut self, now: Time, group: u32, out: &mut Effects) {
        let mut turns = 0;
        while let Some(&lane) = self.groups[group as usize].ready.front() {
            let queue = self.queue_of(lane, group);
            let ready = self.ready(lane, queue);
            if ready == 0 {
                self.backlogs[queue].listed = false;
                self.groups[group as usize].ready.pop_front();
                continue;
            }
            let Some((member, capacity)) = self.next_waiting(group) else { return };
            let in_line = self.groups[group as usize].waiting.len() as u64;
            turns = if turns == 0 { in_line } else { in_line.min(turns) };
            let most = ready.div_ceil(turns).min(capacity);
            turns -= 1;
            self.hand_out(now, lane, group, member, most, out);
            let entry = &mut self.groups[group as usize];
            if let Some(turn) = entry.waiting.pop_front() {
                entry.waiting.push_back(turn);
            }
            if let Some(turn) = entry.ready.pop_front() {
                entry.ready.push_back(turn);
            }
        }
    }

    /// The first member in line that has capacity, and how much; those without leave the line.
    fn next_waiting(&mut self, group: u32) -> Option<(u32, u64)> {
        while let Some(&(member, binding)) = self.groups[group as usize].waiting.front() {
            let capacity = self.capacity(member);
            if capacity > 0 {
                return Some((member, capacity));
            }
            self.clients.get_mut(member).bindings[binding as usize].waiting = false;
            self.groups[group as usize].waiting.pop_front();
        }
        None
    }

    fn dispatch_exclusively(&mut self, now: Time, group: u32, out: &mut Effects) {
        for _ in 0..self.groups[group as usize].ready.len() {
            let Some(lane) = self.groups[group as usize].ready.pop_front() else { return };
            let queue = self.queue_of(lane, group);
            let member = self.active_member(queue, group);
            if member != NOBODY {
                let most = self.ready(lane, queue).min(self.capacity(member));
                self.hand_out(now, lane, group, member, most, out);
            }
            if self.ready(lane, queue) > 0 {
                self.groups[group as usize].ready.push_back(lane);
            } else {
                self.backlogs[queue].listed = false;
            }
        }
    }

    /// The member that alone reads a queue. A queue without one gets the member of the group with the fewest, the earliest if
    /// several have as few, and keeps it until it leaves.
    fn active_member(&mut self, queue: usize, group: u32) -> u32 {
        if self.backlogs[queue].active == NOBODY {
            let members = self.groups[group as usize].members.iter();
            let fewest = members.copied().min_by_key(|&member| self.clients.get(member).active);
            if let Some(member) = fewest {
                self.backlogs[queue].active = member;
                self.clients.get_mut(member).active += 1;
            }
        }
        self.backlogs[queue].active
    }

    /// Hands `most` messages of a queue to a member that has the capacity for them.
    fn hand_out(&mut self, now: Time, lane: u32, group: u32, member: u32, most: u64, out: &mut Effects) {
        let queue = self.queue_of(lane, group);
        let deadline = now + self.options.visibility_timeout;
        let automatic = self.contract.delivery == Delivery::AtMostOnce;
        let mut left = most;
        self.backlogs[queue].begin_hand_out();
        while left > 0 {
            let most = left.min(u64::from(u32::MAX)) as u32;
            let entry = &self.lanes[lane as usize];
            let backlog = &mut self.backlogs[queue];
            let run = if automatic {
                backlog.take(most, entry.deliverable(), &entry.holes, &mut self.graves)
            } else {
                backlog.deliver(member, deadline, most, entry.deliverable(), &entry.holes, &mut self.scratch)
            };
            let Some(run) = run else { break };
            left -= u64::from(run.count);
            self.emit(lane, member, &run, out);
        }
        let count = most - left;
        if count == 0 {
            return;
        }
        let client = self.clients.get_mut(member);
        let number = client.number;
        client.credit.take(count, |token| out.outcomes.push((number, done(token))));
        if automatic {
            // The journal hears it before the member does.
            self.bury(lane, group);
            self.record_settled(now, out);
        } else {
            client.in_flight += count as u32;
            self.arm(lane, group);
        }
    }

    fn emit(&self, lane: u32, member: u32, run: &Run, out: &mut Effects) {
        let number = self.clients.get(member).number;
        let receipt = Backlog::receipt(lane, run);
        if let Some(last) = out.deliveries.last_mut() {
            let next = Receipt { position: last.receipt.position + u64::from(last.count), ..last.receipt };
            if last.client == number && next == receipt {
                last.count += run.count;
                return;
            }
        }
        let redeliveries = run.redeliveries.min(u32::from(u16::MAX)) as u16;
        let channel = ChannelId(self.lanes[lane as usize].channel);
        out.deliveries.push(Deliver { client: number, channel, receipt, count: run.count, redeliveries });
    }

    /// Sets a timer for the next time at which something happens to a queue by itself, if none that is as early stands.
    pub(super) fn arm(&mut self, lane: u32, group: u32) {
        let queue = self.queue_of(lane, group);
        let backlog = &mut self.backlogs[queue];
        if let Some(deadline) = backlog.next_deadline().filter(|&deadline| deadline < backlog.armed) {
            backlog.armed = deadline;
            self.timers.push(Reverse((deadline, lane, group)));
        }
    }

    /// Ends the leases that are over at `now`, lets messages appear that were held back, gives up those that expired, and forgets ids.
    pub(super) fn expire(&mut self, now: Time, out: &mut Effects) {
        self.age(now);
        self.end_leases(now);
        self.record_settled(now, out);
        while let Some(lane) = self.repeats.forget(now) {
            self.trim(lane, out);
        }
    }

    fn end_leases(&mut self, now: Time) {
        while let Some(&Reverse((at, lane, group))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            let queue = self.queue_of(lane, group);
            if self.backlogs[queue].armed != at {
                continue;
            }
            self.backlogs[queue].armed = Time::NEVER;
            self.wake(now, lane, group);
        }
    }

    /// Does what is due in a queue: leases end, messages appear and can wait no longer.
    pub(super) fn wake(&mut self, now: Time, lane: u32, group: u32) {
        let queue = self.queue_of(lane, group);
        let terms = self.terms(now, lane);
        let (backlog, clients, freed) = (&mut self.backlogs[queue], &mut self.clients, &mut self.freed);
        backlog.expire(now, terms, &mut self.scratch, &mut self.graves, |member| {
            clients.get_mut(member).in_flight -= 1;
            if freed.last() != Some(&member) {
                freed.push(member);
            }
        });
        let appeared = backlog.wake(now, &mut self.graves);
        self.arm(lane, group);
        if !self.graves.is_empty() {
            self.bury(lane, group);
        }
        if appeared || !self.freed.is_empty() {
            self.list(lane, group);
        }
        while let Some(member) = self.freed.pop() {
            self.wait(member);
        }
    }

    /// What a queue could deliver now.
    pub(super) fn ready(&self, lane: u32, queue: usize) -> u64 {
        let lane = &self.lanes[lane as usize];
        self.backlogs[queue].ready(lane.deliverable(), &lane.holes).min(self.room_in_flight(queue))
    }

    /// Takes a member out of its groups; everything that it holds waits to be delivered again.
    pub(super) fn leave(&mut self, now: Time, member: u32) {
        let bindings = std::mem::take(&mut self.clients.get_mut(member).bindings);
        for &Subscription { group, waiting } in &bindings {
            let entry = &mut self.groups[group as usize];
            entry.members.retain(|&other| other != member);
            if waiting {
                entry.waiting.retain(|&(other, _)| other != member);
            }
            let (first, lanes) = (entry.first_lane, entry.lanes);
            let held = self.clients.get(member).in_flight > 0;
            if !held && !self.exclusive {
                continue;
            }
            for lane in first..first + lanes {
                let queue = self.queue_of(lane, group);
                let terms = self.terms(now, lane);
                let released = self.backlogs[queue].release(member, terms, &mut self.scratch, &mut self.graves);
                if !self.graves.is_empty() {
                    self.bury(lane, group);
                }
                self.clients.get_mut(member).in_flight -= released as u32;
                if self.backlogs[queue].active == member {
                    self.backlogs[queue].active = NOBODY;
                    self.mark(group);
                }
                if released > 0 {
                    self.list(lane, group);
                }
            }
        }
    }
}
