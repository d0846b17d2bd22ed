//! What is concluded from made-up comparisons, and the exit code that follows.

use brokerlab_model::Span;
use brokerlab_reports::headroom::{Class, Floor};
use brokerlab_reports::{Analysis, Conclusion, Decision, ResultFile, conclude};
use brokerlab_workloads::measurement::{LiveRecord, Measurement, Point, ServerRecord, World};
use brokerlab_workloads::profile::{Count, Metric, Objective};

use crate::synthetic::{self, ROWS, Shape};

fn conclusion(change: impl Fn(&mut Measurement)) -> Conclusion {
    let mut file = synthetic::comparison();
    file.cells.iter_mut().for_each(change);
    conclude(&file).unwrap()
}

fn is(cell: &Measurement, row: &str) -> bool {
    cell.row == row
}

/// Candidates of one shape, so that nothing but what a test changes separates them.
fn alike(first: Shape, second: Shape) -> ResultFile {
    let again = Shape { row: "log (again)", ..first };
    synthetic::comparison_of(&[first, second, again], 6)
}

const LOG: Shape = ROWS[0];
const LIKE_LOG: Shape = Shape { row: "queue", backend: "queue", ..LOG };

#[test]
fn rows_of_one_class_are_a_tie_and_the_others_are_named() {
    let c = conclude(&synthetic::comparison()).unwrap();
    assert_eq!(c.decision, Decision::Tie(vec!["log".to_owned(), "direct".to_owned()]));
    assert!(c.valid && c.exit.code(None) == 0);
    assert!(c.flips.iter().any(|f| f.contains("decoupled") && f.contains("direct can't")), "{:?}", c.flips);
    assert!(c.caveat.is_some_and(|text| text.contains("not Kafka, RabbitMQ, SQS or Kinesis")));
}

#[test]
fn a_row_alone_in_the_highest_class_is_chosen() {
    let mut file = synthetic::comparison();
    file.cells.retain(|c| c.backend != "direct");
    let c = conclude(&file).unwrap();
    assert_eq!(c.decision, Decision::Winner("log".to_owned()));
    assert!(c.headline.contains("furthest"), "{}", c.headline);
}

#[test]
fn a_response_time_decides_only_by_a_tenth_of_the_objective() {
    let slower = Shape { typical_ns: LOG.typical_ns * 3.0, ..LIKE_LOG };
    let mut file = alike(LOG, slower);
    assert_eq!(conclude(&file).unwrap().decision, Decision::Tie(vec!["log".to_owned(), "queue".to_owned()]));
    file.objectives = synthetic::p99_at_most(20_000_000);
    assert_eq!(conclude(&file).unwrap().decision, Decision::Winner("log".to_owned()));
}

#[test]
fn rows_too_close_to_call_are_a_tie_however_tight_the_objective() {
    let mut file = alike(LOG, LIKE_LOG);
    file.objectives = synthetic::p99_at_most(1_000_000_000);
    assert!(matches!(conclude(&file).unwrap().decision, Decision::Tie(_)));
}

/// Wherever the objective lies, also between what two like rows happened to show, neither is chosen over the other by it.
#[test]
fn an_objective_at_its_threshold_names_no_winner_between_like_rows() {
    let mut file = alike(LOG, LIKE_LOG);
    let median = conclude(&file).map(|_| Analysis::of(&file, "").unwrap().rows[0].median_p99_ns).unwrap().unwrap();
    let mut split = 0;
    for step in 1..=200_u32 {
        file.objectives = synthetic::p99_at_most((median * f64::from(step) / 100.0) as u64);
        let analysis = Analysis::of(&file, "").unwrap();
        let missing = analysis.ranked().filter(|row| !row.missed.is_empty()).count();
        split += usize::from(missing == 1);
        assert!(!matches!(analysis.conclusion.decision, Decision::Winner(_)), "at {step} % of the median");
    }
    assert!(split > 0, "no objective lay between the two rows, so nothing was tested");
}

#[test]
fn identical_rows_that_differ_make_it_inconclusive() {
    let slow = synthetic::comparison_of(&[Shape { typical_ns: 900e3, ..LOG }], 6);
    let mut file = synthetic::comparison();
    for cell in file.cells.iter_mut().filter(|c| is(c, "log (again)")) {
        let Point::Visit { round } = cell.point else { continue };
        let other = slow.cells.iter().find(|c| c.point == Point::Visit { round }).unwrap();
        cell.end_to_end = other.end_to_end.clone();
    }
    let c = conclude(&file).unwrap();
    assert_eq!(c.decision, Decision::Inconclusive);
    assert_eq!(c.exit.code(None), 0);
}

