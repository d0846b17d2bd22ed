//! What a broker answers: outcomes, deliveries, answers and uninvited events, collected in a buffer of the caller's.
//!
//! Leaves out what was asked, which is in [`batch`](crate::batch).

use std::ops::{AddAssign, Range};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{ChannelId, LaneId, Receipt, Token};

/// How one operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done, as the contract says.
    Done,
    /// The broker will not do it; asking again would not help.
    Refused(Refusal),
    /// Over a rate limit; the same again later may succeed.
    Throttled,
    /// It was tried and did not happen; the same again may succeed.
    Failed(Failure),
    /// Asked, and never answered: it may have happened or not.
    Unknown,
}

/// Why a broker refuses an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The model has no such operation.
    #[error("the backend does not have this operation; `brokerlab backends` lists what it has")]
    Unsupported,
    /// No such channel or lane.
    #[error("there is no such channel or lane; create it first")]
    NoSuchLane,
    /// The lane is assigned to somebody else.
    #[error("the lane is not assigned to this member")]
    NotAssigned,
    /// The receipt belongs to a lease that is over, or was settled before.
    #[error("the receipt is stale: its lease is over or it was settled before")]
    StaleReceipt,
    /// The position is before the oldest message kept or after the newest.
    #[error("the position is out of range")]
    OutOfRange,
    /// The message is larger than the backend takes.
    #[error("the message is larger than the backend's limit")]
    TooLarge,
    /// A channel of that name exists.
    #[error("a channel of that name exists already")]
    Exists,
    /// It does not fit the producer's transaction.
    #[error(
        "there is no open transaction, or one already, or it was taken back; end the one that there is and begin another"
    )]
    Transaction,
    /// The message's sequence is not its producer's next (Kafka: `OUT_OF_ORDER_SEQUENCE_NUMBER`), or it repeats one that is no longer
    /// remembered (`DUPLICATE_SEQUENCE_NUMBER`).
    #[error(
        "the message is not its producer's next: one before it is missing, or it is too old to be known; go on with the sequence \
         after the last acknowledged one, or from 0 under a higher epoch"
    )]
    OutOfSequence,
    /// Another instance of this producer, with a higher epoch or the same transactional name, took its place (Kafka:
    /// `PRODUCER_FENCED`).
    #[error("another producer has taken this one's name; close this one")]
    Fenced,
    /// This client may not do it: only the administrator creates, only producers publish, only members are granted.
    #[error("this operation is not one of this client's role")]
    WrongRole,
    /// The client is closed or was never connected.
    #[error("the client is closed")]
    Closed,
    /// No group is bound to such a message: nobody would get it, and it is not stored (AMQP 0-9-1: a mandatory message comes back).
    #[error("no group is bound to what the message's routing key and headers say; bind one, or leave the bindings out")]
    Unroutable,
    /// It has no key, and of a log that is compacted each message needs one (Kafka: `INVALID_RECORD`).
    #[error(
        "a compacted log keeps the latest message of each key, and this one has none; give it a key, or use cleanup=delete"
    )]
    NoKey,
    /// Over all channels it would have more lanes, or more places of groups in them, than it takes.
    #[error(
        "over all channels the backend takes fewer lanes, or fewer groups times lanes; ask for fewer lanes or groups, or for a higher quota \
         where the backend has one"
    )]
    TooManyLanes,
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No answer within the timeout, after the stated retries.
    #[error("timed out")]
    Timeout,
    /// No receiver is up.
    #[error("no receiver is up")]
    NoReceiver,
    /// The receiver's queue is full.
    #[error("the receiver is overloaded")]
    Overloaded,
    /// The circuit breaker is open: nothing was sent.
    #[error("the circuit breaker is open")]
    CircuitOpen,
    /// The storage below failed.
    #[error("storage failed")]
    Storage,
    /// The connection was lost before it was sent.
    #[error("disconnected")]
    Disconnected,
}

/// How one operation of the client ended, per message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The operation's token.
    pub token: Token,
    /// How it ended.
    pub status: Status,
    /// For a publish that is done, where the message is.
    pub lane: LaneId,
    /// For a publish that is done, the message's position there (offset, sequence number).
    pub position: u64,
}

