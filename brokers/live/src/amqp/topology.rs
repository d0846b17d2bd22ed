//! What the channels of a run are on the server: an exchange each, and a durable queue for each lane and group.
//!
//! One snapshot is shared by all clients of a broker and replaced when the administrator makes or removes a channel. Leaves out
//! the server's answers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brokerlab_model::{ChannelId, ChannelSpec, LaneId};

use super::method;

/// A channel as it stands on the server.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) name: String,
    /// Empty for the default exchange, which routes by a queue's name.
    pub(super) exchange: String,
    pub(super) first_lane: u32,
    pub(super) lanes: u32,
    pub(super) groups: Vec<String>,
    /// By lane, and within it by group.
    pub(super) queues: Vec<String>,
    /// By lane: the frame that a publish begins with.
    pub(super) publishes: Vec<Arc<[u8]>>,
    pub(super) gone: bool,
}

impl Channel {
    /// What a channel is to be. `total`: one lane is used, whatever was asked for.
    pub(super) fn planned(prefix: &str, spec: &ChannelSpec, mandatory: bool) -> Self {
        let exchange = format!("{prefix}{}", spec.name);
        let mut groups: Vec<String> = Vec::new();
        for group in &spec.groups {
            if !groups.contains(group) {
                groups.push(group.clone());
            }
        }
        let queues = (0..spec.lanes)
            .flat_map(|lane| groups.iter().map(move |group| (lane, group)))
            .map(|(lane, group)| format!("{exchange}.{group}.{lane}"))
            .collect();
        let publishes = (0..spec.lanes).map(|lane| publish(&exchange, &lane.to_string(), mandatory)).collect();
        Self {
            name: spec.name.clone(),
            exchange,
            first_lane: 0,
            lanes: spec.lanes,
            groups,
            queues,
            publishes,
            gone: false,
        }
    }

    /// A channel that is there already: one lane and one group are the queue of that name itself, anything else an exchange and
    /// queues named as this driver would name them.
    pub(super) fn existing(spec: &ChannelSpec, mandatory: bool) -> Self {
        let mut channel = Self::planned("", spec, mandatory);
        if spec.lanes == 1 && channel.groups.len() == 1 {
            channel.exchange = String::new();
            channel.queues = vec![spec.name.clone()];
            channel.publishes = vec![publish("", &spec.name, mandatory)];
        }
        channel
    }

    /// A lane's routing key.
    pub(super) fn routing_key(lane: u32) -> String {
        lane.to_string()
    }

    /// The longest name, which a server takes up to 255 bytes of.
    pub(super) fn longest_name(&self) -> usize {
        self.queues.iter().map(String::len).max().unwrap_or(0).max(self.exchange.len())
    }
}

fn publish(exchange: &str, routing_key: &str, mandatory: bool) -> Arc<[u8]> {
    method::basic_publish(exchange, routing_key, mandatory).into()
}

/// Every channel, by its number.
#[derive(Clone, Debug, Default)]
pub(super) struct Topology {
    pub(super) channels: Vec<Channel>,
    lanes: u32,
}

impl Topology {
    /// A channel that is there.
    pub(super) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(id.0 as usize).filter(|channel| !channel.gone)
    }

    /// Whether a channel of that name is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.channels.iter().any(|channel| !channel.gone && channel.name == name)
    }

    /// Whether a lane of that number was ever there.
    pub(super) fn has_lane(&self, lane: LaneId) -> bool {
        lane.0 < self.lanes
    }
}

/// What a broker's clients share.
#[derive(Debug, Default)]
pub(super) struct Registry {
    topology: Mutex<Arc<Topology>>,
    version: AtomicU64,
    epochs: AtomicU32,
    numbers: Mutex<Vec<u32>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single assignment, so that a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// The channels as they are now.
    pub(super) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&locked(&self.topology))
    }

    /// Replaces a snapshot that is older than the newest.
    pub(super) fn refresh(&self, seen: &mut (u64, Arc<Topology>)) -> bool {
        let version = self.version.load(Ordering::Acquire);
        if seen.0 == version {
            return false;
        }
        *seen = (version, self.topology());
        true
    }

    fn change<R>(&self, change: impl FnOnce(&mut Topology) -> R) -> R {
        let mut guard = locked(&self.topology);
        let mut topology = Topology::clone(&guard);
        let result = change(&mut topology);
        *guard = Arc::new(topology);
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    /// Numbers a channel and its lanes.
    pub(super) fn add(&self, mut channel: Channel) -> (ChannelId, LaneId) {
        self.change(|topology| {
            channel.first_lane = topology.lanes;
            topology.lanes += channel.lanes;
            let first = LaneId(channel.first_lane);
            topology.channels.push(channel);
            (ChannelId(topology.channels.len() as u32 - 1), first)
        })
    }

    /// Marks a channel as gone and returns it.
    pub(super) fn remove(&self, id: ChannelId) -> Option<Channel> {
        self.change(|topology| {
            let channel = topology.channels.get_mut(id.0 as usize).filter(|channel| !channel.gone)?;
            channel.gone = true;
            Some(channel.clone())
        })
    }

    /// A number that no other connection of the run has: receipts of one are worth nothing on another.
    pub(super) fn epoch(&self) -> u32 {
        self.epochs.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a client's number; false when it is taken.
    pub(super) fn enter(&self, number: u32) -> bool {
        let mut numbers = locked(&self.numbers);
        match numbers.binary_search(&number) {
            Ok(_) => false,
            Err(at) => {
                numbers.insert(at, number);
                true
            }
        }
    }

    /// Gives a client's number back.
    pub(super) fn leave(&self, number: u32) {
        let mut numbers = locked(&self.numbers);
        if let Ok(at) = numbers.binary_search(&number) {
            numbers.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(lanes: u32, groups: &[&str]) -> ChannelSpec {
        ChannelSpec {
            name: "orders".into(),
            lanes,
            groups: groups.iter().map(|&g| g.to_owned()).collect(),
            ..ChannelSpec::default()
        }
    }

    #[test]
    fn queues_are_named_by_lane_and_group_and_lanes_are_numbered_across_channels() {
        let planned = Channel::planned("run-", &spec(2, &["g", "h", "g"]), false);
        assert_eq!(planned.exchange, "run-orders");
        assert_eq!(planned.queues, ["run-orders.g.0", "run-orders.h.0", "run-orders.g.1", "run-orders.h.1"]);
        let registry = Registry::default();
        assert_eq!(registry.add(planned), (ChannelId(0), LaneId(0)));
        let existing = Channel::existing(&spec(1, &["g"]), false);
        assert_eq!((existing.exchange.as_str(), existing.queues.as_slice()), ("", &["orders".to_owned()][..]));
        assert_eq!(registry.add(existing), (ChannelId(1), LaneId(2)));
        assert_eq!(registry.remove(ChannelId(0)).map(|channel| channel.lanes), Some(2));
        assert!(registry.remove(ChannelId(0)).is_none() && registry.topology().has("orders"));
    }

    #[test]
    fn a_snapshot_is_renewed_when_something_changed_and_a_number_is_used_once() {
        let registry = Registry::default();
        let mut seen = (0, registry.topology());
        assert!(!registry.refresh(&mut seen));
        registry.add(Channel::planned("", &spec(1, &[]), false));
        assert!(registry.refresh(&mut seen) && seen.1.get(ChannelId(0)).is_some());
        assert!(registry.enter(7) && !registry.enter(7));
        registry.leave(7);
        assert!(registry.enter(7));
    }
}
