//! Callers that wait for the work: tries that are given up, deadlines that propagate, back-pressure, and a retry storm, all in
//! virtual time.
//!
//! Leaves out what the ledger judges, which is where callers wait for acceptance only.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::breaker::BreakerOptions;
use super::tries::Tries;
use super::{Answer, DirectModel, DirectOptions, Overflow};
use crate::batch::{
    Accepted, Blocked, ChannelId, ChannelSpec, Control, LaneId, Publishes, Receipt, Settlement, Token, Verdict,
};
use crate::broker::{ClientSpec, Role};
use crate::completion::{Event, Failure, Status};
use crate::contract::{Contract, Delivery, Order};
use crate::journal::Journal;
use crate::machine::{ChannelRecord, Effects, Model, Record, Write};
use crate::time::{Span, Time};

const ADMIN: u32 = 0;
const CALLER: u32 = 1;
/// The first receiver's number.
const RECEIVERS: u32 = 10;

/// One service under one caller, with everything that came out of it.
#[derive(Clone, Debug)]
struct Rig {
    model: DirectModel,
    now: Time,
    out: Effects,
    /// The last barrier that was not stored.
    ticket: Option<u64>,
    tokens: u64,
    /// How calls ended, by token, in order.
    ended: Vec<(u64, Status)>,
    /// What receivers were given: receiver, receipt, redeliveries.
    given: Vec<(u32, Receipt, u16)>,
    events: Vec<(u32, Event)>,
    /// Receivers that are connected, and their groups.
    receivers: BTreeMap<u32, u32>,
    next_receiver: u32,
}

impl Rig {
    fn new(options: DirectOptions, groups: u32) -> Self {
        let mut rig = Self {
            model: DirectModel::new(options, &Contract::default()).expect("the default contract is kept"),
            now: Time(1_000),
            out: Effects::default(),
            ticket: None,
            tokens: 0,
            ended: Vec::new(),
            given: Vec::new(),
            events: Vec::new(),
            receivers: BTreeMap::new(),
            next_receiver: RECEIVERS,
        };
        rig.connect(ADMIN, Role::Administrator);
        let groups = (0..groups).map(|group| format!("g{group}")).collect();
        let spec = ChannelSpec { name: "service".to_owned(), lanes: 1, groups, ..ChannelSpec::default() };
        rig.control(ADMIN, &Control::Create(spec));
        rig.connect(CALLER, Role::Producer);
        rig
    }

    fn connect(&mut self, number: u32, role: Role) {
        let spec = ClientSpec { number, role, placement: 0 };
        self.model.connect(self.now, &spec, &mut self.out).expect("the client connects");
        self.absorb();
    }

    fn join(&mut self, group: u32) -> u32 {
        let number = self.next_receiver;
        self.next_receiver += 1;
        self.receivers.insert(number, group);
        self.connect(number, Role::Member { group: format!("g{group}"), channels: vec![ChannelId(0)] });
        number
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn control(&mut self, client: u32, control: &Control) {
        let token = self.token();
        self.model.control(self.now, client, token, control, &mut self.out);
        self.absorb();
    }

    fn close(&mut self, receiver: u32) {
        self.receivers.remove(&receiver);
        self.control(receiver, &Control::Close);
    }

    fn call(&mut self, count: usize) -> Accepted {
        let mut batch = Publishes::of_lengths();
        for _ in 0..count {
            let token = self.token();
            batch.push_length(token, ChannelId(0), b"", b"", 100);
        }
        let accepted = self.model.publish(self.now, CALLER, &batch, &mut self.out);
        self.absorb();
        accepted
    }

    /// Calls that are all taken.
    fn calls(&mut self, count: usize) {
        assert_eq!(self.call(count), Accepted { taken: count, blocked: None });
    }

    fn store(&mut self) {
        while let Some(ticket) = self.ticket.take() {
            self.model.stored(self.now, ticket, Ok(()), &mut self.out);
            self.absorb();
        }
    }

    fn settle(&mut self, receiver: u32, receipt: Receipt) -> Status {
        let token = self.token();
        let settlement = Settlement { token, receipt, verdict: Verdict::Ack };
        self.model.settle(self.now, receiver, &[settlement], &mut self.out);
        let outcome = self.out.outcomes.iter().find(|(_, outcome)| outcome.token == token);
        let status = outcome.expect("a settlement is answered at once").1.status;
        self.absorb();
        status
    }

    fn pass(&mut self, span: Span) {
        let end = self.now + span;
        while let Some(due) = self.model.next_deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.model.on_deadline(self.now, &mut self.out);
            self.absorb();
            assert!(self.model.next_deadline().is_none_or(|again| again > self.now), "what was due at {due:?} is done");
        }
        self.now = end;
    }

