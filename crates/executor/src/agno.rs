//! Agno: agents and teams, run by a Python program of ours that is embedded here.
//!
//! The program speaks this crate's event model itself; approvals and questions are asked
//! inside its tools, so that agents and teams wait for a person alike.

mod agents;

use std::{collections::BTreeSet, fs, path::PathBuf};

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_types::{ErrorType, Uuid};

use crate::{
    drive::{self, Activity, Dialect, Effects, end_of},
    error::{session_lost, sort_http},
    event::{
        Closing, Decision, Exit, Reply, RuntimeEvent, TOOL_INPUT_BYTES_MAX, TOOL_OUTPUT_BYTES_MAX,
        ToolOutcome, TurnEnd, UNKNOWN_BYTES_MAX,
    },
    job::{Prompt, RuntimeKind, SessionId},
    lines::Line,
    machine::{Environment, Machine, make_private},
    process::Program,
    runtime::{
        Abilities, CommandError, Found, Launch, ProbeError, RunCommand, Runtime, StartError,
        Started,
    },
    text,
};

/// The version that this was built and tested with.
pub const AGNO_VERSION: &str = "3.1.10";
const WAY_OUT: &str = "python3 -m venv DIR && DIR/bin/pip install 'agno[mcp]==3.1.10' openai==3.54.0 'sqlalchemy[asyncio]==2.1.9', then name DIR/bin/python in the device's configuration";
/// The runner, written out at start.
const RUNNER: &str = include_str!("agno/runner.py");
const NAME: &str = "Agno";
const PROBE: &str = "import importlib.metadata as m; m.version('openai'); print(m.version('agno'))";

/// Drives Agno.
#[derive(Clone, Debug)]
pub struct Agno {
    machine: Machine,
    python: Option<PathBuf>,
}

impl Agno {
    /// `python`: the interpreter of an environment that has Agno, if not `python3` on the
    /// search path.
    #[must_use]
    pub const fn new(machine: Machine, python: Option<PathBuf>) -> Self {
        Self { machine, python }
    }

    fn find(&self) -> Result<PathBuf, ProbeError> {
        self.machine.program(self.python.as_deref(), "python3", WAY_OUT)
    }
}

#[async_trait]
impl Runtime for Agno {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Agno
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            streams: true,
            approvals: true,
            questions: true,
            input: true,
            interrupt: true,
            resume: true,
            mcp: true,
            skills: true,
            teams: true,
            ..Abilities::default()
        }
    }

    async fn probe(&self) -> Result<Found, ProbeError> {
        let program = self.find()?;
        let version = self.machine.version(&program, &["-c", PROBE]).await;
        let version = version.map_err(|error| match error {
            ProbeError::Broken { text, .. } if text.contains("PackageNotFoundError") => {
                let way_out = WAY_OUT.to_owned();
                ProbeError::Missing { program: format!("agno for {}", program.display()), way_out }
            }
            other => other,
        })?;
        Ok(Found::tested(RuntimeKind::Agno, program, version, AGNO_VERSION))
    }

    async fn start(&self, launch: Launch) -> Result<Started, StartError> {
        let python = self.find()?;
        let state = launch.state_dir.join("agno");
        make_private(&state)?;
        let mut env = Environment::new(&self.machine, &launch, &launch.state_dir)?;
        env.set("AGNO_TELEMETRY", "false");
        env.set("PYTHONUNBUFFERED", "1");
        env.set("PYTHONDONTWRITEBYTECODE", "1");
        let agents = agents::agents(&launch, &mut env)?;
        let runner = state.join("runner.py");
        let written = fs::write(&runner, RUNNER);
        written.map_err(|e| StartError::machine("write the runner of Agno", e))?;
        let wanted = launch.job.session.clone();
        let known = wanted.is_some() && state.join("sessions.db").is_file();
        let session = wanted.clone().filter(|_| known);
        let session = session.unwrap_or_else(|| SessionId(Uuid::new_v4().to_string()));
        let job = json!({
            "agents": agents,
            "prompt": match known || launch.job.history.is_empty() {
                true => launch.job.prompt.text.clone(),
                false => format!("{}\n\n{}", launch.job.history, launch.job.prompt.text),
            },
            "session_id": session, "known_session": known, "state_dir": state,
            "skills": launch.job.skills.iter().map(|skill| &skill.path).collect::<Vec<_>>(),
            "permissions": launch.job.permissions, "grants": launch.job.grants,
        });
        let program = Program {
            program: python,
            args: vec!["-u".into(), runner.into()],
            cwd: launch.cwd.clone(),
            env: env.into_vec(),
            pids_max: launch.job.limits.pids_max,
            memory_bytes_max: launch.job.limits.memory_bytes_max,
            one_output: false,
        };
        let dialect = AgnoDialect {
            job,
            lost: wanted.is_some() && !known,
            busy: true,
            interrupted: false,
            finishing: false,
            approvals: BTreeSet::new(),
            questions: BTreeSet::new(),
            calls: BTreeSet::new(),
        };
        let limits = launch.job.limits;
        drive::start(&self.machine.containment, &program, Box::new(dialect), launch.secrets, limits)
    }
}

