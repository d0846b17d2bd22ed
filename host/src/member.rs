//! One member of a consumer group: credit, work as deadlines on its schedule, settlements, and the lanes that it must give back.
//!
//! A member works on one message at a time. Being busy occupies the member and no core, unless the profile asks for that. Leaves
//! out when a member is looked at, which the loop decides.

use std::collections::{BTreeMap, VecDeque};

use brokerlab_model::{
    Batch, Client, Completions, Control, Delivered, Event, LaneId, Outcome, Receipt, Refusal, Settlement, Span, Status,
    Time, Token, Verdict,
};
use brokerlab_workloads::check::{Arrived, MessageId};
use brokerlab_workloads::record::{HeldBack, Moments};
use brokerlab_workloads::{Stamp, Workload, key_hash};

use crate::books::{Arrival, Books, Uninvited};
use crate::fitness::thread_cpu;
use crate::shared::{Blame, locked};
use crate::slots::{Slots, control_number, control_token};
use crate::spec::RunError;

/// Credit that was lost with a connection is asked for again after this, or as soon as the connection is back.
const GRANT_AGAIN: Span = Span::from_millis(10);

/// A delivery that the member holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    receipt: Receipt,
    /// When the message was due.
    due: Time,
    /// When the work on it ends; for work that occupies a core, how long it takes.
    end: Time,
    work: Span,
}

/// A settlement between being wanted and being confirmed.
#[derive(Clone, Copy, Debug)]
struct Settling {
    due: Time,
    wanted: Time,
    actual: Time,
    lane: LaneId,
}

/// A lane that the member reads.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    unsettled: u32,
    assigned: bool,
    revoked: bool,
    lost: bool,
}

/// A grant that has not ended.
#[derive(Clone, Copy, Debug)]
struct Granted {
    /// Its control's number.
    number: u64,
    /// Deliveries that are still to come.
    left: u32,
}

/// What of a group its members need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlan {
    pub(crate) index: u32,
    pub(crate) prefetch: u32,
    /// Whether the work occupies a core.
    pub(crate) on_core: bool,
    /// Whether the working time depends on the key's number.
    pub(crate) by_key: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) client: Box<dyn Client>,
    plan: GroupPlan,
    in_hand: VecDeque<Held>,
    busy_until: Time,
    paused_until: Time,
    settlements: Batch,
    settling: Slots<Settling>,
    controls: Vec<(Token, Control)>,
    next_control: u64,
    /// Open grants, the oldest first.
    grants: VecDeque<Granted>,
    /// Credit of grants that ended without their deliveries.
    lost_credit: u32,
    /// When it is asked for again.
    grant_again: Time,
    /// Deliveries whose settlement was submitted and whose credit was not granted again.
    owed: u32,
    lanes: BTreeMap<LaneId, Lane>,
    /// Whether the loop is to wake for it, and when at the latest.
    pub(crate) armed: Time,
    /// Deliveries that it was given.
    pub(crate) given: u64,
    /// Whether a batch was not taken as a whole.
    pub(crate) held_back: bool,
    /// When the backend did not take settlements.
    held: HeldBack,
    /// Whether its client was asked to close.
    pub(crate) is_closed: bool,
}

impl Member {
    /// A member that asks for its first credit.
    pub(crate) fn new(client: Box<dyn Client>, plan: GroupPlan) -> Self {
        Self {
            client,
            plan,
            in_hand: VecDeque::new(),
            busy_until: Time::ZERO,
            paused_until: Time::ZERO,
            settlements: Batch::Settle(Vec::new()),
            settling: Slots::new(),
            controls: vec![(control_token(0), Control::Grant(plan.prefetch))],
            next_control: 1,
            grants: VecDeque::from([Granted { number: 0, left: plan.prefetch }]),
            lost_credit: 0,
            grant_again: Time::NEVER,
            owed: 0,
            lanes: BTreeMap::new(),
            armed: Time::NEVER,
            given: 0,
            held_back: false,
            held: HeldBack::new(),
            is_closed: false,
        }
    }

