//! The administrator: topics made, removed and described, one operation after another, each in as many questions as it takes.
//!
//! An operation that loses its connection asks again until the request timeout. Leaves out everything in bulk.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use brokerlab_model::{
    Accepted, Answer, Batch, ChannelId, ChannelSpec, Client, Completions, Control, Description, Failure, Outcome,
    Refusal, Span, Status, Time, Token, WaitOn,
};
use bytes::Bytes;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, FindCoordinatorRequest, MetadataRequest,
};

use super::base::{Base, NOBODY};
use super::describe::described;
use super::error;
use super::existing::Found;
use super::kind::Kind;
use super::links::{Came, LinkId, Purpose};
use super::producer::ended;
use super::questions::{EARLIEST, LATEST, committed, configs, create, delete, metadata, offsets};
use super::reasons::Reasons;
use super::shared::{Channel, Shared};
use super::wire::{self, Malformed};
use crate::open::Trouble;

/// How soon a topic is looked at again that is being made or removed.
pub(super) const LOOK_AGAIN: Span = Span::from_millis(20);

/// One question of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Create,
    /// How many partitions and replicas a topic has that is there already, and how it is set.
    Found,
    Settings,
    /// Until the topic is there with all its leaders.
    Made,
    Delete,
    /// Until the topic is there no more.
    Removed,
    Configs,
    Leaders,
    Offsets {
        node: i32,
        time: i64,
    },
    Coordinators,
    Committed {
        node: i32,
        group: usize,
    },
}

impl Question {
    /// The node that it is for; none when any will do.
    fn node(&self) -> Option<i32> {
        match self {
            Question::Offsets { node, .. } | Question::Committed { node, .. } => Some(*node),
            Question::Create
            | Question::Found
            | Question::Settings
            | Question::Made
            | Question::Delete
            | Question::Removed
            | Question::Configs
            | Question::Leaders
            | Question::Coordinators => None,
        }
    }
}

#[derive(Debug)]
enum What {
    Create(ChannelSpec),
    Delete(Channel),
    Describe(Channel, Description),
}

#[derive(Debug)]
struct Operation {
    number: u64,
    token: Token,
    what: What,
    questions: VecDeque<Question>,
    asked: bool,
    /// What is there already, of a topic that was to be made or used.
    found: Option<Found>,
    /// Whether it was asked before without an answer: a topic that exists may be our own then.
    repeated: bool,
    until: Time,
    not_before: Time,
}

/// How an answer goes on.
pub(super) enum Next {
    /// The question is answered.
    Answered,
    /// The same again a little later.
    Again(Span),
    /// The operation is over.
    Over(Outcome),
}

/// The administrator.
#[derive(Debug)]
pub(super) struct Administrator {
    base: Base,
    number: u32,
    waiting: VecDeque<(Token, Control)>,
    current: Option<Operation>,
    operations: u64,
    closed: bool,
    done: Vec<Outcome>,
    answers: Vec<(Token, Answer)>,
    reasons: Reasons,
}

impl Administrator {
    pub(super) fn new(shared: Arc<Shared>, number: u32) -> std::io::Result<Self> {
        Ok(Self {
            base: Base::new(shared)?,
            number,
            waiting: VecDeque::new(),
            current: None,
            operations: 0,
            closed: false,
            done: Vec::new(),
            answers: Vec::new(),
            reasons: Reasons::default(),
        })
    }

