//! The server, and keyspaces of their own.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::OnceLock,
    time::Duration,
};

use async_trait::async_trait;
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    statement::Statement,
};
use tokio::sync::Mutex;
use troupe_store::{NewLease, Ownership, Stores, conformance::Subject};
use troupe_store_scylla::{Replication, ScyllaOptions, ScyllaStore};
use troupe_types::{
    Clock, Epoch, LeaseRow, Roles, SHARDS_GENERAL, SHARDS_KNOWLEDGE, ShardId, SystemClock, Uuid,
};

const VARIABLE: &str = "TROUPE_TEST_CQL";
const PREFIX: &str = "troupe_test_";
/// Most tests share a keyspace for so long: their rows are kept apart by random ids and by
/// the name of their cluster, and dropping a keyspace is slow.
const SHARED_MS: i64 = 60 * 60 * 1000;
/// Older keyspaces are dropped by later tests after so long.
const LEFT_OVER_MS: i64 = 3 * SHARED_MS;

/// Where the server is. `None`: there is none, and the test says that it is skipped; in CI it
/// fails.
pub(crate) fn address() -> Option<String> {
    let address = std::env::var_os(VARIABLE).map(|address| address.into_string().unwrap());
    if address.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{VARIABLE} is not set, and this is CI");
        eprintln!("skipped: {VARIABLE} is not set; `cargo xtask services up cassandra` prints it");
    }
    address
}

/// Copies of everything: `TROUPE_TEST_CQL_COPIES`, for a ring.
fn copies() -> u32 {
    let told = std::env::var_os("TROUPE_TEST_CQL_COPIES");
    told.map_or(1, |told| told.to_str().unwrap().parse().unwrap())
}

/// Changes of the schema go one by one: that is what servers are good at.
static SCHEMA: Mutex<()> = Mutex::const_new(());

async fn session(address: &str) -> Session {
    SessionBuilder::new().known_node(address).build().await.unwrap()
}

fn now_ms() -> i64 {
    static CLOCK: OnceLock<SystemClock> = OnceLock::new();
    CLOCK.get_or_init(SystemClock::new).now().as_millis()
}

/// The keyspace of all tests that do not mind others beside them. Those of another checkout may
/// have other tables.
fn shared_keyspace() -> String {
    let mut tables = DefaultHasher::new();
    include_str!("../../src/schema.rs").hash(&mut tables);
    format!("{PREFIX}{}_{:08x}_shared", now_ms() / SHARED_MS * SHARED_MS, tables.finish() as u32)
}

/// A name for a keyspace that tells when it was made.
pub(crate) fn fresh_keyspace() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{PREFIX}{}_{}", now_ms(), &random[..8])
}

pub(crate) async fn drop_keyspace(address: &str, name: &str) {
    let _one_by_one = SCHEMA.lock().await;
    let session = session(address).await;
    let mut gone = Statement::new(format!("DROP KEYSPACE IF EXISTS {name}"));
    gone.set_request_timeout(Some(Duration::from_secs(300)));
    session.query_unpaged(gone, ()).await.unwrap();
}

async fn drop_left_overs(address: &str) {
    let session = session(address).await;
    let all = "SELECT keyspace_name FROM system_schema.keyspaces";
    let all = session.query_unpaged(all, ()).await.unwrap().into_rows_result().unwrap();
    for row in all.rows::<(String,)>().unwrap() {
        let (name,) = row.unwrap();
        let made = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next());
        let made: Option<i64> = made.and_then(|made| made.parse().ok());
        if made.is_some_and(|made| made < now_ms() - LEFT_OVER_MS) {
            // Another test may be faster.
            let _ = session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {name}"), ()).await;
        }
    }
}

pub(crate) fn options(address: &str, keyspace: &str) -> ScyllaOptions {
    let mut options = ScyllaOptions::new([address], keyspace);
    options.create_keyspace = Some(Replication::Simple(copies()));
    options.cluster = Uuid::new_v4().to_string();
    // Two cores for a server and many tests: late is not lost.
    options.timeouts.request = Duration::from_secs(10);
    options.timeouts.repeat_after = Duration::from_secs(3);
    options
}

pub(crate) fn new_lease(node: &str) -> NewLease {
    NewLease {
        node: node.into(),
        boot_id: Uuid::new_v4(),
        addr: "127.0.0.1:1".to_owned(),
        build: "test".to_owned(),
        roles: Roles::ALL,
        weight: 100,
    }
}

/// One node over a keyspace of its own. Its boot epoch is its incarnation.
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) keyspace: String,
    pub(crate) cluster: String,
    pub(crate) store: ScyllaStore,
    pub(crate) lease: LeaseRow,
}

impl Node {
    /// In the shared keyspace, in a cluster of its own. `None`: there is no server.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_in(shared_keyspace()).await
    }

    /// In a keyspace of its own.
    pub(crate) async fn start_alone() -> Option<Self> {
        Self::start_in(fresh_keyspace()).await
    }

    async fn start_in(keyspace: String) -> Option<Self> {
        let address = address()?;
        let options = options(&address, &keyspace);
        let cluster = options.cluster.clone();
        let one_by_one = SCHEMA.lock().await;
        drop_left_overs(&address).await;
        let store = ScyllaStore::connect(&options).await.unwrap();
        drop(one_by_one);
        let lease = store.join(&new_lease("node")).await.unwrap();
        Some(Self { address, keyspace, cluster, store, lease })
    }

    /// Statements by hand, one after the other.
    pub(crate) async fn run(&self, statements: &[&str]) {
        let session = session(&self.address).await;
        session.use_keyspace(self.keyspace.as_str(), false).await.unwrap();
        for text in statements {
            session.query_unpaged(*text, ()).await.unwrap();
        }
    }

    /// Has the servers put what they have in memory into a new file each: that is what they do
    /// when the definition of a table changes.
    pub(crate) async fn flush(&self, tables: &[&str]) {
        for table in tables {
            let changed = format!("ALTER TABLE {table} WITH comment = '{}'", Uuid::new_v4());
            let _one_by_one = SCHEMA.lock().await;
            self.run(&[&changed]).await;
        }
    }

    pub(crate) async fn end(self) {
        if !self.keyspace.ends_with("_shared") {
            drop_keyspace(&self.address, &self.keyspace).await;
        }
    }
}

#[async_trait]
impl Subject for Node {
    fn stores(&self) -> Stores {
        Stores { boot_epoch: Epoch(self.lease.inc.0), ..self.store.stores() }
    }

    /// Another process of the same node: it shares nothing but the connections.
    async fn restart(&mut self) {
        self.store = self.store.fresh(None);
        self.lease = self.store.join(&new_lease("node")).await.unwrap();
        // What claims do in a cluster: older epochs are over.
        for shard in 0..SHARDS_GENERAL + SHARDS_KNOWLEDGE {
            self.store.floors().release(ShardId(shard), Epoch(self.lease.inc.0 - 1));
        }
    }
}
