//! A client's connections: requests out, answers in the order of asking, timeouts, reconnecting with backoff.
//!
//! One connection for each broker and purpose, since a broker answers one connection's requests in order and a waiting fetch
//! would hold up everything behind it. Leaves out what is asked and what follows from an answer.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use brokerlab_model::{Event, Span, Time, WaitOn};
use bytes::Bytes;
use kafka_protocol::protocol::Request;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::kind::Kind;
use super::login::Dialog;
use super::shared::Shared;
use super::wire;
use crate::socket::Socket;

/// The room for what comes in, unless a longer answer is on its way.
const INBOX: usize = 32 << 10;
/// So many connections are looked at by one poll; others are at the next.
const AT_ONCE: usize = 16;
/// No answer is longer than this; what claims to be is no answer.
const LONGEST: usize = 1 << 30;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Everything that is answered at once.
    Usual,
    /// Fetches, which wait at the broker.
    Fetch,
}

/// Which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkId {
    pub(super) node: i32,
    pub(super) purpose: Purpose,
}

/// What has come of a request.
#[derive(Debug)]
pub(super) enum Came {
    /// An answer, without its length.
    Answer(Kind, Bytes),
    /// The connection was lost before the answer; `sent` says whether the request may have arrived.
    Lost { kind: Kind, sent: bool },
}

#[derive(Debug)]
struct Asked {
    correlation: i32,
    deadline: Time,
    kind: Kind,
}

#[derive(Debug)]
enum State {
    /// Not connected; the next try is due then.
    Idle(Time),
    /// Being made, until the deadline, or being logged in.
    Opening(Socket, Time, Option<Dialog>),
    Open(Socket),
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    address: SocketAddr,
    state: State,
    /// Whether it is to be there.
    wanted: bool,
    /// Whether it is down against our will.
    broken: bool,
    failures: u32,
    in_flight: VecDeque<Asked>,
    /// Requests that wait for the connection to open.
    held: Vec<Bytes>,
    inbox: Vec<u8>,
    /// Whether the epoll instance tells of room to write.
    tells_room: bool,
}

/// A client's connections.
#[derive(Debug)]
#[allow(clippy::struct_field_names, reason = "what it holds is its name")]
pub(super) struct Links {
    shared: Arc<Shared>,
    epoll: OwnedFd,
    links: Vec<Link>,
    correlation: i32,
    told_disconnected: bool,
    /// Buffers of answers that were handed out, to be used again once nobody holds a slice of them.
    lent: VecDeque<Bytes>,
}

