//! Keys as small dense numbers, so that what is kept per key is an array.
//!
//! A number is given out again once nothing refers to its key, so that numbers stay as few as the keys that are in use at a
//! time. Leaves out any order: the table is asked, never walked.

use hashbrown::HashTable;

/// Bytes that a key takes beside its own: its entry and its place in the table.
const BESIDE: usize = size_of::<Entry>() + 8;

#[derive(Clone, Debug)]
struct Entry {
    key: Box<[u8]>,
    hash: u64,
    /// How many panes or sessions hold it.
    uses: u32,
}

/// The keys in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    table: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    bytes: usize,
}

impl Keys {
    /// The number of a key that is in use.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = hash_of(key);
        self.table.find(hash, |&number| *self.entries[number as usize].key == *key).copied()
    }

    /// Gives a key that is not in use a number. It must be retained before anything is released.
    pub(super) fn insert(&mut self, key: &[u8]) -> u32 {
        let entry = Entry { key: key.into(), hash: hash_of(key), uses: 0 };
        let hash = entry.hash;
        self.bytes += entry.key.len() + BESIDE;
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            number
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        };
        self.table.insert_unique(hash, number, |&number| self.entries[number as usize].hash);
        number
    }

    /// One more refers to it.
    pub(super) fn retain(&mut self, number: u32) {
        self.entries[number as usize].uses += 1;
    }

    /// One less refers to it; with the last one it is forgotten.
    pub(super) fn release(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        entry.uses -= 1;
        if entry.uses > 0 {
            return;
        }
        self.bytes -= entry.key.len() + BESIDE;
        entry.key = Box::default();
        if let Ok(place) = self.table.find_entry(entry.hash, |&other| other == number) {
            place.remove();
        }
        self.free.push(number);
    }

    /// The key of a number in use.
    #[inline]
    pub(super) fn key(&self, number: u32) -> &[u8] {
        &self.entries[number as usize].key
    }

    /// What the keys in use take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A hash for the table: eight bytes at a time, each folded into a product with an odd constant.
#[inline]
fn hash_of(key: &[u8]) -> u64 {
    let fold = |sum: u64, word: u64| {
        let product = u128::from(sum ^ word) * 0x9e37_79b9_7f4a_7c15;
        (product >> 64) as u64 ^ product as u64
    };
    let (words, tail) = key.as_chunks::<8>();
    let mut sum = words.iter().fold(0x2545_f491_4f6c_dd1d, |sum, &word| fold(sum, u64::from_le_bytes(word)));
    let mut last = key.len() as u64;
    for &byte in tail {
        last = last << 8 | u64::from(byte);
    }
    sum = fold(sum, last);
    sum ^ sum >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_once_its_key_is_gone() {
        let mut keys = Keys::default();
        let (a, b) = (keys.insert(b"a"), keys.insert(b"b"));
        keys.retain(a);
        keys.retain(a);
        keys.retain(b);
        assert_eq!((keys.find(b"a"), keys.find(b"b"), keys.find(b"c")), (Some(a), Some(b), None));
        keys.release(a);
        assert_eq!((keys.find(b"a"), keys.key(a)), (Some(a), &b"a"[..]));
        keys.release(a);
        assert_eq!(keys.find(b"a"), None);
        let c = keys.insert(b"c");
        keys.retain(c);
        assert_eq!((c, keys.find(b"c"), keys.find(b"b")), (a, Some(c), Some(b)));
        keys.release(b);
        keys.release(c);
        assert_eq!(keys.bytes(), 0);
    }

    #[test]
    fn many_keys_are_told_apart() {
        let mut keys = Keys::default();
        let name = |n: u32| format!("{}{n}", "k".repeat((n % 20) as usize));
        for n in 0..20_000 {
            assert_eq!(keys.find(name(n).as_bytes()), None);
            let number = keys.insert(name(n).as_bytes());
            keys.retain(number);
            assert_eq!(number, n);
        }
        for n in 0..20_000 {
            assert_eq!(keys.find(name(n).as_bytes()), Some(n));
        }
    }
}
