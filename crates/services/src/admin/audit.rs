//! What administrators did, and who was not let in by the door for devices; kept for a year.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use troupe_api::{Problem, admin::AuditEntry, task::Page};
use troupe_store::{Directory, DirectoryRow, DirectoryTable, RowWrite};
use troupe_types::{Timestamp, Uuid};

use super::{Operations, admin, in_time, store_problem};
use crate::caller::Caller;

/// Version of a row. A reader accepts this one and the one before.
const VERSION: u8 = 1;
/// How long a row is kept.
const KEPT_FOR: Duration = Duration::from_secs(400 * 24 * 3_600);
/// Rows that are too old and go with each row that is written.
const TRIMMED_AT_ONCE: usize = 16;
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
const DETAIL_CHARS_MAX: usize = 1_000;

/// Table `Audit`, key: [`key`].
#[derive(Serialize, Deserialize)]
struct AuditRow {
    v: u8,
    #[serde(flatten)]
    entry: AuditEntry,
}

/// Newest first: what is left of time (8 bytes), what is left of the node's count of rows (4,
/// so that rows of one moment keep their order), and what tells nodes apart (4).
fn key(at: Timestamp, nth: u32, salt: [u8; 4]) -> Bytes {
    let left = i64::MAX.saturating_sub(at.as_millis()).to_be_bytes();
    [&left[..], &(u32::MAX - nth).to_be_bytes(), &salt].concat().into()
}

fn entry_of(row: &DirectoryRow) -> Option<AuditEntry> {
    let row: AuditRow = serde_json::from_slice(&row.body).ok()?;
    (row.v == VERSION).then_some(row.entry)
}

/// Writes a row; `nth`: how many its writer wrote before. Best effort: what was done stays done,
/// and the log has its line.
pub(crate) async fn keep(directory: &dyn Directory, nth: u32, entry: AuditEntry) {
    let (now, action) = (entry.at, entry.action.clone());
    let Ok(body) = serde_json::to_vec(&AuditRow { v: VERSION, entry }) else { return };
    let [.., a, b, c, d] = *Uuid::new_v4().as_bytes();
    let write = RowWrite::insert(DirectoryTable::Audit, key(now, nth, [a, b, c, d]), body);
    let written = in_time(STORE_TIMEOUT, directory.compare_and_set(write)).await;
    if let Err(error) = written {
        tracing::warn!(action, error, "an audit row was not written");
        return;
    }
    let oldest = Timestamp::from_millis(
        now.as_millis() - i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX),
    );
    let after = key(oldest, u32::MAX, [0; 4]);
    let list = directory.list(DirectoryTable::Audit, None, Some(&after), TRIMMED_AT_ONCE);
    for row in in_time(STORE_TIMEOUT, list).await.unwrap_or_default() {
        let remove = directory.remove(row.table, &row.key, row.version, false);
        if in_time(STORE_TIMEOUT, remove).await.is_err() {
            return;
        }
    }
}

impl Operations {
    /// Writes down what came of something, and passes it on.
    pub(super) async fn audited<T, E: Into<Problem>>(
        &self,
        caller: &Caller,
        action: &'static str,
        target: &str,
        detail: &str,
        done: Result<T, E>,
    ) -> Result<T, Problem> {
        let done = done.map_err(Into::into);
        let outcome = match &done {
            Ok(_) => "done",
            Err(problem) => problem.code.as_str(),
        };
        tracing::info!(target: "audit", action, by = %caller.user, of = target, detail, outcome);
        let entry = AuditEntry {
            at: self.parts.clock.now(),
            user_id: caller.user,
            user_name: caller.name.clone(),
            action: action.to_owned(),
            target: target.to_owned(),
            detail: detail.chars().take(DETAIL_CHARS_MAX).collect(),
            outcome: outcome.to_owned(),
        };
        self.keep(entry).await;
        done
    }

    async fn keep(&self, entry: AuditEntry) {
        let nth = self.audit_rows.fetch_add(1, Ordering::Relaxed);
        keep(&*self.parts.stores.directory, nth, entry).await;
    }

    /// What administrators did, the newest first.
    ///
    /// # Errors
    /// 403; 422 for a cursor of nothing; 503 if the store does not answer.
    pub async fn audit(
        &self,
        caller: &Caller,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<AuditEntry>, Problem> {
        admin(caller, "read_audit")?;
        let after = cursor.map(|c| data_encoding::HEXLOWER.decode(c.as_bytes())).transpose();
        let after = after.map_err(|_| Problem::invalid("cursor", "Give the `next` of a page."))?;
        let directory = &self.parts.stores.directory;
        let list = directory.list(DirectoryTable::Audit, None, after.as_deref(), limit + 1);
        let mut rows = in_time(STORE_TIMEOUT, list).await.map_err(store_problem)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| data_encoding::HEXLOWER.encode(&row.key));
        let items: Vec<_> = rows.iter().filter_map(entry_of).collect();
        Ok(Page { total: items.len() as u64, items, next })
    }
}
