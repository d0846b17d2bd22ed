//! RabbitMQ under the conformance suite, for quorum and classic queues, against the server that `BROKERLAB_TEST_AMQP` names (for
//! example `amqp://127.0.0.1:5672`).
//!
//! Without the variable each case prints that it was skipped; with `amqp` in `BROKERLAB_TEST_REQUIRE` it fails instead. Each case
//! works under a prefix of its own and removes what it made.
#![cfg(feature = "amqp")]

mod outage;
mod proxy;
mod trouble;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use brokerlab_live::{Live, LiveUrl, OpenError, Place};
use brokerlab_model::conformance::{Rig, Tuning};
use brokerlab_model::{Broker, ChannelSpec, Client, Contract, Span, Time, Unsupported, WaitOn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The channels that cases make, so that each can be removed after its case.
const NAMES: &[&str] = &[
    "channel", "counted", "deep", "first", "gone", "kept", "later", "mine", "none", "one", "orders", "other", "real",
    "second", "third", "two",
];

/// The server under test, or none. Fails when there must be one.
fn server() -> Option<String> {
    if let Ok(url) = std::env::var("BROKERLAB_TEST_AMQP") {
        return Some(url);
    }
    let required = std::env::var("BROKERLAB_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == "amqp"),
        "BROKERLAB_TEST_AMQP names no server, and one is required"
    );
    None
}

/// A RabbitMQ with what a case makes on it.
#[derive(Debug)]
struct RabbitRig {
    parameters: &'static str,
    server: String,
    origin: Instant,
    contract: Contract,
    broker: Box<dyn Live>,
    places: Vec<(LiveUrl, Place)>,
}

fn url(server: &str, parameters: &str, tuning: Tuning) -> LiveUrl {
    let bounds = match tuning {
        Tuning::Usual => "",
        Tuning::SmallBounds => "&confirms=4",
        Tuning::Lease(_) => panic!("RabbitMQ has no leases"),
    };
    // A smaller limit than the server's, so that the message beyond it costs a case no gigabytes.
    LiveUrl::parse(&format!("{server}?{parameters}&max_message_size=1048576{bounds}")).expect("the rig writes a URL")
}

fn place() -> Place {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Place {
        prefix: format!("brokerlab-test-{}-{}-{number}.", std::process::id(), since_1970.as_nanos()),
        existing: false,
        origin_utc_ns: u64::try_from(since_1970.as_nanos()).expect("it is earlier than 2554"),
        accept_weaker: false,
    }
}

impl RabbitRig {
    fn new(parameters: &'static str) -> Option<Self> {
        server().map(|server| Self::at(&server, parameters))
    }

    /// On this server, or on what stands in front of it.
    fn at(server: &str, parameters: &'static str) -> Self {
        let contract = Contract::default();
        let (url, place) = (url(server, parameters, Tuning::Usual), place());
        let broker = brokerlab_live::open(&url, contract, &place).expect("the server under test opens");
        let (server, places) = (server.to_owned(), vec![(url, place)]);
        Self { parameters, server, origin: Instant::now(), contract, broker, places }
    }
}

impl Drop for RabbitRig {
    fn drop(&mut self) {
        let groups: Vec<String> = ["g", "h", "slow"].map(str::to_owned).into();
        let spec = |&name: &&str| ChannelSpec { name: name.to_owned(), lanes: 4, groups: groups.clone() };
        let specs: Vec<ChannelSpec> = NAMES.iter().map(spec).collect();
        for (url, place) in &self.places {
            if let Err(error) = brokerlab_live::remove(url, place, &specs) {
                assert!(std::thread::panicking(), "{error}");
            }
        }
    }
}

impl Rig for RabbitRig {
    fn broker(&mut self) -> &mut dyn Broker {
        &mut *self.broker
    }

    fn contract(&self) -> Contract {
        self.contract
    }

    fn renew(&mut self, contract: &Contract, tuning: Tuning) -> Result<(), Unsupported> {
        let (url, place) = (url(&self.server, self.parameters, tuning), place());
        self.broker = match brokerlab_live::open(&url, *contract, &place) {
            Ok(broker) => broker,
            Err(OpenError::Unsupported(refusal)) => return Err(refusal),
            Err(error) => panic!("{url}: {error}"),
        };
        self.contract = *contract;
        self.places.push((url, place));
        Ok(())
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_nanos()).expect("a test is over in 500 years"))
    }

    fn step(&mut self, clients: &[&dyn Client], limit: Time) -> Vec<bool> {
        const QUANTUM: Span = Span::from_millis(5);
        let now = self.now();
        let due = |client: &&dyn Client| client.next_deadline().is_some_and(|due| due <= now);
        let mut ready: Vec<bool> = clients.iter().map(due).collect();
        let (mut descriptors, mut owners) = (Vec::new(), Vec::new());
        for (n, client) in clients.iter().enumerate() {
            let (fd, flags) = match client.wait_on() {
                WaitOn::Nothing => continue,
                WaitOn::Read(fd) => (fd, PollFlags::IN),
                WaitOn::ReadWrite(fd) => (fd, PollFlags::IN | PollFlags::OUT),
            };
            descriptors.push(PollFd::from_borrowed_fd(fd, flags));
            owners.push(n);
        }
        let deadlines = clients.iter().filter_map(|client| client.next_deadline());
        let until = deadlines.min().unwrap_or(Time::NEVER).min(limit).min(now + QUANTUM);
        let wait = if ready.contains(&true) { Span::ZERO } else { until.since(now) };
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.0.cast_signed() };
        poll(&mut descriptors, Some(&wait)).expect("poll(2) on open descriptors");
        for (descriptor, n) in descriptors.iter().zip(owners) {
            ready[n] |= !descriptor.revents().is_empty();
        }
        ready
    }

    fn patience(&self) -> u32 {
        20_000
    }

    fn quiet(&self) -> Span {
        Span::from_millis(150)
    }
}

/// Says that a test was skipped.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped() {
    eprintln!("skipped: no broker at BROKERLAB_TEST_AMQP");
}

/// A rig, or the end of the test with a line that says why.
macro_rules! rig_or_skip {
    ($parameters:literal) => {
        match RabbitRig::new($parameters) {
            Some(rig) => rig,
            None => return skipped(),
        }
    };
}

mod quorum {
    use super::*;

    brokerlab_model::conformance_suite!(rig_or_skip!("queue=quorum"));
}

mod classic {
    use super::*;

    brokerlab_model::conformance_suite!(rig_or_skip!("queue=classic"));
}
