//! The one event model of all runtimes: what a runtime says, close to what people are shown.
//!
//! Events of one run come in order. Every run ends with exactly one
//! [`RuntimeEvent::Exited`]; each prompt ends with exactly one [`RuntimeEvent::TurnEnded`]
//! before it. What a runtime says that this version does not know comes as
//! [`RuntimeEvent::Unknown`] and is never an error.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use troupe_types::ErrorType;

use crate::job::{Grant, SessionId};

/// Largest text of one event, in bytes; a longer text comes in several events.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Largest result of a tool that is kept, in bytes.
pub const TOOL_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Largest arguments of a tool that are kept, in bytes of JSON.
pub const TOOL_INPUT_BYTES_MAX: usize = 32 * 1024;
/// Largest unified diff that is kept, in bytes.
pub const DIFF_BYTES_MAX: usize = 128 * 1024;
/// What is kept of an unknown event, in bytes.
pub const UNKNOWN_BYTES_MAX: usize = 2 * 1024;

/// One thing that a runtime says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RuntimeEvent {
    /// The session is known: keep `session`, a later job goes on in it.
    Session(SessionInfo),
    /// The runtime took a prompt up.
    TurnStarted,
    /// A piece of the answer.
    Text {
        /// At most [`TEXT_BYTES_MAX`].
        text: String,
        /// The sub-agent (its tool call) that says it; `None`: the Bot itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// A piece of what the model thought.
    Thinking {
        /// At most [`TEXT_BYTES_MAX`].
        text: String,
        /// As in `Text`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// A model call of the Bot itself ended; its tool calls were told by `ToolStarted`.
    ModelDone {
        /// Why it stopped, in the provider's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<String>,
        /// Its tokens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Tokens>,
    },
    /// The model calls a tool.
    ToolStarted(ToolCall),
    /// The arguments of a call are known now.
    ToolInput {
        /// The call.
        id: String,
        /// The arguments; cut to [`TOOL_INPUT_BYTES_MAX`].
        input: Value,
    },
    /// A running tool puts something out.
    ToolOutput {
        /// The call.
        id: String,
        /// The piece.
        text: String,
    },
    /// A call has its result.
    ToolEnded {
        /// The call.
        id: String,
        /// How it ended.
        outcome: ToolOutcome,
        /// The result, at most [`TOOL_OUTPUT_BYTES_MAX`].
        output: String,
    },
    /// A sub-agent began; what it does carries its `id` as `parent`.
    SubagentStarted {
        /// The tool call that began it.
        id: String,
        /// What it is to do.
        title: String,
    },
    /// A sub-agent ended (the tool call's own result follows or went before).
    SubagentEnded {
        /// Which.
        id: String,
        /// Whether it ended well.
        ok: bool,
    },
    /// Files changed.
    Diff(Diff),
    /// The runtime waits until a person decides.
    Approval(ApprovalRequest),
    /// The runtime waits until a person answers.
    Question(QuestionRequest),
    /// The runtime is about to do what was allowed before and nobody is asked again. It waits
    /// until it hears [`RunCommand::Kept`](crate::RunCommand::Kept): what was said so far,
    /// that the tool was called among it, must outlive this process before the tool runs.
    Granted {
        /// Its name, unique in the execution.
        id: String,
    },
    /// An approval or a question is over. Comes exactly once for each.
    Closed {
        /// Which.
        id: String,
        /// How.
        how: Closing,
    },
    /// Tokens that no `ModelDone` told.
    Usage(Tokens),
    /// The runtime repeats a model call by itself.
    Retry {
        /// Which try failed, from 1.
        attempt: u32,
        /// How many there are.
        max: u32,
        /// When it tries again, in milliseconds from now.
        wait_ms: u64,
        /// What went wrong.
        error: ErrorType,
        /// The same in words.
        text: String,
    },
    /// Something that people should see.
    Notice {
        /// A stable word: `session_lost`, `compacting`, `warning`, `mcp_failed`..
        code: String,
        /// A sentence.
        text: String,
    },
    /// A kind of event that this version does not know.
    Unknown {
        /// What the runtime calls it.
        kind: String,
        /// The event itself, cut to [`UNKNOWN_BYTES_MAX`].
        raw: String,
    },
    /// A prompt is done with.
    TurnEnded(TurnEnd),
    /// The runtime ended and no process of it is left. The last event.
    Exited(Exit),
}

/// What is known of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id; goes into `Job::session` of the next job of this Bot in this Task.
    pub session: SessionId,
    /// The runtime's version, if it says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The model in use, if it says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// It goes on in the session that the job named.
    #[serde(default)]
    pub resumed: bool,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id; unique in the run.
    pub id: String,
    /// The tool as the runtime calls it.
    pub tool: String,
    /// A short line for people: the command, the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The MCP server that offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Arguments; null while the model still writes them.
    #[serde(default)]
    pub input: Value,
    /// The sub-agent (its tool call) that calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// How a tool call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// Well.
    Done,
    /// The tool says that it failed.
    Failed,
    /// A person, or a rule, did not allow it: it did not run.
    Denied,
    /// It was stopped, or its end was never told: it may have done something.
    Aborted,
}

