//! Administrators' use cases over real entities.

use bytes::Bytes;
use serde_json::json;
use troupe_api::admin::{CheckState, RebalanceAction};
use troupe_store::{
    DeadLetter, Entry,
    backup::{Kind, verify},
};
use troupe_testkit::wait_until;
use troupe_types::{EntityId, MessageId, ShardId, TaskId, Timestamp, Uuid};

use crate::host::{Node, PATIENCE, admin, ann, is_over};

fn letter(n: u128, entity: EntityId, message: impl Into<Bytes>) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(n),
        entity,
        message: message.into(),
        error: "scripted".to_owned(),
        strikes: 3,
        at: Timestamp::from_millis(1),
    }
}

#[tokio::test]
async fn a_dead_letter_is_given_to_its_entity_again() {
    let node = Node::start().await;
    let operations = node.operations();
    let task = node.task(&ann(), "[[demo chunks=1]] hello").await;
    node.until(&ann(), task, is_over).await;
    let letters = node.dead_letters();
    let view = json!({ "ask": "view" }).to_string();
    // What the Task will not do: nothing of its last turn failed.
    let retry = json!({ "ask": "command", "command":
        { "command": "retry", "message": MessageId::derived(&["none"]), "plan": null } });
    let wanted = [
        (letter(1, task.into(), view.clone()), "handled"),
        (letter(2, task.into(), retry.to_string()), "refused"),
        (letter(3, task.into(), Bytes::new()), "handled"),
        // A Task that is not there refuses as well.
        (letter(4, TaskId::derived(&["nothing"]).into(), view), "refused"),
    ];
    for (letter, outcome) in wanted {
        let id = letter.id;
        letters.put(letter).await.unwrap();
        let told = operations.retry_dead_letter(&admin(), id).await.unwrap();
        assert_eq!(told.outcome, outcome, "{told:?}");
        assert_eq!(letters.get(id).await.unwrap(), None, "{id} is gone");
    }
    let audit = operations.audit(&admin(), None, 50).await.unwrap();
    assert_eq!(audit.items.len(), 4);
}

#[tokio::test]
async fn only_administrators_may_and_nothing_is_done_for_others() {
    let node = Node::start().await;
    let operations = node.operations();
    let id = Uuid::from_u128(1);
    let entity = EntityId::from(TaskId::derived(&["x"]));
    node.dead_letters().put(letter(1, entity, "x")).await.unwrap();
    let who = ann();
    let refusals = [
        operations.nodes(&who).await.map(|_| ()),
        operations.shards(&who).await.map(|_| ()),
        operations.shard(&who, ShardId(7)).await.map(|_| ()),
        operations.move_shard(&who, ShardId(7), "local").await.map(|_| ()),
        operations.rebalance(&who, RebalanceAction::Pause).await.map(|_| ()),
        operations.actors(&who, None).await.map(|_| ()),
        operations.queues(&who, None).await.map(|_| ()),
        operations.doctor(&who).await.map(|_| ()),
        operations.why(&who, TaskId::derived(&["x"])).await.map(|_| ()),
        operations.dead_letters(&who, None, 10).await.map(|_| ()),
        operations.dead_letter(&who, id).await.map(|_| ()),
        operations.retry_dead_letter(&who, id).await.map(|_| ()),
        operations.discard_dead_letter(&who, id, "why").await,
        operations.restart_entity(&who, entity).await.map(|_| ()),
        operations.passivate_entity(&who, entity).await.map(|_| ()),
        operations.drain(&who, "local").await.map(|_| ()),
        operations.audit(&who, None, 10).await.map(|_| ()),
        operations.backup(&who).await.map(|_| ()),
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().status, 403);
    }
    assert!(node.dead_letters().get(id).await.unwrap().is_some());
    assert_eq!(operations.audit(&admin(), None, 10).await.unwrap().items, []);
}

#[tokio::test]
async fn the_doctor_finds_work_that_nobody_takes_up() {
    let node = Node::start().await;
    let operations = node.operations();
    let task = node.task(&ann(), "[[demo chunks=400 pace=50]] hello").await;
    let state = async |name: &str| {
        let report = operations.doctor(&admin()).await.unwrap();
        let check = report.checks.into_iter().find(|check| check.name == name).unwrap();
        (check.state, check.found)
    };
    assert_eq!(state("runs").await.0, CheckState::Ok);
    assert_eq!(state("wakes").await.0, CheckState::Ok);
    let why = operations.why(&admin(), task).await.unwrap();
    assert_eq!(why.wakes.len(), 1, "{why:?}");
    assert_eq!(why.node.as_deref(), Some("local"));
    // A Task that its list calls running, and that nobody would take up.
    node.forge_running(&admin(), TaskId::derived(&["lost"])).await;
    let (found, text) = state("runs").await;
    assert_eq!(found, CheckState::Fail, "{text}");
    assert!(text.contains(&TaskId::derived(&["lost"]).to_string()), "{text}");
}

