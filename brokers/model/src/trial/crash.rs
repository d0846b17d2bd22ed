//! A crash, for the trials of all models: what a model had its storage write, what is left of it, and what that says.
//!
//! A crash leaves a beginning of the journal that holds everything acknowledged and any part of the rest. Messages whose storage
//! failed may be missing in the middle, and a beginning that nobody needs may have been used again: then what outlives it stands
//! after the first frame that is left. What a restart must know is read off in the plainest way, into maps. Leaves out the
//! storage itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::batch::LaneId;
use crate::journal::Journal;
use crate::machine::{ChannelRecord, Record, ReshapeRecord, Write};
use crate::time::Time;

/// How much of the journal is left, each from nothing to everything that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crash {
    /// How much of what was not acknowledged is there.
    keep: u8,
    /// Which of the messages whose storage failed are not.
    lose: u8,
    /// How much of what nobody needs is gone.
    retire: u8,
    /// How many entries of the first frame that is left stand before what outlives the others.
    early: u8,
}

impl Crash {
    /// Everything that was written is there.
    pub(crate) const GENTLE: Self = Self { keep: u8::MAX, lose: 0, retire: 0, early: 0 };
    /// Nothing is there that was not acknowledged.
    pub(crate) const HARSH: Self = Self { keep: 0, lose: u8::MAX, retire: u8::MAX, early: 0 };

    /// So much of what was not acknowledged is there, and nothing that failed to be stored is lost.
    pub(crate) const fn keeping(keep: u8) -> Self {
        Self { keep, ..Self::GENTLE }
    }

    /// Whether a message whose storage failed is gone.
    pub(crate) fn loses(self, position: u64) -> bool {
        (self.lose >> (position % 8)) & 1 == 1
    }

    /// Now and then a trial goes on with what it restored.
    pub(crate) fn stays(self) -> bool {
        self.keep.is_multiple_of(8)
    }
}

pub(crate) fn crash() -> impl Strategy<Value = Crash> {
    let part = || prop_oneof![Just(0u8), any::<u8>(), Just(u8::MAX)];
    (any::<u8>(), any::<u8>(), part(), 0..6u8).prop_map(|(keep, lose, retire, early)| Crash {
        keep,
        lose,
        retire,
        early,
    })
}

/// What a model asked for.
#[derive(Clone, Debug)]
enum Logged {
    Message {
        lane: u32,
        position: u64,
        bytes: u32,
        written: Time,
        provisional: bool,
        /// Its key and its headers.
        said: (Vec<u8>, Vec<u8>),
    },
    Record(Record),
    /// Not in the journal: nothing below is needed.
    GivenBack {
        lane: u32,
        below: u64,
    },
    Trimmed {
        lane: u32,
        below: u64,
    },
    GivenOut {
        channels: u32,
        lanes: u32,
    },
    /// Of a range only these count, each with its position: what is asked for in one write counts as a whole or not at all.
    Compact {
        lane: u32,
        from: u64,
        to: u64,
        kept: Vec<(u64, Said)>,
    },
    Ended {
        lane: u32,
        end: u64,
    },
}

/// What a message was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) bytes: u32,
    pub(crate) written: Time,
    pub(crate) key: Vec<u8>,
    pub(crate) headers: Vec<u8>,
}

/// The journal of a model under trial.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    entries: Vec<Logged>,
    /// How many entries stood before each barrier.
    barriers: BTreeMap<u64, usize>,
    /// So many must be left.
    safe: usize,
    /// How many sequences of a producer are asked for.
    named: Option<u64>,
}

impl Log {
    /// Something is written at `now`; `bytes` is asked for a message's size, `said` for its key and headers.
    pub(crate) fn write_said(
        &mut self,
        now: Time,
        write: &Write,
        bytes: impl Fn(u32) -> u32,
        said: impl Fn(u32) -> (Vec<u8>, Vec<u8>),
    ) {
        match write {
            Write::Messages { lane, position, index, count } | Write::Provisional { lane, position, index, count } => {
                let provisional = matches!(write, Write::Provisional { .. });
                for (position, index) in (*position..).zip(*index..index + count) {
                    let (bytes, said) = (bytes(index), said(index));
                    self.entries.push(Logged::Message {
                        lane: lane.0,
                        position,
                        bytes,
                        written: now,
                        provisional,
                        said,
                    });
                }
            }
            Write::Record(record) => self.entries.push(Logged::Record(record.clone())),
            Write::Trim { lane, below } => self.entries.push(Logged::GivenBack { lane: lane.0, below: *below }),
            Write::Compact { lane, from, to, kept } => {
                let now = known(&self.entries);
                let positions = kept.iter().flat_map(|&(first, count)| first..first + u64::from(count));
                let kept = positions.map(|at| (at, now.messages[&(lane.0, at)].clone())).collect();
                self.entries.push(Logged::Compact { lane: lane.0, from: *from, to: *to, kept });
            }
            Write::DeadLetter { .. } => unreachable!("channels of dead letters have a trial of their own"),
            Write::Barrier(ticket) => {
                self.barriers.insert(*ticket, self.entries.len());
            }
        }
    }

