//! One loop's recorder: every message's moments into tallies, and what becomes of the messages into counts.
//!
//! Which messages count is decided by their intended start alone: those due in the window, followed until they end. The calls
//! on the path of every message take a few nanoseconds each and allocate only when samples reach a range not seen before.
//!
//! Leaves out how `actual − intended` splits ([`BackendTime`](super::BackendTime) answers that).

use brokerlab_model::{Span, Time};

use super::backend_time::Delay;
use super::flow::{Flow, Flowed};
use super::grid::{Cursor, Grid, Plan};
use super::recovery::{Declared, outages};
use super::tally::Tally;
use crate::measurement::{Counts, Distributions, HistogramRecord, IntervalRecord, OutageRecord};

/// The three moments of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// When it was due.
    pub intended: Time,
    /// When it was begun, read from the clock before the backend was called.
    pub actual: Time,
    /// When it ended, read from the clock after the call that returned its end.
    pub completed: Time,
}

impl Moments {
    /// All of `actual − intended` as lateness: right wherever no backend can hold an operation back before it begins.
    pub fn late(&self) -> Delay {
        Delay { blocked: Span::ZERO, late: self.actual.since(self.intended) }
    }
}

/// The four parts of one operation.
#[derive(Clone, Debug, Default)]
struct Parts {
    response: Tally,
    service: Tally,
    blocked: Tally,
    late: Tally,
}

impl Parts {
    /// Everything but the response time.
    #[inline]
    fn record(&mut self, moments: &Moments, delay: Delay) {
        self.service.record(moments.completed.minus(moments.actual));
        self.blocked.record(delay.blocked.0.cast_signed());
        self.late.record(delay.late.0.cast_signed());
    }

    fn merge(&mut self, other: &Self) {
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.blocked.merge(&other.blocked);
        self.late.merge(&other.late);
    }

    fn distributions(&self, unfinished: u64) -> Distributions {
        Distributions {
            response: HistogramRecord::from_tally(&self.response),
            service: HistogramRecord::from_tally(&self.service),
            blocked: HistogramRecord::from_tally(&self.blocked),
            late: HistogramRecord::from_tally(&self.late),
            unfinished,
        }
    }
}

/// One interval of the run.
#[derive(Clone, Debug, Default)]
struct Interval {
    due: u64,
    acknowledged: u64,
    ended_otherwise: u64,
    delivered: u64,
    /// The same by group.
    delivered_by_group: Vec<u64>,
    /// By group, acknowledged and not for it; empty until there is one.
    passed_by_group: Vec<u64>,
    publish_response: Tally,
    end_to_end_response: Tally,
}

/// How a publish ended that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacknowledged {
    /// The backend refused it.
    Refused,
    /// It was tried and failed, retries included.
    Failed,
    /// It was asked and never answered.
    Unknown,
}

/// Whole-run counts beside those of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Tallied {
    window: Counts,
    sent_in_window: u64,
    settle_due: u64,
    settled_in_window: u64,
}

/// One loop's record of a run.
#[derive(Clone, Debug)]
pub struct Recorder {
    plan: Plan,
    grid: Grid,
    due: Cursor,
    completed: Cursor,
    intervals: Vec<Interval>,
    publish: Parts,
    settle: Parts,
    groups: Vec<Parts>,
    delivered_in_window: Vec<u64>,
    /// By group: messages due in the window that its bindings don't let through.
    not_for: Vec<u64>,
    counted: Tallied,
    /// Only where a broker can go away.
    flow: Option<Box<Flow>>,
}

/// What a run's recorders found, as pieces of a measurement.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// What became of the messages due in the window. `backlog_max` is the largest at an interval's end.
    pub counts: Counts,
    /// Publish.
    pub publish: Distributions,
    /// End-to-end, over all groups.
    pub end_to_end: Distributions,
    /// Settle.
    pub settle: Distributions,
    /// End-to-end of each group.
    pub groups: Vec<Distributions>,
    /// The run over time, warm-up included.
    pub intervals: Vec<IntervalRecord>,
}

impl Recorder {
    /// A recorder for a schedule that begins at `schedule_start`, with its warm-up.
    pub fn new(plan: Plan, schedule_start: Time) -> Self {
        let grid = Grid::new(&plan, schedule_start);
        Self {
            plan,
            grid,
            due: Cursor::default(),
            completed: Cursor::default(),
            intervals: vec![Interval { delivered_by_group: vec![0; plan.groups], ..Interval::default() }; grid.len()],
            publish: Parts::default(),
            settle: Parts::default(),
            groups: vec![Parts::default(); plan.groups],
            delivered_in_window: vec![0; plan.groups],
            not_for: vec![0; plan.groups],
            counted: Tallied::default(),
            flow: None,
        }
    }

