//! The URL's parameters: client settings by Apache Kafka's own names, with the defaults of its Java client 4.x.
//!
//! Leaves out what a contract sets; that is in `promise`.

use brokerlab_model::Span;

use super::compression::Codec;
use crate::tls::Parameters;
use crate::url::{LiveUrl, Scheme, UrlError};

/// What can be set.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) acks: i16,
    pub(super) batch_size: usize,
    pub(super) linger: Span,
    pub(super) idempotence: bool,
    /// How batches are compressed, and how hard.
    pub(super) compression: (Codec, i32),
    pub(super) in_flight: usize,
    pub(super) buffer_memory: usize,
    pub(super) max_request_size: usize,
    pub(super) request_timeout: Span,
    pub(super) delivery_timeout: Span,
    pub(super) retry_backoff: Span,
    pub(super) fetch_min_bytes: i32,
    pub(super) fetch_max_bytes: i32,
    pub(super) fetch_max_wait_ms: i32,
    pub(super) partition_fetch_bytes: i32,
    pub(super) max_poll_interval_ms: i32,
    pub(super) heartbeat: Span,
    pub(super) commit_interval: Span,
    pub(super) reconnect: Span,
    pub(super) reconnect_max: Span,
    pub(super) setup_timeout: Span,
    pub(super) client_id: String,
    pub(super) sasl: Option<Sasl>,
    /// `topic.*`: settings of the topics that are made.
    pub(super) topic: Vec<(String, String)>,
    pub(super) replication: Option<i16>,
    pub(super) min_insync: Option<i16>,
    /// What is in force, by name.
    pub(super) shown: Vec<(String, String)>,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sasl {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Sasl {
    /// The mechanism's own name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Every parameter with the value that it has unless the URL says otherwise.
const KNOWN: [(&str, &str); 27] = [
    ("producer.acks", "all"),
    ("producer.batch.size", "16384"),
    ("producer.linger.ms", "5"),
    ("producer.enable.idempotence", "true"),
    ("producer.max.in.flight.requests.per.connection", "5"),
    ("producer.compression.type", "none"),
    ("producer.compression.gzip.level", "-1"),
    ("producer.compression.zstd.level", "3"),
    ("producer.buffer.memory", "33554432"),
    ("producer.max.request.size", "1048576"),
    ("producer.request.timeout.ms", "30000"),
    ("producer.delivery.timeout.ms", "120000"),
    ("producer.retry.backoff.ms", "100"),
    ("consumer.fetch.min.bytes", "1"),
    ("consumer.fetch.max.bytes", "52428800"),
    ("consumer.fetch.max.wait.ms", "500"),
    ("consumer.max.partition.fetch.bytes", "1048576"),
    ("consumer.max.poll.interval.ms", "300000"),
    ("consumer.heartbeat.interval.ms", "3000"),
    ("consumer.commit.interval.ms", "10"),
    ("client.id", "brokerlab"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.connection.setup.timeout.ms", "10000"),
    ("sasl", "none"),
    ("topic.replication.factor", "by the contract"),
    ("topic.min.insync.replicas", "by the contract"),
];

/// Settings of a topic that are passed on.
const TOPIC: [&str; 9] = [
    "cleanup.policy",
    "flush.messages",
    "flush.ms",
    "max.message.bytes",
    "message.timestamp.type",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
];

impl Options {
    /// Reads the URL's parameters; an unknown one is refused.
    pub(super) fn read(url: &LiveUrl) -> Result<Self, UrlError> {
        let mut shown: Vec<(String, String)> =
            KNOWN.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut topic = Vec::new();
        for (key, value) in &url.parameters {
            if let Some(at) = shown.iter().position(|(known, _)| known == key) {
                shown[at].1.clone_from(value);
            } else if let Some(name) = key.strip_prefix("topic.").filter(|name| TOPIC.contains(name)) {
                topic.push((name.to_owned(), value.clone()));
            } else {
                return Err(unknown(key));
            }
        }
        let mut options = Self::from_texts(&Texts(&shown))?;
        options.shown = shown;
        options.topic = topic;
        options.check()?;
        Ok(options)
    }

    fn from_texts(texts: &Texts<'_>) -> Result<Self, UrlError> {
        let acks = texts.one_of("producer.acks", &[("all", -1), ("-1", -1), ("1", 1)])?;
        let compression = compression(texts)?;
        let sasl = [
            ("none", None),
            ("plain", Some(Sasl::Plain)),
            ("scram-sha-256", Some(Sasl::ScramSha256)),
            ("scram-sha-512", Some(Sasl::ScramSha512)),
        ];
        Ok(Self {
            acks,
            batch_size: texts.number("producer.batch.size", 1, 1 << 30)? as usize,
            linger: texts.span("producer.linger.ms", 0)?,
            // As in Java: not idempotent unless all acknowledge.
            idempotence: texts.one_of("producer.enable.idempotence", &[("true", true), ("false", false)])?
                && acks == -1,
            compression,
            in_flight: texts.number("producer.max.in.flight.requests.per.connection", 1, 1_000)? as usize,
            buffer_memory: texts.number("producer.buffer.memory", 1, 1 << 40)? as usize,
            max_request_size: texts.number("producer.max.request.size", 1, 1 << 30)? as usize,
            request_timeout: texts.span("producer.request.timeout.ms", 1)?,
            delivery_timeout: texts.span("producer.delivery.timeout.ms", 1)?,
            retry_backoff: texts.span("producer.retry.backoff.ms", 1)?,
            fetch_min_bytes: texts.int("consumer.fetch.min.bytes", 0, i32::MAX)?,
            fetch_max_bytes: texts.int("consumer.fetch.max.bytes", 1, i32::MAX)?,
            fetch_max_wait_ms: texts.int("consumer.fetch.max.wait.ms", 0, i32::MAX)?,
            partition_fetch_bytes: texts.int("consumer.max.partition.fetch.bytes", 1, i32::MAX)?,
            max_poll_interval_ms: texts.int("consumer.max.poll.interval.ms", 1, i32::MAX)?,
            heartbeat: texts.span("consumer.heartbeat.interval.ms", 1)?,
            commit_interval: texts.span("consumer.commit.interval.ms", 0)?,
            reconnect: texts.span("reconnect.backoff.ms", 1)?,
            reconnect_max: texts.span("reconnect.backoff.max.ms", 1)?,
            setup_timeout: texts.span("socket.connection.setup.timeout.ms", 1)?,
            client_id: texts.get("client.id").to_owned(),
            sasl: texts.one_of("sasl", &sasl)?,
            topic: Vec::new(),
            replication: texts.by_contract("topic.replication.factor")?,
            min_insync: texts.by_contract("topic.min.insync.replicas")?,
            shown: Vec::new(),
        })
    }

    fn check(&self) -> Result<(), UrlError> {
        if self.idempotence && self.in_flight > 5 {
            return Err(wrong(
                "producer.max.in.flight.requests.per.connection",
                &self.in_flight.to_string(),
                "an idempotent producer keeps order with 5 at most",
            ));
        }
        Ok(())
    }
}

/// The codec and its level, both with Kafka's bounds; the level of a codec that is not taken is checked too.
fn compression(texts: &Texts<'_>) -> Result<(Codec, i32), UrlError> {
    let codecs = Codec::ALL.map(|codec| (codec.name(), codec));
    let codec = texts.one_of("producer.compression.type", &codecs)?;
    let gzip = match texts.get("producer.compression.gzip.level") {
        "-1" => -1,
        _ => texts.int("producer.compression.gzip.level", 1, 9)?,
    };
    let zstd = texts.int("producer.compression.zstd.level", -131_072, 22)?;
    Ok((codec, if codec == Codec::Gzip { gzip } else { zstd }))
}

/// The parameters as they were written.
struct Texts<'a>(&'a [(String, String)]);

impl Texts<'_> {
    fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value)
    }

    fn number(&self, key: &str, least: u64, most: u64) -> Result<u64, UrlError> {
        let text = self.get(key);
        let number = text.parse().ok().filter(|n| (least..=most).contains(n));
        number.ok_or_else(|| wrong(key, text, &format!("write a number from {least} to {most}")))
    }

    fn int(&self, key: &str, least: i32, most: i32) -> Result<i32, UrlError> {
        let text = self.get(key);
        let number = text.parse().ok().filter(|n| (least..=most).contains(n));
        number.ok_or_else(|| wrong(key, text, &format!("write a number from {least} to {most}")))
    }

    fn span(&self, key: &str, least: u64) -> Result<Span, UrlError> {
        self.number(key, least, i32::MAX as u64).map(Span::from_millis)
    }

    fn by_contract(&self, key: &str) -> Result<Option<i16>, UrlError> {
        if self.get(key) == "by the contract" { Ok(None) } else { self.number(key, 1, 1_000).map(|n| Some(n as i16)) }
    }

    fn one_of<T: Copy>(&self, key: &str, values: &[(&str, T)]) -> Result<T, UrlError> {
        let text = self.get(key);
        let known: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        let found = values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        found.ok_or_else(|| wrong(key, text, &format!("write one of {}", known.join(", "))))
    }
}

