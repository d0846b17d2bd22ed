//! Every interleaving of two producers, two members that hand a lane over, the storage and time that passes, against the naive
//! reference.
//!
//! Leaves out longer programs: random sequences of commands stand in `tests`.

use super::reference::reference;
use super::{Assignment, LogModel, LogOptions};
use crate::contract::Contract;
use crate::stream::trial::{Command, MEMBERS, Trial};
use crate::time::Span;
use crate::trial::interleavings::{every, number};

/// Of so many interleavings one is drained to its end, which takes longer than all its steps.
const DRAINED: u64 = 16;

/// Two channels of two lanes and one; member 3 holds all of them and waits for records.
fn trial(options: LogOptions) -> Trial<LogModel> {
    let contract = Contract::default();
    let session = options.session_timeout.expect("these members have sessions").0;
    let model = LogModel::new(options.clone(), contract).expect("the contract is kept");
    let mut trial = Trial::new(model, reference(options, contract), [2, 1]);
    trial.round = session / 3;
    trial.run(&Command::Connect(3));
    trial.run(&Command::Grant(3, 2));
    trial
}

/// Makes every interleaving of the programs, of so many commands each, and returns how many there were.
fn explore(options: LogOptions, programs: &[&[Command]]) -> u64 {
    let step = |trial: &mut Trial<LogModel>, command: &Command| trial.run(command);
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
fn two_producers_two_members_and_a_lane_that_moves_or_is_lost_with_its_session() {
    let options = LogOptions { session_timeout: Some(Span(80)), ..LogOptions::default() };
    let programs: [&[Command]; 6] = [
        &[publish(1, &[1, 2]), publish(1, &[1])],
        &[publish(2, &[3])],
        &[stored(1, false), stored(9, false)],
        &[Command::Ack { client: 3, count: 1 }, Command::Release(3)],
        &[Command::Connect(4), Command::Grant(4, 2)],
        &[Command::Pass(90)],
    ];
    assert_eq!((explore(options, &programs), number(&[2, 1, 2, 2, 2, 1])), (226_800, 226_800));
}

#[test]
fn a_member_that_leaves_a_storage_that_fails_and_records_that_grow_too_old() {
    let options = LogOptions {
        retention: Some(Span(90)),
        session_timeout: Some(Span(120)),
        assignment: Assignment::Eager,
        ..LogOptions::default()
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
