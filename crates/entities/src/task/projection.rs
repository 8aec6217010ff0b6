//! The Task's row in its owner's list, and its row in the wake index.
//!
//! A wake row stands from before the first entry that gives the Task something to do (a run, a
//! list row to write) until nothing is left to do; so a crash at any moment leaves a row that
//! brings the Task back. False rows are harmless.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use troupe_actor::spawn_task;
use troupe_domain::task::{TaskEntry, TaskState};
use troupe_sharding::EntityContext;
use troupe_store::{Projections, TaskRow, WakeChange, WakeKind, WriteError};
use troupe_types::{Seq, TaskId, Timestamp};

use super::{actor::TaskActor, factory::Listed, internal::TaskInternal, view::Public};

/// How long one try to write a row, or to look for old ones, may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(15);

/// What is written, what is to be written.
#[derive(Debug, Default)]
pub(super) struct Projector {
    /// The list row is behind what is committed.
    dirty: bool,
    /// A write is under way.
    writing: bool,
    /// Our own wake row.
    wake: Option<(Timestamp, WakeKind)>,
    /// No two of our rows share a time, so that removing one never removes another.
    last_due: Timestamp,
    /// Rows of earlier activations may stand in the index.
    older_rows: bool,
    /// They are being removed.
    tidying: bool,
    failures: u32,
    /// How many approvals and questions the row counts that was written last.
    asks: u32,
}

impl Projector {
    pub(super) const fn touch(&mut self) {
        self.dirty = true;
    }

    pub(super) const fn look_for_older_rows(&mut self) {
        self.older_rows = true;
    }

    pub(super) const fn is_idle(&self) -> bool {
        !self.dirty && !self.writing && !self.tidying
    }

    /// The wake row that must be there before this entry is.
    pub(super) fn wake_for(
        &mut self,
        _entry: &TaskEntry,
        touches_list: bool,
        after: &TaskState,
        context: &EntityContext<TaskInternal>,
    ) -> Vec<WakeChange> {
        if self.wake.is_some() || !(touches_list || after.status.is_active()) {
            return Vec::new();
        }
        let kind = if after.status.is_active() { WakeKind::Run } else { WakeKind::Projection };
        vec![self.insert(kind, context)]
    }

    fn insert(&mut self, kind: WakeKind, context: &EntityContext<TaskInternal>) -> WakeChange {
        let due = context.clock.now().max(self.last_due.plus(Duration::from_millis(1)));
        self.last_due = due;
        self.wake = Some((due, kind));
        WakeChange::Insert { due, kind }
    }
}

impl TaskActor {
    /// Writes the list row if it is behind, then removes the wake row if nothing is left to do.
    pub(super) fn project(&mut self) {
        if self.projector.writing {
            return;
        }
        if self.public.view_exists().is_none() {
            // A false wake row: there is nothing to list, and nothing that keeps us here.
            self.projector.dirty = false;
            return;
        }
        if self.projector.dirty {
            self.write_row();
        } else if self.commits.is_settled() && !self.state.status.is_active() {
            self.clear_wake();
        }
    }

