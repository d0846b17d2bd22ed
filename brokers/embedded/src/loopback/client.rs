//! A client of a backend in another process: bounded, never blocking, every operation ended exactly once.
//!
//! Operations carry numbers of this client's own on the wire, so that a token comes back only for what was asked and only once. When the
//! connection ends, what was asked ends as unknown, and nothing more can be; a host that wants to go on connects anew. Leaves out what
//! the operations do.

use std::net::SocketAddr;

use brokerlab_model::{
    Accepted, Batch, Blocked, Client, Completions, Control, Event, Failure, Heartbeat, LaneId, Outcome, Publishes,
    Refusal, SeekTo, Settlement, Status, Time, Token, WaitOn,
};

use super::pipe::Pipe;
use super::registration::Registration;
use super::wire::{
    self, Asker, LENGTH, Reply, WireError, put_beat, put_control, put_hello, put_publishes, put_settlements, read_reply,
};

/// Publishes of one client that may be unanswered.
pub(super) const WINDOW: usize = 1_024;
/// Their bytes, with keys and headers; a single message may have more.
pub(super) const WINDOW_BYTES: u64 = 1 << 20;
/// Settlements that may be unanswered.
const SETTLEMENTS: usize = 1 << 16;
/// Of as many things a client says what they were about.
const REASONS: usize = 8;

/// An operation that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    token: Token,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// With its bytes.
    Publish(u32),
    Settle,
    Control,
}

/// Everything that was sent and has not ended, by its number on the wire.
#[derive(Debug, Default)]
struct Open {
    sent: Vec<Option<Sent>>,
    free: Vec<u32>,
    publishes: usize,
    bytes: u64,
    settlements: usize,
}

impl Open {
    fn add(&mut self, sent: Sent) -> u32 {
        match sent.kind {
            Kind::Publish(bytes) => {
                self.publishes += 1;
                self.bytes += u64::from(bytes);
            }
            Kind::Settle => self.settlements += 1,
            Kind::Control => {}
        }
        if let Some(slot) = self.free.pop() {
            self.sent[slot as usize] = Some(sent);
            return slot;
        }
        self.sent.push(Some(sent));
        self.sent.len() as u32 - 1
    }

    /// Ends the operation of that number; none when there is none.
    fn end(&mut self, slot: Token) -> Option<Token> {
        let sent = self.sent.get_mut(usize::try_from(slot.0).ok()?)?.take()?;
        match sent.kind {
            Kind::Publish(bytes) => {
                self.publishes -= 1;
                self.bytes -= u64::from(bytes);
            }
            Kind::Settle => self.settlements -= 1,
            Kind::Control => {}
        }
        self.free.push(slot.0 as u32);
        Some(sent.token)
    }

    /// Whether a message of so many bytes may go out now. One of any size may when nothing else is out.
    fn has_room(&self, bytes: u32) -> bool {
        self.publishes == 0 || (self.publishes < WINDOW && self.bytes + u64::from(bytes) <= WINDOW_BYTES)
    }

    /// Ends everything.
    fn drain(&mut self) -> impl Iterator<Item = Token> {
        let sent = std::mem::take(self).sent;
        sent.into_iter().flatten().map(|sent| sent.token)
    }
}

/// What a client's refusals and its lost connection were about: each once, a few at most.
#[derive(Debug, Default)]
pub(super) struct Reasons(Vec<String>);

impl Reasons {
    pub(super) fn note(&mut self, why: &str) {
        if !why.is_empty() && self.0.len() < REASONS && !self.0.iter().any(|known| known == why) {
            self.0.push(why.to_owned());
        }
    }

    pub(super) fn lost(&mut self, why: &str) {
        self.note(&format!("the connection to the backend's process ended: {why}"));
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.clone()
    }
}

