//! What a host asks of a broker: batches of operations, stored by column so that a million messages cost a handful of
//! allocations.
//!
//! Leaves out answers, which are in [`completion`](crate::completion).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::binding::{BINDINGS_MAX, Binding};
use crate::completion::Slice;
use crate::machine::{GROUPS_MAX, NAME_BYTES_MAX};
use crate::time::{Span, Time};

/// The host's own number for one operation. It comes back exactly once, in an [`Outcome`](crate::completion::Outcome) or an
/// [`Answer`](crate::completion::Answer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A channel's number: its place in the order in which the administrator created the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelId(pub u32);

/// One of a broker's lanes, numbered across all its channels: what the models call partition, queue, shard or endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneId(pub u32);

/// What a member needs to settle one delivery. It is valid for the lease under which the message was delivered and no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// The lane that the message came from.
    pub lane: LaneId,
    /// The message's position in its lane: offset, sequence number or delivery tag.
    pub position: u64,
    /// Which delivery of that message, or which assignment of that lane, this was. A stale one is refused.
    pub epoch: u32,
}

/// What a member says of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The work is done. For a log this commits the offset after this one, and so everything before it in the lane.
    Ack,
    /// Not done. `requeue` gives it to somebody again, otherwise it is dropped or dead-lettered.
    Nack {
        /// Whether the message goes back to the lane.
        requeue: bool,
    },
    /// Still at work: the lease is to end this long after `now`.
    Extend(Span),
}

/// One settlement: a token, what it settles, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Completes once.
    pub token: Token,
    /// From the delivery.
    pub receipt: Receipt,
    /// How the delivery ends.
    pub verdict: Verdict,
}

/// Where a seek goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The oldest message that is still kept.
    Earliest,
    /// After the newest message.
    Latest,
    /// This position of the lane.
    Position(u64),
    /// The first message published at or after this time.
    Time(Time),
}

/// What the administrator asks to be made.
///
/// Made from its default, so that what nobody asks for need not be named: `ChannelSpec { name, lanes, groups, ..Default::default() }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The channel's name, unique in the broker.
    pub name: String,
    /// How many lanes it has; at least 1.
    pub lanes: u32,
    /// The consumer groups that will read it, by name; each gets every message. Queue models bind a queue for each.
    pub groups: Vec<String>,
    /// Which messages each group gets; without any, every group gets every message. Refused by a backend without
    /// [`Feature::Routing`](crate::capabilities::Feature::Routing).
    pub bindings: Vec<Binding>,
    /// The channel whose dead letters go to this one. Refused by a backend without
    /// [`Feature::DeadLetters`](crate::capabilities::Feature::DeadLetters).
    pub dead_letters_of: Option<ChannelId>,
}

impl ChannelSpec {
    /// Whether a model can make such a channel and a journal can hold its record: it has a lane, its names are at most
    /// [`NAME_BYTES_MAX`] bytes long, its groups at most [`GROUPS_MAX`], and its bindings are of its groups.
    pub(crate) fn is_in_bounds(&self) -> bool {
        let mut names = std::iter::once(&self.name).chain(&self.groups);
        let bound = |binding: &Binding| self.groups.contains(&binding.group) && binding.pattern.is_in_bounds();
        self.lanes > 0
            && self.groups.len() <= GROUPS_MAX
            && names.all(|name| name.len() <= NAME_BYTES_MAX)
            && self.bindings.len() <= BINDINGS_MAX
            && self.bindings.iter().all(bound)
    }

    /// Whether it asks for nothing but lanes and groups: neither bindings nor another channel's dead letters.
    pub fn is_plain(&self) -> bool {
        self.bindings.is_empty() && self.dead_letters_of.is_none()
    }

