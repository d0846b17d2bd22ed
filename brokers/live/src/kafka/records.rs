//! Record batches, format 2: written directly from the columns of a publish, and read as slices of what was fetched.
//!
//! A message's headers travel as one record header of the name [`HEADER`]. Compressed batches are
//! inflated one at a time, when their first record is read. Leaves out transactions, requests and the codecs themselves.

use brokerlab_model::Message;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;

use super::compression::{Codec, Compressor, MOST_INFLATED, inflate};
use super::wire::Malformed;

/// A batch's own bytes, before its records.
pub(super) const OVERHEAD: usize = 61;
/// The name of the record header that carries a message's headers.
pub(super) const HEADER: &[u8] = b"h";
/// The most that a record adds to its message: length, attributes, time and offset deltas, lengths of key and value, and a header.
pub(super) const PER_RECORD: usize = 5 + 1 + 10 + 5 + 3 + 5 + 1 + 1 + HEADER.len() + 3;

/// Records of one partition that go out as one batch.
#[derive(Debug, Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    count: u32,
    base_ms: i64,
    max_ms: i64,
    codec: Codec,
}

/// Whose batch it is, for a broker to know duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

impl Producer {
    /// Not idempotent.
    pub(super) const NONE: Self = Self { id: -1, epoch: -1 };
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// How many bytes the varint of a length takes.
const fn size_of_len(length: usize) -> usize {
    size_of((length as u64).cast_signed())
}

/// How many bytes a signed varint takes.
const fn size_of(value: i64) -> usize {
    (63 - (zigzag(value) | 1).leading_zeros() as usize) / 7 + 1
}

/// A few bytes on the stack, so that a record's head is appended at once.
struct Head {
    bytes: [u8; 48],
    len: usize,
}

impl Head {
    #[inline]
    fn varint(&mut self, value: i64) {
        let mut value = zigzag(value);
        while value >= 0x80 {
            self.bytes[self.len] = value as u8 | 0x80;
            self.len += 1;
            value >>= 7;
        }
        self.bytes[self.len] = value as u8;
        self.len += 1;
    }

    #[inline]
    fn length(&mut self, length: usize) {
        self.varint((length as u64).cast_signed());
    }

    #[inline]
    fn byte(&mut self, value: u8) {
        self.bytes[self.len] = value;
        self.len += 1;
    }
}

impl Builder {
    /// An empty batch in a buffer that is used again.
    pub(super) fn in_buffer(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(OVERHEAD, 0);
        Self { bytes, count: 0, base_ms: 0, max_ms: 0, codec: Codec::None }
    }

    /// How many records there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes the batch has, its own included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// At most how many bytes a message adds.
    pub(super) fn bound(message: &Message<'_>) -> usize {
        message.key.len() + message.headers.len() + message.payload.len() + PER_RECORD
    }

    /// Appends a message with its time in milliseconds since 1970.
    pub(super) fn push(&mut self, message: &Message<'_>, ms: i64) {
        if self.count == 0 {
            (self.base_ms, self.max_ms) = (ms, ms);
        }
        self.max_ms = self.max_ms.max(ms);
        let (key, headers, value) = (message.key.len(), message.headers.len(), message.payload.len());
        let (time, offset) = (ms - self.base_ms, i64::from(self.count));
        let key_size = if key == 0 { 1 } else { size_of_len(key) + key };
        let headers_size = if headers == 0 { 0 } else { 1 + HEADER.len() + size_of_len(headers) + headers };
        let body = 1 + size_of(time) + size_of(offset) + key_size + size_of_len(value) + value + 1 + headers_size;
        let mut head = Head { bytes: [0; 48], len: 0 };
        head.length(body);
        head.byte(0);
        head.varint(time);
        head.varint(offset);
        if key == 0 {
            head.varint(-1);
        } else {
            head.length(key);
            self.bytes.extend_from_slice(&head.bytes[..head.len]);
            self.bytes.extend_from_slice(message.key);
            head.len = 0;
        }
        head.length(value);
        self.bytes.extend_from_slice(&head.bytes[..head.len]);
        self.bytes.extend_from_slice(message.payload);
        if headers == 0 {
            self.bytes.push(0);
        } else {
            head.len = 0;
            head.varint(1);
            head.length(HEADER.len());
            for &byte in HEADER {
                head.byte(byte);
            }
            head.length(headers);
            self.bytes.extend_from_slice(&head.bytes[..head.len]);
            self.bytes.extend_from_slice(message.headers);
        }
        self.count += 1;
    }

