//! What a Task can be asked, and what it answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use troupe_types::{
    Attempt, Block, BlockPatch, DeviceId, ErrorType, ExecutionId, MessageId, Ordinal, OutSeq,
    Place, Sender, Status, StatusFrame, TaskId, Timestamp, TurnId, UsageFrame, UserId, Uuid, Wait,
};

use super::{
    entry::{StepRecord, TaskEntry},
    execution::AttemptToken,
    leader::LeaderDecision,
    plan::TeamPlan,
};

/// What a decision may lean on besides the state.
pub struct Context<'a> {
    /// Wall time.
    pub now: Timestamp,
    /// Draws fresh ids.
    pub ids: &'a mut dyn FnMut() -> Uuid,
    /// How long a person has for an approval or a question that comes now; `None`: for ever.
    pub asks_expire_after: Option<Duration>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What a Task can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// A person's message; makes the Task if `create` is there and it does not exist.
    Send(SendMessage),
    /// A person passes the gate of a pipeline.
    Confirm {
        /// The person's key.
        key: Uuid,
        /// Replaces the automatic hand-off text.
        message: Option<String>,
        /// The person's request that began the pipeline (for the automatic hand-off).
        original: String,
        /// The answer of the stage that waits (for the automatic hand-off).
        previous: String,
    },
    /// A person wants a failed, cancelled or lost message tried again.
    Retry {
        /// The row.
        message: MessageId,
        /// Another plan (the person chose another model), else the turn's own.
        plan: Option<Arc<TeamPlan>>,
    },
    /// A person replaces an earlier message of theirs and all that follows it.
    Edit {
        /// The row to replace.
        message: MessageId,
        /// The new message.
        send: SendMessage,
    },
    /// A person stops what runs (or leaves a gate). The one cancel path.
    Cancel,
    /// A person changes what waits behind the running turn.
    Queue(QueueEdit),
    /// Title or labels.
    Update {
        /// New title.
        title: Option<String>,
        /// New labels, all of them.
        labels: Option<BTreeMap<String, String>>,
    },
    /// Delete the Task.
    Delete,
    /// A person repeats a command, and what it takes to give it anew may be gone: answers as it
    /// did then, also for a deleted Task. Never does anything; unknown keys are not found.
    Repeat {
        /// Who repeats it; only its owner is answered.
        by: UserId,
        /// What.
        what: Repeated,
    },
    /// The shell says why a queued attempt cannot start yet (`None`: nothing hinders it).
    Waiting {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// Why.
        wait: Option<Wait>,
    },
    /// A slot and a runtime are there: start the queued attempt.
    Start {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// Where.
        place: Place,
    },
    /// A device has the queued attempt on its disk: it starts there.
    StartOnDevice {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// The device.
        device: DeviceId,
        /// It for people.
        place: Place,
        /// What the device proves itself with; only its hash is kept.
        token: AttemptToken,
        /// The restore that the store came from, if it came from one.
        restored: Option<Uuid>,
    },
    /// A person answers an approval or a question. Exactly one answer is taken.
    Answer {
        /// The person's key.
        key: Uuid,
        /// The block that asks.
        block_id: String,
        /// What they say.
        answer: Answer,
    },
    /// Approvals and questions that nobody answered in time are over.
    ExpireAsks,
    /// The device of a live attempt is gone for good, or has nothing of it any more. Does not go
    /// on by itself, a person retries it, there or elsewhere; unless it is to begin `anew`.
    DeviceLost {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// Mostly [`ErrorType::Lost`].
        error: ErrorType,
        /// Why, for people.
        text: String,
        /// Nobody is at fault: the next attempt begins elsewhere by itself, with nothing kept, up
        /// to `LOST_IN_A_ROW_MAX` times without a finished step.
        anew: bool,
    },
    /// Something an attempt's runner says.
    Run {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// Number of the last piece that this carries (0: not numbered).
        out_seq: OutSeq,
        /// What.
        event: RunEvent,
    },
    /// The runner of a live attempt is gone. Goes on by itself as the next attempt, up to
    /// `LOST_IN_A_ROW_MAX` times without a finished step.
    Lost {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// When the next attempt may start.
        retry_at: Option<Timestamp>,
        /// A planned move: never counts.
        planned: bool,
    },
}

/// What a person says to an approval or a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Yes, this time.
    Allow,
    /// Yes, and the same in this Task from now on.
    AllowAlways,
    /// No.
    Deny {
        /// What the model is told.
        #[serde(default)]
        message: String,
    },
    /// To a question: what is chosen or written, by the question's id.
    Reply {
        /// The answers.
        answers: BTreeMap<String, Vec<String>>,
    },
}

