//! What a client sends: who it is, publishes by column, settlements, controls.
//!
//! Tokens on the wire are the client's own numbers, small and used again. Leaves out answers, which are in `reply`.

use brokerlab_model::{
    Batch, Binding, ChannelId, ChannelSpec, Control, LaneId, Pattern, Publishes, Receipt, Role, SeekTo, Settlement,
    Span, Time, Token, Transaction, Verdict,
};

use super::reader::Reader;
use super::{FRAME_BYTES, VERSION, WireError, put_frame, put_text, put_u16, put_u32, put_u64};

const HELLO: u8 = 1;
const PUBLISH: u8 = 2;
const SETTLE: u8 = 3;
const CONTROL: u8 = 4;
const COUNTS: u8 = 5;
const TALLIES: u8 = 6;
const BEAT: u8 = 7;

/// A settlement's bytes.
const SETTLEMENT: usize = 29;
/// A message's bytes in the columns.
const MESSAGE: usize = 16;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client with this role.
    Client(Role),
    /// Somebody who only asks what the engine has done.
    Counter,
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The layout's version.
    pub version: u32,
    /// Who asks.
    pub asker: Asker,
    /// The backend that is meant, as it was asked for.
    pub url: String,
    /// The contract that is meant, in words.
    pub contract: String,
}

/// A frame from a client.
#[derive(Clone, Debug)]
pub enum Request {
    /// The first one.
    Hello(Hello),
    /// Operations, at least one.
    Batch(Batch),
    /// What has the engine done?
    Counts,
    /// What has the backend counted of its own?
    Tallies,
    /// A sign of life of one who has nothing to ask.
    Beat,
}

pub(in crate::loopback) fn put_hello(out: &mut Vec<u8>, asker: &Asker, url: &str, contract: &str) {
    put_frame(out, HELLO, |out| {
        put_u32(out, VERSION);
        put_text(out, url);
        put_text(out, contract);
        match asker {
            Asker::Client(Role::Producer) => out.push(0),
            Asker::Client(Role::Member { group, channels }) => {
                out.push(1);
                put_text(out, group);
                put_u32(out, channels.len() as u32);
                for channel in channels {
                    put_u32(out, channel.0);
                }
            }
            Asker::Client(Role::Administrator) => out.push(2),
            Asker::Counter => out.push(3),
        }
    });
}

pub(in crate::loopback) fn put_counting(out: &mut Vec<u8>) {
    put_frame(out, COUNTS, |_| {});
}

pub(in crate::loopback) fn put_tallying(out: &mut Vec<u8>) {
    put_frame(out, TALLIES, |_| {});
}

pub(in crate::loopback) fn put_beat(out: &mut Vec<u8>) {
    put_frame(out, BEAT, |_| {});
}

/// Appends the messages of a batch that have a number in `slots`, from its message `first` on; as many frames as they need.
pub(in crate::loopback) fn put_publishes(out: &mut Vec<u8>, batch: &Publishes, first: usize, slots: &[u32]) {
    let mut from = 0;
    while from < slots.len() {
        let (mut to, mut bytes) = (from, 0);
        while to < slots.len() && (to == from || bytes < FRAME_BYTES) {
            let message = batch.get(first + to);
            bytes += MESSAGE + message.key.len() + message.headers.len() + message.payload.len();
            to += 1;
        }
        put_messages(out, batch, first + from, &slots[from..to]);
        from = to;
    }
}

fn put_messages(out: &mut Vec<u8>, batch: &Publishes, first: usize, slots: &[u32]) {
    put_frame(out, PUBLISH, |out| {
        let messages = || (first..first + slots.len()).map(|index| batch.get(index));
        out.push(u8::from(batch.is_lengths_only()));
        put_u32(out, slots.len() as u32);
        for &slot in slots {
            put_u32(out, slot);
        }
        messages().for_each(|message| put_u32(out, message.channel.0));
        messages().for_each(|message| put_u16(out, message.key.len() as u16));
        messages().for_each(|message| put_u16(out, message.headers.len() as u16));
        messages().for_each(|message| put_u32(out, message.payload_len));
        for message in messages() {
            out.extend_from_slice(message.key);
            out.extend_from_slice(message.headers);
            out.extend_from_slice(message.payload);
        }
    });
}

pub(in crate::loopback) fn put_settlements(out: &mut Vec<u8>, settlements: &[Settlement], slots: &[u32]) {
    put_frame(out, SETTLE, |out| {
        put_u32(out, slots.len() as u32);
        for (settlement, &slot) in settlements.iter().zip(slots) {
            let Receipt { lane, position, epoch } = settlement.receipt;
            put_u32(out, slot);
            put_u32(out, lane.0);
            put_u64(out, position);
            put_u32(out, epoch);
            let (verdict, span) = match settlement.verdict {
                Verdict::Ack => (0, 0),
                Verdict::Nack { requeue: false } => (1, 0),
                Verdict::Nack { requeue: true } => (2, 0),
                Verdict::Extend(span) => (3, span.0),
            };
            out.push(verdict);
            put_u64(out, span);
        }
    });
}

