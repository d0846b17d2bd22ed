//! What a backend acknowledged and then gave up as it was set to: full queues, lives that were over. No contract is broken by that,
//! and no reader may miss it.
//!
//! Leaves out which setting it was, which the settings themselves say.

use brokerlab_workloads::measurement::CheckRecord;

use crate::figures;
use crate::rows::Row;
use crate::verdict::Analysis;

/// Sums over groups of some cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenUp {
    acknowledged: u64,
    expired: u64,
    overflowed: u64,
}

impl GivenUp {
    fn add(mut self, check: &CheckRecord) -> Self {
        self.acknowledged = self.acknowledged.saturating_add(check.acknowledged);
        self.expired = self.expired.saturating_add(check.expired);
        self.overflowed = self.overflowed.saturating_add(check.overflowed);
        self
    }

    fn all(self) -> u64 {
        self.expired.saturating_add(self.overflowed)
    }

    /// How: `overflowed`, `expired`, `2 expired and 3 overflowed`.
    fn how(self) -> String {
        match (self.expired, self.overflowed) {
            (_, 0) => "expired".to_owned(),
            (0, _) => "overflowed".to_owned(),
            (expired, overflowed) => {
                format!("{} expired and {} overflowed", figures::count(expired), figures::count(overflowed))
            }
        }
    }
}

/// At the profile's rate: of the visits.
fn of_visits(row: &Row) -> GivenUp {
    GivenUp::default().add(&row.check)
}

/// Of a staircase and of cells that stand apart.
fn of_others(row: &Row) -> GivenUp {
    let groups = row.stairs.iter().chain(&row.apart).flat_map(|stair| &stair.cell.groups);
    groups.fold(GivenUp::default(), |sum, group| sum.add(&group.check))
}

/// After a row's word on its contract: `, 9,506 given up`; empty when nothing was.
pub(crate) fn short(row: &Row) -> String {
    match of_visits(row).all() {
        0 => String::new(),
        n => format!(", {} given up", figures::count(n)),
    }
}

/// What each candidate gave up, a sentence a row; empty when none did.
pub(crate) fn sentences(a: &Analysis) -> Vec<String> {
    a.candidates().filter_map(|j| sentence(&j.row)).collect()
}

fn sentence(row: &Row) -> Option<String> {
    let (visits, others) = (of_visits(row), of_others(row));
    let part = |of: GivenUp| {
        format!(
            "{} of {} ({})",
            figures::count(of.all()),
            figures::plural(of.acknowledged, "acknowledged message"),
            of.how()
        )
    };
    let beyond = if row.stairs.is_empty() { String::new() } else { " on its staircase".to_owned() };
    let text = match (visits.all(), others.all()) {
        (0, 0) => return None,
        (_, 0) => part(visits),
        (0, _) => format!("{}{beyond}", part(others)),
        (..) => format!("{}, and {}{beyond}", part(visits), part(others)),
    };
    Some(format!("{} gave up {text}.", row.label))
}
