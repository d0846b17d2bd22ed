//! Figure `live`: real brokers, this program beside the vendors' own tools on the same servers in one run.
//!
//! Starts and stops its servers through `scripts/brokers`, drives ours by the program `brokerlab` and theirs by `java`. Leaves out
//! the other figures, which need no server.

mod faults;
mod oracle;
mod ours;
mod parse;
mod process;
mod rates;
mod segments;
mod servers;
mod theirs;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use brokerlab_host::{Clock as _, WallClock};

use self::ours::{Load, Program};
use self::servers::Brokers;
use crate::table::{Figure, Row};

/// The whole figure ends within this; what has not begun by then is named as not run.
const LIMIT_S: f64 = 55.0 * 60.0;

/// How long a server is loaded before its first row, beside the load's own warm-up.
const WARM_SERVER_S: u32 = 17;

/// What one side did in its warm window.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    /// Messages per second.
    rate: f64,
    /// CPU per message in microseconds, of the whole client process.
    cpu_us: f64,
}

/// A row: its name, roughly how long it takes in seconds, and how it is taken.
struct Case {
    name: &'static str,
    takes_s: f64,
    take: fn(&mut Lab) -> anyhow::Result<Row>,
}

const fn case(name: &'static str, takes_s: f64, take: fn(&mut Lab) -> anyhow::Result<Row>) -> Case {
    Case { name, takes_s, take }
}

/// Every row in the order in which it is taken: by server, so that each is started once.
const CASES: [Case; 20] = [
    case("kafka-publish-1k-256k", 175.0, |lab| rates::kafka_publish(lab, 1_024, Some(262_144))),
    case("kafka-publish-100b-256k", 175.0, |lab| rates::kafka_publish(lab, 100, Some(262_144))),
    case("kafka-publish-1k-16k", 175.0, |lab| rates::kafka_publish(lab, 1_024, Some(16_384))),
    case("kafka-publish-100b-16k", 175.0, |lab| rates::kafka_publish(lab, 100, Some(16_384))),
    case("kafka-publish-1k-defaults", 105.0, |lab| rates::kafka_publish(lab, 1_024, None)),
    case("kafka-publish-100b-defaults", 105.0, |lab| rates::kafka_publish(lab, 100, None)),
    case("kafka-consume-1k", 260.0, |lab| rates::kafka_consume(lab, 1_024)),
    case("kafka-consume-100b", 260.0, |lab| rates::kafka_consume(lab, 100)),
    case("kafka-fixed", 180.0, rates::kafka_fixed),
    case("lateness", 75.0, rates::lateness),
    case("stall", 75.0, |lab| faults::stall(lab, 32)),
    case("stall-small-buffer", 75.0, |lab| faults::stall(lab, 2)),
    case("overload", 30.0, faults::overload),
    case("kill", 90.0, faults::kill),
    case("rabbitmq-quorum-1k", 250.0, |lab| rates::rabbitmq(lab, "quorum", 1_024)),
    case("rabbitmq-quorum-100b", 250.0, |lab| rates::rabbitmq(lab, "quorum", 100)),
    case("rabbitmq-classic-1k", 250.0, |lab| rates::rabbitmq(lab, "classic", 1_024)),
    case("rabbitmq-classic-100b", 250.0, |lab| rates::rabbitmq(lab, "classic", 100)),
    case("leader-kafka3", 120.0, |lab| faults::leader(lab, "kafka3")),
    case("leader-rabbitmq3", 120.0, |lab| faults::leader(lab, "rabbitmq3")),
];

/// What every row works with.
struct Lab {
    brokers: Brokers,
    program: Program,
    repetitions: usize,
    /// The only server that runs, with its URL.
    running: Option<(String, String)>,
}

impl Lab {
    /// The URL of a server; any other is stopped first, for an idle broker takes its share too.
    fn server(&mut self, name: &str) -> anyhow::Result<String> {
        if let Some((running, url)) = &self.running {
            if running == name {
                return Ok(url.clone());
            }
            let other = running.clone();
            self.stop(&other)?;
        }
        let url = self.brokers.up(name)?;
        self.running = Some((name.to_owned(), url.clone()));
        if name == "kafka" || name == "rabbitmq" {
            self.warm(&url)?;
        }
        Ok(url)
    }

    /// Loads a server that has just been started with all that it takes, so that no row finds its virtual machine still compiling: a
    /// cold Kafka was behind at 50,000/s for 3 s, a warm one never. A cluster's rows ask too little of it for that to matter.
    fn warm(&self, url: &str) -> anyhow::Result<()> {
        let mut load = Load::new(rates::FLAT_OUT, 1_024);
        load.window_s = WARM_SERVER_S;
        self.program.run(&load, url, |_| Ok(())).map(drop)
    }

