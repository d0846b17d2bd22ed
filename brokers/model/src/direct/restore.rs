//! A restart: services and the requests that no receiver was done with are taken over from a journal.
//!
//! The services that are called keep their requests on disk, so a request that is written down counts as answered, though its
//! caller may have gone without hearing so. It waits for a receiver of each group that was not done with it, and counts as
//! handed over once before. Leaves out callers, receivers and circuit breakers, which begin anew.

use std::collections::VecDeque;

use crate::batch::{LaneId, Token};
use crate::direct::requests::{LegStage, NONE, Request, Requests, Stage};
use crate::direct::{Channel, DirectModel, Lane};
use crate::journal::{Journal, JournalError, LaneJournal};
use crate::machine::{ChannelRecord, Effects, Write};
use crate::slots::NOBODY;
use crate::time::Time;

impl DirectModel {
    pub(super) fn take_over(&mut self, now: Time, journal: &Journal, out: &mut Effects) -> Result<(), JournalError> {
        journal.check()?;
        journal.check_whole()?;
        for made in journal.channels() {
            if let Some(made) = made {
                self.pass_over(made.first.0);
                self.add_channel(made);
                self.fill(now, made, journal, out);
            } else {
                let (name, groups, group_names) = (String::new(), Vec::new(), Vec::new());
                let requests = Requests::new(0);
                let gone =
                    Channel { name, first_lane: 0, lanes: 0, groups, group_names, turn: 0, requests, gone: true };
                self.channels.push(gone);
            }
        }
        self.pass_over(journal.lane_count());
        journal.trim_gone(out);
        Ok(())
    }

    /// The next lanes, below `to`, were of services that are gone.
    fn pass_over(&mut self, to: u32) {
        while (self.lanes.len() as u32) < to {
            self.lanes.push(Lane {
                channel: u32::MAX,
                end: 0,
                base: 0,
                index: VecDeque::new(),
                line: VecDeque::new(),
                active: Vec::new(),
                recorded: Vec::new(),
                touched: false,
                gone: true,
            });
        }
    }

    /// Takes over the requests of a service that was just added.
    fn fill(&mut self, now: Time, made: &ChannelRecord, journal: &Journal, out: &mut Effects) {
        let nothing = LaneJournal::default();
        for lane in made.first.0..made.first.0 + made.lanes {
            let journal = journal.lane(lane).unwrap_or(&nothing);
            let mut open: Vec<u64> = Vec::new();
            for place in 0..made.groups.len() as u32 {
                open.extend(journal.open(place, 0, journal.end()));
            }
            open.sort_unstable();
            open.dedup();
            let base = open.first().copied().unwrap_or(journal.end());
            let entry = &mut self.lanes[lane as usize];
            (entry.base, entry.end) = (base, journal.end());
            for (recorded, place) in entry.recorded.iter_mut().zip(0..) {
                *recorded = journal.done(place).map_or(0, |done| done.committed);
            }
            entry.index.extend((base..journal.end()).map(|_| NONE));
            for position in open {
                let id = self.restore_request(now, made, lane, position, journal);
                self.lanes[lane as usize].index[(position - base) as usize] = id;
            }
            if base > journal.first() {
                out.writes.push(Write::Trim { lane: LaneId(lane), below: base });
            }
        }
    }

    /// An answered request, which waits for a receiver of each group that was not done with it.
    fn restore_request(
        &mut self,
        now: Time,
        made: &ChannelRecord,
        lane: u32,
        position: u64,
        journal: &LaneJournal,
    ) -> u32 {
        let channel = made.channel.0;
        let serial = self.next_serial;
        self.next_serial += 1;
        let id = self.channels[channel as usize].requests.add(Request {
            token: Token(0),
            serial,
            position,
            lane,
            client: NOBODY,
            segment: 0,
            unplaced: 0,
            open: 0,
            strays: 0,
            retries: 0,
            deadline: now,
            wake: now,
            stored: true,
            stage: Stage::Answered,
        });
        for place in 0..made.groups.len() as u32 {
            let group = self.channels[channel as usize].groups[place as usize];
            let requests = &mut self.channels[channel as usize].requests;
            if !journal.is_open(place, position) {
                requests.leg_mut(id, place).stage = LegStage::Settled;
                continue;
            }
            requests.get_mut(id).open += 1;
            let leg = requests.leg_mut(id, place);
            leg.stage = LegStage::Placed;
            leg.deliveries = u32::from(!self.at_most_once);
            leg.epoch = leg.deliveries;
            self.groups[group as usize].orphans.push_back(id);
        }
        id
    }
}
