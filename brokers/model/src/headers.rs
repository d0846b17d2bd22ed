//! The header block of a message: named values in one canonical encoding, and the names that a model may read.
//!
//! A block is the two bytes of [`MARK`] and then, for each pair, the name's length (1 byte), the value's length (2 bytes, little-endian),
//! the name and the value. Names are in strictly rising byte order, so that the same pairs are always the same bytes. No bytes at all are
//! the block without pairs. Whatever else stands in a message's headers is *opaque*: it is carried, and read by nobody; nothing that
//! stands there is ever an error. Likewise a well-known name whose value has not its shape counts as absent.
//!
//! A model that does not know a name carries it. Leaves out what a model does with a name that it knows, which stands with the
//! model, and how a real broker's own fields travel, which is its driver's.

use crate::time::Span;

/// What every block that is not empty begins with.
pub const MARK: [u8; 2] = [0xb1, 0x01];
/// The longest block, in bytes: what a batch's column holds.
pub const BLOCK_BYTES_MAX: usize = u16::MAX as usize;
/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest of the well-known values that are text, in bytes: what AMQP 0-9-1 takes as a short string (SQS: 128 for the
/// deduplication id and the message group).
pub const TEXT_BYTES_MAX: usize = 255;

/// Bytes of a pair beside its name and value.
const PAIR: usize = 3;

/// Names that a model may read.
pub mod names {
    /// One byte: the higher, the sooner (AMQP 0-9-1 `priority`).
    pub const PRIORITY: &str = "priority";
    /// 8 bytes, nanoseconds, little-endian: how long the message may wait from its publish on (AMQP 0-9-1 `expiration`, there in ms).
    pub const TIME_TO_LIVE: &str = "time-to-live";
    /// 8 bytes, nanoseconds, little-endian: how long after its publish the message is held back (SQS `DelaySeconds`).
    pub const DELAY: &str = "delay";
    /// 1 to 255 bytes: repeats of it within a window are not stored again (SQS `MessageDeduplicationId`).
    pub const DEDUPLICATION_ID: &str = "deduplication-id";
    /// 1 to 255 bytes: messages of one group are delivered in order, by one member at a time (SQS `MessageGroupId`).
    pub const MESSAGE_GROUP: &str = "message-group";
    /// At most 255 bytes: what bindings are held against (AMQP 0-9-1 `routing-key`); without it, the message's key is.
    pub const ROUTING_KEY: &str = "routing-key";
    /// 1 to 255 bytes: the name of the channel on which an answer is awaited (AMQP 0-9-1 `reply-to`).
    pub const REPLY_TO: &str = "reply-to";
    /// 1 to 255 bytes: which request an answer is of (AMQP 0-9-1 `correlation-id`).
    pub const CORRELATION_ID: &str = "correlation-id";
    /// Text: why a dead letter died first: `rejected`, `delivery_limit`, `expired` or `maxlen` (RabbitMQ `x-first-death-reason`).
    pub const DEATH_REASON: &str = "death-reason";
    /// 4 bytes, little-endian: how often a dead letter had been delivered when it died (RabbitMQ `x-delivery-count`, plus one).
    pub const DEATH_DELIVERIES: &str = "death-deliveries";
    /// Text: the group whose queue a dead letter died in (RabbitMQ `x-first-death-queue`).
    pub const DEATH_GROUP: &str = "death-group";
    /// 4 bytes, little-endian: the lane that a dead letter died in.
    pub const DEATH_LANE: &str = "death-lane";
    /// 8 bytes, little-endian: its position there.
    pub const DEATH_POSITION: &str = "death-position";
    /// 1 to 255 bytes: the name under which a producer publishes, so that what it publishes again is known
    /// ([`Identity`](crate::Identity); Kafka's producer id).
    pub const PRODUCER: &str = "producer";
    /// 4 bytes, little-endian: which instance of that producer; 0 without it (Kafka's producer epoch).
    pub const PRODUCER_EPOCH: &str = "producer-epoch";
    /// 8 bytes, little-endian: the message's number among those of that instance to its channel (Kafka's sequence number).
    pub const PRODUCER_SEQUENCE: &str = "producer-sequence";
    /// What stood in the headers of a dead letter when that was no block.
    pub const OPAQUE: &str = "opaque";
}

/// Why a pair can't be in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A name is empty or too long.
    #[error("a header's name has 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    /// The block would be too long.
    #[error("the headers of a message have at most {BLOCK_BYTES_MAX} bytes; leave some out or make them shorter")]
    TooLong,
}

