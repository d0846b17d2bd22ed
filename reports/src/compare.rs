//! When one row beats another: the rule on paired visits, the A/A control, and the interval on a median of visits.
//!
//! The unit of analysis is the visit, a process life of its own, never the sample. Leaves out what makes a row comparable
//! (`rows`) and what is recommended (`verdict`).

/// The smallest median ratio that counts, whatever A/A showed.
pub const SMALLEST_RATIO: f64 = 1.25;

/// Rounds without which nothing is concluded.
pub const FEWEST_ROUNDS: usize = 6;

/// The compared figure of one visit: its end-to-end response p99 in nanoseconds, infinite when it never came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The round of the visit.
    pub round: u32,
    /// Nanoseconds; infinite for *never*.
    pub ns: f64,
}

/// How two rows compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The first is faster in every round.
    First {
        /// Median over rounds of second ÷ first.
        ratio: f64,
    },
    /// The second is faster in every round.
    Second {
        /// Median over rounds of first ÷ second.
        ratio: f64,
    },
    /// Too close to call.
    TooClose {
        /// Median over rounds of second ÷ first.
        ratio: f64,
        /// Rounds in which the first was faster.
        first_faster: usize,
        /// Rounds that both rows visited.
        rounds: usize,
    },
    /// Fewer than [`FEWEST_ROUNDS`] rounds that both visited.
    TooFewRounds {
        /// How many.
        rounds: usize,
    },
}

/// What two identical rows showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Control {
    /// Median over rounds of again ÷ first.
    pub median_ratio: f64,
    /// The largest ratio of the two in any round, whichever was slower: what counts as no difference.
    pub largest_ratio: f64,
    /// How many rounds both visited.
    pub rounds: usize,
    /// Whether the rule, with the smallest ratio alone, would have named a winner between identical rows: then this run can
    /// tell nothing.
    pub disagrees: bool,
}

/// Ratio of two figures; equal infinities are equal.
fn ratio(over: f64, under: f64) -> f64 {
    if over.is_infinite() && under.is_infinite() { 1.0 } else { over / under.max(1.0) }
}

/// Second ÷ first in each round that both visited.
fn paired(first: &[Figure], second: &[Figure]) -> Vec<f64> {
    first.iter().filter_map(|a| second.iter().find(|b| b.round == a.round).map(|b| ratio(b.ns, a.ns))).collect()
}

/// The median, of an even number the mean of the middle two; none of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Holds two rows against each other: one beats the other only if every round agrees and the median ratio exceeds the larger of
/// [`SMALLEST_RATIO`] and `noise`, which is what A/A showed.
pub fn duel(first: &[Figure], second: &[Figure], noise: f64) -> Outcome {
    let ratios = paired(first, second);
    let Some(middle) = median(&ratios).filter(|_| ratios.len() >= FEWEST_ROUNDS) else {
        return Outcome::TooFewRounds { rounds: ratios.len() };
    };
    let needed = SMALLEST_RATIO.max(noise);
    let first_faster = ratios.iter().filter(|&&r| r > 1.0).count();
    let second_faster = ratios.iter().filter(|&&r| r < 1.0).count();
    if first_faster == ratios.len() && middle > needed {
        Outcome::First { ratio: middle }
    } else if second_faster == ratios.len() && 1.0 / middle > needed {
        Outcome::Second { ratio: 1.0 / middle }
    } else {
        Outcome::TooClose { ratio: middle, first_faster, rounds: ratios.len() }
    }
}

/// What two identical rows showed; none when no round visited both.
pub fn control(first: &[Figure], again: &[Figure]) -> Option<Control> {
    let ratios = paired(first, again);
    let median_ratio = median(&ratios)?;
    let largest_ratio = ratios.iter().map(|&r| r.max(1.0 / r)).fold(1.0, f64::max);
    let disagrees = matches!(duel(first, again, SMALLEST_RATIO), Outcome::First { .. } | Outcome::Second { .. });
    Some(Control { median_ratio, largest_ratio, rounds: ratios.len(), disagrees })
}

/// An interval on the median of visits that assumes nothing about their distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Its exact coverage: 0.969 for six visits.
    pub coverage: f64,
}

