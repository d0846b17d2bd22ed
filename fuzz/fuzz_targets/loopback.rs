//! Any bytes as what a loopback peer sends, a client's and a server's: frames one after the other.

#![no_main]

use brokerlab_embedded::loopback::wire::{LENGTH, Reply, Request, read_reply, read_request, whole};
use brokerlab_model::Batch;
use libfuzzer_sys::fuzz_target;

const LONGEST: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some(length)) = whole(rest, LONGEST) {
        let frame = &rest[LENGTH..length];
        if let Ok(Request::Batch(batch)) = read_request(frame) {
            assert!(!batch.is_empty() && batch.len() <= frame.len());
            if let Batch::Publish(publishes) = &batch {
                let sum: usize = publishes.iter().map(|m| m.key.len() + m.headers.len() + m.payload.len()).sum();
                assert!(sum <= frame.len());
            }
        }
        if let Ok(Reply::Completions(_, completions)) = read_reply(frame) {
            let sum: usize = completions.deliveries.iter().map(|d| d.key.len() + d.headers.len() + d.payload.len()).sum();
            assert!(sum <= frame.len() && completions.outcomes.len() <= frame.len());
        }
        if let Ok(Reply::Tallies(tallies)) = read_reply(frame) {
            assert!(tallies.iter().map(|tally| tally.name.len() + 8).sum::<usize>() <= frame.len());
        }
        rest = &rest[length..];
    }
});