    /// Everything up to this barrier is stored.
    pub(crate) fn stored(&mut self, ticket: u64) {
        self.safe = self.safe.max(self.barriers[&ticket]);
    }

    /// Everything so far is stored: somebody was told what depends on it.
    pub(crate) fn all_stored(&mut self) {
        self.safe = self.entries.len();
    }

    /// What is left after a crash. A message whose storage failed may be `lost`.
    pub(crate) fn crash(&self, crash: Crash, lost: impl Fn(u32, u64) -> bool) -> Self {
        let upto = self.safe + part(self.entries.len() - self.safe, crash.keep);
        let is_left =
            |entry: &&Logged| !matches!(entry, Logged::Message { lane, position, .. } if lost(*lane, *position));
        let left: Vec<Logged> = self.entries[..upto].iter().filter(is_left).cloned().collect();
        let given_back = known(&left).given_back;
        let is_last = |after: usize, lane: u32, position: u64| {
            let copies = |entry: &Logged| matches!(entry, Logged::Compact { lane: of, from, to, .. } if *of == lane && (*from..*to).contains(&position));
            !left[after..].iter().any(copies) && given_back.get(&lane).is_none_or(|&below| position >= below)
        };
        let needed = |(at, entry): (usize, &Logged)| match entry {
            Logged::Message { lane, position, .. } => is_last(at, *lane, *position),
            Logged::Compact { lane, kept, .. } => kept.iter().any(|&(position, _)| is_last(at + 1, *lane, position)),
            Logged::Record(_)
            | Logged::GivenBack { .. }
            | Logged::Trimmed { .. }
            | Logged::GivenOut { .. }
            | Logged::Ended { .. } => false,
        };
        let retired = part(left.iter().enumerate().position(needed).unwrap_or(left.len()), crash.retire);
        let mut entries = if retired == 0 { left } else { outlived(&left, retired, usize::from(crash.early)) };
        // What was given back and is in the journal all the same is there again.
        entries.retain(|entry| !matches!(entry, Logged::GivenBack { .. }));
        Self { safe: entries.len(), entries, barriers: BTreeMap::new(), named: self.named }
    }

    /// Of messages with identities, a model is told at least so many of each producer.
    pub(crate) fn keep_named(&mut self, window: Option<u64>) {
        self.named = window;
    }

    /// As it is told to a model.
    pub(crate) fn journal(&self) -> Journal {
        self.journal_for(false)
    }

    /// As it is told to a model, which may compact its lanes.
    pub(crate) fn journal_for(&self, compacts: bool) -> Journal {
        let mut journal = Journal::default();
        journal.keep_said();
        if let Some(window) = self.named {
            journal.keep_named(window);
        }
        if compacts {
            journal.keep_keys();
        }
        for entry in &self.entries {
            match *entry {
                Logged::Message { lane, position, bytes, written, provisional, ref said } => {
                    journal.message(LaneId(lane), position, bytes, written);
                    journal.said(LaneId(lane), position, written, &said.0, &said.1);
                    if provisional {
                        journal.provisional(LaneId(lane), position);
                    }
                }
                Logged::Record(ref record) => journal.record(record),
                Logged::GivenBack { .. } => {}
                Logged::Trimmed { lane, below } => journal.trimmed(LaneId(lane), below),
                Logged::GivenOut { channels, lanes } => journal.given_out(channels, lanes),
                Logged::Compact { lane, from, to, ref kept } => {
                    for (position, Said { bytes, written, key, headers }) in kept {
                        let is_empty = *bytes as usize == key.len() + headers.len();
                        journal.copied(LaneId(lane), *position, *bytes, *written, key, is_empty);
                    }
                    journal.compacted(LaneId(lane), from, to, kept.len() as u32);
                }
                Logged::Ended { lane, end } => journal.ended(LaneId(lane), end),
            }
        }
        journal
    }

