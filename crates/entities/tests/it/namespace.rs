//! A Namespace: all or nothing, versions, watch, restart.

use serde_json::json;
use troupe_domain::namespace::{Apply, Change, Key, Precondition};
use troupe_entities::NamespaceAddress;
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
