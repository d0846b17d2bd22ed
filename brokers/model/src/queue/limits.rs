//! What a queue does with messages besides handing them out: holds them back at first, gives them up when they are too old, too
//! often delivered or too many.
//!
//! All messages of a lane are held back for the same time and live for the same time, so that a lane needs one timer for each; those
//! that say another time of themselves are exceptions of their queues. Leaves out what is given up how, which is the backlog's, and
//! dead letters.

use std::cmp::Reverse;

use crate::machine::Effects;
use crate::queue::ages::Ages;
use crate::queue::options::Overflow;
use crate::queue::terms::Terms;
use crate::queue::{Lane, QueueModel};
use crate::time::{Span, Time};

/// What passes a lane's messages in their order, at one age each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Front {
    /// From here on they may be delivered.
    Visible,
    /// From here on they may wait no longer.
    Expired,
}

impl Lane {
    /// An empty lane, of no channel yet, of which nothing is held back.
    pub(super) fn new(first_queue: u32) -> Self {
        Self {
            channel: 0,
            first_queue,
            end: 0,
            stored: 0,
            trimmed: 0,
            holes: Vec::new(),
            visible: u64::MAX,
            expired_below: 0,
            ages: Ages::default(),
            armed: [false; 2],
            grown: false,
            gone: false,
        }
    }

    /// The end of what may be delivered.
    pub(super) fn deliverable(&self) -> u64 {
        self.stored.min(self.visible)
    }
}

impl QueueModel {
    /// What holds for a lane's messages now.
    pub(super) fn terms(&self, now: Time, lane: u32) -> Terms {
        let most_deliveries = match self.options.max_deliveries {
            _ if self.is_of_letters(lane) => u32::MAX,
            0 => u32::MAX,
            most => most,
        };
        Terms { most_deliveries, expired_below: self.lanes[lane as usize].expired_below, now }
    }

    /// Notes that messages of the lane came at `now`.
    pub(super) fn came(&mut self, lane: u32, now: Time) {
        if self.is_of_letters(lane) {
            return;
        }
        let entry = &mut self.lanes[lane as usize];
        entry.ages.note(entry.end, now);
        self.arm_fronts(lane);
    }

    /// Sets the lane's timers, where none stands and one is due.
    pub(super) fn arm_fronts(&mut self, lane: u32) {
        self.arm_front(lane, Front::Visible);
        self.arm_front(lane, Front::Expired);
    }

    /// Sets the timer for the next message that one of the lane's fronts will pass, if none stands.
    fn arm_front(&mut self, lane: u32, front: Front) {
        let span = match front {
            Front::Visible => (self.options.delay > Span::ZERO).then_some(self.options.delay),
            Front::Expired => self.options.message_ttl,
        };
        let entry = &mut self.lanes[lane as usize];
        let position = match front {
            Front::Visible => entry.visible,
            Front::Expired => entry.expired_below,
        };
        let Some(span) = span.filter(|_| !entry.armed[front as usize]) else { return };
        if let Some(came) = entry.ages.came(position.max(entry.trimmed)) {
            entry.armed[front as usize] = true;
            self.lane_timers.push(Reverse((came + span, lane, front)));
        }
    }

    /// Lets messages appear and expire whose time has come.
    pub(super) fn age(&mut self, now: Time) {
        while let Some(&Reverse((at, lane, front))) = self.lane_timers.peek() {
            if at > now {
                break;
            }
            self.lane_timers.pop();
            let entry = &mut self.lanes[lane as usize];
            let (delay, ttl) = (self.options.delay, self.options.message_ttl.unwrap_or(Span(u64::MAX)));
            entry.armed[front as usize] = false;
            match front {
                Front::Visible => entry.visible = entry.visible.max(entry.ages.older(delay, now)),
                Front::Expired => entry.expired_below = entry.expired_below.max(entry.ages.older(ttl, now)),
            }
            if entry.gone {
                continue;
            }
            let expired = self.options.message_ttl.map_or(u64::MAX, |_| entry.expired_below);
            entry.ages.forget(entry.visible.min(expired).max(entry.trimmed));
            self.arm_front(lane, front);
            let channel = self.lanes[lane as usize].channel as usize;
            for index in 0..self.channels[channel].groups.len() {
                let group = self.channels[channel].groups[index];
                match front {
                    Front::Visible => self.list(lane, group),
                    Front::Expired => self.expire_waiting(lane, group),
                }
            }
        }
    }

    /// Gives up what waits in a queue and has expired.
    pub(super) fn expire_waiting(&mut self, lane: u32, group: u32) {
        let queue = self.queue_of(lane, group);
        let entry = &self.lanes[lane as usize];
        let end = entry.expired_below.min(entry.stored);
        if end > 0 && self.backlogs[queue].expire_waiting(end, &entry.holes, &mut self.graves) {
            self.bury(lane, group);
        }
    }

    /// Whether one of a lane's queues takes no further message, or one of those at `routes`. What is not stored yet counts as if it was.
    pub(super) fn is_full(&self, lane: u32, routes: Option<&[u32]>) -> bool {
        let limits = self.options.max_length > 0 && self.options.overflow == Overflow::RejectPublish;
        if !limits || self.is_of_letters(lane) {
            return false;
        }
        let entry = &self.lanes[lane as usize];
        let groups = self.channels[entry.channel as usize].groups.len();
        let queues = &self.backlogs[entry.first_queue as usize..][..groups];
        let most = self.options.max_length;
        match routes {
            None => {
                let coming = entry.end - entry.stored;
                queues.iter().any(|queue| queue.waiting(entry.stored, &entry.holes) + coming >= most)
            }
            Some(routes) => routes.iter().any(|&place| {
                let queue = &queues[place as usize];
                queue.waiting(entry.stored, &entry.holes) + queue.coming >= most
            }),
        }
    }

    /// Gives up what is too much in queues that have grown in this step and were served since.
    pub(super) fn shorten(&mut self, now: Time, out: &mut Effects) {
        while let Some((lane, group)) = self.grown_queues.pop() {
            let queue = self.queue_of(lane, group);
            let is_of_letters = self.is_of_letters(lane);
            let entry = &self.lanes[lane as usize];
            let most = self.options.max_length;
            if !entry.gone && !is_of_letters && {
                let ends = (entry.deliverable(), entry.stored);
                self.backlogs[queue].shorten(most, ends, &entry.holes, &mut self.graves)
            } {
                self.bury(lane, group);
            }
        }
        self.record_settled(now, out);
    }

    /// Notes for the journal that the positions at hand are done with, and the queue's head may have moved.
    pub(super) fn bury(&mut self, lane: u32, group: u32) {
        self.settled.extend(self.graves.drain(..).map(|position| (lane, group, position, 1)));
        self.touch(lane, group);
    }

    /// Notes that the journal has to hear of a queue.
    pub(super) fn touch(&mut self, lane: u32, group: u32) {
        let queue = self.queue_of(lane, group);
        let backlog = &mut self.backlogs[queue];
        if !backlog.touched {
            backlog.touched = true;
            self.touched.push((lane, group));
        }
    }

    /// How many messages of a queue members may be given before as many are in flight as are allowed.
    pub(super) fn room_in_flight(&self, queue: usize) -> u64 {
        match self.options.max_in_flight {
            0 => u64::MAX,
            most => u64::from(most).saturating_sub(self.backlogs[queue].in_flight()),
        }
    }
}