/// The narrowest pair of order statistics that covers the median with at least 95 %; none below six values, where none does.
pub fn median_interval(values: &[f64]) -> Option<Interval> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let mut found = None;
    let mut term = 0.5_f64.powi(i32::try_from(n).ok()?);
    let mut below = 0.0;
    for k in 1..=n / 2 {
        below += term;
        term *= (n - k + 1) as f64 / k as f64;
        let coverage = 1.0 - 2.0 * below;
        if coverage < 0.95 {
            break;
        }
        found = Some(Interval { low: sorted[k - 1], high: sorted[n - k], coverage });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(ns: &[f64]) -> Vec<Figure> {
        ns.iter().enumerate().map(|(round, &ns)| Figure { round: round as u32, ns }).collect()
    }

    #[test]
    fn a_row_wins_only_when_every_round_agrees_and_the_ratio_is_large() {
        let slow = figures(&[200.0, 210.0, 190.0, 220.0, 205.0, 200.0]);
        let fast = figures(&[100.0, 100.0, 101.0, 99.0, 100.0, 102.0]);
        assert!(matches!(duel(&fast, &slow, 1.0), Outcome::First { ratio } if (ratio - 2.0).abs() < 0.1));
        assert!(matches!(duel(&slow, &fast, 1.0), Outcome::Second { ratio } if (ratio - 2.0).abs() < 0.1));
        let one_round_differs = figures(&[100.0, 100.0, 300.0, 99.0, 100.0, 102.0]);
        assert!(matches!(duel(&one_round_differs, &slow, 1.0), Outcome::TooClose { first_faster: 5, rounds: 6, .. }));
    }

    #[test]
    fn a_ratio_within_what_identical_rows_showed_is_too_close() {
        let a = figures(&[100.0; 6]);
        let b = figures(&[180.0; 6]);
        assert!(matches!(duel(&a, &b, 1.5), Outcome::First { .. }));
        assert!(matches!(duel(&a, &b, 2.0), Outcome::TooClose { .. }));
        let c = figures(&[124.0; 6]);
        assert!(matches!(duel(&a, &c, 1.0), Outcome::TooClose { .. }));
    }

    #[test]
    fn five_rounds_name_no_winner() {
        let a = figures(&[1.0; 5]);
        let b = figures(&[1_000.0; 5]);
        assert_eq!(duel(&a, &b, 1.0), Outcome::TooFewRounds { rounds: 5 });
    }

    #[test]
    fn never_is_slower_than_any_time_and_equal_to_never() {
        let never = figures(&[f64::INFINITY; 6]);
        let some = figures(&[1e9; 6]);
        assert!(matches!(duel(&some, &never, 1.0), Outcome::First { .. }));
        assert!(matches!(duel(&never, &some, 1.0), Outcome::Second { .. }));
        assert!(matches!(duel(&never, &never, 1.0), Outcome::TooClose { .. }));
    }

    #[test]
    fn the_control_tells_its_noise_and_when_it_fires() {
        let a = figures(&[100.0, 100.0, 100.0, 100.0, 100.0, 100.0]);
        let b = figures(&[110.0, 90.0, 105.0, 95.0, 160.0, 100.0]);
        let quiet = control(&a, &b).unwrap();
        assert!((quiet.largest_ratio - 1.6).abs() < 1e-9 && !quiet.disagrees);
        let fired = control(&a, &figures(&[140.0; 6])).unwrap();
        assert!(fired.disagrees);
        assert_eq!(control(&a, &[]), None);
    }

    #[test]
    fn the_interval_is_exact_for_six_and_for_sixty() {
        assert_eq!(median_interval(&[1.0, 2.0, 3.0, 4.0, 5.0]), None);
        let six = median_interval(&[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]).unwrap();
        assert!((six.coverage - 0.968_75).abs() < 1e-12);
        assert!((six.low - 1.0).abs() < 1e-12 && (six.high - 6.0).abs() < 1e-12);
        let sixty: Vec<f64> = (1..=60).map(f64::from).collect();
        let wide = median_interval(&sixty).unwrap();
        // Binomial(60, 1/2): P(X ≤ 21) = 0.0137 and P(X ≤ 22) = 0.0259, so the 22nd and 39th values.
        assert!((wide.low - 22.0).abs() < 1e-12 && (wide.high - 39.0).abs() < 1e-12);
        assert!(wide.coverage > 0.97 && wide.coverage < 0.98);
    }
}
