//! A member of a consumer group: what it is granted, what it holds, and the turns of its work.
//!
//! Coordination is in `group`, reading in `fetch`, settling in `commit`, seeking in `seek`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use brokerlab_model::credit::Credit;
use brokerlab_model::{
    Accepted, Answer, Batch, ChannelId, Client, Completions, Control, Event, LaneId, Outcome, Refusal, SeekTo, Status,
    Time, Token, WaitOn,
};

use super::base::Base;
use super::commit::Commits;
use super::fetch::Chunk;
use super::group::Group;
use super::kind::Kind;
use super::links::Came;
use super::producer::ended;
use super::reasons::Reasons;
use super::seek::Seeking;
use super::shared::Shared;

/// Where a lane stands with its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Assigned; it is not known yet from where to read.
    Starting,
    /// The group never committed there: the first offset is to be asked for.
    Unplaced,
    /// Being read.
    Reading,
    /// To be given back; held until the host releases it.
    Revoked,
    /// What it holds can't be read.
    Unreadable,
}

/// A lane in this member's hands.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) channel: ChannelId,
    /// The group's place in the channel's list.
    pub(super) group: usize,
    pub(super) phase: Phase,
    /// A question about where to start is open.
    pub(super) asked: bool,
    pub(super) epoch: u32,
    /// The next position to be delivered, and the one after everything that was delivered to the group.
    pub(super) position: u64,
    pub(super) highest: u64,
    /// What the broker has, and what it is to get.
    pub(super) committed: u64,
    pub(super) settled: u64,
    /// The next position to be fetched; a seek begins a new generation, for which older answers are void.
    pub(super) fetch_at: u64,
    pub(super) generation: u32,
    pub(super) fetching: bool,
    pub(super) not_before: Time,
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) releasing: Option<Token>,
}

impl Held {
    pub(super) fn new(channel: ChannelId, group: usize) -> Self {
        Self {
            channel,
            group,
            phase: Phase::Starting,
            asked: false,
            epoch: 0,
            position: 0,
            highest: 0,
            committed: 0,
            settled: 0,
            fetch_at: 0,
            generation: 0,
            fetching: false,
            not_before: Time::ZERO,
            chunks: VecDeque::new(),
            releasing: None,
        }
    }
}

