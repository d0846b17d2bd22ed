//! The shard stream, as in Amazon Kinesis: streams of shards over a 128-bit hash range, sequence numbers, limits per shard.
//!
//! A record goes to the shard whose range holds the MD5 of its partition key. Each shard takes so many records and so many
//! bytes per second, as token buckets of one second. Where no order is asked, a record over the limit is throttled alone and
//! the rest of the batch goes on, as with PutRecords. Where an order is asked, the batch is cut short before it, as with
//! PutRecord and SequenceNumberForOrdering: nothing overtakes, and the producer is told when it may go on. A shard begins with little in
//! its buckets ([`INITIAL_CREDIT`]): a steady stream has no burst left, and one that has just begun is not to look as if it had.
//!
//! Shards are shared out among an application's workers as leases; a worker that is silent for the failover time loses its leases, and
//! settling checkpoints through a sequence number. Reading is enhanced fan-out: each application is pushed to, with a read limit
//! of its own per shard; or polling: applications take turns with calls and share what a shard gives. What counts against
//! either limit is counted by the shard's sparse index: exact over a stretch, spread evenly over the records within. Sequence
//! numbers are dense per shard; a seek is an iterator (TRIM_HORIZON, LATEST, AT_SEQUENCE_NUMBER, AT_TIMESTAMP). Giving a record
//! back or extending a lease by hand does not exist and is refused.
//!
//! Analytics over what is read from the shards, as the service runs them beside the stream, are [`crate::windows`].
//!
//! A shard is split in two, or merged with a neighbour: the old ones take nothing more, and each application reads them to their end
//! before the new ones, so that the records of a key come in order.
//!
//! In provisioned mode the administrator splits and merges; in on-demand mode the stream splits shards by what they take. Leaves
//! out merging by itself, and UpdateShardCount, which is a sequence of splits and merges.

pub mod hash_range;
#[cfg(test)]
mod interleavings;
mod options;
#[cfg(test)]
mod reading_tests;
pub mod reference;
mod reshape;
#[cfg(test)]
mod reshape_tests;
mod scaling;
#[cfg(test)]
mod tests;
mod throttle;

pub use self::hash_range::KeyHash;
use self::hash_range::{KeyCache, hash_without_key};
pub use self::options::{FULL_CREDIT, INITIAL_CREDIT, ON_DEMAND_SHARDS, Readers, SCALES_WITHIN, ShardOptions};
use self::reshape::ShardRanges;
use self::scaling::Scaling;
use self::throttle::{Waiting, WriteLimits};
use crate::batch::{Accepted, Blocked, ChannelId, Control, Message, Publishes, Settlement, Token};
use crate::broker::{ClientSpec, ConnectError};
use crate::capabilities::{Capabilities, Settings, Unsupported};
use crate::completion::{Failure, Refusal, Status};
use crate::contract::{Contract, Order};
use crate::journal::{Journal, JournalError};
use crate::machine::{Effects, Model};
use crate::stream::{Stream, ended, refuse_all};
use crate::time::{Span, Time};

/// Streams of shards, as one state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardModel {
    options: ShardOptions,
    capabilities: Capabilities,
    stream: Stream,
    /// By channel: its shards' ranges, or none once it was deleted.
    ranges: Vec<Option<ShardRanges>>,
    /// By shard.
    limits: Vec<WriteLimits>,
    keys: KeyCache,
    without_key: u64,
    keeps_order: bool,
    waiting: Waiting,
    scaling: Option<Scaling>,
}

/// Where a record goes.
enum Route {
    To(u32),
    Refused(Refusal),
    OverLimit(Time),
}

impl ShardModel {
    /// A shard stream without streams that keeps `contract`, or what is missing.
    pub fn new(options: ShardOptions, contract: Contract) -> Result<Self, Unsupported> {
        let settings = options.honour(&contract)?;
        let stream = Stream::new(options.stream(contract, &settings));
        let scaling = options.on_demand.map(Scaling::every);
        Ok(Self {
            capabilities: options.capabilities(),
            keys: KeyCache::new(options.hash),
            options,
            stream,
            ranges: Vec::new(),
            limits: Vec::new(),
            without_key: 0,
            keeps_order: contract.order != Order::None,
            waiting: Waiting::default(),
            scaling,
        })
    }

    /// Brings the ranges and limits up to date after a stream was created or deleted.
    fn note_streams(&mut self, now: Time) {
        for number in 0..self.stream.channels() {
            let channel = self.stream.channel(ChannelId(number));
            if (number as usize) < self.ranges.len() {
                if channel.is_none() {
                    self.ranges[number as usize] = None;
                }
                continue;
            }
            self.ranges.push(channel.map(|channel| ShardRanges::even(channel.first, channel.lanes)));
            let shards = self.stream.next_lane().0 as usize;
            self.limits.resize(shards, self.new_limits(now));
        }
    }

