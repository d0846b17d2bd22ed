//! Transactions: what a producer publishes and settles between a begin and a commit counts whole or not at all.
//!
//! Messages are appended as they come, marked as provisional. A commit writes one block of records that belong together, releases the
//! messages and moves the groups' positions, and is done when that is stored. Without it, the messages are taken back: at an abort, when
//! the transaction takes too long, when a publish fails, when the producer leaves, and at a restart. Who reads only what is committed
//! waits at the first message of an open transaction. Leaves out names by which a producer is fenced, which are in `fencing`.

use std::collections::BTreeMap;

use super::fencing::check_name;
use super::lane::NOBODY;
use super::{Part, Source, Stream, ended, placed};
use crate::batch::{LaneId, Receipt, Settlement, Token, Transaction as Step, Verdict};
use crate::completion::{Refusal, Status};
use crate::machine::{Effects, Record, Write};
use crate::time::{Span, Time};

/// How transactions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionRules {
    /// One that is open for so long is taken back.
    pub(crate) timeout: Span,
    /// Members are handed only what is committed, in the order of its positions.
    pub(crate) read_committed: bool,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// It was taken back, and its producer has not ended it yet.
    TakenBack,
    /// Its commit waits for the storage.
    Ending(Token),
}

/// A position that moves with the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    source: Source,
    /// The assignment under which the message was delivered.
    epoch: u32,
    position: u64,
}

/// A producer's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    stage: Stage,
    /// When it has taken too long.
    ends: Time,
    /// The group for which it settles.
    group: Option<u32>,
    /// What it published, as half-open ranges of each lane.
    runs: BTreeMap<u32, Vec<(u64, u64)>>,
    moves: Vec<Move>,
}

impl Transaction {
    /// The first position that it has in a lane.
    pub(super) fn begins_in(&self, lane: u32) -> Option<u64> {
        self.runs.get(&lane)?.first().map(|&(from, _)| from)
    }
}

impl Stream {
    /// A producer begins or ends a transaction.
    pub(super) fn transact(
        &mut self,
        now: Time,
        client: u32,
        token: Token,
        step: &Step,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        match self.client(client)?.part {
            Part::Producer => {}
            Part::Member(_) | Part::Administrator => return Err(Refusal::WrongRole),
        }
        let rules = self.config.transactions.ok_or(Refusal::Unsupported)?;
        if self.is_fenced(client) {
            return Err(Refusal::Fenced);
        }
        match step {
            Step::Begin { group, name } => {
                check_name(name.as_deref())?;
                self.begin(client, now + rules.timeout, group.as_deref())?;
                if let Some(name) = name {
                    self.take_name(now, client, name, out);
                }
            }
            Step::Commit => return self.commit_transaction(now, client, token, out),
            Step::Abort => {
                let stage = self.transactions.get(&client).map(|transaction| transaction.stage);
                let Some(Stage::Open | Stage::TakenBack) = stage else { return Err(Refusal::Transaction) };
                self.take_back(now, client, out);
                self.transactions.remove(&client);
            }
        }
        out.outcomes.push(ended(client, token, Status::Done));
        Ok(())
    }

    fn begin(&mut self, client: u32, ends: Time, group: Option<&str>) -> Result<(), Refusal> {
        if self.transactions.contains_key(&client) {
            return Err(Refusal::Transaction);
        }
        let number = |name: &str| {
            let found = self.groups.iter().position(|known| known.name == name);
            found.map(|found| found as u32).ok_or(Refusal::NoSuchLane)
        };
        let group = group.map(number).transpose()?;
        self.next_transaction = self.next_transaction.min(ends);
        let begun = Transaction { stage: Stage::Open, ends, group, runs: BTreeMap::new(), moves: Vec::new() };
        self.transactions.insert(client, begun);
        Ok(())
    }

    /// What `client` is about to publish belongs to its transaction, if it has one.
    pub(super) fn begin_enlisting(&mut self, client: u32) -> Result<(), Refusal> {
        match self.transactions.get(&client).map(|transaction| transaction.stage) {
            None => {}
            Some(Stage::Open) => self.enlisting = Some(client),
            Some(Stage::TakenBack | Stage::Ending(_)) => return Err(Refusal::Transaction),
        }
        Ok(())
    }

