//! Real brokers for a figure: started, broken and stopped through `scripts/brokers`, in a folder of their own.
//!
//! Leaves out what runs on them. Whatever was started is stopped when the value is dropped, also after an error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tempfile::TempDir;

/// `scripts/brokers` with a folder for data and logs.
#[derive(Debug)]
pub(super) struct Brokers {
    script: PathBuf,
    folder: TempDir,
}

impl Brokers {
    /// Nothing is started yet. Needs the repository as the working directory, as `scripts/figures` gives it.
    pub(super) fn new() -> anyhow::Result<Self> {
        let script = Path::new("scripts/brokers").canonicalize().context("run this through scripts/figures")?;
        // Not in memory: servers keep gigabytes.
        let base = std::env::var_os("BROKERLAB_FIGURES_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        std::fs::create_dir_all(&base).with_context(|| format!("can't make {}", base.display()))?;
        Ok(Self { script, folder: tempfile::Builder::new().prefix("brokerlab-figures-").tempdir_in(base)? })
    }

    /// Where the servers' states and data are, for `BROKERLAB_BROKERS_DIR`.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the script and gives what it printed; its messages go to standard error.
    fn script(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.script)
            .args(arguments)
            .env("BROKERLAB_BROKERS_DIR", self.folder())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("can't run scripts/brokers")?;
        anyhow::ensure!(output.status.success(), "scripts/brokers {} failed", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a server, or finds it running, and gives its URL.
    pub(super) fn up(&self, name: &str) -> anyhow::Result<String> {
        self.script(&["up", name])?;
        Ok(self.script(&["url", name])?.trim().to_owned())
    }

    /// Stops a server and deletes its data.
    pub(super) fn down(&self, name: &str) -> anyhow::Result<()> {
        self.script(&["down", name]).map(drop)
    }

    /// Kills one node.
    pub(super) fn kill(&self, name: &str, node: u32) -> anyhow::Result<()> {
        self.script(&["kill", name, &node.to_string()]).map(drop)
    }

    /// The folder of the jars of `kafka`'s or `rabbitmq`'s own tools; fetched on first use.
    pub(super) fn tools(&self, name: &str) -> anyhow::Result<PathBuf> {
        let line = self.script(&["tools", name])?;
        let path =
            line.trim().strip_prefix(&format!("{name}=")).context("scripts/brokers tools printed something else")?;
        Ok(PathBuf::from(path))
    }

    /// One key of a server's state file.
    pub(super) fn state(&self, name: &str, key: &str) -> anyhow::Result<String> {
        let path = self.folder().join(name).join("state");
        let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Ok(value.with_context(|| format!("{} has no key {key}", path.display()))?.to_owned())
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        // An error is on standard error already, and there is nobody left to hand it to.
        let _ = self.script(&["down"]);
    }
}
