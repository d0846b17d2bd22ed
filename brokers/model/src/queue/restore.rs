//! A restart: exchanges, queues and what is in them are taken over from a journal.
//!
//! What is not settled is ready again, in order and before anything newer, and counts as delivered once: nobody knows how far the
//! deliveries had come. Between positions that are settled each such message is an exception; beyond the last of those the cursor
//! goes on. Leaves out members and leases, which end with the process.

use crate::contract::Delivery;
use crate::journal::{Journal, JournalError, LaneJournal};
use crate::machine::{ChannelRecord, Effects};
use crate::queue::{Channel, Lane, QueueModel};

impl QueueModel {
    pub(super) fn take_over(&mut self, journal: &Journal, out: &mut Effects) -> Result<(), JournalError> {
        journal.check()?;
        journal.check_whole()?;
        for made in journal.channels() {
            if let Some(made) = made {
                self.pass_over(made.first.0);
                self.add_channel(made);
                self.fill(made, journal, out);
            } else {
                let (name, groups, group_names) = (String::new(), Vec::new(), Vec::new());
                let gone = Channel { name, first_lane: 0, lanes: 0, groups, group_names, turn: 0, gone: true };
                self.channels.push(gone);
            }
        }
        self.pass_over(journal.lane_count());
        journal.trim_gone(out);
        Ok(())
    }

    /// The next lanes, below `to`, were of channels that are gone.
    fn pass_over(&mut self, to: u32) {
        let first_queue = self.backlogs.len() as u32;
        while (self.lanes.len() as u32) < to {
            self.lanes.push(Lane { channel: u32::MAX, gone: true, ..Lane::new(first_queue) });
        }
    }

    /// Notes when what a lane holds was written: from then on it is held back, and lives.
    fn came_before(&mut self, lane: u32, journal: &LaneJournal) {
        let ends = journal.written.iter().skip(1).map(|next| next.position).chain([journal.end()]);
        for (written, end) in journal.written.iter().zip(ends) {
            self.lanes[lane as usize].ages.note(end, written.time);
        }
        self.arm_fronts(lane);
    }

    /// Takes over what the lanes of a channel that was just added hold.
    fn fill(&mut self, made: &ChannelRecord, journal: &Journal, out: &mut Effects) {
        let automatic = self.contract.delivery == Delivery::AtMostOnce;
        let groups = self.channels[made.channel.0 as usize].groups.clone();
        let nothing = LaneJournal::default();
        for lane in made.first.0..made.first.0 + made.lanes {
            let journal = journal.lane(lane).unwrap_or(&nothing);
            let entry = &mut self.lanes[lane as usize];
            (entry.end, entry.stored, entry.trimmed) = (journal.end(), journal.end(), journal.first());
            entry.holes.extend(journal.holes());
            if self.ageing {
                self.came_before(lane, journal);
            }
            for (&group, place) in groups.iter().zip(0..) {
                let queue = self.queue_of(lane, group);
                self.backlogs[queue].restore(journal, place, automatic);
                if self.ready(lane, queue) > 0 {
                    self.list(lane, group);
                }
            }
            self.trim(lane, out);
        }
    }
}
