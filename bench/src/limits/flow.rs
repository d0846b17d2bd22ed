//! Rows of messages that go through: queue and shard against a channel and the log, and fan-out against one consumer.
//!
//! Leaves out what many unsettled messages cost, which is in `held`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brokerlab_embedded::backends::{Place, open};
use brokerlab_embedded::url::BackendUrl;
use brokerlab_host::{Clock as _, WallClock};
use brokerlab_model::{
    Batch, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Contract, Control, Order, Publishes, Receipt, Role,
    Settlement, Storage, Time, Token, Verdict,
};

use super::bare::boxed_channel;
use super::rig::{Rig, Setup, batch, batch_from, copies};
use super::{Goal, Open, Pair, Size, Unit};
use crate::cpu::cost_ns;

pub(super) fn rows(size: Size) -> Vec<Open> {
    let mut rows = vec![
        Open::new(
            "`queue`, memory, 100 B × 64, producer and consumer on a core each: enqueue → deliver → ack",
            move |_| Ok(channel(size)),
        ),
        Open::new("`queue`, journalled, 100 B × 16: enqueue → deliver → ack", move |dir| journalled(dir, size)),
    ];
    for (lanes, least) in [(4, 0.5), (64, 0.2)] {
        // The service's rule by the side of a hash that costs next to nothing; for MD5 it matters whether keys come again.
        for (hash, keys) in [("md5", Keys::Again), ("xxh3", Keys::Again), ("md5", Keys::New), ("xxh3", Keys::New)] {
            let goal = if (hash, keys) == ("md5", Keys::New) { Goal::Shown } else { Goal::AtLeast(least) };
            let name = format!("`shard` put → get, memory, 100 B × 256, {lanes} shards, hash={hash}, {}", keys.name());
            rows.push(Open::new(&name, move |_| shards(size, lanes, (hash, keys), goal)));
        }
    }
    rows.push(Open::new("fan-out to 8 consumers of a lane, 100 B × 256, per message published", move |_| {
        fan_out(size)
    }));
    rows
}

/// Which keys messages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// The same in each batch.
    Again,
    /// Others than any before.
    New,
}

impl Keys {
    fn name(self) -> &'static str {
        match self {
            Self::Again => "256 keys that come again",
            Self::New => "no key twice",
        }
    }
}

/// Batches to be published.
struct Offered {
    template: Publishes,
    keys: Keys,
    next: u64,
}

impl Offered {
    fn copies_of(template: Publishes) -> Self {
        Self { template, keys: Keys::Again, next: 0 }
    }

    fn batches(&mut self, count: usize) -> Vec<Batch> {
        match self.keys {
            Keys::Again => copies(&self.template, count),
            Keys::New => {
                let each = self.template.len() as u64;
                let one = |n| Batch::Publish(batch_from(self.next + n * each, each as usize, 100));
                let batches = (0..count as u64).map(one).collect();
                self.next += count as u64 * each;
                batches
            }
        }
    }
}

fn memory(url: &str, lanes: u32, groups: u32) -> anyhow::Result<Rig> {
    Rig::open(&Setup { url, storage: Storage::Memory, data: None, lanes, groups })
}

/// How messages end that were delivered.
#[derive(Clone, Copy, Debug)]
enum Settle {
    Each,
    Last,
}

/// CPU per message of publishing so many batches, `at_once` at a time, delivering them to every member and settling them.
fn through(rig: &mut Rig, from: &mut Offered, batches: usize, at_once: usize, settle: Settle) -> anyhow::Result<f64> {
    let (mut spent, mut result) = (0, Ok(()));
    let expected = (at_once * from.template.len()) as u64;
    for _ in 0..batches.div_ceil(at_once) {
        let mut offered = from.batches(at_once);
        spent += cost_ns(|| {
            result = rig.publish(&mut offered).and_then(|()| {
                for member in 0..rig.members.len() {
                    rig.follow(member, expected, |completions, settlements| match settle {
                        Settle::Each => {
                            settlements.extend(completions.deliveries.iter().map(|delivery| ack(delivery.receipt)));
                        }
                        Settle::Last => {
                            settlements.extend(completions.deliveries.runs().map(|run| ack(last_of(run))));
                            last_of_each_lane(settlements);
                        }
                    })?;
                }
                // Retention.
                rig.run_workers();
                Ok(())
            });
        });
        std::mem::replace(&mut result, Ok(()))?;
    }
    rig.all_settled()?;
    Ok(spent as f64 / (batches.div_ceil(at_once) as u64 * expected) as f64)
}

