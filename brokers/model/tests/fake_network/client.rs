//! A client across a socket: everything that a client of a real broker has to do for the trait, and no more.
//!
//! It never blocks: what does not go into the socket waits in a bounded buffer, what the buffer does not hold is not taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use brokerlab_model::{
    Accepted, Answer, Batch, Blocked, Client, ClientSpec, Completions, Control, Event, Failure, LaneId, Outcome,
    Refusal, Role, Slice, Span, Status, Time, Token, WaitOn,
};
use bytes::BytesMut;

use crate::replies::{Reply, get_reply};
use crate::requests::{put_control, put_hello, put_publish, put_settle};
use crate::server::{Door, MAX_MESSAGE};
use crate::wire::next_frame;

/// The most that waits to be written; a single operation may be larger.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a lost connection is left alone before the next try.
pub(crate) const BACKOFF: Span = Span::from_millis(10);

/// An operation that was taken and has not ended.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Where its last byte stands in the connection's stream.
    end: u64,
    /// Whether it is a close, which a lost connection completes.
    close: bool,
}

#[derive(Debug)]
enum Line {
    Up(UnixStream),
    Down {
        retry: Time,
    },
    /// Closed by the host; nothing is dialled again.
    Over,
}

#[derive(Debug)]
pub(crate) struct NetClient {
    spec: ClientSpec,
    door: Door,
    line: Line,
    write: VecDeque<u8>,
    /// Bytes of this connection that the socket took.
    written: u64,
    read: BytesMut,
    in_flight: BTreeMap<Token, Sent>,
    /// When each operation with a deadline is given up, oldest first; those that have ended are skipped.
    deadlines: VecDeque<(Time, Token)>,
    timeout: Span,
    lanes: BTreeSet<LaneId>,
    /// The lane that each open release is about.
    releases: BTreeMap<Token, LaneId>,
    /// What the client answers by itself, until the next poll.
    ready: Completions,
    welcomed: bool,
    lost: bool,
    closing: bool,
}

impl NetClient {
    pub(crate) fn new(now: Time, spec: ClientSpec, door: Door, timeout: Span) -> Self {
        let mut client = Self {
            spec,
            door,
            line: Line::Down { retry: now },
            write: VecDeque::new(),
            written: 0,
            read: BytesMut::new(),
            in_flight: BTreeMap::new(),
            deadlines: VecDeque::new(),
            timeout,
            lanes: BTreeSet::new(),
            releases: BTreeMap::new(),
            ready: Completions::default(),
            welcomed: false,
            lost: false,
            closing: false,
        };
        client.dial(now);
        client
    }

    fn dial(&mut self, now: Time) {
        let Some(stream) = self.door.dial() else {
            self.line = Line::Down { retry: now + BACKOFF };
            return;
        };
        self.line = Line::Up(stream);
        let mut hello = Vec::new();
        match &self.spec.role {
            Role::Producer => put_hello(&mut hello, 0, "", &[]),
            Role::Member { group, channels } => put_hello(&mut hello, 1, group, channels),
            Role::Administrator => put_hello(&mut hello, 2, "", &[]),
        }
        self.write.extend(hello);
        self.flush(now);
    }

