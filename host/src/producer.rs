//! One producer connection: its producers' positions in the schedule, the one batch that it has built, and what it has in
//! flight.
//!
//! Never more than one batch is built, whatever the backlog: that is a position in the schedule. Leaves out when a connection is
//! served, which the loop decides.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use brokerlab_model::{
    Batch, Blocked, ChannelId, Client, Completions, Control, Event, Outcome, Publishes, Span, Status, Time, Token,
};
use brokerlab_workloads::check::MessageId;
use brokerlab_workloads::record::{Delay, Moments, Unacknowledged};
use brokerlab_workloads::{Fold, Producer, Scheduled, Stamp, Workload, body_crc, key_hash};

use crate::books::{Books, Uninvited};
use crate::shared::locked;
use crate::slots::{Slots, control_token};
use crate::spec::{BATCH_MAX, RunError};

/// Most publishes of one connection in flight, where the backend sets no limit of its own.
const IN_FLIGHT_MAX: usize = 1 << 16;
/// Throttled messages that wait to be offered again; from here on nothing new is offered.
const RETRIES_MAX: usize = 4 * BATCH_MAX;
/// The first wait before a throttled message is offered again; doubles from time to time it is throttled.
const RETRY_FIRST: Span = Span::from_millis(1);
/// How often the wait doubles: up to 128 ms.
const RETRY_DOUBLES: u32 = 7;

/// A producer of this connection.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) position: Producer,
    /// Messages handed to the backend.
    pub(crate) published: u64,
    /// The fold over the first of them.
    pub(crate) fold: Fold,
    /// How many messages the fold covers at most.
    pub(crate) fold_limit: u64,
}

/// A message between being built and being ended.
#[derive(Clone, Copy, Debug)]
struct Sent {
    producer: u32,
    sequence: u64,
    intended: Time,
    actual: Time,
    /// The generator's part of the delay; fixed when the backend first takes the message.
    late: Span,
    /// How often it was throttled.
    throttled: u32,
}

/// What the stamp of a built message needs, beside the batch.
#[derive(Clone, Copy, Debug)]
struct Built {
    token: Token,
    /// Which of the connection's producers.
    local: u32,
    message: Scheduled,
    /// It was not taken and throttled before.
    first_attempt: bool,
    key_hash: u64,
    body_crc: u32,
}

/// A throttled message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Retry {
    at: Time,
    local: u32,
    sequence: u64,
    intended: Time,
    late: Span,
    throttled: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Box<dyn Client>,
    /// Its place in the loop.
    index: usize,
    pub(crate) producers: Vec<Owned>,
    /// Producers by their next intended start, from the schedule's start.
    due: BinaryHeap<Reverse<(Time, u32)>>,
    batch: Batch,
    built: VecDeque<Built>,
    in_flight: Slots<Sent>,
    retries: BinaryHeap<Reverse<Retry>>,
    key: Vec<u8>,
    /// Why the backend did not take everything; none when nothing waits.
    pub(crate) blocked: Option<Blocked>,
    /// Whether it waits in the loop's list of those that were held back.
    pub(crate) stalled: bool,
    /// Something came back since the backend last refused.
    pub(crate) stirred: bool,
    /// For when the loop is woken for it; [`Time::NEVER`] when it is not.
    pub(crate) armed: Time,
    /// Whether the first question was answered.
    pub(crate) connected: bool,
    controls: Vec<(Token, Control)>,
}

/// What serving a connection brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// Messages that the backend took.
    pub(crate) taken: usize,
    /// Whether some are left that it did not take.
    pub(crate) held_back: bool,
}

impl Connection {
    pub(crate) fn new(client: Box<dyn Client>, index: usize, producers: Vec<Owned>) -> Self {
        let first = |(local, owned): (usize, &Owned)| Some(Reverse((sendable(&owned.position)?, local as u32)));
        Self {
            due: producers.iter().enumerate().filter_map(first).collect(),
            client,
            index,
            producers,
            batch: Batch::Publish(Publishes::new()),
            built: VecDeque::with_capacity(BATCH_MAX),
            in_flight: Slots::new(),
            retries: BinaryHeap::new(),
            key: Vec::new(),
            blocked: None,
            stalled: false,
            stirred: false,
            armed: Time::NEVER,
            connected: false,
            // A flush of nothing completes as soon as there is a connection.
            controls: vec![(control_token(0), Control::Flush)],
        }
    }

    /// Submits what the connection has to ask beside its messages.
    pub(crate) fn ask(&mut self, now: Time) -> bool {
        if self.controls.is_empty() {
            return false;
        }
        let mut batch = Batch::Control(std::mem::take(&mut self.controls));
        let taken = self.client.submit(now, &mut batch).taken;
        if let Batch::Control(rest) = batch {
            self.controls = rest;
        }
        taken > 0
    }

    /// When it wants to be served next; none when nothing is due any more.
    pub(crate) fn next(&self, start: Time) -> Option<Time> {
        let due = self.due.peek().map(|Reverse((at, _))| start + Span(at.0));
        let retry = self.retries.peek().map(|Reverse(retry)| retry.at);
        match (due, retry) {
            (Some(due), Some(retry)) => Some(due.min(retry)),
            (due, retry) => due.or(retry),
        }
    }

