//! What a field means, for `troupe explain team.spec.members` and for editors.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::{
    kind::{Kind, UnknownKind},
    problem::suggest,
    schema::{self, Field, Form, METADATA, Object, Type},
};

/// What one field, or a kind, means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// `team.spec.members`
    pub path: String,
    /// `list of Member`
    #[serde(rename = "type")]
    pub type_name: String,
    /// Whether a document without it is refused.
    pub required: bool,
    /// What an absent field means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The words to choose from, or the bounds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// What it is for.
    pub doc: String,
    /// Where nothing uses it yet: how things are, or what to do, instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused: Option<String>,
    /// What is inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldSummary>,
}

/// A field inside of what is explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldSummary {
    /// As it is written.
    pub name: String,
    /// `list of Member`
    #[serde(rename = "type")]
    pub type_name: String,
    /// Whether a document without it is refused.
    pub required: bool,
    /// What an absent field means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it is for.
    pub doc: String,
}

/// There is nothing to explain.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExplainError {
    /// The first word is no kind.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// There is no such field.
    #[error("`{parent}` has no field `{field}`")]
    Field {
        /// Where it was looked for.
        parent: String,
        /// What was looked for.
        field: String,
        /// The nearest field, if one is near.
        suggestion: Option<String>,
        /// The fields that there are.
        allowed: Vec<String>,
    },
}

/// Explains a path like `team`, `team.spec.members`, `kb.spec.retrievalConfig.top_k`.
///
/// Indexes (`members[1]`) and keys of free mappings may stand in it; `spec` may be left out.
///
/// # Errors
/// If the kind or a field does not exist.
pub fn explain(path: &str) -> Result<Explanation, ExplainError> {
    let mut steps = path.split('.').map(|step| step.split('[').next().unwrap_or(step));
    let kind: Kind = steps.next().unwrap_or("").parse()?;
    let mut here = Here { path: kind.singular().to_owned(), at: At::Document(kind) };
    for step in steps.filter(|step| !step.is_empty()) {
        here = here.step(step)?;
    }
    Ok(here.explanation())
}

