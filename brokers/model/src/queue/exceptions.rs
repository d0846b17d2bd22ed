//! The messages of one queue that left the fast path: requeued, expired, extended, or outlived by many later leases; and those that
//! never were on it, because they say something of themselves: a priority, a delay, a time to live, a group.
//!
//! A slab of entries, an index by position, one list for each priority of those that are ready again, a heap of those that are ready
//! for the first time, and heaps of times with lazy deletion: lease ends, first appearances, ends of lives and, where all messages
//! of the queue expire, positions that wait. Leaves out the bitmap, which counts these messages as unsettled, groups of
//! messages, and why a message is given up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::queue::message_groups::MessageGroups;
use crate::queue::positions::Positions;
use crate::time::Time;

/// No entry.
const NIL: u32 = u32::MAX;

/// What an exception is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits to be delivered.
    Ready,
    /// Is held back before its first delivery.
    Hidden,
    /// Under a lease of its own.
    Leased,
    /// Given up while it waited in a list; the entry is free once the list of the ready has come to it.
    Buried,
    /// The entry is free.
    Free,
}

/// One message off the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    /// The message.
    pub(super) position: u64,
    /// When its lease ends, or when it appears.
    pub(super) deadline: Time,
    /// The member that holds it, while it is leased.
    pub(super) member: u32,
    /// How often it was delivered before; the receipt's epoch.
    pub(super) redeliveries: u32,
    /// The next in the list of the ready, or of the free.
    next: u32,
    /// What it is doing.
    pub(super) stage: Stage,
    /// Its priority.
    level: u8,
    /// Whether it waits for its first delivery, in the heap of those.
    fresh: bool,
}

/// What a message says of itself; nothing by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Special {
    /// Its priority: the higher, the sooner.
    pub(super) level: u8,
    /// Its message group, as a hash; 0 for none.
    pub(super) group: u64,
    /// When it is delivered at the earliest.
    pub(super) appears: Time,
    /// When it can wait no longer.
    pub(super) expires: Time,
}

impl Default for Special {
    fn default() -> Self {
        Self { level: 0, group: 0, appears: Time::ZERO, expires: Time::NEVER }
    }
}

/// A message's priority and its group, which its dead letter keeps.
pub(super) type Words = (u8, u64);
/// Of a message that says neither.
pub(super) const PLAIN: Words = (0, 0);

/// What only messages have that say something of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extra {
    expires: Time,
    group: u64,
}

const NO_EXTRA: Extra = Extra { expires: Time::NEVER, group: 0 };

/// What holds for all messages of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The highest priority.
    pub(super) levels: u8,
    /// Whether all messages expire, or are looked at by age.
    pub(super) ageing: bool,
    /// Where messages of a group are delivered in order: so many at a time.
    pub(super) group_batch: Option<u32>,
    /// Whether what is given up is noted for dead letters.
    pub(super) dead_letters: bool,
}

/// A list of entries, by their places.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

const NO_LIST: List = List { head: NIL, tail: NIL };

/// All exceptions of one queue.
#[derive(Clone, Debug)]
pub(super) struct Exceptions {
    entries: Vec<Exception>,
    /// As far as there are any, by entry.
    extras: Vec<Extra>,
    free: u32,
    index: Positions,
    /// Those that came back, by priority.
    again: Vec<List>,
    /// By priority, whether there is something in its list.
    busy: [u64; 4],
    /// Those that wait for the first time: by priority, downwards, and position; stale ones are skipped.
    fresh: BinaryHeap<Reverse<(u8, u64, u32)>>,
    /// How many wait and are not held back.
    ready: u64,
    /// How many of those wait for the first time.
    fresh_ready: usize,
    hidden: usize,
    /// When those that are held back appear; stale ones are skipped.
    appear: BinaryHeap<Reverse<(Time, u64, u32)>>,
    /// How many have a time to live of their own, and when those are over; stale ones are skipped.
    mortal: usize,
    perish: BinaryHeap<Reverse<(Time, u64, u32)>>,
    /// Lease ends, at most a few per entry; stale ones are skipped.
    ends: BinaryHeap<Reverse<(Time, u32)>>,
    leased: usize,
    shape: Shape,
    /// Where messages expire: those that wait, oldest position first; stale ones are skipped.
    oldest: BinaryHeap<Reverse<(u64, u32)>>,
    groups: Option<MessageGroups>,
}

