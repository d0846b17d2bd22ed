//! Windows, held against the batch computation and against examples that were worked out by hand.
//!
//! Leaves out speed; a benchmark has that.

use proptest::prelude::*;

use super::reference::{Expected, Table, batch, watermarks};
use super::*;
use crate::time::Span;

fn tumbling(size: u64) -> WindowOptions {
    WindowOptions::new(WindowKind::Tumbling { size: Span(size) })
}

fn sliding(size: u64, slide: u64) -> WindowOptions {
    WindowOptions::new(WindowKind::Sliding { size: Span(size), slide: Span(slide) })
}

fn session(gap: u64) -> WindowOptions {
    WindowOptions::new(WindowKind::Session { gap: Span(gap) })
}

fn event(lane: u32, time: u64, key: &[u8], value: i64) -> Event<'_> {
    Event { lane: LaneId(lane), time: Time(time), key, value }
}

/// A result in few words: why, key, start, end, count, sum.
type Row = (Firing, Vec<u8>, u64, u64, u64, i128);

fn rows(out: &WindowOutput) -> Vec<Row> {
    let row = |r: WindowResult<'_>| (r.firing, r.key.to_vec(), r.start.0, r.end.0, r.aggregate.count, r.aggregate.sum);
    out.results().map(row).collect()
}

/// What one event gives, in few words.
fn step(windows: &mut Windows, event: Event<'_>) -> (Vec<Row>, usize) {
    let mut out = WindowOutput::default();
    windows.observe(&event, &mut out).expect("there is room");
    (rows(&out), out.late().count())
}

/// What stands of a batch's windows at a watermark.
fn shown(whole: &Expected, watermark: Time) -> Table {
    let complete = whole.table.0.iter().filter(|(window, _)| window.2 <= watermark);
    Table(complete.map(|(window, aggregate)| (window.clone(), *aggregate)).collect())
}

type Change = (Firing, reference::KeyWindow, Aggregate);

/// What has to be said so that one table becomes the other.
fn changes(before: &Table, after: &Table, firing: Firing) -> Vec<Change> {
    let gone = before.0.iter().filter(|(window, _)| !after.0.contains_key(*window));
    let gone = gone.map(|(window, aggregate)| (Firing::Withdrawn, window.clone(), *aggregate));
    let new = after.0.iter().filter(|(window, aggregate)| before.0.get(*window) != Some(*aggregate));
    gone.chain(new.map(|(window, aggregate)| (firing, window.clone(), *aggregate))).collect()
}

fn said(out: &WindowOutput) -> Vec<Change> {
    out.results().map(|r| (r.firing, (r.key.to_vec(), r.start, r.end), r.aggregate)).collect()
}

fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    changes
}

