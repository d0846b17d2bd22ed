//! A contract in a profile: a table of axes, or one line of words (`"at-least-once, per-key, fsync"`).
//!
//! Leaves out what a contract means: that is the model's.

use std::fmt;

use brokerlab_model::{Availability, Contract, Delivery, Order, Storage};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::units::SEPARATOR;

/// For `#[serde(deserialize_with)]`.
pub(crate) fn contract<'de, D: Deserializer<'de>>(d: D) -> Result<Contract, D::Error> {
    struct Both;
    impl<'de> Visitor<'de> for Both {
        type Value = Contract;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a contract{SEPARATOR}write {{ delivery = \"at-least-once\", order = \"none\", … }} or words")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Contract, E> {
            text.parse().map_err(|error: brokerlab_model::contract::ParseContractError| {
                let text = error.to_string();
                let (message, remedy) = text.split_once("; ").unwrap_or((&text, "write one word per axis"));
                E::custom(format!("{message}{SEPARATOR}{remedy}"))
            })
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Contract, A::Error> {
            Contract::deserialize(MapAccessDeserializer::new(map))
        }
    }
    d.deserialize_any(Both)
}

/// For `#[schemars(schema_with)]`: made from the model's own lists of names.
pub(crate) fn contract_schema(_: &mut SchemaGenerator) -> Schema {
    let names = |all: Vec<&'static str>| json_schema!({ "type": "string", "enum": all });
    json_schema!({
        "description": "The promise asked of a backend.",
        "anyOf": [
            { "type": "string", "examples": ["at-least-once, per-key, fsync, copies=1, decoupled"] },
            {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "delivery": names(Delivery::ALL.iter().map(|v| v.name()).collect()),
                    "order": names(Order::ALL.iter().map(|v| v.name()).collect()),
                    "storage": names(Storage::ALL.iter().map(|v| v.name()).collect()),
                    "copies": { "type": "integer", "minimum": 1, "maximum": 255 },
                    "availability": names(Availability::ALL.iter().map(|v| v.name()).collect()),
                }
            }
        ]
    })
}
