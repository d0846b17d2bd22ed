//! Every backend of this crate under the conformance suite: in virtual time in memory, on the machine's clock on files, and behind
//! loopback sockets.
//!
//! The rig is a host in miniature: it polls a client and runs a worker only when its descriptor or its deadline says so. A case
//! that gets no further because nobody was woken fails, and so does a worker that never comes to rest.

use std::time::Instant;

use brokerlab_embedded::{BackendUrl, LoopbackBroker, OpenError, Place, Server, open};
use brokerlab_model::conformance::{Rig, Tuning};
use brokerlab_model::{Broker, Client, Contract, Feature, Span, Storage, Time, Unsupported, WaitOn, Worker};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

/// Where a rig's time comes from.
#[derive(Debug)]
enum Clock {
    /// It moves when nobody has anything to do.
    Virtual(Time),
    /// The machine's.
    Wall(Instant),
}

/// A backend of this crate with its workers, in the test's own thread.
#[derive(Debug)]
struct EmbeddedRig {
    name: &'static str,
    clock: Clock,
    contract: Contract,
    hop: Hop,
    broker: Box<dyn Broker>,
    workers: Vec<Box<dyn Worker>>,
    /// The other end of the sockets, with the engine's workers.
    server: Option<Server>,
    folder: TempDir,
    opened: u32,
}

/// What lies between clients and engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    /// Nothing.
    InProcess,
    /// Sockets; the server is in the test's own thread too.
    Loopback,
}

impl EmbeddedRig {
    fn new(name: &'static str, storage: Storage, clock: Clock, hop: Hop) -> Self {
        let contract = Contract { storage, ..Contract::default() };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Started { broker, workers, server } =
            start(name, contract, Tuning::Usual, &folder, 0, hop).expect("every backend keeps this");
        Self { name, clock, contract, hop, broker, workers, server, folder, opened: 1 }
    }

    /// In memory, in virtual time, behind sockets.
    fn behind_sockets(name: &'static str) -> Self {
        Self::new(name, Storage::Memory, Clock::Virtual(Time(1_000_000_000)), Hop::Loopback)
    }

    /// On the machine's clock, on files, behind sockets.
    fn wall_behind_sockets(name: &'static str, storage: Storage) -> Self {
        Self::new(name, storage, Clock::Wall(Instant::now()), Hop::Loopback)
    }

    /// In memory, in virtual time.
    fn virtual_time(name: &'static str) -> Self {
        Self::new(name, Storage::Memory, Clock::Virtual(Time(1_000_000_000)), Hop::InProcess)
    }

    /// On the machine's clock.
    fn wall(name: &'static str, storage: Storage) -> Self {
        Self::new(name, storage, Clock::Wall(Instant::now()), Hop::InProcess)
    }

    /// Runs the workers that have something to do until none has.
    fn run_workers(&mut self) {
        for _ in 0..10_000 {
            let now = self.now();
            if let Some(server) = &mut self.server {
                if !server.turn(&|| now) {
                    return;
                }
                continue;
            }
            let ready =
                ready(now, self.workers.iter().map(|worker| (worker.wait_on(), worker.next_deadline())), Span::ZERO);
            if !ready.contains(&true) {
                return;
            }
            for (worker, _) in self.workers.iter_mut().zip(&ready).filter(|(_, ready)| **ready) {
                worker.run(now);
            }
        }
        panic!("a worker never comes to rest: {:?}", self.workers);
    }
}

struct Started {
    broker: Box<dyn Broker>,
    workers: Vec<Box<dyn Worker>>,
    server: Option<Server>,
}