    /// Its groups' names, each once, in the order in which they were first named.
    pub(crate) fn distinct_groups(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::with_capacity(self.groups.len());
        for name in &self.groups {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// A step of a producer's transaction: what it publishes and settles between a begin and a commit counts whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// What this producer publishes from now on belongs together. With a group, so does what it settles for the members of that
    /// group, by their receipts: the positions move with the commit.
    Begin {
        /// The group, if it settles.
        group: Option<String>,
        /// A name of 1 to 255 bytes, if it has one (Kafka: `transactional.id`). Who had the name before is fenced: what it has open is taken
        /// back, and what it asks from then on is refused.
        name: Option<String>,
    },
    /// It counts. Done when that is stored as the contract says. Refused as stale, and taken back, when a lane of which it settled something
    /// has gone to another member.
    Commit,
    /// It never was.
    Abort,
}

/// An operation that is not done in bulk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Credit for this many more deliveries. Completes when the last of them was delivered, or the client closes.
    Grant(u32),
    /// Moves this member's position in a lane. Only for a lane that is assigned to it.
    Seek {
        /// The lane.
        lane: LaneId,
        /// Where to.
        to: SeekTo,
    },
    /// Asks for this member's next position in a lane; answered with `Answer::Position`.
    Position(LaneId),
    /// Completes when everything that this client published before is acknowledged or has failed.
    Flush,
    /// Lets go of a revoked lane; everything delivered from it has been dealt with.
    Release(LaneId),
    /// Begins or ends a transaction (producer). Refused by a backend without
    /// [`Feature::Transactions`](crate::capabilities::Feature::Transactions).
    Transaction(Transaction),
    /// Leaves: nothing is delivered afterwards, outstanding operations complete, leases end.
    Close,
    /// Makes a channel (administrator). Done carries the first lane's number as its lane and the channel's number as its position.
    Create(ChannelSpec),
    /// Removes a channel and its data (administrator).
    Delete(ChannelId),
    /// Asks for lag, depth and settings in force (administrator); answered with `Answer::Description`.
    Describe(ChannelId),
    /// Splits a lane in two (administrator): it takes nothing more, and two new lanes share the keys that it took. Done carries the
    /// first new lane's number as its lane; the other's is the next.
    Split {
        /// The lane.
        lane: LaneId,
        /// The first hash of a key that goes to the second new lane, or nothing for the middle.
        at: Option<u128>,
    },
    /// Merges two lanes that take neighbouring keys (administrator): they take nothing more, and a new lane takes the keys of both.
    /// Done carries the new lane's number as its lane.
    Merge {
        /// One lane.
        lane: LaneId,
        /// The other.
        with: LaneId,
    },
}

/// One message, as it is read from a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The publish's token.
    pub token: Token,
    /// Where it goes.
    pub channel: ChannelId,
    /// The key's bytes; empty means no key.
    pub key: &'a [u8],
    /// Encoded headers: a [block](crate::headers) of names and values, of which a model may read those that it knows, or bytes that
    /// are opaque. Carried as they are.
    pub headers: &'a [u8],
    /// The payload's length in bytes, whether or not its bytes are here.
    pub payload_len: u32,
    /// The payload's bytes; empty in a batch of lengths.
    pub payload: &'a [u8],
}

/// Successive messages of a batch, as they stand in it: the bytes of all of them are one stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns<'a> {
    key_lens: &'a [u16],
    header_lens: &'a [u16],
    payload_lens: &'a [u32],
    starts: &'a [u32],
    /// Key, headers and payload of each, back to back; without the payloads in a batch of lengths.
    bytes: &'a [u8],
    has_payloads: bool,
}

impl<'a> Columns<'a> {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Whether the payloads' bytes are here, or only their lengths.
    pub fn has_payloads(&self) -> bool {
        self.has_payloads
    }

    /// The bytes of all of them.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the first `count`.
    pub fn bytes_of(&self, count: usize) -> usize {
        self.starts.get(count).map_or(self.bytes.len(), |&end| (end - self.starts[0]) as usize)
    }

    /// How many from the first on fit into `room` bytes, where each takes `more` bytes beside its own.
    pub fn fitting(&self, room: usize, more: usize) -> usize {
        let (mut fits, mut beyond) = (0, self.len() + 1);
        while beyond - fits > 1 {
            let count = fits.midpoint(beyond);
            if count * more + self.bytes_of(count) <= room {
                fits = count;
            } else {
                beyond = count;
            }
        }
        fits
    }

