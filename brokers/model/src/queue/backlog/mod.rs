//! One queue: the messages of one lane as one group sees them, as a pure structure.
//!
//! Ready messages cost nothing: they are the positions from the cursor to the lane's stored end, save those that say something of
//! themselves, which are exceptions from the beginning, and those that are not routed to the queue. What is given up is counted here,
//! and its positions are handed to the caller, except where everything before the cursor is settled: then the cursor says it.
//! Leaves out who gets what (`dispatch`), when a message has to go (`limits`), and effects.

mod settle;

use std::collections::VecDeque;

use crate::batch::{LaneId, Receipt};
use crate::completion::GivenUp;
use crate::death::DeathReason;
use crate::journal::LaneJournal;
use crate::queue::dead_letters::Deaths;
use crate::queue::exceptions::{Exception, Exceptions, PLAIN, Shape, Special, Words};
use crate::queue::terms::{Terms, count};
use crate::queue::window::{Place, Window};
use crate::slots::NOBODY;
use crate::time::Time;

/// Lease records that a queue keeps; beyond, the oldest lease becomes exceptions.
const MAX_LEASES: usize = 1 << 16;

/// Positions of a lane that were never stored: storage failed. Ranges, oldest first; nearly always empty.
pub(super) type Holes = Vec<(u64, u64)>;

/// What a queue has to know of a message before it is ready. Without it, the message is like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It says something of itself.
    Special(Special),
    /// It is not routed to the queue.
    Elsewhere,
}

/// Takes the first exception away, unless the position on the fast path comes before it.
type TakeFirst = fn(&mut Exceptions, Option<u64>) -> Option<(Exception, Words)>;

/// How a settlement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The message is done with.
    Gone,
    /// It waits to be delivered again.
    Requeued,
    /// It is held until another time.
    Held,
}

/// One queue.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    /// The position of the next first delivery.
    pub(super) cursor: u64,
    window: Window,
    late: Exceptions,
    /// Positions from the cursor on that are not for the fast path, in order, as half-open ranges: exceptions from the beginning, and
    /// messages that are not routed to the queue.
    skips: VecDeque<(u64, u64)>,
    /// How many positions those are.
    skipped: u64,
    /// Messages that are routed to the queue and not stored yet, where not all are.
    pub(super) coming: u64,
    /// Single active consumer: the slot of the member that reads this queue.
    pub(super) active: u32,
    /// The earliest time for which a timer stands in the model's heap.
    pub(super) armed: Time,
    /// Whether the queue stands in its group's line of queues with something ready.
    pub(super) listed: bool,
    /// Whether the queue was settled from in the step at hand.
    pub(super) touched: bool,
    /// Everything below is known to the journal as settled.
    pub(super) recorded: u64,
    /// Messages that were given up.
    pub(super) given_up: GivenUp,
    /// Of those, the ones that are to become dead letters; kept where somebody asks for them.
    pub(super) deaths: Deaths,
    /// Messages below came from the journal of an earlier life, in which they may have been delivered.
    restored: u64,
}

impl Backlog {
    /// An empty queue.
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            cursor: 0,
            window: Window::default(),
            late: Exceptions::new(shape),
            skips: VecDeque::new(),
            skipped: 0,
            coming: 0,
            active: NOBODY,
            armed: Time::NEVER,
            listed: false,
            touched: false,
            recorded: 0,
            given_up: GivenUp::default(),
            deaths: Deaths::new(shape.dead_letters),
            restored: 0,
        }
    }
}

/// A run of messages to hand out: successive positions, delivered equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first position.
    pub(super) position: u64,
    /// How many.
    pub(super) count: u32,
    /// How often they were delivered before.
    pub(super) redeliveries: u32,
}

impl Backlog {
    /// The oldest message that is not settled, or the cursor.
    pub(super) fn head(&self) -> u64 {
        self.window.head(self.cursor)
    }

    /// Messages that a member holds.
    pub(super) fn in_flight(&self) -> u64 {
        self.window.open() - self.late.waiting()
    }

