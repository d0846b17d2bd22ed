//! Since when a lane's messages are there, as runs that came at one time.
//!
//! Every message of a lane waits equally long before it may be delivered, and lives equally long, so that both are reached in
//! the order of positions: one front each moves through these runs. 16 bytes a run, and a run is forgotten when no front and
//! no queue is behind it. Leaves out what happens to a message at its time.

use std::collections::VecDeque;

use crate::time::{Span, Time};

/// The end of a run of positions, and when they came.
type Run = (u64, Time);

/// The times of one lane's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ages {
    runs: VecDeque<Run>,
}

impl Ages {
    /// Everything up to `end` that was not noted before came at `now`; later than what came before, whatever the caller's clock
    /// says.
    pub(super) fn note(&mut self, end: u64, now: Time) {
        match self.runs.back_mut() {
            Some(last) if last.1 >= now => last.0 = end,
            Some(_) | None => self.runs.push_back((end, now)),
        }
    }

    /// The end of those that are at least `span` old at `now`; 0 when there are none, or none that is remembered.
    pub(super) fn older(&self, span: Span, now: Time) -> u64 {
        let old = self.runs.partition_point(|&(_, came)| came + span <= now);
        old.checked_sub(1).map_or(0, |last| self.runs[last].0)
    }

    /// When the message at `position` came, or the first after it that is remembered.
    pub(super) fn came(&self, position: u64) -> Option<Time> {
        let at = self.runs.partition_point(|&(end, _)| end <= position);
        self.runs.get(at).map(|&(_, came)| came)
    }

    /// Forgets everything below `position`.
    pub(super) fn forget(&mut self, position: u64) {
        while self.runs.front().is_some_and(|&(end, _)| end <= position) {
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_at_one_time_is_one_run() {
        let mut ages = Ages::default();
        for (end, at) in [(3, 10), (5, 10), (6, 20), (9, 15), (10, 30)] {
            ages.note(end, Time(at));
        }
        assert_eq!(ages.runs, [(5, Time(10)), (9, Time(20)), (10, Time(30))], "and no clock goes back");
        assert_eq!(
            [0, 4, 5, 9, 10].map(|position| ages.came(position).map(|at| at.0)),
            [Some(10), Some(10), Some(20), Some(30), None]
        );
        assert_eq!([14, 15, 24, 25, 99].map(|now| ages.older(Span(5), Time(now))), [0, 5, 5, 9, 10]);
        ages.forget(8);
        assert_eq!((ages.runs.len(), ages.came(0)), (2, Some(Time(20))));
        ages.forget(10);
        assert_eq!((ages.came(0), ages.older(Span(0), Time(99))), (None, 0));
    }
}
