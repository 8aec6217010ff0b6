//! What the store itself says, read past all proxies with statements of our own.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use scylla::{
    client::{
        execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder,
    },
    deserialize::row::DeserializeRow,
    statement::{Consistency, Statement},
};
use tokio::time::timeout;
use troupe_types::Uuid;

use crate::check::{
    converge::{Lease, Leases},
    epochs::Grant,
    fence::{Journal, Look, Row},
};

/// Reading all of a table after ten minutes of load.
const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: i32 = 2_000;

/// A reader of the tables. It writes nothing.
#[derive(Debug)]
pub(crate) struct Witness {
    session: Session,
    keyspace: String,
}

/// Epoch, fence, starts, snapshot.
type Statics = (Option<i64>, Option<i64>, Option<BTreeMap<i64, i64>>, Option<i64>);

impl Witness {
    pub(crate) async fn connect(store: SocketAddr, keyspace: &str) -> Result<Self> {
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::Quorum)
            .request_timeout(Some(PATIENCE))
            .build();
        let builder = SessionBuilder::new()
            .known_node_addr(store)
            .fetch_schema_metadata(false)
            .default_execution_profile_handle(profile.into_handle());
        let session = timeout(PATIENCE, builder.build()).await??;
        Ok(Self { session, keyspace: keyspace.to_owned() })
    }

    async fn all<R>(&self, what: &str, rest: &str) -> Result<Vec<R>>
    where
        R: for<'a, 'b> DeserializeRow<'a, 'b> + 'static,
    {
        let mut statement = Statement::new(format!("SELECT {what} FROM {}.{rest}", self.keyspace));
        statement.set_page_size(PAGE);
        statement.set_is_idempotent(true);
        let read = async {
            let pages = self.session.query_iter(statement, ()).await?;
            anyhow::Ok(pages.rows_stream::<R>()?.try_collect::<Vec<_>>().await?)
        };
        let rows = timeout(PATIENCE, read).await;
        rows.with_context(|| format!("read {rest}"))?.with_context(|| format!("read {rest}"))
    }

    /// All leases.
    pub(crate) async fn leases(&self) -> Result<Leases> {
        type Row = (String, Option<i64>, Option<i64>, Option<String>);
        let rows: Vec<Row> = self.all("node, inc, seq, state", "node_lease").await?;
        let lease = |(node, inc, seq, state): Row| {
            Some((node, Lease { inc: inc?, seq: seq?, state: state? }))
        };
        Ok(rows.into_iter().filter_map(lease).collect())
    }

    /// All shards that were ever claimed.
    pub(crate) async fn shards(&self) -> Result<Vec<Grant>> {
        type Row = (i32, Option<String>, Option<i64>, Option<i64>);
        let rows: Vec<Row> = self.all("shard, owner, owner_inc, epoch", "shard").await?;
        let grant = |(shard, owner, inc, epoch): Row| {
            Some(Grant { shard, epoch: epoch?, owner: owner?, inc: inc? })
        };
        Ok(rows.into_iter().filter_map(grant).collect())
    }

    /// All claims ever.
    pub(crate) async fn shard_log(&self) -> Result<Vec<Grant>> {
        type Row = (i32, i64, String, i64);
        let rows: Vec<Row> = self.all("shard, epoch, owner, owner_inc", "shard_log").await?;
        let grant = |(shard, epoch, owner, inc)| Grant { shard, epoch, owner, inc };
        Ok(rows.into_iter().map(grant).collect())
    }

    /// All journals, each row with what stands above it. One scan: a second one for the first
    /// row of each partition (`SELECT DISTINCT`) fails on Cassandra 5.0.5 once there are several
    /// files on its disk.
    pub(crate) async fn journals(&self) -> Result<Look> {
        type Row12 = (
            i8,
            Uuid,
            Option<i64>,
            Option<i64>,
            Option<i64>,
            Option<i64>,
            Option<i64>,
            Option<i32>,
            Option<i64>,
            Option<i64>,
            Option<BTreeMap<i64, i64>>,
            Option<i64>,
        );
        let what = "kind, entity, seq, fence_tag, append_last, first_frame, frames, crc, \
                    epoch, fence, starts, snapshot_seq";
        let rows: Vec<Row12> = self.all(what, "journal").await?;
        let mut look = Look::new();
        for (kind, entity, seq, tag, append_last, first_frame, frames, crc, e, f, starts, s) in rows
        {
            let journal = look.entry((kind, entity)).or_default();
            stand_above(journal, (e, f, starts, s));
            let Some(seq) = seq else { continue };
            let row = Row {
                append_last: uint(append_last),
                crc: crc.unwrap_or(0),
                first_frame: first_frame.unwrap_or(0),
                frames: frames.unwrap_or(0),
            };
            journal.rows.insert((uint(Some(seq)), uint(tag)), row);
        }
        Ok(look)
    }
}

/// The later page of a journal knows more.
fn stand_above(journal: &mut Journal, (epoch, fence, starts, snapshot_seq): Statics) {
    let starts = starts.unwrap_or_default();
    journal.epoch = epoch.unwrap_or(0);
    journal.fence = uint(fence);
    journal.starts = starts.into_iter().map(|(f, s)| (uint(Some(f)), uint(Some(s)))).collect();
    journal.snapshot_seq = uint(snapshot_seq);
}

fn uint(number: Option<i64>) -> u64 {
    number.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}
