//! Whatever is written, the reader answers with a profile or with a located error, and never panics.

use brokerlab_workloads::Profile;
use brokerlab_workloads::profile::{builtin, parse_bytes, parse_rate, parse_span};
use proptest::prelude::*;

/// A built-in profile with a piece of it replaced.
fn damaged() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(String::new()),
        "\\PC{0,12}",
        "[0-9a-z\\[\\]{}=\". /-]{0,12}",
        Just("[[groups]]\n".to_owned()),
        Just("-1".to_owned()),
        Just("\"1e999/s\"".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("nan".to_owned()),
    ];
    (0..builtin().len(), any::<prop::sample::Index>(), 0..40_usize, piece).prop_map(|(which, at, cut, piece)| {
        let text: Vec<char> = builtin()[which].1.chars().collect();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        text[..at].iter().chain(piece.chars().collect::<Vec<_>>().iter()).chain(&text[end..]).collect()
    })
}

fn located(text: &str, outcome: Result<Profile, brokerlab_workloads::ProfileError>) {
    let Err(error) = outcome else { return };
    let printed = error.to_string();
    assert!(!error.message.is_empty() && !error.remedy.is_empty(), "{printed}");
    assert!(error.line <= text.split('\n').count().max(1), "{printed}");
    assert!(error.column <= error.excerpt.text.chars().count() + 1, "{printed}");
    assert!(error.line == 0 || printed.contains('^'), "{printed}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_profile_gives_a_profile_or_a_located_error(text in damaged()) {
        located(&text, Profile::parse(&text, "p.toml"));
    }

    #[test]
    fn any_text_gives_a_profile_or_a_located_error(text in "\\PC{0,200}") {
        located(&text, Profile::parse(&text, "p.toml"));
    }

    #[test]
    fn any_override_gives_a_profile_or_a_located_error(path in "[a-z0-9*.]{0,20}", value in "\\PC{0,20}") {
        let (name, text) = builtin()[0];
        let outcome = Profile::parse_with(text, name, None, &[(path.as_str(), value.as_str())]);
        located(text, outcome);
    }

    #[test]
    fn a_known_field_set_to_anything_gives_a_profile_or_a_located_error(which in 0..12_usize, value in "\\PC{0,16}") {
        let paths = ["arrivals", "arrivals.rate", "arrivals.kind", "sizes", "keys.count", "duration", "warmup", "seed",
            "groups.*.work.time", "groups.0.members", "objectives", "contract"];
        let (name, text) = builtin()[0];
        let outcome = Profile::parse_with(text, name, None, &[(paths[which], value.as_str())]);
        located(text, outcome);
    }

    #[test]
    fn quantities_never_panic(text in "\\PC{0,20}") {
        // Any outcome will do: what is tested is that there is one.
        prop_assert!(parse_rate(&text).is_ok_and(|r| r.0 >= 0.0) || parse_rate(&text).is_err());
        prop_assert!(parse_bytes(&text).is_ok() || parse_bytes(&text).is_err());
        prop_assert!(parse_span(&text).is_ok() || parse_span(&text).is_err());
    }
}
