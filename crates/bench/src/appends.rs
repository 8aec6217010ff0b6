//! Appends per second with fsync: the store beside bare SQLite with the same rows in
//! transactions of the same size, on the same disk, one after the other.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use rusqlite::{Connection, params};
use tokio::{task::JoinSet, time::Instant};
use troupe_store::{Entry, JournalStore as _};
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, Uuid};

use crate::stats::{Times, grouped, note, row};

/// About an entry with one small frame.
const BODY: &[u8] = &[b'x'; 400];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write; a directory on the disk in question
    #[arg(long)]
    dir: PathBuf,
    /// How long each part takes, in seconds
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.dir).context("make the directory")?;
    let dir = tempfile::tempdir_in(&args.dir).context("make a directory")?;
    let time = Duration::from_secs(args.seconds);
    for entities in [1, 64, 1_000] {
        note(&format!("{entities} entities"));
        let group = store(&dir.path().join(format!("store-{entities}")), entities, time).await?;
        let path = dir.path().join(format!("bare-{entities}.db"));
        tokio::task::spawn_blocking(move || bare(&path, entities, group, time)).await??;
    }
    Ok(())
}

/// One append after the other on each entity, so that as many are under way as entities.
/// Answers how many shared a transaction.
async fn store(dir: &Path, entities: usize, time: Duration) -> Result<usize> {
    let store = SqliteStore::open(dir, &SqliteOptions::default()).context("open the store")?;
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..entities {
        let store = store.clone();
        writers.spawn(async move {
            let mut times = Times::default();
            let id = EntityId { kind: EntityKind::Task, id: Uuid::now_v7() };
            let at = Arc::new(store.open(id, store.epoch()).await.context("open a journal")?);
            for seq in 1.. {
                let begun = Instant::now();
                if begun.duration_since(start) > time {
                    break;
                }
                let (first_frame, body) = (FrameSeq(seq), Bytes::from_static(BODY));
                let entry = Entry { seq: Seq(seq), first_frame, frames: 1, body };
                store.append(&at, Seq(seq), vec![entry], Vec::new()).await.context("append")?;
                times.push(begun.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Times::default();
    while let Some(written) = writers.join_next().await {
        times.append(written.context("a writer died")??);
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    let stats = store.stats();
    let group = stats.writes as f64 / stats.commits.max(1) as f64;
    let summary = times.summary();
    row(
        &format!("store, {entities} at once"),
        format!("{} appends/s, {group:.1} to a commit, {summary}", grouped(rate)),
    );
    store.close();
    Ok(group.round().max(1.0) as usize)
}

fn bare(path: &Path, entities: usize, group: usize, time: Duration) -> Result<()> {
    let db = Connection::open(path).context("open a database")?;
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    db.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY;
         CREATE TABLE journal (entity BLOB, seq INTEGER, body BLOB, PRIMARY KEY (entity, seq))
         WITHOUT ROWID;",
    )?;
    db.query_row("PRAGMA wal_autocheckpoint = 4000", [], |_| Ok(()))?;
    let ids: Vec<_> = (0..entities).map(|_| Uuid::now_v7()).collect();
    let mut insert = db.prepare("INSERT INTO journal VALUES (?1, ?2, ?3)")?;
    let (start, mut rows) = (Instant::now(), 0usize);
    while start.elapsed() < time {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..group {
            let seq = i64::try_from(rows / entities)?;
            insert.execute(params![ids[rows % entities].as_bytes(), seq, BODY])?;
            rows += 1;
        }
        db.execute_batch("COMMIT")?;
    }
    let rate = grouped(rows as f64 / start.elapsed().as_secs_f64());
    row(&format!("bare SQLite, {group} to a commit"), format!("{rate} rows/s"));
    Ok(())
}
