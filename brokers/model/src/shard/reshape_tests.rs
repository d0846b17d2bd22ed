//! Parents before children, where a shard in between was split while it was empty.
//!
//! Leaves out everything else about splitting and merging: the conformance suite has what everybody sees, the trials the rest.

use super::{ShardModel, ShardOptions};
use crate::batch::{ChannelId, ChannelSpec, Control, LaneId, Publishes, Receipt, Settlement, Token, Verdict};
use crate::broker::{ClientSpec, Role};
use crate::completion::Event;
use crate::contract::Contract;
use crate::machine::{Effects, Model, Write};
use crate::time::Time;

const ADMINISTRATOR: u32 = 0;
const PRODUCER: u32 = 1;
const WORKER: u32 = 2;
const NOW: Time = Time(1);

/// A stream of one shard, and a worker with much credit.
struct Stream {
    model: ShardModel,
    tickets: u64,
    /// Shards that the worker was assigned, in order.
    assigned: Vec<u32>,
    /// What it was given.
    got: Vec<Receipt>,
}

impl Stream {
    fn new() -> Self {
        let options = ShardOptions { failover_time: None, ..ShardOptions::default() };
        let model = ShardModel::new(options, Contract::default()).expect("the default contract is kept");
        let mut stream = Self { model, tickets: 0, assigned: Vec::new(), got: Vec::new() };
        stream.connect(ADMINISTRATOR, Role::Administrator);
        let groups = vec!["g".to_owned()];
        let spec = ChannelSpec { name: "s".to_owned(), lanes: 1, groups, ..ChannelSpec::default() };
        stream.ask(ADMINISTRATOR, &Control::Create(spec));
        stream.connect(PRODUCER, Role::Producer);
        stream.connect(WORKER, Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] });
        stream.ask(WORKER, &Control::Grant(1_000));
        stream
    }

    fn note(&mut self, out: &Effects) {
        for deliver in &out.deliveries {
            let receipt = |n| Receipt { position: deliver.receipt.position + n, ..deliver.receipt };
            self.got.extend((0..u64::from(deliver.count)).map(receipt));
        }
        for (_, event) in &out.events {
            if let Event::LaneAssigned { lane, .. } = event {
                self.assigned.push(lane.0);
            }
        }
    }

    fn connect(&mut self, number: u32, role: Role) {
        let mut out = Effects::default();
        let spec = ClientSpec { number, role, placement: 0 };
        self.model.connect(NOW, &spec, &mut out).expect("a new number");
        self.note(&out);
    }

    fn ask(&mut self, client: u32, control: &Control) {
        let mut out = Effects::default();
        self.model.control(NOW, client, Token(99), control, &mut out);
        self.store(out);
    }

    fn split(&mut self, shard: u32) {
        self.ask(ADMINISTRATOR, &Control::Split { lane: LaneId(shard), at: None });
    }

    /// Publishes records of eight keys and has them stored.
    fn publish(&mut self) {
        let mut batch = Publishes::new();
        for n in 0..8_u8 {
            batch.push(Token(n.into()), ChannelId(0), &[b'k', n], b"", b"record");
        }
        let mut out = Effects::default();
        assert_eq!(self.model.publish(NOW, PRODUCER, &batch, &mut out).taken, 8);
        self.store(out);
    }

    /// Everything that was asked for is stored.
    fn store(&mut self, mut out: Effects) {
        for _ in 0..out.writes.iter().filter(|write| matches!(write, Write::Barrier(_))).count() {
            self.model.stored(NOW, self.tickets, Ok(()), &mut out);
            self.tickets += 1;
        }
        self.note(&out);
    }

    /// Checkpoints what was given from `from` on.
    fn settle(&mut self, from: usize) {
        let settle = |&receipt: &Receipt| Settlement { token: Token(77), receipt, verdict: Verdict::Ack };
        let settlements: Vec<Settlement> = self.got[from..].iter().map(settle).collect();
        let mut out = Effects::default();
        self.model.settle(NOW, WORKER, &settlements, &mut out);
        self.note(&out);
    }

    /// Of which shards the worker was given something, each once.
    fn shards(&self) -> Vec<u32> {
        let mut shards: Vec<u32> = self.got.iter().map(|receipt| receipt.lane.0).collect();
        shards.dedup();
        shards
    }
}

#[test]
fn a_shard_of_a_shard_that_was_split_while_it_was_empty_waits_for_those_before_both() {
    let mut stream = Stream::new();
    stream.publish();
    assert_eq!((stream.assigned.as_slice(), stream.shards()), (&[0][..], vec![0]));
    stream.split(0);
    // Nothing came to shard 1 or 2 yet, and of shard 0 nothing is checkpointed.
    stream.split(1);
    stream.split(2);
    stream.publish();
    assert_eq!(
        (stream.assigned.as_slice(), stream.shards()),
        (&[0][..], vec![0]),
        "the first shard is not read to its end"
    );
    stream.settle(0);
    let mut children: Vec<u32> = stream.assigned[1..].to_vec();
    children.sort_unstable();
    assert_eq!(children, [3, 4, 5, 6], "all at once: the empty ones between have nothing to be read");
    assert_eq!(stream.got.len(), 16);
    assert!(stream.got[8..].iter().all(|receipt| children.contains(&receipt.lane.0)), "{:?}", stream.got);
}

#[test]
fn a_shard_of_merged_shards_of_which_one_was_split_while_it_was_empty_waits_for_the_first() {
    let mut stream = Stream::new();
    stream.publish();
    stream.split(0);
    // Shards 1 and 2 are empty; their merger, shard 3, is split while it is empty too.
    stream.ask(ADMINISTRATOR, &Control::Merge { lane: LaneId(1), with: LaneId(2) });
    stream.split(3);
    stream.publish();
    assert_eq!((stream.assigned.as_slice(), stream.got.len()), (&[0][..], 8));
    stream.settle(0);
    assert_eq!((stream.assigned.len(), stream.got.len()), (3, 16), "shards 4 and 5");
}
