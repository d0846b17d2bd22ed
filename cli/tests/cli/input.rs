//! Input that is wrong: one message that names what, where and the remedy, exit code 2, and a good file of before as it was.

use crate::lab::Lab;

const BEFORE: &str = "a good file of before";

/// Runs `log` with these flags; asserts exit code 2, the words, and that nothing was written.
fn refused(flags: &[&str], words: &[&str]) {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("out")).expect("a folder");
    lab.write("out/results.json", BEFORE);
    lab.write("out/report.html", BEFORE);
    let ended = lab.run("log", flags);
    ended.fails(2, words);
    assert_eq!(ended.out, "", "{flags:?}");
    assert_eq!(lab.names("out"), ["report.html", "results.json"], "{flags:?}");
    assert_eq!((lab.text("out/results.json").as_str(), lab.text("out/report.html").as_str()), (BEFORE, BEFORE));
    assert_eq!(lab.names("."), ["out"], "{flags:?}: data were left");
}

#[test]
fn a_profile_that_is_missing() {
    refused(&["--profile", "nope"], &["nope", "cannot be read", "order-processing, iot-telemetry"]);
    refused(&["--profile", "nope.toml"], &["nope.toml", "cannot be read", "Name a readable TOML file"]);
}

#[test]
fn a_unit_that_does_not_fit() {
    refused(&["--rate", "20q/s"], &["arrivals.rate", "`20q/s` is not a rate", "^^^^^", "20k/s"]);
    refused(&["--duration", "50xs"], &["duration", "`50xs` is not a length of time", "^^^^", "250ms"]);
    refused(&["--size", "5s"], &["sizes", "`5s` is not a size", "^^", "512B"]);
    refused(&["--work", "3B"], &["work", "`3B`", "^^"]);
}

#[test]
fn a_mean_rate_of_zero_and_a_size_below_the_stamp() {
    refused(&["--rate", "0/s"], &["arrivals.rate", "the mean rate is zero", "more than 0/s"]);
    refused(&["--size", "10B"], &["sizes", "10B is below the 32-byte stamp", "at least \"32B\""]);
}

#[test]
fn an_override_of_what_is_no_field() {
    refused(&["--set", "prodcers=3"], &["unknown key `prodcers`", "did you mean `producers`?"]);
    refused(&["--set", "nope.field=3"], &["unknown key `nope`", "known here: name, about, contract"]);
    refused(&["--set", "producers"], &["there is no `=`", "--set path.to.field=value"]);
    refused(&["--set", "faults=1"], &["faults"]);
}

#[test]
fn a_contract_that_nobody_keeps_or_that_is_none() {
    refused(
        &["--contract", "exactly-once,copies=3"],
        &["no backend keeps the contract exactly-once", "log can't keep", "brokerlab backends"],
    );
    refused(&["--contract", "copies=3"], &["no backend keeps the contract", "copies 3"]);
    refused(&["--contract", "gladly"], &["`gladly` is no part of a contract", "^^^^^^"]);
}

#[test]
fn threads_that_can_t_be() {
    refused(&["--threads", "0"], &["--threads 0", "at least one loop"]);
    refused(&["--threads", "4000"], &["--threads 4000", "this machine has", "at most"]);
}

#[test]
fn a_hop_that_is_none() {
    refused(&["--transport", "pigeon"], &["pigeon", "in-process", "loopback"]);
    let lab = Lab::new();
    lab.run("log?transport=pigeon", &[]).fails(2, &["`transport=pigeon`", "write in-process or loopback"]);
}

#[test]
fn nothing_weaker_to_accept() {
    refused(&["--accept-weaker"], &["--accept-weaker", "nothing weaker to accept"]);
}

#[test]
fn what_does_not_fit_the_backend_s_bounds() {
    refused(&["--size", "2MiB"], &["sizes up to 2 MiB", "log's max_message", "lower --size", "log?max_message="]);
    refused(&["--lanes", "200000"], &["200000 lanes", "at most 131072", "--lanes"]);
    let lab = Lab::new();
    lab.run("log?max_memory=1KiB", &[]).fails(2, &["max_memory of 1 KiB", "max_memory=1MiB or more"]);
    lab.run("log?max_data=64KiB", &[]).fails(2, &["max_data of 64 KiB", "max_data=2MiB or more"]);
}

#[test]
fn a_fault_of_a_short_form_names_the_flag_that_was_typed() {
    refused(&["--rate", "20q/s"], &["--rate:1:8: ", "1 | --rate 20q/s"]);
    refused(&["--lanes", "0"], &["--lanes:1:9: ", "0 is not between 1 and"]);
    refused(&["--consumers", "0"], &["--consumers:1:13: ", "groups.0.members"]);
    refused(&["--set", "arrivals.rate=20q/s"], &["--set arrivals.rate:1:15: "]);
    refused(&["--set", "lanes=-1"], &["the number -1 stands where a whole number from 0 to 4294967295 is needed"]);
}

