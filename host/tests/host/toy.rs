//! A serial server in virtual time, with faults to order: stalls, time spent inside calls, a small window, throttling, lost
//! messages. Everything that it does follows from the times that it is given; it moves the clock only where it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use brokerlab_host::ManualClock;
use brokerlab_model::{
    Accepted, Answer, Batch, Blocked, Broker, Capabilities, ChannelId, Client, ClientSpec, Completions, ConnectError,
    Contract, Control, Description, Event, Failure, Feature, LaneId, LaneState, ModelKind, Outcome, Receipt, Role,
    Settings, Slice, Span, Status, Time, Token, Unsupported, WaitOn, Words, WorkCounts, Worker,
};
use bytes::Bytes;

/// How the server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    /// How long the server is busy with a message.
    pub(crate) service: Span,
    /// From when and for how long it does nothing.
    pub(crate) stall: Option<(Time, Span)>,
    /// Time that each publishing submit spends.
    pub(crate) in_submit: Span,
    /// Time that each poll spends that returns something.
    pub(crate) in_poll: Span,
    /// Publishes of a client in flight.
    pub(crate) window: usize,
    /// The first attempts of every n-th message are throttled.
    pub(crate) throttle_every: u64,
    /// How many attempts of such a message are.
    pub(crate) throttled_times: u32,
    /// Every n-th message fails.
    pub(crate) fail_every: u64,
    /// Every n-th message is acknowledged, and never delivered.
    pub(crate) drop_every: u64,
    /// Every n-th message that goes to a member does not reach it: it is in flight, of which descriptions tell nothing. It is with
    /// the server again when the member has closed, from the second description on.
    pub(crate) stuck_every: u64,
    /// What is dropped is dropped by a limit of this name, and nobody is told.
    pub(crate) untold: Option<&'static str>,
    /// Lanes move: the member that holds lane 0 is asked for it back after this many deliveries.
    pub(crate) revoke_after: u64,
    /// Never answers a publish after this many.
    pub(crate) silent_after: u64,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            service: Span::ZERO,
            stall: None,
            in_submit: Span::ZERO,
            in_poll: Span::ZERO,
            window: usize::MAX,
            throttle_every: 0,
            throttled_times: 1,
            fail_every: 0,
            drop_every: 0,
            stuck_every: 0,
            untold: None,
            revoke_after: 0,
            silent_after: u64::MAX,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    client: u32,
    token: Token,
    done: Time,
    status: Status,
    message: Option<Message>,
}

#[derive(Clone, Debug)]
struct Message {
    channel: ChannelId,
    arena: Bytes,
    slice: Slice,
}

#[derive(Debug, Default)]
struct Member {
    group: usize,
    credit: VecDeque<(Token, u32)>,
    mail: Completions,
}

/// What the server saw, for tests to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) submits: u64,
    pub(crate) offered: u64,
    pub(crate) taken: u64,
    pub(crate) in_flight_max: usize,
    /// Actual starts by (producer, sequence) as the stamps said when the message was taken.
    pub(crate) stamps: Vec<(u32, u64, Time)>,
    pub(crate) settled: u64,
    pub(crate) settled_at: Vec<Time>,
    pub(crate) grants: Vec<u32>,
    pub(crate) events: Vec<String>,
    pub(crate) closed: u64,
}

#[derive(Debug, Default)]
struct State {
    manners: Manners,
    free: Time,
    published: u64,
    attempts: BTreeMap<(u32, u64), u32>,
    queue: VecDeque<Waiting>,
    in_flight: BTreeMap<u32, usize>,
    groups: Vec<String>,
    backlog: Vec<VecDeque<Message>>,
    next_member: Vec<usize>,
    members: BTreeMap<u32, Member>,
    mail: BTreeMap<u32, Completions>,
    held_lane: Option<u32>,
    delivered: u64,
    pushed: u64,
    /// By member, and by group.
    stuck: Vec<(u32, usize, Message)>,
    /// Closed members gave them back.
    returning: Vec<(usize, Message)>,
    revoked: bool,
    seen: Seen,
}

#[derive(Debug)]
pub(crate) struct Toy {
    clock: ManualClock,
    state: Arc<Mutex<State>>,
    capabilities: Capabilities,
}

#[derive(Debug)]
struct ToyClient {
    clock: ManualClock,
    state: Arc<Mutex<State>>,
    number: u32,
}

impl Toy {
    pub(crate) fn new(clock: &ManualClock, manners: Manners) -> Self {
        let features = if manners.revoke_after > 0 { vec![Feature::LaneAssignment] } else { vec![] };
        let capabilities = Capabilities {
            name: "toy",
            model: ModelKind::Null,
            words: Words { lane: "lane", position: "position", grant: "grant", settle: "settle" },
            features,
            max_message_bytes: 1 << 20,
            limits: Vec::new(),
        };
        let state = Arc::new(Mutex::new(State { manners, ..State::default() }));
        Self { clock: clock.clone(), state, capabilities }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state.lock().unwrap().seen.clone()
    }
}

