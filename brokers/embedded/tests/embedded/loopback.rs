//! The loopback transport's own rules: what becomes of operations when an end goes, who is let in, what a stranger's bytes do.
//!
//! Leaves out what the engines do behind it, which the conformance suite shows.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use brokerlab_embedded::store::SimulatedDisk;
use brokerlab_embedded::store::disk::Fault;
use brokerlab_embedded::{BackendUrl, Disk, EngineBroker, Limits, LoopbackBroker, Place, Server, open};
use brokerlab_model::log::{LogModel, LogOptions};
use brokerlab_model::{
    Accepted, Batch, Blocked, Broker as _, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Contract, Control,
    Event, Failure, LaneId, Publishes, Refusal, Role, Span, Status, Storage, Time, Token,
};

use crate::world::{contract, folder};

/// A server and its clients in one thread.
pub(crate) struct Pair {
    pub(crate) server: Option<Server>,
    pub(crate) broker: LoopbackBroker,
    pub(crate) clients: Vec<Box<dyn Client>>,
    pub(crate) seen: Vec<Completions>,
    tokens: u64,
}

fn serve(url: &str, contract: Contract) -> (Server, SocketAddr) {
    let url = BackendUrl::parse(url).expect("it works here");
    let broker = open(&url, &contract, &Place::default()).expect("it works here");
    let server = Server::bind(&url, &contract, broker).expect("it works here");
    let address = server.address().expect("it works here");
    (server, address)
}

impl Pair {
    pub(crate) fn new(url: &str) -> Self {
        let contract = contract("memory");
        Self::of(url, contract, serve(url, contract))
    }

    fn of(url: &str, contract: Contract, (server, address): (Server, SocketAddr)) -> Self {
        let broker = LoopbackBroker::new(&BackendUrl::parse(url).expect("it works here"), &contract, address)
            .expect("it works here");
        Self { server: Some(server), broker, clients: Vec::new(), seen: Vec::new(), tokens: 0 }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("it works here").address().expect("it works here")
    }

    pub(crate) fn turn(&mut self, now: Time) {
        self.server.as_mut().expect("it works here").turn(&|| now);
    }

    pub(crate) fn connect(&mut self, role: Role) -> usize {
        let number = self.clients.len() as u32;
        let client = self.broker.connect(Time(1), &ClientSpec { number, role, placement: 0 }).expect("it works here");
        self.clients.push(client);
        self.seen.push(Completions::default());
        self.clients.len() - 1
    }

    pub(crate) fn ask(&mut self, client: usize, control: Control) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        assert_eq!(self.clients[client].submit(Time(1), &mut Batch::Control(vec![(token, control)])).taken, 1);
        token
    }

    pub(crate) fn publish(&mut self, client: usize, messages: usize) -> Accepted {
        let mut batch = Publishes::new();
        for _ in 0..messages {
            self.tokens += 1;
            batch.push(Token(self.tokens), ChannelId(0), b"key", b"", &[7; 100]);
        }
        self.clients[client].submit(Time(1), &mut Batch::Publish(batch))
    }

    /// Turns until `met`.
    pub(crate) fn until(&mut self, met: impl Fn(&Self) -> bool) {
        for _ in 0..100_000 {
            if met(self) {
                return;
            }
            if let Some(server) = &mut self.server {
                server.turn(&|| Time(1));
            }
            for (client, seen) in self.clients.iter_mut().zip(&mut self.seen) {
                client.poll(Time(1), seen);
            }
        }
        panic!("it never came: {:?}", self.seen);
    }

    pub(crate) fn ended(&mut self, client: usize, token: Token) -> Status {
        let find = |pair: &Self| pair.seen[client].outcomes.iter().find(|o| o.token == token).map(|o| o.status);
        self.until(|pair| find(pair).is_some());
        find(self).expect("it works here")
    }

    /// A channel of one lane, and the administrator who made it.
    pub(crate) fn channel(&mut self) -> usize {
        let administrator = self.connect(Role::Administrator);
        let spec =
            ChannelSpec { name: "c".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
        let token = self.ask(administrator, Control::Create(spec));
        assert_eq!(self.ended(administrator, token), Status::Done);
        administrator
    }

    pub(crate) fn member(&mut self, credit: u32) -> usize {
        let member = self.connect(Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] });
        self.ask(member, Control::Grant(credit));
        member
    }
}

