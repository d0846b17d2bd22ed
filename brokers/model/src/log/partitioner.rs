//! Which partition a record goes to, by Apache Kafka's default rules.
//!
//! Leaves out custom partitioners and partitioning by broker load.

/// Kafka's seed.
const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// MurmurHash2, 32 bits, as Kafka's `Utils.murmur2` computes it (there as a signed number).
#[inline]
pub fn murmur2(key: &[u8]) -> u32 {
    let mut h = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for &word in words {
        let k = u32::from_le_bytes(word).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (n, &byte) in tail.iter().enumerate() {
            h ^= u32::from(byte) << (8 * n);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of a keyed record: the hash without its sign, modulo the number of partitions.
#[inline]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// The sticky partitions of records without a key: all of a batch go to one partition, the next batch's to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sticky {
    partition: u32,
    call: u64,
}

impl Sticky {
    /// Before the first batch.
    pub(super) const NEW: Self = Self { partition: u32::MAX, call: 0 };

    /// The partition for a record of publish call `call` (numbered from 1).
    #[inline]
    pub(super) fn partition(&mut self, call: u64, partitions: u32) -> u32 {
        if self.call != call {
            self.call = call;
            let next = self.partition.wrapping_add(1);
            self.partition = if next >= partitions { 0 } else { next };
        }
        self.partition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_kafkas_own_test_vectors() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_key_keeps_its_partition_and_batches_without_keys_rotate() {
        assert_eq!(partition_of(b"foobar", 12), partition_of(b"foobar", 12));
        assert!((0..1_000u32).all(|n| partition_of(&n.to_le_bytes(), 7) < 7));
        let mut sticky = Sticky::NEW;
        let seen: Vec<u32> = [1, 1, 2, 2, 3, 4].into_iter().map(|call| sticky.partition(call, 3)).collect();
        assert_eq!(seen, [0, 0, 1, 1, 2, 0]);
    }
}
