//! Quantities and contracts: what was read is printed and read back as the same. Leaves out where they stand in a profile.

#![no_main]

use brokerlab_model::Contract;
use brokerlab_model::contract::ParseContractError;
use brokerlab_workloads::profile::{parse_bytes, parse_rate, parse_span};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(rate) = parse_rate(text) {
        assert!(rate.0.is_finite() && rate.0 >= 0.0, "{rate:?}");
        let again = parse_rate(&rate.to_string()).expect("a printed rate is a rate");
        // Printed to three digits after the point of its prefix.
        assert!((again.0 - rate.0).abs() <= 0.0006 + rate.0 * 1e-3, "{rate:?} is printed as {rate}");
    }
    if let Ok(bytes) = parse_bytes(text) {
        assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes));
    }
    if let Ok(span) = parse_span(text) {
        // Above 2^53 ns, 104 days, a double no longer tells neighbours apart.
        let again = parse_span(&format!("{}ns", span.0)).expect("a printed length of time is one");
        assert!(again.0.abs_diff(span.0) <= span.0 >> 52, "{text}: {span:?} {again:?}");
    }
    match text.parse::<Contract>() {
        Ok(contract) => assert_eq!(contract.to_string().parse(), Ok(contract)),
        Err(ParseContractError::Unknown(word) | ParseContractError::Twice(word)) => {
            assert!(text.contains(&word) && !word.is_empty(), "{word}");
        }
    }
});
