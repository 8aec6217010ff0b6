//! Task lists: rows by id, hints by activity, counts by owner, and the few that ask by owner.
//! Each is written with the
//! entity's seq as its write time, so the newest wins wherever and whenever it arrives.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{DeserializeRow, value::CqlTimestamp};
use troupe_store::{
    Projections, ReadError, TaskCursor, TaskFilter, TaskPage, TaskRow, WriteError, cause,
    projections::check_task,
};
use troupe_types::{Seq, TaskId, Timestamp, UserId, Uuid};

use crate::{
    ScyllaStore,
    cql::{int, uint},
    error::{Failed, unread},
};

const WHAT: &str = "the list of Tasks";
/// Hints of one owner and so many milliseconds (30 days) are one partition.
const PERIOD_MS: i64 = 30 * 24 * 3600 * 1000;
/// The counted rows of one owner lie in so many partitions.
const COUNT_BUCKETS: u8 = 8;
/// Rows that one call reads at once.
const ROWS_AT_ONCE: usize = 16;
/// Tasks of one owner that ask and are looked at.
const ASKING_MAX: i32 = 1_000;
/// Hints of one page, at least.
const HINTS_MIN: usize = 32;

#[derive(DeserializeRow)]
struct Found {
    task: Uuid,
    owner: Uuid,
    seq: i64,
    created_at: CqlTimestamp,
    updated_at: CqlTimestamp,
    status: String,
    title: String,
    team: String,
    team_namespace: String,
    archived: bool,
    deleted: bool,
    /// A row of an earlier version has none.
    asks: Option<i32>,
    body: Option<Bytes>,
}

impl From<Found> for TaskRow {
    fn from(row: Found) -> Self {
        Self {
            task: TaskId::from_uuid(row.task),
            owner: UserId::from_uuid(row.owner),
            seq: Seq(uint(row.seq)),
            created_at: Timestamp::from_millis(row.created_at.0),
            updated_at: Timestamp::from_millis(row.updated_at.0),
            status: row.status,
            title: row.title,
            team: row.team,
            team_namespace: row.team_namespace,
            archived: row.archived,
            deleted: row.deleted,
            asks: row.asks.and_then(|asks| asks.try_into().ok()).unwrap_or_default(),
            body: row.body.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(&body)),
        }
    }
}

type Hint = (CqlTimestamp, Bytes);

fn period(time: Timestamp) -> i64 {
    time.as_millis().div_euclid(PERIOD_MS)
}

fn stamp(time: Timestamp) -> CqlTimestamp {
    CqlTimestamp(time.as_millis())
}

/// Ids as bytes: CQL sorts its own uuids by their version first.
fn id_bytes(task: TaskId) -> Bytes {
    Bytes::copy_from_slice(task.uuid().as_bytes())
}

fn count_bucket(task: TaskId) -> i8 {
    let last = task.uuid().as_bytes()[15];
    crate::cql::tiny(last % COUNT_BUCKETS)
}

impl ScyllaStore {
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, Failed> {
        let found = self.cql().row::<Found>(&self.statements().task, (task.uuid(),)).await?;
        Ok(found.map(TaskRow::from))
    }

    async fn write_task(&self, row: &TaskRow) -> Result<(), Failed> {
        let (cql, statements) = (self.cql(), self.statements());
        let (task, owner, seq) = (row.task.uuid(), row.owner.uuid(), int(row.seq.0));
        let before = self.task(row.task).await?;
        let hint = (owner, period(row.updated_at), stamp(row.updated_at), id_bytes(row.task), seq);
        // A hint without its row is skipped by readers; a row without its hint would be lost.
        futures::try_join!(
            cql.write(&statements.period_insert, (owner, period(row.updated_at))),
            cql.write(&statements.hint_insert, hint),
        )?;
        if row.asks > 0 && before.as_ref().is_none_or(|old| old.seq <= row.seq) {
            let asking = (owner, id_bytes(row.task), seq);
            cql.write(&statements.asking_insert, asking).await?;
        }
        let (created_at, updated_at) = (stamp(row.created_at), stamp(row.updated_at));
        let whole = (
            task,
            owner,
            seq,
            created_at,
            updated_at,
            row.status.as_str(),
            row.title.as_str(),
            row.team.as_str(),
            row.team_namespace.as_str(),
            row.archived,
            row.deleted,
            i32::try_from(row.asks).unwrap_or(i32::MAX),
            &row.body,
            seq,
        );
        let counted = (
            owner,
            count_bucket(row.task),
            task,
            row.status.as_str(),
            row.title.as_str(),
            row.archived,
            row.deleted,
            seq,
        );
        futures::try_join!(
            cql.write(&statements.task_insert, whole),
            cql.write(&statements.count_insert, counted),
        )?;
        // One that stays all the same is skipped by readers, as its row does not ask.
        if row.asks == 0 && before.as_ref().is_some_and(|old| old.asks > 0) {
            let values = (seq, owner, id_bytes(row.task));
            cql.write(&statements.asking_delete, values).await?;
        }
        match before {
            Some(old) if old.seq < row.seq && old.updated_at != row.updated_at => {
                self.delete_hint(&old).await
            }
            _ => Ok(()),
        }
    }