/// Appends a control. The patterns of a channel that is to be made have to be in their bounds.
pub(in crate::loopback) fn put_control(out: &mut Vec<u8>, slot: u32, control: &Control) {
    put_frame(out, CONTROL, |out| {
        put_u32(out, slot);
        match control {
            Control::Grant(count) => put_numbers(out, 0, &[*count]),
            Control::Seek { lane, to } => {
                put_numbers(out, 1, &[lane.0]);
                let (which, number) = match to {
                    SeekTo::Earliest => (0, 0),
                    SeekTo::Latest => (1, 0),
                    SeekTo::Position(position) => (2, *position),
                    SeekTo::Time(time) => (3, time.0),
                };
                out.push(which);
                put_u64(out, number);
            }
            Control::Position(lane) => put_numbers(out, 2, &[lane.0]),
            Control::Flush => out.push(3),
            Control::Release(lane) => put_numbers(out, 4, &[lane.0]),
            Control::Close => out.push(5),
            Control::Create(spec) => {
                put_numbers(out, 6, &[spec.lanes]);
                put_text(out, &spec.name);
                put_u32(out, spec.groups.len() as u32);
                for group in &spec.groups {
                    put_text(out, group);
                }
                put_u32(out, spec.bindings.len() as u32);
                for binding in &spec.bindings {
                    put_text(out, &binding.group);
                    binding.pattern.put(out);
                }
                out.push(u8::from(spec.dead_letters_of.is_some()));
                put_u32(out, spec.dead_letters_of.unwrap_or_default().0);
            }
            Control::Delete(channel) => put_numbers(out, 7, &[channel.0]),
            Control::Describe(channel) => put_numbers(out, 8, &[channel.0]),
            Control::Split { lane, at } => {
                put_numbers(out, 9, &[lane.0]);
                out.push(u8::from(at.is_some()));
                out.extend_from_slice(&at.unwrap_or_default().to_le_bytes());
            }
            Control::Merge { lane, with } => put_numbers(out, 10, &[lane.0, with.0]),
            Control::Transaction(Transaction::Begin { group, name }) => {
                out.push(11);
                for text in [group, name] {
                    out.push(u8::from(text.is_some()));
                    put_text(out, text.as_deref().unwrap_or_default());
                }
            }
            Control::Transaction(Transaction::Commit) => out.push(12),
            Control::Transaction(Transaction::Abort) => out.push(13),
        }
    });
}

fn put_numbers(out: &mut Vec<u8>, tag: u8, numbers: &[u32]) {
    out.push(tag);
    for &number in numbers {
        put_u32(out, number);
    }
}

/// Reads a client's frame, from its kind on.
pub fn read_request(frame: &[u8]) -> Result<Request, WireError> {
    let (&kind, body) = frame.split_first().ok_or(WireError::Malformed(0))?;
    let body = Reader::new(body);
    let read = match kind {
        HELLO => read_hello(body).map(Request::Hello),
        PUBLISH => read_publishes(body).map(|batch| Request::Batch(Batch::Publish(batch))),
        SETTLE => read_settlements(body).map(|batch| Request::Batch(Batch::Settle(batch))),
        CONTROL => read_control(body).map(|one| Request::Batch(Batch::Control(vec![one]))),
        COUNTS => body.end().map(|()| Request::Counts),
        TALLIES => body.end().map(|()| Request::Tallies),
        BEAT => body.end().map(|()| Request::Beat),
        _ => None,
    };
    read.ok_or(WireError::Malformed(kind))
}

fn read_hello(mut body: Reader<'_>) -> Option<Hello> {
    let (version, url, contract) = (body.u32()?, body.text()?, body.text()?);
    let asker = match body.u8()? {
        0 => Asker::Client(Role::Producer),
        1 => {
            let group = body.text()?;
            let count = body.count(4)?;
            let channels = (0..count).map(|_| body.u32().map(ChannelId)).collect::<Option<_>>()?;
            Asker::Client(Role::Member { group, channels })
        }
        2 => Asker::Client(Role::Administrator),
        3 => Asker::Counter,
        _ => return None,
    };
    body.end()?;
    Some(Hello { version, asker, url, contract })
}

