//! One shell for every model: it performs a model's effects on the store and puts what comes back into mailboxes.
//!
//! Each batch takes the engine's lock once; a poll that would find nothing takes none. Leaves out clocks and threads: the host
//! brings time and runs the workers. One payload copy per message: from the batch into the frame being built.

mod client;
mod worker;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use brokerlab_model::{
    Accepted, Broker, Capabilities, Client, ClientSpec, ConnectError, Contract, Control, Deliver, Deliveries, Effects,
    Failure, Heartbeat, Journal, LaneId, Model, Publishes, SeekTo, Settings, Settlement, Span, Storage, Tally, Time,
    Token, Unsupported, WorkCounts, Worker, Write,
};

pub use client::EngineClient;

use crate::handoff::{Bell, Mailboxes, Origin};
use crate::store::{Disk, Limits, ScanReport, StorageFacts, Store, StoreError, SystemDisk};

/// A model hosted on a store, as a backend.
#[derive(Debug)]
pub struct EngineBroker {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    limits: Limits,
    storage: Storage,
}

/// What clients, workers and the broker share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The model's next deadline in nanoseconds, `u64::MAX` for none; read without the lock.
    deadline: AtomicU64,
    /// Whether a barrier waits for a worker; read without the lock.
    waiting: AtomicBool,
}

/// Everything behind the engine's lock.
pub(crate) struct State {
    model: Box<dyn Model>,
    store: Store,
    effects: Effects,
    /// The writes in hand, while the model may add to `effects`.
    writes: Vec<Write>,
    /// Trims wait until what the same step delivers was looked up.
    trims: Vec<(LaneId, u64)>,
    boxes: Mailboxes,
    /// Where a delivery settles what it hands out: deliveries until that is stored.
    held: Option<VecDeque<Held>>,
    /// What the model's time was when this life began: the latest in the journal that it took over.
    base: Span,
    /// Added to the epochs of receipts, so that those of another life are stale.
    epochs: u32,
    /// The latest time seen, as the model counts it: two loops read their clocks before they take the lock.
    latest: Time,
    round_trips: u64,
    /// Rung for the worker that minds deadlines and, without a flush, writes.
    worker: Arc<Bell>,
    worker_thread: Option<std::thread::ThreadId>,
    /// Rung for the worker that flushes.
    flusher: Option<Arc<Bell>>,
    next_deadline: Option<Time>,
    /// When the store is to be looked at for what waits to be written and nobody waits for. It stays when that was written before, so that a
    /// worker is rung for it once in a while and not at every settlement.
    lingers_until: Option<Time>,
}

impl Drop for State {
    /// What is settled and not written yet would come again in the next life.
    fn drop(&mut self) {
        self.store.end();
    }
}

/// Deliveries to one client that wait for so many frames to be stored.
struct Held {
    frames: u64,
    client: u32,
    deliveries: Deliveries,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("store", &self.store).field("latest", &self.latest).finish_non_exhaustive()
    }
}

impl EngineBroker {
    /// Hosts `model` with the contract's storage: in memory, or in the empty folder `dir`.
    pub fn open(
        model: Box<dyn Model>,
        storage: Storage,
        limits: Limits,
        dir: Option<&Path>,
    ) -> Result<Self, StoreError> {
        Self::host(model, storage, limits, Store::create(storage, limits, dir)?)
    }

    /// Hosts `model` on the empty folder of a disk; with storage in memory the disk is left alone.
    pub fn open_on(
        model: Box<dyn Model>,
        storage: Storage,
        limits: Limits,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        Self::host(model, storage, limits, Store::create_on(storage, limits, disk)?)
    }

