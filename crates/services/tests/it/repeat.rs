//! The same command under the same key, whatever became of the Task and its Team meanwhile.

use troupe_api::chat::{ChatEdit, ChatSend};
use troupe_services::{Removal, Resources, Tasks};
use troupe_types::{Status, Uuid};

use crate::host::{Node, ann, bob, is_over, send, team};

#[tokio::test]
async fn a_repeated_send_gets_its_ack_after_the_task_was_deleted() {
    let node = Node::start().await;
    let ann = ann();
    let first = send(None, "[[demo chunks=3]] hello", Some(1));
    let ack = node.tasks.send(&ann, first.clone()).await.unwrap();
    let task = ack.task_id;
    node.until(&ann, task, is_over).await;
    let second = send(Some(task), "[[demo chunks=3]] more", Some(2));
    let more = node.tasks.send(&ann, second.clone()).await.unwrap();
    node.until(&ann, task, is_over).await;
    let edit = ChatEdit {
        task_id: task,
        subtask_id: more.message.unwrap(),
        message: "[[demo chunks=3]] other".into(),
        client_message_id: Some(Uuid::from_u128(3)),
        enable_deep_thinking: None,
    };
    let edited = node.tasks.edit(&ann, edit.clone()).await.unwrap();
    node.until(&ann, task, is_over).await;
    node.tasks.delete(&ann, task).await.unwrap();
    // This gateway knows the owner; another one has to find out.
    for tasks in [&node.tasks, &node.another_gateway_of_tasks()] {
        assert_eq!(tasks.send(&ann, first.clone()).await, Ok(ack.clone()));
        assert_eq!(tasks.send(&ann, second.clone()).await, Ok(more.clone()));
        assert_eq!(tasks.edit(&ann, edit.clone()).await, Ok(edited.clone()));
        let new = send(Some(task), "new", Some(4));
        assert_eq!(tasks.send(&ann, new).await.unwrap_err().status, 404);
        let keyless = send(Some(task), "[[demo chunks=3]] more", None);
        assert_eq!(tasks.send(&ann, keyless).await.unwrap_err().status, 404);
        // A foreign Task answers as an unknown one, keys or not.
        let foreign = tasks.send(&bob(), second.clone()).await.unwrap_err();
        let unknown = send(Some(troupe_types::TaskId::derived(&["x"])), "x", Some(2));
        assert_eq!(foreign, tasks.send(&bob(), unknown).await.unwrap_err());
    }
    assert_eq!(node.tasks.view(&ann, task).await.unwrap_err().status, 404, "it stays deleted");
}

#[tokio::test]
async fn a_repeated_send_gets_its_ack_after_its_team_was_deleted() {
    let node = Node::start().await;
    let ann = ann();
    node.applied(&ann, &team("mine", "")).await;
    let first =
        ChatSend { team_id: Some("mine".into()), ..send(None, "[[demo chunks=3]]", Some(1)) };
    let ack = node.tasks.send(&ann, first.clone()).await.unwrap();
    node.until(&ann, ack.task_id, is_over).await;
    node.resources.delete(&ann, "default", "team", "mine", Removal::default()).await.unwrap();
    assert_eq!(node.tasks.send(&ann, first.clone()).await, Ok(ack.clone()));
    let again = ChatSend { task_id: Some(ack.task_id), ..first };
    assert_eq!(node.tasks.send(&ann, again).await, Ok(ack.clone()));
    let new = send(Some(ack.task_id), "new", Some(2));
    let refused = node.tasks.send(&ann, new).await.unwrap_err();
    assert!(refused.detail.contains("team `default/mine`"), "{refused:?}");
}

#[tokio::test]
async fn a_repeated_confirmation_gets_its_ack_after_the_task_was_deleted() {
    let node = Node::start().await;
    let ann = ann();
    let begin = ChatSend {
        team_id: Some("plan-then-build".into()),
        ..send(None, "[[demo chunks=3]] plan", Some(1))
    };
    let task = node.tasks.send(&ann, begin).await.unwrap().task_id;
    node.until(&ann, task, |status| status == Status::PendingConfirmation).await;
    let confirm =
        ChatSend { action: Some("pipeline:confirm".into()), ..send(Some(task), "", Some(2)) };
    let ack = node.tasks.send(&ann, confirm.clone()).await.unwrap();
    node.until(&ann, task, is_over).await;
    node.tasks.delete(&ann, task).await.unwrap();
    for tasks in [&node.tasks, &node.another_gateway_of_tasks()] {
        assert_eq!(tasks.send(&ann, confirm.clone()).await, Ok(ack.clone()));
        assert_eq!(tasks.send(&bob(), confirm.clone()).await.unwrap_err().status, 404);
    }
}