    /// Takes in what a step brought.
    fn absorb(&mut self) {
        for write in &self.out.writes {
            if let Write::Barrier(ticket) = write {
                self.ticket = Some(*ticket);
            }
        }
        for (client, outcome) in self.out.outcomes.iter() {
            if client == CALLER {
                assert!(self.ended.iter().all(|(token, _)| *token != outcome.token.0), "{outcome:?} ended twice");
                self.ended.push((outcome.token.0, outcome.status));
            }
        }
        for run in &self.out.deliveries {
            assert!(self.receivers.contains_key(&run.client), "{run:?} goes to a receiver that is there");
            for n in 0..u64::from(run.count) {
                let receipt = Receipt { position: run.receipt.position + n, ..run.receipt };
                self.given.push((run.client, receipt, run.redeliveries));
            }
        }
        self.events.append(&mut self.out.events);
        self.out.clear();
    }

    fn statuses(&self) -> Vec<Status> {
        self.ended.iter().map(|(_, status)| *status).collect()
    }

    /// Asserts that nothing is left of calls that have ended.
    fn assert_empty(&self) {
        assert!(self.model.strays.is_empty(), "{:?}", self.model.strays);
        for lane in &self.model.lanes {
            assert_eq!(lane.base, lane.end, "every request is dropped");
        }
        for &receiver in self.receivers.keys() {
            let slot = self.model.peers.slot(receiver).expect("it is connected");
            assert_eq!(self.model.peers.get(slot).held, 0, "receiver {receiver} has its whole service queue");
        }
    }
}

const fn millis(ms: u64) -> Span {
    Span::from_millis(ms)
}

/// A caller that waits for the work: 100 ms for each of three tries, without jitter worth speaking of between them.
fn served() -> DirectOptions {
    DirectOptions {
        answer: Answer::Served,
        try_timeout: Some(millis(100)),
        retries: 2,
        backoff: Span(2),
        max_backoff: Span(2),
        ..DirectOptions::default()
    }
}

/// A receipt of the only endpoint's request.
fn receipt(position: u64, epoch: u32) -> Receipt {
    Receipt { lane: LaneId(0), position, epoch }
}

#[test]
fn a_caller_that_waits_for_the_work_has_its_answer_when_every_group_has_done_it() {
    let mut rig = Rig::new(served(), 2);
    let (first, second) = (rig.join(0), rig.join(1));
    assert_eq!(rig.call(1).taken, 1);
    rig.store();
    rig.control(first, &Control::Grant(5));
    rig.control(second, &Control::Grant(5));
    assert_eq!(rig.given, [(first, receipt(0, 0), 0), (second, receipt(0, 0), 0)]);
    assert_eq!(rig.settle(first, receipt(0, 0)), Status::Done);
    assert_eq!(rig.statuses(), [], "the other group has not answered");
    assert_eq!(rig.settle(second, receipt(0, 0)), Status::Done);
    assert_eq!(rig.statuses(), [Status::Done]);
    rig.assert_empty();
}

#[test]
fn a_try_that_was_given_up_is_refused_without_work_where_deadlines_propagate() {
    let mut rig = Rig::new(served(), 1);
    let receiver = rig.join(0);
    rig.calls(1);
    rig.store();
    rig.pass(millis(150));
    assert_eq!((rig.model.tries.sent_again, rig.statuses().len()), (1, 0), "it is sent again, behind its first try");
    rig.control(receiver, &Control::Grant(5));
    assert_eq!(rig.given, [(receiver, receipt(0, 1), 0)], "only the try that somebody waits for is worked on");
    assert_eq!(rig.model.tries.refused_late, 1);
    assert_eq!(rig.settle(receiver, receipt(0, 1)), Status::Done);
    assert_eq!(rig.statuses(), [Status::Done]);
    rig.assert_empty();
}

