//! Idempotent producers: what a producer publishes again under the same sequence is acknowledged where it is, and not stored again.
//!
//! A producer names itself in its messages' headers and numbers what it publishes to a channel ([`Identity`]). Of each producer and
//! channel the next sequence is known, and where the last ones are, as many as may wait to be stored. What could not be stored or was
//! taken back with a transaction may come again, at the lane's end. Times go by what is written, so that a restart reads the same off
//! the journal. Kafka's rules are KIP-98's; there a sequence is one of a partition, which the client chooses, here it is one of a
//! channel, whose lanes the model chooses. Leaves out who may begin a transaction under which name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::lane::{Lane, NOBODY};
use super::{Channel, Stream};
use crate::batch::{ChannelId, Token};
use crate::completion::Refusal;
use crate::identity::{Identity, NamedMessage};
use crate::journal::{Journal, LaneJournal};
use crate::time::{Span, Time};

/// What is remembered of producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdempotenceRules {
    /// How many sequences back from the next one.
    pub(crate) window: u64,
    /// How long after its last message.
    pub(crate) expiration: Span,
}

/// What a message with an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// It is to be appended.
    New,
    /// It is there.
    Repeat {
        /// In this lane.
        lane: u32,
        /// At this position.
        position: u64,
    },
}

/// Successive sequences at successive positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    sequence: u64,
    count: u64,
    lane: u32,
    position: u64,
    /// Whose open transaction they belong to.
    within: u32,
}

/// What is known of one producer in one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: u32,
    /// The sequence that is due.
    next: u64,
    /// Where those before it are, by sequence.
    runs: VecDeque<Run>,
    /// Those before it that are not there and may come again.
    missing: BTreeSet<u64>,
    /// When one of its messages was appended last.
    wrote: Time,
}

impl Producer {
    fn new(epoch: u32, next: u64) -> Self {
        Self { epoch, next, runs: VecDeque::new(), missing: BTreeSet::new(), wrote: Time::ZERO }
    }

    fn judge(&self, sequence: u64, client: u32, window: u64) -> Result<Novelty, Refusal> {
        if sequence >= self.next {
            return if sequence == self.next { Ok(Novelty::New) } else { Err(Refusal::OutOfSequence) };
        }
        if self.next - sequence > window {
            return Err(Refusal::OutOfSequence);
        }
        if self.missing.contains(&sequence) {
            return Ok(Novelty::New);
        }
        let after = self.runs.partition_point(|run| run.sequence <= sequence);
        let run = after.checked_sub(1).map(|at| self.runs[at]).filter(|run| sequence - run.sequence < run.count);
        match run {
            None => Err(Refusal::OutOfSequence),
            // It may still be taken back.
            Some(run) if run.within != NOBODY && run.within != client => Err(Refusal::Transaction),
            Some(run) => Ok(Novelty::Repeat { lane: run.lane, position: run.position + (sequence - run.sequence) }),
        }
    }

    fn note(&mut self, sequence: u64, lane: u32, position: u64, within: u32, window: u64) {
        let after = self.runs.partition_point(|run| run.sequence <= sequence);
        let goes_on = |run: &&mut Run| {
            run.sequence + run.count == sequence
                && (run.lane, run.within) == (lane, within)
                && run.position + run.count == position
        };
        match after.checked_sub(1).and_then(|at| self.runs.get_mut(at)).filter(goes_on) {
            Some(run) => run.count += 1,
            None => self.runs.insert(after, Run { sequence, count: 1, lane, position, within }),
        }
        self.missing.remove(&sequence);
        if sequence == self.next {
            self.next += 1;
            let floor = self.next.saturating_sub(window);
            while self.runs.front().is_some_and(|run| run.sequence + run.count <= floor) {
                self.runs.pop_front();
            }
            while self.missing.first().is_some_and(|&first| first < floor) {
                self.missing.pop_first();
            }
        }
    }

