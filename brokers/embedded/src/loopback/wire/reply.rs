//! What the server sends: whether it lets a client in, and everything that a poll of its engine brought, in one frame each.
//!
//! A frame of completions is handled whole, so that outcomes, events and deliveries of one step stay together as they do in process.
//! Each says what the server's time is. Leaves out requests, which are in `request`.

use std::ops::Range;

use brokerlab_model::{
    Answer, Blocked, ChannelId, Completions, ConnectError, Deliveries, Description, Event, GivenUp, LaneId, LaneState,
    Outcome, Receipt, Refusal, Slice, Tally, Time, Token, WorkCounts,
};
use bytes::Bytes;

use super::reader::Reader;
use super::{
    FRAME_BYTES, WireError, hold_code, hold_of, put_frame, put_text, put_u16, put_u32, put_u64, refusal_code,
    status_code, status_of,
};

const WELCOME: u8 = 65;
const COMPLETIONS: u8 = 66;
const HELD: u8 = 67;
const COUNTS: u8 = 68;
const TALLIES: u8 = 69;
const STOPPED: u8 = 70;

/// Bytes of an outcome, an event, a delivery's columns, and a lane's state.
const OUTCOME: usize = 18;
const EVENT: usize = 13;
const DELIVERY: usize = 31;
const LANE: usize = 96;

/// Why a client was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What becomes of everything that it asks.
    pub refusal: Refusal,
    /// In words.
    pub why: String,
}

/// A frame from the server.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The answer to a hello.
    Welcome(Result<(), Refused>),
    /// What came back; tokens are the client's own numbers. The server's time when it was sent.
    Completions(Time, Completions),
    /// Why the engine does not take what was sent, or that it does again.
    Held(Option<Blocked>),
    /// What the engine has done.
    Counts(WorkCounts),
    /// What the backend has counted of its own.
    Tallies(Vec<Tally>),
    /// The backend takes nothing more and never will; why, with the remedy. Sent once, and to who comes later.
    Stopped(String),
}

/// Why a client is not let in by the engine, for its end of the connection.
impl From<&ConnectError> for Refused {
    fn from(error: &ConnectError) -> Self {
        let refusal = match error {
            ConnectError::NoSuchChannel(_) | ConnectError::NoSuchGroup(_) => Refusal::NoSuchLane,
            ConnectError::NumberTaken(_) | ConnectError::System(_) => Refusal::Closed,
        };
        Self { refusal, why: error.to_string() }
    }
}

pub(in crate::loopback) fn put_welcome(out: &mut Vec<u8>, welcome: &Result<(), Refused>) {
    put_frame(out, WELCOME, |out| match welcome {
        Ok(()) => out.push(0),
        Err(Refused { refusal, why }) => {
            out.push(1);
            out.push(refusal_code(*refusal));
            put_text(out, why);
        }
    });
}

pub(in crate::loopback) fn put_held(out: &mut Vec<u8>, held: Option<Blocked>) {
    put_frame(out, HELD, |out| out.push(held.map_or(u8::MAX, hold_code)));
}

pub(in crate::loopback) fn put_counts(out: &mut Vec<u8>, counts: &WorkCounts) {
    put_frame(out, COUNTS, |out| {
        let WorkCounts { bytes_written, bytes_filled, write_calls, bytes_read, read_calls, .. } = *counts;
        let WorkCounts { fsyncs, payload_copies, round_trips, .. } = *counts;
        let files = [bytes_written, bytes_filled, write_calls, bytes_read, read_calls, fsyncs];
        for number in files.into_iter().chain([payload_copies, round_trips]) {
            put_u64(out, number);
        }
    });
}

pub(in crate::loopback) fn put_tallies(out: &mut Vec<u8>, tallies: &[Tally]) {
    put_frame(out, TALLIES, |out| {
        put_u32(out, tallies.len() as u32);
        for Tally { name, count } in tallies {
            put_text(out, name);
            put_u64(out, *count);
        }
    });
}

