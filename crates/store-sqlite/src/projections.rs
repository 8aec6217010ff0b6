//! Task lists.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter, types::Value};
use troupe_store::{
    Projections, ReadError, TaskCursor, TaskFilter, TaskPage, TaskRow, WriteError,
    projections::check_task,
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

/// What a filter asks of a row: nothing but what it wants is asked, so that a count of all is read
/// from an index alone.
struct Admitted {
    sql: String,
    params: Vec<Value>,
}

impl Admitted {
    fn by(owner: UserId, filter: &TaskFilter) -> Self {
        // The plus keeps the index for counts out, which knows nothing of asks.
        let plus = if filter.asks { "+" } else { "" };
        let sql = format!("owner = ?1 AND {plus}gone = 0 AND deleted = 0 AND archived = ?2");
        let owner = Value::Blob(owner.uuid().as_bytes().to_vec());
        let mut all = Self { sql, params: vec![owner, Value::from(filter.archived)] };
        if !filter.statuses.is_empty() {
            let between_commas = format!(",{},", filter.statuses.join(","));
            all.and("instr(?, ',' || status || ',') > 0", between_commas.into());
        }
        if let Some(text) = filter.text.as_deref().filter(|text| !text.is_empty()) {
            all.and("instr(title_lower, ?) > 0", text.to_lowercase().into());
        }
        if filter.asks {
            // Written out: only then is the index of those that ask used.
            all.sql.push_str(" AND asks > 0");
        }
        all
    }

    /// One more condition; its `?` is the next parameter.
    fn and(&mut self, condition: &str, param: Value) {
        let number = self.params.len() + 1;
        self.sql.push_str(" AND ");
        self.sql.push_str(&condition.replace('?', &format!("?{number}")));
        self.params.push(param);
    }
}

fn list(
    db: &Connection,
    owner: UserId,
    filter: &TaskFilter,
    after: Option<TaskCursor>,
    limit: usize,
) -> Result<Vec<TaskRow>, ReadFailure> {
    let Admitted { sql, mut params } = Admitted::by(owner, filter);
    let next = params.len() + 1;
    let after = after.map(|after| {
        let cursor = [
            Value::from(after.updated_at.as_millis()),
            Value::Blob(after.task.uuid().as_bytes().to_vec()),
        ];
        params.extend(cursor);
        format!(" AND (updated_at, task) < (?{next}, ?{})", next + 1)
    });
    params.push(int(limit as u64).into());
    let sql = format!(
        "SELECT {COLUMNS} FROM task WHERE {sql}{} ORDER BY updated_at DESC, task DESC LIMIT ?{}",
        after.unwrap_or_default(),
        params.len()
    );
    let mut read = db.prepare_cached(&sql)?;
    Ok(read.query_map(params_from_iter(params), to_row)?.collect::<Result<_, _>>()?)
}

fn count(db: &Connection, owner: UserId, filter: &TaskFilter) -> Result<u64, ReadFailure> {
    let Admitted { sql, params } = Admitted::by(owner, filter);
    let sql = format!("SELECT count(*) FROM task WHERE {sql}");
    let mut read = db.prepare_cached(&sql)?;
    Ok(uint(read.query_row(params_from_iter(params), |row| row.get(0))?))
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
        let filter = filter.clone();
        let read = move |db: &Connection| count(db, owner, &filter);
        self.inner.readers.read(read).await.map_err(read_error(WHAT))
    }

    async fn page_of_tasks(
        &self,
        owner: UserId,
        filter: &TaskFilter,
        after: Option<TaskCursor>,
        limit: usize,
    ) -> Result<TaskPage, ReadError> {
        let filter = filter.clone();
        let read = move |db: &Connection| {
            let rows = list(db, owner, &filter, after, limit)?;
            Ok(TaskPage { rows, total: count(db, owner, &filter)? })
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
