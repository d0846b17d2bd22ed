//! One figure as a table: what, found, reference, ratio, goal, verdict, with the machine and the revision above it.
//!
//! Leaves out how anything is measured; each figure is a module of its own.

use std::process::Command;

use comfy_table::{ContentArrangement, Table, presets};

/// One row. A row without a goal is shown and judges nothing.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured, with its parameters.
    pub what: String,
    /// What was found, with its unit.
    pub found: String,
    /// The reference measured in the same run, with its unit.
    pub reference: String,
    /// Found ÷ reference, with its range over the repetitions.
    pub ratio: String,
    /// The goal in words.
    pub goal: String,
    /// Whether it is met; none where there is no goal.
    pub met: Option<bool>,
}

/// A figure: a title, rows, and remarks that belong below it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The figure's name on the command line.
    pub name: &'static str,
    /// What it shows and how it was taken.
    pub title: String,
    /// The rows.
    pub rows: Vec<Row>,
    /// Remarks.
    pub remarks: Vec<String>,
}

impl Figure {
    /// Whether every goal is met.
    pub fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// The figure as Markdown.
    pub fn print(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["what", "found", "reference", "ratio", "goal", "verdict"]);
        for row in &self.rows {
            let verdict = match row.met {
                Some(true) => "met",
                Some(false) => "missed",
                None => "shown",
            };
            table.add_row([&row.what, &row.found, &row.reference, &row.ratio, &row.goal, verdict]);
        }
        let mut text = format!("{}\n{}\n\n{table}\n", machine(), self.title);
        for remark in &self.remarks {
            text.push_str("\n- ");
            text.push_str(remark);
        }
        text.push('\n');
        text
    }
}

/// Median and range of an odd number of samples.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// The spread of at least one sample.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { median: sorted[sorted.len() / 2], low: sorted[0], high: sorted[sorted.len() - 1] }
    }

    /// `12.3 (11.9–13.0)` with as many decimals as asked.
    pub fn show(&self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", self.median, self.low, self.high)
    }
}

/// The machine and the revision, in one line.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
    });
    let revision =
        Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok().filter(|out| out.status.success());
    let revision =
        revision.map_or_else(|| "unknown".to_owned(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    format!("Machine: {cores} cores, {}; revision {revision}.", cpu.unwrap_or_else(|| "unknown processor".to_owned()))
}
