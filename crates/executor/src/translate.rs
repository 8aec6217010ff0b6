//! What a Task's owner is told of what a runtime says: [`RuntimeEvent`] to [`RunEvent`]. Pure.
//!
//! | Runtime | Task |
//! |---|---|
//! | text, thinking of the Bot | grouped output; texts of two model calls do not run together |
//! | tool call | a `tool` block named by the call's id, changed as it goes on |
//! | sub-agent | a `subagent` block; what it does carries `parent_tool_use_id` |
//! | changed files | a `diff` block |
//! | approval, question | an `approval` or `question` block named by the request's id: `pending` until it is closed, then `done` with the word for how in `tool_output` |
//! | end of a model call | a step with its usage; then the results of its calls as steps |
//! | retry, notice | a status |
//! | what is not known | an `unknown` block, the first 20 of a run |
//! | end of the turn | done with the whole answer, or failed. An interrupt says nothing: who asked for it knows |
//!
//! The numbering (`out_seq`), the disk and the wire are the caller's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use troupe_domain::task::{Output, RunEvent, StepRecord, execution::OpenCall};
use troupe_types::{
    Block, BlockKind, BlockPatch, BlockStatus, StatusFrame, Timestamp, UsageFrame, Wait,
    limits::TEXT_BUFFER_BYTES_MAX,
};

use crate::{
    event::{
        ApprovalRequest, Closing, Diff, QuestionRequest, RuntimeEvent, Tokens, ToolCall,
        ToolOutcome, TurnEnd,
    },
    text,
};

/// Largest result of a tool in a step record, in bytes; the block holds more.
const STEP_RESULT_BYTES_MAX: usize = 16 * 1024;
/// Largest text of a model call in its step record, in bytes; the frames hold all of it.
const STEP_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Largest arguments in a step record, in bytes of JSON.
const STEP_INPUT_BYTES_MAX: usize = 16 * 1024;
/// What a sub-agent said, in its block: the end of it.
const SUBAGENT_BYTES_MAX: usize = 16 * 1024;
/// Live output of a running tool that is shown: its end.
const LIVE_BYTES_MAX: usize = 4 * 1024;
/// Live output is shown anew after so many bytes.
const LIVE_STEP_BYTES: usize = 2 * 1024;
/// Blocks of unknown events in one run.
const UNKNOWN_MAX: u32 = 20;
/// Blocks between two steps: a Task names 1,024 at most; further tools are told in text only. What a
/// person is asked and the turn's diff have the rest for themselves: they are bounded where they
/// come from.
const BLOCKS_MAX: usize = 900;

/// How the attempt stands after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    Running,
    /// It waits for a person.
    Waiting,
    /// Its last event was said: done or failed.
    Ended,
    /// The turn was interrupted; whoever asked for it says how the attempt ends.
    Interrupted,
}

/// A tool call as steps need it.
#[derive(Debug)]
struct Call {
    id: String,
    tool: String,
    input: Value,
}

/// Translates the events of one attempt.
#[derive(Debug)]
pub struct Translator {
    answer: String,
    /// The next text is the first of its model call.
    fresh: bool,
    /// Grouped, not yet said.
    pieces: Vec<Output>,
    pieces_bytes: usize,
    /// Text and calls of the model call under way.
    step_text: String,
    calls: Vec<Call>,
    /// Results of calls whose model call has not ended yet.
    results: Vec<StepRecord>,
    /// Calls of ended model calls that await a result.
    awaited: BTreeSet<String>,
    /// Blocks that exist, and whether they are final; such leave when a step ends, as in the Task.
    blocks: BTreeMap<String, bool>,
    open: BTreeSet<String>,
    /// What each said, its end.
    subagents: BTreeMap<String, String>,
    /// Live output of running tools, and how much came since it was shown.
    live: BTreeMap<String, (String, usize)>,
    unknown: u32,
    standing: Standing,
    model: String,
}

