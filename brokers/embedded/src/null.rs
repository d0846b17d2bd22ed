//! `null`: no engine and no storage. What is sent is delivered at once, to one member of each group. The harness's ceiling.
//!
//! It goes through the same hand-off as an engine (one lock a batch, a mailbox per client, eventfds between loops), so that a
//! row of `null` shows what a harness with a broker that costs nothing reaches. Members are taken in turn; when the contract asks
//! for an order, by the key's hash (per key) or always the first (total). Leaves out leases, replay and storage of every kind.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use brokerlab_model::credit::Credit;
use brokerlab_model::{
    Accepted, Answer, Batch, Blocked, Broker, Capabilities, ChannelId, ChannelSpec, Client, ClientSpec, Completions,
    ConnectError, Contract, Control, Delivery, Description, Feature, Gaps, LaneId, LaneState, ModelKind, Order,
    Outcome, Publishes, Receipt, Refusal, Role, Settings, Settlement, Slice, Status, Time, Token, Unsupported, Verdict,
    WaitOn, Words, WorkCounts, Worker,
};
use bytes::Bytes;

use crate::handoff::{Bell, Mailboxes, Origin};
use crate::store::crc32c;

/// The largest message: it takes any that a batch can carry in good order.
const MESSAGE_BYTES_MAX: u32 = 16 << 20;

/// A row of `null`.
#[derive(Debug)]
pub struct NullBroker {
    state: Arc<Mutex<State>>,
    capabilities: Capabilities,
}

/// A client of `null`.
#[derive(Debug)]
pub struct NullClient {
    state: Arc<Mutex<State>>,
    number: u32,
    placement: usize,
    mail: Arc<AtomicBool>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct State {
    order: Order,
    max_memory: u64,
    held: u64,
    channels: Vec<Option<Channel>>,
    clients: Vec<Option<Known>>,
    boxes: Mailboxes,
    counts: WorkCounts,
    lanes: u32,
}

#[derive(Debug)]
struct Channel {
    name: String,
    first: u32,
    /// Messages published to each lane.
    ends: Vec<u64>,
    next_lane: usize,
    groups: Vec<Group>,
}

#[derive(Debug, Default)]
struct Group {
    name: String,
    members: Vec<u32>,
    /// Members that may have credit; those without are found out when it is their turn.
    ready: BTreeSet<u32>,
    /// Whose turn it is, or the next after that.
    next: u32,
    /// Delivered and not settled, by lane.
    in_flight: Vec<u64>,
    /// Waits for a member: for credit of anybody, or for somebody to come.
    waiting: VecDeque<Held>,
}

#[derive(Debug)]
struct Known {
    role: Role,
    credit: Credit,
    closed: bool,
}

/// A message, beside its bytes.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    receipt: Receipt,
    slice: Slice,
    hash: u32,
}

/// A message that nobody has asked for yet.
#[derive(Clone, Debug)]
struct Held {
    message: Waiting,
    bytes: Bytes,
}

/// What `null` is.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        name: "null",
        model: ModelKind::Null,
        words: Words { lane: "lane", position: "position", grant: "grant", settle: "settle" },
        features: vec![
            Feature::FanOut,
            Feature::CompetingConsumers,
            Feature::Decoupled,
            Feature::PublishPosition,
            Feature::FullDepth,
            Feature::ExactCredit,
        ],
        max_message_bytes: MESSAGE_BYTES_MAX,
        limits: Vec::new(),
    }
}

/// What `null` sets for a contract: nothing is stored, and that is said.
pub(crate) fn honour(contract: Contract, max_memory: u64) -> Result<Settings, Unsupported> {
    let mut gaps = Gaps::default();
    if contract.delivery == Delivery::ExactlyOnce {
        gaps.add(
            Delivery::AXIS,
            contract.delivery,
            "the control row keeps no state by which it would know a repetition",
        );
    }
    if contract.copies > 1 {
        gaps.add("copies", contract.copies, "the control row keeps no copy at all");
    }
    let mut settings = Settings::default();
    settings.add("storage", "nothing", "stores nothing: the harness's ceiling, not a backend");
    settings.add("max_memory", crate::engine::bytes_text(max_memory), "what waits for a grant; then submit is blocked");
    let members = match contract.order {
        Order::None => "in turn",
        Order::PerKey => "by the key's hash",
        Order::Total => "the first of each group",
    };
    settings.add("members", members, "who is handed a message");
    gaps.or("null", settings)
}

