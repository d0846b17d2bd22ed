//! Publishing: outcomes with lane and position, every message once and byte by byte, flush, what is too large.

use std::collections::BTreeMap;

use super::Rig;
use super::session::{Channel, Item, Session, Who, numbered};
use crate::batch::{Control, LaneId};
use crate::capabilities::Feature;
use crate::completion::{Outcome, Refusal, Status};

/// Publishes are done with a lane of their channel, and the positions of each lane are dense from 0, in the batch's order; or
/// no position is told.
pub fn a_publish_is_done_with_its_lane_and_a_dense_position(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let other = session.create("other", 1, &["g"]);
    let channel = session.create("channel", 3, &["g"]);
    let producer = session.producer();
    for channel in [other, channel] {
        session.serving("g", channel);
    }
    let mut next: BTreeMap<LaneId, u64> = BTreeMap::new();
    for round in 0..4 {
        let items: Vec<Item> = keyed(channel, round * 25..(round + 1) * 25, 10);
        for Outcome { lane, position, .. } in session.published(producer, &items) {
            assert!(channel.lanes().any(|own| own == lane), "{lane:?} belongs to {channel:?}");
            let due = next.entry(lane).or_default();
            let told = if session.has(Feature::PublishPosition) { *due } else { 0 };
            assert_eq!(position, told, "the next position of {lane:?}");
            *due += 1;
        }
    }
    assert_eq!(next.values().sum::<u64>(), 100);
    assert!(next.len() > 1, "ten keys reach more than one of three lanes: {next:?}");
    assert_eq!(session.published(producer, &numbered(other, 0..1))[0].lane, other.first);
    session.end();
}

/// Numbered messages with `keys` different keys, in turn.
pub(super) fn keyed(channel: Channel, numbers: std::ops::Range<u64>, keys: u64) -> Vec<Item> {
    let start = numbers.start;
    let mut items = numbered(channel, numbers);
    for (n, item) in items.iter_mut().enumerate() {
        item.key = format!("key-{}", (start + n as u64) % keys).into_bytes();
    }
    items
}

/// The numbers that this client was delivered, sorted.
pub(super) fn sorted_numbers(session: &Session<'_>, who: Who) -> Vec<u64> {
    let mut numbers: Vec<u64> = session.got(who).iter().map(super::Got::number).collect();
    numbers.sort_unstable();
    numbers
}

/// Each published message is delivered once, with the lane of its outcome, and its position where that is told, none the first
/// time as a redelivery.
pub fn every_message_is_delivered_once_where_it_was_published(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 4, &["g"]);
    let member = session.serving("g", channel);
    let producers = [session.producer(), session.producer(), session.producer()];
    let mut places = BTreeMap::new();
    for (p, &producer) in producers.iter().enumerate() {
        let from = p as u64 * 100;
        let items = keyed(channel, from..from + 100, 30);
        for (n, outcome) in session.published(producer, &items).iter().enumerate() {
            places.insert(from + n as u64, (outcome.lane, outcome.position));
        }
    }
    session.deliveries(member, 300);
    session.idle();
    assert_eq!(sorted_numbers(&session, member), (0..300).collect::<Vec<_>>());
    let told = session.has(Feature::PublishPosition);
    for got in session.got(member) {
        let (lane, position) = places[&got.number()];
        assert_eq!(lane, got.receipt.lane, "message {}", got.number());
        assert_eq!(position, if told { got.receipt.position } else { 0 }, "message {}", got.number());
        assert_eq!((got.redeliveries, got.channel), (0, channel.id));
    }
    session.end();
}

/// Keys, headers and payloads arrive as they were sent: empty, of every byte, and large.
pub fn keys_headers_and_payloads_arrive_byte_by_byte(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    let every: Vec<u8> = (0..=255).collect();
    let large = (session.capabilities().max_message_bytes as usize / 2).min(256 * 1024);
    let pattern = |len: usize| (0..len).map(|n| (n * 31 % 251) as u8).collect::<Vec<u8>>();
    let parts = [
        (vec![], vec![], vec![]),
        (vec![], vec![], pattern(1)),
        (every.clone(), vec![], vec![]),
        (vec![], every.clone(), vec![]),
        (b"key".to_vec(), b"headers".to_vec(), every.clone()),
        (b"\0".to_vec(), b"\0\0".to_vec(), vec![0; 3]),
        (b"large".to_vec(), every, pattern(large)),
        (b"after".to_vec(), vec![], pattern(7)),
    ];
    let items: Vec<Item> =
        parts.into_iter().map(|(key, headers, payload)| Item { channel: channel.id, key, headers, payload }).collect();
    let outcomes = session.published(producer, &items);
    let got = session.deliveries(member, items.len());
    assert_eq!(got.len(), items.len());
    let told = session.has(Feature::PublishPosition);
    for (n, (item, outcome)) in items.iter().zip(outcomes).enumerate() {
        // Where no position is told, one producer's messages in one lane come in their order.
        let found: Vec<_> = if told {
            got.iter().filter(|got| got.receipt.position == outcome.position).collect()
        } else {
            vec![&got[n]]
        };
        let [got] = found[..] else { panic!("position {} was delivered {} times", outcome.position, found.len()) };
        assert!(got.key == item.key && got.headers == item.headers, "key and headers at {}", outcome.position);
        assert_eq!(got.payload_len as usize, item.payload.len());
        assert!(got.payload == item.payload, "the payload at {}", outcome.position);
    }
    session.end();
}

