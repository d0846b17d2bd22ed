//! Settling: receipts are checked here, and what they cover is committed, many by one request.
//!
//! An acknowledgement is done when the broker has the commit. Leaves out giving back and leases, which a log has not.

use brokerlab_model::{LaneId, Outcome, Refusal, Settlement, Status, Time, Verdict};
use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest};

use super::error;
use super::kind::Kind;
use super::member::{Held, Member, Phase};
use super::producer::ended;
use super::wire;

/// Acknowledgements on their way.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// What the next commit will end, and what the one in flight will.
    waiting: Vec<Outcome>,
    flying: Vec<Outcome>,
    in_flight: bool,
    /// Something is settled that is not committed.
    dirty: bool,
    due: Time,
}

impl Commits {
    /// The commit in flight has no answer: everything is committed again.
    pub(super) fn again(&mut self, later: Time) {
        self.in_flight = false;
        self.dirty = true;
        self.due = later;
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = std::mem::take(&mut self.flying);
        self.waiting.extend(waiting);
    }

    /// Whether everything that was settled is committed.
    pub(super) fn is_clean(&self) -> bool {
        !self.dirty && !self.in_flight
    }

    /// When the next commit is due.
    pub(super) fn due(&self) -> Time {
        if self.dirty && !self.in_flight { self.due } else { Time::NEVER }
    }

    /// A lane is lost with what was settled there and not committed.
    pub(super) fn lose(&mut self, lane: LaneId, done: &mut Vec<Outcome>) {
        for outcomes in [&mut self.flying, &mut self.waiting] {
            let lost = outcomes.extract_if(.., |outcome| outcome.lane == lane);
            done.extend(lost.map(|lost| Outcome { status: Status::Refused(Refusal::StaleReceipt), ..lost }));
        }
    }

    /// Ends everything.
    pub(super) fn end(&mut self, status: Status, done: &mut Vec<Outcome>) {
        done.extend(self.flying.drain(..).chain(self.waiting.drain(..)).map(|outcome| Outcome { status, ..outcome }));
        (self.dirty, self.in_flight) = (false, false);
    }
}

impl Member {
    pub(super) fn settle(&mut self, settlements: &[Settlement]) {
        if self.closed || self.closing.is_some() {
            let closed = Status::Refused(Refusal::Closed);
            self.done.extend(settlements.iter().map(|settlement| ended(settlement.token, closed)));
            return;
        }
        // Settlements of one lane stand together.
        for run in settlements.chunk_by(|a, b| a.receipt.lane == b.receipt.lane) {
            let lane = run[0].receipt.lane;
            let exists = self.base.channel_of(lane).is_some();
            let mut held = self.lanes.get_mut(&lane.0);
            for settlement in run {
                let receipt = settlement.receipt;
                let mut outcome =
                    Outcome { token: settlement.token, status: Status::Done, lane, position: receipt.position };
                let result = match (settlement.verdict, &mut held) {
                    (Verdict::Nack { .. } | Verdict::Extend(_), _) => Err(Refusal::Unsupported),
                    (Verdict::Ack, Some(held)) => check(held, receipt.epoch, receipt.position),
                    (Verdict::Ack, None) if exists => Err(Refusal::StaleReceipt),
                    (Verdict::Ack, None) => Err(Refusal::NoSuchLane),
                };
                match result {
                    Ok(true) => self.done.push(outcome),
                    Ok(false) => {
                        self.commits.waiting.push(outcome);
                        self.commits.dirty = true;
                    }
                    Err(refusal) => {
                        outcome.status = Status::Refused(refusal);
                        self.done.push(outcome);
                    }
                }
            }
        }
    }