/// A member of a consumer group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) base: Base,
    number: u32,
    pub(super) group_name: String,
    pub(super) reads: Vec<ChannelId>,
    pub(super) group: Group,
    pub(super) lanes: BTreeMap<u32, Held>,
    /// Which lane is served first next time.
    pub(super) turn: u32,
    pub(super) credit: Credit,
    pub(super) commits: Commits,
    pub(super) seeks: VecDeque<(Token, LaneId, SeekTo)>,
    pub(super) seeking: Option<Seeking>,
    pub(super) closing: Option<Token>,
    pub(super) close_by: Time,
    pub(super) closed: bool,
    pub(super) done: Vec<Outcome>,
    answers: Vec<(Token, Answer)>,
    pub(super) events: Vec<Event>,
    pub(super) reasons: Reasons,
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, number: u32, group: &str, channels: &[ChannelId]) -> std::io::Result<Self> {
        let group_name = group.to_owned();
        let on_server = shared.group_name(group);
        Ok(Self {
            base: Base::new(shared)?,
            number,
            group_name,
            reads: channels.to_vec(),
            group: Group::new(on_server),
            lanes: BTreeMap::new(),
            turn: 0,
            credit: Credit::default(),
            commits: Commits::default(),
            seeks: VecDeque::new(),
            seeking: None,
            closing: None,
            close_by: Time::NEVER,
            closed: false,
            done: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
            reasons: Reasons::default(),
        })
    }

    /// A lane that this member holds and reads.
    fn held(&self, lane: LaneId) -> Result<&Held, Refusal> {
        let exists = self.base.channel_of(lane).is_some_and(|channel| !channel.gone);
        match self.lanes.get(&lane.0) {
            Some(held) if !matches!(held.phase, Phase::Starting | Phase::Unplaced) => Ok(held),
            Some(_) | None if exists => Err(Refusal::NotAssigned),
            Some(_) | None => Err(Refusal::NoSuchLane),
        }
    }

    fn control(&mut self, now: Time, token: Token, control: &Control) {
        let result = match *control {
            _ if self.closed || self.closing.is_some() => Err(Refusal::Closed),
            Control::Grant(count) => {
                if !self.credit.grant(token, count) {
                    self.done.push(ended(token, Status::Done));
                }
                Ok(())
            }
            Control::Seek { lane, to } => match self.held(lane) {
                Ok(held) if held.phase == Phase::Reading => {
                    self.seeks.push_back((token, lane, to));
                    Ok(())
                }
                Ok(_) => Err(Refusal::NotAssigned),
                Err(refusal) => Err(refusal),
            },
            Control::Position(lane) => self.held(lane).map(|held| held.position).map(|position| {
                self.answers.push((token, Answer::Position { lane, position }));
            }),
            Control::Release(lane) => match self.held(lane) {
                Ok(held) if held.phase == Phase::Revoked && held.releasing.is_none() => {
                    if let Some(held) = self.lanes.get_mut(&lane.0) {
                        held.releasing = Some(token);
                    }
                    Ok(())
                }
                Ok(_) => Err(Refusal::Unsupported),
                Err(refusal) => Err(refusal),
            },
            Control::Flush => {
                self.done.push(ended(token, Status::Done));
                Ok(())
            }
            Control::Close => {
                self.begin_close(now, token);
                Ok(())
            }
            Control::Create(_)
            | Control::Delete(_)
            | Control::Describe(_)
            | Control::Split { .. }
            | Control::Transaction(_)
            | Control::Merge { .. } => Err(Refusal::WrongRole),
        };
        if let Err(refusal) = result {
            self.done.push(ended(token, Status::Refused(refusal)));
        }
    }

    /// Nothing is delivered from now on; what is settled is still committed, and the group is left.
    fn begin_close(&mut self, now: Time, token: Token) {
        self.closing = Some(token);
        self.close_by = now + self.base.shared.options.request_timeout;
        let done = &mut self.done;
        self.credit.end(|grant| done.push(ended(grant, Status::Done)));
        let seeks = self.seeks.drain(..).map(|(token, ..)| token).chain(self.seeking.take().map(|seek| seek.token));
        self.done.extend(seeks.map(|token| ended(token, Status::Refused(Refusal::Closed))));
        for held in self.lanes.values_mut() {
            held.chunks.clear();
            self.done.extend(held.releasing.take().map(|token| ended(token, Status::Done)));
        }
    }

    /// Gives up a lane that is gone without waiting.
    pub(super) fn lose(&mut self, lane: u32) {
        let Some(held) = self.lanes.remove(&lane) else { return };
        self.forget(lane, &held);
        if !matches!(held.phase, Phase::Starting | Phase::Unplaced) {
            self.events.push(Event::LaneLost(LaneId(lane)));
        }
        self.done.extend(held.releasing.map(|token| ended(token, Status::Done)));
        self.commits.lose(LaneId(lane), &mut self.done);
        if let Some(seek) = self.seeking.take_if(|seek| seek.lane.0 == lane) {
            self.done.push(ended(seek.token, Status::Refused(Refusal::NotAssigned)));
        }
    }

    /// A lane that is held no more stands where it is committed.
    pub(super) fn forget(&self, lane: u32, held: &Held) {
        if let Some(channel) = self.base.channel_of(LaneId(lane))
            && held.epoch > 0
        {
            channel.progress(lane - channel.first, held.group).position.store(held.committed, Ordering::Relaxed);
        }
    }

    fn came(&mut self, now: Time, came: Came) {
        match came {
            Came::Answer(kind, frame) => match kind {
                Kind::Metadata => {
                    if self.base.metadata(now, &frame).is_err() {
                        self.base.doubt_leaders();
                    }
                }
                Kind::Coordinator => self.coordinator_found(now, &frame),
                Kind::Heartbeat { leaving } => self.heard(now, leaving, &frame),
                Kind::Committed(lanes) => self.committed_found(now, &lanes, &frame),
                Kind::Earliest(lanes) => self.earliest_found(now, &lanes, &frame),
                Kind::Seek => self.seek_found(now, &frame),
                Kind::Commit(lanes) => self.commit_answered(now, &lanes, &frame),
                Kind::Fetch(lanes) => self.fetched(now, &lanes, &frame),
                // No other question is a member's.
                Kind::InitProducer | Kind::Produce(_) | Kind::Admin(_) => {}
            },
            Came::Lost { kind, .. } => self.lost(now, kind),
        }
    }

    /// A question was lost with its connection, and is asked again later.
    fn lost(&mut self, now: Time, kind: Kind) {
        let later = now + self.base.shared.options.retry_backoff;
        match kind {
            Kind::Metadata => self.base.metadata_lost(now),
            Kind::Coordinator => self.group.coordinator_lost(later),
            Kind::Heartbeat { .. } => self.group.heartbeat_lost(later),
            Kind::Committed(lanes) | Kind::Earliest(lanes) => self.ask_start_again(later, &lanes),
            Kind::Seek => {
                if let Some(seek) = &mut self.seeking {
                    (seek.asked, seek.not_before) = (false, later);
                }
            }
            Kind::Commit(_) => {
                self.commits.again(later);
                self.group.coordinator_lost(later);
            }
            Kind::Fetch(lanes) => {
                self.base.doubt_leaders();
                for (lane, ..) in lanes {
                    if let Some(held) = self.lanes.get_mut(&lane) {
                        (held.fetching, held.not_before) = (false, later);
                    }
                }
            }
            // No other question is a member's.
            Kind::InitProducer | Kind::Produce(_) | Kind::Admin(_) => {}
        }
    }

    /// Asks everything that is due.
    fn drive(&mut self, now: Time) {
        self.base.looks(now);
        if self.closed {
            return;
        }
        if self.base.refresh() {
            self.lose_deleted();
        }
        let reads = std::mem::take(&mut self.reads);
        self.base.drive_metadata(now, |channel| reads.contains(&channel.id));
        self.reads = reads;
        self.drive_group(now);
        self.drive_starts(now);
        self.drive_seek(now);
        self.drive_commit(now);
        self.drive_releases();
        if self.closing.is_none() {
            self.drive_fetch(now);
        }
        self.drive_close(now);
    }

    fn lose_deleted(&mut self) {
        let channels = self.base.channels.clone();
        let gone = |held: &Held| channels[held.channel.0 as usize].gone;
        let lanes: Vec<u32> = self.lanes.iter().filter(|(_, held)| gone(held)).map(|(&lane, _)| lane).collect();
        for lane in lanes {
            self.lose(lane);
            self.group.note_change();
        }
    }

    /// Lanes that are released once what was settled there is committed.
    fn drive_releases(&mut self) {
        let ready = |held: &Held| held.releasing.is_some() && held.settled <= held.committed;
        let lanes: Vec<u32> = self.lanes.iter().filter(|(_, held)| ready(held)).map(|(&lane, _)| lane).collect();
        for lane in lanes {
            if let Some(held) = self.lanes.remove(&lane) {
                self.forget(lane, &held);
                let token = held.releasing.expect("it is the condition above");
                self.done.push(Outcome { token, status: Status::Done, lane: LaneId(lane), position: 0 });
                self.group.note_change();
            }
        }
    }

    fn drive_close(&mut self, now: Time) {
        if self.closing.is_none() {
            return;
        }
        let cut_off = self.base.links.is_broken() || now >= self.close_by;
        if cut_off {
            self.commits.end(Status::Unknown, &mut self.done);
        } else if !self.commits.is_clean() || !self.group.is_left() {
            return;
        }
        if let Some(token) = self.closing.take() {
            for (&lane, held) in &self.lanes {
                self.forget(lane, held);
            }
            self.lanes.clear();
            self.closed = true;
            self.base.shared.free_number(self.number);
            self.done.push(ended(token, Status::Done));
        }
    }

    /// Whether a poll would deliver something.
    fn is_ready(&self) -> bool {
        let readable = |held: &Held| held.phase == Phase::Reading && !held.chunks.is_empty();
        !self.base.shared.promise.commit_first && !self.credit.is_empty() && self.lanes.values().any(readable)
    }

    fn flush(&mut self, now: Time) {
        let mut came = std::mem::take(&mut self.base.came);
        self.base.links.flush(now, &mut came);
        self.base.came = came;
    }
}

