//! Splits and merges, the plain way: every lane has its two hashes and knows whose keys it took over.
//!
//! Leaves out how a model finds the lane of a key.

use super::{Cursor, Expected, Fate, Lane, Reference};
use crate::batch::{ChannelId, LaneId, Token};
use crate::completion::Refusal;
use crate::contract::Order;
use crate::machine::{Record, Reshape, ReshapeRecord, Write};
use crate::time::Time;

impl Reference {
    /// Another lane, which no group has read.
    pub(super) fn add_lane(&mut self, lane: Lane) -> u32 {
        let number = self.lanes.len() as u32;
        for group in 0..self.channels[lane.channel].groups.len() as u32 {
            self.cursors.insert((number, group), Cursor::default());
        }
        self.lanes.push(lane);
        number
    }

    /// A lane that may be split or merged.
    fn reshapable(&self, lane: LaneId) -> Result<&Lane, Refusal> {
        if !self.rules.splits() {
            return Err(Refusal::Unsupported);
        }
        let known = self.lanes.get(lane.0 as usize).ok_or(Refusal::NoSuchLane)?;
        if self.channels[known.channel].gone {
            return Err(Refusal::NoSuchLane);
        }
        if known.closed || self.contract.order == Order::Total { Err(Refusal::OutOfRange) } else { Ok(known) }
    }

    pub(super) fn split(
        &mut self,
        client: u32,
        token: Token,
        lane: LaneId,
        at: Option<u128>,
        expected: &mut Expected,
    ) -> Result<(), Refusal> {
        self.reshapable(lane)?;
        let (channel, made, change) = self.divide(lane, at)?;
        expected.wrote(channel, made, change);
        self.wait_for_record(client, token, (LaneId(made), 0), expected);
        Ok(())
    }

    /// Splits the shards that took too much, in on-demand mode. Nobody asked for it, so nobody is told.
    pub(super) fn scale(&mut self, now: Time, expected: &mut Expected) {
        for shard in self.rules.too_full(now) {
            let lane = &self.lanes[shard as usize];
            if lane.closed || self.channels[lane.channel].gone || self.contract.order == Order::Total {
                continue;
            }
            if let Ok((channel, made, change)) = self.divide(LaneId(shard), None) {
                expected.wrote(channel, made, change);
            }
        }
    }

    /// Whether so many lanes more are within the quota, of which those that take nothing more are none.
    pub(super) fn has_room(&self, lanes: u32) -> Result<(), Refusal> {
        let open = self.lanes.iter().filter(|lane| !lane.closed).count();
        if open + lanes as usize <= self.rules.most_lanes() as usize { Ok(()) } else { Err(Refusal::TooManyLanes) }
    }

    fn divide(&mut self, lane: LaneId, at: Option<u128>) -> Result<(usize, u32, Reshape), Refusal> {
        self.has_room(1)?;
        let &Lane { channel, hashes: (first, last), .. } = &self.lanes[lane.0 as usize];
        // The mean of both hashes, rounded up.
        let at = at.unwrap_or(first / 2 + last / 2 + u128::from(first % 2 == 1 || last % 2 == 1));
        if at <= first || at > last {
            return Err(Refusal::OutOfRange);
        }
        self.lanes[lane.0 as usize].closed = true;
        let made = self.add_lane(Lane::new(channel, (first, at - 1), vec![lane.0]));
        self.add_lane(Lane::new(channel, (at, last), vec![lane.0]));
        Ok((channel, made, Reshape::Split { lane, at }))
    }

    pub(super) fn merge(
        &mut self,
        client: u32,
        token: Token,
        lane: LaneId,
        with: LaneId,
        expected: &mut Expected,
    ) -> Result<(), Refusal> {
        let (one, other) = (self.reshapable(lane)?, self.reshapable(with)?);
        let follows = |low: &Lane, high: &Lane| low.hashes.1.checked_add(1) == Some(high.hashes.0);
        let (channel, same) = (one.channel, one.channel == other.channel);
        let (low, high) = match (same && follows(one, other), same && follows(other, one)) {
            (true, _) => (lane, with),
            (false, true) => (with, lane),
            (false, false) => return Err(Refusal::OutOfRange),
        };
        let hashes = (self.lanes[low.0 as usize].hashes.0, self.lanes[high.0 as usize].hashes.1);
        self.lanes[low.0 as usize].closed = true;
        self.lanes[high.0 as usize].closed = true;
        let made = self.add_lane(Lane::new(channel, hashes, vec![low.0, high.0]));
        expected.wrote(channel, made, Reshape::Merge { lane: low, with: high });
        self.wait_for_record(client, token, (LaneId(made), 0), expected);
        Ok(())
    }

    /// Whether a group has nothing left to read in a lane that takes nothing more, and has committed all of it.
    pub(super) fn is_finished(&self, lane: u32, group: u32) -> bool {
        let (known, cursor) = (&self.lanes[lane as usize], &self.cursors[&(lane, group)]);
        let left = (0..).zip(&known.messages).any(|(position, &(_, fate))| match fate {
            Fate::Pending => true,
            Fate::Stored => position >= known.start && position >= cursor.committed,
            Fate::Failed | Fate::LeftOut => false,
        });
        known.closed && !left
    }

    /// Whether a group has finished all lanes whose keys a lane took over, and those whose keys these took over. What it committed
    /// something of, it was given after it had finished everything before: a message there that failed to be stored and is there again after a crash changes
    /// nothing of that.
    pub(super) fn may_be_read(&self, lane: u32, group: u32) -> bool {
        let was_read = |parent: u32| self.cursors[&(parent, group)].committed > 0;
        let before = &self.lanes[lane as usize].parents;
        before
            .iter()
            .all(|&parent| self.is_finished(parent, group) && (was_read(parent) || self.may_be_read(parent, group)))
    }

    /// The channel of a lane.
    #[cfg(test)]
    pub(crate) fn channel_of(&self, lane: LaneId) -> usize {
        self.lanes[lane.0 as usize].channel
    }
}

impl Expected {
    fn wrote(&mut self, channel: usize, made: u32, change: Reshape) {
        let made = ReshapeRecord { channel: ChannelId(channel as u32), first: LaneId(made), change };
        self.writes.push(Write::Record(Record::Reshaped(Box::new(made))));
    }
}
