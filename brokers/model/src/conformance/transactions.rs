//! Transactions: what is published and settled in one counts together or not at all, and nobody is handed what may be taken back.

use super::publish::{keyed, sorted_numbers};
use super::session::{Channel, Session, Who};
use super::settle::receipts;
use super::{Rig, Tuning};
use crate::batch::{Control, Transaction, Verdict};
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};
use crate::contract::{Contract, Delivery};

/// Without transactions, none begins and none ends.
fn without_transactions(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    for step in [begin(None), begin(Some("g")), Transaction::Commit, Transaction::Abort] {
        session.refused(producer, Control::Transaction(step), Refusal::Unsupported);
    }
    session.published(producer, &keyed(channel, 0..5, 1));
    session.deliveries(member, 5);
    session.end();
}

fn begin(group: Option<&str>) -> Transaction {
    Transaction::Begin { group: group.map(str::to_owned), name: None }
}

/// A session under a contract for which members are handed only what is committed.
fn exactly_once(rig: &mut dyn Rig) -> Session<'_> {
    let contract = Contract { delivery: Delivery::ExactlyOnce, ..rig.contract() };
    rig.renew(&contract, Tuning::Usual).expect("a backend with transactions keeps exactly-once");
    Session::open(rig)
}

fn done(session: &mut Session<'_>, producer: Who, step: Transaction) {
    let text = format!("{step:?}");
    assert_eq!(session.ended(producer, Control::Transaction(step)).status, Status::Done, "{text}");
}

/// Nothing of an open transaction is delivered, nor what follows it in its lanes; all of it once it is committed, and nothing once
/// it is aborted.
pub fn a_transaction_counts_whole_or_not_at_all_or_is_refused(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Transactions) {
        return without_transactions(rig);
    }
    let mut session = exactly_once(rig);
    let channel = session.create("channel", 2, &["g"]);
    let member = session.serving("g", channel);
    let (producer, other) = (session.producer(), session.producer());
    session.refused(producer, Control::Transaction(Transaction::Commit), Refusal::Transaction);
    session.refused(member, Control::Transaction(begin(None)), Refusal::WrongRole);
    done(&mut session, producer, begin(None));
    session.refused(producer, Control::Transaction(begin(None)), Refusal::Transaction);
    session.published(producer, &keyed(channel, 0..20, 10));
    session.published(other, &keyed(channel, 20..30, 10));
    session.idle();
    assert_eq!(session.got(member).len(), 0, "it is open");
    done(&mut session, producer, Transaction::Commit);
    session.deliveries(member, 30);
    done(&mut session, producer, begin(None));
    session.published(producer, &keyed(channel, 30..40, 10));
    session.published(other, &keyed(channel, 40..50, 10));
    done(&mut session, producer, Transaction::Abort);
    session.published(producer, &keyed(channel, 50..55, 10));
    session.deliveries(member, 45);
    session.idle();
    assert_eq!(sorted_numbers(&session, member), (0..30).chain(40..55).collect::<Vec<_>>());
    session.end();
}

fn committed(session: &mut Session<'_>, channel: Channel) -> u64 {
    session.describe(channel).lanes.iter().map(|lane| lane.committed).sum()
}

/// Read, work, publish: positions move with what was published, or neither happens and it is read again.
pub fn what_is_read_and_published_in_one_transaction_counts_together_or_is_refused(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Transactions) {
        return without_transactions(rig);
    }
    let mut session = exactly_once(rig);
    let (read, written) = (session.create("read", 2, &["g"]), session.create("written", 1, &["h"]));
    let (source, worker) = (session.producer(), session.producer());
    let reader = session.member("g", read);
    let result = session.serving("h", written);
    session.published(source, &keyed(read, 0..20, 10));
    session.ask(reader, Control::Grant(100));
    let got = receipts(&session.deliveries(reader, 20));
    assert_eq!(session.settled(worker, &got[..1], Verdict::Ack), [Status::Refused(Refusal::WrongRole)]);
    done(&mut session, worker, begin(Some("g")));
    session.published(worker, &keyed(written, 100..120, 10));
    assert_eq!(session.settled(worker, &got, Verdict::Ack), [Status::Done; 20]);
    session.idle();
    assert_eq!((committed(&mut session, read), session.got(result).len()), (0, 0), "it is open");
    done(&mut session, worker, Transaction::Commit);
    session.deliveries(result, 20);
    assert_eq!(committed(&mut session, read), 20);

    session.published(source, &keyed(read, 20..30, 10));
    let more = receipts(&session.deliveries(reader, 30)[20..]);
    done(&mut session, worker, begin(Some("g")));
    session.published(worker, &keyed(written, 120..130, 10));
    assert_eq!(session.settled(worker, &more, Verdict::Ack), [Status::Done; 10]);
    done(&mut session, worker, Transaction::Abort);
    assert_eq!(committed(&mut session, read), 20);
    session.close(reader);
    let next = session.serving("g", read);
    session.deliveries(next, 10);
    session.idle();
    assert_eq!(sorted_numbers(&session, next), (20..30).collect::<Vec<_>>());
    assert_eq!(sorted_numbers(&session, result), (100..120).collect::<Vec<_>>());
    session.end();
}

