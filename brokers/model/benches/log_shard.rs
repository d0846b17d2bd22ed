//! What a step of the log and of the shard stream costs: 64 messages of 100 B through the state machine.
//!
//! Leaves out storage and payloads, which no model touches. Under `cargo test` each case runs once and is checked.

use std::hint::black_box;

use brokerlab_model::log::{LogModel, LogOptions};
use brokerlab_model::shard::{ShardModel, ShardOptions};
use brokerlab_model::{
    ChannelId, ChannelSpec, ClientSpec, Contract, Control, Effects, Model, Publishes, Receipt, Role, Settlement, Time,
    Token, Verdict, Write,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const BATCH: usize = 64;
const LANES: u32 = 8;

/// A model with one channel, a producer (1) and a member (2), and a batch in hand.
struct Bench<M> {
    model: M,
    batch: Publishes,
    out: Effects,
    settlements: Vec<Settlement>,
    now: Time,
}

impl<M: Model> Bench<M> {
    fn new(mut model: M, keyed: bool) -> Self {
        let mut out = Effects::default();
        let member = Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] };
        let admin = ClientSpec { number: 0, role: Role::Administrator, placement: 0 };
        model.connect(Time(0), &admin, &mut out).expect("the first client");
        let spec =
            ChannelSpec { name: "c".to_owned(), lanes: LANES, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
        model.control(Time(0), 0, Token(0), &Control::Create(spec), &mut out);
        for (number, role) in [(1, Role::Producer), (2, member)] {
            model.connect(Time(0), &ClientSpec { number, role, placement: 0 }, &mut out).expect("a client");
        }
        let mut batch = Publishes::new();
        for n in 0..BATCH as u64 {
            let key = (n * 7 % 50).to_le_bytes();
            batch.push(Token(n), ChannelId(0), if keyed { &key } else { &[] }, b"", &[7; 92]);
        }
        Self { model, batch, out, settlements: Vec::new(), now: Time(0) }
    }

    /// One batch in, and nothing else; returns its ticket.
    fn publish(&mut self) -> u64 {
        self.now.0 += 1_000_000;
        self.out.clear();
        let accepted = self.model.publish(self.now, 1, black_box(&self.batch), &mut self.out);
        assert_eq!(accepted.taken, BATCH);
        let Some(Write::Barrier(ticket)) = self.out.writes.last() else { panic!("a publish ends with its barrier") };
        *ticket
    }

    /// One batch in, stored, delivered and settled.
    fn cycle(&mut self) {
        let ticket = self.publish();
        self.out.clear();
        self.model.control(self.now, 2, Token(1), &Control::Grant(BATCH as u32), &mut self.out);
        self.model.stored(self.now, ticket, Ok(()), &mut self.out);
        self.settlements.clear();
        for run in &self.out.deliveries {
            let receipt = |n| Receipt { position: run.receipt.position + u64::from(n), ..run.receipt };
            let settle = |n| Settlement { token: Token(2), receipt: receipt(n), verdict: Verdict::Ack };
            self.settlements.extend((0..run.count).map(settle));
        }
        assert_eq!(self.settlements.len(), BATCH, "what was stored is delivered");
        self.out.clear();
        self.model.settle(self.now, 2, &self.settlements, &mut self.out);
        black_box(&self.out);
    }
}

fn log(keyed: bool) -> Bench<LogModel> {
    let options = LogOptions { max_in_flight: u32::MAX, ..LogOptions::default() };
    Bench::new(LogModel::new(options, Contract::default()).expect("the default contract is kept"), keyed)
}

/// Without limits, so that the step is measured and not the throttling.
fn shard() -> Bench<ShardModel> {
    let most = u32::MAX / 2;
    let options = ShardOptions {
        write_records_per_s: most,
        write_bytes_per_s: most,
        read_bytes_per_s: most,
        max_in_flight: u32::MAX,
        ..ShardOptions::default()
    };
    Bench::new(ShardModel::new(options, Contract::default()).expect("the default contract is kept"), true)
}

/// Publishes alone, on a model that is set up anew before what waits for the storage fills the caches.
fn publishes<M: Model>(c: &mut Criterion, name: &str, make: impl Fn() -> Bench<M>) {
    let mut group = c.benchmark_group("publish");
    group.throughput(Throughput::Elements(BATCH as u64 * 16));
    group.bench_function(name, |b| {
        b.iter_batched_ref(
            || {
                let mut bench = make();
                let ticket = (0..16).map(|_| bench.publish()).last().expect("sixteen calls");
                bench.model.stored(bench.now, ticket, Ok(()), &mut bench.out);
                bench
            },
            |bench| (0..16).map(|_| bench.publish()).sum::<u64>(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn cycles<M: Model>(c: &mut Criterion, name: &str, make: impl Fn() -> Bench<M>) {
    let mut group = c.benchmark_group("publish, store, deliver, settle");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut bench = make();
    group.bench_function(name, |b| b.iter(|| bench.cycle()));
    group.finish();
}

fn steps(c: &mut Criterion) {
    publishes(c, "log, keyed", || log(true));
    publishes(c, "log, without keys", || log(false));
    publishes(c, "shard, keyed", shard);
    cycles(c, "log, keyed", || log(true));
    cycles(c, "log, without keys", || log(false));
    cycles(c, "shard, keyed", shard);
}

criterion_group!(benches, steps);
criterion_main!(benches);
