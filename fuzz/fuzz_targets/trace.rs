//! Any bytes as a recorded trace in CSV: replayed in the order of its times, or refused with its place. Leaves out Parquet.

#![no_main]

use std::cell::RefCell;

use brokerlab_workloads::profile::builtin;
use brokerlab_workloads::{Profile, STAMP_LEN, Workload};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().expect("a folder"));
}

fuzz_target!(|bytes: &[u8]| FOLDER.with_borrow(|folder| {
    std::fs::write(folder.path().join("trace.csv"), bytes).expect("a file");
    let (name, text) = builtin().iter().find(|(name, _)| *name == "flight-replay").expect("it is built in");
    let text = text.replace("builtin:flights.csv", "trace.csv");
    match Profile::parse_with::<&str>(&text, name, Some(folder.path()), &[]) {
        Ok(profile) => replay(&profile),
        Err(error) => {
            let printed = error.to_string();
            assert!(!error.message.is_empty() && !error.remedy.is_empty(), "{printed}");
            let of_all_rows = error.message.contains("holds no row") || error.message.contains("are at one time");
            assert!(error.line >= 1 || of_all_rows, "{printed}");
            assert!(error.column <= error.excerpt.text.chars().count() + 1, "{printed}");
        }
    }
}));

fn replay(profile: &Profile) {
    let workload = Workload::new(profile, 1, 0);
    let mut last = None;
    let mut key = Vec::new();
    let mut producer = workload.producer(0);
    for _ in 0..64 {
        let Some(message) = producer.next() else { break };
        assert!(last.is_none_or(|last| last <= message.intended), "a trace is replayed in order");
        assert!(message.size as usize >= STAMP_LEN, "a message holds its stamp");
        last = Some(message.intended);
        workload.write_key(message.key, &mut key);
    }
    let rows = key.len();
    assert!(rows <= 64 * (64 << 20), "keys are those of the trace");
}
