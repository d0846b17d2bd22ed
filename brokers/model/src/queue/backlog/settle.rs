//! How deliveries of one queue end: one by one under their receipts, or many that stand together at once.
//!
//! Leaves out the settlements' outcomes and what the journal hears of them.

use super::{Backlog, Settled};
use crate::batch::{Receipt, Verdict};
use crate::completion::Refusal;
use crate::death::DeathReason;
use crate::queue::exceptions::{PLAIN, Stage};
use crate::queue::terms::{Terms, count};
use crate::queue::window::Place;
use crate::time::Time;

impl Backlog {
    /// Acknowledges up to `most` successive first deliveries from a receipt's on, if `member` holds them at `now`; returns how many those
    /// were. Stops at one that has to be looked at by itself.
    pub(in crate::queue) fn acknowledge(&mut self, now: Time, member: u32, first: &Receipt, most: u64) -> u64 {
        let (mut position, mut end) = (first.position, first.position + most);
        if position < self.restored {
            end = end.min(self.restored);
        }
        while position < end && first.epoch == self.before(position) {
            let Place::Leased(index) = self.window.find(position) else { break };
            let lease = self.window.at(index);
            if lease.member != member || lease.deadline <= now {
                break;
            }
            match self.window.settle_run(position, end, index) {
                0 => break,
                settled => position += settled,
            }
        }
        position - first.position
    }

    /// Ends a delivery, if `member` holds it under that receipt at `now`. What is given back is gone when `terms` end it.
    pub(in crate::queue) fn settle(
        &mut self,
        now: Time,
        member: u32,
        receipt: &Receipt,
        verdict: Verdict,
        terms: Terms,
    ) -> Result<Settled, Refusal> {
        let verdict = match verdict {
            Verdict::Nack { requeue: true } => {
                match terms.end(receipt.position, receipt.epoch.saturating_add(1), self.late.expires(receipt.position))
                {
                    Some(end) => {
                        let said = self.late.said(receipt.position);
                        self.settle_held(now, member, receipt, Verdict::Ack)?;
                        count(&mut self.given_up, end);
                        self.deaths.note(receipt.position, end.reason(), receipt.epoch.saturating_add(1), said);
                        return Ok(Settled::Gone);
                    }
                    None => verdict,
                }
            }
            Verdict::Ack | Verdict::Nack { requeue: false } | Verdict::Extend(_) => verdict,
        };
        self.settle_held(now, member, receipt, verdict)
    }

    fn settle_held(&mut self, now: Time, member: u32, receipt: &Receipt, verdict: Verdict) -> Result<Settled, Refusal> {
        let position = receipt.position;
        match self.window.find(position) {
            Place::Absent => Err(Refusal::StaleReceipt),
            Place::Leased(index) => {
                let lease = self.window.at(index);
                if receipt.epoch != self.before(position) || lease.member != member || lease.deadline <= now {
                    return Err(Refusal::StaleReceipt);
                }
                Ok(self.settle_leased(now, member, position, index, verdict))
            }
            Place::Moved => {
                let held = self.late.get(position).is_some_and(|entry| {
                    entry.stage == Stage::Leased
                        && entry.redeliveries == receipt.epoch
                        && entry.member == member
                        && entry.deadline > now
                });
                if held { Ok(self.settle_moved(now, position, verdict)) } else { Err(Refusal::StaleReceipt) }
            }
        }
    }

    fn settle_leased(&mut self, now: Time, member: u32, position: u64, index: usize, verdict: Verdict) -> Settled {
        match verdict {
            Verdict::Ack => {
                self.window.settle(position, index);
                Settled::Gone
            }
            Verdict::Nack { requeue: false } => {
                self.window.settle(position, index);
                self.given_up.rejected += 1;
                self.deaths.note(position, DeathReason::Rejected, self.before(position) + 1, PLAIN);
                Settled::Gone
            }
            Verdict::Nack { requeue: true } => {
                self.window.shift(position, index);
                self.late.add_ready(position, self.before(position) + 1);
                Settled::Requeued
            }
            Verdict::Extend(span) => {
                self.window.shift(position, index);
                self.late.add_leased(position, self.before(position), member, now + span);
                Settled::Held
            }
        }
    }

    fn settle_moved(&mut self, now: Time, position: u64, verdict: Verdict) -> Settled {
        match verdict {
            Verdict::Ack => {
                self.late.settle(position);
                self.window.settle_moved(position);
                Settled::Gone
            }
            Verdict::Nack { requeue: false } => {
                let said = self.late.said(position);
                let deliveries = self.late.get(position).map_or(0, |entry| entry.redeliveries) + 1;
                self.late.settle(position);
                self.window.settle_moved(position);
                self.given_up.rejected += 1;
                self.deaths.note(position, DeathReason::Rejected, deliveries, said);
                Settled::Gone
            }
            Verdict::Nack { requeue: true } => {
                self.late.requeue(position);
                Settled::Requeued
            }
            Verdict::Extend(span) => {
                self.late.extend(position, now + span);
                Settled::Held
            }
        }
    }
}
