//! The log's options and its capabilities.
//!
//! Leaves out the settings by which it keeps a contract, which are in `promise`.

use crate::capabilities::{Capabilities, Feature, Limit, ModelKind, Settings, Words};
use crate::contract::{Contract, Delivery, Order};
use crate::lane_room::LANES_MAX;
use crate::stream::{CompactionRules, GroupRules, IdempotenceRules, Reads, StreamConfig, TransactionRules, kept_for};
use crate::time::Span;

/// How a group's partitions are given to its members when these change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignment {
    /// Only partitions that have to move are taken back.
    #[default]
    Cooperative,
    /// All partitions are taken back before any is given out, by ranges.
    Eager,
}

/// What members are handed of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything that is stored, also what is taken back later.
    ReadUncommitted,
    /// Only what is committed; what follows an open transaction waits for its end.
    ReadCommitted,
}

/// What becomes of old records (`cleanup.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cleanup {
    /// They go by age and size.
    #[default]
    Delete,
    /// Of the records of one key the latest stays, whatever its age.
    Compact,
}

/// What can be set. The defaults are Apache Kafka's where it has the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The documented system whose limits and defaults were taken, for the record; none when none was asked for.
    pub system: Option<&'static str>,
    /// How many records of one producer may wait to be stored. Kafka bounds bytes (`buffer.memory`), this bounds records.
    pub max_in_flight: u32,
    /// The largest record, key and headers included, in bytes (`message.max.bytes`).
    pub max_message_bytes: u32,
    /// How long a record is kept (`log.retention.hours`, 168 there); `None` keeps it for good.
    pub retention: Option<Span>,
    /// A partition's oldest records are dropped while what is left is at least this large (`log.retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// How long a member may be silent before its partitions go to others (`session.timeout.ms`); `None`: for ever.
    pub session_timeout: Option<Span>,
    /// How partitions move when a group's members change (`partition.assignment.strategy`).
    pub assignment: Assignment,
    /// What members are handed of transactions (`isolation.level`, `read_uncommitted` there). Without it what the contract needs: for
    /// exactly-once what is committed, else everything.
    pub isolation: Option<Isolation>,
    /// How long a transaction may be open before it is taken back (`transaction.timeout.ms`).
    pub transaction_timeout: Span,
    /// Whether the identities in messages' headers are read, and repeats known (`enable.idempotence`, true there, for producers
    /// that all have an identity).
    pub idempotence: bool,
    /// How long after its last record a producer is remembered (`producer.id.expiration.ms`).
    pub producer_expiration: Span,
    /// What becomes of old records (`cleanup.policy`, `delete` there). Retention is of a log that deletes.
    pub cleanup: Cleanup,
    /// A pass of the compaction begins when more than so many thousandths of the log's bytes are dirty (`min.cleanable.dirty.ratio`, 0.5).
    pub min_dirty_permille: u32,
    /// How long a tombstone stays after the first pass that finds it (`delete.retention.ms`, 86400000).
    pub delete_retention: Span,
    /// A partition's newest part is not compacted; it is closed when it has so many bytes. Kafka's is a segment (`segment.bytes`, 1 GiB).
    pub active_bytes: u64,
    /// How many keys the compaction knows, all partitions together. Beyond, a key's messages all stay.
    pub max_keys: usize,
    /// The most bytes and messages that are compacted at once, and how long after these the next ones come.
    pub compaction_chunk: (u64, u64, Span),
    /// The most entries in a partition's sparse index; beyond it the index gets coarser. At least 2.
    pub index_entries: usize,
    /// The most partitions of all topics together.
    pub max_partitions: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            system: None,
            max_in_flight: 65_536,
            max_message_bytes: 1_048_588,
            retention: Some(Span::from_secs(7 * 24 * 3_600)),
            retention_bytes: None,
            session_timeout: Some(Span::from_secs(45)),
            assignment: Assignment::Cooperative,
            isolation: None,
            transaction_timeout: Span::from_secs(60),
            idempotence: true,
            producer_expiration: Span::from_secs(24 * 3_600),
            cleanup: Cleanup::Delete,
            min_dirty_permille: 500,
            delete_retention: Span::from_secs(24 * 3_600),
            active_bytes: 1 << 20,
            // 128 MiB of 24 bytes each, nine tenths full: log.cleaner.dedupe.buffer.size, log.cleaner.io.buffer.load.factor.
            max_keys: 5_033_164,
            compaction_chunk: (1 << 20, 1_024, Span::from_millis(1)),
            index_entries: 2_048,
            max_partitions: LANES_MAX,
        }
    }
}

impl LogOptions {
    /// Apache Kafka 4: what its broker configuration documents as defaults, as far as this log has the setting.
    ///
    /// Not taken over: `log.segment.bytes` (1 GiB), since segments here are shared by all partitions and retention goes by
    /// record; `num.partitions` (1), since a channel is always made with its number of partitions; `auto.offset.reset`
    /// (`latest`), since a group that begins with the newest record misses what was acknowledged before it came; the producer's
    /// `buffer.memory`, which bounds bytes where this bounds records.
    pub fn kafka() -> Self {
        Self {
            system: Some("Apache Kafka 4"),
            max_message_bytes: 1_048_588,
            retention: Some(Span::from_secs(168 * 3_600)),
            retention_bytes: None,
            session_timeout: Some(Span::from_secs(45)),
            transaction_timeout: Span::from_secs(60),
            idempotence: true,
            producer_expiration: Span::from_secs(86_400),
            ..Self::default()
        }
    }