/// Written behind the Task's back: a second end of its attempt, and a hole in its frames.
#[tokio::test]
async fn the_doctor_finds_what_must_not_stand_in_a_journal() {
    let node = Node::start().await;
    let (operations, stores) = (node.operations(), node.stores());
    let task = node.task(&ann(), "[[demo chunks=1]] hello").await;
    node.until(&ann(), task, is_over).await;
    let look = async || {
        let report = operations.doctor(&admin()).await.unwrap();
        let of = |name: &str| {
            let check = report.checks.iter().find(|check| check.name == name).unwrap();
            (check.state, check.found.clone())
        };
        let found = ["fences", "activations", "frames", "endings", "orphans"].map(of);
        (found, report.unchecked.len())
    };
    let (found, unchecked) = look().await;
    for (state, text) in &found {
        assert_eq!(*state, CheckState::Ok, "{text}");
    }
    assert!(found[3].1.starts_with("1 Tasks by chance, "), "{}", found[3].1);
    assert!(unchecked > 0, "what cannot be checked is said");

    let id = EntityId::from(task);
    let peeked = stores.inventory.peek(id).await.unwrap().unwrap();
    let is_end = |entry: &&Entry| String::from_utf8_lossy(&entry.body).contains("attempt_ended");
    let end = peeked.tail.iter().find(is_end).unwrap();
    let last = peeked.tail.last().unwrap();
    let opened = stores.journal.open(id, stores.boot_epoch).await.unwrap();
    let first_frame = last.next_frame().plus(1);
    let again = Entry { seq: opened.head.next(), first_frame, ..end.clone() };
    stores.journal.append(&opened, again.seq, vec![again.clone()], Vec::new()).await.unwrap();
    let ([fences, _, frames, endings, _], _) = look().await;
    assert_eq!(fences.0, CheckState::Ok, "its writer was the newest: {}", fences.1);
    let at = again.seq.to_string();
    for ((state, text), what) in [(frames, "frame"), (endings, "a second end of an attempt")] {
        assert_eq!(state, CheckState::Fail, "{text}");
        let parts = [&id.to_string(), what, &at];
        assert!(parts.iter().all(|part| text.contains(*part)), "{text}");
    }
}

/// What could not be read is told by every check that needed it, and none passes for one that went well.
#[tokio::test]
async fn without_its_store_the_doctor_says_what_it_did_not_check() {
    let (node, store) = Node::over_a_store().await;
    let operations = node.operations();
    let task = node.task(&ann(), "[[demo chunks=1]] hello").await;
    node.until(&ann(), task, is_over).await;
    (0..2).for_each(|replica| store.set_replica_down(replica, true));
    let report = operations.doctor(&admin()).await.unwrap();
    for name in ["fences", "frames", "endings", "orphans", "runs", "wakes"] {
        let check = report.checks.iter().find(|check| check.name == name).unwrap();
        assert_eq!(check.state, CheckState::Warn, "{check:?}");
        assert!(check.found.contains("could not be checked"), "{check:?}");
    }
    assert_eq!(report.state, CheckState::Fail, "the store itself");
}

/// Made while a Task is at work; it says what is in it, and one is made at a time.
#[tokio::test]
async fn a_backup_is_made_while_the_node_works_and_stands_in_the_audit_log() {
    let node = Node::start().await;
    let operations = node.operations();
    let task = node.task(&ann(), "[[demo chunks=1]] hello").await;
    node.until(&ann(), task, is_over).await;
    let mut stream = operations.backup(&admin()).await.unwrap();
    let second = operations.backup(&admin()).await.unwrap_err();
    assert_eq!((second.status, second.code.as_str()), (409, "backup_runs"));
    let mut file = Vec::new();
    while let Some(piece) = stream.next().await.unwrap() {
        file.extend_from_slice(&piece);
    }
    let (head, totals) = verify(file.as_slice()).unwrap();
    assert_eq!(head.node, "local");
    assert!(totals.of(Kind::Entity) >= 1 && totals.of(Kind::Entry) >= 3, "{totals:?}");
    assert_eq!(totals.of(Kind::Task), 1);
    // Its last row is written after its last piece.
    let told = async || operations.audit(&admin(), None, 10).await.unwrap().items;
    wait_until(PATIENCE, async || told().await.len() == 3).await;
    let rows = told().await;
    let short: Vec<_> = rows.iter().map(|r| (r.action.as_str(), r.outcome.as_str())).collect();
    let expected = [("backup", "done"), ("begin_backup", "backup_runs"), ("begin_backup", "done")];
    assert_eq!(short, expected);
    assert!(rows[0].detail.contains("entities"), "{}", rows[0].detail);
    assert_eq!(rows[0].target, head.id.to_string());

    // Nobody takes the next one: it ends, and its place is free again.
    drop(operations.backup(&admin()).await.unwrap());
    wait_until(PATIENCE, async || operations.backup(&admin()).await.is_ok()).await;
}
