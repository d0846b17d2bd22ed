//! Figures: tables of ratios to a named reference in the same run, medians of interleaved repetitions.
//!
//! Not a default member: users don't build it. `scripts/figures NAME` prints one table; each figure also runs small as a test.

pub mod cpu;
pub mod crash;
pub mod identical;
pub mod kills;
pub mod limits;
#[cfg(feature = "live")]
pub mod live;
pub mod overhead;
pub mod table;
pub mod through_trait;

use std::path::Path;

use crate::table::Figure;

/// Every figure by name, with what it shows.
pub const FIGURES: &[(&str, &str)] = &[
    ("aa", "how often a winner is named between identical rows (about ten minutes)"),
    (
        "crash",
        "what kills and power cuts leave of what was promised (`--cycles N`, else 500; `--cuts N`, else 10,000; `--seed N`)",
    ),
    ("limits", "the engines against bare system calls, a channel and each other (parts of rows' names may follow)"),
    ("live", "real brokers beside the vendors' own tools (up to 55 minutes; row names may follow)"),
    ("overhead", "what generator, recorder and checker cost per message"),
    ("trait", "what the trait adds to calling `log` in memory directly"),
];

/// Takes the figure of that name; none when there is no such figure. What follows the name on the command line is `more`: for `aa` the
/// folder into which goes what it has to keep beside its table, for `crash` how many kills and cuts, for `live` the names of rows,
/// for `limits` parts of them.
pub fn take(name: &str, more: &[String]) -> Option<anyhow::Result<Figure>> {
    match name {
        "aa" => Some(identical::figure(20, more.first().map(Path::new))),
        "crash" => Some(crash::figure(more)),
        "limits" => Some(limits::figure(5, limits::Size::Whole, more)),
        "live" => Some(live(more)),
        "overhead" => Some(overhead::figure(7, 4_096)),
        "trait" => Some(through_trait::figure(7, 4_096)),
        _ => None,
    }
}

#[cfg(feature = "live")]
fn live(rows: &[String]) -> anyhow::Result<Figure> {
    let asked = std::env::var("BROKERLAB_FIGURES_REPETITIONS").ok();
    let repetitions = asked.map_or(Ok(5), |text| text.parse())?;
    anyhow::ensure!(repetitions % 2 == 1, "BROKERLAB_FIGURES_REPETITIONS is an odd number, for medians");
    live::figure(rows, repetitions)
}

#[cfg(not(feature = "live"))]
fn live(_: &[String]) -> anyhow::Result<Figure> {
    anyhow::bail!("it is not built in; run scripts/figures live, which builds it")
}
