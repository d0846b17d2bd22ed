//! One run from end to end: channels, clients, loops on their threads, the schedule, the drain, and the measurement.
//!
//! Leaves out the loops' passes (`drive`) and what is made of their books (`finish`).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use brokerlab_model::{Broker, Capabilities, Feature, Span, Time, WorkCounts, Worker};
use brokerlab_workloads::Profile;
use brokerlab_workloads::check::{CheckPlan, Checker};
use brokerlab_workloads::measurement::Measurement;
use brokerlab_workloads::profile::Keys;

use crate::clock::Clock;
use crate::drive::Loop;
use crate::due::StillDue;
use crate::faults::{Faults, Servers};
use crate::finish::{Ended, Left, measurement};
use crate::fitness::{Look, dirty_bytes};
use crate::shared::Shared;
use crate::spec::{Phase, Progress, RunError, RunSpec};
use crate::start::{Administrator, Crew, Crews, Expected, connect_all, start_together};
use crate::wait::{Waiter, Waiting};

/// How often progress is told.
const PROGRESS_EVERY: Span = Span::from_millis(100);
/// How often the backend is asked whether it has stopped.
const STOPPED_EVERY: Span = Span::from_millis(10);

/// Runs one workload against `broker` and returns what was measured.
///
/// `stop` ends the run early; what was measured until then is returned all the same, marked as cut short, as it is when an objective
/// of `abort_on` is missed. `progress` is told about ten times a second how far the run is.
pub fn run(
    broker: &mut dyn Broker,
    spec: &RunSpec,
    clock: &dyn Clock,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Measurement, RunError> {
    run_around(broker, spec, clock, stop, progress, &mut Around::default())
}

/// What a caller adds to a run.
#[derive(Default)]
pub struct Around<'a> {
    /// Called at the schedule's beginning and end, on the calling thread.
    pub at: Option<&'a mut dyn FnMut(Moment)>,
    /// What the profile's faults act on. A profile with faults is refused without it.
    pub servers: Option<&'a dyn Servers>,
}

impl fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Around<'_> {
    fn tell(&mut self, moment: Moment) {
        if let Some(at) = &mut self.at {
            at(moment);
        }
    }
}

/// The moments between which a caller may count things of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Everybody is connected; the schedule begins next.
    Begins,
    /// The drain is over; nothing was closed yet.
    Ends,
}

/// As [`run`], and calls `at` at the schedule's beginning and end, on the calling thread.
pub fn run_hooked(
    broker: &mut dyn Broker,
    spec: &RunSpec,
    clock: &dyn Clock,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
    at: &mut dyn FnMut(Moment),
) -> Result<Measurement, RunError> {
    run_around(broker, spec, clock, stop, progress, &mut Around { at: Some(at), servers: None })
}

/// As [`run`], with what the caller adds. Faults that came to act are undone before this returns, whatever ended the run.
pub fn run_around(
    broker: &mut dyn Broker,
    spec: &RunSpec,
    clock: &dyn Clock,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
    around: &mut Around<'_>,
) -> Result<Measurement, RunError> {
    if spec.workload.producers() == 0 {
        return Err(RunError::Spec("a run needs at least one producer".to_owned()));
    }
    if around.servers.is_none() && !spec.workload.profile().faults.is_empty() {
        return Err(RunError::Spec(
            "[[faults]] act on servers that scripts/brokers started; the simulator takes them later".to_owned(),
        ));
    }
    check_bindings(broker.capabilities(), spec.workload.profile())?;
    let settings = broker.honour(&spec.contract)?;
    let dirty = dirty_bytes();
    let mut administrator = Administrator::connect(broker, clock)?;
    let inline = clock.is_manual();
    let (blocking, mut quick): (Vec<_>, Vec<_>) =
        broker.workers().into_iter().partition(|worker| worker.blocks() && !inline);
    let closed = AtomicBool::new(false);
    let mut ended = std::thread::scope(|scope| {
        for worker in blocking {
            let closed = &closed;
            scope.spawn(move || run_blocking(worker, clock, closed));
        }
        let ended = administrator
            .create(spec, &mut quick, clock)
            .and_then(|()| drive(broker, spec, clock, stop, progress, around, administrator, quick));
        closed.store(true, Ordering::Release);
        ended
    })
    .map_err(|error| because_stopped(broker, error))?;
    ended.dirty_bytes_at_start = dirty;
    Ok(measurement(broker, spec, settings, clock, ended))
}

