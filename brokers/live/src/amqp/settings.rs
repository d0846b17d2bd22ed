//! What an `amqp://` URL asks for, by RabbitMQ's and AMQP's own names, and what is in force.
//!
//! Leaves out which of it keeps a contract; that is in `contract`.

use brokerlab_model::{Settings, Span};

use super::codec::{put_flag, put_number, put_text};
use crate::url::{LiveUrl, UrlError};

/// Which kind of queue is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// A replicated queue with a log of its own, flushed on a majority before it confirms.
    Quorum,
    /// A queue of one node.
    Classic,
}

impl QueueKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// The value of a queue's argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl Argument {
    fn parsed(text: &str) -> Self {
        match (text.parse(), text) {
            (Ok(number), _) => Self::Number(number),
            (Err(_), "true") => Self::Flag(true),
            (Err(_), "false") => Self::Flag(false),
            (Err(_), other) => Self::Text(other.to_owned()),
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>, name: &[u8]) {
        match self {
            Self::Text(text) => put_text(out, name, text.as_bytes()),
            Self::Number(number) => put_number(out, name, *number),
            Self::Flag(flag) => put_flag(out, name, *flag),
        }
    }
}

impl std::fmt::Display for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// Every parameter that is no argument of a queue.
const KNOWN: &str = "queue (quorum or classic), queues or lanes, confirms, prefetch, persistent, mandatory, ack-multiple, heartbeat, frame-max, max_message_size, with amqps:// tls.ca, tls.cert, tls.key and tls.server.name, and the queue arguments x-…";

/// The settings of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) queue: QueueKind,
    /// How many publishes of one client may be unconfirmed.
    pub(super) confirms: usize,
    /// How many unacknowledged messages one consumer may have; none means as many as its member was granted.
    pub(super) prefetch: Option<u16>,
    /// Whether messages are marked persistent; none means as the contract needs.
    pub(super) persistent: Option<bool>,
    pub(super) mandatory: bool,
    /// Whether one acknowledgement may cover several messages, where they were settled in a row.
    pub(super) ack_multiple: bool,
    pub(super) heartbeat: Span,
    /// The largest frame asked for, in bytes.
    pub(super) frame_max: u32,
    /// The largest message, as the server is set; none means its version's default.
    pub(super) max_message_size: Option<u32>,
    /// Arguments of every queue that is declared, in the URL's order.
    pub(super) arguments: Vec<(String, Argument)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: QueueKind::Quorum,
            confirms: 1_000,
            prefetch: None,
            persistent: None,
            mandatory: false,
            ack_multiple: false,
            heartbeat: Span::from_secs(10),
            frame_max: 131_072,
            max_message_size: None,
            arguments: Vec::new(),
        }
    }
}

