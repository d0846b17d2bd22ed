//! Overrides laid over the built-in profiles: a profile, or an error that names its place. The first byte chooses the profile, a line
//! each is `path=value`. Leaves out profiles of one's own.

#![no_main]

use brokerlab_workloads::Profile;
use brokerlab_workloads::profile::builtin;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str)| {
    let (which, text) = input;
    let (name, profile) = builtin()[usize::from(which) % builtin().len()];
    let sets: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('=')).collect();
    // A file that an override names would be read: none is named.
    if sets.iter().any(|(path, value)| path.contains("file") || value.contains("file")) {
        return;
    }
    if let Err(error) = Profile::parse_with(profile, name, None, &sets) {
        let printed = error.to_string();
        assert!(error.line >= 1, "{printed}");
        assert!(error.column >= 1 && error.column <= error.excerpt.text.chars().count() + 1, "{printed}");
        assert!(!error.message.is_empty() && !error.remedy.is_empty(), "{printed}");
        assert!(!sets.is_empty(), "a built-in profile is whole: {printed}");
    }
});
