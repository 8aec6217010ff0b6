//! The live activation of a Task.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use troupe_actor::{TaskHandle, spawn_task};
use troupe_domain::task::{Ack, Command, Context, Refusal, RunEvent, TaskEntry, TaskState, decide};
use troupe_sharding::{Crash, Entity, EntityContext, FailedAsk, FrameSink, Reply};
use troupe_store::{AppendError, OpenError};
use troupe_telemetry::{TraceParent, trace};
use troupe_types::{
    Attempt, ErrorType, ExecutionId, Frame, OutSeq, Place, Timestamp, Uuid, limits,
};

use super::{
    ask::{SubscribeAsk, SubscribeReply, TaskAsk, TaskReply},
    asks::AskTimer,
    device::Said,
    effects::Effect,
    factory::TaskFactory,
    internal::TaskInternal,
    job::is_kept,
    last_line::LastLine,
    measure::Measure,
    place::Placing,
    projection::Projector,
    reads::Read,
    recover,
    runner::Runner,
    slots::Slot,
    snapshot::Snapshots,
    text::TextBuffer,
    view::Public,
    window::{Held, Window},
};
use crate::{
    codec,
    commit::{Abandoned, Committer},
};

/// One conversation, live.
#[derive(Debug)]
pub struct TaskActor {
    pub(super) context: EntityContext<TaskInternal>,
    pub(super) factory: TaskFactory,
    pub(super) commits: Committer<Effect>,
    /// The speculative fold: what decisions lean on.
    pub(super) state: TaskState,
    /// What is committed and may be told.
    pub(super) public: Arc<Public>,
    pub(super) window: Window,
    pub(super) followers: Vec<FrameSink>,
    pub(super) runners: BTreeMap<ExecutionId, Runner>,
    pub(super) buffers: BTreeMap<(ExecutionId, Attempt), TextBuffer>,
    pub(super) slot: Slot,
    pub(super) snapshots: Snapshots,
    pub(super) projector: Projector,
    /// Set while something is asked that ends by itself.
    pub(super) ask_timer: Option<AskTimer>,
    /// Attempts whose `Start` is staged but not yet committed.
    pub(super) starting: BTreeMap<ExecutionId, Attempt>,
    /// Queued attempts for which a device is looked for, or will be again.
    pub(super) placing: BTreeMap<ExecutionId, Placing>,
    /// Says whether its container stays; the newest word counts.
    pub(super) keeping: Option<TaskHandle<()>>,
    /// Which traces led to executions that wait to be run.
    pub(super) traces: BTreeMap<ExecutionId, TraceParent>,
    pub(super) measure: Measure,
    pub(super) last_line: LastLine,
    /// Whether attempts of an earlier activation were looked after.
    pub(super) recovered: bool,
    /// Cancelled once it drains: runs that only wait leave at once, the others after their step.
    pub(super) draining: CancellationToken,
    /// Something changed that [`reconcile`](Self::reconcile) leans on; text does not.
    pub(super) unsettled: bool,
}

impl TaskActor {
    /// Reads snapshot and tail; fences older activations; writes nothing.
    pub(super) async fn activate(
        factory: TaskFactory,
        context: EntityContext<TaskInternal>,
    ) -> Result<Self, Crash> {
        let mut opened =
            context.stores.journal.open(context.id, context.epoch).await.map_err(open_crash)?;
        let (state, window) = recover::fold(&mut opened, context.id)?;
        let entries = opened.head.0 - window.snapshot().0;
        let journal = Arc::clone(&context.stores.journal);
        let commits = Committer::new(journal, Arc::new(opened));
        let public = Arc::new(Public::of(&state, factory.options.restored));
        let mut last_line = LastLine::default();
        for held in window.entries() {
            last_line.committed(&held.entry);
        }
        Ok(Self {
            snapshots: Snapshots::new(&factory.options, entries, window.bytes()),
            context,
            factory,
            commits,
            state,
            public,
            window,
            followers: Vec::new(),
            runners: BTreeMap::new(),
            buffers: BTreeMap::new(),
            slot: Slot::default(),
            projector: Projector::default(),
            ask_timer: None,
            starting: BTreeMap::new(),
            placing: BTreeMap::new(),
            keeping: None,
            traces: BTreeMap::new(),
            measure: Measure::default(),
            last_line,
            recovered: false,
            draining: CancellationToken::new(),
            unsettled: true,
        })
    }

