//! Apache Kafka 4.0 or later, over its own protocol: a codec for what is seldom, batches written and read by hand, sockets that the
//! host waits on.
//!
//! Consumers use the group protocol of KIP-848, by which a broker assigns partitions and takes them back one by one, as the trait
//! wants it. Open grants outlive a disconnect: a member that comes back goes on serving them. Leaves out transactions
//! and share groups.

mod admin;
mod base;
mod batches;
mod cluster;
mod commit;
pub mod compression;
mod describe;
mod error;
mod existing;
mod fetch;
mod group;
mod kind;
mod links;
mod login;
mod member;
mod options;
mod produce;
mod producer;
mod promise;
mod questions;
mod reasons;
mod records;
mod scram;
mod seek;
mod shared;
mod stream;
mod wire;

use std::sync::Arc;

use brokerlab_model::{
    Broker, Capabilities, ChannelSpec, Client, ClientSpec, ConnectError, Contract, Order, Role, Settings, Time,
    Unsupported, WorkCounts, Worker,
};

use self::admin::Administrator;
use self::cluster::{Cluster, login, trouble};
use self::member::Member;
use self::options::Options;
use self::producer::Producer;
use self::promise::Facts;
use self::shared::Shared;
use crate::mapping::Mapping;
use crate::open::{Documented, Examined, Live, OpenError, Place};
use crate::url::{Host, LiveUrl};

/// A cluster that was opened for one contract.
#[derive(Debug)]
pub struct Kafka {
    shared: Arc<Shared>,
    facts: Facts,
    mapping: Mapping,
    capabilities: Capabilities,
}

/// How many records whole batches hold that came from somewhere else, or what is wrong with them; the count of those before it does
/// not matter then.
pub fn count_records(batches: &[u8]) -> Result<u64, String> {
    let mut cursor = records::Cursor::new(0, batches.len());
    let mut count = 0;
    while cursor.next(batches).map_err(|malformed| malformed.to_string())?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// One broker as it comes: <https://kafka.apache.org/documentation/#brokerconfigs>.
pub(crate) fn documented() -> Documented {
    let url = LiveUrl::parse("kafka://localhost").expect("a URL without parameters");
    let options = Options::read(&url).expect("defaults go together");
    let facts = Facts {
        server: "Apache Kafka 4".to_owned(),
        brokers: 1,
        message_max_bytes: 1_048_588,
        min_insync: 1,
        replication: 1,
        shown: Vec::new(),
    };
    let keeps = |order: &Order| {
        let contract = Contract { order: *order, ..Contract::default() };
        promise::map(contract, &options, &facts, false).0.missing.is_empty()
    };
    let orders = Order::ALL.iter().copied().filter(keeps).collect();
    Documented { capabilities: promise::capabilities(&options, &facts), orders }
}

pub(crate) fn examine(url: &LiveUrl, contract: Contract) -> Result<Examined, OpenError> {
    let options = Options::read(url)?;
    let login = login(url, &options)?;
    let of = |error| trouble(url, error);
    let facts = Cluster::connect(url, &options, login.as_ref())?.facts().map_err(of)?;
    let (mapping, _) = promise::map(contract, &options, &facts, false);
    Ok(Examined { mapping, capabilities: promise::capabilities(&options, &facts), server: facts.server })
}

pub(crate) fn open(url: &LiveUrl, contract: Contract, place: &Place) -> Result<Box<dyn Live>, OpenError> {
    let options = Options::read(url)?;
    let login = login(url, &options)?;
    let of = |error| trouble(url, error);
    let mut cluster = Cluster::connect(url, &options, login.as_ref())?;
    let facts = cluster.facts().map_err(of)?;
    let (mapping, promise) = promise::map(contract, &options, &facts, place.existing);
    mapping.honoured(url.scheme.name())?;
    let capabilities = promise::capabilities(&options, &facts);
    let shared = Shared::new(options, place.clone(), promise, login, cluster.security.clone());
    shared.learn(&cluster.brokers);
    Ok(Box::new(Kafka { shared: Arc::new(shared), facts, mapping, capabilities }))
}

pub(crate) fn leader(url: &LiveUrl, place: &Place, channel: &ChannelSpec) -> Result<Host, OpenError> {
    let options = Options::read(url)?;
    let login = login(url, &options)?;
    let of = |error| trouble(url, error);
    let mut cluster = Cluster::connect(url, &options, login.as_ref())?;
    cluster.leader(&place.on_server(&channel.name)).map_err(of)
}

pub(crate) fn remove(url: &LiveUrl, place: &Place, channels: &[ChannelSpec]) -> Result<(), OpenError> {
    if place.existing {
        return Ok(());
    }
    let options = Options::read(url)?;
    let login = login(url, &options)?;
    let of = |error| trouble(url, error);
    let mut cluster = Cluster::connect(url, &options, login.as_ref())?;
    cluster.remove(&options, login.as_ref(), place, channels).map_err(of)
}

impl Broker for Kafka {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        let (mapping, _) = promise::map(*contract, &self.shared.options, &self.facts, self.shared.place.existing);
        mapping.honoured(self.capabilities.name)
    }

    fn connect(&mut self, _now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        if let Role::Member { group, channels } = &client.role {
            for &id in channels {
                let channel = self.shared.channel(id).ok_or(ConnectError::NoSuchChannel(id))?;
                if !channel.groups.contains(group) {
                    return Err(ConnectError::NoSuchGroup(group.clone()));
                }
            }
        }
        if !self.shared.take_number(client.number) {
            return Err(ConnectError::NumberTaken(client.number));
        }
        let (shared, number) = (self.shared.clone(), client.number);
        let connected: std::io::Result<Box<dyn Client>> = match &client.role {
            Role::Producer => Producer::new(shared, number).map(|client| Box::new(client) as Box<dyn Client>),
            Role::Administrator => Administrator::new(shared, number).map(|client| Box::new(client) as Box<dyn Client>),
            Role::Member { group, channels } => {
                Member::new(shared, number, group, channels).map(|client| Box::new(client) as Box<dyn Client>)
            }
        };
        connected.map_err(|error| {
            self.shared.free_number(client.number);
            ConnectError::System(error.to_string())
        })
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        Vec::new()
    }

    fn work(&self) -> WorkCounts {
        WorkCounts::default()
    }
}

impl Live for Kafka {
    fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    fn in_force(&self) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in &self.shared.options.shown {
            settings.add(name, value, "the client's setting");
        }
        for (name, value) in &self.facts.shown {
            settings.add(name, value, "the broker's setting, as it tells");
        }
        self.shared.secured(&mut settings);
        settings
    }

    fn server(&self) -> &str {
        &self.facts.server
    }
}