#[test]
fn what_was_under_way_when_the_server_ends_is_unknown_once_and_nothing_more_is_taken() {
    let mut pair = Pair::new("log");
    pair.channel();
    let producer = pair.connect(Role::Producer);
    assert_eq!(pair.publish(producer, 5).taken, 5);
    pair.until(|pair| pair.seen[1].outcomes.len() == 5);
    pair.seen[1].clear();
    assert_eq!(pair.publish(producer, 10).taken, 10);
    let flush = pair.ask(producer, Control::Flush);
    pair.server = None;
    assert_eq!(pair.ended(producer, flush), Status::Unknown);
    let seen = &pair.seen[1];
    assert!(seen.outcomes.iter().all(|outcome| outcome.status == Status::Unknown));
    assert_eq!((seen.outcomes.len(), &seen.events[..]), (11, &[Event::Disconnected][..]));
    assert_eq!(pair.publish(producer, 3), Accepted { taken: 0, blocked: Some(Blocked::Disconnected) });
    let flush = pair.ask(producer, Control::Flush);
    assert_eq!(pair.ended(producer, flush), Status::Failed(Failure::Disconnected));
    let close = pair.ask(producer, Control::Close);
    assert_eq!(pair.ended(producer, close), Status::Done);
    assert_eq!((pair.seen[1].outcomes.len(), pair.seen[1].events.len()), (13, 1), "each once");
    assert_eq!(pair.clients[producer].reasons().len(), 1);
}

/// A log on a disk that can be made to fail.
fn on_a_disk() -> (Pair, Arc<SimulatedDisk>) {
    let (contract, disk) = (contract("fsync"), Arc::new(SimulatedDisk::new(1)));
    let model = LogModel::new(LogOptions::default(), contract).expect("it works here");
    let on = Arc::clone(&disk) as Arc<dyn Disk>;
    let broker = EngineBroker::open_on(Box::new(model), Storage::Fsync, Limits::default(), on).expect("it works here");
    let url = BackendUrl::parse("log").expect("it works here");
    let server = Server::bind(&url, &contract, Box::new(broker)).expect("it works here");
    let address = server.address().expect("it works here");
    (Pair::of("log", contract, (server, address)), disk)
}

#[test]
fn an_engine_that_stops_is_told_to_who_is_there_and_to_who_comes_and_is_the_server_s_end() {
    let (mut pair, disk) = on_a_disk();
    let administrator = pair.channel();
    let producer = pair.connect(Role::Producer);
    assert_eq!(pair.publish(producer, 10).taken, 10);
    pair.until(|pair| pair.seen[producer].outcomes.len() == 10);
    assert_eq!(pair.broker.stopped(), None);
    disk.plan(Fault::Flush, 0);
    assert_eq!(pair.publish(producer, 10).taken, 10);
    pair.until(|pair| pair.seen[producer].outcomes.len() == 20);
    let status =
        |range: std::ops::Range<usize>| pair.seen[producer].outcomes[range].iter().map(|outcome| outcome.status);
    assert!(status(0..10).all(|status| status == Status::Done));
    assert!(status(10..20).all(|status| status == Status::Failed(Failure::Storage)));
    pair.until(|pair| pair.broker.stopped().is_some());
    let why = pair.broker.stopped().unwrap();
    assert!(why.starts_with("simulated/segment-") && why.contains("nothing more is taken"), "{why}");
    // What is sent before the server's answer to the first of it is held back there, and no more goes out.
    assert_eq!(pair.publish(producer, 3).taken, 3);
    for _ in 0..10 {
        pair.turn(Time(1));
        let Pair { clients, seen, .. } = &mut pair;
        clients[producer].poll(Time(1), &mut seen[producer]);
    }
    assert_eq!(pair.publish(producer, 3), Accepted { taken: 0, blocked: Some(Blocked::Storage) });
    let asked = pair.ask(administrator, Control::Describe(ChannelId(0)));
    pair.until(|pair| pair.seen[administrator].answers.iter().any(|(token, _)| *token == asked));
    let url = BackendUrl::parse("log").unwrap();
    pair.broker = LoopbackBroker::new(&url, &contract("fsync"), pair.address()).unwrap();
    pair.connect(Role::Administrator);
    pair.until(|pair| pair.broker.stopped().is_some());
    assert_eq!(pair.broker.stopped().as_deref(), Some(why.as_str()));
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let ended = pair.server.take().unwrap().run(&|| Time(2), theirs.as_fd());
    assert_eq!(ended.unwrap_err().to_string(), why);
}

