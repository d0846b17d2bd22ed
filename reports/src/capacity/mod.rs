//! The highest rate that meets the objectives, as probes found it: an interval, what held it, and whether a soak bore it out.
//!
//! The answer is made of the result's cells alone, so that the page says what the command said. Leaves out the search, which is a
//! state machine of its own (`search`), and making the probes.

mod held;
mod search;

pub use held::Limit;
pub use search::{End, Limits, Next, Search, Tried};

use brokerlab_workloads::measurement::{ABORTED, Measurement, Point};
use brokerlab_workloads::profile::Objective;
use brokerlab_workloads::record::DecodeError;
use brokerlab_workloads::validity::SAMPLES_BEYOND;
use serde::{Deserialize, Serialize};

use crate::figures;
use crate::live::Strength;
use crate::result::Objectives;
use crate::rows::{Role, Row, Stair};

/// What was found for one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The row's label.
    pub row: String,
    /// Whether the row is the harness's own ceiling.
    pub is_ceiling: bool,
    /// How the search ended.
    pub end: End,
    /// The answer: the highest rate that passed, messages per second; none when no rate did.
    pub highest_passed_per_s: Option<f64>,
    /// The lowest rate that failed.
    pub lowest_failed_per_s: Option<f64>,
    /// Lower end of the interval: below the answer where its own probes disagree; none when no rate passed in every probe.
    pub low_per_s: Option<f64>,
    /// Upper end of the interval; none when no rate failed in every probe.
    pub high_per_s: Option<f64>,
    /// The answer in multiples of the profile's rate.
    pub factor: Option<f64>,
    /// What held it.
    pub limit: Limit,
    /// The same in words.
    pub held_by: String,
    /// Rates at the edge whose probes disagree.
    pub disagreements: Vec<Tried>,
    /// Probes made.
    pub probes: u32,
    /// Probes that miss a check of validity.
    pub probes_not_valid: u32,
    /// The checks missed at the two rates that the answer rests on, where fewer than two probes that decide there miss none.
    pub doubts: Vec<String>,
    /// Whether the answer can be believed as a rate that was carried: its probes had samples enough, of the profile's messages.
    pub valid: bool,
    /// The contract's clauses that were broken at any rate, in words.
    pub broken: Vec<String>,
    /// How the promise kept stands to the one asked, of a real broker that keeps more or less, in words.
    pub promise: Option<String>,
    /// The soak, where one was made.
    pub soak: Option<Soak>,
}

/// A long run at a share of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Soak {
    /// Its rate, messages per second.
    pub rate_per_s: f64,
    /// Its window, nanoseconds.
    pub duration_ns: u64,
    /// Whether objectives and contract were kept to its end, unsaturated; none when it was ended from outside.
    pub held: Option<bool>,
    /// Why it did not hold, in words.
    pub why_not: Option<String>,
    /// Whether it missed no check of validity.
    pub valid: bool,
}

/// How one probe ended, for the search: whether it passed and what it achieved; none when it was ended from outside. An error means
/// that a stored histogram can't be read.
pub fn outcome(cell: &Measurement, objectives: &Objectives) -> Result<Option<(bool, f64)>, DecodeError> {
    let stair = Stair::of(cell, 1.0, objectives)?;
    Ok(passed(&stair).map(|passed| (passed, stair.achieved_per_s)))
}

/// Messages that a probe must have so that its objectives can be judged: enough beyond the deepest quantile asked, p99 at least.
pub fn messages_needed(objectives: &Objectives) -> f64 {
    let asked = objectives.0.iter().map(|objective| match objective {
        Objective::Quantile { quantile, .. } => *quantile,
        Objective::Count { .. } => 0.0,
    });
    SAMPLES_BEYOND as f64 / (1.0 - asked.fold(0.99, f64::max)).max(1e-6)
}

