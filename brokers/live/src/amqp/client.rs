//! One client of the trait on one connection of its own: connecting, doing its part, coming back, leaving.
//!
//! Leaves out the parts' books, which are in `producer`, `member` and `admin`.

use std::sync::Arc;

use brokerlab_model::{
    Accepted, Batch, Blocked, Client, Completions, Control, Event, Failure, LaneId, Outcome, Publishes, Refusal,
    Settlement, Span, Status, Time, Token, WaitOn,
};

use super::admin::{Administrator, Asked};
use super::codec::{Content, Frame, decode, put_content};
use super::contract::Kept;
use super::member::Member;
use super::method::{self, Incoming, Reason};
use super::producer::Producer;
use super::settings::OUT_MAX;
use super::topology::{Registry, Topology};
use super::wire::{Login, Lost, PATIENCE, Wire};
use crate::open::Trouble;
use crate::tls::Target;

/// The first and the longest time for which a lost connection is left alone; it doubles in between.
const BACKOFF: (Span, Span) = (Span::from_millis(20), Span::from_secs(1));

/// Acknowledgements wait for each other up to so many bytes: some 200 of them, so that a prefetch of 500 does not run dry meanwhile.
const GATHERED: usize = 4 << 10;

/// What a client does.
#[derive(Debug)]
pub(super) enum Part {
    Producer(Producer),
    Member(Member),
    Administrator(Administrator),
}

/// Where its connection stands.
#[derive(Debug)]
enum Line {
    Up(Box<Wire>),
    Down {
        retry: Time,
    },
    /// Closed by the host; nothing is dialled again.
    Over,
}

/// What all clients of a broker have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) addresses: Vec<Target>,
    pub(super) login: Login,
    pub(super) registry: Registry,
    /// How many publishes of one client may be unconfirmed.
    pub(super) window: usize,
    pub(super) kept: Kept,
    pub(super) mandatory: bool,
    pub(super) ack_multiple: bool,
    pub(super) max_message_bytes: usize,
    /// What a negative confirm means.
    pub(super) nack: Failure,
}

/// See the module.
#[derive(Debug)]
pub(super) struct AmqpClient {
    common: Arc<Common>,
    number: u32,
    part: Part,
    line: Line,
    seen: (u64, Arc<Topology>),
    /// What came back since the last poll.
    ready: Completions,
    /// Which of the addresses is tried next.
    address: usize,
    backoff: Span,
    /// Whether the host was told that the connection is lost.
    lost: bool,
    /// Why it was lost, until the next poll.
    broken: Option<Lost>,
    /// The broker holds this connection back.
    held: bool,
    /// Whose turn it is among the lanes, for messages without a key.
    turn: u32,
    closing: Option<Closing>,
    is_over: bool,
}

/// A close that was asked for.
#[derive(Clone, Copy, Debug)]
struct Closing {
    token: Token,
    deadline: Time,
    /// Whether the server was told.
    told: bool,
}

impl AmqpClient {
    pub(super) fn new(now: Time, number: u32, part: Part, common: Arc<Common>) -> Self {
        let seen = (u64::MAX, common.registry.topology());
        let address = number as usize % common.addresses.len();
        let mut client = Self {
            common,
            number,
            part,
            line: Line::Down { retry: now },
            seen,
            ready: Completions::default(),
            address,
            backoff: BACKOFF.0,
            lost: false,
            broken: None,
            held: false,
            turn: number,
            closing: None,
            is_over: false,
        };
        client.refresh();
        client.dial(now);
        client
    }

    fn refresh(&mut self) {
        if self.common.registry.refresh(&mut self.seen)
            && let Part::Member(member) = &mut self.part
        {
            member.bind(&self.seen.1);
        }
    }

    fn dial(&mut self, now: Time) {
        let to = &self.common.addresses[self.address % self.common.addresses.len()];
        self.address += 1;
        match Wire::connect(to, now, &self.common.login) {
            Ok(wire) => self.line = Line::Up(Box::new(wire)),
            Err(_) => self.back_off(now),
        }
    }

