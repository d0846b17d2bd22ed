//! The server's side of one connection: what came in and its engine has not taken yet, and what goes back.
//!
//! Leaves out accepting and waiting, which the server does.

use std::collections::VecDeque;

use brokerlab_model::{
    Batch, Blocked, Client, ClientSpec, Completions, Control, LaneId, Outcome, Publishes, Refusal, Status, Time, Token,
    WaitOn,
};

use super::client::{WINDOW, WINDOW_BYTES};
use super::pipe::Pipe;
use super::wire::{
    self, Asker, Hello, LENGTH, Refused, Reply, Request, VERSION, WireError, put_completions, put_counts, put_held,
    put_welcome, read_request,
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
    /// Read, and not taken by the engine; its publishes and their bytes.
    due: VecDeque<Batch>,
    due_publishes: usize,
    due_bytes: u64,
    /// Why, as the client was told.
    held: Option<Blocked>,
    /// Operations that the engine took and has not ended.
    open: u64,
}

impl Connection {
    pub(super) fn new(pipe: Pipe, number: u32) -> Self {
        let (due, due_publishes, due_bytes) = (VecDeque::new(), 0, 0);
        Self { pipe: Some(pipe), number, side: Side::Unknown, due, due_publishes, due_bytes, held: None, open: 0 }
    }

    /// Its end of the connection, while there is one.
    pub(super) fn pipe(&self) -> Option<&Pipe> {
        self.pipe.as_ref()
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
            Side::Client(client) if self.has_room() => client.next_deadline(),
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
        let Some(pipe) = &mut self.pipe else { return false };
        let came = pipe.read();
        let (came, ended) = (came.as_ref().is_ok_and(|&bytes| bytes > 0), came.is_err());
        let taken = self.take_frames(now, broker, served);
        if ended || taken.is_err() {
            self.leave(now);
        }
        came || ended
    }

    fn take_frames(&mut self, now: Time, broker: &mut dyn Embedded, served: &Served) -> Result<(), WireError> {
        while let Some(pipe) = &mut self.pipe
            && let Some(len) = wire::whole(pipe.input(), served.longest)?
        {
            let request = read_request(&pipe.input()[LENGTH..len]);
            pipe.take(len);
            match request? {
                Request::Hello(hello) => self.greet(now, &hello, broker, served)?,
                Request::Batch(batch) => self.ask(batch)?,
                Request::Counts => self.count(broker)?,
            }
        }
        Ok(())
    }

    fn greet(&mut self, now: Time, hello: &Hello, broker: &mut dyn Embedded, served: &Served) -> Result<(), WireError> {
        if !matches!(self.side, Side::Unknown) {
            return Err(WireError::OutOfTurn("a second hello"));
        }
        let same = hello.version == VERSION && hello.url == served.url && hello.contract == served.contract;
        let other = || Refused {
            refusal: Refusal::Closed,
            why: format!(
                "this is {} under `{}`, version {VERSION}, and {} under `{}`, version {}, was meant; ask for what is served",
                served.url, served.contract, hello.url, hello.contract, hello.version
            ),
        };
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
            self.due_publishes += publishes.len();
            self.due_bytes += bytes_of(publishes);
            // One message of any size may be under way.
            if self.due_publishes > WINDOW || (self.due_bytes > WINDOW_BYTES && self.due_publishes > 1) {
                return Err(WireError::OutOfTurn("more than the window"));
            }
        }
        self.due.push_back(batch);
        Ok(())
    }

    fn count(&mut self, broker: &dyn Embedded) -> Result<(), WireError> {
        match (&self.side, &mut self.pipe) {
            (Side::Counter, Some(pipe)) => {
                put_counts(pipe.out(), &broker.work());
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
            if let Some(pipe) = &mut self.pipe {
                put_held(pipe.out(), held);
            }
        }
        moved
    }

    fn offer(&mut self, now: Time, batch: &mut Batch, ended: &mut Completions, held: &mut Option<Blocked>) -> bool {
        let (publishes, bytes) = weight(batch);
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
        let (publishes_left, bytes_left) = weight(batch);
        self.due_publishes -= publishes - publishes_left;
        self.due_bytes -= bytes - bytes_left;
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
        (self.due_publishes, self.due_bytes) = (0, 0);
    }

    /// Takes what the engine has for the client and puts it behind what goes out, with what ended here. Returns whether there was
    /// anything.
    pub(super) fn answer(&mut self, now: Time, ended: &mut Completions) -> bool {
        if let Side::Client(client) = &mut self.side
            && self.pipe.as_ref().is_none_or(has_room)
        {
            let before = ended.outcomes.len() + ended.answers.len();
            client.poll(now, ended);
            let more = ended.outcomes.len() + ended.answers.len() - before;
            self.open = self.open.saturating_sub(more as u64);
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

    /// Writes what the kernel takes.
    pub(super) fn write(&mut self, now: Time) {
        if self.pipe.as_mut().is_some_and(|pipe| pipe.write().is_err()) {
            self.leave(now);
        }
    }

    /// The client has gone: its leases end, its lanes go to others, what was not taken is never published.
    fn leave(&mut self, now: Time) {
        self.pipe = None;
        self.due.clear();
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
fn weight(batch: &Batch) -> (usize, u64) {
    match batch {
        Batch::Publish(publishes) => (publishes.len(), bytes_of(publishes)),
        Batch::Settle(_) | Batch::Control(_) => (0, 0),
    }
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

/// What a client that only counts is told; none when it was something else.
pub(super) fn counts_of(frame: &[u8]) -> Option<brokerlab_model::WorkCounts> {
    match wire::read_reply(frame) {
        Ok(Reply::Counts(counts)) => Some(counts),
        Ok(Reply::Welcome(_) | Reply::Completions(..) | Reply::Held(_)) | Err(_) => None,
    }
}
