//! The administrator's part: exchanges and their queues are made, removed and described.
//!
//! Leaves out members, which join when they connect.

use crate::batch::{ChannelId, ChannelSpec, LaneId, Token};
use crate::completion::{Answer, Description, GivenUp, LaneState, Outcome, Refusal, Status};
use crate::lane_room::{LANES_MAX, LaneRoom};
use crate::machine::{ChannelRecord, Effects, Record, Write};
use crate::queue::backlog::Backlog;
use crate::queue::clients::Part;
use crate::queue::publish::refused;
use crate::queue::{Channel, DeadLetter, Group, Lane, QueueModel};
use crate::time::{Span, Time};

impl QueueModel {
    /// Why an administrator's command is refused, if it is.
    fn administrator(&self, slot: u32) -> Result<(), Refusal> {
        if self.clients.get(slot).part == Part::Administrator { Ok(()) } else { Err(Refusal::WrongRole) }
    }

    fn existing(&self, channel: ChannelId) -> Result<&Channel, Refusal> {
        self.channels.get(channel.0 as usize).filter(|channel| !channel.gone).ok_or(Refusal::NoSuchLane)
    }

    /// Why a channel can't take the dead letters that it was asked to take.
    fn takes_letters(&self, spec: &ChannelSpec) -> Result<(), Refusal> {
        let Some(of) = spec.dead_letters_of else { return Ok(()) };
        if !self.keeps_letters() || !spec.bindings.is_empty() {
            return Err(Refusal::Unsupported);
        }
        let of = self.existing(of)?;
        if of.dead_letters_of.is_some() {
            // A dead letter does not die again.
            return Err(Refusal::Unsupported);
        }
        if of.dead_letters_to.is_some() { Err(Refusal::Exists) } else { Ok(()) }
    }

    /// Whether there is room for a channel's queues.
    fn has_lanes(&self, spec: &ChannelSpec) -> Result<(), Refusal> {
        let room = LaneRoom::beside(LANES_MAX, self.lanes.len(), self.backlogs.len());
        room.takes(spec.lanes, spec.distinct_groups().len())
    }

    pub(super) fn create(&mut self, slot: u32, token: Token, spec: &ChannelSpec, out: &mut Effects) {
        let exists = self.channels.iter().any(|channel| !channel.gone && channel.name == spec.name);
        let refusal = match self.administrator(slot) {
            Err(refusal) => Some(refusal),
            Ok(()) if exists => Some(Refusal::Exists),
            Ok(()) if !spec.is_in_bounds() => Some(Refusal::OutOfRange),
            Ok(()) => self.takes_letters(spec).and_then(|()| self.has_lanes(spec)).err(),
        };
        if let Some(refusal) = refusal {
            out.outcomes.push((self.clients.get(slot).number, refused(token, refusal)));
            return;
        }
        let made = ChannelRecord::new(spec, self.channels.len(), self.lanes.len());
        self.add_channel(&made);
        let outcome = Outcome { token, status: Status::Done, lane: made.first, position: u64::from(made.channel.0) };
        out.writes.push(Write::Record(Record::Channel(Box::new(made))));
        self.store_record(slot, outcome, out);
    }

    /// Makes the next channel, with the next lanes.
    pub(super) fn add_channel(&mut self, made: &ChannelRecord) {
        let &ChannelRecord { channel: ChannelId(number), first: LaneId(first_lane), lanes, .. } = made;
        let first_group = self.groups.len() as u32;
        let count = made.groups.len() as u32;
        self.groups.extend((0..count).map(|place| Group {
            channel: number,
            place,
            first_lane,
            lanes,
            members: Vec::new(),
            waiting: std::collections::VecDeque::new(),
            ready: std::collections::VecDeque::new(),
            dirty: false,
        }));
        for _ in 0..lanes {
            let first_queue = self.backlogs.len() as u32;
            let shape = self.shape();
            self.backlogs.extend((0..count).map(|_| Backlog::new(shape)));
            let holds_back = self.options.delay > Span::ZERO && made.dead_letters_of.is_none();
            let visible = if holds_back { 0 } else { u64::MAX };
            self.lanes.push(Lane { channel: number, visible, ..Lane::new(first_queue) });
        }
        let place = |group: &String| made.groups.iter().position(|name| name == group).unwrap_or_default() as u32;
        let bindings = made.bindings.iter().map(|of| (place(&of.group), of.pattern.clone())).collect();
        self.channels.push(Channel {
            name: made.name.clone(),
            first_lane,
            lanes,
            groups: (first_group..first_group + count).collect(),
            group_names: made.groups.clone(),
            bindings,
            dead_letters_of: made.dead_letters_of.map(|of| of.0),
            ..Channel::default()
        });
        let source = made.dead_letters_of.and_then(|of| self.channels.get_mut(of.0 as usize));
        if let Some(source) = source.filter(|source| !source.gone) {
            source.dead_letters_to = Some(number);
        }
    }