    /// Messages that wait: to be delivered again, held back, or for the first time and below `stored`.
    pub(super) fn waiting(&self, stored: u64, holes: &Holes) -> u64 {
        self.late.waiting() + self.plain(stored, holes)
    }

    /// Messages that could be delivered now, when those on the fast path may be up to `deliverable`.
    pub(super) fn ready(&self, deliverable: u64, holes: &Holes) -> u64 {
        self.late.ready() + self.plain(deliverable, holes)
    }

    /// Messages on the fast path that wait below `end`.
    fn plain(&self, end: u64, holes: &Holes) -> u64 {
        let from = self.cursor;
        let missing: u64 = holes.iter().map(|&(start, stop)| stop.min(end).saturating_sub(start.max(from))).sum();
        end.saturating_sub(from).saturating_sub(missing + self.skipped_below(end))
    }

    fn skipped_below(&self, end: u64) -> u64 {
        let above = self.skips.iter().rev().take_while(|&&(_, stop)| stop > end);
        self.skipped - above.map(|&(start, stop)| stop - start.max(end)).sum::<u64>()
    }

    /// Steps over what was never stored and what is not for the fast path.
    fn skip(&mut self, holes: &[(u64, u64)]) {
        loop {
            let before = self.cursor;
            for &(start, end) in holes {
                if start <= self.cursor && self.cursor < end {
                    self.cursor = end;
                }
            }
            while let Some(&(start, end)) = self.skips.front().filter(|(start, _)| *start <= self.cursor) {
                self.skips.pop_front();
                self.skipped -= end - start;
                self.cursor = self.cursor.max(end);
            }
            if self.cursor == before {
                return;
            }
        }
    }

    /// How many first deliveries can be made from the cursor in one run.
    fn run_length(&self, stored: u64, holes: &Holes, most: u32) -> u32 {
        let next_hole = holes.iter().map(|&(start, _)| start).find(|&start| start >= self.cursor).unwrap_or(u64::MAX);
        let next_skip = self.skips.front().map_or(u64::MAX, |&(start, _)| start);
        let available = stored.min(next_hole).min(next_skip).saturating_sub(self.cursor);
        available.min(u64::from(most)) as u32
    }

    /// The position of the next first delivery on the fast path, if there is one below `stored`.
    fn next_plain(&mut self, stored: u64, holes: &Holes) -> Option<u64> {
        self.skip(holes);
        (self.run_length(stored, holes, 1) > 0).then_some(self.cursor)
    }

    /// The next message of the lane was stored, and is not for the fast path.
    pub(super) fn tell(&mut self, now: Time, position: u64, told: Told) {
        match told {
            Told::Special(special) => {
                self.window.set_aside(position, self.cursor);
                self.late.add_special(now, position, self.before(position), special);
            }
            Told::Elsewhere => {}
        }
        if position == self.cursor && self.skips.is_empty() {
            self.cursor += 1;
            return;
        }
        match self.skips.back_mut() {
            Some(last) if last.1 == position => last.1 += 1,
            Some(_) | None => self.skips.push_back((position, position + 1)),
        }
        self.skipped += 1;
    }

    /// What is handed out from now on goes to another member, or at another time.
    pub(super) fn begin_hand_out(&mut self) {
        self.late.begin_hand_out();
    }

    /// Hands the next run of at most `most` messages to `member`: by priority, of one priority what waits to be delivered again first,
    /// then in order.
    pub(super) fn deliver(
        &mut self,
        member: u32,
        deadline: Time,
        most: u32,
        stored: u64,
        holes: &Holes,
        scratch: &mut Vec<u64>,
    ) -> Option<Run> {
        let plain = self.next_plain(stored, holes);
        if let Some((position, redeliveries)) = self.late.deliver(member, deadline, plain) {
            return Some(Run { position, count: 1, redeliveries });
        }
        let run = self.take_run(most, stored, holes)?;
        self.window.lease(run.position, run.count, member, deadline);
        if self.window.leases() > MAX_LEASES {
            self.retire_oldest_lease(scratch);
        }
        Some(run)
    }

