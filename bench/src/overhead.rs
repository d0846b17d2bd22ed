//! Figure `overhead`: what measuring one message costs in CPU — generator, recorder, checker — beside a bare loop that reads
//! the clock and records one histogram sample.
//!
//! Leaves out the host's own loop and every backend; the result of each run holds their sum.

use brokerlab_host::{Clock as _, WallClock};
use brokerlab_model::{ChannelId, Contract, Order, Publishes, Span, Time, Token};
use brokerlab_workloads::check::{Arrived, CheckPlan, Checker, MessageId};
use brokerlab_workloads::profile::Profile;
use brokerlab_workloads::record::{Delay, Moments, Plan, Recorder};
use brokerlab_workloads::{Producer, Scheduled, Stamp, Workload, body_crc, key_hash};
use hdrhistogram::Histogram;

use crate::cpu::cost_ns;
use crate::table::{Figure, Row, Spread};

/// Messages of one batch, as the host builds them.
const BATCH: usize = 64;
/// The most that one message may cost, in nanoseconds of CPU.
const GOAL_NS: f64 = 150.0;

const PROFILE: &str = r#"
name = "overhead"
about = "Poisson arrivals, Zipf keys, 100 B of random bytes, one group. For the figure only."
duration = "10s"
arrivals = { kind = "poisson", rate = "1M/s" }
sizes = { kind = "fixed", size = "100B" }
keys = { kind = "zipf", count = 100000, exponent = 0.99 }
payload = { kind = "random" }

[[groups]]
name = "consumers"
members = 1
"#;

/// What one repetition found, in nanoseconds of CPU per message.
#[derive(Clone, Copy, Debug, Default)]
struct Costs {
    generator: f64,
    checker: f64,
    recorder: f64,
    bare: f64,
}

/// One batch on its way through the three parts.
#[derive(Default)]
struct Slot {
    batch: Publishes,
    scheduled: Vec<Scheduled>,
    arrived: Vec<Arrived>,
    stamps: Vec<Stamp>,
}

/// Everything that lives from batch to batch.
struct Harness {
    workload: Workload,
    producer: Producer,
    key: Vec<u8>,
    recorder: Recorder,
    checker: Checker,
    clock: WallClock,
    corrupt: u64,
}

impl Harness {
    fn new() -> anyhow::Result<Self> {
        let profile = Profile::parse(PROFILE, "overhead.toml")?;
        let workload = Workload::new(&profile, profile.seed, 0);
        let plan = Plan { warmup: Span::ZERO, duration: profile.duration, groups: 1 };
        let check = CheckPlan { producers: 1, groups: 1, order: Order::PerKey, keys: 100_000 };
        Ok(Self {
            producer: workload.producer_unbounded(0),
            workload,
            key: Vec::new(),
            recorder: Recorder::new(plan, Time::ZERO),
            checker: Checker::new(check),
            clock: WallClock::new(),
            corrupt: 0,
        })
    }

    /// Builds one stamped batch, as the host does.
    fn generate(&mut self, slot: &mut Slot) {
        slot.batch.clear();
        slot.scheduled.clear();
        let now = self.clock.now();
        for _ in 0..BATCH {
            let Some(message) = self.producer.next() else { break };
            self.key.clear();
            self.workload.write_key(message.key, &mut self.key);
            let (producer, at) = (&self.producer, slot.batch.len());
            slot.batch.push_with(Token(message.sequence), ChannelId(message.channel), &self.key, &[], |arena| {
                producer.write_payload(message.sequence, message.size, arena);
            });
            let payload = slot.batch.payload_mut(at);
            let stamp =
                Stamp { run: 1, producer: 0, sequence: message.sequence, intended: message.intended, actual: now };
            stamp.write(payload, body_crc(payload), key_hash(&self.key));
            slot.scheduled.push(message);
        }
    }

    /// Verifies every message's checksum and feeds the checker, as the host does with acknowledgements and deliveries.
    fn check(&mut self, slot: &mut Slot) {
        slot.arrived.clear();
        slot.stamps.clear();
        for message in slot.batch.iter() {
            let hash = key_hash(message.key);
            let Ok(stamp) = Stamp::read_verified(message.payload, hash) else {
                self.corrupt += 1;
                continue;
            };
            let id = MessageId { producer: stamp.producer, sequence: stamp.sequence };
            slot.arrived.push(Arrived { id, key_hash: Some(hash), channel: 0, redelivered: false, early: false });
            slot.stamps.push(stamp);
        }
        self.checker.acknowledged_many(slot.arrived.iter().map(|arrived| arrived.id));
        self.checker.delivered_many(0, &slot.arrived);
    }

