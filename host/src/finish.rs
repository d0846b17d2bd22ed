//! After the drain: what the backend still holds, what was due and never sent, closing everybody, and the measurement.
//!
//! Nothing here is in the measured window. Leaves out whether the measurement can be believed, which
//! [`validity`](brokerlab_workloads::validity) judges.

use std::collections::BTreeMap;
use std::sync::Mutex;

use brokerlab_model::{Batch, Broker, Client, Completions, Control, Settings, Span, Time, WaitOn, WorkCounts, Worker};
use brokerlab_workloads::analytics::{Analysis, AnalyticsRecord};
use brokerlab_workloads::check::{CheckPlan, Checker};
use brokerlab_workloads::measurement::{
    Act, CheckRecord, DigestRecord, FitnessRecord, GroupRecord, Kind, LoopRecord, Measurement, OutageRecord,
    PauseRecord, ResourceRecord, ServerRecord, WindowRecord,
};
use brokerlab_workloads::profile::{Group, Pause};
use brokerlab_workloads::record::{Declared, Quantile, Recorder};
use brokerlab_workloads::{Workload, digest, fold_of};

use crate::books::{Uninvited, recorder_of};
use crate::clock::Clock;
use crate::drive::Loop;
use crate::due::untold_in_words;
use crate::fitness::Look;
use crate::held::still_held;
use crate::producer::Owned;
use crate::shared::{Shared, locked};
use crate::slots::control_token;
use crate::spec::RunSpec;
use crate::start::{ANSWER_LIMIT, Administrator, digest_messages};
use crate::wait::{Waiter, Waiting};

/// How long a server that was started again may take until it answers.
const RESTARTED_LIMIT: Span = Span::from_secs(30);
/// How long one that was killed and is to stay down may take; others of its nodes may answer.
const KILLED_LIMIT: Span = Span::from_secs(3);
/// How long clients may take to close.
const CLOSE_LIMIT: Span = Span::from_secs(1);
/// A closed loop has no number of due messages: this many are digested.
const DIGEST_CLOSED_LOOP: u64 = 10_000;

/// What the loops leave behind.
#[derive(Debug)]
pub(crate) struct Ended {
    recorder: Recorder,
    checks: Vec<CheckRecord>,
    /// By group.
    analytics: Vec<Option<AnalyticsRecord>>,
    idle_members: Vec<u32>,
    clients: u32,
    loops: u32,
    start: Time,
    end: Time,
    harness: Span,
    resources: ResourceRecord,
    fitness: FitnessRecord,
    work: WorkCounts,
    matches_published: bool,
    servers: Vec<ServerRecord>,
    notes: Vec<String>,
    outages: Vec<OutageRecord>,
    not_back: Option<String>,
    cut_short: Option<(Time, String)>,
    pub(crate) dirty_bytes_at_start: Option<u64>,
}

/// What the run leaves beside its loops.
#[derive(Debug)]
pub(crate) struct Left {
    /// What was not ready when the schedule began.
    pub(crate) missing: Option<String>,
    /// The declared faults, and what was done for them.
    pub(crate) declared: Vec<Declared>,
    /// What the engine did.
    pub(crate) work: WorkCounts,
}