    /// What members are handed under a contract with this delivery.
    pub(crate) fn isolation_for(&self, delivery: Delivery) -> Isolation {
        self.isolation.unwrap_or(match delivery {
            Delivery::ExactlyOnce => Isolation::ReadCommitted,
            Delivery::AtMostOnce | Delivery::AtLeastOnce => Isolation::ReadUncommitted,
        })
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "log",
            model: ModelKind::Log,
            words: Words { lane: "partition", position: "offset", grant: "fetch", settle: "offset commit" },
            features: self.features(),
            max_message_bytes: self.max_message_bytes,
            limits: self.limits(),
        }
    }

    fn features(&self) -> Vec<Feature> {
        let mut features = vec![
            Feature::SeekPosition,
            Feature::SeekTime,
            Feature::Windows,
            Feature::FanOut,
            Feature::LaneAssignment,
            Feature::Sessions,
            Feature::Transactions,
            Feature::Compaction,
            Feature::Decoupled,
            Feature::PublishPosition,
            Feature::FullDepth,
            Feature::ExactCredit,
        ];
        features.extend(self.knows_repeats().then_some(Feature::Idempotence));
        // What a checkpoint's positions name may be left out meanwhile.
        features.retain(|&feature| feature != Feature::Windows || self.cleanup == Cleanup::Delete);
        features
    }

    /// Whether the identities in messages' headers are read. A log that is compacted would forget what it has left out.
    pub(crate) fn knows_repeats(&self) -> bool {
        self.idempotence && self.cleanup == Cleanup::Delete
    }

    fn compaction(&self) -> Option<CompactionRules> {
        (self.cleanup == Cleanup::Compact).then_some(CompactionRules {
            min_dirty_permille: self.min_dirty_permille,
            delete_retention: self.delete_retention,
            active_bytes: self.active_bytes.max(1),
            max_keys: self.max_keys,
            chunk_bytes: self.compaction_chunk.0.max(1),
            chunk_messages: self.compaction_chunk.1.max(1),
            pace: self.compaction_chunk.2.max(Span(1)),
        })
    }

    fn limits(&self) -> Vec<Limit> {
        let limit = |name, value, source| Limit { name, value, source };
        let mut limits = vec![
            limit(
                "largest record",
                format!("{} B", self.max_message_bytes),
                "Apache Kafka, broker configuration: message.max.bytes",
            ),
            limit(
                "records in flight per producer",
                self.max_in_flight.to_string(),
                "setting max_in_flight; Kafka bounds the same by bytes, buffer.memory",
            ),
        ];
        if self.system.is_some() {
            limits.push(limit(
                "a record is kept for",
                kept_for(self.retention),
                "Apache Kafka, broker configuration: log.retention.hours, 168 by default",
            ));
            limits.push(limit(
                "bytes that a partition keeps",
                self.retention_bytes.map_or_else(|| "no limit".to_owned(), |bytes| format!("{bytes} B")),
                "Apache Kafka, broker configuration: log.retention.bytes, -1 by default",
            ));
            limits.push(limit(
                "a transaction may be open for",
                self.transaction_timeout.to_string(),
                "Apache Kafka, producer configuration: transaction.timeout.ms, 60000 by default",
            ));
            limits.push(limit(
                "a producer is remembered for",
                kept_for(Some(self.producer_expiration)),
                "Apache Kafka, broker configuration: producer.id.expiration.ms, 86400000 by default",
            ));
            limits.push(limit(
                "a member may be silent for",
                self.session_timeout.map_or_else(|| "ever".to_owned(), |span| span.to_string()),
                "Apache Kafka, broker configuration: group.consumer.session.timeout.ms, 45000 by default",
            ));
        }
        limits
    }

    pub(super) fn stream(&self, contract: Contract, settings: &Settings) -> StreamConfig {
        StreamConfig {
            max_in_flight: self.max_in_flight,
            commit_first: contract.delivery == Delivery::AtMostOnce,
            single_lane: contract.order == Order::Total,
            max_lanes: self.max_partitions,
            retention: self.retention.filter(|_| self.cleanup == Cleanup::Delete),
            retention_bytes: self.retention_bytes.filter(|_| self.cleanup == Cleanup::Delete),
            compaction: self.compaction(),
            index_entries: self.index_entries,
            transactions: Some(TransactionRules {
                timeout: self.transaction_timeout,
                read_committed: self.isolation_for(contract.delivery) == Isolation::ReadCommitted,
            }),
            idempotence: self.knows_repeats().then_some(IdempotenceRules {
                window: u64::from(self.max_in_flight),
                expiration: self.producer_expiration,
            }),
            groups: GroupRules { session: self.session_timeout, eager: self.assignment == Assignment::Eager },
            reads: Reads::Unlimited,
            settings: settings.0.iter().map(|s| (s.name.clone(), s.value.clone())).collect(),
        }
    }
}
