//! What the system does without an engine: writes, flushes and reads of the same bytes, and a channel between two threads.
//!
//! Leaves out framing and checksums: these are the references.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Context as _;
use brokerlab_host::{Clock as _, WallClock};

use crate::cpu::cost_ns;

/// A file that is written over and over, as a recycled segment is.
#[derive(Debug)]
pub(super) struct Recycled {
    file: File,
    len: u64,
    at: u64,
}

impl Recycled {
    /// A file of `len` bytes, all of it written once.
    pub(super) fn create(path: &Path, len: u64) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path);
        let mut file = file.with_context(|| path.display().to_string())?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..len >> 20 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Self { file, len, at: 0 })
    }

    /// Writes `bytes` at the next place, from the start again where they would pass the end.
    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.at + bytes.len() as u64 > self.len {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn flush(&self) -> anyhow::Result<()> {
        Ok(self.file.sync_data()?)
    }

    /// CPU time in nanoseconds of writing `total` bytes in blocks.
    pub(super) fn cost_of_blocks(&mut self, total: u64, block: &[u8]) -> anyhow::Result<u64> {
        let mut result = Ok(());
        let cost = cost_ns(|| {
            let mut left = total;
            while left > 0 && result.is_ok() {
                let now = left.min(block.len() as u64);
                result = self.write(&block[..now as usize]);
                left -= now;
            }
        });
        result.map(|()| cost)
    }

    /// CPU time in nanoseconds of reading `total` bytes from the start in blocks.
    pub(super) fn cost_of_reads(&self, total: u64, block: &mut [u8]) -> anyhow::Result<u64> {
        let mut result = Ok(());
        let cost = cost_ns(|| {
            let mut at = 0;
            while at < total && result.is_ok() {
                let now = (total - at).min(block.len() as u64) as usize;
                result = self.file.read_exact_at(&mut block[..now], at % (self.len - now as u64 + 1));
                at += now as u64;
            }
        });
        result?;
        Ok(cost)
    }
}

/// CPU time in nanoseconds of writing a block so many times, a call each, to a file that is made for it and removed afterwards.
pub(super) fn cost_of_fresh(path: &Path, times: usize, block: &[u8]) -> anyhow::Result<u64> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let mut result = Ok(());
    let cost = cost_ns(|| result = (0..times).try_for_each(|_| file.write_all(block)));
    result?;
    std::fs::remove_file(path)?;
    Ok(cost)
}

/// What bounds the channel of the reference.
const CHANNEL: usize = 1_024;

/// Wall time in nanoseconds of `count` boxed payloads of 100 B through a bounded channel, producer and consumer on a thread each.
pub(super) fn boxed_channel(count: usize) -> anyhow::Result<u64> {
    let (sender, receiver) = crossbeam_channel::bounded::<Box<[u8; 100]>>(CHANNEL);
    let clock = WallClock::new();
    let begin = clock.now();
    let sent = std::thread::spawn(move || {
        for n in 0..count {
            let mut payload = Box::new([0x5a; 100]);
            payload[0] = n as u8;
            if sender.send(payload).is_err() {
                return n;
            }
        }
        count
    });
    let mut came = 0;
    let mut sum = 0_u64;
    for payload in &receiver {
        came += 1;
        sum += u64::from(payload[0]);
    }
    let took = clock.now().since(begin).0;
    let sent = sent.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
    anyhow::ensure!(sent == count && came == count && sum > 0, "{came} of {sent} came through the channel");
    Ok(took)
}
