//! The methods of AMQP 0-9-1 that this driver sends and understands, as bytes.
//!
//! Leaves out transactions, `basic.get` and access realms. Numbers and argument orders: AMQP 0-9-1 specification §1; RabbitMQ's
//! extensions (`confirm`, `basic.nack`, `connection.blocked`) from its protocol reference.

use super::codec::{CHANNEL, Malformed, Reader, Table, frame, put_flag, put_long, put_short, put_table, put_text};
use super::settings::Argument;

/// A method that a server sends.
#[derive(Clone, Debug)]
pub(super) enum Incoming<'a> {
    Start {
        mechanisms: &'a [u8],
        properties: Table<'a>,
    },
    Tune {
        frame_max: u32,
        heartbeat: u16,
    },
    OpenOk,
    Close(Reason<'a>),
    CloseOk,
    Blocked,
    Unblocked,
    ChannelOpenOk,
    ChannelClose(Reason<'a>),
    QueueDeclareOk {
        name: &'a [u8],
        messages: u32,
        consumers: u32,
    },
    /// An exchange was made or removed, a queue bound or removed.
    Done,
    SelectOk,
    /// The server ended a consumer.
    Cancel {
        tag: &'a [u8],
    },
    Return,
    Deliver {
        tag: &'a [u8],
        delivery: u64,
        redelivered: bool,
    },
    Ack {
        delivery: u64,
        multiple: bool,
    },
    Nack {
        delivery: u64,
        multiple: bool,
    },
    /// Nothing that this driver waits for: `basic.qos-ok`, `consume-ok` and what it does not know.
    Other,
}

/// Why a server closes a connection or channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reason<'a> {
    pub(super) code: u16,
    pub(super) text: &'a [u8],
}

#[cfg(test)]
const fn id(class: u32, method: u32) -> u32 {
    class << 16 | method
}

#[cfg(test)]
const ACK: u32 = id(60, 80);
#[cfg(test)]
const DELIVER: u32 = id(60, 60);

impl<'a> Incoming<'a> {
    /// Reads a method's arguments.
    pub(super) fn read(method: u32, arguments: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(arguments);
        Ok(match (method >> 16, method & 0xffff) {
            (60, 60) => {
                let tag = reader.short()?;
                let delivery = reader.u64()?;
                Self::Deliver { tag, delivery, redelivered: reader.u8()? != 0 }
            }
            (60, 80) => Self::Ack { delivery: reader.u64()?, multiple: reader.u8()? & 1 != 0 },
            (60, 120) => Self::Nack { delivery: reader.u64()?, multiple: reader.u8()? & 1 != 0 },
            (10, 10) => {
                reader.u16()?;
                let properties = reader.table()?;
                Self::Start { mechanisms: reader.long()?, properties }
            }
            (10, 30) => {
                reader.u16()?;
                Self::Tune { frame_max: reader.u32()?, heartbeat: reader.u16()? }
            }
            (10, 41) => Self::OpenOk,
            (10, 50) => Self::Close(Reason { code: reader.u16()?, text: reader.short()? }),
            (10, 51) => Self::CloseOk,
            (10, 60) => Self::Blocked,
            (10, 61) => Self::Unblocked,
            (20, 11) => Self::ChannelOpenOk,
            (20, 40) => Self::ChannelClose(Reason { code: reader.u16()?, text: reader.short()? }),
            (50, 11) => {
                Self::QueueDeclareOk { name: reader.short()?, messages: reader.u32()?, consumers: reader.u32()? }
            }
            (40, 11 | 21) | (50, 21 | 41) => Self::Done,
            (85, 11) => Self::SelectOk,
            (60, 30) => Self::Cancel { tag: reader.short()? },
            (60, 50) => Self::Return,
            (_, _) => Self::Other,
        })
    }
}

fn method(out: &mut Vec<u8>, channel: u16, class: u16, number: u16, write: impl FnOnce(&mut Vec<u8>)) {
    frame(out, 1, channel, |out| {
        out.extend_from_slice(&class.to_be_bytes());
        out.extend_from_slice(&number.to_be_bytes());
        write(out);
    });
}