#[test]
fn without_deadlines_a_receiver_works_for_nobody() {
    let mut rig = Rig::new(DirectOptions { deadlines: false, ..served() }, 1);
    let receiver = rig.join(0);
    rig.calls(1);
    rig.store();
    rig.pass(millis(150));
    rig.control(receiver, &Control::Grant(5));
    assert_eq!(rig.given, [(receiver, receipt(0, 0), 0), (receiver, receipt(0, 1), 1)], "both, the second marked");
    assert_eq!(rig.settle(receiver, receipt(0, 0)), Status::Done);
    assert_eq!((rig.model.tries.worked_for_nobody, rig.statuses().len()), (1, 0), "nobody waits for that response");
    assert_eq!(rig.settle(receiver, receipt(0, 1)), Status::Done);
    assert_eq!(rig.statuses(), [Status::Done]);
    rig.assert_empty();
}

#[test]
fn a_response_that_comes_too_late_answers_nobody_and_the_call_ends_unknown() {
    let mut rig = Rig::new(DirectOptions { retries: 0, ..served() }, 1);
    let receiver = rig.join(0);
    rig.control(receiver, &Control::Grant(1));
    rig.calls(1);
    rig.store();
    assert_eq!(rig.given, [(receiver, receipt(0, 0), 0)]);
    rig.pass(millis(100));
    assert_eq!(rig.statuses(), [Status::Unknown], "its work may be done");
    assert_eq!(rig.settle(receiver, receipt(0, 0)), Status::Done, "the work is done all the same");
    let expected = Tries { worked_for_nobody: 1, unanswered: 1, ..Tries::default() };
    assert_eq!((rig.model.tries, rig.statuses().len()), (expected, 1));
    assert_ne!(rig.settle(receiver, receipt(0, 0)), Status::Done, "only once");
    rig.assert_empty();
}

#[test]
fn a_deadline_bounds_all_tries_and_what_is_left_bounds_the_last() {
    let options = DirectOptions { timeout: millis(250), retries: 9, ..served() };
    let mut rig = Rig::new(options, 1);
    let receiver = rig.join(0);
    let start = rig.now;
    rig.calls(1);
    rig.store();
    rig.pass(millis(249));
    assert_eq!((rig.statuses().len(), rig.model.tries.sent_again), (0, 2), "at 100 and 200 ms");
    rig.pass(millis(1));
    assert_eq!((rig.statuses(), rig.now), (vec![Status::Unknown], start + millis(250)));
    rig.control(receiver, &Control::Grant(9));
    assert_eq!((rig.given.len(), rig.model.tries.refused_late), (0, 3), "its three tries are refused");
    rig.assert_empty();
}

#[test]
fn what_a_request_waited_for_a_receiver_is_taken_from_the_wait_for_its_answer() {
    let options = DirectOptions { backoff: millis(600), max_backoff: millis(600), ..DirectOptions::default() };
    let mut rig = Rig::new(options, 1);
    let start = rig.now;
    rig.calls(1);
    rig.join(0);
    rig.pass(millis(700));
    assert!(rig.ticket.is_some(), "a receiver took it at its second try, and stores it");
    rig.pass(millis(299));
    assert_eq!(rig.statuses(), []);
    rig.pass(millis(1));
    assert_eq!((rig.statuses(), rig.now), (vec![Status::Failed(Failure::Timeout)], start + millis(1_000)));
    rig.store();
    rig.assert_empty();
}

#[test]
fn a_receiver_that_leaves_hands_on_what_somebody_waits_for_and_takes_the_rest_along() {
    let mut rig = Rig::new(DirectOptions { deadlines: false, ..served() }, 1);
    let first = rig.join(0);
    rig.control(first, &Control::Grant(1));
    rig.calls(2);
    rig.store();
    assert_eq!(rig.given, [(first, receipt(0, 0), 0)]);
    rig.pass(millis(150));
    let second = rig.join(0);
    rig.close(first);
    rig.control(second, &Control::Grant(9));
    assert_eq!(rig.given[1..], [(second, receipt(0, 1), 1), (second, receipt(1, 1), 0)], "their second tries");
    rig.settle(second, receipt(0, 1));
    rig.settle(second, receipt(1, 1));
    assert_eq!(rig.statuses(), [Status::Done; 2]);
    rig.assert_empty();
}

