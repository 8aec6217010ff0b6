//! Drives one run: events to the outbox, inputs to the runtime, until nothing of it is left.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use troupe_domain::task::RunEvent;
use troupe_executor::{
    CommandError, Decision, Job, Launch, Prompt, Reply, RunCommand, RuntimeEvent, Secrets,
    SessionId, Standing, Translator, TurnEnd, Workspace, Workspaces, write_skills,
};
use troupe_types::{Clock, ErrorType};
use troupe_wire::device::{
    AttemptKey, ExecutionState, InputFate, InputKind, limits::DEVICE_BODY_BYTES_MAX,
};

use super::{
    last::{LastTurn, Seats},
    resume::{closed, resumed},
};
use crate::{
    engine::{Engine, RunControl, RunEvents, StartedRun},
    outbox::{Ended, Fold, Outbox, OutboxError, Record},
};

/// How long a runtime that ended its turn gets to end by itself.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// What stands for the session of a runtime that has none: it was started.
const BEGAN: &str = "began";
/// Text that waits for more of it is said after this.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// An input for a run.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) kind: InputKind,
    pub(super) name: String,
    pub(super) body: Bytes,
    pub(super) reply: oneshot::Sender<(InputFate, String)>,
}

/// Why a run is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// For good.
    Cancel,
    /// The agent ends; the attempt goes on with the next one.
    Pause,
}

/// All that a run needs.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) key: AttemptKey,
    pub(super) job: Job,
    pub(super) secrets: Secrets,
    pub(super) fold: Fold,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) outbox: Outbox,
    pub(super) workspaces: Workspaces,
    pub(super) seats: Seats,
    pub(super) clock: Arc<dyn Clock>,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It ended, and that is on the disk.
    Ended(Ended, String),
    /// It was paused; it goes on when it is started again.
    Paused,
    /// Its outbox is gone.
    NoOutbox(String),
}

/// A run under way.
struct Under {
    control: Arc<dyn RunControl>,
    translator: Translator,
    workspace: Workspace,
    /// The runtime's session.
    session: Option<String>,
}

type End = (Ended, String);

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

