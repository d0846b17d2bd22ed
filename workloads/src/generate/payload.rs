//! What stands in a message after its stamp: a pure function of the message's own random draws and its size.
//!
//! Leaves out the stamp: its bytes are zero here, the sender writes them last.

use std::sync::Arc;

use super::json;
use super::stream::{Draws, below};
use crate::profile::Payload;
use crate::stamp::STAMP_LEN;

/// Which of a message's draws seeds its body.
const DRAW: u64 = 3;
/// Bytes of a unit of a compressible body: small enough that every message has the stated ratio, large enough that its
/// repeated part is worth a match.
const UNIT: usize = 256;

/// A compiled payload.
#[derive(Clone, Debug)]
pub(crate) enum Filler {
    Random,
    /// Random bytes in each unit; the rest of it is filled with one byte.
    Compressible {
        random: usize,
    },
    Json,
    /// The text and where each of its lines begins.
    Lines {
        text: Arc<Vec<u8>>,
        starts: Vec<usize>,
    },
}

impl Filler {
    /// `lines` is the text of the profile's file of lines, if it names one.
    pub(crate) fn new(payload: &Payload, lines: Option<&Arc<Vec<u8>>>) -> Self {
        match payload {
            Payload::Random => Self::Random,
            Payload::Compressible { ratio } => Self::Compressible { random: libm::round(UNIT as f64 / ratio) as usize },
            Payload::Json => Self::Json,
            Payload::Lines { .. } => {
                let text = lines.cloned().unwrap_or_default();
                let ends = text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1);
                let starts = std::iter::once(0).chain(ends).filter(|&s| s < text.len()).collect();
                Self::Lines { text, starts }
            }
        }
    }

    /// Appends `size` bytes: room for the stamp, then the body. `position` is the message's place in the order over all
    /// producers.
    #[inline]
    pub(crate) fn fill(&self, draws: Draws, key: u64, position: u64, size: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let body = start + STAMP_LEN;
        let end = start + (size as usize).max(STAMP_LEN);
        let seed = Draws(draws.draw(DRAW));
        match self {
            Self::Random => {
                out.reserve(end - start);
                out.extend_from_slice(&[0; STAMP_LEN]);
                append_random(seed, end - body, out);
            }
            Self::Compressible { random: count } => {
                out.resize(end, b' ');
                out[start..body].fill(0);
                for (i, unit) in out[body..].chunks_mut(UNIT).enumerate() {
                    let take = (*count).min(unit.len());
                    fill_random(Draws(seed.draw(1 << 32 | i as u64)), &mut unit[..take]);
                }
            }
            Self::Json => {
                out.resize(body, 0);
                json::event(seed, key, position, end - body, out);
            }
            Self::Lines { text, starts } => {
                out.resize(body, 0);
                if starts.is_empty() {
                    out.resize(end, b'\n');
                    return;
                }
                let mut from = starts[(position % starts.len() as u64) as usize];
                while out.len() < end {
                    let take = (end - out.len()).min(text.len() - from);
                    out.extend_from_slice(&text[from..from + take]);
                    from = 0;
                }
            }
        }
    }
}

/// Bytes that are made at once, on the stack: no byte of `out` is written twice.
const BLOCK: usize = 64;

/// Appends random bytes, eight to a draw.
#[inline]
fn append_random(seed: Draws, length: usize, out: &mut Vec<u8>) {
    let block = |first: u64| {
        let mut block = [0; BLOCK];
        for (i, word) in (first..).zip(block.chunks_exact_mut(8)) {
            word.copy_from_slice(&seed.draw(i).to_le_bytes());
        }
        block
    };
    let words = BLOCK as u64 / 8;
    for i in 0..(length / BLOCK) as u64 {
        out.extend_from_slice(&block(i * words));
    }
    let rest = length % BLOCK;
    let first = (length / BLOCK) as u64 * words;
    if rest > 8 {
        out.extend_from_slice(&block(first)[..rest]);
    } else if rest > 0 {
        out.extend_from_slice(&seed.draw(first).to_le_bytes()[..rest]);
    }
}

/// Fills with random bytes, eight to a draw.
fn fill_random(seed: Draws, bytes: &mut [u8]) {
    for (i, word) in (0..).zip(bytes.chunks_mut(8)) {
        word.copy_from_slice(&seed.draw(i).to_le_bytes()[..word.len()]);
    }
}

/// One of `choices`.
#[inline]
pub(crate) fn choose<'a>(bits: u64, choices: &[&'a str]) -> &'a str {
    choices[below(bits, choices.len() as u64) as usize]
}
