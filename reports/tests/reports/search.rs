//! The search for capacity against scripted backends: steps with and without noise, all and nothing passing, a flapping edge,
//! saturation. Probes are counted, the interval holds the truth, and no rate above a failed one passes.

use brokerlab_reports::capacity::{End, Limits, Next, Search};
use proptest::prelude::*;

use crate::synthetic::Draw;

/// Drives a search to its end; `passes` is asked once a probe.
fn driven(limits: Limits, mut passes: impl FnMut(f64) -> bool) -> (Search, End) {
    let mut search = Search::new(limits);
    for _ in 0..=limits.most_probes {
        match search.next() {
            Next::Done(end) => return (search, end),
            Next::Probe { rate_per_s, attempt } => {
                assert!(rate_per_s >= limits.floor_per_s && rate_per_s <= limits.ceiling_per_s, "{rate_per_s}");
                let before = search.tried().iter().find(|t| (t.rate_per_s - rate_per_s).abs() < 1e-9 * rate_per_s);
                assert_eq!(before.map_or(0, |t| t.passed + t.failed), attempt, "tries of {rate_per_s} are counted");
                search.record(rate_per_s, passes(rate_per_s), None);
            }
        }
    }
    panic!("more probes than the bound of {}", limits.most_probes);
}

/// Probes that a backend without noise needs at most: two a rate, then one more at both ends.
fn expected(limits: Limits, truth: f64) -> u32 {
    let doublings = (truth / limits.start_per_s).log2().abs().ceil() as u32 + 2;
    let halvings = (2_f64.ln() / limits.precision.ln_1p()).log2().ceil().max(0.0) as u32 + 1;
    2 * (doublings + halvings) + 2
}

fn rate() -> impl Strategy<Value = f64> {
    (0.0..5.0_f64).prop_map(|power| 10_f64.powf(power))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_step_is_found_within_its_precision_and_in_few_probes(
        start in rate(),
        times in -9.0..9.0_f64,
        precision in 0.01..0.5_f64,
    ) {
        let truth = start * times.exp2();
        let limits = Limits::around(start, 0.0, precision);
        let (search, end) = driven(limits, |rate| rate <= truth);
        prop_assert_eq!(end, End::Found);
        let (low, high) = (search.highest_passed().unwrap(), search.lowest_failed().unwrap());
        prop_assert!(low.rate_per_s <= truth && truth < high.rate_per_s, "{low:?} {truth} {high:?}");
        prop_assert!(high.rate_per_s / low.rate_per_s <= 1.0 + precision + 1e-9);
        prop_assert_eq!((search.low_end(), search.high_end()), (Some(low), Some(high)));
        prop_assert!(search.disagreements().is_empty());
        prop_assert!(search.probes() <= expected(limits, truth), "{} probes", search.probes());
    }

    #[test]
    fn no_rate_above_a_failed_one_is_an_answer_and_the_interval_holds_the_edge(
        start in rate(),
        times in -6.0..6.0_f64,
        seed in any::<u64>(),
    ) {
        // Within a fifth of the edge a probe passes or fails by chance; outside it the truth is told.
        let truth = start * times.exp2();
        let mut draw = Draw::new(seed);
        let limits = Limits::around(start, 0.0, 0.1);
        let (search, end) = driven(limits, |rate| match rate / truth {
            r if r < 0.8 => true,
            r if r > 1.2 => false,
            _ => draw.unit() < 0.5,
        });
        prop_assert!(matches!(end, End::Found | End::Unfinished));
        let (passed, failed) = (search.highest_passed().unwrap(), search.lowest_failed().unwrap());
        prop_assert!(passed.rate_per_s < failed.rate_per_s);
        prop_assert!(passed.rate_per_s >= 0.8 * truth / 1.2 && passed.rate_per_s <= 1.2 * truth);
        if end == End::Found {
            let (low, high) = (search.low_end().unwrap(), search.high_end().unwrap());
            prop_assert!(low.rate_per_s <= passed.rate_per_s && failed.rate_per_s <= high.rate_per_s);
            prop_assert!(low.rate_per_s <= 1.2 * truth && high.rate_per_s >= 0.8 * truth, "{low:?} {truth} {high:?}");
            prop_assert!(!low.disputed() && !high.disputed());
        }
    }

    #[test]
    fn a_failure_now_and_then_is_outvoted(start in rate(), times in 0.0..8.0_f64, every in 4..9_u32) {
        // Each fourth to eighth probe fails whatever its rate: never two of three of one rate.
        let truth = start * times.exp2();
        let mut made = 0;
        let limits = Limits::around(start, 0.0, 0.1);
        let (search, end) = driven(limits, |rate| {
            made += 1;
            rate <= truth && made % every != 0
        });
        prop_assert_eq!(end, End::Found);
        let (passed, failed) = (search.highest_passed().unwrap(), search.lowest_failed().unwrap());
        prop_assert!(passed.rate_per_s <= truth && truth < failed.rate_per_s, "{passed:?} {truth} {failed:?}");
        prop_assert!(search.probes() <= 2 * expected(limits, truth) + 6, "{} probes", search.probes());
    }

    #[test]
    fn a_disturbance_at_the_start_does_not_trap_it_below(start in rate(), times in 1.0..8.0_f64) {
        let truth = start * times.exp2();
        let mut made = 0;
        let (search, end) = driven(Limits::around(start, 0.0, 0.1), |rate| {
            made += 1;
            rate <= truth && made > 2
        });
        prop_assert_eq!(end, End::Found);
        prop_assert!(search.highest_passed().unwrap().rate_per_s > start);
        prop_assert!(search.lowest_failed().unwrap().rate_per_s > truth);
    }

    #[test]
    fn the_lowest_rate_is_reached_whatever_it_is(start in rate(), halvings in 0..9_i32, off in -3.0..3.0_f64) {
        // A hair beside a rate that halving reaches is that rate.
        let lowest = start / f64::from(1 << halvings) * (1.0 + off * f64::EPSILON);
        let (search, end) = driven(Limits::around(start, lowest, 0.1), |_| false);
        prop_assert_eq!((end, search.probes()), (End::Below, 2 * (halvings as u32 + 1) + 1));
    }

    #[test]
    fn answers_of_chance_alone_end_within_the_bound(start in rate(), share in 0.0..1.0_f64, seed in any::<u64>()) {
        let mut draw = Draw::new(seed);
        let limits = Limits::around(start, 0.0, 0.1);
        let (search, _) = driven(limits, |_| draw.unit() < share);
        prop_assert!(search.probes() <= limits.most_probes);
        if let (Some(passed), Some(failed)) = (search.highest_passed(), search.lowest_failed()) {
            prop_assert!(passed.rate_per_s < failed.rate_per_s);
        }
    }
}

