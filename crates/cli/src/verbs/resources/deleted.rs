//! `get --deleted` and `undelete`.

use serde_json::{Value, json};

use super::{list_path, plural, print_resources, seen};
use crate::{
    args::{Format, UndeleteArgs},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

/// What was deleted of a kind and can be restored.
pub(super) async fn list(
    client: &Client,
    format: Format,
    namespace: &str,
    kind: &str,
    names: &[String],
) -> Result<(), CliError> {
    let path = format!("/api/v1/namespaces/{}/deleted", segment(namespace));
    let mut listed: Value = client.get(&path).await?;
    if let Some(items) = listed["items"].as_array_mut() {
        let is_of = |item: &Value| item["kind"].as_str().and_then(|k| plural(k).ok()) == Some(kind);
        let is_named =
            |item: &Value| names.is_empty() || names.iter().any(|n| n == seen::name(item));
        items.retain(|item| is_of(item) && is_named(item));
    }
    let items = listed["items"].as_array().cloned().unwrap_or_default();
    let table = || {
        let mut table = Table::new(&["namespace", "name", "kind", "deleted"]);
        for item in &items {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &item["metadata"];
            table.row(vec![
                text(&metadata["namespace"]),
                text(&metadata["name"]),
                text(&item["kind"]),
                text(&metadata["deletedAt"]),
            ]);
        }
        table.render()
    };
    let name = |item: &Value| {
        let kind = item["kind"].as_str().unwrap_or_default().to_lowercase();
        format!("{kind}/{}", seen::name(item))
    };
    output::print(format, &listed, table, || items.iter().map(name).collect());
    Ok(())
}

pub(in crate::verbs) async fn undelete(
    client: &Client,
    format: Format,
    args: UndeleteArgs,
) -> Result<(), CliError> {
    let kind = plural(&args.kind)?;
    let mut restored = Vec::new();
    for name in &args.names {
        let path = format!("{}/{}", list_path(Some(&args.namespace), kind), segment(name));
        restored.push(client.post::<Value>(&format!("{path}/restore"), &json!({})).await?);
    }
    let value = match restored.len() {
        1 => restored.remove(0),
        _ => json!({"apiVersion": "agent.wecode.io/v1", "kind": "List", "items": restored}),
    };
    print_resources(format, &value);
    Ok(())
}
