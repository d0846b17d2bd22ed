//! A proxy in front of the server under test that changes single answers: an error code in place of success, a refused login, or silence.
//!
//! It stands in for a server that is configured against its users, whose disk is full, or that has stopped. Leaves out whatever it is
//! not told to change: that is the real server's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
pub(crate) const CREATE_TOPICS: i16 = 19;
const SASL_AUTHENTICATE: i16 = 36;
pub(crate) const HEARTBEAT: i16 = 68;

/// What is changed.
#[derive(Debug, Default)]
struct Rules {
    /// The code that answers to requests of this key.
    error: Option<(i16, i16)>,
    held: bool,
}

/// See the module. It ends with the test's process.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    rules: Arc<Mutex<Rules>>,
}

/// What both directions of one connection know of it: the key of each request by its number.
type Asked = Arc<Mutex<BTreeMap<[u8; 4], i16>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds the lock")
}

impl Proxy {
    /// Begins to hand on what comes to a port of its own.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        let rules = Arc::new(Mutex::new(Rules::default()));
        let given = Arc::clone(&rules);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (asked, rules) = (Asked::default(), Arc::clone(&given));
                let there = (copy(&client), copy(&server), Arc::clone(&asked));
                thread::spawn(move || requests(there.0, there.1, &there.2));
                thread::spawn(move || answers(server, client, &asked, &rules, address.port()));
            }
        });
        Self { address, rules }
    }

    pub(crate) fn url(&self) -> String {
        format!("kafka://{}", self.address)
    }

    /// Answers to requests of this key carry this code from now on.
    pub(crate) fn fail(&self, key: i16, code: i16) {
        locked(&self.rules).error = Some((key, code));
    }

    /// Nothing is answered while it is held.
    pub(crate) fn hold(&self, held: bool) {
        locked(&self.rules).held = held;
    }
}

fn copy(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor is left")
}

/// The next frame, its length in front.
fn frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).ok()?;
    let length = u32::from_be_bytes(*frame.first_chunk()?) as usize;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

fn requests(mut client: TcpStream, mut server: TcpStream, asked: &Asked) {
    while let Some(request) = frame(&mut client) {
        let key = i16::from_be_bytes([request[4], request[5]]);
        let number: [u8; 4] = *request[8..].first_chunk().expect("a request has a head");
        let body: Option<&[u8]> = match key {
            // No error, and the one mechanism that is known.
            SASL_HANDSHAKE => Some(b"\0\0\0\0\0\x01\0\x05PLAIN"),
            // Head without tags; SASL_AUTHENTICATION_FAILED, its text, no bytes, no lifetime, no tags.
            SASL_AUTHENTICATE => Some(b"\0\0\x3a\x0fwrong password\x01\0\0\0\0\0\0\0\0\0"),
            _ => None,
        };
        let sent = if let Some(body) = body {
            let length = (4 + body.len()) as u32;
            client.write_all(&[&length.to_be_bytes(), &number[..], body].concat())
        } else {
            locked(asked).insert(number, key);
            server.write_all(&request)
        };
        if sent.is_err() {
            break;
        }
    }
    // One that is closed already is cut.
    let _closed = server.shutdown(Shutdown::Both);
}

fn answers(mut server: TcpStream, mut client: TcpStream, asked: &Asked, rules: &Mutex<Rules>, port: u16) {
    while let Some(mut answer) = frame(&mut server) {
        let number: [u8; 4] = *answer[4..].first_chunk().expect("an answer has a head");
        let key = locked(asked).remove(&number).unwrap_or(-1);
        while locked(rules).held {
            thread::sleep(Duration::from_millis(1));
        }
        if key == METADATA {
            // Throttle time, brokers; the first broker's number, host and port: further requests come here too.
            let host = 8 + 1 + 4 + 1 + 4;
            let at = host + usize::from(answer[host]);
            answer[at..at + 4].copy_from_slice(&u32::from(port).to_be_bytes());
        }
        if let Some((failing, code)) = locked(rules).error
            && failing == key
            && let Some(at) = code_at(key, &answer)
        {
            answer[at..at + 2].copy_from_slice(&code.to_be_bytes());
        }
        if client.write_all(&answer).is_err() {
            break;
        }
    }
    let _closed = client.shutdown(Shutdown::Both);
}

/// Where the first topic's, partition's or group's error code stands in an answer; none when it is about nothing.
fn code_at(key: i16, answer: &[u8]) -> Option<usize> {
    // Behind length, number and the head's tags.
    let body = 9;
    let after_name = |at: usize| at + usize::from(answer[at]);
    match key {
        HEARTBEAT => Some(body + 4),
        PRODUCE => (answer[body] > 1).then(|| after_name(body + 1) + 1 + 4),
        // Throttle time.
        CREATE_TOPICS => (answer[body + 4] > 1).then(|| after_name(body + 4 + 1) + 16),
        // Throttle time, error, session.
        FETCH => (answer[body + 10] > 1).then(|| after_name(body + 10 + 1) + 1 + 4),
        _ => None,
    }
}
