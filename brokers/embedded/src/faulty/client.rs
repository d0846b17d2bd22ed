//! A client of a faulty backend: it carries out on its own deliveries and publishes what the plan says.
//!
//! Leaves out counting, which is the [`Plan`]'s.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use brokerlab_model::{
    Accepted, Batch, Blocked, ChannelId, Client, Completions, Control, Delivered, LaneId, Outcome, Receipt, Settlement,
    Slice, Span, Status, Time, Token, Verdict, WaitOn,
};
use bytes::Bytes;

use super::plan::{EARLY, Fate, Kept, Plan};
use crate::engine::prefix_of;

/// Tokens from here on are this wrapper's own; no host counts that far.
const OWN_TOKENS: u64 = u64::MAX - (1 << 40);
/// How often a client looks again while something is withheld.
const LOOK_AGAIN: Span = Span::from_millis(1);

#[derive(Debug)]
pub(super) struct FaultyClient {
    inner: Box<dyn Client>,
    number: u32,
    /// A member's group and channels.
    reads: Option<(String, Vec<ChannelId>)>,
    plan: Arc<Mutex<Plan>>,
    waits: Arc<AtomicBool>,
    scratch: Completions,
    held: Option<Kept>,
    /// Outcomes of settlements that went to nobody.
    settled: Vec<Outcome>,
    own_tokens: u64,
    look_again: Option<Time>,
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().expect("no thread panics while it holds the plan")
}

impl FaultyClient {
    pub(super) fn new(
        inner: Box<dyn Client>,
        number: u32,
        reads: Option<(String, Vec<ChannelId>)>,
        plan: Arc<Mutex<Plan>>,
    ) -> Self {
        let waits = Arc::clone(&lock(&plan).waits);
        Self {
            inner,
            number,
            reads,
            plan,
            waits,
            scratch: Completions::default(),
            held: None,
            settled: Vec::new(),
            own_tokens: OWN_TOKENS,
            look_again: None,
        }
    }

    fn own_token(&mut self) -> Token {
        self.own_tokens += 1;
        Token(self.own_tokens)
    }

    fn publish(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let plan = Arc::clone(&self.plan);
        // Held over the inner submit: what it delivers on another thread is judged after this.
        let mut plan = lock(&plan);
        let Batch::Publish(publishes) = &*batch else { return self.inner.submit(now, batch) };
        if plan.withholds(now, self.number) {
            self.look_again = Some(now + LOOK_AGAIN);
            return Accepted { taken: 0, blocked: Some(Blocked::RateLimit) };
        }
        self.look_again = None;
        let look = plan.look(now, self.number, publishes);
        let Some(at) = plan.early_at(publishes) else {
            let accepted = self.inner.submit(now, batch);
            plan.taken(now, self.number, look, accepted.taken);
            return accepted;
        };
        let mut prefix = Batch::Publish(prefix_of(publishes, at));
        let accepted = self.inner.submit(now, &mut prefix);
        plan.taken(now, self.number, look, accepted.taken);
        batch.advance(accepted.taken);
        if accepted.taken < at {
            return accepted;
        }
        if let Batch::Publish(rest) = &*batch {
            plan.begin_early(now, self.number, rest);
        }
        self.look_again = Some(now + LOOK_AGAIN);
        Accepted { taken: accepted.taken, blocked: Some(Blocked::RateLimit) }
    }

    /// Settlements of what came early are answered here; the rest goes on.
    fn settle(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let Batch::Settle(settlements) = batch else { return self.inner.submit(now, batch) };
        if settlements.iter().all(|s| s.receipt.epoch != EARLY) {
            return self.inner.submit(now, batch);
        }
        let (early, others): (Vec<_>, Vec<_>) = settlements.drain(..).partition(|s| s.receipt.epoch == EARLY);
        let taken = early.len();
        self.settled.extend(early.iter().map(|s| Outcome {
            token: s.token,
            status: Status::Done,
            lane: LaneId(0),
            position: 0,
        }));
        *settlements = others;
        let accepted = self.inner.submit(now, batch);
        Accepted { taken: accepted.taken + taken, ..accepted }
    }

