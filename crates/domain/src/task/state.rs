//! The fold of a Task: what decisions lean on, and its snapshot.
//!
//! Holds states, indexes, keys and counters, never the transcript: text lives in frames
//! ([`super::transcript`] folds them). The only way to change it is [`TaskState::apply`]; an
//! entry is folded events first, then frames, so that neither may lean on the other's order.
//! What grows with the Task (turns, messages, keys) is shared, so that a decision may work
//! on a copy.

mod apply;
mod frames;
mod view;

pub(super) use frames::{EXPIRES_AT, asks};
pub(super) use view::no_stages;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use troupe_types::{
    Attempt, ExecutionId, FrameSeq, LogId, MessageId, MessageKind, Ordinal, QueuedMessage, Role,
    RunStep, Status, TaskId, Timestamp, TurnId, UserId, Uuid,
};

use super::{
    command::{Ack, Refusal},
    execution::{Asked, AttemptState, Execution},
    plan::TeamPlan,
};

/// A Task as its owner knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    /// Its id; `None`: there is no such Task yet.
    pub id: Option<TaskId>,
    /// Who owns it.
    pub owner: Option<UserId>,
    /// The owner's name when it was made.
    pub owner_name: String,
    /// This history of frames.
    pub log: Option<LogId>,
    /// Title.
    pub title: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The Team, as its user refers to it: namespace, name.
    pub team: Option<(String, String)>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its last turn ended well.
    pub completed_at: Option<Timestamp>,
    /// The contract's word for how far it is.
    pub status: Status,
    /// Where a pipeline stands, from 0.
    pub stage: u32,
    /// Seq of the next frame.
    pub next_frame: FrameSeq,
    /// Ordinal of the next message.
    pub next_ordinal: Ordinal,
    /// All turns, oldest first, a row each.
    pub turns: Arc<Vec<TurnRow>>,
    /// All messages by ordinal, a row each.
    pub messages: Arc<Vec<MessageRow>>,
    /// The run of the last turn.
    pub run: Option<Run>,
    /// Executions of the last turn, in the order they were planned.
    pub executions: Vec<Execution>,
    /// Plans by hash that the last turn and queued messages use.
    pub plans: BTreeMap<String, Arc<TeamPlan>>,
    /// The request that a pipeline works on; empty for other models.
    pub original: Arc<str>,
    /// What waits behind the running turn, in order.
    pub queue: Arc<Vec<QueuedMessage>>,
    /// Hash of the plan that each queued message was sent for.
    pub queued_plans: BTreeMap<MessageId, String>,
    /// Keys of persons' commands with their answers; kept for the life of the Task.
    pub keys: Arc<BTreeMap<Uuid, UsedKey>>,
    /// What persons allowed for the whole Task ("always"), as runtimes say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<serde_json::Value>,
    /// The Task was deleted; only its keys still answer.
    pub deleted: bool,
}

/// A key that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedKey {
    /// Hash of the command's body.
    pub body: String,
    /// What was answered.
    pub ack: Ack,
}

/// One turn in the outline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRow {
    /// Its id.
    pub turn: TurnId,
    /// The person's row.
    pub message: MessageId,
    /// Ordinal of the person's row.
    pub ordinal: Ordinal,
    /// Its first frame: that of the person's row.
    pub first_frame: FrameSeq,
    /// The author's name.
    pub author: String,
    /// First 80 characters of the request.
    pub excerpt: String,
    /// How it ended, or runs.
    pub status: Status,
    /// Where a pipeline stood before it.
    pub stage_before: u32,
}

/// One message in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// Its id.
    pub message: MessageId,
    /// Its ordinal.
    pub ordinal: Ordinal,
    /// Its turn.
    pub turn: TurnId,
    /// The contract's role.
    pub role: Role,
    /// What it is for.
    pub kind: MessageKind,
    /// Where in the run it belongs.
    pub step: Option<RunStep>,
    /// Status of its last attempt.
    pub status: Status,
    /// Its first frame.
    pub first_frame: FrameSeq,
}

