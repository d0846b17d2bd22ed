//! Compaction by key: where there is one, the latest message of each key stays where it was and a tombstone goes in the end; elsewhere every
//! message stays.
//!
//! Leaves out when a pass begins and how much it costs, which the model's own tests count.

use super::publish::{keyed, sorted_numbers};
use super::session::{Channel, Item, Session};
use super::{Rig, Tuning};
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};

/// Without compaction, a message needs no key and stays, whatever comes after it.
fn without_compaction(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    session.published(producer, &keyed(channel, 0..20, 2));
    session.published(producer, &super::numbered(channel, 20..22));
    session.deliveries(member, 22);
    assert_eq!(sorted_numbers(&session, member), (0..22).collect::<Vec<_>>());
    session.end();
}

/// Waits until so many messages are left to be read.
fn is_left(session: &mut Session<'_>, channel: Channel, count: u64) {
    let left = |session: &mut Session<'_>| session.describe(channel).lanes.iter().map(|lane| lane.ready).sum::<u64>();
    for _ in 0..1_000 {
        if left(session) == count {
            return;
        }
        session.idle();
    }
    panic!("{} are left, {count} were due", left(session));
}

/// Of each key the latest message is left, where it was; what has no key is refused, and a key that is deleted goes.
pub fn the_latest_message_of_each_key_stays_or_all_do(rig: &mut dyn Rig) {
    if !rig.broker().capabilities().has(Feature::Compaction) {
        return without_compaction(rig);
    }
    let mut session = Session::tuned(rig, Tuning::Compacted);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    let tokens = session.publish(producer, &super::numbered(channel, 0..1));
    let outcomes = session.outcomes(producer, &tokens);
    assert_eq!(outcomes[0].status, Status::Refused(Refusal::NoKey), "it has no key");
    session.published(producer, &keyed(channel, 0..40, 4));
    is_left(&mut session, channel, 4);
    let deleted = Item { payload: Vec::new(), ..keyed(channel, 0..1, 4).remove(0) };
    session.published(producer, &[deleted]);
    // A first pass finds the tombstone, and the next one leaves it out.
    is_left(&mut session, channel, 4);
    session.published(producer, &keyed(channel, 41..42, 4));
    is_left(&mut session, channel, 3);
    let member = session.serving("g", channel);
    session.deliveries(member, 3);
    let got: Vec<(u64, u64)> = session.got(member).iter().map(|got| (got.number(), got.receipt.position)).collect();
    assert_eq!(got, [(38, 38), (39, 39), (41, 41)], "with the positions that they had");
    session.end();
}
