//! What a contract becomes on a Kafka cluster: settings of topics, producers and consumers, or what is missing.
//!
//! Leaves out asking the cluster; its facts are given in.

use brokerlab_model::{
    Capabilities, Contract, Delivery, Feature, Limit, Missing, ModelKind, Order, Settings, Storage, Words,
};

use super::options::Options;
use super::records;
use crate::mapping::Mapping;
use crate::url::Scheme;

/// What was learned of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) server: String,
    /// How many brokers are up.
    pub(super) brokers: usize,
    pub(super) message_max_bytes: u32,
    /// A broker's `min.insync.replicas` and `default.replication.factor`.
    pub(super) min_insync: i16,
    pub(super) replication: i16,
    /// Settings of a broker that are worth printing.
    pub(super) shown: Vec<(String, String)>,
}

/// How the clients behave to keep a contract.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    /// `min.insync.replicas` and so on, for topics that are made.
    pub(super) topic: Vec<(String, String)>,
    pub(super) replication: i16,
    /// Whether offsets are committed before their messages are delivered.
    pub(super) commit_first: bool,
    /// Whether a channel has one partition only.
    pub(super) single_lane: bool,
    /// The largest batch that a server takes and a request holds.
    pub(super) max_batch: u32,
}

/// The largest message that a cluster takes.
fn max_message(options: &Options, facts: &Facts) -> u32 {
    max_batch(options, facts).saturating_sub((records::OVERHEAD + records::PER_RECORD) as u32)
}

/// The largest batch that a cluster takes.
fn max_batch(options: &Options, facts: &Facts) -> u32 {
    let given =
        options.topic.iter().find(|(name, _)| name == "max.message.bytes").and_then(|(_, value)| value.parse().ok());
    given.unwrap_or(facts.message_max_bytes).min(options.max_request_size as u32)
}

/// What `contract` becomes. `existing` topics are used as they are.
pub(super) fn map(contract: Contract, options: &Options, facts: &Facts, existing: bool) -> (Mapping, Promise) {
    let mut kept = contract;
    let mut settings = Settings::default();
    let mut missing = Vec::new();
    delivery(contract, options, &mut settings, &mut missing, &mut kept);
    order(contract, options, &mut settings, &mut missing, &mut kept);
    let mut topic = options.topic.clone();
    storage(contract, existing, &mut settings, &mut missing, &mut kept, &mut topic);
    let replication = copies(contract, options, facts, existing, &mut settings, &mut missing, &mut kept, &mut topic);
    settings.add(
        "auto.offset.reset",
        "earliest",
        "a consumer group that never committed begins with the oldest record kept",
    );
    settings.add(
        "group.protocol",
        "consumer",
        "the broker assigns partitions; only those that must move are revoked (KIP-848)",
    );
    let promise = Promise {
        topic,
        replication,
        commit_first: contract.delivery == Delivery::AtMostOnce,
        single_lane: contract.order == Order::Total,
        max_batch: max_batch(options, facts),
    };
    (Mapping { kept, settings, missing }, promise)
}

fn gap(missing: &mut Vec<Missing>, axis: &str, asked: impl std::fmt::Display, reason: &str) {
    missing.push(Missing { axis: axis.to_owned(), asked: asked.to_string(), reason: reason.to_owned() });
}

fn delivery(
    contract: Contract,
    options: &Options,
    settings: &mut Settings,
    missing: &mut Vec<Missing>,
    kept: &mut Contract,
) {
    let acks = if options.acks == -1 { "all" } else { "1" };
    settings.add("producer.acks", acks, "a publish is done when the in-sync replicas (all) or the leader (1) have it");
    let idempotent = "a broker drops what a producer sends twice, within one producer's session";
    settings.add("producer.enable.idempotence", options.idempotence, idempotent);
    match contract.delivery {
        Delivery::AtMostOnce => {
            settings.add("offset.commit", "before delivery", "nothing is handed out twice");
            if !options.idempotence {
                let reason = "without producer.enable.idempotence=true a retry may publish a message twice";
                gap(missing, "delivery", contract.delivery, reason);
                kept.delivery = Delivery::AtMostOnce;
            }
        }
        Delivery::AtLeastOnce => {
            settings.add(
                "offset.commit",
                "after settling",
                "what was not settled is read again by the partition's next owner",
            );
        }
        Delivery::ExactlyOnce => {
            let reason =
                "consumers here take part in no transaction; Kafka's read-process-write transactions would keep it";
            gap(missing, "delivery", contract.delivery, reason);
            kept.delivery = Delivery::AtLeastOnce;
            settings.add(
                "offset.commit",
                "after settling",
                "what was not settled is read again by the partition's next owner",
            );
        }
    }
}

fn order(
    contract: Contract,
    options: &Options,
    settings: &mut Settings,
    missing: &mut Vec<Missing>,
    kept: &mut Contract,
) {
    match contract.order {
        Order::None | Order::PerKey => settings.add(
            "partitioner",
            "murmur2(key) mod partitions; sticky without a key",
            "records of one key share a partition, which is read in order",
        ),
        Order::Total => settings.add("partitions", 1, "one partition is one order for every consumer group"),
    };
    let in_flight = "an idempotent producer keeps a partition's order with up to 5 requests in flight, others with 1";
    settings.add("producer.max.in.flight.requests.per.connection", options.in_flight, in_flight);
    if contract.order != Order::None && !options.idempotence && options.in_flight > 1 {
        let reason = "a retry may overtake; set producer.enable.idempotence=true or one request in flight";
        gap(missing, "order", contract.order, reason);
        kept.order = Order::None;
    }
}