/// The run of the last turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The turn.
    pub turn: TurnId,
    /// The person's row.
    pub message: MessageId,
    /// Hash of the plan.
    pub plan: String,
    /// How it ended; `None` while it is under way.
    pub ended: Option<Status>,
    /// An attempt was started since the turn began or was resumed.
    pub started: bool,
    /// The person's message begins a pipeline (it is not said to a stage under way).
    pub begins: bool,
}

impl Default for TaskState {
    fn default() -> Self {
        Self {
            id: None,
            owner: None,
            owner_name: String::new(),
            log: None,
            title: String::new(),
            labels: BTreeMap::new(),
            team: None,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            completed_at: None,
            status: Status::Pending,
            stage: 0,
            next_frame: FrameSeq(1),
            next_ordinal: Ordinal(1),
            turns: Arc::default(),
            messages: Arc::default(),
            run: None,
            executions: Vec::new(),
            plans: BTreeMap::new(),
            original: Arc::from(""),
            queue: Arc::default(),
            queued_plans: BTreeMap::new(),
            keys: Arc::default(),
            grants: Vec::new(),
            deleted: false,
        }
    }
}

impl TaskState {
    /// Whether it was made and not deleted.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.id.is_some() && !self.deleted
    }

    /// Whether the last turn is under way (a gate is not).
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.deleted && self.run.as_ref().is_some_and(|run| run.ended.is_none())
    }

    /// Seq of the last frame; zero before the first one.
    #[must_use]
    pub const fn head(&self) -> FrameSeq {
        FrameSeq(self.next_frame.0.saturating_sub(1))
    }

    /// The plan of the last turn.
    #[must_use]
    pub fn plan(&self) -> Option<&Arc<TeamPlan>> {
        self.plans.get(&self.run.as_ref()?.plan)
    }

    /// An execution of the last turn.
    #[must_use]
    pub fn execution(&self, id: ExecutionId) -> Option<&Execution> {
        self.executions.iter().find(|e| e.id == id)
    }

    /// The execution of the last turn that fills a row.
    #[must_use]
    pub fn execution_of(&self, message: MessageId) -> Option<&Execution> {
        self.executions.iter().find(|e| e.message == message)
    }

    /// A row of the index.
    #[must_use]
    pub fn message(&self, message: MessageId) -> Option<&MessageRow> {
        self.messages.iter().rev().find(|m| m.message == message)
    }

    /// A row of the outline.
    #[must_use]
    pub fn turn(&self, turn: TurnId) -> Option<&TurnRow> {
        self.turns.iter().rev().find(|t| t.turn == turn)
    }

    /// Attempts that wait to be started: execution, attempt, name of the runtime.
    #[must_use]
    pub fn queued_attempts(&self) -> Vec<(ExecutionId, Attempt, String)> {
        if !self.is_active() {
            return Vec::new();
        }
        let plan = self.plan();
        let shell = |member| {
            plan.and_then(|p| p.member(member)).map_or_else(String::new, |m| m.shell_type.clone())
        };
        self.executions
            .iter()
            .filter(|e| e.state == AttemptState::Queued)
            .map(|e| (e.id, e.attempt, shell(e.member)))
            .collect()
    }

    /// Attempts that have, or should have, a runner.
    #[must_use]
    pub fn live_attempts(&self) -> Vec<(ExecutionId, Attempt)> {
        self.executions.iter().filter(|e| e.state.is_live()).map(|e| (e.id, e.attempt)).collect()
    }

    /// Approvals and questions that wait for a person, by block.
    pub fn open_asks(&self) -> impl Iterator<Item = (&Execution, &str, &Asked)> {
        let live = self.executions.iter().filter(|e| self.exists() && e.state.is_live());
        let all = live.flat_map(|e| e.asks.iter().map(move |(id, asked)| (e, id.as_str(), asked)));
        all.filter(|(.., asked)| asked.is_open())
    }

    /// When the time of the next of them is over.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.open_asks().filter_map(|(.., asked)| asked.expires_at).min()
    }

    /// Whether the Task needs a slot of its Team: something runs or wants to.
    #[must_use]
    pub fn wants_slot(&self) -> bool {
        self.is_active() && self.executions.iter().any(|e| !e.state.is_terminal())
    }

    pub(super) fn wrong(&self, message: impl Into<String>) -> Refusal {
        Refusal::WrongState { status: self.status, message: message.into() }
    }
}
