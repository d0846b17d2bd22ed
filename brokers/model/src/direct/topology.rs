//! The administrator's part: services are registered, removed and described.
//!
//! Leaves out receivers, which join when they connect.

use std::collections::VecDeque;

use crate::batch::{ChannelId, ChannelSpec, LaneId, Token};
use crate::completion::{Answer, Description, Failure, LaneState, Outcome, Refusal, Status};
use crate::direct::breaker::{Breaker, BreakerState};
use crate::direct::callers::Part;
use crate::direct::requests::{LegStage, NONE, Requests, Stage};
use crate::direct::{Channel, DirectModel, Group, Lane, Registration, refused};
use crate::lane_room::{LANES_MAX, LaneRoom};
use crate::machine::{ChannelRecord, Effects, Record, Write};
use crate::slots::NOBODY;
use crate::time::Time;

impl DirectModel {
    /// Why an administrator's command is refused, if it is.
    fn administrator(&self, slot: u32) -> Result<(), Refusal> {
        if self.peers.get(slot).part == Part::Administrator { Ok(()) } else { Err(Refusal::WrongRole) }
    }

    fn existing(&self, slot: u32, channel: ChannelId) -> Result<&Channel, Refusal> {
        self.administrator(slot)?;
        self.channels.get(channel.0 as usize).filter(|channel| !channel.gone).ok_or(Refusal::NoSuchLane)
    }

    /// Whether there is room for a service's endpoints.
    fn has_lanes(&self, spec: &ChannelSpec) -> Result<(), Refusal> {
        let places = self.channels.iter().map(|of| of.lanes as usize * of.group_names.len()).sum();
        let room = LaneRoom::beside(LANES_MAX, self.lanes.len(), places);
        room.takes(spec.lanes, spec.distinct_groups().len())
    }

    pub(super) fn create(&mut self, slot: u32, token: Token, spec: &ChannelSpec, out: &mut Effects) {
        let number = self.peers.get(slot).number;
        let exists = self.channels.iter().any(|channel| !channel.gone && channel.name == spec.name);
        let refusal = match self.administrator(slot) {
            Err(refusal) => Some(refusal),
            Ok(()) if !spec.is_plain() => Some(Refusal::Unsupported),
            Ok(()) if exists => Some(Refusal::Exists),
            Ok(()) if !spec.is_in_bounds() => Some(Refusal::OutOfRange),
            Ok(()) => self.has_lanes(spec).err(),
        };
        if let Some(refusal) = refusal {
            out.outcomes.push((number, refused(token, refusal)));
            return;
        }
        let made = ChannelRecord::new(spec, self.channels.len(), self.lanes.len());
        self.add_channel(&made);
        let outcome = Outcome { token, status: Status::Done, lane: made.first, position: u64::from(made.channel.0) };
        self.store_record(slot, Record::Channel(Box::new(made)), outcome, out);
    }

    /// Writes a record of the administrator's, which ends once it is stored.
    fn store_record(&mut self, slot: u32, record: Record, outcome: Outcome, out: &mut Effects) {
        let segment = self.peers.get_mut(slot).begin();
        self.records.push_back(Registration { ticket: self.next_ticket, slot, segment, outcome });
        out.writes.extend([Write::Record(record), Write::Barrier(self.next_ticket)]);
        self.next_ticket += 1;
    }

    /// Registers the next service, with the next endpoints.
    pub(super) fn add_channel(&mut self, made: &ChannelRecord) {
        let &ChannelRecord { channel: ChannelId(channel), first: LaneId(first_lane), lanes, .. } = made;
        let first_group = self.groups.len() as u32;
        let count = made.groups.len() as u32;
        self.groups.extend((0..count).map(|place| Group {
            channel,
            place,
            members: Vec::new(),
            ring: VecDeque::new(),
            heir: 0,
            orphans: VecDeque::new(),
            breaker: Breaker::new(self.options.breaker),
        }));
        self.lanes.extend((0..lanes).map(|_| Lane {
            channel,
            end: 0,
            base: 0,
            index: VecDeque::new(),
            line: VecDeque::new(),
            active: vec![NOBODY; count as usize],
            recorded: vec![0; count as usize],
            touched: false,
            gone: false,
        }));
        self.channels.push(Channel {
            name: made.name.clone(),
            first_lane,
            lanes,
            groups: (first_group..first_group + count).collect(),
            group_names: made.groups.clone(),
            turn: 0,
            requests: Requests::new(count as usize),
            gone: false,
        });
    }

