//! One loop's books: it buffers what a pass brought, feeds checker and recorder once per pass, and watches the limits at which a
//! run is to end early.
//!
//! Leaves out calling the backend; the clock is read by whoever calls it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use brokerlab_model::{LaneId, Span, Time};
use brokerlab_workloads::Scheduled;
use brokerlab_workloads::analytics::Consumed;
use brokerlab_workloads::check::{Arrived, MessageId};
use brokerlab_workloads::measurement::{ABORTED, World};
use brokerlab_workloads::profile::{Count, Metric, Objective};
use brokerlab_workloads::record::{Delay, Moments, Plan, Recorder, Unacknowledged};

use crate::fitness::thread_cpu;
use crate::gather::Gather;
use crate::shared::{Blame, Shared, locked};

/// A delivery that waits for the checker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    /// Its checksum fits and it is of this run.
    Intact { group: u32, lane: LaneId, arrived: Arrived, intended: Time, actual: Time, completed: Time },
    /// Its checksum does not fit.
    Corrupted { group: u32, claimed: Option<MessageId> },
    /// It is of another run.
    Foreign { group: u32, claimed: Option<MessageId> },
}

/// What happened uninvited, counted by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Uninvited {
    Blocked,
    Disconnected,
    Reconnected,
    CreditRefused,
    LaneRevoked,
    LaneLost,
    StaleSettlement,
    SettlementNotDone,
}

impl Uninvited {
    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            Self::Blocked => "a client was held back by the broker",
            Self::Disconnected => "a client lost its connection",
            Self::Reconnected => "a client came back",
            Self::CreditRefused => "credit for deliveries was refused",
            Self::LaneRevoked => "a lane was asked back from a member",
            Self::LaneLost => "a member lost a lane",
            Self::StaleSettlement => "a settlement came after its lease",
            Self::SettlementNotDone => "a settlement was not done",
        }
    }
}

/// An objective at which the run ends early, and how it stands.
#[derive(Clone, Copy, Debug)]
struct Watched {
    objective: Objective,
    samples: u64,
    over: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Books<'a> {
    pub(crate) shared: &'a Shared<'a>,
    /// Which loop this is.
    pub(crate) index: usize,
    pub(crate) recorder: Recorder,
    /// The schedule's start.
    pub(crate) start: Time,
    /// Up to here the loop's time is accounted for.
    pub(crate) mark: Time,
    /// Time in generator, recorder and checker, by the clock.
    harness: Span,
    /// Of a loop that spins: passes in which nothing happened.
    idle: Span,
    /// Time inside backend calls, by the clock.
    backend: Span,
    /// CPU of this thread when the schedule began.
    cpu_at_start: Span,
    acknowledged: u64,
    /// Deliveries that acknowledged messages are to have, over all groups.
    owed: u64,
    ended_otherwise: u64,
    delivered: u64,
    response_sum: i64,
    last_delivery: Time,
    pub(crate) uninvited: BTreeMap<Uninvited, u64>,
    acks: Vec<MessageId>,
    arrivals: Vec<Arrival>,
    watched: Vec<Watched>,
    /// How quick the backend is lately.
    pub(crate) gather: Gather,
}

impl<'a> Books<'a> {
    pub(crate) fn new(shared: &'a Shared<'a>, index: usize) -> Self {
        let profile = shared.spec.workload.profile();
        let watched = |&objective: &Objective| Watched { objective, samples: 0, over: 0 };
        Self {
            shared,
            index,
            recorder: recorder_of(shared, Time::NEVER),
            start: Time::NEVER,
            mark: shared.clock.now(),
            harness: Span::ZERO,
            idle: Span::ZERO,
            backend: Span::ZERO,
            cpu_at_start: Span::ZERO,
            acknowledged: 0,
            owed: 0,
            ended_otherwise: 0,
            delivered: 0,
            response_sum: 0,
            last_delivery: Time::ZERO,
            uninvited: BTreeMap::new(),
            acks: Vec::new(),
            arrivals: Vec::new(),
            watched: profile.abort_on.iter().map(watched).collect(),
            gather: Gather::default(),
        }
    }

    /// The schedule begins at `start`.
    pub(crate) fn begin(&mut self, start: Time) {
        self.start = start;
        // Lanes that moved while members joined are no news.
        self.uninvited.clear();
        self.harness = Span::ZERO;
        self.idle = Span::ZERO;
        self.backend = Span::ZERO;
        self.cpu_at_start = thread_cpu();
        self.recorder = recorder_of(self.shared, start);
    }

    /// Reads the clock and counts the time since the mark as the harness's own.
    pub(crate) fn own_until_now(&mut self) -> Time {
        let now = self.shared.clock.now();
        self.harness = self.harness + now.since(self.mark);
        self.mark = now;
        now
    }

