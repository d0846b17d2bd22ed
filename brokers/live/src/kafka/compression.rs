//! Kafka's codecs over the records section of a batch: gzip, snappy in its Java framing, LZ4 frames, zstd.
//!
//! What does not get smaller goes out as it is, so that compression never makes a batch larger than it was; what is inflated ends
//! at a bound, so that a few bytes can't claim all memory. Leaves out batches and their checksums.

use std::io::{self, Read, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// The most that the records of one batch may take inflated. Brokers take 1 MiB compressed unless they are told otherwise.
pub const MOST_INFLATED: usize = 64 << 20;
/// What opens snappy as Java's library frames it, with its version and the oldest that reads it.
const XERIAL: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes that one block of that framing holds before it is compressed.
const XERIAL_BLOCK: usize = 32 << 10;

/// How the records of a batch are encoded; the numbers are the protocol's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    #[default]
    None = 0,
    /// DEFLATE with gzip's head and checksum.
    Gzip = 1,
    /// Snappy blocks.
    Snappy = 2,
    /// One LZ4 frame.
    Lz4 = 3,
    /// One zstd frame.
    Zstd = 4,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec that a batch's attributes name; none when there is none of that number.
    pub fn of_attributes(attributes: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| *codec as u16 == attributes & 0x07)
    }

    /// Kafka's own name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A codec's state that is used again from batch to batch.
pub struct Compressor {
    codec: Codec,
    state: State,
}

enum State {
    None,
    Gzip(Box<Compress>),
    Snappy(Box<snap::raw::Encoder>),
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Compressor {
    /// For one codec; `level` is gzip's (1 to 9) or zstd's (-131072 to 22), and nothing to the others.
    pub fn new(codec: Codec, level: i32) -> io::Result<Self> {
        let state = match codec {
            Codec::None => State::None,
            Codec::Gzip => {
                let level = u32::try_from(level).map_or_else(|_| Compression::default(), Compression::new);
                State::Gzip(Box::new(Compress::new(level, false)))
            }
            Codec::Snappy => State::Snappy(Box::new(snap::raw::Encoder::new())),
            Codec::Lz4 => State::Lz4,
            Codec::Zstd => State::Zstd(Box::new(zstd::bulk::Compressor::new(level)?)),
        };
        Ok(Self { codec, state })
    }

    /// Which codec it is.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Appends `records` in compressed form to `out`; false when that does not make them smaller, and what was appended is to be
    /// thrown away then.
    pub fn compress(&mut self, records: &[u8], out: &mut Vec<u8>) -> bool {
        let from = out.len();
        out.reserve(records.len());
        let whole = match &mut self.state {
            State::None => false,
            State::Gzip(state) => gzip(state, records, out),
            State::Snappy(encoder) => xerial(encoder, records, out),
            State::Lz4 => lz4(records, out),
            State::Zstd(compressor) => {
                let mut tail = io::Cursor::new(&mut *out);
                tail.set_position(from as u64);
                compressor.compress_to_buffer(records, &mut tail).is_ok()
            }
        };
        whole && out.len() - from < records.len()
    }
}

/// A gzip member whose DEFLATE state is used again; false when it takes more room than what it holds.
fn gzip(state: &mut Compress, records: &[u8], out: &mut Vec<u8>) -> bool {
    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    state.reset();
    out.extend_from_slice(&HEAD);
    if !matches!(state.compress_vec(records, out, FlushCompress::Finish), Ok(Status::StreamEnd)) {
        return false;
    }
    let mut crc = Crc::new();
    crc.update(records);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    true
}

fn xerial(encoder: &mut snap::raw::Encoder, records: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&XERIAL);
    for block in records.chunks(XERIAL_BLOCK) {
        let head = out.len();
        out.resize(head + 4 + snap::raw::max_compress_len(block.len()), 0);
        let Ok(length) = encoder.compress(block, &mut out[head + 4..]) else { return false };
        out[head..head + 4].copy_from_slice(&(length as u32).to_be_bytes());
        out.truncate(head + 4 + length);
    }
    true
}

/// Kafka's own reader takes independent blocks only, and writes them of 64 KiB.
fn lz4(records: &[u8], out: &mut Vec<u8>) -> bool {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(records).is_ok() && encoder.finish().is_ok()
}

/// The records of a batch, `most` bytes of them at most.
pub fn inflate(codec: Codec, bytes: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let garbage = |error: &dyn std::fmt::Display| format!("{} can't be read: {error}", codec.name());
    let out = match codec {
        Codec::None => bytes.get(..most.min(bytes.len())).unwrap_or_default().to_vec(),
        Codec::Gzip => bounded(flate2::read::MultiGzDecoder::new(bytes), bytes.len(), most).map_err(|e| garbage(&e))?,
        Codec::Snappy => snappy(bytes, most).map_err(|e| garbage(&e))?,
        Codec::Lz4 => bounded(FrameDecoder::new(bytes), bytes.len(), most).map_err(|e| garbage(&e))?,
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| garbage(&e))?;
            bounded(decoder, bytes.len(), most).map_err(|e| garbage(&e))?
        }
    };
    if out.len() > most {
        return Err(format!("{} holds more than {most} bytes", codec.name()));
    }
    Ok(out)
}