impl Broker for Toy {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, _contract: &Contract) -> Result<Settings, Unsupported> {
        Ok(Settings::default())
    }

    fn connect(&mut self, _now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let mut state = self.state.lock().unwrap();
        if let Role::Member { group, .. } = &client.role {
            let group = state.groups.iter().position(|name| name == group).unwrap();
            let mut member = Member { group, ..Member::default() };
            if state.manners.revoke_after > 0 && state.held_lane.is_none() {
                state.held_lane = Some(client.number);
                member.mail.events.push(Event::LaneAssigned { lane: LaneId(0), position: 0 });
            }
            state.members.insert(client.number, member);
        }
        Ok(Box::new(ToyClient { clock: self.clock.clone(), state: Arc::clone(&self.state), number: client.number }))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        Vec::new()
    }

    fn untold_limits(&self) -> Vec<String> {
        self.state.lock().unwrap().manners.untold.iter().map(|&limit| limit.to_owned()).collect()
    }

    fn work(&self) -> WorkCounts {
        WorkCounts { round_trips: self.state.lock().unwrap().seen.submits, ..WorkCounts::default() }
    }
}

impl Client for ToyClient {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let mut state = self.state.lock().unwrap();
        let (taken, blocked) = match batch {
            Batch::Publish(_) => {
                let accepted = state.publish(self.number, now, batch);
                self.clock.advance(state.manners.in_submit);
                accepted
            }
            Batch::Settle(settlements) => {
                state.seen.settled += settlements.len() as u64;
                state.seen.settled_at.extend(settlements.iter().map(|_| now));
                let tokens: Vec<Token> = settlements.iter().map(|s| s.token).collect();
                for &token in &tokens {
                    state.answer(self.number, token, 0);
                }
                (tokens.len(), None)
            }
            Batch::Control(controls) => {
                for (token, control) in controls.iter() {
                    state.control(self.number, *token, control);
                }
                (controls.len(), None)
            }
        };
        state.deliver();
        drop(state);
        batch.advance(taken);
        Accepted { taken, blocked }
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        let mut state = self.state.lock().unwrap();
        state.serve(now);
        let mut any = false;
        if let Some(mail) = state.mail.get_mut(&self.number) {
            any |= !mail.is_empty();
            completions.append(mail);
        }
        if let Some(member) = state.members.get_mut(&self.number) {
            any |= !member.mail.is_empty();
            completions.append(&mut member.mail);
        }
        if any {
            self.clock.advance(state.manners.in_poll);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let state = self.state.lock().unwrap();
        let mail = |mail: Option<&Completions>| mail.is_some_and(|mail| !mail.is_empty());
        if mail(state.mail.get(&self.number)) || mail(state.members.get(&self.number).map(|m| &m.mail)) {
            return Some(Time::ZERO);
        }
        state.queue.front().map(|waiting| waiting.done)
    }

    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::Nothing
    }
}

impl State {
    fn answer(&mut self, client: u32, token: Token, position: u64) {
        let outcome = Outcome { token, status: Status::Done, lane: LaneId(0), position };
        self.mail.entry(client).or_default().outcomes.push(outcome);
    }

    fn control(&mut self, client: u32, token: Token, control: &Control) {
        match control {
            Control::Create(channel) => {
                self.groups.clone_from(&channel.groups);
                self.backlog.resize(self.groups.len(), VecDeque::new());
                self.next_member.resize(self.groups.len(), 0);
                self.answer(client, token, 0);
            }
            Control::Grant(count) => {
                self.seen.grants.push(*count);
                let member = self.members.get_mut(&client).unwrap();
                member.credit.push_back((token, *count));
            }
            Control::Describe(_) => {
                let lane = |(group, backlog): (usize, &VecDeque<Message>)| LaneState {
                    group: group as u32,
                    ready: backlog.len() as u64,
                    ..LaneState::default()
                };
                let lanes = self.backlog.iter().enumerate().map(lane).collect();
                let answer = Answer::Description(Description { lanes, settings: Vec::new() });
                self.mail.entry(client).or_default().answers.push((token, answer));
                for (group, message) in self.returning.drain(..) {
                    self.backlog[group].push_back(message);
                }
            }
            Control::Release(lane) => {
                self.seen.events.push(format!("released {} after {} settled", lane.0, self.seen.settled));
                self.answer(client, token, 0);
                let other = *self.members.keys().find(|&&number| number != client).unwrap();
                self.held_lane = Some(other);
                let event = Event::LaneAssigned { lane: LaneId(0), position: 0 };
                self.members.get_mut(&other).unwrap().mail.events.push(event);
            }
            Control::Close => {
                self.seen.closed += 1;
                self.members.remove(&client);
                let returned = self.stuck.extract_if(.., |(member, ..)| *member == client);
                self.returning.extend(returned.map(|(_, group, message)| (group, message)));
                self.answer(client, token, 0);
            }
            Control::Flush
            | Control::Delete(_)
            | Control::Seek { .. }
            | Control::Position(_)
            | Control::Split { .. }
            | Control::Transaction(_)
            | Control::Merge { .. } => {
                self.answer(client, token, 0);
            }
        }
    }

