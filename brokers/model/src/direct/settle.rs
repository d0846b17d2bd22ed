//! Requests in work: workers take them, responses end them, the log hears of it.
//!
//! What is done with without a gap, by every group, is one record ([`Record::Committed`]: everything below), the rest one each
//! ([`Record::Settled`]). Leaves out how a receiver's place is filled again, which is in `route`.

use crate::batch::{ChannelId, LaneId, Receipt, Settlement, Verdict};
use crate::completion::{Outcome, Refusal, Status};
use crate::direct::callers::Part;
use crate::direct::requests::{LegStage, NONE, Request};
use crate::direct::{DirectModel, done};
use crate::machine::{Deliver, Effects, Record, Write};

impl DirectModel {
    /// Hands requests to free workers, at every receiver that was marked.
    pub(super) fn serve(&mut self, out: &mut Effects) {
        while let Some(member) = self.dirty.pop() {
            let peer = self.peers.get_mut(member);
            peer.dirty = false;
            let count = (peer.ready.len() as u64).min(peer.credit.available());
            for _ in 0..count {
                let Some((group, id)) = self.peers.get_mut(member).ready.pop_front() else { break };
                self.hand_out(member, group, id, out);
            }
            let peer = self.peers.get_mut(member);
            let number = peer.number;
            peer.credit.take(count, |token| out.outcomes.push((number, done(token))));
        }
    }

    fn hand_out(&mut self, member: u32, group: u32, id: u32, out: &mut Effects) {
        let (channel, place) = (self.groups[group as usize].channel, self.groups[group as usize].place);
        let requests = &mut self.channels[channel as usize].requests;
        let Request { lane, position, .. } = *requests.get(id);
        let leg = requests.leg_mut(id, place);
        leg.stage = LegStage::InWork;
        let redeliveries = leg.redeliveries.min(u32::from(u16::MAX)) as u16;
        let receipt = Receipt { lane: LaneId(lane), position, epoch: leg.redeliveries };
        if self.at_most_once {
            self.settle_leg(member, channel, id, place);
        }
        let client = self.peers.get(member).number;
        if let Some(last) = out.deliveries.last_mut() {
            let next = Receipt { position: last.receipt.position + u64::from(last.count), ..last.receipt };
            if last.client == client && next == receipt {
                last.count += 1;
                return;
            }
        }
        out.deliveries.push(Deliver { client, channel: ChannelId(channel), receipt, count: 1, redeliveries });
    }

    pub(super) fn settle_all(&mut self, client: u32, settlements: &[Settlement], out: &mut Effects) {
        let member = match self.peers.slot(client) {
            Some(slot) if self.peers.get(slot).closing => Err(Refusal::Closed),
            Some(slot) if self.peers.get(slot).part == Part::Receiver => Ok(slot),
            Some(_) => Err(Refusal::WrongRole),
            None => Err(Refusal::Closed),
        };
        for settlement in settlements {
            let result = member.and_then(|member| self.settle_one(member, settlement));
            let status = result.map_or_else(Status::Refused, |()| Status::Done);
            let Receipt { lane, position, .. } = settlement.receipt;
            out.outcomes.push((client, Outcome { token: settlement.token, status, lane, position }));
        }
    }

    fn settle_one(&mut self, member: u32, settlement: &Settlement) -> Result<(), Refusal> {
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
        if leg.stage != LegStage::InWork || leg.member != member || leg.redeliveries != epoch {
            return Err(Refusal::StaleReceipt);
        }
        self.settle_leg(member, channel, id, place);
        Ok(())
    }

    /// One group is done with a request.
    fn settle_leg(&mut self, member: u32, channel: u32, id: u32, place: u32) {
        let requests = &mut self.channels[channel as usize].requests;
        requests.leg_mut(id, place).stage = LegStage::Settled;
        let request = requests.get_mut(id);
        request.open -= 1;
        let (lane, position, open) = (request.lane, request.position, request.open);
        self.settled.push((lane, place, position));
        self.free_place(member);
        if open == 0 {
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
            let below = entry.base;
            if entry.gone || below == before {
                continue;
            }
            for place in 0..entry.active.len() as u32 {
                let record = Record::Committed { lane: LaneId(lane), group: place, position: below };
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
