//! A full disk: one message with the remedy, and the good files of before as they were. The disk is a tiny tmpfs in a mount
//! namespace of its own; where that may not be made, the test says that it was skipped.

use std::io::Write as _;
use std::process::{Command, Output};

use crate::lab::{BINARY, Lab};

/// The exit code by which the script says that nothing could be mounted.
const NOT_PERMITTED: i32 = 77;

/// Runs the binary in `lab` with `small` a file system of `size`, holding a good result and page. Prints afterwards what is in it.
/// None where nothing may be mounted.
fn on_a_small_disk(lab: &Lab, size: &str, args: &str) -> Option<Output> {
    std::fs::create_dir(lab.path("small")).unwrap_or_else(|error| panic!("{error}"));
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs small 2>/dev/null || exit {NOT_PERMITTED}
        printf good > small/results.json && printf good > small/report.html
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
    let Some(output) = on_a_small_disk(&lab, "16k", args) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("small/results.json") && err.contains("free some space"), "{err}");
    assert!(out.contains("left: report.html results.json good good"), "{out}");
}

#[test]
fn data_that_do_not_fit_end_the_run_with_the_flag_that_chooses_another_folder() {
    let lab = Lab::new();
    let args = "run --backend log --duration 50ms --quiet --out out --data small";
    let Some(output) = on_a_small_disk(&lab, "256k", args) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("No space left on device") && err.contains("--data"), "{err}");
    assert!(out.contains("left: report.html results.json good good"), "{out}");
    assert!(!lab.path("out/results.json").exists());
}