    /// Compresses the records into `spare`, unless that makes them no smaller. Returns the buffer that is free then, and the share
    /// of their size that was left.
    pub(super) fn compress(&mut self, compressor: &mut Compressor, mut spare: Vec<u8>) -> (Vec<u8>, f64) {
        let before = self.bytes.len() - OVERHEAD;
        spare.clear();
        spare.resize(OVERHEAD, 0);
        if !compressor.compress(&self.bytes[OVERHEAD..], &mut spare) {
            return (spare, 1.0);
        }
        self.codec = compressor.codec();
        let free = std::mem::replace(&mut self.bytes, spare);
        (free, (self.bytes.len() - OVERHEAD) as f64 / before as f64)
    }

    /// The batch as it is sent.
    pub(super) fn finish(mut self, producer: Producer, sequence: i32) -> Bytes {
        let length = (self.bytes.len() - 12) as u32;
        let mut put = |at: usize, bytes: &[u8]| self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        put(8, &length.to_be_bytes());
        put(12, &(-1i32).to_be_bytes());
        put(16, &[2]);
        put(21, &(self.codec as u16).to_be_bytes());
        put(23, &self.count.wrapping_sub(1).to_be_bytes());
        put(27, &self.base_ms.to_be_bytes());
        put(35, &self.max_ms.to_be_bytes());
        put(43, &producer.id.to_be_bytes());
        put(51, &producer.epoch.to_be_bytes());
        put(53, &sequence.to_be_bytes());
        put(57, &self.count.to_be_bytes());
        let crc = crc(&self.bytes[21..]);
        self.bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(self.bytes)
    }
}

fn crc(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// A record, as places in the bytes that were fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) key: (u32, u16),
    pub(super) value: (u32, u32),
    pub(super) headers: (u32, u16),
}

/// Reads the batches of one partition out of an answer, record by record, in the place where they stand.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    /// Where the next batch begins, and where the last ends.
    at: usize,
    end: usize,
    /// The records of the batch that is read, when it was compressed.
    inflated: Option<Bytes>,
    /// Within a batch: the next record, where the last ends, how many are left, and the batch's first offset.
    record: usize,
    records_end: usize,
    left: u32,
    base: u64,
    /// The offset after the last batch that was begun.
    next: u64,
}

impl Cursor {
    /// Over the bytes from `at` to `end` of an answer.
    pub(super) fn new(at: usize, end: usize) -> Self {
        Self { at, end, inflated: None, record: 0, records_end: 0, left: 0, base: 0, next: 0 }
    }

    /// The offset to be read after everything so far, once all records of the begun batches were read.
    pub(super) fn next_offset(&self) -> u64 {
        self.next
    }

    /// The bytes in which the last place stands: those of the answer, or a batch's of its own.
    #[inline]
    pub(super) fn arena<'a>(&'a self, answer: &'a Bytes) -> &'a Bytes {
        self.inflated.as_ref().unwrap_or(answer)
    }

    /// The next record; `None` after the last whole batch.
    #[inline]
    pub(super) fn next(&mut self, answer: &[u8]) -> Result<Option<Place>, Malformed> {
        while self.left == 0 {
            if !self.begin(answer)? {
                return Ok(None);
            }
        }
        self.left -= 1;
        let bytes = self.inflated.as_deref().unwrap_or(answer);
        let mut reader = Varints { bytes: &bytes[..self.records_end], at: self.record };
        let place = reader.record(self.base).ok_or_else(|| malformed(self.base, self.left))?;
        self.record = reader.at;
        Ok(Some(place))
    }

    /// Begins the next batch; false when there is none that is whole.
    fn begin(&mut self, bytes: &[u8]) -> Result<bool, Malformed> {
        let Some(head) = bytes.get(self.at..self.end).and_then(|rest| rest.first_chunk::<OVERHEAD>()) else {
            return Ok(false);
        };
        let number = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().expect("within the head"));
        let base = u64::from_be_bytes(*head[..].first_chunk().expect("within the head"));
        let length = number(8) as usize;
        let end = self.at + 12 + length;
        if end > self.end {
            return Ok(false);
        }
        if head[16] != 2 || length < OVERHEAD - 12 {
            return Err(Malformed(format!("a batch of format {} at offset {base}", head[16])));
        }
        let (attributes, count) = (u16::from_be_bytes([head[21], head[22]]), number(57));
        if crc(&bytes[self.at + 21..end]) != number(17) {
            return Err(Malformed(format!("the checksum of the batch at offset {base} is wrong")));
        }
        // A control batch holds markers of transactions and no messages.
        self.left = if attributes & 0x20 == 0 { count } else { 0 };
        (self.record, self.records_end, self.inflated) = (self.at + OVERHEAD, end, None);
        if attributes & 0x07 != 0 && self.left > 0 {
            let wrong = |reason: String| Malformed(format!("the batch at offset {base}: {reason}"));
            let codec = Codec::of_attributes(attributes)
                .ok_or_else(|| wrong(format!("compressed by a codec of number {}", attributes & 0x07)))?;
            let records = inflate(codec, &bytes[self.record..end], MOST_INFLATED).map_err(wrong)?;
            (self.record, self.records_end) = (0, records.len());
            self.inflated = Some(Bytes::from(records));
        }
        self.base = base;
        self.next = base.wrapping_add(u64::from(number(23))).wrapping_add(1);
        self.at = end;
        Ok(true)
    }
}

