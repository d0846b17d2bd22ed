//! Settlements and everything that is not done in bulk, and the answers to questions.
//!
//! Leaves out settling messages one by one: a commit covers everything before it in the lane.

use super::lane::{Cursor, Lane};
use super::reads::Reads;
use super::{Channel, Group, Source, Stream, ended, placed};
use crate::batch::{ChannelId, ChannelSpec, Control, LaneId, Receipt, SeekTo, Settlement, Token, Verdict};
use crate::completion::{Answer, Description, LaneState, Outcome, Refusal, Status};
use crate::machine::{ChannelRecord, Effects, Record, Write};
use crate::time::Time;

impl Stream {
    /// Commits. Each settlement is done at once; one record per lane follows at the end of the call, and nobody waits for it.
    pub(crate) fn settle(&mut self, now: Time, client: u32, settlements: &[Settlement], out: &mut Effects) {
        if self.transactions.contains_key(&client) || self.is_fenced(client) {
            return self.settle_within(client, settlements, out);
        }
        let mut moved: Vec<Source> = Vec::new();
        let mut last: Option<(LaneId, Result<Source, Refusal>)> = None;
        out.outcomes.reserve(settlements.len());
        for settlement in settlements {
            let receipt = settlement.receipt;
            let held = match last {
                Some((lane, held)) if lane == receipt.lane => held,
                Some(_) | None => self.held(client, receipt.lane),
            };
            last = Some((receipt.lane, held));
            let result = match settlement.verdict {
                Verdict::Ack => {
                    held.map_err(stale_if_moved).and_then(|source| self.commit(source, receipt, &mut moved))
                }
                Verdict::Nack { .. } | Verdict::Extend(_) => {
                    self.member(client).map(|_| ()).and(Err(Refusal::Unsupported))
                }
            };
            let status = result.map_or_else(Status::Refused, |()| Status::Done);
            out.outcomes.push(placed(client, settlement.token, status, receipt.lane, receipt.position));
        }
        for (lane, slot) in moved {
            if self.lanes[lane as usize].is_closed() {
                self.drained.push((lane, slot));
            }
            let cursor = &mut self.lanes[lane as usize].cursors[slot as usize];
            cursor.committing = false;
            let record = Record::Committed { lane: LaneId(lane), group: slot, position: cursor.committed };
            out.writes.push(Write::Record(record));
        }
        if !self.drained.is_empty() {
            self.serve(now, out);
        }
        self.heard(now, client, out);
    }

    fn commit(&mut self, source: Source, receipt: Receipt, moved: &mut Vec<Source>) -> Result<(), Refusal> {
        let cursor = &mut self.lanes[source.0 as usize].cursors[source.1 as usize];
        if receipt.epoch != cursor.epoch {
            return Err(Refusal::StaleReceipt);
        }
        if receipt.position >= cursor.highest {
            return Err(Refusal::OutOfRange);
        }
        if receipt.position >= cursor.committed {
            cursor.committed = receipt.position + 1;
            if !std::mem::replace(&mut cursor.committing, true) {
                moved.push(source);
            }
        }
        Ok(())
    }

    /// One operation that is not done in bulk.
    pub(crate) fn control(&mut self, now: Time, client: u32, token: Token, control: &Control, out: &mut Effects) {
        let result = match control {
            Control::Grant(count) => self.grant(now, client, token, *count, out),
            Control::Seek { lane, to } => self.seek(now, client, token, *lane, *to, out),
            Control::Position(lane) => self.position(client, token, *lane, out),
            Control::Flush => self.flush(client, token, out),
            Control::Transaction(step) => self.transact(now, client, token, step, out),
            Control::Release(lane) => {
                self.release(now, client, token, *lane, out);
                Ok(())
            }
            Control::Close => self.client(client).map(|_| ()).map(|()| self.leave(now, client, token, out)),
            Control::Create(spec) => self.create(now, client, token, spec, out),
            Control::Delete(channel) => self.delete(now, client, token, *channel, out),
            Control::Describe(channel) => self.describe(client, token, *channel, out),
            Control::Split { .. } | Control::Merge { .. } => self.administers(client).and(Err(Refusal::Unsupported)),
        };
        if let Err(refusal) = result {
            out.outcomes.push(ended(client, token, Status::Refused(refusal)));
        }
        self.heard(now, client, out);
    }