    fn back_off(&mut self, now: Time) {
        self.line = Line::Down { retry: now + self.backoff };
        self.backoff = Span((self.backoff.0 * 2).min(BACKOFF.1.0));
    }

    fn end(&mut self, token: Token, status: Status) {
        self.ready.outcomes.push(Outcome { token, status, lane: LaneId(0), position: 0 });
    }

    /// Ends what was in flight, and leaves the line alone for a while.
    fn disconnected(&mut self, now: Time) {
        let (was_open, lasted, written) = match &self.line {
            Line::Up(wire) => (wire.is_open(), now.since(wire.began()), wire.begun()),
            Line::Down { .. } | Line::Over => (false, Span::ZERO, 0),
        };
        // A connection that opens and is closed at once (a queue that is gone) is no reason to be quick again.
        if was_open && lasted >= BACKOFF.1 {
            self.backoff = BACKOFF.0;
        }
        match &mut self.part {
            Part::Producer(producer) => producer.disconnected(written, &mut self.ready),
            Part::Member(member) => {
                // Credit that was asked for while there was no connection waits for the next one.
                if was_open {
                    member.end_grants(Status::Failed(Failure::Disconnected), &mut self.ready);
                }
                member.disconnected();
            }
            Part::Administrator(administrator) => administrator.disconnected(&mut self.ready),
        }
        if std::mem::take(&mut self.held) {
            self.ready.events.push(Event::Unblocked);
        }
        if self.closing.is_some() {
            self.over();
            return;
        }
        if was_open && !self.lost {
            self.ready.events.push(Event::Disconnected);
            self.lost = true;
        }
        self.back_off(now);
    }

    /// Ends the close and the client.
    fn over(&mut self) {
        self.line = Line::Over;
        self.is_over = true;
        self.common.registry.leave(self.number);
        if let Some(closing) = self.closing.take() {
            self.end(closing.token, Status::Done);
        }
    }

    fn is_closed(&self) -> bool {
        self.closing.is_some() || self.is_over
    }

    /// Reads, understands, goes on with what is under way, and writes.
    fn work(&mut self, now: Time) -> Result<(), Lost> {
        let Line::Up(wire) = &mut self.line else { return Ok(()) };
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        if !Self::gathers(wire, &self.part, self.closing) {
            wire.push(now)?;
        }
        // The answer to a close stands behind everything that was pushed before.
        let full = self.closing.is_none() && matches!(&self.part, Part::Member(member) if member.is_full());
        let pulled = if full { Ok(()) } else { wire.pull(now) };
        if !wire.is_open() {
            if !wire
                .handshake(&self.common.login, self.common.kept.confirms() && matches!(self.part, Part::Producer(_)))?
            {
                pulled?;
                wire.beat(now)?;
                return Ok(wire.push(now)?);
            }
            self.opened();
        }
        self.understand(now)?;
        pulled?;
        self.go_on(now)
    }

    /// The channel is open.
    fn opened(&mut self) {
        if std::mem::take(&mut self.lost) {
            self.ready.events.push(Event::Reconnected);
        }
        if let Part::Member(member) = &mut self.part {
            member.connected(self.common.registry.epoch());
        }
    }

