//! Drives one run: events to the outbox, inputs to the runtime, until nothing of it is left.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use troupe_domain::task::RunEvent;
use troupe_executor::{
    ApprovalRequest, Job, Launch, RunCommand, RuntimeEvent, Secrets, SessionId, Standing,
    Translator, TurnEnd, Workspace, WorkspaceError, Workspaces, check_skill, write_skills,
};
use troupe_types::{Clock, ErrorType};
use troupe_wire::device::{AttemptKey, ExecutionState, limits::DEVICE_BODY_BYTES_MAX};

use super::{
    input::Told,
    last::{LastTurn, Seats},
    packages::Packages,
    resume::{self, closed, resumed},
    stop::{Stop, Stops},
};
use crate::{
    engine::{Engine, RunControl, RunEvents, StartedRun},
    outbox::{Ended, Fold, Outbox, OutboxError, Record},
};

/// How long a runtime that ended its turn gets to end by itself.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// What stands for the session of a runtime that has none: it was started.
const BEGAN: &str = "began";
/// How long a tool that was granted waits until it is on a disk that has room that it was called.
const KEPT_MAX: Duration = Duration::from_secs(30);
/// Text that waits for more of it is said after this.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// All that a run needs.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) key: AttemptKey,
    pub(super) job: Job,
    pub(super) always: bool,
    pub(super) secrets: Secrets,
    pub(super) fold: Fold,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) outbox: Outbox,
    pub(super) workspaces: Workspaces,
    pub(super) seats: Seats,
    pub(super) packages: Packages,
    pub(super) clock: Arc<dyn Clock>,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It ended, and that is on the disk, unless it was cancelled and there is no room for it.
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

