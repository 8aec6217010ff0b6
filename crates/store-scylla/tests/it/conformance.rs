//! The suites that every store passes.

use std::{cell::RefCell, sync::Arc};

use async_trait::async_trait;
use proptest::test_runner::{Config, TestRunner};
use troupe_store::{
    JournalStore, MemoryStore, Ownership, backup,
    conformance::{self, Cluster, Subject, journal_model},
};
use troupe_store_scylla::ScyllaStore;
use troupe_types::{TaskId, UserId, Uuid};

use crate::server::{Node, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_conforms() {
    let Some(mut node) = Node::start().await else { return };
    conformance::journal(&mut node).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wake_conforms() {
    let Some(mut node) = Node::start().await else { return };
    conformance::wake(&mut node).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory_conforms() {
    let Some(mut node) = Node::start_alone().await else { return };
    conformance::directory(&mut node).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_conform() {
    let Some(mut node) = Node::start_alone().await else { return };
    conformance::projections(&mut node).await;
    conformance::blobs(&mut node).await;
    conformance::dead_letters(&mut node).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_go_from_any_store_to_any() {
    let Some(first) = Node::start_alone().await else { return };
    let Some(second) = Node::start_alone().await else { return };
    let (before, after) = (MemoryStore::new(), MemoryStore::new());
    conformance::backup(&before.stores(), &first.stores()).await;
    // What a restore leaves is a store like any other.
    let file = conformance::take(&first.stores()).await;
    let whole = conformance::whole(&file);
    backup::load(&after.stores(), whole, Uuid::new_v4(), |_, _| {}).await.unwrap();
    let again = conformance::take(&after.stores()).await;
    assert_eq!(conformance::contents(&again), conformance::contents(&file));
    conformance::backup(&after.restart().stores(), &second.stores()).await;
    first.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_may_run_twice_and_rows_of_the_version_before_are_read() {
    let Some(mut node) = Node::start_alone().await else { return };
    let (task, owner) = (TaskId::from_uuid(Uuid::new_v4()), UserId::from_uuid(Uuid::new_v4()));
    let old_row = format!(
        "INSERT INTO task_row (task, owner, seq, created_at, updated_at, status, title, team,
         team_namespace, archived, deleted, body) VALUES ({}, {}, 3, 1, 2, 'RUNNING', 'old', 't',
         'default', false, false, 0x7b7d) USING TIMESTAMP 3",
        task.uuid(),
        owner.uuid()
    );
    // As if a node was slow, and robbed of the lock, before it could write down the step.
    node.run(&["DELETE FROM migration WHERE ledger = 0 AND number = 2", &old_row]).await;
    let options = options(&node.address, &node.keyspace);
    let both = tokio::join!(ScyllaStore::connect(&options), ScyllaStore::connect(&options));
    both.0.unwrap();
    node.store = both.1.unwrap();
    let found = node.store.stores().projections.get_tasks(&[task]).await.unwrap();
    assert_eq!((found[0].owner, found[0].asks, &*found[0].title), (owner, 0, "old"));
    node.end().await;
}

#[async_trait]
impl Cluster for Node {
    async fn node(&self) -> (Arc<dyn Ownership>, Arc<dyn JournalStore>) {
        let node = Arc::new(self.store.fresh(None));
        (node.clone(), node)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ownership_conforms() {
    let Some(node) = Node::start().await else { return };
    conformance::ownership(&node).await;
    node.end().await;
}

#[test]
fn journal_keeps_to_its_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(node) = runtime.block_on(Node::start()) else { return };
    let node = RefCell::new(node);
    let config = Config { cases: 12, max_shrink_iters: 20, ..Config::default() };
    let run = |ops: Vec<(bool, journal_model::Op)>| {
        runtime.block_on(journal_model::run(&mut *node.borrow_mut(), &ops));
        Ok(())
    };
    TestRunner::new(config).run(&journal_model::ops(25), run).unwrap();
    runtime.block_on(node.into_inner().end());
}
