//! When messages are due: exact times, interleaving, the shape of each kind of arrivals, closed loops and traces.

use brokerlab_model::Time;
use brokerlab_workloads::{Profile, Scheduled, Workload};

/// A profile with these arrivals, one second long, no warm-up.
pub(crate) fn profile(arrivals: &str, producers: u32, more: &str) -> Profile {
    let text = format!(
        "name = \"t\"\nabout = \"A. B.\"\nduration = \"1s\"\nproducers = {producers}\nsizes = \"100B\"\n\
         keys = {{ kind = \"uniform\", count = 1000 }}\narrivals = {arrivals}\n{more}\n\
         [[groups]]\nname = \"g\"\nmembers = 1\n"
    );
    Profile::parse(&text, "t.toml").unwrap()
}

pub(crate) fn workload(arrivals: &str, producers: u32) -> Workload {
    Workload::new(&profile(arrivals, producers, ""), 1, 0)
}

fn all(workload: &Workload, producer: u32) -> Vec<Scheduled> {
    let mut position = workload.producer(producer);
    std::iter::from_fn(|| position.next()).collect()
}

/// Every intended start over all producers, in order.
fn times(workload: &Workload) -> Vec<u64> {
    let mut times: Vec<u64> = (0..workload.producers()).flat_map(|p| all(workload, p)).map(|m| m.intended.0).collect();
    times.sort_unstable();
    times
}

#[test]
fn a_constant_rate_is_exact_and_interleaves_the_producers() {
    let workload = workload("{ kind = \"constant\", rate = \"3000/s\" }", 7);
    let expected: Vec<u64> = (0..3000).map(|i| i * 1_000_000_000 / 3000).collect();
    assert_eq!(times(&workload), expected);
    assert_eq!(all(&workload, 2)[1].intended.0, 9 * 1_000_000_000 / 3000);
}

#[test]
fn a_hundred_million_a_second_is_exact_and_does_not_drift() {
    let profile = profile("{ kind = \"constant\", rate = \"150M/s\" }", 3, "");
    let workload = Workload::new(&profile, 1, 0);
    let mut position = workload.producer_unbounded(2);
    for n in 0..1_000_000_u64 {
        assert_eq!(position.next().unwrap().intended.0, (2 + 3 * n) * 1_000_000_000 / 150_000_000);
    }
}

#[test]
fn sequences_are_dense_and_times_never_go_back_in_every_kind() {
    for arrivals in KINDS {
        let workload = workload(arrivals, 5);
        for producer in 0..5 {
            let messages = all(&workload, producer);
            assert!(messages.iter().enumerate().all(|(i, m)| m.sequence == i as u64), "{arrivals}");
            assert!(messages.windows(2).all(|w| w[0].intended <= w[1].intended), "{arrivals}");
            assert!(messages.iter().all(|m| m.intended < Time(1_000_000_000)), "{arrivals}");
        }
    }
}

const KINDS: [&str; 8] = [
    "{ kind = \"constant\", rate = \"20k/s\" }",
    "{ kind = \"poisson\", rate = \"20k/s\" }",
    "{ kind = \"mmpp\", states = [{ rate = \"10k/s\", for = \"8ms\" }, { rate = \"60k/s\", for = \"2ms\" }] }",
    "{ kind = \"on-off\", rate = \"20k/s\", on = \"1ms\", off = \"4ms\" }",
    "{ kind = \"steps\", steps = [{ rate = \"10k/s\", for = \"500ms\" }, { rate = \"30k/s\", for = \"500ms\" }] }",
    "{ kind = \"ramp\", from = \"0/s\", to = \"40k/s\" }",
    "{ kind = \"diurnal\", rate = \"20k/s\", period = \"500ms\", swing = 1.0 }",
    "{ kind = \"spike\", base = \"10k/s\", peak = \"110k/s\", at = \"300ms\", for = \"100ms\" }",
];