/// A number of any length at the front of `bytes`, and how many of them it takes; nothing when it is cut off or has more than 64 bits.
fn long(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Reads what a record consists of. Nothing where it is cut off, or says what can't be.
struct Varints<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Varints<'_> {
    #[inline]
    fn varint(&mut self) -> Option<i64> {
        // Most have one byte or two, and this stands where it is used.
        let rest = self.bytes.get(self.at..)?;
        let (value, length) = match *rest {
            [first, ..] if first < 0x80 => (u64::from(first), 1),
            [first, second, ..] if second < 0x80 => (u64::from(first & 0x7f) | u64::from(second) << 7, 2),
            _ => long(rest)?,
        };
        self.at += length;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    #[inline]
    fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.varint()?).ok()?;
        (length <= self.bytes.len() - self.at).then_some(length)
    }

    /// Where bytes stand and how many; none for null.
    #[inline]
    fn bytes(&mut self) -> Option<(u32, u32)> {
        if self.bytes.get(self.at) == Some(&1) {
            self.at += 1;
            return Some((self.at as u32, 0));
        }
        let length = self.length()?;
        let at = self.at;
        self.at += length;
        Some((at as u32, length as u32))
    }

    /// The message's headers: what our own record header holds, or all record headers as they are encoded when others wrote them.
    fn headers(&mut self, end: usize) -> Option<(u32, u16)> {
        let from = self.at;
        // Key and value stand within the batch; whether within their record as well shows here.
        if from >= end {
            return None;
        }
        let count = self.varint()?;
        let (name_at, name_len) = self.bytes()?;
        let value = self.bytes()?;
        if self.at > end {
            return None;
        }
        let ours = count == 1 && &self.bytes[name_at as usize..(name_at + name_len) as usize] == HEADER;
        let (at, len) = if ours { value } else { (from as u32, (end - from) as u32) };
        Some((at, u16::try_from(len).ok()?))
    }

    /// The record at the front, of a batch whose first offset is `base`.
    #[inline]
    fn record(&mut self, base: u64) -> Option<Place> {
        let length = self.length()?;
        let end = self.at + length;
        self.at += 1;
        self.varint()?;
        let offset = base.wrapping_add(self.varint()?.cast_unsigned());
        let key = self.bytes()?;
        let value = self.bytes()?;
        // Without headers, as most are, nothing is called.
        let headers = match self.bytes.get(self.at) {
            Some(&0) if self.at < end => (end as u32, 0),
            Some(_) | None => self.headers(end)?,
        };
        self.at = end;
        Some(Place { offset, key: (key.0, u16::try_from(key.1).ok()?), value, headers })
    }
}

