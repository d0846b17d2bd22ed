//! The settings by which a log keeps a contract, or what is missing.
//!
//! Leaves out where the records are kept: that is the host's.

use super::options::{Assignment, Cleanup, Isolation, LogOptions};
use crate::capabilities::{Gaps, Settings, Unsupported};
use crate::contract::{Availability, Contract, Delivery, Order, Storage};

impl LogOptions {
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
                if self.isolation == Some(Isolation::ReadUncommitted) {
                    gaps.add(
                        "delivery",
                        contract.delivery,
                        "isolation=read-uncommitted hands out what a transaction may take back; leave it out",
                    );
                }
                settings.add(
                    "offset.commit",
                    "in the producer's transaction, or on settle",
                    "exactly-once within the log: what one transaction reads, publishes and settles counts together or not at all; \
                     what a member does elsewhere it may do again if it fails before it settles",
                );
                settings.add(
                    "transactions of a run",
                    "none",
                    "no stage of a workload publishes onward, so its members settle; what a run shows of exactly-once is that each \
                     message came to each group once",
                )
            }
        };
        self.add_transactions(contract.delivery, &mut settings);
        match contract.order {
            Order::None | Order::PerKey => settings.add(
                "partitioner",
                "murmur2(key) mod partitions; sticky without a key",
                "records of one key share a partition, which is read in order",
            ),
            Order::Total => settings.add("partitions", 1, "one partition is one order for every consumer group"),
        };
        storage_settings(contract.storage, &mut settings);
        if contract.copies > 1 {
            gaps.add("copies", contract.copies, "one process holds one copy; a replicated log would keep it");
        }
        match self.cleanup {
            Cleanup::Delete => self.add_retention(contract.availability, &mut settings),
            Cleanup::Compact => self.add_compaction(&mut settings),
        }
        self.add_groups(&mut settings);
        settings.add("max.in.flight", self.max_in_flight, "records of one producer that may wait to be stored");
        gaps.or("log", settings)
    }

    fn add_retention(&self, availability: Availability, settings: &mut Settings) {
        let why = match availability {
            Availability::Coupled => "consumers may be up or not",
            Availability::Decoupled => "consumers that come later find what was kept",
        };
        let retention = self.retention.map_or_else(|| "forever".to_owned(), |span| span.to_string());
        settings.add("log.retention", retention, why);
        if let Some(bytes) = self.retention_bytes {
            settings.add("log.retention.bytes", bytes, "the oldest records go, read or not");
        }
    }

    fn add_compaction(&self, settings: &mut Settings) {
        settings.add(
            "cleanup.policy",
            "compact",
            "the latest record of each key stays, whatever its age; who is behind the newest part does not see all that came before it",
        );
        let ratio = f64::from(self.min_dirty_permille) / 1_000.0;
        settings.add("min.cleanable.dirty.ratio", ratio, "of all partitions together, which share segments");
        let retention = self.delete_retention;
        settings.add(
            "delete.retention",
            retention,
            "a record without a payload stays so long once a pass has found it",
        );
        settings.add("compaction.active.bytes", self.active_bytes, "the newest part of a partition is left alone");
        settings.add("compaction.keys", self.max_keys, "keys that are known; of others all records stay");
    }

    fn add_transactions(&self, delivery: Delivery, settings: &mut Settings) {
        match self.isolation_for(delivery) {
            Isolation::ReadUncommitted => {
                settings.add("isolation.level", "read_uncommitted", "members are handed all that is stored")
            }
            Isolation::ReadCommitted => settings.add(
                "isolation.level",
                "read_committed",
                "members are handed what is committed, up to the first message of an open transaction",
            ),
        };
        let timeout = self.transaction_timeout;
        settings.add("transaction.timeout", timeout, "one that is open for so long is taken back");
        settings.add(
            "enable.idempotence",
            self.knows_repeats(),
            if self.knows_repeats() {
                "what a producer with a name publishes again is acknowledged where it is; without a name it is another message"
            } else if self.idempotence {
                "what is published again is another message: a compacted log would forget what it has left out"
            } else {
                "what is published again is another message"
            },
        );
    }

    fn add_groups(&self, settings: &mut Settings) {
        settings.add(
            "auto.offset.reset",
            "earliest",
            "a new consumer group begins with the oldest record that is kept",
        );
        match self.assignment {
            Assignment::Cooperative => settings.add(
                "partition.assignment.strategy",
                "balanced, sticky, cooperative",
                "only partitions that must move are revoked",
            ),
            Assignment::Eager => settings.add(
                "partition.assignment.strategy",
                "balanced, by ranges, eager",
                "all partitions of a group are revoked before any is assigned",
            ),
        };
        settings.add(
            "session.timeout",
            self.session_timeout.map_or_else(|| "never".to_owned(), |span| span.to_string()),
            "a member that is not heard of for so long loses its partitions to the others",
        );
    }
}

fn storage_settings(storage: Storage, settings: &mut Settings) {
    match storage {
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
}
