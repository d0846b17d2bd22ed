//! A producer's books: publishes in a bounded window, each ended once by a confirm, by being written, or with its connection.
//!
//! Leaves out the socket, and which messages are refused before they are tried.

use std::collections::VecDeque;

use brokerlab_model::{Completions, Failure, LaneId, Outcome, Refusal, Status, Token};

/// A full window opens again when this part of it is free.
const REOPENS_AT: usize = 16;

/// A publish between being taken and its end.
#[derive(Clone, Copy, Debug)]
struct Pending {
    token: Token,
    lane: LaneId,
    /// Where its last byte stands in the connection's stream.
    end: u64,
    ended: bool,
    returned: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Producer {
    /// By publish number; the first is `first`.
    window: VecDeque<Pending>,
    /// The number of the oldest publish in the window. Confirms count from 1 on each connection.
    first: u64,
    /// Whether the window was full and has not opened again.
    is_full: bool,
    /// Flushes, each with the number of the publish after the last that it waits for.
    flushes: VecDeque<(Token, u64)>,
    /// How many messages came back because no queue was there for them.
    pub(super) returned: u64,
}

impl Producer {
    pub(super) fn new() -> Self {
        Self { first: 1, ..Self::default() }
    }

    /// How many publishes are in the window.
    pub(super) fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Whether one more fits into a window of this size. One that was full opens again when a sixteenth of it is free: otherwise every confirm
    /// lets as many messages go as it ends, and few at a time stay few, each with a write here and a wake-up at the broker. RabbitMQ's own
    /// flow control gives back its credit in halves for the same reason.
    pub(super) fn takes_more(&mut self, window: usize) -> bool {
        self.is_full = self.in_flight() >= window || self.is_full && self.in_flight() > window - window / REOPENS_AT;
        !self.is_full
    }

    /// The number that the next publish will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.window.len() as u64
    }

    /// Notes a publish whose last byte stands at `end`.
    pub(super) fn published(&mut self, token: Token, lane: LaneId, end: u64) {
        self.window.push_back(Pending { token, lane, end, ended: false, returned: false });
    }

    /// Waits for everything published so far; false when that has ended already.
    pub(super) fn flush(&mut self, token: Token) -> bool {
        if self.window.is_empty() {
            return false;
        }
        self.flushes.push_back((token, self.next()));
        true
    }

    /// Ends what a confirm covers: one publish, or (`multiple`) every one up to it; with number 0, all.
    pub(super) fn confirmed(&mut self, number: u64, multiple: bool, status: Status, out: &mut Completions) {
        let last = if number == 0 { self.next() - 1 } else { number };
        if multiple {
            while self.first <= last {
                let Some(pending) = self.window.pop_front() else { break };
                self.first += 1;
                end(pending, status, out);
            }
        } else if last == self.first {
            if let Some(pending) = self.window.pop_front() {
                self.first += 1;
                end(pending, status, out);
            }
        } else if let Some(pending) =
            last.checked_sub(self.first).and_then(|at| self.window.get_mut(usize::try_from(at).ok()?))
        {
            end(*pending, status, out);
            pending.ended = true;
        }
        self.settle(out);
    }

    /// Ends everything whose last byte stands at or before `written`: without confirms that is all there is to know.
    pub(super) fn written(&mut self, written: u64, out: &mut Completions) {
        while self.window.front().is_some_and(|pending| pending.end <= written) {
            if let Some(pending) = self.window.pop_front() {
                self.first += 1;
                end(pending, Status::Done, out);
            }
        }
        self.settle(out);
    }

    /// Notes that a message came back: no queue was there for it. Its confirm follows.
    pub(super) fn returned(&mut self, id: &[u8]) {
        self.returned += 1;
        let number: Option<u64> = std::str::from_utf8(id).ok().and_then(|text| text.parse().ok());
        let at = number.and_then(|number| number.checked_sub(self.first)).and_then(|at| usize::try_from(at).ok());
        if let Some(pending) = at.and_then(|at| self.window.get_mut(at)) {
            pending.returned = true;
        }
    }

    /// Ends everything with its connection: unknown what was written, failed what was not.
    pub(super) fn disconnected(&mut self, written: u64, out: &mut Completions) {
        for pending in self.window.drain(..) {
            let unknown = pending.end <= written;
            end(pending, if unknown { Status::Unknown } else { Status::Failed(Failure::Disconnected) }, out);
        }
        for (token, _) in self.flushes.drain(..) {
            out.outcomes.push(Outcome { token, status: Status::Done, lane: LaneId(0), position: 0 });
        }
        self.first = 1;
    }