    /// Hosts `model` on the folder `dir` in which an earlier run may have left a journal, with the same model, options and contract.
    /// The model takes over what the journal holds, and its time goes on after the latest in it. With storage in memory there is
    /// nothing to take over.
    pub fn reopen(
        mut model: Box<dyn Model>,
        storage: Storage,
        limits: Limits,
        dir: &Path,
    ) -> Result<(Self, ScanReport), StoreError> {
        let mut journal = Journal::default();
        if model.reads_headers() {
            journal.keep_said();
        }
        if let Some(window) = model.reads_identities() {
            journal.keep_named(window);
        }
        if model.compacts() {
            journal.keep_keys();
        }
        let disk = Arc::new(SystemDisk::new(dir));
        let (store, report) = Store::open(storage, limits, disk, |entry| entry.tell(&mut journal))?;
        let mut effects = Effects::default();
        let restored = model.restore(journal.latest(), &journal, &mut effects);
        restored.map_err(|cause| StoreError::Journal { path: dir.to_owned(), cause })?;
        let broker = Self::host(model, storage, limits, store)?;
        let mut state = broker.shared.lock();
        (state.base, state.latest, state.effects) = (journal.latest().since(Time::ZERO), journal.latest(), effects);
        state.perform(journal.latest(), None, Origin::Connect);
        broker.shared.publish_hints(&mut state, Origin::Connect);
        drop(state);
        Ok((broker, report))
    }

    fn host(model: Box<dyn Model>, storage: Storage, limits: Limits, store: Store) -> Result<Self, StoreError> {
        let capabilities = model.capabilities().clone();
        let next_deadline = model.next_deadline();
        let held = (model.commits_first() && storage != Storage::Memory).then(VecDeque::new);
        let state = State {
            model,
            store,
            effects: Effects::default(),
            writes: Vec::new(),
            trims: Vec::new(),
            boxes: Mailboxes::default(),
            held,
            base: Span::ZERO,
            epochs: 0,
            latest: Time::ZERO,
            round_trips: 0,
            worker: Arc::new(Bell::new()?),
            worker_thread: None,
            flusher: (storage == Storage::Fsync).then(Bell::new).transpose()?.map(Arc::new),
            next_deadline,
            lingers_until: None,
        };
        let shared = Shared {
            state: Mutex::new(state),
            deadline: AtomicU64::new(next_deadline.unwrap_or(Time::NEVER).0),
            waiting: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared), capabilities, limits, storage })
    }

    /// Says which life of its folder this is, before anybody connects. A receipt of another life is then stale: its epoch is off by more
    /// than 32,000 for any two lives of 65,536 in a row, and a message is not delivered that often.
    pub(crate) fn begin_life(&self, life: u32) {
        // Multiples of the golden ratio keep apart from one another in a circle.
        self.shared.lock().epochs = life.wrapping_mul(0x9e37_79b9);
    }

    /// What is below the store.
    pub fn storage_facts(&self) -> StorageFacts {
        self.shared.lock().store.facts()
    }

    /// The error after which the engine takes nothing more.
    pub fn storage_error(&self) -> Option<StoreError> {
        self.shared.lock().store.error().cloned()
    }

    /// Writes what nobody has waited for so far, as the engine's end does, and says whether all went well until then.
    pub(crate) fn finish(&self) -> Option<StoreError> {
        let mut state = self.shared.lock();
        state.store.end();
        state.store.error().cloned()
    }

    /// Bytes that the store holds in memory now.
    pub fn held_bytes(&self) -> u64 {
        self.shared.lock().store.held_bytes()
    }
}

/// Adds the settings by which the engine keeps its part of a contract.
pub(crate) fn add_storage_settings(settings: &mut Settings, storage: Storage, limits: &Limits) {
    let (how, why) = match storage {
        Storage::Memory => ("in memory, acknowledged when it is held", "storage = memory"),
        Storage::PageCache => ("one pwrite per loop pass or 256 KiB, acknowledged after it", "storage = page-cache"),
        Storage::Fsync => (
            "group commit: one fdatasync for everything that waits when it begins, acknowledged after it",
            "storage = fsync",
        ),
    };
    settings.add("storage", how, why);
    settings.add("max_memory", bytes_text(limits.max_memory), "the engine holds no more; then submit is blocked");
    if storage != Storage::Memory {
        settings.add("max_data", bytes_text(limits.max_data), "segments hold no more; then submit is blocked");
        settings.add("segment", bytes_text(limits.segment_bytes), "preallocated, shared by all lanes");
    }
}

