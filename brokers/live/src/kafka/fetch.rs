//! Reading: fetches that wait at the broker, and deliveries as slices of what they brought.
//!
//! A lane is fetched ahead of its credit, two answers at most. Leaves out fetch sessions: every request names its lanes.

use std::sync::atomic::Ordering;

use brokerlab_model::completion::Parts;
use brokerlab_model::{Completions, Event, LaneId, Receipt, Status, Time};
use bytes::Bytes;

use super::error;
use super::kind::Kind;
use super::links::{LinkId, Purpose};
use super::member::{Held, Member, Phase};
use super::producer::ended;
use super::records::{Cursor, Place};
use super::wire::{self, FETCH, Malformed, Reader};
use crate::open::Trouble;

/// Answers that a lane holds undelivered before it is fetched no further.
const AHEAD: usize = 2;
/// While a lane is held back a fetch of the others does not wait longer than this, in ms: the one held back comes next.
const SHORT_WAIT_MS: i32 = 10;

/// What a fetch brought for one lane.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Bytes,
    cursor: Cursor,
    /// Read, and not delivered yet.
    peeked: Option<Place>,
}

/// One partition of an answer.
struct Part<'a> {
    topic: &'a [u8],
    index: u32,
    code: i16,
    from: usize,
    to: usize,
}

impl Member {
    pub(super) fn drive_fetch(&mut self, now: Time) {
        let mut nodes: Vec<i32> = Vec::new();
        for (&lane, held) in &self.lanes {
            let leader = self.base.leader(lane);
            if held.phase == Phase::Reading && !nodes.contains(&leader) {
                nodes.push(leader);
            }
        }
        for node in nodes {
            let link = LinkId { node, purpose: Purpose::Fetch };
            if node < 0 {
                self.base.doubt_leaders();
            } else if self.base.links.in_flight(link) == 0 && self.base.links.is_usable(now, link) {
                self.fetch_from(now, link);
            }
        }
    }

    fn fetch_from(&mut self, now: Time, link: LinkId) {
        let mut lanes: Vec<(u32, u64, u32)> = Vec::new();
        let mut held_back = false;
        for (&lane, held) in &mut self.lanes {
            if held.phase != Phase::Reading || self.base.leader(lane) != link.node {
                continue;
            }
            if held.chunks.len() >= AHEAD {
                held_back = true;
            } else if !held.fetching && held.not_before <= now {
                held.fetching = true;
                held.not_before = Time::ZERO;
                lanes.push((lane, held.fetch_at, held.generation));
            }
        }
        if lanes.is_empty() {
            return;
        }
        let options = &self.base.shared.options;
        let wait = if held_back { options.fetch_max_wait_ms.min(SHORT_WAIT_MS) } else { options.fetch_max_wait_ms };
        let correlation = self.base.links.next_correlation();
        let mut out = Vec::with_capacity(128 + lanes.len() * 40);
        wire::open(FETCH, correlation, &options.client_id, &mut out);
        for number in [-1, wait, options.fetch_min_bytes, options.fetch_max_bytes] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        // Isolation: everything. No session.
        out.push(0);
        out.extend_from_slice(&0i32.to_be_bytes());
        out.extend_from_slice(&(-1i32).to_be_bytes());
        let topics = lanes.chunk_by(|a, b| self.base.channel_of(LaneId(a.0)).is_some_and(|c| b.0 < c.first + c.lanes));
        wire::unsigned(topics.clone().count() as u32 + 1, &mut out);
        for of_topic in topics {
            let channel = self.base.channel_of(LaneId(of_topic[0].0)).expect("a lane that is held has a channel");
            wire::compact(&channel.topic, &mut out);
            wire::unsigned(of_topic.len() as u32 + 1, &mut out);
            for &(lane, position, _) in of_topic {
                out.extend_from_slice(&(lane - channel.first).to_be_bytes());
                out.extend_from_slice(&(-1i32).to_be_bytes());
                out.extend_from_slice(&position.to_be_bytes());
                out.extend_from_slice(&(-1i32).to_be_bytes());
                out.extend_from_slice(&(-1i64).to_be_bytes());
                out.extend_from_slice(&options.partition_fetch_bytes.to_be_bytes());
                out.push(0);
            }
            out.push(0);
        }
        // Nothing forgotten, no rack, no tagged fields.
        out.extend_from_slice(&[1, 1, 0]);
        let length = out.len() as u32 - 4;
        out[..4].copy_from_slice(&length.to_be_bytes());
        let timeout = options.request_timeout;
        self.base.links.ask_pieces(now, link, correlation, [Bytes::from(out)], timeout, Kind::Fetch(lanes));
    }

