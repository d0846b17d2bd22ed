//! Lanes that are split and merged: the old ones take nothing more, new ones take their keys, and each group reads the old ones to
//! their end first.
//!
//! A new lane is assigned in a group once that group has committed everything in the lanes before it, so that what has one key is
//! read in the order in which it was written. A lane that was read to its end stays with its owner, who may still settle and
//! seek in it, and goes to nobody else. Leaves out which keys a lane takes: the model knows.

use std::collections::BTreeSet;

use super::lane::{Lane, NOBODY};
use super::{Part, Source, Stream};
use crate::batch::{ChannelId, LaneId, Token};
use crate::completion::{Outcome, Refusal, Status};
use crate::lane_room::LaneRoom;
use crate::machine::{Effects, Record, ReshapeRecord, Write};
use crate::time::Time;

impl Stream {
    /// Whether `client` may make, split and merge.
    pub(crate) fn administers(&self, client: u32) -> Result<(), Refusal> {
        match self.client(client)?.part {
            Part::Administrator => Ok(()),
            Part::Producer | Part::Member(_) => Err(Refusal::WrongRole),
        }
    }

    /// The channel of a lane that may be split or merged.
    pub(crate) fn reshapable(&self, lane: LaneId) -> Result<ChannelId, Refusal> {
        let at = self.lanes.get(lane.0 as usize).ok_or(Refusal::NoSuchLane)?;
        let channel = ChannelId(at.channel);
        self.channel(channel).ok_or(Refusal::NoSuchLane)?;
        if at.is_closed() || self.config.single_lane { Err(Refusal::OutOfRange) } else { Ok(channel) }
    }

    /// How many lanes may still be made. Those that take nothing more are no lanes of a quota, but groups keep their places in them.
    pub(crate) fn lane_room(&self) -> LaneRoom {
        let places = self.channels.iter().map(|of| (of.lanes as usize + of.later.len()) * of.groups.len()).sum();
        LaneRoom::beside(self.config.max_lanes, self.lanes.len() - self.closed as usize, places)
    }

    /// Whether a lane may be split: one lane more, and two more places for each group.
    pub(crate) fn may_split(&self, channel: ChannelId) -> Result<(), Refusal> {
        let room = self.lane_room();
        room.takes(1, 2 * self.channel(channel).map_or(0, |of| of.groups.len()))
    }

    /// The number of the next lane.
    pub(crate) fn next_lane(&self) -> LaneId {
        LaneId(self.lanes.len() as u32)
    }

    /// Splits or merges lanes that may be: as an administrator asked with this token, or by itself.
    pub(crate) fn reshape(&mut self, now: Time, made: ReshapeRecord, asked: Option<(u32, Token)>, out: &mut Effects) {
        self.make_children(now, &made);
        let record = Record::Reshaped(Box::new(made));
        match asked {
            Some((client, token)) => {
                let outcome = Outcome { token, status: Status::Done, lane: made.first, position: 0 };
                self.store_record(client, record, outcome, out);
            }
            None => out.writes.push(Write::Record(record)),
        }
        for parent in made.parents() {
            self.note_drained(parent.0);
        }
        self.serve(now, out);
    }

    /// Closes the parents and makes their children; where a journal is taken over, in the place that was kept for them.
    pub(super) fn make_children(&mut self, now: Time, made: &ReshapeRecord) {
        let mut parents = [NOBODY; 2];
        for (known, parent) in parents.iter_mut().zip(made.parents()) {
            *known = parent.0;
            self.lanes[parent.0 as usize].children = made.children();
            self.closed += 1;
        }
        let groups = self.channels[made.channel.0 as usize].groups.len();
        let cursors = vec![self.new_cursor(now); groups];
        for number in made.children() {
            let lane = Lane { parents, ..Lane::new(made.channel.0, cursors.clone(), self.config.index_entries) };
            match self.lanes.get_mut(number as usize) {
                Some(place) => *place = lane,
                None => self.lanes.push(lane),
            }
            self.channels[made.channel.0 as usize].later.push(number);
        }
    }

    /// Something of a lane that takes nothing more was committed or is no longer kept, for any group.
    pub(super) fn note_drained(&mut self, lane: u32) {
        let slots = self.lanes[lane as usize].cursors.len() as u32;
        self.drained.extend((0..slots).map(|slot| (lane, slot)));
    }

    /// Whether a lane may be assigned to members of the group: it was not read to its end, and those before it were.
    pub(super) fn is_readable(&self, (lane, slot): Source) -> bool {
        !self.lanes[lane as usize].is_finished(slot) && self.may_follow(lane, slot)
    }

    /// Whether the group has read every lane before this one to its end. One of which it committed nothing says
    /// nothing of those before it: it may have been split again while it was empty.
    fn may_follow(&self, lane: u32, slot: u32) -> bool {
        let mut open = vec![lane];
        // Two of which one was split share their past: each lane of it is looked at once.
        let mut seen = BTreeSet::new();
        while let Some(lane) = open.pop() {
            for &parent in self.lanes[lane as usize].parents.iter().filter(|&&parent| parent != NOBODY) {
                let at = &self.lanes[parent as usize];
                if !at.is_finished(slot) {
                    return false;
                }
                if at.cursors[slot as usize].committed == 0 && seen.insert(parent) {
                    open.push(parent);
                }
            }
        }
        true
    }

    /// Shares lanes out anew in groups that have read one to its end.
    pub(super) fn open_children(&mut self, out: &mut Effects) {
        if self.drained.is_empty() {
            return;
        }
        let mut groups: Vec<u32> = Vec::new();
        for (lane, slot) in std::mem::take(&mut self.drained) {
            let at = &self.lanes[lane as usize];
            if at.is_finished(slot) {
                groups.push(self.channels[at.channel as usize].groups[slot as usize]);
            }
        }
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            self.rebalance(group, out);
        }
    }
}
