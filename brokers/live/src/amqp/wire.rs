//! One AMQP connection with its one channel: from the first byte to an open channel, limits agreed on, heartbeats both ways.
//!
//! Time is an argument, and nothing blocks. Leaves out what goes over the channel, and when a lost connection is made again.

use std::io;

use brokerlab_model::{Span, Time, WaitOn};

use super::codec::{Frame, Malformed, PROTOCOL_HEADER, Value, decode, heartbeat};
use super::method::{self, Incoming};
use crate::open::{TIMEOUT, Trouble};
use crate::socket::Socket;
use crate::tls::Target;

/// As much is read at once.
const READ_AT_ONCE: usize = 256 << 10;
/// How long a connection may take to be made, or an answer to come.
pub(super) const PATIENCE: Span = Span::from_secs(TIMEOUT.as_secs());
/// The smallest frame that both sides must take (specification §4.2.3).
const FRAME_MIN: usize = 4_096;

/// Who logs in, and where to.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) vhost: String,
    /// The largest frame asked for.
    pub(super) frame_max: u32,
    pub(super) heartbeat: Span,
}

impl std::fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("vhost", &self.vhost).finish_non_exhaustive()
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) product: String,
    pub(super) version: String,
    pub(super) cluster: String,
}

impl Server {
    fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// `max_message_size` unless the server is set otherwise, which AMQP does not tell.
    pub(super) fn max_message_size(&self) -> u32 {
        if self.major() >= 4 { 16 << 20 } else { 128 << 20 }
    }

    /// Whether a classic queue flushes what it confirms: before 3.12 its message store and queue index do.
    pub(super) fn classic_flushes(&self) -> bool {
        let minor = self.version.split('.').nth(1).and_then(|number| number.parse().ok()).unwrap_or(u32::MAX);
        (self.major(), minor) < (3, 12)
    }
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum Lost {
    /// The operating system says so.
    Io(io::Error),
    /// It was not AMQP.
    Malformed(Malformed),
    /// The server says so.
    Trouble(Trouble),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Lost {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The protocol header is on its way.
    Greeting,
    /// Logged in; limits come next.
    Tuning,
    /// The virtual host and the channel are being opened.
    Opening,
    Open,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    stage: Stage,
    input: Vec<u8>,
    taken: usize,
    /// Whether the last read found nothing.
    drained: bool,
    /// Whether the last read found less than it had room for, so that the next one would most likely find nothing.
    was_short: bool,
    /// Bytes appended to what goes out, ever.
    appended: u64,
    frame_max: usize,
    heartbeat: Span,
    heard: Time,
    said: Time,
    began: Time,
    server: Server,
}

impl Wire {
    /// Begins to connect.
    pub(super) fn connect(to: &Target, now: Time, login: &Login) -> io::Result<Self> {
        let mut wire = Self {
            socket: Socket::connect(to)?,
            stage: Stage::Greeting,
            input: Vec::with_capacity(READ_AT_ONCE),
            taken: 0,
            drained: true,
            was_short: false,
            appended: 0,
            frame_max: login.frame_max as usize,
            heartbeat: Span::ZERO,
            heard: now,
            said: now,
            began: now,
            server: Server::default(),
        };
        wire.send(|out| out.extend_from_slice(PROTOCOL_HEADER));
        Ok(wire)
    }

    /// Whether the channel is open.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// When it was begun.
    pub(super) fn began(&self) -> Time {
        self.began
    }

    /// Whether a connection stands, with TLS its handshake included.
    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_connected()
    }

    /// Whether a TCP connection stands.
    pub(super) fn is_reached(&self) -> bool {
        self.socket.is_reached()
    }

    /// What was waited for when it stays silent.
    pub(super) fn asked(&self) -> &'static str {
        match self.stage {
            Stage::Greeting if self.is_reached() && !self.is_connected() => "the TLS handshake",
            Stage::Greeting => "AMQP's protocol header",
            Stage::Tuning => "the login",
            Stage::Opening => "opening the virtual host",
            Stage::Open => "a request",
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The largest frame agreed on, its overhead included.
    pub(super) fn frame_max(&self) -> usize {
        self.frame_max
    }

    /// Appends to what goes out; [`push`](Self::push) writes it.
    pub(super) fn send<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let out = self.socket.out();
        let before = out.len();
        let result = write(out);
        self.appended += (out.len() - before) as u64;
        result
    }

    /// How many bytes were appended so far.
    pub(super) fn appended(&self) -> u64 {
        self.appended
    }

    /// How many bytes the kernel took so far.
    pub(super) fn written(&self) -> u64 {
        self.appended - self.socket.unwritten() as u64
    }

    /// How many bytes may have left so far, in part at the least.
    pub(super) fn begun(&self) -> u64 {
        self.appended - self.socket.untouched() as u64
    }

    /// How many bytes wait to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.socket.unwritten()
    }

