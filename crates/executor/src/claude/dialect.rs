//! What Claude Code says on standard output, and what it is told on standard input.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use troupe_types::{ErrorType, Uuid};

use super::parse::{answer, content, deny, diff, grant, questions, unknown};
use super::stream::{ModelStream, is_subagent, subagent, title, tokens, tool_started};
use crate::{
    drive::{Activity, Dialect, Effects, end_of},
    error::sort_http,
    event::{
        ApprovalRequest, Closing, Decision, Exit, QuestionRequest, Reply, RuntimeEvent,
        SessionInfo, TOOL_OUTPUT_BYTES_MAX, ToolOutcome, TurnEnd,
    },
    job::{Grant, Job, Permissions, Prompt, SessionId},
    lines::Line,
    runtime::{CommandError, RunCommand},
    text,
};

const NAME: &str = "Claude Code";
/// Lines that are no JSON and are shown; more are dropped.
const STRAY_MAX: u32 = 20;
/// What the model is told of everything that a job without the right to change things wants.
const READ_ONLY: &str = "This Bot may only read here: nothing may be changed or run, and nobody can \
                         allow it. Say what you found, or your plan, as your answer.";

/// What the runtime waits for an answer to.
#[derive(Debug)]
enum Asked {
    Approval {
        input: Value,
        tool_call: Option<String>,
        always: Option<Grant>,
    },
    Question {
        input: Value,
        ids: Vec<String>,
    },
    /// Nobody: it was allowed before, and waits until it is kept that the tool was called.
    Granted {
        input: Value,
        tool_call: Option<String>,
    },
}

/// The state of one conversation with Claude Code.
#[derive(Debug)]
pub(super) struct ClaudeDialect {
    session: SessionId,
    resumed: bool,
    lost: bool,
    told_session: bool,
    first: Option<Prompt>,
    read_only: bool,
    grants: BTreeSet<Grant>,
    /// Prompts that the runtime has not done with, by our uuid.
    prompts: BTreeSet<String>,
    /// How the last `result` said that it ended.
    end: Option<TurnEnd>,
    interrupted: bool,
    open: BTreeMap<String, Asked>,
    /// Calls without a result yet.
    calls: BTreeSet<String>,
    subagents: BTreeSet<String>,
    denied: BTreeSet<String>,
    stream: ModelStream,
    finishing: bool,
    stray: u32,
    requests: u64,
}

impl ClaudeDialect {
    pub(super) fn new(job: &Job, session: SessionId, resumed: bool, lost: bool) -> Self {
        let mut first = job.prompt.clone();
        if !resumed && !job.history.is_empty() {
            first.text = format!("{}\n\n{}", job.history, first.text);
        }
        Self {
            session,
            resumed,
            lost,
            told_session: false,
            first: Some(first),
            read_only: job.permissions == Permissions::ReadOnly,
            grants: job.grants.iter().cloned().collect(),
            prompts: BTreeSet::new(),
            end: None,
            interrupted: false,
            open: BTreeMap::new(),
            calls: BTreeSet::new(),
            subagents: BTreeSet::new(),
            denied: BTreeSet::new(),
            stream: ModelStream::default(),
            finishing: false,
            stray: 0,
            requests: 0,
        }
    }

    fn say(&mut self, prompt: &Prompt, out: &mut Effects) {
        let uuid = Uuid::new_v4().to_string();
        let mut content = Vec::new();
        if !prompt.text.is_empty() || prompt.images.is_empty() {
            content.push(json!({"type": "text", "text": prompt.text}));
        }
        for image in &prompt.images {
            let source = json!({"type": "base64", "media_type": image.mime, "data": image.data});
            content.push(json!({"type": "image", "source": source}));
        }
        let message = json!({"role": "user", "content": content});
        out.json(&json!({"type": "user", "message": message, "uuid": uuid}));
        self.prompts.insert(uuid);
    }

