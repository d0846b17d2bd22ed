//! The fixed case: 10,000 messages on the manual clock, in one loop, and the exact counts of the work that they cause.
//!
//! The same counts on every machine, so that a change is told by a difference and not by a threshold. Leaves out the comparison, and
//! how allocations are counted: the caller brings a counter, since only a binary can replace its allocator.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use brokerlab_model::{Broker, Contract, WorkCounts};
use brokerlab_workloads::{Profile, Workload};

use crate::clock::ManualClock;
use crate::run::{Moment, run_hooked};
use crate::spec::{RunError, RunSpec};

/// The case's name; it changes whenever anything of the case does.
pub const CASE: &str = "fixed-1";

const PROFILE: &str = r#"
name = "fixed"
about = "10,000 messages on the manual clock, for exact counts."
duration = "1s"
producers = 4
sizes = "100B"
channels = { name = "messages" }
keys = { kind = "zipf", count = 1000, exponent = 0.99 }
arrivals = { kind = "constant", rate = "10k/s" }

[[groups]]
name = "consumers"
members = 4
work = "20us"
"#;

/// What the case did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedCase {
    /// [`CASE`].
    pub case: &'static str,
    /// The backend's plain name.
    pub backend: String,
    /// The digest of the messages published.
    pub digest: String,
    /// Messages published, acknowledged, delivered and settled.
    pub messages: u64,
    /// The engine's work.
    pub work: WorkCounts,
    /// Allocations between the schedule's beginning and its end; none without a counter.
    pub allocations: Option<u64>,
}

/// Runs the case against a fresh backend; [`RunError::NotThrough`] where its settings are too tight for 10,000 messages in a second. `allocations` gives the number of allocations so far, or nothing where nobody counts.
pub fn fixed_case(
    broker: &mut dyn Broker,
    contract: Contract,
    allocations: &mut dyn FnMut() -> Option<u64>,
) -> Result<FixedCase, RunError> {
    let profile = Profile::parse_with::<&str>(PROFILE, "fixed.toml", Some(Path::new("")), &[])
        .map_err(|error| RunError::Spec(error.to_string()))?;
    let spec = RunSpec { contract, lanes: 4, threads: 1, ..RunSpec::new(Workload::new(&profile, 1, 0), "fixed") };
    let (mut begins, mut ends) = (None, None);
    let stop = AtomicBool::new(false);
    let measurement = run_hooked(broker, &spec, &ManualClock::new(), &stop, &mut |_| {}, &mut |moment| match moment {
        Moment::Begins => begins = allocations(),
        Moment::Ends => ends = allocations(),
    })?;
    let counts = measurement.counts;
    let done = [counts.acknowledged, counts.delivered_in_all, counts.settled_in_all];
    if done != [counts.due; 3] || !measurement.digest.matches_published {
        let [acknowledged, delivered, settled] = done;
        let why = format!(
            "of {} messages {acknowledged} were acknowledged, {delivered} delivered and {settled} settled",
            counts.due
        );
        return Err(RunError::NotThrough(why));
    }
    Ok(FixedCase {
        case: CASE,
        backend: measurement.backend,
        digest: measurement.digest.sha256,
        messages: counts.due,
        work: measurement.work,
        allocations: ends.zip(begins).map(|(ends, begins)| ends - begins),
    })
}
