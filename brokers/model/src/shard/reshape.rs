//! Splitting and merging shards: which open shard takes which range of hashes, and what may be done to it.
//!
//! As SplitShard and MergeShards: the parent is closed and its range goes to new shards, each with limits of its own; two
//! shards are merged only if their ranges are neighbours. The service does it in the background (the stream is UPDATING for a
//! while, and takes one such call at a time); here it is done at once, so that one is never in the way of another. Leaves out
//! UpdateShardCount, which is a sequence of these.

use super::ShardModel;
use super::hash_range::HashRanges;
use super::options::ShardOptions;
use super::throttle::WriteLimits;
use crate::batch::{Control, LaneId, Token};
use crate::completion::{Refusal, Status};
use crate::journal::{Journal, JournalError};
use crate::machine::{Effects, Reshape, ReshapeRecord};
use crate::stream::ended;
use crate::time::Time;

/// A stream's open shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShardRanges {
    ranges: HashRanges,
    /// The shard of each range.
    shards: Vec<u32>,
}

impl ShardRanges {
    /// So many shards from `first` on share all hashes evenly.
    pub(super) fn even(first: u32, shards: u32) -> Self {
        Self { ranges: HashRanges::even(shards), shards: (first..first + shards.max(1)).collect() }
    }

    /// The shard that takes a hash.
    #[inline]
    pub(super) fn find(&self, hash: u128) -> u32 {
        self.shards[self.ranges.find(hash) as usize]
    }

    fn place(&self, shard: LaneId) -> Option<u32> {
        self.shards.iter().position(|&open| open == shard.0).map(|at| at as u32)
    }

    /// The first and the last hash that an open shard takes.
    fn bounds(&self, shard: LaneId) -> Option<(u128, u128)> {
        self.place(shard).map(|at| self.ranges.bounds(at))
    }

    /// Splits an open shard into the shards `first` and the next; the first hash of the second is returned.
    fn split(&mut self, shard: LaneId, at: Option<u128>, first: LaneId) -> Option<u128> {
        let place = self.place(shard)?;
        let at = self.ranges.split(place, at)?;
        self.shards.splice(place as usize..=place as usize, [first.0, first.0 + 1]);
        Some(at)
    }

    /// Merges two open shards with neighbouring ranges into the shard `first`; they are returned in the order of their ranges.
    fn merge(&mut self, one: LaneId, other: LaneId, first: LaneId) -> Option<(LaneId, LaneId)> {
        let (low, high) = (self.place(one)?, self.place(other)?);
        let (low, one, other) = if low < high { (low, one, other) } else { (high, other, one) };
        if low.abs_diff(self.place(other)?) != 1 {
            return None;
        }
        self.ranges.merge(low)?;
        self.shards.splice(low as usize..=low as usize + 1, [first.0]);
        Some((one, other))
    }
}

impl ShardModel {
    /// The first and the last hash of the keys that go to a shard, or nothing if it takes no records.
    pub fn hashes_of(&self, shard: LaneId) -> Option<(u128, u128)> {
        self.ranges.iter().flatten().find_map(|stream| stream.bounds(shard))
    }

    /// Splits or merges as the administrator asks.
    pub(super) fn reshape(&mut self, now: Time, client: u32, token: Token, control: &Control, out: &mut Effects) {
        let made = self.stream.administers(client).and_then(|()| match *control {
            _ if self.options.on_demand.is_some() => Err(Refusal::Unsupported),
            Control::Split { lane, at } => self.split(lane, at),
            Control::Merge { lane, with } => self.merge(lane, with),
            Control::Grant(_)
            | Control::Seek { .. }
            | Control::Position(_)
            | Control::Flush
            | Control::Release(_)
            | Control::Close
            | Control::Create(_)
            | Control::Delete(_)
            | Control::Describe(_)
            | Control::Transaction(_) => Err(Refusal::Unsupported),
        });
        match made {
            Ok(made) => self.make(now, made, Some((client, token)), out),
            Err(refusal) => out.outcomes.push(ended(client, token, Status::Refused(refusal))),
        }
    }

    /// Has the stream make new shards, with limits of their own.
    pub(super) fn make(&mut self, now: Time, made: ReshapeRecord, asked: Option<(u32, Token)>, out: &mut Effects) {
        self.limits.resize(made.children().end as usize, self.new_limits(now));
        self.stream.reshape(now, made, asked, out);
    }

    /// Splits a shard's range, if there is room for another shard.
    pub(super) fn split(&mut self, shard: LaneId, at: Option<u128>) -> Result<ReshapeRecord, Refusal> {
        let channel = self.stream.reshapable(shard)?;
        self.stream.may_split(channel)?;
        let first = self.stream.next_lane();
        let ranges = self.ranges[channel.0 as usize].as_mut().ok_or(Refusal::OutOfRange)?;
        let at = ranges.split(shard, at, first).ok_or(Refusal::OutOfRange)?;
        Ok(ReshapeRecord { channel, first, change: Reshape::Split { lane: shard, at } })
    }

    fn merge(&mut self, one: LaneId, other: LaneId) -> Result<ReshapeRecord, Refusal> {
        let channel = self.stream.reshapable(one)?;
        let (same, first) = (self.stream.reshapable(other)? == channel, self.stream.next_lane());
        let ranges = self.ranges[channel.0 as usize].as_mut().filter(|_| same).ok_or(Refusal::OutOfRange)?;
        let (lane, with) = ranges.merge(one, other, first).ok_or(Refusal::OutOfRange)?;
        Ok(ReshapeRecord { channel, first, change: Reshape::Merge { lane, with } })
    }

    /// The limits of a shard that begins.
    pub(super) fn new_limits(&self, now: Time) -> WriteLimits {
        let ShardOptions { write_records_per_s, write_bytes_per_s, initial_credit, .. } = self.options;
        WriteLimits::with(write_records_per_s, write_bytes_per_s, initial_credit, now)
    }

    /// Does again to the ranges what a journal says was done to them.
    pub(super) fn reshape_again(&mut self, now: Time, journal: &Journal) -> Result<(), JournalError> {
        for made in journal.reshapes() {
            let ranges = self.ranges[made.channel.0 as usize].as_mut();
            let done = ranges.and_then(|ranges| match made.change {
                Reshape::Split { lane, at } => ranges.split(lane, Some(at), made.first).map(|_| ()),
                Reshape::Merge { lane, with } => {
                    ranges.merge(lane, with, made.first).filter(|&(low, _)| low == lane).map(|_| ())
                }
            });
            done.ok_or(JournalError::Channel(made.channel.0))?;
        }
        self.limits.resize(journal.lane_count() as usize, self.new_limits(now));
        Ok(())
    }
}
