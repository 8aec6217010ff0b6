//! How attempts end on this device, and how that is told until they are forgotten.

use troupe_types::OutSeq;
use troupe_wire::device::{AttemptKey, DeviceFrame, Ended as EndedFrame, EndedHow, ExecutionState};

use super::actor::{AgentState, Done};
use crate::outbox::{Ended, OutboxError, Record};

/// An end that is not in its log. It is kept in memory and said at every link; a mark beside the log
/// keeps the next start from going on.
#[derive(Clone, Debug)]
pub(super) struct Unwritten {
    how: Ended,
    /// The last output that can be told.
    last: OutSeq,
    text: String,
    /// Whatever its log says, it cannot be told.
    damaged: bool,
}

const fn how(ended: Ended) -> EndedHow {
    match ended {
        Ended::Finished => EndedHow::Finished,
        Ended::Cancelled => EndedHow::Cancelled,
        Ended::Lost => EndedHow::Lost,
    }
}

impl AgentState {
    /// A link came up: all ends are said again.
    pub(super) async fn say_ends(&mut self) -> Done {
        for key in self.args.outbox.attempts() {
            let ended = self.args.outbox.marks(key).is_some_and(|marks| marks.borrow().ended);
            if ended && !self.unwritten.contains_key(&key) {
                self.say_ended(key).await?;
            }
        }
        for (key, end) in self.unwritten.clone() {
            if self.running.contains_key(&key) {
                // It is stopping.
            } else if end.damaged {
                self.say_unwritten(key).await;
            } else {
                // There may be room by now.
                self.end(key, end.how, end.text).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn say_ended(&self, key: AttemptKey) -> Done {
        let fold = match self.args.outbox.fold(key).await {
            Err(OutboxError::Unknown) => return Ok(()),
            fold => fold?,
        };
        let Some((ended, message)) = fold.ended else { return Ok(()) };
        let (last, how) = (fold.last, how(ended));
        self.say(DeviceFrame::Ended(EndedFrame { key, last, how, message })).await;
        Ok(())
    }

    async fn say_unwritten(&self, key: AttemptKey) {
        let Some(end) = self.unwritten.get(&key).cloned() else { return };
        let (last, how, message) = (end.last, how(end.how), end.text);
        self.say(DeviceFrame::Ended(EndedFrame { key, last, how, message })).await;
    }

    /// Writes and says how an attempt ended, of which nothing runs.
    pub(super) async fn end(&mut self, key: AttemptKey, how: Ended, text: String) -> Done {
        match self.args.outbox.note_now(key, Record::Ended(how, text.clone())).await {
            Ok(()) => {
                self.unwritten.remove(&key);
                self.say_ended(key).await
            }
            Err(OutboxError::Unknown) => {
                self.unwritten.remove(&key);
                Ok(())
            }
            Err(error) => {
                tracing::error!(?key, %error, "the end of an execution was not written");
                let durable = self.args.outbox.marks(key).map(|marks| marks.borrow().durable);
                let last = durable.unwrap_or(OutSeq::ZERO);
                self.keep_unwritten(key, Unwritten { how, last, text, damaged: false }).await;
                self.say_unwritten(key).await;
                Ok(())
            }
        }
    }

    async fn keep_unwritten(&mut self, key: AttemptKey, end: Unwritten) {
        self.mark_ended(key, end.how).await;
        self.args.outbox.set_state(key, ExecutionState::Ended);
        self.unwritten.insert(key, end);
    }

    /// The next start does not go on with it.
    pub(super) async fn mark_ended(&self, key: AttemptKey, how: Ended) {
        if let Err(error) = self.args.outbox.mark_ended(key, how).await {
            tracing::error!(?key, %error, "a restart may go on with an execution that ended");
        }
    }

    /// What an attempt had said is not (all) here any more: it stops, if it runs, and is lost.
    pub(super) async fn damaged(&mut self, key: AttemptKey) {
        if self.unwritten.get(&key).is_some_and(|end| end.damaged) {
            return;
        }
        let Some(marks) = self.args.outbox.marks(key) else { return };
        // Nothing after it is waited for.
        let last = marks.borrow().acked;
        let text = "the device's disk lost output of it".to_owned();
        self.keep_unwritten(key, Unwritten { how: Ended::Lost, last, text, damaged: true }).await;
        if let Some(run) = self.running.get(&key) {
            // Said when it is gone.
            run.stop(false);
            return;
        }
        self.wanting.remove(&key);
        self.pending.remove(&key);
        self.say_unwritten(key).await;
    }

    /// Says how an attempt ended whose executor is gone; `crash`: why it gave up.
    pub(super) async fn ended(&mut self, key: AttemptKey, crash: Option<String>) -> Done {
        if self.unwritten.contains_key(&key) {
            self.say_unwritten(key).await;
            return Ok(());
        }
        match crash {
            Some(_) if self.going_down => Ok(()),
            Some(error) => {
                tracing::error!(?key, %error, "an executor ended before its run");
                self.end(key, Ended::Lost, format!("the device gave it up: {error}")).await
            }
            None => {
                let written = self.args.outbox.marks(key).is_some_and(|m| m.borrow().ended);
                if written {
                    return self.say_ended(key).await;
                }
                // Only a cancel does not wait until its end is written.
                self.end(key, Ended::Cancelled, String::new()).await
            }
        }
    }

    /// Deletes what is kept of an attempt. What the disk does not give up goes another time: the
    /// next start finds it, and the cluster has no use for it.
    pub(super) async fn remove(&mut self, key: AttemptKey) {
        self.unwritten.remove(&key);
        self.held.remove(&key);
        if let Err(error) = self.args.outbox.remove(key).await {
            tracing::warn!(?key, %error, "what is kept of an execution stays for now");
        }
    }
}
