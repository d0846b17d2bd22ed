//! Dead letters: what a queue gives up goes to the channel that was made for its channel's, where any member can read it.
//!
//! A letter is the message once more, at the end of a lane of that channel, with headers that say how it died. It is written before
//! the journal hears that the message is settled: a crash in between leaves both, so that nothing is lost and a letter may come
//! twice. In the channel of dead letters nothing expires, overflows or dies again, and a letter keeps its priority and its group.
//! Leaves out why a message is given up, and the bytes, which the host of the effects copies.

use crate::batch::LaneId;
use crate::death::{Death, DeathReason};
use crate::machine::{Effects, Write};
use crate::queue::exceptions::Words;
use crate::queue::said::Said;
use crate::queue::{DeadLetter, QueueModel};
use crate::time::{Span, Time};

/// A message that is to become a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dead {
    position: u64,
    reason: DeathReason,
    /// How often it had been delivered.
    deliveries: u32,
    said: Words,
}

/// Those of one queue that died in the step at hand.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths {
    dead: Vec<Dead>,
    are_kept: bool,
    /// How many have become dead letters.
    pub(super) lettered: u64,
}

impl Deaths {
    /// None yet. `are_kept` says whether they are noted.
    pub(super) fn new(are_kept: bool) -> Self {
        Self { are_kept, ..Self::default() }
    }

    /// Whether they are noted.
    pub(super) fn are_kept(&self) -> bool {
        self.are_kept
    }

    /// Notes one.
    pub(super) fn note(&mut self, position: u64, reason: DeathReason, deliveries: u32, said: Words) {
        if self.are_kept {
            self.dead.push(Dead { position, reason, deliveries, said });
        }
    }
}

impl QueueModel {
    /// Writes the dead letters of a queue's messages that died in this step.
    pub(super) fn write_letters(&mut self, now: Time, lane: u32, group: u32, out: &mut Effects) {
        let queue = self.queue_of(lane, group);
        if self.backlogs[queue].deaths.dead.is_empty() {
            return;
        }
        let mut dead = std::mem::take(&mut self.backlogs[queue].deaths.dead);
        let channel = &self.channels[self.lanes[lane as usize].channel as usize];
        if let Some(to) = channel.dead_letters_to {
            let name = &channel.group_names[self.groups[group as usize].place as usize];
            let within = lane - channel.first_lane;
            let letters = &self.channels[to as usize];
            let lane_to = letters.first_lane + within % letters.lanes;
            for &Dead { position: at, reason, deliveries, said } in &dead {
                let entry = &mut self.lanes[lane_to as usize];
                let position = entry.end;
                entry.end += 1;
                let death = Death { reason, deliveries, group: name.clone(), lane: LaneId(lane), position: at };
                let death = Box::new(death);
                out.writes.push(Write::DeadLetter { from: LaneId(lane), at, lane: LaneId(lane_to), position, death });
                self.pending.letter(now, lane_to, position, Said::of_letter(said, self.groups_in_order));
            }
            self.backlogs[queue].deaths.lettered += dead.len() as u64;
            self.letters_written += dead.len() as u32;
        }
        dead.clear();
        self.backlogs[queue].deaths.dead = dead;
    }

    /// Asks for the dead letters of the step at hand to be stored.
    pub(super) fn store_letters(&mut self, out: &mut Effects) {
        let count = std::mem::take(&mut self.letters_written);
        if count > 0 {
            self.pending.letters_end(count, out);
        }
    }

    /// Whether a lane is one of dead letters.
    pub(super) fn is_of_letters(&self, lane: u32) -> bool {
        let channel = self.lanes[lane as usize].channel as usize;
        self.channels.get(channel).is_some_and(|channel| channel.dead_letters_of.is_some())
    }

    /// How long a lane's messages are held back.
    pub(super) fn delay_of(&self, lane: u32) -> Span {
        if self.is_of_letters(lane) { Span::ZERO } else { self.options.delay }
    }

    /// Whether the channel of what is given up can be told.
    pub(super) fn keeps_letters(&self) -> bool {
        self.options.dead_letter == DeadLetter::Channel
    }
}