    /// Hands out the next run and keeps nothing of it: it is settled by its delivery. Its positions are added to `settled` where the head
    /// does not tell it.
    pub(super) fn take(&mut self, most: u32, stored: u64, holes: &Holes, settled: &mut Vec<u64>) -> Option<Run> {
        let plain = self.next_plain(stored, holes);
        let run = if let Some((Exception { position, redeliveries, .. }, _)) = self.late.take(plain) {
            self.window.settle_moved(position);
            settled.push(position);
            return Some(Run { position, count: 1, redeliveries });
        } else {
            self.take_run(most, stored, holes)?
        };
        if self.window.open() > 0 {
            settled.extend(run.position..run.position + u64::from(run.count));
        }
        Some(run)
    }

    /// Whether a message was delivered and settled, or given up; one that is not stored was neither.
    pub(super) fn is_done(&self, position: u64) -> bool {
        let passed = position < self.cursor || self.skips.iter().any(|&(start, end)| (start..end).contains(&position));
        passed && self.window.find(position) == Place::Absent
    }

    fn take_run(&mut self, most: u32, stored: u64, holes: &Holes) -> Option<Run> {
        self.skip(holes);
        let position = self.cursor;
        let redeliveries = self.before(position);
        // A run was delivered equally often: it ends where the earlier life does.
        let stored = if redeliveries > 0 { stored.min(self.restored) } else { stored };
        let count = self.run_length(stored, holes, most);
        self.cursor += u64::from(count);
        (count > 0).then_some(Run { position, count, redeliveries })
    }

    /// How often a message may have been delivered in an earlier life: once at most, as far as it counts.
    fn before(&self, position: u64) -> u32 {
        u32::from(position < self.restored)
    }

    /// Takes over what a journal holds of the queue. Under `automatic` settlement nothing that it holds was delivered. `told` has in order
    /// what is to be known of messages that are there; `appears` says when others may be delivered.
    pub(super) fn restore(
        &mut self,
        now: Time,
        lane: &LaneJournal,
        group: u32,
        automatic: bool,
        told: &[(u64, Told)],
        appears: impl Fn(u64) -> Time,
    ) {
        let done = lane.done(group);
        self.recorded = done.map_or(0, |done| done.committed);
        let scattered = done.and_then(|done| done.settled.last()).map_or(0, |last| last + 1);
        self.cursor = lane.first().max(self.recorded).max(scattered);
        if !automatic {
            self.restored = lane.end();
        }
        let cut = told.partition_point(|&(position, _)| position < self.cursor);
        for position in lane.open(group, 0, self.cursor) {
            let known = told[..cut].binary_search_by_key(&position, |&(position, _)| position);
            match known.map(|at| told[at].1) {
                Ok(Told::Elsewhere) => {}
                Ok(Told::Special(special)) => {
                    self.window.set_aside(position, position);
                    self.late.add_special(now, position, self.before(position), special);
                    self.late.seem_back(position);
                }
                Err(_) => {
                    self.window.set_aside(position, position);
                    let special = Special { appears: appears(position), ..Special::default() };
                    if special.appears > now {
                        self.late.add_special(now, position, self.before(position), special);
                    } else {
                        self.late.add_ready(position, self.before(position));
                    }
                }
            }
        }
        for &(position, told) in &told[cut..] {
            self.tell(now, position, told);
        }
    }

    fn retire_oldest_lease(&mut self, scratch: &mut Vec<u64>) {
        scratch.clear();
        if let Some(lease) = self.window.take_oldest(scratch) {
            for &position in scratch.iter() {
                self.late.add_leased(position, self.before(position), lease.member, lease.deadline);
            }
        }
    }

    /// Gives memory back after settlements. Returns the oldest position that is not settled.
    pub(super) fn advance(&mut self) -> u64 {
        self.skip(&[]);
        self.window.advance(self.cursor);
        self.head()
    }

