//! An embedded backend under one thread, driven as the host drives it: submit, run the workers, poll. Time is a count of steps.
//!
//! Leaves out what is measured, and two threads at once.

use std::path::Path;

use anyhow::Context as _;
use brokerlab_embedded::backends::{Embedded, Place, open};
use brokerlab_embedded::url::BackendUrl;
use brokerlab_model::{
    Batch, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Contract, Control, Event, LaneId, Order, Publishes,
    Receipt, Role, SeekTo, Settlement, Span, Status, Storage, Time, Token, Verdict, WorkCounts, Worker,
};

/// The producer's number; the members' follow.
const PRODUCER: u32 = 1;
/// What a member that follows asks for at once.
const AHEAD: u32 = 4_096;
/// Between two steps.
const STEP: Span = Span::from_micros(1);
/// Tokens of everything but publishes.
const OTHER: Token = Token(1 << 40);

/// What a rig opens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'a> {
    /// The backend's name and parameters.
    pub(super) url: &'a str,
    /// What an acknowledgement means.
    pub(super) storage: Storage,
    /// Its folder, where it stores in files.
    pub(super) data: Option<&'a Path>,
    /// The channel's lanes.
    pub(super) lanes: u32,
    /// Groups, each with one member.
    pub(super) groups: u32,
}

/// How a member stands that follows: messages it may still get, and what it asked for that has to end.
#[derive(Clone, Copy, Debug, Default)]
struct Following {
    credit: u64,
    asked: u64,
    ended: u64,
}

/// A backend with one channel, one producer and a member for each group.
#[derive(Debug)]
pub(super) struct Rig {
    broker: Box<dyn Embedded>,
    workers: Vec<Box<dyn Worker>>,
    pub(super) producer: Box<dyn Client>,
    pub(super) members: Vec<Box<dyn Client>>,
    following: Vec<Following>,
    completions: Completions,
    settlements: Batch,
    now: Time,
    acknowledged: u64,
    sent: u64,
}

impl Rig {
    pub(super) fn open(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let url = BackendUrl::parse(setup.url)?;
        let contract = Contract { storage: setup.storage, order: Order::None, ..Contract::default() };
        let mut broker = open(&url, &contract, &Place { data: setup.data })?;
        let mut workers = broker.workers();
        let spec = |number, role| ClientSpec { number, role, placement: 0 };
        let mut administrator = broker.connect(Time::ZERO, &spec(0, Role::Administrator))?;
        let groups: Vec<String> = (0..setup.groups).map(|group| format!("group-{group}")).collect();
        let channel = ChannelSpec {
            name: "messages".to_owned(),
            lanes: setup.lanes,
            groups: groups.clone(),
            ..ChannelSpec::default()
        };
        let mut create = Batch::Control(vec![(OTHER, Control::Create(channel))]);
        anyhow::ensure!(administrator.submit(Time::ZERO, &mut create).taken == 1, "the channel was not created");
        let mut completions = Completions::default();
        // A queue tells it only once its journal has it, and stores nothing by itself.
        for _ in 0..2 {
            for worker in &mut workers {
                worker.run(Time::ZERO);
            }
            administrator.poll(Time::ZERO, &mut completions);
        }
        let created = completions.outcomes.first().context("the channel's creation did not end")?;
        anyhow::ensure!(created.status == Status::Done, "the channel was not created: {:?}", created.status);
        let producer = broker.connect(Time::ZERO, &spec(PRODUCER, Role::Producer))?;
        let member = |(group, number): (String, u32)| {
            broker.connect(Time::ZERO, &spec(number, Role::Member { group, channels: vec![ChannelId(0)] }))
        };
        let members = groups.into_iter().zip(PRODUCER + 1..).map(member).collect::<Result<_, _>>()?;
        completions.clear();
        let settlements = Batch::Settle(Vec::new());
        let following = vec![Following::default(); setup.groups as usize];
        Ok(Self {
            broker,
            workers,
            producer,
            members,
            following,
            completions,
            settlements,
            now: Time::ZERO,
            acknowledged: 0,
            sent: 0,
        })
    }

    /// What the engine has done so far.
    pub(super) fn work(&self) -> WorkCounts {
        self.broker.work()
    }

