//! A visit in a real child process: this program starts itself again as the child, with the `null` backend.
//!
//! Has no test harness, because the harness would write its own lines where the child answers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brokerlab_embedded::{BackendUrl, Place, open};
use brokerlab_host::Waiting;
use brokerlab_host::visit::{Opened, VisitError, VisitSpec, serve, spawn};
use brokerlab_model::{Broker, Contract};
use brokerlab_workloads::measurement::{Measurement, Point, World};

const PROFILE: &str = r#"
name = "visit"
about = "For tests."
duration = "300ms"
producers = 2
sizes = "64B"
channels = { name = "c" }
keys = { kind = "uniform", count = 16 }
arrivals = { kind = "constant", rate = "1000/s" }
[[groups]]
name = "g"
members = 2
"#;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("child") => child(),
        Some("child-that-dies") => {
            // The end of the task is read first, so that the parent can hand it over.
            let mut task = String::new();
            std::io::stdin().read_line(&mut task).expect("the parent writes a task");
            panic!("the planted death");
        }
        _ => parent(),
    }
}

fn child() -> ExitCode {
    let mut opens = |spec: &VisitSpec, _origin_utc_ns: u64| {
        let url = BackendUrl::parse(&spec.backend_url).map_err(|error| error.to_string())?;
        let place = Place { data: spec.data.as_deref() };
        let broker = open(&url, &spec.contract, &place).map_err(|error| error.to_string())?;
        Ok(Opened { broker: broker as Box<dyn Broker>, live: None, leader: None, served: None })
    };
    match serve(&mut opens, &Arc::new(AtomicBool::new(false))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn spec(backend: &str, duration: &str, data: &Path) -> VisitSpec {
    VisitSpec {
        profile: PROFILE.to_owned(),
        profile_name: "visit.toml".to_owned(),
        sets: vec![("duration".to_owned(), duration.to_owned())],
        load_factor: 2.0,
        row: format!("{backend} (again)"),
        backend_url: backend.to_owned(),
        contract: Contract::default(),
        world: World::Embedded,
        point: Point::Visit { round: 3 },
        lanes: 2,
        transport: "in-process".to_owned(),
        threads: 1,
        waiting: Waiting::Park,
        seed: 7,
        replication: 0,
        run: 9,
        data: Some(data.to_owned()),
        prefix: String::new(),
        existing: false,
        servers: Vec::new(),
    }
}

fn visit(mode: &str, spec: &VisitSpec, stop: &AtomicBool, told: &mut u64) -> Result<Measurement, VisitError> {
    let exe = std::env::current_exe().expect("a running program has a path");
    spawn(&exe, &[OsStr::new(mode)], spec, stop, &mut |progress| {
        *told += 1;
        if spec.sets[0].1 == "1h" && progress.acknowledged > 0 {
            stop.store(true, Ordering::Release);
        }
    })
}

fn parent() -> ExitCode {
    let data = tempfile::tempdir().expect("a temporary folder");
    a_visit_answers_with_its_measurement(data.path());
    a_visit_that_is_stopped_still_answers(data.path());
    a_child_that_dies_leaves_its_last_words(data.path());
    a_task_that_can_not_be_done_is_refused(data.path());
    let left = std::fs::read_dir(data.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "every visit's folder is removed");
    ExitCode::SUCCESS
}

fn a_visit_answers_with_its_measurement(data: &Path) {
    let mut told = 0;
    let spec = spec("log", "300ms", data);
    let measurement = visit("child", &spec, &AtomicBool::new(false), &mut told).expect("a visit is measured");
    assert_eq!((measurement.row.as_str(), measurement.backend.as_str()), ("log (again)", "log"));
    assert_eq!((measurement.counts.due, measurement.counts.acknowledged), (600, 600));
    assert_eq!((measurement.point, measurement.seed, measurement.cut_short), (Point::Visit { round: 3 }, 7, None));
    assert!(measurement.digest.matches_published && told > 0);
}

fn a_visit_that_is_stopped_still_answers(data: &Path) {
    let spec = spec("null", "1h", data);
    let measurement = visit("child", &spec, &AtomicBool::new(false), &mut 0).expect("a stopped visit is measured");
    assert!(measurement.cut_short.is_some() && measurement.counts.acknowledged > 0);
}

fn a_child_that_dies_leaves_its_last_words(data: &Path) {
    let spec = spec("null", "300ms", data);
    let error = visit("child-that-dies", &spec, &AtomicBool::new(false), &mut 0).expect_err("a dead child");
    let VisitError::Died { row, stderr, .. } = error else { panic!("{error}") };
    assert_eq!(row, "null (again)");
    assert!(stderr.contains("the planted death"), "{stderr}");
}

fn a_task_that_can_not_be_done_is_refused(data: &Path) {
    let spec = spec("pigeon", "300ms", data);
    let error = visit("child", &spec, &AtomicBool::new(false), &mut 0).expect_err("no such backend");
    let VisitError::Refused(why) = error else { panic!("{error}") };
    assert!(why.contains("pigeon"), "{why}");
}
