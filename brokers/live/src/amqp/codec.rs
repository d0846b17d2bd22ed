//! AMQP 0-9-1 on the wire: frames, short and long strings, field tables, and the properties of a message that are used here.
//!
//! Everything that comes from a server is read with bounds checked, so that [`decode`] may be given any bytes. Leaves out the
//! methods, which are in `method`. Source: AMQP 0-9-1 specification §2.3 and §4.2, with RabbitMQ's errata on field types.

/// The end of every frame.
const FRAME_END: u8 = 0xCE;
/// What a frame costs beside its payload, in bytes.
pub const FRAME_OVERHEAD: usize = 8;
/// The only channel that is used on a connection.
pub(super) const CHANNEL: u16 = 1;
/// What opens a connection.
pub(super) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// One frame as it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A method's number (class in the upper 16 bits) and its arguments.
    Method {
        /// On which channel.
        channel: u16,
        /// Class and method.
        id: u32,
        /// Its arguments.
        arguments: &'a [u8],
    },
    /// What comes before a message's body.
    Header {
        /// The whole body's length in bytes.
        body: u64,
        /// Flags and values.
        properties: &'a [u8],
    },
    /// A part of a message's body.
    Body(&'a [u8]),
    /// Nothing, but the server lives.
    Heartbeat,
    /// The server speaks another version and says which before it closes.
    OtherVersion([u8; 4]),
}

/// Bytes that are no AMQP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin as a frame does.
    #[error("a frame of the unknown type {0}")]
    Type(u8),
    /// It is longer than was agreed on.
    #[error("a frame of {0} bytes, more than was agreed on")]
    Length(usize),
    /// Its end is not where it should be.
    #[error("a frame without its end mark")]
    End,
    /// What it holds is shorter than it says.
    #[error("a frame that is cut short")]
    Short,
}

/// The first frame of `input` and its length in bytes; none while it is not there as a whole. A frame may have `frame_max` bytes.
pub fn decode(input: &[u8], frame_max: usize) -> Result<Option<(Frame<'_>, usize)>, Malformed> {
    let Some(&[kind, c1, c0, l3, l2, l1, l0]) = input.first_chunk::<7>() else {
        return match input.first() {
            Some(&kind) if !matches!(kind, 1 | 2 | 3 | 8 | b'A') => Err(Malformed::Type(kind)),
            Some(_) | None => Ok(None),
        };
    };
    if input.starts_with(b"AMQP") {
        let version = input.get(4..8).and_then(|bytes| bytes.try_into().ok());
        return Ok(version.map(|version| (Frame::OtherVersion(version), 8)));
    }
    if !matches!(kind, 1 | 2 | 3 | 8) {
        return Err(Malformed::Type(kind));
    }
    let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
    let total = length + FRAME_OVERHEAD;
    if total > frame_max {
        return Err(Malformed::Length(total));
    }
    let Some(payload) = input.get(7..7 + length) else { return Ok(None) };
    let Some(&end) = input.get(7 + length) else { return Ok(None) };
    if end != FRAME_END {
        return Err(Malformed::End);
    }
    let frame = match kind {
        1 => {
            let (id, arguments) = payload.split_first_chunk::<4>().ok_or(Malformed::Short)?;
            Frame::Method { channel: u16::from_be_bytes([c1, c0]), id: u32::from_be_bytes(*id), arguments }
        }
        2 => {
            let (head, properties) = payload.split_first_chunk::<12>().ok_or(Malformed::Short)?;
            let body = head.last_chunk::<8>().ok_or(Malformed::Short)?;
            Frame::Header { body: u64::from_be_bytes(*body), properties }
        }
        3 => Frame::Body(payload),
        _heartbeat => Frame::Heartbeat,
    };
    Ok(Some((frame, total)))
}

/// Reads values one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    pub(super) fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.bytes(length as usize)
    }

    /// A table's entries.
    pub(super) fn table(&mut self) -> Result<Table<'a>, Malformed> {
        self.long().map(|bytes| Table(Reader(bytes)))
    }

    /// One field's value: text, a whole number, or something that is passed over.
    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let kind = self.u8()?;
        let signed = |number: i64| Value::Number(u64::try_from(number).unwrap_or(0));
        Ok(match kind {
            b'S' | b'x' => Value::Text(self.long()?),
            b'b' => signed(i64::from(i8::from_be_bytes(self.array()?))),
            b't' | b'B' => Value::Number(self.u8()?.into()),
            b's' => signed(i64::from(i16::from_be_bytes(self.array()?))),
            b'u' => Value::Number(self.u16()?.into()),
            b'I' => signed(i64::from(i32::from_be_bytes(self.array()?))),
            b'i' => Value::Number(self.u32()?.into()),
            b'l' | b'L' => signed(i64::from_be_bytes(self.array()?)),
            b'f' => self.passed(4)?,
            b'd' | b'T' => self.passed(8)?,
            b'D' => self.passed(5)?,
            b'A' | b'F' => {
                self.long()?;
                Value::Other
            }
            b'V' => Value::Other,
            unknown => return Err(Malformed::Type(unknown)),
        })
    }

    fn passed(&mut self, count: usize) -> Result<Value<'a>, Malformed> {
        self.bytes(count).map(|_| Value::Other)
    }
}

