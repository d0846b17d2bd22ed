//! One client of an engine: it takes the lock for each batch, and for none that would find nothing.
//!
//! Leaves out what a step does, which is the engine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brokerlab_model::{Accepted, Batch, Client, Completions, Heartbeat, Time, WaitOn};

use super::{Shared, State};
use crate::handoff::{Bell, Origin};

/// One client of an engine.
#[derive(Debug)]
pub struct EngineClient {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u32,
    pub(super) placement: usize,
    pub(super) mail: Arc<AtomicBool>,
    pub(super) bell: Arc<Bell>,
    pub(super) heartbeat: Heartbeat,
}

impl EngineClient {
    /// Says that it is there.
    #[cold]
    fn beat(&mut self, now: Time) {
        let mut state = self.shared.lock();
        let at = state.clock(now);
        let origin = Origin::Loop(self.placement);
        let State { model, effects, .. } = &mut *state;
        model.heard(at, self.number, effects);
        state.perform(at, None, origin);
        self.shared.publish_hints(&mut state, origin);
        drop(state);
    }
}

/// Its mailbox goes with it. The model knows whether it was closed: of one that was not, it keeps the number and what it holds.
impl Drop for EngineClient {
    fn drop(&mut self) {
        // After a panic under the lock nothing is handed out any more.
        if let Ok(mut state) = self.shared.state.lock() {
            state.boxes.leave(self.number);
        }
    }
}

impl Client for EngineClient {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let origin = Origin::Loop(self.placement);
        let mut state = self.shared.lock();
        let now = state.clock(now);
        let accepted = match batch {
            Batch::Publish(publishes) => state.publish(now, self.number, publishes, origin),
            Batch::Settle(settlements) => {
                for settlement in settlements.iter_mut() {
                    settlement.receipt.epoch = settlement.receipt.epoch.wrapping_sub(state.epochs);
                }
                state.settle(now, self.number, settlements, origin)
            }
            Batch::Control(controls) => state.control(now, self.number, controls, origin),
        };
        self.shared.publish_hints(&mut state, origin);
        drop(state);
        batch.advance(accepted.taken);
        accepted
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        self.bell.awake();
        if self.heartbeat.beats(now) {
            self.beat(now);
        }
        if self.mail.load(Ordering::Acquire) {
            self.shared.lock().boxes.collect(self.number, completions);
        }
    }

    /// At once when something waits to be polled, else when a sign of life is due; the model's own deadlines are a worker's.
    fn next_deadline(&self) -> Option<Time> {
        if self.mail.load(Ordering::Acquire) {
            return Some(Time::ZERO);
        }
        self.heartbeat.due()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::Read(self.bell.before_sleep())
    }
}