    /// Appends message `index` of the batch in hand as one of a transaction.
    pub(super) fn enlist(&mut self, lane: u32, position: u64, index: u32, out: &mut Effects) {
        let Some(client) = self.enlisting else { return };
        let Some(transaction) = self.transactions.get_mut(&client) else { return };
        Write::append_provisional(&mut out.writes, LaneId(lane), position, index);
        let runs = transaction.runs.entry(lane).or_default();
        if runs.is_empty() && self.config.transactions.is_some_and(|rules| rules.read_committed) {
            self.lanes[lane as usize].open.push((position, client));
        }
        match runs.last_mut() {
            Some((_, to)) if *to == position => *to += 1,
            Some(_) | None => runs.push((position, position + 1)),
        }
    }

    /// Settles within a producer's transaction, for the members of its group.
    pub(super) fn settle_within(&mut self, client: u32, settlements: &[Settlement], out: &mut Effects) {
        let fenced = self.is_fenced(client);
        for &Settlement { token, receipt, verdict } in settlements {
            let result = match verdict {
                Verdict::Ack if !fenced => self.enlist_settlement(client, receipt),
                Verdict::Nack { .. } | Verdict::Extend(_) if !fenced => Err(Refusal::Unsupported),
                Verdict::Ack | Verdict::Nack { .. } | Verdict::Extend(_) => Err(Refusal::Fenced),
            };
            let status = result.map_or_else(Status::Refused, |()| Status::Done);
            out.outcomes.push(placed(client, token, status, receipt.lane, receipt.position));
        }
    }

    fn enlist_settlement(&mut self, client: u32, receipt: Receipt) -> Result<(), Refusal> {
        let transaction = self.transactions.get_mut(&client).ok_or(Refusal::WrongRole)?;
        if transaction.stage != Stage::Open {
            return Err(Refusal::Transaction);
        }
        let group = transaction.group.ok_or(Refusal::WrongRole)?;
        let lane = self.lanes.get(receipt.lane.0 as usize).ok_or(Refusal::NoSuchLane)?;
        let channel = &self.channels[lane.channel as usize];
        if channel.gone {
            return Err(Refusal::NoSuchLane);
        }
        let slot = channel.groups.iter().position(|&bound| bound == group).ok_or(Refusal::NotAssigned)?;
        let cursor = &lane.cursors[slot];
        if cursor.owner == NOBODY || cursor.epoch != receipt.epoch {
            return Err(Refusal::StaleReceipt);
        }
        if receipt.position >= cursor.highest {
            return Err(Refusal::OutOfRange);
        }
        let source = (receipt.lane.0, slot as u32);
        let position = receipt.position + 1;
        match transaction.moves.iter_mut().find(|known| known.source == source && known.epoch == receipt.epoch) {
            Some(known) => known.position = known.position.max(position),
            None => transaction.moves.push(Move { source, epoch: receipt.epoch, position }),
        }
        Ok(())
    }

    /// Writes what makes a transaction count; it is done when that is stored. What it settled is done at once, so that whoever gets the lane
    /// next does not read it again.
    fn commit_transaction(&mut self, now: Time, client: u32, token: Token, out: &mut Effects) -> Result<(), Refusal> {
        let transaction = self.transactions.get_mut(&client).ok_or(Refusal::Transaction)?;
        match transaction.stage {
            Stage::Open => {}
            Stage::Ending(_) => return Err(Refusal::Transaction),
            Stage::TakenBack => {
                self.transactions.remove(&client);
                return Err(Refusal::Transaction);
            }
        }
        let Self { lanes, channels, .. } = self;
        let has_moved = |known: &Move| {
            let lane = &lanes[known.source.0 as usize];
            let cursor = &lane.cursors[known.source.1 as usize];
            channels[lane.channel as usize].gone || cursor.owner == NOBODY || cursor.epoch != known.epoch
        };
        if transaction.moves.iter().any(has_moved) {
            self.take_back(now, client, out);
            self.transactions.remove(&client);
            return Err(Refusal::StaleReceipt);
        }
        transaction.stage = Stage::Ending(token);
        let parts = transaction.runs.values().map(Vec::len).sum::<usize>() + transaction.moves.len();
        if parts > 0 {
            out.writes.push(Write::Record(Record::Together { parts: parts as u32 }));
        }
        for (&lane, runs) in &transaction.runs {
            out.writes.extend(runs.iter().map(|&(position, to)| {
                let count = (to - position) as u32;
                Write::Record(Record::Released { lane: LaneId(lane), position, count })
            }));
        }
        let moves = std::mem::take(&mut transaction.moves);
        out.writes.extend(moves.iter().map(|&Move { source: (lane, group), position, .. }| {
            Write::Record(Record::Moved { lane: LaneId(lane), group, position })
        }));
        for Move { source: (lane, group), position, .. } in moves {
            let cursor = &mut self.lanes[lane as usize].cursors[group as usize];
            cursor.committed = cursor.committed.max(position);
        }
        let ticket = self.pending.commit(client);
        let state = self.client_mut(client)?;
        state.in_flight += 1;
        state.published = ticket + 1;
        out.writes.push(Write::Barrier(ticket));
        Ok(())
    }