fn read_publishes(mut body: Reader<'_>) -> Option<Publishes> {
    let lengths_only = match body.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let count = body.count(MESSAGE)?;
    let (slots, channels) = (body.column::<4>(count)?, body.column::<4>(count)?);
    let (keys, headers) = (body.column::<2>(count)?, body.column::<2>(count)?);
    let payloads = body.column::<4>(count)?;
    let mut batch = if lengths_only { Publishes::of_lengths() } else { Publishes::new() };
    for index in 0..count {
        let token = Token(u64::from(u32::from_le_bytes(slots[index])));
        let channel = ChannelId(u32::from_le_bytes(channels[index]));
        let key = body.take(usize::from(u16::from_le_bytes(keys[index])))?;
        let headers = body.take(usize::from(u16::from_le_bytes(headers[index])))?;
        let payload_len = u32::from_le_bytes(payloads[index]);
        if lengths_only {
            batch.push_length(token, channel, key, headers, payload_len);
        } else {
            batch.push(token, channel, key, headers, body.take(payload_len as usize)?);
        }
    }
    body.end()?;
    (count > 0).then_some(batch)
}

fn read_settlements(mut body: Reader<'_>) -> Option<Vec<Settlement>> {
    let count = body.count(SETTLEMENT)?;
    let mut settlements = Vec::with_capacity(count);
    for _ in 0..count {
        let token = Token(u64::from(body.u32()?));
        let receipt = Receipt { lane: LaneId(body.u32()?), position: body.u64()?, epoch: body.u32()? };
        let verdict = match (body.u8()?, body.u64()?) {
            (0, 0) => Verdict::Ack,
            (1, 0) => Verdict::Nack { requeue: false },
            (2, 0) => Verdict::Nack { requeue: true },
            (3, span) => Verdict::Extend(Span(span)),
            _ => return None,
        };
        settlements.push(Settlement { token, receipt, verdict });
    }
    body.end()?;
    (count > 0).then_some(settlements)
}

fn read_control(mut body: Reader<'_>) -> Option<(Token, Control)> {
    let token = Token(u64::from(body.u32()?));
    let control = match body.u8()? {
        0 => Control::Grant(body.u32()?),
        1 => {
            let lane = LaneId(body.u32()?);
            let to = match (body.u8()?, body.u64()?) {
                (0, 0) => SeekTo::Earliest,
                (1, 0) => SeekTo::Latest,
                (2, position) => SeekTo::Position(position),
                (3, time) => SeekTo::Time(Time(time)),
                _ => return None,
            };
            Control::Seek { lane, to }
        }
        2 => Control::Position(LaneId(body.u32()?)),
        3 => Control::Flush,
        4 => Control::Release(LaneId(body.u32()?)),
        5 => Control::Close,
        6 => {
            let (lanes, name) = (body.u32()?, body.text()?);
            let count = body.count(4)?;
            let groups = (0..count).map(|_| body.text()).collect::<Option<_>>()?;
            let count = body.count(5)?;
            let binding = |_| Some(Binding { group: body.text()?, pattern: body.with(Pattern::take)? });
            let bindings = (0..count).map(binding).collect::<Option<_>>()?;
            let dead_letters_of = match (body.u8()?, ChannelId(body.u32()?)) {
                (0, ChannelId(0)) => None,
                (1, channel) => Some(channel),
                _ => return None,
            };
            Control::Create(ChannelSpec { name, lanes, groups, bindings, dead_letters_of })
        }
        7 => Control::Delete(ChannelId(body.u32()?)),
        8 => Control::Describe(ChannelId(body.u32()?)),
        9 => {
            let lane = LaneId(body.u32()?);
            let at = match (body.u8()?, body.u128()?) {
                (0, 0) => None,
                (1, at) => Some(at),
                _ => return None,
            };
            Control::Split { lane, at }
        }
        10 => Control::Merge { lane: LaneId(body.u32()?), with: LaneId(body.u32()?) },
        11 => {
            let mut text = || match (body.u8()?, body.text()?) {
                (0, text) if text.is_empty() => Some(None),
                (1, text) => Some(Some(text)),
                _ => None,
            };
            let (group, name) = (text()?, text()?);
            Control::Transaction(Transaction::Begin { group, name })
        }
        12 => Control::Transaction(Transaction::Commit),
        13 => Control::Transaction(Transaction::Abort),
        _ => return None,
    };
    body.end()?;
    Some((token, control))
}

#[cfg(test)]
mod tests {
    use super::super::{LENGTH, whole};
    use super::*;

    /// The frames of what was written, each read.
    fn read_all(mut bytes: &[u8]) -> Vec<Request> {
        let mut read = Vec::new();
        while let Some(len) = whole(bytes, 64 << 20).unwrap() {
            read.push(read_request(&bytes[LENGTH..len]).unwrap());
            for cut in [LENGTH, len / 2, len - 1].into_iter().filter(|&cut| cut >= LENGTH && cut < len) {
                assert!(read_request(&bytes[LENGTH..cut]).is_err(), "a part of a frame is none");
            }
            bytes = &bytes[len..];
        }
        assert!(bytes.is_empty());
        read
    }

