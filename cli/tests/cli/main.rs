//! The command line from outside: exit codes, messages, files and exact counts of the built binary.
//!
//! Leaves out the crates below, each of which has tests of its own, and everything that depends on how fast the machine is: a
//! run that is not valid here is as good as a valid one.

mod accounts;
mod analytics;
mod capacity;
mod compare;
mod disk;
mod faults;
mod files;
mod help;
mod input;
mod interrupt;
mod lab;
#[cfg(all(feature = "kafka", feature = "amqp"))]
mod live;
mod loopback;
mod profiles;
#[cfg(feature = "amqp")]
mod real;
mod sweep;
mod trace;
