//! Keys, sizes and payloads against their distributions, with a fixed seed.

use std::collections::BTreeMap;

use brokerlab_workloads::{Profile, Workload};

const N: u64 = 200_000;

fn workload(keys: &str, sizes: &str, payload: &str) -> Workload {
    let text = format!(
        "name = \"t\"\nabout = \"A. B.\"\nduration = \"1s\"\nproducers = 2\nsizes = {sizes}\nkeys = {keys}\n\
         payload = {payload}\narrivals = {{ kind = \"constant\", rate = \"1k/s\" }}\n\
         [[groups]]\nname = \"g\"\nmembers = 1\n"
    );
    Workload::new(&Profile::parse(&text, "t.toml").unwrap(), 7, 0)
}

fn with_keys(keys: &str) -> Workload {
    workload(keys, "\"100B\"", "\"random\"")
}

/// How often each key comes among the first N messages of producer 1.
fn key_counts(workload: &Workload) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for n in 0..N {
        *counts.entry(workload.contents(1, n).key).or_default() += 1;
    }
    counts
}

/// Pearson's χ² of counts against shares; neighbouring keys share a cell until it is expected at least ten times. Returns
/// the statistic's distance from its mean in standard deviations.
fn chi_square_deviations(counts: &BTreeMap<u64, u64>, shares: &[f64]) -> f64 {
    let (mut statistic, mut cells, mut found, mut expected) = (0.0, 0.0, 0.0, 0.0);
    for (key, share) in shares.iter().enumerate() {
        expected += share * N as f64;
        found += counts.get(&(key as u64)).copied().unwrap_or(0) as f64;
        if expected >= 10.0 {
            statistic += (found - expected) * (found - expected) / expected;
            cells += 1.0;
            (found, expected) = (0.0, 0.0);
        }
    }
    let degrees = cells - 1.0;
    assert!(degrees >= 1.0);
    (statistic - degrees) / f64::sqrt(2.0 * degrees)
}

