//! Oversized, deeply nested and wrongly typed bodies over REST.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::node::{Home, Node, Person};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

async fn node() -> Result<(Home, Node, Person)> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let who = node.setup().await?;
    Ok((home, node, who))
}

/// What there is: Tasks and own resources.
async fn inventory(node: &Node, who: &Person) -> Result<(Value, Value)> {
    let tasks = node.get("/api/v1/tasks?limit=100", who).await?["total"].clone();
    let teams = node.get("/api/v1/namespaces/default/ghosts", who).await?;
    Ok((tasks, teams["metadata"]["resourceVersion"].clone()))
}

#[tokio::test]
async fn a_prompt_is_as_long_as_it_may_be() -> Result<()> {
    let (_home, node, who) = node().await?;
    let send = |bytes: usize| json!({"team_id": "assistant", "message": "x".repeat(bytes)});
    for (bytes, statuses) in [(10 * 1024 * 1024, [413]), (900 * 1024, [413]), (60_001, [413])] {
        let answer = node.call("POST", "/api/v1/tasks", Some(&who), Some(&send(bytes))).await?;
        answer.assert_problem(&statuses);
    }
    let before = inventory(&node, &who).await?;
    assert_eq!(before.0, 0, "nothing was made");
    let ack = node.post("/api/v1/tasks", Some(&who), &send(60_000)).await?;
    let task = ack["task_id"].as_str().unwrap_or_default().to_owned();
    node.settled(&who, &task, "COMPLETED").await?;
    // Characters of several bytes count as bytes.
    let wide = json!({"message": "漢".repeat(20_001)});
    let path = format!("/api/v1/tasks/{task}/messages");
    node.call("POST", &path, Some(&who), Some(&wide)).await?.assert_problem(&[413]);
    node.assert_well(&who).await
}

#[tokio::test]
async fn deep_and_broken_documents_are_refused() -> Result<()> {
    let (_home, node, who) = node().await?;
    let before = inventory(&node, &who).await?;
    let deep = |open: &str, close: &str| open.repeat(50_000) + "1" + &close.repeat(50_000);
    let bodies: Vec<(&str, &str, Vec<u8>)> = vec![
        ("/api/v1/tasks", JSON, deep("[", "]").into()),
        ("/api/v1/tasks", JSON, deep("{\"a\":", "}").into()),
        ("/api/v1/tasks", JSON, b"{\"message\": \"a".to_vec()),
        ("/api/v1/tasks", JSON, vec![0xff, 0xfe, 0x00]),
        ("/api/v1/tasks", JSON, Vec::new()),
        ("/api/v1/tasks", "text/plain", b"hello".to_vec()),
        ("/api/v1/namespaces/default/apply", YAML, deep("[", "]").into()),
        ("/api/v1/namespaces/default/apply", YAML, deep("{a: ", "}").into()),
        ("/api/v1/namespaces/default/apply", YAML, vec![b'-', b' ', 0xff, 0xfe]),
        ("/api/v1/namespaces/default/apply", YAML, b"kind: Team\n\tmetadata: x".to_vec()),
        ("/api/v1/namespaces/default/apply", YAML, b"a: &a [*a, *a]".to_vec()),
        ("/api/v1/namespaces/default/apply", YAML, vec![b'x'; 10 * 1024 * 1024]),
        ("/api/v1/namespaces/default/apply", JSON, b"{\"kind\": \"Team\"".to_vec()),
    ];
    for (path, kind, bytes) in bodies {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(30)]).into_owned();
        let answer = node.raw("POST", path, Some(&who), Some((kind, bytes))).await?;
        println!("{path} {shown:?}: {} {}", answer.status, answer.body["code"]);
        answer.assert_problem(&[400, 413, 415, 422]);
    }
    // Ten levels of tenfold aliases are a billion nodes.
    let mut bomb = "a0: &a0 x\n".to_owned();
    for n in 1..10 {
        let refs = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
    }
    let body = Some((YAML, bomb.into_bytes()));
    let answer = node.raw("POST", "/api/v1/namespaces/default/apply", Some(&who), body).await?;
    answer.assert_problem(&[400, 413, 422]);
    assert_eq!(inventory(&node, &who).await?, before, "nothing changed");
    node.assert_well(&who).await
}

