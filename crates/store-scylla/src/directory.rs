//! The directory: a row is a partition of its own, changed only by lightweight transactions.
//!
//! Lists come from an index of keys that is written before a row is made and removed after it
//! is gone. Its entries carry the id of the write that made their row and are never written
//! twice, so no order of writes can hide a row; an entry without a row is passed over.

mod changes;
mod index;

use async_trait::async_trait;
use bytes::Bytes;
use scylla::{DeserializeRow, value::CqlValue};
use troupe_store::{
    CasError, Cause, ChangeCursor, Changes, Directory, DirectoryRow, DirectoryTable, ReadError,
    RowWrite, cause, directory::check_row,
};
use troupe_types::Uuid;

pub(crate) use self::changes::ChangeHead;
use crate::{
    ScyllaStore,
    cql::{Lwt, int, tiny, uint},
    error::{Failed, unread},
};

const WHAT: &str = "the directory";
/// How often one change is sent.
const TRIES: usize = 4;
/// Rows that may be in doubt; beyond it all reads are linearizable.
const DOUBTS_MAX: usize = 1_024;

#[derive(DeserializeRow)]
struct Found {
    owner: Option<Uuid>,
    version: i64,
    body: Option<Bytes>,
    written_by: Uuid,
    made_by: Uuid,
}

impl Found {
    fn row(self, table: DirectoryTable, key: &[u8]) -> DirectoryRow {
        DirectoryRow {
            table,
            key: Bytes::copy_from_slice(key),
            owner: self.owner,
            version: uint(self.version),
            body: self.body.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(&body)),
        }
    }
}

/// The version in a refusal; databases do not tell it of a row that is missing.
fn version_of(refusal: &std::collections::HashMap<String, CqlValue>) -> u64 {
    match refusal.get("version") {
        Some(CqlValue::BigInt(version)) => uint(*version),
        _ => 0,
    }
}

fn unknown(failed: Failed) -> CasError {
    CasError::OutcomeUnknown { source: failed.cause() }
}

impl ScyllaStore {
    async fn found(
        &self,
        table: DirectoryTable,
        key: &[u8],
        serial: bool,
    ) -> Result<Option<Found>, Failed> {
        let statements = self.statements();
        let read = if serial { &statements.row_serial } else { &statements.row };
        self.cql().row(read, (tiny(table.code()), key)).await
    }

    /// Whether a change of this row is in doubt. A linearizable read settles it.
    fn is_doubtful(&self, table: DirectoryTable, key: &[u8]) -> bool {
        let doubts = self.doubts();
        doubts.len() >= DOUBTS_MAX
            || (!doubts.is_empty() && doubts.contains(&(table.code(), Bytes::copy_from_slice(key))))
    }

    fn set_doubtful(&self, table: DirectoryTable, key: &[u8], doubtful: bool) {
        let row = (table.code(), Bytes::copy_from_slice(key));
        let mut doubts = self.doubts();
        if !doubtful {
            doubts.remove(&row);
        } else if doubts.len() < DOUBTS_MAX {
            doubts.insert(row);
        }
    }

