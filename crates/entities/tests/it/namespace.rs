//! A Namespace: all or nothing, versions, watch, restart.

use serde_json::json;
use troupe_domain::namespace::{Apply, Change, Key, Precondition};
use troupe_entities::{NamespaceAddress, namespace::NamespaceError};
use troupe_resources::Kind;
use troupe_types::{NamespaceId, Seq};

use crate::host::{Host, stores};

fn ghost(name: &str, prompt: &str) -> Change {
    Change::Put {
        key: Key::new(Kind::Ghost, name),
        document: json!({"spec": {"systemPrompt": prompt}}),
        secrets: std::collections::BTreeMap::new(),
        unchanged: vec![],
        references: vec![],
        only_if: Precondition::Any,
    }
}

fn apply(changes: Vec<Change>) -> Apply {
    Apply { changes, ..Apply::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_is_listed_watched_and_there_after_a_restart() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let address = NamespaceAddress::new(host.router.clone(), NamespaceId::derived(&["n"]));
    assert_eq!(address.list(None).await.unwrap().version, Seq::ZERO);
    let watching = address.clone();
    let watch = tokio::task::JoinSet::from_iter([async move { watching.watch(Seq::ZERO).await }]);
    for n in 0..150 {
        let change = ghost(&format!("g{}", n % 7), &n.to_string());
        address.apply(apply(vec![change])).await.unwrap();
    }
    let (events, version) = watch.join_all().await.remove(0).unwrap();
    assert!(
        !events.is_empty() && version >= Seq(1),
        "a held watch is answered by the first change"
    );
    let listed = address.list(Some(Kind::Ghost)).await.unwrap();
    assert_eq!((listed.items.len(), listed.version), (7, Seq(150)));
    host.drain().await;

    let stores = store.restart().stores();
    let host = Host::start(&stores).await;
    let address = NamespaceAddress::new(host.router.clone(), NamespaceId::derived(&["n"]));
    assert_eq!(address.list(Some(Kind::Ghost)).await.unwrap(), listed);
    assert!(address.watch(Seq(1)).await.is_err(), "the log begins at the snapshot");
    let (_, at) = address.watch(Seq(140)).await.unwrap();
    assert_eq!(at, Seq(150));
    host.drain().await;
}

const KIB: usize = 1024;

fn large(name: &str, kib: usize) -> Change {
    ghost(name, &"x".repeat(kib * KIB))
}

fn delete(name: &str, purge: bool) -> Change {
    let key = Key::new(Kind::Ghost, name);
    Change::Delete { key, only_if: Precondition::Present, purge }
}

/// Why it was refused.
async fn refused(address: &NamespaceAddress, changes: Vec<Change>) -> String {
    let refused: NamespaceError = address.apply(apply(changes)).await.unwrap_err();
    format!("{refused:?}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apply_that_is_larger_than_a_message_is_one_apply() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let address = NamespaceAddress::new(host.router.clone(), NamespaceId::derived(&["n"]));
    let watching = address.clone();
    let watch = tokio::task::JoinSet::from_iter([async move { watching.watch(Seq::ZERO).await }]);
    let many = |name: &str| (0..8).map(|n| large(&format!("{name}{n}"), 100)).collect::<Vec<_>>();
    // Two of them are an entry.
    let (outcomes, version) = address.apply(apply(many("g"))).await.unwrap();
    assert_eq!((outcomes.len(), version), (8, Seq(4)));
    let (told, upto) = watch.join_all().await.remove(0).unwrap();
    assert!(!told.is_empty() && upto >= Seq(1));
    address.apply(apply(vec![large("g0", 200)])).await.unwrap();
    // All or nothing, as ever; and a dry run is neither.
    assert!(
        address.apply(apply([many("h"), vec![delete("nobody", false)]].concat())).await.is_err()
    );
    address.apply(Apply { dry_run: true, ..apply(many("h")) }).await.unwrap();
    let listed = address.list(None).await.unwrap();
    assert_eq!((listed.items.len(), listed.version), (8, Seq(5)));
    for (key, item) in &listed.items {
        let told = address.watch(Seq(item.version.0 - 1)).await.unwrap().0;
        assert_eq!((&told[0].version, told.iter().any(|e| e.key == *key)), (&item.version, true));
    }
    host.drain().await;

    let stores = store.restart().stores();
    let host = Host::start(&stores).await;
    let address = NamespaceAddress::new(host.router.clone(), NamespaceId::derived(&["n"]));
    assert_eq!(address.list(None).await.unwrap(), listed);
    assert_eq!(address.watch(Seq::ZERO).await.unwrap().1, Seq(5));
    let stale = Change::Put {
        key: Key::new(Kind::Ghost, "g7"),
        document: json!({}),
        secrets: Default::default(),
        unchanged: vec![],
        references: vec![],
        only_if: Precondition::Version(Seq(4)),
    };
    address.apply(apply(vec![stale])).await.expect("its version is that of its own entry");
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_bounded_and_a_watcher_is_told_in_parts() {
    let (_store, stores) = stores();
    let host = Host::start(&stores).await;
    let address = NamespaceAddress::new(host.router.clone(), NamespaceId::derived(&["n"]));
    let named = |range: std::ops::Range<usize>| range.map(|n| large(&format!("g{n:02}"), 240));
    let told = refused(&address, named(0..5).collect()).await;
    assert!(told.contains("KiB fit into one apply: split them"), "{told}");
    let told = refused(&address, vec![large("one", 257)]).await;
    assert!(told.contains("256 KiB are allowed for one"), "{told}");
    let told = refused(&address, (0..12).map(|n| large(&format!("{n}"), 240)).collect()).await;
    assert!(told.contains("too large for one apply"), "{told}");
    for n in 0..25 {
        address.apply(apply(named(n..n + 1).collect())).await.unwrap();
    }
    // In whole versions, and nothing is left out.
    let (mut at, mut names, mut answers) = (Seq::ZERO, Vec::new(), 0);
    while at < Seq(25) {
        let (events, upto) = address.watch(at).await.unwrap();
        names.extend(events.into_iter().map(|event| event.key.name));
        (at, answers) = (upto, answers + 1);
    }
    assert_eq!(names, (0..25).map(|n| format!("g{n:02}")).collect::<Vec<_>>());
    assert!(answers > 1, "one answer would be too large");

    // 6,000 of 6,144 KiB: no more, and what is replaced or made smaller is taken.
    let one_more = || vec![large("more", 200)];
    let told = refused(&address, one_more()).await;
    assert!(told.contains("6144 KiB fit: delete some"), "{told}");
    let dry = address.apply(Apply { dry_run: true, ..apply(one_more()) }).await;
    assert!(dry.is_err(), "a dry run says the same");
    for kib in [239, 230, 240] {
        address.apply(apply(vec![large("g04", kib)])).await.unwrap();
    }
    address.apply(apply(vec![delete("g01", false)])).await.unwrap();
    assert!(refused(&address, one_more()).await.contains("unless it is purged"));
    address
        .apply(apply(vec![Change::Restore { key: Key::new(Kind::Ghost, "g01") }]))
        .await
        .unwrap();
    address.apply(apply(vec![delete("g01", true)])).await.unwrap();
    address.apply(apply(one_more())).await.unwrap();
    assert_eq!(address.list(None).await.unwrap().items.len(), 25);
    host.drain().await;
}