/// Whether a probe passed: objectives met, contract kept, not saturated, and the messages were the profile's. Lateness and other
/// disturbances make response times longer, never shorter, so a pass in spite of them is one. None when it was ended from outside.
pub fn passed(probe: &Stair) -> Option<bool> {
    let ended = probe.cell.cut_short.as_ref().is_none_or(|why| why.starts_with(ABORTED));
    ended.then_some(probe.sustained && probe.cell.digest.matches_published && probe.cell.counts.due > 0)
}

/// The probes of a row with their rates, in the order in which they were made.
pub fn probes<'r, 'a>(row: &'r Row<'a>) -> impl Iterator<Item = (f64, &'r Stair<'a>)> {
    row.apart.iter().filter_map(|stair| match stair.cell.point {
        Point::Probe { rate_per_s, .. } => Some((rate_per_s, stair)),
        Point::Visit { .. } | Point::Stair { .. } | Point::Run | Point::Soak { .. } | Point::Sweep { .. } => None,
    })
}

/// The answers for all rows. `limits` is how the searches were bounded.
pub fn answers(rows: &[Row], limits: Limits) -> Vec<Answer> {
    let searched: Vec<(&Row, Search)> = rows.iter().map(|row| (row, searched(row, limits))).collect();
    let ceiling = searched.iter().find(|(row, _)| row.role == Role::Ceiling);
    let ceiling_per_s = ceiling.and_then(|(_, search)| search.highest_passed()).map(|t| t.rate_per_s);
    searched.iter().map(|(row, search)| answer(row, search, limits, ceiling_per_s)).collect()
}

/// The search of a row as its probes tell it.
fn searched(row: &Row, limits: Limits) -> Search {
    let mut search = Search::new(limits);
    for (rate_per_s, probe) in probes(row) {
        if let Some(passed) = passed(probe) {
            search.record(rate_per_s, passed, Some(probe.achieved_per_s));
        }
    }
    search
}

fn answer(row: &Row, search: &Search, limits: Limits, ceiling_per_s: Option<f64>) -> Answer {
    let rate = |tried: Option<Tried>| tried.map(|t| t.rate_per_s);
    let (highest_passed, lowest_failed) = (rate(search.highest_passed()), rate(search.lowest_failed()));
    let (limit, held_by) = held::by(row, search, ceiling_per_s);
    let passing = held::doubts(row, highest_passed, true);
    let mut doubts = passing.clone();
    let ended = probes(row).filter(|(_, probe)| passed(probe).is_some());
    doubts.extend(held::doubts(row, lowest_failed, false).into_iter().filter(|check| !passing.contains(check)));
    Answer {
        row: row.label.clone(),
        is_ceiling: row.role == Role::Ceiling,
        end: search.end(),
        highest_passed_per_s: highest_passed,
        lowest_failed_per_s: lowest_failed,
        low_per_s: rate(search.low_end()),
        high_per_s: rate(search.high_end()),
        factor: highest_passed.map(|found| found / limits.start_per_s),
        limit,
        held_by,
        disagreements: search.disagreements(),
        probes: search.probes(),
        probes_not_valid: count(ended.filter(|(_, probe)| !probe.missed_checks().is_empty())),
        valid: !passing.iter().any(|check| held::spoils_a_pass(check)),
        doubts,
        broken: row.broken(),
        promise: match Strength::of(row) {
            Strength::AsAsked => None,
            stronger @ Strength::Stronger(_) => Some(stronger.text()),
            weaker @ Strength::Weaker(_) => Some(format!("not comparable, {}", weaker.text())),
        },
        soak: soak(row),
    }
}

fn count<T>(of: impl Iterator<Item = T>) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX)
}

fn soak(row: &Row) -> Option<Soak> {
    let is_soak = |stair: &&Stair| matches!(stair.cell.point, Point::Soak { .. });
    let stair = row.apart.iter().rfind(is_soak)?;
    let held = passed(stair);
    Some(Soak {
        rate_per_s: stair.offered_per_s,
        duration_ns: stair.cell.window.duration_ns,
        held,
        why_not: stair.why_not().filter(|_| held == Some(false)),
        valid: stair.missed_checks().is_empty(),
    })
}

