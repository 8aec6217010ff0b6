use proptest::prelude::*;
use serde_json::json;

use super::*;

fn ghost(name: &str) -> Change {
    put_doc(Kind::Ghost, name, json!({"spec": {"systemPrompt": name}}), &[])
}

fn bot(name: &str, ghost: &str) -> Change {
    let target = Target { key: Key::new(Kind::Ghost, ghost), path: "spec.ghostRef.name".into() };
    put_doc(Kind::Bot, name, json!({"spec": {"ghostRef": {"name": ghost}}}), &[target])
}

fn put_doc(kind: Kind, name: &str, document: Value, references: &[Target]) -> Change {
    Change::Put {
        key: Key::new(kind, name),
        document,
        secrets: BTreeMap::new(),
        unchanged: vec![],
        references: references.to_vec(),
        only_if: Precondition::Any,
    }
}

fn delete(kind: Kind, name: &str) -> Change {
    Change::Delete { key: Key::new(kind, name), only_if: Precondition::Any, purge: false }
}

fn restore(kind: Kind, name: &str) -> Change {
    Change::Restore { key: Key::new(kind, name) }
}

fn run(state: &mut NamespaceState, changes: Vec<Change>) -> Result<Vec<Operation>, Vec<Fault>> {
    run_at(state, changes, 1)
}

fn run_at(
    state: &mut NamespaceState,
    changes: Vec<Change>,
    millis: i64,
) -> Result<Vec<Operation>, Vec<Fault>> {
    let apply = Apply { changes, ..Apply::default() };
    let mut n = u128::from(state.version.0) * 1_000;
    let decision = decide(state, &apply, Timestamp::from_millis(millis), &mut || {
        n += 1;
        Uuid::from_u128(n)
    })?;
    if let Some(entry) = &decision.entry {
        state.apply(entry);
    }
    Ok(decision.outcomes.into_iter().map(|o| o.operation).collect())
}

#[test]
fn documents_may_come_in_any_order_and_one_fault_refuses_all() {
    let mut state = NamespaceState::default();
    let made = run(&mut state, vec![bot("b", "g"), ghost("g")]).unwrap();
    assert_eq!(made, [Operation::Created, Operation::Created]);
    let before = state.clone();
    let faults = run(&mut state, vec![ghost("h"), bot("c", "nobody")]).unwrap_err();
    assert!(matches!(&faults[..], [Fault::BrokenReference { target, .. }]
        if target.path == "spec.ghostRef.name"));
    assert_eq!(state, before);
}

#[test]
fn a_used_resource_is_not_deleted_unless_its_users_go_too() {
    let mut state = NamespaceState::default();
    run(&mut state, vec![ghost("g"), bot("b", "g")]).unwrap();
    let faults = run(&mut state, vec![delete(Kind::Ghost, "g")]).unwrap_err();
    let users = vec![Key::new(Kind::Bot, "b")];
    assert_eq!(faults, [Fault::InUse { key: Key::new(Kind::Ghost, "g"), users }]);
    run(&mut state, vec![delete(Kind::Ghost, "g"), delete(Kind::Bot, "b")]).unwrap();
    assert!(state.items.is_empty());
}

#[test]
fn versions_are_entry_numbers_and_generations_count_specs() {
    let mut state = NamespaceState::default();
    run(&mut state, vec![ghost("g")]).unwrap();
    assert_eq!(run(&mut state, vec![ghost("g")]).unwrap(), [Operation::Unchanged]);
    assert_eq!(state.version, Seq(1));
    let labelled = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"systemPrompt": "g"}});
    run(&mut state, vec![put_doc(Kind::Ghost, "g", labelled, &[])]).unwrap();
    let item = &state.items[&Key::new(Kind::Ghost, "g")];
    assert_eq!((item.version, item.generation), (Seq(2), 1));
    let stale = Change::Put {
        key: Key::new(Kind::Ghost, "g"),
        document: json!({}),
        secrets: BTreeMap::new(),
        unchanged: vec![],
        references: vec![],
        only_if: Precondition::Version(Seq(1)),
    };
    let faults = run(&mut state, vec![stale]).unwrap_err();
    assert!(matches!(faults[..], [Fault::Conflict { current: Seq(2), .. }]));
}