fn wrong(key: &str, value: &str, reason: &str) -> UrlError {
    UrlError::Value { key: key.to_owned(), value: value.to_owned(), reason: reason.to_owned() }
}

fn unknown(key: &str) -> UrlError {
    let own = ["partitions", "lanes", "password-env", "password-file"];
    let mut known: Vec<String> =
        KNOWN.iter().map(|(key, _)| *key).chain(own).chain(Parameters::NAMES).map(str::to_owned).collect();
    known.extend(TOPIC.iter().map(|name| format!("topic.{name}")));
    known.sort_unstable();
    UrlError::Unknown { key: key.to_owned(), name: Scheme::Kafka.name(), known: known.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Options, UrlError> {
        Options::read(&LiveUrl::parse(&format!("kafka://h?{query}")).unwrap())
    }

    #[test]
    fn defaults_are_the_java_clients_and_names_are_its_own() {
        let options = read("").unwrap();
        assert_eq!((options.acks, options.batch_size, options.linger), (-1, 16_384, Span::from_millis(5)));
        assert_eq!((options.idempotence, options.in_flight, options.buffer_memory), (true, 5, 32 << 20));
        let options = read("producer.linger.ms=0&producer.acks=1&topic.retention.ms=9").unwrap();
        assert_eq!((options.linger, options.acks, options.idempotence), (Span::ZERO, 1, false));
        assert_eq!(options.topic, [("retention.ms".to_owned(), "9".to_owned())]);
        assert!(options.shown.contains(&("producer.linger.ms".to_owned(), "0".to_owned())));
    }

    #[test]
    fn a_codec_has_its_own_level() {
        assert_eq!(read("").unwrap().compression.0, Codec::None);
        for (query, expected) in [
            ("producer.compression.type=gzip", (Codec::Gzip, -1)),
            ("producer.compression.type=gzip&producer.compression.gzip.level=9", (Codec::Gzip, 9)),
            ("producer.compression.type=zstd", (Codec::Zstd, 3)),
            ("producer.compression.type=zstd&producer.compression.zstd.level=-5", (Codec::Zstd, -5)),
        ] {
            assert_eq!(read(query).unwrap().compression, expected);
        }
    }

    #[test]
    fn what_is_unknown_or_does_not_fit_is_refused() {
        let unknown = read("producer.linger=5").unwrap_err().to_string();
        assert!(unknown.contains("producer.linger.ms"), "{unknown}");
        for query in [
            "producer.linger.ms=soon",
            "producer.acks=0",
            "producer.max.in.flight.requests.per.connection=6",
            "sasl=x",
            "producer.compression.type=brotli",
            "producer.compression.gzip.level=0",
            "producer.compression.zstd.level=23",
        ] {
            assert!(matches!(read(query), Err(UrlError::Value { .. })), "{query}");
        }
    }
}
