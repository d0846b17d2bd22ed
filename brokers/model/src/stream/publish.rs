//! The way in: a message is appended to a lane, waits for the storage, becomes stable; and the other end, where old messages go.
//!
//! Leaves out which lane it is appended to: the models choose.

use std::ops::Range;

use super::lane::Lane;
use super::pending::{Kind, Sent, What, pieces};
use super::{Part, Stream, ended, placed};
use crate::batch::{Accepted, LaneId, Publishes, Token};
use crate::completion::{Failure, Outcome, Refusal, Status};
use crate::machine::{Effects, Write};
use crate::time::{Span, Time};

impl Stream {
    /// How many messages `client` may publish now.
    pub(crate) fn open_publish(&mut self, client: u32) -> Result<usize, Refusal> {
        let max = self.config.max_in_flight;
        let state = self.client(client)?;
        if state.fenced {
            return Err(Refusal::Fenced);
        }
        let room = match state.part {
            Part::Producer => max.saturating_sub(state.in_flight) as usize,
            Part::Member(_) | Part::Administrator => return Err(Refusal::WrongRole),
        };
        if !self.transactions.is_empty() {
            self.begin_enlisting(client)?;
        }
        Ok(room)
    }

    /// Appends message `index` of the batch in hand, `bytes` long, to `lane`.
    #[inline]
    pub(crate) fn append(&mut self, now: Time, lane: u32, index: u32, token: Token, bytes: u32, out: &mut Effects) {
        self.append_run(now, lane, index, &[token], u64::from(bytes), out);
    }

    /// Appends the messages of the batch in hand that have these tokens, `bytes` long in all, to `lane`; the first is message `index`.
    #[inline]
    pub(crate) fn append_run(
        &mut self,
        now: Time,
        lane: u32,
        index: u32,
        tokens: &[Token],
        bytes: u64,
        out: &mut Effects,
    ) {
        let ticket = self.pending.next_ticket();
        let at = &mut self.lanes[lane as usize];
        if at.written_by != ticket {
            at.written_by = ticket;
            at.index.note(now, at.end, at.bytes);
        }
        let (position, count) = (at.end, tokens.len() as u32);
        at.end += u64::from(count);
        at.bytes += bytes;
        self.pending.send(lane, position, tokens);
        self.open_call += count;
        if self.enlisting.is_some() {
            for (position, index) in (position..).zip(index..index + count) {
                self.enlist(lane, position, index, out);
            }
        } else {
            out.append(LaneId(lane), position, index, count);
        }
    }