    fn control(&mut self, request: &Value, out: &mut Effects) {
        self.requests += 1;
        let id = format!("troupe-{}", self.requests);
        out.json(&json!({"type": "control_request", "request_id": id, "request": request}));
    }

    /// Ends the turn if nothing of it is left.
    fn close_turn(&mut self, out: &mut Effects) {
        if !self.prompts.is_empty() {
            return;
        }
        let end = match self.end.take() {
            Some(TurnEnd::Failed { .. }) if self.interrupted => TurnEnd::Interrupted,
            Some(end) => end,
            None if self.interrupted => TurnEnd::Interrupted,
            None => TurnEnd::Completed { stop: None },
        };
        self.interrupted = false;
        self.close_open(out);
        out.event(RuntimeEvent::TurnEnded(end));
        if self.finishing {
            out.close_input = true;
        }
    }

    /// Nothing of a turn that ended stays open.
    fn close_open(&mut self, out: &mut Effects) {
        for id in std::mem::take(&mut self.open).into_keys() {
            out.event(RuntimeEvent::Closed { id, how: Closing::Withdrawn });
        }
        for id in std::mem::take(&mut self.calls) {
            let outcome = ToolOutcome::Aborted;
            out.event(RuntimeEvent::ToolEnded { id, outcome, output: String::new() });
        }
        for id in std::mem::take(&mut self.subagents) {
            out.event(RuntimeEvent::SubagentEnded { id, ok: false });
        }
        self.denied.clear();
    }

    fn message(&mut self, line: &Value, raw: &[u8], out: &mut Effects) {
        match line["type"].as_str().unwrap_or_default() {
            "stream_event" if line["parent_tool_use_id"].is_null() => {
                let events = self.stream.event(&line["event"]);
                events.into_iter().for_each(|event| self.note(event, out));
            }
            // A sub-agent's blocks come whole.
            "stream_event" | "control_response" | "keep_alive" => {}
            "assistant" => self.assistant(line, out),
            "user" => self.results(line, out),
            "control_request" => self.asked(line, out),
            "control_cancel_request" => {
                let id = line["request_id"].as_str().unwrap_or_default();
                if self.open.remove(id).is_some() {
                    let how = Closing::Withdrawn;
                    out.event(RuntimeEvent::Closed { id: id.to_owned(), how });
                }
            }
            "command_lifecycle" => self.lifecycle(line, out),
            "result" => self.end = Some(self.result(line)),
            "system" => self.system(line, raw, out),
            kind => out.event(unknown(kind, raw)),
        }
    }

    /// Passes an event on and remembers what is open.
    fn note(&mut self, event: RuntimeEvent, out: &mut Effects) {
        match &event {
            RuntimeEvent::ToolStarted(call) => {
                self.calls.insert(call.id.clone());
            }
            RuntimeEvent::SubagentStarted { id, .. } => {
                self.subagents.insert(id.clone());
            }
            _ => {}
        }
        out.event(event);
    }

    fn lifecycle(&mut self, line: &Value, out: &mut Effects) {
        let uuid = line["command_uuid"].as_str().unwrap_or_default();
        match line["state"].as_str().unwrap_or_default() {
            "started" if self.prompts.len() == 1 && self.prompts.contains(uuid) => {
                out.event(RuntimeEvent::TurnStarted);
            }
            "completed" | "cancelled" if self.prompts.remove(uuid) => self.close_turn(out),
            _ => {}
        }
    }

