//! A rig on the machine's clock around a real server: it sleeps in poll(2) on what the clients name, and polls no others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use brokerlab_live::{Live, LiveUrl, OpenError, Place, open, remove};
use brokerlab_model::conformance::{Rig, Tuning};
use brokerlab_model::{Broker, ChannelSpec, Client, Contract, Span, Time, Unsupported, WaitOn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

mod server;

pub(crate) use server::server;

/// The channels and groups that the suite's cases make.
const CHANNELS: [&str; 21] = [
    "answers", "channel", "counted", "deep", "first", "gone", "kept", "later", "mine", "none", "one", "orders",
    "other", "read", "real", "requests", "second", "third", "try", "two", "written",
];
const GROUPS: [&str; 5] = ["caller", "g", "h", "service", "slow"];

/// A place of its own.
pub(crate) fn place() -> Place {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Place {
        prefix: format!("brokerlab-test-{process}-{:x}-{number}-", since_1970.as_nanos()),
        existing: false,
        origin_utc_ns: since_1970.as_nanos() as u64,
    }
}

/// A real broker with time around it.
#[derive(Debug)]
pub(crate) struct LiveRig {
    server: String,
    usual: &'static str,
    small: &'static str,
    quiet: Span,
    origin: Instant,
    contract: Contract,
    pub(crate) broker: Box<dyn Live>,
    pub(crate) places: Vec<(LiveUrl, Place)>,
}

impl LiveRig {
    /// The server that `variable` names, opened with these parameters, and with more of them for small bounds.
    pub(crate) fn new(
        name: &str,
        variable: &str,
        usual: &'static str,
        small: &'static str,
        quiet: Span,
    ) -> Option<Self> {
        Some(Self::at(&server(name, variable)?, usual, small, quiet))
    }

    /// A server, or what stands in front of it, opened likewise.
    pub(crate) fn at(server: &str, usual: &'static str, small: &'static str, quiet: Span) -> Self {
        Self::within(server, usual, small, quiet, place())
    }

    /// The same in a place of the caller's.
    pub(crate) fn within(server: &str, usual: &'static str, small: &'static str, quiet: Span, place: Place) -> Self {
        let contract = Contract::default();
        let (broker, url, place) = start(server, &[usual], contract, place).expect("every server keeps this contract");
        let (server, places) = (server.to_owned(), vec![(url, place)]);
        Self { server, usual, small, quiet, origin: Instant::now(), contract, broker, places }
    }
}

fn start(
    server: &str,
    parameters: &[&str],
    contract: Contract,
    place: Place,
) -> Result<(Box<dyn Live>, LiveUrl, Place), Unsupported> {
    let joint = if server.contains('?') { '&' } else { '?' };
    let url = LiveUrl::parse(&format!("{server}{joint}{}", parameters.join("&"))).expect("the rig writes a URL");
    match open(&url, contract, &place) {
        Ok(broker) => Ok((broker, url, place)),
        Err(OpenError::Unsupported(refusal)) => Err(refusal),
        Err(error) => panic!("{url}: {error}"),
    }
}

impl Drop for LiveRig {
    /// Removes what the case made, whether it passed or not.
    fn drop(&mut self) {
        let groups: Vec<String> = GROUPS.iter().map(|&group| group.to_owned()).collect();
        let specs: Vec<ChannelSpec> = CHANNELS
            .iter()
            .map(|&name| ChannelSpec {
                name: name.to_owned(),
                lanes: 4,
                groups: groups.clone(),
                ..ChannelSpec::default()
            })
            .collect();
        for (url, place) in &self.places {
            if let Err(error) = remove(url, place, &specs) {
                assert!(std::thread::panicking(), "{error}");
            }
        }
    }
}

impl Rig for LiveRig {
    fn broker(&mut self) -> &mut dyn Broker {
        &mut *self.broker
    }

    fn contract(&self) -> Contract {
        self.contract
    }

    fn renew(&mut self, contract: &Contract, tuning: Tuning) -> Result<(), Unsupported> {
        let parameters: &[&str] = match tuning {
            Tuning::Usual => &[self.usual],
            Tuning::SmallBounds => &[self.usual, self.small],
            Tuning::Lease(_) => panic!("no real broker here has leases"),
            Tuning::Session(_) => panic!("a server's sessions are not set by its clients"),
            Tuning::Compacted => panic!("a server's cleaner can't be watched in a test's time, and nobody claims it"),
        };
        let (broker, url, place) = start(&self.server, parameters, *contract, place())?;
        self.broker = broker;
        self.places.push((url, place));
        self.contract = *contract;
        // Times are told to the server from the place's origin on.
        self.origin = Instant::now();
        Ok(())
    }

    fn now(&self) -> Time {
        Time(self.origin.elapsed().as_nanos() as u64)
    }

    fn step(&mut self, clients: &[&dyn Client], limit: Time) -> Vec<bool> {
        const QUANTUM: Span = Span::from_millis(5);
        let now = self.now();
        let mut ready: Vec<bool> =
            clients.iter().map(|client| client.next_deadline().is_some_and(|due| due <= now)).collect();
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
        let due = clients.iter().filter_map(|client| client.next_deadline()).min().unwrap_or(Time::NEVER);
        let wait = if ready.contains(&true) { Span::ZERO } else { due.min(limit).min(now + QUANTUM).since(now) };
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
        self.quiet
    }
}