#[test]
fn every_kind_keeps_its_mean_rate_also_when_it_is_set_or_scaled() {
    for arrivals in KINDS {
        let written = profile(arrivals, 5, "");
        assert!((written.mean_rate() - 20_000.0).abs() < 1e-6, "{arrivals}");
        let set = Profile::parse_with(written.text(), "t", None, &[("arrivals.rate", "30k/s")]).unwrap();
        for (profile, rate) in [(written.clone(), 20_000.0), (set, 30_000.0), (written.with_rate_factor(1.5), 30_000.0)]
        {
            let count = times(&Workload::new(&profile, 3, 0)).len() as f64;
            // Five deviations of a Poisson count for the smooth kinds; the bursty ones have their own test.
            let bound = if arrivals.contains("mmpp") || arrivals.contains("on-off") {
                0.15 * rate
            } else {
                5.0 * f64::sqrt(rate)
            };
            assert!((count - rate).abs() <= bound, "{arrivals}: {count} of {rate}");
        }
    }
}

/// Messages in each of `parts` equal parts of the second.
fn histogram(times: &[u64], parts: usize) -> Vec<f64> {
    let mut counts = vec![0.0; parts];
    for time in times {
        counts[(*time as usize * parts) / 1_000_000_000] += 1.0;
    }
    counts
}

fn variance_to_mean(counts: &[f64]) -> f64 {
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    counts.iter().map(|c| (c - mean) * (c - mean)).sum::<f64>() / (counts.len() - 1) as f64 / mean
}

#[test]
fn poisson_gaps_are_exponential_and_its_counts_disperse_as_their_mean() {
    let workload = workload("{ kind = \"poisson\", rate = \"100k/s\" }", 1);
    let times = times(&workload);
    let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64 / 10_000.0).collect();
    let n = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / n;
    let variance = gaps.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / n;
    // Unit-mean exponential: mean 1 ± 5/sqrt(n), variance 1 ± 5 sqrt(8/n).
    assert!((mean - 1.0).abs() < 5.0 / n.sqrt(), "{mean}");
    assert!((variance - 1.0).abs() < 5.0 * (8.0 / n).sqrt(), "{variance}");
    for (quantile, share) in [(0.5_f64, 0.5), (0.9, 0.9), (0.99, 0.99)] {
        let bound = -(1.0 - quantile).ln();
        let below = gaps.iter().filter(|g| **g <= bound).count() as f64 / n;
        assert!((below - share).abs() < 5.0 * f64::sqrt(share * (1.0 - share) / n), "{quantile}: {below}");
    }
    let dispersion = variance_to_mean(&histogram(&times, 1000));
    assert!((dispersion - 1.0).abs() < 5.0 * f64::sqrt(2.0 / 999.0), "{dispersion}");
}

#[test]
fn merged_producers_are_poisson_too() {
    let dispersion = variance_to_mean(&histogram(&times(&workload(KINDS[1], 50)), 1000));
    assert!((dispersion - 1.0).abs() < 5.0 * f64::sqrt(2.0 / 999.0), "{dispersion}");
}

#[test]
fn bursts_disperse_far_above_poisson_and_constant_far_below() {
    let dispersion =
        |kind: usize, producers| variance_to_mean(&histogram(&times(&workload(KINDS[kind], producers)), 200));
    assert!(dispersion(0, 5) < 0.05);
    // Two states of 10 and 60 per ms over windows of 5 ms.
    assert!(dispersion(2, 5) > 10.0, "{}", dispersion(2, 5));
    assert!(dispersion(3, 5) > 3.0, "{}", dispersion(3, 5));
}

#[test]
fn the_states_of_mmpp_are_common_to_all_producers_and_those_of_on_off_are_not() {
    let correlation = |kind: usize| {
        let workload = workload(KINDS[kind], 2);
        let of = |p| {
            let times: Vec<u64> = all(&workload, p).iter().map(|m| m.intended.0).collect();
            histogram(&times, 500)
        };
        let (a, b) = (of(0), of(1));
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let (ma, mb) = (mean(&a), mean(&b));
        let cov: f64 = a.iter().zip(&b).map(|(x, y)| (x - ma) * (y - mb)).sum();
        let va: f64 = a.iter().map(|x| (x - ma) * (x - ma)).sum();
        let vb: f64 = b.iter().map(|y| (y - mb) * (y - mb)).sum();
        cov / (va * vb).sqrt()
    };
    assert!(correlation(2) > 0.8, "{}", correlation(2));
    assert!(correlation(3).abs() < 0.25, "{}", correlation(3));
}

