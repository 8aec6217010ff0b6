//! A Task and the devices that its attempts run on: output in, answers and stops out.
//!
//! What a device is to be told is state here (an attempt that counts no more, an answer on its
//! way); the device asks for it, at once when it is poked and now and then in any case. So a
//! notice may be lost, and nothing else.

use troupe_actor::spawn_task;
use troupe_chat::decision::LeaderTool;
use troupe_domain::{
    device::Gone,
    task::{Ack, AttemptToken, Command, Execution, Refusal, RunEvent, command::Answer},
};
use troupe_executor::{Decision, Reply as RuntimeReply};
use troupe_sharding::{Crash, FailedAsk, Reply};
use troupe_types::{Attempt, DeviceId, ExecutionId, OutSeq};

use super::{
    actor::{TaskActor, encode},
    ask::{DeviceChecked, DeviceInput, TaskReply},
    effects::Effect,
};
use crate::device::{DeviceAddress, Has};

/// Whose output it is.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) execution: ExecutionId,
    pub(super) attempt: Attempt,
    pub(super) token: AttemptToken,
    pub(super) first: OutSeq,
}

/// How an attempt and a token go together.
enum Standing<'a> {
    /// The attempt counts, the token is right.
    Live(&'a Execution),
    /// It was the attempt's token, and the attempt is over; late output may be kept.
    Over,
    /// The attempt is not known any more: a later one took its place, or the turn is over.
    Past,
    /// A device has it, and its start is not written here yet: a matter of moments.
    Queued,
    /// Another token.
    Wrong,
}

