//! The whole loop through outages in virtual time: what was due in them is charged and counted, clients come back, and every run ends.

use std::sync::atomic::{AtomicBool, Ordering};

use brokerlab_host::{Around, Clock as _, ManualClock, RunSpec, run_around};
use brokerlab_model::{Span, Time};
use brokerlab_workloads::measurement::{Act, Measurement, OutageRecord, World};
use brokerlab_workloads::profile::FaultNode;
use brokerlab_workloads::record::Quantile;
use brokerlab_workloads::validity::judge;

use crate::fragile::{Fragile, Frailty, Lived};
use crate::{assert_accounted, at, spec};

/// What an outage's times may be off by: two of its steps.
fn about(outage: &OutageRecord, found: Option<u64>, expected: Span) {
    let found = found.unwrap_or(u64::MAX);
    assert!(found.abs_diff(expected.0) <= 2 * outage.resolution_ns, "{found} for {expected}: {outage:#?}");
}

/// Every message that was open or came due in an outage is in one count of it.
fn assert_balanced(outage: &OutageRecord) {
    let ended = outage.acknowledged + outage.failed + outage.unknown + outage.unacknowledged + outage.not_sent;
    assert_eq!(outage.open_before + outage.due, ended, "{outage:#?}");
}

fn lived_through(frailty: Frailty, more: &[(&str, &str)]) -> (Measurement, Lived, Time) {
    let spec = RunSpec { world: World::Live, ..spec(more) };
    let clock = ManualClock::new();
    let mut fragile = Fragile::new(&clock, frailty);
    let servers = fragile.clone();
    let mut around = Around { servers: Some(&servers), ..Around::default() };
    let stop = AtomicBool::new(false);
    let measurement = run_around(&mut fragile, &spec, &clock, &stop, &mut |_| {}, &mut around);
    let measurement = measurement.unwrap_or_else(|error| panic!("{error}"));
    assert_accounted(&measurement);
    measurement.outages.iter().for_each(assert_balanced);
    (measurement, fragile.lived(), clock.now())
}

#[test]
fn a_pause_is_charged_to_every_message_that_was_due_in_it() {
    // 4,000 messages/s for 60 s; the server does 10,000/s and is paused for 5 s.
    let pause = "[{ at = \"20s\", for = \"5s\", action = \"pause\" }]";
    let more = [("duration", "60s"), ("warmup", "2s"), ("arrivals.rate", "4000/s"), ("faults", pause)];
    // Whether the backlog waits in the server or, behind a small window, in the schedule.
    for window in [1 << 16, 64] {
        let (measurement, lived, _) = lived_through(Frailty { window, ..Frailty::default() }, &more);
        let (second, act) = (1_000_000_000, |at, act| (Time(at), act));
        assert_eq!(lived.acts, [act(22 * second, Act::Pause), act(27 * second, Act::Resume)]);
        assert_eq!(measurement.counts.acknowledged, 240_000);
        let [outage] = measurement.outages.as_slice() else { panic!("{:?}", measurement.outages) };
        let x = outage.load_while_draining().unwrap();
        assert!((x - 0.4).abs() < 0.004, "{x}");
        for (q, expected) in [(0.95, 2.0 + 3.0 * x), (0.99, 4.4 + 0.6 * x), (1.0, 5.0)] {
            for (name, found) in [("publish", &measurement.publish), ("end-to-end", &measurement.end_to_end)] {
                let found = at(&found.response, 0, q) as f64 / 1e9;
                assert!((found - expected).abs() < expected / 100.0, "{name} {q}: {found} for {expected}");
            }
        }
        assert_eq!(at(&measurement.publish.late, 0, 1.0), 0);
        // Paused from 22 s to 27 s; 20,000 behind, drained at 10,000/s while 4,000/s come.
        assert_eq!((outage.begins_ns, outage.ends_ns), (22 * second, Some(27 * second)));
        about(outage, outage.last_acknowledged_ns, Span::from_secs(22));
        about(outage, outage.first_acknowledged_ns, Span::from_secs(27));
        about(outage, outage.first_delivered_ns, Span::from_secs(27));
        // The backlog counts as back some 80 messages, 20 ms of load, before the last of it.
        about(
            outage,
            outage.recovered_ns.map(|ns| ns + 80 * second / 6_000),
            Span(27 * second + 20_000 * second / 6_000),
        );
        assert!((19_990..=20_020).contains(&outage.backlog_max), "{}", outage.backlog_max);
        assert_eq!((outage.failed, outage.unknown, outage.not_sent, outage.lost), (0, 0, 0, Some(0)));
        assert_eq!((outage.first_error_ns, outage.disconnects, outage.duplicated), (None, 0, 0));
        assert_eq!((judge(&measurement).unwrap().saturated, measurement.not_back), (None, None));
    }
}

