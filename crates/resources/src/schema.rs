//! What each kind's documents may hold: one table per object, the only source of the rules.
//!
//! The tables drive the validator, the defaults, `explain`, the JSON Schema and the masking of
//! secrets. The typed specs in [`crate::spec`] are read from what the validator lets through;
//! a test shows that tables and types name the same fields.

mod agent;
mod common;
mod device;
mod envelope;
mod knowledge;
mod model;
mod skill;
mod subscription;
mod team;
mod template;
mod work;

pub(crate) use envelope::{API_VERSION, METADATA};

use crate::{kind::Kind, validate::rules::Rule};

/// A mapping with named fields.
#[derive(Debug)]
pub struct Object {
    /// For people and for `$defs`.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// In the order in which they are written.
    pub fields: &'static [Field],
    /// What one field demands of another; runs after the fields.
    pub(crate) rule: Option<Rule>,
}

impl Object {
    pub(crate) const fn new(
        name: &'static str,
        doc: &'static str,
        fields: &'static [Field],
    ) -> Self {
        Self { name, doc, fields, rule: None }
    }

    pub(crate) const fn rule(mut self, rule: Rule) -> Self {
        self.rule = Some(rule);
        self
    }

    /// Whether a secret may stand somewhere inside, so that its text is not for quoting.
    #[must_use]
    pub fn holds_secret(&self) -> bool {
        self.fields.iter().any(|field| field.secret || field.ty.holds_secret())
    }

    /// The field that is written like this, old spellings included.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name || field.aliases.contains(&name))
    }
}

/// A field of an [`Object`].
#[derive(Debug)]
pub struct Field {
    /// As it is written.
    pub name: &'static str,
    /// Other spellings that are read and never written.
    pub aliases: &'static [&'static str],
    /// What it holds.
    pub ty: Type,
    /// Whether a document without it is refused.
    pub required: bool,
    /// What an absent field means.
    pub default: Default,
    /// Whether its text is sealed at rest and masked on read.
    pub secret: bool,
    /// What it is for.
    pub doc: &'static str,
    /// Where nothing uses it yet: how things are instead. Whoever writes it is warned.
    pub unused: Option<&'static str>,
}

impl Field {
    const fn new(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            ty,
            required: false,
            default: Default::None,
            secret: false,
            doc,
            unused: None,
        }
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn or(mut self, default: Default) -> Self {
        self.default = default;
        self
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn unused(mut self, instead: &'static str) -> Self {
        self.unused = Some(instead);
        self
    }
}

/// What an absent field means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// Absent stays absent.
    None,
    /// This text.
    Text(&'static str),
    /// These texts.
    Texts(&'static [&'static str]),
    /// This number.
    Int(i64),
    /// This number.
    Number(f64),
    /// This truth value.
    Bool(bool),
    /// `[]`.
    List,
    /// `{}`.
    Map,
}

