//! Reads outages off a run's flow: when nothing was acknowledged, how far the backlog grew, when it was back to its level before.
//!
//! A backlog that stood above its level of the second before, by more than what comes due in 20 ms, is an *excursion*; those less
//! than a second apart are one. An outage is recovered at the end of the last excursion that began before a second after it was undone.
//! Leaves out acting on servers, which the host does.

use crate::outage::{ActRecord, FaultRecord, OutageRecord};
use crate::validity::BACKLOG_JITTER;

use super::flow::{Flow, Flowed};

/// A second of looking back for the level, of following for excursions, and between two of them that are one.
const SECOND: u64 = 1_000_000_000;

/// A declared fault, and what was done for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// As the profile says.
    pub fault: FaultRecord,
    /// In order; empty when the run ended before.
    pub acts: Vec<ActRecord>,
}

impl Declared {
    fn begins_ns(&self) -> Option<u64> {
        self.acts.iter().find(|act| act.error.is_none()).map(|act| act.at_ns)
    }

    /// When the last of what undoes it was done.
    fn ends_ns(&self) -> Option<u64> {
        use crate::outage::Act;
        let undone =
            self.acts.iter().filter(|act| act.error.is_none() && matches!(act.act, Act::Resume | Act::Restart));
        undone.map(|act| act.at_ns).max()
    }
}

/// What is looked at: the flow in sums.
struct Sums<'a> {
    flow: &'a Flow,
    /// Due and not ended, at each step's end.
    backlog: Vec<i64>,
    /// Acknowledged times groups and not delivered, at each step's end.
    behind: Vec<i64>,
    /// Steps of the run; later ones did not come.
    end: usize,
}

/// The outages of a run that ended `end_ns` after the schedule's start, in order: the declared faults that came to act, and every time
/// beside them at which clients lost their connections.
pub(super) fn outages(flow: &Flow, groups: usize, declared: &[Declared], end_ns: u64) -> Vec<OutageRecord> {
    let sums = Sums::new(flow, i64::try_from(groups).unwrap_or(i64::MAX), end_ns);
    let mut declared: Vec<(u64, &Declared)> = declared.iter().filter_map(|of| Some((of.begins_ns()?, of))).collect();
    declared.sort_by_key(|(begins, _)| *begins);
    let mut found = Vec::new();
    let mut from = 0;
    for (at, &(begins, of)) in declared.iter().enumerate() {
        sums.undeclared(from..flow.step_of(begins), &mut found);
        let limit = declared.get(at + 1).map_or(sums.end, |(next, _)| flow.step_of(*next).min(sums.end));
        let mut outage = sums.outage(begins, of.ends_ns(), limit);
        outage.fault = Some(of.fault);
        outage.acts.clone_from(&of.acts);
        from = outage.over_ns().map_or(limit, |over| flow.step_of(over) + 1).min(limit);
        found.push(outage);
    }
    sums.undeclared(from..sums.end, &mut found);
    found
}

impl<'a> Sums<'a> {
    fn new(flow: &'a Flow, groups: i64, end_ns: u64) -> Self {
        let end = (flow.step_of(end_ns) + 1).min(flow.len());
        let (mut open, mut behind) = (0_i64, 0_i64);
        let at = |what: Flowed, step: usize| i64::from(flow.of(what)[step]);
        let (mut backlogs, mut behinds) = (Vec::with_capacity(end), Vec::with_capacity(end));
        for step in 0..end {
            let acknowledged = at(Flowed::Acknowledged, step);
            open += at(Flowed::Due, step) - acknowledged - at(Flowed::Failed, step) - at(Flowed::Unknown, step);
            behind += acknowledged * groups - at(Flowed::Delivered, step);
            backlogs.push(open);
            behinds.push(behind);
        }
        Self { flow, backlog: backlogs, behind: behinds, end }
    }

    fn steps(&self, ns: u64) -> usize {
        ns.div_ceil(self.flow.step_ns()) as usize
    }

    fn start_ns(&self, step: usize) -> u64 {
        step as u64 * self.flow.step_ns()
    }