    /// Removes a service: what is not answered fails, what is answered and not served is dropped.
    pub(super) fn delete(&mut self, now: Time, slot: u32, token: Token, channel: ChannelId, out: &mut Effects) {
        let number = self.peers.get(slot).number;
        let (first, lanes) = match self.existing(slot, channel) {
            Ok(channel) => (channel.first_lane, channel.lanes),
            Err(refusal) => {
                out.outcomes.push((number, refused(token, refusal)));
                return;
            }
        };
        let groups = self.channels[channel.0 as usize].groups.clone();
        for &group in &groups {
            self.groups[group as usize].orphans.clear();
            for member in self.groups[group as usize].members.clone() {
                self.peers.get_mut(member).ready.retain(|queued| queued.group != group);
            }
        }
        let outcome = Outcome { token, status: Status::Done, lane: LaneId(first), position: u64::from(channel.0) };
        self.store_record(slot, Record::ChannelGone(channel), outcome, out);
        for lane in first..first + lanes {
            for at in 0..self.lanes[lane as usize].index.len() {
                let id = self.lanes[lane as usize].index[at];
                if id != NONE {
                    self.abandon(now, channel.0, id, out);
                }
            }
            let entry = &mut self.lanes[lane as usize];
            entry.gone = true;
            entry.line.clear();
            out.writes.push(Write::Trim { lane: LaneId(lane), below: entry.end });
        }
        self.drop_strays_of(channel.0);
        self.channels[channel.0 as usize].gone = true;
    }

    /// Ends a request whose service goes away.
    fn abandon(&mut self, now: Time, channel: u32, id: u32, out: &mut Effects) {
        let request = self.channels[channel as usize].requests.get(id);
        match (request.stage, request.stored) {
            (Stage::Answered, _) => {}
            (Stage::Ended, _) => return,
            (Stage::Serving | Stage::Waiting, true) => return self.end_unanswered(now, channel, id, out),
            (Stage::Serving | Stage::Waiting | Stage::Storing | Stage::Free, _) => {
                return self.fail(now, channel, id, Failure::NoReceiver, out);
            }
        }
        for place in 0..self.channels[channel as usize].groups.len() as u32 {
            let leg = *self.channels[channel as usize].requests.leg(id, place);
            if leg.member != NOBODY && leg.stage != LegStage::Settled {
                self.free_place(leg.member);
            }
        }
        self.drop_request(channel, id);
    }

    pub(super) fn describe(&mut self, slot: u32, token: Token, channel: ChannelId, out: &mut Effects) {
        let number = self.peers.get(slot).number;
        let entry = match self.existing(slot, channel) {
            Ok(entry) => entry,
            Err(refusal) => {
                out.outcomes.push((number, refused(token, refusal)));
                return;
            }
        };
        let mut description = Description::default();
        for lane in entry.first_lane..entry.first_lane + entry.lanes {
            for place in 0..entry.groups.len() as u32 {
                description.lanes.push(self.lane_state(entry, lane, place));
            }
        }
        let settings = self.settings.0.iter().map(|setting| (setting.name.clone(), setting.value.clone()));
        description.settings = settings.collect();
        for (name, &group) in entry.group_names.iter().zip(&entry.groups) {
            let state = match self.groups[group as usize].breaker.state() {
                BreakerState::Closed => "closed",
                BreakerState::Open { .. } => "open",
                BreakerState::HalfOpen { .. } => "half-open",
            };
            description.settings.push((format!("circuit-breaker of {name}"), state.to_owned()));
        }
        self.describe_tries(&mut description);
        out.answers.push((number, token, Answer::Description(description)));
    }

    fn lane_state(&self, channel: &Channel, number: u32, place: u32) -> LaneState {
        let lane = &self.lanes[number as usize];
        let mut state = LaneState {
            lane: LaneId(number),
            group: place,
            end: lane.end,
            committed: lane.end,
            ..LaneState::default()
        };
        for (at, &id) in lane.index.iter().enumerate().filter(|(_, id)| **id != NONE) {
            match channel.requests.leg(id, place).stage {
                LegStage::Unplaced | LegStage::Placed => state.ready += 1,
                LegStage::InWork => state.in_flight += 1,
                LegStage::Settled => continue,
            }
            state.committed = state.committed.min(lane.base + at as u64);
        }
        state
    }
}
