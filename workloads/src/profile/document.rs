//! A TOML text as a tree whose every key and value knows where it was written, and the overrides laid over it.
//!
//! Leaves out what keys mean: the reader gives them types.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ProfileError;

/// Where something was written: which text (0 is the file, then each override), and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) text: usize,
    pub(crate) span: Range<usize>,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// A TOML value; dates are kept as text, no field of a profile is one.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Date(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// One `key = value`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

/// The file's text with its overrides applied.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Name and text of the file and of each override, as error messages show them.
    texts: Vec<(String, String)>,
    pub(crate) root: Node,
}

impl Document {
    /// Parses a TOML text; a syntax fault is shown where it stands.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, ProfileError> {
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let remedy = "write TOML 1.0: `key = value`, strings in double quotes, tables as [name], lists as [[name]]";
            ProfileError::at(file, text, span, "", error.message(), remedy)
        })?;
        let file_text = (file.to_owned(), text.to_owned());
        let mut document = Self { texts: vec![file_text], root: empty_table(0, 0..text.len()) };
        let span = table.span();
        document.root = document.table(table.get_ref(), Place { text: 0, span }, 0)?;
        Ok(document)
    }

    /// What errors call the file.
    pub(crate) fn file(&self) -> &str {
        &self.texts[0].0
    }

    /// A fault at `place`.
    pub(crate) fn error(
        &self,
        place: &Place,
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ProfileError {
        let (file, text) = &self.texts[place.text];
        ProfileError::at(file, text, place.span.clone(), key, message, remedy)
    }

    /// A fault at the key `path`, or at the deepest part of it that was written.
    pub(crate) fn error_at(&self, path: &str, message: impl Into<String>, remedy: impl Into<String>) -> ProfileError {
        self.error(&self.find(path), path, message, remedy)
    }

    fn find(&self, path: &str) -> Place {
        let mut node = &self.root;
        // The whole text is no place to point at: a key that was not written is missing at the first line.
        let mut place = Place { text: 0, span: 0..0 };
        for part in path.split('.').filter(|p| !p.is_empty()) {
            let next = match &node.value {
                Value::Table(entries) => entries.iter().find(|e| e.key == part).map(|e| (&e.node, &e.key_place)),
                Value::Array(items) => part.parse().ok().and_then(|i: usize| items.get(i)).map(|n| (n, &n.place)),
                Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => None,
            };
            let Some((found, key_place)) = next else { break };
            node = found;
            place = match node.value {
                Value::Table(_) | Value::Array(_) => key_place.clone(),
                Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => {
                    node.place.clone()
                }
            };
        }
        place
    }

    /// Whether the key `path` was written.
    pub(crate) fn has(&self, key: &str) -> bool {
        matches!(&self.root.value, Value::Table(entries) if entries.iter().any(|e| e.key == key))
    }

    /// Lays `path=value` over the tree. `*` in the path stands for every element of a list, a number or an element's
    /// `name` for one of them. The value is TOML, or taken as text when it is none.
    pub(crate) fn set(&mut self, path: &str, value: &str) -> Result<(), ProfileError> {
        let text = self.texts.len();
        let start = path.len() + 1;
        self.texts.push((format!("--set {path}"), format!("{path}={value}")));
        let whole = Place { text, span: start..start + value.len() };
        let node = match DeValue::parse(value) {
            Ok(parsed) => self.value(&parsed, text, start)?,
            Err(_) => Node { value: Value::Text(value.to_owned()), place: whole },
        };
        let parts: Vec<&str> = path.split('.').map(str::trim).collect();
        if parts.iter().any(|p| p.is_empty()) {
            let place = Place { text, span: 0..path.len() };
            return Err(self.error(&place, path, "a part of this path is empty", "write --set path.to.field=value"));
        }
        let mut root = std::mem::replace(&mut self.root, empty_table(text, 0..0));
        let outcome = assign(&mut root, &parts, 0, &node);
        self.root = root;
        outcome.map_err(|Misfit { part, message, remedy }| {
            let from = parts[..part].iter().map(|p| p.len() + 1).sum::<usize>();
            let place = Place { text, span: from..from + parts[part].len() };
            self.error(&place, path, message, remedy)
        })
    }

    fn table(&self, table: &DeTable<'_>, place: Place, offset: usize) -> Result<Node, ProfileError> {
        let mut entries = Vec::new();
        for (key, value) in table {
            entries.push(Entry {
                key: key.get_ref().to_string(),
                key_place: Place { text: place.text, span: key.span().start + offset..key.span().end + offset },
                node: self.value(value, place.text, offset)?,
            });
        }
        // Keys in the order of the text, so that the first fault reported is the first one written.
        entries.sort_by_key(|e| e.key_place.span.start);
        Ok(Node { value: Value::Table(entries), place })
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, text: usize, offset: usize) -> Result<Node, ProfileError> {
        let span = value.span();
        let place = Place { text, span: span.start + offset..span.end + offset };
        let value =
            match value.get_ref() {
                DeValue::String(s) => Value::Text(s.to_string()),
                DeValue::Boolean(b) => Value::Boolean(*b),
                DeValue::Datetime(d) => Value::Date(d.to_string()),
                DeValue::Integer(i) => {
                    let number = i64::from_str_radix(i.as_str(), i.radix());
                    Value::Integer(number.map_err(|_| {
                        self.error(&place, "", "this number does not fit 64 bits", "write a number below 2^63")
                    })?)
                }
                DeValue::Float(x) => Value::Float(x.as_str().parse().map_err(|_| {
                    self.error(&place, "", "this number is not understood", "write a number such as 0.5")
                })?),
                DeValue::Array(items) => {
                    Value::Array(items.iter().map(|i| self.value(i, text, offset)).collect::<Result<_, _>>()?)
                }
                DeValue::Table(table) => {
                    return self.table(table, place, offset);
                }
            };
        Ok(Node { value, place })
    }
}