/// What a reader brings; one byte more than `most` when there is more.
fn bounded(reader: impl Read, compressed: usize, most: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(compressed.saturating_mul(4).min(most));
    reader.take(most as u64 + 1).read_to_end(&mut out)?;
    Ok(out)
}

/// Blocks as Java's library frames them, or one bare block, as librdkafka writes it.
fn snappy(bytes: &[u8], most: usize) -> Result<Vec<u8>, snap::Error> {
    let mut decoder = snap::raw::Decoder::new();
    let mut out = Vec::new();
    let mut block = |block: &[u8], out: &mut Vec<u8>| {
        let length = snap::raw::decompress_len(block)?;
        let from = out.len();
        if from.saturating_add(length) > most {
            out.resize(most + 1, 0);
            return Ok(false);
        }
        out.resize(from + length, 0);
        decoder.decompress(block, &mut out[from..])?;
        Ok(true)
    };
    if !bytes.starts_with(&XERIAL[..8]) {
        block(bytes, &mut out)?;
        return Ok(out);
    }
    let mut rest = bytes.get(XERIAL.len()..).ok_or(snap::Error::Empty)?;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*head) as usize;
        let own = after.get(..length).ok_or(snap::Error::Literal {
            len: length as u64,
            src_len: after.len() as u64,
            dst_len: most as u64,
        })?;
        if !block(own, &mut out)? {
            break;
        }
        rest = &after[length..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compressed(codec: Codec, records: &[u8]) -> Option<Vec<u8>> {
        let level = if codec == Codec::Gzip { 6 } else { 3 };
        let mut compressor = Compressor::new(codec, level).unwrap();
        // The state is used again, also after what was given up.
        compressor.compress(&[1, 2, 3], &mut Vec::new());
        let mut out = vec![7; 5];
        compressor.compress(records, &mut out).then(|| out.split_off(5))
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|n| b"the same words over and over, "[n % 30]).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_was_given() {
        for codec in &Codec::ALL[1..] {
            for length in [300, 32 << 10, (32 << 10) + 1, 1 << 20] {
                let records = text(length);
                let small = compressed(*codec, &records).unwrap();
                assert!(small.len() < length / 2, "{codec:?} {length}: {}", small.len());
                assert_eq!(inflate(*codec, &small, length).unwrap(), records, "{codec:?}");
            }
        }
    }

    #[test]
    fn what_gets_no_smaller_is_given_up() {
        let mut state = 1u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(100_000)
        .collect();
        for codec in Codec::ALL {
            assert_eq!(compressed(codec, &random), None, "{codec:?}");
            assert_eq!(compressed(codec, b"few"), None, "{codec:?}");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_bound_and_garbage_is_named() {
        let zeros = vec![0; 1 << 20];
        for codec in &Codec::ALL[1..] {
            let bomb = compressed(*codec, &zeros).unwrap();
            let error = inflate(*codec, &bomb, (1 << 20) - 1).unwrap_err();
            assert!(error.contains("more than 1048575 bytes") && error.contains(codec.name()), "{error}");
            let garbage = inflate(*codec, b"\xff\xff\xff\xff\xff\x0f certainly nothing of it", 1 << 20).unwrap_err();
            assert!(garbage.starts_with(codec.name()), "{garbage}");
            inflate(*codec, &bomb[..bomb.len() / 2], 1 << 20).unwrap_err();
        }
    }

    #[test]
    fn snappy_is_read_without_its_java_frame_too() {
        let records = text(5_000);
        let bare = snap::raw::Encoder::new().compress_vec(&records).unwrap();
        assert_eq!(inflate(Codec::Snappy, &bare, 5_000).unwrap(), records);
        assert!(inflate(Codec::Snappy, &XERIAL[..12], 5_000).is_err(), "a head cut off");
    }

    #[test]
    fn attributes_name_codecs() {
        for codec in Codec::ALL {
            assert_eq!(Codec::of_attributes(codec as u16 | 0x38), Some(codec));
        }
        assert_eq!(Codec::of_attributes(5), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_within_the_bound(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for codec in Codec::ALL {
                if let Ok(out) = inflate(codec, &bytes, 10_000) {
                    prop_assert!(out.len() <= 10_000);
                }
            }
        }

        #[test]
        fn any_records_come_back(unit in proptest::collection::vec(any::<u8>(), 1..60), times in 1usize..200) {
            let records = unit.repeat(times);
            for codec in Codec::ALL {
                if let Some(small) = compressed(codec, &records) {
                    prop_assert!(small.len() < records.len());
                    prop_assert_eq!(&inflate(codec, &small, records.len()).unwrap(), &records);
                }
            }
        }
    }
}
