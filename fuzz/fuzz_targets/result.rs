//! Any text as a result file: refused with its line, or written and read back as the same, and drawn as page and table. Leaves out the
//! regression check's verdict.

#![no_main]

use std::path::Path;

use brokerlab_reports::{ReadError, ResultFile, Style, against, render, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match ResultFile::parse(text, Path::new("results.json")) {
        Ok(file) => {
            let written = serde_json::to_string(&file).expect("a result is JSON");
            let again = ResultFile::parse(&written, Path::new("again.json")).expect("what was written is read");
            assert_eq!(serde_json::to_string(&again).expect("a result is JSON"), written);
            // A histogram that can't be read is an error and no panic.
            let drawn = render(std::slice::from_ref(&file)).is_ok();
            assert_eq!(table(&file, Style::Plain).is_ok(), drawn, "page and table read the same histograms");
            assert_eq!(against(&file, &file).exit_code(), against(&again, &file).exit_code());
        }
        Err(error) => {
            let printed = error.to_string();
            assert!(printed.starts_with("results.json:"), "{printed}");
            if let ReadError::Malformed { line, column, reason, .. } = &error {
                assert!(*line >= 1 && *line <= text.split('\n').count(), "{printed}");
                assert!(*column >= 1 && !reason.is_empty(), "{printed}");
            }
        }
    }
});
