//! What a backend promises: every contract is kept by settings that it names, or refused with what is missing.

use super::session::{Session, numbered};
use super::{Rig, Tuning};
use crate::batch::Control;
use crate::broker::Broker;
use crate::capabilities::{Feature, Unsupported};
use crate::completion::{Failure, Outcome, Status};
use crate::contract::{Availability, Contract, Delivery, Order, Storage};

/// A refusal names the backend and, for every gap, an axis with the value that was asked for on it, and a reason.
pub(super) fn check_refusal(broker: &dyn Broker, contract: Contract, refusal: &Unsupported) {
    assert_eq!(refusal.backend, broker.capabilities().name);
    assert!(!refusal.missing.is_empty(), "{contract}: refused, and nothing is missing");
    for missing in &refusal.missing {
        let asked = match missing.axis.as_str() {
            "delivery" => contract.delivery.to_string(),
            "order" => contract.order.to_string(),
            "storage" => contract.storage.to_string(),
            "copies" => contract.copies.to_string(),
            "availability" => contract.availability.to_string(),
            other => panic!("{contract}: `{other}` is no axis of a contract"),
        };
        assert_eq!(missing.asked, asked, "{contract}: what was asked on the axis {}", missing.axis);
        assert!(missing.reason.len() > 10, "{contract}: {} is no reason", missing.reason);
    }
}

/// Each contract of the promise ladder is honoured by settings, each with value and purpose, or refused with a reason.
pub fn every_contract_is_kept_by_settings_or_refused_with_a_reason(rig: &mut dyn Rig) {
    let made_for = rig.contract();
    let broker = rig.broker();
    assert!(broker.honour(&made_for).is_ok(), "it was made for {made_for}");
    for contract in Contract::ladder() {
        match broker.honour(&contract) {
            Ok(settings) => {
                assert!(!settings.0.is_empty(), "{contract}: kept, by no setting at all");
                for setting in &settings.0 {
                    let said = [&setting.name, &setting.value, &setting.why];
                    assert!(said.iter().all(|text| !text.is_empty()), "{contract}: {setting:?} leaves something out");
                }
            }
            Err(refusal) => check_refusal(broker, contract, &refusal),
        }
    }
}

/// Exactly-once and several copies need more than most backends have: they say so, or keep them by settings.
pub fn exactly_once_and_more_than_one_copy_are_refused(rig: &mut dyn Rig) {
    let base = rig.contract();
    let once = Contract { delivery: Delivery::ExactlyOnce, ..base };
    let copies = Contract { copies: 3, ..base };
    for (contract, axis) in [(once, "delivery"), (copies, "copies")] {
        // A cluster keeps copies by its settings; whoever claims to has to open with them.
        let refusal = match rig.broker().honour(&contract) {
            Ok(settings) => {
                let says = |word| settings.0.iter().any(|setting| setting.value.contains(word));
                let kept = if axis == "copies" { says("3") } else { says("transaction") };
                assert!(kept, "{contract}: {settings:?}");
                assert!(axis == "copies" || rig.broker().capabilities().has(Feature::Transactions), "{contract}");
                assert_eq!(rig.renew(&contract, Tuning::Usual), Ok(()), "{contract}");
                continue;
            }
            Err(refusal) => refusal,
        };
        check_refusal(rig.broker(), contract, &refusal);
        assert!(refusal.missing.iter().any(|missing| missing.axis == axis), "{contract}: {refusal}");
        let renewed = rig.renew(&contract, Tuning::Usual).expect_err("a broker is not made for what it refuses");
        assert_eq!(renewed, refusal);
    }
}

/// Decoupled implies coupled, fsync implies page cache implies memory, any order implies none.
pub fn what_keeps_the_stronger_promise_keeps_the_weaker(rig: &mut dyn Rig) {
    let broker = rig.broker();
    let mut kept = 0;
    for contract in Contract::ladder().into_iter().filter(|contract| broker.honour(contract).is_ok()) {
        kept += 1;
        let weaker = [
            Contract { availability: Availability::Coupled, ..contract },
            Contract { storage: Storage::Memory, ..contract },
            Contract { order: Order::None, ..contract },
        ];
        for weaker in weaker {
            assert!(broker.honour(&weaker).is_ok(), "{contract} is kept and {weaker} is not");
        }
    }
    assert!(kept > 0, "a backend that keeps no contract has no place here");
}

/// Words, limits and features are there, and nothing is said twice.
pub fn the_backend_describes_itself(rig: &mut dyn Rig) {
    let capabilities = rig.broker().capabilities();
    let words = capabilities.words;
    for word in [capabilities.name, words.lane, words.position, words.grant, words.settle] {
        assert!(!word.is_empty(), "{capabilities:?}");
    }
    assert!(capabilities.max_message_bytes >= 1024, "{}", capabilities.max_message_bytes);
    for feature in Feature::ALL {
        let times = capabilities.features.iter().filter(|named| *named == feature).count();
        assert!(times <= 1, "`{}` is named {times} times", feature.name());
    }
    for limit in &capabilities.limits {
        assert!(![limit.name, &limit.value, limit.source].contains(&""), "{limit:?} leaves something out");
    }
}

/// A decoupled backend keeps messages for a member that comes later; a coupled one refuses the decoupled contract, and a
/// publish without a receiver fails.
pub fn a_receiver_that_comes_later_finds_the_messages_or_the_contract_is_refused(rig: &mut dyn Rig) {
    let decoupled = Contract { availability: Availability::Decoupled, ..rig.contract() };
    let has = rig.broker().capabilities().has(Feature::Decoupled);
    if has {
        rig.renew(&decoupled, Tuning::Usual).expect("a backend with this feature keeps the decoupled contract");
        let mut session = Session::open(rig);
        let channel = session.create("later", 1, &["g"]);
        let producer = session.producer();
        session.published(producer, &numbered(channel, 0..20));
        session.close(producer);
        let member = session.serving("g", channel);
        let mut numbers: Vec<u64> = session.deliveries(member, 20).iter().map(super::Got::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        session.end();
    } else {
        let refusal = rig.renew(&decoupled, Tuning::Usual).expect_err("refused without the feature");
        check_refusal(rig.broker(), decoupled, &refusal);
        assert!(refusal.missing.iter().any(|missing| missing.axis == "availability"), "{refusal}");
        let mut session = Session::open(rig);
        let channel = session.create("later", 1, &["g"]);
        let producer = session.producer();
        let tokens = session.publish(producer, &numbered(channel, 0..20));
        let outcomes = session.outcomes(producer, &tokens);
        assert_eq!(outcomes[0].status, Status::Failed(Failure::NoReceiver));
        for Outcome { token, status, .. } in outcomes {
            // After some failures a circuit breaker may say so before anything is sent.
            let failed = [Failure::NoReceiver, Failure::CircuitOpen].map(Status::Failed);
            assert!(failed.contains(&status), "{token:?} ended {status:?} without a receiver");
        }
        let member = session.member("g", channel);
        session.ask(member, Control::Grant(100));
        session.idle();
        assert_eq!(session.got(member).len(), 0, "what has failed is not delivered later");
        session.end();
    }
}