    /// Begins the next operation; one that needs no question ends at once.
    fn begin(&mut self, now: Time, token: Token, control: Control) {
        let shared = self.base.shared.clone();
        let there = |channel: ChannelId| shared.channel(channel).ok_or(Refusal::NoSuchLane);
        let begun = match control {
            _ if self.closed => Err(Refusal::Closed),
            Control::Create(spec) => self.create(spec),
            Control::Delete(channel) => there(channel).map(|channel| {
                let questions: &[Question] =
                    if shared.place.existing { &[] } else { &[Question::Delete, Question::Removed] };
                (What::Delete(channel), questions.to_vec())
            }),
            Control::Describe(channel) => there(channel).map(|channel| {
                let questions = vec![Question::Configs, Question::Leaders, Question::Coordinators];
                (What::Describe(channel, Description::default()), questions)
            }),
            Control::Close => {
                self.closed = true;
                self.base.shared.free_number(self.number);
                self.done.push(ended(token, Status::Done));
                return;
            }
            Control::Flush => {
                self.done.push(ended(token, Status::Done));
                return;
            }
            Control::Grant(_)
            | Control::Seek { .. }
            | Control::Position(_)
            | Control::Release(_)
            | Control::Transaction(_) => Err(Refusal::WrongRole),
            Control::Split { .. } | Control::Merge { .. } => Err(Refusal::Unsupported),
        };
        match begun {
            Ok((what, questions)) => {
                self.operations += 1;
                self.current = Some(Operation {
                    number: self.operations,
                    token,
                    what,
                    questions: questions.into(),
                    asked: false,
                    found: None,
                    repeated: false,
                    until: now + shared.options.request_timeout,
                    not_before: now,
                });
            }
            Err(refusal) => self.done.push(ended(token, Status::Refused(refusal))),
        }
    }

    fn create(&self, spec: ChannelSpec) -> Result<(What, Vec<Question>), Refusal> {
        if !spec.is_plain() {
            return Err(Refusal::Unsupported);
        }
        let channels = self.base.shared.channels();
        if channels.iter().any(|channel| !channel.gone && channel.name == spec.name) {
            return Err(Refusal::Exists);
        }
        if spec.lanes == 0
            || i32::try_from(spec.lanes).is_err()
            || self.base.shared.promise.single_lane && spec.lanes > 1
        {
            return Err(Refusal::OutOfRange);
        }
        let questions = if self.base.shared.place.existing {
            [Question::Found, Question::Settings, Question::Made].to_vec()
        } else {
            [Question::Create, Question::Made].to_vec()
        };
        Ok((What::Create(spec), questions))
    }

    /// Begins what waits, asks what is due, ends what is answered.
    fn go_on(&mut self, now: Time) {
        self.base.looks(now);
        loop {
            self.base.refresh();
            if self.current.is_none() {
                let Some((token, control)) = self.waiting.pop_front() else { return };
                self.begin(now, token, control);
                continue;
            }
            self.base.drive_metadata(now, |_| true);
            let Some(operation) = &mut self.current else { return };
            if operation.until > now && (operation.asked || operation.not_before > now) {
                return;
            }
            if operation.until <= now {
                let failure = if self.base.links.is_broken() { Failure::Disconnected } else { Failure::Timeout };
                let token = operation.token;
                self.current = None;
                self.done.push(ended(token, Status::Failed(failure)));
                continue;
            }
            match operation.questions.front().cloned() {
                None => self.complete(),
                Some(question) => {
                    if !self.ask(now, &question) {
                        if let Some(operation) = &mut self.current {
                            operation.not_before = now + LOOK_AGAIN;
                        }
                        return;
                    }
                }
            }
        }
    }

