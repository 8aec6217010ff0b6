//! A failed, cancelled or lost message is tried again, with nothing kept.

use std::sync::Arc;

use troupe_types::{Attempt, MessageId};

use super::check;
use crate::task::{
    command::{Ack, Context, Decision, Refusal},
    draft::Draft,
    entry::TaskEvent,
    execution::{Execution, Work},
    plan::TeamPlan,
    state::TaskState,
};

pub(super) fn retry(
    state: &TaskState,
    message: MessageId,
    plan: Option<Arc<TeamPlan>>,
    ctx: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    if state.message(message).is_none() {
        return Err(Refusal::MessageNotFound);
    }
    let (Some(run), Some(e)) = (&state.run, state.execution_of(message)) else {
        return Err(state.wrong("only a member's message of the last turn can be tried again"));
    };
    if !e.can_retry() {
        return Err(state.wrong("only a message that failed or was stopped can be tried again"));
    }
    if state.executions.iter().any(|later| follows(later, e)) {
        return Err(state.wrong("the team has gone on since; send a new message instead"));
    }
    let (turn, ended) = (run.turn, run.ended.is_some());
    // The person asked for it with the message; another Model does not take that back.
    let deep = state.plan().is_some_and(|old| old.deep_thinking);
    let plan = plan.map(|new| if deep { Arc::new(new.with_deep_thinking()) } else { new });
    if let Some(new) = &plan {
        if !ended {
            return Err(state.wrong("the plan of a turn cannot change while the team works"));
        }
        check::plan(new)?;
        fits(state, new)?;
    }
    let (execution, attempt) = (e.id, Attempt(e.attempt.0.saturating_add(1)));
    let mut d = Draft::new(state, ctx);
    if let Some(new) = &plan {
        d.resolve(new);
    }
    if ended {
        d.event(TaskEvent::TurnResumed { turn, plan: plan.map(|p| p.hash.clone()) });
    }
    d.event(TaskEvent::AttemptQueued { execution, attempt, keep: false, lost_in_a_row: 0 });
    d.status(Some(message), "queued", None, None);
    d.finish_bounded(Ack::Ok, "plan")
}

/// Whether `later` was planned from what `e` came to. Items of one plan stand side by side.
fn follows(later: &Execution, e: &Execution) -> bool {
    let side_by_side = matches!((&later.work, &e.work), (Work::Item { .. }, Work::Item { .. }));
    later.ordinal > e.ordinal && !side_by_side
}

/// Another plan for the rest of a turn must have the same members in the same roles.
fn fits(state: &TaskState, new: &TeamPlan) -> Result<(), Refusal> {
    let same = state.plan().is_some_and(|old| {
        old.model == new.model && old.leader == new.leader && old.size() == new.size()
    });
    if same { Ok(()) } else { check::invalid("plan", "the team changed; send a new message") }
}