    /// Records publish, end-to-end and settle of every message, three moments each.
    fn record(&mut self, slot: &Slot) {
        let completed = self.clock.now();
        for (message, stamp) in slot.scheduled.iter().zip(&slot.stamps) {
            let late = |actual: Time| Delay { blocked: Span::ZERO, late: actual.since(message.intended) };
            let moments = Moments { intended: message.intended, actual: stamp.actual, completed };
            self.recorder.due(message.intended, 1, u64::from(message.size));
            self.recorder.sent(message.intended);
            self.recorder.published(moments, late(stamp.actual));
            self.recorder.delivered(0, moments, late(stamp.actual));
            self.recorder.settle_due(message.intended);
            self.recorder.settled(message.intended, moments, late(stamp.actual));
        }
    }
}

/// A loop that reads the clock and records one sample a message: what nobody can go below.
fn bare(messages: usize) -> anyhow::Result<f64> {
    let clock = WallClock::new();
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut last = clock.now();
    let mut refused = 0;
    let cost = cost_ns(|| {
        for _ in 0..messages {
            let now = clock.now();
            refused += usize::from(histogram.record(now.since(last).0).is_err());
            last = now;
        }
    });
    anyhow::ensure!(refused == 0, "the bare loop could not record {refused} samples");
    anyhow::ensure!(histogram.len() == messages as u64, "the bare loop lost samples");
    Ok(cost as f64 / messages as f64)
}

fn repetition(batches: usize) -> anyhow::Result<Costs> {
    // Parts are timed over many batches at a time: reading the CPU clock costs as much as several messages.
    const CHUNK: usize = 16;
    let mut harness = Harness::new()?;
    let mut slots: Vec<Slot> = (0..CHUNK).map(|_| Slot::default()).collect();
    let mut spent = [0_u64; 3];
    let chunks = batches.div_ceil(CHUNK).max(1);
    for _ in 0..chunks {
        spent[0] += cost_ns(|| slots.iter_mut().for_each(|slot| harness.generate(slot)));
        spent[1] += cost_ns(|| slots.iter_mut().for_each(|slot| harness.check(slot)));
        spent[2] += cost_ns(|| slots.iter().for_each(|slot| harness.record(slot)));
    }
    let messages = chunks * CHUNK * BATCH;
    anyhow::ensure!(harness.corrupt == 0, "a message did not match its own stamp");
    let contract = Contract { order: Order::PerKey, ..Contract::default() };
    let found = harness.checker.finish(&[0], &[messages as u64], &contract);
    anyhow::ensure!(
        found[0].delivered == messages as u64 && found[0].broken.is_empty(),
        "the checker disagrees: {found:?}"
    );
    let per = |ns: u64| ns as f64 / messages as f64;
    Ok(Costs { generator: per(spent[0]), checker: per(spent[1]), recorder: per(spent[2]), bare: bare(messages)? })
}

/// Takes the figure: `repetitions` times `batches` batches of 64.
pub fn figure(repetitions: usize, batches: usize) -> anyhow::Result<Figure> {
    repetition(batches.min(256))?; // memory is touched once before anything counts
    let costs = (0..repetitions).map(|_| repetition(batches)).collect::<anyhow::Result<Vec<_>>>()?;
    let spread = |part: fn(&Costs) -> f64| Spread::of(&costs.iter().map(part).collect::<Vec<_>>());
    let bare = spread(|c| c.bare);
    let row = |what: &str, part: fn(&Costs) -> f64, goal: Option<f64>| {
        let found = spread(part);
        let ratio = Spread::of(&costs.iter().map(|c| part(c) / c.bare).collect::<Vec<_>>());
        Row {
            what: what.to_owned(),
            found: format!("{} ns", found.show(1)),
            reference: format!("clock read + histogram record, {} ns", bare.show(1)),
            ratio: ratio.show(2),
            goal: goal.map_or_else(|| "–".to_owned(), |goal| format!("≤ {goal:.0} ns")),
            met: goal.map(|goal| found.median <= goal),
        }
    };
    Ok(Figure {
        name: "overhead",
        title: format!(
            "Thread CPU per message of generator, recorder and checker: Poisson, Zipf over 100,000 keys, 100 B of random bytes, one \
             group, batches of 64; publish, end-to-end and settle with three moments each; every message, order and checksum \
             checked. Medians of {repetitions} interleaved repetitions, with their range."
        ),
        rows: vec![
            row("generator: schedule, key, payload, stamp", |c| c.generator, None),
            row("checker: checksum, loss, duplicates, order", |c| c.checker, None),
            row("recorder: three operations", |c| c.recorder, None),
            row("together", |c| c.generator + c.checker + c.recorder, Some(GOAL_NS)),
        ],
        remarks: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_figure_runs_small_and_checks_every_message() {
        let figure = super::figure(1, 32).unwrap();
        assert_eq!(figure.rows.len(), 4);
    }
}
