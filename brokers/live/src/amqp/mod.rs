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
#[cfg(test)]
mod script;
mod settings;
mod settle;
mod topology;
mod wire;

use std::sync::Arc;

use brokerlab_model::{
    Broker, Capabilities, ChannelSpec, Client, ClientSpec, ConnectError, Contract, Failure, Order, Role, Settings,
    Time, Unsupported, WorkCounts, Worker,
};

use self::admin::{Administrator, Rules};
use self::blocking::Blocking;
use self::client::{AmqpClient, Common, Part};
use self::contract::{Kept, Nodes};
use self::member::{Manner, Member};
use self::producer::Producer;
use self::settings::Options;
use self::topology::{Channel, Registry};
use self::wire::{Login, Server};
use crate::mapping::Mapping;
use crate::open::{Documented, Examined, Live, OpenError, Place, Trouble};
use crate::tls::{Security, Target};
use crate::url::{Host, LiveUrl};

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
    addresses: Vec<Target>,
    nodes: Nodes,
    security: Option<Arc<Security>>,
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
    let security = Security::of(url)?;
    let (mut first, mut addresses, mut nodes) = (None::<Blocking>, Vec::new(), 0);
    let mut failed = None;
    for host in &url.hosts {
        let connected = blocking::addresses(host, security.as_ref()).and_then(|found| {
            let connection = Blocking::connect(&found, login)?;
            let is_new = found.iter().any(|new| !addresses.iter().any(|known: &Target| known.address == new.address));
            addresses.extend(found);
            Ok((connection, is_new))
        });
        match (connected, &mut first) {
            (Ok((connection, _)), None) => {
                nodes = 1;
                first = Some(connection);
            }
            (Ok((mut connection, is_new)), Some(known)) => {
                // A host that the URL names twice is one node.
                nodes += u32::from(is_new && known.shares_cluster_with(&mut connection));
                connection.close();
            }
            (Err(reason), _) => failed = failed.or(Some(trouble(&format_args!("amqp://{host}"), reason))),
        }
    }
    match (first, failed) {
        (Some(connection), _) => Ok(Seen { connection, addresses, nodes: Nodes(nodes), security }),
        (None, Some(failed)) => Err(failed),
        (None, None) => Err(trouble(url, Trouble::NoAddress("the URL names no host".to_owned()))),
    }
}

/// One node as it comes, and quorum queues.
pub(crate) fn documented() -> Documented {
    let server = Server { product: "RabbitMQ".to_owned(), version: "4.0".to_owned(), cluster: String::new() };
    let (options, default) = (Options::default(), Contract::default());
    let keeps = |order: &Order| {
        let contract = Contract { order: *order, ..default };
        contract::mapping(contract, &options, &server, Nodes(1)).missing.is_empty()
    };
    let orders = Order::ALL.iter().copied().filter(keeps).collect();
    Documented { capabilities: contract::capabilities(default, &options, &server), orders }
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
    mapping.honoured(crate::url::Scheme::Amqp.name())?;
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
    let (addresses, nodes, security) = (seen.addresses, seen.nodes, seen.security);
    seen.connection.close();
    let capabilities = contract::capabilities(contract, &options, &server);
    let common = Common {
        addresses,
        login,
        registry: Registry::default(),
        window: options.confirms,
        kept,
        mandatory: options.mandatory,
        ack_multiple: options.ack_multiple,
        max_message_bytes: capabilities.max_message_bytes as usize,
        nack: if options.rejects_publish() { Failure::Overloaded } else { Failure::Storage },
    };
    let product = format!("{} {}", server.product, server.version);
    Ok(Box::new(Rabbit {
        common: Arc::new(common),
        options,
        server,
        product,
        nodes,
        mapping,
        capabilities,
        rules,
        security,
    }))
}

/// Makes a queue as the run's will be, binds it and removes it again: what is not allowed or does not fit shows before the run.
fn try_out(connection: &mut Blocking, rules: &Rules) -> Result<(), Trouble> {
    let spec =
        ChannelSpec { name: "try".to_owned(), lanes: 1, groups: vec!["out".to_owned()], ..ChannelSpec::default() };
    let channel = Channel::planned(&rules.prefix, &spec, false);
    let (exchange, queue) = (channel.exchange.as_str(), channel.queues[0].as_str());
    let arguments = rules.arguments();
    connection.ask(exchange, |out| method::exchange_declare(out, exchange, false))?;
    // What is there with other settings is somebody else's, and stays.
    let declared = connection.ask(queue, |out| method::queue_declare(out, queue, &arguments));
    let bound = match &declared {
        Ok(()) => connection.ask(queue, |out| method::queue_bind(out, queue, exchange, "0")),
        Err(_) => Ok(()),
    };
    if declared.is_ok() {
        connection.ask(queue, |out| method::queue_delete(out, queue))?;
        connection.ask(exchange, |out| method::exchange_delete(out, exchange))?;
    }
    declared.and(bound)
}

