//! The suites that every store passes.

use std::num::NonZeroUsize;

use async_trait::async_trait;
use proptest::prelude::*;
use tempfile::TempDir;
use troupe_store::{
    MemoryStore, Stores,
    conformance::{self, Subject, journal_model},
};
use troupe_store_sqlite::{SqliteOptions, SqliteStore};

/// A store in a directory of its own.
pub(crate) struct Sqlite {
    pub(crate) dir: TempDir,
    pub(crate) store: SqliteStore,
    pub(crate) options: SqliteOptions,
}

impl Sqlite {
    pub(crate) fn new() -> Self {
        Self::with(SqliteOptions::default())
    }

    pub(crate) fn with(options: SqliteOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), &options).unwrap();
        Self { dir, store, options }
    }

    pub(crate) fn reopen(&mut self) {
        self.store.abandon();
        self.store = SqliteStore::open(self.dir.path(), &self.options).unwrap();
    }
}

#[async_trait]
impl Subject for Sqlite {
    fn stores(&self) -> Stores {
        self.store.stores()
    }

    async fn restart(&mut self) {
        self.reopen();
    }
}

#[tokio::test]
async fn journal_conforms() {
    conformance::journal(&mut Sqlite::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_conforms_on_two_threads() {
    conformance::journal(&mut Sqlite::new()).await;
}

/// Entries move on from `recent` at once, a few at a time.
fn restless() -> SqliteOptions {
    SqliteOptions { recent_rows_max: NonZeroUsize::new(5).unwrap(), ..SqliteOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_conforms_while_entries_move() {
    conformance::journal(&mut Sqlite::with(restless())).await;
}

#[tokio::test]
async fn wake_conforms() {
    conformance::wake(&mut Sqlite::new()).await;
}

#[tokio::test]
async fn directory_conforms() {
    conformance::directory(&mut Sqlite::new()).await;
}

#[tokio::test]
async fn rows_conform() {
    let mut subject = Sqlite::new();
    conformance::projections(&mut subject).await;
    conformance::blobs(&mut subject).await;
    conformance::dead_letters(&mut subject).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn journal_keeps_to_its_model(moves in any::<bool>(), ops in journal_model::ops(30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let options = if moves { restless() } else { SqliteOptions::default() };
        runtime.block_on(journal_model::run(&mut Sqlite::with(options), &ops));
    }
}

#[tokio::test]
async fn backups_go_from_any_store_to_any() {
    let (memory, sqlite) = (MemoryStore::new(), Sqlite::new());
    conformance::backup(&memory.stores(), &sqlite.stores()).await;
    let (moving, settled) = (Sqlite::with(restless()), Sqlite::new());
    conformance::backup(&moving.stores(), &settled.stores()).await;
    let (sqlite, memory) = (Sqlite::new(), MemoryStore::new());
    conformance::backup(&sqlite.stores(), &memory.stores()).await;
}