impl Ended {
    /// Asks what the backend holds, counts what was never sent, closes everybody, and closes the books.
    pub(crate) fn gather(
        shared: &Shared<'_>,
        mut loops: Vec<Loop<'_>>,
        left: Left,
        (before, after): (&Look, &Look),
        mut administrator: Administrator,
    ) -> Self {
        let spec = shared.spec;
        let clock = shared.clock;
        let end = clock.now();
        let mut workers: Vec<_> = loops.iter_mut().flat_map(|of| std::mem::take(&mut of.workers)).collect();
        let mut notes = notes(spec, &loops);
        notes.extend(left.missing);
        notes.extend(not_done(&left.declared));
        let limit = answer_limit(&left.declared);
        let mut checker = std::mem::replace(&mut *locked(&shared.checker), Checker::new(EMPTY));
        let (held, not_back) =
            match still_held(spec, (&mut loops, &mut checker), &mut administrator, &mut workers, clock, limit) {
                Ok(held) => (held, None),
                Err(error) => {
                    notes.push(format!("what the backend still held is not known: {error}"));
                    (Vec::new(), Some(error.to_string()))
                }
            };
        let cut_short = shared.cut_short();
        let start = shared.start().unwrap_or(end);
        let due_until = cut_short.as_ref().map_or(Time::NEVER, |(at, _)| Time(at.since(start).0));
        close_all(&mut loops, administrator, &mut workers, clock);
        let owned: Vec<&Owned> = loops.iter().flat_map(|of| &of.connections).flat_map(|c| &c.producers).collect();
        let mut published = vec![0; spec.workload.producers() as usize];
        for owned in &owned {
            published[owned.position.number() as usize] = owned.published;
        }
        let matches_published = owned.iter().all(|owned| folds_match(owned, &spec.workload));
        let (first, others) = loops.split_first().expect("a run has at least one loop");
        let mut recorder = first.books.recorder.clone();
        let mut resources = after.resources_since(before);
        for of in others {
            recorder.merge(&of.books.recorder);
            let (voluntary, involuntary) = of.switches.unwrap_or_default();
            resources.voluntary_context_switches += voluntary;
            resources.involuntary_context_switches += involuntary;
        }
        count_not_sent(&mut recorder, &recorder_of(shared, start), &mut loops, (start, due_until), &spec.workload);
        let checks = checker.finish(&held, &published, &spec.contract);
        Self {
            outages: outages(&recorder, &checks, &left.declared, end.since(start)),
            not_back,
            recorder,
            checks,
            analytics: analytics(shared, &published),
            idle_members: idle_members(spec, &loops),
            clients: loops.iter().map(|of| (of.connections.len() + of.members.len()) as u32).sum(),
            loops: loops.len() as u32,
            start,
            end,
            harness: loops.iter().fold(Span::ZERO, |sum, of| sum + of.harness),
            resources,
            fitness: fitness(after.fitness_since(before), &left.declared),
            servers: after.servers_since(before, &spec.servers),
            work: left.work,
            matches_published,
            notes,
            cut_short,
            dirty_bytes_at_start: None,
        }
    }
}

/// What each group's windows found. The loops have ended.
fn analytics(shared: &Shared<'_>, published: &[u64]) -> Vec<Option<AnalyticsRecord>> {
    let workload = &shared.spec.workload;
    let finish = |(analysis, group): (&Option<Mutex<Analysis>>, &Group)| {
        let lanes = shared.spec.lanes.saturating_mul(workload.channels());
        let ended = std::mem::replace(&mut *locked(analysis.as_ref()?), Analysis::new(group.analytics?, lanes));
        Some(ended.finish(workload, published))
    };
    shared.analyses.iter().zip(&workload.profile().groups).map(finish).collect()
}

/// How long the broker may take to say what it holds: one that was started again has some time to come back, and for one that is to
/// stay down nobody waits long.
fn answer_limit(declared: &[Declared]) -> Span {
    let did =
        |act: Act| declared.iter().any(|of| of.acts.last().is_some_and(|last| last.act == act && last.error.is_none()));
    if did(Act::Kill) {
        KILLED_LIMIT
    } else if did(Act::Restart) {
        RESTARTED_LIMIT
    } else {
        ANSWER_LIMIT
    }
}

/// The CPU time of a process that was killed moves to another, which reaps it: what others used can't be told any more.
fn fitness(mut found: FitnessRecord, declared: &[Declared]) -> FitnessRecord {
    if declared.iter().flat_map(|of| &of.acts).any(|act| act.act == Act::Kill && act.error.is_none()) {
        found.other_processes_cores = None;
    }
    found
}

/// The run's outages. What the checker found belongs to one only where there is no other.
fn outages(recorder: &Recorder, checks: &[CheckRecord], declared: &[Declared], length: Span) -> Vec<OutageRecord> {
    let mut outages = recorder.outages(declared, length.0);
    if let [outage] = outages.as_mut_slice() {
        outage.lost = Some(checks.iter().map(|check| check.lost).sum());
        outage.reordered = Some(checks.iter().map(|check| check.reordered).sum());
    }
    outages
}

/// Faults that did not act, or not as declared, in words.
fn not_done(declared: &[Declared]) -> Vec<String> {
    let mut notes = Vec::new();
    for of in declared {
        let (action, node) = (of.fault.action.name(), of.fault.node);
        if of.acts.is_empty() {
            notes.push(format!("fault: {action} of {node} did not come to act: the run ended before"));
        }
        for act in &of.acts {
            if let Some(error) = &act.error {
                notes.push(format!("fault: {node} could not be {}: {error}", act.act.done()));
            }
        }
    }
    notes
}

const EMPTY: CheckPlan = CheckPlan { producers: 0, groups: 0, order: brokerlab_model::Order::None, keys: 0 };

