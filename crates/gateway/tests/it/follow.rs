//! Frames: in order, without a gap or a double, or an honest resync.

use std::{
    collections::BTreeSet,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use troupe_gateway::{GatewayOptions, NoConsole};
use troupe_sharding::StreamItem;
use troupe_soft_state::{News as _, Notice, Presence as _};
use troupe_testkit::wait_until;
use troupe_types::{Attempt, TaskId};

use crate::{
    fake::answer_id,
    node::{DEADLINE, Node},
    sio::Sio,
};

async fn join(sio: &mut Sio, task: TaskId) -> u64 {
    let ack = sio.ask("task:join", json!({ "task_id": task })).await;
    ack["head"].as_u64().unwrap_or_else(|| panic!("{ack}"))
}

/// Reads frames up to `head`; each must be the successor of the one before.
async fn read_to(sio: &mut Sio, mut last: u64, head: u64) {
    while last < head {
        let (event, data) = sio.frame().await.expect("frames until the head");
        assert_eq!(data["seq"], last + 1, "{event} {data}");
        last += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_in_the_middle_of_a_stream_have_no_gap_and_no_double() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    const FRAMES: u64 = 4_000;
    const READERS: u64 = 6;
    /// A reader joins every so many frames.
    const APART: u64 = 300;
    let mut readers = JoinSet::new();
    let joined = Arc::new(AtomicU64::new(0));
    for number in 0..READERS {
        let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
        let (tasks, joined) = (Arc::clone(&node.tasks), Arc::clone(&joined));
        readers.spawn(async move {
            let is_due = move || ready(tasks.head(task).0 >= number * APART);
            wait_until(DEADLINE, is_due).await;
            let head = join(&mut sio, task).await;
            joined.fetch_add(1, Ordering::SeqCst);
            read_to(&mut sio, head, FRAMES).await;
        });
    }
    let tasks = Arc::clone(&node.tasks);
    readers.spawn(async move {
        for said in 0..FRAMES {
            tasks.say_fast(task, "字", said);
            if said % 7 == 0 {
                tokio::task::yield_now().await;
            }
            // Nobody joins after the end: each has half of its stretch to join in.
            let due = (said / APART + 1).min(READERS);
            if said % APART == APART / 2 {
                let joined = Arc::clone(&joined);
                let have_joined = move || ready(joined.load(Ordering::SeqCst) >= due);
                wait_until(DEADLINE, have_joined).await;
            }
        }
    });
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    assert_eq!(node.tasks.follows(task), 1, "one subscription for all viewers");
}

#[tokio::test]
async fn a_resume_from_any_seq_gets_exactly_what_is_missing_and_then_live() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    for i in 0..500 {
        node.tasks.say_fast(task, "😀x", i * 2);
    }
    let head = node.tasks.head(task).0;
    let mut inside = Sio::connect(&node, &ann.token).await.unwrap();
    join(&mut inside, task).await;
    for after in [0, 1, 2, 57, 333, head - 1, head] {
        let mut outside = Sio::connect(&node, &ann.token).await.unwrap();
        for sio in [&mut inside, &mut outside] {
            let head = node.tasks.head(task).0;
            let ask = json!({ "task_id": task, "after": after });
            let ack = sio.ask("chat:resume", ask).await;
            assert_eq!(ack, json!({ "success": true, "head": head }));
            sio.forget();
            read_to(sio, after, head).await;
            let live = node.tasks.say(task, "live").0;
            read_to(sio, head, live).await;
        }
    }
}

#[tokio::test]
async fn a_resume_that_is_too_far_behind_or_of_another_history_joins_anew() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    for i in 0..2_100 {
        node.tasks.say_fast(task, "x", i);
    }
    let head = node.tasks.head(task).0;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    for after in [0, head - 2_001, head + 1, u64::MAX] {
        let ack = sio.ask("chat:resume", json!({ "task_id": task, "after": after })).await;
        assert_eq!(ack["rejoin"], true, "{after}: {ack}");
        assert_eq!(ack["head"], head);
    }
    let after = head - 2_000;
    let ack = sio.ask("chat:resume", json!({ "task_id": task, "after": after })).await;
    assert_eq!(ack["success"], true);
    read_to(&mut sio, after, head).await;
    let big = "y".repeat(15_000);
    for i in 0..300 {
        node.tasks.say_fast(task, &big, i);
    }
    let ack = sio.ask("chat:resume", json!({ "task_id": task, "after": head })).await;
    assert_eq!(ack["rejoin"], true, "more than 4 MiB: {ack}");
}

