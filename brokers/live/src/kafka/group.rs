//! The group protocol of KIP-848: a member's signs of life, and the lanes that the broker assigns to it and takes back.
//!
//! A lane that is taken back is held until the host releases it; the next sign of life tells the broker. Leaves out groups of the
//! classic protocol.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;

use brokerlab_model::{Event, LaneId, Span, Status, Time};
use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::{ConsumerGroupHeartbeatRequest, TopicPartitions};
use kafka_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, ListOffsetsRequest, OffsetFetchRequest};

use super::error;
use super::kind::Kind;
use super::links::{LinkId, Purpose};
use super::member::{Held, Member, Phase};
use super::questions::{EARLIEST, committed, offsets};
use super::wire;
use crate::open::Trouble;

/// How soon a member without a lane gives its next sign of life.
const SOON: Span = Span::from_millis(250);

/// A member's standing in its group.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an answer that is awaited or a thing to tell, on its own")]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) member: String,
    pub(super) epoch: i32,
    coordinator: Option<i32>,
    finding: bool,
    beating: bool,
    /// When the next sign of life is due, and when the next question may be asked after a failure.
    due: Time,
    not_before: Time,
    /// The broker is to be told what is held.
    changed: bool,
    joined: bool,
    left: bool,
    target: BTreeSet<u32>,
    reconcile: bool,
}

impl Group {
    pub(super) fn new(name: String) -> Self {
        // The standard library's hasher is seeded from the operating system's randomness, which is all that is needed here.
        let random = || RandomState::new().hash_one(0u8);
        Self {
            name,
            member: format!("{:016x}{:016x}", random(), random()),
            epoch: 0,
            coordinator: None,
            finding: false,
            beating: false,
            due: Time::ZERO,
            not_before: Time::ZERO,
            changed: true,
            joined: false,
            left: false,
            target: BTreeSet::new(),
            reconcile: false,
        }
    }

    /// The connection to the coordinator, once that is known.
    pub(super) fn link(&self) -> Option<LinkId> {
        self.coordinator.map(|node| LinkId { node, purpose: Purpose::Usual })
    }

    pub(super) fn coordinator_lost(&mut self, later: Time) {
        self.finding = false;
        self.coordinator = None;
        self.not_before = later;
    }

    pub(super) fn heartbeat_lost(&mut self, later: Time) {
        self.beating = false;
        self.changed = true;
        self.coordinator_lost(later);
    }

    /// What is held has changed.
    pub(super) fn note_change(&mut self) {
        self.changed = true;
        self.reconcile = true;
    }

    /// Whether the broker knows no member here any more.
    pub(super) fn is_left(&self) -> bool {
        self.left
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined
    }

    /// When something is to be asked.
    pub(super) fn due(&self) -> Time {
        if self.left || self.finding || self.beating {
            Time::NEVER
        } else if self.coordinator.is_none() || self.changed {
            self.not_before
        } else {
            self.due.max(self.not_before)
        }
    }
}

impl Member {
    pub(super) fn drive_group(&mut self, now: Time) {
        if std::mem::take(&mut self.group.reconcile) && self.closing.is_none() {
            self.reconcile();
        }
        let group = &mut self.group;
        if self.closing.is_some() && !group.joined && !group.beating {
            group.left = true;
        }
        if group.left || group.not_before > now {
            return;
        }
        let Some(link) = group.link() else {
            if !group.finding
                && let Some(link) = self.base.links.any(now)
            {
                let keys = vec![wire::text(&self.group.name)];
                let request = FindCoordinatorRequest::default().with_coordinator_keys(keys);
                self.group.finding = self.base.links.ask(now, link, &request, Kind::Coordinator);
            }
            return;
        };
        let leaving = self.closing.is_some();
        if group.beating || leaving && !self.commits.is_clean() || !leaving && !group.changed && group.due > now {
            return;
        }
        let request = self.heartbeat(leaving);
        if self.base.links.ask(now, link, &request, Kind::Heartbeat { leaving }) {
            self.group.beating = true;
            self.group.changed = false;
        }
    }