impl Client for Member {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        let taken = batch.len();
        match batch {
            Batch::Publish(publishes) => {
                let refusal = if self.closed { Refusal::Closed } else { Refusal::WrongRole };
                self.done.extend(publishes.iter().map(|message| ended(message.token, Status::Refused(refusal))));
                publishes.clear();
            }
            Batch::Settle(settlements) => {
                self.settle(settlements);
                settlements.clear();
            }
            Batch::Control(controls) => {
                for (token, control) in controls.drain(..) {
                    self.control(now, token, &control);
                }
            }
        }
        self.drive(now);
        self.flush(now);
        Accepted { taken, blocked: None }
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        let mut came = std::mem::take(&mut self.base.came);
        self.base.links.poll(now, &mut came);
        for one in came.drain(..) {
            self.came(now, one);
        }
        self.base.came = came;
        // What comes next is asked for before what came is delivered, so that the broker works meanwhile.
        self.drive(now);
        self.flush(now);
        if self.closing.is_none() && !self.closed {
            self.deliver(now, completions);
            self.drive(now);
            self.flush(now);
        }
        self.base.links.events(&mut self.events);
        completions.outcomes.append(&mut self.done);
        completions.answers.append(&mut self.answers);
        completions.events.append(&mut self.events);
    }

    fn next_deadline(&self) -> Option<Time> {
        let any = !self.done.is_empty()
            || !self.answers.is_empty()
            || !self.events.is_empty()
            || !self.base.came.is_empty()
            || self.is_ready();
        if any {
            return Some(Time::ZERO);
        }
        if self.closed {
            return None;
        }
        let close = if self.closing.is_some() { self.close_by } else { Time::NEVER };
        let own =
            self.lanes.values().map(|held| if held.not_before > Time::ZERO { held.not_before } else { Time::NEVER });
        let due = own
            .chain([
                close,
                self.group.due(),
                self.commits.due(),
                self.base.metadata_due(),
                self.seeking.as_ref().map_or(Time::NEVER, Seeking::due),
            ])
            .min();
        self.base.look_again(due.unwrap_or(Time::NEVER))
    }

    fn reasons(&self) -> Vec<String> {
        self.reasons.texts()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        if self.closed { WaitOn::Nothing } else { self.base.links.wait_on() }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.base.shared.free_number(self.number);
    }
}