#[test]
fn a_service_that_is_removed_ends_its_calls_and_their_tries() {
    let mut rig = Rig::new(served(), 1);
    let receiver = rig.join(0);
    rig.control(receiver, &Control::Grant(1));
    rig.calls(2);
    rig.store();
    rig.pass(millis(150));
    rig.calls(1);
    rig.control(ADMIN, &Control::Delete(ChannelId(0)));
    let failed = Status::Failed(Failure::NoReceiver);
    assert_eq!(rig.statuses(), [Status::Unknown, Status::Unknown, failed], "the last was not stored yet");
    assert!(rig.model.strays.is_empty());
    let slot = rig.model.peers.slot(receiver).unwrap();
    assert_eq!(rig.model.peers.get(slot).held, 0);
}

#[test]
fn after_a_restart_what_was_written_down_is_worked_on_and_answers_nobody() {
    let mut journal = Journal::default();
    let (name, groups) = ("service".to_owned(), vec!["g0".to_owned(), "g1".to_owned()]);
    let made =
        ChannelRecord { channel: ChannelId(0), first: LaneId(0), lanes: 1, name, groups, ..ChannelRecord::default() };
    journal.record(&Record::Channel(Box::new(made)));
    journal.message(LaneId(0), 0, 100, Time(1));
    let mut rig = Rig::new(served(), 2);
    rig.model = DirectModel::new(served(), &Contract::default()).expect("the default contract is kept");
    rig.model.restore(rig.now, &journal, &mut rig.out).expect("the journal holds together");
    rig.absorb();
    for group in 0..2 {
        let receiver = rig.join(group);
        rig.control(receiver, &Control::Grant(1));
        assert_eq!(rig.given.last(), Some(&(receiver, receipt(0, 1), 1)), "it may have been worked on before");
        rig.pass(Span::from_secs(2));
        assert_eq!(rig.settle(receiver, receipt(0, 1)), Status::Done, "nobody gave it up");
    }
    assert_eq!((rig.statuses(), rig.model.tries), (Vec::new(), Tries::default()));
    rig.assert_empty();
}

#[test]
fn a_caller_is_held_back_until_a_receiver_has_room_where_overflow_blocks() {
    let options = DirectOptions { overflow: Overflow::Block, service_queue: 2, ..DirectOptions::default() };
    let mut rig = Rig::new(options, 1);
    let receiver = rig.join(0);
    assert_eq!(rig.call(3), Accepted { taken: 2, blocked: Some(Blocked::Receivers) });
    rig.store();
    assert_eq!(rig.call(1), Accepted { taken: 0, blocked: Some(Blocked::Receivers) });
    assert_eq!(rig.events, [(CALLER, Event::Blocked)], "told once");
    rig.control(receiver, &Control::Grant(1));
    assert_eq!(rig.settle(receiver, receipt(0, 0)), Status::Done);
    assert_eq!(rig.events[1..], [(CALLER, Event::Unblocked)]);
    assert_eq!(rig.call(2), Accepted { taken: 1, blocked: Some(Blocked::Receivers) });
    rig.store();
    rig.close(receiver);
    assert_eq!(rig.events[2..], [(CALLER, Event::Blocked), (CALLER, Event::Unblocked)], "there is nobody to wait for");
    assert_eq!(rig.call(1).taken, 1, "it is tried as if the service were away");
    rig.pass(Span::from_secs(2));
    assert_eq!(rig.statuses().last(), Some(&Status::Failed(Failure::NoReceiver)));
}

#[test]
fn waiting_for_the_work_is_refused_where_a_second_try_would_break_the_contract() {
    let refused = |contract: Contract| {
        let refusal = DirectModel::new(served(), &contract).expect_err("refused");
        refusal.missing.into_iter().map(|missing| missing.axis).collect::<Vec<_>>()
    };
    assert_eq!(refused(Contract { delivery: Delivery::AtMostOnce, ..Contract::default() }), ["delivery"]);
    assert_eq!(refused(Contract { order: Order::PerKey, ..Contract::default() }), ["order"]);
}

/// What a service does in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    called: u64,
    /// Calls that got a response.
    answered: u64,
    /// Pieces of work done, for somebody or nobody.
    worked: u64,
}

