//! What a Task is after its process is gone: everything that was told, and a run that goes on.

use troupe_domain::task::Transcript;
use troupe_entities::TaskOptions;
use troupe_types::{FrameBody, Status};

use crate::host::{Host, PATIENCE, all_frames, first, is_over, message, sent, solo, stores};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_by_itself_as_the_next_attempt() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let (task, command) = first(&solo(), 1, "[[demo chunks=50 size=8 pace=20]] a long story");
    let address = host.task(task);
    sent(&address, command).await;
    troupe_testkit::wait_until(PATIENCE, async || {
        let frames = address.raw_frames(troupe_types::FrameSeq::ZERO, 500).await.unwrap();
        frames.iter().filter(|f| matches!(f.body, FrameBody::Text(_))).count() > 5
    })
    .await;
    let before = all_frames(&address).await;
    // Another process takes over; this one is not asked.
    let stores = store.restart().stores();
    let second = Host::start(&stores).await;
    let address = second.task(task);
    assert_eq!(second.until(task, is_over).await, Status::Completed);
    let after = all_frames(&address).await;
    assert_eq!(&after[..before.len()], &before[..], "nothing that was seen is taken back");
    let lost = after.iter().any(|f| matches!(&f.body, FrameBody::Error(e) if e.continues));
    assert!(lost, "the interrupted attempt is marked");
    let turns = address.join(20, None).await.unwrap().turns;
    assert_eq!(turns[0].messages[1].attempts.len(), 2);
    assert_eq!(Transcript::of(&after).into_turns(), turns);
    drop(host);
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_keep_old_frames_and_turns_readable() {
    let (store, stores) = stores();
    let options = TaskOptions { snapshot_entries: 10, ..TaskOptions::default() };
    let host = Host::start_with(&stores, options.clone()).await;
    let plan = solo();
    let (task, command) = first(&plan, 1, "[[demo chunks=30 size=4]] turn 0");
    let address = host.task(task);
    sent(&address, command).await;
    for turn in 1..8u128 {
        assert_eq!(host.until(task, is_over).await, Status::Completed);
        let text = format!("[[demo chunks=30 size=4]] turn {turn}");
        sent(&address, message(&plan, 100 + turn, &text, None)).await;
    }
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    let whole = all_frames(&address).await;
    host.drain().await;

    let stores = store.restart().stores();
    let host = Host::start_with(&stores, options).await;
    let address = host.task(task);
    assert_eq!(all_frames(&address).await, whole);
    let all = Transcript::of(&whole).into_turns();
    assert_eq!(address.join(100, None).await.unwrap().turns, all);
    assert!(address.join(0, None).await.unwrap().turns.is_empty());
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = address.turns(before, 3).await.unwrap();
        paged.splice(0..0, page.turns);
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_clearly_and_reads_go_on() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let plan = solo();
    let (task, command) = first(&plan, 1, "hello");
    let address = host.task(task);
    sent(&address, command).await;
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    // The list row and the wake row are written after that; then nothing is under way.
    troupe_testkit::wait_until(PATIENCE, async || {
        stores
            .projections
            .get_tasks(&[task])
            .await
            .is_ok_and(|rows| rows.first().is_some_and(|row| row.status == "COMPLETED"))
    })
    .await;
    store.fail_next_append(troupe_store::memory::ScriptedFailure::Full);
    let refused = address.command(message(&plan, 2, "more", None)).await.unwrap_err();
    assert!(format!("{refused:?}").contains("full"), "{refused:?}");
    assert!(address.join(20, None).await.is_ok());
    sent(&address, message(&plan, 2, "more", None)).await;
    assert_eq!(host.until(task, is_over).await, Status::Completed);
    host.drain().await;
}