#[test]
fn a_broken_contract_excludes_the_row_and_ends_with_3() {
    let c = conclusion(|cell| {
        if is(cell, "log") && cell.point == (Point::Visit { round: 2 }) {
            cell.groups[0].check.lost = 1;
            cell.groups[0].check.broken.push("1 message lost".to_owned());
        }
    });
    assert_eq!(c.exit.contract_broken, ["log"]);
    assert_eq!(c.exit.code(None), 3);
    assert_eq!(c.decision, Decision::Winner("direct".to_owned()));
}

#[test]
fn a_busy_machine_is_not_valid_names_no_winner_and_ends_with_0() {
    let c = conclusion(|cell| cell.fitness.other_processes_cores = Some(0.9));
    assert!(!c.valid);
    assert_eq!(c.decision, Decision::NotValid);
    assert!(c.reasons[0].1.contains("CPU of other processes"), "{:?}", c.reasons);
    assert_eq!(c.exit.code(None), 0);
    assert_eq!(c.exit.code(Some("log")), 4);
    assert_eq!(c.exit.code(Some("null")), 4);
}

#[test]
fn a_row_is_judged_on_its_visits_together() {
    let bad = |rounds: u32| {
        conclusion(move |cell| {
            if is(cell, "queue") && matches!(cell.point, Point::Visit { round } if round < rounds) {
                cell.fitness.steal_share = Some(0.05);
            }
        })
    };
    // 5 % of one visit in six is 0.8 % of the row, of two 1.7 %.
    assert!(bad(1).valid);
    assert!(!bad(2).valid);
}

#[test]
fn a_saturated_row_is_left_out_and_is_no_failure() {
    let weak = Shape { most_per_s: 12_000.0, throttles: false, ..ROWS[2] };
    let file = synthetic::comparison_of(&[LOG, weak, ROWS[4], ROWS[5]], 6);
    let analysis = Analysis::of(&file, "").unwrap();
    let shard = analysis.candidates().find(|j| j.row.label == "shard").unwrap();
    assert!(shard.excluded.iter().any(|why| why.contains("saturated")), "{:?}", shard.excluded);
    assert_eq!(shard.headroom.as_ref().map(|h| h.class), Some(Class::Below1));
    assert_eq!(analysis.conclusion.decision, Decision::Winner("log".to_owned()));
    assert_eq!(analysis.conclusion.exit.code(None), 0);
    assert_eq!(analysis.conclusion.exit.code(Some("shard")), 4);
}

#[test]
fn when_no_comparable_row_meets_the_objectives_it_ends_with_3() {
    let mut file = synthetic::comparison();
    file.objectives = synthetic::p99_at_most(1_000);
    let c = conclude(&file).unwrap();
    assert_eq!(c.decision, Decision::None);
    assert_eq!(c.exit.code(None), 3);
}

#[test]
fn headroom_says_what_held_a_row() {
    let file = synthetic::comparison();
    let analysis = Analysis::of(&file, "").unwrap();
    let of =
        |label: &str| analysis.rows.iter().find(|j| j.row.label == label).and_then(|j| j.headroom.clone()).unwrap();
    assert_eq!((of("log").class, of("log").floor), (Class::Above10, Some(Floor::HarnessLimited)));
    assert_eq!((of("queue").class, of("queue").floor), (Class::From2To10, None));
    assert_eq!(of("shard").text(), "1–2× (limited by setting: 39 shards × 1,000 records/s)");
}

#[test]
fn a_saturated_row_is_limited_by_the_setting_that_throttles_or_that_readers_share() {
    let shard = Shape { row: "shard", backend: "shard", most_per_s: 19e3, throttles: true, ..LOG };
    let held = |file: &ResultFile| {
        let analysis = Analysis::of(file, "").unwrap();
        let row = &analysis.rows.iter().find(|j| j.row.label == "shard").unwrap().row;
        assert!(row.saturated());
        row.limited_by_setting()
    };
    let mut file = synthetic::comparison_of(&[LOG, shard], 6);
    let skewed = "limited by setting: 39 shards × 1,000 records/s, not evenly asked for";
    assert_eq!(held(&file).as_deref(), Some(skewed), "39 shards would take 20,000 a second");
    for cell in file.cells.iter_mut().filter(|cell| cell.backend == "shard") {
        cell.counts.throttled = 0;
    }
    assert_eq!(held(&file), None);
    // 20,000 × 512 B/s over 39 shards are 263 kB/s for each group.
    for (limit, readers, groups, expected) in [
        (250_000, "fan-out", 1, Some("limited by setting: 39 shards × 250 kB/s of reading")),
        (500_000, "polling", 1, None),
        (500_000, "polling", 2, Some("limited by setting: 39 shards × 500 kB/s of reading, shared by 2 groups")),
        (500_000, "fan-out", 2, None),
    ] {
        let mut file = file.clone();
        for cell in file.cells.iter_mut().filter(|cell| cell.backend == "shard") {
            cell.settings.add("read_bytes_per_s", limit, "").add("readers", readers, "");
            let group = cell.groups[0].clone();
            cell.groups.resize(groups, group);
        }
        assert_eq!(held(&file).as_deref(), expected, "{readers} by {groups}");
    }
}

