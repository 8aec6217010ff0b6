//! Activates Tasks: snapshot, tail, fold.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Semaphore;
use troupe_chat::ChatServices;
use troupe_sharding::{Crash, EntityContext, EntityFactory};
use troupe_types::{EntityKind, Seq, Status, TaskId, Timestamp, UserId, Uuid, limits};

use super::{actor::TaskActor, internal::TaskInternal, reads::FOLDS_MAX};

/// Bounds of a Task that tests make smaller.
#[derive(Clone, Debug)]
pub struct TaskOptions {
    /// Entries after which a snapshot is written.
    pub snapshot_entries: u64,
    /// Bytes of entries after which a snapshot is written.
    pub snapshot_bytes: u64,
    /// How long an idle activation stays.
    pub idle_for: Duration,
    /// How long a person has for an approval or a question; `None`: for ever.
    pub asks_expire_after: Option<Duration>,
    /// The restore that all Tasks came from, if the store was restored from a backup.
    pub restored: Option<Uuid>,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            snapshot_entries: limits::SNAPSHOT_ENTRIES,
            snapshot_bytes: limits::SNAPSHOT_BYTES,
            idle_for: Duration::from_secs(120),
            asks_expire_after: Some(Duration::from_secs(24 * 3600)),
            restored: None,
        }
    }
}

/// What changes of a Task in a list while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The last entry that this knows of.
    pub seq: Seq,
    /// How far it is.
    pub status: Status,
    /// When something last happened in it.
    pub updated_at: Timestamp,
    /// What its agents said last.
    pub last_line: Option<&'a str>,
}

/// Tells a person's other clients to look; best effort, never waits.
pub trait Notifier: fmt::Debug + Send + Sync + 'static {
    /// `event` with `payload` for every open client of `user`.
    fn notify(&self, user: UserId, event: &'static str, payload: Value);

    /// How a Task looks in a list now, before its row is written or without one; for whoever
    /// keeps it where that is faster.
    fn listed(&self, _task: TaskId, _listed: Listed<'_>) {}
}

/// Notifies nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Notifier for Silent {
    fn notify(&self, _user: UserId, _event: &'static str, _payload: Value) {}
}

/// Makes Task activations.
#[derive(Clone, Debug)]
pub struct TaskFactory {
    pub(super) chat: Arc<ChatServices>,
    pub(super) notifier: Arc<dyn Notifier>,
    pub(super) options: TaskOptions,
    /// Turns of all Tasks of the node to read an archive as a whole.
    pub(super) folds: Arc<Semaphore>,
}

impl TaskFactory {
    /// A factory whose Tasks run the chat shell with these services.
    #[must_use]
    pub fn new(chat: Arc<ChatServices>, notifier: Arc<dyn Notifier>, options: TaskOptions) -> Self {
        crate::metrics::describe();
        Self { chat, notifier, options, folds: Arc::new(Semaphore::new(FOLDS_MAX)) }
    }
}

#[async_trait]
impl EntityFactory for TaskFactory {
    type Entity = TaskActor;

    fn kind(&self) -> EntityKind {
        EntityKind::Task
    }

    fn idle_for(&self) -> Duration {
        self.options.idle_for
    }

    async fn activate(&self, context: EntityContext<TaskInternal>) -> Result<TaskActor, Crash> {
        TaskActor::activate(self.clone(), context).await
    }
}
