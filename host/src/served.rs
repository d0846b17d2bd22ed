//! A backend served by a process of its own, started for one visit: found by the port that it prints, and gone with whoever started it.
//!
//! The process serves until its standard input ends, so that none outlives its parent, however that ends. Leaves out what is served, which
//! the caller's arguments say, and real brokers (`started`).

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Why a process does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServedError {
    /// It could not be started.
    #[error("can't start {}: {source}", exe.display())]
    Spawn {
        /// Which program.
        exe: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended without a port, with what it wrote.
    #[error("the backend's process did not begin to serve: {0}")]
    NoPort(String),
}

/// A process that serves. It is killed when this is dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    /// Starts `exe` with `args` and waits for its first line, the port at which it listens on this machine.
    pub fn start<S: AsRef<OsStr>>(exe: &Path, args: &[S]) -> Result<Self, ServedError> {
        let mut child = Command::new(exe)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for whoever started it.
            .process_group(0)
            .spawn()
            .map_err(|source| ServedError::Spawn { exe: exe.to_owned(), source })?;
        let mut line = String::new();
        if let Some(stdout) = &mut child.stdout {
            // An end without a line is told below.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        match line.trim().parse() {
            Ok(port) => Ok(Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }),
            Err(_) => Err(ServedError::NoPort(last_words(child))),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process at once, as a crash would, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // One that is gone already is what was wanted.
        let _ = self.kill();
    }
}

/// What a process wrote to standard error that is of no use; it is gone then.
fn last_words(mut child: Child) -> String {
    drop(child.stdin.take());
    let _ = child.kill();
    let mut words = String::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.read_to_string(&mut words);
    }
    let ended = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    let words = words.trim();
    if words.is_empty() { ended } else { words.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_port_and_the_process_goes_with_its_parent() {
        let script = "echo 4242; cat";
        let mut served = Served::start(Path::new("sh"), &["-c", script]).unwrap();
        assert_eq!((served.address().port(), served.address().ip().is_loopback()), (4242, true));
        served.kill().unwrap();
        assert!(!Path::new(&format!("/proc/{}/cwd", served.pid())).exists());
    }

    #[test]
    fn a_process_without_a_port_is_told_with_its_last_words() {
        let error = Served::start(Path::new("sh"), &["-c", "echo no room >&2; exit 3"]).unwrap_err();
        assert_eq!(error.to_string(), "the backend's process did not begin to serve: no room");
        let error = Served::start(Path::new("/nowhere/to/be/found"), &["x"]).unwrap_err();
        assert!(error.to_string().starts_with("can't start /nowhere"), "{error}");
    }
}