/// The last receipt of a run.
fn last_of((first, count): (Receipt, u32)) -> Receipt {
    Receipt { position: first.position + u64::from(count) - 1, ..first }
}

fn ack(receipt: Receipt) -> Settlement {
    Settlement { token: Token(0), receipt, verdict: Verdict::Ack }
}

/// Leaves the last of each run of one lane: a commit covers what comes before it.
fn last_of_each_lane(settlements: &mut Vec<Settlement>) {
    let mut kept = 0;
    for at in 0..settlements.len() {
        if settlements.get(at + 1).is_none_or(|next| next.receipt.lane != settlements[at].receipt.lane) {
            settlements.swap(kept, at);
            kept += 1;
        }
    }
    settlements.truncate(kept);
}

fn journalled(dir: &Path, size: Size) -> anyhow::Result<Pair> {
    let opened = |name: &str, url, groups| {
        let data = dir.join(name);
        std::fs::create_dir_all(&data)?;
        Rig::open(&Setup { url, storage: Storage::PageCache, data: Some(&data), lanes: 1, groups })
    };
    let mut queue = opened("queue", "queue?max_memory=96MiB", 1)?;
    let mut log = opened("log-beside-queue", "log?retention_bytes=64MiB&max_memory=96MiB", 0)?;
    let mut offered = Offered::copies_of(batch(16, 100, false));
    let mut same = Offered::copies_of(batch(16, 100, false));
    let batches = size.of(32_768, 64);
    Ok(Pair {
        reference: "`log` append of the same",
        goal: Goal::AtLeast(0.6),
        unit: Unit::Cpu,
        ours: Box::new(move || through(&mut queue, &mut offered, batches, 16, Settle::Each)),
        theirs: Box::new(move || through(&mut log, &mut same, batches, 16, Settle::Last)),
    })
}

fn shards(size: Size, lanes: u32, (hash, keys): (&str, Keys), goal: Goal) -> anyhow::Result<Pair> {
    let limits = "write_records=4000000000&write_bytes=3GiB&read_bytes=3GiB";
    let url = format!("shard?hash={hash}&{limits}&retention=200us&max_memory=96MiB");
    let mut shard = memory(&url, lanes, 1)?;
    let mut log = memory("log?retention=200us&max_memory=96MiB", lanes, 1)?;
    let mut offered = Offered { keys, ..Offered::copies_of(batch(256, 100, true)) };
    let mut same = Offered { keys, ..Offered::copies_of(batch(256, 100, true)) };
    let batches = size.of(2_048, 8);
    Ok(Pair {
        reference: "`log`, memory, as many partitions",
        goal,
        unit: Unit::Cpu,
        ours: Box::new(move || through(&mut shard, &mut offered, batches, 1, Settle::Last)),
        theirs: Box::new(move || through(&mut log, &mut same, batches, 1, Settle::Last)),
    })
}

fn fan_out(size: Size) -> anyhow::Result<Pair> {
    let url = "log?retention=200us&max_memory=96MiB";
    let (mut eight, mut one) = (memory(url, 1, 8)?, memory(url, 1, 1)?);
    let mut offered = Offered::copies_of(batch(256, 100, false));
    let mut same = Offered::copies_of(batch(256, 100, false));
    let batches = size.of(2_048, 8);
    Ok(Pair {
        reference: "one consumer",
        goal: Goal::AtMost(1.3),
        unit: Unit::Cpu,
        ours: Box::new(move || through(&mut eight, &mut offered, batches, 1, Settle::Last)),
        theirs: Box::new(move || through(&mut one, &mut same, batches, 1, Settle::Last)),
    })
}