impl TaskActor {
    fn standing(
        &self,
        execution: ExecutionId,
        attempt: Attempt,
        token: &AttemptToken,
    ) -> Standing<'_> {
        let current = self.state.execution(execution).filter(|_| self.state.exists());
        let Some(e) = current else { return Standing::Past };
        if e.attempt != attempt {
            return Standing::Past;
        }
        match &e.device {
            None if e.is_open(attempt) => Standing::Queued,
            None => Standing::Past,
            Some(run) if run.token != token.hash() => Standing::Wrong,
            Some(_) if e.is_live(attempt) => Standing::Live(e),
            Some(_) => Standing::Over,
        }
    }

    /// Output of a device; known numbers are left out by the fold. Answered after the commit.
    pub(super) fn device_output(
        &mut self,
        said: &Said,
        events: Vec<RunEvent>,
        reply: Reply,
    ) -> Result<(), Crash> {
        let Said { execution, attempt, ref token, first } = *said;
        match self.standing(execution, attempt, token) {
            Standing::Live(_) | Standing::Over => {
                let mut out_seq = first;
                for event in events {
                    let event = self.decided(execution, event);
                    self.numbered_event(execution, attempt, out_seq, event)?;
                    out_seq = out_seq.next();
                }
            }
            Standing::Past => {}
            Standing::Queued => {
                self.defer(Effect::Reply(reply, Err(not_started())));
                return Ok(());
            }
            Standing::Wrong => {
                self.defer(Effect::Reply(reply, Err(wrong_token())));
                return Ok(());
            }
        }
        let live = matches!(self.standing(execution, attempt, token), Standing::Live(_));
        let answer = TaskReply::DeviceOutput { live };
        self.defer(Effect::Reply(reply, Ok(encode(&answer))));
        Ok(())
    }

    /// A runtime without our tools says a decision as one fenced block in its answer.
    fn decided(&self, execution: ExecutionId, event: RunEvent) -> RunEvent {
        let RunEvent::Done { answer, stop_reason, decision: None } = event else { return event };
        let tool = self.state.execution(execution).and_then(|e| LeaderTool::of(&e.work));
        let decision = tool.zip(self.state.plan()).and_then(|(tool, plan)| {
            tool.judge_text(plan, &answer)?
                .inspect_err(|fault| tracing::debug!(%execution, %fault, "no valid decision"))
                .ok()
        });
        RunEvent::Done { answer, stop_reason, decision }
    }

    pub(super) fn device_check(
        &mut self,
        execution: ExecutionId,
        attempt: Attempt,
        token: &AttemptToken,
        reply: Reply,
    ) {
        let checked = match self.standing(execution, attempt, token) {
            Standing::Live(e) => DeviceChecked { live: true, inputs: inputs(e) },
            Standing::Queued => DeviceChecked { live: true, inputs: Vec::new() },
            _ => DeviceChecked::default(),
        };
        self.defer(Effect::Reply(reply, Ok(encode(&TaskReply::DeviceCheck { checked }))));
    }

    /// The device's last word about an attempt. One that has not said how it ended is lost.
    pub(super) fn device_ended(
        &mut self,
        execution: ExecutionId,
        attempt: Attempt,
        token: &AttemptToken,
        gone: Gone,
        reply: Reply,
    ) -> Result<(), Crash> {
        if matches!(self.standing(execution, attempt, token), Standing::Queued) {
            self.defer(Effect::Reply(reply, Err(not_started())));
            return Ok(());
        }
        if matches!(self.standing(execution, attempt, token), Standing::Live(_)) {
            let Gone { error, mut text, anew } = gone;
            if text.is_empty() {
                "the device ended it without a word: retry it, there or elsewhere"
                    .clone_into(&mut text);
            }
            let command = Command::DeviceLost { execution, attempt, error, text, anew };
            if let Err(refusal) = self.accept(command)? {
                tracing::warn!(%execution, %refusal, "a lost attempt was not closed");
            }
        }
        let answer = encode(&TaskReply::Ack { ack: Ack::Ok });
        self.defer(Effect::Reply(reply, Ok(answer)));
        Ok(())
    }

    /// Devices that a command concerns, looked up before it changes anything.
    pub(super) fn pokes_of(&self, command: &Command) -> Vec<(DeviceId, ExecutionId, Attempt)> {
        let told = matches!(
            command,
            Command::Cancel | Command::Delete | Command::Answer { .. } | Command::ExpireAsks
        );
        if !told {
            return Vec::new();
        }
        let live = self.state.executions.iter().filter(|e| e.state.is_live());
        live.filter_map(|e| Some((e.device.as_ref()?.device, e.id, e.attempt))).collect()
    }

    pub(super) fn poke(&self, device: DeviceId, execution: ExecutionId, attempt: Attempt) {
        let address = DeviceAddress::new(self.context.router.clone(), device);
        spawn_task("task-poke", async move {
            address.poke(Has { execution, attempt }).await;
        });
    }
}

/// Answers that the runtime has not confirmed yet, and that there is none.
fn inputs(e: &Execution) -> Vec<DeviceInput> {
    let input = |asked: &troupe_domain::task::execution::Asked| {
        let Some((id, answer)) = &asked.answer else {
            let (kind, body) = if asked.question {
                ("answer", json(&RuntimeReply::Expired))
            } else {
                ("approval", json(&Decision::Expired))
            };
            let (id, name) = (asked.expired?, asked.name.clone());
            return Some(DeviceInput { id, kind: kind.to_owned(), name, body });
        };
        let (kind, body) = match answer {
            Answer::Allow => ("approval", json(&Decision::Allow { input: None })),
            Answer::AllowAlways => ("approval", json(&Decision::AllowAlways)),
            Answer::Deny { message } => {
                ("approval", json(&Decision::Deny { message: message.clone() }))
            }
            Answer::Reply { answers } => {
                ("answer", json(&RuntimeReply::Answered { answers: answers.clone() }))
            }
        };
        Some(DeviceInput { id: *id, kind: kind.to_owned(), name: asked.name.clone(), body })
    };
    e.asks.values().filter_map(input).collect()
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// To be repeated.
fn not_started() -> FailedAsk {
    let message = "the task has not written down the start of this attempt yet";
    FailedAsk { code: "not_started".into(), message: message.into(), detail: None }
}

fn wrong_token() -> FailedAsk {
    FailedAsk { code: "wrong_token".into(), message: Refusal::NotFound.to_string(), detail: None }
}