    /// Writes what the kernel takes.
    pub(super) fn push(&mut self, now: Time) -> io::Result<()> {
        let before = self.socket.unwritten();
        self.socket.push()?;
        if self.socket.unwritten() < before {
            self.said = now;
        }
        Ok(())
    }

    /// Reads what is there, but not twice in a row where the first time had all: half of all reads found nothing, and whoever sleeps is
    /// told by the descriptor. What came before an error can still be had by [`input`](Self::input).
    pub(super) fn pull(&mut self, now: Time) -> io::Result<()> {
        if !self.socket.is_connected() || std::mem::take(&mut self.was_short) {
            return Ok(());
        }
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        self.input.reserve(READ_AT_ONCE.saturating_sub(self.input.len()).max(READ_AT_ONCE / 4));
        let room = self.input.capacity() - self.input.len();
        let read = self.socket.receive(&mut self.input)?;
        self.drained = read == 0;
        self.was_short = read > 0 && read < room;
        if read > 0 {
            self.heard = now;
        }
        Ok(())
    }

    /// Whether the last look found nothing to read.
    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// What came in and was not taken.
    pub(super) fn input(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// Takes the first `bytes` of the input.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        debug_assert!(self.taken <= self.input.len(), "took more than there was");
    }

    /// Goes on with logging in and opening as far as the input goes. Returns whether the channel is open.
    pub(super) fn handshake(&mut self, login: &Login, confirms: bool) -> Result<bool, Lost> {
        while !self.is_open() {
            let Some(step) = self.step()? else { return Ok(false) };
            self.advance(&step, login, confirms)?;
        }
        Ok(true)
    }

    /// The next method of the handshake, owned.
    fn step(&mut self) -> Result<Option<Step>, Lost> {
        // Before limits are agreed on, what comes may not be larger than what was asked for.
        let Some((frame, length)) = decode(self.input(), self.frame_max.max(FRAME_MIN))? else { return Ok(None) };
        let step = match frame {
            Frame::OtherVersion([_, major, minor, revision]) => {
                Step::OtherVersion(format!("it offers AMQP {major}.{minor}.{revision}"))
            }
            Frame::Method { id, arguments, .. } => Step::read(Incoming::read(id, arguments)?),
            Frame::Header { .. } | Frame::Body(_) | Frame::Heartbeat => Step::Other,
        };
        self.take(length);
        Ok(Some(step))
    }

    fn advance(&mut self, step: &Step, login: &Login, confirms: bool) -> Result<(), Lost> {
        match (step, self.stage) {
            (Step::OtherVersion(found), _) => {
                return Err(Lost::Trouble(Trouble::OtherProtocol { protocol: "AMQP 0-9-1", found: found.clone() }));
            }
            (Step::Close { code, text }, stage) => return Err(Lost::Trouble(refusal(*code, text, stage))),
            (Step::Start { server, plain }, Stage::Greeting) => {
                self.server = server.clone();
                if !plain {
                    let text = "it does not take SASL PLAIN".to_owned();
                    return Err(Lost::Trouble(Trouble::Login(text)));
                }
                self.send(|out| method::start_ok(out, &login.user, &login.password));
                self.stage = Stage::Tuning;
            }
            (Step::Tune { frame_max, heartbeat }, Stage::Tuning) => {
                let offered = if *frame_max == 0 { u32::MAX } else { *frame_max };
                self.frame_max = offered.min(login.frame_max) as usize;
                let own = u16::try_from(login.heartbeat.0 / 1_000_000_000).unwrap_or(u16::MAX);
                // As RabbitMQ's own clients do: the smaller one, and zero only where both say so or the URL asks for none.
                let agreed = if own == 0 || *heartbeat == 0 { own } else { own.min(*heartbeat) };
                self.heartbeat = Span::from_secs(agreed.into());
                let frame_max = self.frame_max as u32;
                self.send(|out| {
                    method::tune_ok(out, frame_max, agreed);
                    method::open(out, &login.vhost);
                    method::channel_open(out);
                    if confirms {
                        method::confirm_select(out);
                    }
                });
                self.stage = Stage::Opening;
            }
            (Step::ChannelOpen, Stage::Opening) if !confirms => self.stage = Stage::Open,
            (Step::Selected, Stage::Opening) => self.stage = Stage::Open,
            (Step::Start { .. } | Step::Tune { .. } | Step::ChannelOpen | Step::Selected | Step::Other, _) => (),
        }
        Ok(())
    }

