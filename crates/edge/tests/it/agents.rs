//! An agent's life: work, answers, refusals, restarts.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use troupe_domain::task::RunEvent;
use troupe_edge::Policy;
use troupe_types::{Attempt, BlockStatus};
use troupe_wire::device::{
    AssignmentAnswer, AssignmentRefusal, AttemptKey, DeviceFrame, EndedHow, ExecutionState, Forget,
    InputFate, InputKind,
};

use crate::{
    engine::Script,
    owner::{World, again, assignment, until, with_secret},
};

async fn refusal(world: &World, prompt: &str) -> (AssignmentRefusal, String) {
    let before = world.owner.kept().answers.len();
    world.owner.assign(assignment(prompt)).await;
    let owner = world.owner.clone();
    until("an answer", || owner.kept().answers.len() > before).await;
    match world.owner.kept().answers.last().unwrap().clone() {
        AssignmentAnswer::Refused { reason, message, .. } => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn work_is_done_told_once_and_forgotten() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let key = world.owner.assign(assignment("say:50")).await;
    let ended = world.owner.whole(key).await;
    assert_eq!(ended.how, EndedHow::Finished);
    let (text, answer) = world.owner.answer(key);
    assert_eq!(answer.unwrap(), text);
    assert_eq!(text.split_whitespace().count(), 50);
    until("it is forgotten", || fs::read_dir(dir.path().join("executions")).unwrap().count() == 0)
        .await;
    let status = agent.status().await.unwrap();
    assert_eq!((status.slots_used, status.outbox_bytes), (0, 0));
    assert_eq!(status.link.state, "connected");
    let tools = agent.capabilities().tools;
    assert!(tools.iter().any(|tool| tool.name == "claude" && tool.version == "2.1.330"));
    agent.stop().await;
}

/// A workspace that nobody uses goes by itself, but not while its Task is on the device.
#[tokio::test]
async fn workspaces_go_when_nobody_uses_them() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut options = world.options(dir.path(), Arc::new(Script::default()));
    options.workspaces_unused_max = Some(Duration::ZERO);
    options.clean_every = Duration::from_millis(20);
    let agent = world.agent_with(options).await;
    let assigned = assignment("talk");
    let workspace = dir.path().join("workspaces").join(assigned.task.to_string());
    let key = world.owner.assign(assigned).await;
    let owner = world.owner.clone();
    until("it talks", || owner.answer(key).0.len() > 2_000).await;
    assert!(workspace.exists(), "it is used");
    world.owner.input(key, InputKind::Cancel, "").await;
    world.owner.ended(key).await;
    until("the workspace is gone", || !workspace.exists()).await;
    agent.stop().await;
}

/// A link moves once there is something better than what carries it, and nothing breaks by that.
#[tokio::test(start_paused = true)]
async fn a_link_moves_to_a_better_connection() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = world.agent(dir.path(), Arc::new(Script::default())).await;
    let mut link = agent.link();
    let moves = link.wait_for(|link| link.connects > 1);
    let moved = tokio::time::timeout(Duration::from_secs(1_000), moves).await;
    assert!(moved.is_err(), "there is nothing better: {moved:?}");
    drop(moved);
    world.better.store(true, Ordering::SeqCst);
    let moved = tokio::time::timeout(Duration::from_secs(400), async {
        link.wait_for(|link| link.connects == 2).await.unwrap().clone()
    });
    let moved = moved.await.unwrap();
    assert_eq!((moved.state.as_str(), moved.trouble), ("connected", None));
    let key = world.owner.assign(assignment("say:50")).await;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Finished);
    agent.stop().await;
}

/// Text streams while it is made, also if nothing ever pauses.
#[tokio::test]
async fn who_talks_on_and_on_is_heard() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = world.agent(dir.path(), Arc::new(Script::default())).await;
    let key = world.owner.assign(assignment("talk")).await;
    let owner = world.owner.clone();
    until("some text", || owner.events(key).len() > 3).await;
    let (text, _) = world.owner.answer(key);
    assert!(text.len() < 4_096, "it was heard early: {} bytes", text.len());
    agent.stop().await;
}

