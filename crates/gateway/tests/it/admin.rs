//! What administrators see and do.

use serde_json::json;
use troupe_store::{DeadLetter, DeadLetters as _};
use troupe_types::{EntityId, TaskId, Timestamp, Uuid};

use crate::node::Node;

fn letter(n: u128) -> DeadLetter {
    let message = json!({ "ask": "command", "command": { "command": "send", "message": "psst" } });
    DeadLetter {
        id: Uuid::from_u128(n),
        entity: EntityId::from(TaskId::derived(&["somebody's"])),
        message: message.to_string().into(),
        error: "scripted".to_owned(),
        strikes: 3,
        at: Timestamp::from_millis(1_795_000_000_000),
    }
}

#[tokio::test]
async fn dead_letters_are_listed_shown_without_their_texts_and_discarded_for_a_reason() {
    let mut node = Node::start().await;
    let (admin, _, bob) = node.people().await;
    for n in 1..=3 {
        node.store.put(letter(n)).await.unwrap();
    }
    let (status, page) = node.get(&admin, "/api/v1/admin/dead-letters?limit=2").await;
    assert_eq!((status, &page["total"]), (200, &json!(3)), "{page}");
    assert_eq!(page["items"][0]["what"], "command: send");
    let next = page["next"].as_str().unwrap();
    let path = format!("/api/v1/admin/dead-letters?cursor={next}");
    let (_, rest) = node.get(&admin, &path).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1, "{rest}");
    let id = page["items"][0]["id"].as_str().unwrap();
    let at = |verb: &str| format!("/api/v1/admin/dead-letters/{id}{verb}");
    let (_, shown) = node.get(&admin, &at("")).await;
    assert_eq!(shown["message"]["command"]["message"], "<4 characters>");
    assert!(!shown.to_string().contains("psst"), "{shown}");
    // Its entity cannot be reached here: the letter stays.
    assert_eq!(node.post(&admin, &at("/retry"), json!({})).await.0, 503);
    assert_eq!(node.get(&admin, &at("")).await.0, 200);
    let (status, why) = node.post(&admin, &at("/discard"), json!({ "reason": " " })).await;
    assert_eq!((status, &why["errors"][0]["path"]), (422, &json!("reason")));
    let reason = json!({ "reason": "seen to" });
    assert_eq!(node.post(&bob, &at("/discard"), reason.clone()).await.0, 403);
    assert_eq!(node.post(&admin, &at("/discard"), reason.clone()).await.0, 204);
    assert_eq!(node.post(&admin, &at("/discard"), reason).await.0, 404);
    let (_, audit) = node.get(&admin, "/api/v1/admin/audit").await;
    let told: Vec<_> = audit["items"].as_array().unwrap().iter().map(|i| &i["action"]).collect();
    assert_eq!(told, ["discard_dead_letter", "retry_dead_letter"], "the newest first: {audit}");
    assert_eq!(audit["items"][0]["outcome"], "done");
    assert_eq!(audit["items"][1]["outcome"], "not_delivered");
    assert!(audit["items"][0]["detail"].as_str().unwrap().contains("seen to"));
    assert_eq!(audit["items"][0]["user_name"], "admin");
}

#[tokio::test]
async fn a_single_node_says_what_it_cannot_do_and_unknown_things_are_not_found() {
    let mut node = Node::start().await;
    let (admin, ..) = node.people().await;
    let (_, nodes) = node.get(&admin, "/api/v1/admin/nodes").await;
    assert_eq!(nodes["items"][0]["name"], "local");
    let (status, why) = node.post(&admin, "/api/v1/admin/nodes/local/drain", json!({})).await;
    assert_eq!((status, &why["code"]), (409, &json!("only_node")), "{why}");
    let pause = json!({ "action": "pause" });
    assert_eq!(node.post(&admin, "/api/v1/admin/rebalance", pause).await.0, 409);
    let sideways = json!({ "action": "sideways" });
    assert_eq!(node.post(&admin, "/api/v1/admin/rebalance", sideways).await.0, 422);
    let to = json!({ "to": "other" });
    assert_eq!(node.post(&admin, "/api/v1/admin/shards/7/move", to.clone()).await.0, 409);
    for path in ["shards/1280/move", "shards/x/move", "nodes/nobody/drain"] {
        let path = format!("/api/v1/admin/{path}");
        assert_eq!(node.post(&admin, &path, to.clone()).await.0, 404, "{path}");
    }
    let (_, shard) = node.get(&admin, "/api/v1/admin/shards/7").await;
    assert_eq!((&shard["shard"], &shard["state"]), (&json!(7), &json!("unowned")), "{shard}");
    for path in ["actors?node=nobody", "queues?node=nobody", "dead-letters/x", "shards/1280"] {
        assert_eq!(node.get(&admin, &format!("/api/v1/admin/{path}")).await.0, 404, "{path}");
    }
    for path in
        ["dead-letters?limit=0", "dead-letters?cursor=x", "audit?limit=201", "audit?cursor=x"]
    {
        assert_eq!(node.get(&admin, &format!("/api/v1/admin/{path}")).await.0, 422, "{path}");
    }
    let restart = "/api/v1/admin/actors/robot%2F1/restart";
    assert_eq!(node.post(&admin, restart, json!({})).await.0, 404);
    let task = EntityId::from(TaskId::derived(&["nothing"])).to_string().replace('/', "%2F");
    let restart = format!("/api/v1/admin/actors/{task}/restart");
    let (status, told) = node.post(&admin, &restart, json!({})).await;
    assert_eq!((status, &told["outcome"]), (200, &json!("not_in_memory")));
}

#[tokio::test]
async fn the_doctor_checks_the_node_and_tells_of_dead_letters() {
    let mut node = Node::start().await;
    let (admin, ..) = node.people().await;
    let (status, report) = node.get(&admin, "/api/v1/admin/doctor").await;
    assert_eq!(status, 200);
    let state = |report: &serde_json::Value, name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name} in {report}"))["state"].clone()
    };
    for name in ["nodes", "store", "soft_state", "runs", "wakes", "dead_letters", "keys", "clock"] {
        assert_eq!(state(&report, name), "ok", "{name}: {report}");
    }
    node.store.put(letter(1)).await.unwrap();
    let (_, report) = node.get(&admin, "/api/v1/admin/doctor").await;
    assert_eq!(state(&report, "dead_letters"), "warn");
    assert_eq!(report["state"], "warn", "the worst of them: {report}");
}
