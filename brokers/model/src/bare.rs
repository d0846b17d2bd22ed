//! A model by itself as a broker: its messages in lists, its time what it is told. No thread, no file, no clock, no descriptor.
//!
//! It performs a model's [`Effects`] as a host must and no other work: whatever is to be stored is stored when its worker runs next, in the
//! same instant. So a workload can be driven through a model in virtual time, and an engine on real files be held against it: order
//! and counts are the same. A simulator stands in the same place and prices the work. Leaves out crashes (nothing outlives it) and counts
//! of work.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::batch::{Accepted, Batch, Blocked, LaneId, Message, Publishes};
use crate::broker::{Broker, Client, ClientSpec, ConnectError, WaitOn, WorkCounts, Worker};
use crate::capabilities::{Capabilities, Settings, Tally, Unsupported};
use crate::completion::{Completions, Slice};
use crate::contract::{Contract, Storage};
use crate::death::Death;
use crate::heartbeat::Heartbeat;
use crate::machine::{Deliver, Effects, Model, Write};
use crate::time::Time;

/// A model as a broker. Clones of its state are shared by its clients and its worker, which are all driven by one thread.
#[derive(Debug)]
pub struct Bare {
    state: Arc<Mutex<State>>,
    capabilities: Capabilities,
}

struct State {
    model: Box<dyn Model>,
    storage: Storage,
    effects: Effects,
    lanes: Vec<Lane>,
    /// By client number.
    boxes: Vec<Option<Mailbox>>,
    /// Clients that were refused a publish for lack of room.
    blocked: Vec<u32>,
    /// The last ticket that waits to be answered.
    ticket: Option<u64>,
    /// The latest time that it was told.
    latest: Time,
    /// Bytes of the messages that it holds, and how many they may be.
    held: u64,
    bound: u64,
}

/// A lane's messages from the oldest that is needed. Positions are dense, save where a compaction has left some out.
#[derive(Debug, Default)]
struct Lane {
    end: u64,
    messages: VecDeque<Kept>,
}

impl Lane {
    fn get(&self, position: u64) -> Option<&Kept> {
        let at = position.checked_sub(self.messages.front()?.position)?;
        match self.messages.get(at as usize).filter(|kept| kept.position == position) {
            Some(kept) => Some(kept),
            None => self.messages.get(self.messages.partition_point(|kept| kept.position < position)),
        }
        .filter(|kept| kept.position == position)
    }
}

/// A message: key, headers and payload one after another.
#[derive(Debug)]
struct Kept {
    position: u64,
    bytes: Bytes,
    slice: Slice,
}

#[derive(Debug, Default)]
struct Mailbox {
    completions: Completions,
    /// Whether there is something to be polled, if only room.
    mail: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("latest", &self.latest).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Bare {
    /// `model` under a contract with this storage; it holds at most `bound` bytes of messages, beyond which `submit` is blocked.
    pub fn new(model: Box<dyn Model>, storage: Storage, bound: u64) -> Self {
        let capabilities = model.capabilities().clone();
        let state = State {
            model,
            storage,
            effects: Effects::default(),
            lanes: Vec::new(),
            boxes: Vec::new(),
            blocked: Vec::new(),
            ticket: None,
            latest: Time::ZERO,
            held: 0,
            bound,
        };
        Self { state: Arc::new(Mutex::new(state)), capabilities }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("one thread drives it, and ends with a panic of its own")
}

impl Broker for Bare {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        locked(&self.state).model.honour(contract)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let mut state = locked(&self.state);
        let heartbeat = Heartbeat::of(&*state.model, &client.role, now);
        let now = state.clock(now);
        let at = client.number as usize;
        if state.boxes.get(at).is_some_and(Option::is_some) {
            return Err(ConnectError::NumberTaken(client.number));
        }
        let State { model, effects, boxes, .. } = &mut *state;
        if let Err(error) = model.connect(now, client, effects) {
            effects.clear();
            return Err(error);
        }
        if at >= boxes.len() {
            boxes.resize_with(at + 1, || None);
        }
        boxes[at] = Some(Mailbox::default());
        state.perform(now, None);
        Ok(Box::new(BareClient { state: Arc::clone(&self.state), number: client.number, heartbeat }))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        vec![Box::new(BareWorker { state: Arc::clone(&self.state) })]
    }

    fn work(&self) -> WorkCounts {
        WorkCounts::default()
    }

    fn tallies(&self) -> Vec<Tally> {
        locked(&self.state).model.tallies()
    }
}

/// One client of a model.
#[derive(Debug)]
struct BareClient {
    state: Arc<Mutex<State>>,
    number: u32,
    heartbeat: Heartbeat,
}

/// Its mailbox goes with it; the model knows whether it was closed.
impl Drop for BareClient {
    fn drop(&mut self) {
        // After a panic under the lock nothing is handed out any more.
        if let Ok(mut state) = self.state.lock() {
            state.boxes[self.number as usize] = None;
        }
    }
}

impl Client for BareClient {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let mut state = locked(&self.state);
        let now = state.clock(now);
        let accepted = match batch {
            Batch::Publish(publishes) => state.publish(now, self.number, publishes),
            Batch::Settle(settlements) => {
                let State { model, effects, .. } = &mut *state;
                model.settle(now, self.number, settlements, effects);
                state.perform(now, None);
                Accepted { taken: settlements.len(), blocked: None }
            }
            Batch::Control(controls) => {
                for (token, control) in &*controls {
                    let State { model, effects, .. } = &mut *state;
                    model.control(now, self.number, *token, control, effects);
                    state.perform(now, None);
                }
                Accepted { taken: controls.len(), blocked: None }
            }
        };
        drop(state);
        batch.advance(accepted.taken);
        accepted
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        let mut state = locked(&self.state);
        if self.heartbeat.beats(now) {
            let now = state.clock(now);
            let State { model, effects, .. } = &mut *state;
            model.heard(now, self.number, effects);
            state.perform(now, None);
        }
        if let Some(Some(mailbox)) = state.boxes.get_mut(self.number as usize) {
            mailbox.mail = false;
            completions.append(&mut mailbox.completions);
        }
    }

