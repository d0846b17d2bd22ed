//! A run's flow in steps of a few milliseconds: how many messages came due, were acknowledged, were delivered in each. Outages are
//! read off it.
//!
//! Kept only where a broker can go away; its memory is bounded whatever the run's length. Leaves out what an outage is (`recovery`).

use brokerlab_model::{Span, Time};

use super::grid::Plan;

/// About how many steps a run has at most: 64 KiB for each figure.
const STEPS: u64 = 1 << 14;
/// No step is shorter than 2^20 ns, about a millisecond.
const SHORTEST_BITS: u32 = 20;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flowed {
    /// A message came due.
    Due,
    /// Of the messages due in this step, one was handed to the backend.
    Sent,
    Acknowledged,
    /// A publish failed or was refused.
    Failed,
    /// A publish was never answered, the client said.
    Unknown,
    /// A group was given a message for the first time.
    Delivered,
    /// A group was given a message again, without a mark.
    Duplicated,
    /// A delivery was marked as redelivered.
    Redelivered,
    /// A connection was lost.
    Disconnected,
    /// A connection came back.
    Reconnected,
}

const KINDS: usize = Flowed::Reconnected as usize + 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    start: u64,
    /// A step is 2^bits ns long.
    bits: u32,
    steps: usize,
    counts: [Vec<u32>; KINDS],
}

impl Flow {
    /// Nothing counted yet, for a schedule that begins at `start` and is followed for `drain` after its end.
    pub(super) fn new(plan: &Plan, drain: Span, start: Time) -> Self {
        let whole = plan.warmup.0.saturating_add(plan.duration.0).saturating_add(drain.0).max(1);
        let bits = whole.div_ceil(STEPS).next_power_of_two().trailing_zeros().max(SHORTEST_BITS);
        let steps = (whole >> bits) as usize + 1;
        Self { start: start.0, bits, steps, counts: std::array::from_fn(|_| vec![0; steps]) }
    }

    /// Counts `n` of `what` at `at`; nothing outside the run.
    #[inline]
    pub(super) fn count(&mut self, what: Flowed, at: Time, n: u64) {
        let Some(since) = at.0.checked_sub(self.start) else { return };
        if let Some(count) = self.counts[what as usize].get_mut((since >> self.bits) as usize) {
            *count = count.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        assert!(self.start == other.start && self.bits == other.bits, "flows of two different runs");
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine = mine.saturating_add(*theirs);
            }
        }
    }

    pub(super) fn of(&self, what: Flowed) -> &[u32] {
        &self.counts[what as usize]
    }

    pub(super) fn sum(&self, what: Flowed, steps: std::ops::Range<usize>) -> u64 {
        self.of(what)[steps].iter().map(|&n| u64::from(n)).sum()
    }

    /// Length of a step in nanoseconds.
    pub(super) fn step_ns(&self) -> u64 {
        1 << self.bits
    }

    pub(super) fn len(&self) -> usize {
        self.steps
    }

    /// The step of a time since the schedule's start; the last one for times after the run.
    pub(super) fn step_of(&self, since_ns: u64) -> usize {
        ((since_ns >> self.bits) as usize).min(self.steps - 1)
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.counts.iter().map(|counts| counts.capacity() * size_of::<u32>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_few_whatever_the_length_and_nothing_is_counted_outside() {
        for seconds in [1, 60, 86_400] {
            let plan = Plan { warmup: Span::from_secs(1), duration: Span::from_secs(seconds), groups: 1 };
            let mut flow = Flow::new(&plan, Span::from_secs(5), Time(1_000));
            let end = (seconds + 6) * 1_000_000_000;
            assert!(flow.len() <= STEPS as usize + 1 && flow.step_ns() >= 1 << SHORTEST_BITS);
            for at in [0, 999, 1_000, 1_000 + end, 1_001 + end + flow.step_ns()] {
                flow.count(Flowed::Due, Time(at), 3);
            }
            assert_eq!(flow.sum(Flowed::Due, 0..flow.len()), 6);
            assert_eq!((flow.of(Flowed::Due)[0], flow.step_of(u64::MAX)), (3, flow.len() - 1));
        }
    }
}
