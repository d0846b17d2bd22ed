//! RabbitMQ by AMQP 0-9-1: a codec and a socket, no thread and no runtime.
//!
//! A channel is a durable direct exchange; each of its lanes is a routing key, and each group has a queue of its own for every lane,
//! bound by that key. A message's lane comes from its key's hash, or in turn. A client has one connection with one AMQP channel.
//! A delivery's position is its delivery tag, and a receipt is good on its own connection only; a publish's position is not told by
//! a confirm. Under an order queues have a single active consumer; under a total order one lane is used and a channel has one group,
//! for an exchange hands a message to each group's queue by itself. Settling at most once is RabbitMQ's automatic acknowledgement.
//!
//! Leaves out transactions, streams, `basic.get`, exchanges of other types, and everything of the management interface: what AMQP
//! does not tell (a cluster's size, what is in flight) is not told here either.

mod admin;
mod blocking;
mod client;
pub mod codec;
mod contract;
mod member;
mod method;
mod producer;
mod settings;
mod settle;
mod topology;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use brokerlab_model::{
    Broker, Capabilities, ChannelSpec, Client, ClientSpec, ConnectError, Contract, Failure, Role, Settings, Time,
    Unsupported, WorkCounts, Worker,
};

use self::admin::{Administrator, Rules};
use self::blocking::Blocking;
use self::client::{AmqpClient, Common, Part};
use self::contract::{Kept, Nodes};
use self::member::{Manner, Member};
use self::producer::Producer;
use self::settings::{Argument, Options};
use self::topology::{Channel, Registry};
use self::wire::{Login, Server};
use crate::mapping::Mapping;
use crate::open::{Examined, Live, OpenError, Place, Trouble};
use crate::url::LiveUrl;

/// The user that every RabbitMQ has, on loopback only.
const GUEST: &str = "guest";

fn login(url: &LiveUrl, options: &Options) -> Result<Login, OpenError> {
    let user = url.user.clone().unwrap_or_else(|| GUEST.to_owned());
    let password = url.password()?;
    let password = password.unwrap_or_else(|| if user == GUEST { GUEST.to_owned() } else { String::new() });
    let vhost = if url.path.is_empty() { "/".to_owned() } else { url.path.clone() };
    Ok(Login { user, password, vhost, frame_max: options.frame_max, heartbeat: options.heartbeat })
}

/// What was seen of the servers behind a URL.
#[derive(Debug)]
struct Seen {
    /// A connection to the first that answered.
    connection: Blocking,
    addresses: Vec<SocketAddr>,
    nodes: Nodes,
}

impl Seen {
    fn server(&self) -> &Server {
        self.connection.server()
    }
}

fn trouble(at: &dyn std::fmt::Display, trouble: Trouble) -> OpenError {
    OpenError::Trouble { at: at.to_string(), trouble }
}

/// Connects to every host of the URL; one that answers is enough.
fn look(url: &LiveUrl, login: &Login) -> Result<Seen, OpenError> {
    if url.tls {
        let text = "TLS is not built into this driver yet; use amqp://".to_owned();
        return Err(trouble(url, Trouble::Tls(text)));
    }
    let (mut first, mut addresses, mut nodes) = (None::<Blocking>, Vec::new(), 0);
    let mut failed = None;
    for host in &url.hosts {
        let connected = blocking::addresses(host).and_then(|found| {
            let connection = Blocking::connect(&found, login)?;
            addresses.extend(found);
            Ok(connection)
        });
        match (connected, &first) {
            (Ok(connection), None) => {
                nodes = 1;
                first = Some(connection);
            }
            (Ok(connection), Some(known)) => {
                nodes += u32::from(connection.server().cluster == known.server().cluster);
                connection.close();
            }
            (Err(reason), _) => failed = failed.or(Some(trouble(host, reason))),
        }
    }
    match (first, failed) {
        (Some(connection), _) => Ok(Seen { connection, addresses, nodes: Nodes(nodes) }),
        (None, Some(failed)) => Err(failed),
        (None, None) => Err(trouble(url, Trouble::NoAddress("the URL names no host".to_owned()))),
    }
}

pub(crate) fn examine(url: &LiveUrl, contract: Contract) -> Result<Examined, OpenError> {
    let options = Options::parse(url)?;
    let seen = look(url, &login(url, &options)?)?;
    let server = seen.server().clone();
    let examined = Examined {
        mapping: contract::mapping(contract, &options, &server, seen.nodes),
        capabilities: contract::capabilities(contract, &options, &server),
        server: format!("{} {}", server.product, server.version),
    };
    seen.connection.close();
    Ok(examined)
}

