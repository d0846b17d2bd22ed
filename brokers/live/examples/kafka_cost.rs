//! What the Kafka driver costs: messages published and consumed against a real server, with the client's CPU time for each.
//!
//! `kafka_cost URL SIZE COUNT`: one topic of one partition is made, filled with COUNT messages of SIZE bytes, read once by a new
//! group, and removed. The first quarter of either way is warm-up. Leaves out pacing, recording and checking.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use brokerlab_live::{LiveUrl, Place, open, remove};
use brokerlab_model::{
    Batch, Blocked, Broker, ChannelId, ChannelSpec, Client, ClientSpec, Completions, Contract, Control, Publishes,
    Role, Settlement, Span, Status, Time, Token, Verdict, WaitOn,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

type Failure = Box<dyn std::error::Error>;

/// As many messages are offered at once.
const AT_ONCE: u64 = 512;
/// So much credit is kept.
const CREDIT: u32 = 1 << 20;

/// The machine's clock since the run began.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Time {
        Time(self.0.elapsed().as_nanos() as u64)
    }
}

/// This thread's time on a processor, in nanoseconds.
fn cpu_ns() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// Sleeps until the client has something to do.
fn wait(clock: Clock, client: &dyn Client) -> Result<(), Failure> {
    let (fd, flags) = match client.wait_on() {
        WaitOn::Nothing => (None, PollFlags::empty()),
        WaitOn::Read(fd) => (Some(fd), PollFlags::IN),
        WaitOn::ReadWrite(fd) => (Some(fd), PollFlags::IN | PollFlags::OUT),
    };
    let due = client.next_deadline().unwrap_or(Time::NEVER).since(clock.now()).min(Span::from_millis(100));
    if due == Span::ZERO {
        return Ok(());
    }
    let timeout = Timespec { tv_sec: 0, tv_nsec: due.0.cast_signed() };
    let mut fds: Vec<PollFd<'_>> = fd.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, flags)).collect();
    poll(&mut fds, Some(&timeout))?;
    Ok(())
}

/// Rate and CPU of the warm part of a run.
struct Warm {
    from: u64,
    begun: Option<(Instant, u64)>,
}

impl Warm {
    fn note(&mut self, done: u64) -> Result<(), Failure> {
        if self.begun.is_none() && done >= self.from {
            self.begun = Some((Instant::now(), cpu_ns()?));
            self.from = done;
        }
        Ok(())
    }

    fn print(&self, what: &str, done: u64) -> Result<(), Failure> {
        let Some((begun, cpu)) = self.begun else { return Ok(()) };
        let (messages, seconds) = ((done - self.from) as f64, begun.elapsed().as_secs_f64());
        let cpu = (cpu_ns()? - cpu) as f64 / 1e3;
        println!("{what}: {:.0} messages/s, {:.3} µs of client CPU per message", messages / seconds, cpu / messages);
        Ok(())
    }
}

fn publish(clock: Clock, broker: &mut dyn Broker, size: usize, count: u64) -> Result<(), Failure> {
    let mut client = broker.connect(clock.now(), &ClientSpec { number: 1, role: Role::Producer, placement: 0 })?;
    let payload: Vec<u8> = (0..size).map(|n| (n * 31 % 251) as u8).collect();
    let (mut offered, mut done) = (0, 0);
    let mut batch = Batch::Publish(Publishes::new());
    let mut completions = Completions::default();
    let mut warm = Warm { from: count / 4, begun: None };
    while done < count {
        if let Batch::Publish(publishes) = &mut batch
            && publishes.is_empty()
        {
            for n in offered..(offered + AT_ONCE).min(count) {
                publishes.push(Token(n), ChannelId(0), b"", b"", &payload);
            }
            offered = (offered + AT_ONCE).min(count);
        }
        let accepted = client.submit(clock.now(), &mut batch);
        if accepted.blocked == Some(Blocked::Window) || offered == count {
            wait(clock, &*client)?;
            client.poll(clock.now(), &mut completions);
        }
        for outcome in completions.outcomes.drain(..) {
            if outcome.status != Status::Done {
                return Err(format!("{outcome:?}").into());
            }
            done += 1;
        }
        warm.note(done)?;
    }
    warm.print("publish", done)
}

fn consume(clock: Clock, broker: &mut dyn Broker, count: u64) -> Result<(), Failure> {
    let role = Role::Member { group: "g".to_owned(), channels: vec![ChannelId(0)] };
    let mut client = broker.connect(clock.now(), &ClientSpec { number: 2, role, placement: 0 })?;
    let (mut granted, mut done, mut bytes) = (0, 0, 0);
    let mut completions = Completions::default();
    let mut warm = Warm { from: count / 4, begun: None };
    while done < count {
        if granted - done < u64::from(CREDIT) / 2 {
            granted += u64::from(CREDIT);
            let _ = client.submit(clock.now(), &mut Batch::Control(vec![(Token(granted), Control::Grant(CREDIT))]));
        }
        wait(clock, &*client)?;
        client.poll(clock.now(), &mut completions);
        let mut last = None;
        for delivery in &completions.deliveries {
            bytes += delivery.payload.len() as u64;
            last = Some(delivery.receipt);
            done += 1;
        }
        completions.clear();
        if let Some(receipt) = last {
            let settlement = Settlement { token: Token(u64::MAX - done), receipt, verdict: Verdict::Ack };
            let _ = client.submit(clock.now(), &mut Batch::Settle(vec![settlement]));
        }
        warm.note(done)?;
    }
    warm.print("consume", done)?;
    assert!(bytes > 0, "what was published has bytes");
    let mut close = Batch::Control(vec![(Token(0), Control::Close)]);
    let _ = client.submit(clock.now(), &mut close);
    while !completions.outcomes.iter().any(|outcome| outcome.token == Token(0)) {
        wait(clock, &*client)?;
        client.poll(clock.now(), &mut completions);
    }
    Ok(())
}

fn create(clock: Clock, broker: &mut dyn Broker, spec: &ChannelSpec) -> Result<(), Failure> {
    let mut client = broker.connect(clock.now(), &ClientSpec { number: 0, role: Role::Administrator, placement: 0 })?;
    let _ = client.submit(clock.now(), &mut Batch::Control(vec![(Token(0), Control::Create(spec.clone()))]));
    let mut completions = Completions::default();
    while completions.outcomes.is_empty() {
        wait(clock, &*client)?;
        client.poll(clock.now(), &mut completions);
    }
    if completions.outcomes[0].status == Status::Done { Ok(()) } else { Err(format!("{completions:?}").into()) }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, size, count] = &arguments[..] else { return Err("kafka_cost URL SIZE COUNT".into()) };
    let (url, size, count) = (LiveUrl::parse(url)?, size.parse()?, count.parse()?);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let prefix = format!("brokerlab-cost-{}-", std::process::id());
    let place = Place { prefix, existing: false, origin_utc_ns: since_1970 };
    let spec =
        ChannelSpec { name: "cost".to_owned(), lanes: 1, groups: vec!["g".to_owned()], ..ChannelSpec::default() };
    let mut broker = open(&url, Contract::default(), &place)?;
    let clock = Clock(Instant::now());
    let result = create(clock, &mut *broker, &spec)
        .and_then(|()| publish(clock, &mut *broker, size, count))
        .and_then(|()| consume(clock, &mut *broker, count));
    remove(&url, &place, &[spec])?;
    result
}
