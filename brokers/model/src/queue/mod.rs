//! The queue (RabbitMQ, SQS): competing consumers, prefetch, leases with a visibility timeout, redelivery.
//!
//! A channel is a fan-out exchange. Each of its lanes stores a message once, at dense positions; each group bound to the
//! channel has a queue of its own over those positions. All members of a group compete on all of the channel's lanes, so no
//! lane is ever assigned. A delivery is a lease: it ends by a settlement, by the visibility timeout or when the member leaves,
//! and then the message is delivered again before newer ones.
//!
//! Under an order, `x-single-active-consumer` is set: one member at a time reads a queue, so that first deliveries come in
//! order. At most once means automatic settlement at delivery.
//!
//! A queue may have a length limit, a time to live, a delay before the first delivery and a limit on deliveries
//! ([`QueueOptions`]); what it gives up is counted by reason, and the journal knows it as settled. A message says of itself, in its
//! [headers](crate::headers), its priority, delay, time to live, group, routing key and the id by which its repeats are known.
//! Presets ([`Preset`]) set what RabbitMQ and SQS document. Leaves out ids made from a message's body: a model sees no payload.

mod ages;
mod backlog;
mod clients;
mod dead_letters;
mod dispatch;
mod exceptions;
mod limits;
mod message_groups;
mod options;
mod positions;
mod preset;
mod publish;
mod repeats;
mod restore;
mod said;
mod settle;
mod terms;
mod topology;
mod window;

#[cfg(test)]
mod dead_letters_tests;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod said_tests;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

pub use options::{DeadLetter, Overflow, QueueOptions};
pub use preset::{OutOfBounds, Preset};

use crate::batch::{Accepted, ChannelId, Control, Publishes, Settlement, Token};
use crate::binding::Pattern;
use crate::broker::{ClientSpec, ConnectError, Role};
use crate::capabilities::{Capabilities, Settings, Unsupported};
use crate::completion::{Failure, Refusal};
use crate::contract::{Contract, Delivery};
use crate::journal::{Journal, JournalError};
use crate::machine::{Effects, Model};
use crate::slots::Slots;
use crate::time::{Span, Time};
use ages::Ages;
use backlog::{Backlog, Holes};
use clients::{Client, Part, Subscription};
use dispatch::done;
use exceptions::Shape;
use limits::Front;
use publish::{Pending, refused};
use repeats::Repeats;

/// How many messages of one message group a member is handed at a time (SQS: ReceiveMessage returns at most ten).
const GROUP_BATCH: u32 = 10;

/// An exchange.
#[derive(Clone, Debug, Default)]
struct Channel {
    name: String,
    first_lane: u32,
    lanes: u32,
    /// Its groups' indices in the model.
    groups: Vec<u32>,
    group_names: Vec<String>,
    /// What its groups get, by their places; everything, without any.
    bindings: Vec<(u32, Pattern)>,
    /// The channel whose dead letters it takes, and the one that takes its own.
    dead_letters_of: Option<u32>,
    dead_letters_to: Option<u32>,
    /// Messages that no group was bound to.
    unroutable: u64,
    /// Messages that repeated an id.
    repeated: u64,
    /// Whose turn it is among the lanes, for messages without a key.
    turn: u32,
    gone: bool,
}

/// Where messages are stored once, for all groups.
#[derive(Clone, Debug)]
struct Lane {
    channel: u32,
    /// The first group's queue; the others follow.
    first_queue: u32,
    /// The next position to be written.
    end: u64,
    /// Everything below is stored or lost.
    stored: u64,
    /// Everything below was given back.
    trimmed: u64,
    /// What was lost.
    holes: Holes,
    /// Everything below may be delivered.
    visible: u64,
    /// Everything below has outlived its time to live.
    expired_below: u64,
    /// Since when messages are there; kept only where that matters.
    ages: Ages,
    /// By front, whether its timer stands.
    armed: [bool; 2],
    /// Whether `stored` moved in the step at hand.
    grown: bool,
    gone: bool,
}

/// A group of members that share a channel's messages.
#[derive(Clone, Debug)]
struct Group {
    channel: u32,
    /// Its place in the channel's list of groups.
    place: u32,
    first_lane: u32,
    lanes: u32,
    members: Vec<u32>,
    /// Members with credit, and which of their bindings this is; whose turn it is first.
    waiting: VecDeque<(u32, u32)>,
    /// Lanes with something ready, whose turn it is first.
    ready: VecDeque<u32>,
    dirty: bool,
}

