//! Pages, tables and exit codes of a search for capacity and of a sweep, from made-up cells: real brokers beside a model.
//!
//! Leaves out the search's own steps (`search`), and everything that is on each page alike (`page`).

use brokerlab_model::{Contract, Settings, Storage};
use brokerlab_reports::capacity::{Limits, Next, Search, outcome};
use brokerlab_reports::result::Command;
use brokerlab_reports::{ResultFile, Style, conclude, render, table};
use brokerlab_workloads::measurement::{LiveRecord, Measurement, Point, ServerRecord, Varied, World};

use crate::page::{between, keep};
use crate::synthetic::{self, RATE, ROWS, Shape};

const KAFKA: Shape = Shape { row: "kafka", backend: "kafka", typical_ns: 3.1e6, most_per_s: 88e3, ..ROWS[0] };
const RABBIT: Shape = Shape { row: "rabbitmq", backend: "rabbitmq", typical_ns: 1.2e6, most_per_s: 21e3, ..ROWS[1] };
const NULL: Shape = ROWS[4];
/// No rate meets an objective of 50 ms.
const SLOW: Shape = Shape { row: "direct", backend: "direct", typical_ns: 70e6, ..ROWS[3] };

/// A cell of a row, as a real broker's where it is one.
fn cell(shape: Shape, point: Point, rate_per_s: f64, seed: u64) -> Measurement {
    let mut cell = synthetic::cell(shape, point, rate_per_s / RATE, seed);
    let (server, url, kept) = match shape.row {
        "kafka" => ("Apache Kafka 4.3.1", "kafka://127.0.0.1:29092", Contract::default()),
        "rabbitmq" => {
            let kept = Contract { storage: Storage::Fsync, ..Contract::default() };
            ("RabbitMQ 3.10.8", "amqp://127.0.0.1:25672?queue=quorum", kept)
        }
        _ => return cell,
    };
    url.clone_into(&mut cell.backend_url);
    cell.world = World::Live;
    "network".clone_into(&mut cell.loops.transport);
    cell.live =
        Some(LiveRecord { server: server.to_owned(), kept, missing: Vec::new(), in_force: Settings::default() });
    let used = |name: &str, pid| ServerRecord {
        name: name.to_owned(),
        pid,
        own: name == shape.row,
        cpu_ns: 90_000_000,
        peak_rss_bytes: 400 << 20,
        storage_write_bytes: 9_000_000,
    };
    cell.servers = vec![used("kafka", 4_711), used("rabbitmq", 4_712)];
    cell
}

/// A search over rows, driven to its end by what `made` says that a probe measured.
fn searched(rows: &[Shape], made: impl Fn(Shape, Point, f64, u64) -> Measurement) -> ResultFile {
    let mut file = synthetic::empty(Command::Capacity);
    "brokerlab capacity --backend kafka://127.0.0.1:29092".clone_into(&mut file.command_line);
    let limits = Limits::around(RATE, RATE / 8.0, 0.5);
    file.search = Some(limits);
    file.fixed_cases.clear();
    for shape in rows {
        let mut search = Search::new(limits);
        while let Next::Probe { rate_per_s, attempt } = search.next() {
            let point = Point::Probe { rate_per_s, factor: rate_per_s / RATE, attempt };
            let cell = made(*shape, point, rate_per_s, u64::from(search.probes()));
            let (passed, achieved) = outcome(&cell, &file.objectives).unwrap().unwrap();
            search.record(rate_per_s, passed, Some(achieved));
            file.cells.push(cell);
        }
    }
    file
}

/// Adds a soak of a row at `rate_per_s`.
fn soak(file: &mut ResultFile, shape: Shape, rate_per_s: f64) {
    let point = Point::Soak { rate_per_s, factor: rate_per_s / RATE };
    let mut soak = cell(shape, point, rate_per_s, 99);
    soak.window.duration_ns = 600_000_000_000;
    // As many messages as the longer window has.
    for count in [&mut soak.counts.due, &mut soak.counts.acknowledged, &mut soak.counts.unacknowledged] {
        *count *= 1_000;
    }
    file.cells.push(soak);
}

