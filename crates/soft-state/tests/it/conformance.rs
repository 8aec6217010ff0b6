//! The suite, and what it leaves behind.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use troupe_soft_state::{
    InProcess, Lifetimes, RedisOptions, SoftState,
    conformance::{self, Subject},
};
use troupe_types::{SystemClock, Uuid};

use crate::server::{self, Node};

#[derive(Debug)]
struct Twin;

#[async_trait]
impl Subject for Twin {
    async fn nodes(&self, lifetimes: Lifetimes) -> [Arc<dyn SoftState>; 2] {
        let one = InProcess::new(SystemClock::shared(), lifetimes);
        let two = one.another();
        [Arc::new(one), Arc::new(two)]
    }
}

#[derive(Debug)]
struct Redis {
    url: String,
    /// Their drivers have to live.
    nodes: Mutex<Vec<Node>>,
    clusters: Mutex<Vec<Uuid>>,
}

#[async_trait]
impl Subject for Redis {
    async fn nodes(&self, lifetimes: Lifetimes) -> [Arc<dyn SoftState>; 2] {
        let cluster = Uuid::new_v4();
        let start = || {
            let options = server::options(&self.url, cluster);
            Node::start(RedisOptions { lifetimes, ..options })
        };
        let (one, two) = (start(), start());
        one.until(false).await;
        two.until(false).await;
        let states = [Arc::clone(&one.state), Arc::clone(&two.state)];
        self.nodes.lock().unwrap().extend([one, two]);
        self.clusters.lock().unwrap().push(cluster);
        states
    }
}

#[tokio::test]
async fn in_process() {
    conformance::all(&Twin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis() {
    let Some(url) = server::shared() else { return };
    let subject = Redis { url: url.clone(), nodes: Mutex::default(), clusters: Mutex::default() };
    conformance::all(&subject).await;
    // Whatever was written goes by itself.
    for cluster in subject.clusters.into_inner().unwrap() {
        let pattern = format!("troupe:{cluster}:*");
        let keys: Vec<String> = server::ask(&url, &["KEYS", &pattern]).await;
        assert!(keys.len() >= 2, "the nodes themselves at least: {keys:?}");
        for key in keys {
            let left: i64 = server::ask(&url, &["PTTL", &key]).await;
            assert!(left > 0 || left == -2, "{key} would stay for ever");
        }
    }
}

/// Nodes of different clusters do not hear each other.
#[tokio::test]
async fn clusters_on_one_redis_are_apart() {
    let Some(url) = server::shared() else { return };
    let [one, _] = server::two(&url);
    let [two, three] = server::two(&url);
    for node in [&one, &two, &three] {
        node.until(false).await;
    }
    let task = troupe_types::TaskId::from_uuid(Uuid::new_v4());
    let mut hears = two.state.presence_changes();
    one.state.announce(task, &[conformance::viewer(1)]).await;
    assert_eq!(two.state.elsewhere(task).await, []);
    three.state.announce(task, &[conformance::viewer(2)]).await;
    assert_eq!(hears.recv().await.unwrap(), task);
    assert!(hears.is_empty(), "one word, and it was the own cluster's");
}
