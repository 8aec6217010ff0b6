//! The wake index.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use troupe_store::{
    CorruptPart, Opened, ReadError, WakeChange, WakeKind, WakeRow, WakeStore, WriteError,
    wake::check_remove,
};
use troupe_types::{EntityId, EntityKind, Fence, ShardId, Timestamp, Uuid};

use crate::{
    SqliteStore,
    error::{ReadFailure, read_error},
    journal::{int, uint},
};

/// What an append changes.
pub(crate) fn apply(
    db: &Connection,
    entity: EntityId,
    fence: Fence,
    change: &WakeChange,
) -> rusqlite::Result<()> {
    let (shard, kind, id) = (entity.shard().0, entity.kind.code(), entity.id.as_bytes());
    let (sql, due, why) = match change {
        WakeChange::Insert { due, kind } => (
            "INSERT OR IGNORE INTO wake (shard, due, why, kind, entity, fence)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            due,
            kind,
        ),
        WakeChange::Remove { due, kind } => (
            "DELETE FROM wake WHERE shard = ?1 AND due = ?2 AND why = ?3 AND kind = ?4
             AND entity = ?5 AND fence <= ?6",
            due,
            kind,
        ),
    };
    let mut change = db.prepare_cached(sql)?;
    change.execute(params![shard, due.as_millis(), why.code(), kind, id, int(fence.0)])?;
    Ok(())
}

/// Where the rows of one shard begin, so that pages over all shards have one order.
fn start(shard: ShardId, after: Option<WakeRow>) -> (i64, u8, u8, Uuid, i64) {
    let before_all = (i64::MIN, 0, 0, Uuid::nil(), -1);
    let Some(after) = after else { return before_all };
    let due = after.due.as_millis();
    match shard.cmp(&after.shard) {
        std::cmp::Ordering::Less => (due, u8::MAX, u8::MAX, Uuid::max(), i64::MAX),
        std::cmp::Ordering::Greater => (due, 0, 0, Uuid::nil(), -1),
        std::cmp::Ordering::Equal => {
            let EntityId { kind, id } = after.entity;
            (due, after.kind.code(), kind.code(), id, int(after.fence.0))
        }
    }
}

fn to_row(row: &Row<'_>, shard: ShardId) -> Result<WakeRow, ReadFailure> {
    let bad = || ReadFailure::Corrupt(CorruptPart::Row);
    let id: [u8; 16] = row.get(3)?;
    Ok(WakeRow {
        due: Timestamp::from_millis(row.get(0)?),
        shard,
        kind: WakeKind::from_code(row.get(1)?).ok_or_else(bad)?,
        entity: EntityId {
            kind: EntityKind::from_code(row.get(2)?).ok_or_else(bad)?,
            id: Uuid::from_bytes(id),
        },
        fence: Fence(uint(row.get(4)?)),
    })
}

fn due(
    db: &Connection,
    shards: &[ShardId],
    until: Timestamp,
    after: Option<WakeRow>,
    limit: usize,
) -> Result<Vec<WakeRow>, ReadFailure> {
    let mut read = db.prepare_cached(
        "SELECT due, why, kind, entity, fence FROM wake
         WHERE shard = ?1 AND due <= ?2 AND (due, why, kind, entity, fence) > (?3, ?4, ?5, ?6, ?7)
         ORDER BY due, why, kind, entity, fence LIMIT ?8",
    )?;
    let mut found = Vec::new();
    for shard in shards {
        let (due, why, kind, id, fence) = start(*shard, after);
        let (until, limit) = (until.as_millis(), int(limit as u64));
        let mut rows =
            read.query(params![shard.0, until, due, why, kind, id.as_bytes(), fence, limit])?;
        while let Some(row) = rows.next()? {
            found.push(to_row(row, *shard)?);
        }
    }
    found.sort_unstable();
    found.truncate(limit);
    Ok(found)
}

/// When and why one entity wants to be looked at. The rows of its shard are few.
pub(crate) fn of_entity(
    db: &Connection,
    entity: EntityId,
) -> Result<Vec<(Timestamp, WakeKind)>, ReadFailure> {
    let mut read = db.prepare_cached(
        "SELECT DISTINCT due, why FROM wake WHERE shard = ?1 AND kind = ?2 AND entity = ?3
         ORDER BY due, why",
    )?;
    let (shard, kind) = (entity.shard().0, entity.kind.code());
    let mut rows = read.query(params![shard, kind, entity.id.as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = WakeKind::from_code(row.get(1)?);
        let kind = kind.ok_or(ReadFailure::Corrupt(CorruptPart::Row))?;
        found.push((Timestamp::from_millis(row.get(0)?), kind));
    }
    Ok(found)
}

#[async_trait]
impl WakeStore for SqliteStore {
    async fn due(
        &self,
        shards: &[ShardId],
        until: Timestamp,
        after: Option<WakeRow>,
        limit: usize,
    ) -> Result<Vec<WakeRow>, ReadError> {
        let shards = shards.to_vec();
        let read = move |db: &Connection| due(db, &shards, until, after, limit);
        self.inner.readers.read(read).await.map_err(read_error("the wake index"))
    }

    async fn remove(&self, by: &Opened, rows: Vec<WakeRow>) -> Result<(), WriteError> {
        check_remove(by, &rows).map_err(WriteError::Invalid)?;
        let write = move |db: &Connection| {
            let mut delete = db.prepare_cached(
                "DELETE FROM wake WHERE shard = ?1 AND due = ?2 AND why = ?3 AND kind = ?4
                 AND entity = ?5 AND fence = ?6",
            )?;
            for row in &rows {
                let (kind, id) = (row.entity.kind.code(), row.entity.id);
                let (due, why, fence) = (row.due.as_millis(), row.kind.code(), int(row.fence.0));
                delete.execute(params![row.shard.0, due, why, kind, id.as_bytes(), fence])?;
            }
            Ok(())
        };
        Ok(self.inner.writer.write(64, write).await?)
    }
}
