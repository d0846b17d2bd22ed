//! The messages of a profile: when each is due, its key, channel, size and bytes; the same on every machine, at any
//! number of threads, in every world.
//!
//! What message n of producer p carries is a pure function of (profile, seed, replication, p, n), so that any message can
//! be made again. Leaves out time and threads: a caller asks for what is due.

mod alias;
mod arrivals;
mod date;
mod exponential;
mod files;
mod intensity;
mod json;
mod keys;
mod normal;
#[cfg(feature = "parquet")]
mod parquet;
mod payload;
mod sizes;
mod stream;
mod trace;
pub(crate) mod turns;
mod work;

use std::sync::Arc;

use brokerlab_model::{Span, Time};

use self::arrivals::{Owner, Position, Schedule, think_time};
use self::keys::KeyPicker;
use self::payload::Filler;
use self::sizes::SizePicker;
use self::stream::{Draws, Purpose, Stream, below};
use self::turns::Turns;
use self::work::WorkPicker;
use crate::profile::{Profile, Spread};

pub(crate) use self::files::{FileFault, load};
pub(crate) use self::stream::mix;
pub(crate) use self::trace::Trace;
pub use self::turns::Routes;

/// Up to here the streams of all producers are kept (16 bytes each); above they are made anew for each message.
const STREAMS_KEPT: u32 = 1 << 16;

/// A compiled profile: cheap to clone, shared by all threads.
#[derive(Clone, Debug)]
pub struct Workload {
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    profile: Profile,
    seed: u64,
    replication: u32,
    schedule: Schedule,
    keys: KeyPicker,
    sizes: SizePicker,
    filler: Filler,
    channels: u32,
    spread: Spread,
    works: Vec<WorkPicker>,
    trace: Option<Arc<Trace>>,
    streams: Vec<Stream>,
    turns: Turns,
}

/// A message that is due; its payload is made by [`Producer::write_payload`] or [`Workload::write_payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// When it is due, from the schedule's start.
    pub intended: Time,
    /// The producer's message number, dense from 0.
    pub sequence: u64,
    /// The key's number; [`Workload::write_key`] gives its bytes.
    pub key: u64,
    /// The channel's number in the profile.
    pub channel: u32,
    /// Bytes of the whole payload, its 32-byte stamp included.
    pub size: u32,
}

/// What a message carries, whenever it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The key's number.
    pub key: u64,
    /// The channel's number.
    pub channel: u32,
    /// Bytes of the whole payload, its 32-byte stamp included.
    pub size: u32,
}

/// One producer's position in the schedule: all that a backlog takes.
#[derive(Clone, Debug)]
pub struct Producer {
    plan: Arc<Plan>,
    owner: Owner,
    contents: Stream,
    position: Position,
    due: Option<Time>,
    sequence: u64,
}

impl Workload {
    /// Compiles a profile. `seed` replaces the profile's own where a run asks for another; replications of one seed differ
    /// in every random choice.
    pub fn new(profile: &Profile, seed: u64, replication: u32) -> Self {
        let works = profile.groups.iter().enumerate();
        let works = works.map(|(i, g)| WorkPicker::new(g.work, seed, replication, i)).collect();
        let kept = if profile.producers <= STREAMS_KEPT { profile.producers } else { 0 };
        let streams = (0..kept).map(|p| contents_stream(seed, replication, p)).collect();
        let plan = Plan {
            seed,
            replication,
            schedule: Schedule::new(profile),
            keys: KeyPicker::new(profile.keys),
            sizes: SizePicker::new(&profile.sizes),
            filler: Filler::new(&profile.payload, profile.lines.as_ref()),
            channels: profile.channels.len(),
            spread: profile.channels.spread,
            works,
            trace: profile.trace.clone(),
            streams,
            turns: Turns::of(profile).expect("the profile was checked"),
            profile: profile.clone(),
        };
        Self { plan: Arc::new(plan) }
    }

    /// The profile that was compiled.
    pub fn profile(&self) -> &Profile {
        &self.plan.profile
    }

