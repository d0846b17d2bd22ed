//! The fake protocol: what goes over the socket, as length-prefixed frames in little-endian bytes.
//!
//! Leaves out versions and checksums; it has one reader and one writer, both here.

use brokerlab_model::{
    ChannelId, ChannelSpec, Control, Description, Event, LaneId, LaneState, Outcome, Receipt, Refusal, SeekTo,
    Settlement, Span, Status, Time, Token, Verdict,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// From a client.
#[derive(Debug)]
pub(crate) enum Request {
    Hello { role: u8, group: String, channels: Vec<ChannelId> },
    Publish { token: Token, channel: ChannelId, key: Bytes, headers: Bytes, payload: Bytes },
    Settle(Settlement),
    Control(Token, Control),
}

/// From the server.
#[derive(Debug)]
pub(crate) enum Reply {
    Welcome,
    Outcome(Outcome),
    /// Key, headers and payload stand back to back in the bytes.
    Delivery {
        receipt: Receipt,
        channel: ChannelId,
        redeliveries: u16,
        key_len: u16,
        header_len: u16,
        bytes: Bytes,
    },
    Position(Token, LaneId, u64),
    Description(Token, Description),
    Event(Event),
}

const REFUSALS: [Refusal; 9] = [
    Refusal::Unsupported,
    Refusal::NoSuchLane,
    Refusal::NotAssigned,
    Refusal::StaleReceipt,
    Refusal::OutOfRange,
    Refusal::TooLarge,
    Refusal::Exists,
    Refusal::WrongRole,
    Refusal::Closed,
];

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
fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.put_u32_le(0);
    body(out);
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn get_bytes(from: &mut Bytes) -> Bytes {
    let len = from.get_u32_le() as usize;
    from.split_to(len)
}

fn get_text(from: &mut Bytes) -> String {
    String::from_utf8(get_bytes(from).to_vec()).expect("the other end writes UTF-8")
}

fn put_receipt(out: &mut Vec<u8>, receipt: Receipt) {
    out.put_u32_le(receipt.lane.0);
    out.put_u64_le(receipt.position);
    out.put_u32_le(receipt.epoch);
}

fn get_receipt(from: &mut Bytes) -> Receipt {
    Receipt { lane: LaneId(from.get_u32_le()), position: from.get_u64_le(), epoch: from.get_u32_le() }
}

pub(crate) fn put_hello(out: &mut Vec<u8>, role: u8, group: &str, channels: &[ChannelId]) {
    frame(out, |out| {
        out.put_u8(0);
        out.put_u8(role);
        put_bytes(out, group.as_bytes());
        out.put_u32_le(channels.len() as u32);
        for channel in channels {
            out.put_u32_le(channel.0);
        }
    });
}

pub(crate) fn put_publish(out: &mut Vec<u8>, message: &brokerlab_model::Message<'_>) {
    frame(out, |out| {
        out.put_u8(1);
        out.put_u64_le(message.token.0);
        out.put_u32_le(message.channel.0);
        put_bytes(out, message.key);
        put_bytes(out, message.headers);
        put_bytes(out, message.payload);
    });
}

pub(crate) fn put_settle(out: &mut Vec<u8>, settlement: &Settlement) {
    frame(out, |out| {
        out.put_u8(2);
        out.put_u64_le(settlement.token.0);
        put_receipt(out, settlement.receipt);
        let (verdict, span) = match settlement.verdict {
            Verdict::Ack => (0, 0),
            Verdict::Nack { requeue } => (1 + u8::from(requeue), 0),
            Verdict::Extend(span) => (3, span.0),
        };
        out.put_u8(verdict);
        out.put_u64_le(span);
    });
}

pub(crate) fn put_control(out: &mut Vec<u8>, token: Token, control: &Control) {
    frame(out, |out| {
        let (kind, number) = match control {
            Control::Grant(count) => (3, *count),
            Control::Seek { lane, .. } => (4, lane.0),
            Control::Position(lane) => (5, lane.0),
            Control::Flush => (6, 0),
            Control::Release(lane) => (7, lane.0),
            Control::Close => (8, 0),
            Control::Create(spec) => (9, spec.lanes),
            Control::Delete(channel) => (10, channel.0),
            Control::Describe(channel) => (11, channel.0),
        };
        out.put_u8(kind);
        out.put_u64_le(token.0);
        out.put_u32_le(number);
        if let Control::Seek { to, .. } = control {
            let (kind, at) = match to {
                SeekTo::Earliest => (0, 0),
                SeekTo::Latest => (1, 0),
                SeekTo::Position(position) => (2, *position),
                SeekTo::Time(time) => (3, time.0),
            };
            out.put_u8(kind);
            out.put_u64_le(at);
        }
        if let Control::Create(spec) = control {
            put_bytes(out, spec.name.as_bytes());
            out.put_u32_le(spec.groups.len() as u32);
            for group in &spec.groups {
                put_bytes(out, group.as_bytes());
            }
        }
    });
}

pub(crate) fn get_request(mut from: Bytes) -> Request {
    let kind = from.get_u8();
    match kind {
        0 => {
            let role = from.get_u8();
            let group = get_text(&mut from);
            let channels = (0..from.get_u32_le()).map(|_| ChannelId(from.get_u32_le())).collect();
            Request::Hello { role, group, channels }
        }
        1 => Request::Publish {
            token: Token(from.get_u64_le()),
            channel: ChannelId(from.get_u32_le()),
            key: get_bytes(&mut from),
            headers: get_bytes(&mut from),
            payload: get_bytes(&mut from),
        },
        2 => {
            let (token, receipt) = (Token(from.get_u64_le()), get_receipt(&mut from));
            let (verdict, span) = (from.get_u8(), Span(from.get_u64_le()));
            let verdict = match verdict {
                0 => Verdict::Ack,
                1 | 2 => Verdict::Nack { requeue: verdict == 2 },
                _ => Verdict::Extend(span),
            };
            Request::Settle(Settlement { token, receipt, verdict })
        }
        _ => {
            let (token, number) = (Token(from.get_u64_le()), from.get_u32_le());
            Request::Control(token, get_control(kind, number, &mut from))
        }
    }
}

fn get_control(kind: u8, number: u32, from: &mut Bytes) -> Control {
    match kind {
        3 => Control::Grant(number),
        4 => {
            let (kind, at) = (from.get_u8(), from.get_u64_le());
            let to = match kind {
                0 => SeekTo::Earliest,
                1 => SeekTo::Latest,
                2 => SeekTo::Position(at),
                _ => SeekTo::Time(Time(at)),
            };
            Control::Seek { lane: LaneId(number), to }
        }
        5 => Control::Position(LaneId(number)),
        6 => Control::Flush,
        7 => Control::Release(LaneId(number)),
        8 => Control::Close,
        9 => {
            let name = get_text(from);
            let groups = (0..from.get_u32_le()).map(|_| get_text(from)).collect();
            Control::Create(ChannelSpec { name, lanes: number, groups })
        }
        10 => Control::Delete(ChannelId(number)),
        11 => Control::Describe(ChannelId(number)),
        other => panic!("no request has kind {other}"),
    }
}

pub(crate) fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    frame(out, |out| match reply {
        Reply::Welcome => out.put_u8(0),
        Reply::Outcome(outcome) => {
            out.put_u8(1);
            out.put_u64_le(outcome.token.0);
            out.put_u8(match outcome.status {
                Status::Done => 0,
                Status::Refused(refusal) => {
                    1 + REFUSALS.iter().position(|known| *known == refusal).expect("all refusals are listed") as u8
                }
                Status::Throttled | Status::Failed(_) | Status::Unknown => panic!("the server does or refuses"),
            });
            out.put_u32_le(outcome.lane.0);
            out.put_u64_le(outcome.position);
        }
        Reply::Delivery { receipt, channel, redeliveries, key_len, header_len, bytes } => {
            out.put_u8(2);
            put_receipt(out, *receipt);
            out.put_u32_le(channel.0);
            out.put_u16_le(*redeliveries);
            out.put_u16_le(*key_len);
            out.put_u16_le(*header_len);
            out.extend_from_slice(bytes);
        }
        Reply::Position(token, lane, position) => {
            out.put_u8(3);
            out.put_u64_le(token.0);
            out.put_u32_le(lane.0);
            out.put_u64_le(*position);
        }
        Reply::Description(token, description) => put_description(out, *token, description),
        Reply::Event(event) => {
            let (kind, lane, position) = match *event {
                Event::LaneAssigned { lane, position } => (0, lane, position),
                Event::LaneRevoked(lane) => (1, lane, 0),
                Event::LaneLost(_) | Event::Blocked | Event::Unblocked | Event::Disconnected | Event::Reconnected => {
                    panic!("{event:?} is the client's to say")
                }
            };
            out.put_u8(5);
            out.put_u8(kind);
            out.put_u32_le(lane.0);
            out.put_u64_le(position);
        }
    });
}

