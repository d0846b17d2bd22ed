//! The process behind a loopback connection: one backend, one thread over its connections and workers, and a thread for each worker that
//! may block in a device.
//!
//! It is a host without load or measurement: it brings time, waits in one `poll(2)`, and runs what is due. Its connections are one
//! descriptor there, an epoll's, and only those that are ready are read. Leaves out clocks, which its caller has, and processes.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brokerlab_model::direct::Answer;
use brokerlab_model::{Completions, Contract, Span, Time, WaitOn, Worker};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::caller::longest_body;
use super::calls::Service;
use super::connection::{Connection, Served};
use super::pipe::Pipe;
use super::ready::Ready;
use super::wire;
use crate::backends::Embedded;
use crate::store::StoreError;
use crate::url::{BackendUrl, Kind};

/// Connections that may wait to be accepted: a host connects its clients in one go.
const BACKLOG: i32 = 4_096;
/// No sleep is longer, so that a worker's thread sees the end.
const LONGEST_SLEEP: Span = Span::from_millis(20);
/// What the engine did not take is offered again after this.
const ASK_AGAIN: Span = Span::from_millis(1);

/// Why a server did not serve until its end, or lost something by then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not wait.
    #[error("can't wait for connections: {0}")]
    Wait(Arc<io::Error>),
    /// Its backend has stopped on the way: its clients were told, and what was stored before could still be read.
    #[error(transparent)]
    Stopped(#[from] StoreError),
}

/// A backend behind loopback connections.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    broker: Box<dyn Embedded>,
    workers: Vec<Box<dyn Worker>>,
    /// By their numbers.
    connections: Vec<Option<Connection>>,
    ready: Ready,
    /// The numbers of those that are ready, in the turn in hand.
    turns: Vec<u32>,
    reads: u64,
    /// Numbers whose connections have ended, with everything that was asked there: they are given out again.
    free: Vec<u32>,
    served: Served,
    scratch: Completions,
}