fn empty_table(text: usize, span: Range<usize>) -> Node {
    Node { value: Value::Table(Vec::new()), place: Place { text, span } }
}

/// Which part of an override's path does not fit the document.
struct Misfit {
    part: usize,
    message: String,
    remedy: String,
}

fn assign(node: &mut Node, parts: &[&str], depth: usize, new: &Node) -> Result<(), Misfit> {
    let Some(&part) = parts.get(depth) else {
        *node = new.clone();
        return Ok(());
    };
    match &mut node.value {
        Value::Table(entries) => {
            if let Some(entry) = entries.iter_mut().find(|e| e.key == part) {
                if depth + 1 == parts.len() {
                    entry.key_place = key_place(parts, depth, new);
                }
                return assign(&mut entry.node, parts, depth + 1, new);
            }
            let place = key_place(parts, depth, new);
            let mut node = if is_short_for(parts, depth + 1) {
                Node { value: Value::Text(String::new()), place: place.clone() }
            } else {
                empty_table(place.text, place.span.clone())
            };
            assign(&mut node, parts, depth + 1, new)?;
            entries.push(Entry { key: part.to_owned(), key_place: place, node });
            Ok(())
        }
        Value::Array(items) if part == "*" => items.iter_mut().try_for_each(|i| assign(i, parts, depth + 1, new)),
        Value::Array(items) => {
            let count = items.len();
            let index = part.parse().ok().or_else(|| items.iter().position(|i| name_of(i) == Some(part)));
            let item = index.and_then(|i: usize| items.get_mut(i)).ok_or_else(|| Misfit {
                part: depth,
                message: format!("`{part}` names no element of this list of {count}"),
                remedy: "write an element's number from 0, its name, or * for all of them".to_owned(),
            })?;
            assign(item, parts, depth + 1, new)
        }
        Value::Text(_) if is_short_for(parts, depth) => {
            *node = new.clone();
            Ok(())
        }
        Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => {
            let parent = parts[..depth].join(".");
            Err(Misfit {
                part: depth,
                message: format!("`{parent}` is one value, it has no field `{part}`"),
                remedy: format!("set `{parent}` as a whole"),
            })
        }
    }
}

/// Whether `depth` is the field that a text in its table's place stands for: `work = "80us"` is `work.time`.
fn is_short_for(parts: &[&str], depth: usize) -> bool {
    matches!(parts[depth - 1..], ["work" | "think", "time"] | ["sizes", "size"])
}

fn key_place(parts: &[&str], depth: usize, new: &Node) -> Place {
    let start = parts[..depth].iter().map(|p| p.len() + 1).sum::<usize>();
    Place { text: new.place.text, span: start..start + parts[depth].len() }
}

fn name_of(node: &Node) -> Option<&str> {
    let Value::Table(entries) = &node.value else { return None };
    entries.iter().find(|e| e.key == "name").and_then(|e| match &e.node.value {
        Value::Text(name) => Some(name.as_str()),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Date(_)
        | Value::Array(_)
        | Value::Table(_) => None,
    })
}