pub(in crate::loopback) fn put_stopped(out: &mut Vec<u8>, why: &str) {
    put_frame(out, STOPPED, |out| put_text(out, why));
}

/// Appends what came back. Deliveries of more than a frame's bytes go in several; events stand in the first, and how operations ended
/// in the last, so that a grant never ends before what it was for.
pub(in crate::loopback) fn put_completions(out: &mut Vec<u8>, now: Time, completions: &Completions) {
    let Completions { outcomes, deliveries, answers, events } = completions;
    let mut from = 0;
    loop {
        let (mut to, mut bytes) = (from, 0);
        for delivery in deliveries.range(from..deliveries.len()) {
            if bytes >= FRAME_BYTES {
                break;
            }
            bytes += DELIVERY + delivery.key.len() + delivery.headers.len() + delivery.payload.len();
            to += 1;
        }
        let (first, last) = (from == 0, to == deliveries.len());
        put_frame(out, COMPLETIONS, |out| {
            put_u64(out, now.0);
            put_outcomes(out, if last { outcomes } else { &[] });
            put_events(out, if first { events } else { &[] });
            put_answers(out, if last { answers } else { &[] });
            put_deliveries(out, deliveries, from..to);
        });
        if last {
            return;
        }
        from = to;
    }
}

fn put_outcomes(out: &mut Vec<u8>, outcomes: &[Outcome]) {
    put_u32(out, outcomes.len() as u32);
    for outcome in outcomes {
        put_u32(out, outcome.token.0 as u32);
        out.extend_from_slice(&status_code(outcome.status));
        put_u32(out, outcome.lane.0);
        put_u64(out, outcome.position);
    }
}

fn put_events(out: &mut Vec<u8>, events: &[Event]) {
    put_u32(out, events.len() as u32);
    for event in events {
        let (tag, lane, position) = match *event {
            Event::LaneAssigned { lane, position } => (0, lane.0, position),
            Event::LaneRevoked(lane) => (1, lane.0, 0),
            Event::LaneLost(lane) => (2, lane.0, 0),
            Event::Blocked => (3, 0, 0),
            Event::Unblocked => (4, 0, 0),
            Event::Disconnected => (5, 0, 0),
            Event::Reconnected => (6, 0, 0),
        };
        out.push(tag);
        put_u32(out, lane);
        put_u64(out, position);
    }
}

fn put_answers(out: &mut Vec<u8>, answers: &[(Token, Answer)]) {
    put_u32(out, answers.len() as u32);
    for (token, answer) in answers {
        put_u32(out, token.0 as u32);
        match answer {
            Answer::Position { lane, position } => {
                out.push(0);
                put_u32(out, lane.0);
                put_u64(out, *position);
            }
            Answer::Description(Description { lanes, settings }) => {
                out.push(1);
                put_u32(out, lanes.len() as u32);
                for lane in lanes {
                    put_lane(out, lane);
                }
                put_u32(out, settings.len() as u32);
                for (name, value) in settings {
                    put_text(out, name);
                    put_text(out, value);
                }
            }
        }
    }
}

fn put_lane(out: &mut Vec<u8>, state: &LaneState) {
    let LaneState { lane, group, end, committed, ready, in_flight, given_up } = state;
    let GivenUp { rejected, exhausted, expired, overflowed, expired_unseen, overflowed_unseen, dead_lettered } =
        given_up;
    put_u32(out, lane.0);
    put_u32(out, *group);
    for number in [end, committed, ready, in_flight, rejected, exhausted, expired, overflowed] {
        put_u64(out, *number);
    }
    for number in [expired_unseen, overflowed_unseen, dead_lettered] {
        put_u64(out, *number);
    }
}

