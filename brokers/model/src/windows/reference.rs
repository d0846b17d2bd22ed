//! The same as a batch computation: the whole trace in memory, sorted and grouped, with nothing clever.
//!
//! Which events are too late follows from their order alone, see [`watermarks`]; all else from the set of the others. Leaves
//! out lanes that are released by hand. Public, so that results of a run can be held against it.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::Event;
use super::aggregate::Aggregate;
use super::options::{WindowKind, WindowOptions};
use super::output::{Firing, WindowOutput, WindowResult};
use crate::time::Time;

/// A key's window: key, first moment in it, first moment after it.
pub type KeyWindow = (Vec<u8>, Time, Time);

/// What stands for each window of each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(pub BTreeMap<KeyWindow, Aggregate>);

/// Results that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// A window's first result came twice.
    #[error("{} fired for the first time, and had fired before", Named(.0))]
    FiredTwice(KeyWindow),
    /// A result was withdrawn that does not stand.
    #[error("{} was withdrawn as it does not stand", Named(.0))]
    NeverShown(KeyWindow),
}

/// Where two tables differ first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The window.
    pub window: KeyWindow,
    /// What the one says.
    pub found: Option<Aggregate>,
    /// What the other says.
    pub expected: Option<Aggregate>,
}

/// A window in words.
struct Named<'a>(&'a KeyWindow);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, start, end) = self.0;
        write!(f, "the window [{}, {}) ns of key {}", start.0, end.0, key.escape_ascii())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let say = |aggregate: &Option<Aggregate>| match aggregate {
            None => "nothing".to_owned(),
            Some(a) => format!("count {}, sum {}, least {}, greatest {}", a.count, a.sum, a.min, a.max),
        };
        write!(f, "{}: {} instead of {}", Named(&self.window), say(&self.found), say(&self.expected))
    }
}

impl Table {
    /// What stands after a result.
    pub fn apply(&mut self, result: &WindowResult<'_>) -> Result<(), Contradiction> {
        let window = (result.key.to_vec(), result.start, result.end);
        let stands = self.0.get(&window);
        match result.firing {
            Firing::Main if stands.is_some() => return Err(Contradiction::FiredTwice(window)),
            Firing::Withdrawn if stands != Some(&result.aggregate) => return Err(Contradiction::NeverShown(window)),
            Firing::Main | Firing::Late => self.0.insert(window, result.aggregate),
            Firing::Withdrawn => self.0.remove(&window),
        };
        Ok(())
    }

    /// What stands after all of these results.
    pub fn apply_all(&mut self, output: &WindowOutput) -> Result<(), Contradiction> {
        output.results().try_for_each(|result| self.apply(&result))
    }

    /// Where it differs first from what is expected, in order of key and time.
    pub fn first_difference(&self, expected: &Self) -> Option<Difference> {
        let windows = self.0.keys().chain(expected.0.keys());
        let differs = |window: &&KeyWindow| self.0.get(*window) != expected.0.get(*window);
        let window = windows.filter(differs).min()?.clone();
        let (found, expected) = (self.0.get(&window).copied(), expected.0.get(&window).copied());
        Some(Difference { window, found, expected })
    }
}

/// What a batch computation finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// What stands in the end.
    pub table: Table,
    /// Which events of the trace were too late for all of their windows, in order.
    pub late: Vec<usize>,
    /// How many more were too late for some.
    pub partly_late: u64,
}

