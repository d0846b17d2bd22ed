//! How a loop waits: it spins, yields, or sleeps in one `poll(2)` over everything that it drives.
//!
//! Nobody but the host waits, and every row of a comparison waits by the same policy. Leaves out what is waited for.

use std::fmt;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;
use std::str::FromStr;

use brokerlab_model::{Span, Time, WaitOn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;

/// No sleep is longer: a raised stop flag is seen after this at the latest.
const LONGEST_SLEEP: Span = Span::from_millis(20);

/// No sleep by a timer is shorter. Where each of 50,000 messages a second was slept for, a loop beside Kafka took 15.9 µs of CPU a message, most
/// of it in going to sleep; so it takes 9.2, and the broker has the rest. What is due meanwhile is late by so much at most, which is recorded
/// (p99.9 2.4 ms instead of 2.9 there); a descriptor that becomes ready ends the sleep at once.
const SHORTEST_SLEEP: Span = Span::from_micros(50);

/// What a loop does when nothing is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waiting {
    /// Looks again at once. Its CPU time says nothing about the backend.
    Spin,
    /// Offers the core to other threads and looks again. Its CPU time says nothing about the backend.
    Yield,
    /// Sleeps until a descriptor is ready or a deadline has come.
    #[default]
    Park,
}

impl Waiting {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Spin, Self::Yield, Self::Park];

    /// The policy's name, as it is written and printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Yield => "yield",
            Self::Park => "park",
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is no waiting policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no way to wait; write spin, yield or park")]
pub struct ParseWaitingError(String);

impl FromStr for Waiting {
    type Err = ParseWaitingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|w| w.name() == text).ok_or_else(|| ParseWaitingError(text.to_owned()))
    }
}

/// One loop's way of waiting. Made on the thread that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    policy: Waiting,
    /// By descriptor number: in which wait it was seen last, and where in that wait's list.
    seen: Vec<(u64, usize)>,
    waits: u64,
}

impl Waiter {
    pub(crate) fn new(policy: Waiting) -> Self {
        if policy == Waiting::Park {
            set_smallest_timer_slack();
        }
        Self { policy, seen: Vec::new(), waits: 0 }
    }

    /// Whether `wait` looks at descriptors at all; when not, the caller need not collect them.
    pub(crate) fn listens(&self, clock: &dyn Clock) -> bool {
        self.policy == Waiting::Park && !clock.is_manual()
    }

    /// Waits until one of `on` is ready or `until` has come; may return early. On a manual clock `until` comes at once.
    /// Returns whether a descriptor ended the wait.
    pub(crate) fn wait<'a>(&mut self, clock: &dyn Clock, on: impl Iterator<Item = WaitOn<'a>>, until: Time) -> bool {
        if clock.advance_to(until) {
            return false;
        }
        match self.policy {
            Waiting::Spin => std::hint::spin_loop(),
            Waiting::Yield => std::thread::yield_now(),
            Waiting::Park => return self.park(clock, on, until),
        }
        false
    }

    fn park<'a>(&mut self, clock: &dyn Clock, on: impl Iterator<Item = WaitOn<'a>>, until: Time) -> bool {
        let mut descriptors = self.collect(on);
        let left = until.since(clock.now()).0;
        if left == 0 {
            return false;
        }
        let left = left.clamp(SHORTEST_SLEEP.0, LONGEST_SLEEP.0);
        let timeout = Timespec { tv_sec: 0, tv_nsec: left.cast_signed() };
        // An interrupted or refused sleep is a short one: the caller looks at everything again.
        poll(&mut descriptors, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    /// The descriptors to listen to, each once.
    fn collect<'a>(&mut self, on: impl Iterator<Item = WaitOn<'a>>) -> Vec<PollFd<'a>> {
        self.waits += 1;
        let mut descriptors: Vec<PollFd<'a>> = Vec::new();
        let mut writes: Vec<bool> = Vec::new();
        for wait_on in on {
            let (fd, write) = match wait_on {
                WaitOn::Nothing => continue,
                WaitOn::Read(fd) => (fd, false),
                WaitOn::ReadWrite(fd) => (fd, true),
            };
            let number = fd.as_raw_fd() as usize;
            if self.seen.len() <= number {
                self.seen.resize(number + 1, (0, 0));
            }
            let flags = if write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let (last, at) = self.seen[number];
            if last != self.waits {
                self.seen[number] = (self.waits, descriptors.len());
                descriptors.push(PollFd::from_borrowed_fd(fd, flags));
                writes.push(write);
            } else if write && !writes[at] {
                descriptors[at] = PollFd::from_borrowed_fd(fd, flags);
                writes[at] = true;
            }
        }
        descriptors
    }
}

/// The kernel may otherwise lengthen a sleep by 50 µs, to save wake-ups.
fn set_smallest_timer_slack() {
    #[cfg(target_os = "linux")]
    // Where it is refused, sleeps overshoot more, and the recorded lateness shows it.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::clock::{ManualClock, WallClock};

    #[test]
    fn a_shared_descriptor_is_listened_to_once_and_for_everything_asked() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut waiter = Waiter::new(Waiting::Park);
        for _ in 0..2 {
            let on = [
                WaitOn::Read(a.as_fd()),
                WaitOn::Nothing,
                WaitOn::Read(b.as_fd()),
                WaitOn::ReadWrite(a.as_fd()),
                WaitOn::Read(a.as_fd()),
            ];
            assert_eq!(waiter.collect(on.into_iter()).len(), 2);
        }
        assert_eq!(waiter.seen[a.as_fd().as_raw_fd() as usize], (2, 0));
    }

    #[test]
    fn on_a_manual_clock_waiting_moves_the_time() {
        let clock = ManualClock::new();
        for policy in Waiting::ALL {
            let until = clock.now() + Span(7);
            assert!(!Waiter::new(policy).wait(&clock, std::iter::empty(), until));
            assert_eq!(clock.now(), until);
        }
    }

    #[test]
    fn a_readable_descriptor_ends_the_sleep() {
        let (a, b) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &b, b"x").unwrap();
        let mut waiter = Waiter::new(Waiting::Park);
        assert!(waiter.wait(&WallClock::new(), std::iter::once(WaitOn::Read(a.as_fd())), Time::NEVER));
    }

    #[test]
    fn policies_are_read_by_their_names() {
        for policy in Waiting::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        assert_eq!("sleep".parse::<Waiting>(), Err(ParseWaitingError("sleep".to_owned())));
    }
}
