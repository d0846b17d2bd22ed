//! The regression check on exact counts.

use brokerlab_reports::against;

use crate::synthetic;

#[test]
fn equal_counts_pass() {
    let base = synthetic::empty(brokerlab_reports::result::Command::Run);
    let report = against(&base, &base.clone());
    assert_eq!((report.exit_code(), report.equal), (0, 4 * 9));
    assert_eq!(report.lines().len(), 1);
}

#[test]
fn one_more_of_anything_fails_and_one_less_is_an_improvement() {
    let base = synthetic::empty(brokerlab_reports::result::Command::Run);
    let mut new = base.clone();
    new.fixed_cases[0].counts.fsyncs += 1;
    new.fixed_cases[1].allocations = Some(12_000);
    let report = against(&base, &new);
    assert_eq!(report.exit_code(), 3);
    assert_eq!(report.increases[0].to_string(), "log: fsyncs 0 → 1");
    assert_eq!(report.decreases[0].to_string(), "queue: allocations 12345 → 12000 (-2.8 %)");
    new.fixed_cases[0].counts.fsyncs -= 1;
    assert_eq!(against(&base, &new).exit_code(), 0);
}

#[test]
fn another_case_digest_or_backend_can_not_be_compared() {
    let base = synthetic::empty(brokerlab_reports::result::Command::Run);
    let changes: [fn(&mut brokerlab_reports::ResultFile); 4] = [
        |f| f.fixed_cases[0].case = "another".to_owned(),
        |f| f.fixed_cases[0].digest_sha256 = "00".to_owned(),
        |f| f.fixed_cases.truncate(3),
        |f| f.fixed_cases[2].allocations = None,
    ];
    for change in changes {
        let mut new = base.clone();
        change(&mut new);
        new.fixed_cases[1].counts.write_calls += 5;
        let report = against(&base, &new);
        assert_eq!(report.exit_code(), 2, "{report:?}");
    }
    let mut none = base.clone();
    none.fixed_cases.clear();
    assert_eq!(against(&none, &none).exit_code(), 2, "a base without cases compares nothing");
}

#[test]
fn a_result_of_a_search_or_sweep_says_that_it_holds_no_fixed_case() {
    use brokerlab_reports::result::Command;
    let base = synthetic::empty(Command::Run);
    for (command, kind) in [(Command::Sweep, "a sweep's result"), (Command::Capacity, "a capacity's result")] {
        let mut new = synthetic::empty(command);
        new.fixed_cases.clear();
        let report = against(&base, &new);
        assert_eq!((report.exit_code(), report.incomparable.len()), (2, 1));
        assert!(report.incomparable[0].starts_with(kind), "{:?}", report.incomparable);
    }
}
