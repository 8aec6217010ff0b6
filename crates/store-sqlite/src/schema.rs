//! The tables, as a list of numbered steps that is only ever added to.

use rusqlite::{Connection, TransactionBehavior, params};

/// Marks the file as ours ("Trpe").
pub(crate) const APPLICATION_ID: i32 = 0x5472_7065;

struct Migration {
    name: &'static str,
    sql: &'static str,
}

/// Number n is at index n - 1.
const MIGRATIONS: &[Migration] = &[
    Migration { name: "first tables", sql: FIRST },
    Migration { name: "tasks that ask", sql: ASKS },
    Migration { name: "tasks are counted", sql: COUNTED },
];

const FIRST: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('epoch', 0), ('clean', 1), ('reopened', 0), ('era', 0);

CREATE TABLE journal (
  kind INTEGER NOT NULL, entity BLOB NOT NULL, seq INTEGER NOT NULL,
  first_frame INTEGER NOT NULL, frames INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (kind, entity, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE recent (
  id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, entity BLOB NOT NULL, seq INTEGER NOT NULL,
  first_frame INTEGER NOT NULL, frames INTEGER NOT NULL, crc INTEGER NOT NULL,
  body BLOB NOT NULL) STRICT;
CREATE TABLE snapshot (
  kind INTEGER NOT NULL, entity BLOB NOT NULL, upto INTEGER NOT NULL, crc INTEGER NOT NULL,
  state BLOB NOT NULL, PRIMARY KEY (kind, entity)) STRICT;
CREATE TABLE wake (
  shard INTEGER NOT NULL, due INTEGER NOT NULL, why INTEGER NOT NULL, kind INTEGER NOT NULL,
  entity BLOB NOT NULL, fence INTEGER NOT NULL,
  PRIMARY KEY (shard, due, why, kind, entity, fence)) STRICT, WITHOUT ROWID;

CREATE TABLE directory (
  tbl INTEGER NOT NULL, key BLOB NOT NULL, owner BLOB, version INTEGER NOT NULL,
  body BLOB NOT NULL, PRIMARY KEY (tbl, key)) STRICT, WITHOUT ROWID;
CREATE INDEX directory_by_owner ON directory (tbl, owner, key) WHERE owner IS NOT NULL;
CREATE TABLE directory_change (
  id INTEGER PRIMARY KEY AUTOINCREMENT, tbl INTEGER NOT NULL, key BLOB NOT NULL,
  owner BLOB) STRICT;

CREATE TABLE task (
  task BLOB PRIMARY KEY, owner BLOB NOT NULL, stamp INTEGER NOT NULL, gone INTEGER NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, status TEXT NOT NULL,
  title TEXT NOT NULL, title_lower TEXT NOT NULL, team TEXT NOT NULL,
  team_namespace TEXT NOT NULL, archived INTEGER NOT NULL, deleted INTEGER NOT NULL,
  body BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX task_by_activity ON task (owner, updated_at DESC, task DESC);

CREATE TABLE dead_letter (
  id BLOB PRIMARY KEY, kind INTEGER NOT NULL, entity BLOB NOT NULL, message BLOB NOT NULL,
  error TEXT NOT NULL, strikes INTEGER NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// Few Tasks ask at a time, so the index of them is small.
const ASKS: &str = "
ALTER TABLE task ADD COLUMN asks INTEGER NOT NULL DEFAULT 0;
CREATE INDEX task_asking ON task (owner, updated_at DESC, task DESC) WHERE asks > 0;
";

/// A list says how many there are: counted without a look at the rows.
const COUNTED: &str = "
CREATE INDEX task_counted ON task (owner, archived) WHERE gone = 0 AND deleted = 0;
";

/// What became of the attempt to bring a database up to date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Migrated {
    Ready,
    Foreign,
    Newer { found: u32, known: u32 },
}

/// Applies what is missing, each step in a transaction of its own.
pub(crate) fn migrate(db: &mut Connection) -> rusqlite::Result<Migrated> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id != APPLICATION_ID {
        if id != 0 || tables != 0 {
            return Ok(Migrated::Foreign);
        }
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.execute_batch(
            "CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;",
        )?;
        tx.commit()?;
    }
    let newest = "SELECT coalesce(max(number), 0) FROM migration";
    let found: u32 = db.query_row(newest, [], |row| row.get(0))?;
    if found > known {
        return Ok(Migrated::Newer { found, known });
    }
    for number in found + 1..=known {
        let step = &MIGRATIONS[number as usize - 1];
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step.sql)?;
        let insert = "INSERT INTO migration (number, name) VALUES (?1, ?2)";
        tx.execute(insert, params![number, step.name])?;
        tx.commit()?;
        tracing::info!(number, name = step.name, "migration applied");
    }
    Ok(Migrated::Ready)
}
