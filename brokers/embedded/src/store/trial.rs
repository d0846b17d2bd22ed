//! Random programs on a store above a simulated disk, each broken off by a power cut or a kill and opened again, several times over,
//! against a naive twin that knows what was appended and what was promised.
//!
//! Everything follows from the seed. Leaves out models: lanes, tickets and trims are drawn here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use brokerlab_model::{ChannelId, Death, DeathReason, LaneId, Message, Publishes, Record, Storage, Token};

use super::disk::{Disk, Fault, Random, SimulatedDisk};
use super::error::StoreError;
use super::files::Job;
use super::format::Entry;
use super::{Limits, Store};

const LANES: u32 = 3;
const HEADERS: &[u8] = b"hd";
/// Of a message's number: it is one of a transaction.
const PROVISIONAL: u64 = 1 << 62;
/// It is the dead letter of the message whose number is the rest.
const LETTER: u64 = 1 << 61;
/// Small, so that segments end, retire and are used again, and frames leave memory.
const LIMITS: Limits = Limits { max_memory: 12 << 10, max_data: 1 << 30, segment_bytes: 4 << 10 };

/// What trials did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Power cuts.
    pub cuts: u64,
    /// Kills: everything that was written is there when the store is opened again.
    pub kills: u64,
    /// Cuts and kills in the middle of a call to the disk.
    pub within_a_call: u64,
    /// Planned faults (no space, failed write, flush or read) that were met.
    pub faults: u64,
    /// Messages appended.
    pub appended: u64,
    /// Compactions.
    pub compactions: u64,
    /// Messages of transactions.
    pub provisional: u64,
    /// Messages that were appended once more, as dead letters.
    pub letters: u64,
    /// Messages of which it was said that they are stored.
    pub acknowledged: u64,
    /// Messages that were there when the store was opened again.
    pub recovered: u64,
    /// Segments with one bit changed, opened.
    pub rotten: u64,
    /// Of these, refused; the others lost at most their end.
    pub refused: u64,
}

impl Tally {
    /// Adds what another trial did.
    pub fn add(&mut self, more: &Self) {
        self.cuts += more.cuts;
        self.kills += more.kills;
        self.within_a_call += more.within_a_call;
        self.faults += more.faults;
        self.appended += more.appended;
        self.compactions += more.compactions;
        self.provisional += more.provisional;
        self.letters += more.letters;
        self.acknowledged += more.acknowledged;
        self.recovered += more.recovered;
        self.rotten += more.rotten;
        self.refused += more.refused;
    }
}

/// What must not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, {storage}: {broken}; run store::trial::run with this seed to see it again")]
pub struct BrokenPromise {
    /// The trial's seed.
    pub seed: u64,
    /// Its storage.
    pub storage: Storage,
    /// What was broken.
    pub broken: Broken,
}

/// A promise that a store broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Something acknowledged is gone.
    #[error("lost: {0}")]
    Lost(String),
    /// Something is there that nobody wrote, or not as it was written.
    #[error("wrong: {0}")]
    Wrong(String),
    /// A folder that nothing but a crash has touched is not opened, or not read.
    #[error("refused: {0}")]
    Refused(String),
}

/// Runs the trial of a seed: two to four crashes. With `Storage::Fsync` most are power cuts, with `Storage::PageCache` all are kills.
pub fn run(seed: u64, storage: Storage) -> Result<Tally, BrokenPromise> {
    Trial::new(seed, storage, None).finish(seed)
}

/// The same with compactions, messages of transactions and dead letters in between.
pub fn run_with_more(seed: u64, storage: Storage) -> Result<Tally, BrokenPromise> {
    Trial::new(seed, storage, Some(Random::new(!seed))).finish(seed)
}

/// A lane as it should be.
#[derive(Clone, Debug, Default)]
struct Twin {
    /// What was appended at each position, in the history that holds.
    ids: Vec<u64>,
    /// Positions below are promised.
    acknowledged: u64,
    /// Positions below need not be there.
    trimmed: u64,
    /// Positions that a compaction left out, and whether that is promised.
    left_out: BTreeMap<u64, bool>,
}

/// Bookkeeping, as one number that rises.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    last: u64,
    acknowledged: u64,
}

