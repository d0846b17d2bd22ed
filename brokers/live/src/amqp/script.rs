//! A server for tests: it opens a connection as RabbitMQ does, and then does what the test says.
//!
//! Leaves out queues: nothing is stored.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use brokerlab_model::{Client, ClientSpec, Completions, Role, Time};

use super::codec::{frame, put_long, put_table, put_text};

/// Appends a method's frame.
pub(super) fn method(out: &mut Vec<u8>, channel: u16, id: u32, arguments: &[u8]) {
    frame(out, 1, channel, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(arguments);
    });
}

/// The number of a method.
pub(super) const fn id(class: u32, method: u32) -> u32 {
    class << 16 | method
}

/// Serves one connection; `then` gets it when its channel is open.
pub(super) fn serve(heartbeat: u16, then: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        let mut start = vec![0, 9];
        put_table(&mut start, |out| put_text(out, b"version", b"4.1.0"));
        put_long(&mut start, b"AMQPLAIN PLAIN");
        put_long(&mut start, b"en_US");
        let mut tune = vec![7, 0xff];
        tune.extend_from_slice(&131_072u32.to_be_bytes());
        tune.extend_from_slice(&heartbeat.to_be_bytes());
        let mut out = Vec::new();
        method(&mut out, 0, id(10, 10), &start);
        method(&mut out, 0, id(10, 30), &tune);
        method(&mut out, 0, id(10, 41), &[0]);
        method(&mut out, 1, id(20, 11), &[0; 4]);
        method(&mut out, 1, id(85, 11), &[]);
        // In two parts, cut within a frame.
        stream.write_all(&out[..40]).unwrap();
        stream.write_all(&out[40..]).unwrap();
        then(stream);
    });
    address
}

/// Polls until `met`.
pub(super) fn poll_until(
    client: &mut dyn Client,
    now: Time,
    out: &mut Completions,
    met: impl Fn(&Completions) -> bool,
) {
    for _ in 0..1_000_000 {
        client.poll(now, out);
        if met(out) {
            return;
        }
        thread::yield_now();
    }
    panic!("patience ended with {out:?}");
}

/// A client of the first number.
pub(super) fn spec(role: Role) -> ClientSpec {
    ClientSpec { number: 0, role, placement: 0 }
}