#[test]
fn consumers_that_are_busy_all_the_time_make_a_floor_and_not_a_difference() {
    let mut file = synthetic::comparison();
    for cell in file.cells.iter_mut().filter(|c| c.backend == "queue") {
        if let Point::Stair { factor, .. } = cell.point {
            cell.groups[0].utilisation = 0.3 * factor;
        }
    }
    let analysis = Analysis::of(&file, "").unwrap();
    let queue = analysis.candidates().find(|j| j.row.label == "queue").and_then(|j| j.headroom.clone()).unwrap();
    assert_eq!(queue.text(), "≥ 4× (a floor: limited by the profile's consumers)");
    assert!(matches!(&analysis.conclusion.decision, Decision::Tie(rows) if rows.contains(&"queue".to_owned())));
}

#[test]
fn five_rounds_or_other_transports_name_no_winner_by_response_time() {
    let slower = Shape { typical_ns: LOG.typical_ns * 4.0, ..LIKE_LOG };
    let mut file = synthetic::comparison_of(&[LOG, slower], 5);
    file.objectives = synthetic::p99_at_most(20_000_000);
    assert!(matches!(conclude(&file).unwrap().decision, Decision::Tie(_)));
    let mut file = alike(LOG, slower);
    for cell in file.cells.iter_mut().filter(|c| c.backend == "queue") {
        cell.loops.transport = "loopback".to_owned();
    }
    assert_eq!(conclude(&file).unwrap().decision, Decision::NotComparable);
}

#[test]
fn an_embedded_row_beside_a_live_one_is_shown_and_not_ranked() {
    let c = conclusion(|cell| {
        if cell.backend == "direct" {
            cell.world = World::Live;
        }
    });
    assert_eq!(c.decision, Decision::Winner("direct".to_owned()));
}

#[test]
fn a_run_ends_with_4_when_saturated_and_3_when_an_objective_is_missed() {
    let saturated = conclude(&synthetic::run(ROWS[1], 40.0)).unwrap();
    assert!(saturated.headline.contains("saturated") && saturated.headline.contains("asked 800 k/s"));
    assert_eq!(saturated.exit.code(None), 4);
    let mut file = synthetic::run(ROWS[1], 1.0);
    assert_eq!(conclude(&file).unwrap().decision, Decision::Single { met: true });
    file.objectives = synthetic::p99_at_most(1_000);
    assert_eq!(conclude(&file).unwrap().exit.code(None), 3);
    file.cells[0].fitness.steal_share = Some(0.5);
    assert_eq!(conclude(&file).unwrap().exit.code(None), 4, "objectives are judged on valid rows only");
    file.cut_short = Some("Ctrl-C".to_owned());
    assert_eq!(conclude(&file).unwrap().exit.code(None), 1);
}

#[test]
fn every_objective_is_judged_at_its_own_quantile() {
    let mut file = synthetic::run(ROWS[1], 1.0);
    let bound = |quantile, ns| Objective::Quantile { metric: Metric::EndToEnd, quantile, at_most: Span(ns) };
    file.objectives.0 = vec![bound(0.99, 50_000_000), bound(0.999, 1_000_000)];
    let c = conclude(&file).unwrap();
    assert_eq!(c.decision, Decision::Single { met: false });
    assert!(c.headline.contains("end-to-end p99.9") && !c.headline.contains("p99 "), "{}", c.headline);
    file.objectives.0 = vec![Objective::Count { count: Count::Undelivered, at_most: 4 }];
    file.cells[0].groups[0].check.undelivered = 5;
    assert!(conclude(&file).unwrap().headline.contains("5 undelivered, asked ≤ 4"));
}

#[test]
fn two_identical_rows_alone_have_no_winner() {
    let again = Shape { row: "log (again)", ..LOG };
    let c = conclude(&synthetic::comparison_of(&[LOG, again], 6)).unwrap();
    assert_eq!(c.decision, Decision::Single { met: true });
}

