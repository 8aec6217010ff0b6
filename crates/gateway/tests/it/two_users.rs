//! Two users, generated from the OpenAPI document and the table of live operations: a foreign
//! id answers exactly as an unknown one. An operation that says not who may call it fails.

use serde_json::{Value, json};
use troupe_gateway::{Gateway, http::Access, live};
use troupe_types::{ApiKeyId, MessageId, TaskId, UserId};

use crate::{
    node::{Node, Person},
    sio::Sio,
};

/// A body that has the right form for any operation on a Task.
fn any_body() -> Value {
    let row = MessageId::derived(&["row"]);
    json!({ "message": "x", "subtask_id": row, "op": "resume", "title": "x",
        "block_id": "1.1.1", "answer": "allow" })
}

/// An answer without what differs by design: the request's id, and the ids asked for.
fn comparable((status, body): (u16, Value), ids: &[&str]) -> (u16, String) {
    let mut body = body;
    if let Some(fields) = body.as_object_mut() {
        fields.remove("request_id");
    }
    let text = ids.iter().fold(body.to_string(), |text, id| text.replace(id, "ID"));
    (status, text)
}

fn operations() -> Vec<(String, String, String, bool)> {
    let document = serde_json::to_value(Gateway::openapi()).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let access = operation["x-access"].as_str();
            let access = access.unwrap_or_else(|| panic!("{method} {path} has no x-access"));
            let takes = operation.get("requestBody").is_some();
            found.push((method.to_uppercase(), path.clone(), access.to_owned(), takes));
        }
    }
    found
}

#[tokio::test]
async fn rest_answers_a_foreign_id_exactly_as_an_unknown_one() {
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let mut checked = 0;
    for (method, path, access, takes) in operations() {
        let body = takes.then(|| match (method.as_str(), path.as_str()) {
            ("PATCH", "/api/v1/tasks/{id}") => json!({ "title": "x" }),
            _ => any_body(),
        });
        let compare = async |foreign: String, unknown: String, what: &str| {
            let at = |id: &str| path.replace("{id}", id).replace("{host}", id);
            let (a, b) = (at(&foreign), at(&unknown));
            let theirs = node.ask(&bob, &method, &a, body.clone()).await;
            let nothing = node.ask(&bob, &method, &b, body.clone()).await;
            let ids = [foreign.as_str(), unknown.as_str()];
            let theirs = comparable(theirs, &ids);
            assert_eq!(theirs, comparable(nothing, &ids), "{method} {path}");
            assert_eq!(theirs.0, 404, "{method} {path} of a foreign {what}: {}", theirs.1);
        };
        match access.as_str() {
            "task" => {
                let task = node.task(&ann).await.to_string();
                compare(task, TaskId::derived(&["nothing"]).to_string(), "Task").await;
                compare("x".into(), "tsk_x".into(), "garbage").await;
            }
            "owner" if path.contains("{host}") => {
                let host = "/api/v1/users/me/git/git.example.org";
                let put = node.ask(&ann, "PUT", host, Some(json!({ "token": "t" }))).await;
                assert_eq!(put.0, 200, "{}", put.1);
                compare("git.example.org".into(), "other.example.org".into(), "git token").await;
            }
            "owner" if path.contains("/skills/") => {
                let zip = node.http.post(node.at("/api/v1/kinds/skills/upload?name=s"));
                let zip = zip.header("content-type", "application/zip").body("PK");
                let made = zip.bearer_auth(&ann.token).send().await.unwrap();
                assert_eq!(made.status(), 201);
                compare("id-s".into(), "id-nothing".into(), "Skill").await;
            }
            "owner" => {
                let (_, key) = node.post(&ann, "/api/v1/api-keys", json!({ "name": "k" })).await;
                let key = key["id"].as_str().unwrap().to_owned();
                compare(key, ApiKeyId::derived(&["nothing"]).to_string(), "key").await;
            }
            "admin" => {
                let unknown = UserId::derived(&["nothing"]).to_string();
                for id in [&ann.id, &unknown] {
                    let at = path.replace("{id}", id);
                    let (status, _) = node.ask(&bob, &method, &at, body.clone()).await;
                    assert_eq!(status, 403, "{method} {path}");
                }
            }
            "namespace" => namespaces(&node, &ann, &bob, (&method, &path), body).await,
            "scrape" => assert_eq!(node.ask(&bob, &method, &path, None).await.0, 403),
            "caller" | "open" | "proof" => {}
            other => panic!("{method} {path}: there is no check for access `{other}`"),
        }
        checked += 1;
    }
    assert!(checked >= 45, "only {checked} operations were checked");
}

