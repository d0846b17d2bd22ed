//! Every interleaving of two producers, two members that hand a lane over or of whom one leaves, the storage and time that passes: the programs
//! that both models of a stream go through, against the naive reference.
//!
//! Leaves out the models' settings, which their own tests choose, and longer programs: random sequences of commands stand in their `tests`.

use super::trial::{Command, MEMBERS, Trial};
use crate::machine::Model;
use crate::trial::interleavings::{every, number};

/// Makes every interleaving of the programs, of so many commands each, and says whether those were all. Of `drained` interleavings one is
/// drained to its end, which takes longer than all its steps. `trial` has two channels of two lanes and one.
fn explore<M: Model + Clone>(mut trial: Trial<M>, drained: u64, programs: &[&[Command]]) {
    // Member 3 holds all lanes and waits for records.
    trial.run(&Command::Connect(3));
    trial.run(&Command::Grant(3, 2));
    let step = |trial: &mut Trial<M>, command: &Command| trial.run(command);
    let made = every(&trial, programs, &step, &mut |mut trial, number| {
        if number % drained == 0 {
            trial.drain(&MEMBERS);
            trial.assert_all_delivered();
            trial.end();
        }
    });
    let lengths: Vec<u64> = programs.iter().map(|program| program.len() as u64).collect();
    assert_eq!(made, number(&lengths));
}

fn publish(client: u32, keys: &[u8]) -> Command {
    Command::Publish { client, channel: 0, keys: keys.to_vec() }
}

fn stored(calls: usize, fails: bool) -> Command {
    Command::Stored { calls, fails }
}

/// 226,800 interleavings of members that hand a lane over.
pub(crate) fn a_lane_that_moves<M: Model + Clone>(trial: Trial<M>, drained: u64) {
    let programs: [&[Command]; 6] = [
        &[publish(1, &[1, 2]), publish(1, &[1])],
        &[publish(2, &[3])],
        &[stored(1, false), stored(9, false)],
        &[Command::Ack { client: 3, count: 1 }, Command::Release(3)],
        &[Command::Connect(4), Command::Grant(4, 2)],
        &[Command::Pass(90)],
    ];
    assert_eq!(number(&[2, 1, 2, 2, 2, 1]), 226_800);
    explore(trial, drained, &programs);
}

/// 45,360 interleavings of a member that leaves and a storage that fails.
pub(crate) fn a_member_that_leaves<M: Model + Clone>(trial: Trial<M>, drained: u64) {
    let programs: [&[Command]; 6] = [
        &[publish(1, &[1, 2])],
        &[publish(2, &[3])],
        &[stored(1, true), stored(9, false)],
        &[Command::Ack { client: 3, count: 1 }, Command::Close(3)],
        &[Command::Connect(4), Command::Grant(4, 2)],
        &[Command::Pass(90)],
    ];
    assert_eq!(number(&[1, 1, 2, 2, 2, 1]), 45_360);
    explore(trial, drained, &programs);
}
