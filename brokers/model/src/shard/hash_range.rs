//! Which shard a record goes to: the hash of its partition key, as a 128-bit number, and the range that holds it.
//!
//! Leaves out which shard has which range, which is in `reshape`.

use md5::{Digest, Md5};
use twox_hash::XxHash3_128;

/// What turns a partition key into a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyHash {
    /// MD5, the rule of Amazon Kinesis.
    #[default]
    Md5,
    /// XXH3 with 128 bits: no service's rule, and far cheaper.
    Xxh3,
}

impl KeyHash {
    /// The hash of a partition key.
    pub fn of(self, key: &[u8]) -> u128 {
        match self {
            Self::Md5 => hash_of(key),
            Self::Xxh3 => XxHash3_128::oneshot(key),
        }
    }
}

/// The hash of a partition key, as Amazon Kinesis computes it: MD5, read as a big-endian number.
pub fn hash_of(key: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(key).into())
}

/// A hash for the `n`-th record without a partition key: evenly spread and the same in every run.
pub(crate) fn hash_without_key(n: u64) -> u128 {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    u128::from(mix(2 * n)) << 64 | u128::from(mix(2 * n + 1))
}

/// The hash ranges of a stream's shards, in order, without gap or overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashRanges {
    /// The first hash of each range.
    starts: Vec<u128>,
    /// They are as they were made: a hash's range is nearly where its share of the whole says.
    even: bool,
}

impl HashRanges {
    /// `shards` ranges of ⌊2^128 ÷ shards⌋ hashes each; the last has what is left. At least one.
    pub fn even(shards: u32) -> Self {
        let shards = u128::from(shards.max(1));
        let width = if shards == 1 { 0 } else { u128::MAX / shards + u128::from(shards.is_power_of_two()) };
        Self { starts: (0..shards).map(|shard| shard * width).collect(), even: true }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Never: the whole space is always covered.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The range that holds `hash`.
    #[inline]
    pub fn find(&self, hash: u128) -> u32 {
        if !self.even {
            return self.starts.partition_point(|&start| start <= hash) as u32 - 1;
        }
        let count = self.starts.len();
        let guess = ((hash >> 64) * count as u128) >> 64;
        let mut at = guess as usize;
        while self.starts[at] > hash {
            at -= 1;
        }
        while at + 1 < count && self.starts[at + 1] <= hash {
            at += 1;
        }
        at as u32
    }

    /// The first and the last hash of a range.
    pub fn bounds(&self, shard: u32) -> (u128, u128) {
        let at = shard as usize;
        let last = self.starts.get(at + 1).map_or(u128::MAX, |next| next - 1);
        (self.starts[at], last)
    }

    /// Splits a range in two, at the middle if nothing is said: the second is the next and begins at the hash that is returned.
    /// Nothing happens if either would be empty.
    pub fn split(&mut self, shard: u32, at: Option<u128>) -> Option<u128> {
        let (first, last) = self.bounds(shard);
        let at = at.unwrap_or_else(|| first + (last - first).div_ceil(2));
        if at <= first || at > last {
            return None;
        }
        self.starts.insert(shard as usize + 1, at);
        self.even = false;
        Some(at)
    }

    /// Joins a range and the next one; nothing happens if it is the last.
    pub fn merge(&mut self, shard: u32) -> Option<()> {
        let next = shard as usize + 1;
        self.starts.get(next)?;
        self.starts.remove(next);
        self.even = false;
        Some(())
    }
}

/// The longest key that the cache remembers.
const KEY_BYTES: usize = 31;
/// Places of the cache, each for two keys; a power of two.
const PLACES: usize = 2_048;

#[derive(Clone, Copy, Debug)]
struct Known {
    hash: u128,
    key: [u8; KEY_BYTES],
    len: u8,
}

impl Known {
    const NONE: Self = Self { hash: 0, key: [0; KEY_BYTES], len: 0 };

    fn is(&self, key: &[u8]) -> bool {
        usize::from(self.len) == key.len() && self.key[..key.len()] == *key
    }
}

/// Hashes of keys seen lately: MD5 costs more than everything else that is done for a small record, and keys come back. Two keys to a
/// place, since of a few hundred keys one in ten would else push another out each time; a newcomer takes the elder's. It is no state: with or
/// without it the answers are the same.
#[derive(Clone, Debug)]
pub(super) struct KeyCache {
    /// Empty where a hash costs no more than to look for it.
    known: Vec<[Known; 2]>,
    hash: KeyHash,
}

impl PartialEq for KeyCache {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for KeyCache {}

impl KeyCache {
    pub(super) fn new(hash: KeyHash) -> Self {
        let places = match hash {
            KeyHash::Md5 => PLACES,
            KeyHash::Xxh3 => 0,
        };
        Self { known: vec![[Known::NONE; 2]; places], hash }
    }

