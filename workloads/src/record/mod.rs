//! The recorder: what became of every message, as distributions over the window and counts over time.
//!
//! Three moments per message: intended start, actual start, completed. Response time is completed − intended, service time is
//! completed − actual, and what lies between intended and actual is split into *blocked* (the backend's doing) and *late* (the
//! generator's). Every message is recorded; nothing is sampled, clamped or averaged. A loop owns one [`Recorder`]; they are
//! merged exactly when the loops have ended.
//!
//! Leaves out reading a clock (`host` does) and whether the messages that came are the right ones ([`check`](crate::check)).

mod backend_time;
mod encoded;
mod flow;
mod grid;
mod recorder;
mod recovery;
mod tally;

pub use backend_time::{BackendTime, Delay, HeldBack};
pub use encoded::{DecodeError, Quantile, quantile};
pub use grid::Plan;
pub use recorder::{Moments, Recorded, Recorder, Unacknowledged};
pub use recovery::Declared;
pub use tally::Tally;