fn start(
    name: &str,
    contract: Contract,
    tuning: Tuning,
    folder: &TempDir,
    n: u32,
    hop: Hop,
) -> Result<Started, Unsupported> {
    // Small segments on files, so that every case of any size rolls them.
    let on_files = contract.storage != Storage::Memory && name != "null";
    let mut parameters: Vec<String> = on_files.then(|| "segment=64KiB".to_owned()).into_iter().collect();
    // As after a pause: the cases are about what a limit does, and publish at once.
    parameters.extend(name.starts_with("shard").then(|| "initial_credit=full".to_owned()));
    match tuning {
        Tuning::Usual => (),
        Tuning::Lease(span) => parameters.push(format!("visibility_timeout={}ms", span.0 / 1_000_000)),
        Tuning::Session(span) => {
            let parameter = if name.starts_with("shard") { "failover_time" } else { "session_timeout" };
            parameters.push(format!("{parameter}={}ms", span.0 / 1_000_000));
        }
        Tuning::Compacted => {
            let compacted = ["cleanup=compact", "active_bytes=1B", "min_dirty_ratio=0", "delete_retention=0s"];
            parameters.extend(compacted.map(str::to_owned));
        }
        Tuning::SmallBounds => {
            parameters.push("max_memory=1MiB".to_owned());
            parameters.extend(on_files.then(|| "max_data=1MiB".to_owned()));
        }
    }
    let between = if name.contains('?') { '&' } else { '?' };
    let text = format!("{name}{between}{}", parameters.join("&"));
    let url = BackendUrl::parse(&text).expect("the rig writes names that are known");
    let data = folder.path().join(format!("data-{n}"));
    match open(&url, &contract, &Place { data: Some(&data) }) {
        Ok(broker) if hop == Hop::Loopback => {
            let server = Server::bind(&url, &contract, broker).expect("a port of this machine");
            let address = server.address().expect("it listens");
            let broker = Box::new(LoopbackBroker::new(&url, &contract, address)?);
            Ok(Started { broker, workers: Vec::new(), server: Some(server) })
        }
        Ok(mut broker) => {
            let workers = broker.workers();
            Ok(Started { broker, workers, server: None })
        }
        Err(OpenError::Unsupported(refusal)) => Err(refusal),
        Err(error @ (OpenError::Store(_) | OpenError::NoFolder(_))) => panic!("{text}: {error}"),
    }
}

/// Who is to be called now, after waiting for at most `timeout` until somebody is.
fn ready<'a>(now: Time, waiting: impl Iterator<Item = (WaitOn<'a>, Option<Time>)>, timeout: Span) -> Vec<bool> {
    let mut ready = Vec::new();
    let mut descriptors = Vec::new();
    let mut owners = Vec::new();
    for (n, (wait_on, deadline)) in waiting.enumerate() {
        ready.push(deadline.is_some_and(|due| due <= now));
        let (fd, flags) = match wait_on {
            WaitOn::Nothing => continue,
            WaitOn::Read(fd) => (fd, PollFlags::IN),
            WaitOn::ReadWrite(fd) => (fd, PollFlags::IN | PollFlags::OUT),
        };
        descriptors.push(PollFd::from_borrowed_fd(fd, flags));
        owners.push(n);
    }
    let timeout = if ready.contains(&true) { Span::ZERO } else { timeout };
    let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.0.cast_signed() };
    poll(&mut descriptors, Some(&timeout)).expect("poll(2) on open descriptors");
    for (descriptor, n) in descriptors.iter().zip(owners) {
        ready[n] |= !descriptor.revents().is_empty();
    }
    ready
}

impl Rig for EmbeddedRig {
    fn broker(&mut self) -> &mut dyn Broker {
        &mut *self.broker
    }

    fn contract(&self) -> Contract {
        self.contract
    }

    fn renew(&mut self, contract: &Contract, tuning: Tuning) -> Result<(), Unsupported> {
        let Started { broker, workers, server } =
            start(self.name, *contract, tuning, &self.folder, self.opened, self.hop)?;
        (self.broker, self.workers, self.server) = (broker, workers, server);
        self.opened += 1;
        self.contract = *contract;
        Ok(())
    }

    fn now(&self) -> Time {
        match &self.clock {
            Clock::Virtual(now) => *now,
            Clock::Wall(origin) => {
                Time(u64::try_from(origin.elapsed().as_nanos()).expect("a test is over in 500 years"))
            }
        }
    }