/// A number of bytes with the largest binary unit that divides it.
pub(crate) fn bytes_text(bytes: u64) -> String {
    let units = [(30_u32, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{bytes} B"), |(shift, name)| format!("{} {name}", bytes >> shift))
}

impl Broker for EngineBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        let mut settings = self.shared.lock().model.honour(contract)?;
        add_storage_settings(&mut settings, contract.storage, &self.limits);
        Ok(settings)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let mut state = self.shared.lock();
        let asked = now;
        let now = state.clock(now);
        let door = state.boxes.open(client.number, client.placement)?;
        let heartbeat = Heartbeat::of(&*state.model, &client.role, asked);
        let State { model, effects, .. } = &mut *state;
        if let Err(error) = model.connect(now, client, effects) {
            state.effects.clear();
            state.boxes.leave(client.number);
            return Err(error);
        }
        state.perform(now, None, Origin::Connect);
        self.shared.publish_hints(&mut state, Origin::Connect);
        drop(state);
        let (number, shared) = (client.number, Arc::clone(&self.shared));
        Ok(Box::new(EngineClient {
            shared,
            number,
            placement: door.placement,
            mail: door.mail,
            bell: door.bell,
            heartbeat,
        }))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        worker::workers(&self.shared, self.storage)
    }

    fn tallies(&self) -> Vec<Tally> {
        self.shared.lock().model.tallies()
    }

    fn stopped(&self) -> Option<String> {
        self.storage_error().map(|error| error.to_string())
    }

    fn work(&self) -> WorkCounts {
        let state = self.shared.lock();
        WorkCounts { round_trips: state.round_trips, ..state.store.counts() }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the engine")
    }

    /// Before the lock is released: rings whom the step concerns, and shows what is read without the lock.
    fn publish_hints(&self, state: &mut State, origin: Origin) {
        state.boxes.ring();
        if state.lingers_until.is_none() {
            state.lingers_until = state.store.lingers_until();
        }
        let deadline = state.model.next_deadline().into_iter().chain(state.lingers_until).min();
        let deadline = deadline.map(|at| at - state.base);
        if deadline != state.next_deadline {
            let earlier = deadline.unwrap_or(Time::NEVER) < state.next_deadline.unwrap_or(Time::NEVER);
            state.next_deadline = deadline;
            self.deadline.store(deadline.unwrap_or(Time::NEVER).0, Ordering::Release);
            if earlier {
                state.wake_worker(origin);
            }
        }
        let waiting = state.store.wants_writing();
        if waiting != self.waiting.load(Ordering::Relaxed) {
            self.waiting.store(waiting, Ordering::Release);
            if waiting {
                match &state.flusher {
                    Some(flusher) => flusher.ring(),
                    None => state.wake_worker(origin),
                }
            }
        }
    }
}

impl State {
    /// The model's time: it never goes back, whichever loop comes first to the lock, and goes on where the last life ended.
    fn clock(&mut self, now: Time) -> Time {
        self.latest = self.latest.max(now + self.base);
        self.latest
    }

    /// Has the store write what has waited for long enough.
    fn linger(&mut self, now: Time) {
        if self.lingers_until.is_some_and(|at| at <= now) {
            self.lingers_until = None;
            if self.store.lingers_until().is_some_and(|at| at <= now) {
                self.store.press();
            }
        }
    }

    /// Rings for the worker, unless it runs on this very thread: its host asks for its deadline before it sleeps.
    fn wake_worker(&mut self, origin: Origin) {
        let here = match origin {
            Origin::Worker(_) => true,
            Origin::Loop(_) | Origin::Connect => self.worker_thread == Some(std::thread::current().id()),
        };
        if !here {
            self.worker.ring();
        }
    }

