//! One journal entry of a Task: facts for the fold, and the frames that people see.
//!
//! Text lives in frames alone; facts hold what frames do not say (plans, step records, keys).
//! These types are the record format on disk: golden files pin every variant.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use troupe_types::{
    Attempt, DeviceId, ErrorType, ExecutionId, Frame, LogId, MessageId, MessageKind, Ordinal,
    OutSeq, Role, RunStep, Status, TaskId, Timestamp, TurnId, UserId, Uuid, Wait,
};

use super::{command::Ack, execution::Work, leader::LeaderDecision, plan::TeamPlan};

/// What one append adds to a Task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEntry {
    /// When it was decided.
    pub at: Timestamp,
    /// Facts, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<TaskEvent>,
    /// Frames, in order, numbered on from the fold's next frame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TaskEvent {
    /// The Task exists.
    Created {
        /// Its id.
        task: TaskId,
        /// Who owns it.
        owner: UserId,
        /// The owner's name.
        owner_name: String,
        /// This history of frames.
        log: LogId,
        /// Title.
        title: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// The Team, as its user refers to it: namespace, name.
        team: (String, String),
    },
    /// A person's command was accepted under a key; the same key gives the same answer.
    KeyUsed {
        /// The key.
        key: Uuid,
        /// First 16 bytes of the SHA-256 of the command's body, hex.
        body: String,
        /// What was answered.
        ack: Ack,
    },
    /// A resolved Team that later events name by hash.
    TeamResolved {
        /// The plan, whole.
        plan: Arc<TeamPlan>,
    },
    /// A turn began.
    TurnPlanned {
        /// Its id.
        turn: TurnId,
        /// The person's row.
        message: MessageId,
        /// Hash of the plan that every attempt of the turn uses.
        plan: String,
        /// Where a pipeline stood when the person wrote.
        stage: u32,
    },
    /// A row of the transcript exists (its frame stands in the same entry).
    MessagePlanned {
        /// The row.
        message: MessageId,
        /// Its ordinal.
        ordinal: Ordinal,
        /// Its turn.
        turn: TurnId,
        /// The contract's role.
        role: Role,
        /// What it is for.
        kind: MessageKind,
        /// Where in the run it belongs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<RunStep>,
    },
    /// An execution will fill a row; its first attempt is queued.
    ExecutionPlanned {
        /// Its id.
        execution: ExecutionId,
        /// The row.
        message: MessageId,
        /// The member.
        member: u32,
        /// What the member is asked for.
        work: Work,
    },
    /// A further attempt is queued. `keep`: it goes on at the last finished step.
    AttemptQueued {
        /// The execution.
        execution: ExecutionId,
        /// The new attempt.
        attempt: Attempt,
        /// Whether it keeps finished steps (false for a person's retry).
        keep: bool,
        /// Attempts in a row that were lost so far without a finished step.
        #[serde(default)]
        lost_in_a_row: u32,
    },
    /// Why a queued attempt waits; `None`: it waits no more.
    WaitChanged {
        /// The execution.
        execution: ExecutionId,
        /// The reason.
        wait: Option<Wait>,
    },
    /// A queued attempt was handed to a runtime (`chat:start` stands in the same entry).
    AttemptStarted {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
    },
    /// The attempt runs on a device (stands beside `AttemptStarted`).
    DeviceAssigned {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// The device.
        device: DeviceId,
        /// SHA-256 of what it proves itself with, hex.
        token: String,
        /// The restore that the store came from, if it came from one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restored: Option<Uuid>,
    },
    /// A person answered an approval or a question; it is on its way to the runner.
    BlockAnswered {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// The block.
        block_id: String,
        /// Names the answer on its way.
        input: Uuid,
        /// What they said.
        answer: super::command::Answer,
    },
    /// Nobody answered an approval or a question in time; that is on its way to the runner.
    AskExpired {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// The block.
        block_id: String,
        /// Names the word on its way.
        input: Uuid,
    },
    /// A step is finished: what the next prompt of this execution needs.
    StepFinished {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// The record.
        record: StepRecord,
    },
    /// A block got the Task's id; its runner goes on calling it by its own name.
    BlockNamed {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// The runner's name of it.
        name: String,
        /// The Task's id of it.
        block_id: String,
    },
    /// Output up to here is committed.
    OutputMarked {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// The mark.
        out_seq: OutSeq,
    },
    /// An attempt ended: `Done`, `Failed`, `Cancelled` or `Lost` (its frame stands beside it).
    AttemptEnded {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// How.
        end: AttemptEnd,
    },
    /// The run of the current turn ended with this status of the Task.
    TurnEnded {
        /// The turn.
        turn: TurnId,
        /// `Completed`, `Failed`, `Cancelled`, `PendingConfirmation`.
        status: Status,
    },
    /// The run of the current turn goes on after a gate or by a retry.
    TurnResumed {
        /// The turn.
        turn: TurnId,
        /// Hash of another plan for the rest of the turn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<String>,
    },
    /// A pipeline stands here now.
    StageChanged {
        /// From 0.
        stage: u32,
    },
    /// A message waits behind the running turn (the queue itself is told by its frame).
    MessageQueued {
        /// Its id.
        message: MessageId,
        /// Hash of the plan that it was sent for.
        plan: String,
    },
    /// Rows left the transcript.
    Edited {
        /// They and their turns.
        removed: Vec<MessageId>,
    },
    /// Title or labels changed.
    Updated {
        /// New title.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// New labels, all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        labels: Option<BTreeMap<String, String>>,
    },
    /// The Task was deleted (its keys stay).
    Deleted,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum AttemptEnd {
    /// Well; a leader's or member's decision, if it made a valid one.
    Done {
        /// The decision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<LeaderDecision>,
    },
    /// Badly.
    Failed {
        /// Sort of error.
        error: ErrorType,
    },
    /// Stopped by a person.
    Cancelled,
    /// Its runner is gone.
    Lost,
}

/// One finished step of an agent loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum StepRecord {
    /// A model call ended: the provider's whole message (text, signatures, tool calls) in the
    /// `llm` crate's form. Opaque here.
    Model {
        /// The message.
        message: Value,
        /// Tool calls that now await a result: provider's id and block id.
        calls: Vec<super::execution::OpenCall>,
    },
    /// A tool call has its result.
    Tool {
        /// The provider's id of the call.
        tool_use_id: String,
        /// The result part in the `llm` crate's form. Opaque here.
        result: Value,
        /// It may have run: nobody knows.
        #[serde(default)]
        unknown: bool,
    },
}
