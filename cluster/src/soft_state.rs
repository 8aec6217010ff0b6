//! Which soft state a node uses: its own process, or a Redis that all nodes share.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::sync::mpsc;
use troupe_actor::spawn_task;
use troupe_entities::task::{Listed, Notifier};
use troupe_soft_state::{InProcess, Notice, RedisOptions, RedisSoftState, SoftState, TaskNote};
use troupe_types::{Clock, TaskId, UserId, Uuid};

use crate::config::Redis;

/// List rows that may wait for the cache; further ones are not kept there.
const NOTES_MAX: usize = 1_024;

/// In-process unless an address is configured. A Redis that does not answer is no reason not to
/// start: the node says that it is degraded.
pub(crate) fn start(
    config: &Redis,
    cluster: Uuid,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn SoftState>> {
    let Some(url) = &config.url else { return Ok(InProcess::shared(Arc::clone(clock))) };
    // Another one at each start: what an earlier process said of itself is not ours.
    let node = Uuid::new_v4().to_string();
    let mut options = RedisOptions::new(url.reveal().to_owned(), cluster.to_string(), node);
    if let Some(file) = &config.password_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("redis.password-file {}", file.display()))?;
        options.password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    if let Some(file) = &config.ca_file {
        let pem = std::fs::read(file).with_context(|| format!("redis.ca-file {}", file.display()));
        options.ca = Some(pem?);
    }
    let (state, driver) = RedisSoftState::new(options, Arc::clone(clock)).context("redis.url")?;
    spawn_task("soft-state", driver.run());
    Ok(Arc::new(state))
}

/// Carries notices of entities to the rooms of users, and list rows to the status cache.
#[derive(Clone, Debug)]
pub(crate) struct ToOthers {
    soft: Arc<dyn SoftState>,
    notes: mpsc::Sender<(TaskId, TaskNote)>,
}

impl ToOthers {
    /// The cache is written beside, for as long as this lives.
    pub(crate) fn start(soft: Arc<dyn SoftState>) -> Self {
        let (notes, mut waiting) = mpsc::channel(NOTES_MAX);
        let cache = Arc::clone(&soft);
        spawn_task("status-cache", async move {
            while let Some((task, note)) = waiting.recv().await {
                cache.put_status(task, &note).await;
            }
        });
        Self { soft, notes }
    }
}

impl Notifier for ToOthers {
    fn notify(&self, user: UserId, event: &'static str, payload: Value) {
        self.soft.notify(Notice { user, event: event.into(), payload });
    }

    fn listed(&self, task: TaskId, listed: Listed<'_>) {
        let Listed { seq, status, updated_at, last_line } = listed;
        let note = TaskNote { seq, status, updated_at, last_line: last_line.map(str::to_owned) };
        // One that is lost is in the row itself a moment later.
        let _ = self.notes.try_send((task, note));
    }
}
