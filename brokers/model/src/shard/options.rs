//! The shard stream's options, its capabilities, and the settings by which it keeps a contract.
//!
//! Leaves out limits on requests (records per PutRecords call, calls per second): a batch here is as many calls as it needs.

use crate::capabilities::{Capabilities, Feature, Gaps, Limit, ModelKind, Settings, Unsupported, Words};
use crate::contract::{Availability, Contract, Delivery, Order, Storage};
use crate::stream::{GroupRules, StreamConfig, kept_for};
use crate::time::Span;

/// Where the default limits come from.
const QUOTAS: &str = "Amazon Kinesis Data Streams, developer guide: quotas and limits";
const LARGE_RECORDS: &str = "Amazon Kinesis Data Streams, developer guide: handle large records";
const RETENTION: &str = "Amazon Kinesis Data Streams, developer guide: change the data retention period";
const REGISTER: &str = "Amazon Kinesis Data Streams, API reference: RegisterStreamConsumer";
const PUT_RECORDS: &str = "Amazon Kinesis Data Streams, API reference: PutRecords";

/// What can be set. The defaults are the limits of Amazon Kinesis Data Streams with provisioned shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardOptions {
    /// The documented system whose limits and defaults were taken, for the record; none when none was asked for.
    pub system: Option<&'static str>,
    /// Records per second that a shard takes; a second's worth may come at once.
    pub write_records_per_s: u32,
    /// Bytes per second that a shard takes, partition keys included.
    pub write_bytes_per_s: u32,
    /// Bytes per second that each application reads from each shard (enhanced fan-out).
    pub read_bytes_per_s: u32,
    /// The largest record, partition key included, in bytes. A record larger than a second's worth of writing never gets
    /// through, so the smaller of the two holds.
    pub max_message_bytes: u32,
    /// How many records of one producer may wait to be stored.
    pub max_in_flight: u32,
    /// How long a record is kept; `None` keeps it for good.
    pub retention: Option<Span>,
    /// The most entries in a shard's sparse index; beyond it the index gets coarser. At least 2.
    pub index_entries: usize,
    /// The most shards of all streams together.
    pub max_shards: u32,
    /// The most applications of a stream, each a registered consumer with enhanced fan-out; `None` is any number. A stream that is to
    /// have more is refused.
    pub max_consumers: Option<u32>,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            system: None,
            write_records_per_s: 1_000,
            write_bytes_per_s: 1 << 20,
            read_bytes_per_s: 2 << 20,
            max_message_bytes: 1 << 20,
            max_in_flight: 65_536,
            retention: Some(Span::from_secs(24 * 3_600)),
            index_entries: 2_048,
            max_shards: 20_000,
            max_consumers: None,
        }
    }
}

impl ShardOptions {
    /// Amazon Kinesis Data Streams with provisioned shards: its documented quotas, as far as this stream has them.
    ///
    /// A new stream takes records of up to 1 MiB, and up to 10 MiB when it is asked to (since October 2025, by bursting beyond what a
    /// shard sustains; here a shard's burst is one second's worth, so a larger record needs `write_bytes` as large). Not taken over:
    /// what concerns polling with GetRecords (five calls a second and shard, 10,000 records or 10 MB a call), since reading here is
    /// enhanced fan-out.
    pub fn kinesis() -> Self {
        Self {
            system: Some("Amazon Kinesis Data Streams, provisioned"),
            write_records_per_s: 1_000,
            write_bytes_per_s: 1 << 20,
            read_bytes_per_s: 2 << 20,
            max_message_bytes: 1 << 20,
            retention: Some(Span::from_secs(24 * 3_600)),
            max_shards: 20_000,
            max_consumers: Some(20),
            ..Self::default()
        }
    }