    /// Messages that are built, in flight, waiting to be offered again, or due by `end` (from the schedule's start) and not built.
    pub(crate) fn open(&self, end: Time) -> u64 {
        let due = self.due.peek().is_some_and(|Reverse((at, _))| *at < end);
        (self.in_flight.len() + self.retries.len()) as u64 + u64::from(due)
    }

    /// Builds what is due, up to one batch, and offers it.
    pub(crate) fn serve(&mut self, books: &mut Books<'_>, workload: &Workload) -> Served {
        let until = Time(books.mark.since(books.start).0);
        let limited = self.fill(books, workload, until);
        if self.built.is_empty() {
            if limited {
                locked(&books.shared.blame[books.index]).held[self.index].begin(books.mark);
            }
            return Served { taken: 0, held_back: limited };
        }
        self.offer(books, workload)
    }

    /// Fills the batch; returns whether a limit of ours kept messages back that are due.
    fn fill(&mut self, books: &mut Books<'_>, workload: &Workload, until: Time) -> bool {
        while self.built.len() < BATCH_MAX {
            if let Some(&Reverse(retry)) = self.retries.peek()
                && retry.at <= books.mark
            {
                self.retries.pop();
                self.build_again(retry, books, workload);
                continue;
            }
            let Some(&Reverse((at, local))) = self.due.peek() else { break };
            if at > until {
                break;
            }
            if self.in_flight.len() >= IN_FLIGHT_MAX || self.retries.len() >= RETRIES_MAX {
                return true;
            }
            let Some(message) = self.producers[local as usize].position.next() else { break };
            self.rearm(local);
            let intended = books.start + Span(message.intended.0);
            books.due(intended, &message);
            let producer = self.producers[local as usize].position.number();
            let sent = Sent {
                producer,
                sequence: message.sequence,
                intended,
                actual: Time::ZERO,
                late: Span::ZERO,
                throttled: 0,
            };
            self.build(local, message, sent, workload);
        }
        false
    }

    /// The producer at the top of the heap has moved on.
    fn rearm(&mut self, local: u32) {
        let next = sendable(&self.producers[local as usize].position);
        if let Some(mut top) = self.due.peek_mut() {
            match next {
                Some(at) => *top = Reverse((at, local)),
                None => {
                    std::collections::binary_heap::PeekMut::pop(top);
                }
            }
        }
    }

    fn build_again(&mut self, retry: Retry, books: &Books<'_>, workload: &Workload) {
        let producer = self.producers[retry.local as usize].position.number();
        let contents = workload.contents(producer, retry.sequence);
        let message = Scheduled {
            intended: Time(retry.intended.since(books.start).0),
            sequence: retry.sequence,
            key: contents.key,
            channel: contents.channel,
            size: contents.size,
        };
        let sent = Sent {
            producer,
            sequence: retry.sequence,
            intended: retry.intended,
            actual: Time::ZERO,
            late: retry.late,
            throttled: retry.throttled,
        };
        self.build(retry.local, message, sent, workload);
    }

    fn build(&mut self, local: u32, message: Scheduled, sent: Sent, workload: &Workload) {
        let first_attempt = sent.throttled == 0;
        let token = self.in_flight.insert(sent);
        self.key.clear();
        workload.write_key(message.key, &mut self.key);
        let Batch::Publish(publishes) = &mut self.batch else { return };
        let position = &self.producers[local as usize].position;
        let headers = workload.headers(message.sequence);
        publishes.push_with(token, ChannelId(message.channel), &self.key, headers, |arena| {
            position.write_payload(message.sequence, message.size, arena);
        });
        let last = publishes.len() - 1;
        let body_crc = body_crc(publishes.payload_mut(last));
        self.built.push_back(Built { token, local, message, first_attempt, key_hash: key_hash(&self.key), body_crc });
    }

    /// Stamps the batch with the time read now, and submits it.
    fn offer(&mut self, books: &mut Books<'_>, workload: &Workload) -> Served {
        let actual = books.own_until_now();
        self.stamp(books, actual);
        self.announce(books);
        let accepted = self.client.submit(actual, &mut self.batch);
        let after = books.backend_until_now();
        let mut blame = locked(&books.shared.blame[books.index]);
        let blame = &mut *blame;
        for _ in 0..accepted.taken {
            let Some(built) = self.built.pop_front() else { break };
            let Some(sent) = self.in_flight.get_mut(built.token) else { continue };
            sent.actual = actual;
            if sent.throttled > 0 {
                continue;
            }
            sent.late = blame.backend.delay(&blame.held[self.index], sent.intended, actual).late;
            books.recorder.sent(sent.intended);
            let owned = &mut self.producers[built.local as usize];
            owned.published += 1;
            if built.message.sequence < owned.fold_limit {
                let headers = workload.headers(built.message.sequence);
                owned.fold.update(&built.message, headers, built.key_hash, built.body_crc);
            }
        }
        let held_back = !self.built.is_empty();
        if held_back {
            self.withdraw(books);
            blame.held[self.index].begin(after);
            self.blocked = Some(accepted.blocked.unwrap_or(Blocked::Window));
            self.stirred = false;
        } else {
            blame.held[self.index].end(actual, &blame.backend);
            self.blocked = None;
        }
        Served { taken: accepted.taken, held_back }
    }