/// What a ticket covers.
#[derive(Debug)]
struct Promise {
    ticket: u64,
    ends: Vec<u64>,
    noted: u64,
    /// What compactions had left out by then: lane and position.
    left_out: Vec<(usize, u64)>,
}

struct Trial {
    random: Random,
    /// Says when what is done that only some models ask for, if anything is.
    more: Option<Random>,
    storage: Storage,
    lanes: Vec<Twin>,
    noted: Noted,
    promises: VecDeque<Promise>,
    ticket: u64,
    next_id: u64,
    tally: Tally,
}

/// The payload of a message; most fit into a segment, some do not.
fn payload(id: u64) -> Vec<u8> {
    let mut random = Random::new(id & !(PROVISIONAL | LETTER));
    let len = if random.chance(1, 40) { 3_000 + random.below(4_000) } else { random.below(500) };
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while bytes.len() < len as usize {
        bytes.extend_from_slice(&random.bits().to_le_bytes());
    }
    bytes.truncate(len as usize);
    bytes
}

/// Whether the disk was the reason for an error.
fn excused(disk: &SimulatedDisk) -> bool {
    disk.has_ended() || disk.faults_met() > 0
}

impl Trial {
    fn new(seed: u64, storage: Storage, more: Option<Random>) -> Self {
        Self {
            random: Random::new(seed),
            more,
            storage,
            lanes: vec![Twin::default(); LANES as usize],
            noted: Noted::default(),
            promises: VecDeque::new(),
            ticket: 0,
            next_id: 0,
            tally: Tally::default(),
        }
    }

    fn finish(mut self, seed: u64) -> Result<Tally, BrokenPromise> {
        self.run().map_err(|broken| BrokenPromise { seed, storage: self.storage, broken })?;
        Ok(self.tally)
    }

    fn run(&mut self) -> Result<(), Broken> {
        let mut disk = Arc::new(SimulatedDisk::new(self.random.bits()));
        for _ in 0..2 + self.random.below(3) {
            self.plan(&disk);
            if let Some(mut store) = self.open(&disk)? {
                self.live(&mut store, &disk)?;
            }
            self.tally.faults += disk.faults_met();
            self.tally.within_a_call += u64::from(disk.has_ended());
            disk = Arc::new(self.crash(&disk));
        }
        let opened = self.open(&disk)?;
        drop(opened);
        self.rot(&disk)
    }

    /// Where the machine ends and what fails before.
    fn plan(&mut self, disk: &SimulatedDisk) {
        let random = &mut self.random;
        if random.chance(7, 8) {
            let most = 8 << random.below(6);
            disk.end_after(random.below(most));
        }
        if random.chance(1, 4) {
            let fault = Fault::ALL[random.below(4) as usize];
            disk.plan(fault, random.below(30));
        }
    }

    fn crash(&mut self, disk: &SimulatedDisk) -> SimulatedDisk {
        if self.storage == Storage::Fsync && self.random.chance(3, 4) {
            self.tally.cuts += 1;
            disk.cut(self.random.bits())
        } else {
            self.tally.kills += 1;
            disk.kill()
        }
    }

