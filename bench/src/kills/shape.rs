//! The lanes of a stream that a program of kills splits and merges, as far as the process has said what became of that.
//!
//! A change that a killed process did not answer has happened or not: whether the lane is there that it would have made, says which. Leaves
//! out messages, which are the books'.

use brokerlab_model::{Control, LaneId, Refusal, Status};

use super::life::Draw;

/// Lanes that take messages at the same time, at most.
const OPEN_MAX: usize = 6;

/// What is asked for: of the lanes that take messages, one is split, or it and the next are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Split(usize),
    Merge(usize),
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Lanes that take messages, in the order of the keys that they take.
    open: Vec<LaneId>,
    /// How many lanes there ever were, the ones that are asked for left out.
    made: u32,
    asked: Option<Change>,
    /// It was asked of a process that was killed.
    unsure: Option<Change>,
    /// Nobody can tell any longer what there is.
    lost: bool,
    changes: u64,
}

impl Shape {
    /// So many lanes from 0 on.
    pub(super) fn new(lanes: u32) -> Self {
        Self { open: (0..lanes).map(LaneId).collect(), made: lanes, asked: None, unsure: None, lost: false, changes: 0 }
    }

    /// The next change; none while one is under way.
    pub(super) fn ask(&mut self, draw: &mut Draw) -> Option<Control> {
        if self.asked.is_some() || self.lost {
            return None;
        }
        if self.unsure.is_some() {
            // Whether the lane is there tells whether the other change has happened.
            self.asked = Some(Change::Split(0));
            return Some(Control::Split { lane: LaneId(self.made), at: None });
        }
        let at = draw.below(self.open.len() as u64) as usize;
        let merges = at + 1 < self.open.len() && (self.open.len() >= OPEN_MAX || draw.below(2) == 0);
        if !merges && self.open.len() >= OPEN_MAX {
            return None;
        }
        let (change, control) = if merges {
            (Change::Merge(at), Control::Merge { lane: self.open[at], with: self.open[at + 1] })
        } else {
            (Change::Split(at), Control::Split { lane: self.open[at], at: None })
        };
        self.asked = Some(change);
        Some(control)
    }

    /// What became of it; false when a lane is gone of which it was said that it was made.
    pub(super) fn answered(&mut self, status: Status, first: LaneId) -> bool {
        let Some(change) = self.asked.take() else { return true };
        if let Some(before) = self.unsure.take() {
            if status != Status::Refused(Refusal::NoSuchLane) {
                let child = LaneId(self.made);
                self.make(before, child);
                let at = self.open.iter().position(|&lane| lane == child);
                if let Some(at) = at.filter(|_| status == Status::Done) {
                    self.make(Change::Split(at), first);
                }
            }
            return true;
        }
        if status == Status::Done {
            self.make(change, first);
        }
        status != Status::Refused(Refusal::NoSuchLane)
    }

    fn make(&mut self, change: Change, first: LaneId) {
        let (parents, children) = match change {
            Change::Split(at) => (at..at + 1, 2),
            Change::Merge(at) => (at..at + 2, 1),
        };
        self.open.splice(parents, (first.0..first.0 + children).map(LaneId));
        self.made = first.0 + children;
        self.changes += 1;
    }

    /// The process is gone.
    pub(super) fn killed(&mut self) {
        if let Some(change) = self.asked.take()
            && self.unsure.replace(change).is_some()
        {
            self.lost = true;
        }
    }

    /// How many splits and merges were done.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_answered_is_found_out_by_the_lane_that_it_would_have_made() {
        let gone = Status::Refused(Refusal::NoSuchLane);
        let asked = |change| Shape { asked: Some(change), ..Shape::new(2) };
        let mut shape = asked(Change::Split(1));
        assert!(shape.answered(Status::Done, LaneId(2)));
        assert_eq!((shape.open.as_slice(), shape.made), (&[LaneId(0), LaneId(2), LaneId(3)][..], 4));
        shape.asked = Some(Change::Merge(0));
        assert!(!shape.clone().answered(gone, LaneId(0)), "it was said that lane 2 is there");
        shape.killed();
        let mut draw = Draw::new(1);
        assert_eq!(shape.ask(&mut draw), Some(Control::Split { lane: LaneId(4), at: None }));
        let mut not = shape.clone();
        assert!(not.answered(gone, LaneId(0)));
        assert_eq!((not.open.len(), not.made), (3, 4));
        assert!(shape.answered(Status::Done, LaneId(5)));
        assert_eq!((shape.open.as_slice(), shape.made), (&[LaneId(5), LaneId(6), LaneId(3)][..], 7));
        shape.asked = Some(Change::Split(2));
        shape.killed();
        shape.asked = Some(Change::Split(0));
        shape.killed();
        assert_eq!(shape.ask(&mut draw), None, "two that nobody answered");
    }
}
