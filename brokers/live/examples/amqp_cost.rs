//! What the RabbitMQ driver costs: one producer and one member in one thread, as fast as confirms come, and this process's CPU time
//! for each message that was published and consumed.
//!
//! `cargo run --release -p brokerlab-live --features amqp --example amqp_cost -- URL BYTES SECONDS`, for example
//! `'amqp://127.0.0.1:5672?queue=quorum&confirms=1000' 1024 20`. Prefetch is 500, every message is acknowledged by itself, the first
//! third of the time is not counted. Leaves out the generator, recorder and checker of a run, which add their own.
#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use brokerlab_live::{LiveUrl, Place};
use brokerlab_model::{
    Batch, Broker, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Control, Publishes, Role, Settlement, Span,
    Status, Time, Token, Verdict, WaitOn,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

const PREFETCH: u32 = 500;
const AT_ONCE: usize = 1_000;

type Failed = Box<dyn std::error::Error>;

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    wall_ns: u64,
    cpu_ns: u64,
    published: u64,
    consumed: u64,
}

struct Bench {
    clients: Vec<Box<dyn Client>>,
    origin: Instant,
    completions: Completions,
    batch: Batch,
    settlements: Batch,
    controls: Batch,
    owed: u32,
    next: u64,
    published: u64,
    consumed: u64,
}

fn main() -> Result<(), Failed> {
    let mut words = std::env::args().skip(1);
    let (Some(url), Some(bytes), Some(seconds)) = (words.next(), words.next(), words.next()) else {
        return Err("give URL, BYTES and SECONDS".into());
    };
    let (url, bytes, seconds) = (LiveUrl::parse(&url)?, bytes.parse::<usize>()?, seconds.parse::<u64>()?);
    let utc = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let place = Place { prefix: format!("cost-{utc}."), existing: false, origin_utc_ns: utc };
    let mut broker = brokerlab_live::open(&url, "page-cache,decoupled".parse()?, &place)?;
    let spec = ChannelSpec { name: "channel".into(), lanes: 1, groups: vec!["g".into()], ..ChannelSpec::default() };
    let ran = run(&mut *broker, &spec, bytes, seconds);
    brokerlab_live::remove(&url, &place, &[spec])?;
    let [from, to] = ran?;
    let wall = Span(to.wall_ns - from.wall_ns).as_secs_f64();
    let consumed = to.consumed - from.consumed;
    println!(
        "{} | {url} | {bytes} B | {:.0}/s published | {:.0}/s consumed | {:.2} µs of CPU a message",
        broker.server(),
        (to.published - from.published) as f64 / wall,
        consumed as f64 / wall,
        (to.cpu_ns - from.cpu_ns) as f64 / 1e3 / consumed as f64,
    );
    Ok(())
}

fn run(broker: &mut dyn Broker, spec: &ChannelSpec, bytes: usize, seconds: u64) -> Result<[Mark; 2], Failed> {
    let origin = Instant::now();
    let administrator = ClientSpec { number: 0, role: Role::Administrator, placement: 0 };
    let mut bench = Bench {
        clients: vec![broker.connect(Time::ZERO, &administrator)?],
        origin,
        completions: Completions::default(),
        batch: Batch::Publish(Publishes::new()),
        settlements: Batch::Settle(Vec::new()),
        controls: Batch::Control(vec![(Token(0), Control::Create(spec.clone()))]),
        owed: 0,
        next: 1,
        published: 0,
        consumed: 0,
    };
    while bench.completions.outcomes.is_empty() {
        let now = bench.now();
        let _later = bench.clients[0].submit(now, &mut bench.controls);
        bench.wait();
        let now = bench.now();
        bench.clients[0].poll(now, &mut bench.completions);
    }
    assert_eq!(bench.completions.outcomes[0].status, Status::Done, "the channel is made");
    bench.completions.clear();
    let now = bench.now();
    let role = Role::Member { group: "g".into(), channels: vec![ChannelId(0)] };
    bench.clients[0] = broker.connect(now, &ClientSpec { number: 1, role, placement: 0 })?;
    bench.clients.push(broker.connect(now, &ClientSpec { number: 2, role: Role::Producer, placement: 0 })?);
    bench.controls = Batch::Control(vec![(Token(0), Control::Grant(PREFETCH))]);
    let payload = vec![7; bytes];
    let (begin, end) = (seconds * 1_000_000_000 / 3, seconds * 1_000_000_000);
    let mut from = None;
    while bench.now().0 < end {
        bench.turn(&payload);
        if from.is_none() && bench.now().0 >= begin {
            from = Some(bench.mark());
        }
    }
    Ok([from.unwrap_or_default(), bench.mark()])
}

impl Bench {
    fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn mark(&self) -> Mark {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Mark {
            wall_ns: self.now().0,
            cpu_ns: cpu.tv_sec.cast_unsigned() * 1_000_000_000 + cpu.tv_nsec.cast_unsigned(),
            published: self.published,
            consumed: self.consumed,
        }
    }

    /// Publishes as much as is taken, waits, and settles what came.
    fn turn(&mut self, payload: &[u8]) {
        if let Batch::Publish(publishes) = &mut self.batch {
            while publishes.len() < AT_ONCE {
                publishes.push(Token(self.next), ChannelId(0), b"", b"", payload);
                self.next += 1;
            }
        }
        let now = self.now();
        let _window = self.clients[1].submit(now, &mut self.batch);
        let _later = self.clients[0].submit(now, &mut self.controls);
        self.wait();
        let now = self.now();
        for client in &mut self.clients {
            client.poll(now, &mut self.completions);
        }
        self.published += self.completions.outcomes.iter().filter(|outcome| outcome.token.0 > 0).count() as u64;
        if let (Batch::Settle(settlements), Batch::Control(controls)) = (&mut self.settlements, &mut self.controls) {
            for delivery in &self.completions.deliveries {
                settlements.push(Settlement { token: Token(0), receipt: delivery.receipt, verdict: Verdict::Ack });
            }
            self.owed += settlements.len() as u32;
            self.consumed += settlements.len() as u64;
            if self.owed >= PREFETCH / 4 {
                controls.push((Token(0), Control::Grant(self.owed)));
                self.owed = 0;
            }
        }
        self.completions.clear();
        if !self.settlements.is_empty() {
            let _taken = self.clients[0].submit(now, &mut self.settlements);
        }
    }

    fn wait(&self) {
        let mut descriptors = Vec::new();
        for client in &self.clients {
            let (fd, flags) = match client.wait_on() {
                WaitOn::Nothing => continue,
                WaitOn::Read(fd) => (fd, PollFlags::IN),
                WaitOn::ReadWrite(fd) => (fd, PollFlags::IN | PollFlags::OUT),
            };
            descriptors.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let at_once = self.clients.iter().any(|client| client.next_deadline() == Some(Time::ZERO));
        let wait = Timespec { tv_sec: 0, tv_nsec: if at_once { 0 } else { 10_000_000 } };
        // A wait that a signal ends is as good as any.
        let _ready = poll(&mut descriptors, Some(&wait));
    }
}