/// Tells the recorder of every message that came due before `until` (from the schedule's start) and was never built. They may be a
/// thousand million: every core counts a part of the producers.
fn count_not_sent(
    recorder: &mut Recorder,
    empty: &Recorder,
    loops: &mut [Loop<'_>],
    (start, until): (Time, Time),
    workload: &Workload,
) {
    let producers =
        loops.iter_mut().flat_map(|of| &mut of.connections).flat_map(|connection| &mut connection.producers);
    let mut producers: Vec<&mut Owned> =
        producers.filter(|owned| owned.position.peek().is_some_and(|at| at < until && at != Time::NEVER)).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = producers.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let count = move |producers: &mut [&mut Owned]| {
            let mut counted = empty.clone();
            for owned in producers {
                let mut sequence = owned.position.sequence();
                owned.position.pass_over(until, |intended, size| {
                    let intended = start + Span(intended.0);
                    counted.due(intended, 1, u64::from(size));
                    if let Some(routes) = workload.routes() {
                        routes.not_for(sequence).for_each(|group| counted.not_for(group, intended));
                    }
                    sequence += 1;
                });
            }
            counted
        };
        let counting: Vec<_> = producers.chunks_mut(part).map(|part| scope.spawn(move || count(part))).collect();
        for counted in counting {
            recorder.merge(&counted.join().expect("counting does not panic"));
        }
    });
}

/// Whether the first messages handed to the backend are the first that the profile means.
fn folds_match(owned: &Owned, workload: &Workload) -> bool {
    let count = owned.published.min(owned.fold_limit);
    count == 0 || fold_of(workload, owned.position.number(), count) == owned.fold.value()
}

