//! A backup of the whole cluster, made by the node that is asked, while all of it works.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use troupe_actor::spawn_task;
use troupe_api::Problem;
use troupe_store::backup::{DumpError, Head, Kind, Totals, dump};
use troupe_types::Uuid;

use super::{Operations, OperatorError, admin};
use crate::caller::Caller;

/// Pieces of about 256 KiB that wait for whoever takes them.
const PIECES_MAX: usize = 4;

/// A backup on its way out.
#[derive(Debug)]
pub struct BackupStream {
    pieces: mpsc::Receiver<Bytes>,
    ended: Option<oneshot::Receiver<Result<(), DumpError>>>,
}

impl BackupStream {
    /// The next piece; `None` after the last one.
    ///
    /// # Errors
    /// The backup failed: what was taken has no end and is of no use.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DumpError> {
        if let Some(piece) = self.pieces.recv().await {
            return Ok(Some(piece));
        }
        match self.ended.take() {
            None => Ok(None),
            // Without a word its task is gone, and so is the node.
            Some(ended) => ended.await.unwrap_or(Err(DumpError::Stalled)).map(|()| None),
        }
    }
}

impl Operations {
    /// Begins a backup. One is made at a time on a node, and it goes as fast as it is taken.
    ///
    /// # Errors
    /// 403; 409 if one is being made.
    pub async fn backup(self: &Arc<Self>, caller: &Caller) -> Result<BackupStream, Problem> {
        admin(caller, "backup")?;
        let id = Uuid::new_v4();
        let target = id.to_string();
        let place = Arc::clone(&self.backups).try_acquire_owned().map_err(|_| {
            let detail = "This node is making a backup already; wait for its end.".to_owned();
            OperatorError::Refused { code: "backup_runs".into(), detail }
        });
        // Who began it is known whatever becomes of this node.
        let place = self.audited(caller, "begin_backup", &target, "", place).await?;
        let head = Head {
            id,
            at: self.parts.clock.now(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.operator().name().to_owned(),
        };
        let (to, pieces) = mpsc::channel(PIECES_MAX);
        let (tell, ended) = oneshot::channel();
        let (this, caller) = (Arc::clone(self), caller.clone());
        // It ends with its taker, and a taker that hangs ends it.
        drop(spawn_task("backup", async move {
            let done = dump(&this.parts.stores, head, &to).await;
            let detail = done.as_ref().map(told).unwrap_or_default();
            let outcome = done.as_ref().map(drop).map_err(problem);
            // An error means that nobody listens any more.
            let _ = tell.send(done.map(drop));
            drop((to, place));
            let kept = this.audited(&caller, "backup", &target, &detail, outcome).await;
            if let Err(problem) = kept {
                tracing::warn!(backup = target, code = problem.code, "a backup has no end");
            }
        }));
        Ok(BackupStream { pieces, ended: Some(ended) })
    }
}

fn told(totals: &Totals) -> String {
    let (entities, rows) = (totals.of(Kind::Entity), totals.of(Kind::Row));
    format!("{entities} entities, {rows} rows, {} bytes", totals.bytes)
}

fn problem(error: &DumpError) -> Problem {
    tracing::warn!(?error, "a backup failed");
    match error {
        DumpError::Store(_) => OperatorError::Store(error.to_string()).into(),
        DumpError::Stalled => Problem::new(408, "not_taken", error.to_string()),
    }
}