    /// Drops what has ended from the front, and ends the flushes that waited for it.
    fn settle(&mut self, out: &mut Completions) {
        while self.window.front().is_some_and(|pending| pending.ended) {
            self.window.pop_front();
            self.first += 1;
        }
        while let Some(&(token, after)) = self.flushes.front()
            && after <= self.first
        {
            self.flushes.pop_front();
            out.outcomes.push(Outcome { token, status: Status::Done, lane: LaneId(0), position: 0 });
        }
    }
}

/// Ends one publish, once.
fn end(pending: Pending, status: Status, out: &mut Completions) {
    if pending.ended {
        return;
    }
    let status = if pending.returned && status == Status::Done { Status::Refused(Refusal::NoSuchLane) } else { status };
    out.outcomes.push(Outcome { token: pending.token, status, lane: pending.lane, position: 0 });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(count: u64) -> Producer {
        let mut producer = Producer::new();
        for n in 1..=count {
            producer.published(Token(n), LaneId(0), n * 10);
        }
        producer
    }

    fn ended(out: &Completions) -> Vec<(u64, Status)> {
        out.outcomes.iter().map(|outcome| (outcome.token.0, outcome.status)).collect()
    }

    proptest! {
        #[test]
        fn every_publish_ends_once_in_whatever_order_confirms_come(
            confirms in prop::collection::vec((0u64..70, any::<bool>(), any::<bool>()), 0..120),
        ) {
            let (mut producer, mut out) = (window(60), Completions::default());
            prop_assert!(producer.flush(Token(1_000)));
            for (number, multiple, nack) in confirms {
                let status = if nack { Status::Failed(Failure::Storage) } else { Status::Done };
                producer.confirmed(number, multiple, status, &mut out);
            }
            producer.disconnected(300, &mut out);
            let mut tokens: Vec<u64> = ended(&out).iter().map(|(token, _)| *token).collect();
            tokens.sort_unstable();
            prop_assert_eq!(tokens, (1..=60).chain([1_000]).collect::<Vec<_>>());
            prop_assert_eq!(producer.in_flight(), 0);
        }
    }

    #[test]
    fn a_full_window_opens_when_a_sixteenth_is_free_and_a_small_one_at_once() {
        let (mut producer, mut out) = (window(31), Completions::default());
        assert!(producer.takes_more(32));
        producer.published(Token(32), LaneId(0), 320);
        assert!(!producer.takes_more(32));
        producer.confirmed(1, false, Status::Done, &mut out);
        assert!(!producer.takes_more(32), "31 of 32");
        producer.confirmed(2, false, Status::Done, &mut out);
        assert!(producer.takes_more(32), "30 of 32");
        producer.published(Token(33), LaneId(0), 330);
        assert!(producer.takes_more(32), "it was not full again");
        let mut small = window(1);
        assert!(!small.takes_more(1));
        small.confirmed(1, false, Status::Done, &mut out);
        assert!(small.takes_more(1));
    }

    #[test]
    fn a_flush_ends_after_the_last_publish_before_it() {
        let (mut producer, mut out) = (window(3), Completions::default());
        assert!(producer.flush(Token(50)));
        producer.published(Token(4), LaneId(0), 40);
        producer.confirmed(3, false, Status::Done, &mut out);
        producer.confirmed(2, true, Status::Done, &mut out);
        let done = |n| (n, Status::Done);
        assert_eq!(ended(&out), [done(3), done(1), done(2), done(50)]);
        assert_eq!((producer.in_flight(), producer.next()), (1, 5));
        producer.confirmed(4, false, Status::Done, &mut out);
        assert!(!producer.flush(Token(51)), "there is nothing to wait for");
    }

    #[test]
    fn what_was_written_is_unknown_and_what_was_not_has_failed() {
        let (mut producer, mut out) = (window(3), Completions::default());
        producer.disconnected(20, &mut out);
        let failed = Status::Failed(Failure::Disconnected);
        assert_eq!(ended(&out), [(1, Status::Unknown), (2, Status::Unknown), (3, failed)]);
        assert_eq!(producer.next(), 1, "a new connection counts from 1");
    }

    #[test]
    fn a_message_that_came_back_is_refused_when_it_is_confirmed() {
        let (mut producer, mut out) = (window(2), Completions::default());
        producer.returned(b"2");
        producer.returned(b"nonsense");
        producer.confirmed(2, true, Status::Done, &mut out);
        assert_eq!(ended(&out), [(1, Status::Done), (2, Status::Refused(Refusal::NoSuchLane))]);
        assert_eq!(producer.returned, 2);
    }

    #[test]
    fn without_confirms_a_publish_ends_when_it_is_written() {
        let (mut producer, mut out) = (window(3), Completions::default());
        producer.written(25, &mut out);
        assert_eq!(ended(&out), [(1, Status::Done), (2, Status::Done)]);
    }
}
