//! Tests of the reports on made-up results: files, rules, verdicts, page, table, regression check.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod against;
mod apart;
mod damaged;
mod page;
mod result;
mod rule;
mod search;
mod synthetic;
mod table;
mod told;
mod verdict;
