//! Which receiver a request goes to, and what becomes of a receiver's requests when it leaves.
//!
//! Leaves out when a request is tried again, which is in `publish`.

use crate::direct::DirectModel;
use crate::direct::callers::{Binding, Queued};
use crate::direct::requests::{LegStage, NONE, Stage};
use crate::slots::NOBODY;

impl DirectModel {
    fn has_room(&self, member: u32) -> bool {
        self.peers.get(member).held < self.options.service_queue
    }

    /// Notes that a receiver may have something to hand to a worker.
    pub(super) fn mark(&mut self, member: u32) {
        let peer = self.peers.get_mut(member);
        if !peer.dirty {
            peer.dirty = true;
            self.dirty.push(member);
        }
    }

    /// A receiver of the group with room: the next in turn, or under an order the endpoint's own.
    pub(super) fn pick(&mut self, group: u32, lane: u32) -> Option<u32> {
        let member = self.next_with_room(group, lane)?;
        if !self.ordered {
            self.groups[group as usize].ring.rotate_left(1);
        }
        Some(member)
    }

    /// Whether every group has a receiver with room for a request to this endpoint, or none at all.
    pub(super) fn all_have_room(&mut self, lane: u32) -> bool {
        let channel = self.lanes[lane as usize].channel as usize;
        (0..self.channels[channel].groups.len()).all(|place| {
            let group = self.channels[channel].groups[place];
            self.groups[group as usize].members.is_empty() || self.next_with_room(group, lane).is_some()
        })
    }

    /// The receiver that `pick` would take, which then stands first in the group's ring.
    fn next_with_room(&mut self, group: u32, lane: u32) -> Option<u32> {
        if self.ordered {
            return self.own_receiver(group, lane).filter(|&member| self.has_room(member));
        }
        while let Some(&(member, binding)) = self.groups[group as usize].ring.front() {
            if self.has_room(member) {
                return Some(member);
            }
            self.groups[group as usize].ring.pop_front();
            self.peers.get_mut(member).bindings[binding as usize].listed = false;
        }
        None
    }

    /// Under an order: the receiver that takes all of an endpoint's requests until it leaves. At first the one with the fewest
    /// endpoints, the earliest if several have as few.
    fn own_receiver(&mut self, group: u32, lane: u32) -> Option<u32> {
        let place = self.groups[group as usize].place as usize;
        if self.lanes[lane as usize].active[place] == NOBODY {
            let members = self.groups[group as usize].members.iter().copied();
            let fewest = members.min_by_key(|&member| self.peers.get(member).active)?;
            self.lanes[lane as usize].active[place] = fewest;
            self.peers.get_mut(fewest).active += 1;
        }
        Some(self.lanes[lane as usize].active[place])
    }

    /// Frees a place in a receiver's service queue.
    pub(super) fn free_place(&mut self, member: u32) {
        self.freed = true;
        let peer = self.peers.get_mut(member);
        peer.held -= 1;
        if peer.held < self.options.service_queue && !peer.closing {
            self.list(member);
        }
    }

    /// Puts a receiver with room into its groups' rings.
    fn list(&mut self, member: u32) {
        for (index, binding) in self.peers.get_mut(member).bindings.iter_mut().enumerate() {
            if !binding.listed {
                binding.listed = true;
                self.groups[binding.group as usize].ring.push_back((member, index as u32));
            }
        }
    }

    /// A receiver arrives, and takes what waits for one.
    pub(super) fn join(&mut self, member: u32) {
        self.freed = true;
        self.list(member);
        for index in 0..self.peers.get(member).bindings.len() {
            let group = self.peers.get(member).bindings[index].group;
            let entry = &mut self.groups[group as usize];
            entry.members.push(member);
            for id in std::mem::take(&mut entry.orphans) {
                self.hand_on(group, id);
            }
        }
    }

    /// A receiver that takes over what another one left, if any is connected; its service queue may grow past its bound by that.
    fn heir(&mut self, group: u32, lane: u32) -> Option<u32> {
        if self.ordered {
            return self.own_receiver(group, lane);
        }
        let entry = &mut self.groups[group as usize];
        entry.heir = (entry.heir + 1) % entry.members.len().max(1);
        entry.members.get(entry.heir).copied()
    }

    /// Gives an answered request that has no receiver to one, or keeps it until one connects.
    pub(super) fn hand_on(&mut self, group: u32, id: u32) {
        let (channel, place) = (self.groups[group as usize].channel, self.groups[group as usize].place);
        let lane = self.channels[channel as usize].requests.get(id).lane;
        let heir = self.heir(group, lane);
        let leg = self.channels[channel as usize].requests.leg_mut(id, place);
        (leg.member, leg.stage) = (heir.unwrap_or(NOBODY), LegStage::Placed);
        let queued = Queued { group, id, epoch: leg.epoch };
        if let Some(heir) = heir {
            self.peers.get_mut(heir).held += 1;
            self.enqueue(heir, queued);
        } else {
            self.groups[group as usize].orphans.push_back(id);
        }
    }

    /// A stored request stands in its receiver's service queue for a worker.
    pub(super) fn enqueue(&mut self, member: u32, queued: Queued) {
        self.peers.get_mut(member).ready.push_back(queued);
        self.mark(member);
    }

    /// A receiver leaves: what it held goes to others, oldest first. What callers gave up goes with it.
    pub(super) fn leave(&mut self, member: u32) {
        self.freed = true;
        self.leave_strays(member);
        self.connections.forget(member);
        let bindings = std::mem::take(&mut self.peers.get_mut(member).bindings);
        self.peers.get_mut(member).ready.clear();
        for &Binding { group, listed } in &bindings {
            let entry = &mut self.groups[group as usize];
            entry.members.retain(|&other| other != member);
            if listed {
                entry.ring.retain(|&(other, _)| other != member);
            }
            let (channel, place) = (entry.channel, entry.place);
            let (first, lanes) = (self.channels[channel as usize].first_lane, self.channels[channel as usize].lanes);
            for lane in first..first + lanes {
                let active = &mut self.lanes[lane as usize].active[place as usize];
                if *active == member {
                    *active = NOBODY;
                }
            }
            if self.peers.get(member).held == 0 {
                continue;
            }
            for lane in first..first + lanes {
                for at in 0..self.lanes[lane as usize].index.len() {
                    let id = self.lanes[lane as usize].index[at];
                    if id != NONE {
                        self.take_back(group, id, member);
                    }
                }
            }
        }
    }

    /// Takes one request from a receiver that leaves, if it holds it.
    fn take_back(&mut self, group: u32, id: u32, member: u32) {
        let (channel, place) = (self.groups[group as usize].channel, self.groups[group as usize].place);
        let requests = &mut self.channels[channel as usize].requests;
        let stage = requests.get(id).stage;
        let leg = requests.leg_mut(id, place);
        if leg.member != member || leg.stage == LegStage::Settled {
            return;
        }
        leg.member = NOBODY;
        leg.connected = false;
        self.peers.get_mut(member).held -= 1;
        match (stage, leg.stage) {
            (Stage::Waiting, was) => {
                leg.stage = LegStage::Unplaced;
                leg.epoch += u32::from(was == LegStage::InWork);
                requests.get_mut(id).unplaced += 1;
            }
            (Stage::Answered | Stage::Serving, LegStage::InWork) => {
                leg.epoch += 1;
                self.hand_on(group, id);
            }
            (Stage::Answered | Stage::Serving, _) => self.hand_on(group, id),
            // Handed on when it is stored; what has ended is with nobody, and a free row is in no index.
            (Stage::Storing | Stage::Ended | Stage::Free, _) => {}
        }
    }
}
