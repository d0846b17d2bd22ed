//! One client of a session, with the books that the suite keeps on it: what was asked, what ended, what arrived.
//!
//! Every rule that holds for every client at every moment is asserted here, so that no case has to repeat it: a token ends
//! exactly once, deliveries never pass the credit, lanes are held in order, nothing arrives after the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::seen::{Ended, Got, Held};
use crate::batch::{Accepted, Batch, Blocked, Control, LaneId, Token};
use crate::broker::Client;
use crate::completion::{Completions, Event, Outcome, Status};
use crate::time::Time;

/// What was asked under a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Publish,
    Settle,
    /// A grant, by the credit that the client has had in all once it is counted.
    Grant(u64),
    Release(LaneId),
    Close,
    Question,
    Other,
}

/// Where a client stands between its connect and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    Closing,
    Closed,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) client: Box<dyn Client>,
    pub(super) due: VecDeque<Batch>,
    pub(super) open: BTreeMap<Token, Asked>,
    pub(super) ended: BTreeMap<Token, Ended>,
    pub(super) got: Vec<Got>,
    pub(super) events: Vec<Event>,
    pub(super) lanes: BTreeMap<LaneId, Held>,
    pub(super) blocked: Vec<Blocked>,
    pub(super) granted: u64,
    pub(super) serving: Option<u32>,
    /// How many of its deliveries a serving member has dealt with.
    pub(super) served: usize,
    fresh_revoked: Vec<LaneId>,
    pub(super) connected: bool,
    /// Neither offers nor polls, as a process that hangs.
    pub(super) silent: bool,
    life: Life,
    holds_lanes: bool,
    completions: Completions,
}

impl Peer {
    pub(super) fn new(client: Box<dyn Client>, holds_lanes: bool) -> Self {
        Self {
            client,
            due: VecDeque::new(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            got: Vec::new(),
            events: Vec::new(),
            lanes: BTreeMap::new(),
            blocked: Vec::new(),
            granted: 0,
            serving: None,
            served: 0,
            fresh_revoked: Vec::new(),
            connected: true,
            silent: false,
            life: Life::Open,
            holds_lanes,
            completions: Completions::default(),
        }
    }

    /// Notes a control operation as asked and puts it behind what is due.
    pub(super) fn ask(&mut self, token: Token, control: Control) {
        let asked = match &control {
            Control::Grant(n) => Asked::Grant(self.granted + u64::from(*n)),
            Control::Close => Asked::Close,
            Control::Position(_) | Control::Describe(_) => Asked::Question,
            Control::Release(lane) => Asked::Release(*lane),
            Control::Seek { .. }
            | Control::Flush
            | Control::Create(_)
            | Control::Delete(_)
            | Control::Split { .. }
            | Control::Merge { .. }
            | Control::Transaction(_) => Asked::Other,
        };
        if let Asked::Grant(total) = asked {
            self.granted = total;
        }
        if asked == Asked::Close && self.life == Life::Open {
            self.life = Life::Closing;
        }
        self.open.insert(token, asked);
        self.due.push_back(Batch::Control(vec![(token, control)]));
    }

    /// Offers what is due, in order, until something is not taken. Returns how many operations were taken.
    pub(super) fn submit(&mut self, now: Time) -> usize {
        let mut taken = 0;
        while let Some(batch) = self.due.front_mut() {
            let before = batch.len();
            let accepted = self.client.submit(now, batch);
            check_prefix(before, batch.len(), accepted);
            taken += accepted.taken;
            if let Some(blocked) = accepted.blocked
                && !self.blocked.contains(&blocked)
            {
                self.blocked.push(blocked);
            }
            if !batch.is_empty() {
                break;
            }
            self.due.pop_front();
        }
        taken
    }

    /// Whether the close was asked for or has happened.
    pub(super) fn closing(&self) -> bool {
        self.life != Life::Open
    }

    /// Whether the close has happened.
    pub(super) fn closed(&self) -> bool {
        self.life == Life::Closed
    }

    /// The lanes revoked since this was last asked.
    pub(super) fn take_revoked(&mut self) -> Vec<LaneId> {
        std::mem::take(&mut self.fresh_revoked)
    }

    /// Forgets what was not taken.
    pub(super) fn withdraw(&mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        for batch in self.due.drain(..) {
            match batch {
                Batch::Publish(publishes) => tokens.extend(publishes.iter().map(|message| message.token)),
                Batch::Settle(settlements) => tokens.extend(settlements.iter().map(|settlement| settlement.token)),
                Batch::Control(controls) => tokens.extend(controls.iter().map(|(token, _)| *token)),
            }
        }
        for token in &tokens {
            self.open.remove(token);
        }
        tokens
    }

    /// The books in short, for a failure's message.
    pub(super) fn summary(&self) -> String {
        let open: Vec<_> = self.open.iter().take(8).collect();
        format!(
            "{} due, {} open {open:?}, {} ended, {} of {} delivered, lanes {:?}, events {:?}, blocked {:?}, closed {}",
            self.due.iter().map(Batch::len).sum::<usize>(),
            self.open.len(),
            self.ended.len(),
            self.got.len(),
            self.granted,
            self.lanes,
            self.events,
            self.blocked,
            self.closed(),
        )
    }

    /// Polls once, as number `poll` of all clients, and checks what came. Returns whether anything did.
    pub(super) fn poll(&mut self, now: Time, poll: u64, after: impl FnOnce() -> Time) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        self.client.poll(now, &mut completions);
        let at = after();
        let any = !completions.is_empty();
        // The columns of one poll have no order among each other. A release that is done comes before a new assignment of its
        // lane; everything else may follow in the order of the columns.
        let release = |outcome: &&Outcome| matches!(self.open.get(&outcome.token), Some(Asked::Release(_)));
        let (releases, others): (Vec<&Outcome>, Vec<&Outcome>) = completions.outcomes.iter().partition(release);
        for outcome in releases {
            self.outcome(*outcome);
        }
        let readable: BTreeSet<LaneId> = self.lanes.keys().copied().collect();
        for &event in &completions.events {
            self.event(event);
        }
        self.deliveries(&completions, &readable, (at, poll));
        for outcome in others {
            self.outcome(*outcome);
        }
        for (token, answer) in completions.answers.drain(..) {
            let asked = self.finish(token, Ended::Answer(answer));
            assert_eq!(asked, Asked::Question, "{token:?} was answered, but it was no question");
        }
        completions.clear();
        self.completions = completions;
        any
    }

