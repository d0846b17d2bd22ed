//! Request and response between services, without a broker (REST): the approach that a stream is compared with.
//!
//! A channel is a service that others call, its lanes are its endpoints' request logs. A publish is a request to one receiver
//! of *every* group: round robin, or under order per key always the same one for an endpoint. A receiver has a bounded service
//! queue, stores a request as the contract says and then answers; a publish is done when all groups' receivers have stored it,
//! and only then is it served, against free workers (grants). A settlement frees its place in the service queue.
//!
//! What can go wrong: no receiver is connected, or all service queues are full: tried again with backoff and jitter, within the
//! timeout, or the caller is held back ([`Overflow::Block`]); storing takes longer than what is left of the timeout; a service fails
//! too often: its circuit breaker opens and nothing is sent. A request that failed is served nowhere. A receiver that leaves hands
//! its requests to another one of its group; those that were answered wait for one if there is none.
//!
//! With [`Answer::Served`] the caller waits for the work instead. A try whose response does not come in time is given up and sent
//! again; it keeps its place at the receiver, which works for nobody when its turn comes, or, where deadlines propagate, refuses it
//! without working. A call that ends without a response is *unknown*: its work may have been done.
//!
//! A try goes over a connection between its caller and its receiver, which is kept and used again ([`DirectOptions::connections`]); opening
//! one is a handshake, and those are counted.
//!
//! A request cannot be given back or extended once it was answered. Leaves out hedged requests and the response's own bytes.

pub mod breaker;
mod callers;
mod connections;
mod options;
mod publish;
mod requests;
mod restore;
mod route;
mod settle;
#[cfg(test)]
mod storm;
mod topology;
mod tries;

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

pub use options::{Answer, DirectOptions, Overflow};

use crate::batch::{Accepted, ChannelId, Control, LaneId, Publishes, Settlement, Token};
use crate::broker::{ClientSpec, ConnectError, Role};
use crate::capabilities::{Capabilities, Settings, Tally, Unsupported};
use crate::completion::{Event, Failure, Outcome, Refusal, Status};
use crate::contract::{Contract, Delivery, Order};
use crate::journal::{Journal, JournalError};
use crate::machine::{Effects, Model};
use crate::slots::Slots;
use crate::time::Time;
use breaker::Breaker;
use callers::{Binding, Part, Peer};
use connections::Connections;
use requests::Requests;
use tries::{Held, Stray, Tries};

/// A service that is called.
#[derive(Clone, Debug)]
struct Channel {
    name: String,
    first_lane: u32,
    lanes: u32,
    /// Its groups' indices in the model.
    groups: Vec<u32>,
    group_names: Vec<String>,
    /// Whose turn it is among the lanes, for requests without a key.
    turn: u32,
    requests: Requests,
    gone: bool,
}

/// An endpoint's request log.
#[derive(Clone, Debug)]
struct Lane {
    channel: u32,
    /// The next position to be written.
    end: u64,
    /// The position of the first request in `index`: everything below is done with.
    base: u64,
    /// The requests from `base` on; `NONE` where one is done with.
    index: VecDeque<u32>,
    /// Under an order: requests that wait for receivers, with their serials; only the first is tried.
    line: VecDeque<(u32, u64)>,
    /// Under an order: each group's receiver of this endpoint's requests.
    active: Vec<u32>,
    /// By group: everything below is known to the journal as done with. Groups differ when a crash came between their records.
    recorded: Vec<u64>,
    /// Whether something was done with in the step at hand.
    touched: bool,
    gone: bool,
}

/// The instances of one service that is called.
#[derive(Clone, Debug)]
struct Group {
    channel: u32,
    /// Its place in the channel's list of groups.
    place: u32,
    members: Vec<u32>,
    /// Receivers with room, and which of their bindings this is; whose turn it is first.
    ring: VecDeque<(u32, u32)>,
    /// Whose turn it is to take over from a receiver that left.
    heir: usize,
    /// Answered requests that wait for a receiver to connect.
    orphans: VecDeque<u32>,
    breaker: Breaker,
}

/// Requests whose receivers store them, behind one barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Barrier {
    ticket: u64,
    count: u32,
    /// When the callers give up.
    deadline: Time,
}

/// What an administrator registered or removed, until it is stored: by whom, and how it ends then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registration {
    ticket: u64,
    slot: u32,
    segment: u32,
    outcome: Outcome,
}

