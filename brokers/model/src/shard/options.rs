//! The shard stream's options, its capabilities, and the settings by which it keeps a contract.
//!
//! Leaves out limits on requests (records per PutRecords call, calls per second): a batch here is as many calls as it needs.

use super::hash_range::KeyHash;
use crate::capabilities::{Capabilities, Feature, Gaps, Limit, ModelKind, Settings, Unsupported, Words};
use crate::contract::{Availability, Contract, Delivery, Order, Storage};
use crate::stream::{Calls, GroupRules, Reads, StreamConfig, kept_for};
use crate::time::Span;

/// Where the default limits come from.
const QUOTAS: &str = "Amazon Kinesis Data Streams, developer guide: quotas and limits";
const LARGE_RECORDS: &str = "Amazon Kinesis Data Streams, developer guide: handle large records";
const RETENTION: &str = "Amazon Kinesis Data Streams, developer guide: change the data retention period";
const REGISTER: &str = "Amazon Kinesis Data Streams, API reference: RegisterStreamConsumer";
const PUT_RECORDS: &str = "Amazon Kinesis Data Streams, API reference: PutRecords";
const GET_RECORDS: &str = "Amazon Kinesis Data Streams, API reference: GetRecords";
const CAPACITY: &str = "Amazon Kinesis Data Streams, developer guide: choose the data stream capacity mode";
const LEASES: &str = "Kinesis Client Library 2, LeaseManagementConfig: failoverTimeMillis, 10000 by default";

/// How applications read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readers {
    /// Enhanced fan-out (SubscribeToShard): each application is pushed to and has a read limit of its own.
    #[default]
    FanOut,
    /// GetRecords: applications ask, and share a shard's calls and bytes per second.
    Polling,
}

/// How long the service may take until a shard that is too full is split.
pub const SCALES_WITHIN: Span = Span::from_secs(15 * 60);

/// Of so long a time, what a shard's token buckets hold when it begins, unless something else is set: enough for arrivals that come in
/// clumps, and too little to carry more than the limits over any window that is measured.
pub const INITIAL_CREDIT: Span = Span::from_millis(20);

/// What they hold after a pause: a second's worth, and never more.
pub const FULL_CREDIT: Span = Span::from_secs(1);

/// The shards of a new data stream in on-demand mode: 4 MB/s of writing.
pub const ON_DEMAND_SHARDS: u32 = 4;