impl Options {
    /// Reads a URL's parameters.
    pub(super) fn parse(url: &LiveUrl) -> Result<Self, UrlError> {
        let mut options = Self::default();
        for (key, value) in &url.parameters {
            options.set(key, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), UrlError> {
        let wrong =
            |reason: &str| UrlError::Value { key: key.to_owned(), value: value.to_owned(), reason: reason.to_owned() };
        let flag = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong("write true or false")),
        };
        let number = |from: u64, to: u64| {
            let reason = format!("write a whole number from {from} to {to}");
            value.parse().ok().filter(|n| (from..=to).contains(n)).ok_or_else(|| wrong(&reason))
        };
        match key {
            "queue" => {
                self.queue = match value {
                    "quorum" => QueueKind::Quorum,
                    "classic" => QueueKind::Classic,
                    _ => return Err(wrong("there are quorum and classic")),
                }
            }
            "confirms" => self.confirms = number(1, 1 << 20)? as usize,
            "prefetch" => self.prefetch = Some(number(1, u16::MAX.into())? as u16),
            "persistent" => self.persistent = Some(flag()?),
            "mandatory" => self.mandatory = flag()?,
            "ack-multiple" => self.ack_multiple = flag()?,
            "heartbeat" => self.heartbeat = Span::from_secs(number(0, u16::MAX.into())?),
            "frame-max" => self.frame_max = number(4_096, 1 << 24)? as u32,
            "max_message_size" => self.max_message_size = Some(number(1_024, 512 << 20)? as u32),
            "x-queue-type" => return Err(wrong("name the kind by ?queue=")),
            "x-single-active-consumer" => return Err(wrong("it follows from the contract's order")),
            _ if key.starts_with("x-") && key.len() <= 128 => {
                self.arguments.push((key.to_owned(), Argument::parsed(value)));
            }
            _ => {
                return Err(UrlError::Unknown {
                    key: key.to_owned(),
                    name: crate::url::Scheme::Amqp.name(),
                    known: KNOWN.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// A queue argument that is a whole number.
    pub(super) fn argument(&self, name: &str) -> Option<i64> {
        let (_, value) = self.arguments.iter().find(|(known, _)| known == name)?;
        match value {
            Argument::Number(number) => Some(*number),
            Argument::Text(_) | Argument::Flag(_) => None,
        }
    }

    /// Whether a full queue refuses what is published.
    pub(super) fn rejects_publish(&self) -> bool {
        self.arguments.iter().any(|(name, value)| {
            name == "x-overflow" && matches!(value, Argument::Text(text) if text.starts_with("reject-publish"))
        })
    }

    /// The arguments by which a queue drops messages that AMQP tells nobody of.
    pub(super) fn untold_limits(&self) -> Vec<String> {
        let drops = |name: &str| match name {
            "x-max-length" | "x-max-length-bytes" => !self.rejects_publish(),
            "x-message-ttl" | "x-expires" => true,
            _ => false,
        };
        let named = self.arguments.iter().filter(|(name, _)| drops(name));
        named.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Adds what is in force on the client's side beside what keeps the contract.
    pub(super) fn in_force(&self, settings: &mut Settings) {
        settings.add("confirms", self.confirms, "unconfirmed publishes that a client may have");
        let prefetch = self.prefetch.map_or_else(|| "as granted".to_owned(), |n| n.to_string());
        settings.add("prefetch", prefetch, "unacknowledged messages that a consumer may have");
        settings.add("mandatory", self.mandatory, "whether a message without a queue comes back");
        settings.add("ack-multiple", self.ack_multiple, "whether one acknowledgement covers several messages");
        settings.add("max_memory", OUT_MAX, "bytes that wait to be written before a client is blocked");
        for (name, value) in &self.arguments {
            settings.add(name, value, "queue argument");
        }
    }
}

/// As many bytes may wait to be written, besides one message.
pub(super) const OUT_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(parameters: &str) -> Result<Options, UrlError> {
        Options::parse(&LiveUrl::parse(&format!("amqp://h?{parameters}")).unwrap())
    }

    #[test]
    fn every_parameter_is_read_by_its_own_name() {
        let read = options(
            "queue=classic&confirms=5&prefetch=9&persistent=false&mandatory=true&ack-multiple=true&heartbeat=0&frame-max=4096&max_message_size=2048&x-max-length=7&x-overflow=reject-publish&x-message-ttl=true",
        )
        .unwrap();
        let due = Options {
            queue: QueueKind::Classic,
            confirms: 5,
            prefetch: Some(9),
            persistent: Some(false),
            mandatory: true,
            ack_multiple: true,
            heartbeat: Span::ZERO,
            frame_max: 4_096,
            max_message_size: Some(2_048),
            arguments: vec![
                ("x-max-length".into(), Argument::Number(7)),
                ("x-overflow".into(), Argument::Text("reject-publish".into())),
                ("x-message-ttl".into(), Argument::Flag(true)),
            ],
        };
        assert_eq!(read, due);
        assert_eq!(options("").unwrap(), Options::default());
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused() {
        let error = options("confirm=5").unwrap_err();
        assert!(matches!(&error, UrlError::Unknown { known, .. } if known.contains("confirms")), "{error}");
        for wrong in [
            "queue=stream",
            "confirms=0",
            "prefetch=65536",
            "persistent=yes",
            "frame-max=100",
            "heartbeat=-1",
            "x-queue-type=classic",
            "x-single-active-consumer=true",
        ] {
            assert!(matches!(options(wrong), Err(UrlError::Value { .. })), "{wrong}");
        }
    }

    #[test]
    fn limits_by_which_a_queue_drops_are_named_and_one_that_refuses_is_not() {
        let untold = |parameters: &str| {
            let url = LiveUrl::parse(&format!("amqp://h?{parameters}")).unwrap();
            Options::parse(&url).unwrap().untold_limits()
        };
        assert_eq!(untold("x-max-length=7&x-message-ttl=100"), ["x-max-length=7", "x-message-ttl=100"]);
        assert_eq!(untold("x-max-length=7&x-overflow=reject-publish"), Vec::<String>::new());
        assert_eq!(untold("x-delivery-limit=3"), Vec::<String>::new(), "that one drops only what was delivered");
    }
}
