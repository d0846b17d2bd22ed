//! One lane of a stream and where each group stands in it.
//!
//! Leaves out the messages: the storage below keeps them, this keeps positions.

use std::ops::Range;

use super::bucket::Bucket;
use super::index::SparseIndex;
use crate::time::Time;

/// No client.
pub(crate) const NOBODY: u32 = u32::MAX;

/// A group's place in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The member that holds the lane.
    pub(crate) owner: u32,
    /// The member that the lane belongs to by the assignment in force; differs from `owner` until the lane is released.
    pub(crate) intended: u32,
    /// The owner was asked to let go: nothing more is delivered to it, but what it has it may still settle.
    pub(crate) revoked: bool,
    /// Which assignment of this lane is in force.
    pub(crate) epoch: u32,
    /// The next position to deliver.
    pub(crate) position: u64,
    /// The position from which the next owner reads.
    pub(crate) committed: u64,
    /// One after the highest position ever delivered to the group.
    pub(crate) highest: u64,
    /// Whether the lane stands in its owner's list of lanes with something to read (or waits for the read limit).
    pub(crate) queued: bool,
    /// Whether the committed position was moved by the settle call in hand.
    pub(crate) committing: bool,
    /// Until when the read limit holds it back; `Time::ZERO` when it does not.
    pub(crate) parked: Time,
    /// The read limit.
    pub(crate) reads: Option<Bucket>,
    /// The position up to which reads were charged, and the bytes that stood before it then.
    pub(crate) charged: (u64, u64),
    /// Where calls are limited: up to where the last one fetched.
    pub(crate) fetched: u64,
    /// The first time at which another call may be made.
    pub(crate) called: Time,
    /// The turn for which it waits; `Time::ZERO` when it does not.
    pub(crate) turn: Time,
}

impl Cursor {
    pub(crate) fn new(reads: Option<Bucket>) -> Self {
        Self {
            owner: NOBODY,
            intended: NOBODY,
            revoked: false,
            epoch: 0,
            position: 0,
            committed: 0,
            highest: 0,
            queued: false,
            committing: false,
            parked: Time::ZERO,
            reads,
            charged: (0, 0),
            fetched: 0,
            called: Time::ZERO,
            turn: Time::ZERO,
        }
    }

    /// Whether messages may go to the owner.
    pub(crate) fn flows(&self) -> bool {
        self.owner != NOBODY && !self.revoked
    }
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// The channel that it belongs to.
    pub(crate) channel: u32,
    /// The next position to be written.
    pub(crate) end: u64,
    /// Everything below is stored, or is a hole.
    pub(crate) stable: u64,
    /// Everything below may be read: what is stable, as far as no transaction is open that is not to be read (Kafka's last stable
    /// offset).
    pub(crate) readable: u64,
    /// Transactions that are not to be read yet: where each began here, in order, and whose it is.
    pub(crate) open: Vec<(u64, u32)>,
    /// The first position that is kept.
    pub(crate) start: u64,
    /// The lanes that took this one's keys before; [`NOBODY`] where there was none.
    pub(crate) parents: [u32; 2],
    /// The lanes that take this one's keys now; empty while it takes them itself.
    pub(crate) children: Range<u32>,
    /// When the bytes that were fetched are paid back, where calls are limited.
    pub(crate) paid_back: Time,
    /// The bytes ever written.
    pub(crate) bytes: u64,
    /// The publish call that wrote last.
    pub(crate) written_by: u64,
    /// Whether it stands in the list of lanes whose stable position was moved.
    pub(crate) touched: bool,
    /// Positions whose storage failed or that were taken back, as half-open ranges in order. They are never delivered.
    pub(crate) holes: Vec<(u64, u64)>,
    /// When it was written, and how large it was then.
    pub(crate) index: SparseIndex,
    /// Each group's place, in the order of the channel's groups.
    pub(crate) cursors: Vec<Cursor>,
}

impl Lane {
    pub(crate) fn new(channel: u32, cursors: Vec<Cursor>, index_entries: usize) -> Self {
        Self {
            channel,
            end: 0,
            stable: 0,
            readable: 0,
            open: Vec::new(),
            start: 0,
            parents: [NOBODY; 2],
            children: 0..0,
            paid_back: Time::ZERO,
            bytes: 0,
            written_by: u64::MAX,
            touched: false,
            holes: Vec::new(),
            index: SparseIndex::new(index_entries),
            cursors,
        }
    }

    /// Notes that `position` could not be stored.
    pub(crate) fn fail(&mut self, position: u64) {
        self.leave_out(position, position + 1);
    }

    /// Nothing of `from..to` is ever delivered.
    pub(crate) fn leave_out(&mut self, from: u64, to: u64) {
        let (mut from, mut to) = (from, to);
        let at = self.holes.partition_point(|&(_, end)| end < from);
        let mut beyond = at;
        while let Some(&(hole, end)) = self.holes.get(beyond).filter(|(hole, _)| *hole <= to) {
            (from, to) = (from.min(hole), to.max(end));
            beyond += 1;
        }
        self.holes.splice(at..beyond, [(from, to)]);
    }

