//! The fake protocol's frames: prefixed by their length, little-endian. What is in them stands in `requests` and `replies`.
//!
//! Leaves out versions and checksums; it has one reader and one writer, both here.

use brokerlab_model::{LaneId, Receipt};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Takes one whole frame from the front of what was read, if there is one.
pub(crate) fn next_frame(read: &mut BytesMut) -> Option<Bytes> {
    let len = u32::from_le_bytes(*read.first_chunk::<4>()?) as usize;
    if read.len() < 4 + len {
        return None;
    }
    read.advance(4);
    Some(read.split_to(len).freeze())
}

/// Writes a frame's length before what `body` writes.
pub(crate) fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.put_u32_le(0);
    body(out);
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.extend_from_slice(bytes);
}

pub(crate) fn get_bytes(from: &mut Bytes) -> Bytes {
    let len = from.get_u32_le() as usize;
    from.split_to(len)
}

pub(crate) fn get_text(from: &mut Bytes) -> String {
    String::from_utf8(get_bytes(from).to_vec()).expect("the other end writes UTF-8")
}

pub(crate) fn put_receipt(out: &mut Vec<u8>, receipt: Receipt) {
    out.put_u32_le(receipt.lane.0);
    out.put_u64_le(receipt.position);
    out.put_u32_le(receipt.epoch);
}

pub(crate) fn get_receipt(from: &mut Bytes) -> Receipt {
    Receipt { lane: LaneId(from.get_u32_le()), position: from.get_u64_le(), epoch: from.get_u32_le() }
}
