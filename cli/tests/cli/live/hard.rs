//! Servers that can't be used, and what they can't do: one message that names the remedy, the exit code, an end within a minute, and
//! nothing left behind.

use std::net::TcpListener;

use super::{Servers, address};
use crate::lab::{Ended, Lab};

/// More than any of the waits that the drivers state, and less than a hang.
const SECONDS: u64 = 60;

fn run(lab: &Lab, url: &str, more: &[&str]) -> Ended {
    let mut args = vec!["run", "--backend", url, "--duration", "200ms", "--no-warm-up", "--quiet", "--out", "out"];
    args.extend(more);
    lab.within(SECONDS, &args, &[])
}

/// Asserts the exit code, one message with these words, and no result.
fn refused(url: &str, more: &[&str], code: i32, words: &[&str]) {
    let lab = Lab::new();
    let ended = run(&lab, url, more);
    ended.fails(code, words);
    assert_eq!(ended.err.lines().count(), 1, "{url}: {}", ended.err);
    assert_eq!(ended.out, "", "{url}");
    assert_eq!(lab.names("out"), [""; 0], "{url}");
}

#[test]
fn a_host_without_an_address_and_a_port_where_nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
    for scheme in ["kafka", "amqp"] {
        refused(&format!("{scheme}://no-such-host.invalid"), &[], 1, &["no-such-host.invalid", "check the host"]);
        let nobody = format!("{scheme}://{free}");
        refused(&nobody, &[], 1, &[&nobody, "can't connect", "is it up, and is the port right?"]);
    }
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_not_waited_for_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("it is bound");
    // The system itself accepts; nobody ever reads.
    std::thread::scope(|scope| {
        for scheme in ["kafka", "amqp"] {
            let words = ["no answer to", "within 10 s", "is this the right protocol and port?"];
            scope.spawn(move || refused(&format!("{scheme}://{address}"), &[], 1, &words));
        }
    });
}

#[test]
fn settings_that_no_client_has_and_users_who_could_not_log_in() {
    let words = ["`producer.linger` is no parameter of kafka", "producer.linger.ms"];
    refused("kafka://127.0.0.1:1?producer.linger=5", &[], 2, &words);
    refused("amqp://127.0.0.1:1?prefech=5", &[], 2, &["`prefech` is no parameter of rabbitmq", "prefetch"]);
    refused("kafka://me@127.0.0.1:1", &[], 2, &["the user `me`", "?sasl=plain"]);
}

#[test]
fn a_server_of_another_protocol_is_named() {
    let Some(servers) = Servers::find() else { return };
    let words = |protocol| ["does not speak", protocol, "check scheme and port"];
    let management = servers.management();
    for (url, protocol) in [
        (format!("amqp://{}", address(&servers.kafka)), "AMQP 0-9-1"),
        (format!("kafka://{}", address(&servers.amqp)), "Kafka (it begins with `AMQP"),
        (format!("kafka://{management}"), "Kafka (it begins with `HTTP/1.1 400"),
        (format!("amqp://{management}"), "AMQP 0-9-1"),
    ] {
        refused(&url, &[], 1, &words(protocol));
    }
    servers.are_clean();
}

#[test]
fn what_a_server_can_t_do_is_refused_before_anything_is_made() {
    let Some(servers) = Servers::find() else { return };
    let three = ["--contract", "copies=3"];
    refused(
        &servers.kafka,
        &three,
        2,
        &["no backend keeps the contract", "copies 3", "add brokers, or ask for fewer copies"],
    );
    let quorum = format!("{}?queue=quorum", servers.amqp);
    refused(&quorum, &three, 2, &["no backend keeps the contract", "copies 3", "list every node in the URL"]);
    refused(
        &servers.kafka,
        &["--size", "2MiB"],
        2,
        &["sizes up to 2 MiB", "lower --size, or raise the server's limit"],
    );
    servers.are_clean();
}

#[test]
fn less_than_was_asked_is_run_only_where_that_is_accepted_and_never_said_to_be_kept() {
    let Some(servers) = Servers::find() else { return };
    for url in [servers.kafka.clone(), format!("{}?queue=quorum", servers.amqp)] {
        let lab = Lab::new();
        let more = ["--contract", "copies=3", "--accept-weaker", "--rate", "500/s"];
        let ended = run(&lab, &url, &more);
        ended.measured();
        assert!(ended.out.contains("weaker than asked"), "{}", ended.out);
        assert!(ended.out.contains("keeps less than was asked (weaker than asked: copies 3: "), "{}", ended.out);
        let cell = lab.cell();
        assert_eq!(
            (cell["live"]["missing"][0]["axis"].as_str(), &cell["live"]["kept"]["copies"]),
            (Some("copies"), &1.into())
        );
    }
    servers.are_clean();
}

#[test]
fn channels_that_are_not_there_are_not_made_where_existing_ones_are_asked() {
    let Some(servers) = Servers::find() else { return };
    for url in [&servers.kafka, &servers.amqp] {
        let lab = Lab::new();
        let ended = run(&lab, url, &["--existing"]);
        ended.fails(1, &["--existing", "(orders)", "make them, or leave it out"]);
        assert_eq!(lab.names("out"), [""; 0]);
    }
    servers.are_clean();
}
