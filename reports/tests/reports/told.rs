//! What is said of messages that were given up, of runs that were cut short, and of results in which no cell can be believed.
//!
//! Leaves out verdicts on results that are whole (`verdict`).

use brokerlab_model::Settings;
use brokerlab_reports::result::Command;
use brokerlab_reports::{Analysis, Decision, ResultFile, Style, conclude, render, table};
use brokerlab_workloads::measurement::{CheckRecord, Point, Varied};
use brokerlab_workloads::profile::{Count, Objective};

use crate::synthetic::{self, ROWS};

fn printed(file: &ResultFile) -> String {
    table(file, Style::Plain).unwrap()
}

/// The table's line of a row.
fn line(file: &ResultFile, row: &str) -> String {
    let start = format!(" {row} ");
    printed(file).lines().find(|line| line.starts_with(&start)).unwrap().to_owned()
}

fn overflowed(file: &mut ResultFile, at: usize, count: u64) {
    let check = &mut file.cells[at].groups[0].check;
    *check = CheckRecord { acknowledged: 12_554, delivered: 12_554 - count, overflowed: count, ..check.clone() };
}

#[test]
fn acknowledged_messages_that_were_given_up_stand_in_row_contract_line_verdict_and_page() {
    let mut file = synthetic::run(ROWS[1], 1.0);
    assert!(!printed(&file).contains("given up"));
    overflowed(&mut file, 0, 9_506);
    assert!(line(&file, "queue").contains(" kept, 9,506 given up "), "{}", line(&file, "queue"));
    let c = conclude(&file).unwrap();
    let told = "queue gave up 9,506 of 12,554 acknowledged messages (overflowed).";
    assert!(c.headline.ends_with(told), "{}", c.headline);
    assert!(c.reasons.iter().any(|(subject, text)| subject == "Contract" && text.ends_with(told)), "{:?}", c.reasons);
    assert!(render(&[file.clone()]).unwrap().contains("kept, 9,506 given up"));
    file.cells[0].groups[0].check.expired = 4;
    assert!(conclude(&file).unwrap().headline.contains("(4 expired and 9,506 overflowed)"));
    assert_eq!(c.exit.code(None), 0, "it was set to");
    file.objectives.0 = vec![Objective::Count { count: Count::Overflowed, at_most: 0 }];
    let c = conclude(&file).unwrap();
    assert_eq!(c.exit.code(None), 3);
    assert!(c.headline.contains("9,506 overflowed, asked ≤ 0"), "{}", c.headline);
}

#[test]
fn what_was_given_up_on_a_staircase_is_told_apart() {
    let mut file = synthetic::comparison();
    let of = |wanted: Point| move |cell: &_| matches!(cell, brokerlab_workloads::measurement::Measurement { row, point, .. } if row == "log" && *point == wanted);
    let visit = file.cells.iter().position(of(Point::Visit { round: 2 })).unwrap();
    let stair = file.cells.iter().position(of(Point::Stair { step: 1, factor: 2.0 })).unwrap();
    overflowed(&mut file, stair, 500);
    let headline = conclude(&file).unwrap().headline;
    assert!(
        headline.contains("log gave up 500 of ") && headline.ends_with("(overflowed) on its staircase."),
        "{headline}"
    );
    assert!(!line(&file, "log").contains("given up"), "the line is of the profile's rate");
    overflowed(&mut file, visit, 7);
    let headline = conclude(&file).unwrap().headline;
    assert!(headline.contains("log gave up 7 of ") && headline.contains(", and 500 of "), "{headline}");
}

#[test]
fn what_was_open_when_a_run_was_cut_short_is_unfinished_and_not_late() {
    let mut file = synthetic::run(ROWS[1], 1.0);
    file.cells[0].end_to_end.unfinished = 2_000;
    assert!(line(&file, "queue").contains("never (> 250 ms)"));
    assert!(render(&[file.clone()]).unwrap().contains("was not delivered within "));
    file.cells[0].cut_short = Some("it was interrupted".to_owned());
    file.cut_short = Some("it was interrupted".to_owned());
    let (all, page) = (printed(&file), render(&[file.clone()]).unwrap());
    assert!(line(&file, "queue").contains("unfinished") && !all.contains("never (>"), "{all}");
    assert!(page.contains("was unfinished when the run was cut short") && !page.contains("never (&gt;"));
}

#[test]
fn a_row_of_which_nothing_was_measured_kept_nothing() {
    let mut file = synthetic::comparison();
    let again = |cell: &brokerlab_workloads::measurement::Measurement| cell.row == "log (again)";
    let empty = file.cells.iter().rposition(again).unwrap();
    let mut cell = file.cells[empty].clone();
    file.cells.retain(|cell| !again(cell));
    (cell.counts, cell.window.duration_ns) = (brokerlab_workloads::measurement::Counts::default(), 0);
    cell.cut_short = Some("it was interrupted".to_owned());
    file.cells.push(cell);
    file.cut_short = Some("it was interrupted".to_owned());
    let line = line(&file, "log (again)");
    assert!(!line.contains("kept") && !line.contains("/s"), "{line}");
    let rows = Analysis::of(&file, "").unwrap().rows;
    let again = rows.iter().find(|j| j.row.label == "log (again)").unwrap();
    assert!((again.row.achieved_per_s(), again.row.offered_per_s()) == (0.0, 0.0));
}

