//! What a backend is and can do, as data: the words of its model, the contracts that it can keep, its limits.
//!
//! Leaves out how a contract is kept; that is in the [`Settings`] which `Broker::honour` returns.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contract::{Availability, Contract, Delivery, Order, Storage};

/// The four models that are compared, and the harness's own ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A log-based stream, as in Apache Kafka.
    Log,
    /// A queue, as in RabbitMQ and SQS.
    Queue,
    /// A shard stream, as in Amazon Kinesis.
    Shard,
    /// Request and response, without a broker.
    Direct,
    /// No broker and no storage: what is sent is delivered. The harness's ceiling.
    Null,
}

/// The model's own words for what the trait calls by neutral ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// A lane: partition, queue, shard, endpoint.
    pub lane: &'static str,
    /// A position in a lane: offset, delivery tag, sequence number, request number.
    pub position: &'static str,
    /// Credit for deliveries: fetch, prefetch, GetRecords limit, free workers.
    pub grant: &'static str,
    /// Ending a delivery: commit, ack, checkpoint, response.
    pub settle: &'static str,
}

/// Something that a model has or has not. Each is covered by the conformance suite, present or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Reading again from a position.
    SeekPosition,
    /// Reading again from a time.
    SeekTime,
    /// Settling messages one by one, in any order.
    SettleEach,
    /// Giving a message back, to be delivered again.
    Requeue,
    /// A lease that ends and returns the message, and can be extended.
    Lease,
    /// Several groups, each getting every message.
    FanOut,
    /// Lanes are assigned to members of a group and move between them.
    LaneAssignment,
    /// More members than lanes all get work.
    CompetingConsumers,
    /// A member that comes later finds what was published before.
    Decoupled,
    /// A limit on a lane's rate, with throttling.
    RateLimit,
    /// A publish that is done tells its position in its lane. Without it the position is 0, and a delivery's is its own.
    PublishPosition,
    /// A description tells a lane's end, what is settled and what is in flight. Without it only what is ready is told, and the
    /// others are 0.
    FullDepth,
    /// Redeliveries are counted. Without it the count is 1 from the first redelivery on.
    RedeliveryCount,
    /// What a member was not granted stays in the broker. Without it a member that leaves may take along what was on its way.
    ExactCredit,
    /// A message of a higher priority is delivered before those of a lower one.
    Priorities,
    /// A message can be held back, by its queue or by itself.
    Delay,
    /// What waits too long is given up, by its queue's limit or by its own.
    TimeToLive,
    /// A limit on how many messages wait, and what becomes of one more.
    LengthLimit,
    /// Repeats of an id are acknowledged and not stored, for a time.
    Deduplication,
    /// Messages of a group are delivered in order while members compete.
    MessageGroups,
    /// A group gets what its bindings let through, and a publisher hears of what nobody gets.
    Routing,
    /// What is given up goes to a channel that is made for it.
    DeadLetters,
    /// A member that is not heard of for a time loses its lanes to the others, and joins anew when it is heard of again.
    Sessions,
    /// Lanes can be split and merged while they are used.
    Reshape,
    /// What a producer publishes and settles in one transaction counts together or not at all, and members can be kept from what may be
    /// taken back.
    Transactions,
    /// A producer that names itself and numbers its messages may publish again what was not answered: what is stored already is
    /// acknowledged where it is.
    Idempotence,
    /// Windows over a stream can be gone on with exactly by another member: what a checkpoint's positions name is read again, in each lane's
    /// order, whatever was settled since.
    Windows,
    /// Of the messages of one key the latest stays for good, and the others go: by an option.
    Compaction,
}