    /// With the write time of the row that it hinted at: a newer hint of one place stays.
    async fn delete_hint(&self, of: &TaskRow) -> Result<(), Failed> {
        let (owner, at) = (of.owner.uuid(), of.updated_at);
        let values = (int(of.seq.0), owner, period(at), stamp(at), id_bytes(of.task));
        self.cql().write(&self.statements().hint_delete, values).await
    }

    /// The next hints of a period below `after`.
    async fn hints(
        &self,
        owner: UserId,
        period: i64,
        after: Option<(Timestamp, Bytes)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, Bytes)>, Failed> {
        let (statements, owner) = (self.statements(), owner.uuid());
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows: Vec<Hint> = match after {
            None => self.cql().rows(&statements.hints_first, (owner, period, limit)).await?,
            Some((at, task)) => {
                let values = (owner, period, stamp(at), task, limit);
                self.cql().rows(&statements.hints_below, values).await?
            }
        };
        Ok(rows.into_iter().map(|(at, task)| (Timestamp::from_millis(at.0), task)).collect())
    }

    /// The rows that hints name, if they still name each other.
    async fn hinted(
        &self,
        owner: UserId,
        hints: &[(Timestamp, Bytes)],
    ) -> Result<Vec<TaskRow>, Failed> {
        let odd = |e| Failed::Odd(cause(e));
        let read = |(at, task): (Timestamp, Bytes)| async move {
            let task = TaskId::from_uuid(Uuid::from_slice(&task).map_err(odd)?);
            let row = self.task(task).await?;
            Ok::<_, Failed>(row.filter(|row| row.updated_at == at && row.owner == owner))
        };
        let rows = stream::iter(hints.to_vec()).map(read).buffered(ROWS_AT_ONCE);
        let rows: Vec<Option<TaskRow>> = rows.try_collect().await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// All rows that ask and pass the filter, latest first.
    async fn asking(&self, owner: UserId, filter: &TaskFilter) -> Result<Vec<TaskRow>, Failed> {
        let odd = |e| Failed::Odd(cause(e));
        let values = (owner.uuid(), ASKING_MAX);
        let ids: Vec<(Bytes,)> = self.cql().rows(&self.statements().asking, values).await?;
        let read = |(task,): (Bytes,)| async move {
            self.task(TaskId::from_uuid(Uuid::from_slice(&task).map_err(odd)?)).await
        };
        let rows = stream::iter(ids).map(read).buffer_unordered(ROWS_AT_ONCE);
        let rows: Vec<Option<TaskRow>> = rows.try_collect().await?;
        let mut rows: Vec<TaskRow> = rows.into_iter().flatten().collect();
        rows.retain(|row| row.owner == owner && filter.admits(row));
        rows.sort_by_key(|row| std::cmp::Reverse((row.updated_at, row.task)));
        Ok(rows)
    }

    async fn list(
        &self,
        owner: UserId,
        filter: &TaskFilter,
        after: Option<TaskCursor>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, Failed> {
        if filter.asks {
            let mut rows = self.asking(owner, filter).await?;
            if let Some(TaskCursor { updated_at, task }) = after {
                rows.retain(|row| (row.updated_at, row.task) < (updated_at, task));
            }
            rows.truncate(limit);
            return Ok(rows);
        }
        let periods: Vec<(i64,)> =
            self.cql().rows(&self.statements().periods, (owner.uuid(),)).await?;
        let newest = after.map_or(i64::MAX, |after| period(after.updated_at));
        let mut found = Vec::new();
        for (period_now,) in periods.into_iter().filter(|(period,)| *period <= newest) {
            let here = after.filter(|after| period(after.updated_at) == period_now);
            let mut last = here.map(|after| (after.updated_at, id_bytes(after.task)));
            loop {
                if found.len() >= limit {
                    return Ok(found);
                }
                let page = (limit - found.len()).clamp(HINTS_MIN, 10 * HINTS_MIN);
                let hints = self.hints(owner, period_now, last.take(), page).await?;
                let rows = self.hinted(owner, &hints).await?;
                let room = limit - found.len();
                found.extend(rows.into_iter().filter(|row| filter.admits(row)).take(room));
                if hints.len() < page {
                    break;
                }
                last = hints.into_iter().next_back();
            }
        }
        Ok(found)
    }

    async fn count(&self, owner: UserId, filter: &TaskFilter) -> Result<u64, Failed> {
        if filter.asks {
            return Ok(self.asking(owner, filter).await?.len() as u64);
        }
        let count = |bucket: u8| async move {
            let key = (owner.uuid(), crate::cql::tiny(bucket));
            let rows: Vec<(String, String, bool, bool)> =
                self.cql().rows(&self.statements().counts, key).await?;
            let admitted = rows.into_iter().filter(|(status, title, archived, deleted)| {
                filter.admits(&counted(owner, status, title, *archived, *deleted))
            });
            Ok::<_, Failed>(admitted.count() as u64)
        };
        let counts = stream::iter(0..COUNT_BUCKETS).map(count);
        let counts = counts.buffer_unordered(usize::from(COUNT_BUCKETS));
        counts.try_fold(0, |sum, more| async move { Ok(sum + more) }).await
    }
}

/// As much of a row as filters look at.
fn counted(owner: UserId, status: &str, title: &str, archived: bool, deleted: bool) -> TaskRow {
    TaskRow {
        task: TaskId::from_uuid(Uuid::nil()),
        owner,
        seq: Seq::ZERO,
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        status: status.to_owned(),
        title: title.to_owned(),
        team: String::new(),
        team_namespace: String::new(),
        archived,
        deleted,
        asks: 0,
        body: Bytes::new(),
    }
}

#[async_trait]
impl Projections for ScyllaStore {
    async fn put_task(&self, row: TaskRow) -> Result<(), WriteError> {
        check_task(&row).map_err(WriteError::Invalid)?;
        Ok(self.write_task(&row).await?)
    }

    async fn delete_task(&self, owner: UserId, task: TaskId, seq: Seq) -> Result<(), WriteError> {
        let (cql, statements, seq_int) = (self.cql(), self.statements(), int(seq.0));
        let before = self.task(task).await?;
        let counted = (seq_int, owner.uuid(), count_bucket(task), task.uuid());
        let asking = (seq_int, owner.uuid(), id_bytes(task));
        futures::try_join!(
            cql.write(&statements.task_delete, (seq_int, task.uuid())),
            cql.write(&statements.count_delete, counted),
            cql.write(&statements.asking_delete, asking),
        )?;
        match before {
            Some(old) if old.seq <= seq => Ok(self.delete_hint(&old).await?),
            _ => Ok(()),
        }
    }

    async fn list_tasks(
        &self,
        owner: UserId,
        filter: &TaskFilter,
        after: Option<TaskCursor>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, ReadError> {
        self.list(owner, filter, after, limit).await.map_err(unread(WHAT))
    }

    async fn count_tasks(&self, owner: UserId, filter: &TaskFilter) -> Result<u64, ReadError> {
        self.count(owner, filter).await.map_err(unread(WHAT))
    }

    async fn page_of_tasks(
        &self,
        owner: UserId,
        filter: &TaskFilter,
        after: Option<TaskCursor>,
        limit: usize,
    ) -> Result<TaskPage, ReadError> {
        let rows = self.list(owner, filter, after, limit);
        let both = futures::try_join!(rows, self.count(owner, filter));
        let (rows, total) = both.map_err(unread(WHAT))?;
        Ok(TaskPage { rows, total })
    }

    async fn get_tasks(&self, tasks: &[TaskId]) -> Result<Vec<TaskRow>, ReadError> {
        let rows = stream::iter(tasks.to_vec()).map(|task| self.task(task)).buffered(ROWS_AT_ONCE);
        let rows: Vec<Option<TaskRow>> = rows.try_collect().await.map_err(unread(WHAT))?;
        Ok(rows.into_iter().flatten().collect())
    }
}
