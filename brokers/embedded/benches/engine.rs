//! What the engine's shell costs: 64 messages of 100 bytes are published, stored in memory, delivered and settled, once through
//! model and store alone, and once through the trait with its lock and mailboxes.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use brokerlab_embedded::{EngineBroker, Limits, Store};
use brokerlab_model::log::{LogModel, LogOptions};
use brokerlab_model::{
    Batch, Broker, ChannelId, ChannelSpec, ClientSpec, Completions, Contract, Control, Effects, Model, Publishes,
    Receipt, Role, Settlement, Span, Storage, Time, Token, Verdict, Write,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BATCH: u32 = 64;

fn contract() -> Contract {
    Contract { storage: Storage::Memory, ..Contract::default() }
}

fn model() -> LogModel {
    let options = LogOptions { retention_bytes: Some(4 << 20), ..LogOptions::default() };
    LogModel::new(options, contract()).expect("a log keeps the default contract")
}

fn spec() -> ChannelSpec {
    ChannelSpec { name: "bench".into(), lanes: 1, groups: vec!["g".into()], ..ChannelSpec::default() }
}

fn clients() -> [ClientSpec; 3] {
    let member = Role::Member { group: "g".into(), channels: vec![ChannelId(0)] };
    let roles = [Role::Administrator, Role::Producer, member];
    let mut number = 0;
    roles.map(|role| {
        number += 1;
        ClientSpec { number: number - 1, role, placement: 0 }
    })
}

fn fill(batch: &mut Publishes, token: &mut u64) {
    for _ in 0..BATCH {
        *token += 1;
        batch.push(Token(*token), ChannelId(0), &token.to_le_bytes(), b"", &[7; 92]);
    }
}

/// The last delivery of a lane settles everything before it.
fn settlement(completions: &Completions, token: u64) -> Settlement {
    let last = completions.deliveries.get(completions.deliveries.len() - 1);
    Settlement { token: Token(token), receipt: last.receipt, verdict: Verdict::Ack }
}

/// Model and store without lock, mailboxes and trait.
struct Bare {
    model: Box<dyn Model>,
    store: Store,
    effects: Effects,
    writes: Vec<Write>,
}

impl Bare {
    fn perform(&mut self, now: Time, batch: Option<&Publishes>, completions: &mut [Completions; 3]) {
        let mut trims = Vec::new();
        while !self.effects.writes.is_empty() {
            std::mem::swap(&mut self.writes, &mut self.effects.writes);
            for write in self.writes.drain(..) {
                match write {
                    Write::Messages { lane, position, index, count } => {
                        let batch = batch.expect("only a publish appends");
                        self.store.append_run(lane, position, batch, index..index + count);
                    }
                    Write::Provisional { .. } => unreachable!("nobody begins a transaction"),
                    Write::DeadLetter { from, at, lane, position, death } => {
                        self.store.append_letter((from, at), lane, position, &death);
                    }
                    Write::Record(record) => self.store.record(&record),
                    Write::Barrier(ticket) => {
                        self.store.barrier(ticket);
                        self.model.stored(now, ticket, Ok(()), &mut self.effects);
                    }
                    Write::Compact { lane, from, to, kept } => self.store.compact(lane, from..to, &kept),
                    Write::Trim { lane, below } => trims.push((lane, below)),
                }
            }
        }
        for (client, outcome) in self.effects.outcomes.iter() {
            completions[client as usize].outcomes.push(outcome);
        }
        for deliver in self.effects.deliveries.drain(..) {
            let to = &mut completions[deliver.client as usize].deliveries;
            let receipt = deliver.receipt;
            let read =
                self.store.read_runs(receipt.lane, receipt.position, deliver.count, |position, bytes, table, run| {
                    to.push_run(
                        Receipt { position, ..receipt },
                        deliver.channel,
                        deliver.redeliveries,
                        bytes,
                        table,
                        run,
                    );
                });
            read.expect("memory is read");
        }
        for (lane, below) in trims {
            self.store.trim(lane, below);
        }
        self.effects.clear();
    }
}

fn bare(criterion: &mut Criterion) {
    let mut bare = Bare {
        model: Box::new(model()),
        store: Store::create(Storage::Memory, Limits::default(), None).expect("memory opens"),
        effects: Effects::default(),
        writes: Vec::new(),
    };
    let mut seen: [Completions; 3] = Default::default();
    let [administrator, producer, member] = clients();
    let mut now = Time(1);
    bare.model.connect(now, &administrator, &mut bare.effects).expect("it connects");
    bare.model.control(now, 0, Token(0), &Control::Create(spec()), &mut bare.effects);
    bare.perform(now, None, &mut seen);
    for client in [&producer, &member] {
        bare.model.connect(now, client, &mut bare.effects).expect("it connects");
        bare.perform(now, None, &mut seen);
    }
    let (mut batch, mut token) = (Publishes::new(), 0);
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("model_and_store", |bencher| {
        bencher.iter(|| {
            now += Span::from_micros(1);
            bare.model.control(now, 2, Token(token), &Control::Grant(BATCH), &mut bare.effects);
            bare.perform(now, None, &mut seen);
            fill(&mut batch, &mut token);
            assert_eq!(bare.store.room(&batch).0, BATCH as usize);
            let accepted = bare.model.publish(now, 1, &batch, &mut bare.effects);
            bare.perform(now, Some(&batch), &mut seen);
            batch.advance(accepted.taken);
            assert_eq!(black_box(&seen[2]).deliveries.len(), BATCH as usize);
            bare.model.settle(now, 2, &[settlement(&seen[2], token)], &mut bare.effects);
            bare.perform(now, None, &mut seen);
            seen.iter_mut().for_each(Completions::clear);
        });
    });
}

fn engine(criterion: &mut Criterion) {
    let mut broker = EngineBroker::open(Box::new(model()), Storage::Memory, Limits::default(), None).expect("it opens");
    let [administrator, producer, member] = clients();
    let mut administrator = broker.connect(Time(1), &administrator).expect("it connects");
    let _ = administrator.submit(Time(1), &mut Batch::Control(vec![(Token(0), Control::Create(spec()))]));
    let mut producer = broker.connect(Time(1), &producer).expect("it connects");
    let mut member = broker.connect(Time(1), &member).expect("it connects");
    let (mut batch, mut token) = (Batch::Publish(Publishes::new()), 0);
    let (mut grant, mut settle) = (Batch::Control(Vec::new()), Batch::Settle(Vec::new()));
    let (mut sent, mut seen) = (Completions::default(), Completions::default());
    let mut now = Time(1);
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("through_the_trait", |bencher| {
        bencher.iter(|| {
            now += Span::from_micros(1);
            if let Batch::Control(controls) = &mut grant {
                controls.push((Token(token), Control::Grant(BATCH)));
            }
            let _ = member.submit(now, &mut grant);
            if let Batch::Publish(publishes) = &mut batch {
                fill(publishes, &mut token);
            }
            let _ = producer.submit(now, &mut batch);
            producer.poll(now, &mut sent);
            member.poll(now, &mut seen);
            assert_eq!(black_box(&seen).deliveries.len(), BATCH as usize);
            if let Batch::Settle(settlements) = &mut settle {
                settlements.push(settlement(&seen, token));
            }
            let _ = member.submit(now, &mut settle);
            sent.clear();
            seen.clear();
        });
    });
}

criterion_group!(benches, bare, engine);
criterion_main!(benches);