/// The queue model. See the module's documentation.
#[expect(clippy::struct_excessive_bools, reason = "each is decided once, by options and contract")]
#[derive(Clone, Debug)]
pub struct QueueModel {
    options: QueueOptions,
    contract: Contract,
    capabilities: Capabilities,
    settings: Settings,
    /// Whether one member at a time reads a queue.
    exclusive: bool,
    /// Whether messages are held back or expire.
    ageing: bool,
    /// Whether a full queue gives up what waits at its head.
    shortens: bool,
    /// Whether messages of a group are delivered in order while members compete.
    groups_in_order: bool,
    channels: Vec<Channel>,
    lanes: Vec<Lane>,
    backlogs: Vec<Backlog>,
    groups: Vec<Group>,
    clients: Slots<Client>,
    pending: Pending,
    repeats: Repeats,
    /// Dead letters that the step at hand has written.
    letters_written: u32,
    /// Lease ends by queue (lane, group); at most one that counts for each, the others are skipped.
    timers: BinaryHeap<Reverse<(Time, u32, u32)>>,
    /// When messages appear or expire, by lane; one of each for a lane that has such messages.
    lane_timers: BinaryHeap<Reverse<(Time, u32, Front)>>,
    // Within one step:
    dirty: Vec<u32>,
    grown: Vec<u32>,
    touched: Vec<(u32, u32)>,
    /// Lane, group, first position and how many from there on.
    settled: Vec<(u32, u32, u64, u32)>,
    freed: Vec<u32>,
    scratch: Vec<u64>,
    /// Positions of one queue that were given up and are to be buried.
    graves: Vec<u64>,
    /// Queues (lane, group) in which something waits since this step, where there is a limit to be kept.
    grown_queues: Vec<(u32, u32)>,
}

impl QueueModel {
    /// A queue without channels that keeps `contract`, or what is missing.
    pub fn new(options: QueueOptions, contract: &Contract) -> Result<Self, Unsupported> {
        let options = QueueOptions {
            visibility_timeout: options.visibility_timeout.max(Span(1)),
            message_ttl: options.message_ttl.map(|ttl| ttl.max(Span(1))),
            ..options
        };
        Ok(Self {
            settings: options.honour(contract)?,
            capabilities: options.capabilities(*contract),
            exclusive: options.one_reader(contract.order),
            groups_in_order: options.groups_in_order(contract.order),
            ageing: options.delay > Span::ZERO || options.message_ttl.is_some(),
            shortens: options.max_length > 0 && options.overflow == Overflow::DropHead,
            options,
            contract: *contract,
            channels: Vec::new(),
            lanes: Vec::new(),
            backlogs: Vec::new(),
            groups: Vec::new(),
            clients: Slots::default(),
            pending: Pending::default(),
            repeats: Repeats::default(),
            letters_written: 0,
            timers: BinaryHeap::new(),
            lane_timers: BinaryHeap::new(),
            dirty: Vec::new(),
            grown: Vec::new(),
            touched: Vec::new(),
            settled: Vec::new(),
            freed: Vec::new(),
            scratch: Vec::new(),
            graves: Vec::new(),
            grown_queues: Vec::new(),
        })
    }

    /// The index of a group's queue over a lane.
    fn queue_of(&self, lane: u32, group: u32) -> usize {
        (self.lanes[lane as usize].first_queue + self.groups[group as usize].place) as usize
    }

    /// What all queues have in common.
    fn shape(&self) -> Shape {
        Shape {
            levels: self.options.priorities,
            ageing: self.options.message_ttl.is_some(),
            group_batch: self.groups_in_order.then_some(GROUP_BATCH),
            dead_letters: self.keeps_letters(),
        }
    }

    fn subscriptions(&self, group: &str, channels: &[ChannelId]) -> Result<Vec<Subscription>, ConnectError> {
        let mut bindings = Vec::with_capacity(channels.len());
        for &id in channels {
            let channel = self.channels.get(id.0 as usize).filter(|channel| !channel.gone);
            let channel = channel.ok_or(ConnectError::NoSuchChannel(id))?;
            let place = channel.group_names.iter().position(|name| name == group);
            let place = place.ok_or_else(|| ConnectError::NoSuchGroup(group.to_owned()))?;
            let binding = Subscription { group: channel.groups[place], waiting: false };
            if !bindings.contains(&binding) {
                bindings.push(binding);
            }
        }
        Ok(bindings)
    }

