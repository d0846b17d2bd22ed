//! What a session has seen: operations that ended, messages that were delivered, lanes in hand.

use crate::batch::{ChannelId, Receipt};
use crate::completion::{Answer, Outcome};
use crate::time::Time;

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By an outcome.
    Outcome(Outcome),
    /// By an answer.
    Answer(Answer),
}

/// A delivery, copied out of its arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// For settling it.
    pub receipt: Receipt,
    /// Where it was published to.
    pub channel: ChannelId,
    /// How often it was delivered to the group before.
    pub redeliveries: u16,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The headers' bytes.
    pub headers: Vec<u8>,
    /// The payload's length.
    pub payload_len: u32,
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// When the poll that returned it was over.
    pub at: Time,
    /// Which poll that was, of all clients'.
    pub poll: u64,
}

impl Got {
    /// The number that [`numbered`](super::numbered) wrote at the payload's beginning.
    pub fn number(&self) -> u64 {
        let head = self.payload.first_chunk::<8>().expect("a numbered message has 8 bytes of payload or more");
        u64::from_le_bytes(*head)
    }
}

/// A lane in a member's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It reads it.
    Assigned,
    /// It was asked to give it back and has not yet.
    Revoked,
}
