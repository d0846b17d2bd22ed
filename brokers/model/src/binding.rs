//! Bindings: which of a channel's messages a group gets, as AMQP 0-9-1's exchanges decide it.
//!
//! A channel without bindings is a fan-out exchange: each group gets everything. With bindings, a group gets what at least one of
//! its own lets through, once. Leaves out who keeps the messages, and what becomes of one that no group is bound to; that is the
//! model's.

use crate::headers::{Headers, names};

/// The longest pattern, header name or header value of a binding, in bytes: a short string of AMQP 0-9-1.
pub const PATTERN_BYTES_MAX: usize = 255;
/// The most bindings of a channel, so that its record stays near 1 MiB.
pub const BINDINGS_MAX: usize = 1_024;
/// The most headers that one binding looks at.
pub const BINDING_HEADERS_MAX: usize = 16;

/// One binding of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The group's name, one of the channel's.
    pub group: String,
    /// What it lets through.
    pub pattern: Pattern,
}

/// What a binding lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Everything (a fan-out exchange).
    Everything,
    /// Messages whose routing key is this (a direct exchange).
    Key(Vec<u8>),
    /// Messages whose routing key has these words, between dots: `*` stands for one word, `#` for any number (a topic exchange).
    Topic(Vec<u8>),
    /// Messages with these headers (a headers exchange; `x-match` says whether `all` or any).
    Headers {
        /// Whether all of them have to be there; otherwise one is enough.
        all: bool,
        /// Names and values.
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
    },
}

const EVERYTHING: u8 = 0;
const KEY: u8 = 1;
const TOPIC: u8 = 2;
const ALL_HEADERS: u8 = 3;
const ANY_HEADER: u8 = 4;

impl Pattern {
    /// Whether a message with this routing key and these headers, if they are a block, is let through.
    pub fn matches(&self, routing_key: &[u8], headers: Option<Headers<'_>>) -> bool {
        match self {
            Self::Everything => true,
            Self::Key(key) => key == routing_key,
            Self::Topic(pattern) => topic_matches(pattern, routing_key),
            Self::Headers { all, pairs } => {
                let has = |(name, value): &(Vec<u8>, Vec<u8>)| {
                    headers.is_some_and(|headers| headers.iter().any(|pair| pair == (&name[..], &value[..])))
                };
                if *all { pairs.iter().all(has) } else { pairs.iter().any(has) }
            }
        }
    }

    /// Whether its parts are as long as a record can hold.
    pub fn is_in_bounds(&self) -> bool {
        let short = |bytes: &Vec<u8>| bytes.len() <= PATTERN_BYTES_MAX;
        match self {
            Self::Everything => true,
            Self::Key(key) | Self::Topic(key) => short(key),
            Self::Headers { pairs, .. } => {
                pairs.len() <= BINDING_HEADERS_MAX && pairs.iter().all(|(name, value)| short(name) && short(value))
            }
        }
    }

    /// Appends it, as [`take`](Self::take) reads it. It has to be in bounds.
    pub fn put(&self, out: &mut Vec<u8>) {
        fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
            out.push(u8::try_from(bytes.len()).expect("a pattern in bounds has short parts"));
            out.extend_from_slice(bytes);
        }
        match self {
            Self::Everything => out.push(EVERYTHING),
            Self::Key(key) => {
                out.push(KEY);
                put_short(out, key);
            }
            Self::Topic(pattern) => {
                out.push(TOPIC);
                put_short(out, pattern);
            }
            Self::Headers { all, pairs } => {
                out.push(if *all { ALL_HEADERS } else { ANY_HEADER });
                out.push(u8::try_from(pairs.len()).expect("a pattern in bounds has few headers"));
                for (name, value) in pairs {
                    put_short(out, name);
                    put_short(out, value);
                }
            }
        }
    }

    /// Takes a pattern from the front of `bytes`; nothing when they are none.
    pub fn take(bytes: &mut &[u8]) -> Option<Self> {
        fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
            let (&first, rest) = bytes.split_first()?;
            *bytes = rest;
            Some(first)
        }
        fn take_short(bytes: &mut &[u8]) -> Option<Vec<u8>> {
            let len = take_byte(bytes)?;
            let (text, rest) = bytes.split_at_checked(len.into())?;
            *bytes = rest;
            Some(text.to_vec())
        }
        Some(match take_byte(bytes)? {
            EVERYTHING => Self::Everything,
            KEY => Self::Key(take_short(bytes)?),
            TOPIC => Self::Topic(take_short(bytes)?),
            kind @ (ALL_HEADERS | ANY_HEADER) => {
                let count = usize::from(take_byte(bytes)?);
                if count > BINDING_HEADERS_MAX {
                    return None;
                }
                let mut pairs = Vec::with_capacity(count);
                for _ in 0..count {
                    pairs.push((take_short(bytes)?, take_short(bytes)?));
                }
                Self::Headers { all: kind == ALL_HEADERS, pairs }
            }
            _ => return None,
        })
    }
}