    #[test]
    fn messages_are_read_back_in_frames_of_bounded_size() {
        let mut batch = Publishes::new();
        for n in 0..5_u8 {
            batch.push(Token(100 + u64::from(n)), ChannelId(3), &[n; 4], &[n; 2], &vec![n; 400 << 10]);
        }
        let mut out = Vec::new();
        put_publishes(&mut out, &batch, 1, &[7, 8, 9, 10]);
        let read = read_all(&out);
        assert_eq!(read.len(), 2, "three fill a frame");
        let mut messages = 0;
        for request in &read {
            let Request::Batch(Batch::Publish(publishes)) = request else { panic!("{request:?}") };
            for message in publishes.iter() {
                let sent = batch.get(1 + messages);
                assert_eq!((message.token, message.channel), (Token(7 + messages as u64), ChannelId(3)));
                assert_eq!((message.key, message.headers), (sent.key, sent.headers));
                assert!(message.payload == sent.payload);
                messages += 1;
            }
        }
        assert_eq!(messages, 4, "those with a number, from the second on");
    }

    #[test]
    fn every_other_request_is_read_back() {
        let receipt = Receipt { lane: LaneId(4), position: 1 << 40, epoch: 9 };
        let verdicts = [Verdict::Ack, Verdict::Nack { requeue: true }, Verdict::Nack { requeue: false }];
        let verdicts = verdicts.into_iter().chain([Verdict::Extend(Span(5))]);
        let settlements: Vec<Settlement> =
            verdicts.zip(0..).map(|(verdict, n)| Settlement { token: Token(n), receipt, verdict }).collect();
        let seek = |to| Control::Seek { lane: LaneId(2), to };
        let controls = [
            Control::Grant(5),
            seek(SeekTo::Earliest),
            seek(SeekTo::Latest),
            seek(SeekTo::Position(8)),
            seek(SeekTo::Time(Time(9))),
            Control::Position(LaneId(1)),
            Control::Flush,
            Control::Release(LaneId(3)),
            Control::Close,
            Control::Create(ChannelSpec {
                name: "ä".to_owned(),
                lanes: 2,
                groups: vec!["g".to_owned(), String::new()],
                bindings: vec![Binding { group: "g".to_owned(), pattern: Pattern::Topic(b"a.#".to_vec()) }],
                dead_letters_of: Some(ChannelId(3)),
            }),
            Control::Delete(ChannelId(6)),
            Control::Describe(ChannelId(7)),
            Control::Split { lane: LaneId(8), at: None },
            Control::Split { lane: LaneId(8), at: Some(1 << 127 | 3) },
            Control::Merge { lane: LaneId(9), with: LaneId(10) },
            Control::Transaction(Transaction::Begin { group: None, name: None }),
            Control::Transaction(Transaction::Begin { group: Some("g".to_owned()), name: None }),
            Control::Transaction(Transaction::Begin { group: None, name: Some("orders".to_owned()) }),
            Control::Transaction(Transaction::Begin { group: Some("g".to_owned()), name: Some(String::new()) }),
            Control::Transaction(Transaction::Commit),
            Control::Transaction(Transaction::Abort),
        ];
        let member = Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0), ChannelId(9)] };
        let askers =
            [Role::Producer, Role::Administrator, member].map(Asker::Client).into_iter().chain([Asker::Counter]);
        let mut out = Vec::new();
        for asker in askers.clone() {
            put_hello(&mut out, &asker, "log?partitions=2", "memory");
        }
        put_settlements(&mut out, &settlements, &[0, 1, 2, 3]);
        for control in &controls {
            put_control(&mut out, 17, control);
        }
        put_counting(&mut out);
        put_tallying(&mut out);
        put_beat(&mut out);
        let mut read = read_all(&out).into_iter();
        for asker in askers {
            let Some(Request::Hello(hello)) = read.next() else { panic!("a hello") };
            let (url, contract) = ("log?partitions=2".to_owned(), "memory".to_owned());
            assert_eq!(hello, Hello { version: VERSION, asker, url, contract });
        }
        let Some(Request::Batch(Batch::Settle(settled))) = read.next() else { panic!("settlements") };
        assert_eq!(settled, settlements);
        for control in controls {
            let Some(Request::Batch(Batch::Control(one))) = read.next() else { panic!("{control:?}") };
            assert_eq!(one, [(Token(17), control)]);
        }
        assert!(matches!(read.next(), Some(Request::Counts)));
        assert!(matches!(read.next(), Some(Request::Tallies)));
        assert!(matches!(read.next(), Some(Request::Beat)) && read.next().is_none());
    }
}
