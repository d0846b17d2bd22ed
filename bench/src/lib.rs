//! Figures: tables of ratios to a named reference in the same run, medians of interleaved repetitions.
//!
//! Not a default member: users don't build it. `scripts/figures NAME` prints one table; each figure also runs small as a test.

pub mod cpu;
pub mod identical;
pub mod overhead;
pub mod table;
pub mod through_trait;

use std::path::Path;

use crate::table::Figure;

/// Every figure by name, with what it shows.
pub const FIGURES: &[(&str, &str)] = &[
    ("aa", "how often a winner is named between identical rows (about ten minutes)"),
    ("overhead", "what generator, recorder and checker cost per message"),
    ("trait", "what the trait adds to calling `log` in memory directly"),
];

/// Takes the figure of that name; none when there is no such figure. What a figure has to keep beside its table goes into the folder
/// `record`.
pub fn take(name: &str, record: Option<&Path>) -> Option<anyhow::Result<Figure>> {
    match name {
        "aa" => Some(identical::figure(20, record)),
        "overhead" => Some(overhead::figure(7, 4_096)),
        "trait" => Some(through_trait::figure(7, 4_096)),
        _ => None,
    }
}
