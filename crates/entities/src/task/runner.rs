//! Runners: the chat shell of one attempt, as a task of this activation.
//!
//! A runner lives as long as its attempt and its activation, whichever ends first. What it says
//! comes back as messages to the Task, bounded by permits that are held until the commit.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};
use troupe_actor::{TaskHandle, spawn_task};
use troupe_chat::{
    ChatOptions, ChatRun, ChatServices, Conversation, Gone, RunSink, run, variables,
};
use troupe_domain::task::{Command, Execution, HistoryItem, RunEvent, StepRecord, TeamPlan};
use troupe_sharding::{Crash, InternalSender};
use troupe_store::{BlobHash, Blobs};
use troupe_telemetry::trace;
use troupe_types::{Attempt, ErrorType, ExecutionId, TaskId, UsageFrame};

use super::{actor::TaskActor, effects::Effect, internal::TaskInternal, reads::Reader};

/// A provider's message above this is kept as a blob and named by its hash in the journal.
const RECORD_BYTES_MAX: usize = 128 * 1024;
/// Field of a record that names a blob instead of holding the value.
const BLOB_FIELD: &str = "$blob";

/// A live runner.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) attempt: Attempt,
    cancel: CancellationToken,
    _task: TaskHandle<()>,
}

impl Runner {
    /// Closes the wire to the model and drops its tools.
    pub(super) fn stop(&self) {
        self.cancel.cancel();
    }
}

impl TaskActor {
    /// A started attempt is committed: run it, unless it ended meanwhile.
    pub(super) fn spawn_runner(&mut self, execution: ExecutionId, attempt: Attempt) {
        self.starting.remove(&execution);
        self.unsettled = true;
        let known = self.state.id.zip(self.state.owner).zip(self.state.plan().cloned());
        let Some(((task, owner), plan)) = known else { return };
        let current = self.state.execution(execution);
        let Some(current) = current.filter(|e| e.attempt == attempt && e.state.is_live()) else {
            return;
        };
        if self.is_draining() {
            // It goes on elsewhere; nothing begins here any more.
            let _ = self.context.me.send(TaskInternal::RunnerGone { execution, attempt });
            return;
        }
        let cancel = self.context.stop.child_token();
        let (title, name) = (self.state.title.as_str(), self.state.owner_name.as_str());
        let job = Job {
            task,
            variables: variables::known(&plan, (task, title), (owner, name)),
            plan,
            execution: current.clone(),
            reader: self.reader(),
            chat: Arc::clone(&self.factory.chat),
            sink: Sink {
                execution,
                attempt,
                me: self.context.me.clone(),
                blobs: Arc::clone(&self.context.stores.blobs),
                draining: self.draining.clone(),
            },
            cancel: cancel.clone(),
        };
        let me = self.context.me.clone();
        let span = trace::child_of(
            self.traces.remove(&execution),
            || debug_span!("attempt", %task, %execution, attempt = attempt.0),
        );
        let work = async move {
            // The attempt's end is told also when the run panics.
            let _gone = TellGone { me, execution, attempt };
            job.run().await;
        };
        let handle = spawn_task("chat-run", work.instrument(span));
        self.runners.insert(execution, Runner { attempt, cancel, _task: handle });
    }

    /// Runners whose attempt is over have nothing to do any more.
    pub(super) fn stop_stale_runners(&mut self) {
        let state = &self.state;
        for (execution, runner) in &self.runners {
            let lives = state
                .execution(*execution)
                .is_some_and(|e| e.attempt == runner.attempt && e.state.is_live());
            if !lives {
                runner.stop();
            }
        }
    }

    pub(super) fn runner_said(
        &mut self,
        execution: ExecutionId,
        attempt: Attempt,
        event: RunEvent,
        permit: OwnedSemaphorePermit,
        committed: Option<oneshot::Sender<()>>,
    ) -> Result<(), Crash> {
        if let RunEvent::Output { pieces } = event {
            // Each attempt has its own: what one says late is not mixed with the next one's.
            let buffer = self.buffers.entry((execution, attempt)).or_default();
            let mut permit = Some(permit);
            for piece in pieces {
                buffer.push(piece, permit.take());
            }
            return Ok(());
        }
        self.flush_text((execution, attempt))?;
        let ends = matches!(event, RunEvent::Done { .. } | RunEvent::Failed { .. });
        self.run_event(execution, attempt, event)?;
        if ends {
            self.buffers.remove(&(execution, attempt));
        }
        self.defer(Effect::Permits(vec![permit]));
        if let Some(told) = committed {
            self.defer(Effect::Told(told));
        }
        Ok(())
    }

    /// A runner that ended without a word leaves its attempt to the next one.
    pub(super) fn runner_gone(
        &mut self,
        execution: ExecutionId,
        attempt: Attempt,
    ) -> Result<(), Crash> {
        if self.runners.get(&execution).is_some_and(|r| r.attempt == attempt) {
            self.runners.remove(&execution);
        }
        self.unsettled = true;
        self.flush_text((execution, attempt))?;
        self.buffers.remove(&(execution, attempt));
        let current = self.state.execution(execution);
        if current.is_some_and(|e| e.attempt == attempt && e.state.is_live()) {
            let planned = self.is_draining();
            let command = Command::Lost { execution, attempt, retry_at: None, planned };
            if let Err(refusal) = self.accept(command)? {
                tracing::warn!(%execution, %refusal, "a lost attempt was not closed");
            }
        }
        Ok(())
    }
}

