//! Users, keys, sessions, tokens, settings: rows with compare-and-set.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use troupe_store::{
    CasError, Change, ChangeCursor, Changes, CorruptPart, Directory, DirectoryRow, DirectoryTable,
    ReadError, RowWrite, directory::check_row,
};
use troupe_types::Uuid;

use crate::{
    SqliteStore,
    error::{ReadFailure, read_error},
    journal::{int, uint},
};

/// Announced changes that are kept; readers come every few seconds.
const CHANGES_KEPT: i64 = 100_000;

/// The version of a row, 0 if there is none, and its owner.
fn version(
    db: &Connection,
    table: DirectoryTable,
    key: &[u8],
) -> rusqlite::Result<(u64, Option<[u8; 16]>)> {
    let mut read =
        db.prepare_cached("SELECT version, owner FROM directory WHERE tbl = ?1 AND key = ?2")?;
    let found = read
        .query_row(params![table.code(), key], |row| Ok((uint(row.get(0)?), row.get(1)?)))
        .optional()?;
    Ok(found.unwrap_or((0, None)))
}

fn announce(
    db: &Connection,
    table: DirectoryTable,
    key: &[u8],
    owner: Option<[u8; 16]>,
) -> rusqlite::Result<()> {
    let mut insert =
        db.prepare_cached("INSERT INTO directory_change (tbl, key, owner) VALUES (?1, ?2, ?3)")?;
    let id = insert.insert(params![table.code(), key, owner])?;
    let mut forget = db.prepare_cached("DELETE FROM directory_change WHERE id <= ?1")?;
    forget.execute([id - CHANGES_KEPT])?;
    Ok(())
}

/// The new version, or the one that is there instead of the expected one.
fn write(db: &Connection, write: &RowWrite) -> rusqlite::Result<Result<u64, u64>> {
    let RowWrite { table, key, owner, expected, body, announce: told } = write;
    let (current, old_owner) = version(db, *table, key)?;
    if current != *expected {
        return Ok(Err(current));
    }
    let owner = if current == 0 { owner.map(Uuid::into_bytes) } else { old_owner };
    let mut put = db.prepare_cached(
        "INSERT INTO directory (tbl, key, owner, version, body) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (tbl, key) DO UPDATE SET version = excluded.version, body = excluded.body",
    )?;
    let new = current + 1;
    put.execute(params![table.code(), key.as_ref(), owner, int(new), body.as_ref()])?;
    if *told {
        announce(db, *table, key, owner)?;
    }
    Ok(Ok(new))
}

fn delete(
    db: &Connection,
    table: DirectoryTable,
    key: &[u8],
    expected: u64,
    told: bool,
) -> rusqlite::Result<Result<(), u64>> {
    let (current, owner) = version(db, table, key)?;
    if current != expected || current == 0 {
        return Ok(Err(current));
    }
    let mut delete = db.prepare_cached("DELETE FROM directory WHERE tbl = ?1 AND key = ?2")?;
    delete.execute(params![table.code(), key])?;
    if told {
        announce(db, table, key, owner)?;
    }
    Ok(Ok(()))
}

fn to_row(row: &Row<'_>, table: DirectoryTable) -> rusqlite::Result<DirectoryRow> {
    Ok(DirectoryRow {
        table,
        key: row.get::<_, Vec<u8>>(0)?.into(),
        owner: row.get::<_, Option<[u8; 16]>>(1)?.map(Uuid::from_bytes),
        version: uint(row.get(2)?),
        body: row.get::<_, Vec<u8>>(3)?.into(),
    })
}

fn list(
    db: &Connection,
    table: DirectoryTable,
    owner: Option<Uuid>,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<DirectoryRow>, ReadFailure> {
    let sql = if owner.is_some() {
        "SELECT key, owner, version, body FROM directory
         WHERE tbl = ?1 AND owner = ?2 AND (?3 IS NULL OR key > ?3) ORDER BY key LIMIT ?4"
    } else {
        "SELECT key, owner, version, body FROM directory
         WHERE tbl = ?1 AND ?2 IS NULL AND (?3 IS NULL OR key > ?3) ORDER BY key LIMIT ?4"
    };
    let mut read = db.prepare_cached(sql)?;
    let owner = owner.map(Uuid::into_bytes);
    let limit = int(limit as u64);
    let rows = read.query_map(params![table.code(), owner, after, limit], |row| to_row(row, table));
    Ok(rows?.collect::<Result<_, _>>()?)
}

fn changes_since(
    db: &Connection,
    cursor: ChangeCursor,
    limit: usize,
) -> Result<Changes, ReadFailure> {
    let mut read = db.prepare_cached(
        "SELECT id, tbl, key, owner FROM directory_change WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = read.query(params![int(cursor.0), int(limit as u64)])?;
    let (mut changes, mut next) = (Vec::new(), cursor);
    while let Some(row) = rows.next()? {
        next = ChangeCursor(uint(row.get(0)?));
        let table = DirectoryTable::from_code(row.get(1)?);
        changes.push(Change {
            table: table.ok_or(ReadFailure::Corrupt(CorruptPart::Row))?,
            key: row.get::<_, Vec<u8>>(2)?.into(),
            owner: row.get::<_, Option<[u8; 16]>>(3)?.map(Uuid::from_bytes),
        });
    }
    Ok(Changes { changes, next })
}

const WHAT: &str = "the directory";

#[async_trait]
impl Directory for SqliteStore {
    async fn get(
        &self,
        table: DirectoryTable,
        key: &[u8],
    ) -> Result<Option<DirectoryRow>, ReadError> {
        let key = key.to_vec();
        let read = move |db: &Connection| {
            let mut read = db.prepare_cached(
                "SELECT key, owner, version, body FROM directory WHERE tbl = ?1 AND key = ?2",
            )?;
            let row = read.query_row(params![table.code(), key], |row| to_row(row, table));
            Ok(row.optional()?)
        };
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }

    async fn compare_and_set(&self, row: RowWrite) -> Result<u64, CasError> {
        check_row(&row.key, &row.body).map_err(CasError::Invalid)?;
        let bytes = row.body.len();
        let outcome = self.inner.writer.write(bytes, move |db| write(db, &row)).await?;
        outcome.map_err(|current| CasError::Conflict { current })
    }

    async fn remove(
        &self,
        table: DirectoryTable,
        key: &[u8],
        expected: u64,
        announce: bool,
    ) -> Result<(), CasError> {
        let key = Bytes::copy_from_slice(key);
        let remove = move |db: &Connection| delete(db, table, &key, expected, announce);
        let outcome = self.inner.writer.write(64, remove).await?;
        outcome.map_err(|current| CasError::Conflict { current })
    }

    async fn list(
        &self,
        table: DirectoryTable,
        owner: Option<Uuid>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DirectoryRow>, ReadError> {
        let after = after.map(<[u8]>::to_vec);
        let read = move |db: &Connection| list(db, table, owner, after.as_deref(), limit);
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }

    async fn revocations_since(
        &self,
        cursor: ChangeCursor,
        limit: usize,
    ) -> Result<Changes, ReadError> {
        let read = move |db: &Connection| changes_since(db, cursor, limit);
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }

    async fn revocations_now(&self) -> Result<ChangeCursor, ReadError> {
        let read = |db: &Connection| {
            let mut read =
                db.prepare_cached("SELECT coalesce(max(id), 0) FROM directory_change")?;
            Ok(ChangeCursor(uint(read.query_row([], |row| row.get(0))?)))
        };
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }
}