    /// The first `count`, and the others.
    pub fn split_at(&self, count: usize) -> (Self, Self) {
        let (bytes, rest) = self.bytes.split_at(self.bytes_of(count));
        let part = |from: usize, to: usize, bytes| Self {
            key_lens: &self.key_lens[from..to],
            header_lens: &self.header_lens[from..to],
            payload_lens: &self.payload_lens[from..to],
            starts: &self.starts[from..to],
            bytes,
            has_payloads: self.has_payloads,
        };
        (part(0, count, bytes), part(count, self.len(), rest))
    }

    /// Where each of them stands in an arena into which the bytes were copied, the first one's at `at`.
    pub fn slices(&self, at: u32) -> impl ExactSizeIterator<Item = Slice> + use<'a> {
        let (has_payload, first) = (self.has_payloads, self.starts.first().copied().unwrap_or_default());
        let lens = self.key_lens.iter().zip(self.header_lens).zip(self.payload_lens);
        lens.zip(self.starts).map(move |(((&key_len, &header_len), &payload_len), &start)| Slice {
            at: at + (start - first),
            key_len,
            header_len,
            payload_len,
            has_payload,
        })
    }
}

/// Which messages of a batch make a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Those without a key.
    None,
    /// All.
    Any,
}

/// Successive messages of a batch that nothing tells apart where they are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run<'a> {
    /// Where all of them go.
    pub(crate) channel: ChannelId,
    /// Theirs.
    pub(crate) tokens: &'a [Token],
    /// Bytes of all of them, keys and headers included.
    pub(crate) bytes: u64,
}

/// Publishes by column. Keys, headers and payloads stand back to back in one arena, message after message.
///
/// A batch holds payloads as bytes or as lengths only (in a simulation); keys and headers are always real.
#[derive(Clone, Debug, Default)]
pub struct Publishes {
    tokens: Vec<Token>,
    channels: Vec<ChannelId>,
    key_lens: Vec<u16>,
    header_lens: Vec<u16>,
    payload_lens: Vec<u32>,
    /// Where each message starts in the arena.
    starts: Vec<u32>,
    arena: Vec<u8>,
    lengths_only: bool,
    first: usize,
}

impl Publishes {
    /// An empty batch whose payloads are bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch whose payloads are lengths.
    pub fn of_lengths() -> Self {
        Self { lengths_only: true, ..Self::default() }
    }

    /// How many messages are still in the batch.
    pub fn len(&self) -> usize {
        self.tokens.len() - self.first
    }

    /// Whether all messages were taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether payloads are lengths, without bytes.
    pub fn is_lengths_only(&self) -> bool {
        self.lengths_only
    }

    /// Appends a message; `write` puts the payload after key and headers.
    ///
    /// # Panics
    /// When the arena passes 4 GiB or a key or header 64 KiB: the host bounds both long before.
    pub fn push_with(
        &mut self,
        token: Token,
        channel: ChannelId,
        key: &[u8],
        headers: &[u8],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.open(token, channel, key, headers);
        let body = self.arena.len();
        write(&mut self.arena);
        self.payload_lens.push(u32::try_from(self.arena.len() - body).expect("a payload is below 4 GiB"));
        self.starts.push(start);
    }

    /// Appends a message whose payload is at hand.
    pub fn push(&mut self, token: Token, channel: ChannelId, key: &[u8], headers: &[u8], payload: &[u8]) {
        self.push_with(token, channel, key, headers, |arena| arena.extend_from_slice(payload));
    }

    /// Appends a message whose payload is only a length.
    pub fn push_length(&mut self, token: Token, channel: ChannelId, key: &[u8], headers: &[u8], payload_len: u32) {
        debug_assert!(self.lengths_only, "a batch holds bytes or lengths, never both");
        let start = self.open(token, channel, key, headers);
        self.payload_lens.push(payload_len);
        self.starts.push(start);
    }

    fn open(&mut self, token: Token, channel: ChannelId, key: &[u8], headers: &[u8]) -> u32 {
        let start = u32::try_from(self.arena.len()).expect("an arena is below 4 GiB");
        self.tokens.push(token);
        self.channels.push(channel);
        self.key_lens.push(u16::try_from(key.len()).expect("a key is below 64 KiB"));
        self.header_lens.push(u16::try_from(headers.len()).expect("headers are below 64 KiB"));
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(headers);
        start
    }

