//! Settlements: deliveries end, the journal hears of it, space is given back.
//!
//! A settlement is done at once and its record stands before the next barrier, as in RabbitMQ, where an ack is not confirmed:
//! a crash in between costs a redelivery, never a message. What is settled without a gap is one record
//! ([`Record::Committed`]: everything below), the rest one each ([`Record::Settled`]).

use crate::batch::{LaneId, Receipt, Settlement, Verdict};
use crate::completion::{Outcome, Refusal, Status};
use crate::contract::{Delivery, Storage};
use crate::machine::{Effects, Record, Write};
use crate::queue::QueueModel;
use crate::queue::backlog::{Backlog, Settled};
use crate::queue::clients::Part;
use crate::time::Time;

impl QueueModel {
    pub(super) fn settle_all(&mut self, now: Time, client: u32, settlements: &[Settlement], out: &mut Effects) {
        let member = match self.clients.slot(client) {
            Some(slot) if self.clients.get(slot).closing => Err(Refusal::Closed),
            Some(slot) if self.clients.get(slot).part == Part::Member => Ok(slot),
            Some(_) => Err(Refusal::WrongRole),
            None => Err(Refusal::Closed),
        };
        self.expire(now, out);
        let mut rest = settlements;
        while !rest.is_empty() {
            let (mut run, more) = rest.split_at(successive(rest));
            rest = more;
            while let Some(settlement) = run.first() {
                let many = member.map_or(0, |member| self.acknowledge(now, member, run));
                out.outcomes.extend_of(client, run[..many].iter().map(|settled| ended(settled, Status::Done)));
                if many == 0 {
                    let result = member.and_then(|member| self.settle_one(now, member, settlement));
                    let status = result.map_or_else(Status::Refused, |()| Status::Done);
                    out.outcomes.push((client, ended(settlement, status)));
                }
                run = &run[many.max(1)..];
            }
        }
        // An extension by nothing ends a lease at once.
        self.expire(now, out);
        if let Ok(member) = member {
            self.wait(member);
        }
        self.dispatch(now, out);
    }

    /// Acknowledges as many of these settlements, of successive receipts, as can be at once; returns how many.
    fn acknowledge(&mut self, now: Time, member: u32, run: &[Settlement]) -> usize {
        let first = &run[0].receipt;
        if run.len() < 2 || self.contract.delivery == Delivery::AtMostOnce {
            return 0;
        }
        let Ok((lane, group)) = self.read_by(member, first.lane) else { return 0 };
        let queue = self.queue_of(lane, group);
        let settled = self.backlogs[queue].acknowledge(now, member, first, run.len() as u64);
        if settled > 0 {
            self.note_settled(member, (lane, group), first.position, settled as u32);
        }
        settled as usize
    }

    /// A member no longer holds so many messages from a position on, which are done with.
    fn note_settled(&mut self, member: u32, (lane, group): (u32, u32), position: u64, count: u32) {
        self.clients.get_mut(member).in_flight -= count;
        self.settled.push((lane, group, position, count));
        self.touch(lane, group);
        if self.options.max_in_flight > 0 || self.groups_in_order {
            self.list(lane, group);
        }
    }

    /// The lane and the group in which a member reads it.
    fn read_by(&self, member: u32, lane: LaneId) -> Result<(u32, u32), Refusal> {
        let entry = self.lanes.get(lane.0 as usize).filter(|entry| !entry.gone).ok_or(Refusal::NoSuchLane)?;
        let (channel, members) = (entry.channel, &self.clients.get(member).bindings);
        let groups = &self.groups;
        let group = members.iter().map(|of| of.group).find(|&group| groups[group as usize].channel == channel);
        Ok((lane.0, group.ok_or(Refusal::NotAssigned)?))
    }

