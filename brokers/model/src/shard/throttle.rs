//! A shard's write limits and the producers that wait for them.
//!
//! Leaves out the read limit, which belongs to each application's cursor.

use crate::completion::Event;
use crate::machine::Effects;
use crate::stream::Bucket;
use crate::time::{Span, Time};

/// A shard's two write limits. A record needs both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteLimits {
    records: Bucket,
    bytes: Bucket,
}

impl WriteLimits {
    /// Limits that begin with what comes in over `credit`; one record in any case.
    pub(super) fn with(records_per_s: u32, bytes_per_s: u32, credit: Span, now: Time) -> Self {
        Self { records: Bucket::with(records_per_s, credit, 1, now), bytes: Bucket::with(bytes_per_s, credit, 0, now) }
    }

    /// Lets a record of `bytes` through, or says when it would get through.
    #[inline]
    pub(super) fn admit(&mut self, now: Time, bytes: u32) -> Result<(), Time> {
        self.records.fill(now);
        self.bytes.fill(now);
        if !self.records.has(1) || !self.bytes.has(bytes) {
            return Err(self.records.ready_at(1).max(self.bytes.ready_at(bytes)));
        }
        self.records.draw(1);
        self.bytes.draw(bytes);
        Ok(())
    }
}

/// Producers that were held back because their next record must not be overtaken, each with the time from which it may try again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    until: Vec<(u32, Time)>,
    next: Option<Time>,
}

impl Waiting {
    /// The first of them may try again.
    pub(super) fn next(&self) -> Option<Time> {
        self.next
    }

    /// Holds `client` back until `time`.
    pub(super) fn hold(&mut self, client: u32, time: Time, out: &mut Effects) {
        if let Some((_, until)) = self.until.iter_mut().find(|(waiting, _)| *waiting == client) {
            *until = time;
        } else {
            self.until.push((client, time));
            out.events.push((client, Event::Blocked));
        }
        self.note_next();
    }

    /// Lets `client` go: it got through.
    pub(super) fn through(&mut self, client: u32, out: &mut Effects) {
        if let Some(at) = self.until.iter().position(|&(waiting, _)| waiting == client) {
            self.until.remove(at);
            out.events.push((client, Event::Unblocked));
            self.note_next();
        }
    }

    /// Lets those go whose time has come.
    pub(super) fn due(&mut self, now: Time, out: &mut Effects) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        self.until.retain(|&(client, until)| {
            if until <= now {
                out.events.push((client, Event::Unblocked));
            }
            until > now
        });
        self.note_next();
    }

    /// Forgets a client that left.
    pub(super) fn forget(&mut self, client: u32) {
        self.until.retain(|&(waiting, _)| waiting != client);
        self.note_next();
    }

    fn note_next(&mut self) {
        self.next = self.until.iter().map(|&(_, until)| until).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_needs_both_limits() {
        let mut limits = WriteLimits::with(2, 1_000, Span::from_secs(1), Time(0));
        assert_eq!(limits.admit(Time(0), 900), Ok(()));
        assert_eq!(limits.admit(Time(0), 900), Err(Time(800_000_000)));
        assert_eq!(limits.admit(Time(0), 100), Ok(()));
        assert_eq!(limits.admit(Time(0), 0), Err(Time(500_000_000)), "two records were admitted");
        assert_eq!(limits.admit(Time(500_000_000), 500), Ok(()));
    }

    #[test]
    fn a_waiting_producer_is_told_once_and_let_go_once() {
        let mut waiting = Waiting::default();
        let mut out = Effects::default();
        waiting.hold(7, Time(10), &mut out);
        waiting.hold(8, Time(30), &mut out);
        waiting.hold(7, Time(20), &mut out);
        assert_eq!(out.events, [(7, Event::Blocked), (8, Event::Blocked)]);
        assert_eq!(waiting.next(), Some(Time(20)));
        out.clear();
        waiting.due(Time(19), &mut out);
        assert!(out.is_empty());
        waiting.due(Time(20), &mut out);
        waiting.through(8, &mut out);
        assert_eq!(out.events, [(7, Event::Unblocked), (8, Event::Unblocked)]);
        assert_eq!(waiting.next(), None);
    }
}
