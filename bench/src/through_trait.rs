//! Figure `trait`: what the trait adds to `log` in memory, 100 B × 64 — a boxed client with its lock and mailbox, against the same
//! model and store called directly.

use brokerlab_embedded::{EngineBroker, Limits, Store};
use brokerlab_model::log::{LogModel, LogOptions};
use brokerlab_model::{
    Batch, Broker, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Contract, Control, Effects, Model,
    Publishes, Receipt, Role, Settlement, Storage, Time, Token, Verdict, Write,
};

use crate::cpu::cost_ns;
use crate::table::{Figure, Row, Spread};

/// Messages of one batch.
const BATCH: usize = 64;
/// The producer's and the member's numbers.
const PRODUCER: u32 = 1;
const MEMBER: u32 = 2;
/// Lives of each side in one repetition.
const LIVES: usize = 16;
/// What the trait may add.
const GOAL: f64 = 1.05;

fn contract() -> Contract {
    Contract { storage: Storage::Memory, ..Contract::default() }
}

fn channel() -> ChannelSpec {
    ChannelSpec {
        name: "messages".to_owned(),
        lanes: 1,
        groups: vec!["consumers".to_owned()],
        ..ChannelSpec::default()
    }
}

fn clients() -> [ClientSpec; 3] {
    let member = Role::Member { group: "consumers".to_owned(), channels: vec![ChannelId(0)] };
    let spec = |number, role| ClientSpec { number, role, placement: 0 };
    [spec(0, Role::Administrator), spec(PRODUCER, Role::Producer), spec(MEMBER, member)]
}

fn batch() -> Publishes {
    let mut batch = Publishes::new();
    for n in 0..BATCH {
        batch.push(Token(n as u64), ChannelId(0), &(n as u64).to_le_bytes(), &[], &[0x5a; 100]);
    }
    batch
}

/// One side of the comparison: 64 messages published, delivered and their last one settled.
trait Side {
    fn turn(&mut self, batch: &mut Batch) -> anyhow::Result<()>;
}

/// Through boxed clients, as the host does.
struct Boxed {
    _broker: EngineBroker,
    producer: Box<dyn Client>,
    member: Box<dyn Client>,
    completions: Completions,
    settle: Batch,
    grant: Batch,
    turns: u64,
}

impl Boxed {
    fn new() -> anyhow::Result<Self> {
        let model = Box::new(LogModel::new(LogOptions::default(), contract())?);
        let mut broker = EngineBroker::open(model, Storage::Memory, Limits::default(), None)?;
        let [administrator, producer, member] = clients();
        let mut administrator = broker.connect(Time::ZERO, &administrator)?;
        let mut create = Batch::Control(vec![(Token(0), Control::Create(channel()))]);
        anyhow::ensure!(administrator.submit(Time::ZERO, &mut create).taken == 1, "the channel was not created");
        let producer = broker.connect(Time::ZERO, &producer)?;
        let member = broker.connect(Time::ZERO, &member)?;
        let completions = Completions::default();
        let (settle, grant) = (Batch::Settle(Vec::new()), Batch::Control(Vec::new()));
        Ok(Self { _broker: broker, producer, member, completions, settle, grant, turns: 0 })
    }
}

impl Side for Boxed {
    fn turn(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        self.turns += 1;
        let now = Time(self.turns);
        if let Batch::Control(controls) = &mut self.grant {
            controls.push((Token(1 << 32), Control::Grant(BATCH as u32)));
        }
        let granted = self.member.submit(now, &mut self.grant).taken;
        let published = self.producer.submit(now, batch).taken;
        self.completions.clear();
        self.producer.poll(now, &mut self.completions);
        let acknowledged = self.completions.outcomes.len();
        self.member.poll(now, &mut self.completions);
        let receipt = self.completions.deliveries.iter().last().map(|last| last.receipt);
        let (Some(receipt), Batch::Settle(settlements)) = (receipt, &mut self.settle) else {
            anyhow::bail!("nothing was delivered");
        };
        settlements.push(Settlement { token: Token(1 << 33), receipt, verdict: Verdict::Ack });
        let settled = self.member.submit(now, &mut self.settle).taken;
        let delivered = self.completions.deliveries.len();
        anyhow::ensure!(
            [granted, published, acknowledged, delivered, settled] == [1, BATCH, BATCH, BATCH, 1],
            "a turn went wrong: {granted} granted, {published} published, {acknowledged} acknowledged, {delivered} delivered"
        );
        Ok(())
    }
}

/// The same model and store, called directly; deliveries and outcomes end in the same columns.
struct Direct {
    model: LogModel,
    store: Store,
    effects: Effects,
    writes: Vec<Write>,
    completions: Completions,
    turns: u64,
}

impl Direct {
    fn new() -> anyhow::Result<Self> {
        let mut model = LogModel::new(LogOptions::default(), contract())?;
        let mut effects = Effects::default();
        let [administrator, producer, member] = clients();
        model.connect(Time::ZERO, &administrator, &mut effects)?;
        model.control(Time::ZERO, 0, Token(0), &Control::Create(channel()), &mut effects);
        model.connect(Time::ZERO, &producer, &mut effects)?;
        model.connect(Time::ZERO, &member, &mut effects)?;
        let store = Store::create(Storage::Memory, Limits::default(), None)?;
        let mut side =
            Self { model, store, effects, writes: Vec::new(), completions: Completions::default(), turns: 0 };
        side.perform(Time::ZERO, None)?;
        Ok(side)
    }

