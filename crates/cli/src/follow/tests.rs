use serde_json::json;
use troupe_types::LogId;

use super::*;
use crate::testing::{FakeNode, PATIENCE};

fn task() -> TaskId {
    TaskId::derived(&["followed"])
}

fn options(after: u64, past: u64) -> FollowOptions {
    let (after, past) = (FrameSeq(after), FrameSeq(past));
    FollowOptions { after, past, until: Until::TurnEnds, format: Format::Json }
}

fn chunk(seq: u64) -> Value {
    json!({"event": "chat:chunk", "data": {"seq": seq, "content": "x"}})
}

fn page(head: u64, frames: &[Value]) -> Value {
    json!({"log": LogId::derived(&["log"]), "head": head, "frames": frames})
}

/// Follows while the node says what it says.
async fn with<T>(
    node: &FakeNode,
    options: FollowOptions,
    says: impl Future<Output = T>,
) -> Result<Status, CliError> {
    let client = node.client();
    let both = async { tokio::join!(follow(&client, task(), options), says) };
    tokio::time::timeout(PATIENCE, both).await.unwrap().0
}

#[tokio::test]
async fn who_is_too_far_behind_reads_pages_and_resumes() {
    let node = FakeNode::start().await;
    let view = format!("/api/v1/tasks/{}", task());
    let frames = |after: u64| format!("{view}/frames?after={after}&limit=2000");
    let says = async {
        let too_far = json!({"success": false, "head": 4, "rejoin": true});
        node.resumed(1, &too_far).await;
        node.asked(&frames(1)).await.answer(200, &page(4, &[chunk(2), chunk(3)])).await;
        node.asked(&frames(3)).await.answer(200, &page(4, &[chunk(4)])).await;
        let mut stream = node.resumed(4, &json!({"success": true, "head": 5})).await;
        let ended = json!({"seq": 5, "status": "COMPLETED"});
        stream.event("task:updated", &ended).await;
    };
    assert_eq!(with(&node, options(1, 0), says).await.unwrap(), Status::Completed);
}

#[tokio::test]
async fn an_end_among_older_frames_is_the_end() {
    let node = FakeNode::start().await;
    let ended = json!({"event": "task:updated", "data": {"seq": 2, "status": "FAILED"}});
    let says = async {
        node.resumed(0, &json!({"success": false, "head": 3, "rejoin": true})).await;
        node.next().await.answer(200, &page(3, &[chunk(1), ended, chunk(3)])).await;
    };
    assert_eq!(with(&node, options(0, 0), says).await.unwrap(), Status::Failed);
}

#[tokio::test]
async fn another_history_is_told_and_not_tried_for_ever() {
    let node = FakeNode::start().await;
    let says = async {
        node.resumed(9, &json!({"success": false, "head": 3, "rejoin": true})).await;
        node.next().await.answer(200, &page(3, &[])).await;
    };
    let error = with(&node, options(9, 0), says).await.unwrap_err();
    assert!(error.to_string().contains("another history"), "{error}");
}

#[tokio::test]
async fn earlier_turns_that_ended_are_history() {
    let node = FakeNode::start().await;
    let says = async {
        let mut stream = node.resumed(0, &json!({"success": true, "head": 3})).await;
        for (seq, status) in [(1, "COMPLETED"), (2, "RUNNING"), (3, "FAILED")] {
            let data = json!({"seq": seq, "status": status});
            stream.event("task:updated", &data).await;
        }
        let view = json!({"status": "FAILED", "head": 3});
        node.asked(&format!("/api/v1/tasks/{}", task())).await.answer(200, &view).await;
        stream
    };
    assert_eq!(with(&node, options(0, 3), says).await.unwrap(), Status::Failed);
}

/// It has no token of its own to renew; the node it asked is being stopped.
#[tokio::test]
async fn a_node_that_drains_is_tried_again() {
    let node = FakeNode::start().await;
    let says = async {
        let draining = json!({"code": "draining", "error": "This node is being stopped."});
        node.turned_away(&draining).await;
        let mut stream = node.resumed(0, &json!({"success": true, "head": 1})).await;
        stream.event("task:updated", &json!({"seq": 1, "status": "CANCELLED"})).await;
    };
    assert_eq!(with(&node, options(0, 0), says).await.unwrap(), Status::Cancelled);
}