#[test]
fn an_entry_in_parts_says_the_same() {
    let state = NamespaceState::default();
    let mut changes: Vec<Change> = (0..20).map(|n| ghost(&format!("g{n}"))).collect();
    changes.push(put_doc(Kind::Ghost, "large", json!({"spec": {"x": "y".repeat(3_000)}}), &[]));
    changes.push(ghost("last"));
    let apply = Apply { changes, ..Apply::default() };
    let decision = decide(&state, &apply, Timestamp::default(), &mut || Uuid::nil()).unwrap();
    let whole = decision.entry.unwrap();
    let size = whole.changes[0].bytes();
    let parts = whole.clone().split(Seq(1), 3 * size);
    let counts: Vec<usize> = parts.iter().map(|part| part.changes.len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 22);
    assert_eq!(counts[counts.len() - 2..], [1, 1], "what is larger has an entry of its own");
    assert!(counts.iter().all(|count| (1..=3).contains(count)), "{counts:?}");
    let (mut in_one, mut in_parts) = (state.clone(), state);
    in_one.apply(&whole);
    for part in &parts {
        in_parts.apply(part);
        for change in &part.changes {
            let ItemChange::Written { key, item } = change else { panic!("{change:?}") };
            assert_eq!(item.version, in_parts.version, "{key:?}");
        }
    }
    assert_eq!(in_parts.version, Seq(parts.len() as u64));
    let documents = |state: &NamespaceState| -> Vec<Value> {
        state.items.values().map(|item| item.document.clone()).collect()
    };
    assert_eq!(documents(&in_parts), documents(&in_one));
    assert_eq!(whole.clone().split(Seq(1), usize::MAX), [whole]);
}

#[test]
fn what_was_deleted_comes_back_as_it_was() {
    let mut state = NamespaceState::default();
    run(&mut state, vec![ghost("g"), bot("b", "g")]).unwrap();
    let (bot_key, ghost_key) = (Key::new(Kind::Bot, "b"), Key::new(Kind::Ghost, "g"));
    let before = state.items[&bot_key].clone();
    run(&mut state, vec![delete(Kind::Bot, "b"), delete(Kind::Ghost, "g")]).unwrap();
    assert!(state.items.is_empty() && state.deleted.len() == 2);

    // Not without what it refers to, and then with it in any order.
    let faults = run(&mut state, vec![restore(Kind::Bot, "b")]).unwrap_err();
    assert!(matches!(&faults[..], [Fault::BrokenReference { target, .. }]
        if target.key == ghost_key));
    let both = vec![restore(Kind::Bot, "b"), restore(Kind::Ghost, "g")];
    assert_eq!(run(&mut state, both).unwrap(), [Operation::Restored; 2]);
    let after = &state.items[&bot_key];
    assert_eq!((after.uid, after.generation), (before.uid, before.generation));
    assert_eq!((&after.document, after.version), (&before.document, state.version));
    assert!(state.deleted.is_empty());
    let faults = run(&mut state, vec![restore(Kind::Bot, "b")]).unwrap_err();
    assert_eq!(faults, [Fault::Exists { key: bot_key }]);
    let faults = run(&mut state, vec![restore(Kind::Bot, "nobody")]).unwrap_err();
    assert_eq!(faults, [Fault::Missing { key: Key::new(Kind::Bot, "nobody") }]);
}

#[test]
fn a_new_one_of_the_same_name_stands_in_the_way_and_is_another() {
    let mut state = NamespaceState::default();
    run(&mut state, vec![ghost("g")]).unwrap();
    let key = Key::new(Kind::Ghost, "g");
    let first = state.items[&key].uid;
    run(&mut state, vec![delete(Kind::Ghost, "g")]).unwrap();
    run(&mut state, vec![ghost("g")]).unwrap();
    assert_ne!(state.items[&key].uid, first);
    assert_eq!(state.deleted[&key].item.uid, first, "it is kept meanwhile");
    let faults = run(&mut state, vec![restore(Kind::Ghost, "g")]).unwrap_err();
    assert_eq!(faults, [Fault::Exists { key: key.clone() }]);
    let second = state.items[&key].uid;
    run(&mut state, vec![delete(Kind::Ghost, "g")]).unwrap();
    run(&mut state, vec![restore(Kind::Ghost, "g")]).unwrap();
    assert_eq!(state.items[&key].uid, second, "the one deleted last");
}