    /// Asks one question; false when it can't be asked yet. What the base knows already is answered at once.
    fn ask(&mut self, now: Time, question: &Question) -> bool {
        let Some(mut operation) = self.current.take() else { return false };
        let kind = Kind::Admin(operation.number);
        let shared = self.base.shared.clone();
        let link = match question.node() {
            Some(node) => Some(LinkId { node, purpose: Purpose::Usual }),
            None => self.base.links.any(now),
        };
        let asked = match (link, &operation.what) {
            (None, _) => false,
            (Some(_), What::Describe(channel, _)) if *question == Question::Leaders => {
                let leaders: BTreeSet<i32> =
                    (channel.first..channel.first + channel.lanes).map(|lane| self.base.leader(lane)).collect();
                let known = !leaders.contains(&NOBODY);
                if known {
                    operation.questions.pop_front();
                    for node in leaders {
                        for time in [LATEST, EARLIEST] {
                            operation.questions.push_front(Question::Offsets { node, time });
                        }
                    }
                } else {
                    self.base.doubt_leaders();
                }
                self.current = Some(operation);
                return known;
            }
            (Some(link), what) => {
                let links = &mut self.base.links;
                match (what, question) {
                    (What::Create(spec), Question::Create) => links.ask(now, link, &create(&shared, spec), kind),
                    (What::Create(spec), Question::Settings) => {
                        links.ask(now, link, &configs(&shared.topic_name(&spec.name)), kind)
                    }
                    (What::Create(spec), _) => links.ask(now, link, &metadata(&shared.topic_name(&spec.name)), kind),
                    (What::Delete(channel), Question::Delete) => links.ask(now, link, &delete(&channel.topic), kind),
                    (What::Delete(channel), _) => links.ask(now, link, &metadata(&channel.topic), kind),
                    (What::Describe(channel, _), Question::Offsets { node, time }) => {
                        let lanes = (0..channel.lanes).filter(|index| self.base.leader(channel.first + index) == *node);
                        let request =
                            offsets(&channel.topic, lanes.map(|index| (index.cast_signed(), *time)).collect());
                        self.base.links.ask(now, link, &request, kind)
                    }
                    (What::Describe(channel, _), Question::Coordinators) => {
                        let keys = channel.groups.iter().map(|group| wire::text(&shared.group_name(group))).collect();
                        links.ask(now, link, &FindCoordinatorRequest::default().with_coordinator_keys(keys), kind)
                    }
                    (What::Describe(channel, _), Question::Committed { group, .. }) => {
                        let group = shared.group_name(&channel.groups[*group]);
                        links.ask(
                            now,
                            link,
                            &committed(&group, &channel.topic, (0..channel.lanes.cast_signed()).collect(), None),
                            kind,
                        )
                    }
                    (What::Describe(channel, _), _) => links.ask(now, link, &configs(&channel.topic), kind),
                }
            }
        };
        operation.asked = asked;
        self.current = Some(operation);
        asked
    }

    /// Every question is answered.
    fn complete(&mut self) {
        let Some(operation) = self.current.take() else { return };
        match operation.what {
            What::Create(_) => {}
            What::Delete(channel) => {
                self.base.shared.forget(channel.id);
                self.done.push(ended(operation.token, Status::Done));
            }
            What::Describe(channel, mut description) => {
                for state in &mut description.lanes {
                    let group = state.group as usize;
                    let progress = channel.progress(state.lane.0 - channel.first, group);
                    let position = progress.position.load(Ordering::Relaxed).max(state.committed).min(state.end);
                    state.in_flight = position - state.committed;
                    state.ready = state.end - position;
                }
                self.answers.push((operation.token, Answer::Description(description)));
            }
        }
    }

    fn came(&mut self, now: Time, came: Came) {
        match came {
            Came::Answer(Kind::Metadata, frame) => {
                if self.base.metadata(now, &frame).is_err() {
                    self.base.doubt_leaders();
                }
            }
            Came::Lost { kind: Kind::Metadata, .. } => self.base.metadata_lost(now),
            Came::Answer(Kind::Admin(operation), frame) => self.answered(now, operation, &frame),
            Came::Lost { kind: Kind::Admin(number), sent } => {
                if let Some(operation) = self.current.as_mut().filter(|operation| operation.number == number) {
                    operation.asked = false;
                    operation.repeated |= sent;
                    operation.not_before = now + self.base.shared.options.retry_backoff;
                }
            }
            // No other question is an administrator's.
            Came::Answer(..) | Came::Lost { .. } => {}
        }
    }

