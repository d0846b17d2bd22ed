//! A broker that can be paused, killed and started again in virtual time: one serial server, clients that lose their connections with
//! everything in flight, lanes that are lost and assigned again, deliveries that come again when they were not settled.
//!
//! Leaves out what a healthy server does wrong, which is the toy's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use brokerlab_host::{Clock as _, ManualClock, Servers};
use brokerlab_model::{
    Accepted, Answer, Batch, Blocked, Broker, Capabilities, ChannelId, Client, ClientSpec, Completions, ConnectError,
    Contract, Control, Description, Event, Failure, Feature, LaneId, LaneState, ModelKind, Outcome, Receipt, Refusal,
    Role, Settings, Slice, Span, Status, Time, Token, Unsupported, WaitOn, Words, WorkCounts, Worker,
};
use brokerlab_workloads::measurement::Act;
use brokerlab_workloads::profile::FaultNode;
use bytes::Bytes;

/// How it behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frailty {
    /// How long the server is busy with a message.
    pub(crate) service: Span,
    /// Publishes of a client in flight.
    pub(crate) window: usize,
    /// Of the publishes in flight when it is killed, every n-th was stored and never acknowledged.
    pub(crate) stored_every: usize,
    /// How long after its start clients are back.
    pub(crate) reconnect: Span,
    /// When the members alone lose their connections, and for how long.
    pub(crate) members_away: Option<(Time, Span)>,
    /// Every grant fails at once until this time.
    pub(crate) grants_fail_until: Time,
    /// Nobody can say which node leads.
    pub(crate) leaderless: bool,
}

impl Default for Frailty {
    fn default() -> Self {
        Self {
            service: Span::from_micros(100),
            window: 1 << 16,
            stored_every: 0,
            reconnect: Span::from_millis(250),
            members_away: None,
            grants_fail_until: Time::ZERO,
            leaderless: false,
        }
    }
}

#[derive(Clone, Debug)]
struct Message {
    channel: ChannelId,
    arena: Bytes,
    slice: Slice,
    redeliveries: u16,
}

#[derive(Debug)]
struct Waiting {
    client: u32,
    token: Token,
    arrived: Time,
    message: Message,
}

#[derive(Debug, Default)]
struct Peer {
    group: Option<usize>,
    credit: VecDeque<(Token, u32)>,
    in_flight: usize,
    mail: Completions,
    /// Until when it has no connection.
    away_until: Option<Time>,
}

/// What tests look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lived {
    pub(crate) acts: Vec<(Time, Act)>,
    pub(crate) stored_unacknowledged: u64,
    pub(crate) in_flight_lost: u64,
    pub(crate) redelivered: u64,
    pub(crate) grants: u64,
    pub(crate) refused_while_away: u64,
}

#[derive(Debug)]
struct State {
    frailty: Frailty,
    asked_for_leader: u32,
    running: bool,
    dead: bool,
    /// When the server is free, or was started or resumed.
    free: Time,
    queue: VecDeque<Waiting>,
    groups: usize,
    backlog: Vec<VecDeque<Message>>,
    unsettled: BTreeMap<u64, (usize, Message)>,
    next_receipt: u64,
    peers: BTreeMap<u32, Peer>,
    lived: Lived,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Fragile {
    clock: ManualClock,
    state: Arc<Mutex<State>>,
    capabilities: Capabilities,
}

#[derive(Debug)]
struct FragileClient {
    state: Arc<Mutex<State>>,
    number: u32,
}

impl Fragile {
    pub(crate) fn new(clock: &ManualClock, frailty: Frailty) -> Self {
        let capabilities = Capabilities {
            name: "fragile",
            model: ModelKind::Null,
            words: Words { lane: "lane", position: "position", grant: "grant", settle: "settle" },
            features: vec![Feature::LaneAssignment],
            max_message_bytes: 1 << 20,
            limits: Vec::new(),
        };
        let state = State {
            frailty,
            asked_for_leader: 0,
            running: true,
            dead: false,
            free: Time::ZERO,
            queue: VecDeque::new(),
            groups: 0,
            backlog: Vec::new(),
            unsettled: BTreeMap::new(),
            next_receipt: 0,
            peers: BTreeMap::new(),
            lived: Lived::default(),
        };
        Self { clock: clock.clone(), state: Arc::new(Mutex::new(state)), capabilities }
    }

