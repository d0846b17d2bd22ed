//! One file of a simulated disk: what a process reads, what is on the device, and what lies between.

use super::random::Random;

/// What a device writes whole or not at all, in bytes.
pub(super) const SECTOR: u64 = 512;

/// A change that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    /// To at least this length.
    Grow(u64),
}

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// As a process reads it.
    pub(super) visible: Vec<u8>,
    /// As it is on the device.
    durable: Vec<u8>,
    /// In the order in which they were made.
    unflushed: Vec<Change>,
}

impl Contents {
    /// Writes, not durably.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        put(&mut self.visible, at, bytes);
        self.unflushed.push(Change::Write { at, bytes: bytes.to_vec() });
    }

    /// Lengthens to at least `len`, not durably.
    pub(super) fn grow(&mut self, len: u64) {
        grow(&mut self.visible, len);
        self.unflushed.push(Change::Grow(len));
    }

    /// Cuts, durably, as a file system's journal does it: what is behind the cut is gone for good.
    pub(super) fn truncate(&mut self, len: u64) {
        self.flush();
        self.visible.truncate(len as usize);
        self.durable.truncate(len as usize);
    }

    /// Everything is durable.
    pub(super) fn flush(&mut self) {
        for change in std::mem::take(&mut self.unflushed) {
            apply(&mut self.durable, &change);
        }
    }

    /// The machine ends in the middle of a flush, of which nobody hears.
    pub(super) fn flush_in_part(&mut self, random: &mut Random) {
        let durable = &mut self.durable;
        self.unflushed.retain(|change| {
            let written = random.chance(1, 2);
            if written {
                apply(durable, change);
            }
            !written
        });
    }

    /// A flush that fails as on Linux: each write may have come through, may be gone from memory, or may stay in memory but count as
    /// written, so that it is lost at a power cut although a later flush succeeds. A length is kept by the file system's journal
    /// and waits for the next flush.
    pub(super) fn fail_flush(&mut self, random: &mut Random) {
        for change in std::mem::take(&mut self.unflushed) {
            match (&change, random.below(3)) {
                (_, 0) => apply(&mut self.durable, &change),
                (Change::Grow(_), _) => self.unflushed.push(change),
                (Change::Write { at, bytes }, 1) => {
                    let until = (*at as usize + bytes.len()).min(self.visible.len());
                    let from = (*at as usize).min(until);
                    for at in from..until {
                        self.visible[at] = self.durable.get(at).copied().unwrap_or(0);
                    }
                }
                (Change::Write { .. }, _) => {}
            }
        }
    }

    /// The power is cut: of what was not flushed, each write is kept, lost or torn between sectors, in any order.
    pub(super) fn cut(&mut self, random: &mut Random) {
        let mut unflushed = std::mem::take(&mut self.unflushed);
        // Some files lose everything and some nothing; most are in between.
        let kept = [0, 1, 4, 7, 8][random.below(5) as usize];
        while !unflushed.is_empty() {
            let change = unflushed.swap_remove(random.below(unflushed.len() as u64) as usize);
            if random.chance(kept, 8) {
                apply(&mut self.durable, &change);
                continue;
            }
            match change {
                Change::Grow(_) => {}
                Change::Write { at, bytes } => {
                    if random.chance(1, 2) {
                        tear(&mut self.durable, at, &bytes, random);
                    }
                }
            }
        }
        self.visible = self.durable.clone();
    }

    /// Changes bits of a byte behind everybody's back; false when there is no such byte.
    pub(super) fn rot(&mut self, at: u64, bits: u8) -> bool {
        let Some(byte) = self.visible.get_mut(at as usize) else { return false };
        *byte ^= bits;
        if let Some(byte) = self.durable.get_mut(at as usize) {
            *byte ^= bits;
        }
        true
    }
}

fn grow(bytes: &mut Vec<u8>, len: u64) {
    if bytes.len() < len as usize {
        bytes.resize(len as usize, 0);
    }
}

fn put(bytes: &mut Vec<u8>, at: u64, new: &[u8]) {
    let until = at + new.len() as u64;
    grow(bytes, until);
    bytes[at as usize..until as usize].copy_from_slice(new);
}

fn apply(durable: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => put(durable, *at, bytes),
        Change::Grow(len) => grow(durable, *len),
    }
}

/// Writes the parts of `bytes` that fall into half of the sectors.
fn tear(durable: &mut Vec<u8>, mut at: u64, mut bytes: &[u8], random: &mut Random) {
    while !bytes.is_empty() {
        let (part, rest) = bytes.split_at(bytes.len().min((SECTOR - at % SECTOR) as usize));
        if random.chance(1, 2) {
            put(durable, at, part);
        }
        at += part.len() as u64;
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Contents {
        let mut file = Contents::default();
        file.write(0, &[1; 2048]);
        file.flush();
        file.write(512, &[2; 1024]);
        file
    }

    #[test]
    fn what_was_flushed_survives_and_the_rest_is_kept_lost_or_torn_by_sector() {
        let mut seen = [0; 4];
        for seed in 0..1_000 {
            let mut file = written();
            file.cut(&mut Random::new(seed));
            assert_eq!(file.visible[..512], [1; 512]);
            assert_eq!(file.visible[1536..], [1; 512]);
            let sectors: Vec<u8> = file.visible.chunks(512).map(|sector| sector[0]).collect();
            assert!(file.visible.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            seen[usize::from(sectors[1] - 1) + 2 * usize::from(sectors[2] - 1)] += 1;
        }
        assert!(seen.iter().all(|&times| times > 20), "lost, first, second, kept: {seen:?}");
    }

    #[test]
    fn a_failed_flush_leaves_writes_that_only_look_durable() {
        let mut seen = [0; 3];
        for seed in 0..1_000 {
            let mut random = Random::new(seed);
            let mut file = written();
            file.fail_flush(&mut random);
            let before = file.visible[512];
            file.flush();
            file.cut(&mut random);
            match (before, file.visible[512]) {
                (2, 2) => seen[0] += 1,
                (1, 1) => seen[1] += 1,
                (2, 1) => seen[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(seen.iter().all(|&times| times > 200), "written, gone, only in memory: {seen:?}");
    }

    #[test]
    fn a_file_is_as_long_as_what_was_kept_of_it() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut file = Contents::default();
            file.grow(4096);
            file.write(0, &[3; 64]);
            assert_eq!(file.visible.len(), 4096);
            file.cut(&mut Random::new(seed));
            lengths.insert(file.visible.len());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 64, 4096]);
    }
}