    fn settle_one(&mut self, now: Time, member: u32, settlement: &Settlement) -> Result<(), Refusal> {
        let receipt = settlement.receipt;
        let (lane, group) = self.read_by(member, receipt.lane)?;
        let queue = self.queue_of(lane, group);
        if self.contract.delivery == Delivery::AtMostOnce {
            return self.settled_by_delivery(queue, settlement);
        }
        let terms = self.terms(now, lane);
        let backlog = &mut self.backlogs[queue];
        match backlog.settle(now, member, &receipt, settlement.verdict, terms)? {
            Settled::Gone => self.note_settled(member, (lane, group), receipt.position, 1),
            Settled::Requeued => {
                self.clients.get_mut(member).in_flight -= 1;
                self.list(lane, group);
            }
            Settled::Held => self.arm(lane, group),
        }
        Ok(())
    }

    /// A delivery that settled itself: an ack or a drop changes nothing, and there is nothing to give back or extend. What was given
    /// up undelivered can't be told from it.
    fn settled_by_delivery(&self, queue: usize, settlement: &Settlement) -> Result<(), Refusal> {
        let delivered = self.backlogs[queue].is_done(settlement.receipt.position) && settlement.receipt.epoch == 0;
        match settlement.verdict {
            Verdict::Ack | Verdict::Nack { requeue: false } if delivered => Ok(()),
            Verdict::Ack | Verdict::Nack { requeue: false } => Err(Refusal::StaleReceipt),
            Verdict::Nack { requeue: true } | Verdict::Extend(_) => Err(Refusal::Unsupported),
        }
    }

    /// Tells the journal what the step settled or gave up, and gives back what no group needs.
    pub(super) fn record_settled(&mut self, now: Time, out: &mut Effects) {
        for index in 0..self.touched.len() {
            let (lane, group) = self.touched[index];
            // Before the journal hears that they are settled.
            self.write_letters(now, lane, group, out);
            let queue = self.queue_of(lane, group);
            let backlog = &mut self.backlogs[queue];
            let head = backlog.advance();
            if head > backlog.recorded {
                backlog.recorded = head;
                let group = self.groups[group as usize].place;
                out.writes.push(Write::Record(Record::Committed { lane: LaneId(lane), group, position: head }));
            }
        }
        for &(lane, group, position, count) in &self.settled {
            let entry = &self.lanes[lane as usize];
            let place = self.groups[group as usize].place;
            let recorded = self.backlogs[entry.first_queue as usize + place as usize].recorded;
            for position in position.max(recorded)..position + u64::from(count) {
                out.writes.push(Write::Record(Record::Settled { lane: LaneId(lane), group: place, position }));
            }
        }
        self.settled.clear();
        while let Some((lane, group)) = self.touched.pop() {
            let queue = self.queue_of(lane, group);
            self.backlogs[queue].touched = false;
            self.trim(lane, out);
        }
        self.store_letters(out);
    }

    /// Gives back what every group has settled and no id is remembered of.
    pub(super) fn trim(&mut self, lane: u32, out: &mut Effects) {
        let entry = &self.lanes[lane as usize];
        let first = entry.first_queue as usize;
        let groups = self.channels[entry.channel as usize].groups.len();
        let heads = self.backlogs[first..first + groups].iter().map(Backlog::head);
        let mut below = heads.min().unwrap_or(entry.stored);
        if self.contract.storage != Storage::Memory {
            // A restart is to know the ids.
            below = self.repeats.oldest(lane).map_or(below, |oldest| oldest.min(below));
        }
        if below > entry.trimmed {
            let entry = &mut self.lanes[lane as usize];
            entry.trimmed = below;
            entry.holes.retain(|&(_, end)| end > below);
            entry.ages.forget(below);
            out.writes.push(Write::Trim { lane: LaneId(lane), below });
        }
    }
}

/// How many settlements from the first on acknowledge successive positions under one kind of receipt; at least one.
fn successive(settlements: &[Settlement]) -> usize {
    let Some(first) = settlements.first().filter(|first| first.verdict == Verdict::Ack) else { return 1 };
    let follows = |(next, position): &(&Settlement, u64)| {
        next.verdict == Verdict::Ack && next.receipt == Receipt { position: *position, ..first.receipt }
    };
    settlements.iter().zip(first.receipt.position..).take_while(follows).count()
}

/// How a settlement ended.
fn ended(settlement: &Settlement, status: Status) -> Outcome {
    let Settlement { token, receipt, .. } = *settlement;
    Outcome { token, status, lane: receipt.lane, position: receipt.position }
}