/// A field's value, as far as it is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A long string.
    Text(&'a [u8]),
    /// A whole number; what is below zero counts as zero.
    Number(u64),
    /// Anything else.
    Other,
}

/// A field table's entries, in order; it ends at the first that can't be read.
#[derive(Clone, Debug)]
pub(super) struct Table<'a>(Reader<'a>);

impl<'a> Iterator for Table<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.short().ok()?;
        Some((name, self.0.value().ok()?))
    }
}

/// What a message's header says, as far as it is used here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// The message's key.
    pub key: &'a [u8],
    /// Its encoded headers.
    pub headers: &'a [u8],
    /// How often a quorum queue has delivered it before.
    pub delivery_count: u64,
    /// The number under which a returned message was published.
    pub message_id: &'a [u8],
}

/// The header field that holds a message's key.
const KEY: &[u8] = b"key";
/// The header field that holds a message's headers.
const HEADERS: &[u8] = b"headers";

impl<'a> Properties<'a> {
    /// Reads a header frame's flags and values.
    pub fn read(properties: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(properties);
        let flags = reader.u16()?;
        let has = |bit: u32| flags & (1 << bit) != 0;
        let mut read = Self::default();
        for _ in [15, 14].into_iter().filter(|bit| has(*bit)) {
            reader.short()?;
        }
        if has(13) {
            for (name, value) in reader.table()? {
                match (name, value) {
                    (KEY, Value::Text(key)) => read.key = key,
                    (HEADERS, Value::Text(headers)) => read.headers = headers,
                    (b"x-delivery-count", Value::Number(count)) => read.delivery_count = count,
                    (_, Value::Text(_) | Value::Number(_) | Value::Other) => (),
                }
            }
        }
        for _ in [12, 11].into_iter().filter(|bit| has(*bit)) {
            reader.u8()?;
        }
        for _ in [10, 9, 8].into_iter().filter(|bit| has(*bit)) {
            reader.short()?;
        }
        if has(7) {
            read.message_id = reader.short()?;
        }
        Ok(read)
    }
}

/// Appends a frame; `write` puts its payload.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    out.push(FRAME_END);
}

/// Appends a heartbeat.
pub(super) fn heartbeat(out: &mut Vec<u8>) {
    frame(out, 8, 0, |_| ());
}

/// Appends a short string. Longer than 255 bytes it is cut: names are checked before.
pub(super) fn put_short(out: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(255)];
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

/// Appends a long string.
pub(super) fn put_long(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text);
}

/// Appends a table; `write` puts its entries.
pub(super) fn put_table(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a table's entry that is text.
pub(super) fn put_text(out: &mut Vec<u8>, name: &[u8], text: &[u8]) {
    put_short(out, name);
    out.push(b'S');
    put_long(out, text);
}

/// Appends a table's entry that is a whole number.
pub(super) fn put_number(out: &mut Vec<u8>, name: &[u8], number: i64) {
    put_short(out, name);
    out.push(b'l');
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a table's entry that is true or false.
pub(super) fn put_flag(out: &mut Vec<u8>, name: &[u8], flag: bool) {
    put_short(out, name);
    out.push(b't');
    out.push(flag.into());
}

/// What a published message is made of, beside the method that says where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) key: &'a [u8],
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) persistent: bool,
    /// Under which number it may come back.
    pub(super) id: Option<u64>,
}

