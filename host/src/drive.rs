//! One loop: many connections, members and quick workers, driven by one thread in passes.
//!
//! A pass submits what is due, runs the workers, polls everybody, and hands what came back to the books. When a pass brought
//! nothing the loop waits for the earliest of what it knows: a schedule, an end of work, a deadline, a descriptor. Leaves out how
//! clients come to be (`start`) and what is made of the books (`finish`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

use brokerlab_model::{Blocked, Completions, Span, Time, WaitOn, Worker};
use brokerlab_workloads::Workload;

use crate::books::Books;
use crate::fitness::thread_switches;
use crate::member::Member;
use crate::producer::Connection;
use crate::shared::Shared;
use crate::spec::RunError;
use crate::wait::{Waiter, Waiting};

/// A backend that holds a connection back for another reason than its own window is asked again after this.
const ASK_AGAIN: Span = Span::from_millis(1);
/// While draining, loops look at each other's counts this often.
const DRAIN_LOOK: Span = Span::from_millis(1);
/// A manual clock moves at least this far when nothing happens, so that a deadline that stays in the past ends some time.
const SMALLEST_STEP: Span = Span(1_000);
/// With failed or unknown outcomes a run is drained when nothing was delivered for this long.
const QUIET: Span = Span::from_millis(100);

/// A consumer group's declared pause, in absolute time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PauseAt {
    pub(crate) group: usize,
    pub(crate) at: Time,
    pub(crate) until: Time,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Loop<'a> {
    pub(crate) books: Books<'a>,
    workload: Workload,
    pub(crate) connections: Vec<Connection>,
    pub(crate) members: Vec<Member>,
    pub(crate) workers: Vec<Box<dyn Worker>>,
    /// Connections by when they want to be served.
    due: BinaryHeap<Reverse<(Time, u32)>>,
    /// Members by when their work ends.
    work: BinaryHeap<Reverse<(Time, u32)>>,
    /// Connections that the backend holds back.
    stalled: Vec<u32>,
    /// Declared pauses to come, the last first.
    pauses: Vec<PauseAt>,
    completions: Completions,
    ready: Vec<u32>,
    waiter: Waiter,
    /// What generator, recorder and checker cost, and how often the kernel switched this thread; known when the run is over.
    pub(crate) harness: Span,
    pub(crate) switches: Option<(u64, u64)>,
    schedule_end: Time,
    drain_end: Time,
    /// Whether something came in since the loop slept last, and more of it may gather.
    may_gather: bool,
    /// When whoever is told of each pass wants to be told at the latest.
    alarm: Time,
}

