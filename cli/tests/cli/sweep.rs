//! A sweep: one cell for each point, backend and round; grids and lists; going on where it was interrupted.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lab::{Ended, Lab, assert_every_due_message_is_accounted_for};

const GRID: [&str; 4] = ["--vary", "rate=1k/s,2k/s", "--vary", "groups.*.members=1,2"];

fn sweep(lab: &Lab, more: &[&str]) -> Ended {
    let mut args = vec!["sweep", "--out", "out", "--duration", "50ms"];
    args.extend(more);
    lab.brokerlab(&args)
}

/// Row, settings and round of every cell.
fn cells(lab: &Lab) -> Vec<(String, String, u64)> {
    let result = lab.json("out/results.json");
    let cells = result["cells"].as_array().expect("cells").clone();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    cells
        .iter()
        .map(|cell| {
            assert_every_due_message_is_accounted_for(cell);
            let settings = cell["point"]["settings"].as_array().expect("settings");
            let settings: Vec<String> =
                settings.iter().map(|s| format!("{}={}", text(&s["path"]), text(&s["value"]))).collect();
            (text(&cell["row"]), settings.join(" "), cell["point"]["round"].as_u64().expect("a round"))
        })
        .collect()
}

#[test]
fn a_grid_gives_one_cell_for_each_point_backend_and_round_in_random_order() {
    let lab = Lab::new();
    let mut more = vec!["--backend", "log", "--backend", "direct", "--rounds", "2", "--quiet"];
    more.extend(GRID);
    let ended = sweep(&lab, &more);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    assert!(ended.out.contains("a sweep names no winner"), "{}", ended.out);
    let all = cells(&lab);
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (2 * 4 * 2, 16));
    assert!(all.is_sorted_by_key(|(.., round)| *round), "round by round");
    let order =
        |round: u64| all.iter().filter(|cell| cell.2 == round).map(|cell| (&cell.0, &cell.1)).collect::<Vec<_>>();
    assert_ne!(order(0), order(1), "each round in an order of its own");
    assert!(all.iter().any(|(_, settings, _)| settings == "arrivals.rate=2k/s groups.*.members=1"));
    let result = lab.json("out/results.json");
    let members: BTreeSet<u64> = result["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .filter_map(|cell| cell["groups"][0]["members"].as_u64())
        .collect();
    assert_eq!(members, BTreeSet::from([1, 2]));
    let again = lab.brokerlab(&["report", "out/results.json", "--out", "again", "--quiet"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(lab.text("again/report.html"), lab.text("out/report.html"));
    assert!(lab.text("out/report.html").contains("id=\"sweep\""));
}

#[test]
fn it_goes_on_where_it_was_interrupted_and_not_with_another_workload() {
    let lab = Lab::new();
    let mut more = vec!["--backend", "log", "--rounds", "1", "--quiet"];
    more.extend(GRID);
    assert_eq!(sweep(&lab, &more).code, 0);
    let first = cells(&lab);
    let origins = |lab: &Lab| {
        let result = lab.json("out/results.json");
        let all = result["cells"].as_array().expect("cells").clone();
        all.iter().filter_map(|cell| cell["window"]["origin_utc_ns"].as_u64()).collect::<Vec<_>>()
    };
    let before = origins(&lab);
    more[3] = "2";
    more.push("--resume");
    assert_eq!(sweep(&lab, &more).code, 0);
    let both = cells(&lab);
    assert_eq!((both.len(), &both[..4]), (8, first.as_slice()), "cells of before are kept as they were");
    assert_eq!(origins(&lab)[..4], before[..]);
    // Nothing is left to do: the file is written again with the same cells.
    assert_eq!(sweep(&lab, &more).code, 0);
    assert_eq!(cells(&lab), both);
    let mut other = more.clone();
    other.extend(["--seed", "9"]);
    sweep(&lab, &other).fails(2, &["--resume", "differs from what is asked now in its profile", "--out"]);
    more[3] = "1";
    sweep(&lab, &more).fails(2, &["holds a cell that is not asked for now"]);
    assert_eq!(cells(&lab), both, "what was refused changed nothing");
}

#[test]
fn points_come_from_a_list_too() {
    let lab = Lab::new();
    lab.write("points.csv", "rate,lanes\n1k/s,1\n2k/s,\n");
    lab.write("points.toml", "[[points]]\narrivals.rate = \"1k/s\"\n[[points]]\nlanes = 2\n");
    for (list, expected) in [
        ("points.csv", ["arrivals.rate=1k/s lanes=1", "arrivals.rate=2k/s"]),
        ("points.toml", ["arrivals.rate=1k/s", "lanes=2"]),
    ] {
        let ended = sweep(&lab, &["--backend", "log", "--rounds", "1", "--list", list, "--quiet"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let found: BTreeSet<String> = cells(&lab).into_iter().map(|(_, settings, _)| settings).collect();
        assert_eq!(found, expected.map(str::to_owned).into());
    }
}

#[test]
fn a_backend_is_left_out_at_points_whose_contract_it_can_t_keep() {
    let lab = Lab::new();
    let contracts = "contract=\"at-least-once\",\"at-least-once,decoupled\"";
    let more = ["--backend", "log", "--backend", "direct", "--rounds", "1", "--vary", contracts];
    let ended = sweep(&lab, &more);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("left out: direct can't keep the contract: availability decoupled"), "{}", ended.err);
    let rows: Vec<String> = cells(&lab).into_iter().map(|(row, ..)| row).collect();
    assert_eq!(rows.iter().filter(|row| *row == "log").count(), 2);
    assert_eq!(rows.iter().filter(|row| *row == "direct").count(), 1);
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let lab = Lab::new();
    let refused = |more: &[&str], words: &[&str]| {
        let mut args = vec!["--backend", "log"];
        args.extend(more);
        sweep(&lab, &args).fails(2, words);
        assert!(!lab.path("out/results.json").exists(), "{more:?}");
    };
    refused(&[], &["--vary PATH=V1,V2", "--list FILE"]);
    refused(&["--vary", "lanes"], &["there is no `=`"]);
    refused(&["--vary", "prodcers=1,2"], &["--vary prodcers", "unknown key `prodcers`", "did you mean `producers`?"]);
    refused(&["--vary", "rate=1k/s,20q/s"], &["--vary arrivals.rate", "`20q/s` is not a rate", "20k/s"]);
    refused(&["--vary", "lanes=1,1"], &["lanes=1 is there twice"]);
    refused(&["--vary", "objectives=[]"], &["the same objectives"]);
    refused(&["--list", "nope.csv"], &["nope.csv", "name a TOML or CSV file"]);
    lab.write("points.txt", "lanes\n1\n");
    refused(&["--list", "points.txt"], &["neither in .toml nor in .csv"]);
    lab.write("points.csv", "lanes\n1\n\nmany\n");
    refused(&["--list", "points.csv"], &["points.csv lanes", "many"]);
    refused(&["--vary", "lanes=1", "--rounds", "0"], &["--rounds"]);
    refused(&["--vary", "contract=\"copies=3\""], &["no backend keeps the contract", "copies 3"]);
    lab.write("empty.toml", "");
    refused(&["--list", "empty.toml"], &["no point is in it"]);
}
