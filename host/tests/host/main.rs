//! The whole host on a manual clock: every test here runs the real loop, pacer, recorder and checker in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod accounting;
mod agreement;
mod embedded;
mod fragile;
mod moments;
mod oracle;
mod outage;
#[cfg(target_os = "linux")]
mod started;
mod stopped;
mod toy;

use std::sync::atomic::AtomicBool;

use brokerlab_host::{Clock, ManualClock, RunSpec, run};
use brokerlab_workloads::measurement::{HistogramRecord, Measurement};
use brokerlab_workloads::record::Quantile;
use brokerlab_workloads::{Profile, Workload};

use crate::toy::{Manners, Toy};

/// A profile of one producer, one group with one member, constant arrivals; `more` overrides fields.
pub(crate) fn profile(more: &[(&str, &str)]) -> Profile {
    let text = r#"
name = "test"
about = "For tests."
duration = "1s"
producers = 1
sizes = "64B"
channels = { name = "c" }
keys = { kind = "uniform", count = 16 }
arrivals = { kind = "constant", rate = "1000/s" }
[[groups]]
name = "g"
members = 1
"#;
    let parsed = Profile::parse_with(text, "test.toml", Some(std::path::Path::new("")), more);
    parsed.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn spec(more: &[(&str, &str)]) -> RunSpec {
    RunSpec::new(Workload::new(&profile(more), 1, 0), "toy")
}

/// Runs a workload against the toy on a manual clock.
pub(crate) fn measured(manners: Manners, more: &[(&str, &str)]) -> (Measurement, Toy) {
    let clock = ManualClock::new();
    let mut toy = Toy::new(&clock, manners);
    let measurement = measured_on(&clock, &mut toy, more);
    (measurement, toy)
}

pub(crate) fn measured_on(clock: &dyn Clock, toy: &mut Toy, more: &[(&str, &str)]) -> Measurement {
    let stop = AtomicBool::new(false);
    run(toy, &spec(more), clock, &stop, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

/// A quantile in nanoseconds.
pub(crate) fn at(record: &HistogramRecord, unfinished: u64, q: f64) -> u64 {
    match record.quantile(unfinished, q).unwrap() {
        Quantile::At(ns) => ns,
        other @ (Quantile::Empty | Quantile::BelowZero | Quantile::Never) => panic!("the {q} quantile is {other:?}"),
    }
}

/// Every due message has exactly one fate.
pub(crate) fn assert_accounted(measurement: &Measurement) {
    let c = &measurement.counts;
    assert_eq!(c.due, c.acknowledged + c.refused + c.failed + c.unknown + c.unacknowledged + c.not_sent, "{c:?}");
    for group in &measurement.groups {
        let check = &group.check;
        assert_eq!(
            check.acknowledged,
            check.delivered + check.lost + check.undelivered + check.expired + check.overflowed + check.not_checked,
            "{check:?}"
        );
    }
}
