//! A value of a document, with its place.

use serde_json::{Number, Value};

use crate::{
    path::{Step, steps},
    problem::Position,
};

/// A document.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) root: Node,
    /// Something in it was told already; it must not be accepted.
    pub(crate) broken: bool,
}

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) data: Data,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Number {
        value: Number,
        /// As it was written: `1.20` is not `1.2` once it is put in quotes.
        raw: Box<str>,
    },
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Something that cannot be read as a value, which was told already.
    Bad,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// For messages: `text`, `a list`..
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Number { .. } => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
            Data::Bad => "no value",
        }
    }

    /// For messages: what stands here, `hidden` if it may be a secret.
    pub(crate) fn describe(&self, hidden: bool) -> String {
        match &self.data {
            Data::Bool(value) if !hidden => format!("the boolean `{value}`"),
            Data::Number { raw, .. } if !hidden => format!("the number `{raw}`"),
            Data::Text(text) if !hidden => format!("`{text}`"),
            _ => self.type_name().to_owned(),
        }
    }

    /// The same as plain JSON; positions are lost.
    pub(crate) fn to_value(&self) -> Value {
        match &self.data {
            Data::Null | Data::Bad => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number { value, .. } => Value::Number(value.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => items.iter().map(Self::to_value).collect(),
            Data::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_value())).collect()
            }
        }
    }

    /// Place of the nearest thing on the way to `path` (`members[1].botRef.name`) that exists.
    pub(crate) fn locate(&self, path: &str) -> Position {
        let mut here = self;
        let mut at = self.at;
        for step in steps(path) {
            let next = match (&here.data, step) {
                (Data::List(items), Step::Index(index)) => {
                    items.get(index).map(|item| (item.at, item))
                }
                (Data::Map(_), Step::Key(key)) => {
                    here.entry(&key).map(|entry| (entry.at, &entry.value))
                }
                _ => None,
            };
            let Some((place, node)) = next else { break };
            (at, here) = (place, node);
        }
        at
    }

    /// How many values this is, and how many bytes of text they hold.
    pub(crate) fn weight(&self) -> (usize, usize) {
        match &self.data {
            Data::Text(text) => (1, text.len()),
            Data::Number { raw, .. } => (1, raw.len()),
            Data::Null | Data::Bool(_) | Data::Bad => (1, 0),
            Data::List(items) => {
                items.iter().map(Self::weight).fold((1, 0), |a, b| (a.0 + b.0, a.1 + b.1))
            }
            Data::Map(entries) => entries.iter().fold((1, 0), |sum, entry| {
                let (values, bytes) = entry.value.weight();
                (sum.0 + values, sum.1 + bytes + entry.key.len())
            }),
        }
    }
}