    /// The settings by which a shard stream with these options keeps `contract`, or what is missing.
    pub fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        let mut gaps = Gaps::default();
        let mut settings = Settings::default();
        if let Some(system) = self.system {
            settings.add("as", system, "its documented limits and defaults, save what is set beside them");
        }
        match contract.delivery {
            Delivery::AtMostOnce => {
                settings.add(
                    "checkpoint",
                    "before delivery",
                    "at-most-once: a record is handed out once its checkpoint is stored as the contract says, and never twice",
                );
            }
            Delivery::AtLeastOnce => {
                let why = "at-least-once: what was not checkpointed is read again by the shard's next lease owner";
                settings.add("checkpoint", "on settle", why);
            }
            Delivery::ExactlyOnce => gaps.add(
                "delivery",
                contract.delivery,
                "not built: the service has no transactions; an idempotent store behind the consumer would keep it",
            ),
        }
        match contract.order {
            Order::None => settings.add("put", "PutRecords", "a throttled record fails alone and the others go on"),
            Order::PerKey => settings.add(
                "put",
                "PutRecord with SequenceNumberForOrdering",
                "a record over the limit holds back those behind it, so that none overtakes",
            ),
            Order::Total => settings.add("shards", 1, "one shard is one order for every application").add(
                "put",
                "PutRecord with SequenceNumberForOrdering",
                "none overtakes a record over the limit",
            ),
        };
        match contract.storage {
            Storage::Memory => settings.add("storage", "memory", "records are acknowledged from memory"),
            Storage::PageCache => settings.add("storage", "written", "records are acknowledged once they are written"),
            Storage::Fsync => {
                settings.add("storage", "flushed", "one flush for a group of records, then they are acknowledged")
            }
        };
        if contract.copies > 1 {
            gaps.add("copies", contract.copies, "one process holds one copy; a replicated stream would keep it");
        }
        let why = match contract.availability {
            Availability::Coupled => "applications may be up or not",
            Availability::Decoupled => "applications that come later find what was kept",
        };
        let retention = self.retention.map_or_else(|| "forever".to_owned(), |span| span.to_string());
        settings.add("retention", retention, why);
        self.add_limits(&mut settings);
        gaps.or("shard", settings)
    }

    fn add_limits(&self, settings: &mut Settings) {
        settings
            .add("write_records_per_s", self.write_records_per_s, "records that a shard takes, as the service's")
            .add("write_bytes_per_s", self.write_bytes_per_s, "bytes that a shard takes, as the service's")
            .add("read_bytes_per_s", self.read_bytes_per_s, "bytes that an application reads from a shard")
            .add("consumers", "enhanced fan-out", "each application has its own read limit and is pushed to")
            .add("initial_position", "TRIM_HORIZON", "a new application begins with the oldest record that is kept")
            .add("max_in_flight", self.max_in_flight, "records of one producer that may wait to be stored");
        if let Some(most) = self.max_consumers {
            settings.add("max_consumers", most, "applications that a stream may have");
        }
    }

    /// The largest record that ever gets through.
    pub(super) fn largest(&self) -> u32 {
        self.max_message_bytes.min(self.write_bytes_per_s)
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "shard",
            model: ModelKind::Shard,
            words: Words {
                lane: "shard",
                position: "sequence number",
                grant: "GetRecords limit",
                settle: "checkpoint",
            },
            features: vec![
                Feature::SeekPosition,
                Feature::SeekTime,
                Feature::FanOut,
                Feature::LaneAssignment,
                Feature::Decoupled,
                Feature::RateLimit,
                Feature::PublishPosition,
                Feature::FullDepth,
                Feature::ExactCredit,
                Feature::Reshape,
            ],
            max_message_bytes: self.largest(),
            limits: self.limits(),
        }
    }

    fn limits(&self) -> Vec<Limit> {
        let limit = |name, value: String, source| Limit { name, value, source };
        let largest = self.largest();
        let mut limits = vec![
            limit("records written per shard", format!("{}/s", self.write_records_per_s), QUOTAS),
            limit("bytes written per shard", format!("{} B/s", self.write_bytes_per_s), QUOTAS),
            limit("bytes read per shard and application", format!("{} B/s", self.read_bytes_per_s), REGISTER),
            limit("largest record", format!("{largest} B (the service takes up to 10 MiB on request)"), LARGE_RECORDS),
        ];
        if let Some(most) = self.max_consumers {
            limits.push(limit("applications of a stream", most.to_string(), REGISTER));
        }
        if self.system.is_some() {
            let kept = kept_for(self.retention);
            limits.push(limit("a record is kept for", format!("{kept} (the service: 24 h to 8,760 h)"), RETENTION));
            limits.push(limit("shards of an account", self.max_shards.to_string(), QUOTAS));
            let call = "500 records, 10 MiB; a larger batch is several calls".to_owned();
            limits.push(limit("a PutRecords call", call, PUT_RECORDS));
        }
        limits
    }

    pub(super) fn stream(&self, contract: Contract, settings: &Settings) -> StreamConfig {
        StreamConfig {
            max_in_flight: self.max_in_flight,
            commit_first: contract.delivery == Delivery::AtMostOnce,
            single_lane: contract.order == Order::Total,
            max_lanes: self.max_shards,
            retention: self.retention,
            retention_bytes: None,
            index_entries: self.index_entries,
            groups: GroupRules::default(),
            read_bytes_per_s: Some(self.read_bytes_per_s),
            settings: settings.0.iter().map(|s| (s.name.clone(), s.value.clone())).collect(),
        }
    }
}