    fn step(&mut self, clients: &[&dyn Client], limit: Time) -> Vec<bool> {
        const QUANTUM: Span = Span::from_millis(1);
        self.run_workers();
        let now = self.now();
        let of_clients = || clients.iter().map(|client| (client.wait_on(), client.next_deadline()));
        let at_once = ready(now, of_clients(), Span::ZERO);
        if at_once.contains(&true) {
            return at_once;
        }
        // Nobody has anything to do: only now may time pass.
        let of_workers = self.workers.iter().map(|worker| worker.next_deadline());
        let of_server = self.server.as_ref().map(|server| Some(server.next_deadline(now)));
        let due = of_clients().map(|(_, deadline)| deadline).chain(of_workers).chain(of_server);
        let due = due.flatten().min().unwrap_or(Time::NEVER);
        let until = due.min(limit).min(now + QUANTUM);
        match &mut self.clock {
            Clock::Virtual(time) => {
                *time = until;
                at_once
            }
            Clock::Wall(_) => ready(now, of_clients(), until.since(now)),
        }
    }

    fn patience(&self) -> u32 {
        20_000
    }

    fn quiet(&self) -> Span {
        match self.clock {
            // Who polls asks five times a second.
            Clock::Virtual(_) if self.name.contains("polling") => Span::from_millis(500),
            Clock::Virtual(_) => Span::from_millis(50),
            Clock::Wall(_) => Span::from_millis(10),
        }
    }
}

/// A backend in virtual time, with every case.
macro_rules! in_virtual_time {
    ($name:ident) => {
        mod $name {
            use super::super::EmbeddedRig;

            brokerlab_model::conformance_suite!(EmbeddedRig::virtual_time(stringify!($name)));
            brokerlab_model::conformance_timing_suite!(EmbeddedRig::virtual_time(stringify!($name)));
            brokerlab_model::conformance_session_suite!(EmbeddedRig::virtual_time(stringify!($name)));
        }
    };
}

/// A preset in virtual time, with every case.
macro_rules! preset {
    ($module:ident, $url:literal) => {
        mod $module {
            use super::super::EmbeddedRig;

            brokerlab_model::conformance_suite!(EmbeddedRig::virtual_time($url));
            brokerlab_model::conformance_timing_suite!(EmbeddedRig::virtual_time($url));
            brokerlab_model::conformance_session_suite!(EmbeddedRig::virtual_time($url));
        }
    };
}

/// The control row, with what it claims.
macro_rules! control {
    ($module:ident, $rig:expr) => {
        mod $module {
            #[allow(unused_imports, reason = "the expression may name a storage")]
            use super::super::{EmbeddedRig, Storage};

            brokerlab_model::conformance_control_suite!($rig);
        }
    };
}

/// A backend on the machine's clock, with every case that a slow machine can't fail.
macro_rules! on_the_wall_clock {
    ($module:ident, $name:literal, $storage:expr) => {
        mod $module {
            use super::super::{EmbeddedRig, Storage};

            brokerlab_model::conformance_suite!(EmbeddedRig::wall($name, $storage));
        }
    };
}

mod virtual_time {
    use super::EmbeddedRig;

    in_virtual_time!(log);
    in_virtual_time!(queue);
    preset!(queue_as_rabbitmq, "queue?as=rabbitmq");
    preset!(queue_as_sqs, "queue?as=sqs");
    preset!(queue_as_sqs_fifo, "queue?as=sqs-fifo");
    preset!(queue_with_all, "queue?priorities=9&deduplication=5min&dead_letter=channel");

