//! What a client asks, as bytes and back.

use brokerlab_model::{
    ChannelId, ChannelSpec, Control, LaneId, Message, SeekTo, Settlement, Span, Time, Token, Verdict,
};
use bytes::{Buf, BufMut, Bytes};

use crate::wire::{frame, get_bytes, get_receipt, get_text, put_bytes, put_receipt};

/// From a client.
#[derive(Debug)]
pub(crate) enum Request {
    Hello { role: u8, group: String, channels: Vec<ChannelId> },
    Publish { token: Token, channel: ChannelId, key: Bytes, headers: Bytes, payload: Bytes },
    Settle(Settlement),
    Control(Token, Control),
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

pub(crate) fn put_publish(out: &mut Vec<u8>, message: &Message<'_>) {
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
            Control::Split { .. } | Control::Merge { .. } | Control::Transaction(_) => panic!("the client refuses it"),
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
            Control::Create(ChannelSpec { name, lanes: number, groups, ..ChannelSpec::default() })
        }
        10 => Control::Delete(ChannelId(number)),
        11 => Control::Describe(ChannelId(number)),
        other => panic!("no request has kind {other}"),
    }
}