    fn grant(&mut self, now: Time, client: u32, token: Token, count: u32, out: &mut Effects) -> Result<(), Refusal> {
        let kept = self.member_mut(client)?.credit.grant(token, count);
        if !kept {
            out.outcomes.push(ended(client, token, Status::Done));
        }
        self.list(client);
        self.serve(now, out);
        Ok(())
    }

    fn seek(
        &mut self,
        now: Time,
        client: u32,
        token: Token,
        lane: LaneId,
        to: SeekTo,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let source = self.held(client, lane)?;
        let at = &mut self.lanes[source.0 as usize];
        let cursor = &at.cursors[source.1 as usize];
        if cursor.revoked {
            return Err(Refusal::NotAssigned);
        }
        let position = match to {
            SeekTo::Earliest => at.start,
            SeekTo::Latest => at.readable,
            SeekTo::Position(position) if (at.start..=at.readable).contains(&position) => position,
            SeekTo::Position(_) => return Err(Refusal::OutOfRange),
            SeekTo::Time(time) => at.index.at_time(time).unwrap_or(at.readable).clamp(at.start, at.readable),
        };
        let cursor = &mut at.cursors[source.1 as usize];
        // What was fetched was fetched from elsewhere.
        (cursor.position, cursor.fetched) = (position, 0);
        out.outcomes.push(placed(client, token, Status::Done, lane, position));
        self.offer(source);
        self.serve(now, out);
        Ok(())
    }

    fn position(&mut self, client: u32, token: Token, lane: LaneId, out: &mut Effects) -> Result<(), Refusal> {
        let source = self.held(client, lane)?;
        let at = &self.lanes[source.0 as usize];
        // What failed to be stored is never read: the next position lies behind it.
        let (position, _) = at.run(at.cursors[source.1 as usize].position);
        out.answers.push((client, token, Answer::Position { lane, position }));
        Ok(())
    }

    fn flush(&mut self, client: u32, token: Token, out: &mut Effects) -> Result<(), Refusal> {
        let state = self.client_mut(client)?;
        if state.in_flight == 0 {
            out.outcomes.push(ended(client, token, Status::Done));
        } else {
            state.flushes.push_back((token, state.published));
        }
        Ok(())
    }

    fn create(
        &mut self,
        now: Time,
        client: u32,
        token: Token,
        spec: &ChannelSpec,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        self.administers(client)?;
        if !spec.is_plain() {
            return Err(Refusal::Unsupported);
        }
        if self.channels.iter().any(|channel| !channel.gone && channel.name == spec.name) {
            return Err(Refusal::Exists);
        }
        if !spec.is_in_bounds() || (self.config.single_lane && spec.lanes > 1) {
            return Err(Refusal::OutOfRange);
        }
        self.lane_room().takes(spec.lanes, spec.distinct_groups().len())?;
        let made = ChannelRecord::new(spec, self.channels.len(), self.lanes.len());
        self.add_channel(now, &made);
        let outcome = Outcome { token, status: Status::Done, lane: made.first, position: u64::from(made.channel.0) };
        self.store_record(client, Record::Channel(Box::new(made)), outcome, out);
        Ok(())
    }

    /// Writes a record of the administrator's, which ends once it is stored.
    pub(crate) fn store_record(&mut self, client: u32, record: Record, outcome: Outcome, out: &mut Effects) {
        let ticket = self.pending.record(client, outcome);
        if let Ok(state) = self.client_mut(client) {
            state.in_flight += 1;
            state.published = ticket + 1;
        }
        out.writes.extend([Write::Record(record), Write::Barrier(ticket)]);
    }

