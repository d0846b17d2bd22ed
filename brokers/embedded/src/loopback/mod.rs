//! Any backend of this crate behind a loopback socket, in a process of its own: one server and one client for all of them.
//!
//! The engine at the other end is the same as in process, and nothing of a model is written twice: a client's batches go over a
//! connection of its own in frames ([`wire`]), a [`Server`] hands them to the engine's client, and what comes back goes the same way. So
//! rows of a comparison stand behind the same kind of hop, and an engine's CPU and memory are those of its process.
//!
//! What the hop adds: two system calls and a copy on each side for each batch, a wake-up of the other process, and a window of 1,024
//! publishes or 1 MiB that one client may have unanswered. As long as a connection stands, the server gives its client's signs of life: a
//! client that hangs keeps what it holds, and one whose connection ends has left. Leaves out who starts the other process, and reconnecting: what was under way
//! when a connection ends is unknown, and a host that wants to go on makes another broker.

mod client;
mod connection;
mod pipe;
mod server;
pub mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use brokerlab_model::{
    Broker, Capabilities, Client, ClientSpec, ConnectError, Contract, Settings, Time, Unsupported, WorkCounts, Worker,
};

pub use client::LoopbackClient;
pub use server::Server;

use crate::backends;
use crate::engine::bytes_text;
use crate::url::BackendUrl;
use pipe::Pipe;
use wire::{Asker, LENGTH, put_counting, put_hello};

/// So long the server may take to say what its engine has done.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The answer to a hello or a question for counts is no longer.
const ANSWER_BYTES: usize = 4_096;

/// A backend in another process, by the address at which its [`Server`] listens.
#[derive(Debug)]
pub struct LoopbackBroker {
    address: SocketAddr,
    url: BackendUrl,
    contract: Contract,
    capabilities: Capabilities,
    taken: BTreeSet<u32>,
    counting: Mutex<Counting>,
}

/// A connection that only counts, and what it was told last.
#[derive(Debug, Default)]
struct Counting {
    pipe: Option<Pipe>,
    known: WorkCounts,
}

impl LoopbackBroker {
    /// The backend `url` under `contract`, which is served at `address`. Nothing is sent yet.
    pub fn new(url: &BackendUrl, contract: &Contract, address: SocketAddr) -> Result<Self, Unsupported> {
        Ok(Self {
            address,
            url: url.clone(),
            contract: *contract,
            capabilities: backends::capabilities(url, contract)?,
            taken: BTreeSet::new(),
            counting: Mutex::default(),
        })
    }

    /// Asks what the engine has done; none when nobody answers in time.
    fn ask(&self, counting: &mut Counting) -> Option<WorkCounts> {
        let mut frames = 1;
        if counting.pipe.is_none() {
            let mut pipe = Pipe::connect(self.address).ok()?;
            put_hello(pipe.out(), &Asker::Counter, &self.url.to_string(), &self.contract.to_string());
            counting.pipe = Some(pipe);
            // The welcome comes first.
            frames = 2;
        }
        let pipe = counting.pipe.as_mut()?;
        put_counting(pipe.out());
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
        let counts = connection::counts_of(&pipe.input()[begin + LENGTH..begin + last]);
        pipe.take(begin + last);
        counts
    }
}

/// Adds what the hop is to the settings by which a contract is kept.
pub fn add_hop(settings: &mut Settings) {
    settings.add("transport", "loopback: a process of its own, a TCP connection for each client", "as asked");
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
        add_hop(&mut settings);
        Ok(settings)
    }

    fn connect(&mut self, _now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        if self.taken.contains(&client.number) {
            return Err(ConnectError::NumberTaken(client.number));
        }
        let (url, contract) = (self.url.to_string(), self.contract.to_string());
        let bytes = self.capabilities.max_message_bytes;
        let connected = LoopbackClient::connect(self.address, &client.role, &url, &contract, bytes)
            .map_err(|error| ConnectError::System(format!("{}: {error}", self.address)))?;
        self.taken.insert(client.number);
        Ok(Box::new(connected))
    }

    /// None: the engine's are in its process.
    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        Vec::new()
    }

    /// Asks the process, outside of any measured time; what it said last where it does not answer.
    fn work(&self) -> WorkCounts {
        let mut counting = self.counting.lock().expect("nobody panics while counts are asked for");
        match self.ask(&mut counting) {
            Some(counts) => counting.known = counts,
            None => counting.pipe = None,
        }
        counting.known
    }
}
