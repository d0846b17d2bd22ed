//! What the suite needs from its caller: a broker, the time, and somebody who waits.
//!
//! Leaves out every clock and every wait: a rig has a virtual clock or the machine's own, and the suite can't tell which.

use crate::broker::{Broker, Client};
use crate::capabilities::Unsupported;
use crate::contract::Contract;
use crate::time::{Span, Time};

/// How a fresh broker is set, beside its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// Leases, limits and bounds that no case of ordinary size runs into.
    Usual,
    /// A lease that ends this long after the delivery. Asked for only where the backend has leases.
    Lease(Span),
    /// Sessions that end when a member was not heard of for so long. Asked for only where the backend has sessions.
    Session(Span),
    /// A log that is compacted: newest parts of one message, a pass as soon as anything is dirty, and tombstones that go with the second
    /// pass. Asked for only where the backend compacts.
    Compacted,
    /// Bounds on what the backend or its client holds, small enough that 256 messages of 16 KiB don't fit at once. Two
    /// such messages fit.
    SmallBounds,
}

/// A broker under test, with time and waiting around it.
pub trait Rig {
    /// The broker.
    fn broker(&mut self) -> &mut dyn Broker;

    /// The contract that it was made for.
    fn contract(&self) -> Contract;

    /// Replaces the broker by a fresh and empty one. Clients of the old one are gone by then.
    ///
    /// # Errors
    /// What is missing, when the backend can't keep `contract`.
    fn renew(&mut self, contract: &Contract, tuning: Tuning) -> Result<(), Unsupported>;

    /// The time.
    fn now(&self) -> Time;

    /// Runs the broker's workers (or the server at the other end), and lets time pass until a client has something to do, but
    /// not beyond `limit` and not for long: a virtual clock moves to the next deadline or by a small quantum, a real one sleeps
    /// in `poll(2)`. Returns for each client whether it is to be polled: its descriptor is ready, its deadline has come, or it
    /// names nothing to wait for. The clients that it does not return are not polled, so a wrong `wait_on` shows.
    fn step(&mut self, clients: &[&dyn Client], limit: Time) -> Vec<bool>;

    /// After how many steps without what it waits for a case gives up and fails.
    fn patience(&self) -> u32;

    /// How long nothing must happen until a case believes that nothing more will.
    fn quiet(&self) -> Span;
}