#[tokio::test]
async fn the_contracts_resume_sends_the_text_after_an_offset_in_code_points() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    node.tasks.start(task, Attempt(1));
    node.tasks.say(task, "a😀中");
    node.tasks.say(task, "文é!");
    let row = answer_id(task);
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    let ask = |offset: u64, attempt: Option<u32>| json!({ "task_id": task, "subtask_id": row, "offset": offset, "attempt": attempt });
    let ack = sio.ask("chat:resume", ask(2, None)).await;
    assert_eq!(ack["success"], true, "{ack}");
    let chunk = sio.event_named("chat:chunk").await;
    assert_eq!((chunk["content"].as_str(), chunk["offset"].as_u64()), (Some("中文é!"), Some(2)));
    assert!(chunk.get("seq").is_none(), "it is no frame");
    let live = node.tasks.say(task, "…");
    let (_, data) = sio.frame().await.unwrap();
    assert_eq!((data["seq"].as_u64(), data["offset"].as_u64()), (Some(live.0), Some(6)));
    let ack = sio.ask("chat:resume", ask(99, Some(1))).await;
    assert_eq!(ack["success"], true, "nothing is left to send");
    let ack = sio.ask("chat:resume", ask(0, Some(2))).await;
    assert_eq!(ack["code"], "attempt_changed");
    node.tasks.start(task, Attempt(2));
    for attempt in [None, Some(1)] {
        let ack = sio.ask("chat:resume", ask(0, attempt)).await;
        assert_eq!(ack["code"], "attempt_changed", "{attempt:?}");
    }
    let ack = sio.ask("chat:resume", ask(0, Some(2))).await;
    assert_eq!(ack["success"], true);
}

#[tokio::test]
async fn the_contracts_cancel_names_a_row_and_needs_no_room() {
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let task = node.task(&ann).await;
    let row = json!({ "subtask_id": answer_id(task) });
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    assert_eq!(sio.ask("chat:cancel", row.clone()).await, json!({ "success": true }));
    let mut other = Sio::connect(&node, &bob.token).await.unwrap();
    assert_eq!(other.ask("chat:cancel", row).await["code"], "not_found");
}

#[tokio::test]
async fn a_broken_subscription_is_made_anew_without_a_gap() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    let mut last = join(&mut sio, task).await;
    for round in 0..6 {
        let with = if round % 2 == 0 { StreamItem::Ended } else { StreamItem::Lagged };
        node.tasks.say(task, "before");
        wait_until(DEADLINE, || async { node.tasks.followers(task) == 1 }).await;
        node.tasks.break_streams(task, with);
        let head = node.tasks.say(task, "while it is broken").0;
        read_to(&mut sio, last, head).await;
        last = head;
    }
}

#[tokio::test]
async fn another_history_sends_everybody_to_join_anew() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    join(&mut sio, task).await;
    wait_until(DEADLINE, || async { node.tasks.followers(task) == 1 }).await;
    node.tasks.restore(task);
    let resync = sio.event_named("task:resync").await;
    assert_eq!(resync["task_id"], json!(task));
    let head = join(&mut sio, task).await;
    let live = node.tasks.say(task, "new history").0;
    read_to(&mut sio, head, live).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_viewer_leaves_the_room_and_the_others_go_on() {
    let options =
        GatewayOptions { slow_after: Duration::from_millis(300), ..GatewayOptions::default() };
    let mut node = Node::with(options, Arc::new(NoConsole)).await;
    let (_, ann, bob) = node.people().await;
    let task = node.task(&ann).await;
    let mut frozen = Sio::connect(&node, &ann.token).await.unwrap();
    join(&mut frozen, task).await;
    let mut live = Sio::connect(&node, &ann.token).await.unwrap();
    let mut last = join(&mut live, task).await;
    let text = "z".repeat(16_000);
    for i in 0..1_500_u64 {
        let head = node.tasks.say_fast(task, &text, i).0;
        read_to(&mut live, last, head).await;
        last = head;
    }
    // The frozen one reads again: what it gets is in order and ends with the advice to join.
    let mut expected = None;
    let resync = loop {
        let Some((event, data)) = frozen.event().await else { break None };
        if event == "task:resync" {
            break Some(data);
        }
        if let Some(seq) = data["seq"].as_u64() {
            assert!(expected.is_none_or(|expected| seq == expected));
            expected = Some(seq + 1);
        }
    };
    assert!(expected.is_none_or(|seq| seq < last), "it did not get everything");
    if let Some(resync) = resync {
        assert_eq!(resync["task_id"], json!(task));
        let head = join(&mut frozen, task).await;
        let next = node.tasks.say_fast(task, "again", 0).0;
        read_to(&mut frozen, head, next).await;
    }
    drop((bob, live));
}

