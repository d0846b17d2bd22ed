//! Which lane a key goes to, the same in every run and on every machine.
//!
//! Leaves out partitioners that a model copies from a real system; those stand with their model.

/// FNV-1a with a final mix.
pub(crate) fn key_hash(key: &[u8]) -> u64 {
    let hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(hash)
}

/// Spreads a number over all 64 bits (SplitMix64's finish).
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// One of `count`, by a hash.
pub(crate) fn choose(hash: u64, count: u32) -> u32 {
    ((u128::from(hash) * u128::from(count)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_lanes() {
        let mut counts = [0u32; 8];
        for key in 0..8_000u32 {
            counts[choose(key_hash(key.to_string().as_bytes()), 8) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1_100).contains(&count)), "{counts:?}");
    }
}
