//! What `codex app-server` says, and what it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use troupe_types::ErrorType;

use super::{
    items,
    parse::{approval, input, is_noise, question, request_name, unknown},
};
use crate::{
    drive::{Activity, Dialect, Effects, end_of},
    event::{
        ApprovalRequest, Closing, Decision, Exit, QuestionRequest, Reply, RuntimeEvent,
        SessionInfo, Tokens, ToolOutcome, TurnEnd,
    },
    job::{Grant, Job, Permissions, Prompt, SessionId},
    lines::Line,
    runtime::{CommandError, RunCommand},
    text,
};

const NAME: &str = "Codex";
/// Requests of ours that may wait for an answer at once.
const SENT_MAX: usize = 64;

/// What one of our requests was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Initialize,
    Resume,
    Start,
    Turn,
    Other,
}

/// What the server waits for an answer to.
#[derive(Debug)]
enum Asked {
    Approval(Approval),
    Question {
        request: Value,
    },
    /// Nobody is asked: it was allowed before, and waits until it is kept that it was called.
    Granted(Approval),
}

/// A yes or no that the server waits for.
#[derive(Debug)]
struct Approval {
    request: Value,
    /// An MCP server, or Codex for it, wants a yes.
    elicited: bool,
    always: Option<Grant>,
}

impl Approval {
    fn answer(&self, allowed: bool, out: &mut Effects) {
        let result = match (self.elicited, allowed) {
            (true, true) => json!({"action": "accept", "content": {}}),
            (true, false) => json!({"action": "decline", "content": null}),
            (false, true) => json!({"decision": "accept"}),
            (false, false) => json!({"decision": "decline"}),
        };
        out.json(&json!({"id": self.request, "result": result}));
    }
}

#[derive(Debug)]
pub(super) struct CodexDialect {
    cwd: PathBuf,
    policy: (&'static str, &'static str),
    read_only: bool,
    instructions: String,
    history: String,
    wanted: Option<SessionId>,
    thread: String,
    version: Option<String>,
    model: Option<String>,
    /// The prompt that waits for the thread.
    prompt: Option<Prompt>,
    turn: Option<String>,
    /// A prompt was given and its turn has not ended.
    busy: bool,
    interrupted: bool,
    /// Of our last request.
    number: u64,
    sent: BTreeMap<u64, Sent>,
    grants: BTreeSet<Grant>,
    open: BTreeMap<String, Asked>,
    calls: BTreeMap<String, Value>,
    /// Messages whose text came in pieces.
    streamed: BTreeSet<String>,
    finishing: bool,
}

impl CodexDialect {
    /// `fenced`: the machine is a fence by itself, and gives no right to make another one within.
    pub(super) fn new(job: &Job, cwd: &Path, fenced: bool) -> Self {
        let policy = match job.permissions {
            Permissions::Ask | Permissions::AcceptEdits if fenced => {
                ("untrusted", "danger-full-access")
            }
            Permissions::Ask => ("untrusted", "workspace-write"),
            Permissions::AcceptEdits => ("on-request", "workspace-write"),
            Permissions::ReadOnly => ("never", "read-only"),
            Permissions::Bypass => ("never", "danger-full-access"),
        };
        Self {
            cwd: cwd.to_owned(),
            policy,
            read_only: job.permissions == Permissions::ReadOnly,
            instructions: job.instructions.clone(),
            history: job.history.clone(),
            wanted: job.session.clone(),
            thread: String::new(),
            version: None,
            model: job.model.as_ref().map(|model| model.model.clone()),
            prompt: Some(job.prompt.clone()),
            turn: None,
            busy: true,
            interrupted: false,
            number: 0,
            sent: BTreeMap::new(),
            grants: job.grants.iter().cloned().collect(),
            open: BTreeMap::new(),
            calls: BTreeMap::new(),
            streamed: BTreeSet::new(),
            finishing: false,
        }
    }

    fn request(&mut self, sort: Sent, method: &str, params: &Value, out: &mut Effects) {
        self.number += 1;
        let id = self.number;
        // Only the newest few can still be answered.
        while self.sent.len() > SENT_MAX {
            self.sent.pop_first();
        }
        self.sent.insert(id, sort);
        out.json(&json!({"id": id, "method": method, "params": params}));
    }

    fn begin_thread(&mut self, out: &mut Effects) {
        let (approval, sandbox) = self.policy;
        let mut params = json!({"cwd": self.cwd, "approvalPolicy": approval, "sandbox": sandbox});
        if !self.instructions.is_empty() {
            params["developerInstructions"] = json!(self.instructions);
        }
        if let Some(session) = &self.wanted {
            params["threadId"] = json!(session);
            self.request(Sent::Resume, "thread/resume", &params, out);
        } else {
            self.request(Sent::Start, "thread/start", &params, out);
        }
    }

