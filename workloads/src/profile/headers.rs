//! What a profile's messages say of themselves, and which of them a group is bound to.
//!
//! A value is one for all messages or a list that is taken in turn: each producer's message n has entry n modulo the list's length, so that
//! every world and every thread agrees. Leaves out what a backend makes of it, and the bytes of the headers, which are
//! [`brokerlab_model::headers`]'.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use brokerlab_model::headers::names;
use brokerlab_model::{Binding, Pattern, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::units::{self, DurationText};

/// Names that have a key of their own in `[headers]`, or that a queue acts on in ways of which a run knows nothing.
pub(crate) const RESERVED: [&str; 7] = [
    names::PRIORITY,
    names::TIME_TO_LIVE,
    names::DELAY,
    names::ROUTING_KEY,
    names::MESSAGE_GROUP,
    names::DEDUPLICATION_ID,
    names::OPAQUE,
];

/// What messages say of themselves. Each value is one for all, or a list of which each producer's messages take one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// The higher, the sooner, where a queue has priorities.
    #[serde(default)]
    pub priority: Turn<u8>,
    /// How long a message may wait from its publish on, where a queue heeds it.
    #[serde(default)]
    pub time_to_live: Turn<Lasting>,
    /// How long after its publish a message is held back, where a queue heeds it.
    #[serde(default)]
    pub delay: Turn<Lasting>,
    /// What bindings are held against.
    #[serde(default)]
    pub routing_key: Turn<String>,
    /// The group whose messages are delivered in order, where a queue has message groups; without it the key is.
    #[serde(default)]
    pub message_group: Turn<String>,
    /// Headers of any other name.
    #[serde(default)]
    pub other: BTreeMap<String, Turn<String>>,
}

impl Headers {
    /// Whether messages say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One value for all messages, or a list that is taken in turn; without any, messages have no such header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn<T>(pub Vec<T>);

impl<T> Default for Turn<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Turn<T> {
    /// What message `n` of a producer says.
    pub fn at(&self, n: u64) -> Option<&T> {
        let at = n.checked_rem(self.0.len() as u64)?;
        self.0.get(usize::try_from(at).ok()?)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Turn<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(TurnVisitor(PhantomData))
    }
}

struct TurnVisitor<T>(PhantomData<T>);

impl<T> TurnVisitor<T> {
    fn one<'de, E: de::Error>(value: impl IntoDeserializer<'de, E>) -> Result<Turn<T>, E>
    where
        T: Deserialize<'de>,
    {
        T::deserialize(value.into_deserializer()).map(|value| Turn(vec![value]))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for TurnVisitor<T> {
    type Value = Turn<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, or a list of values that are taken in turn")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Turn<T>, E> {
        Self::one(text)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Turn<T>, E> {
        Self::one(number)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Turn<T>, E> {
        Self::one(number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Turn<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(Turn)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Turn<T>, A::Error> {
        // No value is a table: whoever reads it says so.
        T::deserialize(MapAccessDeserializer::new(entries)).map(|value| Turn(vec![value]))
    }
}

impl<T: JsonSchema> JsonSchema for Turn<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Turn_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// A length of time with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting(pub Span);

impl<'de> Deserialize<'de> for Lasting {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        units::span(d).map(Self)
    }
}

impl JsonSchema for Lasting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        DurationText::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<DurationText>()
    }
}

/// What a group is bound to: it gets what at least one of its bindings lets through, once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Bound {
    /// Messages with this routing key (a direct exchange).
    Key {
        /// The routing key.
        key: String,
    },
    /// Messages whose routing key has these words (a topic exchange).
    Topic {
        /// Words between dots; `*` stands for one word, `#` for any number.
        pattern: String,
    },
    /// Messages with these headers (a headers exchange).
    Headers {
        /// Names, as in `[headers.other]`, and values.
        pairs: BTreeMap<String, String>,
        /// Whether one of them is enough; otherwise all have to be there.
        #[serde(default)]
        any: bool,
    },
    /// Everything (a fan-out exchange).
    Everything,
}

impl Bound {
    /// The binding as a backend is told of it.
    pub fn pattern(&self) -> Pattern {
        match self {
            Self::Key { key } => Pattern::Key(key.clone().into_bytes()),
            Self::Topic { pattern } => Pattern::Topic(pattern.clone().into_bytes()),
            Self::Headers { pairs, any } => {
                let bytes = |(name, value): (&String, &String)| (name.clone().into_bytes(), value.clone().into_bytes());
                Pattern::Headers { all: !any, pairs: pairs.iter().map(bytes).collect() }
            }
            Self::Everything => Pattern::Everything,
        }
    }

    /// Whether it looks at the routing key.
    pub(crate) fn is_of_routing_key(&self) -> bool {
        match self {
            Self::Key { .. } | Self::Topic { .. } => true,
            Self::Headers { .. } | Self::Everything => false,
        }
    }
}

impl super::Profile {
    /// The bindings of every channel; none where every group gets everything. Beside a group with bindings one without is bound to
    /// everything.
    pub fn bindings(&self) -> Vec<Binding> {
        if self.groups.iter().all(|group| group.bindings.is_empty()) {
            return Vec::new();
        }
        let bound = |group: &super::Group| -> Vec<Binding> {
            let mut patterns: Vec<Pattern> = group.bindings.iter().map(Bound::pattern).collect();
            if patterns.is_empty() {
                patterns.push(Pattern::Everything);
            }
            patterns.into_iter().map(|pattern| Binding { group: group.name.clone(), pattern }).collect()
        };
        self.groups.iter().flat_map(bound).collect()
    }
}
