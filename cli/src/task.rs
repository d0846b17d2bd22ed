//! What one visit is to do besides what the command line says: where it stands, overrides, load, replication.
//!
//! Leaves out the order of visits (`plan`, `capacity`, `sweep`) and making them (`session`).

use brokerlab_model::Span;
use brokerlab_workloads::measurement::Point;
use brokerlab_workloads::profile::Profile;

use crate::drive::Sets;
use crate::plan::{Depth, Row};

/// One visit's task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// As progress and errors call it.
    pub what: String,
    /// Where it stands in the command.
    pub point: Point,
    /// Overrides besides those of the command line, laid over them.
    pub sets: Sets,
    /// Factor on the load: the rate is multiplied by it, the consumers' work divided.
    pub load_factor: f64,
    /// Which replication of the seed.
    pub replication: u32,
    /// The profile with these overrides, where they change more than lengths of time: contract, lanes and seed are read from it.
    pub profile: Option<Profile>,
}

impl Task {
    /// A visit of `run` or `compare`.
    pub(crate) fn of(row: &Row, point: Point, depth: &Depth, profile: &Profile) -> Self {
        let what = match &point {
            Point::Visit { round } => format!("round {} · {}", round + 1, row.label),
            Point::Stair { factor, .. } => format!("staircase × {factor} · {}", row.label),
            Point::Run | Point::Probe { .. } | Point::Soak { .. } | Point::Sweep { .. } => row.label.clone(),
        };
        let mut task = Self { what, point, sets: Sets::new(), load_factor: 1.0, replication: 0, profile: None };
        match task.point {
            Point::Stair { factor, .. } => {
                task.load_factor = factor;
                task.lasts(profile.duration.min(depth.stair), profile);
            }
            Point::Visit { round } => {
                task.replication = round;
                if depth.stretch > 1 {
                    task.set("duration", Span(profile.duration.0 * u64::from(depth.stretch)));
                    task.set("warmup", profile.warmup);
                }
            }
            Point::Run | Point::Probe { .. } | Point::Soak { .. } | Point::Sweep { .. } => {}
        }
        task
    }

    /// Sets the window, with a warm-up of a quarter of it at most and a drain limit of its length at most.
    pub(crate) fn lasts(&mut self, window: Span, profile: &Profile) {
        self.set("duration", window);
        self.set("warmup", profile.warmup.min(Span(window.0 / 4)));
        self.set("drain_limit", profile.drain_limit.min(window));
    }

    fn set(&mut self, path: &str, span: Span) {
        self.sets.push((path.to_owned(), format!("{}us", span.0 / 1_000)));
    }

    /// Whether ending early by the profile's `abort_on` is a finding: these go beyond the load on purpose.
    pub(crate) fn may_go_too_far(&self) -> bool {
        match self.point {
            Point::Stair { .. } | Point::Probe { .. } | Point::Soak { .. } | Point::Sweep { .. } => true,
            Point::Visit { .. } | Point::Run => false,
        }
    }
}
