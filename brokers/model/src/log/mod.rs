//! The log model, as in Apache Kafka: topics of partitions, dense offsets, consumer groups with committed offsets, replay.
//!
//! A record is appended to a partition, chosen by its key; it can be read once it is below the high watermark, that is, stored
//! as the contract says. Records whose storage failed leave holes in the offsets, which are never delivered. Settling commits the
//! offset after the record, and so everything before it: as with Kafka's asynchronous commit, it is done at once and written
//! with the next bytes. Giving a record back (nack) or extending a lease does not exist here and is refused. A consumer group
//! that never committed begins with the oldest record that is kept. Retention drops records whether or not they were read; a
//! reader that was behind goes on with the oldest that is left.
//!
//! A partition moves by revocation: its owner goes on holding it until it releases it, and only partitions that have to move
//! are touched, or all of the group's when the assignment is eager. A member that is not heard of for the session's timeout loses its
//! partitions at once and joins anew when it is heard of again. Seeking is only for the owner; what is read again counts as
//! delivered once before.
//!
//! A transaction's records are appended at once and released by its commit, together with the offsets that it moved. With
//! `read_committed`, members wait at the first record of an open one and never see what was taken back.
//!
//! A producer that names itself in its messages' headers and numbers them may publish again what was not answered: what is there already
//! is acknowledged where it is.
//!
//! A log that is compacted keeps the latest record of each key instead of the youngest records; a record without a key is refused there.
//!
//! Leaves out, for now: replication.

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod idempotence_tests;
#[cfg(test)]
mod interleavings;
mod options;
pub mod partitioner;
mod promise;
pub mod reference;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use self::options::{Assignment, Cleanup, Isolation, LogOptions};
use self::partitioner::{Sticky, partition_of};
use crate::batch::{Accepted, Blocked, ChannelId, Control, Keys, Message, Publishes, Settlement, Token};
use crate::broker::{ClientSpec, ConnectError};
use crate::capabilities::{Capabilities, Settings, Unsupported};
use crate::completion::{Failure, Refusal, Status};
use crate::contract::Contract;
use crate::identity::Identity;
use crate::journal::{Journal, JournalError};
use crate::machine::{Effects, Model};
use crate::stream::{Novelty, Stream, ended, refuse_all};
use crate::time::{Span, Time};

/// A log of topics, as one state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogModel {
    options: LogOptions,
    capabilities: Capabilities,
    stream: Stream,
    /// By channel: its first partition, how many there are (0 once it was deleted), and where records without a key go.
    topics: Vec<Topic>,
    calls: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Topic {
    first: u32,
    partitions: u32,
    sticky: Sticky,
}

impl LogModel {
    /// A log without topics that keeps `contract`, or what is missing.
    pub fn new(options: LogOptions, contract: Contract) -> Result<Self, Unsupported> {
        let settings = options.honour(&contract)?;
        let stream = Stream::new(options.stream(contract, &settings));
        Ok(Self { capabilities: options.capabilities(), options, stream, topics: Vec::new(), calls: 0 })
    }

    /// Appends the messages at the beginning of `range` that have no key, go to one topic and are not too large; they stay together. None,
    /// when the first is no such message.
    fn append_keyless(
        &mut self,
        now: Time,
        batch: &Publishes,
        range: Range<usize>,
        out: &mut Effects,
    ) -> Option<usize> {
        if self.compacts() || batch.has_key(range.start) {
            return None;
        }
        let from = range.start;
        let run = batch.run(range, self.options.max_message_bytes, Keys::None)?;
        let topic = self.topics.get_mut(run.channel.0 as usize).filter(|topic| topic.partitions > 0)?;
        let lane = topic.first + topic.sticky.partition(self.calls, topic.partitions);
        self.stream.append_run(now, lane, from as u32, run.tokens, run.bytes, out);
        Some(run.tokens.len())
    }

    /// Appends messages of the batch in hand, whose identities nobody asks for.
    #[inline]
    fn append_range(&mut self, now: Time, client: u32, batch: &Publishes, range: Range<usize>, out: &mut Effects) {
        let mut index = range.start;
        while index < range.end {
            if let Some(more) = self.append_keyless(now, batch, index..range.end, out) {
                index += more;
                continue;
            }
            let message = batch.get(index);
            match self.route(&message) {
                Ok((lane, bytes)) if self.compacts() => {
                    let said = (message.key, message.payload_len == 0);
                    self.stream.append_keyed(now, lane, index as u32, message.token, bytes, said, out);
                }
                Ok((lane, bytes)) => self.stream.append(now, lane, index as u32, message.token, bytes, out),
                Err(refusal) => out.outcomes.push(ended(client, message.token, Status::Refused(refusal))),
            }
            index += 1;
        }
    }

    /// Appends the first messages of the batch in hand, some of which may have identities.
    fn append_named(&mut self, now: Time, client: u32, batch: &Publishes, taken: usize, out: &mut Effects) {
        let mut plain = 0;
        for index in 0..taken {
            let message = batch.get(index);
            let Some(identity) = Identity::of(message.headers) else { continue };
            self.append_range(now, client, batch, plain..index, out);
            plain = index + 1;
            if let Err(refusal) = self.append_identified(now, client, (index as u32, &message), identity, out) {
                out.outcomes.push(ended(client, message.token, Status::Refused(refusal)));
            }
        }
        self.append_range(now, client, batch, plain..taken, out);
    }