/// A namespace of nobody the caller knows, and a resource of somebody else in `default`.
async fn namespaces(
    node: &Node,
    ann: &Person,
    bob: &Person,
    (method, path): (&str, &str),
    body: Option<Value>,
) {
    if !path.contains("{namespace}") {
        return;
    }
    let make = json!({ "metadata": { "name": "theirs" } });
    node.post(ann, "/api/v1/namespaces/default/teams", make).await;
    let at = |namespace: &str, name: &str| {
        path.replace("{namespace}", namespace).replace("{plural}", "teams").replace("{name}", name)
    };
    let foreign = node.ask(bob, method, &at("ann", "theirs"), body.clone()).await;
    let unknown = node.ask(bob, method, &at("nothing", "theirs"), body.clone()).await;
    let ids = ["ann", "nothing"];
    assert_eq!(comparable(foreign, &ids), comparable(unknown, &ids), "{method} {path}");
    if path.contains("{name}") {
        let foreign = node.ask(bob, method, &at("default", "theirs"), body.clone()).await;
        let unknown = node.ask(bob, method, &at("default", "nothing"), body).await;
        assert_eq!(foreign.0, 404, "{method} {path}");
        let ids = ["theirs", "nothing"];
        assert_eq!(comparable(foreign, &ids), comparable(unknown, &ids), "{method} {path}");
    }
}

#[tokio::test]
async fn nothing_but_what_is_open_answers_without_a_login() {
    let node = Node::start().await;
    for (method, path, access, takes) in operations() {
        if matches!(access.as_str(), "open" | "proof") {
            continue;
        }
        let at = path.replace("{id}", "x").replace("{namespace}", "default");
        let request = node.http.request(method.parse().unwrap(), node.at(&at));
        let request = if takes { request.json(&any_body()) } else { request };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{method} {path}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn live_operations_answer_a_foreign_id_exactly_as_an_unknown_one() {
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let task = node.task(&ann).await;
    let unknown = TaskId::derived(&["nothing"]);
    let mut sio = Sio::connect(&node, &bob.token).await.unwrap();
    let payload = |task: TaskId| {
        let mut payload = any_body();
        payload["task_id"] = json!(task);
        payload["after"] = json!(0);
        payload["after_message_id"] = json!(0);
        payload
    };
    for op in live::ops() {
        match op.access {
            Access::Task => {
                let mut resumes = vec![(payload(task), payload(unknown))];
                if op.name == "chat:resume" {
                    let by_seq = |task| json!({ "task_id": task, "after": 0 });
                    resumes.push((by_seq(task), by_seq(unknown)));
                }
                for (foreign, nothing) in resumes {
                    let foreign = sio.ask(op.name, foreign).await;
                    let nothing = sio.ask(op.name, nothing).await;
                    assert_eq!(foreign, nothing, "{}", op.name);
                    assert_eq!(foreign["code"], "not_found", "{}", op.name);
                }
            }
            // Leaving what one does not look at says nothing about it.
            Access::Caller => {
                let foreign = sio.ask(op.name, payload(task)).await;
                assert_eq!(foreign, sio.ask(op.name, payload(unknown)).await, "{}", op.name);
            }
            Access::Proof => {}
            other => panic!("{}: there is no check for access {other:?}", op.name),
        }
    }
    let listed = node.get(&bob, "/api/v1/tasks").await.1;
    assert_eq!(listed["total"], 0, "lists hold one's own only");
}
