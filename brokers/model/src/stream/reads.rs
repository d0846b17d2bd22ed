//! How fast groups may read a lane: not limited, each group by itself, or all groups together in calls.
//!
//! *Each* is a stream that is pushed: a token bucket of bytes for each group. *Shared* is polling: all groups of a lane make their
//! calls in turn, evenly spread over each second, and one that finds something fetches as much as a call may return; what it
//! fetched is handed out without a further call, and the next call waits until its bytes are paid back. Calls that find
//! nothing are made too, and counted by the clock alone: something that comes waits for its group's next turn. Leaves out which
//! of the two a model has, and its words for them.

use super::Source;
use super::lane::{Cursor, Lane};
use crate::routing::mix;
use crate::time::{Span, Time};

/// How fast groups may read a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// As fast as their members take it.
    Unlimited,
    /// So many bytes per second for each group.
    Each {
        /// At least 1.
        bytes_per_s: u32,
        /// Of so long a time, what is there when a lane or a group begins.
        credit: Span,
    },
    /// All groups together.
    Shared(Calls),
}

/// What all groups of a lane may do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calls {
    /// At least 1.
    pub(crate) per_s: u32,
    /// At least 1.
    pub(crate) bytes_per_s: u32,
    /// The most bytes of a call, save that one message is always returned.
    pub(crate) most_bytes: u64,
    /// The most messages of a call; at least 1.
    pub(crate) most_messages: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Calls {
    /// The first turn at or after `from` of the group with this place among so many, in this lane. Lanes are out of step with each other.
    fn turn(&self, from: Time, (lane, slot): Source, groups: usize) -> Time {
        let calls = u64::from(self.per_s);
        let step = mix(u64::from(lane)) % SECOND.div_ceil(calls);
        let from = u128::from(from.0.saturating_sub(step));
        let (slot, groups) = (u128::from(slot), groups as u128);
        // Call number n of the lane is due at n ÷ calls seconds, rounded up; every groups-th is this group's.
        let at = |n: u128| (n * u128::from(SECOND)).div_ceil(u128::from(calls));
        let first = from * u128::from(calls) / u128::from(SECOND);
        let mut n = slot + first.saturating_sub(slot) / groups * groups;
        while at(n) < from {
            n += groups;
        }
        Time(u64::try_from(at(n)).unwrap_or(u64::MAX)) + Span(step)
    }
}

/// How many of the `count` messages from `from` on the group may have now, or from when on it may have the next. `end` is where
/// the run of messages ends that a call may fetch.
pub(super) fn allowed(
    reads: Reads,
    now: Time,
    lane: &mut Lane,
    source: Source,
    (from, end): (u64, u64),
    count: u64,
) -> Result<u64, Time> {
    match reads {
        Reads::Unlimited => Ok(count),
        Reads::Each { .. } => afford(now, lane, source.1, from, count),
        Reads::Shared(calls) => call(calls, now, lane, source, (from, end)).map(|fetched| count.min(fetched - from)),
    }
}

/// How far the group has fetched, after a call if it needs one.
fn call(calls: Calls, now: Time, lane: &mut Lane, source: Source, (from, end): (u64, u64)) -> Result<u64, Time> {
    let slot = source.1;
    let groups = lane.cursors.len();
    let Cursor { fetched, called, turn, .. } = lane.cursors[slot as usize];
    if from < fetched {
        return Ok(fetched);
    }
    let due = if turn == Time::ZERO { calls.turn(now.max(called), source, groups) } else { turn };
    let due = if lane.paid_back > now.max(due) { calls.turn(lane.paid_back, source, groups) } else { due };
    if due > now {
        lane.cursors[slot as usize].turn = due;
        return Err(due);
    }
    let most = (end - from).min(calls.most_messages);
    let begin = lane.bytes_before(from);
    let cost = |messages: u64| lane.bytes_before(from + messages).saturating_sub(begin);
    let mut messages = most;
    if cost(most) > calls.most_bytes {
        // The most messages that fit; one that does not fit is returned alone.
        let (mut low, mut high) = (1, most);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if cost(middle) <= calls.most_bytes {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        messages = low;
    }
    let owed = u128::from(cost(messages)) * u128::from(SECOND);
    let owed = u64::try_from(owed.div_ceil(u128::from(calls.bytes_per_s))).unwrap_or(u64::MAX);
    lane.paid_back = lane.paid_back.max(now) + Span(owed);
    let cursor = &mut lane.cursors[slot as usize];
    (cursor.fetched, cursor.called, cursor.turn) = (from + messages, now + Span(1), Time::ZERO);
    Ok(cursor.fetched)
}

/// How many of the `count` messages from `from` on the read limit allows, and charges them; or from when on it allows the next.
/// Something goes out while the bucket holds anything; what the last message draws too much is a debt.
fn afford(now: Time, lane: &mut Lane, slot: u32, from: u64, count: u64) -> Result<u64, Time> {
    let Cursor { reads: Some(mut reads), charged, .. } = lane.cursors[slot as usize] else { return Ok(count) };
    reads.fill(now);
    let tokens = u64::from(reads.tokens());
    if tokens == 0 {
        lane.cursors[slot as usize].reads = Some(reads);
        return Err(reads.ready_at(1));
    }
    // What was charged stays charged: the count of a stretch may get finer while it is read.
    let begin = if charged.0 == from { charged.1 } else { lane.bytes_before(from) };
    let cost = |messages| lane.bytes_before(from + messages).saturating_sub(begin);
    let mut affordable = count;
    if cost(count) > tokens {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if cost(middle) < tokens {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        affordable = low;
    }
    let drawn = cost(affordable);
    reads.draw(drawn.min(u64::from(u32::MAX)) as u32);
    let cursor = &mut lane.cursors[slot as usize];
    cursor.charged = (from + affordable, begin + drawn);
    cursor.reads = Some(reads);
    Ok(affordable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_turns_evenly_over_each_second() {
        let calls = Calls { per_s: 5, bytes_per_s: 1, most_bytes: 1, most_messages: 1 };
        let ms = |ms: u64| Time(ms * 1_000_000);
        for (from, turn) in [(0, 0), (1, 200), (200, 200), (950, 1_000)] {
            assert_eq!(calls.turn(ms(from), (0, 0), 1), ms(turn), "alone, from {from} ms on");
        }
        for (from, turn) in [(0, 200), (200, 200), (201, 1_200), (3_000, 3_200)] {
            assert_eq!(calls.turn(ms(from), (0, 1), 5), ms(turn), "the second of five, from {from} ms on");
        }
        let turns: Vec<u64> = (0..4).map(|lane| calls.turn(ms(0), (lane, 0), 1).0 / 1_000_000).collect();
        assert!(
            turns.iter().all(|&turn| turn < 200) && turns[0] == 0 && turns[1..].iter().all(|&turn| turn > 0),
            "{turns:?}"
        );
        let later = calls.turn(ms(1_000), (2, 0), 1).0 - calls.turn(ms(0), (2, 0), 1).0;
        assert_eq!(later % 200_000_000, 0, "each at its own times");
        let third = Calls { per_s: 3, ..calls };
        assert_eq!(third.turn(Time(333_333_334), (0, 0), 1), Time(333_333_334));
        assert_eq!(third.turn(Time(333_333_335), (0, 0), 1), Time(666_666_667));
    }
}
