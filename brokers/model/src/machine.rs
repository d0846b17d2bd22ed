//! What every model is: a single-owner state machine that takes a command and states the work that follows.
//!
//! Effects state work, not time: "append these bytes", "store up to here". The embedded host performs them on files, the
//! simulator prices them. Leaves out payloads: a model sees lengths and keys, never a payload's bytes.

use crate::batch::{Accepted, ChannelId, ChannelSpec, Control, LaneId, Publishes, Receipt, Settlement, Token};
use crate::binding::Binding;
use crate::broker::{ClientSpec, ConnectError};
use crate::capabilities::{Capabilities, Settings, Tally, Unsupported};
use crate::completion::{Answer, Event, Failure};
use crate::contract::Contract;
use crate::death::Death;
use crate::journal::{Journal, JournalError};
use crate::outcomes::Outcomes;
use crate::time::{Span, Time};

/// A messaging model. Single-owner: parallelism and placement belong to the host.
///
/// Every operation's token appears exactly once in the effects' outcomes or answers, at once or after a later step.
pub trait Model: Send {
    /// What the model is and can do.
    fn capabilities(&self) -> &Capabilities;

    /// The settings by which the model keeps `contract`, or what is missing.
    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported>;

    /// What it has counted of its own so far, in the words of its model: tries, connections. Nothing by default.
    fn tallies(&self) -> Vec<Tally> {
        Vec::new()
    }

    /// A client arrives. Joining a group may move lanes.
    fn connect(&mut self, now: Time, client: &ClientSpec, out: &mut Effects) -> Result<(), ConnectError>;

    /// Takes a prefix of `batch` (and does not advance it: the host still needs the bytes for the writes).
    fn publish(&mut self, now: Time, client: u32, batch: &Publishes, out: &mut Effects) -> Accepted;

    /// Ends deliveries.
    fn settle(&mut self, now: Time, client: u32, settlements: &[Settlement], out: &mut Effects);

    /// Everything that is not done in bulk.
    fn control(&mut self, now: Time, client: u32, token: Token, control: &Control, out: &mut Effects);

    /// The storage has no room for what is published at `now`: what could free some soon is to be done without waiting for more of it.
    fn press(&mut self, now: Time) {
        let _ = now;
    }

    /// `client` was there at `now` and had nothing to ask. A sign of life for a member with a session; else of no consequence.
    fn heard(&mut self, now: Time, client: u32, out: &mut Effects) {
        let _ = (now, client, out);
    }

    /// How long a member may be silent before its lanes go to others; `None` when for ever. Whoever hosts the model sees to it that
    /// [`heard`](Self::heard) is called a few times in that span for every member that is polled.
    fn session_timeout(&self) -> Option<Span> {
        None
    }

    /// Everything up to and including the barrier `ticket` is stored as the contract says, or storage failed. Tickets come in
    /// order, and one call may cover several.
    fn stored(&mut self, now: Time, ticket: u64, result: Result<(), Failure>, out: &mut Effects);

    /// The earliest time at which the model has something to do by itself. O(1).
    fn next_deadline(&self) -> Option<Time>;

    /// Does what is due at `now`. Harmless when early, complete when late.
    fn on_deadline(&mut self, now: Time, out: &mut Effects);

    /// Whether a delivery settles what it hands out, by a write of the same step: at-most-once. Then whoever hands deliveries out does so
    /// only once the writes before them are stored, or a crash in between would have them come again.
    fn commits_first(&self) -> bool;

    /// Whether a restart has to know what messages said of themselves: [`Journal::keep_said`] is called before the journal is told.
    fn reads_headers(&self) -> bool {
        false
    }

    /// How many sequences of a producer a restart has to know, where publishes have identities: [`Journal::keep_named`] is called with it
    /// before the journal is told.
    fn reads_identities(&self) -> Option<u64> {
        None
    }

    /// Whether a restart has to know every message's key: [`Journal::keep_keys`] is called before the journal is told.
    fn compacts(&self) -> bool {
        false
    }

    /// Takes over what `journal` holds. Called once on a fresh model, before any client connects; `now` is not before the latest time
    /// in the journal, and time goes on from there. What follows is only trims of what nobody needs.
    ///
    /// Whatever the journal holds counts as stored, whether or not its publish was ever answered. Positions that were given out
    /// and are not in the journal are never given out again. A group of a log or shard stream goes on at its committed position; a
    /// message of a queue or a service that is not settled is ready again; what the journal says is settled never comes again.
    ///
    /// The journal does not say what was delivered, so each message that comes from it and is not settled *may* have been:
    /// it counts as delivered once before. Where a delivery [commits first](Self::commits_first) it can't have been, and does not.
    fn restore(&mut self, now: Time, journal: &Journal, out: &mut Effects) -> Result<(), JournalError>;
}