    pub(super) fn drive_commit(&mut self, now: Time) {
        let hurries = self.closing.is_some()
            || self.base.shared.promise.commit_first
            || self.lanes.values().any(|held| held.releasing.is_some());
        let commits = &self.commits;
        if !commits.dirty || commits.in_flight || !self.group.is_joined() || !hurries && commits.due > now {
            return;
        }
        let Some(link) = self.group.link().filter(|link| self.base.links.is_usable(now, *link)) else { return };
        let lanes: Vec<(u32, u64)> = self
            .lanes
            .iter()
            .filter(|(_, held)| held.settled > held.committed)
            .map(|(&lane, held)| (lane, held.settled))
            .collect();
        self.commits.dirty = false;
        if lanes.is_empty() {
            let waiting = std::mem::take(&mut self.commits.waiting);
            self.done.extend(waiting);
            return;
        }
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for &(lane, position) in &lanes {
            let Some(channel) = self.base.channel_of(LaneId(lane)) else { continue };
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index((lane - channel.first).cast_signed())
                .with_committed_offset(position.cast_signed())
                .with_committed_leader_epoch(-1);
            match topics.last_mut().filter(|topic| topic.name.as_str() == channel.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    OffsetCommitRequestTopic::default()
                        .with_name(wire::text(&channel.topic).into())
                        .with_partitions(vec![partition]),
                ),
            }
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(wire::text(&self.group.name)))
            .with_generation_id_or_member_epoch(self.group.epoch)
            .with_member_id(wire::text(&self.group.member))
            .with_topics(topics);
        self.commits.in_flight = self.base.links.ask(now, link, &request, Kind::Commit(lanes));
        self.commits.due = now + self.base.shared.options.commit_interval;
        if self.commits.in_flight {
            std::mem::swap(&mut self.commits.waiting, &mut self.commits.flying);
        } else {
            self.commits.dirty = true;
        }
    }

    pub(super) fn commit_answered(&mut self, now: Time, lanes: &[(u32, u64)], frame: &Bytes) {
        self.commits.in_flight = false;
        let later = now + self.base.shared.options.retry_backoff;
        let Ok(answer) = wire::answer::<OffsetCommitRequest>(frame) else { return self.commits.again(later) };
        let mut worst = error::NONE;
        for topic in &answer.topics {
            let channel =
                self.base.channels.iter().find(|channel| !channel.gone && channel.topic == topic.name.as_str());
            let Some(first) = channel.map(|channel| channel.first) else { continue };
            for partition in &topic.partitions {
                let lane = first + partition.partition_index.cast_unsigned();
                let position = lanes.iter().find(|(number, _)| *number == lane).map(|(_, position)| *position);
                match (partition.error_code, self.lanes.get_mut(&lane), position) {
                    (error::NONE, Some(held), Some(position)) => held.committed = held.committed.max(position),
                    (error::NONE, ..) => {}
                    (code, ..) => worst = code,
                }
            }
        }
        if worst == error::NONE {
            self.done.append(&mut self.commits.flying);
            // What was settled meanwhile and stands below what is committed now is covered.
            return;
        }
        match worst {
            error::UNKNOWN_MEMBER_ID | error::FENCED_MEMBER_EPOCH => self.group.note_change(),
            error::STALE_MEMBER_EPOCH => {}
            retriable if error::is_retriable(retriable) => self.group.coordinator_lost(later),
            _other => {
                self.commits.end(Status::Failed(brokerlab_model::Failure::Storage), &mut self.done);
                for held in self.lanes.values_mut() {
                    held.settled = held.committed;
                }
                return;
            }
        }
        self.commits.again(later);
    }

    /// Before anything is delivered at most once, its position is committed: as far as credit and what was fetched reach.
    pub(super) fn commit_ahead(&mut self) {
        let promised: u64 =
            self.lanes.values().map(|held| held.settled.max(held.committed).saturating_sub(held.position)).sum();
        let mut left = self.credit.available().saturating_sub(promised);
        for held in self.lanes.values_mut() {
            let from = held.settled.max(held.committed).max(held.position);
            if held.phase == Phase::Reading && !held.chunks.is_empty() && held.fetch_at > from && left > 0 {
                let more = left.min(held.fetch_at - from);
                held.settled = from + more;
                left -= more;
                self.commits.dirty = true;
            }
        }
    }
}

/// Whether a receipt is good, and whether it is committed already.
fn check(held: &mut Held, epoch: u32, position: u64) -> Result<bool, Refusal> {
    if epoch != held.epoch {
        return Err(Refusal::StaleReceipt);
    }
    if position >= held.highest {
        return Err(Refusal::OutOfRange);
    }
    if position < held.committed {
        return Ok(true);
    }
    held.settled = held.settled.max(position + 1);
    Ok(false)
}