pub(crate) fn leader(url: &LiveUrl, _place: &Place, _channel: &ChannelSpec) -> Result<Host, OpenError> {
    let why = "AMQP does not tell which node leads a queue; name the node by its number".to_owned();
    Err(OpenError::Trouble { at: url.to_string(), trouble: Trouble::Server(why) })
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
    security: Option<Arc<Security>>,
}

impl Broker for Rabbit {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn untold_limits(&self) -> Vec<String> {
        self.options.untold_limits()
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
        if let Some(security) = &self.security {
            security.in_force(&mut settings);
        }
        settings
    }

    fn server(&self) -> &str {
        &self.product
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::sync::mpsc;

    use brokerlab_model::{Batch, Blocked, Completions, Control, Event, Publishes, Span, Status, Token};

    use super::script::{id, method, poll_until, serve, spec};
    use super::topology::Channel;
    use super::*;

    fn rabbit(address: SocketAddr) -> Rabbit {
        let url = LiveUrl::parse(&format!("amqp://{address}?confirms=3")).unwrap();
        let options = Options::parse(&url).unwrap();
        let contract = Contract::default();
        let server = Server::default();
        let mapping = contract::mapping(contract, &options, &server, Nodes(1));
        let kept = Kept::of(contract, &options);
        let rules = Rules {
            prefix: String::new(),
            existing: false,
            options: options.clone(),
            kept,
            settings: Settings::default(),
        };
        let common = Common {
            addresses: vec![Target::open(address)],
            login: login(&url, &options).unwrap(),
            registry: Registry::default(),
            window: options.confirms,
            kept,
            mandatory: false,
            ack_multiple: false,
            max_message_bytes: 1_000,
            nack: Failure::Storage,
        };
        let spec = ChannelSpec { name: "c".into(), lanes: 1, groups: vec!["g".into()], ..ChannelSpec::default() };
        common.registry.add(Channel::planned("", &spec, false));
        let capabilities = contract::capabilities(contract, &options, &server);
        let (common, product) = (Arc::new(common), String::new());
        Rabbit { common, options, server, product, nodes: Nodes(1), mapping, capabilities, rules, security: None }
    }

    fn publishes(tokens: std::ops::Range<u64>) -> Batch {
        let mut publishes = Publishes::new();
        for token in tokens {
            publishes.push(Token(token), brokerlab_model::ChannelId(0), b"", b"", b"payload");
        }
        Batch::Publish(publishes)
    }

    /// Offers a batch until the connection is open.
    fn offer(client: &mut dyn Client, batch: &mut Batch, out: &mut Completions) -> Option<Blocked> {
        loop {
            let blocked = client.submit(Time::ZERO, batch).blocked;
            if blocked != Some(Blocked::Disconnected) {
                return blocked;
            }
            client.poll(Time::ZERO, out);
        }
    }

    #[test]
    fn a_window_and_an_alarm_hold_a_producer_back_each_by_its_name() {
        let (go, wait) = mpsc::channel::<()>();
        let address = serve(0, move |mut stream| {
            let mut out = Vec::new();
            wait.recv().unwrap();
            method(&mut out, 0, id(10, 60), b"\x06memory");
            stream.write_all(&out).unwrap();
            wait.recv().unwrap();
            out.clear();
            method(&mut out, 1, id(60, 80), &[0, 0, 0, 0, 0, 0, 0, 3, 1]);
            method(&mut out, 0, id(10, 61), &[]);
            stream.write_all(&out).unwrap();
            let _ended = stream.read_to_end(&mut Vec::new());
        });
        let mut rabbit = rabbit(address);
        let mut client = rabbit.connect(Time::ZERO, &spec(Role::Producer)).unwrap();
        let (mut out, mut batch) = (Completions::default(), publishes(0..8));
        assert_eq!(offer(&mut *client, &mut batch, &mut out), Some(Blocked::Window));
        assert_eq!(batch.len(), 5, "three are in the window");
        go.send(()).unwrap();
        poll_until(&mut *client, Time::ZERO, &mut out, |out| out.events == [Event::Blocked]);
        assert_eq!(client.submit(Time::ZERO, &mut batch).blocked, Some(Blocked::Broker));
        go.send(()).unwrap();
        poll_until(&mut *client, Time::ZERO, &mut out, |out| out.events == [Event::Blocked, Event::Unblocked]);
        assert_eq!(out.outcomes.iter().filter(|outcome| outcome.status == Status::Done).count(), 3);
        assert_eq!(client.submit(Time::ZERO, &mut batch).taken, 3);
    }

    #[test]
    fn heartbeats_go_out_by_the_time_told_and_their_absence_ends_the_connection() {
        let (tell, told) = mpsc::channel();
        let address = serve(60, move |mut stream| {
            let mut seen = Vec::new();
            let mut buffer = [0; 1_024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
                if seen.ends_with(&[8, 0, 0, 0, 0, 0, 0, 0xce]) {
                    tell.send(()).unwrap();
                    seen.clear();
                }
            }
        });
        let mut rabbit = rabbit(address);
        let mut client = rabbit.connect(Time::ZERO, &spec(Role::Producer)).unwrap();
        let (mut out, mut batch) = (Completions::default(), publishes(0..1));
        assert_eq!(offer(&mut *client, &mut batch, &mut out), None);
        let after = |seconds| Time::ZERO + Span::from_secs(seconds);
        assert_eq!(client.next_deadline(), Some(after(5)), "half of the ten seconds that the URL asks for");
        client.poll(after(4), &mut out);
        assert!(told.try_recv().is_err());
        client.poll(after(5), &mut out);
        told.recv().unwrap();
        assert!(out.is_empty());
        client.poll(after(20), &mut out);
        assert_eq!(out.events, [Event::Disconnected]);
        assert_eq!(out.outcomes[0].status, Status::Unknown);
    }

    #[test]
    fn credit_asked_for_before_the_connection_stands_is_kept_until_it_does() {
        let (tell, told) = mpsc::channel();
        let address = serve(0, move |mut stream| {
            let (mut seen, mut buffer) = (Vec::new(), [0; 1_024]);
            // The queue's name and the consumer's tag follow one another in basic.consume.
            let consume = b"\x05c.g.0\x030.1";
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
                if seen.windows(consume.len()).any(|part| part == consume) {
                    tell.send(()).unwrap();
                    return;
                }
            }
        });
        let mut rabbit = rabbit(address);
        let role = Role::Member { group: "g".into(), channels: vec![brokerlab_model::ChannelId(0)] };
        let mut client = rabbit.connect(Time::ZERO, &spec(role)).unwrap();
        let mut grant = Batch::Control(vec![(Token(1), Control::Grant(5))]);
        assert_eq!(client.submit(Time::ZERO, &mut grant).taken, 1);
        assert!(client.next_deadline() > Some(Time::ZERO), "nothing is to be done before the connection stands");
        let mut out = Completions::default();
        while told.try_recv().is_err() {
            client.poll(Time::ZERO, &mut out);
        }
    }