#[tokio::test]
async fn a_room_ends_with_its_last_viewer() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let mut one = Sio::connect(&node, &ann.token).await.unwrap();
    let mut two = Sio::connect(&node, &ann.token).await.unwrap();
    join(&mut one, task).await;
    let ack = two.ask("task:join", json!({ "task_id": task })).await;
    assert_eq!(ack["viewers"][0]["user_name"], "ann", "who looks is in the answer: {ack}");
    assert_eq!(node.gateway.rooms(), 1);
    wait_until(DEADLINE, || async { node.tasks.followers(task) == 1 }).await;
    assert_eq!(one.ask("task:leave", json!({ "task_id": task })).await["success"], true);
    node.tasks.say(task, "for two only");
    assert!(two.frame().await.is_some());
    drop(two);
    wait_until(DEADLINE, || async { node.gateway.rooms() == 0 && node.tasks.followers(task) == 0 })
        .await;
    // Leaving was heard: nothing came after it.
    let ack = one.ask("task:leave", json!({ "task_id": task })).await;
    assert_eq!(ack["success"], true);
    drop(one);
    wait_until(DEADLINE, || async { node.gateway.sockets() == 0 }).await;
}

#[tokio::test]
async fn presence_and_notices_are_told() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    join(&mut sio, task).await;
    let presence = sio.event_named("task:presence").await;
    assert_eq!(presence["viewers"][0]["user_name"], "ann");
    let payload = json!({ "task_id": task, "status": "RUNNING" });
    let user = ann.id.parse().unwrap();
    let notice = Notice { user, event: "task:status".into(), payload: payload.clone() };
    node.soft.notify(notice);
    assert_eq!(sio.event_named("task:status").await, payload);
}

#[tokio::test]
async fn presence_and_notices_go_from_node_to_node() {
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let other = node.another().await;
    let task = node.task(&ann).await;
    let mut here = Sio::connect(&node, &ann.token).await.unwrap();
    join(&mut here, task).await;
    let names = |presence: &Value| {
        let viewers = presence["viewers"].as_array().unwrap().iter();
        let names = viewers.map(|viewer| viewer["user_name"].as_str().unwrap().to_owned());
        // They come in the order of their ids, which are random.
        names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(names(&here.event_named("task:presence").await), ["ann"]);
    // There is no sharing of Tasks yet: it changes hands while ann looks on.
    node.tasks.give_to(task, bob.id.parse().unwrap());
    let mut there = Sio::connect(&other, &bob.token).await.unwrap();
    join(&mut there, task).await;
    for sio in [&mut here, &mut there] {
        assert_eq!(names(&sio.event_named("task:presence").await), ["ann", "bob"]);
    }
    let user = ann.id.parse().unwrap();
    let notice = Notice { user, event: "task:status".into(), payload: json!({ "n": 1 }) };
    other.soft.notify(notice);
    assert_eq!(here.event_named("task:status").await, json!({ "n": 1 }));
    drop(there);
    assert_eq!(names(&here.event_named("task:presence").await), ["ann"]);
    // A node without viewers of its own asks the others.
    wait_until(DEADLINE, async || node.soft.elsewhere(task).await.is_empty()).await;
    let (status, join) = other.get(&bob, &format!("/api/v1/tasks/{task}/join")).await;
    assert_eq!((status, names(&join)), (200, vec!["ann".to_owned()]));
    // A node that stops takes its word back.
    node.gateway.close().await;
    assert_eq!(other.soft.elsewhere(task).await, []);
}

#[tokio::test]
async fn who_may_not_look_any_more_is_sent_out() {
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let task = node.task(&ann).await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    join(&mut sio, task).await;
    wait_until(DEADLINE, || async { node.tasks.followers(task) == 1 }).await;
    node.tasks.give_to(task, bob.id.parse().unwrap());
    node.tasks.break_streams(task, StreamItem::Ended);
    sio.event_named("task:resync").await;
    node.tasks.say(task, "not for ann");
    let ack: Value = sio.ask("task:join", json!({ "task_id": task })).await;
    assert_eq!(ack["code"], "not_found");
    wait_until(DEADLINE, || async { node.gateway.rooms() == 0 }).await;
}