    /// Also keeps the flow of which [`Self::outages`] are read, until `drain` after the schedule's end. Costs a few nanoseconds for each
    /// message and less than a megabyte.
    pub fn with_flow(mut self, drain: Span, schedule_start: Time) -> Self {
        self.flow = Some(Box::new(Flow::new(&self.plan, drain, schedule_start)));
        self
    }

    #[inline]
    fn flowed(&mut self, what: Flowed, at: Time, n: u64) {
        if let Some(flow) = &mut self.flow {
            flow.count(what, at, n);
        }
    }

    /// A group was given a message again at `at`; `marked` says whether the backend said so.
    pub fn delivered_again(&mut self, at: Time, marked: bool) {
        self.flowed(if marked { Flowed::Redelivered } else { Flowed::Duplicated }, at, 1);
    }

    /// A client lost its connection at `at`, or was `back`.
    pub fn connection(&mut self, at: Time, back: bool) {
        self.flowed(if back { Flowed::Reconnected } else { Flowed::Disconnected }, at, 1);
    }

    /// The outages of a run that ended `end_ns` after the schedule's start; none where no flow was kept.
    pub fn outages(&self, declared: &[Declared], end_ns: u64) -> Vec<OutageRecord> {
        self.flow.as_ref().map_or_else(Vec::new, |flow| outages(flow, self.plan.groups, declared, end_ns))
    }

    /// Where a message counts that was due at `intended`: its interval, and whether that is in the window.
    #[inline]
    fn place(&mut self, intended: Time) -> (Option<usize>, bool) {
        let interval = self.grid.interval(&mut self.due, intended);
        (interval, interval.is_some_and(|index| self.grid.in_window(index)))
    }

    /// The interval in which something ended; none after the schedule's end.
    #[inline]
    fn ended(&mut self, at: Time) -> Option<&mut Interval> {
        let index = self.grid.interval(&mut self.completed, at)?;
        self.intervals.get_mut(index)
    }

    /// Whether a message due at `intended` belongs to the window.
    #[inline]
    pub fn in_window(&mut self, intended: Time) -> bool {
        self.place(intended).1
    }

    /// `n` messages of `bytes` in all came due at `intended`. Every due message is told once, whether it is sent or not.
    #[inline]
    pub fn due(&mut self, intended: Time, n: u64, bytes: u64) {
        let (interval, in_window) = self.place(intended);
        let Some(interval) = interval else { return };
        self.flowed(Flowed::Due, intended, n);
        self.intervals[interval].due += n;
        if in_window {
            self.counted.window.due += n;
            self.counted.window.due_bytes += bytes;
        } else {
            self.counted.window.warmup_due += n;
        }
    }

    /// A message that came due at `intended` is not for `group`. Told once, whether it is sent or not.
    #[inline]
    pub fn not_for(&mut self, group: usize, intended: Time) {
        self.not_for[group] += u64::from(self.in_window(intended));
    }

    /// A message that is not for `group` was acknowledged at `at`: the group has nothing to wait for, and is behind by nothing.
    #[inline]
    pub fn passes_by(&mut self, group: usize, at: Time) {
        let groups = self.plan.groups;
        if let Some(interval) = self.ended(at) {
            interval.passed_by_group.resize(groups, 0);
            interval.passed_by_group[group] += 1;
        }
    }

    /// A message due at `intended` was taken by the backend.
    #[inline]
    pub fn sent(&mut self, intended: Time) {
        self.counted.window.published_in_all += 1;
        self.counted.sent_in_window += u64::from(self.in_window(intended));
        self.flowed(Flowed::Sent, intended, 1);
    }

    /// A publish was acknowledged.
    #[inline]
    pub fn published(&mut self, moments: Moments, delay: Delay) {
        self.flowed(Flowed::Acknowledged, moments.completed, 1);
        let (interval, in_window) = self.place(moments.intended);
        if let Some(index) = interval {
            self.intervals[index].publish_response.record(moments.completed.minus(moments.intended));
        }
        if in_window {
            self.counted.window.acknowledged += 1;
            self.publish.record(&moments, delay);
        }
        if let Some(interval) = self.ended(moments.completed) {
            interval.acknowledged += 1;
        }
    }

