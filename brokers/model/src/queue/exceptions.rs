//! The messages of one queue that left the fast path: requeued, expired, extended, or outlived by many later leases.
//!
//! A slab of entries, an index by position, one list of those that are ready again, a heap of lease ends and, where messages
//! expire, a heap of ready positions, both with lazy deletion. Leaves out the bitmap, which still counts these messages as
//! unsettled, and why a message is given up.

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
    /// Given up while it waited; the entry is free once the list of the ready has come to it.
    Buried,
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
    /// Whether messages expire.
    ageing: bool,
    /// Where messages expire: those that wait, oldest position first; stale ones are skipped.
    oldest: BinaryHeap<Reverse<(u64, u32)>>,
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
            ageing: false,
            oldest: BinaryHeap::new(),
        }
    }
}

impl Exceptions {
    /// None yet. `ageing` says whether those that wait are asked for by age.
    pub(super) fn new(ageing: bool) -> Self {
        Self { ageing, ..Self::default() }
    }

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
        if self.ageing {
            self.note_waiting(at);
        }
    }

    fn note_waiting(&mut self, at: u32) {
        self.oldest.push(Reverse((self.entries[at as usize].position, at)));
        if self.oldest.len() as u64 > 2 * self.ready + 64 {
            self.oldest.clear();
            let entries = self.entries.iter().enumerate();
            let waiting = entries.filter(|(_, entry)| entry.stage == Stage::Ready);
            self.oldest.extend(waiting.map(|(at, entry)| Reverse((entry.position, at as u32))));
        }
    }

    /// Takes the first that waits out of the list; those that were buried before it are free now.
    fn pop_ready(&mut self) -> Option<u32> {
        loop {
            let at = self.ready_head;
            let entry = *self.entries.get(at as usize)?;
            self.ready_head = entry.next;
            if self.ready_head == NIL {
                self.ready_tail = NIL;
            }
            if entry.stage == Stage::Ready {
                self.ready -= 1;
                return Some(at);
            }
            self.release_entry(at);
        }
    }

    fn release_entry(&mut self, at: u32) {
        let entry = &mut self.entries[at as usize];
        (entry.stage, entry.next) = (Stage::Free, self.free);
        self.free = at;
    }

    /// Takes the first that waits away for good and returns its position.
    pub(super) fn drop_first(&mut self) -> Option<u64> {
        let at = self.pop_ready()?;
        let position = self.entries[at as usize].position;
        self.index.remove(position);
        self.release_entry(at);
        Some(position)
    }

    /// Takes away for good everything that waits at a position below `end`, the oldest first, and calls `gone` with each position.
    pub(super) fn drop_below(&mut self, end: u64, mut gone: impl FnMut(u64)) {
        debug_assert!(self.ageing, "positions that wait are noted");
        while let Some(&Reverse((position, at))) = self.oldest.peek().filter(|Reverse((position, _))| *position < end) {
            self.oldest.pop();
            let entry = &mut self.entries[at as usize];
            if entry.stage == Stage::Ready && entry.position == position {
                entry.stage = Stage::Buried;
                self.index.remove(position);
                self.ready -= 1;
                gone(position);
            }
        }
        while self.entries.get(self.ready_head as usize).is_some_and(|entry| entry.stage == Stage::Buried) {
            let at = self.ready_head;
            self.ready_head = self.entries[at as usize].next;
            self.release_entry(at);
        }
        if self.ready_head == NIL {
            self.ready_tail = NIL;
        }
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
        let at = self.pop_ready()?;
        let entry = self.entries[at as usize];
        self.hold(at, member, deadline);
        Some((entry.position, entry.redeliveries))
    }

    /// Removes a leased message: it is settled.
    pub(super) fn settle(&mut self, position: u64) {
        if let Some(at) = self.index.remove(position) {
            debug_assert_eq!(self.entries[at as usize].stage, Stage::Leased, "only a delivered message is settled");
            self.release_entry(at);
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

    /// Ends every lease that is over by `now`. `back` says whether the message waits again; otherwise it is taken away.
    pub(super) fn expire(&mut self, now: Time, mut back: impl FnMut(&Exception) -> bool) {
        while let Some(&Reverse((noted, at))) = self.ends.peek() {
            let entry = self.entries[at as usize];
            let current = entry.stage == Stage::Leased && entry.deadline == noted;
            if current && noted > now {
                break;
            }
            self.ends.pop();
            if current {
                if back(&entry) {
                    self.requeue_at(at);
                } else {
                    self.settle(entry.position);
                }
            }
        }
    }

    /// Ends everything that `member` holds, oldest first, as [`expire`](Self::expire) does. Returns how many those were.
    pub(super) fn release(&mut self, member: u32, mut back: impl FnMut(&Exception) -> bool) -> u64 {
        let held = |entry: &&Exception| entry.stage == Stage::Leased && entry.member == member;
        let mut ended: Vec<Exception> = self.entries.iter().filter(held).copied().collect();
        ended.sort_unstable_by_key(|entry| entry.position);
        for entry in &ended {
            if back(entry) {
                self.requeue(entry.position);
            } else {
                self.settle(entry.position);
            }
        }
        ended.len() as u64
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
        let mut end = |late: &mut Exceptions, now| {
            late.expire(now, |entry| {
                ended.push(entry.member);
                true
            });
            ended.clone()
        };
        assert!(end(&mut late, Time(14)).is_empty());
        assert_eq!(end(&mut late, Time(29)), [6]);
        assert_eq!(end(&mut late, Time(30)), [6, 5]);
        assert_eq!((late.ready(), late.next_deadline()), (2, None));
    }

    #[test]
    fn extending_for_ever_does_not_grow() {
        let mut late = Exceptions::default();
        late.add_leased(1, 0, 5, Time(1));
        for n in 0..10_000 {
            late.extend(1, Time(n));
        }
        assert!(late.ends.len() <= 70, "{}", late.ends.len());
        assert_eq!(late.release(5, |_| true), 1);
        assert_eq!(late.ready(), 1);
    }

    #[test]
    fn what_is_given_up_leaves_nothing_behind() {
        let mut late = Exceptions::new(true);
        for position in [8, 3, 5, 9] {
            late.add_ready(position, 1);
        }
        let mut gone = Vec::new();
        late.drop_below(6, |position| gone.push(position));
        assert_eq!((gone, late.ready(), late.get(3)), (vec![3, 5], 2, None));
        assert_eq!(late.deliver(0, Time(10)), Some((8, 1)), "the buried ones after it are stepped over");
        assert_eq!((late.drop_first(), late.drop_first(), late.ready()), (Some(9), None, 0));
        late.expire(Time(10), |entry| entry.position != 8);
        assert_eq!((late.ready(), late.get(8), late.leased), (0, None, 0));
        assert!(late.entries.iter().all(|entry| entry.stage == Stage::Free));
        for _ in 0..10_000 {
            late.add_ready(7, 1);
            assert_eq!(late.drop_first(), Some(7));
        }
        assert!(late.oldest.len() <= 70 && late.entries.len() == 4, "{} {}", late.oldest.len(), late.entries.len());
    }

    #[test]
    fn what_was_buried_at_the_head_is_free_at_once() {
        let mut late = Exceptions::new(true);
        for position in 0..4 {
            late.add_ready(position, 1);
        }
        let mut gone = 0;
        late.drop_below(4, |_| gone += 1);
        assert_eq!((gone, late.ready(), late.ready_head, late.ready_tail), (4, 0, NIL, NIL));
        late.add_ready(9, 1);
        assert_eq!((late.entries.len(), late.deliver(0, Time(1))), (4, Some((9, 1))));
    }
}