    pub(super) fn delete(&mut self, now: Time, slot: u32, token: Token, channel: ChannelId, out: &mut Effects) {
        let allowed = self.administrator(slot).and_then(|()| self.existing(channel).map(|_| ()));
        if let Err(refusal) = allowed {
            out.outcomes.push((self.clients.get(slot).number, refused(token, refusal)));
            return;
        }
        let source = self.channels[channel.0 as usize].dead_letters_of;
        if let Some(source) = source.and_then(|of| self.channels.get_mut(of as usize)) {
            source.dead_letters_to = None;
        }
        let entry = &mut self.channels[channel.0 as usize];
        entry.gone = true;
        let (first, lanes) = (entry.first_lane, entry.lanes);
        let groups = std::mem::take(&mut entry.groups);
        out.writes.push(Write::Record(Record::ChannelGone(channel)));
        for lane in first..first + lanes {
            for &group in &groups {
                self.empty_queue(now, lane, group);
            }
            let entry = &mut self.lanes[lane as usize];
            entry.gone = true;
            entry.trimmed = entry.end;
            out.writes.push(Write::Trim { lane: LaneId(lane), below: entry.end });
        }
        for group in groups {
            self.groups[group as usize].ready.clear();
        }
        let outcome = Outcome { token, status: Status::Done, lane: LaneId(first), position: u64::from(channel.0) };
        self.store_record(slot, outcome, out);
    }

    /// Forgets a queue; what its members hold of it counts no longer.
    fn empty_queue(&mut self, now: Time, lane: u32, group: u32) {
        let queue = self.queue_of(lane, group);
        for member in self.groups[group as usize].members.clone() {
            let terms = self.terms(now, lane);
            let released = self.backlogs[queue].release(member, terms, &mut self.scratch, &mut self.graves);
            self.graves.clear();
            let client = self.clients.get_mut(member);
            client.in_flight -= released as u32;
            if self.backlogs[queue].active == member {
                client.active -= 1;
            }
            self.wait(member);
        }
        self.backlogs[queue] = Backlog::new(self.shape());
    }

    pub(super) fn describe(&mut self, slot: u32, token: Token, channel: ChannelId, out: &mut Effects) {
        let number = self.clients.get(slot).number;
        let found = self.administrator(slot).and_then(|()| self.existing(channel).cloned());
        let entry = match found {
            Ok(entry) => entry,
            Err(refusal) => {
                out.outcomes.push((number, refused(token, refusal)));
                return;
            }
        };
        let mut description = Description::default();
        let mut given_up = GivenUp::default();
        for lane in entry.first_lane..entry.first_lane + entry.lanes {
            for &group in &entry.groups {
                let state = self.lane_state(lane, group);
                given_up += state.given_up;
                description.lanes.push(state);
            }
        }
        let settings = self.settings.0.iter().map(|setting| (setting.name.clone(), setting.value.clone()));
        description.settings = settings.collect();
        let dropped = given_up.total() - given_up.dead_lettered;
        let counts = [
            ("dropped", dropped),
            ("dead-lettered", given_up.dead_lettered),
            ("rejected", given_up.rejected),
            ("over max-deliveries", given_up.exhausted),
            ("expired", given_up.expired),
            ("overflowed", given_up.overflowed),
        ];
        let counts = counts.into_iter().chain([("unroutable", entry.unroutable), ("repeated", entry.repeated)]);
        description.settings.extend(counts.map(|(name, count)| (name.to_owned(), count.to_string())));
        out.answers.push((number, token, Answer::Description(description)));
    }

    /// One queue. What is held back counts as ready: it waits.
    fn lane_state(&self, lane: u32, group: u32) -> LaneState {
        let entry = &self.lanes[lane as usize];
        let backlog = &self.backlogs[self.queue_of(lane, group)];
        let mut given_up = backlog.given_up;
        given_up.dead_lettered = match self.options.dead_letter {
            DeadLetter::Discard => 0,
            DeadLetter::Keep => given_up.total(),
            DeadLetter::Channel => backlog.deaths.lettered,
        };
        LaneState {
            lane: LaneId(lane),
            group: self.groups[group as usize].place,
            end: entry.end,
            committed: backlog.head(),
            ready: backlog.waiting(entry.stored, &entry.holes),
            in_flight: backlog.in_flight(),
            given_up,
        }
    }
}
