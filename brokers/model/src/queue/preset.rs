//! What RabbitMQ and SQS document of their queues: defaults, bounds, and where each number is from.
//!
//! A preset binds the queue to one of these systems' limits and to what of their semantics the model has. Leaves out what the
//! model has not: ids that SQS makes of a body, which a model does not see, and RabbitMQ's closing of a channel whose consumer holds a
//! message for too long (here that message alone comes back).

use std::fmt;

use crate::capabilities::Limit;
use crate::queue::options::QueueOptions;
use crate::time::Span;

/// A documented system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// RabbitMQ 4, a quorum queue.
    RabbitMq,
    /// Amazon SQS, a standard queue.
    Sqs,
    /// Amazon SQS, a FIFO queue.
    SqsFifo,
}

/// A setting outside the bounds that a system documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{preset} takes {parameter} {bounds}; give another value, or leave `as={preset}` out")]
pub struct OutOfBounds {
    /// The system.
    pub preset: &'static str,
    /// The setting.
    pub parameter: &'static str,
    /// What it may be.
    pub bounds: &'static str,
}

const MIB: u32 = 1 << 20;
const HOUR: Span = Span::from_secs(3_600);
const DAY: Span = Span::from_secs(86_400);
const MINUTE: Span = Span::from_secs(60);

impl Preset {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::RabbitMq, Self::Sqs, Self::SqsFifo];

    /// Its name in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Sqs => "sqs",
            Self::SqsFifo => "sqs-fifo",
        }
    }

    /// A queue as the system makes it when nothing is set.
    pub fn options(self) -> QueueOptions {
        let plain = QueueOptions { preset: Some(self), ..QueueOptions::default() };
        match self {
            // A quorum queue counts redeliveries: the first delivery comes before them.
            Self::RabbitMq => QueueOptions {
                visibility_timeout: Span(MINUTE.0 * 30),
                max_message_bytes: 16 * MIB,
                max_deliveries: 21,
                ..plain
            },
            Self::SqsFifo => QueueOptions {
                preset: Some(self),
                message_groups: true,
                deduplication: Some(Span(MINUTE.0 * 5)),
                ..Self::Sqs.options()
            },
            Self::Sqs => QueueOptions {
                visibility_timeout: Span::from_secs(30),
                max_message_bytes: MIB,
                message_ttl: Some(Span(DAY.0 * 4)),
                max_in_flight: 120_000,
                ..plain
            },
        }
    }
}

/// Whether a setting is within its bounds, its name, and what they are.
type Bound = (bool, &'static str, &'static str);

impl QueueOptions {
    /// Whether the settings are within the bounds that the preset's system documents, and are such as it has.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        let Some(preset) = self.preset else { return Ok(()) };
        let broken = match preset {
            Preset::RabbitMq => first_broken(&self.rabbitmq_bounds()),
            Preset::Sqs | Preset::SqsFifo => first_broken(&self.sqs_bounds(preset)),
        };
        broken.map_or(Ok(()), |(parameter, bounds)| Err(OutOfBounds { preset: preset.name(), parameter, bounds }))
    }

    /// RabbitMQ 4: configuration (max_message_size), consumer prefetch (AMQP 0-9-1: prefetch-count is a short), quorum queues (priorities).
    /// What it has only by a plugin, it has not.
    fn rabbitmq_bounds(&self) -> [Bound; 7] {
        [
            (self.max_message_bytes <= 512 * MIB, "max_message", "of at most 512 MiB"),
            (self.prefetch <= 65_535, "prefetch", "of at most 65535"),
            (self.delay == Span::ZERO, "delay", "not at all"),
            (self.max_in_flight == 0, "max_in_flight", "not at all: `prefetch` bounds what a consumer holds"),
            (
                self.priorities == 0,
                "priorities",
                "not at all: a quorum queue has two classes of its own, by another rule",
            ),
            (!self.message_groups, "message_groups", "not at all"),
            (self.deduplication.is_none(), "deduplication", "not at all"),
        ]
    }

    /// SQS developer guide, queue and message quotas; SQS API, SetQueueAttributes; dead-letter queues (maximum receives).
    fn sqs_bounds(&self, preset: Preset) -> [Bound; 11] {
        let retained = self.message_ttl.is_some_and(|ttl| (MINUTE..=Span(DAY.0 * 14)).contains(&ttl));
        [
            (self.visibility_timeout <= Span(HOUR.0 * 12), "visibility_timeout", "of at most 12 h"),
            (self.max_message_bytes <= MIB, "max_message", "of at most 1 MiB"),
            (retained, "message_ttl", "from 1 min to 14 d"),
            (self.delay <= Span(MINUTE.0 * 15), "delay", "of at most 15 min"),
            ((1..=120_000).contains(&self.max_in_flight), "max_in_flight", "from 1 to 120000"),
            (self.max_deliveries <= 1_000, "max_deliveries", "of at most 1000"),
            (self.prefetch == 0, "prefetch", "not at all: a receiver asks for what it wants"),
            (self.max_length == 0, "max_length", "not at all"),
            (self.priorities == 0, "priorities", "not at all"),
            (
                self.message_groups == (preset == Preset::SqsFifo),
                "message_groups",
                "on for a FIFO queue, off otherwise",
            ),
            (
                self.deduplication == preset.options().deduplication,
                "deduplication",
                "of 5 min for a FIFO queue, none otherwise",
            ),
        ]
    }

    /// Whether a message may have a delay of its own: RabbitMQ has that by a plugin only.
    pub(super) fn heeds_delays(&self) -> bool {
        self.preset != Some(Preset::RabbitMq)
    }

    /// Whether a message may have a time to live of its own: in SQS the queue's retention counts.
    pub(super) fn heeds_lives(&self) -> bool {
        !matches!(self.preset, Some(Preset::Sqs | Preset::SqsFifo))
    }
}

