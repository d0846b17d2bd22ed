//! The fixed case of a backend, with its heap allocations counted: exact numbers by which a regression shows without a clock.

use std::path::Path;

use anyhow::Context as _;
use brokerlab_embedded::{BackendUrl, Place, open};
use brokerlab_host::visit::FreshFolder;
use brokerlab_host::{RunError, fixed_case};
use brokerlab_model::Contract;
use brokerlab_reports::result::FixedCase;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts every allocation of this process, by two relaxed additions each.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// What came of a backend's fixed case.
#[derive(Debug)]
pub(crate) enum Case {
    /// It was counted.
    Counted(FixedCase),
    /// Its settings let less through than the case has, in words.
    NotThrough(String),
    /// There is none of a backend that damages messages on purpose, or that can't keep the default contract.
    Without,
}

/// Runs the case under the default contract, whatever the profile asks, and with token buckets that are full when it begins: only
/// equal cases can be compared.
pub(crate) fn case(url: &BackendUrl, folder: &Path) -> anyhow::Result<Case> {
    let contract = Contract::default();
    if url.is_faulty() || brokerlab_embedded::honour(url, &contract).is_err() {
        return Ok(Case::Without);
    }
    let fresh = FreshFolder::new(folder)?;
    let mut broker = open(&url.clone().with_full_buckets(), &contract, &Place { data: Some(fresh.path()) })
        .with_context(|| format!("{url} can't store in {}; name another folder with --data", fresh.path().display()))?;
    let mut allocations = || {
        let so_far = INSTRUMENTED_SYSTEM.stats();
        Some(so_far.allocations as u64 + so_far.reallocations as u64)
    };
    let found = match fixed_case(&mut *broker, contract, &mut allocations) {
        Err(RunError::NotThrough(why)) if url.to_string().contains('?') => {
            return Ok(Case::NotThrough(format!(
                "no exact counts of {url}: its settings don't let the fixed case through (10,000 messages in a second), {why}"
            )));
        }
        found => found.with_context(|| format!("the fixed case of {url} failed"))?,
    };
    Ok(Case::Counted(FixedCase {
        backend: url.to_string(),
        case: found.case.to_owned(),
        digest_sha256: found.digest,
        messages: found.messages,
        counts: found.work,
        allocations: found.allocations,
    }))
}
