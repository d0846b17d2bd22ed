//! The clients of a model: who they are, what they were granted, what of theirs is still to be stored.
//!
//! Leaves out what a client is delivered, which is chosen in `dispatch`.

use std::collections::VecDeque;

use crate::batch::Token;
use crate::credit::Credit;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Publishes.
    Producer,
    /// Is granted and settles.
    Member,
    /// Creates, deletes, describes.
    Administrator,
}

/// A member's subscription to one group of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    /// The group's index in the model.
    pub(super) group: u32,
    /// Whether the member stands in the group's line of members with credit.
    pub(super) waiting: bool,
}

/// A flush or close that waits for publishes to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiter {
    token: Token,
    /// How many publishes must have ended.
    after: u64,
}

/// One connected client.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// The host's number for it.
    pub(super) number: u32,
    /// What it may do.
    pub(super) part: Part,
    /// What it was granted and not yet delivered.
    pub(super) credit: Credit,
    /// Deliveries that it holds unsettled.
    pub(super) in_flight: u32,
    /// What it reads.
    pub(super) bindings: Vec<Subscription>,
    /// Single active consumer: how many queues it alone reads.
    pub(super) active: u32,
    /// Publishes taken so far.
    submitted: u64,
    /// Publishes that ended, in the order in which they were taken.
    ended: u64,
    waiters: VecDeque<Waiter>,
    /// Whether it asked to be closed; it is kept until its publishes ended.
    pub(super) closing: bool,
}

impl Client {
    /// A client that has done nothing yet.
    pub(super) fn new(number: u32, part: Part, bindings: Vec<Subscription>) -> Self {
        Self {
            number,
            part,
            credit: Credit::default(),
            in_flight: 0,
            bindings,
            active: 0,
            submitted: 0,
            ended: 0,
            waiters: VecDeque::new(),
            closing: false,
        }
    }

    /// Operations that are taken and not stored yet.
    pub(super) fn unstored(&self) -> u64 {
        self.submitted - self.ended
    }

    /// Notes operations that will be stored.
    pub(super) fn submit(&mut self, count: u64) {
        self.submitted += count;
    }

    /// Notes that the oldest `count` operations ended, and calls `done` for each waiter that this ends.
    pub(super) fn end(&mut self, count: u64, mut done: impl FnMut(Token)) {
        self.ended += count;
        while let Some(waiter) = self.waiters.front().filter(|waiter| waiter.after <= self.ended) {
            done(waiter.token);
            self.waiters.pop_front();
        }
    }

    /// Whether everything taken so far has ended; if not, `token` is kept until it has.
    pub(super) fn flush(&mut self, token: Token) -> bool {
        let at_once = self.unstored() == 0;
        if !at_once {
            self.waiters.push_back(Waiter { token, after: self.submitted });
        }
        at_once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_for_what_was_taken_before_it() {
        let mut client = Client::new(0, Part::Producer, Vec::new());
        assert!(client.flush(Token(1)));
        client.submit(2);
        assert!(!client.flush(Token(2)));
        client.submit(1);
        let mut done = Vec::new();
        client.end(1, |token| done.push(token));
        assert!(done.is_empty());
        client.end(1, |token| done.push(token));
        assert_eq!((done, client.unstored()), (vec![Token(2)], 1));
    }
}
