//! Figure `aa`: comparisons of two identical rows, on a quiet machine and beside one busy thread per core. A winner named between
//! identical rows is a false alarm of the rule.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use brokerlab_reports::compare::{Outcome, duel};
use brokerlab_reports::result::ResultFile;
use brokerlab_reports::verdict::{Analysis, Decision};
use serde::Serialize;

use crate::table::{Figure, Row};

/// What one series of comparisons came to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Series {
    comparisons: usize,
    winners: usize,
    not_valid: usize,
    /// Winners that the paired rule alone would have named, validity and objective left aside.
    by_rule_alone: usize,
    longest_ms: u64,
    pairs: Vec<Pair>,
}

/// The compared figures of one comparison: end-to-end response p99 of each visit in nanoseconds, by round.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Pair {
    first: Vec<f64>,
    again: Vec<f64>,
    valid: bool,
}

/// The program that is measured, beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("can't find the path of this program")?;
    let folder = here.parent().context("this program lies in no folder")?;
    let program = folder.join("brokerlab");
    anyhow::ensure!(program.exists(), "{} is not built; run scripts/figures, which builds it", program.display());
    Ok(program)
}

/// One comparison of two identical rows, judged as a user would read it.
fn comparison(program: &Path, seed: usize, series: &mut Series) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    let status = Command::new(program)
        .args([
            "compare",
            "--alone",
            "--quiet",
            "--backend",
            "log",
            "--backend",
            "log",
            "--seed",
            &seed.to_string(),
            "--out",
        ])
        .arg(&out)
        .stdout(Stdio::null())
        .status()
        .context("the comparison did not start")?;
    anyhow::ensure!(status.success(), "a comparison ended with {status}");
    let file = ResultFile::read(&out.join("results.json"))?;
    series.longest_ms = series.longest_ms.max(file.elapsed_ns / 1_000_000);
    count(&file, series)
}

/// Counts what one result came to.
fn count(file: &ResultFile, series: &mut Series) -> anyhow::Result<()> {
    let analysis = Analysis::of(file, "")?;
    series.comparisons += 1;
    match analysis.conclusion.decision {
        Decision::Winner(_) => series.winners += 1,
        Decision::NotValid | Decision::Inconclusive => series.not_valid += 1,
        Decision::Tie(_)
        | Decision::None
        | Decision::NotComparable
        | Decision::Ceiling
        | Decision::Single { .. }
        | Decision::Capacity
        | Decision::Swept => {}
    }
    let figures: Vec<_> = analysis.rows.iter().map(|row| row.row.figures()).collect();
    let [first, second] = figures.as_slice() else {
        anyhow::bail!("{} rows instead of two identical ones", figures.len());
    };
    let named = match duel(first, second, 1.0) {
        Outcome::First { .. } | Outcome::Second { .. } => true,
        Outcome::TooClose { .. } | Outcome::TooFewRounds { .. } => false,
    };
    series.by_rule_alone += usize::from(named);
    let ns = |figures: &[brokerlab_reports::compare::Figure]| figures.iter().map(|figure| figure.ns).collect();
    series.pairs.push(Pair { first: ns(first), again: ns(second), valid: analysis.valid() });
    Ok(())
}

fn series(comparisons: usize, busy: bool) -> anyhow::Result<Series> {
    let program = program()?;
    let over = Arc::new(AtomicBool::new(false));
    let cores = if busy { std::thread::available_parallelism()?.get() } else { 0 };
    let burners: Vec<_> = (0..cores)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let mut found = Series::default();
    let ended = (1..=comparisons).try_for_each(|seed| comparison(&program, seed, &mut found));
    over.store(true, Ordering::Relaxed);
    for burner in burners {
        anyhow::ensure!(burner.join().is_ok(), "a busy thread panicked");
    }
    ended.map(|()| found)
}

/// Takes the figure: `comparisons` on the machine as it is, and as many beside one busy thread per core. Into `record` go the
/// figures of all visits, which the tests of the rule read.
pub fn figure(comparisons: usize, record: Option<&Path>) -> anyhow::Result<Figure> {
    let mut rows = Vec::new();
    for (what, name, busy) in [("as the machine is", "quiet", false), ("beside one busy thread per core", "busy", true)]
    {
        let found = series(comparisons, busy)?;
        if let Some(folder) = record {
            let text = serde_json::json!({
                "what": format!("End-to-end response p99 in ns of two identical rows (`log`), by round; recorded {what}"),
                "comparisons": found.pairs,
            });
            std::fs::write(folder.join(format!("aa-{name}.json")), serde_json::to_string_pretty(&text)?)?;
        }
        rows.push(Row {
            what: what.to_owned(),
            found: format!("a winner in {} of {}", found.winners, found.comparisons),
            reference: format!(
                "by the paired rule alone {}; not valid {}; the longest took {:.1} s",
                found.by_rule_alone,
                found.not_valid,
                found.longest_ms as f64 / 1e3
            ),
            ratio: "–".to_owned(),
            goal: "0, each ≤ 15 s".to_owned(),
            met: Some(found.winners == 0 && (busy || found.longest_ms <= 15_000)),
        });
    }
    Ok(Figure {
        name: "aa",
        title: "Comparisons of `log` with `log`, two rows alone, six rounds each: how often a winner is named between identical \
                rows."
            .to_owned(),
        rows,
        remarks: Vec::new(),
    })
}
