//! The life of activations: drain, passivation, slow followers, nothing left behind.

use std::time::Duration;

use troupe_domain::task::{CollaborationModel, Command, MemberPlan, ModelPlan, Transcript};
use troupe_entities::{TaskOptions, TeamAddress, task::TaskError, team::SlotAnswer};
use troupe_sharding::StreamItem;
use troupe_store::memory::ScriptedFailure;
use troupe_testkit::{Answer, FakeModel, Fault, Script, try_until, wait_until};
use troupe_types::{FrameBody, FrameSeq, Status};

use crate::host::{
    Host, PATIENCE, ada, all_frames, first, is_over, member, message, sent, solo, stores, team,
    wake_rows,
};

fn short() -> TaskOptions {
    TaskOptions { idle_for: Duration::from_millis(500), ..TaskOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_on_after_its_task_left_memory() {
    let (_, stores) = stores();
    let host = Host::start_busy(&stores, short()).await;
    let plan = solo();
    let (task, command) = first(&plan, 1, "one");
    sent(&host.task(task), command.clone()).await;
    for turn in 2..5u128 {
        assert_eq!(host.until(task, is_over).await, Status::Completed);
        wait_until(PATIENCE, async || host.live_tasks() == 0).await;
        assert_eq!(wake_rows(&stores).await, 0, "what is unloaded has nothing to do");
        sent(&host.task(task), message(&plan, turn, "and then?", None)).await;
    }
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    let turns = host.task(task).join(20, None).await.unwrap().turns;
    assert_eq!(turns.len(), 4);
    assert_eq!(Transcript::of(&all_frames(&host.task(task)).await).into_turns(), turns);
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_idle_tasks_leave_nothing_behind() {
    let (_, stores) = stores();
    // Long enough that none is asked to leave while it still runs.
    let idle_for = Duration::from_secs(6);
    let host = Host::start_busy(&stores, TaskOptions { idle_for, ..TaskOptions::default() }).await;
    let mut plan = (*solo()).clone();
    plan.max_concurrent_tasks = 1_000;
    plan.hash = plan.content_hash();
    let plan = std::sync::Arc::new(plan);
    let (mut tasks, mut sending) = (Vec::new(), tokio::task::JoinSet::new());
    for key in 0..1_000 {
        let (task, command) = first(&plan, key, "[[demo chunks=1 size=4]] hi");
        tasks.push(task);
        let address = host.task(task);
        sending.spawn(async move { sent(&address, command).await });
        if sending.len() >= 50 {
            sending.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap();
    }
    let long = PATIENCE * 2;
    let done = async || {
        let rows = stores.projections.get_tasks(&tasks).await.unwrap();
        rows.len() == tasks.len() && rows.iter().all(|row| row.status == "COMPLETED")
    };
    wait_until(long, done).await;
    wait_until(long, async || wake_rows(&stores).await == 0).await;
    wait_until(long, async || host.live_tasks() == 0).await;
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_too_slow_is_told_so_and_the_task_goes_on() {
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    let (task, command) = first(&solo(), 1, "[[demo chunks=4000 size=5 pace=2000]] go");
    let address = host.task(task);
    sent(&address, command).await;
    let (begin, mut slow) = address.subscribe(FrameSeq::ZERO).await.unwrap();
    assert!(begin.following);
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    let (mut seen, mut end) = (Vec::new(), None);
    while let Some(item) = slow.recv().await {
        match item {
            StreamItem::Frames(batch) => seen.extend(batch.iter().cloned()),
            other => end = Some(other),
        }
        if end.is_some() {
            break;
        }
    }
    assert!(matches!(end, Some(StreamItem::Lagged)), "{end:?}");
    let whole = all_frames(&address).await;
    assert!(seen.len() < whole.len());
    assert_eq!(seen[..], whole[..seen.len()], "nothing is missing before it was told so");
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_keeps_what_was_said_and_begins_nothing() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let plan = solo();
    // Pieces come until the end of the step; then a tool would be called, or the answer is done.
    let (task, command) = first(&plan, 1, "[[demo chunks=40 size=8 pace=100]] a story");
    let address = host.task(task);
    sent(&address, command).await;
    let queued = sent(&address, message(&plan, 2, "[[demo chunks=5]] and then", None)).await;
    assert!(queued.queued);
    host.until(task, |s| s == Status::Running).await;
    assert!(host.drain().await.is_clean());

    let stores = store.restart().stores();
    let host = Host::start(&stores).await;
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    let frames = all_frames(&host.task(task)).await;
    let lost: Vec<_> = frames
        .iter()
        .filter_map(|f| match &f.body {
            FrameBody::Error(error) => Some(error),
            _ => None,
        })
        .collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].continues && lost[0].error.contains("another place"), "planned: {lost:?}");
    let started = frames.iter().filter_map(|f| match &f.body {
        FrameBody::Started(started) => Some((started.ordinal.0, started.attempt.0, started.keeps)),
        _ => None,
    });
    let started: Vec<_> = started.collect();
    assert_eq!(started.iter().map(|s| (s.0, s.1)).collect::<Vec<_>>(), [(2, 1), (2, 2), (4, 1)]);
    assert!(started[1].2 > FrameSeq::ZERO, "the finished step is kept");
    let turns = host.task(task).join(20, None).await.unwrap().turns;
    assert_eq!(turns.len(), 2, "the queue went on too");
    host.drain().await;
}

/// A member whose model is this server.
fn served_by(fake: &FakeModel) -> MemberPlan {
    let helper = member("helper");
    let demo = helper.model.expect("it has one");
    let (provider, base_url) = ("claude".to_owned(), Some(fake.url()));
    MemberPlan { model: Some(ModelPlan { provider, base_url, ..demo }), ..helper }
}

/// The codes of the waits that people were told of.
async fn waits(host: &Host, task: troupe_types::TaskId) -> Vec<String> {
    let frames = all_frames(&host.task(task)).await;
    let told = frames.into_iter().filter_map(|f| match f.body {
        FrameBody::Status(status) if status.phase == "retrying" => status.wait,
        _ => None,
    });
    told.map(|wait| wait.code).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_only_waits_for_its_provider_moves_at_once() {
    for (fault, code) in [
        (Fault::rate_limit(Some("60")), "rate_limit"),
        (Fault::status(529, "overloaded_error", "Overloaded", Some("60")), "model_retry"),
    ] {
        let fake = FakeModel::start(Script::always(Answer::text("late").failing(fault))).await;
        let fake = fake.expect("there is a port");
        let (store, first_stores) = stores();
        let host = Host::start(&first_stores).await;
        let plan = team(CollaborationModel::Solo, vec![served_by(&fake)]);
        let (task, command) = first(&plan, 1, "hello");
        sent(&host.task(task), command).await;
        wait_until(PATIENCE, async || waits(&host, task).await == [code]).await;
        let began = std::time::Instant::now();
        assert!(host.drain().await.is_clean());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

        // Where it goes on it keeps to the time, and says why it waits.
        let host = Host::start(&store.restart().stores()).await;
        let waits_again = try_until(PATIENCE, async || waits(&host, task).await == [code, code]);
        assert!(waits_again.await, "{:#?}", all_frames(&host.task(task)).await);
        assert_eq!(fake.request_count(), 1, "it is not asked earlier");
        let frames = all_frames(&host.task(task)).await;
        let lost = frames.iter().filter_map(|f| match &f.body {
            FrameBody::Error(error) => Some((error.continues, error.error.as_str())),
            _ => None,
        });
        let lost: Vec<_> = lost.collect();
        assert_eq!(lost, [(true, "the work moves to another place and goes on there")]);
        assert!(host.drain().await.is_clean());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_tasks_that_are_gone_hold_up_no_drain() {
    let (_, stores) = stores();
    let host = Host::start(&stores).await;
    let team = TeamAddress::new(host.router.clone(), "default", "team", ada());
    let (task, _) = first(&solo(), 1, "hello");
    assert_eq!(team.acquire(task, ada(), 1, false).await, SlotAnswer::Granted);
    assert!(host.drain().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_a_cancel_is_not_late() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let (task, command) = first(&solo(), 1, "[[demo chunks=4000 size=4000 pace=400]] long");
    let address = host.task(task);
    sent(&address, command).await;
    wait_until(PATIENCE, async || {
        let frames = address.raw_frames(FrameSeq::ZERO, 500).await.unwrap();
        frames.iter().any(|f| matches!(f.body, FrameBody::Text(_)))
    })
    .await;
    // Text gathers behind the appends that are held; the cancel comes behind it.
    store.hold_appends(true);
    wait_until(PATIENCE, async || store.held_appends() >= 2).await;
    let told = address.view().await.unwrap().head;
    let mut cancel = std::pin::pin!(address.command(Command::Cancel));
    tokio::select! {
        biased;
        done = &mut cancel => panic!("nothing can be committed: {done:?}"),
        // Asked behind the cancel, so answered when that was taken in.
        view = address.view() => assert_eq!(view.unwrap().head, told),
    }
    store.hold_appends(false);
    cancel.await.unwrap();
    assert_eq!(host.until(task, is_over).await, Status::Cancelled);
    let frames = all_frames(&address).await;
    let at = frames.iter().position(|f| matches!(f.body, FrameBody::Cancelled(_))).unwrap();
    let text = |f: &&troupe_types::Frame| matches!(f.body, FrameBody::Text(_));
    assert!(
        text(&&frames[at - 1]),
        "the buffered text leaves before the end: {:?}",
        frames[at - 1]
    );
    assert!(frames[at].seq.0 > told.0 + 2, "there was text behind the append that was held");
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_committed_can_be_neither_read_nor_followed() {
    let (store, stores) = stores();
    let host = Host::start_busy(&stores, TaskOptions::default()).await;
    let (task, command) = first(&solo(), 1, "hello");
    let address = host.task(task);
    store.hold_appends(true);
    let mut sending = tokio::task::JoinSet::new();
    let (sender, repeated) = (address.clone(), command.clone());
    sending.spawn(async move { sender.command(repeated).await });
    wait_until(PATIENCE, async || store.held_appends() > 0).await;
    for _ in 0..20 {
        assert!(matches!(address.view().await, Err(TaskError::Refused(_))));
        assert!(matches!(address.subscribe(FrameSeq::ZERO).await, Err(TaskError::Refused(_))));
        assert!(sending.try_join_next().is_none(), "no answer before the commit");
    }
    store.hold_appends(false);
    sending.join_next().await.unwrap().unwrap().unwrap();
    // An append whose outcome nobody knows: the same key finds out.
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    for (n, written) in [(2, true), (3, false)] {
        wait_until(PATIENCE, async || wake_rows(&stores).await == 0).await;
        store.fail_next_append(ScriptedFailure::OutcomeUnknown { written });
        let command = message(&solo(), n, "more", None);
        assert!(matches!(address.command(command.clone()).await, Err(TaskError::Ask(_))));
        sent(&address, command).await;
        assert_eq!(host.until(task, is_over).await, Status::Completed);
    }
    assert_eq!(address.join(20, None).await.unwrap().turns.len(), 3);
    host.drain().await;
}
