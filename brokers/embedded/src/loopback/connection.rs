//! The server's side of one connection: what came in and its engine has not taken yet, and what goes back.
//!
//! Leaves out accepting and waiting, which the server does.

use std::collections::VecDeque;

use brokerlab_model::{
    Batch, Blocked, Client, ClientSpec, Completions, Control, Failure, LaneId, Outcome, Publishes, Refusal, Role,
    Status, Time, Token, WaitOn,
};

use super::calls::{Calls, Due, Service};
use super::client::{WINDOW, WINDOW_BYTES};
use super::pipe::Pipe;
use super::ready::{Ready, Watch};
use super::wire::http::{self, Meant, Target, decoded};
use super::wire::{
    self, Asker, Hello, LENGTH, Refused, Request, VERSION, WireError, put_completions, put_counts, put_held,
    put_stopped, put_tallies, put_welcome, read_request,
};
use crate::backends::Embedded;

/// While so much waits to be written to a client, its engine is not asked for more.
const UNWRITTEN_MAX: usize = 1 << 20;
/// Token of the close that the server asks for when a client has gone.
const GONE: Token = Token(u64::MAX);

/// What the server says of itself to each client.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) url: String,
    pub(super) contract: String,
    /// The longest frame.
    pub(super) longest: usize,
    /// How callers are answered who speak HTTP, where they do.
    pub(super) service: Option<Service>,
}

/// Who is at the other end, as far as it has said.
#[derive(Debug)]
enum Side {
    /// Nobody knows yet.
    Unknown,
    /// A client of the engine.
    Client(Box<dyn Client>),
    /// One that the engine did not let in.
    Refused(Refusal),
    /// Only asks for counts.
    Counter,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pipe: Option<Pipe>,
    number: u32,
    side: Side,
    /// Its requests, where it speaks HTTP.
    calls: Option<Calls>,
    /// Read, and not taken by the engine.
    due: VecDeque<Batch>,
    weight: Due,
    /// Why, as the client was told.
    held: Option<Blocked>,
    /// Operations that the engine took and has not ended.
    open: u64,
    /// Whether it was told that the engine has stopped.
    told: bool,
    /// When something came from the client last. To the engine it is there until then, and no longer: what has connected and hangs is
    /// no member.
    heard: Time,
    watch: Watch,
}

impl Connection {
    pub(super) fn new(now: Time, pipe: Pipe, number: u32) -> Self {
        let (due, weight) = (VecDeque::new(), Due::default());
        Self {
            pipe: Some(pipe),
            number,
            side: Side::Unknown,
            calls: None,
            due,
            weight,
            held: None,
            open: 0,
            told: false,
            heard: now,
            watch: Watch::Nothing,
        }
    }

    /// Has it watched for what it waits for: what comes and goes there, while there is an end of the connection, and anything is read.
    pub(super) fn watch(&mut self, now: Time, ready: &Ready) {
        let Some(pipe) = &self.pipe else { return };
        let watch = Watch::from(self.reads().then(|| pipe.wait_on()));
        if watch == self.watch {
            return;
        }
        let before = std::mem::replace(&mut self.watch, watch);
        if ready.watch(pipe.fd(), self.number, before, watch).is_err() {
            // Nobody would hear of it again.
            self.leave(now);
        }
    }

    /// Whether requests that were read wait for room, and there is some now: nothing comes that would tell of them.
    pub(super) fn has_input(&self) -> bool {
        self.calls.is_some() && self.reads() && self.pipe.as_ref().is_some_and(|pipe| !pipe.input().is_empty())
    }