    pub(crate) fn group(&self) -> usize {
        self.plan.index as usize
    }

    /// Lanes that it holds.
    pub(crate) fn lanes(&self) -> u64 {
        self.lanes.values().filter(|lane| lane.assigned).count() as u64
    }

    /// Deliveries that are not settled yet, as far as the member knows.
    pub(crate) fn unsettled(&self) -> u64 {
        (self.in_hand.len() + self.settling.len()) as u64
    }

    /// Deliveries whose settlement was never submitted: certainly the backend's again once the member has closed.
    pub(crate) fn not_settled(&self) -> u64 {
        (self.in_hand.len() + self.settlements.len()) as u64
    }

    /// When the work in hand ends, or may begin if it occupies a core; none when there is none.
    pub(crate) fn next(&self) -> Option<Time> {
        self.in_hand.front().map(|held| if held.end == Time::NEVER { self.paused_until } else { held.end })
    }

    /// Whether something waits to be submitted beside work that is to end.
    pub(crate) fn wants_again(&self) -> bool {
        self.held_back || !self.controls.is_empty()
    }

    /// When it asks again for credit that was lost; [`Time::NEVER`] when none was.
    pub(crate) fn grants_again(&self) -> Time {
        self.grant_again
    }

    /// The group stops working until `until`: what is in hand and what comes is done afterwards.
    pub(crate) fn pause(&mut self, now: Time, until: Time) {
        let pause = until.since(now);
        for held in self.in_hand.iter_mut().filter(|held| held.end > now) {
            held.end += pause;
        }
        self.busy_until = self.busy_until.max(now) + pause;
        self.paused_until = until;
    }

    fn ask(&mut self, control: Control) {
        if let Control::Grant(left) = control {
            self.grants.push_back(Granted { number: self.next_control, left });
        }
        self.controls.push((control_token(self.next_control), control));
        self.next_control += 1;
    }

    /// Settles everything whose work has ended by the mark, asks for new credit, gives lanes back. Returns whether anything was
    /// submitted.
    pub(crate) fn serve(&mut self, books: &mut Books<'_>) -> bool {
        if self.plan.on_core && !books.shared.clock.is_manual() {
            self.work_on_core(books);
        }
        while let Some(&held) = self.in_hand.front()
            && held.end <= books.mark
        {
            self.in_hand.pop_front();
            books.recorder.settle_due(held.due);
            let lane = held.receipt.lane;
            let settling = Settling { due: held.due, wanted: held.end, actual: Time::ZERO, lane };
            let token = self.settling.insert(settling);
            if let Batch::Settle(settlements) = &mut self.settlements {
                settlements.push(Settlement { token, receipt: held.receipt, verdict: Verdict::Ack });
            }
        }
        let settled = self.submit_settlements(books);
        let asked = self.submit_controls(books);
        settled || asked
    }

    /// Does the first message's work, on this core.
    fn work_on_core(&mut self, books: &mut Books<'_>) {
        let Some(first) = self.in_hand.front_mut() else { return };
        if first.end != Time::NEVER || books.mark < self.paused_until {
            return;
        }
        let until = thread_cpu() + first.work;
        while thread_cpu() < until {
            std::hint::spin_loop();
        }
        first.end = books.shared.clock.now();
        books.mark = first.end;
    }

    fn submit_settlements(&mut self, books: &mut Books<'_>) -> bool {
        if self.settlements.is_empty() {
            self.held_back = false;
            return false;
        }
        let actual = books.own_until_now();
        let mut batch = std::mem::replace(&mut self.settlements, Batch::Settle(Vec::new()));
        if let Batch::Settle(settlements) = &batch {
            for settlement in settlements {
                if let Some(settling) = self.settling.get_mut(settlement.token) {
                    settling.actual = actual;
                }
            }
        }
        let taken = self.client.submit(actual, &mut batch).taken;
        let after = books.backend_until_now();
        self.settlements = batch;
        self.held_back = !self.settlements.is_empty();
        if self.held_back {
            self.held.begin(after);
        } else {
            self.held.end(actual, &locked(&books.shared.blame[books.index]).backend);
        }
        self.owed += taken as u32;
        // A quarter at a time: enough credit is always left, and grants stay few.
        if self.owed > 0 && self.owed >= self.plan.prefetch / 4 {
            let owed = std::mem::take(&mut self.owed);
            self.ask(Control::Grant(owed));
        }
        taken > 0
    }