/// Makes every visit of a row miss the objective, and leaves its staircase alone.
fn slow_visits(file: &mut ResultFile, row: &str) {
    for cell in file.cells.iter_mut().filter(|c| is(c, row) && matches!(c.point, Point::Visit { .. })) {
        cell.end_to_end.unfinished = cell.end_to_end.response.samples();
    }
}

#[test]
fn headroom_is_of_the_staircase_and_a_missed_objective_is_told_as_such() {
    let mut file = synthetic::comparison_of(&[Shape { most_per_s: 800e3, ..LOG }, ROWS[1], ROWS[4]], 6);
    file.cells.iter_mut().filter(|c| is(c, "null")).for_each(|c| c.counts.throttled = 0);
    slow_visits(&mut file, "log");
    let analysis = Analysis::of(&file, "").unwrap();
    let of =
        |label: &str| analysis.rows.iter().find(|j| j.row.label == label).and_then(|j| j.headroom.clone()).unwrap();
    assert_eq!((of("log").class, of("log").held_by.as_str()), (Class::Above10, "nothing, up to 16×"));
    assert_eq!(of("null").held_by, "the harness");
    assert_eq!(of("queue").held_by, "the backend, on this machine");
    let objectives = &analysis.conclusion.reasons.iter().find(|(subject, _)| subject == "Objectives").unwrap().1;
    assert!(objectives.contains("Missed by log (end-to-end p99 never"), "{objectives}");
}

#[test]
fn a_run_is_judged_by_the_machine_whatever_it_is_and_says_so() {
    for (shape, factor) in [(ROWS[1], 40.0), (ROWS[4], 1.0)] {
        let mut file = synthetic::run(shape, factor);
        assert!(conclude(&file).unwrap().valid, "{}", shape.row);
        file.cells[0].fitness.steal_share = Some(0.5);
        let c = conclude(&file).unwrap();
        assert_eq!((c.valid, c.exit.code(None)), (false, 4), "{}", shape.row);
        assert!(c.reasons[0].1.contains("taken by the hypervisor 50.0 %"), "{:?}", c.reasons);
        assert!(c.headline.contains("valid"), "{}", c.headline);
    }
    let mut late = synthetic::run(ROWS[1], 40.0);
    late.cells[0].fitness.late_p999_ns = 900_000_000;
    assert!(conclude(&late).unwrap().valid, "no quantile of a saturated run is shown, so lateness spoils none");
}

#[test]
fn the_harness_alone_is_no_backend_that_meets_anything() {
    let c = conclude(&synthetic::run(ROWS[4], 1.0)).unwrap();
    assert_eq!((&c.decision, c.exit.code(None)), (&Decision::Ceiling, 0));
    assert!(c.headline.contains("not a backend") && !c.headline.contains("meets"), "{}", c.headline);
    assert!(c.reasons.iter().all(|(_, reason)| reason.starts_with("Not judged")), "{:?}", c.reasons);
}

#[test]
fn nothing_is_concluded_from_what_is_not_valid_and_the_worst_row_is_cited() {
    let c = conclusion(|cell| {
        if matches!(cell.point, Point::Visit { .. }) {
            synthetic::make_late(cell, if is(cell, "queue") { 90_000_000 } else { 30_000_000 });
        }
    });
    let reason = |subject: &str| c.reasons.iter().find(|(s, _)| s == subject).map(|(_, r)| r.as_str()).unwrap();
    for subject in ["Objectives", "Headroom", "Response time"] {
        assert_eq!(reason(subject), "Not judged: the run is not valid.");
    }
    assert!(reason("Why not valid").contains("90"), "{}", reason("Why not valid"));
}

#[test]
fn nothing_asked_or_nothing_measured_is_not_called_met() {
    let mut file = synthetic::run(ROWS[1], 1.0);
    file.objectives.0.clear();
    let c = conclude(&file).unwrap();
    assert_eq!(c.reasons[1].1, "No objective asked.");
    assert!(!c.headline.contains("meets"), "{}", c.headline);
    let cell = &mut file.cells[0];
    (cell.counts.due, cell.counts.acknowledged) = (0, 0);
    file.objectives = synthetic::p99_at_most(1_000);
    let c = conclude(&file).unwrap();
    assert!(c.reasons.iter().all(|(_, reason)| !reason.contains("Met")), "{:?}", c.reasons);
}

