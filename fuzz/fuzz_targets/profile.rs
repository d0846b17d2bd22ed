//! Any text as a profile: a profile that generates messages, or an error that names its place. Leaves out overrides and traces.

#![no_main]

use std::path::Path;

use brokerlab_workloads::{Profile, STAMP_LEN, Workload};
use libfuzzer_sys::fuzz_target;

/// Larger workloads are left alone: compiling them takes memory in proportion.
const FEW: u32 = 64;

fuzz_target!(|text: &str| {
    // A folder that does not exist: no file of this machine gets read.
    match Profile::parse_with::<&str>(text, "p.toml", Some(Path::new("/nonexistent")), &[]) {
        Ok(profile) => generate(&profile),
        Err(error) => {
            let printed = error.to_string();
            assert!(error.line >= 1 && error.line <= text.split('\n').count(), "{printed}");
            assert!(error.column >= 1 && error.column <= error.excerpt.text.chars().count() + 1, "{printed}");
            assert!(!error.message.is_empty() && !error.remedy.is_empty() && printed.contains('^'), "{printed}");
        }
    }
});

fn generate(profile: &Profile) {
    if profile.producers > FEW || profile.channels.len() > FEW {
        return;
    }
    let workload = Workload::new(profile, profile.seed, 0);
    let mut producer = workload.producer(0);
    let mut last = None;
    for _ in 0..32 {
        let Some(message) = producer.next() else { break };
        assert!(message.channel < workload.channels() && message.size as usize >= STAMP_LEN);
        if !workload.is_closed_loop() {
            assert!(last.is_none_or(|last| last <= message.intended), "arrivals are in order");
        }
        last = Some(message.intended);
    }
}
