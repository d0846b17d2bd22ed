//! Lists, heaps and their stale entries, one by one.

use super::*;

#[test]
fn what_was_requeued_first_is_delivered_first() {
    let mut late = Exceptions::default();
    late.add_ready(9, 1);
    late.add_ready(4, 1);
    assert_eq!(late.deliver(0, Time(10), None), Some((9, 1)));
    late.requeue(9);
    assert_eq!(late.deliver(0, Time(10), None), Some((4, 1)));
    assert_eq!(late.deliver(1, Time(10), None), Some((9, 2)));
    assert_eq!(late.deliver(1, Time(10), None), None);
    late.settle(4);
    assert_eq!(late.get(4), None);
    late.add_leased(77, 0, 3, Time(9));
    assert_eq!((late.entries.len(), late.get(77).map(|entry| entry.member)), (2, Some(3)));
}

#[test]
fn an_extended_lease_ends_at_its_new_end_only() {
    let mut late = Exceptions::default();
    late.add_leased(1, 0, 5, Time(10));
    late.extend(1, Time(30));
    late.add_leased(2, 0, 6, Time(20));
    late.extend(2, Time(15));
    let mut ended = Vec::new();
    let mut end = |late: &mut Exceptions, now| {
        late.expire(now, |entry, _, _| {
            ended.push(entry.member);
            true
        });
        ended.clone()
    };
    assert!(end(&mut late, Time(14)).is_empty());
    assert_eq!(end(&mut late, Time(29)), [6]);
    assert_eq!(end(&mut late, Time(30)), [6, 5]);
    assert_eq!((late.ready(), late.next_deadline()), (2, None));
}

#[test]
fn extending_for_ever_does_not_grow() {
    let mut late = Exceptions::default();
    late.add_leased(1, 0, 5, Time(1));
    for n in 0..10_000 {
        late.extend(1, Time(n));
    }
    assert!(late.ends.len() <= 70, "{}", late.ends.len());
    assert_eq!(late.release(5, |_, _, _| true), 1);
    assert_eq!(late.ready(), 1);
}

#[test]
fn a_place_that_is_leased_again_and_again_until_one_time_is_noted_once() {
    let mut late = Exceptions::default();
    for position in 0..10_000 {
        late.add_leased(position, 0, 5, Time(30));
        late.settle(position);
    }
    late.add_leased(10_000, 0, 5, Time(30));
    assert!(late.ends.len() <= 70 && late.entries.len() == 1, "{} {}", late.ends.len(), late.entries.len());
    let mut ended = 0;
    late.expire(Time(30), |_, _, _| {
        ended += 1;
        true
    });
    assert_eq!((ended, late.ready(), late.next_deadline()), (1, 1, None));
}

#[test]
fn what_is_given_up_leaves_nothing_behind() {
    let mut late = Exceptions::new(Shape { ageing: true, ..Shape::default() });
    for position in [8, 3, 5, 9] {
        late.add_ready(position, 1);
    }
    let mut gone = Vec::new();
    late.drop_below(6, |entry, _| gone.push(entry.position));
    assert_eq!((gone, late.ready(), late.get(3)), (vec![3, 5], 2, None));
    assert_eq!(late.deliver(0, Time(10), None), Some((8, 1)), "the buried ones after it are stepped over");
    assert_eq!(
        (late.drop_first(None).map(|(entry, _)| entry.position), late.drop_first(None), late.ready()),
        (Some(9), None, 0)
    );
    late.expire(Time(10), |entry, _, _| entry.position != 8);
    assert_eq!((late.ready(), late.get(8), late.leased), (0, None, 0));
    assert!(late.entries.iter().all(|entry| entry.stage == Stage::Free));
    for _ in 0..10_000 {
        late.add_ready(7, 1);
        assert_eq!(late.drop_first(None).map(|(entry, _)| entry.position), Some(7));
    }
    assert!(late.oldest.len() <= 70 && late.entries.len() == 4, "{} {}", late.oldest.len(), late.entries.len());
}

#[test]
fn what_was_buried_at_the_head_is_free_at_once() {
    let mut late = Exceptions::new(Shape { ageing: true, ..Shape::default() });
    for position in 0..4 {
        late.add_ready(position, 1);
    }
    let mut gone = 0;
    late.drop_below(4, |_, _| gone += 1);
    assert_eq!((gone, late.ready(), late.again[0].head, late.again[0].tail), (4, 0, NIL, NIL));
    late.add_ready(9, 1);
    assert_eq!((late.entries.len(), late.deliver(0, Time(1), None)), (4, Some((9, 1))));
}
