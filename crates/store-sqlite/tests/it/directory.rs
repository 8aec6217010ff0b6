//! The data directory: the lock, the boot epoch, formats, clean and unclean ends.

use std::fs;

use bytes::Bytes;
use rusqlite::Connection;
use troupe_store::{AppendError, Entry, JournalStore, OpenError, TaskFilter, TaskRow};
use troupe_store_sqlite::{SqliteOpenError, SqliteOptions, SqliteStore};
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, TaskId, Timestamp, UserId, Uuid};

use crate::conformance::Sqlite;

pub(crate) fn task(n: u128) -> EntityId {
    EntityId { kind: EntityKind::Task, id: Uuid::from_u128(n) }
}

pub(crate) fn entry(seq: u64, body: &[u8]) -> Vec<Entry> {
    let body = Bytes::copy_from_slice(body);
    vec![Entry { seq: Seq(seq), first_frame: FrameSeq(seq), frames: 1, body }]
}

/// A connection of somebody else.
pub(crate) fn meddle(subject: &Sqlite) -> Connection {
    Connection::open(subject.dir.path().join("troupe.db")).unwrap()
}

fn open(subject: &Sqlite) -> Result<SqliteStore, SqliteOpenError> {
    SqliteStore::open(subject.dir.path(), &SqliteOptions::default())
}

#[tokio::test]
async fn a_second_store_on_one_directory_is_refused_and_told_by_whom() {
    let subject = Sqlite::new();
    let refused = open(&subject).unwrap_err();
    let text = refused.to_string();
    let pid = std::process::id();
    assert!(matches!(refused, SqliteOpenError::Locked { pid: Some(p), .. } if p == pid), "{text}");
    assert!(text.contains(&format!("in use by process {pid}")), "{text}");
    subject.store.close();
    let again = open(&subject).unwrap();
    assert!(again.epoch() > subject.store.epoch());
}