    /// When the next lease ends, a message appears or can wait no longer, or earlier.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        match (self.window.next_deadline(), self.late.next_deadline()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Ends every lease that is over by `now`; `ended` is called once a message with the slot of who held it. The message waits
    /// again unless `terms` end it; the positions of those are added to `gone`.
    pub(super) fn expire(
        &mut self,
        now: Time,
        terms: Terms,
        scratch: &mut Vec<u64>,
        gone: &mut Vec<u64>,
        mut ended: impl FnMut(u32),
    ) {
        let Self { window, late, given_up, deaths, .. } = self;
        late.expire(now, |entry, expires, said| {
            ended(entry.member);
            waits_again(entry, (expires, said), terms, window, (given_up, deaths), gone)
        });
        self.window.advance(self.cursor);
        while self.window.next_deadline().is_some_and(|deadline| deadline <= now) {
            scratch.clear();
            if let Some(lease) = self.window.take_oldest(scratch) {
                for _ in 0..scratch.len() {
                    ended(lease.member);
                }
                self.come_back(terms, scratch, gone);
            }
        }
        self.window.advance(self.cursor);
    }

    /// Ends everything that `member` holds, as [`expire`](Self::expire) does. Returns how many messages those were.
    pub(super) fn release(&mut self, member: u32, terms: Terms, scratch: &mut Vec<u64>, gone: &mut Vec<u64>) -> u64 {
        let Self { window, late, given_up, deaths, .. } = self;
        let held = late.release(member, |entry, expires, said| {
            waits_again(entry, (expires, said), terms, window, (given_up, deaths), gone)
        });
        scratch.clear();
        self.window.take_member(member, scratch);
        self.come_back(terms, scratch, gone);
        self.window.advance(self.cursor);
        held + scratch.len() as u64
    }

    /// Messages whose first delivery ended and that left the fast path wait again, or are given up.
    fn come_back(&mut self, terms: Terms, positions: &[u64], gone: &mut Vec<u64>) {
        for &position in positions {
            let deliveries = self.before(position) + 1;
            match terms.end(position, deliveries, Time::NEVER) {
                None => self.late.add_ready(position, deliveries),
                Some(end) => {
                    self.window.settle_moved(position);
                    count(&mut self.given_up, end);
                    self.deaths.note(position, end.reason(), deliveries, PLAIN);
                    gone.push(position);
                }
            }
        }
    }

    /// Lets messages appear whose time has come by `now`, and gives up those that wait and whose own time to live is over. Returns
    /// whether there was anything to appear.
    pub(super) fn wake(&mut self, now: Time, gone: &mut Vec<u64>) -> bool {
        let appeared = self.late.appear(now);
        let Self { window, late, given_up, restored, deaths, .. } = self;
        late.drop_perished(now, |entry, said| expired(entry, said, *restored, window, (given_up, deaths), gone));
        appeared
    }

    /// Gives up everything that waits at a position below `end`, which is stored: it has expired. Returns whether that was anything.
    pub(super) fn expire_waiting(&mut self, end: u64, holes: &Holes, gone: &mut Vec<u64>) -> bool {
        let before = self.given_up.expired;
        let Self { window, late, given_up, restored, deaths, .. } = self;
        late.drop_below(end, |entry, said| expired(entry, said, *restored, window, (given_up, deaths), gone));
        let unseen = self.step_over(end, holes, gone, DeathReason::Expired);
        self.given_up.expired += unseen;
        self.given_up.expired_unseen += unseen;
        self.given_up.expired > before
    }

    /// Gives up what waits at the head until no more than `most` messages wait: what could be delivered first, those on the fast path
    /// up to `deliverable`; then what is held back. Returns whether that was anything.
    pub(super) fn shorten(
        &mut self,
        most: u64,
        (deliverable, stored): (u64, u64),
        holes: &Holes,
        gone: &mut Vec<u64>,
    ) -> bool {
        let over = self.waiting(stored, holes).saturating_sub(most);
        let left = self.shorten_by(over, deliverable, holes, gone, Exceptions::take);
        let left = self.shorten_by(left, stored, holes, gone, Exceptions::drop_first);
        debug_assert_eq!(left, 0, "what is over the limit waits");
        self.given_up.overflowed += over - left;
        over > left
    }