#[tokio::test]
async fn an_approval_is_asked_and_answered_once() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine).await;
    let key = world.owner.assign(assignment("say:1 ask say:1")).await;
    let owner = world.owner.clone();
    let asked = || {
        owner
            .events(key)
            .iter()
            .any(|e| matches!(e, RunEvent::Block { name, .. } if name == "ask-1"))
    };
    until("the question", asked).await;
    let status = agent.status().await.unwrap();
    assert_eq!(status.executions[0].state, "waiting");
    let id = world.owner.input(key, InputKind::Approval, r#"{"decision":"allow"}"#).await;
    world.owner.whole(key).await;
    let fates: Vec<_> = world.owner.kept().input_answers.iter().map(|a| (a.id, a.fate)).collect();
    assert_eq!(fates, [(id, InputFate::Taken)]);
    let closed = world.owner.events(key).into_iter().find_map(|event| match event {
        RunEvent::BlockChanged { name, patch } if name == "ask-1" => Some(patch),
        _ => None,
    });
    let closed = closed.unwrap();
    assert_eq!(
        (closed.status, closed.tool_output.as_deref()),
        (Some(BlockStatus::Done), Some("allowed"))
    );
    // Too late.
    let late = world.owner.input(key, InputKind::Approval, r#"{"decision":"allow"}"#).await;
    let owner = world.owner.clone();
    until("an answer", || owner.kept().input_answers.len() == 2).await;
    let last = world.owner.kept().input_answers[1].clone();
    assert_eq!((last.id, last.fate), (late, InputFate::Gone));
    agent.stop().await;
}

#[tokio::test]
async fn a_cancel_leaves_nothing_running() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let key = world.owner.assign(assignment("say:3 forever")).await;
    until("it runs", || engine.said.load(Ordering::SeqCst) == 3).await;
    world.owner.input(key, InputKind::Cancel, "").await;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Cancelled);
    assert_eq!(engine.running.load(Ordering::SeqCst), 0);
    assert_eq!(agent.status().await.unwrap().slots_used, 0);
    agent.stop().await;
}

#[tokio::test]
async fn what_the_policy_forbids_is_refused_by_name_and_never_starts() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let mut options = world.options(dir.path(), engine.clone());
    options.policy = Policy::parse("teams = ['other/*']").unwrap();
    options.slots = 1;
    let agent = world.agent_with(options).await;
    let (reason, message) = refusal(&world, "say:1").await;
    assert_eq!(reason, AssignmentRefusal::Policy);
    assert!(message.contains("`acme/dev-team`") && message.contains("`teams`"), "{message}");
    assert!(engine.launches.lock().unwrap().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn slots_and_drain_are_refused_in_words() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let mut options = world.options(dir.path(), engine.clone());
    options.slots = 1;
    let agent = world.agent_with(options).await;
    let first = world.owner.assign(assignment("forever")).await;
    until("it runs", || engine.running.load(Ordering::SeqCst) == 1).await;
    assert_eq!(refusal(&world, "say:1").await.0, AssignmentRefusal::NoSlot);
    world.owner.input(first, InputKind::Cancel, "").await;
    world.owner.ended(first).await;
    agent.drain(true).unwrap();
    assert_eq!(refusal(&world, "say:1").await.0, AssignmentRefusal::Draining);
    agent.drain(false).unwrap();
    let key = world.owner.assign(assignment("say:1")).await;
    world.owner.ended(key).await;
    agent.stop().await;
}

/// The next attempt begins only when nothing of the one before is left.
#[tokio::test]
async fn a_newer_attempt_takes_over_and_an_older_one_is_stale() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let one = assignment("forever");
    let (key, task) = (one.key, one.task);
    world.owner.assign(one.clone()).await;
    until("it runs", || engine.running.load(Ordering::SeqCst) == 1).await;
    let next = AttemptKey { attempt: Attempt(2), ..key };
    world.owner.assign(again(next, task, "say:2")).await;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Cancelled);
    assert_eq!(world.owner.ended(next).await.how, EndedHow::Finished);
    let stale = AttemptKey { attempt: Attempt(1), ..key };
    world.owner.kept().keep_ended = true;
    world.owner.assign(again(AttemptKey { attempt: Attempt(3), ..key }, task, "forever")).await;
    until("it runs", || engine.running.load(Ordering::SeqCst) == 1).await;
    world.owner.assign(again(stale, task, "say:1")).await;
    let owner = world.owner.clone();
    let is_stale = |a: &AssignmentAnswer| matches!(a, AssignmentAnswer::Refused { key, reason: AssignmentRefusal::Stale, .. } if *key == stale);
    until("it is refused", || owner.kept().answers.iter().any(is_stale)).await;
    agent.stop().await;
}

fn holds(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, needle);
        }
        fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
    })
}

