//! Members' sessions: who is not heard of for too long loses its lanes, and joins its group anew once it is heard of again.
//!
//! Whatever a member asks is a sign of life, and so is [`Model::heard`](crate::machine::Model::heard), by which whoever hosts the model
//! says that the member was there and had nothing to ask. Leaves out how lanes change hands, which is in `membership`.

use super::{Part, Stream};
use crate::batch::LaneId;
use crate::completion::Event;
use crate::machine::Effects;
use crate::time::Time;

impl Stream {
    /// `client` gives a sign of life. A member whose session was over joins its group again, after what it asked was answered as to
    /// one that holds nothing.
    #[inline]
    pub(crate) fn heard(&mut self, now: Time, client: u32, out: &mut Effects) {
        if self.config.groups.session.is_none() {
            return;
        }
        let Ok(member) = self.member_mut(client) else { return };
        member.heard = member.heard.max(now);
        if std::mem::take(&mut member.away) {
            self.join(now, client, out);
        }
    }

    /// A member joins: its session begins.
    pub(super) fn begin_session(&mut self, now: Time, client: u32) {
        let Some(timeout) = self.config.groups.session else { return };
        self.next_session = self.next_session.min(now + timeout);
        if let Ok(member) = self.member_mut(client) {
            member.heard = now;
        }
    }

    /// Ends the sessions that are over: first all of them, then their lanes are shared out among those who are left.
    pub(super) fn end_sessions(&mut self, now: Time, out: &mut Effects) {
        let Some(timeout) = self.config.groups.session else { return };
        self.next_session = Time::NEVER;
        let mut over = Vec::new();
        for (number, state) in (0u32..).zip(&self.clients) {
            let Some(state) = state.as_ref().filter(|state| state.open) else { continue };
            let Part::Member(member) = &state.part else { continue };
            let ends = member.heard + timeout;
            if !member.away && ends <= now {
                over.push(number);
            } else if !member.away {
                self.next_session = self.next_session.min(ends);
            }
        }
        let mut groups: Vec<u32> = over.iter().filter_map(|&client| self.end_session(client, out)).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            self.rebalance(group, out);
        }
        self.serve(now, out);
    }

    /// Takes a member out of its group, and its lanes from it; returns the group.
    fn end_session(&mut self, client: u32, out: &mut Effects) -> Option<u32> {
        for source in self.sources_of(client) {
            if self.abandon(source, client) {
                out.events.push((client, Event::LaneLost(LaneId(source.0))));
            }
        }
        let member = self.member_mut(client).ok()?;
        member.away = true;
        let group = member.group;
        self.groups[group as usize].members.retain(|&member| member != client);
        Some(group)
    }
}
