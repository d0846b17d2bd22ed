//! The messages of one queue that left the fast path: requeued, expired, extended, or outlived by many later leases.
//!
//! A slab of 40-byte entries, an index by position, one list of those that are ready again and a heap of lease ends with lazy
//! deletion. Leaves out the bitmap, which still counts these messages as unsettled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::queue::positions::Positions;
use crate::time::Time;

/// No entry.
const NIL: u32 = u32::MAX;

/// What an exception is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits to be delivered again.
    Ready,
    /// Under a lease of its own.
    Leased,
    /// The entry is free.
    Free,
}

/// One message off the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    /// The message.
    pub(super) position: u64,
    /// When its lease ends.
    pub(super) deadline: Time,
    /// The member that holds it, while it is leased.
    pub(super) member: u32,
    /// How often it was delivered again; the receipt's epoch.
    pub(super) redeliveries: u32,
    /// The next in the list of the ready, or of the free.
    next: u32,
    /// What it is doing.
    pub(super) stage: Stage,
}

/// All exceptions of one queue.
#[derive(Clone, Debug)]
pub(super) struct Exceptions {
    entries: Vec<Exception>,
    free: u32,
    index: Positions,
    ready_head: u32,
    ready_tail: u32,
    ready: u64,
    /// Lease ends, at most a few per entry; stale ones are skipped.
    ends: BinaryHeap<Reverse<(Time, u32)>>,
    leased: usize,
}

impl Default for Exceptions {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: NIL,
            index: Positions::default(),
            ready_head: NIL,
            ready_tail: NIL,
            ready: 0,
            ends: BinaryHeap::new(),
            leased: 0,
        }
    }
}

impl Exceptions {
    /// How many wait to be delivered again.
    pub(super) fn ready(&self) -> u64 {
        self.ready
    }

    /// The exception at `position`.
    pub(super) fn get(&self, position: u64) -> Option<&Exception> {
        self.index.get(position).map(|at| &self.entries[at as usize])
    }

    /// Adds a message that waits to be delivered again, behind those that wait already.
    pub(super) fn add_ready(&mut self, position: u64, redeliveries: u32) {
        let at = self.add(position, redeliveries);
        self.push_ready(at);
    }

    /// Adds a message that a member holds until `deadline`.
    pub(super) fn add_leased(&mut self, position: u64, redeliveries: u32, member: u32, deadline: Time) {
        let at = self.add(position, redeliveries);
        self.hold(at, member, deadline);
    }

    fn add(&mut self, position: u64, redeliveries: u32) -> u32 {
        let entry =
            Exception { position, deadline: Time::ZERO, member: NIL, redeliveries, next: NIL, stage: Stage::Ready };
        let at = if self.free == NIL {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let at = self.free;
            self.free = self.entries[at as usize].next;
            self.entries[at as usize] = entry;
            at
        };
        self.index.insert(position, at);
        at
    }

    fn push_ready(&mut self, at: u32) {
        let entry = &mut self.entries[at as usize];
        (entry.stage, entry.next) = (Stage::Ready, NIL);
        if self.ready_tail == NIL {
            self.ready_head = at;
        } else {
            self.entries[self.ready_tail as usize].next = at;
        }
        self.ready_tail = at;
        self.ready += 1;
    }

    fn hold(&mut self, at: u32, member: u32, deadline: Time) {
        let entry = &mut self.entries[at as usize];
        (entry.stage, entry.member, entry.deadline) = (Stage::Leased, member, deadline);
        self.leased += 1;
        self.note_end(at, deadline);
    }

    fn note_end(&mut self, at: u32, deadline: Time) {
        self.ends.push(Reverse((deadline, at)));
        if self.ends.len() > 2 * self.leased + 64 {
            self.ends.clear();
            let entries = self.entries.iter().enumerate();
            let leased = entries.filter(|(_, entry)| entry.stage == Stage::Leased);
            self.ends.extend(leased.map(|(at, entry)| Reverse((entry.deadline, at as u32))));
        }
    }

    /// Hands the first that waits to `member` until `deadline`. Returns its position and how often it was delivered again.
    pub(super) fn deliver(&mut self, member: u32, deadline: Time) -> Option<(u64, u32)> {
        let at = self.ready_head;
        let entry = *self.entries.get(at as usize)?;
        self.ready_head = entry.next;
        if self.ready_head == NIL {
            self.ready_tail = NIL;
        }
        self.ready -= 1;
        self.hold(at, member, deadline);
        Some((entry.position, entry.redeliveries))
    }

