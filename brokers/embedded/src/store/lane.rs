//! A lane's index: in which frames its messages stand, 24 bytes for each frame that holds some of them.
//!
//! Leaves out where in the frame: the frame's own table says it, for as long as the frame is in memory.

use std::collections::VecDeque;
use std::ops::Range;

/// Successive messages of a lane in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first one's position.
    pub(super) position: u64,
    /// The number of the frame that holds them.
    pub(super) frame: u64,
    /// The first one's place in the frame's table; while the frame is being built, the number of the lane's group in it.
    pub(super) first: u32,
    /// How many there are.
    pub(super) count: u32,
}

/// Bytes of the index for each run.
pub(super) const RUN_BYTES: u64 = size_of::<Run>() as u64;

const _: () = assert!(RUN_BYTES <= 24, "the index is bounded at 24 bytes a run");

/// What a trim has let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trimmed {
    pub(super) messages: u64,
    pub(super) runs: u64,
}

/// Runs for which a lane keeps its memory whatever happens: 1.5 KiB.
const RUNS_KEPT: usize = 64;

/// A lane's messages from the oldest that is needed to the newest.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The first position that is kept.
    first: u64,
    /// The next position to be written.
    end: u64,
    runs: VecDeque<Run>,
    /// Positions may be missing.
    compacted: bool,
}

impl Lane {
    /// The next position to be written.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The first position that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Whether no message is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// Whether positions may be missing: it was compacted.
    pub(super) fn is_compacted(&self) -> bool {
        self.compacted
    }

    /// Whether `position` may be the next one, beyond what was written.
    pub(super) fn may_skip_to(&self, position: u64) -> bool {
        position > self.end && (self.compacted || self.is_empty())
    }

    /// Positions of a compacted lane below `end` were given out.
    pub(super) fn reach(&mut self, end: u64) {
        self.compacted = true;
        self.end = self.end.max(end);
    }

    /// How many runs there are.
    pub(super) fn run_count(&self) -> u64 {
        self.runs.len() as u64
    }

    /// From now on what is kept of the range stands at `runs`; hands each frame that held messages of it, and how many, to `each`. Returns
    /// how many messages those were.
    pub(super) fn replace(&mut self, range: Range<u64>, runs: Vec<Run>, mut each: impl FnMut(u64, u32)) -> u64 {
        self.reach(range.end);
        self.first = self.first.min(range.start);
        let mut messages = 0;
        self.cut(range.start);
        self.cut(range.end);
        let from = self.runs.partition_point(|run| run.position < range.start);
        let to = self.runs.partition_point(|run| run.position < range.end);
        for run in self.runs.range(from..to) {
            each(run.frame, run.count);
            messages += u64::from(run.count);
        }
        let beyond = self.runs.split_off(to);
        self.runs.truncate(from);
        self.runs.extend(runs);
        self.runs.extend(beyond);
        self.give_back();
        messages
    }

    /// Has a run begin at `position`, if one goes across.
    fn cut(&mut self, position: u64) {
        let at = self.runs.partition_point(|run| run.position + u64::from(run.count) <= position);
        let Some(run) = self.runs.get_mut(at).filter(|run| run.position < position) else { return };
        let before = (position - run.position) as u32;
        let rest = Run { position, first: run.first + before, count: run.count - before, ..*run };
        run.count = before;
        self.runs.insert(at + 1, rest);
    }

