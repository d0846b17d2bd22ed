//! Compressed batches against a real server: of each codec, written here and read by Kafka's own tools, and the other way round.
//!
//! Without `BROKERLAB_TEST_KAFKA` each test says so and passes. Leaves out garbage, which no server keeps; the codecs' own tests have
//! it.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a test that can not go on fails there")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use brokerlab_live::{LiveUrl, Place};
use brokerlab_model::Span;
use brokerlab_model::conformance::{Channel, Item, Session};

#[path = "rig/mod.rs"]
#[allow(dead_code, reason = "every rig here is in a place of its own")]
mod rig;

use self::rig::LiveRig;

const CODECS: [(&str, &str); 4] = [
    ("gzip", "producer.compression.type=gzip"),
    ("snappy", "producer.compression.type=snappy"),
    ("lz4", "producer.compression.type=lz4"),
    ("zstd", "producer.compression.type=zstd&producer.compression.zstd.level=1"),
];

/// A broker that uses what is there under `place`'s prefix, or makes it.
fn rig(server: &str, usual: &'static str, place: Place) -> LiveRig {
    LiveRig::within(server, usual, "", Span::from_millis(1_300), place)
}

/// The line number `n` of a codec, as it compresses well.
fn line(codec: &str, n: usize) -> String {
    format!("{codec} {n} {}", "of many words that come again ".repeat(30))
}

fn items(channel: Channel, codec: &str, count: usize) -> Vec<Item> {
    let item =
        |n| Item { channel: channel.id, key: Vec::new(), headers: Vec::new(), payload: line(codec, n).into_bytes() };
    (0..count).map(item).collect()
}

/// One of Kafka's own tools, from the jars that the server was started from.
fn tool(server: &str, class: &str, arguments: &[&str], input: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/brokers");
    let jars = Command::new(script).args(["tools", "kafka"]).output().unwrap();
    let jars = String::from_utf8(jars.stdout).unwrap();
    let jars = PathBuf::from(jars.trim().strip_prefix("kafka=").unwrap()).join("*");
    let host = &LiveUrl::parse(server).unwrap().hosts[0];
    let mut java = Command::new("java")
        .arg(concat!(
            "-Dlog4j2.configurationFile=",
            env!("CARGO_MANIFEST_DIR"),
            "/../../scripts/brokers.d/kafka-log4j2.properties"
        ))
        .arg("-cp")
        .arg(jars)
        .args([class, "--bootstrap-server", &host.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    java.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = java.wait_with_output().unwrap();
    assert!(output.status.success(), "{class}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many bytes a topic takes on the server.
fn stored(server: &str, topic: &str) -> u64 {
    let told = tool(server, "org.apache.kafka.tools.LogDirsCommand", &["--describe", "--topic-list", topic], "");
    let sizes = told.split("\"size\":").skip(1);
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<u64>().unwrap();
    sizes.map(number).sum()
}

#[test]
fn what_is_compressed_here_is_read_here_and_by_kafkas_own_consumer() {
    const COUNT: usize = 200;
    let Some(server) = rig::server("kafka", "BROKERLAB_TEST_KAFKA") else { return };
    let place = rig::place();
    let topic = format!("{}real", place.prefix);
    let mut own = rig(&server, "", place.clone());
    let mut reading = Session::open(&mut own);
    let channel = reading.create("real", 1, &["g"]);
    let mut expected: Vec<String> = Vec::new();
    for (codec, parameters) in CODECS {
        let mut rig = rig(&server, parameters, Place { existing: true, ..place.clone() });
        let mut session = Session::open(&mut rig);
        let there = session.create(&topic, 1, &["g"]);
        let producer = session.producer();
        session.published(producer, &items(there, codec, COUNT));
        session.end();
        expected.extend((0..COUNT).map(|n| line(codec, n)));
    }
    let member = reading.serving("g", channel);
    let got = reading.deliveries(member, expected.len());
    let got: Vec<String> = got.iter().map(|got| String::from_utf8(got.payload.clone()).unwrap()).collect();
    assert_eq!(got, expected);
    let count = expected.len().to_string();
    let arguments = ["--topic", &topic, "--from-beginning", "--max-messages", &count, "--timeout-ms", "30000"];
    let theirs = tool(&server, "org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments, "");
    assert_eq!(theirs.lines().collect::<Vec<_>>(), expected);
    let (bytes, plain) = (stored(&server, &topic), expected.iter().map(String::len).sum::<usize>());
    assert!(bytes > 0 && bytes < plain as u64 / 5, "{bytes} of {plain} bytes: it is compressed on the server too");
    reading.end();
}

#[test]
fn what_kafkas_own_producer_compresses_is_read_here() {
    const COUNT: usize = 300;
    let Some(server) = rig::server("kafka", "BROKERLAB_TEST_KAFKA") else { return };
    let place = rig::place();
    let topic = format!("{}real", place.prefix);
    let mut own = rig(&server, "", place);
    let mut session = Session::open(&mut own);
    let channel = session.create("real", 1, &["g"]);
    let mut expected: Vec<String> = Vec::new();
    for (codec, _) in CODECS {
        let lines: Vec<String> = (0..COUNT).map(|n| line(codec, n)).collect();
        let arguments = ["--topic", &topic, "--compression-codec", codec];
        tool(&server, "org.apache.kafka.tools.ConsoleProducer", &arguments, &(lines.join("\n") + "\n"));
        expected.extend(lines);
    }
    let bytes = stored(&server, &topic);
    assert!(bytes < expected.iter().map(String::len).sum::<usize>() as u64 / 5, "{bytes}: theirs are compressed");
    let member = session.serving("g", channel);
    let got = session.deliveries(member, expected.len());
    let got: Vec<String> = got.iter().map(|got| String::from_utf8(got.payload.clone()).unwrap()).collect();
    assert_eq!(got, expected);
    session.end();
}

/// After much that compresses well a batch may hold more than `batch.size`; what then does not compress at all must still fit.
#[test]
fn no_batch_outgrows_the_servers_limit_when_the_payload_changes() {
    let Some(server) = rig::server("kafka", "BROKERLAB_TEST_KAFKA") else { return };
    let mut own = rig(&server, "producer.compression.type=zstd&topic.max.message.bytes=20000", rig::place());
    let mut session = Session::open(&mut own);
    let channel = session.create("channel", 1, &["g"]);
    let producer = session.producer();
    session.published(producer, &items(channel, "zstd", 4_000));
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut random = items(channel, "", 200);
    for item in &mut random {
        item.payload = std::iter::repeat_with(&mut byte).take(1_000).collect();
    }
    session.published(producer, &random);
    let member = session.serving("g", channel);
    let got = session.deliveries(member, 4_200);
    assert!(got[4_000..].iter().zip(&random).all(|(got, item)| got.payload == item.payload), "byte by byte");
    session.end();
}
