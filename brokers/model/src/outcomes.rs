//! How operations ended, by client: one row each, and whose they are once for all that stand together.
//!
//! A batch of publishes ends as one stretch of rows, which goes into its client's mailbox as one copy. Leaves out what a row says.

use crate::completion::Outcome;

/// Outcomes in the order in which they came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    rows: Vec<Outcome>,
    /// Whose the next rows are, and with which row they end. No two in a row are one client's.
    stretches: Vec<(u32, u32)>,
}

impl Outcomes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// An operation of a client ended.
    #[inline]
    pub fn push(&mut self, (client, outcome): (u32, Outcome)) {
        self.rows.push(outcome);
        self.ends(client);
    }

    /// Operations of one client ended.
    #[inline]
    pub fn extend_of(&mut self, client: u32, outcomes: impl Iterator<Item = Outcome>) {
        let before = self.rows.len();
        self.rows.extend(outcomes);
        if self.rows.len() > before {
            self.ends(client);
        }
    }

    /// The last rows are the client's.
    #[inline]
    fn ends(&mut self, client: u32) {
        let end = u32::try_from(self.rows.len()).expect("a step ends fewer than 2^32 operations");
        match self.stretches.last_mut() {
            Some((last, upto)) if *last == client => *upto = end,
            Some(_) | None => self.stretches.push((client, end)),
        }
    }

    /// Each with its client.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Outcome)> + '_ {
        self.stretches().flat_map(|(client, rows)| rows.iter().map(move |&row| (client, row)))
    }

    /// A client each, with what ended of its one after the other.
    pub fn stretches(&self) -> impl Iterator<Item = (u32, &[Outcome])> {
        let mut from = 0;
        self.stretches.iter().map(move |&(client, end)| {
            let rows = &self.rows[from as usize..end as usize];
            from = end;
            (client, rows)
        })
    }

    /// Asks for memory for that many more.
    pub fn reserve(&mut self, more: usize) {
        self.rows.reserve(more);
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.stretches.clear();
    }
}

impl Extend<(u32, Outcome)> for Outcomes {
    fn extend<I: IntoIterator<Item = (u32, Outcome)>>(&mut self, outcomes: I) {
        outcomes.into_iter().for_each(|outcome| self.push(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{LaneId, Token};
    use crate::completion::Status;

    fn done(token: u64) -> Outcome {
        Outcome { token: Token(token), status: Status::Done, lane: LaneId(0), position: token }
    }

    #[test]
    fn each_row_keeps_its_client_and_its_order_whichever_way_it_came() {
        let mut outcomes = Outcomes::default();
        outcomes.push((7, done(0)));
        outcomes.extend_of(7, [done(1), done(2)].into_iter());
        outcomes.extend_of(3, std::iter::empty());
        outcomes.extend([(3, done(3)), (7, done(4)), (7, done(5))]);
        let all: Vec<(u32, u64)> = outcomes.iter().map(|(client, outcome)| (client, outcome.token.0)).collect();
        assert_eq!(all, [(7, 0), (7, 1), (7, 2), (3, 3), (7, 4), (7, 5)]);
        let stretches: Vec<(u32, usize)> = outcomes.stretches().map(|(client, rows)| (client, rows.len())).collect();
        assert_eq!((stretches, outcomes.len()), (vec![(7, 3), (3, 1), (7, 2)], 6));
        outcomes.clear();
        assert!(outcomes.is_empty() && outcomes.iter().next().is_none());
    }
}
