//! One suite for every implementation. It panics where a contract is broken.

use std::{future::ready, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use tokio::{sync::broadcast, task::JoinSet, time::Instant};
use troupe_api::task::Viewer;
use troupe_types::{Seq, Status, TaskId, Timestamp, UserId, Uuid};

use crate::{Lifetimes, Notice, Rule, SoftState, TaskNote, VIEWERS_MAX, Verdict};

/// How long anything may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test, so that nothing comes free by itself.
const LONG: Duration = Duration::from_secs(3_600);

/// An implementation under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Two nodes of a fresh cluster, both whole.
    async fn nodes(&self, lifetimes: Lifetimes) -> [Arc<dyn SoftState>; 2];
}

/// All of it.
pub async fn all(subject: &dyn Subject) {
    let [one, two] = subject.nodes(Lifetimes::default()).await;
    presence(&one, &two).await;
    presence_is_bounded(&one, &two).await;
    statuses(&one, &two).await;
    limits(&one, &two).await;
    limits_are_exact(&one, &two).await;
    limits_come_free(&one).await;
    notices(&one, &two).await;
    revocations(&one, &two).await;
    assert!(!one.health().borrow().is_degraded() && !two.health().borrow().is_degraded());
    let short = Duration::from_millis(300);
    let [one, two] = subject.nodes(Lifetimes { presence: short, status: short }).await;
    what_is_not_renewed_goes(&one, &two).await;
}

fn task() -> TaskId {
    TaskId::from_uuid(Uuid::new_v4())
}

/// A person with that number.
#[must_use]
pub fn viewer(number: u128) -> Viewer {
    let user_id = UserId::from_uuid(Uuid::from_u128(number));
    Viewer { user_id, user_name: format!("person \"{number}\" 名") }
}

/// Waits until `look` finds something.
///
/// # Panics
/// If it does not in time.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn heard<T: Clone>(ear: &mut broadcast::Receiver<T>) -> T {
    tokio::time::timeout(PATIENCE, ear.recv()).await.expect("it is told").expect("and heard")
}

async fn presence(one: &Arc<dyn SoftState>, two: &Arc<dyn SoftState>) {
    let (here, other) = (task(), task());
    let (mut one_hears, mut two_hears) = (one.presence_changes(), two.presence_changes());
    let (ann, bob, eve) = (viewer(1), viewer(2), viewer(3));
    assert_eq!(one.announce(here, &[bob.clone(), ann.clone()]).await, []);
    assert_eq!(heard(&mut two_hears).await, here);
    assert_eq!(two.elsewhere(here).await, [ann.clone(), bob.clone()], "by id");
    assert_eq!(one.elsewhere(here).await, [], "one's own are not elsewhere");
    assert_eq!(two.elsewhere(other).await, []);
    // Said again it changes nothing, so nobody is told: what the other hears next is the next.
    one.announce(here, &[ann.clone(), bob.clone()]).await;
    assert_eq!(two.announce(here, &[eve.clone(), ann.clone()]).await, [ann.clone(), bob]);
    assert_eq!(heard(&mut one_hears).await, here);
    assert_eq!(one.elsewhere(here).await, [ann.clone(), eve.clone()]);
    assert_eq!(one.announce(other, std::slice::from_ref(&eve)).await, []);
    assert_eq!(heard(&mut two_hears).await, other);
    // Nobody any more.
    assert_eq!(one.announce(here, &[]).await, [ann, eve]);
    assert_eq!(heard(&mut two_hears).await, here);
    assert_eq!(two.elsewhere(here).await, []);
    assert_eq!(one.announce(here, &[]).await.len(), 2, "nobody twice is no news");
    two.announce(here, &[]).await;
    assert_eq!(one.elsewhere(here).await, []);
}

async fn presence_is_bounded(one: &Arc<dyn SoftState>, two: &Arc<dyn SoftState>) {
    let here = task();
    let crowd: Vec<Viewer> = (0..200).map(viewer).collect();
    one.announce(here, &crowd).await;
    assert_eq!(two.elsewhere(here).await, crowd[..VIEWERS_MAX]);
}

fn note(seq: u64, status: Status) -> TaskNote {
    let updated_at = Timestamp::from_millis(1_795_000_000_000);
    TaskNote { seq: Seq(seq), status, updated_at, last_line: Some(format!("line | {seq}\u{7}")) }
}

async fn statuses(one: &Arc<dyn SoftState>, two: &Arc<dyn SoftState>) {
    let (known, unknown) = (task(), task());
    assert_eq!(one.statuses(&[]).await, []);
    assert_eq!(one.statuses(&[known, unknown]).await, [None, None]);
    one.put_status(known, &note(9, Status::Running)).await;
    two.put_status(known, &note(100, Status::Completed)).await;
    // Late ones, which would win if seqs were compared as text.
    one.put_status(known, &note(99, Status::Failed)).await;
    two.put_status(known, &note(10, Status::Failed)).await;
    let wanted = Some(note(100, Status::Completed));
    assert_eq!(one.statuses(&[unknown, known]).await, [None, wanted.clone()]);
    assert_eq!(two.statuses(&[known, known]).await, [wanted.clone(), wanted]);
    let corrected = TaskNote { last_line: None, ..note(100, Status::Failed) };
    two.put_status(known, &corrected).await;
    assert_eq!(one.statuses(&[known]).await, [Some(corrected)], "the same seq replaces");
    let endless = TaskNote { last_line: Some("é".repeat(5_000)), ..note(101, Status::Failed) };
    two.put_status(known, &endless).await;
    let kept = one.statuses(&[known]).await.remove(0).expect("it is known");
    assert_eq!(kept.last_line.map(|line| line.chars().count()), Some(200));
}