    fn result(&self, line: &Value) -> TurnEnd {
        let stop = line["stop_reason"].as_str().map(str::to_owned);
        let aborted = line["terminal_reason"].as_str().is_some_and(|r| r.starts_with("aborted"));
        if aborted {
            return TurnEnd::Interrupted;
        }
        if line["is_error"] != json!(true) && line["subtype"] == "success" {
            return TurnEnd::Completed { stop };
        }
        let text = line["result"].as_str().filter(|text| !text.is_empty());
        let errors = line["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let text = text.map_or_else(|| errors.collect::<Vec<_>>().join("\n"), str::to_owned);
        let text = match text.is_empty() {
            true => format!("{NAME} ended the turn: {}", line["subtype"]),
            false => text,
        };
        let status = line["api_error_status"].as_u64();
        TurnEnd::Failed { error: sort_http(status, &text), text: text::cut(&text, 4_096) }
    }

    fn system(&mut self, line: &Value, raw: &[u8], out: &mut Effects) {
        let tool = || line["tool_use_id"].as_str().unwrap_or_default().to_owned();
        match line["subtype"].as_str().unwrap_or_default() {
            "init" => self.init(line, out),
            "api_retry" => {
                let number = |name: &str| line[name].as_u64().unwrap_or_default();
                let small = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
                let text = line["error"].as_str().unwrap_or("unknown").to_owned();
                let status = line["error_status"].as_u64();
                out.event(RuntimeEvent::Retry {
                    attempt: small("attempt"),
                    max: small("max_retries"),
                    wait_ms: line["retry_delay_ms"].as_f64().map_or(0, |ms| ms.max(0.0) as u64),
                    error: status.map_or(ErrorType::NetworkError, |s| sort_http(Some(s), &text)),
                    text: match status {
                        Some(status) => format!("{status} {text}"),
                        None => "the model cannot be reached".to_owned(),
                    },
                });
            }
            "permission_denied" => {
                self.denied.insert(tool());
            }
            "task_notification" => {
                let id = tool();
                if self.subagents.remove(&id) {
                    let ok = line["status"] == "completed";
                    out.event(RuntimeEvent::SubagentEnded { id, ok });
                }
            }
            "compact_boundary" => out.event(RuntimeEvent::Notice {
                code: "compacting".to_owned(),
                text: "the conversation was compacted".to_owned(),
            }),
            "status" if line["status"] == "compacting" => out.event(RuntimeEvent::Notice {
                code: "compacting".to_owned(),
                text: "the conversation is being compacted".to_owned(),
            }),
            "status"
            | "thinking_tokens"
            | "task_started"
            | "task_progress"
            | "task_updated"
            | "hook_started"
            | "hook_response"
            | "session_state_changed" => {}
            kind => out.event(unknown(&format!("system/{kind}"), raw)),
        }
    }

    /// Comes at every prompt; the first one makes the session known.
    fn init(&mut self, line: &Value, out: &mut Effects) {
        if let Some(id) = line["session_id"].as_str() {
            self.session = SessionId(id.to_owned());
        }
        if std::mem::replace(&mut self.told_session, true) {
            return;
        }
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        out.event(RuntimeEvent::Session(SessionInfo {
            session: self.session.clone(),
            version: text("claude_code_version"),
            model: text("model"),
            resumed: self.resumed,
        }));
        for server in line["mcp_servers"].as_array().into_iter().flatten() {
            if server["status"] == "failed" {
                let name = server["name"].as_str().unwrap_or_default();
                let text =
                    format!("the MCP server {name} cannot be reached; its tools are missing");
                out.event(RuntimeEvent::Notice { code: "mcp_failed".to_owned(), text });
            }
        }
    }

    /// Whole blocks: of sub-agents, and of model calls that were not streamed.
    fn assistant(&mut self, line: &Value, out: &mut Effects) {
        let message = &line["message"];
        let parent = line["parent_tool_use_id"].as_str().map(str::to_owned);
        let id = message["id"].as_str().unwrap_or_default();
        let synthetic = line["is_api_error_message"] == json!(true) || !line["error"].is_null();
        if synthetic || (parent.is_none() && self.stream.was_streamed(id)) {
            // An API error's text comes again as the turn's result.
            return;
        }
        let mut called = false;
        for block in message["content"].as_array().into_iter().flatten() {
            let said = |name: &str| block[name].as_str().unwrap_or_default();
            match said("type") {
                "text" => {
                    // A message of a sub-agent comes whole, and the next one stands below it.
                    let end = if parent.is_some() { "\n\n" } else { "" };
                    out.events.extend(
                        text::pieces(&format!("{}{end}", said("text")))
                            .map(|text| RuntimeEvent::Text { text, parent: parent.clone() }),
                    );
                }
                "thinking" => out.events.extend(
                    text::pieces(said("thinking"))
                        .map(|text| RuntimeEvent::Thinking { text, parent: parent.clone() }),
                ),
                "tool_use" if is_subagent(said("name")) && parent.is_none() => {
                    self.note(subagent(said("id").to_owned(), &block["input"]), out);
                    called = true;
                }
                "tool_use" => {
                    let input = block["input"].clone();
                    let event = tool_started(said("id"), said("name"), input, parent.clone());
                    self.note(event, out);
                    called = true;
                }
                _ => {}
            }
        }
        if parent.is_none() {
            let stop = message["stop_reason"].as_str().map(str::to_owned);
            let stop = stop.or_else(|| called.then(|| "tool_use".to_owned()));
            out.event(RuntimeEvent::ModelDone { stop, usage: Some(tokens(message)) });
        }
    }

    fn results(&mut self, line: &Value, out: &mut Effects) {
        let metas = line["tool_result_meta"].as_array();
        let rejected = |id: &str| {
            metas
                .into_iter()
                .flatten()
                .any(|meta| meta["id"] == id && meta["permission_decision"]["decision"] == "reject")
        };
        for block in line["message"]["content"].as_array().into_iter().flatten() {
            let Some(id) = block["tool_use_id"].as_str().filter(|_| block["type"] == "tool_result")
            else {
                continue;
            };
            let failed = block["is_error"] == json!(true);
            let denied = self.denied.remove(id) || rejected(id);
            let outcome = match (failed, denied) {
                (true, true) => ToolOutcome::Denied,
                (true, false) if self.interrupted => ToolOutcome::Aborted,
                (true, false) => ToolOutcome::Failed,
                (false, _) => ToolOutcome::Done,
            };
            let id = id.to_owned();
            if !failed && let Some(diff) = diff(&id, &line["tool_use_result"]) {
                out.event(RuntimeEvent::Diff(diff));
            }
            let output = text::cut(&content(&block["content"]), TOOL_OUTPUT_BYTES_MAX);
            self.calls.remove(&id);
            if self.subagents.remove(&id) {
                out.event(RuntimeEvent::SubagentEnded { id: id.clone(), ok: !failed });
            }
            out.event(RuntimeEvent::ToolEnded { id, outcome, output });
        }
    }

    /// The runtime asks us: may it, or what does a person say.
    fn asked(&mut self, line: &Value, out: &mut Effects) {
        let id = line["request_id"].as_str().unwrap_or_default().to_owned();
        let request = &line["request"];
        if request["subtype"] != "can_use_tool" {
            let error = "not supported by this client";
            let response = json!({"subtype": "error", "request_id": id, "error": error});
            out.json(&json!({"type": "control_response", "response": response}));
            return;
        }
        let tool = request["tool_name"].as_str().unwrap_or_default();
        let input = request["input"].clone();
        if tool == "AskUserQuestion" {
            let questions = questions(&input);
            let ids = questions.iter().map(|question| question.id.clone()).collect();
            self.open.insert(id.clone(), Asked::Question { input, ids });
            out.event(RuntimeEvent::Question(QuestionRequest { id, questions }));
            return;
        }
        // What only reads is not asked for in this mode; an "allow" would lead out of it.
        if self.read_only {
            answer(&id, &deny(READ_ONLY), out);
            self.denied.extend(request["tool_use_id"].as_str().map(str::to_owned));
            return;
        }
        let always = grant(tool, &input);
        let text = |name: &str| request[name].as_str().map(str::to_owned);
        let tool_call = text("tool_use_id");
        if always.as_ref().is_some_and(|grant| self.is_granted(grant)) {
            self.open.insert(id.clone(), Asked::Granted { input, tool_call });
            out.event(RuntimeEvent::Granted { id });
            return;
        }
        let asked = Asked::Approval {
            input: input.clone(),
            tool_call: tool_call.clone(),
            always: always.clone(),
        };
        self.open.insert(id.clone(), asked);
        out.event(RuntimeEvent::Approval(ApprovalRequest {
            id,
            tool: tool.to_owned(),
            title: title(tool, &input),
            input,
            tool_call,
            reason: text("decision_reason").or_else(|| text("description")),
            always,
        }));
    }

    fn is_granted(&self, wanted: &Grant) -> bool {
        self.grants.iter().any(|grant| {
            grant.tool == wanted.tool
                && (grant.command.is_none() || grant.command == wanted.command)
        })
    }

    fn approve(&mut self, id: &str, decision: Decision) -> Result<Effects, CommandError> {
        let Some(Asked::Approval { .. }) = self.open.get(id) else {
            return Err(CommandError::NotOpen);
        };
        let Some(Asked::Approval { input, tool_call, always }) = self.open.remove(id) else {
            return Err(CommandError::NotOpen);
        };
        let mut out = Effects::default();
        let (behavior, how) = match decision {
            Decision::Allow { input: other } => {
                let input = other.unwrap_or(input);
                (json!({"behavior": "allow", "updatedInput": input}), Closing::Allowed)
            }
            Decision::AllowAlways => {
                self.grants.extend(always);
                (json!({"behavior": "allow", "updatedInput": input}), Closing::AllowedAlways)
            }
            Decision::Deny { message } => {
                let message = if message.is_empty() { "A person denied this." } else { &message };
                (deny(message), Closing::Denied)
            }
            Decision::Expired => (deny(crate::text::EXPIRED), Closing::Expired),
            Decision::Withdrawn => (deny(crate::text::WITHDRAWN), Closing::Withdrawn),
        };
        if behavior["behavior"] == "deny" {
            self.denied.extend(tool_call);
        }
        answer(id, &behavior, &mut out);
        out.event(RuntimeEvent::Closed { id: id.to_owned(), how });
        Ok(out)
    }

    fn kept(&mut self, id: &str, error: Option<String>) -> Result<Effects, CommandError> {
        let is_granted = matches!(self.open.get(id), Some(Asked::Granted { .. }));
        let asked = if is_granted { self.open.remove(id) } else { None };
        let Some(Asked::Granted { input, tool_call }) = asked else {
            return Err(CommandError::NotOpen);
        };
        let mut out = Effects::default();
        match error {
            None => answer(id, &json!({"behavior": "allow", "updatedInput": input}), &mut out),
            Some(error) => {
                self.denied.extend(tool_call);
                answer(id, &deny(&error), &mut out);
            }
        }
        Ok(out)
    }

    fn reply(&mut self, id: &str, reply: Reply) -> Result<Effects, CommandError> {
        let Some(Asked::Question { .. }) = self.open.get(id) else {
            return Err(CommandError::NotOpen);
        };
        let Some(Asked::Question { mut input, ids }) = self.open.remove(id) else {
            return Err(CommandError::NotOpen);
        };
        let mut out = Effects::default();
        let (behavior, how) = match reply {
            Reply::Answered { answers } => {
                let known = answers.into_iter().filter(|(question, _)| ids.contains(question));
                let answers: Map<String, Value> =
                    known.map(|(question, chosen)| (question, json!(chosen.join(", ")))).collect();
                input["answers"] = Value::Object(answers);
                (json!({"behavior": "allow", "updatedInput": input}), Closing::Answered)
            }
            Reply::Declined => (deny("The person did not want to answer."), Closing::Denied),
            Reply::Expired => (deny(crate::text::EXPIRED), Closing::Expired),
            Reply::Withdrawn => (deny(crate::text::WITHDRAWN), Closing::Withdrawn),
        };
        answer(id, &behavior, &mut out);
        out.event(RuntimeEvent::Closed { id: id.to_owned(), how });
        Ok(out)
    }
}

impl Dialect for ClaudeDialect {
    fn begin(&mut self) -> Effects {
        let mut out = Effects::default();
        if self.lost {
            out.event(crate::error::session_lost(NAME));
        }
        if let Some(prompt) = self.first.take() {
            self.say(&prompt, &mut out);
        }
        out
    }

