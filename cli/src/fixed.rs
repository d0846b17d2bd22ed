//! The fixed case of a backend, with its heap allocations counted: exact numbers by which a regression shows without a clock.

use std::path::Path;

use anyhow::Context as _;
use brokerlab_embedded::{BackendUrl, Place, open};
use brokerlab_host::fixed_case;
use brokerlab_host::visit::FreshFolder;
use brokerlab_model::Contract;
use brokerlab_reports::result::FixedCase;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts every allocation of this process, by two relaxed additions each.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Runs the case under the default contract, whatever the profile asks: only equal cases can be compared. None for a backend
/// that damages messages on purpose, or that can't keep the default contract.
pub(crate) fn case(url: &BackendUrl, folder: &Path) -> anyhow::Result<Option<FixedCase>> {
    let contract = Contract::default();
    if url.is_faulty() || brokerlab_embedded::honour(url, &contract).is_err() {
        return Ok(None);
    }
    let fresh = FreshFolder::new(folder)?;
    let mut broker = open(url, &contract, &Place { data: Some(fresh.path()) })
        .with_context(|| format!("{url} can't store in {}; name another folder with --data", fresh.path().display()))?;
    let mut allocations = || {
        let so_far = INSTRUMENTED_SYSTEM.stats();
        Some(so_far.allocations as u64 + so_far.reallocations as u64)
    };
    let found = fixed_case(&mut *broker, contract, &mut allocations)
        .with_context(|| format!("the fixed case of {url} failed"))?;
    Ok(Some(FixedCase {
        backend: url.to_string(),
        case: found.case.to_owned(),
        digest_sha256: found.digest,
        messages: found.messages,
        counts: found.work,
        allocations: found.allocations,
    }))
}
