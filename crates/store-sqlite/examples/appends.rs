//! Appends per second with fsync: the store beside bare SQLite with the same rows in
//! transactions of the same size, on the same disk, one after the other.
//!
//! `cargo run --release -p troupe-store-sqlite --example appends -- [DIR] [ENTITIES] [SECONDS]`

#![expect(clippy::print_stdout, reason = "it prints its result")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rusqlite::{Connection, params};
use tokio::task::JoinSet;
use troupe_store::{Entry, JournalStore};
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, TaskId, Timestamp};

const BODY_BYTES: usize = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "target/appends".to_owned()));
    let entities: usize = args.next().map_or(Ok(1_000), |n| n.parse())?;
    let seconds: u64 = args.next().map_or(Ok(5), |n| n.parse())?;
    std::fs::create_dir_all(&dir)?;
    let dir = tempfile::tempdir_in(dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let time = Duration::from_secs(seconds);
    let group = runtime.block_on(store(&dir.path().join("store"), entities, time))?;
    bare(&dir.path().join("bare.db"), entities, group, time)
}

/// One append after the other on each entity, so that as many are under way as entities.
async fn store(
    dir: &Path,
    entities: usize,
    time: Duration,
) -> Result<usize, Box<dyn std::error::Error>> {
    let store = SqliteStore::open(dir, &SqliteOptions::default())?;
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..entities {
        let store = store.clone();
        writers.spawn(async move {
            let mut waits = Vec::new();
            let id = EntityId { kind: EntityKind::Task, id: new_id() };
            let Ok(at) = store.open(id, store.epoch()).await else { return waits };
            let at = Arc::new(at);
            for seq in 1.. {
                let begun = Instant::now();
                if begun.duration_since(start) > time {
                    break;
                }
                let entry = Entry {
                    seq: Seq(seq),
                    first_frame: FrameSeq(seq),
                    frames: 1,
                    body: Bytes::from_static(&[b'x'; BODY_BYTES]),
                };
                if store.append(&at, Seq(seq), vec![entry], Vec::new()).await.is_err() {
                    break;
                }
                waits.push(begun.elapsed());
            }
            waits
        });
    }
    let mut waits = writers.join_all().await.concat();
    let took = start.elapsed();
    waits.sort_unstable();
    let stats = store.stats();
    let group = stats.writes as f64 / stats.commits.max(1) as f64;
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    println!(
        "store: {:.0} appends/s over {entities} entities, {group:.1} in a commit, \
         p50 {:?}, p99 {:?}, max {:?}",
        waits.len() as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    store.close();
    Ok(group.round().max(1.0) as usize)
}

fn new_id() -> troupe_types::Uuid {
    TaskId::new(Timestamp::from_millis(1_795_000_000_000)).uuid()
}

fn bare(
    path: &Path,
    entities: usize,
    group: usize,
    time: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let db = Connection::open(path)?;
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    db.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY;
         CREATE TABLE journal (entity BLOB, seq INTEGER, body BLOB, PRIMARY KEY (entity, seq))
         WITHOUT ROWID;",
    )?;
    db.query_row("PRAGMA wal_autocheckpoint = 4000", [], |_| Ok(()))?;
    let ids: Vec<_> = (0..entities).map(|_| new_id()).collect();
    let mut insert = db.prepare("INSERT INTO journal VALUES (?1, ?2, ?3)")?;
    let (start, mut rows) = (Instant::now(), 0usize);
    while start.elapsed() < time {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..group {
            let seq = (rows / entities) as i64;
            insert.execute(params![ids[rows % entities].as_bytes(), seq, [b'x'; BODY_BYTES]])?;
            rows += 1;
        }
        db.execute_batch("COMMIT")?;
    }
    let rate = rows as f64 / start.elapsed().as_secs_f64();
    println!("bare SQLite: {rate:.0} rows/s in transactions of {group}");
    Ok(())
}