/// Without a connection nothing is published, and everything else ends at once.
pub(super) fn refused_by_nobody(batch: &Batch, ready: &mut Completions) -> Accepted {
    let mut end = |token, status| ready.outcomes.push(Outcome { token, status, lane: LaneId(0), position: 0 });
    let failed = Status::Failed(Failure::Disconnected);
    match batch {
        Batch::Publish(publishes) if publishes.is_empty() => {}
        Batch::Publish(_) => return Accepted { taken: 0, blocked: Some(Blocked::Disconnected) },
        Batch::Settle(settlements) => settlements.iter().for_each(|settlement| end(settlement.token, failed)),
        Batch::Control(controls) => {
            for (token, control) in controls {
                end(*token, if matches!(control, Control::Close) { Status::Done } else { failed });
            }
        }
    }
    Accepted { taken: batch.len(), blocked: None }
}

/// See the module.
#[derive(Debug)]
pub struct LoopbackClient {
    pipe: Pipe,
    registration: Registration,
    /// Its signs of life: a member whose process hangs gives none, and its session ends at the server.
    heartbeat: Heartbeat,
    open: Open,
    /// Why the server's engine does not take what was sent.
    held: Option<Blocked>,
    lost: bool,
    /// The server's time less this host's: never more than it is, and close to it after some frames.
    ahead: Option<i64>,
    /// What the next poll brings, whatever the connection has.
    ready: Completions,
    reasons: Reasons,
    /// The longest frame.
    longest: usize,
    /// The largest message that is sent at all.
    largest: u32,
    slots: Vec<u32>,
}

impl LoopbackClient {
    pub(super) fn connect(
        to: SocketAddr,
        asker: &Asker,
        (url, contract): (&str, &str),
        message_bytes: u32,
        (registration, heartbeat): (Registration, Heartbeat),
    ) -> std::io::Result<Self> {
        let mut pipe = Pipe::connect(to)?;
        put_hello(pipe.out(), asker, url, contract);
        // The server hears of its clients in the order in which they connect.
        pipe.write()?;
        Ok(Self {
            pipe,
            registration,
            heartbeat,
            open: Open::default(),
            held: None,
            lost: false,
            ahead: None,
            ready: Completions::default(),
            reasons: Reasons::default(),
            longest: wire::longest(message_bytes),
            largest: message_bytes.saturating_add(1 << 17),
            slots: Vec::new(),
        })
    }

    fn publish(&mut self, batch: &Publishes) -> Accepted {
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        let mut blocked = self.held;
        let (mut taken, mut from) = (0, 0);
        while blocked.is_none() && taken < batch.len() {
            let message = batch.get(taken);
            let bytes = (message.key.len() + message.headers.len() + message.payload.len()) as u64;
            if bytes > u64::from(self.largest) {
                // No server has room for it; what stands before it goes out before.
                self.send(batch, &mut from, &mut slots);
                from = taken + 1;
                self.end_here(message.token, Status::Refused(Refusal::TooLarge));
            } else if self.open.has_room(bytes as u32) {
                slots.push(self.open.add(Sent { token: message.token, kind: Kind::Publish(bytes as u32) }));
            } else {
                blocked = Some(Blocked::Window);
                break;
            }
            taken += 1;
        }
        self.send(batch, &mut from, &mut slots);
        self.slots = slots;
        Accepted { taken, blocked: blocked.filter(|_| taken < batch.len()) }
    }

    /// Sends the messages from `from` on that have a number.
    fn send(&mut self, batch: &Publishes, from: &mut usize, slots: &mut Vec<u32>) {
        put_publishes(self.pipe.out(), batch, *from, slots);
        *from += slots.len();
        slots.clear();
    }

    fn settle(&mut self, settlements: &[Settlement]) -> Accepted {
        let room = SETTLEMENTS.saturating_sub(self.open.settlements);
        let taken = settlements.len().min(room);
        if taken > 0 {
            let sent =
                settlements[..taken].iter().map(|settlement| Sent { token: settlement.token, kind: Kind::Settle });
            let slots: Vec<u32> = sent.map(|sent| self.open.add(sent)).collect();
            put_settlements(self.pipe.out(), &settlements[..taken], &slots);
        }
        Accepted { taken, blocked: (taken < settlements.len()).then_some(Blocked::Window) }
    }