fn channel(size: Size) -> Pair {
    let count = size.of(2_000_000, 6_400);
    Pair {
        reference: "bounded channel of boxed 100 B",
        goal: Goal::AtLeast(5.0),
        unit: Unit::Wall,
        ours: Box::new(move || Ok(two_threads(count)? as f64 / count as f64)),
        theirs: Box::new(move || Ok(boxed_channel(count)? as f64 / count as f64)),
    }
}

/// Wall time in nanoseconds of `count` messages through a queue in memory, producer and consumer on a thread each.
fn two_threads(count: usize) -> anyhow::Result<u64> {
    let contract = Contract { storage: Storage::Memory, order: Order::None, ..Contract::default() };
    let mut broker = open(&BackendUrl::parse("queue?max_memory=64MiB")?, &contract, &Place::default())?;
    let mut administrator =
        broker.connect(Time::ZERO, &ClientSpec { number: 0, role: Role::Administrator, placement: 0 })?;
    let channel = ChannelSpec {
        name: "messages".to_owned(),
        lanes: 1,
        groups: vec!["consumers".to_owned()],
        ..ChannelSpec::default()
    };
    let mut create = Batch::Control(vec![(Token(0), Control::Create(channel))]);
    anyhow::ensure!(administrator.submit(Time::ZERO, &mut create).taken == 1, "the channel was not created");
    let role = Role::Member { group: "consumers".to_owned(), channels: vec![ChannelId(0)] };
    let producer = broker.connect(Time::ZERO, &ClientSpec { number: 1, role: Role::Producer, placement: 0 })?;
    let member = broker.connect(Time::ZERO, &ClientSpec { number: 2, role, placement: 1 })?;
    let stop = Arc::new(AtomicBool::new(false));
    let clock = WallClock::new();
    let begin = clock.now();
    let producing = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || produce(producer, count, clock, &stop))
    };
    let consumed = consume(member, count, clock);
    let took = clock.now().since(begin).0;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = producing.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
    anyhow::ensure!(acknowledged == count && consumed == count, "{acknowledged} acknowledged, {consumed} consumed");
    Ok(took)
}

/// Publishes in batches of 64, at most 1,024 in flight, and counts what was acknowledged.
fn produce(mut producer: Box<dyn Client>, count: usize, clock: WallClock, stop: &AtomicBool) -> usize {
    let payload = [0x5a; 100];
    let (mut batch, mut completions) = (Batch::Publish(Publishes::new()), Completions::default());
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < count && !stop.load(Ordering::Relaxed) {
        if let Batch::Publish(publishes) = &mut batch
            && publishes.is_empty()
        {
            for _ in 0..(count - sent).min(64) {
                publishes.push(Token(sent as u64), ChannelId(0), &[], &[], &payload);
                sent += 1;
            }
        }
        if !batch.is_empty() && producer.submit(clock.now(), &mut batch).taken == 0 {
            std::thread::yield_now();
        }
        completions.clear();
        producer.poll(clock.now(), &mut completions);
        acknowledged += completions.outcomes.len();
    }
    acknowledged
}

/// Takes `count` messages and acknowledges each.
fn consume(mut member: Box<dyn Client>, count: usize, clock: WallClock) -> usize {
    let (mut completions, mut settle) = (Completions::default(), Batch::Settle(Vec::new()));
    let (mut consumed, mut granted) = (0, 0);
    while consumed < count {
        if granted < consumed + 1_024 {
            let mut grant = Batch::Control(vec![(Token(0), Control::Grant(1_024))]);
            granted += 1_024;
            let _always_taken = member.submit(clock.now(), &mut grant);
        }
        completions.clear();
        member.poll(clock.now(), &mut completions);
        if completions.deliveries.is_empty() {
            std::hint::spin_loop();
            continue;
        }
        consumed += completions.deliveries.len();
        if let Batch::Settle(settlements) = &mut settle {
            settlements.extend(completions.deliveries.iter().map(|delivery| ack(delivery.receipt)));
        }
        let _always_taken = member.submit(clock.now(), &mut settle);
    }
    consumed
}
