//! What takes a while: starting a container and getting it in, taking one away.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use troupe_domain::device::Gone;
use troupe_entities::device::container::{self, ContainerRow, ContainerState};
use troupe_services::devices::Authority;
use troupe_store::Directory;
use troupe_types::{Clock, DeviceId, ErrorType, TaskId, Uuid};

use crate::{
    engine::{Engine, EngineError, Waiting},
    pool::PoolOptions,
};

/// How long a started container may take to join.
const JOIN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether it did.
const JOIN_LOOK: Duration = Duration::from_millis(100);
/// Tries to write what became of a container.
const TRIES: u32 = 5;
/// Between two of them.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// A container that could not be taken away is tried again after so long.
const END_AGAIN: Duration = Duration::from_secs(5);

/// What jobs share.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) options: PoolOptions,
    pub(crate) engine: Engine,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[derive(Debug)]
pub(crate) enum Job {
    /// A container for a Task: one that waits, or a new one.
    Give { row: ContainerRow, name: String, waiting: Option<Waiting> },
    /// One that will wait.
    Warm { name: String },
    /// A Task's container goes: for this reason, or only if it idles.
    End { row: ContainerRow, gone: Option<Gone> },
}

#[derive(Debug)]
pub(crate) enum Done {
    Given { task: TaskId, name: String },
    Warm { name: String, started: Result<Waiting, EngineError> },
    Ended { task: TaskId },
}

/// A name that is free in the engine, and among devices.
pub(crate) fn fresh_name() -> String {
    let id = Uuid::new_v4().simple().to_string();
    format!("container-{}", id.get(..10).unwrap_or(&id))
}

impl Parts {
    pub(crate) async fn run(&self, job: Job) -> Done {
        match job {
            Job::Warm { name } => {
                let started = self.engine.start(&name, &self.options.image).await;
                Done::Warm { name, started }
            }
            Job::Give { row, name, waiting } => {
                let task = row.task;
                let state = match self.give(&row, &name, waiting).await {
                    Ok(device) => {
                        tracing::info!(%task, container = %name, "a container works for a Task");
                        let node = self.options.node.clone();
                        ContainerState::Running { node, name: name.clone(), device }
                    }
                    Err(text) => {
                        tracing::warn!(%task, container = %name, %text, "no container for a Task");
                        self.remove(&name).await;
                        ContainerState::Failed { text }
                    }
                };
                if let Err(state) = self.write(task, state).await {
                    self.undo(state).await;
                }
                Done::Given { task, name }
            }
            Job::End { row, gone } => {
                let task = row.task;
                if let Err(error) = self.end(row, gone).await {
                    tracing::warn!(%task, %error, "a container was not taken away");
                    sleep(END_AGAIN).await;
                }
                Done::Ended { task }
            }
        }
    }