/// Holds every step of a trace against the batch computation over what had come by then; returns what stands in the end.
fn check(options: &WindowOptions, trace: &[Event<'_>]) -> Expected {
    let mut windows = Windows::new(*options).expect("these windows can be");
    let watermarks = watermarks(options, trace);
    let (mut out, mut standing, mut table) = (WindowOutput::default(), Table::default(), Table::default());
    let mut whole = Expected::default();
    for (index, event) in trace.iter().enumerate() {
        out.clear();
        windows.observe(event, &mut out).expect("there is room");
        whole = batch(options, &trace[..=index]);
        let late: Vec<_> = out.late().collect();
        let expected_late = whole.late.last() == Some(&index);
        assert_eq!(late, if expected_late { vec![*event] } else { vec![] }, "{options:?} {trace:?} at {index}");
        let changed = shown(&whole, watermarks[index]);
        let now = shown(&whole, watermarks[index + 1]);
        let mut expected = changes(&standing, &changed, Firing::Late);
        expected.extend(changes(&changed, &now, Firing::Main));
        assert_eq!(sorted(said(&out)), sorted(expected), "{options:?} {trace:?} at {index}");
        let ends: Vec<Time> = out.results().filter(|r| r.firing == Firing::Main).map(|r| r.end).collect();
        assert!(ends.is_sorted(), "windows fire in order of their ends: {ends:?}");
        assert_eq!(windows.watermark(), watermarks[index + 1]);
        table.apply_all(&out).expect("results do not contradict each other");
        standing = now;
    }
    out.clear();
    windows.finish(&mut out);
    assert_eq!(sorted(said(&out)), sorted(changes(&standing, &whole.table, Firing::Main)), "{options:?} {trace:?}");
    table.apply_all(&out).expect("results do not contradict each other");
    assert_eq!(table.first_difference(&whole.table), None, "{options:?} {trace:?}");
    let counts = windows.counts();
    assert_eq!((counts.events, counts.late), (trace.len() as u64, whole.late.len() as u64));
    assert_eq!(counts.partly_late, whole.partly_late, "{options:?} {trace:?}");
    assert_eq!(windows.keys.bytes(), 0, "no key is left");
    whole
}

/// One event in small numbers: lane, how far time goes on, how far the event lies behind, key, value, whether it comes twice.
type Small = (u8, u8, u8, u8, i8, bool);

fn small_events(most: usize) -> impl Strategy<Value = Vec<Small>> {
    let on = prop_oneof![6 => 0..8u8, 2 => 8..40u8, 1 => 100..200u8];
    let back = prop_oneof![3 => Just(0u8), 3 => 0..12u8, 1 => 0..60u8];
    prop::collection::vec((0..3u8, on, back, 0..3u8, any::<i8>(), prop::bool::weighted(0.1)), 0..most)
}

const KEYS: [&[u8]; 3] = [b"a", b"", b"a longer key"];

fn events(small: &[Small], lanes: u32) -> Vec<Event<'static>> {
    let mut clock = 0;
    let mut events = Vec::new();
    for &(lane, on, back, key, value, twice) in small {
        clock += u64::from(on);
        let time = clock.saturating_sub(back.into());
        let event = event(u32::from(lane) % lanes, time, KEYS[usize::from(key)], value.into());
        events.extend(std::iter::repeat_n(event, 1 + usize::from(twice)));
    }
    events
}

/// Everything but the kind of window: lateness, disorder, lanes, idleness.
fn waits() -> impl Strategy<Value = WindowOptions> {
    let lateness = prop_oneof![Just(0u64), 1..10u64, 10..60u64];
    let disorder = prop_oneof![Just(0u64), 1..15u64, 15..60u64];
    let idle = (prop::option::weighted(0.3, 1..6u64), prop::option::weighted(0.3, 0..50u64));
    (lateness, disorder, 1..4u32, idle).prop_map(|(lateness, disorder, lanes, (events, span))| WindowOptions {
        lateness: Span(lateness),
        disorder: Span(disorder),
        lanes,
        idle_after_events: events,
        idle_after: span.map(Span),
        ..tumbling(1)
    })
}

fn kinds() -> impl Strategy<Value = WindowKind> {
    prop_oneof![
        1 => (1..25u64).prop_map(|size| tumbling(size).kind),
        1 => (1..25u64, 1..25u64).prop_map(|(a, b)| sliding(a.max(b), a.min(b)).kind),
        1 => (1..20u64).prop_map(|gap| session(gap).kind),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tumbling_windows_are_the_batchs(size in 1..25u64, options in waits(), small in small_events(24)) {
        check(&WindowOptions { kind: tumbling(size).kind, ..options }, &events(&small, options.lanes));
    }

    #[test]
    fn sliding_windows_are_the_batchs(a in 1..25u64, b in 1..25u64, options in waits(), small in small_events(24)) {
        let kind = sliding(a.max(b), a.min(b)).kind;
        check(&WindowOptions { kind, ..options }, &events(&small, options.lanes));
    }

    #[test]
    fn session_windows_are_the_batchs(gap in 1..20u64, options in waits(), small in small_events(24)) {
        check(&WindowOptions { kind: session(gap).kind, ..options }, &events(&small, options.lanes));
    }

    /// A crash after some events, and the lanes read again from the checkpoint's positions.
    #[test]
    fn a_replay_gives_the_same_results(
        kind in kinds(), options in waits(), small in small_events(30), cut in any::<prop::sample::Index>(),
    ) {
        let options = WindowOptions { kind, ..options };
        let trace = events(&small, options.lanes);
        let cut = cut.index(trace.len() + 1);
        let mut before = Windows::new(options).expect("these windows can be");
        let mut kept = before.checkpoint();
        let mut at = vec![0; options.lanes as usize];
        let mut lines = Vec::new();
        for (index, event) in trace.iter().enumerate() {
            if index == cut {
                kept = before.checkpoint();
            }
            let position = &mut at[event.lane.0 as usize];
            let mut out = WindowOutput::default();
            prop_assert_eq!(before.observe_at(*position, event, &mut out), Ok(true));
            *position += 1;
            lines.push(sorted(said(&out)));
        }
        if cut == trace.len() {
            kept = before.checkpoint();
        }
        let mut after = Windows::restore(&kept).expect("a checkpoint that was just made");
        prop_assert_eq!(&after.checkpoint(), &kept);
        let mut at = vec![0; options.lanes as usize];
        for (event, line) in trace.iter().zip(&lines) {
            let position = &mut at[event.lane.0 as usize];
            let mut out = WindowOutput::default();
            if after.next_position(event.lane).is_some_and(|next| next <= *position) {
                prop_assert_eq!(after.observe_at(*position, event, &mut out), Ok(true));
                prop_assert_eq!(&sorted(said(&out)), line);
            }
            *position += 1;
        }
        prop_assert_eq!(&after, &before);
    }
}

/// Every sequence of `length` numbers below `choices`.
fn sequences(length: u32, choices: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..choices.pow(length)).map(move |n| (0..length).map(|digit| n / choices.pow(digit) % choices).collect())
}