/// The generator is late wherever the model is asked for more than it carries.
fn late_beyond(shape: Shape, point: Point, rate_per_s: f64, seed: u64) -> Measurement {
    let mut cell = cell(shape, point, rate_per_s, seed);
    if shape.row == "log" && rate_per_s > shape.most_per_s {
        synthetic::make_late(&mut cell, 50_000_000);
    }
    cell
}

fn capacity() -> ResultFile {
    let mut file = searched(&[KAFKA, RABBIT, ROWS[0], SLOW, NULL], late_beyond);
    soak(&mut file, KAFKA, 64_000.0);
    soak(&mut file, RABBIT, 24_000.0);
    file
}

/// The verdict and one panel, a tag a line.
fn parts(file: &ResultFile, panel: &str) -> String {
    let html = render(std::slice::from_ref(file)).unwrap();
    keep(&format!("{panel}.html"), &html);
    let verdict = between(&html, "<div id=\"verdict\"", "</section>")[0];
    let panel = between(&html, &format!("<section class=\"panel\" id=\"{panel}\""), "</section>")[0];
    format!("{verdict}\n{panel}").replace("><", ">\n<")
}

#[test]
fn a_search_s_page_is_as_it_was() {
    insta::assert_snapshot!(parts(&capacity(), "capacity"));
}

#[test]
fn a_search_s_table_is_as_it_was() {
    insta::assert_snapshot!(table(&capacity(), Style::Plain).unwrap());
}

/// Two fields with two values each, two rounds, and one row saturated in one of them.
fn swept() -> ResultFile {
    let mut file = synthetic::empty(Command::Sweep);
    file.fixed_cases.clear();
    let set = |path: &str, value: &str| Varied { path: path.to_owned(), value: value.to_owned() };
    for round in 0..2 {
        for (at, shape) in [KAFKA, RABBIT, ROWS[0]].into_iter().enumerate() {
            for point in 0..4_u32 {
                let (rate, members) = ([10e3, 30e3][point as usize / 2], ["1", "4"][point as usize % 2]);
                let rate = if shape.row == "kafka" && round == 1 && point == 3 { 100e3 } else { rate };
                let settings = vec![
                    set("arrivals.rate", ["10k/s", "30k/s"][point as usize / 2]),
                    set("groups.*.members", members),
                ];
                let seed = u64::from(round * 100 + point * 10) + at as u64;
                file.cells.push(cell(shape, Point::Sweep { point, round, settings }, rate, seed));
            }
        }
    }
    file
}

#[test]
fn a_sweep_s_page_is_as_it_was() {
    insta::assert_snapshot!(parts(&swept(), "sweep"));
}

#[test]
fn a_sweep_s_table_is_as_it_was() {
    insta::assert_snapshot!(table(&swept(), Style::Plain).unwrap());
}

fn code(file: &ResultFile) -> u8 {
    conclude(file).unwrap().exit.code(None)
}

#[test]
fn a_search_without_an_answer_or_whose_soak_did_not_hold_ends_with_3() {
    let mut found = searched(&[KAFKA, NULL], cell);
    assert_eq!(code(&found), 0);
    soak(&mut found, KAFKA, 64_000.0);
    assert_eq!(code(&found), 0);
    found.cells.pop();
    soak(&mut found, KAFKA, 120_000.0);
    assert_eq!(code(&found), 3);
    assert_eq!(code(&searched(&[KAFKA, SLOW, NULL], cell)), 3, "one of two is asked for too");
    let mut interrupted = searched(&[SLOW, NULL], cell);
    interrupted.cut_short = Some("interrupted".to_owned());
    assert_eq!(code(&interrupted), 1);
}

#[test]
fn what_was_not_the_backend_s_doing_ends_with_4() {
    let disturbed = |shape, point, rate_per_s, seed| {
        let mut cell = cell(shape, point, rate_per_s, seed);
        cell.fitness.other_processes_cores = Some(0.9);
        cell
    };
    assert_eq!(code(&searched(&[KAFKA, NULL], disturbed)), 0, "a floor is an answer");
    assert_eq!(code(&searched(&[SLOW, NULL], disturbed)), 4);
    let mut soaked = searched(&[KAFKA, NULL], cell);
    soak(&mut soaked, KAFKA, 120_000.0);
    soaked.cells.last_mut().unwrap().fitness.other_processes_cores = Some(0.9);
    assert_eq!(code(&soaked), 4);
}
