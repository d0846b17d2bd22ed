//! Which message is to suffer which fault: counted over all clients of a backend.
//!
//! Leaves out carrying it out, which is each client's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brokerlab_model::{ChannelId, Delivered, Message, Publishes, Receipt, Span, Time};

use super::Faults;
use crate::store::crc32c;

/// How long a fault waits for what it needs before it is given up: far below any lease.
const PATIENCE: Span = Span::from_millis(500);

/// A message's bytes, kept apart from any arena.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) receipt: Receipt,
    pub(super) channel: ChannelId,
    pub(super) redeliveries: u16,
    pub(super) key: Vec<u8>,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Kept {
    pub(super) fn delivery(&self) -> Delivered<'_> {
        Delivered {
            receipt: self.receipt,
            channel: self.channel,
            redeliveries: self.redeliveries,
            key: &self.key,
            headers: &self.headers,
            payload_len: self.payload.len() as u32,
            payload: &self.payload,
        }
    }

    pub(super) fn of(delivery: &Delivered<'_>) -> Self {
        Self {
            receipt: delivery.receipt,
            channel: delivery.channel,
            redeliveries: delivery.redeliveries,
            key: delivery.key.to_vec(),
            headers: delivery.headers.to_vec(),
            payload: delivery.payload.to_vec(),
        }
    }
}

/// By which a published message is known again when it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print(u64);

impl Print {
    fn new(key: &[u8], payload: &[u8]) -> Self {
        Self(u64::from(crc32c(key)) << 32 | u64::from(crc32c(payload)))
    }

    fn of(message: &Message<'_>) -> Self {
        Self::new(message.key, message.payload)
    }
}

/// Two messages of one client and key that are to change places.
#[derive(Debug)]
struct Pair {
    client: u32,
    key: Vec<u8>,
    first: Print,
    second: Option<Print>,
    /// The group in which it happens: the first that is delivered the first message.
    group: Option<String>,
    /// The second message was delivered in that group.
    passed: bool,
    until: Time,
}

/// A message that is delivered before it is taken.
#[derive(Debug)]
struct Early {
    client: u32,
    message: Kept,
    /// The group to which it was delivered.
    delivered: Option<String>,
    until: Time,
}

/// What is to happen to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Pass,
    /// It is dropped.
    Drop,
    /// It was delivered before; this one is kept back.
    KeepBack,
    /// It comes twice.
    Twice,
    /// A byte is flipped.
    Corrupt,
    /// It waits until another has passed.
    Hold,
}

/// Counters and what is under way.
#[derive(Debug)]
pub(super) struct Plan {
    faults: Faults,
    delivered: u64,
    published: u64,
    pair: Option<Pair>,
    early: Option<Early>,
    early_done: u64,
    /// Deliveries that are kept back because they came early, by group.
    doomed: Vec<(String, Print)>,
    /// Whether a message waits to be delivered early; read without the lock.
    pub(super) waits: Arc<AtomicBool>,
}

/// What a publish batch means for the plan, found before it is taken.
#[derive(Debug, Default)]
pub(super) struct Look {
    first: Option<(usize, Vec<u8>, Print)>,
    second: Option<(usize, Print)>,
    /// The front message came early to this group; what is taken now is to be kept back from it.
    came_early: Option<(String, Print)>,
}

fn due(every: Option<u64>, count: u64) -> bool {
    every.is_some_and(|every| count.is_multiple_of(every))
}

impl Plan {
    pub(super) fn new(faults: &Faults) -> Self {
        Self {
            faults: faults.clone(),
            delivered: 0,
            published: 0,
            pair: None,
            early: None,
            early_done: 0,
            doomed: Vec::new(),
            waits: Arc::default(),
        }
    }

    /// Whether any of the next `count` deliveries may suffer something.
    pub(super) fn concerns(&self, count: usize) -> bool {
        let faults = [self.faults.drop, self.faults.duplicate, self.faults.corrupt];
        let (from, to) = (self.delivered, self.delivered + count as u64);
        self.pair.is_some()
            || !self.doomed.is_empty()
            || faults.iter().flatten().any(|every| from / every != to / every)
    }

    /// `count` deliveries pass that nothing concerns.
    pub(super) fn pass(&mut self, count: usize) {
        self.delivered += count as u64;
    }

    /// What is to happen to the next delivery, in `group`.
    pub(super) fn judge(&mut self, now: Time, group: &str, delivery: &Delivered<'_>) -> Fate {
        self.delivered += 1;
        if let Some(pair) = &mut self.pair {
            let print = Print::new(delivery.key, delivery.payload);
            if pair.group.is_none() && print == pair.first {
                pair.group = Some(group.to_owned());
                pair.until = now + PATIENCE;
                return Fate::Hold;
            }
            pair.passed |= pair.group.as_deref() == Some(group) && pair.second == Some(print);
        }
        if !self.doomed.is_empty() {
            let print = Print::new(delivery.key, delivery.payload);
            if let Some(at) = self.doomed.iter().position(|(of, doomed)| of == group && *doomed == print) {
                self.doomed.swap_remove(at);
                return Fate::KeepBack;
            }
        }
        if due(self.faults.drop, self.delivered) {
            Fate::Drop
        } else if due(self.faults.corrupt, self.delivered) && !delivery.payload.is_empty() {
            Fate::Corrupt
        } else if due(self.faults.duplicate, self.delivered) {
            Fate::Twice
        } else {
            Fate::Pass
        }
    }

