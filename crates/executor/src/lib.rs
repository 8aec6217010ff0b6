//! Agent runtimes on a machine, driven through one event model.
//!
//! A [`Job`] says what to do and names its [`Secrets`]; a [`Runtime`] starts it; the run says
//! [`RuntimeEvent`]s and takes [`RunCommand`]s.
//!
//! Invariants: I8 (no process outlives its run), I7 (every buffer has a bound; a reader that
//! stops pauses the runtime), I11 (a secret reaches the environment of one process only).
//!
//! Absences: no network of our own, no link, no outbox, no policy: those are the device's.

pub mod agno;
mod asks;
pub mod claude;
pub mod codex;
pub mod command;
mod drive;
mod error;
pub mod event;
pub mod job;
mod lines;
pub mod machine;
mod process;
mod redact;
pub mod runtime;
pub mod secret;
mod text;
pub mod translate;
pub mod workspace;

pub use agno::Agno;
pub use claude::ClaudeCode;
pub use codex::Codex;
pub use command::Commands;
pub use event::{
    ApprovalRequest, Closing, Decision, Diff, DiffFile, Exit, Question, QuestionOption,
    QuestionRequest, Reply, RuntimeEvent, SessionInfo, Tokens, ToolCall, ToolOutcome, TurnEnd,
};
pub use job::{
    CommandSpec, Grant, Image, Job, Limits, McpServer, ModelAccess, Permissions, Prompt,
    RuntimeKind, SessionId, SkillDir, SkillText, TeamMember, WorkspaceSource, WorkspaceSpec,
};
pub use machine::{Machine, check_skill, is_free_variable, write_skills};
pub use process::Containment;
pub use runtime::{
    Abilities, CommandError, Events, Found, Launch, ProbeError, RunCommand, RunHandle, Runtime,
    StartError, Started,
};
pub use secret::{Secret, Secrets};
pub use translate::{Standing, Translator};
pub use workspace::{Roots, StaleWorkspace, Workspace, WorkspaceError, Workspaces, clone_host};
