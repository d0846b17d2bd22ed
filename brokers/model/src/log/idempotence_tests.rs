//! Producers with names: what they offer again until it is acknowledged is stored once, whatever fails and whenever the process ends.
//!
//! Leaves out identities among all other commands, which are drawn in `tests`.

use proptest::prelude::*;

use super::reference::reference;
use super::{LogModel, LogOptions};
use crate::batch::Transaction;
use crate::contract::{Contract, Delivery};
use crate::stream::trial::{Command, MEMBERS, Trial, identified};
use crate::time::Span;
use crate::trial::crash::{Crash, crash};

const NAME: &[u8] = b"orders";

fn trial(options: &LogOptions, delivery: Delivery) -> Trial<LogModel> {
    let contract = Contract { delivery, ..Contract::default() };
    let model = LogModel::new(options.clone(), contract).expect("the contract is kept");
    let mut trial = Trial::new(model, reference(options.clone(), contract), [3, 2]);
    trial.round = options.session_timeout.map_or(trial.round, |session| session.0 / 3);
    trial
}

/// Publishes these sequences to channel 0, with a key for most.
fn offer(trial: &mut Trial<LogModel>, client: u32, epoch: u32, sequences: std::ops::Range<u64>) {
    let keys: Vec<u8> = sequences.clone().map(|sequence| (sequence % 5) as u8).collect();
    let headers: Vec<Vec<u8>> = sequences.map(|sequence| identified(NAME, epoch, sequence)).collect();
    trial.publish_saying(client, 0, &keys, &headers);
}

/// How many messages of channel 0 its first group can read.
fn readable(trial: &mut Trial<LogModel>) -> u64 {
    trial.lags(0).iter().step_by(2).map(|(ready, _)| ready).sum()
}

fn stored(calls: usize, fails: bool) -> Command {
    Command::Stored { calls, fails }
}

/// What happens after some more messages were published.
#[derive(Clone, Debug)]
enum Then {
    Stored(usize, bool),
    /// The last so many are offered again, by the other producer's client or the same.
    Again(u64, u32),
    Crash(Crash),
    Transact(Transaction),
    Pass(u64),
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        4 => (1usize..4, prop::bool::weighted(0.2)).prop_map(|(calls, fails)| Then::Stored(calls, fails)),
        3 => (1u64..20, 1u32..3).prop_map(|(back, client)| Then::Again(back, client)),
        2 => crash().prop_map(Then::Crash),
        2 => prop_oneof![
            Just(Transaction::Begin { group: None, name: None }), Just(Transaction::Commit), Just(Transaction::Abort)
        ].prop_map(Then::Transact),
        1 => (1u64..60).prop_map(Then::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_offered_until_it_is_acknowledged_is_stored_once(
        steps in prop::collection::vec((0u64..5, then()), 1..40),
        delivery in prop_oneof![Just(Delivery::AtLeastOnce), Just(Delivery::ExactlyOnce)],
    ) {
        let options = LogOptions { retention: None, transaction_timeout: Span(200), ..LogOptions::default() };
        let mut trial = trial(&options, delivery);
        let mut sent = 0;
        for (more, then) in steps {
            offer(&mut trial, 1, 0, sent..sent + more);
            sent += more;
            match then {
                Then::Stored(calls, fails) => trial.run(&stored(calls, fails)),
                Then::Again(back, client) => offer(&mut trial, client, 0, sent.saturating_sub(back)..sent),
                Then::Crash(crash) => trial.crash(crash),
                // Where all is read that is stored, what is taken back is read too, and again.
                Then::Transact(step) if delivery == Delivery::ExactlyOnce => {
                    trial.run(&Command::Transact { client: 1, step });
                }
                Then::Transact(_) => {}
                Then::Pass(span) => trial.pass(span),
            }
            // Nothing is known of what comes after a gap.
            sent = trial.reference.due(0, NAME).map_or(0, |(_, next)| next);
            trial.reference.assert_nothing_is_stored_twice();
        }
        trial.run(&Command::Transact { client: 1, step: Transaction::Abort });
        trial.run(&stored(usize::MAX, false));
        trial.run(&Command::Transact { client: 1, step: Transaction::Abort });
        offer(&mut trial, 1, 0, 0..sent);
        trial.run(&stored(usize::MAX, false));
        trial.reference.assert_nothing_is_stored_twice();
        prop_assert_eq!(trial.reference.readable_sequences(0, NAME), (0..sent).collect::<Vec<_>>());
        trial.crash(Crash::HARSH);
        trial.reference.assert_nothing_is_stored_twice();
        prop_assert_eq!(trial.reference.readable_sequences(0, NAME), (0..sent).collect::<Vec<_>>());
        trial.drain(&MEMBERS);
        trial.end();
    }
}

#[test]
fn a_gap_is_refused_and_a_higher_epoch_begins_anew_and_fences_the_lower() {
    let mut trial = trial(&LogOptions::default(), Delivery::AtLeastOnce);
    offer(&mut trial, 1, 3, 0..4);
    offer(&mut trial, 1, 3, 5..7);
    assert_eq!(trial.reference.due(0, NAME), Some((3, 4)), "5 and 6 are refused, and 4 is due");
    offer(&mut trial, 2, 4, 1..3);
    assert_eq!(trial.reference.due(0, NAME), Some((3, 4)), "a new epoch begins with 0");
    offer(&mut trial, 2, 4, 0..2);
    offer(&mut trial, 1, 3, 4..6);
    assert_eq!(trial.reference.due(0, NAME), Some((4, 2)));
    trial.run(&stored(9, false));
    assert_eq!(readable(&mut trial), 6);
    trial.crash(Crash::HARSH);
    offer(&mut trial, 1, 3, 4..6);
    offer(&mut trial, 1, 4, 0..3);
    assert_eq!(trial.reference.due(0, NAME), Some((4, 3)), "a restart knows it too");
    trial.run(&stored(9, false));
    assert_eq!(readable(&mut trial), 7);
    trial.drain(&MEMBERS);
    trial.end();
}

#[test]
fn who_was_silent_for_long_may_begin_with_any_sequence_and_repeats_beyond_the_window_are_refused() {
    let options = LogOptions { max_in_flight: 4, producer_expiration: Span(100), ..LogOptions::default() };
    let mut trial = trial(&options, Delivery::AtLeastOnce);
    for first in [0, 4] {
        offer(&mut trial, 1, 0, first..first + 4);
        trial.run(&stored(9, false));
    }
    offer(&mut trial, 1, 0, 2..6);
    trial.run(&stored(9, false));
    assert_eq!(readable(&mut trial), 8, "2 and 3 are refused, 4 and 5 are there");
    trial.pass(100);
    offer(&mut trial, 1, 0, 20..22);
    trial.run(&stored(9, false));
    assert_eq!((readable(&mut trial), trial.reference.due(0, NAME)), (10, Some((0, 22))));
    trial.drain(&MEMBERS);
    trial.end();
}

#[test]
fn switched_off_what_is_offered_again_is_another_message() {
    let mut trial = trial(&LogOptions { idempotence: false, ..LogOptions::default() }, Delivery::AtLeastOnce);
    for _ in 0..3 {
        offer(&mut trial, 1, 0, 0..4);
    }
    trial.run(&stored(9, false));
    assert_eq!((readable(&mut trial), trial.reference.due(0, NAME)), (12, None));
    trial.drain(&MEMBERS);
    trial.end();
}
