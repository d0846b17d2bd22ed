//! Bounds: when a backend or its client holds as much as it may, `submit` takes a shorter prefix, and nothing is dropped.

use super::publish::sorted_numbers;
use super::session::{Session, numbered};
use super::{Rig, Tuning};
use crate::completion::Status;

/// Beyond a bound the prefix is shorter and says why; every message that was taken is delivered once, the others stay due.
pub fn a_full_backend_takes_a_shorter_prefix_and_loses_nothing(rig: &mut dyn Rig) {
    let mut session = Session::tuned(rig, Tuning::SmallBounds);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    session.idle();
    let producer = session.producer();
    let mut items = numbered(channel, 0..256);
    for item in &mut items {
        item.payload.resize(16 * 1024, 0xa5);
    }
    let tokens = session.publish(producer, &items);
    let mut moved = true;
    while moved {
        let before = session.got(member).len();
        session.idle();
        moved = session.got(member).len() > before;
    }
    assert!(!session.blocked(producer).is_empty(), "4 MiB did not fit, and nobody said so");
    let left = session.withdraw(producer);
    let taken = tokens.len() - left.len();
    assert!(taken > 0, "a single message fits");
    assert_eq!(tokens[taken..], left, "what stays due is a suffix");
    for outcome in session.outcomes(producer, &tokens[..taken]) {
        assert_eq!(outcome.status, Status::Done, "what was taken is not dropped");
    }
    session.deliveries(member, taken);
    session.idle();
    assert_eq!(sorted_numbers(&session, member), (0..taken as u64).collect::<Vec<_>>());
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
    assert_eq!(positions, (0..40).collect::<Vec<_>>(), "one producer, one lane: positions in the order of publishing");
    session.deliveries(member, 40);
    session.end();
}
