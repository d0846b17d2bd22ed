//! What a contract becomes on RabbitMQ: the kind of queue, publisher confirms, acknowledgements, one active consumer.
//!
//! Leaves out the settings that keep no promise; those are in `settings`.

use brokerlab_model::{
    Availability, Capabilities, Contract, Delivery, Feature, Limit, Missing, ModelKind, Order, Settings, Storage, Words,
};

use super::settings::{Options, QueueKind};
use super::wire::Server;
use crate::mapping::Mapping;

/// The queue argument that says over how many nodes a quorum queue is spread.
const GROUP_SIZE: &str = "x-quorum-initial-group-size";

/// What keeps a contract on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    delivery: Delivery,
    order: Order,
    persistent: bool,
}

impl Kept {
    pub(super) fn of(contract: Contract, options: &Options) -> Self {
        let needed = options.queue == QueueKind::Quorum || contract.storage > Storage::Memory;
        Self { delivery: contract.delivery, order: contract.order, persistent: options.persistent.unwrap_or(needed) }
    }

    /// Whether publishes are confirmed.
    pub(super) fn confirms(self) -> bool {
        self.delivery > Delivery::AtMostOnce
    }

    /// Whether a message is settled when it is sent.
    pub(super) fn auto_ack(self) -> bool {
        self.delivery == Delivery::AtMostOnce
    }

    /// Whether messages are marked persistent.
    pub(super) fn persistent(self) -> bool {
        self.persistent
    }

    /// Whether one member at a time reads a queue.
    pub(super) fn single_active(self) -> bool {
        self.order > Order::None
    }

    /// Whether a channel uses one queue however many lanes it has, and may have one group.
    pub(super) fn total(self) -> bool {
        self.order == Order::Total
    }
}

/// Nodes that are known to stand behind the URL: its hosts that answered as the same cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nodes(pub(super) u32);

/// What the contract becomes.
pub(super) fn mapping(contract: Contract, options: &Options, server: &Server, nodes: Nodes) -> Mapping {
    let kept = Kept::of(contract, options);
    let mut missing = Vec::new();
    let mut settings = Settings::default();
    settings.add("x-queue-type", options.queue.name(), "where messages are kept");
    let delivery = delivery(contract, kept, &mut settings, &mut missing);
    let order = order(contract, kept, &mut settings);
    let storage = storage(contract, kept, options, server, &mut settings, &mut missing);
    let copies = copies(contract, options, nodes, &mut settings, &mut missing);
    options.in_force(&mut settings);
    let kept = Contract { delivery, order, storage, copies, availability: Availability::Decoupled };
    Mapping { kept, settings, missing }
}

fn delivery(contract: Contract, kept: Kept, settings: &mut Settings, missing: &mut Vec<Missing>) -> Delivery {
    if contract.delivery == Delivery::ExactlyOnce {
        missing.push(gap(
            Delivery::AXIS,
            contract.delivery,
            "RabbitMQ delivers again what was not acknowledged before a connection was lost; take at-least-once and make the work idempotent",
        ));
    }
    let (confirms, acks) = if kept.auto_ack() {
        ("without them a lost publish is not sent again", "a message is settled when it is sent")
    } else {
        ("a publish is done when the queue has it", "a message that is not acknowledged is delivered again")
    };
    settings.add("publisher-confirms", kept.confirms(), confirms);
    settings.add("auto-ack", kept.auto_ack(), acks);
    contract.delivery.min(Delivery::AtLeastOnce)
}

fn order(contract: Contract, kept: Kept, settings: &mut Settings) -> Order {
    match contract.order {
        Order::None => {
            settings.add("x-single-active-consumer", kept.single_active(), "no order is asked: members compete")
        }
        Order::PerKey => {
            settings.add("x-single-active-consumer", kept.single_active(), "one member at a time reads a queue");
            settings.add("routing", "key hash", "a key's messages share a queue")
        }
        Order::Total => {
            settings.add("x-single-active-consumer", kept.single_active(), "one member at a time reads a queue");
            settings.add(
                "queues-in-use",
                1,
                "one order needs one queue, however many lanes the channel has, and one group",
            )
        }
    };
    contract.order
}

fn storage(
    contract: Contract,
    kept: Kept,
    options: &Options,
    server: &Server,
    settings: &mut Settings,
    missing: &mut Vec<Missing>,
) -> Storage {
    settings.add("persistent", kept.persistent(), "delivery mode of every message; exchanges and queues are durable");
    let (storage, why) = if !kept.confirms() {
        (Storage::Memory, "without confirms nothing is known to be stored")
    } else if options.queue == QueueKind::Quorum {
        (Storage::Fsync, "a quorum queue flushes its log before it confirms")
    } else if !kept.persistent() {
        (Storage::Memory, "a message that is not persistent is confirmed in memory")
    } else if server.classic_flushes() {
        (Storage::Fsync, "a classic queue of this version flushes a persistent message before it confirms")
    } else {
        (
            Storage::PageCache,
            "a classic queue of this version writes a persistent message before it confirms, and does not flush it",
        )
    };
    settings.add("confirm-means", storage, why);
    // Without confirms a publish is acknowledged by nobody, so no storage can be promised of it.
    if storage < contract.storage && kept.confirms() {
        missing.push(gap(
            Storage::AXIS,
            contract.storage,
            &format!("{why}; take ?queue=quorum with persistent messages"),
        ));
    }
    if kept.confirms() { storage } else { contract.storage }
}

