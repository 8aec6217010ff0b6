//! A queued attempt waits, or is handed to a runtime.

use troupe_types::{
    Attempt, BlockPatch, BlockStatus, BlockUpdatedFrame, ExecutionId, FrameBody, Place,
    StartedFrame, Wait,
};

use crate::task::{
    command::{Ack, Context, Decision},
    draft::Draft,
    entry::{StepRecord, TaskEvent},
    execution::{AttemptState, DeviceRun, Execution},
    state::TaskState,
};

fn queued(state: &TaskState, id: ExecutionId, attempt: Attempt) -> Option<&Execution> {
    let e = state.execution(id)?;
    (e.attempt == attempt && e.state == AttemptState::Queued && state.is_active()).then_some(e)
}

pub(super) fn waiting(
    state: &TaskState,
    execution: ExecutionId,
    attempt: Attempt,
    wait: Option<Wait>,
    ctx: &mut Context<'_>,
) -> Decision {
    let Some(e) = queued(state, execution, attempt).filter(|e| e.wait != wait) else {
        return super::nothing();
    };
    let message = Some(e.message);
    let phase = if wait.is_some() { "waiting" } else { "ready" };
    let mut d = Draft::new(state, ctx);
    d.event(TaskEvent::WaitChanged { execution, wait: wait.clone() });
    d.status(message, phase, wait, None);
    d.finish(Ack::Ok)
}

pub(super) fn start(
    state: &TaskState,
    execution: ExecutionId,
    attempt: Attempt,
    place: Place,
    ctx: &mut Context<'_>,
) -> Decision {
    let Some(e) = queued(state, execution, attempt) else { return super::nothing() };
    begin(state, e, place, None, ctx).finish(Ack::Ok)
}

/// On a device: only the hash of its token is kept.
pub(super) fn start_on_device(
    state: &TaskState,
    of: (ExecutionId, Attempt),
    run: DeviceRun,
    place: Place,
    ctx: &mut Context<'_>,
) -> Decision {
    let (execution, attempt) = of;
    let Some(e) = queued(state, execution, attempt) else { return super::nothing() };
    let DeviceRun { device, token, restored } = run;
    let event = TaskEvent::DeviceAssigned { execution, attempt, device, token, restored };
    begin(state, e, place, Some(event), ctx).finish(Ack::Ok)
}

fn begin<'a, 'c>(
    state: &TaskState,
    e: &Execution,
    place: Place,
    assigned: Option<TaskEvent>,
    ctx: &'a mut Context<'c>,
) -> Draft<'a, 'c> {
    let (execution, attempt) = (e.id, e.attempt);
    let mut d = Draft::new(state, ctx);
    let mut keeps = e.kept;
    if !e.open_calls.is_empty() {
        close_calls(&mut d, e);
        keeps = d.state.head().max(keeps);
    }
    d.event(TaskEvent::AttemptStarted { execution, attempt });
    if let Some(assigned) = assigned {
        d.event(assigned);
    }
    let plan = state.plan().and_then(|p| p.member(e.member));
    d.frame(FrameBody::Started(StartedFrame {
        message: e.message,
        ordinal: e.ordinal,
        attempt,
        keeps,
        offset: e.kept_offset,
        bot_name: plan.map_or_else(String::new, |m| m.name.clone()),
        shell_type: plan.map_or_else(String::new, |m| m.shell_type.clone()),
        model: plan.and_then(|m| m.model.as_ref()).map(|m| m.name.clone()),
        place,
    }));
    d
}

/// Tool calls whose result went with the attempt before: they may have run.
fn close_calls(d: &mut Draft<'_, '_>, e: &Execution) {
    let before = Attempt(e.attempt.0.saturating_sub(1));
    for call in &e.open_calls {
        d.event(TaskEvent::StepFinished {
            execution: e.id,
            attempt: e.attempt,
            record: StepRecord::Tool {
                tool_use_id: call.tool_use_id.clone(),
                result: serde_json::Value::Null,
                unknown: true,
            },
        });
        if call.block_id.is_empty() {
            continue;
        }
        let patch = BlockPatch { status: Some(BlockStatus::Unknown), ..BlockPatch::default() };
        d.frame(FrameBody::BlockUpdated(BlockUpdatedFrame {
            message: e.message,
            attempt: before,
            block_id: call.block_id.clone(),
            patch,
            late: false,
        }));
    }
}
