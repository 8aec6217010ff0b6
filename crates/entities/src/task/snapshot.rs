//! When the fold is written down, so that replay stays short.

use bytes::Bytes;
use troupe_actor::spawn_task;
use troupe_domain::task::TaskState;
use troupe_sharding::Crash;
use troupe_store::AppendError;
use troupe_types::Seq;

use super::{actor::TaskActor, factory::TaskOptions, internal::TaskInternal};
use crate::codec;

/// Counts what a replay would have to read.
#[derive(Debug)]
pub(super) struct Snapshots {
    entries_max: u64,
    bytes_max: u64,
    entries: u64,
    bytes: u64,
    /// One is captured and not yet written.
    under_way: bool,
}

impl Snapshots {
    pub(super) const fn new(options: &TaskOptions, entries: u64, bytes: u64) -> Self {
        Self {
            entries_max: options.snapshot_entries,
            bytes_max: options.snapshot_bytes,
            entries,
            bytes,
            under_way: false,
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        !self.under_way
    }

    /// Counts a staged entry; `Some`: the state at this entry is due to be written once the
    /// entry is committed.
    pub(super) fn capture(
        &mut self,
        _seq: Seq,
        bytes: usize,
        state: &TaskState,
    ) -> Option<Result<Bytes, Crash>> {
        self.entries += 1;
        self.bytes += bytes as u64;
        if self.under_way || (self.entries < self.entries_max && self.bytes < self.bytes_max) {
            return None;
        }
        self.under_way = true;
        (self.entries, self.bytes) = (0, 0);
        Some(codec::encode_state(state).map_err(|error| Crash {
            reason: format!("a snapshot cannot be encoded: {error}"),
            blameless: true,
        }))
    }
}

impl TaskActor {
    pub(super) fn write_snapshot(&mut self, upto: Seq, state: Bytes) {
        let journal = std::sync::Arc::clone(&self.context.stores.journal);
        let opened = std::sync::Arc::clone(self.commits.opened());
        let me = self.context.me.clone();
        spawn_task("task-snapshot", async move {
            let result = journal.snapshot(&opened, upto, state).await;
            let _ = me.send(TaskInternal::Snapshot { upto, result });
        });
    }

    /// The old or the new snapshot is current, nothing is missing: only a fence ends us.
    pub(super) fn snapshot_written(
        &mut self,
        upto: Seq,
        result: Result<(), AppendError>,
    ) -> Result<(), Crash> {
        self.snapshots.under_way = false;
        match result {
            Ok(()) => self.window.snapshotted(upto),
            Err(error @ AppendError::Fenced { .. }) => {
                return Err(Crash { reason: error.to_string(), blameless: true });
            }
            Err(error) => {
                tracing::warn!(entity = %self.context.id, %upto, %error, "a snapshot failed");
            }
        }
        Ok(())
    }
}
