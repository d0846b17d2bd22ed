//! Windowed analytics in the stream: tumbling, sliding and session windows over event time, per key, as one state machine.
//!
//! Events of several lanes come in the order in which they are read; results and events that are too late come out. The
//! words and rules are Apache Flink's (which is the analytics of Amazon Kinesis) and Apache Beam's:
//!
//! - A window's end is exclusive; windows of fixed size are aligned to the origin (Flink's `TimeWindow`, Beam's
//!   `IntervalWindow`).
//! - Each lane's *watermark* is its latest event time less the allowed disorder (Flink's `BoundedOutOfOrdernessWatermarks`):
//!   no event before it is expected. The stream's is the least over its lanes that are not idle, and never goes back.
//! - A window fires when the watermark reaches its end ([`Firing::Main`]). Until its end plus the *allowed lateness* it still
//!   takes events, and each fires it again ([`Firing::Late`]). What comes later for all of its windows goes to the late side
//!   output. An event is judged by the watermark before it.
//! - Sessions: two events of a key are in one when less than the gap lies between them; a session ends a gap after its last
//!   event. At exactly the gap they are two, as in Beam; Flink joins what only touches. Whether an event is too late is asked
//!   of its own window, before it is joined, as Beam's `LateDataDroppingDoFnRunner` does; Flink asks the joined one.
//! - Flink and Beam forget a session at its end plus lateness, so that what is said of a late event depends on what else had
//!   come. Here it is kept for a gap longer, and a session that was shown and then grows is [`Firing::Withdrawn`]: what stands
//!   at the end is exactly what a batch computation finds in the events that were not too late.
//!
//! The results depend on the events' order in two ways only: it decides which are too late, and how often a window fires.
//! [`mod@reference`] says the same in the most naive way.
//!
//! Memory is bounded by [`WindowOptions::max_bytes`], and nothing remains of a key once its last window is forgotten. Leaves
//! out windows by count, triggers before the watermark, aggregates beyond [`Aggregate`], and processing time.

mod aggregate;
mod checkpoint;
mod keys;
mod options;
mod output;
mod panes;
pub mod reference;
mod sessions;
#[cfg(test)]
mod tests;
mod watermark;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::aggregate::Aggregate;
pub use self::checkpoint::{BadCheckpoint, Checkpoint};
use self::keys::Keys;
pub use self::options::{BadWindow, LATEST, LONGEST, MOST_PANES, WindowKind, WindowOptions};
pub use self::output::{Firing, WindowOutput, WindowResult};
use self::panes::Panes;
use self::sessions::Sessions;
pub use self::watermark::LaneProgress;
use self::watermark::Lanes;
use crate::batch::LaneId;
use crate::time::Time;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The lane that it was read from.
    pub lane: LaneId,
    /// When it happened.
    pub time: Time,
    /// Whose it is. A number is its bytes.
    pub key: &'a [u8],
    /// What is counted, added up and compared.
    pub value: i64,
}

/// What became of events, and why results came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCounts {
    /// Events that were taken in, late ones among them.
    pub events: u64,
    /// Those that were too late for every window of theirs.
    pub late: u64,
    /// Those that were too late for some of them.
    pub partly_late: u64,
    /// Events below their lane's position, which were in the windows already.
    pub replayed: u64,
    /// First results.
    pub main: u64,
    /// Results again, because of events within the allowed lateness.
    pub updates: u64,
    /// Results of sessions that grew or were joined afterwards.
    pub withdrawn: u64,
}

/// An event that was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Its lane is none of these.
    #[error("an event of lane {lane}, and there are {lanes}; ask for more lanes")]
    NoSuchLane {
        /// The lane.
        lane: u32,
        /// How many there are.
        lanes: u32,
    },
    /// It happened after [`LATEST`].
    #[error("an event {} ns after the origin, and the latest that can be is {} ns; give times since the run's origin", .time.0, LATEST.0)]
    TooFarAhead {
        /// When it happened.
        time: Time,
    },
    /// The windows hold as much as they may. The event is in none of them, and its time has counted for the watermark, so that
    /// windows go on to fire and make room.
    #[error(
        "the windows hold {max_bytes} bytes, their limit; raise it, or make windows, lateness or disorder shorter, or let silent \
         lanes count as idle"
    )]
    Full {
        /// The limit.
        max_bytes: usize,
    },
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is in all of its windows.
    Taken,
    /// It is in some of them.
    PartlyLate,
    /// It is in none.
    Late,
}

#[derive(Clone, Debug)]
enum Contents {
    Panes(Panes),
    Sessions(Sessions),
}

/// Windows over a stream. Two are equal when they go on equally.
#[derive(Clone, Debug)]
pub struct Windows {
    options: WindowOptions,
    lanes: Lanes,
    keys: Keys,
    contents: Contents,
    counts: WindowCounts,
}

impl PartialEq for Windows {
    fn eq(&self, other: &Self) -> bool {
        self.checkpoint() == other.checkpoint()
    }
}

impl Eq for Windows {}

