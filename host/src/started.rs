//! Servers that `scripts/brokers` started: found by the address that a backend's URL names, acted on by process id, started again by the
//! program that started them.
//!
//! What is known of them stands in a state file, one `key=value` a line, which `scripts/brokers` explains. A process whose start is not
//! the recorded one is another process and is left alone. Leaves out when to act (`faults`), and servers in containers.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use brokerlab_workloads::measurement::Act;
use brokerlab_workloads::profile::{Fault, FaultAction, FaultNode};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use crate::faults::Servers;
use crate::shared::locked;

/// The folder of `scripts/brokers`, when it is not the default.
pub const FOLDER_VARIABLE: &str = "BROKERLAB_BROKERS_DIR";
/// A process that was killed may take this long until it is gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);
/// How long the lock of `scripts/brokers` is waited for. It is the whole folder's and may be held while another server starts; the state
/// file is this server's alone, and a process that nobody knows of would be worse.
const LOCK_LIMIT: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// Why faults have no server to act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartedError {
    /// Nothing that was started answers at the URL's addresses.
    #[error(
        "[[faults]] act on servers that scripts/brokers started, and none of those in {} is at {address}; start one with `scripts/brokers up NAME` and take its URL, or set {FOLDER_VARIABLE}",
        folder.display()
    )]
    Unknown {
        /// Where was looked.
        folder: PathBuf,
        /// What the URL names.
        address: String,
    },
    /// It runs in a container.
    #[error(
        "[[faults]] act on processes, and {0} runs in a container; start it with `scripts/brokers up {0}` without --docker"
    )]
    Container(String),
    /// A node that is not there.
    #[error("[[faults]] name {node}, and {name} has nodes 1 to {nodes}")]
    Node {
        /// The server.
        name: String,
        /// Which was named.
        node: FaultNode,
        /// How many it has.
        nodes: u32,
    },
    /// It does not run.
    #[error("{name} does not run: node {node} has no process; bring it back with `scripts/brokers up {name}`")]
    Down {
        /// The server.
        name: String,
        /// Which of its nodes.
        node: u32,
    },
}

