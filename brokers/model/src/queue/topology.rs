//! The administrator's part: exchanges and their queues are made, removed and described.
//!
//! Leaves out members, which join when they connect.

use crate::batch::{ChannelId, ChannelSpec, LaneId, Token};
use crate::completion::{Answer, Description, LaneState, Outcome, Refusal, Status};
use crate::machine::{ChannelRecord, Effects, Record, Write};
use crate::queue::QueueModel;
use crate::queue::backlog::Backlog;
use crate::queue::clients::Part;
use crate::queue::publish::refused;
use crate::queue::{Channel, Group, Lane};

impl QueueModel {
    /// Why an administrator's command is refused, if it is.
    fn administrator(&self, slot: u32) -> Result<(), Refusal> {
        if self.clients.get(slot).part == Part::Administrator { Ok(()) } else { Err(Refusal::WrongRole) }
    }

    fn existing(&self, channel: ChannelId) -> Result<&Channel, Refusal> {
        self.channels.get(channel.0 as usize).filter(|channel| !channel.gone).ok_or(Refusal::NoSuchLane)
    }

    pub(super) fn create(&mut self, slot: u32, token: Token, spec: &ChannelSpec, out: &mut Effects) {
        let exists = self.channels.iter().any(|channel| !channel.gone && channel.name == spec.name);
        let refusal = match self.administrator(slot) {
            Err(refusal) => Some(refusal),
            Ok(()) if exists => Some(Refusal::Exists),
            Ok(()) => (!spec.is_in_bounds()).then_some(Refusal::OutOfRange),
        };
        if let Some(refusal) = refusal {
            out.outcomes.push((self.clients.get(slot).number, refused(token, refusal)));
            return;
        }
        let made = ChannelRecord {
            channel: ChannelId(self.channels.len() as u32),
            first: LaneId(self.lanes.len() as u32),
            lanes: spec.lanes,
            name: spec.name.clone(),
            groups: spec.distinct_groups(),
        };
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
            self.backlogs.extend((0..count).map(|_| Backlog::default()));
            self.lanes.push(Lane {
                channel: number,
                first_queue,
                end: 0,
                stored: 0,
                trimmed: 0,
                holes: Vec::new(),
                grown: false,
                gone: false,
            });
        }
        self.channels.push(Channel {
            name: made.name.clone(),
            first_lane,
            lanes,
            groups: (first_group..first_group + count).collect(),
            group_names: made.groups.clone(),
            turn: 0,
            gone: false,
        });
    }

    pub(super) fn delete(&mut self, slot: u32, token: Token, channel: ChannelId, out: &mut Effects) {
        let allowed = self.administrator(slot).and_then(|()| self.existing(channel).map(|_| ()));
        if let Err(refusal) = allowed {
            out.outcomes.push((self.clients.get(slot).number, refused(token, refusal)));
            return;
        }
        let entry = &mut self.channels[channel.0 as usize];
        entry.gone = true;
        let (first, lanes) = (entry.first_lane, entry.lanes);
        let groups = std::mem::take(&mut entry.groups);
        out.writes.push(Write::Record(Record::ChannelGone(channel)));
        for lane in first..first + lanes {
            for &group in &groups {
                self.empty_queue(lane, group);
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
    fn empty_queue(&mut self, lane: u32, group: u32) {
        let queue = self.queue_of(lane, group);
        for member in self.groups[group as usize].members.clone() {
            let released = self.backlogs[queue].release(member, &mut self.scratch);
            let client = self.clients.get_mut(member);
            client.in_flight -= released as u32;
            if self.backlogs[queue].active == member {
                client.active -= 1;
            }
            self.wait(member);
        }
        self.backlogs[queue] = Backlog::default();
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
        let mut dropped = 0;
        for lane in entry.first_lane..entry.first_lane + entry.lanes {
            for &group in &entry.groups {
                let queue = self.queue_of(lane, group);
                let backlog = &self.backlogs[queue];
                dropped += backlog.dropped;
                description.lanes.push(LaneState {
                    lane: LaneId(lane),
                    group: self.groups[group as usize].place,
                    end: self.lanes[lane as usize].end,
                    committed: backlog.head(),
                    ready: self.ready(lane, queue),
                    in_flight: backlog.in_flight(),
                });
            }
        }
        let settings = self.settings.0.iter().map(|setting| (setting.name.clone(), setting.value.clone()));
        description.settings = settings.collect();
        description.settings.push(("dropped".to_owned(), dropped.to_string()));
        out.answers.push((number, token, Answer::Description(description)));
    }
}