    /// Lets that much time go by.
    pub(super) fn pass(&mut self, span: Span) {
        self.now += span;
    }

    /// One pass of the workers.
    pub(super) fn run_workers(&mut self) {
        self.now += STEP;
        for worker in &mut self.workers {
            worker.run(self.now);
        }
    }

    /// Offers the batches until all are taken, runs the workers once for all of them, and again until all are acknowledged.
    pub(super) fn publish(&mut self, batches: &mut [Batch]) -> anyhow::Result<()> {
        for batch in batches {
            self.sent += batch.len() as u64;
            while !batch.is_empty() {
                self.now += STEP;
                let accepted = self.producer.submit(self.now, batch);
                if accepted.blocked.is_some() {
                    self.run_workers();
                    self.collect_acknowledgements()?;
                }
            }
        }
        self.collect_acknowledgements()?;
        for _ in 0..3 {
            if self.acknowledged == self.sent {
                return Ok(());
            }
            self.run_workers();
            self.collect_acknowledgements()?;
        }
        anyhow::bail!("{} of {} publishes were not acknowledged", self.sent - self.acknowledged, self.sent)
    }

    fn collect_acknowledgements(&mut self) -> anyhow::Result<()> {
        self.completions.clear();
        self.producer.poll(self.now, &mut self.completions);
        let done = self.completions.outcomes.iter().filter(|outcome| outcome.status == Status::Done).count();
        anyhow::ensure!(done == self.completions.outcomes.len(), "a publish failed: {:?}", self.broker.storage_error());
        self.acknowledged += done as u64;
        Ok(())
    }

    /// Grants a member so much and takes what comes until that is used up or nothing comes; hands each poll's deliveries to `each`.
    pub(super) fn receive(
        &mut self,
        member: usize,
        count: u32,
        mut each: impl FnMut(&Completions),
    ) -> anyhow::Result<u64> {
        let mut grant = Batch::Control(vec![(OTHER, Control::Grant(count))]);
        anyhow::ensure!(self.members[member].submit(self.now, &mut grant).taken == 1, "a grant was not taken");
        let mut received = 0;
        loop {
            self.now += STEP;
            self.completions.clear();
            self.members[member].poll(self.now, &mut self.completions);
            if self.completions.deliveries.is_empty() {
                return Ok(received);
            }
            received += self.completions.deliveries.len() as u64;
            each(&self.completions);
            if received >= u64::from(count) {
                return Ok(received);
            }
        }
    }

    /// Takes `count` messages as a member does that reads on and on: it asks for many ahead, settles what it has taken, which `receipts` picks,
    /// and learns with the next messages what became of that.
    pub(super) fn follow(
        &mut self,
        member: usize,
        count: u64,
        mut receipts: impl FnMut(&Completions, &mut Vec<Settlement>),
    ) -> anyhow::Result<()> {
        let mut received = 0;
        while received < count {
            if self.following[member].credit < count {
                let mut grant = Batch::Control(vec![(OTHER, Control::Grant(AHEAD))]);
                anyhow::ensure!(self.members[member].submit(self.now, &mut grant).taken == 1, "a grant was not taken");
                self.following[member].credit += u64::from(AHEAD);
                self.following[member].asked += 1;
            }
            self.now += STEP;
            self.listen(member)?;
            let came = self.completions.deliveries.len() as u64;
            anyhow::ensure!(came > 0, "{received} of {count} were delivered");
            received += came;
            self.following[member].credit -= came;
            let Batch::Settle(settlements) = &mut self.settlements else { continue };
            receipts(&self.completions, settlements);
            let asked = settlements.len();
            let taken = self.members[member].submit(self.now, &mut self.settlements).taken;
            anyhow::ensure!(taken == asked, "{taken} of {asked} settlements were taken");
            self.following[member].asked += asked as u64;
        }
        anyhow::ensure!(received == count, "{received} came, {count} were published");
        Ok(())
    }

    /// Ends when all that members that follow have asked for has ended, but for what they may still get.
    pub(super) fn all_settled(&mut self) -> anyhow::Result<()> {
        for member in 0..self.members.len() {
            self.listen(member)?;
            let Following { asked, ended, credit } = self.following[member];
            let grants = credit.div_ceil(u64::from(AHEAD));
            anyhow::ensure!(ended + grants == asked, "member {member} asked for {asked} things, {ended} ended");
        }
        Ok(())
    }

