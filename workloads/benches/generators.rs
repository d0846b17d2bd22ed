//! What a message costs to generate: its due time, key and size, its key's bytes, its payload, checksum and stamp.
//!
//! Leaves out the host's loop around it.

use std::hint::black_box;

use brokerlab_model::Time;
use brokerlab_workloads::{Fold, Profile, STAMP_LEN, Scheduled, Stamp, Workload, body_crc, digest, key_hash};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Messages of an iteration: enough that the clock does not matter.
const BATCH: u64 = 1_024;

fn workload(arrivals: &str, keys: &str, sizes: &str, payload: &str) -> Workload {
    let text = format!(
        "name = \"bench\"\nabout = \"For benchmarks. Only for them.\"\nduration = \"1h\"\nproducers = 4\n\
         arrivals = {arrivals}\nkeys = {keys}\nsizes = {sizes}\npayload = {payload}\n\
         [[groups]]\nname = \"all\"\nmembers = 1\n"
    );
    Workload::new(&Profile::parse(&text, "bench.toml").expect("the bench's own profile is right"), 1, 0)
}

const POISSON: &str = "{ kind = \"poisson\", rate = \"1M/s\" }";
const ZIPF: &str = "{ kind = \"zipf\", count = 100000, exponent = 1.0 }";

/// Draws messages for ever: what is measured is `next`.
fn schedule(c: &mut Criterion) {
    let mut group = c.benchmark_group("next");
    group.throughput(Throughput::Elements(BATCH));
    let uniform = "{ kind = \"uniform\", count = 100000 }";
    let cases = [
        ("constant, uniform keys, fixed size", "{ kind = \"constant\", rate = \"1M/s\" }", uniform, "\"100B\""),
        ("Poisson, uniform keys, fixed size", POISSON, uniform, "\"100B\""),
        ("Poisson, Zipf keys, fixed size", POISSON, ZIPF, "\"100B\""),
        (
            "Poisson, Zipf over a million keys, fixed size",
            POISSON,
            "{ kind = \"zipf\", count = 1000000, exponent = 1.0 }",
            "\"100B\"",
        ),
        (
            "diurnal, Zipf keys, log-normal size",
            "{ kind = \"diurnal\", rate = \"1M/s\", period = \"10s\" }",
            ZIPF,
            "{ kind = \"log-normal\", median = \"400B\", sigma = 0.5, min = \"100B\", max = \"4kB\" }",
        ),
    ];
    for (name, arrivals, keys, sizes) in cases {
        let workload = workload(arrivals, keys, sizes, "\"random\"");
        let mut producer = workload.producer_unbounded(0);
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..BATCH {
                    black_box(producer.next());
                }
            });
        });
    }
    group.finish();
}

fn payloads(c: &mut Criterion) {
    let mut group = c.benchmark_group("payload");
    let cases = [
        ("random, 100 B", "\"random\"", 100),
        ("random, 4 KiB", "\"random\"", 4096),
        ("compressible 4:1, 4 KiB", "{ kind = \"compressible\", ratio = 4.0 }", 4096),
        ("JSON, 430 B", "\"json\"", 430),
    ];
    for (name, payload, size) in cases {
        let workload = workload(POISSON, ZIPF, "\"100B\"", payload);
        let producer = workload.producer(0);
        group.throughput(Throughput::Bytes(u64::from(size) * BATCH));
        let mut out = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                for sequence in 0..BATCH {
                    producer.write_payload(sequence, size, &mut out);
                }
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// Everything that a host does with the generator for one message of 100 B.
fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("message of 100 B");
    group.throughput(Throughput::Elements(BATCH));
    let workload = workload(POISSON, ZIPF, "\"100B\"", "\"random\"");
    let mut producer = workload.producer_unbounded(0);
    let (mut keys, mut arena) = (Vec::new(), Vec::new());
    group.bench_function("due time, key, payload", |b| {
        b.iter(|| {
            keys.clear();
            arena.clear();
            for _ in 0..BATCH {
                message(&workload, &mut producer, &mut keys, &mut arena);
            }
            black_box(arena.len())
        });
    });
    let mut fold = Fold::new(false);
    group.bench_function("due time, key, payload, checksum, stamp, fold", |b| {
        b.iter(|| {
            keys.clear();
            arena.clear();
            for _ in 0..BATCH {
                let (key_at, at) = (keys.len(), arena.len());
                let scheduled = message(&workload, &mut producer, &mut keys, &mut arena);
                let (crc, hash) = (body_crc(&arena[at..]), key_hash(&keys[key_at..]));
                let stamp = Stamp {
                    run: 1,
                    producer: 0,
                    sequence: scheduled.sequence,
                    intended: scheduled.intended,
                    actual: Time(scheduled.intended.0 + 100),
                };
                stamp.write(&mut arena[at..], crc, hash);
                fold.update(&scheduled, &[], hash, crc);
            }
            black_box(fold.value())
        });
    });
    let (hash, count) = (key_hash(b"0000000000000001"), BATCH as usize);
    let mut messages = vec![7_u8; 100 * count];
    for message in messages.chunks_exact_mut(100) {
        let crc = body_crc(message);
        let stamp = Stamp { run: 1, producer: 0, sequence: 1, intended: Time(1), actual: Time(2) };
        stamp.write(message, crc, hash);
    }
    group.bench_function("stamp read and verified", |b| {
        b.iter(|| messages.chunks_exact(100).filter(|m| Stamp::read_verified(m, black_box(hash)).is_ok()).count());
    });
    group.finish();
}

fn message(
    workload: &Workload,
    producer: &mut brokerlab_workloads::Producer,
    keys: &mut Vec<u8>,
    arena: &mut Vec<u8>,
) -> Scheduled {
    let scheduled = producer.next().expect("an hour is long enough");
    workload.write_key(scheduled.key, keys);
    producer.write_payload(scheduled.sequence, scheduled.size, arena);
    debug_assert!(arena.len() >= STAMP_LEN);
    scheduled
}

fn digests(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Elements(BATCH));
    let workload = workload(POISSON, ZIPF, "\"100B\"", "\"random\"");
    group.bench_function("one thread, 100 B", |b| b.iter(|| digest(&workload, BATCH, 1)));
    group.finish();
}

criterion_group!(benches, schedule, payloads, whole, digests);
criterion_main!(benches);