    #[test]
    fn a_close_that_nobody_answers_ends_by_itself() {
        let address = serve(0, |mut stream| {
            let _ended = stream.read_to_end(&mut Vec::new());
        });
        let mut rabbit = rabbit(address);
        let mut client = rabbit.connect(Time::ZERO, &spec(Role::Producer)).unwrap();
        let (mut out, mut batch) = (Completions::default(), publishes(0..1));
        assert_eq!(offer(&mut *client, &mut batch, &mut out), None);
        let mut close = Batch::Control(vec![(Token(9), Control::Close)]);
        assert_eq!(client.submit(Time::ZERO, &mut close).taken, 1);
        client.poll(Time::ZERO, &mut out);
        assert!(out.outcomes.is_empty(), "a publish is unconfirmed");
        let mut late = Time::ZERO;
        while out.outcomes.is_empty() {
            late = client.next_deadline().unwrap();
            client.poll(late, &mut out);
        }
        assert_eq!(late, Time::ZERO + Span::from_secs(10));
        let ended: Vec<_> = out.outcomes.iter().map(|outcome| (outcome.token.0, outcome.status)).collect();
        assert_eq!(ended, [(0, Status::Unknown), (9, Status::Done)]);
        assert_eq!(client.next_deadline(), None);
    }
}
