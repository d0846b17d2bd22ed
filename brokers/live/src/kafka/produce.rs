//! Produce requests, written by hand around batches that are not copied, and their answers.

use brokerlab_model::{LaneId, Span};
use bytes::Bytes;

use super::base::Base;
use super::batches::{Body, Sealed};
use super::wire::{self, Malformed, PRODUCE, Reader};

/// The pieces of a request with these batches, which are sorted by lane.
pub(super) fn request(
    base: &Base,
    correlation: i32,
    client: &str,
    acks: i16,
    timeout: Span,
    batches: &[(u32, Sealed)],
) -> Vec<Bytes> {
    let mut head = Vec::with_capacity(128);
    wire::open(PRODUCE, correlation, client, &mut head);
    wire::unsigned(0, &mut head);
    head.extend_from_slice(&acks.to_be_bytes());
    head.extend_from_slice(&((timeout.0 / 1_000_000) as i32).to_be_bytes());
    let topics = batches.chunk_by(|a, b| same_channel(base, a.0, b.0));
    wire::unsigned(topics.clone().count() as u32 + 1, &mut head);
    let mut pieces = Vec::with_capacity(batches.len() * 2 + 1);
    for of_topic in topics {
        let channel = base.channel_of(LaneId(of_topic[0].0)).expect("a batch was filled for a lane that was there");
        wire::compact(&channel.topic, &mut head);
        wire::unsigned(of_topic.len() as u32 + 1, &mut head);
        for (lane, batch) in of_topic {
            let bytes = match &batch.body {
                Body::Sent { bytes, .. } => bytes.clone(),
                Body::Fresh(_) => Bytes::new(),
            };
            head.extend_from_slice(&(lane - channel.first).to_be_bytes());
            wire::unsigned(bytes.len() as u32 + 1, &mut head);
            pieces.push(Bytes::from(std::mem::take(&mut head)));
            pieces.push(bytes);
            // No tagged fields of the partition.
            head.push(0);
        }
        head.push(0);
    }
    head.push(0);
    pieces.push(Bytes::from(head));
    let length: usize = pieces.iter().map(Bytes::len).sum::<usize>() - 4;
    let mut first = Vec::from(std::mem::take(&mut pieces[0]));
    first[..4].copy_from_slice(&(length as u32).to_be_bytes());
    pieces[0] = Bytes::from(first);
    pieces
}

fn same_channel(base: &Base, a: u32, b: u32) -> bool {
    base.channel_of(LaneId(a)).is_some_and(|channel| b < channel.first + channel.lanes)
}

/// Error code and first offset for each batch of the request; `None` for one that the answer does not name.
pub(super) fn answer(
    frame: &Bytes,
    base: &Base,
    batches: &[(u32, Sealed)],
) -> Result<Vec<Option<(i16, u64)>>, Malformed> {
    let mut found = vec![None; batches.len()];
    let mut reader = Reader::new(frame);
    reader.take(4)?;
    reader.tags()?;
    for _ in 0..reader.length()?.unwrap_or(0) {
        let topic = reader.compact()?;
        for _ in 0..reader.length()?.unwrap_or(0) {
            let index = reader.i32()?.cast_unsigned();
            let code = reader.i16()?;
            let offset = reader.i64()?.cast_unsigned();
            reader.take(16)?;
            for _ in 0..reader.length()?.unwrap_or(0) {
                reader.i32()?;
                reader.compact()?;
                reader.tags()?;
            }
            reader.compact()?;
            reader.tags()?;
            let at = batches.iter().position(|(lane, _)| {
                base.channel_of(LaneId(*lane))
                    .is_some_and(|channel| channel.topic.as_bytes() == topic && lane - channel.first == index)
            });
            if let Some(at) = at {
                found[at] = Some((code, offset));
            }
        }
        reader.tags()?;
    }
    Ok(found)
}
