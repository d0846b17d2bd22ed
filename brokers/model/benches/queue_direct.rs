//! What a step of the queue and of request and response costs: 64 messages of 100 B through the state machine.
//!
//! Leaves out storage and payloads, which no model touches. Under `cargo test` each case runs once and is checked.

use std::hint::black_box;

use brokerlab_model::direct::{DirectModel, DirectOptions};
use brokerlab_model::queue::{QueueModel, QueueOptions};
use brokerlab_model::{
    ChannelId, ChannelSpec, ClientSpec, Contract, Control, Effects, Model, Publishes, Receipt, Role, Settlement, Time,
    Token, Verdict, Write,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BATCH: usize = 64;
/// The first member's number.
const MEMBERS: u32 = 2;

/// A model with one channel, a producer (1), members from 2 on, and a batch in hand.
struct Bench<M> {
    model: M,
    members: u32,
    batch: Publishes,
    out: Effects,
    settlements: Vec<Vec<Settlement>>,
    /// Settlements of this many cycles ago are done in a cycle: what is in flight in between.
    delay: usize,
    held: std::collections::VecDeque<Vec<Vec<Settlement>>>,
    now: Time,
    shuffle: bool,
}

impl<M: Model> Bench<M> {
    fn new(mut model: M, members: u32, delay: usize, shuffle: bool) -> Self {
        let mut out = Effects::default();
        let admin = ClientSpec { number: 0, role: Role::Administrator, placement: 0 };
        model.connect(Time(0), &admin, &mut out).expect("the first client");
        let spec =
            ChannelSpec { name: "c".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
        model.control(Time(0), 0, Token(0), &Control::Create(spec), &mut out);
        if let Some(Write::Barrier(ticket)) = out.writes.last() {
            let ticket = *ticket;
            model.stored(Time(0), ticket, Ok(()), &mut out);
        }
        let producer = ClientSpec { number: 1, role: Role::Producer, placement: 0 };
        model.connect(Time(0), &producer, &mut out).expect("a producer");
        for number in MEMBERS..MEMBERS + members {
            let role = Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] };
            model.connect(Time(0), &ClientSpec { number, role, placement: 0 }, &mut out).expect("a member");
            model.control(Time(0), number, Token(0), &Control::Grant(u32::MAX), &mut out);
        }
        let mut batch = Publishes::new();
        for n in 0..BATCH as u64 {
            batch.push(Token(n), ChannelId(0), b"", b"", &[7; 100]);
        }
        let settlements = vec![Vec::new(); members as usize];
        let held = std::collections::VecDeque::new();
        Self { model, members, batch, out, settlements, delay, held, now: Time(0), shuffle }
    }

    /// One batch in, stored, delivered; an earlier one settled.
    fn cycle(&mut self) {
        self.now.0 += 1_000;
        self.out.clear();
        let accepted = self.model.publish(self.now, 1, black_box(&self.batch), &mut self.out);
        assert_eq!(accepted.taken, BATCH);
        let Some(Write::Barrier(ticket)) = self.out.writes.last() else { panic!("a publish ends with its barrier") };
        let ticket = *ticket;
        self.out.clear();
        self.model.stored(self.now, ticket, Ok(()), &mut self.out);
        let mut settlements = std::mem::take(&mut self.settlements);
        let mut delivered = 0;
        for run in &self.out.deliveries {
            let own = &mut settlements[(run.client - MEMBERS) as usize];
            delivered += run.count as usize;
            for n in 0..u64::from(run.count) {
                let receipt = Receipt { position: run.receipt.position + n, ..run.receipt };
                own.push(Settlement { token: Token(2), receipt, verdict: Verdict::Ack });
            }
        }
        assert_eq!(delivered, BATCH, "what was stored is delivered");
        if self.shuffle {
            for own in &mut settlements {
                // An odd stride visits every place of a power of two once.
                let ordered = own.clone();
                (0..own.len()).for_each(|n| own[n] = ordered[n * 37 % ordered.len()]);
            }
        }
        self.held.push_back(settlements);
        if self.held.len() <= self.delay {
            self.settlements = vec![Vec::new(); self.members as usize];
            return;
        }
        let mut due = self.held.pop_front().expect("more than none");
        for (member, own) in due.iter_mut().enumerate() {
            self.out.clear();
            self.model.settle(self.now, MEMBERS + member as u32, own, &mut self.out);
            assert_eq!(self.out.outcomes.len(), own.len());
            own.clear();
        }
        black_box(&self.out);
        self.settlements = due;
    }
}

fn queue() -> QueueModel {
    QueueModel::new(QueueOptions::default(), &Contract::default()).expect("the default contract is kept")
}

fn direct() -> DirectModel {
    let options = DirectOptions { service_queue: 1 << 20, ..DirectOptions::default() };
    DirectModel::new(options, &Contract::default()).expect("the default contract is kept")
}

fn cycles<M: Model>(c: &mut Criterion, name: &str, mut bench: Bench<M>) {
    let mut group = c.benchmark_group("publish, store, deliver, settle");
    group.throughput(Throughput::Elements(BATCH as u64));
    for _ in 0..bench.delay {
        bench.cycle();
    }
    group.bench_function(name, |b| b.iter(|| bench.cycle()));
    group.finish();
}

fn steps(c: &mut Criterion) {
    cycles(c, "queue, 1 member", Bench::new(queue(), 1, 0, false));
    cycles(c, "queue, 1 member, out of order", Bench::new(queue(), 1, 0, true));
    cycles(c, "queue, 1 member, 65,536 in flight", Bench::new(queue(), 1, 1024, true));
    cycles(c, "queue, 16 members", Bench::new(queue(), 16, 0, false));
    cycles(c, "direct, 1 receiver", Bench::new(direct(), 1, 0, false));
    cycles(c, "direct, 1 receiver, 65,536 in flight", Bench::new(direct(), 1, 1024, true));
    cycles(c, "direct, 16 receivers", Bench::new(direct(), 16, 0, false));
}

criterion_group!(benches, steps);
criterion_main!(benches);
