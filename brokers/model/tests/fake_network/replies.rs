//! What the server says, as bytes and back.

use brokerlab_model::{ChannelId, Description, Event, LaneId, LaneState, Outcome, Receipt, Refusal, Status, Token};
use bytes::{Buf, BufMut, Bytes};

use crate::wire::{frame, get_receipt, get_text, put_bytes, put_receipt};

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

const REFUSALS: [Refusal; 10] = [
    Refusal::Unsupported,
    Refusal::NoSuchLane,
    Refusal::NotAssigned,
    Refusal::StaleReceipt,
    Refusal::OutOfRange,
    Refusal::TooLarge,
    Refusal::Exists,
    Refusal::Transaction,
    Refusal::WrongRole,
    Refusal::Closed,
];

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
            ..LaneState::default()
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