/// One message delivered against a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// For settling it.
    pub receipt: Receipt,
    /// Where it was published to.
    pub channel: ChannelId,
    /// How many times it was delivered to this group before; 0 the first time. A log counts a replay after a seek as 1.
    pub redeliveries: u16,
    /// The key's bytes.
    pub key: &'a [u8],
    /// Encoded headers.
    pub headers: &'a [u8],
    /// The payload's length in bytes.
    pub payload_len: u32,
    /// The payload's bytes; empty where the world carries lengths only.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct DeliveryRow {
    receipt: Receipt,
    channel: ChannelId,
    redeliveries: u16,
    key_len: u16,
    header_len: u16,
    /// The bytes between the key's end and the payload, or [`LENGTH_ONLY`], or [`RUN`].
    payload_gap: u8,
    /// The bytes between the payload's end and the headers, or [`BEFORE_PAYLOAD`].
    headers_gap: u8,
    payload_len: u32,
    chunk: u32,
    at: u32,
}

impl DeliveryRow {
    fn count(&self) -> u32 {
        if self.payload_gap == RUN { self.payload_len } else { 1 }
    }
}

/// A row's payload is only a length.
const LENGTH_ONLY: u8 = u8::MAX;
/// A row stands for `payload_len` messages that its arena's table has from `at` on.
const RUN: u8 = u8::MAX - 1;
/// A row's headers stand between its key and its payload, without a gap.
const BEFORE_PAYLOAD: u8 = u8::MAX;

/// Where a delivered message's parts stand in a shared arena: the key, then the payload, then the headers, with the few bytes of
/// somebody's format between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Where the key begins.
    pub key_at: u32,
    /// The key's length in bytes.
    pub key_len: u16,
    /// Where the payload begins.
    pub payload_at: u32,
    /// The payload's length in bytes.
    pub payload_len: u32,
    /// Where the headers begin.
    pub headers_at: u32,
    /// Their length in bytes.
    pub header_len: u16,
}

/// Where a delivered message's bytes stand in a shared arena: key, headers and payload, back to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Where the key begins.
    pub at: u32,
    /// The key's length in bytes.
    pub key_len: u16,
    /// The headers' length in bytes.
    pub header_len: u16,
    /// The payload's length in bytes.
    pub payload_len: u32,
    /// Whether the payload's bytes stand there too, or only its length is known.
    pub has_payload: bool,
}

/// An arena, with a table of its messages where runs of them are delivered.
#[derive(Clone, Debug)]
struct Chunk {
    bytes: Bytes,
    table: Option<Arc<[Slice]>>,
}

impl Chunk {
    fn is(&self, bytes: &Bytes, table: Option<&Arc<[Slice]>>) -> bool {
        let same_bytes = self.bytes.as_ptr() == bytes.as_ptr() && self.bytes.len() == bytes.len();
        same_bytes && self.table.as_ref().map(Arc::as_ptr) == table.map(Arc::as_ptr)
    }
}

/// Deliveries as slices of shared arenas. Successive messages of a lane that stand in one arena are one row, whoever else is given them
/// too.
#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    rows: Vec<DeliveryRow>,
    chunks: Vec<Chunk>,
    /// Messages of all rows.
    len: usize,
}

