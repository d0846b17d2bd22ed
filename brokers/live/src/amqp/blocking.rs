//! Blocking steps on a connection, each within a stated time: for examining, opening and cleaning up, never during a run.
//!
//! Leaves out what the steps are for.

use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;

use brokerlab_model::{Span, Time, WaitOn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::codec::{Frame, decode};
use super::method::{self, Incoming};
use super::wire::{Login, Lost, PATIENCE, Server, Wire, channel_refusal};
use crate::open::{TIMEOUT, Trouble};
use crate::tls::{Security, Target, is_alert, told};
use crate::url::Host;

/// As long one wait in `poll(2)` lasts. Time is counted in these, so that no clock is read.
const SLICE: Span = Span::from_millis(20);

/// A queue is there, and another connection's own.
const RESOURCE_LOCKED: u16 = 405;

/// The addresses of a host's name.
pub(super) fn addresses(host: &Host, security: Option<&Arc<Security>>) -> Result<Vec<Target>, Trouble> {
    let found = (host.name.as_str(), host.port).to_socket_addrs();
    let found = found.map_err(|error| Trouble::NoAddress(error.to_string()))?;
    let found: Vec<Target> =
        found.map(|address| Target { address, host: host.name.clone(), security: security.map(Arc::clone) }).collect();
    if found.is_empty() { Err(Trouble::NoAddress("the resolver knows none".to_owned())) } else { Ok(found) }
}

/// An open channel on which one waits for every answer.
#[derive(Debug)]
pub(super) struct Blocking {
    wire: Wire,
    /// How long was waited so far; the connection's clock.
    now: Time,
    /// The name of the queue that was declared last.
    queue: String,
    /// The code of the last refusal.
    refused: u16,
}

impl Blocking {
    /// Connects to the first of these that answers and logs in.
    pub(super) fn connect(to: &[Target], login: &Login) -> Result<Self, Trouble> {
        let mut last = Trouble::Unreachable("no address".to_owned());
        for address in to {
            match Self::connect_one(address, login) {
                Ok(connected) => return Ok(connected),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    fn connect_one(to: &Target, login: &Login) -> Result<Self, Trouble> {
        let wire = Wire::connect(to, Time::ZERO, login).map_err(unreachable)?;
        let mut blocking = Self { wire, now: Time::ZERO, queue: String::new(), refused: 0 };
        loop {
            let moved = blocking.moved();
            // What came before an error may say why.
            match blocking.wire.handshake(login, false) {
                Ok(true) => return Ok(blocking),
                Ok(false) => (),
                Err(lost) => return Err(blocking.trouble(lost)),
            }
            moved?;
        }
    }

    pub(super) fn server(&self) -> &Server {
        self.wire.server()
    }

    /// Writes, waits a little, and reads.
    fn moved(&mut self) -> Result<(), Trouble> {
        let now = self.now;
        self.wire.push(now).map_err(|error| self.trouble(error.into()))?;
        let (fd, flags) = match self.wire.wait_on() {
            WaitOn::Read(fd) => (fd, PollFlags::IN),
            WaitOn::ReadWrite(fd) => (fd, PollFlags::IN | PollFlags::OUT),
            WaitOn::Nothing => return Ok(()),
        };
        let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
        let slice = Timespec { tv_sec: 0, tv_nsec: SLICE.0.cast_signed() };
        let ready = poll(&mut fds, Some(&slice)).unwrap_or(0);
        // A wait that ended early counts as a part of one, so that a server that trickles does not hold us for ever.
        self.now += if ready == 0 { SLICE } else { Span(SLICE.0 / 20) };
        if self.now >= Time::ZERO + PATIENCE {
            return Err(self.silence());
        }
        let now = self.now;
        self.wire.push(now).and_then(|()| self.wire.pull(now)).map_err(|error| self.trouble(error.into()))
    }

    fn silence(&self) -> Trouble {
        if self.wire.is_reached() {
            Trouble::Silent { asked: self.wire.asked(), seconds: TIMEOUT.as_secs() }
        } else {
            Trouble::Unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))
        }
    }

    fn trouble(&self, lost: Lost) -> Trouble {
        match lost {
            Lost::Trouble(trouble) => trouble,
            Lost::Malformed(_) if is_alert(self.wire.input()) => {
                Trouble::OtherProtocol { protocol: "AMQP 0-9-1", found: "it speaks TLS: write amqps://".to_owned() }
            }
            Lost::Malformed(malformed) => {
                let first = &self.wire.input()[..self.wire.input().len().min(40)];
                let text = String::from_utf8_lossy(first).escape_debug().to_string();
                Trouble::OtherProtocol { protocol: "AMQP 0-9-1", found: format!("{malformed}: \"{text}\"") }
            }
            Lost::Io(error) if !self.wire.is_connected() => unreachable(error),
            Lost::Io(error) if told(&error).is_some() => unreachable(error),
            Lost::Io(_) if self.wire.asked() == "AMQP's protocol header" => Trouble::OtherProtocol {
                protocol: "AMQP 0-9-1",
                found:
                    "it closed the connection without a word; a listener with TLS may do so, for which write amqps://"
                        .to_owned(),
            },
            Lost::Io(error) => Trouble::Server(format!("the connection was lost: {error}")),
        }
    }

    /// Sends one request on the channel and waits for its answer. After a refusal the channel is opened again.
    pub(super) fn ask(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Trouble> {
        self.ask_many(name, |out| {
            write(out);
            1
        })
    }

    /// Sends several requests at once and waits for as many answers as `write` says.
    pub(super) fn ask_many(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>) -> usize) -> Result<(), Trouble> {
        self.now = Time::ZERO;
        let mut due = self.wire.send(write);
        let mut refused = None;
        loop {
            while let Some((frame, length)) =
                decode(self.wire.input(), self.wire.frame_max()).map_err(|error| self.trouble(error.into()))?
            {
                let incoming = match frame {
                    Frame::Method { id, arguments, .. } => {
                        Incoming::read(id, arguments).map_err(|error| self.trouble(error.into()))?
                    }
                    Frame::Header { .. } | Frame::Body(_) | Frame::Heartbeat | Frame::OtherVersion(_) => {
                        Incoming::Other
                    }
                };
                if let Incoming::QueueDeclareOk { name, .. } = &incoming {
                    self.queue = String::from_utf8_lossy(name).into_owned();
                }
                if let Incoming::ChannelClose(reason) = &incoming {
                    self.refused = reason.code;
                }
                let answer = answer(&incoming, name);
                self.wire.take(length);
                match answer {
                    Heard::Reply if due <= 1 => return Ok(()),
                    Heard::Reply => {
                        due -= 1;
                        // The time is that of one answer.
                        self.now = Time::ZERO;
                    }
                    Heard::Refused(trouble) => {
                        refused = Some(trouble);
                        self.wire.send(|out| {
                            method::channel_close_ok(out);
                            method::channel_open(out);
                        });
                    }
                    Heard::Opened => return Err(refused.unwrap_or(Trouble::Server("its channel closed".to_owned()))),
                    Heard::Over(trouble) => return Err(trouble),
                    Heard::Other => (),
                }
            }
            self.moved()?;
        }
    }

    /// Whether the other's server is of this one's cluster. Nodes name a cluster after themselves until somebody names it, so that
    /// the same name proves it and another disproves nothing: a queue of this connection's own, which ends with it, is known to
    /// every node of its cluster, and to nobody else.
    pub(super) fn shares_cluster_with(&mut self, other: &mut Self) -> bool {
        if self.server().cluster == other.server().cluster && !self.server().cluster.is_empty() {
            return true;
        }
        if self.ask("", method::queue_exclusive).is_err() {
            return false;
        }
        let queue = std::mem::take(&mut self.queue);
        let refused = other.ask(&queue, |out| method::queue_passive(out, &queue)).is_err();
        let locked = refused && std::mem::take(&mut other.refused) == RESOURCE_LOCKED;
        // One that can't be removed now goes with the connection.
        drop(self.ask(&queue, |out| method::queue_delete(out, &queue)));
        locked
    }

    /// Ends the connection; its answer is waited for, so that the server has done everything before.
    pub(super) fn close(mut self) {
        self.now = Time::ZERO;
        self.wire.send(method::close);
        // Whatever goes wrong now, the connection is over.
        while self.moved().is_ok() {
            while let Ok(Some((frame, length))) = decode(self.wire.input(), self.wire.frame_max()) {
                if let Frame::Method { id, arguments, .. } = frame
                    && matches!(Incoming::read(id, arguments), Ok(Incoming::CloseOk))
                {
                    return;
                }
                self.wire.take(length);
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what an error is mapped by")]
fn unreachable(error: io::Error) -> Trouble {
    told(&error).unwrap_or_else(|| Trouble::Unreachable(error.to_string()))
}

/// What was heard while one waited.
#[derive(Debug)]
enum Heard {
    Reply,
    Refused(Trouble),
    Opened,
    Over(Trouble),
    Other,
}

fn answer(incoming: &Incoming<'_>, name: &str) -> Heard {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match incoming {
        Incoming::Done | Incoming::QueueDeclareOk { .. } => Heard::Reply,
        Incoming::ChannelClose(reason) => Heard::Refused(channel_refusal(reason.code, &text(reason.text), name)),
        Incoming::ChannelOpenOk => Heard::Opened,
        Incoming::Close(reason) => {
            Heard::Over(Trouble::Server(format!("it closed the connection: {} {}", reason.code, text(reason.text))))
        }
        Incoming::Start { .. }
        | Incoming::Tune { .. }
        | Incoming::OpenOk
        | Incoming::CloseOk
        | Incoming::Blocked
        | Incoming::Unblocked
        | Incoming::SelectOk
        | Incoming::Cancel { .. }
        | Incoming::Return
        | Incoming::Deliver { .. }
        | Incoming::Ack { .. }
        | Incoming::Nack { .. }
        | Incoming::Other => Heard::Other,
    }
}