    /// The harness's own time so far.
    pub(crate) fn harness(&self) -> Span {
        self.harness
    }

    /// Counts what the harness took since it had taken `before` as waiting: a loop that spins looks around where another would sleep.
    pub(crate) fn idle_since(&mut self, before: Span) {
        self.idle = self.idle + Span(self.harness.0 - before.0);
        self.harness = before;
    }

    /// Reads the clock and counts the time since the mark as spent inside backend calls.
    pub(crate) fn backend_until_now(&mut self) -> Time {
        let now = self.shared.clock.now();
        self.backend = self.backend + now.since(self.mark);
        locked(&self.shared.blame[self.index]).backend.inside(self.mark, now);
        self.mark = now;
        now
    }

    /// CPU of generator, recorder and checker. Called on the loop's own thread when the run is over.
    ///
    /// Their time by the clock is exact as long as nobody takes the core away; otherwise their share of the thread's CPU is less, and
    /// that is what they cost.
    pub(crate) fn harness_cpu(&self) -> Span {
        let awake = self.harness.0 + self.backend.0 + self.idle.0;
        if awake == 0 {
            return Span::ZERO;
        }
        let cpu = Span(thread_cpu().0.saturating_sub(self.cpu_at_start.0));
        let share = (cpu.0 as f64 * (self.harness.0 as f64 / awake as f64)) as u64;
        Span(share.min(self.harness.0))
    }

    pub(crate) fn note(&mut self, what: Uninvited) {
        *self.uninvited.entry(what).or_default() += 1;
    }

    /// A client's connection was lost at `at`, or is `back`.
    pub(crate) fn connection(&mut self, at: Time, back: bool) {
        self.note(if back { Uninvited::Reconnected } else { Uninvited::Disconnected });
        self.recorder.connection(at, back);
    }

    /// A message came due at `intended`.
    pub(crate) fn due(&mut self, intended: Time, message: &Scheduled) {
        self.recorder.due(intended, 1, u64::from(message.size));
        if let Some(routes) = self.shared.spec.workload.routes() {
            routes.not_for(message.sequence).for_each(|group| self.recorder.not_for(group, intended));
        }
    }

    /// A publish was acknowledged.
    pub(crate) fn published(&mut self, id: MessageId, moments: Moments, delay: Delay) {
        self.acknowledged += 1;
        self.owed += self.shared.groups();
        if let Some(routes) = self.shared.spec.workload.routes() {
            for group in routes.not_for(id.sequence) {
                self.owed -= 1;
                self.recorder.passes_by(group, moments.completed);
            }
        }
        self.gather.published(moments.actual, moments.completed);
        self.recorder.published(moments, delay);
        self.acks.push(id);
        self.watch(Metric::Publish, moments.intended, moments.completed.minus(moments.intended));
    }

    /// A publish ended, and not by being acknowledged.
    pub(crate) fn not_acknowledged(&mut self, intended: Time, completed: Time, how: Unacknowledged) {
        self.ended_otherwise += 1;
        self.recorder.not_acknowledged(intended, completed, how);
    }

    /// A settlement of a message due at `due` was confirmed.
    pub(crate) fn settled(&mut self, due: Time, moments: Moments, delay: Delay) {
        self.recorder.settled(due, moments, delay);
        self.watch(Metric::Settle, due, moments.completed.minus(moments.intended));
    }

    /// A member was given a message.
    pub(crate) fn arrived(&mut self, arrival: Arrival) {
        self.arrivals.push(arrival);
    }