#[test]
fn when_everything_fails_the_lowest_rate_is_named_and_nothing_is_trapped_at_zero() {
    let limits = Limits::around(20_000.0, 0.0, 0.1);
    let (search, end) = driven(limits, |_| false);
    assert_eq!((end, search.highest_passed()), (End::Below, None));
    let lowest = search.lowest_failed().unwrap();
    assert!((lowest.rate_per_s - limits.floor_per_s).abs() < 1e-9, "{lowest:?}");
    // Ten halvings from the first rate, two probes each, one more at the last.
    assert_eq!(search.probes(), 2 * 11 + 1);
}

#[test]
fn no_rate_is_tried_at_which_a_probe_has_too_few_messages() {
    let (search, end) = driven(Limits::around(20_000.0, 2_000.0, 0.1), |_| false);
    assert_eq!((end, search.lowest_failed().map(|t| t.rate_per_s as u64)), (End::Below, Some(2_000)));
    // A profile of fewer messages is tried as it is.
    let (search, end) = driven(Limits::around(100.0, 2_000.0, 0.1), |_| false);
    assert_eq!((end, search.probes()), (End::Below, 3));
}

#[test]
fn when_everything_passes_the_ceiling_is_the_answer() {
    let limits = Limits { ceiling_per_s: 100_000.0, ..Limits::around(20_000.0, 0.0, 0.1) };
    let (search, end) = driven(limits, |_| true);
    assert_eq!((end, search.lowest_failed()), (End::AtLeast, None));
    assert!((search.highest_passed().unwrap().rate_per_s - 100_000.0).abs() < 1e-9);
    assert_eq!(search.probes(), 2 * 4 + 1);
}

#[test]
fn a_limit_below_the_first_rate_is_found_on_the_way_down() {
    let (search, end) = driven(Limits::around(20_000.0, 0.0, 0.1), |rate| rate <= 37.0);
    assert_eq!(end, End::Found);
    let (low, high) = (search.highest_passed().unwrap().rate_per_s, search.lowest_failed().unwrap().rate_per_s);
    assert!(low <= 37.0 && 37.0 < high && high / low <= 1.1, "{low} {high}");
}

#[test]
fn what_a_saturated_backend_achieved_shortens_the_way_down() {
    let probes = |told: bool| {
        let mut search = Search::new(Limits::around(1e6, 0.0, 0.1));
        while let Next::Probe { rate_per_s, .. } = search.next() {
            let passed = rate_per_s <= 3_000.0;
            search.record(rate_per_s, passed, told.then_some(rate_per_s.min(3_000.0)));
        }
        let (low, high) = (search.highest_passed().unwrap().rate_per_s, search.lowest_failed().unwrap().rate_per_s);
        assert!(low <= 3_000.0 && 3_000.0 < high && high / low <= 1.1, "{low} {high}");
        search.probes()
    };
    assert!(probes(true) + 10 <= probes(false), "{} against {}", probes(true), probes(false));
}

#[test]
fn an_edge_whose_probes_disagree_is_said_and_the_interval_is_widened() {
    // Up to 100 all pass, from 130 all fail, between them every second probe passes.
    let mut odd = false;
    let (search, end) = driven(Limits::around(100.0, 0.0, 0.1), |rate| {
        odd = !odd;
        rate <= 100.0 || (rate < 130.0 && odd)
    });
    assert_eq!(end, End::Found);
    assert!(!search.disagreements().is_empty());
    let (low, high) = (search.low_end().unwrap().rate_per_s, search.high_end().unwrap().rate_per_s);
    assert!(low <= 100.0 && high >= 130.0, "{low} {high}");
}

#[test]
fn rates_are_short_numbers_and_the_way_left_is_told() {
    let mut search = Search::new(Limits::around(20_000.0, 0.0, 0.02));
    let mut left = vec![search.probes_left()];
    while let Next::Probe { rate_per_s, .. } = search.next() {
        assert!((rate_per_s / 10.0).fract().abs() < 1e-9 || rate_per_s < 1_000.0, "{rate_per_s}");
        search.record(rate_per_s, rate_per_s <= 54_321.0, None);
        left.push(search.probes_left());
    }
    assert_eq!(left.last(), Some(&0));
    assert!(left[0] > 0);
}