    /// What it says.
    pub(crate) fn known(&self) -> Known {
        known(&self.entries)
    }
}

fn part(of: usize, share: u8) -> usize {
    of * usize::from(share) / usize::from(u8::MAX)
}

/// The entries without the first `retired`, with what has to outlive them after `early` more, and where lanes end of which
/// nothing is needed.
fn outlived(entries: &[Logged], retired: usize, early: usize) -> Vec<Logged> {
    let at = (retired + early).min(entries.len());
    let Known { channels, reshapes, committed, given_back, given_out, .. } = known(&entries[..at]);
    let mut left = entries[retired..at].to_vec();
    let is_alive = |made: &ReshapeRecord| matches!(channels.get(&made.channel.0), Some(Some(_)));
    let reshapes = reshapes.into_values().filter(is_alive).map(|made| Record::Reshaped(Box::new(made)));
    let alive = channels.values().flatten().map(|made| Record::Channel(Box::new(made.clone())));
    left.extend(alive.chain(reshapes).map(Logged::Record));
    left.push(Logged::GivenOut { channels: given_out.0, lanes: given_out.1 });
    for ((lane, group), position) in committed {
        left.push(Logged::Record(Record::Committed { lane: LaneId(lane), group, position }));
    }
    left.extend(given_back.into_iter().map(|(lane, below)| Logged::Trimmed { lane, below }));
    let ends = |upto: &[Logged]| {
        let known = known(upto);
        let ended = known.compacted.iter().map(|&lane| Logged::Ended { lane, end: known.end(lane) });
        ended.collect::<Vec<_>>()
    };
    left.extend(ends(&entries[..at]));
    left.extend_from_slice(&entries[at..]);
    let all = known(entries);
    let empty = all.given_back.iter().filter(|&(&lane, &below)| below == all.end(lane));
    left.extend(empty.map(|(&lane, &below)| Logged::Trimmed { lane, below }));
    left.extend(ends(entries));
    left
}

/// What entries say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// None where a channel is gone.
    pub(crate) channels: BTreeMap<u32, Option<ChannelRecord>>,
    /// By the first new lane.
    pub(crate) reshapes: BTreeMap<u32, ReshapeRecord>,
    /// By lane and position.
    pub(crate) messages: BTreeMap<(u32, u64), Said>,
    /// Lanes that were compacted.
    compacted: BTreeSet<u32>,
    /// Messages of transactions that did not end.
    pub(crate) provisional: BTreeSet<(u32, u64)>,
    /// What belongs together, as far as it was read, and how much is due.
    together: (u32, Vec<Record>),
    /// By lane and group.
    pub(crate) committed: BTreeMap<(u32, u32), u64>,
    /// Lane, group and position.
    pub(crate) settled: BTreeSet<(u32, u32, u64)>,
    /// The next position of each lane.
    pub(crate) ends: BTreeMap<u32, u64>,
    /// What the journal says is not needed, by lane.
    pub(crate) trimmed: BTreeMap<u32, u64>,
    /// What was given back, by lane; the journal need not say so.
    given_back: BTreeMap<u32, u64>,
    /// How many channels and lanes were made.
    pub(crate) given_out: (u32, u32),
}

fn raise<K: Ord>(map: &mut BTreeMap<K, u64>, key: K, to: u64) {
    let known = map.entry(key).or_default();
    *known = to.max(*known);
}

