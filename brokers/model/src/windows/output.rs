//! What comes out of windows: results and late events, in arrays of the caller's.
//!
//! Leaves out what becomes of them. The keys lie in one arena, so that a thousand results cost no thousand allocations.

use serde::{Deserialize, Serialize};

use super::Event;
use super::aggregate::Aggregate;
use crate::batch::LaneId;
use crate::time::Time;

/// Why a result comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firing {
    /// The watermark has reached the window's end: its first result.
    Main,
    /// An event came after that and within the allowed lateness: this replaces what was said of the window before, if anything.
    Late,
    /// A session that was shown has grown or joined another: what was said of it no longer holds.
    Withdrawn,
}

/// One window of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowResult<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The first moment in it; the origin where it would begin before that.
    pub start: Time,
    /// The first moment after it.
    pub end: Time,
    /// What is in it.
    pub aggregate: Aggregate,
    /// Why it comes.
    pub firing: Firing,
}

/// Keys and values, one behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ResultRow {
    key: Place,
    start: u64,
    end: u64,
    aggregate: Aggregate,
    firing: Firing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LateRow {
    key: Place,
    lane: LaneId,
    time: Time,
    value: i64,
}

/// Results and late events, in the order in which they came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowOutput {
    bytes: Vec<u8>,
    results: Vec<ResultRow>,
    late: Vec<LateRow>,
}

impl WindowOutput {
    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.results.clear();
        self.late.clear();
    }

    /// Whether there is neither a result nor a late event.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty() && self.late.is_empty()
    }

    /// How many results there are so far.
    pub(super) fn mark(&self) -> usize {
        self.results.len()
    }

    /// The results. Those of one step come by the window's end; those with one end in no order that is promised.
    pub fn results(&self) -> impl Iterator<Item = WindowResult<'_>> {
        self.results.iter().map(|row| WindowResult {
            key: self.key(row.key),
            start: Time(row.start),
            end: Time(row.end),
            aggregate: row.aggregate,
            firing: row.firing,
        })
    }

    /// Events that came too late for every window of theirs.
    pub fn late(&self) -> impl Iterator<Item = Event<'_>> {
        self.late.iter().map(|row| Event { lane: row.lane, time: row.time, key: self.key(row.key), value: row.value })
    }

    /// Why each result from a mark on came.
    pub(super) fn firings(&self, mark: usize) -> impl Iterator<Item = Firing> {
        self.results[mark..].iter().map(|row| row.firing)
    }

    fn key(&self, place: Place) -> &[u8] {
        &self.bytes[place.at..place.at + place.len]
    }

    fn place(&mut self, key: &[u8]) -> Place {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(key);
        Place { at, len: key.len() }
    }

    pub(super) fn push(&mut self, key: &[u8], start: u64, end: u64, aggregate: Aggregate, firing: Firing) {
        let key = self.place(key);
        self.results.push(ResultRow { key, start, end, aggregate, firing });
    }

    pub(super) fn push_late(&mut self, event: &Event<'_>) {
        let key = self.place(event.key);
        self.late.push(LateRow { key, lane: event.lane, time: event.time, value: event.value });
    }
}
