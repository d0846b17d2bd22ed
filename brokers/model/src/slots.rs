//! Connected clients by slot, so that a step finds one by its number without a search.
//!
//! Leaves out what a client is to a model.

use std::collections::BTreeMap;

/// No slot.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Numbers below this are looked up in an array.
const DENSE: u32 = 1 << 16;

/// Something for each connected client. A slot is used again after its client is gone.
#[derive(Clone, Debug)]
pub(crate) struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    dense: Vec<u32>,
    sparse: BTreeMap<u32, u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), dense: Vec::new(), sparse: BTreeMap::new() }
    }
}

impl<T> Slots<T> {
    /// The slot of the client with this number.
    pub(crate) fn slot(&self, number: u32) -> Option<u32> {
        if number < DENSE {
            self.dense.get(number as usize).copied().filter(|&slot| slot != NOBODY)
        } else {
            self.sparse.get(&number).copied()
        }
    }

    fn set_slot(&mut self, number: u32, slot: u32) {
        if number >= DENSE {
            if slot == NOBODY {
                self.sparse.remove(&number);
            } else {
                self.sparse.insert(number, slot);
            }
            return;
        }
        if self.dense.len() <= number as usize {
            self.dense.resize(number as usize + 1, NOBODY);
        }
        self.dense[number as usize] = slot;
    }

    /// Gives the client of this number, which must be free, a slot.
    pub(crate) fn add(&mut self, number: u32, client: T) -> u32 {
        let slot = if let Some(slot) = self.free.pop() {
            self.places[slot as usize] = Some(client);
            slot
        } else {
            self.places.push(Some(client));
            (self.places.len() - 1) as u32
        };
        self.set_slot(number, slot);
        slot
    }

    /// Forgets the client of this number.
    pub(crate) fn remove(&mut self, number: u32) {
        if let Some(slot) = self.slot(number) {
            self.places[slot as usize] = None;
            self.set_slot(number, NOBODY);
            self.free.push(slot);
        }
    }

    /// The client in a slot that is in use.
    pub(crate) fn get(&self, slot: u32) -> &T {
        self.places[slot as usize].as_ref().expect("slots are kept only of clients that are there")
    }

    /// The client in a slot that is in use, to be changed.
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut T {
        self.places[slot as usize].as_mut().expect("slots are kept only of clients that are there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_small_or_large_and_slots_are_used_again() {
        let mut clients = Slots::default();
        let one = clients.add(7, "one");
        let other = clients.add(u32::MAX, "other");
        assert_eq!((clients.slot(7), clients.slot(u32::MAX), clients.slot(8)), (Some(one), Some(other), None));
        assert_eq!(*clients.get(other), "other");
        clients.remove(7);
        clients.remove(u32::MAX);
        assert_eq!((clients.slot(7), clients.slot(u32::MAX)), (None, None));
        assert_eq!(clients.add(9, "third"), other);
    }
}