    /// At once when something waits to be polled, else when a sign of life is due; the model's own deadlines are the worker's.
    fn next_deadline(&self) -> Option<Time> {
        let state = locked(&self.state);
        let mailbox = state.boxes.get(self.number as usize)?.as_ref()?;
        if mailbox.mail { Some(Time::ZERO) } else { self.heartbeat.due() }
    }

    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::Nothing
    }
}

/// Minds the model's deadlines, and answers its barriers.
#[derive(Debug)]
struct BareWorker {
    state: Arc<Mutex<State>>,
}

impl Worker for BareWorker {
    fn run(&mut self, now: Time) -> bool {
        let mut state = locked(&self.state);
        let now = state.clock(now);
        let State { model, effects, .. } = &mut *state;
        let due = model.next_deadline().is_some_and(|due| due <= now);
        if due {
            model.on_deadline(now, effects);
            state.perform(now, None);
        }
        let ticket = state.ticket.take();
        if let Some(ticket) = ticket {
            state.stored(now, ticket);
            state.perform(now, None);
        }
        due || ticket.is_some()
    }

    fn next_deadline(&self) -> Option<Time> {
        let state = locked(&self.state);
        if state.ticket.is_some() { Some(Time::ZERO) } else { state.model.next_deadline() }
    }

    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::Nothing
    }
}

impl State {
    /// The model's time never goes back.
    fn clock(&mut self, now: Time) -> Time {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn publish(&mut self, now: Time, client: u32, publishes: &Publishes) -> Accepted {
        let room = self.room(publishes);
        if room < publishes.len() {
            self.blocked.push(client);
        }
        let blocked = (room < publishes.len()).then_some(Blocked::Memory);
        if room == 0 {
            return Accepted { taken: 0, blocked };
        }
        let prefix;
        let batch = if room < publishes.len() {
            prefix = publishes.prefix(room);
            &prefix
        } else {
            publishes
        };
        let accepted = self.model.publish(now, client, batch, &mut self.effects);
        self.perform(now, Some(batch));
        Accepted { blocked: accepted.blocked.or(blocked), ..accepted }
    }

    /// How many messages of a batch fit. One message of any size fits where there is none.
    fn room(&self, publishes: &Publishes) -> usize {
        let mut held = self.held;
        let mut fits = |message: &Message<'_>| {
            held += size(message);
            held <= self.bound
        };
        let room = publishes.iter().take_while(|message| fits(message)).count();
        if self.held == 0 { room.max(publishes.len().min(1)) } else { room }
    }

    /// Performs everything that a step has asked for, until nothing is left.
    fn perform(&mut self, now: Time, batch: Option<&Publishes>) {
        let mut batch = batch;
        let mut trims = Vec::new();
        while !self.effects.writes.is_empty() {
            let mut answer = None;
            for write in std::mem::take(&mut self.effects.writes) {
                match write {
                    Write::Messages { lane, position, index, count }
                    | Write::Provisional { lane, position, index, count } => {
                        let batch = batch.expect("a model appends messages only of the batch that it was handed");
                        for (position, index) in (position..).zip(index..index + count) {
                            self.append(lane, position, &batch.get(index as usize), !batch.is_lengths_only());
                        }
                    }
                    Write::DeadLetter { from, at, lane, position, death } => {
                        self.append_letter((from, at), lane, position, &death);
                    }
                    Write::Record(_) => {}
                    Write::Barrier(ticket) => match self.storage {
                        Storage::Memory => answer = Some(ticket),
                        Storage::PageCache | Storage::Fsync => self.ticket = Some(ticket),
                    },
                    Write::Compact { lane, from, to, kept } => self.compact(lane, from, to, &kept),
                    Write::Trim { lane, below } => trims.push((lane, below)),
                }
            }
            batch = None;
            if let Some(ticket) = answer {
                self.stored(now, ticket);
            }
        }
        self.hand_out();
        for (lane, below) in trims {
            self.trim(lane, below);
        }
        if !self.blocked.is_empty() && self.held < self.bound {
            for client in std::mem::take(&mut self.blocked) {
                self.fill(client);
            }
        }
    }