    pub(super) fn fetched(&mut self, now: Time, lanes: &[(u32, u64, u32)], frame: &Bytes) {
        let later = now + self.base.shared.options.retry_backoff;
        for (lane, ..) in lanes {
            if let Some(held) = self.lanes.get_mut(lane) {
                held.fetching = false;
            }
        }
        let Ok(parts) = parts(frame) else {
            for (lane, ..) in lanes {
                if let Some(held) = self.lanes.get_mut(lane) {
                    held.not_before = later;
                }
            }
            return;
        };
        for part in parts {
            let of_part = |(lane, ..): &&(u32, u64, u32)| {
                self.base
                    .channel_of(LaneId(*lane))
                    .is_some_and(|channel| channel.topic.as_bytes() == part.topic && lane - channel.first == part.index)
            };
            let Some(&(lane, position, generation)) = lanes.iter().find(of_part) else { continue };
            let Some(held) = self.lanes.get_mut(&lane).filter(|held| held.phase == Phase::Reading) else { continue };
            if held.generation != generation || held.fetch_at != position {
                continue;
            }
            match part.code {
                error::NONE => held.take(frame, &part),
                error::OFFSET_OUT_OF_RANGE => {
                    (held.phase, held.asked) = (Phase::Unplaced, false);
                    held.chunks.clear();
                }
                error::TOPIC_AUTHORIZATION_FAILED => {
                    let topic = String::from_utf8_lossy(part.topic);
                    let reason = Trouble::Permission(format!("reading topic {topic}")).to_string();
                    self.unreadable(lane, &reason);
                }
                other => {
                    held.not_before = later;
                    if !error::is_retriable(other) {
                        self.reasons.note(format!("fetching: the broker answered {}", error::name(other)));
                    }
                    self.base.doubt_leaders();
                }
            }
        }
    }

    /// A lane that can't be read, ever: it is given up.
    fn unreadable(&mut self, lane: u32, reason: &str) {
        if let Some(held) = self.lanes.get_mut(&lane) {
            held.phase = Phase::Unreadable;
            held.chunks.clear();
            self.events.push(Event::LaneLost(LaneId(lane)));
        }
        let (topic, index) = self
            .base
            .channel_of(LaneId(lane))
            .map_or(("", 0), |channel| (channel.topic.as_str(), lane - channel.first));
        self.reasons.note(format!("topic {topic}, partition {index}: {reason}"));
    }

    /// Hands out what was fetched, lane by lane, as far as the credit reaches.
    pub(super) fn deliver(&mut self, _now: Time, completions: &mut Completions) {
        let commit_first = self.base.shared.promise.commit_first;
        let seeking = self.seeking.as_ref().map(|seek| seek.lane.0);
        let mut delivered = 0;
        let credit = self.credit.available();
        let turns: Vec<u32> =
            self.lanes.range(self.turn..).chain(self.lanes.range(..self.turn)).map(|(&lane, _)| lane).collect();
        for lane in turns {
            if delivered == credit {
                break;
            }
            let Some(held) = self.lanes.get_mut(&lane) else { continue };
            if held.phase != Phase::Reading || held.chunks.is_empty() || seeking == Some(lane) {
                continue;
            }
            let limit = if commit_first { held.committed } else { u64::MAX };
            let before = delivered;
            let result = held.hand_out(LaneId(lane), credit, limit, &mut delivered, completions);
            if delivered > before {
                self.turn = lane + 1;
            }
            if let Some(channel) = self.base.channel_of(LaneId(lane)) {
                let progress = channel.progress(lane - channel.first, held.group);
                progress.position.store(held.position, Ordering::Relaxed);
                progress.highest.fetch_max(held.highest, Ordering::Relaxed);
            }
            if let Err(Malformed(reason)) = result {
                self.unreadable(lane, &reason);
            }
        }
        let done = &mut self.done;
        self.credit.take(delivered, |token| done.push(ended(token, Status::Done)));
        if commit_first {
            self.commit_ahead();
        }
    }
}