    /// Deliveries on which nothing acts go on as they are; otherwise all of this poll are copied.
    fn deliver(&mut self, now: Time, completions: &mut Completions) {
        let Some((group, channels)) = &self.reads else { return };
        let shared = Arc::clone(&self.plan);
        let mut plan = lock(&shared);
        let early = if self.waits.load(Ordering::Acquire) { plan.take_early(group, channels) } else { None };
        let count = self.scratch.deliveries.len();
        if early.is_none() && self.held.is_none() && !plan.concerns(count) {
            plan.pass(count);
            completions.deliveries.append(&mut self.scratch.deliveries);
            return;
        }
        let mut copies = Copies::default();
        let mut dropped: Vec<(Receipt, bool)> = Vec::new();
        for delivery in &self.scratch.deliveries {
            match plan.judge(now, group, &delivery) {
                Fate::Pass => copies.add(&delivery),
                Fate::Drop => dropped.push((delivery.receipt, true)),
                Fate::KeepBack => dropped.push((delivery.receipt, false)),
                Fate::Twice => {
                    copies.add(&delivery);
                    copies.add(&delivery);
                }
                Fate::Corrupt => copies.add_corrupted(&delivery),
                Fate::Hold => self.held = Some(Kept::of(&delivery)),
            }
        }
        if self.held.is_some() && plan.releases(now) {
            copies.add(&self.held.take().expect("looked at just now").delivery());
        }
        if let Some(early) = &early {
            copies.add(&early.delivery());
        }
        self.look_again = self.held.as_ref().map(|_| now + LOOK_AGAIN);
        drop(plan);
        self.scratch.deliveries.clear();
        copies.move_to(completions);
        self.settle_dropped(now, &dropped);
    }

    /// Acknowledges what the member will never see, and asks for another one in its place where that is owed.
    fn settle_dropped(&mut self, now: Time, dropped: &[(Receipt, bool)]) {
        if dropped.is_empty() {
            return;
        }
        let acks =
            dropped.iter().map(|&(receipt, _)| Settlement { token: self.own_token(), receipt, verdict: Verdict::Ack });
        let acks: Vec<_> = acks.collect();
        let _ = self.inner.submit(now, &mut Batch::Settle(acks));
        let owed = dropped.iter().filter(|(_, owed)| *owed).count() as u32;
        if owed > 0 {
            let token = self.own_token();
            let _ = self.inner.submit(now, &mut Batch::Control(vec![(token, Control::Grant(owed))]));
        }
    }
}

impl Client for FaultyClient {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        match batch {
            Batch::Publish(_) => self.publish(now, batch),
            Batch::Settle(_) => self.settle(now, batch),
            Batch::Control(_) => self.inner.submit(now, batch),
        }
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        self.inner.poll(now, &mut self.scratch);
        self.scratch.outcomes.retain(|outcome| outcome.token.0 <= OWN_TOKENS);
        completions.outcomes.append(&mut self.scratch.outcomes);
        completions.outcomes.append(&mut self.settled);
        completions.answers.append(&mut self.scratch.answers);
        completions.events.append(&mut self.scratch.events);
        self.deliver(now, completions);
    }

    fn next_deadline(&self) -> Option<Time> {
        let comes_early = self.reads.is_some() && self.waits.load(Ordering::Acquire);
        let own = if comes_early || !self.settled.is_empty() { Some(Time::ZERO) } else { self.look_again };
        [self.inner.next_deadline(), own].into_iter().flatten().min()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        self.inner.wait_on()
    }
}

/// Deliveries that are written anew, into an arena of their own.
#[derive(Debug, Default)]
struct Copies {
    arena: Vec<u8>,
    rows: Vec<(Receipt, ChannelId, u16, Slice)>,
}

impl Copies {
    fn add(&mut self, delivery: &Delivered<'_>) {
        let slice = Slice {
            at: u32::try_from(self.arena.len()).expect("a poll returns less than 4 GiB"),
            key_len: delivery.key.len() as u16,
            header_len: delivery.headers.len() as u16,
            payload_len: delivery.payload_len,
            has_payload: delivery.payload.len() == delivery.payload_len as usize,
        };
        self.arena.extend_from_slice(delivery.key);
        self.arena.extend_from_slice(delivery.headers);
        self.arena.extend_from_slice(delivery.payload);
        self.rows.push((delivery.receipt, delivery.channel, delivery.redeliveries, slice));
    }

    fn add_corrupted(&mut self, delivery: &Delivered<'_>) {
        self.add(delivery);
        let middle = self.arena.len() - delivery.payload.len().div_ceil(2);
        self.arena[middle] ^= 0x20;
    }

    fn move_to(self, completions: &mut Completions) {
        let arena = Bytes::from(self.arena);
        for (receipt, channel, redeliveries, slice) in self.rows {
            completions.deliveries.push(receipt, channel, redeliveries, &arena, slice);
        }
    }
}
