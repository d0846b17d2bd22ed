//! A caller of `direct` in another process: it speaks HTTP/1.1, as callers of a service do; bounded, never blocking, every request ended
//! exactly once.
//!
//! Requests are pipelined on one connection up to the window, and answered in order, so that none needs a number. When the connection
//! ends, what was asked ends as unknown, as with every client of this transport. Leaves out the bytes, which are `wire::http`'s.

use std::collections::VecDeque;
use std::net::SocketAddr;

use brokerlab_model::{
    Accepted, Batch, Blocked, Client, Completions, Control, Event, LaneId, Message, Outcome, Publishes, Refusal, Span,
    Status, Time, Token, WaitOn,
};

use super::client::{Reasons, WINDOW, WINDOW_BYTES, refused_by_nobody};
use super::pipe::Pipe;
use super::registration::Number;
use super::wire::http::{Answer, Meant, PART_BYTES, Post, Target, put_post, read_answer};

/// A request that was sent: whose, and how many bytes its message has, if it has one. Nobody's is the first one, which opens.
#[derive(Clone, Copy, Debug)]
struct Asked {
    token: Option<Token>,
    bytes: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Caller {
    pipe: Pipe,
    /// Everything that was sent and has not ended, in order.
    asked: VecDeque<Asked>,
    publishes: usize,
    bytes: u64,
    /// Why the service does not take what was sent.
    held: Option<Blocked>,
    lost: bool,
    /// What the next poll brings, whatever the connection has.
    ready: Completions,
    reasons: Reasons,
    /// The largest message that is sent at all.
    largest: u64,
    /// How long a request waits for the service to take it.
    timeout: Option<Span>,
    /// Its number, as long as it lives.
    _number: Number,
}

impl Caller {
    /// A caller who means that backend under that contract.
    pub(super) fn connect(
        to: SocketAddr,
        meant: Meant<'_>,
        message_bytes: u32,
        timeout: Option<Span>,
        number: Number,
    ) -> std::io::Result<Self> {
        let mut pipe = Pipe::connect(to)?;
        put_post(pipe.out(), &Post::bare(Target::Open(meant)));
        // The service hears of its callers in the order in which they connect.
        pipe.write()?;
        Ok(Self {
            pipe,
            asked: [Asked { token: None, bytes: None }].into(),
            publishes: 0,
            bytes: 0,
            held: None,
            lost: false,
            ready: Completions::default(),
            reasons: Reasons::default(),
            largest: longest_body(message_bytes) as u64,
            timeout,
            _number: number,
        })
    }

    fn publish(&mut self, batch: &Publishes) -> Accepted {
        let mut taken = 0;
        let mut blocked = self.held;
        while blocked.is_none() && taken < batch.len() {
            let message = batch.get(taken);
            let bytes = (message.key.len() + message.headers.len() + message.payload.len()) as u64;
            if batch.is_lengths_only() {
                // A request has its body with it.
                self.end_here(message.token, Status::Refused(Refusal::Unsupported));
            } else if bytes > self.largest {
                self.end_here(message.token, Status::Refused(Refusal::TooLarge));
            } else if self.publishes == 0 || (self.publishes < WINDOW && self.bytes + bytes <= WINDOW_BYTES) {
                let Message { channel, key, headers, payload, token, .. } = message;
                let post =
                    Post { key, headers, payload, timeout: self.timeout, ..Post::bare(Target::Channel(channel)) };
                put_post(self.pipe.out(), &post);
                self.asked.push_back(Asked { token: Some(token), bytes: Some(bytes) });
                self.publishes += 1;
                self.bytes += bytes;
            } else {
                blocked = Some(Blocked::Window);
                break;
            }
            taken += 1;
        }
        Accepted { taken, blocked: blocked.filter(|_| taken < batch.len()) }
    }