/// The agent is gone without a word; the next one goes on in the session, with secrets that
/// were asked for again and lay on no disk.
#[tokio::test]
async fn an_execution_survives_a_crash_of_the_agent() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let key = world.owner.assign(with_secret(assignment("say:20 forever"))).await;
    let owner = world.owner.clone();
    until("output", || owner.answer(key).0.split_whitespace().count() == 20).await;
    assert!(!holds(dir.path(), b"sk-very-secret-value"), "a secret is on the disk");
    assert!(!holds(dir.path(), b"attempt-token"), "a token is on the disk");
    drop(agent);
    until("it is gone", || engine.running.load(Ordering::SeqCst) == 0).await;

    let agent = world.agent(dir.path(), engine.clone()).await;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Finished);
    let hello = world.owner.kept().hellos.last().unwrap().clone();
    let report = hello.executions.iter().find(|report| report.key == key).unwrap();
    assert!(report.last.0 > 0);
    let launches = engine.launches.lock().unwrap().clone();
    let [(None, _, first), (Some(session), prompt, second)] = launches.as_slice() else {
        panic!("{launches:?}")
    };
    assert_eq!(session, "session-1");
    assert!(prompt.contains("Go on where you stopped"), "{prompt}");
    assert_eq!(first, second, "the same secrets");
    assert!(first.contains(&"model-key".to_owned()) && first.contains(&"TROUPE_TOKEN".to_owned()));
    assert_eq!(world.owner.kept().secrets_asked, 1);
    let (text, answer) = world.owner.answer(key);
    assert_eq!(text.split_whitespace().count(), 23);
    assert_eq!(answer.unwrap(), text);
    agent.stop().await;
}

/// A planned stop pauses; what was asked to stop meanwhile stays stopped.
/// What has no session to go on in is not begun again: it may have done something.
#[tokio::test]
async fn a_run_that_cannot_go_on_is_not_run_twice() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    engine.forgets.store(true, Ordering::SeqCst);
    let agent = world.agent(dir.path(), engine.clone()).await;
    // It says nothing: only the record of its start tells that there was one.
    let key = world.owner.assign(assignment("forever")).await;
    until("it runs", || engine.running.load(Ordering::SeqCst) == 1).await;
    drop(agent);
    until("it is gone", || engine.running.load(Ordering::SeqCst) == 0).await;

    let agent = world.agent(dir.path(), engine.clone()).await;
    assert_eq!(world.owner.whole(key).await.how, EndedHow::Finished);
    let events = world.owner.events(key);
    let Some(RunEvent::Failed { text, .. }) = events.last() else { panic!("{events:?}") };
    assert!(text.contains("not known"), "{text}");
    assert_eq!(engine.launches.lock().unwrap().len(), 1, "it ran once");
    agent.stop().await;
}

#[tokio::test]
async fn a_cancel_that_comes_while_the_agent_is_down_counts() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let key = world.owner.assign(with_secret(assignment("say:2 forever"))).await;
    until("it runs", || engine.said.load(Ordering::SeqCst) == 2).await;
    agent.stop().await;
    assert_eq!(engine.running.load(Ordering::SeqCst), 0);
    world.owner.kept().wanted.get_mut(&key).unwrap().secrets.clear();
    world.owner.input(key, InputKind::Cancel, "").await;
    let agent = world.agent(dir.path(), engine.clone()).await;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Cancelled);
    assert_eq!(agent.status().await.unwrap().slots_used, 0);
    agent.stop().await;
}

/// Full: the runtime waits, nothing is dropped, and a cancel is still heard.
#[tokio::test]
async fn a_full_outbox_pauses_the_runtime() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let mut options = world.options(dir.path(), engine.clone());
    options.outbox_bytes_max = 4 * 1024 * 1024;
    let agent = world.agent_with(options).await;
    world.hub.cut(&world.name(), crate::owner::SERVER, true);
    world.owner.kept().wanted.clear();
    world.hub.cut(&world.name(), crate::owner::SERVER, false);
    world.owner.kept().mute = true;
    let key = world.owner.assign(assignment("big:2000")).await;
    until("it is paused", || {
        let said = engine.said.load(Ordering::SeqCst);
        (480..600).contains(&said)
    })
    .await;
    let mut state = String::new();
    for _ in 0..1_000 {
        let status = agent.status().await.unwrap();
        state.clone_from(&status.executions[0].state);
        assert!(status.outbox_bytes <= status.outbox_bytes_max, "{status:?}");
        if state == "paused" {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(state, "paused");
    let said = engine.said.load(Ordering::SeqCst);
    assert!(said < 600, "{said} of 2000 while nobody takes them");
    world.owner.kept().mute = false;
    // Any session that begins anew says what it has; the owner acknowledges what it kept.
    world.hub.sever(&world.name(), crate::owner::SERVER);
    let ended = world.owner.ended(key).await;
    assert_eq!(ended.how, EndedHow::Finished);
    // The end may be told before the last output arrived.
    let owner = world.owner.clone();
    let last = usize::try_from(ended.last.0).unwrap();
    until("all of it", || owner.kept().outputs[&key].len() == last).await;
    let (text, _) = world.owner.answer(key);
    assert_eq!(text.len(), 2_000 * 8 * 1024);
    agent.stop().await;
}

/// Work goes on without a network; everything arrives when it is back.
#[tokio::test]
async fn a_turn_ends_without_a_network_and_arrives_later() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let key = world.owner.assign(assignment("say:10 wait say:500")).await;
    until("it runs", || engine.said.load(Ordering::SeqCst) == 10).await;
    world.hub.cut(&world.name(), crate::owner::SERVER, true);
    let mut link = agent.link();
    let gone = link.wait_for(|link| link.state != "connected");
    drop(tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap().unwrap());
    world.hub.cut(&world.name(), crate::owner::SERVER, false);
    world.owner.input(key, InputKind::Steer, r#"{"text":"go on"}"#).await;
    assert_eq!(world.owner.whole(key).await.how, EndedHow::Finished);
    assert_eq!(world.owner.answer(key).0.split_whitespace().count(), 510);
    let report = world.owner.kept().hellos.last().unwrap().executions.clone();
    assert!(report.iter().any(|report| report.key == key && report.state != ExecutionState::Ended));
    agent.stop().await;
}

#[tokio::test]
async fn a_revoked_device_stops_its_work() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    world.owner.assign(assignment("forever")).await;
    until("it runs", || engine.running.load(Ordering::SeqCst) == 1).await;
    world.authority.0.lock().unwrap().push(world.device);
    until("it stopped", || engine.running.load(Ordering::SeqCst) == 0).await;
    let mut link = agent.link();
    drop(link.wait_for(|link| link.state == "revoked" || link.state == "refused").await.unwrap());
    agent.stop().await;
}