    pub(crate) fn lived(&self) -> Lived {
        self.locked().lived.clone()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Servers for Fragile {
    fn leader(&self) -> Result<u32, String> {
        let mut state = self.locked();
        if state.frailty.leaderless {
            return Err("nobody leads".to_owned());
        }
        state.asked_for_leader += 1;
        Ok(state.asked_for_leader)
    }

    fn act(&self, act: Act, _node: FaultNode) -> Result<(), String> {
        let now = self.clock.now();
        let mut state = self.locked();
        state.lived.acts.push((now, act));
        state.serve(now);
        match act {
            Act::Pause => state.running = false,
            Act::Kill => state.killed(),
            Act::Resume | Act::Restart => {
                state.running = true;
                state.free = now;
                if std::mem::take(&mut state.dead) {
                    let back = now + state.frailty.reconnect;
                    state.peers.values_mut().for_each(|peer| peer.away_until = Some(back));
                }
            }
        }
        Ok(())
    }
}

impl Broker for Fragile {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, _contract: &Contract) -> Result<Settings, Unsupported> {
        Ok(Settings::default())
    }

    fn connect(&mut self, _now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let mut peer = Peer::default();
        if let Role::Member { .. } = &client.role {
            // One group, one member: lane 0 is its own.
            peer.group = Some(0);
            peer.mail.events.push(Event::LaneAssigned { lane: LaneId(0), position: 0 });
        }
        self.locked().peers.insert(client.number, peer);
        Ok(Box::new(FragileClient { state: Arc::clone(&self.state), number: client.number }))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        Vec::new()
    }

    fn work(&self) -> WorkCounts {
        WorkCounts::default()
    }
}

impl Client for FragileClient {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let mut state = self.state.lock().unwrap();
        state.look(now);
        if state.peers[&self.number].away_until.is_some() {
            state.lived.refused_while_away += 1;
            return Accepted { taken: 0, blocked: Some(Blocked::Disconnected) };
        }
        let (taken, blocked) = match batch {
            Batch::Publish(_) => state.publish(self.number, now, batch),
            Batch::Settle(settlements) => {
                for settlement in settlements.iter() {
                    let held = state.unsettled.remove(&settlement.receipt.position).is_some();
                    let status = if held { Status::Done } else { Status::Refused(Refusal::StaleReceipt) };
                    state.answer(self.number, settlement.token, status);
                }
                (settlements.len(), None)
            }
            Batch::Control(controls) => {
                for (token, control) in controls.iter() {
                    state.control(self.number, now, *token, control);
                }
                (controls.len(), None)
            }
        };
        batch.advance(taken);
        Accepted { taken, blocked }
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        let mut state = self.state.lock().unwrap();
        state.look(now);
        if let Some(peer) = state.peers.get_mut(&self.number) {
            completions.append(&mut peer.mail);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let state = self.state.lock().unwrap();
        let peer = &state.peers[&self.number];
        if !peer.mail.is_empty() {
            return Some(Time::ZERO);
        }
        let done = state.queue.front().filter(|_| state.running).map(|front| state.done(front));
        let away = state.frailty.members_away.map(|(at, _)| at);
        [done, peer.away_until.filter(|&until| until != Time::NEVER), away].into_iter().flatten().min()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::Nothing
    }
}

impl State {
    fn answer(&mut self, client: u32, token: Token, status: Status) {
        let outcome = Outcome { token, status, lane: LaneId(0), position: 0 };
        self.peers.get_mut(&client).unwrap().mail.outcomes.push(outcome);
    }

    fn done(&self, front: &Waiting) -> Time {
        front.arrived.max(self.free) + self.frailty.service
    }

    /// What has happened by `now`.
    fn look(&mut self, now: Time) {
        if let Some((at, length)) = self.frailty.members_away
            && now >= at
        {
            self.frailty.members_away = None;
            let members: Vec<u32> = self.peers.iter().filter(|(_, p)| p.group.is_some()).map(|(&n, _)| n).collect();
            for member in members {
                self.cut(member, now + length);
            }
        }
        for peer in self.peers.values_mut() {
            if peer.away_until.is_some_and(|until| until <= now) {
                peer.away_until = None;
                peer.mail.events.push(Event::Reconnected);
                if peer.group.is_some() {
                    peer.mail.events.push(Event::LaneAssigned { lane: LaneId(0), position: 0 });
                }
            }
        }
        self.serve(now);
    }

    /// A client's connection is gone, and with it everything that was under way.
    fn cut(&mut self, client: u32, until: Time) {
        let peer = self.peers.get_mut(&client).unwrap();
        peer.away_until = Some(until);
        peer.mail.events.push(Event::Disconnected);
        let grants: Vec<Token> = peer.credit.drain(..).map(|(token, _)| token).collect();
        let group = peer.group;
        if group.is_some() {
            peer.mail.events.push(Event::LaneLost(LaneId(0)));
        }
        for token in grants {
            self.answer(client, token, Status::Failed(Failure::Disconnected));
        }
        if let Some(group) = group {
            // What was not settled comes again, in its order.
            let again: Vec<Message> =
                self.unsettled.values().filter(|of| of.0 == group).map(|of| of.1.clone()).collect();
            self.unsettled.retain(|_, of| of.0 != group);
            for mut message in again.into_iter().rev() {
                message.redeliveries += 1;
                self.backlog[group].push_front(message);
            }
        }
    }

