//! Message groups of one queue: of each group, messages are delivered in order and by one member at a time (SQS: a FIFO queue's
//! `MessageGroupId`).
//!
//! A group of which a member holds something is locked until that is settled or has come back. One hand-out takes several messages of a
//! group, as one receive of SQS does. Groups that are not locked stand in the order of their oldest messages. Leaves out what a
//! message's group is, and leases.

use std::collections::{BTreeMap, BTreeSet};

/// One group with something waiting or held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    /// Positions and entries of those that wait, in order.
    waiting: BTreeSet<(u64, u32)>,
    /// How many messages members hold.
    held: u64,
}

/// All groups of one queue.
#[derive(Clone, Debug)]
pub(super) struct MessageGroups {
    /// How many messages of a group one hand-out takes at most.
    batch: u32,
    groups: BTreeMap<u64, Group>,
    /// Of each group that is not locked: its oldest message's position, and the group.
    open: BTreeSet<(u64, u64)>,
    /// Messages in groups that are not locked.
    deliverable: u64,
    /// The group that the hand-out at hand takes from, and how many more.
    taking: Option<(u64, u32)>,
}

impl MessageGroups {
    /// None yet.
    pub(super) fn new(batch: u32) -> Self {
        let (groups, open) = (BTreeMap::new(), BTreeSet::new());
        Self { batch, groups, open, deliverable: 0, taking: None }
    }

    /// How many messages wait in groups that are not locked.
    pub(super) fn deliverable(&self) -> u64 {
        self.deliverable
    }

    /// Changes a group, and keeps the books on it.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Group)) {
        let group = self.groups.entry(id).or_default();
        if let Some(&(first, _)) = group.waiting.first().filter(|_| group.held == 0) {
            self.open.remove(&(first, id));
            self.deliverable -= group.waiting.len() as u64;
        }
        change(group);
        if group.held > 0 {
            return;
        }
        if let Some(&(first, _)) = group.waiting.first() {
            self.open.insert((first, id));
            self.deliverable += group.waiting.len() as u64;
        } else {
            self.groups.remove(&id);
        }
    }

    /// A message waits.
    pub(super) fn add(&mut self, id: u64, position: u64, entry: u32) {
        self.change(id, |group| {
            group.waiting.insert((position, entry));
        });
    }

    /// A message that waited is gone.
    pub(super) fn remove(&mut self, id: u64, position: u64) {
        self.change(id, |group| {
            let found = group.waiting.range((position, 0)..).next().copied();
            if let Some(entry) = found.filter(|entry| entry.0 == position) {
                group.waiting.remove(&entry);
            }
        });
    }

    /// A message that a member held is settled, or has come back and is added next.
    pub(super) fn release(&mut self, id: u64) {
        self.change(id, |group| group.held -= 1);
    }

    /// What is taken from now on is another hand-out.
    pub(super) fn begin_batch(&mut self) {
        self.taking = None;
    }

    /// Takes the next message: of the group at hand, or of the first that is not locked.
    pub(super) fn next(&mut self) -> Option<u32> {
        let more =
            |&(id, left): &(u64, u32)| left > 0 && self.groups.get(&id).is_some_and(|group| !group.waiting.is_empty());
        let (id, left) = match self.taking.filter(more) {
            Some(taking) => taking,
            None => (self.open.first()?.1, self.batch),
        };
        self.taking = Some((id, left - 1));
        let mut taken = None;
        self.change(id, |group| {
            taken = group.waiting.pop_first();
            group.held += 1;
        });
        taken.map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_locked_while_something_of_it_is_held_and_one_hand_out_takes_several() {
        let mut groups = MessageGroups::new(2);
        for (position, group) in [(0, 7), (1, 7), (2, 8), (3, 7), (4, 8)] {
            groups.add(group, position, position as u32);
        }
        assert_eq!(groups.deliverable(), 5);
        let taken = |groups: &mut MessageGroups| {
            groups.begin_batch();
            let mut all = Vec::new();
            while let Some(entry) = groups.next() {
                all.push(entry);
            }
            all
        };
        assert_eq!(taken(&mut groups), [0, 1, 2, 4], "two of each, the oldest group first");
        assert_eq!((groups.deliverable(), taken(&mut groups)), (0, vec![]));
        groups.release(7);
        assert_eq!(taken(&mut groups), [], "one of the two is still held");
        groups.release(7);
        groups.add(7, 0, 0);
        assert_eq!((groups.deliverable(), taken(&mut groups)), (2, vec![0, 3]), "what came back goes first");
        groups.release(8);
        groups.release(8);
        groups.add(8, 4, 4);
        groups.remove(8, 4);
        assert_eq!((groups.deliverable(), groups.groups.len()), (0, 1));
    }
}
