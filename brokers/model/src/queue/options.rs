//! What can be set on a queue, and by which settings it keeps a contract or why it can't.
//!
//! Leaves out `max_memory` and `max_data`, which bound the storage below and belong to its host.

use crate::capabilities::{Capabilities, Feature, Gaps, Limit, ModelKind, Settings, Unsupported, Words};
use crate::contract::{Contract, Delivery, Order, Storage};
use crate::time::Span;

/// The settings of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// How long a member may hold a message before it is delivered again (SQS: visibility timeout; RabbitMQ: consumer timeout).
    /// Taken as 1 ns when it is zero.
    pub visibility_timeout: Span,
    /// How many messages a member may hold unsettled at a time, whatever it was granted; 0 means as many as it was granted.
    pub prefetch: u32,
    /// How many publishes of one client may be unacknowledged; `publish` is blocked beyond.
    pub window: u32,
    /// Largest message, key and headers included, in bytes.
    pub max_message_bytes: u32,
}

impl Default for QueueOptions {
    /// SQS's visibility timeout, RabbitMQ's largest message.
    fn default() -> Self {
        Self {
            visibility_timeout: Span::from_secs(30),
            prefetch: 0,
            window: 65_536,
            max_message_bytes: 16 * 1024 * 1024,
        }
    }
}

impl QueueOptions {
    /// The settings by which a queue keeps `contract`, or what is missing.
    pub fn honour(self, contract: &Contract) -> Result<Settings, Unsupported> {
        let mut gaps = Gaps::default();
        if contract.delivery == Delivery::ExactlyOnce {
            gaps.add(
                Delivery::AXIS,
                contract.delivery,
                "a lease may end after the work was done, and the message comes again; take at-least-once and make the work idempotent",
            );
        }
        if contract.copies > 1 {
            gaps.add("copies", contract.copies, "the queue's journal is on one machine; replication is not built yet");
        }
        gaps.or("queue", self.settings(*contract))
    }

    fn settings(self, contract: Contract) -> Settings {
        let mut settings = Settings::default();
        match contract.delivery {
            Delivery::AtMostOnce => settings.add("auto-ack", true, "a message is settled when it is delivered"),
            Delivery::AtLeastOnce | Delivery::ExactlyOnce => {
                settings.add("auto-ack", false, "a message that is not settled is delivered again");
                settings.add("visibility-timeout", self.visibility_timeout, "when an unsettled message comes again")
            }
        };
        match contract.order {
            Order::None => settings.add("x-single-active-consumer", false, "no order is asked: members compete"),
            Order::PerKey => {
                settings.add("x-single-active-consumer", true, "one member at a time reads a queue");
                settings.add("routing", "key hash", "a key's messages share a queue")
            }
            Order::Total => {
                settings.add("x-single-active-consumer", true, "one member at a time reads a queue");
                settings.add("queues-in-use", 1, "one order needs one queue, however many lanes the channel has")
            }
        };
        let confirm = match contract.storage {
            Storage::Memory => "when it is enqueued",
            Storage::PageCache => "when its journal is written",
            Storage::Fsync => "when its journal is flushed",
        };
        settings.add("publisher-confirm", confirm, "storage");
        let prefetch = if self.prefetch == 0 { "as granted".to_owned() } else { self.prefetch.to_string() };
        settings.add("prefetch", prefetch, "how much a member holds at a time");
        settings.add("confirm-window", self.window, "unacknowledged publishes a client may have");
        settings
    }

    /// What a queue under `contract` is and can do.
    pub fn capabilities(&self, contract: Contract) -> Capabilities {
        let mut features = vec![
            Feature::FanOut,
            Feature::Decoupled,
            Feature::PublishPosition,
            Feature::FullDepth,
            Feature::RedeliveryCount,
            Feature::ExactCredit,
        ];
        if contract.delivery != Delivery::AtMostOnce {
            features.extend([Feature::SettleEach, Feature::Requeue, Feature::Lease]);
        }
        if contract.order == Order::None {
            features.push(Feature::CompetingConsumers);
        }
        features.sort_unstable();
        Capabilities {
            name: "queue",
            model: ModelKind::Queue,
            words: Words { lane: "queue", position: "delivery tag", grant: "prefetch", settle: "ack" },
            features,
            max_message_bytes: self.max_message_bytes,
            limits: vec![Limit {
                name: "largest message",
                value: format!("{} bytes", self.max_message_bytes),
                source: "RabbitMQ 4, max_message_size",
            }],
        }
    }
}