fn first_broken(bounds: &[Bound]) -> Option<(&'static str, &'static str)> {
    bounds.iter().find(|(kept, ..)| !kept).map(|&(_, parameter, bounds)| (parameter, bounds))
}

/// The limits in force, with the source of those that a system documents.
pub(super) fn limits(options: &QueueOptions) -> Vec<Limit> {
    let bytes = format!("{} bytes", options.max_message_bytes);
    match options.preset {
        None => vec![limit("largest message", bytes, "RabbitMQ 4, max_message_size")],
        Some(Preset::RabbitMq) => rabbitmq(options, bytes),
        Some(Preset::Sqs) => {
            sqs(options, bytes, "SQS developer guide, queue quotas: about 120,000 for standard queues")
        }
        Some(Preset::SqsFifo) => {
            let in_flight = "SQS developer guide, FIFO queues: 120,000; 20,000 in earlier editions";
            let mut limits = sqs(options, bytes, in_flight);
            limits.push(limit(
                "deduplication",
                options.deduplication.map_or_else(|| "none".to_owned(), |window| window.to_string()),
                "SQS API, SendMessage, MessageDeduplicationId: 5 min; here by the header of that name, never by the body",
            ));
            limits.push(limit(
                "messages of a group in one receive",
                "10",
                "SQS developer guide, FIFO delivery logic: a group with messages in flight is not read further",
            ));
            limits
        }
    }
}

fn rabbitmq(options: &QueueOptions, bytes: String) -> Vec<Limit> {
    let prefetch = if options.prefetch == 0 { "as granted".to_owned() } else { options.prefetch.to_string() };
    vec![
        limit("largest message", bytes, "RabbitMQ 4.0.1 release notes: max_message_size is 16 MiB by default"),
        limit(
            "consumer timeout",
            options.visibility_timeout,
            "RabbitMQ, consumer timeouts: consumer_timeout is 30 min by default",
        ),
        limit(
            "deliveries",
            any(options.max_deliveries),
            "RabbitMQ 4.0.1 release notes: a quorum queue's redelivery limit is 20 by default",
        ),
        limit("prefetch", prefetch, "RabbitMQ, consumer prefetch: 0 allows any number"),
    ]
}

fn sqs(options: &QueueOptions, bytes: String, in_flight: &'static str) -> Vec<Limit> {
    let retention = options.message_ttl.map_or_else(|| "for ever".to_owned(), |ttl| ttl.to_string());
    vec![
        limit(
            "largest message",
            bytes,
            "AWS Compute Blog, \"serverless services now support payloads up to 1 MB\"; 256 KiB before",
        ),
        limit(
            "visibility timeout",
            options.visibility_timeout,
            "SQS API, ChangeMessageVisibility: 30 s by default, at most 12 h",
        ),
        limit("messages in flight in a queue", options.max_in_flight, in_flight),
        limit("retention", retention, "SQS developer guide, message quotas: 4 d by default, 1 min to 14 d"),
        limit("delay", options.delay, "SQS developer guide, queue quotas: at most 15 min"),
        limit("deliveries", any(options.max_deliveries), "SQS, redrive policy: maxReceiveCount, none by default"),
        limit(
            "messages in one receive",
            "10",
            "SQS API, ReceiveMessage: MaxNumberOfMessages; a larger grant stands for several calls",
        ),
    ]
}

fn any(number: u32) -> String {
    if number == 0 { "any number".to_owned() } else { number.to_string() }
}

fn limit(name: &'static str, value: impl fmt::Display, source: &'static str) -> Limit {
    Limit { name, value: value.to_string(), source }
}