/// The watermark before each event of a trace, and the one after the last.
pub fn watermarks(options: &WindowOptions, trace: &[Event<'_>]) -> Vec<Time> {
    let mut watermarks = vec![Time::ZERO];
    let first = trace.first().map_or(Time::ZERO, |event| event.time);
    // By lane: the latest event time, how many events there were with its last one, and the latest time of all then.
    let mut lanes = vec![(Time::ZERO, 0, first); options.lanes as usize];
    let mut front = Time::ZERO;
    for (events, event) in (1u64..).zip(trace) {
        front = front.max(event.time);
        let lane = &mut lanes[event.lane.0 as usize];
        *lane = (lane.0.max(event.time), events, front);
        let active = lanes.iter().filter(|(_, seen_at, front_at)| {
            let many = options.idle_after_events.is_some_and(|most| events - seen_at >= most);
            let long = options.idle_after.is_some_and(|most| front.since(*front_at) > most);
            !many && !long
        });
        let reached = active.map(|lane| lane.0 - options.disorder).min().unwrap_or(Time::ZERO);
        let before = *watermarks.last().expect("it begins with one");
        watermarks.push(before.max(reached));
    }
    watermarks
}

/// What stands in the end of a trace, all windows fired.
pub fn batch(options: &WindowOptions, trace: &[Event<'_>]) -> Expected {
    let mut batch = Batch::new(options);
    let mut expected = Expected::default();
    for (index, (event, watermark)) in trace.iter().zip(watermarks(options, trace)).enumerate() {
        let (taken, of) = batch.add(event.time, event.key, event.value, watermark);
        if taken == 0 {
            expected.late.push(index);
        } else if taken < of {
            expected.partly_late += 1;
        }
    }
    Expected { table: batch.finish(), ..expected }
}

/// A batch computation that is handed its events one by one, in any order, and keeps what it needs of all of them.
#[derive(Clone, Debug)]
pub struct Batch {
    options: WindowOptions,
    table: Table,
    /// Of sessions: every key's times and values.
    by_key: BTreeMap<Vec<u8>, Vec<(u64, i64)>>,
}

impl Batch {
    /// Without events.
    pub fn new(options: &WindowOptions) -> Self {
        Self { options: *options, table: Table::default(), by_key: BTreeMap::new() }
    }

    /// An event that came when the watermark was there. How many of its windows took it, and how many it has.
    pub fn add(&mut self, time: Time, key: &[u8], value: i64, watermark: Time) -> (usize, usize) {
        let windows = windows_of(&self.options, time);
        let open = |end: u64| end + self.options.lateness.0 > watermark.0;
        let taken: Vec<(u64, u64)> = windows.iter().copied().filter(|window| open(window.1)).collect();
        for &(start, end) in &taken {
            if let WindowKind::Session { .. } = self.options.kind {
                self.by_key.entry(key.to_vec()).or_default().push((time.0, value));
            } else {
                self.table.add((key.to_vec(), Time(start), Time(end)), value);
            }
        }
        (taken.len(), windows.len())
    }

    /// What stands once all windows have fired.
    pub fn finish(mut self) -> Table {
        if let WindowKind::Session { gap } = self.options.kind {
            for (key, events) in self.by_key {
                self.table.add_sessions(&key, events, gap.0);
            }
        }
        self.table
    }
}

/// Start and end of each window that holds an event at `time`; of a session, what it would be by itself.
fn windows_of(options: &WindowOptions, time: Time) -> Vec<(u64, u64)> {
    let (size, slide) = match options.kind {
        WindowKind::Tumbling { size } => (size.0, size.0),
        WindowKind::Sliding { size, slide } => (size.0, slide.0),
        WindowKind::Session { gap } => return vec![(time.0, time.0 + gap.0)],
    };
    let (size, slide, time) = (i128::from(size), i128::from(slide), i128::from(time.0));
    let mut windows = Vec::new();
    let mut start = time / slide * slide;
    while start + size > time {
        windows.push((start.max(0) as u64, (start + size) as u64));
        start -= slide;
    }
    windows
}

impl Table {
    fn add(&mut self, window: KeyWindow, value: i64) {
        self.0.entry(window).and_modify(|aggregate| aggregate.add(value)).or_insert_with(|| Aggregate::of(value));
    }

    /// Cuts a key's events, in whatever order, where nothing came for the gap.
    fn add_sessions(&mut self, key: &[u8], mut events: Vec<(u64, i64)>, gap: u64) {
        events.sort_unstable();
        for session in events.chunk_by(|before, after| after.0 - before.0 < gap) {
            let (first, last) = (session[0].0, session[session.len() - 1].0);
            for (_, value) in session {
                self.add((key.to_vec(), Time(first), Time(last + gap)), *value);
            }
        }
    }
}