fn known(entries: &[Logged]) -> Known {
    let mut known = Known::default();
    let mut out = (0, 0);
    for entry in entries {
        match entry {
            &Logged::Message { lane, position, bytes, written, provisional, ref said } => {
                let (key, headers) = said.clone();
                known.messages.insert((lane, position), Said { bytes, written, key, headers });
                if provisional {
                    known.provisional.insert((lane, position));
                }
                raise(&mut known.ends, lane, position + 1);
            }
            Logged::Record(Record::Channel(made)) => {
                known.channels.entry(made.channel.0).or_insert_with(|| Some((**made).clone()));
                out = (out.0.max(made.channel.0 + 1), out.1.max(made.first.0 + made.lanes));
            }
            Logged::Record(Record::ChannelGone(channel)) => {
                known.channels.insert(channel.0, None);
                out.0 = out.0.max(channel.0 + 1);
            }
            Logged::Record(Record::Reshaped(made)) => {
                known.reshapes.insert(made.first.0, **made);
                out = (out.0.max(made.channel.0 + 1), out.1.max(made.children().end));
            }
            &Logged::Record(Record::Committed { lane, group, position }) => {
                raise(&mut known.committed, (lane.0, group), position);
                raise(&mut known.ends, lane.0, position);
            }
            &Logged::Record(Record::Settled { lane, group, position }) => {
                known.settled.insert((lane.0, group, position));
                raise(&mut known.ends, lane.0, position + 1);
            }
            Logged::Record(Record::Together { parts }) => known.together = (*parts, Vec::new()),
            Logged::Record(record @ (Record::Released { .. } | Record::Moved { .. })) => known.part(record),
            &Logged::GivenBack { lane, below } => raise(&mut known.given_back, lane, below),
            &Logged::Trimmed { lane, below } => {
                raise(&mut known.trimmed, lane, below);
                raise(&mut known.given_back, lane, below);
                raise(&mut known.ends, lane, below);
            }
            &Logged::Compact { lane, from, to, ref kept } => {
                known.compact(lane, from..to, kept);
                raise(&mut known.ends, lane, to);
            }
            &Logged::Ended { lane, end } => {
                known.compacted.insert(lane);
                raise(&mut known.ends, lane, end);
            }
            &Logged::GivenOut { channels, lanes } => out = (out.0.max(channels), out.1.max(lanes)),
        }
    }
    known.given_out = out;
    known.drop_trimmed();
    known
}

impl Known {
    /// The next of what belongs together; with the last, all of it counts.
    fn part(&mut self, record: &Record) {
        let (due, parts) = &mut self.together;
        parts.push(record.clone());
        if parts.len() != *due as usize {
            return;
        }
        *due = 0;
        for part in std::mem::take(parts) {
            if let Record::Released { lane, position, count } = part {
                let released = position..position + u64::from(count);
                self.provisional.retain(|at| at.0 != lane.0 || !released.contains(&at.1));
            } else if let Record::Moved { lane, group, position } = part {
                raise(&mut self.committed, (lane.0, group), position);
            }
        }
    }

    fn compact(&mut self, lane: u32, range: std::ops::Range<u64>, kept: &[(u64, Said)]) {
        let inside = |at: &(u32, u64)| at.0 == lane && range.contains(&at.1);
        self.messages.retain(|at, _| !inside(at));
        self.provisional.retain(|at| !inside(at));
        self.messages.extend(kept.iter().map(|(position, said)| ((lane, *position), said.clone())));
        self.compacted.insert(lane);
    }

    /// What the journal says is not needed is not there, even if it still holds it: what failed to be stored is given back without a record.
    fn drop_trimmed(&mut self) {
        let Self { messages, provisional, trimmed, .. } = self;
        let is_kept = |lane: u32, position| trimmed.get(&lane).is_none_or(|&below| position >= below);
        messages.retain(|&(lane, position), _| is_kept(lane, position));
        provisional.retain(|&(lane, position)| is_kept(lane, position));
    }

    /// Whether a group is done with a message.
    pub(crate) fn is_done(&self, lane: u32, group: u32, position: u64) -> bool {
        let below = self.committed.get(&(lane, group)).copied().unwrap_or(0);
        position < below || self.settled.contains(&(lane, group, position))
    }

    /// The next position of a lane.
    pub(crate) fn end(&self, lane: u32) -> u64 {
        self.ends.get(&lane).copied().unwrap_or(0)
    }

    /// The first position of a lane that is kept: that of its first message, unless more was trimmed.
    pub(crate) fn start(&self, lane: u32) -> u64 {
        let first = self.messages.range((lane, 0)..(lane + 1, 0)).next();
        let first = first.map_or(self.end(lane), |(&(_, position), _)| position);
        first.max(self.trimmed.get(&lane).copied().unwrap_or(0))
    }

    /// Whether positions of a lane are missing after its first message, or after what the journal says is not needed.
    pub(crate) fn has_gaps(&self, lane: u32) -> bool {
        let held = self.messages.range((lane, 0)..(lane + 1, 0)).count() as u64;
        let first = self.messages.range((lane, 0)..(lane + 1, 0)).next().map_or(0, |(&(_, position), _)| position);
        held > 0 && self.end(lane) - self.trimmed.get(&lane).copied().unwrap_or(first) > held
    }
}
