//! Any bytes as what a RabbitMQ sends: frames one after the other, and the properties of messages. Leaves out methods, which are
//! read with the same reader.

#![no_main]

use brokerlab_live::amqp::codec::{FRAME_OVERHEAD, Frame, Properties, decode};
use libfuzzer_sys::fuzz_target;

const FRAME_MAX: usize = 4_096;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((frame, length))) = decode(rest, FRAME_MAX) {
        assert!((FRAME_OVERHEAD..=FRAME_MAX).contains(&length) && length <= rest.len());
        if let Frame::Header { properties, .. } = frame
            && let Ok(read) = Properties::read(properties)
        {
            assert!(read.key.len() + read.headers.len() <= properties.len());
        }
        rest = &rest[length..];
    }
});
