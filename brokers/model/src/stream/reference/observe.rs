//! The judge: what a model did in a step, held against what it must and may do.
//!
//! Leaves out the prediction of answers, which is the reference's own file.

use std::collections::BTreeMap;

use super::{Client, Expected, Reference, Verdicts, free};
use crate::batch::{ChannelId, LaneId, Token};
use crate::broker::Role;
use crate::completion::{Answer, Event, Outcome, Status};
use crate::machine::{Deliver, Effects, Record, Write};
use crate::outcomes::Outcomes;
use crate::time::Time;

impl Reference {
    /// Takes over what the model did, in the order in which a host would: writes, events, deliveries; and then looks at what it
    /// left undone.
    pub(super) fn observe(&mut self, now: Time, mut expected: Expected, did: &Effects) -> Verdicts {
        self.rules.begin(now, self.lanes.len());
        for write in &did.writes {
            if let Write::Trim { lane, below } = *write {
                self.trimmed(now, lane, below)?;
            }
            if let Write::Compact { lane, from, to, kept } = write {
                self.compacted(now, *lane, (*from, *to), kept)?;
            }
        }
        for &(client, event) in &did.events {
            self.happened(client, event)?;
        }
        let mut granted: Vec<(u32, Token)> = Vec::new();
        for deliver in &did.deliveries {
            self.delivered(deliver, &mut expected, &mut granted)?;
        }
        Self::compare_outcomes(&expected.outcomes, &granted, &did.outcomes)?;
        let judged = |write: &&Write| matches!(write, Write::Trim { .. } | Write::Compact { .. });
        let writes: Vec<Write> = did.writes.iter().filter(|write| !judged(write)).cloned().collect();
        if writes != expected.writes {
            return Err(format!("wrote {writes:?}, due {:?}", expected.writes));
        }
        let answers: Vec<_> = did.answers.iter().map(without_settings).collect();
        if answers != expected.answers {
            return Err(format!("answered {answers:?}, due {:?}", expected.answers));
        }
        self.all_were_asked_back()?;
        // What was read to its end by being handed out opens its children in the next step, which comes at once.
        let ends = |deliver: &Deliver| {
            let at = self.cursor_of(deliver.client, deliver.receipt.lane);
            self.commits_first() && at.is_some_and(|at| self.is_finished(at.0, at.1))
        };
        if did.deliveries.iter().any(ends) { Ok(()) } else { self.nothing_left_undone() }
    }

    fn trimmed(&mut self, now: Time, lane: LaneId, below: u64) -> Verdicts {
        let gone = self.channels[self.lanes[lane.0 as usize].channel].gone;
        let at = &mut self.lanes[lane.0 as usize];
        if !gone {
            let young = at.messages[..below as usize].iter().any(|&(time, _)| self.rules.keeps(time, now));
            if below <= at.start || below > at.stable() || young {
                return Err(format!("trimmed {lane:?} below {below} at {now:?}: {at:?}"));
            }
        }
        at.start = below;
        Ok(())
    }

    fn happened(&mut self, client: u32, event: Event) -> Verdicts {
        let wrong = |why: &str| Err(format!("{event:?} to client {client}: {why}"));
        let lane = match event {
            Event::LaneAssigned { lane, .. } | Event::LaneRevoked(lane) | Event::LaneLost(lane) => lane,
            Event::Blocked | Event::Unblocked => return Ok(()),
            Event::Disconnected | Event::Reconnected => return wrong("a model has no connection"),
        };
        let gone = self.channels[self.lanes[lane.0 as usize].channel].gone;
        let Some(at) = self.cursor_of(client, lane) else { return wrong("it does not read that lane") };
        let away = self.clients[&client].away;
        let start = self.lanes[lane.0 as usize].start;
        let finished = self.is_finished(at.0, at.1);
        let cursor = self.cursors.get_mut(&at).expect("cursor_of found it");
        match event {
            Event::LaneAssigned { position, .. } => {
                if gone || finished || away || cursor.owner.is_some() {
                    return wrong("somebody holds the lane, or it or the member is gone, or it was read to its end");
                }
                cursor.position = cursor.committed.max(start);
                if position != cursor.position {
                    return wrong("reading starts at the committed position");
                }
                cursor.owner = Some(client);
                cursor.epoch += 1;
            }
            Event::LaneRevoked(_) => {
                if gone || cursor.owner != Some(client) || cursor.revoked {
                    return wrong("it does not hold the lane, or was told before");
                }
                cursor.revoked = true;
            }
            Event::LaneLost(_) => {
                if !(gone || away) || cursor.owner != Some(client) {
                    return wrong("the channel and the member are there, or the lane is another's");
                }
                free(cursor);
            }
            Event::Blocked | Event::Unblocked | Event::Disconnected | Event::Reconnected => {}
        }
        Ok(())
    }

    fn cursor_of(&self, client: u32, lane: LaneId) -> Option<(u32, u32)> {
        let Role::Member { group, channels } = &self.clients.get(&client).filter(|known| known.open)?.role else {
            return None;
        };
        let number = self.lanes.get(lane.0 as usize)?.channel;
        let slot = self.channels[number].groups.iter().position(|name| name == group)?;
        channels.contains(&ChannelId(number as u32)).then_some((lane.0, slot as u32))
    }

