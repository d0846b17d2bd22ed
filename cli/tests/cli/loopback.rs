//! Embedded backends behind loopback sockets: a run and a comparison, whose results name the hop and hold the engines' processes; and the
//! process that serves.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::lab::{
    BINARY, Lab, assert_every_acknowledged_message_is_accounted_for, assert_every_due_message_is_accounted_for, count,
};

#[test]
fn a_run_behind_a_socket_says_so_and_shows_the_engine_s_process() {
    for (backend, contract) in
        [("log", "fsync"), ("queue", "page-cache"), ("shard", "memory"), ("direct?transport=loopback", "page-cache")]
    {
        let lab = Lab::new();
        let hop: &[&str] = if backend.contains('?') { &[] } else { &["--transport", "loopback"] };
        let data = env!("CARGO_TARGET_TMPDIR");
        lab.run(backend, &[hop, &["--rate", "2k/s", "--contract", contract, "--data", data]].concat()).measured();
        let cell = lab.cell();
        assert_eq!((&cell["loops"]["transport"], &cell["loops"]["waiting"]), (&"loopback".into(), &"park".into()));
        assert_every_due_message_is_accounted_for(&cell);
        assert_every_acknowledged_message_is_accounted_for(&cell);
        assert_eq!(count(&cell["groups"][0]["check"], "lost"), 0, "{backend}: {cell}");
        let servers = cell["servers"].as_array().expect("servers");
        assert_eq!((servers.len(), &servers[0]["own"]), (1, &true.into()), "{backend}");
        assert!(count(&servers[0], "peak_rss_bytes") > 0);
        assert!(count(&cell["work"], "payload_copies") > 0, "{backend}: the engine's counts come over the socket");
        let tallies = cell["tallies"].as_array().map_or(0, Vec::len);
        assert_eq!(tallies > 0, backend.starts_with("direct"), "{backend}: and what it counted of its own");
        let settings = cell["settings"].to_string();
        assert!(settings.contains("loopback: a process of its own"), "{settings}");
        assert!(lab.text("out/report.html").contains("one a visit"), "{backend}");
    }
}

#[test]
fn a_comparison_puts_all_rows_behind_the_same_hop() {
    let lab = Lab::new();
    let ended = lab.brokerlab(&[
        "compare",
        "--backend",
        "log",
        "--backend",
        "direct",
        "--transport",
        "loopback",
        "--duration",
        "50ms",
        "--rate",
        "2k/s",
        "--quiet",
        "--out",
        "out",
    ]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    let result = lab.json("out/results.json");
    let cells = result["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4 * 6 + 3 * 5);
    assert!(cells.iter().all(|cell| cell["loops"]["transport"] == "loopback"), "the control too");
    assert!(result["cut_short"].is_null());
    for cell in cells {
        assert_every_due_message_is_accounted_for(cell);
    }
}

#[test]
fn rows_behind_different_hops_are_not_ranked() {
    let lab = Lab::new();
    let rows =
        ["--backend", "log", "--backend", "log?transport=loopback", "--duration", "50ms", "--rate", "2k/s", "--alone"];
    let ended = lab.brokerlab(&[&["compare"], &rows[..], &["--out", "out", "--quiet"]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(lab.text("out/report.html").contains("the rows used different transports (in-process and loopback)"));
}

#[test]
fn what_serves_listens_on_this_machine_only_and_ends_with_its_caller() {
    let mut child = Command::new(BINARY)
        .args(["serve", "log", "--contract", "memory"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.trim().parse::<u16>().is_ok_and(|port| port > 0), "{line}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let lab = Lab::new();
    lab.brokerlab(&["serve", "log", "--contract", "fsync"]).fails(2, &["storage = fsync needs a folder"]);
    lab.brokerlab(&["serve", "lag", "--contract", "memory"]).fails(2, &["did you mean `log`"]);
}
