//! Rows of the log's way in and out: page cache and flush against bare writes, read against bare reads.
//!
//! Leaves out queues and shards.

use std::path::Path;
use std::rc::Rc;
use std::{cell::RefCell, fs};

use brokerlab_host::{Clock as _, WallClock};
use brokerlab_model::{Batch, Storage};

use super::bare::{Recycled, cost_of_fresh};
use super::rig::{Rig, Setup, batch, copies};
use super::{Goal, Open, Pair, Size, Unit};
use crate::cpu::cost_ns;

/// What one write of the engine takes at most, and the reference's block.
const BLOCK: usize = 256 << 10;
/// A log that keeps 64 MiB in memory and in segments that are used again and again.
pub(super) const RECYCLING: &str = "log?retention_bytes=64MiB&max_memory=2MiB&segment=64MiB";
/// The same for sixteen lanes, which keep as much together.
const RECYCLING_MANY: &str = "log?retention_bytes=4MiB&max_memory=2MiB&segment=64MiB";
/// The same with memory for batches that are larger than that.
const RECYCLING_LARGE: &str = "log?retention_bytes=64MiB&max_memory=16MiB&segment=64MiB";

pub(super) fn rows(size: Size) -> Vec<Open> {
    let mut rows = Vec::new();
    for payload in [100, 1_024] {
        let goal = if payload == 100 { Goal::AtLeast(4.0) } else { Goal::Shown };
        let name = format!("`log` append, page cache, {payload} B × 1, 64 in flight");
        rows.push(Open::new(&name, move |dir| single(dir, size, payload, goal)));
        for count in [16, 256, 4_096] {
            let goal = if count == 256 { Goal::AtLeast(0.55) } else { Goal::Shown };
            let name = format!("`log` append, page cache, {payload} B × {count}");
            rows.push(Open::new(&name, move |dir| cached(dir, size, (payload, count), goal)));
        }
    }
    rows.push(Open::new("`log` append, page cache, 100 B × 256, beside a fresh file", move |dir| fresh(dir, size)));
    rows.push(Open::new("`log` read from page cache, 100 B × 256, CRC verified", move |dir| read(dir, size)));
    for payload in [100, 1_024] {
        for count in [1, 16, 256, 4_096] {
            let goal = if count == 256 { Goal::AtLeast(0.9) } else { Goal::Shown };
            let name = format!("`log` append, fsync, {payload} B × {count}");
            rows.push(Open::new(&name, move |dir| flushed(dir, size, (payload, count), goal)));
        }
    }
    for (kib, goal) in [(4, 1.5), (64, 1.2)] {
        let name = format!("`log`, fsync, 16 lanes × {kib} KiB in one round");
        rows.push(Open::new(&name, move |dir| lanes(dir, size, kib << 10, goal)));
    }
    rows
}

pub(super) fn folder(dir: &Path, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = dir.join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// Bytes of an engine's segments: as many are written again and again beside it. More than fit into a cache cost more each.
fn segments(data: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(data)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with("segment-") {
            bytes += file.metadata()?.len();
        }
    }
    anyhow::ensure!(bytes > 0, "{} has no segments", data.display());
    Ok(bytes)
}

pub(super) fn setup<'a>(url: &'a str, storage: Storage, data: &'a Path, lanes: u32) -> Setup<'a> {
    Setup { url, storage, data: Some(data), lanes, groups: 0 }
}

/// CPU time of so many batches, `at_once` before the workers run; how many bytes they became is noted.
pub(super) fn append(
    rig: &mut Rig,
    template: &brokerlab_model::Publishes,
    batches: usize,
    at_once: usize,
) -> anyhow::Result<(f64, u64)> {
    let (mut spent, mut result) = (0, Ok(()));
    let before = rig.work().bytes_written;
    for _ in 0..batches.div_ceil(at_once) {
        let mut offered = copies(template, at_once);
        spent += cost_ns(|| result = rig.publish(&mut offered));
        std::mem::replace(&mut result, Ok(()))?;
    }
    let messages = batches.div_ceil(at_once) * at_once * template.len();
    Ok((spent as f64 / messages as f64, (rig.work().bytes_written - before) / messages as u64))
}

