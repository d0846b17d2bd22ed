//! The fake broker and its rig: the server in this thread, a virtual clock, and a real `poll(2)` that never waits.
//!
//! A client is polled only when its descriptor or its deadline says so, so a wrong `wait_on` shows as a case that gets no
//! further.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use brokerlab_model::conformance::{Rig, Tuning};
use brokerlab_model::{
    Availability, Broker, Capabilities, Client, ClientSpec, ConnectError, Contract, Delivery, Feature, Gaps, Limit,
    ModelKind, Order, Settings, Span, Storage, Time, Unsupported, WaitOn, Words, WorkCounts, Worker,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::NetClient;
use crate::mischief::Mischief;
use crate::server::{MAX_MESSAGE, Server};

/// How long a client of the usual tuning waits for an answer.
pub(crate) const TIMEOUT: Span = Span::from_secs(5);

#[derive(Debug)]
pub(crate) struct NetBroker {
    server: Rc<RefCell<Server>>,
    capabilities: Capabilities,
    numbers: BTreeSet<u32>,
}

impl NetBroker {
    fn new(server: Rc<RefCell<Server>>) -> Self {
        let capabilities = Capabilities {
            name: "fake-network",
            model: ModelKind::Log,
            words: Words { lane: "partition", position: "offset", grant: "fetch", settle: "commit" },
            features: vec![
                Feature::SeekPosition,
                Feature::SeekTime,
                Feature::Windows,
                Feature::FanOut,
                Feature::LaneAssignment,
                Feature::Decoupled,
                Feature::PublishPosition,
                Feature::FullDepth,
                Feature::ExactCredit,
            ],
            max_message_bytes: MAX_MESSAGE as u32,
            limits: vec![Limit { name: "largest message", value: "256 KiB".to_owned(), source: "made up for tests" }],
        };
        Self { server, capabilities, numbers: BTreeSet::new() }
    }
}

impl Broker for NetBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn honour(&self, contract: &Contract) -> Result<Settings, Unsupported> {
        let mut gaps = Gaps::default();
        if contract.delivery != Delivery::AtLeastOnce {
            gaps.add(
                Delivery::AXIS,
                contract.delivery,
                "offsets are committed after the work, so it may be done twice",
            );
        }
        if contract.order == Order::Total {
            gaps.add(Order::AXIS, contract.order, "partitions are not ordered among each other");
        }
        if contract.storage != Storage::Memory {
            gaps.add(Storage::AXIS, contract.storage, "the server keeps everything in memory");
        }
        if contract.copies > 1 {
            gaps.add("copies", contract.copies, "there is one server");
        }
        let mut settings = Settings::default();
        settings.add("commit", "after the work", "at least once").add("retention", "all", "a member may come later");
        gaps.or("fake-network", settings)
    }

    fn connect(&mut self, now: Time, client: &ClientSpec) -> Result<Box<dyn Client>, ConnectError> {
        if !self.numbers.insert(client.number) {
            return Err(ConnectError::NumberTaken(client.number));
        }
        // Whether channel and group exist is known to the server, and its answer is not here yet.
        let door = self.server.borrow().door.clone();
        Ok(Box::new(NetClient::new(now, client.clone(), door, TIMEOUT)))
    }

    fn workers(&mut self) -> Vec<Box<dyn Worker>> {
        Vec::new()
    }

    fn work(&self) -> WorkCounts {
        WorkCounts::default()
    }
}

/// A broker across a socket, in virtual time.
#[derive(Debug)]
pub(crate) struct NetRig {
    pub(crate) server: Rc<RefCell<Server>>,
    broker: NetBroker,
    contract: Contract,
    now: Time,
    /// How often a client was to be polled.
    pub(crate) wakes: Rc<Cell<u64>>,
    mischief: Option<Mischief>,
}

impl NetRig {
    pub(crate) fn new() -> Self {
        let server = Rc::new(RefCell::new(Server::default()));
        let broker = NetBroker::new(Rc::clone(&server));
        let contract =
            Contract { storage: Storage::Memory, availability: Availability::Decoupled, ..Contract::default() };
        Self { server, broker, contract, now: Time(1_000_000), wakes: Rc::default(), mischief: None }
    }

    /// A rig whose server breaks a promise, however often it is renewed.
    pub(crate) fn with(mischief: Mischief) -> Self {
        let rig = Self { mischief: Some(mischief), ..Self::new() };
        rig.server.borrow_mut().faults.mischief = Some(mischief);
        rig
    }

    /// Which clients have something to do at this moment.
    fn wakes(&self, clients: &[&dyn Client]) -> Vec<bool> {
        let mut wakes: Vec<bool> =
            clients.iter().map(|client| client.next_deadline().is_some_and(|due| due <= self.now)).collect();
        let mut descriptors = Vec::new();
        let mut owners = Vec::new();
        for (n, client) in clients.iter().enumerate() {
            let (fd, flags) = match client.wait_on() {
                WaitOn::Nothing => continue,
                WaitOn::Read(fd) => (fd, PollFlags::IN),
                WaitOn::ReadWrite(fd) => (fd, PollFlags::IN | PollFlags::OUT),
            };
            descriptors.push(PollFd::from_borrowed_fd(fd, flags));
            owners.push(n);
        }
        poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll(2) on open descriptors");
        for (descriptor, n) in descriptors.iter().zip(owners) {
            wakes[n] |= !descriptor.revents().is_empty();
        }
        wakes
    }
}

impl Rig for NetRig {
    fn broker(&mut self) -> &mut dyn Broker {
        &mut self.broker
    }

    fn contract(&self) -> Contract {
        self.contract
    }

    fn renew(&mut self, contract: &Contract, tuning: Tuning) -> Result<(), Unsupported> {
        self.broker.honour(contract)?;
        let mut server = Server::default();
        server.faults.mischief = self.mischief;
        match tuning {
            Tuning::Usual => (),
            Tuning::Lease(_) => panic!("the fake broker has no leases"),
            Tuning::Session(_) => panic!("the fake broker has no sessions that end"),
            Tuning::Compacted => panic!("the fake broker compacts nothing"),
            Tuning::SmallBounds => server.faults.max_data = 256 * 1024,
        }
        self.server = Rc::new(RefCell::new(server));
        self.broker = NetBroker::new(Rc::clone(&self.server));
        self.contract = *contract;
        Ok(())
    }

    fn now(&self) -> Time {
        self.now
    }

    fn step(&mut self, clients: &[&dyn Client], limit: Time) -> Vec<bool> {
        let served = self.server.borrow_mut().step(self.now);
        let wakes = self.wakes(clients);
        self.wakes.set(self.wakes.get() + wakes.iter().filter(|wake| **wake).count() as u64);
        if served || wakes.contains(&true) {
            return wakes;
        }
        // Nobody has anything to do: only now may time pass.
        let deadlines =
            clients.iter().filter_map(|client| client.next_deadline()).chain(self.server.borrow().next_deadline());
        let due = deadlines.min().unwrap_or(Time::NEVER);
        self.now = due.min(limit).min(self.now + Span::from_millis(1));
        wakes
    }

    fn patience(&self) -> u32 {
        20_000
    }

    fn quiet(&self) -> Span {
        Span::from_millis(20)
    }
}
