//! The document is whole: every route, every reference, every live operation.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::chat::CLIENT_EVENTS;
use troupe_gateway::{Gateway, http, live};

use crate::node::Node;

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                found.insert(reference.to_owned());
            }
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_served_and_whole() {
    let node = Node::start().await;
    let answer = node.http.get(node.at("/api/v1/openapi.json")).send().await.unwrap();
    let document: Value = answer.json().await.unwrap();
    assert_eq!(document, serde_json::to_value(Gateway::openapi()).unwrap());
    let mut ids = BTreeSet::new();
    for route in http::routes() {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        let id = operation["operationId"].as_str();
        assert_eq!(id, Some(route.id), "{} {}", route.method, route.path);
        assert!(ids.insert(route.id), "{} is there twice", route.id);
        assert!(operation["summary"].as_str().is_some_and(|s| s.ends_with('.')), "{}", route.id);
        assert!(operation["responses"][route.status.to_string()].is_object(), "{}", route.id);
    }
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "schemas are referred to");
    for reference in found {
        let path = reference.trim_start_matches('#');
        assert!(document.pointer(path).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_client_event_is_one_operation() {
    let known: BTreeSet<&str> = live::ops().iter().map(|op| op.name).collect();
    assert_eq!(known, CLIENT_EVENTS.iter().copied().collect());
    assert_eq!(known.len(), live::ops().len());
    let document = serde_json::to_value(Gateway::openapi()).unwrap();
    let listed = document["x-live-operations"].as_array().unwrap();
    assert_eq!(listed.len(), known.len());
    for row in listed {
        assert!(row["payload"]["$ref"].is_string(), "{row}");
    }
}
