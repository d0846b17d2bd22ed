//! Any bytes as a stamped message: what is verified is what was written, and one changed bit shows. Leaves out the checker.

#![no_main]

use brokerlab_model::Time;
use brokerlab_workloads::stamp::{PRODUCERS_MAX, SEQUENCE_MAX};
use brokerlab_workloads::{STAMP_LEN, Stamp, StampError, body_crc, key_hash};
use libfuzzer_sys::fuzz_target;

/// The message as it came, its key, and a bit to be changed.
type Input<'a> = (&'a [u8], u32, &'a [u8]);

fuzz_target!(|input: Input<'_>| {
    let (key, bit, message) = input;
    let hash = key_hash(key);
    match Stamp::read_verified(message, hash) {
        Err(StampError::Short(len)) => assert!(len == message.len() && len < STAMP_LEN),
        Err(StampError::Corrupt) => assert!(message.len() >= STAMP_LEN),
        Ok(stamp) => {
            assert_eq!(written(&stamp, message, hash), message, "a stamp that fits is the one that was written")
        }
    }
    // The same bytes as fields of a stamp: written, verified, damaged.
    let Some(stamp) = Stamp::read(message) else { return };
    let (producer, sequence) = (stamp.producer % PRODUCERS_MAX, stamp.sequence % SEQUENCE_MAX);
    let stamp = Stamp { producer, sequence, intended: Time(stamp.intended.0), ..stamp };
    let mut whole = written(&stamp, message, hash);
    assert_eq!(Stamp::read_verified(&whole, hash), Ok(stamp));
    let bit = bit as usize % (whole.len() * 8);
    whole[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(Stamp::read_verified(&whole, hash), Err(StampError::Corrupt), "bit {bit}");
});

fn written(stamp: &Stamp, message: &[u8], hash: u64) -> Vec<u8> {
    let mut whole = message.to_vec();
    stamp.write(&mut whole, body_crc(message), hash);
    whole
}
