//! What every client has: its connections, its view of the channels, and who leads their partitions.
//!
//! Leaves out what each role does.

use std::sync::Arc;

use brokerlab_model::{LaneId, Span, Time};
use bytes::Bytes;
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;

use super::error;
use super::kind::Kind;
use super::links::{Came, LinkId, Links, Purpose};
use super::shared::{Channel, Shared};
use super::wire::{self, Malformed};

/// Nobody leads, as far as is known.
pub(super) const NOBODY: i32 = -1;

/// How often the leaders are asked for while a broker is cut off.
const WHILE_BROKEN: Span = Span::from_secs(1);

/// What every client has.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) shared: Arc<Shared>,
    pub(super) links: Links,
    pub(super) channels: Arc<Vec<Channel>>,
    version: u64,
    /// By lane.
    leaders: Vec<i32>,
    wanted: bool,
    asked: bool,
    not_before: Time,
    /// When the client last looked for what is due.
    looked: Time,
    /// What came and was not handled yet.
    pub(super) came: Vec<Came>,
}

impl Base {
    pub(super) fn new(shared: Arc<Shared>) -> std::io::Result<Self> {
        Ok(Self {
            links: Links::new(shared.clone())?,
            channels: shared.channels(),
            version: 0,
            leaders: Vec::new(),
            wanted: true,
            asked: false,
            not_before: Time::ZERO,
            looked: Time::ZERO,
            came: Vec::new(),
            shared,
        })
    }

    /// Follows changes of the channels; returns whether there were any.
    pub(super) fn refresh(&mut self) -> bool {
        let version = self.shared.version();
        if version == self.version {
            return false;
        }
        self.version = version;
        self.channels = self.shared.channels();
        self.leaders.resize(self.channels.last().map_or(0, |last| (last.first + last.lanes) as usize), NOBODY);
        self.wanted = true;
        true
    }

    /// The client looks for what is due now.
    pub(super) fn looks(&mut self, now: Time) {
        self.looked = now;
    }

    /// When to look again, for something that is due then. What was due when it was looked for the last time waits for a connection:
    /// looking again at once would bring nothing.
    pub(super) fn look_again(&self, due: Time) -> Option<Time> {
        let links = self.links.next_deadline();
        let due = if due <= self.looked { self.looked + self.shared.options.retry_backoff } else { due };
        Some(due.min(links)).filter(|due| *due < Time::NEVER)
    }

    /// The channel of a lane.
    pub(super) fn channel_of(&self, lane: LaneId) -> Option<&Channel> {
        let after = self.channels.partition_point(|channel| channel.first <= lane.0);
        after.checked_sub(1).map(|at| &self.channels[at]).filter(|channel| lane.0 < channel.first + channel.lanes)
    }

    /// Who leads a lane.
    pub(super) fn leader(&self, lane: u32) -> i32 {
        self.leaders.get(lane as usize).copied().unwrap_or(NOBODY)
    }

    /// A leader was found wrong.
    pub(super) fn doubt_leaders(&mut self) {
        self.wanted = true;
    }

    /// A lane can't be reached; asks for its leader if that is because nobody is known to lead it.
    pub(super) fn doubt_if_unled(&mut self, lane: u32) {
        self.wanted |= self.leader(lane) == NOBODY;
    }

    /// Asks who leads these channels, if that is due.
    pub(super) fn drive_metadata(&mut self, now: Time, of: impl Fn(&Channel) -> bool) {
        // A broker that is cut off may be gone for good, and its partitions led by another.
        self.wanted |= self.links.is_broken() && !self.asked && self.not_before + WHILE_BROKEN <= now;
        if !self.wanted || self.asked || self.not_before > now {
            return;
        }
        let topics: Vec<MetadataRequestTopic> = self
            .channels
            .iter()
            .filter(|channel| !channel.gone && of(channel))
            .map(|channel| MetadataRequestTopic::default().with_name(Some(wire::text(&channel.topic).into())))
            .collect();
        let request = MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
        let Some(id) = self.links.any(now) else { return };
        if self.links.ask(now, id, &request, Kind::Metadata) {
            self.asked = true;
            self.wanted = false;
        }
    }

    /// When metadata is to be asked for.
    pub(super) fn metadata_due(&self) -> Time {
        if self.asked {
            Time::NEVER
        } else if self.wanted {
            self.not_before
        } else if self.links.is_broken() {
            self.not_before + WHILE_BROKEN
        } else {
            Time::NEVER
        }
    }

    /// The question was lost with its connection.
    pub(super) fn metadata_lost(&mut self, now: Time) {
        self.asked = false;
        self.wanted = true;
        self.not_before = now + self.shared.options.retry_backoff;
    }

    /// Takes the answer in. What has no leader yet is asked for again.
    pub(super) fn metadata(&mut self, now: Time, frame: &Bytes) -> Result<(), Malformed> {
        self.asked = false;
        self.not_before = now + self.shared.options.retry_backoff;
        let answer = wire::answer::<MetadataRequest>(frame)?;
        self.shared.learn(&answer.brokers);
        self.links.follow_nodes();
        let channels = self.channels.clone();
        for topic in &answer.topics {
            let name = topic.name.as_ref().map_or("", |name| name.as_str());
            let Some(channel) = channels.iter().find(|channel| !channel.gone && channel.topic == name) else {
                continue;
            };
            if topic.error_code != error::NONE {
                self.wanted |= error::is_retriable(topic.error_code);
                continue;
            }
            for partition in &topic.partitions {
                let index = partition.partition_index as u32;
                if index < channel.lanes {
                    let leader = partition.leader_id.0;
                    self.leaders[(channel.first + index) as usize] = leader;
                    self.wanted |= leader == NOBODY;
                }
            }
        }
        Ok(())
    }

    /// The connection to a lane's leader for a purpose, when the leader is known and may be asked.
    pub(super) fn link_to(&self, now: Time, lane: u32, purpose: Purpose) -> Option<LinkId> {
        let id = LinkId { node: self.leader(lane), purpose };
        (id.node != NOBODY && self.links.is_usable(now, id)).then_some(id)
    }
}
