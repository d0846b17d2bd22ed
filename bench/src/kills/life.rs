//! One life of a process: it is started on its folder, loaded through sockets by a producer and a member, and killed, or read to its end.
//!
//! Leaves out the load, which is in `load`, and what must hold, which the books know.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use brokerlab_embedded::{BackendUrl, LoopbackBroker};
use brokerlab_host::served::Served;
use brokerlab_host::{Clock as _, WallClock};
use brokerlab_model::{
    Batch, Broker as _, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Control, Event, LaneId, Outcome,
    Receipt, Refusal, Role, SeekTo, Settlement, Span, Status, Time, Token, Verdict, WaitOn,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::books::{Books, Breach, LETTERS};
use super::shape::Shape;
use super::{Extra, Program};

/// A process that does not answer for so long has failed.
const PATIENCE: Span = Span::from_secs(30);
/// A process is killed within this time after it was started.
const START_US: u64 = 6_000;
/// Lanes of the channel.
pub(super) const LANES: u32 = 2;
/// Deliveries that the member may have before it.
const CREDIT: u64 = 64;
/// Of the receipts of earlier lives, so many are shown again.
const OLD: usize = 40;

pub(super) type Broken = (Breach, String);

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
pub(super) enum Asked {
    Publish {
        number: u64,
        confirmed: usize,
    },
    Ack(Receipt),
    /// Within a transaction.
    AckWithin(Receipt),
    /// It is to become a dead letter.
    Bury(Receipt),
    Return,
    Old,
    Commit,
    Abort,
    Reshape,
    Control,
}

/// What a life did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lived {
    pub(super) delivered: u64,
    pub(super) stale: u64,
    pub(super) letters: u64,
}

/// See the module. Clients stand in the order administrator, producer, member; a second member comes where everything is read once more
/// by another group.
pub(super) struct Life<'b> {
    pub(super) of: Program,
    served: Served,
    broker: LoopbackBroker,
    pub(super) clock: WallClock,
    pub(super) clients: Vec<Box<dyn Client>>,
    seen: Completions,
    pub(super) asked: BTreeMap<Token, Asked>,
    ended: BTreeMap<Token, Status>,
    tokens: u64,
    granted: u64,
    lived: Lived,
    lanes: Vec<LaneId>,
    receipts: Vec<Receipt>,
    /// Delivered and not dealt with.
    pub(super) fresh: Vec<Receipt>,
    /// What was published in this life and is held back, and until when.
    pub(super) held_back: BTreeMap<u64, Time>,
    /// Whether a transaction is open, and whether one ends.
    pub(super) is_open: bool,
    pub(super) is_ending: bool,
    /// Whether the lanes are read once more from their beginning.
    replaying: bool,
    /// Numbers of messages that must still come before everything is read back.
    due: BTreeSet<u64>,
    lost: usize,
    pub(super) books: &'b mut Books,
    pub(super) shape: &'b mut Shape,
}