    /// Gives up so many messages below `end` from the head on, as far as there are any; `first` takes the first exception away, if it comes
    /// before what is on the fast path. Returns how many more are to go.
    fn shorten_by(&mut self, mut left: u64, end: u64, holes: &Holes, gone: &mut Vec<u64>, first: TakeFirst) -> u64 {
        while left > 0 {
            let plain = self.next_plain(end, holes);
            if let Some((entry, said)) = first(&mut self.late, plain) {
                self.deaths.note(entry.position, DeathReason::Overflowed, entry.redeliveries, said);
                self.window.settle_moved(entry.position);
                gone.push(entry.position);
                self.given_up.overflowed_unseen += u64::from(entry.redeliveries == self.before(entry.position));
                left -= 1;
                continue;
            }
            let run = self.run_length(end, holes, left.min(u64::from(u32::MAX)) as u32);
            if run == 0 {
                break;
            }
            let unseen = self.step_over(self.cursor + u64::from(run), holes, gone, DeathReason::Overflowed);
            self.given_up.overflowed_unseen += unseen;
            left -= unseen;
        }
        left
    }

    /// Moves the cursor to `end` without a delivery. Returns how many messages on the fast path it passed.
    fn step_over(&mut self, end: u64, holes: &Holes, gone: &mut Vec<u64>, reason: DeathReason) -> u64 {
        let mut passed = 0;
        while self.cursor < end {
            let skip = self.skips.front().copied().filter(|&(start, _)| start < end);
            let until = skip.map_or(end, |(start, _)| start.max(self.cursor));
            let within = |&(start, stop): &(u64, u64)| stop.min(until).saturating_sub(start.max(self.cursor));
            let missing: u64 = holes.iter().map(within).sum();
            let messages = until - self.cursor - missing;
            // Positions that were never stored are nobody's to bury.
            if messages > 0 && self.window.open() > 0 {
                gone.extend(self.cursor..until);
            }
            if messages > 0 && self.deaths.are_kept() {
                let is_there = |at: &u64| !holes.iter().any(|&(start, stop)| (start..stop).contains(at));
                for position in (self.cursor..until).filter(is_there) {
                    self.deaths.note(position, reason, self.before(position), PLAIN);
                }
            }
            passed += messages;
            self.cursor = until;
            if skip.is_some() {
                self.skip(&[]);
            }
        }
        passed
    }

    /// The receipt of a run's first message.
    pub(super) fn receipt(lane: u32, run: &Run) -> Receipt {
        Receipt { lane: LaneId(lane), position: run.position, epoch: run.redeliveries }
    }
}

/// A message that waited has expired.
fn expired(
    entry: &Exception,
    said: Words,
    restored: u64,
    window: &mut Window,
    (given_up, deaths): (&mut GivenUp, &mut Deaths),
    gone: &mut Vec<u64>,
) {
    deaths.note(entry.position, DeathReason::Expired, entry.redeliveries, said);
    window.settle_moved(entry.position);
    given_up.expired += 1;
    // What came from an earlier life counts as delivered there.
    given_up.expired_unseen += u64::from(entry.redeliveries == u32::from(entry.position < restored));
    gone.push(entry.position);
}

/// Whether a message whose further delivery ended waits again; if not, it is given up.
fn waits_again(
    entry: &Exception,
    (expires, said): (Time, Words),
    terms: Terms,
    window: &mut Window,
    (given_up, deaths): (&mut GivenUp, &mut Deaths),
    gone: &mut Vec<u64>,
) -> bool {
    let end = terms.end(entry.position, entry.redeliveries.saturating_add(1), expires);
    if let Some(end) = end {
        window.settle_moved(entry.position);
        count(given_up, end);
        deaths.note(entry.position, end.reason(), entry.redeliveries.saturating_add(1), said);
        gone.push(entry.position);
    }
    end.is_none()
}