impl Run {
    /// Runs to the end.
    pub(super) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Told>,
        mut stop: mpsc::Receiver<Stop>,
    ) -> Outcome {
        match self.work(&mut inputs, &mut stop).await {
            Ok(Some((how, text))) => {
                let record = Record::Ended(how, text.clone());
                match self.outbox.note(self.key, record).await {
                    Ok(()) => Outcome::Ended(how, text),
                    Err(error) => Outcome::NoOutbox(error.to_string()),
                }
            }
            Ok(None) => Outcome::Paused,
            Err(error) => Outcome::NoOutbox(error.to_string()),
        }
    }

    async fn work(
        &mut self,
        inputs: &mut mpsc::Receiver<Told>,
        stop: &mut mpsc::Receiver<Stop>,
    ) -> Result<Option<End>, OutboxError> {
        if self.fold.said.ended {
            return Ok(Some((Ended::Finished, String::new())));
        }
        let seat = self.seats.of(&self.bot_dir());
        let _seat = tokio::select! {
            biased;
            Some(stop) = stop.recv() => return Ok(stopped(stop)),
            seat = seat.lock_owned() => seat,
        };
        let resumes = self.engine.resumes();
        if !resumes && self.fold.session.is_some() {
            self.push_all(closed(&self.fold.said)).await?;
            self.push_all(vec![unknown()]).await?;
            return Ok(Some((Ended::Finished, String::new())));
        }
        let again = resumes && (self.fold.last.0 > 0 || self.fold.session.is_some());
        if again {
            self.push_all(resumed(&self.fold.said)).await?;
        }
        let started = tokio::select! {
            biased;
            Some(stop) = stop.recv() => return Ok(stopped(stop)),
            started = self.start(again) => started,
        };
        let (run, workspace) = match started {
            Ok(started) => started,
            Err((error, text)) => {
                self.push_all(vec![RunEvent::Failed { error, text }]).await?;
                return Ok(Some((Ended::Finished, String::new())));
            }
        };
        self.outbox.set_state(self.key, ExecutionState::Running);
        let StartedRun { control, mut events } = run;
        let model = self.job.model.as_ref().map(|model| model.model.clone()).unwrap_or_default();
        let translator = Translator::new(std::mem::take(&mut self.fold.said.answer), model);
        let session = self.fold.session.clone();
        let mut under = Under { control, translator, workspace, session };
        let end = self.listen(&mut under, &mut *events, inputs, stop).await?;
        if let Some(stop) = end {
            under.control.stop().await;
            return Ok(stopped(stop));
        }
        let end = self.wind_up(&mut under, &mut *events).await?;
        if end.0 == Ended::Finished {
            self.remember(under.session);
        }
        Ok(Some(end))
    }

    /// Until the turn is over, the runtime is, or a stop comes.
    async fn listen(
        &self,
        under: &mut Under,
        events: &mut dyn RunEvents,
        inputs: &mut mpsc::Receiver<Told>,
        stop: &mut mpsc::Receiver<Stop>,
    ) -> Result<Option<Stop>, OutboxError> {
        let mut flush_at = None;
        loop {
            // Counted from the first text that waits: a runtime that never pauses streams, too.
            flush_at = under
                .translator
                .holds_text()
                .then(|| flush_at.unwrap_or_else(|| Instant::now() + FLUSH_AFTER));
            let event = tokio::select! {
                biased;
                Some(stop) = stop.recv() => return Ok(Some(stop)),
                Some(told) = inputs.recv() => {
                    tell(&under.control, told).await;
                    continue;
                }
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {
                    flush_at = None;
                    let text = under.translator.flush();
                    if let Some(stop) = self.push_heeding(text.into_iter().collect(), under, inputs, stop).await? {
                        return Ok(Some(stop));
                    }
                    continue;
                }
                event = events.next() => event,
            };
            let Some(event) = event else { return Ok(None) };
            if let Some(stop) = self.on_event(event, under, inputs, stop).await? {
                return Ok(Some(stop));
            }
            if matches!(under.translator.standing(), Standing::Ended | Standing::Interrupted) {
                return Ok(None);
            }
        }
    }

    /// One event of the runtime; meanwhile inputs and a stop are heard, also when the outbox
    /// has no room and the runtime therefore waits.
    async fn on_event(
        &self,
        event: RuntimeEvent,
        under: &mut Under,
        inputs: &mut mpsc::Receiver<Told>,
        stop: &mut mpsc::Receiver<Stop>,
    ) -> Result<Option<Stop>, OutboxError> {
        if let RuntimeEvent::Session(session) = &event {
            under.session = Some(session.session.0.clone());
            let record = Record::Session(session.session.0.clone());
            self.outbox.note(self.key, record).await?;
        }
        match &event {
            RuntimeEvent::Approval(_) | RuntimeEvent::Question(_) => {
                self.outbox.set_state(self.key, ExecutionState::Waiting);
            }
            RuntimeEvent::Closed { .. } => {
                self.outbox.set_state(self.key, ExecutionState::Running);
            }
            _ => {}
        }
        let now = self.clock.now();
        let mut said = Vec::new();
        if matches!(event, RuntimeEvent::TurnEnded(_))
            && let Some(diff) = self.changes(&under.workspace).await
        {
            said.extend(under.translator.event(RuntimeEvent::Diff(diff), now));
        }
        said.extend(under.translator.event(event, now));
        self.push_heeding(said, under, inputs, stop).await
    }

    /// Says things; meanwhile inputs and a stop are heard, also when the outbox has no room and
    /// the runtime therefore waits.
    async fn push_heeding(
        &self,
        said: Vec<RunEvent>,
        under: &Under,
        inputs: &mut mpsc::Receiver<Told>,
        stop: &mut mpsc::Receiver<Stop>,
    ) -> Result<Option<Stop>, OutboxError> {
        let mut pushing = Box::pin(self.push_all(said));
        loop {
            tokio::select! {
                biased;
                pushed = &mut pushing => {
                    pushed?;
                    return Ok(None);
                }
                Some(stop) = stop.recv() => return Ok(Some(stop)),
                Some(told) = inputs.recv() => tell(&under.control, told).await,
            }
        }
    }

    /// What the turn changed in the workspace. A workspace without git has no diff.
    async fn changes(&self, workspace: &Workspace) -> Option<troupe_executor::Diff> {
        let turn = self.job.turn;
        let kept = workspace.keep(Some(turn)).await;
        match kept {
            Ok(true) => match workspace.diff(None, turn).await {
                Ok(diff) => diff,
                Err(error) => {
                    tracing::warn!(%error, "no diff of the turn");
                    None
                }
            },
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(%error, "the state of the workspace was not kept");
                None
            }
        }
    }

    async fn push_all(&self, events: Vec<RunEvent>) -> Result<(), OutboxError> {
        for event in events {
            let body = encode(event);
            if self.outbox.is_full_for(body.len()) {
                tracing::info!(key = ?self.key, "the outbox is full: the runtime waits");
                self.outbox.set_state(self.key, ExecutionState::Paused);
                self.outbox.push(self.key, body).await?;
                self.outbox.set_state(self.key, ExecutionState::Running);
            } else {
                self.outbox.push(self.key, body).await?;
            }
        }
        Ok(())
    }

    /// After the last word: the process goes, what it still says is not kept.
    async fn wind_up(
        &self,
        under: &mut Under,
        events: &mut dyn RunEvents,
    ) -> Result<End, OutboxError> {
        // It may have ended already.
        let _ = under.control.tell(RunCommand::Finish).await;
        let ending = async { while events.next().await.is_some() {} };
        if timeout(FINISH_MAX, ending).await.is_err() {
            under.control.stop().await;
        }
        match under.translator.standing() {
            Standing::Ended => Ok((Ended::Finished, String::new())),
            Standing::Interrupted => {
                let text = under.translator.flush();
                self.push_all(text.into_iter().collect()).await?;
                Ok((Ended::Cancelled, "interrupted".to_owned()))
            }
            Standing::Running | Standing::Waiting => {
                let (error, text) = (ErrorType::GenericError, "the runtime ended without a word");
                let failed = TurnEnd::Failed { error, text: text.to_owned() };
                let now = self.clock.now();
                let said = under.translator.event(RuntimeEvent::TurnEnded(failed), now);
                self.push_all(said).await?;
                Ok((Ended::Finished, String::new()))
            }
        }
    }

    /// What this Bot has of this Task on this machine.
    fn bot_dir(&self) -> PathBuf {
        let bot = self.job.bot.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        self.workspaces.task_dir(self.job.task).join("bots").join(bot.collect::<String>())
    }

    /// The next turn goes on in the session of this one.
    fn remember(&self, session: Option<String>) {
        let Some(session) = session else { return };
        let last = LastTurn { turn: self.job.turn, runtime: self.job.runtime.clone(), session };
        if let Err(error) = last.write(&self.bot_dir()) {
            tracing::warn!(%error, "the next turn begins a session of its own");
        }
    }

    async fn start(&mut self, again: bool) -> Result<(StartedRun, Workspace), (ErrorType, String)> {
        let mut job = self.job.clone();
        if let Some(session) = &self.fold.session {
            job.session = Some(SessionId(session.clone()));
            job.prompt = Prompt::text(
                "The program that drives you was started anew while you worked on the last \
                 request. Go on where you stopped; look first at what is done already, and do \
                 not repeat it.",
            );
        } else if again {
            tracing::info!(key = ?self.key, "there is no session to go on in: it starts anew");
        } else if job.session.is_none() {
            job.session = LastTurn::read(&self.bot_dir()).and_then(|last| last.session_for(&job));
        }
        let opened = self.workspaces.open(job.task, &job.workspace, &self.secrets).await;
        let workspace = opened.map_err(|error| (ErrorType::InvalidParameter, chain(&error)))?;
        if !again && let Err(error) = workspace.keep(None).await {
            tracing::warn!(%error, "the state before the turn was not kept");
        }
        // Of the Task, not of the Bot: two Bots with one Skill write the same.
        let skills = self.workspaces.task_dir(job.task).join("skills");
        let written = write_skills(&mut job, &skills);
        written.map_err(|error| (ErrorType::InvalidParameter, chain(&error)))?;
        let launch = Launch {
            job,
            secrets: std::mem::take(&mut self.secrets),
            cwd: workspace.path().to_owned(),
            state_dir: self.bot_dir(),
        };
        if !self.engine.resumes() {
            let began = self.outbox.note(self.key, Record::Session(BEGAN.to_owned())).await;
            began.map_err(|error| (ErrorType::GenericError, chain(&error)))?;
        }
        match self.engine.start(launch).await {
            Ok(run) => Ok((run, workspace)),
            Err(error) => Err((ErrorType::GenericError, chain(&error))),
        }
    }
}

