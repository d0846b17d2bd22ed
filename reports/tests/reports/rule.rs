//! The rule on paired visits, held against made-up visits of identical rows; none of them was measured.

use brokerlab_reports::compare::{Figure, Outcome, control, duel};
use serde::Deserialize;

#[derive(Deserialize)]
struct MadeUp {
    comparisons: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    first: Vec<f64>,
    again: Vec<f64>,
}

const QUIET: &str = include_str!("../data/aa-quiet.json");
const BUSY: &str = include_str!("../data/aa-busy.json");

fn made_up(text: &str) -> Vec<Pair> {
    serde_json::from_str::<MadeUp>(text).unwrap().comparisons
}

fn figures(ns: &[f64], times: f64) -> Vec<Figure> {
    ns.iter().enumerate().map(|(round, ns)| Figure { round: round as u32, ns: ns * times }).collect()
}

#[test]
fn no_winner_is_named_between_identical_rows() {
    for (name, text) in [("quiet", QUIET), ("busy", BUSY)] {
        let pairs = made_up(text);
        assert_eq!(pairs.len(), 20);
        for (n, pair) in pairs.iter().enumerate() {
            let (first, again) = (figures(&pair.first, 1.0), figures(&pair.again, 1.0));
            let control = control(&first, &again).unwrap();
            assert!(!control.disagrees, "{name} comparison {n}");
            // Without the noise of this very pair, which no median of it could exceed.
            let outcome = duel(&first, &again, 1.0);
            assert!(matches!(outcome, Outcome::TooClose { .. }), "{name} comparison {n}: {outcome:?}");
        }
    }
}

#[test]
fn a_row_twice_as_slow_is_found_on_a_quiet_machine() {
    for (n, pair) in made_up(QUIET).iter().enumerate() {
        let (first, again) = (figures(&pair.first, 1.0), figures(&pair.again, 1.0));
        let noise = control(&first, &again).unwrap().largest_ratio;
        let outcome = duel(&first, &figures(&pair.again, 2.0), noise);
        assert!(matches!(outcome, Outcome::First { .. }), "comparison {n}: {outcome:?}");
    }
}

#[test]
fn a_busy_machine_claims_less_and_never_the_opposite() {
    let (mut found, mut opposite) = (0, 0);
    for pair in made_up(BUSY) {
        let (first, again) = (figures(&pair.first, 1.0), figures(&pair.again, 1.0));
        let noise = control(&first, &again).unwrap().largest_ratio;
        match duel(&first, &figures(&pair.again, 2.0), noise) {
            Outcome::First { .. } => found += 1,
            Outcome::Second { .. } => opposite += 1,
            Outcome::TooClose { .. } | Outcome::TooFewRounds { .. } => {}
        }
    }
    assert_eq!(opposite, 0);
    assert!(found < 20, "noise of a factor and more hides a factor of two at times");
}
