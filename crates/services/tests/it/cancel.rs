//! A stop that names a Task, a row of it, or both.

use troupe_api::chat::ChatCancel;
use troupe_services::Tasks;
use troupe_testkit::wait_until;
use troupe_types::{MessageId, Status, TaskId};

use crate::host::{Node, PATIENCE, ann, bob, is_over, send};

const LONG: &str = "[[demo chunks=4000 size=8 pace=200]] long";

async fn answer_of(node: &Node, task: TaskId) -> MessageId {
    let mut row = None;
    wait_until(PATIENCE, async || {
        let page = node.tasks.turns(&ann(), task, None, 1).await.unwrap();
        row = page.turns[0].messages.get(1).map(|m| m.message);
        row.is_some()
    })
    .await;
    row.unwrap()
}

fn by_row(row: MessageId) -> ChatCancel {
    ChatCancel { task_id: None, subtask_id: Some(row) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_alone_is_enough() {
    let node = Node::start().await;
    let ann = ann();
    let mut running = Vec::new();
    for _ in 0..3 {
        let task = node.task(&ann, LONG).await;
        running.push((task, answer_of(&node, task).await));
    }
    let (task, row) = running[1];
    for foreign in [bob(), crate::host::admin()] {
        let refused = node.tasks.cancel(&foreign, by_row(row)).await.unwrap_err();
        let unknown = node.tasks.cancel(&foreign, by_row(MessageId::derived(&["x"]))).await;
        assert_eq!((refused.status, &refused), (404, &unknown.unwrap_err()));
    }
    node.another_gateway_of_tasks().cancel(&ann, by_row(row)).await.unwrap();
    node.until(&ann, task, is_over).await;
    let statuses = async || {
        let mut all = Vec::new();
        for (task, _) in &running {
            all.push(node.tasks.view(&ann, *task).await.unwrap().status);
        }
        all
    };
    assert_eq!(statuses().await, [Status::Running, Status::Cancelled, Status::Running]);
    // The person's own row of the turn names it too.
    let page = node.tasks.turns(&ann, running[2].0, None, 1).await.unwrap();
    node.tasks.cancel(&ann, by_row(page.turns[0].messages[0].message)).await.unwrap();
    node.until(&ann, running[2].0, is_over).await;
    node.tasks.cancel(&ann, by_row(running[0].1)).await.unwrap();
    node.until(&ann, running[0].0, is_over).await;
    let over = node.tasks.cancel(&ann, by_row(row)).await.unwrap_err();
    assert_eq!(over.status, 404, "nothing of it runs: {over:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_beside_its_task_stops_its_own_turn_only() {
    let node = Node::start().await;
    let ann = ann();
    let task = node.task(&ann, "[[demo chunks=3]] short").await;
    node.until(&ann, task, is_over).await;
    let old = answer_of(&node, task).await;
    node.tasks.send(&ann, send(Some(task), LONG, None)).await.unwrap();
    node.until(&ann, task, |status| status == Status::Running).await;
    let late = ChatCancel { task_id: Some(task), subtask_id: Some(old) };
    let refused = node.tasks.cancel(&ann, late).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (409, "wrong_state"));
    assert_eq!(node.tasks.view(&ann, task).await.unwrap().status, Status::Running);
    let row = answer_of(&node, task).await;
    let both = ChatCancel { task_id: Some(task), subtask_id: Some(row) };
    assert_eq!(node.tasks.cancel(&bob(), both.clone()).await.unwrap_err().status, 404);
    node.tasks.cancel(&ann, both).await.unwrap();
    node.until(&ann, task, is_over).await;
    assert_eq!(node.tasks.cancel(&ann, ChatCancel::default()).await.unwrap_err().status, 422);
}
