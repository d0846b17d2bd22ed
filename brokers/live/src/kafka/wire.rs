//! Requests and answers of the Kafka protocol as frames: length, header, body.
//!
//! What is seldom goes through the codec crate at one fixed version each; produce and fetch are written by hand in their modules,
//! since the codec would copy every batch. Leaves out sockets.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// Produce: the codec is not used for it.
pub(super) const PRODUCE: (i16, i16) = (0, 9);
/// Fetch: the codec is not used for it.
pub(super) const FETCH: (i16, i16) = (1, 12);

/// Every request that is used, with the version in which it is sent and its name.
pub(super) const USED: [(i16, i16, &str); 15] = [
    (PRODUCE.0, PRODUCE.1, "Produce"),
    (FETCH.0, FETCH.1, "Fetch"),
    (2, 7, "ListOffsets"),
    (3, 12, "Metadata"),
    (8, 9, "OffsetCommit"),
    (9, 9, "OffsetFetch"),
    (10, 4, "FindCoordinator"),
    (18, 3, "ApiVersions"),
    (19, 7, "CreateTopics"),
    (20, 6, "DeleteTopics"),
    (22, 4, "InitProducerId"),
    (32, 4, "DescribeConfigs"),
    (42, 2, "DeleteGroups"),
    (68, 1, "ConsumerGroupHeartbeat"),
    (69, 0, "ConsumerGroupDescribe"),
];

/// The versions of the two requests by which a client logs in, sent only where a login is asked for.
const LOGIN: [(i16, i16); 2] = [(17, 1), (36, 2)];

/// An answer that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer can't be read ({0})")]
pub(super) struct Malformed(pub(super) String);

/// The version in which a request is sent.
pub(super) fn version(key: i16) -> i16 {
    let used = USED.iter().map(|&(key, version, _)| (key, version));
    used.chain(LOGIN).find(|(used, _)| *used == key).map(|(_, version)| version).expect("every request is in the table")
}

/// A whole frame, its length in front.
pub(super) fn frame<R: Request>(correlation: i32, client: &str, request: &R) -> Bytes {
    let version = version(R::KEY);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text(client)));
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    header.encode(&mut out, R::header_version(version)).expect("a header has no field that its version lacks");
    request.encode(&mut out, version).expect("a request has no field that its version lacks");
    let length = out.len() as u32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// An answer, from a frame without its length.
pub(super) fn answer<R: Request>(frame: &Bytes) -> Result<R::Response, Malformed> {
    let version = version(R::KEY);
    let mut frame = frame.clone();
    let malformed = |error: &dyn std::fmt::Display| Malformed(error.to_string());
    ResponseHeader::decode(&mut frame, R::Response::header_version(version)).map_err(|e| malformed(&e))?;
    R::Response::decode(&mut frame, version).map_err(|e| malformed(&e))
}

/// The codec's text.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Begins a request with a flexible header by hand; its length is written by [`close`].
pub(super) fn open((key, version): (i16, i16), correlation: i32, client: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&key.to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&correlation.to_be_bytes());
    out.extend_from_slice(&(client.len() as u16).to_be_bytes());
    out.extend_from_slice(client.as_bytes());
    out.push(0);
}

/// An unsigned varint.
pub(super) fn unsigned(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A compact string.
pub(super) fn compact(text: &str, out: &mut Vec<u8>) {
    unsigned(text.len() as u32 + 1, out);
    out.extend_from_slice(text.as_bytes());
}

/// Reads an answer by hand, front to back.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| Malformed(format!("it ends at byte {}", self.bytes.len())))?;
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(*self.take(N)?.first_chunk::<N>().expect("as many were taken"))
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(super) fn unsigned(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number has more than 32 bits".to_owned()))
    }

    /// A compact length: `None` for null.
    pub(super) fn length(&mut self) -> Result<Option<usize>, Malformed> {
        Ok((self.unsigned()? as usize).checked_sub(1))
    }

    pub(super) fn compact(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?.unwrap_or(0);
        self.take(length)
    }

    /// Skips tagged fields.
    pub(super) fn tags(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.unsigned()? {
            self.unsigned()?;
            let bytes = self.unsigned()? as usize;
            self.take(bytes)?;
        }
        Ok(())
    }
}
