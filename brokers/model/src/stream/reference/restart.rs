//! A restart, the plain way: everything is set anew from what a journal says.
//!
//! Leaves out how that is read off the journal, which is the trials' own.

use std::collections::BTreeSet;

use super::compaction::Said;
use super::{Channel, Cursor, Fate, Lane, Reference};
use crate::batch::{ChannelId, LaneId};
use crate::machine::Reshape;
use crate::shard::hash_range::HashRanges;
use crate::time::Time;
use crate::trial::crash::Known;

impl Reference {
    /// All clients are gone, and what is known is all there is. What was acknowledged and is kept must be among it.
    pub(crate) fn restarted(&mut self, now: Time, known: &Known) {
        for (number, channel) in
            (0u32..).zip(&self.channels).filter(|(_, channel)| channel.acknowledged && !channel.gone)
        {
            let there = matches!(known.channels.get(&number), Some(Some(_)));
            assert!(there, "channel {number}, {:?}, was acknowledged", channel.name);
        }
        for (number, lane) in (0u32..).zip(&self.lanes) {
            let gone = matches!(known.channels.get(&(lane.channel as u32)), None | Some(None));
            let kept = (lane.start..).zip(lane.messages.iter().skip(lane.start as usize));
            for (position, _) in kept.filter(|(_, message)| message.1 == Fate::Stored && !gone) {
                assert!(
                    known.messages.contains_key(&(number, position)),
                    "{position} of lane {number} was acknowledged"
                );
            }
        }
        self.held_over_a_crash(&known.provisional, |lane, position| known.messages.contains_key(&(lane, position)));
        self.transactions.clear();
        self.names.clear();
        self.fenced.clear();
        self.clients.clear();
        self.waiting.clear();
        self.records.clear();
        self.flushes.clear();
        self.disturbed.clear();
        self.cursors.clear();
        self.next_ticket = 0;
        self.rules.restarted();
        self.compacts = true;
        let (channels, lanes) = known.given_out;
        let nobody =
            || Channel { name: String::new(), groups: Vec::new(), gone: true, made_by: u64::MAX, acknowledged: false };
        self.channels = (0..channels).map(|_| nobody()).collect();
        let gone = (0..channels).find(|number| !matches!(known.channels.get(number), Some(Some(_)))).unwrap_or(0);
        self.lanes = (0..lanes).map(|number| self.lane_of(known, number, gone as usize)).collect();
        for (&channel, made) in &known.channels {
            let Some(made) = made else { continue };
            let (name, groups) = (made.name.clone(), made.groups.clone());
            self.channels[channel as usize] =
                Channel { name, groups, gone: false, made_by: u64::MAX, acknowledged: true };
            let ranges = HashRanges::even(made.lanes);
            for lane in 0..made.lanes {
                self.place_lane(known, made.first.0 + lane, made.channel, ranges.bounds(lane), Vec::new());
            }
        }
        for made in known.reshapes.values() {
            if self.channels[made.channel.0 as usize].gone {
                continue;
            }
            let hashes = |lane: LaneId| self.lanes[lane.0 as usize].hashes;
            let ranges = match made.change {
                Reshape::Split { lane, at } => vec![(hashes(lane).0, at - 1), (at, hashes(lane).1)],
                Reshape::Merge { lane, with } => vec![(hashes(lane).0, hashes(with).1)],
            };
            let parents: Vec<u32> = made.parents().map(|lane| lane.0).collect();
            for &parent in &parents {
                self.lanes[parent as usize].closed = true;
            }
            for (lane, hashes) in made.children().zip(ranges) {
                self.place_lane(known, lane, made.channel, hashes, parents.clone());
            }
        }
        self.rules.begin(now, self.lanes.len());
        self.restart_identities(now, known);
    }

    /// A lane of which nothing is known but what stands in it.
    fn lane_of(&self, known: &Known, number: u32, channel: usize) -> Lane {
        let hides = self.rules.transactions(self.contract.delivery).is_some_and(|(_, read_committed)| read_committed);
        let aborted: BTreeSet<u64> =
            known.provisional.range((number, 0)..(number + 1, 0)).map(|&(_, position)| position).collect();
        Lane {
            messages: messages(known, number),
            // What compaction has left out does not move a lane's beginning.
            start: if self.rules.compaction().is_some() { 0 } else { known.start(number) },
            taken_back: if hides { aborted.clone() } else { BTreeSet::new() },
            aborted,
            said: said(known, number),
            ..Lane::new(channel, (0, 0), Vec::new())
        }
    }

    /// A lane of a channel that is there.
    fn place_lane(&mut self, known: &Known, lane: u32, of: ChannelId, hashes: (u128, u128), parents: Vec<u32>) {
        let place = &mut self.lanes[lane as usize];
        (place.channel, place.hashes, place.parents) = (of.0 as usize, hashes, parents);
        for group in 0..self.channels[of.0 as usize].groups.len() as u32 {
            self.cursors.insert((lane, group), self.cursor(known, lane, group));
        }
    }

    /// A group reads on from where it had committed. All that is there may have been delivered, unless deliveries are
    /// committed first.
    fn cursor(&self, known: &Known, lane: u32, group: u32) -> Cursor {
        let committed = known.committed.get(&(lane, group)).copied().unwrap_or(0);
        let highest = if self.commits_first() { committed } else { known.end(lane) };
        Cursor { position: committed, committed, highest, ..Cursor::default() }
    }
}

fn said(known: &Known, lane: u32) -> Vec<Said> {
    let of = |message: &crate::trial::crash::Said| Said {
        key: message.key.clone(),
        is_tombstone: message.bytes as usize == message.key.len() + message.headers.len(),
    };
    (0..known.end(lane)).map(|position| known.messages.get(&(lane, position)).map(of).unwrap_or_default()).collect()
}

fn messages(known: &Known, lane: u32) -> Vec<(Time, Fate)> {
    let missing = (Time::ZERO, Fate::Failed);
    let message = |position| known.messages.get(&(lane, position)).map_or(missing, |said| (said.written, Fate::Stored));
    (0..known.end(lane)).map(message).collect()
}