    /// Of `from..to` nothing is ever delivered but these runs, which are in order.
    pub(crate) fn keep_only(&mut self, from: u64, to: u64, kept: &[(u64, u32)]) {
        let at = self.holes.partition_point(|&(_, end)| end < from);
        let beyond = self.holes.partition_point(|&(hole, _)| hole <= to);
        let known = &self.holes[at..beyond.max(at)];
        let before = known.first().filter(|hole| hole.0 < from).map(|hole| (hole.0, from));
        let after = known.last().filter(|hole| hole.1 > to).map(|hole| (to, hole.1));
        let mut holes: Vec<(u64, u64)> = before.into_iter().collect();
        let mut leave_out = |from: u64, to: u64| match holes.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            Some(_) | None if from < to => holes.push((from, to)),
            Some(_) | None => {}
        };
        let mut next = from;
        for &(first, count) in kept {
            leave_out(next, first);
            next = first + u64::from(count);
        }
        leave_out(next, to);
        if let Some((from, to)) = after {
            leave_out(from, to);
        }
        self.holes.splice(at..beyond.max(at), holes);
    }

    /// How far may be read, after what is stable or what is open has changed.
    pub(crate) fn limit(&mut self) {
        self.readable = self.open.first().map_or(self.stable, |&(first, _)| first.min(self.stable));
    }

    /// The next run of messages that may be delivered, from `position` on; empty where it may not be read further.
    pub(crate) fn run(&self, position: u64) -> (u64, u64) {
        let mut from = position.max(self.start);
        if self.holes.is_empty() {
            return (from, self.readable.max(from));
        }
        let mut at = self.holes.partition_point(|&(_, to)| to <= from);
        while let Some(&(hole, to)) = self.holes.get(at)
            && hole <= from
        {
            from = to.min(self.readable.max(from));
            if from < to {
                break;
            }
            at += 1;
        }
        let end = self.holes.get(at).map_or(self.readable, |&(hole, _)| hole.min(self.readable));
        (from, end.max(from))
    }

    /// How many messages stand in `from..to`, holes left out.
    pub(crate) fn messages(&self, from: u64, to: u64) -> u64 {
        let (from, to) = (from.max(self.start), to.max(self.start));
        let holes: u64 = self.holes.iter().map(|&(hole, end)| end.min(to).saturating_sub(hole.max(from))).sum();
        to.saturating_sub(from) - holes
    }

    /// Whether it takes nothing more: it was split or merged.
    pub(crate) fn is_closed(&self) -> bool {
        !self.children.is_empty()
    }

    /// Whether the group of that place has committed all that ever was or will be in the lane, or it is no longer kept.
    pub(crate) fn is_finished(&self, slot: u32) -> bool {
        let committed = self.cursors[slot as usize].committed;
        self.is_closed() && self.stable == self.end && self.messages(committed, self.end) == 0
    }

    /// Forgets everything below `start`.
    pub(crate) fn trim(&mut self, start: u64) {
        self.start = start;
        self.holes.retain(|&(_, to)| to > start);
        self.index.trim(start);
    }

    /// The bytes before `position`.
    pub(crate) fn bytes_before(&self, position: u64) -> u64 {
        self.index.bytes_before(position, self.end, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_leave_holes_out() {
        let mut lane = Lane::new(0, Vec::new(), 16);
        for position in [2, 3, 5] {
            lane.fail(position);
        }
        lane.end = 8;
        lane.stable = 8;
        lane.limit();
        assert_eq!(lane.holes, [(2, 4), (5, 6)]);
        assert_eq!(lane.run(0), (0, 2));
        assert_eq!(lane.run(2), (4, 5));
        assert_eq!(lane.run(5), (6, 8));
        assert_eq!(lane.run(8), (8, 8));
        assert_eq!(lane.messages(0, 8), 5);
        lane.trim(3);
        assert_eq!(lane.messages(0, 8), 3);
        assert_eq!(lane.run(0), (4, 5));
    }

    #[test]
    fn what_is_kept_of_a_range_leaves_holes_that_join_those_around() {
        let mut lane = Lane::new(0, Vec::new(), 16);
        lane.holes = vec![(0, 2), (3, 5), (8, 9), (20, 22), (30, 31)];
        lane.keep_only(5, 20, &[(6, 2), (12, 1)]);
        assert_eq!(lane.holes, [(0, 2), (3, 6), (8, 12), (13, 22), (30, 31)]);
        lane.keep_only(0, 4, &[(2, 1)]);
        assert_eq!(lane.holes, [(0, 2), (3, 6), (8, 12), (13, 22), (30, 31)]);
        lane.keep_only(23, 25, &[(23, 2)]);
        assert_eq!(lane.holes, [(0, 2), (3, 6), (8, 12), (13, 22), (30, 31)]);
        lane.keep_only(0, 40, &[]);
        assert_eq!(lane.holes, [(0, 40)]);
    }

    #[test]
    fn what_is_left_out_is_one_range_where_it_touches() {
        let mut lane = Lane::new(0, Vec::new(), 16);
        for (from, to) in [(10, 12), (2, 4), (6, 8), (4, 6), (20, 21), (11, 15)] {
            lane.leave_out(from, to);
        }
        assert_eq!(lane.holes, [(2, 8), (10, 15), (20, 21)]);
        (lane.end, lane.stable) = (30, 30);
        lane.open = vec![(12, 1), (18, 2)];
        lane.limit();
        assert_eq!((lane.run(2), lane.run(9), lane.run(10)), ((8, 10), (9, 10), (12, 12)));
        lane.open.clear();
        lane.limit();
        assert_eq!((lane.run(10), lane.run(20)), ((15, 20), (21, 30)));
    }
}