#[test]
fn a_broker_that_is_killed_and_stays_down_leaves_everything_counted_and_the_run_ends_by_itself() {
    let kill = "[{ at = \"5s\", action = \"kill\" }]";
    let more = [("duration", "10s"), ("drain_limit", "3s"), ("faults", kill)];
    let frailty = Frailty { service: Span::from_millis(2), window: 400, ..Frailty::default() };
    let (measurement, lived, ended) = lived_through(frailty, &more);
    let c = measurement.counts;
    // 500/s of 1,000/s are done until 5 s; the window of 400 is full but for the one that ended in that moment.
    assert_eq!((c.due, c.acknowledged, c.unknown, c.failed), (10_000, 2_500, 399, 0));
    assert_eq!((c.unacknowledged, c.not_sent, lived.in_flight_lost), (0, 7_101, 399));
    assert_eq!(measurement.publish.response.quantile(measurement.publish.unfinished, 0.5).unwrap(), Quantile::Never);
    assert!(matches!(measurement.publish.response.quantile(7_500, 0.2).unwrap(), Quantile::At(_)));
    let [outage] = measurement.outages.as_slice() else { panic!("{:?}", measurement.outages) };
    assert_eq!((outage.recovered_ns, outage.first_acknowledged_ns, outage.ends_ns), (None, None, None));
    assert_eq!((outage.unknown, outage.not_sent, outage.unacknowledged), (399, 7_101, 0));
    about(outage, outage.first_error_ns, Span::from_secs(5));
    about(outage, outage.last_acknowledged_ns, Span::from_secs(5));
    assert_eq!((outage.lost, measurement.groups[0].check.broken.len()), (Some(0), 0));
    // By the drain limit; then nobody answers the question of what is held, within 3 s, and nobody can be closed, within 1 s.
    assert_eq!(measurement.window.drained_ns, 3_000_000_000);
    assert!(ended.0 <= 17_100_000_000, "{ended:?}");
    assert!(measurement.not_back.as_ref().is_some_and(|why| why.contains("no answer within 3 s")), "{measurement:?}");
    // It was saturated before: 500/s of 1,000/s.
    assert!(judge(&measurement).unwrap().saturated.is_some());
}

#[test]
fn messages_that_wait_for_a_broker_that_is_away_are_blocked_and_not_late() {
    let kill = "[{ at = \"2s\", for = \"1s\", action = \"kill\" }]";
    let (measurement, lived, _) = lived_through(Frailty::default(), &[("duration", "6s"), ("faults", kill)]);
    assert!(lived.refused_while_away > 100, "{lived:?}");
    assert_eq!(at(&measurement.publish.late, 0, 1.0), 0);
    // Due when it went, sent when clients were back: 1 s until the start and 250 ms more.
    let blocked = at(&measurement.publish.blocked, 0, 1.0) / 1_000_000;
    assert!((1_245..=1_252).contains(&blocked), "{blocked} ms");
}