    /// A publish of a message due at `intended` ended at `at` without being acknowledged.
    pub fn not_acknowledged(&mut self, intended: Time, at: Time, how: Unacknowledged) {
        let flowed = match how {
            Unacknowledged::Refused | Unacknowledged::Failed => Flowed::Failed,
            Unacknowledged::Unknown => Flowed::Unknown,
        };
        self.flowed(flowed, at, 1);
        if self.in_window(intended) {
            let counts = &mut self.counted.window;
            match how {
                Unacknowledged::Refused => counts.refused += 1,
                Unacknowledged::Failed => counts.failed += 1,
                Unacknowledged::Unknown => counts.unknown += 1,
            }
        }
        if let Some(interval) = self.ended(at) {
            interval.ended_otherwise += 1;
        }
    }

    /// A publish of a message due at `intended` was throttled and will be offered again. A message may be told often.
    pub fn throttled(&mut self, intended: Time) {
        self.counted.window.throttled += u64::from(self.in_window(intended));
    }

    /// A member of `group` holds a message for the first time. Redeliveries are not told.
    #[inline]
    pub fn delivered(&mut self, group: usize, moments: Moments, delay: Delay) {
        self.flowed(Flowed::Delivered, moments.completed, 1);
        let (interval, in_window) = self.place(moments.intended);
        let response = moments.completed.minus(moments.intended);
        if let Some(index) = interval {
            self.intervals[index].end_to_end_response.record(response);
        }
        if in_window {
            self.delivered_in_window[group] += 1;
            let parts = &mut self.groups[group];
            parts.response.record(response);
            parts.record(&moments, delay);
        }
        self.counted.window.delivered_in_all += 1;
        if let Some(interval) = self.ended(moments.completed) {
            interval.delivered += 1;
            interval.delivered_by_group[group] += 1;
        }
    }

    /// The work on a message due at `due` has ended and its settlement is wanted.
    #[inline]
    pub fn settle_due(&mut self, due: Time) {
        self.counted.settle_due += u64::from(self.in_window(due));
    }

    /// The settlement of a message due at `due` was confirmed. The moments are the settlement's own: intended when the work
    /// ended, actual when it was submitted.
    #[inline]
    pub fn settled(&mut self, due: Time, moments: Moments, delay: Delay) {
        self.counted.window.settled_in_all += 1;
        if self.in_window(due) {
            self.counted.settled_in_window += 1;
            self.settle.response.record(moments.completed.minus(moments.intended));
            self.settle.record(&moments, delay);
        }
    }

