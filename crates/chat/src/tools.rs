//! Tools: what a model may call, how the calls are named, bounded and told.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};
use troupe_llm::{Part, ToolDef};
use troupe_telemetry::trace;
use troupe_types::{BlockStatus, Clock};

use crate::{caps, metrics, options::ChatOptions, progress::Call, record};

mod builtin;
pub(crate) mod mcp;
mod skills;

pub use builtin::CurrentTime;
pub(crate) use skills::LoadSkill;

/// Longest name of a tool: what all providers take.
const NAME_CHARS_MAX: usize = 64;
/// Longest description that a model is told, in characters: what all providers take.
const DESCRIPTION_CHARS_MAX: usize = 1_024;

/// Something that a model may call.
#[async_trait]
pub trait Tool: fmt::Debug + Send + Sync + 'static {
    /// Its name. Made fit for providers, and prefixed where it collides.
    fn name(&self) -> &str;

    /// What it is good for, for the model.
    fn description(&self) -> &str;

    /// JSON schema of its arguments; an object schema.
    fn schema(&self) -> Value;

    /// It changes nothing: calls of one step may run at the same time.
    fn read_only(&self) -> bool {
        false
    }

    /// Its name for people.
    fn display_name(&self) -> Option<&str> {
        None
    }

    /// The MCP server that offers it.
    fn server_label(&self) -> Option<&str> {
        None
    }

    /// Longest call; `None`: the usual one of [`ChatOptions`].
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// Runs it. Called only after the call is committed. The future is dropped when the run is
    /// cancelled or the timeout passes, and the context's token is cancelled.
    ///
    /// # Errors
    /// See [`ToolError`]; the model is told.
    async fn call(
        &self,
        args: Map<String, Value>,
        context: ToolContext,
    ) -> Result<ToolOutput, ToolError>;
}

/// What a call is given besides its arguments.
#[derive(Clone, Debug)]
pub struct ToolContext {
    /// `{execution}:{tool_use_id}`: the same for the same call, whoever makes it again. A tool
    /// with side effects does nothing for a key that it has seen.
    pub idempotency_key: String,
    /// Cancelled with the run, and when the time is up.
    pub cancel: CancellationToken,
    /// Tokens that the model is told of the result; more is cut by the caller.
    pub result_tokens_max: u64,
}

/// What a tool answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolOutput {
    /// For the model, and for people.
    pub text: String,
    /// The tool says that it failed.
    pub is_error: bool,
}

impl ToolOutput {
    /// A good result.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: false }
    }
}

/// Why a call gave no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ToolError {
    /// It did not take effect, or its failure is certain.
    #[error("{text}")]
    Failed {
        /// For the model, and for people. Holds no secret.
        text: String,
    },
    /// It may have taken effect: the connection broke, for example.
    #[error("{text}")]
    Unknown {
        /// For the model, and for people. Holds no secret.
        text: String,
    },
}

/// The tools that a node offers to every run.
#[derive(Clone, Debug, Default)]
pub struct ToolRegistry {
    tools: Vec<Arc<dyn Tool>>,
}

impl ToolRegistry {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that every node has: the clock.
    #[must_use]
    pub fn standard(clock: Arc<dyn Clock>) -> Self {
        Self::new().with(CurrentTime::new(clock))
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, tool: impl Tool) -> Self {
        self.tools.push(Arc::new(tool));
        self
    }
}

/// The tools of one run, by the names under which the model knows them.
#[derive(Debug, Default)]
pub(crate) struct ToolSet {
    tools: Vec<(String, Arc<dyn Tool>)>,
}

impl ToolSet {
    /// Puts the node's tools and those of servers together. Names of servers' tools that
    /// collide, with `reserved` ones too, become `server__tool`. Returns also how many tools
    /// beyond `max` were left out.
    pub(crate) fn assemble(
        registry: &ToolRegistry,
        servers: Vec<Arc<dyn Tool>>,
        reserved: Option<&str>,
        max: usize,
    ) -> (Self, usize) {
        let all: Vec<_> = registry.tools.iter().cloned().chain(servers).collect();
        let mut count: HashMap<String, usize> = HashMap::new();
        for name in all.iter().map(|tool| fitting(tool.name())).chain(reserved.map(fitting)) {
            *count.entry(name).or_default() += 1;
        }
        let mut taken: Vec<String> = reserved.map(str::to_owned).into_iter().collect();
        let mut tools = Vec::new();
        for tool in all {
            let bare = fitting(tool.name());
            let name = match tool.server_label() {
                Some(server) if count.get(&bare).is_some_and(|n| *n > 1) => {
                    fitting(&format!("{server}__{}", tool.name()))
                }
                _ => bare,
            };
            let name = free(&name, &taken);
            taken.push(name.clone());
            tools.push((name, tool));
        }
        let left_out = tools.len().saturating_sub(max);
        tools.truncate(max);
        (Self { tools }, left_out)
    }