/// A piece of work for the storage below. To be performed in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Append successive messages of the publish batch in hand to `lane`; the first is the lane's message number `position`.
    /// Positions of a lane are dense from 0 and come in order.
    Messages {
        /// The lane.
        lane: LaneId,
        /// The first message's position in it.
        position: u64,
        /// Which message of the batch is the first, counted from the batch's first.
        index: u32,
        /// How many; at least 1.
        count: u32,
    },
    /// As `Messages`, of a transaction: a restart is told that they count only once a [`Record::Together`] releases them.
    Provisional {
        /// The lane.
        lane: LaneId,
        /// The first message's position in it.
        position: u64,
        /// Which message of the batch is the first, counted from the batch's first.
        index: u32,
        /// How many; at least 1.
        count: u32,
    },
    /// Append a bookkeeping record, so that a restart knows it.
    Record(Record),
    /// When everything above is stored as the contract says, call `Model::stored` with this ticket. Tickets rise by one.
    Barrier(u64),
    /// Append the message at `at` of `from` once more, to `lane` as its message number `position`, with the headers that its death makes of
    /// its own ([`Death::headers`]). It is still needed there until this is done.
    DeadLetter {
        /// The lane that it died in.
        from: LaneId,
        /// Its position there.
        at: u64,
        /// The lane of dead letters.
        lane: LaneId,
        /// The letter's position in it.
        position: u64,
        /// How it died.
        death: Box<Death>,
    },
    /// Of the messages at `from..to` of `lane` only those of `kept` are needed any longer. They are stored once more, with their positions and
    /// the time when they were written, behind everything else; once that is stored as the contract says, the space of all of the range may
    /// be used again. A crash before leaves the range as it was.
    Compact {
        /// The lane.
        lane: LaneId,
        /// The first position of the range.
        from: u64,
        /// The first position behind it.
        to: u64,
        /// What is kept, in order: the first position of each run, and how many messages it has.
        kept: Vec<(u64, u32)>,
    },
    /// Nothing in `lane` below `position` is needed any longer; its space may be used again.
    Trim {
        /// The lane.
        lane: LaneId,
        /// The first position that is still needed.
        below: u64,
    },
}

impl Write {
    /// Adds `more` messages of the batch in hand, from `index` on, to the last of `writes` where they go on from there, or else as a write of
    /// their own.
    #[inline]
    pub(crate) fn append(writes: &mut Vec<Self>, lane: LaneId, position: u64, index: u32, more: u32) {
        if let Some(Self::Messages { lane: to, position: first, index: from, count }) = writes.last_mut()
            && *to == lane
            && *first + u64::from(*count) == position
            && *from + *count == index
        {
            *count += more;
        } else {
            writes.push(Self::Messages { lane, position, index, count: more });
        }
    }

    /// The same for a message of a transaction.
    pub(crate) fn append_provisional(writes: &mut Vec<Self>, lane: LaneId, position: u64, index: u32) {
        if let Some(Self::Provisional { lane: to, position: first, index: from, count }) = writes.last_mut()
            && *to == lane
            && *first + u64::from(*count) == position
            && *from + *count == index
        {
            *count += 1;
        } else {
            writes.push(Self::Provisional { lane, position, index, count: 1 });
        }
    }
}

/// A channel, whole: a restart makes it again from this. Lanes `first .. first + lanes` are its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelRecord {
    /// Its number.
    pub channel: ChannelId,
    /// Its first lane.
    pub first: LaneId,
    /// How many lanes it has; at least 1.
    pub lanes: u32,
    /// Its name, at most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Its groups' names in order, each once and at most [`NAME_BYTES_MAX`] bytes; at most [`GROUPS_MAX`] of them.
    pub groups: Vec<String>,
    /// Which messages each group gets: every one, without any. At most [`BINDINGS_MAX`](crate::binding::BINDINGS_MAX) of them.
    pub bindings: Vec<Binding>,
    /// The channel whose dead letters go to this one.
    pub dead_letters_of: Option<ChannelId>,
}

impl ChannelRecord {
    /// Whether it has nothing but lanes and groups.
    pub fn is_plain(&self) -> bool {
        self.bindings.is_empty() && self.dead_letters_of.is_none()
    }

    /// What is written of a channel that is made after `channels` others, with its lanes after `lanes` others.
    pub(crate) fn new(spec: &ChannelSpec, channels: usize, lanes: usize) -> Self {
        Self {
            channel: ChannelId(channels as u32),
            first: LaneId(lanes as u32),
            lanes: spec.lanes,
            name: spec.name.clone(),
            groups: spec.distinct_groups(),
            bindings: spec.bindings.clone(),
            dead_letters_of: spec.dead_letters_of,
        }
    }
}