/// A run that cannot go on is not begun a second time: it may have done something.
fn unknown() -> RunEvent {
    let text = "the device's agent ended while this ran, and a run of this kind cannot go on: what \
                it did is not known. Look at it; a retry runs it again";
    RunEvent::Failed { error: ErrorType::GenericError, text: text.to_owned() }
}

const fn stopped(stop: Stop) -> Option<(Ended, String)> {
    match stop {
        Stop::Cancel => Some((Ended::Cancelled, String::new())),
        Stop::Pause => None,
    }
}

/// An event as it is kept and sent; one that is too large becomes a failure that says so.
fn encode(event: RunEvent) -> Bytes {
    let bytes = serde_json::to_vec(&event).unwrap_or_default();
    if !bytes.is_empty() && bytes.len() <= DEVICE_BODY_BYTES_MAX {
        return Bytes::from(bytes);
    }
    let text = format!("something of {} bytes is too large to be told", bytes.len());
    let instead = match event {
        RunEvent::Done { .. } | RunEvent::Failed { .. } => {
            RunEvent::Failed { error: ErrorType::PayloadTooLarge, text }
        }
        _ => RunEvent::Status(troupe_types::StatusFrame {
            phase: "warning".to_owned(),
            text: Some(text),
            ..Default::default()
        }),
    };
    Bytes::from(serde_json::to_vec(&instead).unwrap_or_default())
}