/// Asks the servers which of them leads the run's first lane: its `host:port`, as clients reach it.
pub type Leader = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// One server, with all its nodes.
pub struct Started {
    folder: PathBuf,
    name: String,
    nodes: u32,
    /// Nodes that were started here: reaped when they end.
    children: Mutex<Vec<Child>>,
    /// Processes that were killed here, and may take a moment to go.
    killed: Mutex<Vec<Pid>>,
    leader: Option<Leader>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("folder", &self.folder).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Started {
    /// With a way to ask which node leads.
    #[must_use]
    pub fn led_by(mut self, leader: Option<Leader>) -> Self {
        self.leader = leader;
        self
    }

    /// The server at the addresses of `url` that every one of `faults` can act on; looked for in the folder that the environment names, or
    /// the default of `scripts/brokers`.
    pub fn find(url: &str, faults: &[Fault]) -> Result<Self, StartedError> {
        Self::find_in(&folder(), url, faults)
    }

    /// As [`find`](Self::find), in this folder.
    pub fn find_in(folder: &Path, url: &str, faults: &[Fault]) -> Result<Self, StartedError> {
        let (found, state) = Self::at(folder, url)?;
        found.check(&state, faults)?;
        Ok(found)
    }

    /// The server at the addresses of `url`, whether it runs or not; none without faults.
    pub(crate) fn find_any(url: &str, faults: &[Fault]) -> Option<Self> {
        if faults.is_empty() { None } else { Self::at(&folder(), url).ok().map(|(found, _)| found) }
    }

    fn at(folder: &Path, url: &str) -> Result<(Self, State), StartedError> {
        let asked = addresses(url);
        let unknown = || StartedError::Unknown { folder: folder.to_owned(), address: asked.join(", ") };
        let entries = std::fs::read_dir(folder).map_err(|_| unknown())?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        for name in names {
            let Ok(state) = State::read(&folder.join(&name)) else { continue };
            let known = state.addresses();
            if asked.is_empty() || !asked.iter().all(|address| known.contains(address)) {
                continue;
            }
            if state.get("by") != Some("process") {
                return Err(StartedError::Container(name));
            }
            let nodes = state.nodes();
            let (children, killed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
            return Ok((Self { folder: folder.to_owned(), name, nodes, children, killed, leader: None }, state));
        }
        Err(unknown())
    }

    fn check(&self, state: &State, faults: &[Fault]) -> Result<(), StartedError> {
        for fault in faults {
            if let FaultNode::Number(number) = fault.node
                && !(1..=self.nodes).contains(&number)
            {
                return Err(StartedError::Node { name: self.name.clone(), node: fault.node, nodes: self.nodes });
            }
        }
        match (1..=self.nodes).find(|&node| state.alive(node).is_none()) {
            Some(node) => Err(StartedError::Down { name: self.name.clone(), node }),
            None => Ok(()),
        }
    }

    /// Its processes that are there now.
    pub fn processes(&self) -> Vec<u32> {
        let Ok(state) = self.state() else { return Vec::new() };
        (1..=self.nodes)
            .filter_map(|node| state.alive(node))
            .map(|pid| pid.as_raw_nonzero().get().cast_unsigned())
            .collect()
    }

    /// Resumes and restarts whatever `faults` may have left paused or killed and meant to come back. For when the process that acted has
    /// ended without doing so.
    pub fn restore(&self, faults: &[Fault]) -> Result<(), String> {
        for fault in faults {
            match (fault.action, fault.length) {
                (FaultAction::Pause, _) => {
                    let state = self.state()?;
                    for pid in self.chosen(fault.node).filter_map(|node| state.alive(node)) {
                        send(pid, Signal::CONT).map_err(|error| error.to_string())?;
                    }
                }
                (FaultAction::Kill, Some(_)) => self.act(Act::Restart, fault.node)?,
                (FaultAction::Kill, None) => {}
            }
        }
        Ok(())
    }

    fn home(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn state(&self) -> Result<State, String> {
        State::read(&self.home()).map_err(|error| format!("the state of {} can't be read: {error}", self.name))
    }

    fn chosen(&self, node: FaultNode) -> impl Iterator<Item = u32> + use<> {
        match node {
            // Whichever it was: only what undoes a fault comes here without its number.
            FaultNode::All | FaultNode::Leader => 1..=self.nodes,
            FaultNode::Number(number) => number..=number,
        }
    }

    /// Sends a signal to the chosen nodes, one right after the other.
    fn signal(&self, node: FaultNode, signal: Signal) -> Result<(), String> {
        let state = self.state()?;
        for node in self.chosen(node) {
            let pid = state.alive(node).ok_or_else(|| format!("node {node} of {} does not run", self.name))?;
            send(pid, signal).map_err(|error| format!("node {node} of {}: {error}", self.name))?;
            if signal == Signal::KILL {
                locked(&self.killed).push(pid);
            }
        }
        Ok(())
    }

    /// Starts the chosen nodes that do not run, with the data that they had.
    fn start(&self, node: FaultNode) -> Result<(), String> {
        for node in self.chosen(node) {
            let state = self.state()?;
            if self.runs_on(&state, node)? {
                continue;
            }
            let program = state.get(&format!("node.{node}.start"));
            let program =
                program.ok_or_else(|| format!("how node {node} of {} is started is not recorded", self.name))?;
            let child = self.spawn(node, program).map_err(|error| format!("can't start {program}: {error}"))?;
            let pid = child.id();
            locked(&self.children).push(child);
            self.record(node, pid).map_err(|error| format!("the state of {} can't be written: {error}", self.name))?;
        }
        Ok(())
    }

    /// Whether the node runs and was not killed. What was killed is gone some milliseconds later, which is waited for.
    fn runs_on(&self, state: &State, node: u32) -> Result<bool, String> {
        let limit = Instant::now() + GONE_LIMIT;
        while let Some(pid) = state.alive(node) {
            if !locked(&self.killed).contains(&pid) {
                return Ok(true);
            }
            locked(&self.children).retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
            if Instant::now() >= limit {
                return Err(format!(
                    "node {node} of {} still runs {} s after it was killed",
                    self.name,
                    GONE_LIMIT.as_secs()
                ));
            }
            std::thread::park_timeout(LOOK);
        }
        Ok(false)
    }

    /// In a session of its own, so that Ctrl-C here does not reach it; its output goes where it went before.
    fn spawn(&self, node: u32, program: &str) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(self.home().join(node.to_string()).join("log"))?;
        let with = |mut command: Command| {
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?).spawn()
        };
        let mut apart = Command::new("setsid");
        apart.arg(program);
        match with(apart) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut group = Command::new(program);
                std::os::unix::process::CommandExt::process_group(&mut group, 0);
                with(group)
            }
            started => started,
        }
    }

    /// Writes down a node's process, as `scripts/brokers` does: under its lock if it can be had soon, in one step.
    fn record(&self, node: u32, pid: u32) -> io::Result<()> {
        let lock = OpenOptions::new().create(true).append(true).open(self.folder.join("lock"))?;
        let limit = Instant::now() + LOCK_LIMIT;
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() && Instant::now() < limit {
            std::thread::park_timeout(LOOK);
        }
        let mut state = State::read(&self.home())?;
        state.set(&format!("node.{node}.pid"), &pid.to_string());
        state.set(&format!("node.{node}.begun"), &begun(pid).unwrap_or_default());
        state.write(&self.home())
    }
}

