//! What can be set on a queue, and by which settings it keeps a contract or why it can't.
//!
//! Leaves out `max_memory` and `max_data`, which bound the storage below and belong to its host.

use crate::capabilities::{Capabilities, Feature, Gaps, ModelKind, Settings, Unsupported, Words};
use crate::contract::{Contract, Delivery, Order, Storage};
use crate::queue::preset::{self, Preset};
use crate::time::Span;

/// What a queue that holds as many messages as it may does with one more (RabbitMQ: x-overflow).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It takes the message, hands out what it can, and gives up what waits at its head.
    #[default]
    DropHead,
    /// It refuses the message: the publish fails as overloaded. One full queue refuses for all groups of the channel, whose messages
    /// are stored once; in RabbitMQ the other queues take it, and the publisher hears the same.
    RejectPublish,
}

/// What becomes of messages that are given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadLetter {
    /// They are counted as dropped.
    #[default]
    Discard,
    /// They are counted as dead letters. Nobody can read them, and their bytes are not kept.
    Keep,
    /// They go to the channel that is made for the dead letters of theirs; without one, they are dropped.
    Channel,
}

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
    /// The system whose documented limits are set.
    pub preset: Option<Preset>,
    /// How many messages may wait in a queue, without those that members hold (RabbitMQ: x-max-length); 0 means any number.
    pub max_length: u64,
    /// What a full queue does.
    pub overflow: Overflow,
    /// How long a message may wait, from its publish on (RabbitMQ: x-message-ttl; SQS: MessageRetentionPeriod). What a member holds
    /// does not expire before it comes back. Taken as 1 ns when it is zero.
    pub message_ttl: Option<Span>,
    /// How long after its publish a message is first delivered at the earliest (SQS: DelaySeconds).
    pub delay: Span,
    /// How often a message is delivered to a group; after the last it is given up when it comes back (SQS: maxReceiveCount;
    /// RabbitMQ: x-delivery-limit, which counts redeliveries and so is one less). 0 means any number.
    pub max_deliveries: u32,
    /// How many messages of one queue members may hold at a time (SQS: in flight); 0 means any number.
    pub max_in_flight: u32,
    /// What becomes of messages that are given up.
    pub dead_letter: DeadLetter,
    /// The highest priority that a message can have (RabbitMQ: x-max-priority, 1 to 255); a higher one counts as this. 0: priorities are not
    /// looked at.
    pub priorities: u8,
    /// How long repeats of an id are acknowledged and not stored (SQS FIFO: 5 min).
    pub deduplication: Option<Span>,
    /// Whether messages of one group are delivered in order and by one member at a time, while members compete for the groups (SQS FIFO).
    /// A message's group is what it says, otherwise its key.
    pub message_groups: bool,
}