    fn doubts(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<(u8, Bytes)>> {
        self.inner.doubts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn send_write(&self, write: &RowWrite, me: Uuid) -> Result<Lwt, Failed> {
        let (statements, tbl, key) =
            (self.statements(), tiny(write.table.code()), write.key.as_ref());
        if write.expected == 0 {
            let values = (tbl, key, write.owner, &write.body, me, me);
            return self.cql().lwt(&statements.row_insert, values).await;
        }
        let (old, new) = (int(write.expected), int(write.expected + 1));
        self.cql().lwt(&statements.row_update, (new, &write.body, me, tbl, key, old)).await
    }

    /// Writes a row, whatever becomes of the answers.
    async fn settle_write(&self, write: &RowWrite, me: Uuid) -> Result<(), CasError> {
        let (mut doubt, expected): (Option<Cause>, u64) = (None, write.expected);
        for _ in 0..TRIES {
            match self.send_write(write, me).await {
                Ok(Lwt::Applied) => return Ok(()),
                Ok(Lwt::Refused(row)) if doubt.is_none() => {
                    return Err(CasError::Conflict { current: version_of(&row) });
                }
                Ok(Lwt::Refused(_)) => {}
                Ok(Lwt::Unknown(source)) => doubt = Some(source),
                Err(failed) => return Err(in_doubt(doubt, failed)),
            }
            let now = self.found(write.table, &write.key, true).await.map_err(unknown)?;
            let current = now.as_ref().map_or(0, |now| uint(now.version));
            if now.is_some_and(|now| now.written_by == me) {
                return Ok(());
            }
            if current == expected + 1 {
                // That version is somebody else's, so this write has never happened.
                return Err(CasError::Conflict { current });
            }
            if current != expected {
                break; // Others went on, from this write or without it.
            }
        }
        Err(never_known(doubt))
    }

    /// Removes the row that was found, whatever becomes of the answers.
    async fn settle_removal(
        &self,
        table: DirectoryTable,
        key: &[u8],
        found: &Found,
    ) -> Result<(), CasError> {
        let mut doubt: Option<Cause> = None;
        let values = (tiny(table.code()), key, found.version);
        for _ in 0..TRIES {
            match self.cql().lwt(&self.statements().row_delete, values).await {
                Ok(Lwt::Applied) => return Ok(()),
                Ok(Lwt::Refused(row)) if doubt.is_none() => {
                    return Err(CasError::Conflict { current: version_of(&row) });
                }
                Ok(Lwt::Refused(_)) => {}
                Ok(Lwt::Unknown(source)) => doubt = Some(source),
                Err(failed) => return Err(in_doubt(doubt, failed)),
            }
            match self.found(table, key, true).await.map_err(unknown)? {
                Some(now) if now.made_by != found.made_by => break,
                Some(now) if now.version != found.version => {
                    return Err(CasError::Conflict { current: uint(now.version) });
                }
                Some(_) => {}
                None => break, // It is gone; by whom, nobody knows.
            }
        }
        Err(never_known(doubt))
    }

    /// Keeps in mind what has to be read with care.
    fn doubted<T>(
        &self,
        table: DirectoryTable,
        key: &[u8],
        outcome: Result<T, CasError>,
    ) -> Result<T, CasError> {
        if matches!(outcome, Err(CasError::OutcomeUnknown { .. })) {
            self.set_doubtful(table, key, true);
        }
        outcome
    }

    async fn write_row(&self, write: &RowWrite) -> Result<u64, CasError> {
        let (table, key, me) = (write.table, &write.key, Uuid::new_v4());
        let insert = write.expected == 0;
        if insert {
            self.add_to_index(table, write.owner, key, me).await?;
        }
        let settled = self.settle_write(write, me).await;
        if insert && matches!(settled, Err(CasError::Conflict { .. })) {
            self.drop_from_index(table, write.owner, key, me).await;
        }
        settled?;
        if write.announce {
            let owner = match insert {
                true => write.owner,
                false => {
                    let now = self.found(table, key, false).await.map_err(unknown)?;
                    now.and_then(|now| now.owner).or(write.owner)
                }
            };
            self.announce(table, key, owner).await?;
        }
        Ok(write.expected + 1)
    }

    async fn remove_row(
        &self,
        table: DirectoryTable,
        key: &[u8],
        expected: u64,
        announce: bool,
    ) -> Result<(), CasError> {
        let doubtful = self.is_doubtful(table, key);
        let found = self.found(table, key, doubtful).await?;
        let current = found.as_ref().map_or(0, |found| uint(found.version));
        let Some(found) = found.filter(|_| current == expected) else {
            return Err(CasError::Conflict { current });
        };
        self.settle_removal(table, key, &found).await?;
        self.drop_from_index(table, found.owner, key, found.made_by).await;
        if announce {
            self.announce(table, key, found.owner).await?;
        }
        Ok(())
    }
}

/// A change that could not be sent again.
fn in_doubt(doubt: Option<Cause>, failed: Failed) -> CasError {
    match doubt {
        Some(source) => CasError::OutcomeUnknown { source },
        None => failed.into(),
    }
}

fn never_known(doubt: Option<Cause>) -> CasError {
    let source = doubt.unwrap_or_else(|| cause("nobody knows what became of the change"));
    CasError::OutcomeUnknown { source }
}

#[async_trait]
impl Directory for ScyllaStore {
    async fn get(
        &self,
        table: DirectoryTable,
        key: &[u8],
    ) -> Result<Option<DirectoryRow>, ReadError> {
        let doubtful = self.is_doubtful(table, key);
        let found = self.found(table, key, doubtful).await.map_err(unread(WHAT))?;
        if doubtful {
            self.set_doubtful(table, key, false);
        }
        Ok(found.map(|found| found.row(table, key)))
    }

    async fn compare_and_set(&self, write: RowWrite) -> Result<u64, CasError> {
        check_row(&write.key, &write.body).map_err(CasError::Invalid)?;
        self.doubted(write.table, &write.key, self.write_row(&write).await)
    }

    async fn remove(
        &self,
        table: DirectoryTable,
        key: &[u8],
        expected: u64,
        announce: bool,
    ) -> Result<(), CasError> {
        self.doubted(table, key, self.remove_row(table, key, expected, announce).await)
    }

    async fn list(
        &self,
        table: DirectoryTable,
        owner: Option<Uuid>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DirectoryRow>, ReadError> {
        self.list_rows(table, owner, after, limit).await.map_err(unread(WHAT))
    }

    async fn revocations_since(
        &self,
        cursor: ChangeCursor,
        limit: usize,
    ) -> Result<Changes, ReadError> {
        self.changes_since(cursor, limit).await.map_err(unread(WHAT))
    }

    async fn revocations_now(&self) -> Result<ChangeCursor, ReadError> {
        Ok(ChangeCursor(self.last_change().await.map_err(unread(WHAT))?))
    }
}