    fn write_row(&mut self) {
        let Some(mut row) = row_of(&self.public, self.commits.committed()) else { return };
        let is_known = self.last_line.is_known();
        let last_line = self.last_line.shown().map(str::to_owned);
        let mut body = Body { completed_at: self.public.completed_at, last_line };
        self.tell_lists();
        self.projector.dirty = false;
        self.projector.writing = true;
        let projections = Arc::clone(&self.context.stores.projections);
        let me = self.context.me.clone();
        let pause = Duration::from_millis(200) * self.projector.failures.min(50);
        spawn_task("task-projection", async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let (seq, asks) = (row.seq, row.asks);
            let put = async {
                if !is_known {
                    body.last_line = written_line(row.task, projections.as_ref()).await?;
                }
                row.body = super::actor::encode(&body);
                projections.put_task(row).await
            };
            let put = tokio::time::timeout(WRITE_DEADLINE, put).await;
            let result = put.unwrap_or_else(|_| {
                let source = troupe_store::cause("it took too long");
                Err(WriteError::OutcomeUnknown { source })
            });
            let _ = me.send(TaskInternal::Projected { seq, asks, result });
        });
    }

    /// Tells those who keep lists how the Task looks now.
    pub(super) fn tell_lists(&self) {
        let Some(view) = self.public.view_exists() else { return };
        let (seq, last_line) = (self.commits.committed(), self.last_line.shown());
        let (status, updated_at) = (view.status, view.updated_at);
        self.factory.notifier.listed(view.id, Listed { seq, status, updated_at, last_line });
    }

    pub(super) fn projected(&mut self, seq: Seq, asks: u32, result: Result<(), WriteError>) {
        self.projector.writing = false;
        match result {
            Ok(()) => {
                self.projector.failures = 0;
                // Told after the row is written: who looks then finds it.
                if std::mem::replace(&mut self.projector.asks, asks) != asks {
                    self.notify_asks(asks);
                }
            }
            Err(error) => {
                tracing::warn!(entity = %self.context.id, %seq, %error, "a list row failed");
                self.projector.failures += 1;
                self.projector.dirty = true;
            }
        }
    }

    /// Called when everything is committed and nothing is left to do.
    fn clear_wake(&mut self) {
        if self.projector.tidying {
            return;
        }
        if self.projector.older_rows {
            if self.projector.wake.is_none() {
                // Only an activation that has written a row of its own may remove older ones:
                // this comes by again once it is committed.
                let insert = self.projector.insert(WakeKind::Projection, &self.context);
                self.commits.stage_wake(vec![insert], Vec::new());
                return;
            }
            self.projector.older_rows = false;
            self.projector.tidying = true;
            self.remove_older_rows();
            return;
        }
        if let Some((due, kind)) = self.projector.wake.take() {
            self.commits.stage_wake(vec![WakeChange::Remove { due, kind }], Vec::new());
        }
    }

    /// The rows are gone, or stay for the next activation.
    pub(super) const fn tidied(&mut self) {
        self.projector.tidying = false;
    }

    fn remove_older_rows(&self) {
        let (stores, opened) = (self.context.stores.clone(), Arc::clone(self.commits.opened()));
        let (id, now, me) = (self.context.id, self.context.clock.now(), self.context.me.clone());
        spawn_task("task-wake-tidy", async move {
            let shard = [id.shard()];
            let tidy = async {
                let rows = stores.wake.due(&shard, now, None, 1_000).await.unwrap_or_default();
                let mine = rows
                    .into_iter()
                    .filter(|row| row.entity == id && row.fence < opened.fence)
                    .collect::<Vec<_>>();
                if !mine.is_empty()
                    && let Err(error) = stores.wake.remove(&opened, mine).await
                {
                    tracing::debug!(entity = %id, %error, "older wake rows stay");
                }
            };
            // If they stay: false rows are harmless, the next activation tries again.
            let _ = tokio::time::timeout(WRITE_DEADLINE, tidy).await;
            let _ = me.send(TaskInternal::Tidied);
        });
    }
}

/// What a row says besides its columns.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Body {
    completed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_line: Option<String>,
}

/// The last line as the row has it: for an activation that heard nothing yet.
async fn written_line(
    task: TaskId,
    projections: &dyn Projections,
) -> Result<Option<String>, WriteError> {
    let rows = projections.get_tasks(&[task]).await;
    let rows = rows.map_err(|e| WriteError::Unavailable { source: troupe_store::cause(e) })?;
    let body = rows.first().and_then(|row| serde_json::from_slice::<Body>(&row.body).ok());
    Ok(body.and_then(|body| body.last_line))
}

/// All but its body.
fn row_of(public: &Public, seq: Seq) -> Option<TaskRow> {
    let view = public.view_exists()?;
    Some(TaskRow {
        task: view.id,
        owner: view.user_id,
        seq,
        created_at: view.created_at,
        updated_at: view.updated_at,
        status: status_word(view.status),
        title: view.title.clone(),
        team: view.team_name.clone(),
        team_namespace: view.team_namespace.clone(),
        archived: false,
        deleted: public.deleted,
        asks: u32::try_from(public.asks.len()).unwrap_or(u32::MAX),
        body: Bytes::new(),
    })
}

/// The contract's word.
pub(super) fn status_word(status: troupe_types::Status) -> String {
    match serde_json::to_value(status) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