    fn begin_turn(&mut self, prompt: &Prompt, out: &mut Effects) {
        self.busy = true;
        let params = json!({"threadId": self.thread, "input": input(prompt)});
        self.request(Sent::Turn, "turn/start", &params, out);
    }

    /// Adds words to the running turn.
    fn steer(&mut self, prompt: &Prompt, out: &mut Effects) {
        let params = json!({"threadId": self.thread, "expectedTurnId": self.turn,
            "input": input(prompt)});
        self.request(Sent::Other, "turn/steer", &params, out);
    }

    fn end_turn(&mut self, end: TurnEnd, out: &mut Effects) {
        if !std::mem::replace(&mut self.busy, false) {
            return;
        }
        self.turn = None;
        self.interrupted = false;
        self.streamed.clear();
        self.close_open(out);
        out.event(RuntimeEvent::TurnEnded(end));
        out.close_input |= self.finishing;
    }

    fn close_open(&mut self, out: &mut Effects) {
        for id in std::mem::take(&mut self.open).into_keys() {
            out.event(RuntimeEvent::Closed { id, how: Closing::Withdrawn });
        }
        for id in std::mem::take(&mut self.calls).into_keys() {
            let outcome = ToolOutcome::Aborted;
            out.event(RuntimeEvent::ToolEnded { id, outcome, output: String::new() });
        }
    }

    /// An answer to one of our requests.
    fn answered(&mut self, line: &Value, out: &mut Effects) {
        let Some(sort) = line["id"].as_u64().and_then(|id| self.sent.remove(&id)) else { return };
        let (result, error) = (&line["result"], &line["error"]);
        if error.is_object() {
            return self.refused(sort, error, out);
        }
        match sort {
            Sent::Initialize => {
                let agent = result["userAgent"].as_str().unwrap_or_default();
                let version = agent.split_once('/').and_then(|(_, rest)| rest.split(' ').next());
                self.version = version.map(str::to_owned);
                out.json(&json!({"method": "initialized"}));
                self.begin_thread(out);
            }
            Sent::Resume | Sent::Start => {
                self.thread = result["thread"]["id"].as_str().unwrap_or_default().to_owned();
                let model = result["model"].as_str().map(str::to_owned);
                self.model = model.or_else(|| self.model.take());
                out.event(RuntimeEvent::Session(SessionInfo {
                    session: SessionId(self.thread.clone()),
                    version: self.version.clone(),
                    model: self.model.clone(),
                    resumed: sort == Sent::Resume,
                }));
                if let Some(mut prompt) = self.prompt.take() {
                    if sort == Sent::Start && !self.history.is_empty() {
                        prompt.text = format!("{}\n\n{}", self.history, prompt.text);
                    }
                    self.begin_turn(&prompt, out);
                }
            }
            Sent::Turn => {
                let turn = result["turn"]["id"].as_str().map(str::to_owned);
                self.turn = self.turn.take().or(turn);
                if self.interrupted {
                    self.interrupt(out);
                }
            }
            Sent::Other => {}
        }
    }

    fn refused(&mut self, sort: Sent, error: &Value, out: &mut Effects) {
        match sort {
            Sent::Resume => {
                self.wanted = None;
                out.event(crate::error::session_lost(NAME));
                self.begin_thread(out);
            }
            Sent::Initialize | Sent::Start | Sent::Turn => {
                let (error, text) = items::sort(error);
                self.end_turn(TurnEnd::Failed { error, text }, out);
                out.end = sort != Sent::Turn;
            }
            // A steer or interrupt that came too late: the turn's end tells the rest.
            Sent::Other => {}
        }
    }

    fn interrupt(&mut self, out: &mut Effects) {
        if self.turn.is_some() {
            let params = json!({"threadId": self.thread, "turnId": self.turn});
            self.request(Sent::Other, "turn/interrupt", &params, out);
            // What a command left running in the background belongs to the turn.
            let params = json!({"threadId": self.thread});
            self.request(Sent::Other, "thread/backgroundTerminals/clean", &params, out);
        }
    }