#[test]
fn a_run_says_what_it_lived_through_and_a_broker_that_is_not_back_exits_with_1() {
    let c = conclude(&synthetic::run_with_a_pause(ROWS[1])).unwrap();
    assert!(c.headline.contains("It was paused for 100 ms; its backlog was back after 150 ms."), "{}", c.headline);
    let told = |c: &Conclusion| c.reasons.iter().find(|(subject, _)| subject == "Outage").unwrap().1.clone();
    assert!(
        told(&c).contains("nothing was acknowledged for 101 ms and the backlog was back after 150 ms"),
        "{}",
        told(&c)
    );
    assert_eq!((c.exit.code(None), c.exit.not_back.len()), (0, 0));
    let mut file = synthetic::run_with_a_kill(ROWS[1]);
    let c = conclude(&file).unwrap();
    assert!(c.headline.contains("was killed, not restarted and is not back: 3,000 of"), "{}", c.headline);
    assert!(told(&c).contains("nothing was acknowledged any more"), "{}", told(&c));
    // Before a broken contract, and whatever else is wrong.
    assert_eq!((c.exit.code(None), c.exit.not_back.as_slice()), (1, &["queue".to_owned()][..]));
    file.cells[0].groups[0].check.broken.push("3 acknowledged messages were lost".to_owned());
    assert_eq!(conclude(&file).unwrap().exit.code(None), 1);
}

#[test]
fn consumers_that_fall_behind_are_named_as_the_reason() {
    let mut file = synthetic::run(ROWS[1], 1.0);
    file.cells[0].groups[0].utilisation = 1.3;
    for interval in &mut file.cells[0].intervals {
        interval.delivered_by_group = vec![interval.acknowledged / 2];
    }
    let headline = conclude(&file).unwrap().headline;
    assert!(headline.contains("consumers fell behind by") && headline.contains("fulfilment"), "{headline}");
    assert!(!headline.contains("achieved"), "{headline}");
}

#[test]
fn a_run_cut_short_says_what_else_failed_and_has_no_headroom() {
    let mut file = synthetic::run(ROWS[1], 40.0);
    file.cut_short = Some("Ctrl-C".to_owned());
    file.cells[0].fitness.other_processes_cores = Some(0.9);
    let c = conclude(&file).unwrap();
    let why = &c.reasons[0].1;
    assert!(why.contains("cut short (Ctrl-C)") && why.contains("CPU of other processes"), "{why}");
    assert!(c.reasons.iter().all(|(subject, _)| subject != "Headroom"));
}

/// Makes a cell one of a real broker on this machine.
fn live(cell: &mut Measurement, kept: brokerlab_model::Contract, missing: &[brokerlab_model::Missing]) {
    cell.world = World::Live;
    cell.live =
        Some(LiveRecord { server: "Toy 1.0".to_owned(), kept, missing: missing.to_vec(), ..LiveRecord::default() });
    let server = |name: &str, own, cpu_ns| ServerRecord {
        name: name.to_owned(),
        pid: 7 + u32::from(own),
        own,
        cpu_ns,
        ..ServerRecord::default()
    };
    cell.servers = vec![server("toy", true, 900_000_000), server("other", false, 30_000_000)];
}

#[test]
fn live_rows_are_ranked_and_embedded_ones_beside_them_are_shown() {
    let c = conclusion(|cell| {
        if is(cell, "log") || is(cell, "log (again)") || is(cell, "queue") {
            let kept = brokerlab_model::Contract { storage: brokerlab_model::Storage::Fsync, ..cell.contract };
            live(cell, kept, &[]);
        }
    });
    assert_eq!(c.decision, Decision::Winner("log".to_owned()));
    let caveat = c.caveat.unwrap();
    assert!(
        caveat
            .starts_with("Generator and broker share 2 cores: capacity is this host's. Idle beside the others: other "),
        "{caveat}"
    );
    assert!(caveat.contains("Embedded rows are shown beside, not ranked."), "{caveat}");
}

#[test]
fn a_row_weaker_than_asked_gets_no_verdict_and_alone_is_not_comparable() {
    let missing = brokerlab_model::Missing { axis: "copies".into(), asked: "3".into(), reason: "one node".into() };
    let weaker = |rows: &'static [&'static str]| {
        let missing = missing.clone();
        conclusion(move |cell| {
            let kept = cell.contract;
            live(cell, kept, if rows.contains(&cell.row.as_str()) { std::slice::from_ref(&missing) } else { &[] });
        })
    };
    assert_eq!(weaker(&[]).decision, Decision::Tie(vec!["log".to_owned(), "direct".to_owned()]));
    assert_eq!(weaker(&["direct"]).decision, Decision::Winner("log".to_owned()));
    let all = weaker(&["log", "queue", "shard", "direct"]);
    assert_eq!((all.decision, all.exit.code(None)), (Decision::NotComparable, 0));
    assert!(all.headline.contains("every row is weaker than asked"), "{}", all.headline);
}