    /// Takes in every whole frame.
    fn understand(&mut self, now: Time) -> Result<(), Lost> {
        let Self { line, part, ready, held, common, closing, .. } = self;
        let Line::Up(wire) = line else { return Ok(()) };
        let mut taken = 0;
        let mut answers = Vec::new();
        let mut closed = None;
        loop {
            let input = &wire.input()[taken..];
            let Some((frame, length)) = decode(input, wire.frame_max())? else { break };
            taken += length;
            match (frame, &mut *part) {
                (Frame::Method { id, arguments, .. }, part) => match Incoming::read(id, arguments)? {
                    Incoming::Close(reason) => {
                        method::close_ok(&mut answers);
                        closed = Some(Lost::Trouble(Trouble::Server(said(&reason))));
                    }
                    Incoming::CloseOk => closed = closed.or(Some(Lost::Trouble(Trouble::Server("closed".to_owned())))),
                    Incoming::Blocked => {
                        ready.events.extend((!std::mem::replace(held, true)).then_some(Event::Blocked));
                    }
                    Incoming::Unblocked => {
                        ready.events.extend(std::mem::take(held).then_some(Event::Unblocked));
                    }
                    Incoming::Start { .. } | Incoming::Tune { .. } | Incoming::OpenOk => (),
                    of_channel @ (Incoming::ChannelOpenOk
                    | Incoming::ChannelClose(_)
                    | Incoming::QueueDeclareOk { .. }
                    | Incoming::Done
                    | Incoming::SelectOk
                    | Incoming::Cancel { .. }
                    | Incoming::Return
                    | Incoming::Deliver { .. }
                    | Incoming::Ack { .. }
                    | Incoming::Nack { .. }
                    | Incoming::Other) => part.incoming(now, &of_channel, common, &mut answers, ready)?,
                },
                (Frame::Header { body, properties }, Part::Member(member)) => member.header(body, properties)?,
                (Frame::Body(bytes), Part::Member(member)) => member.body(bytes)?,
                // A message that came back: its header says which one it was.
                (Frame::Header { properties, .. }, Part::Producer(producer)) => {
                    producer.returned(super::codec::Properties::read(properties)?.message_id);
                }
                (Frame::Header { .. } | Frame::Body(_) | Frame::Heartbeat | Frame::OtherVersion(_), _) => (),
            }
        }
        wire.take(taken);
        if let Part::Member(member) = part {
            if closing.is_none() {
                member.hand_on(ready);
            } else {
                member.let_go();
            }
        }
        if !answers.is_empty() {
            wire.send(|out| out.extend_from_slice(&answers));
            wire.push(now)?;
        }
        closed.map_or(Ok(()), Err)
    }

    /// Does what is due beside what came in.
    fn go_on(&mut self, now: Time) -> Result<(), Lost> {
        let Self { line, part, ready, common, closing, .. } = self;
        let Line::Up(wire) = line else { return Ok(()) };
        match part {
            Part::Producer(producer) if !common.kept.confirms() => {
                let written = wire.written();
                producer.written(written, ready);
            }
            Part::Member(member) if closing.is_none() => wire.send(|out| member.plan(now, out)),
            Part::Producer(_) | Part::Member(_) => (),
            Part::Administrator(administrator) => {
                if administrator.next_deadline().is_some_and(|due| due <= now) {
                    let seconds = PATIENCE.0 / 1_000_000_000;
                    return Err(Lost::Trouble(Trouble::Silent { asked: "an administrator's request", seconds }));
                }
                wire.send(|out| administrator.next(now, &common.registry, out, ready));
            }
        }
        if let Some(closing) = closing {
            let idle = match part {
                Part::Producer(producer) => producer.in_flight() == 0,
                Part::Member(_) => true,
                Part::Administrator(administrator) => administrator.is_idle(),
            };
            if idle && !closing.told {
                closing.told = true;
                wire.send(method::close);
            }
        }
        wire.beat(now)?;
        if !Self::gathers(wire, part, *closing) {
            wire.push(now)?;
        }
        Ok(())
    }

    /// Whether acknowledgements wait for more: while deliveries come in, those of several reads are written at once. The first read that
    /// finds nothing lets them go, before anybody sleeps.
    fn gathers(wire: &Wire, part: &Part, closing: Option<Closing>) -> bool {
        let reads = matches!(part, Part::Member(member) if !member.is_full()) && closing.is_none();
        reads && wire.is_open() && !wire.is_drained() && wire.unwritten() < GATHERED
    }