/// Appends a message's header and body frames.
pub(super) fn put_content(out: &mut Vec<u8>, content: &Content<'_>, frame_max: usize) {
    frame(out, 2, CHANNEL, |out| {
        out.extend_from_slice(&[0, 60, 0, 0]);
        out.extend_from_slice(&(content.payload.len() as u64).to_be_bytes());
        let has_table = !content.key.is_empty() || !content.headers.is_empty();
        let flags = (u16::from(has_table) << 13) | (1 << 12) | (u16::from(content.id.is_some()) << 7);
        out.extend_from_slice(&flags.to_be_bytes());
        if has_table {
            put_table(out, |out| {
                for (name, bytes) in [(KEY, content.key), (HEADERS, content.headers)] {
                    if !bytes.is_empty() {
                        put_text(out, name, bytes);
                    }
                }
            });
        }
        out.push(if content.persistent { 2 } else { 1 });
        if let Some(id) = content.id {
            put_short(out, id.to_string().as_bytes());
        }
    });
    for part in content.payload.chunks(frame_max - FRAME_OVERHEAD) {
        out.push(3);
        out.extend_from_slice(&CHANNEL.to_be_bytes());
        put_long(out, part);
        out.push(FRAME_END);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(content: &Content<'_>, frame_max: usize) -> (Vec<u8>, Vec<u8>, Vec<u8>, usize) {
        let mut out = Vec::new();
        put_content(&mut out, content, frame_max);
        let (mut rest, mut frames, mut body) = (&out[..], 0, Vec::new());
        let (mut properties_seen, mut due) = (Vec::new(), 0);
        while let Some((frame, length)) = decode(rest, frame_max).unwrap() {
            rest = &rest[length..];
            frames += 1;
            match frame {
                Frame::Header { body, properties } => (properties_seen, due) = (properties.to_vec(), body),
                Frame::Body(part) => body.extend_from_slice(part),
                other @ (Frame::Method { .. } | Frame::Heartbeat | Frame::OtherVersion(_)) => {
                    panic!("{other:?} in a message")
                }
            }
        }
        assert_eq!((rest.len(), due), (0, body.len() as u64));
        (out, properties_seen, body, frames)
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(
            key in prop::collection::vec(any::<u8>(), 0..300),
            headers in prop::collection::vec(any::<u8>(), 0..300),
            payload in prop::collection::vec(any::<u8>(), 0..9_000),
            persistent: bool,
            id in prop::option::of(any::<u64>()),
        ) {
            let content = Content { key: &key, headers: &headers, payload: &payload, persistent, id };
            let (_, properties, body, frames) = message(&content, 4_096);
            prop_assert_eq!(&body, &payload);
            prop_assert_eq!(frames, 1 + payload.len().div_ceil(4_096 - FRAME_OVERHEAD));
            let read = Properties::read(&properties).unwrap();
            prop_assert_eq!((read.key, read.headers, read.delivery_count), (&key[..], &headers[..], 0));
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            prop_assert_eq!(read.message_id, id.as_bytes());
        }

        #[test]
        fn any_bytes_are_a_frame_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((frame, length))) = decode(&bytes, 4_096) {
                prop_assert!(length <= bytes.len());
                if let Frame::Header { properties, .. } = frame {
                    let _ = Properties::read(properties);
                }
            }
            let _ = Properties::read(&bytes);
            let _ = Reader(&bytes).table().map(Iterator::count);
        }

        #[test]
        fn a_part_of_a_frame_is_waited_for(payload in prop::collection::vec(any::<u8>(), 1..500), cut in 0.0..1.0) {
            let content = Content { key: b"k", headers: b"", payload: &payload, persistent: true, id: None };
            let (out, ..) = message(&content, 4_096);
            let (_, first) = decode(&out, 4_096).unwrap().unwrap();
            let part = (first as f64 * cut) as usize;
            prop_assert_eq!(decode(&out[..part], 4_096), Ok(None));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(decode(b"HTTP/1.1 400 Bad Request", 4_096), Err(Malformed::Type(b'H')));
        assert_eq!(decode(b"H", 4_096), Err(Malformed::Type(b'H')));
        assert_eq!(decode(b"AMQP\0\x01\0\0", 4_096), Ok(Some((Frame::OtherVersion([0, 1, 0, 0]), 8))));
        assert_eq!(decode(&[3, 0, 1, 0, 1, 0, 0], 4_096), Err(Malformed::Length(65_536 + 8)));
        assert_eq!(decode(&[3, 0, 1, 0, 0, 0, 1, 9, 9], 4_096), Err(Malformed::End));
        assert_eq!(decode(&[1, 0, 1, 0, 0, 0, 1, 9, 0xCE], 4_096), Err(Malformed::Short));
        let mut out = Vec::new();
        heartbeat(&mut out);
        assert_eq!(decode(&out, 4_096), Ok(Some((Frame::Heartbeat, 8))));
    }

    #[test]
    fn a_delivery_count_is_found_among_other_fields() {
        let mut out = vec![0x20, 0];
        put_table(&mut out, |out| {
            put_flag(out, b"flag", true);
            put_text(out, b"x-first-death-queue", b"q");
            put_number(out, b"x-delivery-count", 3);
            put_text(out, b"key", b"k");
        });
        let read = Properties::read(&out).unwrap();
        assert_eq!((read.delivery_count, read.key), (3, &b"k"[..]));
    }
}