    /// The shard of a record of `bytes`, once its limits let it through.
    #[inline]
    fn route(&mut self, now: Time, message: &Message<'_>, bytes: u64) -> Route {
        let Some(Some(stream)) = self.ranges.get(message.channel.0 as usize) else {
            return Route::Refused(Refusal::NoSuchLane);
        };
        if bytes > u64::from(self.options.largest()) {
            return Route::Refused(Refusal::TooLarge);
        }
        let hash =
            if message.key.is_empty() { hash_without_key(self.without_key) } else { self.keys.hash_of(message.key) };
        let shard = stream.find(hash);
        let admitted = self.limits[shard as usize].admit(now, bytes as u32);
        // One that is held back tries the same shard again, so that the time given for it is right.
        let stays = admitted.is_err() && self.keeps_order;
        self.without_key += u64::from(message.key.is_empty() && !stays);
        if let (Ok(()), Some(scaling)) = (admitted, &mut self.scaling) {
            scaling.count(now, shard, bytes as u32);
        }
        admitted.map_or_else(Route::OverLimit, |()| Route::To(shard))
    }
}

impl Model for ShardModel {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        self.options.honour(contract)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec, out: &mut Effects) -> Result<(), ConnectError> {
        self.stream.connect(now, client, out)
    }

    fn publish(&mut self, now: Time, client: u32, batch: &Publishes, out: &mut Effects) -> Accepted {
        let room = match self.stream.open_publish(client) {
            Ok(room) => room,
            Err(refusal) => return refuse_all(client, batch, refusal, out),
        };
        let room = room.min(batch.len());
        let mut held_at = None;
        self.stream.reserve(room);
        for index in 0..room {
            let message = batch.get(index);
            let bytes = message.key.len() as u64 + message.headers.len() as u64 + u64::from(message.payload_len);
            let status = match self.route(now, &message, bytes) {
                Route::To(shard) => {
                    self.stream.append(now, shard, index as u32, message.token, bytes as u32, out);
                    continue;
                }
                Route::OverLimit(ready) if self.keeps_order => {
                    self.waiting.hold(client, ready, out);
                    held_at = Some(index);
                    break;
                }
                Route::OverLimit(_) => Status::Throttled,
                Route::Refused(refusal) => Status::Refused(refusal),
            };
            out.outcomes.push(ended(client, message.token, status));
        }
        self.stream.close_publish(client, out);
        if let Some(taken) = held_at {
            return Accepted { taken, blocked: Some(Blocked::RateLimit) };
        }
        if self.waiting.next().is_some() {
            self.waiting.through(client, out);
        }
        Accepted { taken: room, blocked: (room < batch.len()).then_some(Blocked::Window) }
    }

    fn settle(&mut self, now: Time, client: u32, settlements: &[Settlement], out: &mut Effects) {
        self.stream.settle(now, client, settlements, out);
    }

    fn control(&mut self, now: Time, client: u32, token: Token, control: &Control, out: &mut Effects) {
        if let (Control::Create(spec), Some(most)) = (control, self.options.registered())
            && spec.groups.len() > most as usize
        {
            out.outcomes.push(ended(client, token, Status::Refused(Refusal::OutOfRange)));
            return;
        }
        if matches!(control, Control::Split { .. } | Control::Merge { .. }) {
            self.reshape(now, client, token, control, out);
            return;
        }
        self.stream.control(now, client, token, control, out);
        match control {
            Control::Create(_) | Control::Delete(_) => self.note_streams(now),
            Control::Close => self.waiting.forget(client),
            Control::Grant(_)
            | Control::Seek { .. }
            | Control::Position(_)
            | Control::Flush
            | Control::Release(_)
            | Control::Describe(_)
            | Control::Transaction(_)
            | Control::Split { .. }
            | Control::Merge { .. } => {}
        }
    }

    fn heard(&mut self, now: Time, client: u32, out: &mut Effects) {
        self.stream.heard(now, client, out);
    }

    fn session_timeout(&self) -> Option<Span> {
        self.stream.config.groups.session
    }

    fn stored(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, out: &mut Effects) {
        self.stream.stored(now, ticket, result, out);
    }

    fn next_deadline(&self) -> Option<Time> {
        let scaling = self.scaling.as_ref().and_then(Scaling::next);
        [self.stream.next_deadline(), self.waiting.next(), scaling].into_iter().flatten().min()
    }

    fn on_deadline(&mut self, now: Time, out: &mut Effects) {
        self.waiting.due(now, out);
        self.scale(now, out);
        self.stream.on_deadline(now, out);
    }

    fn commits_first(&self) -> bool {
        self.stream.config.commit_first
    }

    fn restore(&mut self, now: Time, journal: &Journal, out: &mut Effects) -> Result<(), JournalError> {
        self.stream.restore(now, journal, out)?;
        self.note_streams(now);
        self.reshape_again(now, journal)
    }
}