    /// Removes a leased message: it is settled.
    pub(super) fn settle(&mut self, position: u64) {
        if let Some(at) = self.index.remove(position) {
            let entry = &mut self.entries[at as usize];
            debug_assert_eq!(entry.stage, Stage::Leased, "only a delivered message is settled");
            (entry.stage, entry.next) = (Stage::Free, self.free);
            self.free = at;
            self.leased -= 1;
        }
    }

    /// Ends a lease: the message waits to be delivered again.
    pub(super) fn requeue(&mut self, position: u64) {
        if let Some(at) = self.index.get(position) {
            self.requeue_at(at);
        }
    }

    fn requeue_at(&mut self, at: u32) {
        let entry = &mut self.entries[at as usize];
        debug_assert_eq!(entry.stage, Stage::Leased, "only a delivered message is requeued");
        entry.redeliveries += 1;
        self.leased -= 1;
        self.push_ready(at);
    }

    /// Gives a leased message another end.
    pub(super) fn extend(&mut self, position: u64, deadline: Time) {
        if let Some(at) = self.index.get(position) {
            self.entries[at as usize].deadline = deadline;
            self.note_end(at, deadline);
        }
    }

    /// The earliest lease end that is noted; early when that lease has ended otherwise.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.ends.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Requeues every message whose lease ended by `now` and calls `ended` with the member that held it.
    pub(super) fn expire(&mut self, now: Time, mut ended: impl FnMut(u32)) {
        while let Some(&Reverse((noted, at))) = self.ends.peek() {
            let entry = self.entries[at as usize];
            let current = entry.stage == Stage::Leased && entry.deadline == noted;
            if current && noted > now {
                break;
            }
            self.ends.pop();
            if current {
                ended(entry.member);
                self.requeue_at(at);
            }
        }
    }

    /// Requeues everything that `member` holds, oldest first. Returns how many those were.
    pub(super) fn release(&mut self, member: u32) -> u64 {
        let held = |entry: &&Exception| entry.stage == Stage::Leased && entry.member == member;
        let mut positions: Vec<u64> = self.entries.iter().filter(held).map(|entry| entry.position).collect();
        positions.sort_unstable();
        for &position in &positions {
            self.requeue(position);
        }
        positions.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_requeued_first_is_delivered_first() {
        let mut late = Exceptions::default();
        late.add_ready(9, 1);
        late.add_ready(4, 1);
        assert_eq!(late.deliver(0, Time(10)), Some((9, 1)));
        late.requeue(9);
        assert_eq!(late.deliver(0, Time(10)), Some((4, 1)));
        assert_eq!(late.deliver(1, Time(10)), Some((9, 2)));
        assert_eq!(late.deliver(1, Time(10)), None);
        late.settle(4);
        assert_eq!(late.get(4), None);
        late.add_leased(77, 0, 3, Time(9));
        assert_eq!((late.entries.len(), late.get(77).map(|entry| entry.member)), (2, Some(3)));
    }

    #[test]
    fn an_extended_lease_ends_at_its_new_end_only() {
        let mut late = Exceptions::default();
        late.add_leased(1, 0, 5, Time(10));
        late.extend(1, Time(30));
        late.add_leased(2, 0, 6, Time(20));
        late.extend(2, Time(15));
        let mut ended = Vec::new();
        late.expire(Time(14), |member| ended.push(member));
        assert!(ended.is_empty());
        late.expire(Time(29), |member| ended.push(member));
        assert_eq!(ended, [6]);
        late.expire(Time(30), |member| ended.push(member));
        assert_eq!((ended, late.ready(), late.next_deadline()), (vec![6, 5], 2, None));
    }

    #[test]
    fn extending_for_ever_does_not_grow() {
        let mut late = Exceptions::default();
        late.add_leased(1, 0, 5, Time(1));
        for n in 0..10_000 {
            late.extend(1, Time(n));
        }
        assert!(late.ends.len() <= 70, "{}", late.ends.len());
        assert_eq!(late.release(5), 1);
        assert_eq!(late.ready(), 1);
    }
}