    /// Adds everything that another loop's recorder holds, exactly. Both record one plan from one start.
    pub fn merge(&mut self, other: &Self) {
        assert!(self.plan == other.plan && self.grid == other.grid, "recorders of two different runs");
        for (mine, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            mine.due += theirs.due;
            mine.acknowledged += theirs.acknowledged;
            mine.ended_otherwise += theirs.ended_otherwise;
            mine.delivered += theirs.delivered;
            for (mine, theirs) in mine.delivered_by_group.iter_mut().zip(&theirs.delivered_by_group) {
                *mine += theirs;
            }
            mine.passed_by_group.resize(mine.passed_by_group.len().max(theirs.passed_by_group.len()), 0);
            for (mine, theirs) in mine.passed_by_group.iter_mut().zip(&theirs.passed_by_group) {
                *mine += theirs;
            }
            mine.publish_response.merge(&theirs.publish_response);
            mine.end_to_end_response.merge(&theirs.end_to_end_response);
        }
        self.publish.merge(&other.publish);
        self.settle.merge(&other.settle);
        for (mine, theirs) in self.groups.iter_mut().zip(&other.groups) {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.delivered_in_window.iter_mut().zip(&other.delivered_in_window) {
            *mine += theirs;
        }
        for (mine, theirs) in self.not_for.iter_mut().zip(&other.not_for) {
            *mine += theirs;
        }
        self.counted.merge(&other.counted);
        if let (Some(mine), Some(theirs)) = (&mut self.flow, &other.flow) {
            mine.merge(theirs);
        }
    }

    /// The pieces of a measurement. `expected` says of each group how many of the messages due in the window it should see;
    /// without it, each should see all that are for it.
    pub fn finish(mut self, expected: Option<&[u64]>) -> Recorded {
        // The window's publish response times are those of its intervals.
        for (index, interval) in self.intervals.iter().enumerate() {
            if self.grid.in_window(index) {
                self.publish.response.merge(&interval.publish_response);
            }
        }
        let intervals = self.interval_records();
        let counts = self.counts(&intervals);
        let mut all = Parts::default();
        let mut all_unfinished = 0;
        let mut groups = Vec::with_capacity(self.groups.len());
        for (group, parts) in self.groups.iter().enumerate() {
            let due = counts.due.saturating_sub(self.not_for[group]);
            let expected = expected.and_then(|of| of.get(group)).copied().unwrap_or(due);
            let unfinished = expected.saturating_sub(self.delivered_in_window[group]);
            groups.push(parts.distributions(unfinished));
            all.merge(parts);
            all_unfinished += unfinished;
        }
        Recorded {
            publish: self.publish.distributions(counts.due.saturating_sub(counts.acknowledged)),
            end_to_end: all.distributions(all_unfinished),
            settle: self.settle.distributions(self.counted.settle_due.saturating_sub(self.counted.settled_in_window)),
            groups,
            intervals,
            counts,
        }
    }

    fn counts(&self, intervals: &[IntervalRecord]) -> Counts {
        let mut counts = self.counted.window;
        let ended = counts.acknowledged + counts.refused + counts.failed + counts.unknown;
        counts.unacknowledged = self.counted.sent_in_window.saturating_sub(ended);
        counts.not_sent = counts.due.saturating_sub(self.counted.sent_in_window.max(ended));
        counts.backlog_max = intervals.iter().map(|interval| interval.backlog).max().unwrap_or(0);
        counts.backlog_end = intervals.last().map_or(0, |interval| interval.backlog);
        counts
    }

    fn interval_records(&self) -> Vec<IntervalRecord> {
        let mut open = 0_u64;
        let record = |(index, interval): (usize, &Interval)| {
            let (start_ns, length_ns) = self.grid.bounds(index);
            open = (open + interval.due).saturating_sub(interval.acknowledged + interval.ended_otherwise);
            IntervalRecord {
                start_ns,
                length_ns,
                due: interval.due,
                acknowledged: interval.acknowledged,
                delivered: interval.delivered,
                delivered_by_group: interval.delivered_by_group.clone(),
                passed_by_group: interval.passed_by_group.clone(),
                backlog: open,
                publish_response: HistogramRecord::from_tally(&interval.publish_response),
                end_to_end_response: HistogramRecord::from_tally(&interval.end_to_end_response),
            }
        };
        self.intervals.iter().enumerate().map(record).collect()
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        let interval =
            |i: &Interval| i.publish_response.bytes() + i.end_to_end_response.bytes() + size_of::<Interval>();
        let parts = |p: &Parts| p.response.bytes() + p.service.bytes() + p.blocked.bytes() + p.late.bytes();
        size_of::<Self>()
            + self.flow.as_ref().map_or(0, |flow| flow.bytes())
            + self.intervals.iter().map(interval).sum::<usize>()
            + self.groups.iter().chain([&self.publish, &self.settle]).map(parts).sum::<usize>()
    }
}

impl Tallied {
    fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (&mut self.window, &other.window);
        mine.due += theirs.due;
        mine.due_bytes += theirs.due_bytes;
        mine.acknowledged += theirs.acknowledged;
        mine.refused += theirs.refused;
        mine.failed += theirs.failed;
        mine.unknown += theirs.unknown;
        mine.throttled += theirs.throttled;
        mine.warmup_due += theirs.warmup_due;
        mine.published_in_all += theirs.published_in_all;
        mine.delivered_in_all += theirs.delivered_in_all;
        mine.settled_in_all += theirs.settled_in_all;
        self.sent_in_window += other.sent_in_window;
        self.settle_due += other.settle_due;
        self.settled_in_window += other.settled_in_window;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Quantile;

    const MS: u64 = 1_000_000;

    fn plan(warmup_ms: u64, duration_ms: u64, groups: usize) -> Plan {
        Plan { warmup: Span::from_millis(warmup_ms), duration: Span::from_millis(duration_ms), groups }
    }

    fn moments(intended: u64, actual: u64, completed: u64) -> Moments {
        Moments { intended: Time(intended), actual: Time(actual), completed: Time(completed) }
    }

    fn quantiles(of: &HistogramRecord, unfinished: u64, qs: &[f64]) -> Vec<f64> {
        let at = |quantile| match quantile {
            Quantile::At(ns) => ns as f64 / 1e6,
            Quantile::Empty | Quantile::BelowZero | Quantile::Never => f64::NAN,
        };
        of.quantiles(unfinished, qs).unwrap().into_iter().map(at).collect()
    }

