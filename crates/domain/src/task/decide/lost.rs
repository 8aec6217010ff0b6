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
    let lost_in_a_row = e.lost_in_a_row.saturating_add(u32::from(!planned));
    let continues = planned || lost_in_a_row < LOST_IN_A_ROW_MAX;
    let (message, ordinal) = (e.message, e.ordinal);
    let mut d = Draft::new(state, ctx);
    d.event(TaskEvent::AttemptEnded { execution, attempt, end: AttemptEnd::Lost });
    d.frame(FrameBody::Error(ErrorFrame {
        message,
        ordinal,
        attempt,
        error: words(planned, continues).to_owned(),
        kind: ErrorType::Lost,
        continues,
        retry_at: retry_at.filter(|_| continues),
    }));
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