    /// Connections lost in `steps` that no fault explains.
    fn undeclared(&self, steps: std::ops::Range<usize>, found: &mut Vec<OutageRecord>) {
        let (lost, back) = (self.flow.of(Flowed::Disconnected), self.flow.of(Flowed::Reconnected));
        let limit = steps.end.min(self.end);
        let mut from = steps.start;
        while let Some(begins) = (from..limit).find(|&step| lost[step] > 0) {
            let mut away = 0_i64;
            let ends = (begins..limit).find(|&step| {
                away += i64::from(lost[step]) - i64::from(back[step]);
                away <= 0
            });
            let outage = self.outage(self.start_ns(begins), ends.map(|step| self.start_ns(step)), limit);
            from = outage.over_ns().map_or(limit, |over| self.flow.step_of(over) + 1);
            found.push(outage);
        }
    }

    fn outage(&self, begins_ns: u64, ends_ns: Option<u64>, limit: usize) -> OutageRecord {
        let begins = self.flow.step_of(begins_ns).min(limit.saturating_sub(1));
        let undone = ends_ns.map_or(begins, |ns| self.flow.step_of(ns));
        let recovered = self.recovered(&self.backlog, begins, undone, limit);
        // Consumers fall behind when producers are served again, and not before.
        let consumers = self.recovered(&self.behind, begins, undone.max(recovered.unwrap_or(begins)), limit);
        let in_time = |step: Option<usize>| {
            // An outage that nobody felt was over when it began.
            step.map(|step| if step == begins { begins_ns } else { self.start_ns(step) })
        };
        let both = |step: usize| step.max(undone + 1).max(consumers.unwrap_or(0)).min(limit);
        let over = recovered.map_or(limit, both).max(begins);
        let silence = self.silence(Flowed::Acknowledged, begins, over, limit);
        let count = |what: Flowed| self.flow.sum(what, begins..over);
        let open = |step: usize| if step == 0 { 0 } else { self.backlog[step - 1].max(0).cast_unsigned() };
        let length = (over - begins).max(1) as f64 * self.flow.step_ns() as f64 / 1e9;
        let all_not_sent =
            self.flow.sum(Flowed::Due, 0..over).saturating_sub(self.flow.sum(Flowed::Sent, 0..over)).min(open(over));
        let errors = [Flowed::Failed, Flowed::Unknown, Flowed::Disconnected];
        let first_error = (begins..over).find(|&step| errors.iter().any(|&what| self.flow.of(what)[step] > 0));
        OutageRecord {
            begins_ns,
            ends_ns,
            resolution_ns: self.flow.step_ns(),
            first_error_ns: first_error.map(|step| self.start_ns(step).max(begins_ns)),
            last_acknowledged_ns: silence.0.map(|step| self.start_ns(step)),
            first_acknowledged_ns: silence.1.map(|step| self.start_ns(step)),
            first_delivered_ns: self.silence(Flowed::Delivered, begins, over, limit).1.map(|step| self.start_ns(step)),
            recovered_ns: in_time(recovered),
            consumers_recovered_ns: in_time(consumers),
            backlog_before: self.level(&self.backlog, begins).max(0).cast_unsigned(),
            backlog_max: self.backlog[begins..over].iter().copied().max().unwrap_or(0).max(0).cast_unsigned(),
            open_before: open(begins),
            due: count(Flowed::Due),
            acknowledged: count(Flowed::Acknowledged),
            failed: count(Flowed::Failed),
            unknown: count(Flowed::Unknown),
            unacknowledged: open(over) - all_not_sent,
            not_sent: all_not_sent,
            delivered: count(Flowed::Delivered),
            duplicated: count(Flowed::Duplicated),
            redelivered: count(Flowed::Redelivered),
            disconnects: count(Flowed::Disconnected),
            reconnects: count(Flowed::Reconnected),
            due_per_s: count(Flowed::Due) as f64 / length,
            drain_per_s: self.drain(silence.1, recovered),
            ..OutageRecord::default()
        }
    }

    /// The largest of a series in the second before a step.
    fn level(&self, series: &[i64], before: usize) -> i64 {
        let from = before.saturating_sub(self.steps(SECOND));
        series[from..before].iter().copied().max().unwrap_or(0).max(0)
    }

