//! What goes over the loopback transport's connections: frames, each a length, a kind and a body, columnar as batches are; and [`http`]
//! between the callers of `direct` and their service.
//!
//! Everything that is read is held against its bounds: a peer that sends anything else is told apart by [`WireError`] and
//! disconnected. Little-endian throughout. Leaves out sockets, windows and what the operations do.

pub mod http;
mod reader;
mod reply;
mod request;

use brokerlab_model::{Blocked, Failure, Refusal, Status};

pub use reply::{Refused, Reply, read_reply};
pub(super) use reply::{put_completions, put_counts, put_held, put_stopped, put_tallies, put_welcome};
pub use request::{Asker, Hello, Request, read_request};
pub(super) use request::{
    put_beat, put_control, put_counting, put_hello, put_publishes, put_settlements, put_tallying,
};

/// The layout's version; a peer of another one is refused.
pub const VERSION: u32 = 4;
/// Bytes before a frame's kind: its length, kind and body counted.
pub const LENGTH: usize = 4;
/// A frame of several messages is closed when its bytes pass this.
pub(super) const FRAME_BYTES: usize = 1 << 20;

/// What a peer sent that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame longer than any that can be.
    #[error("a frame of {0} bytes, and {1} is the most; both ends must be of one version and one backend")]
    TooLong(usize, usize),
    /// A frame whose bytes don't say what its kind says.
    #[error("a frame of kind {0} does not hold what it should; both ends must be of one version")]
    Malformed(u8),
    /// Something that makes no sense at this moment.
    #[error("{0}")]
    OutOfTurn(&'static str),
}

/// The longest frame where a message may have `message_bytes`.
pub fn longest(message_bytes: u32) -> usize {
    // A message with its columns, its key and headers of 64 KiB each, behind a frame that was about to be closed.
    4 * FRAME_BYTES + message_bytes as usize
}

/// How long the frame at the front of `bytes` is, length included, once all of it is there.
pub fn whole(bytes: &[u8], longest: usize) -> Result<Option<usize>, WireError> {
    let Some((length, _)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > longest {
        return Err(WireError::TooLong(length, longest));
    }
    Ok((bytes.len() >= LENGTH + length).then_some(LENGTH + length))
}

/// Appends a frame: `body` writes what follows its kind.
fn put_frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    out.push(kind);
    body(out);
    let length = u32::try_from(out.len() - at - LENGTH).expect("a frame is closed long before 4 GiB");
    out[at..at + LENGTH].copy_from_slice(&length.to_le_bytes());
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A text with its length in four bytes before it.
fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len() as u32);
    out.extend_from_slice(text.as_bytes());
}

const REFUSALS: [Refusal; 15] = [
    Refusal::Unsupported,
    Refusal::NoSuchLane,
    Refusal::NotAssigned,
    Refusal::StaleReceipt,
    Refusal::OutOfRange,
    Refusal::TooLarge,
    Refusal::Exists,
    Refusal::WrongRole,
    Refusal::Closed,
    Refusal::Unroutable,
    Refusal::Transaction,
    Refusal::OutOfSequence,
    Refusal::Fenced,
    Refusal::NoKey,
    Refusal::TooManyLanes,
];

const FAILURES: [Failure; 6] = [
    Failure::Timeout,
    Failure::NoReceiver,
    Failure::Overloaded,
    Failure::CircuitOpen,
    Failure::Storage,
    Failure::Disconnected,
];

const HOLDS: [Blocked; 8] = [
    Blocked::Window,
    Blocked::Memory,
    Blocked::Data,
    Blocked::RateLimit,
    Blocked::Disconnected,
    Blocked::Broker,
    Blocked::Receivers,
    Blocked::Storage,
];

/// The place of a word in its list.
const fn refusal_code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Unsupported => 0,
        Refusal::NoSuchLane => 1,
        Refusal::NotAssigned => 2,
        Refusal::StaleReceipt => 3,
        Refusal::OutOfRange => 4,
        Refusal::TooLarge => 5,
        Refusal::Exists => 6,
        Refusal::WrongRole => 7,
        Refusal::Closed => 8,
        Refusal::Unroutable => 9,
        Refusal::Transaction => 10,
        Refusal::OutOfSequence => 11,
        Refusal::Fenced => 12,
        Refusal::NoKey => 13,
        Refusal::TooManyLanes => 14,
    }
}

const fn failure_code(failure: Failure) -> u8 {
    match failure {
        Failure::Timeout => 0,
        Failure::NoReceiver => 1,
        Failure::Overloaded => 2,
        Failure::CircuitOpen => 3,
        Failure::Storage => 4,
        Failure::Disconnected => 5,
    }
}

const fn hold_code(blocked: Blocked) -> u8 {
    match blocked {
        Blocked::Window => 0,
        Blocked::Memory => 1,
        Blocked::Data => 2,
        Blocked::RateLimit => 3,
        Blocked::Disconnected => 4,
        Blocked::Broker => 5,
        Blocked::Receivers => 6,
        Blocked::Storage => 7,
    }
}

/// A status in two bytes: which, and why.
pub(super) const fn status_code(status: Status) -> [u8; 2] {
    match status {
        Status::Done => [0, 0],
        Status::Refused(refusal) => [1, refusal_code(refusal)],
        Status::Throttled => [2, 0],
        Status::Failed(failure) => [3, failure_code(failure)],
        Status::Unknown => [4, 0],
    }
}

/// A status from its two bytes.
pub(super) fn status_of(code: [u8; 2]) -> Option<Status> {
    match code {
        [0, 0] => Some(Status::Done),
        [1, why] => REFUSALS.get(usize::from(why)).copied().map(Status::Refused),
        [2, 0] => Some(Status::Throttled),
        [3, why] => FAILURES.get(usize::from(why)).copied().map(Status::Failed),
        [4, 0] => Some(Status::Unknown),
        _ => None,
    }
}

fn hold_of(code: u8) -> Option<Blocked> {
    HOLDS.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_read_back_from_its_code() {
        let statuses = [Status::Done, Status::Throttled, Status::Unknown]
            .into_iter()
            .chain(REFUSALS.map(Status::Refused))
            .chain(FAILURES.map(Status::Failed));
        let mut codes = Vec::new();
        for status in statuses {
            let code = status_code(status);
            assert_eq!(status_of(code), Some(status));
            assert!(!codes.contains(&code), "{status:?}");
            codes.push(code);
        }
        assert_eq!((codes.len(), status_of([1, 15]), status_of([5, 0])), (24, None, None));
        assert!(HOLDS.into_iter().all(|hold| hold_of(hold_code(hold)) == Some(hold)));
        assert_eq!(hold_of(8), None);
    }

    #[test]
    fn a_frame_is_whole_when_all_of_it_is_there_and_never_longer_than_its_bound() {
        let mut out = Vec::new();
        put_frame(&mut out, 9, |out| out.extend_from_slice(b"body"));
        for len in 0..out.len() {
            assert_eq!(whole(&out[..len], 5), Ok(None));
        }
        out.push(1);
        assert_eq!(whole(&out, 5), Ok(Some(9)));
        assert_eq!(whole(&out, 4), Err(WireError::TooLong(5, 4)));
        assert_eq!(whole(&[0; 4], 4), Err(WireError::TooLong(0, 4)));
    }
}