impl Translator {
    /// `kept`: text of the answer that earlier attempts' finished steps hold. `model`: as
    /// people know it, where the runtime does not say it.
    #[must_use]
    pub fn new(kept: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            answer: kept.into(),
            fresh: true,
            pieces: Vec::new(),
            pieces_bytes: 0,
            step_text: String::new(),
            calls: Vec::new(),
            results: Vec::new(),
            awaited: BTreeSet::new(),
            blocks: BTreeMap::new(),
            open: BTreeSet::new(),
            subagents: BTreeMap::new(),
            live: BTreeMap::new(),
            unknown: 0,
            standing: Standing::Running,
            model: model.into(),
        }
    }

    /// The whole valid answer so far.
    #[must_use]
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// How the attempt stands.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether text waits for more of it: call [`Translator::flush`] a moment (50 ms is fine)
    /// after it began to.
    #[must_use]
    pub const fn holds_text(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Says the text that waits.
    pub fn flush(&mut self) -> Option<RunEvent> {
        self.pieces_bytes = 0;
        let pieces = std::mem::take(&mut self.pieces);
        (!pieces.is_empty()).then_some(RunEvent::Output { pieces })
    }

    /// What an event means for the Task, in order. Nothing after the attempt's end.
    pub fn event(&mut self, event: RuntimeEvent, now: Timestamp) -> Vec<RunEvent> {
        if matches!(self.standing, Standing::Ended | Standing::Interrupted) {
            return Vec::new();
        }
        let mut out = Vec::new();
        match event {
            RuntimeEvent::Text { text, parent: None } => self.text(&text, &mut out),
            RuntimeEvent::Thinking { text, parent: None } => {
                self.output(Output::Thinking(text), &mut out);
            }
            RuntimeEvent::Text { text, parent: Some(parent) } => {
                self.said_within(&parent, &text, &mut out);
            }
            RuntimeEvent::Thinking { parent: Some(_), .. }
            | RuntimeEvent::Session(_)
            | RuntimeEvent::Granted { .. }
            | RuntimeEvent::TurnStarted => {}
            RuntimeEvent::ModelDone { stop, usage } => self.step(stop, usage, &mut out),
            RuntimeEvent::ToolStarted(call) => self.tool(call, now, &mut out),
            RuntimeEvent::ToolInput { id, input } => self.input(&id, input, &mut out),
            RuntimeEvent::ToolOutput { id, text } => self.live(&id, &text, &mut out),
            RuntimeEvent::ToolEnded { id, outcome, output } => {
                self.tool_ended(&id, outcome, output, &mut out);
            }
            RuntimeEvent::SubagentStarted { id, title } => self.subagent(id, &title, now, &mut out),
            RuntimeEvent::SubagentEnded { id, ok } => {
                let status = if ok { BlockStatus::Done } else { BlockStatus::Error };
                self.subagents.remove(&id);
                self.patch(
                    &id,
                    BlockPatch { status: Some(status), ..BlockPatch::default() },
                    &mut out,
                );
            }
            RuntimeEvent::Diff(diff) => self.diff(diff, now, &mut out),
            RuntimeEvent::Approval(request) => self.approval(request, now, &mut out),
            RuntimeEvent::Question(request) => self.question(request, now, &mut out),
            RuntimeEvent::Closed { id, how } => self.closed(&id, how, &mut out),
            // A usage without a step has no place in a Task's journal yet.
            RuntimeEvent::Usage(_) => {}
            RuntimeEvent::Retry { attempt, max, wait_ms, error, text } => {
                let args = json!({"attempt": attempt, "max": max, "error": error});
                let retry_at = now.plus(std::time::Duration::from_millis(wait_ms));
                let text =
                    format!("The model call failed ({text}); try {attempt} of {max} follows.");
                let status = status("retrying", "model_retry", args, text);
                let status = StatusFrame { retry_at: Some(retry_at), ..status };
                self.say(RunEvent::Status(status), &mut out);
            }
            RuntimeEvent::Notice { code, text } => {
                let phase = if code == "compacting" { "compacting" } else { "warning" };
                let status = status(phase, &code, Value::Null, text);
                self.say(RunEvent::Status(status), &mut out);
            }
            RuntimeEvent::Unknown { kind, raw } => self.unknown(&kind, raw, now, &mut out),
            RuntimeEvent::TurnEnded(end) => self.end(end, &mut out),
            // Each open turn was ended before.
            RuntimeEvent::Exited(_) => {}
        }
        out
    }

    fn text(&mut self, piece: &str, out: &mut Vec<RunEvent>) {
        if piece.is_empty() {
            return;
        }
        let gap = match () {
            () if !std::mem::take(&mut self.fresh) || self.answer.is_empty() => "",
            () if self.answer.ends_with("\n\n") => "",
            () if self.answer.ends_with('\n') => "\n",
            () => "\n\n",
        };
        self.answer.push_str(gap);
        self.answer.push_str(piece);
        if self.step_text.len() + piece.len() <= STEP_TEXT_BYTES_MAX {
            self.step_text.push_str(piece);
        }
        self.output(Output::Text(format!("{gap}{piece}")), out);
    }

    /// Groups output; what would not fit together is said first.
    fn output(&mut self, piece: Output, out: &mut Vec<RunEvent>) {
        let (Output::Text(text) | Output::Thinking(text)) = &piece;
        if self.pieces_bytes + text.len() > TEXT_BUFFER_BYTES_MAX {
            out.extend(self.flush());
        }
        self.pieces_bytes += text.len();
        match (self.pieces.last_mut(), piece) {
            (Some(Output::Text(last)), Output::Text(text))
            | (Some(Output::Thinking(last)), Output::Thinking(text)) => last.push_str(&text),
            (_, piece) => self.pieces.push(piece),
        }
    }

    /// Anything but text: the text before it goes first.
    fn say(&mut self, event: RunEvent, out: &mut Vec<RunEvent>) {
        out.extend(self.flush());
        if matches!(event, RunEvent::Step { .. }) {
            self.blocks.retain(|_, is_final| !*is_final);
        }
        out.push(event);
    }

    fn block(
        &mut self,
        name: &str,
        kind: BlockKind,
        status: BlockStatus,
        parent: Option<String>,
        now: Timestamp,
        out: &mut Vec<RunEvent>,
    ) {
        // Nobody could answer what is not shown, and the turn's diff is what its reader wants.
        let counts = match &kind {
            BlockKind::Other(fields) => match fields.get("type").and_then(Value::as_str) {
                Some("approval" | "question") => false,
                Some("diff") => fields.get("tool_use_id").is_some_and(|tool| !tool.is_null()),
                _ => true,
            },
            _ => true,
        };
        if self.blocks.contains_key(name) || (counts && self.blocks.len() >= BLOCKS_MAX) {
            return;
        }
        self.blocks.insert(name.to_owned(), status.is_final());
        let (id, timestamp) = (String::new(), now.as_millis());
        let block = Block { id, kind, status, timestamp, parent_tool_use_id: parent };
        self.say(RunEvent::Block { block, name: name.to_owned() }, out);
    }

    /// Changes a block that is not final yet.
    fn patch(&mut self, name: &str, patch: BlockPatch, out: &mut Vec<RunEvent>) {
        match self.blocks.get_mut(name) {
            Some(is_final) if !*is_final => {
                *is_final = patch.status.is_some_and(BlockStatus::is_final);
            }
            _ => return,
        }
        self.say(RunEvent::BlockChanged { name: name.to_owned(), patch }, out);
    }

    fn tool(&mut self, call: ToolCall, now: Timestamp, out: &mut Vec<RunEvent>) {
        let ToolCall { id, tool, title, server, input, parent } = call;
        let status = match input {
            Value::Null => BlockStatus::GeneratingArguments,
            _ => BlockStatus::Running,
        };
        if parent.is_none() {
            self.calls.push(Call { id: id.clone(), tool: tool.clone(), input: input.clone() });
        }
        let kind = BlockKind::Tool {
            tool_use_id: id.clone(),
            tool_name: tool,
            display_name: title,
            tool_input: input,
            tool_output: None,
            server_label: server,
        };
        self.block(&id, kind, status, parent, now, out);
    }

    fn input(&mut self, id: &str, input: Value, out: &mut Vec<RunEvent>) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.id == id) {
            call.input = input.clone();
        }
        let status = Some(BlockStatus::Running);
        self.patch(
            id,
            BlockPatch { status, tool_input: Some(input), ..BlockPatch::default() },
            out,
        );
    }

    fn live(&mut self, id: &str, piece: &str, out: &mut Vec<RunEvent>) {
        let (shown, since) = self.live.entry(id.to_owned()).or_default();
        shown.push_str(piece);
        *since += piece.len();
        if shown.len() > 2 * LIVE_BYTES_MAX {
            let mut from = shown.len() - LIVE_BYTES_MAX;
            while !shown.is_char_boundary(from) {
                from += 1;
            }
            shown.drain(..from);
        }
        if *since >= LIVE_STEP_BYTES || piece.contains('\n') && *since >= 256 {
            *since = 0;
            let tool_output = Some(shown.clone());
            self.patch(id, BlockPatch { tool_output, ..BlockPatch::default() }, out);
        }
    }

    fn tool_ended(
        &mut self,
        id: &str,
        outcome: ToolOutcome,
        output: String,
        out: &mut Vec<RunEvent>,
    ) {
        self.live.remove(id);
        let status = match outcome {
            ToolOutcome::Done => BlockStatus::Done,
            ToolOutcome::Failed | ToolOutcome::Denied => BlockStatus::Error,
            ToolOutcome::Aborted => BlockStatus::Unknown,
        };
        let patch = BlockPatch {
            status: Some(status),
            tool_output: Some(output.clone()),
            ..BlockPatch::default()
        };
        self.patch(id, patch, out);
        let unknown = outcome == ToolOutcome::Aborted;
        let content = match unknown {
            true => "outcome unknown: it may have run".to_owned(),
            false => text::cut(&output, STEP_RESULT_BYTES_MAX),
        };
        let failed = outcome != ToolOutcome::Done;
        let result = json!({"type": "tool_result", "id": id, "content": content,
            "is_error": failed, "unknown": unknown});
        let record = StepRecord::Tool { tool_use_id: id.to_owned(), result, unknown };
        if self.awaited.remove(id) {
            self.say(RunEvent::Step { record, usage: None }, out);
        } else if self.calls.iter().any(|call| call.id == id) {
            // Its model call has not ended: some runtimes run tools while it streams.
            self.results.push(record);
        }
    }

    /// A model call ended: its record has the form of the `llm` crate's completions.
    fn step(&mut self, stop: Option<String>, usage: Option<Tokens>, out: &mut Vec<RunEvent>) {
        let mut parts = Vec::new();
        let said = std::mem::take(&mut self.step_text);
        if !said.is_empty() {
            parts.push(json!({"type": "text", "text": said}));
        }
        let calls = std::mem::take(&mut self.calls);
        for Call { id, tool, input } in &calls {
            let args = text::bounded(input.clone(), STEP_INPUT_BYTES_MAX);
            parts.push(json!({"type": "tool_call", "id": id, "name": tool, "args": args}));
        }
        let tokens = usage.unwrap_or_default();
        let model = if tokens.model.is_empty() { self.model.clone() } else { tokens.model.clone() };
        let stop = match stop.as_deref() {
            None | Some("end_turn" | "stop_sequence") if calls.is_empty() => json!("end_turn"),
            None | Some("tool_use" | "end_turn") => json!("tool_use"),
            Some("max_tokens") => json!("max_tokens"),
            Some("refusal") => json!("refusal"),
            Some(other) => json!({"other": other}),
        };
        let message = json!({"message": {"role": "assistant", "parts": parts},
            "usage": {"input": tokens.input, "output": tokens.output,
                "cached_read": tokens.cached, "cache_write": 0, "reasoning": 0},
            "stop": stop, "model": model});
        let ended: BTreeSet<&str> = self
            .results
            .iter()
            .filter_map(|record| match record {
                StepRecord::Tool { tool_use_id, .. } => Some(tool_use_id.as_str()),
                StepRecord::Model { .. } => None,
            })
            .collect();
        let awaits = calls.iter().filter(|call| !ended.contains(call.id.as_str()));
        let awaits: Vec<String> = awaits.map(|call| call.id.clone()).collect();
        self.awaited.extend(awaits);
        let open = |Call { id, .. }: Call| OpenCall { tool_use_id: id.clone(), block_id: id };
        let calls = calls.into_iter().map(open).collect();
        let usage = UsageFrame {
            message: None,
            model,
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            cached_tokens: tokens.cached,
            cost: tokens.cost,
        };
        let record = StepRecord::Model { message, calls };
        self.say(RunEvent::Step { record, usage: Some(usage) }, out);
        for record in std::mem::take(&mut self.results) {
            self.say(RunEvent::Step { record, usage: None }, out);
        }
        self.fresh = true;
    }

    /// Their length is without bound: the end of what a sub-agent said stands in its block.
    fn said_within(&mut self, id: &str, text: &str, out: &mut Vec<RunEvent>) {
        let Some(said) = self.subagents.get_mut(id) else { return };
        said.push_str(text);
        if said.len() > SUBAGENT_BYTES_MAX {
            let from = said.ceil_char_boundary(said.len() - SUBAGENT_BYTES_MAX);
            said.drain(..from);
        }
        let content = Some(said.trim().to_owned());
        self.patch(id, BlockPatch { content, ..BlockPatch::default() }, out);
    }

    fn subagent(&mut self, id: String, title: &str, now: Timestamp, out: &mut Vec<RunEvent>) {
        let input = json!({"description": title});
        self.calls.push(Call { id: id.clone(), tool: "subagent".to_owned(), input });
        self.subagents.insert(id.clone(), String::new());
        let kind =
            other(json!({"type": "subagent", "tool_use_id": id, "title": title, "content": ""}));
        self.block(&id, kind, BlockStatus::Running, None, now, out);
    }

    fn diff(&mut self, diff: Diff, now: Timestamp, out: &mut Vec<RunEvent>) {
        let kind = other(json!({"type": "diff", "tool_use_id": diff.tool, "files": diff.files,
            "content": diff.patch, "truncated": diff.truncated}));
        self.block(&diff.id, kind, BlockStatus::Done, None, now, out);
    }

    fn approval(&mut self, request: ApprovalRequest, now: Timestamp, out: &mut Vec<RunEvent>) {
        let mut options = vec![json!({"id": "allow", "label": "Allow"})];
        if let Some(grant) = &request.always {
            let label = match &grant.command {
                Some(_) => "Always allow this command in this Task".to_owned(),
                None => format!("Always allow {} in this Task", grant.tool),
            };
            options.push(json!({"id": "allow_always", "label": label}));
        }
        options.push(json!({"id": "deny", "label": "Deny"}));
        let kind = other(json!({"type": "approval", "approval_id": request.id,
            "tool_name": request.tool, "tool_use_id": request.tool_call, "title": request.title,
            "tool_input": request.input, "reason": request.reason, "options": options,
            "always": request.always, "tool_output": Value::Null}));
        self.wait_for(&request.id);
        self.block(&request.id, kind, BlockStatus::Pending, None, now, out);
    }

    fn question(&mut self, request: QuestionRequest, now: Timestamp, out: &mut Vec<RunEvent>) {
        let kind = other(json!({"type": "question", "question_id": request.id,
            "questions": request.questions, "tool_output": Value::Null}));
        self.wait_for(&request.id);
        self.block(&request.id, kind, BlockStatus::Pending, None, now, out);
    }

    fn wait_for(&mut self, id: &str) {
        self.open.insert(id.to_owned());
        self.standing = Standing::Waiting;
    }

    fn closed(&mut self, id: &str, how: Closing, out: &mut Vec<RunEvent>) {
        self.open.remove(id);
        if self.open.is_empty() {
            self.standing = Standing::Running;
        }
        let word = serde_json::to_value(how).ok().and_then(|v| v.as_str().map(str::to_owned));
        let patch = BlockPatch {
            status: Some(BlockStatus::Done),
            tool_output: word,
            ..BlockPatch::default()
        };
        self.patch(id, patch, out);
    }

    fn unknown(&mut self, kind: &str, raw: String, now: Timestamp, out: &mut Vec<RunEvent>) {
        self.unknown += 1;
        if self.unknown > UNKNOWN_MAX {
            return;
        }
        let name = format!("unknown-{}", self.unknown);
        let kind = other(json!({"type": "unknown", "event": kind, "content": raw}));
        self.block(&name, kind, BlockStatus::Done, None, now, out);
    }

    fn end(&mut self, end: TurnEnd, out: &mut Vec<RunEvent>) {
        out.extend(self.flush());
        self.standing = Standing::Ended;
        match end {
            TurnEnd::Completed { stop } => out.push(RunEvent::Done {
                answer: self.answer.clone(),
                stop_reason: stop,
                decision: None,
            }),
            TurnEnd::Failed { error, text } => out.push(RunEvent::Failed { error, text }),
            TurnEnd::Interrupted => self.standing = Standing::Interrupted,
        }
    }
}

fn status(phase: &str, code: &str, args: Value, text: String) -> StatusFrame {
    let wait = Wait { code: code.to_owned(), args: object(args) };
    StatusFrame {
        phase: phase.to_owned(),
        wait: Some(wait),
        text: Some(text),
        ..StatusFrame::default()
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn other(value: Value) -> BlockKind {
    BlockKind::Other(object(value))
}

#[cfg(test)]
mod tests;
