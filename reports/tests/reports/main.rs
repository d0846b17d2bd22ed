//! Tests of the reports on made-up results: files, rules, verdicts, page, table, regression check.

mod against;
mod page;
mod result;
mod rule;
mod synthetic;
mod table;
mod verdict;
