//! Record batches, format 2: written directly from the columns of a publish, and read as slices of what was fetched.
//!
//! A message's headers travel as one record header of the name [`HEADER`]. Leaves out compression, transactions and requests.

use brokerlab_model::Message;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;

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
        Self { bytes, count: 0, base_ms: 0, max_ms: 0 }
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

    /// The batch as it is sent.
    pub(super) fn finish(mut self, producer: Producer, sequence: i32) -> Bytes {
        let length = (self.bytes.len() - 12) as u32;
        let mut put = |at: usize, bytes: &[u8]| self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        put(8, &length.to_be_bytes());
        put(12, &(-1i32).to_be_bytes());
        put(16, &[2]);
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
    /// Within a batch: the next record, how many are left, and the batch's first offset.
    record: usize,
    left: u32,
    base: u64,
    /// The offset after the last batch that was begun.
    next: u64,
}

impl Cursor {
    /// Over the bytes from `at` to `end` of an answer.
    pub(super) fn new(at: usize, end: usize) -> Self {
        Self { at, end, record: 0, left: 0, base: 0, next: 0 }
    }

    /// The offset to be read after everything so far, once all records of the begun batches were read.
    pub(super) fn next_offset(&self) -> u64 {
        self.next
    }

    /// The next record; `None` after the last whole batch.
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Option<Place>, Malformed> {
        while self.left == 0 {
            if !self.begin(bytes)? {
                return Ok(None);
            }
        }
        self.left -= 1;
        let mut reader = Varints { bytes, at: self.record };
        let length = reader.length()?;
        let end = reader.at + length;
        if end > self.at {
            return Err(Malformed("a record is longer than its batch".to_owned()));
        }
        reader.at += 1;
        reader.varint()?;
        let offset = self.base + reader.varint()?.cast_unsigned();
        let key = reader.bytes()?;
        let value = reader.bytes()?;
        let headers = reader.headers(end)?;
        self.record = end;
        Ok(Some(Place {
            offset,
            key: (key.0, u16::try_from(key.1).map_err(|_| Malformed("a key is longer than 64 KiB".to_owned()))?),
            value,
            headers,
        }))
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
        if attributes & 0x07 != 0 {
            return Err(Malformed(format!("the batch at offset {base} is compressed")));
        }
        // A control batch holds markers of transactions and no messages.
        self.left = if attributes & 0x20 == 0 { count } else { 0 };
        self.base = base;
        self.record = self.at + OVERHEAD;
        self.next = base + u64::from(number(23)) + 1;
        self.at = end;
        Ok(true)
    }
}

/// Reads signed varints.
struct Varints<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Varints<'_> {
    #[inline]
    fn varint(&mut self) -> Result<i64, Malformed> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let byte = *self.bytes.get(self.at).ok_or_else(|| Malformed("a record is cut off".to_owned()))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
            shift += 7;
            if shift > 63 {
                return Err(Malformed("a number has more than 64 bits".to_owned()));
            }
        }
    }

    #[inline]
    fn length(&mut self) -> Result<usize, Malformed> {
        let length = self.varint()?;
        usize::try_from(length)
            .ok()
            .filter(|length| length.checked_add(self.at).is_some_and(|end| end <= self.bytes.len()))
            .ok_or_else(|| Malformed(format!("a length of {length} bytes")))
    }

    /// Where bytes stand and how many; none for null.
    #[inline]
    fn bytes(&mut self) -> Result<(u32, u32), Malformed> {
        if self.bytes.get(self.at) == Some(&1) {
            self.at += 1;
            return Ok((self.at as u32, 0));
        }
        let length = self.length()?;
        let at = self.at;
        self.at += length;
        Ok((at as u32, length as u32))
    }

    /// The message's headers: what our own record header holds, or all record headers as they are encoded when others wrote them.
    #[inline]
    fn headers(&mut self, end: usize) -> Result<(u32, u16), Malformed> {
        let from = self.at;
        if self.bytes.get(from) == Some(&0) {
            return Ok((end as u32, 0));
        }
        let count = self.varint()?;
        let (name_at, name_len) = self.bytes()?;
        let value = self.bytes()?;
        let ours = count == 1 && &self.bytes[name_at as usize..(name_at + name_len) as usize] == HEADER;
        let (at, len) = if ours { value } else { (from as u32, (end - from) as u32) };
        Ok((at, u16::try_from(len).map_err(|_| Malformed("headers are longer than 64 KiB".to_owned()))?))
    }
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{ChannelId, Token};

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