    fn delivered(&mut self, deliver: &Deliver, expected: &mut Expected, granted: &mut Vec<(u32, Token)>) -> Verdicts {
        let wrong = |why: &str| Err(format!("{deliver:?}: {why}"));
        let lane = deliver.receipt.lane;
        let Some(at) = self.cursor_of(deliver.client, lane) else { return wrong("it does not read that lane") };
        let stream = &self.lanes[lane.0 as usize];
        let commits_first = self.commits_first();
        if !self.may_be_read(at.0, at.1) {
            return wrong("a lane before it was not read to its end");
        }
        let cursor = self.cursors.get_mut(&at).expect("cursor_of found it");
        if cursor.owner != Some(deliver.client) || cursor.revoked || cursor.epoch != deliver.receipt.epoch {
            return wrong("the lane is not assigned to it, or not by this assignment");
        }
        if deliver.count == 0 || deliver.channel != ChannelId(stream.channel as u32) {
            return wrong("an empty run, or another channel");
        }
        for position in deliver.receipt.position..deliver.receipt.position + u64::from(deliver.count) {
            let next = (cursor.position..stream.stable()).find(|&next| stream.visible(next));
            if next != Some(position) {
                return Err(format!("{deliver:?}: {position} came, {next:?} was next"));
            }
            if deliver.redeliveries != u16::from(position < cursor.highest) {
                return wrong("the count of redeliveries");
            }
            cursor.position = position + 1;
            cursor.highest = cursor.highest.max(position + 1);
            let grants = &mut self.clients.get_mut(&deliver.client).expect("it reads").grants;
            let Some((token, left)) = grants.front_mut() else { return wrong("beyond what was granted") };
            *left -= 1;
            if *left == 0 {
                granted.push((deliver.client, *token));
                grants.pop_front();
            }
        }
        if commits_first && cursor.position > cursor.committed {
            cursor.committed = cursor.position;
            let (group, position) = (at.1, cursor.position);
            expected.writes.push(Write::Record(Record::Committed { lane, group, position }));
        }
        Ok(())
    }

    /// Grants end in the order of the deliveries; everything else in the order in which it was asked.
    fn compare_outcomes(due: &[(u32, Outcome)], granted: &[(u32, Token)], did: &Outcomes) -> Verdicts {
        let is_grant = |client: u32, token: Token| granted.contains(&(client, token));
        let (grants, others): (Vec<_>, Vec<_>) =
            did.iter().partition(|(client, outcome)| is_grant(*client, outcome.token));
        if others != due {
            return Err(format!("outcomes {others:?}, due {due:?}"));
        }
        let ended: Vec<(u32, Token)> = grants.iter().map(|(client, outcome)| (*client, outcome.token)).collect();
        if ended != granted || grants.iter().any(|(_, outcome)| outcome.status != Status::Done) {
            return Err(format!("grants ended {grants:?}, due {granted:?}"));
        }
        Ok(())
    }

    /// No member with credit is left without a message that it could have; no lane is left without an owner; nobody holds two
    /// lanes more than another who reads the same channels.
    fn nothing_left_undone(&self) -> Verdicts {
        let mut settled = true;
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for (&(number, slot), cursor) in &self.cursors {
            let lane = &self.lanes[number as usize];
            let channel = &self.channels[lane.channel];
            if channel.gone || self.is_finished(number, slot) {
                continue;
            }
            if !self.may_be_read(number, slot) {
                if cursor.owner.is_some() {
                    return Err(format!("lane {number} is assigned before those before it were read to their end"));
                }
                continue;
            }
            let Some(owner) = cursor.owner else {
                let group = &channel.groups[slot as usize];
                if self.readers(group, lane.channel).next().is_some() && !self.is_revoking(group) {
                    return Err(format!("nobody holds lane {number} for group {group}"));
                }
                continue;
            };
            if self.clients[&owner].away {
                return Err(format!("client {owner} holds lane {number} though its session is over"));
            }
            *counts.entry(owner).or_default() += 1;
            settled &= !cursor.revoked;
            let could = (cursor.position..lane.stable()).any(|position| lane.visible(position));
            let has_credit = !self.clients[&owner].grants.is_empty();
            if could && has_credit && !cursor.revoked && !self.rules.limits_reading() {
                return Err(format!("client {owner} has credit and was not given what lane {number} has: {cursor:?}"));
            }
        }
        for (&one, known) in self.clients.iter().filter(|(_, known)| settled && known.open && !known.away) {
            for (&other, _) in
                self.clients.iter().filter(|(_, other)| other.open && !other.away && other.role == known.role)
            {
                let held = |client| counts.get(&client).copied().unwrap_or(0);
                if self.alike(&known.role) && held(one) > held(other) + 1 {
                    return Err(format!("client {one} holds {} lanes and client {other} {}", held(one), held(other)));
                }
            }
        }
        Ok(())
    }

    fn readers<'a>(&'a self, group: &'a str, channel: usize) -> impl Iterator<Item = u32> + 'a {
        let channel = ChannelId(channel as u32);
        let reads = move |known: &Client| known.open && !known.away && reads(&known.role, group, channel);
        self.clients.iter().filter(move |(_, known)| reads(known)).map(|(&n, _)| n)
    }

    /// Whether all members of this member's group read the same channels.
    fn alike(&self, role: &Role) -> bool {
        let Role::Member { group, .. } = role else { return false };
        let mut members = self.clients.values().filter(|known| known.open && !known.away);
        members.all(|known| match &known.role {
            Role::Member { group: other, .. } => other != group || known.role == *role,
            Role::Producer | Role::Administrator => true,
        })
    }
}

fn reads(role: &Role, group: &str, channel: ChannelId) -> bool {
    match role {
        Role::Member { group: own, channels } => own == group && channels.contains(&channel),
        Role::Producer | Role::Administrator => false,
    }
}

/// Settings are words, checked where they are made.
fn without_settings((client, token, answer): &(u32, Token, Answer)) -> (u32, Token, Answer) {
    let mut answer = answer.clone();
    if let Answer::Description(description) = &mut answer {
        description.settings.clear();
    }
    (*client, *token, answer)
}