/// The server's loop looks at its clock, sleeps until something comes, and only then reads it.
#[test]
fn a_message_is_held_back_from_when_it_was_read_and_not_from_when_the_server_looked_last() {
    let mut pair = Pair::new("queue?delay=1s");
    pair.channel();
    let (producer, member) = (pair.connect(Role::Producer), pair.member(10));
    let millis = |millis: u64| Time::ZERO + Span::from_millis(millis);
    for _ in 0..100 {
        pair.turn(millis(1));
        pair.clients[member].poll(millis(1), &mut pair.seen[member]);
        pair.clients[producer].poll(millis(1), &mut pair.seen[producer]);
    }
    assert_eq!(pair.publish(producer, 1).taken, 1);
    let mut looks = 0;
    while pair.seen[producer].outcomes.is_empty() {
        let looked = AtomicU64::new(0);
        // The first look of a turn is long ago, the others are at 900 ms.
        let clock = || if looked.fetch_add(1, Ordering::Relaxed) == 0 { millis(1) } else { millis(900) };
        pair.server.as_mut().unwrap().turn(&clock);
        pair.clients[producer].poll(millis(900), &mut pair.seen[producer]);
        looks += 1;
        assert!(looks < 100_000, "it never was acknowledged");
    }
    let came = |pair: &mut Pair, now: Time| {
        for _ in 0..100 {
            pair.turn(now);
            pair.clients[member].poll(now, &mut pair.seen[member]);
        }
        pair.seen[member].deliveries.len()
    };
    assert_eq!((came(&mut pair, millis(1_899)), came(&mut pair, millis(1_900))), (0, 1));
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let mut pair = Pair::new("log");
    pair.channel();
    let producer = pair.connect(Role::Producer);
    assert_eq!(pair.publish(producer, 5_000), Accepted { taken: 1_024, blocked: Some(Blocked::Window) });
    assert_eq!(pair.publish(producer, 1), Accepted { taken: 0, blocked: Some(Blocked::Window) });
    pair.until(|pair| pair.seen[1].outcomes.len() == 1_024);
    assert_eq!(pair.publish(producer, 1_024), Accepted { taken: 1_024, blocked: None });
    pair.until(|pair| pair.seen[1].outcomes.len() == 2_048);
    assert!(pair.seen[1].outcomes.iter().all(|outcome| outcome.status == Status::Done));
}

#[test]
fn who_means_something_else_is_let_in_nowhere_and_told_why() {
    for (served, meant, role) in [("log", "queue", Role::Administrator), ("direct", "direct?retries=1", Role::Producer)]
    {
        let (mut server, address) = serve(served, contract("memory"));
        let url = BackendUrl::parse(meant).unwrap();
        let mut broker = LoopbackBroker::new(&url, &contract("memory"), address).unwrap();
        let mut client = broker.connect(Time(1), &ClientSpec { number: 0, role, placement: 0 }).unwrap();
        assert_eq!(client.submit(Time(1), &mut Batch::Control(vec![(Token(1), Control::Flush)])).taken, 1);
        let mut seen = Completions::default();
        while seen.outcomes.is_empty() {
            server.turn(&|| Time(1));
            client.poll(Time(1), &mut seen);
        }
        assert_eq!(seen.outcomes[0].status, Status::Refused(Refusal::Closed));
        let why = client.reasons().remove(0);
        assert!(why.contains(&format!("this is {served} under")) && why.contains(&format!("{meant} under")), "{why}");
    }
}

