//! Counter-based random streams: draw `i` of a stream is a pure function of (seed, replication, entity, purpose, i).
//!
//! A stream's key comes from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011); a
//! draw is SplitMix64's finaliser over key + counter × gamma, with a gamma of the stream's own, so that two streams
//! are not two windows on one sequence. Leaves out distributions: they live beside what they are for.

/// What a stream is drawn for; one entity has one stream per purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Purpose {
    /// Gaps between messages.
    Arrivals = 1,
    /// Keys, sizes and payloads: the base of every message's own draws.
    Contents = 2,
    /// The path of a state that changes at random (MMPP, on/off).
    State = 3,
    /// Think times of a closed loop.
    Think = 4,
    /// Working times of consumers.
    Work = 5,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finaliser: a bijection on 64 bits in which every input bit reaches every output bit.
#[inline]
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A random stream that can be read at any position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    key: u64,
    gamma: u64,
}

impl Stream {
    /// The stream of one entity (a producer, a group, the whole schedule) for one purpose.
    pub(crate) fn new(seed: u64, replication: u32, entity: u64, purpose: Purpose) -> Self {
        let counter = [entity as u32, (entity >> 32) as u32, purpose as u32, replication];
        let [a, b, c, d] = philox4x32_10(counter, [seed as u32, (seed >> 32) as u32]);
        Self { key: join(a, b), gamma: join(c, d) | 1 }
    }

    /// Draw `i`: 64 uniform bits.
    #[inline]
    pub(crate) const fn at(self, i: u64) -> u64 {
        mix(self.key.wrapping_add(i.wrapping_mul(self.gamma)))
    }
}

/// The draws of one message, made from one draw of its producer's stream: `draw(0)`, `draw(1)`, ….
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    /// The `i`-th 64 uniform bits of this message.
    #[inline]
    pub(crate) const fn draw(self, i: u64) -> u64 {
        mix(self.0.wrapping_add(i.wrapping_mul(GOLDEN)))
    }
}

const fn join(low: u32, high: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// A number in (0, 1] out of 64 uniform bits; never zero, so that its logarithm exists.
#[inline]
pub(crate) fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A number in 0..n out of 64 uniform bits, by multiply and shift (bias below n ÷ 2^64).
#[inline]
pub(crate) const fn below(bits: u64, n: u64) -> u64 {
    ((bits as u128 * n as u128) >> 64) as u64
}

/// Philox4x32 with ten rounds: the block function of the published generator.
pub(crate) const fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let mut round = 0;
    while round < 10 {
        let a = 0xD251_1F53_u64 * counter[0] as u64;
        let b = 0xCD9E_8D57_u64 * counter[2] as u64;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        round += 1;
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known-answer vectors of the Random123 distribution (kat_vectors, philox 4x32 10).
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    /// SplitMix64 seeded with 1234567: the first outputs of its reference implementation.
    #[test]
    fn the_finaliser_is_splitmix64() {
        let outputs: Vec<u64> = (1..=3u64).map(|i| mix(1_234_567_u64.wrapping_add(i.wrapping_mul(GOLDEN)))).collect();
        assert_eq!(outputs, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn streams_differ_in_every_coordinate() {
        let base = Stream::new(1, 0, 0, Purpose::Arrivals).at(0);
        let others = [
            Stream::new(2, 0, 0, Purpose::Arrivals).at(0),
            Stream::new(1, 1, 0, Purpose::Arrivals).at(0),
            Stream::new(1, 0, 1, Purpose::Arrivals).at(0),
            Stream::new(1, 0, 0, Purpose::Contents).at(0),
            Stream::new(1, 0, 0, Purpose::Arrivals).at(1),
        ];
        assert!(others.iter().all(|&o| o != base));
    }

    #[test]
    fn unit_stays_above_zero_and_at_most_one() {
        assert!(unit(0) > 0.0);
        assert!((unit(u64::MAX) - 1.0).abs() < f64::EPSILON);
        assert_eq!(below(u64::MAX, 10), 9);
        assert_eq!(below(0, 10), 0);
    }
}