    /// Makes room for `count` messages at once.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.pending.tokens.reserve(count);
    }

    /// Ends a publish call: one barrier for all that was appended.
    pub(crate) fn close_publish(&mut self, client: u32, out: &mut Effects) {
        self.enlisting = None;
        let count = std::mem::take(&mut self.open_call);
        if count == 0 {
            return;
        }
        let ticket = self.pending.close(client, count);
        let state = self.client_mut(client).expect("open_publish found the client");
        state.in_flight += count;
        state.published = ticket + 1;
        out.writes.push(Write::Barrier(ticket));
    }

    /// Everything up to `ticket` is stored, or could not be. What could not keeps its positions: they become holes that are
    /// never delivered, and the publish has failed.
    pub(crate) fn stored(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, out: &mut Effects) {
        let status = match result {
            Ok(()) => Status::Done,
            Err(failure) => Status::Failed(failure),
        };
        while let Some((answered, call)) = self.pending.pop_through(ticket) {
            out.outcomes.reserve(call.count as usize);
            let mut failed: Vec<(u32, Range<u64>)> = Vec::new();
            let mut ended = 0;
            for Sent { position, lane: number, count, what } in self.pending.sent.drain(..call.runs as usize) {
                let positions = position..position + u64::from(count);
                let tokens = ended..ended + count as usize;
                ended = tokens.end;
                let lane = &mut self.lanes[number as usize];
                if what != What::Fresh {
                    let now_lost = failed.iter().any(|(lane, lost)| *lane == number && lost.contains(&position));
                    let lost = what == What::LostRepeat || now_lost;
                    let status = if lost { Status::Failed(Failure::Storage) } else { Status::Done };
                    let token = self.pending.tokens[tokens.start];
                    out.outcomes.push(placed(call.client, token, status, LaneId(number), position));
                    continue;
                }
                if result.is_err() {
                    positions.clone().for_each(|position| lane.fail(position));
                    self.producers.failed(lane.channel, number, &positions);
                    failed.push((number, positions.clone()));
                    if let Some(compaction) = &mut self.compaction {
                        compaction.gone(number, positions.start, positions.end);
                    }
                }
                lane.stable = positions.end;
                if !lane.touched {
                    lane.touched = true;
                    self.touched.push(number);
                }
                if count == 1 {
                    let token = self.pending.tokens[tokens.start];
                    out.outcomes.push(placed(call.client, token, status, LaneId(number), position));
                    continue;
                }
                for (from, tokens) in pieces(&self.pending.tokens, tokens) {
                    let first = position + from as u64;
                    let outcome =
                        |(n, &token)| Outcome { token, status, lane: LaneId(number), position: first + n as u64 };
                    out.outcomes.extend_of(call.client, tokens.iter().enumerate().map(outcome));
                }
            }
            self.pending.tokens.drain(..call.count as usize);
            for (lane, positions) in failed {
                self.pending.lose(lane, &positions);
            }
            match call.kind {
                Kind::Publish if result.is_err() => self.broke_transaction(call.client),
                Kind::Publish => {}
                Kind::Commit => self.ended_commit(call.client, status, out),
                Kind::Record => {
                    let ends = self.pending.records.pop_front();
                    out.outcomes.extend(ends.map(|outcome| (call.client, Outcome { status, ..outcome })));
                }
            }
            self.answered(answered, call.client, call.count + u32::from(call.kind != Kind::Publish), out);
        }
        self.wake_touched(now, out);
        self.serve(now, out);
    }

    /// More of the lanes that were touched may be read: their readers are told, and what is too much goes.
    pub(super) fn wake_touched(&mut self, now: Time, out: &mut Effects) {
        let mut touched = std::mem::take(&mut self.touched);
        for &lane in &touched {
            self.lanes[lane as usize].limit();
        }
        if self.compaction.is_some() {
            self.note_settled(now, &touched);
        }
        for lane in touched.drain(..) {
            self.lanes[lane as usize].touched = false;
            self.wake(lane);
            self.keep_size(lane, out);
            if self.lanes[lane as usize].is_closed() {
                self.note_drained(lane);
            }
        }
        self.touched = touched;
    }

    /// Counts a call's messages out of its client's window and ends the flushes that waited for them.
    fn answered(&mut self, ticket: u64, client: u32, count: u32, out: &mut Effects) {
        let Some(Some(state)) = self.clients.get_mut(client as usize) else { return };
        state.in_flight -= count;
        while state.flushes.front().is_some_and(|&(_, below)| below <= ticket + 1) {
            let (token, _) = state.flushes.pop_front().expect("there is a first");
            out.outcomes.push(ended(client, token, Status::Done));
        }
        self.forget_closed(client);
    }

    /// Frees a closed client's number once nothing of its is outstanding.
    pub(super) fn forget_closed(&mut self, client: u32) {
        let slot = &mut self.clients[client as usize];
        if slot.as_ref().is_some_and(|state| !state.open && state.in_flight == 0) {
            *slot = None;
        }
    }

    /// Notes when the lane's oldest messages are due to go, and drops the oldest while the rest is large enough.
    fn keep_size(&mut self, number: u32, out: &mut Effects) {
        let lane = &mut self.lanes[number as usize];
        if let Some(age) = self.config.retention {
            self.next_expiry = self.next_expiry.min(expiry(lane, age));
        }
        let Some(keep) = self.config.retention_bytes else { return };
        let before = lane.start;
        while let Some((position, bytes)) = lane.index.second()
            && position <= lane.readable
            && lane.bytes - bytes >= keep
        {
            lane.trim(position);
        }
        if lane.start > before {
            out.writes.push(Write::Trim { lane: LaneId(number), below: lane.start });
        }
    }

    /// Drops what is older than the retention, whether or not every group has read it.
    pub(super) fn expire(&mut self, now: Time, out: &mut Effects) {
        let Some(age) = self.config.retention else { return };
        self.next_expiry = Time::NEVER;
        let Self { lanes, drained, .. } = self;
        for (number, lane) in lanes.iter_mut().enumerate() {
            let before = lane.start;
            while expiry(lane, age) <= now {
                let cut = lane.index.second().map_or(lane.readable, |(position, _)| position.min(lane.readable));
                lane.trim(cut);
                if cut == lane.readable {
                    break;
                }
            }
            if lane.start > before {
                out.writes.push(Write::Trim { lane: LaneId(number as u32), below: lane.start });
                if lane.is_closed() {
                    drained.extend((0..lane.cursors.len() as u32).map(|slot| (number as u32, slot)));
                }
            }
            self.next_expiry = self.next_expiry.min(expiry(lane, age));
        }
    }
}

/// When the oldest messages of a lane are too old; never, when it holds nothing stable.
pub(super) fn expiry(lane: &Lane, age: Span) -> Time {
    if lane.start >= lane.readable {
        return Time::NEVER;
    }
    lane.index.oldest_span_ends().map_or(Time::NEVER, |written| written + age)
}

/// Refuses a whole batch: the client may not publish.
pub(crate) fn refuse_all(client: u32, batch: &Publishes, refusal: Refusal, out: &mut Effects) -> Accepted {
    out.outcomes.extend(batch.iter().map(|message| ended(client, message.token, Status::Refused(refusal))));
    Accepted { taken: batch.len(), blocked: None }
}