    fn publish(&mut self, batch: &mut Publishes) -> Option<Blocked> {
        let mut taken = 0;
        let blocked = batch_prefix(batch, &mut taken, |message, lengths_only| self.publish_one(message, lengths_only));
        batch.advance(taken);
        blocked
    }

    fn publish_one(&mut self, message: &brokerlab_model::Message<'_>, lengths_only: bool) -> Result<(), Blocked> {
        let size = message.key.len() + message.headers.len() + message.payload_len as usize;
        let Self { common, part, line, seen, ready, held, turn, closing, is_over, .. } = self;
        let channel = seen.1.get(message.channel);
        let refusal = match (&mut *part, channel) {
            _ if closing.is_some() || *is_over => Refusal::Closed,
            (Part::Member(_) | Part::Administrator(_), _) => Refusal::WrongRole,
            _ if lengths_only => Refusal::Unsupported,
            (Part::Producer(_), None) => Refusal::NoSuchLane,
            (Part::Producer(_), Some(_)) if size > common.max_message_bytes => Refusal::TooLarge,
            (Part::Producer(producer), Some(channel)) => {
                let wire = match line {
                    Line::Up(wire) if wire.is_open() => wire,
                    Line::Up(_) | Line::Down { .. } | Line::Over => return Err(Blocked::Disconnected),
                };
                if *held {
                    return Err(Blocked::Broker);
                }
                if !producer.takes_more(common.window) || wire.unwritten() > OUT_MAX {
                    return Err(Blocked::Window);
                }
                let lane = if common.kept.total() { 0 } else { lane_of(message.key, channel.lanes, turn) };
                let content = Content {
                    key: message.key,
                    headers: message.headers,
                    payload: message.payload,
                    persistent: common.kept.persistent(),
                    id: common.mandatory.then(|| producer.next()),
                };
                let frame_max = wire.frame_max();
                wire.send(|out| {
                    out.extend_from_slice(&channel.publishes[lane as usize]);
                    put_content(out, &content, frame_max);
                });
                let (lane, end) = (LaneId(channel.first_lane + lane), wire.appended());
                if let Part::Producer(producer) = part {
                    producer.published(message.token, lane, end);
                }
                return Ok(());
            }
        };
        ready.outcomes.push(Outcome {
            token: message.token,
            status: Status::Refused(refusal),
            lane: LaneId(0),
            position: 0,
        });
        Ok(())
    }

    fn settle(&mut self, settlements: &mut Vec<Settlement>) -> Option<Blocked> {
        let refusal = if self.is_closed() {
            Some(Refusal::Closed)
        } else {
            (!matches!(self.part, Part::Member(_))).then_some(Refusal::WrongRole)
        };
        if let Some(refusal) = refusal {
            for settlement in settlements.drain(..) {
                self.end(settlement.token, Status::Refused(refusal));
            }
            return None;
        }
        let Self { part: Part::Member(member), line, ready, seen, common, .. } = self else { return None };
        let mut none = Vec::new();
        match line {
            Line::Up(wire) if wire.unwritten() > OUT_MAX => return Some(Blocked::Window),
            Line::Up(wire) => wire.send(|out| member.settle(settlements, &seen.1, common.ack_multiple, out, ready)),
            // Without a connection every receipt is stale.
            Line::Down { .. } | Line::Over => {
                member.settle(settlements, &seen.1, common.ack_multiple, &mut none, ready);
            }
        }
        settlements.clear();
        None
    }