#[test]
fn steps_ramps_days_and_spikes_have_their_shape_to_the_message_when_evenly_spaced() {
    let counts = |kind: &str, parts| {
        let even = kind.replace(" }", ", spacing = \"even\" }").replace("s\", spacing = \"even\" }", "s\" }");
        let even = if even.contains("even") { even } else { kind.replacen("{ kind", "{ spacing = \"even\", kind", 1) };
        histogram(&times(&workload(&even, 4)), parts)
    };
    let near = |found: Vec<f64>, expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= 4.0, "{found:?} is not {expected:?}");
        }
    };
    near(counts(KINDS[4], 4), &[2_500.0, 2_500.0, 7_500.0, 7_500.0]);
    near(counts(KINDS[5], 4), &[1_250.0, 3_750.0, 6_250.0, 8_750.0]);
    near(counts(KINDS[7], 10)[1..6].to_vec(), &[1_000.0, 1_000.0, 11_000.0, 1_000.0, 1_000.0]);
    // A quarter of a day about noon, and about midnight: the integral of 1 ± cos.
    let day = counts(KINDS[6], 8);
    let part = |sign: f64| 20_000.0 / 8.0 * (1.0 + sign * 2.0 / std::f64::consts::PI);
    for (i, expected) in [(0, part(-1.0)), (1, part(1.0)), (2, part(1.0)), (3, part(-1.0)), (4, part(-1.0))] {
        assert!((day[i] - expected).abs() < 5.0, "{day:?}: {i} is not {expected}");
    }
}

#[test]
fn steps_begin_again_and_a_ramp_holds() {
    let steps = "{ kind = \"steps\", spacing = \"even\", steps = [{ rate = \"1k/s\", for = \"100ms\" }, { rate = \"0/s\", for = \"100ms\" }] }";
    let counts = histogram(&times(&workload(steps, 1)), 10);
    for (i, count) in counts.iter().enumerate() {
        let expected = if i % 2 == 0 { 100.0 } else { 0.0 };
        assert!((count - expected).abs() <= 1.0, "{counts:?}");
    }
    let ramp = "{ kind = \"ramp\", spacing = \"even\", from = \"1k/s\", to = \"3k/s\", over = \"200ms\" }";
    let counts = histogram(&times(&workload(ramp, 1)), 5);
    for (count, expected) in counts.iter().zip([400.0, 600.0, 600.0, 600.0, 600.0]) {
        assert!((count - expected).abs() <= 1.0, "{counts:?}");
    }
    // A ramp to nothing is over when it is there.
    let down = "{ kind = \"ramp\", from = \"1k/s\", to = \"0/s\", over = \"200ms\" }";
    let mut position = workload(down, 1).producer_unbounded(0);
    assert!(std::iter::from_fn(|| position.next()).take(1_000).count() < 200);
    assert_eq!(position.peek(), None);
}

#[test]
fn a_message_can_be_made_again_from_its_number() {
    for arrivals in KINDS {
        let workload = workload(arrivals, 3);
        for producer in 0..3 {
            for message in all(&workload, producer).iter().step_by(97) {
                let again = workload.contents(producer, message.sequence);
                assert_eq!((again.key, again.channel, again.size), (message.key, message.channel, message.size));
            }
        }
    }
    let workload = workload(KINDS[1], 3);
    let (mut a, mut b) = (Vec::new(), b"kept".to_vec());
    workload.write_payload(2, 77, 100, &mut a);
    workload.producer(2).write_payload(77, 100, &mut b);
    assert_eq!(a.len(), 100);
    assert_eq!(a[..32], [0; 32]);
    assert_eq!(b[4..], a[..]);
    assert_eq!(b[..4], *b"kept");
}

#[test]
fn seeds_replications_and_producers_differ_and_one_of_each_repeats() {
    let profile = profile(KINDS[1], 2, "");
    let first = |seed, replication, producer| all(&Workload::new(&profile, seed, replication), producer);
    assert_eq!(first(1, 0, 0), first(1, 0, 0));
    for other in [first(2, 0, 0), first(1, 1, 0), first(1, 0, 1)] {
        assert_ne!(first(1, 0, 0)[..10], other[..10]);
    }
}

#[test]
fn arrivals_and_contents_are_apart_so_that_a_change_of_one_keeps_the_other() {
    let (a, b) = (workload(KINDS[1], 2), workload(KINDS[5], 2));
    let keys = |w: &Workload| all(w, 1).iter().take(500).map(|m| m.key).collect::<Vec<_>>();
    assert_eq!(keys(&a), keys(&b));
    let steeper = Workload::new(&a.profile().with_rate_factor(3.0), 1, 0);
    assert_eq!(keys(&a), keys(&steeper));
}