impl NullBroker {
    /// A fresh one. `max_memory` bounds the messages that wait for a grant.
    pub fn new(contract: &Contract, max_memory: u64) -> Result<Self, Unsupported> {
        honour(*contract, max_memory)?;
        let state = State {
            order: contract.order,
            max_memory,
            held: 0,
            channels: Vec::new(),
            clients: Vec::new(),
            boxes: Mailboxes::default(),
            counts: WorkCounts::default(),
            lanes: 0,
        };
        Ok(Self { state: Arc::new(Mutex::new(state)), capabilities: capabilities() })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panics while it holds the control row")
}

impl Broker for NullBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        honour(*contract, lock(&self.state).max_memory)
    }

    fn connect(&mut self, _now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let mut state = lock(&self.state);
        if let Role::Member { group, channels } = &client.role {
            for channel in channels {
                let found = state.channel(*channel).ok_or(ConnectError::NoSuchChannel(*channel))?;
                if !found.groups.iter().any(|g| g.name == *group) {
                    return Err(ConnectError::NoSuchGroup(group.clone()));
                }
            }
        }
        let door = state.boxes.open(client.number, client.placement)?;
        let at = client.number as usize;
        if at >= state.clients.len() {
            state.clients.resize_with(at + 1, || None);
        }
        state.clients[at] = Some(Known { role: client.role.clone(), credit: Credit::default(), closed: false });
        state.each_group_of(client.number, |group, _| group.members.push(client.number));
        drop(state);
        let (number, state) = (client.number, Arc::clone(&self.state));
        Ok(Box::new(NullClient { state, number, placement: door.placement, mail: door.mail, bell: door.bell }))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        Vec::new()
    }

    fn work(&self) -> WorkCounts {
        lock(&self.state).counts
    }
}

/// Its number is free again if it was closed.
impl Drop for NullClient {
    fn drop(&mut self) {
        // After a panic under the lock nothing is handed out any more.
        if let Ok(mut state) = self.state.lock()
            && state.known(self.number).is_none_or(|known| known.closed)
        {
            state.boxes.leave(self.number);
        }
    }
}

impl Client for NullClient {
    fn submit(&mut self, _now: Time, batch: &mut Batch) -> Accepted {
        let mut state = lock(&self.state);
        let step = Step { client: self.number, origin: Origin::Loop(self.placement) };
        let accepted = match batch {
            Batch::Publish(publishes) => state.publish(step, publishes),
            Batch::Settle(settlements) => state.settle(step, settlements),
            Batch::Control(controls) => state.control(step, controls),
        };
        if state.boxes.any_blocked() && state.held < state.max_memory {
            state.boxes.unblock(step.origin);
        }
        state.boxes.ring();
        drop(state);
        batch.advance(accepted.taken);
        accepted
    }

    fn poll(&mut self, _now: Time, completions: &mut Completions) {
        self.bell.awake();
        if self.mail.load(Ordering::Acquire) {
            lock(&self.state).boxes.collect(self.number, completions);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.mail.load(Ordering::Acquire).then_some(Time::ZERO)
    }

    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::Read(self.bell.before_sleep())
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Step {
    client: u32,
    origin: Origin,
}

const fn outcome(token: Token, status: Status) -> Outcome {
    Outcome { token, status, lane: LaneId(0), position: 0 }
}

/// The count of what a member's group has in flight in a lane.
fn in_flight_of<'a>(channels: &'a mut [Option<Channel>], role: &Role, lane: LaneId) -> Option<&'a mut u64> {
    let Role::Member { group, channels: read } = role else { return None };
    let lanes = |channel: &Channel| channel.first..channel.first + channel.ends.len() as u32;
    let number = read.iter().find(|number| {
        channels.get(number.0 as usize).and_then(Option::as_ref).is_some_and(|found| lanes(found).contains(&lane.0))
    })?;
    let found = channels[number.0 as usize].as_mut()?;
    let at = (lane.0 - found.first) as usize;
    found.groups.iter_mut().find(|g| g.name == *group)?.in_flight.get_mut(at)
}

impl State {
    fn channel(&self, channel: ChannelId) -> Option<&Channel> {
        self.channels.get(channel.0 as usize)?.as_ref()
    }

    fn known(&mut self, client: u32) -> Option<&mut Known> {
        self.clients.get_mut(client as usize)?.as_mut()
    }

    /// Why this client may not ask for that, if it may not.
    fn refusal(&mut self, client: u32, allowed: impl FnOnce(&Role) -> bool) -> Option<Refusal> {
        match self.known(client) {
            None => Some(Refusal::Closed),
            Some(known) if known.closed => Some(Refusal::Closed),
            Some(known) => (!allowed(&known.role)).then_some(Refusal::WrongRole),
        }
    }

