//! Any text as a backend's name: what was read is printed as it was written; a refusal is one line. Leaves out opening.

#![no_main]

use brokerlab_embedded::{BackendUrl, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match BackendUrl::parse(text) {
    Ok(url) => {
        assert_eq!(url.to_string(), text);
        assert!(Kind::ALL.contains(&url.kind()));
        assert_eq!(url.is_faulty(), text.starts_with("faulty?"));
        assert!(url.lanes().is_none_or(|lanes| lanes > 0));
        let limits = url.limits();
        assert!(limits.max_memory > 0 && limits.max_data > 0 && limits.segment_bytes >= 64 << 10);
    }
    Err(error) => assert!(!error.to_string().is_empty(), "{error:?}"),
});
