//! Where callers wait for the work: responses, tries that are given up, and what becomes of those at their receivers.
//!
//! A try that its caller gave up is a *stray*. It keeps its place in its receiver's service queue; the row of its request is kept
//! as long as it has strays. Leaves out when a request is tried first, which is in `publish`; a request that is sent again is not
//! stored again, and work in hand is not cancelled.

use crate::batch::LaneId;
use crate::capabilities::Tally;
use crate::completion::{Description, Outcome, Status};
use crate::direct::DirectModel;
use crate::direct::connections::Counts;
use crate::direct::options::Answer;
use crate::direct::requests::{LegStage, Request, Stage};
use crate::machine::Effects;
use crate::slots::NOBODY;
use crate::time::{Span, Time};

/// A try that its caller gave up: service, row, the group's place, the receipt's epoch.
pub(super) type Stray = (u32, u32, u32, u32);

/// Who holds a stray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The receiver's slot.
    member: u32,
    /// Whether a worker has it.
    in_work: bool,
}

/// What became of tries so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tries {
    /// Tries that were put off: no receiver had room, or no response came in time.
    pub(super) put_off: u64,
    /// Calls that an open circuit breaker refused.
    pub(super) refused_by_breaker: u64,
    /// Tries after a request's first.
    pub(super) sent_again: u64,
    /// Tries that a receiver refused without working, because their deadline had passed.
    pub(super) refused_late: u64,
    /// Tries that a receiver worked on, and whose caller had given them up.
    pub(super) worked_for_nobody: u64,
    /// Calls that ended without a response.
    pub(super) unanswered: u64,
}

impl DirectModel {
    /// Whether callers wait for the work rather than for its acceptance.
    pub(super) fn waits_for_work(&self) -> bool {
        self.options.answer == Answer::Served
    }

    /// How long a caller waits for one try, where it waits for the work.
    pub(super) fn patience(&self) -> Option<Span> {
        self.waits_for_work().then(|| self.options.try_timeout.unwrap_or(self.options.timeout))
    }

    /// Does what is due before a step that may hand out work: a worker must not be given what was given up in the meantime.
    pub(super) fn catch_up(&mut self, now: Time, out: &mut Effects) {
        if self.waits_for_work() {
            self.expire(now, out);
        }
    }

    /// All receivers have stored a request: they are to work on it.
    pub(super) fn start_serving(&mut self, channel: u32, id: u32) {
        let request = self.channels[channel as usize].requests.get_mut(id);
        request.stage = Stage::Serving;
        request.stored = true;
        self.enqueue_all(channel, id);
    }

    /// A try that is still being stored gets all the time that is left.
    pub(super) fn wait_until_the_deadline(&mut self, channel: u32, id: u32) {
        let request = self.channels[channel as usize].requests.get_mut(id);
        request.wake = request.deadline;
        self.timers.push(std::cmp::Reverse((request.wake, (channel, id, request.serial))));
    }

    /// One group has done a request's work in time; with the last one its caller has the answer.
    pub(super) fn respond(&mut self, channel: u32, id: u32, place: u32, out: &mut Effects) {
        let group = self.channels[channel as usize].groups[place as usize];
        let requests = &mut self.channels[channel as usize].requests;
        let pass = requests.leg(id, place).pass;
        self.groups[group as usize].breaker.succeeded(pass);
        self.let_connection_go(channel, id, place, true);
        let requests = &mut self.channels[channel as usize].requests;
        let Request { token, lane, position, client, segment, open, .. } = *requests.get(id);
        if open > 0 {
            return;
        }
        requests.get_mut(id).stage = Stage::Ended;
        self.end(client, segment, Outcome { token, status: Status::Done, lane: LaneId(lane), position }, out);
        self.drop_if_over(channel, id);
    }

    /// Its caller waits no longer for a try. The request is sent again, or its time or tries are used up.
    pub(super) fn give_up_try(&mut self, now: Time, channel: u32, id: u32, out: &mut Effects) {
        for place in 0..self.channels[channel as usize].groups.len() as u32 {
            self.let_stray(channel, id, place);
        }
        let Request { deadline, retries, .. } = *self.channels[channel as usize].requests.get(id);
        if deadline <= now || retries >= self.options.retries || !self.may_send_again(now, channel, id) {
            self.end_unanswered(now, channel, id, out);
        } else {
            self.try_later(now, channel, id);
        }
    }

    /// Whether the circuit breakers of all groups that have not answered let a request be sent again.
    pub(super) fn may_send_again(&self, now: Time, channel: u32, id: u32) -> bool {
        let channel = &self.channels[channel as usize];
        channel.groups.iter().enumerate().all(|(place, &group)| {
            let settled = channel.requests.leg(id, place as u32).stage == LegStage::Settled;
            settled || self.groups[group as usize].breaker.would_pass(now)
        })
    }