    fn answer(&mut self, step: Step, token: Token, status: Status) {
        if let Some(completions) = self.boxes.fill(step.client, step.origin) {
            completions.outcomes.push(outcome(token, status));
        }
    }

    /// The groups that a member belongs to, each with its channel.
    fn each_group_of(&mut self, client: u32, mut each: impl FnMut(&mut Group, ChannelId)) {
        let Self { clients, channels, .. } = self;
        let Some(Some(Known { role: Role::Member { group, channels: read }, .. })) = clients.get(client as usize)
        else {
            return;
        };
        for channel in read {
            let found = channels.get_mut(channel.0 as usize).and_then(Option::as_mut);
            if let Some(found) = found.and_then(|c| c.groups.iter_mut().find(|g| g.name == *group)) {
                each(found, *channel);
            }
        }
    }

    fn publish(&mut self, step: Step, batch: &Publishes) -> Accepted {
        if self.held >= self.max_memory {
            self.boxes.block(step.client);
            return Accepted { taken: 0, blocked: Some(Blocked::Memory) };
        }
        let refusal = self.refusal(step.client, |role| matches!(role, Role::Producer));
        self.counts.round_trips += u64::from(!batch.is_empty());
        let mut arena = Vec::with_capacity(batch.iter().map(|m| m.key.len() + m.headers.len() + m.payload.len()).sum());
        for message in batch.iter() {
            arena.extend_from_slice(message.key);
            arena.extend_from_slice(message.headers);
            arena.extend_from_slice(message.payload);
        }
        let arena = Bytes::from(arena);
        let mut at = 0;
        for message in batch.iter() {
            let slice = Slice {
                at,
                key_len: message.key.len() as u16,
                header_len: message.headers.len() as u16,
                payload_len: message.payload_len,
                has_payload: !batch.is_lengths_only(),
            };
            at += (message.key.len() + message.headers.len() + message.payload.len()) as u32;
            let len = message.key.len() + message.headers.len() + message.payload_len as usize;
            let refusal = refusal.or((len > MESSAGE_BYTES_MAX as usize).then_some(Refusal::TooLarge));
            let channel = self.channels.get_mut(message.channel.0 as usize).and_then(Option::as_mut);
            let Some(channel) = channel.filter(|_| refusal.is_none()) else {
                let refusal = refusal.unwrap_or(Refusal::NoSuchLane);
                self.answer(step, message.token, Status::Refused(refusal));
                continue;
            };
            let lane = channel.next_lane;
            channel.next_lane = (lane + 1) % channel.ends.len();
            let receipt = Receipt { lane: LaneId(channel.first + lane as u32), position: channel.ends[lane], epoch: 0 };
            channel.ends[lane] += 1;
            self.counts.payload_copies += 1;
            if let Some(completions) = self.boxes.fill(step.client, step.origin) {
                let (lane, position) = (receipt.lane, receipt.position);
                completions.outcomes.push(Outcome { token: message.token, status: Status::Done, lane, position });
            }
            let hash = if self.order == Order::PerKey { crc32c(message.key) } else { 0 };
            self.hand_over(step.origin, message.channel, &arena, Waiting { receipt, slice, hash });
        }
        Accepted { taken: batch.len(), blocked: None }
    }

    /// Hands a message to one member of each group, or lets it wait for a grant.
    fn hand_over(&mut self, origin: Origin, channel: ChannelId, bytes: &Bytes, message: Waiting) {
        let Self { channels, clients, boxes, order, held: held_bytes, .. } = self;
        let Some(Some(found)) = channels.get_mut(channel.0 as usize) else { return };
        for group in &mut found.groups {
            let member = if group.waiting.is_empty() { group.choose(clients, *order, message.hash) } else { None };
            if let Some(member) = member {
                group.in_flight[(message.receipt.lane.0 - found.first) as usize] += 1;
                deliver(clients, boxes, origin, (member, channel), bytes, message);
            } else {
                let held = Held { message, bytes: bytes.clone() };
                *held_bytes += held.bytes_held();
                group.waiting.push_back(held);
            }
        }
    }