    /// Hands what was buffered to the checker, and first deliveries to the recorder.
    pub(crate) fn flush(&mut self) {
        if self.acks.is_empty() && self.arrivals.is_empty() {
            return;
        }
        let shared = self.shared;
        let mut checker = locked(&shared.checker);
        checker.acknowledged_many(self.acks.drain(..));
        let mut blame: Option<(usize, std::sync::MutexGuard<'_, Blame>)> = None;
        for at in 0..self.arrivals.len() {
            match self.arrivals[at] {
                Arrival::Corrupted { group, claimed } => {
                    checker.corrupted(group as usize, claimed);
                    self.watch_count(Count::Corrupted);
                }
                Arrival::Foreign { group, claimed } => checker.foreign(group as usize, claimed),
                Arrival::Intact { group, lane, arrived, intended, actual, completed } => {
                    let first = checker.delivered(group as usize, &arrived);
                    if let Some(Some(analysis)) = shared.analyses.get(group as usize) {
                        let MessageId { producer, sequence } = arrived.id;
                        let intended = Time(intended.since(self.start).0);
                        let message = Consumed { lane, producer, sequence, intended, first };
                        locked(analysis).consumed(&shared.spec.workload, &message);
                    }
                    if arrived.redelivered || !first {
                        self.recorder.delivered_again(completed, arrived.redelivered);
                    }
                    if !first {
                        if !arrived.redelivered {
                            self.watch_count(Count::Duplicated);
                        }
                        continue;
                    }
                    let moments = Moments { intended, actual, completed };
                    let delay = delay_of(shared, &mut blame, arrived.id.producer, &moments);
                    self.first_delivery(group as usize, moments, delay);
                }
            }
        }
        self.arrivals.clear();
    }

    fn first_delivery(&mut self, group: usize, moments: Moments, delay: Delay) {
        let response = moments.completed.minus(moments.intended);
        self.recorder.delivered(group, moments, delay);
        self.gather.delivered(moments.actual, moments.completed);
        self.delivered += 1;
        self.response_sum += response;
        self.last_delivery = moments.completed;
        self.watch(Metric::EndToEnd, moments.intended, response);
    }

    /// Tells the other loops how far this one is. `open` counts what is unfinished.
    pub(crate) fn publish_status(&self, open: u64) {
        let status = &self.shared.status[self.index];
        status.acknowledged.store(self.acknowledged, Ordering::Relaxed);
        status.owed.store(self.owed, Ordering::Relaxed);
        status.ended_otherwise.store(self.ended_otherwise, Ordering::Relaxed);
        status.delivered.store(self.delivered, Ordering::Relaxed);
        status.response_sum.store(self.response_sum, Ordering::Relaxed);
        status.last_delivery.store(self.last_delivery.0, Ordering::Relaxed);
        // Last: whoever sees that nothing is open sees the counts that belong to it.
        status.open.store(open, Ordering::Release);
    }

    /// Objectives are of the window: what was due in the warm-up ends no run.
    #[inline]
    fn watch(&mut self, which: Metric, due: Time, response_ns: i64) {
        if self.watched.is_empty() || !self.recorder.in_window(due) {
            return;
        }
        for watched in &mut self.watched {
            if let Objective::Quantile { metric, at_most, .. } = watched.objective
                && metric == which
            {
                watched.samples += 1;
                watched.over += u64::from(response_ns > at_most.0.cast_signed());
            }
        }
    }

    fn watch_count(&mut self, which: Count) {
        for watched in &mut self.watched {
            if let Objective::Count { count, .. } = watched.objective
                && count == which
            {
                watched.over += 1;
            }
        }
    }

    /// The first objective of `abort_on` that this loop has seen missed, in words.
    pub(crate) fn missed(&self) -> Option<String> {
        let missed = self.watched.iter().find(|watched| match watched.objective {
            // Ten samples beyond, as for every quantile that is shown.
            Objective::Quantile { quantile, .. } => {
                watched.over >= 10 && watched.over as f64 > (1.0 - quantile) * watched.samples as f64
            }
            Objective::Count { at_most, .. } => watched.over > at_most,
        })?;
        Some(format!("{ABORTED}: `{}` is missed", missed.objective))
    }
}

/// Splits a first delivery's queueing delay by the books of the loop that sent the message.
fn delay_of<'s>(
    shared: &'s Shared<'_>,
    cached: &mut Option<(usize, std::sync::MutexGuard<'s, Blame>)>,
    producer: u32,
    moments: &Moments,
) -> Delay {
    let Some(&(owner, connection)) = shared.owners.get(producer as usize) else { return moments.late() };
    let owner = owner as usize;
    if cached.as_ref().is_none_or(|(held, _)| *held != owner) {
        // Never two at once: the old one is let go before the next is taken.
        drop(cached.take());
        *cached = Some((owner, locked(&shared.blame[owner])));
    }
    match cached {
        Some((_, blame)) => {
            let held = &blame.held[connection as usize];
            blame.backend.delay(held, moments.intended, moments.actual)
        }
        None => moments.late(),
    }
}

/// An empty recorder. It keeps the flow where a broker can go away.
pub(crate) fn recorder_of(shared: &Shared<'_>, start: Time) -> Recorder {
    let recorder = Recorder::new(plan_of(shared), start);
    let profile = shared.spec.workload.profile();
    let may_go = shared.spec.world == World::Live || !profile.faults.is_empty();
    if may_go { recorder.with_flow(profile.drain_limit, start) } else { recorder }
}

fn plan_of(shared: &Shared<'_>) -> Plan {
    let profile = shared.spec.workload.profile();
    Plan { warmup: profile.warmup, duration: profile.duration, groups: profile.groups.len() }
}