/// A block, as it is read. See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// The block in a message's headers; nothing when they are opaque.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self(bytes));
        }
        let pairs = bytes.strip_prefix(&MARK)?;
        let (mut rest, mut last): (_, &[u8]) = (pairs, b"");
        while !rest.is_empty() {
            let ((name, _), after) = take_pair(rest)?;
            // The first name is after the empty one too: no name is empty.
            if name <= last {
                return None;
            }
            (rest, last) = (after, name);
        }
        (!pairs.is_empty() && bytes.len() <= BLOCK_BYTES_MAX).then_some(Self(pairs))
    }

    /// Its pairs, by rising names.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (pair, after) = take_pair(rest)?;
            rest = after;
            Some(pair)
        })
    }

    /// The value of a name.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(other, _)| *other == name.as_bytes()).map(|(_, value)| value)
    }

    /// A value that is text of 1 to 255 bytes, whatever its bytes.
    pub fn text(self, name: &str) -> Option<&'a [u8]> {
        self.get(name).filter(|value| (1..=TEXT_BYTES_MAX).contains(&value.len()))
    }

    /// A value of 8 bytes that is a time.
    pub fn span(self, name: &str) -> Option<Span> {
        Some(Span(u64::from_le_bytes(self.get(name)?.try_into().ok()?)))
    }

    /// The message's priority.
    pub fn priority(self) -> Option<u8> {
        let [priority] = *self.get(names::PRIORITY)? else { return None };
        Some(priority)
    }
}

/// The pair at the front, and what follows it.
#[expect(clippy::type_complexity, reason = "a pair and a rest, read at its two callers only")]
fn take_pair(bytes: &[u8]) -> Option<((&[u8], &[u8]), &[u8])> {
    let (&[name, low, high], rest) = bytes.split_first_chunk::<PAIR>()?;
    let (name, rest) = rest.split_at_checked(name.into())?;
    let (value, rest) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
    Some(((name, value), rest))
}