impl Default for Exceptions {
    fn default() -> Self {
        Self::new(Shape::default())
    }
}

impl Exceptions {
    /// None yet.
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            entries: Vec::new(),
            extras: Vec::new(),
            free: NIL,
            index: Positions::default(),
            again: vec![NO_LIST; usize::from(shape.levels) + 1],
            busy: [0; 4],
            fresh: BinaryHeap::new(),
            ready: 0,
            fresh_ready: 0,
            hidden: 0,
            appear: BinaryHeap::new(),
            mortal: 0,
            perish: BinaryHeap::new(),
            ends: BinaryHeap::new(),
            leased: 0,
            shape,
            oldest: BinaryHeap::new(),
            groups: shape.group_batch.map(MessageGroups::new),
        }
    }

    /// How many wait, those that are held back included.
    pub(super) fn waiting(&self) -> u64 {
        self.ready + self.hidden as u64
    }

    /// How many could be delivered now, one after the other.
    pub(super) fn ready(&self) -> u64 {
        self.groups.as_ref().map_or(self.ready, MessageGroups::deliverable)
    }

    /// The exception at `position`.
    pub(super) fn get(&self, position: u64) -> Option<&Exception> {
        self.index.get(position).map(|at| &self.entries[at as usize])
    }

    fn extra(&self, at: u32) -> Extra {
        self.extras.get(at as usize).copied().unwrap_or(NO_EXTRA)
    }

    /// When the message at `position` can wait no longer, by what it says of itself.
    pub(super) fn expires(&self, position: u64) -> Time {
        if self.mortal == 0 {
            return Time::NEVER;
        }
        self.index.get(position).map_or(Time::NEVER, |at| self.extra(at).expires)
    }

    fn said_at(&self, at: u32) -> Words {
        (self.entries[at as usize].level, self.extra(at).group)
    }

    /// The priority and the group of the message at `position`.
    pub(super) fn said(&self, position: u64) -> Words {
        self.index.get(position).map_or(PLAIN, |at| self.said_at(at))
    }

    /// Adds a message that says something of itself and waits to be delivered, now or later.
    pub(super) fn add_special(&mut self, now: Time, position: u64, redeliveries: u32, special: Special) {
        let at = self.add(position, redeliveries);
        let entry = &mut self.entries[at as usize];
        (entry.level, entry.fresh) = (special.level.min(self.shape.levels), true);
        let extra = Extra { expires: special.expires, group: special.group };
        if extra != NO_EXTRA {
            self.extras.resize(self.entries.len().max(self.extras.len()), NO_EXTRA);
            self.extras[at as usize] = extra;
        }
        if extra.expires != Time::NEVER {
            self.mortal += 1;
            self.note_life(at, position, extra.expires);
        }
        if special.appears > now {
            self.hide(at, special.appears);
        } else {
            self.push_ready(at);
        }
    }

    /// Adds a message that waits to be delivered again, behind those that wait already.
    pub(super) fn add_ready(&mut self, position: u64, redeliveries: u32) {
        let at = self.add(position, redeliveries);
        self.push_ready(at);
    }

    /// A message that waits for the first time in this life, and came before all others, waits as one that came back.
    pub(super) fn seem_back(&mut self, position: u64) {
        if let Some(at) = self.index.get(position)
            && self.groups.is_none()
            && self.entries[at as usize].stage == Stage::Ready
        {
            self.ready -= 1;
            self.fresh_ready -= 1;
            self.entries[at as usize].fresh = false;
            self.push_ready(at);
        }
    }

    /// Adds a message that a member holds until `deadline`.
    pub(super) fn add_leased(&mut self, position: u64, redeliveries: u32, member: u32, deadline: Time) {
        let at = self.add(position, redeliveries);
        self.hold(at, member, deadline);
    }

    fn add(&mut self, position: u64, redeliveries: u32) -> u32 {
        let entry = Exception {
            position,
            deadline: Time::ZERO,
            member: NIL,
            redeliveries,
            next: NIL,
            stage: Stage::Ready,
            level: 0,
            fresh: false,
        };
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
        let (level, position, fresh) = (entry.level, entry.position, entry.fresh);
        self.ready += 1;
        self.fresh_ready += usize::from(fresh);
        if let Some(groups) = &mut self.groups {
            let said = self.extras.get(at as usize).map_or(0, |extra| extra.group);
            groups.add(group_of(said, position), position, at);
        } else if fresh {
            self.push_fresh(at, level, position);
        } else {
            let list = &mut self.again[usize::from(level)];
            if list.tail == NIL {
                list.head = at;
                self.busy[usize::from(level / 64)] |= 1 << (level % 64);
            } else {
                self.entries[list.tail as usize].next = at;
            }
            list.tail = at;
        }
        if self.shape.ageing {
            self.note_waiting(at);
        }
    }

    fn push_fresh(&mut self, at: u32, level: u8, position: u64) {
        self.fresh.push(Reverse((u8::MAX - level, position, at)));
        if self.fresh.len() > 2 * self.fresh_ready + 64 {
            let entries = &self.entries;
            self.fresh.retain(|Reverse((_, position, at))| is_fresh(&entries[*at as usize], *position));
        }
    }

    fn hide(&mut self, at: u32, until: Time) {
        let entry = &mut self.entries[at as usize];
        (entry.stage, entry.deadline) = (Stage::Hidden, until);
        let position = entry.position;
        self.hidden += 1;
        self.appear.push(Reverse((until, position, at)));
        if self.appear.len() > 2 * self.hidden + 64 {
            let entries = &self.entries;
            self.appear.retain(|Reverse((_, position, at))| is_hidden(&entries[*at as usize], *position));
        }
        if self.shape.ageing {
            self.note_waiting(at);
        }
    }

    fn note_waiting(&mut self, at: u32) {
        self.oldest.push(Reverse((self.entries[at as usize].position, at)));
        if self.oldest.len() as u64 > 2 * self.waiting() + 64 {
            let entries = &self.entries;
            keep_each_once(&mut self.oldest, |&(position, at)| waits(&entries[at as usize], position));
        }
    }

    fn note_life(&mut self, at: u32, position: u64, expires: Time) {
        self.perish.push(Reverse((expires, position, at)));
        if self.perish.len() > 2 * self.mortal + 64 {
            let entries = &self.entries;
            let lives = |entry: &Exception| entry.stage != Stage::Free && entry.stage != Stage::Buried;
            self.perish.retain(|Reverse((_, position, at))| {
                let entry = &entries[*at as usize];
                lives(entry) && entry.position == *position
            });
        }
    }

    /// The highest priority of which something came back, as far as lists tell.
    fn highest_again(&self) -> Option<u8> {
        let word = self.busy.iter().rposition(|&word| word != 0)?;
        Some((word * 64) as u8 + self.busy[word].ilog2() as u8)
    }

    /// Priority and position of the first that waits for the first time.
    fn first_fresh(&mut self) -> Option<(u8, u64)> {
        while let Some(&Reverse((below, position, at))) = self.fresh.peek() {
            if is_fresh(&self.entries[at as usize], position) {
                return Some((u8::MAX - below, position));
            }
            self.fresh.pop();
        }
        None
    }

    /// Takes the first that came back with this priority out of its list; those that were buried before it are free now.
    fn pop_again(&mut self, level: u8) -> Option<u32> {
        loop {
            let list = &mut self.again[usize::from(level)];
            let at = list.head;
            let entry = *self.entries.get(at as usize)?;
            list.head = entry.next;
            if list.head == NIL {
                list.tail = NIL;
                self.busy[usize::from(level / 64)] &= !(1 << (level % 64));
            }
            if entry.stage == Stage::Ready {
                self.ready -= 1;
                return Some(at);
            }
            self.release_entry(at);
        }
    }

    /// Takes out what is first in line: by priority; of one priority what came back, then what is new by position. What waits on the fast
    /// path at `plain` has the lowest priority and is new.
    fn pop(&mut self, plain: Option<u64>) -> Option<u32> {
        if let Some(groups) = &mut self.groups {
            let at = groups.next()?;
            let fresh = self.entries[at as usize].fresh;
            self.ready -= 1;
            self.fresh_ready -= usize::from(fresh);
            return Some(at);
        }
        loop {
            let fresh = self.first_fresh();
            match self.highest_again() {
                Some(level) if fresh.is_none_or(|(other, _)| other <= level) => {
                    if let Some(at) = self.pop_again(level) {
                        return Some(at);
                    }
                }
                Some(_) | None => {
                    let (level, position) = fresh?;
                    if level == 0 && plain.is_some_and(|plain| plain < position) {
                        return None;
                    }
                    let Reverse((_, _, at)) = self.fresh.pop()?;
                    self.ready -= 1;
                    self.fresh_ready -= 1;
                    return Some(at);
                }
            }
        }
    }

    fn release_entry(&mut self, at: u32) {
        let entry = &mut self.entries[at as usize];
        (entry.stage, entry.next) = (Stage::Free, self.free);
        self.free = at;
        if let Some(extra) = self.extras.get_mut(at as usize) {
            self.mortal -= usize::from(extra.expires != Time::NEVER);
            *extra = NO_EXTRA;
        }
    }

    /// Takes what is first in line away for good; nothing while what waits on the fast path at `plain` comes before it.
    pub(super) fn take(&mut self, plain: Option<u64>) -> Option<(Exception, Words)> {
        let at = self.pop(plain)?;
        self.unlock(at);
        Some(self.forget(at))
    }

    /// As [`take`](Self::take), and when nothing is in line, what would appear first.
    pub(super) fn drop_first(&mut self, plain: Option<u64>) -> Option<(Exception, Words)> {
        let taken = self.take(plain);
        if taken.is_some() || plain.is_some() {
            return taken;
        }
        let at = self.pop_hidden()?;
        Some(self.forget(at))
    }

    fn forget(&mut self, at: u32) -> (Exception, Words) {
        let (entry, said) = (self.entries[at as usize], self.said_at(at));
        self.index.remove(entry.position);
        self.release_entry(at);
        (entry, said)
    }

    fn pop_hidden(&mut self) -> Option<u32> {
        while let Some(Reverse((_, position, at))) = self.appear.pop() {
            if is_hidden(&self.entries[at as usize], position) {
                self.hidden -= 1;
                return Some(at);
            }
        }
        None
    }

    /// Takes one that waits away for good.
    fn drop_waiting(&mut self, at: u32) {
        let entry = self.entries[at as usize];
        self.index.remove(entry.position);
        if entry.stage == Stage::Hidden {
            self.hidden -= 1;
            self.release_entry(at);
            return;
        }
        self.ready -= 1;
        self.fresh_ready -= usize::from(entry.fresh);
        let group = group_of(self.extra(at).group, entry.position);
        if let Some(groups) = &mut self.groups {
            groups.remove(group, entry.position);
            self.release_entry(at);
        } else if entry.fresh {
            self.release_entry(at);
        } else {
            self.entries[at as usize].stage = Stage::Buried;
        }
    }

    /// Frees what was buried at the head of each list.
    fn free_buried(&mut self) {
        for level in 0..self.again.len() {
            while let list = &mut self.again[level]
                && let Some(entry) = self.entries.get(list.head as usize)
                && entry.stage == Stage::Buried
            {
                let at = list.head;
                list.head = entry.next;
                if list.head == NIL {
                    list.tail = NIL;
                    self.busy[level / 64] &= !(1 << (level % 64));
                }
                self.release_entry(at);
            }
        }
    }

    /// Takes away for good everything that waits at a position below `end`, the oldest first, and calls `gone` with each.
    pub(super) fn drop_below(&mut self, end: u64, mut gone: impl FnMut(&Exception, Words)) {
        debug_assert!(self.shape.ageing, "positions that wait are noted");
        while let Some(&Reverse((position, at))) = self.oldest.peek().filter(|Reverse((position, _))| *position < end) {
            self.oldest.pop();
            let entry = self.entries[at as usize];
            if waits(&entry, position) {
                let said = self.said_at(at);
                self.drop_waiting(at);
                gone(&entry, said);
            }
        }
        self.free_buried();
    }

    /// Takes away for good what waits and whose own time to live is over by `now`, and calls `gone` with each.
    pub(super) fn drop_perished(&mut self, now: Time, mut gone: impl FnMut(&Exception, Words)) {
        while let Some(&Reverse((at_time, position, at))) = self.perish.peek().filter(|Reverse((end, ..))| *end <= now)
        {
            self.perish.pop();
            let entry = self.entries[at as usize];
            if waits(&entry, position) && self.extra(at).expires == at_time {
                let said = self.said_at(at);
                self.drop_waiting(at);
                gone(&entry, said);
            }
        }
        self.free_buried();
    }

    /// Lets everything appear that was held back up to `now`. Returns whether that was anything.
    pub(super) fn appear(&mut self, now: Time) -> bool {
        let mut appeared = false;
        while let Some(&Reverse((_, position, at))) = self.appear.peek().filter(|Reverse((at, ..))| *at <= now) {
            self.appear.pop();
            if is_hidden(&self.entries[at as usize], position) {
                self.hidden -= 1;
                self.push_ready(at);
                appeared = true;
            }
        }
        appeared
    }

    fn hold(&mut self, at: u32, member: u32, deadline: Time) {
        let entry = &mut self.entries[at as usize];
        (entry.stage, entry.member, entry.deadline, entry.fresh) = (Stage::Leased, member, deadline, false);
        self.leased += 1;
        self.note_end(at, deadline);
    }

    fn note_end(&mut self, at: u32, deadline: Time) {
        self.ends.push(Reverse((deadline, at)));
        if self.ends.len() > 2 * self.leased + 64 {
            let entries = &self.entries;
            keep_each_once(&mut self.ends, |&(deadline, at)| {
                let entry = &entries[at as usize];
                entry.stage == Stage::Leased && entry.deadline == deadline
            });
        }
    }

    /// What is handed out from now on goes to another member, or at another time.
    pub(super) fn begin_hand_out(&mut self) {
        if let Some(groups) = &mut self.groups {
            groups.begin_batch();
        }
    }

    /// Hands what is first in line to `member` until `deadline`; nothing while what waits on the fast path at `plain` comes before it.
    /// Returns its position and how often it was delivered before.
    pub(super) fn deliver(&mut self, member: u32, deadline: Time, plain: Option<u64>) -> Option<(u64, u32)> {
        let at = self.pop(plain)?;
        let entry = self.entries[at as usize];
        self.hold(at, member, deadline);
        Some((entry.position, entry.redeliveries))
    }

    /// A leased message leaves its group.
    fn unlock(&mut self, at: u32) {
        let group = group_of(self.extra(at).group, self.entries[at as usize].position);
        if let Some(groups) = &mut self.groups {
            groups.release(group);
        }
    }

    /// Removes a leased message: it is settled.
    pub(super) fn settle(&mut self, position: u64) {
        if let Some(at) = self.index.remove(position) {
            debug_assert_eq!(self.entries[at as usize].stage, Stage::Leased, "only a delivered message is settled");
            self.unlock(at);
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
        self.unlock(at);
        self.push_ready(at);
    }

    /// Gives a leased message another end.
    pub(super) fn extend(&mut self, position: u64, deadline: Time) {
        if let Some(at) = self.index.get(position) {
            self.entries[at as usize].deadline = deadline;
            self.note_end(at, deadline);
        }
    }

    /// The earliest time that is noted at which a lease ends, a message appears or can wait no longer; early when that message has gone
    /// otherwise, and always for the life of one that a member holds.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let end = self.ends.peek().map(|Reverse((deadline, _))| *deadline);
        let appears = self.appear.peek().map(|Reverse((at, ..))| *at);
        let perishes = self.perish.peek().map(|Reverse((at, ..))| *at);
        end.into_iter().chain(appears).chain(perishes).min()
    }

    /// Ends every lease that is over by `now`. `back` says whether the message waits again; otherwise it is taken away.
    pub(super) fn expire(&mut self, now: Time, mut back: impl FnMut(&Exception, Time, Words) -> bool) {
        while let Some(&Reverse((noted, at))) = self.ends.peek() {
            let entry = self.entries[at as usize];
            let current = entry.stage == Stage::Leased && entry.deadline == noted;
            if current && noted > now {
                break;
            }
            self.ends.pop();
            if current {
                self.end_lease(at, &entry, &mut back);
            }
        }
    }

    fn end_lease(&mut self, at: u32, entry: &Exception, back: &mut impl FnMut(&Exception, Time, Words) -> bool) {
        let (expires, said) = (self.extra(at).expires, self.said_at(at));
        if back(entry, expires, said) {
            self.requeue_at(at);
        } else {
            self.settle(entry.position);
        }
    }

    /// Ends everything that `member` holds, oldest first, as [`expire`](Self::expire) does. Returns how many those were.
    pub(super) fn release(&mut self, member: u32, mut back: impl FnMut(&Exception, Time, Words) -> bool) -> u64 {
        let held = |entry: &&Exception| entry.stage == Stage::Leased && entry.member == member;
        let mut ended: Vec<Exception> = self.entries.iter().filter(held).copied().collect();
        ended.sort_unstable_by_key(|entry| entry.position);
        for entry in &ended {
            if let Some(at) = self.index.get(entry.position) {
                self.end_lease(at, entry, &mut back);
            }
        }
        ended.len() as u64
    }
}