    /// The storage answered a commit: what was published may be read, or never.
    pub(super) fn ended_commit(&mut self, client: u32, status: Status, out: &mut Effects) {
        let Some(transaction) = self.transactions.remove(&client) else { return };
        let Stage::Ending(token) = transaction.stage else { return };
        out.outcomes.push(ended(client, token, status));
        if status == Status::Done {
            self.producers.committed(client);
        } else {
            self.producers.taken_back(client);
        }
        self.close_runs(client, transaction.runs, status != Status::Done);
    }

    /// Ends a transaction in its lanes, which are then woken as if their stable position had moved.
    fn close_runs(&mut self, client: u32, runs: BTreeMap<u32, Vec<(u64, u64)>>, leave_out: bool) {
        let hides = self.config.transactions.is_some_and(|rules| rules.read_committed);
        if !hides && self.compaction.is_none() {
            return;
        }
        for (number, runs) in runs {
            let lane = &mut self.lanes[number as usize];
            lane.open.retain(|&(_, whose)| whose != client);
            for (from, to) in runs.into_iter().filter(|_| leave_out) {
                if hides {
                    lane.leave_out(from, to);
                }
                if let Some(compaction) = &mut self.compaction {
                    compaction.gone(number, from, to);
                }
            }
            if !std::mem::replace(&mut lane.touched, true) {
                self.touched.push(number);
            }
        }
    }

    /// A publish of `client` could not be stored: its open transaction can't be whole any more.
    pub(super) fn broke_transaction(&mut self, client: u32) {
        if let Some(transaction) = self.transactions.get_mut(&client).filter(|known| known.stage == Stage::Open) {
            transaction.stage = Stage::TakenBack;
            let runs = std::mem::take(&mut transaction.runs);
            transaction.moves.clear();
            self.producers.taken_back(client);
            self.close_runs(client, runs, true);
        }
    }

    /// Takes a transaction back that is open; nothing of it counts.
    fn take_back(&mut self, now: Time, client: u32, out: &mut Effects) {
        self.broke_transaction(client);
        self.wake_touched(now, out);
        self.serve(now, out);
    }

    /// A producer leaves: what is open is taken back, and what is ending ends.
    pub(super) fn leave_transaction(&mut self, now: Time, client: u32, out: &mut Effects) {
        let ends = |known: &Transaction| matches!(known.stage, Stage::Ending(_));
        if self.transactions.get(&client).is_some_and(|known| !ends(known)) {
            self.take_back(now, client, out);
            self.transactions.remove(&client);
        }
    }

    /// Takes back what has been open for too long.
    pub(super) fn take_back_overdue(&mut self, now: Time, out: &mut Effects) {
        let open =
            |(&client, known): (&u32, &Transaction)| (known.stage == Stage::Open).then_some((client, known.ends));
        let overdue: Vec<u32> = self
            .transactions
            .iter()
            .filter_map(open)
            .filter(|&(_, ends)| ends <= now)
            .map(|(client, _)| client)
            .collect();
        for client in overdue {
            self.take_back(now, client, out);
        }
        self.next_transaction =
            self.transactions.iter().filter_map(open).map(|(_, ends)| ends).min().unwrap_or(Time::NEVER);
    }
}
