//! Operations in flight, found by their token without a search.
//!
//! A token is a slot's index and the number of times that the slot was used before, so that one that comes back twice, or was
//! never given out, is told apart. Leaves out what an operation is.

use brokerlab_model::Token;

/// Set in the tokens of controls, which are not kept in slots.
const CONTROL: u64 = 1 << 63;

/// A control operation's token, by a number of the caller's below 2^63.
pub(crate) const fn control_token(number: u64) -> Token {
    Token(CONTROL | number)
}

/// The number of a control's token; none when the token is one of a slot.
pub(crate) const fn control_number(token: Token) -> Option<u64> {
    if token.0 & CONTROL == 0 { None } else { Some(token.0 & !CONTROL) }
}

#[derive(Clone, Debug)]
struct Slot<T> {
    used_before: u32,
    operation: Option<T>,
}

/// A slab of operations in flight.
#[derive(Clone, Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// How many operations are in flight.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Keeps an operation and gives it its token.
    pub(crate) fn insert(&mut self, operation: T) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { used_before: 0, operation: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.operation = Some(operation);
        // 31 bits, so that the mark of controls stays clear.
        Token(u64::from(slot.used_before & (u32::MAX >> 1)) << 32 | u64::from(index))
    }

    /// The operation of a token that is in flight.
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let slot = self.slots.get_mut(token.0 as u32 as usize)?;
        if u64::from(slot.used_before & (u32::MAX >> 1)) == token.0 >> 32 { slot.operation.as_mut() } else { None }
    }

    /// Ends an operation; none when the token is not in flight.
    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        let index = token.0 as u32;
        let slot = &mut self.slots[index as usize];
        slot.used_before = slot.used_before.wrapping_add(1);
        self.free.push(index);
        slot.operation.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_once_and_its_slot_is_used_again_under_another() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!((slots.remove(a), slots.remove(a)), (Some('a'), None));
        let c = slots.insert('c');
        assert_ne!(a, c);
        assert_eq!((slots.get_mut(a).copied(), slots.len()), (None, 2));
        assert_eq!((slots.remove(b), slots.remove(c), slots.remove(Token(99))), (Some('b'), Some('c'), None));
        assert_eq!((slots.len(), slots.slots.len()), (0, 2));
    }

    #[test]
    fn tokens_of_controls_are_no_tokens_of_slots() {
        let mut slots = Slots::new();
        assert_eq!(control_number(slots.insert(())), None);
        assert_eq!(control_number(control_token(7)), Some(7));
        assert_eq!(slots.remove(control_token(0)), None);
    }
}
