//! How far event time has come: per lane the latest event less the disorder, over all lanes the least of those that are not idle.
//!
//! The watermark says *no event before this is expected*; it never goes back. Idleness is measured by the stream itself, in
//! events or in event time, so that a replay finds the same. Leaves out clocks: silence in wall time is the caller's to notice.

use serde::{Deserialize, Serialize};

use super::options::WindowOptions;
use crate::batch::LaneId;
use crate::time::Time;

/// The watermark of a stream that has ended: later than any window's end with its lateness.
pub(super) const FINISHED: u64 = 1 << 63;

/// What is known of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneProgress {
    /// The latest event time seen.
    pub latest: Time,
    /// How many events of all lanes had come with its last one.
    pub seen_at: u64,
    /// The latest event time of all lanes then.
    pub front_at: Time,
    /// It was said to have ended, and nothing came since.
    pub released: bool,
    /// The position that is read next: everything below is in the windows.
    pub next_position: u64,
}

/// The lanes' progress, as plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lanes {
    pub(super) each: Vec<LaneProgress>,
    /// Events of all lanes.
    pub(super) events: u64,
    /// The latest event time of all lanes.
    pub(super) front: u64,
    pub(super) watermark: u64,
    /// The lane that held the watermark back when it was last computed. Only when that lane moves can the watermark.
    pub(super) holder: u32,
}

impl Lanes {
    pub(super) fn new(options: &WindowOptions) -> Self {
        let each = vec![LaneProgress::default(); options.lanes as usize];
        Self { each, events: 0, front: 0, watermark: 0, holder: 0 }
    }

    /// Another lane, of which nothing was seen yet.
    pub(super) fn add(&mut self) {
        let (seen_at, front_at) = (self.events, Time(self.front));
        self.each.push(LaneProgress { seen_at, front_at, ..LaneProgress::default() });
    }

    pub(super) fn get(&self, lane: LaneId) -> Option<&LaneProgress> {
        self.each.get(lane.0 as usize)
    }

    pub(super) fn get_mut(&mut self, lane: LaneId) -> Option<&mut LaneProgress> {
        self.each.get_mut(lane.0 as usize)
    }

    /// An event of a lane that is there; returns the watermark after it.
    #[inline]
    pub(super) fn observe(&mut self, options: &WindowOptions, lane: LaneId, time: u64) -> u64 {
        self.events += 1;
        self.front = self.front.max(time);
        if self.events == 1 {
            // Silence is counted from the first event, whenever that was.
            self.each.iter_mut().for_each(|lane| lane.front_at = Time(time));
        }
        let (events, front) = (self.events, self.front);
        let at = &mut self.each[lane.0 as usize];
        let rose = time > at.latest.0;
        at.latest = at.latest.max(Time(time));
        (at.seen_at, at.front_at, at.released) = (events, Time(front), false);
        if (rose && lane.0 == self.holder) || self.is_idle(options, self.holder) {
            self.compute(options);
        }
        self.watermark
    }

    /// A lane has ended: it holds nothing back until it comes again. Returns the watermark after it.
    pub(super) fn release(&mut self, options: &WindowOptions, lane: LaneId) -> u64 {
        self.each[lane.0 as usize].released = true;
        self.compute(options);
        self.watermark
    }

    /// All lanes have ended.
    pub(super) fn finish(&mut self) -> u64 {
        self.watermark = FINISHED;
        FINISHED
    }

    fn is_idle(&self, options: &WindowOptions, lane: u32) -> bool {
        let lane = &self.each[lane as usize];
        lane.released
            || options.idle_after_events.is_some_and(|events| self.events - lane.seen_at >= events)
            || options.idle_after.is_some_and(|span| self.front - lane.front_at.0 > span.0)
    }

    fn compute(&mut self, options: &WindowOptions) {
        let active = (0..self.each.len() as u32).filter(|&lane| !self.is_idle(options, lane));
        let Some(holder) = active.min_by_key(|&lane| self.each[lane as usize].latest) else { return };
        self.holder = holder;
        let reached = self.each[holder as usize].latest.0.saturating_sub(options.disorder.0);
        self.watermark = self.watermark.max(reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;
    use crate::windows::options::WindowKind;

    fn options(lanes: u32) -> WindowOptions {
        let kind = WindowKind::Tumbling { size: Span(10) };
        WindowOptions { lanes, disorder: Span(5), ..WindowOptions::new(kind) }
    }

    #[test]
    fn the_slowest_lane_holds_it_back_and_it_never_goes_back() {
        let options = options(2);
        let mut lanes = Lanes::new(&options);
        assert_eq!(lanes.observe(&options, LaneId(0), 100), 0, "the other lane has said nothing yet");
        assert_eq!(lanes.observe(&options, LaneId(1), 30), 25);
        assert_eq!(lanes.observe(&options, LaneId(1), 20), 25);
        assert_eq!(lanes.observe(&options, LaneId(1), 200), 95, "now the first is the slowest");
        assert_eq!(lanes.observe(&options, LaneId(0), 300), 195);
    }

    #[test]
    fn an_idle_lane_is_released_by_events_or_by_event_time_and_comes_back() {
        let by_events = WindowOptions { idle_after_events: Some(3), ..options(2) };
        let mut lanes = Lanes::new(&by_events);
        assert_eq!(lanes.observe(&by_events, LaneId(0), 50), 0);
        assert_eq!(lanes.observe(&by_events, LaneId(0), 60), 0);
        assert_eq!(lanes.observe(&by_events, LaneId(0), 55), 55, "the third without one of the other lane");
        assert_eq!(lanes.observe(&by_events, LaneId(1), 10), 55, "back, and late");
        assert_eq!(lanes.observe(&by_events, LaneId(0), 90), 55, "it holds back again");
        let by_time = WindowOptions { idle_after: Some(Span(20)), ..options(2) };
        let mut lanes = Lanes::new(&by_time);
        assert_eq!(lanes.observe(&by_time, LaneId(0), 1_000), 0, "counted from the first event");
        assert_eq!(lanes.observe(&by_time, LaneId(0), 1_020), 0);
        assert_eq!(lanes.observe(&by_time, LaneId(0), 1_021), 1_016);
    }

    #[test]
    fn a_lane_that_is_added_holds_the_watermark_where_it_is_until_it_has_come_as_far() {
        let mut options = options(1);
        let mut lanes = Lanes::new(&options);
        assert_eq!(lanes.observe(&options, LaneId(0), 100), 95);
        options.lanes += 1;
        lanes.add();
        assert_eq!(lanes.observe(&options, LaneId(1), 50), 95);
        assert_eq!(lanes.observe(&options, LaneId(0), 300), 95, "the new one is behind");
        assert_eq!(lanes.observe(&options, LaneId(1), 200), 195);
    }

    #[test]
    fn a_lane_that_has_ended_holds_nothing_back() {
        let options = options(2);
        let mut lanes = Lanes::new(&options);
        lanes.observe(&options, LaneId(0), 100);
        assert_eq!(lanes.release(&options, LaneId(1)), 95);
        assert_eq!(lanes.release(&options, LaneId(0)), 95, "with no lane left it stays where it is");
        assert_eq!(lanes.observe(&options, LaneId(1), 300), 295);
    }
}