    fn stored(&mut self, now: Time, ticket: u64) {
        self.model.stored(now, ticket, Ok(()), &mut self.effects);
    }

    fn append(&mut self, lane: LaneId, position: u64, message: &Message<'_>, has_payload: bool) {
        let mut bytes = Vec::with_capacity(message.key.len() + message.headers.len() + message.payload.len());
        bytes.extend_from_slice(message.key);
        bytes.extend_from_slice(message.headers);
        bytes.extend_from_slice(message.payload);
        let (key_len, header_len) = (message.key.len() as u16, message.headers.len() as u16);
        let slice = Slice { at: 0, key_len, header_len, payload_len: message.payload_len, has_payload };
        let at = lane.0 as usize;
        if at >= self.lanes.len() {
            self.lanes.resize_with(at + 1, Lane::default);
        }
        let lane = &mut self.lanes[at];
        assert_eq!(lane.end, position, "a model appends densely and in order");
        lane.end += 1;
        lane.messages.push_back(Kept { position, bytes: Bytes::from(bytes), slice });
        self.held += size(message);
    }

    fn append_letter(&mut self, (from, at): (LaneId, u64), lane: LaneId, position: u64, death: &Death) {
        let source = &self.lanes[from.0 as usize];
        let kept = source.get(at).expect("a letter's message is still needed");
        let (bytes, slice, mut headers) = (kept.bytes.clone(), kept.slice, Vec::new());
        self.append(lane, position, &death.letter(&bytes, slice, &mut headers), slice.has_payload);
    }

    fn trim(&mut self, lane: LaneId, below: u64) {
        let Some(lane) = self.lanes.get_mut(lane.0 as usize) else { return };
        while lane.messages.front().is_some_and(|kept| kept.position < below)
            && let Some(gone) = lane.messages.pop_front()
        {
            self.held -= gone.bytes.len() as u64;
        }
    }

    /// Of a range only what is kept stays.
    fn compact(&mut self, lane: LaneId, from: u64, to: u64, kept: &[(u64, u32)]) {
        let Some(lane) = self.lanes.get_mut(lane.0 as usize) else { return };
        let stays = |position: u64| {
            let at = kept.partition_point(|&(first, count)| first + u64::from(count) <= position);
            kept.get(at).is_some_and(|&(first, _)| first <= position)
        };
        let held = &mut self.held;
        lane.messages.retain(|message| {
            let goes = (from..to).contains(&message.position) && !stays(message.position);
            *held -= if goes { message.bytes.len() as u64 } else { 0 };
            !goes
        });
    }

    fn fill(&mut self, client: u32) -> Option<&mut Completions> {
        let mailbox = self.boxes.get_mut(client as usize)?.as_mut()?;
        mailbox.mail = true;
        Some(&mut mailbox.completions)
    }

    /// Puts everything that the model has for its clients into their mailboxes.
    fn hand_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for (client, outcomes) in effects.outcomes.stretches() {
            if let Some(completions) = self.fill(client) {
                completions.outcomes.extend_from_slice(outcomes);
            }
        }
        for deliver in &effects.deliveries {
            self.deliver(deliver);
        }
        for (client, token, answer) in effects.answers.drain(..) {
            if let Some(completions) = self.fill(client) {
                completions.answers.push((token, answer));
            }
        }
        for &(client, event) in &effects.events {
            if let Some(completions) = self.fill(client) {
                completions.events.push(event);
            }
        }
        effects.clear();
        self.effects = effects;
    }

    fn deliver(&mut self, deliver: &Deliver) {
        let Deliver { client, channel, receipt, count, redeliveries } = *deliver;
        let Some(Some(mailbox)) = self.boxes.get_mut(client as usize) else { return };
        mailbox.mail = true;
        let lane = &self.lanes[receipt.lane.0 as usize];
        for position in receipt.position..receipt.position + u64::from(count) {
            let kept = lane.get(position).expect("a model delivers only what it has appended and not trimmed");
            let receipt = crate::batch::Receipt { position, ..receipt };
            mailbox.completions.deliveries.push(receipt, channel, redeliveries, &kept.bytes, kept.slice);
        }
    }
}

fn size(message: &Message<'_>) -> u64 {
    (message.key.len() + message.headers.len() + message.payload.len()) as u64
}