fn cached(dir: &Path, size: Size, (payload, count): (usize, usize), goal: Goal) -> anyhow::Result<Pair> {
    let data = folder(dir, &format!("cached-{payload}-{count}"))?;
    let url = if payload * count < 1 << 20 { RECYCLING } else { RECYCLING_LARGE };
    let mut rig = Rig::open(&setup(url, Storage::PageCache, &data, 1))?;
    let template = batch(count, payload, false);
    // As many as one write takes.
    let at_once = (BLOCK / (count * payload)).max(1);
    let batches = size.of((256 << 20) / (count * payload), 8);
    // Until segments are used again.
    append(&mut rig, &template, batches, at_once)?;
    let mut bare = Recycled::create(&dir.join(format!("bare-{payload}-{count}")), segments(&data)?)?;
    let bytes = Rc::new(RefCell::new(1));
    let seen = Rc::clone(&bytes);
    let block = vec![0x5a; BLOCK];
    let messages = (batches * count) as u64;
    Ok(Pair {
        reference: "pwrite of the same bytes in 256 KiB blocks",
        goal,
        unit: Unit::Cpu,
        ours: Box::new(move || {
            let (cost, each) = append(&mut rig, &template, batches, at_once)?;
            *seen.borrow_mut() = each;
            Ok(cost)
        }),
        theirs: Box::new(move || {
            let each = *bytes.borrow();
            Ok(bare.cost_of_blocks(messages * each, &block)? as f64 / messages as f64)
        }),
    })
}

/// Messages offered one by one; what waits when the workers run is written at once.
fn single(dir: &Path, size: Size, payload: usize, goal: Goal) -> anyhow::Result<Pair> {
    let data = folder(dir, &format!("single-{payload}"))?;
    let mut rig = Rig::open(&setup(RECYCLING, Storage::PageCache, &data, 1))?;
    let template = batch(1, payload, false);
    let messages = size.of(400_000, 256);
    append(&mut rig, &batch(256, payload, false), size.of((256 << 20) / (256 * payload), 8), 8)?;
    let mut bare = Recycled::create(&dir.join(format!("bare-single-{payload}")), segments(&data)?)?;
    let block = vec![0x5a; payload];
    let total = (messages * payload) as u64;
    Ok(Pair {
        reference: "one pwrite per message",
        goal,
        unit: Unit::Cpu,
        ours: Box::new(move || Ok(append(&mut rig, &template, messages, 64)?.0)),
        theirs: Box::new(move || Ok(bare.cost_of_blocks(total, &block)? as f64 / messages as f64)),
    })
}

/// What a program without an engine does at first: one call for each batch, to a file that is made for it.
fn fresh(dir: &Path, size: Size) -> anyhow::Result<Pair> {
    let data = folder(dir, "beside-fresh")?;
    let mut rig = Rig::open(&setup(RECYCLING, Storage::PageCache, &data, 1))?;
    let template = batch(256, 100, false);
    let batches = size.of(10_240, 8);
    append(&mut rig, &template, batches, 10)?;
    let path = dir.join("bare-fresh");
    let block = vec![0x5a; 25_600];
    let messages = (batches * 256) as f64;
    Ok(Pair {
        reference: "one write of 25,600 B each to a fresh file",
        goal: Goal::AtLeast(1.0),
        unit: Unit::Cpu,
        ours: Box::new(move || Ok(append(&mut rig, &template, batches, 10)?.0)),
        theirs: Box::new(move || Ok(cost_of_fresh(&path, batches, &block)? as f64 / messages)),
    })
}

/// Frames that are no longer in memory are read back and verified.
fn read(dir: &Path, size: Size) -> anyhow::Result<Pair> {
    let data = folder(dir, "read")?;
    let mut setup = setup("log?retention=forever&max_memory=2MiB&segment=64MiB", Storage::PageCache, &data, 1);
    setup.groups = 1;
    let mut rig = Rig::open(&setup)?;
    let template = batch(256, 100, false);
    let batches = size.of(1_024, 16);
    let (_, each) = append(&mut rig, &template, batches, 8)?;
    let messages = (batches * 256) as u64;
    let total = messages * each;
    let mut bare = Recycled::create(&dir.join("bare-read"), 64 << 20)?;
    bare.cost_of_blocks(64 << 20, &vec![0x5a; BLOCK])?;
    let mut block = vec![0; 64 << 10];
    Ok(Pair {
        reference: "pread of 64 KiB blocks, bytes on disk",
        goal: Goal::AtLeast(0.55),
        unit: Unit::Cpu,
        ours: Box::new(move || {
            rig.rewind(0)?;
            let before = rig.work().bytes_read;
            let mut received = 0;
            let mut result = Ok(());
            let cost = cost_ns(|| {
                while received < messages {
                    match rig.receive(0, 256, |_| {}) {
                        Ok(0) => break,
                        Ok(more) => received += more,
                        Err(error) => {
                            result = Err(error);
                            break;
                        }
                    }
                }
            });
            result?;
            anyhow::ensure!(received == messages, "{received} of {messages} were read");
            let read = rig.work().bytes_read - before;
            anyhow::ensure!(read + (2 << 20) >= total, "only {read} of {total} bytes were read from files");
            Ok(cost as f64 / messages as f64)
        }),
        theirs: Box::new(move || Ok(bare.cost_of_reads(total, &mut block)? as f64 / messages as f64)),
    })
}