impl Links {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        Ok(Self {
            shared,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            links: Vec::new(),
            correlation: 0,
            told_disconnected: false,
            lent: VecDeque::new(),
        })
    }

    fn at(&self, id: LinkId) -> Option<usize> {
        self.links.iter().position(|link| link.id == id)
    }

    /// How many requests of a connection have no answer yet.
    pub(super) fn in_flight(&self, id: LinkId) -> usize {
        self.at(id).map_or(0, |at| self.links[at].in_flight.len())
    }

    /// Whether the client is cut off from a broker that it needs.
    pub(super) fn is_broken(&self) -> bool {
        self.told_disconnected
    }

    /// Whether requests may be asked of this connection: it is open, or would be tried at once.
    pub(super) fn is_usable(&self, now: Time, id: LinkId) -> bool {
        let usable = |link: &Link| match link.state {
            State::Idle(not_before) => not_before <= now,
            State::Opening(..) | State::Open(_) => true,
        };
        self.at(id).map_or_else(|| self.shared.nodes().contains_key(&id.node), |at| usable(&self.links[at]))
    }

    /// A connection for what every broker can answer: one that is open, else one that may be tried.
    pub(super) fn any(&self, now: Time) -> Option<LinkId> {
        let open =
            self.links.iter().find(|link| link.id.purpose == Purpose::Usual && matches!(link.state, State::Open(_)));
        open.map(|link| link.id).or_else(|| {
            let ids = self.shared.nodes().into_keys().map(|node| LinkId { node, purpose: Purpose::Usual });
            // Those that failed least come first.
            ids.filter(|id| self.is_usable(now, *id))
                .min_by_key(|id| self.at(*id).map_or(0, |at| self.links[at].failures))
        })
    }

    /// The number under which the next request is asked.
    pub(super) fn next_correlation(&mut self) -> i32 {
        self.correlation = self.correlation.wrapping_add(1) & i32::MAX;
        self.correlation
    }

    /// Asks by the codec. False when there is no connection and may be none yet; nothing was asked then.
    pub(super) fn ask<R: Request>(&mut self, now: Time, id: LinkId, request: &R, kind: Kind) -> bool {
        if !self.is_usable(now, id) {
            return false;
        }
        let correlation = self.next_correlation();
        let frame = wire::frame(correlation, &self.shared.options.client_id, request);
        let timeout = self.shared.options.request_timeout;
        self.ask_pieces(now, id, correlation, [frame], timeout, kind);
        true
    }

    /// Asks by pieces of a frame that was written by hand. The connection was found usable.
    pub(super) fn ask_pieces(
        &mut self,
        now: Time,
        id: LinkId,
        correlation: i32,
        pieces: impl IntoIterator<Item = Bytes>,
        timeout: Span,
        kind: Kind,
    ) {
        let at = self.at(id).unwrap_or_else(|| self.add(id));
        let link = &mut self.links[at];
        link.wanted = true;
        link.in_flight.push_back(Asked { correlation, deadline: now + timeout, kind });
        match &mut link.state {
            State::Open(socket) => pieces.into_iter().for_each(|piece| socket.send(piece)),
            State::Idle(_) | State::Opening(..) => link.held.extend(pieces),
        }
    }

    fn add(&mut self, id: LinkId) -> usize {
        let address = self.shared.nodes().get(&id.node).copied();
        let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        self.links.push(Link {
            id,
            address,
            state: State::Idle(Time::ZERO),
            wanted: true,
            broken: false,
            failures: 0,
            in_flight: VecDeque::new(),
            held: Vec::new(),
            inbox: Vec::new(),
            tells_room: true,
        });
        self.links.len() - 1
    }

    /// The brokers may have moved: connections to those that are gone are no longer wanted.
    pub(super) fn follow_nodes(&mut self) {
        let nodes = self.shared.nodes();
        for link in &mut self.links {
            match nodes.get(&link.id.node) {
                Some(address) => link.address = *address,
                None if matches!(link.state, State::Idle(_)) => (link.wanted, link.broken) = (false, false),
                None => {}
            }
        }
    }

    /// Begins connections that are due and writes what waits. To be called after asking.
    pub(super) fn flush(&mut self, now: Time, out: &mut Vec<Came>) {
        for at in 0..self.links.len() {
            self.open_if_due(now, at, out);
            let result = match &mut self.links[at].state {
                State::Open(socket) if socket.wants_write() => socket.push(),
                State::Open(_) | State::Idle(_) | State::Opening(..) => Ok(()),
            };
            match result {
                Ok(()) => self.note_interest(at),
                Err(_) => self.fail(now, at, out),
            }
        }
    }

    fn open_if_due(&mut self, now: Time, at: usize, out: &mut Vec<Came>) {
        let link = &self.links[at];
        if !link.wanted || !matches!(link.state, State::Idle(not_before) if not_before <= now) {
            return;
        }
        match Socket::connect(&self.shared.target(link.address)).and_then(|socket| self.watch(at, socket)) {
            Ok(socket) => {
                let deadline = now + self.shared.options.setup_timeout;
                self.links[at].state = State::Opening(socket, deadline, None);
                self.links[at].tells_room = true;
            }
            Err(_) => self.fail(now, at, out),
        }
    }

    fn watch(&self, at: usize, socket: Socket) -> io::Result<Socket> {
        epoll::add(&self.epoll, socket.wait_on_fd(), EventData::new_u64(at as u64), EventFlags::IN | EventFlags::OUT)?;
        Ok(socket)
    }

    /// Has the epoll instance tell of room to write only while something waits for it.
    fn note_interest(&mut self, at: usize) {
        let link = &mut self.links[at];
        let (socket, needs) = match &link.state {
            State::Open(socket) | State::Opening(socket, ..) => (socket, socket.wants_write()),
            State::Idle(_) => return,
        };
        if needs != link.tells_room {
            let flags = if needs { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let fd = socket.wait_on_fd();
            if epoll::modify(&self.epoll, fd, EventData::new_u64(at as u64), flags).is_ok() {
                link.tells_room = needs;
            }
        }
    }

    /// Goes on with everything that is ready, and appends what came of it.
    pub(super) fn poll(&mut self, now: Time, out: &mut Vec<Came>) {
        let sockets = self.links.iter().filter(|link| !matches!(link.state, State::Idle(_))).count();
        if sockets == 1 {
            if let Some(at) = self.links.iter().position(|link| !matches!(link.state, State::Idle(_))) {
                self.pump(now, at, out);
            }
        } else if sockets > 1 {
            let mut ready = [const { MaybeUninit::uninit() }; AT_ONCE];
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            // An interrupted call tells of nothing, and the next one does.
            if let Ok((events, _)) = epoll::wait(&self.epoll, &mut ready, Some(&none)) {
                for event in events {
                    self.pump(now, event.data.u64() as usize, out);
                }
            }
        }
        for at in 0..self.links.len() {
            let link = &self.links[at];
            let overdue = link.in_flight.front().is_some_and(|asked| asked.deadline <= now)
                || matches!(link.state, State::Opening(_, deadline, _) if deadline <= now);
            if overdue && !matches!(link.state, State::Idle(_)) {
                self.fail(now, at, out);
            } else if overdue {
                // Nobody listens, and what waits for the connection has waited long enough.
                self.give_up_held(at, out);
            }
        }
        self.flush(now, out);
    }

    /// One connection: what can be written is, and what came is read.
    fn pump(&mut self, now: Time, at: usize, out: &mut Vec<Came>) {
        if matches!(self.links[at].state, State::Opening(..)) && self.step_opening(at).is_err() {
            return self.fail(now, at, out);
        }
        if let State::Open(socket) = &mut self.links[at].state
            && (socket.wants_write() && socket.push().is_err() || self.read(at, out).is_err())
        {
            return self.fail(now, at, out);
        }
        self.note_interest(at);
    }

    /// Connects, logs in where that is asked for, and lets the requests go that waited.
    fn step_opening(&mut self, at: usize) -> io::Result<()> {
        let client = &self.shared.options.client_id;
        let link = &mut self.links[at];
        let State::Opening(socket, _, dialog) = &mut link.state else { return Ok(()) };
        socket.push()?;
        if !socket.is_connected() {
            return Ok(());
        }
        if let Some(login) = &self.shared.login {
            if dialog.is_none() {
                let (begun, first) = Dialog::begin(login, client);
                socket.send(first);
                *dialog = Some(begun);
            }
            let dialog = dialog.as_mut().expect("it was begun above");
            loop {
                socket.push()?;
                if dialog.is_over() {
                    break;
                }
                link.inbox.reserve(INBOX);
                if socket.receive(&mut link.inbox)? == 0 {
                    return Ok(());
                }
                while let Some(length) = whole(&link.inbox)? {
                    let frame = Bytes::from(link.inbox.drain(..length).skip(4).collect::<Vec<u8>>());
                    let next = dialog.step(login, client, &frame).map_err(io::Error::other)?;
                    if let Some(piece) = next {
                        socket.send(piece);
                    }
                }
            }
        }
        for piece in link.held.drain(..) {
            socket.send(piece);
        }
        socket.push()?;
        let State::Opening(socket, ..) = std::mem::replace(&mut link.state, State::Idle(Time::NEVER)) else {
            return Ok(());
        };
        link.state = State::Open(socket);
        link.failures = 0;
        link.broken = false;
        Ok(())
    }

    /// Reads until nothing more is there or a whole answer came.
    fn read(&mut self, at: usize, out: &mut Vec<Came>) -> io::Result<()> {
        loop {
            let link = &mut self.links[at];
            let State::Open(socket) = &mut link.state else { return Ok(()) };
            if link.inbox.capacity() == link.inbox.len() {
                link.inbox.reserve(INBOX);
            }
            let room = link.inbox.capacity() - link.inbox.len();
            let read = socket.receive(&mut link.inbox)?;
            if read == 0 {
                return Ok(());
            }
            if whole(&link.inbox)?.is_some() {
                self.hand_out(at, out)?;
                if read < room {
                    return Ok(());
                }
            } else if let Some(length) = expected(&link.inbox)
                && length > link.inbox.capacity()
            {
                self.make_room(at, length);
            } else if read < room {
                return Ok(());
            }
        }
    }

    /// A buffer that holds an answer of this length, used again if there is one that nobody holds any more.
    fn make_room(&mut self, at: usize, length: usize) {
        let free = self.lent.iter().position(Bytes::is_unique);
        let mut buffer = free.and_then(|at| self.lent.remove(at)).map_or_else(Vec::new, |mut bytes| {
            bytes.clear();
            Vec::from(bytes)
        });
        buffer.clear();
        buffer.reserve(length);
        let link = &mut self.links[at];
        buffer.extend_from_slice(&link.inbox);
        link.inbox = buffer;
    }

    /// Hands out every whole answer of a connection's inbox.
    fn hand_out(&mut self, at: usize, out: &mut Vec<Came>) -> io::Result<()> {
        let link = &mut self.links[at];
        let large = link.inbox.len() > INBOX;
        let all = Bytes::from(std::mem::take(&mut link.inbox));
        let mut from = 0;
        while let Some(length) = whole(&all[from..])? {
            let frame = all.slice(from + 4..from + length);
            from += length;
            let correlation = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
            let asked = link.in_flight.pop_front();
            match asked {
                Some(asked) if correlation == Some(asked.correlation) => out.push(Came::Answer(asked.kind, frame)),
                Some(_) | None => return Err(io::Error::other("an answer to nothing that was asked")),
            }
        }
        link.inbox.reserve(INBOX.max(all.len() - from));
        link.inbox.extend_from_slice(&all[from..]);
        if large {
            self.lent.push_back(all);
            if self.lent.len() > 8 {
                self.lent.pop_front();
            }
        }
        Ok(())
    }

    fn give_up_held(&mut self, at: usize, out: &mut Vec<Came>) {
        let link = &mut self.links[at];
        link.held.clear();
        out.extend(link.in_flight.drain(..).map(|asked| Came::Lost { kind: asked.kind, sent: false }));
    }

    /// A connection is lost or was never made: its requests are over, and it is tried again later.
    fn fail(&mut self, now: Time, at: usize, out: &mut Vec<Came>) {
        let options = &self.shared.options;
        let link = &mut self.links[at];
        let sent = matches!(link.state, State::Open(_));
        let backoff = options.reconnect.0.saturating_mul(1 << link.failures.min(10)).min(options.reconnect_max.0);
        link.failures = link.failures.saturating_add(1);
        link.state = State::Idle(now + Span(backoff));
        link.broken = link.wanted;
        link.held.clear();
        link.inbox.clear();
        out.extend(link.in_flight.drain(..).map(|asked| Came::Lost { kind: asked.kind, sent }));
    }

    /// Tells of the connection as a whole: gone when any that is needed is gone, back when all are.
    pub(super) fn events(&mut self, events: &mut Vec<Event>) {
        let broken = self.links.iter().any(|link| link.wanted && link.broken);
        if broken != self.told_disconnected {
            self.told_disconnected = broken;
            events.push(if broken { Event::Disconnected } else { Event::Reconnected });
        }
    }

    /// When something is due here at the latest.
    pub(super) fn next_deadline(&self) -> Time {
        let mut due = Time::NEVER;
        for link in &self.links {
            if let Some(asked) = link.in_flight.front() {
                due = due.min(asked.deadline);
            }
            match link.state {
                State::Idle(not_before) if link.wanted => due = due.min(not_before),
                State::Opening(_, deadline, _) => due = due.min(deadline),
                State::Idle(_) | State::Open(_) => {}
            }
        }
        due
    }

    /// What the host may sleep on.
    pub(super) fn wait_on(&self) -> WaitOn<'_> {
        let mut sockets = self.links.iter().filter_map(|link| match &link.state {
            State::Open(socket) | State::Opening(socket, ..) => Some(socket),
            State::Idle(_) => None,
        });
        match (sockets.next(), sockets.next()) {
            (None, _) => WaitOn::Nothing,
            (Some(only), None) => only.wait_on(),
            (Some(_), Some(_)) => WaitOn::Read(self.epoll.as_fd()),
        }
    }
}

/// The length of the answer at the front with its length field, once that is known.
fn expected(inbox: &[u8]) -> Option<usize> {
    inbox.first_chunk().map(|length| u32::from_be_bytes(*length) as usize + 4)
}

/// The same, once the whole of it is there.
fn whole(inbox: &[u8]) -> io::Result<Option<usize>> {
    match expected(inbox) {
        Some(length) if length > LONGEST => Err(io::Error::other("an answer of more than a gibibyte")),
        Some(length) if length <= inbox.len() => Ok(Some(length)),
        Some(_) | None => Ok(None),
    }
}
