//! The administrator: topics made, removed and described, one operation after another, each in as many questions as it takes.
//!
//! An operation that loses its connection asks again until the request timeout. Leaves out everything in bulk.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use brokerlab_model::{
    Accepted, Answer, Batch, ChannelId, ChannelSpec, Client, Completions, Control, Description, Failure, LaneId,
    LaneState, Outcome, Refusal, Span, Status, Time, Token, WaitOn,
};
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, FindCoordinatorRequest, GroupId,
    ListOffsetsRequest, MetadataRequest, OffsetFetchRequest,
};

use super::base::{Base, NOBODY};
use super::error;
use super::kind::Kind;
use super::links::{Came, LinkId, Purpose};
use super::producer::ended;
use super::shared::{Channel, Shared};
use super::wire::{self, Malformed};

/// A topic, as a resource of `DescribeConfigs`.
const TOPIC: i8 = 2;
/// The oldest and the next offset, as times of `ListOffsets`.
pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;
/// How soon a topic is looked at again that is being made or removed.
const LOOK_AGAIN: Span = Span::from_millis(20);

/// One question of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Question {
    Create,
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
    /// Whether it was asked before without an answer: a topic that exists may be our own then.
    repeated: bool,
    until: Time,
    not_before: Time,
}

/// How an answer goes on.
enum Next {
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
            Control::Grant(_) | Control::Seek { .. } | Control::Position(_) | Control::Release(_) => {
                Err(Refusal::WrongRole)
            }
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
                    repeated: false,
                    until: now + shared.options.request_timeout,
                    not_before: now,
                });
            }
            Err(refusal) => self.done.push(ended(token, Status::Refused(refusal))),
        }
    }

    fn create(&self, spec: ChannelSpec) -> Result<(What, Vec<Question>), Refusal> {
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
        let questions =
            if self.base.shared.place.existing { vec![Question::Made] } else { vec![Question::Create, Question::Made] };
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
        let node = match question {
            Question::Offsets { node, .. } | Question::Committed { node, .. } => Some(*node),
            Question::Create
            | Question::Made
            | Question::Delete
            | Question::Removed
            | Question::Configs
            | Question::Leaders
            | Question::Coordinators => None,
        };
        let link = match node {
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
            What::Create(spec) => self.created(operation.token, spec, operation.repeated, &question, frame),
            What::Delete(_) => removed(&operation, &question, frame),
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

    fn created(
        &self,
        token: Token,
        spec: &ChannelSpec,
        repeated: bool,
        question: &Question,
        frame: &Bytes,
    ) -> Result<Next, Malformed> {
        let over = |status| Ok(Next::Over(ended(token, status)));
        if *question == Question::Create {
            let answer = wire::answer::<CreateTopicsRequest>(frame)?;
            let code = answer.topics.first().map_or(error::NONE, |topic| topic.error_code);
            return match code {
                error::NONE => Ok(Next::Answered),
                error::TOPIC_EXISTS if repeated => Ok(Next::Answered),
                error::TOPIC_EXISTS => over(Status::Refused(Refusal::Exists)),
                error::TOPIC_AUTHORIZATION_FAILED | error::CLUSTER_AUTHORIZATION_FAILED | error::POLICY_VIOLATION => {
                    over(Status::Refused(Refusal::WrongRole))
                }
                retriable if error::is_retriable(retriable) => Ok(Next::Again(LOOK_AGAIN)),
                _other => over(Status::Refused(Refusal::OutOfRange)),
            };
        }
        let answer = wire::answer::<MetadataRequest>(frame)?;
        let Some(topic) = answer.topics.first() else { return Ok(Next::Again(LOOK_AGAIN)) };
        let existing = self.base.shared.place.existing;
        if existing && topic.error_code == error::UNKNOWN_TOPIC {
            return over(Status::Refused(Refusal::NoSuchLane));
        }
        if existing && topic.error_code == error::NONE && topic.partitions.len() != spec.lanes as usize {
            return over(Status::Refused(Refusal::OutOfRange));
        }
        let led = topic.partitions.iter().filter(|partition| partition.leader_id.0 != NOBODY).count();
        if topic.error_code != error::NONE || led != spec.lanes as usize {
            return Ok(Next::Again(LOOK_AGAIN));
        }
        let name = self.base.shared.topic_name(&spec.name);
        let (channel, lane) = self.base.shared.add(&spec.name, &name, topic.topic_id, spec.lanes, &spec.groups);
        Ok(Next::Over(Outcome { token, status: Status::Done, lane, position: channel.0.into() }))
    }
}

fn removed(operation: &Operation, question: &Question, frame: &Bytes) -> Result<Next, Malformed> {
    let over = |status| Ok(Next::Over(ended(operation.token, status)));
    if *question == Question::Delete {
        let answer = wire::answer::<DeleteTopicsRequest>(frame)?;
        let code = answer.responses.first().map_or(error::NONE, |topic| topic.error_code);
        return match code {
            error::NONE | error::UNKNOWN_TOPIC => Ok(Next::Answered),
            retriable if error::is_retriable(retriable) => Ok(Next::Again(LOOK_AGAIN)),
            _other => over(Status::Refused(Refusal::WrongRole)),
        };
    }
    let answer = wire::answer::<MetadataRequest>(frame)?;
    let gone = answer.topics.first().is_none_or(|topic| topic.error_code == error::UNKNOWN_TOPIC);
    Ok(if gone { Next::Answered } else { Next::Again(LOOK_AGAIN) })
}

fn described(
    shared: &Shared,
    channel: &Channel,
    description: &mut Description,
    question: &Question,
    frame: &Bytes,
    questions: &mut VecDeque<Question>,
) -> Result<Next, Malformed> {
    let groups = channel.groups.len();
    if description.lanes.is_empty() {
        let rows = (0..channel.lanes).flat_map(|lane| (0..groups as u32).map(move |group| (lane, group)));
        description.lanes = rows
            .map(|(lane, group)| LaneState { lane: LaneId(channel.first + lane), group, ..LaneState::default() })
            .collect();
    }
    match question {
        Question::Configs => {
            let answer = wire::answer::<DescribeConfigsRequest>(frame)?;
            for config in answer.results.iter().flat_map(|result| &result.configs) {
                let value = config.value.as_ref().map_or("", |value| value.as_str());
                description.settings.push((format!("topic.{}", config.name.as_str()), value.to_owned()));
            }
            description.settings.extend(shared.options.shown.iter().cloned());
        }
        Question::Offsets { time, .. } => {
            let answer = wire::answer::<ListOffsetsRequest>(frame)?;
            for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                if partition.error_code != error::NONE {
                    return Ok(Next::Again(LOOK_AGAIN));
                }
                let from = partition.partition_index as usize * groups;
                for state in &mut description.lanes[from..from + groups] {
                    let offset = partition.offset.max(0).cast_unsigned();
                    *if *time == LATEST { &mut state.end } else { &mut state.committed } = offset;
                }
            }
        }
        Question::Coordinators => {
            let answer = wire::answer::<FindCoordinatorRequest>(frame)?;
            for found in &answer.coordinators {
                if found.error_code != error::NONE {
                    return Ok(Next::Again(shared.options.retry_backoff));
                }
                let group = channel.groups.iter().position(|group| found.key.as_str() == shared.group_name(group));
                questions.extend(group.map(|group| Question::Committed { node: found.node_id.0, group }));
            }
        }
        Question::Committed { group, .. } => {
            let answer = wire::answer::<OffsetFetchRequest>(frame)?;
            if answer.groups.iter().any(|group| error::is_retriable(group.error_code)) {
                return Ok(Next::Again(LOOK_AGAIN));
            }
            let partitions = answer.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
            for partition in partitions.filter(|partition| partition.committed_offset >= 0) {
                let row = partition.partition_index as usize * groups + group;
                description.lanes[row].committed = partition.committed_offset.cast_unsigned();
            }
        }
        Question::Create | Question::Made | Question::Delete | Question::Removed | Question::Leaders => {}
    }
    Ok(Next::Answered)
}

