//! Requests in work: workers take them, responses end them, the log hears of it.
//!
//! What is done with without a gap, by every group, is one record ([`Record::Committed`]: everything below), the rest one each
//! ([`Record::Settled`]). Leaves out how a receiver's place is filled again, which is in `route`.

use crate::batch::{ChannelId, LaneId, Receipt, Settlement, Verdict};
use crate::completion::{Outcome, Refusal, Status};
use crate::direct::callers::{Part, Queued};
use crate::direct::requests::{LegStage, NONE, Request, Stage};
use crate::direct::{DirectModel, done};
use crate::give_back;
use crate::machine::{Deliver, Effects, Record, Write};

impl DirectModel {
    /// Hands requests to free workers, at every receiver that was marked.
    pub(super) fn serve(&mut self, out: &mut Effects) {
        while let Some(member) = self.dirty.pop() {
            let peer = self.peers.get_mut(member);
            peer.dirty = false;
            let available = peer.credit.available();
            let mut taken = 0;
            while taken < available {
                let Some(queued) = self.peers.get_mut(member).ready.pop_front() else { break };
                give_back::from_deque(&mut self.peers.get_mut(member).ready);
                taken += u64::from(self.hand_out(member, queued, out));
            }
            let peer = self.peers.get_mut(member);
            let number = peer.number;
            peer.credit.take(taken, |token| out.outcomes.push((number, done(token))));
        }
    }

    /// Hands a request to a worker. Returns whether it did: it refuses a try whose deadline has passed.
    fn hand_out(&mut self, member: u32, queued: Queued, out: &mut Effects) -> bool {
        let Queued { group, id, epoch } = queued;
        let (channel, place) = (self.groups[group as usize].channel, self.groups[group as usize].place);
        if self.channels[channel as usize].requests.leg(id, place).epoch == epoch {
            self.channels[channel as usize].requests.leg_mut(id, place).stage = LegStage::InWork;
        } else if !self.work_for_nobody((channel, id, place, epoch)) {
            return false;
        }
        let requests = &mut self.channels[channel as usize].requests;
        let Request { lane, position, .. } = *requests.get(id);
        let leg = requests.leg_mut(id, place);
        let redeliveries = leg.deliveries.min(u32::from(u16::MAX)) as u16;
        leg.deliveries = leg.deliveries.saturating_add(1);
        let receipt = Receipt { lane: LaneId(lane), position, epoch };
        if self.at_most_once {
            self.settle_leg(member, channel, id, place, out);
        }
        let client = self.peers.get(member).number;
        if let Some(last) = out.deliveries.last_mut() {
            let next = Receipt { position: last.receipt.position + u64::from(last.count), ..last.receipt };
            if last.client == client && next == receipt && last.redeliveries == redeliveries {
                last.count += 1;
                return true;
            }
        }
        out.deliveries.push(Deliver { client, channel: ChannelId(channel), receipt, count: 1, redeliveries });
        true
    }

    pub(super) fn settle_all(&mut self, client: u32, settlements: &[Settlement], out: &mut Effects) {
        let member = match self.peers.slot(client) {
            Some(slot) if self.peers.get(slot).closing => Err(Refusal::Closed),
            Some(slot) if self.peers.get(slot).part == Part::Receiver => Ok(slot),
            Some(_) => Err(Refusal::WrongRole),
            None => Err(Refusal::Closed),
        };
        for settlement in settlements {
            let result = member.and_then(|member| self.settle_one(member, settlement, out));
            let status = result.map_or_else(Status::Refused, |()| Status::Done);
            let Receipt { lane, position, .. } = settlement.receipt;
            out.outcomes.push((client, Outcome { token: settlement.token, status, lane, position }));
        }
    }