impl Deliveries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a delivery whose bytes are a slice of `arena`. Successive slices of one arena share one reference to it.
    pub fn push(&mut self, receipt: Receipt, channel: ChannelId, redeliveries: u16, arena: &Bytes, slice: Slice) {
        let chunk = self.chunk(arena, None);
        self.len += 1;
        self.rows.push(DeliveryRow {
            receipt,
            channel,
            redeliveries,
            key_len: slice.key_len,
            header_len: slice.header_len,
            payload_gap: if slice.has_payload { 0 } else { LENGTH_ONLY },
            headers_gap: BEFORE_PAYLOAD,
            payload_len: slice.payload_len,
            chunk,
            at: slice.at,
        });
    }

    /// Adds deliveries of successive positions from `receipt.position` on: their bytes are `table[messages]` of `arena`.
    pub fn push_run(
        &mut self,
        receipt: Receipt,
        channel: ChannelId,
        redeliveries: u16,
        arena: &Bytes,
        table: &Arc<[Slice]>,
        messages: Range<u32>,
    ) {
        if messages.len() == 1 {
            let slice = table[messages.start as usize];
            return self.push(receipt, channel, redeliveries, arena, slice);
        }
        debug_assert!(messages.end as usize <= table.len(), "the table holds the run");
        let chunk = self.chunk(arena, Some(table));
        self.len += messages.len();
        self.rows.push(DeliveryRow {
            receipt,
            channel,
            redeliveries,
            key_len: 0,
            header_len: 0,
            payload_gap: RUN,
            headers_gap: 0,
            payload_len: messages.len() as u32,
            chunk,
            at: messages.start,
        });
    }

    /// Adds a delivery whose parts stand apart in `arena`, as a broker's own format has them.
    ///
    /// # Panics
    /// When there are 254 bytes or more between two parts that are not empty: no format has that many.
    pub fn push_parts(&mut self, receipt: Receipt, channel: ChannelId, redeliveries: u16, arena: &Bytes, parts: Parts) {
        let gap = |from: u32, to: u32| {
            let gap = to.checked_sub(from).and_then(|gap| u8::try_from(gap).ok()).filter(|gap| *gap < RUN);
            gap.expect("parts stand in order and close together")
        };
        let chunk = self.chunk(arena, None);
        let (at, payload_gap) = if parts.key_len == 0 {
            (parts.payload_at, 0)
        } else {
            (parts.key_at, gap(parts.key_at + u32::from(parts.key_len), parts.payload_at))
        };
        let payload_end = parts.payload_at + parts.payload_len;
        self.len += 1;
        self.rows.push(DeliveryRow {
            receipt,
            channel,
            redeliveries,
            key_len: parts.key_len,
            header_len: parts.header_len,
            payload_gap,
            headers_gap: if parts.header_len == 0 { 0 } else { gap(payload_end, parts.headers_at) },
            payload_len: parts.payload_len,
            chunk,
            at,
        });
    }

    /// The number of an arena; successive deliveries of one share it.
    fn chunk(&mut self, arena: &Bytes, table: Option<&Arc<[Slice]>>) -> u32 {
        if !self.chunks.last().is_some_and(|last| last.is(arena, table)) {
            self.chunks.push(Chunk { bytes: arena.clone(), table: table.cloned() });
        }
        u32::try_from(self.chunks.len() - 1).expect("a poll returns fewer than 2^32 arenas")
    }

    /// Message `within` of a row.
    #[inline]
    fn message(&self, row: &DeliveryRow, within: u32) -> Delivery<'_> {
        let Chunk { bytes: chunk, table } = &self.chunks[row.chunk as usize];
        if let (RUN, Some(table)) = (row.payload_gap, table) {
            let Slice { at, key_len, header_len, payload_len, has_payload } = table[(row.at + within) as usize];
            let headers_at = at as usize + key_len as usize;
            let payload_at = headers_at + header_len as usize;
            let payload_end = payload_at + if has_payload { payload_len as usize } else { 0 };
            return Delivery {
                receipt: Receipt { position: row.receipt.position + u64::from(within), ..row.receipt },
                channel: row.channel,
                redeliveries: row.redeliveries,
                key: &chunk[at as usize..headers_at],
                headers: &chunk[headers_at..payload_at],
                payload_len,
                payload: &chunk[payload_at..payload_end],
            };
        }
        let key_at = row.at as usize;
        let key_end = key_at + row.key_len as usize;
        let (bytes, gap) = match row.payload_gap {
            LENGTH_ONLY => (0, 0),
            gap => (row.payload_len as usize, gap as usize),
        };
        let (headers_at, payload_at) = match row.headers_gap {
            BEFORE_PAYLOAD => (key_end, key_end + row.header_len as usize),
            after => (key_end + gap + bytes + after as usize, key_end + gap),
        };
        Delivery {
            receipt: row.receipt,
            channel: row.channel,
            redeliveries: row.redeliveries,
            key: &chunk[key_at..key_end],
            headers: &chunk[headers_at..headers_at + row.header_len as usize],
            payload_len: row.payload_len,
            payload: &chunk[payload_at..payload_at + bytes],
        }
    }

    /// All of them, in the order in which the broker delivered them.
    pub fn iter(&self) -> DeliveryIter<'_> {
        DeliveryIter { deliveries: self, row: 0, within: 0, left: self.len }
    }

    /// Those from `range.start` to `range.end`, in the order in which the broker delivered them.
    pub fn range(&self, range: Range<usize>) -> DeliveryIter<'_> {
        debug_assert!(range.end <= self.len, "a range of what there is");
        let (mut row, mut before) = (0, range.start);
        if self.len == self.rows.len() {
            (row, before) = (range.start, 0);
        }
        while let Some(count) = self.rows.get(row).map(DeliveryRow::count)
            && before >= count as usize
        {
            before -= count as usize;
            row += 1;
        }
        DeliveryIter { deliveries: self, row, within: before as u32, left: range.len() }
    }

    /// The delivery at `index`.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn get(&self, index: usize) -> Delivery<'_> {
        self.range(index..index + 1).next().expect("an index below the length")
    }

    /// The first receipt of each run of successive positions, and how many messages it stands for.
    pub fn runs(&self) -> impl Iterator<Item = (Receipt, u32)> + '_ {
        self.rows.iter().map(|row| (row.receipt, row.count()))
    }

    /// Moves everything from `other` to the end of this.
    pub fn append(&mut self, other: &mut Self) {
        let shift = u32::try_from(self.chunks.len()).expect("a poll returns fewer than 2^32 arenas");
        self.chunks.append(&mut other.chunks);
        self.rows.extend(other.rows.drain(..).map(|row| DeliveryRow { chunk: row.chunk + shift, ..row }));
        self.len += std::mem::take(&mut other.len);
    }

    /// Lets go of the arenas and keeps the columns' memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.chunks.clear();
        self.len = 0;
    }
}

