//! One life of a process: it is started on its folder, loaded through sockets by a producer and a member, and killed, or read to its end.
//!
//! Leaves out what must hold, which the books know.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use brokerlab_embedded::{BackendUrl, LoopbackBroker};
use brokerlab_host::served::Served;
use brokerlab_host::{Clock as _, WallClock};
use brokerlab_model::{
    Batch, Broker as _, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Control, Event, LaneId, Publishes,
    Receipt, Refusal, Role, SeekTo, Settlement, Span, Status, Time, Token, Verdict, WaitOn,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Program;
use super::books::{Books, Breach, key, payload};

/// A process that does not answer for so long has failed.
const PATIENCE: Span = Span::from_secs(30);
/// A process is killed within this time after its load began, or within that after it was started.
const LOAD_US: u64 = 30_000;
const START_US: u64 = 6_000;
/// Deliveries that the member may have before it.
const CREDIT: u64 = 64;
/// Of the receipts of earlier lives, so many are shown again.
const OLD: usize = 40;

type Broken = (Breach, String);

/// Random numbers of a seed (SplitMix64; Steele, Lea, Flood 2014).
#[derive(Debug)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ 0x6b69_6c6c)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What a token was given out for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Publish { number: u64, confirmed: usize },
    Ack(Receipt),
    Return,
    Old,
    Control,
}

/// What a life did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lived {
    pub(super) delivered: u64,
    pub(super) stale: u64,
}

/// See the module. Clients stand in the order administrator, producer, member.
pub(super) struct Life<'b> {
    of: Program,
    served: Served,
    clock: WallClock,
    clients: Vec<Box<dyn Client>>,
    seen: Completions,
    asked: BTreeMap<Token, Asked>,
    ended: BTreeMap<Token, Status>,
    tokens: u64,
    granted: u64,
    lived: Lived,
    lanes: Vec<LaneId>,
    receipts: Vec<Receipt>,
    /// Delivered and not dealt with.
    fresh: Vec<Receipt>,
    /// Whether the lanes are read once more from their beginning.
    replaying: bool,
    /// Numbers of messages that must still come before everything is read back.
    due: BTreeSet<u64>,
    lost: usize,
    books: &'b mut Books,
}

const ADMINISTRATOR: usize = 0;
const PRODUCER: usize = 1;
const MEMBER: usize = 2;

fn command_line(of: &Program, data: &Path, reopen: bool) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["serve".into(), of.url.into(), "--contract".into()];
    words.extend([of.contract.to_string().into(), "--data".into(), data.into()]);
    words.extend(reopen.then(|| "--reopen".into()));
    words
}

/// Starts a process on the folder and kills it in the middle of that.
pub(super) fn killed_while_starting(of: &Program, exe: &Path, data: &Path, draw: &mut Draw) -> anyhow::Result<()> {
    let mut child = Command::new(exe)
        .args(command_line(of, data, true))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("can't start {}", exe.display()))?;
    pause(Span::from_micros(draw.below(START_US)));
    child.kill().context("can't kill a process")?;
    child.wait().context("can't wait for a process")?;
    Ok(())
}

fn pause(span: Span) {
    // An interrupted one is a short one.
    let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: span.0.cast_signed() }));
}

fn refused(why: impl std::fmt::Display) -> Broken {
    (Breach::Refused, why.to_string())
}

