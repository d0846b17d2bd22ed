//! The JSON Schema of a profile, generated from its types, so that editors complete and check one.
//!
//! Leaves out what a schema cannot say: which values fit together.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::Profile;
use super::types::{Payload, Sizes, Think, Work};
use super::units::{Bytes, DurationText};

/// The schema as pretty-printed JSON, ending in a newline.
pub fn schema() -> String {
    let mut schema = schemars::schema_for!(Profile);
    schema.insert("title".to_owned(), "brokerlab profile".into());
    let text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON with text keys");
    text + "\n"
}

/// A size for all, a distribution, or the trace's.
pub(crate) fn sizes(generator: &mut SchemaGenerator) -> Schema {
    either::<Bytes, Sizes>(generator)
}

/// A constant time, or a distribution.
pub(crate) fn work(generator: &mut SchemaGenerator) -> Schema {
    either::<DurationText, Work>(generator)
}

/// A constant time, or a distribution.
pub(crate) fn think(generator: &mut SchemaGenerator) -> Schema {
    either::<DurationText, Think>(generator)
}

fn either<Short: JsonSchema, Full: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let short = generator.subschema_for::<Short>();
    let full = generator.subschema_for::<Full>();
    json_schema!({ "anyOf": [short, full] })
}

/// What stands in messages; without further fields its name is enough.
pub(crate) fn payload(generator: &mut SchemaGenerator) -> Schema {
    let full = generator.subschema_for::<Payload>();
    json_schema!({ "anyOf": [{ "type": "string", "enum": ["random", "json"] }, full] })
}
