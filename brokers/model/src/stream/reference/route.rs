//! Which lane the reference expects a message in, the plain way: every limit is counted from the first message on.
//!
//! Leaves out the hash functions themselves, which have published test vectors.

use std::collections::BTreeMap;

use crate::batch::Message;
use crate::completion::{Refusal, Status};
use crate::contract::Delivery;
use crate::log::{Assignment, Cleanup, Isolation, LogOptions, partitioner};
use crate::shard::{ShardOptions, hash_range};
use crate::time::{Span, Time};

/// How messages are routed and limited.
#[derive(Clone, Debug)]
pub enum Rules {
    /// As in the log.
    Log {
        /// The model's options.
        options: LogOptions,
        /// By the channel's first lane: the batch that last had a record without a key, and where it went.
        sticky: BTreeMap<u32, (u64, u32)>,
    },
    /// As in the shard stream.
    Shard {
        /// The model's options.
        options: ShardOptions,
        /// By shard, what was let through: when, and how many bytes.
        admitted: BTreeMap<u32, Vec<(Time, u32)>>,
        /// How many records had no key so far.
        without_key: u64,
        /// By lane, when it began.
        began: Vec<Time>,
        /// When the first record was let through that does not count for an earlier interval, on demand.
        begun: Option<Time>,
    },
}

impl Rules {
    /// The log's rules.
    pub fn log(options: LogOptions) -> Self {
        Self::Log { options, sticky: BTreeMap::new() }
    }

    /// The shard stream's rules.
    pub fn shard(options: ShardOptions) -> Self {
        Self::Shard { options, admitted: BTreeMap::new(), without_key: 0, began: Vec::new(), begun: None }
    }

    /// Nothing was routed or let through yet.
    #[cfg(test)]
    pub(super) fn restarted(&mut self) {
        match self {
            Self::Log { sticky, .. } => sticky.clear(),
            Self::Shard { admitted, without_key, began, begun, .. } => {
                admitted.clear();
                began.clear();
                (*without_key, *begun) = (0, None);
            }
        }
    }

    /// There are so many lanes now; those that are new begin.
    pub(super) fn begin(&mut self, now: Time, lanes: usize) {
        if let Self::Shard { began, .. } = self {
            began.resize(lanes, now);
        }
    }

    /// Whether members may have to wait for what is there.
    pub(super) fn limits_reading(&self) -> bool {
        matches!(self, Self::Shard { .. })
    }

    /// How long a member may be silent.
    pub(super) fn session(&self) -> Option<Span> {
        match self {
            Self::Log { options, .. } => options.session_timeout,
            Self::Shard { options, .. } => options.failover_time,
        }
    }

    /// Whether all lanes of a group are taken back before any is assigned.
    pub(super) fn is_eager(&self) -> bool {
        matches!(self, Self::Log { options: LogOptions { assignment: Assignment::Eager, .. }, .. })
    }

    /// How long a transaction may be open, and whether members get only what is committed; nothing where there are none.
    pub(super) fn transactions(&self, delivery: Delivery) -> Option<(Span, bool)> {
        match self {
            Self::Log { options, .. } => {
                Some((options.transaction_timeout, options.isolation_for(delivery) == Isolation::ReadCommitted))
            }
            Self::Shard { .. } => None,
        }
    }

    /// How many sequences of a producer are remembered, and for how long; nothing where repeats are not known.
    pub(super) fn idempotence(&self) -> Option<(u64, Span)> {
        match self {
            Self::Log { options, .. } => {
                options.knows_repeats().then_some((options.max_in_flight.into(), options.producer_expiration))
            }
            Self::Shard { .. } => None,
        }
    }

    /// Whether a message is refused for its size.
    pub(super) fn is_too_large(&self, message: &Message<'_>) -> bool {
        let (Self::Log { options: LogOptions { max_message_bytes: most, .. }, .. }
        | Self::Shard { options: ShardOptions { max_message_bytes: most, .. }, .. }) = self;
        (message.key.len() + message.headers.len()) as u32 + message.payload_len > *most
    }

    /// Where a log is compacted: how large a newest part is that is not, and how long a tombstone stays.
    pub(super) fn compaction(&self) -> Option<(u64, Span)> {
        match self {
            Self::Log { options, .. } if options.cleanup == Cleanup::Compact => {
                Some((options.active_bytes, options.delete_retention))
            }
            Self::Log { .. } | Self::Shard { .. } => None,
        }
    }

    /// Whether a message written at `time` must still be there.
    pub(super) fn keeps(&self, time: Time, now: Time) -> bool {
        let (Self::Log { options: LogOptions { retention, .. }, .. }
        | Self::Shard { options: ShardOptions { retention, .. }, .. }) = self;
        self.compaction().is_some() || retention.is_none_or(|age| time + age > now)
    }

