//! Sockets: handshake, order, expiry, revocation.

use std::time::Duration;

use serde_json::json;
use troupe_services::{Auth, AuthOptions, auth::RefreshProof};
use troupe_soft_state::InProcess;
use troupe_testkit::wait_until;

use crate::{
    node::{DEADLINE, Node},
    sio::Sio,
};

#[tokio::test]
async fn a_socket_proves_who_it_is_or_is_refused() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    for auth in [json!({}), json!({ "token": "x" }), json!({ "token": 7 }), json!([]), json!("x")] {
        let refused = Sio::with_auth(&node, &auth).await.err();
        assert_eq!(refused.as_deref(), Some("unauthorized"), "{auth}");
    }
    let (status, key) = node.post(&ann, "/api/v1/api-keys", json!({ "name": "ci" })).await;
    assert_eq!(status, 201);
    let by_key = Sio::connect(&node, key["key"].as_str().unwrap()).await;
    by_key.expect("an API key is as good");
    node.clock.advance(Duration::from_secs(901));
    let refused = Sio::connect(&node, &ann.token).await.err();
    assert_eq!(refused.as_deref(), Some("token_expired"));
    wait_until(DEADLINE, || async { node.gateway.sockets() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_of_one_socket_stay_in_order() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    for round in 0..10 {
        let mut numbers = Vec::new();
        for i in 0..40 {
            let text = format!("{round}-{i}");
            let payload = json!({ "task_id": task, "message": text });
            numbers.push(sio.emit("chat:send", &payload).await);
        }
        for number in numbers {
            let ack = sio.ack(number).await;
            assert_eq!(ack["task_id"], json!(task), "{ack}");
        }
    }
    let sent = node.tasks.sent.lock().unwrap().clone();
    let expected: Vec<String> =
        (0..10).flat_map(|round| (0..40).map(move |i| format!("{round}-{i}"))).collect();
    assert_eq!(sent[1..], expected, "the first one began the Task");
}

#[tokio::test]
async fn an_expired_token_is_told_refreshed_or_ends_the_socket() {
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let task = node.task(&ann).await;
    let mut kept = Sio::connect(&node, &ann.token).await.unwrap();
    let mut lost = Sio::connect(&node, &ann.token).await.unwrap();
    node.clock.advance(Duration::from_secs(901));
    for sio in [&mut kept, &mut lost] {
        assert_eq!(sio.event_named("auth:error").await["code"], "token_expired");
        let ack = sio.ask("task:join", json!({ "task_id": task })).await;
        assert_eq!(ack["code"], "token_expired", "until it is refreshed");
    }
    let old = kept.ask("auth:refresh", json!({ "token": ann.token })).await;
    assert_eq!(old["code"], "token_expired");
    let fresh = node.login("bob").await;
    assert_eq!(fresh.id, bob.id);
    let foreign = kept.ask("auth:refresh", json!({ "token": fresh.token })).await;
    assert_eq!(foreign["code"], "forbidden", "a socket stays with its user");
    let fresh = node.login("ann").await;
    let ack = kept.ask("auth:refresh", json!({ "token": fresh.token })).await;
    assert_eq!(ack["success"], true, "{ack}");
    node.clock.advance(Duration::from_secs(30));
    lost.until_closed().await;
    let ack = kept.ask("task:join", json!({ "task_id": task })).await;
    assert!(ack["head"].is_u64(), "{ack}");
}

#[tokio::test]
async fn a_revoked_session_gets_no_frame_after_five_seconds() {
    let mut node = Node::start().await;
    let (admin, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let other = node.login("ann").await;
    let mut ended = Sio::connect(&node, &ann.token).await.unwrap();
    let mut kept = Sio::connect(&node, &other.token).await.unwrap();
    for sio in [&mut ended, &mut kept] {
        sio.ask("task:join", json!({ "task_id": task })).await;
    }
    // By another process on the same store: this one has to hear of it.
    let clock: std::sync::Arc<dyn troupe_types::Clock> = std::sync::Arc::clone(&node.clock) as _;
    let store = std::sync::Arc::new(node.store.clone());
    let soft = InProcess::shared(std::sync::Arc::clone(&clock));
    let elsewhere = Auth::open(store, soft, clock, node.keys.clone(), AuthOptions::default());
    let elsewhere = elsewhere.await.unwrap();
    elsewhere.logout(RefreshProof::Body(ann.refresh.clone())).await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(ended.event_named("auth:error").await["code"], "session_ended");
    node.tasks.say(task, "for the other one");
    assert_eq!(ended.until_closed().await, 0, "no frame after the word");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(kept.frame().await.is_some());
    let refused = Sio::connect(&node, &ann.token).await.err();
    assert_eq!(refused.as_deref(), Some("session_ended"));
    // A deactivated user loses all of them.
    let path = format!("/api/v1/users/{}", ann.id);
    assert_eq!(node.ask(&admin, "DELETE", &path, None).await.0, 204);
    assert_eq!(kept.event_named("auth:error").await["code"], "session_ended");
    kept.until_closed().await;
    wait_until(DEADLINE, || async { node.gateway.sockets() == 0 && node.gateway.rooms() == 0 })
        .await;
}

#[tokio::test]
async fn a_draining_node_refuses_new_work_and_closes_its_sockets_in_the_end() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    sio.ask("task:join", json!({ "task_id": task })).await;
    node.gateway.drain();
    let ack = sio.ask("chat:send", json!({ "task_id": task, "message": "x" })).await;
    assert_eq!(ack["code"], "draining");
    node.tasks.say(task, "still flows");
    assert!(sio.frame().await.is_some());
    let (status, problem) = node.get(&ann, "/api/v1/tasks").await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("draining")));
    assert_eq!(node.get(&ann, "/health").await.0, 200);
    assert_eq!(node.get(&ann, "/ready").await.0, 503);
    node.gateway.close().await;
    sio.until_closed().await;
}
