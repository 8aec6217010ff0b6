//! A Task from the first message to the last frame.

use troupe_domain::task::{CollaborationModel, Transcript};
use troupe_entities::task::TaskError;
use troupe_sharding::StreamItem;
use troupe_types::{FrameBody, FrameSeq, MessageKind, Status};

use crate::host::{Host, all_frames, first, is_over, member, message, sent, solo, stores, team};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_answered_and_its_key_is_remembered() {
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    let plan = solo();
    let (task, command) = first(&plan, 1, "Tell me about actors. 你好 🙂");
    let address = host.task(task);
    assert!(matches!(address.view().await, Err(TaskError::Refused(_))), "not there yet");
    let ack = sent(&address, command.clone()).await;
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    assert_eq!(sent(&address, command).await, ack, "the same key, the same answer");

    let frames = all_frames(&address).await;
    let joined = address.join(20, None).await.unwrap();
    assert_eq!(joined.head, frames.last().unwrap().seq);
    let folded = Transcript::of(&frames).into_turns();
    assert_eq!(folded, joined.turns, "what a client folds is what the node says");
    let answer = &joined.turns[0].messages[1];
    assert_eq!(answer.status, Status::Completed);
    let done = frames.iter().find_map(|f| match &f.body {
        FrameBody::Done(done) => Some(done.clone()),
        _ => None,
    });
    assert_eq!(done.unwrap().offset, answer.content.chars().count() as u64);
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_see_every_frame_once_and_in_order() {
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    let (task, command) = first(&solo(), 2, "[[demo chunks=200 size=5]] go");
    let address = host.task(task);
    sent(&address, command).await;
    let (begin, mut stream) = address.subscribe(FrameSeq::ZERO).await.unwrap();
    assert!(begin.following);
    let mut seen = Vec::new();
    let mut done = false;
    while !done {
        match stream.recv().await.expect("the stream goes on") {
            StreamItem::Frames(batch) => {
                done = batch.iter().any(|f| {
                    matches!(&f.body, FrameBody::Task(t) if t.status == Some(Status::Completed))
                });
                seen.extend(batch.iter().cloned());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, all_frames(&address).await);
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_five_models_come_to_an_end() {
    use CollaborationModel::{Collaborate, Coordinate, Pipeline, Route, Solo};
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    for (n, model) in (10..).zip([Solo, Pipeline, Route, Coordinate, Collaborate]) {
        let members = vec![member("lead"), member("left"), member("right")];
        let plan = team(model, members);
        let (task, command) = first(&plan, n, "Compare two sorting algorithms.");
        let address = host.task(task);
        sent(&address, command).await;
        let status = host.until(task, is_over).await;
        let turns = address.join(20, None).await.unwrap().turns;
        assert_eq!(status, Status::Completed, "{model:?}: {turns:#?}");
        let kinds: Vec<MessageKind> = turns[0].messages.iter().map(|m| m.kind).collect();
        assert!(kinds.len() >= 2, "{model:?}: {kinds:?}");
        let frames = all_frames(&address).await;
        assert_eq!(Transcript::of(&frames).into_turns(), turns, "{model:?}");
    }
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_waits_and_a_confirmation_passes_it() {
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    let mut planner = member("planner");
    planner.require_confirmation = true;
    let plan = team(CollaborationModel::Pipeline, vec![planner, member("builder")]);
    let (task, command) = first(&plan, 20, "Write a parser.");
    let address = host.task(task);
    sent(&address, command).await;
    assert_eq!(host.until(task, is_over).await, Status::PendingConfirmation);
    address.confirm(troupe_types::Uuid::from_u128(77), None).await.unwrap();
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    let turns = address.join(20, None).await.unwrap().turns;
    let handoff = turns[0].messages.iter().find(|m| m.kind == MessageKind::Handoff).unwrap();
    assert!(handoff.content.contains("Write a parser."), "{}", handoff.content);
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_ends_the_run_and_a_retry_starts_it_again() {
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    let plan = solo();
    let (task, command) = first(&plan, 30, "[[demo hang=1]] never ends");
    let address = host.task(task);
    sent(&address, command).await;
    host.until(task, |s| s == Status::Running).await;
    let queued = sent(&address, message(&plan, 31, "and then this", None)).await;
    assert!(queued.queued);
    address.command(troupe_domain::task::Command::Cancel).await.unwrap();
    assert_eq!(host.until(task, is_over).await, Status::Cancelled);
    let joined = address.join(20, None).await.unwrap();
    assert_eq!(joined.task.queue.len(), 1, "the queue waits for the person");
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_needs_a_device_says_what_it_waits_for() {
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    let mut coder = member("coder");
    coder.shell_type = "ClaudeCode".into();
    let plan = team(CollaborationModel::Solo, vec![coder]);
    let (task, command) = first(&plan, 40, "fix it");
    let address = host.task(task);
    sent(&address, command).await;
    troupe_testkit::wait_until(crate::host::PATIENCE, async || {
        address.view().await.is_ok_and(|v| v.wait.is_some_and(|w| w.code == "no_device"))
    })
    .await;
    let why = address.why().await.unwrap();
    assert!(why.summary.contains("no device runs claude"), "{why:?}");
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_teams_slots_are_shared_and_every_task_gets_its_turn() {
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    let mut plan = (*solo()).clone();
    plan.max_concurrent_tasks = 1;
    plan.hash = plan.content_hash();
    let plan = std::sync::Arc::new(plan);
    let mut tasks = Vec::new();
    for key in 50..55 {
        let (task, command) = first(&plan, key, "[[demo chunks=20 size=5]] go");
        sent(&host.task(task), command).await;
        tasks.push(task);
    }
    for task in tasks {
        assert_eq!(host.until(task, is_over).await, Status::Completed);
    }
    host.drain().await;
}