#[test]
fn a_broker_that_is_killed_and_started_again_is_used_again_and_nothing_is_lost() {
    // In the middle of the work on a message.
    let kill = "[{ at = \"2000.6ms\", for = \"1s\", action = \"kill\" }]";
    let work = "{ kind = \"constant\", time = \"500us\" }";
    let more = [("duration", "8s"), ("faults", kill), ("groups.*.work", work)];
    let frailty = Frailty { service: Span::from_micros(300), stored_every: 2, ..Frailty::default() };
    let (measurement, lived, _) = lived_through(frailty, &more);
    let c = measurement.counts;
    assert_eq!((c.acknowledged + c.unknown, c.unknown), (8_000, lived.in_flight_lost));
    let check = &measurement.groups[0].check;
    assert_eq!((check.lost, check.undelivered, check.broken.len()), (0, 0, 0));
    assert_eq!(check.delivered_unacknowledged, lived.stored_unacknowledged);
    assert_eq!((check.redelivered, check.duplicated), (lived.redelivered, 0));
    assert!(lived.redelivered > 0);
    let [outage] = measurement.outages.as_slice() else { panic!("{:?}", measurement.outages) };
    // The producer's connection and the member's; the administrator is asked nothing meanwhile.
    assert_eq!((outage.disconnects, outage.reconnects), (2, 2));
    about(outage, outage.first_acknowledged_ns, Span::from_millis(3_250));
    assert!(outage.recovered_ns.is_some_and(|ns| ns > 3_250_000_000), "{outage:#?}");
    assert!(outage.consumers_recovered_ns.is_some());
    assert_eq!(outage.acts.iter().map(|act| act.act).collect::<Vec<_>>(), [Act::Kill, Act::Restart]);
    let notes = measurement.notes.join("\n");
    assert!(
        notes.contains("2 × a client lost its connection") && notes.contains("1 × a member lost a lane"),
        "{notes}"
    );
    assert_eq!((judge(&measurement).unwrap().saturated, measurement.not_back), (None, None));
}

#[test]
fn unknown_publishes_that_were_stored_break_no_contract() {
    let kill = "[{ at = \"1s\", for = \"500ms\", action = \"kill\" }]";
    let more = [("duration", "4s"), ("faults", kill)];
    let frailty = Frailty { service: Span::from_micros(1_200), window: 300, stored_every: 3, ..Frailty::default() };
    let (measurement, lived, _) = lived_through(frailty, &more);
    let check = &measurement.groups[0].check;
    // 1,000/s come and 833/s are done: more than 100 are in flight after a second.
    assert!(lived.in_flight_lost > 100, "{lived:?}");
    assert_eq!(lived.stored_unacknowledged, lived.in_flight_lost / 3);
    assert_eq!(
        (measurement.counts.unknown, check.delivered_unacknowledged),
        (lived.in_flight_lost, lived.stored_unacknowledged)
    );
    assert_eq!((check.lost, check.duplicated, check.broken.as_slice()), (0, 0, &[] as &[String]));
}

#[test]
fn a_consumer_that_loses_its_connection_is_granted_again_and_loses_nothing() {
    let members_away = Some((Time(2_000_000_000), Span::from_secs(1)));
    let more = [("duration", "6s"), ("groups.*.prefetch", "16")];
    let (measurement, lived, _) = lived_through(Frailty { members_away, ..Frailty::default() }, &more);
    let check = &measurement.groups[0].check;
    assert_eq!((check.delivered, check.lost, measurement.counts.delivered_in_all), (6_000, 0, 6_000));
    assert_eq!(measurement.counts.unknown + measurement.counts.failed, 0);
    assert!(lived.grants > 1_000, "{lived:?}");
    // Nobody declared it; producers did not notice.
    let [outage] = measurement.outages.as_slice() else { panic!("{:?}", measurement.outages) };
    assert_eq!((outage.fault, outage.acts.len(), outage.disconnects, outage.reconnects), (None, 0, 1, 1));
    about(outage, Some(outage.begins_ns), Span::from_secs(2));
    about(outage, outage.ends_ns, Span::from_secs(3));
    about(outage, outage.first_delivered_ns, Span::from_secs(3));
    assert_eq!(outage.recovered_ns, Some(outage.begins_ns));
    // What waited for it was delivered at its return.
    let longest = at(&measurement.end_to_end.response, 0, 1.0) / 1_000_000;
    assert!((995..=1_002).contains(&longest), "{longest} ms");
}

