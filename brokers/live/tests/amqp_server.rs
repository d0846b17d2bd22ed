//! A RabbitMQ whose own state is changed for a test: rights, an alarm, a pause. One after the other, and in a program of their own,
//! for everybody else's connections would notice.
//!
//! Needs `BROKERLAB_TEST_AMQP` and the server that `scripts/brokers up rabbitmq` started in `BROKERLAB_BROKERS_DIR`; skipped by name
//! without them. Each test leaves the server as it found it.
#![cfg(feature = "amqp")]

#[path = "rig/mod.rs"]
#[allow(dead_code, reason = "the suite's own way to a rig is not used here")]
mod rig;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use brokerlab_live::{LiveUrl, OpenError, Trouble, examine, open};
use brokerlab_model::conformance::{Session, numbered};
use brokerlab_model::{Contract, Event, Span, Status};

use rig::LiveRig;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A server that `scripts/brokers` started, to this test alone.
#[derive(Debug)]
struct Server {
    url: String,
    start: PathBuf,
    pid: String,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    #[allow(clippy::print_stdout, reason = "a test says by name that it was skipped")]
    fn get() -> Option<Self> {
        let url = rig::server("amqp", "BROKERLAB_TEST_AMQP")?;
        let folder = std::env::var("BROKERLAB_BROKERS_DIR").unwrap_or_default();
        let state = std::fs::read_to_string(Path::new(&folder).join("rabbitmq/state")).unwrap_or_default();
        let key = |key: &str| state.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        if key("url") != Some(&url) {
            println!("skipped: the server at BROKERLAB_TEST_AMQP is not that of BROKERLAB_BROKERS_DIR");
            return None;
        }
        let (start, pid) = (PathBuf::from(key("node.1.start")?), key("node.1.pid")?.to_owned());
        Some(Self { url, start, pid, _alone: ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner) })
    }

    /// Runs `rabbitmqctl` as the node's own start script would, and gives what it prints.
    fn control(&self, arguments: &[&str]) -> String {
        let start = std::fs::read_to_string(&self.start).expect("the node's start script");
        let (exports, rest) = start.split_once("unset").expect("exports stand before it");
        let program = Path::new(rest.rsplit('"').nth(1).expect("the program's path")).with_file_name("rabbitmqctl");
        let script = format!("{exports}\nexec {} -q \"$@\"", program.display());
        let output = Command::new("sh").args(["-c", &script, "rabbitmqctl"]).args(arguments).output().expect("sh runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid]).status().expect("kill runs").success());
    }

    fn rig(&self) -> LiveRig {
        LiveRig::at(&self.url, "queue=quorum", "confirms=4", Span::from_millis(150))
    }

    /// That nothing of a run is there.
    fn is_clean(&self) -> bool {
        let all = ["list_queues", "list_exchanges"].map(|what| self.control(&[what, "name"]));
        !all.iter().any(|names| names.contains("brokerlab-test-"))
    }
}

/// Undoes what a test did to the server, also when it fails.
#[derive(Debug)]
struct Undo<'a>(&'a Server, &'a [&'a str]);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let [signal] = self.1 {
            self.0.signal(signal);
        } else {
            drop(self.0.control(self.1));
        }
    }
}

#[test]
fn a_wrong_password_and_each_missing_right_are_named() {
    let Some(server) = Server::get() else { return };
    let folder = std::env::temp_dir().join(format!("brokerlab-test-{}", std::process::id()));
    std::fs::write(&folder, "right").expect("a temporary file");
    let user = "brokerlab-test-user";
    drop(server.control(&["add_user", user, "right"]));
    let undo = Undo(&server, &["delete_user", user]);
    let of = |file: &str| {
        let url = server.url.replace("amqp://", &format!("amqp://{user}@"));
        let url = LiveUrl::parse(&format!("{url}?queue=quorum&password-file={file}")).expect("a URL");
        match open(&url, Contract::default(), &rig::place()) {
            Err(OpenError::Trouble { trouble, .. }) => Some(trouble),
            Ok(_) => None,
            Err(other) => panic!("{other}"),
        }
    };
    let right = folder.display().to_string();
    for rights in [["", ".*", ".*"], [".*", "", ".*"], [".*", ".*", ""]] {
        drop(server.control(&[&["set_permissions", user][..], &rights].concat()));
        let found = of(&right);
        assert!(matches!(found, Some(Trouble::Permission(_))), "{rights:?}: {found:?}");
    }
    drop(server.control(&["set_permissions", user, ".*", ".*", ".*"]));
    assert_eq!(of(&right).map(|trouble| trouble.to_string()), None);
    std::fs::write(&folder, "wrong").expect("a temporary file");
    assert!(matches!(of(&right), Some(Trouble::Login(_))));
    std::fs::remove_file(&folder).expect("it is there");
    drop(undo);
    assert!(server.is_clean());
}

#[test]
fn an_alarm_blocks_producers_and_its_end_lets_them_go_on() {
    let Some(server) = Server::get() else { return };
    let mut rig = server.rig();
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let member = session.serving("g", channel);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..5));
    drop(server.control(&["set_vm_memory_high_watermark", "0.00001"]));
    let undo = Undo(&server, &["set_vm_memory_high_watermark", "absolute", "2GB"]);
    // The server looks at its memory now and then, and says so to whoever publishes after that.
    let alarmed = || server.control(&["eval", "rabbit_alarm:get_alarms()."]).contains("memory");
    assert!((0..60).any(|_| alarmed()), "no alarm in sixty questions, about one a second");
    let tokens = session.publish(producer, &numbered(channel, 5..6));
    session.until("the alarm to be told", |s| s.events(producer).contains(&Event::Blocked));
    session.idle();
    assert!(!session.is_ended(producer, tokens[0]), "it waits in the server's socket");
    drop(undo);
    session.until("the end of the alarm", |s| s.events(producer).contains(&Event::Unblocked));
    assert_eq!(session.outcomes(producer, &tokens)[0].status, Status::Done);
    session.deliveries(member, 6);
    session.end();
    drop(rig);
    assert!(server.is_clean());
}

#[test]
fn a_server_that_stops_answering_is_silent_within_the_limit_and_used_again_afterwards() {
    let Some(server) = Server::get() else { return };
    let url = LiveUrl::parse(&server.url).expect("a URL");
    server.signal("-STOP");
    let undo = Undo(&server, &["-CONT"]);
    match examine(&url, Contract::default()) {
        Err(OpenError::Trouble { trouble: Trouble::Silent { seconds: 10, .. }, .. }) => (),
        other => panic!("{other:?}"),
    }
    drop(undo);
    examine(&url, Contract::default()).expect("it goes on");
    let mut rig = server.rig();
    let mut session = Session::open(&mut rig);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.published(producer, &numbered(channel, 0..3));
    session.end();
    drop(rig);
    assert!(server.is_clean());
}
