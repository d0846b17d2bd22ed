//! Publishes that wait for the storage: rings of tokens, of runs of messages, and of tickets over them.
//!
//! Leaves out what an answer means; [`super::Stream::stored`] gives it.

use std::collections::VecDeque;
use std::ops::Range;

use crate::batch::Token;
use crate::completion::Outcome;

/// Successive messages of a lane that were handed to the storage by one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) position: u64,
    pub(crate) lane: u32,
    pub(crate) count: u32,
    pub(crate) what: What,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// That they are stored.
    Fresh,
    /// That the one message is, which an earlier call handed over.
    Repeat,
    /// The same, and it could not be.
    LostRepeat,
}

/// What waits for the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Messages.
    Publish,
    /// The commit of the client's transaction.
    Commit,
    /// A record of the administrator's; its outcome is the next of the ring.
    Record,
}

/// A call that waits: whose, and how many messages and runs of the rings are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) client: u32,
    pub(crate) count: u32,
    pub(crate) runs: u32,
    pub(crate) kind: Kind,
}

/// What was sent and not yet answered, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) tokens: VecDeque<Token>,
    pub(crate) sent: VecDeque<Sent>,
    /// How each record ends once it is stored.
    pub(crate) records: VecDeque<Outcome>,
    /// Runs of the call in hand.
    open_runs: u32,
    calls: VecDeque<Call>,
    /// The oldest call's ticket.
    first: u64,
}

impl Pending {
    /// The ticket that the call in hand will have.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.first + self.calls.len() as u64
    }

    /// The messages of these tokens were handed to the storage, the first as `position` of `lane`.
    #[inline]
    pub(crate) fn send(&mut self, lane: u32, position: u64, tokens: &[Token]) {
        self.tokens.extend(tokens);
        let count = tokens.len() as u32;
        if self.open_runs > 0
            && let Some(last) = self.sent.back_mut()
            && last.lane == lane
            && last.what == What::Fresh
        {
            debug_assert_eq!(last.position + u64::from(last.count), position, "a lane's positions are dense");
            last.count += count;
        } else {
            self.sent.push_back(Sent { position, lane, count, what: What::Fresh });
            self.open_runs += 1;
        }
    }

    /// The message of this token is at `position` of `lane`, handed to the storage and not yet answered.
    pub(crate) fn repeat(&mut self, lane: u32, position: u64, token: Token) {
        self.tokens.push_back(token);
        self.sent.push_back(Sent { position, lane, count: 1, what: What::Repeat });
        self.open_runs += 1;
    }

    /// Positions of `lane` could not be stored: who waits for one of them in a later call waits for nothing.
    pub(crate) fn lose(&mut self, lane: u32, positions: &Range<u64>) {
        let waits = |sent: &&mut Sent| sent.what == What::Repeat && sent.lane == lane;
        for sent in self.sent.iter_mut().filter(waits).filter(|sent| positions.contains(&sent.position)) {
            sent.what = What::LostRepeat;
        }
    }

    /// Ends the call in hand and returns its ticket.
    pub(crate) fn close(&mut self, client: u32, count: u32) -> u64 {
        let ticket = self.next_ticket();
        let runs = std::mem::take(&mut self.open_runs);
        self.calls.push_back(Call { client, count, runs, kind: Kind::Publish });
        ticket
    }

    /// A call that commits the client's transaction; returns its ticket.
    pub(crate) fn commit(&mut self, client: u32) -> u64 {
        self.wait(client, Kind::Commit)
    }

    /// A call that writes a record, which then ends so; returns its ticket.
    pub(crate) fn record(&mut self, client: u32, outcome: Outcome) -> u64 {
        self.records.push_back(outcome);
        self.wait(client, Kind::Record)
    }

    fn wait(&mut self, client: u32, kind: Kind) -> u64 {
        let ticket = self.next_ticket();
        self.calls.push_back(Call { client, count: 0, runs: 0, kind });
        ticket
    }

    /// The oldest call if its ticket is covered by `ticket`, with its own ticket.
    pub(crate) fn pop_through(&mut self, ticket: u64) -> Option<(u64, Call)> {
        if self.first > ticket {
            return None;
        }
        let call = self.calls.pop_front()?;
        self.first += 1;
        Some((self.first - 1, call))
    }
}

/// What stands at these places of a ring, in the one or two pieces that it stands in: each with how many come before it.
pub(crate) fn pieces(ring: &VecDeque<Token>, places: Range<usize>) -> [(usize, &[Token]); 2] {
    let (front, back) = ring.as_slices();
    let cut = places.end.min(front.len()).max(places.start);
    let behind = |place: usize| place.saturating_sub(front.len());
    let first = front.get(places.start..cut).unwrap_or_default();
    [(0, first), (first.len(), &back[behind(places.start)..behind(places.end)])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_ring_are_what_stands_there_wherever_it_wraps() {
        for turned in 0..8 {
            let mut ring = VecDeque::with_capacity(8);
            ring.extend((0..turned).map(Token));
            ring.drain(..);
            ring.extend((0..8).map(Token));
            for (from, to) in (0..=8).flat_map(|from| (from..=8).map(move |to| (from, to))) {
                let found = pieces(&ring, from..to);
                let tokens: Vec<Token> = found.iter().flat_map(|(_, piece)| piece.iter().copied()).collect();
                assert_eq!(tokens, (from as u64..to as u64).map(Token).collect::<Vec<_>>());
                assert_eq!((found[0].0, found[1].0), (0, found[0].1.len()));
            }
        }
    }
}
