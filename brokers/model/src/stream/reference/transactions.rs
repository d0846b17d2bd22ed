//! Transactions as the reference sees them: every position of each in a plain set, looked up anew each time.
//!
//! Leaves out where an end of a transaction is in the journal, which the trials read off.

use std::collections::BTreeSet;

use super::{Expected, Reference, Waiting};
use crate::batch::{LaneId, Receipt, Settlement, Token, Transaction as Step, Verdict};
use crate::broker::Role;
use crate::completion::{Refusal, Status};
use crate::machine::{NAME_BYTES_MAX, Record, Write};
use crate::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    TakenBack,
    Ending { ticket: u64, token: Token },
}

/// A producer's transaction.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    stage: Stage,
    ends: Time,
    group: Option<String>,
    positions: BTreeSet<(u32, u64)>,
    /// Lane and group, the epoch under which it was delivered, and the position that is to be committed.
    moves: Vec<((u32, u32), u32, u64)>,
}

impl Transaction {
    /// Successive positions of each lane, as lane, first and count.
    fn runs(&self) -> Vec<(u32, u64, u32)> {
        let mut runs: Vec<(u32, u64, u32)> = Vec::new();
        for &(lane, position) in &self.positions {
            match runs.last_mut() {
                Some((of, first, count)) if *of == lane && *first + u64::from(*count) == position => *count += 1,
                Some(_) | None => runs.push((lane, position, 1)),
            }
        }
        runs
    }
}

impl Reference {
    fn read_committed(&self) -> bool {
        self.rules.transactions(self.contract.delivery).is_some_and(|(_, read_committed)| read_committed)
    }

