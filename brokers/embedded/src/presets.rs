//! Presets: a backend with the documented limits and defaults of one system, as in `log?as=kafka`.
//!
//! A preset is taken before any other parameter, so that what is written beside it wins wherever it stands. Leaves out what a
//! limit does and where its number comes from: the model has both, and prints them with its settings and capabilities.

use brokerlab_model::log::LogOptions;
use brokerlab_model::queue;
use brokerlab_model::shard::ShardOptions;

use crate::url::{Kind, Options};

/// A system whose documented limits and defaults a backend can take.
#[derive(Debug)]
pub struct Preset {
    /// As it is written: `as=kafka`.
    pub name: &'static str,
    /// The system's own name.
    pub system: &'static str,
    pub(crate) set: fn(&mut Options),
}

const LOG: &[Preset] =
    &[Preset { name: "kafka", system: "Apache Kafka", set: |options| options.log = LogOptions::kafka() }];

const QUEUE: &[Preset] = &[
    Preset { name: "rabbitmq", system: "RabbitMQ", set: |options| options.queue = queue::Preset::RabbitMq.options() },
    Preset {
        name: "sqs",
        system: "Amazon SQS, standard queues",
        set: |options| options.queue = queue::Preset::Sqs.options(),
    },
    Preset {
        name: "sqs-fifo",
        system: "Amazon SQS, FIFO queues",
        set: |options| options.queue = queue::Preset::SqsFifo.options(),
    },
];

const SHARD: &[Preset] = &[Preset {
    name: "kinesis",
    system: "Amazon Kinesis Data Streams",
    set: |options| options.shard = ShardOptions::kinesis(),
}];

/// The presets of a backend; none where no documented system is such a model.
pub(crate) const fn of(kind: Kind) -> &'static [Preset] {
    match kind {
        Kind::Log => LOG,
        Kind::Queue => QUEUE,
        Kind::Shard => SHARD,
        Kind::Direct | Kind::Null => &[],
    }
}
