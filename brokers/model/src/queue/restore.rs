//! A restart: exchanges, queues and what is in them are taken over from a journal.
//!
//! What is not settled is ready again, in order and before anything newer, and counts as delivered once: nobody knows how far the
//! deliveries had come. Between positions that are settled each such message is an exception; beyond the last of those the cursor
//! goes on. Leaves out members and leases, which end with the process.

use crate::batch::ChannelId;
use crate::contract::Delivery;
use crate::headers::{Headers, names};
use crate::journal::{Journal, JournalError, LaneJournal};
use crate::machine::{ChannelRecord, Effects};
use crate::queue::backlog::Told;
use crate::queue::said::Said;
use crate::queue::{Channel, Lane, QueueModel};
use crate::time::Time;

impl QueueModel {
    pub(super) fn take_over(&mut self, now: Time, journal: &Journal, out: &mut Effects) -> Result<(), JournalError> {
        journal.check()?;
        journal.check_whole()?;
        for made in journal.channels() {
            if let Some(made) = made {
                self.pass_over(made.first.0);
                self.add_channel(made);
                self.fill(now, made, journal, out);
            } else {
                self.channels.push(Channel { gone: true, ..Channel::default() });
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

    /// What the messages of a lane say of themselves, by position, as far as they say anything; and notes their ids.
    fn read_again<'j>(
        &self,
        channel: ChannelId,
        lane: u32,
        journal: &'j LaneJournal,
        ids: &mut Vec<(Time, u32, u32, u64, &'j [u8])>,
    ) -> Vec<(u64, Time, Said)> {
        let mut all = Vec::new();
        let all_told = self.groups_in_order || !self.channels[channel.0 as usize].bindings.is_empty();
        for (position, came, key, headers) in journal.said(all_told) {
            let id = Headers::parse(headers).and_then(|headers| headers.text(names::DEDUPLICATION_ID));
            if let Some(id) = id.filter(|_| self.options.deduplication.is_some()) {
                ids.push((came, channel.0, lane, position, id));
            }
            // What is refused now was not when it was written: the options were others.
            if let Ok(Some(said)) = self.said(channel, key, headers) {
                all.push((position, came, said));
            }
        }
        all
    }

    /// Takes over what the lanes of a channel that was just added hold.
    fn fill(&mut self, now: Time, made: &ChannelRecord, journal: &Journal, out: &mut Effects) {
        let automatic = self.contract.delivery == Delivery::AtMostOnce;
        let groups = self.channels[made.channel.0 as usize].groups.clone();
        let nothing = LaneJournal::default();
        let (mut ids, mut lanes) = (Vec::new(), Vec::new());
        for lane in made.first.0..made.first.0 + made.lanes {
            let journal = journal.lane(lane).unwrap_or(&nothing);
            let entry = &mut self.lanes[lane as usize];
            (entry.end, entry.stored, entry.trimmed) = (journal.end(), journal.end(), journal.first());
            entry.holes.extend(journal.holes());
            if self.ageing && !self.is_of_letters(lane) {
                self.came_before(lane, journal);
            }
            let said = self.read_again(made.channel, lane, journal, &mut ids);
            for (&group, place) in groups.iter().zip(0..) {
                let queue = self.queue_of(lane, group);
                let of_group = |(position, came, said): &(u64, Time, Said)| {
                    let open = journal.is_open(place, *position) && *position >= journal.first();
                    let told =
                        said.told(place, *came, self.delay_of(lane)).filter(|&told| open || told == Told::Elsewhere);
                    Some((*position, told?))
                };
                let told: Vec<(u64, Told)> = said.iter().filter_map(of_group).collect();
                let (ages, delay) = (&self.lanes[lane as usize].ages, self.delay_of(lane));
                let appears = |position| ages.came(position).map_or(Time::ZERO, |came| came + delay);
                self.backlogs[queue].restore(now, journal, place, automatic, &told, appears);
                self.arm(lane, group);
                let entry = &self.lanes[lane as usize];
                if self.backlogs[queue].waiting(entry.stored, &entry.holes) > 0 {
                    self.list(lane, group);
                }
            }
            lanes.push(lane);
        }
        if let Some(window) = self.options.deduplication {
            self.repeats.restore(now, window, ids);
        }
        for lane in lanes {
            self.trim(lane, out);
        }
    }
}
