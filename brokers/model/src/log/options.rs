//! The log's options, its capabilities, and the settings by which it keeps a contract.
//!
//! Leaves out where the records are kept: that is the host's.

use crate::capabilities::{Capabilities, Feature, Gaps, Limit, ModelKind, Settings, Unsupported, Words};
use crate::contract::{Availability, Contract, Delivery, Order, Storage};
use crate::stream::{StreamConfig, kept_for};
use crate::time::Span;

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
            index_entries: 2_048,
            max_partitions: 1 << 16,
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
            ..Self::default()
        }
    }

    /// The settings by which a log with these options keeps `contract`, or what is missing.
    pub fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        let mut gaps = Gaps::default();
        let mut settings = Settings::default();
        if let Some(system) = self.system {
            settings.add("as", system, "its documented limits and defaults, save what is set beside them");
        }
        match contract.delivery {
            Delivery::AtMostOnce => settings.add(
                "offset.commit",
                "before delivery",
                "at-most-once: a message is handed out once its commit is stored as the contract says, and never twice",
            ),
            Delivery::AtLeastOnce => settings.add(
                "offset.commit",
                "asynchronous, on settle",
                "at-least-once: what was not settled is read again by the partition's next owner",
            ),
            Delivery::ExactlyOnce => {
                gaps.add(
                    "delivery",
                    contract.delivery,
                    "not built yet; idempotent producers and transactions with read-committed consumers would keep it",
                );
                &mut settings
            }
        };
        match contract.order {
            Order::None | Order::PerKey => settings.add(
                "partitioner",
                "murmur2(key) mod partitions; sticky without a key",
                "records of one key share a partition, which is read in order",
            ),
            Order::Total => settings.add("partitions", 1, "one partition is one order for every consumer group"),
        };
        match contract.storage {
            Storage::Memory => settings.add("flush", "never", "records are acknowledged from memory"),
            Storage::PageCache => {
                settings.add("flush", "by the operating system", "records are acknowledged once they are written")
            }
            Storage::Fsync => settings.add(
                "flush",
                "before acknowledging",
                "log.flush.interval.messages=1, one flush for a group of records",
            ),
        };
        if contract.copies > 1 {
            gaps.add("copies", contract.copies, "one process holds one copy; a replicated log would keep it");
        }
        let why = match contract.availability {
            Availability::Coupled => "consumers may be up or not",
            Availability::Decoupled => "consumers that come later find what was kept",
        };
        let retention = self.retention.map_or_else(|| "forever".to_owned(), |span| span.to_string());
        settings.add("log.retention", retention, why);
        if let Some(bytes) = self.retention_bytes {
            settings.add("log.retention.bytes", bytes, "the oldest records go, read or not");
        }
        settings.add(
            "auto.offset.reset",
            "earliest",
            "a new consumer group begins with the oldest record that is kept",
        );
        settings.add("partition.assignment.strategy", "balanced, sticky", "only partitions that must move are revoked");
        settings.add("max.in.flight", self.max_in_flight, "records of one producer that may wait to be stored");
        gaps.or("log", settings)
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "log",
            model: ModelKind::Log,
            words: Words { lane: "partition", position: "offset", grant: "fetch", settle: "offset commit" },
            features: vec![
                Feature::SeekPosition,
                Feature::SeekTime,
                Feature::FanOut,
                Feature::LaneAssignment,
                Feature::Decoupled,
                Feature::PublishPosition,
                Feature::FullDepth,
                Feature::ExactCredit,
            ],
            max_message_bytes: self.max_message_bytes,
            limits: self.limits(),
        }
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
        }
        limits
    }

    pub(super) fn stream(&self, contract: Contract, settings: &Settings) -> StreamConfig {
        StreamConfig {
            max_in_flight: self.max_in_flight,
            commit_first: contract.delivery == Delivery::AtMostOnce,
            single_lane: contract.order == Order::Total,
            max_lanes: self.max_partitions,
            retention: self.retention,
            retention_bytes: self.retention_bytes,
            index_entries: self.index_entries,
            read_bytes_per_s: None,
            settings: settings.0.iter().map(|s| (s.name.clone(), s.value.clone())).collect(),
        }
    }
}