impl<'a> IntoIterator for &'a Deliveries {
    type Item = Delivery<'a>;
    type IntoIter = DeliveryIter<'a>;

    fn into_iter(self) -> DeliveryIter<'a> {
        self.iter()
    }
}

/// Deliveries one by one.
#[derive(Clone, Debug)]
pub struct DeliveryIter<'a> {
    deliveries: &'a Deliveries,
    row: usize,
    within: u32,
    left: usize,
}

impl<'a> Iterator for DeliveryIter<'a> {
    type Item = Delivery<'a>;

    #[inline]
    fn next(&mut self) -> Option<Delivery<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let row = &self.deliveries.rows[self.row];
        let within = self.within;
        self.within += 1;
        if self.within == row.count() {
            self.row += 1;
            self.within = 0;
        }
        Some(self.deliveries.message(row, within))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for DeliveryIter<'_> {}

/// What happens uninvited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The member now reads this lane, from this position.
    LaneAssigned {
        /// The lane.
        lane: LaneId,
        /// Where reading starts.
        position: u64,
    },
    /// The lane is to go to somebody else; it is held until the host releases it.
    LaneRevoked(LaneId),
    /// The lane is gone without waiting: the session or lease ended.
    LaneLost(LaneId),
    /// The broker holds this client back.
    Blocked,
    /// It does so no longer.
    Unblocked,
    /// The connection is gone; what was in flight comes back as unknown or failed.
    Disconnected,
    /// The connection is back.
    Reconnected,
}

/// A lane as the administrator sees it, for one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneState {
    /// The lane.
    pub lane: LaneId,
    /// The group's place in the channel's list of groups.
    pub group: u32,
    /// The next position to be written.
    pub end: u64,
    /// The group's committed position (log, shard), or the oldest message that is not settled (queue, direct).
    pub committed: u64,
    /// Messages kept for the group and not yet delivered to it: lag, or depth.
    pub ready: u64,
    /// Messages delivered and not settled.
    pub in_flight: u64,
    /// Messages that will not be delivered any more though no member has dealt with them.
    pub given_up: GivenUp,
}

/// Messages that a queue gave up for one group, by reason. All zero where a model gives nothing up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// A member said so: a negative settlement without requeue.
    pub rejected: u64,
    /// They came back after as many deliveries as are allowed.
    pub exhausted: u64,
    /// Their time to live was over while they waited.
    pub expired: u64,
    /// They stood at the head of a queue that was full.
    pub overflowed: u64,
    /// Of the expired, those that the group was never given.
    pub expired_unseen: u64,
    /// Of the overflowed, those that the group was never given.
    pub overflowed_unseen: u64,
    /// Of all, those that are kept as dead letters.
    pub dead_lettered: u64,
}

impl GivenUp {
    /// All of them, whatever the reason.
    pub fn total(&self) -> u64 {
        self.rejected + self.exhausted + self.expired + self.overflowed
    }
}

impl AddAssign for GivenUp {
    fn add_assign(&mut self, other: Self) {
        self.rejected += other.rejected;
        self.exhausted += other.exhausted;
        self.expired += other.expired;
        self.overflowed += other.overflowed;
        self.expired_unseen += other.expired_unseen;
        self.overflowed_unseen += other.overflowed_unseen;
        self.dead_lettered += other.dead_lettered;
    }
}

/// What `Describe` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Each lane × group, in that order.
    pub lanes: Vec<LaneState>,
    /// Settings in force, by their own names.
    pub settings: Vec<(String, String)>,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The next position that this member would read in the lane.
    Position {
        /// The lane.
        lane: LaneId,
        /// Its next position.
        position: u64,
    },
    /// A channel's state.
    Description(Description),
}

/// The caller's buffer for everything that `poll` returns. Reused from poll to poll.
#[derive(Clone, Debug, Default)]
pub struct Completions {
    /// Operations that ended.
    pub outcomes: Vec<Outcome>,
    /// Messages delivered.
    pub deliveries: Deliveries,
    /// Answers to questions; a question's token comes here or, if it was refused, in `outcomes`.
    pub answers: Vec<(Token, Answer)>,
    /// What happened uninvited, in order.
    pub events: Vec<Event>,
}