    fn publish(&mut self, client: u32, now: Time, batch: &Batch) -> (usize, Option<Blocked>) {
        let Batch::Publish(publishes) = batch else { unreachable!() };
        self.seen.submits += 1;
        self.seen.offered += publishes.len() as u64;
        let in_flight = *self.in_flight.get(&client).unwrap_or(&0);
        let taken = publishes.len().min(self.manners.window - in_flight);
        for at in 0..taken {
            let message = publishes.get(at);
            let stamp = brokerlab_workloads::Stamp::read(message.payload).unwrap();
            self.seen.stamps.push((stamp.producer, stamp.sequence, stamp.actual));
            let mut arena = message.key.to_vec();
            arena.extend_from_slice(message.payload);
            let slice = Slice {
                at: 0,
                key_len: message.key.len() as u16,
                header_len: 0,
                payload_len: message.payload_len,
                has_payload: true,
            };
            let kept = Message { channel: message.channel, arena: Bytes::from(arena), slice };
            let status = self.status(stamp.producer, stamp.sequence);
            let done = self.done_after(now, status);
            let asked = message.token;
            let message = (status == Status::Done && !hit(stamp.sequence, self.manners.drop_every)).then_some(kept);
            if self.published < self.manners.silent_after {
                self.queue.push_back(Waiting { client, token: asked, done, status, message });
            }
            self.published += 1;
        }
        self.seen.taken += taken as u64;
        self.seen.in_flight_max = self.seen.in_flight_max.max(in_flight + taken);
        self.in_flight.insert(client, in_flight + taken);
        (taken, (taken < publishes.len()).then_some(Blocked::Window))
    }

    fn status(&mut self, producer: u32, sequence: u64) -> Status {
        if hit(sequence, self.manners.throttle_every) {
            let attempts = self.attempts.entry((producer, sequence)).or_default();
            *attempts += 1;
            if *attempts <= self.manners.throttled_times {
                return Status::Throttled;
            }
        }
        if hit(sequence, self.manners.fail_every) { Status::Failed(Failure::Timeout) } else { Status::Done }
    }

    /// When the server is done with a message that comes now; what it does not do takes it no time.
    fn done_after(&mut self, now: Time, status: Status) -> Time {
        let mut begins = now.max(self.free);
        if let Some((at, length)) = self.manners.stall
            && begins >= at
            && begins < at + length
        {
            begins = at + length;
        }
        let service = if status == Status::Done { self.manners.service } else { Span::ZERO };
        self.free = begins + service;
        self.free
    }

    /// Ends what is done by `now` and hands it out.
    fn serve(&mut self, now: Time) {
        while self.queue.front().is_some_and(|waiting| waiting.done <= now) {
            let waiting = self.queue.pop_front().unwrap();
            let outcome = Outcome { token: waiting.token, status: waiting.status, lane: LaneId(0), position: 0 };
            self.mail.entry(waiting.client).or_default().outcomes.push(outcome);
            *self.in_flight.get_mut(&waiting.client).unwrap() -= 1;
            if let Some(message) = waiting.message {
                self.backlog.iter_mut().for_each(|backlog| backlog.push_back(message.clone()));
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        for group in 0..self.backlog.len() {
            while !self.backlog[group].is_empty() {
                let Some(number) = self.member_with_credit(group) else { break };
                let message = self.backlog[group].pop_front().unwrap();
                self.pushed += 1;
                if hit(self.pushed, self.manners.stuck_every) {
                    self.stuck.push((number, group, message));
                    continue;
                }
                let receipt = Receipt { lane: LaneId(0), position: self.delivered, epoch: 0 };
                self.delivered += 1;
                let member = self.members.get_mut(&number).unwrap();
                member.mail.deliveries.push(receipt, message.channel, 0, &message.arena, message.slice);
                let (token, left) = member.credit.front_mut().unwrap();
                *left -= 1;
                if *left == 0 {
                    let token = *token;
                    member.credit.pop_front();
                    self.answer(number, token, 0);
                }
                if self.manners.revoke_after == self.delivered && !self.revoked {
                    self.revoked = true;
                    self.members.get_mut(&number).unwrap().mail.events.push(Event::LaneRevoked(LaneId(0)));
                    self.held_lane = None;
                }
            }
        }
    }

    fn member_with_credit(&mut self, group: usize) -> Option<u32> {
        if self.manners.revoke_after > 0 {
            let holder = self.held_lane?;
            return (!self.members[&holder].credit.is_empty()).then_some(holder);
        }
        let able: Vec<u32> = self
            .members
            .iter()
            .filter(|(_, member)| member.group == group && !member.credit.is_empty())
            .map(|(&number, _)| number)
            .collect();
        let next = self.next_member[group];
        self.next_member[group] += 1;
        (!able.is_empty()).then(|| able[next % able.len()])
    }
}

fn hit(sequence: u64, every: u64) -> bool {
    every > 0 && sequence % every == every - 1
}