    fn notified(&mut self, method: &str, params: &Value, raw: &[u8], out: &mut Effects) {
        let text_of = |name: &str| params[name].as_str().unwrap_or_default();
        match method {
            "turn/started" => {
                self.turn = params["turn"]["id"].as_str().map(str::to_owned);
                out.event(RuntimeEvent::TurnStarted);
            }
            "turn/completed" => self.turn_completed(&params["turn"], out),
            "item/started" => {
                let item = &params["item"];
                if let Some(call) = items::started(item) {
                    self.calls.insert(call.id.clone(), item.clone());
                    out.event(RuntimeEvent::ToolStarted(call));
                }
            }
            "item/completed" => self.item_completed(&params["item"], out),
            "item/agentMessage/delta" => {
                self.streamed.insert(text_of("itemId").to_owned());
                let pieces = text::pieces(text_of("delta"));
                out.events.extend(pieces.map(|text| RuntimeEvent::Text { text, parent: None }));
            }
            "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta" => {
                let pieces = text::pieces(text_of("delta"));
                out.events.extend(pieces.map(|text| RuntimeEvent::Thinking { text, parent: None }));
            }
            "item/commandExecution/outputDelta" => {
                let id = text_of("itemId").to_owned();
                let pieces = text::pieces(text_of("delta"));
                out.events
                    .extend(pieces.map(|text| RuntimeEvent::ToolOutput { id: id.clone(), text }));
            }
            "thread/tokenUsage/updated" => {
                let last = &params["tokenUsage"]["last"];
                let count = |name: &str| last[name].as_u64().unwrap_or_default();
                let usage = Tokens {
                    model: self.model.clone().unwrap_or_default(),
                    input: count("inputTokens"),
                    output: count("outputTokens"),
                    cached: count("cachedInputTokens"),
                    cost: None,
                };
                out.event(RuntimeEvent::ModelDone { stop: None, usage: Some(usage) });
            }
            "error" => self.error(params, out),
            "serverRequest/resolved" => {
                let id = request_name(&params["requestId"]);
                // Ours are closed when we answer; this one was withdrawn.
                if self.open.remove(&id).is_some() {
                    out.event(RuntimeEvent::Closed { id, how: Closing::Withdrawn });
                }
            }
            "thread/compacted" => out.event(RuntimeEvent::Notice {
                code: "compacting".to_owned(),
                text: "the conversation was compacted".to_owned(),
            }),
            "guardianWarning" | "model/rerouted" => out.event(RuntimeEvent::Notice {
                code: "warning".to_owned(),
                text: text::line(text_of("message")),
            }),
            "mcpServer/startupStatus/updated" if text_of("status") == "failed" => {
                let name = text_of("name");
                let text =
                    format!("the MCP server {name} cannot be reached; its tools are missing");
                out.event(RuntimeEvent::Notice { code: "mcp_failed".to_owned(), text });
            }
            known if is_noise(known) => {}
            other => out.event(unknown(other, raw)),
        }
    }

    fn turn_completed(&mut self, turn: &Value, out: &mut Effects) {
        let end = match turn["status"].as_str().unwrap_or_default() {
            "completed" => TurnEnd::Completed { stop: None },
            "interrupted" => TurnEnd::Interrupted,
            _ if self.interrupted => TurnEnd::Interrupted,
            _ => {
                let (error, text) = items::sort(&turn["error"]);
                TurnEnd::Failed { error, text }
            }
        };
        self.end_turn(end, out);
    }

    fn item_completed(&mut self, item: &Value, out: &mut Effects) {
        let id = item["id"].as_str().unwrap_or_default();
        match item["type"].as_str().unwrap_or_default() {
            // A whole message that was not told piece by piece.
            "agentMessage" if !self.streamed.remove(id) => {
                let pieces = text::pieces(item["text"].as_str().unwrap_or_default());
                out.events.extend(pieces.map(|text| RuntimeEvent::Text { text, parent: None }));
            }
            _ if self.calls.remove(id).is_some() => {
                if let Some(diff) = items::diff(item) {
                    out.event(RuntimeEvent::Diff(diff));
                }
                out.event(items::ended(item));
            }
            _ => {}
        }
    }

    /// An error that is retried is news; one that is not comes again with the turn's end.
    fn error(&mut self, params: &Value, out: &mut Effects) {
        if params["willRetry"] != json!(true) {
            return;
        }
        let (error, text) = items::sort(&params["error"]);
        // "Reconnecting... 1/4"
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
        let (attempt, max) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
        out.event(RuntimeEvent::Retry { attempt, max, wait_ms: 0, error, text });
    }

