//! Declared faults: what is to be done to servers and when, doing it beside the loops, and undoing at the end whatever is not undone.
//!
//! On a real clock a thread of its own acts, so that no loop is late for it; on a manual clock the loop does between two passes. Leaves
//! out which servers there are ([`Servers`] acts on them) and what became of the run (`record`).

use std::fmt::Debug;
use std::time::Duration;

use brokerlab_model::{Span, Time};
use brokerlab_workloads::Profile;
use brokerlab_workloads::measurement::{Act, ActRecord, FaultRecord};
use brokerlab_workloads::profile::{FaultAction, FaultNode};
use brokerlab_workloads::record::Declared;

use crate::clock::Clock;
use crate::shared::Shared;

/// The thread looks at least this often whether the run is over.
const LOOK: Duration = Duration::from_millis(20);

/// What faults act on.
pub trait Servers: Debug + Sync {
    /// Does `act` to one node or all; returns when it is done. An error says why it could not be.
    fn act(&self, act: Act, node: FaultNode) -> Result<(), String>;

    /// Which node leads the run's first lane now, by its number. May wait for the servers to tell.
    fn leader(&self) -> Result<u32, String>;
}

/// One act to come.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: Time,
    fault: usize,
    act: Act,
    node: FaultNode,
}

/// The faults of one run.
#[derive(Debug)]
pub(crate) struct Faults<'a> {
    servers: &'a dyn Servers,
    declared: Vec<Declared>,
    /// Of each fault on the leader, which node that was.
    led: Vec<Option<u32>>,
    /// When the schedule began; nothing acts before.
    start: Option<Time>,
    /// The next one last; known when the schedule has begun.
    steps: Vec<Step>,
}

impl<'a> Faults<'a> {
    /// The profile's faults, to act on `servers`.
    pub(crate) fn new(profile: &Profile, servers: &'a dyn Servers) -> Self {
        let declared = |fault: &brokerlab_workloads::profile::Fault| Declared {
            fault: FaultRecord {
                action: fault.action,
                node: fault.node,
                at_ns: (profile.warmup + fault.at).0,
                length_ns: fault.length.map(|length| length.0),
            },
            acts: Vec::new(),
        };
        let led = vec![None; profile.faults.len()];
        Self { servers, declared: profile.faults.iter().map(declared).collect(), led, start: None, steps: Vec::new() }
    }

    fn begin(&mut self, start: Time) {
        self.start = Some(start);
        for (number, declared) in self.declared.iter().enumerate() {
            let fault = declared.fault;
            let (act, undo) = acts(fault.action);
            let at = start + Span(fault.at_ns);
            self.steps.push(Step { at, fault: number, act, node: fault.node });
            let back = fault.length_ns.map(|length| Step {
                at: at + Span(length),
                fault: number,
                act: undo,
                node: fault.node,
            });
            self.steps.extend(back);
        }
        self.steps.sort_by_key(|step| std::cmp::Reverse(step.at));
    }

    /// Does what is due. Returns when the next is.
    pub(crate) fn act(&mut self, start: Option<Time>, clock: &dyn Clock) -> Time {
        if self.start.is_none() {
            let Some(start) = start else { return Time::NEVER };
            self.begin(start);
        }
        while let Some(&step) = self.steps.last()
            && step.at <= clock.now()
        {
            self.steps.pop();
            self.carry_out(step, clock);
        }
        self.steps.last().map_or(Time::NEVER, |step| step.at)
    }

    fn carry_out(&mut self, step: Step, clock: &dyn Clock) {
        let chosen = self.chosen(step);
        let node = chosen.as_ref().map_or(step.node, |node| *node);
        let error = chosen.and_then(|node| self.servers.act(step.act, node)).err();
        let start = self.start.unwrap_or(step.at);
        self.declared[step.fault].acts.push(ActRecord {
            act: step.act,
            node,
            planned_ns: step.at.since(start).0,
            at_ns: clock.now().since(start).0,
            error,
        });
    }

    /// The node to act on: the leader is asked for when a fault begins, and what undoes it goes to the same.
    fn chosen(&mut self, step: Step) -> Result<FaultNode, String> {
        if step.node != FaultNode::Leader {
            return Ok(step.node);
        }
        let known = &mut self.led[step.fault];
        if known.is_none() && matches!(step.act, Act::Kill | Act::Pause) {
            *known = Some(self.servers.leader().map_err(|error| format!("which node leads is not known: {error}"))?);
        }
        known.map(FaultNode::Number).ok_or_else(|| "nothing was done to it".to_owned())
    }

    /// Undoes at once what was done and was to be undone later, and gives up the rest. Returns what was declared and done.
    pub(crate) fn finish(mut self, clock: &dyn Clock) -> Vec<Declared> {
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            let undoes = matches!(step.act, Act::Resume | Act::Restart);
            if undoes && !self.declared[step.fault].acts.is_empty() {
                self.carry_out(step, clock);
            }
        }
        self.declared
    }

    /// Acts on a thread of its own until the run is over.
    pub(crate) fn run(mut self, shared: &Shared<'_>) -> Vec<Declared> {
        while !shared.is_over() {
            let next = self.act(shared.start(), shared.clock);
            let left = Duration::from_nanos(next.since(shared.clock.now()).0);
            std::thread::park_timeout(left.min(LOOK));
        }
        self.finish(shared.clock)
    }
}

/// What a fault does, and what undoes it.
const fn acts(action: FaultAction) -> (Act, Act) {
    match action {
        FaultAction::Kill => (Act::Kill, Act::Restart),
        FaultAction::Pause => (Act::Pause, Act::Resume),
    }
}