impl Answer {
    /// Whether the true capacity may be higher because something else than the backend held it.
    pub fn is_floor(&self) -> bool {
        self.highest_passed_per_s.is_some() && self.limit.makes_a_floor()
    }

    /// Whether no rate meets the objectives, or the soak did not.
    pub fn is_unmet(&self) -> bool {
        self.end == End::Below || self.soak.as_ref().is_some_and(|soak| soak.held == Some(false))
    }

    /// Whether what is unmet is the backend's doing, and not that of the machine or of the harness.
    pub fn unmet_by_backend(&self) -> bool {
        let below = self.end == End::Below && !self.limit.is_of_measuring();
        below || self.soak.as_ref().is_some_and(|soak| soak.held == Some(false) && soak.valid)
    }

    /// `12.3 k/s`, `≥ 12.3 k/s`, `below 20 /s`, `≥ 12.3 k/s so far`.
    pub fn text(&self) -> String {
        match (self.highest_passed_per_s, self.lowest_failed_per_s, self.end) {
            (Some(rate), _, End::Unfinished) => format!("≥ {} so far", figures::rate(rate)),
            (Some(rate), ..) if self.is_floor() => format!("≥ {}", figures::rate(rate)),
            (Some(rate), ..) => figures::rate(rate),
            (None, Some(failed), End::Unfinished) => format!("below {} so far", figures::rate(failed)),
            (None, Some(failed), _) => format!("below {}", figures::rate(failed)),
            (None, None, _) => "not known".to_owned(),
        }
    }

    /// What held it, without the figures that show it.
    pub fn held_by_short(&self) -> &str {
        self.held_by.split(" (").next().unwrap_or(&self.held_by)
    }

    /// `11.9 k/s – 13.1 k/s`; an end that is not known is left open.
    pub fn interval(&self) -> String {
        match (self.low_per_s, self.high_per_s) {
            (Some(low), Some(high)) => format!("{} – {}", figures::rate(low), figures::rate(high)),
            (Some(low), None) => format!("{} – …", figures::rate(low)),
            (None, Some(high)) => format!("0 – {}", figures::rate(high)),
            (None, None) => "–".to_owned(),
        }
    }

    /// What else a reader must know of the answer, in words: what makes it a floor, which checks its probes miss, where they disagree.
    pub fn caveats(&self) -> Vec<String> {
        let mut caveats: Vec<String> = self.promise.iter().cloned().chain(self.disagreement()).collect();
        if !self.doubts.is_empty() {
            caveats.push(format!("its probes miss checks ({})", figures::and_list(&self.doubts)));
        }
        if let Some((soak, why)) = self.soak.as_ref().and_then(|soak| Some((soak, soak.why_not.as_ref()?))) {
            caveats.push(format!("its soak {} ({why})", soak.text()));
        }
        if self.end == End::Unfinished {
            caveats.push(format!("the search ended early, after {}", figures::plural(u64::from(self.probes), "probe")));
        }
        caveats
    }

    /// What its probes disagree about, in words; none when they agree.
    pub fn disagreement(&self) -> Option<String> {
        let said: Vec<String> = self
            .disagreements
            .iter()
            .map(|t| format!("{} of {} passed at {}", t.passed, t.passed + t.failed, figures::rate(t.rate_per_s)))
            .collect();
        (!said.is_empty()).then(|| format!("measurements disagree at the edge: {}", figures::and_list(&said)))
    }
}

impl Soak {
    /// `10 min at 9.8 k/s`.
    pub fn length_and_rate(&self) -> String {
        format!("{} at {}", figures::duration(self.duration_ns), figures::rate(self.rate_per_s))
    }

    /// `held for 10 min at 9.8 k/s`, `did not hold for …`.
    pub fn text(&self) -> String {
        let what = self.length_and_rate();
        match self.held {
            Some(true) => format!("held for {what}"),
            Some(false) => format!("did not hold for {what}"),
            None => format!("cut short of {what}"),
        }
    }
}
