//! A backend whose storage fails in mid-run: the run ends, says which file, which call and what to do, and keeps what was measured until
//! then.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use brokerlab_embedded::store::SimulatedDisk;
use brokerlab_embedded::store::disk::Fault;
use brokerlab_embedded::{Disk, EngineBroker, Limits};
use brokerlab_host::{ManualClock, RunError, RunSpec, run};
use brokerlab_model::log::{LogModel, LogOptions};
use brokerlab_workloads::Workload;
use brokerlab_workloads::measurement::Measurement;

use crate::{assert_accounted, profile};

/// A thousand messages a second for a second on a disk of which one call fails, the next one after `after` more.
fn on_a_disk(storage: &str, fault: Fault, after: u64) -> Result<Measurement, RunError> {
    let profile = profile(&[("contract.storage", storage), ("drain_limit", "1h")]);
    let disk = Arc::new(SimulatedDisk::new(1));
    let limits = Limits { segment_bytes: 16 << 10, ..Limits::default() };
    let model = LogModel::new(LogOptions::default(), profile.contract).unwrap();
    let on = Arc::clone(&disk) as Arc<dyn Disk>;
    let mut broker = EngineBroker::open_on(Box::new(model), profile.contract.storage, limits, on).unwrap();
    disk.plan(fault, after);
    let spec = RunSpec::new(Workload::new(&profile, 1, 0), "log");
    run(&mut broker, &spec, &ManualClock::new(), &AtomicBool::new(false), &mut |_| {})
}

#[test]
fn a_run_whose_storage_fails_ends_with_the_reason_and_what_was_measured_until_then() {
    for (storage, fault, after, call) in [
        ("page-cache", Fault::Space, 2, "No space left on device"),
        ("page-cache", Fault::Write, 200, "Input/output error"),
        ("fsync", Fault::Flush, 200, "Input/output error"),
    ] {
        let measurement = on_a_disk(storage, fault, after).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_accounted(&measurement);
        let why = measurement.cut_short.clone().unwrap_or_else(|| panic!("{fault:?}: it went on"));
        assert!(why.starts_with("the backend stopped: simulated/segment-"), "{why}");
        assert!(why.contains(call) && why.contains("nothing more is taken; free space"), "{why}");
        let (c, check) = (measurement.counts, &measurement.groups[0].check);
        assert!(c.acknowledged > 100 && c.due < 1_000, "{fault:?}: it ends soon after the failure: {c:?}");
        assert_eq!((check.lost, check.duplicated, check.broken.len()), (0, 0, 0), "{fault:?}: {check:?}");
        assert!(measurement.window.duration_ns < 1_000_000_000 && measurement.window.drained_ns == 0, "{fault:?}");
    }
}

#[test]
fn a_run_whose_storage_fails_before_its_schedule_begins_has_no_measurement_and_the_reason() {
    let error = on_a_disk("fsync", Fault::Flush, 0).unwrap_err();
    assert!(matches!(&error, RunError::Stopped(why) if why.contains("nothing more is taken")), "{error}");
}

#[test]
fn a_disk_on_which_nothing_fails_lets_the_run_come_to_its_end() {
    let measurement = on_a_disk("fsync", Fault::Flush, u64::MAX >> 1).unwrap();
    assert_eq!((measurement.cut_short, measurement.counts.acknowledged), (None, 1_000));
}