fn zipf_shares(count: u64, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=count).map(|r| (r as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

#[test]
fn uniform_keys_come_equally_often() {
    let counts = key_counts(&with_keys("{ kind = \"uniform\", count = 1000 }"));
    let deviations = chi_square_deviations(&counts, &[0.001; 1000]);
    assert!(deviations.abs() < 5.0, "{deviations}");
    assert_eq!(counts.values().sum::<u64>(), N);
}

#[test]
fn zipf_keys_come_as_their_rank_says_from_the_table() {
    for exponent in [0.0, 0.5, 1.0, 1.5] {
        let counts = key_counts(&with_keys(&format!("{{ kind = \"zipf\", count = 100000, exponent = {exponent:?} }}")));
        let deviations = chi_square_deviations(&counts, &zipf_shares(100_000, exponent));
        assert!(deviations.abs() < 5.0, "{exponent}: {deviations}");
    }
}

#[test]
fn zipf_keys_come_as_their_rank_says_by_rejection_inversion() {
    for exponent in [0.0, 0.7, 1.0, 1.2, 2.5] {
        let counts = key_counts(&with_keys(&format!("{{ kind = \"zipf\", count = 200000, exponent = {exponent:?} }}")));
        let deviations = chi_square_deviations(&counts, &zipf_shares(200_000, exponent));
        assert!(deviations.abs() < 5.0, "{exponent}: {deviations}");
        assert!(counts.keys().all(|k| *k < 200_000));
    }
}

#[test]
fn hot_keys_take_their_share() {
    let counts = key_counts(&with_keys("{ kind = \"hot-set\", count = 1000, hot = 10, share = 0.7 }"));
    let shares: Vec<f64> = (0..1000).map(|k| if k < 10 { 0.07 } else { 0.3 / 990.0 }).collect();
    let deviations = chi_square_deviations(&counts, &shares);
    assert!(deviations.abs() < 5.0, "{deviations}");
}

#[test]
fn sequential_keys_count_over_all_producers() {
    let workload = with_keys("{ kind = \"sequential\", count = 7 }");
    let keys: Vec<u64> = (0..10).map(|i| workload.contents((i % 2) as u32, i / 2).key).collect();
    assert_eq!(keys, [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]);
}

fn sizes_of(sizes: &str) -> Vec<f64> {
    let workload = workload("{ kind = \"uniform\", count = 10 }", sizes, "\"random\"");
    let mut sizes: Vec<f64> = (0..N).map(|n| f64::from(workload.contents(1, n).size)).collect();
    let mean = sizes.iter().sum::<f64>() / N as f64;
    let variance = sizes.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>() / N as f64;
    // The mean of every distribution is the one that the profile's figures state.
    let stated = workload.profile().mean_size();
    assert!((mean - stated).abs() <= 5.0 * (variance / N as f64).sqrt() + 1e-9, "{mean}, stated {stated}");
    sizes.sort_by(f64::total_cmp);
    sizes
}

#[test]
fn fixed_and_uniform_sizes() {
    assert!(sizes_of("\"100B\"").iter().all(|s| (s - 100.0).abs() < 1e-9));
    let sizes = sizes_of("{ kind = \"uniform\", min = \"50B\", max = \"149B\" }");
    let mut counts = BTreeMap::new();
    for size in &sizes {
        *counts.entry(*size as u64 - 50).or_default() += 1;
    }
    let deviations = chi_square_deviations(&counts, &[0.01; 100]);
    assert!(deviations.abs() < 5.0, "{deviations}");
    assert_eq!((sizes[0] as u64, sizes[sizes.len() - 1] as u64), (50, 149));
}

#[test]
fn log_normal_sizes_have_their_quantiles_and_their_clamps() {
    let sizes = sizes_of("{ kind = \"log-normal\", median = \"1000B\", sigma = 0.5, min = \"400B\", max = \"3000B\" }");
    for (quantile, z) in [(0.1, -1.281_551_6), (0.5, 0.0), (0.9, 1.281_551_6), (0.975, 1.959_964)] {
        let found = sizes[(quantile * N as f64) as usize];
        let expected = 1000.0 * f64::exp(0.5 * z);
        assert!((found / expected - 1.0).abs() < 0.01, "{quantile}: {found}, expected {expected}");
    }
    let low = sizes.iter().filter(|s| **s <= 400.0).count() as f64 / N as f64;
    let high = sizes.iter().filter(|s| **s >= 3000.0).count() as f64 / N as f64;
    // Φ(ln(0.4)/0.5) and 1 - Φ(ln(3)/0.5), the half byte that rounds to the bound apart.
    assert!((low - 0.0334).abs() < 0.002 && (high - 0.0140).abs() < 0.002, "{low} {high}");
    assert!(sizes[0] >= 400.0 && sizes[sizes.len() - 1] <= 3000.0);
}

#[test]
fn empirical_sizes_come_as_their_weights_say() {
    let sizes = sizes_of(
        "{ kind = \"empirical\", values = [{ size = \"100B\", weight = 6 }, { size = \"200B\", weight = 3 }, { size = \"1kB\", weight = 1 }] }",
    );
    for (size, share) in [(100.0, 0.6), (200.0, 0.3), (1000.0, 0.1)] {
        let found = sizes.iter().filter(|s| f64::abs(**s - size) < 0.5).count() as f64 / N as f64;
        assert!((found - share).abs() < 5.0 * f64::sqrt(share * (1.0 - share) / N as f64), "{size}: {found}");
    }
}

/// The bodies of the first messages, one after the other.
fn bodies(payload: &str, size: u32, count: u64) -> Vec<u8> {
    let workload = workload("{ kind = \"uniform\", count = 1000 }", &format!("\"{size}B\""), payload);
    let mut all = Vec::new();
    let mut message = Vec::new();
    for n in 0..count {
        message.clear();
        workload.write_payload(0, n, size, &mut message);
        assert_eq!(message.len(), size as usize);
        assert!(message[..32].iter().all(|b| *b == 0));
        all.extend_from_slice(&message[32..]);
    }
    all
}

fn compressed(bytes: &[u8]) -> f64 {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    bytes.len() as f64 / encoder.finish().unwrap().len() as f64
}

#[test]
fn random_bytes_are_even_and_do_not_compress() {
    let bytes = bodies("\"random\"", 1056, 1_000);
    let mut counts = [0.0_f64; 256];
    for byte in &bytes {
        counts[usize::from(*byte)] += 1.0;
    }
    let expected = bytes.len() as f64 / 256.0;
    let statistic: f64 = counts.iter().map(|c| (c - expected) * (c - expected) / expected).sum();
    assert!((statistic - 255.0).abs() < 5.0 * f64::sqrt(510.0), "{statistic}");
    assert!(compressed(&bytes) < 1.01);
    let ones: u32 = bytes.iter().map(|b| b.count_ones()).sum();
    let bits = bytes.len() as f64 * 8.0;
    assert!((f64::from(ones) - bits / 2.0).abs() < 5.0 * f64::sqrt(bits / 4.0));
}

#[test]
fn a_compressible_body_compresses_as_stated() {
    for ratio in [1.0, 2.0, 4.0, 8.0] {
        let found = compressed(&bodies(&format!("{{ kind = \"compressible\", ratio = {ratio:?} }}"), 4128, 200));
        assert!((found / ratio - 1.0).abs() < 0.15, "{ratio}: {found}");
    }
}

#[test]
fn json_bodies_are_json_and_carry_the_key() {
    let workload = workload("{ kind = \"uniform\", count = 1000 }", "\"400B\"", "\"json\"");
    let mut message = Vec::new();
    for n in 0..200 {
        message.clear();
        workload.write_payload(1, n, 400, &mut message);
        let value: serde_json::Value = serde_json::from_slice(&message[32..]).unwrap();
        assert_eq!(value["customer"], workload.contents(1, n).key);
        assert_eq!(value["id"], 1 + 2 * n);
    }
}

#[test]
fn lines_of_a_file_follow_each_other() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("lines.txt");
    std::fs::write(&file, "alpha\nbeta\ngamma\n").unwrap();
    let payload = format!("{{ kind = \"lines\", file = {file:?} }}");
    let workload = workload("{ kind = \"uniform\", count = 10 }", "\"47B\"", &payload);
    let body = |producer, n| {
        let mut message = Vec::new();
        workload.write_payload(producer, n, 47, &mut message);
        String::from_utf8(message[32..].to_vec()).unwrap()
    };
    assert_eq!(body(0, 0), "alpha\nbeta\ngamm");
    assert_eq!(body(1, 0), "beta\ngamma\nalph");
    assert_eq!(body(0, 1), "gamma\nalpha\nbet");
    assert_eq!(body(1, 1), "alpha\nbeta\ngamm");
}

#[test]
fn channels_are_taken_by_key_by_turns_and_by_producer() {
    let with = |spread: &str| {
        let text = format!(
            "name = \"t\"\nabout = \"A. B.\"\nduration = \"1s\"\nproducers = 3\nsizes = \"100B\"\n\
             channels = {{ name = \"c-{{}}\", count = 5, spread = \"{spread}\" }}\n\
             keys = {{ kind = \"uniform\", count = 5000 }}\narrivals = {{ kind = \"constant\", rate = \"1k/s\" }}\n\
             [[groups]]\nname = \"g\"\nmembers = 1\n"
        );
        Workload::new(&Profile::parse(&text, "t.toml").unwrap(), 7, 0)
    };
    let by_key = with("by-key");
    assert_eq!(by_key.profile().channels.resolved(), ["c-0", "c-1", "c-2", "c-3", "c-4"]);
    let mut channel_of = BTreeMap::new();
    let mut counts = [0_u32; 5];
    for n in 0..20_000 {
        let message = by_key.contents(0, n);
        assert_eq!(*channel_of.entry(message.key).or_insert(message.channel), message.channel);
        counts[message.channel as usize] += 1;
    }
    assert!(counts.iter().all(|c| (3_500..4_500).contains(c)), "{counts:?}");
    let turns = with("round-robin");
    assert_eq!((0..6).map(|i| turns.contents(i % 3, u64::from(i / 3)).channel).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 0]);
    assert_eq!((0..3).map(|p| with("by-producer").contents(p, 9).channel).collect::<Vec<_>>(), [0, 1, 2]);
}
