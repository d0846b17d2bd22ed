//! What the log and the shard stream have in common: lanes that are written at the end and read by position, groups that share
//! the lanes out among their members, and committed positions.
//!
//! A publish is handed to the storage, becomes *stable* when the storage answers, and only then can be read. Leaves out which
//! lane a message goes to, write limits and the models' own words: `log` and `shard` add those.

mod assign;
mod bucket;
mod compaction;
mod control;
mod deliver;
mod fencing;
mod idempotence;
mod index;
#[cfg(test)]
pub(crate) mod interleavings;
mod lane;
mod membership;
mod pending;
mod publish;
mod reads;
pub(crate) mod reference;
mod reshape;
mod restore;
mod sessions;
mod transactions;
#[cfg(test)]
pub(crate) mod trial;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::compaction::Compaction;
use self::fencing::Names;
use self::idempotence::Producers;
use self::lane::Lane;
use self::pending::Pending;
use self::transactions::Transaction;
use crate::batch::{ChannelId, LaneId, Token};
use crate::broker::{ClientSpec, ConnectError, Role};
use crate::completion::{Outcome, Refusal, Status};
use crate::credit::Credit;
use crate::machine::Effects;
use crate::time::{Span, Time};

pub(crate) use self::bucket::Bucket;
pub(crate) use self::compaction::CompactionRules;
pub(crate) use self::idempotence::{IdempotenceRules, Novelty};
pub(crate) use self::publish::refuse_all;
pub(crate) use self::reads::{Calls, Reads};
pub(crate) use self::transactions::TransactionRules;

/// Client numbers index a table; a number beyond this is a mistake, not a client.
const MAX_CLIENTS: u32 = 1 << 22;

/// What a model sets for its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamConfig {
    /// How many publishes of one client may wait for the storage.
    pub(crate) max_in_flight: u32,
    /// A group's position is committed before the messages are handed out.
    pub(crate) commit_first: bool,
    /// A channel has one lane and no more.
    pub(crate) single_lane: bool,
    /// All channels' lanes together.
    pub(crate) max_lanes: u32,
    /// Messages older than this are dropped.
    pub(crate) retention: Option<Span>,
    /// A lane's oldest messages are dropped while what is left is at least this large.
    pub(crate) retention_bytes: Option<u64>,
    /// Of each key the latest message stays, where lanes are compacted.
    pub(crate) compaction: Option<CompactionRules>,
    /// The most entries that a lane's sparse index has.
    pub(crate) index_entries: usize,
    /// How fast groups may read a lane.
    pub(crate) reads: Reads,
    /// How groups share lanes out.
    pub(crate) groups: GroupRules,
    /// Transactions, where there are any.
    pub(crate) transactions: Option<TransactionRules>,
    /// What is remembered of producers, where repeats are known.
    pub(crate) idempotence: Option<IdempotenceRules>,
    /// The settings in force, as `Describe` answers them.
    pub(crate) settings: Vec<(String, String)>,
}

/// How groups share lanes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupRules {
    /// A member that is not heard of for so long loses its lanes; never, if there is none.
    pub(crate) session: Option<Span>,
    /// All lanes of a group are taken back before any is assigned, whenever its members change.
    pub(crate) eager: bool,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) first: u32,
    pub(crate) lanes: u32,
    /// The lanes that were made since, by splits and merges; in order.
    later: Vec<u32>,
    /// The stream's number of each of its groups.
    groups: Vec<u32>,
    gone: bool,
}

impl Channel {
    /// Its lanes, also those that take nothing more; none, once it is gone.
    fn all_lanes(&self) -> impl Iterator<Item = u32> + use<'_> {
        let made = if self.gone { 0 } else { self.lanes };
        let later = if self.gone { &[][..] } else { &self.later };
        (self.first..self.first + made).chain(later.iter().copied())
    }
}

/// A consumer group, by name; it may be bound to several channels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    /// In the order in which they joined. One whose session is over is none of them.
    members: Vec<u32>,
    /// How many lanes they hold, those that they were asked to release included.
    held: u32,
}

/// A lane as one group reads it: the lane and the group's place in the channel's list.
type Source = (u32, u32);

