//! Publishes that wait for the storage: a ring of messages and a ring of tickets over it.
//!
//! Leaves out what an answer means; [`super::Stream::stored`] gives it.

use std::collections::VecDeque;

use crate::batch::Token;

/// A message that was handed to the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) token: Token,
    pub(crate) position: u64,
    pub(crate) lane: u32,
}

/// A publish call: whose, and how many of the ring's messages are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) client: u32,
    pub(crate) count: u32,
    /// It is the commit of the client's transaction, and has no messages.
    pub(crate) commits: bool,
}

/// What was sent and not yet answered, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) sent: VecDeque<Sent>,
    calls: VecDeque<Call>,
    /// The oldest call's ticket.
    first: u64,
}

impl Pending {
    /// The ticket that the call in hand will have.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.first + self.calls.len() as u64
    }

    /// Ends the call in hand and returns its ticket.
    pub(crate) fn close(&mut self, client: u32, count: u32) -> u64 {
        let ticket = self.next_ticket();
        self.calls.push_back(Call { client, count, commits: false });
        ticket
    }

    /// A call that commits the client's transaction; returns its ticket.
    pub(crate) fn commit(&mut self, client: u32) -> u64 {
        let ticket = self.next_ticket();
        self.calls.push_back(Call { client, count: 0, commits: true });
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
