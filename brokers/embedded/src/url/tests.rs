//! Names of backends, read and refused.

use brokerlab_model::direct::Overflow;
use brokerlab_model::log::{Assignment, Isolation};
use brokerlab_model::queue::DeadLetter;
use brokerlab_model::shard::Readers;

use super::values::{BYTES, SPAN};
use super::*;

fn error(text: &str) -> String {
    BackendUrl::parse(text).unwrap_err().to_string()
}

#[test]
fn parameters_are_typed_and_set_what_they_name() {
    let url = BackendUrl::parse("log?partitions=8&max_memory=64MiB&retention=24h&segment=1MiB").unwrap();
    assert_eq!((url.kind(), url.name(), url.lanes()), (Kind::Log, "log", Some(8)));
    let expected = Limits { max_memory: 64 << 20, segment_bytes: 1 << 20, ..Limits::default() };
    assert_eq!(url.limits(), expected);
    assert_eq!(url.options.log.retention, Some(Span::from_secs(86_400)));
    assert_eq!(url.to_string(), "log?partitions=8&max_memory=64MiB&retention=24h&segment=1MiB");
    let log = BackendUrl::parse("log?isolation=read-committed&transaction_timeout=5s").unwrap().options.log;
    assert_eq!(log.isolation, Some(Isolation::ReadCommitted));
    assert_eq!(log.transaction_timeout, Span::from_secs(5));
    let log = BackendUrl::parse("log?idempotence=off&producer_expiration=90s").unwrap().options.log;
    assert_eq!((log.idempotence, log.producer_expiration), (false, Span::from_secs(90)));
    assert_eq!(error("log?idempotence=yes"), "`idempotence=yes`: write on or off");
    assert_eq!(error("log?isolation=none"), "`isolation=none`: write read-uncommitted or read-committed");
    let log = BackendUrl::parse("log?session_timeout=6s&assignment=eager").unwrap().options.log;
    assert_eq!((log.session_timeout, log.assignment), (Some(Span::from_secs(6)), Assignment::Eager));
    assert_eq!(error("log?session_timeout=0s"), "`session_timeout=0s`: write a time above zero, or forever");
    assert_eq!(error("log?assignment=lazy"), "`assignment=lazy`: write cooperative or eager");
    let url = BackendUrl::parse("queue?visibility_timeout=250ms&prefetch=3").unwrap();
    assert_eq!((url.options.queue.visibility_timeout, url.options.queue.prefetch), (Span::from_millis(250), 3));
    let shard = BackendUrl::parse("shard?scale_after=5s&mode=on-demand&readers=polling&failover_time=3s").unwrap();
    assert_eq!((shard.lanes(), shard.options.shard.on_demand), (Some(4), Some(Span::from_secs(5))));
    let expected = (Readers::Polling, Some(Span::from_secs(3)));
    assert_eq!((shard.options.shard.readers, shard.options.shard.failover_time), expected);
    let shard = BackendUrl::parse("shard?mode=on-demand&shards=2").unwrap();
    assert_eq!((shard.lanes(), shard.options.shard.on_demand), (Some(2), Some(Span::from_secs(900))));
    assert!(error("shard?scale_after=5s").contains("write mode=on-demand beside it"));
    assert_eq!(BackendUrl::parse("shard?hash=xxh3").unwrap().options.shard.hash, KeyHash::Xxh3);
    let credit = |text| BackendUrl::parse(text).unwrap().options.shard.initial_credit;
    assert_eq!(credit("shard?as=kinesis"), Span::from_millis(20));
    assert_eq!((credit("shard?initial_credit=0s"), credit("shard?initial_credit=full")), (Span::ZERO, FULL_CREDIT));
    assert_eq!(BackendUrl::parse("shard").unwrap().with_full_buckets().options.shard.initial_credit, FULL_CREDIT);
    let remedy = "write a time of at most 1s, for example 20ms, or full";
    assert_eq!(error("shard?initial_credit=2s"), format!("`initial_credit=2s`: {remedy}"));
    assert_eq!(error("shard?initial_credit=none"), format!("`initial_credit=none`: {remedy}"));
    assert_eq!(error("shard?hash=sha1"), "`hash=sha1`: write md5 or xxh3");
    assert_eq!(error("shard?readers=push"), "`readers=push`: write fan-out or polling");
    let url = BackendUrl::parse("shard?write_records=10&retention=forever").unwrap();
    assert_eq!((url.options.shard.write_records_per_s, url.options.shard.retention), (10, None));
    let url = "direct?answer=served&try_timeout=50ms&deadlines=off&overflow=block&breaker_failures=0";
    let direct = BackendUrl::parse(url).unwrap().options.direct;
    assert_eq!((direct.answer, direct.overflow, direct.deadlines), (Answer::Served, Overflow::Block, false));
    assert_eq!((direct.try_timeout, direct.breaker.failures), (Some(Span::from_millis(50)), 0));
    assert_eq!(error("direct?overflow=drop"), "`overflow=drop`: write refuse or block");
}

