//! How far a row goes: its class from a rising staircase of load, and what held it.
//!
//! A class is never a win by itself: a floor may lie in any higher class. Leaves out ranking (`verdict`).

use crate::compare::SMALLEST_RATIO;
use crate::figures;
use crate::limited::by_setting;
use crate::result::Objectives;
use crate::rows::{Role, Row, Stair};
use crate::sample::Shown;

/// A staircase that comes within this share of the ceiling's rate says nothing about the row.
pub const CEILING_SHARE: f64 = 0.8;

/// Headroom in multiples of the profile's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The staircase's own step at the load is not carried.
    Below1,
    /// Once, not twice.
    From1To2,
    /// Twice, not ten times.
    From2To10,
    /// Ten times or more; how much more never decides.
    Above10,
}

impl Class {
    /// Of the largest multiple that was carried.
    fn of(factor: f64) -> Self {
        match factor {
            f if f < 1.0 => Self::Below1,
            f if f < 2.0 => Self::From1To2,
            f if f < 10.0 => Self::From2To10,
            _ => Self::Above10,
        }
    }

    /// `< 1×`, `1–2×`, `2–10×`, `> 10×`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Below1 => "< 1×",
            Self::From1To2 => "1–2×",
            Self::From2To10 => "2–10×",
            Self::Above10 => "> 10×",
        }
    }
}

/// Why the true headroom may be larger than what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// The profile's consumers are busy all the time at the step that was not carried: another model would not be carried
    /// further by them either.
    ConsumersBusy,
    /// The harness itself goes hardly further.
    HarnessLimited,
    /// The last step was carried too.
    StaircaseEnded,
    /// The step that was not carried was climbed once, and the machine was disturbed then.
    Disturbed,
    /// The step that was not carried missed its objective by less than what counts as a difference.
    AtObjective,
}

/// How far a row goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Headroom {
    /// The class that was seen, at least.
    pub class: Class,
    /// Largest multiple of the load that was carried.
    pub factor: f64,
    /// Largest rate acknowledged at any step.
    pub best_per_s: f64,
    /// Why it may be more.
    pub floor: Option<Floor>,
    /// The setting that held the row back: `4 shards × 1 MB/s`.
    pub limited_by: Option<String>,
    /// What ended the staircase, in words.
    pub held_by: String,
}

impl Headroom {
    /// The highest class that it may be.
    pub fn at_most(&self) -> Class {
        if self.floor.is_some() { Class::Above10 } else { self.class }
    }

    /// `2–10×`, `≥ 4× (a floor: harness-limited)`, `1–2× (limited by setting: 4 shards × 1 MB/s)`.
    pub fn text(&self) -> String {
        if let (Some(setting), true) = (&self.limited_by, self.class != Class::Above10) {
            return format!("{} (limited by setting: {setting})", self.class.name());
        }
        match self.floor {
            _ if self.class == Class::Above10 => self.class.name().to_owned(),
            None => self.class.name().to_owned(),
            Some(floor) => format!("≥ {} (a floor: {})", figures::factor(self.factor), floor.name()),
        }
    }
}

impl Floor {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsumersBusy => "limited by the profile's consumers",
            Self::HarnessLimited => "harness-limited",
            Self::StaircaseEnded => "the staircase ended",
            Self::Disturbed => "the machine was disturbed at the next step",
            Self::AtObjective => "the next step lies at the objective",
        }
    }
}

/// The best rate of the harness's own ceiling on its staircase; none when it had none.
pub fn ceiling_per_s(rows: &[Row]) -> Option<f64> {
    rows.iter()
        .filter(|row| row.role == Role::Ceiling)
        .flat_map(|row| row.stairs.iter().map(|s| s.achieved_per_s))
        .max_by(f64::total_cmp)
}

/// The headroom of a row, from its staircase alone: a missed objective of the visits is told as such. None without a staircase.
pub fn headroom(row: &Row, objectives: &Objectives, ceiling_per_s: Option<f64>) -> Option<Headroom> {
    let carries_load = row.kept() && !row.saturated() && row.missed(objectives).is_empty();
    if row.stairs.is_empty() {
        return None;
    }
    let mut factor = 0.0;
    let mut failed = None;
    for stair in &row.stairs {
        if !stair.sustained {
            failed = Some(stair);
            break;
        }
        factor = stair.factor;
    }
    // The visits are six tries of the load itself; a staircase that starts at it and fails once does not undo them.
    if !row.visits.is_empty() && carries_load {
        factor = f64::max(factor, 1.0);
    }
    let best_per_s = row.stairs.iter().map(|s| s.achieved_per_s).fold(row.achieved_per_s(), f64::max);
    let near_ceiling = ceiling_per_s.is_some_and(|ceiling| best_per_s >= CEILING_SHARE * ceiling);
    let limited_by = failed.and_then(|stair| by_setting(row.backend, stair.cell, stair.offered_per_s));
    let consumers_busy = failed.is_some_and(|stair| stair.cell.groups.iter().any(|group| group.utilisation >= 1.0));
    let floor = if limited_by.is_some() || factor < 1.0 {
        None
    } else if consumers_busy {
        Some(Floor::ConsumersBusy)
    } else if near_ceiling {
        Some(Floor::HarnessLimited)
    } else if failed.is_none() {
        Some(Floor::StaircaseEnded)
    } else if failed.is_some_and(|stair| !stair.validity.valid) {
        Some(Floor::Disturbed)
    } else if failed.is_some_and(|stair| misses_by_a_hair(stair, objectives)) {
        Some(Floor::AtObjective)
    } else {
        None
    };
    let held_by = match (&limited_by, floor) {
        _ if row.role == Role::Ceiling => "the harness".to_owned(),
        _ if failed.is_none() => format!("nothing, up to {}", figures::factor(factor)),
        (Some(setting), _) => format!("limited by setting ({setting})"),
        (None, Some(floor)) => format!("a floor: {}", floor.name()),
        (None, None) if consumers_busy => Floor::ConsumersBusy.name().to_owned(),
        (None, None) => "the backend, on this machine".to_owned(),
    };
    Some(Headroom { class: Class::of(factor), factor, best_per_s, floor, limited_by, held_by })
}

/// Whether nothing but a response time within the smallest difference that counts kept a step from being carried.
fn misses_by_a_hair(stair: &Stair, objectives: &Objectives) -> bool {
    let limit = objectives.end_to_end_p99_max_ns();
    let near = |ns: u64, limit: u64| ns as f64 <= SMALLEST_RATIO * limit as f64;
    stair.validity.saturated.is_none() && matches!((stair.p99, limit), (Shown::At(ns), Some(limit)) if near(ns, limit))
}