    /// The seed in use.
    pub fn seed(&self) -> u64 {
        self.plan.seed
    }

    /// The replication in use.
    pub fn replication(&self) -> u32 {
        self.plan.replication
    }

    /// How many producers there are.
    pub fn producers(&self) -> u32 {
        self.plan.profile.producers
    }

    /// How many channels there are.
    pub fn channels(&self) -> u32 {
        self.plan.channels
    }

    /// Whether a producer's next message waits for the completion of the one before.
    pub fn is_closed_loop(&self) -> bool {
        matches!(self.plan.schedule, Schedule::Closed { .. })
    }

    /// Length of the schedule: warm-up and measured window. Nothing is due at or after it.
    pub fn horizon(&self) -> Span {
        self.plan.profile.horizon()
    }

    /// How many messages there are at all: those of a trace; `None` for a schedule that only the horizon ends.
    pub fn total(&self) -> Option<u64> {
        self.plan.schedule.total()
    }

    /// Producer `p` (below [`Self::producers`]) before its first message.
    pub fn producer(&self, p: u32) -> Producer {
        self.producer_until(p, self.horizon().0)
    }

    /// Producer `p` of the schedule without its horizon; only a trace ends.
    pub fn producer_unbounded(&self, p: u32) -> Producer {
        self.producer_until(p, u64::MAX)
    }

    fn producer_until(&self, p: u32, horizon: u64) -> Producer {
        let plan = &self.plan;
        let owner = Owner {
            seed: plan.seed,
            replication: plan.replication,
            producer: p,
            producers: plan.profile.producers,
            horizon,
        };
        let (position, due) = Position::start(&plan.schedule, owner);
        Producer { plan: Arc::clone(plan), owner, contents: plan.stream(p), position, due, sequence: 0 }
    }

    /// What message `sequence` of producer `producer` carries.
    pub fn contents(&self, producer: u32, sequence: u64) -> Contents {
        self.plan.contents(producer, sequence, self.plan.draws(producer, sequence))
    }

    /// The headers of message `sequence` of any producer; empty where messages say nothing of themselves.
    #[inline]
    pub fn headers(&self, sequence: u64) -> &[u8] {
        self.plan.turns.headers(sequence)
    }

    /// Which messages are for which groups; none where every group gets everything.
    pub fn routes(&self) -> Option<&Arc<Routes>> {
        self.plan.turns.routes()
    }

    /// Appends the key's bytes: sixteen hexadecimal digits, or the trace's own text.
    #[inline]
    pub fn write_key(&self, key: u64, out: &mut Vec<u8>) {
        match (&self.plan.keys, &self.plan.trace) {
            (KeyPicker::Trace, Some(trace)) => {
                let name = usize::try_from(key).ok().and_then(|k| trace.names.get(k));
                out.extend_from_slice(name.map_or(b"".as_slice(), |n| n.as_bytes()));
            }
            (KeyPicker::Trace, None)
            | (
                KeyPicker::Uniform { .. }
                | KeyPicker::Table(_)
                | KeyPicker::Zipf(_)
                | KeyPicker::HotSet { .. }
                | KeyPicker::Sequential { .. },
                _,
            ) => out.extend_from_slice(&hexadecimal(key)),
        }
    }

    /// Appends the payload of a message, `size` bytes: 32 zero bytes for the stamp, then the body.
    #[inline]
    pub fn write_payload(&self, producer: u32, sequence: u64, size: u32, out: &mut Vec<u8>) {
        self.plan.write_payload(producer, sequence, self.plan.draws(producer, sequence), size, out);
    }

    /// How long a member of group number `group` is busy with a message; zero for a group that does not exist.
    #[inline]
    pub fn work(&self, group: usize, producer: u32, sequence: u64, key: u64) -> Span {
        self.plan.works.get(group).map_or(Span::ZERO, |w| w.pick(producer, sequence, key))
    }

