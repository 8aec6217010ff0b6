//! An attempt ends by its runner's word.

use troupe_types::{DoneFrame, ErrorFrame, ErrorType, FrameBody};

use super::Said;
use crate::task::{
    command::{Ack, Context, Decision},
    draft::Draft,
    entry::{AttemptEnd, TaskEvent},
    execution::{Execution, Work},
    leader::{DECISION_TEXT_BYTES_MAX, LeaderDecision},
    plan::TeamPlan,
    run,
    state::TaskState,
    text,
};

/// Longest error text that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 8 * 1024;

pub(super) fn done(
    state: &TaskState,
    e: &Execution,
    said: Said,
    answer: &str,
    stop_reason: Option<String>,
    decision: Option<LeaderDecision>,
    ctx: &mut Context<'_>,
) -> Decision {
    let points = text::code_points(answer);
    if points != e.offset {
        let text =
            format!("the runner's answer has {points} characters, but {} were streamed", e.offset);
        return failed(state, e, said, ErrorType::ModelProtocolError, text, ctx);
    }
    let decision = state.plan().and_then(|plan| checked(plan, &e.work, decision));
    let Said { execution, attempt, .. } = said;
    let mut d = Draft::new(state, ctx);
    if let Some(mark) = said.mark() {
        d.event(mark);
    }
    d.event(TaskEvent::AttemptEnded { execution, attempt, end: AttemptEnd::Done { decision } });
    d.frame(FrameBody::Done(DoneFrame {
        message: e.message,
        ordinal: e.ordinal,
        attempt,
        offset: points,
        sha256: text::sha256(answer),
        stop_reason,
    }));
    run::advance(&mut d, answer);
    d.finish(Ack::Ok)
}

pub(super) fn failed(
    state: &TaskState,
    e: &Execution,
    said: Said,
    kind: ErrorType,
    mut error: String,
    ctx: &mut Context<'_>,
) -> Decision {
    let mut d = Draft::new(state, ctx);
    if let Some(mark) = said.mark() {
        d.event(mark);
    }
    text::cut(&mut error, ERROR_BYTES_MAX);
    let Said { execution, attempt, .. } = said;
    let end = AttemptEnd::Failed { error: kind };
    d.event(TaskEvent::AttemptEnded { execution, attempt, end });
    d.frame(FrameBody::Error(ErrorFrame {
        message: e.message,
        ordinal: e.ordinal,
        attempt,
        error,
        kind,
        continues: false,
        retry_at: None,
    }));
    run::advance(&mut d, "");
    d.finish(Ack::Ok)
}

/// A decision counts only where its sort was wanted, and only if it is valid.
fn checked(
    plan: &TeamPlan,
    work: &Work,
    decision: Option<LeaderDecision>,
) -> Option<LeaderDecision> {
    let decision = bounded(decision?);
    let wanted = match work {
        Work::Choose => matches!(decision, LeaderDecision::ChooseMember { .. }),
        Work::Split => matches!(decision, LeaderDecision::SplitWork { .. }),
        Work::Discuss { .. } => matches!(decision, LeaderDecision::Conclude { .. }),
        _ => return None,
    };
    let fault = match &decision {
        LeaderDecision::Invalid { error } => Some(error.clone()),
        _ if !wanted => Some("another tool was called than the one on offer".to_owned()),
        other => plan.check(other).err(),
    };
    Some(fault.map_or(decision, |error| LeaderDecision::Invalid { error }))
}

fn bounded(mut decision: LeaderDecision) -> LeaderDecision {
    let cut = |text: &mut String| text::cut(text, DECISION_TEXT_BYTES_MAX);
    match &mut decision {
        LeaderDecision::ChooseMember { reason, .. } => cut(reason),
        LeaderDecision::SplitWork { items } => {
            items.iter_mut().for_each(|item| cut(&mut item.instructions));
        }
        LeaderDecision::Conclude { summary, .. } => cut(summary),
        LeaderDecision::Invalid { error } => cut(error),
    }
    decision
}