    /// Stops a server, also one that was killed.
    fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        self.running = None;
        self.brokers.down(name)
    }

    fn tools(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.brokers.tools(name)
    }

    fn delete_queue(&self, name: &str, queue: &str) -> anyhow::Result<()> {
        self.management(name, "DELETE", &format!("queues/%2F/{queue}")).map(drop)
    }

    /// What RabbitMQ's management answers; its port is as far above the first node's as `scripts/brokers` says.
    fn management(&self, name: &str, method: &str, path: &str) -> anyhow::Result<String> {
        let address = self.brokers.state(name, "node.1.address")?;
        let port: u16 =
            address.rsplit(':').next().and_then(|port| port.parse().ok()).context("an address has a port")?;
        let port = port + if name == "rabbitmq3" { 100 } else { 1 };
        let mut stream = TcpStream::connect(("127.0.0.1", port)).context("RabbitMQ's management does not answer")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        // guest:guest, the password of every new node.
        write!(
            stream,
            "{method} /api/{path} HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Length: 0\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("RabbitMQ's management does not answer")?;
        let status = answer.lines().next().unwrap_or_default();
        anyhow::ensure!(
            status.split(' ').nth(1).is_some_and(|code| code.starts_with('2')),
            "{method} {path}: {status}"
        );
        Ok(answer)
    }
}

/// Takes the rows named, or all. Every finished row is written to standard error at once, so that a later failure loses nothing.
pub fn figure(names: &[String], repetitions: usize) -> anyhow::Result<Figure> {
    let chosen = choose(names)?;
    let brokers = Brokers::new()?;
    let program = Program::beside(brokers.folder())?;
    let mut lab = Lab { brokers, program, repetitions, running: None };
    let clock = WallClock::new();
    let (mut rows, mut remarks) = (Vec::new(), Vec::new());
    for case in chosen {
        let so_far = clock.now().0 as f64 / 1e9;
        if so_far + case.takes_s > LIMIT_S {
            remarks.push(format!("not run, for it would not end within 55 minutes: {}", case.name));
            continue;
        }
        match (case.take)(&mut lab) {
            Ok(row) => {
                progress(&format!("{}: {} | {} | {} | {}\n", case.name, row.what, row.found, row.reference, row.ratio));
                rows.push(row);
            }
            Err(error) => {
                progress(&format!("{}: {error:#}\n", case.name));
                rows.push(failed(case.name, &error));
                // What a broken row left behind is not the next one's.
                if let Some((name, _)) = lab.running.clone() {
                    lab.stop(&name)?;
                }
            }
        }
    }
    remarks.push(format!(
        "CPU is the client's per message: ours of the whole process (generator, recorder and checker included), theirs of the Java \
         process in its warm seconds. Both clients ran with the broker on these cores. The whole took {:.0} min.",
        clock.now().0 as f64 / 6e10
    ));
    Ok(Figure {
        name: "live",
        title: format!(
            "Real brokers, started by scripts/brokers; both sides by turns on the same server, medians of {repetitions} with their range \
             (defaults: of {}), 10 s after warm-up; fault and overload rows once. Ratio: of the rates, at that of CPU per message.",
            repetitions.min(3)
        ),
        rows,
        remarks,
    })
}

fn failed(name: &str, error: &anyhow::Error) -> Row {
    let dash = || "–".to_owned();
    Row {
        what: name.to_owned(),
        found: format!("could not be taken: {error:#}").replace('\n', " "),
        reference: dash(),
        ratio: dash(),
        goal: dash(),
        met: Some(false),
    }
}

fn progress(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The rows of these names, or all without names.
fn choose(names: &[String]) -> anyhow::Result<Vec<&'static Case>> {
    if names.is_empty() {
        return Ok(CASES.iter().collect());
    }
    let one = |name: &String| {
        let known = || CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
        CASES.iter().find(|case| case.name == name).with_context(|| format!("no row `{name}`; there are {}", known()))
    };
    names.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_and_a_wrong_name_lists_them() {
        assert_eq!(choose(&[]).unwrap().len(), CASES.len());
        let chosen = choose(&["kill".to_owned(), "stall".to_owned()]).unwrap();
        assert_eq!(chosen.iter().map(|case| case.name).collect::<Vec<_>>(), ["kill", "stall"]);
        let Err(error) = choose(&["stal".to_owned()]) else { panic!("there is no such row") };
        assert!(error.to_string().contains("kafka-publish-1k-256k"));
    }

    #[test]
    fn all_rows_fit_into_the_limit() {
        let whole: f64 = CASES.iter().map(|case| case.takes_s).sum();
        assert!(whole <= LIMIT_S, "{whole} s");
    }
}
