//! Acting on servers as `scripts/brokers` leaves them behind: here programs that only sleep, with a state file of their own.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use brokerlab_host::Servers as _;
use brokerlab_host::started::{Leader, Started, StartedError};
use brokerlab_model::Span;
use brokerlab_workloads::measurement::Act;
use brokerlab_workloads::profile::{Fault, FaultAction, FaultNode};

/// Two nodes that sleep, as the script would have recorded them; ended when dropped.
struct Sleepers {
    folder: tempfile::TempDir,
    nodes: Vec<Child>,
}

const URL: &str = "kafka://127.0.0.1:7,localhost:9?acks=all";

impl Sleepers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("pair");
        let mut state = "name=pair\nnodes=2\nby=process\n".to_owned();
        let mut nodes = Vec::new();
        for (node, port) in [(1, 7), (2, 9)] {
            std::fs::create_dir_all(home.join(node.to_string())).unwrap();
            let program = home.join(node.to_string()).join("start");
            std::fs::write(&program, "#!/bin/sh\necho up\nexec sleep 1000\n").unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let child = Command::new("sleep").arg("1000").spawn().unwrap();
            let (pid, begun) = (child.id(), stat(child.id()).unwrap().1);
            state +=
                &format!("node.{node}.address=127.0.0.1:{port}\nnode.{node}.pid={pid}\nnode.{node}.begun={begun}\n");
            state += &format!("node.{node}.start={}\n", program.display());
            nodes.push(child);
        }
        std::fs::write(home.join("state"), state).unwrap();
        Self { folder, nodes }
    }

    fn started(&self, faults: &[Fault]) -> Result<Started, StartedError> {
        Started::find_in(self.folder.path(), URL, faults)
    }

    /// Changes the state file.
    fn edit(&self, from: &str, to: &str) {
        let path = self.folder.path().join("pair/state");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        if let Ok(text) = std::fs::read_to_string(self.folder.path().join("pair/state")) {
            let pids = text.lines().filter_map(|line| line.split_once(".pid=")).filter_map(|(_, pid)| pid.parse().ok());
            for pid in pids.filter_map(|pid: i32| rustix::process::Pid::from_raw(pid)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// A process's state and start; none when it is gone.
fn stat(pid: u32) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    Some((fields[0].to_owned(), fields[19].to_owned()))
}

/// Waits until the process is in one of these states.
fn becomes(pid: u32, states: &str) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !stat(pid).map_or(states.contains('-'), |(state, _)| states.contains(&state)) {
        assert!(Instant::now() < limit, "{:?} is not one of {states}", stat(pid));
        std::thread::yield_now();
    }
}

fn fault(action: FaultAction, node: FaultNode, length: Option<Span>) -> Fault {
    Fault { at: Span::ZERO, action, node, length }
}

#[test]
fn a_server_is_found_by_the_addresses_that_its_url_names_and_every_other_is_refused() {
    let sleepers = Sleepers::new();
    let folder = sleepers.folder.path();
    std::fs::create_dir_all(folder.join("empty")).unwrap();
    let pids: Vec<u32> = sleepers.nodes.iter().map(Child::id).collect();
    assert_eq!(sleepers.started(&[]).unwrap().processes(), pids);
    assert!(Started::find_in(folder, "amqp://guest@127.0.0.1:9/vhost", &[]).is_ok());
    for url in ["kafka://127.0.0.1:8", "kafka://127.0.0.1:7,127.0.0.1:8", "kafka://", "log"] {
        let error = Started::find_in(folder, url, &[]).unwrap_err();
        assert!(matches!(error, StartedError::Unknown { .. }), "{url}: {error}");
        assert!(error.to_string().contains("act on servers that scripts/brokers started"), "{error}");
    }
    let nowhere = Started::find_in(Path::new("/nonexistent"), URL, &[]).unwrap_err();
    assert!(nowhere.to_string().contains("/nonexistent"), "{nowhere}");
    let third = fault(FaultAction::Kill, FaultNode::Number(3), None);
    assert_eq!(
        sleepers.started(&[third]).unwrap_err().to_string(),
        "[[faults]] name node 3, and pair has nodes 1 to 2"
    );
    sleepers.edit("by=process", "by=docker");
    assert!(matches!(sleepers.started(&[]), Err(StartedError::Container(_))));
}

#[test]
fn the_leader_is_the_node_at_the_address_that_the_servers_tell() {
    let sleepers = Sleepers::new();
    let led = |address: &'static str| {
        let leader: Leader = Box::new(move || Ok(address.to_owned()));
        sleepers.started(&[]).unwrap().led_by(Some(leader)).leader()
    };
    assert_eq!((led("localhost:9"), led("127.0.0.1:7")), (Ok(2), Ok(1)));
    assert_eq!(led("127.0.0.1:8").unwrap_err(), "no node of pair is at 127.0.0.1:8");
    assert_eq!(sleepers.started(&[]).unwrap().leader().unwrap_err(), "nobody can be asked");
}