#[tokio::test]
async fn forget_stops_what_runs_and_deletes_it() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let key = world.owner.assign(assignment("forever")).await;
    until("it runs", || engine.running.load(Ordering::SeqCst) == 1).await;
    world.owner.kept().wanted.clear();
    world.owner.send(&DeviceFrame::Forget(Forget { key, reason: "moved".to_owned() })).await;
    until("it is gone", || fs::read_dir(dir.path().join("executions")).unwrap().count() == 0).await;
    assert_eq!(engine.running.load(Ordering::SeqCst), 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_runtime_that_crashes_is_told_as_a_failure() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine).await;
    let key = world.owner.assign(assignment("say:1 crash")).await;
    assert_eq!(world.owner.whole(key).await.how, EndedHow::Finished);
    let last = world.owner.events(key).pop().unwrap();
    assert!(matches!(last, RunEvent::Failed { .. }), "{last:?}");
    agent.stop().await;
}

/// Until the cluster committed that this device has it, another one may be given the same work.
#[tokio::test]
async fn what_is_taken_begins_at_the_clusters_word() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    world.owner.kept().undecided = true;
    let agent = world.agent(dir.path(), engine.clone()).await;
    let given_up = world.owner.assign(assignment("say:1")).await;
    let key = world.owner.assign(with_secret(assignment("say:2"))).await;
    until("both are taken", || world.owner.kept().answers.len() == 2).await;
    let status = agent.status().await.unwrap();
    assert_eq!(status.slots_used, 2);
    assert!(status.executions.iter().all(|one| one.state == "accepted"), "{status:?}");

    // Another device has it, and a restart begins nothing by itself.
    let reason = "the cluster gave it up".to_owned();
    world.owner.kept().wanted.remove(&given_up);
    world.owner.send(&DeviceFrame::Forget(Forget { key: given_up, reason })).await;
    agent.stop().await;
    let agent = world.agent(dir.path(), engine.clone()).await;
    until("a hello", || world.owner.kept().hellos.len() == 2).await;
    let accepted: Vec<_> = world.owner.kept().hellos[1].executions.clone();
    assert!(accepted.iter().all(|one| one.state == ExecutionState::Accepted), "{accepted:?}");
    assert!(engine.launches.lock().unwrap().is_empty());

    // The word is said again with each link until it was heard; secrets come again.
    world.owner.kept().undecided = false;
    agent.stop().await;
    let agent = world.agent(dir.path(), engine.clone()).await;
    assert_eq!(world.owner.whole(key).await.how, EndedHow::Finished);
    let launches = engine.launches.lock().unwrap().clone();
    assert_eq!(launches.len(), 1, "{launches:?}");
    assert!(launches[0].2.iter().any(|name| name == "model-key"), "{launches:?}");
    assert_eq!(world.owner.kept().secrets_asked, 1);
    agent.stop().await;
}

/// Nodes before there was that word never say it.
#[tokio::test]
async fn under_an_older_node_what_is_taken_begins_at_once() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let world = World::with(false);
    world.owner.kept().undecided = true;
    let agent = world.agent(dir.path(), engine.clone()).await;
    let key = world.owner.assign(assignment("say:2")).await;
    assert_eq!(world.owner.whole(key).await.how, EndedHow::Finished);
    agent.stop().await;
}