/// A message beyond the limit is refused; the messages around it in its batch are not.
pub fn a_message_that_is_too_large_is_refused_alone(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    let mut items = numbered(channel, 0..3);
    items[1].payload = vec![7; session.capabilities().max_message_bytes as usize + 1];
    let tokens = session.publish(producer, &items);
    let statuses: Vec<Status> = session.outcomes(producer, &tokens).iter().map(|outcome| outcome.status).collect();
    assert_eq!(statuses, [Status::Done, Status::Refused(Refusal::TooLarge), Status::Done]);
    session.deliveries(member, 2);
    session.idle();
    assert_eq!(sorted_numbers(&session, member), [0, 2]);
    session.end();
}

/// A batch of lengths is delivered as lengths, or each of its messages is refused: never stored as something else.
pub fn a_batch_of_lengths_is_delivered_as_lengths_or_refused(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    let lengths = [0, 1, 5_000];
    let tokens = session.publish_lengths(producer, channel, &lengths);
    let outcomes = session.outcomes(producer, &tokens);
    let refused = outcomes.iter().filter(|o| o.status == Status::Refused(Refusal::Unsupported)).count();
    if refused > 0 {
        assert_eq!(refused, lengths.len(), "all or none: {outcomes:?}");
        session.idle();
        assert_eq!(session.got(member).len(), 0);
    } else {
        assert!(outcomes.iter().all(|outcome| outcome.status == Status::Done), "{outcomes:?}");
        for got in session.deliveries(member, lengths.len()) {
            let length = lengths[got.receipt.position as usize];
            assert_eq!((got.payload_len, got.payload.len(), &got.key[..]), (length, 0, &b"key"[..]));
        }
    }
    session.end();
}

/// A batch of nothing is taken whole and has no consequence.
pub fn an_empty_batch_is_taken_and_has_no_consequence(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    assert_eq!(session.publish(producer, &[]), []);
    assert_eq!(session.settle(member, &[], crate::batch::Verdict::Ack), []);
    session.idle();
    assert!(session.blocked(producer).is_empty() && session.got(member).is_empty());
    assert_eq!(session.published(producer, &numbered(channel, 0..1))[0].position, 0);
    session.deliveries(member, 1);
    session.end();
}

/// A flush is done when every publish before it has ended, and at once when there is none.
pub fn a_flush_ends_after_the_publishes_before_it(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    assert_eq!(session.ended(producer, Control::Flush).status, Status::Done, "there is nothing to wait for");
    let tokens = session.publish(producer, &keyed(channel, 0..50, 7));
    assert_eq!(session.ended(producer, Control::Flush).status, Status::Done);
    for &token in &tokens {
        assert!(session.is_ended(producer, token), "{token:?} is still open after the flush");
    }
    for outcome in session.outcomes(producer, &tokens) {
        assert_eq!(outcome.status, Status::Done);
    }
    session.deliveries(member, 50);
    session.end();
}

/// A producer that closes right after its publishes loses none that is done, and each of them ends.
pub fn a_producer_that_closes_leaves_what_was_acknowledged(rig: &mut dyn Rig) {
    let mut session = Session::open(rig);
    let channel = session.create("channel", 2, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    let tokens = session.publish(producer, &keyed(channel, 0..40, 5));
    session.close(producer);
    let outcomes = session.outcomes(producer, &tokens);
    let done: Vec<u64> = (0..40).filter(|&n| outcomes[n as usize].status == Status::Done).collect();
    session.deliveries(member, done.len());
    session.idle();
    let numbers = sorted_numbers(&session, member);
    for number in done {
        assert!(numbers.binary_search(&number).is_ok(), "message {number} was acknowledged and is lost");
    }
    session.end();
}
