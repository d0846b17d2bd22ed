//! A restart: channels, lanes and committed positions are taken over from a journal.
//!
//! A group goes on at its committed position. How far it had read beyond is not known, so all that the journal holds counts as
//! delivered once before, unless a delivery is committed first. Times and sizes come with the messages, so that retention and seeks
//! by time go on as if nothing had happened. Leaves out members and what was outstanding, which end with the process.

use std::ops::Range;

use super::lane::Lane;
use super::publish::expiry;
use super::{Channel, Stream};
use crate::journal::{Journal, JournalError, LaneJournal};
use crate::machine::Effects;
use crate::time::Time;

impl Stream {
    /// Takes over what `journal` holds; the stream is fresh.
    pub(crate) fn restore(&mut self, now: Time, journal: &Journal, out: &mut Effects) -> Result<(), JournalError> {
        journal.check()?;
        for made in journal.channels() {
            if let Some(made) = made {
                if self.config.single_lane && made.lanes > 1 {
                    return Err(JournalError::TotalOrder { name: made.name.clone(), lanes: made.lanes });
                }
                self.pass_over(made.first.0, journal);
                self.add_channel(now, made);
                self.fill(now, made.first.0..made.first.0 + made.lanes, journal);
            } else {
                let (name, later, groups) = (String::new(), Vec::new(), Vec::new());
                self.channels.push(Channel { name, first: 0, lanes: 0, later, groups, gone: true });
            }
        }
        self.pass_over(journal.lane_count(), journal);
        for made in journal.reshapes() {
            self.make_children(now, made);
            self.fill(now, made.children(), journal);
        }
        self.restore_producers(now, journal);
        journal.trim_gone(out);
        Ok(())
    }

    /// The next lanes, below `to`, were of channels that are gone, or were made by splits and merges that come later.
    fn pass_over(&mut self, to: u32, journal: &Journal) {
        let gone = journal.gone_channel().0;
        while (self.lanes.len() as u32) < to {
            self.lanes.push(Lane::new(gone, Vec::new(), self.config.index_entries));
        }
    }

    /// Takes over what lanes that were just made hold.
    fn fill(&mut self, now: Time, made: Range<u32>, journal: &Journal) {
        for lane in made {
            let Some(journal) = journal.lane(lane) else { continue };
            let entry = &mut self.lanes[lane as usize];
            let hides = self.config.transactions.is_some_and(|rules| rules.read_committed);
            fill_lane(entry, journal, self.config.commit_first, hides, self.compaction.is_some());
            if let Some(compaction) = &mut self.compaction {
                compaction.restore(lane, journal, now);
            }
            if let Some(age) = self.config.retention {
                self.next_expiry = self.next_expiry.min(expiry(entry, age));
            }
        }
    }
}

/// A transaction that did not end is taken back, where such are not read.
fn fill_lane(lane: &mut Lane, journal: &LaneJournal, commit_first: bool, hides: bool, compacts: bool) {
    (lane.end, lane.stable, lane.bytes) = (journal.end(), journal.end(), journal.bytes);
    if compacts {
        fill_compacted(lane, journal);
    } else {
        for written in &journal.written {
            lane.index.note(written.time, written.position, written.bytes);
        }
        lane.holes.extend(journal.holes());
    }
    lane.limit();
    if hides {
        for &(from, to) in journal.provisional() {
            lane.leave_out(from, to);
        }
    }
    // What compaction has left out does not move a lane's beginning.
    lane.trim(if compacts { 0 } else { journal.first() });
    for (cursor, group) in lane.cursors.iter_mut().zip(0..) {
        cursor.committed = journal.done(group).map_or(0, |done| done.committed);
        cursor.position = cursor.committed;
        cursor.highest = if commit_first { cursor.committed } else { lane.end };
    }
}

/// Positions may be missing anywhere, and messages are told one by one.
fn fill_compacted(lane: &mut Lane, journal: &LaneJournal) {
    let (mut next, mut bytes) = (0, 0);
    for (&position, message) in journal.keyed() {
        if next < position {
            lane.holes.push((next, position));
        }
        lane.index.note(message.written, position, bytes);
        next = position + 1;
        bytes += u64::from(message.bytes);
    }
    if next < lane.end {
        lane.holes.push((next, lane.end));
    }
    lane.bytes = bytes;
}
