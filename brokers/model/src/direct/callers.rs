//! The clients of the model: callers with their unanswered requests, receivers with their service queues.
//!
//! Leaves out which receiver a request goes to, which is in `route`.

use std::collections::VecDeque;

use crate::batch::Token;
use crate::credit::Credit;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Sends requests.
    Caller,
    /// Serves them.
    Receiver,
    /// Creates, deletes, describes.
    Administrator,
}

/// A service that a receiver is an instance of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    /// The group's index in the model.
    pub(super) group: u32,
    /// Whether the receiver stands in the group's ring of receivers with room.
    pub(super) listed: bool,
}

/// A try in a receiver's service queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    /// The group's index in the model.
    pub(super) group: u32,
    /// The request's row in its service.
    pub(super) id: u32,
    /// The try: unlike the request's own epoch once the caller gave it up.
    pub(super) epoch: u32,
}

/// Operations between two flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Segment {
    /// How many of them have not ended.
    open: u64,
    /// The flush that waits for them and for all before.
    flush: Option<Token>,
}

/// One connected client.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The host's number for it.
    pub(super) number: u32,
    /// What it may do.
    pub(super) part: Part,
    /// Whether it asked to be closed; it is kept until its operations ended.
    pub(super) closing: bool,
    /// Its free workers.
    pub(super) credit: Credit,
    /// Requests in its service queue, those in work included.
    pub(super) held: u32,
    /// Requests that are stored and wait for a free worker.
    pub(super) ready: VecDeque<Queued>,
    /// What it serves.
    pub(super) bindings: Vec<Binding>,
    /// Under an order: how many endpoints' requests come to it.
    pub(super) active: u32,
    /// Whether it is to be looked at in the step at hand.
    pub(super) dirty: bool,
    /// Operations that have not ended, by the flushes between them; the last one is open to new ones.
    segments: VecDeque<Segment>,
    /// The number of the first segment that is kept.
    first_segment: u32,
    open: u64,
}

impl Peer {
    /// A client that has done nothing yet.
    pub(super) fn new(number: u32, part: Part, bindings: Vec<Binding>) -> Self {
        Self {
            number,
            part,
            closing: false,
            credit: Credit::default(),
            held: 0,
            ready: VecDeque::new(),
            bindings,
            active: 0,
            dirty: false,
            segments: VecDeque::from([Segment::default()]),
            first_segment: 0,
            open: 0,
        }
    }

    /// Operations that have not ended.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// Takes an operation and returns its segment, for `end`.
    pub(super) fn begin(&mut self) -> u32 {
        self.open += 1;
        if let Some(last) = self.segments.back_mut() {
            last.open += 1;
        }
        self.first_segment.wrapping_add(self.segments.len() as u32 - 1)
    }

    /// Ends an operation of this segment and calls `done` for each flush that this ends.
    pub(super) fn end(&mut self, segment: u32, mut done: impl FnMut(Token)) {
        self.open -= 1;
        let index = segment.wrapping_sub(self.first_segment) as usize;
        self.segments[index].open -= 1;
        while let Some(&Segment { open: 0, flush: Some(token) }) = self.segments.front() {
            done(token);
            self.segments.pop_front();
            self.first_segment = self.first_segment.wrapping_add(1);
        }
    }

    /// Whether everything taken so far has ended; if not, `token` is kept until it has.
    pub(super) fn flush(&mut self, token: Token) -> bool {
        if self.open == 0 {
            return true;
        }
        if let Some(last) = self.segments.back_mut() {
            last.flush = Some(token);
        }
        self.segments.push_back(Segment::default());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_for_what_was_taken_before_it_and_not_for_what_came_after() {
        let mut peer = Peer::new(0, Part::Caller, Vec::new());
        assert!(peer.flush(Token(1)));
        let (early, other) = (peer.begin(), peer.begin());
        assert!(!peer.flush(Token(2)));
        assert!(!peer.flush(Token(3)));
        let late = peer.begin();
        assert!(!peer.flush(Token(4)));
        let mut done = Vec::new();
        peer.end(late, |token| done.push(token.0));
        peer.end(early, |token| done.push(token.0));
        assert!(done.is_empty());
        peer.end(other, |token| done.push(token.0));
        assert_eq!((done, peer.open()), (vec![2, 3, 4], 0));
        assert!(peer.flush(Token(5)));
        let last = peer.begin();
        peer.end(last, |token| panic!("{token:?} was done before"));
    }
}
