//! What the clients of one broker share: its settings, the cluster's addresses, and the channels that were made.
//!
//! Leaves out connections; each client has its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brokerlab_model::{ChannelId, ChannelSpec, LaneId, Settings, Time};
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use uuid::Uuid;

use super::login::Login;
use super::options::Options;
use super::promise::Promise;
use crate::open::Place;
use crate::tls::{Security, Target};

/// A topic that is used as a channel.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) name: String,
    pub(super) topic: String,
    pub(super) topic_id: Uuid,
    pub(super) first: u32,
    pub(super) lanes: u32,
    pub(super) groups: Vec<String>,
    pub(super) gone: bool,
    /// The largest batch that it takes.
    pub(super) max_batch: u32,
    /// By lane × group.
    pub(super) progress: Arc<[Progress]>,
}

impl Channel {
    /// What is known of a group in a lane of this channel.
    pub(super) fn progress(&self, partition: u32, group: usize) -> &Progress {
        &self.progress[partition as usize * self.groups.len() + group]
    }
}

/// How far this run's members of one group are in one lane; what a server does not know.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The next position to be delivered, as long as somebody holds the lane.
    pub(super) position: AtomicU64,
    /// The position after everything that was delivered so far.
    pub(super) highest: AtomicU64,
    /// How often the lane was assigned.
    pub(super) epoch: AtomicU32,
}

/// What all clients of one broker share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) place: Place,
    pub(super) promise: Promise,
    pub(super) login: Option<Login>,
    security: Option<Arc<Security>>,
    nodes: Mutex<BTreeMap<i32, SocketAddr>>,
    /// The brokers' names by their addresses, for those to be verified by.
    hosts: Mutex<BTreeMap<SocketAddr, String>>,
    names: Mutex<BTreeMap<String, IpAddr>>,
    channels: Mutex<Arc<Vec<Channel>>>,
    version: AtomicU64,
    numbers: Mutex<BTreeSet<u32>>,
}

/// The lock, also after a panic elsewhere: what it guards is whole between any two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        options: Options,
        place: Place,
        promise: Promise,
        login: Option<Login>,
        security: Option<Arc<Security>>,
    ) -> Self {
        Self {
            options,
            place,
            promise,
            login,
            security,
            nodes: Mutex::default(),
            hosts: Mutex::default(),
            names: Mutex::default(),
            channels: Mutex::default(),
            version: AtomicU64::new(1),
            numbers: Mutex::default(),
        }
    }

    /// Learns the brokers' addresses. A name that was not seen before is looked up, which may take a moment; names are the same
    /// ones all the time, so that happens while opening.
    pub(super) fn learn(&self, brokers: &[MetadataResponseBroker]) {
        let mut names = locked(&self.names);
        let mut nodes = BTreeMap::new();
        for broker in brokers {
            let (host, port) = (broker.host.as_str(), broker.port as u16);
            let known = host.parse().ok().or_else(|| names.get(host).copied());
            let address = known.or_else(|| (host, port).to_socket_addrs().ok()?.next().map(|address| address.ip()));
            if let Some(ip) = address {
                names.insert(host.to_owned(), ip);
                let address = SocketAddr::new(ip, port);
                nodes.insert(broker.node_id.0, address);
                locked(&self.hosts).insert(address, host.to_owned());
            }
        }
        if !nodes.is_empty() {
            *locked(&self.nodes) = nodes;
        }
    }

    /// How to connect to a broker.
    pub(super) fn target(&self, address: SocketAddr) -> Target {
        let host = locked(&self.hosts).get(&address).cloned();
        let host = host.unwrap_or_else(|| address.ip().to_string());
        Target { address, host, security: self.security.clone() }
    }

    /// Adds what secures the connections.
    pub(super) fn secured(&self, settings: &mut Settings) {
        if let Some(security) = &self.security {
            security.in_force(settings);
        }
    }

    /// The brokers by number.
    pub(super) fn nodes(&self) -> BTreeMap<i32, SocketAddr> {
        locked(&self.nodes).clone()
    }

    /// Changes with every change of the channels.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All channels in the order of their making.
    pub(super) fn channels(&self) -> Arc<Vec<Channel>> {
        locked(&self.channels).clone()
    }

    /// Adds a channel and gives it its number and lanes.
    pub(super) fn add(&self, topic: &str, topic_id: Uuid, spec: &ChannelSpec, max_batch: u32) -> (ChannelId, LaneId) {
        let (name, lanes, groups) = (&spec.name, spec.lanes, &spec.groups);
        let mut guard = locked(&self.channels);
        let mut channels = (**guard).clone();
        let first = channels.last().map_or(0, |last| last.first + last.lanes);
        let mut distinct: Vec<String> = Vec::new();
        for group in groups {
            if !distinct.contains(group) {
                distinct.push(group.clone());
            }
        }
        let id = ChannelId(channels.len() as u32);
        let progress = (0..lanes as usize * distinct.len()).map(|_| Progress::default()).collect();
        channels.push(Channel {
            id,
            name: name.clone(),
            topic: topic.to_owned(),
            topic_id,
            first,
            lanes,
            groups: distinct,
            gone: false,
            max_batch,
            progress,
        });
        *guard = Arc::new(channels);
        self.version.fetch_add(1, Ordering::AcqRel);
        (id, LaneId(first))
    }

    /// Marks a channel as gone.
    pub(super) fn forget(&self, channel: ChannelId) {
        let mut guard = locked(&self.channels);
        let mut channels = (**guard).clone();
        channels[channel.0 as usize].gone = true;
        *guard = Arc::new(channels);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// A channel that is there.
    pub(super) fn channel(&self, channel: ChannelId) -> Option<Channel> {
        locked(&self.channels).get(channel.0 as usize).filter(|channel| !channel.gone).cloned()
    }

    /// Takes a client's number; false when it is taken.
    pub(super) fn take_number(&self, number: u32) -> bool {
        locked(&self.numbers).insert(number)
    }

    /// Frees a client's number.
    pub(super) fn free_number(&self, number: u32) {
        locked(&self.numbers).remove(&number);
    }

    /// A channel's name on the server.
    pub(super) fn topic_name(&self, channel: &str) -> String {
        self.place.on_server(channel)
    }

    /// A group's name on the server.
    pub(super) fn group_name(&self, group: &str) -> String {
        format!("{}{group}", self.place.prefix)
    }

    /// Milliseconds since 1970.
    pub(super) fn utc_ms(&self, now: Time) -> i64 {
        ((self.place.origin_utc_ns + now.0) / 1_000_000).cast_signed()
    }
}