#[test]
fn a_sweep_is_not_valid_when_every_cell_misses_a_check() {
    let mut file = synthetic::empty(Command::Sweep);
    for round in 0..8 {
        let settings = vec![Varied { path: "lanes".to_owned(), value: "2".to_owned() }];
        let mut cell = synthetic::cell(ROWS[0], Point::Sweep { point: 0, round, settings }, 1.0, u64::from(round));
        cell.fitness.other_processes_cores = Some(0.9);
        file.cells.push(cell);
    }
    let all = printed(&file);
    assert!(all.contains("NOT VALID  No: 8 of 8 cells miss a check (CPU of other processes, of one core)."), "{all}");
    assert_eq!(conclude(&file).unwrap().decision, Decision::NotValid);
    file.cells[3].fitness.other_processes_cores = Some(0.0);
    let all = printed(&file);
    assert!(all.contains("partly valid  7 of 8 cells miss a check"), "{all}");
}

#[test]
fn a_full_queue_that_refuses_is_named_as_what_held_the_load() {
    let mut file = synthetic::run(ROWS[1], 1.0);
    let cell = &mut file.cells[0];
    let mut settings = Settings::default();
    settings.add("overflow", "reject-publish", "a publish to a full queue fails");
    cell.settings = settings;
    (cell.counts.acknowledged, cell.counts.failed) = (cell.counts.due - 8_038, 8_038);
    for interval in &mut cell.intervals {
        interval.acknowledged /= 3;
        interval.delivered_by_group = vec![interval.acknowledged];
        interval.backlog = 0;
    }
    let why = "8,038 publishes failed, queue full (overflow=reject-publish)";
    assert!(line(&file, "queue").contains(why), "{}", line(&file, "queue"));
    assert!(conclude(&file).unwrap().headline.contains(why));
}

#[test]
fn the_three_p99_of_a_comparison_are_one_statistic() {
    let file = synthetic::comparison();
    let a = Analysis::of(&file, "").unwrap();
    let row = &a.rows.iter().find(|j| j.row.label == "log").unwrap().row;
    let text = |ns: Option<f64>| brokerlab_reports::figures::duration_f64(ns.unwrap());
    let medians = [
        text(row.median_ns(|visit| visit.publish_p99)),
        text(row.median_ns(|visit| visit.p99)),
        text(row.median_ns(|visit| visit.settle_p99)),
    ];
    let line = line(&file, "log");
    let at: Vec<usize> = medians.iter().map(|median| line.find(median.as_str()).unwrap()).collect();
    assert!(at.is_sorted(), "{medians:?} in {line}");
    assert_ne!(row.publish.response.shown(0.99).text(row.followed()), medians[0], "merged it is another figure");
}

#[test]
fn one_machine_with_another_contract_is_no_other_machine() {
    let first = synthetic::run(ROWS[1], 1.0);
    let mut second = first.clone();
    second.contract.storage = brokerlab_model::Storage::Memory;
    second.host.write_cache = "not asked".to_owned();
    let says = |second: &ResultFile, what: &str| {
        render(&[first.clone(), second.clone()]).unwrap().contains(&format!("Not comparable: they differ in {what}. "))
    };
    assert!(says(&second, "contracts"));
    second.host.device = "vdb".to_owned();
    assert!(says(&second, "contracts and storage"));
    second.host.cores += 1;
    assert!(says(&second, "contracts, machines and storage"));
}

#[test]
fn models_behind_a_loopback_socket_are_not_said_to_be_in_this_process() {
    let mut file = synthetic::comparison();
    assert!(conclude(&file).unwrap().caveat.unwrap().starts_with("These are models in one process"));
    file.cells.iter_mut().for_each(|cell| cell.loops.transport = "loopback".to_owned());
    let caveat = conclude(&file).unwrap().caveat.unwrap();
    assert!(caveat.starts_with("These are models in a process of their own behind a loopback socket"), "{caveat}");
}

#[test]
fn a_pair_says_which_of_the_two_was_faster_and_what_identical_rows_showed() {
    let file = synthetic::comparison();
    let control = Analysis::of(&file, "").unwrap().control.unwrap();
    let page = render(&[file]).unwrap();
    let table = page.split_once("Held against each other").unwrap().1.split("</table>").next().unwrap();
    let here = format!("what A/A showed (here {})", brokerlab_reports::figures::factor(control.largest_ratio));
    assert!(table.contains(&here), "{here}: {table}");
    assert!(table.contains("direct by "), "{table}");
}
