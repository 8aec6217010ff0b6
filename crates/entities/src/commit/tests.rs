//! What is told, in which order, and what is never told.

use futures::future::join_all;
use troupe_store::{MemoryStore, WakeKind, cause};
use troupe_types::{EntityId, TaskId, Timestamp};

use super::*;

async fn committer() -> Committer<u32> {
    let store = MemoryStore::new();
    let entity = EntityId::from(TaskId::derived(&["t"]));
    let opened = store.open(entity, store.epoch()).await.unwrap();
    Committer::new(Arc::new(store), Arc::new(opened))
}

fn stage(commits: &mut Committer<u32>, effect: u32) -> u64 {
    commits.stage(FrameSeq(1), 0, Bytes::from_static(b"x"), Vec::new(), vec![effect]);
    drop(commits.pump().expect("there is room for one more"));
    commits.flight_number
}

#[tokio::test]
async fn effects_wait_for_every_commit_before_them() {
    let mut commits = committer().await;
    let first = stage(&mut commits, 1);
    let second = stage(&mut commits, 2);
    assert_eq!(commits.after(3), None);
    let done = |flight| Appended { flight, result: Ok(()) };
    assert!(commits.finished(done(second)).unwrap().is_empty());
    assert_eq!(commits.committed(), Seq::ZERO);
    assert_eq!(commits.finished(done(first)).unwrap(), [1, 2, 3]);
    assert_eq!(commits.committed(), Seq(2));
    assert_eq!(commits.after(4), Some(4), "nothing is under way");
}

#[tokio::test]
async fn what_may_be_committed_is_not_called_refused() {
    let mut commits = committer().await;
    stage(&mut commits, 1);
    let second = stage(&mut commits, 2);
    stage(&mut commits, 3);
    commits.stage(FrameSeq(1), 0, Bytes::from_static(b"x"), Vec::new(), vec![4]);
    // The failure of the second is heard before the fate of the first.
    let result = Err(AppendError::Unavailable { source: cause("away") });
    let (_, abandoned) = commits.finished(Appended { flight: second, result }).unwrap_err();
    assert_eq!((abandoned.before, abandoned.since), (vec![1], vec![2, 3, 4]));
    assert!(commits.is_settled());
}

#[tokio::test]
async fn at_most_four_appends_are_under_way_and_the_rest_goes_together() {
    let mut commits = committer().await;
    for n in 0..4 {
        stage(&mut commits, n);
    }
    for n in 4..10 {
        commits.stage(FrameSeq(1), 0, Bytes::from_static(b"x"), Vec::new(), vec![n]);
        assert!(commits.pump().is_none());
    }
    let done = |flight| Appended { flight, result: Ok(()) };
    assert_eq!(commits.finished(done(1)).unwrap(), [0]);
    drop(commits.pump().expect("one place is free"));
    assert!(commits.pump().is_none());
    for flight in 2..=4 {
        assert_eq!(commits.finished(done(flight)).unwrap().len(), 1);
    }
    assert_eq!(commits.finished(done(5)).unwrap(), [4, 5, 6, 7, 8, 9]);
    assert_eq!(commits.committed(), Seq(10));
}

#[tokio::test]
async fn a_change_of_the_wake_index_is_not_overtaken() {
    let mut commits = committer().await;
    let insert = WakeChange::Insert { due: Timestamp::from_millis(1), kind: WakeKind::Run };
    let (mut told, mut jobs) = (Vec::new(), Vec::new());
    for n in 0..20 {
        if n % 3 == 0 {
            commits.stage_wake(vec![insert], vec![n]);
        } else {
            commits.stage(FrameSeq(1), 0, Bytes::from_static(b"x"), Vec::new(), vec![n]);
        }
        jobs.extend(commits.pump());
        // The one that was spawned last runs first, as it may on a busy machine.
        if n % 4 == 3 {
            told.extend(finish(&mut commits, &mut jobs).await);
        }
    }
    told.extend(finish(&mut commits, &mut jobs).await);
    assert_eq!(told, (0..20).collect::<Vec<_>>());
}

async fn finish(commits: &mut Committer<u32>, jobs: &mut Vec<AppendJob>) -> Vec<u32> {
    let mut told = Vec::new();
    while !jobs.is_empty() {
        for done in join_all(jobs.drain(..).rev()).await {
            told.extend(commits.finished(done).expect("the store takes it"));
        }
        jobs.extend(commits.pump());
    }
    told
}
