//! A folder of its own for a test, the binary run in it, and what it left there.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_brokerlab");

/// A folder in which commands run; removed with everything in it.
#[derive(Debug)]
pub(crate) struct Lab {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// Asserts the exit code and that standard error holds each of `words`.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not in: {}", self.err);
        }
    }

    /// Asserts that what was asked was done, whether or not this machine was quiet enough to conclude anything from it.
    pub(crate) fn measured(&self) {
        assert!([0, 4].contains(&self.code), "{self:?}");
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file in a temporary folder");
    }

    /// A file's text.
    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What lies in a folder, sorted.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs the binary in the folder.
    pub(crate) fn brokerlab(&self, args: &[&str]) -> Ended {
        self.within(300, args, &[])
    }

    /// The same with more in the environment; what takes longer is ended, and has no exit code.
    pub(crate) fn within(&self, seconds: u64, args: &[&str], environment: &[(&str, &str)]) -> Ended {
        let output = assert_cmd::Command::new(BINARY)
            .args(args)
            .envs(environment.iter().copied())
            .current_dir(self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("NO_COLOR", "1")
            .timeout(Duration::from_secs(seconds))
            .output()
            .expect("the binary starts");
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A short run of one backend into `out`.
    pub(crate) fn run(&self, backend: &str, more: &[&str]) -> Ended {
        let mut args = vec!["run", "--backend", backend, "--out", "out", "--quiet"];
        if !more.contains(&"--duration") {
            args.extend(["--duration", "100ms"]);
        }
        args.extend(more);
        self.brokerlab(&args)
    }

    /// A result file.
    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What the only visit of a run measured.
    pub(crate) fn cell(&self) -> Value {
        let result = self.json("out/results.json");
        let cells = result["cells"].as_array().expect("cells");
        assert_eq!(cells.len(), 1);
        cells[0].clone()
    }
}

/// A count in a JSON object.
pub(crate) fn count(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_else(|| panic!("no count `{name}` in {of}"))
}

/// Asserts that every message that was due is in exactly one of the counts of how it ended.
pub(crate) fn assert_every_due_message_is_accounted_for(cell: &Value) {
    let counts = &cell["counts"];
    let ends = ["acknowledged", "refused", "failed", "unknown", "unacknowledged", "not_sent"];
    assert_eq!(count(counts, "due"), ends.iter().map(|end| count(counts, end)).sum::<u64>(), "{counts}");
}

/// Asserts that every acknowledged message is in exactly one of the counts of what the first group got of it.
pub(crate) fn assert_every_acknowledged_message_is_accounted_for(cell: &Value) {
    let check = &cell["groups"][0]["check"];
    let ends = ["delivered", "undelivered", "expired", "overflowed", "lost", "not_checked"];
    assert_eq!(count(check, "acknowledged"), ends.iter().map(|end| count(check, end)).sum::<u64>(), "{check}");
}
