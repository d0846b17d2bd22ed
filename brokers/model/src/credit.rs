//! Credit for deliveries: grants in the order in which they came, used up from the oldest.
//!
//! Leaves out who is delivered what; a model takes credit when it hands messages out and reports the grants that this ended.

use std::collections::VecDeque;

use crate::batch::Token;

/// A member's outstanding grants, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    grants: VecDeque<(Token, u32)>,
    available: u64,
}

impl Credit {
    /// How many more deliveries are granted.
    pub fn available(&self) -> u64 {
        self.available
    }

    /// Whether a message may be delivered now.
    pub fn is_empty(&self) -> bool {
        self.available == 0
    }

    /// Adds a grant of `count` deliveries. Returns `false` when `count` is zero: such a grant is complete at once and is not
    /// kept.
    #[must_use = "a grant of nothing is complete at once, and its token still has to come back"]
    pub fn grant(&mut self, token: Token, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        self.grants.push_back((token, count));
        self.available += u64::from(count);
        true
    }

    /// Uses up credit for `count` deliveries and calls `ended` for every grant whose last delivery was among them, oldest first.
    ///
    /// # Panics
    /// In debug builds, when less than `count` is available: the caller looks first.
    pub fn take(&mut self, count: u64, mut ended: impl FnMut(Token)) {
        debug_assert!(count <= self.available, "a model delivers no more than was granted");
        self.available -= count;
        let mut left = count;
        while left > 0 {
            let Some((token, remaining)) = self.grants.front_mut() else { break };
            if u64::from(*remaining) > left {
                *remaining -= left as u32;
                break;
            }
            left -= u64::from(*remaining);
            ended(*token);
            self.grants.pop_front();
        }
    }

    /// Ends all grants, oldest first: the member leaves.
    pub fn end(&mut self, mut ended: impl FnMut(Token)) {
        self.available = 0;
        for (token, _) in self.grants.drain(..) {
            ended(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(credit: &mut Credit, count: u64) -> Vec<u64> {
        let mut ended = Vec::new();
        credit.take(count, |token| ended.push(token.0));
        ended
    }

    #[test]
    fn grants_end_in_the_order_in_which_they_came() {
        let mut credit = Credit::default();
        assert!(credit.grant(Token(1), 2));
        assert!(credit.grant(Token(2), 1));
        assert!(credit.grant(Token(3), 4));
        assert_eq!(credit.available(), 7);
        assert_eq!(taken(&mut credit, 1), []);
        assert_eq!(taken(&mut credit, 3), [1, 2]);
        assert_eq!(credit.available(), 3);
        assert_eq!(taken(&mut credit, 3), [3]);
        assert!(credit.is_empty());
    }

    #[test]
    fn a_grant_of_nothing_is_not_kept_and_an_end_ends_all() {
        let mut credit = Credit::default();
        assert!(!credit.grant(Token(1), 0));
        assert!(credit.grant(Token(2), 5));
        assert!(credit.grant(Token(3), 5));
        let mut ended = Vec::new();
        credit.end(|token| ended.push(token.0));
        assert_eq!(ended, [2, 3]);
        assert_eq!(credit.available(), 0);
    }
}
