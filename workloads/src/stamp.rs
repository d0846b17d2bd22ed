//! The 32 bytes with which every message begins, and the checksum that holds for the whole message.
//!
//! Layout, little-endian: run `u32` · producer and sequence packed in a `u64` (24 and 40 bits) · intended start `u64`
//! ns · actual start `u64` ns · checksum `u32`. The checksum folds the CRC-32C of the body with a mix of every other
//! field, the key's hash and the length: stamping another actual start needs no second pass over the body. Leaves out
//! where the two times come from.

use brokerlab_model::Time;

use crate::generate::mix;

/// Bytes that the stamp takes at the front of a message; counted in the message's size.
pub const STAMP_LEN: usize = 32;
/// Producer numbers are below this (24 bits).
pub const PRODUCERS_MAX: u32 = 1 << 24;
/// Sequence numbers are below this (40 bits).
pub const SEQUENCE_MAX: u64 = 1 << 40;

/// Who sent a message, as which of its messages, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run that sent it: a leftover of another run is told apart by it.
    pub run: u32,
    /// The producer's number in the profile, below [`PRODUCERS_MAX`].
    pub producer: u32,
    /// The producer's message number, dense from 0, below [`SEQUENCE_MAX`].
    pub sequence: u64,
    /// When the schedule wanted it sent.
    pub intended: Time,
    /// When it was handed to the backend.
    pub actual: Time,
}

/// Why a stamp cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// The message is shorter than a stamp.
    #[error("a message of {0} bytes is shorter than its 32-byte stamp; it was cut on its way or is not of this run")]
    Short(usize),
    /// Stamp, key, length and body do not belong together.
    #[error(
        "the checksum does not fit stamp, key and body; at least one bit changed on its way or it is not of this run"
    )]
    Corrupt,
}

impl Stamp {
    /// Writes the stamp over the first 32 bytes of `message`. `body_crc` is [`body_crc`] of the message, `key_hash` is
    /// [`key_hash`] of its key. `message` must hold at least [`STAMP_LEN`] bytes, else this panics.
    #[inline]
    pub fn write(&self, message: &mut [u8], body_crc: u32, key_hash: u64) {
        debug_assert!(self.producer < PRODUCERS_MAX && self.sequence < SEQUENCE_MAX);
        let len = message.len();
        let head: &mut [u8; STAMP_LEN] =
            message.first_chunk_mut().expect("a profile with a size below the stamp is refused");
        let packed = u64::from(self.producer) << 40 | self.sequence;
        head[0..4].copy_from_slice(&self.run.to_le_bytes());
        head[4..12].copy_from_slice(&packed.to_le_bytes());
        head[12..20].copy_from_slice(&self.intended.0.to_le_bytes());
        head[20..28].copy_from_slice(&self.actual.0.to_le_bytes());
        head[28..32].copy_from_slice(&self.checksum(packed, body_crc, key_hash, len).to_le_bytes());
    }

    /// Reads the stamp without looking at the checksum; `None` when the message is shorter than a stamp.
    #[inline]
    pub fn read(message: &[u8]) -> Option<Self> {
        let head: &[u8; STAMP_LEN] = message.first_chunk()?;
        let packed = u64_at(head, 4);
        Some(Self {
            run: u32_at(head, 0),
            producer: (packed >> 40) as u32,
            sequence: packed & (SEQUENCE_MAX - 1),
            intended: Time(u64_at(head, 12)),
            actual: Time(u64_at(head, 20)),
        })
    }

    /// Reads the stamp and verifies the whole message against its checksum and its key's [`key_hash`].
    #[inline]
    pub fn read_verified(message: &[u8], key_hash: u64) -> Result<Self, StampError> {
        let stamp = Self::read(message).ok_or(StampError::Short(message.len()))?;
        let packed = u64::from(stamp.producer) << 40 | stamp.sequence;
        let expected = stamp.checksum(packed, body_crc(message), key_hash, message.len());
        let found = message.get(28..32).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        if found == Some(expected) { Ok(stamp) } else { Err(StampError::Corrupt) }
    }

