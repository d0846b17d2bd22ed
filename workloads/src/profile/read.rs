//! Serde's view of a document: every error carries where it stands, an unknown key its nearest known one.
//!
//! An enum with fields is read from a table whose `kind` names the variant, as the schema says, without serde's
//! buffering, which would lose the places. Leaves out what values mean together: `check` looks at that.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};

use super::document::{Document, Entry, Node, Place, Value};
use super::error::ProfileError;
use super::units::SEPARATOR;

/// Reads a type from a whole document.
pub(crate) fn read<T: DeserializeOwned>(document: &Document) -> Result<T, ProfileError> {
    let path = RefCell::new(Vec::new());
    T::deserialize(Reader { node: &document.root, path: &path, skip: None }).map_err(|fault| {
        let place = fault.place.unwrap_or_else(|| document.root.place.clone());
        document.error(&place, fault.key, fault.message, fault.remedy)
    })
}

/// A fault on its way up; gets its place and key from the innermost value that it passes.
#[derive(Debug)]
struct Fault {
    message: String,
    remedy: String,
    place: Option<Place>,
    key: String,
}

impl Fault {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into(), place: None, key: String::new() }
    }

    fn located(mut self, place: &Place, path: &RefCell<Vec<String>>) -> Self {
        if self.place.is_none() {
            self.place = Some(place.clone());
            self.key = path.borrow().join(".");
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// Splits what a visitor expects into what and how to write it.
fn halves(text: &str) -> (&str, Option<&str>) {
    text.split_once(SEPARATOR).map_or((text, None), |(a, b)| (a, Some(b)))
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let (message, remedy) = halves(&text);
        Self::new(message, remedy.unwrap_or("write a value that fits"))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let text = expected.to_string();
        let (expected, remedy) = halves(in_words(&text));
        let remedy = remedy.map_or_else(|| format!("write {expected}"), str::to_owned);
        Self::new(format!("{} stands where {expected} is needed", plain(&found)), remedy)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("unknown key `{field}`"), nearest(field, known))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("`{variant}` is none of the known values"), nearest(variant, known))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the key `{field}` is missing"), format!("add `{field} = …` here"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("the key `{field}` stands twice"), "keep one of them")
    }
}

/// What serde expects of a plain value, without the names of Rust's types.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0 on",
        "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "bool" | "a boolean" => "true or false",
        "a string" => "a text in quotes",
        other => other,
    }
}

fn plain(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Signed(n) => format!("the number {n}"),
        Unexpected::Unsigned(n) => format!("the number {n}"),
        Unexpected::Float(n) => format!("the number {n}"),
        Unexpected::Bool(b) => format!("{b}"),
        Unexpected::Str(s) => format!("the text \"{s}\""),
        Unexpected::Map => "a table".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::Unit
        | Unexpected::Option
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => found.to_string(),
    }
}

/// `did you mean …`, then all that is known.
fn nearest(word: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    // Below 0.7 (Jaro–Winkler) two words have no more than letters in common.
    let scored = known.iter().map(|k| (strsim::jaro_winkler(word, k), k));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.7) {
        Some((_, best)) if known.len() > 1 => format!("did you mean `{best}`? Known here: {all}"),
        Some((_, best)) => format!("did you mean `{best}`?"),
        None if known.is_empty() => "remove it, nothing is written here".to_owned(),
        None => format!("known here: {all}"),
    }
}

/// A node being read. `skip` is a key that was read already (`kind`).
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    path: &'a RefCell<Vec<String>>,
    skip: Option<&'static str>,
}