    fn publish(&mut self, now: Time, client: u32, publishes: &Publishes, origin: Origin) -> Accepted {
        if publishes.is_empty() {
            return Accepted { taken: 0, blocked: None };
        }
        let (room, blocked) = self.store.room(publishes);
        if room == publishes.len() {
            return self.publish_whole(now, client, publishes, origin);
        }
        self.boxes.block(client);
        self.model.press(now);
        if room == 0 {
            return Accepted { taken: 0, blocked };
        }
        // Rare: the bound falls inside the batch. The model is shown a batch that ends there.
        let prefix = prefix_of(publishes, room);
        self.store.count_copies(room as u64);
        let accepted = self.publish_whole(now, client, &prefix, origin);
        Accepted { blocked: accepted.blocked.or(blocked), ..accepted }
    }

    fn publish_whole(&mut self, now: Time, client: u32, publishes: &Publishes, origin: Origin) -> Accepted {
        let accepted = self.model.publish(now, client, publishes, &mut self.effects);
        self.round_trips += u64::from(accepted.taken > 0);
        self.perform(now, Some(publishes), origin);
        accepted
    }

    fn settle(&mut self, now: Time, client: u32, settlements: &[Settlement], origin: Origin) -> Accepted {
        self.round_trips += u64::from(!settlements.is_empty());
        self.model.settle(now, client, settlements, &mut self.effects);
        self.perform(now, None, origin);
        Accepted { taken: settlements.len(), blocked: None }
    }

    fn control(&mut self, now: Time, client: u32, controls: &[(Token, Control)], origin: Origin) -> Accepted {
        for (token, control) in controls {
            self.round_trips += u64::from(matches!(control, Control::Grant(_)));
            let control = if let Control::Seek { lane, to: SeekTo::Time(time) } = control {
                &Control::Seek { lane: *lane, to: SeekTo::Time(*time + self.base) }
            } else {
                control
            };
            if matches!(control, Control::Close)
                && let Some(held) = &mut self.held
            {
                held.retain(|held| held.client != client);
            }
            self.model.control(now, client, *token, control, &mut self.effects);
            self.perform(now, None, origin);
        }
        Accepted { taken: controls.len(), blocked: None }
    }

    /// Performs everything that a step has asked for, until nothing is left.
    fn perform(&mut self, now: Time, batch: Option<&Publishes>, origin: Origin) {
        let mut batch = batch;
        self.store.at(now);
        loop {
            while !self.effects.writes.is_empty() {
                std::mem::swap(&mut self.writes, &mut self.effects.writes);
                let stored = self.write(batch.take());
                if let Some(ticket) = stored {
                    let result = if self.store.error().is_none() { Ok(()) } else { Err(Failure::Storage) };
                    self.model.stored(now, ticket, result, &mut self.effects);
                }
            }
            if !self.store.wants_writing_now() || !self.write_inline(now) {
                break;
            }
        }
        self.hand_out(origin);
        // Afterwards: what is handed out once more has nothing left to be stored, and no later step would let it go.
        self.release(origin);
        for (lane, below) in self.trims.drain(..) {
            self.store.trim(lane, below);
        }
        if self.boxes.any_blocked() && self.store.has_room() {
            self.boxes.unblock(origin);
        }
    }

    /// Performs the writes in hand; returns the last ticket among them when it is stored already.
    fn write(&mut self, batch: Option<&Publishes>) -> Option<u64> {
        let mut stored = None;
        for write in self.writes.drain(..) {
            match write {
                Write::Messages { lane, position, index, count } => {
                    let batch = batch.expect("a model appends messages only of the batch that it was handed");
                    self.store.append_run(lane, position, batch, index..index + count);
                }
                Write::Provisional { lane, position, index, count } => {
                    let batch = batch.expect("a model appends messages only of the batch that it was handed");
                    self.store.append_provisional(lane, position, batch, index..index + count);
                }
                Write::DeadLetter { from, at, lane, position, death } => {
                    self.store.append_letter((from, at), lane, position, &death);
                }
                Write::Record(record) => self.store.record(&record),
                Write::Barrier(ticket) => {
                    if self.store.barrier(ticket) {
                        stored = Some(ticket);
                    }
                }
                Write::Compact { lane, from, to, kept } => self.store.compact(lane, from..to, &kept),
                Write::Trim { lane, below } => self.trims.push((lane, below)),
            }
        }
        stored
    }