    fn grant(&mut self, slot: u32, token: Token, count: u32, out: &mut Effects) {
        let client = self.clients.get_mut(slot);
        if client.part != Part::Member {
            out.outcomes.push((client.number, refused(token, Refusal::WrongRole)));
        } else if client.credit.grant(token, count) {
            self.wait(slot);
        } else {
            out.outcomes.push((client.number, done(token)));
        }
    }

    fn close(&mut self, now: Time, slot: u32, token: Token, out: &mut Effects) {
        self.leave(now, slot);
        self.record_settled(now, out);
        let client = self.clients.get_mut(slot);
        let number = client.number;
        client.closing = true;
        client.credit.end(|grant| out.outcomes.push((number, done(grant))));
        if client.flush(token) {
            out.outcomes.push((number, done(token)));
            self.clients.remove(number);
        }
    }
}

impl Model for QueueModel {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        self.options.honour(contract)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec, out: &mut Effects) -> Result<(), ConnectError> {
        if self.clients.slot(client.number).is_some() {
            return Err(ConnectError::NumberTaken(client.number));
        }
        let (part, bindings) = match &client.role {
            Role::Producer => (Part::Producer, Vec::new()),
            Role::Administrator => (Part::Administrator, Vec::new()),
            Role::Member { group, channels } => (Part::Member, self.subscriptions(group, channels)?),
        };
        let groups: Vec<u32> = bindings.iter().map(|binding| binding.group).collect();
        let slot = self.clients.add(client.number, Client::new(client.number, part, bindings));
        for group in groups {
            self.groups[group as usize].members.push(slot);
            self.mark(group);
        }
        self.expire(now, out);
        self.dispatch(now, out);
        Ok(())
    }

    fn publish(&mut self, now: Time, client: u32, batch: &Publishes, out: &mut Effects) -> Accepted {
        self.expire(now, out);
        let accepted = self.publish_all(now, client, batch, out);
        self.dispatch(now, out);
        accepted
    }

    fn settle(&mut self, now: Time, client: u32, settlements: &[Settlement], out: &mut Effects) {
        self.settle_all(now, client, settlements, out);
    }

    fn control(&mut self, now: Time, client: u32, token: Token, control: &Control, out: &mut Effects) {
        self.expire(now, out);
        match self.clients.slot(client).filter(|&slot| !self.clients.get(slot).closing) {
            None => out.outcomes.push((client, refused(token, Refusal::Closed))),
            Some(slot) => match control {
                Control::Grant(count) => self.grant(slot, token, *count, out),
                Control::Flush => {
                    if self.clients.get_mut(slot).flush(token) {
                        out.outcomes.push((client, done(token)));
                    }
                }
                Control::Close => self.close(now, slot, token, out),
                Control::Create(spec) => self.create(slot, token, spec, out),
                Control::Delete(channel) => self.delete(now, slot, token, *channel, out),
                Control::Describe(channel) => self.describe(slot, token, *channel, out),
                Control::Seek { .. }
                | Control::Position(_)
                | Control::Release(_)
                | Control::Transaction(_)
                | Control::Split { .. }
                | Control::Merge { .. } => {
                    out.outcomes.push((client, refused(token, Refusal::Unsupported)));
                }
            },
        }
        self.dispatch(now, out);
    }

    fn stored(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, out: &mut Effects) {
        self.expire(now, out);
        self.stored_upto(now, ticket, result, out);
        self.dispatch(now, out);
    }

    fn next_deadline(&self) -> Option<Time> {
        let lease = self.timers.peek().map(|Reverse((at, ..))| *at);
        let lane = self.lane_timers.peek().map(|Reverse((at, ..))| *at);
        lease.into_iter().chain(lane).chain(self.repeats.next_deadline()).min()
    }

    fn on_deadline(&mut self, now: Time, out: &mut Effects) {
        self.expire(now, out);
        self.dispatch(now, out);
    }

    fn commits_first(&self) -> bool {
        self.contract.delivery == Delivery::AtMostOnce
    }

    fn reads_headers(&self) -> bool {
        true
    }

    fn restore(&mut self, now: Time, journal: &Journal, out: &mut Effects) -> Result<(), JournalError> {
        self.take_over(now, journal, out)
    }
}