#[test]
fn every_order_of_four_events_over_two_lanes() {
    const TIMES: [u64; 5] = [0, 3, 4, 9, 13];
    let mut traces = 0;
    for (kind, lateness) in
        [tumbling(5).kind, sliding(6, 4).kind, session(4).kind].into_iter().flat_map(|k| [(k, 0), (k, 3)])
    {
        let options =
            WindowOptions { lanes: 2, lateness: Span(lateness), disorder: Span(1), ..WindowOptions::new(kind) };
        for picks in sequences(4, 2 * TIMES.len()) {
            let pick = |(value, &pick): (i64, &usize)| event((pick % 2) as u32, TIMES[pick / 2], b"k", value);
            let trace: Vec<_> = (1..).zip(&picks).map(pick).collect();
            check(&options, &trace);
            traces += 1;
        }
    }
    assert_eq!(traces, 60_000);
}

/// Lanes that are each in order within the disorder allowed: however their events come between each other, nothing is late and
/// the same windows stand in the end.
#[test]
fn every_interleaving_of_two_ordered_lanes_gives_the_same_windows() {
    const TIMES: [u64; 4] = [0, 2, 5, 9];
    let ordered: Vec<_> = sequences(3, TIMES.len()).filter(|picks| picks.is_sorted()).collect();
    let interleavings: Vec<_> = sequences(6, 2).filter(|lanes| lanes.iter().sum::<usize>() == 3).collect();
    assert_eq!((ordered.len(), interleavings.len()), (20, 20));
    for kind in [tumbling(4).kind, sliding(6, 3).kind, session(3).kind] {
        let options = WindowOptions { lanes: 2, ..WindowOptions::new(kind) };
        for pair in sequences(2, ordered.len()) {
            let mut expected = None;
            for lanes in &interleavings {
                let mut next = [0, 0];
                let mut take = |lane: &usize| {
                    let time = TIMES[ordered[pair[*lane]][next[*lane]]];
                    next[*lane] += 1;
                    event(*lane as u32, time, b"k", (2 * time + *lane as u64).cast_signed())
                };
                let trace: Vec<_> = lanes.iter().map(&mut take).collect();
                let mut windows = Windows::new(options).expect("these windows can be");
                let (mut out, mut table) = (WindowOutput::default(), Table::default());
                for event in &trace {
                    windows.observe(event, &mut out).expect("there is room");
                }
                windows.finish(&mut out);
                table.apply_all(&out).expect("results do not contradict each other");
                assert_eq!((windows.counts().late, windows.counts().updates, windows.counts().withdrawn), (0, 0, 0));
                let expected = expected.get_or_insert_with(|| batch(&options, &trace).table);
                assert_eq!(table.first_difference(expected), None, "{trace:?}");
            }
        }
    }
}