    /// Whose commit waits for the storage, with its ticket and token.
    pub(super) fn commits(&self) -> impl Iterator<Item = (u32, u64, Token)> + '_ {
        self.transactions.iter().filter_map(|(&client, known)| match known.stage {
            Stage::Ending { ticket, token } => Some((client, ticket, token)),
            Stage::Open | Stage::TakenBack => None,
        })
    }

    /// Where transactions stand in a lane that have not ended.
    pub(super) fn open_in(&self, lane: u32) -> impl Iterator<Item = u64> + '_ {
        let positions = self.transactions.values().flat_map(|known| &known.positions);
        positions.filter(move |at| at.0 == lane).map(|at| at.1)
    }

    pub(super) fn refuses_publish(&self, client: u32) -> Option<Refusal> {
        if self.fenced.contains(&client) {
            return Some(Refusal::Fenced);
        }
        let stage = self.transactions.get(&client).map(|known| known.stage);
        stage.filter(|stage| *stage != Stage::Open).map(|_| Refusal::Transaction)
    }

    /// The message that is written next, which may be one of a transaction.
    pub(super) fn enlist(&mut self, client: u32, lane: u32, position: u64, index: u32, expected: &mut Expected) {
        let hides = self.read_committed();
        let Some(known) = self.transactions.get_mut(&client) else {
            return Write::append(&mut expected.writes, LaneId(lane), position, index, 1);
        };
        known.positions.insert((lane, position));
        if hides {
            self.lanes[lane as usize].held.insert(position);
        }
        Write::append_provisional(&mut expected.writes, LaneId(lane), position, index);
    }

    /// A producer begins or ends a transaction.
    pub(super) fn transact(
        &mut self,
        now: Time,
        client: u32,
        token: Token,
        step: &Step,
        expected: &mut Expected,
    ) -> Result<(), Refusal> {
        if self.clients[&client].role != Role::Producer {
            return Err(Refusal::WrongRole);
        }
        let (timeout, _) = self.rules.transactions(self.contract.delivery).ok_or(Refusal::Unsupported)?;
        if self.fenced.contains(&client) {
            return Err(Refusal::Fenced);
        }
        let stage = self.transactions.get(&client).map(|known| known.stage);
        match (step, stage) {
            (Step::Begin { name: Some(name), .. }, _) if name.is_empty() || name.len() > NAME_BYTES_MAX => {
                return Err(Refusal::OutOfRange);
            }
            (Step::Begin { group, name }, None) => {
                let known = |name: &String| self.channels.iter().any(|channel| channel.groups.contains(name));
                if !group.iter().all(known) {
                    return Err(Refusal::NoSuchLane);
                }
                let (positions, moves) = (BTreeSet::new(), Vec::new());
                let begun =
                    Transaction { stage: Stage::Open, ends: now + timeout, group: group.clone(), positions, moves };
                self.transactions.insert(client, begun);
                if let Some(name) = name {
                    self.names.retain(|_, holder| *holder != client);
                    if let Some(other) = self.names.insert(name.clone(), client) {
                        self.left(other);
                        self.fenced.insert(other);
                    }
                }
            }
            (Step::Commit, Some(Stage::Open)) => return self.commit(client, token, expected),
            (Step::Commit, Some(Stage::TakenBack)) => {
                self.transactions.remove(&client);
                return Err(Refusal::Transaction);
            }
            (Step::Abort, Some(Stage::Open | Stage::TakenBack)) => self.left(client),
            (Step::Begin { .. } | Step::Abort, Some(_)) | (Step::Commit, Some(Stage::Ending { .. })) | (_, None) => {
                return Err(Refusal::Transaction);
            }
        }
        expected.ended(client, token, Status::Done);
        Ok(())
    }

    fn commit(&mut self, client: u32, token: Token, expected: &mut Expected) -> Result<(), Refusal> {
        let known = self.transactions[&client].clone();
        for (at, epoch, _) in &known.moves {
            let cursor = &self.cursors[at];
            let gone = self.channels[self.lanes[at.0 as usize].channel].gone;
            if gone || cursor.owner.is_none() || cursor.epoch != *epoch {
                self.left(client);
                return Err(Refusal::StaleReceipt);
            }
        }
        let runs = known.runs();
        let mut write = |record| expected.writes.push(Write::Record(record));
        let parts = (runs.len() + known.moves.len()) as u32;
        if parts > 0 {
            write(Record::Together { parts });
        }
        for (lane, position, count) in runs {
            write(Record::Released { lane: LaneId(lane), position, count });
        }
        for &((lane, group), _, position) in &known.moves {
            write(Record::Moved { lane: LaneId(lane), group, position });
        }
        for &(at, _, position) in &known.moves {
            let cursor = self.cursors.get_mut(&at).expect("it was looked at above");
            cursor.committed = cursor.committed.max(position);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        expected.writes.push(Write::Barrier(ticket));
        let stage = Stage::Ending { ticket, token };
        self.transactions.insert(client, Transaction { stage, moves: Vec::new(), ..known });
        Ok(())
    }

    /// A producer settles within its transaction. False when it has none.
    pub(super) fn settled_within(&mut self, client: u32, settlements: &[Settlement], expected: &mut Expected) -> bool {
        // A closed one is closed, whoever fenced it before.
        let fenced = self.fenced.contains(&client) && self.clients.get(&client).is_some_and(|known| known.open);
        if !self.transactions.contains_key(&client) && !fenced {
            return false;
        }
        for &Settlement { token, receipt, verdict } in settlements {
            let result = match verdict {
                Verdict::Ack if !fenced => self.settle_one(client, receipt),
                Verdict::Nack { .. } | Verdict::Extend(_) if !fenced => Err(Refusal::Unsupported),
                Verdict::Ack | Verdict::Nack { .. } | Verdict::Extend(_) => Err(Refusal::Fenced),
            };
            let status = result.map_or_else(Status::Refused, |()| Status::Done);
            expected.placed(client, token, status, receipt.lane, receipt.position);
        }
        true
    }

    fn settle_one(&mut self, client: u32, receipt: Receipt) -> Result<(), Refusal> {
        let known = &self.transactions[&client];
        if known.stage != Stage::Open {
            return Err(Refusal::Transaction);
        }
        let group = known.group.as_ref().ok_or(Refusal::WrongRole)?;
        let lane = self.lanes.get(receipt.lane.0 as usize).ok_or(Refusal::NoSuchLane)?;
        let channel = &self.channels[lane.channel];
        if channel.gone {
            return Err(Refusal::NoSuchLane);
        }
        let slot = channel.groups.iter().position(|name| name == group).ok_or(Refusal::NotAssigned)?;
        let at = (receipt.lane.0, slot as u32);
        let cursor = &self.cursors[&at];
        if cursor.owner.is_none() || cursor.epoch != receipt.epoch {
            return Err(Refusal::StaleReceipt);
        }
        if receipt.position >= cursor.highest {
            return Err(Refusal::OutOfRange);
        }
        let moves = &mut self.transactions.get_mut(&client).expect("looked up above").moves;
        let due = receipt.position + 1;
        match moves.iter_mut().find(|(known, epoch, _)| (*known, *epoch) == (at, receipt.epoch)) {
            Some((.., position)) => *position = due.max(*position),
            None => moves.push((at, receipt.epoch, due)),
        }
        Ok(())
    }

    /// The storage answered a call: a commit ends with it, and a publish that failed takes its transaction along.
    pub(super) fn answered_transaction(
        &mut self,
        ticket: u64,
        answered: &[Waiting],
        status: Status,
        expected: &mut Expected,
    ) {
        let ending = self.commits().find(|&(_, due, _)| due == ticket);
        if let Some((client, _, token)) = ending {
            expected.ended(client, token, status);
            self.end_positions(client, status != Status::Done);
            self.transactions.remove(&client);
            self.flushes.iter_mut().for_each(|(.., open)| open.retain(|&open| open != token));
        }
        if status != Status::Done
            && let Some(client) = answered.first().map(|waiting| waiting.client)
        {
            self.take_back(client);
        }
    }

    fn end_positions(&mut self, client: u32, taken_back: bool) {
        let hides = self.read_committed();
        self.ended_identities(client, taken_back);
        let Some(known) = self.transactions.get_mut(&client) else { return };
        for (lane, position) in std::mem::take(&mut known.positions) {
            let lane = &mut self.lanes[lane as usize];
            lane.held.remove(&position);
            if taken_back {
                lane.aborted.insert(position);
            }
            if taken_back && hides {
                lane.taken_back.insert(position);
            }
        }
    }

    fn take_back(&mut self, client: u32) {
        let Some(known) = self.transactions.get_mut(&client).filter(|known| known.stage == Stage::Open) else { return };
        known.stage = Stage::TakenBack;
        known.moves.clear();
        self.end_positions(client, true);
    }

    /// A transaction is over without a commit, unless its commit is on its way.
    pub(super) fn left(&mut self, client: u32) {
        self.take_back(client);
        if self.transactions.get(&client).is_some_and(|known| known.stage == Stage::TakenBack) {
            self.transactions.remove(&client);
        }
    }

    /// Takes back what has been open for too long.
    pub(super) fn end_overdue(&mut self, now: Time) {
        let open = self.transactions.iter().filter(|(_, known)| known.stage == Stage::Open && known.ends <= now);
        let overdue: Vec<u32> = open.map(|(&client, _)| client).collect();
        for client in overdue {
            self.take_back(client);
        }
    }

    /// After a crash: what could be read before can be read, no transaction counts of which the commit was not asked, and of one that was
    /// on its way all or nothing does.
    #[cfg(test)]
    pub(super) fn held_over_a_crash(&self, provisional: &BTreeSet<(u32, u64)>, kept: impl Fn(u32, u64) -> bool) {
        for (client, known) in &self.transactions {
            let there: Vec<_> = known.positions.iter().filter(|&&(lane, position)| kept(lane, position)).collect();
            let hidden = there.iter().filter(|at| provisional.contains(at)).count();
            let ending = matches!(known.stage, Stage::Ending { .. });
            assert!(
                hidden == there.len() || ending && hidden == 0,
                "{hidden} of {} messages of client {client}'s transaction are hidden: {known:?}",
                there.len()
            );
        }
        for (number, lane) in (0u32..).zip(&self.lanes) {
            for position in lane.start..lane.stable() {
                let readable = lane.visible(position) && self.read_committed();
                assert!(
                    !(readable && provisional.contains(&(number, position))),
                    "{position} of lane {number} could be read"
                );
            }
        }
    }
}
