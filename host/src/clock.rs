//! Where time comes from: the machine's clock, or a count that tests advance.
//!
//! The only file of the workspace that reads `Instant` and `SystemTime`. Leaves out waiting, which is in
//! `wait`.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use brokerlab_model::{Span, Time};

/// A source of time. Never goes backwards.
pub trait Clock: Debug + Send + Sync {
    /// Nanoseconds since the origin.
    fn now(&self) -> Time;

    /// UTC of the origin, nanoseconds since 1970; 0 for a clock without one.
    fn origin_utc_ns(&self) -> u64;

    /// Moves a manual clock on to `until` at once and says so; a real clock says `false`, and the caller sleeps.
    fn advance_to(&self, until: Time) -> bool;

    /// Whether time passes only when somebody moves it. Everything then runs on one thread.
    fn is_manual(&self) -> bool;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    origin: Instant,
    origin_utc_ns: u64,
}

impl WallClock {
    /// A clock whose origin is now.
    pub fn new() -> Self {
        let origin_utc_ns =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self { origin: Instant::now(), origin_utc_ns }
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for WallClock {
    #[inline]
    fn now(&self) -> Time {
        let since = self.origin.elapsed();
        Time(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()))
    }

    fn origin_utc_ns(&self) -> u64 {
        self.origin_utc_ns
    }

    fn advance_to(&self, _until: Time) -> bool {
        false
    }

    fn is_manual(&self) -> bool {
        false
    }
}

/// A clock that stands still until somebody moves it. Clones show the same time, so that a test's backend can spend some.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at its origin.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `span` pass.
    pub fn advance(&self, span: Span) {
        self.0.fetch_add(span.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }

    fn origin_utc_ns(&self) -> u64 {
        0
    }

    fn advance_to(&self, until: Time) -> bool {
        self.0.fetch_max(until.0, Ordering::Relaxed);
        true
    }

    fn is_manual(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_show_one_time_and_it_never_goes_back() {
        let clock = ManualClock::new();
        let other = clock.clone();
        clock.advance(Span(5));
        assert!(other.advance_to(Time(9)));
        assert!(clock.advance_to(Time(7)));
        assert_eq!((clock.now(), other.now()), (Time(9), Time(9)));
    }

    #[test]
    fn the_wall_clock_is_not_moved_and_does_not_go_back() {
        let clock = WallClock::new();
        let first = clock.now();
        assert!(!clock.advance_to(Time::NEVER));
        assert!(clock.now() >= first);
    }
}
