//! The door to all runtimes: [`Runtime`] starts one, [`RunHandle`] speaks to it, [`Events`]
//! hears it.
//!
//! Promises of every implementation:
//! - **Events** come in order. Their channel is bounded: who stops reading pauses the runtime
//!   (its pipe fills), nothing is dropped, memory does not grow. Commands are taken meanwhile.
//! - **No orphans.** After [`RuntimeEvent::Exited`](crate::RuntimeEvent) no process of the run
//!   is left. Dropping `Events`, or all handles, stops the run as [`RunHandle::stop`] does.
//! - **Secrets** reach the environment of the process (or its standard input) and nothing else.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    event::{Decision, Reply, RuntimeEvent},
    job::{Job, Prompt, RuntimeKind},
    secret::Secrets,
};

/// Events that wait for their reader; then the runtime waits.
pub const EVENTS_MAX: usize = 256;
/// Commands that wait for a run.
pub const COMMANDS_MAX: usize = 16;
/// How long a run may take to accept a command.
pub const COMMAND_WAIT: Duration = Duration::from_secs(10);

/// A kind of agent program, as this machine has it.
#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Which one.
    fn kind(&self) -> RuntimeKind;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// Looks for the program and asks its version; at most 20 s.
    ///
    /// # Errors
    /// It is not here, or it does not say its version. The text names the way out.
    async fn probe(&self) -> Result<Found, ProbeError>;

    /// Starts it and gives it the job's prompt. With `job.session` it goes on in that session;
    /// one that is gone is replaced by a new one that is told `job.history`, and a `Notice`
    /// `session_lost` says so.
    ///
    /// # Errors
    /// Nothing runs then.
    async fn start(&self, launch: Launch) -> Result<Started, StartError>;
}

/// What a runtime can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Text comes in pieces while it is made.
    pub streams: bool,
    /// It asks before it acts.
    pub approvals: bool,
    /// It asks questions.
    pub questions: bool,
    /// A further prompt goes to the same process.
    pub input: bool,
    /// A running turn takes further words.
    pub steer: bool,
    /// A turn can be stopped without the process.
    pub interrupt: bool,
    /// A later process goes on in the same session.
    pub resume: bool,
    /// It takes MCP servers.
    pub mcp: bool,
    /// It takes Skills.
    pub skills: bool,
    /// It takes images.
    pub images: bool,
    /// It runs a team of its own.
    pub teams: bool,
}

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Which runtime.
    pub kind: RuntimeKind,
    /// Where.
    pub program: PathBuf,
    /// `2.1.330`; empty if it has none.
    pub version: String,
    /// A word about the version, if it is not the one this was built for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Found {
    /// Notes that the version is another than the tested one.
    pub(crate) fn tested(
        kind: RuntimeKind,
        program: PathBuf,
        version: String,
        tested: &str,
    ) -> Self {
        let note = (version != tested).then(|| format!("tested with {tested}"));
        Self { kind, program, version, note }
    }
}

/// What a run is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What to do.
    pub job: Job,
    /// The secrets that the job names.
    pub secrets: Secrets,
    /// Where it works (see [`Workspace::path`](crate::Workspace::path)); an existing directory.
    pub cwd: PathBuf,
    /// Private directory of this Bot in this Task: HOME, configuration and sessions of the
    /// runtime. Made if it is not there; kept between turns.
    pub state_dir: PathBuf,
}

/// A run under way.
#[derive(Debug)]
pub struct Started {
    /// Speaks to it.
    pub handle: RunHandle,
    /// Hears it.
    pub events: Events,
}

/// The events of one run, in order.
#[derive(Debug)]
pub struct Events(pub(crate) mpsc::Receiver<RuntimeEvent>);

impl Events {
    /// The next one; `None` after [`RuntimeEvent::Exited`].
    pub async fn next(&mut self) -> Option<RuntimeEvent> {
        self.0.recv().await
    }
}