    /// Opens the store and holds what it says against the twin. None when the disk did not let it.
    fn open(&mut self, disk: &Arc<SimulatedDisk>) -> Result<Option<Store>, Broken> {
        let (mut seen, mut noted, mut wrong) = (0, 0, None);
        let lanes = &self.lanes;
        let opened = Store::open(self.storage, LIMITS, Arc::clone(disk) as Arc<dyn Disk>, |entry| match entry {
            Entry::Message { lane, position, key, headers, payload, provisional, copied, .. } => {
                seen += 1;
                let id = lanes.get(lane.0 as usize).and_then(|twin| twin.ids.get(position as usize));
                let whole = |&id: &u64| {
                    let told = copied || provisional == (id & PROVISIONAL > 0);
                    told && is_message(id, key, headers, payload.unwrap_or_default())
                };
                if !id.is_some_and(whole) {
                    wrong = Some(format!("the entry of {lane:?} at {position}"));
                }
            }
            Entry::Record(Record::Committed { position, .. }) => noted = position,
            Entry::Record(_)
            | Entry::Trimmed { .. }
            | Entry::GivenOut { .. }
            | Entry::Retired { .. }
            | Entry::Compacted { .. }
            | Entry::Ended { .. } => {}
        });
        if let Some(wrong) = wrong {
            return Err(Broken::Wrong(wrong));
        }
        let mut store = match opened {
            Ok((store, _)) => store,
            Err(_) if excused(disk) => return Ok(None),
            Err(error) => return Err(Broken::Refused(error.to_string())),
        };
        self.compare(&store, noted)?;
        self.tally.recovered += seen;
        for lane in 0..LANES {
            for positions in store.kept(LaneId(lane)) {
                if !self.read(&mut store, disk, lane, positions)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(store))
    }

    /// What was promised is there; what is there counts as promised from now on.
    fn compare(&mut self, store: &Store, noted: u64) -> Result<(), Broken> {
        for (lane, twin) in (0..).zip(&mut self.lanes) {
            let there = store.positions(LaneId(lane));
            let Twin { ids, acknowledged, trimmed, left_out } = twin;
            let what = || {
                format!(
                    "lane {lane} holds {there:?}, {acknowledged} are promised, {trimmed} are trimmed, {} were appended",
                    ids.len()
                )
            };
            let kept = store.kept(LaneId(lane));
            let holds = |position: &u64| kept.iter().any(|range| range.contains(position));
            let lost = |position: &u64| !holds(position) && !left_out.contains_key(position);
            if there.end < *acknowledged || (*trimmed..*acknowledged).any(|position| lost(&position)) {
                return Err(Broken::Lost(what()));
            }
            let back = left_out.iter().find(|(position, promised)| **promised && holds(position));
            if there.end > ids.len() as u64 || back.is_some() {
                return Err(Broken::Wrong(format!("{}; {back:?} was left out", what())));
            }
            left_out.retain(|position, _| *position < there.end && !holds(position));
            for promised in left_out.values_mut() {
                *promised = true;
            }
            ids.truncate(there.end as usize);
            twin.acknowledged = there.end;
            twin.trimmed = twin.trimmed.min(there.end);
        }
        let Noted { last, acknowledged } = self.noted;
        if noted < acknowledged {
            return Err(Broken::Lost(format!("the record says {noted}, {acknowledged} is promised")));
        }
        if noted > last {
            return Err(Broken::Wrong(format!("the record says {noted}, the last one written said {last}")));
        }
        self.noted = Noted { last: noted, acknowledged: noted };
        self.promises.clear();
        Ok(())
    }

    /// Reads positions of a lane; false when the disk did not let it.
    fn read(
        &self,
        store: &mut Store,
        disk: &SimulatedDisk,
        lane: u32,
        positions: std::ops::Range<u64>,
    ) -> Result<bool, Broken> {
        let twin = &self.lanes[lane as usize];
        let (mut next, mut wrong) = (positions.start, None);
        let count = (positions.end - positions.start) as u32;
        let read = store.read(LaneId(lane), positions.start, count, |position, bytes, slice| {
            let key_at = slice.at as usize;
            let headers_at = key_at + usize::from(slice.key_len);
            let payload_at = headers_at + usize::from(slice.header_len);
            let payload = &bytes[payload_at..payload_at + slice.payload_len as usize];
            let id = twin.ids[position as usize];
            if position != next || !is_message(id, &bytes[key_at..headers_at], &bytes[headers_at..payload_at], payload)
            {
                wrong = Some(format!("lane {lane} at {position} is read as something else"));
            }
            next += 1;
        });
        match (read, wrong) {
            (_, Some(wrong)) => Err(Broken::Wrong(wrong)),
            (Ok(()), None) if next == positions.end => Ok(true),
            (Ok(()), None) => Err(Broken::Lost(format!("lane {lane} is read up to {next} of {positions:?}"))),
            (Err(StoreError::Read { .. }), None) if excused(disk) => Ok(false),
            (Err(error), None) => Err(Broken::Refused(error.to_string())),
        }
    }

    /// Works until the disk fails or enough was done.
    fn live(&mut self, store: &mut Store, disk: &SimulatedDisk) -> Result<(), Broken> {
        let mut out: Option<Job> = None;
        for _ in 0..20 + self.random.below(100) {
            if store.error().is_some() {
                break;
            }
            match self.more.as_mut().map_or(u64::MAX, |random| random.below(32)) {
                0..4 => self.compact(store),
                4 | 5 => self.append_provisional(store),
                6 | 7 => self.append_letter(store),
                _ => {}
            }
            if store.error().is_some() {
                break;
            }
            match self.random.below(16) {
                0..6 => self.append(store),
                6..9 => self.barrier(store),
                9..13 => match out.take() {
                    None => out = store.take_job(),
                    Some(job) => self.perform(store, job),
                },
                13 => {
                    self.noted.last += 1;
                    store.record(&Record::Committed { lane: LaneId(0), group: 0, position: self.noted.last });
                }
                14 => self.trim(store),
                _ => {
                    let lane = self.random.below(LANES.into()) as u32;
                    let mut kept = store.kept(LaneId(lane));
                    if kept.is_empty() {
                        continue;
                    }
                    let mut positions = kept.swap_remove(self.random.below(kept.len() as u64) as usize);
                    positions.start += self.random.below(positions.end - positions.start + 1);
                    if !self.read(store, disk, lane, positions)? {
                        break;
                    }
                }
            }
        }
        match out {
            Some(job) if self.random.chance(1, 2) => self.perform(store, job),
            Some(_) | None => {}
        }
        match store.error() {
            Some(error) if !excused(disk) => Err(Broken::Refused(error.to_string())),
            Some(_) | None => Ok(()),
        }
    }

    fn append(&mut self, store: &mut Store) {
        let lane = self.random.below(LANES.into()) as u32;
        for _ in 0..=self.random.below(5) {
            let id = self.next_id;
            self.next_id += 1;
            let (key, payload) = (id.to_le_bytes(), payload(id));
            let (token, channel, payload_len) = (Token(0), ChannelId(0), payload.len() as u32);
            let message = Message { token, channel, key: &key, headers: HEADERS, payload_len, payload: &payload };
            let twin = &mut self.lanes[lane as usize];
            store.append(LaneId(lane), twin.ids.len() as u64, &message, true);
            twin.ids.push(id);
            self.tally.appended += 1;
        }
    }

    fn append_provisional(&mut self, store: &mut Store) {
        let Some(random) = &mut self.more else { return };
        let (lane, count) = (random.below(LANES.into()) as u32, 1 + random.below(5));
        let mut batch = Publishes::new();
        let ids = self.next_id..self.next_id + count;
        for id in ids.clone() {
            batch.push(Token(0), ChannelId(0), &id.to_le_bytes(), HEADERS, &payload(id));
        }
        let twin = &mut self.lanes[lane as usize];
        store.append_provisional(LaneId(lane), twin.ids.len() as u64, &batch, 0..count as u32);
        twin.ids.extend(ids.map(|id| id | PROVISIONAL));
        self.next_id += count;
        self.tally.appended += count;
        self.tally.provisional += count;
    }

    /// Appends a message that is there once more, as a dead letter.
    fn append_letter(&mut self, store: &mut Store) {
        let Some(random) = &mut self.more else { return };
        let (from, to) = (random.below(LANES.into()) as u32, random.below(LANES.into()) as u32);
        let kept: Vec<u64> = store.kept(LaneId(from)).into_iter().flatten().collect();
        if kept.is_empty() {
            return;
        }
        let at = kept[random.below(kept.len() as u64) as usize];
        let id = self.lanes[from as usize].ids[at as usize] & !PROVISIONAL | LETTER;
        let twin = &mut self.lanes[to as usize];
        store.append_letter((LaneId(from), at), LaneId(to), twin.ids.len() as u64, &death());
        // What can't be read has no letter.
        if store.error().is_none() {
            twin.ids.push(id);
            self.tally.appended += 1;
            self.tally.letters += 1;
        }
    }

    fn barrier(&mut self, store: &mut Store) {
        self.ticket += 1;
        let ends = self.lanes.iter().map(|twin| twin.ids.len() as u64).collect();
        let lanes = self.lanes.iter().enumerate();
        let left_out = lanes.flat_map(|(lane, twin)| twin.left_out.keys().map(move |&at| (lane, at))).collect();
        self.promises.push_back(Promise { ticket: self.ticket, ends, noted: self.noted.last, left_out });
        let stored = store.barrier(self.ticket);
        debug_assert!(!stored, "only in memory is it stored at once");
    }

    fn perform(&mut self, store: &mut Store, mut job: Job) {
        job.perform();
        let Some((ticket, true)) = store.finish(job) else { return };
        while self.promises.front().is_some_and(|promise| promise.ticket <= ticket) {
            let Some(promise) = self.promises.pop_front() else { return };
            for (lane, position) in promise.left_out {
                self.lanes[lane].left_out.insert(position, true);
            }
            for (twin, end) in self.lanes.iter_mut().zip(promise.ends) {
                self.tally.acknowledged += end.saturating_sub(twin.acknowledged);
                twin.acknowledged = twin.acknowledged.max(end);
            }
            self.noted.acknowledged = self.noted.acknowledged.max(promise.noted);
        }
    }

    /// Trims a part of what is there, or all.
    fn trim(&mut self, store: &mut Store) {
        let lane = self.random.below(LANES.into()) as u32;
        let twin = &mut self.lanes[lane as usize];
        let left = twin.ids.len() as u64 - twin.trimmed;
        twin.trimmed += if self.random.chance(1, 3) { left } else { self.random.below(left + 1) };
        store.trim(LaneId(lane), twin.trimmed);
    }

    /// Leaves out about half of what stands in a part of a lane.
    fn compact(&mut self, store: &mut Store) {
        let Some(random) = &mut self.more else { return };
        let lane = random.below(LANES.into()) as u32;
        let twin = &mut self.lanes[lane as usize];
        let from = twin.trimmed + random.below(twin.ids.len() as u64 - twin.trimmed + 1);
        let to = from + random.below(twin.ids.len() as u64 - from + 1);
        let mut runs: Vec<(u64, u32)> = Vec::new();
        for position in store.kept(LaneId(lane)).into_iter().flatten().filter(|at| (from..to).contains(at)) {
            if random.chance(1, 2) {
                twin.left_out.insert(position, false);
                continue;
            }
            match runs.last_mut() {
                Some((first, count)) if *first + u64::from(*count) == position => *count += 1,
                Some(_) | None => runs.push((position, 1)),
            }
        }
        store.compact(LaneId(lane), from..to, &runs);
        self.tally.compactions += 1;
    }

    /// A bit of a segment changes while nobody looks: what is then read is what was written, or nothing.
    fn rot(&mut self, disk: &SimulatedDisk) -> Result<(), Broken> {
        let disk = Arc::new(disk.kill());
        let segments: Vec<_> =
            disk.files().into_iter().filter(|(name, len)| name.starts_with("segment-") && *len > 0).collect();
        if segments.is_empty() {
            return Ok(());
        }
        let (name, len) = &segments[self.random.below(segments.len() as u64) as usize];
        let at = self.random.below(*len);
        disk.rot(name, at, 1 << self.random.below(8));
        self.tally.rotten += 1;
        for twin in &mut self.lanes {
            (twin.acknowledged, twin.trimmed) = (0, twin.ids.len() as u64);
            for promised in twin.left_out.values_mut() {
                *promised = false;
            }
        }
        self.noted.acknowledged = 0;
        match self.open(&disk) {
            Ok(_) => Ok(()),
            Err(Broken::Refused(_)) => {
                self.tally.refused += 1;
                Ok(())
            }
            Err(Broken::Wrong(what) | Broken::Lost(what)) => Err(Broken::Wrong(format!("{name}, byte {at}: {what}"))),
        }
    }
}

/// Every letter tells of the same one.
fn death() -> Death {
    Death { reason: DeathReason::Rejected, deliveries: 1, group: "g".to_owned(), lane: LaneId(0), position: 0 }
}

fn is_message(id: u64, key: &[u8], headers: &[u8], found: &[u8]) -> bool {
    let told = if id & LETTER > 0 { headers == death().headers(HEADERS) } else { headers == HEADERS };
    told && key == (id & !(PROVISIONAL | LETTER)).to_le_bytes() && found == payload(id)
}