    /// A member has credit: what waited goes out, as far as it is for somebody with credit.
    fn serve(&mut self, step: Step) {
        let mut waited = Vec::new();
        self.each_group_of(step.client, |group, channel| {
            group.ready.insert(step.client);
            if !group.waiting.is_empty() {
                waited.push((channel, group.name.clone()));
            }
        });
        let Self { channels, clients, boxes, order, held: bytes, .. } = self;
        for (channel, name) in waited {
            let Some(Some(found)) = channels.get_mut(channel.0 as usize) else { continue };
            let Some(group) = found.groups.iter_mut().find(|g| g.name == name) else { continue };
            while let Some(held) = group.waiting.pop_front() {
                let Some(member) = group.choose(clients, *order, held.message.hash) else {
                    group.waiting.push_front(held);
                    break;
                };
                *bytes -= held.bytes_held();
                group.in_flight[(held.message.receipt.lane.0 - found.first) as usize] += 1;
                deliver(clients, boxes, step.origin, (member, channel), &held.bytes, held.message);
            }
        }
    }

    fn settle(&mut self, step: Step, settlements: &[Settlement]) -> Accepted {
        let refusal = self.refusal(step.client, |role| matches!(role, Role::Member { .. }));
        self.counts.round_trips += u64::from(!settlements.is_empty());
        let Self { boxes, clients, channels, .. } = self;
        let Some(completions) = boxes.fill(step.client, step.origin) else {
            return Accepted { taken: settlements.len(), blocked: None };
        };
        let role = clients.get(step.client as usize).and_then(Option::as_ref).map(|known| &known.role);
        for settlement in settlements {
            let status = match (refusal, settlement.verdict) {
                (Some(refusal), _) => Status::Refused(refusal),
                (None, Verdict::Ack | Verdict::Nack { requeue: false }) => {
                    let in_flight = role.and_then(|role| in_flight_of(channels, role, settlement.receipt.lane));
                    if let Some(in_flight) = in_flight {
                        *in_flight = in_flight.saturating_sub(1);
                    }
                    Status::Done
                }
                (None, Verdict::Nack { requeue: true } | Verdict::Extend(_)) => Status::Refused(Refusal::Unsupported),
            };
            completions.outcomes.push(outcome(settlement.token, status));
        }
        Accepted { taken: settlements.len(), blocked: None }
    }

    fn control(&mut self, step: Step, controls: &[(Token, Control)]) -> Accepted {
        for (token, control) in controls {
            let allowed = |role: &Role| match control {
                Control::Grant(_) | Control::Seek { .. } | Control::Position(_) | Control::Release(_) => {
                    matches!(role, Role::Member { .. })
                }
                Control::Flush | Control::Transaction(_) => matches!(role, Role::Producer),
                Control::Create(_)
                | Control::Delete(_)
                | Control::Describe(_)
                | Control::Split { .. }
                | Control::Merge { .. } => matches!(role, Role::Administrator),
                Control::Close => true,
            };
            if let Some(refusal) = self.refusal(step.client, allowed) {
                self.answer(step, *token, Status::Refused(refusal));
                continue;
            }
            match control {
                Control::Grant(count) => self.grant(step, *token, *count),
                Control::Flush => self.answer(step, *token, Status::Done),
                Control::Seek { .. }
                | Control::Position(_)
                | Control::Release(_)
                | Control::Transaction(_)
                | Control::Split { .. }
                | Control::Merge { .. } => {
                    self.answer(step, *token, Status::Refused(Refusal::Unsupported));
                }
                Control::Close => self.close(step, *token),
                Control::Create(spec) => self.create(step, *token, spec),
                Control::Delete(channel) => self.delete(step, *token, *channel),
                Control::Describe(channel) => self.describe(step, *token, *channel),
            }
        }
        Accepted { taken: controls.len(), blocked: None }
    }

    fn grant(&mut self, step: Step, token: Token, count: u32) {
        self.counts.round_trips += 1;
        if self.known(step.client).is_some_and(|known| known.credit.grant(token, count)) {
            self.serve(step);
        } else {
            self.answer(step, token, Status::Done);
        }
    }

    fn close(&mut self, step: Step, token: Token) {
        let mut ended = Vec::new();
        self.each_group_of(step.client, |group, _| group.members.retain(|&member| member != step.client));
        if let Some(known) = self.known(step.client) {
            known.closed = true;
            known.credit.end(|token| ended.push(token));
        }
        for token in ended {
            self.answer(step, token, Status::Done);
        }
        self.answer(step, token, Status::Done);
    }

