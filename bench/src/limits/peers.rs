//! Rows of other crates' logs and queues that live in the same process: one producer appends batches of 256 messages of 100 B.
//!
//! Without a flush, thread CPU: `commitlog` and `yaque` never flush, and `fjall` is told not to; what its own threads do for it is not
//! counted. With one flush per batch, wall time: `okaywal` and `fjall`. Each begins a repetition in a fresh folder at its defaults, but
//! for `commitlog`'s segments and messages, which are made large enough. Our side makes its batches within what is measured, as a peer
//! is handed every payload. Leaves out reading.

use std::fmt::Display;
use std::path::Path;

use anyhow::anyhow;
use brokerlab_host::{Clock as _, WallClock};
use brokerlab_model::{Batch, Storage};
use commitlog::message::MessageBuf;
use commitlog::{CommitLog, LogOptions};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use okaywal::{LogVoid, WriteAheadLog};

use super::append::{RECYCLING, folder, setup};
use super::rig::{Rig, batch};
use super::{Goal, Open, Pair, Size, Unit};
use crate::cpu::cost_ns;

/// Messages of a batch.
const COUNT: usize = 256;
const PAYLOAD: [u8; 100] = [0x5a; 100];
/// Batches before our workers run: as many as one write takes.
const AT_ONCE: usize = 10;

/// Appends so many batches in an empty folder, from opening it on; nothing is measured but what `measured` is given.
type Appends = fn(&Path, usize, &mut Measure<'_>) -> anyhow::Result<()>;
/// Runs the part that counts.
type Measure<'a> = dyn FnMut(&mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> + 'a;

pub(super) fn rows(size: Size) -> Vec<Open> {
    let cached: [(&str, Appends); 3] = [
        ("commitlog", commit_log),
        ("yaque", yaque),
        ("fjall", |dir, batches, measure| fjall(dir, batches, None, measure)),
    ];
    let flushed: [(&str, Appends); 2] = [
        ("okaywal", okay_wal),
        ("fjall", |dir, batches, measure| fjall(dir, batches, Some(PersistMode::SyncData), measure)),
    ];
    let cached = cached.into_iter().map(|(name, appends)| {
        Open::new(&format!("`log` append, page cache, 100 B × 256, beside `{name}`"), move |dir| {
            pair(dir, size, name, appends, Storage::PageCache)
        })
    });
    let flushed = flushed.into_iter().map(|(name, appends)| {
        Open::new(&format!("`log` append, fsync, 100 B × 256, beside `{name}`"), move |dir| {
            pair(dir, size, name, appends, Storage::Fsync)
        })
    });
    cached.chain(flushed).collect()
}

fn pair(dir: &Path, size: Size, name: &'static str, appends: Appends, storage: Storage) -> anyhow::Result<Pair> {
    let flushes = storage == Storage::Fsync;
    let data = folder(dir, &format!("beside-{name}-{flushes}"))?;
    let theirs = dir.join(format!("{name}-{flushes}"));
    let mut rig = Rig::open(&setup(RECYCLING, storage, &data, 1))?;
    let batches = size.of(if flushes { 1_000 } else { 10_240 }, 8);
    let at_once = if flushes { 1 } else { AT_ONCE };
    let (unit, goal) = if flushes { (Unit::Wall, 0.9) } else { (Unit::Cpu, 1.5) };
    // Until segments are used again.
    ours(&mut rig, size.of(10_240, 8), at_once.max(AT_ONCE))?;
    let per = (batches * COUNT) as f64;
    Ok(Pair {
        reference: name,
        goal: Goal::AtLeast(goal),
        unit,
        ours: Box::new(move || Ok(spent(unit, &mut || ours(&mut rig, batches, at_once))? as f64 / per)),
        theirs: Box::new(move || {
            std::fs::create_dir_all(&theirs)?;
            let mut total = 0;
            let done = appends(&theirs, batches, &mut |work| {
                total = spent(unit, work)?;
                Ok(())
            });
            std::fs::remove_dir_all(&theirs)?;
            done.map(|()| total as f64 / per)
        }),
    })
}

/// Nanoseconds of CPU or of wall time.
fn spent(unit: Unit, work: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let mut result = Ok(());
    let spent = match unit {
        Unit::Cpu => cost_ns(|| result = work()),
        Unit::Wall => {
            let clock = WallClock::new();
            let begin = clock.now();
            result = work();
            clock.now().since(begin).0
        }
    };
    result.map(|()| spent)
}

fn ours(rig: &mut Rig, batches: usize, at_once: usize) -> anyhow::Result<()> {
    let mut offered: Vec<Batch> = Vec::with_capacity(at_once);
    for _ in 0..batches.div_ceil(at_once) {
        offered.clear();
        offered.extend((0..at_once).map(|_| Batch::Publish(batch(COUNT, PAYLOAD.len(), false))));
        rig.publish(&mut offered)?;
    }
    Ok(())
}

/// A peer's error, which need not be one that can be sent.
fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("{error}")
}

fn commit_log(dir: &Path, batches: usize, measure: &mut Measure<'_>) -> anyhow::Result<()> {
    let mut options = LogOptions::new(dir);
    options.segment_max_bytes(512 << 20).message_max_bytes(64 << 20);
    let mut log = CommitLog::new(options)?;
    let mut messages = MessageBuf::default();
    measure(&mut || {
        for _ in 0..batches {
            messages.clear();
            (0..COUNT).try_for_each(|_| messages.push(PAYLOAD)).map_err(|error| anyhow!("{error:?}"))?;
            log.append(&mut messages).map_err(failed)?;
        }
        Ok(())
    })
}

fn yaque(dir: &Path, batches: usize, measure: &mut Measure<'_>) -> anyhow::Result<()> {
    let (mut sender, _receiver) = yaque::channel(dir)?;
    measure(&mut || (0..batches).try_for_each(|_| sender.try_send_batch((0..COUNT).map(|_| &PAYLOAD))).map_err(failed))
}

fn fjall(dir: &Path, batches: usize, flush: Option<PersistMode>, measure: &mut Measure<'_>) -> anyhow::Result<()> {
    let database = Database::builder(dir).open()?;
    let messages = database.keyspace("messages", KeyspaceCreateOptions::default)?;
    let mut position = 0_u64;
    measure(&mut || {
        for _ in 0..batches {
            let mut batch = database.batch().durability(flush);
            for _ in 0..COUNT {
                batch.insert(&messages, position.to_be_bytes(), PAYLOAD);
                position += 1;
            }
            batch.commit()?;
        }
        Ok(())
    })
}

fn okay_wal(dir: &Path, batches: usize, measure: &mut Measure<'_>) -> anyhow::Result<()> {
    let log = WriteAheadLog::recover(dir, LogVoid)?;
    measure(&mut || {
        for _ in 0..batches {
            let mut entry = log.begin_entry()?;
            for _ in 0..COUNT {
                entry.write_chunk(&PAYLOAD)?;
            }
            entry.commit()?;
        }
        Ok(())
    })?;
    Ok(log.shutdown()?)
}
