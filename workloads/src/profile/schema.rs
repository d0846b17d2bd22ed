//! The JSON Schema of a profile, generated from its types, so that editors complete and check one.
//!
//! Leaves out what a schema cannot say: which values fit together.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::Profile;
use super::types::Sizes;
use super::units::Bytes;

/// The schema as pretty-printed JSON, ending in a newline.
pub fn schema() -> String {
    let mut schema = schemars::schema_for!(Profile);
    schema.insert("title".to_owned(), "brokerlab profile".into());
    let text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON with text keys");
    text + "\n"
}

/// A size for all, or a distribution.
pub(crate) fn sizes(generator: &mut SchemaGenerator) -> Schema {
    let short = generator.subschema_for::<Bytes>();
    let full = generator.subschema_for::<Sizes>();
    json_schema!({ "anyOf": [short, full] })
}