/// What is explained.
enum At {
    Document(Kind),
    Part(&'static Object),
    Field(&'static Field),
    /// A value of a free mapping.
    Value(&'static Type),
}

struct Here {
    path: String,
    at: At,
}

impl Here {
    fn step(self, step: &str) -> Result<Self, ExplainError> {
        let path = format!("{}.{step}", self.path);
        let inner = |object: &'static Object| object.field(step).map(At::Field);
        let found = match &self.at {
            At::Document(kind) => match step {
                "metadata" => Some(At::Part(&METADATA)),
                "spec" => Some(At::Part(schema::spec_of(*kind))),
                "status" => Some(At::Part(schema::status_of(*kind))),
                _ => inner(schema::document()).or_else(|| inner(schema::spec_of(*kind))),
            },
            At::Part(object) => inner(object),
            At::Field(field) => inside(item_of(&field.ty), step),
            At::Value(ty) => inside(item_of(ty), step),
        };
        if let Some(at) = found {
            return Ok(Self { path, at });
        }
        let allowed: Vec<String> = self
            .object()
            .map_or(&[][..], |object| object.fields)
            .iter()
            .map(|f| f.name.to_owned())
            .collect();
        let suggestion = suggest(step, allowed.iter().map(String::as_str));
        Err(ExplainError::Field { parent: self.path, field: step.to_owned(), suggestion, allowed })
    }

    fn object(&self) -> Option<&'static Object> {
        match &self.at {
            At::Document(_) => Some(schema::document()),
            At::Part(object) => Some(object),
            At::Field(field) => object_in(&field.ty),
            At::Value(ty) => object_in(ty),
        }
    }

    fn explanation(self) -> Explanation {
        let fields =
            self.object().map_or(&[][..], |object| object.fields).iter().map(summary).collect();
        let base = |type_name: String, doc: &str| Explanation {
            path: self.path.clone(),
            type_name,
            required: false,
            default: None,
            allowed: Vec::new(),
            doc: doc.to_owned(),
            unused: None,
            fields,
        };
        match &self.at {
            At::Document(kind) => Explanation {
                unused: schema::unused(*kind).map(str::to_owned),
                ..base(kind.name().to_owned(), schema::spec_of(*kind).doc)
            },
            At::Part(object) => base(object.name.to_owned(), object.doc),
            At::Field(field) => Explanation {
                required: field.required,
                default: field.default.to_value(),
                allowed: allowed(&field.ty),
                unused: field.unused.map(str::to_owned),
                ..base(type_name(&field.ty), field.doc)
            },
            At::Value(ty) => Explanation { allowed: allowed(ty), ..base(type_name(ty), "") },
        }
    }
}

fn summary(field: &'static Field) -> FieldSummary {
    FieldSummary {
        name: field.name.to_owned(),
        type_name: type_name(&field.ty),
        required: field.required,
        default: field.default.to_value(),
        doc: field.doc.to_owned(),
    }
}

/// The type of a list's items; any other type is itself.
fn item_of(ty: &'static Type) -> &'static Type {
    match ty {
        Type::List(list) => item_of(list.item),
        other => other,
    }
}

/// A field of an object, a value of a free mapping.
fn inside(ty: &'static Type, step: &str) -> Option<At> {
    match ty {
        Type::Object(object) => object.field(step).map(At::Field),
        Type::Map(map) => Some(At::Value(map.value)),
        _ => None,
    }
}

/// The object that lists and free mappings hold in the end.
fn object_in(ty: &'static Type) -> Option<&'static Object> {
    match ty {
        Type::Object(object) => Some(object),
        Type::List(list) => object_in(list.item),
        Type::Map(map) => object_in(map.value),
        _ => None,
    }
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::Text(text) => match text.form {
            Form::Url => "URL".to_owned(),
            Form::Name => "name".to_owned(),
            Form::Namespace => "namespace".to_owned(),
            Form::Selector => "device selector".to_owned(),
            Form::Cron => "cron expression".to_owned(),
            _ => "text".to_owned(),
        },
        Type::Choice(_) => "word".to_owned(),
        Type::Int { .. } => "whole number".to_owned(),
        Type::Number { .. } => "number".to_owned(),
        Type::Bool => "true or false".to_owned(),
        Type::Id => "id".to_owned(),
        Type::Time => "time".to_owned(),
        Type::Object(object) => object.name.to_owned(),
        Type::Map(map) => format!("mapping of {}", type_name(map.value)),
        Type::List(list) => format!("list of {}", type_name(list.item)),
        Type::Free => "mapping".to_owned(),
    }
}

fn allowed(ty: &Type) -> Vec<String> {
    match ty {
        Type::Choice(choice) => choice.values.iter().map(|word| (*word).to_owned()).collect(),
        Type::Int { min, max } if *max == i64::MAX => vec![format!("at least {min}")],
        Type::Int { min, max } => vec![format!("{min} to {max}")],
        Type::Number { min, max } => vec![format!("{min} to {max}")],
        Type::Text(text) => vec![format!("{} to {} characters", text.min, text.max)],
        Type::List(list) => vec![format!("{} to {} items", list.min, list.max)],
        Type::Map(map) => vec![format!("at most {} entries", map.max)],
        _ => Vec::new(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.path, self.type_name)?;
        if self.required {
            f.write_str(" required")?;
        }
        if let Some(default) = &self.default {
            write!(f, " = {default}")?;
        }
        writeln!(f)?;
        if !self.doc.is_empty() {
            writeln!(f, "  {}", self.doc)?;
        }
        if let Some(instead) = &self.unused {
            writeln!(f, "  nothing uses this yet: {instead}")?;
        }
        if !self.allowed.is_empty() {
            writeln!(f, "  allowed: {}", self.allowed.join(", "))?;
        }
        if !self.fields.is_empty() {
            writeln!(f, "\nfields:")?;
        }
        let width = self.fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
        for field in &self.fields {
            let mark = if field.required { "*" } else { " " };
            write!(f, "  {:width$}{mark} <{}>", field.name, field.type_name)?;
            if let Some(default) = &field.default {
                write!(f, " = {default}")?;
            }
            writeln!(f, "\n      {}", field.doc)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_a_list() {
        let text = explain("team.spec.members[0].contextPassing").unwrap().to_string();
        assert!(text.starts_with("team.spec.members.contextPassing <word> = \"none\""), "{text}");
        assert!(text.contains("original_and_previous"), "{text}");
        assert_eq!(explain("teams.members").unwrap().fields[0].name, "botRef");
    }

    #[test]
    fn keys_of_free_mappings_may_be_named() {
        let found = explain("ghost.spec.mcpServers.issues.headers").unwrap();
        assert_eq!(found.type_name, "mapping of text");
        assert_eq!(explain("ghost.spec.mcpServers").unwrap().fields[0].name, "type");
    }

    #[test]
    fn a_kind_has_its_four_parts() {
        let team = explain("Team").unwrap();
        let names: Vec<&str> = team.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["apiVersion", "kind", "metadata", "spec", "status"]);
    }

    #[test]
    fn every_field_of_every_kind_can_be_explained() {
        for kind in Kind::ALL {
            for field in schema::spec_of(kind).fields {
                let found = explain(&format!("{}.spec.{}", kind.singular(), field.name)).unwrap();
                assert_eq!(found.doc, field.doc);
            }
        }
    }

    #[test]
    fn near_misses() {
        let Err(ExplainError::Field { suggestion, .. }) = explain("team.spec.member") else {
            panic!("there is no such field");
        };
        assert_eq!(suggestion.as_deref(), Some("members"));
        assert!(matches!(explain("teem.spec"), Err(ExplainError::Kind(_))));
    }
}