#[test]
fn who_goes_without_a_word_leaves_what_it_held_to_others() {
    for url in ["log", "queue", "shard"] {
        let mut pair = Pair::new(url);
        pair.channel();
        let (producer, first) = (pair.connect(Role::Producer), pair.member(10));
        assert_eq!(pair.publish(producer, 10).taken, 10);
        pair.until(|pair| pair.seen[first].deliveries.len() == 10);
        // Its number stays taken, its connection ends.
        pair.clients.pop();
        pair.seen.pop();
        let role = Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] };
        let second = pair.broker.connect(Time(1), &ClientSpec { number: 9, role, placement: 0 }).unwrap();
        pair.clients.push(second);
        pair.seen.push(Completions::default());
        pair.ask(first, Control::Grant(10));
        pair.until(|pair| pair.seen[first].deliveries.len() == 10);
        assert!(pair.seen[first].deliveries.iter().all(|delivery| delivery.payload == [7; 100]), "{url}");
    }
}

#[test]
fn a_member_whose_process_hangs_loses_its_lanes_when_its_session_is_over_and_one_that_is_only_idle_does_not() {
    for (url, session) in [("log?session_timeout=6s", 6), ("shard?failover_time=6s", 6)] {
        let mut pair = Pair::new(url);
        pair.channel();
        let (producer, member) = (pair.connect(Role::Producer), pair.member(10));
        assert_eq!(pair.publish(producer, 4).taken, 4);
        pair.until(|pair| pair.seen[member].deliveries.len() == 4);
        let lost = |pair: &Pair| pair.seen[member].events.contains(&Event::LaneLost(LaneId(0)));
        let second = |n: u64| Time(1) + Span::from_secs(n);
        // Nobody asks anything; both ends are there, and for minutes nothing is lost.
        for now in 1..120 {
            for _ in 0..20 {
                pair.clients[member].poll(second(now), &mut pair.seen[member]);
                pair.turn(second(now));
            }
        }
        assert!(!lost(&pair), "{url}");
        // The member's process hangs and its connection stands: the server alone goes on.
        for now in 120..120 + session - 3 {
            pair.turn(second(now));
        }
        pair.clients[member].poll(second(120 + session - 3), &mut pair.seen[member]);
        assert!(!lost(&pair), "{url}: its session is not over");
        for now in 120 + session - 3..130 + 2 * session {
            pair.turn(second(now));
        }
        for _ in 0..20 {
            pair.turn(second(130 + 2 * session));
            let Pair { clients, seen, .. } = &mut pair;
            clients[member].poll(Time(2), &mut seen[member]);
        }
        assert!(lost(&pair), "{url}: {:?}", pair.seen[member].events);
    }
}

#[test]
fn connections_on_which_nothing_happens_are_not_read() {
    let mut pair = Pair::new("log");
    pair.channel();
    let idle: Vec<usize> = (0..200).map(|_| pair.connect(Role::Producer)).collect();
    let flushes: Vec<Token> = idle.iter().map(|&client| pair.ask(client, Control::Flush)).collect();
    for (&client, &flush) in idle.iter().zip(&flushes) {
        assert_eq!(pair.ended(client, flush), Status::Done);
    }
    let producer = pair.connect(Role::Producer);
    let reads = |pair: &Pair| pair.server.as_ref().unwrap().reads();
    let before = reads(&pair);
    for batch in 1..=50 {
        assert_eq!(pair.publish(producer, 10).taken, 10);
        pair.until(|pair| pair.seen[producer].outcomes.len() == 10 * batch);
    }
    // The hello, and each batch in at most a few pieces.
    let read = reads(&pair) - before;
    assert!((50..=200).contains(&read), "{read} reads for 50 batches beside 200 idle connections");
}

#[test]
fn numbers_are_given_out_again_however_a_client_ends() {
    for url in ["log", "queue", "shard", "direct"] {
        let mut pair = Pair::new(url);
        pair.channel();
        for turn in 0..50 {
            let (producer, member) = (pair.connect(Role::Producer), pair.member(4));
            assert_eq!(pair.publish(producer, 4).taken, 4);
            pair.until(|pair| pair.seen[member].deliveries.len() == 4);
            if turn % 2 == 0 {
                for client in [producer, member] {
                    let close = pair.ask(client, Control::Close);
                    assert_eq!(pair.ended(client, close), Status::Done, "{url}");
                }
            }
            // Otherwise their connections end without a word, and with what they were given.
            pair.clients.truncate(producer);
            pair.seen.truncate(producer);
            for _ in 0..20 {
                pair.turn(Time(1));
            }
        }
        let numbers = pair.server.as_ref().unwrap().numbers();
        assert!(numbers <= 5, "{url}: {numbers} numbers for three clients at a time");
    }
}

