//! The only way to reach a Task.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;
use troupe_api::task::{FramesPage, JoinAnswer, OpenAsk, TaskView, TurnsPage, WhyAnswer};
use troupe_domain::{
    device::Gone,
    task::{Ack, AttemptToken, Command, Refusal, RunEvent},
};
use troupe_sharding::{AskError, Router, StreamItem};
use troupe_types::{Attempt, ExecutionId, Frame, FrameSeq, Ordinal, OutSeq, TaskId, TurnId, Uuid};

use super::ask::{DeviceChecked, SubscribeAsk, SubscribeReply, TaskAsk, TaskReply};

/// How long an answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// Undelivered batches of one subscription.
const STREAM_BATCHES_MAX: usize = 512;

/// What became of a question or command that was not answered well.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TaskError {
    /// The Task refused it; nothing happened.
    #[error("the task refused it")]
    Refused(#[source] Refusal),
    /// The Router's fate.
    #[error("the task was not reached")]
    Ask(#[source] AskError),
    /// The answer is not what was asked for: a bug, or a node of another version.
    #[error("the task's answer made no sense")]
    Protocol,
}

/// A Task's address plus the Router.
#[derive(Clone, Debug)]
pub struct TaskAddress {
    router: Router,
    id: TaskId,
}

impl TaskAddress {
    /// The address of a Task, whether it exists or not.
    #[must_use]
    pub const fn new(router: Router, id: TaskId) -> Self {
        Self { router, id }
    }

    async fn ask(&self, ask: &TaskAsk) -> Result<TaskReply, TaskError> {
        let body = serde_json::to_vec(ask).map_err(|_| TaskError::Protocol)?;
        let (to, body) = (self.id.into(), Bytes::from(body));
        let answer = self.router.ask_or_repeat(to, body, ask.may_repeat(), ASK_TIMEOUT).await;
        let answer = answer.map_err(refusal_of)?;
        serde_json::from_slice(&answer).map_err(|_| TaskError::Protocol)
    }

    /// A person's command; durable when it returns.
    ///
    /// # Errors
    /// See [`TaskError`]; after an unknown outcome repeat with the same key.
    pub async fn command(&self, command: Command) -> Result<Ack, TaskError> {
        match self.ask(&TaskAsk::Command { command: Box::new(command) }).await? {
            TaskReply::Ack { ack } => Ok(ack),
            _ => Err(TaskError::Protocol),
        }
    }

    /// Passes a gate.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn confirm(&self, key: Uuid, message: Option<String>) -> Result<Ack, TaskError> {
        match self.ask(&TaskAsk::Confirm { key, message }).await? {
            TaskReply::Ack { ack } => Ok(ack),
            _ => Err(TaskError::Protocol),
        }
    }

    /// The Task without its transcript.
    ///
    /// # Errors
    /// `Refused(NotFound)`, or the Router's fate.
    pub async fn view(&self) -> Result<TaskView, TaskError> {
        match self.ask(&TaskAsk::View).await? {
            TaskReply::View { view } => Ok(*view),
            _ => Err(TaskError::Protocol),
        }
    }

    /// The Task with its newest turns, folded at `head`.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub async fn join(
        &self,
        turns: u32,
        after_message_id: Option<Ordinal>,
    ) -> Result<JoinAnswer, TaskError> {
        match self.ask(&TaskAsk::Join { turns, after_message_id }).await? {
            TaskReply::Join { answer } => Ok(*answer),
            _ => Err(TaskError::Protocol),
        }
    }

    /// Older turns.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub async fn turns(&self, before: Option<TurnId>, limit: u32) -> Result<TurnsPage, TaskError> {
        match self.ask(&TaskAsk::Turns { before, limit }).await? {
            TaskReply::Turns { page } => Ok(page),
            _ => Err(TaskError::Protocol),
        }
    }

    /// Frames after a seq, of any age.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub async fn frames(&self, after: FrameSeq, limit: u32) -> Result<FramesPage, TaskError> {
        match self.ask(&TaskAsk::Frames { after, limit }).await? {
            TaskReply::Frames { page } => Ok(page),
            _ => Err(TaskError::Protocol),
        }
    }

    /// The same as frames, for followers that catch up.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub async fn raw_frames(&self, after: FrameSeq, limit: u32) -> Result<Vec<Frame>, TaskError> {
        match self.ask(&TaskAsk::Raw { after, limit }).await? {
            TaskReply::Raw { frames } => Ok(frames),
            _ => Err(TaskError::Protocol),
        }
    }

    /// Why it waits or what it does.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub async fn why(&self) -> Result<WhyAnswer, TaskError> {
        match self.ask(&TaskAsk::Why).await? {
            TaskReply::Why { answer } => Ok(answer),
            _ => Err(TaskError::Protocol),
        }
    }

    /// Approvals and questions that wait for a person, oldest first.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub async fn asks(&self) -> Result<Vec<OpenAsk>, TaskError> {
        match self.ask(&TaskAsk::Asks).await? {
            TaskReply::Asks { asks } => Ok(asks),
            _ => Err(TaskError::Protocol),
        }
    }

    /// What a device's attempt put out, numbered from `first`; committed when it returns.
    /// Answers whether the attempt still counts.
    ///
    /// # Errors
    /// `Ask(Failed)` with the code `wrong_token`: the device has no business with it.
    pub async fn device_output(
        &self,
        execution: ExecutionId,
        attempt: Attempt,
        token: AttemptToken,
        first: OutSeq,
        events: Vec<RunEvent>,
    ) -> Result<bool, TaskError> {
        let ask = TaskAsk::DeviceOutput { execution, attempt, token, first, events };
        match self.ask(&ask).await? {
            TaskReply::DeviceOutput { live } => Ok(live),
            _ => Err(TaskError::Protocol),
        }
    }

    /// How an attempt on a device stands. A Task that is gone has none that counts.
    ///
    /// # Errors
    /// The Router's fate.
    pub async fn device_check(
        &self,
        execution: ExecutionId,
        attempt: Attempt,
        token: AttemptToken,
    ) -> Result<DeviceChecked, TaskError> {
        match self.ask(&TaskAsk::DeviceCheck { execution, attempt, token }).await? {
            TaskReply::DeviceCheck { checked } => Ok(checked),
            _ => Err(TaskError::Protocol),
        }
    }

    /// Nothing of an attempt runs on its device any more; durable when it returns.
    ///
    /// # Errors
    /// The Router's fate.
    pub async fn device_ended(
        &self,
        execution: ExecutionId,
        attempt: Attempt,
        token: AttemptToken,
        gone: Gone,
    ) -> Result<(), TaskError> {
        match self.ask(&TaskAsk::DeviceEnded { execution, attempt, token, gone }).await? {
            TaskReply::Ack { .. } => Ok(()),
            _ => Err(TaskError::Protocol),
        }
    }

    /// Tells the Task that a slot may be free. Best effort: it asks by itself too.
    pub(crate) async fn slot_changed(&self) {
        if let Err(error) = self.ask(&TaskAsk::SlotChanged).await {
            tracing::debug!(task = %self.id, %error, "slot notice was not delivered");
        }
    }

    /// Follows the Task from a seq that is still in memory; see [`SubscribeReply::following`].
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub async fn subscribe(
        &self,
        after: FrameSeq,
    ) -> Result<(SubscribeReply, mpsc::Receiver<StreamItem>), TaskError> {
        let body = serde_json::to_vec(&SubscribeAsk { after }).map_err(|_| TaskError::Protocol)?;
        let (answer, stream) = self
            .router
            .subscribe(self.id.into(), Bytes::from(body), STREAM_BATCHES_MAX, ASK_TIMEOUT)
            .await
            .map_err(refusal_of)?;
        let reply = serde_json::from_slice(&answer).map_err(|_| TaskError::Protocol)?;
        Ok((reply, stream))
    }
}

fn refusal_of(error: AskError) -> TaskError {
    if let AskError::Failed(failed) = &error
        && let Some(detail) = &failed.detail
        && let Ok(refusal) = serde_json::from_str::<Refusal>(detail)
    {
        return TaskError::Refused(refusal);
    }
    TaskError::Ask(error)
}