    /// The message at `index`, counted from the first that is still in the batch.
    pub fn get(&self, index: usize) -> Message<'_> {
        let at = self.first + index;
        let (key_at, key_len) = (self.starts[at] as usize, self.key_lens[at] as usize);
        let headers_at = key_at + key_len;
        let payload_at = headers_at + self.header_lens[at] as usize;
        let payload_len = self.payload_lens[at];
        let bytes = if self.lengths_only { 0 } else { payload_len as usize };
        Message {
            token: self.tokens[at],
            channel: self.channels[at],
            key: &self.arena[key_at..headers_at],
            headers: &self.arena[headers_at..payload_at],
            payload_len,
            payload: &self.arena[payload_at..payload_at + bytes],
        }
    }

    /// Messages `range`, counted from the first that is still in the batch.
    pub fn columns(&self, range: Range<usize>) -> Columns<'_> {
        let range = self.first + range.start..self.first + range.end;
        let place = |at| self.starts.get(at).map_or(self.arena.len(), |&start| start as usize);
        Columns {
            key_lens: &self.key_lens[range.clone()],
            header_lens: &self.header_lens[range.clone()],
            payload_lens: &self.payload_lens[range.clone()],
            starts: &self.starts[range.clone()],
            bytes: &self.arena[place(range.start)..place(range.end)],
            has_payloads: !self.lengths_only,
        }
    }

    /// The channel of the message at `index`.
    #[inline]
    pub(crate) fn channel(&self, index: usize) -> ChannelId {
        self.channels[self.first + index]
    }

    /// The messages at the beginning of `range`, counted from the first that is still in the batch, that go to one channel, have the
    /// keys that are asked for and are at most `max_bytes` long; none, when the first is no such message.
    pub(crate) fn run(&self, range: Range<usize>, max_bytes: u32, keys: Keys) -> Option<Run<'_>> {
        let range = self.first + range.start..self.first + range.end;
        let channel = *self.channels[range.clone()].first()?;
        let lens = self.header_lens[range.clone()].iter().zip(&self.payload_lens[range.clone()]);
        let places = self.key_lens[range.clone()].iter().zip(&self.channels[range.clone()]);
        let (mut count, mut bytes) = (0, 0);
        for ((&headers, &payload), (&key, &to)) in lens.zip(places) {
            let len = u64::from(key) + u64::from(headers) + u64::from(payload);
            if (key > 0 && keys == Keys::None) || to != channel || len > u64::from(max_bytes) {
                break;
            }
            count += 1;
            bytes += len;
        }
        let tokens = &self.tokens[range.start..range.start + count];
        (count > 0).then_some(Run { channel, tokens, bytes })
    }

    /// Whether the message at `index` has a key.
    #[inline]
    pub(crate) fn has_key(&self, index: usize) -> bool {
        self.key_lens[self.first + index] > 0
    }

    /// Whether one of the first `count` messages that are still in the batch has headers of at least `bytes`.
    pub(crate) fn has_headers_from(&self, count: usize, bytes: u16) -> bool {
        // Without a way out in the middle: a few instructions for many messages.
        self.header_lens[self.first..self.first + count].iter().fold(0, |most, &len| len.max(most)) >= bytes
    }

    /// Bytes of all keys, headers and payloads that are still in the batch; without the payloads where those are lengths.
    pub fn bytes(&self) -> usize {
        self.starts.get(self.first).map_or(0, |&start| self.arena.len() - start as usize)
    }

    /// The payload at `index`, to write a new actual start into its stamp when the message is offered again.
    pub fn payload_mut(&mut self, index: usize) -> &mut [u8] {
        let at = self.first + index;
        let start = self.starts[at] as usize + self.key_lens[at] as usize + self.header_lens[at] as usize;
        let bytes = if self.lengths_only { 0 } else { self.payload_lens[at] as usize };
        &mut self.arena[start..start + bytes]
    }

    /// The messages that are still in the batch, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// A copy of the first `len` messages.
    pub fn prefix(&self, len: usize) -> Self {
        let mut prefix = Self { lengths_only: self.lengths_only, ..Self::default() };
        for message in self.iter().take(len) {
            if self.lengths_only {
                let Message { token, channel, key, headers, payload_len, .. } = message;
                prefix.push_length(token, channel, key, headers, payload_len);
            } else {
                prefix.push(message.token, message.channel, message.key, message.headers, message.payload);
            }
        }
        prefix
    }

    /// Drops the first `taken` messages and keeps the memory for others. What is left moves to the front once that is less than what was
    /// dropped, so that a batch that is always filled up again before it is empty does not grow.
    pub fn advance(&mut self, taken: usize) {
        debug_assert!(taken <= self.len(), "a broker took more than there was");
        self.first += taken;
        if self.is_empty() {
            self.clear();
        } else if self.first > self.len() {
            self.move_to_front();
        }
    }

    fn move_to_front(&mut self) {
        let first = std::mem::take(&mut self.first);
        let from = self.starts[first];
        self.tokens.drain(..first);
        self.channels.drain(..first);
        self.key_lens.drain(..first);
        self.header_lens.drain(..first);
        self.payload_lens.drain(..first);
        self.starts.drain(..first);
        self.arena.drain(..from as usize);
        for start in &mut self.starts {
            *start -= from;
        }
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.channels.clear();
        self.key_lens.clear();
        self.header_lens.clear();
        self.payload_lens.clear();
        self.starts.clear();
        self.arena.clear();
        self.first = 0;
    }
}

