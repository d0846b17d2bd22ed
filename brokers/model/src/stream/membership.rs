//! How lanes change hands: members join and leave, lanes are revoked, held, released and assigned.
//!
//! A lane that has to move is revoked first and stays with its owner, undelivered, until the owner releases it or leaves; then
//! it is assigned, from the committed position. Cooperatively, a lane that need not move goes on being read. Eagerly, all lanes of a
//! group are revoked whenever its members change, and none is assigned while any is held. Leaves out when a session is
//! over, which is in `sessions`.

use super::assign::balance;
use super::lane::NOBODY;
use super::{Channel, Part, Source, Stream, ended, placed};
use crate::batch::{LaneId, Token};
use crate::completion::{Event, Refusal, Status};
use crate::machine::Effects;
use crate::time::Time;

impl Stream {
    /// A member that was just connected joins its group.
    pub(super) fn join(&mut self, now: Time, client: u32, out: &mut Effects) {
        let Ok(member) = self.member(client) else { return };
        let group = member.group;
        self.groups[group as usize].members.push(client);
        self.begin_session(now, client);
        self.rebalance(group, out);
        self.serve(now, out);
    }

    /// A client closes: what it holds goes to others, its grants end, and its flushes end when its publishes do.
    pub(super) fn leave(&mut self, now: Time, client: u32, token: Token, out: &mut Effects) {
        let group = self.member(client).ok().filter(|member| !member.away).map(|member| member.group);
        if let Some(group) = group {
            for source in self.sources_of(client) {
                self.abandon(source, client);
            }
            self.groups[group as usize].members.retain(|&member| member != client);
        }
        if let Ok(member) = self.member_mut(client) {
            member.credit.end(|grant| out.outcomes.push(ended(client, grant, Status::Done)));
        }
        self.leave_transaction(now, client, out);
        self.names.give_up(client);
        if let Ok(state) = self.client_mut(client) {
            state.open = false;
            if matches!(state.part, Part::Member(_)) {
                state.part = Part::Producer;
            }
        }
        out.outcomes.push(ended(client, token, Status::Done));
        self.forget_closed(client);
        if let Some(group) = group {
            self.rebalance(group, out);
            self.serve(now, out);
        }
    }

    /// All lanes of a member's channels.
    pub(super) fn sources_of(&self, client: u32) -> Vec<Source> {
        let Ok(member) = self.member(client) else { return Vec::new() };
        let lanes =
            |&(channel, slot): &(u32, u32)| self.channels[channel as usize].all_lanes().map(move |lane| (lane, slot));
        member.channels.iter().flat_map(lanes).collect()
    }