    /// Takes one control operation.
    fn control(&mut self, now: Time, token: Token, control: &Control) -> Result<(), Blocked> {
        if self.is_closed() {
            self.end(token, Status::Refused(Refusal::Closed));
            return Ok(());
        }
        let asked = match control {
            Control::Close => {
                self.close(now, token);
                return Ok(());
            }
            Control::Flush => {
                let waits = match &mut self.part {
                    Part::Producer(producer) => producer.flush(token),
                    Part::Member(_) | Part::Administrator(_) => false,
                };
                if !waits {
                    self.end(token, Status::Done);
                }
                return Ok(());
            }
            Control::Grant(count) => {
                self.grant(token, *count);
                return Ok(());
            }
            Control::Seek { .. }
            | Control::Position(_)
            | Control::Release(_)
            | Control::Split { .. }
            | Control::Transaction(_)
            | Control::Merge { .. } => {
                self.end(token, Status::Refused(Refusal::Unsupported));
                return Ok(());
            }
            Control::Create(spec) if !spec.is_plain() => {
                self.end(token, Status::Refused(Refusal::Unsupported));
                return Ok(());
            }
            Control::Create(spec) => Asked::Create(spec.clone()),
            Control::Delete(id) => Asked::Delete(*id),
            Control::Describe(id) => Asked::Describe(*id),
        };
        let is_open = matches!(&self.line, Line::Up(wire) if wire.is_open());
        match &mut self.part {
            Part::Administrator(administrator) if is_open => administrator.ask(token, asked),
            Part::Administrator(_) => return Err(Blocked::Disconnected),
            Part::Producer(_) | Part::Member(_) => self.end(token, Status::Refused(Refusal::WrongRole)),
        }
        Ok(())
    }

    fn grant(&mut self, token: Token, count: u32) {
        match &mut self.part {
            // Without a connection the credit is kept until there is one.
            Part::Member(member) => {
                if member.credit.grant(token, count) {
                    member.hand_on_held(&mut self.ready);
                } else {
                    self.end(token, Status::Done);
                }
            }
            Part::Producer(_) | Part::Administrator(_) => self.end(token, Status::Refused(Refusal::WrongRole)),
        }
    }

    fn close(&mut self, now: Time, token: Token) {
        self.closing = Some(Closing { token, deadline: now + PATIENCE, told: false });
        if let Part::Member(member) = &mut self.part {
            member.end_grants(Status::Done, &mut self.ready);
            member.let_go();
        }
        if !matches!(&self.line, Line::Up(wire) if wire.is_open()) {
            self.disconnected(now);
        }
    }
}

impl Part {
    /// Takes in a method that is this part's.
    fn incoming(
        &mut self,
        now: Time,
        method: &Incoming<'_>,
        common: &Common,
        answers: &mut Vec<u8>,
        out: &mut Completions,
    ) -> Result<(), Lost> {
        match (self, method) {
            (Self::Producer(producer), Incoming::Ack { delivery, multiple }) => {
                producer.confirmed(*delivery, *multiple, Status::Done, out);
            }
            (Self::Producer(producer), Incoming::Nack { delivery, multiple }) => {
                producer.confirmed(*delivery, *multiple, Status::Failed(common.nack), out);
            }
            (Self::Member(member), Incoming::Deliver { tag, delivery, redelivered }) => {
                member.announce(tag, *delivery, *redelivered)?;
            }
            (Self::Member(member), Incoming::Cancel { tag }) => member.cancelled(now, tag),
            (Self::Administrator(administrator), Incoming::QueueDeclareOk { messages, consumers, .. }) => {
                administrator.depth(*messages, *consumers, &common.registry, out);
            }
            (Self::Administrator(administrator), Incoming::Done) => administrator.answered(&common.registry, out),
            (Self::Administrator(administrator), Incoming::ChannelClose(reason)) => {
                administrator.refused(reason.code, answers, out);
            }
            (Self::Administrator(administrator), Incoming::ChannelOpenOk) => administrator.reopened(),
            // The channel is all that this connection is for: it is made again as a whole.
            (_, Incoming::ChannelClose(reason)) => return Err(Lost::Trouble(Trouble::Server(said(reason)))),
            (_, _) => (),
        }
        Ok(())
    }
}

fn said(reason: &Reason<'_>) -> String {
    format!("{} {}", reason.code, String::from_utf8_lossy(reason.text))
}