/// What a workspace that could not be opened means to the Task.
const fn trouble(error: &WorkspaceError) -> ErrorType {
    match error {
        WorkspaceError::Busy => ErrorType::TimeoutError,
        _ => ErrorType::InvalidParameter,
    }
}

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
        stop: mpsc::Receiver<Stop>,
    ) -> Outcome {
        let ended = match Stops::new(stop, &self.outbox, self.key) {
            Ok(mut stop) => match self.work(&mut inputs, &mut stop).await {
                Ok(Some((how, text))) => self.note_end(how, text, &mut stop).await,
                other => other,
            },
            Err(error) => Err(error),
        };
        match ended {
            Ok(Some((how, text))) => Outcome::Ended(how, text),
            Ok(None) => Outcome::Paused,
            Err(error) => Outcome::NoOutbox(error.to_string()),
        }
    }

    /// Writes how it ended. A cancel waits for no room on the disk, and is heard while the end
    /// does.
    async fn note_end(
        &self,
        how: Ended,
        text: String,
        stop: &mut Stops,
    ) -> Result<Option<End>, OutboxError> {
        let record = Record::Ended(how, text.clone());
        if stop.cancelled {
            if let Err(error) = self.outbox.note_now(self.key, record).await {
                tracing::warn!(key = ?self.key, %error, "the end of a run was not written");
            }
            return Ok(Some((how, text)));
        }
        tokio::select! {
            biased;
            noted = self.outbox.note(self.key, record) => noted.map(|()| Some((how, text))),
            Some(stop) = stop.recv() => stop.end(),
        }
    }

    async fn work(
        &mut self,
        inputs: &mut mpsc::Receiver<Told>,
        stop: &mut Stops,
    ) -> Result<Option<End>, OutboxError> {
        if self.fold.said.ended {
            return Ok(Some((Ended::Finished, String::new())));
        }
        let seat = self.seats.of(&self.bot_dir());
        let _seat = tokio::select! {
            biased;
            Some(stop) = stop.recv() => return stop.end(),
            seat = seat.lock_owned() => seat,
        };
        let resumes = self.engine.resumes();
        if !resumes && self.fold.session.is_some() {
            let mut said = closed(&self.fold.said);
            said.push(unknown());
            return self.last_words(said, stop).await;
        }
        let again = resumes && (self.fold.last.0 > 0 || self.fold.session.is_some());
        if again && let Some(stop) = self.say(resumed(&self.fold.said), stop).await? {
            return stop.end();
        }
        let started = tokio::select! {
            biased;
            Some(stop) = stop.recv() => return stop.end(),
            started = self.start(again) => started,
        };
        let (run, workspace) = match started {
            Ok(started) => started,
            Err((error, text)) => {
                return self.last_words(vec![RunEvent::Failed { error, text }], stop).await;
            }
        };
        self.outbox.set_state(self.key, ExecutionState::Running);
        let StartedRun { control, mut events } = run;
        let model = self.job.model.as_ref().map(|model| model.model.clone()).unwrap_or_default();
        let translator = Translator::new(std::mem::take(&mut self.fold.said.answer), model);
        let session = self.fold.session.clone();
        let mut under = Under { control, translator, workspace, session };
        let heard = self.listen(&mut under, &mut *events, inputs, stop).await;
        if !matches!(heard, Ok(None)) {
            under.control.stop().await;
        }
        if let Some(stop) = heard? {
            return stop.end();
        }
        let end = self.wind_up(&mut under, &mut *events, stop).await?;
        if end.as_ref().is_some_and(|end| end.0 == Ended::Finished) {
            self.remember(under.session);
        }
        Ok(end)
    }

    /// Says things while nothing runs; a stop is heard.
    async fn say(
        &self,
        said: Vec<RunEvent>,
        stop: &mut Stops,
    ) -> Result<Option<Stop>, OutboxError> {
        tokio::select! {
            biased;
            pushed = self.push_all(said) => pushed.map(|()| None),
            Some(stop) = stop.recv() => Ok(Some(stop)),
        }
    }

    async fn last_words(
        &self,
        said: Vec<RunEvent>,
        stop: &mut Stops,
    ) -> Result<Option<End>, OutboxError> {
        match self.say(said, stop).await? {
            Some(stop) => stop.end(),
            None => Ok(Some((Ended::Finished, String::new()))),
        }
    }

    /// Until the turn is over, the runtime is, or a stop comes.
    async fn listen(
        &self,
        under: &mut Under,
        events: &mut dyn RunEvents,
        inputs: &mut mpsc::Receiver<Told>,
        stop: &mut Stops,
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
                    told.give(&*under.control, self.always).await;
                    continue;
                }
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {
                    flush_at = None;
                    let text = under.translator.flush();
                    let pushing = self.push_all(text.into_iter().collect());
                    if let Some(stop) = self.heeding(pushing, under, inputs, stop).await? {
                        return Ok(Some(stop));
                    }
                    continue;
                }
                event = events.next() => event,
            };
            let Some(event) = event else { return Ok(None) };
            let event = self.allowed(event);
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
        stop: &mut Stops,
    ) -> Result<Option<Stop>, OutboxError> {
        if let RuntimeEvent::Session(session) = &event {
            under.session = Some(session.session.0.clone());
            let record = Record::Session(session.session.0.clone());
            let noting = self.outbox.note(self.key, record);
            if let Some(stop) = self.heeding(noting, under, inputs, stop).await? {
                return Ok(Some(stop));
            }
        }
        if let RuntimeEvent::Granted { id } = event {
            return self.granted(id, under, inputs, stop).await;
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
        self.heeding(self.push_all(said), under, inputs, stop).await
    }

    /// A tool that was granted runs once it is on the disk that it was called: else a crash would
    /// leave behind what it did and no word of it.
    async fn granted(
        &self,
        id: String,
        under: &mut Under,
        inputs: &mut mpsc::Receiver<Told>,
        stop: &mut Stops,
    ) -> Result<Option<Stop>, OutboxError> {
        let (text, mut kept) = (under.translator.flush(), false);
        let keeping = async {
            self.push_all(text.into_iter().collect()).await?;
            kept = self.is_kept().await?;
            Ok(())
        };
        if let Some(stop) = self.heeding(keeping, under, inputs, stop).await? {
            return Ok(Some(stop));
        }
        let error = (!kept).then(|| {
            let seconds = KEPT_MAX.as_secs();
            format!(
                "This was allowed, but did not run: the device could not write to its disk \
                 within {seconds} s that it was called. Nobody refused it."
            )
        });
        if let Some(error) = &error {
            tracing::error!(key = ?self.key, error, "a tool was refused");
        }
        // It may be over: the turn was interrupted meanwhile, or the runtime ended.
        if let Err(error) = under.control.tell(RunCommand::Kept { id, error }).await {
            tracing::debug!(key = ?self.key, %error, "a granted tool does not wait any more");
        }
        Ok(None)
    }

    /// Waits until all that was said is on the disk; not for ever, unless that is full.
    async fn is_kept(&self) -> Result<bool, OutboxError> {
        let mut settled = Box::pin(self.outbox.settle(self.key));
        loop {
            match timeout(KEPT_MAX, &mut settled).await {
                Ok(settled) => return settled.map(|()| true),
                Err(_) if self.outbox.is_disk_full(self.key) => {}
                Err(_) => return Ok(false),
            }
        }
    }

    /// Writes something; meanwhile inputs and a stop are heard, also when the outbox has no room
    /// and the runtime therefore waits.
    async fn heeding(
        &self,
        writing: impl Future<Output = Result<(), OutboxError>>,
        under: &Under,
        inputs: &mut mpsc::Receiver<Told>,
        stop: &mut Stops,
    ) -> Result<Option<Stop>, OutboxError> {
        let mut writing = Box::pin(writing);
        loop {
            tokio::select! {
                biased;
                written = &mut writing => return written.map(|()| None),
                Some(stop) = stop.recv() => return Ok(Some(stop)),
                Some(told) = inputs.recv() => told.give(&*under.control, self.always).await,
            }
        }
    }

    /// An event as this device's policy has it: "always" is not on offer where it does not count.
    fn allowed(&self, event: RuntimeEvent) -> RuntimeEvent {
        match event {
            RuntimeEvent::Approval(request) if !self.always => {
                RuntimeEvent::Approval(ApprovalRequest { always: None, ..request })
            }
            event => event,
        }
    }

    /// What the turn changed in the workspace. A workspace without git has no diff.
    async fn changes(&self, workspace: &Workspace) -> Option<troupe_executor::Diff> {
        let (execution, turn) = (self.job.execution, self.job.turn);
        let kept = workspace.keep(execution, Some(turn)).await;
        match kept {
            Ok(true) => match workspace.diff(execution, None, turn).await {
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
            if self.outbox.is_full_for(self.key, body.len()) {
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
        stop: &mut Stops,
    ) -> Result<Option<End>, OutboxError> {
        // It may have ended already.
        let _ = under.control.tell(RunCommand::Finish).await;
        let ending = async { while events.next().await.is_some() {} };
        if timeout(FINISH_MAX, ending).await.is_err() {
            under.control.stop().await;
        }
        match under.translator.standing() {
            Standing::Ended => Ok(Some((Ended::Finished, String::new()))),
            Standing::Interrupted => {
                let text = under.translator.flush();
                match self.say(text.into_iter().collect(), stop).await? {
                    Some(stop) => stop.end(),
                    None => Ok(Some((Ended::Cancelled, "interrupted".to_owned()))),
                }
            }
            Standing::Running | Standing::Waiting => {
                let (error, text) = (ErrorType::GenericError, "the runtime ended without a word");
                let failed = TurnEnd::Failed { error, text: text.to_owned() };
                let now = self.clock.now();
                let said = under.translator.event(RuntimeEvent::TurnEnded(failed), now);
                self.last_words(said, stop).await
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
            job.prompt = resume::prompt(&self.job.prompt, &self.fold.said);
        } else if again {
            tracing::info!(key = ?self.key, "there is no session to go on in: it starts anew");
        } else if job.session.is_none() {
            job.session = LastTurn::read(&self.bot_dir()).and_then(|last| last.session_for(&job));
        }
        let opened = self.workspaces.open(job.task, &job.workspace, &self.secrets).await;
        let workspace = opened.map_err(|error| (trouble(&error), chain(&error)))?;
        if !again && let Err(error) = workspace.keep(job.execution, None).await {
            tracing::warn!(%error, "the state before the turn was not kept");
        }
        // Of the Task, not of the Bot: two Bots with one Skill write the same.
        let skills = self.workspaces.task_dir(job.task).join("skills");
        self.unpack_skills(&mut job, &skills).await?;
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

    /// Puts the files of Skills that came as packages on the disk. A Skill whose package cannot be
    /// had is there with its text alone, and that is told.
    async fn unpack_skills(&self, job: &mut Job, dir: &Path) -> Result<(), (ErrorType, String)> {
        for skill in &mut job.skill_texts {
            let Some(hash) = &skill.package else { continue };
            check_skill(&skill.name)
                .map_err(|error| (ErrorType::InvalidParameter, chain(&error)))?;
            let Err(error) = self.packages.put(self.key, (hash, &skill.name), dir).await else {
                continue;
            };
            tracing::warn!(skill = %skill.name, %error, "a Skill is without its files");
            skill.package = None;
            let text =
                format!("the files of the Skill `{}` are missing: {}", skill.name, chain(&error));
            let told = self.push_all(vec![warning(text)]).await;
            told.map_err(|error| (ErrorType::GenericError, chain(&error)))?;
        }
        Ok(())
    }
}

/// A run that cannot go on is not begun a second time: it may have done something.
fn unknown() -> RunEvent {
    let text = "the device's agent ended while this ran, and a run of this kind cannot go on: what \
                it did is not known. Look at it; a retry runs it again";
    RunEvent::Failed { error: ErrorType::GenericError, text: text.to_owned() }
}

fn warning(text: String) -> RunEvent {
    RunEvent::Status(troupe_types::StatusFrame {
        phase: "warning".to_owned(),
        text: Some(text),
        ..Default::default()
    })
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
        _ => warning(text),
    };
    Bytes::from(serde_json::to_vec(&instead).unwrap_or_default())
}
