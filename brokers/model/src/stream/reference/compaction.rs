//! Compaction as the reference sees it: every message that is left out is looked at by itself, and there must be a reason for it.
//!
//! Leaves out when a pass begins, in which pieces it comes and where exactly a newest part begins; a model's own tests count that.

use std::collections::BTreeSet;

use super::{Fate, Lane, Reference, Verdicts};
use crate::batch::LaneId;
use crate::time::{Span, Time};

/// What is known of a message beside when it was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) key: Vec<u8>,
    pub(super) is_tombstone: bool,
}

impl Lane {
    /// Notes what was appended, `bytes` long.
    pub(super) fn note(&mut self, said: Said, bytes: u64) {
        self.said.push(said);
        self.appended += bytes;
    }

    fn counts(&self, position: u64) -> bool {
        let stored = matches!(self.messages[position as usize].1, Fate::Stored | Fate::LeftOut);
        stored && !self.taken_back.contains(&position) && !self.aborted.contains(&position)
    }
}

impl Reference {
    /// Of `from..to` only `kept` stays.
    pub(super) fn compacted(
        &mut self,
        now: Time,
        lane: LaneId,
        (from, to): (u64, u64),
        kept: &[(u64, u32)],
    ) -> Verdicts {
        let wrong = |why: String| Err(format!("compacted {lane:?} {from}..{to} to {kept:?} at {now:?}: {why}"));
        let Some((active_bytes, retention)) = self.rules.compaction() else {
            return wrong("nobody asked for it".to_owned());
        };
        let settled = self.settled_to(lane.0);
        let stays: Vec<u64> = kept.iter().flat_map(|&(first, count)| first..first + u64::from(count)).collect();
        let at = &self.lanes[lane.0 as usize];
        // The first newest part is full, was closed by a restart, or stood still while others were compacted.
        let closed = at.appended >= active_bytes || self.compacts;
        if from > to || to > settled || !closed {
            return wrong(format!("{settled} is settled, {} bytes were appended", at.appended));
        }
        let inside = stays.iter().all(|at| (from..to).contains(at)) && stays.is_sorted_by(|a, b| a < b);
        if !inside || stays.iter().any(|&position| at.messages[position as usize].1 != Fate::Stored) {
            return wrong("that can't be kept".to_owned());
        }
        let stays: BTreeSet<u64> = stays.into_iter().collect();
        let gone: Vec<u64> = (from..to)
            .filter(|position| at.messages[*position as usize].1 == Fate::Stored && !stays.contains(position))
            .collect();
        for &position in &gone {
            self.lanes[lane.0 as usize].messages[position as usize].1 = Fate::LeftOut;
        }
        for position in gone {
            if let Err(why) = may_go(now, &self.lanes[lane.0 as usize], position, settled, retention) {
                return wrong(format!("{position} {why}"));
            }
        }
        self.compacts = true;
        Ok(())
    }

    /// Up to where everything is stored and no transaction is open.
    fn settled_to(&self, lane: u32) -> u64 {
        self.open_in(lane)
            .min()
            .map_or_else(|| self.lanes[lane as usize].stable(), |open| open.min(self.lanes[lane as usize].stable()))
    }
}

/// Whether a message that is already left out may be.
fn may_go(now: Time, lane: &Lane, position: u64, settled: u64, retention: Span) -> Result<(), &'static str> {
    let (said, (written, _)) = (&lane.said[position as usize], lane.messages[position as usize]);
    if !lane.counts(position) {
        return Ok(());
    }
    let of_key = |other: &u64| lane.said[*other as usize].key == said.key && lane.counts(*other);
    if (position + 1..settled).any(|later| of_key(&later)) {
        return Ok(());
    }
    if !said.is_tombstone || written + retention > now {
        return Err("is the latest of its key, and no tombstone that has stood for long enough");
    }
    let older = |other: u64| of_key(&other) && lane.messages[other as usize].1 == Fate::Stored;
    if (0..position).any(older) { Err("is a tombstone, and an older message of its key stays") } else { Ok(()) }
}
