//! What the loops of one run have in common: the clock, the schedule's start, who is to blame for a delay, the checker, and
//! how far everybody is.
//!
//! Leaves out everything that one loop keeps to itself.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use brokerlab_model::{Span, Time};
use brokerlab_workloads::analytics::Analysis;
use brokerlab_workloads::check::Checker;
use brokerlab_workloads::profile::Group;
use brokerlab_workloads::record::{BackendTime, HeldBack};

use crate::clock::Clock;
use crate::spec::RunSpec;

/// When a loop was inside backend calls, and when the backend held back each of its connections.
#[derive(Debug, Default)]
pub(crate) struct Blame {
    pub(crate) backend: BackendTime,
    /// By connection of the loop.
    pub(crate) held: Vec<HeldBack>,
}

/// How far a loop is. Written by the loop, read by all.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// Connections that have answered a first question.
    pub(crate) connected: AtomicU64,
    /// Whether its last pass before the start brought nothing.
    pub(crate) quiet: AtomicBool,
    /// Lanes that its members hold.
    pub(crate) lanes: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    /// Deliveries that acknowledged messages are to have, over all groups.
    pub(crate) owed: AtomicU64,
    /// Publishes that ended in another way.
    pub(crate) ended_otherwise: AtomicU64,
    pub(crate) delivered: AtomicU64,
    /// Sum of end-to-end response times, for the progress line.
    pub(crate) response_sum: AtomicI64,
    /// Messages, settlements and work that are not finished; meaningful while draining.
    pub(crate) open: AtomicU64,
    /// When a message was delivered last.
    pub(crate) last_delivery: AtomicU64,
}

/// Shared by the loops of a run.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) spec: &'a RunSpec,
    /// Raised from outside to end early.
    pub(crate) stop: &'a AtomicBool,
    /// The schedule's start in nanoseconds; [`Time::NEVER`] until everybody is ready.
    start: AtomicU64,
    /// Raised when all loops are to end.
    over: AtomicBool,
    /// When the run was ended before its time, and by what.
    cut_short: Mutex<Option<(Time, String)>>,
    pub(crate) checker: Mutex<Checker>,
    /// By group: its windows, where the profile asks for them.
    pub(crate) analyses: Vec<Option<Mutex<Analysis>>>,
    /// By loop.
    pub(crate) blame: Vec<Mutex<Blame>>,
    /// By producer: its loop, and its connection there.
    pub(crate) owners: Vec<(u32, u32)>,
    /// By producer: how many of its messages may have been sent; those of a submit under way count. A delivery of a later one came
    /// before it was sent.
    offered: Vec<AtomicU64>,
    /// By loop.
    pub(crate) status: Vec<Status>,
}

impl<'a> Shared<'a> {
    pub(crate) fn new(
        clock: &'a dyn Clock,
        spec: &'a RunSpec,
        stop: &'a AtomicBool,
        checker: Checker,
        owners: Vec<(u32, u32)>,
        connections: &[usize],
    ) -> Self {
        let blame = |&count: &usize| Mutex::new(Blame { held: vec![HeldBack::new(); count], ..Blame::default() });
        let lanes = spec.lanes.saturating_mul(spec.workload.channels());
        let analysis = |group: &Group| Some(Mutex::new(Analysis::new(group.analytics?, lanes)));
        Self {
            clock,
            spec,
            stop,
            analyses: spec.workload.profile().groups.iter().map(analysis).collect(),
            start: AtomicU64::new(Time::NEVER.0),
            over: AtomicBool::new(false),
            cut_short: Mutex::new(None),
            checker: Mutex::new(checker),
            blame: connections.iter().map(blame).collect(),
            offered: owners.iter().map(|_| AtomicU64::new(0)).collect(),
            owners,
            status: connections.iter().map(|_| Status::default()).collect(),
        }
    }

    /// From now on a producer's messages below `sequence` may arrive, and no others. Called only by the loop that owns it.
    pub(crate) fn offered_below(&self, producer: u32, sequence: u64) {
        self.offered[producer as usize].store(sequence, Ordering::Release);
    }

    /// Whether a message may have been sent by now.
    pub(crate) fn was_offered(&self, producer: u32, sequence: u64) -> bool {
        self.offered.get(producer as usize).is_some_and(|below| sequence < below.load(Ordering::Acquire))
    }

    /// The schedule's start, once it is known.
    pub(crate) fn start(&self) -> Option<Time> {
        Some(Time(self.start.load(Ordering::Acquire))).filter(|&start| start != Time::NEVER)
    }

    pub(crate) fn set_start(&self, at: Time) {
        self.start.store(at.0, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Ends the run before its time. The first reason counts.
    pub(crate) fn cut(&self, at: Time, reason: impl Into<String>) {
        locked(&self.cut_short).get_or_insert_with(|| (at, reason.into()));
        self.end();
    }

    pub(crate) fn cut_short(&self) -> Option<(Time, String)> {
        locked(&self.cut_short).clone()
    }

    /// The sum of a figure over all loops.
    pub(crate) fn sum(&self, figure: impl Fn(&Status) -> &AtomicU64) -> u64 {
        self.status.iter().map(|status| figure(status).load(Ordering::Acquire)).sum()
    }

    /// The sum of a signed figure over all loops.
    pub(crate) fn sum_signed(&self, figure: impl Fn(&Status) -> &AtomicI64) -> i64 {
        self.status.iter().map(|status| figure(status).load(Ordering::Acquire)).sum()
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> u64 {
        self.spec.workload.profile().groups.len() as u64
    }

    /// Whether everything that was acknowledged has been delivered to every group that it is for and nothing is open any more. A message whose
    /// publish did not end well may still be delivered: then nothing must have come for `quiet`.
    pub(crate) fn is_drained(&self, now: Time, quiet: Span) -> bool {
        if self.sum(|s| &s.open) > 0 {
            return false;
        }
        let (owed, otherwise) = (self.sum(|s| &s.owed), self.sum(|s| &s.ended_otherwise));
        let delivered = self.sum(|s| &s.delivered);
        if otherwise == 0 || delivered >= owed + otherwise * self.groups() {
            return delivered >= owed;
        }
        let last = self.status.iter().map(|s| s.last_delivery.load(Ordering::Acquire)).max().unwrap_or(0);
        // Deliveries of messages that were never acknowledged count among them: only the checker knows whose they were.
        delivered >= owed && now.since(Time(last)) >= quiet && locked(&self.checker).is_complete()
    }
}

/// Locks a mutex; what a thread that panicked left behind is still the best that is known.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