    /// Ends a call without a response: nobody can say whether its work was or will be done.
    pub(super) fn end_unanswered(&mut self, now: Time, channel: u32, id: u32, out: &mut Effects) {
        let Request { token, lane, position, client, segment, .. } = *self.channels[channel as usize].requests.get(id);
        self.tries.unanswered += 1;
        self.end(client, segment, Outcome { token, status: Status::Unknown, lane: LaneId(lane), position }, out);
        for place in 0..self.channels[channel as usize].groups.len() as u32 {
            self.let_stray(channel, id, place);
            let group = self.channels[channel as usize].groups[place as usize];
            let leg = self.channels[channel as usize].requests.leg_mut(id, place);
            if leg.stage == LegStage::Settled {
                continue;
            }
            if leg.stage == LegStage::Placed {
                // It waited for a receiver to connect.
                self.groups[group as usize].orphans.retain(|&orphan| orphan != id);
            }
            leg.stage = LegStage::Settled;
            self.groups[group as usize].breaker.failed(now, leg.pass);
            self.settled.push((lane, place, position));
        }
        let request = self.channels[channel as usize].requests.get_mut(id);
        request.stage = Stage::Ended;
        (request.open, request.unplaced) = (0, 0);
        self.drop_if_over(channel, id);
    }

    /// What one group's receiver holds of a request becomes a stray, if one holds it.
    fn let_stray(&mut self, channel: u32, id: u32, place: u32) {
        let settled = self.channels[channel as usize].requests.leg(id, place).stage == LegStage::Settled;
        if !settled {
            self.let_connection_go(channel, id, place, false);
        }
        let requests = &mut self.channels[channel as usize].requests;
        let leg = requests.leg_mut(id, place);
        let in_work = match leg.stage {
            LegStage::InWork => true,
            LegStage::Placed => false,
            LegStage::Unplaced | LegStage::Settled => return,
        };
        if leg.member == NOBODY {
            return;
        }
        self.strays.insert((channel, id, place, leg.epoch), Held { member: leg.member, in_work });
        leg.epoch += 1;
        (leg.member, leg.stage) = (NOBODY, LegStage::Unplaced);
        let request = requests.get_mut(id);
        request.strays += 1;
        request.unplaced += 1;
    }

    /// A stray's turn has come at its receiver. Returns whether it is worked on all the same.
    pub(super) fn work_for_nobody(&mut self, stray: Stray) -> bool {
        if self.options.deadlines {
            self.tries.refused_late += 1;
            self.drop_stray(stray);
            return false;
        }
        if let Some(held) = self.strays.get_mut(&stray) {
            held.in_work = true;
        }
        true
    }

    /// A receiver has done a stray's work. Returns whether it had it.
    pub(super) fn settle_stray(&mut self, member: u32, stray: Stray) -> bool {
        let has = self.strays.get(&stray) == Some(&Held { member, in_work: true });
        if has {
            self.tries.worked_for_nobody += 1;
            self.drop_stray(stray);
        }
        has
    }

    /// A stray gives up its place.
    fn drop_stray(&mut self, stray: Stray) {
        if let Some(held) = self.strays.remove(&stray) {
            self.free_place(held.member);
            self.forget_stray(stray);
        }
    }

    fn forget_stray(&mut self, (channel, id, _, _): Stray) {
        self.channels[channel as usize].requests.get_mut(id).strays -= 1;
        self.drop_if_over(channel, id);
    }

    /// Frees the row of a request that has ended and has no strays.
    fn drop_if_over(&mut self, channel: u32, id: u32) {
        let Request { stage, strays, .. } = *self.channels[channel as usize].requests.get(id);
        if stage == Stage::Ended && strays == 0 {
            self.drop_request(channel, id);
        }
    }

    /// The strays of a receiver that leaves go with it.
    pub(super) fn leave_strays(&mut self, member: u32) {
        let of_member = self.strays.iter().filter(|(_, held)| held.member == member);
        let strays: Vec<Stray> = of_member.map(|(&stray, _)| stray).collect();
        for stray in strays {
            self.strays.remove(&stray);
            self.peers.get_mut(member).held -= 1;
            self.forget_stray(stray);
        }
    }

    /// The strays of a service that is removed go with it.
    pub(super) fn drop_strays_of(&mut self, channel: u32) {
        let strays: Vec<Stray> =
            self.strays.range((channel, 0, 0, 0)..(channel + 1, 0, 0, 0)).map(|(&stray, _)| stray).collect();
        for stray in strays {
            self.drop_stray(stray);
        }
    }

    /// Adds what became of tries to a description, where callers wait for the work.
    pub(super) fn describe_tries(&self, description: &mut Description) {
        if !self.waits_for_work() {
            return;
        }
        let counts = self.tally().into_iter().map(|tally| (tally.name, tally.count.to_string()));
        description.settings.extend(counts);
    }

    /// What became of tries, and of the connections that they went over.
    pub(super) fn tally(&self) -> Vec<Tally> {
        let Tries { put_off, refused_by_breaker, sent_again, refused_late, worked_for_nobody, unanswered } = self.tries;
        let Counts { opened, reused, exhausted, broken } = self.connections.counts();
        let mut counts = vec![
            ("tries put off and made again", put_off),
            ("calls refused by an open circuit breaker", refused_by_breaker),
            ("connections opened (handshakes)", opened),
            ("tries over a connection that was there", reused),
            ("tries that found every connection busy", exhausted),
            ("connections closed with a try that was given up", broken),
        ];
        if self.waits_for_work() {
            counts.extend([
                ("tries sent again", sent_again),
                ("tries refused after their deadline", refused_late),
                ("tries worked on for nobody", worked_for_nobody),
                ("calls without a response", unanswered),
            ]);
        }
        counts.into_iter().map(|(name, count)| Tally { name: name.to_owned(), count }).collect()
    }
}