    /// In a closed loop, the think time before message `sequence` of `producer`; zero otherwise.
    pub fn think(&self, producer: u32, sequence: u64) -> Span {
        let plan = &self.plan;
        match &plan.schedule {
            Schedule::Closed { think, factor } => {
                let stream = Stream::new(plan.seed, plan.replication, u64::from(producer), Purpose::Think);
                think_time(*think, *factor, stream, sequence)
            }
            Schedule::Even { .. } | Schedule::Course { .. } | Schedule::Trace { .. } => Span::ZERO,
        }
    }
}

impl Plan {
    fn stream(&self, producer: u32) -> Stream {
        let kept = self.streams.get(producer as usize).copied();
        kept.unwrap_or_else(|| contents_stream(self.seed, self.replication, producer))
    }

    #[inline]
    fn draws(&self, producer: u32, sequence: u64) -> Draws {
        Draws(self.stream(producer).at(sequence))
    }

    /// The message's place in the order over all producers.
    #[inline]
    fn place(&self, producer: u32, sequence: u64) -> u64 {
        u64::from(producer).wrapping_add(sequence.wrapping_mul(u64::from(self.profile.producers)))
    }

    #[inline]
    fn contents(&self, producer: u32, sequence: u64, draws: Draws) -> Contents {
        let place = self.place(producer, sequence);
        let key = self.keys.pick(draws, place).unwrap_or_else(|| self.traced_key(place));
        let size = self.sizes.pick(draws).unwrap_or_else(|| self.traced_size(place));
        let channel = match (self.channels, self.spread) {
            (1, _) => 0,
            (n, Spread::ByKey) => below(mix(key), u64::from(n)) as u32,
            (n, Spread::RoundRobin) => (place % u64::from(n)) as u32,
            (n, Spread::ByProducer) => producer % n,
        };
        Contents { key, channel, size }
    }

    fn traced_key(&self, place: u64) -> u64 {
        self.trace.as_ref().and_then(|t| t.keys.get(place as usize)).copied().map_or(0, u64::from)
    }

    fn traced_size(&self, place: u64) -> u32 {
        let size = self.trace.as_ref().and_then(|t| t.sizes.get(place as usize)).copied();
        size.unwrap_or(crate::stamp::STAMP_LEN as u32)
    }

    #[inline]
    fn write_payload(&self, producer: u32, sequence: u64, draws: Draws, size: u32, out: &mut Vec<u8>) {
        let place = self.place(producer, sequence);
        // Only JSON has the key in its body.
        let key = match self.filler {
            Filler::Json => self.keys.pick(draws, place).unwrap_or_else(|| self.traced_key(place)),
            Filler::Random | Filler::Compressible { .. } | Filler::Lines { .. } => 0,
        };
        self.filler.fill(draws, key, place, size, out);
    }
}

impl Producer {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.owner.producer
    }

    /// The sequence number of the next message: how many were taken.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When the next message is due; `None` when the schedule is over. In a closed loop [`Time::NEVER`] while a completion
    /// is awaited.
    #[inline]
    pub fn peek(&self) -> Option<Time> {
        self.due
    }

    /// Takes the next message, due or not; `None` when the schedule is over or, in a closed loop, a completion is awaited.
    #[allow(clippy::should_implement_trait, reason = "a closed loop gives None and goes on: no iterator may do that")]
    #[inline]
    pub fn next(&mut self) -> Option<Scheduled> {
        let intended = self.due.filter(|&due| due != Time::NEVER)?;
        let sequence = self.sequence;
        let draws = Draws(self.contents.at(sequence));
        let Contents { key, channel, size } = self.plan.contents(self.owner.producer, sequence, draws);
        self.sequence += 1;
        self.due = self.position.next(&self.plan.schedule, self.owner, self.sequence);
        Some(Scheduled { intended, sequence, key, channel, size })
    }

    /// Passes over every message that is due before `until` and tells each one's intended start and size. Cheaper than taking
    /// them: no key is drawn. In a closed loop it ends where a completion is awaited.
    pub fn pass_over(&mut self, until: Time, mut tell: impl FnMut(Time, u32)) {
        while let Some(intended) = self.due.filter(|&due| due < until && due != Time::NEVER) {
            let draws = Draws(self.contents.at(self.sequence));
            let size = self.plan.sizes.pick(draws);
            let place = || self.plan.place(self.owner.producer, self.sequence);
            tell(intended, size.unwrap_or_else(|| self.plan.traced_size(place())));
            self.sequence += 1;
            self.due = self.position.next(&self.plan.schedule, self.owner, self.sequence);
        }
    }

    /// In a closed loop: the message taken last was completed at `now`; the next one is due a think time later. Does
    /// nothing in an open loop, or when no completion is awaited.
    pub fn completed(&mut self, now: Time) {
        if self.due == Some(Time::NEVER) {
            self.due = self.position.after(&self.plan.schedule, self.owner, self.sequence, now);
        }
    }

    /// Appends the payload of this producer's message `sequence`, `size` bytes: 32 zero bytes for the stamp, then the body.
    #[inline]
    pub fn write_payload(&self, sequence: u64, size: u32, out: &mut Vec<u8>) {
        let draws = Draws(self.contents.at(sequence));
        self.plan.write_payload(self.owner.producer, sequence, draws, size, out);
    }
}