impl<'b> Life<'b> {
    /// Starts the process and connects to it; in the first life makes the channel.
    pub(super) fn begin(
        of: &Program,
        exe: &Path,
        data: &Path,
        reopen: bool,
        books: &'b mut Books,
    ) -> Result<Self, Broken> {
        let served = Served::start(exe, &command_line(of, data, reopen)).map_err(refused)?;
        let url = BackendUrl::parse(of.url).map_err(refused)?;
        let mut broker = LoopbackBroker::new(&url, &of.contract, served.address()).map_err(refused)?;
        let clock = WallClock::new();
        let mut connect =
            |number, role| broker.connect(clock.now(), &ClientSpec { number, role, placement: 0 }).map_err(refused);
        let clients = vec![connect(0, Role::Administrator)?, connect(1, Role::Producer)?];
        let mut life = Self {
            of: *of,
            served,
            clock,
            clients,
            seen: Completions::default(),
            asked: BTreeMap::new(),
            ended: BTreeMap::new(),
            tokens: 0,
            granted: 0,
            lived: Lived::default(),
            lanes: Vec::new(),
            receipts: Vec::new(),
            fresh: Vec::new(),
            replaying: false,
            due: BTreeSet::new(),
            lost: 0,
            books,
        };
        if !reopen {
            let spec =
                ChannelSpec { name: "c".to_owned(), lanes: 2, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
            let made = life.control(ADMINISTRATOR, Control::Create(spec));
            life.until("the channel to be made", |life| life.ended.contains_key(&made))?;
            if life.ended[&made] != Status::Done {
                return Err(refused(format!("the channel was not made: {:?}", life.ended[&made])));
            }
        }
        let role = Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] };
        let member =
            broker.connect(life.clock.now(), &ClientSpec { number: 2, role, placement: 0 }).map_err(refused)?;
        life.clients.push(member);
        life.grant(CREDIT);
        Ok(life)
    }

    fn token(&mut self, asked: Asked) -> Token {
        self.tokens += 1;
        self.asked.insert(Token(self.tokens), asked);
        Token(self.tokens)
    }

    fn control(&mut self, client: usize, control: Control) -> Token {
        let token = self.token(Asked::Control);
        // Controls are always taken.
        let _ = self.clients[client].submit(self.clock.now(), &mut Batch::Control(vec![(token, control)]));
        token
    }

    fn grant(&mut self, credit: u64) {
        self.granted += credit;
        self.control(MEMBER, Control::Grant(credit as u32));
    }

    /// Shows receipts of earlier lives: none may settle anything.
    pub(super) fn show_old(&mut self, old: &[Receipt]) -> Result<(), Broken> {
        let shown = &old[old.len().saturating_sub(OLD)..];
        if shown.is_empty() {
            return Ok(());
        }
        let settle = |life: &mut Self, &receipt: &Receipt| {
            let token = life.token(Asked::Old);
            Settlement { token, receipt, verdict: Verdict::Ack }
        };
        let batch: Vec<Settlement> = shown.iter().map(|receipt| settle(self, receipt)).collect();
        let last = batch.last().map(|settlement| settlement.token);
        let _ = self.clients[MEMBER].submit(self.clock.now(), &mut Batch::Settle(batch));
        self.until("old receipts to be refused", |life| last.is_none_or(|last| life.ended.contains_key(&last)))
    }

    /// Publishes, reads and settles until the process is killed, at a moment that is drawn.
    pub(super) fn load(&mut self, draw: &mut Draw) -> Result<(), Broken> {
        let until = self.clock.now() + Span::from_micros(draw.below(LOAD_US));
        while self.clock.now() < until {
            self.publish(1 + draw.below(32));
            self.turn(Span::from_micros(50))?;
            self.settle(draw);
        }
        self.served.kill().map_err(refused)?;
        let clients = self.clients.len();
        self.until("the connections to end", |life| life.lost == clients)?;
        let credit = self.granted.saturating_sub(self.lived.delivered);
        self.books.killed(credit);
        Ok(())
    }

    fn publish(&mut self, count: u64) {
        let mut batch = Publishes::new();
        let mut sent = Vec::new();
        for _ in 0..count {
            let (number, confirmed) = self.books.publish();
            let token = self.token(Asked::Publish { number, confirmed });
            batch.push(token, ChannelId(0), &key(number), b"h", &payload(number));
            sent.push(token);
        }
        let taken = self.clients[PRODUCER].submit(self.clock.now(), &mut Batch::Publish(batch)).taken;
        for token in &sent[taken..] {
            // Never sent: the number stays unknown, and never comes.
            self.asked.remove(token);
        }
    }

    /// Deals with what came: most is acknowledged, some given back, some left.
    fn settle(&mut self, draw: &mut Draw) {
        let fresh = std::mem::take(&mut self.fresh);
        let mut batch = Vec::new();
        let requeues = self.of.url.starts_with("queue") && !self.at_most_once();
        for receipt in fresh {
            let (asked, verdict) = match draw.below(10) {
                0 if requeues => (Asked::Return, Verdict::Nack { requeue: true }),
                0 | 1 => continue,
                _ => (Asked::Ack(receipt), Verdict::Ack),
            };
            if matches!(asked, Asked::Ack(_)) {
                self.books.settling(receipt);
            } else {
                self.books.given_back(receipt);
            }
            batch.push(Settlement { token: self.token(asked), receipt, verdict });
        }
        if !batch.is_empty() {
            let _ = self.clients[MEMBER].submit(self.clock.now(), &mut Batch::Settle(batch));
        }
    }

    fn at_most_once(&self) -> bool {
        self.of.contract.delivery == brokerlab_model::Delivery::AtMostOnce
    }

    /// Reads everything that must be there; a log or stream from its beginning too.
    pub(super) fn read_back(&mut self) -> Result<(), Broken> {
        let may = self.books.may_be_missing();
        self.due = self.books.missing();
        self.until_due(may, "did not come")?;
        if !self.of.cumulative {
            return Ok(());
        }
        // Where much may be missing, nothing need have come before the lanes.
        self.until("both lanes", |life| life.lanes.len() >= 2)?;
        self.replaying = true;
        self.due = self.books.acknowledged();
        for lane in self.lanes.clone() {
            self.control(MEMBER, Control::Seek { lane, to: SeekTo::Earliest });
        }
        self.until_due(0, "are not in their lanes")
    }

    /// Reads until no more than `may` messages are due; that more are is a loss.
    fn until_due(&mut self, may: u64, lost: &str) -> Result<(), Broken> {
        let read = self.until("what was acknowledged", |life| {
            life.fresh.clear();
            life.due.len() as u64 <= may
        });
        read.map_err(|(breach, why)| match breach {
            Breach::Refused => (Breach::Lost, format!("{} acknowledged messages {lost}", self.due.len())),
            Breach::Lost | Breach::Wrong | Breach::Again | Breach::Stale => (breach, why),
        })
    }

    /// Turns until `met`.
    fn until(&mut self, what: &str, mut met: impl FnMut(&mut Self) -> bool) -> Result<(), Broken> {
        let limit = self.clock.now() + PATIENCE;
        while !met(self) {
            if self.clock.now() >= limit {
                return Err(refused(format!("waited {PATIENCE} for {what}")));
            }
            self.turn(Span::from_millis(5))?;
        }
        Ok(())
    }

    /// Waits a little for anything to come, and books it.
    fn turn(&mut self, at_most: Span) -> Result<(), Broken> {
        let mut descriptors = Vec::new();
        for client in &self.clients {
            match client.wait_on() {
                WaitOn::Nothing => {}
                WaitOn::Read(fd) => descriptors.push(PollFd::from_borrowed_fd(fd, PollFlags::IN)),
                WaitOn::ReadWrite(fd) => {
                    descriptors.push(PollFd::from_borrowed_fd(fd, PollFlags::IN | PollFlags::OUT));
                }
            }
        }
        // An interrupted wait is a short one.
        let _ = poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: at_most.0.cast_signed() }));
        drop(descriptors);
        let now: Time = self.clock.now();
        let mut seen = std::mem::take(&mut self.seen);
        for client in &mut self.clients {
            client.poll(now, &mut seen);
        }
        let booked = self.book(&seen);
        seen.clear();
        self.seen = seen;
        if self.lost == 0 && self.clients.len() > MEMBER && self.granted < self.lived.delivered + CREDIT / 2 {
            self.grant(CREDIT / 2);
        }
        booked
    }

    fn book(&mut self, seen: &Completions) -> Result<(), Broken> {
        for event in &seen.events {
            match event {
                Event::Disconnected => self.lost += 1,
                Event::LaneAssigned { lane, .. } => self.lanes.push(*lane),
                Event::LaneRevoked(_) | Event::LaneLost(_) | Event::Blocked | Event::Unblocked | Event::Reconnected => {
                }
            }
        }
        // Outcomes last: what was delivered with them came before.
        for delivery in &seen.deliveries {
            self.lived.delivered += 1;
            let number = self.books.delivered(&delivery, self.replaying)?;
            self.due.remove(&number);
            self.fresh.push(delivery.receipt);
            self.receipts.push(delivery.receipt);
        }
        for outcome in &seen.outcomes {
            let Some(asked) = self.asked.remove(&outcome.token) else { continue };
            self.ended.insert(outcome.token, outcome.status);
            match (asked, outcome.status) {
                (Asked::Publish { number, confirmed }, _) => self.books.published(number, confirmed, outcome),
                (Asked::Ack(receipt), Status::Done) => self.books.settled(receipt),
                (Asked::Old, Status::Refused(Refusal::StaleReceipt | Refusal::NotAssigned)) => self.lived.stale += 1,
                (Asked::Old, Status::Done) => {
                    return Err((Breach::Stale, "a receipt of an earlier life settled something".to_owned()));
                }
                (Asked::Ack(_) | Asked::Return | Asked::Old | Asked::Control, _) => {}
            }
        }
        Ok(())
    }

    /// Receipts of what came in this life.
    pub(super) fn receipts(&self) -> impl Iterator<Item = Receipt> + '_ {
        let from = self.receipts.len().saturating_sub(OLD);
        self.receipts[from..].iter().copied()
    }

    /// Ends the process, if it still runs.
    pub(super) fn end(self) -> Lived {
        self.lived
    }
}