/// Whoever was refused because the backend has stopped is told that, and why.
fn because_stopped(broker: &dyn Broker, error: RunError) -> RunError {
    match (error, broker.stopped()) {
        (RunError::Administration { .. } | RunError::Connect { .. }, Some(why)) => RunError::Stopped(why),
        (error, _) => error,
    }
}

/// Groups with bindings need a backend that routes.
pub fn check_bindings(capabilities: &Capabilities, profile: &Profile) -> Result<(), RunError> {
    let bound = profile.groups.iter().find(|group| !group.bindings.is_empty());
    match bound {
        Some(group) if !capabilities.has(Feature::Routing) => {
            Err(RunError::NoRouting { backend: capabilities.name, group: group.name.clone() })
        }
        Some(_) | None => Ok(()),
    }
}

/// A worker that may block in a device, on a thread of its own, until the run is closed.
fn run_blocking(mut worker: Box<dyn Worker>, clock: &dyn Clock, closed: &AtomicBool) {
    let mut waiter = Waiter::new(Waiting::Park);
    while !closed.load(Ordering::Acquire) {
        if !worker.run(clock.now()) {
            let until = worker.next_deadline().unwrap_or(Time::NEVER);
            waiter.wait(clock, std::iter::once(worker.wait_on()), until);
        }
    }
}

/// Connects everybody and runs the loops.
#[allow(clippy::too_many_arguments, reason = "called once: what a run has, before it has a name for it")]
fn drive(
    broker: &mut dyn Broker,
    spec: &RunSpec,
    clock: &dyn Clock,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
    around: &mut Around<'_>,
    mut administrator: Administrator,
    quick: Vec<Box<dyn Worker>>,
) -> Result<Ended, RunError> {
    let loops = if clock.is_manual() { 1 } else { spec.threads.max(1) };
    let Crews { mut crews, owners } = connect_all(broker, spec, loops, clock)?;
    let expected = Expected::new(broker, spec, &crews);
    let connections: Vec<usize> = crews.iter().map(|crew| crew.connections.len()).collect();
    let checker = Checker::new(check_plan(spec)).routed(spec.workload.routes().cloned());
    let shared = Shared::new(clock, spec, stop, checker, owners, &connections);
    let (shared, expected) = (&shared, &expected);
    let (mut before, mut work_before) = (Look::default(), WorkCounts::default());
    let mut still_due = StillDue::new(broker, &mut administrator);
    let mut faults = around.servers.map(|servers| Faults::new(spec.workload.profile(), servers));
    let (loops, missing, declared) = std::thread::scope(|scope| {
        // Whatever ends this thread ends the others.
        let _over = OverWhenDropped(shared);
        let acting = if clock.is_manual() { None } else { faults.take() };
        let acting = acting.map(|faults| {
            scope.spawn(move || {
                // A server that is started again from here runs as any other does, and not before its clients.
                let _ = rustix::process::setpriority_process(None, 0);
                faults.run(shared)
            })
        });
        let others: Vec<_> =
            crews.drain(1..).enumerate().map(|(n, crew)| follow(scope, shared, expected, n + 1, crew)).collect();
        let crew = crews.pop().unwrap_or_default();
        let mut leader = Loop::new(shared, 0, crew.connections, crew.members, quick);
        let begin: &mut dyn FnMut() = &mut || {
            before = Look::beside(clock, &spec.servers);
            work_before = broker.work();
            around.tell(Moment::Begins);
        };
        let (mut teller, mut look) = (Teller::new(progress), Time::ZERO);
        let led = start_together(&mut leader, expected, Some(begin)).and_then(|missing| {
            leader.run(&mut |shared, now| {
                teller.pass(shared, now);
                if now >= look {
                    look = now + STOPPED_EVERY;
                    cut_if_stopped(broker, shared, now);
                }
                if still_due.is_nothing(shared, now) {
                    shared.end();
                }
                faults.as_mut().map_or(Time::NEVER, |faults| faults.act(shared.start(), clock))
            })?;
            Ok(missing)
        });
        shared.end();
        let declared = match acting {
            Some(acting) => joined(acting),
            None => faults.take().map(|faults| faults.finish(clock)).unwrap_or_default(),
        };
        let others: Vec<_> = others.into_iter().map(joined).collect();
        let missing = led?;
        let mut loops = vec![leader];
        for other in others {
            loops.push(other?);
        }
        Ok::<_, RunError>((loops, missing, declared))
    })?;
    // What failed last, a run that was about to end has not seen.
    cut_if_stopped(broker, shared, clock.now());
    around.tell(Moment::Ends);
    let after = Look::beside(clock, &spec.servers);
    let work = broker.work().since(&work_before);
    Ok(Ended::gather(shared, loops, Left { missing, declared, work }, (&before, &after), administrator))
}