#[test]
fn what_is_purged_too_old_or_too_much_does_not_come_back() {
    let mut state = NamespaceState::default();
    let purge = |name: &str| Change::Delete {
        key: Key::new(Kind::Ghost, name),
        only_if: Precondition::Any,
        purge: true,
    };
    run(&mut state, vec![ghost("live"), ghost("gone")]).unwrap();
    run(&mut state, vec![delete(Kind::Ghost, "gone")]).unwrap();
    run(&mut state, vec![purge("live"), purge("gone")]).unwrap();
    assert!(state.items.is_empty() && state.deleted.is_empty());
    let faults = run(&mut state, vec![purge("gone")]).unwrap_err();
    assert_eq!(faults, [Fault::Missing { key: Key::new(Kind::Ghost, "gone") }]);

    run(&mut state, vec![ghost("old")]).unwrap();
    run(&mut state, vec![delete(Kind::Ghost, "old")]).unwrap();
    let month = KEPT_DAYS * 24 * 3_600 * 1_000;
    let late = run_at(&mut state, vec![restore(Kind::Ghost, "old")], month + 1).unwrap_err();
    assert_eq!(late, [Fault::Missing { key: Key::new(Kind::Ghost, "old") }]);
    run_at(&mut state, vec![ghost("new")], month + 1).unwrap();
    assert!(state.deleted.is_empty(), "the next write lets it go");

    let names: Vec<String> = (0..=KEPT_MAX).map(|n| format!("g{n:03}")).collect();
    for (n, name) in (month + 2..).zip(&names) {
        run_at(&mut state, vec![ghost(name)], n).unwrap();
        run_at(&mut state, vec![delete(Kind::Ghost, name)], n).unwrap();
    }
    assert_eq!(state.deleted.len(), KEPT_MAX);
    assert!(!state.deleted.contains_key(&Key::new(Kind::Ghost, &*names[0])), "the first one");
}

#[test]
fn a_snapshot_from_before_anything_was_kept_is_read() {
    let state: NamespaceState = serde_json::from_value(json!({"version": 3, "items": []})).unwrap();
    assert_eq!((state.version, state.deleted.len()), (Seq(3), 0));
    let removed = json!({"change": "removed", "key": {"kind": "Ghost", "name": "g"}});
    let change: ItemChange = serde_json::from_value(removed.clone()).unwrap();
    assert_eq!(serde_json::to_value(&change).unwrap(), removed, "and older nodes read this one");
}

fn arb_change() -> impl Strategy<Value = Change> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    prop_oneof![
        name.clone().prop_map(ghost),
        (name.clone(), name.clone()).prop_map(|(b, g)| bot(b, g)),
        name.clone().prop_map(|n| delete(Kind::Ghost, n)),
        name.clone().prop_map(|n| delete(Kind::Bot, n)),
        name.clone().prop_map(|n| restore(Kind::Bot, n)),
        name.prop_map(|n| restore(Kind::Ghost, n)),
    ]
}

proptest! {
    #[test]
    fn no_reference_is_ever_broken_and_replay_equals_live(
        applies in prop::collection::vec(prop::collection::vec(arb_change(), 1..5), 1..30),
    ) {
        let mut state = NamespaceState::default();
        let mut replay = NamespaceState::default();
        for changes in applies {
            let apply = Apply { changes, ..Apply::default() };
            let now = Timestamp::from_millis(5);
            let Ok(decision) = decide(&state, &apply, now, &mut || Uuid::nil()) else { continue };
            if let Some(entry) = decision.entry {
                state.apply(&entry);
                let text = serde_json::to_string(&entry).unwrap();
                replay.apply(&serde_json::from_str(&text).unwrap());
            }
            for item in state.items.values() {
                for target in &item.references {
                    prop_assert!(state.items.contains_key(&target.key));
                }
            }
        }
        prop_assert_eq!(&state, &replay);
        let text = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<NamespaceState>(&text).unwrap(), state);
    }
}