#[derive(Debug)]
struct AgnoDialect {
    job: Value,
    lost: bool,
    busy: bool,
    interrupted: bool,
    finishing: bool,
    approvals: BTreeSet<String>,
    questions: BTreeSet<String>,
    calls: BTreeSet<String>,
}

impl AgnoDialect {
    fn event(&mut self, event: RuntimeEvent, out: &mut Effects) {
        match event {
            RuntimeEvent::Text { text, parent } => out.events.extend(
                text::pieces(&text).map(|text| RuntimeEvent::Text { text, parent: parent.clone() }),
            ),
            RuntimeEvent::Thinking { text, parent } => out.events.extend(
                text::pieces(&text)
                    .map(|text| RuntimeEvent::Thinking { text, parent: parent.clone() }),
            ),
            RuntimeEvent::ToolStarted(mut call) => {
                self.calls.insert(call.id.clone());
                call.input = text::bounded(call.input, TOOL_INPUT_BYTES_MAX);
                call.title = call.title.map(|title| text::line(&title));
                out.event(RuntimeEvent::ToolStarted(call));
            }
            RuntimeEvent::ToolEnded { id, outcome, output } => {
                self.calls.remove(&id);
                let output = text::cut(&output, TOOL_OUTPUT_BYTES_MAX);
                out.event(RuntimeEvent::ToolEnded { id, outcome, output });
            }
            RuntimeEvent::SubagentStarted { id, title } => {
                out.event(RuntimeEvent::SubagentStarted { id, title: text::line(&title) });
            }
            RuntimeEvent::Approval(request) => {
                self.approvals.insert(request.id.clone());
                out.event(RuntimeEvent::Approval(request));
            }
            RuntimeEvent::Question(request) => {
                self.questions.insert(request.id.clone());
                out.event(RuntimeEvent::Question(request));
            }
            RuntimeEvent::Closed { id, how } => {
                if self.approvals.remove(&id) | self.questions.remove(&id) {
                    out.event(RuntimeEvent::Closed { id, how });
                }
            }
            RuntimeEvent::TurnEnded(TurnEnd::Failed { text, .. }) => {
                let error = sort_http(None, &text);
                let text = text::cut(&text, 4_096);
                self.end_turn(TurnEnd::Failed { error, text }, out);
            }
            RuntimeEvent::TurnEnded(end) => self.end_turn(end, out),
            // Only we say this.
            RuntimeEvent::Exited(_) => {}
            other => out.event(other),
        }
    }

    fn end_turn(&mut self, end: TurnEnd, out: &mut Effects) {
        if !std::mem::replace(&mut self.busy, false) {
            return;
        }
        self.interrupted = false;
        for id in std::mem::take(&mut self.approvals)
            .into_iter()
            .chain(std::mem::take(&mut self.questions))
        {
            out.event(RuntimeEvent::Closed { id, how: Closing::Withdrawn });
        }
        for id in std::mem::take(&mut self.calls) {
            let (outcome, output) = (ToolOutcome::Aborted, String::new());
            out.event(RuntimeEvent::ToolEnded { id, outcome, output });
        }
        out.event(RuntimeEvent::TurnEnded(end));
        out.close_input |= self.finishing;
    }

    fn tell(id: &str, decision: &str, words: &str) -> Effects {
        let mut out = Effects::default();
        out.json(&json!({"command": "settle", "id": id, "decision": decision, "words": words}));
        out
    }

    fn settle(id: String, decision: &str, words: &str, how: Closing) -> Effects {
        let mut out = Self::tell(&id, decision, words);
        out.event(RuntimeEvent::Closed { id, how });
        out
    }