    fn create(&mut self, step: Step, token: Token, spec: &ChannelSpec) {
        if !spec.is_plain() {
            return self.answer(step, token, Status::Refused(Refusal::Unsupported));
        }
        if self.channels.iter().flatten().any(|channel| channel.name == spec.name) {
            return self.answer(step, token, Status::Refused(Refusal::Exists));
        }
        if spec.lanes == 0 {
            return self.answer(step, token, Status::Refused(Refusal::OutOfRange));
        }
        let first = self.lanes;
        self.lanes += spec.lanes;
        let groups = spec.groups.iter().map(|name| {
            let in_flight = vec![0; spec.lanes as usize];
            Group { name: name.clone(), in_flight, ..Group::default() }
        });
        let groups = groups.collect();
        let ends = vec![0; spec.lanes as usize];
        self.channels.push(Some(Channel { name: spec.name.clone(), first, ends, next_lane: 0, groups }));
        let (lane, position) = (LaneId(first), self.channels.len() as u64 - 1);
        if let Some(completions) = self.boxes.fill(step.client, step.origin) {
            completions.outcomes.push(Outcome { token, status: Status::Done, lane, position });
        }
    }

    fn delete(&mut self, step: Step, token: Token, channel: ChannelId) {
        let gone = self.channels.get_mut(channel.0 as usize).and_then(Option::take);
        if let Some(gone) = &gone {
            self.held -= gone.groups.iter().flat_map(|g| &g.waiting).map(Held::bytes_held).sum::<u64>();
        }
        let status = if gone.is_some() { Status::Done } else { Status::Refused(Refusal::NoSuchLane) };
        self.answer(step, token, status);
    }

    fn describe(&mut self, step: Step, token: Token, channel: ChannelId) {
        let Some(found) = self.channel(channel) else {
            return self.answer(step, token, Status::Refused(Refusal::NoSuchLane));
        };
        let settings = [("storage", "nothing".to_owned()), ("max_memory", crate::engine::bytes_text(self.max_memory))];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let mut description = Description { settings, ..Description::default() };
        for (lane, &end) in found.ends.iter().enumerate() {
            for (number, group) in found.groups.iter().enumerate() {
                let lane_id = LaneId(found.first + lane as u32);
                let ready = group.waiting.iter().filter(|held| held.message.receipt.lane == lane_id).count() as u64;
                // What comes after is settled in any order; the count stands for the oldest.
                let in_flight = group.in_flight[lane];
                let committed = end - ready - in_flight;
                description.lanes.push(LaneState {
                    lane: lane_id,
                    group: number as u32,
                    end,
                    committed,
                    ready,
                    in_flight,
                    ..LaneState::default()
                });
            }
        }
        if let Some(completions) = self.boxes.fill(step.client, step.origin) {
            completions.answers.push((token, Answer::Description(description)));
        }
    }
}

impl Held {
    /// What it adds to the bound: its bytes and its place in the list.
    fn bytes_held(&self) -> u64 {
        let Slice { key_len, header_len, payload_len, has_payload, .. } = self.message.slice;
        let payload = if has_payload { u64::from(payload_len) } else { 0 };
        payload + u64::from(key_len) + u64::from(header_len) + size_of::<Self>() as u64
    }
}

impl Group {
    /// The member that gets the next message; nobody when who should get it has no credit.
    fn choose(&mut self, clients: &[Option<Known>], order: Order, hash: u32) -> Option<u32> {
        let has_credit = |member: u32| {
            clients.get(member as usize).and_then(Option::as_ref).is_some_and(|known| !known.credit.is_empty())
        };
        let count = self.members.len();
        match order {
            Order::None => loop {
                let member = self.ready.range(self.next..).next().or_else(|| self.ready.first()).copied()?;
                if has_credit(member) {
                    self.next = member + 1;
                    return Some(member);
                }
                self.ready.remove(&member);
            },
            Order::PerKey if count == 0 => None,
            Order::PerKey => Some(self.members[hash as usize % count]).filter(|&member| has_credit(member)),
            Order::Total => self.members.first().copied().filter(|&member| has_credit(member)),
        }
    }
}

/// Hands a message to a member that has credit.
fn deliver(
    clients: &mut [Option<Known>],
    boxes: &mut Mailboxes,
    origin: Origin,
    (member, channel): (u32, ChannelId),
    bytes: &Bytes,
    Waiting { receipt, slice, .. }: Waiting,
) {
    let Some(Some(known)) = clients.get_mut(member as usize) else { return };
    let Some(completions) = boxes.fill(member, origin) else { return };
    completions.deliveries.push(receipt, channel, 0, bytes, slice);
    let outcomes = &mut completions.outcomes;
    known.credit.take(1, |token| outcomes.push(outcome(token, Status::Done)));
}
