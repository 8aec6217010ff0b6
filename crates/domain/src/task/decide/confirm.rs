//! A person passes the gate of a pipeline.

use std::sync::Arc;

use troupe_types::{Status, Uuid};

use super::{check, key};
use crate::task::{
    command::{Ack, Context, Decision, Refusal},
    draft::Draft,
    entry::TaskEvent,
    plan::CollaborationModel,
    run::{self, handoff},
    state::TaskState,
};

pub(super) fn confirm(
    state: &TaskState,
    key: Uuid,
    message: Option<String>,
    original: &str,
    previous: &str,
    ctx: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    let gate = state.run.as_ref().filter(|r| r.ended == Some(Status::PendingConfirmation));
    let plan = state.plan().filter(|p| p.model == CollaborationModel::Pipeline);
    let (Some(gate), Some(plan)) = (gate, plan) else {
        return Err(state.wrong("no stage waits for a confirmation"));
    };
    if let Some(text) = &message {
        check::message(text)?;
    }
    let (turn, plan, stage) = (gate.turn, Arc::clone(plan), state.stage);
    let next = stage.saturating_add(1);
    let last = next >= plan.size();
    let ack = Ack::Confirmed {
        current_stage: if last { stage } else { next },
        total_stages: plan.size(),
        next_stage_name: (!last).then(|| plan.name_of(next).to_owned()),
    };
    let body = key::confirm_body(message.as_deref());
    let mut d = Draft::new(state, ctx);
    d.event(TaskEvent::KeyUsed { key, body, ack: ack.clone() });
    if last {
        run::end_turn(&mut d, Status::Completed);
        return d.finish_bounded(ack, "message");
    }
    let text = message.unwrap_or_else(|| {
        let known = if state.original.is_empty() { original } else { &*state.original };
        handoff::text(&plan, stage, known, previous)
    });
    d.event(TaskEvent::TurnResumed { turn, plan: None });
    run::enter_stage(&mut d, next, text);
    d.finish_bounded(ack, "message")
}
