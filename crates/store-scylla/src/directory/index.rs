//! The index of keys: by owner in one partition each, and all of a table in a few.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use troupe_store::{DirectoryRow, DirectoryTable};
use troupe_types::Uuid;

use crate::{ScyllaStore, cql::tiny, error::Failed};

/// All keys of one table lie in so many partitions.
const BUCKETS: u8 = 16;
/// Rows that one call reads at once.
const ROWS_AT_ONCE: usize = 16;
/// Keys of one page beyond those asked for: some name rows that are gone.
const SPARE: usize = 16;

/// The owner of the lists of everything.
const EVERYBODY: Uuid = Uuid::nil();

/// FNV-1a over the key: a spread that never changes.
fn bucket(key: &[u8]) -> i8 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    tiny((hash >> 56) as u8 % BUCKETS)
}

/// Where a key is listed.
fn places(owner: Option<Uuid>, key: &[u8]) -> Vec<(Uuid, i8)> {
    let all = (EVERYBODY, bucket(key));
    owner.map(|owner| (owner, 0)).into_iter().chain([all]).collect()
}

impl ScyllaStore {
    /// Lists a key before its row is made.
    pub(super) async fn add_to_index(
        &self,
        table: DirectoryTable,
        owner: Option<Uuid>,
        key: &[u8],
        made_by: Uuid,
    ) -> Result<(), Failed> {
        for (owner, bucket) in places(owner, key) {
            let values = (tiny(table.code()), owner, bucket, key, made_by);
            self.cql().write(&self.statements().index_insert, values).await?;
        }
        Ok(())
    }

    /// Best effort: an entry that stays behind names no row and is passed over.
    pub(super) async fn drop_from_index(
        &self,
        table: DirectoryTable,
        owner: Option<Uuid>,
        key: &[u8],
        made_by: Uuid,
    ) {
        for (owner, bucket) in places(owner, key) {
            let values = (tiny(table.code()), owner, bucket, key, made_by);
            if let Err(failed) = self.cql().write(&self.statements().index_delete, values).await {
                tracing::debug!(?failed, "an entry of the index stays behind");
            }
        }
    }

    /// The next keys of one partition, and whether there may be more.
    async fn keys(
        &self,
        table: DirectoryTable,
        (owner, bucket): (Uuid, i8),
        after: Option<&Bytes>,
        count: usize,
    ) -> Result<(Vec<Bytes>, bool), Failed> {
        let (statements, tbl) = (self.statements(), tiny(table.code()));
        let limit = i32::try_from(count).unwrap_or(i32::MAX);
        let rows: Vec<(Bytes,)> = match after {
            None => self.cql().rows(&statements.index_first, (tbl, owner, bucket, limit)).await?,
            Some(after) => {
                let values = (tbl, owner, bucket, after, limit);
                self.cql().rows(&statements.index_after, values).await?
            }
        };
        let more = rows.len() >= count;
        Ok((rows.into_iter().map(|(key,)| Bytes::copy_from_slice(&key)).collect(), more))
    }

    pub(super) async fn list_rows(
        &self,
        table: DirectoryTable,
        owner: Option<Uuid>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DirectoryRow>, Failed> {
        let places: Vec<(Uuid, i8)> = match owner {
            Some(owner) => vec![(owner, 0)],
            None => (0..BUCKETS).map(|bucket| (EVERYBODY, tiny(bucket))).collect(),
        };
        let mut after = after.map(Bytes::copy_from_slice);
        let mut found = Vec::new();
        while found.len() < limit {
            let count = limit - found.len() + SPARE;
            let read = |place| self.keys(table, place, after.as_ref(), count);
            let pages = stream::iter(places.clone()).map(read).buffer_unordered(ROWS_AT_ONCE);
            let pages: Vec<(Vec<Bytes>, bool)> = pages.try_collect().await?;
            // Beyond the end of a page that was cut there may be keys that are not known yet.
            let ends = pages.iter().filter(|(_, more)| *more).filter_map(|(keys, _)| keys.last());
            let end = ends.min().cloned();
            let keys: BTreeSet<Bytes> = pages.into_iter().flat_map(|(keys, _)| keys).collect();
            let known = keys.into_iter().filter(|key| end.as_ref().is_none_or(|end| key <= end));
            let read = |key: Bytes| async move {
                let found = self.found(table, &key, false).await?;
                Ok::<_, Failed>(found.map(|found| found.row(table, &key)))
            };
            let rows = stream::iter(known).map(read).buffered(ROWS_AT_ONCE);
            let rows: Vec<Option<DirectoryRow>> = rows.try_collect().await?;
            let rows = rows.into_iter().flatten();
            found.extend(rows.filter(|row| owner.is_none() || row.owner == owner));
            match end {
                Some(end) => after = Some(end),
                None => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}