    /// Appends a message of the batch in hand, unless it is there.
    fn append_identified(
        &mut self,
        now: Time,
        client: u32,
        (index, message): (u32, &Message<'_>),
        identity: Identity<'_>,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        self.topic(message)?;
        if let Novelty::Repeat { lane, position } = self.stream.novelty(now, client, message.channel, identity)? {
            self.stream.repeat(client, lane, position, message.token, out);
            return Ok(());
        }
        let (lane, bytes) = self.route(message)?;
        self.stream.note_identity(now, message.channel, identity, lane);
        self.stream.append(now, lane, index, message.token, bytes, out);
        Ok(())
    }

    /// The topic that a message goes to, and the message's size.
    #[inline]
    fn topic(&mut self, message: &Message<'_>) -> Result<(&mut Topic, u32), Refusal> {
        let bytes = message.key.len() as u64 + message.headers.len() as u64 + u64::from(message.payload_len);
        let topic = self.topics.get_mut(message.channel.0 as usize).filter(|topic| topic.partitions > 0);
        let topic = topic.ok_or(Refusal::NoSuchLane)?;
        let fits = bytes <= u64::from(self.options.max_message_bytes);
        if fits { Ok((topic, bytes as u32)) } else { Err(Refusal::TooLarge) }
    }

    /// The lane that a message is appended to, and the message's size.
    #[inline]
    fn route(&mut self, message: &Message<'_>) -> Result<(u32, u32), Refusal> {
        let (calls, compacts) = (self.calls, self.compacts());
        let (topic, bytes) = self.topic(message)?;
        if compacts && message.key.is_empty() {
            return Err(Refusal::NoKey);
        }
        let partition = if message.key.is_empty() {
            topic.sticky.partition(calls, topic.partitions)
        } else {
            partition_of(message.key, topic.partitions)
        };
        Ok((topic.first + partition, bytes))
    }

    /// Brings the table of topics up to date after a topic was created or deleted.
    fn note_topics(&mut self) {
        for number in 0..self.stream.channels() {
            let (first, partitions) =
                self.stream.channel(ChannelId(number)).map_or((0, 0), |channel| (channel.first, channel.lanes));
            match self.topics.get_mut(number as usize) {
                Some(topic) => topic.partitions = partitions,
                None => self.topics.push(Topic { first, partitions, sticky: Sticky::NEW }),
            }
        }
    }
}

impl Model for LogModel {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        self.options.honour(contract)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec, out: &mut Effects) -> Result<(), ConnectError> {
        self.stream.connect(now, client, out)
    }

    fn publish(&mut self, now: Time, client: u32, batch: &Publishes, out: &mut Effects) -> Accepted {
        let room = match self.stream.open_publish(client) {
            Ok(room) => room,
            Err(refusal) => return refuse_all(client, batch, refusal, out),
        };
        let taken = room.min(batch.len());
        self.stream.reserve(taken);
        self.calls += 1;
        if self.options.knows_repeats() && batch.has_headers_from(taken, Identity::BYTES_MIN) {
            self.append_named(now, client, batch, taken, out);
        } else {
            self.append_range(now, client, batch, 0..taken, out);
        }
        self.stream.close_publish(client, out);
        Accepted { taken, blocked: (taken < batch.len()).then_some(Blocked::Window) }
    }

    fn settle(&mut self, now: Time, client: u32, settlements: &[Settlement], out: &mut Effects) {
        self.stream.settle(now, client, settlements, out);
    }

    fn control(&mut self, now: Time, client: u32, token: Token, control: &Control, out: &mut Effects) {
        self.stream.control(now, client, token, control, out);
        if matches!(control, Control::Create(_) | Control::Delete(_)) {
            self.note_topics();
        }
    }

    fn press(&mut self, now: Time) {
        self.stream.press(now);
    }

    fn heard(&mut self, now: Time, client: u32, out: &mut Effects) {
        self.stream.heard(now, client, out);
    }

    fn session_timeout(&self) -> Option<Span> {
        self.stream.config.groups.session
    }

    fn stored(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, out: &mut Effects) {
        self.stream.stored(now, ticket, result, out);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.stream.next_deadline()
    }

    fn on_deadline(&mut self, now: Time, out: &mut Effects) {
        self.stream.on_deadline(now, out);
    }

    fn commits_first(&self) -> bool {
        self.stream.config.commit_first
    }

    fn compacts(&self) -> bool {
        self.options.cleanup == Cleanup::Compact
    }

    fn reads_identities(&self) -> Option<u64> {
        self.stream.config.idempotence.map(|rules| rules.window)
    }

    fn restore(&mut self, now: Time, journal: &Journal, out: &mut Effects) -> Result<(), JournalError> {
        journal.check_whole()?;
        self.stream.restore(now, journal, out)?;
        self.note_topics();
        Ok(())
    }
}