    /// Whether more is read from it now: requests wait in their sockets while there is no room for them.
    fn reads(&self) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.is_over() || calls.reads(self.weight))
    }

    /// Its number at the engine.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Whether nobody needs it any more: the client has gone, and what it had asked has ended.
    pub(super) fn is_over(&self) -> bool {
        self.pipe.is_none() && self.open == 0
    }

    /// Whether something waits that the engine did not take when it was asked last.
    pub(super) fn is_held(&self) -> bool {
        !self.due.is_empty()
    }

    /// When the engine has something for it, unless the client does not read.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        match &self.side {
            // Of a sign of life that is due later than anything came there is nothing to wait for.
            Side::Client(client) if self.has_room() => client.next_deadline().filter(|&at| at <= self.heard),
            Side::Client(_) | Side::Unknown | Side::Refused(_) | Side::Counter => None,
        }
    }

    /// What the engine rings when a worker on another thread has something for its clients, which are all of one placement.
    pub(super) fn engine(&self) -> Option<WaitOn<'_>> {
        match &self.side {
            Side::Client(client) => Some(client.wait_on()),
            Side::Unknown | Side::Refused(_) | Side::Counter => None,
        }
    }

    /// Room for what the engine has; one that is gone takes everything.
    fn has_room(&self) -> bool {
        self.pipe.as_ref().is_none_or(has_room)
    }

    /// Reads what came and does it. Returns whether anything came.
    pub(super) fn receive(&mut self, now: Time, broker: &mut dyn Embedded, served: &Served) -> bool {
        let reads = self.reads();
        let Some(pipe) = &mut self.pipe else { return false };
        let came = if reads { pipe.read() } else { Ok(0) };
        let (came, ended) = (came.as_ref().is_ok_and(|&bytes| bytes > 0), came.is_err());
        if came {
            self.heard = now;
        }
        let taken = self.take_frames(now, broker, served);
        if ended || taken.is_err() {
            self.leave(now);
        }
        came || ended
    }

    fn take_frames(&mut self, now: Time, broker: &mut dyn Embedded, served: &Served) -> Result<(), WireError> {
        if let (Some(service), Side::Unknown, None) = (served.service, &self.side, &self.calls) {
            let http = self.pipe.as_ref().is_some_and(|pipe| http::begins(pipe.input()));
            self.calls = http.then(|| Calls::new(service));
        }
        if self.calls.is_some() {
            self.take_calls(now, broker, served);
            return Ok(());
        }
        while let Some(pipe) = &mut self.pipe
            && let Some(len) = wire::whole(pipe.input(), served.longest)?
        {
            let request = read_request(&pipe.input()[LENGTH..len]);
            pipe.take(len);
            match request? {
                Request::Hello(hello) => self.greet(now, &hello, broker, served)?,
                Request::Batch(batch) => self.ask(batch)?,
                Request::Beat => {}
                Request::Counts => self.count(|out| put_counts(out, &broker.work()))?,
                Request::Tallies => self.count(|out| put_tallies(out, &broker.tallies()))?,
            }
        }
        Ok(())
    }

    /// Reads the requests of a caller who speaks HTTP.
    fn take_calls(&mut self, now: Time, broker: &mut dyn Embedded, served: &Served) {
        let (Some(mut pipe), Some(mut calls)) = (self.pipe.take(), self.calls.take()) else { return };
        if calls.is_over() {
            // Nobody reads it; the caller is to see its answers before its connection ends.
            pipe.take(pipe.input().len());
        } else if !matches!(self.side, Side::Unknown) || self.admit(now, &mut pipe, &mut calls, broker, served) {
            let read = calls.read(now, pipe.input(), &mut self.weight, &mut self.due);
            pipe.take(read);
        }
        (self.pipe, self.calls) = (Some(pipe), Some(calls));
    }

    /// Lets a caller in who speaks HTTP, once its first request is there.
    fn admit(
        &mut self,
        now: Time,
        pipe: &mut Pipe,
        calls: &mut Calls,
        broker: &mut dyn Embedded,
        served: &Served,
    ) -> bool {
        let (meant, len) = match http::read_post(pipe.input(), calls.body()) {
            Ok(None) => return false,
            Ok(Some((post, len))) => match post.target {
                Target::Open(meant) => (Some(other(&meant, served)), len),
                Target::Channel(_) | Target::Flush | Target::Close => (None, 0),
            },
            Err(error) => {
                calls.refuse(error);
                return false;
            }
        };
        pipe.take(len);
        let spec = ClientSpec { number: self.number, role: Role::Producer, placement: 0 };
        let let_in = match meant.clone().flatten() {
            Some(refused) => Err(refused),
            None => broker.connect(now, &spec).map_err(|error| Refused::from(&error)),
        };
        let (side, status, why) = match let_in {
            Ok(client) => (Side::Client(client), Status::Done, String::new()),
            Err(Refused { refusal, why }) => (Side::Refused(refusal), Status::Refused(refusal), why),
        };
        self.side = side;
        if meant.is_some() {
            calls.opened(status, why);
        }
        true
    }

    fn greet(&mut self, now: Time, hello: &Hello, broker: &mut dyn Embedded, served: &Served) -> Result<(), WireError> {
        if !matches!(self.side, Side::Unknown) {
            return Err(WireError::OutOfTurn("a second hello"));
        }
        let same = hello.version == VERSION && hello.url == served.url && hello.contract == served.contract;
        let other = || not_served(served, &hello.url, &hello.contract, hello.version);
        let let_in = match &hello.asker {
            _ if !same => Err(other()),
            Asker::Counter => Ok(Side::Counter),
            Asker::Client(role) => {
                let spec = ClientSpec { number: self.number, role: role.clone(), placement: 0 };
                broker.connect(now, &spec).map(Side::Client).map_err(|error| Refused::from(&error))
            }
        };
        let welcome = match let_in {
            Ok(side) => {
                self.side = side;
                Ok(())
            }
            Err(refused) => {
                self.side = Side::Refused(refused.refusal);
                Err(refused)
            }
        };
        if let Some(pipe) = &mut self.pipe {
            put_welcome(pipe.out(), &welcome);
        }
        Ok(())
    }

    fn ask(&mut self, batch: Batch) -> Result<(), WireError> {
        if matches!(self.side, Side::Unknown | Side::Counter) {
            return Err(WireError::OutOfTurn("an operation without a role"));
        }
        if let Batch::Publish(publishes) = &batch {
            self.weight.publishes += publishes.len();
            self.weight.bytes += bytes_of(publishes);
            // One message of any size may be under way.
            if self.weight.publishes > WINDOW || (self.weight.bytes > WINDOW_BYTES && self.weight.publishes > 1) {
                return Err(WireError::OutOfTurn("more than the window"));
            }
        }
        self.due.push_back(batch);
        Ok(())
    }

    fn count(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), WireError> {
        match (&self.side, &mut self.pipe) {
            (Side::Counter, Some(pipe)) => {
                put(pipe.out());
                Ok(())
            }
            _ => Err(WireError::OutOfTurn("a question for counts")),
        }
    }

    /// Offers the engine what is due, in order. Returns whether it took anything.
    pub(super) fn submit(&mut self, now: Time, ended: &mut Completions) -> bool {
        let mut moved = false;
        let mut held = None;
        while let Some(mut batch) = self.due.pop_front() {
            moved |= self.give_up_late(now, &mut batch, ended);
            if batch.is_empty() {
                continue;
            }
            moved |= self.offer(now, &mut batch, ended, &mut held);
            if !batch.is_empty() {
                self.due.push_front(batch);
                if !self.closes() {
                    break;
                }
                self.give_up(ended);
                moved = true;
            }
        }
        if held != self.held {
            self.held = held;
            match (&mut self.pipe, &mut self.calls) {
                (Some(pipe), Some(calls)) => calls.hold(held, pipe.out()),
                (Some(pipe), None) => put_held(pipe.out(), held),
                (None, _) => {}
            }
        }
        moved
    }

    /// Ends the first messages of a batch whose callers have given up: they are never published.
    fn give_up_late(&mut self, now: Time, batch: &mut Batch, ended: &mut Completions) -> bool {
        let (Some(calls), Batch::Publish(publishes)) = (&self.calls, &*batch) else { return false };
        let late = publishes.iter().take_while(|message| calls.is_late(message.token, now)).count();
        if late == 0 {
            return false;
        }
        let status = Status::Failed(Failure::Timeout);
        let end = |token| Outcome { token, status, lane: LaneId(0), position: 0 };
        ended.outcomes.extend(publishes.iter().take(late).map(|message| end(message.token)));
        let before = weight(batch);
        batch.advance(late);
        self.lighten(before, weight(batch));
        true
    }

    fn lighten(&mut self, before: Due, after: Due) {
        self.weight.publishes -= before.publishes - after.publishes;
        self.weight.bytes -= before.bytes - after.bytes;
    }

    fn offer(&mut self, now: Time, batch: &mut Batch, ended: &mut Completions, held: &mut Option<Blocked>) -> bool {
        let before = weight(batch);
        let taken = match &mut self.side {
            Side::Client(client) => {
                let accepted = client.submit(now, batch);
                self.open += accepted.taken as u64;
                *held = accepted.blocked;
                accepted.taken
            }
            Side::Refused(refusal) => {
                let taken = batch.len();
                refuse(batch, *refusal, ended);
                batch.advance(taken);
                taken
            }
            Side::Unknown | Side::Counter => 0,
        };
        self.lighten(before, weight(batch));
        taken > 0
    }

    /// Whether the client asks to close behind what the engine does not take.
    fn closes(&self) -> bool {
        self.due.iter().any(|batch| match batch {
            Batch::Control(controls) => controls.iter().any(|(_, control)| matches!(control, Control::Close)),
            Batch::Publish(_) | Batch::Settle(_) => false,
        })
    }

    /// Ends the publishes that the engine has not taken: they are never published.
    fn give_up(&mut self, ended: &mut Completions) {
        self.due.retain(|batch| {
            let Batch::Publish(_) = batch else { return true };
            refuse(batch, Refusal::Closed, ended);
            false
        });
        self.weight = Due::default();
    }

    /// Takes what the engine has for the client and puts it behind what goes out, with what ended here. Returns whether there was
    /// anything.
    pub(super) fn answer(&mut self, now: Time, ended: &mut Completions) -> bool {
        if let Side::Client(client) = &mut self.side
            && self.pipe.as_ref().is_none_or(has_room)
        {
            let before = ended.outcomes.len() + ended.answers.len();
            client.poll(self.heard, ended);
            let more = ended.outcomes.len() + ended.answers.len() - before;
            self.open = self.open.saturating_sub(more as u64);
        }
        if let (Some(pipe), Some(calls)) = (&mut self.pipe, &mut self.calls) {
            calls.end(&ended.outcomes);
            ended.clear();
            return calls.answer(pipe.out());
        }
        if ended.is_empty() {
            return false;
        }
        if let Some(pipe) = &mut self.pipe {
            put_completions(pipe.out(), now, ended);
        }
        ended.clear();
        true
    }

    /// Tells a client once that the engine has stopped, and why. A caller who speaks HTTP hears it of each request.
    pub(super) fn stop(&mut self, why: &str) {
        if let (Side::Client(_), None, Some(pipe), false) = (&self.side, &self.calls, &mut self.pipe, self.told) {
            put_stopped(pipe.out(), why);
            self.told = true;
        }
    }

    /// Writes what the kernel takes.
    pub(super) fn write(&mut self, now: Time) {
        let over = self.calls.as_ref().is_some_and(Calls::is_over);
        let written = |pipe: &mut Pipe| {
            pipe.write()?;
            if over && pipe.unwritten() == 0 { pipe.finish() } else { Ok(()) }
        };
        if self.pipe.as_mut().is_some_and(|pipe| written(pipe).is_err()) {
            self.leave(now);
        }
    }

    /// The client has gone: its leases end, its lanes go to others, what was not taken is never published.
    fn leave(&mut self, now: Time) {
        self.pipe = None;
        self.due.clear();
        self.weight = Due::default();
        if let Side::Client(client) = &mut self.side {
            let close = client.submit(now, &mut Batch::Control(vec![(GONE, Control::Close)]));
            self.open += close.taken as u64;
        }
    }
}

