//! Any bytes as what a caller of a service sends, and as what a service answers: HTTP/1.1, one after the other on one connection.

#![no_main]

use brokerlab_embedded::loopback::wire::http::{Answer, HEAD_BYTES, WHY_BYTES, decoded, read_answer, read_post};
use libfuzzer_sys::fuzz_target;

const BODY: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let (mut rest, mut room) = (bytes, Vec::new());
    loop {
        match read_post(rest, BODY) {
            Ok(Some((post, length))) => {
                assert!(length <= rest.len() && length <= HEAD_BYTES + BODY);
                assert!(post.headers.len() + post.payload.len() <= BODY);
                assert!(decoded(post.key, &mut room).is_none_or(|key| key.len() <= post.key.len()));
                rest = &rest[length..];
            }
            Ok(None) => {
                assert!(rest.len() <= HEAD_BYTES + BODY, "what is not whole is bounded");
                break;
            }
            Err(error) => {
                assert!((400..600).contains(&error.code().0) && !error.to_string().is_empty());
                break;
            }
        }
    }
    let mut rest = bytes;
    while let Ok(Some((answer, length))) = read_answer(rest) {
        assert!(length <= rest.len());
        if let Answer::Ended { why, .. } | Answer::Broken(_, why) = answer {
            assert!(why.len() <= WHY_BYTES);
        }
        rest = &rest[length..];
    }
});
