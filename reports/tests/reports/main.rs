//! Tests of the reports on made-up results: files, rules, verdicts, page and table.

mod page;
mod synthetic;