impl Held {
    /// Keeps what an answer brought, and notes from where on to fetch next.
    fn take(&mut self, frame: &Bytes, part: &Part<'_>) {
        let mut at = part.from;
        let mut next = self.fetch_at;
        // Whole batches only; the broker may cut the last one off.
        while let Some(head) = frame.get(at..part.to).and_then(|rest| rest.first_chunk::<27>()) {
            let field = |from: usize| u32::from_be_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
            let end = at + 12 + field(8) as usize;
            if end > part.to {
                break;
            }
            let base = u64::from_be_bytes(*head.first_chunk().expect("a head is longer"));
            next = base + u64::from(field(23)) + 1;
            at = end;
        }
        if at > part.from {
            self.fetch_at = next;
            self.chunks.push_back(Chunk { bytes: frame.clone(), cursor: Cursor::new(part.from, at), peeked: None });
        }
    }

    fn hand_out(
        &mut self,
        lane: LaneId,
        credit: u64,
        limit: u64,
        delivered: &mut u64,
        completions: &mut Completions,
    ) -> Result<(), Malformed> {
        while *delivered < credit
            && let Some(chunk) = self.chunks.front_mut()
        {
            let place = match chunk.peeked.take() {
                Some(place) => Some(place),
                None => chunk.cursor.next(&chunk.bytes)?,
            };
            let Some(place) = place else {
                self.position = self.position.max(chunk.cursor.next_offset());
                self.chunks.pop_front();
                continue;
            };
            if place.offset < self.position {
                continue;
            }
            if place.offset >= limit {
                chunk.peeked = Some(place);
                break;
            }
            let receipt = Receipt { lane, position: place.offset, epoch: self.epoch };
            let parts = Parts {
                key_at: place.key.0,
                key_len: place.key.1,
                headers_at: place.headers.0,
                header_len: place.headers.1,
                payload_at: place.value.0,
                payload_len: place.value.1,
            };
            let again = u16::from(place.offset < self.highest);
            completions.deliveries.push_parts(receipt, self.channel, again, chunk.cursor.arena(&chunk.bytes), parts);
            self.position = place.offset + 1;
            self.highest = self.highest.max(self.position);
            *delivered += 1;
        }
        Ok(())
    }
}

/// The partitions of an answer, each with where its records stand.
fn parts(frame: &Bytes) -> Result<Vec<Part<'_>>, Malformed> {
    let mut reader = Reader::new(frame);
    reader.take(4)?;
    reader.tags()?;
    reader.i32()?;
    let whole = reader.i16()?;
    reader.i32()?;
    if whole != error::NONE {
        return Err(Malformed(error::name(whole)));
    }
    let mut parts = Vec::new();
    for _ in 0..reader.length()?.unwrap_or(0) {
        let topic = reader.compact()?;
        for _ in 0..reader.length()?.unwrap_or(0) {
            let index = reader.i32()?.cast_unsigned();
            let code = reader.i16()?;
            // High watermark, last stable offset, first offset.
            reader.take(24)?;
            for _ in 0..reader.length()?.unwrap_or(0) {
                reader.take(16)?;
                reader.tags()?;
            }
            reader.i32()?;
            let length = reader.length()?.unwrap_or(0);
            let from = reader.at();
            reader.take(length)?;
            reader.tags()?;
            parts.push(Part { topic, index, code, from, to: from + length });
        }
        reader.tags()?;
    }
    Ok(parts)
}
