//! The identity of a publish: the name of its producer, an epoch, and the message's place in what that producer publishes (KIP-98).
//!
//! It stands in the message's headers, so that it is stored with it and a restart reads it again. Here is how it is read, and what of
//! it a journal keeps. Leaves out what a model makes of it.

use std::collections::{BTreeMap, VecDeque};

use crate::headers::{HeaderBlock, HeaderError, Headers, MARK, names};
use crate::time::Time;

/// Who published a message, and as which of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The producer's name, 1 to 255 bytes.
    pub producer: &'a [u8],
    /// Which instance of it: one with a higher number takes the place of those with lower ones.
    pub epoch: u32,
    /// The message's number among those that this instance publishes to its channel, from 0 on.
    pub sequence: u64,
}

impl<'a> Identity<'a> {
    /// The shortest headers that hold one: the mark, and two names with their values.
    pub(crate) const BYTES_MIN: u16 =
        (MARK.len() + 3 + names::PRODUCER.len() + 1 + 3 + names::PRODUCER_SEQUENCE.len() + 8) as u16;

    /// The identity in a message's headers; none when they are opaque or one of the names is missing or misshapen. Without an epoch it is
    /// epoch 0.
    pub fn of(headers: &'a [u8]) -> Option<Self> {
        if headers.len() < usize::from(Self::BYTES_MIN) {
            return None;
        }
        let headers = Headers::parse(headers)?;
        let producer = headers.text(names::PRODUCER)?;
        let sequence = u64::from_le_bytes(headers.get(names::PRODUCER_SEQUENCE)?.try_into().ok()?);
        let epoch = match headers.get(names::PRODUCER_EPOCH) {
            None => 0,
            Some(epoch) => u32::from_le_bytes(epoch.try_into().ok()?),
        };
        (sequence < u64::MAX).then_some(Self { producer, epoch, sequence })
    }

    /// Sets it in a block, in place of the one that was there.
    ///
    /// # Errors
    /// When the block would be too long.
    pub fn put(&self, block: &mut HeaderBlock) -> Result<(), HeaderError> {
        block.set(names::PRODUCER.as_bytes(), self.producer)?;
        block.set(names::PRODUCER_EPOCH.as_bytes(), &self.epoch.to_le_bytes())?;
        block.set(names::PRODUCER_SEQUENCE.as_bytes(), &self.sequence.to_le_bytes())
    }
}

/// A message with an identity, as a journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedMessage {
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
    pub(crate) written: Time,
    pub(crate) lane: u32,
    pub(crate) position: u64,
}

/// Messages with an identity, by producer and lane: of each lane at least those of the newest epoch that are less than a window behind
/// its newest sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedMessages {
    window: u64,
    known: BTreeMap<Box<[u8]>, BTreeMap<u32, VecDeque<NamedMessage>>>,
}

impl NamedMessages {
    /// None yet.
    pub(crate) fn new(window: u64) -> Self {
        Self { window, known: BTreeMap::new() }
    }

    /// A message was read.
    pub(crate) fn note(&mut self, lane: u32, position: u64, written: Time, identity: Identity<'_>) {
        let Identity { producer, epoch, sequence } = identity;
        if !self.known.contains_key(producer) {
            self.known.insert(producer.into(), BTreeMap::new());
        }
        let Some(lanes) = self.known.get_mut(producer) else { return };
        let messages = lanes.entry(lane).or_default();
        let over = |old: &NamedMessage| {
            old.epoch < epoch || (old.epoch == epoch && old.sequence.saturating_add(self.window) <= sequence)
        };
        while messages.front().is_some_and(over) {
            messages.pop_front();
        }
        messages.push_back(NamedMessage { epoch, sequence, written, lane, position });
    }

    /// By producer: all of its messages that are kept, by lane.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], impl Iterator<Item = NamedMessage> + '_)> {
        self.known.iter().map(|(producer, lanes)| (&**producer, lanes.values().flatten().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(identity: Identity<'_>) -> Vec<u8> {
        let mut block = HeaderBlock::new().with(names::PRIORITY, &[3]).expect("it is short");
        identity.put(&mut block).expect("it is short");
        block.to_bytes()
    }

    #[test]
    fn an_identity_is_read_as_it_was_put_and_nothing_else_is_one() {
        let identity = Identity { producer: b"p", epoch: 7, sequence: 1 << 40 };
        assert_eq!(Identity::of(&block(identity)), Some(identity));
        let short = HeaderBlock::new().with(names::PRODUCER, b"p").expect("it is short");
        let short = short.with(names::PRODUCER_SEQUENCE, &[0; 8]).expect("it is short");
        let bytes = short.to_bytes();
        assert_eq!(bytes.len(), usize::from(Identity::BYTES_MIN), "the shortest");
        assert_eq!(Identity::of(&bytes), Some(Identity { producer: b"p", epoch: 0, sequence: 0 }));
        for (name, value) in [
            (names::PRODUCER, &b""[..]),
            (names::PRODUCER_SEQUENCE, &[0; 7]),
            (names::PRODUCER_SEQUENCE, &[255; 8]),
            (names::PRODUCER_EPOCH, &[0; 8]),
        ] {
            let bytes = short.clone().with(name, value).expect("it is short").to_bytes();
            assert_eq!(Identity::of(&bytes), None, "{name} {value:?}");
        }
        assert_eq!((Identity::of(b""), Identity::of(&[7; 100])), (None, None));
    }

    #[test]
    fn of_each_lane_a_journal_keeps_what_is_in_the_window_of_its_newest_epoch() {
        let mut named = NamedMessages::new(3);
        let mut note = |lane, position, epoch, sequence| {
            named.note(lane, position, Time(position), Identity { producer: b"p", epoch, sequence });
        };
        for sequence in 0..5 {
            note(0, sequence, 1, sequence);
        }
        note(1, 0, 1, 9);
        note(2, 0, 1, 3);
        note(2, 1, 2, 0);
        let kept: Vec<(u32, u32, u64)> = named
            .iter()
            .flat_map(|(_, messages)| messages.map(|message| (message.lane, message.epoch, message.sequence)))
            .collect();
        assert_eq!(kept, [(0, 1, 2), (0, 1, 3), (0, 1, 4), (1, 1, 9), (2, 2, 0)]);
    }
}