    /// The server asks us.
    fn asked(&mut self, method: &str, line: &Value, out: &mut Effects) {
        let params = &line["params"];
        let request = line["id"].clone();
        let item = params["itemId"].as_str().unwrap_or_default();
        match method {
            "item/commandExecution/requestApproval" => {
                let command = items::command(params);
                let always =
                    Some(Grant { tool: "command".to_owned(), command: Some(command.clone()) });
                let input = json!({"command": command, "cwd": params["cwd"]});
                let told = approval("command", &command, input, item, params, always);
                self.ask(request, false, told, out);
            }
            "item/fileChange/requestApproval" => {
                let change = self.calls.get(item).cloned().unwrap_or_default();
                let title = items::started(&change).and_then(|call| call.title);
                let title = title.unwrap_or_else(|| "files".to_owned());
                let always = Some(Grant { tool: "apply_patch".to_owned(), command: None });
                let input = json!({"changes": change["changes"]});
                let told = approval("apply_patch", &title, input, item, params, always);
                self.ask(request, false, told, out);
            }
            "mcpServer/elicitation/request" => {
                let tool = format!("mcp:{}", params["serverName"].as_str().unwrap_or("mcp"));
                let always = Some(Grant { tool: tool.clone(), command: None });
                let title = params["message"].as_str().unwrap_or("an MCP server asks");
                let told = approval(&tool, title, params.clone(), item, params, always);
                self.ask(request, true, told, out);
            }
            "item/tool/requestUserInput" => {
                let id = request_name(&request);
                let questions = params["questions"].as_array().into_iter().flatten();
                let questions = questions.map(question).collect();
                self.open.insert(id.clone(), Asked::Question { request });
                out.event(RuntimeEvent::Question(QuestionRequest { id, questions }));
            }
            other => {
                let message = format!("{other} is not supported by this client");
                out.json(&json!({"id": request, "error": {"code": -32601, "message": message}}));
            }
        }
    }

    /// Asks a person for a yes, unless it is granted for the whole Task.
    fn ask(
        &mut self,
        request: Value,
        elicited: bool,
        mut told: ApprovalRequest,
        out: &mut Effects,
    ) {
        told.id = request_name(&request);
        let asked = Approval { request, elicited, always: told.always.clone() };
        // No yes of a person, and none for the Task, leads out of this.
        if self.read_only {
            return asked.answer(false, out);
        }
        if told.always.as_ref().is_some_and(|wanted| self.grants.contains(wanted)) {
            self.open.insert(told.id.clone(), Asked::Granted(asked));
            return out.event(RuntimeEvent::Granted { id: told.id });
        }
        self.open.insert(told.id.clone(), Asked::Approval(asked));
        out.event(RuntimeEvent::Approval(told));
    }

    fn approve(&mut self, id: &str, decision: Decision) -> Result<Effects, CommandError> {
        let is_approval = matches!(self.open.get(id), Some(Asked::Approval(_)));
        let asked = if is_approval { self.open.remove(id) } else { None };
        let Some(Asked::Approval(asked)) = asked else { return Err(CommandError::NotOpen) };
        let mut out = Effects::default();
        // A refusal carries no words: the turn is told them besides.
        let (allowed, how, words) = match decision {
            Decision::Allow { .. } => (true, Closing::Allowed, None),
            Decision::AllowAlways => {
                self.grants.extend(asked.always.clone());
                (true, Closing::AllowedAlways, None)
            }
            Decision::Deny { message } => {
                let words = (!message.is_empty())
                    .then(|| format!("A person denied what you asked for: {message}"));
                (false, Closing::Denied, words)
            }
            Decision::Expired => (false, Closing::Expired, Some(text::EXPIRED.to_owned())),
            Decision::Withdrawn => (false, Closing::Withdrawn, Some(text::WITHDRAWN.to_owned())),
        };
        if let Some(words) = words {
            self.steer(&Prompt::text(words), &mut out);
        }
        asked.answer(allowed, &mut out);
        out.event(RuntimeEvent::Closed { id: id.to_owned(), how });
        Ok(out)
    }

    fn kept(&mut self, id: &str, error: Option<String>) -> Result<Effects, CommandError> {
        let is_granted = matches!(self.open.get(id), Some(Asked::Granted(_)));
        let asked = if is_granted { self.open.remove(id) } else { None };
        let Some(Asked::Granted(asked)) = asked else { return Err(CommandError::NotOpen) };
        let mut out = Effects::default();
        if let Some(error) = &error {
            self.steer(&Prompt::text(error), &mut out);
        }
        asked.answer(error.is_none(), &mut out);
        Ok(out)
    }

