//! Every message has exactly one fate, whatever the backend does with it.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use brokerlab_host::{ManualClock, run};
use brokerlab_model::{Span, Time};
use brokerlab_workloads::measurement::{FitnessRecord, ResourceRecord};
use brokerlab_workloads::validity::judge;

use crate::toy::{Manners, Toy};
use crate::{assert_accounted, at, measured, spec};

#[test]
fn everything_is_acknowledged_delivered_and_settled() {
    let more = [("warmup", "200ms"), ("producers", "4"), ("connections", "2"), ("groups.*.members", "3")];
    let (measurement, toy) = measured(Manners { service: Span::from_micros(20), ..Manners::default() }, &more);
    assert_accounted(&measurement);
    let c = measurement.counts;
    assert_eq!((c.due, c.warmup_due, c.acknowledged, c.published_in_all), (1_000, 200, 1_000, 1_200));
    assert_eq!((c.delivered_in_all, c.settled_in_all, toy.seen().settled), (1_200, 1_200, 1_200));
    assert_eq!((measurement.settle.response.count, measurement.settle.unfinished), (1_000, 0));
    assert_eq!((measurement.groups[0].idle_members, measurement.loops.clients), (0, 5));
    assert!(measurement.digest.matches_published);
    assert_eq!(measurement.digest.messages, 1_200);
    assert_eq!(toy.seen().closed, 6);
    assert_eq!(measurement.window.drained_ns, 0);
}

