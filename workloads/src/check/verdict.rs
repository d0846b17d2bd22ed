//! Closing a checker's books: which acknowledged messages are missing, and which clauses of the contract were broken.
//!
//! Leaves out collecting, which is the checker's.

use brokerlab_model::{Contract, Delivery, Order};

use super::{Checker, Group, MessageId, Tallied};
use crate::measurement::CheckRecord;

/// One group's messages at the end. `delivered`, `undelivered`, `expired`, `overflowed`, `lost` and `not_checked` add up to
/// `acknowledged`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Balance {
    acknowledged: u64,
    delivered_unacknowledged: u64,
    foreign: Tallied,
    not_checked: u64,
    undelivered: u64,
    expired: u64,
    overflowed: u64,
    lost: Tallied,
}

/// Acknowledged messages that a group was not given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub(super) not_checked: u64,
    pub(super) undelivered: u64,
    pub(super) expired: u64,
    pub(super) overflowed: u64,
    pub(super) lost: u64,
}

/// Where a group's order parts from that of the groups before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parted {
    channel: u32,
    /// First deliveries of the channel after which it shows.
    after: u64,
    /// First deliveries from there on: those whose order is in question.
    beyond: u64,
    /// Whether a message is missing in one of the groups, so that the orders can't be compared.
    missing: bool,
}

impl Checker {
    pub(super) fn close(&self, index: usize, held: u64, published: &[u64]) -> Balance {
        let group = &self.groups[index];
        let mut foreign = group.foreign;
        let mut delivered_unacknowledged = group.delivered_unacknowledged;
        for (producer, (set, &published)) in group.delivered.iter().zip(published).enumerate() {
            if set.end_word() > published / 64 {
                let beyond = set.count_from(published);
                foreign.count += beyond;
                delivered_unacknowledged = delivered_unacknowledged.saturating_sub(beyond);
                if beyond > 0 && foreign.first.is_none() {
                    let sequence = (published..set.end_word() * 64)
                        .find(|s| set.word(s / 64) >> (s % 64) & 1 == 1)
                        .unwrap_or(published);
                    foreign.first = Some(MessageId { producer: producer as u32, sequence });
                }
            }
        }
        let Missing { not_checked, undelivered, expired, overflowed, lost } = self.missing(group, held);
        let first = if lost > 0 { self.first_missing(index) } else { None };
        Balance {
            acknowledged: self.acknowledged_count - group.not_for,
            delivered_unacknowledged,
            foreign,
            not_checked,
            undelivered,
            expired,
            overflowed,
            lost: Tallied { count: lost, first },
        }
    }

    /// What became of a group's acknowledged messages that it was not given.
    pub(super) fn missing(&self, group: &Group, held: u64) -> Missing {
        let missing = self.acknowledged_count.saturating_sub(group.delivered_acknowledged + group.not_for);
        // A corrupted delivery stands for a message that is missing and can't be told.
        let not_checked = (group.not_checked + group.corrupted.count).min(missing);
        let mut left = missing - not_checked;
        let mut of = |most: u64| {
            let part = most.min(left);
            left -= part;
            part
        };
        let undelivered = of(held);
        let expired = of(group.given_up.expired_unseen);
        let overflowed = of(group.given_up.overflowed_unseen);
        Missing { not_checked, undelivered, expired, overflowed, lost: left }
    }

    /// The first acknowledged message, by producer and sequence, that the group was not given.
    fn first_missing(&self, group: usize) -> Option<MessageId> {
        let due = |word: u64| self.routes.as_ref().map_or(u64::MAX, |routes| routes.bits(group, word));
        self.acknowledged.iter().zip(&self.groups[group].delivered).enumerate().find_map(
            |(producer, (acknowledged, delivered))| {
                let missing = |word: u64| acknowledged.word(word) & !delivered.word(word) & due(word);
                let word = delivered.words_with_missing(acknowledged.end_word()).find(|&word| missing(word) != 0)?;
                let sequence = word * 64 + u64::from(missing(word).trailing_zeros());
                Some(MessageId { producer: producer as u32, sequence })
            },
        )
    }