    fn control(&mut self, controls: &[(Token, Control)]) -> Accepted {
        for (token, control) in controls {
            if let Control::Create(spec) = control
                && !spec.bindings.iter().all(|binding| binding.pattern.is_in_bounds())
            {
                self.end_here(*token, Status::Refused(Refusal::TooLarge));
                continue;
            }
            let slot = self.open.add(Sent { token: *token, kind: Kind::Control });
            if let Control::Seek { lane, to: SeekTo::Time(time) } = control {
                let to = SeekTo::Time(self.there(*time));
                put_control(self.pipe.out(), slot, &Control::Seek { lane: *lane, to });
            } else {
                put_control(self.pipe.out(), slot, control);
            }
        }
        Accepted { taken: controls.len(), blocked: None }
    }

    /// What the server's clock shows at this host's `time`.
    fn there(&self, time: Time) -> Time {
        Time(time.0.saturating_add_signed(self.ahead.unwrap_or(0)))
    }

    fn end_here(&mut self, token: Token, status: Status) {
        self.ready.outcomes.push(Outcome { token, status, lane: LaneId(0), position: 0 });
    }

    fn receive(&mut self, now: Time, completions: &mut Completions) -> Result<(), String> {
        self.pipe.write().map_err(|error| error.to_string())?;
        let read = self.pipe.read();
        // What came before the end of the connection counts.
        while let Some(len) = wire::whole(self.pipe.input(), self.longest).map_err(|error| error.to_string())? {
            let reply = read_reply(&self.pipe.input()[LENGTH..len]);
            self.pipe.take(len);
            reply.and_then(|reply| self.take(now, reply, completions)).map_err(|error| error.to_string())?;
        }
        read.map(drop).map_err(|error| error.to_string())
    }

    fn take(&mut self, now: Time, reply: Reply, completions: &mut Completions) -> Result<(), WireError> {
        match reply {
            Reply::Welcome(Ok(())) => {}
            Reply::Welcome(Err(refused)) => self.reasons.note(&refused.why),
            Reply::Held(held) => self.held = held,
            // The first one told is enough: all speak of one engine.
            Reply::Stopped(why) => drop(self.registration.stopped.set(why)),
            Reply::Completions(there, mut came) => {
                let ahead = there.minus(now);
                self.ahead = Some(self.ahead.map_or(ahead, |known| known.max(ahead)));
                let unasked = WireError::OutOfTurn("the end of an operation that was not asked for");
                for outcome in &mut came.outcomes {
                    outcome.token = self.open.end(outcome.token).ok_or_else(|| unasked.clone())?;
                }
                for (token, _) in &mut came.answers {
                    *token = self.open.end(*token).ok_or_else(|| unasked.clone())?;
                }
                completions.append(&mut came);
            }
            Reply::Counts(_) | Reply::Tallies(_) => return Err(WireError::OutOfTurn("counts that were not asked for")),
        }
        Ok(())
    }

    fn lose(&mut self, why: &str, completions: &mut Completions) {
        self.lost = true;
        self.held = None;
        self.reasons.lost(why);
        let unknown = |token| Outcome { token, status: Status::Unknown, lane: LaneId(0), position: 0 };
        completions.outcomes.extend(self.open.drain().map(unknown));
        completions.events.push(Event::Disconnected);
    }
}

impl Client for LoopbackClient {
    fn submit(&mut self, _now: Time, batch: &mut Batch) -> Accepted {
        let accepted = if self.lost {
            refused_by_nobody(batch, &mut self.ready)
        } else {
            let accepted = match batch {
                Batch::Publish(publishes) => self.publish(publishes),
                Batch::Settle(settlements) => self.settle(settlements),
                Batch::Control(controls) => self.control(controls),
            };
            // An error shows again in the next poll, which the descriptor calls for.
            let _ = self.pipe.write();
            accepted
        };
        batch.advance(accepted.taken);
        accepted
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        completions.append(&mut self.ready);
        if self.lost {
            return;
        }
        if self.heartbeat.beats(now) {
            put_beat(self.pipe.out());
        }
        if let Err(why) = self.receive(now, completions) {
            self.lose(&why, completions);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        if !self.ready.is_empty() {
            return Some(Time::ZERO);
        }
        self.heartbeat.due().filter(|_| !self.lost)
    }

    fn reasons(&self) -> Vec<String> {
        self.reasons.all()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        if self.lost { WaitOn::Nothing } else { self.pipe.wait_on() }
    }
}
