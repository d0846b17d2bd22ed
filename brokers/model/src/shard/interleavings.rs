//! The shard stream's settings for the interleavings that every stream goes through: limits that are not reached, and some that are.
//!
//! Leaves out the programs, which stand in `stream::interleavings`.

use super::reference::reference;
use super::{ShardModel, ShardOptions};
use crate::contract::Contract;
use crate::stream::interleavings::{a_lane_that_moves, a_member_that_leaves};
use crate::stream::trial::Trial;

/// Of so many interleavings one is drained to its end, which takes much longer than all its steps where a limit is reached.
const DRAINED: u64 = 1_024;

fn trial(options: ShardOptions) -> Trial<ShardModel> {
    let contract = Contract::default();
    let model = ShardModel::new(options.clone(), contract).expect("the contract is kept");
    Trial::new(model, reference(options, contract), [2, 1])
}

#[test]
fn two_producers_two_members_and_a_lane_that_moves() {
    a_lane_that_moves(trial(ShardOptions::default()), DRAINED);
}

#[test]
fn a_member_that_leaves_a_storage_that_fails_and_limits_that_are_reached() {
    let options = ShardOptions {
        write_records_per_s: 2_000_000_000,
        write_bytes_per_s: 1_000,
        read_bytes_per_s: 300,
        ..ShardOptions::default()
    };
    a_member_that_leaves(trial(options), DRAINED);
}