    /// Of each group, where its order parts from that of the first group.
    pub(super) fn orders_that_part(&self) -> Vec<Option<Parted>> {
        let Some((first, others)) = self.groups.split_first() else { return Vec::new() };
        let missing = |group: &Group| group.delivered_acknowledged < self.acknowledged_count;
        let parted = others.iter().map(|other| {
            first.traces.iter().zip(&other.traces).enumerate().find_map(|(channel, (mine, theirs))| {
                let after = theirs.parts_from(mine)?;
                let beyond = theirs.count() - after + 1;
                let missing = self.routes.is_some() || missing(first) || missing(other);
                Some(Parted { channel: channel as u32, after, beyond, missing })
            })
        });
        std::iter::once(None).chain(parted).collect()
    }
}

/// The record of one group.
pub(super) fn record(balance: &Balance, group: &Group, parted: Option<Parted>, contract: Contract) -> CheckRecord {
    let unclear = parted.filter(|parted| parted.missing).map_or(0, |parted| parted.beyond);
    CheckRecord {
        acknowledged: balance.acknowledged,
        delivered: group.delivered_acknowledged,
        delivered_unacknowledged: balance.delivered_unacknowledged,
        lost: balance.lost.count,
        undelivered: balance.undelivered,
        expired: balance.expired,
        overflowed: balance.overflowed,
        dropped: group.given_up.total() - group.given_up.dead_lettered,
        dead_lettered: group.given_up.dead_lettered,
        duplicated: group.duplicated.count,
        redelivered: group.redelivered,
        reordered: group.reordered.count,
        early: group.early.count,
        corrupted: group.corrupted.count,
        foreign: balance.foreign.count + group.misrouted.count,
        not_checked: balance.not_checked,
        order_not_checked: group.order_not_checked + unclear,
        broken: broken(balance, group, parted, contract),
    }
}

fn broken(balance: &Balance, group: &Group, parted: Option<Parted>, contract: Contract) -> Vec<String> {
    let mut broken = Vec::new();
    let mut clause = |clause: &str, what: &Tallied, one: &str, many: &str| {
        if what.count > 0 {
            broken.push(sentence(clause, what, one, many));
        }
    };
    let delivery = contract.delivery.name();
    let loss = match contract.delivery {
        Delivery::AtMostOnce => false,
        Delivery::AtLeastOnce | Delivery::ExactlyOnce => true,
    };
    let twice = match contract.delivery {
        Delivery::AtLeastOnce => false,
        Delivery::AtMostOnce | Delivery::ExactlyOnce => true,
    };
    if loss {
        let many = "acknowledged messages were lost";
        clause(delivery, &balance.lost, "acknowledged message was lost", many);
    }
    if twice {
        clause(delivery, &group.duplicated, "message was duplicated", "deliveries were duplicates");
        let one = "message was delivered again, marked as redelivered";
        clause(delivery, &group.repeated, one, "messages were delivered again, marked as redelivered");
    }
    let order = match contract.order {
        Order::None => None,
        Order::PerKey => Some("order per key"),
        Order::Total => Some("total order"),
    };
    if let Some(order) = order {
        let many = "messages were reordered: they came after a later one of the same producer and key";
        clause(
            order,
            &group.reordered,
            "message was reordered: it came after a later one of the same producer and key",
            many,
        );
    }
    clause("integrity", &group.corrupted, "message was corrupted", "messages were corrupted");
    let one = "message was delivered before it was sent";
    clause("causality", &group.early, one, "messages were delivered before they were sent");
    let one = "message was delivered that this run never published";
    clause("origin", &balance.foreign, one, "messages were delivered that this run never published");
    let one = "message was delivered that the group's bindings don't let through";
    clause("routing", &group.misrouted, one, "messages were delivered that the group's bindings don't let through");
    if let Some(Parted { channel, after, missing: false, .. }) = parted {
        broken.push(format!(
            "total order: this group saw channel {channel} in another order than the first group, at the latest from delivery {after} on"
        ));
    }
    broken
}

fn sentence(clause: &str, what: &Tallied, one: &str, many: &str) -> String {
    let count = if what.count == 1 { format!("1 {one}") } else { format!("{} {many}", what.count) };
    let example = match what.first {
        Some(MessageId { producer, sequence }) => format!(" (for example message {sequence} of producer {producer})"),
        None => String::new(),
    };
    format!("{clause}: {count}{example}")
}