    /// The hash of `key`, which is not empty.
    #[inline]
    pub(super) fn hash_of(&mut self, key: &[u8]) -> u128 {
        if key.len() > KEY_BYTES || self.known.is_empty() {
            return self.hash.of(key);
        }
        let [younger, elder] = &mut self.known[place(key)];
        if younger.is(key) {
            return younger.hash;
        }
        if elder.is(key) {
            return elder.hash;
        }
        *elder = *younger;
        younger.hash = self.hash.of(key);
        younger.len = key.len() as u8;
        younger.key[..key.len()].copy_from_slice(key);
        younger.hash
    }
}

/// Where in the cache a key has its place.
#[inline]
fn place(key: &[u8]) -> usize {
    let (words, tail) = key.as_chunks::<8>();
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let mut sum = words.iter().fold(key.len() as u64, |sum, &word| step(sum, u64::from_le_bytes(word)));
    let mut last = 0;
    for &byte in tail {
        last = last << 8 | u64::from(byte);
    }
    sum = step(sum, last);
    (sum >> 20) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_md5_as_a_number() {
        // The test suite of RFC 1321.
        assert_eq!(hash_of(b""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
        assert_eq!(hash_of(b"abc"), 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72);
        assert_eq!(hash_of(b"message digest"), 0xf96b_697d_7cb7_938d_525a_2f31_aaf1_61d0);
    }

    #[test]
    fn the_other_hash_is_xxh3_with_128_bits() {
        // The reference implementation's for an empty input without a seed.
        assert_eq!(KeyHash::Xxh3.of(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        let (ranges, mut counts) = (HashRanges::even(8), [0u32; 8]);
        for n in 0..8_000u32 {
            counts[ranges.find(KeyHash::Xxh3.of(&n.to_le_bytes())) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1_100).contains(&count)), "{counts:?}");
    }

    #[test]
    fn even_ranges_are_the_services() {
        let two = HashRanges::even(2);
        assert_eq!(two.bounds(0), (0, 170_141_183_460_469_231_731_687_303_715_884_105_727));
        assert_eq!(two.bounds(1).1, 340_282_366_920_938_463_463_374_607_431_768_211_455);
        assert_eq!(HashRanges::even(3).bounds(0), (0, 113_427_455_640_312_821_154_458_202_477_256_070_484));
        assert_eq!(HashRanges::even(1).bounds(0), (0, u128::MAX));
    }

    #[test]
    fn a_range_is_split_inside_and_merged_with_the_next() {
        let mut ranges = HashRanges::even(2);
        let half = 1 << 127;
        assert_eq!(ranges.split(0, None), Some(1 << 126));
        assert_eq!((ranges.bounds(0), ranges.bounds(1).1), ((0, (1 << 126) - 1), half - 1));
        assert_eq!((ranges.split(2, Some(half)), ranges.split(0, Some(1 << 126)), ranges.len()), (None, None, 3));
        assert_eq!(ranges.split(2, Some(half + 1)), Some(half + 1));
        assert_eq!((ranges.bounds(2), ranges.split(2, None)), ((half, half), None), "one hash is not split");
        for (hash, shard) in [(0, 0), (1 << 126, 1), (half, 2), (half + 1, 3), (u128::MAX, 3)] {
            assert_eq!(ranges.find(hash), shard);
        }
        assert_eq!((ranges.merge(3), ranges.merge(0)), (None, Some(())));
        assert_eq!((ranges.len(), ranges.find(5), ranges.find(half)), (3, 0, 1));
    }

    #[test]
    fn every_hash_is_found_in_its_range() {
        for shards in [1, 2, 3, 5, 7, 64, 1_000, 1_021] {
            let ranges = HashRanges::even(shards);
            for shard in 0..shards {
                let (first, last) = ranges.bounds(shard);
                assert_eq!((ranges.find(first), ranges.find(last)), (shard, shard), "of {shards}");
            }
        }
    }

    #[test]
    fn the_cache_changes_no_answer() {
        for hash in [KeyHash::Md5, KeyHash::Xxh3] {
            let mut cache = KeyCache::new(hash);
            for round in 0..2 {
                for n in 0..10_000u32 {
                    let key = format!("{}{n}", "k".repeat((n % 40) as usize));
                    assert_eq!(cache.hash_of(key.as_bytes()), hash.of(key.as_bytes()), "{key} in round {round}");
                }
            }
        }
    }

    #[test]
    fn records_without_a_key_spread_evenly() {
        let ranges = HashRanges::even(8);
        let mut counts = [0u32; 8];
        for n in 0..8_000 {
            counts[ranges.find(hash_without_key(n)) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1_100).contains(&count)), "{counts:?}");
    }
}