    fn listen(&mut self, member: usize) -> anyhow::Result<()> {
        self.completions.clear();
        self.members[member].poll(self.now, &mut self.completions);
        let done = self.completions.outcomes.iter().filter(|outcome| outcome.status == Status::Done).count();
        anyhow::ensure!(done == self.completions.outcomes.len(), "something was refused or failed");
        self.following[member].ended += done as u64;
        Ok(())
    }

    /// Settles one message of each receipt.
    pub(super) fn settle(&mut self, member: usize, receipts: &[Receipt], verdict: Verdict) -> anyhow::Result<()> {
        self.now += STEP;
        if let Batch::Settle(settlements) = &mut self.settlements {
            settlements.extend(receipts.iter().map(|&receipt| Settlement { token: OTHER, receipt, verdict }));
        }
        let taken = self.members[member].submit(self.now, &mut self.settlements).taken;
        anyhow::ensure!(taken == receipts.len(), "{taken} of {} settlements were taken", receipts.len());
        self.completions.clear();
        self.members[member].poll(self.now, &mut self.completions);
        let done = self.completions.outcomes.iter().filter(|outcome| outcome.status == Status::Done).count();
        anyhow::ensure!(done >= receipts.len(), "{done} of {} settlements were done", receipts.len());
        Ok(())
    }

    /// Moves a member to the beginning of all its lanes; only for streams.
    pub(super) fn rewind(&mut self, member: usize) -> anyhow::Result<()> {
        self.completions.clear();
        self.members[member].poll(self.now, &mut self.completions);
        let lanes: Vec<LaneId> = self
            .completions
            .events
            .iter()
            .filter_map(|event| if let Event::LaneAssigned { lane, .. } = event { Some(*lane) } else { None })
            .collect();
        let lanes = if lanes.is_empty() { vec![LaneId(0)] } else { lanes };
        let seeks = lanes.into_iter().map(|lane| (OTHER, Control::Seek { lane, to: SeekTo::Earliest }));
        let mut seeks = Batch::Control(seeks.collect());
        let asked = seeks.len();
        anyhow::ensure!(self.members[member].submit(self.now, &mut seeks).taken == asked, "a seek was not taken");
        self.completions.clear();
        self.members[member].poll(self.now, &mut self.completions);
        let done = self.completions.outcomes.iter().filter(|outcome| outcome.status == Status::Done).count();
        anyhow::ensure!(done == asked, "{done} of {asked} seeks were done");
        Ok(())
    }
}

/// A batch of `count` messages of `size` bytes, with a key of 8 bytes each that differs; without a key where `keyed` says so.
pub(super) fn batch(count: usize, size: usize, keyed: bool) -> Publishes {
    let mut batch = Publishes::new();
    let payload = vec![0x5a; size];
    for n in 0..count as u64 {
        let key = if keyed { &n.to_le_bytes()[..] } else { &[] };
        batch.push(Token(n), ChannelId(0), key, &[], &payload[key.len().min(size)..]);
    }
    batch
}

/// A batch of messages with keys of 8 bytes that are numbers from `first` on, `size` bytes each.
pub(super) fn batch_from(first: u64, count: usize, size: usize) -> Publishes {
    let mut batch = Publishes::new();
    let payload = vec![0x5a; size - size_of::<u64>()];
    for n in first..first + count as u64 {
        batch.push(Token(n), ChannelId(0), &n.to_le_bytes(), &[], &payload);
    }
    batch
}

/// A batch of messages whose payloads are lengths.
pub(super) fn lengths(count: usize, size: u32) -> Publishes {
    let mut batch = Publishes::of_lengths();
    for n in 0..count as u64 {
        batch.push_length(Token(n), ChannelId(0), &[], &[], size);
    }
    batch
}

/// So many copies of a batch, to be published.
pub(super) fn copies(template: &Publishes, count: usize) -> Vec<Batch> {
    (0..count).map(|_| Batch::Publish(template.clone())).collect()
}
