//! What one event costs in windows: keys that are found again, panes, sessions.
//!
//! Leaves out where events come from. Under `cargo test` each case runs once and is checked.

use std::hint::black_box;

use brokerlab_model::windows::{Event, WindowKind, WindowOptions, WindowOutput, Windows};
use brokerlab_model::{LaneId, Span, Time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Events in one go; one per microsecond of event time.
const EVENTS: u64 = 100_000;

/// Windows, keys in the order in which they come, and how far event time has come.
struct Bench {
    windows: Windows,
    keys: Vec<[u8; 8]>,
    out: WindowOutput,
    time: u64,
}

impl Bench {
    fn new(kind: WindowKind, keys: u64) -> Self {
        let options = WindowOptions { max_bytes: 1 << 30, ..WindowOptions::new(kind) };
        let windows = Windows::new(options).expect("these windows can be");
        // A step that shares no factor with the number of keys visits them all, and not in order.
        let keys = (0..EVENTS).map(|n| (n * 7_919 % keys).to_le_bytes()).collect();
        Self { windows, keys, out: WindowOutput::default(), time: 0 }
    }

    /// All events; returns how many results there were.
    fn round(&mut self) -> usize {
        let mut results = 0;
        for key in &self.keys {
            self.time += 1_000;
            let event = Event { lane: LaneId(0), time: Time(self.time), key: black_box(key), value: 1 };
            self.windows.observe(&event, &mut self.out).expect("there is room");
            if !self.out.is_empty() {
                results += self.out.results().count();
                self.out.clear();
            }
        }
        results
    }
}

fn events(c: &mut Criterion) {
    let tumbling = WindowKind::Tumbling { size: Span::from_millis(100) };
    let sliding = WindowKind::Sliding { size: Span::from_millis(60), slide: Span::from_millis(1) };
    let long = WindowKind::Tumbling { size: Span::from_secs(1) };
    let session = WindowKind::Session { gap: Span::from_millis(2) };
    let mut group = c.benchmark_group("windows");
    group.throughput(Throughput::Elements(EVENTS));
    let cases = [
        ("tumbling, 1 key", tumbling, 1),
        ("tumbling, 1 k keys", tumbling, 1_000),
        ("tumbling, 100 k keys, ten events each", long, 100_000),
        ("tumbling, 100 k keys, each event its own", tumbling, 100_000),
        ("sliding, 60 panes, 100 keys", sliding, 100),
        ("session, 1 k keys", session, 1_000),
        ("session, 10 k keys, each event its own", session, 10_000),
    ];
    for (name, kind, keys) in cases {
        let mut bench = Bench::new(kind, keys);
        bench.round();
        assert_eq!(bench.windows.counts().events, EVENTS, "{name}");
        group.bench_function(name, |b| b.iter(|| bench.round()));
    }
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