/// What can be set. The defaults are the limits of Amazon Kinesis Data Streams with provisioned shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardOptions {
    /// The documented system whose limits and defaults were taken, for the record; none when none was asked for.
    pub system: Option<&'static str>,
    /// What turns a partition key into the number that a shard's range holds.
    pub hash: KeyHash,
    /// Records per second that a shard takes; a second's worth may come at once.
    pub write_records_per_s: u32,
    /// Bytes per second that a shard takes, partition keys included.
    pub write_bytes_per_s: u32,
    /// Of so long a time, what the buckets of a shard and of an application that reads it hold when they begin, the shards of a split
    /// or merge among them; one record in any case, and [`FULL_CREDIT`] at most. A bucket that nobody has drawn on lets a second's
    /// worth through at once, and a window shorter than that would show no limit at all.
    pub initial_credit: Span,
    /// How applications read.
    pub readers: Readers,
    /// Bytes per second that are read from each shard: by each application (fan-out), or by all together (polling).
    pub read_bytes_per_s: u32,
    /// Calls per second that read a shard, of all applications together (polling).
    pub read_calls_per_s: u32,
    /// The most bytes and the most records that a call returns (polling).
    pub read_call: (u64, u64),
    /// Shards are split when they took more than half of their limits over an interval of this length (on-demand mode); `None` leaves
    /// that to the administrator (provisioned mode).
    pub on_demand: Option<Span>,
    /// How long a worker may be silent before its leases go to others; `None`: for ever.
    pub failover_time: Option<Span>,
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
            hash: KeyHash::Md5,
            write_records_per_s: 1_000,
            write_bytes_per_s: 1 << 20,
            initial_credit: INITIAL_CREDIT,
            readers: Readers::FanOut,
            read_bytes_per_s: 2 << 20,
            read_calls_per_s: 5,
            read_call: (10 << 20, 10_000),
            on_demand: None,
            failover_time: Some(Span::from_secs(10)),
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
    /// Amazon Kinesis Data Streams, provisioned and read by enhanced fan-out unless something else is set: its documented quotas, as far as this stream has them.
    ///
    /// A new stream takes records of up to 1 MiB, and up to 10 MiB when it is asked to (since October 2025, by bursting beyond what a
    /// shard sustains; here a shard's burst is one second's worth, so a larger record needs `write_bytes` as large).
    pub fn kinesis() -> Self {
        Self {
            system: Some("Amazon Kinesis Data Streams"),
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
            .add("read_bytes_per_s", self.read_bytes_per_s, self.reading().1)
            .add(
                "initial_credit",
                self.initial_credit,
                "of each limit, what is there when a shard begins; a second's worth after a pause",
            )
            .add("readers", self.reading().0, "how applications read")
            .add("initial_position", "TRIM_HORIZON", "a new application begins with the oldest record that is kept")
            .add("max_in_flight", self.max_in_flight, "records of one producer that may wait to be stored");
        if self.readers == Readers::Polling {
            let (bytes, records) = self.read_call;
            settings
                .add("read_calls_per_s", self.read_calls_per_s, "calls that read a shard, of all applications in turn")
                .add(
                    "read_call",
                    format!("{bytes} B, {records} records"),
                    "what a call returns; then its bytes are paid back",
                );
        }
        match self.hash {
            KeyHash::Md5 => {}
            KeyHash::Xxh3 => {
                settings.add(
                    "hash",
                    "xxh3",
                    "shards by the XXH3 of a key, cheaper than MD5, which is the service's rule",
                );
            }
        }
        match self.on_demand {
            Some(within) => {
                let why = "a shard that takes more than half of its limits over so long is split";
                settings.add("mode", "on-demand", why).add("scale_after", within, why)
            }
            None => settings.add("mode", "provisioned", "shards are split and merged by the administrator"),
        };
        let failover = self.failover_time.map_or_else(|| "never".to_owned(), |span| span.to_string());
        settings.add("failover_time", failover, "a worker that is silent for so long loses its leases to the others");
        if let Some(most) = self.registered() {
            settings.add("max_consumers", most, "applications that a stream may have");
        }
    }

    /// How applications read, and what the limit on bytes is of.
    fn reading(&self) -> (&'static str, &'static str) {
        match self.readers {
            Readers::FanOut => ("fan-out", "bytes that each application reads from a shard"),
            Readers::Polling => ("polling", "bytes that all applications together read from a shard"),
        }
    }

    /// The most applications of a stream that can be registered; a polling application is not.
    pub(super) fn registered(&self) -> Option<u32> {
        self.max_consumers.filter(|_| self.readers == Readers::FanOut)
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
            features: self.features(),
            max_message_bytes: self.largest(),
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
            Feature::Decoupled,
            Feature::RateLimit,
            Feature::PublishPosition,
            Feature::FullDepth,
            Feature::ExactCredit,
        ];
        // The service refuses both of a stream that it scales itself.
        features.extend(self.on_demand.is_none().then_some(Feature::Reshape));
        features.extend(self.failover_time.is_some().then_some(Feature::Sessions));
        features
    }

    fn limits(&self) -> Vec<Limit> {
        let limit = |name, value: String, source| Limit { name, value, source };
        let largest = self.largest();
        let mut limits = vec![
            limit("records written per shard", format!("{}/s", self.write_records_per_s), QUOTAS),
            limit("bytes written per shard", format!("{} B/s", self.write_bytes_per_s), QUOTAS),
            self.reading_limit(),
            limit("largest record", format!("{largest} B (the service takes up to 10 MiB on request)"), LARGE_RECORDS),
        ];
        if self.readers == Readers::Polling {
            let (bytes, records) = self.read_call;
            let calls = format!("{}/s, of all applications together", self.read_calls_per_s);
            limits.push(limit("calls that read a shard", calls, QUOTAS));
            limits.push(limit("a GetRecords call", format!("{records} records, {bytes} B"), GET_RECORDS));
        }
        if let Some(within) = self.on_demand {
            let text =
                format!("over half of a shard's limits for {within} (the service: over 500 KB/s, within 15 min)");
            limits.push(limit("a shard is split", text, CAPACITY));
        }
        if let Some(span) = self.failover_time {
            limits.push(limit("a worker may be silent for", span.to_string(), LEASES));
        }
        if let Some(most) = self.registered() {
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

    fn reading_limit(&self) -> Limit {
        let value = format!("{} B/s", self.read_bytes_per_s);
        match self.readers {
            Readers::FanOut => Limit { name: "bytes read per shard and application", value, source: REGISTER },
            Readers::Polling => Limit { name: "bytes read per shard, by all applications", value, source: QUOTAS },
        }
    }

    fn reads(&self) -> Reads {
        match self.readers {
            Readers::FanOut => Reads::Each { bytes_per_s: self.read_bytes_per_s, credit: self.initial_credit },
            Readers::Polling => Reads::Shared(Calls {
                per_s: self.read_calls_per_s.max(1),
                bytes_per_s: self.read_bytes_per_s.max(1),
                most_bytes: self.read_call.0,
                most_messages: self.read_call.1.max(1),
            }),
        }
    }

    pub(super) fn stream(&self, contract: Contract, settings: &Settings) -> StreamConfig {
        StreamConfig {
            idempotence: None,
            max_in_flight: self.max_in_flight,
            commit_first: contract.delivery == Delivery::AtMostOnce,
            single_lane: contract.order == Order::Total,
            max_lanes: self.max_shards,
            retention: self.retention,
            retention_bytes: None,
            index_entries: self.index_entries,
            compaction: None,
            groups: GroupRules { session: self.failover_time, eager: false },
            reads: self.reads(),
            transactions: None,
            settings: settings.0.iter().map(|s| (s.name.clone(), s.value.clone())).collect(),
        }
    }
}