struct TellGone {
    me: InternalSender<TaskInternal>,
    execution: ExecutionId,
    attempt: Attempt,
}

impl Drop for TellGone {
    fn drop(&mut self) {
        let (execution, attempt) = (self.execution, self.attempt);
        let _ = self.me.send(TaskInternal::RunnerGone { execution, attempt });
    }
}

struct Job {
    task: TaskId,
    /// What MCP entries may refer to.
    variables: Map<String, Value>,
    plan: Arc<TeamPlan>,
    execution: Execution,
    reader: Reader,
    chat: Arc<ChatServices>,
    sink: Sink,
    cancel: CancellationToken,
}

impl Job {
    async fn run(self) {
        let found = self.cancel.run_until_cancelled(self.conversation()).await;
        let Some(found) = found else { return };
        let conversation = match found {
            Ok(conversation) => conversation,
            Err(text) => {
                let error = ErrorType::GenericError;
                let _ = self.sink.event(RunEvent::Failed { error, text }).await;
                return;
            }
        };
        let run_of = ChatRun {
            task: self.task,
            execution: self.execution.id,
            attempt: self.execution.attempt,
            plan: self.plan,
            member: self.execution.member,
            work: self.execution.work,
            conversation,
            not_before: self.execution.retry_at,
            wait_code: self.execution.retry_code,
            options: ChatOptions { variables: self.variables, ..ChatOptions::default() },
        };
        run(run_of, &self.chat, &self.sink, self.cancel).await;
    }

    /// What was said before, from the journal and its archive.
    async fn conversation(&self) -> Result<Conversation, String> {
        let found = self.reader.conversation(&self.plan, self.execution.id).await;
        let found = found.map_err(|error| {
            tracing::error!(task = %self.task, %error, "the history cannot be read");
            "the task's history cannot be read; see the node's log".to_owned()
        })?;
        let mut conversation = found.ok_or("the task's history lacks this message")?;
        for record in &mut conversation.resume {
            self.sink.fetch(record).await?;
        }
        for item in &mut conversation.items {
            if let HistoryItem::OwnSteps { steps, .. } = item {
                for record in steps {
                    self.sink.fetch(record).await?;
                }
            }
        }
        Ok(conversation)
    }
}

/// Where the chat shell says what happens.
struct Sink {
    execution: ExecutionId,
    attempt: Attempt,
    me: InternalSender<TaskInternal>,
    blobs: Arc<dyn Blobs>,
    draining: CancellationToken,
}

impl Sink {
    async fn send(
        &self,
        event: RunEvent,
        committed: Option<oneshot::Sender<()>>,
    ) -> Result<(), Gone> {
        let permit = self.me.permit().await.ok_or(Gone)?;
        let (execution, attempt, event) = (self.execution, self.attempt, Box::new(event));
        let trace = trace::current();
        let message = TaskInternal::Run { execution, attempt, event, permit, committed, trace };
        if self.me.send(message) { Ok(()) } else { Err(Gone) }
    }

    /// Large values leave the record.
    async fn store(&self, record: &mut StepRecord) -> Result<(), Gone> {
        let value = value_of(record);
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        if bytes.len() <= RECORD_BYTES_MAX {
            return Ok(());
        }
        let hash = self.blobs.put(bytes.into()).await.map_err(|error| {
            tracing::warn!(%error, "a large step could not be stored");
            Gone
        })?;
        *value = serde_json::json!({ BLOB_FIELD: hash.to_string() });
        Ok(())
    }

    async fn fetch(&self, record: &mut StepRecord) -> Result<(), String> {
        let value = value_of(record);
        let Some(text) = value.get(BLOB_FIELD).and_then(Value::as_str) else { return Ok(()) };
        let lost = |what: &str| format!("a stored step cannot be read ({what})");
        let hash: BlobHash = text.parse().map_err(|_| lost("its name is damaged"))?;
        let bytes = self.blobs.get(hash).await.map_err(|e| lost(&e.to_string()))?;
        let bytes = bytes.ok_or_else(|| lost("it is gone"))?;
        *value = serde_json::from_slice(&bytes).map_err(|_| lost("it is damaged"))?;
        Ok(())
    }
}

const fn value_of(record: &mut StepRecord) -> &mut Value {
    match record {
        StepRecord::Model { message, .. } => message,
        StepRecord::Tool { result, .. } => result,
    }
}

#[async_trait]
impl RunSink for Sink {
    async fn event(&self, event: RunEvent) -> Result<(), Gone> {
        self.send(event, None).await
    }

    async fn step(&self, mut record: StepRecord, usage: Option<UsageFrame>) -> Result<(), Gone> {
        self.store(&mut record).await?;
        let (told, committed) = oneshot::channel();
        self.send(RunEvent::Step { record, usage }, Some(told)).await?;
        committed.await.map_err(|_| Gone)?;
        // A planned move ends the run here: the step is kept, the next owner goes on.
        if self.draining.is_cancelled() { Err(Gone) } else { Ok(()) }
    }

    async fn leaving(&self) {
        self.draining.cancelled().await;
    }
}
