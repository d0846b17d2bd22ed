//! Any backend of this crate behind a loopback socket, in a process of its own: one server and one client for all of them.
//!
//! The engine at the other end is the same as in process, and nothing of a model is written twice: a client's batches go over a
//! connection of its own in frames ([`wire`]), a [`Server`] hands them to the engine's client, and what comes back goes the same way. So
//! rows of a comparison stand behind the same kind of hop, and an engine's CPU and memory are those of its process.
//!
//! Callers of `direct` speak HTTP/1.1 to it, a POST a message, kept alive and pipelined ([`wire::http`], [`Caller`]). Its receivers exchange
//! frames: they take requests from the service as the clients of every other backend do, and nobody calls them.
//!
//! What the hop adds: two system calls and a copy on each side for each batch, a wake-up of the other process, and a window of 1,024
//! publishes or 1 MiB that one client may have unanswered. A member's signs of life come from its own process, three in the span of a session
//! when it is polled: one that hangs loses what it holds when its session is over, and one whose connection ends has left. Leaves out who
//! starts the other process, and reconnecting: what was under way when a connection ends is unknown, and a host that wants to go on makes
//! another broker.

mod caller;
mod calls;
mod client;
mod connection;
mod pipe;
mod ready;
mod registration;
mod server;
pub mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brokerlab_model::direct::Overflow;
use brokerlab_model::{
    Broker, Capabilities, Client, ClientSpec, ConnectError, Contract, Heartbeat, Role, Settings, Span, Tally, Time,
    Unsupported, WorkCounts, Worker,
};

pub use caller::Caller;
pub use client::LoopbackClient;
pub use server::{ServeError, Server};

use crate::backends;
use crate::engine::bytes_text;
use crate::url::{BackendUrl, Kind};
use pipe::Pipe;
use registration::{Number, Numbers, Registration, Stopped};
use wire::http::Meant;
use wire::{Asker, LENGTH, Reply, put_counting, put_hello, put_tallying};

/// So long the server may take to say what its engine has done.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The answer to a hello or a question for counts is no longer.
const ANSWER_BYTES: usize = 64 << 10;

/// A backend in another process, by the address at which its [`Server`] listens.
#[derive(Debug)]
pub struct LoopbackBroker {
    address: SocketAddr,
    url: BackendUrl,
    contract: Contract,
    capabilities: Capabilities,
    /// How long a member may be silent.
    session: Option<Span>,
    taken: Numbers,
    counting: Mutex<Counting>,
    stopped: Stopped,
}

/// A connection that only counts, and what it was told last.
#[derive(Debug, Default)]
struct Counting {
    pipe: Option<Pipe>,
    known: WorkCounts,
    tallies: Vec<Tally>,
}

impl LoopbackBroker {
    /// The backend `url` under `contract`, which is served at `address`. Nothing is sent yet.
    pub fn new(url: &BackendUrl, contract: &Contract, address: SocketAddr) -> Result<Self, Unsupported> {
        Ok(Self {
            address,
            url: url.clone(),
            contract: *contract,
            capabilities: backends::capabilities(url, contract)?,
            session: backends::session_timeout(url, *contract)?,
            taken: Numbers::default(),
            counting: Mutex::default(),
            stopped: Stopped::default(),
        })
    }

    /// Asks for counts by the question that `put` writes; none when nobody answers in time.
    fn ask(&self, counting: &mut Counting, put: fn(&mut Vec<u8>)) -> Option<Reply> {
        let reply = self.exchange(counting, put);
        if reply.is_none() {
            counting.pipe = None;
        }
        reply
    }