/// A block that is being made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    /// By rising names.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl HeaderBlock {
    /// A block without pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// What stands in a message's headers; what is opaque becomes the value of [`names::OPAQUE`], if it fits.
    pub fn of(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut block = Self::new();
        match Headers::parse(bytes) {
            None => block.set(names::OPAQUE.as_bytes(), bytes)?,
            Some(headers) => {
                for (name, value) in headers.iter() {
                    block.set(name, value)?;
                }
            }
        }
        Ok(block)
    }

    /// Sets a value, in place of the one that was there.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            return Err(HeaderError::Name);
        }
        let found = self.pairs.binary_search_by(|(other, _)| other.as_slice().cmp(name));
        let before = found.map_or(0, |at| PAIR + name.len() + self.pairs[at].1.len());
        let bytes = self.bytes - before + PAIR + name.len() + value.len();
        if MARK.len() + bytes > BLOCK_BYTES_MAX {
            return Err(HeaderError::TooLong);
        }
        self.bytes = bytes;
        match found {
            Ok(at) => self.pairs[at].1 = value.to_vec(),
            Err(at) => self.pairs.insert(at, (name.to_vec(), value.to_vec())),
        }
        Ok(())
    }

    /// Sets the value of a well-known name.
    pub fn with(mut self, name: &str, value: &[u8]) -> Result<Self, HeaderError> {
        self.set(name.as_bytes(), value)?;
        Ok(self)
    }

    /// Sets a time.
    pub fn with_span(self, name: &str, span: Span) -> Result<Self, HeaderError> {
        self.with(name, &span.0.to_le_bytes())
    }

    /// A value that was set.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.pairs.binary_search_by(|(other, _)| other.as_slice().cmp(name.as_bytes()));
        found.ok().map(|at| self.pairs[at].1.as_slice())
    }

    /// Takes a pair out.
    pub fn remove(&mut self, name: &str) {
        if let Ok(at) = self.pairs.binary_search_by(|(other, _)| other.as_slice().cmp(name.as_bytes())) {
            let (name, value) = self.pairs.remove(at);
            self.bytes -= PAIR + name.len() + value.len();
        }
    }

    /// Appends the block.
    pub fn put(&self, out: &mut Vec<u8>) {
        if self.pairs.is_empty() {
            return;
        }
        out.reserve(MARK.len() + self.bytes);
        out.extend_from_slice(&MARK);
        for (name, value) in &self.pairs {
            out.push(name.len() as u8);
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(value);
        }
    }

    /// The block's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_block_is_a_map_and_its_bytes_depend_on_nothing_else(
            pairs in prop::collection::vec(("[a-c]{1,2}", prop::collection::vec(any::<u8>(), 0..4)), 0..12),
            gone in "[a-c]{1,2}",
        ) {
            let (mut block, mut map) = (HeaderBlock::new(), BTreeMap::new());
            for (name, value) in &pairs {
                block.set(name.as_bytes(), value).unwrap();
                map.insert(name.as_bytes(), value.as_slice());
            }
            block.remove(&gone);
            map.remove(gone.as_bytes());
            let bytes = block.to_bytes();
            prop_assert_eq!(bytes.len(), if map.is_empty() { 0 } else { MARK.len() + block.bytes });
            let read = Headers::parse(&bytes).expect("what was put is a block");
            prop_assert!(read.iter().eq(map.iter().map(|(&name, &value)| (name, value))));
            prop_assert_eq!(read.get(&gone), None);
            let mut other = HeaderBlock::new();
            for (&name, &value) in map.iter().rev() {
                other.set(name, value).unwrap();
            }
            prop_assert_eq!(other.to_bytes(), bytes);
        }

        #[test]
        fn whatever_the_bytes_they_are_a_block_that_is_written_the_same_or_opaque(
            marked in any::<bool>(),
            rest in prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..40),
        ) {
            let bytes = if marked { [&MARK[..], &rest].concat() } else { rest };
            let block = HeaderBlock::of(&bytes).unwrap();
            let headers = block.to_bytes();
            if Headers::parse(&bytes).is_some() {
                prop_assert_eq!(headers, bytes);
            } else {
                prop_assert_eq!(Headers::parse(&headers).unwrap().get(names::OPAQUE), Some(&bytes[..]));
            }
        }
    }

    #[test]
    fn names_out_of_order_twice_or_empty_are_no_block() {
        let block = |pairs: &[(&[u8], &[u8])]| {
            let mut bytes = MARK.to_vec();
            for (name, value) in pairs {
                bytes.extend([name.len() as u8, value.len() as u8, 0]);
                bytes.extend_from_slice(name);
                bytes.extend_from_slice(value);
            }
            Headers::parse(&bytes).is_some()
        };
        assert!(block(&[(b"a", b"1"), (b"b", b"")]));
        assert!(!block(&[(b"b", b""), (b"a", b"1")]) && !block(&[(b"a", b""), (b"a", b"1")]));
        assert!(!block(&[(b"", b"1")]) && !block(&[]), "the block without pairs is no bytes");
        assert_eq!(Headers::parse(b"").map(|headers| headers.iter().count()), Some(0));
        assert!(Headers::parse(b"h").is_none() && Headers::parse(&MARK[..1]).is_none());
    }

    #[test]
    fn a_value_of_another_shape_counts_as_absent() {
        let block = HeaderBlock::new()
            .with(names::PRIORITY, &[7])
            .and_then(|block| block.with_span(names::DELAY, Span::from_secs(3)))
            .and_then(|block| block.with(names::TIME_TO_LIVE, b"soon"))
            .and_then(|block| block.with(names::MESSAGE_GROUP, b""))
            .and_then(|block| block.with(names::REPLY_TO, b"answers"));
        let bytes = block.unwrap().to_bytes();
        let headers = Headers::parse(&bytes).unwrap();
        assert_eq!((headers.priority(), headers.span(names::DELAY)), (Some(7), Some(Span::from_secs(3))));
        assert_eq!((headers.span(names::TIME_TO_LIVE), headers.text(names::MESSAGE_GROUP)), (None, None));
        assert_eq!(headers.text(names::REPLY_TO), Some(&b"answers"[..]));
        let wide = HeaderBlock::new().with(names::PRIORITY, &[0, 7]).unwrap().to_bytes();
        assert_eq!(Headers::parse(&wide).unwrap().priority(), None);
    }

    #[test]
    fn a_block_is_bounded() {
        let mut block = HeaderBlock::new();
        let room = BLOCK_BYTES_MAX - MARK.len() - PAIR - 1;
        assert_eq!(block.set(b"", b""), Err(HeaderError::Name));
        assert_eq!(block.set(&[b'n'; 256], b""), Err(HeaderError::Name));
        assert_eq!(block.set(b"n", &vec![0; room + 1]), Err(HeaderError::TooLong));
        assert_eq!(block.set(b"n", &vec![0; room]), Ok(()));
        assert_eq!((block.to_bytes().len(), block.set(b"m", b"")), (BLOCK_BYTES_MAX, Err(HeaderError::TooLong)));
        assert_eq!(block.set(b"n", b""), Ok(()), "a value is replaced");
        assert_eq!(HeaderBlock::of(&vec![1; BLOCK_BYTES_MAX]), Err(HeaderError::TooLong));
    }
}