/// Changes of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Stable name of the block.
    pub id: String,
    /// The tool call that made it; `None`: the whole turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The files, 500 at most.
    pub files: Vec<DiffFile>,
    /// Unified diff, at most [`DIFF_BYTES_MAX`].
    pub patch: String,
    /// There is more than `patch` or `files` tell.
    #[serde(default)]
    pub truncated: bool,
}

/// A changed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffFile {
    /// Relative to the workspace, where it lies inside.
    pub path: String,
    /// `added`, `modified`, `deleted`, `renamed`.
    pub change: String,
    /// Lines; `None` for a binary file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<u64>,
    /// Lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<u64>,
}

/// A runtime asks whether it may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// Its name, unique in the execution: an answer carries it.
    pub id: String,
    /// The tool as the runtime calls it.
    pub tool: String,
    /// What for, in one line: the command, the file.
    pub title: String,
    /// The tool's arguments, cut to [`TOOL_INPUT_BYTES_MAX`].
    pub input: Value,
    /// The tool call, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<String>,
    /// Why the runtime asks, if it says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What `AllowAlways` would grant; `None`: it is not on offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<Grant>,
}

/// What a person decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Yes, this time.
    Allow {
        /// Other arguments than were asked for, where the runtime takes them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
    },
    /// Yes, and the same in this Task from now on.
    AllowAlways,
    /// No.
    Deny {
        /// What the model is told.
        #[serde(default)]
        message: String,
    },
    /// Nobody decided in time; told to the model as exactly that.
    Expired,
    /// The question was taken back (the turn was cancelled, the Task moved..).
    Withdrawn,
}

/// A runtime asks something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionRequest {
    /// Its name, unique in the execution: an answer carries it.
    pub id: String,
    /// The questions, in order.
    pub questions: Vec<Question>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Names it in the answer.
    pub id: String,
    /// A word or two above it.
    #[serde(default)]
    pub header: String,
    /// The question.
    pub text: String,
    /// What may be chosen; another text may be given, too.
    #[serde(default)]
    pub options: Vec<QuestionOption>,
    /// Several may be chosen.
    #[serde(default)]
    pub multiple: bool,
}

/// A choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionOption {
    /// What is answered.
    pub label: String,
    /// What it means.
    #[serde(default)]
    pub description: String,
}

/// What a person answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// To each question (its `id`) the chosen labels, or a text.
    Answered {
        /// By the question's id.
        answers: std::collections::BTreeMap<String, Vec<String>>,
    },
    /// The person will not say.
    Declined,
    /// Nobody answered in time.
    Expired,
    /// It was taken back.
    Withdrawn,
}

/// How an approval or a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    /// Allowed.
    Allowed,
    /// Allowed from now on.
    AllowedAlways,
    /// Denied or declined.
    Denied,
    /// Answered.
    Answered,
    /// Nobody said anything in time.
    Expired,
    /// The runtime, or a cancel, took it back.
    Withdrawn,
}

/// Tokens of one model call, or of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// The model.
    pub model: String,
    /// Sent, cached ones included.
    pub input: u64,
    /// Received.
    pub output: u64,
    /// Part of `input` that the provider had cached.
    pub cached: u64,
    /// In US dollars, if the runtime says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// How a prompt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum TurnEnd {
    /// Well. The answer is the text that was streamed.
    Completed {
        /// Why the model stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<String>,
    },
    /// By an interrupt.
    Interrupted,
    /// Badly.
    Failed {
        /// Sort of error.
        error: ErrorType,
        /// For people: the provider's or the runtime's words, and the way out.
        text: String,
    },
}

/// How a runtime ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// We ended it.
    #[serde(default)]
    pub stopped: bool,
    /// The last lines of its standard error, at most 8 KiB, secrets hidden.
    #[serde(default)]
    pub stderr: String,
    /// Processes besides the first that had to be killed.
    #[serde(default)]
    pub killed: u32,
    /// The tree ran out of memory, as its cgroup says.
    #[serde(default)]
    pub out_of_memory: bool,
    /// The kernel refused it more processes, as a cgroup says.
    #[serde(default)]
    pub forks_refused: bool,
}