fn put_description(out: &mut Vec<u8>, token: Token, description: &Description) {
    out.put_u8(4);
    out.put_u64_le(token.0);
    out.put_u32_le(description.lanes.len() as u32);
    for state in &description.lanes {
        out.put_u32_le(state.lane.0);
        out.put_u32_le(state.group);
        for number in [state.end, state.committed, state.ready, state.in_flight] {
            out.put_u64_le(number);
        }
    }
    out.put_u32_le(description.settings.len() as u32);
    for (name, value) in &description.settings {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn get_description(from: &mut Bytes) -> Description {
    let mut description = Description::default();
    for _ in 0..from.get_u32_le() {
        description.lanes.push(LaneState {
            lane: LaneId(from.get_u32_le()),
            group: from.get_u32_le(),
            end: from.get_u64_le(),
            committed: from.get_u64_le(),
            ready: from.get_u64_le(),
            in_flight: from.get_u64_le(),
        });
    }
    for _ in 0..from.get_u32_le() {
        description.settings.push((get_text(from), get_text(from)));
    }
    description
}

pub(crate) fn get_reply(mut from: Bytes) -> Reply {
    match from.get_u8() {
        0 => Reply::Welcome,
        1 => {
            let (token, status) = (Token(from.get_u64_le()), from.get_u8());
            let status = if status == 0 { Status::Done } else { Status::Refused(REFUSALS[status as usize - 1]) };
            Reply::Outcome(Outcome { token, status, lane: LaneId(from.get_u32_le()), position: from.get_u64_le() })
        }
        2 => Reply::Delivery {
            receipt: get_receipt(&mut from),
            channel: ChannelId(from.get_u32_le()),
            redeliveries: from.get_u16_le(),
            key_len: from.get_u16_le(),
            header_len: from.get_u16_le(),
            bytes: from,
        },
        3 => Reply::Position(Token(from.get_u64_le()), LaneId(from.get_u32_le()), from.get_u64_le()),
        4 => Reply::Description(Token(from.get_u64_le()), get_description(&mut from)),
        5 => {
            let (kind, lane, position) = (from.get_u8(), LaneId(from.get_u32_le()), from.get_u64_le());
            Reply::Event(if kind == 0 { Event::LaneAssigned { lane, position } } else { Event::LaneRevoked(lane) })
        }
        other => panic!("no reply has kind {other}"),
    }
}