async fn limits(one: &Arc<dyn SoftState>, two: &Arc<dyn SoftState>) {
    let rule = Rule { burst: 4, per: LONG };
    let name = format!("login:name:{}\r\n 名", Uuid::new_v4());
    for node in [one, two, one, two] {
        assert_eq!(node.take(&name, rule).await, Verdict::Allowed);
    }
    for node in [one, two] {
        let Verdict::Refused { retry_after } = node.take(&name, rule).await else {
            panic!("a fifth one was allowed");
        };
        let wait = LONG / 4;
        assert!(retry_after <= wait && retry_after > wait - 2 * PATIENCE, "{retry_after:?}");
    }
    two.give_back(&name, rule).await;
    assert_eq!(one.take(&name, rule).await, Verdict::Allowed, "one was given back");
    assert_ne!(two.take(&name, rule).await, Verdict::Allowed);
    one.forget(&name).await;
    for node in [two, two, one, one] {
        assert_eq!(node.take(&name, rule).await, Verdict::Allowed, "all is forgotten");
    }
    assert_ne!(one.take(&name, rule).await, Verdict::Allowed);
    one.give_back("never heard of", rule).await;
    two.forget("never heard of").await;
    let long = "n".repeat(100_000);
    assert_eq!(one.take(&long, Rule { burst: 1, per: LONG }).await, Verdict::Allowed);
    assert_ne!(two.take(&long, Rule { burst: 1, per: LONG }).await, Verdict::Allowed);
}

/// Many at once do not slip through.
async fn limits_are_exact(one: &Arc<dyn SoftState>, two: &Arc<dyn SoftState>) {
    let rule = Rule { burst: 10, per: LONG };
    let name = Uuid::new_v4().to_string();
    let mut asking = JoinSet::new();
    for node in [one, two].into_iter().cycle().take(60) {
        let (node, name) = (Arc::clone(node), name.clone());
        asking.spawn(async move { node.take(&name, rule).await });
    }
    let verdicts = asking.join_all().await;
    let allowed = verdicts.iter().filter(|verdict| **verdict == Verdict::Allowed).count();
    assert_eq!(allowed, 10);
}

async fn limits_come_free(one: &Arc<dyn SoftState>) {
    let rule = Rule { burst: 2, per: Duration::from_millis(400) };
    let name = Uuid::new_v4().to_string();
    let refused = async || match one.take(&name, rule).await {
        Verdict::Allowed => None,
        Verdict::Refused { retry_after } => Some(retry_after),
    };
    let wait = eventually("a limit is reached", refused).await;
    assert!(wait <= rule.per / 2, "{wait:?}");
    let allowed = async || (one.take(&name, rule).await == Verdict::Allowed).then_some(());
    eventually("one comes free", allowed).await;
}

async fn notices(one: &Arc<dyn SoftState>, two: &Arc<dyn SoftState>) {
    let (mut one_hears, mut two_hears) = (one.notices(), two.notices());
    let notice = |n: u32| Notice {
        user: UserId::from_uuid(Uuid::from_u128(7)),
        event: "task:status".into(),
        payload: json!({ "n": n, "title": "名 \" \\" }),
    };
    for n in 0..100 {
        one.notify(notice(n));
    }
    for n in 0..100 {
        assert_eq!(heard(&mut one_hears).await, notice(n), "in order, once");
        assert_eq!(heard(&mut two_hears).await, notice(n), "in order, once");
    }
    two.notify(notice(200));
    assert_eq!(heard(&mut one_hears).await, notice(200));
    assert_eq!(heard(&mut two_hears).await, notice(200));
    assert!(one_hears.try_recv().is_err() && two_hears.try_recv().is_err());
}

async fn revocations(one: &Arc<dyn SoftState>, two: &Arc<dyn SoftState>) {
    let (mut one_hears, mut two_hears) = (one.revocations(), two.revocations());
    one_hears.mark_unchanged();
    two_hears.mark_unchanged();
    one.tell_revoked();
    let told = tokio::time::timeout(PATIENCE, two_hears.changed()).await;
    told.expect("it is told").expect("the node lives");
    assert!(!one_hears.has_changed().expect("the node lives"), "who tells knows already");
}

async fn what_is_not_renewed_goes(one: &Arc<dyn SoftState>, two: &Arc<dyn SoftState>) {
    let here = task();
    one.announce(here, &[viewer(1)]).await;
    one.put_status(here, &note(1, Status::Running)).await;
    let nobody = async || two.elsewhere(here).await.is_empty().then_some(());
    eventually("presence is forgotten", nobody).await;
    let unknown = async || two.statuses(&[here]).await[0].is_none().then_some(());
    eventually("a status is forgotten", unknown).await;
    // The other node's word keeps the Task's row, but not this one's.
    one.announce(here, &[viewer(1)]).await;
    let alone = async || two.announce(here, &[viewer(2)]).await.is_empty().then_some(());
    eventually("a word holds for its own time only", alone).await;
    // What ended and is said again is news.
    let mut two_hears = two.presence_changes();
    let told = async || {
        one.announce(here, &[viewer(1)]).await;
        ready(two_hears.try_recv().ok()).await
    };
    assert_eq!(eventually("it is told again", told).await, here);
}