pub(crate) fn open(url: &LiveUrl, contract: Contract, place: &Place) -> Result<Box<dyn Live>, OpenError> {
    let options = Options::parse(url)?;
    let login = login(url, &options)?;
    let mut seen = look(url, &login)?;
    let server = seen.server().clone();
    let mapping = contract::mapping(contract, &options, &server, seen.nodes);
    if !place.accept_weaker {
        mapping.honoured(crate::url::Scheme::Amqp.name())?;
    }
    let kept = Kept::of(contract, &options);
    let rules = Rules {
        prefix: place.prefix.clone(),
        existing: place.existing,
        options: options.clone(),
        kept,
        settings: mapping.settings.clone(),
    };
    if !place.existing {
        try_out(&mut seen.connection, &rules).map_err(|reason| trouble(url, reason))?;
    }
    let (addresses, nodes) = (seen.addresses, seen.nodes);
    seen.connection.close();
    let capabilities = contract::capabilities(contract, &options, &server);
    let rejects = options.arguments.iter().any(|(name, value)| {
        name == "x-overflow" && matches!(value, Argument::Text(text) if text.starts_with("reject-publish"))
    });
    let common = Common {
        addresses,
        login,
        registry: Registry::default(),
        window: options.confirms,
        kept,
        mandatory: options.mandatory,
        ack_multiple: options.ack_multiple,
        max_message_bytes: capabilities.max_message_bytes as usize,
        nack: if rejects { Failure::Overloaded } else { Failure::Storage },
    };
    let product = format!("{} {}", server.product, server.version);
    Ok(Box::new(Rabbit { common: Arc::new(common), options, server, product, nodes, mapping, capabilities, rules }))
}

/// Makes a queue as the run's will be, binds it and removes it again: what is not allowed or does not fit shows before the run.
fn try_out(connection: &mut Blocking, rules: &Rules) -> Result<(), Trouble> {
    let spec = ChannelSpec { name: "try".to_owned(), lanes: 1, groups: vec!["out".to_owned()] };
    let channel = Channel::planned(&rules.prefix, &spec, false);
    let (exchange, queue) = (channel.exchange.as_str(), channel.queues[0].as_str());
    let arguments = rules.arguments();
    let made = connection
        .ask(exchange, |out| method::exchange_declare(out, exchange, false))
        .and_then(|()| connection.ask(queue, |out| method::queue_declare(out, queue, &arguments)))
        .and_then(|()| connection.ask(queue, |out| method::queue_bind(out, queue, exchange, "0")));
    let removed = connection
        .ask(queue, |out| method::queue_delete(out, queue))
        .and_then(|()| connection.ask(exchange, |out| method::exchange_delete(out, exchange)));
    made.and(removed)
}

pub(crate) fn remove(url: &LiveUrl, place: &Place, channels: &[ChannelSpec]) -> Result<(), OpenError> {
    if place.existing {
        return Ok(());
    }
    let options = Options::parse(url)?;
    let mut connection = look(url, &login(url, &options)?)?.connection;
    for spec in channels {
        let channel = Channel::planned(&place.prefix, spec, false);
        let removed = connection.ask_many(&channel.exchange, |out| admin::delete(&channel, out));
        removed.map_err(|reason| trouble(url, reason))?;
    }
    connection.close();
    Ok(())
}

/// RabbitMQ, opened for one contract.
#[derive(Debug)]
struct Rabbit {
    common: Arc<Common>,
    options: Options,
    server: Server,
    product: String,
    nodes: Nodes,
    mapping: Mapping,
    capabilities: Capabilities,
    rules: Rules,
}

impl Broker for Rabbit {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        contract::mapping(*contract, &self.options, &self.server, self.nodes).honoured(self.capabilities.name)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let part = match &client.role {
            Role::Producer => Part::Producer(Producer::new()),
            Role::Administrator => Part::Administrator(Administrator::new(self.rules.clone())),
            Role::Member { group, channels } => {
                let topology = self.common.registry.topology();
                for &id in channels {
                    let channel = topology.get(id).ok_or(ConnectError::NoSuchChannel(id))?;
                    if !channel.groups.contains(group) {
                        return Err(ConnectError::NoSuchGroup(group.clone()));
                    }
                }
                let manner = Manner {
                    auto_ack: self.common.kept.auto_ack(),
                    single_active: self.common.kept.single_active(),
                    prefetch: self.options.prefetch,
                };
                Part::Member(Member::new(group.clone(), channels.clone(), manner))
            }
        };
        if !self.common.registry.enter(client.number) {
            return Err(ConnectError::NumberTaken(client.number));
        }
        Ok(Box::new(AmqpClient::new(now, client.number, part, Arc::clone(&self.common))))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        Vec::new()
    }

    fn work(&self) -> WorkCounts {
        WorkCounts::default()
    }
}

impl Live for Rabbit {
    fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    fn in_force(&self) -> Settings {
        let mut settings = self.mapping.settings.clone();
        let login = &self.common.login;
        settings.add("vhost", &login.vhost, "where the run works");
        settings.add("heartbeat", login.heartbeat, "asked for; the server may agree on less");
        settings.add("frame-max", login.frame_max, "asked for; the server may agree on less");
        settings.add("max_message_size", self.capabilities.max_message_bytes, "larger messages are refused");
        settings
    }

    fn server(&self) -> &str {
        &self.product
    }
}