#[test]
fn bytes_that_are_no_frames_end_their_own_connection_only() {
    let mut pair = Pair::new("log");
    let address = pair.server.as_ref().unwrap().address().unwrap();
    pair.channel();
    for bytes in [&[0; 64][..], &[255; 64], b"GET / HTTP/1.1\r\n\r\n", &[1, 0, 0, 0, 5], &[1, 0, 0, 0, 99]] {
        let mut stranger = TcpStream::connect(address).unwrap();
        stranger.write_all(bytes).unwrap();
        stranger.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16];
        let ended = |stranger: &mut TcpStream, buffer: &mut [u8]| !matches!(stranger.read(buffer), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        for _ in 0..10_000 {
            pair.server.as_mut().unwrap().turn(&|| Time(1));
            if ended(&mut stranger, &mut buffer) {
                break;
            }
        }
        assert!(ended(&mut stranger, &mut buffer), "{bytes:?}");
    }
    let producer = pair.connect(Role::Producer);
    assert_eq!(pair.publish(producer, 4).taken, 4);
    pair.until(|pair| pair.seen[1].outcomes.len() == 4);
}

#[test]
fn a_server_on_its_own_flushes_counts_and_ends_with_its_caller() {
    let (folder, contract) = (folder(), contract("fsync"));
    let url = BackendUrl::parse("log").unwrap();
    let data = folder.path().join("data");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ticks = AtomicU64::new(1);
    let clock = || Time(ticks.fetch_add(1_000, Ordering::Relaxed));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (url, data, clock) = (&url, &data, &clock);
        let running = scope.spawn(move || {
            let broker = open(url, &contract, &Place { data: Some(data) }).unwrap();
            let server = Server::bind(url, &contract, broker).unwrap();
            tell.send(server.address().unwrap()).unwrap();
            server.run(clock, theirs.as_fd())
        });
        let address = told.recv().unwrap();
        let broker = LoopbackBroker::new(url, &contract, address).unwrap();
        let before = broker.work();
        let (clients, seen) = (Vec::new(), Vec::new());
        let mut pair = Pair { server: None, broker, clients, seen, tokens: 0 };
        pair.channel_until_there();
        let producer = pair.connect(Role::Producer);
        assert_eq!(pair.publish(producer, 100).taken, 100);
        pair.wait(|pair| pair.seen[producer].outcomes.len() == 100);
        assert!(pair.seen[producer].outcomes.iter().all(|outcome| outcome.status == Status::Done));
        let work = pair.broker.work().since(&before);
        assert!(work.fsyncs > 0 && work.bytes_written > 100 * 100 && work.payload_copies == 100, "{work:?}");
        drop(ours);
        running.join().unwrap().unwrap();
    });
}

impl Pair {
    /// Polls until `met`, while the server runs on a thread of its own.
    fn wait(&mut self, met: impl Fn(&Self) -> bool) {
        use brokerlab_model::WaitOn;
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        for _ in 0..10_000 {
            for (client, seen) in self.clients.iter_mut().zip(&mut self.seen) {
                client.poll(Time(1), seen);
            }
            if met(self) {
                return;
            }
            let mut descriptors: Vec<_> = self
                .clients
                .iter()
                .filter_map(|client| match client.wait_on() {
                    WaitOn::Read(fd) | WaitOn::ReadWrite(fd) => Some(PollFd::from_borrowed_fd(fd, PollFlags::IN)),
                    WaitOn::Nothing => None,
                })
                .collect();
            poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 5_000_000 })).expect("it works here");
        }
        panic!("it never came: {:?}", self.seen);
    }

    fn channel_until_there(&mut self) {
        let administrator = self.connect(Role::Administrator);
        let spec =
            ChannelSpec { name: "c".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
        let token = self.ask(administrator, Control::Create(spec));
        self.wait(|pair| pair.seen[administrator].outcomes.iter().any(|outcome| outcome.token == token));
    }
}
