//! Tasks: send, follow, steer.

mod answer;
mod asks;
mod cancel;
mod follow;
mod live;
mod problems;
mod rows;
mod send;
mod why;

use std::fmt;

use async_trait::async_trait;
use tokio::sync::mpsc;
use troupe_api::{
    Problem,
    chat::{ChatCancel, ChatEdit, ChatRetry, ChatSend, ChatSendAck, QueueOp, TaskJoin},
    device::AnswerBlock,
    task::{
        FramesPage, JoinAnswer, OpenAsks, Page, TaskLite, TaskPatch, TaskView, TurnsPage, WhyAnswer,
    },
};
use troupe_sharding::StreamItem;
use troupe_types::{FrameSeq, LogId, Status, TaskId, TurnId};

use crate::caller::Caller;

pub use live::{LiveTasks, TeamResolver};
pub(crate) use problems::{ask_problem, task_problem};
pub(crate) use why::why;

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only these; empty: all but deleted ones.
    pub status: Vec<Status>,
    /// Only titles that hold this text, any case.
    pub text: Option<String>,
    /// Only those whose agents wait for a person.
    pub asks: bool,
    /// From an earlier page.
    pub cursor: Option<String>,
    /// 1 to 100; 0 means 20.
    pub limit: u32,
}

/// The live frames of a Task.
#[derive(Debug)]
pub struct TaskStream {
    /// This history of frames.
    pub log: LogId,
    /// Seq of the last committed frame when the stream began.
    pub head: FrameSeq,
    /// Committed frames after the seq that was asked for, in order, without gaps. Bounded: a
    /// reader that is too slow gets `Lagged` and starts over.
    pub frames: mpsc::Receiver<StreamItem>,
}

/// Use cases of Tasks. Object-safe, so that the gateway can be tested alone.
#[async_trait]
pub trait Tasks: fmt::Debug + Send + Sync + 'static {
    /// Sends a message, or passes a gate (`action: pipeline:confirm`). Durable before the ack;
    /// a repeated `client_message_id` gets the same ack.
    async fn send(&self, caller: &Caller, send: ChatSend) -> Result<ChatSendAck, Problem>;
    /// Stops what runs. By a row of the running turn alone, the caller's Task is looked for; 409
    /// if the row given beside a Task is of an earlier turn.
    async fn cancel(&self, caller: &Caller, cancel: ChatCancel) -> Result<(), Problem>;
    /// Tries a failed, cancelled or lost message again.
    async fn retry(&self, caller: &Caller, retry: ChatRetry) -> Result<(), Problem>;
    /// Replaces an earlier message and all that follows it, and runs.
    async fn edit(&self, caller: &Caller, edit: ChatEdit) -> Result<ChatSendAck, Problem>;
    /// Answers an approval or a question: exactly one answer is taken, from whatever client. A
    /// repeated `client_message_id` is harmless.
    async fn answer(&self, caller: &Caller, answer: AnswerBlock) -> Result<(), Problem>;
    /// Changes what waits behind the running turn.
    async fn queue(&self, caller: &Caller, op: QueueOp) -> Result<(), Problem>;
    /// Changes title or labels.
    async fn patch(
        &self,
        caller: &Caller,
        task: TaskId,
        patch: TaskPatch,
    ) -> Result<TaskView, Problem>;
    /// Deletes softly.
    async fn delete(&self, caller: &Caller, task: TaskId) -> Result<(), Problem>;
    /// The Task without its transcript.
    async fn view(&self, caller: &Caller, task: TaskId) -> Result<TaskView, Problem>;
    /// The Task with its newest turns, folded at `head`.
    async fn join(&self, caller: &Caller, join: TaskJoin) -> Result<JoinAnswer, Problem>;
    /// Older turns: those before `before` (absent: the newest), at most `limit` (1 to 100).
    async fn turns(
        &self,
        caller: &Caller,
        task: TaskId,
        before: Option<TurnId>,
        limit: u32,
    ) -> Result<TurnsPage, Problem>;
    /// Frames after a seq, of any age, at most `limit` (1 to 2,000) and 4 MiB.
    async fn frames(
        &self,
        caller: &Caller,
        task: TaskId,
        after: FrameSeq,
        limit: u32,
    ) -> Result<FramesPage, Problem>;
    /// Follows a Task from a seq. Access was checked when it returns; whoever fans the stream
    /// out checks each of its readers (`may_follow`).
    async fn follow(
        &self,
        caller: &Caller,
        task: TaskId,
        after: FrameSeq,
    ) -> Result<TaskStream, Problem>;
    /// Whether this caller may (still) follow the Task.
    async fn may_follow(&self, caller: &Caller, task: TaskId) -> Result<(), Problem>;
    /// The caller's Tasks, newest activity first.
    async fn list(&self, caller: &Caller, filter: TaskFilter) -> Result<Page<TaskLite>, Problem>;
    /// Approvals and questions of all the caller's Tasks that wait, those of the Task with the
    /// oldest activity first.
    async fn asks(&self, caller: &Caller) -> Result<OpenAsks, Problem>;
    /// Why it waits, or what it does, in words.
    async fn why(&self, caller: &Caller, task: TaskId) -> Result<WhyAnswer, Problem>;
}