fn copies(
    contract: Contract,
    options: &Options,
    nodes: Nodes,
    settings: &mut Settings,
    missing: &mut Vec<Missing>,
) -> u8 {
    if options.queue == QueueKind::Classic {
        if contract.copies > 1 {
            missing.push(gap(
                "copies",
                contract.copies,
                "a classic queue is on one node; take ?queue=quorum on a cluster",
            ));
        }
        return 1;
    }
    let asked = options.argument(GROUP_SIZE).and_then(|size| u32::try_from(size).ok());
    let members = asked.unwrap_or(nodes.0).min(nodes.0).max(1);
    let confirmed = u8::try_from(members / 2 + 1).unwrap_or(u8::MAX);
    if let Some(asked) = asked.filter(|asked| *asked > nodes.0) {
        let why = format!(
            "{asked} asked; AMQP does not tell a cluster's size, and {} of the URL's hosts answered as one cluster",
            nodes.0
        );
        settings.add("quorum-members-known", members, &why);
    } else {
        settings.add("quorum-members-known", members, "hosts of the URL that answered as one cluster");
    }
    if confirmed < contract.copies {
        let needed = 2 * u32::from(contract.copies) - 1;
        let why = format!(
            "a quorum queue of {members} confirms when {confirmed} have flushed; {needed} members are needed, and {} of the URL's hosts answered as one cluster: list every node in the URL",
            nodes.0
        );
        missing.push(gap("copies", contract.copies, &why));
    }
    confirmed
}

fn gap(axis: &str, asked: impl std::fmt::Display, reason: &str) -> Missing {
    Missing { axis: axis.to_owned(), asked: asked.to_string(), reason: reason.to_owned() }
}

/// What RabbitMQ under this contract is and can do.
pub(super) fn capabilities(contract: Contract, options: &Options, server: &Server) -> Capabilities {
    let kept = Kept::of(contract, options);
    let mut features = vec![Feature::Decoupled];
    if !kept.total() {
        features.push(Feature::FanOut);
    }
    if !kept.auto_ack() {
        features.extend([Feature::SettleEach, Feature::Requeue, Feature::ExactCredit]);
    }
    if options.queue == QueueKind::Quorum {
        features.push(Feature::RedeliveryCount);
    }
    if !kept.single_active() {
        features.push(Feature::CompetingConsumers);
    }
    features.sort_unstable();
    let max = options.max_message_size.unwrap_or_else(|| server.max_message_size());
    Capabilities {
        name: "rabbitmq",
        model: ModelKind::Queue,
        words: Words { lane: "queue", position: "delivery tag", grant: "prefetch", settle: "ack" },
        features,
        max_message_bytes: max,
        limits: vec![Limit {
            name: "largest message",
            value: format!("{max} bytes"),
            source: "RabbitMQ's max_message_size: 16 MiB by default since 4.0, 128 MiB before",
        }],
    }
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Contract, Delivery, Order, Storage};

    use super::*;
    use crate::mapping::Strength;
    use crate::url::LiveUrl;

    fn mapped(contract: &str, parameters: &str, version: &str, nodes: u32) -> (Contract, Mapping) {
        let contract = contract.parse().unwrap();
        let options = Options::parse(&LiveUrl::parse(&format!("amqp://h?{parameters}")).unwrap()).unwrap();
        let server = Server { product: "RabbitMQ".into(), version: version.into(), cluster: "c".into() };
        (contract, mapping(contract, &options, &server, Nodes(nodes)))
    }

    #[test]
    fn a_quorum_queue_is_fsync_on_a_majority() {
        let (asked, mapping) = mapped("decoupled", "", "3.10.8", 1);
        assert_eq!((mapping.kept.storage, mapping.kept.copies), (Storage::Fsync, 1));
        assert_eq!(mapping.strength(&asked), Strength::Stronger(vec!["fsync".into()]));
        let (_, mapping) = mapped("copies=2", "", "4.0.5", 3);
        assert_eq!((mapping.kept.copies, mapping.missing.len()), (2, 0));
        let (asked, mapping) = mapped("copies=3", "x-quorum-initial-group-size=5", "4.0.5", 3);
        assert_eq!(mapping.kept.copies, 2);
        assert!(
            matches!(mapping.strength(&asked), Strength::Weaker(missing) if missing[0].reason.contains("5 members"))
        );
    }

    #[test]
    fn a_classic_queue_keeps_what_its_version_keeps() {
        let kept = |contract, version| mapped(contract, "queue=classic", version, 1).1;
        assert_eq!(kept("page-cache", "4.0.5").kept.storage, Storage::PageCache);
        assert_eq!(kept("fsync", "4.0.5").missing.len(), 1);
        assert_eq!(kept("memory", "4.0.5").kept.storage, Storage::Memory);
        assert_eq!(kept("copies=3", "4.0.5").missing[0].axis, "copies");
        let (_, weak) = mapped("page-cache", "queue=classic&persistent=false", "4.0.5", 1);
        assert_eq!((weak.kept.storage, weak.missing.len()), (Storage::Memory, 1));
    }

    #[test]
    fn exactly_once_is_refused_and_order_takes_one_active_consumer() {
        assert_eq!(mapped("exactly-once", "", "4.0.5", 1).1.missing[0].axis, "delivery");
        let (_, per_key) = mapped("per-key", "", "4.0.5", 1);
        assert_eq!((per_key.kept.order, per_key.kept.delivery), (Order::PerKey, Delivery::AtLeastOnce));
        assert!(per_key.settings.0.iter().any(|s| s.name == "x-single-active-consumer" && s.value == "true"));
        let (contract, _) = mapped("total", "", "4.0.5", 1);
        assert!(Kept::of(contract, &Options::default()).total());
    }
}
