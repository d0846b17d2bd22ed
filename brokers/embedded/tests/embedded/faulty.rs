//! Each planted fault happens as often as it was asked for, and no other with it.

use crate::end_to_end::{MESSAGES, Seen, reordered, run};

const INNER: &[&str] = &["log", "queue", "direct", "null"];

fn distinct(all: &[Seen]) -> usize {
    let mut numbers: Vec<u64> = all.iter().filter(|seen| seen.is_whole()).map(Seen::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len()
}

/// Deliveries of messages that had not been taken when they were polled.
fn early(all: &[Seen]) -> usize {
    all.iter().filter(|seen| seen.number() >= seen.sent).count()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    lost: usize,
    duplicated: usize,
    damaged: usize,
    reordered: usize,
    early: usize,
    redelivered: usize,
}

fn found(url: &str) -> Found {
    let (_world, all) = run(url, "memory,per-key");
    let damaged = all.iter().filter(|seen| !seen.is_whole()).count();
    Found {
        lost: MESSAGES as usize - damaged - distinct(&all),
        duplicated: all.len() - damaged - distinct(&all),
        damaged,
        reordered: reordered(&all),
        early: early(&all),
        redelivered: all.iter().filter(|seen| seen.redeliveries > 0).count(),
    }
}

#[test]
fn a_dropped_delivery_is_lost_and_nothing_else() {
    for inner in INNER {
        assert_eq!(
            found(&format!("faulty?drop=1000&inner={inner}")),
            Found { lost: 10, ..Found::default() },
            "{inner}"
        );
    }
}

#[test]
fn a_duplicate_is_a_second_delivery_that_is_not_marked() {
    for inner in INNER {
        let expected = Found { duplicated: 10, ..Found::default() };
        assert_eq!(found(&format!("faulty?duplicate=1000&inner={inner}")), expected, "{inner}");
    }
}

#[test]
fn a_corrupted_delivery_has_one_bit_changed() {
    for inner in INNER {
        let expected = Found { damaged: 10, ..Found::default() };
        assert_eq!(found(&format!("faulty?corrupt=1000&inner={inner}")), expected, "{inner}");
    }
}

#[test]
fn two_messages_of_a_key_change_places() {
    for inner in INNER {
        let found = found(&format!("faulty?reorder=1000&inner={inner}"));
        assert!((8..=10).contains(&found.reordered), "{inner}: {found:?}");
        assert_eq!(found, Found { reordered: found.reordered, ..Found::default() }, "{inner}");
    }
}

#[test]
fn a_message_comes_before_it_is_taken_and_not_again() {
    for inner in INNER {
        let found = found(&format!("faulty?early=1000&inner={inner}"));
        assert_eq!(found.early, 10, "{inner}");
        assert_eq!(
            (found.lost, found.duplicated, found.damaged, found.redelivered),
            (0, 0, 0, 0),
            "{inner}: {found:?}"
        );
    }
}
