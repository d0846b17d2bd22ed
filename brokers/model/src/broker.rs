//! The shared trait: a messaging system under test, its clients, and the engine work that a host schedules beside them.
//!
//! Leaves out every clock and every wait: time is an argument, and only the host sleeps.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use crate::batch::{Accepted, Batch, ChannelId};
use crate::capabilities::{Capabilities, Settings, Tally, Unsupported};
use crate::completion::Completions;
use crate::contract::Contract;
use crate::time::Time;

/// A messaging system under test: in this process, across the network, or simulated. It was made for one contract.
pub trait Broker: Debug {
    /// What it is and can do.
    fn capabilities(&self) -> &Capabilities;

    /// The settings by which this backend keeps `contract`, or what is missing. Never weaker in silence.
    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported>;

    /// A new client. Never blocks: a network client connects while it is polled, so that what it can't know here (no such channel,
    /// no such group) it may also answer by refusing the first operation that needs it.
    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError>;

    /// Engine work that the host schedules beside the clients; none for a broker across the network. Asked once, after the
    /// last `connect` or before, and run until the run ends.
    fn workers(&mut self) -> Vec<Box<dyn Worker>>;

    /// What the engine has done so far, in exact counts; all zero where it can't be known (a broker across the network).
    fn work(&self) -> WorkCounts;

    /// What it has counted of its own so far, in its own words. Nothing by default.
    fn tallies(&self) -> Vec<Tally> {
        Vec::new()
    }

    /// The limits that are set by which it may drop messages that nobody is told of, neither in [`GivenUp`](crate::completion::GivenUp) nor
    /// by an outcome: each as `name=value`, in its own words. None by default.
    fn untold_limits(&self) -> Vec<String> {
        Vec::new()
    }

    /// Why it takes nothing more and never will, with the remedy: its storage has failed. Never blocks; a broker across the network may
    /// know of it a little later. None by default.
    fn stopped(&self) -> Option<String> {
        None
    }
}

/// One producer connection, one member of a consumer group, or the administrator.
pub trait Client: Debug + Send {
    /// Takes a prefix of the batch and advances it; what it does not take stays due, in the host. Never blocks.
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted;

    /// Appends what has come back since the last poll. Never blocks. Columns of one poll have no order among each other: a host
    /// handles outcomes before events. After a disconnect open grants end as unknown or failed, and the host grants again.
    fn poll(&mut self, now: Time, completions: &mut Completions);

    /// When the client wants to be polled at the latest, whatever its descriptor says. O(1). A time that has passed, such as
    /// `Time::ZERO`, means at once: something is ready that no descriptor shows.
    fn next_deadline(&self) -> Option<Time>;

    /// What this client's refusals, failures and lost lanes were about, as far as their codes do not say it: each once, the oldest
    /// first, a few at most. Asked when something has gone wrong, and at the end.
    fn reasons(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the host may sleep on, until it polls: it is asked before each sleep. `Nothing` without a deadline means that polling would
    /// bring nothing until the next submit.
    fn wait_on(&self) -> WaitOn<'_>;

    /// Whether what comes in now comes in small pieces that need no quick answer, so that the host may let some of them gather where that
    /// changes nothing that it measures.
    fn comes_in_pieces(&self) -> bool {
        false
    }
}

/// Engine work beside the clients: deadlines, group commit.
pub trait Worker: Debug + Send {
    /// Does what is due; returns whether it did anything.
    fn run(&mut self, now: Time) -> bool;

    /// When it wants to run at the latest. O(1).
    fn next_deadline(&self) -> Option<Time>;

    /// What the host may sleep on, until it runs: it is asked before each sleep.
    fn wait_on(&self) -> WaitOn<'_>;

    /// Whether `run` may block in a device. The host gives such a worker a thread of its own, so that a slow flush is
    /// no generator's lateness.
    fn blocks(&self) -> bool {
        false
    }
}

/// What a sleeping host listens to for a client or worker.
#[derive(Clone, Copy, Debug)]
pub enum WaitOn<'a> {
    /// Nothing but its deadline.
    Nothing,
    /// Until the descriptor can be read. Clients with the same placement may share one.
    Read(BorrowedFd<'a>),
    /// Until the descriptor can be read or written.
    ReadWrite(BorrowedFd<'a>),
}

/// What kind of client is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes and flushes.
    Producer,
    /// A member of a consumer group that reads these channels: is granted, settles, seeks.
    Member {
        /// The group's name, as in the channels' specifications.
        group: String,
        /// What it reads.
        channels: Vec<ChannelId>,
    },
    /// Creates, deletes, describes.
    Administrator,
}

/// A client to be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// The host's number for it, unique in the run.
    pub number: u32,
    /// What it does.
    pub role: Role,
    /// Which loop drives it: clients and workers of one placement are never touched by two threads at once.
    pub placement: u32,
}

/// Why a client could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No such channel.
    #[error("channel {} does not exist; the administrator creates it first", .0.0)]
    NoSuchChannel(ChannelId),
    /// The channel has no group of that name.
    #[error("no group `{0}` is bound to the channel; name it when the channel is created")]
    NoSuchGroup(String),
    /// The number is taken.
    #[error("client number {0} is connected already")]
    NumberTaken(u32),
    /// The system refused.
    #[error("{0}")]
    System(String),
}

/// Exact counts of an engine's work. They are the same on every machine for the same commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkCounts {
    /// Bytes handed to the operating system to be written.
    pub bytes_written: u64,
    /// Bytes of zeroes by which new files were filled ahead of those, and not counted there. Once a file is used again there are none.
    #[serde(default)]
    pub bytes_filled: u64,
    /// Calls that wrote them.
    pub write_calls: u64,
    /// Bytes read back from files.
    pub bytes_read: u64,
    /// Calls that read them.
    pub read_calls: u64,
    /// Flushes to the device.
    pub fsyncs: u64,
    /// Times that a message's payload was copied inside the engine.
    pub payload_copies: u64,
    /// Requests to the engine that waited for an answer: publish batches, settle batches, grants.
    pub round_trips: u64,
}

impl WorkCounts {
    /// The counts since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            bytes_written: self.bytes_written - earlier.bytes_written,
            bytes_filled: self.bytes_filled - earlier.bytes_filled,
            write_calls: self.write_calls - earlier.write_calls,
            bytes_read: self.bytes_read - earlier.bytes_read,
            read_calls: self.read_calls - earlier.read_calls,
            fsyncs: self.fsyncs - earlier.fsyncs,
            payload_copies: self.payload_copies - earlier.payload_copies,
            round_trips: self.round_trips - earlier.round_trips,
        }
    }
}
