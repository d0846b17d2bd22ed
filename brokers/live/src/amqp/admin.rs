//! The administrator's work: channels made, removed and described, one operation after the other, its frames all at once.
//!
//! Leaves out the socket. What a failed creation has made already is removed again.

use std::collections::VecDeque;

use brokerlab_model::{
    Answer, ChannelId, ChannelSpec, Completions, Description, Failure, LaneId, LaneState, Outcome, Refusal, Settings,
    Status, Time, Token,
};

use super::contract::Kept;
use super::method;
use super::settings::{Argument, Options};
use super::topology::{Channel, Registry};
use super::wire::PATIENCE;

/// What an administrator needs to know of its run.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) prefix: String,
    pub(super) existing: bool,
    pub(super) options: Options,
    pub(super) kept: Kept,
    pub(super) settings: Settings,
}

impl Rules {
    /// The arguments of every queue.
    pub(super) fn arguments(&self) -> Vec<(String, Argument)> {
        let mut arguments = vec![("x-queue-type".to_owned(), Argument::Text(self.options.queue.name().to_owned()))];
        if self.kept.single_active() {
            arguments.push(("x-single-active-consumer".to_owned(), Argument::Flag(true)));
        }
        arguments.extend(self.options.arguments.iter().cloned());
        arguments
    }

    /// What a channel of this specification is on the server.
    pub(super) fn channel(&self, spec: &ChannelSpec) -> Channel {
        if self.existing {
            Channel::existing(spec, self.options.mandatory)
        } else {
            Channel::planned(&self.prefix, spec, self.options.mandatory)
        }
    }
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    Create(ChannelSpec),
    Delete(ChannelId),
    Describe(ChannelId),
}

/// An operation whose frames are on their way.
#[derive(Debug)]
struct Running {
    /// None for removing what a failed creation left.
    token: Option<Token>,
    kind: Kind,
    answers_due: usize,
    answers: usize,
    deadline: Time,
}

