//! The way out: stable messages go to the members that hold the lanes, against credit, as runs of positions.
//!
//! The work is proportional to what is delivered: a lane stands in its owner's list only while it may have something to read, and
//! a member in the stream's list only while it also has credit. Leaves out bytes; the storage below reads them.

use super::lane::Lane;
use super::reads::allowed;
use super::{Part, Source, Stream, StreamConfig, ended};
use crate::batch::{ChannelId, LaneId, Receipt};
use crate::completion::Status;
use crate::machine::{Deliver, Effects, Record, Write};
use crate::time::Time;

/// What is left in a lane after a run was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing stable.
    Nothing,
    /// More.
    More,
    /// More, which the read limit allows from then on.
    MoreAt(Time),
}

impl Stream {
    /// The lane's stable position moved: its readers have something to read.
    pub(super) fn wake(&mut self, lane: u32) {
        for slot in 0..self.lanes[lane as usize].cursors.len() {
            self.offer((lane, slot as u32));
        }
    }

    /// Puts the lane into its owner's list if it has something to read and does not stand there.
    pub(super) fn offer(&mut self, source: Source) {
        let lane = &mut self.lanes[source.0 as usize];
        let readable = lane.readable;
        let cursor = &mut lane.cursors[source.1 as usize];
        if !cursor.flows() || cursor.queued || cursor.position >= readable {
            return;
        }
        cursor.queued = true;
        let owner = cursor.owner;
        if let Ok(member) = self.member_mut(owner) {
            member.ready.push_back(source);
        }
        self.list(owner);
    }

    /// Puts a member that has credit and something to read into the list of those to be served.
    pub(super) fn list(&mut self, client: u32) {
        let Ok(member) = self.member_mut(client) else { return };
        if !member.listed && !member.credit.is_empty() && !member.ready.is_empty() {
            member.listed = true;
            self.to_serve.push_back(client);
        }
    }

    /// Takes a lane out of its owner's list: it changes hands.
    pub(super) fn withdraw(&mut self, source: Source) {
        let cursor = &mut self.lanes[source.0 as usize].cursors[source.1 as usize];
        (cursor.parked, cursor.turn) = (Time::ZERO, Time::ZERO);
        if !std::mem::take(&mut cursor.queued) {
            return;
        }
        let owner = cursor.owner;
        if let Ok(member) = self.member_mut(owner) {
            member.ready.retain(|&ready| ready != source);
        }
    }

    /// Lets lanes change hands where a group has read one to its end, and then serves every listed member until its credit or its
    /// lanes are used up. What is read to its end by that opens its children in a step of its own: a host tells of revoked lanes
    /// before it hands out messages, so none that was handed out in a step may be revoked in it.
    pub(super) fn serve(&mut self, now: Time, out: &mut Effects) {
        self.open_children(out);
        while let Some(client) = self.to_serve.pop_front() {
            self.serve_member(now, client, out);
        }
    }

    fn serve_member(&mut self, now: Time, client: u32, out: &mut Effects) {
        let Self { clients, lanes, drained, parked, next_parked, config, .. } = self;
        let Some(Some(state)) = clients.get_mut(client as usize) else { return };
        let Part::Member(member) = &mut state.part else { return };
        member.listed = false;
        while !member.credit.is_empty()
            && let Some(source) = member.ready.pop_front()
        {
            let lane = &mut lanes[source.0 as usize];
            let (count, left) = hand_out(now, lane, source, member.credit.available(), config, out);
            if config.commit_first && lane.is_finished(source.1) {
                drained.push(source);
            }
            let cursor = &mut lane.cursors[source.1 as usize];
            match left {
                Left::Nothing => cursor.queued = false,
                Left::More => member.ready.push_back(source),
                Left::MoreAt(time) => {
                    cursor.parked = time;
                    parked.insert((time, source.0, source.1));
                    *next_parked = (*next_parked).min(time);
                }
            }
            member.credit.take(count, |token| out.outcomes.push(ended(client, token, Status::Done)));
        }
    }

    /// Puts lanes back whose read limit allows more by now.
    pub(super) fn unpark(&mut self, now: Time) {
        while let Some(&(time, lane, slot)) = self.parked.first()
            && time <= now
        {
            self.parked.pop_first();
            let cursor = &mut self.lanes[lane as usize].cursors[slot as usize];
            if cursor.parked == time {
                cursor.parked = Time::ZERO;
                cursor.queued = false;
                self.offer((lane, slot));
            }
        }
        self.next_parked = self.parked.first().map_or(Time::NEVER, |&(time, ..)| time);
    }
}

/// Hands out one run of a lane, at most `credit` messages.
fn hand_out(
    now: Time,
    lane: &mut Lane,
    (number, slot): Source,
    credit: u64,
    config: &StreamConfig,
    out: &mut Effects,
) -> (u64, Left) {
    let (from, run) = lane.run(lane.cursors[slot as usize].position);
    let highest = lane.cursors[slot as usize].highest;
    let again = from < highest;
    let end = if again { run.min(highest) } else { run };
    let mut count = (end - from).min(credit).min(u64::from(u32::MAX));
    if count > 0 {
        match allowed(config.reads, now, lane, (number, slot), (from, run), count) {
            Ok(allowed) => count = allowed,
            Err(ready) => return (0, Left::MoreAt(ready)),
        }
    }
    let channel = ChannelId(lane.channel);
    let readable = lane.readable;
    let cursor = &mut lane.cursors[slot as usize];
    cursor.position = from + count;
    if count > 0 {
        cursor.highest = highest.max(cursor.position);
        if config.commit_first && cursor.position > cursor.committed {
            cursor.committed = cursor.position;
            let record = Record::Committed { lane: LaneId(number), group: slot, position: cursor.committed };
            out.writes.push(Write::Record(record));
        }
        out.deliveries.push(Deliver {
            client: cursor.owner,
            channel,
            receipt: Receipt { lane: LaneId(number), position: from, epoch: cursor.epoch },
            count: count as u32,
            redeliveries: u16::from(again),
        });
    }
    (count, if cursor.position < readable { Left::More } else { Left::Nothing })
}