/// Logs in by SASL PLAIN.
pub(super) fn start_ok(out: &mut Vec<u8>, user: &str, password: &str) {
    method(out, 0, 10, 11, |out| {
        put_table(out, |out| {
            put_text(out, b"product", b"brokerlab");
            put_text(out, b"version", env!("CARGO_PKG_VERSION").as_bytes());
            put_short(out, b"capabilities");
            out.push(b'F');
            put_table(out, |out| {
                let known: [&[u8]; 5] = [
                    b"publisher_confirms",
                    b"basic.nack",
                    b"connection.blocked",
                    b"consumer_cancel_notify",
                    b"authentication_failure_close",
                ];
                for name in known {
                    put_flag(out, name, true);
                }
            });
        });
        put_short(out, b"PLAIN");
        put_long(out, format!("\0{user}\0{password}").as_bytes());
        put_short(out, b"en_US");
    });
}

/// Agrees on limits.
pub(super) fn tune_ok(out: &mut Vec<u8>, frame_max: u32, heartbeat: u16) {
    method(out, 0, 10, 31, |out| {
        out.extend_from_slice(&CHANNEL.to_be_bytes());
        out.extend_from_slice(&frame_max.to_be_bytes());
        out.extend_from_slice(&heartbeat.to_be_bytes());
    });
}

/// Opens a virtual host.
pub(super) fn open(out: &mut Vec<u8>, vhost: &str) {
    method(out, 0, 10, 40, |out| {
        put_short(out, vhost.as_bytes());
        out.extend_from_slice(&[0, 0]);
    });
}

/// Ends the connection.
pub(super) fn close(out: &mut Vec<u8>) {
    method(out, 0, 10, 50, |out| {
        out.extend_from_slice(&200u16.to_be_bytes());
        put_short(out, b"done");
        out.extend_from_slice(&[0; 4]);
    });
}

/// Answers the server's end of the connection.
pub(super) fn close_ok(out: &mut Vec<u8>) {
    method(out, 0, 10, 51, |_| ());
}

/// Opens the channel.
pub(super) fn channel_open(out: &mut Vec<u8>) {
    method(out, CHANNEL, 20, 10, |out| out.push(0));
}

/// Answers the server's end of the channel.
pub(super) fn channel_close_ok(out: &mut Vec<u8>) {
    method(out, CHANNEL, 20, 41, |_| ());
}

/// Asks for publisher confirms.
pub(super) fn confirm_select(out: &mut Vec<u8>) {
    method(out, CHANNEL, 85, 10, |out| out.push(0));
}

/// Makes a durable direct exchange, or (`passive`) asks whether it is there.
pub(super) fn exchange_declare(out: &mut Vec<u8>, name: &str, passive: bool) {
    method(out, CHANNEL, 40, 10, |out| {
        out.extend_from_slice(&[0, 0]);
        put_short(out, name.as_bytes());
        put_short(out, b"direct");
        out.push(u8::from(passive) | 2);
        put_table(out, |_| ());
    });
}

/// Removes an exchange; one that is not there is removed already.
pub(super) fn exchange_delete(out: &mut Vec<u8>, name: &str) {
    method(out, CHANNEL, 40, 20, |out| {
        out.extend_from_slice(&[0, 0]);
        put_short(out, name.as_bytes());
        out.push(0);
    });
}

/// Makes a durable queue with these arguments.
pub(super) fn queue_declare(out: &mut Vec<u8>, name: &str, arguments: &[(String, Argument)]) {
    declare(out, name, 2, arguments);
}

/// Asks for a queue's depth.
pub(super) fn queue_passive(out: &mut Vec<u8>, name: &str) {
    declare(out, name, 1, &[]);
}

/// Makes a queue of this connection's own, which goes with it; the server names it.
pub(super) fn queue_exclusive(out: &mut Vec<u8>) {
    declare(out, "", 4 | 8, &[]);
}

fn declare(out: &mut Vec<u8>, name: &str, flags: u8, arguments: &[(String, Argument)]) {
    method(out, CHANNEL, 50, 10, |out| {
        out.extend_from_slice(&[0, 0]);
        put_short(out, name.as_bytes());
        out.push(flags);
        put_table(out, |out| {
            for (name, value) in arguments {
                value.put(out, name.as_bytes());
            }
        });
    });
}

/// Binds a queue to an exchange.
pub(super) fn queue_bind(out: &mut Vec<u8>, queue: &str, exchange: &str, routing_key: &str) {
    method(out, CHANNEL, 50, 20, |out| {
        out.extend_from_slice(&[0, 0]);
        put_short(out, queue.as_bytes());
        put_short(out, exchange.as_bytes());
        put_short(out, routing_key.as_bytes());
        out.push(0);
        put_table(out, |_| ());
    });
}