    /// Hands the socket what it takes.
    fn flush(&mut self, now: Time) {
        while let Line::Up(stream) = &mut self.line {
            let (front, _) = self.write.as_slices();
            if front.is_empty() {
                return;
            }
            match stream.write(front) {
                Ok(count) => {
                    self.write.drain(..count);
                    self.written += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.disconnected(now),
            }
        }
    }

    /// Ends what was in flight: unknown where the last byte was written, failed where it was not.
    fn disconnected(&mut self, now: Time) {
        for (token, sent) in std::mem::take(&mut self.in_flight) {
            let status = match sent {
                Sent { close: true, .. } => Status::Done,
                Sent { end, .. } if end <= self.written => Status::Unknown,
                Sent { .. } => Status::Failed(Failure::Disconnected),
            };
            self.end(token, status);
        }
        for lane in std::mem::take(&mut self.lanes) {
            self.ready.events.push(Event::LaneLost(lane));
        }
        self.deadlines.clear();
        self.releases.clear();
        self.write.clear();
        self.read.clear();
        self.written = 0;
        if self.closing {
            self.line = Line::Over;
            return;
        }
        if self.welcomed {
            self.ready.events.push(Event::Disconnected);
            self.lost = true;
        }
        self.welcomed = false;
        self.line = Line::Down { retry: now + BACKOFF };
    }

    fn end(&mut self, token: Token, status: Status) {
        self.ready.outcomes.push(Outcome { token, status, lane: LaneId(0), position: 0 });
    }

    /// Why this operation needs no server to be refused.
    fn refusal(&self, batch: &Batch) -> Option<Refusal> {
        if self.closing {
            return Some(Refusal::Closed);
        }
        let allowed = match (batch, &self.spec.role) {
            (Batch::Publish(publishes), Role::Producer) if publishes.is_lengths_only() => {
                return Some(Refusal::Unsupported);
            }
            (Batch::Publish(publishes), Role::Producer) => {
                let message = publishes.get(0);
                let size = message.key.len() + message.headers.len() + message.payload.len();
                return (size > MAX_MESSAGE).then_some(Refusal::TooLarge);
            }
            (Batch::Settle(_), role) => matches!(role, Role::Member { .. }),
            (Batch::Publish(_), _) => false,
            (Batch::Control(controls), role) => match &controls[0].1 {
                // Its wire has no words for who gets what.
                Control::Create(spec) if !spec.bindings.is_empty() || spec.dead_letters_of.is_some() => {
                    return Some(Refusal::Unsupported);
                }
                Control::Close => true,
                Control::Flush => *role == Role::Producer,
                Control::Transaction(_) if *role == Role::Producer => return Some(Refusal::Unsupported),
                Control::Transaction(_) => false,
                Control::Create(_) | Control::Delete(_) | Control::Describe(_) => *role == Role::Administrator,
                Control::Split { .. } | Control::Merge { .. } => return Some(Refusal::Unsupported),
                Control::Grant(_) | Control::Seek { .. } | Control::Position(_) | Control::Release(_) => {
                    matches!(role, Role::Member { .. })
                }
            },
        };
        (!allowed).then_some(Refusal::WrongRole)
    }

    /// Takes the batch's first operation.
    fn take(&mut self, now: Time, batch: &mut Batch) -> Result<(), Blocked> {
        let token = first_token(batch);
        if let Some(refusal) = self.refusal(batch) {
            self.end(token, Status::Refused(refusal));
            batch.advance(1);
            return Ok(());
        }
        let close = matches!(batch, Batch::Control(controls) if controls[0].1 == Control::Close);
        if !matches!(self.line, Line::Up(_)) {
            if !close {
                return Err(Blocked::Disconnected);
            }
            self.closing = true;
            self.line = Line::Over;
            self.end(token, Status::Done);
            batch.advance(1);
            return Ok(());
        }
        let mut frame = Vec::new();
        let mut patient = false;
        match batch {
            Batch::Publish(publishes) => put_publish(&mut frame, &publishes.get(0)),
            Batch::Settle(settlements) => put_settle(&mut frame, &settlements[0]),
            Batch::Control(controls) => {
                let control = &controls[0].1;
                if let Control::Release(lane) = control {
                    self.releases.insert(token, *lane);
                }
                patient = matches!(control, Control::Grant(_) | Control::Flush | Control::Close);
                put_control(&mut frame, token, control);
            }
        }
        if !self.write.is_empty() && self.write.len() + frame.len() > SEND_BUFFER {
            return Err(Blocked::Window);
        }
        self.write.extend(frame);
        self.in_flight.insert(token, Sent { end: self.written + self.write.len() as u64, close });
        if !patient {
            self.deadlines.push_back((now + self.timeout, token));
        }
        self.closing |= close;
        batch.advance(1);
        Ok(())
    }

    /// Reads what is there and what it means.
    fn receive(&mut self, now: Time) {
        let mut buffer = [0; 16 * 1024];
        while let Line::Up(stream) = &mut self.line {
            match stream.read(&mut buffer) {
                Ok(0) => self.disconnected(now),
                Ok(count) => {
                    self.read.extend_from_slice(&buffer[..count]);
                    while let Some(frame) = next_frame(&mut self.read) {
                        self.reply(get_reply(frame));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.disconnected(now),
            }
        }
    }

    fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Welcome => {
                self.welcomed = true;
                if std::mem::take(&mut self.lost) {
                    self.ready.events.push(Event::Reconnected);
                }
            }
            Reply::Outcome(outcome) => {
                // An answer after the deadline is an answer to nobody.
                let released = self.releases.remove(&outcome.token);
                let Some(sent) = self.in_flight.remove(&outcome.token) else { return };
                if let Some(lane) = released.filter(|_| outcome.status == Status::Done) {
                    self.lanes.remove(&lane);
                }
                if sent.close {
                    self.line = Line::Over;
                    self.lanes.clear();
                }
                self.ready.outcomes.push(outcome);
            }
            Reply::Delivery { receipt, channel, redeliveries, key_len, header_len, bytes } => {
                let payload_len = bytes.len() as u32 - u32::from(key_len) - u32::from(header_len);
                let slice = Slice { at: 0, key_len, header_len, payload_len, has_payload: true };
                self.ready.deliveries.push(receipt, channel, redeliveries, &bytes, slice);
            }
            Reply::Position(token, lane, position) => self.answer(token, Answer::Position { lane, position }),
            Reply::Description(token, description) => self.answer(token, Answer::Description(description)),
            Reply::Event(event) => {
                if let Event::LaneAssigned { lane, .. } = event {
                    self.lanes.insert(lane);
                }
                self.ready.events.push(event);
            }
        }
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        if self.in_flight.remove(&token).is_some() {
            self.ready.answers.push((token, answer));
        }
    }

    /// Gives up what was not answered in time.
    fn expire(&mut self, now: Time) {
        while let Some(&(due, token)) = self.deadlines.front() {
            match self.in_flight.get(&token) {
                Some(_) if due > now => break,
                Some(_) => {
                    // Even what is still in the buffer goes out later, so that the stream stays whole: it may yet happen.
                    self.in_flight.remove(&token);
                    self.end(token, Status::Unknown);
                }
                None => (),
            }
            self.deadlines.pop_front();
        }
    }
}

fn first_token(batch: &Batch) -> Token {
    match batch {
        Batch::Publish(publishes) => publishes.get(0).token,
        Batch::Settle(settlements) => settlements[0].token,
        Batch::Control(controls) => controls[0].0,
    }
}

impl Client for NetClient {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let before = batch.len();
        let mut blocked = None;
        while !batch.is_empty() && blocked.is_none() {
            blocked = self.take(now, batch).err();
            if blocked == Some(Blocked::Window) {
                self.flush(now);
                // The socket may have made room, or the line may have gone.
                blocked = self.take(now, batch).err();
            }
        }
        self.flush(now);
        Accepted { taken: before - batch.len(), blocked }
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        if matches!(self.line, Line::Down { retry } if retry <= now) {
            self.dial(now);
        }
        self.receive(now);
        self.flush(now);
        self.expire(now);
        completions.append(&mut self.ready);
    }

    fn next_deadline(&self) -> Option<Time> {
        if !self.ready.is_empty() {
            return Some(Time::ZERO);
        }
        let retry = match self.line {
            Line::Down { retry } => Some(retry),
            Line::Up(_) | Line::Over => None,
        };
        let expiry = self.deadlines.front().map(|(due, _)| *due);
        retry.into_iter().chain(expiry).min()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        match &self.line {
            Line::Up(stream) if self.write.is_empty() => WaitOn::Read(stream.as_fd()),
            Line::Up(stream) => WaitOn::ReadWrite(stream.as_fd()),
            Line::Down { .. } | Line::Over => WaitOn::Nothing,
        }
    }
}