fn put_deliveries(out: &mut Vec<u8>, deliveries: &Deliveries, range: Range<usize>) {
    let each = || deliveries.range(range.clone());
    put_u32(out, range.len() as u32);
    each().for_each(|delivery| put_u32(out, delivery.receipt.lane.0));
    each().for_each(|delivery| put_u64(out, delivery.receipt.position));
    each().for_each(|delivery| put_u32(out, delivery.receipt.epoch));
    each().for_each(|delivery| put_u32(out, delivery.channel.0));
    each().for_each(|delivery| put_u16(out, delivery.redeliveries));
    each().for_each(|delivery| put_u16(out, delivery.key.len() as u16));
    each().for_each(|delivery| put_u16(out, delivery.headers.len() as u16));
    each().for_each(|delivery| put_u32(out, delivery.payload_len));
    // Of a length only, there are no bytes.
    each().for_each(|delivery| out.push(u8::from(delivery.payload.len() == delivery.payload_len as usize)));
    for delivery in each() {
        out.extend_from_slice(delivery.key);
        out.extend_from_slice(delivery.headers);
        out.extend_from_slice(delivery.payload);
    }
}

/// Reads the server's frame, from its kind on.
pub fn read_reply(frame: &[u8]) -> Result<Reply, WireError> {
    let (&kind, body) = frame.split_first().ok_or(WireError::Malformed(0))?;
    let body = Reader::new(body);
    let read = match kind {
        WELCOME => read_welcome(body),
        COMPLETIONS => read_completions(body),
        HELD => read_held(body),
        COUNTS => read_counts(body),
        TALLIES => read_tallies(body),
        STOPPED => read_stopped(body),
        _ => None,
    };
    read.ok_or(WireError::Malformed(kind))
}

fn read_welcome(mut body: Reader<'_>) -> Option<Reply> {
    let welcome = match body.u8()? {
        0 => Ok(()),
        1 => {
            let refusal = super::REFUSALS.get(usize::from(body.u8()?)).copied()?;
            Err(Refused { refusal, why: body.text()? })
        }
        _ => return None,
    };
    body.end()?;
    Some(Reply::Welcome(welcome))
}

fn read_held(mut body: Reader<'_>) -> Option<Reply> {
    let held = match body.u8()? {
        u8::MAX => None,
        code => Some(hold_of(code)?),
    };
    body.end()?;
    Some(Reply::Held(held))
}

fn read_counts(mut body: Reader<'_>) -> Option<Reply> {
    let counts = WorkCounts {
        bytes_written: body.u64()?,
        bytes_filled: body.u64()?,
        write_calls: body.u64()?,
        bytes_read: body.u64()?,
        read_calls: body.u64()?,
        fsyncs: body.u64()?,
        payload_copies: body.u64()?,
        round_trips: body.u64()?,
    };
    body.end()?;
    Some(Reply::Counts(counts))
}

fn read_tallies(mut body: Reader<'_>) -> Option<Reply> {
    // A name's length and the count.
    let count = body.count(12)?;
    let tallies = (0..count).map(|_| Some(Tally { name: body.text()?, count: body.u64()? })).collect::<Option<_>>()?;
    body.end()?;
    Some(Reply::Tallies(tallies))
}

fn read_stopped(mut body: Reader<'_>) -> Option<Reply> {
    let why = body.text()?;
    body.end()?;
    Some(Reply::Stopped(why))
}

fn read_completions(mut body: Reader<'_>) -> Option<Reply> {
    let now = Time(body.u64()?);
    let count = body.count(OUTCOME)?;
    let mut outcomes = Vec::with_capacity(count);
    for _ in 0..count {
        let token = Token(u64::from(body.u32()?));
        let status = status_of([body.u8()?, body.u8()?])?;
        outcomes.push(Outcome { token, status, lane: LaneId(body.u32()?), position: body.u64()? });
    }
    let count = body.count(EVENT)?;
    let events = (0..count).map(|_| read_event(&mut body)).collect::<Option<_>>()?;
    let count = body.count(5)?;
    let answers = (0..count).map(|_| read_answer(&mut body)).collect::<Option<_>>()?;
    let deliveries = read_deliveries(body)?;
    Some(Reply::Completions(now, Completions { outcomes, deliveries, answers, events }))
}

