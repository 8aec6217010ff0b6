//! Messages given up.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use troupe_store::{
    CorruptPart, DeadLetter, DeadLetters, ReadError, WriteError, dead_letters::fit,
};
use troupe_types::{EntityId, EntityKind, Timestamp, Uuid};

use crate::{
    SqliteStore,
    error::{ReadFailure, read_error},
    journal::int,
};

const WHAT: &str = "the dead letters";

fn to_letter(row: &Row<'_>) -> Result<DeadLetter, ReadFailure> {
    let kind = EntityKind::from_code(row.get(1)?);
    Ok(DeadLetter {
        id: Uuid::from_bytes(row.get(0)?),
        entity: EntityId {
            kind: kind.ok_or(ReadFailure::Corrupt(CorruptPart::Row))?,
            id: Uuid::from_bytes(row.get(2)?),
        },
        message: row.get::<_, Vec<u8>>(3)?.into(),
        error: row.get(4)?,
        strikes: row.get(5)?,
        at: Timestamp::from_millis(row.get(6)?),
    })
}

/// Letters with ids from `from` on.
fn read(db: &Connection, from: Uuid, limit: usize) -> Result<Vec<DeadLetter>, ReadFailure> {
    let mut read = db.prepare_cached(
        "SELECT id, kind, entity, message, error, strikes, at FROM dead_letter
         WHERE id >= ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = read.query(params![from.as_bytes(), int(limit as u64)])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        letters.push(to_letter(row)?);
    }
    Ok(letters)
}

#[async_trait]
impl DeadLetters for SqliteStore {
    async fn put(&self, letter: DeadLetter) -> Result<(), WriteError> {
        let letter = fit(letter)?;
        let write = move |db: &Connection| {
            let mut insert = db.prepare_cached(
                "INSERT OR IGNORE INTO dead_letter (id, kind, entity, message, error, strikes, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            insert.execute(params![
                letter.id.as_bytes(),
                letter.entity.kind.code(),
                letter.entity.id.as_bytes(),
                letter.message.as_ref(),
                letter.error,
                letter.strikes,
                letter.at.as_millis(),
            ])?;
            Ok(())
        };
        Ok(self.inner.writer.write(4 * 1024, write).await?)
    }

    async fn list(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        let from = match after.map(|after| after.as_u128()) {
            None => Uuid::nil(),
            Some(u128::MAX) => return Ok(Vec::new()),
            Some(after) => Uuid::from_u128(after + 1),
        };
        let read = move |db: &Connection| read(db, from, limit);
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }

    async fn get(&self, id: Uuid) -> Result<Option<DeadLetter>, ReadError> {
        let read = move |db: &Connection| read(db, id, 1);
        let found = self.inner.readers.read(read).await.map_err(read_error(WHAT))?;
        Ok(found.into_iter().next().filter(|letter| letter.id == id))
    }

    async fn remove(&self, id: Uuid) -> Result<(), WriteError> {
        let write = move |db: &Connection| {
            db.prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?.execute([id.as_bytes()])?;
            Ok(())
        };
        Ok(self.inner.writer.write(64, write).await?)
    }
}