    fn reply(&mut self, id: &str, reply: Reply) -> Result<Effects, CommandError> {
        let is_question = matches!(self.open.get(id), Some(Asked::Question { .. }));
        let asked = if is_question { self.open.remove(id) } else { None };
        let Some(Asked::Question { request }) = asked else { return Err(CommandError::NotOpen) };
        let mut out = Effects::default();
        let mut answers = serde_json::Map::new();
        let (how, words) = match reply {
            Reply::Answered { answers: given } => {
                for (question, chosen) in given {
                    answers.insert(question, json!({"answers": chosen}));
                }
                (Closing::Answered, None)
            }
            Reply::Declined => (Closing::Denied, Some("The person did not want to answer.")),
            Reply::Expired => (Closing::Expired, Some(text::EXPIRED)),
            Reply::Withdrawn => (Closing::Withdrawn, Some(text::WITHDRAWN)),
        };
        if let Some(words) = words {
            self.steer(&Prompt::text(words), &mut out);
        }
        out.json(&json!({"id": request, "result": {"answers": answers}}));
        out.event(RuntimeEvent::Closed { id: id.to_owned(), how });
        Ok(out)
    }
}

impl Dialect for CodexDialect {
    fn begin(&mut self) -> Effects {
        let mut out = Effects::default();
        let version = env!("CARGO_PKG_VERSION");
        let client = json!({"name": "troupe", "title": "Troupe", "version": version});
        let params = json!({"clientInfo": client, "capabilities": {"experimentalApi": true}});
        self.request(Sent::Initialize, "initialize", &params, &mut out);
        out
    }

    fn line(&mut self, line: Line) -> Effects {
        let mut out = Effects::default();
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::TooLong { head, bytes } => {
                let text = format!("{NAME} sent a line of {bytes} bytes, which was left out");
                out.event(RuntimeEvent::Notice { code: "warning".to_owned(), text });
                out.event(unknown("too_long", &head));
                return out;
            }
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return out;
        }
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
            out.event(unknown("stray", &bytes));
            return out;
        };
        match (value["method"].as_str(), value.get("id").is_some()) {
            (Some(method), true) => self.asked(method, &value, &mut out),
            (Some(method), false) => self.notified(method, &value["params"], &bytes, &mut out),
            (None, _) => self.answered(&value, &mut out),
        }
        out
    }

    fn command(&mut self, command: RunCommand) -> Result<Effects, CommandError> {
        let mut out = Effects::default();
        let wrong = |message: &str| CommandError::WrongState { message: message.to_owned() };
        match command {
            RunCommand::Input { prompt } if !self.busy => self.begin_turn(&prompt, &mut out),
            RunCommand::Input { .. } => {
                return Err(wrong("a turn runs: steer it, or wait for its end"));
            }
            RunCommand::Steer { prompt } if self.turn.is_some() => self.steer(&prompt, &mut out),
            RunCommand::Steer { .. } => return Err(wrong("no turn runs: send it as input")),
            RunCommand::Approve { id, decision } => return self.approve(&id, decision),
            RunCommand::Answer { id, reply } => return self.reply(&id, reply),
            RunCommand::Kept { id, error } => return self.kept(&id, error),
            RunCommand::Interrupt if self.busy => {
                self.interrupted = true;
                self.interrupt(&mut out);
            }
            RunCommand::Interrupt => return Err(wrong("no turn runs")),
            RunCommand::Finish => {
                self.finishing = true;
                out.close_input = !self.busy;
            }
        }
        Ok(out)
    }

    fn refuse(&mut self, id: &str, why: &str) -> Effects {
        let mut out = Effects::default();
        let Some(asked) = self.open.remove(id) else { return out };
        // Neither answer carries words: the turn is told them besides.
        self.steer(&Prompt::text(why), &mut out);
        match asked {
            Asked::Approval(asked) | Asked::Granted(asked) => asked.answer(false, &mut out),
            Asked::Question { request } => {
                out.json(&json!({"id": request, "result": {"answers": {}}}));
            }
        }
        out
    }

    fn activity(&self) -> Activity {
        match () {
            () if !self.busy => Activity::Idle,
            () if !self.open.is_empty() => Activity::Person,
            () => Activity::Working,
        }
    }

    fn exited(&mut self, exit: &Exit) -> Effects {
        let mut out = Effects::default();
        self.end_turn(end_of(exit, self.interrupted, NAME), &mut out);
        self.close_open(&mut out);
        out.close_input = false;
        out
    }

    fn fail(&mut self, error: ErrorType, text: String) -> Effects {
        let mut out = Effects::default();
        self.end_turn(TurnEnd::Failed { error, text }, &mut out);
        out
    }
}