    /// Submits grants and releases.
    pub(crate) fn submit_controls(&mut self, books: &mut Books<'_>) -> bool {
        if self.grant_again <= books.mark {
            self.grant_again = Time::NEVER;
            let lost = std::mem::take(&mut self.lost_credit);
            self.ask(Control::Grant(lost));
        }
        if self.controls.is_empty() {
            return false;
        }
        let now = books.own_until_now();
        let mut batch = Batch::Control(std::mem::take(&mut self.controls));
        let taken = self.client.submit(now, &mut batch).taken;
        books.backend_until_now();
        if let Batch::Control(rest) = batch {
            self.controls = rest;
        }
        self.held_back |= !self.controls.is_empty();
        taken > 0
    }

    /// Takes in what a poll returned at `completed`.
    pub(crate) fn take(
        &mut self,
        completions: &Completions,
        completed: Time,
        books: &mut Books<'_>,
        workload: &Workload,
    ) -> Result<(), RunError> {
        // Deliveries first: a lane may be asked back by the same answer that brings its last messages.
        for delivery in &completions.deliveries {
            self.delivered(&delivery, completed, books, workload);
        }
        if !completions.outcomes.is_empty() {
            let shared = books.shared;
            let blame = locked(&shared.blame[books.index]);
            for &outcome in &completions.outcomes {
                self.ended(outcome, completed, books, &blame)?;
            }
        }
        for &event in &completions.events {
            self.event(event, completed, books);
        }
        Ok(())
    }

    fn delivered(&mut self, delivery: &Delivered<'_>, completed: Time, books: &mut Books<'_>, workload: &Workload) {
        self.given += 1;
        if let Some(grant) = self.grants.iter_mut().find(|grant| grant.left > 0) {
            grant.left -= 1;
        }
        let group = self.plan.index;
        let hash = key_hash(delivery.key);
        let claimed = |stamp: Stamp| MessageId { producer: stamp.producer, sequence: stamp.sequence };
        let (due, work) = match Stamp::read_verified(delivery.payload, hash) {
            Err(_) => {
                let claimed = Stamp::read(delivery.payload).map(claimed);
                books.arrived(Arrival::Corrupted { group, claimed });
                (completed, Span::ZERO)
            }
            Ok(stamp) if stamp.run != books.shared.spec.run => {
                books.arrived(Arrival::Foreign { group, claimed: Some(claimed(stamp)) });
                (completed, Span::ZERO)
            }
            Ok(stamp) => {
                let arrived = Arrived {
                    id: claimed(stamp),
                    key_hash: (!delivery.key.is_empty()).then_some(hash),
                    channel: delivery.channel.0,
                    redelivered: delivery.redeliveries > 0,
                    early: completed < stamp.actual || !books.shared.was_offered(stamp.producer, stamp.sequence),
                };
                let Stamp { intended, actual, .. } = stamp;
                let lane = delivery.receipt.lane;
                books.arrived(Arrival::Intact { group, lane, arrived, intended, actual, completed });
                (intended, self.work_of(&stamp, workload))
            }
        };
        let receipt = delivery.receipt;
        self.lanes.entry(receipt.lane).or_default().unsettled += 1;
        self.busy_until = self.busy_until.max(completed) + work;
        let end = if self.plan.on_core && !books.shared.clock.is_manual() { Time::NEVER } else { self.busy_until };
        self.in_hand.push_back(Held { receipt, due, end, work });
    }