/// What a member of a group has beside what every client has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Member {
    group: u32,
    /// The channels that it reads and the group's place in each one's list, by channel.
    channels: Vec<(u32, u32)>,
    credit: Credit,
    /// Assigned lanes that may have something to read, in the order in which they are served.
    ready: VecDeque<Source>,
    /// Whether it stands in the stream's list of members to be served.
    listed: bool,
    /// When it was heard of last.
    heard: Time,
    /// Its session is over: it has no part in its group until it is heard of again.
    away: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Producer,
    Member(Box<Member>),
    Administrator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ClientState {
    part: Part,
    open: bool,
    /// Another producer has its name.
    fenced: bool,
    in_flight: u32,
    /// One after the ticket of its last publish call.
    published: u64,
    /// Flushes that wait, each until all tickets below this one are answered.
    flushes: VecDeque<(Token, u64)>,
}

/// The state that both models share. Plain data: it can be cloned, compared and explored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) config: StreamConfig,
    clients: Vec<Option<ClientState>>,
    channels: Vec<Channel>,
    groups: Vec<Group>,
    lanes: Vec<Lane>,
    /// How many of them take nothing more.
    closed: u32,
    /// Places in lanes that take nothing more of which a group may have nothing left to read.
    drained: Vec<Source>,
    pending: Pending,
    /// Messages of the publish call in hand.
    open_call: u32,
    /// Lanes whose stable position moved in the step in hand.
    touched: Vec<u32>,
    /// Members with credit and something to read.
    to_serve: VecDeque<u32>,
    /// Lanes that wait for a group's read limit.
    parked: BTreeSet<(Time, u32, u32)>,
    /// The first of `parked`.
    next_parked: Time,
    /// Not later than the time at which a lane's oldest messages are due to go.
    next_expiry: Time,
    /// Not later than the time at which a session is over.
    next_session: Time,
    /// Open and ending transactions, by producer.
    transactions: BTreeMap<u32, Transaction>,
    /// Not later than the time at which a transaction has taken too long.
    next_transaction: Time,
    /// Whose transaction the publish call in hand belongs to.
    enlisting: Option<u32>,
    /// What producers with names have published.
    producers: Producers,
    /// Whose names of transactional producers are.
    names: Names,
    /// What is known of keys, where lanes are compacted.
    compaction: Option<Box<Compaction>>,
}

impl Stream {
    pub(crate) fn new(config: StreamConfig) -> Self {
        let compaction = config.compaction.clone().map(|rules| Box::new(Compaction::new(rules)));
        Self {
            compaction,
            config,
            clients: Vec::new(),
            channels: Vec::new(),
            groups: Vec::new(),
            lanes: Vec::new(),
            closed: 0,
            drained: Vec::new(),
            pending: Pending::default(),
            open_call: 0,
            touched: Vec::new(),
            to_serve: VecDeque::new(),
            parked: BTreeSet::new(),
            next_parked: Time::NEVER,
            next_expiry: Time::NEVER,
            next_session: Time::NEVER,
            transactions: BTreeMap::new(),
            next_transaction: Time::NEVER,
            enlisting: None,
            producers: Producers::default(),
            names: Names::default(),
        }
    }

    /// The channel, if there is one and it was not deleted.
    pub(crate) fn channel(&self, channel: ChannelId) -> Option<&Channel> {
        self.channels.get(channel.0 as usize).filter(|channel| !channel.gone)
    }

    /// How many channels were ever created.
    pub(crate) fn channels(&self) -> u32 {
        self.channels.len() as u32
    }

    fn client(&self, client: u32) -> Result<&ClientState, Refusal> {
        match self.clients.get(client as usize) {
            Some(Some(state)) if state.open => Ok(state),
            Some(_) | None => Err(Refusal::Closed),
        }
    }

    fn client_mut(&mut self, client: u32) -> Result<&mut ClientState, Refusal> {
        match self.clients.get_mut(client as usize) {
            Some(Some(state)) if state.open => Ok(state),
            Some(_) | None => Err(Refusal::Closed),
        }
    }

    fn member(&self, client: u32) -> Result<&Member, Refusal> {
        match &self.client(client)?.part {
            Part::Member(member) => Ok(member),
            Part::Producer | Part::Administrator => Err(Refusal::WrongRole),
        }
    }

