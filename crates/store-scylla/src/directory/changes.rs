//! Announced changes: a log without gaps, each place of which one lightweight transaction won.

use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use troupe_store::{CasError, Change, ChangeCursor, Changes, DirectoryTable, cause};
use troupe_types::Uuid;

use super::unknown;
use crate::{
    ScyllaStore,
    cql::{Lwt, from_tiny, int, tiny, uint},
    error::Failed,
};

/// Changes of one partition.
const BUCKET: u64 = 4_096;
/// How often a place is tried for, others being faster.
const TRIES: usize = 64;

/// The newest partition of the log, as far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct ChangeHead {
    bucket: AtomicI64,
}

type Found = (i64, i8, Bytes, Option<Uuid>);

fn bucket(number: u64) -> i64 {
    int(number / BUCKET)
}

impl ScyllaStore {
    /// The number of the last change, 0 if there was none.
    pub(super) async fn last_change(&self) -> Result<u64, Failed> {
        let statements = self.statements();
        let told = self.cql().row::<(i64,)>(&statements.change_bucket, ()).await?;
        let known = &self.inner.changes.bucket;
        let newest = told.map_or(0, |(bucket,)| bucket).max(known.load(Ordering::Relaxed));
        known.fetch_max(newest, Ordering::Relaxed);
        let last = self.cql().row::<(i64,)>(&statements.change_last, (newest,)).await?;
        // A partition is announced before its first change, and after the last of the one before.
        Ok(last.map_or((uint(newest) * BUCKET).saturating_sub(1), |(number,)| uint(number)))
    }

    /// Tells all gateways of a change that has happened.
    pub(super) async fn announce(
        &self,
        table: DirectoryTable,
        key: &[u8],
        owner: Option<Uuid>,
    ) -> Result<(), CasError> {
        let statements = self.statements();
        let me = Uuid::new_v4();
        let mut number = self.last_change().await.map_err(unknown)? + 1;
        for _ in 0..TRIES {
            let of = bucket(number);
            if number % BUCKET == 0 {
                let told = self.cql().write(&statements.change_bucket_set, (of, of));
                told.await.map_err(unknown)?;
            }
            let values = (of, int(number), tiny(table.code()), key, owner, me);
            match self.cql().lwt(&statements.change_insert, values).await.map_err(unknown)? {
                Lwt::Applied => return Ok(()),
                Lwt::Refused(_) | Lwt::Unknown(_) => {}
            }
            let place = (of, int(number));
            let writer = self.cql().row::<(Uuid,)>(&statements.change_writer, place);
            match writer.await.map_err(unknown)? {
                Some((writer,)) if writer == me => return Ok(()),
                Some(_) => number += 1,
                None => {}
            }
        }
        Err(CasError::OutcomeUnknown { source: cause("too many announce at once") })
    }

    pub(super) async fn changes_since(
        &self,
        cursor: ChangeCursor,
        limit: usize,
    ) -> Result<Changes, Failed> {
        let (mut changes, mut next) = (Vec::new(), cursor.0);
        while changes.len() < limit {
            let of = bucket(next + 1);
            let room = i32::try_from(limit - changes.len()).unwrap_or(i32::MAX);
            let values = (of, int(next), room);
            let rows: Vec<Found> = self.cql().rows(&self.statements().changes, values).await?;
            let before = next;
            for (number, table, key, owner) in rows {
                if uint(number) != next + 1 {
                    break; // Not to be passed over: it will be there in a moment.
                }
                next = uint(number);
                if let Some(table) = DirectoryTable::from_code(from_tiny(table)) {
                    changes.push(Change { table, key: Bytes::copy_from_slice(&key), owner });
                }
            }
            if next == before || bucket(next + 1) == of {
                break;
            }
        }
        Ok(Changes { changes, next: ChangeCursor(next) })
    }
}