/// Who reads on after a lane has moved reads what was not committed; so the commit that would have moved its position is refused.
pub fn a_commit_for_a_lane_that_has_moved_is_refused_and_taken_back(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Transactions) {
        return without_transactions(rig);
    }
    let mut session = exactly_once(rig);
    let (read, written) = (session.create("read", 1, &["g"]), session.create("written", 1, &["h"]));
    let (source, worker) = (session.producer(), session.producer());
    let reader = session.member("g", read);
    let result = session.serving("h", written);
    session.published(source, &keyed(read, 0..10, 10));
    session.ask(reader, Control::Grant(100));
    let got = receipts(&session.deliveries(reader, 10));
    done(&mut session, worker, begin(Some("g")));
    session.published(worker, &keyed(written, 100..110, 10));
    assert_eq!(session.settled(worker, &got, Verdict::Ack), [Status::Done; 10]);
    session.close(reader);
    let next = session.serving("g", read);
    session.deliveries(next, 10);
    session.refused(worker, Control::Transaction(Transaction::Commit), Refusal::StaleReceipt);
    done(&mut session, worker, begin(Some("g")));
    assert_eq!(session.settled(worker, &got[..1], Verdict::Ack), [Status::Refused(Refusal::StaleReceipt)]);
    session.published(worker, &keyed(written, 200..203, 3));
    done(&mut session, worker, Transaction::Commit);
    session.deliveries(result, 3);
    session.idle();
    assert_eq!(sorted_numbers(&session, result), (200..203).collect::<Vec<_>>());
    session.end();
}

/// Who begins under a name takes it from the one that had it: what that one has open is taken back, and what it asks is refused.
pub fn who_begins_under_a_name_fences_the_one_that_had_it_or_is_refused(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Transactions) {
        return without_transactions(rig);
    }
    let named = |name: &str| Transaction::Begin { group: Some("g".to_owned()), name: Some(name.to_owned()) };
    let mut session = exactly_once(rig);
    let (read, written) = (session.create("read", 1, &["g"]), session.create("written", 1, &["h"]));
    let (source, old, new) = (session.producer(), session.producer(), session.producer());
    let reader = session.member("g", read);
    let result = session.serving("h", written);
    session.published(source, &keyed(read, 0..10, 10));
    session.ask(reader, Control::Grant(100));
    let got = receipts(&session.deliveries(reader, 10));
    for name in [String::new(), "n".repeat(256)] {
        session.refused(old, Control::Transaction(named(&name)), Refusal::OutOfRange);
    }
    done(&mut session, old, named("orders"));
    session.published(old, &keyed(written, 100..110, 10));
    assert_eq!(session.settled(old, &got, Verdict::Ack), [Status::Done; 10]);
    done(&mut session, new, named("another"));
    done(&mut session, new, Transaction::Abort);
    done(&mut session, new, named("orders"));
    assert_eq!(session.settled(old, &got[..1], Verdict::Ack), [Status::Refused(Refusal::Fenced)]);
    for step in [Transaction::Commit, Transaction::Abort, begin(None), named("orders")] {
        session.refused(old, Control::Transaction(step), Refusal::Fenced);
    }
    let late = session.publish(old, &keyed(written, 110..111, 1));
    assert_eq!(session.outcomes(old, &late)[0].status, Status::Refused(Refusal::Fenced));
    session.published(new, &keyed(written, 200..210, 10));
    assert_eq!(session.settled(new, &got, Verdict::Ack), [Status::Done; 10]);
    done(&mut session, new, Transaction::Commit);
    session.close(old);
    session.deliveries(result, 10);
    session.idle();
    assert_eq!(sorted_numbers(&session, result), (200..210).collect::<Vec<_>>());
    assert_eq!(committed(&mut session, read), 10);
    session.end();
}