pub(super) const ADMINISTRATOR: usize = 0;
pub(super) const PRODUCER: usize = 1;
pub(super) const MEMBER: usize = 2;
/// Of a group that has read nothing before.
const READER: usize = 3;

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
        (books, shape): (&'b mut Books, &'b mut Shape),
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
            broker,
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
            held_back: BTreeMap::new(),
            is_open: false,
            is_ending: false,
            replaying: false,
            due: BTreeSet::new(),
            lost: 0,
            books,
            shape,
        };
        if !reopen {
            life.make_channels()?;
        }
        life.join("g", MEMBER)?;
        Ok(life)
    }

    fn make_channels(&mut self) -> Result<(), Broken> {
        let groups = if self.of.rules.extra == Extra::Reshape { &["g", "again"][..] } else { &["g"] };
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let mut specs = vec![ChannelSpec { name: "c".to_owned(), lanes: LANES, groups, ..ChannelSpec::default() }];
        if self.of.rules.extra == Extra::Letters {
            let (groups, dead_letters_of) = (vec!["g".to_owned()], Some(ChannelId(0)));
            let name = "letters".to_owned();
            specs.push(ChannelSpec { name, lanes: 1, groups, dead_letters_of, ..ChannelSpec::default() });
        }
        for spec in specs {
            let made = self.control(ADMINISTRATOR, Asked::Control, Control::Create(spec));
            self.until("the channel to be made", |life| life.ended.contains_key(&made))?;
            if self.ended[&made] != Status::Done {
                return Err(refused(format!("the channel was not made: {:?}", self.ended[&made])));
            }
        }
        Ok(())
    }

    /// A member of `group` comes, as client `number`.
    fn join(&mut self, group: &str, number: usize) -> Result<(), Broken> {
        let letters = (self.of.rules.extra == Extra::Letters).then_some(LETTERS);
        let channels = std::iter::once(ChannelId(0)).chain(letters).collect();
        let role = Role::Member { group: group.to_owned(), channels };
        let spec = ClientSpec { number: number as u32, role, placement: 0 };
        let member = self.broker.connect(self.clock.now(), &spec).map_err(refused)?;
        self.clients.push(member);
        self.grant(CREDIT);
        Ok(())
    }

    pub(super) fn token(&mut self, asked: Asked) -> Token {
        self.tokens += 1;
        self.asked.insert(Token(self.tokens), asked);
        Token(self.tokens)
    }

    pub(super) fn control(&mut self, client: usize, asked: Asked, control: Control) -> Token {
        let token = self.token(asked);
        // Controls are always taken.
        let _ = self.clients[client].submit(self.clock.now(), &mut Batch::Control(vec![(token, control)]));
        token
    }

    fn grant(&mut self, credit: u64) {
        self.granted += credit;
        self.control(self.clients.len() - 1, Asked::Control, Control::Grant(credit as u32));
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

    /// The process is killed.
    pub(super) fn kill(&mut self) -> Result<(), Broken> {
        self.served.kill().map_err(refused)?;
        let clients = self.clients.len();
        self.until("the connections to end", |life| life.lost == clients)?;
        let credit = self.granted.saturating_sub(self.lived.delivered);
        self.books.killed(credit);
        self.shape.killed();
        Ok(())
    }

    /// Reads everything that must be there; a log or stream from its beginning too.
    pub(super) fn read_back(&mut self) -> Result<(), Broken> {
        let may = self.books.may_be_missing();
        self.due = self.books.missing();
        self.until_due(may, "did not come")?;
        if !self.of.rules.cumulative {
            return Ok(());
        }
        if self.of.rules.extra == Extra::Reshape {
            self.due = self.books.acknowledged();
            self.replaying = true;
            self.fresh.clear();
            // What the other member was granted is its own.
            self.granted = self.lived.delivered;
            self.join("again", READER)?;
            return self.until_due(0, "are not in their lanes");
        }
        // Where much may be missing, nothing need have come before the lanes.
        self.until("both lanes", |life| life.lanes.len() >= LANES as usize)?;
        self.replaying = true;
        self.due = self.books.acknowledged();
        for lane in self.lanes.clone() {
            self.control(MEMBER, Asked::Control, Control::Seek { lane, to: SeekTo::Earliest });
        }
        self.until_due(0, "are not in their lanes")?;
        if self.of.rules.extra != Extra::Compaction {
            return Ok(());
        }
        let read = self.until("the latest of each key", |life| {
            life.fresh.clear();
            life.books.keys_behind() == 0
        });
        read.map_err(|_| (Breach::Lost, format!("of {} keys nothing is left", self.books.keys_behind())))
    }

    /// What is read to its end is settled where other lanes wait for it.
    fn settle_all(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        if self.of.rules.extra != Extra::Reshape || fresh.is_empty() {
            return;
        }
        let settle = |receipt| Settlement { token: self.token(Asked::Control), receipt, verdict: Verdict::Ack };
        let batch = fresh.into_iter().map(settle).collect();
        let last = self.clients.len() - 1;
        let _ = self.clients[last].submit(self.clock.now(), &mut Batch::Settle(batch));
    }

    /// Reads until no more than `may` messages are due; that more are is a loss.
    fn until_due(&mut self, may: u64, lost: &str) -> Result<(), Broken> {
        let read = self.until("what was acknowledged", |life| {
            life.settle_all();
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
    pub(super) fn turn(&mut self, at_most: Span) -> Result<(), Broken> {
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
        for number in 0..self.clients.len() {
            self.clients[number].poll(now, &mut seen);
            // Who has read before another group began is no longer asked.
            if !self.replaying || number != MEMBER || self.clients.len() <= READER {
                self.book(&seen)?;
            }
            seen.clear();
        }
        self.seen = seen;
        if self.lost == 0 && self.clients.len() > MEMBER && self.granted < self.lived.delivered + CREDIT / 2 {
            self.grant(CREDIT / 2);
        }
        Ok(())
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
        let now = self.clock.now();
        for delivery in &seen.deliveries {
            self.lived.delivered += 1;
            let number = self.books.delivered(&delivery, self.replaying)?;
            if self.held_back.get(&number).is_some_and(|&until| now < until) && delivery.channel != LETTERS {
                return Err((Breach::Wrong, format!("message {number} came before its delay was over")));
            }
            self.lived.letters += u64::from(self.of.rules.extra == Extra::Letters && delivery.channel == LETTERS);
            self.due.remove(&number);
            self.fresh.push(delivery.receipt);
            self.receipts.push(delivery.receipt);
        }
        seen.outcomes.iter().try_for_each(|outcome| self.book_outcome(outcome))
    }

    fn book_outcome(&mut self, outcome: &Outcome) -> Result<(), Broken> {
        let Some(asked) = self.asked.remove(&outcome.token) else { return Ok(()) };
        self.ended.insert(outcome.token, outcome.status);
        match (asked, outcome.status) {
            (Asked::Publish { number, confirmed }, _) => self.books.published(number, confirmed, outcome),
            (Asked::Ack(receipt) | Asked::Bury(receipt), Status::Done) => self.books.settled(receipt),
            (Asked::AckWithin(receipt), Status::Done) => self.books.bundles.settled(receipt),
            (Asked::Commit, Status::Done) => {
                self.books.committed();
                self.is_ending = false;
            }
            (Asked::Commit, Status::Refused(_)) | (Asked::Abort, _) => {
                self.books.bundles.dropped();
                self.is_ending = false;
            }
            (Asked::Reshape, status) if !self.shape.answered(status, outcome.lane) => {
                return Err((Breach::Lost, "a lane is gone that had been made".to_owned()));
            }
            (Asked::Old, Status::Refused(Refusal::StaleReceipt | Refusal::NotAssigned)) => self.lived.stale += 1,
            (Asked::Old, Status::Done) => {
                return Err((Breach::Stale, "a receipt of an earlier life settled something".to_owned()));
            }
            (
                Asked::Ack(_)
                | Asked::AckWithin(_)
                | Asked::Bury(_)
                | Asked::Return
                | Asked::Old
                | Asked::Commit
                | Asked::Reshape
                | Asked::Control,
                _,
            ) => {}
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