/// Ends the run when the backend takes nothing more: what was measured until then is kept.
fn cut_if_stopped(broker: &dyn Broker, shared: &Shared<'_>, now: Time) {
    if let Some(why) = broker.stopped() {
        shared.cut(now, format!("the backend stopped: {why}"));
    }
}

/// Ends the run when it goes out of scope, also by a panic: nobody waits for a loop that is gone.
struct OverWhenDropped<'s, 'a>(&'s Shared<'a>);

impl Drop for OverWhenDropped<'_, '_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A loop beside the first, on a thread of its own.
fn follow<'scope, 'a: 'scope>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'a Shared<'a>,
    expected: &'a Expected,
    index: usize,
    crew: Crew,
) -> ScopedJoinHandle<'scope, Result<Loop<'a>, RunError>> {
    scope.spawn(move || {
        let mut of = Loop::new(shared, index, crew.connections, crew.members, Vec::new());
        let ran = start_together(&mut of, expected, None).and_then(|_| of.run(&mut |_, _| Time::NEVER));
        // Whatever ended this loop ends all: a run with a loop missing measures nothing.
        shared.end();
        ran.map(|()| of)
    })
}

fn joined<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn check_plan(spec: &RunSpec) -> CheckPlan {
    let profile = spec.workload.profile();
    let keys = match profile.keys {
        Keys::Uniform { count }
        | Keys::Zipf { count, .. }
        | Keys::HotSet { count, .. }
        | Keys::Sequential { count } => count,
        Keys::Trace => 0,
    };
    let messages = profile.mean_rate() * profile.horizon().as_secs_f64();
    let pairs = keys.saturating_mul(u64::from(profile.producers)).min(if messages.is_finite() {
        messages as u64
    } else {
        keys
    });
    CheckPlan { producers: profile.producers, groups: profile.groups.len(), order: spec.contract.order, keys: pairs }
}

/// Tells how far the run is, at most ten times a second.
struct Teller<'p> {
    progress: &'p mut dyn FnMut(&Progress),
    next: Time,
    last: (Time, u64, u64, i64),
}

impl<'p> Teller<'p> {
    fn new(progress: &'p mut dyn FnMut(&Progress)) -> Self {
        Self { progress, next: Time::ZERO, last: (Time::ZERO, 0, 0, 0) }
    }

    fn pass(&mut self, shared: &Shared<'_>, now: Time) {
        if now < self.next {
            return;
        }
        self.next = now + PROGRESS_EVERY;
        let profile = shared.spec.workload.profile();
        let elapsed = now.since(shared.start().unwrap_or(now));
        let (acknowledged, delivered) = (shared.sum(|s| &s.acknowledged), shared.sum(|s| &s.delivered));
        let response = shared.sum_signed(|s| &s.response_sum);
        let (then, acknowledged_then, delivered_then, response_then) = self.last;
        let seconds = now.since(then).as_secs_f64();
        let (acks, deliveries) =
            (acknowledged - acknowledged_then.min(acknowledged), delivered - delivered_then.min(delivered));
        let mean = (response - response_then).max(0).cast_unsigned().checked_div(deliveries);
        (self.progress)(&Progress {
            phase: if elapsed < profile.warmup {
                Phase::WarmingUp
            } else if elapsed < profile.horizon() {
                Phase::Measuring
            } else {
                Phase::Draining
            },
            elapsed,
            schedule: profile.horizon(),
            acknowledged,
            delivered,
            rate_per_s: if seconds > 0.0 { acks as f64 / seconds } else { 0.0 },
            response_mean: Span(mean.unwrap_or(0)),
        });
        self.last = (now, acknowledged, delivered, response);
    }
}