    /// Writes what has piled up; only without a flush, which would block everybody.
    fn write_inline(&mut self, now: Time) -> bool {
        if self.flusher.is_some() {
            return false;
        }
        let Some(mut job) = self.store.take_job() else { return false };
        job.perform();
        if let Some((ticket, stored)) = self.store.finish(job) {
            let result = if stored { Ok(()) } else { Err(Failure::Storage) };
            self.model.stored(now, ticket, result, &mut self.effects);
        }
        true
    }

    /// Hands out what waited until it was stored. After an error of the storage nothing is: it may come to somebody in another life.
    fn release(&mut self, origin: Origin) {
        let Self { held: Some(held), boxes, store, .. } = self else { return };
        if store.error().is_some() {
            held.clear();
        }
        while held.front().is_some_and(|first| first.frames <= store.stored_frames()) {
            let Some(mut first) = held.pop_front() else { return };
            if let Some(completions) = boxes.fill(first.client, origin) {
                completions.deliveries.append(&mut first.deliveries);
            }
        }
    }

    /// Puts everything that the model has for its clients into their mailboxes.
    fn hand_out(&mut self, origin: Origin) {
        for deliver in &mut self.effects.deliveries {
            deliver.receipt.epoch = deliver.receipt.epoch.wrapping_add(self.epochs);
        }
        let Self { effects, boxes, store, held, .. } = self;
        for (client, outcomes) in effects.outcomes.stretches() {
            if let Some(completions) = boxes.fill(client, origin) {
                completions.outcomes.extend_from_slice(outcomes);
            }
        }
        if let Some(held) = held {
            hold(store, &effects.deliveries, held);
        } else {
            for deliver in &effects.deliveries {
                if let Some(completions) = boxes.fill(deliver.client, origin) {
                    deliver_run(store, deliver, &mut completions.deliveries);
                }
            }
        }
        for (client, token, answer) in effects.answers.drain(..) {
            if let Some(completions) = boxes.fill(client, origin) {
                completions.answers.push((token, answer));
            }
        }
        for (client, event) in &effects.events {
            if let Some(completions) = boxes.fill(*client, origin) {
                completions.events.push(*event);
            }
        }
        effects.clear();
    }
}

/// A copy of the batch's first `len` messages.
pub(crate) fn prefix_of(publishes: &Publishes, len: usize) -> Publishes {
    let mut prefix = if publishes.is_lengths_only() { Publishes::of_lengths() } else { Publishes::new() };
    for message in publishes.iter().take(len) {
        if publishes.is_lengths_only() {
            prefix.push_length(message.token, message.channel, message.key, message.headers, message.payload_len);
        } else {
            prefix.push(message.token, message.channel, message.key, message.headers, message.payload);
        }
    }
    prefix
}

/// Hands out successive messages of a lane. What can't be read back is not delivered: the store keeps the error, and the engine
/// takes nothing more.
fn deliver_run(store: &mut Store, deliver: &Deliver, deliveries: &mut Deliveries) {
    let Deliver { channel, receipt, count, redeliveries, .. } = *deliver;
    let _kept_by_the_store =
        store.read_runs(receipt.lane, receipt.position, count, |position, bytes, table, messages| {
            let receipt = brokerlab_model::Receipt { position, ..receipt };
            deliveries.push_run(receipt, channel, redeliveries, bytes, table, messages);
        });
}

/// Keeps deliveries until the writes before them are stored; their space may be given back meanwhile.
fn hold(store: &mut Store, deliveries: &[Deliver], held: &mut VecDeque<Held>) {
    for run in deliveries.chunk_by(|a, b| a.client == b.client) {
        let mut taken = Deliveries::default();
        for deliver in run {
            deliver_run(store, deliver, &mut taken);
        }
        held.push_back(Held { frames: store.press(), client: run[0].client, deliveries: taken });
    }
}