/// A request that is being stored or waited for: service, row and serial.
type Handle = (u32, u32, u64);

/// The model of request and response. See the module's documentation.
#[derive(Clone, Debug)]
pub struct DirectModel {
    options: DirectOptions,
    capabilities: Capabilities,
    settings: Settings,
    /// Whether an endpoint's requests go to one receiver, in order.
    ordered: bool,
    /// Whether a request is settled when a worker takes it.
    at_most_once: bool,
    channels: Vec<Channel>,
    lanes: Vec<Lane>,
    groups: Vec<Group>,
    peers: Slots<Peer>,
    barriers: VecDeque<Barrier>,
    storing: VecDeque<Handle>,
    records: VecDeque<Registration>,
    /// When requests are to be looked at; stale entries are skipped.
    timers: BinaryHeap<Reverse<(Time, Handle)>>,
    /// Tries that their callers gave up, and who holds them.
    strays: BTreeMap<Stray, Held>,
    tries: Tries,
    connections: Connections,
    /// Callers that wait for room at a receiver.
    held_back: Vec<u32>,
    next_ticket: u64,
    next_serial: u64,
    // Within one step:
    /// Whether some receiver may have room that it had not.
    freed: bool,
    /// Requests that were placed and stand before no barrier yet.
    unsealed: u32,
    dirty: Vec<u32>,
    touched: Vec<u32>,
    settled: Vec<(u32, u32, u64)>,
}

/// An operation that is done and has no place.
fn done(token: Token) -> Outcome {
    ended(token, Status::Done)
}

/// An operation that is refused.
fn refused(token: Token, refusal: Refusal) -> Outcome {
    ended(token, Status::Refused(refusal))
}

/// An operation without a place that ended so.
fn ended(token: Token, status: Status) -> Outcome {
    Outcome { token, status, lane: LaneId::default(), position: 0 }
}

impl DirectModel {
    /// Request and response without services, that keeps `contract`, or what is missing.
    pub fn new(options: DirectOptions, contract: &Contract) -> Result<Self, Unsupported> {
        let options = DirectOptions { service_queue: options.service_queue.max(1), ..options };
        Ok(Self {
            settings: options.honour(contract)?,
            capabilities: options.capabilities(contract),
            ordered: contract.order != Order::None,
            at_most_once: contract.delivery == Delivery::AtMostOnce,
            options,
            channels: Vec::new(),
            lanes: Vec::new(),
            groups: Vec::new(),
            peers: Slots::default(),
            barriers: VecDeque::new(),
            records: VecDeque::new(),
            storing: VecDeque::new(),
            timers: BinaryHeap::new(),
            strays: BTreeMap::new(),
            tries: Tries::default(),
            connections: Connections::default(),
            held_back: Vec::new(),
            next_ticket: 0,
            next_serial: 0,
            freed: false,
            unsealed: 0,
            dirty: Vec::new(),
            touched: Vec::new(),
            settled: Vec::new(),
        })
    }

    fn bindings(&self, group: &str, channels: &[ChannelId]) -> Result<Vec<Binding>, ConnectError> {
        let mut bindings = Vec::with_capacity(channels.len());
        for &id in channels {
            let channel = self.channels.get(id.0 as usize).filter(|channel| !channel.gone);
            let channel = channel.ok_or(ConnectError::NoSuchChannel(id))?;
            let place = channel.group_names.iter().position(|name| name == group);
            let place = place.ok_or_else(|| ConnectError::NoSuchGroup(group.to_owned()))?;
            let binding = Binding { group: channel.groups[place], listed: false };
            if !bindings.contains(&binding) {
                bindings.push(binding);
            }
        }
        Ok(bindings)
    }

    fn grant(&mut self, slot: u32, token: Token, count: u32, out: &mut Effects) {
        let peer = self.peers.get_mut(slot);
        if peer.part != Part::Receiver {
            out.outcomes.push((peer.number, refused(token, Refusal::WrongRole)));
        } else if peer.credit.grant(token, count) {
            self.mark(slot);
        } else {
            out.outcomes.push((peer.number, done(token)));
        }
    }