    /// Most cases publish more than such a queue holds.
    #[test]
    fn queues_with_a_length_limit_count_what_they_do_not_keep() {
        for url in ["queue?max_length=9", "queue?max_length=9&overflow=reject-publish"] {
            let mut rig = EmbeddedRig::virtual_time(url);
            brokerlab_model::conformance::headers::a_length_limit_counts_what_does_not_wait_or_everything_does(
                &mut rig,
            );
        }
    }
    in_virtual_time!(shard);
    preset!(shard_that_is_polled, "shard?readers=polling");
    preset!(shard_on_demand, "shard?mode=on-demand");
    in_virtual_time!(direct);
    control!(null, EmbeddedRig::virtual_time("null"));
}

mod wall_clock {
    on_the_wall_clock!(log_on_page_cache, "log", Storage::PageCache);
    on_the_wall_clock!(log_on_fsync, "log", Storage::Fsync);
    on_the_wall_clock!(queue_on_page_cache, "queue", Storage::PageCache);
    on_the_wall_clock!(
        queue_with_all_on_page_cache,
        "queue?priorities=9&deduplication=5min&dead_letter=channel",
        Storage::PageCache
    );
    on_the_wall_clock!(queue_on_fsync, "queue", Storage::Fsync);
    on_the_wall_clock!(shard_on_page_cache, "shard", Storage::PageCache);
    on_the_wall_clock!(shard_on_fsync, "shard", Storage::Fsync);
    on_the_wall_clock!(direct_on_page_cache, "direct", Storage::PageCache);
    on_the_wall_clock!(direct_on_fsync, "direct", Storage::Fsync);
    control!(null_in_memory, EmbeddedRig::wall("null", Storage::Memory));
}

/// A backend behind sockets in virtual time, with every case.
macro_rules! behind_sockets {
    ($name:ident) => {
        mod $name {
            use super::super::EmbeddedRig;

            brokerlab_model::conformance_suite!(EmbeddedRig::behind_sockets(stringify!($name)));
            brokerlab_model::conformance_timing_suite!(EmbeddedRig::behind_sockets(stringify!($name)));
        }
    };
}

/// A backend behind sockets on the machine's clock and on files.
macro_rules! behind_sockets_on_files {
    ($module:ident, $name:literal, $storage:expr) => {
        mod $module {
            use super::super::{EmbeddedRig, Storage};

            brokerlab_model::conformance_suite!(EmbeddedRig::wall_behind_sockets($name, $storage));
        }
    };
}

mod loopback {
    behind_sockets!(log);
    behind_sockets!(queue);
    behind_sockets!(shard);
    behind_sockets!(direct);
    control!(null, EmbeddedRig::behind_sockets("null"));
    behind_sockets_on_files!(log_on_page_cache, "log", Storage::PageCache);
    behind_sockets_on_files!(queue_on_fsync, "queue", Storage::Fsync);
}

/// The suite stands on backends that have a feature and on others that lack it, for every feature but those that all of these have: real
/// brokers lack them, and stand the same suite.
#[test]
fn each_feature_is_had_by_one_backend_and_lacked_by_another() {
    let mut all = Vec::new();
    for listed in brokerlab_embedded::catalogue() {
        all.push(listed.capabilities.clone());
        all.extend(listed.presets.into_iter().map(|(_, capabilities)| capabilities));
    }
    for url in ["queue?priorities=9&deduplication=5min&dead_letter=channel", "queue?max_length=9"] {
        let url = BackendUrl::parse(url).expect("a name that the suite is made for above");
        all.push(brokerlab_embedded::capabilities(&url, &Contract::default()).expect("it keeps this"));
    }
    let count = |feature: Feature| all.iter().filter(|capabilities| capabilities.has(feature)).count();
    let of = |times: usize| Feature::ALL.iter().copied().filter(|feature| count(*feature) == times).collect::<Vec<_>>();
    assert_eq!(of(0), [], "a feature that nobody has is tested in one direction only");
    let everybody = [Feature::FanOut, Feature::PublishPosition, Feature::FullDepth, Feature::ExactCredit];
    assert_eq!(
        of(all.len()),
        everybody,
        "lacked by RabbitMQ alone, under a total order or with automatic acknowledgement"
    );
}
