//! Order: per key and total where the contract asks for it, or the contract is refused.

use std::collections::BTreeMap;

use super::contracts::check_refusal;
use super::publish::keyed;
use super::session::Session;
use super::{Got, Rig, Tuning};
use crate::capabilities::Feature;
use crate::contract::{Contract, Order};

/// First deliveries of one producer's messages with one key come in the order of publishing, to whichever member.
pub fn messages_of_a_key_come_in_order_or_the_contract_is_refused(rig: &mut dyn Rig) {
    let contract = Contract { order: Order::PerKey, ..rig.contract() };
    if let Err(refusal) = rig.renew(&contract, Tuning::Usual) {
        check_refusal(rig.broker(), contract, &refusal);
        assert!(refusal.missing.iter().any(|missing| missing.axis == "order"), "{refusal}");
        return;
    }
    let mut session = Session::open(rig);
    let channel = session.create("channel", 4, &["g"]);
    let members = [session.serving("g", channel), session.serving("g", channel)];
    session.idle();
    let producers = [session.producer(), session.producer()];
    for round in 0..10 {
        for (p, &producer) in producers.iter().enumerate() {
            let from = p as u64 * 1_000 + round * 20;
            session.publish(producer, &keyed(channel, from..from + 20, 7));
        }
    }
    session.until("400 deliveries", |s| members.iter().map(|&m| s.got(m).len()).sum::<usize>() >= 400);
    let mut all: Vec<Got> = members.iter().flat_map(|&member| session.got(member).to_vec()).collect();
    // Within one member the order is that of its deliveries; a key that moved between members is compared by their polls, for it
    // moves when the first has settled what it was given; a sort that keeps equal elements in place leaves one poll's as they came.
    all.sort_by_key(|got| got.poll);
    let mut last: BTreeMap<(u64, Vec<u8>), u64> = BTreeMap::new();
    for got in all.iter().filter(|got| got.redeliveries == 0) {
        let number = got.number();
        let before = last.insert((number / 1_000, got.key.clone()), number);
        assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
    }
    assert_eq!(last.len(), 14, "two producers × seven keys");
    session.end();
}

/// All groups see a channel's first deliveries in one order, or the contract is refused.
pub fn every_group_sees_one_order_or_the_contract_is_refused(rig: &mut dyn Rig) {
    let contract = Contract { order: Order::Total, ..rig.contract() };
    if let Err(refusal) = rig.renew(&contract, Tuning::Usual) {
        check_refusal(rig.broker(), contract, &refusal);
        assert!(refusal.missing.iter().any(|missing| missing.axis == "order"), "{refusal}");
        return;
    }
    let mut session = Session::open(rig);
    let groups: &[&str] = if session.has(Feature::FanOut) { &["g", "h"] } else { &["g"] };
    let channel = session.create("channel", 1, groups);
    let members: Vec<_> = groups.iter().map(|group| session.serving(group, channel)).collect();
    let producers = [session.producer(), session.producer()];
    for round in 0..10 {
        for (p, &producer) in producers.iter().enumerate() {
            let from = p as u64 * 1_000 + round * 10;
            session.publish(producer, &keyed(channel, from..from + 10, 7));
        }
    }
    let mut orders = Vec::new();
    for &member in &members {
        let got = session.deliveries(member, 200);
        orders.push(got.iter().filter(|got| got.redeliveries == 0).map(Got::number).collect::<Vec<u64>>());
    }
    for order in &orders {
        assert_eq!(order, &orders[0]);
        for p in 0..2 {
            let own: Vec<u64> = order.iter().copied().filter(|number| number / 1_000 == p).collect();
            assert!(own.is_sorted(), "producer {p}: {own:?}");
            assert_eq!(own.len(), 100);
        }
    }
    session.end();
}