/// What a run can be told. Serializable: it is also what travels to a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum RunCommand {
    /// A further prompt, once the turn ended.
    Input {
        /// What.
        prompt: Prompt,
    },
    /// Further words for the running turn.
    Steer {
        /// What.
        prompt: Prompt,
    },
    /// Decides an approval.
    Approve {
        /// Its name.
        id: String,
        /// The decision.
        decision: Decision,
    },
    /// Answers a question.
    Answer {
        /// Its name.
        id: String,
        /// The answer.
        reply: Reply,
    },
    /// What was said before a [`RuntimeEvent::Granted`] is kept: the tool may run.
    Kept {
        /// Its name.
        id: String,
        /// It could not be kept: the tool does not run, and the model is told this.
        error: Option<String>,
    },
    /// Stops the turn; the process lives on where the runtime can. `TurnEnded(Interrupted)`
    /// follows within 10 s, or the process is ended.
    Interrupt,
    /// No further prompt will come: ends by itself after the turn.
    Finish,
}

/// One command on its way, with the place for its answer.
pub(crate) type Asked = (RunCommand, oneshot::Sender<Result<(), CommandError>>);

/// Speaks to a run; cheap to clone.
#[derive(Clone)]
pub struct RunHandle {
    pub(crate) commands: mpsc::Sender<Asked>,
    pub(crate) stop: Arc<watch::Sender<bool>>,
    pub(crate) ended: watch::Receiver<bool>,
}

impl fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("ended", &*self.ended.borrow()).finish_non_exhaustive()
    }
}

impl RunHandle {
    /// Gives a command and waits until the run took it (not until it is done).
    ///
    /// # Errors
    /// See [`CommandError`]; nothing happened then, except after `OutcomeUnknown`.
    pub async fn tell(&self, command: RunCommand) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        let told = async {
            self.commands.send((command, reply)).await.map_err(|_| CommandError::Ended)?;
            answer.await.map_err(|_| CommandError::Ended)?
        };
        tokio::time::timeout(COMMAND_WAIT, told).await.unwrap_or(Err(CommandError::OutcomeUnknown))
    }

    /// Ends the run and every process of it: asks, then kills. Returns when no process is left;
    /// the last events may still wait for their reader.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        // An error means that the run is over, too.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Whether no process of it is left.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }
}

/// Why a command was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum CommandError {
    /// The run is over.
    #[error("the run has ended")]
    Ended,
    /// No such approval or question is open: it was answered, expired or withdrawn before.
    #[error("nothing of that name is open: it was answered, expired or withdrawn before")]
    NotOpen,
    /// The runtime cannot do this.
    #[error("{runtime} cannot do this: {what}")]
    Unsupported {
        /// Which.
        runtime: String,
        /// What.
        what: String,
    },
    /// It does not fit what the run does now.
    #[error("{message}")]
    WrongState {
        /// A sentence.
        message: String,
    },
    /// It was not taken in time; it may have been taken all the same.
    #[error("the run did not answer in time: the outcome is unknown")]
    OutcomeUnknown,
}

/// Why a runtime was not found.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// There is no such program.
    #[error("{program} is not installed here: {way_out}")]
    Missing {
        /// Its name.
        program: String,
        /// What to do about it.
        way_out: String,
    },
    /// It does not run.
    #[error("{program} does not start: {text}")]
    Broken {
        /// Where it lies.
        program: String,
        /// What it said.
        text: String,
    },
    /// This version of ours does not know the runtime.
    #[error("this device does not know the runtime {kind}: update it")]
    Unknown {
        /// The word.
        kind: String,
    },
}

/// Why a run did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The program is not here.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The job does not fit the runtime or the device.
    #[error("{field}: {message}")]
    Job {
        /// The field of the job.
        field: String,
        /// What is wrong, and the way out.
        message: String,
    },
    /// A secret that the job names did not come with it.
    #[error("{field}: the secret {name} did not come with the job")]
    Secret {
        /// The field of the job.
        field: String,
        /// Which.
        name: String,
    },
    /// The machine refused.
    #[error("cannot {action}")]
    Machine {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    pub(crate) fn job(field: &str, message: impl Into<String>) -> Self {
        Self::Job { field: field.to_owned(), message: message.into() }
    }

    pub(crate) fn machine(action: impl Into<String>, source: std::io::Error) -> Self {
        Self::Machine { action: action.into(), source }
    }
}