    /// Messages that are offered for the first time may arrive from now on, even before submit returns.
    fn announce(&self, books: &Books<'_>) {
        for built in self.built.iter().filter(|built| built.first_attempt) {
            let producer = self.producers[built.local as usize].position.number();
            books.shared.offered_below(producer, built.message.sequence + 1);
        }
    }

    /// Those of them that were not taken may not arrive.
    fn withdraw(&self, books: &Books<'_>) {
        for built in self.built.iter().rev().filter(|built| built.first_attempt) {
            let producer = self.producers[built.local as usize].position.number();
            books.shared.offered_below(producer, built.message.sequence);
        }
    }

    fn stamp(&mut self, books: &Books<'_>, actual: Time) {
        let run = books.shared.spec.run;
        let Batch::Publish(publishes) = &mut self.batch else { return };
        for (at, built) in self.built.iter().enumerate() {
            let stamp = Stamp {
                run,
                producer: self.producers[built.local as usize].position.number(),
                sequence: built.message.sequence,
                intended: books.start + Span(built.message.intended.0),
                actual,
            };
            stamp.write(publishes.payload_mut(at), built.body_crc, built.key_hash);
        }
    }

    /// Takes in what a poll returned at `completed`.
    pub(crate) fn take(
        &mut self,
        completions: &Completions,
        completed: Time,
        books: &mut Books<'_>,
    ) -> Result<(), RunError> {
        self.stirred = true;
        for &outcome in &completions.outcomes {
            if crate::slots::control_number(outcome.token).is_some() {
                self.connected = true;
                continue;
            }
            self.ended(outcome, completed, books)?;
        }
        for event in &completions.events {
            match event {
                Event::Blocked => books.note(Uninvited::Blocked),
                Event::Disconnected => books.connection(completed, false),
                Event::Reconnected => books.connection(completed, true),
                // Lanes are the members'.
                Event::Unblocked | Event::LaneAssigned { .. } | Event::LaneRevoked(_) | Event::LaneLost(_) => (),
            }
        }
        Ok(())
    }

    fn ended(&mut self, outcome: Outcome, completed: Time, books: &mut Books<'_>) -> Result<(), RunError> {
        let sent = self
            .in_flight
            .remove(outcome.token)
            .ok_or_else(|| RunError::Protocol(format!("publish {:?} ended, and is not in flight", outcome.token)))?;
        match outcome.status {
            Status::Done => {
                let id = MessageId { producer: sent.producer, sequence: sent.sequence };
                let delay = sent.actual.since(sent.intended).0;
                let late = sent.late.0.min(delay);
                let delay = Delay { blocked: Span(delay - late), late: Span(late) };
                books.published(id, Moments { intended: sent.intended, actual: sent.actual, completed }, delay);
            }
            Status::Throttled => {
                self.retry(sent, completed, books);
                return Ok(());
            }
            Status::Refused(_) => books.not_acknowledged(sent.intended, completed, Unacknowledged::Refused),
            Status::Failed(_) => books.not_acknowledged(sent.intended, completed, Unacknowledged::Failed),
            Status::Unknown => books.not_acknowledged(sent.intended, completed, Unacknowledged::Unknown),
        }
        self.completed(sent.producer, completed, books);
        Ok(())
    }

    fn retry(&mut self, sent: Sent, completed: Time, books: &mut Books<'_>) {
        books.recorder.throttled(sent.intended);
        let wait = Span(RETRY_FIRST.0 << sent.throttled.min(RETRY_DOUBLES));
        if let Some(local) = self.local(sent.producer) {
            self.retries.push(Reverse(Retry {
                at: completed + wait,
                local,
                sequence: sent.sequence,
                intended: sent.intended,
                late: sent.late,
                throttled: sent.throttled + 1,
            }));
        }
    }

    /// In a closed loop the completion makes the producer's next message due.
    fn completed(&mut self, producer: u32, completed: Time, books: &Books<'_>) {
        let Some(local) = self.local(producer) else { return };
        let position = &mut self.producers[local as usize].position;
        if position.peek() != Some(Time::NEVER) {
            return;
        }
        position.completed(Time(completed.since(books.start).0));
        if let Some(at) = sendable(position) {
            self.due.push(Reverse((at, local)));
        }
    }

    fn local(&self, producer: u32) -> Option<u32> {
        // A connection's producers rise by number.
        self.producers.binary_search_by_key(&producer, |owned| owned.position.number()).ok().map(|at| at as u32)
    }
}

/// When the producer's next message is due; none when there is none or a completion is awaited.
fn sendable(position: &Producer) -> Option<Time> {
    position.peek().filter(|&due| due != Time::NEVER)
}
