//! The engine's workers: one minds deadlines and, without a flush, writes once per loop pass; with a flush, a second one commits
//! in groups on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use brokerlab_model::{Failure, Storage, Time, WaitOn, Worker};

use super::Shared;
use crate::handoff::{Bell, Origin};

pub(super) fn workers(shared: &Arc<Shared>, storage: Storage) -> Vec<Box<dyn Worker>> {
    let state = shared.lock();
    let minder =
        Minder { shared: Arc::clone(shared), bell: Arc::clone(&state.worker), writes: storage == Storage::PageCache };
    let mut all: Vec<Box<dyn Worker>> = vec![Box::new(minder)];
    if let Some(flusher) = &state.flusher {
        all.push(Box::new(Committer { shared: Arc::clone(shared), bell: Arc::clone(flusher) }));
    }
    all
}

/// Minds the model's deadlines; writes what waits, where writing does not flush.
#[derive(Debug)]
struct Minder {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    writes: bool,
}

/// Group commit: takes everything that waits, writes and flushes it without the lock, then tells the model.
#[derive(Debug)]
struct Committer {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
}

impl Shared {
    fn due(&self, now: Time) -> bool {
        self.deadline.load(Ordering::Acquire) <= now.0
    }

    fn waits(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes what waits, writes it without the lock, and hands out what follows; false when nothing waits.
    fn commit(&self, now: Time) -> bool {
        let origin = Origin::Worker(std::thread::current().id());
        let mut state = self.lock();
        if let Some(flusher) = &state.flusher {
            flusher.drain();
        }
        let Some(mut job) = state.store.take_job() else { return false };
        self.publish_hints(&mut state, origin);
        drop(state);
        job.perform();
        let mut state = self.lock();
        let now = state.clock(now);
        if let Some((ticket, stored)) = state.store.finish(job) {
            let result = if stored { Ok(()) } else { Err(Failure::Storage) };
            let super::State { model, effects, .. } = &mut *state;
            model.stored(now, ticket, result, effects);
        }
        state.perform(now, None, origin);
        self.publish_hints(&mut state, origin);
        true
    }
}

impl Worker for Minder {
    fn run(&mut self, now: Time) -> bool {
        self.bell.awake();
        let (due, waits) = (self.shared.due(now), self.writes && self.shared.waits());
        if !due && !waits {
            if self.bell.is_rung() {
                // What is being rung is rung before.
                let _state = self.shared.lock();
                self.bell.drain();
            }
            return false;
        }
        let thread = std::thread::current().id();
        let mut state = self.shared.lock();
        state.worker.drain();
        state.worker_thread = Some(thread);
        if due {
            let now = state.clock(now);
            let super::State { model, effects, .. } = &mut *state;
            model.on_deadline(now, effects);
            state.perform(now, None, Origin::Worker(thread));
            state.linger(now);
            self.shared.publish_hints(&mut state, Origin::Worker(thread));
        }
        drop(state);
        let wrote = self.writes && self.shared.commit(now);
        due || wrote
    }

    fn next_deadline(&self) -> Option<Time> {
        if self.writes && self.shared.waits() {
            return Some(Time::ZERO);
        }
        let deadline = Time(self.shared.deadline.load(Ordering::Acquire));
        (deadline < Time::NEVER).then_some(deadline)
    }

    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::Read(self.bell.before_sleep())
    }
}

impl Worker for Committer {
    fn run(&mut self, now: Time) -> bool {
        self.bell.awake();
        self.shared.commit(now)
    }

    fn next_deadline(&self) -> Option<Time> {
        self.shared.waits().then_some(Time::ZERO)
    }

    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::Read(self.bell.before_sleep())
    }

    fn blocks(&self) -> bool {
        true
    }
}