    /// The step at which a series was back to its level before; `begins` when it never left it, none when it never came back.
    fn recovered(&self, series: &[i64], begins: usize, undone: usize, limit: usize) -> Option<usize> {
        let looked_back = self.steps(SECOND).min(begins).max(1);
        let due = self.flow.sum(Flowed::Due, begins.saturating_sub(looked_back)..begins.max(1)) as f64;
        let jitter = due / looked_back as f64 * BACKLOG_JITTER.0 as f64 / self.flow.step_ns() as f64;
        let level = self.level(series, begins) + jitter as i64;
        let mut back = begins;
        let mut step = begins;
        // Until when an excursion may begin that still belongs to this outage.
        let mut until = undone.max(begins) + self.steps(SECOND);
        while step < limit && step <= until {
            if series[step] <= level {
                step += 1;
                continue;
            }
            back = (step..limit).find(|&at| series[at] <= level)?;
            step = back;
            until = until.max(back + self.steps(SECOND));
        }
        Some(back)
    }

    /// The longest stretch without `what` that begins within `[begins, over)`: the step of the last before it, and of the first after.
    fn silence(&self, what: Flowed, begins: usize, over: usize, limit: usize) -> (Option<usize>, Option<usize>) {
        let counts = self.flow.of(what);
        let mut last = (0..begins).rev().find(|&step| counts[step] > 0);
        let mut longest = (0, last, None);
        let mut step = begins;
        while step < limit {
            let next = (step..limit).find(|&at| counts[at] > 0);
            let length = next.unwrap_or(limit) - last.unwrap_or(begins);
            if length > longest.0 {
                longest = (length, last, next);
            }
            let Some(next) = next else { break };
            if next >= over {
                break;
            }
            last = Some(next);
            step = next + 1;
        }
        (longest.1, longest.2)
    }