    fn killed(&mut self) {
        self.running = false;
        self.dead = true;
        let every = self.frailty.stored_every;
        for (n, waiting) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            self.lived.in_flight_lost += 1;
            if every > 0 && n % every == every - 1 {
                self.lived.stored_unacknowledged += 1;
                self.backlog.iter_mut().for_each(|backlog| backlog.push_back(waiting.message.clone()));
            }
            self.peers.get_mut(&waiting.client).unwrap().in_flight -= 1;
            self.answer(waiting.client, waiting.token, Status::Unknown);
        }
        let clients: Vec<u32> = self.peers.keys().copied().collect();
        for client in clients {
            self.cut(client, Time::NEVER);
        }
    }

    fn control(&mut self, client: u32, now: Time, token: Token, control: &Control) {
        match control {
            Control::Create(channel) => {
                self.groups = channel.groups.len();
                self.backlog.resize(self.groups, VecDeque::new());
                self.answer(client, token, Status::Done);
            }
            Control::Grant(_) if now < self.frailty.grants_fail_until => {
                self.lived.grants += 1;
                self.answer(client, token, Status::Failed(Failure::Timeout));
            }
            Control::Grant(count) => {
                self.lived.grants += 1;
                self.peers.get_mut(&client).unwrap().credit.push_back((token, *count));
            }
            Control::Describe(_) => {
                let in_flight = |group| self.unsettled.values().filter(|of| of.0 == group).count() as u64;
                let lane = |(group, backlog): (usize, &VecDeque<Message>)| LaneState {
                    group: group as u32,
                    ready: backlog.len() as u64,
                    in_flight: in_flight(group),
                    ..LaneState::default()
                };
                let lanes = self.backlog.iter().enumerate().map(lane).collect();
                let answer = Answer::Description(Description { lanes, settings: Vec::new() });
                self.peers.get_mut(&client).unwrap().mail.answers.push((token, answer));
            }
            Control::Release(_)
            | Control::Close
            | Control::Flush
            | Control::Delete(_)
            | Control::Seek { .. }
            | Control::Position(_)
            | Control::Split { .. }
            | Control::Transaction(_)
            | Control::Merge { .. } => self.answer(client, token, Status::Done),
        }
        self.deliver();
    }

    fn publish(&mut self, client: u32, now: Time, batch: &Batch) -> (usize, Option<Blocked>) {
        let Batch::Publish(publishes) = batch else { unreachable!() };
        let in_flight = self.peers[&client].in_flight;
        let taken = publishes.len().min(self.frailty.window - in_flight);
        for at in 0..taken {
            let message = publishes.get(at);
            let mut arena = message.key.to_vec();
            arena.extend_from_slice(message.payload);
            let slice = Slice {
                at: 0,
                key_len: message.key.len() as u16,
                header_len: 0,
                payload_len: message.payload_len,
                has_payload: true,
            };
            let kept = Message { channel: message.channel, arena: Bytes::from(arena), slice, redeliveries: 0 };
            self.queue.push_back(Waiting { client, token: message.token, arrived: now, message: kept });
        }
        self.peers.get_mut(&client).unwrap().in_flight += taken;
        (taken, (taken < publishes.len()).then_some(Blocked::Window))
    }

    /// Ends what is done by `now` and hands it out.
    fn serve(&mut self, now: Time) {
        while self.running
            && let Some(front) = self.queue.front()
            && self.done(front) <= now
        {
            self.free = self.done(front);
            let waiting = self.queue.pop_front().unwrap();
            self.peers.get_mut(&waiting.client).unwrap().in_flight -= 1;
            self.answer(waiting.client, waiting.token, Status::Done);
            self.backlog.iter_mut().for_each(|backlog| backlog.push_back(waiting.message.clone()));
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        if !self.running {
            return;
        }
        for group in 0..self.backlog.len() {
            let able = |peer: &Peer| peer.group == Some(group) && peer.away_until.is_none() && !peer.credit.is_empty();
            while !self.backlog[group].is_empty()
                && let Some(number) = self.peers.iter().find(|(_, peer)| able(peer)).map(|(&number, _)| number)
            {
                let message = self.backlog[group].pop_front().unwrap();
                self.lived.redelivered += u64::from(message.redeliveries > 0);
                let receipt = Receipt { lane: LaneId(0), position: self.next_receipt, epoch: 0 };
                self.next_receipt += 1;
                let peer = self.peers.get_mut(&number).unwrap();
                let (channel, again) = (message.channel, message.redeliveries);
                peer.mail.deliveries.push(receipt, channel, again, &message.arena, message.slice);
                let (token, left) = peer.credit.front_mut().unwrap();
                *left -= 1;
                if *left == 0 {
                    let token = *token;
                    peer.credit.pop_front();
                    self.answer(number, token, Status::Done);
                }
                self.unsettled.insert(receipt.position, (group, message));
            }
        }
    }
}
