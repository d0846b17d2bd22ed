//! Bounds: when a backend or its client holds as much as it may, `submit` takes a shorter prefix, and nothing is dropped.

use super::publish::sorted_numbers;
use super::session::{Session, numbered};
use super::{Rig, Tuning};
use crate::batch::Blocked;
use crate::capabilities::Feature;
use crate::completion::{Failure, Refusal, Status};

/// Beyond a bound the prefix is shorter and says why; every message that was taken is delivered once, the others stay due. What is on its
/// way to a backend that stays full ends with its producer, and is never published.
pub fn a_full_backend_takes_a_shorter_prefix_and_loses_nothing(rig: &mut dyn Rig) {
    let mut session = Session::tuned(rig, Tuning::SmallBounds);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.member("g", channel);
    session.idle();
    let producer = session.producer();
    let mut items = numbered(channel, 0..256);
    for item in &mut items {
        item.payload.resize(16 * 1024, 0xa5);
    }
    let tokens: Vec<_> = items.chunks(16).flat_map(|batch| session.publish(producer, batch)).collect();
    session.idle();
    assert!(!session.blocked(producer).is_empty(), "4 MiB did not fit, and nobody said so");
    session.serve(member);
    let mut moved = true;
    while moved {
        let before = session.got(member).len();
        session.idle();
        moved = session.got(member).len() > before;
    }
    let left = session.withdraw(producer);
    let taken = tokens.len() - left.len();
    assert!(taken >= 2, "several messages fit, and {taken} were taken");
    assert_eq!(tokens[taken..], left, "what stays due is a suffix");
    let coupled = !session.has(Feature::Decoupled);
    let under_way = tokens[..taken].iter().filter(|&&token| !session.is_ended(producer, token)).count();
    if under_way > 0 {
        let full = [Blocked::Memory, Blocked::Data].iter().any(|bound| session.blocked(producer).contains(bound));
        assert!(full, "{under_way} messages were taken and not answered, and the backend is not full");
        session.close(producer);
        for outcome in session.outcomes(producer, &tokens[taken - under_way..taken]) {
            assert_eq!(outcome.status, Status::Refused(Refusal::Closed), "never published");
        }
    }
    let taken = taken - under_way;
    let mut done = Vec::new();
    for (number, outcome) in session.outcomes(producer, &tokens[..taken]).iter().enumerate() {
        match outcome.status {
            Status::Done => done.push(number as u64),
            // Without a broker there is nowhere to wait: a receiver that is full says so, message by message.
            Status::Failed(Failure::Overloaded) if coupled => (),
            status @ (Status::Refused(_) | Status::Throttled | Status::Failed(_) | Status::Unknown) => {
                panic!("message {number} was taken, and ended {status:?}")
            }
        }
    }
    session.deliveries(member, done.len());
    session.idle();
    assert_eq!(sorted_numbers(&session, member), done);
    assert!(
        session.got(member).iter().all(|got| got.payload_len == 16 * 1024 && got.payload[8..] == items[0].payload[8..])
    );
    session.end();
}

/// A batch whose second half is not taken at first is offered again from there, in order and without a gap.
pub fn what_is_not_taken_is_offered_again_in_order(rig: &mut dyn Rig) {
    let mut session = Session::tuned(rig, Tuning::SmallBounds);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    session.idle();
    let producer = session.producer();
    let mut positions = Vec::new();
    for round in 0..4 {
        let tokens = session.publish(producer, &numbered(channel, round * 10..(round + 1) * 10));
        for outcome in session.outcomes(producer, &tokens) {
            assert_eq!(outcome.status, Status::Done);
            positions.push(outcome.position);
        }
    }
    let told = session.has(Feature::PublishPosition);
    let due: Vec<u64> = (0..40).map(|n| if told { n } else { 0 }).collect();
    assert_eq!(positions, due, "one producer, one lane: positions in the order of publishing, or none is told");
    session.deliveries(member, 40);
    session.end();
}