    fn member_mut(&mut self, client: u32) -> Result<&mut Member, Refusal> {
        match &mut self.client_mut(client)?.part {
            Part::Member(member) => Ok(member),
            Part::Producer | Part::Administrator => Err(Refusal::WrongRole),
        }
    }

    /// A client arrives; a member is assigned lanes.
    pub(crate) fn connect(&mut self, now: Time, spec: &ClientSpec, out: &mut Effects) -> Result<(), ConnectError> {
        if spec.number >= MAX_CLIENTS {
            return Err(ConnectError::System(format!("client numbers end at {}; use smaller ones", MAX_CLIENTS - 1)));
        }
        let taken = self.clients.get(spec.number as usize).is_some_and(Option::is_some);
        if taken {
            return Err(ConnectError::NumberTaken(spec.number));
        }
        let part = match &spec.role {
            Role::Producer => Part::Producer,
            Role::Administrator => Part::Administrator,
            Role::Member { group, channels } => Part::Member(Box::new(self.new_member(group, channels)?)),
        };
        let number = spec.number as usize;
        if self.clients.len() <= number {
            self.clients.resize_with(number + 1, || None);
        }
        let state =
            ClientState { part, open: true, fenced: false, in_flight: 0, published: 0, flushes: VecDeque::new() };
        self.clients[number] = Some(state);
        if matches!(spec.role, Role::Member { .. }) {
            self.join(now, spec.number, out);
        }
        Ok(())
    }

    fn new_member(&self, group: &str, channels: &[ChannelId]) -> Result<Member, ConnectError> {
        let unbound = || ConnectError::NoSuchGroup(group.to_owned());
        let number = self.groups.iter().position(|known| known.name == group);
        let mut read = Vec::with_capacity(channels.len());
        for &channel in channels {
            let found = self.channel(channel).ok_or(ConnectError::NoSuchChannel(channel))?;
            let number = number.ok_or_else(unbound)? as u32;
            let slot = found.groups.iter().position(|&bound| bound == number).ok_or_else(unbound)?;
            read.push((channel.0, slot as u32));
        }
        read.sort_unstable();
        read.dedup();
        let group = number.ok_or_else(unbound)? as u32;
        Ok(Member { group, channels: read, ..Member::default() })
    }

    /// The earliest time at which the stream has something to do by itself: the beginning of time where that is at once.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        if !self.drained.is_empty() {
            return Some(Time::ZERO);
        }
        let next = self.next_parked.min(self.next_expiry).min(self.next_session).min(self.next_transaction);
        let next = self.compaction.as_ref().map_or(next, |compaction| next.min(compaction.due()));
        (next != Time::NEVER).then_some(next)
    }

    /// Drops what is too old, and only then lets lanes change hands and read limits go: nothing is handed out that the storage no
    /// longer has.
    pub(crate) fn on_deadline(&mut self, now: Time, out: &mut Effects) {
        if self.compaction.is_some() {
            self.compact(now, out);
        }
        if self.next_expiry <= now {
            self.expire(now, out);
        }
        if self.next_transaction <= now {
            self.take_back_overdue(now, out);
        }
        if self.next_session <= now {
            self.end_sessions(now, out);
        }
        if self.next_parked <= now {
            self.unpark(now);
        }
        self.serve(now, out);
    }
}

/// An operation ended without a place.
pub(crate) fn ended(client: u32, token: Token, status: Status) -> (u32, Outcome) {
    placed(client, token, status, LaneId(0), 0)
}

/// An operation ended at a place.
pub(crate) fn placed(client: u32, token: Token, status: Status, lane: LaneId, position: u64) -> (u32, Outcome) {
    (client, Outcome { token, status, lane, position })
}

/// How long a record is kept, in whole hours where it is some.
pub(crate) fn kept_for(retention: Option<Span>) -> String {
    const HOUR: u64 = 3_600_000_000_000;
    match retention {
        None => "ever".to_owned(),
        Some(Span(span)) if span > 0 && span.is_multiple_of(HOUR) => format!("{} h", span / HOUR),
        Some(span) => span.to_string(),
    }
}