    /// How many lanes there may be.
    pub(super) fn most_lanes(&self) -> u32 {
        match self {
            Self::Log { options, .. } => options.max_partitions,
            Self::Shard { options, .. } => options.max_shards,
        }
    }

    /// Whether lanes can be split and merged.
    pub(super) fn splits(&self) -> bool {
        matches!(self, Self::Shard { options: ShardOptions { on_demand: None, .. }, .. })
    }

    /// The shards that are due to be split, in order.
    pub(super) fn too_full(&mut self, now: Time) -> Vec<u32> {
        let Self::Shard { options, admitted, begun, .. } = self else { return Vec::new() };
        let (Some(interval), Some(from)) = (options.on_demand, *begun) else { return Vec::new() };
        if from + interval > now {
            return Vec::new();
        }
        *begun = None;
        let seconds = now.since(from).0 as f64 / 1e9;
        let share = |log: &[(Time, u32)]| {
            let counted: Vec<f64> = log.iter().filter(|(at, _)| *at >= from).map(|&(_, b)| f64::from(b)).collect();
            let of = |amount: f64, limit: u32| amount / seconds / f64::from(limit);
            of(counted.len() as f64, options.write_records_per_s)
                .max(of(counted.iter().sum(), options.write_bytes_per_s))
        };
        let mut full: Vec<(f64, u32)> = admitted.iter().map(|(&shard, log)| (share(log), shard)).collect();
        full.retain(|&(share, _)| share > 0.5);
        full.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        full.into_iter().map(|(_, shard)| shard).collect()
    }

    /// The lane, or why there is none; `lanes` are those of the channel that take messages, with the hashes of their keys. `call` is
    /// the same for all messages of a batch that is not empty.
    pub(super) fn route(
        &mut self,
        now: Time,
        call: u64,
        message: &Message<'_>,
        lanes: &[(u32, (u128, u128))],
        keeps_order: bool,
    ) -> Result<u32, Status> {
        let bytes = message.key.len() as u32 + message.headers.len() as u32 + message.payload_len;
        match self {
            Self::Log { options, sticky } => {
                if bytes > options.max_message_bytes {
                    return Err(Status::Refused(Refusal::TooLarge));
                }
                if options.cleanup == Cleanup::Compact && message.key.is_empty() {
                    return Err(Status::Refused(Refusal::NoKey));
                }
                let (first, lanes) = (lanes[0].0, lanes.len() as u32);
                if !message.key.is_empty() {
                    return Ok(first + partitioner::partition_of(message.key, lanes));
                }
                let (last, lane) = sticky.get(&first).copied().unwrap_or((u64::MAX, lanes - 1));
                let lane = if last == call { lane } else { (lane + 1) % lanes };
                sticky.insert(first, (call, lane));
                Ok(first + lane)
            }
            Self::Shard { options, admitted, without_key, began, begun } => {
                if bytes > options.max_message_bytes.min(options.write_bytes_per_s) {
                    return Err(Status::Refused(Refusal::TooLarge));
                }
                let hash = if message.key.is_empty() {
                    hash_range::hash_without_key(*without_key)
                } else {
                    hash_range::hash_of(message.key)
                };
                let inside = |&&(_, (low, high)): &&(u32, (u128, u128))| (low..=high).contains(&hash);
                let &(shard, _) = lanes.iter().find(inside).expect("the ranges cover every hash");
                let log = admitted.entry(shard).or_default();
                let began = (began[shard as usize], options.initial_credit);
                let records = allows(log, (options.write_records_per_s, 1), began, now, 1, |_| 1);
                let fits = records && allows(log, (options.write_bytes_per_s, 0), began, now, bytes, |bytes| bytes);
                if fits {
                    log.push((now, bytes));
                    begun.get_or_insert(now);
                }
                *without_key += u64::from(message.key.is_empty() && (fits || !keeps_order));
                if fits { Ok(shard) } else { Err(Status::Throttled) }
            }
        }
    }
}

/// Whether a bucket of one second's `rate` has `need`, counted from when it began, with what `credit` brings and `least` in any case.
fn allows(
    log: &[(Time, u32)],
    (rate, least): (u32, u32),
    (began, credit): (Time, Span),
    now: Time,
    need: u32,
    cost: impl Fn(u32) -> u32,
) -> bool {
    const SECOND: i128 = 1_000_000_000;
    let capacity = i128::from(rate) * SECOND;
    let credited = i128::from(rate) * i128::from(credit.0);
    let mut level = capacity.min(credited.max(i128::from(least) * SECOND));
    let mut at = began;
    for &(time, bytes) in log {
        level = capacity.min(level + i128::from(time.since(at).0) * i128::from(rate));
        level -= i128::from(cost(bytes)) * SECOND;
        at = time;
    }
    level = capacity.min(level + i128::from(now.since(at).0) * i128::from(rate));
    level >= i128::from(need) * SECOND
}