/// Gives an input to the runtime, and the answer to who asked.
async fn tell(control: &Arc<dyn RunControl>, told: Told) {
    let Told { kind, name, body, reply } = told;
    let answer = match command(kind, name, &body) {
        Err(text) => (InputFate::Unsupported, text),
        Ok(command) => match control.tell(command).await {
            Ok(()) => (InputFate::Taken, String::new()),
            // It is over in the runtime already, which told so itself.
            Err(CommandError::NotOpen) => (InputFate::Gone, CommandError::NotOpen.to_string()),
            Err(CommandError::Ended) => (InputFate::Gone, CommandError::Ended.to_string()),
            Err(CommandError::OutcomeUnknown) => (InputFate::Taken, String::new()),
            Err(error) => (InputFate::Unsupported, error.to_string()),
        },
    };
    drop(reply.send(answer));
}

fn command(kind: InputKind, name: String, body: &[u8]) -> Result<RunCommand, String> {
    fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
        serde_json::from_slice(body).map_err(|error| format!("the input does not read: {error}"))
    }
    Ok(match kind {
        InputKind::Approval => RunCommand::Approve { id: name, decision: read(body)? },
        InputKind::Answer => RunCommand::Answer { id: name, reply: read(body)? },
        InputKind::Steer => RunCommand::Steer { prompt: read(body)? },
        InputKind::Interrupt => RunCommand::Interrupt,
        InputKind::Withdrawn | InputKind::Expired => late(kind, name, body),
        InputKind::Cancel | InputKind::Other(_) => {
            return Err("this device does not know this input".to_owned());
        }
    })
}

/// The body says whether it is about a question; else it is about an approval.
fn late(kind: InputKind, id: String, body: &[u8]) -> RunCommand {
    let expired = kind == InputKind::Expired;
    if body == b"question" {
        let reply = if expired { Reply::Expired } else { Reply::Withdrawn };
        RunCommand::Answer { id, reply }
    } else {
        let decision = if expired { Decision::Expired } else { Decision::Withdrawn };
        RunCommand::Approve { id, decision }
    }
}
