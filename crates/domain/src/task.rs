//! A Task: its turns, messages, executions, attempts, and the run of its Team.
//!
//! [`decide`] turns a command into an entry, [`TaskState::apply`] folds it, [`run`] says what
//! a Team does next. [`transcript`] folds frames into what people see, [`history`] folds
//! entries into what a prompt needs.

pub mod command;
pub mod decide;
mod draft;
pub mod entry;
pub mod execution;
pub mod history;
pub mod labels;
pub mod leader;
pub mod plan;
pub mod run;
pub mod state;
mod text;
pub mod transcript;

pub use command::{
    Ack, Answer, Command, Context, CreateTask, Decision, Output, QueueEdit, Refusal, Repeated,
    RunEvent, SendAck, SendMessage,
};
pub use decide::decide;
pub use entry::{AttemptEnd, StepRecord, TaskEntry, TaskEvent};
pub use execution::{AttemptState, AttemptToken, DeviceRun, Execution, OpenCall, Work};
pub use history::{Conversation, History, HistoryItem};
pub use leader::{LeaderDecision, WorkItem};
pub use plan::{
    CollaborationModel, ContextPassing, MemberPlan, ModelPlan, SkillPlan, TeamPlan, ThinkingPlan,
};
pub use state::TaskState;
pub use transcript::Transcript;