#[test]
fn the_digest_is_the_profiles_and_not_the_backends() {
    let digests = [
        Manners::default(),
        Manners { window: 1, service: Span::from_millis(3), ..Manners::default() },
        Manners { throttle_every: 7, fail_every: 10, ..Manners::default() },
    ]
    .map(|manners| measured(manners, &[]).0.digest);
    assert!(digests.iter().all(|digest| digest.matches_published));
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

#[test]
fn a_message_that_waits_is_stamped_anew_when_it_is_offered_again() {
    let manners = Manners { window: 2, service: Span::from_millis(2), ..Manners::default() };
    let (measurement, toy) = measured(manners, &[("duration", "100ms")]);
    assert_accounted(&measurement);
    let seen = toy.seen();
    assert_eq!(seen.in_flight_max, 2);
    assert!(seen.offered > seen.taken);
    // 100 messages at 2 ms each: message n is taken when message n - 2 is done.
    let expected: Vec<(u32, u64, Time)> =
        (0..100).map(|n| (0, n, Time(if n < 2 { n * 1_000_000 } else { (n - 1) * 2_000_000 }))).collect();
    assert_eq!(seen.stamps, expected);
    assert_eq!(measurement.groups[0].check.early, 0);
    assert_eq!(at(&measurement.publish.service, 0, 1.0) / 100_000, 40);
    assert_eq!(at(&measurement.publish.late, 0, 1.0), 0);
}

#[test]
fn a_throttled_message_is_offered_again_and_keeps_its_intended_start() {
    let manners = Manners { throttle_every: 10, throttled_times: 3, ..Manners::default() };
    let (measurement, toy) = measured(manners, &[]);
    assert_accounted(&measurement);
    let c = measurement.counts;
    assert_eq!((c.due, c.acknowledged, c.throttled, c.published_in_all), (1_000, 1_000, 300, 1_000));
    assert_eq!(toy.seen().taken, 1_300);
    // Offered again after 1, 2 and 4 ms.
    assert_eq!(at(&measurement.publish.response, 0, 1.0) / 100_000, 70);
    assert_eq!(at(&measurement.publish.blocked, 0, 1.0) / 100_000, 70);
    assert_eq!(at(&measurement.publish.late, 0, 1.0), 0);
    assert_eq!(measurement.groups[0].check.delivered, 1_000);
}

#[test]
fn what_fails_is_final_and_counted_apart() {
    let (measurement, _) = measured(Manners { fail_every: 10, ..Manners::default() }, &[]);
    assert_accounted(&measurement);
    let c = measurement.counts;
    assert_eq!((c.acknowledged, c.failed, measurement.publish.unfinished), (900, 100, 100));
    assert_eq!(measurement.groups[0].check.lost, 0);
}

#[test]
fn what_is_acknowledged_and_not_delivered_is_lost() {
    let (measurement, _) = measured(Manners { drop_every: 100, ..Manners::default() }, &[("drain_limit", "500ms")]);
    assert_accounted(&measurement);
    assert_eq!((measurement.groups[0].check.lost, measurement.end_to_end.unfinished), (10, 10));
    // It might still have come: it was waited for.
    assert_eq!(measurement.window.drained_ns, 500_000_000);
    assert_eq!(measurement.groups[0].check.broken.len(), 1);
}

#[test]
fn what_is_dropped_by_a_limit_and_told_by_nobody_ends_the_run_and_counts_as_lost_in_words() {
    let manners = Manners { drop_every: 100, untold: Some("x-max-length=7"), ..Manners::default() };
    let (measurement, _) = measured(manners, &[("drain_limit", "30s")]);
    assert_accounted(&measurement);
    assert_eq!((measurement.groups[0].check.lost, measurement.end_to_end.unfinished), (10, 10));
    // A second in which nothing came and nothing was held, and the step in which the answer came.
    assert!((1_000_000_000..1_250_000_000).contains(&measurement.window.drained_ns), "{:?}", measurement.window);
    let [note] = measurement.notes.as_slice() else { panic!("{:?}", measurement.notes) };
    assert!(note.starts_with("x-max-length=7: the broker drops messages by this and tells nobody"), "{note}");
    assert!(note.ends_with("10 in all, counted as lost"), "{note}");
}

#[test]
fn a_backend_that_drops_untold_and_still_holds_something_is_waited_for() {
    let manners = Manners { stuck_every: 50, untold: Some("x-max-length=7"), ..Manners::default() };
    let more = [("drain_limit", "5s"), ("groups.*.work", "{ kind = \"constant\", time = \"2ms\" }")];
    let (measurement, _) = measured(manners, &more);
    assert_accounted(&measurement);
    let check = &measurement.groups[0].check;
    // The member works until 2 s after the start; what reached nobody comes back when it has closed.
    assert_eq!((check.delivered, check.undelivered, check.lost), (980, 20, 0));
    assert!((1_960_000_000..2_400_000_000).contains(&measurement.window.drained_ns), "{:?}", measurement.window);
    assert_eq!(measurement.notes, Vec::<String>::new());
}

#[test]
fn what_is_in_flight_and_told_by_nobody_is_not_lost_and_what_is_lost_is_found_beside_it() {
    let of = |drop_every| {
        let manners = Manners { stuck_every: 50, drop_every, ..Manners::default() };
        let (measurement, toy) = measured(manners, &[("drain_limit", "500ms"), ("groups.*.members", "2")]);
        assert_accounted(&measurement);
        // Members close once, asked early or not: two of them, a producer and the administrator.
        assert_eq!(toy.seen().closed, 4);
        measurement.groups[0].check.clone()
    };
    let check = of(0);
    assert_eq!((check.delivered, check.undelivered, check.lost, check.broken.len()), (980, 20, 0, 0));
    let check = of(100);
    // Of the 990 that are pushed, each fiftieth.
    assert_eq!((check.delivered, check.undelivered, check.lost, check.broken.len()), (971, 19, 10, 1));
}

#[test]
fn at_the_drain_limit_the_rest_is_unacknowledged_or_not_sent() {
    // 1,000 due, 10 ms each, 1.5 s in all: 150 done, one more in flight.
    let manners = Manners { service: Span::from_millis(10), window: 2, ..Manners::default() };
    let (measurement, toy) = measured(manners, &[("drain_limit", "500ms")]);
    assert_accounted(&measurement);
    let c = measurement.counts;
    assert_eq!((c.due, c.acknowledged, c.unacknowledged, c.not_sent), (1_000, 150, 1, 849));
    assert_eq!((c.due_bytes, measurement.publish.unfinished), (64_000, 850));
    assert_eq!(toy.seen().taken, 151);
    let saturated = judge(&measurement).unwrap().saturated.unwrap();
    assert_eq!((saturated.asked_per_s, saturated.backlog), (1_000.0, 901));
}

#[test]
fn consumers_that_do_not_keep_up_leave_messages_with_the_backend_and_lose_none() {
    let more = [("groups.*.work", "{ kind = \"constant\", time = \"5ms\" }"), ("drain_limit", "1s")];
    let (measurement, _) = measured(Manners::default(), &more);
    assert_accounted(&measurement);
    let check = &measurement.groups[0].check;
    // 399 done in 2 s; credit comes back in quarters of 64, so that 24 × 16 more than the first 64 were asked for.
    assert_eq!((check.delivered, check.undelivered, check.lost), (448, 552, 0));
    assert_eq!(check.broken, Vec::<String>::new());
    assert!((measurement.groups[0].utilisation - 5.0).abs() < 1e-9);
}

#[test]
fn a_member_is_busy_with_one_message_at_a_time_and_settles_when_it_is_done() {
    // Ten messages, one every 5 ms; each takes 8 ms of work.
    let more = [
        ("groups.*.work", "{ kind = \"constant\", time = \"8ms\" }"),
        ("duration", "50ms"),
        ("arrivals.rate", "200/s"),
    ];
    let (measurement, toy) = measured(Manners::default(), &more);
    assert_accounted(&measurement);
    let expected: Vec<Time> = (1..=10).map(|n| Time(n * 8_000_000)).collect();
    assert_eq!(toy.seen().settled_at, expected);
    assert_eq!((at(&measurement.settle.response, 0, 1.0), measurement.settle.response.count), (0, 10));
    assert_eq!(at(&measurement.end_to_end.response, 0, 1.0), 0);
}

#[test]
fn credit_is_given_again_in_parts_and_never_runs_out() {
    let (measurement, toy) = measured(Manners::default(), &[("groups.*.prefetch", "8")]);
    assert_accounted(&measurement);
    let grants = toy.seen().grants;
    assert_eq!((grants[0], grants[1]), (8, 2));
    assert_eq!(grants.iter().sum::<u32>(), 1_008);
}

#[test]
fn a_pause_builds_a_backlog_that_is_drained_afterwards() {
    let pauses = "[{ group = \"g\", at = \"200ms\", for = \"300ms\" }]";
    let more = [
        ("pauses", pauses),
        ("groups.*.work", "{ kind = \"constant\", time = \"100us\" }"),
        ("groups.*.prefetch", "4"),
    ];
    let (measurement, _) = measured(Manners::default(), &more);
    assert_accounted(&measurement);
    assert_eq!(measurement.groups[0].check.delivered, 1_000);
    // Due right after the pause began, and delivered when it was over: all but the four that the member had asked for.
    let longest = at(&measurement.end_to_end.response, 0, 1.0) / 1_000_000;
    assert!((290..=300).contains(&longest), "{longest} ms");
    let delivered: Vec<u64> = measurement.intervals.iter().map(|interval| interval.delivered).collect();
    assert_eq!(delivered.iter().sum::<u64>(), 1_000);
    assert!(delivered[3] <= 4 && delivered[4] == 0 && delivered[5] > 300, "{delivered:?}");
    assert!(measurement.notes.iter().any(|note| note.starts_with("pause: group g")));
    assert_eq!(judge(&measurement).unwrap().saturated, None);
}

#[test]
fn a_lane_that_is_asked_back_is_released_after_its_work_is_settled() {
    let manners = Manners { revoke_after: 50, ..Manners::default() };
    let more = [("groups.*.members", "2"), ("groups.*.work", "{ kind = \"constant\", time = \"500us\" }")];
    let (measurement, toy) = measured(manners, &more);
    assert_accounted(&measurement);
    assert_eq!(toy.seen().events, ["released 0 after 50 settled"]);
    assert_eq!(measurement.counts.settled_in_all, 1_000);
    assert!(
        measurement.notes.iter().any(|note| note == "1 × a lane was asked back from a member"),
        "{:?}",
        measurement.notes
    );
}

#[test]
fn an_interrupted_run_still_has_a_measurement_and_says_so() {
    let clock = ManualClock::new();
    let mut toy = Toy::new(&clock, Manners { service: Span::from_micros(10), ..Manners::default() });
    let stop = AtomicBool::new(false);
    let measurement = run(&mut toy, &spec(&[("warmup", "100ms")]), &clock, &stop, &mut |progress| {
        if progress.acknowledged >= 600 {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    })
    .unwrap();
    assert_accounted(&measurement);
    assert_eq!(measurement.cut_short.as_deref(), Some("it was interrupted"));
    let c = measurement.counts;
    assert!((500..=600).contains(&c.due) && c.due == measurement.window.duration_ns.div_ceil(1_000_000), "{c:?}");
    assert!(c.due - c.acknowledged <= 1);
    assert!(!judge(&measurement).unwrap().valid);
}

#[test]
fn an_objective_of_abort_on_ends_the_run() {
    let stall = Some((Time(300_000_000), Span::from_millis(400)));
    let manners = Manners { service: Span::from_micros(10), stall, ..Manners::default() };
    let (measurement, _) = measured(manners, &[("abort_on", "[\"publish p90 <= 50ms\"]")]);
    assert_accounted(&measurement);
    assert_eq!(measurement.cut_short.as_deref(), Some("abort_on: `publish p90 <= 50ms` is missed"));
    assert!(measurement.window.duration_ns >= 700_000_000 && measurement.window.duration_ns < 710_000_000);
}

#[test]
fn an_objective_of_abort_on_is_of_the_window_and_of_the_operation_alone() {
    // Everything of the warm-up misses it, and nothing of the window.
    let stall = Some((Time(0), Span::from_millis(300)));
    let manners = Manners { service: Span::from_micros(10), stall, ..Manners::default() };
    let more = [("warmup", "400ms"), ("abort_on", "[\"publish p90 <= 5ms\"]")];
    assert_eq!(measured(manners, &more).0.cut_short, None);
    // The work is no part of the settlement after it.
    let work = ("groups.*.work", "{ kind = \"constant\", time = \"500us\" }");
    let more = [work, ("abort_on", "[\"settle p90 <= 100us\"]")];
    assert_eq!(measured(Manners::default(), &more).0.cut_short, None);
}

#[test]
fn far_too_much_asked_is_saturated_and_stays_small() {
    // One hundred million a second asked, a window of 64 messages and 1 µs for each.
    let manners = Manners { service: Span::from_micros(1), window: 64, ..Manners::default() };
    let more = [("arrivals.rate", "100M/s"), ("duration", "20ms"), ("drain_limit", "5ms")];
    let (measurement, toy) = measured(manners, &more);
    assert_accounted(&measurement);
    let c = measurement.counts;
    assert_eq!((c.due, c.due_bytes), (2_000_000, 128_000_000));
    let seen = toy.seen();
    // Nothing is built that the backend does not have room for, but one batch.
    assert_eq!((seen.in_flight_max, c.published_in_all), (64, seen.taken));
    assert_eq!(c.unacknowledged + c.not_sent, c.due - c.acknowledged);
    assert!(c.acknowledged >= 24_900 && c.acknowledged <= 25_000, "{c:?}");
    let saturated = judge(&measurement).unwrap().saturated.unwrap();
    assert!((saturated.asked_per_s - 1e8).abs() < 1.0 && saturated.achieved_per_s < 1.01e6, "{saturated:?}");
}

#[test]
fn a_silent_backend_leaves_messages_unacknowledged() {
    let (measurement, _) = measured(Manners { silent_after: 400, ..Manners::default() }, &[("drain_limit", "100ms")]);
    assert_accounted(&measurement);
    assert_eq!((measurement.counts.acknowledged, measurement.counts.unacknowledged), (400, 600));
}

#[test]
fn two_runs_of_one_seed_are_equal_byte_for_byte() {
    let manners = Manners { service: Span::from_micros(700), window: 8, throttle_every: 9, ..Manners::default() };
    let more =
        [("arrivals", "{ kind = \"poisson\", rate = \"1500/s\" }"), ("producers", "3"), ("groups.*.members", "2")];
    let [first, second] = [0, 1].map(|_| {
        let (mut measurement, toy) = measured(manners.clone(), &more);
        measurement.resources = ResourceRecord::default();
        measurement.fitness = FitnessRecord::default();
        (serde_json::to_string(&measurement).unwrap(), toy.seen().stamps)
    });
    assert_eq!(first, second);
    let starts: BTreeSet<(u32, u64)> = first.1.iter().map(|&(producer, sequence, _)| (producer, sequence)).collect();
    assert!(starts.len() > 1_000);
}