/// What a message's bindings are held against: what its headers say, otherwise its key.
pub fn routing_key<'a>(key: &'a [u8], headers: Option<Headers<'a>>) -> &'a [u8] {
    headers.and_then(|headers| headers.get(names::ROUTING_KEY)).unwrap_or(key)
}

/// Whether a topic pattern matches a routing key. Words of both are held against each other from the front; where they differ, the last
/// `#` takes one more word: no more steps than words of one times words of the other.
fn topic_matches(pattern: &[u8], key: &[u8]) -> bool {
    fn words(text: &[u8]) -> Vec<&[u8]> {
        // The empty routing key has no word, as RabbitMQ splits it.
        if text.is_empty() { Vec::new() } else { text.split(|&byte| byte == b'.').collect() }
    }
    let (pattern, key) = (words(pattern), words(key));
    let (mut at, mut word) = (0, 0);
    // Behind the last `#`, and up to which word it takes.
    let mut retry: Option<(usize, usize)> = None;
    while word < key.len() {
        match pattern.get(at) {
            Some(&b"#") => {
                at += 1;
                retry = Some((at, word));
            }
            Some(&part) if part == b"*" || part == key[word] => (at, word) = (at + 1, word + 1),
            Some(_) | None => {
                let Some((behind, taken)) = &mut retry else { return false };
                *taken += 1;
                (at, word) = (*behind, *taken);
            }
        }
    }
    pattern[at..].iter().all(|&part| part == b"#")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::headers::HeaderBlock;

    /// The plainest definition.
    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), None) => naive(rest, key),
            (Some((&"#", rest)), Some((_, tail))) => naive(rest, key) || naive(pattern, tail),
            (Some((part, rest)), Some((word, tail))) => (*part == "*" || part == word) && naive(rest, tail),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn topics_match_as_they_are_defined(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 0..6),
            key in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..7),
        ) {
            let found = topic_matches(pattern.join(".").as_bytes(), key.join(".").as_bytes());
            prop_assert_eq!(found, naive(&pattern, &key));
        }

        #[test]
        fn a_pattern_is_read_as_it_was_written(
            kind in 0..5u8,
            key in prop::collection::vec(any::<u8>(), 0..255),
            pairs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 0..9)), 0..16),
            noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let pattern = match kind {
                0 => Pattern::Everything,
                1 => Pattern::Key(key),
                2 => Pattern::Topic(key),
                _ => Pattern::Headers { all: kind == 3, pairs },
            };
            prop_assert!(pattern.is_in_bounds());
            let mut bytes = Vec::new();
            pattern.put(&mut bytes);
            let end = bytes.len();
            bytes.extend_from_slice(&noise);
            let mut rest = &bytes[..];
            prop_assert_eq!(Pattern::take(&mut rest), Some(pattern));
            prop_assert_eq!(rest, &noise[..]);
            prop_assert_eq!(Pattern::take(&mut &bytes[..end - 1]), None, "it is cut off");
            let _total = Pattern::take(&mut &noise[..]);
        }
    }

    #[test]
    fn each_kind_of_exchange_lets_through_what_it_says() {
        let bytes = HeaderBlock::new()
            .with("format", b"pdf")
            .and_then(|block| block.with("type", b"report"))
            .and_then(|block| block.with(names::ROUTING_KEY, b"eu.orders.new"))
            .unwrap()
            .to_bytes();
        let headers = Headers::parse(&bytes);
        let key = routing_key(b"key", headers);
        assert_eq!((key, routing_key(b"key", None)), (&b"eu.orders.new"[..], &b"key"[..]));
        let matches = |pattern: Pattern| pattern.matches(key, headers);
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect::<Vec<_>>()
        };
        assert!(matches(Pattern::Everything) && matches(Pattern::Key(b"eu.orders.new".to_vec())));
        assert!(!matches(Pattern::Key(b"eu.orders".to_vec())));
        assert!(matches(Pattern::Topic(b"eu.#".to_vec())) && matches(Pattern::Topic(b"*.orders.*".to_vec())));
        assert!(!matches(Pattern::Topic(b"us.#".to_vec())) && !matches(Pattern::Topic(b"*.orders".to_vec())));
        let both = pairs(&[("format", "pdf"), ("type", "log")]);
        assert!(matches(Pattern::Headers { all: false, pairs: both.clone() }));
        assert!(!matches(Pattern::Headers { all: true, pairs: both.clone() }));
        assert!(matches(Pattern::Headers { all: true, pairs: pairs(&[("format", "pdf"), ("type", "report")]) }));
        assert!(!Pattern::Headers { all: false, pairs: both }.matches(key, None), "opaque headers have no names");
        assert!(matches(Pattern::Headers { all: true, pairs: Vec::new() }), "as in RabbitMQ");
    }
}
