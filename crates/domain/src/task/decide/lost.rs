//! The runner of an attempt is gone: the execution goes on by itself, within bounds.

use serde_json::{Map, Value};
use troupe_types::{
    Attempt, ErrorFrame, ErrorType, ExecutionId, FrameBody, Timestamp, Wait,
    limits::LOST_IN_A_ROW_MAX,
};

use crate::task::{
    command::{Ack, Context, Decision},
    draft::Draft,
    entry::{AttemptEnd, TaskEvent},
    execution::Execution,
    run,
    state::TaskState,
};

pub(super) fn lost(
    state: &TaskState,
    execution: ExecutionId,
    attempt: Attempt,
    retry_at: Option<Timestamp>,
    planned: bool,
    ctx: &mut Context<'_>,
) -> Decision {
    let Some(e) = state.execution(execution).filter(|e| e.is_live(attempt)) else {
        return super::nothing();
    };
    // What the model's provider asked for outlives the attempt that was asked. One that waits as it
    // was told to is not at fault, however often its node goes meanwhile.
    let waits = e.retry_at.filter(|at| *at > ctx.now);
    let counts = !planned && waits.is_none();
    let lost_in_a_row = e.lost_in_a_row.saturating_add(u32::from(counts));
    let continues = !counts || lost_in_a_row < LOST_IN_A_ROW_MAX;
    let retry_at = retry_at.max(waits);
    let mut d = Draft::new(state, ctx);
    let why = (ErrorType::Lost, words(planned, continues).to_owned());
    end(&mut d, e, why, continues, retry_at.filter(|_| continues));
    if !continues {
        run::advance(&mut d, "");
        return d.finish(Ack::Ok);
    }
    let next = Attempt(attempt.0.saturating_add(1));
    d.event(TaskEvent::AttemptQueued { execution, attempt: next, keep: true, lost_in_a_row });
    let wait = resuming(retry_at);
    d.event(TaskEvent::WaitChanged { execution, wait: Some(wait) });
    d.finish(Ack::Ok)
}

/// The device has nothing of it any more: a person retries it, there or elsewhere. `anew`: it
/// begins elsewhere by itself, with nothing kept, since what it did lies on the device.
pub(super) fn device_lost(
    state: &TaskState,
    (execution, attempt): (ExecutionId, Attempt),
    why: (ErrorType, String),
    anew: bool,
    ctx: &mut Context<'_>,
) -> Decision {
    let Some(e) = state.execution(execution).filter(|e| e.is_live(attempt)) else {
        return super::nothing();
    };
    let lost_in_a_row = e.lost_in_a_row.saturating_add(1);
    let continues = anew && lost_in_a_row < LOST_IN_A_ROW_MAX;
    let mut d = Draft::new(state, ctx);
    end(&mut d, e, why, continues, None);
    if !continues {
        run::advance(&mut d, "");
        return d.finish(Ack::Ok);
    }
    let next = Attempt(attempt.0.saturating_add(1));
    d.event(TaskEvent::AttemptQueued { execution, attempt: next, keep: false, lost_in_a_row });
    d.event(TaskEvent::WaitChanged { execution, wait: Some(resuming(None)) });
    d.finish(Ack::Ok)
}

/// The current attempt is over, and says so.
fn end(
    d: &mut Draft<'_, '_>,
    e: &Execution,
    (kind, error): (ErrorType, String),
    continues: bool,
    retry_at: Option<Timestamp>,
) {
    let (execution, attempt) = (e.id, e.attempt);
    d.event(TaskEvent::AttemptEnded { execution, attempt, end: AttemptEnd::Lost });
    d.frame(FrameBody::Error(ErrorFrame {
        message: e.message,
        ordinal: e.ordinal,
        attempt,
        error,
        kind,
        continues,
        retry_at,
    }));
}

fn words(planned: bool, continues: bool) -> &'static str {
    match (planned, continues) {
        (true, _) => "the work moves to another place and goes on there",
        (false, true) => "the runner is gone; the work goes on at the last finished step",
        (false, false) => "the runner was lost too often without finishing a step",
    }
}

fn resuming(retry_at: Option<Timestamp>) -> Wait {
    let mut args = Map::new();
    if let Some(at) = retry_at {
        args.insert("retry_at".to_owned(), Value::String(at.to_string()));
    }
    Wait { code: "resuming".to_owned(), args }
}