fn storage(
    contract: Contract,
    existing: bool,
    settings: &mut Settings,
    missing: &mut Vec<Missing>,
    kept: &mut Contract,
    topic: &mut Vec<(String, String)>,
) {
    let given = topic.iter().find(|(name, _)| name == "flush.messages").map(|(_, value)| value.clone());
    match contract.storage {
        Storage::Memory | Storage::PageCache => {
            let value = given.unwrap_or_else(|| "the broker's".to_owned());
            if value == "1" && !existing {
                kept.storage = Storage::Fsync;
                settings.add("topic.flush.messages", 1, "every batch is flushed before it is acknowledged");
            } else {
                kept.storage = Storage::PageCache;
                settings.add("topic.flush.messages", value, "records are acknowledged from the page cache");
            }
        }
        Storage::Fsync if existing => {
            let reason = "an existing topic is not changed; set flush.messages=1 on it, or let the run make its own";
            gap(missing, "storage", contract.storage, reason);
            kept.storage = Storage::PageCache;
        }
        Storage::Fsync => {
            if given.as_deref().is_some_and(|value| value != "1") {
                let reason = "topic.flush.messages is set to more than 1; leave it out";
                gap(missing, "storage", contract.storage, reason);
                kept.storage = Storage::PageCache;
                return;
            }
            if given.is_none() {
                topic.push(("flush.messages".to_owned(), "1".to_owned()));
            }
            settings.add("topic.flush.messages", 1, "every batch is flushed before it is acknowledged");
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "each is one part of the mapping that is being built")]
fn copies(
    contract: Contract,
    options: &Options,
    facts: &Facts,
    existing: bool,
    settings: &mut Settings,
    missing: &mut Vec<Missing>,
    kept: &mut Contract,
    topic: &mut Vec<(String, String)>,
) -> i16 {
    let asked = i16::from(contract.copies);
    let possible = i16::try_from(facts.brokers).unwrap_or(i16::MAX);
    // Never less than the brokers' own defaults: with as many replicas as copies no broker could be missed.
    let replication = options.replication.unwrap_or_else(|| asked.max(facts.replication.min(possible)));
    let min_insync = options.min_insync.unwrap_or_else(|| asked.max(facts.min_insync.min(replication)));
    let used = replication.min(possible.max(1));
    let held = if options.acks == -1 { min_insync.min(used) } else { 1 };
    if asked > 1 && existing {
        let reason = "an existing topic is used as it is; its replicas are its own";
        gap(missing, "copies", contract.copies, reason);
        kept.copies = 1;
        return used;
    }
    if let Some(replication) = options.replication.filter(|replication| !existing && *replication > possible) {
        let reason =
            format!("the cluster has {possible} brokers, and topic.replication.factor is {replication}; lower it");
        gap(missing, "copies", format!("topic.replication.factor={replication}"), &reason);
    } else if held < asked {
        let reason = if options.acks != -1 {
            "with acks=1 only the leader has it; set producer.acks=all".to_owned()
        } else if used < replication {
            format!("the cluster has {possible} of {replication} brokers; add brokers, or ask for fewer copies")
        } else {
            format!("min.insync.replicas is {min_insync}; leave it out or raise it")
        };
        gap(missing, "copies", contract.copies, &reason);
    }
    kept.copies = u8::try_from(held.max(1)).unwrap_or(u8::MAX);
    if !existing {
        settings.add("topic.replication.factor", used, "as many replicas of each partition");
        let least = min_insync.min(used);
        settings.add(
            "topic.min.insync.replicas",
            least,
            "with acks=all at least as many have it when it is acknowledged",
        );
        topic.push(("min.insync.replicas".to_owned(), least.to_string()));
    }
    used
}

/// What Kafka is and can do.
pub(super) fn capabilities(options: &Options, facts: &Facts) -> Capabilities {
    let limit = |name, value: String, source| Limit { name, value, source };
    Capabilities {
        name: Scheme::Kafka.name(),
        model: ModelKind::Log,
        words: Words { lane: "partition", position: "offset", grant: "fetch", settle: "offset commit" },
        features: vec![
            Feature::SeekPosition,
            Feature::SeekTime,
            Feature::Windows,
            Feature::FanOut,
            Feature::LaneAssignment,
            Feature::Decoupled,
            Feature::PublishPosition,
            Feature::FullDepth,
            Feature::ExactCredit,
            Feature::Sessions,
        ],
        max_message_bytes: max_message(options, facts),
        limits: vec![
            limit("largest batch", format!("{} B", facts.message_max_bytes), "the broker: message.max.bytes"),
            limit("largest request", format!("{} B", options.max_request_size), "producer.max.request.size"),
            limit("bytes in flight per producer", format!("{} B", options.buffer_memory), "producer.buffer.memory"),
        ],
    }
}