#[tokio::test]
async fn wrong_types_are_named_by_their_field() -> Result<()> {
    let (_home, node, who) = node().await?;
    let before = inventory(&node, &who).await?;
    let cases = [
        ("/api/v1/tasks", json!({"team_id": 7, "message": "x"}), "team_id"),
        ("/api/v1/tasks", json!({"team_id": "assistant", "message": ["x"]}), "message"),
        (
            "/api/v1/tasks",
            json!({"team_id": "assistant", "message": "x", "client_message_id": "me"}),
            "client_message_id",
        ),
        ("/api/v1/users", json!({"user_name": 7, "password": "long enough"}), "user_name"),
        ("/api/v1/api-keys", json!({"name": {"a": 1}}), "name"),
    ];
    for (path, body, field) in cases {
        let answer = node.call("POST", path, Some(&who), Some(&body)).await?;
        answer.assert_problem(&[400, 422]);
        let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
        let named = errors.iter().any(|e| e["path"].as_str().is_some_and(|p| p.contains(field)))
            || answer.body["detail"].as_str().is_some_and(|d| d.contains(field));
        assert!(named, "{path} {body} does not name {field}: {}", answer.text);
    }
    // All or nothing: one bad document of two.
    let yaml = "kind: Ghost\nmetadata: {name: good}\nspec: {systemPrompt: Hi}\n---\n\
        kind: Ghost\nmetadata: {name: bad}\nspec: {systemPromt: Hi}\n";
    let body = Some((YAML, yaml.as_bytes().to_vec()));
    let answer = node.raw("POST", "/api/v1/namespaces/default/apply", Some(&who), body).await?;
    answer.assert_problem(&[400, 422]);
    assert!(answer.text.contains("systemPrompt"), "a suggestion: {}", answer.text);
    assert_eq!(inventory(&node, &who).await?, before, "nothing changed");
    node.assert_well(&who).await
}

#[tokio::test]
async fn strange_requests_get_a_clear_no() -> Result<()> {
    let (_home, node, who) = node().await?;
    let missing = [
        "/api/v1/tasks/tsk_nonsense",
        "/api/v1/no-such-thing",
        "/api/v1/namespaces/default/widgets",
        "/api/v1/namespaces/default/teams/%00",
    ];
    for path in missing {
        node.call("GET", path, Some(&who), None).await?.assert_problem(&[400, 404, 422]);
    }
    let queries = [
        "/api/v1/tasks?limit=many",
        "/api/v1/tasks?cursor=%F0%9F%99%82",
        "/api/v1/tasks?status=ASLEEP",
    ];
    for path in queries {
        node.call("GET", path, Some(&who), None).await?.assert_problem(&[400, 422]);
    }
    node.call("GET", "/api/v1/tasks", None, None).await?.assert_problem(&[401]);
    let method = node.call("DELETE", "/api/v1/meta", Some(&who), None).await?;
    method.assert_problem(&[404, 405]);
    // A page of another site cannot speak to the node by a name of its own.
    let host = reqwest::Client::new()
        .get(format!("{}/api/v1/meta", node.url))
        .header("host", "evil.example.org")
        .send()
        .await?;
    assert_eq!(host.status().as_u16(), 421);
    node.assert_well(&who).await
}

/// Every document of the corpus of bad ones, posted: what has to be said about it is, with its
/// place, and nothing is changed.
#[tokio::test]
async fn bad_documents_are_told_with_every_place_and_change_nothing() -> Result<()> {
    let (_home, node, who) = node().await?;
    let before = inventory(&node, &who).await?;
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/resources/tests/corpus");
    let mut posted = 0;
    for entry in fs::read_dir(corpus)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("no name")?;
        if name.ends_with(".expected.json") {
            continue;
        }
        let expected = fs::read_to_string(path.with_file_name(format!("{name}.expected.json")))?;
        let expected: Vec<Value> = serde_json::from_str(&expected)?;
        let kind = if name.ends_with(".json") { JSON } else { YAML };
        let body = Some((kind, fs::read(&path)?));
        let url = format!("/api/v1/namespaces/default/apply?file={name}");
        let answer = node.raw("POST", &url, Some(&who), body).await?;
        answer.assert_problem(&[422]);
        let told: Vec<(String, &str)> = answer.body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|e| (format!("{}:{}", e["line"], e["column"]), e["path"].as_str().unwrap_or("")))
            .collect();
        for fault in expected.iter().filter(|fault| fault["severity"] == "error") {
            let at = (
                fault["at"].as_str().unwrap_or("").to_owned(),
                fault["path"].as_str().unwrap_or(""),
            );
            ensure!(told.contains(&at), "{name}: {at:?} is not told: {told:?}");
        }
        ensure!(answer.body["errors"][0]["file"] == name, "{name}: {}", answer.text);
        posted += 1;
    }
    ensure!(posted > 100, "{posted} documents");
    assert_eq!(inventory(&node, &who).await?, before, "nothing changed");
    node.assert_well(&who).await
}