    fn answered(&mut self, now: Time, number: u64, frame: &Bytes) {
        let Some(mut operation) = self.current.take_if(|operation| operation.number == number) else { return };
        operation.asked = false;
        let Some(question) = operation.questions.front().cloned() else { return };
        let next = match &mut operation.what {
            What::Create(_) => self.created(&mut operation, &question, frame),
            What::Delete(channel) => removed(operation.token, &channel.topic, &mut self.reasons, &question, frame),
            What::Describe(channel, description) => {
                described(&self.base.shared, channel, description, &question, frame, &mut operation.questions)
            }
        };
        match next {
            Ok(Next::Answered) => {
                operation.questions.pop_front();
                self.current = Some(operation);
            }
            Ok(Next::Again(after)) => {
                operation.not_before = now + after;
                operation.repeated = true;
                self.current = Some(operation);
            }
            Ok(Next::Over(outcome)) => self.done.push(outcome),
            Err(Malformed(_)) => self.done.push(ended(operation.token, Status::Unknown)),
        }
    }

    /// What a cluster says to a topic that is to be made. One that is there already is looked at, to be named.
    fn asked_to_make(&mut self, operation: &mut Operation, name: &str, frame: &Bytes) -> Result<Next, Malformed> {
        let answer = wire::answer::<CreateTopicsRequest>(frame)?;
        let Some(topic) = answer.topics.first() else { return Ok(Next::Answered) };
        match topic.error_code {
            error::NONE => Ok(Next::Answered),
            error::TOPIC_EXISTS if operation.repeated => Ok(Next::Answered),
            error::TOPIC_EXISTS => {
                operation.questions = [Question::Create, Question::Found, Question::Settings].into();
                Ok(Next::Answered)
            }
            retriable if error::is_retriable(retriable) => Ok(Next::Again(LOOK_AGAIN)),
            code => {
                let (reason, refusal) = error::not_made(code, name, topic.error_message.as_ref());
                self.reasons.note(reason);
                Ok(Next::Over(ended(operation.token, Status::Refused(refusal))))
            }
        }
    }

    fn created(&mut self, operation: &mut Operation, question: &Question, frame: &Bytes) -> Result<Next, Malformed> {
        let What::Create(spec) = &operation.what else { return Ok(Next::Answered) };
        let (shared, token) = (self.base.shared.clone(), operation.token);
        let name = shared.topic_name(&spec.name);
        let over = |status| Ok(Next::Over(ended(token, status)));
        match question {
            Question::Create => return self.asked_to_make(operation, &name, frame),
            Question::Settings => {
                let Some(found) = &mut operation.found else { return Ok(Next::Answered) };
                found.configured(&wire::answer::<DescribeConfigsRequest>(frame)?);
                if !shared.place.existing {
                    self.reasons.note(found.taken(&shared, &name, spec.lanes).to_string());
                    return over(Status::Refused(Refusal::Exists));
                }
                let Some(differs) = found.differs(&shared, &name, spec.lanes) else { return Ok(Next::Answered) };
                self.reasons.note(differs.to_string());
                return over(Status::Refused(Refusal::OutOfRange));
            }
            Question::Found
            | Question::Made
            | Question::Delete
            | Question::Removed
            | Question::Configs
            | Question::Leaders
            | Question::Offsets { .. }
            | Question::Coordinators
            | Question::Committed { .. } => {}
        }
        let answer = wire::answer::<MetadataRequest>(frame)?;
        let Some(topic) = answer.topics.first() else { return Ok(Next::Again(LOOK_AGAIN)) };
        let refusal = match topic.error_code {
            error::TOPIC_AUTHORIZATION_FAILED => {
                Some((Trouble::Permission(format!("describing topic {name}")).to_string(), Refusal::WrongRole))
            }
            error::UNKNOWN_TOPIC if shared.place.existing => {
                Some((format!("there is no topic `{name}`; make it, or leave out --existing"), Refusal::NoSuchLane))
            }
            error::NONE => None,
            _not_yet => return Ok(Next::Again(LOOK_AGAIN)),
        };
        if let Some((reason, refusal)) = refusal {
            self.reasons.note(reason);
            return over(Status::Refused(refusal));
        }
        if *question == Question::Found {
            operation.found = Some(Found::new(topic));
            return Ok(Next::Answered);
        }
        let led = topic.partitions.iter().filter(|partition| partition.leader_id.0 != NOBODY).count();
        if led != spec.lanes as usize {
            return Ok(Next::Again(LOOK_AGAIN));
        }
        let own = operation.found.as_ref().and_then(Found::max_batch).unwrap_or(u32::MAX);
        let (channel, lane) = shared.add(&name, topic.topic_id, spec, own.min(shared.promise.max_batch));
        Ok(Next::Over(Outcome { token, status: Status::Done, lane, position: channel.0.into() }))
    }
}