    #[inline]
    fn checksum(&self, packed: u64, body_crc: u32, key_hash: u64, len: usize) -> u32 {
        // Each field enters by its own odd multiplier or rotation, so that swapping two of them shows.
        let times = mix(self.intended.0 ^ self.actual.0.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let whose = mix(packed ^ u64::from(self.run).rotate_left(17) ^ (len as u64).rotate_left(48));
        let all = mix(times.wrapping_add(whose.rotate_left(21)) ^ key_hash);
        (all as u32) ^ (all >> 32) as u32 ^ body_crc
    }
}

/// CRC-32C of what follows the stamp; of nothing when the message is no longer than its stamp.
#[inline]
pub fn body_crc(message: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(message.get(STAMP_LEN..).unwrap_or_default())
}

/// A 64-bit hash of a key, eight bytes at a time; the same on every platform.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    let mut hash = (key.len() as u64).wrapping_mul(0x9FB2_1C65_1E98_DF25) ^ 0x2545_F491_4F6C_DD1D;
    let mut words = key.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        hash = (hash ^ word).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        hash ^= hash >> 32;
    }
    let mut last = 0;
    for (i, &byte) in words.remainder().iter().enumerate() {
        last |= u64::from(byte) << (8 * i);
    }
    mix(hash ^ last)
}

fn u32_at(head: &[u8; STAMP_LEN], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn u64_at(head: &[u8; STAMP_LEN], at: usize) -> u64 {
    u64::from(u32_at(head, at + 4)) << 32 | u64::from(u32_at(head, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { run: 0xDEAD_BEEF, producer: 0xAB_CDEF, sequence: (1 << 40) - 2, intended: Time(7), actual: Time(9) };

    fn stamped(len: usize) -> Vec<u8> {
        let mut message: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let crc = body_crc(&message);
        STAMP.write(&mut message, crc, key_hash(b"key"));
        message
    }

    #[test]
    fn what_was_written_is_read() {
        for len in [32, 33, 40, 100, 4096] {
            assert_eq!(Stamp::read_verified(&stamped(len), key_hash(b"key")), Ok(STAMP));
        }
    }

    #[test]
    fn the_layout_is_the_written_one() {
        let message = stamped(32);
        assert_eq!(message[0..4], [0xEF, 0xBE, 0xAD, 0xDE]);
        assert_eq!(message[4..12], [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xEF, 0xCD, 0xAB]);
        assert_eq!(message[12..20], 7u64.to_le_bytes());
        assert_eq!(message[20..28], 9u64.to_le_bytes());
    }

    #[test]
    fn every_flipped_bit_another_key_and_another_length_are_corrupt() {
        let good = stamped(60);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read_verified(&bad, key_hash(b"key")), Err(StampError::Corrupt), "bit {bit}");
        }
        assert_eq!(Stamp::read_verified(&good, key_hash(b"kez")), Err(StampError::Corrupt));
        assert_eq!(Stamp::read_verified(&good[..59], key_hash(b"key")), Err(StampError::Corrupt));
        assert_eq!(Stamp::read_verified(&good[..31], key_hash(b"key")), Err(StampError::Short(31)));
    }

    #[test]
    fn another_actual_start_needs_the_body_no_second_time() {
        let mut message = stamped(100);
        let crc = body_crc(&message);
        let later = Stamp { actual: Time(1_000), ..STAMP };
        later.write(&mut message, crc, key_hash(b"key"));
        assert_eq!(Stamp::read_verified(&message, key_hash(b"key")), Ok(later));
    }

    #[test]
    fn key_hashes_of_near_keys_differ() {
        let keys: Vec<Vec<u8>> = (0..1000u64).map(|i| format!("{i:016x}").into_bytes()).collect();
        let mut hashes: Vec<u64> = keys.iter().map(|k| key_hash(k)).collect();
        hashes.extend([
            key_hash(b""),
            key_hash(b"\0"),
            key_hash(b"\0\0"),
            key_hash(b"abcdefgh"),
            key_hash(b"abcdefgh\0"),
        ]);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 1005);
    }
}
