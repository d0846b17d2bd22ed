//! When a queue gives a message up, and how many it gave up for which reason.
//!
//! Leaves out what a full queue does, which is decided when it is full.

use crate::completion::GivenUp;
use crate::death::DeathReason;
use crate::time::Time;

/// Why a message that comes back does not wait again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was delivered as often as is allowed.
    Exhausted,
    /// Its time to live is over.
    Expired,
}

impl End {
    /// What a dead letter says of it.
    pub(super) const fn reason(self) -> DeathReason {
        match self {
            Self::Exhausted => DeathReason::Exhausted,
            Self::Expired => DeathReason::Expired,
        }
    }
}

/// What holds for the messages of one queue at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// After this many deliveries a message does not come again.
    pub(super) most_deliveries: u32,
    /// The messages before this position have outlived their queue's time to live.
    pub(super) expired_below: u64,
    /// The time.
    pub(super) now: Time,
}

impl Terms {
    /// Why the message at `position` does not wait again after so many deliveries, if so; by what it says of itself it can wait until
    /// `expires`. The number of deliveries is looked at first.
    pub(super) fn end(self, position: u64, deliveries: u32, expires: Time) -> Option<End> {
        if deliveries >= self.most_deliveries {
            Some(End::Exhausted)
        } else {
            (position < self.expired_below || expires <= self.now).then_some(End::Expired)
        }
    }
}

/// Counts a message that was delivered before.
pub(super) fn count(given_up: &mut GivenUp, end: End) {
    match end {
        End::Exhausted => given_up.exhausted += 1,
        End::Expired => given_up.expired += 1,
    }
}