/// Removes a queue; one that is not there is removed already.
pub(super) fn queue_delete(out: &mut Vec<u8>, name: &str) {
    method(out, CHANNEL, 50, 40, |out| {
        out.extend_from_slice(&[0, 0]);
        put_short(out, name.as_bytes());
        out.push(0);
    });
}

/// How many unacknowledged messages the next consumers may have each.
pub(super) fn basic_qos(out: &mut Vec<u8>, prefetch: u16) {
    method(out, CHANNEL, 60, 10, |out| {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&prefetch.to_be_bytes());
        out.push(0);
    });
}

/// Begins to consume, without an answer.
pub(super) fn basic_consume(out: &mut Vec<u8>, queue: &str, tag: &str, auto_ack: bool) {
    method(out, CHANNEL, 60, 20, |out| {
        out.extend_from_slice(&[0, 0]);
        put_short(out, queue.as_bytes());
        put_short(out, tag.as_bytes());
        out.push((u8::from(auto_ack) << 1) | (1 << 3));
        put_table(out, |_| ());
    });
}

/// Stops to consume, without an answer.
pub(super) fn basic_cancel(out: &mut Vec<u8>, tag: &str) {
    method(out, CHANNEL, 60, 30, |out| {
        put_short(out, tag.as_bytes());
        out.push(1);
    });
}

/// The method frame that a publish begins with; it is the same for every message of a lane.
pub(super) fn basic_publish(exchange: &str, routing_key: &str, mandatory: bool) -> Vec<u8> {
    let mut out = Vec::new();
    method(&mut out, CHANNEL, 60, 40, |out| {
        out.extend_from_slice(&[0, 0]);
        put_short(out, exchange.as_bytes());
        put_short(out, routing_key.as_bytes());
        out.push(mandatory.into());
    });
    out
}

/// Acknowledges a delivery, or (`multiple`) every one up to it.
pub(super) fn basic_ack(out: &mut Vec<u8>, delivery: u64, multiple: bool) {
    let mut frame = [1, 0, CHANNEL as u8, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xCE];
    frame[11..19].copy_from_slice(&delivery.to_be_bytes());
    frame[19] = multiple.into();
    out.extend_from_slice(&frame);
}

/// Gives a delivery back, or drops it.
pub(super) fn basic_nack(out: &mut Vec<u8>, delivery: u64, requeue: bool) {
    method(out, CHANNEL, 60, 120, |out| {
        out.extend_from_slice(&delivery.to_be_bytes());
        out.push(u8::from(requeue) << 1);
    });
}

#[cfg(test)]
mod tests {
    use super::super::codec::{Frame, decode};
    use super::*;

    fn arguments(bytes: &[u8]) -> (u32, Vec<u8>) {
        match decode(bytes, 4_096).unwrap() {
            Some((Frame::Method { id, arguments, .. }, length)) => {
                assert_eq!(length, bytes.len(), "one frame");
                (id, arguments.to_vec())
            }
            other => panic!("{other:?} is no method"),
        }
    }

    #[test]
    fn an_acknowledgement_by_hand_is_the_frame_that_it_should_be() {
        for multiple in [false, true] {
            let mut out = Vec::new();
            basic_ack(&mut out, 0x0102_0304_0506_0708, multiple);
            let (method, arguments) = arguments(&out);
            assert_eq!(method, ACK);
            let read = Incoming::read(method, &arguments).unwrap();
            assert!(
                matches!(read, Incoming::Ack { delivery: 0x0102_0304_0506_0708, multiple: m } if m == multiple),
                "{read:?}"
            );
        }
    }

    #[test]
    fn a_method_that_is_cut_short_is_refused() {
        let mut out = Vec::new();
        basic_nack(&mut out, 7, true);
        let (method, arguments) = arguments(&out);
        for cut in 0..arguments.len() {
            assert_eq!(Incoming::read(method, &arguments[..cut]).unwrap_err(), Malformed::Short);
        }
        assert_eq!(Incoming::read(DELIVER, b"\x02c").unwrap_err(), Malformed::Short);
        assert!(matches!(Incoming::read(id(90, 10), b""), Ok(Incoming::Other)));
    }
}
