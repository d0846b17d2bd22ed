//! Tests of profiles and generators through the crate's public interface.

mod digests;
mod distributions;
mod errors;
mod profiles;
mod properties;
mod schedules;