    /// Its device, once it joined.
    async fn give(
        &self,
        row: &ContainerRow,
        name: &str,
        waiting: Option<Waiting>,
    ) -> Result<DeviceId, String> {
        let image = row.image.as_ref().unwrap_or(&self.options.image);
        if *image != self.options.image && !self.options.images.contains(image) {
            return Err(format!(
                "the image {image} is not allowed: an administrator may add it to containers.images"
            ));
        }
        let waiting = match waiting {
            Some(waiting) => waiting,
            None => self.engine.start(name, image).await.map_err(|error| error.to_string())?,
        };
        let edge = self.options.edge.clone();
        let invited = self.authority.invite_container((row.task, row.owner), name, edge).await?;
        waiting.tell(&invited.line()).await.map_err(|error| error.to_string())?;
        let deadline = Instant::now() + JOIN_MAX;
        loop {
            match self.authority.joined(&invited).await {
                Ok(Some(device)) => return Ok(device),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "an invitation was not read"),
            }
            let end = self.engine.end_of(name).await.map_err(|error| error.to_string())?;
            let code = end.map_or(Some(-1), |end| end.code.filter(|_| !end.running));
            if code.is_some() || Instant::now() > deadline {
                let log = self.engine.log_of(name).await;
                return Err(format!("the container did not join the cluster: {log}"));
            }
            sleep(JOIN_LOOK).await;
        }
    }

    async fn end(&self, row: ContainerRow, gone: Option<Gone>) -> Result<(), String> {
        let ContainerState::Running { node, name, device } = &row.state else { return Ok(()) };
        let is_ours = *node == self.options.node;
        let gone = match gone {
            Some(gone) if gone.text.is_empty() => self.why(name).await?,
            Some(gone) => gone,
            None if !self.is_drained(*device).await? => return Ok(()),
            None => Gone::lost("the container was idle and was taken away"),
        };
        tracing::info!(task = %row.task, container = %name, why = %gone.text, "a container goes");
        let retired = self.authority.retire_container(*device, gone).await;
        if is_ours {
            // If it stays, its Task is rid of it all the same, and the pool goes on trying. And it
            // holds no place while its entity does not answer.
            self.remove(name).await;
        }
        retired?;
        let directory = self.directory.as_ref();
        let found = container::of(directory, row.task).await.map_err(|error| error.to_string())?;
        if let Some((old, now)) = found
            && now.state == row.state
        {
            container::remove(directory, &old).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Why a container ended that nobody stopped.
    async fn why(&self, name: &str) -> Result<Gone, String> {
        let end = self.engine.end_of(name).await.map_err(|error| error.to_string())?;
        let (error, text) = match end {
            None => (ErrorType::ContainerError, "the container is gone".to_owned()),
            Some(end) if end.out_of_memory => {
                (ErrorType::ContainerOom, "the container ran out of memory".to_owned())
            }
            Some(end) => {
                let code = end.code.unwrap_or_default();
                (ErrorType::ContainerError, format!("the container ended with exit code {code}"))
            }
        };
        Ok(Gone::failed(error, format!("{text}: retry it, and it gets a new one")))
    }

    /// It takes nothing new and has nothing to do. Else it works on.
    async fn is_drained(&self, device: DeviceId) -> Result<bool, String> {
        let asked = async {
            self.authority.drain_container(device, true).await?;
            let Some(idleness) = self.authority.idleness(device).await? else { return Ok(true) };
            if idleness.work > 0 {
                self.authority.drain_container(device, false).await?;
            }
            Ok::<_, troupe_entities::device::DeviceError>(idleness.work == 0)
        };
        asked.await.map_err(|error| error.to_string())
    }

    async fn remove(&self, name: &str) {
        if let Err(error) = self.engine.remove(name).await {
            // Nobody knows it: the next look takes it away.
            tracing::warn!(container = %name, %error, "a container was not removed");
        }
    }

    /// What became of a start. If it cannot be written, the next process of this node begins anew.
    ///
    /// # Errors
    /// Hands it back: the Task does not want it any more, or waits for another pool.
    async fn write(&self, task: TaskId, state: ContainerState) -> Result<(), ContainerState> {
        let directory = self.directory.as_ref();
        for _ in 0..TRIES {
            let written = match container::of(directory, task).await {
                // An answer that was lost.
                Ok(Some((_, row))) if row.state == state => return Ok(()),
                Ok(Some((old, row))) if self.starts(&row) => {
                    let asked_at = self.clock.now();
                    let new = ContainerRow { state: state.clone(), asked_at, ..row };
                    container::change(directory, &old, &new).await.map_err(|e| e.to_string())
                }
                Ok(_) => return Err(state),
                Err(error) => Err(error.to_string()),
            };
            match written {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => tracing::warn!(%task, %error, "a container's row was not written"),
            }
            sleep(TRY_AGAIN).await;
        }
        Ok(())
    }

    /// Whether this pool has it in hand, as the row says.
    fn starts(&self, row: &ContainerRow) -> bool {
        matches!(&row.state, ContainerState::Starting { node } if *node == self.options.node)
    }

    /// A container that came up for nobody goes, and so does its device.
    async fn undo(&self, state: ContainerState) {
        let ContainerState::Running { name, device, .. } = state else { return };
        tracing::info!(container = %name, "its Task does not want the container any more");
        let gone = Gone::lost("nobody waited for the container any more");
        if let Err(error) = self.authority.retire_container(device, gone).await {
            tracing::warn!(container = %name, %error, "its device stays");
        }
        self.remove(&name).await;
    }
}
