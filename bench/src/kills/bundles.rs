//! Transactions of a program of kills: which of its messages may come, and which must.
//!
//! What was committed must come, what was given up or was open when the process was killed must not; of a commit that was asked for and not
//! answered all comes or nothing. Leaves out the messages themselves, which the books know.

use std::collections::BTreeMap;

use brokerlab_model::Receipt;

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Its commit was asked for, and nobody has answered, or nobody ever will.
    Committing,
    Committed,
    /// It was given up, or was open when the process was killed.
    Dropped,
}

#[derive(Clone, Debug)]
struct Bundle {
    stage: Stage,
    /// Something of it came.
    came: bool,
    settled: Vec<Receipt>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Bundles {
    all: Vec<Bundle>,
    of: BTreeMap<u64, usize>,
}

impl Bundles {
    /// A transaction begins; the one before has ended.
    pub(super) fn begin(&mut self) {
        self.all.push(Bundle { stage: Stage::Open, came: false, settled: Vec::new() });
    }

    /// What is published now belongs to the one that is open.
    pub(super) fn add(&mut self, number: u64) {
        if self.all.last().is_some_and(|last| last.stage == Stage::Open) {
            self.of.insert(number, self.all.len() - 1);
        }
    }

    /// The one that is open has settled this.
    pub(super) fn settled(&mut self, receipt: Receipt) {
        if let Some(last) = self.all.last_mut() {
            last.settled.push(receipt);
        }
    }

    pub(super) fn asked_to_commit(&mut self) {
        self.end(Stage::Committing);
    }

    /// It was given up, or its commit refused.
    pub(super) fn dropped(&mut self) {
        self.end(Stage::Dropped);
    }

    /// Its commit is done: what it settled, is settled for good.
    pub(super) fn committed(&mut self) -> Vec<Receipt> {
        self.end(Stage::Committed);
        self.all.last_mut().map(|last| std::mem::take(&mut last.settled)).unwrap_or_default()
    }

    fn end(&mut self, stage: Stage) {
        if let Some(last) = self.all.last_mut() {
            last.stage = stage;
        }
    }

    /// The process is gone, and with it what was open.
    pub(super) fn killed(&mut self) {
        if self.all.last().is_some_and(|last| last.stage == Stage::Open) {
            self.end(Stage::Dropped);
        }
    }

    /// A message came; false when it must not.
    pub(super) fn came(&mut self, number: u64) -> bool {
        let Some(&of) = self.of.get(&number) else { return true };
        let bundle = &mut self.all[of];
        bundle.came = true;
        matches!(bundle.stage, Stage::Committing | Stage::Committed)
    }

    /// Whether a message that is stored must come.
    pub(super) fn counts(&self, number: u64) -> bool {
        let Some(&of) = self.of.get(&number) else { return true };
        match self.all[of].stage {
            Stage::Committed => true,
            Stage::Committing => self.all[of].came,
            Stage::Open | Stage::Dropped => false,
        }
    }

    /// How many were committed.
    pub(super) fn committed_in_all(&self) -> u64 {
        self.all.iter().filter(|bundle| bundle.stage == Stage::Committed).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_committed_must_not_come_and_a_commit_without_an_answer_counts_whole_or_not() {
        let mut bundles = Bundles::default();
        assert!(bundles.came(0) && bundles.counts(0), "of no transaction");
        bundles.begin();
        bundles.add(1);
        assert!(!bundles.came(1) && !bundles.counts(1), "open");
        bundles.asked_to_commit();
        bundles.committed();
        assert!(bundles.came(1) && bundles.counts(1));
        bundles.begin();
        bundles.add(2);
        bundles.killed();
        assert!(!bundles.came(2) && !bundles.counts(2), "open when the process was killed");
        bundles.begin();
        bundles.add(3);
        bundles.add(4);
        bundles.asked_to_commit();
        bundles.killed();
        assert!(!bundles.counts(3) && !bundles.counts(4), "nobody knows");
        assert!(bundles.came(4) && bundles.counts(3), "one came, so both must");
        assert_eq!(bundles.committed_in_all(), 1);
    }
}
