//! What a dead letter says of its death, in its headers, as RabbitMQ's `x-first-death-…` and `x-death` do.
//!
//! The first death counts: a letter that died before keeps what it said then. Its own time to live, delay and id go, so that it
//! neither expires again nor counts as a repeat; everything else stays. Leaves out who keeps dead letters.

use crate::batch::{ChannelId, LaneId, Message, Token};
use crate::completion::Slice;
use crate::headers::{HeaderBlock, HeaderError, names};

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeathReason {
    /// A member said so.
    Rejected,
    /// It was delivered as often as is allowed.
    Exhausted,
    /// Its time to live was over.
    Expired,
    /// Its queue was full.
    Overflowed,
}

impl DeathReason {
    /// RabbitMQ's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Exhausted => "delivery_limit",
            Self::Expired => "expired",
            Self::Overflowed => "maxlen",
        }
    }
}

/// A message's death in one group's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Why.
    pub reason: DeathReason,
    /// How often it had been delivered to the group.
    pub deliveries: u32,
    /// The group's name.
    pub group: String,
    /// The lane that it died in.
    pub lane: LaneId,
    /// Its position there.
    pub position: u64,
}

impl Death {
    /// The dead letter's headers, from those of the message. Where they would be too long, the message's own are left as they are.
    pub fn headers(&self, of: &[u8]) -> Vec<u8> {
        self.block(of).map_or_else(|_| of.to_vec(), |block| block.to_bytes())
    }

    /// The dead letter of a message whose parts stand at `slice` of `bytes`. `headers` holds what its headers become.
    pub fn letter<'a>(&self, bytes: &'a [u8], slice: Slice, headers: &'a mut Vec<u8>) -> Message<'a> {
        let Slice { at, key_len, header_len, payload_len, has_payload } = slice;
        let headers_at = at as usize + usize::from(key_len);
        let payload_at = headers_at + usize::from(header_len);
        let payload_end = if has_payload { payload_at + payload_len as usize } else { payload_at };
        *headers = self.headers(&bytes[headers_at..payload_at]);
        Message {
            token: Token(0),
            channel: ChannelId(0),
            key: &bytes[at as usize..headers_at],
            headers,
            payload_len,
            payload: &bytes[payload_at..payload_end],
        }
    }

    fn block(&self, of: &[u8]) -> Result<HeaderBlock, HeaderError> {
        let mut block = HeaderBlock::of(of)?;
        for name in [names::TIME_TO_LIVE, names::DELAY, names::DEDUPLICATION_ID] {
            block.remove(name);
        }
        if block.get(names::DEATH_REASON).is_none() {
            block.set(names::DEATH_REASON.as_bytes(), self.reason.name().as_bytes())?;
            block.set(names::DEATH_DELIVERIES.as_bytes(), &self.deliveries.to_le_bytes())?;
            block.set(names::DEATH_GROUP.as_bytes(), self.group.as_bytes())?;
            block.set(names::DEATH_LANE.as_bytes(), &self.lane.0.to_le_bytes())?;
            block.set(names::DEATH_POSITION.as_bytes(), &self.position.to_le_bytes())?;
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::{BLOCK_BYTES_MAX, Headers};
    use crate::time::Span;

    fn death(reason: DeathReason) -> Death {
        Death { reason, deliveries: 3, group: "billing".to_owned(), lane: LaneId(4), position: 70 }
    }

    #[test]
    fn the_first_death_is_told_and_what_made_it_die_goes() {
        let of = HeaderBlock::new()
            .with_span(names::TIME_TO_LIVE, Span::from_secs(1))
            .and_then(|block| block.with(names::PRIORITY, &[7]))
            .unwrap()
            .to_bytes();
        let once = death(DeathReason::Expired).headers(&of);
        let read = Headers::parse(&once).unwrap();
        assert_eq!((read.get(names::DEATH_REASON), read.priority()), (Some(&b"expired"[..]), Some(7)));
        assert_eq!((read.get(names::DEATH_GROUP), read.span(names::TIME_TO_LIVE)), (Some(&b"billing"[..]), None));
        assert_eq!(read.span(names::DEATH_POSITION), Some(Span(70)));
        assert_eq!(death(DeathReason::Rejected).headers(&once), once);
    }

    #[test]
    fn opaque_headers_are_kept_beside_it_or_alone() {
        let letter = death(DeathReason::Overflowed).headers(b"opaque");
        let read = Headers::parse(&letter).unwrap();
        assert_eq!(
            (read.get(names::OPAQUE), read.get(names::DEATH_REASON)),
            (Some(&b"opaque"[..]), Some(&b"maxlen"[..]))
        );
        let long = vec![7; BLOCK_BYTES_MAX];
        assert_eq!(death(DeathReason::Rejected).headers(&long), long);
    }
}