fn removed(
    token: Token,
    topic: &str,
    reasons: &mut Reasons,
    question: &Question,
    frame: &Bytes,
) -> Result<Next, Malformed> {
    if *question == Question::Delete {
        let answer = wire::answer::<DeleteTopicsRequest>(frame)?;
        let code = answer.responses.first().map_or(error::NONE, |topic| topic.error_code);
        return match code {
            error::NONE | error::UNKNOWN_TOPIC => Ok(Next::Answered),
            retriable if error::is_retriable(retriable) => Ok(Next::Again(LOOK_AGAIN)),
            other => {
                reasons.note(format!("topic {topic} can't be removed: {}", error::name(other)));
                Ok(Next::Over(ended(token, Status::Refused(Refusal::WrongRole))))
            }
        };
    }
    let answer = wire::answer::<MetadataRequest>(frame)?;
    let gone = answer.topics.first().is_none_or(|topic| topic.error_code == error::UNKNOWN_TOPIC);
    Ok(if gone { Next::Answered } else { Next::Again(LOOK_AGAIN) })
}

impl Client for Administrator {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let taken = batch.len();
        let refused = Status::Refused(if self.closed { Refusal::Closed } else { Refusal::WrongRole });
        match batch {
            Batch::Publish(publishes) => {
                self.done.extend(publishes.iter().map(|message| ended(message.token, refused)));
            }
            Batch::Settle(settlements) => {
                self.done.extend(settlements.iter().map(|settlement| ended(settlement.token, refused)));
            }
            Batch::Control(controls) => self.waiting.extend(controls.iter().cloned()),
        }
        batch.advance(taken);
        self.go_on(now);
        let mut came = std::mem::take(&mut self.base.came);
        self.base.links.flush(now, &mut came);
        self.base.came = came;
        Accepted { taken, blocked: None }
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        let mut came = std::mem::take(&mut self.base.came);
        self.base.links.poll(now, &mut came);
        for one in came.drain(..) {
            self.came(now, one);
        }
        self.go_on(now);
        self.base.links.flush(now, &mut came);
        self.base.came = came;
        self.base.links.events(&mut completions.events);
        completions.outcomes.append(&mut self.done);
        completions.answers.append(&mut self.answers);
    }

    fn next_deadline(&self) -> Option<Time> {
        if !self.done.is_empty() || !self.answers.is_empty() || !self.base.came.is_empty() {
            return Some(Time::ZERO);
        }
        let operation = self.current.as_ref();
        let own = operation.map_or(Time::NEVER, |operation| {
            if operation.asked { operation.until } else { operation.not_before.min(operation.until) }
        });
        self.base.look_again(own)
    }

    fn reasons(&self) -> Vec<String> {
        self.reasons.texts()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        self.base.links.wait_on()
    }
}

impl Drop for Administrator {
    fn drop(&mut self) {
        self.base.shared.free_number(self.number);
    }
}