    fn work_of(&self, stamp: &Stamp, workload: &Workload) -> Span {
        let (producer, sequence) = (stamp.producer, stamp.sequence);
        if producer >= workload.producers() {
            return Span::ZERO;
        }
        let key = if self.plan.by_key { workload.contents(producer, sequence).key } else { 0 };
        workload.work(self.group(), producer, sequence, key)
    }

    fn ended(
        &mut self,
        outcome: Outcome,
        completed: Time,
        books: &mut Books<'_>,
        blame: &Blame,
    ) -> Result<(), RunError> {
        if let Some(number) = control_number(outcome.token) {
            self.control_ended(number, outcome.status, completed, books);
            return Ok(());
        }
        let settling = self
            .settling
            .remove(outcome.token)
            .ok_or_else(|| RunError::Protocol(format!("settlement {:?} ended, and is not in flight", outcome.token)))?;
        match outcome.status {
            Status::Done => {
                let moments = Moments { intended: settling.wanted, actual: settling.actual, completed };
                let delay = blame.backend.delay(&self.held, moments.intended, moments.actual);
                books.settled(settling.due, moments, delay);
            }
            Status::Refused(Refusal::StaleReceipt) => books.note(Uninvited::StaleSettlement),
            Status::Refused(_) | Status::Throttled | Status::Failed(_) | Status::Unknown => {
                books.note(Uninvited::SettlementNotDone);
            }
        }
        self.settled_one(settling.lane);
        Ok(())
    }

    /// A grant that ended otherwise than by its last delivery is given again, whatever it still lacks.
    fn control_ended(&mut self, number: u64, status: Status, completed: Time, books: &mut Books<'_>) {
        let Some(at) = self.grants.iter().position(|grant| grant.number == number) else { return };
        let left = self.grants.remove(at).map_or(0, |grant| grant.left);
        match status {
            // The backend counted its deliveries to this grant and not to an older one.
            Status::Done => {
                if let Some(grant) = self.grants.front_mut() {
                    grant.left += left;
                }
            }
            Status::Refused(_) => books.note(Uninvited::CreditRefused),
            Status::Failed(_) | Status::Unknown | Status::Throttled => {
                self.lost_credit += left;
                if left > 0 {
                    self.grant_again = self.grant_again.min(completed + GRANT_AGAIN);
                }
            }
        }
    }

    fn settled_one(&mut self, lane: LaneId) {
        let Some(of) = self.lanes.get_mut(&lane) else { return };
        of.unsettled = of.unsettled.saturating_sub(1);
        if of.unsettled > 0 || !of.revoked && !of.lost {
            return;
        }
        let revoked = of.revoked;
        self.lanes.remove(&lane);
        if revoked {
            self.ask(Control::Release(lane));
        }
    }

    fn event(&mut self, event: Event, completed: Time, books: &mut Books<'_>) {
        match event {
            Event::LaneAssigned { lane, .. } => {
                let of = self.lanes.entry(lane).or_default();
                *of = Lane { unsettled: of.unsettled, assigned: true, ..Lane::default() };
            }
            Event::LaneRevoked(lane) => {
                books.note(Uninvited::LaneRevoked);
                let of = self.lanes.entry(lane).or_default();
                of.revoked = true;
                if of.unsettled == 0 {
                    self.lanes.remove(&lane);
                    self.ask(Control::Release(lane));
                }
            }
            Event::LaneLost(lane) => {
                books.note(Uninvited::LaneLost);
                // What of it is in hand stays to be settled, should the lane come back meanwhile.
                let of = self.lanes.entry(lane).or_default();
                *of = Lane { unsettled: of.unsettled, lost: true, ..Lane::default() };
                if of.unsettled == 0 {
                    self.lanes.remove(&lane);
                }
            }
            Event::Blocked => books.note(Uninvited::Blocked),
            Event::Disconnected => books.connection(completed, false),
            Event::Reconnected => {
                books.connection(completed, true);
                if self.lost_credit > 0 {
                    self.grant_again = completed;
                }
            }
            Event::Unblocked => (),
        }
    }
}
