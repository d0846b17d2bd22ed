//! A sweep: every point of a grid or list with every row, its rounds together.
//!
//! Names no winner: points are shown beside each other. Leaves out how it is drawn.

use brokerlab_workloads::measurement::{Point, Varied};

use crate::compare::median;
use crate::figures;
use crate::rows::{Row, Stair};
use crate::sample::{Followed, Shown};

/// One point with one row.
#[derive(Clone, Debug)]
pub struct Place<'r, 'a> {
    /// Its place in the grid or list.
    pub point: u32,
    /// What was set.
    pub settings: &'r [Varied],
    /// The row.
    pub row: &'r Row<'a>,
    /// Its rounds, in the order in which they were made.
    pub rounds: Vec<&'r Stair<'a>>,
}

/// A field that was varied, and its values in the order in which the points have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its path.
    pub path: String,
    /// Its values, each once.
    pub values: Vec<String>,
}

/// Every point with every row: by point, then in the order of the rows.
pub fn places<'r, 'a>(rows: impl IntoIterator<Item = &'r Row<'a>>) -> Vec<Place<'r, 'a>>
where
    'a: 'r,
{
    let mut places: Vec<Place> = Vec::new();
    for row in rows {
        let from = places.len();
        for stair in &row.apart {
            let Point::Sweep { point, ref settings, .. } = stair.cell.point else { continue };
            match places[from..].iter_mut().find(|place| place.point == point) {
                Some(place) => place.rounds.push(stair),
                None => places.push(Place { point, settings, row, rounds: vec![stair] }),
            }
        }
    }
    places.sort_by_key(|place| place.point);
    places
}

/// The fields that were varied.
pub fn fields(places: &[Place]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for setting in places.iter().flat_map(|place| place.settings) {
        let at = fields.iter().position(|field| field.path == setting.path).unwrap_or_else(|| {
            fields.push(Field { path: setting.path.clone(), values: Vec::new() });
            fields.len() - 1
        });
        if !fields[at].values.contains(&setting.value) {
            fields[at].values.push(setting.value.clone());
        }
    }
    fields
}

/// A point's settings as a person reads them: `arrivals.rate = 5k/s, lanes = 4`.
pub fn settings_text(settings: &[Varied]) -> String {
    let texts: Vec<String> = settings.iter().map(|s| format!("{} = {}", s.path, s.value)).collect();
    if texts.is_empty() { "the profile as it is".to_owned() } else { texts.join(", ") }
}

/// The end-to-end response p99 of one cell to take a median of: infinite where it never came or the cell was saturated, none where
/// it has too few samples.
fn p99_ns(stair: &Stair) -> Option<f64> {
    match stair.p99 {
        _ if stair.validity.saturated.is_some() => Some(f64::INFINITY),
        Shown::At(ns) => Some(ns as f64),
        Shown::Never => Some(f64::INFINITY),
        Shown::BelowZero => Some(0.0),
        Shown::TooFew | Shown::Empty => None,
    }
}

/// The median over cells of the end-to-end response p99, in nanoseconds; infinite where most never came or were saturated.
pub fn median_p99_ns<'s, 'a: 's>(cells: impl IntoIterator<Item = &'s Stair<'a>>) -> Option<f64> {
    median(&cells.into_iter().filter_map(p99_ns).collect::<Vec<_>>())
}

/// The median over cells of the rate achieved, per second.
pub fn median_achieved_per_s<'s, 'a: 's>(cells: impl IntoIterator<Item = &'s Stair<'a>>) -> Option<f64> {
    median(&cells.into_iter().map(|stair| stair.achieved_per_s).collect::<Vec<_>>())
}

impl Place<'_, '_> {
    /// Rounds that were saturated.
    pub fn saturated(&self) -> usize {
        self.rounds.iter().filter(|stair| stair.validity.saturated.is_some()).count()
    }

    /// Rounds that miss no check.
    pub fn valid(&self) -> usize {
        self.rounds.iter().filter(|stair| stair.missed_checks().is_empty()).count()
    }

    /// The checks that its rounds miss, each once.
    pub fn missed_checks(&self) -> Vec<&str> {
        let mut missed: Vec<&str> = Vec::new();
        for name in self.rounds.iter().flat_map(|stair| stair.missed_checks()) {
            if !missed.contains(&name) {
                missed.push(name);
            }
        }
        missed
    }

    /// Rounds that met the objectives, kept the contract and were not saturated.
    pub fn carried(&self) -> usize {
        self.rounds.iter().filter(|stair| stair.sustained).count()
    }

    /// Whether most rounds were saturated, so that no quantile is shown.
    pub fn is_saturated(&self) -> bool {
        2 * self.saturated() > self.rounds.len()
    }

    /// Median of the rounds' end-to-end response p99: `1.23 ms`, `saturated`, `saturated in 1 of 2`, `never (> 250 ms)`, `–`.
    pub fn p99_text(&self) -> String {
        match median_p99_ns(self.rounds.iter().copied()) {
            _ if self.is_saturated() => "saturated".to_owned(),
            Some(ns) if ns.is_infinite() && self.saturated() > 0 => {
                format!("saturated in {} of {}", self.saturated(), self.rounds.len())
            }
            None => "–".to_owned(),
            Some(ns) if ns.is_infinite() => {
                self.rounds.first().map_or(Followed::For(0), |stair| Followed::of(stair.cell)).text()
            }
            Some(ns) => figures::duration_f64(ns),
        }
    }

    /// Lowest and highest of the rounds' end-to-end response p99; `–` below two.
    pub fn p99_range(&self) -> String {
        let mut all: Vec<f64> =
            self.rounds.iter().filter_map(|stair| p99_ns(stair)).filter(|ns| ns.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        match all.as_slice() {
            [low, .., high] if !self.is_saturated() => {
                format!("{} – {}", figures::duration_f64(*low), figures::duration_f64(*high))
            }
            _ => "–".to_owned(),
        }
    }

    /// What its rounds come to, in words: `carried`, `carried in 2 of 3: …`.
    pub fn outcome(&self) -> String {
        let why = self.rounds.iter().find_map(|stair| stair.why_not());
        match (self.carried(), why) {
            (_, None) => "carried".to_owned(),
            (0, Some(why)) => why,
            (carried, Some(why)) => format!("carried in {carried} of {}, else {why}", self.rounds.len()),
        }
    }
}
