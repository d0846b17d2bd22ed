//! A password from the environment or a file: used, and nowhere to be seen.

use std::io::Read as _;
use std::process::{Command, Stdio};

use super::{Servers, http};
use crate::lab::{BINARY, Lab};

const USER: &str = "brokerlab-with-a-password";
const SECRET: &str = "xyzzy-4f9a-never-shown";

/// A user of RabbitMQ, removed when dropped.
struct User(String);

impl User {
    fn new(management: String) -> Self {
        http(
            &management,
            "PUT",
            &format!("/api/users/{USER}"),
            &format!("{{\"password\":\"{SECRET}\",\"tags\":\"\"}}"),
        );
        let all = "{\"configure\":\".*\",\"write\":\".*\",\"read\":\".*\"}";
        http(&management, "PUT", &format!("/api/permissions/%2F/{USER}"), all);
        Self(management)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        http(&self.0, "DELETE", &format!("/api/users/{USER}"), "");
    }
}

/// Command lines of a process and of those that it started, as everybody on the machine sees them.
fn command_lines(of: u32) -> String {
    let mut all = String::new();
    let processes = std::fs::read_dir("/proc").expect("a list of processes");
    for pid in processes.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok()) {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        if pid == of || parent == Some(of) {
            all += &String::from_utf8_lossy(&read("cmdline"));
        }
    }
    all
}

/// Runs with the password in `variable` or in a file that the URL names; gives all that can be seen of it.
fn seen(lab: &Lab, url: &str, variable: Option<&str>) -> String {
    let mut command = Command::new(BINARY);
    command.args(["run", "--backend", url, "--duration", "1s", "--rate", "500/s", "--no-warm-up", "--out", "out"]);
    command.current_dir(lab.path(".")).env("TMPDIR", lab.path(".")).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(name) = variable {
        command.env(name, SECRET);
    }
    let mut child = command.spawn().expect("the binary starts");
    let mut shown = String::new();
    let mut visited = false;
    while child.try_wait().expect("its state").is_none() {
        let lines = command_lines(child.id());
        visited |= lines.contains("\0visit\0");
        shown += &lines;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(visited, "no visit was seen among the processes: {shown}");
    child.stdout.take().expect("a pipe").read_to_string(&mut shown).expect("text");
    child.stderr.take().expect("a pipe").read_to_string(&mut shown).expect("text");
    let cell = lab.cell();
    assert!(cell["counts"]["acknowledged"].as_u64().is_some_and(|count| count > 0), "{shown}");
    shown + &lab.text("out/results.json") + &lab.text("out/report.html")
}

#[test]
fn a_password_is_in_no_result_page_output_or_process_title() {
    let Some(servers) = Servers::find() else { return };
    let _user = User::new(servers.management());
    let url = servers.amqp.replace("amqp://", &format!("amqp://{USER}@"));
    let lab = Lab::new();
    lab.write("password", &format!("{SECRET}\n"));
    let with_file = format!("{url}?password-file={}", lab.path("password").display());
    for (url, variable) in
        [(&url, Some("BROKERLAB_PASSWORD")), (&format!("{url}?password-env=OTHER"), Some("OTHER")), (&with_file, None)]
    {
        let shown = seen(&lab, url, variable);
        assert!(shown.contains(USER), "the user is told");
        assert!(!shown.contains(SECRET), "{url}");
    }
    servers.are_clean();
}

#[test]
fn a_wrong_password_is_a_refused_login_and_is_not_repeated() {
    let Some(servers) = Servers::find() else { return };
    let url = servers.amqp.replace("amqp://", "amqp://guest@");
    let lab = Lab::new();
    let args = ["run", "--backend", url.as_str(), "--quiet", "--out", "out"];
    let ended = lab.within(60, &args, &[("BROKERLAB_PASSWORD", SECRET)]);
    ended.fails(1, &["refuses the login", "BROKERLAB_PASSWORD"]);
    assert!(!ended.err.contains(SECRET) && ended.out.is_empty(), "{ended:?}");
    assert_eq!(lab.names("out"), [""; 0]);
    servers.are_clean();
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    for url in [format!("kafka://me:{SECRET}@127.0.0.1:1"), format!("amqp://127.0.0.1:1?password={SECRET}")] {
        let lab = Lab::new();
        let ended = lab.run(&url, &[]);
        ended.fails(2, &["a password may not stand in it", "BROKERLAB_PASSWORD", "password-file"]);
        assert!(!ended.err.contains(SECRET) && ended.out.is_empty(), "{ended:?}");
        assert_eq!(lab.names("."), [""; 0]);
    }
}