impl Server {
    /// Listens on an ephemeral port of this machine, and of no other, for clients of `broker`, which was opened as `url` under
    /// `contract`.
    pub fn bind(url: &BackendUrl, contract: &Contract, mut broker: Box<dyn Embedded>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let message_bytes = broker.capabilities().max_message_bytes;
        let service = (url.kind() == Kind::Direct).then(|| {
            let options = url.options.direct;
            Service {
                body: longest_body(message_bytes),
                accepts: options.answer == Answer::Stored,
                retry_after: options.breaker.open_for.max(options.max_backoff),
            }
        });
        Ok(Self {
            listener,
            workers: broker.workers(),
            broker,
            connections: Vec::new(),
            ready: Ready::new()?,
            turns: Vec::new(),
            reads: 0,
            free: Vec::new(),
            served: Served {
                url: url.to_string(),
                contract: contract.to_string(),
                longest: wire::longest(message_bytes),
                service,
            },
            scratch: Completions::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` ends. `clock` is the server's time. A backend that stops on the way is served on, so that its clients hear of
    /// it and read what is there, and is an error at the end.
    pub fn run(mut self, clock: &(dyn Fn() -> Time + Sync), stop: BorrowedFd<'_>) -> Result<(), ServeError> {
        let (blocking, quick): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.workers).into_iter().partition(|worker| worker.blocks());
        self.workers = quick;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in blocking {
                let over = &over;
                scope.spawn(move || run_blocking(worker, clock, over));
            }
            let ended = self.serve(clock, stop);
            over.store(true, Ordering::Release);
            ended
        })
        .map_err(|error| ServeError::Wait(Arc::new(error)))?;
        self.broker.end().map_or(Ok(()), |error| Err(error.into()))
    }

    fn serve(&mut self, clock: &dyn Fn() -> Time, stop: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            let moved = self.turn(clock);
            let until = if moved { Time::ZERO } else { self.next_deadline(clock()) };
            if self.sleep(until.since(clock()).min(LONGEST_SLEEP), stop)? {
                return Ok(());
            }
        }
    }

    /// One pass over everything that is there to be done, without waiting. Returns whether anything was.
    pub fn turn(&mut self, clock: &dyn Fn() -> Time) -> bool {
        let now = clock();
        let mut moved = self.accept(now) | self.receive(now);
        // What has come is taken no earlier than it came: a message that is held back would else come too early.
        let now = clock();
        let Self { connections, ready, broker, workers, scratch, free, .. } = self;
        for connection in connections.iter_mut().flatten() {
            moved |= connection.submit(now, scratch);
            moved |= connection.answer(now, scratch);
        }
        for worker in workers {
            moved |= worker.run(now);
        }
        let stopped = broker.stopped();
        for place in connections.iter_mut() {
            let Some(connection) = place else { continue };
            moved |= connection.answer(now, scratch);
            if let Some(why) = &stopped {
                connection.stop(why);
            }
            connection.write(now);
            connection.watch(now, ready);
            if connection.is_over() {
                free.push(connection.number());
                *place = None;
            }
        }
        moved
    }

    /// Reads what has come, and does it as far as there is room.
    fn receive(&mut self, now: Time) -> bool {
        let mut turns = std::mem::take(&mut self.turns);
        self.ready.take(&mut turns);
        let waiting = self.connections.iter().flatten().filter(|connection| connection.has_input());
        turns.extend(waiting.map(Connection::number));
        let mut moved = false;
        for number in turns.drain(..) {
            // One that was in both lists finds nothing the second time.
            if let Some(Some(connection)) = self.connections.get_mut(number as usize) {
                self.reads += 1;
                moved |= connection.receive(now, &mut *self.broker, &self.served);
            }
        }
        self.turns = turns;
        moved
    }

    fn accept(&mut self, now: Time) -> bool {
        let mut any = false;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // One that is gone already needs nothing.
                    if let Ok(pipe) = Pipe::accepted(stream) {
                        self.welcome(now, pipe);
                    }
                    any = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Out of descriptors for now, or nobody there.
                Err(_) => return any,
            }
        }
    }

    /// A new connection, under the number of one that is over if there is one.
    fn welcome(&mut self, now: Time, pipe: Pipe) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() as u32 - 1
        });
        let mut connection = Connection::new(now, pipe, number);
        connection.watch(now, &self.ready);
        self.connections[number as usize] = Some(connection);
    }

    /// How many numbers its clients have had: as many as were connected at once.
    pub fn numbers(&self) -> u32 {
        self.connections.len() as u32
    }

    /// How often it has read from a connection: only where something was.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// When there is something to do that no descriptor tells of.
    pub fn next_deadline(&self, now: Time) -> Time {
        let of_workers = self.workers.iter().filter_map(|worker| worker.next_deadline());
        let connections = || self.connections.iter().flatten();
        let of_connections = connections().filter_map(Connection::next_deadline);
        let held = connections().any(Connection::is_held).then(|| now + ASK_AGAIN);
        of_workers.chain(of_connections).chain(held).min().unwrap_or(Time::NEVER)
    }

    /// Sleeps until a descriptor is ready; returns whether `stop` has ended.
    fn sleep(&self, at_most: Span, stop: BorrowedFd<'_>) -> io::Result<bool> {
        let mut descriptors = vec![
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.ready, PollFlags::IN),
        ];
        let of_workers = self.workers.iter().map(|worker| worker.wait_on());
        let engine = self.connections.iter().flatten().find_map(Connection::engine);
        for wait_on in of_workers.chain(engine) {
            match wait_on {
                WaitOn::Nothing => {}
                WaitOn::Read(fd) => descriptors.push(PollFd::from_borrowed_fd(fd, PollFlags::IN)),
                WaitOn::ReadWrite(fd) => {
                    descriptors.push(PollFd::from_borrowed_fd(fd, PollFlags::IN | PollFlags::OUT));
                }
            }
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: at_most.0.cast_signed() };
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(!descriptors[0].revents().is_empty() && ended(stop))
    }
}

/// Whether nothing more comes: whatever is written there means nothing.
fn ended(stop: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 512];
    match rustix::io::read(stop, &mut buffer) {
        Ok(0) => true,
        Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => false,
        Err(_) => true,
    }
}

/// A worker that may block in a device, until the server ends.
fn run_blocking(mut worker: Box<dyn Worker>, clock: &(dyn Fn() -> Time + Sync), over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        if worker.run(clock()) {
            continue;
        }
        let until = worker.next_deadline().unwrap_or(Time::NEVER);
        let left = until.since(clock()).min(LONGEST_SLEEP);
        let mut descriptors = match worker.wait_on() {
            WaitOn::Nothing => Vec::new(),
            WaitOn::Read(fd) | WaitOn::ReadWrite(fd) => vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)],
        };
        // An interrupted sleep is a short one.
        let _ = poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: left.0.cast_signed() }));
    }
}