    /// The lanes of a channel that are shared out in a group.
    fn sources(&self, (channel, slot): (u32, u32)) -> impl Iterator<Item = Source> + use<'_> {
        let lanes = self.channels[channel as usize].all_lanes();
        lanes.map(move |lane| (lane, slot)).filter(|&source| self.is_readable(source))
    }

    /// Takes a lane from a client that owns it or was to own it; returns whether it owned it.
    pub(super) fn abandon(&mut self, source: Source, client: u32) -> bool {
        let cursor = &mut self.lanes[source.0 as usize].cursors[source.1 as usize];
        if cursor.intended == client {
            cursor.intended = NOBODY;
        }
        let owned = cursor.owner == client;
        if owned {
            self.withdraw(source);
            self.let_go(source);
        }
        owned
    }

    /// Nobody owns the lane any more; the next to own it reads from the committed position.
    fn let_go(&mut self, source: Source) {
        let group = self.group_of(source);
        self.groups[group as usize].held -= 1;
        let cursor = &mut self.lanes[source.0 as usize].cursors[source.1 as usize];
        cursor.owner = NOBODY;
        cursor.revoked = false;
        cursor.position = cursor.committed;
    }

    fn group_of(&self, source: Source) -> u32 {
        let channel = self.lanes[source.0 as usize].channel;
        self.channels[channel as usize].groups[source.1 as usize]
    }

    /// Shares a group's lanes out anew. Members that read the same channels share all their lanes; otherwise each channel's
    /// lanes are shared out among those who read it.
    pub(super) fn rebalance(&mut self, group: u32, out: &mut Effects) {
        let members = self.groups[group as usize].members.clone();
        let read: Vec<Vec<(u32, u32)>> =
            members.iter().map(|&m| self.member(m).map(|member| member.channels.clone()).unwrap_or_default()).collect();
        let Some(first) = read.first() else { return };
        if read.iter().all(|channels| channels == first) {
            let sources = first.iter().flat_map(|&channel| self.sources(channel)).collect::<Vec<_>>();
            self.share(&sources, &members, out);
        } else {
            self.share_by_channel(&members, &read, out);
        }
        if self.config.groups.eager {
            self.assign_all(group, out);
        }
    }

    fn share_by_channel(&mut self, members: &[u32], read: &[Vec<(u32, u32)>], out: &mut Effects) {
        let mut channels: Vec<(u32, u32)> = read.concat();
        channels.sort_unstable();
        channels.dedup();
        for channel in channels {
            let readers: Vec<u32> = members
                .iter()
                .zip(read)
                .filter_map(|(&member, reads)| reads.binary_search(&channel).is_ok().then_some(member))
                .collect();
            let sources: Vec<Source> = self.sources(channel).collect();
            self.share(&sources, &readers, out);
        }
    }

    fn share(&mut self, sources: &[Source], members: &[u32], out: &mut Effects) {
        let eager = self.config.groups.eager;
        let mut order: Vec<(u32, usize)> = members.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let claims: Vec<Option<usize>> = sources
            .iter()
            .map(|&(lane, slot)| {
                let intended = self.lanes[lane as usize].cursors[slot as usize].intended;
                let intended = if eager { NOBODY } else { intended };
                order.binary_search_by_key(&intended, |&(member, _)| member).ok().map(|at| order[at].1)
            })
            .collect();
        for (&source, member) in sources.iter().zip(balance(&claims, members.len())) {
            self.intend(source, members[member], out);
        }
    }

    /// Has `member` own the lane: at once if nobody does, else when its owner lets go; eagerly, when nobody holds any lane.
    fn intend(&mut self, source: Source, member: u32, out: &mut Effects) {
        let cursor = &mut self.lanes[source.0 as usize].cursors[source.1 as usize];
        cursor.intended = member;
        let eager = self.config.groups.eager;
        if cursor.owner == NOBODY {
            if !eager {
                self.assign(source, out);
            }
        } else if (eager || cursor.owner != member) && !cursor.revoked {
            let owner = cursor.owner;
            self.withdraw(source);
            self.lanes[source.0 as usize].cursors[source.1 as usize].revoked = true;
            out.events.push((owner, Event::LaneRevoked(LaneId(source.0))));
        }
    }

    /// Gives the lanes of a group out, once nobody holds any.
    fn assign_all(&mut self, group: u32, out: &mut Effects) {
        if self.groups[group as usize].held > 0 {
            return;
        }
        let bound =
            |(channel, at): (u32, &Channel)| Some((channel, at.groups.iter().position(|&g| g == group)? as u32));
        let channels: Vec<(u32, u32)> = (0..).zip(&self.channels).filter_map(bound).collect();
        let sources: Vec<Source> = channels.into_iter().flat_map(|channel| self.sources(channel)).collect();
        for source in sources {
            if self.lanes[source.0 as usize].cursors[source.1 as usize].intended != NOBODY {
                self.assign(source, out);
            }
        }
    }

    /// Gives an unowned lane to the member that it is intended for.
    fn assign(&mut self, source: Source, out: &mut Effects) {
        let group = self.group_of(source);
        self.groups[group as usize].held += 1;
        let lane = &mut self.lanes[source.0 as usize];
        let start = lane.start;
        let cursor = &mut lane.cursors[source.1 as usize];
        cursor.owner = cursor.intended;
        cursor.revoked = false;
        cursor.epoch += 1;
        (cursor.position, cursor.fetched) = (cursor.committed.max(start), 0);
        out.events.push((cursor.owner, Event::LaneAssigned { lane: LaneId(source.0), position: cursor.position }));
        self.offer(source);
    }

    /// A member lets go of a revoked lane.
    pub(super) fn release(&mut self, now: Time, client: u32, token: Token, lane: LaneId, out: &mut Effects) {
        let status = match self.held(client, lane) {
            Ok(source) => {
                if self.lanes[source.0 as usize].cursors[source.1 as usize].revoked {
                    self.let_go(source);
                    Ok(source)
                } else {
                    Err(Refusal::Unsupported)
                }
            }
            Err(refusal) => Err(refusal),
        };
        match status {
            Ok(source) => {
                out.outcomes.push(placed(client, token, Status::Done, lane, 0));
                let intended = self.lanes[source.0 as usize].cursors[source.1 as usize].intended;
                if self.config.groups.eager {
                    self.assign_all(self.group_of(source), out);
                } else if intended != NOBODY && self.is_readable(source) {
                    self.assign(source, out);
                }
                self.serve(now, out);
            }
            Err(refusal) => out.outcomes.push(ended(client, token, Status::Refused(refusal))),
        }
    }

    /// The lane as `client`'s group reads it, if `client` owns it (revoked or not).
    pub(super) fn held(&self, client: u32, lane: LaneId) -> Result<Source, Refusal> {
        let member = self.member(client)?;
        let at = self.lanes.get(lane.0 as usize).ok_or(Refusal::NoSuchLane)?;
        if self.channels[at.channel as usize].gone {
            return Err(Refusal::NoSuchLane);
        }
        let channel = member.channels.binary_search_by_key(&at.channel, |&(channel, _)| channel);
        let slot = channel.map(|at| member.channels[at].1).map_err(|_| Refusal::NotAssigned)?;
        if at.cursors[slot as usize].owner == client { Ok((lane.0, slot)) } else { Err(Refusal::NotAssigned) }
    }

    /// A channel is deleted: its lanes are lost to whoever holds them.
    pub(super) fn lose(&mut self, channel: u32, out: &mut Effects) {
        let lanes: Vec<u32> = self.channels[channel as usize].all_lanes().collect();
        for lane in lanes {
            for slot in 0..self.lanes[lane as usize].cursors.len() {
                let source = (lane, slot as u32);
                let owner = self.lanes[lane as usize].cursors[slot].owner;
                if owner != NOBODY {
                    self.abandon(source, owner);
                    out.events.push((owner, Event::LaneLost(LaneId(lane))));
                }
                self.lanes[lane as usize].cursors[slot].intended = NOBODY;
            }
        }
    }
}