#[test]
fn grants_that_fail_at_once_are_asked_for_again_and_time_goes_on() {
    let frailty = Frailty { grants_fail_until: Time(500_000_000), ..Frailty::default() };
    let (measurement, lived, _) = lived_through(frailty, &[]);
    assert_eq!(measurement.groups[0].check.delivered, 1_000);
    // One each 10 ms for half a second, then credit comes back in quarters of 64.
    assert!((50..=120).contains(&lived.grants), "{lived:?}");
}

#[test]
fn a_run_that_is_interrupted_resumes_what_it_paused() {
    let pause = "[{ at = \"1s\", for = \"4s\", action = \"pause\" }, { at = \"5s\", action = \"kill\" }]";
    let spec = RunSpec { world: World::Live, ..spec(&[("duration", "10s"), ("faults", pause)]) };
    let clock = ManualClock::new();
    let mut fragile = Fragile::new(&clock, Frailty::default());
    let servers = fragile.clone();
    let mut around = Around { servers: Some(&servers), ..Around::default() };
    let stop = AtomicBool::new(false);
    let mut tell = |told: &brokerlab_host::Progress| stop.store(told.elapsed > Span::from_secs(2), Ordering::Relaxed);
    let measurement = run_around(&mut fragile, &spec, &clock, &stop, &mut tell, &mut around).unwrap();
    assert!(measurement.cut_short.is_some());
    let acts: Vec<Act> = fragile.lived().acts.iter().map(|(_, act)| *act).collect();
    assert_eq!(acts, [Act::Pause, Act::Resume]);
    let [outage] = measurement.outages.as_slice() else { panic!("{:?}", measurement.outages) };
    assert!(outage.acts[1].at_ns < 2_200_000_000 && outage.acts[1].planned_ns == 5_000_000_000, "{:?}", outage.acts);
    // It answers again, and the kill did not come to act.
    assert_eq!(measurement.not_back, None);
    assert!(measurement.notes.iter().any(|note| note.contains("kill of all nodes did not come to act")));
}

#[test]
fn faults_without_servers_are_refused() {
    let clock = ManualClock::new();
    let mut fragile = Fragile::new(&clock, Frailty::default());
    let spec = spec(&[("faults", "[{ at = \"0s\", action = \"kill\" }]")]);
    let run = brokerlab_host::run(&mut fragile, &spec, &clock, &AtomicBool::new(false), &mut |_| {});
    assert!(run.unwrap_err().to_string().contains("scripts/brokers"));
}

#[test]
fn a_fault_on_the_leader_asks_once_and_is_undone_where_it_acted() {
    let pause = "[{ at = \"2s\", for = \"1s\", action = \"pause\", node = \"leader\" }]";
    let (measurement, lived, _) = lived_through(Frailty::default(), &[("duration", "10s"), ("faults", pause)]);
    let [outage] = measurement.outages.as_slice() else { panic!("{:?}", measurement.outages) };
    assert_eq!(outage.fault.unwrap().node, FaultNode::Leader);
    let acts: Vec<(Act, FaultNode)> = outage.acts.iter().map(|of| (of.act, of.node)).collect();
    // The servers name another leader at every question.
    assert_eq!(acts, [(Act::Pause, FaultNode::Number(1)), (Act::Resume, FaultNode::Number(1))]);
    assert_eq!(lived.acts.len(), 2);
}

#[test]
fn a_leader_that_nobody_knows_is_no_fault_and_is_told() {
    let kill = "[{ at = \"2s\", for = \"1s\", action = \"kill\", node = \"leader\" }]";
    let frailty = Frailty { leaderless: true, ..Frailty::default() };
    let (measurement, lived, _) = lived_through(frailty, &[("duration", "10s"), ("faults", kill)]);
    assert_eq!(lived.acts, []);
    let told = "fault: the leader could not be killed: which node leads is not known: nobody leads";
    assert!(measurement.notes.iter().any(|note| note == told), "{:?}", measurement.notes);
}
