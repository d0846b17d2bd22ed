//! Figure `limits`: what the engines reach of what bare system calls, a channel and each other reach in the same run.
//!
//! Each row has two sides, taken in turn; the first repetition warms both and is not counted. A ratio is taken within a repetition, its
//! median is shown. CPU time of the one thread where everything runs on one, wall time where a device or a second thread is waited for.
//! The benchmark `limits` measures the same rows. Leaves out the goals that are about memory, and, without the feature `peers`, other
//! crates' logs.

mod append;
mod bare;
mod flow;
mod held;
#[cfg(feature = "peers")]
mod peers;
mod rig;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::table::{Figure, Row, Spread};

/// What a row's ratio is held against.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// Throughput as a part of the reference's.
    AtLeast(f64),
    /// Time as a multiple of the reference's.
    AtMost(f64),
    /// Nothing: throughput as a part of the reference's is shown.
    Shown,
}

/// What both sides of a row are measured in, per message.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// CPU of the one thread.
    Cpu,
    /// Wall time.
    Wall,
}

/// How much one repetition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As much as a figure needs.
    Whole,
    /// As little as shows that everything works.
    Small,
}

impl Size {
    fn of(self, whole: usize, small: usize) -> usize {
        match self {
            Self::Whole => whole,
            Self::Small => small,
        }
    }
}

/// One side of a row: does one repetition of it and returns nanoseconds per message.
pub type Side = Box<dyn FnMut() -> anyhow::Result<f64>>;

/// One row, ready to be measured.
pub struct Pair {
    reference: &'static str,
    goal: Goal,
    unit: Unit,
    ours: Side,
    theirs: Side,
}

impl Pair {
    /// The engine's side, and the reference's with its name.
    pub fn sides(self) -> (Side, (&'static str, Side)) {
        (self.ours, (self.reference, self.theirs))
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("reference", &self.reference).field("goal", &self.goal).finish_non_exhaustive()
    }
}

/// Every row, in the table's order.
pub fn rows(size: Size) -> Vec<Open> {
    let mut rows = append::rows(size);
    #[cfg(feature = "peers")]
    rows.extend(peers::rows(size));
    rows.extend(flow::rows(size));
    rows.extend(held::rows(size));
    rows
}

/// Takes the figure: `repetitions` of each row, or of those rows only whose text has one of `only` in it. Each is told on standard error
/// when it is there.
pub fn figure(repetitions: usize, size: Size, only: &[String]) -> anyhow::Result<Figure> {
    let folder = match std::env::var_os("BROKERLAB_FIGURES_DIR") {
        Some(dir) => tempfile::tempdir_in(PathBuf::from(dir))?,
        None => tempfile::tempdir()?,
    };
    let dir = folder.path();
    let mut rows = Vec::new();
    for open in self::rows(size) {
        if only.is_empty() || only.iter().any(|part| open.what.contains(part)) {
            let row = measure(open.what, (open.make)(dir)?, repetitions)?;
            let _ = writeln!(std::io::stderr(), "{} | {} | {} | {}", row.what, row.found, row.reference, row.ratio);
            rows.push(row);
        }
    }
    Ok(Figure {
        name: "limits",
        title: format!(
            "The engines through their clients, on one file system; medians of {repetitions} interleaved repetitions with their range."
        ),
        rows,
        remarks: vec![
            "Reference ÷ found where throughput is compared, found ÷ reference where the goal is a bound on time."
                .to_owned(),
        ],
    })
}

/// Opens a row's two sides in a folder.
type Make = Box<dyn FnOnce(&Path) -> anyhow::Result<Pair>>;

/// A row that is opened when its turn comes.
pub struct Open {
    what: String,
    make: Make,
}

impl Open {
    fn new(what: &str, make: impl FnOnce(&Path) -> anyhow::Result<Pair> + 'static) -> Self {
        Self { what: what.to_owned(), make: Box::new(make) }
    }

    /// What it measures.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Makes it ready; what it stores goes into the folder.
    pub fn open(self, dir: &Path) -> anyhow::Result<Pair> {
        (self.make)(dir)
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("what", &self.what).finish_non_exhaustive()
    }
}

fn measure(what: String, mut pair: Pair, repetitions: usize) -> anyhow::Result<Row> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for repetition in 0..=repetitions {
        // In turn first, so that neither always finds what the other left in the caches.
        let (found, reference) = if repetition % 2 == 0 {
            let found = (pair.ours)()?;
            (found, (pair.theirs)()?)
        } else {
            let reference = (pair.theirs)()?;
            ((pair.ours)()?, reference)
        };
        if repetition > 0 {
            ours.push(found);
            theirs.push(reference);
        }
    }
    let ratios: Vec<f64> = ours
        .iter()
        .zip(&theirs)
        .map(|(ours, theirs)| match pair.goal {
            Goal::AtLeast(_) | Goal::Shown => theirs / ours,
            Goal::AtMost(_) => ours / theirs,
        })
        .collect();
    let ratio = Spread::of(&ratios);
    let unit = match pair.unit {
        Unit::Cpu => "ns CPU",
        Unit::Wall => "ns",
    };
    let (goal, met) = match pair.goal {
        Goal::AtLeast(least) => (format!("≥ {least}"), Some(ratio.median >= least)),
        Goal::AtMost(most) => (format!("≤ {most}"), Some(ratio.median <= most)),
        Goal::Shown => ("–".to_owned(), None),
    };
    Ok(Row {
        what,
        found: format!("{} {unit}", Spread::of(&ours).show(1)),
        reference: format!("{}, {} {unit}", pair.reference, Spread::of(&theirs).show(1)),
        ratio: ratio.show(2),
        goal,
        met,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = if cfg!(feature = "peers") { 40 } else { 35 };

    #[test]
    fn every_row_is_measured() {
        let figure = figure(1, Size::Small, &[]).unwrap();
        assert_eq!(figure.rows.len(), ROWS);
        let names: std::collections::BTreeSet<&str> = figure.rows.iter().map(|row| row.what.as_str()).collect();
        assert_eq!(names.len(), ROWS, "a part of a name finds its row");
    }
}