/// One worker that takes 10 ms for a request, under so many calls a second for so many seconds, phase by phase.
fn storm(options: DirectOptions, phases: &[(u64, u64)]) -> (Vec<Second>, Tries) {
    const WORK: Span = millis(10);
    const SECOND: u64 = 1_000_000_000;
    let mut rig = Rig::new(options, 1);
    let receiver = rig.join(0);
    rig.control(receiver, &Control::Grant(1));
    let start = rig.now;
    let mut begin = start;
    let mut calls = Vec::new();
    for &(rate, seconds) in phases {
        calls.extend((0..rate * seconds).map(|n| begin + Span(n * SECOND / rate)));
        begin += Span::from_secs(seconds);
    }
    let mut seconds = vec![Second::default(); (begin.since(start).0 / SECOND) as usize];
    let mut calls = calls.into_iter().peekable();
    let mut work: Option<(Time, Receipt)> = None;
    while rig.now < begin {
        let due = [calls.peek().copied(), work.map(|(end, _)| end), rig.model.next_deadline()];
        let Some(next) = due.into_iter().flatten().min().filter(|&next| next < begin) else { break };
        let second = &mut seconds[(next.since(start).0 / SECOND) as usize];
        rig.pass(next.since(rig.now));
        if let Some((_, done)) = work.take_if(|(end, _)| *end <= next) {
            assert_eq!(rig.settle(receiver, done), Status::Done);
            rig.control(receiver, &Control::Grant(1));
            second.worked += 1;
        }
        if calls.next_if(|&at| at <= next).is_some() {
            assert_eq!(rig.call(1).taken, 1);
            second.called += 1;
        }
        rig.store();
        if let Some((_, given, _)) = rig.given.pop() {
            assert!(work.is_none() && rig.given.is_empty(), "one worker has one request at a time");
            work = Some((next + WORK, given));
        }
        second.answered += rig.ended.drain(..).filter(|(_, status)| *status == Status::Done).count() as u64;
    }
    (seconds, rig.model.tries)
}

/// 60 calls a second where 100 could be served, for two seconds 300, then 60 again.
const PHASES: &[(u64, u64)] = &[(60, 2), (300, 2), (60, 16)];

/// Impatient callers with three retries, a queue three times as long as their patience, and nothing against a storm.
fn naive() -> DirectOptions {
    DirectOptions {
        answer: Answer::Served,
        deadlines: false,
        try_timeout: Some(millis(200)),
        service_queue: 64,
        breaker: BreakerOptions { failures: 0, ..BreakerOptions::default() },
        ..DirectOptions::default()
    }
}

fn protected() -> DirectOptions {
    let breaker = BreakerOptions { calls: 20, failures: 10, open_for: millis(500), probes: 5 };
    DirectOptions { deadlines: true, breaker, ..naive() }
}

#[test]
fn a_retry_storm_keeps_a_service_down_after_its_cause_is_gone_and_deadlines_with_a_breaker_bring_it_back() {
    let (naive, naive_tries) = storm(naive(), PHASES);
    let (protected, protected_tries) = storm(protected(), PHASES);
    let sum = |seconds: &[Second], of: fn(&Second) -> u64| seconds.iter().map(of).sum::<u64>();
    for seconds in [&naive, &protected] {
        assert_eq!(sum(&seconds[..2], |s| s.answered), 120, "before the burst every call is answered: {seconds:?}");
    }
    // Ten seconds that begin six after the burst: the load is 60 % of what the worker can do.
    let tail = 10..20;
    assert_eq!(sum(&naive[tail.clone()], |s| s.called), 600);
    assert_eq!(sum(&naive[tail.clone()], |s| s.answered), 0, "collapsed for good: {naive:?}");
    assert_eq!(sum(&naive[tail.clone()], |s| s.worked), 1_000, "and the worker never rests: {naive:?}");
    assert!(naive_tries.worked_for_nobody > 1_500, "{naive_tries:?}");
    assert_eq!(sum(&protected[tail.clone()], |s| s.answered), 600, "back to all of the load: {protected:?}");
    assert_eq!(sum(&protected[tail], |s| s.worked), 600, "and no work in vain: {protected:?}");
    assert!(protected_tries.worked_for_nobody < 100, "{protected_tries:?}");
    assert!(protected_tries.refused_late > 0, "{protected_tries:?}");
}

#[test]
fn a_storm_is_the_same_every_time() {
    assert_eq!(storm(protected(), PHASES), storm(protected(), PHASES));
}