/// A record that can't be read, in words.
#[cold]
fn malformed(base: u64, left: u32) -> Malformed {
    Malformed(format!(
        "the batch at offset {base}: a record is cut off, holds a length that can't be, or a key or headers longer than 64 KiB, with {left} to come"
    ))
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{ChannelId, Token};
    use proptest::prelude::*;

    use super::*;

    fn message<'a>(key: &'a [u8], headers: &'a [u8], payload: &'a [u8]) -> Message<'a> {
        Message { token: Token(0), channel: ChannelId(0), key, headers, payload_len: payload.len() as u32, payload }
    }

    #[test]
    fn what_is_written_is_read_in_its_place() {
        let large = vec![9; 70_000];
        let all = [
            message(b"", b"", b""),
            message(b"key", b"", b"payload"),
            message(b"", b"headers", b"p"),
            message(&large[..60_000], &large[..300], &large),
        ];
        let mut builder = Builder::in_buffer(Vec::new());
        for (n, message) in (0..).zip(&all) {
            let before = builder.len();
            builder.push(message, 1_000 + n * 70);
            assert!(builder.len() - before <= Builder::bound(message));
        }
        let batch = builder.finish(Producer { id: 7, epoch: 1 }, 40);
        let mut two = batch.to_vec();
        two.extend_from_slice(&batch);
        two[batch.len() + 7] = 4;
        let mut cursor = Cursor::new(0, two.len());
        for n in 0..8u64 {
            let place = cursor.next(&two).unwrap().unwrap();
            let part = |at: u32, len: u32| &two[at as usize..(at + len) as usize];
            let expected = &all[n as usize % 4];
            assert_eq!(place.offset, n);
            assert_eq!(part(place.key.0, place.key.1.into()), expected.key);
            assert_eq!(part(place.value.0, place.value.1), expected.payload);
            assert_eq!(part(place.headers.0, place.headers.1.into()), expected.headers);
        }
        assert_eq!(cursor.next(&two), Ok(None));
        assert_eq!(cursor.next_offset(), 8);
    }

    #[test]
    fn compressed_batches_stand_among_others() {
        let payload = b"again and again and again and again and again and again and again".repeat(20);
        let mut fetched = Vec::new();
        for (n, codec) in (0..).zip(Codec::ALL) {
            let mut builder = Builder::in_buffer(Vec::new());
            builder.push(&message(b"key", b"headers", &payload), 5);
            builder.push(&message(b"", b"", codec.name().as_bytes()), 6);
            let before = builder.len();
            let mut compressor = Compressor::new(codec, 3).unwrap();
            let (_, share) = builder.compress(&mut compressor, vec![9; 100]);
            assert_eq!(share < 0.5, codec != Codec::None, "{codec:?}: {share}");
            let batch = builder.finish(Producer::NONE, -1);
            assert_eq!(batch.len() < before / 2, codec != Codec::None);
            let from = fetched.len();
            fetched.extend_from_slice(&batch);
            fetched[from + 7] = 2 * n;
        }
        let fetched = Bytes::from(fetched);
        let mut cursor = Cursor::new(0, fetched.len());
        for (n, codec) in (0..).zip(Codec::ALL) {
            let text = |cursor: &Cursor, (at, length): (u32, u32)| {
                cursor.arena(&fetched)[at as usize..(at + length) as usize].to_vec()
            };
            let place = cursor.next(&fetched).unwrap().unwrap();
            assert_eq!((place.offset, text(&cursor, place.value)), (2 * n, payload.clone()));
            assert_eq!(text(&cursor, (place.headers.0, place.headers.1.into())), b"headers");
            let place = cursor.next(&fetched).unwrap().unwrap();
            assert_eq!((place.offset, text(&cursor, place.value)), (2 * n + 1, codec.name().as_bytes().to_vec()));
        }
        assert_eq!(cursor.next(&fetched), Ok(None));
        assert_eq!(cursor.next_offset(), 10);
    }

    /// A batch with these attributes and this in place of its records.
    fn batch_of(attributes: u16, count: u32, records: &[u8]) -> Vec<u8> {
        let mut batch = vec![0; OVERHEAD];
        batch.extend_from_slice(records);
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    #[test]
    fn garbage_within_a_whole_batch_is_told_with_its_offset() {
        for (attributes, reason) in [
            (1, "gzip can't be read"),
            (2, "snappy can't be read"),
            (3, "lz4 can't be read"),
            (4, "zstd can't be read"),
            (5, "codec of number 5"),
        ] {
            let batch = batch_of(attributes, 3, b"\xff\xff\xff\xff\xff\xff\xff no codec's");
            let error = Cursor::new(0, batch.len()).next(&batch).unwrap_err().to_string();
            assert!(error.contains("offset 0") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn more_than_the_bound_is_not_inflated() {
        let mut bomb = Vec::new();
        assert!(Compressor::new(Codec::Zstd, 1).unwrap().compress(&vec![0; MOST_INFLATED + 1], &mut bomb));
        assert!(bomb.len() < 10_000);
        let batch = batch_of(4, 3, &bomb);
        let error = Cursor::new(0, batch.len()).next(&batch).unwrap_err().to_string();
        assert!(error.contains("more than 67108864 bytes"), "{error}");
    }

    proptest! {
        /// Whole batches of any bytes: each record that is read stands within them, in order, and none panics.
        #[test]
        fn any_records_are_read_in_their_bounds_or_refused(
            attributes in 0u16..8, count in 0u32..9, records in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let batch = Bytes::from(batch_of(attributes, count, &records));
            let mut cursor = Cursor::new(0, batch.len());
            while let Ok(Some(place)) = cursor.next(&batch) {
                let length = cursor.arena(&batch).len();
                let (key, value, headers) = (place.key, place.value, place.headers);
                prop_assert!(key.0 as usize + usize::from(key.1) <= value.0 as usize);
                prop_assert!(value.0 as usize + value.1 as usize <= headers.0 as usize || headers.1 == 0);
                prop_assert!(headers.0 as usize + usize::from(headers.1) <= length);
            }
        }
    }

    #[test]
    fn a_batch_cut_off_is_left_and_a_changed_byte_is_found() {
        let mut builder = Builder::in_buffer(Vec::new());
        builder.push(&message(b"", b"", b"payload"), 5);
        let batch = builder.finish(Producer::NONE, -1);
        assert_eq!(Cursor::new(0, batch.len() - 1).next(&batch), Ok(None));
        let mut wrong = batch.to_vec();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(Cursor::new(0, wrong.len()).next(&wrong).unwrap_err().to_string().contains("checksum"));
    }
}