    fn deliveries(&mut self, completions: &Completions, readable: &BTreeSet<LaneId>, (at, poll): (Time, u64)) {
        for delivery in &completions.deliveries {
            assert!(!self.closed(), "a closed client was delivered {:?}", delivery.receipt);
            let lane = delivery.receipt.lane;
            assert!(
                !self.holds_lanes || readable.contains(&lane) || self.lanes.contains_key(&lane),
                "{lane:?} delivered to a member that does not hold it"
            );
            self.got.push(Got {
                receipt: delivery.receipt,
                channel: delivery.channel,
                redeliveries: delivery.redeliveries,
                key: delivery.key.to_vec(),
                headers: delivery.headers.to_vec(),
                payload_len: delivery.payload_len,
                payload: delivery.payload.to_vec(),
                at,
                poll,
            });
        }
        let got = self.got.len() as u64;
        assert!(got <= self.granted, "{got} deliveries against a credit of {}", self.granted);
    }

    fn outcome(&mut self, outcome: Outcome) {
        match self.finish(outcome.token, Ended::Outcome(outcome)) {
            Asked::Grant(total) if outcome.status == Status::Done && !self.closing() => {
                let got = self.got.len() as u64;
                assert!(got >= total, "a grant up to {total} ended after {got} deliveries");
            }
            Asked::Grant(_) if outcome.status != Status::Done => {
                // The credit is gone with the connection; the next grant starts from what was delivered.
                if !self.open.values().any(|asked| matches!(asked, Asked::Grant(_))) {
                    self.granted = self.got.len() as u64;
                }
            }
            Asked::Close if outcome.status == Status::Done => self.life = Life::Closed,
            Asked::Question => {
                assert_ne!(outcome.status, Status::Done, "{:?} is done, but its answer is missing", outcome.token);
            }
            Asked::Release(lane) if outcome.status == Status::Done => {
                let before = self.lanes.remove(&lane);
                assert_eq!(before, Some(Held::Revoked), "{lane:?} released, but nobody had asked for it");
            }
            Asked::Grant(_) | Asked::Close | Asked::Publish | Asked::Settle | Asked::Release(_) | Asked::Other => (),
        }
    }

    fn finish(&mut self, token: Token, ended: Ended) -> Asked {
        let asked = self.open.remove(&token);
        assert!(asked.is_some(), "{token:?} ended {ended:?}; before: {:?}", self.ended.get(&token));
        self.ended.insert(token, ended);
        asked.expect("asserted above")
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
        match event {
            Event::LaneAssigned { lane, .. } => {
                assert!(self.holds_lanes, "{lane:?} assigned by a backend without lane assignment");
                let before = self.lanes.insert(lane, Held::Assigned);
                assert_eq!(before, None, "{lane:?} assigned to the member that holds it");
            }
            Event::LaneRevoked(lane) => {
                let before = self.lanes.insert(lane, Held::Revoked);
                assert_eq!(before, Some(Held::Assigned), "{lane:?} revoked from a member that did not have it");
                self.fresh_revoked.push(lane);
            }
            Event::LaneLost(lane) => {
                assert!(self.lanes.remove(&lane).is_some(), "{lane:?} lost by a member that did not have it");
            }
            Event::Disconnected => {
                assert!(self.connected, "disconnected twice");
                self.connected = false;
            }
            Event::Reconnected => {
                assert!(!self.connected, "reconnected without having been disconnected");
                self.connected = true;
            }
            Event::Blocked | Event::Unblocked => (),
        }
    }
}

fn check_prefix(before: usize, after: usize, accepted: Accepted) {
    assert_eq!(accepted.taken, before - after, "submit says what it took, and the batch is advanced by that");
    assert_eq!(accepted.blocked.is_some(), after > 0, "a shorter prefix has a reason, a whole batch has none");
}