/// Calls `take` for each message until one is not taken.
fn batch_prefix(
    batch: &Publishes,
    taken: &mut usize,
    mut take: impl FnMut(&brokerlab_model::Message<'_>, bool) -> Result<(), Blocked>,
) -> Option<Blocked> {
    let lengths_only = batch.is_lengths_only();
    for message in batch.iter() {
        if let Err(blocked) = take(&message, lengths_only) {
            return Some(blocked);
        }
        *taken += 1;
    }
    None
}

/// The lane of a message: by its key, or in turn.
fn lane_of(key: &[u8], lanes: u32, turn: &mut u32) -> u32 {
    if key.is_empty() {
        *turn = turn.wrapping_add(1);
        return *turn % lanes;
    }
    // FNV-1a, spread over all bits by SplitMix64's finish, as the queue model does.
    let hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((u128::from(hash ^ (hash >> 31)) * u128::from(lanes)) >> 64) as u32
}

impl Client for AmqpClient {
    fn submit(&mut self, now: Time, batch: &mut Batch) -> Accepted {
        self.refresh();
        let before = batch.len();
        let blocked = match batch {
            Batch::Publish(publishes) => self.publish(publishes),
            Batch::Settle(settlements) => self.settle(settlements),
            Batch::Control(controls) => {
                let mut taken = 0;
                let mut blocked = None;
                for (token, control) in &*controls {
                    blocked = self.control(now, *token, control).err();
                    if blocked.is_some() {
                        break;
                    }
                    taken += 1;
                }
                controls.drain(..taken);
                blocked
            }
        };
        if matches!(&self.line, Line::Up(wire) if wire.is_open()) && self.broken.is_none() {
            self.broken = self.go_on(now).err();
        }
        Accepted { taken: before - batch.len(), blocked }
    }

    fn poll(&mut self, now: Time, completions: &mut Completions) {
        self.refresh();
        if matches!(self.line, Line::Down { retry } if retry <= now) {
            self.dial(now);
        }
        if self.work(now).is_err() {
            self.disconnected(now);
        }
        if self.closing.is_some_and(|closing| closing.deadline <= now) {
            self.disconnected(now);
        }
        completions.append(&mut self.ready);
    }

    fn next_deadline(&self) -> Option<Time> {
        if !self.ready.is_empty() || self.broken.is_some() {
            return Some(Time::ZERO);
        }
        let (line, is_open) = match &self.line {
            Line::Up(wire) => (wire.next_beat(), wire.is_open()),
            Line::Down { retry } => (Some(*retry), false),
            Line::Over => (None, false),
        };
        let part = match &self.part {
            Part::Producer(_) => None,
            Part::Member(_) | Part::Administrator(_) if !is_open => None,
            Part::Member(member) => member.next_deadline(),
            Part::Administrator(administrator) => administrator.next_deadline(),
        };
        line.into_iter().chain(part).chain(self.closing.map(|closing| closing.deadline)).min()
    }

    fn wait_on(&self) -> WaitOn<'_> {
        match &self.line {
            // As long as nothing is read, what could be read wakes nobody.
            Line::Up(wire)
                if wire.unwritten() == 0
                    && self.closing.is_none()
                    && matches!(&self.part, Part::Member(member) if member.is_full()) =>
            {
                WaitOn::Nothing
            }
            Line::Up(wire) => wire.wait_on(),
            Line::Down { .. } | Line::Over => WaitOn::Nothing,
        }
    }

    fn comes_in_pieces(&self) -> bool {
        let of_run = matches!(self.part, Part::Producer(_) | Part::Member(_)) && self.closing.is_none();
        of_run && matches!(&self.line, Line::Up(wire) if wire.is_open() && wire.unwritten() == 0)
    }
}

impl Drop for AmqpClient {
    fn drop(&mut self) {
        if !self.is_over {
            self.common.registry.leave(self.number);
        }
    }
}