/// Lanes that take nothing more, and the new ones that take their keys instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReshapeRecord {
    /// Whose lanes they are.
    pub channel: ChannelId,
    /// The first new lane: the next number that no lane of any channel had.
    pub first: LaneId,
    /// What was done.
    pub change: Reshape,
}

/// What is done to lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// A lane is split in two.
    Split {
        /// The lane.
        lane: LaneId,
        /// The first hash of a key that goes to the second new lane.
        at: u128,
    },
    /// Two lanes become one.
    Merge {
        /// The lane that takes the lower hashes.
        lane: LaneId,
        /// The lane that takes the hashes above.
        with: LaneId,
    },
}

impl ReshapeRecord {
    /// The lanes that take nothing more.
    pub fn parents(&self) -> impl Iterator<Item = LaneId> + use<> {
        let (one, other) = match self.change {
            Reshape::Split { lane, .. } => (lane, None),
            Reshape::Merge { lane, with } => (lane, Some(with)),
        };
        std::iter::once(one).chain(other)
    }

    /// The numbers of the new lanes; empty, if they would be beyond all numbers.
    pub fn children(&self) -> std::ops::Range<u32> {
        let count = match self.change {
            Reshape::Split { .. } => 2,
            Reshape::Merge { .. } => 1,
        };
        self.first.0..self.first.0.saturating_add(count)
    }
}

/// The longest name of a channel or group, in bytes of UTF-8: what RabbitMQ takes for a queue (Kafka's topics: 249).
pub const NAME_BYTES_MAX: usize = 255;
/// The most groups of a channel, so that its record stays near 1 MiB.
pub const GROUPS_MAX: usize = 4_096;

/// Bookkeeping that survives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A channel was made.
    Channel(Box<ChannelRecord>),
    /// A channel was removed.
    ChannelGone(ChannelId),
    /// Lanes were split or merged.
    Reshaped(Box<ReshapeRecord>),
    /// A group's committed position in a lane: everything below it is done with. Queue and direct write it too, and `Settled` only
    /// for what is scattered above.
    Committed {
        /// The lane.
        lane: LaneId,
        /// The group's place in its channel's list.
        group: u32,
        /// The next position to read.
        position: u64,
    },
    /// A transaction's end: the next so many `Released` and `Moved` belong together. All of them count once the last is there, and none
    /// before.
    Together {
        /// How many; at least 1.
        parts: u32,
    },
    /// Messages that were appended as provisional count.
    Released {
        /// The lane.
        lane: LaneId,
        /// The first one's position.
        position: u64,
        /// How many.
        count: u32,
    },
    /// As `Committed`, but part of what belongs together.
    Moved {
        /// The lane.
        lane: LaneId,
        /// The group's place in its channel's list.
        group: u32,
        /// The next position to read.
        position: u64,
    },
    /// One message is done with for a group (queue, direct).
    Settled {
        /// The lane.
        lane: LaneId,
        /// The group's place in its channel's list.
        group: u32,
        /// The message.
        position: u64,
    },
}

/// Messages to be handed to a client: `count` successive positions of one lane, from `receipt.position` on, all with
/// `receipt.epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// To whom.
    pub client: u32,
    /// Where the messages were published to.
    pub channel: ChannelId,
    /// The first one's receipt.
    pub receipt: Receipt,
    /// How many.
    pub count: u32,
    /// How often they were delivered to this group before.
    pub redeliveries: u16,
}

/// The caller's buffer for the work that follows from a step. Writes are performed before deliveries are served.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Work for the storage, in order.
    pub writes: Vec<Write>,
    /// Operations that ended, by client.
    pub outcomes: Outcomes,
    /// Messages to hand out, in order.
    pub deliveries: Vec<Deliver>,
    /// Answers to questions, by client.
    pub answers: Vec<(u32, Token, Answer)>,
    /// What happens uninvited, by client, in order.
    pub events: Vec<(u32, Event)>,
}

impl Effects {
    /// Asks for `count` messages of the batch in hand, from `index` on, to be appended to `lane` as number `position` and what follows: with
    /// the write before, where they go on from there.
    #[inline]
    pub(crate) fn append(&mut self, lane: LaneId, position: u64, index: u32, count: u32) {
        Write::append(&mut self.writes, lane, position, index, count);
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.writes.clear();
        self.outcomes.clear();
        self.deliveries.clear();
        self.answers.clear();
        self.events.clear();
    }

    /// Whether the step had no consequence.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.outcomes.is_empty()
            && self.deliveries.is_empty()
            && self.answers.is_empty()
            && self.events.is_empty()
    }
}