impl Default for QueueOptions {
    /// SQS's visibility timeout, RabbitMQ's largest message.
    fn default() -> Self {
        Self {
            visibility_timeout: Span::from_secs(30),
            prefetch: 0,
            window: 65_536,
            max_message_bytes: 16 * 1024 * 1024,
            preset: None,
            max_length: 0,
            overflow: Overflow::DropHead,
            message_ttl: None,
            delay: Span::ZERO,
            max_deliveries: 0,
            max_in_flight: 0,
            dead_letter: DeadLetter::Discard,
            priorities: 0,
            deduplication: None,
            message_groups: false,
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
        if self.preset == Some(Preset::Sqs) && contract.order != Order::None {
            gaps.add(Order::AXIS, contract.order, "a standard queue keeps no order; take queue?as=sqs-fifo");
        }
        if self.message_groups && self.priorities > 0 {
            gaps.add(
                "settings",
                "message_groups",
                "a group's messages come in order, whatever their priority; leave `priorities` out",
            );
        }
        if self.message_groups && self.max_length > 0 && self.overflow == Overflow::DropHead {
            gaps.add(
                "settings",
                "message_groups",
                "the head may be locked with its group; take overflow=reject-publish",
            );
        }
        if self.priorities > 0 && contract.order != Order::None {
            gaps.add(Order::AXIS, contract.order, "a message of a higher priority overtakes; leave `priorities` out");
        }
        gaps.or("queue", self.settings(*contract))
    }

    /// Whether one member at a time reads a queue.
    pub(super) fn one_reader(self, order: Order) -> bool {
        order != Order::None && !self.groups_in_order(order)
    }

    /// Whether messages of a group are delivered in order while members compete. One order of all messages is one reader's.
    pub(super) fn groups_in_order(self, order: Order) -> bool {
        self.message_groups && order != Order::Total
    }

    fn settings(self, contract: Contract) -> Settings {
        let mut settings = Settings::default();
        if let Some(preset) = self.preset {
            settings.add("as", preset.name(), "that system's documented limits, where nothing else is given");
        }
        match contract.delivery {
            Delivery::AtMostOnce => settings.add("auto-ack", true, "a message is settled when it is delivered"),
            Delivery::AtLeastOnce | Delivery::ExactlyOnce => {
                settings.add("auto-ack", false, "a message that is not settled is delivered again");
                settings.add("visibility-timeout", self.visibility_timeout, "when an unsettled message comes again")
            }
        };
        match contract.order {
            Order::None | Order::PerKey if self.message_groups => {
                settings.add("x-single-active-consumer", false, "one member at a time has messages of a group");
                settings.add("message-groups", "what a message says, else its key", "a group's messages come in order")
            }
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
        self.add_limits(&mut settings, contract.delivery);
        settings
    }

    /// What is limited beyond what every queue has; nothing else is said.
    fn add_limits(self, settings: &mut Settings, delivery: Delivery) {
        if self.max_length > 0 {
            settings.add("max-length", self.max_length, "messages that may wait in a queue");
            match self.overflow {
                Overflow::DropHead => settings.add(
                    "overflow",
                    "drop-head",
                    "a full queue gives up its oldest message: overflowed, not lost",
                ),
                Overflow::RejectPublish => {
                    settings.add("overflow", "reject-publish", "a publish to a full queue fails")
                }
            };
        }
        if let Some(ttl) = self.message_ttl {
            settings.add("message-ttl", ttl, "what waits longer is given up: expired, not lost");
        }
        if self.delay > Span::ZERO {
            settings.add("delay", self.delay, "after its publish a message is held back");
        }
        let gives_back = delivery != Delivery::AtMostOnce;
        if self.max_deliveries > 0 && gives_back {
            settings.add("max-deliveries", self.max_deliveries, "a message that comes back after them is given up");
        }
        if self.max_in_flight > 0 && gives_back {
            settings.add(
                "max-in-flight",
                self.max_in_flight,
                "unsettled messages of a queue; then nothing is delivered",
            );
        }
        if self.priorities > 0 {
            settings.add("priorities", self.priorities, "a message of a higher priority goes first");
        }
        if let Some(window) = self.deduplication {
            settings.add("deduplication", window, "a repeat of an id is acknowledged and not stored");
        }
        match self.dead_letter {
            DeadLetter::Discard => {}
            DeadLetter::Keep => {
                settings.add("dead-letter", "keep", "what is given up counts as dead letters; they can't be read");
            }
            DeadLetter::Channel => {
                settings.add(
                    "dead-letter",
                    "channel",
                    "what is given up goes to the channel made for it, if there is one",
                );
            }
        }
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
            Feature::Routing,
        ];
        let optional = [
            (self.heeds_delays(), Feature::Delay),
            (self.heeds_lives(), Feature::TimeToLive),
            (self.max_length > 0, Feature::LengthLimit),
            (self.priorities > 0, Feature::Priorities),
            (self.dead_letter == DeadLetter::Channel, Feature::DeadLetters),
            (self.deduplication.is_some(), Feature::Deduplication),
            (self.groups_in_order(contract.order), Feature::MessageGroups),
        ];
        features.extend(optional.into_iter().filter_map(|(has, feature)| has.then_some(feature)));
        if contract.delivery != Delivery::AtMostOnce {
            features.extend([Feature::SettleEach, Feature::Requeue, Feature::Lease]);
        }
        if !self.one_reader(contract.order) {
            features.push(Feature::CompetingConsumers);
        }
        features.sort_unstable();
        Capabilities {
            name: "queue",
            model: ModelKind::Queue,
            words: Words { lane: "queue", position: "delivery tag", grant: "prefetch", settle: "ack" },
            features,
            max_message_bytes: self.max_message_bytes,
            limits: preset::limits(self),
        }
    }
}