#[test]
fn a_node_is_paused_and_resumed_and_the_other_is_not() {
    let sleepers = Sleepers::new();
    let started = sleepers.started(&[]).unwrap();
    let [first, second] = [0, 1].map(|n: usize| sleepers.nodes[n].id());
    started.act(Act::Pause, FaultNode::Number(2)).unwrap();
    becomes(second, "T");
    becomes(first, "SR");
    started.act(Act::Resume, FaultNode::Number(2)).unwrap();
    becomes(second, "SR");
    // What another process left paused.
    started.act(Act::Pause, FaultNode::All).unwrap();
    becomes(first, "T");
    started.restore(&[fault(FaultAction::Pause, FaultNode::All, Some(Span(1)))]).unwrap();
    becomes(first, "SR");
    becomes(second, "SR");
}

#[test]
fn a_node_that_was_killed_is_started_again_and_written_down() {
    let mut sleepers = Sleepers::new();
    let started = sleepers.started(&[]).unwrap();
    let old = sleepers.nodes[0].id();
    started.act(Act::Kill, FaultNode::Number(1)).unwrap();
    becomes(old, "Z");
    sleepers.nodes[0].wait().unwrap();
    let again = started.act(Act::Kill, FaultNode::Number(1)).unwrap_err();
    assert_eq!(again, "node 1 of pair does not run");
    let down = sleepers.started(&[]).unwrap_err();
    assert!(matches!(down, StartedError::Down { node: 1, .. }), "{down}");
    started.act(Act::Restart, FaultNode::Number(1)).unwrap();
    // Whoever reads the state file anew finds the new process, and kills that one next.
    let new = sleepers.started(&[]).unwrap().processes()[0];
    assert_ne!(new, old);
    becomes(new, "SR");
    let log = sleepers.folder.path().join("pair/1/log");
    let limit = Instant::now() + Duration::from_secs(20);
    while std::fs::read_to_string(&log).unwrap() != "up\n" {
        assert!(Instant::now() < limit);
        std::thread::yield_now();
    }
    started.act(Act::Kill, FaultNode::Number(1)).unwrap();
    // At once: it waits until the killed one is gone.
    started.restore(&[fault(FaultAction::Kill, FaultNode::All, Some(Span(1)))]).unwrap();
    becomes(new, "Z-");
    assert_ne!(sleepers.started(&[]).unwrap().processes()[0], new);
    // What was to stay down stays down.
    started.act(Act::Kill, FaultNode::Number(2)).unwrap();
    sleepers.nodes[1].wait().unwrap();
    started.restore(&[fault(FaultAction::Kill, FaultNode::All, None)]).unwrap();
    assert_eq!(started.processes().len(), 1);
}

#[test]
fn a_process_that_took_over_the_number_of_another_is_left_alone() {
    let sleepers = Sleepers::new();
    let pid = sleepers.nodes[0].id();
    let begun = stat(pid).unwrap().1;
    let started = sleepers.started(&[]).unwrap();
    sleepers.edit(&format!("node.1.begun={begun}"), "node.1.begun=1");
    for act in [Act::Pause, Act::Kill] {
        assert_eq!(started.act(act, FaultNode::Number(1)).unwrap_err(), "node 1 of pair does not run");
    }
    becomes(pid, "SR");
}
