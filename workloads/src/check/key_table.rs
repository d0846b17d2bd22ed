//! The last sequence number seen for each of millions of keys, in twelve bytes a key.
//!
//! Open addressing with linear probing. A key is told apart by 56 bits of its hash: among a million keys two meet by chance in
//! fewer than one run in 100,000. The table grows to a bound; a key beyond it is refused, and counted by the caller. Leaves out
//! hashing the key's bytes.

/// Slots that a table begins with.
const FIRST_SLOTS: usize = 1 << 10;
/// Slots that it grows to (96 MiB); seven eighths of them are used.
pub(super) const MAX_SLOTS: usize = 1 << 23;

/// A tag of 56 bits and a sequence number of 40, in words that need an alignment of four only.
type Slot = [u32; 3];
const EMPTY: Slot = [0; 3];

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct KeyTable {
    slots: Vec<Slot>,
    used: usize,
    max_slots: usize,
}

/// What a sequence number is to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Later than every one before it, or the first.
    InOrder,
    /// Earlier than one that came before it.
    AfterALater,
    /// The table is full and does not know the key.
    NotChecked,
}

/// Spreads every bit of the hash over all bits; no two hashes meet in it.
#[inline]
pub(super) const fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[inline]
const fn pack(tag: u64, number: u64) -> Slot {
    [tag as u32, (tag >> 32) as u32 | (number as u32) << 24, (number >> 8) as u32]
}

#[inline]
const fn tag(slot: Slot) -> u64 {
    slot[0] as u64 | ((slot[1] & 0x00ff_ffff) as u64) << 32
}

#[inline]
const fn number(slot: Slot) -> u64 {
    (slot[1] >> 24) as u64 | (slot[2] as u64) << 8
}

impl KeyTable {
    /// A table for `keys` keys, of at most `max_slots` slots (a power of two). Without a guess it grows as keys come, and the
    /// message that makes a large one grow waits for it.
    pub(super) fn new(keys: u64, max_slots: usize) -> Self {
        let wanted = usize::try_from(keys.saturating_add(keys / 7).saturating_add(1)).unwrap_or(usize::MAX);
        let slots = wanted.checked_next_power_of_two().unwrap_or(usize::MAX).max(FIRST_SLOTS).min(max_slots);
        Self { slots: vec![EMPTY; slots], used: 0, max_slots }
    }

    /// Notes that sequence number `arrived` (below 2^40) came for the key of this hash.
    #[inline]
    pub(super) fn arrive(&mut self, hash: u64, arrived: u64) -> Arrival {
        // A tag of 0 would look like an empty slot.
        let wanted = (spread(hash) >> 8).max(1);
        let mask = self.slots.len() - 1;
        let mut at = wanted as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            let found = tag(*slot);
            if found == wanted {
                if arrived < number(*slot) {
                    return Arrival::AfterALater;
                }
                *slot = pack(wanted, arrived);
                return Arrival::InOrder;
            }
            if found == 0 {
                return self.add(wanted, arrived);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(never)]
    fn add(&mut self, wanted: u64, arrived: u64) -> Arrival {
        if self.used >= self.slots.len() / 8 * 7 {
            if self.slots.len() >= self.max_slots {
                return Arrival::NotChecked;
            }
            let twice = vec![EMPTY; self.slots.len() * 2];
            for slot in std::mem::replace(&mut self.slots, twice) {
                if slot != EMPTY {
                    self.place(slot);
                }
            }
        }
        self.place(pack(wanted, arrived));
        self.used += 1;
        Arrival::InOrder
    }

    /// Puts a slot where its key's probing finds it.
    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = tag(slot) as usize & mask;
        while self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_slot_holds_56_and_40_bits() {
        for (of_tag, of_number) in [(1, 0), ((1 << 56) - 1, (1 << 40) - 1), (0xab_cdef_0123_4567, 0x89_abcd_ef01)] {
            let slot = pack(of_tag, of_number);
            assert_eq!((tag(slot), number(slot)), (of_tag, of_number));
        }
    }

    #[test]
    fn it_agrees_with_a_map_while_it_grows() {
        let mut table = KeyTable::new(0, MAX_SLOTS);
        let mut map = BTreeMap::new();
        for n in 0..60_000_u64 {
            let (key, arrived) = (spread(n) % 20_000, spread(n * 31) % 1_000);
            let last = map.entry(key).or_insert(arrived);
            let expected = if arrived < *last { Arrival::AfterALater } else { Arrival::InOrder };
            *last = arrived.max(*last);
            assert_eq!(table.arrive(key, arrived), expected, "{n}");
        }
        assert_eq!(table.used, map.len());
    }

    #[test]
    fn beyond_its_bound_it_refuses_new_keys_and_still_knows_the_old() {
        let mut table = KeyTable::new(u64::MAX, 64);
        assert_eq!(table.bytes(), 64 * 12);
        for key in 0..56 {
            assert_eq!(table.arrive(key, 5), Arrival::InOrder);
        }
        assert_eq!(table.arrive(1_000, 5), Arrival::NotChecked);
        assert_eq!(table.arrive(55, 4), Arrival::AfterALater);
        assert_eq!(table.arrive(55, 6), Arrival::InOrder);
        assert_eq!(table.bytes(), 64 * 12);
    }
}