    /// Acknowledgements per second from the first one after the silence until the backlog was back.
    fn drain(&self, first: Option<usize>, recovered: Option<usize>) -> Option<f64> {
        let (first, recovered) = (first?, recovered?);
        // The step of the first one belongs to the drain by a part that is not known.
        let from = first + 1;
        if recovered <= from {
            return None;
        }
        let seconds = (recovered - from) as f64 * self.flow.step_ns() as f64 / 1e9;
        Some(self.flow.sum(Flowed::Acknowledged, from..recovered) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Span, Time};

    use super::*;
    use crate::outage::Act;
    use crate::profile::{FaultAction, FaultNode};
    use crate::record::grid::Plan;

    const MS: u64 = 1_000_000;

    /// A message each millisecond for 20 s; `done` says when the one due then ends, none when it never does.
    fn flow(done: impl Fn(u64) -> Option<u64>) -> Flow {
        flow_with(&done, &done)
    }

    /// The same, with deliveries at times of their own.
    fn flow_with(done: &dyn Fn(u64) -> Option<u64>, delivered: &dyn Fn(u64) -> Option<u64>) -> Flow {
        let plan = Plan { warmup: Span::ZERO, duration: Span::from_secs(20), groups: 1 };
        let mut flow = Flow::new(&plan, Span::from_secs(5), Time(7));
        for due in 0..20_000 {
            flow.count(Flowed::Due, Time(7 + due * MS), 1);
            if let Some(done) = done(due) {
                flow.count(Flowed::Sent, Time(7 + due * MS), 1);
                flow.count(Flowed::Acknowledged, Time(7 + done * MS), 1);
            }
            if let Some(delivered) = delivered(due) {
                flow.count(Flowed::Delivered, Time(7 + delivered * MS), 1);
            }
        }
        flow
    }

    /// When the message due at `due` ends if nothing does from `from` to `to`, and four in a millisecond are done afterwards.
    fn stalled(due: u64, from: u64, to: u64) -> u64 {
        if due < from { due } else { due.max(to + (due - from) / 4) }
    }

    fn declared(at: u64, length: Option<u64>) -> Declared {
        let fault = FaultRecord {
            action: FaultAction::Pause,
            node: FaultNode::All,
            at_ns: at * MS,
            length_ns: length.map(|length| length * MS),
        };
        let act =
            |act, at: u64| ActRecord { act, node: FaultNode::All, planned_ns: at * MS, at_ns: at * MS, error: None };
        let undone = length.map(|length| act(Act::Resume, at + length));
        Declared { fault, acts: std::iter::once(act(Act::Pause, at)).chain(undone).collect() }
    }

    fn found(flow: &Flow, declared: &[Declared]) -> Vec<OutageRecord> {
        let found = outages(flow, 1, declared, 20_500 * MS);
        for of in &found {
            let ended = of.acknowledged + of.failed + of.unknown + of.unacknowledged + of.not_sent;
            assert_eq!(of.open_before + of.due, ended, "{of:#?}");
        }
        found
    }

    fn is_about(found: Option<u64>, ms: u64) -> bool {
        found.is_some_and(|ns| ns.abs_diff(ms * MS) <= 25 * MS)
    }

    #[test]
    fn two_pauses_are_two_outages_each_with_its_own_times() {
        let flow = flow(|due| Some(stalled(due, 4_000, 6_000).max(stalled(due, 12_000, 13_000))));
        let found = found(&flow, &[declared(12_000, Some(1_000)), declared(4_000, Some(2_000))]);
        let [first, second] = found.as_slice() else { panic!("{found:#?}") };
        // 2,000 behind, four done while one comes: 667 ms.
        assert!(is_about(first.first_acknowledged_ns, 6_000) && is_about(first.recovered_ns, 6_667), "{first:#?}");
        assert!(is_about(second.first_acknowledged_ns, 13_000) && is_about(second.recovered_ns, 13_333), "{second:#?}");
        assert!(is_about(first.silent_ns(), 2_000) && is_about(first.drain_ns(), 667), "{first:#?}");
        assert!((first.load_while_draining().unwrap() - 0.25).abs() < 0.005, "{first:#?}");
        assert!((1_990..=2_010).contains(&first.backlog_max) && first.was_felt());
    }

    #[test]
    fn consumers_that_drain_more_slowly_than_producers_are_part_of_the_recovery() {
        let slower = |due: u64| Some(if due < 4_000 { due } else { due.max(6_000 + (due - 4_000) / 2) });
        let flow = flow_with(&|due| Some(stalled(due, 4_000, 6_000)), &slower);
        let found = found(&flow, &[declared(4_000, Some(1_000))]);
        let [of] = found.as_slice() else { panic!("{found:#?}") };
        assert!(is_about(of.recovered_ns, 6_667) && is_about(of.consumers_recovered_ns, 7_975), "{of:#?}");
        assert_eq!(of.over_ns(), of.consumers_recovered_ns);
    }

    #[test]
    fn a_fault_that_nobody_felt_is_over_when_it_is_undone() {
        let found = found(&flow(Some), &[declared(4_000, Some(2_000))]);
        let [of] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((of.recovered_ns, of.over_ns(), of.drain_per_s), (Some(4_000 * MS), Some(6_000 * MS), None));
        assert!(!of.was_felt() && of.silent_ns().is_some_and(|ns| ns <= 5 * MS), "{of:#?}");
    }

    #[test]
    fn what_stays_down_never_recovers_and_everything_after_it_belongs_to_it() {
        let found = found(&flow(|due| (due < 4_000).then_some(due)), &[declared(4_000, None)]);
        let [of] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((of.first_acknowledged_ns, of.recovered_ns, of.over_ns(), of.silent_ns()), (None, None, None, None));
        assert!((15_990..=16_000).contains(&of.not_sent) && of.acknowledged <= 5, "{of:#?}");
    }

    #[test]
    fn connections_lost_without_a_fault_are_outages_of_their_own() {
        let mut flow = flow(|due| Some(stalled(due, 4_000, 5_000)));
        for (at, what) in [
            (4_000, Flowed::Disconnected),
            (4_001, Flowed::Disconnected),
            (4_900, Flowed::Reconnected),
            (5_000, Flowed::Reconnected),
            (15_000, Flowed::Disconnected),
        ] {
            flow.count(what, Time(7 + at * MS), 1);
        }
        let both = found(&flow, &[]);
        let [first, second] = both.as_slice() else { panic!("{both:#?}") };
        assert_eq!((first.fault, first.disconnects, first.reconnects), (None, 2, 2));
        assert!(is_about(first.ends_ns, 5_000) && is_about(first.recovered_ns, 5_333), "{first:#?}");
        assert!(is_about(first.first_error_ns, 4_000), "{first:#?}");
        // It never came back, and nobody missed it.
        assert_eq!((second.disconnects, second.ends_ns), (1, None));
        assert_eq!(second.recovered_ns, Some(second.begins_ns));
        // The same belongs to a fault that was declared.
        let of = found(&flow, &[declared(3_999, Some(1_000))]);
        assert_eq!((of.len(), of[0].disconnects, of[1].fault), (2, 2, None));
    }
}
