//! What it costs to record and to check one message: all three operations, three moments each, keys from 100,000 by a skewed
//! draw, batches of 64.
//!
//! Leaves out the clock and the generator; `scripts/figures overhead` adds them up.

use std::hint::black_box;

use brokerlab_model::{Order, Span, Time};
use brokerlab_workloads::check::{Arrived, CheckPlan, Checker, MessageId};
use brokerlab_workloads::record::{BackendTime, HeldBack, Moments, Plan, Recorder, Tally};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;

const BATCH: u64 = 64;
const KEYS: u64 = 100_000;
/// Samples drawn beforehand, a power of two.
const DRAWN: usize = 1 << 16;

/// A cheap mixer: draws must not be what is measured.
const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n ^ (n >> 32)
}

/// Response times from 2 µs to some milliseconds, most of them near 50 µs.
fn samples() -> Vec<i64> {
    let sample = |n| 2_000 + (mix(n) % 90_000 + (1 << (mix(n + 1) % 23))).cast_signed();
    (0..DRAWN as u64).map(sample).collect()
}

/// Hashes of keys whose frequency falls with the inverse of their rank, as Zipf's law has it.
fn keys() -> Vec<u64> {
    let rank = |n| (KEYS as f64).powf((mix(n) >> 11) as f64 / (1_u64 << 53) as f64) as u64;
    (0..DRAWN as u64).map(|n| mix(rank(n))).collect()
}

fn histograms(c: &mut Criterion) {
    let samples = samples();
    let mut group = c.benchmark_group("one sample");
    group.throughput(Throughput::Elements(BATCH));
    let mut at = 0;
    let mut tally = Tally::default();
    group.bench_function("tally", |b| {
        b.iter(|| {
            for _ in 0..BATCH {
                at = (at + 1) % DRAWN;
                tally.record(samples[at]);
            }
        });
    });
    let mut histogram = Histogram::<u64>::new(3).expect("three digits are allowed");
    group.bench_function("hdrhistogram", |b| {
        b.iter(|| {
            for _ in 0..BATCH {
                at = (at + 1) % DRAWN;
                histogram.record(black_box(samples[at]) as u64).expect("it resizes");
            }
        });
    });
    group.finish();
}

fn recorder(c: &mut Criterion) {
    let samples = samples();
    let plan = Plan { warmup: Span::from_secs(1), duration: Span::from_secs(1_000_000), groups: 1 };
    let mut recorder = Recorder::new(plan, Time::ZERO);
    let mut backend = BackendTime::new();
    let held = HeldBack::new();
    let mut group = c.benchmark_group("one message");
    group.throughput(Throughput::Elements(BATCH));
    let (mut at, mut due) = (0, 2_000_000_000);
    group.bench_function("recorder: publish, end-to-end and settle", |b| {
        b.iter(|| {
            let actual = Time(due + 70_000);
            backend.inside(Time(due + 60_000), Time(due + 65_000));
            for n in 0..BATCH {
                at = (at + 1) % DRAWN;
                let intended = Time(due + n * 1_000);
                let delay = backend.delay(&held, intended, actual);
                let completed = actual + Span(samples[at] as u64);
                let publish = Moments { intended, actual, completed };
                recorder.due(intended, 1, 100);
                recorder.sent(intended);
                recorder.published(publish, delay);
                let end_to_end = Moments { completed: completed + Span(samples[(at + 7) % DRAWN] as u64), ..publish };
                recorder.delivered(0, end_to_end, delay);
                recorder.settle_due(intended);
                let settle = Moments {
                    intended: end_to_end.completed,
                    actual: end_to_end.completed + Span(300),
                    completed: end_to_end.completed + Span(9_000),
                };
                recorder.settled(intended, settle, settle.late());
            }
            due += 70_000;
        });
    });
    group.finish();
    assert_eq!(recorder.finish(None).counts.unacknowledged, 0);
}

fn checker(c: &mut Criterion) {
    let keys = keys();
    let plan = CheckPlan { producers: 8, groups: 1, order: Order::PerKey, keys: KEYS * 8 };
    let mut checker = Checker::new(plan);
    let mut group = c.benchmark_group("one message");
    group.throughput(Throughput::Elements(BATCH));
    let (mut message, mut arrived) = (0_u64, Vec::new());
    let mut keyed = |n: u64| {
        let id = MessageId { producer: (n % 8) as u32, sequence: n / 8 };
        Arrived { id, key_hash: Some(keys[n as usize % DRAWN]), ..Arrived::default() }
    };
    group.bench_function("checker: acknowledged and delivered", |b| {
        b.iter(|| {
            arrived.clear();
            arrived.extend((message..message + BATCH).map(&mut keyed));
            message += BATCH;
            checker.acknowledged_many(arrived.iter().map(|arrived: &Arrived| arrived.id));
            checker.delivered_many(0, &arrived);
        });
    });
    group.finish();
    let contract = brokerlab_model::Contract { order: Order::PerKey, ..Default::default() };
    let record = checker.finish(&[0], &[u64::MAX; 8], &contract).remove(0);
    assert_eq!((record.delivered, record.broken.len()), (message, 0));
}

criterion_group!(benches, histograms, recorder, checker);
criterion_main!(benches);