    /// The tool of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.iter().find(|(known, _)| known == name).map(|(_, tool)| tool)
    }

    /// How the model is told of them.
    pub(crate) fn definitions(&self) -> Vec<ToolDef> {
        let define = |(name, tool): &(String, Arc<dyn Tool>)| ToolDef {
            name: name.clone(),
            description: tool.description().chars().take(DESCRIPTION_CHARS_MAX).collect(),
            input_schema: object_schema(tool.schema()),
        };
        self.tools.iter().map(define).collect()
    }

    fn names(&self) -> String {
        self.tools.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// A name that all providers take.
fn fitting(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = name.chars().map(fit).take(NAME_CHARS_MAX).collect();
    if name.is_empty() { "tool".to_owned() } else { name }
}

/// The name, or the name with the first number that makes it free.
fn free(name: &str, taken: &[String]) -> String {
    let numbered = |n: u32| {
        let suffix = if n == 1 { String::new() } else { format!("_{n}") };
        let stem: String = name.chars().take(NAME_CHARS_MAX - suffix.len()).collect();
        format!("{stem}{suffix}")
    };
    (1..).map(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Providers want an object with properties.
fn object_schema(schema: Value) -> Value {
    let mut schema = match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    schema.entry("type").or_insert_with(|| "object".into());
    schema.entry("properties").or_insert_with(|| Map::new().into());
    Value::Object(schema)
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ran {
    /// The provider's id of the call.
    pub id: String,
    /// For the model.
    pub result: Part,
    /// For people.
    pub status: BlockStatus,
    /// For people, capped.
    pub shown: String,
}

impl Ran {
    /// A call that ended with this text; all bounds are applied here.
    pub(crate) fn new(id: &str, text: &str, status: BlockStatus, tokens_max: u64) -> Self {
        let text = caps::readable(text);
        let is_error = status != BlockStatus::Done;
        let unknown = status == BlockStatus::Unknown;
        let content = caps::cap_tokens(&text, tokens_max);
        let content = match (unknown, content.is_empty()) {
            (true, true) => record::UNKNOWN.to_owned(),
            (true, false) => format!("{}: {content}", record::UNKNOWN),
            (false, true) => "(no output)".to_owned(),
            (false, false) => content,
        };
        Self {
            id: id.to_owned(),
            result: Part::ToolResult { id: id.to_owned(), content, is_error, unknown },
            status,
            shown: caps::cap_bytes(&text, caps::SHOWN_BYTES_MAX),
        }
    }
}

/// Runs a call. Never fails: what goes wrong is a result that the model is told.
pub(crate) async fn execute(
    tools: &ToolSet,
    call: &Call,
    idempotency_key: String,
    options: &ChatOptions,
    cancel: &CancellationToken,
) -> Ran {
    let span = trace::child(|| {
        debug_span!(
            "tool call",
            otel.kind = "client",
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = call.name,
            outcome = tracing::field::Empty
        )
    });
    let began = Instant::now();
    let running = run(tools, call, idempotency_key, options, cancel);
    let ran = running.instrument(span.clone()).await;
    let outcome = match ran.status {
        BlockStatus::Done => "done",
        BlockStatus::Unknown => "unknown",
        _ => "error",
    };
    metrics::tool_called(outcome, began.elapsed());
    span.record("outcome", outcome);
    ran
}

async fn run(
    tools: &ToolSet,
    call: &Call,
    idempotency_key: String,
    options: &ChatOptions,
    cancel: &CancellationToken,
) -> Ran {
    let tokens_max = options.result_tokens_max;
    let ended = |text: &str, status| Ran::new(&call.id, text, status, tokens_max);
    let Some(tool) = tools.get(&call.name) else {
        let names = tools.names();
        let text = format!("there is no tool `{}`; there are: {names}", call.name);
        return ended(&text, BlockStatus::Error);
    };
    let Value::Object(args) = &call.args else {
        let text = "the arguments are not a JSON object; nothing was run";
        return ended(text, BlockStatus::Error);
    };
    let cancel = cancel.child_token();
    let _ended = cancel.clone().drop_guard();
    let context = ToolContext { idempotency_key, cancel, result_tokens_max: tokens_max };
    let limit = tool.timeout().unwrap_or(options.tool_timeout);
    let unsure = || if tool.read_only() { BlockStatus::Error } else { BlockStatus::Unknown };
    match tokio::time::timeout(limit, tool.call(args.clone(), context)).await {
        Ok(Ok(ToolOutput { text, is_error: false })) => ended(&text, BlockStatus::Done),
        Ok(Ok(ToolOutput { text, is_error: true })) => ended(&text, BlockStatus::Error),
        Ok(Err(ToolError::Failed { text })) => ended(&text, BlockStatus::Error),
        Ok(Err(ToolError::Unknown { text })) => ended(&text, unsure()),
        Err(_) => ended(&format!("no answer within {} s", limit.as_secs_f64()), unsure()),
    }
}

#[cfg(test)]
mod tests;