/// The group that a message is in: what it said, or one of its own when it said nothing.
fn group_of(said: u64, position: u64) -> u64 {
    if said == 0 { !position } else { said }
}

/// Whether an entry is still that of a message that waits at `position` for its first delivery.
fn is_fresh(entry: &Exception, position: u64) -> bool {
    entry.stage == Stage::Ready && entry.fresh && entry.position == position
}

/// Whether an entry is still that of a message at `position` that is held back.
fn is_hidden(entry: &Exception, position: u64) -> bool {
    entry.stage == Stage::Hidden && entry.position == position
}

/// Whether an entry is still that of a message that waits at `position`.
fn waits(entry: &Exception, position: u64) -> bool {
    matches!(entry.stage, Stage::Ready | Stage::Hidden) && entry.position == position
}

/// Drops from a heap what `is_current` denies and what stands there twice. What that costs grows with the heap alone, not with all the
/// messages that it was made for.
fn keep_each_once<T: Ord>(heap: &mut BinaryHeap<Reverse<T>>, is_current: impl Fn(&T) -> bool) {
    let mut kept = std::mem::take(heap).into_vec();
    kept.retain(|Reverse(one)| is_current(one));
    kept.sort_unstable();
    kept.dedup();
    *heap = BinaryHeap::from(kept);
}

#[cfg(test)]
mod tests;
