use troupe_types::{EntityKind, Uuid};

use super::*;

fn open(all: &Activations, fence: u64) -> Activation {
    let entity = EntityId { kind: EntityKind::Task, id: Uuid::from_u128(1) };
    all.begin(entity, Epoch(1), Fence(fence)).unwrap()
}

#[tokio::test]
async fn appends_that_start_in_the_wrong_order_are_handed_over_in_the_right_one() {
    let all = Activations::new();
    let at = open(&all, 1);
    at.start(Seq::ZERO);
    let (second, first) = tokio::join!(
        async { at.turn(Seq(3)).await.unwrap().send(Seq(4), |append| append) },
        async { at.turn(Seq(1)).await.unwrap().send(Seq(2), |append| append) },
    );
    first.committed(false);
    second.predecessors(Seq(3)).await.unwrap();
    second.committed(false);
    assert_eq!(at.committed(), Seq(4));
}

#[tokio::test]
async fn a_failed_append_ends_its_activation_and_those_behind_it() {
    let all = Activations::new();
    let at = open(&all, 1);
    let first = at.turn(Seq(1)).await.unwrap().send(Seq(1), |append| append);
    let second = at.turn(Seq(2)).await.unwrap().send(Seq(2), |append| append);
    first.failed(&AppendError::Full);
    assert!(matches!(second.predecessors(Seq(2)).await, Err(AppendError::Full)));
    drop(second);
    assert!(matches!(at.turn(Seq(3)).await, Err(AppendError::Full)));
    let again = open(&all, 2);
    again.quiet().await.unwrap();
    assert!(again.check().is_ok());
    assert!(matches!(at.check(), Err(AppendError::Fenced { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_new_activation_waits_for_what_older_ones_handed_over() {
    let all = Activations::new();
    let old = open(&all, 1);
    let append = old.turn(Seq(1)).await.unwrap().send(Seq(1), |append| append);
    let middle = open(&all, 2);
    let new = open(&all, 3);
    assert!(matches!(middle.quiet().await, Err(OpenError::Fenced { .. })));
    assert!(matches!(new.quiet().await, Err(OpenError::Unavailable { .. })));
    append.committed(false);
    new.quiet().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn more_than_four_and_a_gap_are_the_callers_bugs() {
    let all = Activations::new();
    let at = open(&all, 1);
    let gap = at.turn(Seq(9)).await.unwrap_err();
    assert!(matches!(gap, AppendError::Invalid(InvalidAppend::Gap { .. })), "{gap:?}");
    let mut flying = Vec::new();
    for seq in 1..=4 {
        flying.push(at.turn(Seq(seq)).await.unwrap().send(Seq(seq), |append| append));
    }
    let fifth = at.turn(Seq(5)).await.unwrap_err();
    assert!(matches!(fifth, AppendError::Invalid(InvalidAppend::TooManyInFlight)));
    for append in flying {
        append.committed(false);
    }
    assert!(at.turn(Seq(5)).await.is_ok());
}

#[test]
fn entities_that_are_closed_leave_nothing_behind() {
    let all = Activations::new();
    let (a, b) = (open(&all, 1), open(&all, 2));
    drop(a);
    assert_eq!(all.len(), 1);
    drop(b);
    assert!(all.is_empty());
}