fn read_event(body: &mut Reader<'_>) -> Option<Event> {
    let (tag, lane, position) = (body.u8()?, LaneId(body.u32()?), body.u64()?);
    match tag {
        0 => Some(Event::LaneAssigned { lane, position }),
        1 => Some(Event::LaneRevoked(lane)),
        2 => Some(Event::LaneLost(lane)),
        3 => Some(Event::Blocked),
        4 => Some(Event::Unblocked),
        5 => Some(Event::Disconnected),
        6 => Some(Event::Reconnected),
        _ => None,
    }
}

fn read_answer(body: &mut Reader<'_>) -> Option<(Token, Answer)> {
    let token = Token(u64::from(body.u32()?));
    let answer = match body.u8()? {
        0 => Answer::Position { lane: LaneId(body.u32()?), position: body.u64()? },
        1 => {
            let count = body.count(LANE)?;
            let lanes = (0..count).map(|_| read_lane(body)).collect::<Option<_>>()?;
            let count = body.count(8)?;
            let settings = (0..count).map(|_| Some((body.text()?, body.text()?))).collect::<Option<_>>()?;
            Answer::Description(Description { lanes, settings })
        }
        _ => return None,
    };
    Some((token, answer))
}

fn read_lane(body: &mut Reader<'_>) -> Option<LaneState> {
    Some(LaneState {
        lane: LaneId(body.u32()?),
        group: body.u32()?,
        end: body.u64()?,
        committed: body.u64()?,
        ready: body.u64()?,
        in_flight: body.u64()?,
        given_up: GivenUp {
            rejected: body.u64()?,
            exhausted: body.u64()?,
            expired: body.u64()?,
            overflowed: body.u64()?,
            expired_unseen: body.u64()?,
            overflowed_unseen: body.u64()?,
            dead_lettered: body.u64()?,
        },
    })
}

