//! Connections between callers and receivers: one request at a time on each, kept open and used again (HTTP/1.1).
//!
//! A try takes a connection that is idle, or opens one, which is a handshake, or finds as many open as there may be. A response gives it
//! back; a try that is given up closes it, as its response may still come. Leaves out how long a handshake takes: that is work that a
//! simulator prices.

use std::collections::BTreeMap;

/// Connections of one caller to one receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pool {
    open: u32,
    idle: u32,
}

/// What was done with connections so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Connections that were opened: handshakes.
    pub(super) opened: u64,
    /// Tries that went over a connection that was there.
    pub(super) reused: u64,
    /// Tries that found as many connections busy as there may be.
    pub(super) exhausted: u64,
    /// Connections that were closed with a try that was given up.
    pub(super) broken: u64,
}

/// All pools, by caller and receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Connections {
    pools: BTreeMap<(u32, u32), Pool>,
    counts: Counts,
}

impl Connections {
    /// Takes a connection for one try, of at most `most` between the two; 0 for any number. Returns whether there was one.
    pub(super) fn take(&mut self, caller: u32, receiver: u32, most: u32) -> bool {
        let pool = self.pools.entry((caller, receiver)).or_default();
        if pool.idle > 0 {
            pool.idle -= 1;
            self.counts.reused += 1;
        } else if most == 0 || pool.open < most {
            pool.open += 1;
            self.counts.opened += 1;
        } else {
            self.counts.exhausted += 1;
            return false;
        }
        true
    }

    /// The response has come: the connection is idle.
    pub(super) fn give_back(&mut self, caller: u32, receiver: u32) {
        if let Some(pool) = self.pools.get_mut(&(caller, receiver)) {
            pool.idle += 1;
        }
    }

    /// No response has come: the connection is of no use to another request.
    pub(super) fn close(&mut self, caller: u32, receiver: u32) {
        if let Some(pool) = self.pools.get_mut(&(caller, receiver)) {
            pool.open -= 1;
            self.counts.broken += 1;
        }
    }

    /// One end is gone, and its connections with it.
    pub(super) fn forget(&mut self, peer: u32) {
        self.pools.retain(|&(caller, receiver), _| caller != peer && receiver != peer);
    }

    /// What was done with connections so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// How many are open, and how many of them are idle.
    #[cfg(test)]
    pub(super) fn open(&self) -> (u32, u32) {
        self.pools.values().fold((0, 0), |(open, idle), pool| (open + pool.open, idle + pool.idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_opened_once_used_again_and_closed_with_a_try_that_is_given_up() {
        let mut connections = Connections::default();
        assert!(connections.take(1, 10, 2) && connections.take(1, 10, 2));
        assert!(!connections.take(1, 10, 2), "as many as there may be");
        assert!(connections.take(2, 10, 2), "another caller has its own");
        connections.give_back(1, 10);
        assert!(connections.take(1, 10, 2), "one is idle");
        connections.close(1, 10);
        assert_eq!(connections.open(), (2, 0));
        assert!(connections.take(1, 10, 2), "there is room for one more");
        let expected = Counts { opened: 4, reused: 1, exhausted: 1, broken: 1 };
        assert_eq!(connections.counts(), expected);
        connections.forget(10);
        connections.give_back(1, 10);
        connections.close(2, 10);
        assert_eq!((connections.open(), connections.counts()), ((0, 0), expected));
        assert!(connections.take(1, 10, 2), "its successor begins anew");
    }
}