    fn is_about(found: &[f64], expected: &[f64]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= e * 0.01)
    }

    /// 1,000 messages a second for 10 s, each 0.5 ms of service, and one stall of 1 s, drained at half load. A recorder that
    /// takes the start from the sending sees nothing of it.
    #[test]
    fn a_stall_is_charged_to_every_message_that_was_due_in_it() {
        let mut open = Recorder::new(plan(0, 10_000, 0), Time(0));
        let mut closed = Recorder::new(plan(0, 10_000, 0), Time(0));
        let (stall, mut free) = (4_000 * MS, 0);
        for n in 0..10_000 {
            let due = n * MS;
            let mut actual = due.max(free);
            if (stall..stall + 1_000 * MS).contains(&actual) {
                actual = stall + 1_000 * MS;
            }
            free = actual + MS / 2;
            open.published(moments(due, actual, free), moments(due, actual, free).late());
            closed.published(moments(actual, actual, free), Delay::default());
        }
        let qs = [0.5, 0.9, 0.95, 0.99, 0.999, 1.0];
        let response = open.finish(None).publish.response;
        let found = quantiles(&response, 0, &qs);
        assert!(is_about(&found, &[0.5, 500.5, 750.5, 950.5, 995.5, 1_000.5]), "{found:?}");
        let found = quantiles(&closed.finish(None).publish.response, 0, &qs[..5]);
        assert!(is_about(&found, &[0.5; 5]), "{found:?}");
    }

    #[test]
    fn what_is_not_for_a_group_is_no_delivery_to_it() {
        let recorder = || Recorder::new(plan(0, 100, 2), Time(0));
        let (mut one, mut other) = (recorder(), recorder());
        for n in 0..4 {
            let at = moments(n * MS, n * MS, (n + 1) * MS);
            one.due(at.intended, 1, 1);
            one.published(at, at.late());
            other.delivered((n % 2) as usize, at, at.late());
            one.passes_by(1 - (n % 2) as usize, at.completed);
        }
        one.merge(&other);
        let first = &one.finish(None).intervals[0];
        assert_eq!((first.acknowledged, first.delivered), (4, 4));
        assert_eq!((first.delivered_by_group.as_slice(), first.passed_by_group.as_slice()), (&[2, 2][..], &[2, 2][..]));
        assert_eq!(recorder().finish(None).intervals[0].passed_by_group, Vec::<u64>::new());
    }

    #[test]
    fn only_messages_due_in_the_window_count_and_intervals_show_all() {
        let mut recorder = Recorder::new(plan(200, 400, 1), Time(1_000));
        let at = |ms: u64| 1_000 + ms * MS;
        // One in the warm-up that ends in the window, one in the window that ends after it, one after the window.
        for (due, done) in [(150, 250), (590, 900), (610, 620)] {
            recorder.due(Time(at(due)), 1, 100);
            recorder.sent(Time(at(due)));
            let moments = moments(at(due), at(due + 1), at(done));
            recorder.published(moments, moments.late());
            recorder.delivered(0, moments, moments.late());
            recorder.settle_due(Time(at(due)));
            recorder.settled(Time(at(due)), moments, moments.late());
        }
        let found = recorder.finish(None);
        assert_eq!((found.counts.due, found.counts.due_bytes, found.counts.warmup_due), (1, 100, 1));
        assert_eq!((found.counts.acknowledged, found.counts.published_in_all), (1, 3));
        assert_eq!((found.counts.delivered_in_all, found.counts.settled_in_all), (3, 3));
        for operation in [&found.publish, &found.end_to_end, &found.settle, &found.groups[0]] {
            let parts = [&operation.response, &operation.service, &operation.blocked, &operation.late];
            assert_eq!(parts.map(|part| part.count), [1; 4]);
            assert_eq!(operation.unfinished, 0);
            let of = parts.map(|part| quantiles(part, 0, &[0.5])[0]);
            assert!(is_about(&[of[0], of[1], of[3]], &[310.0, 309.0, 1.0]) && of[2].abs() < 1e-9, "{of:?}");
        }
        let each = |of: fn(&IntervalRecord) -> u64| found.intervals.iter().map(of).collect::<Vec<_>>();
        assert_eq!(each(|i| i.start_ns / MS), [0, 100, 200, 300, 400, 500]);
        assert_eq!(each(|i| i.due), [0, 1, 0, 0, 0, 1]);
        assert_eq!(each(|i| i.acknowledged), [0, 0, 1, 0, 0, 0]);
        assert_eq!(each(|i| i.delivered), [0, 0, 1, 0, 0, 0]);
        assert_eq!(each(|i| i.backlog), [0, 1, 0, 0, 0, 1]);
        assert_eq!(each(|i| i.publish_response.count), [0, 1, 0, 0, 0, 1]);
        assert_eq!(each(|i| i.end_to_end_response.count), [0, 1, 0, 0, 0, 1]);
        assert_eq!((found.counts.backlog_max, found.counts.backlog_end), (1, 1));
    }