    /// Whether the delivery that is held may go out: the other one passed, or it has waited too long.
    pub(super) fn releases(&mut self, now: Time) -> bool {
        let released = self.pair.as_ref().is_none_or(|pair| pair.passed || now >= pair.until);
        if released {
            self.pair = None;
        }
        released
    }

    /// Looks for messages that are to change places, before the batch is taken.
    pub(super) fn look(&mut self, now: Time, client: u32, batch: &Publishes) -> Look {
        let mut look = Look::default();
        if let Some(Early { client: of, delivered: Some(group), .. }) = &self.early
            && *of == client
            && !batch.is_empty()
        {
            look.came_early = Some((group.clone(), Print::of(&batch.get(0))));
        }
        let Some(every) = self.faults.reorder else { return look };
        if self.pair.as_ref().is_some_and(|pair| pair.group.is_none() && now >= pair.until) {
            self.pair = None;
        }
        let key = match &self.pair {
            Some(pair) if pair.client == client && pair.second.is_none() => pair.key.clone(),
            Some(_) => return look,
            None => {
                let at = (every - 1 - self.published % every) as usize;
                if at >= batch.len() {
                    return look;
                }
                let message = batch.get(at);
                look.first = Some((at, message.key.to_vec(), Print::of(&message)));
                message.key.to_vec()
            }
        };
        let from = look.first.as_ref().map_or(0, |(at, ..)| at + 1);
        let second = (from..batch.len()).find(|&at| batch.get(at).key == key);
        look.second = second.map(|at| (at, Print::of(&batch.get(at))));
        look
    }

    /// The first `taken` messages of the batch were taken.
    pub(super) fn taken(&mut self, now: Time, client: u32, look: Look, taken: usize) {
        self.published += taken as u64;
        if taken > 0 && look.came_early.is_some() {
            self.doomed.extend(look.came_early);
            self.early = None;
        }
        let second = look.second.filter(|(at, _)| *at < taken).map(|(_, print)| print);
        match look.first {
            Some((at, key, first)) if at < taken => {
                let (group, passed, until) = (None, false, now + PATIENCE);
                self.pair = Some(Pair { client, key, first, second, group, passed, until });
            }
            Some(_) => {}
            None => {
                if let Some(pair) = self.pair.as_mut().filter(|pair| pair.client == client && pair.second.is_none()) {
                    pair.second = second;
                }
            }
        }
    }

    /// At which message of the batch the prefix has to end, for that message to be delivered early; nothing when none is due.
    pub(super) fn early_at(&self, batch: &Publishes) -> Option<usize> {
        let every = self.faults.early?;
        if self.early.is_some() || self.early_done > self.published / every {
            return None;
        }
        let at = (every - 1 - self.published % every) as usize;
        (at < batch.len()).then_some(at)
    }

    /// The prefix ended before the message at the front of the batch: it is to be delivered early.
    pub(super) fn begin_early(&mut self, now: Time, client: u32, batch: &Publishes) {
        let Some(every) = self.faults.early else { return };
        if batch.is_empty() {
            return;
        }
        let message = batch.get(0);
        self.early_done = self.published / every + 1;
        // No model counts that high: the settlement is known again by it.
        let receipt = Receipt { position: u64::MAX, epoch: EARLY, ..Receipt::default() };
        let message = Kept {
            receipt,
            channel: message.channel,
            redeliveries: 0,
            key: message.key.to_vec(),
            headers: message.headers.to_vec(),
            payload: message.payload.to_vec(),
        };
        self.early = Some(Early { client, message, delivered: None, until: now + PATIENCE });
        self.waits.store(true, Ordering::Release);
    }

    /// Whether this client's front message waits to be delivered early, so that it may not be taken yet. When nobody comes for
    /// it, it is taken after all.
    pub(super) fn withholds(&mut self, now: Time, client: u32) -> bool {
        let Some(early) = self.early.as_ref().filter(|early| early.client == client) else { return false };
        if early.delivered.is_none() && now >= early.until {
            self.early = None;
            self.waits.store(false, Ordering::Release);
            return false;
        }
        early.delivered.is_none()
    }

    /// A message to be delivered early to a member of `group` that reads these channels.
    pub(super) fn take_early(&mut self, group: &str, channels: &[ChannelId]) -> Option<Kept> {
        let early = self.early.as_mut()?;
        if early.delivered.is_some() || !channels.contains(&early.message.channel) {
            return None;
        }
        early.delivered = Some(group.to_owned());
        self.waits.store(false, Ordering::Release);
        Some(early.message.clone())
    }
}

/// The epoch of a receipt for a message that came early; its settlement goes to nobody.
pub(super) const EARLY: u32 = u32::MAX;