    fn perform(&mut self, now: Time, batch: Option<&Publishes>) -> anyhow::Result<()> {
        let mut trims = Vec::new();
        while !self.effects.writes.is_empty() {
            std::mem::swap(&mut self.writes, &mut self.effects.writes);
            for write in self.writes.drain(..) {
                match (write, batch) {
                    (Write::Messages { lane, position, index, count }, Some(batch)) => {
                        self.store.append_run(lane, position, batch, index..index + count);
                    }
                    (Write::Messages { .. }, None) => anyhow::bail!("a message without its batch"),
                    (Write::Provisional { .. }, _) => anyhow::bail!("nobody begins a transaction"),
                    (Write::DeadLetter { from, at, lane, position, death }, _) => {
                        self.store.append_letter((from, at), lane, position, &death);
                    }
                    (Write::Record(record), _) => self.store.record(&record),
                    (Write::Barrier(ticket), _) => {
                        self.store.barrier(ticket);
                        self.model.stored(now, ticket, Ok(()), &mut self.effects);
                    }
                    (Write::Compact { lane, from, to, kept }, _) => self.store.compact(lane, from..to, &kept),
                    (Write::Trim { lane, below }, _) => trims.push((lane, below)),
                }
            }
        }
        self.completions.outcomes.extend(self.effects.outcomes.iter().map(|(_, outcome)| outcome));
        for run in &self.effects.deliveries {
            let deliveries = &mut self.completions.deliveries;
            self.store.read_runs(
                run.receipt.lane,
                run.receipt.position,
                run.count,
                |position, arena, table, messages| {
                    let receipt = Receipt { position, ..run.receipt };
                    deliveries.push_run(receipt, run.channel, run.redeliveries, arena, table, messages);
                },
            )?;
        }
        self.effects.clear();
        for (lane, below) in trims {
            self.store.trim(lane, below);
        }
        Ok(())
    }
}

impl Side for Direct {
    fn turn(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        let Batch::Publish(publishes) = batch else { anyhow::bail!("a turn publishes") };
        self.turns += 1;
        let now = Time(self.turns);
        self.model.control(now, MEMBER, Token(1 << 32), &Control::Grant(BATCH as u32), &mut self.effects);
        self.completions.clear();
        self.perform(now, None)?;
        anyhow::ensure!(self.store.room(publishes).0 == BATCH, "the store is full");
        let taken = self.model.publish(now, PRODUCER, publishes, &mut self.effects).taken;
        self.perform(now, Some(publishes))?;
        publishes.advance(taken);
        let delivered = self.completions.deliveries.len();
        let Some(receipt) = self.completions.deliveries.iter().last().map(|last| last.receipt) else {
            anyhow::bail!("nothing was delivered");
        };
        // Publishes, and the grant that its last delivery ended.
        let ended = self.completions.outcomes.len();
        let settlement = Settlement { token: Token(1 << 33), receipt, verdict: Verdict::Ack };
        self.model.settle(now, MEMBER, &[settlement], &mut self.effects);
        self.perform(now, None)?;
        anyhow::ensure!(
            [taken, ended, delivered] == [BATCH, BATCH + 1, BATCH],
            "a turn went wrong: {taken} taken, {ended} ended, {delivered} delivered"
        );
        Ok(())
    }
}

/// Nanoseconds of CPU per message over `turns` turns.
fn cost(side: &mut dyn Side, turns: usize) -> anyhow::Result<f64> {
    let template = batch();
    let mut result = Ok(());
    let mut batches: Vec<Batch> = Vec::new();
    let mut spent = 0;
    for _ in 0..turns.div_ceil(BATCH) {
        batches.clear();
        batches.extend((0..BATCH).map(|_| Batch::Publish(template.clone())));
        spent += cost_ns(|| {
            result = batches.iter_mut().try_for_each(|batch| side.turn(batch));
        });
        std::mem::replace(&mut result, Ok(()))?;
    }
    Ok(spent as f64 / (turns.div_ceil(BATCH) * BATCH * BATCH) as f64)
}

/// Takes the figure: `repetitions` times `turns` turns of each side, interleaved.
pub fn figure(repetitions: usize, turns: usize) -> anyhow::Result<Figure> {
    let (mut boxed, mut direct) = (Vec::new(), Vec::new());
    for repetition in 0..=repetitions {
        let (mut through, mut without) = (0.0, 0.0);
        // Short lives, in turn first: whoever comes after the other finds the allocator's memory as that one left it.
        for life in 0..LIVES {
            let mut sides: [(&mut f64, Box<dyn Side>); 2] =
                [(&mut through, Box::new(Boxed::new()?)), (&mut without, Box::new(Direct::new()?))];
            if life % 2 == 1 {
                sides.reverse();
            }
            for (sum, side) in &mut sides {
                **sum += cost(&mut **side, turns / LIVES)? / LIVES as f64;
            }
        }
        // The first repetition touches memory and code for the others.
        if repetition > 0 {
            boxed.push(through);
            direct.push(without);
        }
    }
    let ratios: Vec<f64> = boxed.iter().zip(&direct).map(|(boxed, direct)| boxed / direct).collect();
    let ratio = Spread::of(&ratios);
    Ok(Figure {
        name: "trait",
        title: format!(
            "Thread CPU per message of `log` in memory, 100 B × {BATCH}: granted, published, acknowledged, delivered, settled. \
             Medians of {repetitions} interleaved repetitions, with their range."
        ),
        rows: vec![Row {
            what: "boxed client: lock, mailbox, trait object".to_owned(),
            found: format!("{} ns", Spread::of(&boxed).show(1)),
            reference: format!("model and store called directly, {} ns", Spread::of(&direct).show(1)),
            ratio: ratio.show(3),
            goal: format!("≤ {GOAL}"),
            met: Some(ratio.median <= GOAL),
        }],
        remarks: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_sides_deliver_everything() {
        assert_eq!(super::figure(1, 1_024).unwrap().rows.len(), 1);
    }
}