    fn control(&mut self, controls: &[(Token, Control)]) {
        for (token, control) in controls {
            let target = match control {
                Control::Flush => Target::Flush,
                Control::Close => Target::Close,
                Control::Seek { .. }
                | Control::Position(_)
                | Control::Release(_)
                | Control::Transaction(_)
                | Control::Split { .. }
                | Control::Merge { .. } => {
                    self.end_here(*token, Status::Refused(Refusal::Unsupported));
                    continue;
                }
                Control::Grant(_) | Control::Create(_) | Control::Delete(_) | Control::Describe(_) => {
                    self.end_here(*token, Status::Refused(Refusal::WrongRole));
                    continue;
                }
            };
            put_post(self.pipe.out(), &Post::bare(target));
            self.asked.push_back(Asked { token: Some(*token), bytes: None });
        }
    }

    fn end_here(&mut self, token: Token, status: Status) {
        self.ready.outcomes.push(Outcome { token, status, lane: LaneId(0), position: 0 });
    }

    fn receive(&mut self, completions: &mut Completions) -> Result<(), String> {
        self.pipe.write().map_err(|error| error.to_string())?;
        let read = self.pipe.read();
        // What came before the end of the connection counts.
        while let Some((answer, len)) = read_answer(self.pipe.input()).map_err(|error| error.to_string())? {
            match answer {
                Answer::Held(held) => hold(&mut self.held, held, completions),
                Answer::Ended { status, lane, position, held, why } => {
                    let asked = self.asked.pop_front().ok_or("an answer to what was not asked")?;
                    self.reasons.note(why);
                    hold(&mut self.held, held, completions);
                    if let Some(bytes) = asked.bytes {
                        self.publishes -= 1;
                        self.bytes -= bytes;
                    }
                    let outcome = asked.token.map(|token| Outcome { token, status, lane, position });
                    completions.outcomes.extend(outcome);
                }
                Answer::Broken(code, why) => return Err(format!("the service answered {code}: {why}")),
            }
            self.pipe.take(len);
        }
        read.map(drop).map_err(|error| error.to_string())
    }

    fn lose(&mut self, why: &str, completions: &mut Completions) {
        self.lost = true;
        self.held = None;
        self.reasons.lost(why);
        let unknown = |token| Outcome { token, status: Status::Unknown, lane: LaneId(0), position: 0 };
        completions.outcomes.extend(self.asked.drain(..).filter_map(|asked| asked.token).map(unknown));
        completions.events.push(Event::Disconnected);
    }
}

/// The longest body of a request where a message may have `message_bytes`; the engine refuses what is larger than it takes.
pub(super) fn longest_body(message_bytes: u32) -> usize {
    message_bytes as usize + 2 * (PART_BYTES + 1)
}

/// Notes why the service does not take what was sent. Whether receivers have room is an event, as the engine has it.
fn hold(known: &mut Option<Blocked>, held: Option<Blocked>, completions: &mut Completions) {
    let before = std::mem::replace(known, held);
    let by_receivers = |held: Option<Blocked>| held == Some(Blocked::Receivers);
    match (by_receivers(before), by_receivers(held)) {
        (false, true) => completions.events.push(Event::Blocked),
        (true, false) => completions.events.push(Event::Unblocked),
        (true, true) | (false, false) => {}
    }
}

impl Client for Caller {
    fn submit(&mut self, _now: Time, batch: &mut Batch) -> Accepted {
        let accepted = if self.lost {
            refused_by_nobody(batch, &mut self.ready)
        } else {
            let accepted = match batch {
                Batch::Publish(publishes) => self.publish(publishes),
                Batch::Settle(settlements) => {
                    for settlement in settlements.iter() {
                        self.end_here(settlement.token, Status::Refused(Refusal::WrongRole));
                    }
                    Accepted { taken: settlements.len(), blocked: None }
                }
                Batch::Control(controls) => {
                    self.control(controls);
                    Accepted { taken: controls.len(), blocked: None }
                }
            };
            // An error shows again in the next poll, which the descriptor calls for.
            let _ = self.pipe.write();
            accepted
        };
        batch.advance(accepted.taken);
        accepted
    }

    fn poll(&mut self, _now: Time, completions: &mut Completions) {
        completions.append(&mut self.ready);
        if self.lost {
            return;
        }
        if let Err(why) = self.receive(completions) {
            self.lose(&why, completions);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        (!self.ready.is_empty()).then_some(Time::ZERO)
    }

    fn reasons(&self) -> Vec<String> {
        self.reasons.all()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        if self.lost { WaitOn::Nothing } else { self.pipe.wait_on() }
    }
}
