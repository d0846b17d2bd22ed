//! What held a search's answer: the backend, a setting of its, the contract, or something that is not the backend at all.
//!
//! Leaves out the rates themselves (`search`).

use brokerlab_workloads::validity::ValidityCheck;
use serde::{Deserialize, Serialize};

use super::{Search, passed, probes};
use crate::figures;
use crate::headroom::CEILING_SHARE;
use crate::limited::by_setting;
use crate::rows::{Role, Row, Stair};

/// What held an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The backend on this machine: an objective was missed, or the backlog grew.
    Backend,
    /// A rate limit that is one of its settings.
    Setting,
    /// A promise was broken.
    Contract,
    /// The profile's consumers, busy all the time at any load.
    Consumers,
    /// The generator came late at the rate that failed.
    Generator,
    /// The harness itself goes hardly further.
    Harness,
    /// The machine was disturbed at the rate that failed.
    Disturbed,
    /// No higher rate is tried.
    Ceiling,
    /// No rate was seen to fail yet.
    NotKnown,
}

impl Limit {
    /// Whether the backend may go further than what was seen.
    pub fn makes_a_floor(self) -> bool {
        match self {
            Self::Consumers | Self::Generator | Self::Harness | Self::Disturbed | Self::Ceiling | Self::NotKnown => {
                true
            }
            Self::Backend | Self::Setting | Self::Contract => false,
        }
    }

    /// Whether it is neither the backend nor the workload, but how they were measured.
    pub fn is_of_measuring(self) -> bool {
        match self {
            Self::Generator | Self::Harness | Self::Disturbed | Self::NotKnown => true,
            Self::Backend | Self::Setting | Self::Contract | Self::Consumers | Self::Ceiling => false,
        }
    }
}

/// What held the answer, and the same in words.
pub(super) fn by(row: &Row, search: &Search, ceiling_per_s: Option<f64>) -> (Limit, String) {
    let found = search.highest_passed().map(|t| t.rate_per_s);
    let Some(failed) = search.lowest_failed() else {
        return match found {
            Some(_) if matches!(search.end(), super::End::AtLeast) => {
                (Limit::Ceiling, "nothing, up to the highest rate that is tried".to_owned())
            }
            Some(_) | None => (Limit::NotKnown, "not known: no rate failed yet".to_owned()),
        };
    };
    let failing: Vec<&Stair> = probes(row)
        .filter(|(rate, probe)| (rate - failed.rate_per_s).abs() < 1e-6 * rate && passed(probe) == Some(false))
        .map(|(_, probe)| probe)
        .collect();
    let Some(last) = failing.last() else { return (Limit::NotKnown, "not known".to_owned()) };
    let why = last.why_not().unwrap_or_else(|| "the messages published were not the profile's".to_owned());
    let mostly = |test: &dyn Fn(&Stair) -> bool| 2 * failing.iter().filter(|probe| test(probe)).count() > failing.len();
    let missed = |test: fn(&ValidityCheck) -> bool| {
        mostly(&move |probe: &Stair| probe.validity.checks.iter().any(|check| !check.ok && test(check)))
    };
    if row.role == Role::Ceiling {
        return (Limit::Harness, format!("the harness: {why}"));
    }
    if failing.iter().any(|probe| !probe.broken().is_empty()) {
        return (Limit::Contract, why);
    }
    let by_setting = |probe: &&Stair| by_setting(row.backend, probe.cell, probe.offered_per_s);
    if let Some(setting) = failing.iter().find_map(by_setting) {
        return (Limit::Setting, format!("limited by setting: {setting}"));
    }
    if mostly(&|probe| probe.cell.groups.iter().any(|group| group.utilisation >= 1.0)) {
        return (Limit::Consumers, format!("the profile's consumers are busy all the time ({why})"));
    }
    if let (Some(found), Some(ceiling)) = (found, ceiling_per_s)
        && found >= CEILING_SHARE * ceiling
    {
        let text = format!("the harness: it carries {} with no backend at all ({why})", figures::rate(ceiling));
        return (Limit::Harness, text);
    }
    if missed(is_lateness) {
        return (Limit::Generator, format!("the generator: it came late itself at the rate that failed ({why})"));
    }
    if missed(|check| !is_lateness(check) && !is_samples(check)) {
        return (Limit::Disturbed, format!("the machine was disturbed at the rate that failed ({why})"));
    }
    (Limit::Backend, why)
}

/// Checks missed where fewer than two probes of a rate that ended as `side` miss none: the verdict on that rate rests on them.
pub(super) fn doubts(row: &Row, rate_per_s: Option<f64>, side: bool) -> Vec<String> {
    let Some(at) = rate_per_s else { return Vec::new() };
    let deciding = || {
        probes(row)
            .filter(move |(rate, probe)| (at - rate).abs() < 1e-6 * rate && passed(probe) == Some(side))
            .map(|(_, probe)| probe.missed_checks())
    };
    let mut doubts: Vec<String> = Vec::new();
    if deciding().filter(Vec::is_empty).count() < 2 {
        for name in deciding().flatten() {
            if !doubts.iter().any(|known| known == name) {
                doubts.push(name.to_owned());
            }
        }
    }
    doubts
}

/// Whether a missed check can turn a failure into a pass, as disturbances can't: what was measured is too little, or something else.
pub(super) fn spoils_a_pass(check: &str) -> bool {
    check.starts_with("samples beyond") || check.starts_with("messages published")
}

fn is_lateness(check: &ValidityCheck) -> bool {
    check.name.starts_with("generator lateness")
}

fn is_samples(check: &ValidityCheck) -> bool {
    check.name.starts_with("samples beyond")
}