    /// Those of its messages that `is_lost` tells are not there; they may come again.
    fn lose(&mut self, is_lost: impl Fn(&Run, u64) -> bool) {
        let runs = std::mem::take(&mut self.runs);
        for run in runs {
            for ahead in 0..run.count {
                let sequence = run.sequence + ahead;
                if is_lost(&run, run.position + ahead) {
                    self.missing.insert(sequence);
                    continue;
                }
                match self.runs.back_mut() {
                    Some(last) if ahead > 0 && last.sequence + last.count == sequence => last.count += 1,
                    Some(_) | None => {
                        let position = run.position + ahead;
                        self.runs.push_back(Run { sequence, count: 1, position, ..run });
                    }
                }
            }
        }
    }
}

/// What is known of all producers, by channel and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Producers {
    known: BTreeMap<u32, BTreeMap<Box<[u8]>, Producer>>,
    /// Not later than the time at which one is forgotten.
    next_forgotten: Option<Time>,
}

impl Producers {
    fn all(&mut self) -> impl Iterator<Item = &mut Producer> {
        self.known.values_mut().flat_map(BTreeMap::values_mut)
    }

    /// Forgets those of which nothing was heard for long.
    fn forget(&mut self, now: Time, expiration: Span) {
        if self.next_forgotten.is_none_or(|next| next > now) {
            return;
        }
        for producers in self.known.values_mut() {
            producers.retain(|_, producer| producer.wrote + expiration > now);
        }
        self.known.retain(|_, producers| !producers.is_empty());
        self.next_forgotten = self.all().map(|producer| producer.wrote + expiration).min();
    }

    fn get(&self, channel: u32, name: &[u8]) -> Option<&Producer> {
        self.known.get(&channel)?.get(name)
    }

    /// A channel is gone.
    pub(super) fn lose_channel(&mut self, channel: u32) {
        self.known.remove(&channel);
    }

    /// Positions of a channel's lane could not be stored.
    pub(super) fn failed(&mut self, channel: u32, lane: u32, positions: &std::ops::Range<u64>) {
        let Some(producers) = self.known.get_mut(&channel) else { return };
        for producer in producers.values_mut() {
            producer.lose(|run, position| run.lane == lane && positions.contains(&position));
        }
    }

    /// What `client` published in its transaction was taken back.
    pub(super) fn taken_back(&mut self, client: u32) {
        for producer in self.all().filter(|producer| producer.runs.iter().any(|run| run.within == client)) {
            producer.lose(|run, _| run.within == client);
        }
    }

    /// What `client` published in its transaction counts.
    pub(super) fn committed(&mut self, client: u32) {
        for run in self.all().flat_map(|producer| &mut producer.runs).filter(|run| run.within == client) {
            run.within = NOBODY;
        }
    }
}

impl Stream {
    /// Whether a message of `client` with this identity is to be appended, or where it is, or why it is refused.
    pub(crate) fn novelty(
        &mut self,
        now: Time,
        client: u32,
        channel: ChannelId,
        identity: Identity<'_>,
    ) -> Result<Novelty, Refusal> {
        let Some(rules) = self.config.idempotence else { return Ok(Novelty::New) };
        self.producers.forget(now, rules.expiration);
        let Identity { producer, epoch, sequence } = identity;
        match self.producers.get(channel.0, producer) {
            // All that it published may be gone.
            None => Ok(Novelty::New),
            Some(known) if epoch < known.epoch => Err(Refusal::Fenced),
            Some(known) if epoch > known.epoch => {
                if sequence == 0 {
                    Ok(Novelty::New)
                } else {
                    Err(Refusal::OutOfSequence)
                }
            }
            Some(known) => known.judge(sequence, client, rules.window),
        }
    }