    /// The positions that are kept, as ranges in order.
    pub(super) fn kept(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|run| run.position..run.position + u64::from(run.count))
    }

    /// The next position to be written is `end`; positions below were given out and nothing of them is kept.
    pub(super) fn skip(&mut self, end: u64) {
        debug_assert!(self.may_skip_to(end), "only a lane that is empty or was compacted skips, and only forward");
        self.first = if self.is_empty() { end } else { self.first };
        self.end = end;
    }

    /// The run to which what is appended to `frame` belongs, if there is one.
    pub(super) fn last_in(&self, frame: u64) -> Option<&Run> {
        self.runs.back().filter(|run| run.frame == frame)
    }

    /// Appends `count` messages that stand in `frame`, with the run before them if it stands there too; else as a run that begins with
    /// place `first`.
    pub(super) fn push(&mut self, frame: u64, first: u32, count: u32) {
        match self.runs.back_mut() {
            Some(run) if run.frame == frame => run.count += count,
            Some(_) | None => self.runs.push_back(Run { position: self.end, frame, first, count }),
        }
        self.end += u64::from(count);
    }

    /// The frame was sealed: its run begins with place `first` of the frame's table.
    pub(super) fn seal(&mut self, frame: u64, first: u32) {
        if let Some(run) = self.runs.back_mut()
            && run.frame == frame
        {
            run.first = first;
        }
    }

    /// The messages from `position` on that stand in the same frame, if it is kept.
    pub(super) fn run_from(&self, position: u64) -> Option<Run> {
        let at = match self.runs.front() {
            // A reader is at the end, a queue at the beginning.
            Some(first) if position < first.position + u64::from(first.count) => 0,
            Some(_) => self.runs.partition_point(|run| run.position + u64::from(run.count) <= position),
            None => return None,
        };
        let run = self.runs.get(at)?;
        let skipped = u32::try_from(position.checked_sub(run.position)?).ok()?;
        Some(Run { position, frame: run.frame, first: run.first + skipped, count: run.count - skipped })
    }

    /// Forgets everything below `below` and hands each frame concerned with its number of forgotten messages to `each`.
    pub(super) fn trim(&mut self, below: u64, mut each: impl FnMut(u64, u32)) -> Trimmed {
        let below = below.min(self.end);
        let mut trimmed = Trimmed::default();
        while let Some(run) = self.runs.front_mut()
            && run.position < below
        {
            let gone = u32::try_from(below - run.position).map_or(run.count, |gone| gone.min(run.count));
            each(run.frame, gone);
            trimmed.messages += u64::from(gone);
            if gone == run.count {
                self.runs.pop_front();
                trimmed.runs += 1;
            } else {
                run.position += u64::from(gone);
                run.first += gone;
                run.count -= gone;
            }
        }
        self.first = self.first.max(below);
        self.give_back();
        trimmed
    }

    /// Gives memory back once an eighth of it is enough, so that what a burst took is not kept, and what goes up and down costs little.
    fn give_back(&mut self) {
        let (len, capacity) = (self.runs.len(), self.runs.capacity());
        if capacity > RUNS_KEPT && len < capacity / 8 {
            self.runs.shrink_to((2 * len).max(RUNS_KEPT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_compaction_keeps_stands_elsewhere() {
        let mut lane = Lane::default();
        for (frame, count) in [(0, 10), (1, 10), (2, 10)] {
            lane.push(frame, 0, count);
        }
        let copies =
            vec![Run { position: 5, frame: 7, first: 0, count: 2 }, Run { position: 21, frame: 7, first: 2, count: 1 }];
        let mut gone = Vec::new();
        let replaced = lane.replace(4..25, copies, |frame, count| gone.push((frame, count)));
        assert_eq!((gone, replaced), (vec![(0, 6), (1, 10), (2, 5)], 21));
        assert_eq!(lane.run_count(), 4);
        assert_eq!(lane.kept().collect::<Vec<_>>(), [0..4, 5..7, 21..22, 25..30]);
        assert_eq!(lane.run_from(6), Some(Run { position: 6, frame: 7, first: 1, count: 1 }));
        assert_eq!(lane.run_from(26), Some(Run { position: 26, frame: 2, first: 6, count: 4 }));
        assert_eq!((lane.run_from(4), lane.run_from(22)), (None, None));
        assert_eq!((lane.replace(0..30, Vec::new(), |_, _| {}), lane.run_count()), (12, 0));
        assert!(lane.may_skip_to(31) && !lane.may_skip_to(30) && lane.first() == 0);
    }

    #[test]
    fn a_run_is_found_from_any_position_and_trimmed_from_the_front() {
        let mut lane = Lane::default();
        lane.skip(10);
        for (frame, count) in [(3, 4), (3, 1), (5, 2), (9, 6)] {
            lane.push(frame, 100 * frame as u32, count);
        }
        assert_eq!((lane.first(), lane.end()), (10, 23));
        assert_eq!(lane.run_from(9), None);
        assert_eq!(lane.run_from(12), Some(Run { position: 12, frame: 3, first: 302, count: 3 }));
        assert_eq!(lane.run_from(16), Some(Run { position: 16, frame: 5, first: 501, count: 1 }));
        assert_eq!(lane.run_from(22), Some(Run { position: 22, frame: 9, first: 905, count: 1 }));
        assert_eq!(lane.run_from(23), None);
        let mut gone = Vec::new();
        let trimmed = lane.trim(16, |frame, count| gone.push((frame, count)));
        assert_eq!((gone, trimmed), (vec![(3, 5), (5, 1)], Trimmed { messages: 6, runs: 1 }));
        assert_eq!(lane.run_from(16), Some(Run { position: 16, frame: 5, first: 501, count: 1 }));
        assert_eq!(lane.trim(99, |_, _| {}), Trimmed { messages: 7, runs: 2 });
        assert!(lane.is_empty() && lane.first() == 23);
    }
}