    fn settle_one(&mut self, member: u32, settlement: &Settlement, out: &mut Effects) -> Result<(), Refusal> {
        match settlement.verdict {
            Verdict::Ack | Verdict::Nack { requeue: false } => {}
            Verdict::Nack { requeue: true } | Verdict::Extend(_) => return Err(Refusal::Unsupported),
        }
        let Receipt { lane, position, epoch } = settlement.receipt;
        let entry = self.lanes.get(lane.0 as usize).filter(|entry| !entry.gone).ok_or(Refusal::NoSuchLane)?;
        let channel = entry.channel;
        let groups = self.peers.get(member).bindings.iter().map(|binding| &self.groups[binding.group as usize]);
        let group = groups.into_iter().find(|group| group.channel == channel).ok_or(Refusal::NotAssigned)?;
        let place = group.place;
        if self.at_most_once {
            // Settled when it was handed out: another group's receipt of a request that this one has still to get is stale.
            let id =
                position.checked_sub(entry.base).and_then(|at| entry.index.get(at as usize)).filter(|&&id| id != NONE);
            let requests = &self.channels[channel as usize].requests;
            let handed_out = id.is_none_or(|&id| requests.leg(id, place).stage == LegStage::Settled);
            return if position < entry.end && epoch == 0 && handed_out { Ok(()) } else { Err(Refusal::StaleReceipt) };
        }
        let at = position.checked_sub(entry.base).ok_or(Refusal::StaleReceipt)?;
        let id = entry.index.get(at as usize).copied().filter(|&id| id != NONE).ok_or(Refusal::StaleReceipt)?;
        let leg = self.channels[channel as usize].requests.leg(id, place);
        if leg.stage != LegStage::InWork || leg.member != member || leg.epoch != epoch {
            let worked = self.settle_stray(member, (channel, id, place, epoch));
            return if worked { Ok(()) } else { Err(Refusal::StaleReceipt) };
        }
        self.settle_leg(member, channel, id, place, out);
        Ok(())
    }

    /// One group is done with a request.
    fn settle_leg(&mut self, member: u32, channel: u32, id: u32, place: u32, out: &mut Effects) {
        let requests = &mut self.channels[channel as usize].requests;
        requests.leg_mut(id, place).stage = LegStage::Settled;
        let request = requests.get_mut(id);
        request.open -= 1;
        let Request { lane, position, open, stage, .. } = *request;
        self.settled.push((lane, place, position));
        self.free_place(member);
        // The caller of one that a restart found is gone.
        if self.waits_for_work() && stage != Stage::Answered {
            self.respond(channel, id, place, out);
        } else if open == 0 {
            self.drop_request(channel, id);
        }
    }

    /// Notes that something of a lane was done with.
    pub(super) fn touch(&mut self, lane: u32) {
        let entry = &mut self.lanes[lane as usize];
        if !entry.touched {
            entry.touched = true;
            self.touched.push(lane);
        }
    }

    /// Tells the log what the step was done with, and gives back what no group needs.
    pub(super) fn record_settled(&mut self, out: &mut Effects) {
        for index in 0..self.touched.len() {
            let lane = self.touched[index];
            let entry = &mut self.lanes[lane as usize];
            entry.touched = false;
            let before = entry.base;
            while entry.index.front() == Some(&NONE) {
                entry.index.pop_front();
                entry.base += 1;
            }
            give_back::from_deque(&mut entry.index);
            let below = entry.base;
            if entry.gone || below == before {
                continue;
            }
            for (recorded, group) in entry.recorded.iter_mut().zip(0..).filter(|(recorded, _)| **recorded < below) {
                *recorded = below;
                let record = Record::Committed { lane: LaneId(lane), group, position: below };
                out.writes.push(Write::Record(record));
            }
            out.writes.push(Write::Trim { lane: LaneId(lane), below });
        }
        self.touched.clear();
        for &(lane, group, position) in &self.settled {
            let entry = &self.lanes[lane as usize];
            if position >= entry.base && !entry.gone {
                out.writes.push(Write::Record(Record::Settled { lane: LaneId(lane), group, position }));
            }
        }
        self.settled.clear();
    }
}