#[test]
fn a_late_event_fires_its_window_again_until_the_lateness_is_over() {
    let mut windows = Windows::new(WindowOptions { lateness: Span(20), ..tumbling(10) }).expect("these windows can be");
    let k = || b"k".to_vec();
    assert_eq!(step(&mut windows, event(0, 3, b"k", 5)), (vec![], 0));
    assert_eq!(step(&mut windows, event(0, 9, b"k", 7)), (vec![], 0));
    assert_eq!(
        step(&mut windows, event(0, 10, b"k", 1)),
        (vec![(Firing::Main, k(), 0, 10, 2, 12)], 0),
        "the end is not in it"
    );
    assert_eq!(step(&mut windows, event(0, 8, b"k", 1)), (vec![(Firing::Late, k(), 0, 10, 3, 13)], 0));
    assert_eq!(step(&mut windows, event(0, 0, b"n", 2)), (vec![(Firing::Late, b"n".to_vec(), 0, 10, 1, 2)], 0));
    assert_eq!(step(&mut windows, event(0, 29, b"k", 1)).0, [(Firing::Main, k(), 10, 20, 1, 1)]);
    assert_eq!(step(&mut windows, event(0, 9, b"k", 1)), (vec![(Firing::Late, k(), 0, 10, 4, 14)], 0));
    assert_eq!(step(&mut windows, event(0, 30, b"k", 1)).0, [(Firing::Main, k(), 20, 30, 1, 1)]);
    assert_eq!(step(&mut windows, event(0, 9, b"k", 1)), (vec![], 1), "10 + 20 is reached");
    let counts = WindowCounts { events: 9, late: 1, main: 3, updates: 3, ..WindowCounts::default() };
    assert_eq!(windows.counts(), counts);
}

#[test]
fn an_event_is_in_each_sliding_window_that_holds_it() {
    let mut windows = Windows::new(sliding(10, 5)).expect("these windows can be");
    assert_eq!(step(&mut windows, event(0, 2, b"k", 1)), (vec![], 0));
    assert_eq!(step(&mut windows, event(0, 7, b"k", 2)).0, [(Firing::Main, b"k".to_vec(), 0, 5, 1, 1)], "begins at -5");
    let two = [(Firing::Main, b"k".to_vec(), 0, 10, 2, 3), (Firing::Main, b"k".to_vec(), 5, 15, 1, 2)];
    assert_eq!(step(&mut windows, event(0, 100, b"k", 4)).0, two, "empty windows are not shown");
    assert_eq!(step(&mut windows, event(0, 97, b"k", 8)), (vec![], 0), "late for [90, 100), in time for [95, 105)");
    assert_eq!(windows.counts().partly_late, 1);
    let mut out = WindowOutput::default();
    windows.finish(&mut out);
    assert_eq!(
        rows(&out),
        [(Firing::Main, b"k".to_vec(), 95, 105, 2, 12), (Firing::Main, b"k".to_vec(), 100, 110, 1, 4)]
    );
}

#[test]
fn a_session_ends_with_silence_grows_and_joins() {
    let mut windows = Windows::new(WindowOptions { lateness: Span(100), ..session(10) }).expect("these windows can be");
    let row = |firing, start, end, count, sum| (firing, b"k".to_vec(), start, end, count, sum);
    assert_eq!(step(&mut windows, event(0, 0, b"k", 1)), (vec![], 0));
    assert_eq!(step(&mut windows, event(0, 9, b"k", 2)), (vec![], 0));
    assert_eq!(
        step(&mut windows, event(0, 19, b"k", 4)).0,
        [row(Firing::Main, 0, 19, 2, 3)],
        "at the gap it is another"
    );
    assert_eq!(step(&mut windows, event(0, 60, b"k", 8)).0, [row(Firing::Main, 19, 29, 1, 4)]);
    let grown = [row(Firing::Withdrawn, 19, 29, 1, 4), row(Firing::Late, 19, 35, 2, 20)];
    assert_eq!(step(&mut windows, event(0, 25, b"k", 16)).0, grown);
    assert_eq!(
        step(&mut windows, event(0, 20, b"k", 32)).0,
        [row(Firing::Late, 19, 35, 3, 52)],
        "within, its ends stay"
    );
    let joined =
        [row(Firing::Withdrawn, 0, 19, 2, 3), row(Firing::Withdrawn, 19, 35, 3, 52), row(Firing::Late, 0, 35, 6, 119)];
    assert_eq!(step(&mut windows, event(0, 15, b"k", 64)).0, joined);
    let mut out = WindowOutput::default();
    windows.finish(&mut out);
    assert_eq!(rows(&out), [row(Firing::Main, 60, 70, 1, 8)]);
}