    /// Makes the next channel, with the next lanes.
    pub(super) fn add_channel(&mut self, now: Time, made: &ChannelRecord) {
        let &ChannelRecord { channel: ChannelId(channel), first: LaneId(first), lanes, .. } = made;
        let groups: Vec<u32> = made.groups.iter().map(|name| self.group_named(name)).collect();
        let cursors = vec![self.new_cursor(now); groups.len()];
        let entries = self.config.index_entries;
        self.lanes.extend((0..lanes).map(|_| Lane::new(channel, cursors.clone(), entries)));
        self.channels.push(Channel { name: made.name.clone(), first, lanes, later: Vec::new(), groups, gone: false });
    }

    /// A group's place in a new lane.
    pub(super) fn new_cursor(&self, now: Time) -> Cursor {
        match self.config.reads {
            Reads::Each { bytes_per_s, credit } => Cursor::new(Some(super::Bucket::with(bytes_per_s, credit, 0, now))),
            Reads::Unlimited | Reads::Shared(_) => Cursor::new(None),
        }
    }

    fn group_named(&mut self, name: &str) -> u32 {
        let known = self.groups.iter().position(|group| group.name == name);
        known.unwrap_or_else(|| {
            self.groups.push(Group { name: name.to_owned(), members: Vec::new(), held: 0 });
            self.groups.len() - 1
        }) as u32
    }

    fn delete(
        &mut self,
        now: Time,
        client: u32,
        token: Token,
        channel: ChannelId,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        self.administers(client)?;
        self.channel(channel).ok_or(Refusal::NoSuchLane)?;
        self.lose(channel.0, out);
        let (_, outcome) = ended(client, token, Status::Done);
        self.store_record(client, Record::ChannelGone(channel), outcome, out);
        self.producers.lose_channel(channel.0);
        let gone = &mut self.channels[channel.0 as usize];
        let (groups, lanes): (_, Vec<u32>) = (gone.groups.clone(), gone.all_lanes().collect());
        gone.gone = true;
        for number in lanes {
            let lane = &mut self.lanes[number as usize];
            lane.trim(lane.end);
            if let Some(compaction) = &mut self.compaction {
                compaction.forget(number);
            }
            out.writes.push(Write::Trim { lane: LaneId(number), below: lane.end });
        }
        for group in groups {
            self.rebalance(group, out);
        }
        self.serve(now, out);
        Ok(())
    }

    fn describe(&mut self, client: u32, token: Token, channel: ChannelId, out: &mut Effects) -> Result<(), Refusal> {
        self.administers(client)?;
        let channel = self.channel(channel).ok_or(Refusal::NoSuchLane)?;
        let mut lanes = Vec::with_capacity(channel.lanes as usize * channel.groups.len());
        for number in channel.all_lanes() {
            let lane = &self.lanes[number as usize];
            if lane.is_closed() && lane.start == lane.end {
                continue;
            }
            lanes.extend(lane.cursors.iter().zip(0..).map(|(cursor, group)| LaneState {
                lane: LaneId(number),
                group,
                end: lane.end,
                committed: cursor.committed,
                ready: lane.messages(cursor.position, lane.readable),
                in_flight: lane.messages(cursor.committed, cursor.position.max(cursor.committed)),
                ..LaneState::default()
            }));
        }
        let description = Description { lanes, settings: self.config.settings.clone() };
        out.answers.push((client, token, Answer::Description(description)));
        Ok(())
    }
}

/// A receipt for a lane that has since gone to somebody else is stale; other refusals stay what they are.
fn stale_if_moved(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::NotAssigned => Refusal::StaleReceipt,
        Refusal::Unsupported
        | Refusal::NoSuchLane
        | Refusal::StaleReceipt
        | Refusal::OutOfRange
        | Refusal::TooLarge
        | Refusal::Exists
        | Refusal::Transaction
        | Refusal::OutOfSequence
        | Refusal::Fenced
        | Refusal::WrongRole
        | Refusal::Closed
        | Refusal::Unroutable
        | Refusal::NoKey
        | Refusal::TooManyLanes => refusal,
    }
}