fn contents_stream(seed: u64, replication: u32, producer: u32) -> Stream {
    Stream::new(seed, replication, u64::from(producer), Purpose::Contents)
}

/// Sixteen hexadecimal digits, all at once: nibbles are spread to bytes and turned into digits without a branch.
#[inline]
fn hexadecimal(number: u64) -> [u8; 16] {
    let half = |n: u32| {
        let mut x = u64::from(n);
        x = (x | x << 16) & 0x0000_FFFF_0000_FFFF;
        x = (x | x << 8) & 0x00FF_00FF_00FF_00FF;
        x = (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F;
        // 1 in each byte whose nibble is above 9: those get the distance from '9' to 'a' as well.
        let letter = (x + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        (x + 0x3030_3030_3030_3030 + letter * 39).to_be_bytes()
    };
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&half((number >> 32) as u32));
    digits[8..].copy_from_slice(&half(number as u32));
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_hexadecimal_digits() {
        for number in [0, 1, 9, 10, 15, 16, 0xDEAD_BEEF_0123_4567, u64::MAX, 0x0A0B_9F99_F0AA_1A2B] {
            assert_eq!(hexadecimal(number).as_slice(), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn what_is_passed_over_is_what_would_have_been_taken() {
        let sizes = r#"{ kind = "log-normal", median = "200B", sigma = 1.0, min = "64B", max = "4KiB" }"#;
        let arrivals = [r#"{ kind = "constant", rate = "1000/s" }"#, r#"{ kind = "poisson", rate = "1000/s" }"#];
        for (sizes, arrivals) in [sizes, r#""64B""#].into_iter().flat_map(|sizes| arrivals.map(|a| (sizes, a))) {
            let text = format!(
                "name = \"t\"\nabout = \"t\"\nduration = \"1s\"\nproducers = 3\nsizes = {sizes}\narrivals = {arrivals}\n\
                 keys = {{ kind = \"uniform\", count = 9 }}\n[[groups]]\nname = \"g\"\nmembers = 1\n"
            );
            let workload = Workload::new(&Profile::parse(&text, "t.toml").unwrap(), 1, 0);
            let until = Time(600_000_000);
            for p in 0..3 {
                let (mut taken, mut passed) = (workload.producer(p), workload.producer(p));
                let expected: Vec<(Time, u32)> =
                    std::iter::from_fn(|| taken.peek().filter(|&due| due < until).and_then(|_| taken.next()))
                        .map(|message| (message.intended, message.size))
                        .collect();
                let mut told = Vec::new();
                passed.pass_over(until, |intended, size| told.push((intended, size)));
                assert_eq!(told, expected);
                assert!(told.len() > 150);
                assert_eq!(passed.next(), taken.next());
            }
        }
    }
}