#[derive(Debug)]
enum Kind {
    Create(Channel),
    Delete { id: ChannelId, first: LaneId },
    Describe { channel: Channel, ready: Vec<u32>, consumers: u64 },
    CleanUp,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Administrator {
    pub(super) rules: Rules,
    waiting: VecDeque<(Token, Asked)>,
    running: Option<Running>,
    /// Whether the server closed the channel and it is being opened again.
    reopening: bool,
    /// Made by a creation that failed.
    left_over: Option<Channel>,
}

impl Administrator {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, waiting: VecDeque::new(), running: None, reopening: false, left_over: None }
    }

    pub(super) fn ask(&mut self, token: Token, asked: Asked) {
        self.waiting.push_back((token, asked));
    }

    /// Whether everything asked has ended.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none() && self.left_over.is_none()
    }

    /// Sends the next operation when there is room for one; refuses what needs no server.
    pub(super) fn next(&mut self, now: Time, registry: &Registry, frames: &mut Vec<u8>, out: &mut Completions) {
        while self.running.is_none() && !self.reopening {
            if let Some(channel) = self.left_over.take() {
                let answers_due = delete(&channel, frames);
                let deadline = now + PATIENCE;
                self.running = Some(Running { token: None, kind: Kind::CleanUp, answers_due, answers: 0, deadline });
                continue;
            }
            let Some((token, asked)) = self.waiting.pop_front() else { return };
            match self.begin(&asked, registry, frames) {
                Ok((kind, answers_due)) => {
                    let running =
                        Running { token: Some(token), kind, answers_due, answers: 0, deadline: now + PATIENCE };
                    self.running = Some(running);
                    self.finish_if_answered(registry, out);
                }
                Err(refusal) => end(token, Status::Refused(refusal), out),
            }
        }
    }

    fn begin(&self, asked: &Asked, registry: &Registry, frames: &mut Vec<u8>) -> Result<(Kind, usize), Refusal> {
        let topology = registry.topology();
        match asked {
            Asked::Create(spec) => {
                let channel = self.rules.channel(spec);
                if topology.has(&spec.name) {
                    return Err(Refusal::Exists);
                }
                if spec.lanes == 0 {
                    return Err(Refusal::OutOfRange);
                }
                if self.rules.kept.total() && channel.groups.len() > 1 {
                    return Err(Refusal::Unsupported);
                }
                if channel.longest_name() > 255 {
                    return Err(Refusal::TooLarge);
                }
                let answers = if self.rules.existing { look(&channel, frames) } else { self.create(&channel, frames) };
                Ok((Kind::Create(channel), answers))
            }
            Asked::Delete(id) => {
                let channel = registry.remove(*id).ok_or(Refusal::NoSuchLane)?;
                let answers = if self.rules.existing { 0 } else { delete(&channel, frames) };
                Ok((Kind::Delete { id: *id, first: LaneId(channel.first_lane) }, answers))
            }
            Asked::Describe(id) => {
                let channel = topology.get(*id).ok_or(Refusal::NoSuchLane)?.clone();
                for queue in &channel.queues {
                    method::queue_passive(frames, queue);
                }
                let answers = channel.queues.len();
                Ok((Kind::Describe { channel, ready: Vec::new(), consumers: 0 }, answers))
            }
        }
    }

    fn create(&self, channel: &Channel, frames: &mut Vec<u8>) -> usize {
        let arguments = self.rules.arguments();
        method::exchange_declare(frames, &channel.exchange, false);
        for queue in &channel.queues {
            method::queue_declare(frames, queue, &arguments);
        }
        let groups = channel.groups.len().max(1);
        for (at, queue) in channel.queues.iter().enumerate() {
            method::queue_bind(frames, queue, &channel.exchange, &Channel::routing_key((at / groups) as u32));
        }
        1 + 2 * channel.queues.len()
    }

    /// An answer without content.
    pub(super) fn answered(&mut self, registry: &Registry, out: &mut Completions) {
        if let Some(running) = &mut self.running {
            running.answers += 1;
        }
        self.finish_if_answered(registry, out);
    }

    /// A queue's depth.
    pub(super) fn depth(&mut self, messages: u32, of: u32, registry: &Registry, out: &mut Completions) {
        if let Some(Running { kind: Kind::Describe { ready, consumers, .. }, .. }) = &mut self.running {
            ready.push(messages);
            *consumers += u64::from(of);
        }
        self.answered(registry, out);
    }

    fn finish_if_answered(&mut self, registry: &Registry, out: &mut Completions) {
        let Some(running) = self.running.take_if(|running| running.answers >= running.answers_due) else { return };
        let Some(token) = running.token else { return };
        match running.kind {
            Kind::Create(channel) => {
                let (id, lane) = registry.add(channel);
                out.outcomes.push(Outcome { token, status: Status::Done, lane, position: id.0.into() });
            }
            Kind::Delete { id, first } => {
                out.outcomes.push(Outcome { token, status: Status::Done, lane: first, position: id.0.into() });
            }
            Kind::Describe { channel, ready, consumers } => {
                let description = self.description(&channel, &ready, consumers);
                out.answers.push((token, Answer::Description(description)));
            }
            Kind::CleanUp => (),
        }
    }

    fn description(&self, channel: &Channel, ready: &[u32], consumers: u64) -> Description {
        let groups = channel.groups.len().max(1);
        let state = |(at, ready): (usize, &u32)| LaneState {
            lane: LaneId(channel.first_lane + (at / groups) as u32),
            group: (at % groups) as u32,
            ready: (*ready).into(),
            ..LaneState::default()
        };
        let lanes = ready.iter().enumerate().map(state).collect();
        let mut settings: Vec<(String, String)> =
            self.rules.settings.0.iter().map(|setting| (setting.name.clone(), setting.value.clone())).collect();
        settings.push(("exchange".to_owned(), channel.exchange.clone()));
        settings.push(("consumers".to_owned(), consumers.to_string()));
        Description { lanes, settings }
    }

    /// The server closed the channel: the running operation has failed. The channel is opened again.
    pub(super) fn refused(&mut self, code: u16, frames: &mut Vec<u8>, out: &mut Completions) {
        method::channel_close_ok(frames);
        method::channel_open(frames);
        self.reopening = true;
        let Some(Running { token, kind, answers, .. }) = self.running.take() else { return };
        if let Kind::Create(mut channel) = kind
            && !self.rules.existing
            && answers > 0
        {
            // The answers come in the order of the frames: the exchange, then the queues.
            channel.queues.truncate(answers - 1);
            self.left_over = Some(channel);
        }
        let status = match code {
            403 => Status::Refused(Refusal::WrongRole),
            404 => Status::Refused(Refusal::NoSuchLane),
            405 | 406 => Status::Refused(Refusal::Exists),
            _ => Status::Failed(Failure::Storage),
        };
        if let Some(token) = token {
            end(token, status, out);
        }
    }

    pub(super) fn reopened(&mut self) {
        self.reopening = false;
    }

    /// Ends everything with its connection: unknown what was sent, failed what was not.
    pub(super) fn disconnected(&mut self, out: &mut Completions) {
        if let Some(token) = self.running.take().and_then(|running| running.token) {
            end(token, Status::Unknown, out);
        }
        for (token, _) in self.waiting.drain(..) {
            end(token, Status::Failed(Failure::Disconnected), out);
        }
        (self.reopening, self.left_over) = (false, None);
    }

    /// When the running operation is given up.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.running.as_ref().map(|running| running.deadline)
    }
}

/// Asks whether a channel is there.
fn look(channel: &Channel, frames: &mut Vec<u8>) -> usize {
    if !channel.exchange.is_empty() {
        method::exchange_declare(frames, &channel.exchange, true);
    }
    for queue in &channel.queues {
        method::queue_passive(frames, queue);
    }
    channel.queues.len() + usize::from(!channel.exchange.is_empty())
}

/// Removes a channel's queues and exchange; returns how many answers that brings.
pub(super) fn delete(channel: &Channel, frames: &mut Vec<u8>) -> usize {
    for queue in &channel.queues {
        method::queue_delete(frames, queue);
    }
    method::exchange_delete(frames, &channel.exchange);
    channel.queues.len() + 1
}

fn end(token: Token, status: Status, out: &mut Completions) {
    out.outcomes.push(Outcome { token, status, lane: LaneId(0), position: 0 });
}
