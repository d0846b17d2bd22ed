//! Tests of profiles and generators through the crate's public interface.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by a panic, as the test does")]

mod checkpoints;
mod digests;
mod distributions;
mod errors;
mod profiles;
mod properties;
mod schedules;
