//! The rows of the figure `limits`, engine and reference each by itself. As a benchmark each is as large as in the figure; as a test each
//! runs small.
//!
//! Time is what the figure takes: CPU of the one thread, or wall time where a device or a second thread is waited for. Leaves out ratios,
//! goals and verdicts: `scripts/figures limits` prints those, both sides by turns.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::time::Duration;

use brokerlab_bench::limits::{Side, Size, rows};
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main, measurement::WallTime,
};

/// Times are per so many messages, so that parts of a nanosecond per message are seen.
const MESSAGES: u64 = 1_000;

fn limits(criterion: &mut Criterion) {
    // As criterion itself tells a benchmark from a test.
    let whole = std::env::args().any(|arg| arg == "--bench") && !std::env::args().any(|arg| arg == "--test");
    let size = if whole { Size::Whole } else { Size::Small };
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let dir = tempfile::tempdir().expect("a folder for what is measured");
    for row in rows(size) {
        let name = row.what().to_owned();
        // A row that is not asked for is not opened either.
        if !only.is_empty() && !only.iter().any(|part| name.contains(part)) {
            continue;
        }
        let (engine, (reference, bare)) = row.open(dir.path()).expect("the row opens").sides();
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(MESSAGES));
        group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
        side(&mut group, "engine", engine);
        side(&mut group, reference, bare);
        group.finish();
    }
}

fn side(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut side: Side) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let spent: f64 = (0..times).map(|_| side().expect("the row is measured")).sum();
            Duration::from_secs_f64(spent * MESSAGES as f64 / 1e9)
        });
    });
}

criterion_group!(benches, limits);
criterion_main!(benches);