/// A batch of one kind of operation. `submit` takes a prefix; the rest stays with the caller, who offers it again.
#[derive(Clone, Debug)]
pub enum Batch {
    /// Messages to publish.
    Publish(Publishes),
    /// Deliveries to settle.
    Settle(Vec<Settlement>),
    /// Everything else, in order.
    Control(Vec<(Token, Control)>),
}

impl Batch {
    /// How many operations are still in the batch.
    pub fn len(&self) -> usize {
        match self {
            Self::Publish(publishes) => publishes.len(),
            Self::Settle(settlements) => settlements.len(),
            Self::Control(controls) => controls.len(),
        }
    }

    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the first `taken` operations.
    pub fn advance(&mut self, taken: usize) {
        match self {
            Self::Publish(publishes) => publishes.advance(taken),
            Self::Settle(settlements) => {
                settlements.drain(..taken);
            }
            Self::Control(controls) => {
                controls.drain(..taken);
            }
        }
    }
}

/// Why `submit` took less than it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// As many operations are in flight as the client may have.
    #[error("the window of operations in flight is full")]
    Window,
    /// The backend holds as much as `max_memory` allows.
    #[error("max_memory is reached")]
    Memory,
    /// The backend has stored as much as `max_data` allows.
    #[error("max_data is reached")]
    Data,
    /// A token bucket is empty; the lane's order would break if the next message overtook.
    #[error("the lane's rate limit is reached")]
    RateLimit,
    /// There is no connection at the moment.
    #[error("disconnected")]
    Disconnected,
    /// The broker itself holds the client back (a memory or disk alarm).
    #[error("the broker blocks the connection")]
    Broker,
    /// No receiver has room, and the caller waits for one rather than be rejected.
    #[error("every receiver's service queue is full")]
    Receivers,
    /// The storage failed: nothing is taken again, and [`Broker::stopped`](crate::Broker::stopped) says why.
    #[error("the storage failed, nothing more is taken")]
    Storage,
}