#[test]
fn a_digest_of_no_messages_or_by_no_threads() {
    let digest = |flag| Lab::new().brokerlab(&["profiles", "digest", "order-processing", flag, "0"]);
    digest("--messages").fails(2, &["--messages"]);
    digest("--threads").fails(2, &["--threads"]);
}

#[test]
fn a_backend_or_parameter_that_is_unknown() {
    let lab = Lab::new();
    lab.run("logg", &[]).fails(2, &["no embedded backend `logg`", "did you mean `log`?"]);
    lab.run("log?partitons=8", &[]).fails(2, &["no parameter `partitons`", "did you mean `partitions`?"]);
    lab.run("log?partitions=many", &[]).fails(2, &["`partitions=many`", "whole number"]);
    let others = "direct can't keep the contract at-least-once, order none, page-cache, 1 copy, decoupled, log, queue and shard can: ";
    lab.run("direct", &["--contract", "decoupled"]).fails(2, &[others, "availability decoupled"]);
    let two = lab.brokerlab(&["run", "--backend", "log", "--backend", "queue"]);
    two.fails(2, &["one --backend", "brokerlab compare"]);
    lab.brokerlab(&["compare", "--require", "kafka"]).fails(2, &["--require kafka"]);
    lab.brokerlab(&["compare", "--backend", "log", "--backend", "log"]).fails(2, &["--backend log is given twice"]);
    lab.brokerlab(&["run"]).fails(2, &["--backend"]);
    lab.brokerlab(&["backends", "--contract", "gladly"]).fails(2, &["gladly"]);
}

#[test]
fn more_lanes_than_are_made_unasked() {
    let lab = Lab::new();
    lab.run("shard", &["--rate", "2M/s"]).fails(2, &["more than are created unasked (1024)", "--lanes N"]);
    lab.run("queue", &["--consumers", "5000"]).fails(2, &["5000 lanes", "--lanes N"]);
}

/// The default profile with one line replaced, at `profiles check` and at `run`.
fn refused_file(from: &str, to: &str, words: &[&str]) {
    let lab = Lab::new();
    let good = lab.brokerlab(&["profiles", "show", "order-processing"]).out;
    assert!(good.contains(from), "the profile has no `{from}`");
    let text = good.replacen(from, to, 1);
    lab.write("mine.toml", &text);
    lab.brokerlab(&["profiles", "check", "mine.toml"]).fails(2, words);
    lab.run("log", &["--profile", "mine.toml"]).fails(2, words);
    assert_eq!(lab.names("."), ["mine.toml"]);
}

#[test]
fn a_profile_that_is_no_toml_names_line_and_column_with_a_caret() {
    refused_file("seed = 1\n", "seed = = 1\n", &["mine.toml:11:8: ", "11 | seed = = 1", "^", "write TOML 1.0"]);
}

#[test]
fn a_key_that_is_unknown_names_the_nearest() {
    let words = ["mine.toml:10:1: ", "10 | drain_limt", "^^^^^^^^^^", "did you mean `drain_limit`?"];
    refused_file("drain_limit", "drain_limt", &words);
    refused_file("prefetch", "prefetsch", &["mine.toml:", "groups", "did you mean `prefetch`?"]);
}

#[test]
fn values_in_a_file_that_can_t_be() {
    refused_file("rate = \"20k/s\"", "rate = \"0/s\"", &["mine.toml:14:", "arrivals.rate", "the mean rate is zero"]);
    refused_file("min = \"300B\"", "min = \"3B\"", &["mine.toml:", "sizes.min", "below the 32-byte stamp"]);
    refused_file("duration = \"600ms\"", "duration = \"600B\"", &["mine.toml:8:", "`600B`", "250ms"]);
    refused_file("[[groups]]", "[[faults]]\n\n[[groups]]", &["mine.toml:", "faults"]);
}

#[test]
fn profiles_that_are_not_there() {
    let lab = Lab::new();
    lab.brokerlab(&["profiles", "show", "nope"]).fails(2, &["no built-in profile `nope`", "order-processing"]);
    lab.brokerlab(&["profiles", "digest", "nope.toml"]).fails(2, &["nope.toml", "cannot be read"]);
}

#[test]
fn a_real_broker_s_url_is_checked_before_anything_runs() {
    let lab = Lab::new();
    lab.run("pulsar://127.0.0.1:1", &[])
        .fails(2, &["pulsar://", "there are kafka://, kafka+tls://, amqp:// and amqps://"]);
    lab.run("amqp://me:secret@127.0.0.1:1", &[]).fails(2, &["a password may not stand in it", "BROKERLAB_PASSWORD"]);
    lab.run("kafka://127.0.0.1:port", &[]).fails(2, &["names no host and port"]);
    refused(&["--existing"], &["--existing", "name a real broker"]);
}

#[cfg(not(feature = "kafka"))]
#[test]
fn a_driver_that_is_not_built_in_names_the_feature_to_add() {
    Lab::new()
        .run("kafka://127.0.0.1:1", &[])
        .fails(2, &["kafka is not built in", "--features kafka", "--features live"]);
}
