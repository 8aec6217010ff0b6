//! The one cancel path, and the end of a Task.

use troupe_types::{Attempt, CancelledFrame, ExecutionId, FrameBody, MessageId, Ordinal, Status};

use crate::task::{
    command::{Ack, Context, Decision, Refusal},
    draft::Draft,
    entry::{AttemptEnd, TaskEvent},
    run,
    state::TaskState,
};

pub(super) fn cancel(state: &TaskState, ctx: &mut Context<'_>) -> Result<Decision, Refusal> {
    let ended = state.run.as_ref().and_then(|run| run.ended);
    if ended == Some(Status::Cancelled) {
        return Ok(super::nothing());
    }
    if !state.is_active() && ended != Some(Status::PendingConfirmation) {
        return Err(state.wrong("nothing runs"));
    }
    let mut d = Draft::new(state, ctx);
    stop(&mut d);
    Ok(d.finish(Ack::Ok))
}

pub(super) fn delete(state: &TaskState, ctx: &mut Context<'_>) -> Decision {
    let mut d = Draft::new(state, ctx);
    if state.is_active() {
        stop(&mut d);
    }
    if !state.queue.is_empty() {
        d.set_queue(Vec::new());
    }
    d.event(TaskEvent::Deleted);
    d.finish(Ack::Ok)
}

fn stop(d: &mut Draft<'_, '_>) {
    let open: Vec<(ExecutionId, MessageId, Ordinal, Attempt)> = d
        .state
        .executions
        .iter()
        .filter(|e| !e.state.is_terminal())
        .map(|e| (e.id, e.message, e.ordinal, e.attempt))
        .collect();
    for (execution, message, ordinal, attempt) in open {
        d.event(TaskEvent::AttemptEnded { execution, attempt, end: AttemptEnd::Cancelled });
        d.frame(FrameBody::Cancelled(CancelledFrame { message, ordinal, attempt }));
    }
    run::end_turn(d, Status::Cancelled);
}