#[tokio::test]
async fn a_closed_store_refuses_everything() {
    let subject = Sqlite::new();
    let at = subject.store.open(task(1), subject.store.epoch()).await.unwrap();
    subject.store.append(&at, Seq(1), entry(1, b"a"), vec![]).await.unwrap();
    subject.store.close();
    let refused = subject.store.append(&at, Seq(2), entry(2, b"b"), vec![]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    let refused = subject.store.open(task(1), subject.store.epoch()).await;
    assert!(matches!(refused, Err(OpenError::Unavailable { .. })), "{refused:?}");
    assert!(subject.stores_put_blob().await.is_err());
}

impl Sqlite {
    async fn stores_put_blob(&self) -> Result<troupe_store::BlobHash, troupe_store::WriteError> {
        self.store.stores().blobs.put(Bytes::from_static(b"late")).await
    }
}

#[tokio::test]
async fn a_process_whose_epoch_was_overtaken_writes_nothing() {
    let mut subject = Sqlite::new();
    let at = subject.store.open(task(1), subject.store.epoch()).await.unwrap();
    subject.store.append(&at, Seq(1), entry(1, b"mine"), vec![]).await.unwrap();
    // As if the lock had failed and another process had started.
    meddle(&subject).execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'", []).unwrap();
    let refused = subject.store.append(&at, Seq(2), entry(2, b"late"), vec![]).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    assert!(subject.store.stores().blobs.put(Bytes::new()).await.is_ok(), "blobs have no order");
    subject.reopen();
    let at = subject.store.open(task(1), subject.store.epoch()).await.unwrap();
    assert_eq!(at.tail, entry(1, b"mine"));
}

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_to_date() {
    let mut subject = Sqlite::new();
    let row = TaskRow {
        task: TaskId::derived(&["old"]),
        owner: UserId::derived(&["ann"]),
        seq: Seq(3),
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(2),
        status: "RUNNING".into(),
        title: "old".into(),
        team: "assistant".into(),
        team_namespace: "default".into(),
        archived: false,
        deleted: false,
        asks: 0,
        body: Bytes::from_static(b"{}"),
    };
    subject.store.stores().projections.put_task(row.clone()).await.unwrap();
    subject.store.close();
    meddle(&subject)
        .execute_batch(
            "DROP INDEX task_counted; DROP INDEX task_asking; ALTER TABLE task DROP COLUMN asks;
             DELETE FROM migration WHERE number > 1;",
        )
        .unwrap();
    subject.reopen();
    let store = subject.store.stores().projections;
    let asking = TaskFilter { asks: true, ..TaskFilter::default() };
    assert_eq!(store.get_tasks(&[row.task]).await.unwrap(), *std::slice::from_ref(&row));
    assert_eq!(store.count_tasks(row.owner, &asking).await.unwrap(), 0);
    let row = TaskRow { seq: Seq(4), asks: 2, ..row };
    store.put_task(row.clone()).await.unwrap();
    assert_eq!(
        store.list_tasks(row.owner, &asking, None, 10).await.unwrap(),
        *std::slice::from_ref(&row)
    );
    let db = meddle(&subject);
    let mine = "FROM task WHERE owner = x'00' AND gone = 0 AND deleted = 0 AND archived = 0";
    let listed = format!("SELECT task {mine} AND asks > 0 ORDER BY updated_at DESC, task DESC");
    let counted = format!("SELECT count(*) {mine}");
    let asking = format!("{counted} AND asks > 0").replace("gone", "+gone");
    let used = [
        (listed, "task_asking"),
        (asking, "task_asking"),
        (counted, "COVERING INDEX task_counted"),
    ];
    for (sql, index) in used {
        let explain = format!("EXPLAIN QUERY PLAN {sql}");
        let plan: String = db.query_row(&explain, [], |row| row.get(3)).unwrap();
        assert!(plan.contains(index), "{plan}");
    }
}

#[tokio::test]
async fn newer_and_foreign_databases_are_refused_untouched() {
    let subject = Sqlite::new();
    subject.store.close();
    let db = meddle(&subject);
    db.execute("INSERT INTO migration (number, name) VALUES (99, 'from the future')", []).unwrap();
    let refused = open(&subject).unwrap_err();
    assert!(matches!(refused, SqliteOpenError::Newer { found: 99, .. }), "{refused}");
    assert!(refused.to_string().contains("use a newer program"), "{refused}");
    db.execute("DELETE FROM migration WHERE number = 99", []).unwrap();
    open(&subject).unwrap().close();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("troupe.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let refused = SqliteStore::open(dir.path(), &SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, SqliteOpenError::Foreign { .. }), "{refused}");
    fs::write(&path, b"this is no database at all, but a text of more than some bytes").unwrap();
    let refused = SqliteStore::open(dir.path(), &SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, SqliteOpenError::Corrupt { .. }), "{refused}");
}

#[tokio::test]
async fn a_flipped_bit_is_reported_by_name_and_never_skipped() {
    let mut subject = Sqlite::new();
    let at = subject.store.open(task(1), subject.store.epoch()).await.unwrap();
    for seq in 1..=9 {
        subject.store.append(&at, Seq(seq), entry(seq, b"some text"), vec![]).await.unwrap();
    }
    subject.store.snapshot(&at, Seq(5), Bytes::from_static(b"five")).await.unwrap();
    // Rows that are settled, and rows that are recent.
    let settle = "INSERT INTO journal (kind, entity, seq, first_frame, frames, crc, body)
        SELECT kind, entity, seq, first_frame, frames, crc, body FROM recent; DELETE FROM recent";
    for (table, before) in [("recent", ""), ("journal", settle)] {
        meddle(&subject).execute_batch(before).unwrap();
        flip_bits(&mut subject, table).await;
    }
    let spoil = "UPDATE journal SET crc = crc + 1 WHERE seq = 3";
    meddle(&subject).execute(spoil, []).unwrap();
    let refused = subject.store.read_archive(task(1), FrameSeq(1), 9_999).await.unwrap_err();
    assert!(refused.to_string().ends_with("corrupt at entry 3"), "{refused}");
    let before = subject.store.read_archive(task(1), FrameSeq(4), 9_999).await.unwrap();
    assert_eq!(before.len(), 2, "what is not damaged stays readable");
}

async fn flip_bits(subject: &mut Sqlite, table: &str) {
    let broken = async |subject: &mut Sqlite, sql: &str, back: &str, part: &str| {
        let (sql, back) = (sql.replace("{table}", table), back.replace("{table}", table));
        meddle(subject).execute_batch(&sql).unwrap();
        subject.reopen();
        let refused = subject.store.open(task(1), subject.store.epoch()).await.unwrap_err();
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
        assert!(refused.to_string().ends_with(part), "{refused}");
        meddle(subject).execute_batch(&back).unwrap();
        subject.reopen();
        subject.store.open(task(1), subject.store.epoch()).await.unwrap();
    };
    for (sql, back, part) in [
        (
            "UPDATE {table} SET body = CAST('sOme text' AS BLOB) WHERE seq = 7",
            "UPDATE {table} SET body = CAST('some text' AS BLOB) WHERE seq = 7",
            "corrupt at entry 7",
        ),
        (
            "UPDATE {table} SET first_frame = 70 WHERE seq = 8",
            "UPDATE {table} SET first_frame = 8 WHERE seq = 8",
            "corrupt at entry 8",
        ),
        (
            "UPDATE {table} SET seq = 10 WHERE seq = 6",
            "UPDATE {table} SET seq = 6 WHERE seq = 10",
            "corrupt at entry 6",
        ),
        (
            "UPDATE snapshot SET state = CAST('fivE' AS BLOB)",
            "UPDATE snapshot SET state = CAST('five' AS BLOB)",
            "corrupt at the snapshot up to entry 5",
        ),
    ] {
        broken(subject, sql, back, part).await;
    }
}

#[tokio::test]
async fn a_damaged_blob_is_reported() {
    let subject = Sqlite::new();
    let blobs = subject.store.stores().blobs;
    let hash = blobs.put(Bytes::from_static(b"content")).await.unwrap();
    let name = hash.to_string();
    let file = subject.dir.path().join("blobs").join(&name[..2]).join(&name[2..]);
    fs::write(file, b"c0ntent").unwrap();
    assert!(blobs.get(hash).await.unwrap_err().to_string().contains("corrupt"));
}

/// The header of a page in the middle is overwritten while nobody looks.
#[tokio::test]
async fn a_damaged_file_is_found_after_an_unclean_end() {
    let subject = Sqlite::new();
    let at = subject.store.open(task(1), subject.store.epoch()).await.unwrap();
    let body = vec![b'x'; 50_000];
    for seq in 1..=40 {
        subject.store.append(&at, Seq(seq), entry(seq, &body), vec![]).await.unwrap();
    }
    subject.store.close();
    meddle(&subject).execute("UPDATE meta SET value = 0 WHERE key = 'clean'", []).unwrap();
    let path = subject.dir.path().join("troupe.db");
    let mut bytes = fs::read(&path).unwrap();
    for page in 3..20 {
        bytes[page * 4096..page * 4096 + 8].fill(0xff);
    }
    fs::write(&path, bytes).unwrap();
    let refused = open(&subject).unwrap_err();
    assert!(matches!(refused, SqliteOpenError::Corrupt { .. }), "{refused}");
}

#[test]
fn the_lock_is_free_when_its_process_is_gone() {
    let subject = Sqlite::new();
    subject.store.close();
    // A lock file with the name of a process that is long gone is no lock.
    fs::write(subject.dir.path().join("lock"), "999999\n").unwrap();
    open(&subject).unwrap();
}