    fn team_name(&self) -> &str {
        self.state.team.as_ref().map_or("", |(_, name)| name)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Decides, folds and stages; the answer is to be told after the commit.
    pub(super) fn accept(&mut self, command: Command) -> Result<Result<Ack, Refusal>, Crash> {
        let now = self.context.clock.now();
        let mut ids = || fresh_uuid(now);
        let asks_expire_after = self.factory.options.asks_expire_after;
        let mut context = Context { now, ids: &mut ids, asks_expire_after };
        let decision = match decide(&self.state, command, &mut context) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(entry) = decision.entry else { return Ok(Ok(decision.ack)) };
        let body = codec::encode_entry(&entry).map_err(|error| Crash {
            reason: format!("an entry cannot be encoded: {error}"),
            blameless: false,
        })?;
        if body.len() > limits::ENTRY_BYTES_MAX {
            // The store would refuse it, and everything that is staged would go with it.
            let message = format!("this takes {} bytes in one piece", body.len());
            return Ok(Err(Refusal::Invalid { field: "entry".to_owned(), message }));
        }
        self.stage(entry, body)?;
        Ok(Ok(decision.ack))
    }

    fn stage(&mut self, entry: TaskEntry, body: Bytes) -> Result<(), Crash> {
        let first_frame = self.state.next_frame;
        self.unsettled |= !entry.events.is_empty();
        let public = Public::is_touched_by(&entry);
        self.state.apply(&entry);
        let wake = self.projector.wake_for(&entry, public, &self.state, &self.context);
        let frames = u32::try_from(entry.frames.len()).unwrap_or(u32::MAX);
        let bytes = body.len();
        let mut effects = Vec::with_capacity(2);
        if public {
            effects.push(Effect::Public(Arc::new(Public::of(
                &self.state,
                self.factory.options.restored,
            ))));
        }
        let seq = self.commits.stage(first_frame, frames, body, wake, effects);
        let held = Held { seq, bytes, entry: Arc::new(entry) };
        self.defer(Effect::Committed(held));
        if let Some(state) = self.snapshots.capture(seq, bytes, &self.state) {
            self.defer(Effect::Snapshot(seq, state?));
        }
        Ok(())
    }

    /// Reads see what is committed, so they never wait; this is for what saw more.
    ///
    /// Puts an effect behind all that is staged; runs it now if nothing is.
    pub(super) fn defer(&mut self, effect: Effect) {
        if let Some(now) = self.commits.after(effect) {
            self.run_effects(vec![now]);
        }
    }

    /// Spawns the next append, if there is one to spawn.
    fn pump(&mut self) {
        while let Some(job) = self.commits.pump() {
            let me = self.context.me.clone();
            spawn_task("task-append", async move {
                let appended = job.await;
                let _ = me.send(TaskInternal::Appended(appended));
            });
        }
    }

    fn appended(&mut self, appended: crate::commit::Appended) -> Result<(), Crash> {
        match self.commits.finished(appended) {
            Ok(effects) => {
                self.run_effects(effects);
                Ok(())
            }
            Err((error, abandoned)) => Err(append_failed(&error, abandoned)),
        }
    }

    pub(super) fn run_effects(&mut self, effects: Vec<Effect>) {
        let mut frames: Vec<Frame> = Vec::new();
        for effect in effects {
            if !matches!(effect, Effect::Committed(_) | Effect::Permits(_) | Effect::Public(_)) {
                self.fan_out(std::mem::take(&mut frames));
            }
            match effect {
                Effect::Committed(held) => {
                    let now = self.context.clock.mono();
                    self.measure.committed(&held.entry, now);
                    if self.last_line.committed(&held.entry) && self.last_line.is_due(now) {
                        self.tell_lists();
                    }
                    if !self.followers.is_empty() {
                        frames.extend(held.entry.frames.iter().cloned());
                    }
                    self.window.push(held);
                }
                Effect::Public(public) => {
                    self.notify(&public);
                    let keeps = is_kept(&public.view.labels);
                    if keeps != is_kept(&self.public.view.labels) && self.public.exists {
                        self.keep_container(keeps);
                    }
                    self.public = public;
                    self.projector.touch();
                }
                Effect::Reply(reply, Ok(body)) => reply.ok(body),
                Effect::Reply(reply, Err(why)) => reply.refuse(why),
                Effect::Told(told) => {
                    let _ = told.send(());
                }
                Effect::Permits(_) => {}
                Effect::Poke(device, execution, attempt) => self.poke(device, execution, attempt),
                Effect::Place(execution, attempt) => self.search(execution, attempt),
                Effect::Spawn(execution, attempt) => self.spawn_runner(execution, attempt),
                Effect::Snapshot(upto, state) => self.write_snapshot(upto, state),
            }
        }
        self.fan_out(frames);
    }

    fn fan_out(&mut self, frames: Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let batch: Arc<[Frame]> = frames.into();
        self.followers.retain(|sink| sink.offer(Arc::clone(&batch)));
    }

    fn follow(&mut self, after: troupe_types::FrameSeq, sink: FrameSink, reply: Reply) {
        // As in reads, what is not committed is not there yet.
        if self.public.view_exists().is_none() || self.public.deleted {
            reply.refuse(failed(&Refusal::NotFound));
            return;
        }
        let head = self.window.head();
        let missing = self.window.frames_after(after);
        let following = missing.is_some();
        let answer = SubscribeReply { log: self.public.view.log, head, following };
        if missing.is_some_and(|frames| frames.is_empty() || sink.offer(frames.into())) {
            self.followers.push(sink);
        }
        respond(reply, &answer);
    }

    /// Level-triggered: compares what the state wants with what there is, until they agree.
    pub(super) fn reconcile(&mut self) -> Result<(), Crash> {
        self.stop_stale_runners();
        self.tend_slot();
        self.drop_stale_placings();
        if self.is_draining() {
            return Ok(());
        }
        self.tend_asks();
        let queued = self.state.queued_attempts();
        self.note_traces(&queued);
        for (execution, attempt, shell) in queued {
            if self.starting.contains_key(&execution) {
                continue;
            }
            let on_device = shell != "Chat";
            if on_device && !self.lacks_slot(execution, attempt) {
                self.place(execution, attempt);
                continue;
            }
            if self.slot.is_undecided() {
                continue;
            }
            let command = match self.slot.wait(self.team_name()) {
                None if on_device => {
                    self.place(execution, attempt);
                    continue;
                }
                None => Command::Start { execution, attempt, place: Place::Cluster },
                wait => Command::Waiting { execution, attempt, wait },
            };
            let starts = matches!(command, Command::Start { .. });
            if self.accept(command)?.is_ok() && starts {
                self.starting.insert(execution, attempt);
                self.defer(Effect::Spawn(execution, attempt));
            }
        }
        Ok(())
    }

    /// What is queued first while a message is handled belongs to the message's trace.
    fn note_traces(&mut self, queued: &[(ExecutionId, Attempt, String)]) {
        // One that is starting is run once its start is committed.
        let starting = &self.starting;
        self.traces.retain(|execution, _| {
            starting.contains_key(execution)
                || queued.iter().any(|(queued, ..)| queued == execution)
        });
        if let Some(here) = trace::current() {
            for (execution, ..) in queued {
                self.traces.entry(*execution).or_insert(here);
            }
        }
    }

    fn settle(&mut self) -> Result<(), Crash> {
        if std::mem::take(&mut self.unsettled) {
            self.reconcile()?;
        }
        self.flush_ready_text()?;
        self.project();
        self.pump();
        Ok(())
    }

    /// Buffered text leaves when nothing of this Task is in flight, or when there is much of it.
    fn flush_ready_text(&mut self) -> Result<(), Crash> {
        let idle = self.commits.is_settled();
        let ready: Vec<(ExecutionId, Attempt)> = self
            .buffers
            .iter()
            .filter(|(_, b)| !b.is_empty() && (idle || b.is_full()))
            .map(|(id, _)| *id)
            .collect();
        ready.into_iter().try_for_each(|of| self.flush_text(of))
    }

    pub(super) fn flush_text(&mut self, of: (ExecutionId, Attempt)) -> Result<(), Crash> {
        let Some(buffer) = self.buffers.get_mut(&of).filter(|b| !b.is_empty()) else {
            return Ok(());
        };
        let (execution, attempt) = of;
        let (pieces, permits) = buffer.take();
        self.run_event(execution, attempt, RunEvent::Output { pieces })?;
        self.defer(Effect::Permits(permits));
        Ok(())
    }

    pub(super) fn run_event(
        &mut self,
        execution: ExecutionId,
        attempt: Attempt,
        event: RunEvent,
    ) -> Result<(), Crash> {
        self.numbered_event(execution, attempt, OutSeq::ZERO, event)
    }

    pub(super) fn numbered_event(
        &mut self,
        execution: ExecutionId,
        attempt: Attempt,
        out_seq: OutSeq,
        event: RunEvent,
    ) -> Result<(), Crash> {
        let run = |event| Command::Run { execution, attempt, out_seq, event };
        let Err(refusal) = self.accept(run(event))? else { return Ok(()) };
        tracing::debug!(%execution, %attempt, %refusal, "a runner's word was not taken");
        if matches!(refusal, Refusal::Invalid { .. }) {
            // It cannot be left out either: what follows would lean on it.
            let error = ErrorType::PayloadTooLarge;
            let text = format!("a step cannot be kept: {refusal}");
            if let Err(refusal) = self.accept(run(RunEvent::Failed { error, text }))? {
                tracing::warn!(%execution, %attempt, %refusal, "a failure was not taken");
            }
        }
        Ok(())
    }

    fn command(&mut self, command: Command, reply: Reply) -> Result<(), Crash> {
        self.recover_once()?;
        if matches!(command, Command::Cancel | Command::Delete) {
            // What was said before the end is no late output.
            let all: Vec<_> = self.buffers.keys().copied().collect();
            all.into_iter().try_for_each(|of| self.flush_text(of))?;
        }
        let pokes = self.pokes_of(&command);
        let answer = match self.accept(command)? {
            Ok(ack) => Ok(encode(&TaskReply::Ack { ack })),
            Err(refusal) => Err(failed(&refusal)),
        };
        self.defer(Effect::Reply(reply, answer));
        for (device, execution, attempt) in pokes {
            self.defer(Effect::Poke(device, execution, attempt));
        }
        Ok(())
    }

    /// What a device did between the backup and the restore was acknowledged, and is gone.
    fn end_unrestored(&mut self, execution: ExecutionId, attempt: Attempt) -> Result<(), Crash> {
        let text = "the cluster was restored from a backup, and what the device did since is not \
                    in it: retry it, there or elsewhere";
        let (error, text) = (ErrorType::Lost, text.to_owned());
        let command = Command::DeviceLost { execution, attempt, error, text, anew: false };
        if let Err(refusal) = self.accept(command)? {
            tracing::warn!(%execution, %refusal, "an attempt of before a restore was not closed");
        }
        Ok(())
    }

    /// Attempts that an earlier activation ran have no runner any more.
    pub(super) fn recover_once(&mut self) -> Result<(), Crash> {
        if std::mem::replace(&mut self.recovered, true) {
            return Ok(());
        }
        for (execution, attempt) in self.state.live_attempts() {
            // A question may have come first, and with it the start of what was queued.
            let is_ours = self.starting.get(&execution) == Some(&attempt)
                || self.runners.get(&execution).is_some_and(|runner| runner.attempt == attempt);
            if is_ours {
                continue;
            }
            let device = self.state.execution(execution).and_then(|e| e.device.as_ref());
            if let Some((device, restored)) = device.map(|run| (run.device, run.restored)) {
                // It goes on where it is; its device says when it does not.
                if restored != self.factory.options.restored {
                    self.end_unrestored(execution, attempt)?;
                    self.defer(Effect::Poke(device, execution, attempt));
                }
                continue;
            }
            tracing::info!(entity = %self.context.id, %execution, %attempt, "resuming a run");
            let command = Command::Lost { execution, attempt, retry_at: None, planned: false };
            if let Err(refusal) = self.accept(command)? {
                tracing::warn!(%execution, %refusal, "a lost attempt was not closed");
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Entity for TaskActor {
    type Internal = TaskInternal;

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        let ask: TaskAsk = match serde_json::from_slice(&body) {
            Ok(ask) => ask,
            Err(_) => {
                reply.refuse(FailedAsk {
                    code: "unknown_ask".into(),
                    message: "this node does not understand the question".into(),
                    detail: None,
                });
                return Ok(());
            }
        };
        match ask {
            TaskAsk::Command { command } => self.command(*command, reply)?,
            TaskAsk::Confirm { key, message } => self.look_up_handoff(key, message, reply),
            TaskAsk::DeviceOutput { execution, attempt, token, first, events } => {
                let said = Said { execution, attempt, token, first };
                self.device_output(&said, events, reply)?;
            }
            TaskAsk::DeviceCheck { execution, attempt, token } => {
                self.device_check(execution, attempt, &token, reply);
            }
            TaskAsk::DeviceEnded { execution, attempt, token, gone } => {
                self.device_ended(execution, attempt, &token, gone, reply)?;
            }
            TaskAsk::SlotChanged => {
                self.slot.ask_again();
                self.unsettled = true;
                respond(reply, &TaskReply::Ack { ack: Ack::Ok });
            }
            TaskAsk::View => self.start_read(Read::View, reply),
            TaskAsk::Join { turns, after_message_id } => {
                self.start_read(Read::Join { turns, after_message_id }, reply);
            }
            TaskAsk::Turns { before, limit } => {
                self.start_read(Read::Turns { before, limit }, reply);
            }
            TaskAsk::Frames { after, limit } => {
                self.start_read(Read::Frames { after, limit }, reply);
            }
            TaskAsk::Raw { after, limit } => {
                self.start_read(Read::Raw { after, limit }, reply);
            }
            TaskAsk::Why => self.start_read(Read::Why, reply),
            TaskAsk::Asks => self.start_read(Read::Asks, reply),
        }
        self.settle()
    }

    async fn subscribe(&mut self, body: Bytes, sink: FrameSink, reply: Reply) -> Result<(), Crash> {
        self.followers.retain(|f| !f.is_closed());
        match serde_json::from_slice::<SubscribeAsk>(&body) {
            Ok(ask) => self.follow(ask.after, sink, reply),
            Err(_) => reply.fail(troupe_sharding::AskError::NotDelivered),
        }
        self.settle()
    }

    async fn internal(&mut self, message: TaskInternal) -> Result<(), Crash> {
        match message {
            TaskInternal::Appended(appended) => self.appended(appended)?,
            TaskInternal::Run { execution, attempt, event, permit, committed, trace } => {
                // A text that leaves later, with others, leaves outside of the trace.
                return trace::within(trace, || {
                    self.runner_said(execution, attempt, *event, permit, committed)?;
                    self.settle()
                });
            }
            TaskInternal::RunnerGone { execution, attempt } => {
                self.runner_gone(execution, attempt)?;
            }
            TaskInternal::Slot(answer) => {
                self.slot.answered(answer);
                self.unsettled = true;
            }
            TaskInternal::SlotReleased => {
                self.slot.released();
                self.unsettled = true;
            }
            TaskInternal::SlotTimer => {
                self.slot.timer_fired();
                self.unsettled = true;
            }
            TaskInternal::Placed { execution, attempt, outcome } => {
                self.placed(execution, attempt, outcome)?;
            }
            TaskInternal::PlaceAgain { execution } => self.place_again(execution),
            TaskInternal::Snapshot { upto, result } => self.snapshot_written(upto, result)?,
            TaskInternal::Projected { seq, asks, result } => self.projected(seq, asks, result),
            TaskInternal::ConfirmReady { key, message, original, previous, reply } => {
                self.command(Command::Confirm { key, message, original, previous }, reply)?;
            }
            TaskInternal::Tidied => self.tidied(),
            TaskInternal::AsksDue => self.asks_due()?,
        }
        self.settle()
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        self.recover_once()?;
        self.projector.touch();
        self.projector.look_for_older_rows();
        self.settle()
    }

    fn is_idle(&self) -> bool {
        self.runners.is_empty()
            && self.commits.is_settled()
            && self.snapshots.is_idle()
            && self.projector.is_idle()
            && self.followers.iter().all(FrameSink::is_closed)
            && self.buffers.values().all(TextBuffer::is_empty)
            && self.slot.is_settled()
            && self.placing.is_empty()
            && self.ask_timer.is_none()
    }

    fn is_running(&self) -> bool {
        !self.runners.is_empty()
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        self.draining.cancel();
        for follower in self.followers.drain(..) {
            follower.end();
        }
        self.unsettled = true;
        self.settle()
    }

    async fn close(&mut self) {
        for runner in self.runners.values() {
            runner.stop();
        }
        for follower in self.followers.drain(..) {
            follower.end();
        }
        self.release_slot();
    }
}

/// Nothing uncommitted survives a failed append. Askers are told that nothing happened if that
/// is certain; else their dropped replies say that the outcome is unknown.
fn append_failed(error: &AppendError, abandoned: Abandoned<Effect>) -> Crash {
    let nothing_happened = match error {
        AppendError::Full => Some("the data directory is full; free some room and repeat"),
        AppendError::Unavailable { .. } => Some("the store is not available; repeat later"),
        _ => None,
    };
    for effect in abandoned.since {
        if let (Some(message), Effect::Reply(reply, _)) = (nothing_happened, effect) {
            reply.refuse(store_refusal(message));
        }
    }
    Crash { reason: format!("an append failed: {error}"), blameless: true }
}

fn fresh_uuid(now: Timestamp) -> Uuid {
    troupe_types::MessageId::new(now).uuid()
}

pub(super) fn encode<T: serde::Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}

pub(super) fn respond<T: serde::Serialize>(reply: Reply, value: &T) {
    reply.ok(encode(value));
}

pub(super) fn failed(refusal: &Refusal) -> FailedAsk {
    FailedAsk {
        code: "refused".into(),
        message: refusal.to_string(),
        detail: serde_json::to_string(refusal).ok(),
    }
}

fn store_refusal(message: &str) -> FailedAsk {
    FailedAsk { code: "store".into(), message: message.into(), detail: None }
}

fn open_crash(error: OpenError) -> Crash {
    // A corrupt journal is loud in the log and stays closed; it is nobody's message's fault.
    if matches!(error, OpenError::Corrupt { .. }) {
        tracing::error!(%error, "a journal is corrupt");
    }
    Crash { reason: format!("the journal could not be opened: {error}"), blameless: true }
}