    fn heartbeat(&self, leaving: bool) -> ConsumerGroupHeartbeatRequest {
        let group = &self.group;
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(wire::text(&group.name)))
            .with_member_id(wire::text(&group.member))
            .with_subscribed_topic_names(None)
            .with_topic_partitions(None)
            .with_rebalance_timeout_ms(-1);
        if leaving {
            return request.with_member_epoch(-1);
        }
        let request = request.with_member_epoch(group.epoch);
        let request = if group.epoch == 0 {
            let topics = self.reads.iter().filter_map(|id| self.base.channels.get(id.0 as usize));
            request
                .with_rebalance_timeout_ms(self.base.shared.options.max_poll_interval_ms)
                .with_subscribed_topic_names(Some(topics.map(|channel| wire::text(&channel.topic).into()).collect()))
        } else {
            request
        };
        if group.changed { request.with_topic_partitions(Some(self.owned())) } else { request }
    }

    /// What is held, by topic.
    fn owned(&self) -> Vec<TopicPartitions> {
        let mut topics: Vec<TopicPartitions> = Vec::new();
        for &lane in self.lanes.keys() {
            let Some(channel) = self.base.channel_of(LaneId(lane)) else { continue };
            let id = channel.topic_id;
            let index = (lane - channel.first).cast_signed();
            match topics.last_mut().filter(|topic| topic.topic_id == id) {
                Some(topic) => topic.partitions.push(index),
                None => topics.push(TopicPartitions::default().with_topic_id(id).with_partitions(vec![index])),
            }
        }
        topics
    }

    pub(super) fn coordinator_found(&mut self, now: Time, frame: &Bytes) {
        self.group.finding = false;
        let found = wire::answer::<FindCoordinatorRequest>(frame).ok().and_then(|answer| {
            answer.coordinators.first().filter(|found| found.error_code == error::NONE).map(|found| found.node_id.0)
        });
        match found {
            Some(node) => self.group.coordinator = Some(node),
            None => self.group.not_before = now + self.base.shared.options.retry_backoff,
        }
    }

    pub(super) fn heard(&mut self, now: Time, leaving: bool, frame: &Bytes) {
        self.group.beating = false;
        if leaving {
            self.group.left = true;
            return;
        }
        let later = now + self.base.shared.options.retry_backoff;
        let Ok(answer) = wire::answer::<ConsumerGroupHeartbeatRequest>(frame) else {
            return self.group.heartbeat_lost(later);
        };
        match answer.error_code {
            error::NONE => self.beat(now, &answer),
            error::UNKNOWN_MEMBER_ID | error::FENCED_MEMBER_EPOCH => self.fenced(),
            error::GROUP_AUTHORIZATION_FAILED | error::TOPIC_AUTHORIZATION_FAILED => {
                let name = &self.group.name;
                self.reasons
                    .note(Trouble::Permission(format!("joining consumer group {name}, or its topic")).to_string());
                let done = &mut self.done;
                let refused = Status::Refused(brokerlab_model::Refusal::WrongRole);
                self.credit.end(|grant| done.push(super::producer::ended(grant, refused)));
                self.group.not_before = now + Span::from_secs(1);
            }
            other => {
                if !error::is_retriable(other) {
                    self.reasons.note(format!("joining a consumer group: the broker answered {}", error::name(other)));
                }
                self.group.heartbeat_lost(later);
            }
        }
    }

    fn beat(&mut self, now: Time, answer: &ConsumerGroupHeartbeatResponse) {
        let interval = Span::from_millis(answer.heartbeat_interval_ms.max(1).cast_unsigned().into());
        self.group.epoch = answer.member_epoch;
        self.group.joined = true;
        // A member without a lane asks more often: the broker hands lanes out with its answers, a moment after it has decided.
        let often = if self.lanes.is_empty() { SOON } else { self.base.shared.options.heartbeat };
        self.group.due = now + interval.min(often).min(self.base.shared.options.heartbeat);
        let Some(assignment) = &answer.assignment else { return };
        let mut target = BTreeSet::new();
        for topic in &assignment.topic_partitions {
            let Some(channel) =
                self.base.channels.iter().find(|channel| !channel.gone && channel.topic_id == topic.topic_id)
            else {
                continue;
            };
            let known = topic.partitions.iter().filter(|&&index| index.cast_unsigned() < channel.lanes);
            target.extend(known.map(|index| channel.first + index.cast_unsigned()));
        }
        self.group.target = target;
        self.group.reconcile = true;
    }

    /// The broker does not know this member any more: what it held is gone, and it joins anew.
    fn fenced(&mut self) {
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.lose(lane);
        }
        self.group.target.clear();
        self.group.epoch = 0;
        self.group.joined = false;
        self.group.changed = true;
        if self.closing.is_some() {
            self.group.left = true;
        }
    }

    /// Brings what is held closer to what the broker wants.
    fn reconcile(&mut self) {
        let target = std::mem::take(&mut self.group.target);
        let extra: Vec<u32> = self.lanes.keys().copied().filter(|lane| !target.contains(lane)).collect();
        for lane in extra {
            let Some(held) = self.lanes.get_mut(&lane) else { continue };
            match held.phase {
                Phase::Starting | Phase::Unplaced | Phase::Unreadable => {
                    self.lanes.remove(&lane);
                    self.group.changed = true;
                }
                Phase::Reading => {
                    held.phase = Phase::Revoked;
                    held.chunks.clear();
                    self.events.push(Event::LaneRevoked(LaneId(lane)));
                }
                Phase::Revoked => {}
            }
        }
        for &lane in &target {
            let Some(channel) = self.base.channel_of(LaneId(lane)).filter(|channel| !channel.gone) else { continue };
            let group = channel.groups.iter().position(|group| *group == self.group_name).unwrap_or(0);
            let id = channel.id;
            if let Entry::Vacant(vacant) = self.lanes.entry(lane) {
                vacant.insert(Held::new(id, group));
                self.group.changed = true;
            }
        }
        self.group.target = target;
    }

    /// Asks where the group stands in lanes that were just assigned.
    pub(super) fn drive_starts(&mut self, now: Time) {
        let waiting = |held: &Held, phase| held.phase == phase && !held.asked && held.not_before <= now;
        let of = |phase| move |(&lane, held): (&u32, &Held)| waiting(held, phase).then_some(lane);
        let starting: Vec<u32> = self.lanes.iter().filter_map(of(Phase::Starting)).collect();
        if let Some(link) = self.group.link().filter(|link| self.base.links.is_usable(now, *link)) {
            let base = &self.base;
            let same = |&a: &u32, &b: &u32| base.channel_of(LaneId(a)).is_some_and(|c| b < c.first + c.lanes);
            let runs: Vec<Vec<u32>> = starting.chunk_by(same).map(<[u32]>::to_vec).collect();
            for lanes in &runs {
                let Some(channel) = self.base.channel_of(LaneId(lanes[0])) else { continue };
                let indices = lanes.iter().map(|lane| (lane - channel.first).cast_signed()).collect();
                let member = Some((self.group.member.as_str(), self.group.epoch));
                let request = committed(&self.group.name, &channel.topic, indices, member);
                if self.base.links.ask(now, link, &request, Kind::Committed(lanes.clone())) {
                    self.note_asked(lanes);
                }
            }
        }
        let unplaced: Vec<u32> = self.lanes.iter().filter_map(of(Phase::Unplaced)).collect();
        for lane in unplaced {
            let Some(link) = self.base.link_to(now, lane, Purpose::Usual) else {
                self.base.doubt_if_unled(lane);
                continue;
            };
            let Some(channel) = self.base.channel_of(LaneId(lane)) else { continue };
            let request = offsets(&channel.topic, vec![((lane - channel.first).cast_signed(), EARLIEST)]);
            if self.base.links.ask(now, link, &request, Kind::Earliest(vec![lane])) {
                self.note_asked(&[lane]);
            }
        }
    }

    fn note_asked(&mut self, lanes: &[u32]) {
        for lane in lanes {
            if let Some(held) = self.lanes.get_mut(lane) {
                (held.asked, held.not_before) = (true, Time::ZERO);
            }
        }
    }

    pub(super) fn ask_start_again(&mut self, later: Time, lanes: &[u32]) {
        for lane in lanes {
            if let Some(held) = self.lanes.get_mut(lane) {
                (held.asked, held.not_before) = (false, later);
            }
        }
    }

    pub(super) fn committed_found(&mut self, now: Time, lanes: &[u32], frame: &Bytes) {
        let later = now + self.base.shared.options.retry_backoff;
        let answer = wire::answer::<OffsetFetchRequest>(frame).ok();
        let group = answer.as_ref().and_then(|answer| answer.groups.first());
        let Some(group) = group.filter(|group| group.error_code == error::NONE) else {
            return self.ask_start_again(later, lanes);
        };
        for partition in group.topics.iter().flat_map(|topic| &topic.partitions) {
            let of_partition = |lane: &&u32| {
                let channel = self.base.channel_of(LaneId(**lane));
                channel.is_some_and(|channel| **lane - channel.first == partition.partition_index.cast_unsigned())
            };
            let Some(&lane) = lanes.iter().find(of_partition) else { continue };
            if partition.error_code != error::NONE {
                self.ask_start_again(later, &[lane]);
            } else if let Ok(position) = u64::try_from(partition.committed_offset) {
                self.start(lane, position);
            } else if let Some(held) = self.lanes.get_mut(&lane) {
                (held.phase, held.asked) = (Phase::Unplaced, false);
            }
        }
    }

    pub(super) fn earliest_found(&mut self, now: Time, lanes: &[u32], frame: &Bytes) {
        let later = now + self.base.shared.options.retry_backoff;
        let answer = wire::answer::<ListOffsetsRequest>(frame).ok();
        let partition =
            answer.as_ref().and_then(|answer| answer.topics.first()).and_then(|topic| topic.partitions.first());
        let found = partition.filter(|partition| partition.error_code == error::NONE);
        let position = found.and_then(|partition| u64::try_from(partition.offset).ok());
        if let (Some(position), &[lane]) = (position, lanes) {
            self.start(lane, position);
        } else {
            self.base.doubt_leaders();
            self.ask_start_again(later, lanes);
        }
    }

    /// It is known from where a lane is to be read. One that was being read already goes on from there: what it wanted is no more.
    fn start(&mut self, lane: u32, position: u64) {
        let Some(channel) = self.base.channel_of(LaneId(lane)) else { return };
        let Some(held) = self.lanes.get_mut(&lane) else { return };
        let progress = channel.progress(lane - channel.first, held.group);
        let first = held.epoch == 0;
        held.phase = Phase::Reading;
        held.asked = false;
        held.not_before = Time::ZERO;
        held.position = position;
        held.fetch_at = position;
        held.generation += 1;
        if first {
            held.epoch = progress.epoch.fetch_add(1, Ordering::Relaxed) + 1;
            held.committed = position;
            held.settled = position;
            held.highest = progress.highest.load(Ordering::Relaxed);
            self.events.push(Event::LaneAssigned { lane: LaneId(lane), position });
        }
        progress.position.store(position, Ordering::Relaxed);
    }
}