fn create(shared: &Shared, spec: &ChannelSpec) -> CreateTopicsRequest {
    let config = |(name, value): &(String, String)| {
        CreatableTopicConfig::default().with_name(wire::text(name)).with_value(Some(wire::text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(wire::text(&shared.topic_name(&spec.name)).into())
        .with_num_partitions(spec.lanes.cast_signed())
        .with_replication_factor(shared.promise.replication)
        .with_configs(shared.promise.topic.iter().map(config).collect());
    let timeout = (shared.options.request_timeout.0 / 1_000_000) as i32;
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout)
}

fn delete(topic: &str) -> DeleteTopicsRequest {
    let state = DeleteTopicState::default().with_name(Some(wire::text(topic).into()));
    DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000)
}

fn metadata(topic: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(wire::text(topic).into()));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
}

fn configs(topic: &str) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default().with_resource_type(TOPIC).with_resource_name(wire::text(topic));
    DescribeConfigsRequest::default().with_resources(vec![resource.with_configuration_keys(None)])
}

/// Offsets of partitions at times in milliseconds since 1970, or [`EARLIEST`] and [`LATEST`].
pub(super) fn offsets(topic: &str, partitions: Vec<(i32, i64)>) -> ListOffsetsRequest {
    let partitions = partitions
        .into_iter()
        .map(|(index, time)| {
            ListOffsetsPartition::default()
                .with_partition_index(index)
                .with_timestamp(time)
                .with_current_leader_epoch(-1)
        })
        .collect();
    let topic = ListOffsetsTopic::default().with_name(wire::text(topic).into()).with_partitions(partitions);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// Where a group stands in partitions of a topic; asked as a member when one is given.
pub(super) fn committed(
    group: &str,
    topic: &str,
    partitions: Vec<i32>,
    member: Option<(&str, i32)>,
) -> OffsetFetchRequest {
    let topic =
        OffsetFetchRequestTopics::default().with_name(wire::text(topic).into()).with_partition_indexes(partitions);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(wire::text(group)))
        .with_member_id(member.map(|(id, _)| wire::text(id)))
        .with_member_epoch(member.map_or(-1, |(_, epoch)| epoch))
        .with_topics(Some(vec![topic]));
    OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(false)
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

    fn wait_on(&self) -> WaitOn<'_> {
        self.base.links.wait_on()
    }
}

impl Drop for Administrator {
    fn drop(&mut self) {
        self.base.shared.free_number(self.number);
    }
}
