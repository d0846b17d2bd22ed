//! The wall clock around a broker: pacing, loops, waiting, visits in child processes, and what the machine was doing meanwhile.
//!
//! [`run`] drives one workload against one [`Broker`](brokerlab_model::Broker) and returns a
//! [`Measurement`](brokerlab_workloads::measurement::Measurement). Nobody but this crate waits, and only it reads a clock; on a
//! [`ManualClock`] the whole of it runs in virtual time on one thread, which is what its tests do. It does not know which backend it
//! drives, and not how results look.

mod books;
pub mod clock;
pub mod doctor;
mod drive;
mod due;
mod faults;
mod finish;
pub mod fitness;
mod fixed_case;
mod gather;
mod held;
mod member;
mod producer;
mod run;
pub mod served;
mod shared;
mod slots;
mod spec;
mod start;
pub mod started;
pub mod visit;
mod wait;

pub use clock::{Clock, ManualClock, WallClock};
pub use faults::Servers;
pub use fixed_case::{CASE, FixedCase, fixed_case};
pub use run::{Around, Moment, check_bindings, run, run_around, run_hooked};
pub use spec::{BATCH_MAX, Phase, Progress, RunError, RunSpec, Server, default_threads};
pub use wait::{ParseWaitingError, Waiting};
