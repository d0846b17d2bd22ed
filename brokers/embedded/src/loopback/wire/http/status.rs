//! By which status of HTTP each outcome of a request is answered, and the word that says which one where several share a status.
//!
//! The statuses are those of RFC 9110, of RFC 6585 (429) and of RFC 4918 (507). Leaves out what the caller does about it.

use brokerlab_model::{Blocked, Failure, Refusal, Status};

use super::super::{FAILURES, HOLDS, REFUSALS};
use super::HttpError;

/// The status and its words of a request that ended so. `accepted`: it is stored, and the work is not done yet.
pub(super) const fn line(status: Status, accepted: bool) -> (u16, &'static str) {
    match status {
        Status::Done if accepted => (202, "Accepted"),
        Status::Done => (200, "OK"),
        Status::Throttled | Status::Failed(Failure::Overloaded) => (429, "Too Many Requests"),
        Status::Unknown | Status::Failed(Failure::Timeout) => (504, "Gateway Timeout"),
        Status::Failed(Failure::NoReceiver | Failure::CircuitOpen) => (503, "Service Unavailable"),
        Status::Failed(Failure::Disconnected) => (502, "Bad Gateway"),
        Status::Failed(Failure::Storage) => (507, "Insufficient Storage"),
        Status::Refused(refusal) => match refusal {
            Refusal::WrongRole | Refusal::NotAssigned | Refusal::Fenced => (403, "Forbidden"),
            Refusal::NoSuchLane | Refusal::Unroutable => (404, "Not Found"),
            Refusal::StaleReceipt
            | Refusal::OutOfRange
            | Refusal::Exists
            | Refusal::Transaction
            | Refusal::OutOfSequence => (409, "Conflict"),
            Refusal::Closed => (410, "Gone"),
            Refusal::TooLarge => (413, "Content Too Large"),
            Refusal::NoKey | Refusal::TooManyLanes => (422, "Unprocessable Content"),
            Refusal::Unsupported => (501, "Not Implemented"),
        },
    }
}

/// The word of an outcome; none for what is done.
pub(super) const fn word(status: Status) -> &'static str {
    match status {
        Status::Done => "",
        Status::Throttled => "throttled",
        Status::Unknown => "unknown",
        Status::Failed(failure) => match failure {
            Failure::Timeout => "timeout",
            Failure::NoReceiver => "no-receiver",
            Failure::Overloaded => "overloaded",
            Failure::CircuitOpen => "circuit-open",
            Failure::Storage => "storage",
            Failure::Disconnected => "disconnected",
        },
        Status::Refused(refusal) => match refusal {
            Refusal::Unsupported => "unsupported",
            Refusal::NoSuchLane => "no-such-channel",
            Refusal::NotAssigned => "not-assigned",
            Refusal::StaleReceipt => "stale-receipt",
            Refusal::OutOfRange => "out-of-range",
            Refusal::TooLarge => "too-large",
            Refusal::Exists => "exists",
            Refusal::Transaction => "transaction",
            Refusal::WrongRole => "wrong-role",
            Refusal::Closed => "closed",
            Refusal::Unroutable => "unroutable",
            Refusal::OutOfSequence => "out-of-sequence",
            Refusal::Fenced => "fenced",
            Refusal::NoKey => "no-key",
            Refusal::TooManyLanes => "too-many-lanes",
        },
    }
}

/// Whether the same again may succeed after a while, so that the answer says after how long.
pub(super) const fn may_retry(status: Status) -> bool {
    matches!(line(status, false).0, 429 | 503)
}

/// How a request ended, by the status and the word of its answer.
pub(super) fn read(code: u16, outcome: Option<&[u8]>) -> Result<Status, HttpError> {
    let wrong = HttpError::Status(code);
    let Some(outcome) = outcome else {
        return if matches!(code, 200 | 202) { Ok(Status::Done) } else { Err(wrong) };
    };
    let failed = FAILURES.into_iter().map(Status::Failed).chain(REFUSALS.into_iter().map(Status::Refused));
    let mut each = [Status::Throttled, Status::Unknown].into_iter().chain(failed);
    let status = each.find(|&status| word(status).as_bytes() == outcome).ok_or(wrong)?;
    if line(status, false).0 == code { Ok(status) } else { Err(wrong) }
}

/// The word for why a caller is held back.
pub(super) const fn hold_word(held: Option<Blocked>) -> &'static str {
    match held {
        None => "no",
        Some(Blocked::Window) => "window",
        Some(Blocked::Memory) => "memory",
        Some(Blocked::Data) => "data",
        Some(Blocked::RateLimit) => "rate-limit",
        Some(Blocked::Disconnected) => "disconnected",
        Some(Blocked::Broker) => "broker",
        Some(Blocked::Receivers) => "receivers",
        Some(Blocked::Storage) => "storage",
    }
}

/// Why a caller is held back, by its word.
pub(super) fn read_hold(word: &[u8]) -> Result<Option<Blocked>, HttpError> {
    let mut each = [None].into_iter().chain(HOLDS.into_iter().map(Some));
    each.find(|&held| hold_word(held).as_bytes() == word).ok_or(HttpError::Field("held"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_one_status_and_is_read_back_from_it() {
        let all = [Status::Throttled, Status::Unknown].into_iter();
        let all: Vec<Status> = all.chain(REFUSALS.map(Status::Refused)).chain(FAILURES.map(Status::Failed)).collect();
        for &status in &all {
            let code = line(status, true).0;
            assert_eq!(code, line(status, false).0, "{status:?}");
            assert!((400..600).contains(&code), "{status:?}");
            assert_eq!(read(code, Some(word(status).as_bytes())), Ok(status));
            assert_eq!(read(200, Some(word(status).as_bytes())), Err(HttpError::Status(200)), "of two minds");
            assert_eq!(read(code, None), Err(HttpError::Status(code)), "it says which one");
        }
        let codes: std::collections::BTreeSet<u16> = all.iter().map(|&status| line(status, false).0).collect();
        assert_eq!(codes, [403, 404, 409, 410, 413, 422, 429, 501, 502, 503, 504, 507].into());
        assert_eq!((line(Status::Done, false).0, line(Status::Done, true).0), (200, 202));
        assert_eq!((read(200, None), read(202, None)), (Ok(Status::Done), Ok(Status::Done)));
        for held in [None].into_iter().chain(HOLDS.map(Some)) {
            assert_eq!(read_hold(hold_word(held).as_bytes()), Ok(held));
        }
        assert_eq!(read_hold(b""), Err(HttpError::Field("held")));
    }
}
