//! Documents on their way in and out: what the system decides is taken off and put on, and no
//! text may pass for a sealed secret.

use serde_json::{Value, json};
use troupe_api::{Problem, resource::ApplyResult};
use troupe_domain::namespace::{Item, Operation, Outcome};
use troupe_entities::models::looks_sealed;
use troupe_resources::{Kind, Resource, parse::Located, resource::Owner};
use troupe_types::Seq;

/// What a document may say but the system decides.
pub(super) fn strip(resource: &mut Resource) {
    let metadata = &mut resource.metadata;
    metadata.resource_version = None;
    metadata.generation = None;
    metadata.uid = None;
    metadata.created_at = None;
    metadata.updated_at = None;
    resource.status = Value::Null;
}

/// A stored resource as people read it.
pub(super) fn outside(item: &Item, owner: &Owner) -> Value {
    let mut value = item.document.clone();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), json!(item.version));
        metadata.insert("generation".into(), json!(item.generation));
        metadata.insert("uid".into(), json!(item.uid));
        metadata.insert("createdAt".into(), json!(item.created_at));
        metadata.insert("updatedAt".into(), json!(item.updated_at));
        metadata.insert("owner".into(), json!(owner));
    }
    if value.get("status").is_none_or(Value::is_null) {
        value["status"] = json!({"state": "Available"});
    }
    value
}

pub(super) fn shipped_outside(resource: &Resource) -> Value {
    let mut value = serde_json::to_value(resource).unwrap_or_default();
    value["metadata"]["owner"] = json!(Owner::Public);
    value["status"] = json!({"state": "Available"});
    value
}

/// Where the document holds text that would be opened like a sealed secret: it could name
/// another's.
pub(super) fn sealed_lookalikes(resource: &Resource) -> Vec<String> {
    let mut found = Vec::new();
    look(&resource.spec, "spec", &mut found);
    found
}

fn look(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) if looks_sealed(text) => found.push(path.to_owned()),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(n, item)| look(item, &format!("{path}[{n}]"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| look(value, &format!("{path}.{key}"), found));
        }
        _ => {}
    }
}

pub(super) fn parse_kind(kind: &str) -> Result<Kind, Problem> {
    kind.parse::<Kind>().map_err(|unknown| {
        let mut problem = Problem::new(404, "unknown_kind", unknown.to_string());
        if let Some(suggestion) = unknown.suggestion {
            problem.detail = format!("{}; did you mean `{suggestion}`?", problem.detail);
        }
        problem
    })
}

pub(super) fn internal() -> Problem {
    Problem::new(500, "internal", "a document could not be encoded")
}

fn operation_word(operation: Operation) -> &'static str {
    match operation {
        Operation::Created => "created",
        Operation::Updated => "updated",
        Operation::Unchanged => "unchanged",
        Operation::Deleted => "deleted",
        Operation::Restored => "restored",
    }
}

/// Documents by Namespace, in the order of their first one.
pub(super) fn by_namespace(documents: Vec<Located>) -> Vec<(String, Vec<Located>)> {
    let mut groups: Vec<(String, Vec<Located>)> = Vec::new();
    for document in documents {
        let namespace = document.resource.metadata.namespace.clone();
        match groups.iter_mut().find(|(name, _)| *name == namespace) {
            Some((_, group)) => group.push(document),
            None => groups.push((namespace, vec![document])),
        }
    }
    groups
}

pub(super) fn results(
    outcomes: Vec<Outcome>,
    namespace: &str,
) -> impl Iterator<Item = ApplyResult> {
    outcomes.into_iter().map(move |outcome| ApplyResult {
        kind: outcome.key.kind.to_string(),
        name: outcome.key.name,
        namespace: namespace.to_owned(),
        operation: operation_word(outcome.operation).to_owned(),
        success: true,
    })
}

pub(super) fn parse_version(field: &str, text: &str) -> Result<Seq, Problem> {
    let parsed = text.trim_matches('"').parse().map(Seq);
    parsed.map_err(|_| Problem::invalid(field, "a resourceVersion is a whole number"))
}
