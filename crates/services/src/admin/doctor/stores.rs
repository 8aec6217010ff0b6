//! The store and soft state.

use std::time::Duration;

use troupe_api::admin::Check;
use troupe_store::{CasError, DirectoryTable, RowWrite};

use super::{STORE_TIMEOUT, Verdict, check};
use crate::admin::{Operations, in_time};

/// Reads that take longer are slow.
const READ_SLOW: Duration = Duration::from_millis(200);
/// Writes that take longer are slow: at half a second of p99 shards stop to move by themselves.
const WRITE_SLOW: Duration = Duration::from_millis(500);
/// The row of table `Setting` that the doctor writes to see whether it can.
const PROBE: &[u8] = b"doctor-probe";

impl Operations {
    pub(super) async fn check_stores(&self) -> Vec<Check> {
        vec![self.check_store().await, self.check_soft_state()]
    }

    async fn check_store(&self) -> Check {
        let check = check("store", "The store reads and writes in time");
        let clock = &self.parts.clock;
        let directory = &self.parts.stores.directory;
        let begun = clock.mono();
        let row = in_time(STORE_TIMEOUT, directory.get(DirectoryTable::Setting, PROBE)).await;
        let read = clock.mono().since(begun);
        let row = match row {
            Ok(row) => row,
            Err(why) => {
                let fix = "Nothing durable happens until it is back. Is the server there, is the \
                           disk readable? The node's log says more.";
                return check.fail(format!("a read failed: {why}"), fix);
            }
        };
        let body = clock.now().to_string().into_bytes();
        let write = match &row {
            Some(row) => RowWrite::update(row, body),
            None => RowWrite::insert(DirectoryTable::Setting, PROBE, body),
        };
        let begun = clock.mono();
        let written = tokio::time::timeout(STORE_TIMEOUT, directory.compare_and_set(write)).await;
        let wrote = clock.mono().since(begun);
        let failed = match written {
            // Another doctor was faster: the store writes.
            Ok(Ok(_) | Err(CasError::Conflict { .. })) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", STORE_TIMEOUT.as_secs())),
        };
        if let Some(why) = failed {
            let fix = "Reads go on, new messages are refused. Is the disk full (see the check of \
                       it), or do too few servers answer for a quorum?";
            return check.fail(format!("a write failed: {why}"), fix);
        }
        let found =
            format!("a read took {} ms, a write {} ms", read.as_millis(), wrote.as_millis());
        if read > READ_SLOW || wrote > WRITE_SLOW {
            let fix = "Text grows in coarser steps and shards stop to move by themselves: look at \
                       the load of the disk or of the servers.";
            return check.warn(found, fix);
        }
        check.ok(found)
    }

    fn check_soft_state(&self) -> Check {
        let check = check("soft_state", "Nodes tell each other what may be forgotten");
        let health = self.parts.soft.health();
        let reason = health.borrow().reason().map(str::to_owned);
        match reason {
            None => check.ok("whole"),
            Some(why) => {
                let fix = "Tasks and streams go on; lists of other nodes are older, and who looks \
                           on is known per node. Bring Redis back: all returns by itself.";
                check.warn(format!("degraded: {why}"), fix)
            }
        }
    }
}
