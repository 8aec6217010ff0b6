//! Followers that begin anywhere get every frame once, in order.

use troupe_entities::{TaskAddress, TaskOptions};
use troupe_services::{TaskStream, Tasks};
use troupe_sharding::StreamItem;
use troupe_testkit::wait_until;
use troupe_types::{FrameSeq, TaskId};

use crate::host::{Node, PATIENCE, ann, bob, is_over, send};

async fn read_to(stream: &mut TaskStream, mut last: FrameSeq, head: FrameSeq) -> FrameSeq {
    while last < head {
        let item = tokio::time::timeout(PATIENCE, stream.frames.recv()).await.expect("in time");
        let Some(StreamItem::Frames(frames)) = item else { panic!("{item:?} after {last}") };
        for frame in frames.iter() {
            assert_eq!(frame.seq, last.next());
            last = frame.seq;
        }
    }
    last
}

async fn head(node: &Node, task: TaskId) -> FrameSeq {
    node.tasks.view(&ann(), task).await.unwrap().head
}

/// A Task whose memory, half a MiB of entries, does not reach back to its first frame.
async fn long(node: &Node) -> TaskId {
    let ann = ann();
    let task = node.task(&ann, "[[demo chunks=400 size=400]] turn 0").await;
    for turn in 1..6 {
        node.until(&ann, task, is_over).await;
        let text = format!("[[demo chunks=400 size=400]] turn {turn}");
        node.tasks.send(&ann, send(Some(task), &text, None)).await.unwrap();
    }
    node.until(&ann, task, is_over).await;
    let address = TaskAddress::new(node.router.clone(), task);
    wait_until(PATIENCE, async || !address.subscribe(FrameSeq::ZERO).await.unwrap().0.following)
        .await;
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_catches_up_from_the_archive_and_then_follows() {
    let options = TaskOptions { snapshot_entries: 10, ..TaskOptions::default() };
    let node = Node::with(options).await;
    let (ann, task) = (ann(), long(&node).await);
    let middle = FrameSeq(head(&node, task).await.0 / 2);
    for after in [FrameSeq::ZERO, FrameSeq(1), middle, head(&node, task).await] {
        let mut stream = node.tasks.follow(&ann, task, after).await.unwrap();
        let now = head(&node, task).await;
        assert!(stream.head <= now);
        let last = read_to(&mut stream, after, now).await;
        // What comes now comes live, through the same stream.
        node.tasks.send(&ann, send(Some(task), "[[demo chunks=5]] more", None)).await.unwrap();
        node.until(&ann, task, is_over).await;
        read_to(&mut stream, last, head(&node, task).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_catches_up_while_the_task_goes_on() {
    let options = TaskOptions { snapshot_entries: 10, ..TaskOptions::default() };
    let node = Node::with(options).await;
    let (ann, task) = (ann(), long(&node).await);
    let text = "[[demo chunks=400 size=6 pace=400]] a long one";
    node.tasks.send(&ann, send(Some(task), text, None)).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(node.tasks.follow(&ann, task, FrameSeq::ZERO).await.unwrap());
    }
    // One that leaves early disturbs nobody.
    streams.pop();
    node.until(&ann, task, is_over).await;
    let end = head(&node, task).await;
    for mut stream in streams {
        read_to(&mut stream, FrameSeq::ZERO, end).await;
    }
}

#[tokio::test]
async fn nobody_follows_what_is_not_theirs_or_is_gone() {
    let node = Node::start().await;
    let task = node.task(&ann(), "[[demo chunks=3]] hello").await;
    let refused = node.tasks.follow(&bob(), task, FrameSeq::ZERO).await.unwrap_err();
    let unknown = TaskId::derived(&["unknown"]);
    let nothing = node.tasks.follow(&bob(), unknown, FrameSeq::ZERO).await.unwrap_err();
    assert_eq!(refused, nothing);
    node.until(&ann(), task, is_over).await;
    node.tasks.delete(&ann(), task).await.unwrap();
    let gone = node.tasks.follow(&ann(), task, FrameSeq::ZERO).await.unwrap_err();
    assert_eq!(gone, nothing);
}