    fn line(&mut self, line: Line) -> Effects {
        let mut out = Effects::default();
        match line {
            Line::Whole(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => {}
            Line::Whole(bytes) => match serde_json::from_slice::<Value>(&bytes) {
                Ok(value) => self.message(&value, &bytes, &mut out),
                Err(_) => {
                    self.stray += 1;
                    if self.stray <= STRAY_MAX {
                        out.event(unknown("stray", &bytes));
                    }
                }
            },
            Line::TooLong { head, bytes } => {
                let text = format!("{NAME} sent a line of {bytes} bytes, which was left out");
                out.event(RuntimeEvent::Notice { code: "warning".to_owned(), text });
                out.event(unknown("too_long", &head));
            }
        }
        out
    }

    fn command(&mut self, command: RunCommand) -> Result<Effects, CommandError> {
        let mut out = Effects::default();
        let wrong = |message: &str| CommandError::WrongState { message: message.to_owned() };
        match command {
            RunCommand::Input { prompt } => {
                if !self.prompts.is_empty() {
                    return Err(wrong("a turn runs: steer it, or wait for its end"));
                }
                self.say(&prompt, &mut out);
            }
            RunCommand::Steer { prompt } => {
                if self.prompts.is_empty() {
                    return Err(wrong("no turn runs: send it as input"));
                }
                self.say(&prompt, &mut out);
            }
            RunCommand::Approve { id, decision } => return self.approve(&id, decision),
            RunCommand::Answer { id, reply } => return self.reply(&id, reply),
            RunCommand::Kept { id, error } => return self.kept(&id, error),
            RunCommand::Interrupt => {
                if self.prompts.is_empty() {
                    return Err(wrong("no turn runs"));
                }
                self.interrupted = true;
                self.control(&json!({"subtype": "interrupt"}), &mut out);
            }
            RunCommand::Finish => {
                self.finishing = true;
                out.close_input = self.prompts.is_empty();
            }
        }
        Ok(out)
    }

    fn refuse(&mut self, id: &str, why: &str) -> Effects {
        let mut out = Effects::default();
        let Some(asked) = self.open.remove(id) else { return out };
        if let Asked::Approval { tool_call, .. } = asked {
            self.denied.extend(tool_call);
        }
        answer(id, &deny(why), &mut out);
        out
    }

    fn activity(&self) -> Activity {
        match () {
            () if self.prompts.is_empty() => Activity::Idle,
            () if !self.open.is_empty() => Activity::Person,
            () => Activity::Working,
        }
    }

    fn exited(&mut self, exit: &Exit) -> Effects {
        let mut out = Effects::default();
        if self.prompts.is_empty() {
            self.close_open(&mut out);
            return out;
        }
        self.prompts.clear();
        let end = self.end.take().filter(|end| matches!(end, TurnEnd::Failed { .. }));
        let own = end_of(exit, self.interrupted, NAME);
        self.end = Some(if own == TurnEnd::Interrupted { own } else { end.unwrap_or(own) });
        self.close_turn(&mut out);
        out.close_input = false;
        out
    }

    fn fail(&mut self, error: ErrorType, text: String) -> Effects {
        let mut out = Effects::default();
        if !self.prompts.is_empty() {
            self.prompts.clear();
            self.end = Some(TurnEnd::Failed { error, text });
            self.close_turn(&mut out);
        }
        out
    }
}
