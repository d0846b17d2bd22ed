//! Coordinated omission: 1,000 messages/s for 10 s, 0.5 ms of service, one stall of 1 s, drained at half load.

use brokerlab_model::{Span, Time};
use brokerlab_workloads::measurement::HistogramRecord;

use crate::toy::Manners;
use crate::{assert_accounted, at, measured};

/// What an open loop must show, in milliseconds.
const EXPECTED: [(f64, f64); 6] =
    [(0.5, 0.5), (0.9, 500.5), (0.95, 750.5), (0.99, 950.5), (0.999, 995.5), (1.0, 1000.5)];

fn stalled(window: usize) -> Manners {
    let stall = Some((Time(0) + Span::from_millis(3_000), Span::from_secs(1)));
    Manners { service: Span::from_micros(500), stall, window, ..Manners::default() }
}

/// The quantiles that are off by more than 1 %, with what was found.
fn off(record: &HistogramRecord) -> Vec<(f64, f64)> {
    let found = EXPECTED.map(|(q, expected)| (q, expected, at(record, 0, q) as f64 / 1e6));
    let wrong = found.into_iter().filter(|(_, expected, found)| (found - expected).abs() > expected / 100.0);
    wrong.map(|(q, _, found)| (q, found)).collect()
}

#[test]
fn a_stall_is_charged_to_every_message_that_was_due_in_it() {
    // Whether the backlog waits in the server or, behind a window of one, in the schedule.
    for window in [usize::MAX, 1] {
        let (measurement, _) = measured(stalled(window), &[("duration", "10s")]);
        assert_accounted(&measurement);
        assert_eq!(measurement.counts.acknowledged, 10_000);
        assert_eq!(off(&measurement.publish.response), []);
        assert_eq!(off(&measurement.end_to_end.response), []);
    }
}

#[test]
fn a_closed_loop_of_the_same_system_does_not_see_it() {
    let arrivals = r#"{ kind = "closed-loop", think = { kind = "constant", time = "500us" } }"#;
    let (measurement, _) = measured(stalled(usize::MAX), &[("duration", "10s"), ("arrivals", arrivals)]);
    assert_eq!(measurement.publish.response.count, 9_000);
    assert_eq!(at(&measurement.publish.response, 0, 0.999) / 1_000, 500);
    assert!(off(&measurement.publish.response).len() >= 4);
    // Nor does the time from the actual start, behind a window of one.
    let (open, _) = measured(stalled(1), &[("duration", "10s")]);
    assert_eq!(at(&open.publish.service, 0, 0.999) / 1_000, 500);
}

#[test]
fn the_stall_is_the_brokers_and_not_the_generators() {
    let (measurement, _) = measured(stalled(1), &[("duration", "10s")]);
    assert_eq!(at(&measurement.publish.late, 0, 1.0), 0);
    assert_eq!(at(&measurement.publish.blocked, 0, 1.0) / 1_000_000, 999);
}
