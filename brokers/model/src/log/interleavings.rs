//! The log's settings for the interleavings that every stream goes through: sessions that end meanwhile, and records that grow too old.
//!
//! Leaves out the programs, which stand in `stream::interleavings`.

use super::reference::reference;
use super::{Assignment, LogModel, LogOptions};
use crate::contract::Contract;
use crate::stream::interleavings::{a_lane_that_moves, a_member_that_leaves};
use crate::stream::trial::Trial;
use crate::time::Span;

/// Of so many interleavings one is drained to its end.
const DRAINED: u64 = 16;

fn trial(options: LogOptions) -> Trial<LogModel> {
    let contract = Contract::default();
    let session = options.session_timeout.expect("these members have sessions").0;
    let model = LogModel::new(options.clone(), contract).expect("the contract is kept");
    let mut trial = Trial::new(model, reference(options, contract), [2, 1]);
    trial.round = session / 3;
    trial
}

#[test]
fn two_producers_two_members_and_a_lane_that_moves_or_is_lost_with_its_session() {
    let options = LogOptions { session_timeout: Some(Span(80)), ..LogOptions::default() };
    a_lane_that_moves(trial(options), DRAINED);
}

#[test]
fn a_member_that_leaves_a_storage_that_fails_and_records_that_grow_too_old() {
    let options = LogOptions {
        retention: Some(Span(90)),
        session_timeout: Some(Span(120)),
        assignment: Assignment::Eager,
        ..LogOptions::default()
    };
    a_member_that_leaves(trial(options), DRAINED);
}