/// What a person's command with a key says, without what a repeat cannot know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Repeated {
    /// [`Command::Send`].
    Send {
        /// The person's key.
        key: Uuid,
        /// Who.
        sender: Sender,
        /// What.
        content: String,
    },
    /// [`Command::Edit`].
    Edit {
        /// The person's key.
        key: Uuid,
        /// The row that was replaced.
        message: MessageId,
        /// Who.
        sender: Sender,
        /// What.
        content: String,
    },
    /// [`Command::Confirm`].
    Confirm {
        /// The person's key.
        key: Uuid,
        /// What replaced the automatic hand-off text.
        message: Option<String>,
    },
}

/// A person's message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SendMessage {
    /// The person's key (`client_message_id`).
    pub key: Uuid,
    /// Who.
    pub sender: Sender,
    /// What.
    pub content: String,
    /// The resolved Team.
    pub plan: Arc<TeamPlan>,
    /// The Model that is the Task's from now on; empty: the Bots' own are. `None`: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the Task is made with, if it does not exist.
    pub create: Option<CreateTask>,
}

/// What a Task is made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateTask {
    /// Its id.
    pub task: TaskId,
    /// Who owns it.
    pub owner: UserId,
    /// The owner's name.
    pub owner_name: String,
    /// Title; empty: the first 50 characters of the message.
    pub title: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A change of the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "snake_case")]
pub enum QueueEdit {
    /// Take one out.
    Remove {
        /// Which.
        message: MessageId,
    },
    /// Replace the text of one.
    Replace {
        /// Which.
        message: MessageId,
        /// The new text.
        content: String,
    },
    /// All of them in another order.
    Reorder {
        /// The same ids.
        order: Vec<MessageId>,
    },
    /// Start the first one now (after a failure, a cancel or at a gate).
    Resume,
}

/// A piece of text or thinking, already grouped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "piece", content = "text", rename_all = "snake_case")]
pub enum Output {
    /// Text of the answer.
    Text(String),
    /// What the model thought.
    Thinking(String),
}

/// What an attempt's runner says. Block ids of tools are chosen by the runner as the
/// provider's call id; the Task gives them their own ids in frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "run", rename_all = "snake_case")]
pub enum RunEvent {
    /// Grouped text; consecutive pieces of one sort share a block until a step ends.
    Output {
        /// In order; at most 16 KiB together.
        pieces: Vec<Output>,
    },
    /// A block appears. Its `id` is given by the Task; `tool_use_id` names it for updates.
    Block {
        /// The block; `id` is ignored.
        block: Block,
        /// The runner's own name of it (the provider's call id).
        name: String,
    },
    /// A block changes.
    BlockChanged {
        /// The runner's own name of it.
        name: String,
        /// What changes.
        patch: BlockPatch,
    },
    /// A step is finished. `calls[].block_id` of a model step hold the runner's own names.
    Step {
        /// The record.
        record: StepRecord,
        /// Tokens of the model call.
        usage: Option<UsageFrame>,
    },
    /// Something to show: a wait, a retry, a compaction.
    Status(StatusFrame),
    /// The attempt ended well.
    Done {
        /// The whole valid answer, kept text included.
        answer: String,
        /// Why the model stopped.
        stop_reason: Option<String>,
        /// The decision, checked by `TeamPlan::check`; `None` where one was wanted: fall-back.
        decision: Option<LeaderDecision>,
    },
    /// The attempt ended badly.
    Failed {
        /// Sort of error.
        error: ErrorType,
        /// The provider's text, for people.
        text: String,
    },
}

/// What a person's command is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ack", rename_all = "snake_case")]
pub enum Ack {
    /// A message was taken.
    Sent(SendAck),
    /// A gate was passed.
    Confirmed {
        /// Where the pipeline stands now.
        current_stage: u32,
        /// How many there are.
        total_stages: u32,
        /// Bot of the next stage; `None`: the pipeline is complete.
        next_stage_name: Option<String>,
    },
    /// Done.
    Ok,
}

/// Answer to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendAck {
    /// The Task.
    pub task_id: TaskId,
    /// The person's row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Its ordinal; absent while it is queued.
    #[serde(rename = "message_id", skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<Ordinal>,
    /// Its turn; absent while it is queued.
    #[serde(rename = "turn_id", skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// It waits behind the running turn.
    #[serde(default)]
    pub queued: bool,
}

/// What a command leads to. `entry: None`: nothing is written (a repeated key, a late event).
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// To append and then fold.
    pub entry: Option<TaskEntry>,
    /// To answer once the entry is committed.
    pub ack: Ack,
}

/// Why a command is refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such Task (or it was deleted).
    #[error("task not found")]
    NotFound,
    /// There is no such message.
    #[error("message not found")]
    MessageNotFound,
    /// The same key was used with another body.
    #[error("this key was already used with another body")]
    KeyReused,
    /// The command does not fit what the Task does now.
    #[error("{message}")]
    WrongState {
        /// What it does now.
        status: Status,
        /// A sentence for people.
        message: String,
    },
    /// The text is empty or too long, the queue is full..
    #[error("{message}")]
    Invalid {
        /// The field.
        field: String,
        /// A sentence for people.
        message: String,
    },
}