/// A command of a random trial, in small numbers.
#[derive(Clone, Copy, Debug)]
enum Command {
    Call(u8),
    Store,
    Grant(u8, u8),
    /// Settles one of the receipts that were given, counted from the newest, by its own receiver.
    Settle(u8),
    Join(u8),
    Close(u8),
    Pass(u16),
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => (1..5u8).prop_map(Command::Call),
        4 => Just(Command::Store),
        4 => (any::<u8>(), 1..5u8).prop_map(|(receiver, count)| Command::Grant(receiver, count)),
        8 => (0..10u8).prop_map(Command::Settle),
        1 => (0..2u8).prop_map(Command::Join),
        1 => any::<u8>().prop_map(Command::Close),
        5 => prop_oneof![0..20u16, 0..150u16, 900..1_200u16].prop_map(Command::Pass),
    ]
}

fn any_options() -> impl Strategy<Value = DirectOptions> {
    let overflow = prop::sample::select(vec![Overflow::Refuse, Overflow::Block]);
    let failures = prop::sample::select(vec![0, 3]);
    (1..6u32, 0..4u32, any::<bool>(), overflow, failures).prop_map(
        |(service_queue, retries, deadlines, overflow, failures)| DirectOptions {
            service_queue,
            retries,
            deadlines,
            overflow,
            breaker: BreakerOptions { calls: 10, failures, open_for: millis(100), probes: 2 },
            ..served()
        },
    )
}

/// Does one command, notes which group's work on which position was taken, and returns how many calls were.
fn run(rig: &mut Rig, command: Command, settled: &mut BTreeSet<(u32, u64)>) -> usize {
    let mut taken = 0;
    let pick = |rig: &Rig, pick: u8| rig.receivers.keys().nth(usize::from(pick) % rig.receivers.len().max(1)).copied();
    match command {
        Command::Call(count) => taken = rig.call(count.into()).taken,
        Command::Store => rig.store(),
        Command::Grant(receiver, count) => {
            if let Some(receiver) = pick(rig, receiver) {
                rig.control(receiver, &Control::Grant(count.into()));
            }
        }
        Command::Settle(back) => {
            let Some(at) = rig.given.len().checked_sub(1 + usize::from(back)) else { return 0 };
            let (receiver, receipt, _) = rig.given[at];
            let Some(&group) = rig.receivers.get(&receiver) else { return 0 };
            if rig.settle(receiver, receipt) == Status::Done {
                settled.insert((group, receipt.position));
            }
        }
        Command::Join(group) => {
            rig.join(u32::from(group) % rig.model.groups.len() as u32);
        }
        Command::Close(receiver) => {
            if let Some(receiver) = pick(rig, receiver) {
                rig.close(receiver);
            }
        }
        Command::Pass(ms) => rig.pass(millis(ms.into())),
    }
    let slots = rig.receivers.keys().filter_map(|&receiver| rig.model.peers.slot(receiver));
    let held: u64 = slots.map(|slot| u64::from(rig.model.peers.get(slot).held)).sum();
    assert!(held >= rig.model.strays.len() as u64, "a try that was given up keeps its place");
    taken
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_ends_once_and_nothing_is_left_of_it(
        options in any_options(),
        groups in 1..3u32,
        receivers in 0..3u32,
        commands in prop::collection::vec(command(), 1..100),
    ) {
        let mut rig = Rig::new(options, groups);
        for group in (0..groups).flat_map(|group| (0..receivers).map(move |_| group)) {
            rig.join(group);
        }
        let mut settled = BTreeSet::new();
        let mut taken = 0;
        for command in commands {
            taken += run(&mut rig, command, &mut settled);
        }
        for group in 0..groups {
            rig.join(group);
        }
        for _ in 0..60 {
            rig.store();
            for receiver in rig.receivers.keys().copied().collect::<Vec<_>>() {
                rig.control(receiver, &Control::Grant(100));
            }
            for at in 0..rig.given.len() {
                let (receiver, receipt, _) = rig.given[at];
                if let Some(&group) = rig.receivers.get(&receiver) && rig.settle(receiver, receipt) == Status::Done {
                    settled.insert((group, receipt.position));
                }
            }
            rig.pass(millis(50));
        }
        prop_assert_eq!(rig.ended.len(), taken, "each call that was taken ended");
        let answered = rig.statuses().iter().filter(|status| **status == Status::Done).count();
        let whole = settled.iter().filter(|(group, _)| *group == 0);
        let whole = whole.filter(|(_, position)| (0..groups).all(|group| settled.contains(&(group, *position)))).count();
        prop_assert!(answered <= whole, "{} answered, {} worked on by every group", answered, whole);
        rig.assert_empty();
    }
}