fn has_room(pipe: &Pipe) -> bool {
    pipe.unwritten() < UNWRITTEN_MAX
}

fn bytes_of(publishes: &Publishes) -> u64 {
    publishes.iter().map(|message| (message.key.len() + message.headers.len() + message.payload.len()) as u64).sum()
}

/// Publishes in a batch, and their bytes.
fn weight(batch: &Batch) -> Due {
    match batch {
        Batch::Publish(publishes) => Due { publishes: publishes.len(), bytes: bytes_of(publishes) },
        Batch::Settle(_) | Batch::Control(_) => Due::default(),
    }
}

/// Why a client is not let in who means something else.
fn not_served(served: &Served, url: &str, contract: &str, version: u32) -> Refused {
    Refused {
        refusal: Refusal::Closed,
        why: format!(
            "this is {} under `{}`, version {VERSION}, and {url} under `{contract}`, version {version}, was meant; ask for what is served",
            served.url, served.contract
        ),
    }
}

/// Why a caller is not let in who means something else, if it does.
fn other(meant: &Meant<'_>, served: &Served) -> Option<Refused> {
    let text = |value| {
        let mut room = Vec::new();
        decoded(value, &mut room).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    };
    let (url, contract) = (text(meant.backend), text(meant.contract));
    (url != served.url || contract != served.contract).then(|| not_served(served, &url, &contract, VERSION))
}

/// Ends every operation of a batch as refused; a close is done.
fn refuse(batch: &Batch, refusal: Refusal, ended: &mut Completions) {
    let mut end = |token, status| {
        ended.outcomes.push(Outcome { token, status, lane: LaneId(0), position: 0 });
    };
    match batch {
        Batch::Publish(publishes) => {
            publishes.iter().for_each(|message| end(message.token, Status::Refused(refusal)));
        }
        Batch::Settle(settlements) => {
            for settlement in settlements {
                end(settlement.token, Status::Refused(refusal));
            }
        }
        Batch::Control(controls) => {
            for (token, control) in controls {
                let closes = matches!(control, Control::Close);
                end(*token, if closes { Status::Done } else { Status::Refused(refusal) });
            }
        }
    }
}