    fn close(&mut self, slot: u32, token: Token, out: &mut Effects) {
        self.leave(slot);
        let peer = self.peers.get_mut(slot);
        let number = peer.number;
        peer.closing = true;
        peer.credit.end(|grant| out.outcomes.push((number, done(grant))));
        if peer.flush(token) {
            out.outcomes.push((number, done(token)));
            self.forget(slot);
        }
    }

    /// Removes a client that asked to be closed and whose operations have ended.
    fn forget(&mut self, slot: u32) {
        let number = self.peers.get(slot).number;
        self.dirty.retain(|&other| other != slot);
        self.held_back.retain(|&other| other != number);
        self.connections.forget(slot);
        self.peers.remove(number);
    }

    /// What every step ends with: free workers take requests, what was placed gets a barrier, the log hears what is done with.
    fn finish(&mut self, now: Time, out: &mut Effects) {
        self.serve(out);
        self.seal(now, out);
        self.record_settled(out);
        if std::mem::take(&mut self.freed) {
            out.events.extend(self.held_back.drain(..).map(|client| (client, Event::Unblocked)));
        }
    }

    /// Holds a caller back until a receiver has room.
    fn hold_back(&mut self, client: u32, out: &mut Effects) {
        if !self.held_back.contains(&client) {
            self.held_back.push(client);
            out.events.push((client, Event::Blocked));
        }
    }

    /// Lets a caller go: it got through.
    fn let_go(&mut self, client: u32, out: &mut Effects) {
        if let Some(at) = self.held_back.iter().position(|&held| held == client) {
            self.held_back.remove(at);
            out.events.push((client, Event::Unblocked));
        }
    }
}

impl Model for DirectModel {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        self.options.honour(contract)
    }

    fn tallies(&self) -> Vec<Tally> {
        self.tally()
    }

    fn connect(&mut self, now: Time, client: &ClientSpec, out: &mut Effects) -> Result<(), ConnectError> {
        if self.peers.slot(client.number).is_some() {
            return Err(ConnectError::NumberTaken(client.number));
        }
        let (part, bindings) = match &client.role {
            Role::Producer => (Part::Caller, Vec::new()),
            Role::Administrator => (Part::Administrator, Vec::new()),
            Role::Member { group, channels } => (Part::Receiver, self.bindings(group, channels)?),
        };
        let slot = self.peers.add(client.number, Peer::new(client.number, part, bindings));
        self.join(slot);
        self.finish(now, out);
        Ok(())
    }

    fn publish(&mut self, now: Time, client: u32, batch: &Publishes, out: &mut Effects) -> Accepted {
        self.expire(now, out);
        let accepted = self.publish_all(now, client, batch, out);
        self.finish(now, out);
        accepted
    }

    fn settle(&mut self, now: Time, client: u32, settlements: &[Settlement], out: &mut Effects) {
        self.catch_up(now, out);
        self.settle_all(client, settlements, out);
        self.finish(now, out);
    }

    fn control(&mut self, now: Time, client: u32, token: Token, control: &Control, out: &mut Effects) {
        self.catch_up(now, out);
        match self.peers.slot(client).filter(|&slot| !self.peers.get(slot).closing) {
            None => out.outcomes.push((client, refused(token, Refusal::Closed))),
            Some(slot) => match control {
                Control::Grant(count) => self.grant(slot, token, *count, out),
                Control::Flush => {
                    if self.peers.get_mut(slot).flush(token) {
                        out.outcomes.push((client, done(token)));
                    }
                }
                Control::Close => self.close(slot, token, out),
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
        self.finish(now, out);
    }

    fn stored(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, out: &mut Effects) {
        self.stored_upto(now, ticket, result, out);
        self.expire(now, out);
        self.finish(now, out);
    }

    fn next_deadline(&self) -> Option<Time> {
        let retry = self.timers.peek().map(|Reverse((at, _))| *at);
        let answer = self.barriers.front().map(|barrier| barrier.deadline);
        match (retry, answer) {
            (Some(retry), Some(answer)) => Some(retry.min(answer)),
            (retry, answer) => retry.or(answer),
        }
    }

    fn on_deadline(&mut self, now: Time, out: &mut Effects) {
        self.expire(now, out);
        self.finish(now, out);
    }

    fn commits_first(&self) -> bool {
        self.at_most_once
    }

    fn restore(&mut self, now: Time, journal: &Journal, out: &mut Effects) -> Result<(), JournalError> {
        self.take_over(now, journal, out)
    }
}
