//! Who is there, as the reference sees it: sessions by the last sign of life, and what an eager group must have been asked for.
//!
//! Leaves out which lane goes to whom, which a model is free to choose.

use super::{Reference, Verdicts};
use crate::broker::Role;
use crate::machine::Effects;
use crate::time::Time;

impl Reference {
    /// `client` was there and had nothing to ask.
    pub fn heard(&mut self, now: Time, client: u32, did: &Effects) -> Verdicts {
        self.spoke(now, client);
        self.observe(now, super::Expected::default(), did)
    }

    /// A sign of life.
    pub(super) fn spoke(&mut self, now: Time, client: u32) {
        let Some(known) = self.clients.get_mut(&client).filter(|known| known.open) else { return };
        known.heard = now;
        if std::mem::take(&mut known.away)
            && let Role::Member { group, .. } = known.role.clone()
        {
            self.disturb(&group);
        }
    }

    /// Ends the sessions that are over. Their lanes must be lost in this step.
    pub(super) fn end_sessions(&mut self, now: Time) {
        let Some(timeout) = self.rules.session() else { return };
        let mut groups = Vec::new();
        for known in self.clients.values_mut().filter(|known| known.open && !known.away) {
            if let Role::Member { group, .. } = &known.role
                && known.heard + timeout <= now
            {
                known.away = true;
                groups.push(group.clone());
            }
        }
        for group in groups {
            self.disturb(&group);
        }
    }

    /// The members of a group change: eagerly, all that they hold must be asked back.
    pub(super) fn disturb(&mut self, group: &str) {
        if !self.rules.is_eager() {
            return;
        }
        let of_group = self
            .cursors
            .iter()
            .filter(|(at, cursor)| cursor.owner.is_some() && !cursor.revoked && self.group_of(**at) == group);
        let before: Vec<_> = of_group.map(|(&at, cursor)| (at, cursor.epoch)).collect();
        self.disturbed.extend(before);
    }

    fn group_of(&self, (lane, slot): (u32, u32)) -> &str {
        &self.channels[self.lanes[lane as usize].channel].groups[slot as usize]
    }

    /// Whether a group that is served eagerly still waits for a lane to be released.
    pub(super) fn is_revoking(&self, group: &str) -> bool {
        let asked_back = |(&at, cursor): (&(u32, u32), &super::Cursor)| {
            cursor.owner.is_some() && cursor.revoked && self.group_of(at) == group
        };
        self.rules.is_eager() && self.cursors.iter().any(asked_back)
    }

    /// Eagerly, whoever held a lane of a group whose members changed was asked for it, or has it by a new assignment; and nobody
    /// reads while a lane is asked back.
    pub(super) fn all_were_asked_back(&mut self) -> Verdicts {
        for (at, epoch) in std::mem::take(&mut self.disturbed) {
            let cursor = &self.cursors[&at];
            if cursor.owner.is_some() && !cursor.revoked && cursor.epoch == epoch {
                return Err(format!("lane {} was not asked back: {cursor:?}", at.0));
            }
        }
        for (&at, cursor) in &self.cursors {
            if cursor.owner.is_some() && !cursor.revoked && self.is_revoking(self.group_of(at)) {
                return Err(format!("lane {} is read while others of the group are asked back", at.0));
            }
        }
        Ok(())
    }
}