    /// A message with this identity is about to be appended to `lane`.
    pub(crate) fn note_identity(&mut self, now: Time, channel: ChannelId, identity: Identity<'_>, lane: u32) {
        let Some(rules) = self.config.idempotence else { return };
        let position = self.lanes[lane as usize].end;
        let within = self.enlisting.unwrap_or(NOBODY);
        let Identity { producer, epoch, sequence } = identity;
        let producers = self.producers.known.entry(channel.0).or_default();
        if producers.get(producer).is_none_or(|known| known.epoch < epoch) {
            producers.insert(producer.into(), Producer::new(epoch, sequence));
        }
        let Some(known) = producers.get_mut(producer) else { return };
        known.note(sequence, lane, position, within, rules.window);
        known.wrote = now;
        let forgotten = now + rules.expiration;
        self.producers.next_forgotten = Some(self.producers.next_forgotten.map_or(forgotten, |at| at.min(forgotten)));
    }

    /// The message of the batch in hand with this token is at `position` of `lane`: it is answered when that one is.
    pub(crate) fn repeat(
        &mut self,
        client: u32,
        lane: u32,
        position: u64,
        token: Token,
        out: &mut crate::machine::Effects,
    ) {
        if position < self.lanes[lane as usize].stable {
            let done =
                super::placed(client, token, crate::completion::Status::Done, crate::batch::LaneId(lane), position);
            return out.outcomes.push(done);
        }
        self.pending.repeat(lane, position, token);
        self.open_call += 1;
    }

    /// Takes over what a journal says of producers. A message of which there are two, since the first could not be stored and is there all
    /// the same, is the later one.
    pub(super) fn restore_producers(&mut self, now: Time, journal: &Journal) {
        let Some(rules) = self.config.idempotence else { return };
        for (name, messages) in journal.named() {
            let mut by_channel: BTreeMap<u32, Vec<NamedMessage>> = BTreeMap::new();
            for message in messages {
                let Some(lane) = self.lanes.get(message.lane as usize) else { continue };
                let holds =
                    |lane: &LaneJournal| message.position >= lane.first() && !lane.is_provisional(message.position);
                let held = journal.lane(message.lane).is_some_and(holds);
                if held && self.channel(ChannelId(lane.channel)).is_some() {
                    by_channel.entry(lane.channel).or_default().push(message);
                }
            }
            for (channel, messages) in by_channel {
                let Channel { first, lanes, .. } = self.channels[channel as usize];
                let whole = (first..first + lanes).all(|lane| journal.lane(lane).is_none_or(LaneJournal::is_whole));
                let known = restored(messages, rules.window, whole, &mut self.lanes);
                let Some(known) = known.filter(|known| known.wrote + rules.expiration > now) else { continue };
                let forgotten = known.wrote + rules.expiration;
                let next = &mut self.producers.next_forgotten;
                *next = Some(next.map_or(forgotten, |at| at.min(forgotten)));
                self.producers.known.entry(channel).or_default().insert(name.into(), known);
            }
        }
    }
}

/// What a producer's messages in one channel say. What is not among them was never stored, where the channel is whole; else nobody knows.
fn restored(mut messages: Vec<NamedMessage>, window: u64, whole: bool, lanes: &mut [Lane]) -> Option<Producer> {
    messages.sort_unstable();
    let newest = *messages.last()?;
    let wrote = messages.iter().filter(|message| message.epoch == newest.epoch).map(|message| message.written).max()?;
    let floor = (newest.sequence + 1).saturating_sub(window);
    messages.retain(|message| message.epoch == newest.epoch && message.sequence >= floor);
    let first = if whole { floor } else { messages.first()?.sequence };
    let mut known = Producer { wrote, ..Producer::new(newest.epoch, first) };
    let mut messages = messages.into_iter().peekable();
    while let Some(message) = messages.next() {
        let NamedMessage { sequence, lane, position, .. } = message;
        if messages.peek().is_some_and(|next| next.sequence == sequence) {
            lanes[lane as usize].leave_out(position, position + 1);
            continue;
        }
        if whole {
            known.missing.extend(known.next..sequence);
        }
        known.next = sequence;
        known.note(sequence, lane, position, NOBODY, window);
    }
    Some(known)
}