/// What `submit` took. The batch has been advanced by `taken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not taken is still due"]
pub struct Accepted {
    /// How many operations were taken, from the front.
    pub taken: usize,
    /// Why not all, if not all.
    pub blocked: Option<Blocked>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_and_the_rest_is_offered_again() {
        let mut batch = Publishes::new();
        for n in 0..3u8 {
            batch.push(Token(n.into()), ChannelId(0), &[b'k', n], b"h", &[n; 5]);
        }
        batch.advance(1);
        assert_eq!(batch.len(), 2);
        let message = batch.get(0);
        assert_eq!((message.token, message.key, message.headers), (Token(1), &[b'k', 1][..], &b"h"[..]));
        assert_eq!(message.payload, &[1; 5]);
        batch.payload_mut(0)[0] = 9;
        assert_eq!(batch.get(0).payload, &[9, 1, 1, 1, 1]);
        batch.advance(2);
        assert!(batch.is_empty());
        batch.push(Token(7), ChannelId(1), b"", b"", b"x");
        assert_eq!(batch.get(0).token, Token(7));
    }

    #[test]
    fn columns_are_the_messages_of_a_range_wherever_it_is_split() {
        let mut batch = Publishes::new();
        for n in 0..6u8 {
            let key = [b'k'; 5];
            batch.push(Token(n.into()), ChannelId(0), &key[..n as usize % 3], b"hh", &[n; 9][..n as usize]);
        }
        batch.advance(1);
        for (range, at) in [(0..5, 3), (1..4, 0), (2..3, 1), (4..5, 1), (1..1, 0)] {
            let whole = batch.columns(range.clone());
            let (first, second) = whole.split_at(at);
            let fits = |count: usize| {
                (0..range.len()).take(count).map(|n| 3 + whole.bytes_of(n + 1) - whole.bytes_of(n)).sum::<usize>()
            };
            for room in 0..100 {
                let most = (0..=range.len()).rev().find(|&count| fits(count) <= room);
                assert_eq!(Some(whole.fitting(room, 3)), most);
            }
            let parts = [(first, range.start), (second, range.start + at)];
            assert_eq!((first.len() + second.len(), whole.len()), (range.len(), range.len()));
            assert_eq!([first.bytes(), second.bytes()].concat(), whole.bytes());
            for (part, from) in parts {
                for (index, slice) in part.slices(100).enumerate() {
                    let Message { key, headers, payload, payload_len, .. } = batch.get(from + index);
                    let body = &part.bytes()[slice.at as usize - 100..];
                    let lens =
                        (slice.key_len as usize, slice.header_len as usize, slice.payload_len, slice.has_payload);
                    assert_eq!(lens, (key.len(), headers.len(), payload_len, true));
                    assert!(body.starts_with(&[key, headers, payload].concat()), "{from} + {index} of {range:?}");
                }
            }
        }
    }

    #[test]
    fn a_batch_that_is_never_empty_does_not_grow() {
        let mut batch = Publishes::new();
        let (mut pushed, mut taken) = (0_u64, 0_u64);
        for round in 0..10_000_u64 {
            while batch.len() < 100 {
                let payload = [pushed as u8; 64];
                batch.push(
                    Token(pushed),
                    ChannelId(pushed as u32),
                    &pushed.to_be_bytes(),
                    b"h",
                    &payload[..=pushed as usize % 64],
                );
                pushed += 1;
            }
            let take = 1 + round % 97;
            batch.advance(take as usize);
            taken += take;
            for (index, message) in batch.iter().enumerate() {
                let n = taken + index as u64;
                assert_eq!(
                    (message.token, message.channel, message.key),
                    (Token(n), ChannelId(n as u32), &n.to_be_bytes()[..])
                );
                assert_eq!((message.headers, message.payload), (&b"h"[..], &[n as u8; 64][..=n as usize % 64]));
            }
        }
        assert!(pushed > 400_000);
        // Twice what is left, and what a vector keeps over: 200 messages of 73 bytes at most.
        assert!(batch.arena.capacity() <= 4 * 100 * 73, "{}", batch.arena.capacity());
        assert!(batch.tokens.capacity() <= 4 * 100 && batch.starts.capacity() <= 4 * 100);
    }

    #[test]
    fn a_batch_of_lengths_has_keys_but_no_payload_bytes() {
        let mut batch = Publishes::of_lengths();
        batch.push_length(Token(0), ChannelId(0), b"key", b"", 1_000_000);
        let message = batch.get(0);
        assert_eq!((message.key, message.payload_len, message.payload.len()), (&b"key"[..], 1_000_000, 0));
    }
}