#[test]
fn what_can_not_be_taken_in_is_refused() {
    let mut windows = Windows::new(tumbling(10)).expect("these windows can be");
    let mut out = WindowOutput::default();
    let fresh = windows.clone();
    assert_eq!(windows.observe(&event(1, 0, b"k", 1), &mut out), Err(Refused::NoSuchLane { lane: 1, lanes: 1 }));
    let time = Time(LATEST.0 + 1);
    assert_eq!(windows.observe(&event(0, time.0, b"k", 1), &mut out), Err(Refused::TooFarAhead { time }));
    windows.release(LaneId(1), &mut out);
    assert_eq!((&windows, out.is_empty()), (&fresh, true));
    windows.observe(&event(0, LATEST.0, b"k", i64::MAX), &mut out).expect("the latest that can be");
    windows.finish(&mut out);
    assert_eq!(out.results().count(), 1);
}

#[test]
fn at_the_bound_an_event_is_refused_and_time_makes_room() {
    for kind in [tumbling(10).kind, sliding(10, 5).kind, session(10).kind] {
        let options = WindowOptions { max_bytes: 4_000, ..WindowOptions::new(kind) };
        let mut windows = Windows::new(options).expect("these windows can be");
        let mut out = WindowOutput::default();
        let (mut taken, mut refused) = (0u64, 0u64);
        for n in 0..1_000u64 {
            match windows.observe(&event(0, 1, &n.to_le_bytes(), 1), &mut out) {
                Ok(()) => taken += 1,
                Err(refusal) => {
                    assert_eq!(refusal, Refused::Full { max_bytes: 4_000 });
                    refused += 1;
                }
            }
            assert!(windows.held_bytes() < 4_000 + 200, "{}", windows.held_bytes());
        }
        assert!((10..100).contains(&taken) && taken + refused == 1_000, "{kind:?}: {taken} keys fit");
        windows.observe(&event(0, 1, &0u64.to_le_bytes(), 1), &mut out).expect("it needs nothing more");
        out.clear();
        windows.observe(&event(0, 1_000, b"new", 1), &mut out).expect("the windows before it have made room");
        assert!(out.results().map(|result| result.aggregate.count).sum::<u64>() > taken, "and shown all");
        assert_eq!(windows.counts().events, taken + 2);
    }
}

#[test]
fn keys_that_come_and_go_take_no_more_room_than_those_of_a_few_windows() {
    for kind in [tumbling(10).kind, sliding(10, 5).kind, session(10).kind] {
        let options = WindowOptions { max_bytes: 20_000, ..WindowOptions::new(kind) };
        let mut windows = Windows::new(options).expect("these windows can be");
        let mut out = WindowOutput::default();
        let mut results = 0;
        for n in 0..100_000u64 {
            windows.observe(&event(0, n, &n.to_le_bytes(), 1), &mut out).expect("there is room");
            results += out.results().count();
            out.clear();
        }
        windows.finish(&mut out);
        results += out.results().count();
        let each = if kind == sliding(10, 5).kind { 2 } else { 1 };
        assert_eq!(results, each * 100_000, "{kind:?}");
    }
}

#[test]
fn a_position_that_was_seen_is_not_counted_again() {
    let mut windows = Windows::new(tumbling(10)).expect("these windows can be");
    let mut out = WindowOutput::default();
    assert_eq!(windows.observe_at(7, &event(0, 1, b"k", 1), &mut out), Ok(true), "a lane may begin anywhere");
    assert_eq!(windows.observe_at(7, &event(0, 1, b"k", 1), &mut out), Ok(false));
    assert_eq!(windows.observe_at(9, &event(0, 1, b"k", 1), &mut out), Ok(true));
    let counts = WindowCounts { events: 2, replayed: 1, ..WindowCounts::default() };
    assert_eq!((windows.next_position(LaneId(0)), windows.counts()), (Some(10), counts));
}
