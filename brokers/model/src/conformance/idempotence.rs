//! Idempotent producers: what one publishes again under the same name and sequence is acknowledged where it is, or is another message.
//!
//! Leaves out restarts, which are the models' and the engine's own tests.

use super::Rig;
use super::publish::sorted_numbers;
use super::session::{Channel, Item, Session};
use crate::capabilities::Feature;
use crate::completion::{Refusal, Status};
use crate::headers::HeaderBlock;
use crate::identity::Identity;

/// Messages with every second one's key, numbered by their sequences.
fn named(channel: Channel, epoch: u32, sequences: std::ops::Range<u64>) -> Vec<Item> {
    let item = |sequence: u64| {
        let mut block = HeaderBlock::new();
        Identity { producer: b"orders", epoch, sequence }.put(&mut block).expect("it is short");
        let key = if sequence.is_multiple_of(2) { sequence.to_le_bytes().to_vec() } else { Vec::new() };
        Item { channel: channel.id, key, headers: block.to_bytes(), payload: sequence.to_le_bytes().to_vec() }
    };
    sequences.map(item).collect()
}

/// A producer that comes again under its name publishes what it has no answer for once more: each message is stored once, and
/// acknowledged where it was stored first.
pub fn a_repeat_of_a_producer_with_a_name_is_stored_once_or_is_another_message(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let has = session.has(Feature::Idempotence);
    let (tells, waits) = (session.has(Feature::PublishPosition), session.has(Feature::Decoupled));
    let channel = session.create("channel", 2, &["g"]);
    let member = session.serving("g", channel);
    if !waits {
        session.idle();
    }
    let producer = session.producer();
    let first = session.published(producer, &named(channel, 0, 0..10));
    // In two batches at once, of which the second repeats what the first has just handed over.
    let more = session.publish(producer, &named(channel, 0, 10..14));
    let again = session.publish(producer, &named(channel, 0, 12..14));
    let more = session.outcomes(producer, &more);
    let again = session.outcomes(producer, &again);
    session.close(producer);
    let next = session.producer();
    let repeated = session.published(next, &named(channel, 0, 5..10));
    session.published(next, &named(channel, 0, 14..20));
    if has {
        let place = |outcome: &crate::Outcome| (outcome.status, outcome.lane, outcome.position);
        assert!(tells, "a repeat is told where the first is");
        assert_eq!(repeated.iter().map(place).collect::<Vec<_>>(), first[5..].iter().map(place).collect::<Vec<_>>());
        assert_eq!(again.iter().map(place).collect::<Vec<_>>(), more[2..].iter().map(place).collect::<Vec<_>>());
    }
    session.deliveries(member, if has { 20 } else { 27 });
    session.idle();
    let mut due: Vec<u64> = (0..20).collect();
    if !has {
        due.extend((5..10).chain(12..14));
        due.sort_unstable();
    }
    assert_eq!(sorted_numbers(&session, member), due);
    session.end();
}

/// What comes after a gap is refused, and so is an instance of which there is a newer one; or sequences and epochs are carried.
pub fn a_gap_and_an_old_epoch_are_refused_or_carried(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let has = session.has(Feature::Idempotence);
    let channel = session.create("channel", 2, &["g"]);
    let member = session.serving("g", channel);
    if !session.has(Feature::Decoupled) {
        session.idle();
    }
    let (old, new) = (session.producer(), session.producer());
    let mut count = 0;
    let mut publish = |session: &mut Session<'_>, who, items: &[Item], refusal: Option<Refusal>| {
        let due = refusal.filter(|_| has).map_or(Status::Done, Status::Refused);
        let tokens = session.publish(who, items);
        for outcome in session.outcomes(who, &tokens) {
            assert_eq!(outcome.status, due);
        }
        count += if due == Status::Done { items.len() } else { 0 };
    };
    publish(&mut session, old, &named(channel, 1, 0..3), None);
    publish(&mut session, old, &named(channel, 1, 4..6), Some(Refusal::OutOfSequence));
    publish(&mut session, old, &named(channel, 1, 3..6), None);
    publish(&mut session, new, &named(channel, 2, 6..7), Some(Refusal::OutOfSequence));
    publish(&mut session, new, &named(channel, 2, 0..2), None);
    publish(&mut session, old, &named(channel, 1, 6..8), Some(Refusal::Fenced));
    publish(&mut session, old, &named(channel, 1, 0..1), Some(Refusal::Fenced));
    publish(&mut session, new, &named(channel, 2, 2..4), None);
    session.deliveries(member, count);
    session.idle();
    assert_eq!(session.got(member).len(), count);
    session.end();
}