    fn approve(&mut self, id: String, decision: &Decision) -> Result<Effects, CommandError> {
        if !self.approvals.remove(&id) {
            return Err(CommandError::NotOpen);
        }
        Ok(match decision {
            Decision::Allow { .. } => Self::settle(id, "allow", "", Closing::Allowed),
            Decision::AllowAlways => Self::settle(id, "allow_always", "", Closing::AllowedAlways),
            Decision::Deny { message } => Self::settle(id, "deny", message, Closing::Denied),
            Decision::Expired => Self::settle(id, "expired", text::EXPIRED, Closing::Expired),
            Decision::Withdrawn => {
                Self::settle(id, "withdrawn", text::WITHDRAWN, Closing::Withdrawn)
            }
        })
    }

    fn reply(&mut self, id: String, reply: &Reply) -> Result<Effects, CommandError> {
        if !self.questions.remove(&id) {
            return Err(CommandError::NotOpen);
        }
        Ok(match reply {
            Reply::Answered { answers } => {
                let chosen: Vec<String> =
                    answers.values().map(|chosen| chosen.join(", ")).collect();
                Self::settle(id, "answered", &chosen.join("\n"), Closing::Answered)
            }
            Reply::Declined => {
                Self::settle(id, "declined", "The person did not want to answer.", Closing::Denied)
            }
            Reply::Expired => Self::settle(id, "expired", text::EXPIRED, Closing::Expired),
            Reply::Withdrawn => Self::settle(id, "withdrawn", text::WITHDRAWN, Closing::Withdrawn),
        })
    }

    fn unknown(raw: &[u8]) -> RuntimeEvent {
        let raw = String::from_utf8_lossy(&raw[..raw.len().min(UNKNOWN_BYTES_MAX)]).into_owned();
        let raw = text::head(&raw, UNKNOWN_BYTES_MAX).to_owned();
        RuntimeEvent::Unknown { kind: "agno".to_owned(), raw }
    }
}

impl Dialect for AgnoDialect {
    fn begin(&mut self) -> Effects {
        let mut out = Effects::default();
        if self.lost {
            out.event(session_lost(NAME));
        }
        let job = std::mem::take(&mut self.job);
        out.json(&job);
        out
    }

    fn line(&mut self, line: Line) -> Effects {
        let mut out = Effects::default();
        match line {
            Line::Whole(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => {}
            Line::Whole(bytes) => match serde_json::from_slice::<RuntimeEvent>(&bytes) {
                Ok(event) => self.event(event, &mut out),
                Err(_) => out.event(Self::unknown(&bytes)),
            },
            Line::TooLong { head, .. } => out.event(Self::unknown(&head)),
        }
        out
    }

    fn command(&mut self, command: RunCommand) -> Result<Effects, CommandError> {
        let mut out = Effects::default();
        let wrong = |message: &str| CommandError::WrongState { message: message.to_owned() };
        match command {
            RunCommand::Input { prompt: Prompt { text, .. } } if !self.busy => {
                self.busy = true;
                out.json(&json!({"command": "input", "text": text}));
            }
            RunCommand::Input { .. } => return Err(wrong("a turn runs: wait for its end")),
            RunCommand::Steer { .. } => {
                let what = "further words in a turn".to_owned();
                return Err(CommandError::Unsupported { runtime: NAME.to_owned(), what });
            }
            RunCommand::Approve { id, decision } => return self.approve(id, &decision),
            RunCommand::Answer { id, reply } => return self.reply(id, &reply),
            // Its runner does by itself what was allowed before.
            RunCommand::Kept { .. } => return Err(CommandError::NotOpen),
            RunCommand::Interrupt if self.busy => {
                self.interrupted = true;
                out.json(&json!({"command": "interrupt"}));
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
        if self.approvals.remove(id) | self.questions.remove(id) {
            return Self::tell(id, "withdrawn", why);
        }
        Effects::default()
    }

    fn activity(&self) -> Activity {
        match () {
            () if !self.busy => Activity::Idle,
            () if !self.approvals.is_empty() || !self.questions.is_empty() => Activity::Person,
            () => Activity::Working,
        }
    }

    fn exited(&mut self, exit: &Exit) -> Effects {
        let mut out = Effects::default();
        self.end_turn(end_of(exit, self.interrupted, NAME), &mut out);
        out.close_input = false;
        out
    }

    fn fail(&mut self, error: ErrorType, text: String) -> Effects {
        let mut out = Effects::default();
        self.end_turn(TurnEnd::Failed { error, text }, &mut out);
        out
    }
}
