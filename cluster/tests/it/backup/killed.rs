//! A cluster's restore that is killed while it writes.

use std::{
    fs,
    path::Path,
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{process::Child, sync::mpsc, time::timeout};
use troupe_store::{
    Entry, MemoryStore, NewLease, Ownership as _, RowWrite, Snapshot, Stores, WakeChange, WakeKind,
    backup::{Head, StartError, check_start, dump},
};
use troupe_store_scylla::{Replication, ScyllaOptions, ScyllaStore};
use troupe_testkit::{try_until, wait_until};
use troupe_types::{
    EntityId, EntityKind, FrameSeq, LeaseRow, NodeState, Roles, Seq, Timestamp, Uuid,
};

use super::cql::{One, init};
use crate::{
    cli::Terminal,
    machines::members::{fresh_keyspace, servers},
    node::{Home, PATIENCE, troupe},
};

/// So many that writing them takes seconds.
const JOURNALS: usize = 500;
const ENTRIES: u64 = 40;
const BLOBS: usize = 20;
/// Journals that are there when the restore is killed.
const BEGUN: usize = 10;

/// A store with a bit of everything, and its journals.
async fn filled() -> Result<(MemoryStore, Vec<EntityId>)> {
    let store = MemoryStore::new();
    let stores = store.stores();
    let mut ids = Vec::new();
    for n in 0..JOURNALS {
        let kind = if n % 2 == 0 { EntityKind::Task } else { EntityKind::Namespace };
        let id = EntityId { kind, id: Uuid::new_v4() };
        let at = stores.journal.open(id, stores.boot_epoch).await?;
        let entry = |seq: u64| Entry {
            seq: Seq(seq),
            first_frame: FrameSeq(seq),
            frames: 1,
            body: format!("entry {seq} of {id}").into(),
        };
        let wake = vec![WakeChange::Insert { due: Timestamp::from_millis(7), kind: WakeKind::Run }];
        stores.journal.append(&at, Seq(1), (1..=ENTRIES).map(entry).collect(), wake).await?;
        if n % 3 == 0 {
            stores.journal.snapshot(&at, Seq(ENTRIES / 2), "half".into()).await?;
        }
        ids.push(id);
    }
    for n in 0..BLOBS {
        stores.blobs.put(format!("blob {n}").into()).await?;
        let key = Uuid::new_v4().as_bytes().to_vec();
        let row = RowWrite::insert(troupe_store::DirectoryTable::User, key, "somebody");
        stores.directory.compare_and_set(row).await?;
    }
    Ok((store, ids))
}

async fn write_backup(stores: &Stores, file: &Path) -> Result<()> {
    let head = Head {
        id: Uuid::new_v4(),
        at: Timestamp::from_millis(1_700_000_000_000),
        build: "test".to_owned(),
        node: "node".to_owned(),
    };
    let (to, mut pieces) = mpsc::channel(1);
    let written = async {
        let done = dump(stores, head, &to).await;
        drop(to);
        done
    };
    let collect = async {
        let mut whole = Vec::new();
        while let Some(piece) = pieces.recv().await {
            whole.extend_from_slice(&piece);
        }
        whole
    };
    let (done, whole) = tokio::join!(written, collect);
    done?;
    Ok(fs::write(file, whole)?)
}

/// A handle of the test's own, over what the restore fills.
async fn look(one: &One<'_>) -> Result<ScyllaStore> {
    let mut options = ScyllaOptions::new([one.servers.0.as_str()], one.keyspace.as_str());
    options.cluster = "one".to_owned();
    options.create_keyspace = Some(Replication::Simple(1));
    Ok(ScyllaStore::connect(&options).await?)
}

async fn live(store: &ScyllaStore) -> Result<Vec<LeaseRow>> {
    let mut leases = store.leases().await?;
    leases.retain(|lease| lease.state != NodeState::Dead);
    Ok(leases)
}

/// Runs a restore until it has begun to write, and kills it.
async fn killed_halfway(one: &One<'_>, stores: &Stores) -> Result<ExitStatus> {
    let log = fs::File::create(one.home.path().join("node.log"))?;
    let mut command = troupe();
    command.args(one.restore("all.backup")).current_dir(one.home.path()).stdout(Stdio::null());
    let mut child: Child = command.env("HOME", one.home.path()).stderr(log).spawn()?;
    let begun = try_until(2 * PATIENCE, async || {
        let found = stores.inventory.entities(None, BEGUN).await;
        found.is_ok_and(|found| found.len() >= BEGUN)
            || child.try_wait().is_ok_and(|ended| ended.is_some())
    });
    ensure!(begun.await, "nothing is written:\n{}", one.home.log());
    child.start_kill()?;
    timeout(PATIENCE, child.wait()).await.context("it does not end")?.map_err(Into::into)
}

/// The entry and what stands around it are as they were.
async fn same(before: &Stores, after: &Stores, id: EntityId) -> Result<()> {
    let before = before.inventory.peek(id).await?.context("it was there")?;
    let after = after.inventory.peek(id).await?.with_context(|| format!("{id} is missing"))?;
    let state = |snapshot: &Option<Snapshot>| snapshot.as_ref().map(|s| (s.upto, s.state.clone()));
    assert_eq!(state(&after.snapshot), state(&before.snapshot), "{id}");
    assert_eq!((after.tail, after.wake), (before.tail, before.wake), "{id}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_restore_is_continued_with_another_nodes_configuration() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let home = Home::new()?;
    init(&home, "n0,n1").await?;
    let (before, ids) = filled().await?;
    write_backup(&before.stores(), &home.path().join("all.backup")).await?;
    let first = One { name: "n0", home: &home, servers, keyspace: fresh_keyspace() };
    let second = One {
        name: "n1",
        servers: first.servers.clone(),
        keyspace: first.keyspace.clone(),
        home: &home,
    };
    let store = look(&first).await?;
    let after = store.stores();
    let ended = killed_halfway(&first, &after).await?;
    assert_eq!(ended.code(), None, "it was killed, it had not ended: {}", home.log());
    let half = check_start(after.directory.as_ref()).await;
    assert!(matches!(half, Err(StartError::Half { .. })), "{half:?}");
    assert!(after.inventory.entities(None, ids.len()).await?.len() < ids.len(), "half of it");
    let left: Vec<String> = live(&store).await?.iter().map(|l| l.node.0.to_string()).collect();
    assert_eq!(left, ["n0"], "what it leaves");

    // A node that works is another matter.
    let me = Terminal { home: &home, url: String::new() };
    let words = second.restore("all.backup");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let node = NewLease {
        node: "n2".into(),
        boot_id: Uuid::new_v4(),
        addr: "127.0.0.1:1".to_owned(),
        build: "test".to_owned(),
        roles: Roles::ALL,
        weight: 100,
    };
    let node = store.join(&node).await?;
    let refused = me.say(&words).await?.fails(1);
    assert!(refused.contains("nodes have a lease: n2."), "{refused}");
    store.kill(&node).await?;

    assert!(me.say(&words).await?.ok().contains("restored"));
    let done = check_start(after.directory.as_ref()).await?;
    assert!(done.is_some(), "no mark of its end");
    wait_until(PATIENCE, async || live(&store).await.is_ok_and(|live| live.is_empty())).await;
    assert_eq!(after.inventory.entities(None, 2 * ids.len()).await?.len(), ids.len());
    assert_eq!(after.inventory.blobs(None, 2 * BLOBS).await?.len(), BLOBS);
    for id in ids {
        same(&before.stores(), &after, id).await?;
    }
    Ok(())
}
