//! What windows are asked for: their kind, how late an event may come, when a lane counts as idle, how much memory.
//!
//! Leaves out windows that begin beside the origin (an offset), and windows by count.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::time::{Span, Time};

/// The longest size, slide, gap, lateness, disorder and idle time: 2^60 ns, some 36 years.
pub const LONGEST: Span = Span(1 << 60);
/// The latest event time: 2^62 ns, some 146 years. Sums with [`LONGEST`] can't overflow.
pub const LATEST: Time = Time(1 << 62);
/// The most stretches that one sliding window is cut into.
pub const MOST_PANES: u64 = 4_096;

/// How event time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum WindowKind {
    /// One window after another, each of this size, the first from the origin.
    Tumbling {
        /// How long each is.
        size: Span,
    },
    /// Windows of this size, one beginning with every slide; an event is in ⌈size ÷ slide⌉ of them or one less.
    Sliding {
        /// How long each is.
        size: Span,
        /// From one's start to the next one's; at most the size.
        slide: Span,
    },
    /// Per key: from its first event until no other came for the gap.
    Session {
        /// How long a key must be silent.
        gap: Span,
    },
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tumbling { size } => write!(f, "tumbling, {size}"),
            Self::Sliding { size, slide } => write!(f, "sliding, {size} every {slide}"),
            Self::Session { gap } => write!(f, "sessions, gap {gap}"),
        }
    }
}

/// What windows are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowOptions {
    /// How event time is cut.
    pub kind: WindowKind,
    /// How long after its end a window still takes events, in event time.
    pub lateness: Span,
    /// How far behind the latest event of its lane an event may be without being late.
    pub disorder: Span,
    /// How many lanes there are.
    pub lanes: u32,
    /// A lane counts as idle, and holds no window back, once so many events have come without one of its own; at least 1.
    pub idle_after_events: Option<u64>,
    /// A lane counts as idle once the latest event time of all lanes has risen by more than this since its last event.
    pub idle_after: Option<Span>,
    /// The most bytes that keys, panes and sessions take, counted by what is in them: their arrays grow by doubling and may
    /// take up to twice that. At it, an event that needs more is refused.
    pub max_bytes: usize,
}

impl WindowOptions {
    /// Windows over one lane without disorder or lateness, of at most 64 MiB.
    pub fn new(kind: WindowKind) -> Self {
        Self {
            kind,
            lateness: Span::ZERO,
            disorder: Span::ZERO,
            lanes: 1,
            idle_after_events: None,
            idle_after: None,
            max_bytes: 64 << 20,
        }
    }

    /// Whether windows can be built so.
    pub fn check(&self) -> Result<(), BadWindow> {
        let spans = match self.kind {
            WindowKind::Tumbling { size } => [("size", size), ("size", size)],
            WindowKind::Sliding { size, slide } => [("size", size), ("slide", slide)],
            WindowKind::Session { gap } => [("gap", gap), ("gap", gap)],
        };
        for (name, span) in spans {
            if span == Span::ZERO {
                return Err(BadWindow::Empty { name });
            }
        }
        let waits = [("lateness", self.lateness), ("disorder", self.disorder)];
        let idle = self.idle_after.map(|span| ("idle time", span));
        for (name, span) in spans.into_iter().chain(waits).chain(idle) {
            if span > LONGEST {
                return Err(BadWindow::TooLong { name, span });
            }
        }
        if let WindowKind::Sliding { size, slide } = self.kind {
            if slide > size {
                return Err(BadWindow::Gaps { size, slide });
            }
            let pane = divisor(size.0, slide.0);
            if size.0 / pane > MOST_PANES {
                return Err(BadWindow::TooFine { size, slide, panes: size.0 / pane });
            }
        }
        if self.lanes == 0 {
            return Err(BadWindow::NoLane);
        }
        if self.idle_after_events == Some(0) {
            return Err(BadWindow::AlwaysIdle);
        }
        Ok(())
    }
}

/// The greatest length that cuts both evenly.
pub(super) fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Windows that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadWindow {
    /// A size, slide or gap of zero.
    #[error("a window's {name} is zero; give it a length")]
    Empty {
        /// Which.
        name: &'static str,
    },
    /// Longer than [`LONGEST`].
    #[error("a window's {name} of {span} is longer than {LONGEST}; shorten it")]
    TooLong {
        /// Which.
        name: &'static str,
        /// What was asked.
        span: Span,
    },
    /// Windows that leave events out.
    #[error(
        "a slide of {slide} with a size of {size} leaves events out of every window; make the slide no longer than the size"
    )]
    Gaps {
        /// The size.
        size: Span,
        /// The slide.
        slide: Span,
    },
    /// Too many stretches in one window.
    #[error(
        "a size of {size} and a slide of {slide} have only {panes} stretches in common, at most {MOST_PANES} can be; round them"
    )]
    TooFine {
        /// The size.
        size: Span,
        /// The slide.
        slide: Span,
        /// How many stretches one window would have.
        panes: u64,
    },
    /// No lane to read.
    #[error("windows over no lane; give at least one")]
    NoLane,
    /// Every lane is always idle.
    #[error("a lane that is idle after no event always is; give at least one")]
    AlwaysIdle,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sliding(size: u64, slide: u64) -> WindowOptions {
        WindowOptions::new(WindowKind::Sliding { size: Span(size), slide: Span(slide) })
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let fine = sliding(60, 25);
        assert_eq!(fine.check(), Ok(()));
        assert_eq!(sliding(60, 0).check(), Err(BadWindow::Empty { name: "slide" }));
        assert_eq!(sliding(60, 61).check(), Err(BadWindow::Gaps { size: Span(60), slide: Span(61) }));
        let (size, slide) = (Span(10_000), Span(9_999));
        assert_eq!(sliding(size.0, slide.0).check(), Err(BadWindow::TooFine { size, slide, panes: 10_000 }));
        assert_eq!(WindowOptions { lanes: 0, ..fine }.check(), Err(BadWindow::NoLane));
        assert_eq!(WindowOptions { idle_after_events: Some(0), ..fine }.check(), Err(BadWindow::AlwaysIdle));
        let span = Span(LONGEST.0 + 1);
        let name = "idle time";
        assert_eq!(WindowOptions { idle_after: Some(span), ..fine }.check(), Err(BadWindow::TooLong { name, span }));
    }
}