    fn exchange(&self, counting: &mut Counting, put: fn(&mut Vec<u8>)) -> Option<Reply> {
        let mut frames = 1;
        if counting.pipe.is_none() {
            let mut pipe = Pipe::connect(self.address).ok()?;
            put_hello(pipe.out(), &Asker::Counter, &self.url.to_string(), &self.contract.to_string());
            counting.pipe = Some(pipe);
            // The welcome comes first.
            frames = 2;
        }
        let pipe = counting.pipe.as_mut()?;
        put(pipe.out());
        let mut lengths = Vec::new();
        let whole = |input: &[u8]| {
            lengths.clear();
            let mut rest = input;
            while let Ok(Some(len)) = wire::whole(rest, ANSWER_BYTES) {
                lengths.push(len);
                rest = &rest[len..];
            }
            lengths.len() >= frames
        };
        pipe.exchange(ANSWER_LIMIT, whole).ok()?;
        let (last, before) = lengths.split_last()?;
        let begin: usize = before.iter().sum();
        let reply = wire::read_reply(&pipe.input()[begin + LENGTH..begin + last]).ok();
        pipe.take(begin + last);
        reply
    }

    /// A client that calls the service by HTTP.
    fn call(&self, number: Number) -> std::io::Result<Caller> {
        let (url, contract) = (self.url.to_string(), self.contract.to_string());
        let meant = Meant { backend: url.as_bytes(), contract: contract.as_bytes() };
        let options = self.url.options.direct;
        // A caller who is to be held back waits for as long as it takes.
        let timeout = (options.overflow == Overflow::Refuse).then_some(options.timeout);
        Caller::connect(self.address, meant, self.capabilities.max_message_bytes, timeout, number)
    }
}

/// Adds what the hop is to the settings by which a contract is kept.
pub fn add_hop(settings: &mut Settings, kind: Kind) {
    let hop = "loopback: a process of its own, a TCP connection for each client";
    let http = if kind == Kind::Direct { "; callers speak HTTP/1.1" } else { "" };
    settings.add("transport", format!("{hop}{http}"), "as asked");
    settings.add(
        "window",
        format!("{} publishes or {} unanswered on a connection", client::WINDOW, bytes_text(client::WINDOW_BYTES)),
        "the transport's bound; then submit is blocked",
    );
}

impl Broker for LoopbackBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        let mut settings = backends::honour(&self.url, contract)?;
        add_hop(&mut settings, self.url.kind());
        Ok(settings)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        let number = Number::take(client.number, &self.taken).ok_or(ConnectError::NumberTaken(client.number))?;
        let failed = |error| ConnectError::System(format!("{}: {error}", self.address));
        if self.url.kind() == Kind::Direct && client.role == Role::Producer {
            // A service is called; everything else of it is as of every backend.
            return Ok(Box::new(self.call(number).map_err(failed)?));
        }
        let (url, contract) = (self.url.to_string(), self.contract.to_string());
        let asker = Asker::Client(client.role.clone());
        let registration = Registration { _number: number, stopped: Arc::clone(&self.stopped) };
        let session = self.session.filter(|_| matches!(client.role, Role::Member { .. }));
        let life = (registration, Heartbeat::within(session, now));
        let bytes = self.capabilities.max_message_bytes;
        let connected = LoopbackClient::connect(self.address, &asker, (&url, &contract), bytes, life);
        Ok(Box::new(connected.map_err(failed)?))
    }

    /// None: the engine's are in its process.
    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        Vec::new()
    }

    /// Asks the process, outside of any measured time; what it said last where it does not answer.
    fn work(&self) -> WorkCounts {
        let mut counting = self.counting.lock().expect("nobody panics while counts are asked for");
        if let Some(Reply::Counts(counts)) = self.ask(&mut counting, put_counting) {
            counting.known = counts;
        }
        counting.known
    }

    /// Likewise.
    fn tallies(&self) -> Vec<Tally> {
        let mut counting = self.counting.lock().expect("nobody panics while counts are asked for");
        if let Some(Reply::Tallies(tallies)) = self.ask(&mut counting, put_tallying) {
            counting.tallies = tallies;
        }
        counting.tallies.clone()
    }

    /// As its clients were told.
    fn stopped(&self) -> Option<String> {
        self.stopped.get().cloned()
    }
}
