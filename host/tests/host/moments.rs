//! Where time goes: inside calls of the backend, or where the generator was not running.

use std::sync::Mutex;

use brokerlab_host::{Clock, ManualClock};
use brokerlab_model::{Span, Time};
use brokerlab_workloads::validity::judge;

use crate::toy::{Manners, Toy};
use crate::{assert_accounted, at, measured, measured_on};

const MS: u64 = 1_000_000;

#[test]
fn a_millisecond_inside_submit_shows_as_one() {
    let manners = Manners { in_submit: Span::from_millis(1), ..Manners::default() };
    let (measurement, _) = measured(manners, &[("arrivals.rate", "100/s")]);
    for record in [&measurement.publish.service, &measurement.publish.response, &measurement.end_to_end.response] {
        assert_eq!((at(record, 0, 0.0) / 10_000, at(record, 0, 1.0) / 10_000), (100, 100));
    }
}

#[test]
fn a_millisecond_inside_poll_shows_as_one() {
    let manners = Manners { in_poll: Span::from_millis(1), ..Manners::default() };
    let (measurement, _) = measured(manners, &[("arrivals.rate", "100/s")]);
    assert_eq!(at(&measurement.publish.service, 0, 0.0) / 10_000, 100);
    // The member is polled after the producer's poll took its millisecond.
    assert_eq!(at(&measurement.end_to_end.service, 0, 0.0) / 10_000, 200);
}

/// A clock that jumps now and then when it is read outside the backend: the generator was not running.
#[derive(Debug)]
struct Jumping {
    clock: ManualClock,
    jump: Span,
    every: Span,
    next: Mutex<Time>,
}

impl Clock for Jumping {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn origin_utc_ns(&self) -> u64 {
        0
    }

    fn advance_to(&self, until: Time) -> bool {
        self.clock.advance_to(until);
        let mut next = self.next.lock().unwrap();
        if self.clock.now() >= *next {
            *next = self.clock.now() + self.every;
            self.clock.advance(self.jump);
        }
        true
    }

    fn is_manual(&self) -> bool {
        true
    }
}

fn jumping(jump: Span) -> brokerlab_workloads::measurement::Measurement {
    let clock = ManualClock::new();
    let mut toy = Toy::new(&clock, Manners { service: Span::from_micros(10), ..Manners::default() });
    let jumping = Jumping { clock, jump, every: Span::from_millis(100), next: Mutex::new(Time(50 * MS)) };
    measured_on(&jumping, &mut toy, &[("duration", "2s")])
}

#[test]
fn a_generator_that_is_late_turns_the_run_invalid() {
    for (jump, valid) in [(Span::from_millis(1), true), (Span::from_millis(10), false)] {
        let measurement = jumping(jump);
        assert_accounted(&measurement);
        let late = measurement.fitness.late_p999_ns;
        assert!(late.abs_diff(jump.0) < jump.0 / 10, "late by {late}");
        assert_eq!(at(&measurement.publish.blocked, 0, 1.0), 0);
        assert_eq!(failed_checks(&measurement), if valid { vec![] } else { vec!["generator lateness, p99.9"] });
    }
}

#[test]
fn a_broker_that_stalls_does_not() {
    for (window, in_submit) in [(1, Span::ZERO), (usize::MAX, Span::ZERO), (usize::MAX, Span::from_millis(5))] {
        let stall = Some((Time(200 * MS), Span::from_millis(300)));
        let manners = Manners { service: Span::from_micros(10), stall, window, in_submit, ..Manners::default() };
        let (measurement, _) = measured(manners, &[("duration", "2s")]);
        assert!(at(&measurement.publish.response, 0, 1.0) >= 5 * MS);
        assert_eq!(failed_checks(&measurement), Vec::<String>::new());
    }
}

fn failed_checks(measurement: &brokerlab_workloads::measurement::Measurement) -> Vec<String> {
    let mut quiet = measurement.clone();
    // What the machine does meanwhile is no part of virtual time.
    quiet.fitness.steal_share = None;
    quiet.fitness.other_processes_cores = None;
    quiet.fitness.cgroup_throttled_ns = None;
    judge(&quiet).unwrap().checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
}