fn idle_members(spec: &RunSpec, loops: &[Loop<'_>]) -> Vec<u32> {
    let mut idle = vec![0; spec.workload.profile().groups.len()];
    for member in loops.iter().flat_map(|of| &of.members) {
        idle[member.group()] += u32::from(member.given == 0);
    }
    idle
}

fn notes(spec: &RunSpec, loops: &[Loop<'_>]) -> Vec<String> {
    let profile = spec.workload.profile();
    let mut notes = Vec::new();
    for (group, idle) in profile.groups.iter().zip(idle_members(spec, loops)) {
        if idle > 0 {
            notes.push(format!(
                "group {}: {idle} of {} consumers idle, {} lanes",
                group.name, group.members, spec.lanes
            ));
        }
    }
    for pause in &profile.pauses {
        notes.push(format!("pause: group {} from {} for {}", pause.group, pause.at, pause.length));
    }
    let mut uninvited: BTreeMap<Uninvited, u64> = BTreeMap::new();
    for (&what, count) in loops.iter().flat_map(|of| &of.books.uninvited) {
        *uninvited.entry(what).or_default() += count;
    }
    for (what, count) in uninvited {
        notes.push(format!("{count} × {}", what.in_words()));
    }
    let clients = loops
        .iter()
        .flat_map(|of| of.connections.iter().map(|c| &c.client).chain(of.members.iter().map(|member| &member.client)));
    for reason in clients.flat_map(|client| client.reasons()) {
        if !notes.contains(&reason) {
            notes.push(reason);
        }
    }
    notes
}

/// Closes every client that is not closed yet.
fn close_all(loops: &mut [Loop<'_>], administrator: Administrator, workers: &mut [Box<dyn Worker>], clock: &dyn Clock) {
    let mut administrator = administrator.into_client();
    let mut clients: Vec<&mut Box<dyn Client>> = Vec::new();
    for of in loops.iter_mut() {
        clients.extend(of.connections.iter_mut().map(|connection| &mut connection.client));
        let open = of.members.iter_mut().filter(|member| !member.is_closed);
        clients.extend(open.map(|member| &mut member.client));
    }
    clients.push(&mut administrator);
    close(clients, workers, clock);
}

/// Closes these clients and waits a bounded time for the answers; whoever does not answer is left, and dropped with the run.
pub(crate) fn close(clients: Vec<&mut Box<dyn Client>>, workers: &mut [Box<dyn Worker>], clock: &dyn Clock) {
    let token = control_token(u64::MAX >> 1);
    let mut open: Vec<(&mut Box<dyn Client>, Batch)> =
        clients.into_iter().map(|client| (client, Batch::Control(vec![(token, Control::Close)]))).collect();
    let mut waiter = Waiter::new(Waiting::Park);
    let mut completions = Completions::default();
    let limit = clock.now() + CLOSE_LIMIT;
    while !open.is_empty() && clock.now() < limit {
        let now = clock.now();
        let mut happened = false;
        open.retain_mut(|(client, batch)| {
            if !batch.is_empty() {
                happened |= client.submit(now, batch).taken > 0;
            }
            client.poll(now, &mut completions);
            let closed = completions.outcomes.iter().any(|outcome| outcome.token == token);
            happened |= !completions.is_empty();
            completions.clear();
            !closed
        });
        for worker in workers.iter_mut() {
            happened |= worker.run(now);
        }
        if !happened {
            let until = (now + Span::from_millis(1)).min(limit);
            waiter.wait(
                clock,
                open.iter().map(|(client, _)| client.wait_on()).chain(std::iter::empty::<WaitOn<'_>>()),
                until,
            );
        }
    }
}

/// The measurement of a run that has ended.
pub(crate) fn measurement(
    broker: &dyn Broker,
    spec: &RunSpec,
    settings: Settings,
    clock: &dyn Clock,
    ended: Ended,
) -> Measurement {
    let profile = spec.workload.profile();
    let recorded = ended.recorder.finish(None);
    let lost = ended.checks.iter().map(|check| check.lost).sum();
    let mut notes = ended.notes;
    notes.extend(untold_in_words(&broker.untold_limits(), lost));
    let window = window(spec, clock, ended.start, ended.end, ended.cut_short.as_ref().map(|(at, _)| *at));
    let messages = recorded.counts.published_in_all.max(1);
    let fitness = FitnessRecord {
        late_p999_ns: match recorded.publish.late.quantile(0, 0.999) {
            Ok(Quantile::At(ns)) => ns,
            Ok(Quantile::Empty | Quantile::BelowZero | Quantile::Never) | Err(_) => 0,
        },
        harness_ns_per_message: ended.harness.0 as f64 / messages as f64,
        dirty_bytes_at_start: ended.dirty_bytes_at_start,
        ..ended.fitness
    };
    let found = ended.checks.into_iter().zip(ended.analytics).zip(ended.idle_members);
    let groups = profile.groups.iter().zip(recorded.groups).zip(found).enumerate();
    let groups = groups.map(|(index, ((group, end_to_end), ((check, analytics), idle_members)))| GroupRecord {
        name: group.name.clone(),
        members: group.members,
        idle_members,
        utilisation: profile.utilisation(index),
        end_to_end,
        check,
        analytics,
    });
    let due = recorded.counts.due + recorded.counts.warmup_due;
    Measurement {
        row: spec.row.clone(),
        backend: broker.capabilities().name.to_owned(),
        backend_url: spec.backend_url.clone(),
        world: spec.world,
        kind: Kind::Measured,
        point: spec.point.clone(),
        contract: spec.contract,
        settings,
        lanes: spec.lanes,
        seed: spec.workload.seed(),
        digest: digest_record(&spec.workload, due, ended.matches_published),
        window,
        loops: LoopRecord {
            loops: ended.loops,
            waiting: spec.waiting.to_string(),
            clients: ended.clients,
            transport: spec.transport.clone(),
            nice: nice(),
        },
        counts: recorded.counts,
        publish: recorded.publish,
        end_to_end: recorded.end_to_end,
        settle: recorded.settle,
        groups: groups.collect(),
        intervals: recorded.intervals,
        resources: ended.resources,
        work: ended.work,
        tallies: broker.tallies(),
        fitness,
        notes,
        cut_short: ended.cut_short.map(|(_, reason)| reason),
        pauses: profile.pauses.iter().map(|pause| paused(pause, profile.warmup)).collect(),
        outages: ended.outages,
        not_back: ended.not_back,
        live: None,
        servers: ended.servers,
    }
}

fn paused(pause: &Pause, warmup: Span) -> PauseRecord {
    PauseRecord { group: pause.group.clone(), at_ns: (warmup + pause.at).0, length_ns: pause.length.0 }
}

/// The priority of this thread, which the loops inherited.
fn nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap_or(0)
}

fn digest_record(workload: &Workload, due: u64, matches_published: bool) -> DigestRecord {
    // The number depends on the profile alone, so that every backend's digest is the same.
    let due = if workload.is_closed_loop() { DIGEST_CLOSED_LOOP } else { due };
    let messages = digest_messages(workload).min(due);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    DigestRecord { sha256: digest(workload, messages, threads).to_string(), messages, matches_published }
}

fn window(spec: &RunSpec, clock: &dyn Clock, start: Time, end: Time, cut: Option<Time>) -> WindowRecord {
    let profile = spec.workload.profile();
    let begins = start + profile.warmup;
    let over = (begins + profile.duration).min(cut.unwrap_or(Time::NEVER));
    WindowRecord {
        origin_utc_ns: clock.origin_utc_ns() + start.0,
        warmup_ns: profile.warmup.0,
        duration_ns: over.since(begins).0,
        drain_limit_ns: profile.drain_limit.0,
        drained_ns: end.since(begins + profile.duration).0,
    }
}
