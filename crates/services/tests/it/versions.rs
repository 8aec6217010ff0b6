//! Reads that demand a version.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use troupe_services::{Removal, Resources};
use troupe_types::Seq;

use crate::host::{Node, ann, team};

#[tokio::test]
async fn who_writes_reads_their_own_write_through_any_gateway() {
    let node = Node::start().await;
    let other = node.another_gateway();
    let ann = ann();
    let written = node.applied(&ann, &team("a", "")).await;
    let version = Seq(written.namespaces[0].resource_version);
    let got = other.get(&ann, "default", "team", "a", Some(version)).await.unwrap();
    assert_eq!(got["metadata"]["resourceVersion"], version.0);
    let listed = other.list(&ann, Some("default"), "teams", None, Some(version)).await.unwrap();
    assert_eq!(listed["metadata"]["resourceVersion"], version.0);
    let deleted =
        node.resources.delete(&ann, "default", "team", "a", Removal::default()).await.unwrap();
    assert_eq!(deleted, version.next());
    let gone = other.get(&ann, "default", "team", "a", Some(deleted)).await.unwrap_err();
    assert_eq!(gone.status, 404);
    // What is public and not of this namespace is found all the same.
    other.get(&ann, "default", "team", "assistant", Some(deleted)).await.unwrap();
}

#[tokio::test]
async fn a_read_waits_for_its_version_and_not_for_ever() {
    let node = Node::start().await;
    let ann = ann();
    node.applied(&ann, &team("a", "")).await;
    let (mut reads, other) = (JoinSet::new(), Arc::new(node.another_gateway()));
    for wanted in [2, 3] {
        let (other, ann) = (Arc::clone(&other), ann.clone());
        reads.spawn(async move {
            other.list(&ann, Some("default"), "teams", None, Some(Seq(wanted))).await
        });
    }
    // The reads come first, or the writes do: both are well.
    node.applied(&ann, &team("b", "")).await;
    node.applied(&ann, &team("c", "")).await;
    while let Some(read) = reads.join_next().await {
        let listed = read.unwrap().unwrap();
        assert!(listed["items"].as_array().unwrap().len() >= 2, "{listed}");
    }
    let begun = tokio::time::Instant::now();
    let never = other.get(&ann, "default", "team", "a", Some(Seq(99))).await.unwrap_err();
    assert_eq!((never.status, never.code.as_str()), (503, "version_not_reached"));
    assert!(never.detail.contains("version 3") && never.detail.contains("99"), "{never:?}");
    assert_eq!(never.retry_after, Some(1));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_version_is_of_one_namespace() {
    let node = Node::start().await;
    let many = node.resources.list(&ann(), None, "teams", None, Some(Seq(1))).await.unwrap_err();
    assert_eq!((many.status, many.errors[0].path.as_str()), (422, "min_version"));
    let none = node.resources.list(&ann(), None, "teams", None, None).await.unwrap();
    assert!(!none["items"].as_array().unwrap().is_empty());
}