impl Windows {
    /// Windows without events, or why there can't be such.
    pub fn new(options: WindowOptions) -> Result<Self, BadWindow> {
        options.check()?;
        Ok(Self {
            lanes: Lanes::new(&options),
            keys: Keys::default(),
            contents: checkpoint::empty(&options),
            counts: WindowCounts::default(),
            options,
        })
    }

    /// Takes an event in. What comes of it is added to `out`: results that it changes, itself if it is too late, and what fires
    /// because the watermark has risen.
    pub fn observe(&mut self, event: &Event<'_>, out: &mut WindowOutput) -> Result<(), Refused> {
        if event.lane.0 >= self.options.lanes {
            return Err(Refused::NoSuchLane { lane: event.lane.0, lanes: self.options.lanes });
        }
        if event.time > LATEST {
            return Err(Refused::TooFarAhead { time: event.time });
        }
        let mark = out.mark();
        let watermark = self.lanes.observe(&self.options, event.lane, event.time.0);
        // None of its windows ends before itself: what fires does not hold it, and makes room for it.
        let on_time = event.time.0 >= watermark;
        if on_time {
            self.advance(watermark, out);
        }
        let room = self.held_bytes() < self.options.max_bytes;
        let fate = match &mut self.contents {
            Contents::Panes(panes) => panes.add(&mut self.keys, event, room, out),
            Contents::Sessions(sessions) => sessions.add(&mut self.keys, event, room, out),
        };
        if !on_time {
            self.advance(watermark, out);
        }
        self.count(mark, out);
        match fate.ok_or(Refused::Full { max_bytes: self.options.max_bytes })? {
            Fate::Taken => {}
            Fate::PartlyLate => self.counts.partly_late += 1,
            Fate::Late => {
                self.counts.late += 1;
                out.push_late(event);
            }
        }
        self.counts.events += 1;
        Ok(())
    }

    /// Takes in the event at this position of its lane; false when it was in the windows already. Positions of a lane rise.
    pub fn observe_at(&mut self, position: u64, event: &Event<'_>, out: &mut WindowOutput) -> Result<bool, Refused> {
        if self.next_position(event.lane).is_some_and(|next| position < next) {
            self.counts.replayed += 1;
            return Ok(false);
        }
        self.observe(event, out)?;
        if let Some(lane) = self.lanes.get_mut(event.lane) {
            lane.next_position = position + 1;
        }
        Ok(true)
    }

    /// Another lane: a stream's lanes may be split while it is read. Its first event is to come next.
    pub fn add_lane(&mut self) -> LaneId {
        let added = LaneId(self.options.lanes);
        self.options.lanes += 1;
        self.lanes.add();
        added
    }

    /// A lane has ended: it holds no window back unless it comes again. Nothing happens if there is no such lane.
    pub fn release(&mut self, lane: LaneId, out: &mut WindowOutput) {
        if lane.0 < self.options.lanes {
            let watermark = self.lanes.release(&self.options, lane);
            self.fire(watermark, out);
        }
    }

    /// The stream has ended: all windows fire, and nothing is kept. What comes after this is too late.
    pub fn finish(&mut self, out: &mut WindowOutput) {
        let watermark = self.lanes.finish();
        self.fire(watermark, out);
    }

    fn fire(&mut self, watermark: u64, out: &mut WindowOutput) {
        let mark = out.mark();
        self.advance(watermark, out);
        self.count(mark, out);
    }

    #[inline]
    fn advance(&mut self, watermark: u64, out: &mut WindowOutput) {
        match &mut self.contents {
            Contents::Panes(panes) => panes.advance(&mut self.keys, watermark, out),
            Contents::Sessions(sessions) => sessions.advance(&mut self.keys, watermark, out),
        }
    }

    /// Counts the results from a mark on.
    #[inline]
    fn count(&mut self, mark: usize, out: &WindowOutput) {
        for firing in out.firings(mark) {
            match firing {
                Firing::Main => self.counts.main += 1,
                Firing::Late => self.counts.updates += 1,
                Firing::Withdrawn => self.counts.withdrawn += 1,
            }
        }
    }

    /// What was asked for.
    pub fn options(&self) -> &WindowOptions {
        &self.options
    }

    /// No event before this is expected.
    pub fn watermark(&self) -> Time {
        Time(self.lanes.watermark)
    }

    /// The position of a lane that was not observed yet, or `None` if there is no such lane.
    pub fn next_position(&self, lane: LaneId) -> Option<u64> {
        self.lanes.get(lane).map(|lane| lane.next_position)
    }

    /// What became of events so far.
    pub fn counts(&self) -> WindowCounts {
        self.counts
    }

    /// The bytes that are held, as [`WindowOptions::max_bytes`] counts them.
    pub fn held_bytes(&self) -> usize {
        let contents = match &self.contents {
            Contents::Panes(panes) => panes.bytes(),
            Contents::Sessions(sessions) => sessions.bytes(),
        };
        self.keys.bytes() + contents
    }
}