/// Publishes until the journal's segments are ones that were used before, as they are from then on.
fn use_again(rig: &mut Rig, size: Size) -> anyhow::Result<()> {
    let template = batch(2_560, 100, false);
    round(rig, &template, size.of((256 << 20) / (2_560 * 100), 4)).map(drop)
}

/// Wall time of one batch until it is acknowledged.
pub(super) fn round(rig: &mut Rig, template: &brokerlab_model::Publishes, rounds: usize) -> anyhow::Result<f64> {
    let clock = WallClock::new();
    let mut spent = 0;
    for _ in 0..rounds {
        let mut offered = [Batch::Publish(template.clone())];
        let begin = clock.now();
        rig.publish(&mut offered)?;
        spent += clock.now().since(begin).0;
    }
    Ok(spent as f64 / rounds as f64)
}

fn flushed(dir: &Path, size: Size, (payload, count): (usize, usize), goal: Goal) -> anyhow::Result<Pair> {
    let data = folder(dir, &format!("flushed-{payload}-{count}"))?;
    let url = if payload * count < 1 << 20 { RECYCLING } else { RECYCLING_LARGE };
    let mut rig = Rig::open(&setup(url, Storage::Fsync, &data, 1))?;
    let template = batch(count, payload, false);
    let whole = if count == 256 { (128 << 20) / (count * payload).max(64 << 10) } else { 256 };
    let rounds = size.of(whole, 4);
    use_again(&mut rig, size)?;
    let before = rig.work().bytes_written;
    round(&mut rig, &template, 4)?;
    let bytes = vec![0x5a; (rig.work().bytes_written - before) as usize / 4];
    let mut bare = Recycled::create(&dir.join(format!("bare-flushed-{payload}-{count}")), segments(&data)?)?;
    Ok(Pair {
        reference: "write + fdatasync of the same bytes",
        goal,
        unit: Unit::Wall,
        ours: Box::new(move || Ok(round(&mut rig, &template, rounds)? / count as f64)),
        theirs: Box::new(move || {
            let clock = WallClock::new();
            let begin = clock.now();
            for _ in 0..rounds {
                bare.write(&bytes)?;
                bare.flush()?;
            }
            Ok(clock.now().since(begin).0 as f64 / (rounds * count) as f64)
        }),
    })
}

/// Sixteen lanes made durable together, against one: of `bytes` each while that is small, of the same bytes in all when it is large.
fn lanes(dir: &Path, size: Size, bytes: usize, goal: f64) -> anyhow::Result<Pair> {
    let large = bytes > 4 << 10;
    let each = bytes / 100;
    let names = [format!("lanes-16-{bytes}"), format!("lanes-1-{bytes}")];
    let (many_dir, one_dir) = (folder(dir, &names[0])?, folder(dir, &names[1])?);
    let mut many = Rig::open(&setup(RECYCLING_MANY, Storage::Fsync, &many_dir, 16))?;
    let mut one = Rig::open(&setup(RECYCLING, Storage::Fsync, &one_dir, 1))?;
    let spread = batch(16 * each, 100, true);
    let single = batch(if large { 16 * each } else { each }, 100, true);
    let rounds = size.of(if large { 100 } else { 400 }, 4);
    let per = spread.len() as f64;
    let reference = if large { "one lane, the same bytes" } else { "one lane × 4 KiB" };
    use_again(&mut many, size)?;
    use_again(&mut one, size)?;
    Ok(Pair {
        reference,
        goal: Goal::AtMost(goal),
        unit: Unit::Wall,
        ours: Box::new(move || Ok(round(&mut many, &spread, rounds)? / per)),
        theirs: Box::new(move || Ok(round(&mut one, &single, rounds)? / per)),
    })
}