    /// Sends a heartbeat when one is due, and says when the server has been silent for too long or a handshake takes too long.
    pub(super) fn beat(&mut self, now: Time) -> Result<(), Lost> {
        if !self.is_open() {
            let late = now >= self.began + PATIENCE;
            let silent = Trouble::Silent { asked: self.asked(), seconds: TIMEOUT.as_secs() };
            return if late { Err(Lost::Trouble(silent)) } else { Ok(()) };
        }
        if self.heartbeat == Span::ZERO {
            return Ok(());
        }
        if now >= self.heard + self.heartbeat + self.heartbeat {
            let seconds = 2 * self.heartbeat.0 / 1_000_000_000;
            return Err(Lost::Trouble(Trouble::Silent { asked: "its heartbeats", seconds }));
        }
        if now >= self.said + Span(self.heartbeat.0 / 2) {
            // One that can't be written at once is one of what waits; a second would say no more.
            if self.unwritten() == 0 {
                self.send(heartbeat);
            }
            self.said = now;
        }
        Ok(())
    }

    /// When [`beat`](Self::beat) wants to be called at the latest.
    pub(super) fn next_beat(&self) -> Option<Time> {
        if !self.is_open() {
            return Some(self.began + PATIENCE);
        }
        let half = Span(self.heartbeat.0 / 2);
        (self.heartbeat > Span::ZERO).then(|| (self.said + half).min(self.heard + self.heartbeat + self.heartbeat))
    }

    /// What the host may sleep on.
    pub(super) fn wait_on(&self) -> WaitOn<'_> {
        self.socket.wait_on()
    }
}

/// A step of the handshake.
#[derive(Debug)]
enum Step {
    Start { server: Server, plain: bool },
    Tune { frame_max: u32, heartbeat: u16 },
    ChannelOpen,
    Selected,
    Close { code: u16, text: String },
    OtherVersion(String),
    Other,
}

impl Step {
    fn read(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Start { mechanisms, properties } => {
                let mut server = Server::default();
                for (name, value) in properties {
                    let Value::Text(text) = value else { continue };
                    let text = String::from_utf8_lossy(text).into_owned();
                    match name {
                        b"product" => server.product = text,
                        b"version" => server.version = text,
                        b"cluster_name" => server.cluster = text,
                        _ => (),
                    }
                }
                Self::Start { server, plain: mechanisms.split(|byte| *byte == b' ').any(|name| name == b"PLAIN") }
            }
            Incoming::Tune { frame_max, heartbeat } => Self::Tune { frame_max, heartbeat },
            Incoming::ChannelOpenOk => Self::ChannelOpen,
            Incoming::SelectOk => Self::Selected,
            Incoming::Close(reason) | Incoming::ChannelClose(reason) => {
                Self::Close { code: reason.code, text: String::from_utf8_lossy(reason.text).into_owned() }
            }
            Incoming::OpenOk
            | Incoming::CloseOk
            | Incoming::Blocked
            | Incoming::Unblocked
            | Incoming::QueueDeclareOk { .. }
            | Incoming::Done
            | Incoming::Cancel { .. }
            | Incoming::Return
            | Incoming::Deliver { .. }
            | Incoming::Ack { .. }
            | Incoming::Nack { .. }
            | Incoming::Other => Self::Other,
        }
    }
}

/// What a server's refusal means while a connection is being opened.
fn refusal(code: u16, text: &str, stage: Stage) -> Trouble {
    let text = text.to_owned();
    match (code, stage) {
        (403, Stage::Greeting | Stage::Tuning) => Trouble::Login(text),
        (403 | 530, _) => Trouble::Permission(text),
        (_, _) => Trouble::Server(format!("it closed the connection: {code} {text}")),
    }
}

/// What a server's refusal of something on an open channel means.
pub(super) fn channel_refusal(code: u16, text: &str, name: &str) -> Trouble {
    match code {
        403 => Trouble::Permission(text.to_owned()),
        // RabbitMQ's own words name what was received (wanted here) and what is there.
        406 => Trouble::Differs {
            name: name.to_owned(),
            found: text.to_owned(),
            wanted: "the settings of the URL".to_owned(),
            remedy: "remove it, or use it as it is with --existing",
        },
        _ => Trouble::Server(format!("{code} {text}")),
    }
}
