//! Real brokers from outside: bad input, hard times, secrets, and what is left on a server afterwards.
//!
//! The servers are those of `BROKERLAB_TEST_KAFKA` and `BROKERLAB_TEST_AMQP`, as `scripts/brokers` sets them up: RabbitMQ's management
//! answers on the port after its own. Leaves out what the drivers themselves are tested for.

mod hard;
mod outage;
mod secret;
#[path = "../../../../brokers/live/tests/rig/server.rs"]
mod server;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One test at a time uses the servers: what is new on them afterwards is then that test's.
static ALONE: Mutex<()> = Mutex::new(());
/// How long a server may take until what was removed is gone from its lists.
const GONE: Duration = Duration::from_secs(20);

/// Both servers, for one test.
pub(super) struct Servers {
    pub(super) kafka: String,
    pub(super) amqp: String,
    before: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

impl Servers {
    /// None, and said by name, where one is not there.
    pub(super) fn find() -> Option<Self> {
        let kafka = server::server("kafka", "BROKERLAB_TEST_KAFKA")?;
        let amqp = server::server("amqp", "BROKERLAB_TEST_AMQP")?;
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = names(&kafka, &amqp);
        Some(Self { kafka, amqp, before, _alone: alone })
    }

    /// Where RabbitMQ's management answers.
    pub(super) fn management(&self) -> String {
        management(&self.amqp)
    }

    /// Asserts that nothing is there that was not there before.
    pub(super) fn are_clean(&self) {
        let until = Instant::now() + GONE;
        loop {
            let now = names(&self.kafka, &self.amqp);
            let new: Vec<_> = now.into_iter().filter(|name| !self.before.contains(name)).collect();
            if new.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left on the servers: {new:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Host and port of a URL.
fn address(url: &str) -> &str {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    place.split(['/', '?', ',']).next().unwrap_or(place)
}

fn management(amqp: &str) -> String {
    let (host, port) = address(amqp).rsplit_once(':').expect("host and port");
    format!("{host}:{}", port.parse::<u16>().expect("a port") + 1)
}

/// Topics, groups, queues and exchanges that a run of brokerlab made.
fn names(kafka: &str, amqp: &str) -> Vec<String> {
    // Metadata 4 of all topics, and ListGroups 3: requests whose headers and bodies are of fixed length.
    let topics = asked(kafka, &[0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    let groups = asked(kafka, &[0, 16, 0, 2, 0, 0, 0, 2, 0xff, 0xff]);
    let mut names = begun(&topics);
    names.extend(begun(&groups));
    for list in ["queues", "exchanges"] {
        names.extend(begun(http(&management(amqp), "GET", &format!("/api/{list}"), "").as_bytes()));
    }
    names.sort();
    names.dedup();
    names
}

/// A request to Kafka without its length, and the answer without its.
fn asked(kafka: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address(kafka)).expect("Kafka answers");
    stream.write_all(&(request.len() as u32).to_be_bytes()).expect("it listens");
    stream.write_all(request).expect("it listens");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("the whole answer");
    answer
}

/// Whatever begins like a name of a run's.
fn begun(text: &[u8]) -> Vec<String> {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let starts = (0..text.len()).filter(|&at| text[at..].starts_with(b"brokerlab-"));
    starts
        .map(|at| {
            let name: Vec<u8> = text[at..].iter().copied().take_while(|byte| is_of_name(byte)).collect();
            String::from_utf8_lossy(&name).into_owned()
        })
        .collect()
}

/// A request to RabbitMQ's management as `guest`, and the answer as it came.
fn http(management: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(management).expect("RabbitMQ's management answers");
    let request = format!(
        "{method} {path} HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/json\r\nContent-Length: \
         {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    answer
}