impl Completions {
    /// Whether nothing came back.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.deliveries.is_empty() && self.answers.is_empty() && self.events.is_empty()
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.outcomes.clear();
        self.deliveries.clear();
        self.answers.clear();
        self.events.clear();
    }

    /// Moves everything from `other` to the end of this.
    pub fn append(&mut self, other: &mut Self) {
        self.outcomes.append(&mut other.outcomes);
        self.deliveries.append(&mut other.deliveries);
        self.answers.append(&mut other.answers);
        self.events.append(&mut other.events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_stand_apart_are_delivered_like_any() {
        let arena = Bytes::from_static(b"_k1.payload--headers__payload");
        let parts = Parts { key_at: 1, key_len: 2, payload_at: 4, payload_len: 7, headers_at: 13, header_len: 7 };
        let bare = Parts { key_at: 0, key_len: 0, payload_at: 22, payload_len: 7, headers_at: 0, header_len: 0 };
        let mut deliveries = Deliveries::default();
        deliveries.push_parts(Receipt::default(), ChannelId(0), 0, &arena, parts);
        deliveries.push_parts(Receipt::default(), ChannelId(0), 0, &arena, bare);
        let seen: Vec<_> = deliveries.iter().map(|d| [d.key, d.headers, d.payload].map(<[u8]>::to_vec)).collect();
        assert_eq!(seen[0], [&b"k1"[..], b"headers", b"payload"]);
        assert_eq!(seen[1], [&b""[..], b"", b"payload"]);
        assert_eq!(deliveries.chunks.len(), 1);
        assert_eq!(size_of::<DeliveryRow>(), 40, "a row is written for every message");
    }

    #[test]
    fn a_run_is_one_row_and_read_as_its_messages() {
        let arena = Bytes::from_static(b"k1one.k2twok3three");
        let slice = |at, payload_len| Slice { at, key_len: 2, header_len: 0, payload_len, has_payload: true };
        let table: Arc<[Slice]> = Arc::from([slice(0, 3), slice(6, 3), slice(11, 5)]);
        let at = |position| Receipt { position, ..Receipt::default() };
        let mut deliveries = Deliveries::default();
        deliveries.push_run(at(7), ChannelId(0), 0, &arena, &table, 1..3);
        deliveries.push_run(at(5), ChannelId(0), 1, &arena, &table, 0..1);
        let mut more = deliveries.clone();
        deliveries.append(&mut more);
        assert_eq!((deliveries.len(), deliveries.rows.len(), more.len()), (6, 4, 0));
        let seen = |from, to| -> Vec<(u64, Vec<u8>)> {
            deliveries.range(from..to).map(|d| (d.receipt.position, d.payload.to_vec())).collect()
        };
        let once = [(7, b"two".to_vec()), (8, b"three".to_vec()), (5, b"one".to_vec())];
        assert_eq!(seen(0, 6), [once.clone(), once.clone()].concat());
        assert_eq!((seen(1, 4), seen(6, 6)), ([once.clone(), once.clone()].concat()[1..4].to_vec(), vec![]));
        assert_eq!(deliveries.get(4).payload, b"three");
        let runs: Vec<(u64, u32)> = deliveries.runs().map(|(receipt, count)| (receipt.position, count)).collect();
        assert_eq!(runs, [(7, 2), (5, 1), (7, 2), (5, 1)]);
    }

    #[test]
    fn deliveries_share_an_arena_and_survive_being_moved() {
        let arena = Bytes::from_static(b"k1payload-1k2payload-2");
        let slice = |at| Slice { at, key_len: 2, header_len: 0, payload_len: 9, has_payload: true };
        let mut first = Deliveries::default();
        first.push(Receipt::default(), ChannelId(0), 0, &arena, slice(0));
        let mut all = Deliveries::default();
        all.push(
            Receipt::default(),
            ChannelId(0),
            1,
            &Bytes::from_static(b"zzother"),
            Slice { payload_len: 5, ..slice(0) },
        );
        first.push(Receipt::default(), ChannelId(0), 0, &arena, slice(11));
        assert_eq!(first.chunks.len(), 1);
        all.append(&mut first);
        let seen: Vec<_> = all.iter().map(|d| (d.key.to_vec(), d.payload.to_vec())).collect();
        assert_eq!(
            seen,
            [
                (b"zz".to_vec(), b"other".to_vec()),
                (b"k1".to_vec(), b"payload-1".to_vec()),
                (b"k2".to_vec(), b"payload-2".to_vec())
            ]
        );
    }
}
