//! Every interleaving of two producers, two members that hand a lane over, the storage and time that passes, against the naive
//! reference.
//!
//! Leaves out longer programs: random sequences of commands stand in `tests`.

use super::reference::reference;
use super::{ShardModel, ShardOptions};
use crate::contract::Contract;
use crate::stream::trial::{Command, MEMBERS, Trial};
use crate::trial::interleavings::{every, number};

/// Of so many interleavings one is drained to its end, which takes much longer than all its steps where a limit is reached.
const DRAINED: u64 = 1_024;

/// Two channels of two lanes and one; member 3 holds all of them and waits for records.
fn trial(options: ShardOptions) -> Trial<ShardModel> {
    let contract = Contract::default();
    let model = ShardModel::new(options.clone(), contract).expect("the contract is kept");
    let mut trial = Trial::new(model, reference(options, contract), [2, 1]);
    trial.run(&Command::Connect(3));
    trial.run(&Command::Grant(3, 2));
    trial
}

/// Makes every interleaving of the programs, of so many commands each, and returns how many there were.
fn explore(options: ShardOptions, programs: &[&[Command]]) -> u64 {
    let step = |trial: &mut Trial<ShardModel>, command: &Command| trial.run(command);
    every(&trial(options), programs, &step, &mut |mut trial, number| {
        if number % DRAINED == 0 {
            trial.drain(&MEMBERS);
            trial.assert_all_delivered();
            trial.end();
        }
    })
}

fn publish(client: u32, keys: &[u8]) -> Command {
    Command::Publish { client, channel: 0, keys: keys.to_vec() }
}

fn stored(calls: usize, fails: bool) -> Command {
    Command::Stored { calls, fails }
}

#[test]
fn two_producers_two_members_and_a_lane_that_moves() {
    let programs: [&[Command]; 6] = [
        &[publish(1, &[1, 2]), publish(1, &[1])],
        &[publish(2, &[3])],
        &[stored(1, false), stored(9, false)],
        &[Command::Ack { client: 3, count: 1 }, Command::Release(3)],
        &[Command::Connect(4), Command::Grant(4, 2)],
        &[Command::Pass(90)],
    ];
    assert_eq!((explore(ShardOptions::default(), &programs), number(&[2, 1, 2, 2, 2, 1])), (226_800, 226_800));
}

#[test]
fn a_member_that_leaves_a_storage_that_fails_and_limits_that_are_reached() {
    let options = ShardOptions {
        write_records_per_s: 2_000_000_000,
        write_bytes_per_s: 1_000,
        read_bytes_per_s: 300,
        ..ShardOptions::default()
    };
    let programs: [&[Command]; 6] = [
        &[publish(1, &[1, 2])],
        &[publish(2, &[3])],
        &[stored(1, true), stored(9, false)],
        &[Command::Ack { client: 3, count: 1 }, Command::Close(3)],
        &[Command::Connect(4), Command::Grant(4, 2)],
        &[Command::Pass(90)],
    ];
    assert_eq!((explore(options, &programs), number(&[1, 1, 2, 2, 2, 1])), (45_360, 45_360));
}