impl Feature {
    /// All features.
    pub const ALL: &'static [Self] = &[
        Self::SeekPosition,
        Self::SeekTime,
        Self::SettleEach,
        Self::Requeue,
        Self::Lease,
        Self::FanOut,
        Self::LaneAssignment,
        Self::CompetingConsumers,
        Self::Decoupled,
        Self::RateLimit,
        Self::PublishPosition,
        Self::FullDepth,
        Self::RedeliveryCount,
        Self::ExactCredit,
        Self::Priorities,
        Self::Delay,
        Self::TimeToLive,
        Self::LengthLimit,
        Self::Deduplication,
        Self::MessageGroups,
        Self::Routing,
        Self::DeadLetters,
        Self::Sessions,
        Self::Reshape,
        Self::Transactions,
        Self::Idempotence,
        Self::Windows,
        Self::Compaction,
    ];

    /// What it is called where people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SeekPosition => "seek to a position",
            Self::SeekTime => "seek to a time",
            Self::SettleEach => "settle each message",
            Self::Requeue => "requeue",
            Self::Lease => "lease with timeout",
            Self::FanOut => "fan-out to groups",
            Self::LaneAssignment => "lanes assigned to members",
            Self::CompetingConsumers => "competing consumers",
            Self::Decoupled => "receiver may come later",
            Self::RateLimit => "rate limit per lane",
            Self::PublishPosition => "a publish tells its position",
            Self::FullDepth => "depth tells what is in flight",
            Self::RedeliveryCount => "redeliveries counted",
            Self::ExactCredit => "no more sent than granted",
            Self::Priorities => "priorities",
            Self::Delay => "delayed delivery",
            Self::TimeToLive => "time to live",
            Self::LengthLimit => "length limit",
            Self::Deduplication => "deduplication window",
            Self::MessageGroups => "message groups",
            Self::Routing => "routing by bindings",
            Self::DeadLetters => "dead letters can be read",
            Self::Sessions => "sessions that time out",
            Self::Reshape => "lanes split and merged",
            Self::Transactions => "transactions",
            Self::Idempotence => "idempotent producers",
            Self::Windows => "windows gone on with exactly",
            Self::Compaction => "compaction by key",
        }
    }
}

/// What a backend is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The backend's plain name: `log`, `queue` …
    pub name: &'static str,
    /// Which model it is.
    pub model: ModelKind,
    /// The model's own words.
    pub words: Words,
    /// The features that it has.
    pub features: Vec<Feature>,
    /// Largest message, key and headers included, in bytes.
    pub max_message_bytes: u32,
    /// Limits worth printing, by name, with their source.
    pub limits: Vec<Limit>,
}

impl Capabilities {
    /// Whether the backend has the feature.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

/// A limit in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub name: &'static str,
    /// To how much, with its unit.
    pub value: String,
    /// Where the number comes from.
    pub source: &'static str,
}

/// Something that a backend counted itself, over its whole life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// What was counted.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// One setting by which a contract is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The setting's own name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What it is set for.
    pub why: String,
}

/// All settings by which a backend keeps a contract. Recorded and printed with every result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(pub Vec<Setting>);

impl Settings {
    /// Adds one.
    pub fn add(&mut self, name: &str, value: impl fmt::Display, why: &str) -> &mut Self {
        self.0.push(Setting { name: name.to_owned(), value: value.to_string(), why: why.to_owned() });
        self
    }
}

/// One part of a contract that a backend can't keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The axis: delivery, order, storage, copies, availability.
    pub axis: String,
    /// What was asked.
    pub asked: String,
    /// Why it can't be kept, and what would keep it.
    pub reason: String,
}

/// A refusal of a contract, with everything that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Unsupported {
    /// The backend's plain name.
    pub backend: String,
    /// At least one.
    pub missing: Vec<Missing>,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't keep the contract: ", self.backend)?;
        for (n, missing) in self.missing.iter().enumerate() {
            let gap = if n == 0 { "" } else { "; " };
            write!(f, "{gap}{} {}: {}", missing.axis, missing.asked, missing.reason)?;
        }
        Ok(())
    }
}

/// Collects what is missing, so that one refusal names everything at once.
#[derive(Debug, Default)]
pub struct Gaps(Vec<Missing>);

impl Gaps {
    /// Notes one gap.
    pub fn add(&mut self, axis: &str, asked: impl fmt::Display, reason: &str) {
        self.0.push(Missing { axis: axis.to_owned(), asked: asked.to_string(), reason: reason.to_owned() });
    }

    /// `settings` when nothing is missing.
    pub fn or(self, backend: &str, settings: Settings) -> Result<Settings, Unsupported> {
        if self.0.is_empty() { Ok(settings) } else { Err(Unsupported { backend: backend.to_owned(), missing: self.0 }) }
    }
}

impl Contract {
    /// Every contract of the promise ladder, weakest first: each delivery × order × storage × availability with 1 copy, and each
    /// delivery × storage with 3 copies.
    pub fn ladder() -> Vec<Self> {
        let mut all = Vec::new();
        for &delivery in Delivery::ALL {
            for &order in Order::ALL {
                for &storage in Storage::ALL {
                    for &availability in Availability::ALL {
                        all.push(Self { delivery, order, storage, copies: 1, availability });
                    }
                }
            }
            for &storage in Storage::ALL {
                all.push(Self {
                    delivery,
                    order: Order::None,
                    storage,
                    copies: 3,
                    availability: Availability::Decoupled,
                });
            }
        }
        all
    }
}