/// The last section: its columns, and everything behind them is one arena.
fn read_deliveries(mut body: Reader<'_>) -> Option<Deliveries> {
    let count = body.count(DELIVERY)?;
    let (lanes, positions) = (body.column::<4>(count)?, body.column::<8>(count)?);
    let (epochs, channels) = (body.column::<4>(count)?, body.column::<4>(count)?);
    let redeliveries = body.column::<2>(count)?;
    let (keys, headers) = (body.column::<2>(count)?, body.column::<2>(count)?);
    let (payloads, present) = (body.column::<4>(count)?, body.column::<1>(count)?);
    let arena = Bytes::copy_from_slice(body.rest());
    let mut deliveries = Deliveries::default();
    let mut at = 0_usize;
    for index in 0..count {
        let has_payload = match present[index] {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let (key_len, header_len) = (u16::from_le_bytes(keys[index]), u16::from_le_bytes(headers[index]));
        let payload_len = u32::from_le_bytes(payloads[index]);
        let slice = Slice { at: u32::try_from(at).ok()?, key_len, header_len, payload_len, has_payload };
        at += usize::from(key_len) + usize::from(header_len) + if has_payload { payload_len as usize } else { 0 };
        if at > arena.len() {
            return None;
        }
        let receipt = Receipt {
            lane: LaneId(u32::from_le_bytes(lanes[index])),
            position: u64::from_le_bytes(positions[index]),
            epoch: u32::from_le_bytes(epochs[index]),
        };
        let channel = ChannelId(u32::from_le_bytes(channels[index]));
        deliveries.push(receipt, channel, u16::from_le_bytes(redeliveries[index]), &arena, slice);
    }
    (at == arena.len()).then_some(deliveries)
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Failure, Status};

    use super::super::{LENGTH, whole};
    use super::*;

    fn read_all(mut bytes: &[u8]) -> Vec<Reply> {
        let mut read = Vec::new();
        while let Some(len) = whole(bytes, 64 << 20).unwrap() {
            read.push(read_reply(&bytes[LENGTH..len]).unwrap());
            for cut in (LENGTH..len).step_by(1 + len / 50) {
                assert!(read_reply(&bytes[LENGTH..cut]).is_err(), "a part of a frame is none");
            }
            bytes = &bytes[len..];
        }
        assert!(bytes.is_empty());
        read
    }

    fn completions(messages: u64, payload: usize) -> Completions {
        let arena = Bytes::from([&b"keyheader"[..], &vec![7; payload]].concat());
        let slice = Slice { at: 0, key_len: 3, header_len: 6, payload_len: payload as u32, has_payload: true };
        let mut deliveries = Deliveries::default();
        for position in 0..messages {
            let receipt = Receipt { lane: LaneId(2), position, epoch: u32::MAX };
            deliveries.push(receipt, ChannelId(1), 4, &arena, slice);
        }
        let bare = Slice { payload_len: 1 << 30, has_payload: false, ..slice };
        deliveries.push(Receipt::default(), ChannelId(0), 0, &arena, bare);
        let status = Status::Failed(Failure::Overloaded);
        let lane = LaneState {
            lane: LaneId(5),
            end: 9,
            given_up: GivenUp { dead_lettered: 3, ..GivenUp::default() },
            ..LaneState::default()
        };
        let settings = vec![("retention".to_owned(), "7 d".to_owned())];
        Completions {
            outcomes: vec![Outcome { token: Token(9), status, lane: LaneId(1), position: u64::MAX }],
            deliveries,
            answers: vec![
                (Token(1), Answer::Position { lane: LaneId(3), position: 4 }),
                (Token(2), Answer::Description(Description { lanes: vec![lane], settings })),
            ],
            events: vec![
                Event::LaneAssigned { lane: LaneId(1), position: 2 },
                Event::LaneRevoked(LaneId(1)),
                Event::LaneLost(LaneId(1)),
                Event::Blocked,
                Event::Unblocked,
                Event::Disconnected,
                Event::Reconnected,
            ],
        }
    }

    #[test]
    fn what_came_back_is_read_back_whole_or_in_several_frames() {
        for (messages, payload, frames) in [(3, 10, 1), (5, 400 << 10, 2)] {
            let sent = completions(messages, payload);
            let mut out = Vec::new();
            put_completions(&mut out, Time(77), &sent);
            let mut all = Completions::default();
            let read = read_all(&out);
            assert_eq!(read.len(), frames);
            for reply in read {
                let Reply::Completions(Time(77), mut part) = reply else { panic!("{reply:?}") };
                all.append(&mut part);
            }
            assert_eq!((&all.outcomes, &all.answers, &all.events), (&sent.outcomes, &sent.answers, &sent.events));
            assert!(all.deliveries.iter().eq(sent.deliveries.iter()));
        }
    }

    #[test]
    fn every_other_reply_is_read_back() {
        let refused = Refused { refusal: Refusal::NoSuchLane, why: "no".to_owned() };
        let counts = WorkCounts { bytes_written: 1, round_trips: 7, fsyncs: u64::MAX, ..WorkCounts::default() };
        let mut out = Vec::new();
        put_welcome(&mut out, &Ok(()));
        put_welcome(&mut out, &Err(refused.clone()));
        put_held(&mut out, None);
        put_held(&mut out, Some(Blocked::RateLimit));
        put_counts(&mut out, &counts);
        let tallies = [("tries", u64::MAX), ("", 0)].map(|(name, count)| Tally { name: name.to_owned(), count });
        put_tallies(&mut out, &tallies);
        put_tallies(&mut out, &[]);
        put_stopped(&mut out, "no space");
        let read = read_all(&out);
        assert!(matches!(&read[0], Reply::Welcome(Ok(()))));
        assert!(matches!(&read[1], Reply::Welcome(Err(why)) if *why == refused));
        assert!(matches!(&read[2], Reply::Held(None)));
        assert!(matches!(&read[3], Reply::Held(Some(Blocked::RateLimit))));
        assert!(matches!(&read[4], Reply::Counts(read) if *read == counts));
        assert!(matches!(&read[5], Reply::Tallies(read) if *read == tallies));
        assert!(matches!(&read[6], Reply::Tallies(read) if read.is_empty()));
        assert!(matches!(&read[7], Reply::Stopped(why) if why == "no space"));
    }
}
