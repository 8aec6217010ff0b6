//! What the cluster has for runs: written, given, answered.

use std::{collections::BTreeSet, time::Duration};

use ractor::ActorRef;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use troupe_actor::{TaskHandle, spawn_task};
use troupe_executor::Decision;
use troupe_types::Uuid;
use troupe_wire::device::{AttemptKey, DeviceFrame, Input, InputAnswer, InputFate, InputKind};

use super::{
    actor::{AgentMsg, AgentState, Done},
    work::SAY_MAX,
};
use crate::{
    execution::ExecutorMsg,
    outbox::{Ended, Outbox, OutboxError, Record, StoredInput},
};

/// How long a run may take to take an input.
const INPUT_MAX: Duration = Duration::from_secs(15);
/// Inputs of one attempt that wait for room on the disk. More come again at the next link.
const HELD_MAX: usize = 16;
const OVER: &str = "it is over here";

/// Inputs of one attempt that wait for room on the disk, in their order.
#[derive(Debug)]
pub(super) struct Held {
    queue: mpsc::Sender<Input>,
    ids: BTreeSet<Uuid>,
    #[expect(dead_code, reason = "held for its drop: it must not outlive the agent")]
    task: TaskHandle,
}

impl Held {
    fn new(outbox: Outbox, me: ActorRef<AgentMsg>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Input>(HELD_MAX);
        let task = spawn_task("held inputs", async move {
            while let Some(input) = waiting.recv().await {
                let noted = outbox.note(input.key, record(&input)).await;
                if me.send_message(AgentMsg::Noted { input, noted }).is_err() {
                    return;
                }
            }
        });
        Self { queue, ids: BTreeSet::new(), task: task.abort_on_drop() }
    }
}

/// Whether an approval holds for the whole Task.
fn is_always(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|decision: Decision| decision == Decision::AllowAlways)
}

fn record(input: &Input) -> Record {
    let cancel = input.kind == InputKind::Cancel;
    let always = input.kind == InputKind::Approval && is_always(&input.body);
    let always = always.then(|| input.name.clone());
    Record::Input(StoredInput { id: input.id, cancel, always })
}

impl AgentState {
    pub(super) async fn input(&mut self, me: &ActorRef<AgentMsg>, input: Input) -> Done {
        let (key, id) = (input.key, input.id);
        let fold = match self.args.outbox.fold(key).await {
            Ok(fold) if fold.ended.is_none() && !self.unwritten.contains_key(&key) => fold,
            Ok(_) | Err(OutboxError::Unknown) => {
                self.answer(key, id, InputFate::Gone, OVER).await;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if fold.inputs.contains(&id) {
            self.answer(key, id, InputFate::Taken, "").await;
            return Ok(());
        }
        let cancel = input.kind == InputKind::Cancel;
        if !cancel && self.held.contains_key(&key) {
            self.hold(me, input);
            return Ok(());
        }
        match self.args.outbox.note_now(key, record(&input)).await {
            Ok(()) if cancel => {
                self.answer(key, id, InputFate::Taken, "").await;
                self.cancel(key).await?;
            }
            Ok(()) => self.give(input).await,
            Err(error) if cancel => {
                // Unanswered, so that it comes again. It counts all the same.
                tracing::error!(?key, %error, "a cancel was not written");
                self.mark_ended(key, Ended::Cancelled).await;
                self.cancel(key).await?;
            }
            Err(OutboxError::Full) => {
                tracing::warn!(?key, "the disk is full: an input waits");
                self.hold(me, input);
            }
            // Unanswered, so that it comes again if the attempt goes on.
            Err(error) => tracing::error!(?key, %error, "an input was not written"),
        }
        Ok(())
    }

    /// Keeps an input until there is room for it. The cluster says it once for each link.
    fn hold(&mut self, me: &ActorRef<AgentMsg>, input: Input) {
        let (key, id) = (input.key, input.id);
        let outbox = &self.args.outbox;
        let held = self.held.entry(key).or_insert_with(|| Held::new(outbox.clone(), me.clone()));
        if !held.ids.contains(&id) && held.queue.try_send(input).is_ok() {
            held.ids.insert(id);
        }
    }

    /// There was room for an input, or there will be none.
    pub(super) async fn noted(&mut self, input: Input, noted: Result<(), OutboxError>) {
        let key = input.key;
        // Of one that is forgotten nothing is answered.
        let Some(held) = self.held.get_mut(&key) else { return };
        held.ids.remove(&input.id);
        if held.ids.is_empty() {
            self.held.remove(&key);
        }
        match noted {
            Ok(()) if self.unwritten.contains_key(&key) => {
                self.answer(key, input.id, InputFate::Gone, OVER).await;
            }
            Ok(()) => self.give(input).await,
            Err(error) => tracing::error!(?key, %error, "an input was not written"),
        }
    }

    /// Gives an input that is on the disk to its run.
    async fn give(&self, input: Input) {
        let Input { key, id, kind, name, body } = input;
        let Some(run) = self.running.get(&key) else {
            self.answer(key, id, InputFate::Gone, "it waits to go on after a restart").await;
            return;
        };
        let (reply, told) = oneshot::channel();
        // One that is ending drops it, and with it the reply: it is gone.
        let _ = run.actor.send_message(ExecutorMsg::Input { kind, name, body, reply });
        let out = self.args.out.clone();
        drop(spawn_task("input", async move {
            let answer = timeout(INPUT_MAX, told).await;
            let over = || (InputFate::Gone, "the run is over".to_owned());
            let (fate, message) = answer.ok().and_then(Result::ok).unwrap_or_else(over);
            let answer = InputAnswer { key, id, fate, message };
            // Without a link it is asked again.
            let _ = timeout(SAY_MAX, out.send(DeviceFrame::InputAnswer(answer))).await;
        }));
    }

    async fn cancel(&mut self, key: AttemptKey) -> Done {
        match self.running.get(&key) {
            Some(run) => run.stop(true),
            None => {
                self.wanting.remove(&key);
                self.pending.remove(&key);
                self.end(key, Ended::Cancelled, String::new()).await?;
            }
        }
        Ok(())
    }

    async fn answer(&self, key: AttemptKey, id: Uuid, fate: InputFate, message: &str) {
        let answer = InputAnswer { key, id, fate, message: message.to_owned() };
        self.say(DeviceFrame::InputAnswer(answer)).await;
    }
}