impl Servers for Started {
    fn act(&self, act: Act, node: FaultNode) -> Result<(), String> {
        match act {
            Act::Kill => self.signal(node, Signal::KILL),
            Act::Pause => self.signal(node, Signal::STOP),
            Act::Resume => self.signal(node, Signal::CONT),
            Act::Restart => self.start(node),
        }
    }

    fn leader(&self) -> Result<u32, String> {
        if self.nodes == 1 {
            return Ok(1);
        }
        let leader = self.leader.as_ref().ok_or_else(|| "nobody can be asked".to_owned())?;
        let address = local(&leader()?);
        let known = self.state()?.addresses();
        let at = known.iter().position(|of| *of == address);
        at.map(|at| at as u32 + 1).ok_or_else(|| format!("no node of {} is at {address}", self.name))
    }
}

fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    kill_process(pid, signal).map_err(io::Error::from)
}

/// Where `scripts/brokers` keeps what it started, unless it was told otherwise on its command line.
fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        return PathBuf::from(folder);
    }
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty()).or_else(user_name).unwrap_or_default();
    std::env::temp_dir().join(format!("brokerlab-brokers-{user}"))
}

/// As `id -un` prints it.
fn user_name() -> Option<String> {
    let output = Command::new("id").arg("-un").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// `host:port` of every host that a URL names; local names are all written alike.
fn addresses(url: &str) -> Vec<String> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let hosts = rest.split(['/', '?']).next().unwrap_or("");
    let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
    hosts.split(',').filter(|host| !host.is_empty()).map(local).collect()
}

fn local(address: &str) -> String {
    for name in ["localhost:", "[::1]:"] {
        if let Some(port) = address.strip_prefix(name) {
            return format!("127.0.0.1:{port}");
        }
    }
    address.to_owned()
}

/// A server's state file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    lines: Vec<(String, String)>,
}

impl State {
    fn read(home: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(home.join("state"))?;
        let line = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Self { lines: text.lines().filter_map(line).collect() })
    }

    /// In one step: whoever reads meanwhile sees the old or the new.
    fn write(&self, home: &Path) -> io::Result<()> {
        let new = home.join("state.new");
        let text: String = self.lines.iter().flat_map(|(key, value)| [key, "=", value, "\n"]).collect();
        let mut file = File::create(&new)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        std::fs::rename(new, home.join("state"))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.lines.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, key: &str, value: &str) {
        self.lines.retain(|(known, _)| known != key);
        self.lines.push((key.to_owned(), value.to_owned()));
    }

    fn nodes(&self) -> u32 {
        self.get("nodes").and_then(|nodes| nodes.parse().ok()).unwrap_or(1)
    }

    fn addresses(&self) -> Vec<String> {
        let of = |node| [format!("node.{node}.address"), format!("node.{node}.tls")];
        (1..=self.nodes()).flat_map(of).filter_map(|key| self.get(&key)).map(local).collect()
    }

    /// The node's process, if it is there and the very one that was recorded.
    fn alive(&self, node: u32) -> Option<Pid> {
        let pid: u32 = self.get(&format!("node.{node}.pid"))?.parse().ok()?;
        let recorded = self.get(&format!("node.{node}.begun")).filter(|begun| !begun.is_empty())?;
        (begun(pid)? == recorded).then(|| Pid::from_raw(pid.cast_signed()))?
    }
}

/// When a process started, as `scripts/brokers` writes it down; none when there is none, or only its exit code waits to be read.
fn begun(pid: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command in brackets may hold blanks: fields are counted behind it.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let dead = matches!(fields.next()?, "Z" | "X");
        return if dead { None } else { fields.nth(18).map(str::to_owned) };
    }
    let of = |what: &str| {
        let output = Command::new("ps").args(["-o", what, "-p", &pid.to_string()]).output().ok()?;
        let words: Vec<String> = String::from_utf8(output.stdout).ok()?.split_whitespace().map(str::to_owned).collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    if of("stat=")?.starts_with('Z') { None } else { of("lstart=") }
}
