//! Connections and the start of a database.

use std::{fs, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use troupe_store::cause;
use troupe_types::Epoch;

use crate::{
    error::{Nature, SqliteOpenError, nature},
    home::Home,
    options::{SqliteOptions, Synchronous},
    schema::{Migrated, migrate},
};

/// A database up to this size is checked after an unclean end.
const QUICK_CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Pages in the WAL after which the writer itself moves them to the database.
const WAL_PAGES: u32 = 4_000;
/// A WAL that has grown larger is cut to this once all of it is in the database.
const WAL_BYTES_KEPT: u32 = 64 * 1024 * 1024;
const STATEMENTS_CACHED: usize = 64;
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    Checkpointer,
}

/// Opens a connection. It never checkpoints when it is closed: after an IO error that would be
/// the wrong thing, and a clean end does it by itself.
pub(crate) fn connect(
    path: &Path,
    role: Role,
    options: &SqliteOptions,
) -> rusqlite::Result<Connection> {
    let mode = match role {
        Role::Writer => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Role::Checkpointer => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Role::Reader => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let db = match &options.file_layer {
        Some(layer) => Connection::open_with_flags_and_vfs(path, flags, layer.as_str())?,
        None => Connection::open_with_flags(path, flags)?,
    };
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A plan may not lean on a parameter's value: else a statement with `LIMIT ?` is prepared anew
    // for each execution.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.busy_timeout(BUSY_WAIT_MAX)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cell_size_check", true)?;
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Off => "OFF",
    };
    match role {
        Role::Checkpointer => db.pragma_update(None, "synchronous", synchronous)?,
        Role::Reader => db.pragma_update(None, "cache_size", -4_000)?,
        Role::Writer => {
            let wal = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            db.pragma_update_and_check(None, "journal_mode", "WAL", wal)?;
            db.pragma_update(None, "synchronous", synchronous)?;
            db.pragma_update(None, "cache_size", -16_000)?;
            db.pragma_update_and_check(None, "wal_autocheckpoint", WAL_PAGES, |_| Ok(()))?;
            db.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
            if let Some(pages) = options.pages_max {
                db.pragma_update_and_check(None, "max_page_count", pages.get(), |_| Ok(()))?;
            }
        }
    }
    Ok(db)
}

/// Opens the database of a directory for writing, brings it up to date, checks it if its last
/// process did not end well, and raises the boot epoch.
pub(crate) fn start(
    home: &Home,
    options: &SqliteOptions,
) -> Result<(Connection, Epoch), SqliteOpenError> {
    let path = home.database();
    let failed = |e: rusqlite::Error| sort(home, e);
    let mut db = connect(&path, Role::Writer, options).map_err(failed)?;
    match migrate(&mut db).map_err(failed)? {
        Migrated::Ready => {}
        Migrated::Foreign => return Err(SqliteOpenError::Foreign { path }),
        Migrated::Newer { found, known } => {
            return Err(SqliteOpenError::Newer { path, found, known });
        }
    }
    let meta = "SELECT value FROM meta WHERE key = 'clean'";
    let clean: bool = db.query_row(meta, [], |row| row.get(0)).map_err(failed)?;
    let small = fs::metadata(&path).is_ok_and(|file| file.len() <= QUICK_CHECK_BYTES_MAX);
    if !clean && small {
        let report: String =
            db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if report != "ok" {
            return Err(SqliteOpenError::Corrupt { path, report });
        }
    }
    let epoch = raise_epoch(&mut db).map_err(failed)?;
    tracing::info!(epoch = epoch.0, clean, "store opened");
    Ok((db, epoch))
}

fn raise_epoch(db: &mut Connection) -> rusqlite::Result<Epoch> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let raise = "UPDATE meta SET value = value + 1 WHERE key = 'epoch' RETURNING value";
    let epoch: i64 = tx.query_row(raise, [], |row| row.get(0))?;
    tx.execute("UPDATE meta SET value = 0 WHERE key = 'clean'", [])?;
    tx.commit()?;
    Ok(Epoch(u64::try_from(epoch).unwrap_or(0)))
}

/// Opens a database again after an IO error, and settles what the failed commit left open.
///
/// Its pages may be in the page cache and not on the disk. So the WAL is moved to the database
/// with fresh writes and fresh fsyncs and cut off, and one more commit starts the next WAL:
/// from then on the failed commit is there for good, or gone for good.
pub(crate) fn reopen(path: &Path, options: &SqliteOptions) -> rusqlite::Result<Connection> {
    let db = connect(path, Role::Writer, options)?;
    let busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    db.execute("UPDATE meta SET value = value + 1 WHERE key = 'reopened'", [])?;
    Ok(db)
}

/// Marks the end as a good one and moves the WAL to the database.
pub(crate) fn finish(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE meta SET value = 1 WHERE key = 'clean'", [])?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// What an error at the start means.
pub(crate) fn sort(home: &Home, error: rusqlite::Error) -> SqliteOpenError {
    let dir = home.dir.clone();
    match nature(&error) {
        Nature::Full => SqliteOpenError::Full { dir },
        Nature::NotWritable => SqliteOpenError::NotWritable { dir, source: cause(error) },
        Nature::Corrupt => {
            SqliteOpenError::Corrupt { path: home.database(), report: error.to_string() }
        }
        Nature::Statement | Nature::Busy | Nature::Connection => {
            SqliteOpenError::Failed { dir, source: cause(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_prepared_once_whatever_its_limit_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("troupe.db");
        let db = connect(&path, Role::Writer, &SqliteOptions::default()).unwrap();
        db.execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
            .unwrap();
        let mut read = db.prepare("SELECT x FROM t ORDER BY x LIMIT ?1").unwrap();
        for limit in [1_i64, 2, 1] {
            let rows = read.query_map([limit], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(i64::try_from(rows.count()).unwrap(), limit);
        }
        assert_eq!(read.get_status(StatementStatus::RePrepare), 0);
    }
}
