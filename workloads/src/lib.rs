//! Workloads: profiles and the messages that they stand for, the same on every machine, at any number of threads.
//!
//! A [`Profile`] is a TOML file with units, checked; a [`Workload`] is a profile
//! compiled for one seed; a [`Producer`] is a position in its schedule. Every message begins with a
//! [`Stamp`]; a [`Digest`] proves that two machines generate the same messages. This crate
//! knows no clock and no broker: time is an argument.

pub mod analytics;
pub mod check;
pub mod digest;
pub mod generate;
pub mod measurement;
mod outage;
pub mod profile;
pub mod record;
pub mod stamp;
pub mod validity;

pub use digest::{Digest, Fold, digest, fold_of};
pub use generate::{Contents, Producer, Routes, Scheduled, Workload};
pub use profile::{Profile, ProfileError};
pub use stamp::{STAMP_LEN, Stamp, StampError, body_crc, key_hash};