impl Default {
    /// As JSON; nothing if absent stays absent.
    #[must_use]
    pub fn to_value(self) -> Option<serde_json::Value> {
        use serde_json::Value;
        Some(match self {
            Self::None => return None,
            Self::Text(text) => text.into(),
            Self::Texts(texts) => texts.iter().copied().collect(),
            Self::Int(n) => n.into(),
            Self::Number(n) => n.into(),
            Self::Bool(b) => b.into(),
            Self::List => Value::Array(Vec::new()),
            Self::Map => Value::Object(serde_json::Map::new()),
        })
    }
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Text of a length and a form.
    Text(Text),
    /// One of some words.
    Choice(Choice),
    /// A whole number within bounds.
    Int {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A number within bounds.
    Number {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// `true` or `false`.
    Bool,
    /// Text, or a whole number that is kept as text.
    Id,
    /// A time as RFC 3339 writes it.
    Time,
    /// A mapping with named fields.
    Object(&'static Object),
    /// A mapping with free keys.
    Map(MapOf),
    /// A list.
    List(ListOf),
    /// A mapping that nobody looks into.
    Free,
}

impl Type {
    /// Whether a secret may stand somewhere inside.
    #[must_use]
    pub fn holds_secret(&self) -> bool {
        match self {
            Self::Object(object) => object.holds_secret(),
            Self::Map(map) => map.secret_by_key || map.value.holds_secret(),
            Self::List(list) => list.item.holds_secret(),
            Self::Free => true,
            _ => false,
        }
    }
}

/// Bounds and form of a text.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Fewest characters.
    pub min: usize,
    /// Most characters.
    pub max: usize,
    /// Most bytes of UTF-8, if that is bounded as well.
    pub bytes_max: Option<usize>,
    /// How it has to look.
    pub form: Form,
}

/// How a text has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any characters but control characters; line breaks and tabs are fine.
    Free,
    /// The same without line breaks.
    Line,
    /// Letters, digits, `-`, `_`, `.`, beginning with a letter or digit: safe in a URL's path.
    Name,
    /// Names with `/` between them.
    Namespace,
    /// `http://` or `https://` with a host and without credentials.
    Url,
    /// What git clones from, without a password.
    GitUrl,
    /// A device selector.
    Selector,
    /// Five fields of a cron expression.
    Cron,
    /// Name of a time zone, like `Europe/Berlin`.
    TimeZone,
    /// 64 lower-case hexadecimal digits.
    Sha256,
}

/// Words to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The words.
    pub values: &'static [&'static str],
    /// Other spellings, and the word that each becomes.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Words that are known and refused, each with its reason.
    pub refused: &'static [(&'static str, &'static str)],
    /// Whether other words pass with a warning.
    pub open: bool,
}

/// A mapping with free keys.
#[derive(Clone, Copy, Debug)]
pub struct MapOf {
    /// Of each value.
    pub value: &'static Type,
    /// Most entries.
    pub max: usize,
    /// Whether a value is a secret if its key reads like one (`Authorization`, `API_TOKEN`).
    pub secret_by_key: bool,
}

/// A list.
#[derive(Clone, Copy, Debug)]
pub struct ListOf {
    /// Of each item.
    pub item: &'static Type,
    /// Fewest items.
    pub min: usize,
    /// Most items.
    pub max: usize,
}

/// The spec of a kind.
#[must_use]
pub const fn spec_of(kind: Kind) -> &'static Object {
    match kind {
        Kind::Ghost => &agent::GHOST,
        Kind::Model => &model::MODEL,
        Kind::Shell => &agent::SHELL,
        Kind::Bot => &agent::BOT,
        Kind::Team => &team::TEAM,
        Kind::Skill => &skill::SKILL,
        Kind::Workspace => &work::WORKSPACE,
        Kind::Task => &work::TASK,
        Kind::Device => &device::DEVICE,
        Kind::KnowledgeBase => &knowledge::KNOWLEDGE_BASE,
        Kind::Retriever => &knowledge::RETRIEVER,
        Kind::Subscription => &subscription::SUBSCRIPTION,
        Kind::Template => &template::TEMPLATE,
        Kind::SkillBinding => &skill::BINDING,
    }
}

/// The status of a kind.
#[must_use]
pub const fn status_of(kind: Kind) -> &'static Object {
    match kind {
        Kind::Skill => &skill::STATUS,
        Kind::Task => &work::TASK_STATUS,
        Kind::Device => &device::STATUS,
        Kind::Subscription => &subscription::STATUS,
        _ => &envelope::STATUS,
    }
}

/// Where nothing uses a kind's documents yet: what to do instead.
#[must_use]
pub const fn unused(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Ghost
        | Kind::Model
        | Kind::Shell
        | Kind::Bot
        | Kind::Team
        | Kind::Skill
        | Kind::Template
        | Kind::SkillBinding => return None,
        Kind::Workspace => "name the repository with the Task: `troupe run --repo URL`",
        Kind::Task => "begin a Task with `troupe run`, or in the console",
        Kind::Device => "a device enrols itself: `troupe device invite`",
        Kind::KnowledgeBase | Kind::Retriever => {
            "give the Ghost an MCP server that searches: `spec.mcpServers`"
        }
        Kind::Subscription => "have `troupe run` called at its times, by cron for example",
    })
}

/// The whole document of a kind; its `kind` field allows every kind.
#[must_use]
pub const fn document() -> &'static Object {
    &envelope::DOCUMENT
}