    #[test]
    fn every_due_message_is_in_exactly_one_count() {
        let mut recorder = Recorder::new(plan(0, 1_000, 2), Time(0));
        recorder.due(Time(5), 10, 640);
        for n in 0..7 {
            recorder.sent(Time(5));
            match n {
                0..3 => recorder.published(moments(5, 6, 7), Delay::default()),
                3 => recorder.not_acknowledged(Time(5), Time(9), Unacknowledged::Refused),
                4 => recorder.not_acknowledged(Time(5), Time(9), Unacknowledged::Failed),
                5 => recorder.not_acknowledged(Time(5), Time(9), Unacknowledged::Unknown),
                _ => recorder.throttled(Time(5)),
            }
        }
        recorder.delivered(0, moments(5, 6, 8), Delay::default());
        recorder.settle_due(Time(5));
        let found = recorder.finish(Some(&[10, 4]));
        let c = found.counts;
        assert_eq!((c.acknowledged, c.refused, c.failed, c.unknown, c.unacknowledged, c.not_sent), (3, 1, 1, 1, 1, 3));
        assert_eq!((c.due, c.due_bytes, c.throttled, c.backlog_end), (10, 640, 1, 4));
        assert_eq!(found.publish.unfinished, 7);
        assert_eq!(found.groups.iter().map(|group| group.unfinished).collect::<Vec<_>>(), [9, 4]);
        assert_eq!((found.end_to_end.unfinished, found.settle.unfinished), (13, 1));
        assert_eq!(found.end_to_end.response.quantile(13, 0.5).unwrap(), Quantile::Never);
    }

    #[test]
    fn a_completion_before_its_start_is_kept_below_zero() {
        let mut recorder = Recorder::new(plan(0, 1_000, 1), Time(0));
        recorder.delivered(0, moments(500, 600, 450), Delay::default());
        let found = recorder.finish(None).groups.remove(0);
        assert_eq!((found.response.negative, found.response.lowest_negative_ns), (1, -50));
        assert_eq!((found.service.negative, found.service.lowest_negative_ns), (1, -150));
    }

    #[test]
    fn two_loops_merged_are_one_loop() {
        let plan = plan(100, 900, 2);
        let mut whole = Recorder::new(plan, Time(0));
        let mut loops = [Recorder::new(plan, Time(0)), Recorder::new(plan, Time(0))];
        for n in 0..5_000_u64 {
            let due = n * MS / 5;
            let moments = moments(due, due + n % 90, due + n % 90 + n * n % 3_000_000);
            for recorder in [&mut whole, &mut loops[(n % 3 / 2) as usize]] {
                recorder.due(Time(due), 1, 64);
                recorder.sent(Time(due));
                recorder.published(moments, moments.late());
                recorder.delivered((n % 2) as usize, moments, moments.late());
                recorder.settle_due(Time(due));
                recorder.settled(Time(due), moments, moments.late());
            }
        }
        let [mut first, second] = loops;
        first.merge(&second);
        assert_eq!(format!("{:?}", first.finish(None)), format!("{:?}", whole.finish(None)));
    }

    #[test]
    fn memory_does_not_grow_with_the_run() {
        let memory_after = |seconds: u64| {
            let mut recorder = Recorder::new(plan(0, seconds * 1_000, 1), Time(0));
            for n in 0..200_000_u64 {
                let due = n * seconds * 5_000;
                let moments = moments(due, due + 10, due + 10_000 + n % 1_000_000);
                recorder.published(moments, moments.late());
                recorder.delivered(0, moments, moments.late());
            }
            recorder.bytes()
        };
        let (minute, day) = (memory_after(60), memory_after(86_400));
        assert!(day < minute * 11 / 10 && day < 8 << 20, "{minute} {day}");
    }
}