impl IntoDeserializer<'_, Fault> for Reader<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'a> Reader<'a> {
    fn locate<T>(self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        outcome.map_err(|fault| fault.located(&self.node.place, self.path))
    }

    fn child(self, node: &'a Node) -> Self {
        Reader { node, path: self.path, skip: None }
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Text(text) | Value::Date(text) => visitor.visit_str(text),
            Value::Integer(n) => match u64::try_from(*n) {
                Ok(n) => visitor.visit_u64(n),
                Err(_) => visitor.visit_i64(*n),
            },
            Value::Float(x) => visitor.visit_f64(*x),
            Value::Boolean(b) => visitor.visit_bool(*b),
            Value::Array(items) => visitor.visit_seq(Items { reader: self, items: items.iter().enumerate() }),
            Value::Table(entries) => visitor.visit_map(Fields { reader: self, entries: entries.iter(), current: None }),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.locate(self.any(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            // `4` is as good as `4.0` where a ratio is needed.
            Value::Integer(n) => self.locate(visitor.visit_f64(n as f64)),
            Value::Text(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Date(_)
            | Value::Array(_)
            | Value::Table(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let short = SHORT.iter().find(|s| s.of == name);
        if let (Value::Text(text), Some(short)) = (&self.node.value, short)
            && !known.contains(&text.as_str())
        {
            return self.locate(visitor.visit_enum(ShortForm { reader: self, short }));
        }
        let variant = match &self.node.value {
            Value::Text(_) => self.node,
            Value::Table(entries) => {
                let kind = entries.iter().find(|e| e.key == "kind").map(|e| &e.node);
                kind.ok_or_else(|| {
                    let remedy = format!("add `kind = \"…\"`, one of {}", known.join(", "));
                    Fault::new("the key `kind` is missing", remedy).located(&self.node.place, self.path)
                })?
            }
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) | Value::Array(_) => {
                let remedy = format!("write one of {}", known.join(", "));
                return self.locate(Err(Fault::new("this is neither a name nor a table with `kind`", remedy)));
            }
        };
        self.locate(visitor.visit_enum(Variant { reader: self, variant }))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// A table read as an enum: the variant from `kind`, the other keys as its fields.
struct Variant<'a> {
    reader: Reader<'a>,
    variant: &'a Node,
}

impl<'de> de::EnumAccess<'de> for Variant<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let value = seed.deserialize(self.reader.child(self.variant))?;
        Ok((value, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        let Value::Table(entries) = &self.reader.node.value else { return Ok(()) };
        match entries.iter().find(|e| e.key != "kind") {
            None => Ok(()),
            Some(extra) => {
                let fault = <Fault as de::Error>::unknown_field(&extra.key, &["kind"]);
                Err(fault.located(&extra.key_place, self.reader.path))
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(Reader { skip: Some("kind"), ..self.reader })
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.reader.any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        // A name alone is a variant without fields; those that it needs are then missing.
        if matches!(self.reader.node.value, Value::Text(_)) {
            return visitor.visit_map(Fields { reader: self.reader, entries: [].iter(), current: None });
        }
        Reader { skip: Some("kind"), ..self.reader }.any(visitor)
    }
}

/// Enums that a bare text stands for: the text is one field of one variant.
struct Short {
    of: &'static str,
    variant: &'static str,
    field: &'static str,
}

const SHORT: [Short; 3] = [
    Short { of: "Sizes", variant: "fixed", field: "size" },
    Short { of: "Work", variant: "constant", field: "time" },
    Short { of: "Think", variant: "constant", field: "time" },
];

struct ShortForm<'a> {
    reader: Reader<'a>,
    short: &'static Short,
}

impl<'de> de::EnumAccess<'de> for ShortForm<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let variant: StrDeserializer<'_, Fault> = self.short.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for ShortForm<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.reader.any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(MapDeserializer::new(std::iter::once((self.short.field, self.reader))))
    }
}

struct Items<'a> {
    reader: Reader<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        self.reader.path.borrow_mut().push(index.to_string());
        let child = self.reader.child(node);
        let value = child.locate(seed.deserialize(child))?;
        self.reader.path.borrow_mut().pop();
        Ok(Some(value))
    }
}

struct Fields<'a> {
    reader: Reader<'a>,
    entries: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let skip = self.reader.skip;
        self.current = self.entries.find(|e| Some(e.key.as_str()) != skip);
        let Some(entry) = self.current else { return Ok(None) };
        self.reader.path.borrow_mut().push(entry.key.clone());
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        let value = seed.deserialize(key).map_err(|f| f.located(&entry.key_place, self.reader.path))?;
        self.reader.path.borrow_mut().pop();
        Ok(Some(value))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let entry = self.current.expect("serde asks for a value only after its key");
        self.reader.path.borrow_mut().push(entry.key.clone());
        let child = self.reader.child(&entry.node);
        let value = seed.deserialize(child).map_err(|f| {
            // A table of its own line is shown by its key: the span of a whole table is no place to look at.
            let place = if matches!(entry.node.value, Value::Table(_)) { &entry.key_place } else { &entry.node.place };
            f.located(place, self.reader.path)
        })?;
        self.reader.path.borrow_mut().pop();
        Ok(value)
    }
}
