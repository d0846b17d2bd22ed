//! A disk that is full, can't be written, or is none: one message with the remedy, and the good files of before as they were. The disk is
//! a tiny tmpfs in a mount namespace of its own; where that may not be made, the test says that it was skipped.

use std::io::Write as _;
use std::process::{Command, Output};

use crate::lab::{BINARY, Lab, assert_every_due_message_is_accounted_for, count};

/// The exit code by which the script says that nothing could be mounted.
const NOT_PERMITTED: i32 = 77;

/// Runs the binary in `lab` with `small` a file system of `size`, holding a good result and page, after `first` was done to it. Prints
/// afterwards what is in it. None where nothing may be mounted.
fn on_a_small_disk(lab: &Lab, size: &str, first: &str, args: &str) -> Option<Output> {
    std::fs::create_dir(lab.path("small")).unwrap_or_else(|error| panic!("{error}"));
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs small 2>/dev/null || exit {NOT_PERMITTED}
        printf good > small/results.json && printf good > small/report.html
        {first}
        \"$0\" {args}
        code=$?
        echo \"left: $(ls -A small | tr '\\n' ' ')$(cat small/results.json) $(cat small/report.html)\"
        exit $code"
    );
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let namespace = if root { "-m" } else { "-rm" };
    let output =
        Command::new("unshare").args([namespace, "sh", "-c", &script, BINARY]).current_dir(lab.path(".")).output();
    // `unshare` itself ends with 1 and says so when it may not; the binary's own errors begin differently.
    let output = output.ok().filter(|output| {
        output.status.code() != Some(NOT_PERMITTED) && !String::from_utf8_lossy(&output.stderr).starts_with("unshare:")
    });
    if output.is_none() {
        // Past the test runner's capture, so that it is seen.
        let _ = writeln!(std::io::stderr(), "skipped: no file system may be mounted here, so the disk can't be filled");
    }
    output
}

#[test]
fn a_result_that_does_not_fit_leaves_the_good_one() {
    let lab = Lab::new();
    let args = "run --backend log --duration 50ms --quiet --out small";
    let Some(output) = on_a_small_disk(&lab, "16k", "", args) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("small/results.json") && err.contains("free some space"), "{err}");
    assert!(out.contains("left: report.html results.json good good"), "{out}");
}

#[test]
fn data_that_do_not_fit_end_the_run_with_the_flag_that_chooses_another_folder() {
    let lab = Lab::new();
    let args = "run --backend log --duration 50ms --quiet --out out --data small";
    let Some(output) = on_a_small_disk(&lab, "256k", "", args) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("No space left on device") && err.contains("--data"), "{err}");
    assert!(out.contains("left: report.html results.json good good"), "{out}");
    assert!(!lab.path("out/results.json").exists());
}

/// Runs a backend with its data on such a disk; asserts that it ended with this code and these words, and that nothing was changed.
fn refused_on_a_disk(first: &str, contract: &str, code: i32, words: &[&str]) {
    for backend in ["log", "queue", "shard", "direct"] {
        let lab = Lab::new();
        let contract = if contract.is_empty() { String::new() } else { format!("--contract {contract}") };
        let args = format!("run --backend {backend} --duration 50ms --quiet --out out --data small {contract}");
        let Some(output) = on_a_small_disk(&lab, "1g", first, &args) else { return };
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{out}{err}");
        for word in words {
            assert!(err.contains(word), "`{word}` is not in: {err}");
        }
        assert!(out.contains("left: report.html results.json good good"), "{out}");
        assert!(!lab.path("out/results.json").exists());
    }
}

#[test]
fn a_folder_that_can_only_be_read_is_named_with_the_flag_that_chooses_another() {
    refused_on_a_disk("mount -o remount,ro small", "", 1, &["small", "Read-only file system", "--data"]);
}

#[test]
fn a_flush_is_refused_where_the_disk_is_memory() {
    refused_on_a_disk("", "fsync", 2, &["small", "tmpfs", "lives in memory", "--data", "page-cache"]);
}

/// The flags of a load that fills a disk of 12 MiB in its first half.
const TOO_MUCH: &str = "--rate 20k/s --size 1KiB --duration 1s --quiet --out out --data small";

#[test]
fn a_disk_that_fills_in_mid_run_ends_it_with_the_storage_s_words_and_keeps_what_was_measured() {
    for transport in ["in-process", "loopback"] {
        let lab = Lab::new();
        let args = format!("run --backend log?segment=1MiB {TOO_MUCH} --transport {transport}");
        let Some(output) = on_a_small_disk(&lab, "12m", "", &args) else { return };
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{out}{err}");
        for word in ["the backend stopped: ", "/segment-", "No space left on device", "free space"] {
            assert!(out.contains(word), "`{word}` is not in: {out}{err}");
        }
        assert!(out.contains("left: report.html results.json good good"), "{out}");
        let cell = lab.cell();
        assert!(cell["cut_short"].as_str().is_some_and(|why| why.contains("No space left on device")), "{cell}");
        assert_every_due_message_is_accounted_for(&cell);
        assert!(count(&cell["counts"], "acknowledged") > 0);
        assert_eq!(count(&cell["groups"][0]["check"], "lost"), 0, "{cell}");
    }
}

#[test]
fn a_row_whose_disk_fills_ends_a_comparison_with_1_and_takes_nothing_from_the_others() {
    let lab = Lab::new();
    let args = format!("compare --alone --backend log?segment=1MiB --backend null {TOO_MUCH}");
    let Some(output) = on_a_small_disk(&lab, "12m", "", &args) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    let result = lab.json("out/results.json");
    assert!(result["cut_short"].as_str().is_some_and(|why| why.contains("No space left on device")), "{result}");
    let cells = result["cells"].as_array().expect("cells");
    let (log, null): (Vec<_>, Vec<_>) = cells.iter().partition(|cell| cell["backend"] == "log");
    assert_eq!((log.len(), null.len()), (6, 6), "{out}");
    assert!(
        log.iter().all(|cell| cell["cut_short"].is_string()) && null.iter().all(|cell| cell["cut_short"].is_null())
    );
}
