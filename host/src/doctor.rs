//! Is this machine fit to measure: the clock, pacing, flushing, and who else uses the cores.
//!
//! Leaves out the words in which it is told; the command line has them.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use brokerlab_model::{Span, Time};
use hdrhistogram::Histogram;

use crate::clock::{Clock as _, WallClock};
use crate::wait::{Waiter, Waiting};

/// What the clock is like.
#[derive(Clone, Debug)]
pub struct ClockFacts {
    /// The kernel's clock source, where it is told.
    pub source: Option<String>,
    /// The smallest step seen between two readings that differ, in nanoseconds.
    pub resolution_ns: u64,
    /// What one reading costs, in nanoseconds.
    pub cost_ns: f64,
}

/// Reads the clock a hundred thousand times.
pub fn clock() -> ClockFacts {
    const READINGS: u32 = 100_000;
    let clock = WallClock::new();
    let mut resolution = u64::MAX;
    let begin = clock.now();
    let mut last = begin;
    for _ in 0..READINGS {
        let now = clock.now();
        let step = now.since(last).0;
        if step > 0 {
            resolution = resolution.min(step);
        }
        last = now;
    }
    ClockFacts {
        source: std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .ok()
            .map(|text| text.trim().to_owned()),
        resolution_ns: resolution,
        cost_ns: last.since(begin).0 as f64 / f64::from(READINGS),
    }
}

/// How late a loop wakes that waits by `waiting` and wants to run every millisecond for `length`. Nanoseconds.
pub fn pacing(waiting: Waiting, length: Span) -> Histogram<u64> {
    let clock = WallClock::new();
    let mut waiter = Waiter::new(waiting);
    let mut lateness = new_histogram();
    let mut due = Time::ZERO;
    while due < Time::ZERO + length {
        due += Span::from_millis(1);
        while clock.now() < due {
            waiter.wait(&clock, std::iter::empty(), due);
        }
        record(&mut lateness, clock.now().since(due));
    }
    lateness
}

/// How long it takes to write 4 KiB and flush them, `times` times over, in a file that is removed again. Nanoseconds.
pub fn flushing(folder: &Path, times: u32) -> std::io::Result<Histogram<u64>> {
    let path = folder.join(format!("brokerlab-doctor-{}", std::process::id()));
    let mut file = std::fs::File::create_new(&path)?;
    let measured = flush_repeatedly(&mut file, times);
    let removed = std::fs::remove_file(&path);
    let histogram = measured?;
    removed.map(|()| histogram)
}

fn flush_repeatedly(file: &mut std::fs::File, times: u32) -> std::io::Result<Histogram<u64>> {
    let block = [0x5a_u8; 4096];
    // The file's blocks are written once first: overwriting and extending are different costs, and engines overwrite.
    for _ in 0..16 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let clock = WallClock::new();
    let mut histogram = new_histogram();
    for n in 0..u64::from(times) {
        let begin = clock.now();
        file.write_all_at(&block, (n % 16) * 4096)?;
        file.sync_data()?;
        record(&mut histogram, clock.now().since(begin));
    }
    Ok(histogram)
}

fn record(histogram: &mut Histogram<u64>, span: Span) {
    histogram.record(span.0).expect("the histogram grows to whatever is recorded");
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three significant digits are within the histogram's range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_lateness_is_kept_as_it_is() {
        let mut histogram = new_histogram();
        record(&mut histogram, Span::from_millis(40));
        assert!(histogram.max() >= 40_000_000);
    }

    #[test]
    fn flushing_times_every_write_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(flushing(folder.path(), 3).unwrap().len(), 3);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