#[test]
fn a_closed_loop_waits_for_each_completion_and_thinks_again() {
    let text = "{ kind = \"closed-loop\", think = { kind = \"exponential\", time = \"2ms\" } }";
    let workload = workload(text, 3);
    assert!(workload.is_closed_loop());
    assert!((workload.profile().mean_rate() - 1500.0).abs() < 1e-9);
    let mut user = workload.producer(1);
    let first = user.next().unwrap();
    assert_eq!(first.intended.0, workload.think(1, 0).0);
    assert_eq!(user.peek(), Some(Time::NEVER));
    assert_eq!(user.next(), None);
    user.completed(Time(50_000_000));
    user.completed(Time(70_000_000));
    assert_eq!(user.peek(), Some(Time(50_000_000) + workload.think(1, 1)));
    assert_eq!(user.next().unwrap().sequence, 1);
    user.completed(Time(1_000_000_000));
    assert_eq!((user.peek(), user.next()), (None, None));
    // Scaled to 3,000/s the users think half as long.
    let set = Profile::parse_with(workload.profile().text(), "t", None, &[("arrivals.rate", "3k/s")]).unwrap();
    let scaled = Workload::new(&set, 1, 0).think(1, 0).0 as f64 / workload.think(1, 0).0 as f64;
    assert!((scaled - 0.5).abs() < 1e-6);
}

#[test]
fn the_shipped_trace_is_replayed_whole_within_its_profile() {
    let profile = Profile::load("flight-replay").unwrap();
    let workload = Workload::new(&profile, profile.seed, 0);
    assert_eq!(workload.total(), Some(5_000));
    let counts: Vec<usize> = (0..3).map(|p| all(&workload, p).len()).collect();
    assert_eq!(counts, [1667, 1667, 1666]);
    // Rows in order: Honolulu, Los Angeles, San Diego …; a mile a byte.
    let mut key = Vec::new();
    let first = all(&workload, 0)[0];
    workload.write_key(first.key, &mut key);
    assert_eq!((key.as_slice(), first.size, first.intended), (b"HNL".as_slice(), 2399, Time::ZERO));
    let last = times(&workload)[4_999] as f64 / 1e9;
    assert!((last - 4_999.0 / 7_200.0).abs() < 1e-6, "{last}");
}

#[test]
fn a_backlog_is_a_position_not_messages() {
    let workload = workload("{ kind = \"constant\", rate = \"100M/s\" }", 1);
    let mut position = workload.producer(0);
    for _ in 0..1_000_000 {
        position.next();
    }
    // Ten milliseconds behind, and no larger than at the start.
    assert_eq!(position.peek(), Some(Time(10_000_000)));
    assert!(std::mem::size_of_val(&position) <= 160, "{}", std::mem::size_of_val(&position));
}

#[test]
fn working_times_have_their_means_and_hold_by_key() {
    let groups = "[[groups]]\nname = \"c\"\nmembers = 1\nwork = \"100us\"\n\
                  [[groups]]\nname = \"e\"\nmembers = 1\nwork = { kind = \"exponential\", time = \"100us\" }\n\
                  [[groups]]\nname = \"l\"\nmembers = 1\nwork = { kind = \"log-normal\", time = \"100us\", sigma = 0.5 }\n\
                  [[groups]]\nname = \"k\"\nmembers = 1\nwork = { kind = \"by-key\", time = \"100us\" }\n";
    let workload = Workload::new(&profile(KINDS[0], 1, groups), 1, 0);
    let n = 100_000;
    let mean = |g| (0..n).map(|i| workload.work(g, 0, i, i).0 as f64).sum::<f64>() / n as f64 / 100_000.0;
    assert!((mean(0) - 1.0).abs() < 1e-12);
    for (group, deviation) in [(1, 1.0), (2, 0.533), (3, 1.0)] {
        assert!((mean(group) - 1.0).abs() < 5.0 * deviation / f64::sqrt(n as f64), "{group}: {}", mean(group));
    }
    assert_eq!(workload.work(3, 0, 1, 42), workload.work(3, 0, 2, 42));
    assert_ne!(workload.work(1, 0, 1, 42), workload.work(1, 0, 2, 42));
    assert_ne!(workload.work(3, 0, 1, 42), workload.work(3, 0, 1, 43));
}
