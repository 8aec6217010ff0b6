//! Task lists.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use troupe_store::{
    Projections, ReadError, TaskCursor, TaskFilter, TaskRow, WriteError, projections::check_task,
};
use troupe_types::{Seq, TaskId, Timestamp, UserId, Uuid};

use crate::{
    SqliteStore,
    error::{ReadFailure, read_error},
    journal::{int, uint},
};

const WHAT: &str = "the list of Tasks";

/// Orders writes of one row: by seq, and at one seq a deletion after the row.
fn stamp(seq: Seq, gone: bool) -> i64 {
    int(seq.0.saturating_mul(2)) + i64::from(gone)
}

const PUT: &str = "
INSERT INTO task (task, owner, stamp, gone, created_at, updated_at, status, title, title_lower,
                  team, team_namespace, archived, deleted, asks, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
ON CONFLICT (task) DO UPDATE SET
  owner = excluded.owner, stamp = excluded.stamp, gone = excluded.gone,
  created_at = excluded.created_at, updated_at = excluded.updated_at, status = excluded.status,
  title = excluded.title, title_lower = excluded.title_lower, team = excluded.team,
  team_namespace = excluded.team_namespace, archived = excluded.archived,
  deleted = excluded.deleted, asks = excluded.asks, body = excluded.body
WHERE excluded.stamp > task.stamp";

fn put(db: &Connection, row: &TaskRow, gone: bool) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(PUT)?;
    put.execute(params![
        row.task.uuid().as_bytes(),
        row.owner.uuid().as_bytes(),
        stamp(row.seq, gone),
        gone,
        row.created_at.as_millis(),
        row.updated_at.as_millis(),
        row.status,
        row.title,
        row.title.to_lowercase(),
        row.team,
        row.team_namespace,
        row.archived,
        row.deleted,
        row.asks,
        row.body.as_ref(),
    ])?;
    Ok(())
}

const COLUMNS: &str = "task, owner, stamp, created_at, updated_at, status, title, team,
                       team_namespace, archived, deleted, asks, body";

fn to_row(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    Ok(TaskRow {
        task: TaskId::from_uuid(Uuid::from_bytes(row.get(0)?)),
        owner: UserId::from_uuid(Uuid::from_bytes(row.get(1)?)),
        seq: Seq(uint(row.get(2)?) / 2),
        created_at: Timestamp::from_millis(row.get(3)?),
        updated_at: Timestamp::from_millis(row.get(4)?),
        status: row.get(5)?,
        title: row.get(6)?,
        team: row.get(7)?,
        team_namespace: row.get(8)?,
        archived: row.get(9)?,
        deleted: row.get(10)?,
        asks: row.get(11)?,
        body: row.get::<_, Vec<u8>>(12)?.into(),
    })
}

/// Parameters 1 to 4: owner, archived, statuses between commas, lower-case text.
const ADMITTED: &str = "owner = ?1 AND gone = 0 AND deleted = 0 AND archived = ?2
  AND (?3 = '' OR instr(?3, ',' || status || ',') > 0)
  AND (?4 = '' OR instr(title_lower, ?4) > 0)";

/// Written out where it is wanted: only then is the index of those that ask used.
const ASKS: &str = " AND asks > 0";

fn admitted(filter: &TaskFilter) -> String {
    format!("{ADMITTED}{}", if filter.asks { ASKS } else { "" })
}

/// What [`ADMITTED`] wants to know of a filter.
fn conditions(filter: &TaskFilter) -> (bool, String, String) {
    let statuses = if filter.statuses.is_empty() {
        String::new()
    } else {
        format!(",{},", filter.statuses.join(","))
    };
    let text = filter.text.as_deref().unwrap_or_default().to_lowercase();
    (filter.archived, statuses, text)
}

fn list(
    db: &Connection,
    owner: UserId,
    filter: &TaskFilter,
    after: Option<TaskCursor>,
    limit: usize,
) -> Result<Vec<TaskRow>, ReadFailure> {
    let sql = format!(
        "SELECT {COLUMNS} FROM task WHERE {} AND (updated_at, task) < (?5, ?6)
         ORDER BY updated_at DESC, task DESC LIMIT ?7",
        admitted(filter)
    );
    let mut read = db.prepare_cached(&sql)?;
    let (archived, statuses, text) = conditions(filter);
    // A bytes value of 17 bytes is above every id.
    let (updated_at, task) = after.map_or_else(
        || (i64::MAX, vec![u8::MAX; 17]),
        |cursor| (cursor.updated_at.as_millis(), cursor.task.uuid().as_bytes().to_vec()),
    );
    let owner = owner.uuid();
    let limit = int(limit as u64);
    let params = params![owner.as_bytes(), archived, statuses, text, updated_at, task, limit];
    Ok(read.query_map(params, to_row)?.collect::<Result<_, _>>()?)
}

/// The row of one Task.
pub(crate) fn get(db: &Connection, task: TaskId) -> rusqlite::Result<Option<TaskRow>> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE task = ?1 AND gone = 0");
    db.prepare_cached(&sql)?.query_row([task.uuid().as_bytes()], to_row).optional()
}

#[async_trait]
impl Projections for SqliteStore {
    async fn put_task(&self, row: TaskRow) -> Result<(), WriteError> {
        check_task(&row).map_err(WriteError::Invalid)?;
        let bytes = row.body.len() + row.title.len();
        Ok(self.inner.writer.write(bytes, move |db| put(db, &row, false)).await?)
    }

    async fn delete_task(&self, owner: UserId, task: TaskId, seq: Seq) -> Result<(), WriteError> {
        // A row without content stays, so that an older one does not come back.
        let tombstone = TaskRow {
            task,
            owner,
            seq,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            status: String::new(),
            title: String::new(),
            team: String::new(),
            team_namespace: String::new(),
            archived: false,
            deleted: true,
            asks: 0,
            body: bytes::Bytes::new(),
        };
        Ok(self.inner.writer.write(64, move |db| put(db, &tombstone, true)).await?)
    }

    async fn list_tasks(
        &self,
        owner: UserId,
        filter: &TaskFilter,
        after: Option<TaskCursor>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, ReadError> {
        let filter = filter.clone();
        let read = move |db: &Connection| list(db, owner, &filter, after, limit);
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }

    async fn count_tasks(&self, owner: UserId, filter: &TaskFilter) -> Result<u64, ReadError> {
        let (archived, statuses, text) = conditions(filter);
        let sql = format!("SELECT count(*) FROM task WHERE {}", admitted(filter));
        let read = move |db: &Connection| {
            let mut read = db.prepare_cached(&sql)?;
            let owner = owner.uuid();
            let params = params![owner.as_bytes(), archived, statuses, text];
            Ok(uint(read.query_row(params, |row| row.get(0))?))
        };
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }

    async fn get_tasks(&self, tasks: &[TaskId]) -> Result<Vec<TaskRow>, ReadError> {
        let tasks = tasks.to_vec();
        let read = move |db: &Connection| {
            let mut found = Vec::new();
            for task in tasks {
                found.extend(get(db, task)?);
            }
            Ok(found)
        };
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }
}