impl<'a> Loop<'a> {
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        index: usize,
        connections: Vec<Connection>,
        members: Vec<Member>,
        workers: Vec<Box<dyn Worker>>,
    ) -> Self {
        Self {
            books: Books::new(shared, index),
            workload: shared.spec.workload.clone(),
            connections,
            members,
            workers,
            due: BinaryHeap::new(),
            work: BinaryHeap::new(),
            stalled: Vec::new(),
            pauses: Vec::new(),
            completions: Completions::default(),
            ready: Vec::new(),
            waiter: Waiter::new(shared.spec.waiting),
            harness: Span::ZERO,
            switches: None,
            schedule_end: Time::NEVER,
            drain_end: Time::NEVER,
            may_gather: false,
            alarm: Time::NEVER,
        }
    }

    fn shared(&self) -> &'a Shared<'a> {
        self.books.shared
    }

    /// One pass before the schedule begins: first questions, credit, lanes. Returns whether anything happened.
    pub(crate) fn starting_pass(&mut self) -> Result<bool, RunError> {
        let now = self.books.own_until_now();
        let mut happened = false;
        for connection in &mut self.connections {
            happened |= connection.ask(now);
        }
        for member in &mut self.members {
            happened |= member.submit_controls(&mut self.books);
        }
        happened |= self.run_workers();
        happened |= self.poll()?;
        let connected = self.connections.iter().filter(|c| c.connected).count() as u64;
        let lanes = self.members.iter().map(Member::lanes).sum();
        let status = &self.shared().status[self.books.index];
        status.lanes.store(lanes, Ordering::Release);
        status.connected.store(connected, Ordering::Release);
        status.quiet.store(!happened, Ordering::Release);
        Ok(happened)
    }

    /// The schedule begins at `start`.
    pub(crate) fn begin(&mut self, start: Time) {
        self.books.begin(start);
        let profile = self.workload.profile();
        self.schedule_end = start + profile.warmup + profile.duration;
        self.drain_end = self.schedule_end + profile.drain_limit;
        let window = start + profile.warmup;
        self.pauses = profile
            .pauses
            .iter()
            .filter_map(|pause| {
                let group = profile.groups.iter().position(|group| group.name == pause.group)?;
                Some(PauseAt { group, at: window + pause.at, until: window + pause.at + pause.length })
            })
            .collect();
        self.pauses.sort_by_key(|pause| Reverse(pause.at));
        for at in 0..self.connections.len() as u32 {
            self.arm_connection(at);
        }
        // What a backend held back while members started is asked again.
        for at in 0..self.members.len() as u32 {
            self.arm_member(at);
        }
    }

    /// Runs until the schedule is over and drained, the drain limit has come, or the run is cut short. `each_pass` is told the
    /// time once per pass, and says when it wants to be told again at the latest.
    pub(crate) fn run(&mut self, each_pass: &mut dyn FnMut(&Shared<'_>, Time) -> Time) -> Result<(), RunError> {
        self.switches = self.thread_switches();
        let spins = self.shared().spec.waiting != Waiting::Park;
        loop {
            let before = self.books.harness();
            let now = self.books.own_until_now();
            self.alarm = each_pass(self.shared(), now);
            self.look_for_the_end(now);
            if self.shared().is_over() {
                // What has come back by now is not left lying.
                self.poll()?;
                self.books.flush();
                self.books.publish_status(0);
                self.harness = self.books.harness_cpu();
                let before = self.switches.unwrap_or_default();
                self.switches = self.thread_switches().map(|now| (now.0 - before.0, now.1 - before.1));
                return Ok(());
            }
            if !self.pass(now)? {
                self.wait();
                if spins {
                    self.books.idle_since(before);
                }
            }
        }
    }

    /// Context switches of this thread so far. Reading the system's record of them allocates, more or less by machine; on a manual
    /// clock, where allocations are counted, switches tell nothing.
    fn thread_switches(&self) -> Option<(u64, u64)> {
        if self.shared().clock.is_manual() { None } else { thread_switches() }
    }

    fn look_for_the_end(&mut self, now: Time) {
        let shared = self.shared();
        if shared.stop.load(Ordering::Relaxed) {
            shared.cut(now, "it was interrupted");
        } else if let Some(missed) = self.books.missed() {
            shared.cut(now, missed);
        }
        if now < self.schedule_end {
            // Something is open as long as anything may still come due.
            self.books.publish_status(1);
            return;
        }
        self.books.publish_status(self.open());
        if now >= self.drain_end || shared.is_drained(now, QUIET) {
            shared.end();
        }
    }

    fn open(&self) -> u64 {
        let end = Time(self.workload.horizon().0);
        let connections: u64 = self.connections.iter().map(|c| c.open(end)).sum();
        connections + self.members.iter().map(Member::unsettled).sum::<u64>()
    }

    fn pass(&mut self, now: Time) -> Result<bool, RunError> {
        self.pause_groups(now);
        let mut happened = self.serve_connections(now);
        happened |= self.serve_members(now);
        happened |= self.run_workers();
        happened |= self.poll()?;
        self.books.flush();
        self.may_gather |= happened;
        Ok(happened)
    }

    fn pause_groups(&mut self, now: Time) {
        while let Some(&pause) = self.pauses.last()
            && pause.at <= now
        {
            self.pauses.pop();
            for at in 0..self.members.len() {
                if self.members[at].group() == pause.group {
                    self.members[at].pause(now, pause.until);
                    self.members[at].armed = Time::NEVER;
                    self.arm_member(at as u32);
                }
            }
        }
    }

    /// Serves each connection at most once: those whose time has come, and those that the backend held back.
    fn serve_connections(&mut self, now: Time) -> bool {
        let mut ready = std::mem::take(&mut self.ready);
        while let Some(&Reverse((at, connection))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            // An entry that was overtaken by an earlier one is stale.
            if self.connections[connection as usize].armed == at {
                self.connections[connection as usize].armed = Time::NEVER;
                ready.push(connection);
            }
        }
        let connections = &mut self.connections;
        self.stalled.retain(|&connection| {
            let of = &mut connections[connection as usize];
            // A full window opens when something completes; every other reason may end unseen.
            let stays = of.blocked == Some(Blocked::Window) && !of.stirred;
            if !stays {
                of.stalled = false;
                ready.push(connection);
            }
            stays
        });
        let mut taken = 0;
        for connection in ready.drain(..) {
            taken += self.serve_connection(connection);
        }
        self.ready = ready;
        taken > 0
    }

    fn serve_connection(&mut self, connection: u32) -> usize {
        let of = &mut self.connections[connection as usize];
        let served = of.serve(&mut self.books, &self.workload);
        if served.held_back {
            of.stalled = true;
            self.stalled.push(connection);
        } else {
            self.arm_connection(connection);
        }
        served.taken
    }

    fn arm_connection(&mut self, connection: u32) {
        let of = &mut self.connections[connection as usize];
        if let Some(at) = of.next(self.books.start)
            && at < of.armed
            && !of.stalled
        {
            of.armed = at;
            self.due.push(Reverse((at, connection)));
        }
    }

    fn serve_members(&mut self, now: Time) -> bool {
        let mut happened = false;
        let mut ready = std::mem::take(&mut self.ready);
        while let Some(&Reverse((at, member))) = self.work.peek()
            && at <= now
        {
            self.work.pop();
            if self.members[member as usize].armed == at {
                self.members[member as usize].armed = Time::NEVER;
                ready.push(member);
            }
        }
        for member in ready.drain(..) {
            happened |= self.members[member as usize].serve(&mut self.books);
            self.arm_member(member);
        }
        self.ready = ready;
        happened
    }

    fn arm_member(&mut self, member: u32) {
        let of = &mut self.members[member as usize];
        let again = of.wants_again().then(|| if of.held_back { self.books.mark + ASK_AGAIN } else { self.books.mark });
        let next = match (of.next(), again) {
            (Some(next), Some(again)) => Some(next.min(again)),
            (next, again) => next.or(again),
        };
        let again = Some(of.grants_again()).filter(|&at| at != Time::NEVER);
        let next = [next, again].into_iter().flatten().min();
        if let Some(at) = next
            && at < of.armed
        {
            of.armed = at;
            self.work.push(Reverse((at, member)));
        }
    }

    fn run_workers(&mut self) -> bool {
        if self.workers.is_empty() {
            return false;
        }
        let now = self.books.own_until_now();
        let mut did = false;
        for worker in &mut self.workers {
            did |= worker.run(now);
        }
        if did {
            self.books.backend_until_now();
        }
        did
    }

    /// Polls every client. The clock is read after each poll that returned something, and never on the way to one that did not.
    fn poll(&mut self) -> Result<bool, RunError> {
        let mut completions = std::mem::take(&mut self.completions);
        let mut any = false;
        self.books.own_until_now();
        for at in 0..self.connections.len() {
            self.connections[at].client.poll(self.books.mark, &mut completions);
            if completions.is_empty() {
                continue;
            }
            any = true;
            let completed = self.books.backend_until_now();
            self.connections[at].take(&completions, completed, &mut self.books)?;
            completions.clear();
            self.arm_connection(at as u32);
            self.books.own_until_now();
        }
        for at in 0..self.members.len() {
            self.members[at].client.poll(self.books.mark, &mut completions);
            if completions.is_empty() {
                continue;
            }
            any = true;
            let completed = self.books.backend_until_now();
            self.members[at].take(&completions, completed, &mut self.books, &self.workload)?;
            completions.clear();
            self.arm_member(at as u32);
            self.books.own_until_now();
        }
        self.books.backend_until_now();
        self.completions = completions;
        Ok(any)
    }

    /// Waits for whatever comes first.
    fn wait(&mut self) {
        let now = self.books.mark;
        let mut until = if now < self.schedule_end { self.schedule_end } else { self.drain_end };
        let mut earlier = |at: Option<Time>| until = until.min(at.unwrap_or(Time::NEVER));
        earlier(self.due.peek().map(|Reverse((at, _))| *at));
        earlier(self.work.peek().map(|Reverse((at, _))| *at));
        earlier(self.pauses.last().map(|pause| pause.at));
        earlier(Some(self.alarm));
        let asks = |connection: &u32| self.connections[*connection as usize].blocked != Some(Blocked::Window);
        earlier(self.stalled.iter().any(asks).then(|| now + ASK_AGAIN));
        earlier((now >= self.schedule_end).then(|| now + DRAIN_LOOK));
        self.sleep(until);
    }

    /// Waits until `until` or the earliest deadline of a client or worker, or until a descriptor is ready.
    pub(crate) fn sleep(&mut self, until: Time) {
        let clock = self.shared().clock;
        let clients = self.connections.iter().map(|c| &c.client).chain(self.members.iter().map(|m| &m.client));
        let deadlines = clients.clone().filter_map(|client| client.next_deadline());
        let deadlines = deadlines.chain(self.workers.iter().filter_map(|worker| worker.next_deadline()));
        let mut until = deadlines.fold(until, Time::min);
        if clock.is_manual() {
            until = until.max(clock.now() + SMALLEST_STEP);
        }
        let gathers = std::mem::take(&mut self.may_gather) && self.workers.is_empty();
        if self.waiter.listens(clock)
            && gathers
            && let Some(sleep) = self.books.gather.sleep(self.books.mark)
            && clients.clone().all(|client| client.comes_in_pieces())
        {
            self.waiter.wait(clock, std::iter::empty::<WaitOn<'_>>(), until.min(self.books.mark + sleep));
        } else if self.waiter.listens(clock) {
            let on = clients.map(|client| client.wait_on()).chain(self.workers.iter().map(|worker| worker.wait_on()));
            self.waiter.wait(clock, on, until);
        } else {
            self.waiter.wait(clock, std::iter::empty::<WaitOn<'_>>(), until);
        }
        // Time asleep is nobody's.
        self.books.mark = clock.now();
    }
}