#[test]
fn a_queues_presets_and_limits_are_read_and_bounds_are_kept() {
    use brokerlab_model::queue::{Overflow, Preset};
    let queue = |text: &str| BackendUrl::parse(text).unwrap().options.queue;
    let sqs = queue("queue?as=sqs");
    assert_eq!(sqs, Preset::Sqs.options());
    assert_eq!(
        (sqs.message_ttl, sqs.max_in_flight, sqs.max_message_bytes),
        (Some(Span::from_secs(345_600)), 120_000, 1 << 20)
    );
    let expected = QueueOptions { visibility_timeout: Span::from_secs(5), ..sqs };
    assert_eq!(queue("queue?as=sqs&visibility_timeout=5s"), expected);
    assert_eq!(queue("queue?visibility_timeout=5s&as=sqs"), expected);
    let rabbitmq = queue("queue?as=rabbitmq&max_length=10&overflow=reject-publish&dead_letter=keep");
    assert_eq!((rabbitmq.visibility_timeout, rabbitmq.max_deliveries), (Span::from_secs(1_800), 21));
    assert_eq!((rabbitmq.max_length, rabbitmq.overflow), (10, Overflow::RejectPublish));
    assert_eq!(rabbitmq.dead_letter, DeadLetter::Keep);
    let plain = queue("queue?message_ttl=60s&delay=5s&max_deliveries=3&max_in_flight=9");
    assert_eq!((plain.message_ttl, plain.delay), (Some(Span::from_secs(60)), Span::from_secs(5)));
    assert_eq!((plain.max_deliveries, plain.max_in_flight, plain.preset), (3, 9, None));
    let said = queue("queue?priorities=9&deduplication=5min&message_groups=on");
    assert_eq!((said.priorities, said.deduplication, said.message_groups), (9, Some(Span::from_secs(300)), true));
    assert_eq!(queue("queue?as=sqs-fifo").deduplication, Some(Span::from_secs(300)));
    assert_eq!(error("queue?priorities=256"), "`priorities=256`: write a number from 0 to 255");
    assert_eq!(error("queue?as=kafka"), "`queue` has no preset `kafka`; write as=rabbitmq, sqs, sqs-fifo");
    assert_eq!(
        error("queue?delay=20min&as=sqs"),
        "sqs takes delay of at most 15 min; give another value, or leave `as=sqs` out"
    );
    for (preset, refused) in [
        (
            "rabbitmq",
            "max_message=513MiB prefetch=65536 delay=1s max_in_flight=9 priorities=2 message_groups=on deduplication=1s",
        ),
        (
            "sqs",
            "max_message=2MiB message_ttl=59s max_in_flight=0 max_deliveries=1001 prefetch=10 max_length=9 priorities=2",
        ),
        (
            "sqs-fifo",
            "visibility_timeout=13h message_ttl=15d max_in_flight=120001 message_groups=off deduplication=1min",
        ),
    ] {
        for parameter in refused.split(' ') {
            let (name, told) = (parameter.split('=').next().unwrap(), error(&format!("queue?as={preset}&{parameter}")));
            assert!(told.starts_with(&format!("{preset} takes {name} ")), "{told}");
            assert!(told.ends_with(&format!("give another value, or leave `as={preset}` out")), "{told}");
        }
    }
    for taken in [
        "rabbitmq&max_message=512MiB&prefetch=65535&message_ttl=1s&max_length=9",
        "sqs&max_deliveries=1000&delay=15min",
    ] {
        assert!(queue(&format!("queue?as={taken}")).preset.is_some());
    }
    assert_eq!(error("queue?message_ttl=0s"), "`message_ttl=0s`: write a time above zero, or forever");
    assert_eq!(error("queue?overflow=drop"), "`overflow=drop`: write drop-head or reject-publish");
    assert_eq!(error("queue?dead_letter=drop"), "`dead_letter=drop`: write discard, keep or channel");
}

#[test]
fn an_unknown_word_is_refused_with_the_nearest_known_one() {
    assert!(error("lgo").contains("did you mean `log`?"), "{}", error("lgo"));
    assert!(error("kafka://localhost").contains("write log, queue, shard, direct, null"));
    assert!(error("log?partition=8").contains("did you mean `partitions`?"));
    assert!(error("queue?partitions=8").contains("`queue` has no parameter `partitions`"));
    assert!(error("null?max_data=1GiB").contains("`null` has no parameter `max_data`"));
}

#[test]
fn a_bad_value_names_the_parameter_and_the_remedy() {
    assert_eq!(error("log?partitions=0"), "`partitions=0`: write a number above zero");
    assert_eq!(error("log?max_memory=64"), format!("`max_memory=64`: {BYTES}"));
    assert_eq!(error("log?segment=1KiB"), "`segment=1KiB`: write a size from 64KiB to 1GiB");
    assert_eq!(error("queue?visibility_timeout=soon"), format!("`visibility_timeout=soon`: {SPAN}"));
    assert_eq!(error("log?partitions"), "`partitions` needs a value; write partitions=…");
    assert_eq!(error("log?lanes=1&lanes=2"), "`lanes` is given twice; keep one");
    assert_eq!(error("shard?lanes=4&shards=8"), "`lanes` and `shards` set the same; keep one");
    assert_eq!(error("direct?retries=-1"), "`retries=-1`: write a whole number of at least 0, for example 8");
    for zero in ["direct?timeout=0s", "direct?try_timeout=0s", "queue?visibility_timeout=0s"] {
        assert!(error(zero).ends_with("=0s`: write a time above zero"), "{}", error(zero));
    }
}

#[test]
fn faults_are_read_beside_the_inner_backends_own_parameters() {
    let url = BackendUrl::parse("faulty?drop=10000&inner=queue&prefetch=5").unwrap();
    assert_eq!((url.kind(), url.name()), (Kind::Queue, "faulty"));
    assert_eq!(url.faults, Some(Faults { drop: Some(10_000), ..Faults::default() }));
    assert_eq!(url.options.queue.prefetch, 5);
    assert!(error("faulty?inner=log").contains("needs a fault"));
    assert_eq!(error("faulty?drop=0"), "`drop=0`: write a number above zero");
    assert!(error("faulty?dorp=3&drop=1").contains("did you mean `drop`?"));
}

#[test]
fn a_preset_sets_a_documented_systems_limits_and_what_is_written_beside_it_wins_wherever_it_stands() {
    let log = |text: &str| BackendUrl::parse(text).unwrap().options.log;
    assert_eq!(log("log?as=kafka"), LogOptions::kafka());
    let raised = LogOptions { retention: None, max_message_bytes: 4 << 20, ..LogOptions::kafka() };
    assert_eq!(log("log?as=kafka&retention=forever&max_message=4MiB"), raised);
    assert_eq!(log("log?max_message=4MiB&retention=forever&as=kafka"), raised);
    let shard = |text: &str| BackendUrl::parse(text).unwrap().options.shard;
    assert_eq!(shard("shard?as=kinesis"), ShardOptions::kinesis());
    let other = ShardOptions { write_records_per_s: 5, max_consumers: Some(3), ..ShardOptions::kinesis() };
    assert_eq!(shard("shard?write_records=5&as=kinesis&max_consumers=3"), other);
    assert_eq!(BackendUrl::parse("shard?as=kinesis").unwrap().name(), "shard");
    let faulty = BackendUrl::parse("faulty?drop=9&as=kafka&inner=log").unwrap();
    assert_eq!((faulty.kind(), faulty.options.log), (Kind::Log, LogOptions::kafka()));
}

#[test]
fn an_unknown_preset_is_refused_with_those_that_there_are() {
    assert_eq!(error("log?as=kafak"), "`log` has no preset `kafak`; write as=kafka; did you mean `kafka`?");
    assert_eq!(error("shard?as=sqs"), "`shard` has no preset `sqs`; write as=kinesis");
    assert_eq!(error("log?as=kafka&as=kafka"), "`as` is given twice; keep one");
    assert!(error("direct?as=rest").contains("`direct` has no parameter `as`"), "{}", error("direct?as=rest"));
    for kind in Kind::ALL {
        let parameter = kind.parameters().find(|known| known.name == AS);
        assert_eq!(parameter.is_some(), !kind.presets().is_empty(), "{}", kind.name());
        for preset in kind.presets() {
            let url = format!("{}?as={}", kind.name(), preset.name);
            assert!(BackendUrl::parse(&url).is_ok(), "{url}");
            assert!(parameter.is_some_and(|known| known.what.contains(preset.name)), "{url} is not in the help");
        }
    }
}

#[test]
fn every_parameter_is_named_once_for_each_backend() {
    for kind in Kind::ALL {
        let mut names: Vec<_> = kind.parameters().map(|p| p.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{}", kind.name());
    }
}
